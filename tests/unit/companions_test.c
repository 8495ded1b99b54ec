/*
 * Companions: sessions that faces keep beside those of their clients. They are kept like any other,
 * and no list, overview or count of sessions shows them. And whether a session is there at all,
 * asked without loading it.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

#include "shards/verify.h"

enum { IDLE_MS = 1000, TTL_S = 100 };

#define COMPANION "~01jd3x9k2m4n6p8q0r2s4t6v8w"

static int open_two(void **state)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 2);
    stage->settings.idle_passivate_ms = IDLE_MS;
    stage->settings.compact_after_ms = 1000;
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

/* ---- ids */

static void a_companions_id_is_a_tilde_and_an_id(void **state)
{
    char longest[CORE_ID_BYTES + 1];
    (void)state;
    memset(longest, 'a', sizeof(longest));
    longest[0] = '~';
    assert_true(core_companion_id(STR("~a")));
    assert_true(core_companion_id(STR(COMPANION)));
    assert_true(core_companion_id((struct str){longest, CORE_ID_BYTES}));
    assert_false(core_companion_id((struct str){longest, CORE_ID_BYTES + 1}));
    assert_false(core_companion_id((struct str){0}));
    assert_false(core_companion_id(STR("~")));
    assert_false(core_companion_id(STR("~~a")));
    assert_false(core_companion_id(STR("~-a")));
    assert_false(core_companion_id(STR("~a/b")));
    assert_false(core_companion_id(STR("a")));
    assert_false(core_id_valid(STR("~a"))); /* no client may name one */
    assert_true(core_session_id_valid(STR("~a")));
    assert_true(core_session_id_valid(STR("a")));
    assert_false(core_session_id_valid(STR("-a")));
}

/* ---- hidden */

static json_t *sessions_listed(struct stage *stage, enum request_kind kind)
{
    json_t *ids = json_array();
    for (unsigned i = 0; i < stage->n; i++) {
        struct request *request = request_for(kind, NULL);
        request->shard = (uint16_t)i;
        request->limit = 100;
        request->pages = kind == REQUEST_CHANGES;
        stage_ask_well(stage, request);
        assert_false(request->more);
        buf_add_byte(&request->body, ']');
        struct buf text = {0};
        buf_add_byte(&text, '[');
        buf_add_str(&text, buf_str(&request->body));
        for (uint32_t c = 0; c < request->changes_n; c++)
            json_array_append_new(
                ids, json_stringn(request->changes[c].session.p, request->changes[c].session.n));
        json_t *tree = kind == REQUEST_LIST ? json_of_text(buf_str(&text)) : json_array();
        for (size_t k = 0; k < json_array_size(tree); k++)
            json_array_append(ids, json_object_get(json_array_get(tree, k), "id"));
        json_decref(tree);
        buf_free(&text);
        request_free(request);
    }
    return ids;
}

static void expect_listed(struct stage *stage, size_t n)
{
    static const enum request_kind kinds[] = {REQUEST_LIST, REQUEST_CHANGES};
    for (int i = 0; i < 2; i++) {
        json_t *ids = sessions_listed(stage, kinds[i]);
        assert_int_equal(json_array_size(ids), n);
        for (size_t k = 0; k < n; k++)
            assert_int_not_equal(json_string_value(json_array_get(ids, k))[0], '~');
        json_decref(ids);
    }
}

static void make_both(struct stage *stage, unsigned n)
{
    char id[16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(id, sizeof(id), "~c%u", i);
        stage_do(stage, id, "session.create labels=level:info");
        snprintf(id, sizeof(id), "zz%u", i);
        stage_do(stage, id, "session.create labels=level:info");
    }
}

static void lists_and_overviews_pass_over_them(void **state)
{
    struct stage *stage = *state;
    make_both(stage, 10);
    expect_listed(stage, 10);
    stage_passivate(stage);
    expect_listed(stage, 10);
    stage_restart(stage, 3, STAGE_KILL);
    expect_listed(stage, 10);
}

static void who_waits_for_changes_is_not_told_of_them(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, COMPANION, "session.create");
    struct request *request = request_for(REQUEST_CHANGES, NULL);
    request->shard = (uint16_t)stage_shard_of(stage, COMPANION)->number;
    request->wait = true;
    struct ask *waiting = stage_send(stage, request);
    stage_settle(stage);
    stage_do(stage, COMPANION, "session.update labels=level:debug");
    stage_pass(stage, IDLE_MS); /* a pause between two answers, and it leaves memory */
    stage_delete(stage, COMPANION);
    stage_pass(stage, IDLE_MS);
    assert_false(waiting->done);
    struct request *cancel = request_for(REQUEST_CANCEL, NULL);
    cancel->token = request->token;
    assert_int_equal(mailbox_send_to(&stage->mailboxes[0], cancel, request->shard), 0);
    request = stage_await(stage, waiting);
    assert_int_equal(request->changes_n, 0);
    request_free(request);
}

static void figures_count_them_apart(void **state)
{
    struct stage *stage = *state;
    make_both(stage, 10);
    stage_delete(stage, "~c0");
    stage_delete(stage, "zz0");
    stage_delete(stage, "zz1");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stage_figure(stage, "sessions"), 8);
        assert_int_equal(stage_figure(stage, "companions"), 9);
        assert_int_equal(stage_figure(stage, "active"), i == 0 ? 8 : 0);
        assert_int_equal(stage_figure(stage, "companions_active"), i == 0 ? 9 : 0);
        if (i == 0)
            stage_passivate(stage);
        else
            stage_restart(stage, 2, i == 1 ? STAGE_CLEAN : STAGE_KILL);
    }
}

/* ---- kept */

/* Labels whose keys are URIs of 200 bytes, as many as a session may have. */
static uint64_t label_fully(struct stage *stage, const char *session)
{
    uint32_t n = stage->limits.max[CORE_LIMIT_LABELS];
    struct request *request = stage_command(session, "session.update labels=a:b");
    struct core_fields *f = &request->commands[0].command.f;
    f->labels.n = n;
    f->labels.items = arena_alloc(&request->arena, n * sizeof(*f->labels.items));
    for (uint32_t i = 0; i < n; i++) {
        char key[201];
        snprintf(key, sizeof(key), "atoll://sessions/%0183u", i);
        f->labels.items[i] =
            (struct core_label){request_text(request, key), request_text(request, "1")};
        assert_int_equal(f->labels.items[i].key.n, 200);
    }
    request = stage_ask_well(stage, request);
    uint64_t seq = request->seq;
    request_free(request);
    return seq;
}

static void they_are_kept_like_any_other(void **state)
{
    static const enum stage_end ends[] = {STAGE_KILL, STAGE_CLEAN, STAGE_CRASH};
    struct stage *stage = *state;
    stage_do(stage, COMPANION, "session.create ttl_s=1000");
    assert_int_equal(label_fully(stage, COMPANION), 2);
    for (int i = 0; i < 200; i++) { /* makes snapshots, checkpoints and segments */
        struct request *request = stage_command(COMPANION, "session.update labels=a:null");
        struct core_label *label = request->commands[0].command.f.labels.items;
        char key[201], value[16];
        snprintf(key, sizeof(key), "atoll://sessions/%0183d", i % 64);
        snprintf(value, sizeof(value), "%d", i);
        *label = (struct core_label){request_text(request, key), request_text(request, value)};
        request_free(stage_ask_well(stage, request));
    }
    char *view = stage_view(stage, COMPANION);
    char *proof = stage_proof(stage, COMPANION, 0);
    stage_expect_whole(stage, COMPANION, 5);
    stage_passivate(stage);
    assert_false(stage_is_active(stage, COMPANION));
    stage_expect_view(stage, COMPANION, view);
    for (int i = 0; i < 3; i++) {
        stage_restart(stage, 2 + (unsigned)i % 2, ends[i]);
        stage_expect_view(stage, COMPANION, view);
        char *again = stage_proof(stage, COMPANION, 0);
        assert_string_equal(again, proof);
        free(again);
    }
    stage_expect_whole(stage, COMPANION, 5);
    free(view);
    free(proof);
}

static void what_is_deleted_leaves_the_disk(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, COMPANION, "session.create labels=who:WILLGOAWAY");
    stage_do(stage, COMPANION, "session.update labels=who:stays");
    assert_true(stage_finds(stage, "WILLGOAWAY"));
    stage_delete(stage, COMPANION);
    make_both(stage, 3);
    for (int i = 0; i < 100 && stage_finds(stage, "WILLGOAWAY"); i++) {
        stage_talk(stage, i == 0 ? (stage_populate(stage, "s1"), "s1") : "s1", 20, 2000);
        stage_pass(stage, 1000);
    }
    assert_false(stage_finds(stage, "WILLGOAWAY"));
    stage_expect_whole(stage, "~c2", 1);
}

static void verify_finds_a_directory_with_them_well(void **state)
{
    struct stage *stage = *state;
    struct verify_options options = {0};
    struct verify_report report = {0};
    char error[1024] = "";
    make_both(stage, 10);
    stage_do(stage, COMPANION, "session.create ttl_s=100");
    label_fully(stage, COMPANION);
    stage_delete(stage, "~c2");
    stage_restart(stage, 2, STAGE_CLEAN); /* checkpoints of them, and records behind */
    stage_do(stage, "~more", "session.create ttl_s=100");
    label_fully(stage, "~more");
    stage_stop(stage, STAGE_KILL);
    struct fs *fs;
    assert_int_equal(fs_posix_open(stage_path(stage), false, &fs, error, sizeof(error)), 0);
    if (verify_run(fs, &options, &report, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    fs->ops->free(fs);
    assert_int_equal(report.sessions, 10);
    assert_int_equal(report.companions, 11);
    stage_start(stage);
}

static void their_time_runs_out(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, COMPANION, "session.create ttl_s=100");
    stage_pass(stage, TTL_S * 1000 - 1);
    assert_int_equal(stage_figure(stage, "companions"), 1);
    stage_restart(stage, 2, STAGE_CLEAN);
    assert_int_equal(stage_figure(stage, "companions"), 1);
    stage_pass(stage, 1);
    stage_settle(stage);
    assert_int_equal(stage_figure(stage, "companions"), 0);
    assert_null(stage_view(stage, COMPANION));
}

/* ---- whether it is there */

static bool exists(struct stage *stage, const char *session, bool *due)
{
    struct request *request = stage_ask(stage, request_for(REQUEST_EXISTS, session));
    bool there = request->error == 0;
    assert_true(there || request->error == CORE_E_UNKNOWN_SESSION);
    *due = request->more;
    request_free(request);
    return there;
}

static void expect_exists(struct stage *stage, const char *session, bool due)
{
    bool more;
    assert_true(exists(stage, session, &more));
    assert_int_equal(more, due);
}

static void expect_missing(struct stage *stage, const char *session)
{
    bool more;
    assert_false(exists(stage, session, &more));
    assert_false(more);
}

static void what_exists_is_told_without_loading_it(void **state)
{
    struct stage *stage = *state;
    expect_missing(stage, COMPANION);
    stage_do(stage, COMPANION, "session.create");
    stage_populate(stage, "s1");
    expect_exists(stage, COMPANION, false);
    stage_passivate(stage);
    expect_exists(stage, COMPANION, false);
    expect_exists(stage, "s1", false);
    assert_false(stage_is_active(stage, COMPANION));
    stage_restart(stage, 3, STAGE_KILL);
    expect_exists(stage, COMPANION, false);
    assert_int_equal(stage_figure(stage, "loads"), 0);
    stage_delete(stage, COMPANION);
    expect_missing(stage, COMPANION);
    stage_restart(stage, 1, STAGE_CLEAN);
    expect_missing(stage, COMPANION);
    expect_exists(stage, "s1", false);
}

static void half_of_its_time_is_told_when_it_is_over(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, COMPANION, "session.create ttl_s=100");
    expect_exists(stage, COMPANION, false);
    stage->settings.idle_passivate_ms = 0;
    stage_pass(stage, TTL_S * 1000 / 2);
    expect_exists(stage, COMPANION, false);
    stage_pass(stage, 1);
    expect_exists(stage, COMPANION, true);
    stage_do(stage, COMPANION, "session.update labels=a:1"); /* used: it begins anew */
    expect_exists(stage, COMPANION, false);
    stage_passivate(stage);
    expect_exists(stage, COMPANION, false);
    stage_pass(stage, TTL_S * 1000 / 2);
    expect_exists(stage, COMPANION, false);
    stage_pass(stage, 1);
    expect_exists(stage, COMPANION, true);
    assert_false(stage_is_active(stage, COMPANION));
    stage_pass(stage, TTL_S * 1000 / 2 - 1);
    stage_settle(stage);
    expect_missing(stage, COMPANION);
}

static void after_a_restart_it_may_be_over_until_somebody_looks(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, COMPANION, "session.create ttl_s=100");
    stage_restart(stage, 2, STAGE_CLEAN);
    expect_exists(stage, COMPANION, true);
    stage_do(stage, COMPANION, "session.update labels=a:1");
    expect_exists(stage, COMPANION, false);
    stage_passivate(stage);
    expect_exists(stage, COMPANION, false);
}

static void a_session_that_is_being_loaded_exists(void **state)
{
    struct stage *stage = *state;
    bool more;
    stage_populate(stage, "s1");
    stage_passivate(stage);
    struct ask *view = stage_send(stage, request_for(REQUEST_VIEW, "s1"));
    struct ask *ask = stage_send(stage, request_for(REQUEST_EXISTS, "s1"));
    struct request *answer = stage_await(stage, ask);
    assert_int_equal(answer->error, 0);
    assert_false(view->done); /* it did not wait for that */
    request_free(answer);
    request_free(stage_await(stage, view));
    assert_true(exists(stage, "s1", &more));
}

#define STAGED(test) cmocka_unit_test_setup_teardown(test, open_two, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_companions_id_is_a_tilde_and_an_id),
        STAGED(lists_and_overviews_pass_over_them),
        STAGED(who_waits_for_changes_is_not_told_of_them),
        STAGED(figures_count_them_apart),
        STAGED(they_are_kept_like_any_other),
        STAGED(what_is_deleted_leaves_the_disk),
        STAGED(verify_finds_a_directory_with_them_well),
        STAGED(their_time_runs_out),
        STAGED(what_exists_is_told_without_loading_it),
        STAGED(half_of_its_time_is_told_when_it_is_over),
        STAGED(after_a_restart_it_may_be_over_until_somebody_looks),
        STAGED(a_session_that_is_being_loaded_exists),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
