/*
 * A courier on a thread of its own, and reactors that sleep: whatever it brings back is heard of,
 * though nothing else wakes them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/shards_fixture.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHARDS = 2, AGENTS = 40 };

struct courier {
    struct wake_courier ops;
    struct wake_rings *rings;
    struct cluster *cluster; /* before its thread begins */
    sem_t posted;
    pthread_t thread;
    _Atomic bool ending;
    unsigned calls; /* its thread's */
};

static bool courier_post(void *ctx, struct wake_order *order)
{
    struct courier *courier = ctx;
    bool posted = wake_rings_post(courier->rings, order);
    if (posted)
        sem_post(&courier->posted);
    return posted;
}

static struct wake_order *courier_done(void *ctx, unsigned shard)
{
    return wake_rings_done(((struct courier *)ctx)->rings, shard);
}

/* Every second call reaches its target; the others may not be made, which opens the breaker. */
static void *courier_run(void *argument)
{
    struct courier *courier = argument;
    while (sem_wait(&courier->posted) == 0 && !atomic_load(&courier->ending)) {
        struct wake_order *order = wake_rings_take(courier->rings);
        assert(order != NULL);
        unsigned shard = order->shard;
        order->outcome = courier->calls++ % 2 == 0 ? WAKE_REFUSED : WAKE_DELIVERED;
        snprintf(order->why, sizeof(order->why), "it may not be called");
        wake_rings_return(courier->rings, order);
        cluster_nudge(courier->cluster, shard);
    }
    return NULL;
}

static int open_rig(void **state, struct rig *rig, struct courier *courier)
{
    (void)state;
    memset(courier, 0, sizeof(*courier));
    courier->rings = wake_rings_new(SHARDS);
    courier->ops = (struct wake_courier){courier, courier_post, courier_done};
    sem_init(&courier->posted, 0, 0);
    rig_prepare(rig, SHARDS, IO_POSIX);
    rig->options.courier = &courier->ops;
    rig_start(rig);
    courier->cluster = rig->cluster;
    return pthread_create(&courier->thread, NULL, courier_run, courier);
}

static void close_rig(struct rig *rig, struct courier *courier)
{
    atomic_store(&courier->ending, true);
    sem_post(&courier->posted);
    pthread_join(courier->thread, NULL);
    rig_close(rig);
    wake_rings_free(courier->rings);
    sem_destroy(&courier->posted);
}

static void what_the_courier_brings_back_is_heard_of_by_reactors_that_sleep(void **state)
{
    static const char *const sessions[] = {"s0", "s1", "s2", "s3"};
    enum { SESSIONS = sizeof(sessions) / sizeof(sessions[0]) };
    struct rig rig;
    struct courier courier;
    struct follower *followers[SESSIONS];
    uint64_t seqs[SESSIONS];
    char line[96];
    assert_int_equal(open_rig(state, &rig, &courier), 0);
    for (int i = 0; i < SESSIONS; i++) {
        rig_do(&rig, 0, sessions[i], "session.create");
        rig_do(&rig, 0, sessions[i], "agent.register agent=speaker");
        rig_do(&rig, 0, sessions[i], "thread.create creator=speaker name=n participants= thread=x");
        for (int a = 0; a < AGENTS; a++) {
            snprintf(line, sizeof(line), "agent.register agent=a%d", a);
            rig_do(&rig, 0, sessions[i], line);
            snprintf(line, sizeof(line), "agent.wake agent=a%d url=http://h", a);
            rig_do(&rig, 0, sessions[i], line);
            snprintf(line, sizeof(line), "thread.add thread=x agent=a%d by=speaker", a);
            rig_do(&rig, 0, sessions[i], line);
        }
        followers[i] = follower_new(&rig, 1, sessions[i]);
        follower_start(followers[i]);
        follower_wait_live(followers[i]);
    }
    for (int i = 0; i < SESSIONS; i++)
        seqs[i] = rig_do(&rig, 0, sessions[i], "message.send thread=x sender=speaker content=x");
    /* Of all calls half are refused: so many breakers open, over all sessions together. */
    uint64_t reports = 0;
    rig_lock(&rig);
    while ((reports = 0, true)) {
        for (int i = 0; i < SESSIONS; i++)
            reports += followers[i]->told > seqs[i] ? followers[i]->told - seqs[i] : 0;
        if (reports == (uint64_t)SESSIONS * AGENTS / 2)
            break;
        rig_wait(&rig, "a report for every call that was refused");
    }
    rig_unlock(&rig);
    close_rig(&rig, &courier);
    for (int i = 0; i < SESSIONS; i++)
        follower_free(followers[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_courier_brings_back_is_heard_of_by_reactors_that_sleep),
    };
    return cmocka_run_group_tests_name("cluster_wake", tests, NULL, NULL);
}
