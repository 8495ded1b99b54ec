/*
 * rates: a bucket lets through what its rate says, no more and no less, whoever asks at once; what
 * a batch owes is paid off; and what is told of it is true.
 */
#include "server/rates.h"

#include "core/base.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

enum { BEGIN_MS = 1000000 };

static struct rates *rates;

static int setup(void **state)
{
    (void)state;
    rates = rates_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rates_free(rates);
    return 0;
}

static struct rates_limit limit_of(uint32_t n, uint32_t per_ms, uint32_t burst)
{
    return rates_limit_of(&(struct config_rate){n, per_ms, burst});
}

static bool pass(const struct rates_limit *limit, uint64_t key, int64_t now_ms)
{
    struct rates_verdict verdict;
    return rates_pass(rates, limit, RATES_TOKEN, key, now_ms, &verdict);
}

static unsigned count_passed(const struct rates_limit *limit, uint64_t key, int64_t now_ms,
                             unsigned tries)
{
    unsigned passed = 0;
    for (unsigned i = 0; i < tries; i++)
        passed += pass(limit, key, now_ms);
    return passed;
}

static void as_many_as_the_burst_pass_at_once_and_then_as_many_as_come_back(void **state)
{
    struct rates_limit limit = limit_of(10, 1000, 25);
    (void)state;
    assert_int_equal(count_passed(&limit, 1, BEGIN_MS, 100), 25);
    assert_int_equal(count_passed(&limit, 1, BEGIN_MS + 99, 100), 0);
    assert_int_equal(count_passed(&limit, 1, BEGIN_MS + 100, 100), 1);
    assert_int_equal(count_passed(&limit, 1, BEGIN_MS + 1100, 100), 10);
    assert_int_equal(count_passed(&limit, 1, BEGIN_MS + 60000, 100), 25);
}

static void rate_is_exact_over_a_long_time(void **state)
{
    struct rates_limit limit = limit_of(7, 1000, 7);
    unsigned passed = 0;
    (void)state;
    for (int64_t ms = 0; ms < 100000; ms += 3)
        passed += count_passed(&limit, 1, BEGIN_MS + ms, 2);
    assert_in_range(passed, 7 * 100, 7 * 100 + 7);
}

static void keys_and_kinds_have_buckets_of_their_own(void **state)
{
    struct rates_limit limit = limit_of(1, 1000, 1);
    struct rates_verdict verdict;
    (void)state;
    for (uint64_t key = 1; key < 1000; key++)
        assert_true(pass(&limit, key, BEGIN_MS));
    for (uint64_t key = 1; key < 1000; key++)
        assert_false(pass(&limit, key, BEGIN_MS));
    assert_true(rates_pass(rates, &limit, RATES_ADDRESS, 1, BEGIN_MS, &verdict));
    assert_int_equal(rates_displaced(rates), 0);
}

static void no_limit_limits_nothing(void **state)
{
    struct rates_limit limit = rates_limit_of(&(struct config_rate){0});
    struct rates_verdict verdict;
    (void)state;
    assert_int_equal(count_passed(&limit, 1, BEGIN_MS, 1000), 1000);
    assert_true(rates_pass(rates, &limit, RATES_TOKEN, 1, BEGIN_MS, &verdict));
    assert_false(verdict.limited);
    rates_charge(rates, &limit, RATES_TOKEN, 1, BEGIN_MS, 1000000);
}

static void batch_larger_than_the_burst_passes_and_is_paid_off_before_the_next(void **state)
{
    struct rates_limit limit = limit_of(100, 1000, 100);
    (void)state;
    assert_true(pass(&limit, 1, BEGIN_MS));
    rates_charge(rates, &limit, RATES_TOKEN, 1, BEGIN_MS, 999);
    assert_false(pass(&limit, 1, BEGIN_MS));
    assert_false(pass(&limit, 1, BEGIN_MS + 9009));
    assert_true(pass(&limit, 1, BEGIN_MS + 9010));
    assert_false(pass(&limit, 1, BEGIN_MS + 9010));
}

static void verdict_tells_what_is_left_and_when_to_come_back(void **state)
{
    struct rates_limit limit = limit_of(60, 60000, 60);
    struct rates_verdict verdict;
    (void)state;
    assert_true(rates_pass(rates, &limit, RATES_TOKEN, 1, BEGIN_MS, &verdict));
    assert_true(verdict.limited);
    assert_int_equal(verdict.limit, 60);
    assert_int_equal(verdict.window_s, 60);
    assert_int_equal(verdict.remaining, 59);
    assert_int_equal(verdict.reset_s, 1);
    assert_int_equal(verdict.retry_after_s, 0);
    assert_int_equal(count_passed(&limit, 1, BEGIN_MS, 59), 59);
    assert_false(rates_pass(rates, &limit, RATES_TOKEN, 1, BEGIN_MS + 500, &verdict));
    assert_int_equal(verdict.remaining, 0);
    assert_int_equal(verdict.reset_s, 60);
    assert_int_equal(verdict.retry_after_s, 1);
    assert_true(rates_pass(rates, &limit, RATES_TOKEN, 1, BEGIN_MS + 1000, &verdict));
}

static void refusal_of_another_keeper_is_told_the_same_way(void **state)
{
    struct rates_limit limit = limit_of(60, 60000, 60);
    struct rates_verdict verdict = rates_refusal(&limit, RATES_SESSION, 700);
    char text[RATES_HEADER_BYTES];
    (void)state;
    assert_int_equal(verdict.retry_after_s, 1);
    assert_int_equal(verdict.remaining, 0);
    rates_write_limit(&verdict, 1, text);
    assert_string_equal(text, "\"session\";r=0;t=60");
    rates_write_policy(&verdict, 1, text);
    assert_string_equal(text, "\"session\";q=60;w=60");
}

static void waiting_for_as_long_as_is_said_is_enough(void **state)
{
    struct rates_limit limit = limit_of(3, 1000, 5);
    struct rates_verdict verdict;
    int64_t now_ms = BEGIN_MS;
    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        if (rates_pass(rates, &limit, RATES_TOKEN, 1, now_ms, &verdict)) {
            rates_charge(rates, &limit, RATES_TOKEN, 1, now_ms, i % 17);
            continue;
        }
        now_ms += (int64_t)verdict.retry_after_s * 1000;
        assert_true(rates_pass(rates, &limit, RATES_TOKEN, 1, now_ms, &verdict));
    }
}

static void another_rate_begins_with_full_buckets(void **state)
{
    struct rates_limit slow = limit_of(1, 3600000, 1);
    struct rates_limit quick = limit_of(10, 1000, 10);
    (void)state;
    assert_int_equal(count_passed(&slow, 1, BEGIN_MS, 10), 1);
    assert_int_equal(count_passed(&quick, 1, BEGIN_MS, 20), 10);
}

/* Many more addresses than there are buckets: those in use stay, as long as there are others. */
static void those_who_ask_once_push_nobody_out(void **state)
{
    struct rates_limit limit = limit_of(1000, 1000, 1000);
    struct rates_limit busy = limit_of(1, 3600000, 1);
    (void)state;
    assert_true(pass(&busy, 1, BEGIN_MS));
    for (uint64_t key = 2; key < 2 + 4 * (uint64_t)RATES_LINES * RATES_WAYS; key++)
        assert_true(pass(&limit, key, BEGIN_MS + (int64_t)(key / 64)));
    assert_int_equal(rates_displaced(rates), 0);
    assert_false(pass(&busy, 1, BEGIN_MS + 100000));
}

static void crowd_larger_than_the_table_is_let_in_and_counted(void **state)
{
    struct rates_limit limit = limit_of(1, 3600000, 1);
    (void)state;
    for (uint64_t key = 1; key <= 2 * (uint64_t)RATES_LINES * RATES_WAYS; key++)
        assert_true(pass(&limit, key, BEGIN_MS));
    assert_in_range(rates_displaced(rates), (uint64_t)RATES_LINES * RATES_WAYS,
                    2 * (uint64_t)RATES_LINES * RATES_WAYS);
}

/* ---- from several threads */

enum { THREADS = 4, TRIES = 20000, BURST = 1000 };

static atomic_uint passed_in_all;

static void *ask_often(void *argument)
{
    const struct rates_limit *limit = argument;
    unsigned passed = 0;
    for (unsigned i = 0; i < TRIES; i++) {
        passed += pass(limit, 7, BEGIN_MS);
        pass(limit, 1000 + i % 50, BEGIN_MS); /* others come and go meanwhile */
    }
    atomic_fetch_add(&passed_in_all, passed);
    return NULL;
}

static void all_threads_together_get_what_one_would(void **state)
{
    struct rates_limit limit = limit_of(1, 3600000, BURST);
    pthread_t threads[THREADS];
    (void)state;
    atomic_store(&passed_in_all, 0);
    assert_true(pass(&limit, 7, BEGIN_MS)); /* its bucket is there */
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &limit), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&passed_in_all) + 1, BURST);
}

/* ---- who, and what is told */

static uint64_t key_of(int family, const char *text)
{
    struct access_address address = {.family = family};
    assert_int_equal(inet_pton(family, text, address.bytes), 1);
    return rates_address_key(&address);
}

static void addresses_count_by_what_one_customer_has(void **state)
{
    (void)state;
    assert_int_equal(key_of(AF_INET, "192.0.2.1"), key_of(AF_INET, "192.0.2.1"));
    assert_int_not_equal(key_of(AF_INET, "192.0.2.1"), key_of(AF_INET, "192.0.2.2"));
    assert_int_equal(key_of(AF_INET6, "2001:db8:1:2::1"), key_of(AF_INET6, "2001:db8:1:2:ff::9"));
    assert_int_not_equal(key_of(AF_INET6, "2001:db8:1:2::1"), key_of(AF_INET6, "2001:db8:1:3::1"));
    assert_int_equal(key_of(AF_INET6, "::ffff:192.0.2.1"), key_of(AF_INET, "192.0.2.1"));
    assert_int_not_equal(key_of(AF_INET6, "::1"), 0);
    assert_int_not_equal(key_of(AF_INET, "0.0.0.0"), 0);
    assert_int_equal(rates_address_key(&(struct access_address){0}), 0);
}

static void headers_name_those_that_are_limited(void **state)
{
    struct rates_limit limit = limit_of(600, 60000, 900);
    struct rates_verdict verdicts[RATES_KINDS] = {{0}};
    char text[RATES_HEADER_BYTES];
    (void)state;
    rates_write_limit(verdicts, RATES_KINDS, text);
    assert_string_equal(text, "");
    assert_true(rates_pass(rates, &limit, RATES_TOKEN, 1, BEGIN_MS, &verdicts[RATES_TOKEN]));
    rates_write_limit(verdicts, RATES_KINDS, text);
    assert_string_equal(text, "\"token\";r=899;t=1");
    rates_write_policy(verdicts, RATES_KINDS, text);
    assert_string_equal(text, "\"token\";q=900;w=90");
    limit = limit_of(2, 1000, 2);
    assert_true(rates_pass(rates, &limit, RATES_ADDRESS, 1, BEGIN_MS, &verdicts[RATES_ADDRESS]));
    rates_write_limit(verdicts, RATES_KINDS, text);
    assert_string_equal(text, "\"token\";r=899;t=1, \"address\";r=1;t=1");
    rates_write_policy(verdicts, RATES_KINDS, text);
    assert_string_equal(text, "\"token\";q=900;w=90, \"address\";q=2;w=1");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(as_many_as_the_burst_pass_at_once_and_then_as_many_as_come_back),
        TEST(rate_is_exact_over_a_long_time),
        TEST(keys_and_kinds_have_buckets_of_their_own),
        TEST(no_limit_limits_nothing),
        TEST(batch_larger_than_the_burst_passes_and_is_paid_off_before_the_next),
        TEST(verdict_tells_what_is_left_and_when_to_come_back),
        TEST(refusal_of_another_keeper_is_told_the_same_way),
        TEST(waiting_for_as_long_as_is_said_is_enough),
        TEST(another_rate_begins_with_full_buckets),
        TEST(those_who_ask_once_push_nobody_out),
        TEST(crowd_larger_than_the_table_is_let_in_and_counted),
        TEST(all_threads_together_get_what_one_would),
        TEST(addresses_count_by_what_one_customer_has),
        TEST(headers_name_those_that_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
