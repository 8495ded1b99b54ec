/* What is unread for an agent, and that a cursor acknowledges exactly what its answer held. */
#include "tests/unit/core_fixture.h"

/* The messages of an answer as "m7 m9", with "+N" behind where more remain. */
struct answer {
    char ids[1024];
    char cursor[4096];
};

static void read_answer(struct core_inbox *inbox, const struct core_session *s,
                        struct answer *answer)
{
    struct buf text = {0};
    core_inbox_finish(s, inbox, &text);
    core_inbox_free(inbox);
    json_t *tree = parse(&text);
    json_t *messages = json_object_get(tree, "messages");
    size_t at = 0;
    answer->ids[0] = '\0';
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        assert_non_null(json_string_value(json_object_get(message, "thread")));
        at +=
            (size_t)snprintf(answer->ids + at, sizeof(answer->ids) - at, "%s%s", i == 0 ? "" : " ",
                             json_string_value(json_object_get(message, "id")));
    }
    long long remaining = json_integer_value(json_object_get(tree, "remaining"));
    if (remaining != 0)
        snprintf(answer->ids + at, sizeof(answer->ids) - at, "+%lld", remaining);
    snprintf(answer->cursor, sizeof(answer->cursor), "%s",
             json_string_value(json_object_get(tree, "cursor")));
    json_decref(tree);
}

/* Asks where everything unread is in the windows. */
static struct answer ask(struct world *w, const struct core_inbox_query *query)
{
    struct core_inbox inbox;
    struct answer answer;
    core_inbox_begin(&inbox, query);
    assert_int_equal(core_inbox_from_state(w->s, &inbox), 0);
    read_answer(&inbox, w->s, &answer);
    return answer;
}

static struct answer ask_all(struct world *w, const char *agent)
{
    return ask(w, &(struct core_inbox_query){.agent = str_of(agent), .limit = 100});
}

static void expect_unread(struct world *w, const char *agent, const char *ids)
{
    assert_string_equal(ask_all(w, agent).ids, ids);
}

static const char *ack_line(struct world *w, const char *agent, const char *cursor)
{
    size_t size = strlen(cursor) + 100;
    char *line = arena_alloc(&w->scratch, size);
    snprintf(line, size, "inbox.ack agent=%s cursor=%s", agent, cursor);
    return line;
}

static void unread_is_what_others_sent_since_joining(void **state)
{
    struct world *w = *state;
    expect_unread(w, "ada", "");
    expect_event(w, "message.send thread=general sender=ada content=a"); /* 6 */
    expect_event(w, "message.send thread=general sender=bob content=b"); /* 7 */
    expect_event(w, "thread.add thread=general agent=cy by=ada");        /* 8 */
    expect_event(w, "message.send thread=general sender=ada content=c"); /* 9 */
    expect_unread(w, "ada", "m7");
    expect_unread(w, "bob", "m6 m9");
    expect_unread(w, "cy", "m9");
    expect_unread(w, "nobody", "");
    expect_event(w, "agent.register agent=dan");
    expect_event(w, "thread.add thread=general agent=dan by=ada history=true");
    expect_unread(w, "dan", "m6 m7 m9");
}

static void threads_are_merged_oldest_first(void **state)
{
    struct world *w = *state;
    expect_event(w, "thread.create creator=ada name=n participants=bob thread=x"); /* 6 */
    expect_event(w, "thread.create creator=ada name=n participants=bob thread=y"); /* 7 */
    expect_event(w, "message.send thread=y sender=ada content=a");                 /* 8 */
    expect_event(w, "message.send thread=general sender=ada content=b");           /* 9 */
    expect_event(w, "message.send thread=x sender=ada content=c");                 /* 10 */
    expect_event(w, "message.send thread=y sender=ada content=d");                 /* 11 */
    expect_event(w, "message.send thread=general sender=ada content=e");           /* 12 */
    expect_unread(w, "bob", "m8 m9 m10 m11 m12");
    struct answer answer = ask(w, &(struct core_inbox_query){.agent = STR("bob"), .limit = 3});
    assert_string_equal(answer.ids, "m8 m9 m10+2");
    expect_event(w, ack_line(w, "bob", answer.cursor));
    expect_unread(w, "bob", "m11 m12");
}

static void an_acknowledgement_holds_what_its_answer_held(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=a"); /* 6 */
    struct answer answer = ask_all(w, "bob");
    expect_event(w, "message.send thread=general sender=ada content=b"); /* 7 */
    expect_event(w, ack_line(w, "bob", answer.cursor));
    expect_patch(w, "[{\"op\":\"replace\",\"path\":\"/threads/general/participants/bob\","
                    "\"value\":{\"read\":6,\"taken\":[]}}]");
    struct buf json = {0};
    core_event_json(&w->event, &json);
    expect_text(&json, "{\"seq\":8,\"ts\":\"2026-01-02T03:04:05.678Z\",\"type\":\"inbox.acked\","
                       "\"actor\":\"bob\",\"agent\":\"bob\",\"threads\":[{\"thread\":"
                       "\"general\",\"read\":6,\"taken\":[]}]}");
    expect_unread(w, "bob", "m7");
    expect_nothing(w, ack_line(w, "bob", answer.cursor));
}

static void an_old_cursor_changes_nothing_even_much_later(void **state)
{
    struct world *w = *state; /* windows of three */
    expect_event(w, "thread.create creator=ada name=n participants=bob thread=x"); /* 6 */
    expect_event(w, "message.send thread=general sender=ada content=a");           /* 7 */
    struct answer answer = ask_all(w, "bob");
    expect_event(w, ack_line(w, "bob", answer.cursor));
    for (int i = 0; i < 5; i++)
        expect_event(w, "message.send thread=x sender=ada content=b");
    expect_nothing(w, ack_line(w, "bob", answer.cursor));
}

static void a_filtered_answer_takes_its_messages_alone(void **state)
{
    struct world *w = *state;
    expect_event(w, "thread.add thread=general agent=cy by=ada");                     /* 6 */
    expect_event(w, "message.send thread=general sender=ada content=a");              /* 7 */
    expect_event(w, "message.send thread=general sender=cy content=b mentions=bob");  /* 8 */
    expect_event(w, "message.send thread=general sender=ada content=c mentions=ada"); /* 9 */
    expect_event(w, "message.send thread=general sender=ada content=d mentions=bob"); /* 10 */
    struct core_inbox_query mentions = {.agent = STR("bob"), .mentions = true, .limit = 100};
    struct core_inbox_query from = {.agent = STR("bob"), .from = STR("ada"), .limit = 100};
    struct answer answer = ask(w, &mentions);
    assert_string_equal(answer.ids, "m8 m10");
    assert_string_equal(ask(w, &from).ids, "m7 m9 m10");
    expect_event(w, ack_line(w, "bob", answer.cursor));
    expect_view(w, "/threads/general/participants/bob", "{\"read\":5,\"taken\":[8,10]}");
    expect_unread(w, "bob", "m7 m9");
    expect_nothing(w, ack_line(w, "bob", answer.cursor));
    /* Once the gap is read, `read` moves over what was taken. */
    expect_event(w, "thread.read thread=general agent=bob upto=7");
    expect_view(w, "/threads/general/participants/bob", "{\"read\":8,\"taken\":[10]}");
    expect_event(w, ack_line(w, "bob", ask_all(w, "bob").cursor));
    expect_view(w, "/threads/general/participants/bob", "{\"read\":10,\"taken\":[]}");
}

static void too_much_taken_alone_is_refused(void **state)
{
    struct world *w = *state; /* two may be taken alone */
    struct core_inbox_query query = {.agent = STR("bob"), .mentions = true, .limit = 100};
    expect_event(w, "message.send thread=general sender=ada content=a"); /* 6 stays unread */
    for (int i = 0; i < 2; i++) {
        expect_event(w, "message.send thread=general sender=ada content=b mentions=bob");
        expect_event(w, ack_line(w, "bob", ask(w, &query).cursor));
    }
    struct core_inbox inbox;
    struct answer answer;
    expect_event(w, "message.send thread=general sender=ada content=c mentions=bob"); /* 11 */
    core_inbox_begin(&inbox, &query);
    assert_int_not_equal(core_inbox_from_state(w->s, &inbox), 0);
    assert_true(core_inbox_offer(w->s, &inbox, &w->event));
    read_answer(&inbox, w->s, &answer);
    assert_string_equal(answer.ids, "m11");
    expect_refusal(w, ack_line(w, "bob", answer.cursor), CORE_E_REFUSED, "cursor");
    expect_event(w, "thread.read thread=general agent=bob upto=6");
    expect_event(w, ack_line(w, "bob", answer.cursor));
}

static void only_its_own_cursors_are_taken(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=a");
    struct answer answer = ask_all(w, "bob");
    expect_refusal(w, ack_line(w, "dan", answer.cursor), CORE_E_UNKNOWN_AGENT, "agent");
    expect_refusal(w, ack_line(w, "ada", answer.cursor), CORE_E_MALFORMED, "cursor");
    expect_refusal(w, "inbox.ack agent=bob cursor=", CORE_E_MALFORMED, "cursor");
    expect_refusal(w, "inbox.ack agent=bob cursor=AAAA", CORE_E_MALFORMED, "cursor");
    expect_refusal(w, "inbox.ack agent=bob cursor=$%&", CORE_E_MALFORMED, "cursor");
    assert_string_equal(w->why.detail,
                        "This is not a cursor of this agent's inbox in this session.");
    for (size_t i = 0; i < strlen(answer.cursor); i++) {
        struct answer wrong = answer;
        wrong.cursor[i] = wrong.cursor[i] == 'A' ? 'B' : 'A';
        expect_refusal(w, ack_line(w, "bob", wrong.cursor), CORE_E_MALFORMED, "cursor");
    }
}

static void a_cursor_of_another_epoch_is_refused(void **state)
{
    struct world *w = *state;
    struct world other;
    world_open(&other, &core_limits_default);
    core_session_free(other.s);
    other.s = core_session_new(&other.heap, &other.limits, STR("s1"), STR("k3xa"));
    populate(&other);
    struct answer answer = ask_all(w, "bob");
    expect_nothing(w, ack_line(w, "bob", answer.cursor));
    expect_refusal(&other, ack_line(&other, "bob", answer.cursor), CORE_E_MALFORMED, "cursor");
    world_close(&other);
}

static void an_old_cursor_does_not_sweep_history_joined_later(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=a"); /* 6 */
    expect_event(w, "message.send thread=general sender=ada content=b"); /* 7 */
    struct answer answer = ask_all(w, "bob");
    expect_event(w, "thread.remove thread=general agent=bob by=ada");
    expect_nothing(w, ack_line(w, "bob", answer.cursor));
    expect_event(w, "thread.add thread=general agent=bob by=ada history=true");
    expect_nothing(w, ack_line(w, "bob", answer.cursor));
    expect_unread(w, "bob", "m6 m7");
}

static void messages_outside_the_windows_come_from_the_log(void **state)
{
    struct world *w = *state; /* windows of three */
    struct core_event log[8];
    expect_event(w, "thread.create creator=ada name=n participants=bob thread=x"); /* 6 */
    expect_event(w, "message.send thread=x sender=ada content=a");                 /* 7 */
    log[0] = w->event;
    for (int i = 1; i < 6; i++) {
        expect_event(w, i == 2 ? "message.send thread=general sender=bob content=b"
                               : "message.send thread=general sender=ada content=b");
        log[i] = w->event; /* 8 to 12 */
    }
    struct core_inbox inbox;
    struct answer answer;
    core_inbox_begin(&inbox, &(struct core_inbox_query){.agent = STR("bob"), .limit = 3});
    assert_int_equal(core_inbox_from_state(w->s, &inbox), 6);
    for (int i = 0; i < 6; i++)
        assert_true(core_inbox_offer(w->s, &inbox, &log[i]));
    read_answer(&inbox, w->s, &answer);
    assert_string_equal(answer.ids, "m7 m8 m10+2");
    expect_event(w, ack_line(w, "bob", answer.cursor));
    expect_unread(w, "bob", "m11 m12");
    expect_event(w, "thread.close thread=general by=ada");
    core_inbox_begin(&inbox, &(struct core_inbox_query){.agent = STR("bob"), .limit = 1});
    assert_int_equal(core_inbox_from_state(w->s, &inbox), 11);
    assert_true(core_inbox_offer(w->s, &inbox, &log[4]));
    assert_true(core_inbox_offer(w->s, &inbox, &log[5]));
    read_answer(&inbox, w->s, &answer);
    assert_string_equal(answer.ids, "m11+1");
}

static void remaining_counts_to_its_bound(void **state)
{
    struct world *w = *state;
    struct core_inbox inbox;
    struct answer answer;
    core_inbox_begin(&inbox, &(struct core_inbox_query){.agent = STR("bob"), .limit = 2});
    for (int i = 1; i <= 2 + CORE_REMAINING_MAX; i++) {
        expect_event(w, "message.send thread=general sender=ada content=x");
        assert_int_equal(core_inbox_offer(w->s, &inbox, &w->event), i < 2 + CORE_REMAINING_MAX);
    }
    read_answer(&inbox, w->s, &answer);
    assert_string_equal(answer.ids, "m6 m7+1000");
}

static void a_wait_wakes_for_what_it_asks(void **state)
{
    struct world *w = *state;
    struct core_inbox_query all = {.agent = STR("bob"), .limit = 1};
    struct core_inbox_query mentions = {.agent = STR("bob"), .mentions = true, .limit = 1};
    struct core_inbox_query from = {.agent = STR("bob"), .from = STR("cy"), .limit = 1};
    struct core_inbox_query outsider = {.agent = STR("cy"), .limit = 1};
    expect_event(w, "message.send thread=general sender=ada content=x");
    assert_true(core_inbox_wakes(w->s, &all, &w->event));
    assert_false(core_inbox_wakes(w->s, &mentions, &w->event));
    assert_false(core_inbox_wakes(w->s, &from, &w->event));
    assert_false(core_inbox_wakes(w->s, &outsider, &w->event));
    expect_event(w, "message.send thread=general sender=ada content=x mentions=bob");
    assert_true(core_inbox_wakes(w->s, &mentions, &w->event));
    expect_event(w, "message.send thread=general sender=bob content=x mentions=bob");
    assert_false(core_inbox_wakes(w->s, &mentions, &w->event));
    expect_event(w, "thread.add thread=general agent=cy by=ada history=true");
    assert_true(core_inbox_wakes(w->s, &outsider, &w->event));
    assert_false(core_inbox_wakes(w->s, &all, &w->event));
    expect_event(w, "agent.update agent=bob status=working");
    assert_false(core_inbox_wakes(w->s, &all, &w->event));
}

#define GENERAL(test) cmocka_unit_test_setup_teardown(test, setup_general, teardown)
#define SMALL(test) cmocka_unit_test_setup_teardown(test, setup_small, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GENERAL(unread_is_what_others_sent_since_joining),
        GENERAL(threads_are_merged_oldest_first),
        GENERAL(an_acknowledgement_holds_what_its_answer_held),
        SMALL(an_old_cursor_changes_nothing_even_much_later),
        GENERAL(a_filtered_answer_takes_its_messages_alone),
        SMALL(too_much_taken_alone_is_refused),
        GENERAL(only_its_own_cursors_are_taken),
        GENERAL(a_cursor_of_another_epoch_is_refused),
        GENERAL(an_old_cursor_does_not_sweep_history_joined_later),
        SMALL(messages_outside_the_windows_come_from_the_log),
        GENERAL(remaining_counts_to_its_bound),
        GENERAL(a_wait_wakes_for_what_it_asks),
    };
    return cmocka_run_group_tests_name("core_inbox", tests, NULL, NULL);
}
