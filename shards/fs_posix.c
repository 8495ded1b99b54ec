/*
 * fs_posix: struct fs over a directory of the machine it runs on. The directory is held by an fd,
 * so it stays the same one when its path is renamed or replaced under a running server.
 *
 * Normal path: one system call an operation, tried again where a signal has cut it short. Files
 * are made for their owner alone.
 *
 * Failure: -errno, as the system call says it; the few that stand for "this file system cannot"
 * where nothing was promised are no failure.
 */
#define _GNU_SOURCE 1

#include "core/base.h"
#include "shards/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

enum { FILE_MODE = 0600, DIRECTORY_MODE = 0700 };

struct fs_posix {
    struct fs fs;
    char *path;
    int fd;
    int lock_fd; /* -1: none taken */
};

static int directory_fd(const struct fs *fs)
{
    return ((const struct fs_posix *)fs)->fd;
}

static int result_of(int answer)
{
    return answer < 0 ? -errno : answer;
}

/* Files. */

static int open_at(int directory, const char *name, int flags)
{
    int fd;
    do
        fd = openat(directory, name, flags | O_CLOEXEC, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    return result_of(fd);
}

/* Anything but a regular file is refused: none of ours is something else. */
static int posix_open(struct fs *fs, const char *name, enum fs_open how)
{
    static const int flags[] = {
        [FS_READ] = O_RDONLY,
        [FS_WRITE] = O_RDWR,
        [FS_CREATE] = O_RDWR | O_CREAT | O_EXCL,
        [FS_DIRECT] = O_RDWR | O_DIRECT,
    };
    struct stat st;
    int fd = open_at(directory_fd(fs), name, flags[how]);
    if (fd < 0)
        return fd;
    int result = fstat(fd, &st) != 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
    if (result == 0)
        return fd;
    close(fd);
    return result;
}

static void posix_close(struct fs *fs, int file)
{
    (void)fs;
    close(file);
}

static int64_t posix_read(struct fs *fs, int file, void *buf, size_t n, uint64_t offset)
{
    size_t done = 0;
    (void)fs;
    while (done < n) {
        ssize_t got = pread(file, (char *)buf + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (int64_t)done;
}

static int posix_write(struct fs *fs, int file, const void *buf, size_t n, uint64_t offset)
{
    size_t done = 0;
    (void)fs;
    while (done < n) {
        ssize_t written = pwrite(file, (const char *)buf + done, n - done, (off_t)(offset + done));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written == 0 ? -EIO : -errno;
        done += (size_t)written;
    }
    return 0;
}

/* Never tried again: after a failure the pages may be gone, and a second call would say it is well.
 */
static int posix_sync(struct fs *fs, int file)
{
    (void)fs;
    return result_of(fsync(file));
}

static int posix_data_sync(struct fs *fs, int file)
{
    (void)fs;
    return result_of(fdatasync(file));
}

static int posix_write_out(struct fs *fs, int file, uint64_t offset, uint64_t n)
{
    const unsigned flags =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    (void)fs;
    if (sync_file_range(file, (off_t)offset, (off_t)n, flags) == 0 || errno == ENOSYS ||
        errno == EINVAL || errno == ESPIPE)
        return 0;
    return -errno;
}

static int posix_allocate(struct fs *fs, int file, uint64_t n)
{
    int answer;
    (void)fs;
    do
        answer = fallocate(file, 0, 0, (off_t)n);
    while (answer != 0 && errno == EINTR);
    return result_of(answer);
}

static int64_t posix_size(struct fs *fs, int file)
{
    struct stat st;
    (void)fs;
    return fstat(file, &st) != 0 ? -errno : (int64_t)st.st_size;
}

static int posix_truncate(struct fs *fs, int file, uint64_t n)
{
    int answer;
    (void)fs;
    do
        answer = ftruncate(file, (off_t)n);
    while (answer != 0 && errno == EINTR);
    return result_of(answer);
}

static void posix_forget(struct fs *fs, int file)
{
    (void)fs;
    (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

/* The directory. */

static int posix_rename(struct fs *fs, const char *from, const char *to)
{
    return result_of(renameat(directory_fd(fs), from, directory_fd(fs), to));
}

static int posix_remove(struct fs *fs, const char *name)
{
    return result_of(unlinkat(directory_fd(fs), name, 0));
}

static int posix_sync_directory(struct fs *fs)
{
    return result_of(fsync(directory_fd(fs)));
}

static int visit_names(DIR *stream, fs_visit *visit, void *ctx)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL)
            return -errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int result = visit(ctx, entry->d_name);
        if (result != 0)
            return result;
    }
}

static int posix_list(struct fs *fs, fs_visit *visit, void *ctx)
{
    int fd = open_at(directory_fd(fs), ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fd;
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        int result = -errno;
        close(fd);
        return result;
    }
    int result = visit_names(stream, visit, ctx);
    closedir(stream);
    return result;
}

/* Whoever may read the directory but not write to it can lock a file that is there already. */
static int open_lock(const struct fs *fs, const char *name)
{
    int fd = open_at(directory_fd(fs), name, O_CREAT | O_RDWR);
    if (fd == -EACCES || fd == -EPERM || fd == -EROFS)
        fd = open_at(directory_fd(fs), name, O_RDONLY);
    return fd;
}

static int posix_lock(struct fs *fs, const char *name)
{
    struct fs_posix *posix = (struct fs_posix *)fs;
    assert(posix->lock_fd < 0);
    int fd = open_lock(fs, name);
    if (fd < 0)
        return fd;
    int answer;
    do
        answer = flock(fd, LOCK_EX | LOCK_NB);
    while (answer != 0 && errno == EINTR);
    if (answer != 0) {
        int result = -errno;
        close(fd);
        return result;
    }
    posix->lock_fd = fd;
    return 0;
}

/* The machine. */

static int posix_random(struct fs *fs, void *p, size_t n)
{
    size_t done = 0;
    (void)fs;
    while (done < n) {
        ssize_t got = getrandom((char *)p + done, n - done, 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0)
            done += (size_t)got;
    }
    return 0;
}

static void posix_boot_id(struct fs *fs, char *text, size_t size)
{
    (void)fs;
    text[0] = 0;
    int fd = open_at(AT_FDCWD, BOOT_ID_PATH, O_RDONLY);
    if (fd < 0)
        return;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, " \n")] = 0;
}

static void posix_pause_ms(struct fs *fs, unsigned ms)
{
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
    (void)fs;
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static void posix_free(struct fs *fs)
{
    struct fs_posix *posix = (struct fs_posix *)fs;
    if (posix->lock_fd >= 0)
        close(posix->lock_fd);
    close(posix->fd);
    free(posix->path);
    free(posix);
}

static const struct fs_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .write = posix_write,
    .sync = posix_sync,
    .data_sync = posix_data_sync,
    .write_out = posix_write_out,
    .allocate = posix_allocate,
    .size = posix_size,
    .truncate = posix_truncate,
    .forget = posix_forget,
    .rename = posix_rename,
    .remove = posix_remove,
    .sync_directory = posix_sync_directory,
    .list = posix_list,
    .lock = posix_lock,
    .random = posix_random,
    .boot_id = posix_boot_id,
    .pause_ms = posix_pause_ms,
    .free = posix_free,
};

/* Opening. */

/* So that a new directory's name lasts. A parent that may not be read cannot be synced; then it is
 * the file system's own next commit that makes it last. */
static void sync_parent(int directory)
{
    int parent = open_at(directory, "..", O_RDONLY | O_DIRECTORY);
    if (parent < 0)
        return;
    fsync(parent);
    close(parent);
}

/* Its fd, or -errno with a sentence. */
static int open_directory(const char *path, bool make, char *error, size_t error_size)
{
    bool made = make && mkdir(path, DIRECTORY_MODE) == 0;
    if (make && !made && errno != EEXIST) {
        int result = -errno;
        snprintf(error, error_size, "%s cannot be made: %s", path, strerror(-result));
        return result;
    }
    int fd = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
    if (fd == -ENOTDIR)
        snprintf(error, error_size, "%s is no directory", path);
    else if (fd < 0)
        snprintf(error, error_size, "%s cannot be opened: %s", path, strerror(-fd));
    if (fd >= 0 && made)
        sync_parent(fd);
    return fd;
}

int fs_posix_open(const char *path, bool make, struct fs **fs, char *error, size_t error_size)
{
    int fd = open_directory(path, make, error, error_size);
    if (fd < 0)
        return fd;
    struct fs_posix *posix = mem_alloc(sizeof(*posix));
    size_t path_bytes = strlen(path) + 1;
    *posix = (struct fs_posix){.fd = fd, .lock_fd = -1};
    posix->path = memcpy(mem_alloc(path_bytes), path, path_bytes);
    posix->fs = (struct fs){.ops = &posix_ops, .path = posix->path};
    *fs = &posix->fs;
    return 0;
}
