/*
 * Pages of a session's events and messages: each filter, both ways, and that paging through
 * everything gives each one once.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

enum { EVENTS_MAX = 1000 };

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

/* What each event is about, as the test has made it. */
struct expected {
    bool bob, other;
    int64_t ts_ms;
};

struct story {
    struct expected events[EVENTS_MAX + 1]; /* by seq */
    uint64_t n;
    int64_t begin_ms;
};

static void tell(struct stage *stage, struct story *story, const char *line, bool bob, bool other)
{
    uint64_t seq = stage_do(stage, "s1", line);
    assert_int_equal(seq, ++story->n);
    story->events[seq] = (struct expected){bob, other, stage->wall_ms};
}

/* bob takes part in "other"; ada and cy are in "general", and write to "other" too. */
static void make_story(struct stage *stage, struct story *story, unsigned messages)
{
    *story = (struct story){.begin_ms = stage->wall_ms};
    tell(stage, story, "session.create", false, false);
    tell(stage, story, "agent.register agent=ada", false, false);
    tell(stage, story, "agent.register agent=bob", true, false);
    tell(stage, story, "agent.register agent=cy", false, false);
    tell(stage, story, "thread.create creator=ada name=G participants=cy thread=general", false,
         false);
    tell(stage, story, "thread.create creator=ada name=O participants=ada thread=other", false,
         true);
    tell(stage, story, "thread.add thread=other agent=bob by=ada", true, true);
    for (unsigned i = 0; i < messages; i++) {
        if (i % 3 == 0)
            stage->wall_ms += 10;
        switch (i % 4) {
        case 0:
            tell(stage, story, "message.send thread=general sender=ada content=x", false, false);
            break;
        case 1:
            tell(stage, story, "message.send thread=other sender=bob content=x", true, true);
            break;
        case 2:
            tell(stage, story, "message.send thread=general sender=cy content=x", false, false);
            break;
        default:
            tell(stage, story, "message.send thread=other sender=ada content=x", false, true);
        }
    }
}

struct filter {
    bool bob, other, descending;
    int64_t since_ms, until_ms; /* 0: none */
    uint64_t after, before;
};

static bool wants(const struct story *story, const struct filter *filter, uint64_t seq)
{
    const struct expected *event = &story->events[seq];
    return (!filter->bob || event->bob) && (!filter->other || event->other) &&
           (filter->since_ms == 0 || event->ts_ms >= filter->since_ms) &&
           (filter->until_ms == 0 || event->ts_ms < filter->until_ms) && seq > filter->after &&
           (filter->before == 0 || seq < filter->before);
}

static struct request *page_request(const struct filter *filter, uint32_t limit, uint64_t cursor)
{
    struct request *request = request_for(REQUEST_EVENTS, "s1");
    uint64_t after = filter->after, before = filter->before;
    if (cursor != 0 && filter->descending)
        before = cursor;
    else if (cursor != 0)
        after = cursor;
    request->has_after = after != 0;
    request->after = after;
    request->has_before = before != 0;
    request->before = before;
    request->agent = filter->bob ? STR("bob") : (struct str){0};
    request->thread = filter->other ? STR("other") : (struct str){0};
    request->has_since = filter->since_ms != 0;
    request->since_ms = filter->since_ms;
    request->has_until = filter->until_ms != 0;
    request->until_ms = filter->until_ms;
    request->descending = filter->descending;
    request->limit = limit;
    return request;
}

static uint64_t next_wanted(const struct story *story, const struct filter *filter, uint64_t seq)
{
    if (filter->descending) {
        for (seq = seq == 0 ? story->n : seq - 1; seq != 0 && !wants(story, filter, seq);)
            seq--;
        return seq;
    }
    for (seq++; seq <= story->n && !wants(story, filter, seq);)
        seq++;
    return seq <= story->n ? seq : 0;
}

/* Each event that is wanted comes once, in order, and no other. */
static void expect_all_pages(struct stage *stage, const struct story *story,
                             const struct filter *filter, uint32_t limit)
{
    uint64_t cursor = 0, at = 0;
    for (bool more = true; more;) {
        struct request *request = stage_ask_well(stage, page_request(filter, limit, cursor));
        json_t *tree = json_of(stage_text(request));
        json_t *events = json_object_get(tree, "events");
        json_t *event;
        size_t i;
        assert_true(json_array_size(events) <= limit);
        json_array_foreach (events, i, event) {
            at = next_wanted(story, filter, at);
            assert_int_not_equal(at, 0);
            assert_int_equal(json_integer_value(json_object_get(event, "seq")), at);
        }
        json_t *next = json_object_get(tree, "next");
        more = json_is_integer(next);
        if (more) {
            assert_int_equal(json_array_size(events), limit);
            assert_int_equal(json_integer_value(next), at);
        }
        cursor = at;
        json_decref(tree);
        request_free(request);
    }
    assert_true(at == 0 || next_wanted(story, filter, at) == 0);
    if (at == 0)
        assert_int_equal(next_wanted(story, filter, 0), 0);
}

static void every_filter_and_every_page_size_gives_each_event_once(void **state)
{
    struct stage *stage = *state;
    static struct story story;
    make_story(stage, &story, 300);
    assert_true(stage_figure(stage, "snapshots") > 5);
    for (unsigned bits = 0; bits < 32; bits++) {
        struct filter filter = {
            .bob = bits & 1,
            .other = bits & 2,
            .descending = bits & 4,
            .since_ms = bits & 8 ? story.begin_ms + 300 : 0,
            .until_ms = bits & 16 ? story.begin_ms + 700 : 0,
        };
        for (uint32_t limit = 1; limit <= 1000; limit *= 10)
            if (limit > 1 || bits % 5 == 0)
                expect_all_pages(stage, &story, &filter, limit);
    }
}

static void a_range_of_seqs_is_kept_to_both_ways(void **state)
{
    struct stage *stage = *state;
    static struct story story;
    make_story(stage, &story, 200);
    static const uint64_t ends[] = {0, 1, 2, 7, 8, 100, 150, 206, 207, 208};
    for (int a = 0; a < 9; a++) {
        for (int b = 1; b < 10; b++) {
            for (int descending = 0; descending < 2; descending++) {
                struct filter filter = {
                    .after = ends[a], .before = ends[b], .descending = descending};
                expect_all_pages(stage, &story, &filter, 1000);
                if ((a + b) % 3 == 0)
                    expect_all_pages(stage, &story, &filter, 9);
            }
        }
    }
}

/* Of a record of many events, any part may be wanted. */
static void events_of_one_batch_come_singly(void **state)
{
    struct stage *stage = *state;
    static struct story story;
    make_story(stage, &story, 20);
    struct request *batch = request_for(REQUEST_COMMANDS, "s1");
    batch->batch = batch->atomic = true;
    for (int i = 0; i < 100; i++) {
        bool bob = i % 2 == 0;
        request_add(batch, bob ? "message.send thread=other sender=bob content=b"
                               : "message.send thread=general sender=ada content=a");
        story.events[++story.n] = (struct expected){bob, bob, stage->wall_ms};
    }
    request_free(stage_ask_well(stage, batch));
    tell(stage, &story, "message.send thread=general sender=ada content=x", false, false);
    for (unsigned bits = 0; bits < 8; bits++) {
        struct filter filter = {.bob = bits & 1, .other = bits & 2, .descending = bits & 4};
        for (uint32_t limit = 1; limit <= 1000; limit = limit * 7 + 1)
            expect_all_pages(stage, &story, &filter, limit);
    }
    struct filter part = {.after = 50, .before = 60};
    expect_all_pages(stage, &story, &part, 3);
    part.descending = true;
    expect_all_pages(stage, &story, &part, 3);
}

static void types_are_told_apart(void **state)
{
    struct stage *stage = *state;
    static struct story story;
    make_story(stage, &story, 40);
    for (int descending = 0; descending < 2; descending++) {
        struct request *request = page_request(&(struct filter){.descending = descending}, 100, 0);
        request->types = 1u << CORE_AGENT_REGISTER | 1u << CORE_THREAD_CREATE;
        stage_ask_well(stage, request);
        static const int seqs[] = {2, 3, 4, 5, 6};
        char pointer[32], expected[8];
        for (int i = 0; i < 5; i++) {
            snprintf(pointer, sizeof(pointer), "/events/%d/seq", i);
            snprintf(expected, sizeof(expected), "%d", seqs[descending ? 4 - i : i]);
            expect_json(stage_text(request), pointer, expected);
        }
        expect_json(stage_text(request), "/events/5", NULL);
        expect_json(stage_text(request), "/next", "null");
        request_free(request);
    }
}

static void messages_past_the_window_come_from_the_log(void **state)
{
    struct stage *stage = *state;
    static struct story story;
    make_story(stage, &story, 400);
    uint64_t before = 0, expected = story.n - 1; /* of "general", every second one */
    while (expected % 2 != 0)
        expected--;
    for (bool more = true; more;) {
        struct request *request = request_for(REQUEST_MESSAGES, "s1");
        request->thread = STR("general");
        request->limit = 23;
        request->has_before = before != 0;
        request->before = before;
        stage_ask_well(stage, request);
        json_t *tree = json_of(stage_text(request));
        json_t *messages = json_object_get(tree, "messages");
        for (size_t i = json_array_size(messages); i-- != 0; expected -= 2) {
            json_t *seq = json_object_get(json_array_get(messages, i), "seq");
            assert_int_equal(json_integer_value(seq), expected);
            before = expected;
        }
        more = json_is_integer(json_object_get(tree, "next"));
        json_decref(tree);
        request_free(request);
    }
    assert_int_equal(expected, 6); /* the first is seq 8 */
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_one, close_stage)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(every_filter_and_every_page_size_gives_each_event_once),
        TEST(a_range_of_seqs_is_kept_to_both_ways),
        TEST(events_of_one_batch_come_singly),
        TEST(types_are_told_apart),
        TEST(messages_past_the_window_come_from_the_log),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
