/*
 * Retention: history that is older than promised, or more than there is room for, goes; what a
 * session is now stays.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

enum { LOOK_MS = RETENTION_LOOK_MS };

static int open_stage(void **state, unsigned shards, int64_t retain_ms, uint64_t retain_bytes)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, shards);
    stage->settings.retain_ms = retain_ms;
    stage->settings.retain_bytes = retain_bytes;
    stage->settings.compact_after_ms = 1000;
    stage_start(stage);
    *state = stage;
    return 0;
}

enum { DAY_MS = 24 * 3600 * 1000, KEPT_BYTES = 4 * 64 * 1024 };

static int open_by_age(void **state)
{
    return open_stage(state, 1, DAY_MS, 0);
}

static int open_by_age_two(void **state)
{
    return open_stage(state, 2, DAY_MS, 0);
}

static int open_by_bytes(void **state)
{
    return open_stage(state, 1, 0, KEPT_BYTES);
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

/* More than fills some segments, each talked to in turn. */
static void talk_much(struct stage *stage, unsigned sessions, unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < sessions; i++) {
            char id[16];
            snprintf(id, sizeof(id), "s%u", i);
            stage_talk(stage, id, 20, 100);
        }
    }
    stage_settle(stage);
}

static void look(struct stage *stage)
{
    for (int i = 0; i < 3; i++)
        stage_pass(stage, LOOK_MS);
}

/* The oldest seq of which the state can be had, as a view of what is gone says; 1: nothing is. */
static uint64_t oldest_of(struct stage *stage, const char *session)
{
    struct request *request = request_for(REQUEST_VIEW, session);
    request->at = (struct request_at){.given = true, .seq = 1};
    stage_ask(stage, request);
    uint64_t oldest = request->error != 0 ? request->oldest : 1;
    if (request->error != 0) {
        assert_int_equal(request->error, REQUEST_E_GONE);
        assert_int_not_equal(strlen(request->refusal.detail), 0);
        assert_true(oldest > 1);
    }
    request_free(request);
    return oldest;
}

/* What is told to be there can be had, what lies before it is told to be gone: of every kind. */
static void expect_kept_from(struct stage *stage, const char *session, uint64_t oldest,
                             uint64_t end)
{
    for (uint64_t seq = oldest; seq <= end; seq += 1 + (end - oldest) / 12) {
        char *view = stage_view_at(stage, session, seq);
        char *proof = stage_proof(stage, session, seq);
        assert_non_null(view);
        assert_non_null(proof);
        free(view);
        free(proof);
    }
    for (uint64_t seq = 1; seq < oldest; seq += 1 + oldest / 12) {
        static const enum request_kind kinds[] = {REQUEST_VIEW, REQUEST_PROOF, REQUEST_DIFF};
        for (int i = 0; i < 3; i++) {
            struct request *request = request_for(kinds[i], session);
            request->at = (struct request_at){.given = true, .seq = seq};
            stage_ask(stage, request);
            if (request->error != REQUEST_E_GONE)
                fail_msg("kind %d at seq %llu, oldest %llu: error %u", (int)kinds[i],
                         (unsigned long long)seq, (unsigned long long)oldest, request->error);
            assert_int_equal(request->oldest, oldest);
            request_free(request);
        }
    }
    struct request *gone = request_for(REQUEST_EVENTS, session);
    gone->limit = 10;
    stage_ask(stage, gone);
    assert_int_equal(gone->error, oldest > 1 ? (unsigned)REQUEST_E_GONE : 0);
    request_free(gone);
    struct request *there = request_for(REQUEST_EVENTS, session);
    there->has_after = true;
    there->after = oldest;
    there->limit = 1000;
    stage_ask_well(stage, there);
    json_t *tree = json_of(stage_text(there));
    json_t *events = json_object_get(tree, "events");
    assert_int_equal(json_array_size(events), end - oldest < 1000 ? end - oldest : 1000);
    json_decref(tree);
    request_free(there);
}

static void history_beyond_the_age_goes_and_the_newest_state_stays(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s0");
    stage_populate(stage, "s1");
    stage_do(stage, "s0", "message.send thread=general sender=ada content=old-marker");
    stage_do(stage, "s0", "session.update labels=kept:label");
    talk_much(stage, 2, 30);
    look(stage);
    assert_int_equal(oldest_of(stage, "s0"), 1); /* it is not old yet */
    char *views[2] = {stage_view(stage, "s0"), stage_view(stage, "s1")};
    stage_pass(stage, DAY_MS);
    stage_do(stage, "s0", "agent.register agent=cy");
    talk_much(stage, 2, 30);
    look(stage);
    assert_false(stage_finds(stage, "old-marker"));
    assert_true(stage_finds(stage, "kept"));
    assert_true(stage_figure(stage, "compacted_bytes") > 64 * 1024);
    for (int i = 0; i < 3; i++) {
        uint64_t oldest = oldest_of(stage, "s0");
        assert_in_range(oldest, 300, 607);
        expect_kept_from(stage, "s0", oldest, 6 + 600 + 1 + 600);
        expect_kept_from(stage, "s1", oldest_of(stage, "s1"), 4 + 600 + 600);
        char *view = stage_view(stage, "s0");
        expect_json(view, "/state/labels/kept", "\"label\"");
        free(view);
        stage_restart(stage, i == 1 ? 3 - stage->n : stage->n, i == 0 ? STAGE_KILL : STAGE_CLEAN);
    }
    free(views[0]);
    free(views[1]);
}

/* Nothing has happened to it for longer than history is kept: it is there as it was. */
static void a_session_older_than_the_age_is_as_it_was(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s0");
    stage_populate(stage, "quiet");
    stage_talk(stage, "quiet", 100, 100);
    struct request *keyed = stage_command("quiet", "agent.register agent=cy");
    keyed->key = request_text(keyed, "k");
    request_free(stage_ask_well(stage, keyed));
    char *view = stage_view(stage, "quiet"), *proof = stage_proof(stage, "quiet", 0);
    talk_much(stage, 1, 60);
    for (int i = 0; i < 3; i++) {
        stage_pass(stage, 2 * (int64_t)DAY_MS);
        talk_much(stage, 1, 60);
        look(stage);
        if (i == 1)
            stage_passivate(stage);
        stage_expect_view(stage, "quiet", view);
        char *again = stage_proof(stage, "quiet", 0);
        assert_string_equal(again, proof);
        free(again);
        stage_restart(stage, stage->n, i == 0 ? STAGE_KILL : STAGE_CLEAN);
    }
    assert_true(oldest_of(stage, "quiet") > 1);
    assert_int_equal(stage_do(stage, "quiet", "agent.register agent=dan"), 106);
    free(view);
    free(proof);
}

static void the_oldest_history_goes_where_it_is_too_much(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s0");
    stage_populate(stage, "s1");
    uint64_t before = 0;
    for (int i = 0; i < 5; i++) {
        talk_much(stage, 2, 40);
        look(stage);
        uint64_t oldest = oldest_of(stage, "s0");
        assert_true(i == 0 || oldest > before);
        before = oldest;
        /* The newest segment, one that is prepared, and what has not been looked at since. */
        assert_in_range(datadir_bytes(stage->dir), 1, KEPT_BYTES + 5 * 64 * 1024);
        expect_kept_from(stage, "s0", oldest, 4 + 800 * (uint64_t)(i + 1));
    }
    assert_true(before > 1600);
    stage_restart(stage, 1, STAGE_KILL);
    expect_kept_from(stage, "s0", oldest_of(stage, "s0"), 4 + 4000);
}

static void a_follower_behind_what_is_kept_gets_a_snapshot_that_says_so(void **state)
{
    struct stage *stage = *state;
    struct watch watch;
    stage_populate(stage, "s0");
    talk_much(stage, 1, 150);
    look(stage);
    uint64_t oldest = oldest_of(stage, "s0");
    assert_true(oldest > 100);
    stage_follow(stage, &watch, "s0", 50);
    assert_int_equal(watch.snapshots, 1);
    assert_int_not_equal(strlen(watch.reset), 0);
    assert_int_equal(watch.told, 3004);
    stage_do(stage, "s0", "agent.register agent=cy");
    stage_settle(stage);
    assert_int_equal(watch.told, 3005);
    stage_unfollow(stage, &watch, "s0");
    watch_free(&watch);
    stage_follow(stage, &watch, "s0", oldest);
    assert_int_equal(watch.snapshots, 0);
    assert_int_equal(watch.gaps, 0);
    assert_int_equal(watch.told, 3005);
    stage_unfollow(stage, &watch, "s0");
    watch_free(&watch);
}

static void an_inbox_and_messages_end_where_history_does(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s0");
    talk_much(stage, 1, 150);
    look(stage);
    struct request *inbox = request_for(REQUEST_INBOX, "s0");
    inbox->inbox = (struct core_inbox_query){.agent = STR("bob"), .limit = 10};
    stage_ask_well(stage, inbox);
    json_t *tree = json_of(stage_text(inbox));
    json_t *first = json_array_get(json_object_get(tree, "messages"), 0);
    assert_true((uint64_t)json_integer_value(json_object_get(first, "seq")) >=
                oldest_of(stage, "s0"));
    json_decref(tree);
    request_free(inbox);
    struct request *messages = request_for(REQUEST_MESSAGES, "s0");
    messages->thread = STR("general");
    messages->has_before = true;
    messages->before = 50;
    messages->limit = 10;
    stage_expect_refused(stage, messages, REQUEST_E_GONE);
}

#define TEST(function, setup) cmocka_unit_test_setup_teardown(function, setup, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(history_beyond_the_age_goes_and_the_newest_state_stays, open_by_age),
        TEST(history_beyond_the_age_goes_and_the_newest_state_stays, open_by_age_two),
        TEST(a_session_older_than_the_age_is_as_it_was, open_by_age),
        TEST(the_oldest_history_goes_where_it_is_too_much, open_by_bytes),
        TEST(a_follower_behind_what_is_kept_gets_a_snapshot_that_says_so, open_by_bytes),
        TEST(an_inbox_and_messages_end_where_history_does, open_by_bytes),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
