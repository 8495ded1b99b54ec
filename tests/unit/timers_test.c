/* Timers fire when they are due and in order, whatever else is set, moved and cleared meanwhile;
 * slots never take one object for another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/slots.h"
#include "server/timers.h"

#include <stdlib.h>
#include <string.h>

enum { MANY = 2000 };

struct alarm {
    struct timer timer;
    struct timers *timers;
    unsigned fired;
    int64_t again_ms; /* not 0: sets itself again for then */
};

static int64_t last_due_ms;

static void on_alarm(struct timer *timer)
{
    struct alarm *alarm = (struct alarm *)timer;

    assert_int_equal(timer->place, 0);
    assert_true(timer->due_ms >= last_due_ms);
    last_due_ms = timer->due_ms;
    alarm->fired++;
    if (alarm->again_ms != 0)
        timers_set(alarm->timers, timer, alarm->again_ms);
}

static void waits_until_the_first_is_due(void **state)
{
    struct timers timers = {0};
    struct alarm a = {.timer.fire = on_alarm}, b = {.timer.fire = on_alarm};

    (void)state;
    last_due_ms = 0;
    assert_int_equal(timers_wait_ms(&timers, 5), -1);
    timers_set(&timers, &a.timer, 100);
    timers_set(&timers, &b.timer, 50);
    assert_int_equal(timers_wait_ms(&timers, 5), 45);
    timers_clear(&timers, &b.timer);
    timers_clear(&timers, &b.timer);
    assert_int_equal(timers_wait_ms(&timers, 5), 95);
    assert_int_equal(timers_wait_ms(&timers, 200), 0);
    timers_run(&timers, 99);
    assert_int_equal(a.fired, 0);
    timers_run(&timers, 100);
    assert_int_equal(a.fired, 1);
    assert_int_equal(b.fired, 0);
    assert_int_equal(timers_wait_ms(&timers, 100), -1);
    timers_free(&timers);
}

static void one_that_sets_itself_again_fires_once_a_run(void **state)
{
    struct timers timers = {0};
    struct alarm a = {.timer.fire = on_alarm, .timers = &timers, .again_ms = 1};

    (void)state;
    last_due_ms = 0;
    timers_set(&timers, &a.timer, 10);
    timers_run(&timers, 10);
    assert_int_equal(a.fired, 1);
    assert_int_equal(timers_wait_ms(&timers, 10), 1);
    timers_run(&timers, 11);
    assert_int_equal(a.fired, 2);
    timers_free(&timers);
}

static void many_fire_in_order(void **state)
{
    static struct alarm alarms[MANY];
    struct timers timers = {0};
    unsigned expected = 0, fired = 0;

    (void)state;
    srand(7);
    memset(alarms, 0, sizeof(alarms));
    last_due_ms = 0;
    for (unsigned i = 0; i < MANY; i++) {
        alarms[i].timer.fire = on_alarm;
        timers_set(&timers, &alarms[i].timer, 1 + rand() % 1000);
    }
    for (unsigned i = 0; i < MANY; i++) {
        if (i % 3 == 0)
            timers_clear(&timers, &alarms[i].timer);
        else if (i % 3 == 1)
            timers_set(&timers, &alarms[i].timer, 1 + rand() % 1000);
        expected += i % 3 != 0;
    }
    for (int64_t now_ms = 0; now_ms <= 1000; now_ms += 10) {
        timers_run(&timers, now_ms);
        for (unsigned i = 0; i < MANY; i++)
            assert_true(alarms[i].timer.place == 0 || alarms[i].timer.due_ms > now_ms);
    }
    for (unsigned i = 0; i < MANY; i++)
        fired += alarms[i].fired;
    assert_int_equal(fired, expected);
    timers_free(&timers);
}

static void a_token_finds_only_its_own_object(void **state)
{
    struct slots slots = {0};
    int a, b;
    uint64_t first = slots_add(&slots, &a);

    (void)state;
    assert_true(first != 0);
    assert_ptr_equal(slots_find(&slots, first), &a);
    slots_remove(&slots, first);
    assert_null(slots_find(&slots, first));
    uint64_t second = slots_add(&slots, &b);
    assert_true(second != first);
    assert_null(slots_find(&slots, first));
    assert_ptr_equal(slots_find(&slots, second), &b);
    assert_null(slots_find(&slots, 0));
    assert_null(slots_find(&slots, UINT64_MAX));
    assert_int_equal(slots.used, 1);
    slots_free(&slots);
}

static void slots_are_used_again(void **state)
{
    static int objects[MANY];
    static uint64_t tokens[MANY];
    struct slots slots = {0};

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < MANY; i++)
            tokens[i] = slots_add(&slots, &objects[i]);
        for (unsigned i = 0; i < MANY; i++)
            assert_ptr_equal(slots_find(&slots, tokens[i]), &objects[i]);
        for (unsigned i = 0; i < MANY; i++)
            slots_remove(&slots, tokens[i]);
    }
    assert_int_equal(slots.n, MANY);
    assert_int_equal(slots.used, 0);
    for (unsigned i = 0; i < slots.n; i++)
        assert_null(slots_at(&slots, i));
    slots_free(&slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_until_the_first_is_due),
        cmocka_unit_test(one_that_sets_itself_again_fires_once_a_run),
        cmocka_unit_test(many_fire_in_order),
        cmocka_unit_test(a_token_finds_only_its_own_object),
        cmocka_unit_test(slots_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
