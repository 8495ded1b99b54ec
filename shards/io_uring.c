/*
 * io_uring: io on a ring of its own, used by the shard's thread alone, with a helper thread for
 * jobs and, once there are any, one for slow jobs.
 *
 * The ring's fd is what an epoll loop watches: it is readable while completions wait in it. That
 * rules out DEFER_TASKRUN, whose rings never become readable; COOP_TASKRUN, which spares the shard
 * interruptions, is used where the kernel has it (5.19).
 *
 * Normal path: requests wait in `waiting`; submit turns them into ring entries, as many as fit, and
 * makes one system call; reap looks at the completions in shared memory without one. An append to
 * a direct fd is one write that is synced when it answers (RWF_DSYNC): the disk does all of it, and
 * none of the kernel's threads has to find its way onto a core. Any other is a write linked to an
 * fdatasync: the kernel starts the second only when the first has written its full length, and
 * cancels it otherwise. Both answer; what a short write has left is then submitted as such a pair
 * again. So an append is done only when a sync has followed its last byte.
 * Jobs run on the helper threads; the eventfd of the bell that both ring is always being read by
 * one entry of the ring, so that the ring's fd stands for them too.
 *
 * No completion is ever lost: no more entries are handed over than completions fit in their queue.
 *
 * Failure: EINTR and EAGAIN of a write or a read are tried again, everything else is the request's
 * result. A failed fdatasync is not tried again. If the kernel takes no entries for want of memory,
 * they stay in the ring until the next submit; only if nothing is under way there that would cause
 * one does submit insist.
 */
#define _GNU_SOURCE 1

#include "core/base.h"
#include "shards/io_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    RING_ENTRIES = 128, /* full: the rest waits for the next submit */
    /* Writes up to here are copied by whoever can at once; larger ones always by a kernel thread,
     * so that their copying takes none of the shard's turn. */
    INLINE_WRITE_MAX_BYTES = 128 * 1024,
};

/* What a completion is about: the low bits of its user data, beside the request's address. */
enum tag { TAG_WRITE, TAG_SYNC, TAG_READ, TAG_BELL, TAG_MASK = 3 };

/* An append's `stage`: how many of its completions are to come, and whether it was synced. */
enum { STAGE_OWED = 3, STAGE_SYNCED = 4 };

_Static_assert(_Alignof(struct io_append) > TAG_MASK && _Alignof(struct io_read) > TAG_MASK,
               "tags fit below the addresses");

struct uring {
    struct io io;
    struct io_uring ring;
    unsigned owed; /* completions to come for the entries made */
    struct io_queue waiting;
    struct io_queue done;
    struct io_jobs jobs;
    struct io_bell bell;
    uint64_t bell_count; /* where the eventfd is read to */
    bool closing;
};

static struct uring *uring_of(struct io *io)
{
    return io_container(io, struct uring, io);
}

static size_t transfer_bytes(size_t left)
{
    return left < IO_TRANSFER_MAX_BYTES ? left : IO_TRANSFER_MAX_BYTES;
}

/* Whether `count` entries can be made together (linked ones must not be torn apart) such that one
 * is left for the bell. */
static bool has_room(const struct uring *uring, unsigned count)
{
    return io_uring_sq_space_left(&uring->ring) > count &&
           uring->owed + count < uring->ring.cq.ring_entries;
}

static struct io_uring_sqe *make_entry(struct uring *uring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    assert(sqe != NULL);
    uring->owed++;
    return sqe;
}

static void set_data(struct io_uring_sqe *sqe, const void *request, enum tag tag)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)request | tag);
}

/* Starts to read the eventfd; has_room has kept an entry for it. */
static void watch_bell(struct uring *uring)
{
    struct io_uring_sqe *sqe = make_entry(uring);
    io_uring_prep_read(sqe, uring->bell.fd, &uring->bell_count, sizeof(uring->bell_count), 0);
    set_data(sqe, NULL, TAG_BELL);
}

static void append_finish(struct io_work *work)
{
    struct io_append *append = io_container(work, struct io_append, work);
    append->done(append, append->result);
}

static void read_finish(struct io_work *work)
{
    struct io_read *read = io_container(work, struct io_read, work);
    read->done(read, read->result);
}

/* Makes the entries for what is left of an append. */
static bool start_append(struct uring *uring, struct io_append *append)
{
    size_t left = append->size - append->written;
    size_t now = transfer_bytes(left);
    bool writes = left != 0;
    bool carries_sync = writes && append->direct && append->sync;
    bool syncs = append->sync && now == left && !carries_sync;
    if (!has_room(uring, writes + syncs))
        return false;
    append->stage = writes + syncs;
    if (writes) {
        struct io_uring_sqe *sqe = make_entry(uring);
        io_uring_prep_write(sqe, append->fd, (const char *)append->buf + append->written,
                            (unsigned)now, append->offset + append->written);
        sqe->rw_flags = carries_sync ? RWF_DSYNC : 0;
        sqe->flags |= syncs ? IOSQE_IO_LINK : 0;
        sqe->flags |= now > INLINE_WRITE_MAX_BYTES && !append->direct ? IOSQE_ASYNC : 0;
        set_data(sqe, append, TAG_WRITE);
    }
    if (syncs) {
        struct io_uring_sqe *sqe = make_entry(uring);
        io_uring_prep_fsync(sqe, append->fd, IORING_FSYNC_DATASYNC);
        set_data(sqe, append, TAG_SYNC);
    }
    return true;
}

static bool start_read(struct uring *uring, struct io_read *read)
{
    if (!has_room(uring, 1))
        return false;
    struct io_uring_sqe *sqe = make_entry(uring);
    io_uring_prep_read(sqe, read->fd, (char *)read->buf + read->got,
                       (unsigned)transfer_bytes(read->size - read->got), read->offset + read->got);
    set_data(sqe, read, TAG_READ);
    return true;
}

static bool start_work(struct uring *uring, struct io_work *work)
{
    if (work->finish == append_finish)
        return start_append(uring, io_container(work, struct io_append, work));
    return start_read(uring, io_container(work, struct io_read, work));
}

static void uring_append(struct io *io, struct io_append *append)
{
    assert(append->size != 0 || append->sync);
    append->work = (struct io_work){.finish = append_finish};
    append->written = 0;
    append->result = 0;
    io->in_flight++;
    io_queue_push(&uring_of(io)->waiting, &append->work);
}

static void uring_read(struct io *io, struct io_read *read)
{
    read->work = (struct io_work){.finish = read_finish};
    read->got = 0;
    read->result = 0;
    io->in_flight++;
    io_queue_push(&uring_of(io)->waiting, &read->work);
}

static void uring_job(struct io *io, struct io_job *job)
{
    io->in_flight++;
    io_jobs_add(&uring_of(io)->jobs, job);
}

static void fill_ring(struct uring *uring)
{
    while (uring->waiting.head != NULL) {
        /* Taken out first: its link belongs to the next queue it will stand in. */
        struct io_work *work = uring->waiting.head;
        if (!start_work(uring, work))
            return;
        io_queue_pop(&uring->waiting);
    }
}

/* Whether the kernel is at work on something other than the eventfd. */
static bool is_kernel_busy(const struct uring *uring)
{
    return uring->owed > io_uring_sq_ready(&uring->ring) + 1;
}

static void enter_kernel(struct uring *uring)
{
    while (io_uring_sq_ready(&uring->ring) != 0) {
        int result = io_uring_submit(&uring->ring);
        if (result > 0 || result == -EINTR)
            continue;
        assert(result == 0 || result == -EAGAIN || result == -EBUSY || result == -ENOMEM);
        if (is_kernel_busy(uring) || io_uring_cq_ready(&uring->ring) != 0)
            return;
        sched_yield();
    }
}

static void uring_submit(struct io *io)
{
    struct uring *uring = uring_of(io);
    io_jobs_submit(&uring->jobs);
    do {
        fill_ring(uring);
        enter_kernel(uring);
    } while (uring->waiting.head != NULL && has_room(uring, 2));
}

static bool is_retried(int result)
{
    return result == -EINTR || result == -EAGAIN;
}

static void on_written(struct io_append *append, int result)
{
    if (result >= 0)
        append->result = io_append_advance(append, (size_t)result);
    else if (!is_retried(result))
        append->result = result;
    if (append->direct && append->sync && append->written == append->size)
        append->stage |= STAGE_SYNCED; /* each piece was, when it answered */
}

static void on_synced(struct io_append *append, int result)
{
    if (result >= 0)
        append->stage |= STAGE_SYNCED;
    else if (result != -ECANCELED) /* what cut it off is told by the write's own completion */
        append->result = result;
}

static void on_append(struct uring *uring, struct io_append *append, enum tag tag, int result)
{
    if (tag == TAG_WRITE)
        on_written(append, result);
    else
        on_synced(append, result);
    assert((append->stage & STAGE_OWED) != 0);
    append->stage--;
    if ((append->stage & STAGE_OWED) != 0)
        return;
    if (append->result == 0 && append->written < append->size) {
        io_queue_push(&uring->waiting, &append->work);
        return;
    }
    if (append->result == 0 && append->sync && (append->stage & STAGE_SYNCED) == 0)
        append->result = -ECANCELED;
    io_queue_push(&uring->done, &append->work);
}

static void on_read(struct uring *uring, struct io_read *read, int result)
{
    if (result > 0)
        read->got += (size_t)result;
    if (is_retried(result) || (result > 0 && read->got < read->size)) {
        io_queue_push(&uring->waiting, &read->work);
        return;
    }
    read->result = result < 0 ? result : (int64_t)read->got;
    io_queue_push(&uring->done, &read->work);
}

static void on_bell(struct uring *uring, int result)
{
    if (uring->closing)
        return;
    if (result == sizeof(uring->bell_count)) {
        io_bell_answer(&uring->bell);
        io_jobs_take(&uring->jobs, &uring->done);
    }
    watch_bell(uring);
}

static void on_completion(struct uring *uring, uint64_t data, int result)
{
    enum tag tag = (enum tag)(data & TAG_MASK);
    void *request = (void *)(uintptr_t)(data & ~(uint64_t)TAG_MASK);
    assert(uring->owed > 0);
    uring->owed--;
    if (tag == TAG_BELL)
        on_bell(uring, result);
    else if (tag == TAG_READ)
        on_read(uring, request, result);
    else
        on_append(uring, request, tag, result);
}

/* Sorts out all completions that wait in shared memory, without a system call. */
static void collect(struct uring *uring)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&uring->ring, head, cqe)
    {
        on_completion(uring, cqe->user_data, cqe->res);
        count++;
    }
    if (count != 0)
        io_uring_cq_advance(&uring->ring, count);
}

static unsigned uring_reap(struct io *io)
{
    struct uring *uring = uring_of(io);
    if (io_uring_cq_ready(&uring->ring) == 0)
        return 0;
    collect(uring);
    /* What goes on by itself, without a callback that a caller would notice: the rest of a short
     * write, the bell, and what had found no room. */
    if (io_uring_sq_ready(&uring->ring) != 0 || uring->waiting.head != NULL)
        uring_submit(io);
    return io_finish_all(io, &uring->done);
}

static void uring_free(struct io *io)
{
    struct uring *uring = uring_of(io);
    uring_submit(io);
    io_jobs_stop(&uring->jobs);
    uring->closing = true;
    uint64_t one = 1;
    ssize_t n = write(uring->bell.fd, &one, sizeof(one));
    assert(n == sizeof(one));
    while (uring->owed != 0 || uring->waiting.head != NULL) {
        struct io_uring_cqe *cqe;
        uring_submit(io);
        if (io_uring_wait_cqe(&uring->ring, &cqe) == 0)
            collect(uring);
    }
    io_uring_queue_exit(&uring->ring);
    io_bell_close(&uring->bell);
    free(uring);
}

static const struct io_ops uring_ops = {
    .name = "io_uring",
    .append = uring_append,
    .read = uring_read,
    .job = uring_job,
    .submit = uring_submit,
    .reap = uring_reap,
    .wait = io_wait_fd,
    .free = uring_free,
    .now_ns = io_monotonic_ns,
};

static int make_ring(struct io_uring *ring)
{
    int result = io_uring_queue_init(RING_ENTRIES, ring, IORING_SETUP_COOP_TASKRUN);
    if (result == -EINVAL)
        result = io_uring_queue_init(RING_ENTRIES, ring, 0);
    return result;
}

/* Submits the `count` entries made and waits for all of them; the first error among them. */
static int run_probe(struct io_uring *ring, unsigned count)
{
    int result = io_uring_submit(ring);
    if (result != (int)count)
        return result < 0 ? result : -ENOSYS;
    result = 0;
    for (unsigned i = 0; i < count; i++) {
        struct io_uring_cqe *cqe;
        int waited;
        do
            waited = io_uring_wait_cqe(ring, &cqe);
        while (waited == -EINTR);
        if (waited < 0)
            return waited;
        if (cqe->res < 0 && result == 0)
            result = cqe->res;
        io_uring_cqe_seen(ring, cqe);
    }
    return result;
}

/*
 * A ring that can be set up need not work: sandboxes exist that take the setup and then refuse the
 * operations. So do once what the log will do, on a file in memory: a write linked to an fdatasync,
 * and a read of it.
 */
static int probe(struct io_uring *ring)
{
    char out = 'x', in = 0;
    int fd = memfd_create("atoll-probe", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_write(sqe, fd, &out, 1, 0);
    sqe->flags |= IOSQE_IO_LINK;
    io_uring_prep_fsync(io_uring_get_sqe(ring), fd, IORING_FSYNC_DATASYNC);
    int result = run_probe(ring, 2);
    if (result == 0) {
        io_uring_prep_read(io_uring_get_sqe(ring), fd, &in, 1, 0);
        result = run_probe(ring, 1);
    }
    if (result == 0 && in != out)
        result = -ENOSYS;
    close(fd);
    return result;
}

/*
 * A sync runs on one of the kernel's own threads for this ring, which would inherit the shard's
 * core: where the shard is busy there for milliseconds on end (long reads), commits would wait for
 * the scheduler. So they may run wherever the process may. Where it cannot be said, it stays so.
 */
static void free_workers(struct io_uring *ring)
{
    cpu_set_t cpus;
    if (sched_getaffinity(getpid(), sizeof(cpus), &cpus) == 0)
        (void)io_uring_register_iowq_aff(ring, sizeof(cpus), &cpus);
}

int io_uring_new(struct io **io)
{
    struct uring *uring = mem_alloc(sizeof(*uring));
    *uring = (struct uring){.io.ops = &uring_ops};
    int result = make_ring(&uring->ring);
    if (result < 0)
        goto no_ring;
    free_workers(&uring->ring);
    result = probe(&uring->ring);
    if (result < 0)
        goto no_bell;
    result = io_bell_init(&uring->bell, 0);
    if (result < 0)
        goto no_bell;
    result = io_jobs_start(&uring->jobs, &uring->bell);
    if (result < 0)
        goto no_jobs;
    watch_bell(uring);
    enter_kernel(uring);
    uring->io.fd = uring->ring.ring_fd;
    *io = &uring->io;
    return 0;

no_jobs:
    io_bell_close(&uring->bell);
no_bell:
    io_uring_queue_exit(&uring->ring);
no_ring:
    free(uring);
    return result;
}
