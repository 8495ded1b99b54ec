/*
 * io: the choice of an implementation, and what the implementations share: the helper threads, and
 * the jobs that run on two of them.
 *
 * Normal path: io_new tries io_uring, which tries out what it needs (io_uring.c); where that is
 * refused, by the kernel, its settings or a container's seccomp profile, the shard gets io_posix.
 * Failure: neither can be had, which means that memory, fds or threads have run out: -errno. The
 * thread for slow jobs is started with the first of them: if it cannot be, that is its result.
 */
#define _GNU_SOURCE 1

#include "shards/io_internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int io_new(enum io_kind kind, struct io **io)
{
    if (kind == IO_POSIX)
        return io_posix_new(io);
    int result = io_uring_new(io);
    if (result == 0 || kind == IO_URING)
        return result;
    return io_posix_new(io);
}

uint64_t io_monotonic_ns(struct io *io)
{
    (void)io;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void io_wait_fd(struct io *io)
{
    struct pollfd fd = {.fd = io->fd, .events = POLLIN};
    poll(&fd, 1, -1); /* woken early, reap finds nothing, and the caller waits again */
}

/* A callback may start new requests and may free the one that it is called for. */
unsigned io_finish_all(struct io *io, struct io_queue *done)
{
    unsigned count = 0;
    for (struct io_work *work; (work = io_queue_pop(done)) != NULL; count++) {
        assert(io->in_flight > 0);
        io->in_flight--;
        work->finish(work);
    }
    return count;
}

/*
 * The bell, rung by any number of workers. A worker puts its work into its `done`, then swaps
 * `rung` to 1, and writes the eventfd only if it was 0. The shard reads the eventfd, then swaps
 * `rung` to 0, then takes from the `done` of every worker.
 *
 * Nothing is left behind with the eventfd silent. The swaps of all threads are read-modify-writes
 * of one object, so they stand in one order, and each sees what was done before those it follows.
 * Between two swaps of the shard the first worker's finds 0, and that worker writes, or is about
 * to; the others find 1 and need not: the write that is due for the first wakes the shard for all
 * of them, and as all their swaps stand before the shard's next one, the taking that follows it
 * sees all their works. A worker whose swap stands behind the shard's finds 0 and rings anew. This
 * is why the taking must leave out no worker; one that is started later changes nothing, since the
 * shard itself starts it, before it can ring.
 *
 * The eventfd never stays readable: only the one that found 0 writes, and the shard swaps only
 * after having read, so each write is matched by one read. A work may be taken between being put
 * there and being rung for; then the shard wakes once more, for nothing.
 */
int io_bell_init(struct io_bell *bell, int flags)
{
    atomic_init(&bell->rung, 0);
    bell->fd = eventfd(0, flags | EFD_CLOEXEC);
    return bell->fd < 0 ? -errno : 0;
}

void io_bell_close(struct io_bell *bell)
{
    close(bell->fd);
}

static void bell_ring(struct io_bell *bell)
{
    if (atomic_exchange(&bell->rung, 1) != 0)
        return;
    uint64_t one = 1;
    ssize_t n;
    do
        n = write(bell->fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
    assert(n == sizeof(one));
}

void io_bell_answer(struct io_bell *bell)
{
    atomic_exchange(&bell->rung, 0);
}

/* Waits for the next work; NULL when all have run and no more will come. */
static struct io_work *worker_next(struct io_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    while (worker->given.head == NULL && !worker->stopping)
        pthread_cond_wait(&worker->given_some, &worker->mutex);
    struct io_work *work = io_queue_pop(&worker->given);
    pthread_mutex_unlock(&worker->mutex);
    return work;
}

static void *worker_main(void *argument)
{
    struct io_worker *worker = argument;
    for (struct io_work *work; (work = worker_next(worker)) != NULL;) {
        work->run(work);
        pthread_mutex_lock(&worker->mutex);
        io_queue_push(&worker->done, work);
        pthread_mutex_unlock(&worker->mutex);
        bell_ring(worker->bell);
    }
    return NULL;
}

int io_worker_start(struct io_worker *worker, struct io_bell *bell, const char *name)
{
    *worker = (struct io_worker){.bell = bell};
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->given_some, NULL);

    /* Signals are for the threads that expect them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    /* The shard's thread may be pinned; its helpers go wherever the process may (as its main thread
     * does), so that they do not take the shard's own core. */
    pthread_attr_t attributes;
    cpu_set_t cpus;
    pthread_attr_init(&attributes);
    if (sched_getaffinity(getpid(), sizeof(cpus), &cpus) == 0)
        pthread_attr_setaffinity_np(&attributes, sizeof(cpus), &cpus);
    int error = pthread_create(&worker->thread, &attributes, worker_main, worker);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        pthread_cond_destroy(&worker->given_some);
        pthread_mutex_destroy(&worker->mutex);
        return -error;
    }
    pthread_setname_np(worker->thread, name);
    return 0;
}

void io_worker_give(struct io_worker *worker, struct io_queue *works)
{
    if (works->head == NULL)
        return;
    pthread_mutex_lock(&worker->mutex);
    io_queue_take(&worker->given, works);
    pthread_cond_signal(&worker->given_some);
    pthread_mutex_unlock(&worker->mutex);
}

void io_worker_take(struct io_worker *worker, struct io_queue *done)
{
    pthread_mutex_lock(&worker->mutex);
    io_queue_take(done, &worker->done);
    pthread_mutex_unlock(&worker->mutex);
}

void io_worker_stop(struct io_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    worker->stopping = true;
    pthread_cond_signal(&worker->given_some);
    pthread_mutex_unlock(&worker->mutex);
    pthread_join(worker->thread, NULL);
    pthread_cond_destroy(&worker->given_some);
    pthread_mutex_destroy(&worker->mutex);
}

static void job_run(struct io_work *work)
{
    struct io_job *job = io_container(work, struct io_job, work);
    job->result = job->run(job);
}

static void job_finish(struct io_work *work)
{
    struct io_job *job = io_container(work, struct io_job, work);
    job->done(job, job->result);
}

void io_job_prepare(struct io_job *job)
{
    job->work = (struct io_work){.run = job_run, .finish = job_finish};
    job->result = 0;
}

int io_jobs_start(struct io_jobs *jobs, struct io_bell *bell)
{
    *jobs = (struct io_jobs){.bell = bell};
    return io_worker_start(&jobs->worker, bell, "atoll-jobs");
}

void io_jobs_add(struct io_jobs *jobs, struct io_job *job)
{
    io_job_prepare(job);
    io_queue_push(job->slow ? &jobs->slow : &jobs->ordinary, &job->work);
}

static void job_run_refused(struct io_work *work)
{
    (void)work; /* its result stands */
}

/* A refused job still completes like any other, by the bell: it passes through the ordinary
 * worker, which has nothing to do for it. */
static void refuse_slow(struct io_jobs *jobs, int error)
{
    for (struct io_work *work; (work = io_queue_pop(&jobs->slow)) != NULL;) {
        io_container(work, struct io_job, work)->result = error;
        work->run = job_run_refused;
        io_queue_push(&jobs->ordinary, work);
    }
}

static void submit_slow(struct io_jobs *jobs)
{
    if (!jobs->has_slow_worker) {
        int result = io_worker_start(&jobs->slow_worker, jobs->bell, "atoll-slow-jobs");
        if (result < 0) {
            refuse_slow(jobs, result);
            return;
        }
        jobs->has_slow_worker = true;
    }
    io_worker_give(&jobs->slow_worker, &jobs->slow);
}

void io_jobs_submit(struct io_jobs *jobs)
{
    if (jobs->slow.head != NULL)
        submit_slow(jobs);
    io_worker_give(&jobs->worker, &jobs->ordinary);
}

void io_jobs_take(struct io_jobs *jobs, struct io_queue *done)
{
    io_worker_take(&jobs->worker, done);
    if (jobs->has_slow_worker)
        io_worker_take(&jobs->slow_worker, done);
}

void io_jobs_stop(struct io_jobs *jobs)
{
    io_worker_stop(&jobs->worker);
    if (jobs->has_slow_worker)
        io_worker_stop(&jobs->slow_worker);
}
