/*
 * The past of a session: its view at any seq or time, differences, proofs; and how few records have
 * to be read for them, however long the history is.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

static int open_one(void **state)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 1);
    stage->limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 4;
    stage_start(stage);
    *state = stage;
    return 0;
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

/* Something of everything: so that states differ in more than their messages. */
static void live(struct stage *stage, const char *session, unsigned from, unsigned n)
{
    char line[160];
    for (unsigned i = from; i < from + n; i++) {
        switch (i % 10) {
        case 3:
            snprintf(line, sizeof(line), "agent.update agent=ada status=%s note=n%u",
                     i % 20 == 3 ? "working" : "idle", i);
            break;
        case 5:
            snprintf(line, sizeof(line), "session.update labels=step:%u", i);
            break;
        case 7:
            snprintf(line, sizeof(line), "agent.register agent=a%u", i);
            break;
        case 8:
            snprintf(line, sizeof(line), "agent.leave agent=a%u", i - 1);
            break;
        default:
            snprintf(line, sizeof(line),
                     "message.send thread=general sender=ada content=c%u mentions=bob", i);
        }
        stage_do(stage, session, line);
        if (i % 100 == 0)
            stage->wall_ms += 1000;
    }
}

/* Folded twice, by different means: by the core from the events, and by another JSON library from
 * the patches that followers get. */
static void the_view_at_every_seq_is_what_its_events_fold_to(void **state)
{
    struct stage *stage = *state;
    enum { EVENTS = 1200 };
    struct watch watch;
    struct tale tale;
    stage_populate(stage, "s1");
    live(stage, "s1", 0, EVENTS);
    assert_in_range(stage_figure(stage, "snapshots"), 10, EVENTS / 4);
    stage_follow(stage, &watch, "s1", 1);
    assert_int_equal(watch.told, 4 + EVENTS);
    assert_int_equal(watch.gaps, 0);
    struct str rest = buf_str(&watch.items), line;
    json_t *folded = NULL;
    tale_begin(&tale, stage, "s1");
    for (uint64_t seq = 1; seq <= 4 + EVENTS; seq++) {
        assert_true(tale_next(&tale));
        char *view = stage_view_at(stage, "s1", seq);
        tale_expect_view(&tale, view);
        json_t *tree = json_of(view);
        if (seq == 1) {
            folded = json_incref(json_object_get(tree, "state"));
        } else {
            assert_true(cut(&rest, '\n', &line));
            json_t *patch = json_loadb(line.p, line.n, 0, NULL);
            assert_int_equal(json_integer_value(json_object_get(patch, "seq")), seq);
            json_t *ops = json_object_get(patch, "ops");
            for (size_t i = 0; i < json_array_size(ops); i++)
                apply_operation(folded, json_array_get(ops, i));
            assert_true(json_equal(folded, json_object_get(tree, "state")));
            json_decref(patch);
        }
        json_decref(tree);
        free(view);
    }
    assert_false(tale_next(&tale));
    tale_end(&tale);
    json_decref(folded);
    watch_free(&watch);
}

static void a_proof_is_what_an_independent_fold_comes_to(void **state)
{
    struct stage *stage = *state;
    struct tale tale;
    stage_populate(stage, "s1");
    live(stage, "s1", 0, 400);
    tale_begin(&tale, stage, "s1");
    for (uint64_t seq = 1; tale_next(&tale); seq++) {
        char *proof = stage_proof(stage, "s1", seq);
        tale_expect_proof(&tale, proof);
        free(proof);
    }
    char *now = stage_proof(stage, "s1", 0);
    tale_expect_proof(&tale, now);
    free(now);
    tale_end(&tale);
}

static struct request *at_time(int64_t ts_ms)
{
    struct request *request = request_for(REQUEST_VIEW, "s1");
    request->at = (struct request_at){.given = true, .by_time = true, .ts_ms = ts_ms};
    return request;
}

static void a_view_by_time_is_that_of_the_newest_event_not_later(void **state)
{
    struct stage *stage = *state;
    int64_t begin_ms = stage->wall_ms;
    stage_populate(stage, "s1"); /* seq 4 at begin_ms */
    for (unsigned i = 0; i < 200; i++) {
        if (i % 2 == 0) /* two events each time */
            stage_pass(stage, 10);
        stage_talk(stage, "s1", 1, 60);
    }
    for (uint64_t i = 0; i <= 100; i++) {
        int64_t ts_ms = begin_ms + (int64_t)i * 10;
        struct request *exact = stage_ask_well(stage, at_time(ts_ms));
        assert_int_equal(exact->seq, 4 + 2 * i);
        char *same = stage_view_at(stage, "s1", 4 + 2 * i);
        assert_string_equal(stage_text(exact), same);
        free(same);
        request_free(exact);
        struct request *between = stage_ask_well(stage, at_time(ts_ms + 9 * (i != 100)));
        assert_int_equal(between->seq, 4 + 2 * i);
        request_free(between);
    }
    stage_pass(stage, 5000);
    struct request *last = stage_ask_well(stage, at_time(stage->wall_ms));
    assert_int_equal(last->seq, 204);
    request_free(last);
    stage_expect_refused(stage, at_time(stage->wall_ms + 1), CORE_E_MALFORMED);
    stage_expect_refused(stage, at_time(begin_ms - 1), CORE_E_UNKNOWN_SESSION);
}

static struct request *at_seq(enum request_kind kind, uint64_t seq, const char *epoch)
{
    struct request *request = request_for(kind, "s1");
    request->at = (struct request_at){.given = true, .seq = seq};
    if (epoch != NULL)
        request->at.epoch = request_text(request, epoch);
    return request;
}

static void what_cannot_be_had_is_said_so(void **state)
{
    struct stage *stage = *state;
    static const enum request_kind kinds[] = {REQUEST_VIEW, REQUEST_PROOF, REQUEST_DIFF};
    stage_populate(stage, "s1");
    struct request *view = stage_ask_well(stage, request_for(REQUEST_VIEW, "s1"));
    for (int i = 0; i < 3; i++) {
        struct request *future = stage_ask(stage, at_seq(kinds[i], 5, NULL));
        assert_int_equal(future->error, CORE_E_MALFORMED);
        assert_string_equal(future->refusal.field, kinds[i] == REQUEST_DIFF ? "from" : "at");
        assert_int_equal(future->refusal.seq, 4);
        request_free(future);
        stage_expect_refused(stage, at_seq(kinds[i], 0, NULL), CORE_E_UNKNOWN_SESSION);
        stage_expect_refused(stage, at_seq(kinds[i], 3, "other"), REQUEST_E_GONE);
        request_free(stage_ask_well(stage, at_seq(kinds[i], 3, view->epoch)));
    }
    struct request *to = at_seq(REQUEST_DIFF, 3, NULL);
    to->to = (struct request_at){.given = true, .seq = 9};
    to = stage_ask(stage, to);
    assert_int_equal(to->error, CORE_E_MALFORMED);
    assert_string_equal(to->refusal.field, "to");
    request_free(to);
    stage_delete(stage, "s1");
    for (int i = 0; i < 3; i++)
        stage_expect_refused(stage, at_seq(kinds[i], 3, NULL), CORE_E_UNKNOWN_SESSION);
    stage_populate(stage, "s1"); /* another life: the first one's is gone */
    stage_expect_refused(stage, at_seq(REQUEST_VIEW, 3, view->epoch), REQUEST_E_GONE);
    request_free(view);
}

static void expect_diff(struct stage *stage, uint64_t from, uint64_t to)
{
    struct request *request = at_seq(REQUEST_DIFF, from, NULL);
    request->to = (struct request_at){.given = to != 0, .seq = to};
    stage_ask_well(stage, request);
    char *before = stage_view_at(stage, "s1", from);
    char *after = to != 0 ? stage_view_at(stage, "s1", to) : stage_view(stage, "s1");
    json_t *answer = json_of(stage_text(request));
    json_t *trees[2] = {json_of(before), json_of(after)};
    json_t *state = json_object_get(trees[0], "state");
    json_t *ops = json_object_get(answer, "ops");
    for (size_t i = 0; i < json_array_size(ops); i++)
        apply_operation(state, json_array_get(ops, i));
    if (!json_equal(state, json_object_get(trees[1], "state")))
        fail_msg("the diff from %llu to %llu does not lead there: %s", (unsigned long long)from,
                 (unsigned long long)to, stage_text(request));
    if (from == to)
        assert_int_equal(json_array_size(ops), 0);
    assert_int_equal(json_integer_value(json_object_get(answer, "from")), from);
    assert_int_equal(json_integer_value(json_object_get(answer, "to")),
                     json_integer_value(json_object_get(trees[1], "seq")));
    json_decref(trees[0]);
    json_decref(trees[1]);
    json_decref(answer);
    request_free(request);
    free(before);
    free(after);
}

static void a_diff_leads_from_one_view_to_the_other(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    live(stage, "s1", 0, 300);
    for (uint64_t from = 1; from <= 304; from += 23) {
        for (uint64_t to = 1; to <= 304; to += 41)
            expect_diff(stage, from, to); /* also backwards */
        expect_diff(stage, from, from);
        expect_diff(stage, from, 0);
    }
}

/* ---- what it costs */

static uint64_t records_read_for(struct stage *stage, uint64_t seq)
{
    uint64_t before = stage_figure(stage, "history_records");
    char *view = stage_view_at(stage, "s1", seq);
    assert_non_null(view);
    free(view);
    return stage_figure(stage, "history_records") - before;
}

static uint64_t most_read(struct stage *stage, uint64_t end)
{
    uint64_t most = 0;
    for (uint64_t i = 0; i <= 64; i++) {
        uint64_t records = records_read_for(stage, 1 + (end - 1) * i / 64);
        most = records > most ? records : most;
    }
    return most;
}

/* Each time there are four times as many events, two steps or so come to it. */
static void the_way_back_grows_only_with_the_logarithm_of_the_length(void **state)
{
    struct stage *stage = *state;
    uint64_t most[4], n = 100;
    stage_populate(stage, "s1");
    stage_talk(stage, "s1", 96, 60);
    for (int i = 0; i < 4; i++) {
        most[i] = most_read(stage, n);
        if (i == 3)
            break;
        stage_talk(stage, "s1", (unsigned)(3 * n), 60);
        n *= 4;
    }
    if (most[3] > most[0] + 3 * 6 || most[3] > 60)
        fail_msg("records read: %llu of 100 events, %llu, %llu, %llu of 6400",
                 (unsigned long long)most[0], (unsigned long long)most[1],
                 (unsigned long long)most[2], (unsigned long long)most[3]);
}

/* They cost at most about as much again as what they stand for. */
static void a_snapshot_is_written_when_the_records_since_the_last_outweigh_it(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    for (int i = 0; i < 200; i++) { /* a state that grows: a snapshot gets dearer each time */
        char line[64];
        snprintf(line, sizeof(line), "agent.register agent=agent-%d", i);
        stage_do(stage, "s1", line);
    }
    const struct session *session = session_find(stage->shards[0], STR("s1"));
    uint64_t snapshots = stage_figure(stage, "snapshots");
    uint64_t bytes = stage_figure(stage, "snapshot_bytes");
    assert_true(snapshots >= 3);
    assert_true(bytes <= session->log_bytes - bytes + 5000);
    assert_int_equal(session->ordinal, snapshots);
    assert_true(session->since_bytes <= session->base_bytes + 5000);
    stage_expect_whole(stage, "s1", 30);
}

static void a_clean_stop_leaves_a_snapshot_of_what_is_in_memory(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    stage_talk(stage, "s1", 7, 20);
    stage_restart(stage, 1, STAGE_CLEAN);
    uint64_t before = stage_figure(stage, "history_records");
    char *view = stage_view(stage, "s1");
    assert_int_equal(stage_figure(stage, "history_records") - before, 1);
    free(view);
    stage_expect_whole(stage, "s1", 11);
    stage_restart(stage, 1, STAGE_CLEAN);
    assert_int_equal(stage_figure(stage, "snapshots"), 0); /* nothing came since */
    stage_expect_whole(stage, "s1", 11);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_one, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(the_view_at_every_seq_is_what_its_events_fold_to),
        TEST(a_proof_is_what_an_independent_fold_comes_to),
        TEST(a_view_by_time_is_that_of_the_newest_event_not_later),
        TEST(what_cannot_be_had_is_said_so),
        TEST(a_diff_leads_from_one_view_to_the_other),
        TEST(the_way_back_grows_only_with_the_logarithm_of_the_length),
        TEST(a_snapshot_is_written_when_the_records_since_the_last_outweigh_it),
        TEST(a_clean_stop_leaves_a_snapshot_of_what_is_in_memory),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
