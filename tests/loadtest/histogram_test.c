/*
 * The histogram of latencies: never below the truth, at most 1/128 above it, whatever the times
 * are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "histogram.h"

enum { SAMPLES = 20000 };

/* splitmix64 */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* What is drawn: about as many from each power of two below 2^bits. */
static void draw_times(uint64_t *times, unsigned bits, uint64_t seed)
{
    for (unsigned i = 0; i < SAMPLES; i++)
        times[i] = draw(&seed) >> (64 - 1 - draw(&seed) % bits);
}

static void expect_bounds(const struct histogram *histogram, uint64_t *times, unsigned n)
{
    static const double shares[] = {0, .001, .25, .5, .9, .99, .999, .9999, 1};

    qsort(times, n, sizeof(times[0]), by_time);
    for (unsigned i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        double rank = ceil(shares[i] * n - 1e-6);
        uint64_t truth = times[rank < 1 ? 0 : (unsigned)rank - 1];
        uint64_t told = histogram_percentile(histogram, shares[i]);
        assert_in_range(told, truth, truth + truth / 128);
    }
    assert_int_equal(histogram->max_ns, times[n - 1]);
    assert_int_equal(histogram_percentile(histogram, 1), times[n - 1]);
}

static void percentiles_are_those_of_a_sorted_array(void **state)
{
    static uint64_t times[SAMPLES];
    struct histogram histogram;

    (void)state;
    for (unsigned bits = 1; bits <= 40; bits += 3) {
        memset(&histogram, 0, sizeof(histogram));
        draw_times(times, bits, bits);
        double sum = 0;
        for (unsigned i = 0; i < SAMPLES; i++) {
            histogram_add(&histogram, times[i]);
            sum += (double)times[i];
        }
        assert_int_equal(histogram.n, SAMPLES);
        assert_true(fabs(histogram_mean_ns(&histogram) - sum / SAMPLES) <= 1e-9 * sum);
        expect_bounds(&histogram, times, SAMPLES);
    }
}

/* At each edge of each bucket, but of the last, which has no end. */
static void one_time_is_told_within_its_bound(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 40; bit++) {
        for (unsigned part = 0; part < (bit < 39 ? 128 : 127); part++) {
            uint64_t edge = (UINT64_C(1) << bit) + ((UINT64_C(1) << bit) * part >> 7);
            for (uint64_t ns = edge - 1; ns <= edge + 1; ns++) {
                struct histogram histogram = {0};
                histogram_add(&histogram, ns);
                histogram_add(&histogram, UINT64_C(1) << 41); /* so that the most is not told */
                assert_in_range(histogram_percentile(&histogram, .5), ns, ns + ns / 128);
            }
        }
    }
}

static void what_is_longer_than_all_buckets_counts_and_is_told_as_the_longest(void **state)
{
    struct histogram histogram = {0};
    uint64_t hours = UINT64_C(10) * 3600 * 1000000000;

    (void)state;
    histogram_add(&histogram, 5);
    histogram_add(&histogram, UINT64_MAX);
    histogram_add(&histogram, hours);
    assert_int_equal(histogram.n, 3);
    assert_int_equal(histogram_percentile(&histogram, .3), 5);
    assert_int_equal(histogram_percentile(&histogram, .99), UINT64_MAX);
    assert_int_equal(histogram.max_ns, UINT64_MAX);
}

static void without_times_all_is_zero(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    assert_int_equal(histogram_percentile(&histogram, .5), 0);
    assert_int_equal(histogram_percentile(&histogram, 1), 0);
    assert_true(histogram_mean_ns(&histogram) == 0);
}

static void shares_are_not_off_by_one(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    for (uint64_t ns = 1; ns <= 100; ns++)
        histogram_add(&histogram, ns);
    for (unsigned percent = 1; percent <= 100; percent++)
        assert_int_equal(histogram_percentile(&histogram, percent / 100.0), percent);
}

static void merged_is_as_if_added_to_one(void **state)
{
    static uint64_t times[SAMPLES];
    static struct histogram whole, parts[3], merged;

    (void)state;
    draw_times(times, 40, 7);
    for (unsigned i = 0; i < SAMPLES; i++) {
        histogram_add(&whole, times[i]);
        histogram_add(&parts[i % 3], times[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        histogram_merge(&merged, &parts[i]);
    assert_memory_equal(merged.buckets, whole.buckets, sizeof(whole.buckets));
    assert_int_equal(merged.n, whole.n);
    assert_int_equal(merged.max_ns, whole.max_ns);
    assert_true(fabs(merged.sum_ns - whole.sum_ns) <= 1e-9 * whole.sum_ns);
}

struct seen {
    uint64_t n, last_high;
};

static void see(void *context, uint64_t low_ns, uint64_t high_ns, uint64_t n)
{
    struct seen *seen = context;
    assert_true(low_ns <= high_ns && n != 0);
    assert_true(seen->n == 0 || low_ns > seen->last_high);
    seen->last_high = high_ns;
    seen->n += n;
}

static void buckets_are_told_in_order_and_hold_all(void **state)
{
    static uint64_t times[SAMPLES];
    static struct histogram histogram;
    struct seen seen = {0};

    (void)state;
    draw_times(times, 44, 3);
    for (unsigned i = 0; i < SAMPLES; i++)
        histogram_add(&histogram, times[i]);
    histogram_each(&histogram, see, &seen);
    assert_int_equal(seen.n, SAMPLES);
    assert_true(seen.last_high >= histogram.max_ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_those_of_a_sorted_array),
        cmocka_unit_test(one_time_is_told_within_its_bound),
        cmocka_unit_test(what_is_longer_than_all_buckets_counts_and_is_told_as_the_longest),
        cmocka_unit_test(without_times_all_is_zero),
        cmocka_unit_test(shares_are_not_off_by_one),
        cmocka_unit_test(merged_is_as_if_added_to_one),
        cmocka_unit_test(buckets_are_told_in_order_and_hold_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
