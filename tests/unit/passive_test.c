/*
 * Sessions that leave memory, and what is asked of them then: everything must be as if they had
 * stayed.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

enum { IDLE_MS = 1000 };

static int open_two(void **state)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 2);
    stage->settings.idle_passivate_ms = IDLE_MS;
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

static void sleep_all(struct stage *stage)
{
    stage_pass(stage, IDLE_MS);
    stage_settle(stage);
    if (stage_figure(stage, "active") != 0)
        fail_msg("%llu sessions have not left memory",
                 (unsigned long long)stage_figure(stage, "active"));
}

/* ---- leaving and coming back */

static void a_session_untouched_for_long_leaves_memory(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    stage_populate(stage, "s2");
    stage_pass(stage, IDLE_MS / 2);
    stage_do(stage, "s2", "agent.register agent=cy");
    stage_pass(stage, IDLE_MS / 2);
    assert_false(stage_is_active(stage, "s1"));
    assert_true(stage_is_active(stage, "s2"));
    assert_int_equal(stage_figure(stage, "sessions"), 2);
    assert_int_equal(stage_figure(stage, "active"), 1);
    assert_int_equal(stage_figure(stage, "passivations"), 1);
    stage_pass(stage, IDLE_MS / 2);
    assert_int_equal(stage_figure(stage, "active"), 0);
}

static void the_next_request_finds_it_as_it_was(void **state)
{
    struct stage *stage = *state;
    /* Of few events, of some with a snapshot behind them, and of one that ends with a snapshot. */
    static const unsigned counts[] = {0, 10, 100, 300};
    for (int i = 0; i < 4; i++) {
        char id[8];
        snprintf(id, sizeof(id), "s%d", i);
        stage_populate(stage, id);
        stage_talk(stage, id, counts[i], 50);
        char *view = stage_view(stage, id);
        char *proof = stage_proof(stage, id, 0);
        sleep_all(stage);
        stage_expect_view(stage, id, view);
        sleep_all(stage);
        char *proof_again = stage_proof(stage, id, 0);
        assert_string_equal(proof, proof_again);
        sleep_all(stage);
        assert_int_equal(stage_do(stage, id, "agent.register agent=cy"), 5 + counts[i]);
        stage_expect_whole(stage, id, 5);
        free(view);
        free(proof);
        free(proof_again);
    }
    assert_true(stage_figure(stage, "snapshots") > 4);
    assert_true(stage_figure(stage, "loads") >= 12);
    assert_int_equal(stage_figure(stage, "load_failures"), 0);
}

static void going_and_coming_at_every_event_changes_nothing(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    for (unsigned i = 0; i < 150; i++) {
        stage_talk(stage, "s1", 1, 40 + i % 7);
        stage_passivate(stage);
        assert_false(stage_is_active(stage, "s1"));
    }
    assert_int_equal(stage_figure(stage, "loads"), 149);
    stage_expect_whole(stage, "s1", 40);
}

static struct request *keyed_message(const char *key, const char *content)
{
    char line[128];
    snprintf(line, sizeof(line), "message.send thread=general sender=ada content=%s", content);
    struct request *request = stage_command("s1", line);
    request->key = request_text(request, key);
    return request;
}

/* With the records behind the newest snapshot, and out of the snapshot. */
static void keys_are_answered_again_after_it_was_passive(void **state)
{
    struct stage *stage = *state;
    char *bodies[40];
    char key[8];
    stage_populate(stage, "s1");
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        struct request *first = stage_ask_well(stage, keyed_message(key, key));
        assert_false(first->replayed);
        bodies[i] = strdup(stage_text(first));
        request_free(first);
    }
    assert_true(stage_figure(stage, "snapshots") > 1);
    char *view = stage_view(stage, "s1");
    for (int i = 0; i < 40; i++) {
        sleep_all(stage);
        snprintf(key, sizeof(key), "k%d", i);
        struct request *again = stage_ask_well(stage, keyed_message(key, key));
        assert_true(again->replayed);
        assert_string_equal(stage_text(again), bodies[i]);
        request_free(again);
        stage_expect_refused(stage, keyed_message(key, "other"), CORE_E_KEY_REUSED);
        free(bodies[i]);
    }
    stage_expect_view(stage, "s1", view);
    free(view);
}

static void many_requests_for_a_passive_session_load_it_once_and_keep_their_order(void **state)
{
    struct stage *stage = *state;
    enum { MANY = 50 };
    struct ask *asks[MANY];
    stage_populate(stage, "s1");
    stage_talk(stage, "s1", 60, 50);
    sleep_all(stage);
    uint64_t loads = stage_figure(stage, "loads");
    for (int i = 0; i < MANY; i++)
        asks[i] = stage_send(
            stage, stage_command("s1", "message.send thread=general sender=ada content=x"));
    for (uint64_t i = 0; i < MANY; i++) {
        struct request *request = stage_await(stage, asks[i]);
        assert_int_equal(request->error, 0);
        assert_int_equal(request->seq, 65 + i);
        request_free(request);
    }
    assert_int_equal(stage_figure(stage, "loads"), loads + 1);
    stage_expect_whole(stage, "s1", 5);
}

static void who_is_watched_or_waited_for_stays(void **state)
{
    struct stage *stage = *state;
    struct watch watch;
    stage_populate(stage, "s1");
    stage_populate(stage, "s2");
    stage_follow(stage, &watch, "s1", UINT64_MAX);
    struct request *wait = request_for(REQUEST_INBOX, "s2");
    wait->inbox = (struct core_inbox_query){.agent = STR("bob"), .limit = 10};
    wait->wait = true;
    struct ask *waiting = stage_send(stage, wait);
    for (int i = 0; i < 5; i++)
        stage_pass(stage, IDLE_MS);
    assert_true(stage_is_active(stage, "s1"));
    assert_true(stage_is_active(stage, "s2"));
    stage_talk(stage, "s2", 1, 1);
    wait = stage_await(stage, waiting);
    assert_int_equal(wait->error, 0);
    expect_json(stage_text(wait), "/messages/0/seq", "5");
    request_free(wait);
    stage_unfollow(stage, &watch, "s1");
    stage_pass(stage, IDLE_MS);
    stage_pass(stage, IDLE_MS);
    assert_int_equal(stage_figure(stage, "active"), 0);
    watch_free(&watch);
}

static void the_least_recently_used_leave_when_memory_is_short(void **state)
{
    struct stage *stage = *state;
    for (unsigned i = 0; i < stage->n; i++) {
        stage->shards[i]->settings.idle_passivate_ms = 0;
        stage->shards[i]->settings.memory_bytes = 60 * 1000;
    }
    char id[8];
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "s%02d", i);
        stage_populate(stage, id);
        stage->now_ms++;
    }
    stage_settle(stage);
    for (unsigned i = 0; i < stage->n; i++)
        assert_in_range(stage->shards[i]->heap.allocated_bytes - stage->shards[i]->entries_bytes, 1,
                        60 * 1000);
    assert_int_equal(stage_figure(stage, "sessions"), 100);
    assert_in_range(stage_figure(stage, "active"), 5, 95);
    assert_true(stage_is_active(stage, "s99"));
    assert_false(stage_is_active(stage, "s00"));
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof(id), "s%02d", i);
        stage_expect_whole(stage, id, 1);
    }
}

/* ---- what may be asked of a passive one */

static void a_passive_session_can_be_deleted(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    sleep_all(stage);
    stage_delete(stage, "s1");
    assert_null(stage_view(stage, "s1"));
    assert_int_equal(stage_figure(stage, "sessions"), 0);
    stage_populate(stage, "s1"); /* another life */
    sleep_all(stage);
    stage_restart(stage, 2, STAGE_KILL);
    stage_expect_whole(stage, "s1", 4);
}

static void a_passive_session_can_be_updated_where_it_stands(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    sleep_all(stage);
    struct request *stale = stage_command("s1", "session.update labels=a:b");
    stale->commands[0].has_expected = true;
    stale->commands[0].expected_seq = 3;
    stage_expect_refused(stage, stale, CORE_E_EXPECTED_SEQ);
    sleep_all(stage);
    struct request *exact = stage_command("s1", "session.update labels=a:b");
    exact->commands[0].has_expected = true;
    exact->commands[0].expected_seq = 4;
    exact = stage_ask_well(stage, exact);
    assert_int_equal(exact->seq, 5);
    request_free(exact);
}

static void a_passive_session_can_be_waited_on_and_followed(void **state)
{
    struct stage *stage = *state;
    struct watch watch;
    stage_populate(stage, "s1");
    stage_talk(stage, "s1", 100, 50);
    struct request *read = stage_command("s1", "thread.read thread=general agent=bob upto=104");
    request_free(stage_ask_well(stage, read));
    sleep_all(stage);
    struct request *wait = request_for(REQUEST_INBOX, "s1");
    wait->inbox = (struct core_inbox_query){.agent = STR("bob"), .limit = 10};
    wait->wait = true;
    struct ask *waiting = stage_send(stage, wait);
    stage_settle(stage);
    assert_true(stage_is_active(stage, "s1"));
    assert_false(waiting->done);
    stage_do(stage, "s1", "message.send thread=general sender=ada content=x");
    wait = stage_await(stage, waiting);
    assert_int_equal(wait->error, 0);
    request_free(wait);

    sleep_all(stage);
    stage_follow(stage, &watch, "s1", 7);
    assert_int_equal(watch.snapshots, 0);
    assert_int_equal(watch.told, 106);
    stage_do(stage, "s1", "message.send thread=general sender=ada content=x");
    stage_settle(stage);
    assert_int_equal(watch.told, 107);
    assert_int_equal(watch.gaps, 0);
    stage_unfollow(stage, &watch, "s1");
    watch_free(&watch);

    sleep_all(stage);
    struct request *cancel = request_for(REQUEST_CANCEL, "s1");
    request_free(stage_ask_well(stage, cancel));
    request_free(stage_ask_well(stage, request_for(REQUEST_UNFOLLOW, "s1")));
}

/* ---- lists */

struct listing {
    unsigned n, pages;
    json_t *sessions; /* by id */
};

static struct listing list_all(struct stage *stage, uint32_t limit, const char *key,
                               const char *value)
{
    struct listing listing = {.sessions = json_object()};
    for (unsigned shard = 0; shard < stage->n; shard++) {
        char cursor[CORE_ID_BYTES + 1] = "";
        for (bool more = true; more;) {
            struct request_label_filter filter = {str_of(key != NULL ? key : ""),
                                                  value != NULL ? str_of(value) : (struct str){0}};
            struct request *request = request_for(REQUEST_LIST, NULL);
            request->shard = (uint16_t)shard;
            request->limit = limit;
            request->labels = &filter;
            request->labels_n = key != NULL;
            if (cursor[0] != '\0')
                request->cursor = request_text(request, cursor);
            stage_ask_well(stage, request);
            char *text = NULL;
            assert_true(asprintf(&text, "[%s]", stage_text(request)) > 0);
            json_t *page = json_of(text);
            assert_int_equal(json_array_size(page), request->count);
            assert_true(request->count <= limit);
            json_t *session;
            size_t i;
            json_array_foreach (page, i, session) {
                const char *id = json_string_value(json_object_get(session, "id"));
                assert_null(json_object_get(listing.sessions, id));
                json_object_set(listing.sessions, id, session);
                listing.n++;
            }
            json_decref(page);
            free(text);
            more = request->more;
            assert_true(!more || request->last_id.n != 0);
            snprintf(cursor, sizeof(cursor), "%.*s", (int)request->last_id.n,
                     request->last_id.n != 0 ? request->last_id.p : "");
            request_free(request);
            listing.pages++;
        }
    }
    return listing;
}

static unsigned count_listed(struct stage *stage, uint32_t limit, const char *key,
                             const char *value)
{
    struct listing listing = list_all(stage, limit, key, value);
    json_decref(listing.sessions);
    return listing.n;
}

static void make_many(struct stage *stage, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char id[16], line[96];
        snprintf(id, sizeof(id), "s%03u", i);
        snprintf(line, sizeof(line), "session.create labels=number:%u,team:%s", i,
                 i % 5 == 0 ? "red" : "blue");
        stage_do(stage, id, line);
    }
}

static void lists_show_passive_sessions_as_they_stand(void **state)
{
    struct stage *stage = *state;
    make_many(stage, 120);
    struct listing before = list_all(stage, 50, NULL, NULL);
    assert_int_equal(before.n, 120);
    sleep_all(stage);
    stage_do(stage, "s007", "session.update labels=extra:yes");
    stage_do(stage, "s008", "session.update labels=extra:yes");
    json_object_del(before.sessions, "s007");
    json_object_del(before.sessions, "s008");
    for (uint32_t limit = 1; limit < 200; limit *= 5) {
        struct listing after = list_all(stage, limit, NULL, NULL);
        assert_int_equal(after.n, 120);
        const char *id;
        json_t *session;
        json_object_foreach (before.sessions, id, session)
            assert_true(json_equal(session, json_object_get(after.sessions, id)));
        json_decref(after.sessions);
    }
    assert_int_equal(stage_figure(stage, "active"), 2); /* looking loads none */
    json_decref(before.sessions);
}

static void labels_of_passive_sessions_are_searched(void **state)
{
    struct stage *stage = *state;
    make_many(stage, 120);
    stage_do(stage, "s000", "session.update labels=team:green");
    stage_do(stage, "s005", "session.update labels=team:null");
    stage_do(stage, "s001", "session.update labels=team:red");
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            sleep_all(stage);
        if (i == 2)
            stage_restart(stage, 2, STAGE_KILL);
        for (uint32_t limit = 1; limit < 200; limit *= 7) {
            assert_int_equal(count_listed(stage, limit, "team", "red"), 24 - 2 + 1);
            assert_int_equal(count_listed(stage, limit, "team", "blue"), 96 - 1);
            assert_int_equal(count_listed(stage, limit, "team", NULL), 119);
            assert_int_equal(count_listed(stage, limit, "team", "green"), 1);
            assert_int_equal(count_listed(stage, limit, "number", "77"), 1);
            assert_int_equal(count_listed(stage, limit, "colour", NULL), 0);
        }
    }
    /* Changed while it was passive, and passive again. */
    stage_do(stage, "s002", "session.update labels=team:red");
    stage_do(stage, "s010", "session.update labels=team:null");
    stage_delete(stage, "s015");
    sleep_all(stage);
    assert_int_equal(count_listed(stage, 4, "team", "red"), 23 + 1 - 2);
    assert_int_equal(count_listed(stage, 4, "team", NULL), 119 - 2);
}

/* A signature says which sessions cannot match: those are not read. */
static void a_search_reads_few_that_do_not_match(void **state)
{
    struct stage *stage = *state;
    make_many(stage, 200);
    sleep_all(stage);
    uint64_t before = stage_figure(stage, "history_records");
    assert_int_equal(count_listed(stage, 1000, "number", "77"), 1);
    assert_in_range(stage_figure(stage, "history_records") - before, 1, 50);
}

static void sessions_deleted_while_a_list_is_read_are_left_out(void **state)
{
    struct stage *stage = *state;
    make_many(stage, 100);
    sleep_all(stage);
    struct ask *lists[2], *ends[50];
    for (unsigned shard = 0; shard < 2; shard++) {
        struct request *request = request_for(REQUEST_LIST, NULL);
        request->shard = (uint16_t)shard;
        request->limit = 1000;
        lists[shard] = stage_send(stage, request);
    }
    for (unsigned i = 0; i < 50; i++) {
        char id[16];
        snprintf(id, sizeof(id), "s%03u", 2 * i);
        ends[i] = stage_send(stage, request_for(REQUEST_DELETE, id));
        if (i % 5 == 0)
            stage_turn(stage);
    }
    unsigned n = 0;
    for (unsigned shard = 0; shard < 2; shard++) {
        struct request *request = stage_await(stage, lists[shard]);
        assert_int_equal(request->error, 0);
        n += request->count;
        for (unsigned i = 1; i < 100; i += 2) {
            char id[16];
            snprintf(id, sizeof(id), "\"s%03u\"", i);
            bool here =
                stage_shard_of(stage, (char[]){id[1], id[2], id[3], id[4], '\0'})->number == shard;
            assert_int_equal(strstr(stage_text(request), id) != NULL, here);
        }
        request_free(request);
    }
    for (unsigned i = 0; i < 50; i++) {
        struct request *request = stage_await(stage, ends[i]);
        assert_int_equal(request->error, 0);
        request_free(request);
    }
    assert_in_range(n, 50, 100);
    assert_int_equal(count_listed(stage, 7, NULL, NULL), 50);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_two, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_untouched_for_long_leaves_memory),
        TEST(the_next_request_finds_it_as_it_was),
        TEST(going_and_coming_at_every_event_changes_nothing),
        TEST(keys_are_answered_again_after_it_was_passive),
        TEST(many_requests_for_a_passive_session_load_it_once_and_keep_their_order),
        TEST(who_is_watched_or_waited_for_stays),
        TEST(the_least_recently_used_leave_when_memory_is_short),
        TEST(a_passive_session_can_be_deleted),
        TEST(a_passive_session_can_be_updated_where_it_stands),
        TEST(a_passive_session_can_be_waited_on_and_followed),
        TEST(lists_show_passive_sessions_as_they_stand),
        TEST(labels_of_passive_sessions_are_searched),
        TEST(a_search_reads_few_that_do_not_match),
        TEST(sessions_deleted_while_a_list_is_read_are_left_out),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
