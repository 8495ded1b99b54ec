/*
 * Lists and changes for who may see some sessions only: they show just those that a list of
 * everything, looked through by hand, would leave, page by page, and leap over the others.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

#include <stdlib.h>

enum { SESSIONS = 120, PATTERNS_MAX = 8 };

static const char *const words[] = {"a", "ab", "abc", "b", "team-1", "team-12", "team-2", "z"};

static int open_many(void **state)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 1);
    stage_start(stage);
    for (unsigned i = 0; i < SESSIONS; i++) {
        char id[32];
        snprintf(id, sizeof(id), "%s%s%u", words[i % 8], i % 3 == 0 ? "_" : "", i / 8);
        stage_do(stage, id, "session.create");
        if (i % 16 < 8) /* whole families */
            stage_do(stage, id, "session.update labels={\"kind\":\"x\"}");
    }
    for (unsigned i = 0; i < 8; i++)
        stage_do(stage, words[i], "session.create");
    stage_do(stage, "~a", "session.create");
    *state = stage;
    return 0;
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

/* ---- what a list shows */

static void set_patterns(struct request *request, const struct str *patterns, uint32_t n)
{
    request->patterns = patterns;
    request->patterns_n = n;
}

/* Ids, each with a newline behind it, of all pages. */
static void list_all(struct stage *stage, const struct str *patterns, uint32_t n, uint32_t limit,
                     struct buf *out)
{
    char cursor[CORE_ID_BYTES + 1];
    bool more = true;
    for (unsigned page = 0; more; page++) {
        struct request *request = request_for(REQUEST_LIST, NULL);
        request->limit = limit;
        set_patterns(request, patterns, n);
        if (page != 0)
            request->cursor = request_text(request, cursor);
        stage_ask_well(stage, request);
        char *text = NULL;
        assert_true(asprintf(&text, "[%s]", stage_text(request)) > 0);
        json_t *list = json_of(text);
        assert_true(json_array_size(list) <= limit);
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *id = json_string_value(json_object_get(json_array_get(list, i), "id"));
            buf_add(out, id, strlen(id));
            buf_add_byte(out, '\n');
        }
        json_decref(list);
        free(text);
        more = request->more;
        snprintf(cursor, sizeof(cursor), "%.*s", (int)request->last_id.n,
                 request->last_id.n != 0 ? request->last_id.p : "");
        request_free(request);
    }
    buf_add_byte(out, '\0');
}

/* By hand: those lines of `all` that a pattern means. */
static void pick(const char *all, const struct str *patterns, uint32_t n, struct buf *out)
{
    for (const char *at = all; *at != '\0';) {
        const char *end = strchr(at, '\n');
        struct str id = {at, (size_t)(end - at)};
        bool meant = false;
        for (uint32_t i = 0; i < n && !meant; i++) {
            size_t bytes = patterns[i].n;
            bool prefix = bytes != 0 && patterns[i].p[bytes - 1] == '*';
            if (prefix)
                meant = id.n >= bytes - 1 && memcmp(id.p, patterns[i].p, bytes - 1) == 0;
            else
                meant = str_equal(id, patterns[i]);
        }
        if (meant)
            buf_add(out, at, id.n + 1);
        at = end + 1;
    }
    buf_add_byte(out, '\0');
}

static void expect_patterns(struct stage *stage, const char *all, const struct str *patterns,
                            uint32_t n)
{
    for (uint32_t limit = 1; limit < 200; limit = limit * 3 + 1) {
        struct buf listed = {0}, picked = {0};
        list_all(stage, patterns, n, limit, &listed);
        pick(all, patterns, n, &picked);
        assert_string_equal(listed.p, picked.p);
        buf_free(&listed);
        buf_free(&picked);
    }
}

static void a_list_shows_what_the_patterns_mean(void **state)
{
    struct stage *stage = *state;
    struct buf all = {0};
    list_all(stage, NULL, 0, 50, &all);
    static const struct str none[] = {{"nobody", 6}, {"no*", 3}, {"~*", 2}, {"zz*", 3}};
    static const struct str some[] = {{"team-1*", 7}, {"b", 1}, {"a*", 2}, {"ab*", 3}, {"q", 1}};
    static const struct str every[] = {{"*", 1}, {"a", 1}};
    for (uint32_t n = 1; n <= 4; n++)
        expect_patterns(stage, all.p, none, n);
    for (uint32_t n = 1; n <= 5; n++)
        expect_patterns(stage, all.p, some, n);
    expect_patterns(stage, all.p, every, 1);
    expect_patterns(stage, all.p, every, 2);
    buf_free(&all);
}

/* Many, drawn: ids that are there, their beginnings, and what lies between. */
static void any_patterns_will_do(void **state)
{
    struct stage *stage = *state;
    struct buf all = {0};
    unsigned seed = 7;
    list_all(stage, NULL, 0, 50, &all);
    for (unsigned round = 0; round < 200; round++) {
        struct str patterns[PATTERNS_MAX];
        char texts[PATTERNS_MAX][32];
        uint32_t n = 1 + (uint32_t)rand_r(&seed) % PATTERNS_MAX;
        for (uint32_t i = 0; i < n; i++) {
            snprintf(texts[i], sizeof(texts[i]), "%s%s%d", words[rand_r(&seed) % 8],
                     rand_r(&seed) % 3 == 0 ? "_" : "", rand_r(&seed) % 20);
            size_t length = 1 + (size_t)rand_r(&seed) % strlen(texts[i]);
            texts[i][length] = '\0';
            if (rand_r(&seed) % 2 == 0)
                memcpy(texts[i] + length, "*", 2);
            patterns[i] = str_of(texts[i]);
        }
        struct buf listed = {0}, picked = {0};
        list_all(stage, patterns, n, 1 + (uint32_t)rand_r(&seed) % 40, &listed);
        pick(all.p, patterns, n, &picked);
        assert_string_equal(listed.p, picked.p);
        buf_free(&listed);
        buf_free(&picked);
    }
    buf_free(&all);
}

static void passive_sessions_are_seen_or_not_in_the_same_way(void **state)
{
    struct stage *stage = *state;
    static const struct str patterns[] = {{"team-1*", 7}, {"ab", 2}};
    struct buf all = {0};
    list_all(stage, NULL, 0, 50, &all);
    stage_passivate(stage);
    uint64_t read = stage_figure(stage, "history_records");
    expect_patterns(stage, all.p, patterns, 2);
    assert_true(stage_figure(stage, "history_records") >= read);
    buf_free(&all);
}

/* ---- changes */

static struct request *changes_request(const struct str *patterns, uint32_t n, uint64_t after)
{
    struct request *request = request_for(REQUEST_CHANGES, NULL);
    set_patterns(request, patterns, n);
    request->has_after = true;
    request->after = after;
    return request;
}

static uint64_t position_now(struct stage *stage)
{
    struct request *request = request_for(REQUEST_CHANGES, NULL);
    request->pages = true;
    stage_ask_well(stage, request);
    uint64_t position = request->position;
    request_free(request);
    return position;
}

static void changes_are_told_of_those_alone(void **state)
{
    struct stage *stage = *state;
    static const struct str patterns[] = {{"team-1*", 7}, {"b", 1}};
    uint64_t after = position_now(stage);
    static const char *const changed[] = {"a", "b", "team-1", "team-2", "team-12", "z"};
    for (unsigned i = 0; i < 6; i++)
        stage_do(stage, changed[i], "agent.register agent=ada");
    stage_delete(stage, "team-12");
    stage_delete(stage, "team-2");
    struct request *request = stage_ask_well(stage, changes_request(patterns, 2, after));
    assert_int_equal(request->changes_n, 3);
    bool seen[3] = {false};
    for (uint32_t i = 0; i < 3; i++) {
        const struct request_change *change = &request->changes[i];
        seen[0] = seen[0] || str_equal(change->session, STR("b"));
        seen[1] = seen[1] || str_equal(change->session, STR("team-1"));
        seen[2] = seen[2] ||
                  (str_equal(change->session, STR("team-12")) && change->kind == CHANGE_DELETED);
    }
    assert_true(seen[0] && seen[1] && seen[2]);
    request_free(request);
}

static void who_waits_is_not_woken_by_the_others(void **state)
{
    struct stage *stage = *state;
    static const struct str patterns[] = {{"team-1*", 7}};
    struct request *request = changes_request(patterns, 1, position_now(stage));
    request->wait = true;
    struct ask *ask = stage_send(stage, request);
    stage_settle(stage);
    stage_do(stage, "a", "agent.register agent=ada");
    stage_pass(stage, 2 * CHANGES_PAUSE_MS);
    stage_settle(stage);
    assert_false(ask->done);
    stage_do(stage, "team-1", "agent.register agent=ada");
    stage_pass(stage, 2 * CHANGES_PAUSE_MS);
    request = stage_await(stage, ask);
    assert_int_equal(request->changes_n, 1);
    assert_true(str_equal(request->changes[0].session, STR("team-1")));
    request_free(request);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_many, close_stage)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_list_shows_what_the_patterns_mean),
        TEST(any_patterns_will_do),
        TEST(passive_sessions_are_seen_or_not_in_the_same_way),
        TEST(changes_are_told_of_those_alone),
        TEST(who_waits_is_not_woken_by_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
