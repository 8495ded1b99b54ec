/*
 * reactor: one pinned thread that turns one frontend and one shard. All of them in one process:
 * cluster.h.
 *
 * Each turn: requests from the rings -> shard work -> io submit -> io reap (commits release their
 * replies and frames) -> the frontend's own drain -> errands -> the frontend's poll (the h2o loop),
 * with a zero wait if anything is pending. The thread sleeps in that poll and nowhere else. Until
 * all shards have recovered it turns its frontend alone, whose mailbox refuses requests so long.
 *
 * The frontend comes in as a struct of functions, so that shards/ knows no HTTP and tests can run
 * a cluster without any.
 */
#ifndef ATOLL_SHARDS_REACTOR_H
#define ATOLL_SHARDS_REACTOR_H

#include "shards/mailbox.h"

struct reactor;
struct cluster;

/* One set for all reactors; `start` makes the frontend object that the others get. */
struct reactor_frontend_ops {
    /* On the reactor's own thread, before the shards recover. wake_fd and io_fd are to be polled
     * for reading (level-triggered; drain neither: the reactor does). NULL: failed, said why; the
     * process is to stop. */
    void *(*start)(void *ctx, struct reactor *reactor, struct mailbox *mailbox, int wake_fd,
                   int io_fd);
    /* Replies and frames out of the mailbox, timers, whatever is due. Returns the longest wait in
     * milliseconds until it is due again, -1: no limit, 0: has more to do now. */
    int (*work)(void *frontend);
    /* One turn of the event loop, waiting at most max_wait_ms (-1: no limit). */
    void (*poll)(void *frontend, int max_wait_ms);
    /* After reactor_stopping was seen: refuse and finish. True once nothing is left to do. */
    bool (*drained)(void *frontend);
    void (*stop)(void *frontend);
    /* For REQUEST_STATUS: adds who is connected, as elements of a JSON array. NULL: nothing. */
    void (*describe)(void *frontend, struct buf *out);
    void *ctx;
};

/* Turns by how long they took, without their sleep: bucket i holds those of at most
 * REACTOR_TURN_LEAST_US << i microseconds that no smaller one holds; the last one all longer ones.
 */
enum { REACTOR_TURN_BUCKETS = 11, REACTOR_TURN_LEAST_US = 16 };

struct reactor_figures {
    uint64_t turns;   /* of its loop */
    uint64_t sleeps;  /* turns that had nothing to do and slept */
    uint64_t wakeups; /* other reactors that it woke */
    uint64_t turn_us[REACTOR_TURN_BUCKETS];
    uint64_t turn_longest_us, turn_total_us;
};

struct cluster *reactor_cluster(struct reactor *reactor);
unsigned reactor_number(const struct reactor *reactor);
int reactor_cpu(const struct reactor *reactor); /* pinned to, -1: not pinned */
/* The shards have recovered, and the mailbox takes requests. Reactor's thread. */
bool reactor_ready(const struct reactor *reactor);
bool reactor_stopping(const struct reactor *reactor);
/* Monotonic milliseconds: of this turn, or, in a poll that may sleep, of now. Reactor's thread. */
int64_t reactor_now_ms(const struct reactor *reactor);
/* The same of the wall clock, Unix milliseconds. Reactor's thread. */
int64_t reactor_wall_ms(const struct reactor *reactor);

#endif
