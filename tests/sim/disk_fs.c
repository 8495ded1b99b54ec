/*
 * disk_fs: struct fs on a simulated disk.
 *
 * Failure: of the simulated program, by design; of ours, by assert.
 */
#include "tests/sim/disk_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct disk_fs {
    struct fs fs;
    struct disk *disk;
    unsigned life;
    bool locked;
    void (*pause)(void *ctx, unsigned ms);
    void *ctx;
};

static struct disk *disk_of(struct fs *fs)
{
    return ((struct disk_fs *)fs)->disk;
}

static int handle_new(struct disk *disk, struct inode *inode, enum fs_open how)
{
    if (disk->handles_n == disk->handles_cap) {
        disk->handles_cap = disk->handles_cap != 0 ? 2 * disk->handles_cap : 64;
        disk->handles = mem_realloc(disk->handles, disk->handles_cap * sizeof(*disk->handles));
    }
    inode_hold(inode);
    inode_use(disk, inode);
    disk->handles[disk->handles_n] = (struct handle){inode, how != FS_READ, how == FS_DIRECT};
    return (int)disk->handles_n++ + 3;
}

static int fs_open(struct fs *fs, const char *name, enum fs_open how)
{
    struct disk *disk = disk_of(fs);
    int result = disk_begins_whole(disk);
    if (result != 0)
        return result;
    const struct name *found = disk_find_name(&disk->now, name);
    if (how == FS_CREATE) {
        if (found != NULL)
            return disk_result(disk, -EEXIST);
        struct inode *inode = inode_new(disk);
        disk_change(disk, LINK, name, "", inode);
        return disk->dead ? -EIO : handle_new(disk, inode, how);
    }
    if (found == NULL)
        return disk_result(disk, -ENOENT);
    return disk->dead ? -EIO : handle_new(disk, found->inode, how);
}

static void fs_close(struct fs *fs, int file)
{
    struct disk *disk = disk_of(fs);
    struct inode *inode = disk_inode(disk, file);
    inode_unuse(disk, inode);
    inode_release(inode);
    disk->handles[file - 3].inode = NULL;
}

static int64_t fs_read(struct fs *fs, int file, void *buf, size_t n, uint64_t offset)
{
    return disk_read(disk_of(fs), file, buf, n, offset);
}

static int fs_write(struct fs *fs, int file, const void *buf, size_t n, uint64_t offset)
{
    return disk_write(disk_of(fs), file, buf, n, offset);
}

static int fs_sync(struct fs *fs, int file)
{
    return disk_sync(disk_of(fs), file);
}

/* It may get there, all of it or some; a later sync is what counts. */
static int fs_write_out(struct fs *fs, int file, uint64_t offset, uint64_t n)
{
    struct disk *disk = disk_of(fs);
    struct inode *inode = disk_inode(disk, file);
    int result = disk_begins_whole(disk);
    uint64_t end = disk_sectors(disk_least(offset + n, inode->size));
    for (uint64_t i = offset / DISK_SECTOR_BYTES; result == 0 && i < end; i++) {
        if (inode->dirty[i] && rng_percent(disk->rng, 90))
            inode_carry(inode, i);
    }
    return disk_result(disk, result);
}

static int fs_allocate(struct fs *fs, int file, uint64_t n)
{
    struct disk *disk = disk_of(fs);
    struct inode *inode = disk_inode(disk, file);
    int result = disk_begins_whole(disk);
    if (result == 0)
        result = inode_allocate(disk, inode, n);
    if (result == 0) {
        inode_grow(inode, n);
        inode->size = disk_most(inode->size, n);
    }
    return disk_result(disk, result);
}

static int64_t fs_size(struct fs *fs, int file)
{
    return disk_is_dead(disk_of(fs)) ? -EIO : (int64_t)disk_inode(disk_of(fs), file)->size;
}

static int fs_truncate(struct fs *fs, int file, uint64_t n)
{
    struct disk *disk = disk_of(fs);
    struct inode *inode = disk_inode(disk, file);
    int result = disk_begins_whole(disk);
    if (result == 0) {
        inode_grow(inode, n);
        if (n < inode->size) {
            uint64_t first = disk_sectors(n);
            memset(inode->now + n, 0, inode->size - n);
            memset(inode->dirty + first, 0, disk_sectors(inode->size) - first);
            if (n % DISK_SECTOR_BYTES != 0)
                inode->dirty[n / DISK_SECTOR_BYTES] = 1;
        }
        inode->size = n;
    }
    return disk_result(disk, result);
}

static void fs_forget(struct fs *fs, int file)
{
    if (!disk_is_dead(disk_of(fs)))
        inode_forget(disk_inode(disk_of(fs), file));
}

static int fs_rename(struct fs *fs, const char *from, const char *to)
{
    struct disk *disk = disk_of(fs);
    int result = disk_begins_whole(disk);
    const struct name *name = disk_find_name(&disk->now, from);
    if (result == 0 && name == NULL)
        result = -ENOENT;
    if (result == 0)
        disk_change(disk, RENAME, from, to, name->inode);
    return disk_result(disk, result);
}

static int fs_remove(struct fs *fs, const char *text)
{
    struct disk *disk = disk_of(fs);
    int result = disk_begins_whole(disk);
    const struct name *name = disk_find_name(&disk->now, text);
    if (result == 0 && name == NULL)
        result = -ENOENT;
    if (result == 0)
        disk_change(disk, UNLINK, text, "", name->inode);
    return disk_result(disk, result);
}

static int fs_sync_directory(struct fs *fs)
{
    struct disk *disk = disk_of(fs);
    bool last;
    if (!disk_begins(disk, &last))
        return -EIO;
    bool fails = last || disk_fault(disk, disk->faults.directory_sync_fails);
    unsigned done = fails ? rng_below(disk->rng, disk->pending_n + 1) : disk->pending_n;
    for (unsigned i = 0; i < done; i++) {
        disk_apply(disk, &disk->durable, &disk->pending[i]);
        inode_release(disk->pending[i].inode);
    }
    disk->pending_n -= done;
    if (disk->pending_n != 0)
        memmove(disk->pending, disk->pending + done, disk->pending_n * sizeof(*disk->pending));
    return fails ? -EIO : 0;
}

static int fs_list(struct fs *fs, fs_visit *visit, void *ctx)
{
    struct disk *disk = disk_of(fs);
    int result = disk_begins_whole(disk);
    if (disk->dead)
        result = -EIO;
    unsigned n = disk->now.n;
    unsigned first = n != 0 ? rng_below(disk->rng, n) : 0;
    char(*names)[NAME_BYTES] = mem_zeroed(n + 1, NAME_BYTES);
    for (unsigned i = 0; i < n; i++)
        disk_copy_name(names[i], disk->now.names[(first + i) % n].text);
    for (unsigned i = 0; i < n && result == 0; i++)
        result = visit(ctx, names[i]); /* which may remove it */
    free(names);
    return result;
}

/* The lock's file is there afterwards, as flock needs one. */
static int fs_lock(struct fs *fs, const char *name)
{
    struct disk *disk = disk_of(fs);
    int result = disk_begins_whole(disk);
    if (result != 0 || disk->dead)
        return -EIO;
    if (disk->locked)
        return -EWOULDBLOCK;
    if (disk_find_name(&disk->now, name) == NULL)
        disk_change(disk, LINK, name, "", inode_new(disk));
    disk->locked = ((struct disk_fs *)fs)->locked = true;
    return 0;
}

static int fs_random(struct fs *fs, void *p, size_t n)
{
    rng_fill(disk_of(fs)->rng, p, n);
    return 0;
}

static void fs_boot_id(struct fs *fs, char *text, size_t size)
{
    snprintf(text, size, "simulated-%u", disk_of(fs)->boots);
}

static void fs_pause_ms(struct fs *fs, unsigned ms)
{
    const struct disk_fs *mine = (const struct disk_fs *)fs;
    if (mine->pause != NULL)
        mine->pause(mine->ctx, ms);
}

static void fs_free(struct fs *fs)
{
    struct disk_fs *mine = (struct disk_fs *)fs;
    if (mine->locked && mine->life == mine->disk->life)
        mine->disk->locked = false;
    free(mine);
}

static const struct fs_ops disk_fs_ops = {
    .open = fs_open,
    .close = fs_close,
    .read = fs_read,
    .write = fs_write,
    .sync = fs_sync,
    .data_sync = fs_sync,
    .write_out = fs_write_out,
    .allocate = fs_allocate,
    .size = fs_size,
    .truncate = fs_truncate,
    .forget = fs_forget,
    .rename = fs_rename,
    .remove = fs_remove,
    .sync_directory = fs_sync_directory,
    .list = fs_list,
    .lock = fs_lock,
    .random = fs_random,
    .boot_id = fs_boot_id,
    .pause_ms = fs_pause_ms,
    .free = fs_free,
};

struct fs *disk_fs_new(struct disk *disk, void (*pause)(void *ctx, unsigned ms), void *ctx)
{
    struct disk_fs *fs = mem_alloc(sizeof(*fs));
    *fs = (struct disk_fs){.disk = disk, .life = disk->life, .pause = pause, .ctx = ctx};
    fs->fs = (struct fs){.ops = &disk_fs_ops, .path = "disk"};
    return &fs->fs;
}
