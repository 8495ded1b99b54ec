/*
 * scratch: a directory for one test, and small things done to files behind a program's back.
 * Anything that goes wrong here ends the test.
 */
#ifndef ATOLL_TESTS_UNIT_SCRATCH_H
#define ATOLL_TESTS_UNIT_SCRATCH_H

#include "core/base.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct scratch {
    char path[64];
};

/* In memory where there is such a file system: tests that open a directory a thousand times are
 * quick there. `on_disk` where the file system's own behaviour matters. */
static inline void scratch_make(struct scratch *s, bool on_disk)
{
    bool in_memory = !on_disk && access("/dev/shm", W_OK) == 0;
    snprintf(s->path, sizeof(s->path), "%s/atoll-unit-XXXXXX", in_memory ? "/dev/shm" : "/tmp");
    char *made = mkdtemp(s->path);
    assert(made != NULL);
}

static inline int scratch_remove_one(const char *path, const struct stat *st, int flag,
                                     struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static inline void scratch_remove(struct scratch *s)
{
    int result = nftw(s->path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    assert(result == 0);
}

/* `name` in the directory, good until the next call but seven. */
static inline const char *scratch_file(const struct scratch *s, const char *name)
{
    static char paths[8][160];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", s->path, name);
    return path;
}

/* The whole file; the caller frees it. */
static inline struct buf file_read(const char *path)
{
    struct buf b = {0};
    FILE *f = fopen(path, "rb");
    assert(f != NULL);
    for (size_t n = 1; n != 0; b.n += n)
        n = fread(buf_reserve(&b, 1 << 16), 1, 1 << 16, f);
    fclose(f);
    return b;
}

static inline void file_write(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert(f != NULL);
    size_t written = fwrite(p, 1, n, f);
    assert(written == n);
    int result = fclose(f);
    assert(result == 0);
}

/* Overwrites bytes in the middle of a file. */
static inline void file_patch(const char *path, uint64_t offset, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert(fd >= 0);
    ssize_t written = pwrite(fd, p, n, (off_t)offset);
    assert(written == (ssize_t)n);
    close(fd);
}

static inline void flip(char *byte, unsigned bits)
{
    *byte = (char)((unsigned char)*byte ^ bits);
}

static inline bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

#endif
