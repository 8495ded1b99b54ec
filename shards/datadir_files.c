/*
 * datadir_files: the names of the data directory's files, and the table of open segment files.
 *
 * The table is an array by segment number. It holds one reference to each file in it, every reader
 * one more; whoever gives back the last one closes the file. So a reader goes on with the version
 * it has found, whatever becomes of the segment meanwhile: its name may be gone from the directory,
 * its bytes are not.
 *
 * Failure: only datadir_load_file can fail, and says what is wrong with the file.
 */
#include "shards/datadir_internal.h"
#include "shards/log_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define SEGMENT_PREFIX "segment-"
#define SEGMENT_SUFFIX ".log"
#define CHECKPOINT_PREFIX "checkpoint-"
#define CHECKPOINT_SUFFIX ".dat"

/* Names. */

void datadir_segment_name(const struct datadir_segment *segment, char name[32])
{
    if (segment->version == 0)
        snprintf(name, DATADIR_NAME_BYTES, SEGMENT_PREFIX "%08" PRIu32 SEGMENT_SUFFIX,
                 segment->number);
    else
        snprintf(name, DATADIR_NAME_BYTES, SEGMENT_PREFIX "%08" PRIu32 ".%" PRIu32 SEGMENT_SUFFIX,
                 segment->number, segment->version);
}

void datadir_checkpoint_name(uint32_t number, char *name)
{
    snprintf(name, DATADIR_NAME_BYTES, CHECKPOINT_PREFIX "%08" PRIu32 CHECKPOINT_SUFFIX, number);
}

/* The number that begins at *p, which goes behind it; 0 where there is none that can be. */
static uint32_t parse_number(const char **p)
{
    char *end;
    unsigned long number = strtoul(*p, &end, 10);
    *p = end;
    return number <= UINT32_MAX ? (uint32_t)number : 0;
}

bool datadir_parse_segment_name(const char *name, uint32_t *number, uint32_t *version)
{
    char again[DATADIR_NAME_BYTES];
    struct datadir_segment segment = {0};
    if (strncmp(name, SEGMENT_PREFIX, strlen(SEGMENT_PREFIX)) != 0)
        return false;
    const char *p = name + strlen(SEGMENT_PREFIX);
    segment.number = parse_number(&p);
    if (segment.number == 0 || segment.number >= MANIFEST_SEGMENTS_MAX)
        return false;
    if (*p++ == '.')
        segment.version = parse_number(&p);
    datadir_segment_name(&segment, again);
    *number = segment.number;
    *version = segment.version;
    return strcmp(name, again) == 0;
}

bool datadir_parse_checkpoint_name(const char *name, uint32_t *number)
{
    char again[DATADIR_NAME_BYTES];
    if (strncmp(name, CHECKPOINT_PREFIX, strlen(CHECKPOINT_PREFIX)) != 0)
        return false;
    const char *p = name + strlen(CHECKPOINT_PREFIX);
    *number = parse_number(&p);
    datadir_checkpoint_name(*number, again);
    return *number != 0 && strcmp(name, again) == 0;
}

/* One file: is it what it should be? */

__attribute__((format(printf, 4, 5))) static int refuse(int result, char *what, size_t what_size,
                                                        const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, what_size, format, arguments);
    va_end(arguments);
    return result;
}

/* Reads all of `n` bytes. */
static int read_bytes(const struct datadir *dir, int fd, void *p, size_t n, uint64_t offset,
                      char *what, size_t what_size)
{
    int64_t got = dir->fs->ops->read(dir->fs, fd, p, n, offset);
    if (got < 0)
        return refuse((int)got, what, what_size, "cannot be read: %s", strerror((int)-got));
    if ((size_t)got < n)
        return refuse(-EIO, what, what_size, "is too short");
    return 0;
}

/* What is no segment at all is said to be that, and not to be of some version. */
static int check_version(const struct log_segment_header *header, char *what, size_t what_size)
{
    if (memcmp(header->magic, LOG_SEGMENT_MAGIC, sizeof(header->magic)) != 0 ||
        header->version == LOG_FORMAT_VERSION)
        return 0;
    return refuse(-EPROTONOSUPPORT, what, what_size,
                  "was written by %s Atoll: segment format %" PRIu32 ", this program reads %d",
                  header->version > LOG_FORMAT_VERSION ? "a newer" : "an older", header->version,
                  LOG_FORMAT_VERSION);
}

static int load_extents(const struct datadir *dir, struct datadir_file *file,
                        const struct log_rewritten_header *header, uint64_t seed, char *what,
                        size_t what_size)
{
    size_t bytes = header->extents_n * sizeof(file->extents[0]);
    file->bytes = header->extents_offset;
    file->extents_n = header->extents_n;
    file->extents = mem_alloc(bytes);
    int result =
        read_bytes(dir, file->fd, file->extents, bytes, header->extents_offset, what, what_size);
    if (result == 0 && !log_extents_check(file->extents, header, seed))
        result = refuse(-EIO, what, what_size, "is damaged: its table of extents is wrong");
    return result;
}

static int load(const struct datadir *dir, const struct datadir_segment *segment,
                struct datadir_file *file, char *what, size_t what_size)
{
    char page[LOG_SEGMENT_HEADER_BYTES];
    struct log_segment_header first;
    struct log_rewritten_header second;
    bool rewritten = segment->version != 0;
    uint64_t seed = log_segment_seed(dir->hash_key, segment->number);
    int result = read_bytes(dir, segment->fd, page, rewritten ? sizeof(page) : sizeof(first), 0,
                            what, what_size);
    if (result != 0)
        return result;
    memcpy(&first, page, sizeof(first));
    result = check_version(&first, what, what_size);
    if (result != 0)
        return result;
    const char *wrong = rewritten ? log_rewritten_header_check(page, segment, seed, &second)
                                  : log_segment_header_check(&first, segment, seed);
    if (wrong != NULL)
        return refuse(-EIO, what, what_size, "%s", wrong);
    return rewritten ? load_extents(dir, file, &second, seed, what, what_size) : 0;
}

int datadir_load_file(const struct datadir *dir, const struct datadir_segment *segment,
                      struct datadir_file **file, char *what, size_t what_size)
{
    int64_t size = dir->fs->ops->size(dir->fs, segment->fd);
    if (size < 0)
        return refuse((int)size, what, what_size, "cannot be read: %s", strerror((int)-size));
    if ((uint64_t)size != segment->bytes)
        return refuse(-EIO, what, what_size,
                      "has %" PRId64 " bytes, but the manifest says %" PRIu64, size,
                      segment->bytes);
    struct datadir_file *loaded = mem_alloc(sizeof(*loaded));
    *loaded = (struct datadir_file){.number = segment->number,
                                    .version = segment->version,
                                    .fd = segment->fd,
                                    .bytes = segment->bytes,
                                    .references = 1};
    int result = load(dir, segment, loaded, what, what_size);
    if (result == 0) {
        *file = loaded;
        return 0;
    }
    free(loaded->extents);
    free(loaded);
    return result;
}

void datadir_free_file(struct datadir *dir, struct datadir_file *file)
{
    dir->fs->ops->close(dir->fs, file->fd);
    free(file->extents);
    free(file);
}

/* The table. */

/* Takes away a reference; under the lock. Whether it was the last, so that the file is to be freed
 * outside of it. */
static bool unref(struct datadir_file *file)
{
    assert(file->references != 0);
    return --file->references == 0;
}

/* Seldom: the table doubles. */
static void make_room(struct datadir *dir, uint32_t number)
{
    size_t room = dir->files_room != 0 ? dir->files_room : 64;
    while (room <= number)
        room *= 2;
    dir->files = mem_realloc(dir->files, room * sizeof(dir->files[0]));
    memset(dir->files + dir->files_room, 0, (room - dir->files_room) * sizeof(dir->files[0]));
    dir->files_room = room;
}

/* Puts `file` (NULL: nothing) in the place of a number. */
static void replace(struct datadir *dir, uint32_t number, struct datadir_file *file)
{
    pthread_mutex_lock(&dir->locks->files);
    if (number >= dir->files_room)
        make_room(dir, number);
    struct datadir_file *before = dir->files[number];
    dir->files[number] = file;
    bool last = before != NULL && unref(before);
    pthread_mutex_unlock(&dir->locks->files);
    if (last)
        datadir_free_file(dir, before);
}

void datadir_put_file(struct datadir *dir, struct datadir_file *file)
{
    replace(dir, file->number, file);
}

void datadir_drop_file(struct datadir *dir, uint32_t number)
{
    replace(dir, number, NULL);
}

void datadir_free_files(struct datadir *dir)
{
    for (size_t i = 0; i < dir->files_room; i++) {
        if (dir->files[i] != NULL)
            datadir_drop_file(dir, (uint32_t)i);
    }
    free(dir->files);
}

const struct datadir_file *datadir_hold(struct datadir *dir, uint32_t number)
{
    pthread_mutex_lock(&dir->locks->files);
    struct datadir_file *file = number < dir->files_room ? dir->files[number] : NULL;
    if (file != NULL)
        file->references++;
    pthread_mutex_unlock(&dir->locks->files);
    return file;
}

void datadir_release(struct datadir *dir, const struct datadir_file *held)
{
    struct datadir_file *file = (struct datadir_file *)held; /* const to its holders */
    pthread_mutex_lock(&dir->locks->files);
    bool last = unref(file);
    pthread_mutex_unlock(&dir->locks->files);
    if (last)
        datadir_free_file(dir, file);
}

/* The last extent that begins at or before `offset`, as its index + 1; 0: there is none. */
static uint32_t extents_up_to(const struct datadir_file *file, uint32_t offset)
{
    uint32_t from = 0, to = file->extents_n;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (file->extents[middle].offset <= offset)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

bool datadir_locate(const struct datadir_file *file, uint32_t offset, uint64_t *at, uint64_t *room)
{
    uint64_t end = file->bytes;
    *at = offset;
    if (file->version != 0) {
        uint32_t next = extents_up_to(file, offset);
        if (next == 0)
            return false;
        const struct datadir_extent *extent = &file->extents[next - 1];
        *at = (uint64_t)extent->at + (offset - extent->offset);
        if (next < file->extents_n)
            end = file->extents[next].at;
    }
    if (*at >= end)
        return false;
    *room = end - *at;
    return true;
}
