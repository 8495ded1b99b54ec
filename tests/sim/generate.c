/*
 * generate: see generate.h. What a type needs is said here, not taken from the schema table, so
 * that most of what is sent makes sense.
 */
#include "tests/sim/generate.h"

#include <stdio.h>

static const char *const agents[] = {"ada", "bob", "cy", "dee"};
static const char *const threads[] = {"x", "y"};

enum { AGENTS = 4, THREADS = 2 };

static void give(struct core_command *command, enum core_field field)
{
    command->f.given |= UINT64_C(1) << field;
}

static struct str an_agent(struct generator *g)
{
    return sim_str(agents[rng_below(g->rng, AGENTS)]);
}

static void set_thread(struct generator *g, struct core_command *command)
{
    command->f.thread = sim_str(threads[rng_below(g->rng, THREADS)]);
    give(command, CORE_FIELD_THREAD);
}

static struct str a_text(struct generator *g, uint32_t most)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz \"\\/~";
    uint32_t n =
        rng_percent(g->rng, 90) ? rng_below(g->rng, most / 8 + 1) : rng_below(g->rng, most);
    char *p = arena_alloc(g->arena, n + 1);
    for (uint32_t i = 0; i < n; i++)
        p[i] = letters[rng_below(g->rng, sizeof(letters) - 1)];
    p[n] = '\0';
    return (struct str){p, n};
}

static void set_labels(struct generator *g, struct core_command *command, bool removals)
{
    static const char *const keys[] = {"a", "b/c", "~"};
    struct core_labels *labels = &command->f.labels;
    labels->items = arena_alloc(g->arena, 3 * sizeof(struct core_label));
    labels->n = 0;
    for (unsigned i = 0; i < 3; i++) {
        if (rng_percent(g->rng, 60))
            continue;
        bool removed = removals && rng_percent(g->rng, 30);
        labels->items[labels->n++] =
            (struct core_label){sim_str(keys[i]), removed ? (struct str){0} : a_text(g, 20)};
    }
    give(command, CORE_FIELD_LABELS);
}

static void set_agents(struct generator *g, struct core_ids *ids, uint32_t percent)
{
    ids->items = arena_alloc(g->arena, AGENTS * sizeof(struct str));
    ids->n = 0;
    for (unsigned i = 0; i < AGENTS; i++) {
        if (rng_percent(g->rng, percent))
            ids->items[ids->n++] = sim_str(agents[i]);
    }
}

void generate_create(struct generator *g, const struct id *id, struct core_command *command)
{
    *command = (struct core_command){.type = CORE_SESSION_CREATE};
    if (rng_percent(g->rng, 50)) {
        command->f.session = sim_str(id->text);
        give(command, CORE_FIELD_SESSION);
    }
    if (rng_percent(g->rng, 40))
        set_labels(g, command, false);
    if (rng_percent(g->rng, g->ttl_percent)) {
        command->f.ttl_s = rng_between(g->rng, 1, 100);
        give(command, CORE_FIELD_TTL_S);
    }
}

static void message(struct generator *g, struct core_command *command)
{
    set_thread(g, command);
    command->f.sender = an_agent(g);
    command->f.content = a_text(g, g->content_bytes);
    give(command, CORE_FIELD_SENDER);
    give(command, CORE_FIELD_CONTENT);
    if (rng_percent(g->rng, 20)) {
        set_agents(g, &command->f.mentions, 25);
        give(command, CORE_FIELD_MENTIONS);
    }
}

static void set_lease(struct generator *g, struct core_command *command)
{
    if (!g->attended || rng_percent(g->rng, 60))
        return;
    command->f.lease_s = rng_percent(g->rng, 20) ? 0 : rng_between(g->rng, 1, 4);
    give(command, CORE_FIELD_LEASE_S);
}

static void wake(struct generator *g, struct core_command *command)
{
    static const char *const urls[] = {"http://a.example/", "https://b.example/hook"};
    command->f.agent = an_agent(g);
    give(command, CORE_FIELD_AGENT);
    give(command, CORE_FIELD_URL);
    if (rng_percent(g->rng, 15))
        return;
    command->f.url = sim_str(urls[rng_below(g->rng, 2)]);
    if (rng_percent(g->rng, 50)) {
        command->f.only_mentions = rng_percent(g->rng, 70);
        give(command, CORE_FIELD_ONLY_MENTIONS);
    }
    if (rng_percent(g->rng, 50)) {
        command->f.sealed = STR("sealed");
        give(command, CORE_FIELD_SEALED);
    }
}

static void update(struct generator *g, struct core_command *command)
{
    command->f.agent = an_agent(g);
    give(command, CORE_FIELD_AGENT);
    command->f.status = (enum core_agent_status)rng_below(g->rng, AGENT_STATUS_COUNT);
    give(command, CORE_FIELD_STATUS);
    if (rng_percent(g->rng, 40)) {
        command->f.note = a_text(g, 60);
        give(command, CORE_FIELD_NOTE);
    }
    set_lease(g, command);
}

static void register_agent(struct generator *g, struct core_command *command, uint64_t step)
{
    command->f.agent = step <= AGENTS ? sim_str(agents[(step - 1) % AGENTS]) : an_agent(g);
    give(command, CORE_FIELD_AGENT);
    if (rng_percent(g->rng, 40)) {
        command->f.description = a_text(g, 100);
        give(command, CORE_FIELD_DESCRIPTION);
    }
    set_lease(g, command);
}

static void create_thread(struct generator *g, struct core_command *command)
{
    command->f.creator = an_agent(g);
    command->f.name = a_text(g, 30);
    set_agents(g, &command->f.participants, 75);
    give(command, CORE_FIELD_CREATOR);
    give(command, CORE_FIELD_NAME);
    give(command, CORE_FIELD_PARTICIPANTS);
    if (rng_percent(g->rng, 85))
        set_thread(g, command);
}

static void participant(struct generator *g, struct core_command *command)
{
    set_thread(g, command);
    command->f.agent = an_agent(g);
    command->f.by = an_agent(g);
    give(command, CORE_FIELD_AGENT);
    give(command, CORE_FIELD_BY);
    if (command->type == CORE_THREAD_ADD && rng_percent(g->rng, 30)) {
        command->f.history = true;
        give(command, CORE_FIELD_HISTORY);
    }
}

static void acknowledge(struct generator *g, const struct id *id, struct core_command *command)
{
    unsigned slot = rng_below(g->rng, 2);
    command->f.agent = id->readers[slot];
    command->f.cursor = arena_copy(g->arena, sim_str(id->cursors[slot]));
    give(command, CORE_FIELD_AGENT);
    give(command, CORE_FIELD_CURSOR);
}

static enum core_type a_type(struct generator *g, const struct id *id, uint64_t step)
{
    static const uint8_t weights[CORE_TYPE_COUNT] = {
        [CORE_SESSION_CREATE] = 2, [CORE_SESSION_UPDATE] = 4, [CORE_AGENT_REGISTER] = 6,
        [CORE_AGENT_UPDATE] = 15,  [CORE_AGENT_LEAVE] = 1,    [CORE_THREAD_CREATE] = 4,
        [CORE_THREAD_ADD] = 6,     [CORE_THREAD_REMOVE] = 2,  [CORE_MESSAGE_SEND] = 50,
        [CORE_THREAD_READ] = 8,    [CORE_INBOX_ACK] = 8,      [CORE_AGENT_WAKE] = 8,
    };
    if (step == 0)
        return CORE_SESSION_CREATE;
    if (step <= 3)
        return CORE_AGENT_REGISTER;
    if (step == 4)
        return CORE_THREAD_CREATE;
    if (rng_once_in(g->rng, 300))
        return CORE_SESSION_CLOSE;
    for (;;) {
        enum core_type type = (enum core_type)rng_below(g->rng, CORE_TYPE_COUNT);
        if (type == CORE_INBOX_ACK && (id->cursors[0][0] == '\0' || id->cursors[1][0] == '\0'))
            continue;
        if (type == CORE_AGENT_WAKE && !g->attended)
            continue;
        if (rng_below(g->rng, 50) < weights[type])
            return type;
    }
}

void generate_command(struct generator *g, const struct id *id, uint64_t step,
                      struct core_command *command)
{
    *command = (struct core_command){.type = a_type(g, id, step)};
    switch (command->type) {
    case CORE_SESSION_CREATE:
        generate_create(g, id, command);
        break;
    case CORE_SESSION_UPDATE:
        set_labels(g, command, true);
        break;
    case CORE_AGENT_REGISTER:
        register_agent(g, command, step);
        break;
    case CORE_AGENT_UPDATE:
        update(g, command);
        break;
    case CORE_AGENT_LEAVE:
        command->f.agent = an_agent(g);
        give(command, CORE_FIELD_AGENT);
        break;
    case CORE_THREAD_CREATE:
        create_thread(g, command);
        break;
    case CORE_THREAD_ADD:
    case CORE_THREAD_REMOVE:
        participant(g, command);
        break;
    case CORE_MESSAGE_SEND:
        message(g, command);
        break;
    case CORE_THREAD_READ:
        set_thread(g, command);
        command->f.agent = an_agent(g);
        command->f.upto = rng_below(g->rng, 60);
        give(command, CORE_FIELD_AGENT);
        give(command, CORE_FIELD_UPTO);
        break;
    case CORE_INBOX_ACK:
        acknowledge(g, id, command);
        break;
    case CORE_AGENT_WAKE:
        wake(g, command);
        break;
    default:
        break;
    }
}
