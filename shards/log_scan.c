/*
 * log_scan: reading the logs at start. The format is told in log_format.h.
 *
 * A log is walked batch by batch. Where no whole batch with the next number follows, it goes on in
 * the first later segment that begins with that number; where there is none, the walk has come to
 * the end, or to damage.
 *
 * Normal path: after a clean stop the manifest has the end of each log. Else log_clean_tails walks
 * to it, from the last segment that begins with a whole batch. All segments were synced when the
 * directory was opened, and the pages of these last ones are dropped from the cache before, so that
 * what is seen is what is on the disk, even after an fdatasync has failed. Behind the end it finds
 * zeros, and notes the end in the datadir. log_recover then walks all logs up to their noted ends
 * and shows every record; it looks at nothing behind, where shards that are ahead of others may be
 * writing already.
 *
 * Failure: behind the end stands something else. If it holds a whole later batch that was written
 * when the bad one had been on disk already, something that was committed is damaged: refused,
 * naming file and offset. Else it is the remains of batches that were never committed (LOG_COMMIT:
 * of one; LOG_RELAXED: of at most the last moments): overwritten with zeros, synced, counted. That
 * may be cut short by a crash at any point: the next start comes to the same end and does it again.
 * If log_recover does not come to a log's end, something before it is damaged: refused likewise.
 */
#define _GNU_SOURCE 1

#include "shards/log_format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    WINDOW_BYTES = 1 << 20,
    ZEROS_BYTES = 4096, /* looked at in one go */
};

/* A window onto a file, moved by pread: a file that cannot be read is an error, and no SIGBUS. */
struct window {
    int fd;
    uint64_t from;
    struct buf bytes;
};

/* One log being read. */
struct scan {
    struct datadir *dir;
    const struct datadir_segment *segments;
    size_t count;
    struct window window;
    char *error;
    size_t error_size;
};

/* Between two batches: segments[index] at `offset`, behind batch number `batch` (0: the first). */
struct place {
    size_t index;
    uint64_t offset;
    uint64_t batch;
};

struct visitor {
    log_visit *visit; /* NULL: only walk */
    void *ctx;
};

/* Messages. */

__attribute__((format(printf, 4, 5))) static int refuse(struct scan *scan, size_t index, int result,
                                                        const char *format, ...)
{
    char name[32], what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    datadir_segment_name(scan->segments[index].number, name);
    snprintf(scan->error, scan->error_size, "%s/%s: %s", datadir_path(scan->dir), name, what);
    return result;
}

/* Reading. */

/* `n` bytes at `offset`, good until the next call; NULL with errno where they cannot be had. `left`
 * bytes are there from `offset` on. */
static const char *window_view(struct window *window, int fd, uint64_t offset, size_t n,
                               uint64_t left)
{
    struct buf *bytes = &window->bytes;
    if (window->fd == fd && offset >= window->from && offset + n <= window->from + bytes->n)
        return bytes->p + (offset - window->from);
    bytes->n = 0;
    size_t wanted = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
    if (wanted < n)
        wanted = n;
    buf_reserve(bytes, wanted);
    window->fd = fd;
    window->from = offset;
    while (bytes->n < wanted) {
        ssize_t got = pread(fd, bytes->p + bytes->n, wanted - bytes->n, (off_t)(offset + bytes->n));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return NULL;
        if (got == 0)
            break;
        bytes->n += (size_t)got;
    }
    errno = EIO;
    return bytes->n >= n ? bytes->p : NULL;
}

static const char *view(struct scan *scan, struct window *window, size_t index, uint64_t offset,
                        size_t n, int *result)
{
    const struct datadir_segment *segment = &scan->segments[index];
    const char *p = window_view(window, segment->fd, offset, n, segment->bytes - offset);
    if (p == NULL)
        *result = refuse(scan, index, -errno, "cannot be read at offset %" PRIu64 ": %s", offset,
                         strerror(errno));
    return p;
}

static uint64_t seed_at(const struct scan *scan, size_t index, uint64_t offset)
{
    uint32_t number = scan->segments[index].number;
    return log_segment_seed(datadir_hash_key(scan->dir), number) + offset;
}

/* 1: a whole batch stands there, seen at *batch; 0: none does; or -errno. */
static int batch_at(struct scan *scan, struct window *window, size_t index, uint64_t offset,
                    struct log_batch_header *header, const char **batch)
{
    int result = 0;
    uint64_t room = scan->segments[index].bytes - offset;
    uint64_t seed = seed_at(scan, index, offset);
    if (room < sizeof(*header))
        return 0;
    const char *p = view(scan, window, index, offset, sizeof(*header), &result);
    if (p == NULL)
        return result;
    memcpy(header, p, sizeof(*header));
    if (!log_batch_header_check(header, room, seed))
        return 0;
    p = view(scan, window, index, offset, header->bytes, &result);
    if (p == NULL)
        return result;
    *batch = p;
    return log_batch_check(p, header, seed) ? 1 : 0;
}

/* Walking. */

static int visit_records(struct scan *scan, const struct place *place,
                         const struct log_batch_header *header, const char *batch,
                         const struct visitor *visitor)
{
    size_t at = sizeof(*header);
    uint32_t count = 0;
    for (; at < header->bytes; count++) {
        struct log_record record;
        size_t bytes = 0;
        uint64_t offset = place->offset + at;
        if (!log_record_decode(batch + at, header->bytes - at, seed_at(scan, place->index, offset),
                               &record, &bytes))
            return refuse(scan, place->index, -EIO, "the record at offset %" PRIu64 " is damaged",
                          offset);
        uint32_t number = scan->segments[place->index].number;
        int result = visitor->visit(visitor->ctx, &record, log_position_of(number, offset));
        if (result != 0)
            return result;
        at += bytes;
    }
    if (count != header->records)
        return refuse(scan, place->index, -EIO,
                      "the batch at offset %" PRIu64 " has records missing", place->offset);
    return 0;
}

/* Moves to the next segment that begins with the next batch: 1; 0 if there is none; -errno. */
static int skip_to_segment(struct scan *scan, struct place *place)
{
    for (size_t i = place->index + 1; i < scan->count; i++) {
        struct log_batch_header header = {0};
        const char *batch = NULL;
        int found = batch_at(scan, &scan->window, i, LOG_SEGMENT_HEADER_BYTES, &header, &batch);
        if (found < 0)
            return found;
        if (found == 1 && header.number == place->batch + 1) {
            place->index = i;
            place->offset = LOG_SEGMENT_HEADER_BYTES;
            return 1;
        }
    }
    return 0;
}

static bool is_at_end(const struct place *place, const struct datadir_end *end)
{
    return end != NULL && place->batch == end->batch;
}

/* Walks from *place on until nothing follows, or to `end` where it is given. 0, a visitor's answer
 * or -errno; *place is where it stopped. */
static int walk(struct scan *scan, struct place *place, const struct datadir_end *end,
                const struct visitor *visitor)
{
    while (!is_at_end(place, end)) {
        struct log_batch_header header = {0};
        const char *batch = NULL;
        int result = batch_at(scan, &scan->window, place->index, place->offset, &header, &batch);
        if (result == 1 && header.number == place->batch + 1) {
            result = visitor == NULL ? 0 : visit_records(scan, place, &header, batch, visitor);
            if (result != 0)
                return result;
            place->offset += header.bytes;
            place->batch = header.number;
            continue;
        }
        if (result >= 0)
            result = skip_to_segment(scan, place);
        if (result <= 0)
            return result;
    }
    return 0;
}

/* Where to begin: before the first batch of segment `index`; *begins says whether it is whole. */
static int place_before(struct scan *scan, size_t index, struct place *place, bool *begins)
{
    struct log_batch_header header = {0};
    const char *batch = NULL;
    int found = batch_at(scan, &scan->window, index, LOG_SEGMENT_HEADER_BYTES, &header, &batch);
    if (found < 0)
        return found;
    *begins = found == 1;
    *place = (struct place){index, LOG_SEGMENT_HEADER_BYTES, found == 1 ? header.number - 1 : 0};
    return 0;
}

/* What is damaged when the walk stops too early at `place`: what stands there, or, where that is
 * nothing, the beginning of the next segment if something stands there that is no whole batch. */
static int find_damage(struct scan *scan, struct place *place)
{
    static const char zeros[sizeof(struct log_batch_header)];
    int result = 0;
    uint64_t room = scan->segments[place->index].bytes - place->offset;
    size_t n = room < sizeof(zeros) ? room : sizeof(zeros);
    const char *p = view(scan, &scan->window, place->index, place->offset, n, &result);
    if (p == NULL || memcmp(p, zeros, n) != 0 || place->index + 1 == scan->count)
        return result;
    size_t next = place->index + 1;
    p = view(scan, &scan->window, next, LOG_SEGMENT_HEADER_BYTES, sizeof(zeros), &result);
    if (p == NULL || memcmp(p, zeros, sizeof(zeros)) == 0)
        return result;
    struct place there;
    bool begins = false;
    result = place_before(scan, next, &there, &begins);
    if (result == 0 && !begins) {
        place->index = next;
        place->offset = LOG_SEGMENT_HEADER_BYTES;
    }
    return result;
}

static int refuse_damage(struct scan *scan, const struct place *place, const char *because)
{
    struct place damage = *place;
    int result = find_damage(scan, &damage);
    if (result < 0)
        return result;
    return refuse(scan, damage.index, -EIO,
                  "batch %" PRIu64 " of the log of shard %u (generation %u), expected at offset "
                  "%" PRIu64 ", is damaged or missing: %s",
                  place->batch + 1, scan->segments[damage.index].shard,
                  scan->segments[damage.index].generation, damage.offset, because);
}

/* The tail. */

/* A batch that proves that the one missing behind `place` had been on disk. */
static int check_not_later(struct scan *scan, struct window *window, const struct place *place,
                           size_t index, uint64_t offset)
{
    struct log_batch_header header = {0};
    const char *batch = NULL;
    int found = batch_at(scan, window, index, offset, &header, &batch);
    if (found <= 0 || header.number <= place->batch + 1 || header.synced <= place->batch)
        return found < 0 ? found : 0;
    char name[32], because[128];
    datadir_segment_name(scan->segments[index].number, name);
    snprintf(because, sizeof(because),
             "batch %" PRIu64 " at offset %" PRIu64 " of %s is whole and came later", header.number,
             offset, name);
    return refuse_damage(scan, place, because);
}

static bool is_zero(const char *p)
{
    return p[0] == 0 && memcmp(p, p + 1, ZEROS_BYTES - 1) == 0;
}

/*
 * Looks through segments[index] from `offset` on. *used_to: behind the last byte that is not zero.
 * Every 8 bytes a batch could begin; only where the magic stands is it looked at closer, and only
 * where the header checks is its body read, so that no content can make this slow.
 */
static int look_through(struct scan *scan, const struct place *place, size_t index, uint64_t offset,
                        uint64_t *used_to)
{
    enum { MAGIC_AT = offsetof(struct log_batch_header, magic) };
    struct window window = {.fd = -1}, closer = {.fd = -1};
    uint64_t end = scan->segments[index].bytes;
    int result = 0;
    *used_to = offset;
    for (uint64_t at = offset; at < end && result == 0;) {
        size_t n = end - at < WINDOW_BYTES ? end - at : WINDOW_BYTES;
        const char *p = view(scan, &window, index, at, n, &result);
        for (size_t i = 0; i < n && result == 0; i += LOG_ALIGN_BYTES) {
            uint64_t word;
            if (i % ZEROS_BYTES == 0 && n - i >= ZEROS_BYTES && is_zero(p + i))
                i += ZEROS_BYTES - LOG_ALIGN_BYTES;
            memcpy(&word, p + i, sizeof(word));
            if (word == 0)
                continue;
            *used_to = at + i + LOG_ALIGN_BYTES;
            if ((uint32_t)word == LOG_BATCH_MAGIC && at + i >= offset + MAGIC_AT)
                result = check_not_later(scan, &closer, place, index, at + i - MAGIC_AT);
        }
        at += n;
    }
    buf_free(&window.bytes);
    buf_free(&closer.bytes);
    return result;
}

static int write_zeros(struct scan *scan, size_t index, uint64_t from, uint64_t to)
{
    static const char zeros[64 * 1024];
    int fd = scan->segments[index].fd;
    while (from < to) {
        size_t n = to - from < sizeof(zeros) ? to - from : sizeof(zeros);
        ssize_t written = pwrite(fd, zeros, n, (off_t)from);
        if (written > 0)
            from += (uint64_t)written;
        else if (written == 0 || errno != EINTR)
            return refuse(scan, index, written == 0 ? -EIO : -errno,
                          "its torn tail cannot be overwritten: %s", strerror(errno));
    }
    if (fdatasync(fd) != 0)
        return refuse(scan, index, -errno, "cannot be synced: %s", strerror(errno));
    return 0;
}

static uint64_t tail_start(const struct place *place, size_t index)
{
    return index == place->index ? place->offset : LOG_SEGMENT_HEADER_BYTES;
}

/* Everything behind `place`: refused, or zeros when this returns. Nothing is overwritten before
 * all of it has been looked at. */
static int clean_tail(struct scan *scan, const struct place *place, uint64_t *torn_bytes)
{
    uint64_t *used_to = mem_alloc(scan->count * sizeof(used_to[0]));
    int result = 0;
    for (size_t i = place->index; i < scan->count && result == 0; i++)
        result = look_through(scan, place, i, tail_start(place, i), &used_to[i]);
    for (size_t i = place->index; i < scan->count && result == 0; i++) {
        uint64_t from = tail_start(place, i);
        if (used_to[i] == from)
            continue;
        *torn_bytes += used_to[i] - from;
        result = write_zeros(scan, i, from, used_to[i]);
    }
    free(used_to);
    return result;
}

/* The last segment that begins with a whole batch, else the first one. On the way back there, the
 * pages of each are dropped, so that they are read from the disk. */
static int find_last_begun(struct scan *scan, struct place *place)
{
    bool begins = false;
    for (size_t i = scan->count; i-- > 0 && !begins;) {
        posix_fadvise(scan->segments[i].fd, 0, 0, POSIX_FADV_DONTNEED);
        int result = place_before(scan, i, place, &begins);
        if (result < 0)
            return result;
    }
    return 0;
}

static int clean_log(struct scan *scan, uint64_t *torn_bytes)
{
    struct place place = {0};
    struct datadir_end end = {0};
    int result = find_last_begun(scan, &place);
    if (result == 0)
        result = walk(scan, &place, NULL, NULL);
    if (result == 0)
        result = clean_tail(scan, &place, &end.torn_bytes);
    if (result != 0)
        return result;
    const struct datadir_segment *segment = &scan->segments[place.index];
    end.segment = segment->number;
    end.offset = place.offset;
    end.batch = place.batch;
    *torn_bytes += end.torn_bytes;
    datadir_set_end(scan->dir, segment->generation, segment->shard, &end);
    return 0;
}

/* All logs. */

struct all_logs {
    struct datadir_segment *segments; /* by generation, shard, number */
    size_t count;
};

static struct all_logs load_logs(struct datadir *dir)
{
    struct all_logs logs = {.count = datadir_segments(dir, 0, 0, NULL, 0)};
    logs.segments = mem_alloc(logs.count * sizeof(logs.segments[0]));
    datadir_segments(dir, 0, 0, logs.segments, logs.count);
    return logs;
}

/* Points `scan` to the log after the one it points to; false behind the last. */
static bool next_log(const struct all_logs *logs, struct scan *scan)
{
    size_t first = (size_t)(scan->segments - logs->segments) + scan->count;
    scan->segments = logs->segments + first;
    scan->count = 0;
    while (first + scan->count < logs->count &&
           scan->segments[scan->count].generation == scan->segments[0].generation &&
           scan->segments[scan->count].shard == scan->segments[0].shard)
        scan->count++;
    return scan->count != 0;
}

static struct scan scan_of(struct datadir *dir, const struct all_logs *logs, char *error,
                           size_t error_size)
{
    return (struct scan){.dir = dir,
                         .segments = logs->segments,
                         .window.fd = -1,
                         .error = error,
                         .error_size = error_size};
}

/* It is after a clean stop, and for older generations' logs once they have been sealed. */
static bool is_end_known(const struct scan *scan)
{
    struct datadir_end end;
    const struct datadir_segment *any = &scan->segments[0];
    return datadir_get_end(scan->dir, any->generation, any->shard, &end);
}

int log_clean_tails(struct datadir *dir, uint64_t *torn_bytes, char *error, size_t error_size)
{
    struct all_logs logs = load_logs(dir);
    struct scan scan = scan_of(dir, &logs, error, error_size);
    int result = 0;
    *torn_bytes = 0;
    while (result == 0 && next_log(&logs, &scan)) {
        if (!is_end_known(&scan))
            result = clean_log(&scan, torn_bytes);
    }
    buf_free(&scan.window.bytes);
    free(logs.segments);
    if (result != 0)
        return result;
    result = datadir_seal(dir);
    if (result < 0)
        snprintf(error, error_size, "%s: the manifest cannot be written: %s", datadir_path(dir),
                 strerror(-result));
    return result;
}

static int recover_log(struct scan *scan, const struct visitor *visitor)
{
    struct datadir_end end;
    const struct datadir_segment *any = &scan->segments[0];
    bool known = datadir_get_end(scan->dir, any->generation, any->shard, &end);
    assert(known); /* log_clean_tails has run */

    struct place place = {0};
    bool begins = false;
    int result = place_before(scan, 0, &place, &begins);
    if (result == 0)
        result = walk(scan, &place, &end, visitor);
    if (result != 0)
        return result;
    if (!is_at_end(&place, &end))
        return refuse_damage(scan, &place, "the log goes on behind it");
    return 0;
}

int log_recover(struct datadir *dir, log_visit *visit, void *ctx, char *error, size_t error_size)
{
    struct visitor visitor = {visit, ctx};
    struct all_logs logs = load_logs(dir);
    struct scan scan = scan_of(dir, &logs, error, error_size);
    int result = 0;
    while (result == 0 && next_log(&logs, &scan))
        result = recover_log(&scan, &visitor);
    buf_free(&scan.window.bytes);
    free(logs.segments);
    return result;
}
