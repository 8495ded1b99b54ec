/*
 * Pages, lists and figures, and what is read after a restart, through a whole cluster.
 */
#include "tests/unit/cluster_fixture.h"

/* ---- pages */

static void expect_seqs(struct call *call, const char *array, uint64_t first, uint64_t last,
                        uint64_t step)
{
    expect_error(call, 0);
    json_t *tree = json_of(call_body(call));
    json_t *items = json_object_get(tree, array);
    size_t i = 0;
    for (uint64_t seq = first; seq <= last; seq += step, i++) {
        json_t *found = json_object_get(json_array_get(items, i), "seq");
        assert_int_equal(json_integer_value(found), seq);
    }
    assert_int_equal(json_array_size(items), i);
    json_decref(tree);
}

static struct call *page(struct rig *rig, enum request_kind kind, int64_t after, int64_t before,
                         uint32_t limit)
{
    struct request *request = request_for(kind, "s1");
    if (kind == REQUEST_MESSAGES)
        request->thread = STR("general");
    request->has_after = after >= 0;
    request->after = (uint64_t)after;
    request->has_before = before >= 0;
    request->before = (uint64_t)before;
    request->limit = limit;
    return rig_ask(rig, 0, request);
}

/* Expects a page of every `step`-th seq from first to last (none where last < first). */
static void expect_page(struct call *call, uint64_t first, uint64_t last, uint64_t step,
                        const char *next)
{
    bool events = call->request->kind == REQUEST_EVENTS;
    expect_seqs(call, events ? "events" : "messages", first, last, step);
    expect_at(call, "/next", next);
    call_free(call);
}

/* Seqs 6, 7, … 205: even ones are messages of "general", odd ones of another thread; 32 of them
 * a record in the middle. */
static void populate_pages(struct rig *rig)
{
    populate_session(rig, "s1");
    rig_do(rig, 0, "s1", "thread.create creator=ada name=x participants=bob thread=other");
    rig_do(rig, 0, "s1", "message.send thread=other sender=ada content=odd");
    struct call *batch = NULL;
    for (int seq = 8; seq <= 205; seq++) {
        const char *line = seq % 2 == 0 ? "message.send thread=general sender=ada content=even"
                                        : "message.send thread=other sender=ada content=odd";
        if (seq < 100 || seq >= 132) {
            rig_do(rig, 0, "s1", line);
            continue;
        }
        if (batch == NULL)
            batch = call_commands(rig, 0, "s1", line, NULL);
        else
            request_add(batch->request, line);
        if (seq == 131) {
            batch->request->batch = true;
            call_free(answered_well(batch));
        }
    }
}

static void events_come_in_pages_forwards(void **state)
{
    struct rig *rig = *state;
    populate_pages(rig);
    expect_page(page(rig, REQUEST_EVENTS, -1, -1, 10), 1, 10, 1, "10");
    expect_page(page(rig, REQUEST_EVENTS, 10, -1, 100), 11, 110, 1, "110");
    expect_page(page(rig, REQUEST_EVENTS, 110, -1, 95), 111, 205, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 110, -1, 94), 111, 204, 1, "204");
    expect_page(page(rig, REQUEST_EVENTS, 204, -1, 1), 205, 205, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 205, -1, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 1000, -1, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 100, 111, 100), 101, 110, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, 100, 111, 9), 101, 109, 1, "109");
    expect_page(page(rig, REQUEST_EVENTS, -1, 4, 10), 1, 3, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, -1, 1, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_EVENTS, -1, 0, 10), 1, 0, 1, "null");
    assert_int_equal(count_events(rig, "s1"), 205);

    struct request *typed = events_request("s1", 0, 10);
    typed->types = 1u << CORE_AGENT_REGISTER | 1u << CORE_THREAD_CREATE;
    expect_page(rig_ask(rig, 0, typed), 2, 6, 1, "null");
    typed = events_request("s1", 0, 5);
    typed->types = 1u << CORE_AGENT_REGISTER | 1u << CORE_THREAD_CREATE;
    expect_page(rig_ask(rig, 0, typed), 2, 6, 1, "null");
    typed = events_request("s1", 0, 4);
    typed->types = 1u << CORE_AGENT_REGISTER | 1u << CORE_THREAD_CREATE;
    expect_page(rig_ask(rig, 0, typed), 2, 5, 1, "5");
}

static void messages_come_in_pages_both_ways_past_the_window(void **state)
{
    struct rig *rig = *state;
    populate_pages(rig);
    expect_page(page(rig, REQUEST_MESSAGES, -1, -1, 10), 186, 204, 2, "186");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 186, 50), 86, 184, 2, "86");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 87, 40), 8, 86, 2, "null");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 86, 39), 8, 84, 2, "null");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 86, 38), 10, 84, 2, "10");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 8, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_MESSAGES, -1, 0, 10), 1, 0, 1, "null");
    expect_page(page(rig, REQUEST_MESSAGES, 0, -1, 10), 8, 26, 2, "26");
    expect_page(page(rig, REQUEST_MESSAGES, 26, -1, 80), 28, 186, 2, "186");
    expect_page(page(rig, REQUEST_MESSAGES, 186, -1, 9), 188, 204, 2, "null");
    expect_page(page(rig, REQUEST_MESSAGES, 186, -1, 8), 188, 202, 2, "202");
    expect_page(page(rig, REQUEST_MESSAGES, 100, 110, 10), 102, 108, 2, "null");
    expect_page(page(rig, REQUEST_MESSAGES, 204, -1, 10), 1, 0, 1, "null");
}

/* ---- lists */

static unsigned collect_list(struct rig *rig, unsigned shard, uint32_t limit, const char *label,
                             bool *seen)
{
    struct str cursor = {0};
    char last[CORE_ID_BYTES] = "";
    unsigned n = 0;
    for (;;) {
        struct request *request = list_request(cursor, limit);
        struct request_label_filter filters[] = {
            {STR("team"), label != NULL ? str_of(label) : (struct str){0}}, {STR("all"), {0}}};
        request->labels = label != NULL ? filters : NULL;
        request->labels_n = label != NULL ? 2 : 0;
        struct call *call = call_new(rig, shard, request);
        call->shard = (int)shard;
        answered_well(call);
        buf_add_byte(&call->request->body, ']');
        char *text = NULL;
        int made = asprintf(&text, "[%.*s", (int)call->request->body.n, call->request->body.p);
        assert_true(made > 0);
        json_t *list = json_of(text);
        free(text);
        assert_int_equal(json_array_size(list), call->request->count);
        assert_true(call->request->count <= limit);
        for (size_t i = 0; i < json_array_size(list); i++, n++) {
            const char *id = json_string_value(json_object_get(json_array_get(list, i), "id"));
            assert_true(strcmp(last, id) < 0);
            snprintf(last, sizeof(last), "%s", id);
            seen[atoi(id + 1)] = true;
        }
        json_decref(list);
        bool more = call->request->more;
        static char kept[CORE_ID_BYTES];
        if (more) {
            assert_int_equal(call->request->count, limit);
            memcpy(kept, call->request->last_id.p, call->request->last_id.n);
            cursor = (struct str){kept, call->request->last_id.n};
        }
        call_free(call);
        if (!more)
            return n;
    }
}

static void sessions_are_listed_by_shard_label_and_page(void **state)
{
    struct rig *rig = *state;
    enum { SESSIONS = 200 };
    for (int i = 0; i < SESSIONS; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s%03d", i);
        rig_do(rig, (unsigned)i % 3, session,
               i % 5 == 0 ? "session.create labels=all:yes,team:red"
                          : "session.create labels=all:yes,team:blue");
    }
    for (int i = 0; i < SESSIONS; i += 10) {
        char session[16];
        snprintf(session, sizeof(session), "s%03d", i);
        call_free(rig_ask(rig, 0, request_for(REQUEST_DELETE, session)));
    }
    for (uint32_t limit = 1; limit <= 256; limit *= 4) {
        bool all[SESSIONS] = {0};
        bool red[SESSIONS] = {0};
        unsigned all_n = 0;
        unsigned red_n = 0;
        for (unsigned shard = 0; shard < 3; shard++) {
            unsigned here = collect_list(rig, shard, limit, NULL, all);
            assert_true(here > SESSIONS / 10);
            all_n += here;
            red_n += collect_list(rig, shard, limit, "red", red);
        }
        assert_int_equal(all_n, SESSIONS - SESSIONS / 10);
        assert_int_equal(red_n, SESSIONS / 10);
        for (int i = 0; i < SESSIONS; i++) {
            assert_int_equal(all[i], i % 10 != 0);
            assert_int_equal(red[i], i % 10 == 5);
        }
    }
}

static void a_long_list_takes_several_turns(void **state)
{
    struct rig *rig = *state;
    enum { SESSIONS = LIST_STEPS * 2 + 10 };
    static bool seen[SESSIONS];
    memset(seen, 0, sizeof(seen));
    struct call **calls = mem_alloc(SESSIONS * sizeof(*calls));
    for (int i = 0; i < SESSIONS; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s%04d", i);
        calls[i] = call_commands(rig, 0, session, "session.create labels=all:yes,team:red", NULL);
    }
    calls_send(calls, SESSIONS);
    for (int i = 0; i < SESSIONS; i++) {
        expect_error(call_wait(calls[i]), 0);
        call_free(calls[i]);
    }
    free(calls);
    assert_int_equal(collect_list(rig, 0, SESSIONS, NULL, seen), SESSIONS);
    assert_int_equal(collect_list(rig, 0, SESSIONS, "blue", seen), 0);
}

static void a_shard_tells_its_figures(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *call = call_new(rig, 0, request_for(REQUEST_STATUS, NULL));
    call->shard = 0;
    answered_well(call);
    expect_at(call, "/shard", "0");
    expect_at(call, "/sessions", "1");
    expect_at(call, "/events", "5");
    expect_at(call, "/log/records", "5");
    call_free(call);
}

/* ---- restarts */

static void populate_many(struct rig *rig, unsigned sessions, char **views)
{
    for (unsigned i = 0; i < sessions; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s%u", i);
        populate_session(rig, session);
        for (unsigned n = 0; n < 3 * i; n++)
            rig_do(rig, 0, session,
                   "message.send thread=general sender=ada content=x mentions=bob");
        if (i % 4 == 3) {
            call_free(rig_ask(rig, 0, request_for(REQUEST_DELETE, session)));
            if (i % 8 == 7)
                populate_session(rig, session);
        }
        views[i] = rig_view(rig, 0, session);
    }
}

static void expect_views(struct rig *rig, unsigned sessions, char **views)
{
    for (unsigned i = 0; i < sessions; i++) {
        char session[16];
        snprintf(session, sizeof(session), "s%u", i);
        char *view = rig_view(rig, i % rig->options.shards, session);
        assert_int_equal(view == NULL, views[i] == NULL);
        if (view != NULL)
            assert_string_equal(view, views[i]);
        free(view);
    }
}

static void a_restart_gives_the_same_views(void **state)
{
    struct rig *rig = *state;
    enum { SESSIONS = 16 };
    char *views[SESSIONS];
    populate_many(rig, SESSIONS, views);
    for (int i = 0; i < 2; i++) {
        rig_restart(rig, 3);
        expect_views(rig, SESSIONS, views);
    }
    assert_int_equal(count_events(rig, "s14"), 5 + 3 * 14);
    for (int i = 0; i < SESSIONS; i++)
        free(views[i]);
}

static void another_number_of_shards_loses_nothing(void **state)
{
    struct rig *rig = *state;
    enum { SESSIONS = 16 };
    static const unsigned sizes[] = {3, 2, 4, 1};
    char *views[SESSIONS];
    populate_many(rig, SESSIONS, views);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rig_restart(rig, sizes[i]);
        expect_views(rig, SESSIONS, views);
        /* Each life goes on where it was, and its history is read through all the logs. */
        uint64_t seq = rig_do(rig, 0, "s14", "message.send thread=general sender=ada content=x");
        assert_int_equal(seq, 5 + 3 * 14 + i + 1);
        assert_int_equal(count_events(rig, "s14"), seq);
        struct follower *follower = follower_new(rig, sizes[i] - 1, "s14");
        follower->has_after = true;
        follower_start(follower);
        follower_wait_told(follower, seq);
        follower_wait_live(follower);
        expect_no_gap(follower);
        follower_leave(follower);
        follower_free(follower);
        free(views[14]);
        views[14] = rig_view(rig, 0, "s14");
        call_free(rig_ask(rig, 0, request_for(REQUEST_DELETE, "s1")));
        populate_session(rig, "s1");
        free(views[1]);
        views[1] = rig_view(rig, 0, "s1");
    }
    for (int i = 0; i < SESSIONS; i++)
        free(views[i]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(events_come_in_pages_forwards, open_one),
        TEST(messages_come_in_pages_both_ways_past_the_window, open_small_windows),
        TEST(sessions_are_listed_by_shard_label_and_page, open_three),
        TEST(a_long_list_takes_several_turns, open_one),
        TEST(a_shard_tells_its_figures, open_one),
        TEST(a_restart_gives_the_same_views, open_three),
        TEST(another_number_of_shards_loses_nothing, open_one),
    };
    return cluster_run(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
