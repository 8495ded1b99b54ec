/*
 * reactor: one pinned thread that turns one frontend and one shard, and `cluster`, all of them in
 * one process.
 *
 * Each turn: requests from the rings -> shard work -> io submit -> io reap (commits release their
 * replies and frames) -> the frontend's own drain -> the frontend's poll (the h2o loop), with a
 * zero wait if anything is pending. The thread sleeps in that poll and nowhere else.
 *
 * The frontend comes in as a struct of functions, so that shards/ knows no HTTP and tests can run
 * a cluster without any.
 */
#ifndef ATOLL_SHARDS_REACTOR_H
#define ATOLL_SHARDS_REACTOR_H

#include "shards/io.h"
#include "shards/log.h"
#include "shards/mailbox.h"

struct reactor;
struct cluster;

/* One set for all reactors; `start` makes the frontend object that the others get. */
struct reactor_frontend_ops {
    /* On the reactor's own thread, after its shard has recovered. wake_fd and io_fd are to be
     * polled for reading (level-triggered; drain neither: the reactor does). NULL: failed, said
     * why; the process is to stop. */
    void *(*start)(void *ctx, struct reactor *reactor, struct mailbox *mailbox, int wake_fd,
                   int io_fd);
    /* Replies and frames out of the mailbox, timers, whatever is due. Returns the longest wait in
     * milliseconds until it is due again, -1: no limit, 0: has more to do now. */
    int (*work)(void *frontend);
    /* One turn of the event loop, waiting at most max_wait_ms (-1: no limit). */
    void (*poll)(void *frontend, int max_wait_ms);
    /* After reactor_stop was heard: refuse and finish. True once nothing is left to do. */
    bool (*drained)(void *frontend);
    void (*stop)(void *frontend);
    void *ctx;
};

struct cluster_options {
    const char *data;
    unsigned shards; /* and so reactors and frontends */
    enum io_kind io;
    enum log_durability durability;
    uint64_t segment_bytes;
    struct core_limits limits;
    int64_t grace_ms; /* longest wait for frontends to drain */
    const struct reactor_frontend_ops *frontend;
};

/*
 * Opens the data directory, starts the reactors, waits until all have recovered and their
 * frontends run. 0, or -errno with a sentence in `error` and everything closed again.
 */
int cluster_start(const struct cluster_options *options, struct cluster **cluster, char *error,
                  size_t error_size);
/* Asks all reactors to drain and stop. Any thread; safe in a signalfd handler. */
void cluster_stop(struct cluster *cluster);
/* Waits until they have stopped and closes the data directory. Returns the exit status: 0, or 1
 * after a failure of the log (said on stderr). */
int cluster_join(struct cluster *cluster);
/* Not NULL: a log has failed, and this is why; the frontend should answer 503 and let the process
 * end. Any thread. */
const char *cluster_failed(const struct cluster *cluster);
/* Whether a shard cannot write because its disk is full. Any thread. */
bool cluster_full(const struct cluster *cluster);
/* Becomes readable when a log has failed. Any thread; the cluster's own. */
int cluster_failure_fd(const struct cluster *cluster);
struct cluster *reactor_cluster(struct reactor *reactor);

struct reactor_figures {
    uint64_t turns;   /* of its loop */
    uint64_t sleeps;  /* turns that had nothing to do and slept */
    uint64_t wakeups; /* other reactors that it woke */
};

/* Figures of the reactor with this number. Any thread. */
struct reactor_figures cluster_reactor_figures(const struct cluster *cluster, unsigned number);
unsigned cluster_size(const struct cluster *cluster);
const char *cluster_io_name(const struct cluster *cluster);
unsigned reactor_number(const struct reactor *reactor);
int reactor_cpu(const struct reactor *reactor); /* pinned to, -1: not pinned */
bool reactor_stopping(const struct reactor *reactor);
/* Monotonic milliseconds, read once per turn. Reactor's thread. */
int64_t reactor_now_ms(const struct reactor *reactor);
/* Wall clock of this turn, Unix milliseconds. Reactor's thread. */
int64_t reactor_wall_ms(const struct reactor *reactor);

#endif
