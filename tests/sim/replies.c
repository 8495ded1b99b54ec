/*
 * replies: what an answer says, told to the model and compared with what was known when the request
 * was sent.
 */
#include "tests/sim/clients_internal.h"

#include <stdio.h>
#include <stdlib.h>

static const char *kind_name(enum request_kind kind)
{
    static const char *const names[] = {
        [REQUEST_COMMANDS] = "commands", [REQUEST_DELETE] = "delete", [REQUEST_VIEW] = "view",
        [REQUEST_MESSAGES] = "messages", [REQUEST_EVENTS] = "events", [REQUEST_INBOX] = "inbox",
        [REQUEST_LIST] = "list",         [REQUEST_STATUS] = "status", [REQUEST_DIFF] = "diff",
        [REQUEST_PROOF] = "proof",       [REQUEST_FORK] = "fork",     [REQUEST_EXPORT] = "export"};
    return kind < sizeof(names) / sizeof(names[0]) && names[kind] != NULL ? names[kind] : "?";
}

void clients_trace_outstanding(const struct clients *clients)
{
    for (const struct op *op = clients->ops; op != NULL; op = op->before) {
        if (!op->answered && op->kind != REQUEST_CANCEL)
            sim_trace("  out: %s of %s, by frontend %u", kind_name(op->kind),
                      op->id != NULL ? op->id->text : "", op->frontend);
    }
}

static const char *id_text(const struct op *op)
{
    return op->id != NULL ? op->id->text : "";
}

/* Of the life that an answer speaks of. */
static struct life *life_of(struct clients *clients, struct op *op, const struct request *request)
{
    if (request->epoch[0] == '\0')
        sim_violation("life", "the answer to %s %s names no epoch", kind_name(op->kind),
                      id_text(op));
    struct life *life = model_life(clients->model, op->id, request->epoch);
    if (op->must_live && op->id->deletes_sent == op->deletes && life != op->life)
        sim_violation("life", "%s of %s is answered for epoch %s, and nobody has ended %s",
                      kind_name(op->kind), id_text(op), life->epoch, op->life->epoch);
    if (op->life != NULL && life != op->life && model_epoch_above(op->life->epoch, life->epoch))
        sim_violation("life", "%s of %s is answered for epoch %s, which came before %s",
                      kind_name(op->kind), id_text(op), life->epoch, op->life->epoch);
    return op->answer_life = life;
}

/* ---- errors */

bool clients_disk_is_bad(const struct clients *clients)
{
    return atomic_load(&clients->world->failed) != NULL || clients->read_faults ||
           clients->rotten || disk_is_dead(clients->world->disk);
}

static bool is_excused(const struct clients *clients, const struct op *op, unsigned error)
{
    switch (error) {
    case REQUEST_E_UNAVAILABLE:
        return clients_disk_is_bad(clients);
    case CORE_E_INVARIANT:
        return clients_disk_is_bad(clients) ||
               (clients->breaks && op->kind == REQUEST_COMMANDS && !op->audit);
    case REQUEST_E_QUARANTINED:
        return clients_disk_is_bad(clients) || (clients->breaks && !op->audit);
    case REQUEST_E_OVERLOADED:
        return !op->audit;
    case REQUEST_E_NO_SPACE:
        return clients->was_full;
    default:
        return true;
    }
}

static void check_unknown(const struct op *op)
{
    if (op->must_live && op->id->deletes_sent == op->deletes)
        sim_violation("life", "%s says that there is no session %s, whose life %s nobody has ended",
                      kind_name(op->kind), id_text(op), op->life->epoch);
}

static void check_gone(struct clients *clients, const struct op *op, const struct request *request)
{
    if (!model_history_may_go(clients->model) && op->must_live &&
        op->id->deletes_sent == op->deletes)
        sim_violation("gone", "%s of %s from %llu says 410 (oldest %llu), and nothing may go: %s",
                      kind_name(op->kind), id_text(op), (unsigned long long)op->from,
                      (unsigned long long)request->oldest, request->refusal.detail);
}

static void take_error(struct clients *clients, struct op *op, const struct request *request)
{
    clients->errors++;
    sim_trace("  %s %s: error %u: %s", kind_name(op->kind), id_text(op), request->error,
              request->refusal.detail);
    if (!is_excused(clients, op, request->error))
        sim_violation("refused", "%s of %s is answered with error %u: %s", kind_name(op->kind),
                      id_text(op), request->error, request->refusal.detail);
    if (request->error == CORE_E_UNKNOWN_SESSION && op->kind != REQUEST_FORK)
        check_unknown(op);
    if (request->error == REQUEST_E_GONE)
        check_gone(clients, op, request);
}

/* ---- commands */

/* What says neither that it was done nor that it was not. */
static bool is_uncertain(const struct clients *clients, unsigned error)
{
    return error == REQUEST_E_UNAVAILABLE || error == REQUEST_E_GONE ||
           (error == CORE_E_INVARIANT && clients_disk_is_bad(clients)); /* else: nothing is kept */
}

/* Answered so that it has led to no event, unless it goes out again. */
static void command_void(struct clients *clients, struct batch *batch, uint32_t i)
{
    struct model_command *mine = model_command(clients->model, batch->first + i);
    if (mine->state == COMMAND_SENT && batch->out == 0 && !batch->open && !batch->twice)
        mine->state = COMMAND_VOID;
}

/* Whether an earlier answer to the same key has to be given again. */
static bool key_holds(const struct batch *batch)
{
    return !batch->expired;
}

static void check_replay(const struct op *op, const struct request *request)
{
    const struct batch *batch = op->batch;
    struct str body = buf_str(&request->body);
    if (batch->key.p == NULL || op->known_answer != op->answer_life ||
        batch->answer_life != op->answer_life)
        return;
    if (!request->replayed && key_holds(batch))
        sim_violation("key", "c%u, answered before, is done again: %.*s", batch->first,
                      SIM_STR(body));
    /* Of a day ago it may be done again, and then, the clock having gone back, the first answer be
     * given once more. */
    if (request->replayed && key_holds(batch) && !str_equal(body, batch->answer))
        sim_violation("key", "c%u was answered with\n  %.*s\nand is with\n  %.*s", batch->first,
                      SIM_STR(batch->answer), SIM_STR(body));
}

static void keep_answer(struct clients *clients, struct op *op, const struct request *request)
{
    struct batch *batch = op->batch;
    if (batch->key.p == NULL || request->replayed)
        return;
    batch->answer = arena_copy(model_arena(clients->model), buf_str(&request->body));
    batch->answer_life = op->answer_life;
}

static void take_single(struct clients *clients, struct op *op, const struct request *request)
{
    struct str body = buf_str(&request->body);
    struct str events = text_array(body, "events"), event;
    uint32_t number = op->batch->first;
    const struct model_command *mine = model_command(clients->model, number);
    if (!text_next_object(&events, &event)) {
        if (mine->state == COMMAND_APPLIED && mine->life == op->answer_life && op->known_applied &&
            op->batch->key.p != NULL && key_holds(op->batch))
            sim_violation("key", "c%u is event %llu, and is answered as having done nothing",
                          number, (unsigned long long)mine->seq);
        command_void(clients, op->batch, 0);
        return;
    }
    uint64_t seq = text_number(event, "seq");
    if (op->batch->has_expected && seq != op->batch->expected + 1)
        sim_violation("acknowledged", "c%u expected seq %llu and became event %llu", number,
                      (unsigned long long)op->batch->expected, (unsigned long long)seq);
    model_acknowledge(clients->model, number, op->answer_life, seq);
    model_learn(clients->model, op->answer_life, event);
}

static void take_result(struct clients *clients, struct op *op, uint32_t i, struct str result,
                        uint64_t *before)
{
    struct batch *batch = op->batch;
    struct model_command *mine = model_command(clients->model, batch->first + i);
    uint64_t seq = text_number(result, "seq");
    bool replayed = sim_holds(result, STR("\"replayed\":true"));
    if (text_number(result, "status") != 200) {
        command_void(clients, batch, i);
        return;
    }
    bool known = mine->state == COMMAND_APPLIED && mine->life == op->answer_life;
    if (replayed && known && mine->seq != seq)
        sim_violation("key", "c%u is event %llu, and is answered again with %llu", batch->first + i,
                      (unsigned long long)mine->seq, (unsigned long long)seq);
    if (!replayed &&
        (text_string(result, "id").p != NULL || (*before != 0 && seq == *before + 1))) {
        model_acknowledge(clients->model, batch->first + i, op->answer_life, seq);
    } else if (!replayed && *before != 0) {
        if (seq != *before)
            sim_violation("gap", "a batch goes from %llu to %llu at c%u",
                          (unsigned long long)*before, (unsigned long long)seq, batch->first + i);
        command_void(clients, batch, i);
    }
    if (!replayed && *before == 0)
        batch->open = true; /* the first may have led to an event or not: its seq does not say */
    if (!replayed)
        *before = seq;
}

static void take_many(struct clients *clients, struct op *op, const struct request *request)
{
    struct str rest = text_array(buf_str(&request->body), "results"), result;
    uint64_t before = 0;
    uint32_t i = 0;
    if (request->replayed)
        return; /* compared as a whole */
    for (; i < op->batch->n && text_next_object(&rest, &result); i++)
        take_result(clients, op, i, result, &before);
    if (i != op->batch->n)
        sim_violation("acknowledged", "a batch of %u has %u results: %.*s", op->batch->n, i,
                      SIM_STR(buf_str(&request->body)));
}

static void refused_commands(struct clients *clients, struct op *op, const struct request *request)
{
    struct batch *batch = op->batch;
    bool again = op->life != NULL && batch->key.p != NULL && op->known_answer == op->life &&
                 op->must_live && op->id->deletes_sent == op->deletes && key_holds(batch);
    if (is_uncertain(clients, request->error)) {
        batch->open = true;
        return;
    }
    if (again && request->error < REQUEST_E_FIRST + 1 && request->error != CORE_E_INVARIANT)
        sim_violation("key", "c%u was answered before, and is refused: %s", batch->first,
                      request->refusal.detail);
    for (uint32_t i = 0; i < batch->n && batch->answer_life == NULL; i++)
        command_void(clients, batch, i);
}

static void take_commands(struct clients *clients, struct op *op, const struct request *request)
{
    struct batch *batch = op->batch;
    if (batch->out != 0)
        batch->out--;
    if (op->creates && !is_uncertain(clients, request->error) && op->id->creates_open != 0)
        op->id->creates_open--;
    if (request->error != 0) {
        refused_commands(clients, op, request);
        return;
    }
    sim_trace("  c%u..%u on %s-%s: seq %llu%s", batch->first, batch->first + batch->n - 1,
              id_text(op), request->epoch, (unsigned long long)request->seq,
              request->replayed ? " again" : "");
    if (request->epoch[0] == '\0')
        return; /* a batch in which everything was refused, to a session that is not there */
    life_of(clients, op, request);
    check_replay(op, request);
    if (batch->many)
        take_many(clients, op, request);
    else
        take_single(clients, op, request);
    keep_answer(clients, op, request);
    if (request->seq != 0)
        model_shown(op->answer_life, request->seq);
}

static void take_delete(struct clients *clients, struct op *op, const struct request *request)
{
    if (is_uncertain(clients, request->error))
        return;
    if (op->id->deletes_open != 0)
        op->id->deletes_open--;
    if (request->error == 0) {
        struct life *life = model_life(clients->model, op->id, request->epoch);
        sim_trace("  deleted %s-%s", op->id->text, life->epoch);
        model_ended(clients->model, life);
    }
}

static void take_fork(struct clients *clients, struct op *op, const struct request *request)
{
    if (is_uncertain(clients, request->error))
        return;
    if (op->id->creates_open != 0)
        op->id->creates_open--;
    if (request->error != 0)
        return;
    struct life *life = life_of(clients, op, request);
    sim_trace("  forked %s-%s%s", op->id->text, life->epoch, request->again ? " (again)" : "");
    if (life->parent != op->parent || life->at != op->from)
        sim_violation("fold", "%s-%s is acknowledged as a fork of %s at %llu, and is one at %llu",
                      op->id->text, life->epoch, op->parent->id->text, (unsigned long long)op->from,
                      (unsigned long long)life->at);
    model_shown(life, op->from + 1);
    life->acknowledged = life->acknowledged > op->from + 1 ? life->acknowledged : op->from + 1;
}

/* ---- reading */

static void check_least(const struct op *op, const struct request *request)
{
    if (op->answer_life == op->life && request->seq < op->least_seq)
        sim_violation("stale", "%s of %s-%s stands at %llu, and %llu was acknowledged before",
                      kind_name(op->kind), id_text(op), op->life->epoch,
                      (unsigned long long)request->seq, (unsigned long long)op->least_seq);
}

static void take_view(struct clients *clients, struct op *op, const struct request *request)
{
    struct life *life = life_of(clients, op, request);
    struct str body = buf_str(&request->body);
    uint64_t seq = text_number(body, "seq");
    if (op->from == 0)
        check_least(op, request);
    else if (seq != op->from)
        sim_violation("fold", "the view of %s at %llu is of %llu", id_text(op),
                      (unsigned long long)op->from, (unsigned long long)seq);
    if (seq == 0)
        sim_violation("shown", "a view of %s at seq 0", id_text(op));
    model_show_view(clients->model, life, seq, body);
}

static void take_proof(struct clients *clients, struct op *op, const struct request *request)
{
    struct life *life = life_of(clients, op, request);
    struct str body = buf_str(&request->body);
    uint64_t seq = text_number(body, "seq");
    if (op->from != 0 && seq != op->from)
        sim_violation("fold", "the proof of %s at %llu is of %llu: %.*s", id_text(op),
                      (unsigned long long)op->from, (unsigned long long)seq, SIM_STR(body));
    model_show_proof(clients->model, life, seq, body);
}

static void take_diff(struct clients *clients, struct op *op, const struct request *request)
{
    struct life *life = life_of(clients, op, request);
    struct core_session *from = model_state_at(clients->model, life, op->from);
    struct core_session *to = model_state_at(clients->model, life, op->to);
    clients->text.n = 0;
    if (from != NULL && to != NULL) {
        core_diff(from, to, &clients->text);
        if (!sim_holds(buf_str(&request->body), buf_str(&clients->text)))
            sim_violation("fold", "the diff of %s-%s from %llu to %llu is\n  %.*s\nand not\n  %.*s",
                          id_text(op), life->epoch, (unsigned long long)op->from,
                          (unsigned long long)op->to, SIM_STR(buf_str(&request->body)),
                          SIM_STR(buf_str(&clients->text)));
    }
    if (from != NULL)
        core_session_free(from);
    if (to != NULL)
        core_session_free(to);
}

static void take_events(struct clients *clients, struct op *op, const struct request *request)
{
    struct life *life = life_of(clients, op, request);
    struct str rest = text_array(buf_str(&request->body), "events"), event;
    uint64_t at = op->from;
    for (; text_next_object(&rest, &event); op->n++) {
        uint64_t seq = text_number(event, "seq");
        if (op->whole && seq != at + 1)
            sim_violation("gap", "events of %s-%s go from %llu to %llu", id_text(op), life->epoch,
                          (unsigned long long)at, (unsigned long long)seq);
        at = seq;
        model_learn(clients->model, life, event);
        clients->events_seen++;
    }
    op->last = at;
}

/* Lines of an export, after its head: seq, event, bytes and chain. */
static void take_export(struct clients *clients, struct op *op, const struct request *request)
{
    struct life *life = life_of(clients, op, request);
    struct str rest = buf_str(&request->body), line, event;
    uint64_t at = op->from;
    while (text_next_object(&rest, &line)) {
        if (text_number(line, "version") != 0)
            continue;
        struct str inside = {line.p + 1, line.n - 1};
        uint64_t seq = text_number(line, "seq");
        if (seq != at + 1 || !text_next_object(&inside, &event))
            sim_violation("gap", "an export of %s-%s goes from %llu to %.*s", id_text(op),
                          life->epoch, (unsigned long long)at, SIM_STR(line));
        at = seq;
        model_learn(clients->model, life, event);
        model_show_chain(clients->model, life, seq, line);
    }
}

static void take_messages(struct clients *clients, struct op *op, const struct request *request)
{
    struct life *life = life_of(clients, op, request);
    struct str rest = text_array(buf_str(&request->body), "messages"), message;
    while (text_next_object(&rest, &message)) {
        uint64_t seq = text_number(message, "seq");
        model_shown(life, seq);
        if (seq > life->n)
            continue;
        struct core_event event;
        struct arena scratch = {0};
        struct str in = life->events[seq - 1].bytes;
        core_event_decode(&in, &scratch, &event);
        event.seq = seq;
        event.ts_ms = life->events[seq - 1].ts_ms;
        clients->text.n = 0;
        if (event.type == CORE_MESSAGE_SEND)
            core_message_json(&event, false, &clients->text);
        if (!str_equal(buf_str(&clients->text), message))
            sim_violation("fold", "message %llu of %s-%s is\n  %.*s\nand not\n  %.*s",
                          (unsigned long long)seq, id_text(op), life->epoch, SIM_STR(message),
                          SIM_STR(buf_str(&clients->text)));
        arena_free(&scratch);
    }
}

static void keep_cursor(struct clients *clients, struct op *op, struct str body)
{
    struct str cursor = text_string(body, "cursor");
    unsigned slot = rng_below(clients->rng, 2);
    if (cursor.p == NULL || cursor.n >= sizeof(op->id->cursors[0]))
        return;
    snprintf(op->id->cursors[slot], sizeof(op->id->cursors[0]), "%.*s", SIM_STR(cursor));
    op->id->readers[slot] = op->reader;
}

static void take_inbox(struct clients *clients, struct op *op, const struct request *request)
{
    struct life *life = life_of(clients, op, request);
    struct str body = buf_str(&request->body);
    struct core_inbox inbox;
    keep_cursor(clients, op, body);
    /* Where it went on meanwhile, an answer from the log may lack what came last. */
    if (op->waits || life != op->life || request->seq != life->n || op->known != life->n ||
        life->core == NULL)
        return;
    core_inbox_begin(&inbox, &op->inbox);
    if (core_inbox_from_state(life->core, &inbox) == 0) {
        clients->text.n = 0;
        core_inbox_finish(life->core, &inbox, &clients->text);
        if (!str_equal(buf_str(&clients->text), body))
            sim_violation("fold", "an inbox of %s-%s at %llu is\n  %.*s\nand not\n  %.*s",
                          id_text(op), life->epoch, (unsigned long long)life->n, SIM_STR(body),
                          SIM_STR(buf_str(&clients->text)));
    }
    core_inbox_free(&inbox);
}

static void forget_wait(struct clients *clients, const struct op *op)
{
    for (unsigned i = 0; i < clients->waits_n; i++) {
        if (clients->waits[i] == op)
            clients->waits[i--] = clients->waits[--clients->waits_n];
    }
}

static void take_list(struct clients *clients, struct op *op, const struct request *request)
{
    struct str rest = buf_str(&request->body), object;
    for (; text_next_object(&rest, &object); op->n++) {
        char id[CORE_ID_BYTES + 1], epoch[CORE_EPOCH_BYTES + 1];
        snprintf(id, sizeof(id), "%.*s", SIM_STR(text_string(object, "id")));
        snprintf(epoch, sizeof(epoch), "%.*s", SIM_STR(text_string(object, "epoch")));
        struct life *life = model_life(clients->model, model_id(clients->model, id), epoch);
        uint64_t seq = text_number(object, "seq");
        model_shown(life, seq);
        if (op->audit && life->state == LIFE_ENDED)
            sim_violation("life", "a list holds %s-%s, which was deleted", id, epoch);
        bool newer = seq > life->n && clients->generator.attended; /* a lease, just now */
        if (op->audit && seq != life->n && !newer && !life->unknown_before && !clients->rotten)
            sim_violation("list", "%s-%s stands at %llu, and in a list at %llu", id, epoch,
                          (unsigned long long)life->n, (unsigned long long)seq);
    }
}

void reply_take(struct clients *clients, struct op *op, struct request *request)
{
    op->answered = true;
    op->error = request->error;
    op->seq = request->seq;
    op->oldest = request->oldest;
    op->gone = request->error == REQUEST_E_GONE;
    if (op->waits)
        forget_wait(clients, op);
    if (request->error != 0)
        take_error(clients, op, request);
    if (op->kind == REQUEST_COMMANDS) {
        take_commands(clients, op, request);
        return;
    }
    if (op->kind == REQUEST_DELETE || op->kind == REQUEST_FORK) {
        (op->kind == REQUEST_DELETE ? take_delete : take_fork)(clients, op, request);
        return;
    }
    if (request->error != 0)
        return;
    switch (op->kind) {
    case REQUEST_VIEW:
        take_view(clients, op, request);
        break;
    case REQUEST_PROOF:
        take_proof(clients, op, request);
        break;
    case REQUEST_DIFF:
        take_diff(clients, op, request);
        break;
    case REQUEST_EVENTS:
        take_events(clients, op, request);
        break;
    case REQUEST_EXPORT:
        take_export(clients, op, request);
        break;
    case REQUEST_MESSAGES:
        take_messages(clients, op, request);
        break;
    case REQUEST_INBOX:
        take_inbox(clients, op, request);
        break;
    case REQUEST_LIST:
        take_list(clients, op, request);
        break;
    default:
        break;
    }
}
