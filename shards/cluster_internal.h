/*
 * cluster_internal: what reactor.c and cluster.c know of each other. Private to the two.
 */
#ifndef ATOLL_SHARDS_CLUSTER_INTERNAL_H
#define ATOLL_SHARDS_CLUSTER_INTERNAL_H

#include "shards/cluster.h"
#include "shards/mailbox_internal.h"
#include "shards/shard.h"

#include <pthread.h>

enum { CLUSTER_ERROR_SIZE = 512 };

/* Every reactor goes through these one after the other: see reactor_advance. */
enum cluster_phase {
    PHASE_RECOVER, /* shards recover, on threads of their own */
    PHASE_OPEN,    /* all have: each reactor takes its shard over and opens its log */
    PHASE_SERVE    /* all are open: mailboxes take requests, shards are turned */
};

/* Where a number of threads tell how a step of the start went, and learn how it went for all. */
struct meeting {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned size; /* how many take part */
    unsigned met;  /* steps told by all of them together */
    int result;    /* of the first that failed, in which step, and why */
    unsigned failed_step;
    char error[CLUSTER_ERROR_SIZE];
};

struct reactor {
    struct cluster *cluster;
    unsigned number;
    int cpu;
    unsigned arena; /* jemalloc's, of what this reactor allocates */
    bool has_arena;
    pthread_t thread;
    int wake_fd;
    struct io *io;
    struct mailbox mailbox;
    void *frontend;
    int64_t now_ms, wall_ms;
    bool polling;             /* what they say may be from before a sleep */
    uint64_t begin_ns;        /* of this turn */
    int64_t progress_told_ms; /* 0: not yet */

    /* Its shard: the recovering thread's until PHASE_OPEN, then this reactor's. */
    pthread_t recovering;
    struct shard *shard;
    struct shard_progress progress;
    struct shard_health health;
    enum cluster_phase phase; /* as far as this reactor has come */

    int64_t stopping_since_ms; /* 0: not stopping */
    bool drained;              /* its frontend has nothing left, or no time */
    bool all_drained;          /* it has been heard that every frontend has */
    bool shard_stopping, shard_stopped;

    uint64_t woken; /* writes to our eventfd, done or on their way, that were not read yet */
    /* Figures: written by this reactor, read by any. */
    _Atomic uint64_t turns, sleeps, wakeups, turn_us[REACTOR_TURN_BUCKETS], turn_longest_us,
        turn_total_us;

    /* Shared with whoever wakes this reactor; on a line of its own. See reactor_sleep. */
    _Alignas(CACHE_LINE_BYTES) atomic_int sleeping;
    atomic_bool nudged; /* by cluster_nudge; taken back before the courier is asked */
};

struct cluster {
    struct cluster_options options;
    struct shard_settings settings; /* of each shard */
    struct datadir *dir;
    struct pressure pressure;
    unsigned size;
    struct reactor *reactors;
    struct rings *rings;
    /* Written once or seldom, read once a turn: start, stop and failure are no messages to anyone
     * in particular, so they are flags and not rings. */
    _Atomic(const char *) failed;
    _Atomic uint64_t full;                /* a bit for each shard whose disk is full */
    _Atomic int phase;                    /* enum cluster_phase */
    atomic_uint arrived[PHASE_SERVE + 1]; /* reactors that have done their part of a phase */
    atomic_bool stop;
    atomic_uint drained; /* reactors whose frontend has nothing left */
    atomic_uint stopped; /* reactors whose shard has nothing left */
    atomic_uint unclean; /* reactors whose shard has left no checkpoint of all there is */
    int news_fd;         /* an eventfd */

    struct meeting starting, recovering;
    /* Where a generation begins; each written by its shard's recovering thread. */
    struct datadir_checkpoint checkpoints[DATADIR_SHARDS_MAX];
    int checkpoint_fds[DATADIR_SHARDS_MAX]; /* -1: none is open */
    /* How the start went, told to the main thread. */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int state; /* as cluster_state has it */
    char error[CLUSTER_ERROR_SIZE];
    _Atomic bool start_failed;   /* state < 0, for reactors */
    uint64_t started_ns;         /* monotonic: when cluster_start was called */
    _Atomic int64_t recovery_ms; /* from then until the shards were there; 0: they are not */
};

/* ---- cluster.c */

/* Waits until all have told this step. False: one of them has failed, now or before. */
bool meeting_tell(struct meeting *meeting, int result, const char *error);
/* A reactor's `recovering`: recovers its shard, in step with the others. */
void *cluster_recover(void *reactor);
/* A reactor has done its part of a phase: the last one ends it. */
void cluster_count_in(struct cluster *cluster, enum cluster_phase phase);
/* The start has failed; only the first such sentence counts. */
void cluster_fail_start(struct cluster *cluster, int result, const char *error);
/* Something that the main thread should look at. */
void cluster_tell_news(struct cluster *cluster);

/* ---- reactor.c */

void *reactor_run(void *reactor);
/* No reactor sleeps on without having looked at what the caller has stored before. Any thread. */
void reactors_wake(struct cluster *cluster);
/* The same for one, after it was nudged. Any thread. */
void reactor_nudge(struct reactor *reactor);
/* Lets the calling thread allocate as the reactor's own does. */
void reactor_use_arena(const struct reactor *reactor);

#endif
