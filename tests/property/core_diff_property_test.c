/*
 * Whatever way two states came about, as past ones of a session, as forks and their parent, or as
 * forks of one parent: the diff makes the view of the one into the view of the other, and is empty
 * only where they are the same.
 *
 * A tree is grown: each state begins as a copy of an earlier one, at times as a fork of it, and
 * goes on with commands of its own.
 */
#include "tests/property/core_generator.h"

enum { TREES = 400, STATES = 10, COMMANDS = 25 };

struct tree {
    struct world w;
    struct generator g;
    struct core_session *states[STATES];
    json_t *views[STATES];
    uint64_t operations; /* in all diffs */
    uint64_t whole;      /* diffs of two states that differ */
};

static struct core_session *copy_of(struct world *w, const struct core_session *s)
{
    struct buf bytes = {0};
    struct core_session *copy = core_session_new(&w->heap, &w->limits, STR("s1"), STR("k3x9"));
    if (core_session_seq(s) != 0) {
        core_snapshot_encode(s, &bytes);
        assert_int_equal(core_snapshot_decode(copy, buf_str(&bytes)), 0);
    }
    buf_free(&bytes);
    return copy;
}

static void run_command(struct tree *tree, const struct core_command *command)
{
    struct world *w = &tree->w;
    w->now_ms += percent(&tree->g, 20) ? 1000 : 0;
    if (core_decide(w->s, command, w->now_ms, &w->scratch, &w->event, &w->why) == CORE_EVENT)
        assert_int_equal(apply_decoded(w), 0);
}

static void grow(struct tree *tree)
{
    struct world *w = &tree->w;
    struct core_command command;
    /* Siblings have the same time as well as the same seqs: only what they hold differs. */
    w->now_ms = core_session_ts_ms(w->s);
    if (core_session_seq(w->s) == 0 && percent(&tree->g, 90)) {
        for (int i = 0; i < PRELUDE; i++)
            expect_event(w, prelude[i]);
    } else if (percent(&tree->g, 40)) {
        a_fork(&tree->g, w->s, &command);
        run_command(tree, &command);
    }
    for (uint32_t n = below(&tree->g, COMMANDS); n != 0; n--) {
        a_command(&tree->g, w->s, &command);
        run_command(tree, &command);
    }
}

static void expect_way(struct tree *tree, int from, int to)
{
    struct buf text = {0};
    core_diff(tree->states[from], tree->states[to], &text);
    bool same = json_equal(tree->views[from], tree->views[to]);
    bool none = text.n == 2 && memcmp(text.p, "[]", 2) == 0;
    if (same != none)
        fail_msg("the states are %s, the diff is %.*s", same ? "the same" : "not the same",
                 (int)text.n, text.p);
    json_t *patch = parse(&text);
    json_t *view = json_deep_copy(tree->views[from]);
    for (size_t i = 0; i < json_array_size(patch); i++)
        apply_operation(view, json_array_get(patch, i));
    if (!json_equal(view, tree->views[to]))
        fail_msg("by %s\nfolded %s\nnot %s", json_dumps(patch, 0), json_dumps(view, JSON_SORT_KEYS),
                 json_dumps(tree->views[to], JSON_SORT_KEYS));
    tree->operations += json_array_size(patch);
    tree->whole += !same;
    json_decref(view);
    json_decref(patch);
}

static void run_tree(struct tree *tree, uint64_t seed)
{
    struct world *w = &tree->w;
    struct core_limits limits = small_limits();
    world_open(w, &limits);
    generator_start(&tree->g, seed, &w->scratch);
    for (int i = 0; i < STATES; i++) {
        /* Mostly from the last one: so that there are long ways as well. */
        int from = i == 0 ? 0 : percent(&tree->g, 60) ? i - 1 : (int)below(&tree->g, (uint32_t)i);
        if (i != 0) {
            core_session_free(w->s);
            w->s = copy_of(w, tree->states[from]);
            grow(tree);
        }
        tree->states[i] = copy_of(w, w->s);
        tree->views[i] = view_of(w->s);
    }
    for (int from = 0; from < STATES; from++) {
        for (int to = 0; to < STATES; to++)
            expect_way(tree, from, to);
    }
    for (int i = 0; i < STATES; i++) {
        core_session_free(tree->states[i]);
        json_decref(tree->views[i]);
    }
    world_close(w);
}

static void a_diff_leads_from_any_state_to_any_other(void **state)
{
    (void)state;
    static struct tree tree;
    uint64_t seed = first_seed();
    tree.operations = tree.whole = 0;
    for (int i = 0; i < TREES; i++)
        run_tree(&tree, seed + (uint64_t)i);
    print_message("%llu diffs, %llu operations\n", (unsigned long long)tree.whole,
                  (unsigned long long)tree.operations);
    /* Were all states nearly the same, little would be tested. */
    assert_true(tree.whole > (uint64_t)TREES * STATES * (STATES - 1) / 2);
    assert_true(tree.operations > tree.whole * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_diff_leads_from_any_state_to_any_other, print_seed),
    };
    return cmocka_run_group_tests_name("core_diff_property", tests, NULL, NULL);
}
