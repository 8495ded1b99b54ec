/*
 * datadir: the data directory. It holds
 *
 *   manifest                what counts (format: manifest.h)
 *   manifest.next           the next manifest while it is being written, and room for it before
 *   lock                    empty; locked (flock) as long as a process has the directory open
 *   segment-00000001.log    the segments of all logs (format: log_format.h)
 *   segment-00000002.1.log  one that a compaction has rewritten, once
 *   checkpoint-00000001.dat what a shard knows at one place of its log (format: checkpoint.c)
 *
 * Normal path at start: lock; read and check the manifest; open and check every file it names; sync
 * what a crash may have left unsynced; only then change anything: remove left-overs, replace the
 * manifest. What happens while it is open is in datadir_change.c and datadir_files.c.
 *
 * Failure: see datadir.h. Each refusal names the file.
 */
#include "shards/datadir.h"
#include "shards/datadir_internal.h"
#include "shards/log_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MANIFEST_MAX_BYTES = 1 << 28, /* a larger file is none; all segments there can be need less */
    LOCK_RETRY_MS = 20,
    WHAT_BYTES = 256,
};

/* What a start has to say when it refuses. */
struct refusal {
    const char *path;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 4, 5))) static int
refuse(const struct refusal *refusal, const char *name, int result, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    const char *slash = name[0] != 0 ? "/" : "";
    snprintf(refusal->error, refusal->error_size, "%s%s%s %s", refusal->path, slash, name, what);
    return result;
}

/* The same for a call that has failed with `result`. */
static int refuse_errno(const struct refusal *refusal, const char *name, int result,
                        const char *what)
{
    return refuse(refusal, name, result, "%s: %s", what, strerror(-result));
}

/* Start: whose directory it is, and the lock. */

/* The text of the open file, NULL with -errno in *result. */
static char *read_text(struct fs *fs, int fd, const struct refusal *refusal, size_t *n, int *result)
{
    int64_t size = fs->ops->size(fs, fd);
    if (size > MANIFEST_MAX_BYTES) {
        *result = refuse(refusal, MANIFEST_NAME, -EIO, "is no manifest of Atoll");
        return NULL;
    }
    char *text = size >= 0 ? mem_alloc((size_t)size) : NULL;
    int64_t got = size >= 0 ? fs->ops->read(fs, fd, text, (size_t)size, 0) : size;
    if (got < 0) {
        *result = refuse_errno(refusal, MANIFEST_NAME, (int)got, "cannot be read");
        free(text);
        return NULL;
    }
    *n = (size_t)got;
    return text;
}

/* The manifest's text; NULL with *result 0 where there is none, else with -errno. */
static char *read_manifest(struct fs *fs, const struct refusal *refusal, size_t *n, int *result)
{
    *result = 0;
    int fd = fs->ops->open(fs, MANIFEST_NAME, FS_READ);
    if (fd < 0) {
        if (fd != -ENOENT)
            *result = refuse_errno(refusal, MANIFEST_NAME, fd, "cannot be opened");
        return NULL;
    }
    char *text = read_text(fs, fd, refusal, n, result);
    fs->ops->close(fs, fd);
    return text;
}

/* What a directory may hold that has no manifest (yet): what a crash in our very first start
 * leaves, and what a file system has at its root. */
static bool is_harmless(const char *name)
{
    static const char *const names[] = {LOCK_NAME, MANIFEST_SPARE_NAME, "lost+found"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

struct harmless {
    const struct refusal *refusal;
    bool refused; /* else what has failed is the listing */
};

static int check_harmless(void *ctx, const char *name)
{
    struct harmless *harmless = ctx;
    if (is_harmless(name))
        return 0;
    harmless->refused = true;
    return refuse(harmless->refusal, "", -ENOTEMPTY,
                  "is not Atoll's: it has no manifest, and is not empty (it holds \"%.100s\")",
                  name);
}

static int check_unused(const struct datadir *dir, const struct refusal *refusal)
{
    struct harmless harmless = {refusal, false};
    int result = dir->fs->ops->list(dir->fs, check_harmless, &harmless);
    if (result != 0 && !harmless.refused)
        return refuse_errno(refusal, "", result, "cannot be listed");
    if (result == 0 && dir->read_only)
        return refuse(refusal, "", -ENOENT, "is no data directory: it has no manifest");
    return result;
}

/* Before anything is written: a directory with a manifest of ours, or with nothing in it. */
static int check_ours(const struct datadir *dir, const struct refusal *refusal)
{
    static const char ours[] = "atoll-data ";
    size_t n = 0;
    int result;
    char *text = read_manifest(dir->fs, refusal, &n, &result);
    if (text != NULL && (n < sizeof(ours) - 1 || memcmp(text, ours, sizeof(ours) - 1) != 0))
        result = refuse(refusal, MANIFEST_NAME, -EIO, "is damaged, or no manifest of Atoll");
    else if (text == NULL && result == 0)
        result = check_unused(dir, refusal);
    free(text);
    return result;
}

/* A directory without a lock file is used by nobody: none is made where nothing may change. */
static bool has_lock_file(struct fs *fs)
{
    int fd = fs->ops->open(fs, LOCK_NAME, FS_READ);
    if (fd >= 0)
        fs->ops->close(fs, fd);
    return fd != -ENOENT;
}

static int take_lock(const struct datadir *dir, const struct refusal *refusal)
{
    struct fs *fs = dir->fs;
    if (dir->read_only && !has_lock_file(fs))
        return 0;
    for (int waited_ms = 0;; waited_ms += LOCK_RETRY_MS) {
        int result = fs->ops->lock(fs, LOCK_NAME);
        if (result == 0)
            return 0;
        if (result != -EWOULDBLOCK)
            return refuse_errno(refusal, LOCK_NAME, result, "cannot be locked");
        if (waited_ms >= DATADIR_LOCK_WAIT_MS)
            return refuse(refusal, LOCK_NAME, -EBUSY,
                          "is locked: another process uses this data directory");
        fs->ops->pause_ms(fs, LOCK_RETRY_MS);
    }
}

/* Start: the files that the manifest names. */

static int refuse_missing(const struct datadir *dir, const struct refusal *refusal,
                          const char *name, const char *more)
{
    if (dir->read_only)
        return 0;
    return refuse(refusal, name, -ENOENT, "is missing, but the manifest names it%s", more);
}

static int open_segment(struct datadir *dir, const struct refusal *refusal,
                        struct datadir_segment *segment)
{
    char name[DATADIR_NAME_BYTES], what[WHAT_BYTES];
    struct datadir_file *file;
    datadir_segment_name(segment, name);
    int fd = dir->fs->ops->open(dir->fs, name, dir->read_only ? FS_READ : FS_WRITE);
    if (fd == -ENOENT)
        return refuse_missing(dir, refusal, name, ": `atoll verify` tells which sessions it held");
    if (fd < 0)
        return refuse_errno(refusal, name, fd, "cannot be opened");
    segment->fd = fd;
    int result = datadir_load_file(dir, segment, &file, what, sizeof(what));
    if (result != 0) {
        dir->fs->ops->close(dir->fs, fd);
        return refuse(refusal, name, result, "%s", what);
    }
    datadir_put_file(dir, file);
    return 0;
}

static int open_segments(struct datadir *dir, const struct refusal *refusal)
{
    int result = 0;
    for (size_t i = 0; i < dir->manifest.segment_count && result == 0; i++)
        result = open_segment(dir, refusal, &dir->manifest.segments[i]);
    return result;
}

static int check_checkpoint(const struct datadir *dir, const struct refusal *refusal,
                            const struct datadir_checkpoint *checkpoint)
{
    char name[DATADIR_NAME_BYTES];
    struct fs *fs = dir->fs;
    datadir_checkpoint_name(checkpoint->number, name);
    int fd = fs->ops->open(fs, name, FS_READ);
    if (fd == -ENOENT)
        return refuse_missing(dir, refusal, name, "");
    if (fd < 0)
        return refuse_errno(refusal, name, fd, "cannot be opened");
    int64_t size = fs->ops->size(fs, fd);
    fs->ops->close(fs, fd);
    if (size < 0)
        return refuse_errno(refusal, name, (int)size, "cannot be read");
    if ((uint64_t)size != checkpoint->bytes)
        return refuse(refusal, name, -EIO, "has %" PRId64 " bytes, but the manifest says %" PRIu64,
                      size, checkpoint->bytes);
    return 0;
}

static int check_checkpoints(struct datadir *dir, const struct refusal *refusal)
{
    const struct manifest *m = &dir->manifest;
    int result = 0;
    for (size_t i = 0; i < m->checkpoint_count && result == 0; i++)
        result = check_checkpoint(dir, refusal, &m->checkpoints[i].checkpoint);
    return result;
}

/*
 * Whether a crash may have left some of a segment in the page cache only. Rewritten ones were
 * synced before the manifest named them, logs that ended well when they did; and a run that synced
 * each batch before it was committed has left nothing before a checkpoint.
 */
static bool may_be_unsynced(const struct manifest *m, const struct datadir_segment *segment)
{
    const struct manifest_checkpoint *c =
        manifest_find_checkpoint(m, segment->generation, segment->shard);
    if (segment->version != 0 || manifest_find_end(m, segment->generation, segment->shard) != NULL)
        return false;
    return m->relaxed || c == NULL || segment->number >= c->checkpoint.from.segment;
}

/* What a crash may have left in the page cache is made durable before anything relies on it, and
 * before the manifest forgets how the last run ended. */
static int sync_segments(const struct datadir *dir, const struct refusal *refusal)
{
    const struct manifest *m = &dir->manifest;
    struct fs *fs = dir->fs;
    for (size_t i = 0; i < m->segment_count; i++) {
        char name[DATADIR_NAME_BYTES];
        if (!may_be_unsynced(m, &m->segments[i]))
            continue;
        int result = fs->ops->sync(fs, m->segments[i].fd);
        datadir_segment_name(&m->segments[i], name);
        if (result != 0)
            return refuse_errno(refusal, name, result, "cannot be synced");
    }
    int result = fs->ops->sync_directory(fs);
    return result != 0 ? refuse_errno(refusal, "", result, "cannot be synced") : 0;
}

static bool is_named_checkpoint(const struct manifest *m, uint32_t number)
{
    for (size_t i = 0; i < m->checkpoint_count; i++) {
        if (m->checkpoints[i].checkpoint.number == number)
            return true;
    }
    return false;
}

static bool is_left_over(const struct manifest *m, const char *name)
{
    uint32_t number, version;
    if (datadir_parse_checkpoint_name(name, &number))
        return !is_named_checkpoint(m, number);
    if (!datadir_parse_segment_name(name, &number, &version))
        return false;
    const struct datadir_segment *segment = manifest_find_segment(m, number);
    return segment == NULL || segment->version != version;
}

static int remove_left_over(void *ctx, const char *name)
{
    const struct datadir *dir = ctx;
    if (is_left_over(&dir->manifest, name))
        (void)dir->fs->ops->remove(dir->fs, name);
    return 0;
}

static int remove_left_overs(struct datadir *dir, const struct refusal *refusal)
{
    int result = dir->fs->ops->list(dir->fs, remove_left_over, dir);
    return result != 0 ? refuse_errno(refusal, "", result, "cannot be listed") : 0;
}

/* Start: the manifest. */

static int make_manifest(struct datadir *dir, const struct refusal *refusal)
{
    struct manifest *m = &dir->manifest;
    *m = (struct manifest){.generation = 0, .next_segment = 1, .clean = true};
    int result = dir->fs->ops->random(dir->fs, m->hash_key, sizeof(m->hash_key));
    return result != 0 ? refuse_errno(refusal, "", result, "cannot be given a random key") : 0;
}

static int load_manifest(struct datadir *dir, const struct refusal *refusal)
{
    char what[WHAT_BYTES];
    size_t n = 0;
    int result;
    char *text = read_manifest(dir->fs, refusal, &n, &result);
    if (text == NULL)
        return result != 0 ? result : make_manifest(dir, refusal);
    result = manifest_parse(&dir->manifest, (struct str){text, n}, what, sizeof(what));
    free(text);
    return result != 0 ? refuse(refusal, MANIFEST_NAME, result, "%s", what) : 0;
}

/* What is known from here on, and does not change any more. */
static void settle(struct datadir *dir, unsigned shards)
{
    const struct manifest *m = &dir->manifest;
    memcpy(dir->hash_key, m->hash_key, sizeof(dir->hash_key));
    dir->was_clean = m->clean;
    dir->recover_generation = m->generation;
    dir->recover_shards = m->shards;
    dir->begun = dir->read_only || m->shards == shards;
    dir->generation = dir->begun ? m->generation : m->generation + 1;
    dir->shards = dir->read_only ? m->shards : shards;
    atomic_store_explicit(&dir->bytes, manifest_bytes(m), memory_order_relaxed);
    dir->next_checkpoint = 1;
    for (size_t i = 0; i < m->checkpoint_count; i++) {
        uint32_t number = m->checkpoints[i].checkpoint.number;
        if (number >= dir->next_checkpoint && number < UINT32_MAX)
            dir->next_checkpoint = number + 1;
    }
}

/* A relaxed run that did not stop cleanly may have lost what it had committed, unless the machine
 * has been up all the time: then the page cache has kept it. */
static bool may_have_lost(const struct manifest *m, const char *boot)
{
    return m->relaxed && !m->clean && (boot[0] == 0 || strcmp(m->boot, boot) != 0);
}

static int begin_run(struct datadir *dir, bool relaxed, const struct refusal *refusal)
{
    struct manifest next;
    char boot[MANIFEST_BOOT_BYTES] = "";
    bool placed;
    manifest_copy(&dir->manifest, &next);
    dir->fs->ops->boot_id(dir->fs, boot, sizeof(boot));
    if (may_have_lost(&next, boot))
        next.incarnation++;
    memcpy(next.boot, boot, sizeof(next.boot));
    next.starts++;
    next.relaxed = relaxed;
    next.clean = false;
    int result = datadir_replace_manifest(dir, &next, &placed);
    return result != 0 ? refuse_errno(refusal, MANIFEST_NAME, result, "cannot be written") : 0;
}

/* Everything that changes something. */
static int begin(struct datadir *dir, bool relaxed, const struct refusal *refusal)
{
    int result = sync_segments(dir, refusal);
    if (result == 0)
        result = remove_left_overs(dir, refusal);
    if (result == 0)
        result = begin_run(dir, relaxed, refusal);
    return result;
}

static int start(struct datadir *dir, const struct datadir_options *options,
                 const struct refusal *refusal)
{
    int result = check_ours(dir, refusal);
    if (result == 0)
        result = take_lock(dir, refusal);
    if (result == 0)
        result = load_manifest(dir, refusal);
    if (result != 0)
        return result;
    settle(dir, options->shards);
    result = open_segments(dir, refusal);
    if (result == 0)
        result = check_checkpoints(dir, refusal);
    if (result == 0 && !dir->read_only)
        result = begin(dir, options->relaxed, refusal);
    dir->starts = dir->manifest.starts;
    dir->incarnation = dir->manifest.incarnation;
    return result;
}

static struct datadir *make(const struct datadir_options *options, uint64_t segment_bytes)
{
    struct datadir *dir = mem_alloc(sizeof(*dir));
    *dir = (struct datadir){.fs = options->fs,
                            .locks = mem_alloc(sizeof(*dir->locks)),
                            .read_only = options->read_only,
                            .segment_bytes = segment_bytes};
    pthread_mutex_init(&dir->locks->changing, NULL);
    pthread_mutex_init(&dir->locks->known, NULL);
    pthread_mutex_init(&dir->locks->files, NULL);
    return dir;
}

static void release(struct datadir *dir)
{
    datadir_free_files(dir);
    manifest_free(&dir->manifest);
    pthread_mutex_destroy(&dir->locks->changing);
    pthread_mutex_destroy(&dir->locks->known);
    pthread_mutex_destroy(&dir->locks->files);
    free(dir->locks);
    dir->fs->ops->free(dir->fs);
    free(dir);
}

/* Whole pages of it. */
static uint64_t segment_bytes_of(const struct datadir_options *options)
{
    return (options->segment_bytes + LOG_SEGMENT_HEADER_BYTES - 1) / LOG_SEGMENT_HEADER_BYTES *
           LOG_SEGMENT_HEADER_BYTES;
}

int datadir_open(const struct datadir_options *options, struct datadir **opened, char *error,
                 size_t error_size)
{
    struct refusal refusal = {options->fs->path, error, error_size};
    uint64_t segment_bytes = segment_bytes_of(options);
    struct datadir *dir = make(options, segment_bytes);
    int result = 0;
    assert(options->read_only || (options->shards >= 1 && options->shards <= DATADIR_SHARDS_MAX));
    if (!options->read_only &&
        (segment_bytes < LOG_SEGMENT_MIN_BYTES || segment_bytes > LOG_SEGMENT_MAX_BYTES))
        result = refuse(&refusal, "", -EINVAL, "cannot have segments of %" PRIu64 " bytes",
                        options->segment_bytes);
    if (result == 0)
        result = start(dir, options, &refusal);
    if (result != 0) {
        release(dir);
        return result;
    }
    *opened = dir;
    return 0;
}

void datadir_close(struct datadir *dir, bool clean)
{
    if (clean && !dir->read_only) {
        struct manifest last;
        bool placed;
        manifest_copy(&dir->manifest, &last);
        last.clean = true;
        /* A failure leaves "open", with which the next start is only more careful. */
        (void)datadir_replace_manifest(dir, &last, &placed);
    }
    release(dir);
}

/* What there is to know. */

const char *datadir_path(const struct datadir *dir)
{
    return dir->fs->path;
}

struct fs *datadir_fs(const struct datadir *dir)
{
    return dir->fs;
}

uint64_t datadir_starts(const struct datadir *dir)
{
    return dir->starts;
}

uint64_t datadir_incarnation(const struct datadir *dir)
{
    return dir->incarnation;
}

uint32_t datadir_recover_generation(const struct datadir *dir)
{
    return dir->recover_generation;
}

unsigned datadir_recover_shards(const struct datadir *dir)
{
    return dir->recover_shards;
}

bool datadir_was_clean(const struct datadir *dir)
{
    return dir->was_clean;
}

uint32_t datadir_generation(const struct datadir *dir)
{
    return dir->generation;
}

unsigned datadir_shards(const struct datadir *dir)
{
    return dir->shards;
}

uint64_t datadir_segment_bytes(const struct datadir *dir)
{
    return dir->segment_bytes;
}

const uint8_t *datadir_hash_key(const struct datadir *dir)
{
    return dir->hash_key;
}

uint64_t datadir_bytes(const struct datadir *dir)
{
    return atomic_load_explicit(&dir->bytes, memory_order_relaxed);
}

static int compare_numbers(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int by_log_and_number(const void *left, const void *right)
{
    const struct datadir_segment *a = left, *b = right;
    int order = compare_numbers(a->generation, b->generation);
    if (order == 0)
        order = compare_numbers(a->shard, b->shard);
    return order != 0 ? order : compare_numbers(a->number, b->number);
}

size_t datadir_segments(const struct datadir *dir, uint32_t generation, uint32_t shard,
                        struct datadir_segment *segments, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&dir->locks->known);
    for (size_t i = 0; i < dir->manifest.segment_count; i++) {
        const struct datadir_segment *s = &dir->manifest.segments[i];
        if (generation != 0 && (s->generation != generation || s->shard != shard))
            continue;
        if (count < max)
            segments[count] = *s;
        count++;
    }
    pthread_mutex_unlock(&dir->locks->known);
    size_t given = count < max ? count : max;
    if (given != 0 && generation == 0) /* those of one log are in order */
        qsort(segments, given, sizeof(segments[0]), by_log_and_number);
    return count;
}

bool datadir_get_end(const struct datadir *dir, uint32_t generation, uint32_t shard,
                     struct datadir_end *end)
{
    pthread_mutex_lock(&dir->locks->known);
    const struct manifest_end *found = manifest_find_end(&dir->manifest, generation, shard);
    if (found != NULL)
        *end = found->end;
    pthread_mutex_unlock(&dir->locks->known);
    return found != NULL;
}

bool datadir_get_checkpoint(const struct datadir *dir, uint32_t generation, uint32_t shard,
                            struct datadir_checkpoint *checkpoint)
{
    pthread_mutex_lock(&dir->locks->known);
    const struct manifest_checkpoint *found =
        manifest_find_checkpoint(&dir->manifest, generation, shard);
    if (found != NULL)
        *checkpoint = found->checkpoint;
    pthread_mutex_unlock(&dir->locks->known);
    return found != NULL;
}

int datadir_open_checkpoint(struct datadir *dir, const struct datadir_checkpoint *checkpoint)
{
    char name[DATADIR_NAME_BYTES];
    datadir_checkpoint_name(checkpoint->number, name);
    return dir->fs->ops->open(dir->fs, name, FS_READ);
}
