/*
 * datadir_change: what changes the data directory while it is open: segments made, rewritten and
 * dropped, checkpoints, a generation's beginning.
 *
 * Normal path, each time: the files first, synced, and their names; then the manifest that names
 * them (written under another name, synced, renamed, its name synced); then the files that it does
 * not name any more are removed. So a crash on the way leaves at most files that the manifest does
 * not name, and the next start removes them.
 *
 * Failure: before the manifest is in its place, what was made is removed, and everything is as it
 * was. After that (the sync of its name has failed) nothing is removed: which manifest a crash
 * would leave is not known, so all the files either of them names have to be there.
 */
#include "shards/datadir_internal.h"
#include "shards/log_format.h"
#include "shards/sim_bug.h"

#include <errno.h>
#include <stdlib.h>

enum {
    ZEROS_BYTES = 128 << 10,          /* of a new segment, written in one go */
    MANIFEST_SPARE_BYTES = 16 * 1024, /* beside twice what the present one needs */
};

/* The manifest's file. */

static int open_or_create(struct fs *fs, const char *name)
{
    int fd = fs->ops->open(fs, name, FS_WRITE);
    return fd == -ENOENT ? fs->ops->open(fs, name, FS_CREATE) : fd;
}

/*
 * Room for the next manifest is taken beforehand: a disk that is full must not keep a start, a stop
 * or a new generation from saying so. Where there is none left, the next manifest has to find it.
 */
static void keep_spare_manifest(struct fs *fs, size_t text_bytes)
{
    int fd = open_or_create(fs, MANIFEST_SPARE_NAME);
    if (fd >= 0) {
        (void)fs->ops->allocate(fs, fd, text_bytes * 2 + MANIFEST_SPARE_BYTES);
        fs->ops->close(fs, fd);
    }
}

/* Written over what the file holds, into the room it has, and cut to its length after. */
static int write_text(struct fs *fs, const struct buf *text)
{
    int fd = open_or_create(fs, MANIFEST_SPARE_NAME);
    if (fd < 0)
        return fd;
    int result = fs->ops->write(fs, fd, text->p, text->n, 0);
    if (result == 0)
        result = fs->ops->truncate(fs, fd, text->n);
    if (result == 0)
        result = fs->ops->sync(fs, fd);
    fs->ops->close(fs, fd);
    return result;
}

/* *placed: whether it may have taken the old one's place. */
static int write_manifest(struct fs *fs, const struct manifest *manifest, bool *placed)
{
    struct buf text = {0};
    *placed = false;
    manifest_format(manifest, &text);
    int result = write_text(fs, &text);
    if (result == 0) {
        *placed = true;
        result = fs->ops->rename(fs, MANIFEST_SPARE_NAME, MANIFEST_NAME);
        if (result == 0 && !sim_bug(SIM_BUG_NO_DIRECTORY_SYNC))
            result = fs->ops->sync_directory(fs);
    }
    keep_spare_manifest(fs, text.n);
    buf_free(&text);
    return result;
}

int datadir_replace_manifest(struct datadir *dir, struct manifest *next, bool *placed)
{
    int result = write_manifest(dir->fs, next, placed);
    if (!*placed) {
        manifest_free(next);
        return result;
    }
    pthread_mutex_lock(&dir->locks->known);
    struct manifest before = dir->manifest;
    dir->manifest = *next;
    pthread_mutex_unlock(&dir->locks->known);
    manifest_free(&before);
    atomic_store_explicit(&dir->bytes, manifest_bytes(next), memory_order_relaxed);
    *next = (struct manifest){0};
    return result;
}

/* Begins a change: `next` is the manifest to be changed. end_change writes it. */
static void begin_change(struct datadir *dir, struct manifest *next)
{
    assert(!dir->read_only);
    pthread_mutex_lock(&dir->locks->changing);
    manifest_copy(&dir->manifest, next);
}

static void cancel_change(struct datadir *dir, struct manifest *next)
{
    pthread_mutex_unlock(&dir->locks->changing);
    manifest_free(next);
}

static int end_change(struct datadir *dir, struct manifest *next, bool *placed)
{
    int result = datadir_replace_manifest(dir, next, placed);
    pthread_mutex_unlock(&dir->locks->changing);
    return result;
}

/* A file that is not removed is a left-over, for the next start. */
static void remove_segment(struct datadir *dir, const struct datadir_segment *segment)
{
    char name[DATADIR_NAME_BYTES];
    datadir_segment_name(segment, name);
    (void)dir->fs->ops->remove(dir->fs, name);
}

static void remove_checkpoint(struct datadir *dir, uint32_t number)
{
    char name[DATADIR_NAME_BYTES];
    datadir_checkpoint_name(number, name);
    (void)dir->fs->ops->remove(dir->fs, name);
}

static int sync_file_and_name(struct datadir *dir, int fd)
{
    int result = dir->fs->ops->sync(dir->fs, fd);
    return result == 0 ? dir->fs->ops->sync_directory(dir->fs) : result;
}

/* New segments. */

/* All of the file: its header, zeros behind. `zeros` is ZEROS_BYTES of working memory. */
static int write_zeros(struct datadir *dir, const struct datadir_segment *segment, int fd,
                       char *zeros, bool direct)
{
    struct fs *fs = dir->fs;
    int result = 0;
    memset(zeros, 0, ZEROS_BYTES);
    log_segment_header_write(segment, log_segment_seed(dir->hash_key, segment->number), zeros);
    for (uint64_t at = 0; at < segment->bytes && result == 0;) {
        uint64_t left = segment->bytes - at;
        size_t n = left < ZEROS_BYTES ? (size_t)left : ZEROS_BYTES;
        result = fs->ops->write(fs, fd, zeros, n, at);
        if (result == 0 && !direct)
            result = fs->ops->write_out(fs, fd, at, n);
        if (at == 0)
            memset(zeros, 0, LOG_SEGMENT_HEADER_BYTES);
        at += n;
    }
    return result;
}

/*
 * Written in steps, each of which is on its way to the disk before the next: a queue of some
 * hundred writes would stand between a commit and its disk. Past the page cache where that can be:
 * what is there to be overwritten need not be copied, nor kept in memory.
 */
static int write_segment(struct datadir *dir, const struct datadir_segment *segment)
{
    struct fs *fs = dir->fs;
    int result = fs->ops->allocate(fs, segment->fd, segment->bytes);
    if (result != 0 && result != -EOPNOTSUPP)
        return result;
    char *zeros = mem_alloc_aligned(IO_BLOCK_BYTES, ZEROS_BYTES);
    int direct = datadir_open_direct(dir, segment);
    result = direct < 0 ? direct : write_zeros(dir, segment, direct, zeros, true);
    if (direct >= 0)
        datadir_close_direct(dir, direct);
    if (direct < 0 || result == -EINVAL || result == -EOPNOTSUPP)
        result = write_zeros(dir, segment, segment->fd, zeros, false);
    free(zeros);
    return result == 0 ? sync_file_and_name(dir, segment->fd) : result;
}

int datadir_open_direct(struct datadir *dir, const struct datadir_segment *segment)
{
    char name[DATADIR_NAME_BYTES];
    datadir_segment_name(segment, name);
    return dir->fs->ops->open(dir->fs, name, FS_DIRECT);
}

bool datadir_can_direct(struct datadir *dir, const struct datadir_segment *segment, uint64_t end)
{
    uint64_t at = (end + IO_BLOCK_BYTES - 1) / IO_BLOCK_BYTES * IO_BLOCK_BYTES;
    int fd = at < segment->bytes ? datadir_open_direct(dir, segment) : -EINVAL;
    if (fd < 0)
        return false;
    char *zeros = mem_alloc_aligned(IO_BLOCK_BYTES, IO_BLOCK_BYTES);
    memset(zeros, 0, IO_BLOCK_BYTES);
    bool can = dir->fs->ops->write(dir->fs, fd, zeros, IO_BLOCK_BYTES, at) == 0;
    free(zeros);
    datadir_close_direct(dir, fd);
    return can;
}

void datadir_close_direct(struct datadir *dir, int fd)
{
    dir->fs->ops->close(dir->fs, fd);
}

static int take_number(struct datadir *dir, uint32_t *number)
{
    int result = 0;
    pthread_mutex_lock(&dir->locks->changing);
    if (dir->manifest.next_segment == MANIFEST_SEGMENTS_MAX)
        result = -ENOSPC;
    else
        *number = dir->manifest.next_segment++;
    pthread_mutex_unlock(&dir->locks->changing);
    return result;
}

/* Makes the file and puts it into the manifest. *placed: as from write_manifest. */
static int make_segment(struct datadir *dir, const struct datadir_segment *segment, bool *placed)
{
    struct manifest next;
    struct datadir_file *file;
    char what[64];
    int result = write_segment(dir, segment);
    if (result == 0)
        result = datadir_load_file(dir, segment, &file, what, sizeof(what));
    if (result != 0)
        return result;
    begin_change(dir, &next);
    manifest_add_segment(&next, segment);
    result = end_change(dir, &next, placed);
    if (*placed)
        datadir_put_file(dir, file);
    else
        free(file); /* the fd is still the caller's */
    return result;
}

int datadir_add_segment(struct datadir *dir, uint32_t shard, struct datadir_segment *added)
{
    struct fs *fs = dir->fs;
    char name[DATADIR_NAME_BYTES];
    struct datadir_segment segment = {
        .generation = dir->generation, .shard = shard, .bytes = dir->segment_bytes};
    assert(!dir->read_only && dir->begun && shard < dir->shards);
    int result = take_number(dir, &segment.number);
    if (result != 0)
        return result;
    datadir_segment_name(&segment, name);
    segment.fd = fs->ops->open(fs, name, FS_CREATE);
    if (segment.fd < 0)
        return segment.fd;
    bool placed = false;
    result = make_segment(dir, &segment, &placed);
    if (!placed) {
        fs->ops->close(fs, segment.fd);
        remove_segment(dir, &segment);
        return result;
    }
    *added = segment;
    return result;
}

/* Rewritten segments. */

static bool get_segment(struct datadir *dir, uint32_t number, struct datadir_segment *segment)
{
    pthread_mutex_lock(&dir->locks->known);
    const struct datadir_segment *found = manifest_find_segment(&dir->manifest, number);
    if (found != NULL)
        *segment = *found;
    pthread_mutex_unlock(&dir->locks->known);
    return found != NULL;
}

/* One at a time for each segment: false where another has begun. */
static bool begin_rewriting(struct datadir *dir, uint32_t number)
{
    uint32_t *free_place = NULL;
    bool begun = false;
    pthread_mutex_lock(&dir->locks->files);
    for (size_t i = 0; i < DATADIR_SHARDS_MAX; i++) {
        begun = begun || dir->rewriting[i] == number;
        if (dir->rewriting[i] == 0)
            free_place = &dir->rewriting[i];
    }
    if (!begun && free_place != NULL)
        *free_place = number;
    pthread_mutex_unlock(&dir->locks->files);
    return !begun && free_place != NULL;
}

static void end_rewriting(struct datadir *dir, uint32_t number)
{
    pthread_mutex_lock(&dir->locks->files);
    for (size_t i = 0; i < DATADIR_SHARDS_MAX; i++) {
        if (dir->rewriting[i] == number)
            dir->rewriting[i] = 0;
    }
    pthread_mutex_unlock(&dir->locks->files);
}

int datadir_begin_rewrite(struct datadir *dir, uint32_t number, struct datadir_segment *rewritten)
{
    struct fs *fs = dir->fs;
    struct datadir_segment segment;
    char name[DATADIR_NAME_BYTES];
    assert(!dir->read_only);
    if (!get_segment(dir, number, &segment))
        return -ENOENT;
    if (!begin_rewriting(dir, number))
        return -EEXIST;
    segment.version++;
    segment.bytes = 0;
    datadir_segment_name(&segment, name);
    segment.fd = fs->ops->open(fs, name, FS_CREATE);
    if (segment.fd == -EEXIST) { /* an abandoned one that could not be removed */
        (void)fs->ops->remove(fs, name);
        segment.fd = fs->ops->open(fs, name, FS_CREATE);
    }
    if (segment.fd < 0) {
        end_rewriting(dir, number);
        return segment.fd;
    }
    *rewritten = segment;
    return 0;
}

void datadir_abandon_rewrite(struct datadir *dir, const struct datadir_segment *rewritten)
{
    end_rewriting(dir, rewritten->number);
    dir->fs->ops->close(dir->fs, rewritten->fd);
    remove_segment(dir, rewritten);
}

/* Puts it into the manifest in the place of its version before. */
static int enter_rewritten(struct datadir *dir, const struct datadir_segment *rewritten,
                           bool *placed)
{
    struct manifest next;
    begin_change(dir, &next);
    struct datadir_segment *segment = manifest_find_segment(&next, rewritten->number);
    if (segment == NULL || segment->version + 1 != rewritten->version) {
        cancel_change(dir, &next);
        return -ENOENT; /* dropped meanwhile */
    }
    *segment = *rewritten;
    return end_change(dir, &next, placed);
}

/* Reads it back as the next start would: what cannot be read then must not replace anything. */
static int load_rewritten(struct datadir *dir, struct datadir_segment *segment,
                          struct datadir_file **file)
{
    char what[128];
    int64_t size = dir->fs->ops->size(dir->fs, segment->fd);
    if (size < 0)
        return (int)size;
    segment->bytes = (uint64_t)size;
    return datadir_load_file(dir, segment, file, what, sizeof(what));
}

static int finish_rewrite(struct datadir *dir, const struct datadir_segment *rewritten,
                          struct datadir_extent *extents, uint32_t extents_n)
{
    struct datadir_segment segment = *rewritten, before = *rewritten;
    struct datadir_file *file;
    bool placed = false;
    int result = load_rewritten(dir, &segment, &file);
    if (result != 0) {
        free(extents);
        datadir_abandon_rewrite(dir, rewritten);
        return result;
    }
    assert(file->extents_n == extents_n); /* the table in the file is the caller's */
    free(extents);
    before.version--;
    if (sim_bug(SIM_BUG_EARLY_UNLINK))
        remove_segment(dir, &before);
    result = sync_file_and_name(dir, segment.fd);
    if (result == 0)
        result = enter_rewritten(dir, &segment, &placed);
    if (!placed) {
        datadir_free_file(dir, file);
        remove_segment(dir, rewritten);
        return result;
    }
    datadir_put_file(dir, file);
    if (result == 0)
        remove_segment(dir, &before);
    return result;
}

int datadir_finish_rewrite(struct datadir *dir, const struct datadir_segment *rewritten,
                           struct datadir_extent *extents, uint32_t extents_n)
{
    int result = finish_rewrite(dir, rewritten, extents, extents_n);
    end_rewriting(dir, rewritten->number);
    return result;
}

/* Dropped segments. */

static bool has_segments(const struct manifest *m, uint32_t generation, uint32_t shard)
{
    for (size_t i = 0; i < m->segment_count; i++) {
        if (m->segments[i].generation == generation && m->segments[i].shard == shard)
            return true;
    }
    return false;
}

/* Where a log of an older generation has ended is of no use when nothing of it is left. */
static void drop_useless_ends(struct manifest *m)
{
    for (size_t i = m->end_count; i-- > 0;) {
        const struct manifest_end *e = &m->ends[i];
        if (e->generation < m->generation && !has_segments(m, e->generation, e->shard))
            manifest_drop_end(m, e->generation, e->shard);
    }
}

/* They are out of the manifest. */
static void discard_segments(struct datadir *dir, const struct datadir_segment *segments, size_t n,
                             bool durable)
{
    for (size_t i = 0; i < n; i++) {
        datadir_drop_file(dir, segments[i].number);
        if (durable)
            remove_segment(dir, &segments[i]);
    }
}

/* Takes them out of `m`, into `dropped`; how many there were. */
static size_t take_segments(struct manifest *m, const uint32_t *numbers, size_t n,
                            struct datadir_segment *dropped)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const struct datadir_segment *segment = manifest_find_segment(m, numbers[i]);
        if (segment != NULL) {
            dropped[count++] = *segment;
            manifest_drop_segment(m, numbers[i]);
        }
    }
    drop_useless_ends(m);
    return count;
}

int datadir_drop_segments(struct datadir *dir, const uint32_t *numbers, size_t n)
{
    struct manifest next;
    bool placed = false;
    int result = 0;
    struct datadir_segment *dropped = mem_alloc(n * sizeof(dropped[0]));
    begin_change(dir, &next);
    size_t count = take_segments(&next, numbers, n, dropped);
    if (count != 0)
        result = end_change(dir, &next, &placed);
    else
        cancel_change(dir, &next);
    if (placed)
        discard_segments(dir, dropped, count, result == 0);
    free(dropped);
    return result;
}

/* Checkpoints. */

int datadir_begin_checkpoint(struct datadir *dir, uint32_t *number, int *fd)
{
    char name[DATADIR_NAME_BYTES];
    assert(!dir->read_only);
    pthread_mutex_lock(&dir->locks->changing);
    bool left = dir->next_checkpoint != UINT32_MAX;
    uint32_t next = left ? dir->next_checkpoint++ : 0;
    pthread_mutex_unlock(&dir->locks->changing);
    if (!left)
        return -ENOSPC;
    datadir_checkpoint_name(next, name);
    int file = dir->fs->ops->open(dir->fs, name, FS_CREATE);
    if (file < 0)
        return file;
    *number = next;
    *fd = file;
    return 0;
}

void datadir_abandon_checkpoint(struct datadir *dir, uint32_t number, int fd)
{
    dir->fs->ops->close(dir->fs, fd);
    remove_checkpoint(dir, number);
}

/* Makes the file durable (but for its name) and closes it. */
static int close_checkpoint(struct datadir *dir, const struct datadir_checkpoint *checkpoint,
                            int fd)
{
    int64_t size = dir->fs->ops->size(dir->fs, fd);
    int result = size < 0 ? (int)size : 0;
    if (result == 0 && (uint64_t)size != checkpoint->bytes)
        result = -EIO;
    if (result == 0)
        result = dir->fs->ops->sync(dir->fs, fd);
    dir->fs->ops->close(dir->fs, fd);
    return result;
}

/* Puts it into the manifest; `before`: the number of the one it replaces, or 0. */
static int enter_checkpoint(struct datadir *dir, uint32_t shard,
                            const struct datadir_checkpoint *checkpoint, uint32_t *before,
                            bool *placed)
{
    struct manifest next;
    begin_change(dir, &next);
    const struct manifest_checkpoint *present =
        manifest_find_checkpoint(&next, dir->generation, shard);
    *before = present != NULL ? present->checkpoint.number : 0;
    manifest_set_checkpoint(&next, dir->generation, shard, checkpoint);
    return end_change(dir, &next, placed);
}

int datadir_finish_checkpoint(struct datadir *dir, uint32_t shard,
                              const struct datadir_checkpoint *checkpoint, int fd)
{
    uint32_t before = 0;
    bool placed = false;
    assert(dir->begun && shard < dir->shards);
    int result = close_checkpoint(dir, checkpoint, fd);
    if (result == 0)
        result = dir->fs->ops->sync_directory(dir->fs);
    if (result == 0)
        result = enter_checkpoint(dir, shard, checkpoint, &before, &placed);
    if (!placed)
        remove_checkpoint(dir, checkpoint->number);
    else if (result == 0 && before != 0)
        remove_checkpoint(dir, before);
    return result;
}

/* A generation's beginning. */

/* Whether a segment was made ahead of need and never written. */
static bool is_unused(const struct manifest *m, const struct datadir_segment *segment)
{
    const struct manifest_end *log = manifest_find_end(m, segment->generation, segment->shard);
    assert(log != NULL); /* log_clean_tails has run */
    return segment->number > log->end.segment || log->end.batch == 0;
}

/* Takes the unused ones out of the manifest, into `unused`; how many. */
static size_t take_unused(struct manifest *m, struct datadir_segment *unused)
{
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < m->segment_count; i++) {
        if (is_unused(m, &m->segments[i]))
            unused[count++] = m->segments[i];
        else
            m->segments[kept++] = m->segments[i];
    }
    m->segment_count = kept;
    return count;
}

/* All are closed, also where one fails. */
static int close_checkpoints(struct datadir *dir, const struct datadir_checkpoint *checkpoints,
                             const int *fds)
{
    int result = 0;
    for (unsigned i = 0; checkpoints != NULL && i < dir->shards; i++) {
        int one = close_checkpoint(dir, &checkpoints[i], fds[i]);
        if (result == 0)
            result = one;
    }
    return result == 0 ? dir->fs->ops->sync_directory(dir->fs) : result;
}

/* Into `next`, which is a copy of the old generation's. */
static void next_generation(struct datadir *dir, struct manifest *next,
                            const struct datadir_checkpoint *checkpoints)
{
    next->generation = dir->generation;
    next->shards = dir->shards;
    manifest_drop_checkpoints(next);
    for (unsigned i = 0; checkpoints != NULL && i < dir->shards; i++)
        manifest_set_checkpoint(next, dir->generation, i, &checkpoints[i]);
    drop_useless_ends(next);
}

/* What a manifest names that is not to stay: checkpoints, by their numbers. */
static void remove_checkpoints(struct datadir *dir, const struct manifest_checkpoint *checkpoints,
                               size_t n)
{
    for (size_t i = 0; i < n; i++)
        remove_checkpoint(dir, checkpoints[i].checkpoint.number);
}

int datadir_begin_generation(struct datadir *dir, const struct datadir_checkpoint *checkpoints,
                             const int *fds)
{
    struct manifest next, before;
    bool placed = false;
    assert(!dir->begun);
    assert(checkpoints != NULL || dir->recover_generation == 0);
    int result = close_checkpoints(dir, checkpoints, fds);
    begin_change(dir, &next);
    manifest_copy(&next, &before);
    struct datadir_segment *unused = mem_alloc(next.segment_count * sizeof(unused[0]));
    size_t unused_n = take_unused(&next, unused);
    next_generation(dir, &next, checkpoints);
    if (result == 0)
        result = datadir_replace_manifest(dir, &next, &placed);
    manifest_free(&next);
    dir->begun = placed;
    pthread_mutex_unlock(&dir->locks->changing);
    if (placed)
        discard_segments(dir, unused, unused_n, result == 0);
    if (result == 0)
        remove_checkpoints(dir, before.checkpoints, before.checkpoint_count);
    for (unsigned i = 0; !placed && checkpoints != NULL && i < dir->shards; i++)
        remove_checkpoint(dir, checkpoints[i].number);
    free(unused);
    manifest_free(&before);
    return result;
}

/* Ends. */

void datadir_set_end(struct datadir *dir, uint32_t generation, uint32_t shard,
                     const struct datadir_end *end)
{
    pthread_mutex_lock(&dir->locks->changing); /* else a manifest being made would not have it */
    pthread_mutex_lock(&dir->locks->known);
    if (end != NULL)
        manifest_set_end(&dir->manifest, generation, shard, end);
    else
        manifest_drop_end(&dir->manifest, generation, shard);
    pthread_mutex_unlock(&dir->locks->known);
    pthread_mutex_unlock(&dir->locks->changing);
}
