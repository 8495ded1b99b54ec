/*
 * Bytes of events, as a record or an imported file holds them: one behind the other. What is read
 * is written as the same bytes again or fewer (numbers may be written longer than they need), and
 * what can be applied can be undone. An event that belongs to no such state may be refused.
 */
#include "tests/fuzz/session.h"

static void use(struct world *w, const struct core_event *event)
{
    struct core_refusal why;
    struct buf out = {0};
    struct core_hash before = core_state_hash(w->s);

    core_begin(w->s);
    if (core_apply(w->s, event, &why) == 0) {
        core_view(w->s, &out);
        core_event_json(event, &out);
        core_event_patch(event, &out);
        core_event_patch_compact(event, &out);
    } else {
        check_refusal(&why);
    }
    core_undo(w->s);
    assert(hash_equal(core_state_hash(w->s), before));
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size);
    struct core_event event;
    struct core_refusal why;
    struct world w;

    session_open(&w);
    for (int i = 0; i < 20 && core_event_decode(&in, &w.scratch, &event) == 0; i++) {
        struct buf once = {0}, twice = {0};
        event.seq = core_session_seq(w.s) + 1;
        core_event_encode(&event, &once);
        struct str again = buf_str(&once);
        struct core_event same;
        assert(core_event_decode(&again, &w.scratch, &same) == 0 && again.n == 0);
        same.seq = event.seq;
        core_event_encode(&same, &twice);
        assert(buf_equal(&once, &twice));
        use(&w, &event);
        core_apply(w.s, &event, &why);
        buf_free(&once);
        buf_free(&twice);
    }
    world_close(&w);
    return 0;
}
