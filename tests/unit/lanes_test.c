/*
 * Lanes: what a shard takes from its rings when there is more than it can do in a turn. Each lane
 * gets its share, none starves, and a lane that has little is not kept waiting by one that is full.
 */
#include "tests/unit/shard_bench.h"

enum { MANY = 2000 };

static int open_session(void **state)
{
    open_bench(state);
    struct bench *b = *state;
    struct request *create = send(b, command("s1", "session.create"));
    settle(b);
    expect_reply(b, create, 0);
    assert_non_null(strstr(text_of(create), "\"seq\":1"));
    request_free(create);
    return 0;
}

static const enum request_kind kinds[LANES] = {REQUEST_UNHAND, REQUEST_EXISTS, REQUEST_VIEW};

static void fill(struct bench *b, uint16_t frontend, enum request_lane lane, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct request *request = request_for(kinds[lane], "s1");
        request->agent = STR("ada");
        send_from(b, frontend, request);
    }
}

static unsigned left(struct bench *b, uint16_t frontend, enum request_lane lane)
{
    return ring_waiting(&b->requests[frontend][lane]);
}

/* One turn of the shard; what it answered is thrown away. */
static void turn_once(struct bench *b)
{
    struct ring_item item;
    shard_turn(b->shard, b->now_ms, b->now_ms);
    bench_io(b)->ops->submit(bench_io(b));
    bench_io(b)->ops->reap(bench_io(b));
    for (int f = 0; f < FRONTENDS; f++) {
        while (ring_pop(&b->replies[f], &item))
            request_free(reply_pointer(item));
    }
}

static void each_lane_gets_its_share(void **state)
{
    struct bench *b = *state;
    for (int lane = 0; lane < LANES; lane++)
        fill(b, 0, lane, MANY);
    uint64_t taken[LANES] = {0};
    /* In turns in which all of them have something. */
    for (int i = 0; i < 2; i++)
        turn_once(b);
    for (int lane = 0; lane < LANES; lane++)
        taken[lane] = MANY - left(b, 0, lane);
    /* To within one share: 8 to 4, and of telemetry what its time is enough for. */
    assert_in_range(taken[LANE_COMMANDS], taken[LANE_CONTROL] / 2 - COMMANDS_SHARE,
                    taken[LANE_CONTROL] / 2 + COMMANDS_SHARE);
    assert_in_range(taken[LANE_TELEMETRY], 1,
                    taken[LANE_CONTROL] / (CONTROL_SHARE / TELEMETRY_SHARE) + TELEMETRY_SHARE);
    while (left(b, 0, LANE_TELEMETRY) != 0)
        turn_once(b);
}

/* However late turns are, and whoever floods which lane. */
static void nobody_starves(void **state)
{
    struct bench *b = *state;
    for (int flooded = 0; flooded < LANES; flooded++) {
        for (int other = 0; other < LANES; other++) {
            if (other == flooded)
                continue;
            fill(b, 0, flooded, MANY);
            fill(b, 1, other, 1);
            unsigned turns = 0;
            while (left(b, 1, other) != 0) {
                turn_once(b);
                if (left(b, 0, flooded) < MANY)
                    fill(b, 0, flooded, MANY - left(b, 0, flooded));
                turns++;
            }
            assert_in_range(turns, 1, 8);
            while (left(b, 0, flooded) != 0)
                turn_once(b);
        }
    }
}

static void two_frontends_share_a_lane(void **state)
{
    struct bench *b = *state;
    for (int lane = 0; lane < LANES; lane++) {
        fill(b, 0, lane, MANY);
        fill(b, 1, lane, MANY);
        while (left(b, 0, lane) != 0 && left(b, 1, lane) != 0) {
            turn_once(b);
            int ahead = (int)left(b, 0, lane) - (int)left(b, 1, lane);
            assert_in_range(ahead + CONTROL_SHARE + 1, 0, 2 * CONTROL_SHARE + 2);
        }
        while (left(b, 0, lane) + left(b, 1, lane) != 0)
            turn_once(b);
    }
}

static void a_turn_takes_all_of_what_is_little(void **state)
{
    struct bench *b = *state;
    for (uint16_t f = 0; f < FRONTENDS; f++) {
        for (int lane = 0; lane < LANES; lane++)
            fill(b, f, lane, 2);
    }
    shard_turn(b->shard, b->now_ms, b->now_ms);
    assert_false(shard_pending(b->shard));
    turn_once(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_lane_gets_its_share, open_session),
        TEST(nobody_starves, open_session),
        TEST(two_frontends_share_a_lane, open_session),
        TEST(a_turn_takes_all_of_what_is_little, open_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
