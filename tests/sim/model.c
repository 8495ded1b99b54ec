/*
 * model: see model.h. Memory is never given back: a run is short, and its process ends with it.
 */
#include "tests/sim/model.h"

#include <stdio.h>
#include <stdlib.h>

enum { COMMANDS_MAX = 65536 };

struct model {
    struct model_limits limits;
    struct arena arena;   /* for ever */
    struct arena scratch; /* of one fold */
    struct id *ids[MODEL_SESSIONS_MAX];
    unsigned ids_n;
    struct model_command *commands[COMMANDS_MAX];
    uint32_t commands_n;
    struct batch *batches;
    struct buf text;
};

struct model *model_new(const struct model_limits *limits)
{
    struct model *model = mem_zeroed(1, sizeof(*model));
    model->limits = *limits;
    return model;
}

struct arena *model_arena(struct model *model)
{
    return &model->arena;
}

const struct core_limits *model_core_limits(const struct model *model)
{
    return &model->limits.core;
}

/* Before the first life is folded: it seeds the tables of states, too. */
void model_set_seed(struct model *model, uint64_t hash_seed)
{
    for (unsigned i = 0; i < model->ids_n; i++) {
        for (unsigned j = 0; j < model->ids[i]->lives_n; j++)
            assert(model->ids[i]->lives[j]->core == NULL ||
                   model->limits.core.hash_seed == hash_seed);
    }
    model->limits.core.hash_seed = hash_seed;
}

bool model_history_may_go(const struct model *model)
{
    return model->limits.history_may_go;
}

static void *model_alloc(struct model *model, size_t size)
{
    return memset(arena_alloc(&model->arena, size), 0, size);
}

/* ---- JSON */

static const char *text_find(struct str text, const char *name)
{
    char quoted[64];
    int n = snprintf(quoted, sizeof(quoted), "\"%s\":", name);
    const char *at = memmem(text.p, text.n, quoted, (size_t)n);
    return at != NULL ? at + n : NULL;
}

uint64_t text_number(struct str text, const char *name)
{
    const char *at = text_find(text, name);
    uint64_t value = 0;
    for (; at != NULL && at < text.p + text.n && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

struct str text_string(struct str text, const char *name)
{
    const char *at = text_find(text, name);
    if (at == NULL || *at != '"')
        return (struct str){0};
    at++;
    const char *end = memchr(at, '"', (size_t)(text.p + text.n - at));
    return end != NULL ? (struct str){at, (size_t)(end - at)} : (struct str){0};
}

/* Behind the object or array that begins at `at`. */
static const char *text_skip(const char *at, const char *end)
{
    unsigned depth = 0;
    bool quoted = false;
    for (; at < end; at++) {
        if (quoted) {
            if (*at == '\\')
                at++;
            else if (*at == '"')
                quoted = false;
        } else if (*at == '"') {
            quoted = true;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if ((*at == '}' || *at == ']') && --depth == 0) {
            return at + 1;
        }
    }
    return end;
}

bool text_next_object(struct str *rest, struct str *object)
{
    const char *end = rest->n != 0 ? rest->p + rest->n : rest->p;
    while (rest->n != 0 && *rest->p != '{') {
        rest->p++;
        rest->n--;
    }
    if (rest->n == 0)
        return false;
    const char *behind = text_skip(rest->p, end);
    *object = (struct str){rest->p, (size_t)(behind - rest->p)};
    *rest = (struct str){behind, (size_t)(end - behind)};
    return true;
}

struct str text_array(struct str text, const char *name)
{
    const char *at = text_find(text, name);
    if (at == NULL || *at != '[')
        return (struct str){0};
    const char *behind = text_skip(at, text.p + text.n);
    return (struct str){at + 1, (size_t)(behind - at) - 2};
}

/* Days from 1970-01-01, after Howard Hinnant's days_from_civil (public domain). */
static int64_t days_of(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = y / 400;
    unsigned yoe = (unsigned)(y - era * 400);
    unsigned doy = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;
    return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static unsigned digits(const char *p, unsigned n)
{
    unsigned value = 0;
    while (n-- != 0)
        value = value * 10 + (unsigned)(*p++ - '0');
    return value;
}

int64_t text_time(struct str text)
{
    if (text.n != 24) /* 2026-01-02T03:04:05.678Z */
        return -1;
    const char *p = text.p;
    int64_t days = days_of(digits(p, 4), digits(p + 5, 2), digits(p + 8, 2));
    int64_t seconds = digits(p + 11, 2) * 3600 + digits(p + 14, 2) * 60 + digits(p + 17, 2);
    return (days * 86400 + seconds) * 1000 + digits(p + 20, 3);
}

/* ---- ids and lives */

struct id *model_id(struct model *model, const char *text)
{
    for (unsigned i = 0; i < model->ids_n; i++) {
        if (strcmp(model->ids[i]->text, text) == 0)
            return model->ids[i];
    }
    assert(model->ids_n < MODEL_SESSIONS_MAX);
    struct id *id = model_alloc(model, sizeof(*id));
    snprintf(id->text, sizeof(id->text), "%s", text);
    return model->ids[model->ids_n++] = id;
}

unsigned model_ids(const struct model *model)
{
    return model->ids_n;
}

struct id *model_nth_id(const struct model *model, unsigned n)
{
    return model->ids[n];
}

struct life *model_current(const struct id *id)
{
    for (unsigned i = id->lives_n; i-- != 0;) {
        if (id->lives[i]->state == LIFE_LIVES)
            return id->lives[i];
    }
    return NULL;
}

struct life *model_find_life(const struct id *id, const char *epoch)
{
    for (unsigned i = 0; i < id->lives_n; i++) {
        if (strcmp(id->lives[i]->epoch, epoch) == 0)
            return id->lives[i];
    }
    return NULL;
}

static void life_room(struct life *life, uint64_t seq)
{
    if (seq <= life->room)
        return;
    uint64_t room = life->room != 0 ? life->room : 32;
    while (room < seq)
        room *= 2;
    life->events = mem_realloc(life->events, room * sizeof(*life->events));
    life->known = mem_realloc(life->known, room * sizeof(*life->known));
    life->owed = mem_realloc(life->owed, room * sizeof(*life->owed));
    memset(life->known + life->room, 0, (room - life->room) * sizeof(*life->known));
    memset(life->owed + life->room, 0, (room - life->room) * sizeof(*life->owed));
    life->room = room;
}

/* Epochs are numbers in base 32, perhaps with ".incarnation" behind them. */
bool model_epoch_above(const char *a, const char *b)
{
    const char *dot_a = strchr(a, '.'), *dot_b = strchr(b, '.');
    long of_a = dot_a != NULL ? strtol(dot_a + 1, NULL, 10) : 0;
    long of_b = dot_b != NULL ? strtol(dot_b + 1, NULL, 10) : 0;
    size_t n_a = strcspn(a, "."), n_b = strcspn(b, ".");
    if (of_a != of_b)
        return of_a > of_b;
    return n_a != n_b ? n_a > n_b : strncmp(a, b, n_a) > 0;
}

static struct str life_root(const struct life *life)
{
    while (life->parent != NULL)
        life = life->parent;
    return sim_str(life->id->text);
}

static void fold_stored(struct core_session *core, const struct model_event *event, uint64_t seq,
                        struct arena *scratch)
{
    struct core_event decoded;
    struct core_refusal why;
    struct str in = event->bytes;
    int result = core_event_decode(&in, scratch, &decoded);
    assert(result == 0 && in.n == 0);
    decoded.seq = seq;
    if (core_apply(core, &decoded, &why) != 0)
        sim_violation("fold", "event %llu cannot be applied again: %s", (unsigned long long)seq,
                      why.detail);
    arena_reset(scratch);
}

struct core_session *model_state_at(struct model *model, const struct life *life, uint64_t seq)
{
    if (seq > life->n)
        return NULL;
    struct arena scratch = {0};
    struct core_session *core = core_session_new(&core_heap_malloc, &model->limits.core,
                                                 life_root(life), sim_str(life->epoch));
    for (uint64_t i = 1; i <= seq; i++)
        fold_stored(core, &life->events[i - 1], i, &scratch);
    arena_free(&scratch);
    return core;
}

static void life_begin_fold(struct model *model, struct life *life)
{
    const struct life *parent = life->parent;
    if (parent != NULL && parent->unknown_before && parent->n < life->at)
        life->unknown_before = true;
    if (life->unknown_before)
        return;
    if (parent != NULL) {
        if (parent->n < life->at)
            sim_violation("fold", "%s was forked from %s at %llu, of which only %llu events exist",
                          life->id->text, parent->id->text, (unsigned long long)life->at,
                          (unsigned long long)parent->n);
        life_room(life, life->at + 1);
        memcpy(life->events, parent->events, life->at * sizeof(*life->events));
        life->n = life->at;
        life->core = model_state_at(model, life, life->at);
        life->oldest = parent->oldest;
        life->may_expire = parent->may_expire;
        life->ttl_s = parent->ttl_s;
    } else {
        life->core = model_state_at(model, life, 0);
    }
}

struct life *model_life(struct model *model, struct id *id, const char *epoch)
{
    struct life *life = model_find_life(id, epoch);
    if (life != NULL)
        return life;
    assert(id->lives_n < MODEL_LIVES_MAX);
    life = model_alloc(model, sizeof(*life));
    snprintf(life->epoch, sizeof(life->epoch), "%s", epoch);
    life->id = id;
    life->parent = id->fork_parent;
    life->at = id->fork_at;
    life->may_expire = model->limits.expiry;
    unsigned at = id->lives_n++;
    for (; at != 0 && model_epoch_above(id->lives[at - 1]->epoch, epoch); at--)
        id->lives[at] = id->lives[at - 1]; /* told late: answers overtake each other */
    id->lives[at] = life;
    return life;
}

void model_ended(struct model *model, struct life *life)
{
    (void)model;
    if (life->state != LIFE_ENDED)
        sim_trace("    %s-%s has ended", life->id->text, life->epoch);
    life->state = LIFE_ENDED;
}

/* ---- commands */

struct batch *model_batch_new(struct model *model, struct id *id)
{
    struct batch *batch = model_alloc(model, sizeof(*batch));
    batch->id = id;
    batch->first = model->commands_n;
    batch->next = model->batches;
    return model->batches = batch;
}

struct batch *model_batches(struct model *model)
{
    return model->batches;
}

void model_batch_add(struct model *model, struct batch *batch, const struct core_command *command)
{
    char trace[32];
    assert(model->commands_n < COMMANDS_MAX && batch->first + batch->n == model->commands_n);
    struct model_command *mine = model_alloc(model, sizeof(*mine));
    *mine = (struct model_command){
        .command = *command, .id = batch->id, .batch = batch, .index = batch->n++};
    snprintf(trace, sizeof(trace), "c%u", model->commands_n);
    mine->command.f.trace = arena_copy(&model->arena, sim_str(trace));
    mine->command.f.given |= UINT64_C(1) << CORE_FIELD_TRACE;
    model->commands[model->commands_n++] = mine;
}

struct model_command *model_command(struct model *model, uint32_t number)
{
    assert(number < model->commands_n);
    return model->commands[number];
}

uint32_t model_commands(const struct model *model)
{
    return model->commands_n;
}

/* A command may be in a session once, but in a later life of the id again. */
static void command_is_at(struct model *model, uint32_t number, struct life *life, uint64_t seq)
{
    struct model_command *mine = model_command(model, number);
    if (mine->id != life->id)
        sim_violation("once", "command c%u went to %s and is in %s", number, mine->id->text,
                      life->id->text);
    if (mine->state == COMMAND_APPLIED && mine->life == life && mine->seq != seq &&
        !mine->batch->expired)
        sim_violation("once", "command c%u is event %llu of %s-%s, and event %llu too", number,
                      (unsigned long long)mine->seq, life->id->text, life->epoch,
                      (unsigned long long)seq);
    bool keyed = mine->batch->key.p != NULL || mine->batch->item_keys;
    if (mine->state == COMMAND_APPLIED && mine->life != life && !keyed)
        sim_violation("once", "command c%u is in two lives of %s, %s and %s", number,
                      life->id->text, mine->life->epoch, life->epoch);
    if (mine->state == COMMAND_UNSENT || mine->state == COMMAND_VOID || mine->state == COMMAND_LOST)
        sim_violation("once", "command c%u is event %llu of %s-%s, but %s", number,
                      (unsigned long long)seq, life->id->text, life->epoch,
                      mine->state == COMMAND_VOID   ? "was answered without an event"
                      : mine->state == COMMAND_LOST ? "was gone after a crash before"
                                                    : "was never sent");
    mine->state = COMMAND_APPLIED;
    mine->life = life;
    mine->seq = seq;
}

/* ---- folding */

static const char hex_digits[] = "0123456789abcdef";

static struct str hex_of(const uint8_t *bytes, size_t n, char *text)
{
    for (size_t i = 0; i < n; i++) {
        text[2 * i] = hex_digits[bytes[i] >> 4];
        text[2 * i + 1] = hex_digits[bytes[i] & 15];
    }
    return (struct str){text, 2 * n};
}

static void check_view(const struct life *life, uint64_t seq, struct str body)
{
    const struct model_event *event = &life->events[seq - 1];
    const char *state = memmem(body.p, body.n, "\"state\":", 8);
    struct str shown = {0};
    if (state != NULL)
        shown = (struct str){state + 8, (size_t)(body.p + body.n - state) - 9};
    if (state == NULL || !str_equal(shown, event->view))
        sim_violation("fold", "the view of %s-%s at %llu is\n  %.*s\nand not\n  %.*s",
                      life->id->text, life->epoch, (unsigned long long)seq, SIM_STR(shown),
                      SIM_STR(event->view));
    if (text_time(text_string(body, "ts")) != event->ts_ms)
        sim_violation("fold", "the view of %s-%s at %llu has another time: %.*s", life->id->text,
                      life->epoch, (unsigned long long)seq, SIM_STR(body));
}

static void check_chain(const struct life *life, uint64_t seq, struct str body)
{
    const struct core_chain *expected = &life->events[seq - 1].chain;
    char chain[64];
    struct str hex = hex_of(expected->bytes, sizeof(expected->bytes), chain);
    if (!sim_holds(body, hex))
        sim_violation("fold", "the chain of %s-%s at %llu is not %.*s in %.*s", life->id->text,
                      life->epoch, (unsigned long long)seq, SIM_STR(hex), SIM_STR(body));
}

static void check_proof(const struct life *life, uint64_t seq, struct str body)
{
    const struct model_event *event = &life->events[seq - 1];
    char chain[64], text[64];
    struct str chain_hex = hex_of(event->chain.bytes, sizeof(event->chain.bytes), chain);
    int n = snprintf(text, sizeof(text), "%016llx%016llx", (unsigned long long)event->hash.high,
                     (unsigned long long)event->hash.low);
    if (!sim_holds(body, chain_hex) || !sim_holds(body, (struct str){text, (size_t)n}))
        sim_violation("fold", "the proof of %s-%s at %llu is %.*s, and not chain %.*s, hash %s",
                      life->id->text, life->epoch, (unsigned long long)seq, SIM_STR(body),
                      SIM_STR(chain_hex), text);
}

static void check_pending(struct life *life)
{
    struct pending **at = &life->pending;
    while (*at != NULL) {
        struct pending *pending = *at;
        if (pending->seq > life->n) {
            at = &pending->next;
            continue;
        }
        *at = pending->next;
        if (pending->kind == PENDING_VIEW)
            check_view(life, pending->seq, pending->text);
        else if (pending->kind == PENDING_CHAIN)
            check_chain(life, pending->seq, pending->text);
        else
            check_proof(life, pending->seq, pending->text);
    }
}

/* What the shard says by itself: of a lease, or of a target's breaker. */
static bool own_command(struct str json, struct core_command *command)
{
    struct str type = text_string(json, "type"), why = text_string(json, "why");
    bool lease = str_equal(type, STR("agent.updated")) &&
                 str_equal(text_string(json, "cause"), STR("lease"));
    if (!lease && !str_equal(type, STR("agent.wake_reported")))
        return false;
    *command = (struct core_command){.type = lease ? CORE_AGENT_UPDATE : CORE_AGENT_WAKE_REPORT};
    command->f.agent = text_string(json, "agent");
    command->f.given = UINT64_C(1) << CORE_FIELD_AGENT;
    if (lease) {
        command->f.cause = STR("lease");
        command->f.lapsed = str_equal(text_string(json, "status"), STR("offline"));
        command->f.given |= UINT64_C(1) << CORE_FIELD_CAUSE | UINT64_C(1) << CORE_FIELD_LAPSED;
        return true;
    }
    command->f.breaker = text_string(json, "breaker");
    command->f.given |= UINT64_C(1) << CORE_FIELD_BREAKER;
    command->f.why = why;
    if (why.p != NULL)
        command->f.given |= UINT64_C(1) << CORE_FIELD_WHY;
    return true;
}

/* The command behind an event that the model is about to fold: a fork's beginning has none that a
 * client has sent. */
static bool fold_command(struct model *model, struct life *life, struct str json,
                         struct core_command *command, uint32_t *number)
{
    struct str trace = text_string(json, "trace");
    *number = 0;
    if (trace.p != NULL && trace.n > 1 && trace.p[0] == 'c') {
        *number = (uint32_t)strtoul(trace.p + 1, NULL, 10) + 1;
        if (*number > model->commands_n)
            return false;
        *command = model->commands[*number - 1]->command;
        return true;
    }
    if (own_command(json, command))
        return true;
    if (life->parent == NULL || life->n != life->at)
        return false;
    *command = (struct core_command){.type = CORE_SESSION_FORK};
    command->f.session = sim_str(life->id->text);
    command->f.parent = sim_str(life->parent->id->text);
    command->f.parent_epoch = sim_str(life->parent->epoch);
    command->f.parent_seq = life->at;
    command->f.given = UINT64_C(1) << CORE_FIELD_SESSION | UINT64_C(1) << CORE_FIELD_PARENT |
                       UINT64_C(1) << CORE_FIELD_PARENT_EPOCH |
                       UINT64_C(1) << CORE_FIELD_PARENT_SEQ;
    return true;
}

static void fold_keep(struct model *model, struct life *life, const struct core_event *event,
                      struct str json, uint32_t number)
{
    struct model_event *kept = &life->events[life->n];
    struct buf *text = &model->text;
    *kept = (struct model_event){
        .json = json, .ts_ms = event->ts_ms, .type = event->type, .command = number};
    text->n = 0;
    core_event_encode(event, text);
    kept->bytes = arena_copy(&model->arena, buf_str(text));
    if (life->n != 0)
        kept->chain = life->events[life->n - 1].chain;
    core_chain_add(&kept->chain, event->seq, kept->bytes);
    fold_stored(life->core, kept, event->seq, &model->scratch);
    text->n = 0;
    core_view(life->core, text);
    kept->view = arena_copy(&model->arena, buf_str(text));
    kept->hash = core_state_hash(life->core);
    life->n++;
    if (event->type == CORE_SESSION_CREATE) {
        life->ttl_s = event->f.ttl_s;
        life->may_expire = life->ttl_s != 0;
    }
}

static void fold_one(struct model *model, struct life *life, struct str json)
{
    struct core_command command;
    struct core_event event;
    struct core_refusal why;
    uint32_t number;
    if (!fold_command(model, life, json, &command, &number))
        sim_violation("once", "nobody has sent what became event %llu of %s-%s: %.*s",
                      (unsigned long long)life->n + 1, life->id->text, life->epoch, SIM_STR(json));
    if (number != 0)
        command_is_at(model, number - 1, life, life->n + 1);
    uint32_t owed = life->owed[life->n];
    if (owed != 0 && owed != number)
        sim_violation("acknowledged", "command c%u was acknowledged as event %llu of %s-%s: %.*s",
                      owed - 1, (unsigned long long)life->n + 1, life->id->text, life->epoch,
                      SIM_STR(json));
    int64_t ts_ms = text_time(text_string(json, "ts"));
    if (ts_ms < core_session_ts_ms(life->core))
        sim_violation("fold", "time goes back in %s-%s: %.*s", life->id->text, life->epoch,
                      SIM_STR(json));
    enum core_decision decision =
        core_decide(life->core, &command, ts_ms, &model->scratch, &event, &why);
    if (decision != CORE_EVENT)
        sim_violation("fold", "event %llu of %s-%s should not have come to be (%s): %.*s",
                      (unsigned long long)life->n + 1, life->id->text, life->epoch,
                      decision == CORE_REFUSED ? why.detail : "nothing to do", SIM_STR(json));
    model->text.n = 0;
    core_event_json(&event, &model->text);
    if (!str_equal(buf_str(&model->text), json))
        sim_violation("fold", "event %llu of %s-%s is\n  %.*s\nand not\n  %.*s",
                      (unsigned long long)life->n + 1, life->id->text, life->epoch, SIM_STR(json),
                      SIM_STR(buf_str(&model->text)));
    fold_keep(model, life, &event, json, number);
}

bool model_is_own(const struct life *life, uint64_t seq)
{
    const struct model_event *event = &life->events[seq - 1];
    return event->command == 0 &&
           (event->type == CORE_AGENT_UPDATE || event->type == CORE_AGENT_WAKE_REPORT);
}

uint64_t model_newest_unread(struct model *model, const struct life *life, struct str agent,
                             bool mentions)
{
    struct core_inbox_query query = {
        .agent = agent, .mentions = mentions, .limit = 1000000, .bare = true};
    struct core_inbox inbox;
    core_inbox_begin(&inbox, &query);
    for (uint64_t seq = 1; seq <= life->n; seq++) {
        struct str bytes = life->events[seq - 1].bytes;
        struct core_event event;
        if (core_event_decode(&bytes, &model->scratch, &event) != 0)
            sim_violation("fold", "event %llu cannot be decoded", (unsigned long long)seq);
        event.seq = seq;
        if (event.type == CORE_MESSAGE_SEND)
            core_inbox_offer(life->core, &inbox, &event);
        arena_reset(&model->scratch);
    }
    uint64_t newest = inbox.newest_seq;
    core_inbox_free(&inbox);
    return newest;
}

static void fold(struct model *model, struct life *life)
{
    if (life->core == NULL)
        life_begin_fold(model, life);
    while (!life->unknown_before && life->n < life->room && life->known[life->n].p != NULL)
        fold_one(model, life, life->known[life->n]);
    check_pending(life);
}

/* ---- what was shown */

void model_shown(struct life *life, uint64_t seq)
{
    if (seq > life->shown)
        life->shown = seq;
}

void model_learn(struct model *model, struct life *life, struct str json)
{
    uint64_t seq = text_number(json, "seq");
    if (seq == 0)
        sim_violation("event", "an event of %s-%s has no seq: %.*s", life->id->text, life->epoch,
                      SIM_STR(json));
    if (life->core == NULL && life->parent != NULL)
        life_begin_fold(model, life);
    model_shown(life, seq);
    life_room(life, seq);
    struct str before = seq <= life->n ? life->events[seq - 1].json : life->known[seq - 1];
    if (before.p != NULL && !str_equal(before, json))
        sim_violation("event", "event %llu of %s-%s was\n  %.*s\nand is\n  %.*s",
                      (unsigned long long)seq, life->id->text, life->epoch, SIM_STR(before),
                      SIM_STR(json));
    if (before.p != NULL)
        return;
    life->known[seq - 1] = arena_copy(&model->arena, json);
    fold(model, life);
}

unsigned model_learn_events(struct model *model, struct life *life, struct str body,
                            const char *array, uint64_t *last)
{
    struct str rest = text_array(body, array);
    struct str json;
    unsigned n = 0;
    for (; text_next_object(&rest, &json); n++) {
        *last = text_number(json, "seq");
        model_learn(model, life, json);
    }
    return n;
}

static void show(struct model *model, struct life *life, uint64_t seq, struct str body, int kind)
{
    model_shown(life, seq);
    struct pending *pending = model_alloc(model, sizeof(*pending));
    pending->seq = seq;
    pending->kind = kind;
    pending->text = arena_copy(&model->arena, body);
    pending->next = life->pending;
    life->pending = pending;
    check_pending(life);
}

void model_show_view(struct model *model, struct life *life, uint64_t seq, struct str body)
{
    show(model, life, seq, body, PENDING_VIEW);
}

void model_show_proof(struct model *model, struct life *life, uint64_t seq, struct str body)
{
    show(model, life, seq, body, PENDING_PROOF);
}

void model_show_chain(struct model *model, struct life *life, uint64_t seq, struct str body)
{
    show(model, life, seq, body, PENDING_CHAIN);
}

void model_acknowledge(struct model *model, uint32_t number, struct life *life, uint64_t seq)
{
    if (seq == 0)
        sim_violation("acknowledged", "command c%u was acknowledged without a seq", number);
    command_is_at(model, number, life, seq);
    model_shown(life, seq);
    if (seq > life->acknowledged)
        life->acknowledged = seq;
    life_room(life, seq);
    uint32_t before = seq <= life->n ? life->events[seq - 1].command : life->owed[seq - 1];
    if ((before != 0 || seq <= life->n) && before != number + 1)
        sim_violation("acknowledged",
                      "command c%u was acknowledged as event %llu of %s-%s, which is c%d's", number,
                      (unsigned long long)seq, life->id->text, life->epoch, (int)before - 1);
    life->owed[seq - 1] = number + 1;
}

/* ---- after a crash */

/* The newest life in which something of it is: where it has a key, it may be in earlier ones too.
 */
static const struct life *batch_life(struct model *model, const struct batch *batch)
{
    const struct life *life = NULL;
    for (uint32_t i = 0; i < batch->n; i++) {
        const struct model_command *mine = model->commands[batch->first + i];
        if (mine->state == COMMAND_APPLIED &&
            (life == NULL || model_epoch_above(mine->life->epoch, life->epoch)))
            life = mine->life;
    }
    return life;
}

static bool batch_is_partial(struct model *model, const struct batch *batch, uint64_t *last)
{
    const struct life *life = batch_life(model, batch);
    uint64_t first = 0;
    uint32_t n = 0;
    *last = 0;
    for (uint32_t i = 0; i < batch->n; i++) {
        const struct model_command *mine = model->commands[batch->first + i];
        if (mine->state != COMMAND_APPLIED || mine->life != life)
            continue;
        if (n++ == 0)
            first = mine->seq;
        else if (mine->seq != first + n - 1)
            return true;
        *last = mine->seq;
    }
    return false;
}

/* What stands behind the last event of a batch that is there must not have led to one: all of its
 * events are in one record. Known only where the session has not gone on since; of a life that has
 * ended perhaps no more was shown than a page. */
static void check_batch_end(struct model *model, const struct batch *batch, uint64_t last)
{
    const struct life *life = batch_life(model, batch);
    uint32_t at = batch->n;
    if (life == NULL || life->core == NULL || life->n != last || life->state == LIFE_ENDED)
        return;
    while (model->commands[batch->first + at - 1]->life != life)
        at--;
    for (; at < batch->n; at++) {
        struct core_event event;
        struct core_refusal why;
        const struct core_command *command = &model->commands[batch->first + at]->command;
        enum core_decision decision =
            core_decide(life->core, command, 0, &model->scratch, &event, &why);
        arena_reset(&model->scratch);
        if (decision == CORE_EVENT || (batch->atomic && decision == CORE_REFUSED))
            sim_violation("atomic", "%s-%s ends in the middle of a batch, before command c%u",
                          life->id->text, life->epoch, batch->first + at);
    }
}

void model_check_batches(struct model *model)
{
    for (const struct batch *batch = model->batches; batch != NULL; batch = batch->next) {
        uint64_t last;
        if (batch->n < 2 || batch->item_keys || batch->has_expected || batch->expired)
            continue;
        if (batch_is_partial(model, batch, &last))
            sim_violation("atomic", "the batch from command c%u on is there in pieces",
                          batch->first);
        if (batch->answer.p == NULL)
            check_batch_end(model, batch, last);
    }
}

void model_give_up_open(struct model *model)
{
    for (uint32_t i = 0; i < model->commands_n; i++) {
        if (model->commands[i]->state == COMMAND_SENT)
            model->commands[i]->state = COMMAND_LOST;
    }
    for (struct batch *batch = model->batches; batch != NULL; batch = batch->next) {
        batch->open = false;
        batch->out = 0;
    }
    for (unsigned i = 0; i < model->ids_n; i++) {
        model->ids[i]->deletes_open = 0;
        model->ids[i]->creates_open = 0;
    }
}

static bool pin_needed(const struct model *model, const struct life *life)
{
    if (life->parent == NULL)
        return false;
    if (life->state == LIFE_LIVES)
        return true;
    for (unsigned i = 0; i < model->ids_n; i++) {
        const struct id *id = model->ids[i];
        for (unsigned l = 0; l < id->lives_n; l++) {
            if (id->lives[l]->parent == life && pin_needed(model, id->lives[l]))
                return true;
        }
    }
    return false;
}

unsigned model_pins(const struct model *model)
{
    unsigned n = 0;
    for (unsigned i = 0; i < model->ids_n; i++) {
        const struct id *id = model->ids[i];
        for (unsigned l = 0; l < id->lives_n; l++)
            n += pin_needed(model, id->lives[l]);
    }
    return n;
}
