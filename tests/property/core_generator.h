/*
 * Commands out of a seed: few ids, so that they meet; small windows, so that messages leave; and
 * strings with all that JSON and JSON Pointer treat specially.
 *
 * Every test prints its seed when it ends; ATOLL_SEED=<seed> in the environment repeats it.
 */
#ifndef ATOLL_TESTS_CORE_GENERATOR_H
#define ATOLL_TESTS_CORE_GENERATOR_H

#include "tests/unit/core_fixture.h"

#include <time.h>

struct generator {
    uint64_t x; /* xorshift64*, never 0 */
    struct arena *scratch;
    char cursors[4][4096]; /* of earlier answers, */
    struct str readers[4]; /* to these agents */
};

static uint64_t current_seed;

static inline uint64_t first_seed(void)
{
    const char *given = getenv("ATOLL_SEED");
    return given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000;
}

static inline int print_seed(void **state)
{
    (void)state;
    print_message("ATOLL_SEED=%llu repeats the last sequence\n", (unsigned long long)current_seed);
    return 0;
}

static inline uint64_t next(struct generator *g)
{
    g->x ^= g->x >> 12;
    g->x ^= g->x << 25;
    g->x ^= g->x >> 27;
    return g->x * UINT64_C(2685821657736338717);
}

static inline void generator_start(struct generator *g, uint64_t seed, struct arena *scratch)
{
    current_seed = seed;
    memset(g, 0, sizeof(*g));
    g->x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    if (g->x == 0)
        g->x = 1;
    g->scratch = scratch;
    next(g);
}

static inline uint32_t below(struct generator *g, uint32_t n)
{
    return (uint32_t)((next(g) >> 32) * n >> 32);
}

static inline bool percent(struct generator *g, uint32_t p)
{
    return below(g, 100) < p;
}

static inline struct core_limits small_limits(void)
{
    struct core_limits limits = core_limits_default;
    limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 5;
    limits.max[CORE_LIMIT_WINDOW_BYTES] = 400;
    limits.max[CORE_LIMIT_AGENTS] = 4;
    limits.max[CORE_LIMIT_THREADS] = 4;
    limits.max[CORE_LIMIT_PARTICIPANTS] = 4;
    limits.max[CORE_LIMIT_LABELS] = 3;
    limits.max[CORE_LIMIT_TAKEN] = 4;
    limits.hash_seed = 7;
    return limits;
}

static inline struct str made(struct generator *g, char letter, uint64_t n)
{
    char *p = arena_alloc(g->scratch, 24);
    return (struct str){p, (size_t)snprintf(p, 24, "%c%llu", letter, (unsigned long long)n)};
}

static inline struct str an_agent(struct generator *g)
{
    static const char *const ids[] = {"ada", "bob", "c", "D-4_e", "eve"};
    return str_of(ids[percent(g, 3) ? 4 : below(g, 4)]);
}

static inline struct str a_thread(struct generator *g)
{
    static const char *const ids[] = {"x", "x", "x", "y", "y", "Z_-9"};
    return percent(g, 93) ? str_of(ids[below(g, 6)]) : made(g, 't', 1 + below(g, 12));
}

static inline struct str a_text(struct generator *g, uint32_t pieces)
{
    static const char *const words[] = {"\"",     "\\",
                                        "/",      "~",
                                        "~1",     "\n",
                                        "\x01",   "\x1f",
                                        "é",      "\xf0\x9f\x8f\x9d",
                                        "",       "plain ",
                                        "a word", "\t",
                                        "{}",     "a much longer piece of plain text; "};
    struct buf text = {0};
    for (uint32_t n = below(g, pieces + 1); n != 0; n--)
        buf_add_str(&text, str_of(words[below(g, sizeof(words) / sizeof(words[0]))]));
    struct str copy = text.n == 0 ? STR("") : arena_copy(g->scratch, buf_str(&text));
    buf_free(&text);
    return copy;
}

static inline struct core_labels some_labels(struct generator *g)
{
    static const char *const keys[] = {"\"q\"", "a", "a/b~c", "k\\\n", "~", "é"}; /* sorted */
    struct core_labels labels = {.items = arena_alloc(g->scratch, 6 * sizeof(struct core_label))};
    for (int i = 0; i < 6; i++) {
        if (percent(g, 25))
            labels.items[labels.n++] = (struct core_label){
                str_of(keys[i]), percent(g, 40) ? (struct str){0} : a_text(g, 2)};
    }
    return labels;
}

static inline struct core_ids some_agents(struct generator *g)
{
    struct core_ids ids = {.n = percent(g, 40) ? 0 : below(g, 4)};
    ids.items = arena_alloc(g->scratch, 4 * sizeof(struct str));
    for (uint32_t i = 0; i < ids.n; i++)
        ids.items[i] = an_agent(g);
    return ids;
}

/* Asks for an inbox as far as the windows go, so as to have a cursor. */
static inline void remember_cursor(struct generator *g, const struct core_session *s)
{
    struct core_inbox inbox;
    struct buf out = {0};
    struct core_inbox_query query = {
        .agent = an_agent(g), .mentions = percent(g, 30), .limit = below(g, 5)};
    if (percent(g, 30))
        query.from = an_agent(g);
    core_inbox_begin(&inbox, &query);
    core_inbox_from_state(s, &inbox);
    core_inbox_finish(s, &inbox, &out);
    core_inbox_free(&inbox);
    /* Looked for from the end, and not as JSON: damaged messages may be anything. */
    struct str name = STR("\"cursor\":\"");
    size_t at = out.n - name.n;
    while (memcmp(out.p + at, name.p, name.n) != 0)
        at--;
    uint32_t slot = below(g, 4);
    g->readers[slot] = query.agent;
    buf_add_byte(&out, '\0');
    sscanf(out.p + at + name.n, "%4095[A-Za-z0-9_-]", g->cursors[slot]);
    buf_free(&out);
}

static inline void set_text(struct generator *g, const struct core_field_spec *spec,
                            const struct core_session *s, struct str *at)
{
    static const char *const values[] = {"{}", "[1,\"\\u0001\"]", "\"\\\\\"", "12.5", "true"};
    static const char *const urls[] = {"http://a.example/", "https://[::1]:8443/x?y=\"z\"",
                                       "http://b", "http://u@c/"};
    static const char *const breakers[] = {"open", "closed"};
    switch (spec->field) {
    case CORE_FIELD_THREAD:
        *at = a_thread(g);
        break;
    case CORE_FIELD_SESSION:
        *at = percent(g, 80) ? core_session_id(s) : STR("other");
        break;
    case CORE_FIELD_REPLY_TO:
        *at = made(g, 'm', core_session_seq(s) - below(g, 12) % (core_session_seq(s) + 1));
        if (percent(g, 50))
            *at = (struct str){0};
        break;
    case CORE_FIELD_DATA:
        *at = str_of(values[below(g, 5)]);
        break;
    case CORE_FIELD_URL:
        *at = str_of(urls[percent(g, 5) ? 3 : below(g, 3)]);
        break;
    case CORE_FIELD_BREAKER:
        *at = percent(g, 95) ? str_of(breakers[below(g, 2)]) : a_text(g, 1);
        break;
    default:
        *at = spec->kind == KIND_ID ? an_agent(g)
                                    : a_text(g, spec->field == CORE_FIELD_CONTENT ? 10 : 3);
    }
    if ((spec->flags & FIELD_NULLABLE) && percent(g, 25))
        *at = (struct str){0};
}

static inline void set_cursor(struct generator *g, const struct core_session *s,
                              struct core_fields *f)
{
    remember_cursor(g, s);
    uint32_t slot = below(g, 4);
    f->cursor = arena_copy(g->scratch, str_of(g->cursors[slot]));
    if (percent(g, 95) && g->readers[slot].p != NULL)
        f->agent = g->readers[slot];
}

static inline void set_field(struct generator *g, const struct core_field_spec *spec,
                             const struct core_session *s, struct core_fields *f)
{
    void *at = (char *)f + spec->offset;
    switch (spec->kind) {
    case KIND_LABELS:
        f->labels = some_labels(g);
        break;
    case KIND_IDS:
        *(struct core_ids *)at = some_agents(g);
        break;
    case KIND_STATUS:
        f->status = (enum core_agent_status)below(g, AGENT_STATUS_COUNT);
        break;
    case KIND_I64:
        f->priority = (int64_t)below(g, 5) - 2;
        break;
    case KIND_U64:
        if (spec->field == CORE_FIELD_LEASE_S) {
            f->lease_s = percent(g, 98) ? below(g, 3) : UINT64_C(1) << 40;
            break;
        }
        *(uint64_t *)at = core_session_seq(s) + 2 - below(g, 12) % (core_session_seq(s) + 3);
        break;
    case KIND_BOOL:
        *(bool *)at = percent(g, 50);
        break;
    default:
        if (spec->field == CORE_FIELD_CURSOR)
            set_cursor(g, s, f);
        else
            set_text(g, spec, s, at);
    }
    f->given |= UINT64_C(1) << spec->field;
}

static inline enum core_type a_type(struct generator *g, const struct core_session *s)
{
    static const uint8_t weights[CORE_TYPE_COUNT] = {
        [CORE_SESSION_CREATE] = 2, [CORE_SESSION_UPDATE] = 4, [CORE_AGENT_REGISTER] = 16,
        [CORE_AGENT_UPDATE] = 8,   [CORE_AGENT_LEAVE] = 1,    [CORE_THREAD_CREATE] = 12,
        [CORE_THREAD_ADD] = 12,    [CORE_THREAD_REMOVE] = 6,  [CORE_THREAD_CLOSE] = 2,
        [CORE_MESSAGE_SEND] = 60,  [CORE_THREAD_READ] = 16,   [CORE_INBOX_ACK] = 20,
        [CORE_SESSION_FORK] = 2,   [CORE_AGENT_WAKE] = 8,     [CORE_AGENT_WAKE_REPORT] = 6,
    };
    if (core_session_seq(s) == 0 && percent(g, 70))
        return CORE_SESSION_CREATE;
    if (below(g, 400) == 0)
        return CORE_SESSION_CLOSE;
    for (;;) {
        uint32_t type = below(g, CORE_TYPE_COUNT);
        if (below(g, 60) < weights[type])
            return (enum core_type)type;
    }
}

/* One that is not refused, but for the id of its fork at times. */
static inline void a_fork(struct generator *g, const struct core_session *s,
                          struct core_command *command)
{
    static const char *const ids[] = {"f1", "f2", "f3", "s1"};
    memset(command, 0, sizeof(*command));
    command->type = CORE_SESSION_FORK;
    command->f.session = str_of(ids[below(g, 4)]);
    command->f.parent = core_session_id(s);
    command->f.parent_epoch = core_session_epoch(s);
    command->f.parent_seq = core_session_seq(s);
    command->f.given = UINT64_C(1) << CORE_FIELD_SESSION | UINT64_C(1) << CORE_FIELD_PARENT |
                       UINT64_C(1) << CORE_FIELD_PARENT_EPOCH |
                       UINT64_C(1) << CORE_FIELD_PARENT_SEQ;
}

static inline void a_command(struct generator *g, const struct core_session *s,
                             struct core_command *command)
{
    memset(command, 0, sizeof(*command));
    command->type = a_type(g, s);
    if (command->type == CORE_SESSION_FORK && percent(g, 80)) {
        a_fork(g, s, command);
        return;
    }
    const struct core_type_spec *spec = core_type_spec(command->type);
    for (int i = 0; i < spec->command_fields_n; i++) {
        const struct core_field_spec *field = &spec->command_fields[i];
        uint32_t chance = field->flags & FIELD_REQUIRED ? 998 : 400;
        if (below(g, 1000) < chance)
            set_field(g, field, s, &command->f);
    }
    if (command->type == CORE_AGENT_UPDATE && percent(g, 30)) { /* the lease's own */
        struct core_fields f = {.given = UINT64_C(1) << CORE_FIELD_AGENT | UINT64_C(1)
                                                                               << CORE_FIELD_LAPSED,
                                .agent = an_agent(g),
                                .lapsed = percent(g, 50)};
        command->f = f;
    }
}

/* A session to begin with, in which most commands find what they name. */
static const char *const prelude[] = {
    "session.create labels=a:1",
    "agent.register agent=ada",
    "agent.register agent=bob",
    "agent.register agent=c",
    "agent.register agent=D-4_e",
    "thread.create creator=ada name=n participants=bob,c,D-4_e thread=x",
    "thread.create creator=bob name=n participants=c,ada thread=y",
};

enum { PRELUDE = sizeof(prelude) / sizeof(prelude[0]) };

#endif
