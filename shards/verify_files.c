/*
 * verify_files: walks all logs of a directory, each through its segments in order.
 *
 * A segment as it was written holds batches, each with the number after that of the one before it,
 * also across segments; behind the last one zeros. A rewritten segment holds runs of records and
 * has no batches any more. Where a segment has been rewritten or dropped in between, the numbers
 * may go on higher.
 *
 * Where a log ends the manifest says, for older generations always and for the newest one after a
 * clean stop. After a crash the end is where no whole batch follows in the last segment that begins
 * with one. Something else behind it is the remains of batches that were never committed, which the
 * next start cuts off, unless a later batch is among it that was written when the bad one had been
 * on the disk: then something committed is damaged. (The same rule as log_scan.c's, which is at
 * work when a server starts; here nothing is changed, and nothing kept back.)
 *
 * The first walk also looks at everything behind the ends, at padding, and whether the places that
 * checkpoints name are between two batches: so any byte that has changed in a segment is found.
 */
#include "shards/verify_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOOK_BYTES = 64 * 1024 };

/* A log being walked. */
struct log_walk {
    struct verify *v;
    size_t first, count; /* its segments */
    uint64_t batch;      /* last one seen */
    bool gap;            /* the next number may be any higher one */
    bool ended;          /* the end has been seen: nothing may follow */
    uint32_t before;     /* number of the segment before */
    size_t last_begun;   /* index of the last segment that begins with a batch, where … */
    const struct manifest_end *end;               /* … this is NULL */
    const struct manifest_checkpoint *checkpoint; /* not come by yet; NULL: none, or it is behind */
};

/* Opening. */

static int compare(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int by_log(const void *left, const void *right)
{
    const struct datadir_segment *a = left, *b = right;
    int order = compare(a->generation, b->generation);
    if (order == 0)
        order = compare(a->shard, b->shard);
    return order != 0 ? order : compare(a->number, b->number);
}

static int open_file(struct verify *v, uint64_t bytes, int *file)
{
    *file = v->fs->ops->open(v->fs, v->name, FS_READ);
    if (*file == -ENOENT)
        return 0;
    if (*file < 0)
        return verify_unreadable(v, 0, *file);
    int64_t size = v->fs->ops->size(v->fs, *file);
    if (size >= 0 && (uint64_t)size == bytes)
        return 0;
    v->fs->ops->close(v->fs, *file);
    if (size < 0)
        return verify_unreadable(v, 0, (int)size);
    return verify_fault(v, (uint64_t)size < bytes ? (uint64_t)size : bytes, NULL,
                        "it has %" PRId64 " bytes, but the manifest says %" PRIu64, size, bytes);
}

static int look_for_segment(struct verify *v, size_t i)
{
    int file;
    datadir_segment_name(&v->segments[i], v->name);
    int result = open_file(v, v->segments[i].bytes, &file);
    v->missing[i] = file == -ENOENT;
    v->report->missing += v->missing[i];
    if (result != 0 || v->missing[i])
        return result;
    v->fs->ops->close(v->fs, file);
    v->total += v->segments[i].bytes;
    v->report->segments++;
    v->report->rewritten += v->segments[i].version != 0;
    return 0;
}

int verify_files_open(struct verify *v)
{
    const struct manifest *m = &v->manifest;
    int result = 0;
    v->segments = mem_alloc((m->segment_count + 1) * sizeof(v->segments[0]));
    v->missing = mem_zeroed(m->segment_count + 1, sizeof(v->missing[0]));
    if (m->segment_count != 0)
        memcpy(v->segments, m->segments, m->segment_count * sizeof(v->segments[0]));
    qsort(v->segments, m->segment_count, sizeof(v->segments[0]), by_log);
    for (size_t i = 0; i < m->segment_count && result == 0; i++)
        result = look_for_segment(v, i);
    for (size_t i = 0; i < m->checkpoint_count && result == 0; i++) {
        int file;
        datadir_checkpoint_name(m->checkpoints[i].checkpoint.number, v->name);
        result = open_file(v, m->checkpoints[i].checkpoint.bytes, &file);
        if (result == 0 && file == -ENOENT)
            return verify_fault(v, 0, NULL, "it is missing, but the manifest names it");
        if (result == 0)
            v->fs->ops->close(v->fs, file);
        v->report->bytes += m->checkpoints[i].checkpoint.bytes;
    }
    v->report->bytes += v->total;
    v->gaps = v->report->missing != 0 || v->report->rewritten != 0 ||
              m->segment_count + 1 != m->next_segment;
    return result;
}

/* Zeros. */

/* Where the first byte that is not zero stands from `offset` to `end`, or `end`; into *found. */
static int find_something(struct walk *walk, uint64_t offset, uint64_t end, uint64_t *found)
{
    int result = 0;
    for (*found = end; offset < end;) {
        size_t n = end - offset < LOOK_BYTES ? (size_t)(end - offset) : LOOK_BYTES;
        const char *p = walk_view(walk, offset, n, &result);
        if (p == NULL)
            return result;
        if (p[0] != 0 || memcmp(p, p + 1, n - 1) != 0) {
            size_t i = 0;
            while (p[i] == 0)
                i++;
            *found = offset + i;
            return 0;
        }
        offset += n;
    }
    return 0;
}

/* Only zeros stand there; else a fault, where `what` says of what. */
static int check_zeros(struct verify *v, struct walk *walk, uint64_t offset, uint64_t end,
                       const char *what)
{
    uint64_t found;
    int result = find_something(walk, offset, end, &found);
    if (result < 0)
        return verify_unreadable(v, offset, result);
    return found == end ? 0 : verify_fault(v, found, NULL, "%s", what);
}

/* Records. */

/* 1: a whole record stands at `offset`, before `end`; 0: a damaged one, with whatever its header
 * says where that makes sense; -errno. */
static int record_at(struct walk *walk, uint64_t offset, uint64_t place, uint64_t end,
                     struct log_record *record, size_t *bytes)
{
    struct log_record_header header;
    uint64_t room = end > offset ? end - offset : 0;
    int result = 0;
    *record = (struct log_record){0};
    if (room < sizeof(header))
        return 0;
    const char *p = walk_view(walk, offset, sizeof(header), &result);
    if (p == NULL)
        return result;
    memcpy(&header, p, sizeof(header));
    if (!log_record_header_check(&header, room))
        return 0;
    size_t n = log_align(header.bytes);
    p = walk_view(walk, offset, n, &result);
    if (p == NULL)
        return result;
    return log_record_decode(p, n, walk->seed + place, record, bytes) ? 1 : 0;
}

/* The record, where its header names a session that could be one, else NULL. */
static const struct log_record *if_plausible(const struct log_record *record)
{
    return record->session.p != NULL && core_session_id_valid(record->session) ? record : NULL;
}

static int visit(struct verify *v, uint32_t number, uint64_t place, uint64_t offset,
                 const struct log_record *record)
{
    v->offset = offset;
    return v->visit(v, record, log_position_of(number, place));
}

/* Segments with batches. */

/* No whole batch stands at `offset`, but one did: what of it is damaged? */
static int fault_batch(struct log_walk *log, struct walk *walk, uint64_t offset)
{
    struct verify *v = log->v;
    struct log_batch_header header = {0};
    struct log_record record;
    size_t bytes = 0;
    int result = 0;
    uint64_t at = offset + sizeof(header), end = walk->bytes;
    const char *p =
        end - offset >= sizeof(header) ? walk_view(walk, offset, sizeof(header), &result) : NULL;
    if (p != NULL)
        memcpy(&header, p, sizeof(header));
    if (p == NULL || !log_batch_header_check(&header, end - offset, walk->seed + offset)) {
        bool known = result == 0 && record_at(walk, at, at, end, &record, &bytes) == 1;
        return verify_fault(v, offset, known ? &record : NULL,
                            "batch %" PRIu64 " is damaged (its header) or missing, and is not the "
                            "last one",
                            log->batch + 1);
    }
    for (end = offset + header.bytes; at < end; at += bytes) {
        result = record_at(walk, at, at, end, &record, &bytes);
        if (result < 0)
            return verify_unreadable(v, at, result);
        if (result == 0)
            return verify_fault(v, at, if_plausible(&record),
                                "a record of batch %" PRIu64 " is damaged", header.number);
    }
    return verify_fault(v, offset, NULL, "batch %" PRIu64 " is damaged", header.number);
}

static int visit_batch(struct log_walk *log, struct walk *walk, uint32_t number, uint64_t offset,
                       const struct log_batch_header *header, const char *batch)
{
    struct verify *v = log->v;
    uint32_t count = 0;
    size_t bytes = 0;
    for (size_t at = sizeof(*header); at < header->bytes; at += bytes, count++) {
        struct log_record record;
        uint64_t place = offset + at;
        if (!log_record_decode(batch + at, header->bytes - at, walk->seed + place, &record, &bytes))
            return verify_fault(v, place, if_plausible(&record),
                                "a record of batch %" PRIu64 " is damaged", header->number);
        int result = visit(v, number, place, place, &record);
        if (result != 0)
            return result;
    }
    if (count != header->records)
        return verify_fault(v, offset, NULL,
                            "batch %" PRIu64 " holds %" PRIu32 " records, not the %" PRIu32
                            " that its header says",
                            header->number, count, header->records);
    if (v->first)
        v->report->batches++;
    return 0;
}

/* A batch that checks stands there, but is it the next one? */
static int check_number(struct log_walk *log, uint64_t offset, bool begins, uint64_t number)
{
    bool is_next = log->gap && begins ? number > log->batch : number == log->batch + 1;
    if (is_next)
        return 0;
    return verify_fault(log->v, offset, NULL,
                        "here stands batch %" PRIu64 ", but the one before it in the log of shard "
                        "%" PRIu32 " (generation %" PRIu32 ") is %" PRIu64,
                        number, log->v->segments[log->first].shard,
                        log->v->segments[log->first].generation, log->batch);
}

static bool is_before(const struct log_walk *log, size_t index)
{
    if (log->end != NULL)
        return log->v->segments[index].number < log->end->end.segment;
    return index < log->last_begun;
}

static bool is_last(const struct log_walk *log, size_t index)
{
    if (log->end != NULL)
        return log->v->segments[index].number == log->end->end.segment;
    return index == log->last_begun;
}

/* Whether a batch stands somewhere from `offset` on that proves that the one behind log->batch had
 * been on the disk: 1, 0, -errno. *used_to: behind the last byte that is not zero. */
static int find_later(struct log_walk *log, struct walk *walk, uint64_t offset, uint64_t *used_to)
{
    enum { MAGIC_AT = offsetof(struct log_batch_header, magic) };
    int result = 0;
    struct walk closer = *walk;
    closer.window = (struct buf){0};
    *used_to = offset;
    for (uint64_t at = offset; at < walk->bytes && result == 0;) {
        size_t n = walk->bytes - at < LOOK_BYTES ? (size_t)(walk->bytes - at) : LOOK_BYTES;
        const char *p = walk_view(walk, at, n, &result);
        bool zeros = p != NULL && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
        for (size_t i = 0; p != NULL && !zeros && i + LOG_ALIGN_BYTES <= n && result == 0;
             i += LOG_ALIGN_BYTES) {
            struct log_batch_header header = {0};
            const char *batch = NULL;
            uint64_t word;
            memcpy(&word, p + i, sizeof(word));
            if (word != 0)
                *used_to = at + i + LOG_ALIGN_BYTES;
            if ((uint32_t)word != LOG_BATCH_MAGIC || at + i < offset + MAGIC_AT)
                continue;
            result = walk_batch(&closer, at + i - MAGIC_AT, &header, &batch);
            if (result == 1 && (header.number <= log->batch + 1 || header.synced <= log->batch))
                result = 0;
        }
        at += n;
    }
    walk_end(&closer);
    return result;
}

/* The end of a log after a crash: is what stands behind it only remains? */
static int check_torn(struct log_walk *log, struct walk *walk, uint64_t offset)
{
    struct verify *v = log->v;
    uint64_t used_to;
    int found = find_later(log, walk, offset, &used_to);
    if (found < 0)
        return verify_unreadable(v, offset, found);
    if (found == 1)
        return fault_batch(log, walk, offset);
    v->report->torn_bytes += used_to - offset;
    return 0;
}

/* No whole batch follows at `offset`. */
static int check_rest(struct log_walk *log, size_t index, struct walk *walk, uint64_t offset)
{
    struct verify *v = log->v;
    uint64_t found;
    bool last = is_last(log, index);
    int result = 0;
    if (log->end != NULL && last &&
        (offset != log->end->end.offset || (!log->gap && log->batch != log->end->end.batch))) {
        if (offset < log->end->end.offset)
            return fault_batch(log, walk, offset);
        return verify_fault(v, offset, NULL,
                            "the log should end at offset %" PRIu64 ", behind batch %" PRIu64
                            ", but goes on to batch %" PRIu64,
                            log->end->end.offset, log->end->end.batch, log->batch);
    }
    log->ended = log->ended || last;
    if (!v->first)
        return 0;
    if (log->end == NULL && !is_before(log, index))
        return check_torn(log, walk, offset);
    result = find_something(walk, offset, walk->bytes, &found);
    if (result < 0)
        return verify_unreadable(v, offset, result);
    if (found == walk->bytes)
        return 0;
    if (is_before(log, index))
        return fault_batch(log, walk, offset);
    return verify_fault(v, found, NULL, "something stands behind the end of the log");
}

static int come_by_checkpoint(struct log_walk *log)
{
    struct verify *v = log->v;
    const struct manifest_checkpoint *checkpoint = log->checkpoint;
    char name[DATADIR_NAME_BYTES];
    log->checkpoint = NULL;
    if (checkpoint == NULL || v->at_checkpoint == NULL)
        return 0;
    memcpy(name, v->name, sizeof(name));
    int result = v->at_checkpoint(v, checkpoint);
    if (result == 0)
        memcpy(v->name, name, sizeof(name));
    return result;
}

/* Between two batches: is it the place that the checkpoint names? */
static int look_for_checkpoint(struct log_walk *log, uint32_t number, uint64_t offset)
{
    if (log->checkpoint == NULL)
        return 0;
    const struct datadir_end *from = &log->checkpoint->checkpoint.from;
    if (number < from->segment || (number == from->segment && offset < from->offset))
        return 0;
    if (number == from->segment && (offset != from->offset || log->batch != from->batch))
        return verify_fault(log->v, from->offset, NULL,
                            "a checkpoint says that the log goes on here behind batch %" PRIu64
                            ", but batch %" PRIu64 " ends at offset %" PRIu64,
                            from->batch, log->batch, offset);
    return come_by_checkpoint(log);
}

static int walk_batches(struct log_walk *log, size_t index, struct walk *walk)
{
    uint64_t offset = LOG_SEGMENT_HEADER_BYTES;
    uint32_t number = log->v->segments[index].number;
    for (;;) {
        struct log_batch_header header = {0};
        const char *batch = NULL;
        bool begins = offset == LOG_SEGMENT_HEADER_BYTES;
        int result = log->gap && begins ? 0 : look_for_checkpoint(log, number, offset);
        int found = result == 0 ? walk_batch(walk, offset, &header, &batch) : 0;
        if (found < 0)
            return verify_unreadable(log->v, offset, found);
        if (result != 0 || found == 0)
            return result != 0 ? result : check_rest(log, index, walk, offset);
        if (log->ended)
            return verify_fault(log->v, offset, NULL,
                                "here stands batch %" PRIu64 ", behind the end of the log",
                                header.number);
        result = check_number(log, offset, begins, header.number);
        if (result == 0 && log->gap && begins) {
            log->batch = header.number - 1;
            result = look_for_checkpoint(log, number, offset);
        }
        log->gap = false;
        if (result == 0)
            result = visit_batch(log, walk, number, offset, &header, batch);
        if (result != 0)
            return result;
        log->batch = header.number;
        offset += header.bytes;
        verify_progress(log->v, header.bytes);
    }
}

static int walk_plain(struct log_walk *log, size_t index, struct walk *walk)
{
    struct verify *v = log->v;
    struct log_segment_header header;
    int result = 0;
    uint64_t before = v->read;
    const char *page = walk_view(walk, 0, LOG_SEGMENT_HEADER_BYTES, &result);
    if (page == NULL)
        return verify_unreadable(v, 0, result);
    memcpy(&header, page, sizeof(header));
    const char *wrong = log_segment_header_check(&header, &v->segments[index], walk->seed);
    if (wrong != NULL)
        return verify_fault(v, 0, NULL, "it %s", wrong);
    if (v->first)
        result =
            check_zeros(v, walk, sizeof(header), LOG_SEGMENT_HEADER_BYTES, "the header is damaged");
    if (result == 0)
        result = walk_batches(log, index, walk);
    if (result == 0)
        verify_progress(v, walk->bytes - (v->read - before));
    return result;
}

/* Rewritten segments. */

static int walk_run(struct verify *v, uint32_t number, struct walk *walk, uint64_t place,
                    uint64_t at, uint64_t end)
{
    size_t bytes = 0;
    for (; at < end; at += bytes, place += bytes) {
        struct log_record record;
        int found = record_at(walk, at, place, end, &record, &bytes);
        if (found < 0)
            return verify_unreadable(v, at, found);
        if (found == 0)
            return verify_fault(v, at, if_plausible(&record), "a record is damaged");
        size_t used = sizeof(struct log_record_header) + record.session.n + record.body.n;
        for (size_t i = used; i < bytes; i++) {
            if (record.session.p[i - sizeof(struct log_record_header)] != 0)
                return verify_fault(v, at + i, &record, "the padding of a record is damaged");
        }
        int result = visit(v, number, place, at, &record);
        if (result != 0)
            return result;
        verify_progress(v, bytes);
    }
    return 0;
}

static int load_extents(struct verify *v, struct walk *walk,
                        const struct log_rewritten_header *header, struct datadir_extent **extents)
{
    size_t n = (size_t)header->extents_n * sizeof((*extents)[0]);
    int result = 0;
    const char *table = walk_view(walk, header->extents_offset, n, &result);
    if (table == NULL)
        return verify_unreadable(v, header->extents_offset, result);
    *extents = mem_alloc(n + 1);
    memcpy(*extents, table, n);
    if (log_extents_check(*extents, header, walk->seed))
        return 0;
    free(*extents);
    *extents = NULL;
    return verify_fault(v, header->extents_offset, NULL, "the table of what was kept is damaged");
}

static int walk_rewritten(struct verify *v, size_t index, struct walk *walk)
{
    enum { USED = sizeof(struct log_segment_header) + sizeof(struct log_rewritten_header) };
    struct log_rewritten_header header;
    struct datadir_extent *extents = NULL;
    int result = 0;
    uint64_t before = v->read;
    const char *page = walk_view(walk, 0, LOG_SEGMENT_HEADER_BYTES, &result);
    if (page == NULL)
        return verify_unreadable(v, 0, result);
    const char *wrong = log_rewritten_header_check(page, &v->segments[index], walk->seed, &header);
    if (wrong != NULL)
        return verify_fault(v, 0, NULL, "it %s", wrong);
    result = check_zeros(v, walk, USED, LOG_SEGMENT_HEADER_BYTES, "the header is damaged");
    if (result == 0)
        result = load_extents(v, walk, &header, &extents);
    for (uint32_t i = 0; i < header.extents_n && result == 0; i++) {
        uint64_t end = i + 1 < header.extents_n ? extents[i + 1].at : header.extents_offset;
        result =
            walk_run(v, v->segments[index].number, walk, extents[i].offset, extents[i].at, end);
    }
    free(extents);
    if (result == 0)
        verify_progress(v, walk->bytes - (v->read - before));
    return result;
}

/* Logs. */

/* Whether some segment between the two has been dropped. */
static bool is_any_absent(const struct verify *v, uint32_t after, uint32_t before)
{
    for (uint32_t number = after + 1; number < before; number++) {
        if (manifest_find_segment(&v->manifest, number) == NULL)
            return true;
    }
    return false;
}

static int walk_segment(struct log_walk *log, size_t index)
{
    struct verify *v = log->v;
    struct datadir_segment segment = v->segments[index];
    struct walk walk;
    datadir_segment_name(&segment, v->name);
    if (v->missing[index] || segment.version != 0 || is_any_absent(v, log->before, segment.number))
        log->gap = true;
    log->before = segment.number;
    if (v->missing[index])
        return 0;
    segment.fd = v->fs->ops->open(v->fs, v->name, FS_READ);
    if (segment.fd < 0)
        return verify_unreadable(v, 0, segment.fd);
    walk_begin(&walk, v->fs, &segment, v->manifest.hash_key);
    int result =
        segment.version == 0 ? walk_plain(log, index, &walk) : walk_rewritten(v, index, &walk);
    walk_end(&walk);
    v->fs->ops->close(v->fs, segment.fd);
    return result;
}

/* Where the end is not known: the last segment that begins with a whole batch, else the first. */
static int find_last_begun(struct log_walk *log)
{
    struct verify *v = log->v;
    int found = 0;
    log->last_begun = log->first;
    for (size_t i = log->first + log->count; i-- > log->first && found == 0;) {
        struct datadir_segment segment = v->segments[i];
        struct log_batch_header header = {0};
        const char *batch = NULL;
        struct walk walk;
        if (segment.version != 0 || v->missing[i])
            continue;
        datadir_segment_name(&segment, v->name);
        segment.fd = v->fs->ops->open(v->fs, v->name, FS_READ);
        if (segment.fd < 0)
            return verify_unreadable(v, 0, segment.fd);
        walk_begin(&walk, v->fs, &segment, v->manifest.hash_key);
        found = walk_batch(&walk, LOG_SEGMENT_HEADER_BYTES, &header, &batch);
        walk_end(&walk);
        v->fs->ops->close(v->fs, segment.fd);
        if (found == 1)
            log->last_begun = i;
    }
    return found < 0 ? verify_unreadable(v, LOG_SEGMENT_HEADER_BYTES, found) : 0;
}

/* The log has been walked: has its end been seen, where it is known? */
static int check_end(struct log_walk *log)
{
    struct verify *v = log->v;
    if (log->end != NULL && log->end->end.batch > log->batch && !log->ended && !v->gaps)
        return verify_fault(v, log->end->end.offset, NULL,
                            "the log should go on to batch %" PRIu64 ", but ends behind batch "
                            "%" PRIu64,
                            log->end->end.batch, log->batch);
    return come_by_checkpoint(log);
}

static int walk_log(struct verify *v, size_t first, size_t count)
{
    const struct datadir_segment *any = &v->segments[first];
    struct log_walk log = {
        .v = v,
        .first = first,
        .count = count,
        .end = manifest_find_end(&v->manifest, any->generation, any->shard),
        .checkpoint = manifest_find_checkpoint(&v->manifest, any->generation, any->shard),
    };
    int result = log.end == NULL ? find_last_begun(&log) : 0;
    for (size_t i = first; i < first + count && result == 0; i++)
        result = walk_segment(&log, i);
    return result == 0 ? check_end(&log) : result;
}

/* Checkpoints of logs that have no segment. */
static int come_by_others(struct verify *v)
{
    const struct manifest *m = &v->manifest;
    int result = 0;
    for (size_t i = 0; i < m->checkpoint_count && result == 0 && v->at_checkpoint != NULL; i++) {
        const struct manifest_checkpoint *checkpoint = &m->checkpoints[i];
        bool has_log = false;
        for (size_t s = 0; s < m->segment_count; s++)
            has_log = has_log || (m->segments[s].generation == checkpoint->generation &&
                                  m->segments[s].shard == checkpoint->shard);
        if (!has_log)
            result = v->at_checkpoint(v, checkpoint);
    }
    return result;
}

int verify_files_walk(struct verify *v)
{
    size_t all = v->manifest.segment_count;
    int result = 0;
    for (size_t first = 0, count; first < all && result == 0; first += count) {
        const struct datadir_segment *any = &v->segments[first];
        for (count = 1; first + count < all; count++) {
            const struct datadir_segment *s = &v->segments[first + count];
            if (s->generation != any->generation || s->shard != any->shard)
                break;
        }
        result = walk_log(v, first, count);
    }
    return result == 0 ? come_by_others(v) : result;
}
