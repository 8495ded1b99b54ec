/*
 * Restarts: after a kill, after a clean stop, in the midst of whatever is under way, with as many
 * shards or another number of them, everything is as it was.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

enum { SESSIONS = 30 };

static int open_stage(void **state, unsigned shards)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, shards);
    stage->settings.checkpoint_bytes = 8000;
    stage->settings.idle_passivate_ms = 1000;
    stage->settings.compact_after_ms = 1000;
    stage_start(stage);
    *state = stage;
    return 0;
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

static const char *id_of(unsigned i)
{
    static char id[8];
    snprintf(id, sizeof(id), "s%02u", i);
    return id;
}

struct known {
    char *views[SESSIONS], *proofs[SESSIONS], *middles[SESSIONS];
};

static void know(struct stage *stage, struct known *known)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        known->views[i] = stage_view(stage, id_of(i));
        known->proofs[i] = stage_proof(stage, id_of(i), 0);
        known->middles[i] = stage_view_at(stage, id_of(i), 4);
    }
}

static void forget(struct known *known)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        free(known->views[i]);
        free(known->proofs[i]);
        free(known->middles[i]);
    }
}

static void expect_same(const char *found, const char *expected)
{
    assert_int_equal(found == NULL, expected == NULL);
    if (found != NULL)
        assert_string_equal(found, expected);
}

static void expect_known(struct stage *stage, const struct known *known)
{
    struct known now;
    know(stage, &now);
    for (unsigned i = 0; i < SESSIONS; i++) {
        expect_same(now.views[i], known->views[i]);
        expect_same(now.proofs[i], known->proofs[i]);
        expect_same(now.middles[i], known->middles[i]);
    }
    forget(&now);
}

/* Of each kind some: long, short, deleted, made again, forks, with keys, closed. */
static void make_all(struct stage *stage)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        if (i % 10 == 9) {
            char parent[8];
            snprintf(parent, sizeof(parent), "%s", id_of(i - 1));
            stage_fork(stage, parent, 6, id_of(i));
        } else {
            stage_populate(stage, id_of(i));
        }
        stage_talk(stage, id_of(i), i % 3 == 0 ? 60 : 5, 50);
        if (i % 7 == 6)
            stage_delete(stage, id_of(i));
        if (i % 14 == 6)
            stage_populate(stage, id_of(i));
    }
}

static void kill_and_clean_stop_keep_everything(void **state)
{
    struct stage *stage = *state;
    struct known known;
    make_all(stage);
    assert_true(stage_figure(stage, "checkpoints") > 2);
    know(stage, &known);
    uint64_t sessions = stage_figure(stage, "sessions");
    for (int i = 0; i < 4; i++) {
        stage_restart(stage, 2, i % 2 == 0 ? STAGE_KILL : STAGE_CLEAN);
        for (unsigned n = 0; n < stage->n; n++) /* nothing is folded at start */
            assert_int_equal(stage->shards[n]->active, 0);
        assert_int_equal(stage_figure(stage, "sessions"), sessions);
        expect_known(stage, &known);
    }
    forget(&known);
}

static void any_number_of_shards_after_any_other_keeps_everything(void **state)
{
    struct stage *stage = *state;
    struct known known;
    static const unsigned counts[] = {3, 1, 4, 4, 2, 3};
    make_all(stage);
    know(stage, &known);
    uint64_t sessions = stage_figure(stage, "sessions");
    for (int i = 0; i < 6; i++) {
        stage_restart(stage, counts[i], i % 2 == 0 ? STAGE_KILL : STAGE_CLEAN);
        assert_int_equal(stage_figure(stage, "sessions"), sessions);
        expect_known(stage, &known);
        for (unsigned n = 0; n < SESSIONS; n++) { /* and each can be gone on with */
            if (known.views[n] != NULL && (n + (unsigned)i) % 4 == 0)
                stage_talk(stage, id_of(n), 3, 50);
        }
        forget(&known);
        know(stage, &known);
    }
    for (unsigned n = 0; n < SESSIONS; n++) {
        if (known.views[n] != NULL)
            stage_expect_whole(stage, id_of(n), 6);
    }
    forget(&known);
}

static void keys_outlive_restarts_with_any_number_of_shards(void **state)
{
    struct stage *stage = *state;
    char *bodies[SESSIONS];
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < SESSIONS; i++) {
            struct request *request = stage_command(id_of(i), "session.create labels=a:b");
            request->key = request_text(request, "create");
            stage_ask_well(stage, request);
            assert_int_equal(request->replayed, round != 0);
            if (round == 0)
                bodies[i] = strdup(stage_text(request));
            else
                assert_string_equal(stage_text(request), bodies[i]);
            request_free(request);
        }
        stage_restart(stage, 1 + round, round % 2 == 0 ? STAGE_CLEAN : STAGE_KILL);
    }
    for (unsigned i = 0; i < SESSIONS; i++)
        free(bodies[i]);
}

/* ---- checkpoints while everything changes */

struct traffic {
    struct ask *asks[400];
    unsigned n;
    uint64_t acknowledged[SESSIONS]; /* seq */
    bool deleting[SESSIONS];
};

static void send_some(struct stage *stage, struct traffic *traffic, unsigned *random)
{
    char line[128];
    for (unsigned i = 0; i < 12 && traffic->n < 400; i++) {
        *random = *random * 1664525 + 1013904223;
        unsigned number = (*random >> 16) % SESSIONS;
        const char *id = id_of(number);
        struct request *request;
        snprintf(line, sizeof(line), "message.send thread=general sender=ada content=%060u",
                 *random >> 8);
        if ((*random >> 8) % 40 == 0) {
            request = request_for(REQUEST_DELETE, id);
            traffic->deleting[number] = true;
        } else if ((*random >> 8) % 40 == 1) {
            request = request_for(REQUEST_COMMANDS, id);
            request_add(request, "session.create");
            request_add(request, "agent.register agent=ada");
            request_add(request,
                        "thread.create creator=ada name=G participants=ada thread=general");
            request->batch = true;
            traffic->deleting[number] = true; /* it may stand lower in its next life */
        } else {
            request = stage_command(id, line);
        }
        request->feed = number;
        traffic->asks[traffic->n++] = stage_send(stage, request);
    }
}

static void take_answers(struct traffic *traffic)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < traffic->n; i++) {
        struct ask *ask = traffic->asks[i];
        if (!ask->done) {
            traffic->asks[kept++] = ask;
            continue;
        }
        struct request *request = ask->request;
        if (request->error == 0 && request->kind == REQUEST_COMMANDS &&
            traffic->acknowledged[request->feed] < request->seq)
            traffic->acknowledged[request->feed] = request->seq;
        request_free(request);
        free(ask);
    }
    traffic->n = kept;
}

/* What was acknowledged is there, and whatever is there fits together. */
static void expect_acknowledged(struct stage *stage, const struct traffic *traffic)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        char *view = stage_view(stage, id_of(i));
        if (view == NULL) {
            assert_true(traffic->deleting[i]);
            continue;
        }
        json_t *tree = json_of(view);
        uint64_t seq = (uint64_t)json_integer_value(json_object_get(tree, "seq"));
        if (!traffic->deleting[i])
            assert_true(seq >= traffic->acknowledged[i]);
        json_decref(tree);
        free(view);
        stage_expect_whole(stage, id_of(i), 4);
    }
}

static void crashes_in_the_midst_of_checkpoints_lose_nothing_acknowledged(void **state)
{
    struct stage *stage = *state;
    struct traffic traffic = {0};
    unsigned random = 4711, during = 0;
    for (unsigned i = 0; i < SESSIONS; i++)
        stage_populate(stage, id_of(i));
    for (unsigned round = 0; round < 25; round++) {
        for (unsigned turns = 0; turns < 20 + round; turns++) {
            if (turns % 2 == 0)
                send_some(stage, &traffic, &random);
            stage_turn(stage);
            take_answers(&traffic);
        }
        /* Often until a checkpoint is being written. */
        for (unsigned i = 0; round % 3 != 0 && i < 50 && stage->shards[0]->checkpoint == NULL;
             i++) {
            send_some(stage, &traffic, &random);
            stage_turn(stage);
            take_answers(&traffic);
        }
        during += stage->shards[0]->checkpoint != NULL;
        stage->wall_ms += 100;
        stage->now_ms += 100;
        take_answers(&traffic);
        stage_restart(stage, round % 5 == 4 ? 1 + round % 4 : stage->n, STAGE_CRASH);
        for (unsigned i = 0; i < traffic.n; i++) { /* never answered */
            request_free(traffic.asks[i]->request);
            free(traffic.asks[i]);
        }
        traffic.n = 0;
        expect_acknowledged(stage, &traffic);
        for (unsigned i = 0; i < SESSIONS; i++) {
            char *view = stage_view(stage, id_of(i));
            if (view == NULL)
                stage_populate(stage, id_of(i));
            free(view);
            traffic.deleting[i] = false;
            traffic.acknowledged[i] = 0;
        }
    }
    assert_true(during >= 5);
}

static void a_start_reads_the_checkpoint_and_what_lies_behind_it(void **state)
{
    struct stage *stage = *state;
    for (unsigned i = 0; i < SESSIONS; i++) {
        stage_populate(stage, id_of(i));
        stage_talk(stage, id_of(i), 40, 50);
    }
    stage_settle(stage);
    uint64_t all = 0, behind = 0;
    for (unsigned i = 0; i < 2; i++)
        all += log_stats(stage->shards[i]->log)->bytes;
    stage_restart(stage, 2, STAGE_KILL);
    for (unsigned i = 0; i < 2; i++)
        behind += stage->shards[i]->recovered_bytes;
    assert_in_range(behind, 0, 2 * (8000 + 8000));
    assert_true(all > 100 * 1000);
    stage_restart(stage, 2, STAGE_CLEAN);
    behind = 0;
    for (unsigned i = 0; i < 2; i++)
        behind += stage->shards[i]->recovered_bytes;
    assert_int_equal(behind, 0);
    assert_int_equal(stage_files(stage, "checkpoint-"), 2);
}

static void a_start_with_another_number_of_shards_may_fail_half_way(void **state)
{
    struct stage *stage = *state;
    struct known known;
    make_all(stage);
    know(stage, &known);
    stage_stop(stage, STAGE_KILL);
    /* As if killed after its shards have read everything, before the generation has begun. */
    char error[512] = "";
    for (int i = 0; i < 2; i++) {
        struct datadir_options options = {.shards = 3, .segment_bytes = stage->segment_bytes};
        assert_int_equal(fs_posix_open(stage_path(stage), true, &options.fs, error, sizeof(error)),
                         0);
        assert_int_equal(datadir_open(&options, &stage->dir, error, sizeof(error)), 0);
        if (i == 1) {
            uint32_t number;
            int fd;
            assert_int_equal(datadir_begin_checkpoint(stage->dir, &number, &fd), 0);
            datadir_abandon_checkpoint(stage->dir, number, fd);
        }
        datadir_close(stage->dir, false);
    }
    stage->n = 3;
    stage_start(stage);
    expect_known(stage, &known);
    forget(&known);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_two, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(kill_and_clean_stop_keep_everything),
        TEST(any_number_of_shards_after_any_other_keeps_everything),
        TEST(keys_outlive_restarts_with_any_number_of_shards),
        TEST(crashes_in_the_midst_of_checkpoints_lose_nothing_acknowledged),
        TEST(a_start_reads_the_checkpoint_and_what_lies_behind_it),
        TEST(a_start_with_another_number_of_shards_may_fail_half_way),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
