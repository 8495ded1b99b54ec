/*
 * One shard by itself, over an io in which nothing happens until the test says so: what may leave
 * the shard when, and what becomes of it when the disk fails or is full.
 *
 * The test is its reactor and all its frontends: it pushes onto the request rings, takes turns,
 * completes what was submitted, and looks at the reply rings.
 */
#include "tests/unit/core_fixture.h"
#include "tests/unit/io_fake.h"
#include "tests/unit/shards_fixture.h"

#include "shards/shard.h"

#include <errno.h>

enum { FRONTENDS = 2, SEGMENT_BYTES = 1 << 20 };

struct bench {
    struct scratch scratch;
    struct datadir *dir;
    struct io_fake *fake;
    struct shard *shard;
    struct ring requests[FRONTENDS], replies[FRONTENDS];
    _Atomic(const char *) failed;
    _Atomic uint64_t full; /* what /readyz goes by */
    struct core_limits limits;
    uint64_t segment_bytes;
    int64_t now_ms;
    uint64_t tokens;
};

static struct io *bench_io(struct bench *b)
{
    return io_fake_io(b->fake);
}

static void bench_start(struct bench *b)
{
    char error[512] = "";
    uint64_t torn_bytes = 0;
    struct datadir_options options = {
        .path = b->scratch.path, .shards = 1, .segment_bytes = b->segment_bytes};
    int result = datadir_open(&options, &b->dir, error, sizeof(error));
    if (result == 0)
        result = log_clean_tails(b->dir, &torn_bytes, error, sizeof(error));
    b->fake = io_fake_new();
    struct shard_options shard_options = {
        .number = 0,
        .dir = b->dir,
        .io = bench_io(b),
        .limits = &b->limits,
        .failed = &b->failed,
        .full = &b->full,
    };
    if (result == 0)
        result = shard_new(&shard_options, &b->shard, error, sizeof(error));
    if (result == 0)
        result = shard_open(b->shard, LOG_COMMIT, error, sizeof(error));
    if (result != 0)
        fail_msg("the shard did not start: %s", error);
    b->shard->frontends = FRONTENDS; /* more than shards, so that every session is here */
    for (int f = 0; f < FRONTENDS; f++) {
        ring_init(&b->requests[f], REQUEST_RING_ITEMS);
        ring_init(&b->replies[f], REPLY_RING_ITEMS);
        b->shard->requests[f] = &b->requests[f];
        b->shard->replies[f] = &b->replies[f];
    }
}

static void bench_stop(struct bench *b)
{
    io_fake_set_automatic(b->fake, true);
    for (int i = 0; i < 1000 && !shard_idle(b->shard); i++) {
        shard_turn(b->shard, b->now_ms, b->now_ms);
        bench_io(b)->ops->submit(bench_io(b));
        bench_io(b)->ops->reap(bench_io(b));
    }
    assert_true(shard_idle(b->shard));
    shard_free(b->shard);
    bench_io(b)->ops->free(bench_io(b));
    for (int f = 0; f < FRONTENDS; f++) {
        struct ring_item item;
        while (ring_pop(&b->replies[f], &item)) {
            if (reply_kind(item) == REPLY_REQUEST)
                request_free(reply_pointer(item));
            else if (reply_kind(item) == REPLY_FRAME)
                frame_release(reply_pointer(item));
        }
        ring_free(&b->requests[f]);
        ring_free(&b->replies[f]);
    }
    datadir_close(b->dir, b->failed == NULL);
    free((char *)(uintptr_t)b->failed);
    b->failed = NULL;
}

static void bench_prepare(struct bench *b)
{
    *b = (struct bench){.limits = core_limits_default, .segment_bytes = SEGMENT_BYTES};
    b->now_ms = INT64_C(1767323045678);
    scratch_make(&b->scratch, false);
}

static int open_bench(void **state)
{
    *state = malloc(sizeof(struct bench));
    bench_prepare(*state);
    bench_start(*state);
    return 0;
}

static int open_small_windows(void **state)
{
    struct bench *b = malloc(sizeof(*b));
    bench_prepare(b);
    b->limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 2;
    bench_start(b);
    *state = b;
    return 0;
}

static int open_small_segments(void **state)
{
    struct bench *b = malloc(sizeof(*b));
    bench_prepare(b);
    b->segment_bytes = 16 * 1024;
    bench_start(b);
    *state = b;
    return 0;
}

static int open_large_segments(void **state)
{
    struct bench *b = malloc(sizeof(*b));
    bench_prepare(b);
    b->segment_bytes = 32 << 20;
    bench_start(b);
    *state = b;
    return 0;
}

static int close_bench(void **state)
{
    struct bench *b = *state;
    bench_stop(b);
    scratch_remove(&b->scratch);
    request_free_spares();
    free(b);
    return 0;
}

/* ---- turns */

static void turn(struct bench *b)
{
    shard_turn(b->shard, b->now_ms, b->now_ms);
    bench_io(b)->ops->submit(bench_io(b));
}

/* What a reactor does after its turn. */
static void reap(struct bench *b)
{
    if (bench_io(b)->ops->reap(bench_io(b)) != 0) {
        shard_commit(b->shard);
        bench_io(b)->ops->submit(bench_io(b));
    }
}

static bool under_way(const struct bench *b, enum io_fake_kind kind)
{
    return io_fake_find(b->fake, kind) < io_fake_count(b->fake);
}

/* Completes the oldest of a kind and lets the shard hear of it. */
static void complete(struct bench *b, enum io_fake_kind kind)
{
    assert_true(under_way(b, kind));
    io_fake_complete(b->fake, io_fake_find(b->fake, kind));
    reap(b);
}

static void fail_one(struct bench *b, enum io_fake_kind kind, int error)
{
    assert_true(under_way(b, kind));
    io_fake_fail(b->fake, io_fake_find(b->fake, kind), error);
    reap(b);
}

static void read_all(struct bench *b)
{
    while (under_way(b, IO_FAKE_READ))
        complete(b, IO_FAKE_READ);
}

/* Turns until there is nothing left to do. */
static void settle(struct bench *b)
{
    do {
        turn(b);
        while (io_fake_count(b->fake) != 0) {
            io_fake_complete(b->fake, 0);
            reap(b);
        }
    } while (!shard_idle(b->shard));
}

/* ---- requests and what comes back */

static struct request *send_from(struct bench *b, uint16_t frontend, struct request *request)
{
    request->frontend = frontend;
    request->token = ++b->tokens;
    assert_true(ring_push(&b->requests[frontend], (struct ring_item){request, 0}));
    return request;
}

static struct request *send(struct bench *b, struct request *request)
{
    return send_from(b, 0, request);
}

static struct request *command(const char *session, const char *line)
{
    struct request *request = request_for(REQUEST_COMMANDS, session);
    request_add(request, line);
    return request;
}

static struct request *keyed(struct request *request, const char *key)
{
    request->key = request_text(request, key);
    return request;
}

static struct request *message(const char *mentions)
{
    char line[128];
    snprintf(line, sizeof(line), "message.send thread=general sender=ada content=x%s%s",
             mentions != NULL ? " mentions=" : "", mentions != NULL ? mentions : "");
    return command("s1", line);
}

static struct request *inbox_of_bob(bool mentions, bool wait)
{
    struct request *request = request_for(REQUEST_INBOX, "s1");
    request->inbox =
        (struct core_inbox_query){.agent = STR("bob"), .mentions = mentions, .limit = 10};
    request->wait = wait;
    return request;
}

static struct request *page_of(enum request_kind kind, uint64_t after)
{
    struct request *request = request_for(kind, "s1");
    request->thread = STR("general");
    request->has_after = true;
    request->after = after;
    request->limit = 1000;
    return request;
}

static void expect_silence(struct bench *b)
{
    for (int f = 0; f < FRONTENDS; f++)
        assert_false(ring_ready(&b->replies[f]));
    assert_int_equal(b->shard->wake, 0);
}

static struct ring_item expect_item(struct bench *b, unsigned frontend, enum reply_kind kind)
{
    struct ring_item item = {0};
    assert_true(ring_pop(&b->replies[frontend], &item));
    assert_int_equal(reply_kind(item), kind);
    b->shard->wake = 0; /* heard */
    return item;
}

/* The next thing that comes is this request, answered so. Not freed. */
static struct request *expect_reply(struct bench *b, struct request *request, unsigned error)
{
    struct ring_item item = expect_item(b, request->frontend, REPLY_REQUEST);
    assert_ptr_equal(reply_pointer(item), request);
    if (request->error != error)
        fail_msg("error %u (%s), not %u", request->error, request->refusal.detail, error);
    return request;
}

static void expect(struct bench *b, struct request *request, unsigned error)
{
    request_free(expect_reply(b, request, error));
}

static const char *text_of(struct request *request)
{
    *buf_reserve(&request->body, 1) = '\0';
    return request->body.p;
}

static void expect_frame(struct bench *b, unsigned frontend, uint64_t feed, uint64_t first,
                         uint64_t last)
{
    struct ring_item item = expect_item(b, frontend, REPLY_FRAME);
    struct frame *frame = reply_pointer(item);
    assert_int_equal(item.tag, feed);
    assert_int_equal(frame->first_seq, first);
    assert_int_equal(frame->last_seq, last);
    assert_int_equal(frame->items_n, last - first + 1);
    frame_release(frame);
}

static void expect_seq(struct bench *b, uint64_t seq)
{
    struct request *view = send(b, request_for(REQUEST_VIEW, "s1"));
    settle(b);
    expect_reply(b, view, 0);
    assert_int_equal(view->seq, seq);
    request_free(view);
}

/* seq 4, committed: ada and bob in the thread "general" of session s1. */
static void make_session(struct bench *b)
{
    static const char *const lines[] = {
        "session.create", "agent.register agent=ada", "agent.register agent=bob",
        "thread.create creator=ada name=G participants=bob thread=general"};
    for (int i = 0; i < 4; i++) {
        struct request *request = send(b, command("s1", lines[i]));
        settle(b);
        expect(b, request, 0);
    }
}

static void follow(struct bench *b, unsigned frontend, uint64_t feed)
{
    struct request *request = request_for(REQUEST_FOLLOW, "s1");
    request->wants = WANTS_PATCHES;
    request->feed = feed;
    send_from(b, (uint16_t)frontend, request);
    settle(b);
    expect(b, request, 0);
}

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

/* A record that holds a key and no event ends at the same seq as the one before it. */
static void a_history_begins_at_no_record_that_is_not_committed(void **state)
{
    struct bench *b = *state;
    make_session(b);
    while (b->shard->tree.rbh_root->records < CHAIN_STRIDE - 1) {
        struct request *sent = send(b, message(NULL));
        settle(b);
        expect(b, sent, 0);
    }
    struct request *nothing = send(b, keyed(command("s1", "agent.register agent=ada"), "k"));
    turn(b);
    assert_int_equal(b->shard->tree.rbh_root->chain_n, 1);
    struct request *events = send(b, page_of(REQUEST_EVENTS, CHAIN_STRIDE - 2));
    turn(b);
    read_all(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, nothing, 0);
    expect_reply(b, events, 0);
    assert_non_null(strstr(text_of(events), "\"seq\":31,"));
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
    uint64_t first = b->shard->stats.history_records + CHAIN_STRIDE; /* the first chunk */
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
    populate_past_the_windows(b);
    for (int i = 0; i < CHAIN_STRIDE; i++) { /* the log is read in two chunks */
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
    complete(b, IO_FAKE_READ);
    expect_silence(b);
    complete(b, IO_FAKE_APPEND);
    expect(b, end, 0);
    expect(b, events, CORE_E_UNKNOWN_SESSION);
}

/* ---- a log that fails */

static void a_failed_append_shows_nothing_of_what_it_held(void **state)
{
    struct bench *b = *state;
    make_session(b);
    follow(b, 1, 77);
    struct request *wait = send_from(b, 1, inbox_of_bob(true, true));
    turn(b);
    struct request *flying[] = {message("bob"), request_for(REQUEST_VIEW, "s1"),
                                keyed(command("s2", "session.create"), "k"),
                                request_for(REQUEST_VIEW, "s2")};
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
    struct request *view = send(b, request_for(REQUEST_VIEW, "s1"));
    struct request *none = send(b, request_for(REQUEST_VIEW, "s9"));
    struct request *same = send(b, command("s1", "agent.register agent=ada"));
    struct request *events = send(b, page_of(REQUEST_EVENTS, 4 + n));
    struct request *again = send(b, keyed(message("bob"), "k"));
    turn(b);
    expect_reply(b, view, 0);
    assert_int_equal(view->seq, 5 + n);
    request_free(view);
    expect(b, none, CORE_E_UNKNOWN_SESSION);
    expect(b, same, 0);
    read_all(b);
    expect(b, events, 0);
    expect_reply(b, again, 0);
    assert_string_equal(text_of(again), text_of(key));
    request_free(again);
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

#define TEST(function, setup) cmocka_unit_test_setup_teardown(function, setup, close_bench)

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
