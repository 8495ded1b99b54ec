/*
 * Watching many sessions from afar: a reader that takes the pages of all there is, and then asks
 * what has changed since, must know at any time what another one that begins anew is told.
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

/* ---- a reader */

struct reader {
    struct stage *stage;
    struct request_label_filter label; /* key.p == NULL: all */
    struct str *ids;
    uint32_t ids_n;
    uint64_t positions[STAGE_SHARDS_MAX];
    json_t *sessions; /* summaries, by id */
    unsigned summaries, ends, strangers, resets, answers;
};

static struct request *question(const struct reader *reader, unsigned shard, bool pages)
{
    struct request *request = request_for(REQUEST_CHANGES, NULL);
    request->shard = (uint16_t)shard;
    request->pages = pages;
    if (reader->label.key.p != NULL) {
        request->labels = arena_alloc(&request->arena, sizeof(*request->labels));
        *request->labels = reader->label;
        request->labels_n = 1;
    }
    request->ids = reader->ids;
    request->ids_n = reader->ids_n;
    if (!pages) {
        request->has_after = true;
        request->after = reader->positions[shard];
    }
    return request;
}

static void take_change(struct reader *reader, const struct request *request,
                        const struct request_change *change)
{
    json_t *object = json_of_text((struct str){request->body.p + change->offset, change->size});
    const char *id = json_string_value(json_object_get(object, "session"));
    const char *epoch = json_string_value(json_object_get(object, "epoch"));
    assert_true(str_equal(change->session, str_of(id)));
    assert_true(str_equal(change->epoch, str_of(epoch)));
    if (change->kind == CHANGE_SUMMARY) {
        reader->summaries++;
        json_object_set(reader->sessions, id, object);
    } else {
        assert_string_equal(json_string_value(json_object_get(object, "reason")),
                            change->kind == CHANGE_DELETED ? "deleted" : "unmatched");
        reader->ends++;
        reader->strangers += json_object_get(reader->sessions, id) == NULL;
        json_object_del(reader->sessions, id);
    }
    json_decref(object);
}

static void take_answer(struct reader *reader, const struct request *request)
{
    size_t end = 0;
    reader->answers++;
    for (uint32_t i = 0; i < request->changes_n; i++) {
        assert_int_equal(request->changes[i].offset, end); /* one behind the other */
        end += request->changes[i].size;
        take_change(reader, request, &request->changes[i]);
    }
    assert_int_equal(end, request->body.n);
}

static void reader_begin_shard(struct reader *reader, unsigned shard)
{
    char cursor[CORE_ID_BYTES + 1] = "";
    bool more = true;
    for (unsigned page = 0; more; page++) {
        struct request *request = question(reader, shard, true);
        if (page != 0)
            request->cursor = request_text(request, cursor);
        stage_ask_well(reader->stage, request);
        assert_null(request->stale);
        take_answer(reader, request);
        if (page == 0)
            reader->positions[shard] = request->position;
        more = request->more;
        snprintf(cursor, sizeof(cursor), "%.*s", (int)request->last_id.n,
                 request->last_id.n != 0 ? request->last_id.p : "");
        request_free(request);
    }
}

static void reader_begin(struct reader *reader)
{
    if (reader->sessions != NULL)
        json_decref(reader->sessions);
    reader->sessions = json_object();
    for (unsigned shard = 0; shard < reader->stage->n; shard++)
        reader_begin_shard(reader, shard);
}

/* Takes an answer over. True: there is more behind it. */
static bool reader_take(struct reader *reader, struct request *request)
{
    unsigned shard = request->shard;
    bool more = request->more;
    if (request->stale != NULL) {
        assert_int_equal(request->changes_n, 0);
        reader->resets++;
        request_free(request);
        reader_begin(reader);
        return false;
    }
    take_answer(reader, request);
    assert_true(request->position >= reader->positions[shard]);
    reader->positions[shard] = request->position;
    request_free(request);
    return more;
}

static void reader_catch_up(struct reader *reader)
{
    for (unsigned shard = 0; shard < reader->stage->n; shard++) {
        bool more = true;
        while (more) {
            struct request *request = question(reader, shard, false);
            more = reader_take(reader, stage_ask_well(reader->stage, request));
        }
    }
}

static struct ask *reader_wait(struct reader *reader, unsigned shard)
{
    struct request *request = question(reader, shard, false);
    request->wait = true;
    return stage_send(reader->stage, request);
}

static void reader_end(struct reader *reader)
{
    json_decref(reader->sessions);
    reader->sessions = NULL;
}

static void expect_same(json_t *a, json_t *b)
{
    const char *id;
    json_t *summary;
    json_object_foreach (a, id, summary) {
        char *text = json_dumps(summary, JSON_COMPACT);
        char *other = json_dumps(json_object_get(b, id), JSON_COMPACT | JSON_ENCODE_ANY);
        if (other == NULL || strcmp(text, other) != 0)
            fail_msg("%s: %s, and %s", id, text, other != NULL ? other : "nothing");
        free(text);
        free(other);
    }
}

/* It knows what one that begins now is told. */
static void expect_up_to_date(struct reader *reader)
{
    struct reader fresh = *reader;
    fresh.sessions = NULL;
    reader_catch_up(reader);
    reader_begin(&fresh);
    expect_same(reader->sessions, fresh.sessions);
    expect_same(fresh.sessions, reader->sessions);
    reader_end(&fresh);
}

static struct reader reader_of(struct stage *stage, const char *key, const char *value)
{
    struct reader reader = {.stage = stage};
    if (key != NULL)
        reader.label = (struct request_label_filter){str_of(key), value != NULL ? str_of(value)
                                                                                : (struct str){0}};
    reader_begin(&reader);
    return reader;
}

static void expect_summary(const struct reader *reader, const char *id, const char *member,
                           const char *expected)
{
    char *text = json_dumps(json_object_get(reader->sessions, id), JSON_ENCODE_ANY);
    char pointer[64];
    snprintf(pointer, sizeof(pointer), "/%s", member);
    assert_non_null(text);
    expect_json(text, pointer, expected);
    free(text);
}

static unsigned shard_of(struct stage *stage, const char *session)
{
    return stage_shard_of(stage, session)->number;
}

/* ---- what is told */

static void a_summary_counts_what_there_is(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    stage_talk(stage, "s1", 200, 10); /* more than a thread's window */
    stage_do(stage, "s1", "agent.register agent=cy");
    stage_do(stage, "s1", "agent.leave agent=bob");
    stage_do(stage, "s1", "session.update labels=team:x");
    struct reader reader = reader_of(stage, NULL, NULL);
    expect_summary(&reader, "s1", "seq", "207");
    expect_summary(&reader, "s1", "status", "\"open\"");
    expect_summary(&reader, "s1", "labels", "{\"team\":\"x\"}");
    expect_summary(&reader, "s1", "agents", "2");
    expect_summary(&reader, "s1", "threads", "1");
    expect_summary(&reader, "s1", "messages", "200");
    stage_passivate(stage);
    stage_do(stage, "s1", "message.send thread=general sender=ada content=x");
    stage_do(stage, "s1", "session.close");
    reader_catch_up(&reader);
    expect_summary(&reader, "s1", "messages", "201");
    expect_summary(&reader, "s1", "status", "\"closed\"");
    reader_end(&reader);
}

static void only_what_changed_is_told(void **state)
{
    struct stage *stage = *state;
    for (int i = 0; i < 20; i++) {
        char id[8];
        snprintf(id, sizeof(id), "s%d", i);
        stage_populate(stage, id);
    }
    struct reader reader = reader_of(stage, NULL, NULL);
    assert_int_equal(json_object_size(reader.sessions), 20);
    reader.summaries = 0;
    reader_catch_up(&reader);
    assert_int_equal(reader.summaries, 0);
    stage_do(stage, "s7", "agent.register agent=cy");
    stage_do(stage, "s7", "agent.register agent=di");
    stage_do(stage, "s9", "agent.register agent=cy");
    reader_catch_up(&reader);
    assert_int_equal(reader.summaries, 2);
    /* What changes nothing is no change. */
    stage_do(stage, "s9", "agent.update agent=cy status=idle");
    reader_catch_up(&reader);
    assert_int_equal(reader.summaries, 2);
    stage_delete(stage, "s9");
    stage_populate(stage, "new");
    expect_up_to_date(&reader);
    assert_int_equal(reader.ends, 1);
    assert_int_equal(json_object_size(reader.sessions), 20);
    reader_end(&reader);
}

static void many_changes_come_in_pieces(void **state)
{
    struct stage *stage = *state;
    struct reader reader = reader_of(stage, NULL, NULL);
    for (unsigned i = 0; i < 1000; i++) {
        char id[16];
        snprintf(id, sizeof(id), "s%04u", i);
        stage_do(stage, id, "session.create labels=team:x,another:label");
    }
    unsigned answers = reader.answers;
    reader_catch_up(&reader);
    assert_true(reader.answers - answers > 2);
    assert_int_equal(json_object_size(reader.sessions), 1000);
    assert_int_equal(reader.summaries, 1000); /* none twice */
    expect_up_to_date(&reader);
    reader_end(&reader);
}

static void who_waits_is_told_when_something_changes(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    struct reader reader = reader_of(stage, NULL, NULL);
    struct ask *waiting = reader_wait(&reader, shard_of(stage, "s1"));
    stage_pass(stage, 100000);
    assert_false(waiting->done);
    stage_do(stage, "s1", "agent.register agent=cy");
    stage_settle(stage);
    assert_true(waiting->done);
    reader_take(&reader, stage_await(stage, waiting));
    expect_summary(&reader, "s1", "agents", "3");

    waiting = reader_wait(&reader, shard_of(stage, "s1"));
    struct request *ended = stage_cancel(stage, waiting);
    assert_int_equal(ended->changes_n, 0);
    assert_int_equal(ended->error, 0);
    reader_take(&reader, ended);
    reader_end(&reader);
}

/* However fast a session changes, those who wait are told ten times a second. */
static void who_waits_is_told_seldom_of_a_busy_session(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    struct reader reader = reader_of(stage, NULL, NULL);
    unsigned shard = shard_of(stage, "s1");
    struct ask *waiting = reader_wait(&reader, shard);
    unsigned answers = 0;
    for (int ms = 0; ms < 3000; ms++) {
        stage_do(stage, "s1", "message.send thread=general sender=ada content=x");
        stage_pass(stage, 1);
        if (waiting->done) {
            answers++;
            reader_take(&reader, stage_await(stage, waiting));
            waiting = reader_wait(&reader, shard);
        }
    }
    assert_in_range(answers, 28, 31);
    stage_pass(stage, CHANGES_PAUSE_MS);
    reader_take(&reader,
                waiting->done ? stage_await(stage, waiting) : stage_cancel(stage, waiting));
    expect_summary(&reader, "s1", "messages", "3000");
    reader_end(&reader);
}

static void what_is_not_committed_is_not_told(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    struct reader reader = reader_of(stage, NULL, NULL);
    unsigned shard = shard_of(stage, "s1");
    struct io_fake *fake = stage->fakes[shard];
    struct ask *waiting = reader_wait(&reader, shard);
    stage_settle(stage);
    io_fake_set_automatic(fake, false);
    struct ask *command = stage_send(stage, stage_command("s1", "agent.register agent=cy"));
    struct ask *page = stage_send(stage, question(&reader, shard, true));
    struct ask *pull = stage_send(stage, question(&reader, shard, false));
    for (int i = 0; i < 100; i++)
        stage_turn(stage);
    assert_false(command->done || page->done || pull->done || waiting->done);
    io_fake_set_automatic(fake, true);
    request_free(stage_await(stage, command));
    request_free(stage_await(stage, page));
    reader_take(&reader, stage_await(stage, pull));
    expect_summary(&reader, "s1", "agents", "3");
    request_free(stage_await(stage, waiting));
    reader_end(&reader);
}

/* ---- labels and ids */

static void a_session_that_matches_no_more_is_told_of_once(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, "s1", "session.create labels=team:x");
    stage_do(stage, "s2", "session.create labels=team:y");
    struct reader reader = reader_of(stage, "team", "x");
    assert_int_equal(json_object_size(reader.sessions), 1);
    stage_do(stage, "s1", "session.update labels=team:y");
    stage_do(stage, "s2", "session.update labels=more:z");
    reader_catch_up(&reader);
    assert_int_equal(reader.ends, 1);
    assert_int_equal(json_object_size(reader.sessions), 0);
    stage_do(stage, "s1", "agent.register agent=ada");
    reader_catch_up(&reader);
    assert_int_equal(reader.ends, 1);
    stage_do(stage, "s2", "session.update labels=team:x");
    reader_catch_up(&reader);
    assert_int_equal(json_object_size(reader.sessions), 1);
    stage_delete(stage, "s1"); /* it is not one of ours */
    stage_do(stage, "s3", "session.create labels=team:z");
    stage_delete(stage, "s3");
    stage_do(stage, "s2", "session.update labels=team:null");
    stage_passivate(stage);
    expect_up_to_date(&reader);
    assert_int_equal(json_object_size(reader.sessions), 0);
    assert_int_equal(reader.strangers, 1); /* s1, which had been one */
    reader_end(&reader);
}

static void only_the_wanted_ids_are_told(void **state)
{
    struct stage *stage = *state;
    struct str ids[] = {STR("a2"), STR("b1"), STR("never"), STR("s1")};
    struct reader reader = {.stage = stage, .ids = ids, .ids_n = 4};
    stage_populate(stage, "s1");
    stage_populate(stage, "s2");
    stage_populate(stage, "a1");
    stage_populate(stage, "a2");
    stage_passivate(stage);
    reader_begin(&reader);
    assert_int_equal(json_object_size(reader.sessions), 2);
    stage_populate(stage, "b1");
    stage_populate(stage, "b2");
    stage_delete(stage, "a1");
    stage_delete(stage, "a2");
    expect_up_to_date(&reader);
    assert_int_equal(json_object_size(reader.sessions), 2);
    assert_int_equal(reader.ends, 1);
    reader_end(&reader);
}

/* ---- memory, lives, restarts */

static void what_has_left_memory_is_told_all_the_same(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    stage_populate(stage, "s2");
    stage_do(stage, "s3", "session.create labels=team:x");
    struct reader reader = reader_of(stage, NULL, NULL);
    struct reader team = reader_of(stage, "team", "x");
    stage_do(stage, "s1", "agent.register agent=cy");
    stage_do(stage, "s3", "session.update labels=team:y");
    stage_pass(stage, IDLE_MS);
    assert_int_equal(stage_figure(stage, "active"), 0);
    reader.summaries = 0;
    expect_up_to_date(&reader);
    expect_up_to_date(&team);
    assert_int_equal(reader.summaries, 2);
    assert_int_equal(team.ends, 1);
    assert_int_equal(stage_figure(stage, "active"), 0); /* looking loads none */
    /* It comes back, and leaves again: that is no change. */
    free(stage_view(stage, "s1"));
    reader_catch_up(&reader);
    stage_passivate(stage);
    reader_catch_up(&reader);
    assert_int_equal(reader.summaries, 2);
    reader_end(&reader);
    reader_end(&team);
}

static void another_life_is_told_behind_the_end(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    struct reader reader = reader_of(stage, NULL, NULL);
    stage_delete(stage, "s1");
    stage_do(stage, "s1", "session.create labels=life:second");
    expect_up_to_date(&reader);
    assert_int_equal(reader.ends, 1);
    expect_summary(&reader, "s1", "labels", "{\"life\":\"second\"}");
    stage_delete(stage, "s1");
    stage_do(stage, "s1", "session.create labels=life:third");
    stage_passivate(stage);
    expect_up_to_date(&reader);
    stage_delete(stage, "s1");
    expect_up_to_date(&reader);
    assert_int_equal(json_object_size(reader.sessions), 0);
    reader_end(&reader);
}

static void who_is_too_far_behind_begins_anew(void **state)
{
    struct stage *stage = *state;
    struct reader reader = reader_of(stage, NULL, NULL);
    struct reader present = reader_of(stage, NULL, NULL);
    for (unsigned i = 0; i < 2 * CHANGES_NOTES_MAX + 1000; i++) {
        char id[16];
        snprintf(id, sizeof(id), "s%u", i);
        stage_do(stage, id, "session.create");
        stage_delete(stage, id);
        if (i % 5000 == 0)
            reader_catch_up(&present);
    }
    stage_populate(stage, "s1");
    expect_up_to_date(&present);
    assert_int_equal(present.resets, 0);
    for (unsigned i = 0; i < stage->n; i++)
        assert_true(stage->shards[i]->changes.notes_n <= CHANGES_NOTES_MAX);
    expect_up_to_date(&reader);
    assert_true(reader.resets > 0);
    assert_int_equal(json_object_size(reader.sessions), 1);
    reader_end(&reader);
    reader_end(&present);
}

static void a_position_of_the_future_is_refused(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    struct reader reader = reader_of(stage, NULL, NULL);
    reader.positions[0] = UINT64_MAX - 1;
    struct ask *waiting = reader_wait(&reader, 0);
    struct request *answer = stage_await(stage, waiting);
    assert_string_equal(answer->stale, "a position that was not reached");
    request_free(answer);
    expect_up_to_date(&reader);
    assert_int_equal(reader.resets, 1);
    reader_end(&reader);
}

static void a_fork_is_told_like_any_session(void **state)
{
    struct stage *stage = *state;
    stage_populate(stage, "s1");
    struct reader reader = reader_of(stage, NULL, NULL);
    stage_fork(stage, "s1", 3, "child");
    expect_up_to_date(&reader);
    expect_summary(&reader, "child", "agents", "2");
    expect_summary(&reader, "child", "threads", "0");
    reader_end(&reader);
}

/* ---- going on silently */

static struct request *follow_known(struct stage *stage, struct watch *watch, const char *session,
                                    uint64_t position)
{
    struct request *request = request_for(REQUEST_FOLLOW, session);
    request->feed = (uint64_t)(uintptr_t)watch;
    request->wants = WANTS_PATCHES;
    request->has_known = true;
    request->known = position;
    return stage_ask_well(stage, request);
}

static void a_follower_that_knows_a_session_gets_no_snapshot(void **state)
{
    struct stage *stage = *state;
    struct watch watch = {0};
    stage_populate(stage, "s1");
    struct reader reader = reader_of(stage, NULL, NULL);
    uint64_t position = reader.positions[shard_of(stage, "s1")];
    for (int passive = 0; passive < 2; passive++) {
        if (passive)
            stage_passivate(stage);
        struct request *answer = follow_known(stage, &watch, "s1", position);
        assert_int_equal(answer->body.n, 0);
        assert_null(answer->frame);
        assert_int_equal(answer->upto, 4);
        assert_int_equal(answer->attached, 4);
        request_free(answer);
        stage_unfollow(stage, &watch, "s1");
    }
    stage_do(stage, "s1", "agent.register agent=cy");
    for (int passive = 0; passive < 2; passive++) {
        if (passive)
            stage_passivate(stage);
        struct request *answer = follow_known(stage, &watch, "s1", position);
        assert_int_not_equal(answer->body.n, 0);
        expect_json(stage_text(answer), "/seq", "5");
        expect_json(stage_text(answer), "/reset", NULL);
        request_free(answer);
        stage_unfollow(stage, &watch, "s1");
    }
    struct request *future = follow_known(stage, &watch, "s1", UINT64_MAX);
    assert_int_not_equal(future->body.n, 0);
    request_free(future);
    stage_unfollow(stage, &watch, "s1");
    watch_free(&watch);
    reader_end(&reader);
}

/* ---- anything at all */

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

static void do_something(struct stage *stage, uint64_t *seed)
{
    char id[8], line[64];
    unsigned n = next_random(seed) % 12;
    snprintf(id, sizeof(id), "s%u", n);
    char *view = stage_view(stage, id);
    bool there = view != NULL;
    free(view);
    switch (next_random(seed) % 8) {
    case 0:
        if (there)
            stage_delete(stage, id);
        break;
    case 1:
    case 2:
        snprintf(line, sizeof(line), "session.update labels=team:%s",
                 (const char *[]){"x", "y", "null"}[next_random(seed) % 3]);
        if (there)
            stage_do(stage, id, line);
        break;
    case 3:
        stage_passivate(stage);
        break;
    case 4:
        if (!there)
            stage_do(stage, id, "session.create labels=team:x");
        break;
    case 5:
        stage_pass(stage, next_random(seed) % (2 * IDLE_MS));
        break;
    default:
        snprintf(line, sizeof(line), "agent.register agent=a%u", next_random(seed) % 1000);
        if (!there)
            stage_do(stage, id, "session.create");
        stage_do(stage, id, line);
        break;
    }
}

static void readers_know_what_there_is_whatever_happens(void **state)
{
    struct stage *stage = *state;
    struct str ids[] = {STR("s1"), STR("s10"), STR("s2"), STR("s5")};
    for (uint64_t first = 1; first <= 5; first++) {
        uint64_t seed = first;
        struct reader readers[3] = {{.stage = stage},
                                    {.stage = stage, .label = {STR("team"), STR("x")}},
                                    {.stage = stage, .ids = ids, .ids_n = 4}};
        for (int i = 0; i < 3; i++)
            reader_begin(&readers[i]);
        for (unsigned step = 0; step < 400; step++) {
            do_something(stage, &seed);
            struct reader *reader = &readers[next_random(&seed) % 3];
            if (next_random(&seed) % 4 == 0)
                expect_up_to_date(reader);
        }
        for (int i = 0; i < 3; i++) {
            expect_up_to_date(&readers[i]);
            assert_int_equal(readers[i].resets, 0);
            reader_end(&readers[i]);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_two, close_stage)
    const struct CMUnitTest tests[] = {
        TEST(a_summary_counts_what_there_is),
        TEST(only_what_changed_is_told),
        TEST(many_changes_come_in_pieces),
        TEST(who_waits_is_told_when_something_changes),
        TEST(who_waits_is_told_seldom_of_a_busy_session),
        TEST(what_is_not_committed_is_not_told),
        TEST(a_session_that_matches_no_more_is_told_of_once),
        TEST(only_the_wanted_ids_are_told),
        TEST(what_has_left_memory_is_told_all_the_same),
        TEST(another_life_is_told_behind_the_end),
        TEST(who_is_too_far_behind_begins_anew),
        TEST(a_position_of_the_future_is_refused),
        TEST(a_fork_is_told_like_any_session),
        TEST(a_follower_that_knows_a_session_gets_no_snapshot),
        TEST(readers_know_what_there_is_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
