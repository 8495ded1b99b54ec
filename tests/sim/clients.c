/*
 * clients: see clients.h. Sending is here; what comes back is in replies.c, followers in feeds.c.
 */
#include "tests/sim/clients_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { LIMIT = 20 };

static struct str in_request(struct request *request, struct str text)
{
    return arena_copy(&request->arena, text);
}

/* ---- ids */

static struct id *an_id(struct clients *clients)
{
    char text[16];
    uint32_t at = rng_below(clients->rng, clients->habits.sessions + clients->habits.forks);
    if (at < clients->habits.sessions)
        snprintf(text, sizeof(text), "s%u", at);
    else
        snprintf(text, sizeof(text), "f%u", at - clients->habits.sessions);
    return model_id(clients->model, text);
}

static struct id *a_known_id(struct clients *clients)
{
    struct id *id = an_id(clients);
    for (unsigned tries = 0; model_current(id) == NULL && tries < 4; tries++)
        id = an_id(clients);
    return id;
}

static uint64_t a_seq(struct clients *clients, const struct life *life)
{
    if (life == NULL || life->n == 0)
        return 1 + rng_below(clients->rng, 20);
    if (rng_percent(clients->rng, 3))
        return life->n + rng_below(clients->rng, 50);
    return 1 + rng_below(clients->rng, life->n);
}

/* ---- sending */

static struct op *op_new(struct clients *clients, enum request_kind kind, struct id *id)
{
    struct op *op = arena_alloc(model_arena(clients->model), sizeof(*op));
    *op = (struct op){.kind = kind, .id = id};
    op->frontend = rng_below(clients->rng, clients->world->n);
    if (id == NULL)
        return op;
    op->life = model_current(id);
    op->deletes = id->deletes_sent;
    op->must_live =
        op->life != NULL && op->life->shown != 0 && id->deletes_open == 0 && !op->life->may_expire;
    op->known = op->life != NULL ? op->life->n : 0;
    op->least_seq = op->life != NULL ? op->life->acknowledged : 0;
    return op;
}

static struct request *request_make(struct op *op)
{
    struct request *request = request_new();
    request->kind = op->kind;
    request->token = (uint64_t)(uintptr_t)op;
    if (op->id != NULL)
        request->session = in_request(request, sim_str(op->id->text));
    return request;
}

/* False: there was no room for it, and it is gone. */
static bool op_send(struct clients *clients, struct op *op, struct request *request)
{
    struct mailbox *mailbox = &clients->world->mailboxes[op->frontend];
    int result = request->kind == REQUEST_LIST || request->kind == REQUEST_STATUS
                     ? mailbox_send_to(mailbox, request, (unsigned)op->from)
                     : mailbox_send(mailbox, request);
    if (result != 0) {
        request_free(request);
        return false;
    }
    clients->outstanding++;
    clients->sent++;
    op->before = clients->ops;
    clients->ops = op;
    return true;
}

/* ---- commands */

static void add_commands(struct clients *clients, struct request *request, struct batch *batch)
{
    request->commands = arena_alloc(&request->arena, batch->n * sizeof(*request->commands));
    request->commands_n = batch->n;
    request->batch = batch->many;
    request->atomic = batch->atomic;
    request->caller = in_request(request, STR("tester"));
    if (batch->key.p != NULL)
        request->key = in_request(request, batch->key);
    for (uint32_t i = 0; i < batch->n; i++) {
        const struct model_command *mine = model_command(clients->model, batch->first + i);
        struct request_command *command = &request->commands[i];
        *command = (struct request_command){.command = mine->command};
        if (batch->item_keys)
            command->key = in_request(request, mine->command.f.trace);
        if (batch->has_expected) {
            command->has_expected = true;
            command->expected_seq = batch->expected;
        }
    }
}

static struct op *send_batch(struct clients *clients, struct batch *batch)
{
    struct op *op = op_new(clients, REQUEST_COMMANDS, batch->id);
    struct request *request = request_make(op);
    op->batch = batch;
    add_commands(clients, request, batch);
    for (uint32_t i = 0; i < batch->n; i++) {
        const struct model_command *mine = model_command(clients->model, batch->first + i);
        op->known_applied = op->known_applied || mine->state == COMMAND_APPLIED;
    }
    if (batch->first_ms == 0)
        batch->first_ms = clients->clock->wall_ms;
    op->known_answer = batch->answer_life;
    op->creates = batch->creates;
    if (!op_send(clients, op, request))
        return NULL;
    batch->twice = batch->out != 0;
    batch->out++;
    batch->id->creates_open += op->creates;
    for (uint32_t i = 0; i < batch->n; i++) {
        struct model_command *mine = model_command(clients->model, batch->first + i);
        if (mine->state != COMMAND_APPLIED)
            mine->state = COMMAND_SENT;
    }
    sim_trace("  send c%u..%u to %s%s%s", batch->first, batch->first + batch->n - 1,
              batch->id->text, batch->key.p != NULL ? " with a key" : "",
              batch->atomic ? ", atomic" : "");
    return op;
}

static void add_command(struct clients *clients, struct batch *batch)
{
    struct core_command command;
    struct id *id = batch->id;
    bool fork = id->text[0] == 'f';
    uint64_t step = id->steps++;
    if (step > 5 && rng_percent(clients->rng, 80) && model_current(id) == NULL)
        step = 0; /* begin again */
    do
        generate_command(&clients->generator, id, fork ? step + 10 : step, &command);
    while (fork && command.type == CORE_SESSION_CREATE);
    if (command.type == CORE_SESSION_CREATE) {
        batch->creates = true;
        if (model_current(id) == NULL)
            id->steps = 1;
    }
    model_batch_add(clients->model, batch, &command);
}

static void send_commands(struct clients *clients, bool many)
{
    struct id *id = rng_percent(clients->rng, 70) ? a_known_id(clients) : an_id(clients);
    if (id->text[0] == 'f' && model_current(id) == NULL)
        return;
    struct batch *batch = model_batch_new(clients->model, id);
    unsigned n = many ? rng_between(clients->rng, 1, 12) : 1;
    for (unsigned i = 0; i < n; i++)
        add_command(clients, batch);
    batch->many = many;
    batch->atomic = many && rng_percent(clients->rng, 40);
    if (rng_percent(clients->rng, clients->habits.key_percent)) {
        char key[32];
        snprintf(key, sizeof(key), "k%u", batch->first);
        if (many && rng_percent(clients->rng, 40))
            batch->item_keys = true;
        else
            batch->key = arena_copy(model_arena(clients->model), sim_str(key));
    }
    const struct life *life = model_current(id);
    if (!many && life != NULL && rng_percent(clients->rng, clients->habits.expected_percent)) {
        batch->has_expected = true;
        batch->expected = life->shown + (rng_percent(clients->rng, 20) ? 1 : 0);
    }
    send_batch(clients, batch);
}

/* The same request once more, as a client does that has heard nothing, or was restarted itself. */
static void send_again(struct clients *clients)
{
    struct batch *batch = model_batches(clients->model);
    for (uint32_t back = rng_below(clients->rng, 40); back != 0 && batch != NULL; back--)
        batch = batch->next;
    while (batch != NULL &&
           (batch->n == 0 || batch->expired || (batch->key.p == NULL && !batch->item_keys)))
        batch = batch->next;
    if (batch != NULL && (batch->out == 0 || rng_percent(clients->rng, 20)))
        send_batch(clients, batch);
}

void clients_expire_keys(struct clients *clients)
{
    enum { ALMOST_MS = 20 * 60 * 60 * 1000 };
    for (struct batch *batch = model_batches(clients->model); batch != NULL; batch = batch->next) {
        if (clients->latest_wall_ms - batch->first_ms > ALMOST_MS)
            batch->expired = true;
    }
}

struct op *clients_probe(struct clients *clients, struct id *id)
{
    struct batch *batch = model_batch_new(clients->model, id);
    struct core_command command;
    if (model_current(id) == NULL) {
        generate_create(&clients->generator, id, &command);
        batch->creates = true;
    } else {
        command = (struct core_command){.type = CORE_AGENT_REGISTER};
        command.f.agent = STR("ada");
        command.f.description = sim_str("probed");
        command.f.given = UINT64_C(1) << CORE_FIELD_AGENT | UINT64_C(1) << CORE_FIELD_DESCRIPTION;
    }
    model_batch_add(clients->model, batch, &command);
    return send_batch(clients, batch);
}

static void send_delete(struct clients *clients)
{
    struct op *op = op_new(clients, REQUEST_DELETE, a_known_id(clients));
    if (op_send(clients, op, request_make(op))) {
        op->id->deletes_sent++;
        op->id->deletes_open++;
        sim_trace("  send delete %s", op->id->text);
    }
}

/* A fork's id has one request at a time, so that it is clear of whom it is the fork. One that is
 * there is asked for again as it was. */
static void send_fork(struct clients *clients)
{
    char text[16];
    if (clients->habits.forks == 0)
        return;
    snprintf(text, sizeof(text), "f%u", rng_below(clients->rng, clients->habits.forks));
    struct id *child = model_id(clients->model, text);
    struct life *there = model_current(child);
    struct life *parent = model_current(a_known_id(clients));
    if (there != NULL && rng_percent(clients->rng, 80))
        return;
    if (there != NULL)
        parent = there->parent;
    if (parent == NULL || parent->n == 0 || parent->id == child || child->creates_open != 0)
        return;
    struct op *op = op_new(clients, REQUEST_FORK, child);
    struct request *request = request_make(op);
    op->parent = parent;
    op->from = rng_percent(clients->rng, 50) ? parent->n : 1 + rng_below(clients->rng, parent->n);
    if (there != NULL)
        op->from = there->at;
    request->parent = in_request(request, sim_str(parent->id->text));
    request->at = (struct request_at){.seq = op->from, .given = true};
    if (clients->habits.delete != 0 || clients->generator.ttl_percent != 0 ||
        rng_percent(clients->rng, 30))
        request->at.epoch = in_request(request, sim_str(parent->epoch));
    if (!op_send(clients, op, request))
        return;
    child->creates_open++;
    child->fork_parent = parent;
    child->fork_at = op->from;
    sim_trace("  send fork %s of %s-%s at %llu", child->text, parent->id->text, parent->epoch,
              (unsigned long long)op->from);
}

/* ---- reading */

void clients_fill_view(struct clients *clients, struct request *request, struct op *op)
{
    (void)clients;
    if (op->from != 0)
        request->at = (struct request_at){.seq = op->from, .given = true};
}

void clients_fill_events(struct clients *clients, struct request *request, struct op *op)
{
    (void)clients;
    request->after = op->from;
    request->has_after = true;
    request->limit = (uint32_t)op->to;
}

void clients_fill_proof(struct clients *clients, struct request *request, struct op *op)
{
    (void)clients;
    if (op->from != 0)
        request->at = (struct request_at){.seq = op->from, .given = true};
}

static void fill_diff(struct clients *clients, struct request *request, struct op *op)
{
    (void)clients;
    request->at = (struct request_at){.seq = op->from, .given = true};
    request->to = (struct request_at){.seq = op->to, .given = true};
}

static void fill_page(struct clients *clients, struct request *request, struct op *op)
{
    request->limit = rng_between(clients->rng, 1, LIMIT);
    op->to = request->limit;
    if (rng_percent(clients->rng, 60)) {
        request->after = op->from;
        request->has_after = true;
    }
    if (rng_percent(clients->rng, 30)) {
        request->before = op->from + rng_below(clients->rng, 20);
        request->has_before = true;
    }
}

static void fill_some_events(struct clients *clients, struct request *request, struct op *op)
{
    fill_page(clients, request, op);
    if (rng_percent(clients->rng, 20))
        request->descending = true;
    if (rng_percent(clients->rng, 20))
        request->types = UINT32_C(1) << CORE_MESSAGE_SEND;
    if (rng_percent(clients->rng, 15))
        request->agent = in_request(request, STR("ada"));
    op->whole = request->types == 0 && request->agent.p == NULL && !request->descending;
    op->from = request->has_after ? request->after : 0;
}

static void fill_export(struct clients *clients, struct request *request, struct op *op)
{
    op->from -= rng_percent(clients->rng, 30) || op->from == 0 ? op->from : 1;
    request->after = op->from;
    request->has_after = true;
}

static void fill_messages(struct clients *clients, struct request *request, struct op *op)
{
    fill_page(clients, request, op);
    request->thread = in_request(request, STR("x"));
}

struct op *clients_ask(struct clients *clients, enum request_kind kind, struct id *id,
                       clients_fill *fill, uint64_t from, uint64_t to)
{
    struct op *op = op_new(clients, kind, id);
    struct request *request = request_make(op);
    op->from = from;
    op->to = to;
    op->audit = true;
    op->whole = kind == REQUEST_EVENTS;
    request->limit = 1000;
    if (fill != NULL)
        fill(clients, request, op);
    return op_send(clients, op, request) ? op : NULL;
}

static void send_read(struct clients *clients, enum request_kind kind, clients_fill *fill)
{
    struct id *id = a_known_id(clients);
    const struct life *life = model_current(id);
    uint64_t from = fill != NULL ? a_seq(clients, life) : 0;
    struct op *op = clients_ask(clients, kind, id, fill, from, a_seq(clients, life));
    if (op != NULL)
        op->audit = false;
}

static void send_to_shard(struct clients *clients, enum request_kind kind)
{
    struct op *op =
        clients_ask(clients, kind, NULL, NULL, rng_below(clients->rng, clients->world->n), 0);
    if (op != NULL)
        op->audit = false;
}

/* ---- the inbox */

static void send_inbox(struct clients *clients)
{
    static const char *const agents[] = {"ada", "bob", "cy", "dee"};
    struct op *op = op_new(clients, REQUEST_INBOX, a_known_id(clients));
    struct request *request = request_make(op);
    op->reader = sim_str(agents[rng_below(clients->rng, 4)]);
    request->limit = rng_between(clients->rng, 1, 10);
    request->inbox.agent = in_request(request, op->reader);
    request->inbox.limit = request->limit;
    request->inbox.mentions = rng_percent(clients->rng, 20);
    op->inbox = request->inbox;
    op->inbox.agent = op->reader;
    request->wait = clients->waits_n < CLIENTS_WAITS && rng_percent(clients->rng, 40);
    op->waits = request->wait;
    if (!op_send(clients, op, request))
        return;
    if (op->waits)
        clients->waits[clients->waits_n++] = op;
}

static void cancel(struct clients *clients, unsigned at)
{
    struct op *wait = clients->waits[at];
    struct op *op = op_new(clients, REQUEST_CANCEL, wait->id);
    struct request *request = request_make(op);
    op->frontend = wait->frontend;
    request->feed = request->token;
    request->token = (uint64_t)(uintptr_t)wait;
    op_send(clients, op, request);
}

void clients_cancel_waits(struct clients *clients)
{
    for (unsigned i = 0; i < clients->waits_n; i++)
        cancel(clients, i);
}

/* ---- at random */

static void act_command(struct clients *clients)
{
    send_commands(clients, false);
}

static void act_batch(struct clients *clients)
{
    send_commands(clients, true);
}

static void act_view(struct clients *clients)
{
    send_read(clients, REQUEST_VIEW, NULL);
}

static void act_past(struct clients *clients)
{
    send_read(clients, REQUEST_VIEW, clients_fill_view);
}

static void act_diff(struct clients *clients)
{
    send_read(clients, REQUEST_DIFF, fill_diff);
}

static void act_proof(struct clients *clients)
{
    send_read(clients, REQUEST_PROOF, clients_fill_proof);
}

static void act_events(struct clients *clients)
{
    if (rng_percent(clients->rng, 15))
        send_read(clients, REQUEST_EXPORT, fill_export);
    else
        send_read(clients, REQUEST_EVENTS, fill_some_events);
}

static void act_messages(struct clients *clients)
{
    send_read(clients, REQUEST_MESSAGES, fill_messages);
}

static void act_inbox(struct clients *clients)
{
    if (clients->waits_n != 0 && rng_percent(clients->rng, 40))
        cancel(clients, rng_below(clients->rng, clients->waits_n));
    else
        send_inbox(clients);
}

static void fill_touch(struct clients *clients, struct request *request, struct op *op)
{
    static const char *const agents[] = {"ada", "bob", "cy", "dee"};
    (void)op;
    request->agent = in_request(request, sim_str(agents[rng_below(clients->rng, 4)]));
}

static void act_touch(struct clients *clients)
{
    send_read(clients, REQUEST_TOUCH, fill_touch);
}

static void act_list(struct clients *clients)
{
    send_to_shard(clients, REQUEST_LIST);
}

static void act_status(struct clients *clients)
{
    send_to_shard(clients, REQUEST_STATUS);
}

void clients_act(struct clients *clients)
{
    const struct client_habits *habits = &clients->habits;
    const struct {
        uint32_t weight;
        void (*act)(struct clients *clients);
    } acts[] = {
        {habits->command, act_command},   {habits->batch, act_batch},
        {habits->again, send_again},      {habits->delete, send_delete},
        {habits->fork, send_fork},        {habits->view, act_view},
        {habits->past, act_past},         {habits->diff, act_diff},
        {habits->proof, act_proof},       {habits->events, act_events},
        {habits->messages, act_messages}, {habits->inbox, act_inbox},
        {habits->list, act_list},         {habits->follow, feeds_act},
        {habits->status, act_status},     {habits->touch, act_touch},
    };
    uint32_t sum = 0;
    unsigned at = 0;
    for (unsigned i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
        sum += acts[i].weight;
    if (clients->outstanding >= habits->outstanding_max || sum == 0)
        return;
    uint32_t drawn = rng_below(clients->rng, sum);
    for (; drawn >= acts[at].weight; at++)
        drawn -= acts[at].weight;
    acts[at].act(clients);
}

void clients_attach(struct clients *clients, struct world *world)
{
    clients->world = world;
    clients->outstanding = 0;
    clients->ops = NULL;
    clients->waits_n = 0;
    feeds_forget(clients);
}

/* ---- what has come */

static void on_reply(void *ctx, struct request *request)
{
    struct clients *clients = ctx;
    clients->outstanding--;
    clients->answered++;
    if (request->kind == REQUEST_FOLLOW || request->kind == REQUEST_UNFOLLOW)
        feed_on_reply(clients, request);
    else if (request->kind != REQUEST_CANCEL)
        reply_take(clients, (struct op *)(uintptr_t)request->token, request);
    request_free(request);
}

static void on_frame(void *ctx, uint64_t feed, struct frame *frame)
{
    feed_on_frame(ctx, feed_find(ctx, feed), frame);
}

static void on_notice(void *ctx, uint64_t feed, enum mailbox_notice notice)
{
    feed_on_notice(ctx, feed_find(ctx, feed), notice);
}

unsigned clients_drain(struct clients *clients, unsigned frontend, unsigned max)
{
    const struct mailbox_handlers handlers = {clients, on_reply, on_frame, on_notice, NULL};
    return mailbox_drain(&clients->world->mailboxes[frontend], &handlers, max);
}
