/*
 * Relays through a whole cluster: what one frontend sends to another one comes there whole, in its
 * order, exactly once; and where there is no room the sender is told, and only then.
 */
#include "tests/unit/cluster_fixture.h"

enum { FACES = 3, RELAYS = 2000 };

static struct call *relay_call(struct rig *rig, unsigned from, unsigned to, const char *text)
{
    struct request *request = request_for(REQUEST_RELAY, NULL);
    request->relay = request_text(request, text);
    struct call *call = call_new(rig, from, request);
    call->shard = (int)to;
    return call;
}

static void expect_relayed(struct rig *rig, unsigned to, const char *expected)
{
    struct face *face = rig->faces[to];
    struct str text = {expected, strlen(expected)};
    RIG_UNTIL(rig, face->relayed.n >= text.n);
    rig_lock(rig);
    bool equal = str_equal(buf_str(&face->relayed), text);
    rig_unlock(rig);
    assert_true(equal);
}

static void every_frontend_reaches_every_other_one_and_itself(void **state)
{
    struct rig *rig = *state;
    for (unsigned to = 0; to < FACES; to++) {
        for (unsigned from = 0; from < FACES; from++)
            call_free(answered_well(relay_call(rig, from, to, "hello")));
        expect_relayed(rig, to, "0:hello\n1:hello\n2:hello\n");
    }
}

/* All to one, which cannot take them all at once. */
static void relays_come_in_the_order_of_their_sending(void **state)
{
    struct rig *rig = *state;
    struct call *calls[FACES][RELAYS];
    char text[16];
    unsigned told[FACES] = {0};
    size_t expected = 0;
    for (unsigned i = 0; i < RELAYS; i++) {
        for (unsigned from = 0; from < FACES; from++) {
            snprintf(text, sizeof(text), "%u", i);
            calls[from][i] = relay_call(rig, from, 1, text);
            expected += strlen("0:\n") + strlen(text);
        }
    }
    for (unsigned from = 0; from < FACES; from++)
        calls_send(calls[from], RELAYS);
    for (unsigned i = 0; i < FACES * RELAYS; i++) {
        call_wait(calls[i % FACES][i / FACES]);
        expect_error(calls[i % FACES][i / FACES], 0);
    }
    RIG_UNTIL(rig, rig->faces[1]->relayed.n == expected);
    rig_lock(rig);
    struct str rest = buf_str(&rig->faces[1]->relayed), line;
    while (cut(&rest, '\n', &line)) {
        unsigned from = (unsigned)(line.p[0] - '0');
        snprintf(text, sizeof(text), "%u", told[from]++);
        assert(str_equal((struct str){line.p + 2, line.n - 2}, str_of(text)));
    }
    rig_unlock(rig);
    for (unsigned from = 0; from < FACES; from++) {
        assert_int_equal(told[from], RELAYS);
        for (unsigned i = 0; i < RELAYS; i++)
            call_free(calls[from][i]);
    }
}

static void who_does_not_take_them_costs_the_sender_a_refusal(void **state)
{
    struct rig *rig = *state;
    struct call *calls[REPLY_CREDITS];
    unsigned sent = 0, refused = 0, rounds = 0;
    size_t expected = 0;
    rig_deafen(rig, 2, true);
    /* The half of the ring that replies do not need. */
    while (refused == 0) {
        for (unsigned i = 0; i < REPLY_CREDITS / 8; i++)
            calls[i] = relay_call(rig, 0, 2, "x");
        calls_send(calls, REPLY_CREDITS / 8);
        for (unsigned i = 0; i < REPLY_CREDITS / 8; i++) {
            call_wait(calls[i]);
            bool taken = calls[i]->request->error == 0;
            assert_true(taken || calls[i]->request->error == REQUEST_E_OVERLOADED);
            assert_true(!taken || refused == 0); /* once full it stays so: nobody takes */
            sent += taken;
            refused += !taken;
            call_free(calls[i]);
        }
        assert_in_range(++rounds, 1, 16);
    }
    assert_int_equal(sent, REPLY_RING_ITEMS - REPLY_CREDITS);
    rig_do(rig, 0, "s1", "session.create"); /* others are not held up */
    rig_deafen(rig, 2, false);
    expected = (size_t)sent * strlen("0:x\n");
    RIG_UNTIL(rig, rig->faces[2]->relayed.n == expected);
    call_free(answered_well(relay_call(rig, 0, 2, "again")));
    RIG_UNTIL(rig, rig->faces[2]->relayed.n == expected + strlen("0:again\n"));
}

static void a_stop_with_relays_under_way_is_clean(void **state)
{
    struct rig *rig = *state;
    rig_deafen(rig, 2, true);
    for (unsigned i = 0; i < 100; i++)
        call_free(answered_well(relay_call(rig, i % 2, 2, "too late")));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(every_frontend_reaches_every_other_one_and_itself, open_three),
        TEST(relays_come_in_the_order_of_their_sending, open_three),
        TEST(who_does_not_take_them_costs_the_sender_a_refusal, open_three),
        TEST(a_stop_with_relays_under_way_is_clean, open_three),
    };
    return cluster_run(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
