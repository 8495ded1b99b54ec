/*
 * The ring between one producer and one consumer: its edges in one thread, and its proof put to
 * the test by two.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "shards/ring.h"

/* As if so many items had gone through it before. */
static void ring_begin_at(struct ring *ring, uint32_t index)
{
    atomic_store(&ring->head, index);
    atomic_store(&ring->tail, index);
    ring->head_seen = ring->tail_seen = index;
}

static bool push(struct ring *ring, uint64_t n)
{
    return ring_push(ring, (struct ring_item){ring, n});
}

static void expect_pop(struct ring *ring, uint64_t n)
{
    struct ring_item item = {0};
    assert_true(ring_ready(ring));
    assert_true(ring_peek(ring, 0, &item));
    assert_int_equal(item.tag, n);
    assert_true(ring_pop(ring, &item));
    assert_ptr_equal(item.p, ring);
    assert_int_equal(item.tag, n);
}

static void expect_empty(struct ring *ring)
{
    struct ring_item item;
    assert_false(ring_ready(ring));
    assert_false(ring_peek(ring, 0, &item));
    assert_false(ring_pop(ring, &item));
    assert_int_equal(ring_waiting(ring), 0);
    assert_int_equal(ring_used(ring), 0);
}

static void an_empty_ring_gives_nothing(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 8);
    expect_empty(&ring);
    expect_empty(&ring);
    ring_free(&ring);
}

static void a_full_ring_takes_no_more_and_loses_nothing(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 8);
    for (uint64_t i = 0; i < 8; i++)
        assert_true(push(&ring, i));
    assert_int_equal(ring_used(&ring), 8);
    assert_int_equal(ring_waiting(&ring), 8);
    assert_false(push(&ring, 8));
    assert_false(push(&ring, 8));
    for (uint64_t i = 0; i < 8; i++)
        expect_pop(&ring, i);
    expect_empty(&ring);
    ring_free(&ring);
}

static void one_popped_makes_room_for_one(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 4);
    for (uint64_t i = 0; i < 4; i++)
        assert_true(push(&ring, i));
    for (uint64_t i = 4; i < 100; i++) {
        assert_false(push(&ring, i));
        expect_pop(&ring, i - 4);
        assert_true(push(&ring, i));
        assert_int_equal(ring_used(&ring), 4);
    }
    ring_free(&ring);
}

static void a_ring_of_one_item_alternates(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 1);
    for (uint64_t i = 0; i < 100; i++) {
        assert_true(push(&ring, i));
        assert_false(push(&ring, i));
        expect_pop(&ring, i);
        expect_empty(&ring);
    }
    ring_free(&ring);
}

/* Full and empty are told apart while tail has gone round and head has not. */
static void indices_wrap_around_at_32_bits(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 8);
    ring_begin_at(&ring, UINT32_MAX - 3);
    expect_empty(&ring);
    uint64_t pushed = 0;
    uint64_t popped = 0;
    for (int round = 0; round < 5; round++) {
        while (push(&ring, pushed))
            pushed++;
        assert_int_equal(pushed - popped, 8);
        assert_int_equal(ring_used(&ring), 8);
        assert_int_equal(ring_waiting(&ring), 8);
        while (popped < pushed)
            expect_pop(&ring, popped++);
        expect_empty(&ring);
    }
    assert_true(atomic_load(&ring.head) < 1000);
    ring_free(&ring);
}

static void every_fill_level_wraps_around(void **state)
{
    (void)state;
    for (uint32_t level = 1; level <= 8; level++) {
        struct ring ring;
        ring_init(&ring, 8);
        ring_begin_at(&ring, UINT32_MAX - 20);
        uint64_t n = 0;
        for (; n < level; n++)
            assert_true(push(&ring, n));
        for (; n < 50; n++) {
            expect_pop(&ring, n - level);
            assert_int_equal(ring_used(&ring), level - 1);
            assert_true(push(&ring, n));
            assert_int_equal(ring_waiting(&ring), level);
        }
        ring_free(&ring);
    }
}

static void a_look_ahead_finds_what_later_pops_will(void **state)
{
    (void)state;
    struct ring ring;
    ring_init(&ring, 8);
    ring_begin_at(&ring, UINT32_MAX - 20);
    uint64_t pushed = 0, popped = 0;
    for (uint32_t level = 0; level <= 8; level++) {
        for (int round = 0; round < 10; round++) {
            while (pushed - popped < level)
                assert_true(push(&ring, pushed++));
            struct ring_item item = {0};
            for (uint32_t n = 0; n < level; n++) {
                assert_true(ring_peek(&ring, n, &item));
                assert_int_equal(item.tag, popped + n);
            }
            assert_false(ring_peek(&ring, level, &item));
            assert_false(ring_peek(&ring, level + 1, &item));
            assert_int_equal(ring_waiting(&ring), level);
            if (level != 0)
                expect_pop(&ring, popped++);
        }
    }
    ring_free(&ring);
}

/* ---- two threads */

struct race {
    struct ring ring;
    uint64_t items;
};

/* What an item points to is plain memory: it is the ring that must make it visible, also to who
 * looks ahead. */
struct parcel {
    uint64_t number;
    uint64_t doubled;
};

enum { PARCELS = 4096 /* more than the ring holds: one is written anew after it was read */ };

static struct parcel parcels[PARCELS];

static void *produce(void *argument)
{
    struct race *race = argument;
    for (uint64_t n = 0; n < race->items; n++) {
        struct parcel *parcel = &parcels[n % PARCELS];
        *parcel = (struct parcel){n, 2 * n};
        while (!ring_push(&race->ring, (struct ring_item){parcel, n}))
            sched_yield();
    }
    return NULL;
}

static void run_race(uint32_t capacity, uint64_t items)
{
    struct race race = {.items = items};
    pthread_t producer;
    ring_init(&race.ring, capacity);
    ring_begin_at(&race.ring, UINT32_MAX - (uint32_t)(items / 2));
    assert_int_equal(pthread_create(&producer, NULL, produce, &race), 0);
    for (uint64_t n = 0; n < items;) {
        struct ring_item item;
        if (ring_peek(&race.ring, 2, &item) && ((const struct parcel *)item.p)->number != n + 2)
            fail_msg("%llu was expected two behind", (unsigned long long)n + 2);
        if (!ring_pop(&race.ring, &item)) {
            sched_yield();
            continue;
        }
        const struct parcel *parcel = item.p;
        if (item.tag != n || parcel->number != n || parcel->doubled != 2 * n)
            fail_msg("item %llu came as %llu", (unsigned long long)n, (unsigned long long)item.tag);
        n++;
    }
    assert_int_equal(pthread_join(producer, NULL), 0);
    expect_empty(&race.ring);
    ring_free(&race.ring);
}

/* There are more parcels than slots: one is written anew only after the consumer, done with it, has
 * popped later ones. */
static void two_threads_pass_millions_of_items_in_order(void **state)
{
    (void)state;
    run_race(PARCELS / 4, 4000000);
}

static void two_threads_meet_at_the_edges_of_a_small_ring(void **state)
{
    (void)state;
    run_race(2, 300000);
    run_race(1, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_ring_gives_nothing),
        cmocka_unit_test(a_full_ring_takes_no_more_and_loses_nothing),
        cmocka_unit_test(one_popped_makes_room_for_one),
        cmocka_unit_test(a_ring_of_one_item_alternates),
        cmocka_unit_test(indices_wrap_around_at_32_bits),
        cmocka_unit_test(every_fill_level_wraps_around),
        cmocka_unit_test(a_look_ahead_finds_what_later_pops_will),
        cmocka_unit_test(two_threads_pass_millions_of_items_in_order),
        cmocka_unit_test(two_threads_meet_at_the_edges_of_a_small_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
