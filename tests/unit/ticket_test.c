/* A ticket is good once, for half a minute, for the session it was made for; and nobody takes all
 * of them. */
#include "server/auth/ticket.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <cmocka.h>

enum { NOW_MS = 1000, LIFE_MS = TICKET_LIFE_S * 1000 };

static const struct str anywhere = {0};

static struct str text_of(const char text[TICKET_TEXT_BYTES])
{
    return (struct str){text, TICKET_TEXT_BYTES};
}

static bool redeems(struct tickets *tickets, struct str text, struct str session, int64_t now_ms,
                    struct str token)
{
    struct str found = tickets_redeem(tickets, text, session, now_ms);
    bool same = found.p != NULL && str_equal(found, token);
    if (found.p != NULL)
        ticket_token_free(found);
    return same;
}

static void a_ticket_is_good_once(void **state)
{
    struct tickets *tickets = tickets_new();
    char one[TICKET_TEXT_BYTES], two[TICKET_TEXT_BYTES];
    (void)state;

    assert_int_equal(tickets_issue(tickets, STR("token a"), anywhere, NOW_MS, one), 0);
    assert_int_equal(tickets_issue(tickets, STR("token b"), anywhere, NOW_MS, two), 0);
    assert_memory_not_equal(one, two, TICKET_TEXT_BYTES);
    assert_false(redeems(tickets, STR("0123456789012345678901"), anywhere, NOW_MS, STR("")));
    assert_false(redeems(tickets, STR(""), anywhere, NOW_MS, STR("")));
    assert_true(redeems(tickets, text_of(two), STR("s1"), NOW_MS, STR("token b")));
    assert_false(redeems(tickets, text_of(two), STR("s1"), NOW_MS, STR("token b")));
    assert_true(redeems(tickets, text_of(one), anywhere, NOW_MS, STR("token a")));
    assert_false(redeems(tickets, text_of(one), anywhere, NOW_MS, STR("token a")));
    tickets_free(tickets);
}

static void a_ticket_lasts_half_a_minute(void **state)
{
    struct tickets *tickets = tickets_new();
    char one[TICKET_TEXT_BYTES], two[TICKET_TEXT_BYTES];
    (void)state;

    assert_int_equal(tickets_issue(tickets, STR("token"), anywhere, NOW_MS, one), 0);
    assert_int_equal(tickets_issue(tickets, STR("token"), anywhere, NOW_MS, two), 0);
    assert_true(redeems(tickets, text_of(one), anywhere, NOW_MS + LIFE_MS - 1, STR("token")));
    assert_false(redeems(tickets, text_of(two), anywhere, NOW_MS + LIFE_MS, STR("token")));
    tickets_free(tickets);
}

static void a_ticket_of_a_session_is_good_there_alone_and_spent_by_trying(void **state)
{
    static const struct str elsewhere[] = {{0}, {"s2", 2}, {"s", 1}, {"s11", 3}};
    struct tickets *tickets = tickets_new();
    char text[TICKET_TEXT_BYTES];
    (void)state;

    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(tickets_issue(tickets, STR("token"), STR("s1"), NOW_MS, text), 0);
        assert_false(redeems(tickets, text_of(text), elsewhere[i], NOW_MS, STR("token")));
        assert_false(redeems(tickets, text_of(text), STR("s1"), NOW_MS, STR("token")));
    }
    assert_int_equal(tickets_issue(tickets, STR("token"), STR("s1"), NOW_MS, text), 0);
    assert_true(redeems(tickets, text_of(text), STR("s1"), NOW_MS, STR("token")));
    tickets_free(tickets);
}

static void one_token_takes_no_more_than_its_share(void **state)
{
    struct tickets *tickets = tickets_new();
    char text[TICKET_TEXT_BYTES], first[TICKET_TEXT_BYTES];
    (void)state;

    assert_int_equal(tickets_issue(tickets, STR("greedy"), anywhere, NOW_MS, first), 0);
    for (int i = 1; i < TICKETS_OF_ONE_MAX; i++)
        assert_int_equal(tickets_issue(tickets, STR("greedy"), anywhere, NOW_MS, text), 0);
    assert_int_equal(tickets_issue(tickets, STR("greedy"), anywhere, NOW_MS + 10, text),
                     LIFE_MS - 10);
    assert_int_equal(tickets_issue(tickets, STR("modest"), anywhere, NOW_MS, text), 0);
    assert_true(redeems(tickets, text_of(first), anywhere, NOW_MS, STR("greedy")));
    assert_int_equal(tickets_issue(tickets, STR("greedy"), anywhere, NOW_MS, text), 0);
    assert_int_equal(tickets_issue(tickets, STR("greedy"), anywhere, NOW_MS + LIFE_MS, text), 0);
    tickets_free(tickets);
}

static void the_table_is_bounded_and_empties_by_itself(void **state)
{
    struct tickets *tickets = tickets_new();
    char text[TICKET_TEXT_BYTES], token[16];
    (void)state;

    for (int i = 0; i < TICKETS_MAX; i++) {
        int n = snprintf(token, sizeof(token), "token %d", i);
        assert_int_equal(
            tickets_issue(tickets, (struct str){token, (size_t)n}, anywhere, NOW_MS, text), 0);
    }
    assert_int_equal(tickets_issue(tickets, STR("late"), anywhere, NOW_MS, text), LIFE_MS);
    assert_int_equal(tickets_issue(tickets, STR("late"), anywhere, NOW_MS + LIFE_MS, text), 0);
    tickets_free(tickets);
}

/* ---- many threads and one ticket */

struct race {
    struct tickets *tickets;
    char text[TICKET_TEXT_BYTES];
    pthread_barrier_t start;
    atomic_uint won;
};

static void *run(void *p)
{
    struct race *race = p;
    pthread_barrier_wait(&race->start);
    if (redeems(race->tickets, text_of(race->text), anywhere, NOW_MS, STR("token")))
        atomic_fetch_add(&race->won, 1);
    return NULL;
}

static void of_all_who_come_at_once_one_gets_in(void **state)
{
    enum { THREADS = 4, ROUNDS = 50 };
    struct race race = {.tickets = tickets_new()};
    pthread_t threads[THREADS];
    (void)state;

    pthread_barrier_init(&race.start, NULL, THREADS);
    for (int round = 0; round < ROUNDS; round++) {
        atomic_store(&race.won, 0);
        assert_int_equal(tickets_issue(race.tickets, STR("token"), anywhere, NOW_MS, race.text), 0);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, run, &race), 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(atomic_load(&race.won), 1);
    }
    pthread_barrier_destroy(&race.start);
    tickets_free(race.tickets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ticket_is_good_once),
        cmocka_unit_test(a_ticket_lasts_half_a_minute),
        cmocka_unit_test(a_ticket_of_a_session_is_good_there_alone_and_spent_by_trying),
        cmocka_unit_test(one_token_takes_no_more_than_its_share),
        cmocka_unit_test(the_table_is_bounded_and_empties_by_itself),
        cmocka_unit_test(of_all_who_come_at_once_one_gets_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
