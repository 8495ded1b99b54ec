/*
 * shard_bench: one shard by itself, over an io in which nothing happens until the test says so.
 *
 * The test is its reactor and all its frontends: it pushes onto the request rings, takes turns,
 * completes what was submitted, and looks at the reply rings.
 */
#ifndef ATOLL_TESTS_UNIT_SHARD_BENCH_H
#define ATOLL_TESTS_UNIT_SHARD_BENCH_H

#include "tests/unit/core_fixture.h"
#include "tests/unit/io_fake.h"
#include "tests/unit/shards_fixture.h"

#include "shards/mailbox_internal.h"
#include "shards/shard.h"

#include <errno.h>

enum { FRONTENDS = 2, SEGMENT_BYTES = 1 << 20 };

struct bench {
    struct scratch scratch;
    struct datadir *dir;
    struct io_fake *fake;
    struct shard *shard;
    struct ring requests[FRONTENDS][LANES], replies[FRONTENDS];
    _Atomic(const char *) failed;
    _Atomic uint64_t full; /* what /readyz goes by */
    struct core_limits limits;
    struct shard_settings settings;
    uint64_t segment_bytes;
    int64_t now_ms;
    uint64_t tokens;
};

static inline struct io *bench_io(struct bench *b)
{
    return io_fake_io(b->fake);
}

/* Time passes while something is worked on, and so work is cut into slices. */
static const struct io_ops *plain_ops;

static inline uint64_t ticking_now_ns(struct io *io)
{
    static uint64_t looks;
    return plain_ops->now_ns(io) + ++looks * 20000;
}

static inline void bench_tick(struct bench *b)
{
    static struct io_ops ticking;
    plain_ops = bench_io(b)->ops;
    ticking = *plain_ops;
    ticking.now_ns = ticking_now_ns;
    bench_io(b)->ops = &ticking;
}

static inline void bench_start(struct bench *b)
{
    char error[512] = "";
    uint64_t torn_bytes = 0;
    struct datadir_options options = {.shards = 1, .segment_bytes = b->segment_bytes};
    int result = fs_posix_open(b->scratch.path, true, &options.fs, error, sizeof(error));
    if (result == 0)
        result = datadir_open(&options, &b->dir, error, sizeof(error));
    if (result == 0)
        result = log_clean_tails(b->dir, &torn_bytes, error, sizeof(error));
    b->fake = io_fake_new();
    bench_tick(b);
    struct shard_options shard_options = {
        .number = 0,
        .dir = b->dir,
        .io = bench_io(b),
        .limits = &b->limits,
        .settings = &b->settings,
        .failed = &b->failed,
        .full = &b->full,
    };
    if (result == 0)
        result = shard_new(&shard_options, &b->shard, error, sizeof(error));
    if (result == 0 && datadir_recover_shards(b->dir) == 0)
        result = datadir_begin_generation(b->dir, NULL, NULL);
    if (result == 0)
        result = shard_open(b->shard, LOG_COMMIT, error, sizeof(error));
    if (result != 0)
        fail_msg("the shard did not start: %s", error);
    b->shard->frontends = FRONTENDS; /* more than shards, so that every session is here */
    for (int f = 0; f < FRONTENDS; f++) {
        for (int lane = 0; lane < LANES; lane++)
            ring_init(&b->requests[f][lane], REQUEST_RING_ITEMS);
        ring_init(&b->replies[f], REPLY_RING_ITEMS);
        b->shard->requests[f] = b->requests[f];
        b->shard->replies[f] = &b->replies[f];
    }
}

static inline void bench_stop(struct bench *b)
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
        for (int lane = 0; lane < LANES; lane++)
            ring_free(&b->requests[f][lane]);
        ring_free(&b->replies[f]);
    }
    datadir_close(b->dir, b->failed == NULL);
    free((char *)(uintptr_t)b->failed);
    b->failed = NULL;
}

static inline void bench_prepare(struct bench *b)
{
    *b = (struct bench){.limits = core_limits_default,
                        .settings = shard_settings_default,
                        .segment_bytes = SEGMENT_BYTES};
    b->settings.idle_passivate_ms = 0;
    b->now_ms = INT64_C(1767323045678);
    scratch_make(&b->scratch, false);
}

static inline int open_bench(void **state)
{
    *state = malloc(sizeof(struct bench));
    bench_prepare(*state);
    bench_start(*state);
    return 0;
}

static inline int open_small_windows(void **state)
{
    struct bench *b = malloc(sizeof(*b));
    bench_prepare(b);
    b->limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 2;
    bench_start(b);
    *state = b;
    return 0;
}

static inline int open_small_segments(void **state)
{
    struct bench *b = malloc(sizeof(*b));
    bench_prepare(b);
    b->segment_bytes = 16 * 1024;
    bench_start(b);
    *state = b;
    return 0;
}

static inline int open_large_segments(void **state)
{
    struct bench *b = malloc(sizeof(*b));
    bench_prepare(b);
    b->segment_bytes = 32 << 20;
    bench_start(b);
    *state = b;
    return 0;
}

static inline int close_bench(void **state)
{
    struct bench *b = *state;
    bench_stop(b);
    scratch_remove(&b->scratch);
    request_free_spares();
    free(b);
    return 0;
}

/* ---- turns */

static inline void turn(struct bench *b)
{
    memset(&b->shard->visit, 0, sizeof(b->shard->visit)); /* frontend 0 goes first */
    shard_turn(b->shard, b->now_ms, b->now_ms);
    bench_io(b)->ops->submit(bench_io(b));
}

/* What a reactor does after its turn. */
static inline void reap(struct bench *b)
{
    if (bench_io(b)->ops->reap(bench_io(b)) != 0) {
        shard_commit(b->shard);
        bench_io(b)->ops->submit(bench_io(b));
    }
}

static inline bool under_way(const struct bench *b, enum io_fake_kind kind)
{
    return io_fake_find(b->fake, kind) < io_fake_count(b->fake);
}

/* Completes the oldest of a kind and lets the shard hear of it. */
static inline void complete(struct bench *b, enum io_fake_kind kind)
{
    assert_true(under_way(b, kind));
    io_fake_complete(b->fake, io_fake_find(b->fake, kind));
    reap(b);
}

static inline void fail_one(struct bench *b, enum io_fake_kind kind, int error)
{
    assert_true(under_way(b, kind));
    io_fake_fail(b->fake, io_fake_find(b->fake, kind), error);
    reap(b);
}

/* Until nothing is being read, and all that was read has been looked at. */
static inline void read_all(struct bench *b)
{
    while (under_way(b, IO_FAKE_READ) || b->shard->chores != NULL) {
        while (under_way(b, IO_FAKE_READ))
            complete(b, IO_FAKE_READ);
        if (b->shard->chores != NULL)
            turn(b);
    }
}

/* Turns until there is nothing left to do. */
static inline void settle(struct bench *b)
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

static inline struct request *send_from(struct bench *b, uint16_t frontend, struct request *request)
{
    request->frontend = frontend;
    request->token = ++b->tokens;
    struct ring *ring = &b->requests[frontend][request_lane(request)];
    assert_true(ring_push(ring, (struct ring_item){request, 0}));
    return request;
}

static inline struct request *send(struct bench *b, struct request *request)
{
    return send_from(b, 0, request);
}

static inline struct request *command(const char *session, const char *line)
{
    struct request *request = request_for(REQUEST_COMMANDS, session);
    request_add(request, line);
    return request;
}

static inline struct request *keyed(struct request *request, const char *key)
{
    request->key = request_text(request, key);
    return request;
}

static inline struct request *message(const char *mentions)
{
    char line[128];
    snprintf(line, sizeof(line), "message.send thread=general sender=ada content=x%s%s",
             mentions != NULL ? " mentions=" : "", mentions != NULL ? mentions : "");
    return command("s1", line);
}

static inline struct request *inbox_of_bob(bool mentions, bool wait)
{
    struct request *request = request_for(REQUEST_INBOX, "s1");
    request->inbox =
        (struct core_inbox_query){.agent = STR("bob"), .mentions = mentions, .limit = 10};
    request->wait = wait;
    return request;
}

static inline struct request *page_of(enum request_kind kind, uint64_t after)
{
    struct request *request = request_for(kind, "s1");
    if (kind == REQUEST_MESSAGES)
        request->thread = STR("general");
    request->has_after = true;
    request->after = after;
    request->limit = 1000;
    return request;
}

static inline void expect_silence(struct bench *b)
{
    for (int f = 0; f < FRONTENDS; f++)
        assert_false(ring_ready(&b->replies[f]));
    assert_int_equal(b->shard->wake, 0);
}

static inline struct ring_item expect_item(struct bench *b, unsigned frontend, enum reply_kind kind)
{
    struct ring_item item = {0};
    assert_true(ring_pop(&b->replies[frontend], &item));
    assert_int_equal(reply_kind(item), kind);
    b->shard->wake = 0; /* heard */
    return item;
}

/* The next thing that comes is this request, answered so. Not freed. */
static inline struct request *expect_reply(struct bench *b, struct request *request, unsigned error)
{
    struct ring_item item = expect_item(b, request->frontend, REPLY_REQUEST);
    assert_ptr_equal(reply_pointer(item), request);
    if (request->error != error)
        fail_msg("error %u (%s), not %u", request->error, request->refusal.detail, error);
    return request;
}

static inline void expect(struct bench *b, struct request *request, unsigned error)
{
    request_free(expect_reply(b, request, error));
}

static const char *text_of(struct request *request)
{
    *buf_reserve(&request->body, 1) = '\0';
    return request->body.p;
}

static inline void expect_frame(struct bench *b, unsigned frontend, uint64_t feed, uint64_t first,
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

static inline void expect_seq(struct bench *b, uint64_t seq)
{
    struct request *view = send(b, request_for(REQUEST_VIEW, "s1"));
    settle(b);
    expect_reply(b, view, 0);
    assert_int_equal(view->seq, seq);
    request_free(view);
}

/* seq 4, committed: ada and bob in the thread "general" of session s1. */
static inline void make_session(struct bench *b)
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

static inline void follow(struct bench *b, unsigned frontend, uint64_t feed)
{
    struct request *request = request_for(REQUEST_FOLLOW, "s1");
    request->wants = WANTS_PATCHES;
    request->feed = feed;
    send_from(b, (uint16_t)frontend, request);
    settle(b);
    expect(b, request, 0);
}

#define TEST(function, setup) cmocka_unit_test_setup_teardown(function, setup, close_bench)

#endif
