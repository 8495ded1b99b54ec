/*
 * failing_fs: passes everything on to another file system until it is told to fail, at any step.
 */
#ifndef ATOLL_TESTS_UNIT_FAILING_FS_H
#define ATOLL_TESTS_UNIT_FAILING_FS_H

#include "core/base.h"
#include "shards/fs.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Of the steps that change something, the next `left` are done, and the `bad` ones behind those
 * fail with `error`. One of them is a disk's hiccup; all of them (UINT_MAX) are what a process
 * leaves that is killed there: it does not even clean up.
 */
struct failing_fs {
    struct fs fs;
    struct fs *real;
    unsigned left;
    unsigned bad;
    int error;
    bool only_files; /* rename, remove and sync of the directory are no steps */
    enum { DIRECT_CAN, DIRECT_REFUSED, DIRECT_FAILS } direct; /* at open; when written to */
    int direct_file; /* DIRECT_FAILS: the last that was opened, 0: none */
};

static inline struct fs *real_fs(struct fs *fs)
{
    return ((struct failing_fs *)fs)->real;
}

static inline int failing_step(struct fs *fs, bool on_file)
{
    struct failing_fs *f = (struct failing_fs *)fs;
    if (f->only_files && !on_file)
        return 0;
    if (f->left != 0) {
        f->left--;
        return 0;
    }
    if (f->bad == 0)
        return 0;
    f->bad--;
    return f->error;
}

static inline int failing_open(struct fs *fs, const char *name, enum fs_open how)
{
    struct failing_fs *f = (struct failing_fs *)fs;
    int result = how == FS_CREATE ? failing_step(fs, true) : 0;
    if (how == FS_DIRECT && f->direct == DIRECT_REFUSED)
        return -EINVAL;
    if (result == 0)
        result = real_fs(fs)->ops->open(real_fs(fs), name, how);
    if (how == FS_DIRECT && f->direct == DIRECT_FAILS)
        f->direct_file = result;
    return result;
}

static inline bool failing_directly(struct fs *fs, int file)
{
    return file == ((struct failing_fs *)fs)->direct_file;
}

static inline void failing_close(struct fs *fs, int file)
{
    if (failing_directly(fs, file))
        ((struct failing_fs *)fs)->direct_file = 0;
    real_fs(fs)->ops->close(real_fs(fs), file);
}

static inline int64_t failing_read(struct fs *fs, int file, void *p, size_t n, uint64_t offset)
{
    return real_fs(fs)->ops->read(real_fs(fs), file, p, n, offset);
}

static inline int failing_write(struct fs *fs, int file, const void *p, size_t n, uint64_t offset)
{
    int result = failing_directly(fs, file) ? -EINVAL : failing_step(fs, true);
    return result != 0 ? result : real_fs(fs)->ops->write(real_fs(fs), file, p, n, offset);
}

static inline int failing_sync(struct fs *fs, int file)
{
    int result = failing_step(fs, true);
    return result != 0 ? result : real_fs(fs)->ops->sync(real_fs(fs), file);
}

static inline int failing_data_sync(struct fs *fs, int file)
{
    int result = failing_step(fs, true);
    return result != 0 ? result : real_fs(fs)->ops->data_sync(real_fs(fs), file);
}

static inline int failing_write_out(struct fs *fs, int file, uint64_t offset, uint64_t n)
{
    return real_fs(fs)->ops->write_out(real_fs(fs), file, offset, n);
}

static inline int failing_allocate(struct fs *fs, int file, uint64_t n)
{
    int result = failing_step(fs, true);
    return result != 0 ? result : real_fs(fs)->ops->allocate(real_fs(fs), file, n);
}

static inline int64_t failing_size(struct fs *fs, int file)
{
    return real_fs(fs)->ops->size(real_fs(fs), file);
}

static inline int failing_truncate(struct fs *fs, int file, uint64_t n)
{
    int result = failing_step(fs, true);
    return result != 0 ? result : real_fs(fs)->ops->truncate(real_fs(fs), file, n);
}

static inline void failing_forget(struct fs *fs, int file)
{
    real_fs(fs)->ops->forget(real_fs(fs), file);
}

static inline int failing_rename(struct fs *fs, const char *from, const char *to)
{
    int result = failing_step(fs, false);
    return result != 0 ? result : real_fs(fs)->ops->rename(real_fs(fs), from, to);
}

static inline int failing_remove(struct fs *fs, const char *name)
{
    int result = failing_step(fs, false);
    return result != 0 ? result : real_fs(fs)->ops->remove(real_fs(fs), name);
}

static inline int failing_sync_directory(struct fs *fs)
{
    int result = failing_step(fs, false);
    return result != 0 ? result : real_fs(fs)->ops->sync_directory(real_fs(fs));
}

static inline int failing_list(struct fs *fs, fs_visit *visit, void *ctx)
{
    return real_fs(fs)->ops->list(real_fs(fs), visit, ctx);
}

static inline int failing_lock(struct fs *fs, const char *name)
{
    return real_fs(fs)->ops->lock(real_fs(fs), name);
}

static inline int failing_random(struct fs *fs, void *p, size_t n)
{
    return real_fs(fs)->ops->random(real_fs(fs), p, n);
}

static inline void failing_boot_id(struct fs *fs, char *text, size_t size)
{
    real_fs(fs)->ops->boot_id(real_fs(fs), text, size);
}

static inline void failing_pause_ms(struct fs *fs, unsigned ms)
{
    real_fs(fs)->ops->pause_ms(real_fs(fs), ms);
}

static inline void failing_free(struct fs *fs)
{
    real_fs(fs)->ops->free(real_fs(fs));
    free(fs);
}

/* `real` is taken. */
static inline struct failing_fs *failing_fs_make(struct fs *real)
{
    static const struct fs_ops ops = {
        .open = failing_open,
        .close = failing_close,
        .read = failing_read,
        .write = failing_write,
        .sync = failing_sync,
        .data_sync = failing_data_sync,
        .write_out = failing_write_out,
        .allocate = failing_allocate,
        .size = failing_size,
        .truncate = failing_truncate,
        .forget = failing_forget,
        .rename = failing_rename,
        .remove = failing_remove,
        .sync_directory = failing_sync_directory,
        .list = failing_list,
        .lock = failing_lock,
        .random = failing_random,
        .boot_id = failing_boot_id,
        .pause_ms = failing_pause_ms,
        .free = failing_free,
    };
    struct failing_fs *f = mem_alloc(sizeof(*f));
    *f = (struct failing_fs){.fs = {&ops, real->path}, .real = real};
    return f;
}

#endif
