/*
 * Forks: histories shared between sessions, what pins hold and when they let go, over deletions and
 * restarts.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

static int open_stage(void **state, unsigned shards)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, shards);
    stage->settings.idle_passivate_ms = 1000;
    stage->settings.compact_after_ms = 1000;
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

static int open_three(void **state)
{
    return open_stage(state, 3);
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

static void expect_same_state(struct stage *stage, const char *a, const char *b, uint64_t seq)
{
    char *views[2] = {stage_view_at(stage, a, seq), stage_view_at(stage, b, seq)};
    json_t *trees[2] = {json_of(views[0]), json_of(views[1])};
    for (int i = 0; i < 2; i++)
        assert_int_equal(json_integer_value(json_object_get(trees[i], "seq")), seq);
    if (!json_equal(json_object_get(trees[0], "state"), json_object_get(trees[1], "state")))
        fail_msg("at seq %llu:\n%s\n%s", (unsigned long long)seq, views[0], views[1]);
    for (int i = 0; i < 2; i++) {
        json_decref(trees[i]);
        free(views[i]);
    }
}

static void expect_forks(struct stage *stage, uint64_t forks)
{
    assert_int_equal(stage_figure(stage, "forks"), forks);
    assert_int_equal(stage_figure(stage, "pins"), forks);
}

static void a_fork_has_the_history_up_to_its_seq_and_then_its_own(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    stage_talk(stage, "parent", 100, 60);
    static const uint64_t ats[] = {1, 2, 4, 5, 50, 103, 104};
    for (int i = 0; i < 7; i++) {
        char id[16];
        snprintf(id, sizeof(id), "fork%d", i);
        struct request *request = stage_ask_well(stage, stage_fork_request("parent", ats[i], id));
        char seq[16], past[16];
        snprintf(seq, sizeof(seq), "%llu", (unsigned long long)ats[i] + 1);
        snprintf(past, sizeof(past), "%llu", (unsigned long long)ats[i]);
        expect_json(stage_text(request), "/seq", seq);
        expect_json(stage_text(request), "/parent/session", "\"parent\"");
        expect_json(stage_text(request), "/parent/seq", past);
        request_free(request);
        char *view = stage_view(stage, id);
        expect_json(view, "/seq", seq);
        free(view);
        for (uint64_t at = 1; at <= ats[i]; at += 1 + ats[i] / 5)
            expect_same_state(stage, "parent", id, at);
        stage_do(stage, id, "agent.register agent=cy");
        stage_expect_whole(stage, id, 10);
    }
    stage_expect_whole(stage, "parent", 10);
    expect_forks(stage, 7);
}

static void a_fork_is_listed_followed_and_paged_like_any_session(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    stage_talk(stage, "parent", 80, 60);
    stage_fork(stage, "parent", 50, "fork");
    stage_talk(stage, "fork", 80, 60);
    struct watch watch;
    stage_follow(stage, &watch, "fork", 1);
    assert_int_equal(watch.told, 131);
    assert_int_equal(watch.gaps, 0);
    stage_unfollow(stage, &watch, "fork");
    watch_free(&watch);
    for (int descending = 0; descending < 2; descending++) {
        struct request *request = request_for(REQUEST_EVENTS, "fork");
        request->limit = 1000;
        request->descending = descending;
        stage_ask_well(stage, request);
        json_t *tree = json_of(stage_text(request));
        json_t *events = json_object_get(tree, "events");
        assert_int_equal(json_array_size(events), 131);
        for (size_t i = 0; i < 131; i++) {
            json_t *event = json_array_get(events, descending ? 130 - i : i);
            assert_int_equal(json_integer_value(json_object_get(event, "seq")), i + 1);
            const char *type = json_string_value(json_object_get(event, "type"));
            assert_int_equal(strcmp(type, "session.forked") == 0, i + 1 == 51);
        }
        json_decref(tree);
        request_free(request);
    }
}

/* A record of the parent that holds both the seq where the fork begins and later ones. */
static void a_fork_in_the_middle_of_a_batch_shows_nothing_of_its_rest(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    struct request *batch = request_for(REQUEST_COMMANDS, "parent");
    batch->batch = true;
    for (int i = 0; i < 10; i++)
        request_add(batch, "message.send thread=general sender=ada content=of-the-batch");
    request_free(stage_ask_well(stage, batch));
    stage_fork(stage, "parent", 8, "fork");
    stage_do(stage, "fork", "agent.register agent=cy");
    for (int i = 0; i < 2; i++) {
        struct request *request = request_for(REQUEST_EVENTS, "fork");
        request->limit = 100;
        request->descending = i == 1;
        stage_ask_well(stage, request);
        expect_json(stage_text(request), i == 1 ? "/events/1/type" : "/events/8/type",
                    "\"session.forked\"");
        expect_json(stage_text(request), i == 1 ? "/events/0/seq" : "/events/9/seq", "10");
        expect_json(stage_text(request), "/events/10", NULL);
        request_free(request);
    }
    stage_expect_whole(stage, "fork", 20);
}

static void a_fork_of_a_fork_shares_with_both(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "a");
    stage_talk(stage, "a", 50, 60);
    stage_fork(stage, "a", 30, "b");
    stage_talk(stage, "b", 50, 60);
    static const uint64_t ats[] = {5, 29, 30, 31, 32, 60, 81};
    for (int i = 0; i < 7; i++) {
        char id[8];
        snprintf(id, sizeof(id), "c%d", i);
        stage_fork(stage, "b", ats[i], id);
        stage_talk(stage, id, 5, 60);
        stage_expect_whole(stage, id, 10);
        expect_same_state(stage, "b", id, ats[i]);
        expect_same_state(stage, ats[i] <= 30 ? "a" : "b", id, ats[i]);
    }
    stage_restart(stage, stage->n, STAGE_KILL);
    for (int i = 0; i < 7; i++) {
        char id[8];
        snprintf(id, sizeof(id), "c%d", i);
        stage_expect_whole(stage, id, 10);
    }
}

static void a_chain_of_a_thousand_forks_is_one_history(void **state)
{
    struct stage *stage = *state;
    enum { DEEP = 1000 };
    char ids[2][16] = {"f0000", ""};
    stage_populate(stage, ids[0]);
    for (unsigned i = 1; i <= DEEP; i++) {
        snprintf(ids[i % 2], sizeof(ids[0]), "f%04u", i);
        stage_fork(stage, ids[(i + 1) % 2], 3 + i, ids[i % 2]);
    }
    expect_forks(stage, DEEP);
    stage_passivate(stage);
    expect_same_state(stage, "f0000", "f1000", 2);
    expect_same_state(stage, "f0500", "f1000", 504);
    stage_expect_whole(stage, "f1000", 20);
    char *view = stage_view_at(stage, "f1000", 2);
    for (int i = 0; i < 2; i++) {
        stage_restart(stage, i == 0 ? stage->n : stage->n % 3 + 1, STAGE_KILL);
        char *again = stage_view_at(stage, "f1000", 2);
        assert_string_equal(view, again);
        free(again);
        expect_forks(stage, DEEP);
    }
    free(view);
    /* All but the last deleted: it holds them all. Then it lets go of them all. */
    for (unsigned i = 0; i < DEEP; i++) {
        snprintf(ids[0], sizeof(ids[0]), "f%04u", i);
        stage_delete(stage, ids[0]);
    }
    stage_settle(stage);
    expect_forks(stage, DEEP);
    stage_expect_whole(stage, "f1000", 5);
    stage_delete(stage, "f1000");
    stage_settle(stage);
    expect_forks(stage, 0);
    assert_int_equal(stage_figure(stage, "sessions"), 0);
}

/* ---- what is refused, what is the same again */

static void the_same_fork_again_is_told_so_and_another_is_refused(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    stage_populate(stage, "other");
    struct request *first = stage_ask_well(stage, stage_fork_request("parent", 3, "fork"));
    stage_do(stage, "fork", "agent.register agent=cy");
    for (int i = 0; i < 2; i++) {
        struct request *again = stage_ask_well(stage, stage_fork_request("parent", 3, "fork"));
        assert_true(again->again);
        assert_string_equal(stage_text(again), stage_text(first));
        request_free(again);
        stage_passivate(stage);
    }
    request_free(first);
    stage_expect_refused(stage, stage_fork_request("parent", 2, "fork"), CORE_E_REFUSED);
    stage_expect_refused(stage, stage_fork_request("other", 3, "fork"), CORE_E_REFUSED);
    stage_expect_refused(stage, stage_fork_request("parent", 3, "other"), CORE_E_REFUSED);
    stage_expect_refused(stage, stage_fork_request("parent", 3, "parent"), CORE_E_REFUSED);
    expect_forks(stage, 1);
    stage_expect_whole(stage, "fork", 10);
}

static void what_cannot_be_forked_leaves_neither_fork_nor_pin(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    stage_expect_refused(stage, stage_fork_request("parent", 5, "fork"), CORE_E_MALFORMED);
    stage_expect_refused(stage, stage_fork_request("none", 3, "fork"), CORE_E_UNKNOWN_SESSION);
    stage_expect_refused(stage, stage_fork_request("fork", 3, "fork"), CORE_E_UNKNOWN_SESSION);
    struct request *epoch = stage_fork_request("parent", 3, "fork");
    epoch->at.epoch = STR("zz");
    stage_expect_refused(stage, epoch, REQUEST_E_GONE);
    stage_delete(stage, "parent");
    stage_expect_refused(stage, stage_fork_request("parent", 3, "fork"), CORE_E_UNKNOWN_SESSION);
    stage_settle(stage);
    expect_forks(stage, 0);
    assert_null(stage_view(stage, "fork"));
    assert_int_equal(stage_figure(stage, "sessions"), 0);
}

static void keys_are_not_inherited(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    struct request *keyed = stage_command("parent", "agent.register agent=cy");
    keyed->key = request_text(keyed, "k");
    request_free(stage_ask_well(stage, keyed));
    stage_fork(stage, "parent", 5, "fork");
    for (int i = 0; i < 2; i++) {
        keyed = stage_command("fork", "agent.register agent=dan");
        keyed->key = request_text(keyed, "k");
        stage_ask_well(stage, keyed);
        assert_int_equal(keyed->replayed, i == 1);
        assert_int_equal(keyed->seq, 7);
        request_free(keyed);
    }
}

static void a_passive_session_can_be_forked(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    stage_talk(stage, "parent", 100, 60);
    stage_pass(stage, 1000);
    assert_false(stage_is_active(stage, "parent"));
    stage_fork(stage, "parent", 60, "fork");
    stage_talk(stage, "fork", 3, 60);
    stage_expect_whole(stage, "fork", 10);
}

static void two_forks_under_one_id_at_once_are_one(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    struct ask *asks[4];
    for (int i = 0; i < 4; i++)
        asks[i] = stage_send(stage, stage_fork_request("parent", i < 2 ? 3 : 2, "fork"));
    for (int i = 0; i < 4; i++) {
        struct request *request = stage_await(stage, asks[i]);
        assert_int_equal(request->error, i < 2 ? 0 : (unsigned)CORE_E_REFUSED);
        assert_int_equal(request->again, i == 1);
        request_free(request);
    }
    expect_forks(stage, 1);
}

/* ---- pins */

static void pass_until_compacted(struct stage *stage)
{
    for (int i = 0; i < 30 && stage_figure(stage, "deleted_waiting") != 0; i++)
        stage_pass(stage, 11 * 1000);
    assert_int_equal(stage_figure(stage, "deleted_waiting"), 0);
}

static void a_deleted_parent_keeps_only_what_its_forks_have_pinned(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    stage_populate(stage, "other");
    stage_do(stage, "parent", "message.send thread=general sender=ada content=marker-pinned");
    stage_talk(stage, "parent", 100, 60);
    stage_fork(stage, "parent", 60, "fork");
    stage_do(stage, "parent", "message.send thread=general sender=ada content=marker-later");
    stage_talk(stage, "parent", 100, 60);
    stage_delete(stage, "parent");
    assert_int_equal(stage_figure(stage, "deleted_kept"), 1);
    pass_until_compacted(stage);
    assert_true(stage_finds(stage, "marker-pinned"));
    assert_false(stage_finds(stage, "marker-later"));
    stage_expect_whole(stage, "fork", 20);
    stage_restart(stage, stage->n, STAGE_CLEAN);
    stage_expect_whole(stage, "fork", 20);
    assert_int_equal(stage_figure(stage, "deleted_kept"), 1);

    stage_populate(stage, "parent"); /* another life has nothing to do with it */
    stage_delete(stage, "fork");
    stage_settle(stage);
    expect_forks(stage, 0);
    assert_int_equal(stage_figure(stage, "deleted_kept"), 0);
    pass_until_compacted(stage);
    assert_false(stage_finds(stage, "marker-pinned"));
    stage_expect_whole(stage, "parent", 4);
    stage_expect_whole(stage, "other", 4);
}

static void ignore_pin(void *owner, struct request *request)
{
    *(bool *)owner = true;
    request_free(request);
}

/* As a crash between the pin and the fork leaves it. */
static void make_orphan_pin(struct stage *stage, const char *parent, const char *child)
{
    bool done = false;
    struct request *pin = request_for(REQUEST_PIN, parent);
    pin->child = request_text(pin, child);
    pin->at = (struct request_at){.given = true, .seq = 3};
    pin->errand = ignore_pin;
    pin->errand_owner = &done;
    mailbox_errand(&stage->mailboxes[0], pin);
    stage_settle(stage);
    assert_true(done);
}

static void a_start_removes_pins_without_a_fork(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "parent");
    stage_fork(stage, "parent", 3, "fork");
    make_orphan_pin(stage, "parent", "never-was");
    assert_int_equal(stage_figure(stage, "pins"), 2);
    stage_restart(stage, stage->n, STAGE_KILL);
    expect_forks(stage, 1);
    make_orphan_pin(stage, "parent", "never-was");
    stage_restart(stage, stage->n % 3 + 1, STAGE_CLEAN);
    expect_forks(stage, 1);
    stage_fork(stage, "parent", 3, "never-was");
    stage_restart(stage, stage->n % 3 + 1, STAGE_KILL);
    expect_forks(stage, 2);
    stage_expect_whole(stage, "never-was", 4);
}

/* At whatever moment: the fork is there as a whole, or not at all; and its pin just as it. */
static void a_crash_in_the_midst_of_a_fork_leaves_it_whole_or_not_there(void **state)
{
    struct stage *stage = *state;
    bool there = false, missing = false;
    stage_populate(stage, "parent");
    stage_talk(stage, "parent", 30, 60);
    for (unsigned turns = 0; turns < 10; turns++) {
        char id[8];
        snprintf(id, sizeof(id), "f%u", turns);
        uint64_t forks = stage_figure(stage, "forks");
        struct ask *ask = stage_send(stage, stage_fork_request("parent", 20, id));
        for (unsigned i = 0; i < turns; i++)
            stage_turn(stage);
        bool answered = ask->done;
        stage_restart(stage, stage->n, STAGE_CRASH);
        request_free(ask->request);
        free(ask);
        char *view = stage_view(stage, id);
        expect_forks(stage, forks + (view != NULL));
        assert_true(view != NULL || !answered);
        if (view != NULL)
            stage_expect_whole(stage, id, 5);
        there = there || view != NULL;
        missing = missing || view == NULL;
        free(view);
    }
    assert_true(there && missing);
    stage_expect_whole(stage, "parent", 10);
}

/* An id that begins with this letter, on that shard. */
static void find_id(struct stage *stage, struct shard *shard, char letter, char id[16])
{
    unsigned i = 0;
    do
        snprintf(id, 16, "%c%u", letter, i++);
    while (stage_shard_of(stage, id) != shard);
}

static struct ask *send_delete(struct stage *stage, const char *id)
{
    struct request *request = request_new();
    request->kind = REQUEST_DELETE;
    request->session = arena_copy(&request->arena, (struct str){id, strlen(id)});
    return stage_send(stage, request);
}

/* root <- first <- second <- third; the forks are on one shard, the root is on the other. */
static void a_fork_lets_go_of_its_parent_only_when_its_end_is_on_the_disk(void **state)
{
    struct stage *stage = *state;
    struct io_fake *disk = stage->fakes[0];
    char root[16], first[16], second[16], third[16];

    find_id(stage, stage->shards[1], 'r', root);
    find_id(stage, stage->shards[0], 'a', first);
    find_id(stage, stage->shards[0], 'b', second);
    find_id(stage, stage->shards[0], 'c', third);
    stage_populate(stage, root);
    stage_talk(stage, root, 30, 60);
    stage_fork(stage, root, 20, first);
    stage_fork(stage, first, 20, second);
    stage_fork(stage, second, 20, third);
    stage_delete(stage, first);
    stage_settle(stage);
    expect_forks(stage, 3);

    io_fake_set_automatic(disk, false);
    struct ask *asks[2];
    asks[0] = send_delete(stage, third);
    while (io_fake_count(disk) == 0)
        stage_turn(stage);
    asks[1] = send_delete(stage, second); /* in the batch behind that */
    stage_turn(stage);
    io_fake_complete(disk, 0);
    /* The third has ended and says so; the second's end is still to be written. */
    while (stage_figure(stage, "pins") == 3)
        ;
    for (unsigned turns = 0; turns < 10; turns++)
        stage_turn(stage);
    assert_int_equal(stage_figure(stage, "pins"), 2);

    while (io_fake_count(disk) != 0)
        io_fake_complete(disk, 0);
    io_fake_set_automatic(disk, true);
    for (unsigned i = 0; i < 2; i++)
        request_free(stage_await(stage, asks[i]));
    stage_settle(stage);
    expect_forks(stage, 0);
}

static void many_forks_survive_any_restart(void **state)
{
    struct stage *stage = *state;
    char id[16];
    stage_populate(stage, "root");
    stage_talk(stage, "root", 60, 60);
    for (unsigned i = 0; i < 40; i++) {
        char parent[16] = "root";
        snprintf(id, sizeof(id), "f%02u", i);
        if (i >= 5)
            snprintf(parent, sizeof(parent), "f%02u", i / 3);
        stage_fork(stage, parent, 10 + i, id);
        stage_talk(stage, id, 25, 40);
    }
    for (unsigned i = 0; i < 40; i += 4) {
        snprintf(id, sizeof(id), "f%02u", i);
        stage_delete(stage, id);
    }
    stage_delete(stage, "root");
    stage_settle(stage);
    uint64_t pins = stage_figure(stage, "pins");
    for (unsigned round = 0; round < 5; round++) {
        stage_restart(stage, 1 + (stage->n + round) % 3, round % 2 == 0 ? STAGE_KILL : STAGE_CLEAN);
        pass_until_compacted(stage);
        expect_forks(stage, pins);
        for (unsigned i = 0; i < 40; i++) {
            snprintf(id, sizeof(id), "f%02u", i);
            if (i % 4 != 0)
                stage_expect_whole(stage, id, 4);
            else
                assert_null(stage_view(stage, id));
        }
    }
    for (unsigned i = 0; i < 40; i++) {
        snprintf(id, sizeof(id), "f%02u", i);
        if (i % 4 != 0)
            stage_delete(stage, id);
    }
    stage_settle(stage);
    expect_forks(stage, 0);
}

#define TEST(function, setup) cmocka_unit_test_setup_teardown(function, setup, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_fork_has_the_history_up_to_its_seq_and_then_its_own, open_two),
        TEST(a_fork_is_listed_followed_and_paged_like_any_session, open_three),
        TEST(a_fork_in_the_middle_of_a_batch_shows_nothing_of_its_rest, open_two),
        TEST(a_fork_of_a_fork_shares_with_both, open_three),
        TEST(a_chain_of_a_thousand_forks_is_one_history, open_three),
        TEST(the_same_fork_again_is_told_so_and_another_is_refused, open_two),
        TEST(what_cannot_be_forked_leaves_neither_fork_nor_pin, open_three),
        TEST(keys_are_not_inherited, open_two),
        TEST(a_passive_session_can_be_forked, open_two),
        TEST(two_forks_under_one_id_at_once_are_one, open_three),
        TEST(a_deleted_parent_keeps_only_what_its_forks_have_pinned, open_one),
        TEST(a_deleted_parent_keeps_only_what_its_forks_have_pinned, open_three),
        TEST(a_start_removes_pins_without_a_fork, open_two),
        TEST(a_crash_in_the_midst_of_a_fork_leaves_it_whole_or_not_there, open_one),
        TEST(a_crash_in_the_midst_of_a_fork_leaves_it_whole_or_not_there, open_three),
        TEST(a_fork_lets_go_of_its_parent_only_when_its_end_is_on_the_disk, open_two),
        TEST(many_forks_survive_any_restart, open_three),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
