/*
 * datadir: the data directory. It holds
 *
 *   manifest              what counts (format: manifest.h)
 *   manifest.next         the next manifest while it is being written, and room for it before
 *   lock                  empty; locked (flock) as long as a process has the directory open
 *   segment-00000001.log  the segments of all logs (format: log_format.h)
 *
 * Normal path at start: lock; read and check the manifest; open and check every segment it names;
 * sync what a crash may have left unsynced; only then change anything: remove left-overs, replace
 * the manifest. While running: one new segment at a time and log, and the manifest after it.
 *
 * A new segment is written with zeros, synced, its name synced, and then put into the manifest. So
 * a crash on the way leaves at most a file that the manifest does not name. A failure before the
 * new manifest is in its place removes the file; after that it stays, since which manifest a crash
 * would leave is not known any more.
 *
 * The fd table. Readers on all shards look up a segment's fd by its number without a lock. The
 * table is a fixed array of pointers to chunks of slots, so nothing in it ever moves: a chunk is
 * made, filled with empty slots and published by a release store of its pointer; a segment is
 * published by a release store of its slot's fd, after its size. A reader's acquire loads therefore
 * see a whole chunk and a whole slot, or nothing. Slots change only under the mutex, and are
 * emptied only by datadir_seal, before there are readers.
 *
 * Failure: see datadir.h. Each refusal names the file.
 */
#define _GNU_SOURCE 1

#include "shards/datadir.h"
#include "core/base.h"
#include "shards/log_format.h"
#include "shards/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    CHUNK_SLOTS = 1024,
    CHUNKS = MANIFEST_SEGMENTS_MAX / CHUNK_SLOTS,
    ZEROS_BYTES = 1 << 20,        /* of a new segment, written in one go */
    MANIFEST_MAX_BYTES = 1 << 28, /* a larger file is none; all segments there can be need less */
    MANIFEST_SPARE_BYTES = 16 * 1024, /* beside twice what the present one needs */
    LOCK_RETRY_MS = 20,
};

#define MANIFEST_NAME "manifest"
#define MANIFEST_SPARE_NAME "manifest.next"
#define LOCK_NAME "lock"
#define SEGMENT_PREFIX "segment-"
#define SEGMENT_SUFFIX ".log"
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

struct slot {
    uint64_t bytes; /* written before fd is stored */
    _Atomic(int) fd;
};

struct chunk {
    struct slot slots[CHUNK_SLOTS];
};

struct datadir {
    char *path;
    int fd;
    int lock_fd;
    uint64_t segment_bytes;
    pthread_mutex_t *mutex;   /* memory of its own: functions that change nothing lock it too */
    struct manifest manifest; /* segments, ends and next_segment: mutex; the rest never changes */
    _Atomic(struct chunk *) chunks[CHUNKS];
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

/* The same for the system call that has just failed. */
static int refuse_errno(const struct refusal *refusal, const char *name, const char *what)
{
    int error = errno;
    return refuse(refusal, name, -error, "%s: %s", what, strerror(error));
}

/* Small things about files. */

static int write_all(int fd, const char *p, size_t n, uint64_t offset)
{
    while (n != 0) {
        ssize_t written = pwrite(fd, p, n, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written == 0 ? -EIO : -errno;
        p += written;
        n -= (size_t)written;
        offset += (uint64_t)written;
    }
    return 0;
}

/* Reads up to `max` bytes from the beginning; how many, or -errno. */
static ssize_t read_start(int fd, char *p, size_t max)
{
    size_t n = 0;
    while (n < max) {
        ssize_t got = pread(fd, p + n, max - n, (off_t)n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

static void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&ts, NULL);
}

void datadir_segment_name(uint32_t number, char name[32])
{
    snprintf(name, 32, SEGMENT_PREFIX "%08u" SEGMENT_SUFFIX, number);
}

/* The number in a segment's name, 0 if it is not one as we would write it. */
static uint32_t segment_number(const char *name)
{
    char again[32];
    unsigned long number;
    if (strncmp(name, SEGMENT_PREFIX, sizeof(SEGMENT_PREFIX) - 1) != 0)
        return 0;
    number = strtoul(name + sizeof(SEGMENT_PREFIX) - 1, NULL, 10);
    if (number == 0 || number >= MANIFEST_SEGMENTS_MAX)
        return 0;
    datadir_segment_name((uint32_t)number, again);
    return strcmp(name, again) == 0 ? (uint32_t)number : 0;
}

static void read_boot_id(char boot[MANIFEST_BOOT_BYTES])
{
    memset(boot, 0, MANIFEST_BOOT_BYTES);
    int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, boot, MANIFEST_BOOT_BYTES - 1);
    close(fd);
    if (n < 0)
        n = 0;
    boot[n] = 0;
    boot[strcspn(boot, " \n")] = 0;
}

/* The fd table. */

static struct slot *slot_of(const struct datadir *dir, uint32_t number)
{
    if (number >= MANIFEST_SEGMENTS_MAX)
        return NULL;
    struct chunk *chunk =
        atomic_load_explicit(&dir->chunks[number / CHUNK_SLOTS], memory_order_acquire);
    return chunk != NULL ? &chunk->slots[number % CHUNK_SLOTS] : NULL;
}

static void publish(struct datadir *dir, const struct datadir_segment *segment)
{
    if (slot_of(dir, segment->number) == NULL) {
        struct chunk *chunk = mem_alloc(sizeof(*chunk));
        for (size_t i = 0; i < CHUNK_SLOTS; i++) {
            chunk->slots[i].bytes = 0;
            atomic_init(&chunk->slots[i].fd, -1);
        }
        atomic_store_explicit(&dir->chunks[segment->number / CHUNK_SLOTS], chunk,
                              memory_order_release);
    }
    struct slot *slot = slot_of(dir, segment->number);
    slot->bytes = segment->bytes;
    atomic_store_explicit(&slot->fd, segment->fd, memory_order_release);
}

int datadir_segment_fd(const struct datadir *dir, uint32_t number)
{
    const struct slot *slot = slot_of(dir, number);
    return slot != NULL ? atomic_load_explicit(&slot->fd, memory_order_acquire) : -1;
}

uint64_t datadir_segment_size(const struct datadir *dir, uint32_t number)
{
    return datadir_segment_fd(dir, number) >= 0 ? slot_of(dir, number)->bytes : 0;
}

/* The manifest's file. */

/*
 * Room for the next manifest is taken beforehand: a disk that is full must not keep a start, a stop
 * or a new generation from saying so. Where there is none left, the next manifest has to find it.
 */
static void keep_spare_manifest(const struct datadir *dir, size_t text_bytes)
{
    int fd = openat(dir->fd, MANIFEST_SPARE_NAME, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)fallocate(fd, 0, 0, (off_t)(text_bytes * 2 + MANIFEST_SPARE_BYTES));
        close(fd);
    }
}

/*
 * Replaces the manifest. *placed: whether the new one may have taken the old one's place, which
 * with an error means that nobody knows which of them a crash would leave.
 */
static int write_manifest(const struct datadir *dir, const struct manifest *manifest, bool *placed)
{
    struct buf text = {0};
    int result = 0;
    *placed = false;
    manifest_format(manifest, &text);
    /* Written over what it holds, into the room it has, and cut to its length after. */
    int fd = openat(dir->fd, MANIFEST_SPARE_NAME, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        result = -errno;
    } else {
        result = write_all(fd, text.p, text.n, 0);
        if (result == 0 && (ftruncate(fd, (off_t)text.n) != 0 || fsync(fd) != 0))
            result = -errno;
        close(fd);
    }
    if (result == 0) {
        *placed = true;
        if (renameat(dir->fd, MANIFEST_SPARE_NAME, dir->fd, MANIFEST_NAME) != 0 ||
            fsync(dir->fd) != 0)
            result = -errno;
    }
    keep_spare_manifest(dir, text.n);
    buf_free(&text);
    return result;
}

/* The manifest's text; NULL with *result 0 where there is none, else with -errno. */
static char *read_manifest(const struct datadir *dir, const struct refusal *refusal, size_t *n,
                           int *result)
{
    struct stat st;
    *result = 0;
    int fd = openat(dir->fd, MANIFEST_NAME, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT)
            *result = refuse_errno(refusal, MANIFEST_NAME, "cannot be opened");
        return NULL;
    }
    char *text = NULL;
    if (fstat(fd, &st) != 0) {
        *result = refuse_errno(refusal, MANIFEST_NAME, "cannot be read");
    } else if (!S_ISREG(st.st_mode) || st.st_size > MANIFEST_MAX_BYTES) {
        *result = refuse(refusal, MANIFEST_NAME, -EIO, "is no manifest of Atoll");
    } else {
        text = mem_alloc((size_t)st.st_size);
        ssize_t got = read_start(fd, text, (size_t)st.st_size);
        *n = got < 0 ? 0 : (size_t)got;
        if (got < 0) {
            *result =
                refuse(refusal, MANIFEST_NAME, (int)got, "cannot be read: %s", strerror((int)-got));
            free(text);
            text = NULL;
        }
    }
    close(fd);
    return text;
}

/* Start: whose directory it is, and the lock. */

/* So that a new directory's name lasts. A parent that may not be read cannot be synced; then it is
 * the file system's own next commit that makes it last. */
static void sync_parent(const struct datadir *dir)
{
    int parent = openat(dir->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return;
    fsync(parent);
    close(parent);
}

static int open_directory(struct datadir *dir, const struct refusal *refusal)
{
    bool made = mkdir(refusal->path, 0700) == 0;
    if (!made && errno != EEXIST)
        return refuse_errno(refusal, "", "cannot be made");
    dir->fd = open(refusal->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0 && errno == ENOTDIR)
        return refuse(refusal, "", -ENOTDIR, "is no directory");
    if (dir->fd < 0)
        return refuse_errno(refusal, "", "cannot be opened");
    if (made)
        sync_parent(dir);
    return 0;
}

/* What a directory may hold that has no manifest (yet): what a crash in our very first start
 * leaves, and what a file system has at its root. */
static bool is_harmless(const char *name)
{
    static const char *const names[] = {".", "..", LOCK_NAME, MANIFEST_SPARE_NAME, "lost+found"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

/* Calls `each` for every name in the directory until it answers other than 0. */
static int for_each_name(const struct datadir *dir, const struct refusal *refusal,
                         int (*each)(void *ctx, const char *name), void *ctx)
{
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    int result = 0;
    if (stream == NULL) {
        result = refuse_errno(refusal, "", "cannot be listed");
        if (fd >= 0)
            close(fd);
        return result;
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (entry == NULL && errno != 0)
            result = refuse_errno(refusal, "", "cannot be listed");
        if (entry == NULL || result != 0)
            break;
        result = each(ctx, entry->d_name);
    }
    closedir(stream);
    return result;
}

static int check_harmless(void *ctx, const char *name)
{
    const struct refusal *refusal = ctx;
    if (is_harmless(name))
        return 0;
    return refuse(refusal, "", -ENOTEMPTY,
                  "is not Atoll's: it has no manifest, and is not empty (it holds \"%.100s\")",
                  name);
}

/* Before anything is written: a directory with a manifest of ours, or with nothing in it. */
static int check_ours(struct datadir *dir, const struct refusal *refusal)
{
    static const char ours[] = "atoll-data ";
    struct refusal ctx = *refusal;
    size_t n = 0;
    int result;
    char *text = read_manifest(dir, refusal, &n, &result);
    if (text != NULL && (n < sizeof(ours) - 1 || memcmp(text, ours, sizeof(ours) - 1) != 0))
        result = refuse(refusal, MANIFEST_NAME, -EIO, "is damaged, or no manifest of Atoll");
    else if (text == NULL && result == 0)
        result = for_each_name(dir, refusal, check_harmless, &ctx);
    free(text);
    return result;
}

static int take_lock(struct datadir *dir, const struct refusal *refusal)
{
    dir->lock_fd = openat(dir->fd, LOCK_NAME, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (dir->lock_fd < 0)
        return refuse_errno(refusal, LOCK_NAME, "cannot be opened");
    for (int waited_ms = 0;; waited_ms += LOCK_RETRY_MS) {
        if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return refuse_errno(refusal, LOCK_NAME, "cannot be locked");
        if (waited_ms >= DATADIR_LOCK_WAIT_MS)
            return refuse(refusal, LOCK_NAME, -EBUSY,
                          "is locked: another process uses this data directory");
        sleep_ms(LOCK_RETRY_MS);
    }
}

/* Start: the segments. */

static int check_segment(struct datadir *dir, const struct refusal *refusal, const char *name,
                         const struct datadir_segment *segment)
{
    struct log_segment_header header;
    struct stat st;
    if (fstat(segment->fd, &st) != 0)
        return refuse_errno(refusal, name, "cannot be read");
    if ((uint64_t)st.st_size != segment->bytes)
        return refuse(refusal, name, -EIO, "has %llu bytes, but the manifest says %llu",
                      (unsigned long long)st.st_size, (unsigned long long)segment->bytes);
    ssize_t n = read_start(segment->fd, (char *)&header, sizeof(header));
    if (n < 0)
        return refuse(refusal, name, (int)n, "cannot be read: %s", strerror((int)-n));
    uint64_t seed = log_segment_seed(dir->manifest.hash_key, segment->number);
    const char *wrong = (size_t)n < sizeof(header)
                            ? "is too short"
                            : log_segment_header_check(&header, segment, seed);
    return wrong != NULL ? refuse(refusal, name, -EIO, "%s", wrong) : 0;
}

static int open_segments(struct datadir *dir, const struct refusal *refusal)
{
    struct manifest *m = &dir->manifest;
    for (size_t i = 0; i < m->segment_count; i++) {
        char name[32];
        struct datadir_segment *segment = &m->segments[i];
        datadir_segment_name(segment->number, name);
        segment->fd = openat(dir->fd, name, O_RDWR | O_CLOEXEC);
        if (segment->fd < 0 && errno == ENOENT)
            return refuse(refusal, name, -ENOENT, "is missing, but the manifest names it");
        if (segment->fd < 0)
            return refuse_errno(refusal, name, "cannot be opened");
        int result = check_segment(dir, refusal, name, segment);
        if (result != 0)
            return result;
        publish(dir, segment);
    }
    return 0;
}

/* What a crash may have left in the page cache is made durable before anything relies on it, and
 * before the manifest forgets how the last run ended. */
static int sync_segments(struct datadir *dir, const struct refusal *refusal)
{
    const struct manifest *m = &dir->manifest;
    for (size_t i = 0; i < m->segment_count; i++) {
        char name[32];
        const struct datadir_segment *segment = &m->segments[i];
        if (manifest_find_end(m, segment->generation, segment->shard) != NULL)
            continue;
        datadir_segment_name(segment->number, name);
        if (fsync(segment->fd) != 0)
            return refuse_errno(refusal, name, "cannot be synced");
    }
    return fsync(dir->fd) != 0 ? refuse_errno(refusal, "", "cannot be synced") : 0;
}

static int remove_left_over(void *ctx, const char *name)
{
    struct datadir *dir = ctx;
    uint32_t number = segment_number(name);
    if (number != 0 && manifest_find_segment(&dir->manifest, number) == NULL)
        unlinkat(dir->fd, name, 0);
    return 0;
}

/* Start: the manifest. */

static int make_manifest(struct manifest *m, const struct refusal *refusal)
{
    *m = (struct manifest){.generation = 0, .next_segment = 1, .clean = true};
    if (getrandom(m->hash_key, sizeof(m->hash_key), 0) != sizeof(m->hash_key))
        return refuse_errno(refusal, "", "cannot be given a random key");
    return 0;
}

static int load_manifest(struct datadir *dir, const struct refusal *refusal)
{
    const char *what;
    size_t n = 0;
    int result;
    char *text = read_manifest(dir, refusal, &n, &result);
    if (text == NULL)
        return result != 0 ? result : make_manifest(&dir->manifest, refusal);
    result = manifest_parse(&dir->manifest, (struct str){text, n}, &what);
    free(text);
    return result != 0 ? refuse(refusal, MANIFEST_NAME, result, "%s", what) : 0;
}

/* A relaxed run that did not stop cleanly may have lost what it had committed, unless the machine
 * has been up all the time: then the page cache has kept it. */
static bool may_have_lost(const struct manifest *m, const char *boot)
{
    return m->relaxed && !m->clean && (boot[0] == 0 || strcmp(m->boot, boot) != 0);
}

/* Only the ends of older generations outlast the beginning of a run. */
static void begin_run(struct datadir *dir, const struct datadir_options *options)
{
    struct manifest *m = &dir->manifest;
    char boot[MANIFEST_BOOT_BYTES];
    read_boot_id(boot);
    if (may_have_lost(m, boot))
        m->incarnation++;
    if (m->shards != options->shards) {
        m->generation++;
        m->shards = options->shards;
    }
    memcpy(m->boot, boot, sizeof(m->boot));
    m->starts++;
    m->relaxed = options->relaxed;
    m->clean = false;
}

static int start(struct datadir *dir, const struct datadir_options *options,
                 const struct refusal *refusal)
{
    bool placed;
    int result = open_directory(dir, refusal);
    if (result == 0)
        result = check_ours(dir, refusal);
    if (result == 0)
        result = take_lock(dir, refusal);
    if (result == 0)
        result = load_manifest(dir, refusal);
    if (result == 0)
        result = open_segments(dir, refusal);
    if (result == 0)
        result = sync_segments(dir, refusal);
    if (result == 0)
        result = for_each_name(dir, refusal, remove_left_over, dir);
    if (result != 0)
        return result;
    begin_run(dir, options);
    result = write_manifest(dir, &dir->manifest, &placed);
    return result == 0
               ? 0
               : refuse(refusal, MANIFEST_NAME, result, "cannot be written: %s", strerror(-result));
}

static void release(struct datadir *dir)
{
    for (size_t i = 0; i < dir->manifest.segment_count; i++) {
        if (dir->manifest.segments[i].fd >= 0)
            close(dir->manifest.segments[i].fd);
    }
    for (size_t i = 0; i < CHUNKS; i++)
        free(atomic_load_explicit(&dir->chunks[i], memory_order_relaxed));
    manifest_free(&dir->manifest);
    if (dir->lock_fd >= 0)
        close(dir->lock_fd);
    if (dir->fd >= 0)
        close(dir->fd);
    pthread_mutex_destroy(dir->mutex);
    free(dir->mutex);
    free(dir->path);
    free(dir);
}

int datadir_open(const struct datadir_options *options, struct datadir **opened, char *error,
                 size_t error_size)
{
    struct refusal refusal = {options->path, error, error_size};
    uint64_t segment_bytes = (options->segment_bytes + LOG_SEGMENT_HEADER_BYTES - 1) /
                             LOG_SEGMENT_HEADER_BYTES * LOG_SEGMENT_HEADER_BYTES;
    assert(options->shards >= 1 && options->shards <= DATADIR_SHARDS_MAX);
    if (segment_bytes < LOG_SEGMENT_MIN_BYTES || segment_bytes > LOG_SEGMENT_MAX_BYTES)
        return refuse(&refusal, "", -EINVAL, "cannot have segments of %llu bytes",
                      (unsigned long long)options->segment_bytes);

    struct datadir *dir = mem_alloc(sizeof(*dir));
    memset(dir, 0, sizeof(*dir));
    size_t path_bytes = strlen(options->path) + 1;
    dir->path = memcpy(mem_alloc(path_bytes), options->path, path_bytes);
    dir->fd = -1;
    dir->lock_fd = -1;
    dir->segment_bytes = segment_bytes;
    dir->mutex = mem_alloc(sizeof(*dir->mutex));
    pthread_mutex_init(dir->mutex, NULL);
    int result = start(dir, options, &refusal);
    if (result != 0) {
        release(dir);
        return result;
    }
    *opened = dir;
    return 0;
}

void datadir_close(struct datadir *dir, bool clean)
{
    bool placed;
    dir->manifest.clean = clean;
    if (clean) /* a failure leaves "open", with which the next start is only more careful */
        (void)write_manifest(dir, &dir->manifest, &placed);
    release(dir);
}

/* What there is to know. */

const char *datadir_path(const struct datadir *dir)
{
    return dir->path;
}

uint64_t datadir_starts(const struct datadir *dir)
{
    return dir->manifest.starts;
}

uint64_t datadir_incarnation(const struct datadir *dir)
{
    return dir->manifest.incarnation;
}

uint32_t datadir_generation(const struct datadir *dir)
{
    return dir->manifest.generation;
}

unsigned datadir_shards(const struct datadir *dir)
{
    return dir->manifest.shards;
}

uint64_t datadir_segment_bytes(const struct datadir *dir)
{
    return dir->segment_bytes;
}

const uint8_t *datadir_hash_key(const struct datadir *dir)
{
    return dir->manifest.hash_key;
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
    pthread_mutex_lock(dir->mutex);
    for (size_t i = 0; i < dir->manifest.segment_count; i++) {
        const struct datadir_segment *s = &dir->manifest.segments[i];
        if (generation != 0 && (s->generation != generation || s->shard != shard))
            continue;
        if (count < max)
            segments[count] = *s;
        count++;
    }
    pthread_mutex_unlock(dir->mutex);
    size_t given = count < max ? count : max;
    if (given != 0)
        qsort(segments, given, sizeof(segments[0]), by_log_and_number);
    return count;
}

/* Ends. */

bool datadir_get_end(const struct datadir *dir, uint32_t generation, uint32_t shard,
                     struct datadir_end *end)
{
    pthread_mutex_lock(dir->mutex);
    const struct manifest_end *found = manifest_find_end(&dir->manifest, generation, shard);
    if (found != NULL)
        *end = found->end;
    pthread_mutex_unlock(dir->mutex);
    return found != NULL;
}

void datadir_set_end(struct datadir *dir, uint32_t generation, uint32_t shard,
                     const struct datadir_end *end)
{
    pthread_mutex_lock(dir->mutex);
    if (end != NULL)
        manifest_set_end(&dir->manifest, generation, shard, end);
    else
        manifest_drop_end(&dir->manifest, generation, shard);
    pthread_mutex_unlock(dir->mutex);
}

/* Whether a segment of an older generation was made ahead of need and never written. */
static bool is_unused(const struct manifest *m, const struct datadir_segment *segment)
{
    if (segment->generation == m->generation)
        return false;
    const struct manifest_end *log = manifest_find_end(m, segment->generation, segment->shard);
    return log != NULL && (log->end.batch == 0 || segment->number > log->end.segment);
}

static void drop_segment(struct datadir *dir, const struct datadir_segment *segment)
{
    char name[32];
    datadir_segment_name(segment->number, name);
    atomic_store_explicit(&slot_of(dir, segment->number)->fd, -1, memory_order_release);
    close(segment->fd);
    unlinkat(dir->fd, name, 0); /* else it is a left-over, for the next start */
}

/* Logs of older generations in which there is nothing have no segments any more, and no end. */
static void drop_empty_ends(struct manifest *m)
{
    for (size_t i = m->end_count; i-- > 0;) {
        struct manifest_end *e = &m->ends[i];
        if (e->generation < m->generation && e->end.batch == 0)
            manifest_drop_end(m, e->generation, e->shard);
    }
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
    drop_empty_ends(m);
    return count;
}

static bool has_old_logs(const struct manifest *m)
{
    for (size_t i = 0; i < m->segment_count; i++) {
        if (m->segments[i].generation < m->generation)
            return true;
    }
    return false;
}

int datadir_seal(struct datadir *dir)
{
    struct manifest *m = &dir->manifest;
    if (!has_old_logs(m))
        return 0;
    bool placed;
    struct datadir_segment *unused = mem_alloc(m->segment_count * sizeof(unused[0]));
    pthread_mutex_lock(dir->mutex);
    size_t count = take_unused(m, unused);
    int result = write_manifest(dir, m, &placed);
    for (size_t i = 0; i < count; i++) {
        if (result == 0)
            drop_segment(dir, &unused[i]);
        else
            manifest_add_segment(m, &unused[i]);
    }
    pthread_mutex_unlock(dir->mutex);
    free(unused);
    return result;
}

/* New segments. */

/*
 * Written in steps, each of which is on its way to the disk before the next: a queue of some
 * hundred writes would stand between a commit and its disk.
 */
static int write_segment(const struct datadir *dir, const struct datadir_segment *segment)
{
    if (fallocate(segment->fd, 0, 0, (off_t)segment->bytes) != 0 && errno != EOPNOTSUPP)
        return -errno;
    char *zeros = mem_alloc(ZEROS_BYTES);
    memset(zeros, 0, ZEROS_BYTES);
    int result = 0;
    for (uint64_t at = 0; at < segment->bytes && result == 0;) {
        uint64_t left = segment->bytes - at;
        size_t n = left < ZEROS_BYTES ? (size_t)left : ZEROS_BYTES;
        if (at == 0)
            log_segment_header_write(
                segment, log_segment_seed(datadir_hash_key(dir), segment->number), zeros);
        result = write_all(segment->fd, zeros, n, at);
        if (at == 0)
            memset(zeros, 0, LOG_SEGMENT_HEADER_BYTES);
        unsigned flags =
            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        if (result == 0 && sync_file_range(segment->fd, (off_t)at, (off_t)n, flags) != 0 &&
            errno != ENOSYS && errno != EINVAL && errno != ESPIPE)
            result = -errno;
        at += n;
    }
    free(zeros);
    if (result == 0 && (fsync(segment->fd) != 0 || fsync(dir->fd) != 0))
        result = -errno;
    return result;
}

static int take_number(struct datadir *dir, uint32_t *number)
{
    int result = 0;
    pthread_mutex_lock(dir->mutex);
    if (dir->manifest.next_segment == MANIFEST_SEGMENTS_MAX)
        result = -ENOSPC;
    else
        *number = dir->manifest.next_segment++;
    pthread_mutex_unlock(dir->mutex);
    return result;
}

/* Puts the segment into the manifest. *placed: as from write_manifest. */
static int enter_segment(struct datadir *dir, const struct datadir_segment *segment, bool *placed)
{
    pthread_mutex_lock(dir->mutex);
    manifest_add_segment(&dir->manifest, segment);
    int result = write_manifest(dir, &dir->manifest, placed);
    if (*placed)
        publish(dir, segment);
    else
        dir->manifest.segment_count--;
    pthread_mutex_unlock(dir->mutex);
    return result;
}

int datadir_add_segment(struct datadir *dir, uint32_t shard, struct datadir_segment *added)
{
    char name[32];
    struct datadir_segment segment = {
        .generation = dir->manifest.generation, .shard = shard, .bytes = dir->segment_bytes};
    assert(shard < dir->manifest.shards);
    int result = take_number(dir, &segment.number);
    if (result != 0)
        return result;
    datadir_segment_name(segment.number, name);
    segment.fd = openat(dir->fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (segment.fd < 0)
        return -errno;
    bool placed = false;
    result = write_segment(dir, &segment);
    if (result == 0)
        result = enter_segment(dir, &segment, &placed);
    if (!placed) {
        close(segment.fd);
        unlinkat(dir->fd, name, 0);
        return result;
    }
    *added = segment;
    return result;
}
