/* The bytes of messages in each framing, the ids they carry and what is read back of them; ETags;
 * cursors; ids made by the server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/etag.h"
#include "server/framing.h"
#include "server/list.h"
#include "server/redact.h"

#include <stdlib.h>

#define OBJECT "{\"seq\":5,\"ops\":[]}"

static struct str text(const char *p)
{
    return (struct str){p, strlen(p)};
}

static void assert_text(struct str s, const char *expected)
{
    assert_int_equal(s.n, strlen(expected));
    assert_memory_equal(s.p, expected, s.n);
}

static struct framing framing_of(enum watcher_framing kind)
{
    return (struct framing){
        .kind = kind, .session = STR("s1"), .epoch = STR("e1"), .view = STR("2c")};
}

static void assert_message(enum watcher_framing kind, uint64_t seq, const char *expected)
{
    struct framing framing = framing_of(kind);
    struct chunk *chunk = framing_chunk(&framing, STR("patch"), seq, STR(OBJECT));
    assert_text(chunk_text(chunk), expected);
    chunk_release(chunk);
}

static void messages_name_their_event_id_and_session(void **state)
{
    (void)state;
    assert_message(FRAMING_SSE, 5, "event: patch\nid: e1-5-2c\ndata: " OBJECT "\n\n");
    assert_message(FRAMING_SSE, 0, "event: patch\ndata: " OBJECT "\n\n");
    assert_message(FRAMING_SSE_MANY, 5,
                   "event: patch\ndata: {\"session\":\"s1\",\"seq\":5,\"ops\":[]}\n\n");
    assert_message(FRAMING_WS, 5,
                   "\x81\x31{\"event\":\"patch\",\"id\":\"e1-5-2c\",\"seq\":5,\"ops\":[]}");
    assert_message(FRAMING_WS_MANY, 5,
                   "\x81\x40{\"event\":\"patch\",\"session\":\"s1\",\"id\":\"e1-5-2c\",\"seq\":5,"
                   "\"ops\":[]}");
    assert_message(FRAMING_WS, 0, "\x81\x22{\"event\":\"patch\",\"seq\":5,\"ops\":[]}");
}

static void websocket_heads_have_the_shortest_length(void **state)
{
    static const struct {
        size_t n;
        unsigned head_n;
        const char *head;
    } cases[] = {
        {0, 2, "\x81\x00"},
        {125, 2, "\x81\x7d"},
        {126, 4, "\x81\x7e\x00\x7e"},
        {65535, 4, "\x81\x7e\xff\xff"},
        {65536, 10, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
    };
    char head[10];

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(framing_ws_head(head, 1, cases[i].n) - head, cases[i].head_n);
        assert_memory_equal(head, cases[i].head, cases[i].head_n);
    }
}

static void the_room_foretold_is_enough(void **state)
{
    char id[CORE_ID_BYTES], epoch[CORE_EPOCH_BYTES], view[FRAMING_VIEW_BYTES];

    (void)state;
    memset(id, 'x', sizeof(id));
    memset(epoch, 'e', sizeof(epoch));
    memset(view, 'v', sizeof(view));
    for (int kind = 0; kind < FRAMING_COUNT; kind++) {
        struct framing framing = {.kind = (enum watcher_framing)kind,
                                  .session = {id, sizeof(id)},
                                  .epoch = {epoch, sizeof(epoch)},
                                  .view = {view, sizeof(view)}};
        char out[512];
        char *end = framing_add(out, &framing, STR("snapshot"), UINT64_MAX, STR(OBJECT));
        assert_true((size_t)(end - out) <= framing_overhead(&framing) + sizeof(OBJECT) - 1);
    }
}

static struct str view_of(unsigned form, const char *part, char scratch[FRAMING_VIEW_BYTES])
{
    if (part == NULL)
        return framing_view(form, NULL, NULL, scratch);
    struct core_parts *parts = malloc(sizeof(*parts) + sizeof(parts->items[0]));
    parts->n = 1;
    parts->items[0] = text(part);
    struct str view = framing_view(form, parts, NULL, scratch);
    free(parts);
    return view;
}

static void views_differ_in_form_and_parts(void **state)
{
    char a[FRAMING_VIEW_BYTES], b[FRAMING_VIEW_BYTES];

    (void)state;
    assert_text(view_of(WANTS_PATCHES, NULL, a), "2");
    assert_text(view_of(WANTS_COMPACT, NULL, a), "2c");
    assert_text(view_of(WANTS_EVENTS, NULL, a), "2e");
    assert_true(
        str_equal(view_of(WANTS_PATCHES, "/agents", a), view_of(WANTS_PATCHES, "/agents", b)));
    assert_false(
        str_equal(view_of(WANTS_PATCHES, "/agents", a), view_of(WANTS_PATCHES, "/threads", b)));
    assert_false(
        str_equal(view_of(WANTS_PATCHES, "/agents", a), view_of(WANTS_COMPACT, "/agents", b)));
}

static void views_differ_in_what_is_hidden(void **state)
{
    const struct str notes = STR("/agents/*/note"), labels = STR("/labels");
    struct redaction *one = redaction_new(&notes, 1), *other = redaction_new(&labels, 1);
    char a[FRAMING_VIEW_BYTES], b[FRAMING_VIEW_BYTES];
    struct framing_position position;

    (void)state;
    struct str view = framing_view(WANTS_COMPACT, NULL, one, a);
    assert_int_equal(view.n, 11);
    assert_memory_equal(view.p, "2c~", 3);
    assert_true(str_equal(view, framing_view(WANTS_COMPACT, NULL, one, b)));
    assert_false(str_equal(view, framing_view(WANTS_COMPACT, NULL, other, b)));
    struct core_parts *parts = malloc(sizeof(*parts) + sizeof(parts->items[0]));
    parts->n = 1;
    parts->items[0] = text("/agents");
    view = framing_view(WANTS_COMPACT, parts, one, a); /* the longest */
    char id[FRAMING_ID_BYTES];
    int n = snprintf(id, sizeof(id), "e1-7-%.*s", (int)view.n, view.p);
    assert_true(framing_parse_id((struct str){id, (size_t)n}, &position));
    assert_true(str_equal(position.view, view));
    free(parts);
    redaction_free(one);
    redaction_free(other);
}

static void ids_are_read_back(void **state)
{
    static const char *const bad[] = {"",        "x",     "e1-5",     "-5-2",    "e1--2",
                                      "e1-x-2",  "e1-5-", "e-1-5-2",  "e 1-5-2", "e1-05-2",
                                      "e1-5-2 ", "-",     "e1-5-2\n", "--",      NULL};
    struct framing_position position;

    (void)state;
    assert_true(framing_parse_id(STR("e1-42-2c.0123abcd"), &position));
    assert_text(position.epoch, "e1");
    assert_int_equal(position.seq, 42);
    assert_text(position.view, "2c.0123abcd");
    for (unsigned i = 0; bad[i] != NULL; i++)
        assert_false(framing_parse_id(text(bad[i]), &position));
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
    assert_true(etag_read(STR("\"k3x9-43-2c.0a1b2c3d\""), &epoch, &seq));
    assert_text(epoch, "k3x9");
    assert_int_equal(seq, 43);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_name_their_event_id_and_session),
        cmocka_unit_test(websocket_heads_have_the_shortest_length),
        cmocka_unit_test(the_room_foretold_is_enough),
        cmocka_unit_test(views_differ_in_form_and_parts),
        cmocka_unit_test(views_differ_in_what_is_hidden),
        cmocka_unit_test(ids_are_read_back),
        cmocka_unit_test(etags_are_written_and_read),
        cmocka_unit_test(cursors_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
