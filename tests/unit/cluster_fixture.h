/*
 * A whole cluster without HTTP: reactors, rings, shards and their logs, as a face sees them. What
 * the tests of it share. Everything is run with each io that can be had here.
 */
#ifndef ATOLL_TESTS_UNIT_CLUSTER_FIXTURE_H
#define ATOLL_TESTS_UNIT_CLUSTER_FIXTURE_H

#include "tests/unit/core_fixture.h"
#include "tests/unit/shards_fixture.h"

#include "shards/limits.h"

#include <errno.h>

static enum io_kind io_kind;

static inline int open_one(void **state)
{
    *state = malloc(sizeof(struct rig));
    rig_open(*state, 1, io_kind);
    return 0;
}

static inline int open_three(void **state)
{
    *state = malloc(sizeof(struct rig));
    rig_open(*state, 3, io_kind);
    return 0;
}

/* Windows of two messages, so that the log has to be read. */
static inline int open_small_windows(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    rig_prepare(rig, 1, io_kind);
    rig->options.limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 2;
    rig_start(rig);
    *state = rig;
    return 0;
}

/* For a batch of BIG commands: a request is one record, and that lies in one segment. */
static inline int open_large_segments(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    rig_prepare(rig, 1, io_kind);
    rig->options.segment_bytes = 16 << 20;
    rig_start(rig);
    *state = rig;
    return 0;
}

static inline int close_rig(void **state)
{
    rig_close(*state);
    free(*state);
    return 0;
}

/* ---- short ways to say and to check things */

/* seq 5: ada, bob and cy; the thread "general" of ada and bob. */
static inline void populate_session(struct rig *rig, const char *session)
{
    rig_do(rig, 0, session, "session.create");
    rig_do(rig, 0, session, "agent.register agent=ada");
    rig_do(rig, 0, session, "agent.register agent=bob");
    rig_do(rig, 0, session, "agent.register agent=cy");
    uint64_t seq =
        rig_do(rig, 0, session, "thread.create creator=ada name=G participants=bob thread=general");
    assert_int_equal(seq, 5);
}

static inline json_t *json_of(const char *text)
{
    json_error_t error;
    json_t *tree = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (tree == NULL)
        fail_msg("%s at %d in %s", error.text, error.position, text);
    return tree;
}

/* What stands at a JSON Pointer of a call's body, compactly; `expected` NULL: nothing. */
static inline void expect_at(struct call *call, const char *pointer, const char *expected)
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

static inline void expect_statuses(struct call *call, const char *expected)
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

static inline void expect_error(struct call *call, unsigned error)
{
    if (call->request->error != error)
        fail_msg("error %u (%s), not %u", call->request->error, call->request->refusal.detail,
                 error);
}

static inline struct call *answered(struct call *call)
{
    call_wait(call_send(call));
    assert_int_equal(call->sent, 0);
    return call;
}

static inline struct call *answered_well(struct call *call)
{
    answered(call);
    expect_error(call, 0);
    return call;
}

static inline void expect_refused(struct rig *rig, struct request *request, unsigned error)
{
    struct call *call = rig_ask(rig, 0, request);
    expect_error(call, error);
    assert_int_equal(call->request->body.n, 0);
    call_free(call);
}

static inline struct request *events_request(const char *session, uint64_t after, uint32_t limit)
{
    struct request *request = request_for(REQUEST_EVENTS, session);
    request->has_after = true;
    request->after = after;
    request->limit = limit;
    return request;
}

static inline uint64_t count_events(struct rig *rig, const char *session)
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

static inline void expect_same_view(struct rig *rig, unsigned frontend, const char *session,
                                    const char *expected)
{
    char *view = rig_view(rig, frontend, session);
    assert_non_null(view);
    assert_string_equal(view, expected);
    free(view);
}

/* The follower's snapshot with all its patches is the session's view. */
static inline void expect_folds_to(struct follower *follower, const char *view)
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
    json_t *tree = json_of(view);
    assert_int_equal(json_integer_value(json_object_get(tree, "seq")), seq);
    assert_true(json_equal(json_object_get(tree, "state"), state));
    json_decref(tree);
    json_decref(folded);
}

static inline void expect_folds_to_view(struct follower *follower)
{
    char *view = rig_view(follower->rig, 0, follower->session);
    expect_folds_to(follower, view);
    free(view);
}

static inline void expect_no_gap(const struct follower *follower)
{
    assert_int_equal(follower->gaps, 0);
    assert_int_equal(follower->repeats, 0);
}

static inline struct call *inbox_call(struct rig *rig, unsigned frontend, const char *agent,
                                      bool mentions, bool wait)
{
    struct request *request = request_for(REQUEST_INBOX, "s1");
    request->inbox = (struct core_inbox_query){
        .agent = request_text(request, agent), .mentions = mentions, .limit = 10};
    request->wait = wait;
    return call_new(rig, frontend, request);
}

/* The shard has it: a later request of the same frontend has been answered. */
static inline struct call *held(struct call *wait)
{
    struct call *calls[] = {
        wait, call_new(wait->rig, wait->face->number, request_for(REQUEST_VIEW, "s1"))};
    calls_send(calls, 2);
    call_free(call_wait(calls[1]));
    return wait;
}

static inline struct request *list_request(struct str cursor, uint32_t limit)
{
    struct request *request = request_for(REQUEST_LIST, NULL);
    if (cursor.p != NULL)
        request->cursor = arena_copy(&request->arena, cursor);
    request->limit = limit;
    return request;
}

static inline struct call *cancel_of(struct call *wait)
{
    struct request *request = request_for(REQUEST_CANCEL, "s1");
    request->token = (uint64_t)(uintptr_t)wait;
    return call_new(wait->rig, wait->face->number, request);
}

static inline int open_four(void **state)
{
    *state = malloc(sizeof(struct rig));
    rig_open(*state, 4, io_kind);
    return 0;
}

/* ---- running */

#define TEST(function, setup) cmocka_unit_test_setup_teardown(function, setup, close_rig)

/* All of them, with each io. As in: cluster_test '*batch*' */
static inline int cluster_run(int argc, char **argv, const struct CMUnitTest *tests, size_t n)
{
    struct io *io;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    io_kind = IO_POSIX;
    int failed = _cmocka_run_group_tests("posix", tests, n, NULL, NULL);
    if (io_uring_new(&io) == 0) {
        io->ops->free(io);
        io_kind = IO_URING;
        failed += _cmocka_run_group_tests("io_uring", tests, n, NULL, NULL);
    }
    return failed;
}

#endif
