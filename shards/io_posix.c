/*
 * io_posix: io with blocking system calls on helper threads, where io_uring is refused.
 *
 * One thread writes, syncs and reads in the order given; a second one runs the jobs, so that
 * filling a new segment with zeros, which takes a while, never delays a commit; a third one, once
 * there are any, the slow jobs.
 *
 * Normal path: requests are queued on the shard's side, handed over at submit (one lock per turn),
 * run by their thread, and come back through its `done` queue; the eventfd of the bell that all the
 * threads ring is readable as long as there is something there. reap makes no system call when
 * there is nothing.
 *
 * Failure: EINTR is tried again, a short write or read goes on where it stopped, everything else is
 * the request's result. A failed fdatasync is not tried again.
 */
#include "core/base.h"
#include "shards/io_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct posix {
    struct io io;
    struct io_bell bell;
    struct io_worker disk_worker;
    struct io_queue disk_works; /* queued, not yet submitted */
    struct io_jobs jobs;
};

static struct posix *posix_of(struct io *io)
{
    return io_container(io, struct posix, io);
}

static size_t transfer_bytes(size_t left)
{
    return left < IO_TRANSFER_MAX_BYTES ? left : IO_TRANSFER_MAX_BYTES;
}

static int write_all(struct io_append *append)
{
    while (append->written < append->size) {
        ssize_t n = pwrite(append->fd, (const char *)append->buf + append->written,
                           transfer_bytes(append->size - append->written),
                           (off_t)(append->offset + append->written));
        int result = n >= 0 ? io_append_advance(append, (size_t)n) : errno == EINTR ? 0 : -errno;
        if (result != 0)
            return result;
    }
    return 0;
}

static void append_run(struct io_work *work)
{
    struct io_append *append = io_container(work, struct io_append, work);
    append->result = write_all(append);
    if (append->result == 0 && append->sync && fdatasync(append->fd) != 0)
        append->result = -errno;
}

static void append_finish(struct io_work *work)
{
    struct io_append *append = io_container(work, struct io_append, work);
    append->done(append, append->result);
}

static void posix_append(struct io *io, struct io_append *append)
{
    assert(append->size != 0 || append->sync);
    append->work = (struct io_work){.run = append_run, .finish = append_finish};
    append->written = 0;
    append->result = 0;
    io->in_flight++;
    io_queue_push(&posix_of(io)->disk_works, &append->work);
}

static int64_t read_all(struct io_read *read)
{
    while (read->got < read->size) {
        ssize_t n =
            pread(read->fd, (char *)read->buf + read->got, transfer_bytes(read->size - read->got),
                  (off_t)(read->offset + read->got));
        if (n > 0)
            read->got += (size_t)n;
        else if (n == 0)
            break;
        else if (errno != EINTR)
            return -errno;
    }
    return (int64_t)read->got;
}

static void read_run(struct io_work *work)
{
    struct io_read *read = io_container(work, struct io_read, work);
    read->result = read_all(read);
}

static void read_finish(struct io_work *work)
{
    struct io_read *read = io_container(work, struct io_read, work);
    read->done(read, read->result);
}

static void posix_read(struct io *io, struct io_read *read)
{
    read->work = (struct io_work){.run = read_run, .finish = read_finish};
    read->got = 0;
    read->result = 0;
    io->in_flight++;
    io_queue_push(&posix_of(io)->disk_works, &read->work);
}

static void posix_job(struct io *io, struct io_job *job)
{
    io->in_flight++;
    io_jobs_add(&posix_of(io)->jobs, job);
}

static void posix_submit(struct io *io)
{
    struct posix *posix = posix_of(io);
    io_worker_give(&posix->disk_worker, &posix->disk_works);
    io_jobs_submit(&posix->jobs);
}

static unsigned posix_reap(struct io *io)
{
    struct posix *posix = posix_of(io);
    if (atomic_load_explicit(&posix->bell.rung, memory_order_relaxed) == 0)
        return 0;
    uint64_t count;
    if (read(posix->bell.fd, &count, sizeof(count)) != sizeof(count))
        return 0; /* rung, but not yet written: the fd will say so in a moment */
    io_bell_answer(&posix->bell);
    struct io_queue done = {0};
    io_worker_take(&posix->disk_worker, &done);
    io_jobs_take(&posix->jobs, &done);
    return io_finish_all(io, &done);
}

static void posix_free(struct io *io)
{
    struct posix *posix = posix_of(io);
    posix_submit(io);
    io_worker_stop(&posix->disk_worker);
    io_jobs_stop(&posix->jobs);
    io_bell_close(&posix->bell);
    free(posix);
}

static const struct io_ops posix_ops = {
    .name = "posix",
    .append = posix_append,
    .read = posix_read,
    .job = posix_job,
    .submit = posix_submit,
    .reap = posix_reap,
    .wait = io_wait_fd,
    .free = posix_free,
    .now_ns = io_monotonic_ns,
};

int io_posix_new(struct io **io)
{
    struct posix *posix = mem_alloc(sizeof(*posix));
    *posix = (struct posix){.io.ops = &posix_ops};
    int result = io_bell_init(&posix->bell, EFD_NONBLOCK);
    if (result < 0)
        goto no_bell;
    result = io_worker_start(&posix->disk_worker, &posix->bell, "atoll-disk");
    if (result < 0)
        goto no_disk_worker;
    result = io_jobs_start(&posix->jobs, &posix->bell);
    if (result < 0)
        goto no_jobs;
    posix->io.fd = posix->bell.fd;
    *io = &posix->io;
    return 0;

no_jobs:
    io_worker_stop(&posix->disk_worker);
no_disk_worker:
    io_bell_close(&posix->bell);
no_bell:
    free(posix);
    return result;
}
