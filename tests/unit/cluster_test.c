/*
 * A whole cluster without HTTP: reactors, rings, shards and their logs, as a face sees them.
 * Everything is run with each io that can be had here.
 */
#include "tests/unit/core_fixture.h"
#include "tests/unit/shards_fixture.h"

#include "shards/limits.h"

#include <errno.h>

static enum io_kind io_kind;

static int open_one(void **state)
{
    *state = malloc(sizeof(struct rig));
    rig_open(*state, 1, io_kind);
    return 0;
}

static int open_three(void **state)
{
    *state = malloc(sizeof(struct rig));
    rig_open(*state, 3, io_kind);
    return 0;
}

/* Windows of two messages, so that the log has to be read. */
static int open_small_windows(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    rig_prepare(rig, 1, io_kind);
    rig->options.limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 2;
    rig_start(rig);
    *state = rig;
    return 0;
}

/* For a batch of BIG commands: a request is one record, and that lies in one segment. */
static int open_large_segments(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    rig_prepare(rig, 1, io_kind);
    rig->options.segment_bytes = 16 << 20;
    rig_start(rig);
    *state = rig;
    return 0;
}

static int close_rig(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

/* ---- short ways to say and to check things */

/* seq 5: ada, bob and cy; the thread "general" of ada and bob. */
static void populate_session(struct rig *rig, const char *session)
{
    rig_do(rig, 0, session, "session.create");
    rig_do(rig, 0, session, "agent.register agent=ada");
    rig_do(rig, 0, session, "agent.register agent=bob");
    rig_do(rig, 0, session, "agent.register agent=cy");
    uint64_t seq =
        rig_do(rig, 0, session, "thread.create creator=ada name=G participants=bob thread=general");
    assert_int_equal(seq, 5);
}

static json_t *json_of(const char *text)
{
    json_error_t error;
    json_t *tree = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (tree == NULL)
        fail_msg("%s at %d in %s", error.text, error.position, text);
    return tree;
}

/* What stands at a JSON Pointer of a call's body, compactly; `expected` NULL: nothing. */
static void expect_at(struct call *call, const char *pointer, const char *expected)
{
    if (call->request->error != 0 && call->request->body.n == 0)
        fail_msg("refused: %s", call->request->refusal.detail);
    json_t *tree = json_of(call_body(call));
    json_t *found = pointer_get(tree, pointer);
    char *text = found != NULL ? json_dumps(found, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (expected == NULL ? text != NULL : text == NULL || strcmp(text, expected) != 0)
        fail_msg("%s is %s, not %s, in %s", pointer, text != NULL ? text : "missing",
                 expected != NULL ? expected : "missing", call_body(call));
    free(text);
    json_decref(tree);
}

static void expect_statuses(struct call *call, const char *expected)
{
    json_t *tree = json_of(call_body(call));
    json_t *results = json_object_get(tree, "results");
    char text[256] = "";
    for (size_t i = 0; i < json_array_size(results); i++) {
        json_t *status = json_object_get(json_array_get(results, i), "status");
        size_t n = strlen(text);
        snprintf(text + n, sizeof(text) - n, "%s%lld", i != 0 ? " " : "",
                 (long long)json_integer_value(status));
    }
    assert_string_equal(text, expected);
    json_decref(tree);
}

static void expect_error(struct call *call, unsigned error)
{
    if (call->request->error != error)
        fail_msg("error %u (%s), not %u", call->request->error, call->request->refusal.detail,
                 error);
}

static struct call *answered(struct call *call)
{
    call_wait(call_send(call));
    assert_int_equal(call->sent, 0);
    return call;
}

static struct call *answered_well(struct call *call)
{
    answered(call);
    expect_error(call, 0);
    return call;
}

static void expect_refused(struct rig *rig, struct request *request, unsigned error)
{
    struct call *call = rig_ask(rig, 0, request);
    expect_error(call, error);
    assert_int_equal(call->request->body.n, 0);
    call_free(call);
}

static struct request *events_request(const char *session, uint64_t after, uint32_t limit)
{
    struct request *request = request_for(REQUEST_EVENTS, session);
    request->has_after = true;
    request->after = after;
    request->limit = limit;
    return request;
}

static uint64_t count_events(struct rig *rig, const char *session)
{
    uint64_t n = 0;
    for (uint64_t after = 0;;) {
        struct call *call = rig_ask(rig, 0, events_request(session, after, 1000));
        expect_error(call, 0);
        json_t *tree = json_of(call_body(call));
        json_t *events = json_object_get(tree, "events");
        for (size_t i = 0; i < json_array_size(events); i++) {
            json_t *seq = json_object_get(json_array_get(events, i), "seq");
            assert_int_equal(json_integer_value(seq), ++n);
        }
        json_t *next = json_object_get(tree, "next");
        bool more = json_is_integer(next);
        if (more)
            assert_int_equal(json_integer_value(next), n);
        after = n;
        json_decref(tree);
        call_free(call);
        if (!more)
            return n;
    }
}

static void expect_same_view(struct rig *rig, unsigned frontend, const char *session,
                             const char *expected)
{
    char *view = rig_view(rig, frontend, session);
    assert_non_null(view);
    assert_string_equal(view, expected);
    free(view);
}

/* The follower's snapshot with all its patches is the session's view. */
static void expect_folds_to_view(struct follower *follower)
{
    buf_add_byte(&follower->snapshot, '\0');
    json_t *folded = json_of(follower->snapshot.p);
    follower->snapshot.n--;
    json_t *state = json_object_get(folded, "state");
    uint64_t seq = (uint64_t)json_integer_value(json_object_get(folded, "seq"));
    struct str rest = buf_str(&follower->items);
    struct str line;
    while (cut(&rest, '\n', &line)) {
        json_t *patch = json_loadb(line.p, line.n, 0, NULL);
        assert_non_null(patch);
        uint64_t at = (uint64_t)json_integer_value(json_object_get(patch, "seq"));
        json_t *ops = json_object_get(patch, "ops");
        assert_non_null(json_object_get(patch, "actor"));
        if (at > seq) {
            assert_int_equal(at, seq + 1);
            seq = at;
            for (size_t i = 0; i < json_array_size(ops); i++)
                apply_operation(state, json_array_get(ops, i));
        }
        json_decref(patch);
    }
    char *view = rig_view(follower->rig, 0, follower->session);
    json_t *tree = json_of(view);
    assert_int_equal(json_integer_value(json_object_get(tree, "seq")), seq);
    assert_true(json_equal(json_object_get(tree, "state"), state));
    json_decref(tree);
    json_decref(folded);
    free(view);
}

static void expect_no_gap(const struct follower *follower)
{
    assert_int_equal(follower->gaps, 0);
    assert_int_equal(follower->repeats, 0);
}

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

/* ---- following */

struct writing {
    unsigned left;
    unsigned failed;
    struct rig *rig;
};

/* Goes on until it has been answered as often as it was told to. */
static void write_more(struct call *call)
{
    struct writing *writing = call->owner;
    rig_lock(writing->rig);
    writing->failed += call->sent != 0 || call->request->error != 0;
    bool more = writing->left != 0;
    writing->left -= more;
    rig_changed(writing->rig);
    rig_unlock(writing->rig);
    if (!more) {
        rig_lock(writing->rig);
        call->done = true;
        rig_changed(writing->rig);
        rig_unlock(writing->rig);
        return;
    }
    struct request *request = request_for(REQUEST_COMMANDS, NULL);
    request->session = arena_copy(&request->arena, call->request->session);
    request_add(request, "message.send thread=general sender=ada content=more mentions=bob");
    request_free(call->request);
    call->request = request;
    call_send_here(call);
}

static void snapshot_and_frames_join_without_gap_or_repeat(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct writing writing = {.left = 600, .rig = rig};
    struct call *writers[6];
    for (unsigned i = 0; i < 6; i++) {
        writers[i] = call_commands(rig, i % 3, "s1",
                                   "message.send thread=general sender=bob content=x", NULL);
        writers[i]->then = write_more;
        writers[i]->owner = &writing;
        call_send(writers[i]);
    }
    struct follower *followers[3];
    for (unsigned i = 0; i < 3; i++) {
        RIG_UNTIL(rig, writing.left < 500 - 100 * i);
        followers[i] = follower_new(rig, i, "s1");
        followers[i]->wants = WANTS_PATCHES | (i == 2 ? WANTS_EVENTS : 0);
        follower_start(followers[i]);
    }
    for (unsigned i = 0; i < 6; i++)
        call_free(call_wait(writers[i]));
    assert_int_equal(writing.failed, 0);
    for (unsigned i = 0; i < 3; i++) {
        follower_wait_told(followers[i], 5 + 606);
        assert_int_equal(followers[i]->told, 5 + 606);
        assert_int_equal(followers[i]->snapshots, 1);
        expect_no_gap(followers[i]);
        expect_folds_to_view(followers[i]);
        follower_leave(followers[i]);
        follower_free(followers[i]);
    }
    assert_int_equal(count_events(rig, "s1"), 5 + 606);
}

static void write_long_messages(struct rig *rig, const char *session, unsigned n)
{
    char line[8192 + 100];
    int at = snprintf(line, sizeof(line), "message.send thread=general sender=ada content=");
    memset(line + at, 'x', 8192);
    line[at + 8192] = '\0';
    for (unsigned i = 0; i < n; i++)
        rig_do(rig, i % (unsigned)rig->options.shards, session, line);
}

static void a_follower_catches_up_from_the_log_in_several_pieces(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    write_long_messages(rig, "s1", 100);
    struct follower *patches = follower_new(rig, 0, "s1");
    patches->has_after = true;
    patches->after = 3;
    follower_start(patches);
    struct follower *events = follower_new(rig, 1, "s1");
    events->wants = WANTS_EVENTS;
    events->has_after = true;
    follower_start(events);
    rig_do(rig, 2, "s1", "agent.update agent=ada status=working");
    follower_wait_told(patches, 106);
    follower_wait_told(events, 106);
    follower_wait_live(patches);
    follower_wait_live(events);
    assert_int_equal(patches->items_n, 103);
    assert_int_equal(events->items_n, 106);
    assert_true(patches->pieces > 2 && events->pieces > 2);
    assert_int_equal(patches->snapshots, 0);
    expect_no_gap(patches);
    expect_no_gap(events);
    follower_leave(patches);
    follower_leave(events);

    /* Nothing is between: attached at once, without a snapshot. */
    struct follower *here = follower_new(rig, 2, "s1");
    here->has_after = true;
    here->after = 106;
    snprintf(here->after_epoch, sizeof(here->after_epoch), "%s", patches->epoch);
    follower_start(here);
    follower_wait_live(here);
    assert_int_equal(here->snapshots + here->pieces, 0);
    rig_do(rig, 0, "s1", "agent.update agent=ada status=idle");
    follower_wait_told(here, 107);
    expect_no_gap(here);
    follower_leave(here);
    follower_free(here);
    follower_free(patches);
    follower_free(events);
}

static void expect_reset(struct rig *rig, struct follower *follower, const char *part)
{
    follower_start(follower);
    follower_wait_live(follower);
    assert_int_equal(follower->snapshots, 1);
    buf_add_byte(&follower->snapshot, '\0');
    json_t *tree = json_of(follower->snapshot.p);
    follower->snapshot.n--;
    const char *reset = json_string_value(json_object_get(tree, "reset"));
    assert_non_null(reset);
    assert_non_null(strstr(reset, part));
    json_decref(tree);
    rig_do(rig, 0, "s1", "agent.register agent=ada"); /* no change, no frame */
    expect_folds_to_view(follower);
    follower_leave(follower);
    follower_free(follower);
}

static void a_stale_position_gets_a_snapshot_that_says_why(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct follower *follower = follower_new(rig, 0, "s1");
    follower->has_after = true;
    follower->after = 3;
    strcpy(follower->after_epoch, "other");
    expect_reset(rig, follower, "epoch");

    follower = follower_new(rig, 1, "s1");
    follower->has_after = true;
    follower->after = 6;
    expect_reset(rig, follower, "not reached");

    follower = follower_new(rig, 2, "s1");
    follower->has_after = true;
    follower->after = 5;
    follower->stale = "another version of the view";
    expect_reset(rig, follower, "another version");
}

/* The rest of a catch-up may be asked for after the session was deleted and made again. */
static void a_piece_of_an_earlier_life_is_not_given_from_a_later_one(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *view = rig_ask(rig, 0, request_for(REQUEST_VIEW, "s1"));
    char epoch[CORE_EPOCH_BYTES + 1];
    strcpy(epoch, view->request->epoch);
    call_free(view);
    call_free(rig_ask(rig, 0, request_for(REQUEST_DELETE, "s1")));
    populate_session(rig, "s1");
    for (int i = 0; i < 3; i++) {
        struct request *request = request_for(REQUEST_FOLLOW, "s1");
        request->wants = WANTS_PATCHES;
        request->has_after = true;
        request->after = 2;
        request->until = i == 0 ? 4 : 40; /* what the later one has, and what it has not */
        if (i != 2)
            request->after_epoch = request_text(request, epoch);
        struct call *call = rig_ask(rig, 0, request);
        assert_int_equal(call->request->error, CORE_E_UNKNOWN_SESSION);
        assert_null(call->request->frame);
        call_free(call);
    }
}

static void a_follower_that_does_not_drain_loses_its_feed_once_and_catches_up(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct follower *slow = follower_new(rig, 1, "s1");
    slow->again = false;
    follower_start(slow);
    follower_wait_live(slow);
    struct follower *quick = follower_new(rig, 2, "s1");
    follower_start(quick);
    follower_wait_live(quick);
    rig_deafen(rig, 1, true);

    /* More records, and so frames, than the half ring that frames may fill. */
    enum { WRITERS = 256, EACH = 40, EVENTS = WRITERS * EACH };
    _Static_assert((int)EVENTS > (int)(REPLY_RING_ITEMS - REPLY_CREDITS) + 1000, "it must spill");
    struct writing writing = {.left = EVENTS - WRITERS, .rig = rig};
    struct call *writers[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = call_commands(rig, i % 2 * 2, "s1",
                                   "message.send thread=general sender=bob content=x", NULL);
        writers[i]->then = write_more;
        writers[i]->owner = &writing;
        call_send(writers[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        call_free(call_wait(writers[i]));
    assert_int_equal(writing.failed, 0);
    follower_wait_told(quick, 5 + EVENTS);
    assert_int_equal(quick->lost, 0);
    expect_no_gap(quick);

    rig_deafen(rig, 1, false);
    RIG_UNTIL(rig, slow->lost != 0);
    assert_true(slow->told > 5 && slow->told < 5 + EVENTS);
    uint64_t stood = slow->told;
    follower_resume(slow);
    follower_wait_told(slow, 5 + EVENTS);
    follower_wait_live(slow);
    rig_do(rig, 0, "s1", "agent.update agent=ada status=working");
    follower_wait_told(slow, 6 + EVENTS);
    assert_int_equal(slow->lost, 1);
    assert_int_equal(slow->snapshots, 1);
    assert_int_equal(slow->items_n, 1 + EVENTS);
    assert_true(slow->told > stood);
    expect_no_gap(slow);
    expect_folds_to_view(slow);
    follower_leave(slow);
    follower_leave(quick);
    follower_free(slow);
    follower_free(quick);
}

/* ---- inboxes */

static struct call *inbox_call(struct rig *rig, unsigned frontend, const char *agent, bool mentions,
                               bool wait)
{
    struct request *request = request_for(REQUEST_INBOX, "s1");
    request->inbox = (struct core_inbox_query){
        .agent = request_text(request, agent), .mentions = mentions, .limit = 10};
    request->wait = wait;
    return call_new(rig, frontend, request);
}

static struct call *cancel_of(struct call *wait)
{
    struct request *request = request_for(REQUEST_CANCEL, "s1");
    request->token = (uint64_t)(uintptr_t)wait;
    return call_new(wait->rig, wait->face->number, request);
}

/* The shard has it: a later request of the same frontend has been answered. */
static struct call *held(struct call *wait)
{
    struct call *calls[] = {
        wait, call_new(wait->rig, wait->face->number, request_for(REQUEST_VIEW, "s1"))};
    calls_send(calls, 2);
    call_free(call_wait(calls[1]));
    return wait;
}

static void expect_not_answered(struct call *wait)
{
    rig_lock(wait->rig);
    bool done = wait->done;
    rig_unlock(wait->rig);
    assert_false(done);
}

static void an_inbox_is_answered_at_once_where_there_is_something(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *call = answered_well(inbox_call(rig, 1, "bob", false, false));
    expect_at(call, "/messages", "[]");
    expect_at(call, "/remaining", "0");
    call_free(call);
    rig_do(rig, 0, "s1", "message.send thread=general sender=ada content=x mentions=bob");
    for (int wait = 0; wait < 2; wait++) {
        call = answered_well(inbox_call(rig, 1, "bob", true, wait != 0));
        expect_at(call, "/messages/0/id", "\"m6\"");
        expect_at(call, "/messages/0/thread", "\"general\"");
        call_free(call);
    }
}

static void a_wait_is_woken_by_what_it_asks_for_and_by_nothing_else(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *any = held(inbox_call(rig, 1, "bob", false, true));
    struct call *mention = held(inbox_call(rig, 2, "bob", true, true));
    struct call *own = held(inbox_call(rig, 2, "ada", false, true));
    rig_do(rig, 0, "s1", "message.send thread=general sender=ada content=x");
    call_wait(any);
    expect_at(any, "/messages/0/id", "\"m6\"");
    assert_int_equal(any->request->seq, 6);
    rig_do(rig, 0, "s1", "message.send thread=general sender=ada content=y mentions=bob");
    call_wait(mention);
    expect_at(mention, "/messages/0/id", "\"m7\"");
    expect_at(mention, "/messages/1", NULL);
    expect_not_answered(own);
    rig_do(rig, 0, "s1", "message.send thread=general sender=bob content=z");
    call_wait(own);
    expect_at(own, "/messages/0/id", "\"m8\"");
    call_free(any);
    call_free(mention);
    call_free(own);
}

static void a_wait_is_woken_by_joining_a_thread_with_history(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    rig_do(rig, 0, "s1", "message.send thread=general sender=ada content=x mentions=bob");
    struct call *wait = held(inbox_call(rig, 1, "cy", false, true));
    rig_do(rig, 0, "s1", "thread.create creator=ada name=other participants=cy");
    expect_not_answered(wait);
    rig_do(rig, 0, "s1", "thread.add thread=general agent=cy by=ada history=true");
    call_wait(wait);
    expect_at(wait, "/messages/0/id", "\"m6\"");
    call_free(wait);
}

static void a_cancelled_wait_is_answered_with_nothing(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *wait = held(inbox_call(rig, 1, "bob", false, true));
    struct call *other = held(inbox_call(rig, 1, "bob", false, true));
    call_free(answered_well(cancel_of(wait)));
    call_wait(wait);
    expect_at(wait, "/messages", "[]");
    expect_not_answered(other);
    /* Sent right behind the wait, and once more when there is none. */
    struct call *third = inbox_call(rig, 1, "bob", false, true);
    struct call *calls[] = {third, cancel_of(third), cancel_of(third)};
    calls_send(calls, 3);
    for (int i = 0; i < 3; i++)
        call_wait(calls[i]);
    expect_at(third, "/messages", "[]");
    for (int i = 0; i < 3; i++)
        call_free(calls[i]);
    call_free(answered_well(cancel_of(other)));
    call_free(call_wait(other));
    call_free(wait);
}

static void waits_end_when_the_session_or_the_agent_goes(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *ada = held(inbox_call(rig, 0, "ada", false, true));
    struct call *bob = held(inbox_call(rig, 1, "bob", false, true));
    rig_do(rig, 2, "s1", "agent.leave agent=bob");
    expect_error(call_wait(bob), CORE_E_UNKNOWN_AGENT);
    expect_not_answered(ada);
    call_free(rig_ask(rig, 2, request_for(REQUEST_DELETE, "s1")));
    expect_error(call_wait(ada), CORE_E_UNKNOWN_SESSION);
    call_free(ada);
    call_free(bob);
}

static void an_inbox_reaches_past_the_windows(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    for (int i = 0; i < 40; i++)
        rig_do(rig, 0, "s1",
               i == 7 ? "message.send thread=general sender=ada content=x mentions=bob"
                      : "message.send thread=general sender=ada content=x");
    struct call *call = answered_well(inbox_call(rig, 0, "bob", false, false));
    expect_at(call, "/messages/0/id", "\"m6\"");
    expect_at(call, "/messages/9/id", "\"m15\"");
    expect_at(call, "/messages/10", NULL);
    expect_at(call, "/remaining", "30");
    json_t *tree = json_of(call_body(call));
    char *line = NULL;
    int n = asprintf(&line, "inbox.ack agent=bob cursor=%s",
                     json_string_value(json_object_get(tree, "cursor")));
    assert_true(n > 0);
    json_decref(tree);
    call_free(call);

    call = answered_well(inbox_call(rig, 0, "bob", true, true));
    expect_at(call, "/messages/0/id", "\"m13\"");
    expect_at(call, "/messages/1", NULL);
    call_free(call);
    rig_do(rig, 0, "s1", line);
    free(line);
    call = answered_well(inbox_call(rig, 0, "bob", false, true));
    expect_at(call, "/messages/0/id", "\"m16\"");
    expect_at(call, "/remaining", "20");
    call_free(call);

    /* Nothing of this kind: it waits although the log has to be read. */
    struct call *wait = held(inbox_call(rig, 0, "bob", true, true));
    rig_do(rig, 0, "s1", "message.send thread=general sender=ada content=x");
    expect_not_answered(wait);
    rig_do(rig, 0, "s1", "message.send thread=general sender=ada content=x mentions=bob");
    call_wait(wait);
    expect_at(wait, "/messages/0/id", "\"m48\"");
    call_free(wait);
}

static void a_wait_past_the_windows_misses_nothing_that_comes_meanwhile(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    for (int i = 0; i < 100; i++)
        rig_do(rig, 0, "s1", "message.send thread=general sender=ada content=x");
    /* The mention comes in the turns in which the wait reads the log. */
    for (int round = 0; round < 50; round++) {
        struct call *calls[] = {
            inbox_call(rig, 0, "bob", true, true),
            call_commands(rig, 0, "s1",
                          "message.send thread=general sender=ada content=x mentions=bob", NULL)};
        if (round % 2 == 0) {
            calls_send(calls, 2);
        } else {
            call_send(calls[0]);
            call_send(calls[1]);
        }
        call_wait(calls[0]);
        call_wait(calls[1]);
        json_t *tree = json_of(call_body(calls[0]));
        char *line = NULL;
        int n = asprintf(&line, "inbox.ack agent=bob cursor=%s",
                         json_string_value(json_object_get(tree, "cursor")));
        assert_true(n > 0);
        assert_int_equal(json_array_size(json_object_get(tree, "messages")), 1);
        rig_do(rig, 0, "s1", line);
        free(line);
        json_decref(tree);
        call_free(calls[0]);
        call_free(calls[1]);
    }
}

/* ---- pages */

static void expect_seqs(struct call *call, const char *array, uint64_t first, uint64_t last,
                        uint64_t step)
{
    expect_error(call, 0);
    json_t *tree = json_of(call_body(call));
    json_t *items = json_object_get(tree, array);
    size_t i = 0;
    for (uint64_t seq = first; seq <= last; seq += step, i++) {
        json_t *found = json_object_get(json_array_get(items, i), "seq");
        assert_int_equal(json_integer_value(found), seq);
    }
    assert_int_equal(json_array_size(items), i);
    json_decref(tree);
}

static struct call *page(struct rig *rig, enum request_kind kind, int64_t after, int64_t before,
                         uint32_t limit)
{
    struct request *request = request_for(kind, "s1");
    request->thread = STR("general");
    request->has_after = after >= 0;
    request->after = (uint64_t)after;
    request->has_before = before >= 0;
    request->before = (uint64_t)before;
    request->limit = limit;
    return rig_ask(rig, 0, request);
}

/* Expects a page of every `step`-th seq from first to last (none where last < first). */
static void expect_page(struct call *call, uint64_t first, uint64_t last, uint64_t step,
                        const char *next)
{
    bool events = call->request->kind == REQUEST_EVENTS;
    expect_seqs(call, events ? "events" : "messages", first, last, step);
    expect_at(call, "/next", next);
    call_free(call);
}

/* Seqs 6, 7, … 205: even ones are messages of "general", odd ones of another thread; 32 of them
 * a record in the middle. */
static void populate_pages(struct rig *rig)
{
    populate_session(rig, "s1");
    rig_do(rig, 0, "s1", "thread.create creator=ada name=x participants=bob thread=other");
    rig_do(rig, 0, "s1", "message.send thread=other sender=ada content=odd");
    struct call *batch = NULL;
    for (int seq = 8; seq <= 205; seq++) {
        const char *line = seq % 2 == 0 ? "message.send thread=general sender=ada content=even"
                                        : "message.send thread=other sender=ada content=odd";
        if (seq < 100 || seq >= 132) {
            rig_do(rig, 0, "s1", line);
            continue;
        }
        if (batch == NULL)
            batch = call_commands(rig, 0, "s1", line, NULL);
        else
            request_add(batch->request, line);
        if (seq == 131) {
            batch->request->batch = true;
            call_free(answered_well(batch));
        }
    }
}

static void events_come_in_pages_forwards(void **state)
{
    struct rig *rig = *state;
    populate_pages(rig);
    expect_page(page(rig, REQUEST_EVENTS, -1, -1, 10), 1, 10, 1, "10");
    expect_page(page(rig, REQUEST_EVENTS, 10, -1, 100), 11, 110, 1, "110");
    expect_page(page(rig, REQUEST_EVENTS, 110, -1, 95), 111, 205, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 110, -1, 94), 111, 204, 1, "204");
    expect_page(page(rig, REQUEST_EVENTS, 204, -1, 1), 205, 205, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 205, -1, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 1000, -1, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 100, 111, 100), 101, 110, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 100, 111, 9), 101, 109, 1, "109");
    expect_page(page(rig, REQUEST_EVENTS, -1, 4, 10), 1, 3, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, -1, 1, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, -1, 0, 10), 1, 0, 1, "null");
    assert_int_equal(count_events(rig, "s1"), 205);

    struct request *typed = events_request("s1", 0, 10);
    typed->types = 1u << CORE_AGENT_REGISTER | 1u << CORE_THREAD_CREATE;
    expect_page(rig_ask(rig, 0, typed), 2, 6, 1, "null");
    typed = events_request("s1", 0, 5);
    typed->types = 1u << CORE_AGENT_REGISTER | 1u << CORE_THREAD_CREATE;
    expect_page(rig_ask(rig, 0, typed), 2, 6, 1, "null");
    typed = events_request("s1", 0, 4);
    typed->types = 1u << CORE_AGENT_REGISTER | 1u << CORE_THREAD_CREATE;
    expect_page(rig_ask(rig, 0, typed), 2, 5, 1, "5");
}

static void messages_come_in_pages_both_ways_past_the_window(void **state)
{
    struct rig *rig = *state;
    populate_pages(rig);
    expect_page(page(rig, REQUEST_MESSAGES, -1, -1, 10), 186, 204, 2, "186");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 186, 50), 86, 184, 2, "86");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 87, 40), 8, 86, 2, "null");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 86, 39), 8, 84, 2, "null");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 86, 38), 10, 84, 2, "10");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 8, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 0, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_MESSAGES, 0, -1, 10), 8, 26, 2, "26");
    expect_page(page(rig, REQUEST_MESSAGES, 26, -1, 80), 28, 186, 2, "186");
    expect_page(page(rig, REQUEST_MESSAGES, 186, -1, 9), 188, 204, 2, "null");
    expect_page(page(rig, REQUEST_MESSAGES, 186, -1, 8), 188, 202, 2, "202");
    expect_page(page(rig, REQUEST_MESSAGES, 100, 110, 10), 102, 108, 2, "null");
    expect_page(page(rig, REQUEST_MESSAGES, 204, -1, 10), 1, 0, 1, "null");
}

/* ---- lists */

static struct request *list_request(struct str cursor, uint32_t limit)
{
    struct request *request = request_for(REQUEST_LIST, NULL);
    if (cursor.p != NULL)
        request->cursor = arena_copy(&request->arena, cursor);
    request->limit = limit;
    return request;
}

static unsigned collect_list(struct rig *rig, unsigned shard, uint32_t limit, const char *label,
                             bool *seen)
{
    struct str cursor = {0};
    char last[CORE_ID_BYTES] = "";
    unsigned n = 0;
    for (;;) {
        struct request *request = list_request(cursor, limit);
        struct request_label_filter filters[] = {
            {STR("team"), label != NULL ? str_of(label) : (struct str){0}}, {STR("all"), {0}}};
        request->labels = label != NULL ? filters : NULL;
        request->labels_n = label != NULL ? 2 : 0;
        struct call *call = call_new(rig, shard, request);
        call->shard = (int)shard;
        answered_well(call);
        buf_add_byte(&call->request->body, ']');
        char *text = NULL;
        int made = asprintf(&text, "[%.*s", (int)call->request->body.n, call->request->body.p);
        assert_true(made > 0);
        json_t *list = json_of(text);
        free(text);
        assert_int_equal(json_array_size(list), call->request->count);
        assert_true(call->request->count <= limit);
        for (size_t i = 0; i < json_array_size(list); i++, n++) {
            const char *id = json_string_value(json_object_get(json_array_get(list, i), "id"));
            assert_true(strcmp(last, id) < 0);
            snprintf(last, sizeof(last), "%s", id);
            seen[atoi(id + 1)] = true;
        }
        json_decref(list);
        bool more = call->request->more;
        static char kept[CORE_ID_BYTES];
        if (more) {
            assert_int_equal(call->request->count, limit);
            memcpy(kept, call->request->last_id.p, call->request->last_id.n);
            cursor = (struct str){kept, call->request->last_id.n};
        }
        call_free(call);
        if (!more)
            return n;
    }
}

static void sessions_are_listed_by_shard_label_and_page(void **state)
{
    struct rig *rig = *state;
    enum { SESSIONS = 200 };
    for (int i = 0; i < SESSIONS; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s%03d", i);
        rig_do(rig, (unsigned)i % 3, session,
               i % 5 == 0 ? "session.create labels=all:yes,team:red"
                          : "session.create labels=all:yes,team:blue");
    }
    for (int i = 0; i < SESSIONS; i += 10) {
        char session[16];
        snprintf(session, sizeof(session), "s%03d", i);
        call_free(rig_ask(rig, 0, request_for(REQUEST_DELETE, session)));
    }
    for (uint32_t limit = 1; limit <= 256; limit *= 4) {
        bool all[SESSIONS] = {0};
        bool red[SESSIONS] = {0};
        unsigned all_n = 0;
        unsigned red_n = 0;
        for (unsigned shard = 0; shard < 3; shard++) {
            unsigned here = collect_list(rig, shard, limit, NULL, all);
            assert_true(here > SESSIONS / 10);
            all_n += here;
            red_n += collect_list(rig, shard, limit, "red", red);
        }
        assert_int_equal(all_n, SESSIONS - SESSIONS / 10);
        assert_int_equal(red_n, SESSIONS / 10);
        for (int i = 0; i < SESSIONS; i++) {
            assert_int_equal(all[i], i % 10 != 0);
            assert_int_equal(red[i], i % 10 == 5);
        }
    }
}

static void a_long_list_takes_several_turns(void **state)
{
    struct rig *rig = *state;
    enum { SESSIONS = LIST_STEPS * 2 + 10 };
    static bool seen[SESSIONS];
    memset(seen, 0, sizeof(seen));
    struct call **calls = mem_alloc(SESSIONS * sizeof(*calls));
    for (int i = 0; i < SESSIONS; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s%04d", i);
        calls[i] = call_commands(rig, 0, session, "session.create labels=all:yes,team:red", NULL);
    }
    calls_send(calls, SESSIONS);
    for (int i = 0; i < SESSIONS; i++) {
        expect_error(call_wait(calls[i]), 0);
        call_free(calls[i]);
    }
    free(calls);
    assert_int_equal(collect_list(rig, 0, SESSIONS, NULL, seen), SESSIONS);
    assert_int_equal(collect_list(rig, 0, SESSIONS, "blue", seen), 0);
}

static void a_shard_tells_its_figures(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *call = call_new(rig, 0, request_for(REQUEST_STATUS, NULL));
    call->shard = 0;
    answered_well(call);
    expect_at(call, "/shard", "0");
    expect_at(call, "/sessions", "1");
    expect_at(call, "/events", "5");
    expect_at(call, "/log/records", "5");
    call_free(call);
}

/* ---- restarts */

static void populate_many(struct rig *rig, unsigned sessions, char **views)
{
    for (unsigned i = 0; i < sessions; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s%u", i);
        populate_session(rig, session);
        for (unsigned n = 0; n < 3 * i; n++)
            rig_do(rig, 0, session,
                   "message.send thread=general sender=ada content=x mentions=bob");
        if (i % 4 == 3) {
            call_free(rig_ask(rig, 0, request_for(REQUEST_DELETE, session)));
            if (i % 8 == 7)
                populate_session(rig, session);
        }
        views[i] = rig_view(rig, 0, session);
    }
}

static void expect_views(struct rig *rig, unsigned sessions, char **views)
{
    for (unsigned i = 0; i < sessions; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s%u", i);
        char *view = rig_view(rig, i % rig->options.shards, session);
        assert_int_equal(view == NULL, views[i] == NULL);
        if (view != NULL)
            assert_string_equal(view, views[i]);
        free(view);
    }
}

static void a_restart_gives_the_same_views(void **state)
{
    struct rig *rig = *state;
    enum { SESSIONS = 16 };
    char *views[SESSIONS];
    populate_many(rig, SESSIONS, views);
    for (int i = 0; i < 2; i++) {
        rig_restart(rig, 3);
        expect_views(rig, SESSIONS, views);
    }
    assert_int_equal(count_events(rig, "s14"), 5 + 3 * 14);
    for (int i = 0; i < SESSIONS; i++)
        free(views[i]);
}

static void another_number_of_shards_loses_nothing(void **state)
{
    struct rig *rig = *state;
    enum { SESSIONS = 16 };
    static const unsigned sizes[] = {3, 2, 4, 1};
    char *views[SESSIONS];
    populate_many(rig, SESSIONS, views);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rig_restart(rig, sizes[i]);
        expect_views(rig, SESSIONS, views);
        /* Each life goes on where it was, and its history is read through all the logs. */
        uint64_t seq = rig_do(rig, 0, "s14", "message.send thread=general sender=ada content=x");
        assert_int_equal(seq, 5 + 3 * 14 + i + 1);
        assert_int_equal(count_events(rig, "s14"), seq);
        struct follower *follower = follower_new(rig, sizes[i] - 1, "s14");
        follower->has_after = true;
        follower_start(follower);
        follower_wait_told(follower, seq);
        follower_wait_live(follower);
        expect_no_gap(follower);
        follower_leave(follower);
        follower_free(follower);
        free(views[14]);
        views[14] = rig_view(rig, 0, "s14");
        call_free(rig_ask(rig, 0, request_for(REQUEST_DELETE, "s1")));
        populate_session(rig, "s1");
        free(views[1]);
        views[1] = rig_view(rig, 0, "s1");
    }
    for (int i = 0; i < SESSIONS; i++)
        free(views[i]);
}

/* ---- big batches */

enum { BIG = 40000 /* commands: many slices, however quick the machine */ };

static struct call *big_batch(struct rig *rig, unsigned frontend, const char *session, unsigned n)
{
    struct call *call = call_commands(rig, frontend, session, NULL);
    call->request->batch = true;
    for (unsigned i = 0; i < n; i++)
        request_add(call->request, "message.send thread=general sender=ada content=x");
    return call;
}

/* What is sent behind a big batch to another session is answered before it: the batch runs in
 * slices. Replies of one shard come in the order in which they left it. */
static void a_big_batch_does_not_hold_up_other_sessions(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    populate_session(rig, "s2");
    struct call *calls[] = {
        big_batch(rig, 0, "s1", BIG),
        call_commands(rig, 0, "s2", "message.send thread=general sender=ada content=x", NULL),
        call_new(rig, 0, request_for(REQUEST_VIEW, "s2"))};
    calls_send(calls, 3);
    for (int i = 0; i < 3; i++)
        expect_error(call_wait(calls[i]), 0);
    assert_true(calls[1]->order < calls[0]->order);
    assert_true(calls[2]->order < calls[0]->order);
    assert_int_equal(calls[0]->request->seq, BIG + 5);
    for (int i = 0; i < 3; i++)
        call_free(calls[i]);
    assert_int_equal(count_events(rig, "s1"), BIG + 5);
}

static void what_comes_for_a_busy_session_keeps_its_order(void **state)
{
    struct rig *rig = *state;
    enum { BEHIND = 60 };
    populate_session(rig, "s1");
    struct call *calls[1 + BEHIND];
    calls[0] = big_batch(rig, 0, "s1", BIG);
    for (int i = 1; i <= BEHIND; i++) {
        if (i % 5 == 0)
            calls[i] = call_new(rig, 0, request_for(REQUEST_VIEW, "s1"));
        else if (i == 31)
            calls[i] = big_batch(rig, 0, "s1", 5000);
        else
            calls[i] = call_commands(rig, 0, "s1",
                                     "message.send thread=general sender=bob content=y", NULL);
    }
    calls_send(calls, 1 + BEHIND);
    uint64_t seq = BIG + 5;
    for (int i = 0; i <= BEHIND; i++) {
        expect_error(call_wait(calls[i]), 0);
        if (i != 0 && i % 5 != 0)
            seq += calls[i]->request->commands_n;
        assert_int_equal(calls[i]->request->seq, seq);
        if (i != 0)
            assert_true(calls[i]->order > calls[i - 1]->order);
    }
    for (int i = 0; i <= BEHIND; i++)
        call_free(calls[i]);
}

static void a_queue_behind_a_busy_session_is_bounded(void **state)
{
    struct rig *rig = *state;
    enum { BEHIND = SESSION_QUEUE_MAX + 10 };
    populate_session(rig, "s1");
    struct call **calls = mem_alloc((1 + BEHIND) * sizeof(*calls));
    calls[0] = big_batch(rig, 0, "s1", BIG);
    for (int i = 1; i <= BEHIND; i++)
        calls[i] = call_new(rig, 0, request_for(REQUEST_VIEW, "s1"));
    calls_send(calls, 1 + BEHIND);
    unsigned refused = 0;
    for (int i = 0; i <= BEHIND; i++) {
        call_wait(calls[i]);
        if (calls[i]->request->error != 0) {
            expect_error(calls[i], REQUEST_E_OVERLOADED);
            assert_true(calls[i]->order < calls[0]->order);
            refused++;
        }
        if (i != 0)
            call_free(calls[i]);
    }
    call_free(calls[0]);
    free(calls);
    assert_true(refused > 0 && refused <= BEHIND - SESSION_QUEUE_MAX);
}

/* Half of a batch is nobody's business: not a list's, not that of a wait that is cancelled. */
static void nothing_is_shown_of_a_batch_that_is_being_worked_on(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *wait = held(inbox_call(rig, 0, "bob", false, true));
    struct call *batch = big_batch(rig, 0, "s1", BIG);
    request_add(batch->request, "message.send thread=none sender=ada content=x");
    batch->request->atomic = true; /* and so nothing of it will be applied */
    struct call *list = call_new(rig, 0, list_request((struct str){0}, 10));
    list->shard = 0;
    struct call *late = inbox_call(rig, 0, "bob", false, true);
    struct call *calls[] = {batch, list, cancel_of(wait), late, cancel_of(late)};
    calls_send(calls, 5);
    expect_error(call_wait(batch), CORE_E_REFUSED);
    call_wait(list);
    buf_add_byte(&list->request->body, '\0');
    assert_non_null(strstr(list->request->body.p, "\"seq\":5,"));
    call_wait(wait);
    expect_at(wait, "/messages", "[]");
    call_wait(late);
    expect_at(late, "/messages", "[]");
    call_free(wait);
    for (int i = 0; i < 5; i++)
        call_free(call_wait(calls[i]));
}

/* ---- stopping */

static void it_stops_cleanly_with_waits_held_and_feeds_open(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct follower *follower = follower_new(rig, 1, "s1");
    follower_start(follower);
    follower_wait_live(follower);
    struct call *waits[8];
    for (unsigned i = 0; i < 8; i++)
        waits[i] = held(inbox_call(rig, i % 3, "bob", false, true));
    char *view = rig_view(rig, 0, "s1");
    rig_stop(rig);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(waits[i]->done);
        expect_at(waits[i], "/messages", "[]");
        call_free(waits[i]);
    }
    expect_no_gap(follower);
    follower_free(follower);
    rig_start(rig);
    expect_same_view(rig, 2, "s1", view);
    free(view);
}

static void it_stops_when_the_grace_has_run_out(void **state)
{
    struct rig *rig = *state;
    rig_stop(rig);
    rig->options.grace_ms = 20;
    rig_start(rig);
    populate_session(rig, "s1");
    struct call *wait = held(inbox_call(rig, 1, "bob", false, true));
    rig_linger(rig, 1);
    rig_stop(rig);
    assert_false(wait->done);
    call_free(wait); /* it went down with its shard */
}

/* Then there is an fdatasync to wait for. */
static void it_stops_cleanly_when_commits_are_relaxed(void **state)
{
    struct rig *rig = *state;
    rig_stop(rig);
    rig->options.durability = LOG_RELAXED;
    rig_start(rig);
    populate_session(rig, "s1");
    char *view = rig_view(rig, 0, "s1");
    for (int i = 0; i < 5; i++) {
        rig_restart(rig, 3);
        expect_same_view(rig, 1, "s1", view);
        rig_do(rig, 2, "s1", "session.update labels=a:b");
        uint64_t seq = rig_do(rig, 2, "s1", "session.update labels=a:null");
        assert_int_equal(seq, 7 + 2 * i);
        free(view);
        view = rig_view(rig, 0, "s1");
    }
    free(view);
}

static void it_stops_again_and_again_while_commands_are_under_way(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    uint64_t acknowledged = 5;
    for (int round = 0; round < 20; round++) {
        enum { CALLS = 30 };
        struct call *calls[CALLS];
        for (unsigned i = 0; i < CALLS; i++) {
            calls[i] = call_commands(rig, i % 3, "s1",
                                     "message.send thread=general sender=ada content=x", NULL);
            call_send(calls[i]);
        }
        if (round % 2 == 0)
            call_wait(calls[CALLS - 1]);
        RIG_UNTIL(rig, rig->faces[0]->errands == NULL && rig->faces[1]->errands == NULL &&
                           rig->faces[2]->errands == NULL);
        rig_restart(rig, 3);
        for (unsigned i = 0; i < CALLS; i++) {
            assert_true(calls[i]->done);
            expect_error(calls[i], 0);
            acknowledged++;
            call_free(calls[i]);
        }
        assert_int_equal(count_events(rig, "s1"), acknowledged);
    }
}

/* ---- everything at once */

enum { STORM_SESSIONS = 9, STORM_CALLS = 24, STORM_SENDS = 4000 };

struct storm {
    struct rig *rig;
    unsigned sends[RIG_FACES_MAX]; /* the face's own */
    unsigned busy;                 /* calls that go on; the rest under the rig's mutex */
    uint64_t acknowledged[STORM_SESSIONS];
    uint64_t replayed, mismatched, failed;
    struct buf seqs[STORM_SESSIONS]; /* uint64_t each */
};

struct storm_call {
    struct call call;
    struct storm *storm;
    unsigned session;
    unsigned number;  /* of the send: its key and its content */
    unsigned repeats; /* left, of the same key */
    uint64_t seq;     /* as first answered */
};

static void storm_send(struct storm_call *sending)
{
    struct call *call = &sending->call;
    char text[128];
    snprintf(text, sizeof(text), "s%u", sending->session);
    struct request *request = request_for(REQUEST_COMMANDS, text);
    snprintf(text, sizeof(text), "message.send thread=general sender=ada content=f%u-%u",
             call->face->number, sending->number);
    request_add(request, text);
    snprintf(text, sizeof(text), "f%u-%u", call->face->number, sending->number);
    request->key = request_text(request, text);
    call->request = request;
    call_send_here(call);
}

static void storm_answered(struct call *call)
{
    struct storm_call *sending = (struct storm_call *)call;
    struct storm *storm = sending->storm;
    struct request *request = call->request;
    rig_lock(storm->rig);
    if (call->sent != 0 || request->error != 0) {
        storm->failed++;
    } else if (sending->seq == 0) {
        storm->failed += request->replayed;
        storm->acknowledged[sending->session]++;
        buf_add(&storm->seqs[sending->session], &request->seq, sizeof(request->seq));
        sending->seq = request->seq;
    } else {
        storm->replayed++;
        storm->mismatched += !request->replayed || request->seq != sending->seq;
    }
    rig_unlock(storm->rig);
    request_free(request);
    if (sending->repeats != 0) {
        sending->repeats--;
    } else if (storm->sends[call->face->number] != 0) {
        unsigned n = storm->sends[call->face->number]--;
        sending->number = n;
        sending->session = (n * 7 + call->face->number) % STORM_SESSIONS;
        sending->repeats = n % 4 == 0;
        sending->seq = 0;
    } else {
        call->request = NULL;
        rig_lock(storm->rig);
        storm->busy--;
        rig_changed(storm->rig);
        rig_unlock(storm->rig);
        return;
    }
    storm_send(sending);
}

static void run_storm_send(struct face *face, struct errand *errand)
{
    struct storm_call *sending = (struct storm_call *)errand;
    unsigned n = sending->storm->sends[face->number]--;
    sending->number = n;
    sending->session = n % STORM_SESSIONS;
    sending->repeats = n % 4 == 0;
    storm_send(sending);
}

static int seq_order(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Each acknowledged seq is of another command, and between the first and the last there is none
 * that nobody was told of. */
static void expect_storm_session(struct storm *storm, unsigned number)
{
    char session[16];
    snprintf(session, sizeof(session), "s%u", number);
    uint64_t *seqs = (uint64_t *)(void *)storm->seqs[number].p;
    uint64_t n = storm->acknowledged[number];
    qsort(seqs, n, sizeof(*seqs), seq_order);
    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(seqs[i], 6 + i);
    assert_int_equal(count_events(storm->rig, session), 5 + n);
}

static void everything_at_once(void **state)
{
    struct rig *rig = *state;
    unsigned faces = rig->options.shards;
    struct storm storm = {.rig = rig, .busy = faces * STORM_CALLS};
    char session[16];
    for (unsigned i = 0; i < STORM_SESSIONS; i++) {
        snprintf(session, sizeof(session), "s%u", i);
        populate_session(rig, session);
    }
    struct follower *followers[RIG_FACES_MAX][STORM_SESSIONS];
    for (unsigned f = 0; f < faces; f++) {
        for (unsigned i = 0; i < STORM_SESSIONS; i++) {
            snprintf(session, sizeof(session), "s%u", i);
            followers[f][i] = follower_new(rig, f, session);
            if ((f + i) % 2 == 0)
                follower_start(followers[f][i]);
        }
    }
    struct storm_call *calls = mem_alloc(faces * STORM_CALLS * sizeof(*calls));
    for (unsigned f = 0; f < faces; f++) {
        storm.sends[f] = STORM_SENDS;
        for (unsigned i = 0; i < STORM_CALLS; i++) {
            struct storm_call *sending = &calls[f * STORM_CALLS + i];
            *sending = (struct storm_call){.storm = &storm};
            sending->call = (struct call){
                .rig = rig, .face = rig->faces[f], .shard = -1, .then = storm_answered};
            sending->call.errand.run = run_storm_send;
            rig_post(rig, f, &sending->call.errand);
        }
    }
    /* The other half begins in the middle: half of them at a snapshot, half in the log. */
    RIG_UNTIL(rig, storm.acknowledged[0] > STORM_SENDS / STORM_SESSIONS / 3);
    for (unsigned f = 0; f < faces; f++) {
        for (unsigned i = 0; i < STORM_SESSIONS; i++) {
            followers[f][i]->has_after = i % 2 == 0;
            followers[f][i]->after = 5;
            if ((f + i) % 2 != 0)
                follower_start(followers[f][i]);
        }
    }
    RIG_UNTIL(rig, storm.busy == 0);
    free(calls);
    assert_int_equal(storm.failed, 0);
    assert_int_equal(storm.mismatched, 0);
    assert_int_equal(storm.replayed, faces * STORM_SENDS / 4);
    uint64_t all = 0;
    for (unsigned i = 0; i < STORM_SESSIONS; i++) {
        expect_storm_session(&storm, i);
        all += storm.acknowledged[i];
        for (unsigned f = 0; f < faces; f++) {
            follower_wait_told(followers[f][i], 5 + storm.acknowledged[i]);
            assert_int_equal(followers[f][i]->told, 5 + storm.acknowledged[i]);
            expect_no_gap(followers[f][i]);
            if (followers[f][i]->snapshots != 0 && f == 0)
                expect_folds_to_view(followers[f][i]);
        }
    }
    assert_int_equal(all, faces * STORM_SENDS);
    for (unsigned i = 0; i < faces * STORM_SESSIONS; i++)
        follower_free(followers[i % faces][i / faces]);
    rig_restart(rig, faces);
    for (unsigned i = 0; i < STORM_SESSIONS; i++) {
        expect_storm_session(&storm, i);
        buf_free(&storm.seqs[i]);
    }
}

static int open_four(void **state)
{
    *state = malloc(sizeof(struct rig));
    rig_open(*state, 4, io_kind);
    return 0;
}

#define TEST(function, setup) cmocka_unit_test_setup_teardown(function, setup, close_rig)

static int run_with(enum io_kind kind, const char *name)
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
        TEST(a_second_one_waits_for_the_first_that_is_in_flight, open_three),
        TEST(a_command_may_expect_where_the_session_stands, open_three),
        TEST(the_key_is_looked_at_before_the_expected_seq, open_three),
        TEST(a_session_made_again_has_a_later_epoch, open_three),
        TEST(keys_end_with_the_life_they_belong_to, open_three),
        TEST(a_follower_gets_every_frame_and_then_the_end, open_three),
        TEST(snapshot_and_frames_join_without_gap_or_repeat, open_three),
        TEST(a_follower_catches_up_from_the_log_in_several_pieces, open_three),
        TEST(a_stale_position_gets_a_snapshot_that_says_why, open_three),
        TEST(a_piece_of_an_earlier_life_is_not_given_from_a_later_one, open_one),
        TEST(a_follower_that_does_not_drain_loses_its_feed_once_and_catches_up, open_three),
        TEST(an_inbox_is_answered_at_once_where_there_is_something, open_three),
        TEST(a_wait_is_woken_by_what_it_asks_for_and_by_nothing_else, open_three),
        TEST(a_wait_is_woken_by_joining_a_thread_with_history, open_three),
        TEST(a_cancelled_wait_is_answered_with_nothing, open_three),
        TEST(waits_end_when_the_session_or_the_agent_goes, open_three),
        TEST(an_inbox_reaches_past_the_windows, open_small_windows),
        TEST(a_wait_past_the_windows_misses_nothing_that_comes_meanwhile, open_small_windows),
        TEST(events_come_in_pages_forwards, open_one),
        TEST(messages_come_in_pages_both_ways_past_the_window, open_small_windows),
        TEST(sessions_are_listed_by_shard_label_and_page, open_three),
        TEST(a_long_list_takes_several_turns, open_one),
        TEST(a_shard_tells_its_figures, open_one),
        TEST(a_restart_gives_the_same_views, open_three),
        TEST(another_number_of_shards_loses_nothing, open_one),
        TEST(a_big_batch_does_not_hold_up_other_sessions, open_large_segments),
        TEST(what_comes_for_a_busy_session_keeps_its_order, open_large_segments),
        TEST(a_queue_behind_a_busy_session_is_bounded, open_large_segments),
        TEST(nothing_is_shown_of_a_batch_that_is_being_worked_on, open_large_segments),
        TEST(it_stops_cleanly_with_waits_held_and_feeds_open, open_three),
        TEST(it_stops_when_the_grace_has_run_out, open_three),
        TEST(it_stops_cleanly_when_commits_are_relaxed, open_three),
        TEST(it_stops_again_and_again_while_commands_are_under_way, open_three),
        TEST(everything_at_once, open_four),
    };
    io_kind = kind;
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    struct io *io;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]); /* as in: cluster_test '*batch*' */
    int failed = run_with(IO_POSIX, "posix");
    if (io_uring_new(&io) == 0) {
        io->ops->free(io);
        failed += run_with(IO_URING, "io_uring");
    } else {
        print_message("io_uring cannot be had here\n");
    }
    return failed;
}
