/*
 * A session with something in it, for targets that try on it what they have read. Each input gets
 * one of its own, from the bytes of the first.
 */
#ifndef ATOLL_TESTS_FUZZ_SESSION_H
#define ATOLL_TESTS_FUZZ_SESSION_H

#include "tests/fuzz/fuzz.h"
#include "tests/unit/core_fixture.h"

static const char *const beginning[] = {
    "session.create labels=team:red",
    "agent.register agent=ada labels=a:1,b:2",
    "agent.register agent=bob",
    "agent.register agent=cy lease_s=30",
    "thread.create creator=ada name=General participants=bob thread=x",
    "thread.create creator=bob name=Other participants=ada,cy thread=y",
    "message.send thread=x sender=ada content=hello mentions=bob",
    "message.send thread=x sender=bob content=world",
    "message.send thread=y sender=cy content=third mentions=ada,bob",
    "message.send thread=x sender=ada content=fourth",
    "thread.read thread=x agent=bob upto=7",
    "thread.close thread=y by=cy summary=done",
    "thread.create creator=ada name=Third participants=bob,cy thread=z",
    "message.send thread=z sender=ada content=fifth mentions=cy",
};

static struct core_limits fuzz_limits;

/* Small, so that bounds are met. */
static inline void fuzz_limits_make(void)
{
    fuzz_limits = core_limits_default;
    fuzz_limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 3;
    fuzz_limits.max[CORE_LIMIT_WINDOW_BYTES] = 200;
    fuzz_limits.max[CORE_LIMIT_AGENTS] = 5;
    fuzz_limits.max[CORE_LIMIT_THREADS] = 5;
    fuzz_limits.max[CORE_LIMIT_PARTICIPANTS] = 4;
    fuzz_limits.max[CORE_LIMIT_LABELS] = 3;
    fuzz_limits.max[CORE_LIMIT_TAKEN] = 3;
    fuzz_limits.max[CORE_LIMIT_MENTIONS] = 3;
    fuzz_limits.hash_seed = 7;
}

/* As world_open, but with a state. */
static inline void session_open(struct world *w)
{
    static struct buf snapshot;
    if (snapshot.n == 0) {
        struct world first;
        fuzz_limits_make();
        world_open(&first, &fuzz_limits);
        for (size_t i = 0; i < sizeof(beginning) / sizeof(beginning[0]); i++)
            expect_event(&first, beginning[i]);
        core_snapshot_encode(first.s, &snapshot);
        world_close(&first);
    }
    world_open(w, &fuzz_limits);
    w->scratch = exact_arena();
    assert(core_snapshot_decode(w->s, buf_str(&snapshot)) == 0);
}

/* JSON that was written by us is JSON to others: with numbers that only a double holds. */
static inline json_t *parse_ours(struct buf *text)
{
    json_error_t error;
    json_t *tree =
        json_loadb(text->p, text->n,
                   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    assert(tree != NULL);
    buf_free(text);
    return tree;
}

static inline json_t *view_now(const struct core_session *s)
{
    struct buf text = {0};
    core_view(s, &text);
    return parse_ours(&text);
}

/* The same event, from its bytes; both are good as long as `bytes`. */
static inline void encode_again(struct world *w, const struct core_event *event, struct buf *bytes,
                                struct core_event *decoded)
{
    struct buf again = {0};
    core_event_encode(event, bytes);
    struct str in = buf_str(bytes);
    assert(core_event_decode(&in, &w->scratch, decoded) == 0 && in.n == 0);
    decoded->seq = event->seq;
    core_event_encode(decoded, &again);
    assert(buf_equal(bytes, &again));
    buf_free(&again);
}

/* Applies and undoes it, then applies it for good: the patch leads from view to view. */
static inline void apply_for_good(struct world *w, const struct core_event *event)
{
    struct core_refusal why;
    struct core_hash before = core_state_hash(w->s);
    json_t *folded = view_now(w->s);
    struct buf text = {0};

    core_begin(w->s);
    assert(core_apply(w->s, event, &why) == 0);
    core_undo(w->s);
    assert(hash_equal(core_state_hash(w->s), before));

    core_event_patch(event, &text);
    json_t *patch = parse_ours(&text);
    for (size_t i = 0; i < json_array_size(patch); i++)
        apply_operation(folded, json_array_get(patch, i));
    core_begin(w->s);
    assert(core_apply(w->s, event, &why) == 0);
    core_keep(w->s);
    json_t *view = view_now(w->s);
    assert(json_equal(folded, view));
    core_event_json(event, &text);
    json_decref(parse_ours(&text));
    json_decref(view);
    json_decref(folded);
    json_decref(patch);
}

/* A command that was decoded well: refused in words, nothing to do, or an event that holds. */
static inline void try_command(struct world *w, const struct core_command *command)
{
    struct core_event event, decoded;
    struct core_refusal why;
    struct buf bytes = {0};

    enum core_decision decision = core_decide(w->s, command, w->now_ms, &w->scratch, &event, &why);
    if (decision == CORE_REFUSED)
        check_refusal(&why);
    if (decision == CORE_EVENT) {
        encode_again(w, &event, &bytes, &decoded);
        apply_for_good(w, &decoded);
    }
    buf_free(&bytes);
}

#endif
