/*
 * figures: what a shard and its log count, and how REQUEST_STATUS hands it over.
 *
 * Thread: each of them belongs to its shard's; an answer holds a copy.
 */
#ifndef ATOLL_SHARDS_FIGURES_H
#define ATOLL_SHARDS_FIGURES_H

#include "core/base.h"

/* Bucket i counts values of at most 1 << i that no smaller bucket holds, the last one all that are
 * larger. Times are in microseconds: up to 4 s are told apart. */
enum { HISTOGRAM_BUCKETS = 24 };

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t sum;
};

static inline unsigned histogram_bucket(uint64_t value)
{
    unsigned bucket = value <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(value - 1);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counts[histogram_bucket(value)]++;
    histogram->sum += value;
}

enum { REQUEST_LANES = 3 /* mailbox.h */ };

enum { BATCH_BYTES_UNIT = 64 /* of the histogram of batches' sizes */ };

struct log_stats {
    uint64_t batches;   /* committed */
    uint64_t records;   /* committed */
    uint64_t bytes;     /* committed, headers and padding included */
    uint64_t commit_ns; /* sum over commits: from submitting the write to its completion */
    uint64_t commit_ns_last;
    uint64_t segments;   /* of this log, sealed ones included */
    uint64_t torn_bytes; /* cut off at start */
    struct histogram commit_us;
    struct histogram sync_us;       /* LOG_RELAXED: the syncs that follow */
    struct histogram batch_records; /* of one commit */
    struct histogram batch_units;   /* the same, in BATCH_BYTES_UNIT */
};

struct shard_stats {
    uint64_t requests, commands, events, refused, replayed;
    uint64_t frames, frames_lost; /* frames delivered; feeds detached because a ring was full */
    uint64_t ring_full;           /* uncredited messages that had to wait */
    uint64_t no_space;            /* commands refused with 507 */
    uint64_t overloaded;          /* requests refused because a session's queue was full */
    uint64_t history_records;     /* records read back from the log */
    uint64_t snapshots, snapshot_bytes;
    uint64_t loads, load_failures; /* passive sessions brought back */
    uint64_t passivations, expired;
    uint64_t checkpoints, checkpoint_bytes; /* written; size of the newest */
    uint64_t compactions, compacted_bytes;  /* segments rewritten or dropped; bytes got rid of */
    uint64_t wakes, wake_failures;          /* calls to agents; of them without success */
    uint64_t rate_limited, memory_refused;  /* by a session's rate; for lack of memory */
    uint64_t broken, rebuilds; /* commands that broke an invariant; sessions read back anew */
    struct histogram queue_us; /* one request in QUEUE_SAMPLE: from being sent to being taken */
};

/* A copy of all of it: the reply's. */
struct shard_figures {
    struct shard_stats stats;
    struct log_stats log;
    uint64_t sessions, active, companions, companions_active; /* that are; of them in memory */
    uint64_t waiting;                                         /* inbox waits held */
    uint64_t queued;                                          /* requests in its rings */
    uint64_t lane_queued[REQUEST_LANES]; /* the same: control, commands, telemetry */
    /* Requests of the frontend beside it that found no room on their way, to whatever shard. */
    uint64_t lane_full[REQUEST_LANES];
    uint64_t forks, pins;
    uint64_t deleted_waiting, deleted_waiting_bytes; /* ended lives still on the disk */
    uint64_t memory_bytes, sessions_bytes; /* of its arena; of them asked for by sessions */
    uint64_t wakes_under_way, wakes_unreachable;
    uint64_t quarantined; /* sessions */
};

#endif
