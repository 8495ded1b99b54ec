/*
 * io_internal: what the implementations of io share: queues of requests, the helper threads, the
 * bell they ring when they have finished something, and the jobs. Nobody else includes this.
 */
#ifndef ATOLL_SHARDS_IO_INTERNAL_H
#define ATOLL_SHARDS_IO_INTERNAL_H

#include "shards/io.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* One system call writes or reads no more than this; the kernel's own bound is just below 2 GiB. */
enum { IO_TRANSFER_MAX_BYTES = 1 << 30 };

#define io_container(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* After a write of `n` bytes. What a direct one has left begins at a block again. 0, or -EIO: it
 * got no further. */
static inline int io_append_advance(struct io_append *append, size_t n)
{
    size_t written = append->written + n;
    if (append->direct && written != append->size)
        written -= written % IO_BLOCK_BYTES;
    if (written == append->written)
        return -EIO;
    append->written = written;
    return 0;
}

/* First in, first out. Zero-initialise to make one. Its length is bounded by the requests that
 * exist, which belong to the callers. */
struct io_queue {
    struct io_work *head;
    struct io_work *tail;
};

static inline void io_queue_push(struct io_queue *q, struct io_work *work)
{
    work->next = NULL;
    if (q->head == NULL)
        q->head = work;
    else
        q->tail->next = work;
    q->tail = work;
}

static inline struct io_work *io_queue_pop(struct io_queue *q)
{
    struct io_work *work = q->head;
    if (work != NULL)
        q->head = work->next;
    return work;
}

/* Moves all of `from` to the end of `to`. */
static inline void io_queue_take(struct io_queue *to, struct io_queue *from)
{
    if (from->head == NULL)
        return;
    if (to->head == NULL)
        to->head = from->head;
    else
        to->tail->next = from->head;
    to->tail = from->tail;
    from->head = NULL;
}

/* An eventfd that is written once however often, and by however many workers, it is rung before
 * the shard answers. */
struct io_bell {
    int fd;
    atomic_int rung;
};

/*
 * A helper thread that runs works in the order given.
 *
 * Its two queues are behind a mutex and a condition variable, not in a ring: the thread has to
 * sleep when there is nothing to do, any number of requests may wait, and each of them is a system
 * call that takes the disk's time, beside which a lock that is held for a few instructions is
 * nothing. The shard takes it once per turn, and only when it has or gets something.
 */
struct io_worker {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t given_some;
    struct io_queue given; /* mutex */
    struct io_queue done;  /* mutex */
    bool stopping;         /* mutex */
    struct io_bell *bell;
};

/* The jobs of an io: the ordinary ones on a worker of their own, the slow ones on another, which is
 * started with the first of them. */
struct io_jobs {
    struct io_bell *bell;
    struct io_queue ordinary; /* queued, not yet submitted */
    struct io_queue slow;     /* the same */
    struct io_worker worker;
    struct io_worker slow_worker;
    bool has_slow_worker;
};

int io_bell_init(struct io_bell *bell, int flags); /* flags as of eventfd(2) */
void io_bell_close(struct io_bell *bell);
/* The shard, after it has read the eventfd and before it takes what is done from each worker that
 * rings this bell. */
void io_bell_answer(struct io_bell *bell);

/* 0 or -errno. `name`: at most 15 bytes, for those who look at the process from outside. */
int io_worker_start(struct io_worker *worker, struct io_bell *bell, const char *name);
/* Gives it all of `works`; no lock where there are none. */
void io_worker_give(struct io_worker *worker, struct io_queue *works);
/* Moves what it has finished to the end of `done`. */
void io_worker_take(struct io_worker *worker, struct io_queue *done);
/* Returns when all it was given has run and the thread has ended. */
void io_worker_stop(struct io_worker *worker);

/* All of these on the shard's thread. */
int io_jobs_start(struct io_jobs *jobs, struct io_bell *bell); /* 0 or -errno */
void io_jobs_add(struct io_jobs *jobs, struct io_job *job);
/* Hands what was added to the workers. */
void io_jobs_submit(struct io_jobs *jobs);
/* Moves what is finished to the end of `done`. */
void io_jobs_take(struct io_jobs *jobs, struct io_queue *done);
/* Returns when all that was submitted has run and the threads have ended. */
void io_jobs_stop(struct io_jobs *jobs);

/* What all implementations do alike. */
void io_job_prepare(struct io_job *job);
unsigned io_finish_all(struct io *io, struct io_queue *done);
uint64_t io_monotonic_ns(struct io *io);
void io_wait_fd(struct io *io); /* until the io's fd is readable */

#endif
