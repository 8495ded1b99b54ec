/*
 * What narrowed and merged patches say, to the letter, and what they leave out.
 */
#include "tests/unit/core_fixture.h"

#include "server/compose.h"
#include "shards/shard.h"

enum { FRAMES_MAX = 16 };

struct stage {
    struct world *w;
    struct frame *frames[FRAMES_MAX];
    uint32_t n;
    struct composed out;
};

static void open_stage(struct stage *stage, struct world *w)
{
    *stage = (struct stage){.w = w};
}

static void close_stage(struct stage *stage)
{
    for (uint32_t i = 0; i < stage->n; i++)
        frame_release(stage->frames[i]);
    composed_free(&stage->out);
}

/* One frame of these commands, which the list ends with NULL. */
static void add_frame(struct stage *stage, bool live, const char *const *lines)
{
    struct frame_builder builder = {0};
    for (; *lines != NULL; lines++) {
        expect_event(stage->w, *lines);
        frame_builder_add(&builder, WANTS_PATCHES | WANTS_COMPACT, &stage->w->event,
                          live ? stage->w->s : NULL);
    }
    assert_true(stage->n < FRAMES_MAX);
    stage->frames[stage->n++] = frame_builder_take(&builder);
    frame_builder_free(&builder);
}

#define FRAME(stage, live, ...) add_frame((stage), (live), (const char *const[]){__VA_ARGS__, NULL})

/* The text of item `i`, whose `ts` members are taken out. */
static void expect_item(struct stage *stage, uint32_t i, uint64_t seq, const char *expected)
{
    assert_true(i < stage->out.n);
    assert_int_equal(stage->out.items[i].seq, seq);
    size_t begin = i == 0 ? 0 : stage->out.items[i - 1].end;
    const char *p = stage->out.bytes.p + begin;
    const char *end = stage->out.bytes.p + stage->out.items[i].end;
    char text[4096];
    size_t n = 0;
    struct str ts = STR("\"ts\":\"2026-01-02T03:04:05.678Z\",");
    while (p != end) {
        if ((size_t)(end - p) >= ts.n && memcmp(p, ts.p, ts.n) == 0) {
            p += ts.n;
            continue;
        }
        assert_true(n + 1 < sizeof(text));
        text[n++] = *p++;
    }
    text[n] = '\0';
    assert_string_equal(text, expected);
}

static void merge(struct stage *stage, uint64_t after, unsigned view,
                  const struct core_parts *parts)
{
    composed_clear(&stage->out);
    assert_true(compose_merge((const struct frame *const *)stage->frames, stage->n, after, view,
                              parts, NULL, &stage->out));
}

static const struct core_parts *parts_of(struct world *w, const char *one, const char *other)
{
    struct core_parts *parts = arena_alloc(&w->scratch, sizeof(*parts) + 2 * sizeof(struct str));
    parts->n = other != NULL ? 2 : 1;
    parts->items[0] = str_of(one);
    if (other != NULL)
        parts->items[1] = str_of(other);
    return parts;
}

static void the_last_value_of_a_path_is_enough(void **state)
{
    struct stage stage;
    open_stage(&stage, *state);
    FRAME(&stage, true, "agent.update agent=ada status=working note=a",
          "agent.update agent=bob status=waiting");
    FRAME(&stage, true, "agent.update agent=ada status=waiting",
          "session.update labels=a:1,b/c~d\\e:\"", "session.update labels=a:2");
    merge(&stage, 5, WANTS_PATCHES, NULL);
    assert_int_equal(stage.out.n, 1);
    expect_item(&stage, 0, 10,
                "{\"seq\":10,\"from\":6,\"type\":\"merged\",\"actor\":null,\"ops\":["
                "{\"op\":\"replace\",\"path\":\"/agents/ada/note\",\"value\":\"a\"},"
                "{\"op\":\"replace\",\"path\":\"/agents/bob/status\",\"value\":\"waiting\"},"
                "{\"op\":\"replace\",\"path\":\"/agents/ada/status\",\"value\":\"waiting\"},"
                "{\"op\":\"add\",\"path\":\"/labels/a\",\"value\":\"1\"},"
                "{\"op\":\"add\",\"path\":\"/labels/b~1c~0d\\\\e\",\"value\":\"\\\"\"},"
                "{\"op\":\"add\",\"path\":\"/labels/a\",\"value\":\"2\"}]}");
    merge(&stage, 8, WANTS_PATCHES, parts_of(stage.w, "/labels/b~1c~0d\\e", NULL));
    expect_item(&stage, 0, 10,
                "{\"seq\":10,\"from\":9,\"type\":\"merged\",\"actor\":null,\"ops\":["
                "{\"op\":\"add\",\"path\":\"/labels/b~1c~0d\\\\e\",\"value\":\"\\\"\"}]}");
    merge(&stage, 9, WANTS_PATCHES, parts_of(stage.w, "/labels/b~1c~0d\\e", NULL));
    assert_int_equal(stage.out.n, 0);
    assert_int_equal(stage.out.bytes.n, 0);
    merge(&stage, 10, WANTS_PATCHES, NULL);
    assert_int_equal(stage.out.n, 0);
    close_stage(&stage);
}

static uint32_t count_of(const struct stage *stage, const char *text)
{
    uint32_t n = 0;
    struct str rest = buf_str(&stage->out.bytes);
    const char *found;
    while ((found = memmem(rest.p, rest.n, text, strlen(text))) != NULL) {
        n++;
        rest = (struct str){found + 1, (size_t)(rest.p + rest.n - found) - 1};
    }
    return n;
}

static void talk(struct stage *stage, bool live, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        FRAME(stage, live, "message.send thread=general sender=ada content=\\\\");
}

/* Windows hold three. */
static void messages_that_came_and_left_are_not_said(void **state)
{
    struct stage stage;
    open_stage(&stage, *state);
    talk(&stage, true, 8); /* seqs 6 to 13 */
    merge(&stage, 5, WANTS_COMPACT, NULL);
    expect_item(&stage, 0, 13,
                "{\"seq\":13,\"from\":6,\"type\":\"merged\",\"actor\":null,\"ops\":["
                "{\"op\":\"replace\",\"path\":\"/threads/general/older\",\"value\":5},"
                "{\"op\":\"replace\",\"path\":\"/threads/general/messages\",\"value\":["
                "{\"id\":\"m11\",\"seq\":11,\"sender\":\"ada\",\"mentions\":[],\"reply_to\":null},"
                "{\"id\":\"m12\",\"seq\":12,\"sender\":\"ada\",\"mentions\":[],\"reply_to\":null},"
                "{\"id\":\"m13\",\"seq\":13,\"sender\":\"ada\",\"mentions\":[],\"reply_to\":null}"
                "]}]}");
    merge(&stage, 10, WANTS_COMPACT, NULL); /* all three are new */
    assert_int_equal(count_of(&stage, "\"remove\""), 0);
    assert_int_equal(count_of(&stage, "\"op\":\"add\""), 0);
    merge(&stage, 11, WANTS_COMPACT, NULL); /* one of them is not */
    assert_int_equal(count_of(&stage, "\"remove\""), 2);
    assert_int_equal(count_of(&stage, "\"op\":\"add\""), 2);
    assert_int_equal(count_of(&stage, "/older"), 1);
    close_stage(&stage);
}

static void unknown_windows_keep_every_message(void **state)
{
    struct stage stage;
    open_stage(&stage, *state);
    talk(&stage, false, 6);
    merge(&stage, 5, WANTS_PATCHES, NULL);
    assert_int_equal(count_of(&stage, "\"remove\""), 3);
    assert_int_equal(count_of(&stage, "\"op\":\"add\""), 6);
    talk(&stage, true, 1);  /* now it is known, */
    talk(&stage, false, 2); /* and still is */
    merge(&stage, 5, WANTS_PATCHES, NULL);
    assert_int_equal(count_of(&stage, "\"remove\""), 0);
    assert_int_equal(count_of(&stage, "\"id\":\"m"), 3);
    close_stage(&stage);
}

static void a_closed_thread_has_no_messages(void **state)
{
    struct stage stage;
    open_stage(&stage, *state);
    talk(&stage, false, 2);
    FRAME(&stage, false, "thread.close thread=general by=ada summary=done");
    merge(&stage, 5, WANTS_PATCHES, parts_of(stage.w, "/threads/general", NULL));
    expect_item(&stage, 0, 8,
                "{\"seq\":8,\"from\":6,\"type\":\"merged\",\"actor\":null,\"ops\":["
                "{\"op\":\"replace\",\"path\":\"/threads/general/status\",\"value\":\"closed\"},"
                "{\"op\":\"replace\",\"path\":\"/threads/general/summary\",\"value\":\"done\"},"
                "{\"op\":\"replace\",\"path\":\"/threads/general/older\",\"value\":2},"
                "{\"op\":\"replace\",\"path\":\"/threads/general/messages\",\"value\":[]}]}");
    close_stage(&stage);
}

/* A thread made within the run is known from its beginning. */
static void a_new_thread_is_said_with_what_is_left_in_it(void **state)
{
    struct stage stage;
    open_stage(&stage, *state);
    FRAME(&stage, false, "thread.create creator=ada name=n participants=bob thread=x");
    for (int i = 0; i < 5; i++)
        FRAME(&stage, false, "message.send thread=x sender=bob content=hello");
    merge(&stage, 5, WANTS_COMPACT, NULL);
    assert_int_equal(count_of(&stage, "\"path\":\"/threads/x\""), 1);
    assert_int_equal(count_of(&stage, "\"id\":\"m"), 3);
    assert_int_equal(count_of(&stage, "hello"), 0);
    assert_int_equal(count_of(&stage, "\"op\""), 3);
    close_stage(&stage);
}

static void narrowed_patches_join(void **state)
{
    struct stage stage;
    open_stage(&stage, *state);
    FRAME(&stage, true, "message.send thread=general sender=ada content=a",
          "agent.update agent=ada note=x", "agent.update agent=bob note=y",
          "session.update labels=q\"uote:1", "session.close summary=all");
    uint64_t told = 3;
    assert_true(compose_narrow(stage.frames[0], 6, WANTS_PATCHES,
                               parts_of(stage.w, "/agents/bob", "/labels/q\"uote"), NULL, &told,
                               &stage.out));
    assert_int_equal(stage.out.n, 3);
    assert_int_equal(told, 10);
    expect_item(&stage, 0, 8,
                "{\"seq\":8,\"from\":4,\"type\":\"agent.updated\",\"actor\":\"bob\",\"ops\":["
                "{\"op\":\"replace\",\"path\":\"/agents/bob/note\",\"value\":\"y\"}]}");
    expect_item(&stage, 1, 9,
                "{\"seq\":9,\"from\":9,\"type\":\"session.updated\",\"actor\":null,\"ops\":["
                "{\"op\":\"add\",\"path\":\"/labels/q\\\"uote\",\"value\":\"1\"}]}");
    expect_item(&stage, 2, 10,
                "{\"seq\":10,\"from\":10,\"type\":\"session.closed\",\"actor\":null,\"ops\":["
                "{\"op\":\"replace\",\"path\":\"/status\",\"value\":\"closed\"},"
                "{\"op\":\"replace\",\"path\":\"/summary\",\"value\":\"all\"}]}");
    close_stage(&stage);
}

static void a_form_that_a_frame_lacks_is_not_made_up(void **state)
{
    struct stage stage;
    struct frame_builder builder = {0};
    uint64_t told = 5;
    open_stage(&stage, *state);
    expect_event(stage.w, "agent.update agent=ada note=x");
    frame_builder_add(&builder, WANTS_PATCHES, &stage.w->event, stage.w->s);
    stage.frames[stage.n++] = frame_builder_take(&builder);
    frame_builder_free(&builder);
    const struct frame *const *frames = (const struct frame *const *)stage.frames;
    const struct core_parts *parts = parts_of(stage.w, "/agents", NULL);
    assert_false(compose_merge(frames, 1, 5, WANTS_COMPACT, NULL, NULL, &stage.out));
    assert_false(compose_narrow(frames[0], 5, WANTS_COMPACT, parts, NULL, &told, &stage.out));
    assert_int_equal(stage.out.n, 0);
    assert_int_equal(told, 5);
    assert_true(compose_narrow(frames[0], 5, WANTS_PATCHES, parts, NULL, &told, &stage.out));
    assert_int_equal(told, 6);
    close_stage(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_value_of_a_path_is_enough, setup_general,
                                        teardown),
        cmocka_unit_test_setup_teardown(messages_that_came_and_left_are_not_said, setup_small,
                                        teardown),
        cmocka_unit_test_setup_teardown(unknown_windows_keep_every_message, setup_small, teardown),
        cmocka_unit_test_setup_teardown(a_closed_thread_has_no_messages, setup_small, teardown),
        cmocka_unit_test_setup_teardown(a_new_thread_is_said_with_what_is_left_in_it, setup_small,
                                        teardown),
        cmocka_unit_test_setup_teardown(narrowed_patches_join, setup_general, teardown),
        cmocka_unit_test_setup_teardown(a_form_that_a_frame_lacks_is_not_made_up, setup_general,
                                        teardown),
    };
    return cmocka_run_group_tests_name("compose", tests, NULL, NULL);
}
