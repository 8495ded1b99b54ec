/* memory_fs: an fd is the place of a file in the table, from 3 on. */
#include "tests/fuzz/memory_fs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_FD = 3 };

struct memory_fs {
    struct fs fs;
    struct memory_files *files;
};

static struct memory_files *files_of(struct fs *fs)
{
    return ((struct memory_fs *)fs)->files;
}

static struct buf *bytes_of(struct fs *fs, int file)
{
    return &files_of(fs)->items[file - FIRST_FD].bytes;
}

static int find(const struct memory_files *files, const char *name)
{
    for (int i = 0; i < MEMORY_FILES_MAX; i++) {
        if (strcmp(files->items[i].name, name) == 0)
            return i;
    }
    return -1;
}

static int make(struct memory_files *files, const char *name)
{
    int place = find(files, "");
    assert(place >= 0 && name[0] != '\0');
    snprintf(files->items[place].name, MEMORY_NAME_BYTES, "%s", name);
    return place;
}

struct buf *memory_file(struct memory_files *files, const char *name)
{
    int place = find(files, name);
    return &files->items[place >= 0 ? place : make(files, name)].bytes;
}

void memory_files_free(struct memory_files *files)
{
    for (int i = 0; i < MEMORY_FILES_MAX; i++)
        buf_free(&files->items[i].bytes);
    *files = (struct memory_files){0};
}

static int memory_open(struct fs *fs, const char *name, enum fs_open how)
{
    int place = find(files_of(fs), name);
    if (how == FS_DIRECT)
        return -EINVAL;
    if (how == FS_CREATE)
        return place >= 0 ? -EEXIST : FIRST_FD + make(files_of(fs), name);
    return place >= 0 ? FIRST_FD + place : -ENOENT;
}

static void memory_close(struct fs *fs, int file)
{
    assert(file >= FIRST_FD && file < FIRST_FD + MEMORY_FILES_MAX);
    (void)fs;
}

static int64_t memory_read(struct fs *fs, int file, void *p, size_t n, uint64_t offset)
{
    const struct buf *bytes = bytes_of(fs, file);
    if (offset >= bytes->n)
        return 0;
    n = n < bytes->n - offset ? n : bytes->n - offset;
    memcpy(p, bytes->p + offset, n);
    return (int64_t)n;
}

static int memory_truncate(struct fs *fs, int file, uint64_t n)
{
    struct buf *bytes = bytes_of(fs, file);
    if (n > bytes->n)
        memset(buf_reserve(bytes, n - bytes->n), 0, n - bytes->n);
    bytes->n = n;
    return 0;
}

static int memory_write(struct fs *fs, int file, const void *p, size_t n, uint64_t offset)
{
    struct buf *bytes = bytes_of(fs, file);
    if (offset + n > bytes->n)
        memory_truncate(fs, file, offset + n);
    memcpy(bytes->p + offset, p, n);
    return 0;
}

static int memory_sync(struct fs *fs, int file)
{
    (void)fs, (void)file;
    return 0;
}

static int memory_write_out(struct fs *fs, int file, uint64_t offset, uint64_t n)
{
    (void)fs, (void)file, (void)offset, (void)n;
    return 0;
}

static int memory_allocate(struct fs *fs, int file, uint64_t n)
{
    return n > bytes_of(fs, file)->n ? memory_truncate(fs, file, n) : 0;
}

static int64_t memory_size(struct fs *fs, int file)
{
    return (int64_t)bytes_of(fs, file)->n;
}

static void memory_forget(struct fs *fs, int file)
{
    (void)fs, (void)file;
}

static int memory_remove(struct fs *fs, const char *name)
{
    int place = find(files_of(fs), name);
    if (place < 0)
        return -ENOENT;
    buf_free(&files_of(fs)->items[place].bytes);
    files_of(fs)->items[place] = (struct memory_file){0};
    return 0;
}

static int memory_rename(struct fs *fs, const char *from, const char *to)
{
    int place = find(files_of(fs), from);
    if (place < 0)
        return -ENOENT;
    (void)memory_remove(fs, to);
    snprintf(files_of(fs)->items[place].name, MEMORY_NAME_BYTES, "%s", to);
    return 0;
}

static int memory_sync_directory(struct fs *fs)
{
    (void)fs;
    return 0;
}

static int memory_list(struct fs *fs, fs_visit *visit, void *ctx)
{
    int result = 0;
    for (int i = 0; i < MEMORY_FILES_MAX && result == 0; i++) {
        char name[MEMORY_NAME_BYTES]; /* which the visitor may remove */
        memcpy(name, files_of(fs)->items[i].name, sizeof(name));
        if (name[0] != '\0')
            result = visit(ctx, name);
    }
    return result;
}

static int memory_lock(struct fs *fs, const char *name)
{
    (void)memory_file(files_of(fs), name);
    return 0;
}

static int memory_random(struct fs *fs, void *p, size_t n)
{
    (void)fs;
    memset(p, 7, n);
    return 0;
}

static void memory_boot_id(struct fs *fs, char *text, size_t size)
{
    (void)fs;
    snprintf(text, size, "boot");
}

static void memory_pause_ms(struct fs *fs, unsigned ms)
{
    (void)fs, (void)ms;
}

static void memory_free(struct fs *fs)
{
    free(fs);
}

struct fs *memory_fs_new(struct memory_files *files)
{
    static const struct fs_ops ops = {
        .open = memory_open,
        .close = memory_close,
        .read = memory_read,
        .write = memory_write,
        .sync = memory_sync,
        .data_sync = memory_sync,
        .write_out = memory_write_out,
        .allocate = memory_allocate,
        .size = memory_size,
        .truncate = memory_truncate,
        .forget = memory_forget,
        .rename = memory_rename,
        .remove = memory_remove,
        .sync_directory = memory_sync_directory,
        .list = memory_list,
        .lock = memory_lock,
        .random = memory_random,
        .boot_id = memory_boot_id,
        .pause_ms = memory_pause_ms,
        .free = memory_free,
    };
    struct memory_fs *memory = mem_alloc(sizeof(*memory));
    *memory = (struct memory_fs){.fs = {&ops, "memory"}, .files = files};
    return &memory->fs;
}
