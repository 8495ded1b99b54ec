/*
 * Bytes that were cut or changed are refused, or read as something else that holds together: they
 * never crash, and what was read from them goes on working. Checksums are the log's business;
 * here there are none to help.
 */
#include "tests/property/core_generator.h"

enum { SEQUENCES = 300, COMMANDS = 60, CHANGES = 150 };

struct run {
    struct world w;
    struct generator g;
};

/* Tries some commands and looks at everything, without expecting anything of it. */
static void use(struct run *run, struct core_session *s)
{
    struct world *w = &run->w;
    struct buf out = {0};
    struct core_event event;
    struct core_refusal why;
    for (int i = 0; i < 10; i++) {
        struct core_command *command = arena_alloc(&w->scratch, sizeof(*command));
        a_command(&run->g, s, command);
        if (core_decide(s, command, w->now_ms, &w->scratch, &event, &why) == CORE_EVENT)
            core_apply(s, &event, &why);
    }
    core_view(s, &out);
    core_diff(w->s, s, &out);
    core_diff(s, w->s, &out);
    core_state_hash(s);
    buf_free(&out);
}

static struct core_session *try_snapshot(struct run *run, struct str bytes)
{
    struct world *w = &run->w;
    struct core_session *s = core_session_new(&w->heap, &w->limits, STR("s1"), STR("k3x9"));
    if (core_snapshot_decode(s, bytes) == 0)
        return s;
    core_session_free(s);
    return NULL;
}

/* A copy with nothing behind it, so that the sanitizer sees every byte read too many. */
static char *exact_copy(struct str bytes)
{
    char *copy = malloc(bytes.n == 0 ? 1 : bytes.n);
    memcpy(copy, bytes.p, bytes.n);
    return copy;
}

static void change(struct generator *g, char *bytes, size_t n)
{
    static const char telling[] = {0, 1, 2, 0x7f, (char)0x80, (char)0xff};
    for (uint32_t i = 1 + below(g, 3); i != 0; i--) {
        size_t at = below(g, (uint32_t)n);
        bytes[at] = percent(g, 50) ? (char)next(g) : telling[below(g, sizeof(telling))];
    }
}

static void damage_snapshot(struct run *run)
{
    struct buf whole = {0};
    core_snapshot_encode(run->w.s, &whole);
    for (int i = 0; i < CHANGES; i++) {
        struct str part = buf_str(&whole);
        if (percent(&run->g, 30))
            part.n = below(&run->g, (uint32_t)part.n);
        char *copy = exact_copy(part);
        if (part.n == whole.n)
            change(&run->g, copy, part.n);
        struct core_session *s = try_snapshot(run, (struct str){copy, part.n});
        assert_true(s == NULL || part.n == whole.n);
        free(copy);
        if (s != NULL) {
            use(run, s);
            core_session_free(s);
        }
    }
    buf_free(&whole);
}

/* Applies what is left of the event to a copy of the session. */
static void damage_event(struct run *run, const struct core_event *event,
                         struct core_session *session)
{
    struct buf whole = {0};
    struct core_event decoded;
    struct core_refusal why;
    core_event_encode(event, &whole);
    for (int i = 0; i < 20; i++) {
        struct str in = buf_str(&whole);
        if (percent(&run->g, 30))
            in.n = below(&run->g, (uint32_t)in.n);
        char *copy = exact_copy(in);
        if (in.n == whole.n)
            change(&run->g, copy, in.n);
        in.p = copy;
        struct core_hash before = core_state_hash(session);
        if (core_event_decode(&in, &run->w.scratch, &decoded) == 0) {
            decoded.seq = core_session_seq(session) + 1;
            core_begin(session);
            if (core_apply(session, &decoded, &why) == 0) {
                use(run, session);
                struct buf out = {0};
                core_event_json(&decoded, &out);
                core_event_patch(&decoded, &out);
                buf_free(&out);
            }
            core_undo(session);
        }
        assert_true(hash_equal(core_state_hash(session), before));
        free(copy);
    }
    buf_free(&whole);
}

static void run_sequence(struct run *run, uint64_t seed)
{
    struct core_limits limits = small_limits();
    struct world *w = &run->w;
    world_open(w, &limits);
    generator_start(&run->g, seed, &w->scratch);
    for (int k = 0; k < COMMANDS; k++) {
        struct core_command *command = arena_alloc(&w->scratch, sizeof(*command));
        if (k < PRELUDE)
            read_command(&w->scratch, prelude[k], command);
        else
            a_command(&run->g, w->s, command);
        if (core_decide(w->s, command, w->now_ms, &w->scratch, &w->event, &w->why) != CORE_EVENT)
            continue;
        struct core_event event = w->event;
        damage_event(run, &event, w->s);
        assert_int_equal(core_apply(w->s, &event, &w->why), 0);
    }
    damage_snapshot(run);
    world_close(w);
}

static void damaged_bytes_never_crash(void **state)
{
    (void)state;
    static struct run run;
    uint64_t seed = first_seed();
    for (int i = 0; i < SEQUENCES; i++)
        run_sequence(&run, seed + (uint64_t)i);
}

/* Whatever a cursor says, only what can be read is, and the state stays sound. */
static void forged_cursors_never_crash(void **state)
{
    (void)state;
    static struct run run;
    uint64_t seed = first_seed();
    struct core_limits limits = small_limits();
    struct world *w = &run.w;
    world_open(w, &limits);
    generator_start(&run.g, seed, &w->scratch);
    populate(w);
    for (int i = 0; i < 5000; i++) {
        char cursor[80];
        struct core_command command = {.type = CORE_INBOX_ACK};
        size_t n = below(&run.g, sizeof(cursor));
        for (size_t k = 0; k < n; k++)
            cursor[k] = "AQgw-_z9"[below(&run.g, 8)];
        command.f.agent = STR("bob");
        command.f.cursor = (struct str){cursor, n};
        command.f.given = UINT64_C(1) << CORE_FIELD_AGENT | UINT64_C(1) << CORE_FIELD_CURSOR;
        assert_int_equal(core_decide(w->s, &command, w->now_ms, &w->scratch, &w->event, &w->why),
                         CORE_REFUSED);
        assert_int_equal(w->why.code, CORE_E_MALFORMED);
    }
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(damaged_bytes_never_crash, print_seed),
        cmocka_unit_test_teardown(forged_cursors_never_crash, print_seed),
    };
    return cmocka_run_group_tests_name("core_fuzz", tests, NULL, NULL);
}
