/*
 * health: how a component is, since when, and what went wrong last: set by the thread that it
 * belongs to, asked for by any, also while that thread stands still.
 *
 * Thread: health_set: the component's own; the lock is held while a cell is copied, and taken by
 * it only where something changes.
 */
#ifndef ATOLL_SHARDS_HEALTH_H
#define ATOLL_SHARDS_HEALTH_H

#include "core/base.h"

#include <pthread.h>

enum health_state {
    HEALTH_HEALTHY,
    HEALTH_DEGRADED, /* all is done, but not as well as it should be */
    HEALTH_FAILING,  /* something is not done, and may be again */
    HEALTH_FAILED    /* nothing is done any more */
};

enum { HEALTH_WHY_BYTES = 160 };

struct health {
    enum health_state state;
    int64_t since_ms; /* wall clock, when it came to be so; 0: since the start */
    int64_t error_ms; /* of the last error; 0: there was none */
    char error[HEALTH_WHY_BYTES];
};

struct health_cell {
    pthread_mutex_t lock;
    struct health now;
};

/* What every shard has. */
struct shard_health {
    struct health_cell shard, log, wakes;
};

void health_init(struct health_cell *cell);
void health_end(struct health_cell *cell);
/* `why`: a sentence without a full stop, which is cut where it is too long; NULL where it is
 * healthy. The same again changes nothing. `cell` may be NULL. */
void health_set(struct health_cell *cell, enum health_state state, int64_t wall_ms,
                const char *why);
struct health health_get(struct health_cell *cell);
const char *health_name(enum health_state state);

#endif
