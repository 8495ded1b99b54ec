/*
 * log_scan: reading logs from one end to the other: at start, and segment by segment for those who
 * look after old ones. The format is told in log_format.h.
 *
 * A log is walked batch by batch, from its checkpoint on. Where no whole batch with the next number
 * follows, it goes on in the first later segment that begins with that number; where there is none,
 * the walk has come to the end, or to damage. Segments before the checkpoint's are not looked at:
 * they may have been rewritten, or be gone.
 *
 * Normal path: after a clean stop the manifest has the end of each log. Else log_clean_tails walks
 * to it, from the last segment that begins with a whole batch, if that is behind the checkpoint.
 * All segments were synced when the directory was opened, and the pages of these last ones are
 * dropped from the cache before, so that what is seen is what is on the disk, even after an
 * fdatasync has failed. Behind the end it finds zeros, and notes the end in the datadir.
 * log_recover then walks a log up to its noted end and shows every record; it looks at nothing
 * behind.
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
#include "shards/sim_bug.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    WINDOW_BYTES = 1 << 20,
    ZEROS_BYTES = 4096, /* looked at in one go */
};

/* A window onto a file, moved by reading: a file that cannot be read is an error, and no SIGBUS. */
struct window {
    int fd;
    uint64_t from;
    struct buf bytes;
};

/* What is being read: the segments of one log from its checkpoint on, or a single segment. */
struct scan {
    struct datadir *dir;
    struct fs *fs;
    uint32_t generation;
    uint32_t shard;
    struct datadir_segment *segments; /* ascending */
    size_t count;
    struct window window;
    char *error;
    size_t error_size;
};

/* Between two batches: segments[index] at `offset`, behind batch number `batch`. */
struct place {
    size_t index;
    uint64_t offset;
    uint64_t batch;
};

struct visitor {
    log_visit *visit;
    void *ctx;
    bool checks_records;     /* their own checksums too, not only the batch's */
    _Atomic uint64_t *bytes; /* NULL, or grows as the walk goes on */
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
    datadir_segment_name(&scan->segments[index], name);
    snprintf(scan->error, scan->error_size, "%s/%s: %s", datadir_path(scan->dir), name, what);
    return result;
}

/* Reading. */

/* `n` bytes at `offset`, good until the next call; NULL with *result where they cannot be had.
 * `left` bytes are there from `offset` on. */
static const char *window_view(struct fs *fs, struct window *window, int fd, uint64_t offset,
                               size_t n, uint64_t left, int *result)
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
    int64_t got = fs->ops->read(fs, fd, bytes->p, wanted, offset);
    if (got > 0)
        bytes->n = (size_t)got;
    if (bytes->n >= n)
        return bytes->p;
    *result = got < 0 ? (int)got : -EIO;
    return NULL;
}

static const char *view(struct scan *scan, struct window *window, size_t index, uint64_t offset,
                        size_t n, int *result)
{
    const struct datadir_segment *segment = &scan->segments[index];
    const char *p =
        window_view(scan->fs, window, segment->fd, offset, n, segment->bytes - offset, result);
    if (p == NULL)
        refuse(scan, index, *result, "cannot be read at offset %" PRIu64 ": %s", offset,
               strerror(-*result));
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
    if (scan->segments[index].bytes < offset + sizeof(*header))
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

static int refuse_record(struct scan *scan, size_t index, uint64_t offset)
{
    return refuse(scan, index, -EIO, "the record at offset %" PRIu64 " is damaged", offset);
}

static int visit_records(struct scan *scan, const struct place *place,
                         const struct log_batch_header *header, const char *batch,
                         const struct visitor *visitor)
{
    size_t at = sizeof(*header);
    uint32_t count = 0;
    uint32_t number = scan->segments[place->index].number;
    uint64_t seed = seed_at(scan, place->index, 0);
    for (; at < header->bytes; count++) {
        struct log_record record;
        size_t bytes = 0;
        uint64_t offset = place->offset + at;
        const char *p = batch + at;
        size_t left = header->bytes - at;
        if (!(visitor->checks_records ? log_record_decode(p, left, seed + offset, &record, &bytes)
                                      : log_record_parse(p, left, &record, &bytes)))
            return refuse_record(scan, place->index, offset);
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

/* Bytes of batches that fit between one place and a later one, as if all segments were full. */
static uint64_t bytes_between(const struct scan *scan, size_t index, uint64_t offset,
                              size_t to_index, uint64_t to_offset)
{
    uint64_t bytes = 0;
    for (; index < to_index; index++) {
        bytes += scan->segments[index].bytes - offset;
        offset = LOG_SEGMENT_HEADER_BYTES;
    }
    return bytes + to_offset - offset;
}

static void note_progress(const struct scan *scan, const struct visitor *visitor,
                          const struct place *before, const struct place *now)
{
    if (visitor != NULL && visitor->bytes != NULL)
        atomic_fetch_add_explicit(
            visitor->bytes,
            bytes_between(scan, before->index, before->offset, now->index, now->offset),
            memory_order_relaxed);
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
        struct place before = *place;
        const char *batch = NULL;
        int result = batch_at(scan, &scan->window, place->index, place->offset, &header, &batch);
        if (result == 1 && header.number == place->batch + 1) {
            result = visitor == NULL ? 0 : visit_records(scan, place, &header, batch, visitor);
            if (result != 0)
                return result;
            place->offset += header.bytes;
            place->batch = header.number;
        } else {
            if (result >= 0)
                result = skip_to_segment(scan, place);
            if (result <= 0)
                return result;
        }
        note_progress(scan, visitor, &before, place);
    }
    return 0;
}

/* Before the first batch of segment `index`; *begins says whether there is a whole one. */
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
    datadir_segment_name(&scan->segments[index], name);
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
    int result = 0;
    while (from < to && result == 0) {
        size_t n = to - from < sizeof(zeros) ? to - from : sizeof(zeros);
        result = scan->fs->ops->write(scan->fs, fd, zeros, n, from);
        from += n;
    }
    if (result < 0)
        return refuse(scan, index, result, "its torn tail cannot be overwritten: %s",
                      strerror(-result));
    result = sim_bug(SIM_BUG_TAIL_NOT_CUT) ? 0 : scan->fs->ops->data_sync(scan->fs, fd);
    if (result < 0)
        return refuse(scan, index, result, "cannot be synced: %s", strerror(-result));
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

/* One log, from a checkpoint on. */

/* Takes the segments that may hold something behind `from` (segment 0: from the beginning). One
 * that has been rewritten does not: a compaction keeps off what the newest checkpoint does not
 * cover. */
static void scan_load(struct scan *scan, const struct datadir_end *from)
{
    size_t all = datadir_segments(scan->dir, scan->generation, scan->shard, NULL, 0);
    scan->segments = mem_alloc((all + 1) * sizeof(scan->segments[0]));
    datadir_segments(scan->dir, scan->generation, scan->shard, scan->segments, all);
    for (size_t i = 0; i < all; i++) {
        if (scan->segments[i].number >= from->segment && scan->segments[i].version == 0)
            scan->segments[scan->count++] = scan->segments[i];
    }
}

static void scan_free(struct scan *scan)
{
    buf_free(&scan->window.bytes);
    free(scan->segments);
}

static struct scan scan_of(struct datadir *dir, uint32_t generation, uint32_t shard, char *error,
                           size_t error_size)
{
    return (struct scan){.dir = dir,
                         .fs = datadir_fs(dir),
                         .generation = generation,
                         .shard = shard,
                         .window.fd = -1,
                         .error = error,
                         .error_size = error_size};
}

/* Where reading begins. The segment of `from` may be gone, where its last batch is before it. */
static struct place place_of(const struct scan *scan, const struct datadir_end *from)
{
    bool is_there = scan->count != 0 && scan->segments[0].number == from->segment;
    return (struct place){.offset = is_there ? from->offset : LOG_SEGMENT_HEADER_BYTES,
                          .batch = from->batch};
}

/* The last segment that begins with a whole batch, else the checkpoint's place. On the way back
 * there, the pages of each are dropped, so that they are read from the disk. */
static int find_last_begun(struct scan *scan, const struct datadir_end *from, struct place *place)
{
    bool begins = false;
    for (size_t i = scan->count; i-- > 0 && !begins;) {
        if (!sim_bug(SIM_BUG_CACHE_BELIEVED))
            scan->fs->ops->forget(scan->fs, scan->segments[i].fd);
        int result = i == 0 ? 0 : place_before(scan, i, place, &begins);
        if (result < 0)
            return result;
    }
    if (!begins)
        *place = place_of(scan, from);
    return 0;
}

/* Finds the end behind `from` and cleans what is behind it. */
static int find_end(struct scan *scan, const struct datadir_end *from, struct datadir_end *end)
{
    struct place place = {0};
    int result = find_last_begun(scan, from, &place);
    if (result == 0)
        result = walk(scan, &place, NULL, NULL);
    if (result == 0)
        result = clean_tail(scan, &place, &end->torn_bytes);
    end->segment = scan->segments[place.index].number;
    end->offset = place.offset;
    end->batch = place.batch;
    return result;
}

static int clean_log(struct scan *scan, uint64_t *torn_bytes)
{
    struct datadir_checkpoint checkpoint = {0};
    struct datadir_end end;
    if (datadir_get_end(scan->dir, scan->generation, scan->shard, &end))
        return 0;
    datadir_get_checkpoint(scan->dir, scan->generation, scan->shard, &checkpoint);
    scan_load(scan, &checkpoint.from);
    if (scan->count == 0)
        return 0;
    end.torn_bytes = 0;
    int result = find_end(scan, &checkpoint.from, &end);
    if (result != 0)
        return result;
    *torn_bytes += end.torn_bytes;
    datadir_set_end(scan->dir, scan->generation, scan->shard, &end);
    return 0;
}

int log_clean_tails(struct datadir *dir, uint64_t *torn_bytes, char *error, size_t error_size)
{
    uint32_t generation = datadir_recover_generation(dir);
    int result = 0;
    *torn_bytes = 0;
    for (unsigned shard = 0; shard < datadir_recover_shards(dir) && result == 0; shard++) {
        struct scan scan = scan_of(dir, generation, shard, error, error_size);
        result = clean_log(&scan, torn_bytes);
        scan_free(&scan);
    }
    return result;
}

static int recover_log(struct scan *scan, const struct datadir_end *from,
                       const struct visitor *visitor)
{
    struct datadir_end end;
    bool known = datadir_get_end(scan->dir, scan->generation, scan->shard, &end);
    assert(known || scan->count == 0); /* log_clean_tails has run */
    if (!known)
        return 0;

    struct place place = place_of(scan, from);
    int result = scan->count != 0 ? walk(scan, &place, &end, visitor) : 0;
    if (result != 0 || is_at_end(&place, &end))
        return result;
    if (scan->count != 0)
        return refuse_damage(scan, &place, "the log goes on behind it");
    snprintf(scan->error, scan->error_size,
             "%s: the log of shard %u (generation %u) has no segments, but goes on behind batch "
             "%" PRIu64,
             datadir_path(scan->dir), scan->shard, scan->generation, from->batch);
    return -EIO;
}

static const struct datadir_end beginning;

int log_recover(struct datadir *dir, uint32_t generation, uint32_t shard,
                const struct datadir_end *from, log_visit *visit, void *ctx,
                _Atomic uint64_t *bytes, char *error, size_t error_size)
{
    struct visitor visitor = {.visit = visit, .ctx = ctx, .bytes = bytes};
    struct scan scan = scan_of(dir, generation, shard, error, error_size);
    if (from == NULL)
        from = &beginning;
    scan_load(&scan, from);
    int result = recover_log(&scan, from, &visitor);
    scan_free(&scan);
    return result;
}

uint64_t log_recover_bytes(struct datadir *dir, uint32_t generation, uint32_t shard,
                           const struct datadir_end *from)
{
    struct datadir_end end;
    struct scan scan = scan_of(dir, generation, shard, NULL, 0);
    if (from == NULL)
        from = &beginning;
    scan_load(&scan, from);
    uint64_t bytes = 0;
    size_t last = 0;
    bool known = datadir_get_end(dir, generation, shard, &end);
    while (known && last < scan.count && scan.segments[last].number != end.segment)
        last++;
    if (known && last < scan.count && end.batch != from->batch)
        bytes = bytes_between(&scan, 0, place_of(&scan, from).offset, last, end.offset);
    scan_free(&scan);
    return bytes;
}

/* One segment. */

static int visit_batches(struct scan *scan, const struct visitor *visitor)
{
    struct place place;
    bool begins = false;
    int result = place_before(scan, 0, &place, &begins);
    if (result == 0 && begins)
        result = walk(scan, &place, NULL, visitor);
    return result;
}

/* The record that stands at `at` in a rewritten file, of a run that ends at `end`. */
static int record_at(struct scan *scan, uint64_t offset, uint64_t at, uint64_t end,
                     struct log_record *record, size_t *bytes)
{
    struct log_record_header header;
    int result = 0;
    if (end - at < sizeof(header))
        return refuse_record(scan, 0, at);
    const char *p = view(scan, &scan->window, 0, at, sizeof(header), &result);
    if (p == NULL)
        return result;
    memcpy(&header, p, sizeof(header));
    if (!log_record_header_check(&header, end - at))
        return refuse_record(scan, 0, at);
    p = view(scan, &scan->window, 0, at, log_align(header.bytes), &result);
    if (p == NULL)
        return result;
    if (!log_record_decode(p, log_align(header.bytes), seed_at(scan, 0, offset), record, bytes))
        return refuse_record(scan, 0, at);
    return 0;
}

static int visit_run(struct scan *scan, const struct datadir_extent *run, uint64_t end,
                     const struct visitor *visitor)
{
    uint32_t number = scan->segments[0].number;
    uint64_t offset = run->offset;
    for (uint64_t at = run->at; at < end;) {
        struct log_record record;
        size_t bytes = 0;
        int result = record_at(scan, offset, at, end, &record, &bytes);
        if (result == 0)
            result = visitor->visit(visitor->ctx, &record, log_position_of(number, offset));
        if (result != 0)
            return result;
        at += bytes;
        offset += bytes;
    }
    return 0;
}

static int visit_runs(struct scan *scan, const struct datadir_file *file,
                      const struct visitor *visitor)
{
    int result = 0;
    for (uint32_t i = 0; i < file->extents_n && result == 0; i++) {
        uint64_t end = i + 1 < file->extents_n ? file->extents[i + 1].at : file->bytes;
        result = visit_run(scan, &file->extents[i], end, visitor);
    }
    return result;
}

int log_visit_segment(struct datadir *dir, uint32_t number, log_visit *visit, void *ctx,
                      char *error, size_t error_size)
{
    struct visitor visitor = {.visit = visit, .ctx = ctx, .checks_records = true};
    const struct datadir_file *file = datadir_hold(dir, number);
    if (file == NULL) {
        snprintf(error, error_size, "%s: there is no segment %" PRIu32, datadir_path(dir), number);
        return -ENOENT;
    }
    struct datadir_segment segment = {
        .number = number, .version = file->version, .fd = file->fd, .bytes = file->bytes};
    struct scan scan = scan_of(dir, 0, 0, error, error_size);
    scan.segments = &segment;
    scan.count = 1;
    int result =
        file->version == 0 ? visit_batches(&scan, &visitor) : visit_runs(&scan, file, &visitor);
    buf_free(&scan.window.bytes);
    datadir_release(dir, file);
    return result;
}
