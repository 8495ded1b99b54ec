/*
 * simio: struct io on a simulated disk, in which nothing happens until it is told to.
 *
 * What has been submitted is carried out a piece at a time (simio_step): an append writes its bytes
 * in one or more pieces, then syncs, then is finished; reads and appends overtake each other at
 * random, jobs run in the order given, each from beginning to end. Finished requests wait for reap.
 *
 * A crash is to drop it (free runs no callback). Once the disk is dead nothing is finished any
 * more.
 */
#ifndef ATOLL_TESTS_SIM_SIMIO_H
#define ATOLL_TESTS_SIM_SIMIO_H

#include "shards/io.h"
#include "tests/sim/disk.h"

struct sim_clock {
    uint64_t now_ns; /* monotonic */
    int64_t wall_ms;
};

/* `clock` is what now_ns answers; it belongs to the caller, as do disk and rng. */
struct io *simio_new(struct disk *disk, struct rng *rng, const struct sim_clock *clock);
/* Does one piece of something that was submitted. False: there is nothing. */
bool simio_step(struct io *io);
/* A job is about to run. */
bool simio_has_job(const struct io *io);
/* Something is finished and waits for reap. */
bool simio_ready(const struct io *io);

#endif
