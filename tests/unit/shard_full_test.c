/*
 * What becomes of requests when the disk fails, is full, or has no room for the moment.
 */
#include "tests/unit/shard_bench.h"

/* ---- a log that fails */

static void a_failed_append_shows_nothing_of_what_it_held(void **state)
{
    struct bench *b = *state;
    make_session(b);
    follow(b, 1, 77);
    struct request *wait = send_from(b, 1, inbox_of_bob(true, true));
    turn(b);
    /* Views behind commands: that is how a shard takes them. */
    struct request *flying[] = {message("bob"), keyed(command("s2", "session.create"), "k"),
                                request_for(REQUEST_VIEW, "s1"), request_for(REQUEST_VIEW, "s2")};
    for (int i = 0; i < 4; i++)
        send(b, flying[i]);
    turn(b);
    struct request *list = request_for(REQUEST_LIST, NULL);
    list->limit = 10;
    struct request *building[] = {message(NULL), request_for(REQUEST_DELETE, "s1"),
                                  command("s1", "session.create"), list};
    for (int i = 0; i < 4; i++)
        send(b, building[i]);
    turn(b);
    expect_silence(b);
    fail_one(b, IO_FAKE_APPEND, -EIO);
    assert_non_null(b->failed);
    assert_non_null(strstr(b->failed, strerror(EIO)));
    assert_int_equal(health_get(&b->shard->health->log).state, HEALTH_FAILED);
    assert_non_null(strstr(health_get(&b->shard->health->log).error, strerror(EIO)));
    for (int i = 0; i < 4; i++)
        expect(b, flying[i], REQUEST_E_UNAVAILABLE);
    for (int i = 0; i < 4; i++)
        expect(b, building[i], REQUEST_E_UNAVAILABLE);
    expect(b, wait, REQUEST_E_UNAVAILABLE);
    expect_silence(b);

    struct request *after[] = {message(NULL), request_for(REQUEST_VIEW, "s1"),
                               request_for(REQUEST_VIEW, "s2")};
    for (int i = 0; i < 3; i++)
        send(b, after[i]);
    turn(b);
    for (int i = 0; i < 3; i++)
        expect(b, after[i], REQUEST_E_UNAVAILABLE);
    expect_silence(b);
    assert_true(shard_idle(b->shard));

    bench_stop(b);
    bench_start(b);
    struct request *gone = send(b, request_for(REQUEST_VIEW, "s2"));
    turn(b);
    expect(b, gone, CORE_E_UNKNOWN_SESSION);
}

/* The write was told to have failed, but it is there: the next start may show it, since nobody was
 * told the contrary. */
static void what_a_failed_append_left_on_disk_is_whole_or_not_there(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *sent = send(b, message(NULL));
    turn(b);
    io_fake_tear(b->fake, 0, UINT64_MAX, -EIO);
    reap(b);
    expect(b, sent, REQUEST_E_UNAVAILABLE);
    bench_stop(b);
    bench_start(b);
}

static void a_batch_in_slices_does_not_outlive_the_log(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *batch = message(NULL);
    batch->batch = true;
    for (int i = 0; i < 40000; i++)
        request_add(batch, "message.send thread=general sender=ada content=x");
    struct request *other = send(b, command("s2", "session.create"));
    turn(b);
    send(b, batch);
    turn(b);
    struct request *view = send(b, request_for(REQUEST_VIEW, "s1"));
    turn(b);
    assert_true(b->shard->running != NULL);
    fail_one(b, IO_FAKE_APPEND, -EIO);
    expect(b, other, REQUEST_E_UNAVAILABLE);
    while (b->shard->running != NULL)
        turn(b);
    expect(b, batch, REQUEST_E_UNAVAILABLE);
    assert_ptr_equal(reply_pointer(expect_item(b, 0, REPLY_REQUEST)), view);
    assert_true(view->error == REQUEST_E_UNAVAILABLE || view->seq == 4);
    request_free(view);
    assert_true(shard_idle(b->shard));
}

/* Another shard's log has failed: the process ends. What this one holds is still written, and
 * answered as it is; nothing further is taken. */
static void what_is_held_is_answered_when_another_log_fails(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *flying = send(b, message(NULL));
    turn(b);
    struct request *building = send(b, message(NULL));
    turn(b);
    b->failed = strdup("the log of shard 1 failed");
    struct request *late = send(b, message(NULL));
    complete(b, IO_FAKE_APPEND);
    expect(b, flying, 0);
    turn(b);
    expect(b, late, REQUEST_E_UNAVAILABLE);
    assert_false(shard_idle(b->shard));
    complete(b, IO_FAKE_APPEND);
    expect(b, building, 0);
    assert_true(shard_idle(b->shard));
}

/* ---- a disk that is full */

/* Messages until the log has no room; returns how many there were room for. */
static unsigned fill(struct bench *b)
{
    for (unsigned n = 0;; n++) {
        struct request *sent = send(b, message("bob"));
        turn(b);
        while (io_fake_count(b->fake) != 0) {
            if (io_fake_kind(b->fake, 0) == IO_FAKE_JOB)
                fail_one(b, IO_FAKE_JOB, -ENOSPC);
            else
                complete(b, io_fake_kind(b->fake, 0));
            turn(b);
        }
        struct ring_item item = expect_item(b, 0, REPLY_REQUEST);
        assert_ptr_equal(reply_pointer(item), sent);
        unsigned error = sent->error;
        request_free(sent);
        if (error != 0) {
            assert_int_equal(error, REQUEST_E_NO_SPACE);
            return n;
        }
    }
}

static void a_full_disk_refuses_commands_and_changes_nothing(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *key = send(b, keyed(message("bob"), "k"));
    settle(b);
    expect_reply(b, key, 0);
    follow(b, 1, 77);
    unsigned n = fill(b);
    assert_true(n > 5);
    for (unsigned i = 0; i < n; i++)
        expect_frame(b, 1, 77, 6 + i, 6 + i);
    expect_silence(b);

    /* Nothing of what was refused: not its seq, not its key, not as news. */
    struct request *wait = inbox_of_bob(true, true);
    wait->inbox.from = STR("bob");
    send(b, wait);
    struct request *refused = send(b, keyed(message("bob"), "k2"));
    turn(b);
    expect(b, refused, REQUEST_E_NO_SPACE);
    refused = send(b, keyed(message(NULL), "k2"));
    struct request *create = send(b, command("s9", "session.create"));
    turn(b);
    expect(b, refused, REQUEST_E_NO_SPACE);
    expect(b, create, REQUEST_E_NO_SPACE);

    /* What is committed can be read, and repeated answers are given. */
    struct request *same = send(b, command("s1", "agent.register agent=ada"));
    struct request *view = send(b, request_for(REQUEST_VIEW, "s1"));
    struct request *none = send(b, request_for(REQUEST_VIEW, "s9"));
    struct request *events = send(b, page_of(REQUEST_EVENTS, 4 + n));
    struct request *again = send(b, keyed(message("bob"), "k"));
    turn(b);
    expect(b, same, 0);
    expect_reply(b, view, 0);
    assert_int_equal(view->seq, 5 + n);
    request_free(view);
    expect(b, none, CORE_E_UNKNOWN_SESSION);
    read_all(b);
    expect_reply(b, again, 0); /* one record and no more */
    assert_string_equal(text_of(again), text_of(key));
    request_free(again);
    expect(b, events, 0);
    request_free(key);
    struct request *cancel = request_for(REQUEST_CANCEL, "s1");
    send(b, cancel);
    cancel->token = wait->token;
    turn(b);
    expect(b, wait, 0);
    expect(b, cancel, 0);
}

static void it_goes_on_when_there_is_room_again(void **state)
{
    struct bench *b = *state;
    make_session(b);
    unsigned n = fill(b);
    io_fake_advance_ms(b->fake, 1001);
    struct request *sent = send(b, message(NULL));
    turn(b); /* which asks for a segment again */
    while (under_way(b, IO_FAKE_JOB))
        complete(b, IO_FAKE_JOB);
    settle(b);
    request_free(reply_pointer(expect_item(b, 0, REPLY_REQUEST)));
    (void)sent;
    sent = send(b, message(NULL));
    settle(b);
    expect_reply(b, sent, 0);
    assert_true(sent->seq == 4 + n + 1 || sent->seq == 4 + n + 2);
    uint64_t seq = sent->seq;
    request_free(sent);
    bench_stop(b);
    bench_start(b);
    expect_seq(b, seq);
}

static void a_full_disk_is_told_until_there_is_room_again(void **state)
{
    struct bench *b = *state;
    make_session(b);
    assert_int_equal(b->full, 0);
    fill(b);
    assert_int_equal(b->full, 1);
    turn(b);
    assert_int_equal(b->full, 1);
    /* Nobody sends anything: the shard looks for itself. */
    while (b->full != 0) {
        b->now_ms += FULL_LOOK_MS;
        io_fake_advance_ms(b->fake, FULL_LOOK_MS);
        assert_in_range(shard_tick(b->shard), 0, FULL_LOOK_MS);
        turn(b);
        while (under_way(b, IO_FAKE_JOB))
            complete(b, IO_FAKE_JOB);
    }
    assert_int_equal(shard_tick(b->shard), -1);
}

static void a_session_can_be_deleted_on_a_full_disk(void **state)
{
    struct bench *b = *state;
    make_session(b);
    fill(b);
    struct request *end = send(b, request_for(REQUEST_DELETE, "s1"));
    turn(b);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, end, 0);
    bench_stop(b);
    bench_start(b);
    struct request *view = send(b, request_for(REQUEST_VIEW, "s1"));
    turn(b);
    expect(b, view, CORE_E_UNKNOWN_SESSION);
}

static void a_new_session_that_has_no_room_is_not_there(void **state)
{
    struct bench *b = *state;
    make_session(b);
    fill(b);
    struct request *create = send(b, command("s2", "session.create"));
    struct request *batch = command("s2", "session.create");
    request_add(batch, "agent.register agent=ada");
    batch->batch = true;
    send(b, batch);
    struct request *view = send(b, request_for(REQUEST_VIEW, "s2"));
    turn(b);
    expect(b, create, REQUEST_E_NO_SPACE);
    expect(b, batch, REQUEST_E_NO_SPACE);
    expect(b, view, CORE_E_UNKNOWN_SESSION);
    assert_int_equal(b->shard->sessions, 1);
}

/* ---- no room for the moment */

/* The segment is full and the next one not ready: what comes is held, in order, and nothing else
 * is taken from the rings. */
static void requests_wait_in_order_for_the_next_segment(void **state)
{
    struct bench *b = *state;
    make_session(b);
    enum { MANY = 120 };
    struct request *sent[MANY];
    for (int i = 0; i < MANY; i++) {
        sent[i] = message(NULL);
        sent[i]->commands[0].command.f.content =
            request_text(sent[i], i % 2 == 0 ? "short"
                                             : "long-enough-to-need-more-room-than-the-other-one-"
                                               "long-enough-to-need-more-room-than-the-other-one-"
                                               "long-enough-to-need-more-room-than-the-other-one");
        send(b, sent[i]);
    }
    for (int i = 0; i < 20; i++) {
        turn(b);
        while (under_way(b, IO_FAKE_APPEND))
            complete(b, IO_FAKE_APPEND);
    }
    assert_non_null(b->shard->stalled);
    assert_false(shard_pending(b->shard));
    assert_false(shard_idle(b->shard));
    assert_true(shard_tick(b->shard) >= 0);
    settle(b);
    for (uint64_t i = 0; i < MANY; i++) {
        expect_reply(b, sent[i], 0);
        assert_int_equal(sent[i]->seq, 5 + i);
        request_free(sent[i]);
    }
}

static struct request *long_batch(const char *session, unsigned n, size_t bytes)
{
    struct request *batch = request_for(REQUEST_COMMANDS, session);
    struct str content = {arena_alloc(&batch->arena, bytes), bytes};
    memset((char *)(uintptr_t)content.p, 'x', bytes);
    batch->batch = true;
    for (unsigned i = 0; i < n; i++) {
        struct request_command *item =
            request_add(batch, "message.send thread=general sender=ada content=x");
        item->command.f.content = content;
    }
    return batch;
}

/* More than a batch of the log holds along with anything else: it needs one for itself. */
static void a_record_larger_than_a_batch_gets_its_turn_while_others_write(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *create = send(b, command("s2", "session.create"));
    settle(b);
    expect(b, create, 0);
    struct request *batch = send(b, long_batch("s1", 4000, 2500));
    struct request *behind = send(b, message(NULL));
    unsigned turns = 0;
    struct request *answered = NULL;
    while (answered == NULL && turns++ < 2000) {
        char line[64];
        snprintf(line, sizeof(line), "session.update labels=turn:%u", turns);
        send_from(b, 1, command("s2", line));
        turn(b);
        while (io_fake_count(b->fake) != 0 && io_fake_kind(b->fake, 0) != IO_FAKE_APPEND)
            complete(b, io_fake_kind(b->fake, 0));
        if (turns % 2 == 0 && under_way(b, IO_FAKE_APPEND))
            complete(b, IO_FAKE_APPEND);
        struct ring_item item;
        if (ring_pop(&b->replies[0], &item))
            answered = reply_pointer(item);
    }
    assert_ptr_equal(answered, batch);
    assert_int_equal(batch->error, 0);
    assert_int_equal(batch->seq, 4004);
    request_free(batch);
    settle(b);
    expect_reply(b, behind, 0);
    assert_int_equal(behind->seq, 4005);
    request_free(behind);
}

/* A batch in slices that finds no room keeps its place before what came for its session. */
static void a_stalled_batch_keeps_its_place(void **state)
{
    struct bench *b = *state;
    make_session(b);
    struct request *batch = send(b, long_batch("s1", 6000, 100));
    struct request *next = send(b, long_batch("s1", 3000, 100));
    struct request *small[10];
    for (int i = 0; i < 10; i++)
        small[i] = send(b, message(NULL));
    for (int i = 0; i < 2000 && b->shard->stalled == NULL; i++) {
        turn(b);
        while (under_way(b, IO_FAKE_APPEND))
            complete(b, IO_FAKE_APPEND);
    }
    assert_non_null(b->shard->stalled); /* the next segment is not ready */
    settle(b);
    expect_reply(b, batch, 0);
    assert_int_equal(batch->seq, 6004);
    expect_reply(b, next, 0);
    assert_int_equal(next->seq, 9004);
    for (uint64_t i = 0; i < 10; i++) {
        expect_reply(b, small[i], 0);
        assert_int_equal(small[i]->seq, 9005 + i);
        request_free(small[i]);
    }
    request_free(batch);
    request_free(next);
}

/* A commit may let something go that is then worked on in slices: there is a turn for it. */
static void what_a_commit_begins_is_gone_on_with(void **state)
{
    struct bench *b = *state;
    struct request *batches[2];
    for (int i = 0; i < 2; i++) {
        batches[i] = keyed(command("s1", "session.create"), "k");
        batches[i]->batch = true;
        request_add(batches[i], "agent.register agent=ada");
        request_add(batches[i], "thread.create creator=ada name=G participants=ada thread=general");
        for (int n = 0; n < 40000; n++)
            request_add(batches[i], "message.send thread=general sender=ada content=x");
    }
    send(b, batches[0]);
    while (!under_way(b, IO_FAKE_APPEND))
        turn(b);
    send(b, batches[1]); /* waits for the first one's answer */
    struct request *end = send(b, request_for(REQUEST_DELETE, "s1"));
    turn(b);
    expect_silence(b);
    while (under_way(b, IO_FAKE_APPEND))
        complete(b, IO_FAKE_APPEND);
    expect(b, batches[0], 0);
    expect(b, end, 0);
    assert_true(b->shard->running != NULL);
    assert_true(shard_pending(b->shard));
    settle(b);
    expect(b, batches[1], 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_failed_append_shows_nothing_of_what_it_held, open_bench),
        TEST(what_a_failed_append_left_on_disk_is_whole_or_not_there, open_bench),
        TEST(a_batch_in_slices_does_not_outlive_the_log, open_large_segments),
        TEST(what_is_held_is_answered_when_another_log_fails, open_bench),
        TEST(a_full_disk_refuses_commands_and_changes_nothing, open_small_segments),
        TEST(it_goes_on_when_there_is_room_again, open_small_segments),
        TEST(a_full_disk_is_told_until_there_is_room_again, open_small_segments),
        TEST(a_session_can_be_deleted_on_a_full_disk, open_small_segments),
        TEST(a_new_session_that_has_no_room_is_not_there, open_small_segments),
        TEST(requests_wait_in_order_for_the_next_segment, open_small_segments),
        TEST(a_record_larger_than_a_batch_gets_its_turn_while_others_write, open_large_segments),
        TEST(a_stalled_batch_keeps_its_place, open_bench),
        TEST(what_a_commit_begins_is_gone_on_with, open_large_segments),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
