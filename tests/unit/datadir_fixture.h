/*
 * datadir_fixture: a data directory of its own for each test, on a file system that can be told to
 * fail.
 */
#ifndef ATOLL_TESTS_UNIT_DATADIR_FIXTURE_H
#define ATOLL_TESTS_UNIT_DATADIR_FIXTURE_H

#include "shards/datadir.h"
#include "shards/log_format.h"
#include "shards/manifest.h"
#include "tests/unit/failing_fs.h"
#include "tests/unit/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mount.h>

#include <cmocka.h>

#define SEGMENT_BYTES (UINT64_C(32) * 1024)

struct fixture {
    struct scratch scratch;
    char path[128];
    struct datadir_options options; /* fs: made for each opening */
    struct failing_fs *fs;          /* of the directory that is open, works until told not to */
    struct datadir *dir;
    char error[512];
};

static inline int set_up(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));
    memset(f, 0, sizeof(*f));
    scratch_make(&f->scratch, false);
    snprintf(f->path, sizeof(f->path), "%s/data", f->scratch.path);
    f->options = (struct datadir_options){.shards = 2, .segment_bytes = SEGMENT_BYTES};
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->dir != NULL)
        datadir_close(f->dir, false);
    umount2(f->path, MNT_DETACH); /* of a test that did not get there */
    scratch_remove(&f->scratch);
    free(f);
    return 0;
}

static inline const char *in_data(const struct fixture *f, const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "data/%s", name);
    return scratch_file(&f->scratch, path);
}

/* Opens it without beginning a generation. */
static inline int try_open(struct fixture *f, struct datadir **dir)
{
    struct fs *real;
    int result = fs_posix_open(f->path, !f->options.read_only, &real, f->error, sizeof(f->error));
    if (result != 0)
        return result;
    f->fs = failing_fs_make(real);
    f->options.fs = &f->fs->fs;
    return datadir_open(&f->options, dir, f->error, sizeof(f->error));
}

/* Begins a checkpoint that holds `fill`, `bytes` times; 0, or -errno and there is none. */
static inline int write_checkpoint(struct fixture *f, int fill, size_t bytes,
                                   struct datadir_checkpoint *checkpoint, int *fd)
{
    struct fs *fs = datadir_fs(f->dir);
    *checkpoint = (struct datadir_checkpoint){.bytes = bytes};
    int result = datadir_begin_checkpoint(f->dir, &checkpoint->number, fd);
    if (result != 0)
        return result;
    void *p = memset(mem_alloc(bytes), fill, bytes);
    result = fs->ops->write(fs, *fd, p, bytes, 0);
    free(p);
    if (result != 0)
        datadir_abandon_checkpoint(f->dir, checkpoint->number, *fd);
    return result;
}

/* A whole one. */
static inline int make_checkpoint(struct fixture *f, unsigned shard, int fill, size_t bytes)
{
    struct datadir_checkpoint checkpoint;
    int fd;
    int result = write_checkpoint(f, fill, bytes, &checkpoint, &fd);
    return result == 0 ? datadir_finish_checkpoint(f->dir, shard, &checkpoint, fd) : result;
}

/* As recovery would, with a small checkpoint for each shard. */
static inline int begin_generation(struct fixture *f)
{
    struct datadir_checkpoint checkpoints[DATADIR_SHARDS_MAX];
    int fds[DATADIR_SHARDS_MAX];
    int result = 0;
    unsigned n = 0;
    if (datadir_recover_generation(f->dir) == 0)
        return datadir_begin_generation(f->dir, NULL, NULL);
    for (; n < datadir_shards(f->dir) && result == 0; n++)
        result = write_checkpoint(f, 'A' + (int)n, 100 + n, &checkpoints[n], &fds[n]);
    if (result == 0)
        return datadir_begin_generation(f->dir, checkpoints, fds);
    for (unsigned i = 0; i + 1 < n; i++)
        datadir_abandon_checkpoint(f->dir, checkpoints[i].number, fds[i]);
    return result;
}

/* Gives the logs that have none an end in their last segment, as log_clean_tails would. */
static inline void find_ends(struct fixture *f)
{
    enum { MAX = 64 };
    uint32_t generation = datadir_recover_generation(f->dir);
    for (unsigned i = 0; i < datadir_recover_shards(f->dir); i++) {
        struct datadir_segment segments[MAX];
        struct datadir_end end = {0};
        size_t count = datadir_segments(f->dir, generation, i, segments, MAX);
        assert_in_range(count, 0, MAX);
        if (datadir_get_end(f->dir, generation, i, &end))
            continue;
        if (count != 0)
            end = (struct datadir_end){.segment = segments[count - 1].number,
                                       .offset = LOG_SEGMENT_HEADER_BYTES + 64,
                                       .batch = 1};
        datadir_set_end(f->dir, generation, i, &end);
    }
}

/* Opens it and begins a generation where there is to be one, as a start would. */
static inline void open_dir(struct fixture *f)
{
    if (try_open(f, &f->dir) != 0)
        fail_msg("%s", f->error);
    if (f->options.read_only || datadir_recover_shards(f->dir) == f->options.shards)
        return;
    find_ends(f);
    assert_int_equal(begin_generation(f), 0);
}

static inline void close_dir(struct fixture *f, bool clean)
{
    datadir_close(f->dir, clean);
    f->dir = NULL;
}

static inline struct datadir_segment add_segment(struct fixture *f, unsigned shard)
{
    struct datadir_segment segment;
    assert_int_equal(datadir_add_segment(f->dir, shard, &segment), 0);
    return segment;
}

static inline void assert_refused(struct fixture *f, int result, const char *what)
{
    struct datadir *dir = NULL;
    assert_int_equal(try_open(f, &dir), result);
    assert_null(dir);
    if (strncmp(f->error, f->path, strlen(f->path)) != 0 || strstr(f->error, what) == NULL)
        fail_msg("\"%s\" does not begin with the path, or says nothing of \"%s\"", f->error, what);
}

/* A directory with two segments of shard 0 and one of shard 1: numbers 1, 3 and 2. */
static inline void make_three_segments(struct fixture *f)
{
    open_dir(f);
    add_segment(f, 0);
    add_segment(f, 1);
    add_segment(f, 0);
    close_dir(f, false);
}

/* What the manifest says. */
static inline struct manifest load_manifest(const struct fixture *f)
{
    struct manifest m = {0};
    char what[128];
    struct buf text = file_read(in_data(f, "manifest"));
    assert_int_equal(manifest_parse(&m, buf_str(&text), what, sizeof(what)), 0);
    buf_free(&text);
    return m;
}

/* Rewrites the manifest by hand, with the right checksum. */
static inline void change_manifest(struct fixture *f, void (*change)(struct manifest *m))
{
    struct manifest m = load_manifest(f);
    struct buf text = {0};
    change(&m);
    manifest_format(&m, &text);
    file_write(in_data(f, "manifest"), text.p, text.n);
    buf_free(&text);
    manifest_free(&m);
}

/* The names in the directory, each behind a blank, in order. */
static inline struct buf list_names(const struct fixture *f)
{
    struct dirent **entries;
    struct buf names = {0};
    int n = scandir(f->path, &entries, NULL, alphasort);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        if (entries[i]->d_name[0] != '.') {
            buf_add_byte(&names, ' ');
            buf_add(&names, entries[i]->d_name, strlen(entries[i]->d_name));
        }
        free(entries[i]);
    }
    free(entries);
    buf_add_byte(&names, 0);
    return names;
}

static inline void assert_names(const struct fixture *f, const char *expected)
{
    struct buf names = list_names(f);
    assert_string_equal(names.p, expected);
    buf_free(&names);
}

#endif
