/*
 * What a watcher folds is the view, whatever part and form of it is watched, wherever it began, and
 * however patches came: one by one, narrowed, or many merged into one; with windows known (live)
 * or not (from the log). What the view is to be is worked out here from the whole one, by another
 * JSON library.
 */
#include "tests/property/core_generator.h"

#include "server/compose.h"
#include "shards/shard.h"

enum { SEQUENCES = 400, COMMANDS = 160, WATCHERS = 8, FRAMES_MAX = 256, PARTS_MAX = 5 };

struct watching {
    struct core_parts *parts; /* NULL: all */
    bool compact;
    json_t *folded;
    uint64_t at;    /* seq that `folded` is of */
    uint64_t told;  /* seq of the last patch that it got */
    uint32_t first; /* of the frames that it has not got */
};

struct run {
    struct world w;
    struct generator g;
    unsigned live; /* percent of the frames that are not from the log */
    bool frame_live;
    struct frame_builder builder;
    struct frame *frames[FRAMES_MAX];
    uint32_t frames_n;
    struct watching watchers[WATCHERS];
    struct composed composed;
    uint64_t merges, wholes;
};

/* ---- the expected view */

static bool part_is(struct str part, const char *name, const char *key)
{
    char pointer[128];
    size_t n = (size_t)snprintf(pointer, sizeof(pointer), "/%s/", name);
    for (; *key != '\0'; key++) {
        assert_true(n + 2 < sizeof(pointer));
        if (*key == '~' || *key == '/') {
            pointer[n++] = '~';
            pointer[n++] = *key == '~' ? '0' : '1';
        } else {
            pointer[n++] = *key;
        }
    }
    return (part.n == n && memcmp(part.p, pointer, n) == 0) ||
           (part.n == strlen(name) + 1 && memcmp(part.p, pointer, part.n) == 0);
}

static void narrow(json_t *view, const struct core_parts *parts, const char *name)
{
    json_t *object = json_object_get(view, name);
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, key, value)
    {
        bool shown = false;
        for (uint32_t i = 0; i < parts->n; i++)
            shown = shown || part_is(parts->items[i], name, key);
        if (!shown)
            json_object_del(object, key);
    }
}

static void shorten(json_t *view)
{
    const char *key;
    json_t *thread, *message;
    size_t i;
    json_object_foreach (json_object_get(view, "threads"), key, thread) {
        json_array_foreach (json_object_get(thread, "messages"), i, message) {
            assert_int_equal(json_object_del(message, "content"), 0);
            assert_int_equal(json_object_del(message, "data"), 0);
        }
    }
}

static json_t *expected_view(const struct run *run, const struct watching *watcher)
{
    json_t *view = view_of(run->w.s);
    if (watcher->parts != NULL) {
        narrow(view, watcher->parts, "labels");
        narrow(view, watcher->parts, "agents");
        narrow(view, watcher->parts, "threads");
    }
    if (watcher->compact)
        shorten(view);
    return view;
}

static json_t *shown_view(const struct run *run, const struct watching *watcher)
{
    struct buf text = {0};
    core_view_parts(run->w.s, watcher->parts, watcher->compact, &text);
    return parse(&text);
}

static void expect_equal(const json_t *expected, const json_t *found, const char *what)
{
    if (!json_equal(expected, found))
        fail_msg("expected %s\n%s %s", json_dumps(expected, JSON_SORT_KEYS), what,
                 json_dumps(found, JSON_SORT_KEYS));
}

/* ---- watchers */

static struct core_parts *some_parts(struct run *run)
{
    static const char *const pointers[] = {
        "/labels",       "/labels/\"q\"", "/labels/a",     "/labels/a~1b~0c", "/labels/k\\\n",
        "/labels/~0",    "/labels/é",     "/agents",       "/agents/ada",     "/agents/c",
        "/agents/D",     "/threads",      "/threads/x",    "/threads/y",      "/threads/t9",
        "/threads/Z_-9", "/status",       "/threads/none", "/nothing",        "/agents/eve",
    };
    if (percent(&run->g, 40))
        return NULL;
    struct core_parts *parts =
        arena_alloc(&run->w.scratch, sizeof(*parts) + PARTS_MAX * sizeof(struct str));
    parts->n = 1 + below(&run->g, PARTS_MAX);
    for (uint32_t i = 0; i < parts->n; i++) {
        parts->items[i] = str_of(pointers[below(&run->g, sizeof(pointers) / sizeof(*pointers))]);
        assert_true(core_part_valid(parts->items[i]));
    }
    return parts;
}

/* With a snapshot, also in the middle of what will be a frame. */
static void watcher_begin(struct run *run, struct watching *watcher)
{
    if (watcher->folded != NULL)
        json_decref(watcher->folded);
    watcher->parts = some_parts(run);
    watcher->compact = percent(&run->g, 50);
    watcher->folded = shown_view(run, watcher);
    watcher->at = watcher->told = core_session_seq(run->w.s);
    watcher->first = run->frames_n;
    json_t *expected = expected_view(run, watcher);
    expect_equal(expected, watcher->folded, "shown");
    json_decref(expected);
}

/* Applies a patch object; returns its seq. */
static uint64_t take_patch(struct watching *watcher, struct str text, json_int_t from)
{
    json_error_t error;
    json_t *patch = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &error);
    if (patch == NULL)
        fail_msg("%s in %.*s", error.text, (int)text.n, text.p);
    json_t *ops = json_object_get(patch, "ops");
    assert_true(json_is_array(ops));
    assert_true(json_is_string(json_object_get(patch, "ts")));
    if (from != 0)
        assert_int_equal(json_integer_value(json_object_get(patch, "from")), from);
    for (size_t i = 0; i < json_array_size(ops); i++)
        apply_operation(watcher->folded, json_array_get(ops, i));
    uint64_t seq = (uint64_t)json_integer_value(json_object_get(patch, "seq"));
    json_decref(patch);
    return seq;
}

static unsigned form_of(const struct watching *watcher)
{
    return watcher->compact ? WANTS_COMPACT : WANTS_PATCHES;
}

static void take_composed(struct run *run, struct watching *watcher, uint64_t from)
{
    struct composed *composed = &run->composed;
    size_t begin = 0;
    for (uint32_t i = 0; i < composed->n; i++) {
        struct str text = {composed->bytes.p + begin, composed->items[i].end - begin};
        uint64_t seq = take_patch(watcher, text, (json_int_t)from);
        assert_int_equal(seq, composed->items[i].seq);
        from = seq + 1;
        begin = composed->items[i].end;
    }
    assert_int_equal(begin, composed->bytes.n);
    composed_clear(composed);
}

static void take_merged(struct run *run, struct watching *watcher, uint32_t end)
{
    const struct frame *const *frames = (const struct frame *const *)run->frames + watcher->first;
    assert_true(compose_merge(frames, end - watcher->first, watcher->at, form_of(watcher),
                              watcher->parts, NULL, &run->composed));
    assert_true(run->composed.n <= 1);
    run->merges++;
    run->wholes += run->composed.n != 0 && memmem(run->composed.bytes.p, run->composed.bytes.n,
                                                  "/messages\",\"value\":[{", 21) != NULL;
    if (run->composed.n != 0)
        watcher->told = run->composed.items[0].seq;
    take_composed(run, watcher, watcher->at + 1);
}

static void take_narrowed(struct run *run, struct watching *watcher, const struct frame *frame)
{
    uint64_t from = watcher->told + 1;
    assert_true(compose_narrow(frame, watcher->at, form_of(watcher), watcher->parts, NULL,
                               &watcher->told, &run->composed));
    take_composed(run, watcher, from);
}

static void take_plain(struct watching *watcher, const struct frame *frame)
{
    for (uint32_t i = 0; i < frame->items_n; i++) {
        const struct frame_item *item = &frame->items[i];
        struct str patch = {frame->bytes + item->patch_offset, item->patch_size};
        if (watcher->compact)
            patch = (struct str){frame->bytes + item->compact_offset, item->compact_size};
        if (item->seq > watcher->at)
            assert_int_equal(take_patch(watcher, patch, 0), item->seq);
    }
}

/* Gets all frames: some merged, the others one by one. */
static void watcher_catch_up(struct run *run, struct watching *watcher)
{
    while (watcher->first != run->frames_n) {
        uint32_t end = watcher->first + 1 + below(&run->g, run->frames_n - watcher->first);
        const struct frame *frame = run->frames[watcher->first];
        if (percent(&run->g, 60)) {
            take_merged(run, watcher, end);
            watcher->first = end;
        } else {
            if (watcher->parts != NULL)
                take_narrowed(run, watcher, frame);
            else
                take_plain(watcher, frame);
            watcher->first++;
        }
        uint64_t last = run->frames[watcher->first - 1]->last_seq;
        watcher->at = last > watcher->at ? last : watcher->at;
    }
    json_t *expected = expected_view(run, watcher);
    expect_equal(expected, watcher->folded, "folded");
    json_decref(expected);
    expected = shown_view(run, watcher);
    expect_equal(expected, watcher->folded, "folded");
    json_decref(expected);
}

/* ---- the session */

static void end_frame(struct run *run)
{
    struct frame *frame = frame_builder_take(&run->builder);
    if (frame == NULL)
        return;
    assert_true(run->frames_n < FRAMES_MAX);
    run->frames[run->frames_n++] = frame;
    run->frame_live = percent(&run->g, run->live);
    for (int i = 0; i < WATCHERS; i++)
        if (percent(&run->g, 8))
            watcher_catch_up(run, &run->watchers[i]);
}

/* The event as its bytes have it, which nothing of the session's shares. */
static struct core_event decoded(struct world *w)
{
    struct buf bytes = {0};
    struct core_event event;
    core_event_encode(&w->event, &bytes);
    struct str in = arena_copy(&w->scratch, buf_str(&bytes));
    buf_free(&bytes);
    assert_int_equal(core_event_decode(&in, &w->scratch, &event), 0);
    event.seq = w->event.seq;
    return event;
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
        decision = core_decide(w->s, command, w->now_ms, &w->scratch, &w->event, &w->why);
    }
    if (decision != CORE_EVENT)
        return;
    struct core_event event = decoded(w);
    assert_int_equal(core_apply(w->s, &event, &w->why), 0);
    unsigned wants = WANTS_PATCHES | WANTS_COMPACT | (percent(&run->g, 30) ? WANTS_EVENTS : 0u);
    frame_builder_add(&run->builder, wants, &event, run->frame_live ? w->s : NULL);
    for (int i = 0; i < WATCHERS; i++)
        if (percent(&run->g, 3))
            watcher_begin(run, &run->watchers[i]);
    if (percent(&run->g, 40))
        end_frame(run);
}

static void run_sequence(struct run *run, uint64_t seed)
{
    struct core_limits limits = small_limits();
    memset(run, 0, sizeof(*run));
    limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 1 + (uint32_t)(seed % 5);
    limits.max[CORE_LIMIT_THREADS] = 6;
    world_open(&run->w, &limits);
    generator_start(&run->g, seed, &run->w.scratch);
    run->live = below(&run->g, 3) * 50;
    run->frame_live = percent(&run->g, run->live);
    for (int i = 0; i < WATCHERS; i++)
        watcher_begin(run, &run->watchers[i]);
    for (int k = 0; k < COMMANDS; k++)
        step(run, k);
    end_frame(run);
    for (int i = 0; i < WATCHERS; i++) {
        watcher_catch_up(run, &run->watchers[i]);
        json_decref(run->watchers[i].folded);
    }
    for (uint32_t i = 0; i < run->frames_n; i++)
        frame_release(run->frames[i]);
    frame_builder_free(&run->builder);
    composed_free(&run->composed);
    world_close(&run->w);
}

static void every_watcher_folds_what_it_watches(void **state)
{
    static struct run run;
    uint64_t seed = first_seed();
    uint64_t merges = 0, wholes = 0;
    (void)state;
    for (int i = 0; i < SEQUENCES; i++) {
        run_sequence(&run, seed + (uint64_t)i);
        merges += run.merges;
        wholes += run.wholes;
    }
    print_message("%d sequences, %llu merges, windows replaced in %llu\n", SEQUENCES,
                  (unsigned long long)merges, (unsigned long long)wholes);
    assert_true(wholes > SEQUENCES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_watcher_folds_what_it_watches, print_seed),
    };
    return cmocka_run_group_tests_name("watch_property", tests, NULL, NULL);
}
