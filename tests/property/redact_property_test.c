/*
 * What is hidden from a viewer is nowhere in what it gets, and what it folds is the redacted view,
 * whatever pointers there are, whatever part and form it watches, and however patches came.
 *
 * What a redacted view is, is worked out here by another JSON library. Every text that a session is
 * given has a mark of its own: a viewer may be told a mark, or an id, by an event or a patch where
 * its view shows it just before or behind the event, and nowhere else; and is told those of an
 * event that it shows.
 */
#include "tests/property/core_generator.h"

#include "server/compose.h"
#include "server/redact.h"
#include "shards/shard.h"

enum {
    SEQUENCES = 120,
    COMMANDS = 140,
    VIEWERS = 6,
    FRAMES_MAX = 256,
    POINTERS_MAX = 5,
    DEPTH_MAX = 16,
    KEY_BYTES = 64
};

struct viewer {
    char pointers[POINTERS_MAX][96];
    unsigned pointers_n;
    struct redaction *redaction;
    struct core_parts *parts; /* NULL: all */
    bool compact;
    json_t *folded;
    uint64_t at, told;
    uint32_t first; /* of the frames that it has not got */
};

struct run {
    struct world w;
    struct generator g;
    struct frame_builder builder;
    struct frame *frames[FRAMES_MAX];
    uint32_t frames_n;
    struct viewer viewers[VIEWERS];
    struct composed composed;
    struct core_session *past; /* some steps ago */
    unsigned marks;
    uint64_t hidden, shown; /* marks and ids of events */
};

/* ---- what a redacted view is */

struct path {
    char keys[DEPTH_MAX][KEY_BYTES];
    bool in_array[DEPTH_MAX];
    unsigned n;
};

static bool pointer_hides(const char *pointer, const struct path *path)
{
    char key[KEY_BYTES];
    unsigned n = 0;
    for (; pointer_next(&pointer, key, sizeof(key)); n++) {
        if (n == path->n)
            return false;
        if (!path->in_array[n] && strcmp(key, "*") != 0 && strcmp(key, path->keys[n]) != 0)
            return false;
    }
    return n != 0 || path->n != 0; /* "" hides all but the root itself */
}

static bool is_hidden(const struct viewer *viewer, const struct path *path)
{
    for (unsigned i = 0; i < viewer->pointers_n; i++)
        if (pointer_hides(viewer->pointers[i], path))
            return true;
    return false;
}

static void step_into(struct path *path, const char *key, bool in_array)
{
    assert_true(path->n < DEPTH_MAX && strlen(key) < KEY_BYTES);
    snprintf(path->keys[path->n], KEY_BYTES, "%s", key);
    path->in_array[path->n++] = in_array;
}

/* What is left of a value whose place is not hidden. */
static json_t *redacted(const struct viewer *viewer, json_t *value, struct path *path)
{
    json_t *copy, *inner;
    const char *key;
    size_t i;
    if (json_is_object(value)) {
        copy = json_object();
        json_object_foreach (value, key, inner) {
            step_into(path, key, false);
            if (!is_hidden(viewer, path))
                json_object_set_new(copy, key, redacted(viewer, inner, path));
            path->n--;
        }
        return copy;
    }
    if (!json_is_array(value))
        return json_incref(value);
    copy = json_array();
    json_array_foreach (value, i, inner) {
        step_into(path, "-", true);
        json_array_append_new(copy, is_hidden(viewer, path) ? json_null()
                                                            : redacted(viewer, inner, path));
        path->n--;
    }
    return copy;
}

static json_t *redacted_view(const struct viewer *viewer, const struct core_session *s,
                             const struct core_parts *parts, bool compact)
{
    struct buf text = {0};
    struct path path = {.n = 0};
    core_view_parts(s, parts, compact, &text);
    json_t *view = parse(&text);
    json_t *left = redacted(viewer, view, &path);
    json_decref(view);
    return left;
}

static void expect_same(json_t *expected, json_t *found, const struct viewer *viewer,
                        const char *what)
{
    if (!json_equal(expected, found)) {
        for (unsigned i = 0; i < viewer->pointers_n; i++)
            print_message("hidden: %s\n", viewer->pointers[i]);
        fail_msg("expected %s\n%s %s", json_dumps(expected, JSON_SORT_KEYS | JSON_ENCODE_ANY), what,
                 json_dumps(found, JSON_SORT_KEYS | JSON_ENCODE_ANY));
    }
    json_decref(expected);
    json_decref(found);
}

/* ---- pointers */

static const char *a_segment(struct generator *g, unsigned depth, const char *const *path)
{
    static const char *const roots[] = {"threads", "threads", "threads", "agents", "labels",
                                        "*",       "status",  "summary", "parent", "id"};
    static const char *const agents[] = {"ada", "bob", "c", "D-4_e", "*"};
    static const char *const labels[] = {"a", "a~1b~0c", "\"q\"", "k\\\n", "~0", "é", "*"};
    static const char *const threads[] = {"x", "y", "Z_-9", "*"};
    static const char *const of_agents[] = {"note",   "description", "labels", "wake",
                                            "status", "priority",    "*"};
    static const char *const of_threads[] = {"messages",     "messages", "messages",
                                             "participants", "name",     "creator",
                                             "summary",      "older",    "*"};
    static const char *const of_messages[] = {"content", "sender",   "mentions", "data",
                                              "id",      "reply_to", "*"};
    static const char *const others[] = {"deep", "0", "*", "url", "why", "read", "taken", "list"};
#define ONE_OF(list) list[below(g, sizeof(list) / sizeof((list)[0]))]
    if (depth == 0)
        return ONE_OF(roots);
    if (strcmp(path[0], "agents") == 0)
        return depth == 1 ? ONE_OF(agents) : depth == 2 ? ONE_OF(of_agents) : ONE_OF(others);
    if (strcmp(path[0], "labels") == 0)
        return ONE_OF(labels);
    if (depth == 1)
        return ONE_OF(threads);
    if (depth == 2)
        return ONE_OF(of_threads);
    if (depth == 3)
        return strcmp(path[2], "participants") == 0 ? ONE_OF(agents) : ONE_OF(others);
    return depth == 4 && strcmp(path[2], "participants") != 0 ? ONE_OF(of_messages)
                                                              : ONE_OF(others);
#undef ONE_OF
}

static void a_pointer(struct generator *g, char *out, size_t size)
{
    const char *path[8];
    unsigned depth = percent(g, 2) ? 0 : 1 + below(g, 7);
    size_t n = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < depth; i++) {
        path[i] = a_segment(g, i, path);
        n += (size_t)snprintf(out + n, size - n, "/%s", path[i]);
        assert_true(n < size);
    }
}

/* Where agents are named: with nearly all of these hidden, few may be told of. */
static void hide_names(struct generator *g, struct viewer *viewer)
{
    static const char *const places[] = {"/agents", "/threads/*/participants", "/threads/*/creator",
                                         "/threads/*/messages/*/sender",
                                         "/threads/*/messages/0/mentions"};
    viewer->pointers_n = 0;
    for (unsigned i = 0; i < POINTERS_MAX; i++)
        if (percent(g, 85) || viewer->pointers_n == 0)
            snprintf(viewer->pointers[viewer->pointers_n++], sizeof(viewer->pointers[0]), "%s",
                     places[i]);
}

static void hide_some(struct run *run, struct viewer *viewer)
{
    struct str pointers[POINTERS_MAX];
    viewer->pointers_n = 1 + below(&run->g, POINTERS_MAX);
    for (unsigned i = 0; i < viewer->pointers_n; i++)
        a_pointer(&run->g, viewer->pointers[i], sizeof(viewer->pointers[i]));
    if (percent(&run->g, 25))
        hide_names(&run->g, viewer);
    for (unsigned i = 0; i < viewer->pointers_n; i++)
        pointers[i] = str_of(viewer->pointers[i]);
    redaction_free(viewer->redaction);
    viewer->redaction = redaction_new(pointers, viewer->pointers_n);
    assert_non_null(viewer->redaction);
}

/* ---- viewers */

static struct core_parts *some_parts(struct run *run)
{
    static const char *const pointers[] = {"/labels",     "/labels/a",  "/agents",
                                           "/agents/ada", "/agents/c",  "/threads",
                                           "/threads/x",  "/threads/y", "/threads/t9"};
    if (percent(&run->g, 60))
        return NULL;
    struct core_parts *parts =
        arena_alloc(&run->w.scratch, sizeof(*parts) + 2 * sizeof(struct str));
    parts->n = 1 + below(&run->g, 2);
    for (uint32_t i = 0; i < parts->n; i++)
        parts->items[i] = str_of(pointers[below(&run->g, 9)]);
    return parts;
}

/* What a snapshot has. */
static json_t *shown_view(const struct run *run, const struct viewer *viewer)
{
    struct buf text = {0}, out = {0};
    buf_add_literal(&text, "{\"seq\":1,\"state\":");
    core_view_parts(run->w.s, viewer->parts, viewer->compact, &text);
    buf_add_literal(&text, "}");
    redact_envelope(viewer->redaction, buf_str(&text), &out);
    buf_free(&text);
    json_t *envelope = parse(&out);
    assert_int_equal(json_integer_value(json_object_get(envelope, "seq")), 1);
    json_t *state = json_incref(json_object_get(envelope, "state"));
    json_decref(envelope);
    return state;
}

static json_t *expected_view(const struct run *run, const struct viewer *viewer)
{
    return redacted_view(viewer, run->w.s, viewer->parts, viewer->compact);
}

static void viewer_begin(struct run *run, struct viewer *viewer)
{
    json_decref(viewer->folded);
    hide_some(run, viewer);
    viewer->parts = some_parts(run);
    viewer->compact = percent(&run->g, 30);
    viewer->folded = shown_view(run, viewer);
    viewer->at = viewer->told = core_session_seq(run->w.s);
    viewer->first = run->frames_n;
    expect_same(expected_view(run, viewer), json_incref(viewer->folded), viewer, "shown");
}

static void take_composed(struct run *run, struct viewer *viewer)
{
    struct composed *composed = &run->composed;
    size_t begin = 0;
    for (uint32_t i = 0; i < composed->n; i++) {
        struct buf text = {0};
        buf_add(&text, composed->bytes.p + begin, composed->items[i].end - begin);
        begin = composed->items[i].end;
        json_t *patch = parse(&text), *op;
        size_t k;
        json_array_foreach (json_object_get(patch, "ops"), k, op)
            apply_operation(viewer->folded, op);
        json_decref(patch);
    }
    composed_clear(composed);
}

static void viewer_catch_up(struct run *run, struct viewer *viewer)
{
    unsigned form = viewer->compact ? WANTS_COMPACT : WANTS_PATCHES;
    while (viewer->first != run->frames_n) {
        uint32_t n = 1 + below(&run->g, run->frames_n - viewer->first);
        const struct frame *const *frames =
            (const struct frame *const *)run->frames + viewer->first;
        if (percent(&run->g, 50)) {
            assert_true(compose_merge(frames, n, viewer->at, form, viewer->parts, viewer->redaction,
                                      &run->composed));
        } else {
            n = 1;
            assert_true(compose_narrow(frames[0], viewer->at, form, viewer->parts,
                                       viewer->redaction, &viewer->told, &run->composed));
            if (viewer->parts == NULL && frames[0]->last_seq > viewer->at)
                assert_int_equal(run->composed.n,
                                 frames[0]->last_seq - (frames[0]->first_seq > viewer->at + 1
                                                            ? frames[0]->first_seq - 1
                                                            : viewer->at));
        }
        take_composed(run, viewer);
        viewer->first += n;
        uint64_t last = frames[n - 1]->last_seq;
        viewer->at = last > viewer->at ? last : viewer->at;
    }
    expect_same(expected_view(run, viewer), json_incref(viewer->folded), viewer, "folded");
}

/* ---- marks */

static struct str marked(struct run *run, struct str text)
{
    struct buf out = {0};
    char mark[16];
    if (text.p == NULL)
        return text;
    int n = snprintf(mark, sizeof(mark), "<%u>", ++run->marks);
    buf_add_str(&out, text);
    buf_add(&out, mark, (size_t)n);
    struct str copy = arena_copy(&run->w.scratch, buf_str(&out));
    buf_free(&out);
    return copy;
}

static struct str marked_data(struct run *run, struct str data)
{
    static const char *const forms[] = {"\"<%u>\"", "{\"deep\":{\"0\":\"<%u>\",\"x\":1}}",
                                        "{\"list\":[1,{\"deep\":\"<%u>\"}]}", "[[\"<%u>\"],[]]"};
    char text[64];
    if (data.p == NULL)
        return data;
    int n = snprintf(text, sizeof(text), forms[below(&run->g, 4)], ++run->marks);
    return arena_copy(&run->w.scratch, (struct str){text, (size_t)n});
}

static void mark_command(struct run *run, struct core_command *command)
{
    const struct core_type_spec *spec = core_type_spec(command->type);
    for (int i = 0; i < spec->command_fields_n; i++) {
        const struct core_field_spec *field = &spec->command_fields[i];
        struct str *text = (struct str *)(void *)((char *)&command->f + field->offset);
        bool given = (command->f.given >> field->field & 1) != 0;
        bool plain = field->kind == KIND_TEXT && field->field != CORE_FIELD_CURSOR &&
                     field->field != CORE_FIELD_BREAKER && field->field != CORE_FIELD_URL &&
                     field->field != CORE_FIELD_PARENT_EPOCH;
        if (field->field == CORE_FIELD_TRACE || field->field == CORE_FIELD_CAUSE)
            command->f.given &= ~(UINT64_C(1) << field->field); /* they are in no view */
        else if (given && plain)
            *text = marked(run, *text);
        else if (given && field->kind == KIND_JSON)
            *text = marked_data(run, *text);
        else if (given && field->kind == KIND_LABELS)
            for (uint32_t k = 0; k < command->f.labels.n; k++)
                command->f.labels.items[k].value = marked(run, command->f.labels.items[k].value);
    }
}

static bool has(struct str text, const char *what)
{
    return memmem(text.p, text.n, what, strlen(what)) != NULL;
}

static bool has_id(struct str text, const char *id)
{
    char quoted[32], behind[32], between[32];
    snprintf(quoted, sizeof(quoted), "\"%s\"", id);
    snprintf(behind, sizeof(behind), "/%s\"", id);
    snprintf(between, sizeof(between), "/%s/", id);
    return has(text, quoted) || has(text, behind) || has(text, between);
}

/* The next mark in a text, at or behind *at. */
static bool next_mark(struct str text, size_t *at, char mark[16])
{
    for (; *at < text.n; ++*at) {
        size_t n = 1;
        if (text.p[*at] != '<')
            continue;
        while (*at + n < text.n && text.p[*at + n] >= '0' && text.p[*at + n] <= '9')
            n++;
        if (n == 1 || n > 10 || *at + n == text.n || text.p[*at + n] != '>')
            continue;
        memcpy(mark, text.p + *at, n + 1);
        mark[n + 1] = '\0';
        *at += n;
        return true;
    }
    return false;
}

/* `told` is what of `all` a viewer gets whose views are `before` and `after`. */
static void expect_no_more(struct run *run, const struct viewer *viewer, struct str all,
                           struct str told, struct str views)
{
    static const char *const ids[] = {"ada", "bob", "c", "D-4_e", "eve", "x", "y", "Z_-9"};
    char mark[16];
    for (size_t at = 0; next_mark(all, &at, mark);) {
        bool seen = has(views, mark);
        if (has(told, mark) != seen) {
            for (unsigned i = 0; i < viewer->pointers_n; i++)
                print_message("hidden: %s\n", viewer->pointers[i]);
            fail_msg("%s is %s in %.*s\nof %.*s\nviews %.*s", mark, seen ? "missing" : "told",
                     (int)told.n, told.p, (int)all.n, all.p, (int)views.n, views.p);
        }
        run->hidden += !seen;
        run->shown += seen;
    }
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        if (has_id(told, ids[i]) && !has_id(views, ids[i])) {
            for (unsigned k = 0; k < viewer->pointers_n; k++)
                print_message("hidden: %s\n", viewer->pointers[k]);
            fail_msg("the id %s is told in %.*s\nviews %.*s", ids[i], (int)told.n, told.p,
                     (int)views.n, views.p);
        }
        run->hidden += has_id(all, ids[i]) && !has_id(views, ids[i]);
    }
}

static void add_view_text(struct buf *out, const struct viewer *viewer, const struct run *run)
{
    json_t *view = redacted_view(viewer, run->w.s, NULL, false);
    char *text = json_dumps(view, JSON_COMPACT);
    buf_add(out, text, strlen(text));
    free(text);
    json_decref(view);
}

/* The patch of the last event, as a watcher gets it. */
static struct str patch_told(struct run *run, const struct redaction *redaction)
{
    struct frame_builder builder = {0};
    uint64_t told = 0;
    frame_builder_add(&builder, WANTS_PATCHES, &run->w.event, NULL);
    struct frame *frame = frame_builder_take(&builder);
    composed_clear(&run->composed);
    assert_true(compose_narrow(frame, 0, WANTS_PATCHES, NULL, redaction, &told, &run->composed));
    assert_int_equal(run->composed.n, 1);
    frame_release(frame);
    frame_builder_free(&builder);
    struct str text = arena_copy(&run->w.scratch, buf_str(&run->composed.bytes));
    composed_clear(&run->composed);
    return text;
}

static json_t *member_of(struct str text, const char *name)
{
    struct buf copy = {0};
    buf_add_str(&copy, text);
    json_t *tree = parse(&copy);
    json_t *member = json_incref(json_object_get(tree, name));
    assert_non_null(member);
    json_decref(tree);
    return member;
}

/* The event, its patch and the answer to its command. `views`: before and after. */
static void expect_event_told(struct run *run, const struct viewer *viewer, struct str views)
{
    struct buf event = {0}, told = {0};
    struct request answer = {.kind = REQUEST_COMMANDS};
    core_event_json(&run->w.event, &event);
    redact_event(viewer->redaction, buf_str(&event), &told);
    expect_no_more(run, viewer, buf_str(&event), buf_str(&told), views);
    expect_same(json_integer((json_int_t)run->w.event.seq), member_of(buf_str(&told), "seq"),
                viewer, "the seq");

    buf_add_literal(&answer.body, "{\"seq\":1,\"events\":[");
    buf_add_str(&answer.body, buf_str(&event));
    buf_add_literal(&answer.body, "]}");
    redact_reply(viewer->redaction, &answer);
    assert_int_equal(answer.body.n, told.n + strlen("{\"seq\":1,\"events\":[]}"));
    assert_memory_equal(answer.body.p + strlen("{\"seq\":1,\"events\":["), told.p, told.n);

    struct str patch = patch_told(run, viewer->redaction);
    expect_no_more(run, viewer, patch_told(run, NULL), patch, views);
    expect_same(member_of(buf_str(&told), "actor"), member_of(patch, "actor"), viewer, "the actor");
    buf_free(&answer.body);
    buf_free(&told);
    buf_free(&event);
}

/* ---- answers */

static json_t *body_of(struct request *request)
{
    struct buf body = request->body;
    request->body = (struct buf){0};
    arena_free(&request->arena);
    return parse(&body);
}

/* The operations between two redacted states lead from one redacted view to the other. */
static void expect_diff(struct run *run, const struct viewer *viewer)
{
    struct request request = {.kind = REQUEST_DIFF};
    json_t *op;
    size_t i;
    if (run->past == NULL)
        return;
    json_t *view = redacted_view(viewer, run->past, NULL, false);
    buf_add_literal(&request.body, "{\"epoch\":\"e\",\"from\":1,\"to\":2,\"ops\":");
    core_diff(run->past, run->w.s, &request.body);
    buf_add_byte(&request.body, '}');
    redact_reply(viewer->redaction, &request);
    json_t *diff = body_of(&request);
    json_array_foreach (json_object_get(diff, "ops"), i, op)
        apply_operation(view, op);
    json_decref(diff);
    expect_same(redacted_view(viewer, run->w.s, NULL, false), view, viewer, "led to");
}

static void path_to(struct path *path, const char *thread, bool message)
{
    *path = (struct path){.n = 0};
    step_into(path, "threads", false);
    step_into(path, thread, false);
    if (message) {
        step_into(path, "messages", false);
        step_into(path, "-", true);
    }
}

static void expect_thread(struct run *run, const struct viewer *viewer, const char *id)
{
    struct request request = {.kind = REQUEST_THREAD, .thread = str_of(id)};
    struct path path;
    buf_add_literal(&request.body, "{\"seq\":7,\"thread\":");
    if (!core_view_thread(run->w.s, request.thread, &request.body)) {
        buf_free(&request.body);
        return;
    }
    buf_add_byte(&request.body, '}');
    redact_reply(viewer->redaction, &request);
    path_to(&path, id, false);
    if (is_hidden(viewer, &path)) {
        assert_int_equal(request.error, CORE_E_UNKNOWN_THREAD);
        assert_int_equal(request.body.n, 0);
        buf_free(&request.body);
        return;
    }
    json_t *reply = body_of(&request), *view = redacted_view(viewer, run->w.s, NULL, false);
    json_t *thread = json_incref(json_object_get(reply, "thread"));
    assert_string_equal(json_string_value(json_object_get(thread, "id")), id);
    json_object_del(thread, "id");
    expect_same(json_incref(json_object_get(json_object_get(view, "threads"), id)), thread, viewer,
                "the thread");
    json_decref(view);
    json_decref(reply);
}

/* Each is as in the view of all, redacted. */
static void expect_messages(const struct viewer *viewer, json_t *all, json_t *told, bool named,
                            const char *thread)
{
    json_t *message;
    struct path path;
    size_t i;
    assert_int_equal(json_array_size(all), json_array_size(told));
    json_array_foreach (all, i, message) {
        path_to(&path, named ? json_string_value(json_object_get(message, "thread")) : thread,
                true);
        json_t *expected =
            is_hidden(viewer, &path) ? json_null() : redacted(viewer, message, &path);
        expect_same(expected, json_incref(json_array_get(told, i)), viewer, "the message");
    }
}

static void expect_inbox(struct run *run, const struct viewer *viewer)
{
    struct request request = {.kind = REQUEST_INBOX};
    struct core_inbox inbox;
    struct core_inbox_query query = {.agent = an_agent(&run->g), .limit = 10};
    if (!core_session_has_agent(run->w.s, query.agent))
        return;
    core_inbox_begin(&inbox, &query);
    core_inbox_from_state(run->w.s, &inbox);
    core_inbox_finish(run->w.s, &inbox, &request.body);
    core_inbox_free(&inbox);
    struct buf all_text = {0};
    buf_add_str(&all_text, buf_str(&request.body));
    redact_reply(viewer->redaction, &request);
    json_t *all = parse(&all_text), *told = body_of(&request);
    expect_messages(viewer, json_object_get(all, "messages"), json_object_get(told, "messages"),
                    true, NULL);
    assert_true(json_equal(json_object_get(all, "cursor"), json_object_get(told, "cursor")));
    json_decref(all);
    json_decref(told);
}

static void expect_answers(struct run *run, const struct viewer *viewer)
{
    expect_diff(run, viewer);
    expect_thread(run, viewer, "x");
    expect_thread(run, viewer, "y");
    expect_inbox(run, viewer);
}

/* ---- the session */

static void keep_past(struct run *run)
{
    struct buf bytes = {0};
    if (run->past != NULL)
        core_session_free(run->past);
    run->past = core_session_new(&run->w.heap, &run->w.limits, core_session_id(run->w.s),
                                 core_session_epoch(run->w.s));
    core_snapshot_encode(run->w.s, &bytes);
    assert_int_equal(core_snapshot_decode(run->past, buf_str(&bytes)), 0);
    buf_free(&bytes);
}

static void end_frame(struct run *run)
{
    struct frame *frame = frame_builder_take(&run->builder);
    if (frame == NULL)
        return;
    assert_true(run->frames_n < FRAMES_MAX);
    run->frames[run->frames_n++] = frame;
    for (int i = 0; i < VIEWERS; i++)
        if (percent(&run->g, 8))
            viewer_catch_up(run, &run->viewers[i]);
}

static void apply_event(struct run *run)
{
    struct world *w = &run->w;
    const struct viewer *viewer = &run->viewers[below(&run->g, VIEWERS)];
    struct buf views = {0}, bytes = {0};
    struct core_event event;
    add_view_text(&views, viewer, run);
    core_event_encode(&w->event, &bytes);
    struct str in = arena_copy(&w->scratch, buf_str(&bytes));
    assert_int_equal(core_event_decode(&in, &w->scratch, &event), 0);
    event.seq = w->event.seq;
    w->event = event;
    assert_int_equal(core_apply(w->s, &w->event, &w->why), 0);
    add_view_text(&views, viewer, run);
    expect_event_told(run, viewer, buf_str(&views));
    buf_free(&views);
    buf_free(&bytes);
    frame_builder_add(&run->builder, WANTS_PATCHES | WANTS_COMPACT, &w->event,
                      percent(&run->g, 50) ? w->s : NULL);
}

static void step(struct run *run, int k)
{
    struct world *w = &run->w;
    struct core_command *command = arena_alloc(&w->scratch, sizeof(*command));
    enum core_decision decision;
    w->now_ms += (int64_t)below(&run->g, 5000);
    if (k < PRELUDE) {
        decision = decide_line(w, prelude[k]);
    } else {
        a_command(&run->g, w->s, command);
        mark_command(run, command);
        decision = core_decide(w->s, command, w->now_ms, &w->scratch, &w->event, &w->why);
    }
    if (decision != CORE_EVENT)
        return;
    apply_event(run);
    for (int i = 0; i < VIEWERS; i++)
        if (percent(&run->g, 3))
            viewer_begin(run, &run->viewers[i]);
    if (percent(&run->g, 20))
        expect_answers(run, &run->viewers[below(&run->g, VIEWERS)]);
    if (percent(&run->g, 10))
        keep_past(run);
    if (percent(&run->g, 40))
        end_frame(run);
}

static void run_sequence(struct run *run, uint64_t seed)
{
    struct core_limits limits = small_limits();
    memset(run, 0, sizeof(*run));
    limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 1 + (uint32_t)(seed % 5);
    limits.max[CORE_LIMIT_WINDOW_BYTES] = 10000;
    limits.max[CORE_LIMIT_THREADS] = 6;
    world_open(&run->w, &limits);
    generator_start(&run->g, seed, &run->w.scratch);
    for (int i = 0; i < VIEWERS; i++)
        viewer_begin(run, &run->viewers[i]);
    for (int k = 0; k < COMMANDS; k++)
        step(run, k);
    end_frame(run);
    for (int i = 0; i < VIEWERS; i++) {
        viewer_catch_up(run, &run->viewers[i]);
        json_decref(run->viewers[i].folded);
        redaction_free(run->viewers[i].redaction);
    }
    for (uint32_t i = 0; i < run->frames_n; i++)
        frame_release(run->frames[i]);
    if (run->past != NULL)
        core_session_free(run->past);
    frame_builder_free(&run->builder);
    composed_free(&run->composed);
    world_close(&run->w);
}

static void nothing_hidden_is_told_and_the_fold_is_the_redacted_view(void **state)
{
    static struct run run;
    uint64_t seed = first_seed();
    uint64_t hidden = 0, shown = 0;
    (void)state;
    for (int i = 0; i < SEQUENCES; i++) {
        run_sequence(&run, seed + (uint64_t)i);
        hidden += run.hidden;
        shown += run.shown;
    }
    print_message("%d sequences: %llu hidden, %llu shown\n", SEQUENCES, (unsigned long long)hidden,
                  (unsigned long long)shown);
    assert_true(hidden > SEQUENCES * 10 && shown > SEQUENCES * 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nothing_hidden_is_told_and_the_fold_is_the_redacted_view,
                                  print_seed),
    };
    return cmocka_run_group_tests_name("redact_property", tests, NULL, NULL);
}
