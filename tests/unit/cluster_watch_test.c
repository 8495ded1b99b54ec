/*
 * Following sessions and waiting for messages, through a whole cluster.
 */
#include "tests/unit/cluster_fixture.h"

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

/* ---- parts and forms of the view */

static const struct core_parts *one_part(const char *pointer)
{
    static max_align_t memory[4];
    struct core_parts *parts = (struct core_parts *)memory;
    parts->n = 1;
    parts->items[0] = (struct str){pointer, strlen(pointer)};
    return parts;
}

/* To be freed. at 0: now. */
static char *view_of_part(struct rig *rig, bool compact, const struct core_parts *parts,
                          uint64_t at)
{
    struct request *request = request_for(REQUEST_VIEW, "s1");
    request->compact = compact;
    request->parts = parts;
    request->at = (struct request_at){.given = at != 0, .seq = at};
    struct call *call = rig_ask(rig, 0, request);
    expect_error(call, 0);
    char *body = strdup(call_body(call));
    call_free(call);
    return body;
}

static void expect_member(const char *body, const char *pointer, const char *expected)
{
    json_t *tree = json_of(body);
    json_t *found = pointer_get(tree, pointer);
    char *text = found == NULL ? NULL : json_dumps(found, JSON_COMPACT | JSON_ENCODE_ANY);
    if (expected == NULL)
        assert_null(text);
    else
        assert_string_equal(text, expected);
    free(text);
    json_decref(tree);
}

static void a_view_is_of_parts_and_compact_now_and_then(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    rig_do(rig, 0, "s1", "message.send thread=general sender=ada content=hello");
    rig_do(rig, 0, "s1", "agent.update agent=ada status=working");
    for (uint64_t at = 0; at <= 6; at += 6) {
        char *body = view_of_part(rig, true, one_part("/threads/general"), at);
        expect_member(body, "/state/agents", "{}");
        expect_member(body, "/state/id", "\"s1\"");
        expect_member(body, "/state/threads/general/messages/0/id", "\"m6\"");
        expect_member(body, "/state/threads/general/messages/0/content", NULL);
        expect_member(body, "/state/threads/general/messages/0/data", NULL);
        free(body);
        body = view_of_part(rig, false, one_part("/agents/ada"), at);
        expect_member(body, "/state/threads", "{}");
        expect_member(body, "/state/agents/bob", NULL);
        expect_member(body, "/state/agents/ada/status", at == 0 ? "\"working\"" : "\"idle\"");
        free(body);
        body = view_of_part(rig, false, NULL, at);
        expect_member(body, "/state/threads/general/messages/0/content", "\"hello\"");
        free(body);
    }
}

static void expect_snapshot(struct follower *follower, const char *reset, const char *view)
{
    assert_int_equal(follower->snapshots, 1);
    buf_add_byte(&follower->snapshot, '\0');
    follower->snapshot.n--;
    expect_member(follower->snapshot.p, "/reset", reset);
    json_t *tree = json_of(follower->snapshot.p);
    json_t *expected = json_of(view);
    assert_true(json_equal(json_object_get(tree, "state"), json_object_get(expected, "state")));
    json_decref(expected);
    json_decref(tree);
}

static void a_compact_view_is_followed_live_and_from_the_log(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct follower *live = follower_new(rig, 0, "s1");
    live->wants = WANTS_COMPACT;
    live->compact = true;
    follower_start(live);
    follower_wait_live(live);
    assert_int_equal(live->snapshots, 1);
    for (int i = 0; i < 3; i++)
        rig_do(rig, 1, "s1", "message.send thread=general sender=ada content=hello");
    rig_do(rig, 1, "s1", "agent.update agent=ada status=working");
    follower_wait_told(live, 9);
    struct follower *log = follower_new(rig, 1, "s1");
    log->wants = WANTS_COMPACT | WANTS_EVENTS;
    log->has_after = true;
    log->after = 5;
    follower_start(log);
    follower_wait_told(log, 9);
    assert_int_equal(log->snapshots, 0);
    char *view = view_of_part(rig, true, NULL, 0);
    expect_no_gap(live);
    expect_folds_to(live, view);
    assert_int_equal(live->items.n, log->items.n);
    assert_memory_equal(live->items.p, log->items.p, log->items.n);
    follower_leave(log);
    follower_free(log);
    follower_leave(live);
    follower_free(live);
    free(view);
}

static void a_snapshot_is_of_the_parts_that_were_asked_for(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct follower *follower = follower_new(rig, 0, "s1");
    follower->wants = WANTS_PATCHES;
    follower->parts = one_part("/agents/ada");
    follower_start(follower);
    follower_wait_live(follower);
    char *part = view_of_part(rig, false, one_part("/agents/ada"), 0);
    expect_snapshot(follower, NULL, part);
    free(part);
    rig_do(rig, 1, "s1", "message.send thread=general sender=ada content=hello");
    follower_wait_told(follower, 6);
    expect_no_gap(follower);
    follower_leave(follower);
    follower_free(follower);
    struct follower *stale = follower_new(rig, 2, "s1");
    stale->stale = "another version of the view";
    stale->wants = WANTS_COMPACT;
    stale->compact = true;
    stale->parts = one_part("/threads");
    follower_start(stale);
    follower_wait_live(stale);
    char *view = view_of_part(rig, true, one_part("/threads"), 0);
    expect_snapshot(stale, "\"another version of the view\"", view);
    free(view);
    follower_leave(stale);
    follower_free(stale);
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(snapshot_and_frames_join_without_gap_or_repeat, open_three),
        TEST(a_follower_catches_up_from_the_log_in_several_pieces, open_three),
        TEST(a_stale_position_gets_a_snapshot_that_says_why, open_three),
        TEST(a_view_is_of_parts_and_compact_now_and_then, open_three),
        TEST(a_compact_view_is_followed_live_and_from_the_log, open_three),
        TEST(a_snapshot_is_of_the_parts_that_were_asked_for, open_three),
        TEST(a_piece_of_an_earlier_life_is_not_given_from_a_later_one, open_one),
        TEST(a_follower_that_does_not_drain_loses_its_feed_once_and_catches_up, open_three),
        TEST(an_inbox_is_answered_at_once_where_there_is_something, open_three),
        TEST(a_wait_is_woken_by_what_it_asks_for_and_by_nothing_else, open_three),
        TEST(a_wait_is_woken_by_joining_a_thread_with_history, open_three),
        TEST(a_cancelled_wait_is_answered_with_nothing, open_three),
        TEST(waits_end_when_the_session_or_the_agent_goes, open_three),
        TEST(an_inbox_reaches_past_the_windows, open_small_windows),
        TEST(a_wait_past_the_windows_misses_nothing_that_comes_meanwhile, open_small_windows),
    };
    return cluster_run(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
