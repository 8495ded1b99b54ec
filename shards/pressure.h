/*
 * pressure: how much of the memory that this process may use it has in use, and what follows.
 *
 *     PRESSURE_HIGH       from 80 %: no session is made, and those that nobody uses leave memory
 *     PRESSURE_CRITICAL   from 95 %: nothing is written either; reading goes on
 *
 * A level holds until five points less are in use, so that it does not flicker. What is measured is
 * the resident size as the kernel counts it. It is looked at every 100 ms at most, by whichever
 * reactor's turn comes first; while all sleep nothing grows. At a level, memory that jemalloc holds
 * for later goes back to the kernel, once a second.
 *
 * Failure: where it cannot be read (no /proc) there is no level, which is said once.
 *
 * Thread: any, but for pressure_init and pressure_end.
 */
#ifndef ATOLL_SHARDS_PRESSURE_H
#define ATOLL_SHARDS_PRESSURE_H

#include "core/base.h"

#include <stdatomic.h>

enum pressure_level { PRESSURE_NONE, PRESSURE_HIGH, PRESSURE_CRITICAL };

struct pressure {
    uint64_t limit_bytes; /* 0: there is none, and no level */
    int fd;
    uint64_t (*resident)(struct pressure *pressure); /* bytes; 0: not known. For tests */
    void *ctx;                                       /* theirs */
    _Atomic int level;                               /* enum pressure_level */
    _Atomic uint64_t resident_bytes;
    _Atomic int64_t look_ms, purge_ms; /* monotonic: not before */
};

void pressure_init(struct pressure *pressure, uint64_t limit_bytes);
void pressure_end(struct pressure *pressure);
/* Once a turn. True: the level is another one, which those that sleep have to see to as well. */
bool pressure_look(struct pressure *pressure, int64_t now_ms);

/* `pressure` may be NULL. */
static inline enum pressure_level pressure_level(const struct pressure *pressure)
{
    if (pressure == NULL)
        return PRESSURE_NONE;
    return (enum pressure_level)atomic_load_explicit(&pressure->level, memory_order_relaxed);
}

const char *pressure_name(enum pressure_level level);

#endif
