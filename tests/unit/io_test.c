/*
 * io: both implementations against real files. Each test runs on each of them.
 *
 * This program has its own pwrite and fdatasync, which stand before the C library's: io_posix calls
 * them, so a test can make its writes short, and its syncs fail. What io_uring does is not called
 * by us, but by the kernel; there RLIMIT_FSIZE makes a write short.
 */
#define _GNU_SOURCE 1

#include "shards/io.h"
#include "tests/unit/scratch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cmocka.h>

/* Set before a request is submitted. */
static atomic_size_t write_max = SIZE_MAX;
static atomic_int sync_error;
static atomic_uint writes, syncs;

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    size_t max = write_max;
    writes++;
    return syscall(SYS_pwrite64, fd, buf, n < max ? n : max, offset);
}

int fdatasync(int fildes)
{
    syncs++;
    if (sync_error != 0) {
        errno = sync_error;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fildes);
}

static enum io_kind kind;
static bool is_refused; /* io_uring, by this machine */

struct fixture {
    struct scratch scratch;
    struct io *io;
    int fd;
};

static int set_up(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));
    scratch_make(&f->scratch, true);
    f->fd = open(scratch_file(&f->scratch, "file"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(f->fd >= 0);
    f->io = NULL;
    if (!is_refused)
        assert_int_equal(io_new(kind, &f->io), 0);
    write_max = SIZE_MAX;
    sync_error = 0;
    writes = syncs = 0;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->io != NULL)
        f->io->ops->free(f->io);
    close(f->fd);
    scratch_remove(&f->scratch);
    free(f);
    return 0;
}

static struct fixture *fixture_of(void **state)
{
    if (is_refused)
        skip();
    return *state;
}

static void wait_readable(struct io *io)
{
    struct pollfd fd = {.fd = io->fd, .events = POLLIN};
    while (poll(&fd, 1, -1) != 1)
        assert_int_equal(errno, EINTR);
}

/* Turns until nothing is in flight; sleeps only on the io's fd. */
static void finish(struct io *io)
{
    for (;;) {
        io->ops->submit(io);
        if (io->in_flight == 0)
            return;
        if (io->ops->reap(io) == 0)
            wait_readable(io);
    }
}

/* Requests that note what came of them, and when. */

static unsigned order;

struct noted_append {
    struct io_append append;
    int result;
    unsigned place; /* 0: not called back */
};

static void note_append(struct io_append *append, int result)
{
    struct noted_append *noted = append->owner;
    assert_int_equal(noted->place, 0);
    noted->result = result;
    noted->place = ++order;
}

static void start_append(struct io *io, struct noted_append *noted, int fd, const void *buf,
                         size_t size, uint64_t offset, int sync)
{
    *noted = (struct noted_append){.append = {.done = note_append,
                                              .owner = noted,
                                              .buf = buf,
                                              .size = size,
                                              .offset = offset,
                                              .fd = fd,
                                              .sync = sync}};
    io->ops->append(io, &noted->append);
}

struct noted_read {
    struct io_read read;
    int64_t result;
    unsigned place;
};

static void note_read(struct io_read *read, int64_t result)
{
    struct noted_read *noted = read->owner;
    assert_int_equal(noted->place, 0);
    noted->result = result;
    noted->place = ++order;
}

static void start_read(struct io *io, struct noted_read *noted, int fd, void *buf, size_t size,
                       uint64_t offset)
{
    *noted = (struct noted_read){.read = {.done = note_read,
                                          .owner = noted,
                                          .buf = buf,
                                          .size = size,
                                          .offset = offset,
                                          .fd = fd}};
    io->ops->read(io, &noted->read);
}

struct noted_job {
    struct io_job job;
    int answer;
    int result;
    unsigned place;
    bool has_run;
    pthread_t ran_on;
    sem_t *waits_for;
};

static int run_job(struct io_job *job)
{
    struct noted_job *noted = job->owner;
    noted->has_run = true;
    noted->ran_on = pthread_self();
    if (noted->waits_for != NULL)
        sem_wait(noted->waits_for);
    return noted->answer;
}

static void note_job(struct io_job *job, int result)
{
    struct noted_job *noted = job->owner;
    assert_int_equal(noted->place, 0);
    noted->result = result;
    noted->place = ++order;
}

static void start_some_job(struct io *io, struct noted_job *noted, bool slow, int answer,
                           sem_t *waits_for)
{
    *noted =
        (struct noted_job){.job = {.run = run_job, .done = note_job, .owner = noted, .slow = slow},
                           .answer = answer,
                           .waits_for = waits_for};
    io->ops->job(io, &noted->job);
}

static void start_job(struct io *io, struct noted_job *noted, int answer, sem_t *waits_for)
{
    start_some_job(io, noted, false, answer, waits_for);
}

static void start_slow_job(struct io *io, struct noted_job *noted, int answer, sem_t *waits_for)
{
    start_some_job(io, noted, true, answer, waits_for);
}

static char *pattern(size_t size, unsigned salt)
{
    char *p = mem_alloc(size);
    for (size_t i = 0; i < size; i++)
        p[i] = (char)(i * 31 + i / 251 + salt);
    return p;
}

/* Tests. */

static void what_is_appended_can_be_read(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    struct noted_read read;
    char *out = pattern(100000, 1), *in = mem_alloc(100000);
    start_append(f->io, &append, f->fd, out, 100000, 12345, 1);
    finish(f->io);
    assert_int_equal(append.result, 0);
    start_read(f->io, &read, f->fd, in, 100000, 12345);
    finish(f->io);
    assert_int_equal(read.result, 100000);
    assert_memory_equal(in, out, 100000);
    free(out);
    free(in);
}

static void nothing_runs_before_submit_and_no_callback_before_reap(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    struct stat st;
    start_append(f->io, &append, f->fd, "x", 1, 0, 1);
    assert_int_equal(f->io->in_flight, 1);
    assert_int_equal(f->io->ops->reap(f->io), 0);
    fstat(f->fd, &st);
    assert_int_equal(st.st_size, 0);
    f->io->ops->submit(f->io);
    wait_readable(f->io);
    assert_int_equal(append.place, 0);
    finish(f->io);
    assert_int_not_equal(append.place, 0);
    assert_int_equal(f->io->in_flight, 0);
}

static int poll_now(struct io *io)
{
    struct pollfd fd = {.fd = io->fd, .events = POLLIN};
    int ready;
    while ((ready = poll(&fd, 1, 0)) < 0)
        assert_int_equal(errno, EINTR);
    return ready;
}

/* A ring of the bell may come after its work was taken; reap answers it. It does not stay. */
static void the_fd_falls_silent_when_all_is_done(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    struct noted_job job, slow;
    for (int i = 0; i < 100; i++) {
        start_append(f->io, &append, f->fd, "x", 1, 0, 0);
        start_job(f->io, &job, 0, NULL);
        start_slow_job(f->io, &slow, 0, NULL);
        finish(f->io);
        unsigned late = 0;
        for (; poll_now(f->io) != 0; late++)
            assert_int_equal(f->io->ops->reap(f->io), 0);
        assert_in_range(late, 0, 3);
    }
}

static void a_size_of_zero_only_syncs(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    struct stat st;
    start_append(f->io, &append, f->fd, NULL, 0, 0, 1);
    finish(f->io);
    assert_int_equal(append.result, 0);
    fstat(f->fd, &st);
    assert_int_equal(st.st_size, 0);
}

static void a_read_is_short_only_at_the_end_of_the_file(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    struct noted_read across, behind, nowhere;
    char in[64], more[64], none[64];
    start_append(f->io, &append, f->fd, "0123456789", 10, 0, 0);
    finish(f->io);
    start_read(f->io, &across, f->fd, in, sizeof(in), 4);
    start_read(f->io, &behind, f->fd, more, sizeof(more), 10);
    start_read(f->io, &nowhere, f->fd, none, sizeof(none), 1000000);
    finish(f->io);
    assert_int_equal(across.result, 6);
    assert_memory_equal(in, "456789", 6);
    assert_int_equal(behind.result, 0);
    assert_int_equal(nowhere.result, 0);
}

static void errors_are_results(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append closed, read_only, sync_of_closed;
    struct noted_read read;
    char in[8];
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    start_append(f->io, &closed, -1, "x", 1, 0, 1);
    start_append(f->io, &read_only, fd, "x", 1, 0, 1);
    start_append(f->io, &sync_of_closed, -1, NULL, 0, 0, 1);
    start_read(f->io, &read, -1, in, sizeof(in), 0);
    finish(f->io);
    assert_int_equal(closed.result, -EBADF);
    assert_int_equal(read_only.result, -EBADF);
    assert_int_equal(sync_of_closed.result, -EBADF);
    assert_int_equal(read.result, -EBADF);
    close(fd);
}

static void a_failed_sync_is_the_result_though_all_was_written(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    int ends[2];
    /* A pipe takes writes of io_uring, which passes no offset to it, and cannot be synced. */
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int fd = kind == IO_POSIX ? f->fd : ends[1];
    sync_error = EIO;
    start_append(f->io, &append, fd, "x", 1, 0, 1);
    finish(f->io);
    assert_int_equal(append.result, kind == IO_POSIX ? -EIO : -EINVAL);
    if (kind == IO_POSIX)
        assert_int_equal(syncs, 1);
    close(ends[0]);
    close(ends[1]);
}

static void many_in_flight_all_complete(void **state)
{
    enum { COUNT = 3000, BYTES = 512 };
    struct fixture *f = fixture_of(state);
    struct noted_append *appends = mem_alloc(COUNT * sizeof(*appends));
    struct noted_read *reads = mem_alloc(COUNT * sizeof(*reads));
    char *out = pattern((size_t)COUNT * BYTES, 2), *in = mem_alloc((size_t)COUNT * BYTES);
    for (size_t i = 0; i < COUNT; i++)
        start_append(f->io, &appends[i], f->fd, out + i * BYTES, BYTES, i * BYTES, i % 100 == 0);
    assert_int_equal(f->io->in_flight, COUNT);
    finish(f->io);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(appends[i].result, 0);
        start_read(f->io, &reads[i], f->fd, in + i * BYTES, BYTES, i * BYTES);
    }
    finish(f->io);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(reads[i].result, BYTES);
    assert_memory_equal(in, out, (size_t)COUNT * BYTES);
    free(appends);
    free(reads);
    free(out);
    free(in);
}

/* The next link of a chain that is started from callbacks. */
struct chain {
    struct io_append append;
    struct io *io;
    unsigned left;
};

static void chain_done(struct io_append *append, int result)
{
    struct chain *chain = append->owner;
    assert_int_equal(result, 0);
    if (chain->left-- > 0)
        chain->io->ops->append(chain->io, append);
}

static void a_callback_may_start_the_next_request(void **state)
{
    struct fixture *f = fixture_of(state);
    struct chain chain = {.io = f->io, .left = 20};
    chain.append = (struct io_append){
        .done = chain_done, .owner = &chain, .buf = "x", .size = 1, .fd = f->fd, .sync = 1};
    f->io->ops->append(f->io, &chain.append);
    finish(f->io);
    assert_int_equal(chain.left, UINT32_MAX);
}

static void a_short_write_is_finished_and_then_synced(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    char *out = pattern(10000, 3);
    write_max = 3000;
    start_append(f->io, &append, f->fd, out, 10000, 77, 1);
    finish(f->io);
    assert_int_equal(append.result, 0);
    assert_int_equal(writes, 4);
    assert_int_equal(syncs, 1);
    struct buf file = file_read(scratch_file(&f->scratch, "file"));
    assert_int_equal(file.n, 10077);
    assert_memory_equal(file.p + 77, out, 10000);
    buf_free(&file);
    free(out);
}

/* An fd that bypasses the page cache; skips the test where this file system has none. */
static int open_direct(struct fixture *f)
{
    int fd = open(scratch_file(&f->scratch, "file"), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        skip();
    return fd;
}

static char *pattern_in_blocks(size_t blocks)
{
    size_t size = blocks * IO_BLOCK_BYTES;
    char *plain = pattern(size, 5);
    char *aligned = mem_alloc_aligned(IO_BLOCK_BYTES, size);
    memcpy(aligned, plain, size);
    free(plain);
    return aligned;
}

static void what_is_appended_directly_can_be_read(void **state)
{
    struct fixture *f = fixture_of(state);
    int fd = open_direct(f);
    char *out = pattern_in_blocks(100);
    for (int sync = 0; sync <= 1; sync++) {
        struct noted_append append;
        start_append(f->io, &append, fd, out, 100 * IO_BLOCK_BYTES, IO_BLOCK_BYTES, sync);
        append.append.direct = true;
        finish(f->io);
        assert_int_equal(append.result, 0);
        struct buf file = file_read(scratch_file(&f->scratch, "file"));
        assert_int_equal(file.n, 101 * IO_BLOCK_BYTES);
        assert_memory_equal(file.p + IO_BLOCK_BYTES, out, 100 * IO_BLOCK_BYTES);
        buf_free(&file);
    }
    free(out);
    close(fd);
}

static void a_failed_direct_append_is_the_result(void **state)
{
    struct fixture *f = fixture_of(state);
    int fd = open_direct(f);
    char *out = pattern_in_blocks(2);
    struct noted_append append;
    start_append(f->io, &append, fd, out + 1, IO_BLOCK_BYTES, 0, 1); /* no block begins there */
    append.append.direct = true;
    finish(f->io);
    assert_int_equal(append.result, -EINVAL);
    free(out);
    close(fd);
}

/* Where a short one ends within a block, that one is written again. */
static void a_short_direct_write_goes_on_at_a_block(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    char *out = pattern_in_blocks(3);
    write_max = IO_BLOCK_BYTES + 100;
    start_append(f->io, &append, f->fd, out, 3 * IO_BLOCK_BYTES, 0, 1);
    append.append.direct = true;
    finish(f->io);
    assert_int_equal(append.result, 0);
    assert_int_equal(writes, 3);
    assert_int_equal(syncs, 1);
    struct buf file = file_read(scratch_file(&f->scratch, "file"));
    assert_int_equal(file.n, 3 * IO_BLOCK_BYTES);
    assert_memory_equal(file.p, out, 3 * IO_BLOCK_BYTES);
    buf_free(&file);
    free(out);
}

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The limit lets the first write come only half-way; it is lifted before the rest is asked for. */
static void a_short_write_of_the_kernel_is_finished_and_then_synced(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    char *out = pattern(10000, 3);
    limit_file_size(6000);
    start_append(f->io, &append, f->fd, out, 10000, 0, 1);
    f->io->ops->submit(f->io);
    wait_readable(f->io);
    struct buf half = file_read(scratch_file(&f->scratch, "file"));
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(half.n, 6000);
    finish(f->io);
    assert_int_equal(append.result, 0);
    struct buf file = file_read(scratch_file(&f->scratch, "file"));
    assert_int_equal(file.n, 10000);
    assert_memory_equal(file.p, out, 10000);
    buf_free(&half);
    buf_free(&file);
    free(out);
}

static void a_write_that_cannot_be_finished_fails(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_append append;
    char *out = pattern(10000, 3);
    limit_file_size(6000);
    start_append(f->io, &append, f->fd, out, 10000, 0, 1);
    finish(f->io);
    limit_file_size(RLIM_INFINITY);
    assert_int_equal(append.result, -EFBIG);
    free(out);
}

static void jobs_run_on_another_thread_in_order(void **state)
{
    enum { COUNT = 50 };
    struct fixture *f = fixture_of(state);
    struct noted_job jobs[COUNT];
    for (int i = 0; i < COUNT; i++)
        start_job(f->io, &jobs[i], -i, NULL);
    finish(f->io);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(jobs[i].result, -i);
        assert_false(pthread_equal(jobs[i].ran_on, pthread_self()));
        assert_true(i == 0 || jobs[i].place > jobs[i - 1].place);
    }
}

static void a_long_job_delays_no_commit(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_job job;
    struct noted_append append;
    sem_t let_go;
    sem_init(&let_go, 0, 0);
    start_job(f->io, &job, 7, &let_go);
    start_append(f->io, &append, f->fd, "x", 1, 0, 1);
    f->io->ops->submit(f->io);
    append.place = 0;
    while (append.place == 0) {
        if (f->io->ops->reap(f->io) == 0)
            wait_readable(f->io);
    }
    assert_int_equal(job.place, 0);
    sem_post(&let_go);
    finish(f->io);
    assert_int_equal(job.result, 7);
    sem_destroy(&let_go);
}

/* The first slow job stands still; only what is not slow can end the waiting. */
static void a_slow_job_delays_nothing_but_slow_jobs(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_job slow, slow_behind, job;
    struct noted_append append;
    struct noted_read read;
    char in[4];
    sem_t let_go;
    sem_init(&let_go, 0, 0);
    start_slow_job(f->io, &slow, 1, &let_go);
    start_slow_job(f->io, &slow_behind, 2, NULL);
    start_job(f->io, &job, 3, NULL);
    start_append(f->io, &append, f->fd, "x", 1, 0, 1);
    start_read(f->io, &read, f->fd, in, sizeof(in), 1000);
    f->io->ops->submit(f->io);
    while (job.place == 0 || append.place == 0 || read.place == 0) {
        if (f->io->ops->reap(f->io) == 0)
            f->io->ops->wait(f->io);
    }
    assert_int_equal(job.result, 3);
    assert_int_equal(append.result, 0);
    assert_int_equal(read.result, 0);
    assert_int_equal(f->io->in_flight, 2);
    assert_int_equal(slow.place, 0);
    assert_int_equal(slow_behind.place, 0);
    sem_post(&let_go);
    finish(f->io);
    assert_int_equal(slow.result, 1);
    assert_int_equal(slow_behind.result, 2);
    assert_true(slow_behind.place > slow.place);
    sem_destroy(&let_go);
}

static void slow_jobs_run_in_order_on_a_thread_of_their_own(void **state)
{
    enum { COUNT = 50 };
    struct fixture *f = fixture_of(state);
    struct noted_job slow[COUNT], jobs[COUNT];
    for (int i = 0; i < COUNT; i++) {
        start_slow_job(f->io, &slow[i], -i, NULL);
        start_job(f->io, &jobs[i], i, NULL);
        if (i % 7 == 0)
            f->io->ops->submit(f->io);
    }
    finish(f->io);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(slow[i].result, -i);
        assert_int_equal(jobs[i].result, i);
        assert_true(pthread_equal(slow[i].ran_on, slow[0].ran_on));
        assert_false(pthread_equal(slow[i].ran_on, jobs[i].ran_on));
        assert_false(pthread_equal(slow[i].ran_on, pthread_self()));
        assert_true(i == 0 || slow[i].place > slow[i - 1].place);
    }
}

/* Nothing else can end the waiting here. */
static void waiting_ends_with_a_slow_job(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_job slow;
    start_slow_job(f->io, &slow, 4, NULL);
    f->io->ops->submit(f->io);
    do
        f->io->ops->wait(f->io);
    while (f->io->ops->reap(f->io) == 0);
    assert_int_equal(slow.result, 4);
    assert_int_equal(f->io->in_flight, 0);
}

/* A stack that fits into no address space is one that no thread can be given. */
static size_t set_default_stack(size_t bytes)
{
    pthread_attr_t attr;
    size_t before;
    assert_int_equal(pthread_getattr_default_np(&attr), 0);
    assert_int_equal(pthread_attr_getstacksize(&attr, &before), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, bytes), 0);
    assert_int_equal(pthread_setattr_default_np(&attr), 0);
    pthread_attr_destroy(&attr);
    return before;
}

static void without_a_thread_slow_jobs_fail_and_later_ones_try_anew(void **state)
{
    struct fixture *f = fixture_of(state);
    struct noted_job refused[2], job, later;
    size_t stack = set_default_stack((size_t)1 << 60);
    start_slow_job(f->io, &refused[0], 1, NULL);
    start_job(f->io, &job, 2, NULL);
    start_slow_job(f->io, &refused[1], 3, NULL);
    f->io->ops->submit(f->io);
    set_default_stack(stack);
    finish(f->io);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(refused[i].result, -EAGAIN);
        assert_false(refused[i].has_run);
    }
    assert_int_equal(job.result, 2);
    start_slow_job(f->io, &later, 4, NULL);
    finish(f->io);
    assert_int_equal(later.result, 4);
}

static void freeing_waits_for_what_is_in_flight(void **state)
{
    struct fixture *f = fixture_of(state);
    enum { COUNT = 300 };
    struct noted_append *appends = mem_alloc(COUNT * sizeof(*appends));
    struct noted_job job, slow;
    for (size_t i = 0; i < COUNT; i++)
        start_append(f->io, &appends[i], f->fd, "0123456789abcdef", 16, i * 16, 0);
    start_job(f->io, &job, 5, NULL);
    start_slow_job(f->io, &slow, 6, NULL);
    f->io->ops->free(f->io);
    f->io = NULL;
    struct buf file = file_read(scratch_file(&f->scratch, "file"));
    assert_int_equal(file.n, COUNT * 16);
    for (size_t i = 0; i < COUNT; i++) {
        assert_memory_equal(file.p + i * 16, "0123456789abcdef", 16);
        assert_int_equal(appends[i].place, 0);
    }
    assert_int_equal(job.place, 0);
    assert_int_equal(job.job.result, 5);
    assert_int_equal(slow.place, 0);
    assert_int_equal(slow.job.result, 6);
    buf_free(&file);
    free(appends);
}

static void the_clock_goes_forward(void **state)
{
    struct fixture *f = fixture_of(state);
    uint64_t before_ns = f->io->ops->now_ns(f->io);
    assert_true(before_ns > 0);
    assert_true(f->io->ops->now_ns(f->io) >= before_ns);
}

static void auto_gets_an_io(void **state)
{
    (void)state;
    struct io *io;
    assert_int_equal(io_new(IO_AUTO, &io), 0);
    assert_string_equal(io->ops->name, is_refused ? "posix" : "io_uring");
    io->ops->free(io);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_appended_can_be_read),
        TEST(nothing_runs_before_submit_and_no_callback_before_reap),
        TEST(the_fd_falls_silent_when_all_is_done),
        TEST(a_size_of_zero_only_syncs),
        TEST(a_read_is_short_only_at_the_end_of_the_file),
        TEST(errors_are_results),
        TEST(a_failed_sync_is_the_result_though_all_was_written),
        TEST(many_in_flight_all_complete),
        TEST(a_callback_may_start_the_next_request),
        TEST(a_write_that_cannot_be_finished_fails),
        TEST(what_is_appended_directly_can_be_read),
        TEST(a_failed_direct_append_is_the_result),
        TEST(jobs_run_on_another_thread_in_order),
        TEST(a_long_job_delays_no_commit),
        TEST(a_slow_job_delays_nothing_but_slow_jobs),
        TEST(slow_jobs_run_in_order_on_a_thread_of_their_own),
        TEST(waiting_ends_with_a_slow_job),
        TEST(without_a_thread_slow_jobs_fail_and_later_ones_try_anew),
        TEST(freeing_waits_for_what_is_in_flight),
        TEST(the_clock_goes_forward),
    };
    const struct CMUnitTest posix_tests[] = {
        TEST(a_short_write_is_finished_and_then_synced),
        TEST(a_short_direct_write_goes_on_at_a_block),
    };
    const struct CMUnitTest uring_tests[] = {
        TEST(a_short_write_of_the_kernel_is_finished_and_then_synced),
        cmocka_unit_test(auto_gets_an_io),
    };
    signal(SIGXFSZ, SIG_IGN);

    kind = IO_POSIX;
    int failed = cmocka_run_group_tests_name("io_posix", tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("io_posix alone", posix_tests, NULL, NULL);
    struct io *io;
    kind = IO_URING;
    is_refused = io_new(IO_URING, &io) != 0;
    if (!is_refused)
        io->ops->free(io);
    failed += cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("io_uring alone", uring_tests, NULL, NULL);
    return failed;
}
