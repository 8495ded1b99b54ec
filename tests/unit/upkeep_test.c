/*
 * What becomes of deleted data, and of sessions whose time is over. The clocks are the test's.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

enum { AFTER_MS = 60 * 1000 };

static int open_stage(void **state, unsigned shards)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, shards);
    stage->settings.compact_after_ms = AFTER_MS;
    stage_start(stage);
    *state = stage;
    return 0;
}

static int open_one(void **state)
{
    return open_stage(state, 1);
}

static int open_two(void **state)
{
    return open_stage(state, 2);
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

/* ---- deleting */

static void pass_until_compacted(struct stage *stage)
{
    stage_pass(stage, AFTER_MS);
    for (int i = 0; i < 10 && stage_figure(stage, "deleted_waiting") != 0; i++)
        stage_pass(stage, UPKEEP_AGAIN_MS);
    assert_int_equal(stage_figure(stage, "deleted_waiting"), 0);
    assert_int_equal(stage_figure(stage, "deleted_waiting_bytes"), 0);
}

static void write_marked(struct stage *stage, const char *session, const char *marker)
{
    char line[160];
    snprintf(line, sizeof(line), "message.send thread=general sender=ada content=%s", marker);
    stage_do(stage, session, line);
    snprintf(line, sizeof(line), "session.update labels=what:%s-label", marker);
    stage_do(stage, session, line);
    snprintf(line, sizeof(line), "agent.update agent=bob note=%s-note", marker);
    stage_do(stage, session, line);
}

static void a_deleted_session_leaves_the_disk_and_the_others_stay(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "keep-1");
    stage_populate(stage, "gone");
    for (int i = 0; i < 20; i++) { /* over many segments, and in snapshots */
        write_marked(stage, "gone", "secret-marker");
        stage_talk(stage, "gone", 30, 100);
        stage_talk(stage, "keep-1", 30, 100);
        write_marked(stage, "keep-1", "kept-marker");
    }
    stage_populate(stage, "keep-2");
    char *view = stage_view(stage, "keep-1");
    stage_settle(stage);
    assert_true(stage_files(stage, "segment-") > 3);
    assert_int_equal(stage_figure(stage, "deleted_waiting"), 0);
    stage_delete(stage, "gone");
    stage_settle(stage);
    assert_int_equal(stage_figure(stage, "deleted_waiting"), 1);
    assert_true(stage_figure(stage, "deleted_waiting_bytes") > 60 * 1000);
    stage_pass(stage, AFTER_MS - 1);
    assert_int_equal(stage_figure(stage, "deleted_waiting"), 1);
    assert_true(stage_finds(stage, "secret-marker"));
    pass_until_compacted(stage);
    assert_false(stage_finds(stage, "secret-marker"));
    assert_true(stage_finds(stage, "kept-marker"));
    assert_true(stage_figure(stage, "compactions") > 0);
    assert_true(stage_figure(stage, "compacted_bytes") > 60 * 1000);
    stage_expect_view(stage, "keep-1", view);
    for (int i = 0; i < 3; i++) {
        stage_expect_whole(stage, "keep-1", 25);
        stage_expect_whole(stage, "keep-2", 4);
        assert_null(stage_view(stage, "gone"));
        stage_restart(stage, i == 1 ? 3 - stage->n : stage->n, STAGE_KILL);
        stage_expect_view(stage, "keep-1", view);
    }
    assert_false(stage_finds(stage, "secret-marker"));
    free(view);
}

/* A life that has ended may go, and the one after it under the same id stays. */
static void the_next_life_of_an_id_stays(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    write_marked(stage, "s1", "first-life");
    stage_talk(stage, "s1", 100, 100);
    stage_delete(stage, "s1");
    stage_populate(stage, "s1");
    write_marked(stage, "s1", "second-life");
    stage_talk(stage, "s1", 100, 100);
    pass_until_compacted(stage);
    assert_false(stage_finds(stage, "first-life"));
    assert_true(stage_finds(stage, "second-life"));
    stage_expect_whole(stage, "s1", 20);
    stage_restart(stage, stage->n, STAGE_CLEAN);
    stage_expect_whole(stage, "s1", 20);
}

static void what_waits_is_still_known_after_a_restart(void **state)
{
    struct stage *stage = *state;
    static const enum stage_end ends[] = {STAGE_KILL, STAGE_CLEAN, STAGE_CRASH};
    for (int i = 0; i < 3; i++) {
        stage_populate(stage, "gone");
        write_marked(stage, "gone", "secret-marker");
        stage_talk(stage, "gone", 50, 100);
        stage_delete(stage, "gone");
        stage_settle(stage);
        uint64_t bytes = stage_figure(stage, "deleted_waiting_bytes");
        stage_restart(stage, i == 1 ? 3 - stage->n : stage->n, ends[i]);
        stage_settle(stage); /* the one before may be found again in the log, and is due at once */
        assert_int_equal(stage_figure(stage, "deleted_waiting"), 1);
        assert_int_equal(stage_figure(stage, "deleted_waiting_bytes"), bytes);
        pass_until_compacted(stage);
        assert_false(stage_finds(stage, "secret-marker"));
    }
}

static void many_deletions_are_seen_to_together(void **state)
{
    struct stage *stage = *state;
    char id[8];
    for (unsigned i = 0; i < 60; i++) {
        snprintf(id, sizeof(id), "s%02u", i);
        stage_populate(stage, id);
        write_marked(stage, id, i % 3 == 0 ? "kept-marker" : "secret-marker");
        stage_talk(stage, id, 40, 60);
    }
    for (unsigned i = 0; i < 60; i++) {
        snprintf(id, sizeof(id), "s%02u", i);
        if (i % 3 != 0)
            stage_delete(stage, id);
    }
    stage_settle(stage);
    assert_int_equal(stage_figure(stage, "deleted_waiting"), 40);
    pass_until_compacted(stage);
    assert_false(stage_finds(stage, "secret-marker"));
    stage_restart(stage, 3 - stage->n, STAGE_KILL);
    for (unsigned i = 0; i < 60; i += 3) {
        snprintf(id, sizeof(id), "s%02u", i);
        stage_expect_whole(stage, id, 8);
    }
    assert_int_equal(stage_figure(stage, "sessions"), 20);
}

/* While a compaction is under way, and after each of its steps. */
static void a_crash_during_a_compaction_harms_nobody(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "keep");
    for (unsigned turns = 0; turns < 12; turns++) {
        stage_populate(stage, "gone");
        write_marked(stage, "gone", "secret-marker");
        for (int i = 0; i < 5; i++) {
            stage_talk(stage, "gone", 20, 100);
            stage_talk(stage, "keep", 20, 100);
        }
        stage_delete(stage, "gone");
        stage_settle(stage);
        stage->now_ms += AFTER_MS;
        stage->wall_ms += AFTER_MS;
        for (unsigned i = 0; i < turns; i++)
            stage_turn(stage);
        stage_restart(stage, stage->n, STAGE_CRASH);
        stage_expect_whole(stage, "keep", 6);
        assert_null(stage_view(stage, "gone"));
    }
    pass_until_compacted(stage);
    assert_false(stage_finds(stage, "secret-marker"));
    stage_expect_whole(stage, "keep", 30);
}

/* Nothing but deleted data: the segments themselves go. */
static void segments_of_nothing_but_deleted_data_are_dropped(void **state)
{
    struct stage *stage = *state;
    for (int i = 0; i < 3; i++) {
        stage_populate(stage, "gone");
        stage_talk(stage, "gone", 500, 200);
        stage_delete(stage, "gone");
    }
    stage_settle(stage);
    unsigned before = stage_files(stage, "segment-");
    pass_until_compacted(stage);
    unsigned after = stage_files(stage, "segment-");
    if (after + 4 > before)
        fail_msg("%u segments before, %u after", before, after);
}

/* ---- a time to live */

static void a_session_with_a_ttl_ends_after_its_last_event(void **state)
{
    struct stage *stage = *state;
    struct watch watch;
    stage_do(stage, "s1", "session.create ttl_s=100");
    stage_do(stage, "s2", "session.create");
    for (int i = 0; i < 5; i++) { /* while it is used it stays */
        stage_pass(stage, 99 * 1000);
        char line[64];
        snprintf(line, sizeof(line), "agent.register agent=a%d", i);
        stage_do(stage, "s1", line);
    }
    stage_follow(stage, &watch, "s1", UINT64_MAX);
    stage_pass(stage, 99 * 1000);
    char *view = stage_view(stage, "s1"); /* looking is no event */
    assert_non_null(view);
    free(view);
    assert_int_equal(watch.ended, 0);
    stage_pass(stage, 1000);
    assert_null(stage_view(stage, "s1"));
    assert_int_equal(watch.ended, 1);
    assert_int_equal(stage_figure(stage, "expired"), 1);
    assert_int_equal(stage_figure(stage, "sessions"), 1);
    stage_pass(stage, AFTER_MS); /* and like any deleted one it leaves the disk */
    assert_int_equal(stage_do(stage, "s1", "session.create"), 1);
    watch_free(&watch);
}

static void a_ttl_holds_over_passivation_and_restarts(void **state)
{
    struct stage *stage = *state;
    static const enum stage_end ends[] = {STAGE_KILL, STAGE_CLEAN, STAGE_CRASH};
    for (unsigned i = 0; i < stage->n; i++)
        stage->shards[i]->settings.idle_passivate_ms = 5000;
    stage->settings.idle_passivate_ms = 5000;
    stage->settings.checkpoint_bytes = 5000; /* expiries are in checkpoints too */
    for (int i = 0; i < 3; i++) {
        stage_do(stage, "s1", "session.create ttl_s=100");
        stage_do(stage, "s2", "session.create");
        stage_do(stage, "busy", "session.create");
        stage_pass(stage, 10 * 1000);
        assert_false(stage_is_active(stage, "s1"));
        for (int n = 0; n < 100; n++) {
            char line[64];
            snprintf(line, sizeof(line), "agent.register agent=agent-number-%d", n);
            stage_do(stage, "busy", line);
        }
        stage_restart(stage, i == 1 ? 3 - stage->n : stage->n, ends[i]);
        stage_pass(stage, 80 * 1000);
        char *view = stage_view(stage, "s1");
        assert_non_null(view);
        free(view);
        stage_do(stage, "s1", "agent.register agent=ada"); /* so its time moves on */
        stage_restart(stage, stage->n, ends[(i + 1) % 3]);
        stage_pass(stage, 95 * 1000);
        view = stage_view(stage, "s1");
        assert_non_null(view);
        free(view);
        for (int n = 0; n < 3; n++) /* it may have to be loaded first */
            stage_pass(stage, 5 * 1000);
        assert_null(stage_view(stage, "s1"));
        stage_restart(stage, stage->n, STAGE_KILL);
        assert_null(stage_view(stage, "s1"));
        stage_delete(stage, "s2");
        stage_delete(stage, "busy");
    }
}

static void a_ttl_that_ran_out_while_the_server_was_down_counts(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, "s1", "session.create ttl_s=100");
    stage_do(stage, "s2", "session.create ttl_s=1000");
    stage_stop(stage, STAGE_CLEAN);
    stage->wall_ms += 500 * 1000;
    stage_start(stage);
    for (int i = 0; i < 3; i++)
        stage_pass(stage, 100);
    assert_null(stage_view(stage, "s1"));
    char *view = stage_view(stage, "s2");
    assert_non_null(view);
    free(view);
}

static void a_fork_has_its_parents_ttl(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, "s1", "session.create ttl_s=100");
    stage_do(stage, "s1", "agent.register agent=ada");
    request_free(stage_ask_well(stage, stage_fork_request("s1", 1, "fork")));
    stage_pass(stage, 60 * 1000);
    stage_do(stage, "fork", "agent.register agent=bob");
    stage_restart(stage, stage->n, STAGE_KILL);
    stage_pass(stage, 60 * 1000);
    stage_pass(stage, 100);
    assert_null(stage_view(stage, "s1"));
    char *view = stage_view(stage, "fork");
    assert_non_null(view);
    free(view);
    stage_pass(stage, 40 * 1000);
    assert_null(stage_view(stage, "fork"));
    stage_settle(stage);
    assert_int_equal(stage_figure(stage, "pins"), 0);
}

/* A shard's reactor sleeps until something is due, so it has to say when. */
static void the_tick_says_when_something_is_due(void **state)
{
    struct stage *stage = *state;
    struct shard *shard = stage->shards[0];
    shard->settings.idle_passivate_ms = 0;
    assert_int_equal(shard_tick(shard), -1);
    stage_do(stage, "s1", "session.create ttl_s=30");
    stage_settle(stage);
    assert_in_range(shard_tick(shard), 1, 30 * 1000);
    stage_pass(stage, 29 * 1000);
    assert_in_range(shard_tick(shard), 1, 1000);
    stage_delete(stage, "s1");
    shard->settings.idle_passivate_ms = 5000;
    stage_do(stage, "s2", "session.create");
    stage_settle(stage);
    assert_in_range(shard_tick(shard), 1, 5000);
}

#define TEST(function, setup) cmocka_unit_test_setup_teardown(function, setup, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_deleted_session_leaves_the_disk_and_the_others_stay, open_one),
        TEST(a_deleted_session_leaves_the_disk_and_the_others_stay, open_two),
        TEST(the_next_life_of_an_id_stays, open_two),
        TEST(what_waits_is_still_known_after_a_restart, open_two),
        TEST(many_deletions_are_seen_to_together, open_two),
        TEST(a_crash_during_a_compaction_harms_nobody, open_one),
        TEST(segments_of_nothing_but_deleted_data_are_dropped, open_one),
        TEST(a_session_with_a_ttl_ends_after_its_last_event, open_two),
        TEST(a_ttl_holds_over_passivation_and_restarts, open_two),
        TEST(a_ttl_that_ran_out_while_the_server_was_down_counts, open_two),
        TEST(a_fork_has_its_parents_ttl, open_two),
        TEST(the_tick_says_when_something_is_due, open_one),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
