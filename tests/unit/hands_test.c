/*
 * Hands: inbox answers that hand out what they hold, so that of one agent's waits each message goes
 * to one, and none is lost where that one comes to nothing.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

enum { IDLE_MS = 1000, WINDOW = 5 };

static int open_stage(void **state, uint32_t window)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 1);
    stage->settings.idle_passivate_ms = IDLE_MS;
    if (window != 0)
        stage->limits.max[CORE_LIMIT_WINDOW_MESSAGES] = window;
    stage_start(stage);
    stage_populate(stage, "s1");
    *state = stage;
    return 0;
}

static int open_one(void **state)
{
    return open_stage(state, 0);
}

/* So that the log has to be read. */
static int open_small_windows(void **state)
{
    return open_stage(state, WINDOW);
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

/* ---- short ways to say it */

static struct request *hand_request(const char *agent, uint32_t limit, bool wait)
{
    struct request *request = request_for(REQUEST_INBOX, "s1");
    request->inbox =
        (struct core_inbox_query){.agent = request_text(request, agent), .limit = limit};
    request->hand = true;
    request->wait = wait;
    return request;
}

static struct request *hand_now(struct stage *stage, uint32_t limit)
{
    return stage_ask_well(stage, hand_request("bob", limit, false));
}

static struct ask *hand_wait(struct stage *stage, uint32_t limit)
{
    struct ask *ask = stage_send(stage, hand_request("bob", limit, true));
    stage_settle(stage);
    return ask;
}

/* Its messages are those with these seqs, oldest first. */
static void expect_seqs(struct request *answer, const uint64_t *seqs, unsigned n)
{
    json_t *tree = json_of(stage_text(answer));
    json_t *messages = json_object_get(tree, "messages");
    assert_int_equal(json_array_size(messages), n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(json_integer_value(json_object_get(json_array_get(messages, i), "seq")),
                         seqs[i]);
    assert_int_equal(answer->handed != 0, answer->hand && n != 0);
    json_decref(tree);
}

#define EXPECT_SEQS(answer, ...)                                                                   \
    expect_seqs(answer, (const uint64_t[]){__VA_ARGS__},                                           \
                sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void expect_empty(struct request *answer)
{
    expect_seqs(answer, NULL, 0);
    request_free(answer);
}

static void give_back(struct stage *stage, const struct request *answer)
{
    struct request *request = request_for(REQUEST_UNHAND, "s1");
    request->agent = request_text(request, "bob");
    request->handed = answer->handed;
    request_free(stage_ask_well(stage, request));
    stage_settle(stage);
}

static void acknowledge(struct stage *stage, struct request *answer)
{
    json_t *tree = json_of(stage_text(answer));
    struct buf line = {0};
    const char *cursor = json_string_value(json_object_get(tree, "cursor"));
    buf_add_literal(&line, "inbox.ack agent=bob cursor=");
    buf_add(&line, cursor, strlen(cursor) + 1);
    stage_do(stage, "s1", line.p);
    buf_free(&line);
    json_decref(tree);
}

static uint64_t say(struct stage *stage)
{
    return stage_do(stage, "s1", "message.send thread=general sender=ada content=x");
}

static void expect_handed(struct stage *stage, uint32_t n)
{
    assert_int_equal(stage->shards[0]->handed, n);
}

/* ---- handing out */

static void what_was_handed_out_is_not_handed_out_again(void **state)
{
    struct stage *stage = *state;
    for (int i = 0; i < 3; i++)
        say(stage); /* 5, 6, 7 */
    struct request *first = hand_now(stage, 2), *second = hand_now(stage, 2);
    EXPECT_SEQS(first, 5, 6);
    expect_json(stage_text(first), "/remaining", "1");
    EXPECT_SEQS(second, 7);
    expect_empty(hand_now(stage, 2));
    expect_handed(stage, 3);
    /* Who only looks sees it all. */
    struct request *plain = request_for(REQUEST_INBOX, "s1");
    plain->inbox = (struct core_inbox_query){.agent = STR("bob"), .limit = 10};
    stage_ask_well(stage, plain);
    EXPECT_SEQS(plain, 5, 6, 7);
    request_free(plain);
    request_free(first);
    request_free(second);
}

static void each_of_two_waits_gets_a_message_of_its_own(void **state)
{
    struct stage *stage = *state;
    struct ask *waits[] = {hand_wait(stage, 1), hand_wait(stage, 1)};
    say(stage);
    stage_settle(stage);
    assert_int_equal(waits[0]->done + waits[1]->done, 1);
    say(stage);
    struct request *a = stage_await(stage, waits[0]), *b = stage_await(stage, waits[1]);
    assert_int_equal(a->seq + b->seq, 5 + 6);
    expect_handed(stage, 2);
    acknowledge(stage, a);
    acknowledge(stage, b);
    expect_handed(stage, 0);
    request_free(a);
    request_free(b);
}

static void another_agents_are_its_own(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, "s1", "agent.register agent=bo"); /* before bob, by the order of ids */
    stage_do(stage, "s1", "agent.register agent=bobby");
    stage_do(stage, "s1", "thread.add thread=general agent=bo by=ada");
    stage_do(stage, "s1", "thread.add thread=general agent=bobby by=ada");
    uint64_t seq = say(stage);
    static const char *const agents[] = {"bob", "bobby", "bo"};
    for (int i = 0; i < 3; i++) {
        struct request *answer = stage_ask_well(stage, hand_request(agents[i], 10, false));
        EXPECT_SEQS(answer, seq);
        request_free(answer);
        expect_empty(stage_ask_well(stage, hand_request(agents[i], 10, false)));
    }
}

/* ---- ends */

static void what_is_given_back_goes_to_who_waits(void **state)
{
    struct stage *stage = *state;
    say(stage);
    say(stage);
    struct request *lost = hand_now(stage, 1);
    EXPECT_SEQS(lost, 5);
    struct request *kept = hand_now(stage, 1);
    EXPECT_SEQS(kept, 6);
    struct ask *wait = hand_wait(stage, 10);
    assert_false(wait->done);
    give_back(stage, lost);
    struct request *again = stage_await(stage, wait);
    EXPECT_SEQS(again, 5);
    give_back(stage, lost); /* once more does nothing: it is another hand's now */
    expect_empty(hand_now(stage, 10));
    /* What the one acknowledges is not the other's. */
    acknowledge(stage, again);
    give_back(stage, kept);
    struct request *rest = hand_now(stage, 10);
    EXPECT_SEQS(rest, 6);
    request_free(lost);
    request_free(kept);
    request_free(again);
    request_free(rest);
}

static void an_acknowledged_message_is_handed_out_no_more(void **state)
{
    struct stage *stage = *state;
    say(stage);
    say(stage);
    struct request *first = hand_now(stage, 1), *second = hand_now(stage, 1);
    EXPECT_SEQS(second, 6);
    acknowledge(stage, second); /* the later one first: the cursor names it alone */
    expect_handed(stage, 1);
    give_back(stage, second);
    expect_empty(hand_now(stage, 10));
    give_back(stage, first);
    struct request *again = hand_now(stage, 10);
    EXPECT_SEQS(again, 5);
    stage_do(stage, "s1", "thread.read thread=general agent=bob upto=6"); /* by another way */
    expect_handed(stage, 0);
    give_back(stage, again);
    expect_empty(hand_now(stage, 10));
    request_free(first);
    request_free(second);
    request_free(again);
}

static void a_refused_batch_ends_nothing(void **state)
{
    struct stage *stage = *state;
    say(stage);
    struct request *answer = hand_now(stage, 10);
    struct request *batch = stage_command("s1", "thread.read thread=general agent=bob upto=5");
    request_add(batch, "agent.leave agent=nobody");
    batch->batch = batch->atomic = true;
    stage_ask(stage, batch);
    assert_int_not_equal(batch->error, 0);
    expect_handed(stage, 1);
    say(stage); /* a run that is well settles what was touched */
    expect_handed(stage, 1);
    struct request *next = hand_now(stage, 10);
    EXPECT_SEQS(next, 6);
    request_free(batch);
    request_free(answer);
    request_free(next);
}

static void who_leaves_has_nothing_in_hand(void **state)
{
    struct stage *stage = *state;
    say(stage);
    request_free(hand_now(stage, 10));
    expect_handed(stage, 1);
    stage_do(stage, "s1", "thread.remove thread=general agent=bob by=ada");
    expect_handed(stage, 0);
    stage_do(stage, "s1", "thread.add thread=general agent=bob by=ada history=true");
    struct request *again = hand_now(stage, 10);
    EXPECT_SEQS(again, 5);
    request_free(again);
    stage_do(stage, "s1", "agent.leave agent=bob");
    expect_handed(stage, 0);
    stage_expect_refused(stage, hand_request("bob", 1, false), CORE_E_UNKNOWN_AGENT);
}

static void the_end_of_the_session_ends_them(void **state)
{
    struct stage *stage = *state;
    say(stage);
    struct request *answer = hand_now(stage, 10);
    stage_delete(stage, "s1");
    expect_handed(stage, 0);
    give_back(stage, answer); /* of another life: nothing to do */
    stage_populate(stage, "s1");
    say(stage);
    struct request *again = hand_now(stage, 10);
    give_back(stage, answer);
    expect_empty(hand_now(stage, 10));
    request_free(answer);
    request_free(again);
}

static void after_a_minute_they_fall_off(void **state)
{
    struct stage *stage = *state;
    say(stage);
    struct request *stuck = hand_now(stage, 1);
    stage_pass(stage, HANDED_MS / 2);
    say(stage);
    struct request *later = hand_now(stage, 1);
    EXPECT_SEQS(later, 6);
    struct ask *wait = hand_wait(stage, 10);
    stage_pass(stage, HANDED_MS / 2 - 1);
    assert_false(wait->done);
    assert_true(stage_is_active(stage, "s1"));
    stage_pass(stage, 1);
    struct request *again = stage_await(stage, wait);
    EXPECT_SEQS(again, 5);
    stage_pass(stage, HANDED_MS);
    expect_handed(stage, 0);
    request_free(stuck);
    request_free(later);
    request_free(again);
}

static void a_session_with_hands_stays_in_memory(void **state)
{
    struct stage *stage = *state;
    say(stage);
    struct request *answer = hand_now(stage, 1);
    stage_passivate(stage);
    stage_pass(stage, 2 * IDLE_MS);
    assert_true(stage_is_active(stage, "s1"));
    acknowledge(stage, answer);
    stage_pass(stage, IDLE_MS);
    stage_settle(stage);
    assert_false(stage_is_active(stage, "s1"));
    give_back(stage, answer); /* loads nothing */
    assert_false(stage_is_active(stage, "s1"));
    request_free(answer);
}

static void a_restart_hands_out_again_what_was_not_acknowledged(void **state)
{
    struct stage *stage = *state;
    say(stage);
    say(stage);
    struct request *one = hand_now(stage, 1);
    request_free(hand_now(stage, 1));
    acknowledge(stage, one);
    request_free(one);
    stage_restart(stage, 1, STAGE_KILL);
    struct request *again = hand_now(stage, 10);
    EXPECT_SEQS(again, 6);
    request_free(again);
}

static void so_many_and_no_more_are_handed_out_to_one_agent(void **state)
{
    struct stage *stage = *state;
    for (unsigned i = 0; i < HANDED_MAX + 2; i++)
        say(stage);
    struct request *first = hand_now(stage, HANDED_MAX - 1);
    struct request *second = hand_now(stage, HANDED_MAX);
    EXPECT_SEQS(second, HANDED_MAX + 4);
    expect_empty(hand_now(stage, 1));
    expect_handed(stage, HANDED_MAX);
    struct ask *wait = hand_wait(stage, 1);
    assert_false(wait->done);
    acknowledge(stage, first); /* makes room: who waits is tried again */
    struct request *next = stage_await(stage, wait);
    EXPECT_SEQS(next, HANDED_MAX + 5);
    request_free(first);
    request_free(second);
    request_free(next);
}

/* ---- from the log */

static void what_lies_in_the_log_alone_is_handed_out_once(void **state)
{
    struct stage *stage = *state;
    uint64_t last = 0;
    for (unsigned i = 0; i < 4 * WINDOW; i++)
        last = say(stage);
    /* All are under way at once: each begins before any other has an answer. */
    struct ask *asks[4 * WINDOW + 1];
    for (unsigned i = 0; i <= 4 * WINDOW; i++)
        asks[i] = stage_send(stage, hand_request("bob", 1, false));
    uint64_t handed = 0;
    for (unsigned i = 0; i <= 4 * WINDOW; i++) {
        struct request *answer = stage_await(stage, asks[i]);
        assert_int_equal(answer->error, 0);
        json_t *tree = json_of(stage_text(answer));
        json_t *message = json_array_get(json_object_get(tree, "messages"), 0);
        uint64_t seq = (uint64_t)json_integer_value(json_object_get(message, "seq"));
        if (seq != 0) {
            assert_int_equal(handed >> seq & 1, 0);
            handed |= UINT64_C(1) << seq;
        }
        json_decref(tree);
        request_free(answer);
    }
    assert_int_equal(handed, (UINT64_C(1) << (last + 1)) - (UINT64_C(1) << 5));
    expect_handed(stage, 4 * WINDOW);
}

/* The wait of one that has gone is cancelled while it reads: what it found is given back. */
static void a_cancelled_wait_hands_out_what_it_found_or_nothing(void **state)
{
    struct stage *stage = *state;
    for (unsigned i = 0; i < 4 * WINDOW; i++)
        say(stage);
    struct ask *wait = stage_send(stage, hand_request("bob", 3, true));
    struct request *answer = stage_cancel(stage, wait);
    assert_int_equal(answer->error, 0);
    if (answer->handed != 0)
        give_back(stage, answer);
    expect_handed(stage, 0);
    request_free(answer);
    answer = hand_now(stage, 3);
    EXPECT_SEQS(answer, 5, 6, 7);
    request_free(answer);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_one, close_stage)
#define TEST_OF_LOG(function)                                                                      \
    cmocka_unit_test_setup_teardown(function, open_small_windows, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_handed_out_is_not_handed_out_again),
        TEST(each_of_two_waits_gets_a_message_of_its_own),
        TEST(another_agents_are_its_own),
        TEST(what_is_given_back_goes_to_who_waits),
        TEST(an_acknowledged_message_is_handed_out_no_more),
        TEST(a_refused_batch_ends_nothing),
        TEST(who_leaves_has_nothing_in_hand),
        TEST(the_end_of_the_session_ends_them),
        TEST(after_a_minute_they_fall_off),
        TEST(a_session_with_hands_stays_in_memory),
        TEST(a_restart_hands_out_again_what_was_not_acknowledged),
        TEST(so_many_and_no_more_are_handed_out_to_one_agent),
        TEST_OF_LOG(what_was_handed_out_is_not_handed_out_again),
        TEST_OF_LOG(what_lies_in_the_log_alone_is_handed_out_once),
        TEST_OF_LOG(a_cancelled_wait_hands_out_what_it_found_or_nothing),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
