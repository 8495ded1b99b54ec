/*
 * Bytes of a state: refused, or a state that holds together: it can be shown, is written as bytes
 * that lead to the same, and goes on.
 */
#include "tests/fuzz/session.h"

static const char *const later[] = {
    "agent.register agent=eve",
    "thread.create creator=ada name=n participants=bob thread=w",
    "message.send thread=x sender=ada content=more mentions=bob",
    "message.send thread=x sender=bob content=still-more",
    "thread.read thread=x agent=ada upto=9",
    "agent.leave agent=bob",
    "session.close",
};

static struct core_session *read_state(struct world *w, struct str bytes)
{
    struct core_session *s = core_session_new(&w->heap, &w->limits, STR("s1"), STR("k3x9"));
    if (core_snapshot_decode(s, bytes) == 0)
        return s;
    core_session_free(s);
    return NULL;
}

static void check_same(struct world *w, const struct core_session *s)
{
    struct buf once = {0}, twice = {0};
    core_snapshot_encode(s, &once);
    struct core_session *again = read_state(w, buf_str(&once));
    assert(again != NULL);
    core_snapshot_encode(again, &twice);
    assert(buf_equal(&once, &twice));
    core_session_free(again);
    buf_free(&once);
    buf_free(&twice);
}

static void ask_inboxes(const struct core_session *s)
{
    static const char *const agents[] = {"ada", "bob", "cy", "nobody"};
    for (size_t i = 0; i < sizeof(agents) / sizeof(agents[0]); i++) {
        struct core_inbox_query query = {.agent = str_of(agents[i]), .limit = 3};
        struct core_inbox inbox;
        struct buf out = {0};
        if (!core_session_has_agent(s, query.agent))
            continue;
        core_inbox_begin(&inbox, &query);
        core_inbox_from_state(s, &inbox);
        core_inbox_finish(s, &inbox, &out);
        core_inbox_free(&inbox);
        buf_free(&out);
    }
}

static void use(struct world *w, struct core_session *s)
{
    struct buf out = {0};
    struct core_event event;
    struct core_refusal why;
    uint32_t at = 0;
    struct core_attended attended;

    core_view(s, &out);
    core_diff(w->s, s, &out);
    core_diff(s, w->s, &out);
    ask_inboxes(s);
    while (core_attended_next(s, &at, &attended))
        assert(attended.agent.n != 0);
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        struct core_command *command = arena_alloc(&w->scratch, sizeof(*command));
        read_command(&w->scratch, later[i], command);
        if (core_decide(s, command, w->now_ms, &w->scratch, &event, &why) != CORE_EVENT)
            continue;
        struct core_hash before = core_state_hash(s);
        core_begin(s);
        core_apply(s, &event, &why);
        core_undo(s);
        assert(hash_equal(core_state_hash(s), before));
        core_apply(s, &event, &why);
    }
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w;
    session_open(&w);
    struct core_session *s = read_state(&w, input_of(data, size));
    if (s != NULL) {
        check_same(&w, s);
        use(&w, s);
        core_session_free(s);
    }
    world_close(&w);
    return 0;
}
