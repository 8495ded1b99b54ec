/*
 * Which parts a view may be narrowed to, and which paths they have.
 */
#include "tests/unit/core_fixture.h"

static void a_part_is_a_pointer_of_one_or_two_segments(void **state)
{
    static const char *const good[] = {"/threads", "/threads/t3",    "/labels/a~1b~0c",
                                       "/labels/", "/labels/\"\\\n", "/status",
                                       "/",        "/agents/~01"};
    static const char *const bad[] = {"",    "threads", "/a/b/c", "/a/b/", "//x/",
                                      "/a~", "/a~2",    "/a/b~",  "/~/a",  "#/a"};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(core_part_valid(str_of(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(core_part_valid(str_of(bad[i])));
}

static struct core_parts *parts_of(struct world *w, const char *const *pointers, uint32_t n)
{
    struct core_parts *parts = arena_alloc(&w->scratch, sizeof(*parts) + n * sizeof(struct str));
    parts->n = n;
    for (uint32_t i = 0; i < n; i++)
        parts->items[i] = str_of(pointers[i]);
    return parts;
}

static void parts_have_what_lies_in_them_and_the_root_itself(void **state)
{
    static const char *const pointers[] = {"/agents", "/labels/a~1b", "/threads/t1"};
    static const char *const in[] = {"/agents",
                                     "/agents/x",
                                     "/agents/x/labels/k",
                                     "/labels/a~1b",
                                     "/threads/t1",
                                     "/threads/t1/older",
                                     "/status",
                                     "/parent",
                                     "/created_at",
                                     "/threads/t1/messages/-"};
    static const char *const out[] = {
        "/labels",      "/labels/a",  "/labels/a~1", "/labels/a~1bc",
        "/threads/t10", "/threads/t", "/threads",    "/threads/t2/messages/0"};
    const struct core_parts *parts = parts_of(*state, pointers, 3);
    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++)
        assert_true(core_parts_have(parts, str_of(in[i])));
    for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++)
        assert_false(core_parts_have(parts, str_of(out[i])));
    assert_true(core_parts_have(NULL, str_of("/labels/a")));
}

static void expect_shown(struct world *w, const char *pointer, bool compact, const char *expected)
{
    struct buf out = {0};
    core_view_parts(w->s, parts_of(w, &pointer, 1), compact, &out);
    expect_text(&out, expected);
}

#define ROOT "{\"id\":\"s1\",\"parent\":null,\"status\":\"open\",\"summary\":null,\"labels\":{"
#define CREATED "},\"created_at\":\"2026-01-02T03:04:05.678Z\","

static void a_view_of_parts_keeps_the_roots_shape(void **state)
{
    struct world *w = *state;
    expect_event(w, "session.update labels=a/b:1,c:2");
    expect_event(w, "message.send thread=general sender=bob content=x data=[1] mentions=ada");
    expect_shown(w, "/none", false, ROOT CREATED "\"agents\":{},\"threads\":{}}");
    expect_shown(w, "/labels/a~1b", false,
                 ROOT "\"a/b\":\"1\"" CREATED "\"agents\":{},\"threads\":{}}");
    expect_shown(w, "/labels", true,
                 ROOT "\"a/b\":\"1\",\"c\":\"2\"" CREATED "\"agents\":{},\"threads\":{}}");
    expect_shown(w, "/agents/cy", false,
                 ROOT CREATED "\"agents\":{\"cy\":{\"description\":null,\"status\":\"idle\","
                              "\"note\":null,\"priority\":0,\"labels\":{},\"lease_s\":null,"
                              "\"wake\":null}},\"threads\":{}}");
    expect_shown(w, "/threads/general", true,
                 ROOT CREATED
                 "\"agents\":{},\"threads\":{\"general\":{\"name\":\"General\","
                 "\"creator\":\"ada\",\"status\":\"open\",\"summary\":null,\"participants\":"
                 "{\"ada\":{\"read\":5,\"taken\":[]},\"bob\":{\"read\":5,\"taken\":[]}},"
                 "\"older\":0,\"messages\":[{\"id\":\"m7\",\"seq\":7,"
                 "\"ts\":\"2026-01-02T03:04:05.678Z\",\"sender\":\"bob\","
                 "\"mentions\":[\"ada\"],\"reply_to\":null}]}}}");
}

static void the_outline_counts_messages_and_shows_none(void **state)
{
    struct world *w = *state;
    const char *general = "/threads/general";
    struct buf out = {0};
    for (uint32_t i = 0; i < 5; i++) /* the window holds three */
        expect_event(w, "message.send thread=general sender=bob content=x");
    core_view_outline(w->s, parts_of(w, &general, 1), &out);
    expect_text(&out, ROOT CREATED
                "\"agents\":{},\"threads\":{\"general\":{\"name\":\"General\","
                "\"creator\":\"ada\",\"status\":\"open\",\"summary\":null,\"participants\":"
                "{\"ada\":{\"read\":5,\"taken\":[]},\"bob\":{\"read\":5,\"taken\":[]}},"
                "\"older\":5,\"messages\":[]}}}");
}

static void the_compact_patch_lacks_content_and_data_alone(void **state)
{
    struct world *w = *state;
    struct buf full = {0}, compact = {0};
    expect_event(w, "message.send thread=general sender=bob content=x data=[1]");
    core_event_patch_compact(&w->event, &compact);
    expect_text(&compact, "[{\"op\":\"add\",\"path\":\"/threads/general/messages/-\",\"value\":"
                          "{\"id\":\"m6\",\"seq\":6,\"ts\":\"2026-01-02T03:04:05.678Z\","
                          "\"sender\":\"bob\",\"mentions\":[],\"reply_to\":null}}]");
    expect_event(w, "agent.update agent=ada note=content");
    core_event_patch(&w->event, &full);
    core_event_patch_compact(&w->event, &compact);
    assert_int_equal(full.n, compact.n);
    assert_memory_equal(full.p, compact.p, full.n);
    buf_free(&full);
    buf_free(&compact);
}

/* Windows hold three messages. */
static void a_threads_window_is_counted(void **state)
{
    struct world *w = *state;
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(core_thread_window(w->s, STR("general")), i < 3 ? i : 3);
        expect_event(w, "message.send thread=general sender=bob content=x");
    }
    expect_event(w, "thread.close thread=general by=ada summary=s");
    assert_int_equal(core_thread_window(w->s, STR("general")), 0);
    assert_int_equal(core_thread_window(w->s, STR("none")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_is_a_pointer_of_one_or_two_segments),
        cmocka_unit_test_setup_teardown(parts_have_what_lies_in_them_and_the_root_itself,
                                        setup_empty, teardown),
        cmocka_unit_test_setup_teardown(a_view_of_parts_keeps_the_roots_shape, setup_general,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_outline_counts_messages_and_shows_none, setup_small,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_compact_patch_lacks_content_and_data_alone,
                                        setup_general, teardown),
        cmocka_unit_test_setup_teardown(a_threads_window_is_counted, setup_small, teardown),
    };
    return cmocka_run_group_tests_name("core_parts", tests, NULL, NULL);
}
