/* The text of server-sent events: whole, cut at any seq, filtered; and the ids it carries; ETags;
 * cursors; ids made by the server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/etag.h"
#include "server/list.h"
#include "server/newid.h"
#include "server/sse.h"
#include "server/stream_queue.h"

#define PATCH "{\"seq\":5,\"ops\":[]}"
#define EVENT_5 "{\"seq\":5,\"ts\":\"t\",\"type\":\"message.sent\",\"x\":1}"
#define EVENT_6 "{\"seq\":6,\"ts\":\"t\",\"type\":\"thread.read\",\"x\":1}"

static struct str text(const char *p)
{
    return (struct str){p, strlen(p)};
}

static void assert_text(struct str s, const char *expected)
{
    assert_int_equal(s.n, strlen(expected));
    assert_memory_equal(s.p, expected, s.n);
}

/* Seqs 5 and 6 as events; as patches only 5. */
static struct frame *sample(struct frame *frame, struct frame_item items[2])
{
    static char bytes[] = EVENT_5 EVENT_6 PATCH;
    items[0] = (struct frame_item){.seq = 5,
                                   .event_size = sizeof(EVENT_5) - 1,
                                   .patch_offset = sizeof(EVENT_5) + sizeof(EVENT_6) - 2,
                                   .patch_size = sizeof(PATCH) - 1};
    items[1] = (struct frame_item){
        .seq = 6, .event_offset = sizeof(EVENT_5) - 1, .event_size = sizeof(EVENT_6) - 1};
    *frame =
        (struct frame){.items_n = 2, .items = items, .bytes = bytes, .first_seq = 5, .last_seq = 6};
    return frame;
}

static void frames_become_text_that_can_be_cut(void **state)
{
    struct frame_item items[2];
    struct frame frame;
    struct sse_chunk *chunk = sse_frame(sample(&frame, items), STR("e1"), WANTS_EVENTS, 0);
    const char *first = "event: event\nid: e1-5-1\ndata: " EVENT_5 "\n\n";
    const char *second = "event: event\nid: e1-6-1\ndata: " EVENT_6 "\n\n";
    char both[512];

    (void)state;
    assert_non_null(chunk);
    strcat(strcpy(both, first), second);
    assert_text(sse_after(chunk, 0), both);
    assert_text(sse_after(chunk, 4), both);
    assert_text(sse_after(chunk, 5), second);
    assert_text(sse_after(chunk, 6), "");
    assert_text(sse_after(chunk, 7), "");
    sse_release(chunk);
}

static void frames_without_the_form_wanted_are_told_apart(void **state)
{
    struct frame_item items[2];
    struct frame frame;

    (void)state;
    assert_null(sse_frame(sample(&frame, items), STR("e1"), WANTS_PATCHES, 0));
    frame.items_n = 1;
    frame.last_seq = 5;
    struct sse_chunk *chunk = sse_frame(&frame, STR("e1"), WANTS_PATCHES, 0);
    assert_text(sse_after(chunk, 4), "event: patch\nid: e1-5-1\ndata: " PATCH "\n\n");
    sse_release(chunk);
}

static void events_are_filtered_by_type(void **state)
{
    struct frame_item items[2];
    struct frame frame;
    struct sse_chunk *chunk =
        sse_frame(sample(&frame, items), STR("e1"), WANTS_EVENTS, 1u << CORE_THREAD_READ);

    (void)state;
    assert_text(sse_after(chunk, 4), "event: event\nid: e1-6-1\ndata: " EVENT_6 "\n\n");
    assert_text(sse_after(chunk, 6), "");
    assert_int_equal(chunk->last_seq, 6);
    sse_release(chunk);
}

static void ids_are_read_back(void **state)
{
    static const char *const bad[] = {"",      "x",      "e1-5",    "-5-1",    "e1--1",   "e1-x-1",
                                      "e1-5-", "e1-5-x", "e-1-5-1", "e 1-5-1", "e1-05-1", NULL};
    struct sse_position position;

    (void)state;
    assert_true(sse_parse_id(STR("e1-42-1"), &position));
    assert_text(position.epoch, "e1");
    assert_int_equal(position.seq, 42);
    assert_false(position.version_differs);
    assert_true(sse_parse_id(STR("e1-42-2"), &position));
    assert_true(position.version_differs);
    for (unsigned i = 0; bad[i] != NULL; i++)
        assert_false(sse_parse_id(text(bad[i]), &position));
}

static void the_end_says_where_it_was(void **state)
{
    struct sse_chunk *chunk = sse_end(STR("e1"), 9);

    (void)state;
    assert_text((struct str){chunk->bytes, chunk->size},
                "event: end\ndata: {\"epoch\":\"e1\",\"seq\":9,\"reason\":\"deleted\"}\n\n");
    sse_release(chunk);
}

static void a_queue_keeps_its_order(void **state)
{
    struct stream_queue queue = {0};
    struct sse_chunk *chunk = sse_text(STR("0123456789"));

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        sse_hold(chunk);
        stream_queue_push(&queue, chunk, (struct str){chunk->bytes + i % 10, 1}, i % 2 != 0);
        if (i % 3 == 0)
            stream_queue_shift(&queue);
    }
    assert_int_equal(queue.n, 66);
    assert_int_equal(queue.bytes, 66);
    for (unsigned i = 0; i < queue.n; i++)
        assert_int_equal(stream_queue_at(&queue, i)->text.p[0], '0' + (i + 34) % 10);
    stream_queue_pop(&queue);
    assert_int_equal(queue.n, 65);
    stream_queue_free(&queue);
    assert_int_equal(chunk->references, 1);
    sse_release(chunk);
}

static void etags_are_written_and_read(void **state)
{
    char out[ETAG_BYTES];
    struct str epoch;
    uint64_t seq;
    struct str etag = etag_write(out, STR("k3x9"), 42);

    (void)state;
    assert_text(etag, "\"k3x9-42\"");
    assert_true(etag_read(etag, &epoch, &seq));
    assert_text(epoch, "k3x9");
    assert_int_equal(seq, 42);
    assert_true(etag_listed(etag, etag));
    assert_true(etag_listed(STR("\"x-1\" , W/\"k3x9-42\""), etag));
    assert_true(etag_listed(STR("*"), etag));
    assert_false(etag_listed(STR("\"k3x9-4\", k3x9-42,"), etag));
    for (const char *const *bad = (const char *const[]){"", "7", "\"x\"", "\"x-\"", "\"-7\"",
                                                        "\"x-y\"", "W/\"x-7\"", "*", "\"x-7", NULL};
         *bad != NULL; bad++)
        assert_false(etag_read(text(*bad), &epoch, &seq));
}

static void cursors_are_read_back(void **state)
{
    struct arena arena = {0};
    struct buf out = {0};
    struct str id;

    (void)state;
    for (const char *const *ids = (const char *const[]){"a", "ab", "abc", "Z-_9", NULL};
         *ids != NULL; ids++) {
        out.n = 0;
        list_cursor_write(&out, text(*ids));
        assert_true(list_cursor_read(buf_str(&out), &arena, &id));
        assert_text(id, *ids);
    }
    assert_false(list_cursor_read(STR("!!"), &arena, &id));
    assert_false(list_cursor_read(STR("A"), &arena, &id));
    assert_false(list_cursor_read(STR("____"), &arena, &id));
    buf_free(&out);
    arena_free(&arena);
}

static void ids_made_later_sort_later(void **state)
{
    char a[NEWID_BYTES], b[NEWID_BYTES];

    (void)state;
    for (int64_t ms = 1; ms < INT64_C(1) << 47; ms *= 3) {
        struct str first = newid_by_time(a, ms, 1);
        assert_true(core_id_valid(first));
        assert_true(str_compare(first, newid_by_time(b, ms, 2)) < 0);
        assert_true(str_compare(first, newid_by_time(b, ms + 1, 0)) < 0);
    }
    assert_true(str_equal(newid_by_key(a, STR(""), STR("k")), newid_by_key(b, STR(""), STR("k"))));
    assert_false(str_equal(newid_by_key(a, STR("k"), STR("")), newid_by_key(b, STR(""), STR("k"))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_become_text_that_can_be_cut),
        cmocka_unit_test(frames_without_the_form_wanted_are_told_apart),
        cmocka_unit_test(events_are_filtered_by_type),
        cmocka_unit_test(ids_are_read_back),
        cmocka_unit_test(the_end_says_where_it_was),
        cmocka_unit_test(a_queue_keeps_its_order),
        cmocka_unit_test(etags_are_written_and_read),
        cmocka_unit_test(cursors_are_read_back),
        cmocka_unit_test(ids_made_later_sort_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
