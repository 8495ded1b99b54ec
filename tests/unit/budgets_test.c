/*
 * Budgets: what one session may have, and how fast; and what is refused when memory is short.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

static const char say[] = "message.send thread=general sender=ada content=x";

static struct pressure pressure;
static uint64_t resident;

static uint64_t resident_of_test(struct pressure *of)
{
    (void)of;
    return resident;
}

static int open_with(void **state, void (*set)(struct shard_settings *settings))
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 1);
    stage->settings.idle_passivate_ms = 0;
    if (set != NULL)
        set(&stage->settings);
    stage_start(stage);
    stage_populate(stage, "s1");
    *state = stage;
    return 0;
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

static struct request *batch_of(unsigned n)
{
    struct request *request = request_for(REQUEST_COMMANDS, "s1");
    for (unsigned i = 0; i < n; i++)
        request_add(request, say);
    request->batch = true;
    return request;
}

static void expect_budget(struct stage *stage, const char *line, const char *option)
{
    struct request *request = stage_ask(stage, stage_command("s1", line));
    assert_int_equal(request->error, CORE_E_REFUSED);
    assert_non_null(strstr(request->refusal.detail, option));
    request_free(request);
}

/* ---- events and bytes */

static void few_events(struct shard_settings *settings)
{
    settings->session_events = 6;
}

static int open_few_events(void **state)
{
    return open_with(state, few_events);
}

static void a_session_has_no_more_events_than_it_may(void **state)
{
    struct stage *stage = *state;
    struct request *batch = stage_ask_well(stage, batch_of(4)); /* 5 and 6, and two too many */
    expect_json(stage_text(batch), "/results/1/status", "200");
    expect_json(stage_text(batch), "/results/2/status", "409");
    request_free(batch);
    expect_budget(stage, say, "max-session-events: 6");
    stage_populate(stage, "s2"); /* another one has its own */
    char *view = stage_view(stage, "s1");
    expect_json(view, "/seq", "6");
    free(view);
    /* What it has can be asked for, and it can end. */
    assert_int_equal(stage_do(stage, "s1", "session.close"), 7);
    stage_delete(stage, "s1");
    stage_populate(stage, "s1");
}

static void an_atomic_batch_beyond_the_budget_does_nothing(void **state)
{
    struct stage *stage = *state;
    struct request *batch = batch_of(3);
    batch->atomic = true;
    stage_ask(stage, batch);
    assert_int_equal(batch->error, CORE_E_REFUSED);
    request_free(batch);
    assert_int_equal(stage_do(stage, "s1", say), 5);
}

static void companions_have_no_budget(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "~s1");
    stage_talk(stage, "~s1", 20, 10);
}

static void few_bytes(struct shard_settings *settings)
{
    settings->session_log_bytes = 4096;
}

static int open_few_bytes(void **state)
{
    return open_with(state, few_bytes);
}

static void a_session_has_no_more_bytes_in_the_log_than_it_may(void **state)
{
    struct stage *stage = *state;
    struct request *request;
    unsigned n = 0;
    while ((request = stage_ask(stage, stage_command("s1", say)))->error == 0) {
        request_free(request);
        assert_in_range(++n, 1, 100);
    }
    assert_int_equal(request->error, CORE_E_REFUSED);
    assert_non_null(strstr(request->refusal.detail, "max-session-bytes: 4096"));
    request_free(request);
    assert_true(n > 3);
    /* It stays so when it has been away. */
    stage_restart(stage, 1, STAGE_KILL);
    expect_budget(stage, say, "max-session-bytes");
}

/* ---- the rate */

static void slow(struct shard_settings *settings)
{
    settings->rate_commands = 10;
    settings->rate_ms = 1000;
    settings->rate_burst = 5;
}

static int open_slow(void **state)
{
    int result = open_with(state, slow);
    stage_pass(*state, 1000);
    return result;
}

static uint32_t expect_too_many(struct stage *stage, struct request *request)
{
    stage_ask(stage, request);
    assert_int_equal(request->error, REQUEST_E_TOO_MANY);
    uint32_t retry_ms = request->retry_ms;
    request_free(request);
    return retry_ms;
}

static void a_session_takes_its_burst_and_then_its_rate(void **state)
{
    struct stage *stage = *state;
    for (int i = 0; i < 5; i++)
        stage_do(stage, "s1", say);
    assert_int_equal(expect_too_many(stage, stage_command("s1", say)), 100);
    assert_int_equal(stage_figure(stage, "rate_limited"), 1);
    stage_pass(stage, 99);
    assert_int_equal(expect_too_many(stage, stage_command("s1", say)), 1);
    stage_pass(stage, 1);
    stage_do(stage, "s1", say);
    expect_too_many(stage, stage_command("s1", say));
    /* Others do not wait for it, nor does whoever looks at it. */
    stage_do(stage, "s2", "session.create");
    free(stage_view(stage, "s1"));
    stage_pass(stage, 10 * 1000);
    for (int i = 0; i < 5; i++)
        stage_do(stage, "s1", say);
    expect_too_many(stage, stage_command("s1", say));
}

static void a_batch_passes_whole_and_is_paid_for_afterwards(void **state)
{
    struct stage *stage = *state;
    request_free(stage_ask_well(stage, batch_of(25)));
    assert_int_equal(expect_too_many(stage, batch_of(1)), 2100);
    stage_pass(stage, 2100);
    request_free(stage_ask_well(stage, batch_of(1)));
}

static void what_the_shard_says_itself_is_not_counted(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, "s1", "agent.update agent=ada lease_s=1");
    request_free(stage_ask_well(stage, batch_of(40))); /* nothing for four seconds */
    stage_pass(stage, 1500);
    char *view = stage_view(stage, "s1");
    expect_json(view, "/state/agents/ada/status", "\"offline\"");
    free(view);
}

/* ---- memory */

static int open_pressed(void **state)
{
    int result = open_with(state, NULL);
    struct stage *stage = *state;
    resident = 100;
    pressure_init(&pressure, 1000);
    pressure.resident = resident_of_test;
    stage->shards[0]->pressure = &pressure;
    return result;
}

static int close_pressed(void **state)
{
    pressure_end(&pressure);
    return close_stage(state);
}

static void press(struct stage *stage, uint64_t bytes)
{
    resident = bytes;
    stage_pass(stage, 200);
    pressure_look(&pressure, stage->now_ms);
}

static void expect_short(struct stage *stage, struct request *request)
{
    stage_ask(stage, request);
    assert_int_equal(request->error, REQUEST_E_UNAVAILABLE);
    assert_true(request->retry_ms != 0);
    assert_non_null(strstr(request->refusal.detail, "memory"));
    request_free(request);
}

static void where_memory_is_short_no_session_is_made(void **state)
{
    struct stage *stage = *state;
    press(stage, 799);
    stage_populate(stage, "s2");
    press(stage, 800);
    expect_short(stage, stage_command("s3", "session.create"));
    expect_short(stage, stage_fork_request("s1", 2, "child"));
    stage_expect_refused(stage, stage_command("s3", say), CORE_E_UNKNOWN_SESSION);
    /* Those that are there go on, whoever has left memory comes back, and one may be asked for
     * once more. */
    assert_int_equal(stage_do(stage, "s1", say), 5);
    stage_passivate(stage);
    assert_int_equal(stage_do(stage, "s1", say), 6);
    assert_int_equal(stage_do(stage, "s2", "session.create"), 4);
    assert_int_equal(stage_do(stage, "~s1", "session.create"), 1); /* an agent comes back to it */
}

static void where_there_is_next_to_none_nothing_is_written(void **state)
{
    struct stage *stage = *state;
    press(stage, 950);
    expect_short(stage, stage_command("s1", say));
    expect_short(stage, batch_of(3));
    expect_short(stage, stage_command("~s1", "session.create"));
    char *view = stage_view(stage, "s1");
    expect_json(view, "/seq", "4");
    free(view);
    assert_int_equal(stage_figure(stage, "memory_refused"), 3);
    stage_delete(stage, "s1"); /* that frees some */
}

static void a_level_does_not_flicker(void **state)
{
    struct stage *stage = *state;
    static const struct {
        uint64_t bytes;
        enum pressure_level level;
    } steps[] = {{799, PRESSURE_NONE},     {800, PRESSURE_HIGH},     {750, PRESSURE_HIGH},
                 {749, PRESSURE_NONE},     {799, PRESSURE_NONE},     {949, PRESSURE_HIGH},
                 {950, PRESSURE_CRITICAL}, {900, PRESSURE_CRITICAL}, {899, PRESSURE_HIGH},
                 {951, PRESSURE_CRITICAL}, {100, PRESSURE_NONE}};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        press(stage, steps[i].bytes);
        assert_int_equal(pressure_level(&pressure), steps[i].level);
    }
    assert_int_equal(stage_do(stage, "s1", say), 5);
}

static void it_is_looked_at_at_most_every_tenth_of_a_second(void **state)
{
    struct stage *stage = *state;
    press(stage, 100);
    resident = 950;
    assert_false(pressure_look(&pressure, stage->now_ms + 99));
    assert_int_equal(pressure_level(&pressure), PRESSURE_NONE);
    assert_true(pressure_look(&pressure, stage->now_ms + 100)); /* others are to be told */
    assert_int_equal(pressure_level(&pressure), PRESSURE_CRITICAL);
}

static void where_memory_is_short_who_is_idle_leaves_at_once(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s2");
    stage_pass(stage, 60 * 1000);
    assert_int_equal(stage_figure(stage, "active"), 2); /* here they never leave by themselves */
    press(stage, 850);
    stage_do(stage, "s2", say);
    stage_settle(stage);
    assert_false(stage_is_active(stage, "s1"));
    assert_true(stage_is_active(stage, "s2"));
    stage_pass(stage, PRESSED_PASSIVATE_MS);
    stage_settle(stage);
    assert_int_equal(stage_figure(stage, "active"), 0);
    stage_expect_whole(stage, "s1", 4);
}

/* As the kernel counts it, of this process. */
static void what_is_resident_is_measured(void **state)
{
    (void)state;
    struct pressure real;
    pressure_init(&real, UINT64_C(1) << 50);
    pressure_look(&real, 1000);
    assert_in_range(real.resident_bytes, 1 << 20, UINT64_C(1) << 40);
    assert_int_equal(pressure_level(&real), PRESSURE_NONE);
    uint64_t bytes = real.resident_bytes;
    pressure_end(&real);
    pressure_init(&real, bytes / 2);
    pressure_look(&real, 1000);
    assert_int_equal(pressure_level(&real), PRESSURE_CRITICAL);
    pressure_end(&real);
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, close_stage)
#define PRESSED(name) cmocka_unit_test_setup_teardown(name, open_pressed, close_pressed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_has_no_more_events_than_it_may, open_few_events),
        TEST(an_atomic_batch_beyond_the_budget_does_nothing, open_few_events),
        TEST(companions_have_no_budget, open_few_events),
        TEST(a_session_has_no_more_bytes_in_the_log_than_it_may, open_few_bytes),
        TEST(a_session_takes_its_burst_and_then_its_rate, open_slow),
        TEST(a_batch_passes_whole_and_is_paid_for_afterwards, open_slow),
        TEST(what_the_shard_says_itself_is_not_counted, open_slow),
        PRESSED(where_memory_is_short_no_session_is_made),
        PRESSED(where_there_is_next_to_none_nothing_is_written),
        PRESSED(a_level_does_not_flicker),
        PRESSED(it_is_looked_at_at_most_every_tenth_of_a_second),
        PRESSED(where_memory_is_short_who_is_idle_leaves_at_once),
        cmocka_unit_test(what_is_resident_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
