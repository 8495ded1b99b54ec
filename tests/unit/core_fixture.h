/*
 * A session under test, and a short way to write commands to it:
 *
 *     expect_event(w, "message.send thread=general sender=ada content=hello mentions=bob,cy");
 *
 * Words are separated by spaces; values have none. `null` is null, lists have commas, labels are
 * key:value or key:null. What is said is read with the schema table, as the server does with JSON.
 *
 * Every event is encoded and decoded before it is applied, so that each test also tests the bytes.
 */
#ifndef ATOLL_TESTS_CORE_FIXTURE_H
#define ATOLL_TESTS_CORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "core/core.h"

struct world {
    struct core_limits limits;
    struct core_heap heap;
    size_t heap_bytes; /* in use */
    struct core_session *s;
    int64_t now_ms;
    struct arena scratch;
    struct core_event event; /* the last one decided */
    struct core_refusal why;
};

static inline void *counting_alloc(void *ctx, size_t size)
{
    *(size_t *)ctx += size;
    return mem_alloc(size);
}

/* Sizes must be those of the allocation: a heap without headers depends on it. */
static inline void counting_free(void *ctx, void *p, size_t size)
{
    assert_true(*(size_t *)ctx >= size);
    *(size_t *)ctx -= size;
    free(p);
}

static inline void world_open(struct world *w, const struct core_limits *limits)
{
    memset(w, 0, sizeof(*w));
    w->limits = *limits;
    w->heap = (struct core_heap){counting_alloc, counting_free, &w->heap_bytes};
    w->s = core_session_new(&w->heap, &w->limits, STR("s1"), STR("k3x9"));
    w->now_ms = INT64_C(1767323045678); /* 2026-01-02T03:04:05.678Z */
}

static inline void world_close(struct world *w)
{
    core_session_free(w->s);
    assert_int_equal(w->heap_bytes, 0);
    arena_free(&w->scratch);
}

static inline struct str str_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

/* Cuts the piece before `separator` off the front of *rest; false at the end. */
static inline bool cut(struct str *rest, char separator, struct str *piece)
{
    if (rest->n == 0)
        return false;
    const char *end = memchr(rest->p, separator, rest->n);
    piece->p = rest->p;
    piece->n = end == NULL ? rest->n : (size_t)(end - rest->p);
    size_t used = piece->n + (end != NULL);
    rest->p += used;
    rest->n -= used;
    return true;
}

static inline struct str text_or_null(struct str value)
{
    return str_equal(value, STR("null")) ? (struct str){0} : value;
}

static inline uint64_t number_of(struct str value)
{
    char digits[32];
    snprintf(digits, sizeof(digits), "%.*s", (int)value.n, value.p);
    return strtoull(digits, NULL, 10);
}

static inline void read_list(struct arena *a, struct str value, struct core_ids *ids)
{
    struct str piece;
    ids->items = arena_alloc(a, (value.n + 1) * sizeof(struct str));
    while (cut(&value, ',', &piece))
        ids->items[ids->n++] = piece;
}

static inline void read_labels(struct arena *a, struct str value, struct core_labels *labels)
{
    struct str piece;
    labels->items = arena_alloc(a, (value.n + 1) * sizeof(struct core_label));
    while (cut(&value, ',', &piece)) {
        struct core_label *label = &labels->items[labels->n++];
        cut(&piece, ':', &label->key);
        label->value = text_or_null(piece);
    }
}

static inline void read_value(struct arena *a, const struct core_field_spec *spec, struct str value,
                              struct core_fields *f)
{
    void *at = (char *)f + spec->offset;
    switch (spec->kind) {
    case KIND_LABELS:
        read_labels(a, value, at);
        break;
    case KIND_IDS:
        read_list(a, value, at);
        break;
    case KIND_STATUS:
        f->status = (enum core_agent_status)core_status_parse(value);
        break;
    case KIND_I64:
    case KIND_U64:
        *(uint64_t *)at = number_of(value);
        break;
    case KIND_BOOL:
        *(bool *)at = str_equal(value, STR("true"));
        break;
    default:
        *(struct str *)at = text_or_null(value);
    }
    f->given |= UINT64_C(1) << spec->field;
}

/* Also those that have no name for those outside. */
static inline enum core_type command_named(struct str name)
{
    if (str_equal(name, STR("session.fork")))
        return CORE_SESSION_FORK;
    if (str_equal(name, STR("agent.wake_report")))
        return CORE_AGENT_WAKE_REPORT;
    return core_type_of_command(name);
}

static inline void read_command(struct arena *a, const char *line, struct core_command *command)
{
    struct str rest = str_of(line);
    struct str word;
    struct str name = {0};
    memset(command, 0, sizeof(*command));
    cut(&rest, ' ', &word);
    command->type = command_named(word);
    assert_int_not_equal(command->type, CORE_TYPE_NONE);
    const struct core_type_spec *spec = core_type_spec(command->type);
    while (cut(&rest, ' ', &word)) {
        cut(&word, '=', &name);
        bool found = false;
        for (int i = 0; i < spec->command_fields_n; i++) {
            const struct core_field_spec *field = &spec->command_fields[i];
            if (str_equal(name, str_of(field->name))) {
                read_value(a, field, word, &command->f);
                found = true;
            }
        }
        assert_true(found);
    }
}

/* Decides, and leaves the event or the refusal in w. */
static inline enum core_decision decide_line(struct world *w, const char *line)
{
    struct core_command *command = arena_alloc(&w->scratch, sizeof(*command));
    read_command(&w->scratch, line, command);
    return core_decide(w->s, command, w->now_ms, &w->scratch, &w->event, &w->why);
}

/* Applies w->event as a reader of the log would see it. */
static inline int apply_decoded(struct world *w)
{
    struct buf bytes = {0};
    struct core_event event;
    core_event_encode(&w->event, &bytes);
    struct str in = buf_str(&bytes);
    assert_int_equal(core_event_decode(&in, &w->scratch, &event), 0);
    assert_int_equal(in.n, 0);
    event.seq = w->event.seq;
    int result = core_apply(w->s, &event, &w->why);
    buf_free(&bytes);
    return result;
}

static inline void expect_event(struct world *w, const char *line)
{
    enum core_decision decision = decide_line(w, line);
    if (decision != CORE_EVENT)
        fail_msg("%s: no event, but: %s", line, decision == CORE_NOTHING ? "" : w->why.detail);
    assert_int_equal(w->event.seq, core_session_seq(w->s) + 1);
    if (apply_decoded(w) != 0)
        fail_msg("%s: not applied: %s", line, w->why.detail);
}

static inline void expect_nothing(struct world *w, const char *line)
{
    enum core_decision decision = decide_line(w, line);
    if (decision != CORE_NOTHING)
        fail_msg("%s: expected nothing, not %s", line,
                 decision == CORE_EVENT ? "an event" : w->why.detail);
}

/* field NULL: the refusal names none. */
static inline void expect_refusal(struct world *w, const char *line, enum core_error code,
                                  const char *field)
{
    enum core_decision decision = decide_line(w, line);
    if (decision != CORE_REFUSED)
        fail_msg("%s: not refused", line);
    if (w->why.code != code)
        fail_msg("%s: refused by %s: %s", line, core_error_name(w->why.code), w->why.detail);
    assert_int_equal(w->why.seq, core_session_seq(w->s));
    assert_int_not_equal(strlen(w->why.detail), 0);
    if (field == NULL)
        assert_null(w->why.field);
    else
        assert_string_equal(w->why.field, field);
}

/* ---- JSON, read by another library than our own */

static inline json_t *parse(struct buf *text)
{
    json_error_t error;
    json_t *tree = json_loadb(text->p, text->n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (tree == NULL)
        fail_msg("%s at %d in %.*s", error.text, error.position, (int)text->n, text->p);
    buf_free(text);
    return tree;
}

static inline json_t *view_of(const struct core_session *s)
{
    struct buf text = {0};
    core_view(s, &text);
    return parse(&text);
}

/* Takes one key off a JSON Pointer, unescaped into `key`; false at its end. */
static inline bool pointer_next(const char **pointer, char *key, size_t size)
{
    if (**pointer == '\0')
        return false;
    assert_int_equal(*(*pointer)++, '/');
    size_t n = 0;
    while (**pointer != '\0' && **pointer != '/') {
        char c = *(*pointer)++;
        if (c == '~')
            c = *(*pointer)++ == '0' ? '~' : '/';
        assert_true(n + 1 < size);
        key[n++] = c;
    }
    key[n] = '\0';
    return true;
}

static inline json_t *json_child(json_t *parent, const char *key)
{
    if (json_is_array(parent))
        return json_array_get(parent, strtoul(key, NULL, 10));
    return json_object_get(parent, key);
}

static inline json_t *pointer_get(json_t *tree, const char *pointer)
{
    char key[1024];
    while (tree != NULL && pointer_next(&pointer, key, sizeof(key)))
        tree = json_child(tree, key);
    return tree;
}

/* One operation of RFC 6902, as strict as it says: what is replaced or removed must be there. */
static inline void apply_operation(json_t *tree, json_t *operation)
{
    const char *op = json_string_value(json_object_get(operation, "op"));
    const char *pointer = json_string_value(json_object_get(operation, "path"));
    json_t *value = json_object_get(operation, "value");
    char key[1024];
    json_t *parent = NULL;
    json_t *at = tree;
    while (pointer_next(&pointer, key, sizeof(key))) {
        parent = at;
        assert_non_null(parent);
        at = json_child(parent, key);
    }
    assert_non_null(parent);
    bool adds = strcmp(op, "add") == 0;
    bool removes = strcmp(op, "remove") == 0;
    assert_true(adds || removes || strcmp(op, "replace") == 0);
    assert_true((value == NULL) == removes);
    assert_true(adds || at != NULL);
    if (json_is_array(parent)) {
        if (adds && strcmp(key, "-") == 0)
            assert_int_equal(json_array_append(parent, value), 0);
        else if (adds)
            assert_int_equal(json_array_insert(parent, strtoul(key, NULL, 10), value), 0);
        else if (removes)
            assert_int_equal(json_array_remove(parent, strtoul(key, NULL, 10)), 0);
        else
            assert_int_equal(json_array_set(parent, strtoul(key, NULL, 10), value), 0);
    } else {
        int failed = removes ? json_object_del(parent, key) : json_object_set(parent, key, value);
        assert_int_equal(failed, 0);
    }
}

static inline void apply_operations(json_t *tree, struct buf *text)
{
    json_t *patch = parse(text);
    for (size_t i = 0; i < json_array_size(patch); i++)
        apply_operation(tree, json_array_get(patch, i));
    json_decref(patch);
}

static inline void apply_patch(json_t *tree, const struct core_event *event)
{
    struct buf text = {0};
    core_event_patch(event, &text);
    apply_operations(tree, &text);
}

/* What the view holds at a JSON Pointer; `expected` NULL: nothing. */
static inline void expect_view(struct world *w, const char *pointer, const char *expected)
{
    json_t *view = view_of(w->s);
    json_t *found = pointer_get(view, pointer);
    char *text = found == NULL ? NULL : json_dumps(found, JSON_COMPACT | JSON_ENCODE_ANY);
    if (expected == NULL ? text != NULL : text == NULL || strcmp(text, expected) != 0)
        fail_msg("%s is %s, not %s", pointer, text == NULL ? "missing" : text,
                 expected == NULL ? "missing" : expected);
    free(text);
    json_decref(view);
}

static inline void expect_text(struct buf *b, const char *expected)
{
    buf_add_byte(b, '\0');
    assert_string_equal(b->p, expected);
    buf_free(b);
}

static inline void expect_patch(struct world *w, const char *expected)
{
    struct buf out = {0};
    core_event_patch(&w->event, &out);
    expect_text(&out, expected);
}

static inline bool hash_equal(struct core_hash a, struct core_hash b)
{
    return a.low == b.low && a.high == b.high;
}

/* ---- cmocka setup */

static inline int setup_empty(void **state)
{
    struct world *w = malloc(sizeof(*w));
    world_open(w, &core_limits_default);
    *state = w;
    return 0;
}

/* ada, bob and cy; the thread "general" of ada and bob. */
static inline void populate(struct world *w)
{
    expect_event(w, "session.create");
    expect_event(w, "agent.register agent=ada");
    expect_event(w, "agent.register agent=bob");
    expect_event(w, "agent.register agent=cy");
    expect_event(w, "thread.create creator=ada name=General participants=bob thread=general");
}

static inline int setup_general(void **state)
{
    setup_empty(state);
    populate(*state);
    return 0;
}

/* The same with windows of 3 messages and 100 bytes, and small maxima for everything else. */
static inline int setup_small(void **state)
{
    struct world *w = malloc(sizeof(*w));
    struct core_limits limits = core_limits_default;
    limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 3;
    limits.max[CORE_LIMIT_WINDOW_BYTES] = 100;
    limits.max[CORE_LIMIT_AGENTS] = 4;
    limits.max[CORE_LIMIT_THREADS] = 2;
    limits.max[CORE_LIMIT_PARTICIPANTS] = 3;
    limits.max[CORE_LIMIT_LABELS] = 2;
    limits.max[CORE_LIMIT_TAKEN] = 2;
    world_open(w, &limits);
    *state = w;
    populate(w);
    return 0;
}

static inline int teardown(void **state)
{
    world_close(*state);
    free(*state);
    return 0;
}

#endif
