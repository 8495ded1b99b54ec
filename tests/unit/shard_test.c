/*
 * What may leave a shard when: nothing before it is committed.
 */
#include "tests/unit/shard_bench.h"

/* ---- nothing leaves before it is committed */

static void a_reply_waits_for_the_commit_of_its_command(void **state)
{
    struct bench *b = *state;
    struct request *request = send(b, command("s1", "session.create"));
    turn(b);
    turn(b);
    assert_int_equal(io_fake_count(b->fake), 1);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    assert_int_equal(b->shard->wake, 1);
    expect(b, request, 0);
    expect_silence(b);
    assert_true(shard_idle(b->shard));
}

static void one_batch_is_in_flight_and_the_next_gathers_what_comes(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *first = send(b, message(NULL));
    turn(b);
    struct request *second = send(b, message(NULL));
    turn(b);
    struct request *third = send(b, message(NULL));
    turn(b);
    assert_int_equal(io_fake_count(b->fake), 1);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, first, 0);
    expect_silence(b);
    assert_int_equal(io_fake_count(b->fake), 1);
    complete(b, IO_FAKE_APPEND);
    expect(b, second, 0);
    expect(b, third, 0);
    expect_silence(b);
}

/* Whatever speaks of an uncommitted state is held with it, and all of it leaves in order. */
static void every_kind_of_answer_waits_for_what_it_saw(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *stale = command("s1", "agent.update agent=ada status=idle");
    stale->expected_epoch = STR("other");
    struct request *thread = request_for(REQUEST_THREAD, "s1");
    thread->thread = STR("general");
    struct request *list = request_for(REQUEST_LIST, NULL);
    list->limit = 10;
    struct request *unknown = command("s1", "message.send thread=none sender=ada content=x");
    struct request *same = command("s1", "agent.register agent=ada");
    struct request *held[] = {
        keyed(message("bob"), "k"),      unknown, same, stale,
        request_for(REQUEST_VIEW, "s1"), thread,  list, inbox_of_bob(false, false),
        inbox_of_bob(false, true),
    };
    static const unsigned errors[] = {0, CORE_E_UNKNOWN_THREAD, 0, CORE_E_EXPECTED_SEQ, 0, 0, 0, 0,
                                      0};
    enum { HELD = sizeof(held) / sizeof(held[0]) };
    for (int i = 0; i < HELD; i++) {
        send(b, held[i]);
        turn(b);
        expect_silence(b);
    }
    /* A status tells figures, and none of a session. */
    struct request *status = send(b, request_for(REQUEST_STATUS, NULL));
    turn(b);
    expect(b, status, 0);
    complete(b, IO_FAKE_APPEND);
    for (int i = 0; i < HELD; i++)
        expect(b, held[i], errors[i]);
    expect_silence(b);
    assert_int_equal(io_fake_count(b->fake), 0);
}

static void a_repeated_answer_waits_for_the_first(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *first = send(b, keyed(message(NULL), "k"));
    struct request *again = send_from(b, 1, keyed(message(NULL), "k"));
    struct request *other = send_from(b, 1, keyed(message("bob"), "k"));
    turn(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect_reply(b, first, 0);
    expect(b, other, CORE_E_KEY_REUSED);
    read_all(b);
    expect_reply(b, again, 0);
    assert_true(again->replayed && !first->replayed);
    assert_string_equal(text_of(again), text_of(first));
    request_free(first);
    request_free(again);
}

/* Its writers never pause: there is always something of the session that is not committed. */
static void a_repeated_answer_waits_for_nothing_but_the_first(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *first = send(b, keyed(message(NULL), "k"));
    struct request *again = send_from(b, 1, keyed(message(NULL), "k"));
    turn(b);
    for (int i = 0; i < 10; i++) {
        send(b, message(NULL));
        turn(b);
        complete(b, IO_FAKE_APPEND);
        assert_true(under_way(b, IO_FAKE_APPEND));
        read_all(b);
    }
    struct ring_item item = {0};
    assert_true(ring_pop(&b->replies[1], &item));
    assert_ptr_equal(reply_pointer(item), again);
    assert_true(again->replayed);
    request_free(again);
    settle(b);
    expect(b, first, 0);
}

static void a_404_waits_for_the_deletion_that_it_saw(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *gone[] = {request_for(REQUEST_DELETE, "s1"), request_for(REQUEST_VIEW, "s1"),
                              message(NULL), inbox_of_bob(false, true), page_of(REQUEST_EVENTS, 0)};
    for (int i = 0; i < 5; i++) {
        send(b, gone[i]);
        turn(b);
        expect_silence(b);
    }
    struct request *unheard_of = send(b, request_for(REQUEST_VIEW, "s2"));
    turn(b);
    expect(b, unheard_of, CORE_E_UNKNOWN_SESSION);
    complete(b, IO_FAKE_APPEND);
    expect(b, gone[0], 0);
    for (int i = 1; i < 5; i++)
        expect(b, gone[i], CORE_E_UNKNOWN_SESSION);
    assert_int_equal(b->shard->table.count, 0);
}

static void a_refused_creation_waits_for_the_deletion_before_it(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *end = send(b, request_for(REQUEST_DELETE, "s1"));
    struct request *batch = command("s1", "session.create");
    request_add(batch, "agent.leave agent=ada");
    batch->batch = batch->atomic = true;
    send(b, batch);
    struct request *create = send(b, command("s1", "session.create"));
    turn(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, end, 0);
    expect(b, batch, CORE_E_REFUSED);
    expect(b, create, 0);
}

/* Pages are read from the log, and so hold what is committed; but that there is such a session or
 * thread is shown by an empty one too. */
static void a_page_of_what_has_just_been_made_waits(void **state)
{
    struct bench *b = *state;
    struct request *create = send(b, command("s1", "session.create"));
    struct request *events = send(b, page_of(REQUEST_EVENTS, 0));
    turn(b);
    read_all(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, create, 0);
    read_all(b);
    expect_reply(b, events, 0);
    assert_non_null(strstr(text_of(events), "session.created"));
    request_free(events);

    struct request *ada = send(b, command("s1", "agent.register agent=ada"));
    settle(b);
    expect(b, ada, 0);
    struct request *thread =
        send(b, command("s1", "thread.create creator=ada name=G participants=ada thread=general"));
    struct request *messages = send(b, page_of(REQUEST_MESSAGES, 0));
    turn(b);
    read_all(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, thread, 0);
    expect(b, messages, 0);
}

/* For a connection on which many commands are under way: a line each, the ref first. */
static void results_with_refs_are_lines(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *batch = message(NULL);
    batch->commands[0].ref = STR("\"one\"");
    request_add(batch, "message.send thread=none sender=ada content=x")->ref = STR("-2");
    struct request_command *again =
        request_add(batch, "message.send thread=general sender=bob content=x");
    again->key = STR("k");
    struct request_command *repeated =
        request_add(batch, "message.send thread=general sender=bob content=x");
    repeated->key = STR("k");
    repeated->ref = STR("4");
    batch->batch = batch->refs = true;
    send(b, batch);
    settle(b);
    expect_reply(b, batch, 0);
    assert_string_equal(
        text_of(batch),
        "{\"ref\":\"one\",\"status\":200,\"seq\":5,\"id\":\"m5\"}\n"
        "{\"ref\":-2,\"status\":404,\"error\":{\"type\":\"/problems/unknown-thread\","
        "\"title\":\"Unknown thread\",\"status\":404,"
        "\"detail\":\"There is no thread \\\"none\\\" in the session.\",\"field\":\"thread\"}}\n"
        "{\"status\":200,\"seq\":6,\"id\":\"m6\"}\n"
        "{\"ref\":4,\"status\":200,\"seq\":6,\"id\":\"m6\",\"replayed\":true}");
    request_free(batch);
    struct request *lost = request_for(REQUEST_COMMANDS, "nowhere");
    request_add(lost, "message.send thread=general sender=bob content=x")->ref = STR("1");
    lost->batch = lost->refs = true;
    send(b, lost);
    settle(b);
    expect_reply(b, lost, CORE_E_UNKNOWN_SESSION);
    assert_int_equal(lost->body.n, 0);
    request_free(lost);
}

static void a_snapshot_and_the_frames_behind_it_leave_in_the_order_of_the_events(void **state)
{
    struct bench *b = *state;
    make_session(b);
    follow(b, 1, 77);
    struct request *first = send(b, message(NULL));
    struct request *batch = message(NULL);
    request_add(batch, "message.send thread=general sender=bob content=x");
    batch->batch = true;
    send_from(b, 1, batch);
    turn(b);
    struct request *late = request_for(REQUEST_FOLLOW, "s1");
    late->wants = WANTS_PATCHES;
    late->feed = 88;
    send(b, late);
    struct request *last = send_from(b, 1, message(NULL));
    turn(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect_frame(b, 1, 77, 5, 5);
    expect_frame(b, 1, 77, 6, 7);
    expect(b, batch, 0);
    /* What was on its way when it attached may come to it too: it is no later than `attached`. */
    expect_frame(b, 0, 88, 5, 5);
    expect(b, first, 0);
    expect_frame(b, 0, 88, 6, 7);
    expect_reply(b, late, 0);
    assert_int_equal(late->attached, 7);
    assert_non_null(strstr(text_of(late), "\"seq\":7,"));
    request_free(late);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect_frame(b, 0, 88, 8, 8);
    expect_frame(b, 1, 77, 8, 8);
    expect(b, last, 0);
}

static void the_end_of_a_feed_comes_behind_its_last_frame(void **state)
{
    struct bench *b = *state;
    make_session(b);
    follow(b, 1, 77);
    struct request *requests[] = {message(NULL), request_for(REQUEST_DELETE, "s1"),
                                  command("s1", "session.create")};
    for (int i = 0; i < 3; i++)
        send(b, requests[i]);
    turn(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect_frame(b, 1, 77, 5, 5);
    assert_int_equal(expect_item(b, 1, REPLY_ENDED).tag, 77);
    for (int i = 0; i < 3; i++)
        expect(b, requests[i], 0);
    expect_silence(b);
}

static void a_wait_is_woken_when_its_message_is_committed(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *wait = send_from(b, 1, inbox_of_bob(true, true));
    struct request *batch = message("bob");
    request_add(batch, "message.send thread=none sender=ada content=x");
    batch->batch = batch->atomic = true;
    send(b, batch);
    turn(b); /* undone: nothing has happened */
    expect(b, batch, CORE_E_REFUSED);
    struct request *sent = send(b, message("bob"));
    turn(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, wait, 0);
    expect(b, sent, 0);
}

static void only_frontends_that_get_something_are_woken(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *view = send(b, request_for(REQUEST_VIEW, "s1"));
    turn(b);
    assert_int_equal(b->shard->wake, 1 << 0);
    expect(b, view, 0);
    view = send_from(b, 1, request_for(REQUEST_VIEW, "s1"));
    turn(b);
    assert_int_equal(b->shard->wake, 1 << 1);
    expect(b, view, 0);
    follow(b, 1, 77);
    struct request *sent = send(b, message(NULL));
    turn(b);
    assert_int_equal(b->shard->wake, 0);
    complete(b, IO_FAKE_APPEND);
    assert_int_equal(b->shard->wake, 1 << 0 | 1 << 1);
    expect(b, sent, 0);
    expect_frame(b, 1, 77, 5, 5);
}

/* ---- reading the log while it is written */

/* What is in the log and not committed is no way back either: neither the newest record, which here
 * holds a key and no event, nor a snapshot. */
static void a_history_begins_at_no_record_that_is_not_committed(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *nothing = send(b, keyed(command("s1", "agent.register agent=ada"), "k"));
    turn(b);
    struct session *session = session_find(b->shard, STR("s1"));
    assert_true(session->head > session->committed_head);
    struct request *events = send(b, page_of(REQUEST_EVENTS, 2));
    turn(b);
    read_all(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, nothing, 0);
    expect_reply(b, events, 0);
    assert_non_null(strstr(text_of(events), "\"seq\":3,"));
    assert_non_null(strstr(text_of(events), "\"seq\":4,"));
    request_free(events);

    b->shard->settings.snapshot_bytes = 1;
    struct request *sent = send(b, message(NULL));
    turn(b);
    assert_true(session->base > session->committed_head);
    events = send(b, page_of(REQUEST_EVENTS, 2));
    struct request *past = request_for(REQUEST_VIEW, "s1");
    past->at = (struct request_at){.given = true, .seq = 3};
    send(b, past);
    turn(b);
    read_all(b);
    expect_reply(b, past, 0); /* it shows nothing of what is not committed */
    assert_int_equal(past->seq, 3);
    request_free(past);
    expect_silence(b); /* the events say where it stands */
    complete(b, IO_FAKE_APPEND);
    settle(b);
    expect(b, sent, 0);
    expect_reply(b, events, 0);
    assert_non_null(strstr(text_of(events), "\"seq\":3,"));
    request_free(events);
}

/* All but the newest two messages lie in the log alone. */
static void populate_past_the_windows(struct bench *b)
{
    make_session(b);
    for (int i = 0; i < 10; i++) {
        struct request *sent = send(b, message(NULL));
        settle(b);
        expect(b, sent, 0);
    }
}

static void a_wait_hears_of_what_came_while_it_read_the_log(void **state)
{
    struct bench *b = *state;
    populate_past_the_windows(b);
    struct request *wait = send_from(b, 1, inbox_of_bob(true, true));
    turn(b);
    assert_true(under_way(b, IO_FAKE_READ));
    struct request *sent = send(b, message("bob"));
    turn(b);
    read_all(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, sent, 0);
    read_all(b);
    expect_reply(b, wait, 0);
    assert_non_null(strstr(text_of(wait), "\"id\":\"m15\""));
    request_free(wait);
}

static void a_wait_hears_of_what_was_not_committed_when_it_came(void **state)
{
    struct bench *b = *state;
    populate_past_the_windows(b);
    struct request *sent = send(b, message("bob"));
    struct request *wait = send_from(b, 1, inbox_of_bob(true, true));
    turn(b);
    read_all(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, sent, 0);
    read_all(b);
    expect(b, wait, 0);
}

static void an_inbox_past_the_windows_is_answered_while_others_write(void **state)
{
    struct bench *b = *state;
    populate_past_the_windows(b);
    send(b, message(NULL));
    turn(b);
    struct request *inbox = send_from(b, 1, inbox_of_bob(false, false));
    for (int i = 0; i < 10; i++) {
        send(b, message(NULL));
        turn(b);
        complete(b, IO_FAKE_APPEND);
        assert_true(under_way(b, IO_FAKE_APPEND));
        read_all(b);
    }
    expect(b, inbox, 0);
}

static void expect_whole_inbox(struct bench *b, bool batch_first)
{
    struct request *inbox = send_from(b, 1, inbox_of_bob(false, false));
    turn(b);
    assert_true(under_way(b, IO_FAKE_READ));
    uint64_t first = b->shard->stats.history_records + 3; /* in the midst of it */
    struct request *batch = command("s1", "thread.read thread=general agent=bob upto=12");
    batch->batch = batch->atomic = true;
    for (int i = 0; i < 40000; i++)
        request_add(batch, "agent.update agent=ada note=x");
    request_add(batch, "message.send thread=none sender=ada content=x");
    send(b, batch);
    turn(b);
    assert_non_null(b->shard->running);
    while (under_way(b, IO_FAKE_READ) && (!batch_first || b->shard->stats.history_records < first))
        complete(b, IO_FAKE_READ);
    while (b->shard->running != NULL)
        turn(b);
    settle(b);
    expect(b, batch, CORE_E_REFUSED);
    expect_reply(b, inbox, 0);
    assert_non_null(strstr(text_of(inbox), "\"id\":\"m5\""));
    assert_non_null(strstr(text_of(inbox), "\"id\":\"m14\""));
    request_free(inbox);
}

/* The batch reads everything, and is undone in the end: before the log has been read, or after. */
static void an_inbox_is_not_read_against_half_a_batch(void **state)
{
    struct bench *b = *state;
    b->shard->settings.snapshot_bytes = 1000;
    populate_past_the_windows(b);
    for (int i = 0; i < 32; i++) { /* the log is read in several chunks */
        struct request *sent = send(b, message(NULL));
        settle(b);
        expect(b, sent, 0);
    }
    for (int round = 0; round < 2; round++)
        expect_whole_inbox(b, round == 0);
}

static void a_record_that_cannot_be_read_back_is_said_so(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *events = send(b, page_of(REQUEST_EVENTS, 0));
    turn(b);
    fail_one(b, IO_FAKE_READ, -EIO);
    expect(b, events, CORE_E_INVARIANT);
    expect_seq(b, 4);
}

static void a_history_ends_with_the_life_it_reads(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *events = send(b, page_of(REQUEST_EVENTS, 0));
    turn(b);
    struct request *end = send(b, request_for(REQUEST_DELETE, "s1"));
    turn(b);
    read_all(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, end, 0);
    expect(b, events, CORE_E_UNKNOWN_SESSION);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reply_waits_for_the_commit_of_its_command, open_bench),
        TEST(one_batch_is_in_flight_and_the_next_gathers_what_comes, open_bench),
        TEST(every_kind_of_answer_waits_for_what_it_saw, open_bench),
        TEST(a_repeated_answer_waits_for_the_first, open_bench),
        TEST(a_repeated_answer_waits_for_nothing_but_the_first, open_bench),
        TEST(a_404_waits_for_the_deletion_that_it_saw, open_bench),
        TEST(a_refused_creation_waits_for_the_deletion_before_it, open_bench),
        TEST(a_page_of_what_has_just_been_made_waits, open_bench),
        TEST(results_with_refs_are_lines, open_bench),
        TEST(a_snapshot_and_the_frames_behind_it_leave_in_the_order_of_the_events, open_bench),
        TEST(the_end_of_a_feed_comes_behind_its_last_frame, open_bench),
        TEST(a_wait_is_woken_when_its_message_is_committed, open_bench),
        TEST(only_frontends_that_get_something_are_woken, open_bench),
        TEST(a_history_begins_at_no_record_that_is_not_committed, open_bench),
        TEST(a_wait_hears_of_what_came_while_it_read_the_log, open_small_windows),
        TEST(a_wait_hears_of_what_was_not_committed_when_it_came, open_small_windows),
        TEST(an_inbox_past_the_windows_is_answered_while_others_write, open_small_windows),
        TEST(an_inbox_is_not_read_against_half_a_batch, open_small_windows),
        TEST(a_record_that_cannot_be_read_back_is_said_so, open_bench),
        TEST(a_history_ends_with_the_life_it_reads, open_bench),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
