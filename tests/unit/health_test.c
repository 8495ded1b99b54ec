/*
 * health: a cell keeps since when its component is so, and what went wrong last; and the buckets
 * of histograms, which tell how long things took.
 */
#include "shards/figures.h"
#include "shards/health.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void a_component_is_healthy_until_something_is_said(void **state)
{
    (void)state;
    struct health_cell cell;
    health_init(&cell);
    struct health health = health_get(&cell);
    assert_int_equal(health.state, HEALTH_HEALTHY);
    assert_int_equal(health.since_ms, 0);
    assert_int_equal(health.error_ms, 0);
    health_end(&cell);
}

static void it_is_told_since_when_and_the_last_error_stays_known(void **state)
{
    (void)state;
    struct health_cell cell;
    health_init(&cell);
    health_set(&cell, HEALTH_DEGRADED, 100, "one");
    health_set(&cell, HEALTH_DEGRADED, 200, "two"); /* another reason, the same state */
    struct health health = health_get(&cell);
    assert_int_equal(health.state, HEALTH_DEGRADED);
    assert_int_equal(health.since_ms, 100);
    assert_int_equal(health.error_ms, 200);
    assert_string_equal(health.error, "two");
    health_set(&cell, HEALTH_DEGRADED, 250, "two"); /* nothing new */
    assert_int_equal(health_get(&cell).error_ms, 200);
    health_set(&cell, HEALTH_HEALTHY, 300, NULL);
    health_set(&cell, HEALTH_HEALTHY, 400, NULL);
    health = health_get(&cell);
    assert_int_equal(health.state, HEALTH_HEALTHY);
    assert_int_equal(health.since_ms, 300);
    assert_int_equal(health.error_ms, 200);
    assert_string_equal(health.error, "two");
    health_end(&cell);
}

static void an_error_that_is_too_long_is_cut_and_known_again(void **state)
{
    (void)state;
    char text[2 * HEALTH_WHY_BYTES];
    struct health_cell cell;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    health_init(&cell);
    health_set(&cell, HEALTH_FAILED, 1, text);
    health_set(&cell, HEALTH_FAILED, 2, text);
    struct health health = health_get(&cell);
    assert_int_equal(strlen(health.error), HEALTH_WHY_BYTES - 1);
    assert_int_equal(health.error_ms, 1);
    health_end(&cell);
}

static void states_have_names_in_their_order(void **state)
{
    (void)state;
    assert_string_equal(health_name(HEALTH_HEALTHY), "healthy");
    assert_string_equal(health_name(HEALTH_DEGRADED), "degraded");
    assert_string_equal(health_name(HEALTH_FAILING), "failing");
    assert_string_equal(health_name(HEALTH_FAILED), "failed");
}

static void a_bucket_holds_what_is_at_most_its_bound(void **state)
{
    (void)state;
    assert_int_equal(histogram_bucket(0), 0);
    assert_int_equal(histogram_bucket(1), 0);
    for (unsigned i = 1; i < HISTOGRAM_BUCKETS - 1; i++) {
        uint64_t bound = UINT64_C(1) << i;
        assert_int_equal(histogram_bucket(bound - (i > 1)), i);
        assert_int_equal(histogram_bucket(bound), i);
        assert_int_equal(histogram_bucket(bound + 1), i + 1);
    }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    struct histogram histogram = {0};
    histogram_add(&histogram, 3);
    histogram_add(&histogram, 4);
    assert_int_equal(histogram.counts[2], 2);
    assert_int_equal(histogram.sum, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_component_is_healthy_until_something_is_said),
        cmocka_unit_test(it_is_told_since_when_and_the_last_error_stays_known),
        cmocka_unit_test(an_error_that_is_too_long_is_cut_and_known_again),
        cmocka_unit_test(states_have_names_in_their_order),
        cmocka_unit_test(a_bucket_holds_what_is_at_most_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
