#include "tests/unit/io_fake.h"

#include "core/base.h"
#include "shards/io_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096 };

struct pending {
    enum io_fake_kind kind;
    void *request;
};

struct io_fake {
    struct io io;
    bool automatic;
    uint64_t now_ns;
    unsigned syncs;
    unsigned reads;
    struct pending *pending; /* the first `submitted` of `count` are */
    size_t count;
    size_t submitted;
    struct io_queue done;
};

static struct io_fake *fake_of(struct io *io)
{
    return io_container(io, struct io_fake, io);
}

static void add(struct io *io, enum io_fake_kind kind, void *request)
{
    struct io_fake *fake = fake_of(io);
    fake->pending = mem_realloc(fake->pending, (fake->count + 1) * sizeof(fake->pending[0]));
    fake->pending[fake->count++] = (struct pending){kind, request};
    io->in_flight++;
}

static void append_finish(struct io_work *work)
{
    struct io_append *append = io_container(work, struct io_append, work);
    append->done(append, append->result);
}

static void fake_append(struct io *io, struct io_append *append)
{
    append->work = (struct io_work){.finish = append_finish};
    add(io, IO_FAKE_APPEND, append);
}

static void read_finish(struct io_work *work)
{
    struct io_read *read = io_container(work, struct io_read, work);
    read->done(read, read->result);
}

static void fake_read(struct io *io, struct io_read *read)
{
    read->work = (struct io_work){.finish = read_finish};
    add(io, IO_FAKE_READ, read);
}

static void fake_job(struct io *io, struct io_job *job)
{
    io_job_prepare(job);
    add(io, IO_FAKE_JOB, job);
}

static void fake_submit(struct io *io)
{
    struct io_fake *fake = fake_of(io);
    fake->submitted = fake->count;
    while (fake->automatic && fake->submitted != 0)
        io_fake_complete(fake, 0);
}

static unsigned fake_reap(struct io *io)
{
    struct io_fake *fake = fake_of(io);
    struct io_queue done = fake->done;
    if (done.head == NULL)
        return 0;
    uint64_t count;
    ssize_t n = read(io->fd, &count, sizeof(count));
    assert(n == sizeof(count));
    fake->done.head = NULL;
    return io_finish_all(io, &done);
}

/* Nothing happens by itself, so waiting is to let all of it happen. */
static void fake_wait(struct io *io)
{
    struct io_fake *fake = fake_of(io);
    while (fake->submitted != 0)
        io_fake_complete(fake, 0);
}

static void fake_free(struct io *io)
{
    struct io_fake *fake = fake_of(io);
    close(io->fd);
    free(fake->pending);
    free(fake);
}

static uint64_t fake_now_ns(struct io *io)
{
    return fake_of(io)->now_ns;
}

static const struct io_ops fake_ops = {
    .name = "fake",
    .append = fake_append,
    .read = fake_read,
    .job = fake_job,
    .submit = fake_submit,
    .reap = fake_reap,
    .wait = fake_wait,
    .free = fake_free,
    .now_ns = fake_now_ns,
};

struct io_fake *io_fake_new(void)
{
    struct io_fake *fake = mem_alloc(sizeof(*fake));
    *fake = (struct io_fake){.io.ops = &fake_ops, .now_ns = 1};
    fake->io.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert(fake->io.fd >= 0);
    return fake;
}

struct io *io_fake_io(struct io_fake *fake)
{
    return &fake->io;
}

void io_fake_set_automatic(struct io_fake *fake, bool automatic)
{
    fake->automatic = automatic;
}

void io_fake_advance_ms(struct io_fake *fake, uint64_t ms)
{
    fake->now_ns += ms * 1000000;
}

size_t io_fake_count(const struct io_fake *fake)
{
    return fake->submitted;
}

enum io_fake_kind io_fake_kind(const struct io_fake *fake, size_t index)
{
    assert(index < fake->submitted);
    return fake->pending[index].kind;
}

const struct io_append *io_fake_append(const struct io_fake *fake, size_t index)
{
    assert(io_fake_kind(fake, index) == IO_FAKE_APPEND);
    return fake->pending[index].request;
}

const struct io_read *io_fake_read(const struct io_fake *fake, size_t index)
{
    assert(io_fake_kind(fake, index) == IO_FAKE_READ);
    return fake->pending[index].request;
}

size_t io_fake_find(const struct io_fake *fake, enum io_fake_kind kind)
{
    size_t i = 0;
    while (i < fake->submitted && fake->pending[i].kind != kind)
        i++;
    return i;
}

unsigned io_fake_syncs(const struct io_fake *fake)
{
    return fake->syncs;
}

unsigned io_fake_reads(const struct io_fake *fake)
{
    return fake->reads;
}

static struct pending take(struct io_fake *fake, size_t index)
{
    assert(index < fake->submitted);
    struct pending taken = fake->pending[index];
    fake->count--;
    fake->submitted--;
    memmove(&fake->pending[index], &fake->pending[index + 1],
            (fake->count - index) * sizeof(taken));
    return taken;
}

static void finish(struct io_fake *fake, struct io_work *work)
{
    uint64_t one = 1;
    if (fake->done.head == NULL) {
        ssize_t n = write(fake->io.fd, &one, sizeof(one));
        assert(n == sizeof(one));
    }
    io_queue_push(&fake->done, work);
}

static void finish_with(struct io_fake *fake, struct pending pending, int64_t result)
{
    if (pending.kind == IO_FAKE_APPEND) {
        struct io_append *append = pending.request;
        append->result = (int)result;
        finish(fake, &append->work);
    } else if (pending.kind == IO_FAKE_READ) {
        struct io_read *read = pending.request;
        read->result = result;
        finish(fake, &read->work);
    } else {
        struct io_job *job = pending.request;
        job->result = (int)result;
        finish(fake, &job->work);
    }
}

static int64_t do_append(struct io_fake *fake, const struct io_append *append)
{
    ssize_t n = pwrite(append->fd, append->buf, append->size, (off_t)append->offset);
    if (n != (ssize_t)append->size)
        return n < 0 ? -errno : -EIO;
    fake->syncs += append->sync != 0;
    return 0;
}

static int64_t do_read(struct io_fake *fake, const struct io_read *request)
{
    fake->reads++;
    ssize_t n = pread(request->fd, request->buf, request->size, (off_t)request->offset);
    return n < 0 ? -errno : n;
}

void io_fake_complete(struct io_fake *fake, size_t index)
{
    struct pending pending = take(fake, index);
    struct io_job *job = pending.request;
    int64_t result;
    if (pending.kind == IO_FAKE_APPEND)
        result = do_append(fake, pending.request);
    else if (pending.kind == IO_FAKE_READ)
        result = do_read(fake, pending.request);
    else
        result = job->run(job);
    finish_with(fake, pending, result);
}

void io_fake_fail(struct io_fake *fake, size_t index, int error)
{
    assert(error < 0);
    finish_with(fake, take(fake, index), error);
}

void io_fake_tear(struct io_fake *fake, size_t index, uint64_t pages, int error)
{
    assert(error < 0);
    const struct io_append *append = io_fake_append(fake, index);
    uint64_t end = append->offset + append->size;
    uint64_t first = append->offset / PAGE_BYTES * PAGE_BYTES;
    for (uint64_t page = first; page < end; page += PAGE_BYTES) {
        uint64_t number = (page - first) / PAGE_BYTES;
        uint64_t from = page > append->offset ? page : append->offset;
        uint64_t to = page + PAGE_BYTES < end ? page + PAGE_BYTES : end;
        if (number >= 64 || (pages >> number & 1) == 0)
            continue;
        ssize_t n = pwrite(append->fd, (const char *)append->buf + (from - append->offset),
                           to - from, (off_t)from);
        assert(n == (ssize_t)(to - from));
    }
    finish_with(fake, take(fake, index), error);
}
