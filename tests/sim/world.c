/*
 * world: see world.h.
 */
#include "tests/sim/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct sim_clock *the_clock;
static struct rng *the_rng;

/*
 * The product asks the operating system for the time with this (the linker's --wrap): then the
 * simulated clock goes on a little, and sometimes so much that a slice of work is over.
 */
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    if (the_clock == NULL) {
        *ts = (struct timespec){0};
        return 0;
    }
    the_clock->now_ns += rng_once_in(the_rng, 50) ? 3000000 : 100;
    uint64_t ns = id == CLOCK_REALTIME ? (uint64_t)the_clock->wall_ms * 1000000 : the_clock->now_ns;
    *ts =
        (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    return 0;
}

static void pause_ms(void *ctx, unsigned ms)
{
    ((struct sim_clock *)ctx)->now_ns += (uint64_t)ms * 1000000;
}

/* ---- the courier */

static bool courier_post(void *ctx, struct wake_order *order)
{
    struct world_courier *courier = ctx;
    if (courier->out_n + courier->back_n == WORLD_ORDERS_MAX)
        return false;
    courier->out[courier->out_n++] = order;
    return true;
}

static struct wake_order *courier_done(void *ctx, unsigned shard)
{
    struct world_courier *courier = ctx;
    for (unsigned i = 0; i < courier->back_n; i++) {
        struct wake_order *order = courier->back[i];
        if (order->shard == shard) {
            courier->back[i] = courier->back[--courier->back_n];
            return order;
        }
    }
    return NULL;
}

/* Answers are lost, too: then the target has been reached, and the shard hears of a failure. */
static enum wake_outcome courier_call(struct world_courier *courier, const struct wake_order *order)
{
    uint32_t chance = courier->reliable ? 0 : rng_below(courier->rng, 100);
    if (chance < 65 && courier->reached != NULL)
        courier->reached(courier->ctx, order);
    return chance < 50 ? WAKE_DELIVERED : chance < 90 ? WAKE_FAILED : WAKE_REFUSED;
}

bool world_step_courier(struct world *world)
{
    struct world_courier *courier = &world->courier;
    if (courier->out_n == 0)
        return false;
    unsigned at = rng_below(courier->rng, courier->out_n);
    struct wake_order *order = courier->out[at];
    courier->out[at] = courier->out[--courier->out_n];
    order->outcome = courier_call(courier, order);
    snprintf(order->why, sizeof(order->why), "nobody was there");
    courier->back[courier->back_n++] = order;
    return true;
}

static void courier_end(struct world_courier *courier)
{
    while (courier->out_n != 0)
        wake_order_free(courier->out[--courier->out_n]);
    while (courier->back_n != 0)
        wake_order_free(courier->back[--courier->back_n]);
}

/* ---- start */

static int open_directory(struct world *world)
{
    struct datadir_options options = {
        .fs = disk_fs_new(world->disk, pause_ms, world->clock),
        .shards = world->n,
        .segment_bytes = world->options.segment_bytes,
        .relaxed = world->options.durability == LOG_RELAXED,
    };
    uint64_t torn_bytes = 0;
    int result = datadir_open(&options, &world->dir, world->error, sizeof(world->error));
    if (result == 0)
        result = log_clean_tails(world->dir, &torn_bytes, world->error, sizeof(world->error));
    return result;
}

static int recover(struct world *world)
{
    int result = 0;
    for (unsigned i = 0; i < world->n && result == 0; i++) {
        struct shard_options options = {
            .number = i,
            .dir = world->dir,
            .io = world->ios[i],
            .limits = world->options.limits,
            .settings = &world->options.settings,
            .failed = &world->failed,
            .full = &world->full,
            .courier = &world->courier.ops,
        };
        result = shard_new(&options, &world->shards[i], world->error, sizeof(world->error));
    }
    return result;
}

static int begin_generation(struct world *world)
{
    struct datadir_checkpoint checkpoints[WORLD_SHARDS_MAX];
    int fds[WORLD_SHARDS_MAX];
    bool is_new = datadir_recover_shards(world->dir) == 0;
    int result = 0;
    for (unsigned i = 0; i < world->n && result == 0 && !is_new; i++)
        result = shard_write_first_checkpoint(world->shards[i], &checkpoints[i], &fds[i],
                                              world->error, sizeof(world->error));
    if (result != 0)
        return result;
    result = datadir_begin_generation(world->dir, is_new ? NULL : checkpoints, is_new ? NULL : fds);
    if (result != 0)
        snprintf(world->error, sizeof(world->error), "cannot begin with %u shards: %s", world->n,
                 strerror(-result));
    return result;
}

static int open_shards(struct world *world)
{
    int result = 0;
    world->rings = rings_new(world->n, datadir_hash_key(world->dir));
    for (unsigned i = 0; i < world->n; i++)
        mailbox_init(&world->mailboxes[i], world->rings, i);
    for (unsigned i = 0; i < world->n && result == 0; i++) {
        rings_attach_shard(world->rings, world->shards[i]);
        world->shards[i]->mailbox = &world->mailboxes[i];
        result = shard_open(world->shards[i], world->options.durability, world->error,
                            sizeof(world->error));
    }
    return result;
}

int world_start(struct world *world, struct disk *disk, struct rng *rng, struct sim_clock *clock,
                const struct world_options *options)
{
    *world = (struct world){.disk = disk, .rng = rng, .clock = clock, .options = *options};
    the_clock = clock;
    the_rng = rng;
    world->courier = (struct world_courier){.rng = rng};
    world->courier.ops = (struct wake_courier){&world->courier, courier_post, courier_done};
    world->n = options->shards;
    for (unsigned i = 0; i < world->n; i++)
        world->ios[i] = simio_new(disk, rng, clock);
    int result = open_directory(world);
    if (result == 0)
        result = recover(world);
    if (result == 0 && datadir_recover_shards(world->dir) != world->n)
        result = begin_generation(world);
    if (result == 0) {
        shards_settle(world->shards, world->n);
        result = open_shards(world);
    }
    return result;
}

/* ---- turns */

bool world_turn(struct world *world, unsigned at)
{
    struct shard *shard = world->shards[at];
    struct io *io = world->ios[at];
    int64_t now_ms = (int64_t)(world->clock->now_ns / 1000000);
    bool more = shard_turn(shard, now_ms, world->clock->wall_ms);
    io->ops->submit(io);
    if (io->ops->reap(io) != 0) {
        shard_commit(shard);
        io->ops->submit(io);
        more = more || shard->stalled != NULL;
    }
    shard_tick(shard); /* what is due by time alone */
    return mailbox_send_errands(&world->mailboxes[at]) || more;
}

bool world_step_io(struct world *world, unsigned shard)
{
    return simio_step(world->ios[shard]);
}

bool world_idle(const struct world *world)
{
    for (unsigned i = 0; i < world->n; i++) {
        if (!shard_idle(world->shards[i]) || world->ios[i]->in_flight != 0 ||
            shard_pending(world->shards[i]) || mailbox_errands(&world->mailboxes[i]) != 0)
            return false;
    }
    return true;
}

/* As a reactor does it: a stop begins when all is answered, and ends whatever comes then. */
static bool stop_shard(struct world *world, unsigned at)
{
    enum { GRACE_MS = 10000 };
    struct shard *shard = world->shards[at];
    bool busy = mailbox_errands(&world->mailboxes[at]) != 0 || !shard_idle(shard);
    if (!world->stopping[at] && busy)
        return false;
    world->stopping[at] = true;
    return shard_stop(shard, GRACE_MS) && shard_idle(shard);
}

bool world_stop_turn(struct world *world)
{
    bool all = true;
    for (unsigned i = 0; i < world->n; i++) {
        world_turn(world, i);
        if (!world->stopped[i])
            world->stopped[i] = stop_shard(world, i);
        all = all && world->stopped[i];
    }
    return all;
}

void world_close(struct world *world)
{
    bool clean = atomic_load(&world->failed) == NULL;
    for (unsigned i = 0; i < world->n; i++) {
        clean = clean && shard_stopped_clean(world->shards[i]);
        shard_free(world->shards[i]);
        world->ios[i]->ops->free(world->ios[i]);
    }
    datadir_close(world->dir, clean);
    rings_free(world->rings);
    courier_end(&world->courier);
    free((char *)(uintptr_t)atomic_load(&world->failed));
}
