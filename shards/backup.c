/*
 * backup: copies a data directory to another one while a server goes on writing to it.
 *
 * Files. The manifest is read, then every file it names is opened, then the manifest is read again:
 * if it is another one by now, all of that is done anew. So the files are those of one manifest,
 * and stay readable however the directory changes from then on. A rewritten segment has a name of
 * its own, no file but the ends of the newest logs is ever written to again, and so no compaction
 * can get half of what it has done into the copy.
 *
 * The cut: where the copy of each log of the newest generation ends. Each log alone may be cut
 * behind any whole batch: a crash could have left that. But what one log says can rely on what
 * stands in another one: a fork's first record (a snapshot with one event) on the pin in its
 * parent's log, the end of a pin on the tombstone in its fork's log. Let B be such a record, and A
 * the one it relies on, which was committed before B was decided.
 *
 *   Round 1 walks every log to where it ends then: E1, found at some moment before T1, when the
 *   round is over. Round 2 walks every log from E1 to where it ends after T1: E2, the cut. If no B
 *   lies between E1 and E2 in any log, every B within the cut lies before E1 of its log. So it had
 *   been committed before T1, and A before that. As E2 was looked for after T1, A lies within the
 *   cut. If there is such a B, E2 becomes E1 and there is another round; rounds are soon so short
 *   that nothing happens in them.
 *
 *   A log could have gone on in a segment made after the manifest was read. Segments are in the
 *   manifest before anything is in them: so the manifest is read once more after the last round,
 *   and if it has changed everything begins anew (from the ends found so far, which is quick).
 *
 * Copying. Segments before the cut whole, those it lies in up to it and zeros behind, later ones
 * not at all; the checkpoints, which were made before the cut. What the copy's manifest says of its
 * state is what the source's said: open (a start on it finds the ends as after a crash), or clean.
 * Whoever has seen the source beyond the cut must not take what the copy goes on with for the same:
 * the incarnation goes up by one, so that all epochs have another name.
 *
 * The manifest comes last, when everything else is on the disk. Failure: whatever goes wrong before
 * leaves files without a manifest, in which no start and no verification sees a data directory.
 */
#include "shards/backup.h"
#include "shards/walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TRIES_MAX = 1000,
    ROUNDS_MAX = 1000,
    PAUSE_MS = 5, /* before another try */
    COPY_BYTES = 1 << 20,
    AGAIN = 1, /* the directory has changed: anew */
};

/* A log of the newest generation: how far it has been walked. */
struct log_cut {
    struct datadir_end end;
    size_t index; /* of end's segment in the manifest; SIZE_MAX: it is not there, or rewritten */
};

struct backup {
    struct fs *from;
    struct fs *to;
    struct manifest manifest; /* its segments' fds are open */
    struct buf text;          /* the manifest as it was read */
    int *checkpoints;         /* open files, as in the manifest */
    struct log_cut cuts[DATADIR_SHARDS_MAX];
    uint32_t cuts_generation; /* that they are of; 0: of none */
    bool relies;              /* this round has seen a record that relies on another log */
    struct backup_report *report;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 5, 6))) static int
refuse(struct backup *b, const struct fs *fs, const char *name, int result, const char *format, ...)
{
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    const char *slash = name[0] != 0 ? "/" : "";
    snprintf(b->error, b->error_size, "%s%s%s %s", fs->path, slash, name, what);
    return result;
}

/* Files of one manifest. */

static void close_files(struct backup *b)
{
    for (size_t i = 0; i < b->manifest.segment_count; i++) {
        if (b->manifest.segments[i].fd >= 0)
            b->from->ops->close(b->from, b->manifest.segments[i].fd);
    }
    for (size_t i = 0; b->checkpoints != NULL && i < b->manifest.checkpoint_count; i++) {
        if (b->checkpoints[i] >= 0)
            b->from->ops->close(b->from, b->checkpoints[i]);
    }
    free(b->checkpoints);
    b->checkpoints = NULL;
    manifest_free(&b->manifest);
    b->manifest = (struct manifest){0};
    buf_free(&b->text);
    b->text = (struct buf){0};
}

/* AGAIN where the manifest is not the one that was read, else 0 or -errno. */
static int look_again(struct backup *b)
{
    struct buf text = {0};
    struct manifest manifest = {0};
    int result = walk_read_manifest(b->from, &text, &manifest, b->error, b->error_size);
    if (result == 0 && (text.n != b->text.n || memcmp(text.p, b->text.p, text.n) != 0))
        result = AGAIN;
    manifest_free(&manifest);
    buf_free(&text);
    return result;
}

/* 0 and *file; AGAIN where the file has gone with the manifest that named it; -errno. */
static int open_named(struct backup *b, const char *name, uint64_t bytes, int *file)
{
    *file = b->from->ops->open(b->from, name, FS_READ);
    if (*file == -ENOENT) {
        int result = look_again(b);
        return result != 0
                   ? result
                   : refuse(b, b->from, name, -ENOENT, "is missing, but the manifest names it");
    }
    if (*file < 0)
        return refuse(b, b->from, name, *file, "cannot be opened: %s", strerror(-*file));
    int64_t size = b->from->ops->size(b->from, *file);
    if (size < 0)
        return refuse(b, b->from, name, (int)size, "cannot be read: %s", strerror((int)-size));
    if ((uint64_t)size != bytes)
        return refuse(b, b->from, name, -EIO,
                      "has %" PRId64 " bytes, but the manifest says %" PRIu64, size, bytes);
    return 0;
}

static int open_files(struct backup *b)
{
    struct manifest *m = &b->manifest;
    char name[DATADIR_NAME_BYTES];
    int result = walk_read_manifest(b->from, &b->text, m, b->error, b->error_size);
    if (result != 0)
        return result;
    b->checkpoints = mem_alloc((m->checkpoint_count + 1) * sizeof(b->checkpoints[0]));
    for (size_t i = 0; i < m->checkpoint_count; i++)
        b->checkpoints[i] = -1;
    for (size_t i = 0; i < m->segment_count && result == 0; i++) {
        datadir_segment_name(&m->segments[i], name);
        result = open_named(b, name, m->segments[i].bytes, &m->segments[i].fd);
    }
    for (size_t i = 0; i < m->checkpoint_count && result == 0; i++) {
        const struct datadir_checkpoint *checkpoint = &m->checkpoints[i].checkpoint;
        datadir_checkpoint_name(checkpoint->number, name);
        result = open_named(b, name, checkpoint->bytes, &b->checkpoints[i]);
    }
    return result == 0 ? look_again(b) : result;
}

/* The cut. */

static bool is_of(const struct backup *b, const struct datadir_segment *segment, uint32_t shard)
{
    return segment->generation == b->manifest.generation && segment->shard == shard;
}

/* Where to begin: behind the checkpoint, or where an earlier try has come to. */
static void begin_cut(struct backup *b, uint32_t shard)
{
    struct manifest *m = &b->manifest;
    struct log_cut *cut = &b->cuts[shard];
    const struct manifest_checkpoint *checkpoint =
        manifest_find_checkpoint(m, m->generation, shard);
    const struct manifest_end *end = manifest_find_end(m, m->generation, shard);
    if (b->cuts_generation != m->generation)
        cut->end = (struct datadir_end){0};
    if (checkpoint != NULL && checkpoint->checkpoint.from.batch >= cut->end.batch)
        cut->end = checkpoint->checkpoint.from;
    if (end != NULL)
        cut->end = end->end;
    cut->index = SIZE_MAX;
    const struct datadir_segment *segment = manifest_find_segment(m, cut->end.segment);
    if (segment != NULL && segment->version == 0)
        cut->index = (size_t)(segment - m->segments);
}

static void note_records(struct backup *b, const struct log_batch_header *header, const char *batch)
{
    struct log_record record;
    size_t bytes;
    for (size_t at = sizeof(*header); at < header->bytes; at += bytes) {
        if (!log_record_parse(batch + at, header->bytes - at, &record, &bytes))
            return;
        if (record.type == LOG_RECORD_PIN || record.type == LOG_RECORD_UNPIN ||
            (record.type == LOG_RECORD_SNAPSHOT && record.events != 0))
            b->relies = true;
    }
}

/* Batches of one segment, from where the cut is. */
static int walk_segment(struct backup *b, struct log_cut *cut)
{
    const struct datadir_segment *segment = &b->manifest.segments[cut->index];
    struct log_batch_header header = {0};
    const char *batch = NULL;
    struct walk walk;
    int result;
    walk_begin(&walk, b->from, segment, b->manifest.hash_key);
    while ((result = walk_batch(&walk, cut->end.offset, &header, &batch)) == 1 &&
           header.number == cut->end.batch + 1) {
        note_records(b, &header, batch);
        cut->end.segment = segment->number;
        cut->end.offset += header.bytes;
        cut->end.batch = header.number;
    }
    walk_end(&walk);
    return result < 0 ? result : 0;
}

/* To the segment that begins with the next batch: 1, 0 where there is none, -errno. */
static int next_segment(struct backup *b, uint32_t shard, struct log_cut *cut)
{
    for (size_t i = 0; i < b->manifest.segment_count; i++) {
        const struct datadir_segment *segment = &b->manifest.segments[i];
        struct log_batch_header header = {0};
        const char *batch = NULL;
        struct walk walk;
        if (!is_of(b, segment, shard) || segment->version != 0 ||
            segment->number <= cut->end.segment)
            continue;
        walk_begin(&walk, b->from, segment, b->manifest.hash_key);
        int found = walk_batch(&walk, LOG_SEGMENT_HEADER_BYTES, &header, &batch);
        walk_end(&walk);
        if (found < 0)
            return found;
        if (found == 1 && header.number == cut->end.batch + 1) {
            cut->index = i;
            cut->end.offset = LOG_SEGMENT_HEADER_BYTES;
            return 1;
        }
    }
    return 0;
}

static int walk_log(struct backup *b, uint32_t shard)
{
    struct log_cut *cut = &b->cuts[shard];
    int more = 1;
    while (more == 1) {
        more = cut->index != SIZE_MAX ? walk_segment(b, cut) : 0;
        if (more == 0)
            more = next_segment(b, shard, cut);
    }
    if (more < 0)
        return refuse(b, b->from, "", more, "cannot be read (the log of shard %" PRIu32 "): %s",
                      shard, strerror(-more));
    return 0;
}

static int walk_logs(struct backup *b)
{
    int result = 0;
    for (uint32_t shard = 0; shard < b->manifest.shards && result == 0; shard++)
        result = walk_log(b, shard);
    return result;
}

/* 0: all cuts are made, and consistent with each other. */
static int make_cut(struct backup *b)
{
    for (uint32_t shard = 0; shard < b->manifest.shards; shard++)
        begin_cut(b, shard);
    b->cuts_generation = b->manifest.generation;
    if (b->manifest.clean)
        return 0;
    int result = walk_logs(b);
    b->relies = result == 0;
    for (unsigned round = 0; round < ROUNDS_MAX && b->relies && result == 0; round++) {
        b->relies = false;
        result = walk_logs(b);
    }
    if (result == 0 && b->relies)
        return refuse(b, b->from, "", -EAGAIN,
                      "has forks made all the time: no moment was found between them");
    return result == 0 ? look_again(b) : result;
}

static int open_and_cut(struct backup *b)
{
    int result = AGAIN;
    for (unsigned tries = 0; tries < TRIES_MAX && result == AGAIN; tries++) {
        close_files(b);
        if (tries != 0) {
            b->from->ops->pause_ms(b->from, PAUSE_MS);
            b->report->starts_over++;
        }
        result = open_files(b);
        if (result == 0)
            result = make_cut(b);
    }
    if (result == AGAIN)
        return refuse(b, b->from, "", -EAGAIN, "changes all the time: no moment was found");
    return result;
}

/* Copying. */

/* Whether the segment is in the copy at all, and how many of its bytes are. */
static bool is_copied(const struct backup *b, const struct datadir_segment *segment,
                      uint64_t *bytes)
{
    *bytes = segment->bytes;
    if (segment->generation != b->manifest.generation || segment->version != 0)
        return true;
    const struct datadir_end *end = &b->cuts[segment->shard].end;
    if (segment->number == end->segment)
        *bytes = end->offset;
    return segment->number <= end->segment;
}

static int copy_bytes(struct backup *b, const char *name, int source, int copy, uint64_t bytes)
{
    char *piece = mem_alloc(COPY_BYTES);
    int result = 0;
    for (uint64_t at = 0; at < bytes && result == 0;) {
        size_t n = bytes - at < COPY_BYTES ? (size_t)(bytes - at) : COPY_BYTES;
        int64_t got = b->from->ops->read(b->from, source, piece, n, at);
        if (got != (int64_t)n) {
            result = got < 0 ? (int)got : -EIO;
            refuse(b, b->from, name, result, "cannot be read at offset %" PRIu64 ": %s", at,
                   strerror(-result));
            break;
        }
        result = b->to->ops->write(b->to, copy, piece, n, at);
        if (result == 0)
            result = b->to->ops->write_out(b->to, copy, at, n); /* no long queue at the end */
        if (result < 0)
            refuse(b, b->to, name, result, "cannot be written: %s", strerror(-result));
        at += n;
    }
    free(piece);
    b->report->bytes += result == 0 ? bytes : 0;
    return result;
}

/* The first `bytes` of the source; zeros behind, up to `size`. */
static int copy_file(struct backup *b, const char *name, int source, uint64_t bytes, uint64_t size)
{
    int copy = b->to->ops->open(b->to, name, FS_CREATE);
    if (copy < 0)
        return refuse(b, b->to, name, copy, "cannot be made: %s", strerror(-copy));
    int result = copy_bytes(b, name, source, copy, bytes);
    if (result == 0) {
        if (bytes != size)
            result = b->to->ops->truncate(b->to, copy, size);
        if (result == 0)
            result = b->to->ops->sync(b->to, copy);
        if (result < 0)
            refuse(b, b->to, name, result, "cannot be written: %s", strerror(-result));
    }
    b->to->ops->close(b->to, copy);
    return result;
}

static int copy_files(struct backup *b)
{
    const struct manifest *m = &b->manifest;
    char name[DATADIR_NAME_BYTES];
    int result = 0;
    for (size_t i = 0; i < m->segment_count && result == 0; i++) {
        uint64_t bytes;
        if (!is_copied(b, &m->segments[i], &bytes))
            continue;
        datadir_segment_name(&m->segments[i], name);
        result = copy_file(b, name, m->segments[i].fd, bytes, m->segments[i].bytes);
        b->report->segments++;
    }
    for (size_t i = 0; i < m->checkpoint_count && result == 0; i++) {
        uint64_t bytes = m->checkpoints[i].checkpoint.bytes;
        datadir_checkpoint_name(m->checkpoints[i].checkpoint.number, name);
        result = copy_file(b, name, b->checkpoints[i], bytes, bytes);
        b->report->checkpoints++;
    }
    if (result == 0) {
        result = b->to->ops->sync_directory(b->to);
        if (result < 0)
            refuse(b, b->to, "", result, "cannot be synced: %s", strerror(-result));
    }
    return result;
}

/* The manifest of the copy. */

static void format_manifest(const struct backup *b, struct buf *text)
{
    struct manifest copy = {0};
    manifest_copy(&b->manifest, &copy);
    for (size_t i = 0; i < b->manifest.segment_count; i++) {
        uint64_t bytes;
        if (!is_copied(b, &b->manifest.segments[i], &bytes))
            manifest_drop_segment(&copy, b->manifest.segments[i].number);
    }
    copy.incarnation++;
    copy.relaxed = false; /* all of it has been synced */
    manifest_format(&copy, text);
    manifest_free(&copy);
}

static int write_manifest(struct backup *b)
{
    struct buf text = {0};
    format_manifest(b, &text);
    int file = b->to->ops->open(b->to, MANIFEST_SPARE_NAME, FS_CREATE);
    int result = file < 0 ? file : b->to->ops->write(b->to, file, text.p, text.n, 0);
    if (result == 0)
        result = b->to->ops->sync(b->to, file);
    if (file >= 0)
        b->to->ops->close(b->to, file);
    if (result == 0)
        result = b->to->ops->rename(b->to, MANIFEST_SPARE_NAME, MANIFEST_NAME);
    if (result == 0 && (result = b->to->ops->sync_directory(b->to)) < 0)
        (void)b->to->ops->remove(b->to, MANIFEST_NAME);
    buf_free(&text);
    if (result < 0)
        return refuse(b, b->to, MANIFEST_NAME, result, "cannot be written: %s", strerror(-result));
    return 0;
}

static int find_any(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "lost+found") != 0;
}

static int check_empty(struct backup *b)
{
    int found = b->to->ops->list(b->to, find_any, NULL);
    if (found < 0)
        return refuse(b, b->to, "", found, "cannot be listed: %s", strerror(-found));
    if (found != 0)
        return refuse(b, b->to, "", -ENOTEMPTY,
                      "is not empty: a backup needs a directory of its own");
    return 0;
}

int backup_run(struct fs *from, struct fs *to, struct backup_report *report, char *error,
               size_t error_size)
{
    struct backup *b = mem_zeroed(1, sizeof(*b));
    *report = (struct backup_report){0};
    b->from = from;
    b->to = to;
    b->report = report;
    b->error = error;
    b->error_size = error_size;
    int result = check_empty(b);
    if (result == 0)
        result = open_and_cut(b);
    if (result == 0)
        result = copy_files(b);
    if (result == 0)
        result = write_manifest(b);
    close_files(b);
    free(b);
    return result;
}
