/*
 * simio: see simio.h. Requests stand in one array in the order of submission, jobs in a queue of
 * their own.
 *
 * Failure: what the disk answers is the request's result; an append that failed in part is not
 * finished by other means, as in io_posix.
 */
#include "tests/sim/simio.h"

#include "core/base.h"
#include "shards/io_internal.h"

#include <errno.h>
#include <stdlib.h>

enum { PENDING_MAX = 1024 };

enum kind { APPEND, READ };

struct pending {
    enum kind kind;
    void *request;
};

struct simio {
    struct io io;
    struct disk *disk;
    struct rng *rng;
    const struct sim_clock *clock;
    struct pending queued[PENDING_MAX]; /* not submitted yet */
    unsigned queued_n;
    struct pending pending[PENDING_MAX];
    unsigned pending_n;
    struct io_queue jobs_queued, jobs, done;
};

static struct simio *simio_of(struct io *io)
{
    return (struct simio *)io;
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

static void queue(struct simio *sim, enum kind kind, void *request)
{
    assert(sim->queued_n < PENDING_MAX);
    sim->queued[sim->queued_n++] = (struct pending){kind, request};
    sim->io.in_flight++;
}

static void sim_append(struct io *io, struct io_append *append)
{
    assert(append->size != 0 || append->sync);
    append->work = (struct io_work){.finish = append_finish};
    append->written = 0;
    append->result = 0;
    queue(simio_of(io), APPEND, append);
}

static void sim_read(struct io *io, struct io_read *read)
{
    read->work = (struct io_work){.finish = read_finish};
    read->got = 0;
    read->result = 0;
    queue(simio_of(io), READ, read);
}

static void sim_job(struct io *io, struct io_job *job)
{
    io_job_prepare(job);
    io->in_flight++;
    io_queue_push(&simio_of(io)->jobs_queued, &job->work);
}

static void sim_submit(struct io *io)
{
    struct simio *sim = simio_of(io);
    assert(sim->pending_n + sim->queued_n <= PENDING_MAX);
    for (unsigned i = 0; i < sim->queued_n; i++)
        sim->pending[sim->pending_n++] = sim->queued[i];
    sim->queued_n = 0;
    io_queue_take(&sim->jobs, &sim->jobs_queued);
}

static unsigned sim_reap(struct io *io)
{
    struct simio *sim = simio_of(io);
    struct io_queue done = {0};
    io_queue_take(&done, &sim->done);
    return io_finish_all(io, &done);
}

static void sim_wait(struct io *io)
{
    while (!simio_ready(io) && simio_step(io))
        ;
    if (disk_is_dead(simio_of(io)->disk)) /* it would wait for ever: the crash has to end it */
        simio_step(io);
}

static void sim_free(struct io *io)
{
    free(io);
}

static uint64_t sim_now_ns(struct io *io)
{
    return simio_of(io)->clock->now_ns;
}

/* ---- what happens */

static int append_piece(struct simio *sim, struct io_append *append, bool *finished)
{
    size_t left = append->size - append->written;
    if (left == 0) {
        *finished = true;
        int result = append->sync ? disk_sync(sim->disk, append->fd) : 0;
        if (result == 0 && append->size != 0 && append->sync)
            disk_note_append(sim->disk, append->fd, append->offset, true);
        return result;
    }
    if (append->sync)
        disk_note_append(sim->disk, append->fd, append->offset, false);
    size_t some = rng_percent(sim->rng, 80) ? left : 1 + rng_below(sim->rng, left);
    if (append->direct && some > IO_BLOCK_BYTES)
        some -= some % IO_BLOCK_BYTES;
    else if (append->direct)
        some = IO_BLOCK_BYTES;
    int result = disk_write(sim->disk, append->fd, (const char *)append->buf + append->written,
                            some, append->offset + append->written);
    append->written += some;
    *finished = result != 0 || (append->written == append->size && !append->sync);
    return result;
}

static void finish(struct simio *sim, unsigned at, struct io_work *work)
{
    sim->pending[at] = sim->pending[--sim->pending_n];
    io_queue_push(&sim->done, work);
}

static void step_job(struct simio *sim)
{
    struct io_work *work = io_queue_pop(&sim->jobs);
    work->run(work);
    io_queue_push(&sim->done, work);
}

bool simio_step(struct io *io)
{
    struct simio *sim = simio_of(io);
    unsigned jobs = sim->jobs.head != NULL;
    if (sim->pending_n + jobs == 0)
        return false;
    unsigned at = rng_below(sim->rng, sim->pending_n + jobs);
    if (at == sim->pending_n) {
        step_job(sim);
    } else if (sim->pending[at].kind == APPEND) {
        struct io_append *append = sim->pending[at].request;
        bool finished = false;
        append->result = append_piece(sim, append, &finished);
        if (finished)
            finish(sim, at, &append->work);
    } else {
        struct io_read *read = sim->pending[at].request;
        read->result = disk_read(sim->disk, read->fd, read->buf, read->size, read->offset);
        finish(sim, at, &read->work);
    }
    return true;
}

bool simio_has_job(const struct io *io)
{
    return ((const struct simio *)io)->jobs.head != NULL;
}

bool simio_ready(const struct io *io)
{
    return ((const struct simio *)io)->done.head != NULL;
}

static const struct io_ops simio_ops = {
    .name = "simulated",
    .append = sim_append,
    .read = sim_read,
    .job = sim_job,
    .submit = sim_submit,
    .reap = sim_reap,
    .wait = sim_wait,
    .free = sim_free,
    .now_ns = sim_now_ns,
};

struct io *simio_new(struct disk *disk, struct rng *rng, const struct sim_clock *clock)
{
    struct simio *sim = mem_zeroed(1, sizeof(*sim));
    sim->io.ops = &simio_ops;
    sim->io.fd = -1;
    sim->disk = disk;
    sim->rng = rng;
    sim->clock = clock;
    return &sim->io;
}
