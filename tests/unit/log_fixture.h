/*
 * A data directory with its logs, for tests of the log: started, stopped and crashed as a server
 * does it, on the fake io, with records whose bodies can be told by their seqs.
 */
#ifndef ATOLL_TESTS_UNIT_LOG_FIXTURE_H
#define ATOLL_TESTS_UNIT_LOG_FIXTURE_H

#include "shards/log.h"
#include "shards/log_format.h"
#include "tests/unit/failing_fs.h"
#include "tests/unit/io_fake.h"
#include "tests/unit/scratch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum {
    SHARDS_MAX = 3,
    SEEN_MAX = 4096,
    SEGMENT_BYTES = 64 * 1024,
    FIRST = LOG_SEGMENT_HEADER_BYTES, /* offset of a segment's first batch */
};

struct seen {
    char session[LOG_SESSION_MAX_BYTES + 1];
    uint64_t epoch;
    uint64_t seq;
    log_position position;
    log_position previous;
    size_t body_bytes;
    uint8_t type;
    uint8_t flags;
};

/* A directory, its logs, and what its last recovery has seen. */
struct fixture {
    struct scratch scratch;
    const char *path;
    struct datadir_options options;
    struct failing_fs *failing; /* the directory's, where `direct` is not DIRECT_CAN */
    int direct;
    struct datadir *dir;
    struct io_fake *fake; /* NULL: a real io */
    struct io *io;
    struct log *logs[SHARDS_MAX];
    uint64_t committed; /* newest batch told of */
    unsigned commits;
    unsigned failures;
    int failed_with;
    uint64_t torn_bytes;
    struct seen seen[SEEN_MAX];
    size_t seen_count;
    char error[512];
};

static inline void on_committed(void *ctx, uint64_t batch)
{
    struct fixture *f = ctx;
    f->committed = batch;
    f->commits++;
}

static inline void on_failed(void *ctx, int error)
{
    struct fixture *f = ctx;
    f->failures++;
    f->failed_with = error;
}

static inline char body_byte(uint64_t seq, size_t i)
{
    return (char)(seq * 7 + i * 13 + i / 256);
}

static inline void assert_body(const struct log_record *record)
{
    for (size_t i = 0; i < record->body.n; i++) {
        if (record->body.p[i] != body_byte(record->seq, i))
            fail_msg("byte %zu of the body of seq %llu is wrong", i,
                     (unsigned long long)record->seq);
    }
}

static inline int see(void *ctx, const struct log_record *record, log_position position)
{
    struct fixture *f = ctx;
    assert_true(f->seen_count < SEEN_MAX);
    struct seen *seen = &f->seen[f->seen_count++];
    *seen = (struct seen){.epoch = record->epoch,
                          .seq = record->seq,
                          .position = position,
                          .previous = record->previous,
                          .body_bytes = record->body.n,
                          .type = record->type,
                          .flags = record->flags};
    memcpy(seen->session, record->session.p, record->session.n);
    assert_body(record);
    return 0;
}

static inline int open_dir(struct fixture *f)
{
    int result = fs_posix_open(f->path, true, &f->options.fs, f->error, sizeof(f->error));
    if (result == 0 && f->direct != DIRECT_CAN) {
        f->failing = failing_fs_make(f->options.fs);
        f->failing->direct = f->direct;
        f->options.fs = &f->failing->fs;
    }
    return result != 0 ? result : datadir_open(&f->options, &f->dir, f->error, sizeof(f->error));
}

/* One log from its checkpoint, if it has one. */
static inline int recover_log(struct fixture *f, uint32_t shard, log_visit *visit)
{
    struct datadir_checkpoint checkpoint;
    uint32_t generation = datadir_recover_generation(f->dir);
    bool has_checkpoint = datadir_get_checkpoint(f->dir, generation, shard, &checkpoint);
    return log_recover(f->dir, generation, shard, has_checkpoint ? &checkpoint.from : NULL, visit,
                       f, NULL, f->error, sizeof(f->error));
}

static inline int recover(struct fixture *f)
{
    f->seen_count = 0;
    int result = log_clean_tails(f->dir, &f->torn_bytes, f->error, sizeof(f->error));
    for (uint32_t i = 0; i < datadir_recover_shards(f->dir) && result == 0; i++)
        result = recover_log(f, i, see);
    return result;
}

static inline void begin_checkpoint(struct fixture *f, struct datadir_checkpoint *checkpoint,
                                    int *fd)
{
    struct fs *fs = datadir_fs(f->dir);
    assert_int_equal(datadir_begin_checkpoint(f->dir, &checkpoint->number, fd), 0);
    checkpoint->bytes = 8;
    assert_int_equal(fs->ops->write(fs, *fd, "contents", checkpoint->bytes, 0), 0);
}

static inline void begin_generation(struct fixture *f)
{
    struct datadir_checkpoint checkpoints[SHARDS_MAX] = {0};
    int fds[SHARDS_MAX], result;
    if (datadir_recover_generation(f->dir) == 0) {
        result = datadir_begin_generation(f->dir, NULL, NULL);
    } else {
        for (unsigned i = 0; i < f->options.shards; i++)
            begin_checkpoint(f, &checkpoints[i], &fds[i]);
        result = datadir_begin_generation(f->dir, checkpoints, fds);
    }
    assert_int_equal(result, 0);
}

static inline void checkpoint_at(struct fixture *f, unsigned shard, const struct datadir_end *mark)
{
    struct datadir_checkpoint checkpoint = {.from = *mark};
    int fd;
    begin_checkpoint(f, &checkpoint, &fd);
    assert_int_equal(datadir_finish_checkpoint(f->dir, shard, &checkpoint, fd), 0);
}

/* A checkpoint of what has been committed by now. */
static inline void checkpoint(struct fixture *f, unsigned shard)
{
    struct datadir_end mark;
    log_mark(f->logs[shard], &mark);
    checkpoint_at(f, shard, &mark);
}

static inline void open_logs(struct fixture *f)
{
    struct log_callbacks callbacks = {f, on_committed, on_failed};
    f->fake = io_fake_new();
    f->io = io_fake_io(f->fake);
    io_fake_set_automatic(f->fake, true);
    for (unsigned i = 0; i < f->options.shards; i++)
        assert_int_equal(log_open(f->dir, i, f->io, f->options.relaxed ? LOG_RELAXED : LOG_COMMIT,
                                  &callbacks, &f->logs[i]),
                         0);
}

/* A start as a server makes it. */
static inline void start(struct fixture *f)
{
    int result = open_dir(f);
    if (result == 0)
        result = recover(f);
    if (result != 0)
        fail_msg("%s", f->error);
    if (datadir_recover_shards(f->dir) != datadir_shards(f->dir))
        begin_generation(f);
    open_logs(f);
}

static inline void close_logs(struct fixture *f)
{
    if (f->fake != NULL)
        io_fake_set_automatic(f->fake, true);
    for (unsigned i = 0; i < SHARDS_MAX; i++) {
        if (f->logs[i] != NULL)
            log_close(f->logs[i]);
        f->logs[i] = NULL;
    }
    if (f->io != NULL)
        f->io->ops->free(f->io);
    f->io = NULL;
    f->fake = NULL;
}

/* For the files it is a crash: the manifest does not hear of the logs' ends. */
static inline void crash(struct fixture *f)
{
    close_logs(f);
    datadir_close(f->dir, false);
    f->dir = NULL;
}

static inline void stop(struct fixture *f)
{
    close_logs(f);
    datadir_close(f->dir, true);
    f->dir = NULL;
}

static inline int set_up(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));
    memset(f, 0, sizeof(*f));
    scratch_make(&f->scratch, false);
    f->path = f->scratch.path;
    f->options = (struct datadir_options){.shards = 1, .segment_bytes = SEGMENT_BYTES};
    start(f);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->dir != NULL)
        crash(f);
    scratch_remove(&f->scratch);
    free(f);
    return 0;
}

static inline void turn(struct fixture *f)
{
    f->io->ops->submit(f->io);
    f->io->ops->reap(f->io);
}

/* Turns until the log has nothing under way. */
static inline void settle(struct fixture *f, struct log *log)
{
    while (!log_idle(log)) {
        log_commit(log);
        f->io->ops->submit(f->io);
        if (f->io->ops->reap(f->io) == 0)
            f->io->ops->wait(f->io);
    }
}

static inline log_position append(struct log *log, const char *session, uint64_t seq,
                                  size_t body_bytes, log_position previous)
{
    char *body = mem_alloc(body_bytes);
    size_t head_bytes = body_bytes * (seq % 4) / 3; /* from nothing to all of it */
    for (size_t i = 0; i < body_bytes; i++)
        body[i] = body_byte(seq, i);
    struct log_record record = {.type = LOG_RECORD_EVENTS,
                                .session = {session, strlen(session)},
                                .epoch = 5,
                                .seq = seq,
                                .events = 1,
                                .ts_ms = 1700000000000 + (int64_t)seq,
                                .previous = previous,
                                .head = {body, head_bytes},
                                .body = {body + head_bytes, body_bytes - head_bytes}};
    log_position position = log_append(log, &record);
    free(body);
    return position;
}

/* One batch of one record, committed. */
static inline log_position put(struct fixture *f, unsigned shard, const char *session, uint64_t seq,
                               size_t body_bytes)
{
    struct log *log = f->logs[shard];
    int result;
    while ((result = log_reserve(log, body_bytes)) == -EAGAIN) {
        log_commit(log);
        turn(f);
    }
    assert_int_equal(result, 0);
    log_position position = append(log, session, seq, body_bytes, 0);
    settle(f, log);
    return position;
}

static inline void assert_seqs_seen(const struct fixture *f, uint64_t from, uint64_t to)
{
    assert_int_equal(f->seen_count, to - from + 1);
    for (size_t i = 0; i < f->seen_count; i++)
        assert_int_equal(f->seen[i].seq, from + i);
}

static inline uint64_t offset_of(log_position position)
{
    return (uint32_t)position;
}

static inline const char *segment_path(const struct fixture *f, uint32_t number)
{
    char name[32];
    datadir_segment_name(&(struct datadir_segment){.number = number}, name);
    return scratch_file(&f->scratch, name);
}

static inline int segment_fd(const struct fixture *f, uint32_t number)
{
    const struct datadir_file *file = datadir_hold(f->dir, number);
    assert_non_null(file);
    int fd = file->fd;
    datadir_release(f->dir, file);
    return fd;
}

/* Opens after a crash and expects to be refused for `what` in that file. */
static inline void assert_refused(struct fixture *f, const char *file, const char *what)
{
    int result = open_dir(f);
    if (result == 0) {
        result = recover(f);
        datadir_close(f->dir, false);
    }
    f->dir = NULL;
    assert_int_equal(result, -EIO);
    if (strstr(f->error, file) == NULL || strstr(f->error, what) == NULL)
        fail_msg("\"%s\" says nothing of %s and %s", f->error, file, what);
}

struct noted_read {
    struct log_read read;
    int result;
    bool done;
};

static inline void note_read(struct log_read *read, int result)
{
    struct noted_read *noted = read->owner;
    noted->result = result;
    noted->done = true;
}

static inline void read_at(struct fixture *f, struct noted_read *noted, log_position position)
{
    noted->done = false;
    noted->read.done = note_read;
    noted->read.owner = noted;
    log_read(f->logs[0], &noted->read, position);
    while (!noted->done)
        turn(f);
}

static inline void fail_preparation(struct fixture *f, int error)
{
    turn(f);
    size_t job = io_fake_find(f->fake, IO_FAKE_JOB);
    assert_true(job < io_fake_count(f->fake));
    io_fake_fail(f->fake, job, error);
    turn(f);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

#endif
