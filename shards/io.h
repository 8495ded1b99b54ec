/*
 * io: all that a shard asks of the operating system while it runs, behind one replaceable table.
 *
 * Three implementations: io_uring (io_uring.c), pwritev + fdatasync on a helper thread
 * (io_posix.c, where io_uring is refused), and a simulated one for tests.
 *
 * Requests are structs owned by the caller until `done` has run, exactly once, from io_reap, on
 * the shard's thread. Completions are collected first, callbacks run after: a callback may start
 * new requests. A request that was started always completes; io_free waits for those in flight.
 *
 * Normal path of a commit: io_append writes the whole buffer at its offset, finishing short
 * writes, and only when its full length is confirmed does an fdatasync count (a direct write may
 * carry its own, RWF_DSYNC). Failure: `result` is a negative errno; a failed sync is final and
 * never retried (pages may have been marked clean), which is the log's to act on.
 */
#ifndef ATOLL_SHARDS_IO_H
#define ATOLL_SHARDS_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;

/* What a direct append's memory, size and offset are multiples of: the largest logical block of
 * disks there are, and a page. */
enum { IO_BLOCK_BYTES = 4096 };

/* A request's link in the one queue it stands in. Private to the implementations. */
struct io_work {
    struct io_work *next;
    void (*run)(struct io_work *work);    /* does it: on a helper thread, where there is one */
    void (*finish)(struct io_work *work); /* calls `done`: on the shard's thread */
};

/*
 * Write all of buf[0..size) at `offset` of `fd`, then fdatasync where `sync`. A size of 0 only
 * syncs. result: 0 or -errno.
 */
struct io_append {
    void (*done)(struct io_append *append, int result);
    void *owner;
    const void *buf;
    size_t size;
    uint64_t offset;
    int fd;
    int sync;    /* 0: write only; 1: write and fdatasync */
    bool direct; /* fd bypasses the page cache (FS_DIRECT) */
    /* Private to the implementation. */
    struct io_work work;
    size_t written;
    int stage;
    int result;
};

/* Read up to `size` bytes at `offset`. result: bytes read (short only at the end of the file) or
 * -errno. */
struct io_read {
    void (*done)(struct io_read *read, int64_t result);
    void *owner;
    void *buf;
    size_t size;
    uint64_t offset;
    int fd;
    /* Private to the implementation. */
    struct io_work work;
    size_t got;
    int64_t result;
};

/*
 * A blocking piece of work (preparing a segment, a manifest) run on the io's helper thread, in
 * the order given. `run` may touch only what the job owns or what is locked.
 *
 * A `slow` one (compaction: seconds) runs on a second helper thread, in the order given among the
 * slow ones, and so never delays appends, reads or the other jobs; between the two kinds there is
 * no order. That thread is started with the first slow job; where it cannot be, `run` is not
 * called, the result is a negative errno, and the next slow job tries anew.
 */
struct io_job {
    int (*run)(struct io_job *job);
    void (*done)(struct io_job *job, int result);
    void *owner;
    bool slow;
    /* Private to the implementation. */
    struct io_work work;
    int result;
};

struct io_ops {
    const char *name; /* "io_uring" or "posix": shown at start and in /v1/status */
    void (*append)(struct io *io, struct io_append *append);
    void (*read)(struct io *io, struct io_read *read);
    void (*job)(struct io *io, struct io_job *job);
    /*
     * Hands what was queued to the kernel (or the helper threads); once per turn, and costs nothing
     * where nothing was queued. What callbacks started during reap waits for it too: submit comes
     * once more before the caller goes to sleep on `fd`.
     */
    void (*submit)(struct io *io);
    /* Runs the callbacks of what has completed; returns how many. Never blocks. */
    unsigned (*reap)(struct io *io);
    /* Blocks until reap has something to do; for stopping, where there is no turn. Something that
     * was submitted has to be in flight. Any completion ends it, whatever the caller waits for: so
     * it waits in a loop, and a slow job in flight holds it up only where nothing else is. */
    void (*wait)(struct io *io);
    /* Waits for what is in flight, slow jobs too, then frees; runs no callback. Reap first until
     * in_flight is 0 where they matter. */
    void (*free)(struct io *io);
    /* The monotonic clock, in nanoseconds. */
    uint64_t (*now_ns)(struct io *io);
};

/* First member of each implementation. */
struct io {
    const struct io_ops *ops;
    int fd;             /* readable (level-triggered) when reap has something to do */
    unsigned in_flight; /* requests started and not yet called back */
};

enum io_kind { IO_AUTO, IO_URING, IO_POSIX };

/*
 * Makes the io of a shard; call it on the shard's own thread. IO_AUTO tries io_uring and falls
 * back to posix. 0, or a negative errno where the kind asked for cannot be had.
 */
int io_new(enum io_kind kind, struct io **io);

int io_uring_new(struct io **io); /* -EPERM, -ENOSYS, … where the kernel refuses it */
int io_posix_new(struct io **io);

#endif
