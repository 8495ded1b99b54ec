/*
 * world: one process under test, in one thread: a data directory on a simulated disk, its shards,
 * their rings, mailboxes and ios. It is started, turned a piece at a time, and stopped, crashed, or
 * dropped; the disk stays.
 *
 * Start and stop go in the order of shards/cluster.c, a turn in that of shards/reactor.c.
 *
 * A crashed world is only forgotten: nothing of it is freed.
 */
#ifndef ATOLL_TESTS_SIM_WORLD_H
#define ATOLL_TESTS_SIM_WORLD_H

#include "shards/mailbox_internal.h"
#include "shards/shard.h"
#include "tests/sim/disk.h"
#include "tests/sim/simio.h"

enum { WORLD_SHARDS_MAX = 3, WORLD_ORDERS_MAX = 24 };

struct world_options {
    unsigned shards;
    uint64_t segment_bytes;
    enum log_durability durability;
    struct shard_settings settings;
    const struct core_limits *limits;
};

/* Whom calls to agents go to, and how: it forgets what it has when the process ends. */
struct world_courier {
    struct wake_courier ops;
    struct rng *rng;
    bool reliable; /* every call reaches its target, and that is heard */
    struct wake_order *out[WORLD_ORDERS_MAX], *back[WORLD_ORDERS_MAX];
    unsigned out_n, back_n; /* together at most WORLD_ORDERS_MAX */
    /* A call has reached its target; the shard may or may not hear of that. */
    void (*reached)(void *ctx, const struct wake_order *order);
    void *ctx;
};

struct world {
    struct disk *disk;
    struct rng *rng; /* of the scheduler */
    struct sim_clock *clock;
    struct world_options options;
    unsigned n; /* shards, and frontends */
    struct datadir *dir;
    struct rings *rings;
    struct shard *shards[WORLD_SHARDS_MAX];
    struct io *ios[WORLD_SHARDS_MAX];
    struct mailbox mailboxes[WORLD_SHARDS_MAX];
    bool stopping[WORLD_SHARDS_MAX], stopped[WORLD_SHARDS_MAX];
    _Atomic(const char *) failed;
    _Atomic uint64_t full;
    struct world_courier courier; /* `reached` is set after world_start */
    char error[1024]; /* of a start that failed */
};

/* Starts a process on the disk. 0, or -errno with world->error; a world that did not start is only
 * good for being forgotten. */
int world_start(struct world *world, struct disk *disk, struct rng *rng, struct sim_clock *clock,
                const struct world_options *options);
/* One reactor's turn, but for its frontend. True: there is more to do at once. */
bool world_turn(struct world *world, unsigned shard);
/* A piece of what the io of a shard has to do. False: there is nothing. */
bool world_step_io(struct world *world, unsigned shard);
/* One of the calls under way ends in some way. False: there is none. */
bool world_step_courier(struct world *world);
/* Nothing is under way anywhere but in the frontends. */
bool world_idle(const struct world *world);
/* Frontends have drained: goes on stopping, a turn for each shard; true: all have stopped. */
bool world_stop_turn(struct world *world);
/* After that: closes the directory and frees everything. */
void world_close(struct world *world);

#endif
