/*
 * What is done to sessions through a whole cluster: commands, batches, keys, deletion.
 */
#include "tests/unit/cluster_fixture.h"

/* ---- create, act, view */

static void a_session_is_made_acted_on_and_seen_from_every_frontend(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *call = answered_well(call_commands(
        rig, 1, "s1", "message.send thread=general sender=ada content=hello mentions=bob", NULL));
    expect_at(call, "/seq", "6");
    expect_at(call, "/id", "\"m6\"");
    expect_at(call, "/events/0/type", "\"message.sent\"");
    expect_at(call, "/events/0/content", "\"hello\"");
    assert_int_equal(call->request->seq, 6);
    assert_true(str_equal(call->request->made, STR("m6")));
    assert_int_not_equal(strlen(call->request->epoch), 0);
    assert_false(call->request->replayed);
    call_free(call);

    struct call *view = rig_ask(rig, 0, request_for(REQUEST_VIEW, "s1"));
    expect_at(view, "/seq", "6");
    expect_at(view, "/state/threads/general/messages/0/content", "\"hello\"");
    expect_at(view, "/state/agents/cy/status", "\"idle\"");
    assert_int_equal(view->request->seq, 6);
    expect_same_view(rig, 1, "s1", call_body(view));
    expect_same_view(rig, 2, "s1", call_body(view));
    call_free(view);

    struct request *thread = request_for(REQUEST_THREAD, "s1");
    thread->thread = STR("general");
    view = rig_ask(rig, 2, thread);
    expect_at(view, "/thread/id", "\"general\"");
    expect_at(view, "/thread/messages/0/id", "\"m6\"");
    call_free(view);
}

static void a_command_that_changes_nothing_makes_no_event(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *call = answered_well(
        call_commands(rig, 1, "s1", "thread.add thread=general agent=bob by=ada", NULL));
    expect_at(call, "/seq", "5");
    expect_at(call, "/events", "[]");
    assert_null(call->request->made.p);
    call_free(call);
    assert_int_equal(count_events(rig, "s1"), 5);
}

static void what_is_not_there_is_unknown_to_every_kind_of_request(void **state)
{
    struct rig *rig = *state;
    static const enum request_kind kinds[] = {REQUEST_VIEW,   REQUEST_THREAD, REQUEST_MESSAGES,
                                              REQUEST_EVENTS, REQUEST_INBOX,  REQUEST_FOLLOW,
                                              REQUEST_DELETE};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct request *request = request_for(kinds[i], "nobody");
        request->limit = 10;
        request->wants = WANTS_PATCHES;
        expect_refused(rig, request, CORE_E_UNKNOWN_SESSION);
    }
    struct request *waiting = request_for(REQUEST_INBOX, "nobody");
    waiting->wait = true;
    expect_refused(rig, waiting, CORE_E_UNKNOWN_SESSION);
    assert_int_equal(rig_refused(rig, 0, "nobody", "agent.register agent=ada"),
                     CORE_E_UNKNOWN_SESSION);

    populate_session(rig, "s1");
    assert_int_equal(rig_refused(rig, 1, "s1", "thread.create creator=eve name=x participants=ada"),
                     CORE_E_UNKNOWN_AGENT);
    assert_int_equal(rig_refused(rig, 1, "s1", "message.send thread=none sender=ada content=x"),
                     CORE_E_UNKNOWN_THREAD);
    for (int i = 0; i < 2; i++) {
        struct request *request = request_for(i == 0 ? REQUEST_THREAD : REQUEST_MESSAGES, "s1");
        request->thread = STR("none");
        request->limit = 10;
        expect_refused(rig, request, CORE_E_UNKNOWN_THREAD);
    }
    struct request *inbox = request_for(REQUEST_INBOX, "s1");
    inbox->inbox = (struct core_inbox_query){.agent = STR("eve"), .limit = 10};
    expect_refused(rig, inbox, CORE_E_UNKNOWN_AGENT);
    inbox = request_for(REQUEST_INBOX, "s1");
    inbox->inbox = (struct core_inbox_query){.agent = STR("eve"), .limit = 10};
    inbox->wait = true;
    expect_refused(rig, inbox, CORE_E_UNKNOWN_AGENT);
}

static void a_refused_command_changes_nothing(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    char *before = rig_view(rig, 0, "s1");
    assert_int_equal(rig_refused(rig, 0, "s1", "message.send thread=general sender=cy content=x"),
                     CORE_E_REFUSED);
    assert_int_equal(rig_refused(rig, 1, "s1", "session.create labels=a:b"), CORE_E_REFUSED);
    expect_same_view(rig, 0, "s1", before);
    free(before);
}

static void a_refused_creation_leaves_no_session(void **state)
{
    struct rig *rig = *state;
    struct call *call =
        answered(call_commands(rig, 0, "s1", "agent.register agent=ada", "session.close", NULL));
    expect_error(call, CORE_E_UNKNOWN_SESSION);
    call_free(call);
    call = call_commands(rig, 0, "s1", "session.create", "agent.leave agent=ada", NULL);
    call->request->atomic = true;
    answered(call);
    expect_error(call, CORE_E_REFUSED);
    expect_statuses(call, "424 404");
    call_free(call);
    assert_null(rig_view(rig, 1, "s1"));
    assert_int_equal(rig_do(rig, 1, "s1", "session.create"), 1);
}

/* ---- batches */

static void a_batch_answers_each_command_on_its_own(void **state)
{
    struct rig *rig = *state;
    struct call *call = answered_well(call_commands(
        rig, 0, "s1", "agent.register agent=early", "session.create", "agent.register agent=ada",
        "agent.register agent=ada", "message.send thread=none sender=ada content=x",
        "thread.create creator=ada name=x participants=ada",
        "message.send thread=t3 sender=ada content=x", NULL));
    expect_statuses(call, "404 200 200 200 404 200 200");
    expect_at(call, "/results/1/id", "\"s1\"");
    expect_at(call, "/results/3/seq", "2");
    expect_at(call, "/results/5/id", "\"t3\"");
    expect_at(call, "/results/6/id", "\"m4\"");
    expect_at(call, "/seq", "4");
    assert_int_equal(call->request->seq, 4);
    call_free(call);
    assert_int_equal(count_events(rig, "s1"), 4);
}

static void a_batch_may_hold_commands_that_could_not_be_decoded(void **state)
{
    struct rig *rig = *state;
    static struct core_refusal bad = {
        .code = CORE_E_MALFORMED, .field = "agent", .detail = "not an id"};
    struct call *call = call_commands(rig, 0, "s1", "session.create", "agent.register agent=ada",
                                      "agent.register agent=bob", NULL);
    call->request->commands[1].bad = &bad;
    answered_well(call);
    expect_statuses(call, "200 400 200");
    expect_at(call, "/results/1/error/field", "\"agent\"");
    call_free(call);
}

static void an_atomic_batch_is_applied_as_a_whole(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *call =
        call_commands(rig, 1, "s1", "thread.create creator=cy name=x participants=cy thread=side",
                      "message.send thread=side sender=cy content=x", NULL);
    call->request->atomic = true;
    answered_well(call);
    expect_statuses(call, "200 200");
    expect_at(call, "/seq", "7");
    call_free(call);
}

static void an_atomic_batch_with_a_refusal_is_not_applied_at_all(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct follower *follower = follower_new(rig, 2, "s1");
    follower_start(follower);
    follower_wait_live(follower);
    char *before = rig_view(rig, 0, "s1");
    struct call *call = call_commands(
        rig, 1, "s1", "thread.create creator=cy name=x participants=cy thread=side",
        "message.send thread=side sender=ada content=x", "agent.leave agent=bob", NULL);
    call->request->atomic = true;
    answered(call);
    expect_error(call, CORE_E_REFUSED);
    expect_statuses(call, "424 409 424");
    expect_at(call, "/seq", "5");
    expect_at(call, "/results/1/error/type", "\"/problems/refused\"");
    assert_int_equal(call->request->seq, 5);
    call_free(call);
    expect_same_view(rig, 0, "s1", before);
    free(before);

    rig_do(rig, 0, "s1", "agent.update agent=ada status=working");
    follower_wait_told(follower, 6);
    assert_int_equal(follower->items_n, 1);
    expect_no_gap(follower);
    expect_folds_to_view(follower);
    follower_leave(follower);
    follower_free(follower);
}

/* ---- idempotency */

static struct call *send_keyed(struct rig *rig, unsigned frontend, const char *key,
                               const char *content)
{
    char line[128];
    snprintf(line, sizeof(line), "message.send thread=general sender=ada content=%s", content);
    return call_key(call_commands(rig, frontend, "s1", line, NULL), key);
}

static void expect_replay(struct call *call, const char *body)
{
    expect_error(call, 0);
    assert_true(call->request->replayed);
    assert_string_equal(call_body(call), body);
}

static void the_same_key_and_body_get_the_first_answer_again(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *first = answered_well(send_keyed(rig, 0, "k1", "one"));
    assert_false(first->request->replayed);
    rig_do(rig, 0, "s1", "agent.update agent=ada status=working");
    struct call *again = answered(send_keyed(rig, 1, "k1", "one"));
    expect_replay(again, call_body(first));
    assert_int_equal(again->request->seq, 6);
    assert_true(str_equal(again->request->made, STR("m6")));
    assert_string_equal(again->request->epoch, first->request->epoch);
    call_free(again);

    struct call *other = answered(send_keyed(rig, 2, "k1", "two"));
    expect_error(other, CORE_E_KEY_REUSED);
    call_free(other);
    other = send_keyed(rig, 2, "k1", "two");
    other->request->caller = request_text(other->request, "somebody");
    answered_well(other);
    assert_int_equal(other->request->seq, 8);
    call_free(other);
    call_free(first);
    assert_int_equal(count_events(rig, "s1"), 8);
}

static void an_answer_without_events_is_kept_and_a_refusal_is_not(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    const char *nothing = "thread.add thread=general agent=bob by=ada";
    struct call *first = answered_well(call_key(call_commands(rig, 0, "s1", nothing, NULL), "k1"));
    rig_do(rig, 0, "s1", "thread.remove thread=general agent=bob by=ada");
    struct call *again = answered(call_key(call_commands(rig, 0, "s1", nothing, NULL), "k1"));
    expect_replay(again, call_body(first));
    call_free(again);
    call_free(first);

    const char *refused = "message.send thread=general sender=bob content=x";
    struct call *call = answered(call_key(call_commands(rig, 0, "s1", refused, NULL), "k2"));
    expect_error(call, CORE_E_REFUSED);
    call_free(call);
    rig_do(rig, 0, "s1", "thread.add thread=general agent=bob by=ada");
    call = answered_well(call_key(call_commands(rig, 0, "s1", refused, NULL), "k2"));
    assert_false(call->request->replayed);
    call_free(call);
}

static struct call *keyed_batch(struct rig *rig, unsigned frontend, const char *key)
{
    struct call *call =
        call_commands(rig, frontend, "s1", "message.send thread=general sender=ada content=a",
                      "message.send thread=none sender=ada content=b",
                      "message.send thread=general sender=bob content=c", NULL);
    return call_key(call, key);
}

static void a_batch_with_a_key_is_answered_again_as_a_whole(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *first = answered_well(keyed_batch(rig, 0, "k1"));
    expect_statuses(first, "200 404 200");
    struct call *again = answered(keyed_batch(rig, 1, "k1"));
    expect_replay(again, call_body(first));
    call_free(again);

    struct call *atomic = keyed_batch(rig, 1, "k1");
    atomic->request->atomic = true;
    answered(atomic);
    expect_error(atomic, CORE_E_KEY_REUSED);
    call_free(atomic);
    call_free(first);
    assert_int_equal(count_events(rig, "s1"), 7);
}

static struct call *batch_of_keys(struct rig *rig, const char *last)
{
    struct call *call =
        call_commands(rig, 0, "s1", "message.send thread=general sender=ada content=a",
                      "thread.add thread=general agent=bob by=ada", "agent.register agent=dan",
                      "thread.create creator=ada name=x participants=bob", last, NULL);
    static const char *const keys[] = {"a", "b", "c", "d", "e"};
    for (uint32_t i = 0; i < call->request->commands_n; i++)
        call->request->commands[i].key = str_of(keys[i]);
    return call;
}

/* The same results, each marked. */
static void expect_items_again(struct call *again, struct call *first)
{
    json_t *expected = json_of(call_body(first));
    json_t *results = json_object_get(expected, "results");
    for (size_t i = 0; i < json_array_size(results); i++)
        json_object_set_new(json_array_get(results, i), "replayed", json_true());
    json_t *found = json_of(call_body(again));
    if (!json_equal(found, expected))
        fail_msg("%s, but first: %s", call_body(again), call_body(first));
    json_decref(found);
    json_decref(expected);
}

static void each_command_of_a_batch_may_have_a_key_of_its_own(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *first =
        answered_well(batch_of_keys(rig, "message.send thread=t8 sender=ada content=e"));
    expect_at(first, "/results/0/id", "\"m6\"");
    expect_at(first, "/results/2/id", "\"dan\"");
    expect_at(first, "/results/3/id", "\"t8\"");
    struct call *again =
        answered_well(batch_of_keys(rig, "message.send thread=t8 sender=ada content=e"));
    expect_items_again(again, first);
    call_free(again);
    again = answered_well(batch_of_keys(rig, "message.send thread=t8 sender=ada content=f"));
    expect_statuses(again, "200 200 200 200 422");
    call_free(again);
    call_free(first);
    assert_int_equal(count_events(rig, "s1"), 9);
}

static void keys_outlive_a_restart(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *one = answered_well(send_keyed(rig, 0, "k1", "one"));
    struct call *batch = answered_well(keyed_batch(rig, 0, "k2"));
    struct call *items =
        answered_well(batch_of_keys(rig, "message.send thread=general sender=ada content=e"));
    const char *nothing = "thread.add thread=general agent=ada by=ada";
    struct call *none = answered_well(call_key(call_commands(rig, 0, "s1", nothing, NULL), "k3"));
    rig_restart(rig, 3);
    struct call *again = answered(send_keyed(rig, 1, "k1", "one"));
    expect_replay(again, call_body(one));
    call_free(again);
    again = answered(keyed_batch(rig, 2, "k2"));
    expect_replay(again, call_body(batch));
    call_free(again);
    again = answered_well(batch_of_keys(rig, "message.send thread=general sender=ada content=e"));
    expect_items_again(again, items);
    call_free(again);
    again = answered(call_key(call_commands(rig, 0, "s1", nothing, NULL), "k3"));
    expect_replay(again, call_body(none));
    call_free(again);
    again = answered(send_keyed(rig, 1, "k1", "two"));
    expect_error(again, CORE_E_KEY_REUSED);
    call_free(again);
    call_free(one);
    call_free(batch);
    call_free(items);
    call_free(none);
}

static void derived_keys_belong_to_the_directory_and_to_a_purpose(void **state)
{
    struct rig *rig = *state;
    uint8_t one[CLUSTER_KEY_BYTES], two[CLUSTER_KEY_BYTES], again[CLUSTER_KEY_BYTES];
    cluster_derive_key(rig->cluster, "one purpose", one);
    cluster_derive_key(rig->cluster, "two purposes", two);
    assert_memory_not_equal(one, two, sizeof(one));
    rig_restart(rig, 2);
    cluster_derive_key(rig->cluster, "one purpose", again);
    assert_memory_equal(one, again, sizeof(one));
    struct rig other;
    rig_open(&other, 1, io_kind);
    cluster_derive_key(other.cluster, "one purpose", again);
    assert_memory_not_equal(one, again, sizeof(one));
    rig_close(&other);
}

/* All leave in one turn: the shard sees the later ones while the first is not on disk. */
static void a_second_one_waits_for_the_first_that_is_in_flight(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *calls[] = {send_keyed(rig, 0, "k1", "one"), send_keyed(rig, 0, "k1", "one"),
                            send_keyed(rig, 0, "k1", "two"), keyed_batch(rig, 0, "k2"),
                            keyed_batch(rig, 0, "k2"),       send_keyed(rig, 0, "k1", "one")};
    calls_send(calls, 6);
    for (int i = 0; i < 6; i++)
        call_wait(calls[i]);
    expect_error(calls[0], 0);
    assert_false(calls[0]->request->replayed);
    expect_replay(calls[1], call_body(calls[0]));
    expect_error(calls[2], CORE_E_KEY_REUSED);
    expect_replay(calls[4], call_body(calls[3]));
    expect_replay(calls[5], call_body(calls[0]));
    for (int i = 0; i < 6; i++)
        call_free(calls[i]);
    assert_int_equal(count_events(rig, "s1"), 8);
}

/* ---- expected epoch and seq */

static struct call *expecting(struct rig *rig, const char *epoch, uint64_t seq)
{
    struct call *call = call_commands(rig, 0, "s1", "agent.update agent=ada status=working", NULL);
    call->request->expected_epoch = request_text(call->request, epoch);
    call->request->expected_seq = seq;
    return answered(call);
}

static void a_command_may_expect_where_the_session_stands(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *view = rig_ask(rig, 0, request_for(REQUEST_VIEW, "s1"));
    struct call *call = expecting(rig, view->request->epoch, 4);
    expect_error(call, CORE_E_EXPECTED_SEQ);
    assert_int_equal(call->request->refusal.seq, 5);
    call_free(call);
    call = expecting(rig, "other", 5);
    expect_error(call, CORE_E_EXPECTED_SEQ);
    call_free(call);
    call = expecting(rig, view->request->epoch, 5);
    expect_error(call, 0);
    assert_int_equal(call->request->seq, 6);
    call_free(call);

    struct request *end = request_for(REQUEST_DELETE, "s1");
    end->expected_epoch = request_text(end, view->request->epoch);
    end->expected_seq = 5;
    expect_refused(rig, end, CORE_E_EXPECTED_SEQ);
    call_free(view);

    call = call_commands(rig, 0, "s1", "agent.update agent=ada status=idle",
                         "agent.update agent=bob status=working", NULL);
    call->request->commands[0].has_expected = call->request->commands[1].has_expected = true;
    call->request->commands[0].expected_seq = call->request->commands[1].expected_seq = 6;
    answered_well(call);
    expect_statuses(call, "200 412");
    expect_at(call, "/results/1/error/seq", "7");
    call_free(call);
    call = expecting(rig, "any", 1);
    expect_error(call, CORE_E_EXPECTED_SEQ);
    call_free(call);
}

static void the_key_is_looked_at_before_the_expected_seq(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *calls[2];
    for (int i = 0; i < 2; i++) {
        calls[i] = send_keyed(rig, 0, "k1", "one");
        calls[i]->request->commands[0].has_expected = true;
        calls[i]->request->commands[0].expected_seq = 5;
        answered_well(calls[i]);
    }
    expect_replay(calls[1], call_body(calls[0]));
    call_free(calls[0]);
    call_free(calls[1]);
}

/* ---- deletion */

static void a_session_made_again_has_a_later_epoch(void **state)
{
    struct rig *rig = *state;
    char epochs[3][CORE_EPOCH_BYTES + 1];
    for (int i = 0; i < 3; i++) {
        populate_session(rig, "s1");
        struct call *view = rig_ask(rig, 0, request_for(REQUEST_VIEW, "s1"));
        strcpy(epochs[i], view->request->epoch);
        call_free(view);
        call_free(rig_ask(rig, 1, request_for(REQUEST_DELETE, "s1")));
        assert_null(rig_view(rig, 0, "s1"));
        if (i == 1)
            rig_restart(rig, 3);
        assert_null(rig_view(rig, 0, "s1"));
    }
    assert_string_not_equal(epochs[0], epochs[1]);
    assert_string_not_equal(epochs[1], epochs[2]);
    assert_string_not_equal(epochs[0], epochs[2]);
}

static void keys_end_with_the_life_they_belong_to(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    call_free(answered_well(send_keyed(rig, 0, "k1", "one")));
    call_free(rig_ask(rig, 0, request_for(REQUEST_DELETE, "s1")));
    populate_session(rig, "s1");
    struct call *call = answered_well(send_keyed(rig, 0, "k1", "two"));
    assert_false(call->request->replayed);
    call_free(call);
}

static void a_follower_gets_every_frame_and_then_the_end(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct follower *old = follower_new(rig, 1, "s1");
    follower_start(old);
    follower_wait_live(old);
    struct call *calls[] = {
        call_commands(rig, 0, "s1", "agent.update agent=ada status=working", NULL),
        call_commands(rig, 0, "s1", "agent.update agent=bob status=working", NULL),
        call_new(rig, 0, request_for(REQUEST_DELETE, "s1")),
        call_commands(rig, 0, "s1", "session.create", NULL),
        call_commands(rig, 0, "s1", "agent.register agent=new", NULL),
    };
    calls_send(calls, 5);
    for (int i = 0; i < 5; i++) {
        expect_error(call_wait(calls[i]), 0);
        call_free(calls[i]);
    }
    RIG_UNTIL(rig, old->ended == 1);
    assert_int_equal(old->told, 7);
    assert_int_equal(old->items_n, 2);
    expect_no_gap(old);

    struct follower *young = follower_new(rig, 1, "s1");
    follower_start(young);
    follower_wait_live(young);
    rig_do(rig, 0, "s1", "agent.register agent=newer");
    follower_wait_told(young, 3);
    assert_string_not_equal(old->epoch, young->epoch);
    assert_int_equal(old->ended, 1);
    assert_int_equal(old->items_n, 2);
    assert_int_equal(young->ended, 0);
    expect_folds_to_view(young);
    follower_free(old);
    follower_leave(young);
    follower_free(young);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_is_made_acted_on_and_seen_from_every_frontend, open_three),
        TEST(a_command_that_changes_nothing_makes_no_event, open_three),
        TEST(what_is_not_there_is_unknown_to_every_kind_of_request, open_three),
        TEST(a_refused_command_changes_nothing, open_three),
        TEST(a_refused_creation_leaves_no_session, open_three),
        TEST(a_batch_answers_each_command_on_its_own, open_one),
        TEST(a_batch_may_hold_commands_that_could_not_be_decoded, open_one),
        TEST(an_atomic_batch_is_applied_as_a_whole, open_three),
        TEST(an_atomic_batch_with_a_refusal_is_not_applied_at_all, open_three),
        TEST(the_same_key_and_body_get_the_first_answer_again, open_three),
        TEST(an_answer_without_events_is_kept_and_a_refusal_is_not, open_three),
        TEST(a_batch_with_a_key_is_answered_again_as_a_whole, open_three),
        TEST(each_command_of_a_batch_may_have_a_key_of_its_own, open_three),
        TEST(keys_outlive_a_restart, open_three),
        TEST(derived_keys_belong_to_the_directory_and_to_a_purpose, open_one),
        TEST(a_second_one_waits_for_the_first_that_is_in_flight, open_three),
        TEST(a_command_may_expect_where_the_session_stands, open_three),
        TEST(the_key_is_looked_at_before_the_expected_seq, open_three),
        TEST(a_session_made_again_has_a_later_epoch, open_three),
        TEST(keys_end_with_the_life_they_belong_to, open_three),
        TEST(a_follower_gets_every_frame_and_then_the_end, open_three),
    };
    return cluster_run(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
