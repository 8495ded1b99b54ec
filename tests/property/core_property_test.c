/*
 * What must hold for any sequence of commands:
 *
 *     the patches fold to the view, at every seq
 *     the log, read again, leads to the same state, and so does a snapshot, also in what follows
 *     what is refused, undone or breaks an invariant leaves no trace
 *     all memory is given back
 */
#include "tests/property/core_generator.h"

enum { SEQUENCES = 1200, COMMANDS = 100 };

struct record {
    size_t at;
    size_t n;
};

struct run {
    struct world w;
    struct generator g;
    bool has_prelude;
    json_t *folded; /* the view, by patches alone */
    struct buf log;
    struct record records[COMMANDS];
    uint32_t records_n;
};

static void run_start(struct run *run, uint64_t seed)
{
    struct core_limits limits = small_limits();
    memset(run, 0, sizeof(*run));
    world_open(&run->w, &limits);
    generator_start(&run->g, seed, &run->w.scratch);
    run->has_prelude = percent(&run->g, 90);
    run->folded = view_of(run->w.s);
}

static void run_end(struct run *run)
{
    json_decref(run->folded);
    buf_free(&run->log);
    world_close(&run->w);
}

static void expect_folded(struct run *run)
{
    json_t *view = view_of(run->w.s);
    if (!json_equal(view, run->folded))
        fail_msg("view  %s\nfolded %s", json_dumps(view, JSON_SORT_KEYS),
                 json_dumps(run->folded, JSON_SORT_KEYS));
    json_decref(view);
}

static void expect_state(struct run *run, struct core_hash hash)
{
    assert_true(hash_equal(core_state_hash(run->w.s), hash));
    expect_folded(run);
}

static void expect_same_text(struct buf *a, struct buf *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->p, b->p, a->n);
    buf_free(b);
    json_decref(parse(a));
}

/* An event is the same after its bytes were written and read. */
static void expect_same_event(const struct core_event *a, const struct core_event *b)
{
    struct buf text_a = {0};
    struct buf text_b = {0};
    core_event_json(a, &text_a);
    core_event_json(b, &text_b);
    expect_same_text(&text_a, &text_b);
    core_event_patch(a, &text_a);
    core_event_patch(b, &text_b);
    expect_same_text(&text_a, &text_b);
}

static void decode_record(struct run *run, uint32_t i, struct core_event *event)
{
    struct str in = {run->log.p + run->records[i].at, run->records[i].n};
    assert_int_equal(core_event_decode(&in, &run->w.scratch, event), 0);
    assert_int_equal(in.n, 0);
    event->seq = i + 1;
}

static void append(struct run *run)
{
    struct record *record = &run->records[run->records_n++];
    record->at = run->log.n;
    core_event_encode(&run->w.event, &run->log);
    record->n = run->log.n - record->at;
}

static void apply_event(struct run *run)
{
    struct world *w = &run->w;
    struct core_event decoded;
    append(run);
    decode_record(run, run->records_n - 1, &decoded);
    expect_same_event(&w->event, &decoded);
    if (core_apply(w->s, percent(&run->g, 50) ? &decoded : &w->event, &w->why) != 0)
        fail_msg("not applied: %s", w->why.detail);
    apply_patch(run->folded, &decoded);
    expect_folded(run);
}

static void break_event(struct run *run)
{
    struct world *w = &run->w;
    struct core_hash before = core_state_hash(w->s);
    size_t heap_before = w->heap_bytes;
    core_break_invariant_for_test(w->s, w->event.type);
    assert_int_equal(core_apply(w->s, &w->event, &w->why), -1);
    assert_int_equal(w->why.code, CORE_E_INVARIANT);
    assert_int_equal(w->heap_bytes, heap_before);
    expect_state(run, before);
}

static enum core_decision decide_any(struct run *run, int k)
{
    struct world *w = &run->w;
    if (k < PRELUDE && run->has_prelude)
        return decide_line(w, prelude[k]);
    struct core_command *command = arena_alloc(&w->scratch, sizeof(*command));
    a_command(&run->g, w->s, command);
    w->now_ms += (int64_t)below(&run->g, 5000) - 1000;
    return core_decide(w->s, command, w->now_ms, &w->scratch, &w->event, &w->why);
}

/* Several events within core_begin and core_undo; some of them broken. */
static void undo_some(struct run *run)
{
    struct world *w = &run->w;
    struct core_hash before = core_state_hash(w->s);
    size_t heap_before = w->heap_bytes;
    core_begin(w->s);
    for (uint32_t n = below(&run->g, 12); n != 0; n--) {
        if (decide_any(run, COMMANDS) != CORE_EVENT)
            continue;
        if (percent(&run->g, 10))
            core_break_invariant_for_test(w->s, w->event.type);
        if (core_apply(w->s, &w->event, &w->why) != 0)
            assert_int_equal(w->why.code, CORE_E_INVARIANT);
    }
    core_undo(w->s);
    core_break_invariant_for_test(w->s, CORE_TYPE_NONE);
    assert_int_equal(w->heap_bytes, heap_before);
    expect_state(run, before);
}

static void go_on_from_snapshot(struct run *run)
{
    struct world *w = &run->w;
    struct buf bytes = {0};
    if (core_session_seq(w->s) == 0)
        return;
    struct core_hash before = core_state_hash(w->s);
    core_snapshot_encode(w->s, &bytes);
    core_session_free(w->s);
    assert_int_equal(w->heap_bytes, 0);
    w->s = core_session_new(&w->heap, &w->limits, STR("s1"), STR("k3x9"));
    assert_int_equal(core_snapshot_decode(w->s, buf_str(&bytes)), 0);
    buf_free(&bytes);
    expect_state(run, before);
}

static void step(struct run *run, int k)
{
    struct world *w = &run->w;
    struct core_hash before = core_state_hash(w->s);
    if (percent(&run->g, 5))
        undo_some(run);
    if (percent(&run->g, 5))
        go_on_from_snapshot(run);
    if (decide_any(run, k) != CORE_EVENT) {
        assert_true(hash_equal(core_state_hash(w->s), before));
        return;
    }
    if (percent(&run->g, 10))
        break_event(run);
    bool grouped = percent(&run->g, 20);
    if (grouped)
        core_begin(w->s);
    apply_event(run);
    if (grouped)
        core_keep(w->s);
}

static void replay(struct run *run)
{
    struct world *w = &run->w;
    struct core_hash hash = core_state_hash(w->s);
    core_session_free(w->s);
    w->s = core_session_new(&w->heap, &w->limits, STR("s1"), STR("k3x9"));
    for (uint32_t i = 0; i < run->records_n; i++) {
        struct core_event event;
        decode_record(run, i, &event);
        assert_int_equal(core_apply(w->s, &event, &w->why), 0);
    }
    expect_state(run, hash);
}

static void any_sequence_keeps_its_promises(void **state)
{
    (void)state;
    static struct run run;
    uint64_t seed = first_seed();
    uint64_t events = 0;
    for (int i = 0; i < SEQUENCES; i++) {
        run_start(&run, seed + (uint64_t)i);
        for (int k = 0; k < COMMANDS; k++)
            step(&run, k);
        replay(&run);
        events += run.records_n;
        run_end(&run);
    }
    print_message("%d sequences, %llu events\n", SEQUENCES, (unsigned long long)events);
    /* Were nearly all commands refused, little would be tested. */
    assert_true(events > (uint64_t)SEQUENCES * COMMANDS / 3);
}

static void each_type_can_break_and_go_on(void **state)
{
    struct world *w = *state;
    static const char *const lines[] = {
        "session.create",
        "session.update labels=a:1",
        "agent.register agent=ada",
        "agent.register agent=bob",
        "agent.update agent=ada status=working",
        "thread.create creator=ada name=n participants= thread=x",
        "thread.add thread=x agent=bob by=ada",
        "message.send thread=x sender=ada content=c",
        "thread.read thread=x agent=bob upto=8",
        "thread.remove thread=x agent=bob by=ada",
        "thread.close thread=x by=ada",
        "agent.leave agent=bob",
        "session.close",
        "session.fork session=s2 parent=s1 parent_epoch=k3x9 parent_seq=13",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_int_equal(decide_line(w, lines[i]), CORE_EVENT);
        struct core_hash before = core_state_hash(w->s);
        core_break_invariant_for_test(w->s, w->event.type);
        assert_int_equal(apply_decoded(w), -1);
        assert_int_equal(w->why.code, CORE_E_INVARIANT);
        assert_int_equal(w->why.seq, i);
        assert_true(hash_equal(core_state_hash(w->s), before));
        expect_event(w, lines[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(any_sequence_keeps_its_promises, print_seed),
        cmocka_unit_test_setup_teardown(each_type_can_break_and_go_on, setup_empty, teardown),
    };
    return cmocka_run_group_tests_name("core_property", tests, NULL, NULL);
}
