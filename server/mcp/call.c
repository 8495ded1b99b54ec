#include "server/auth/guard.h"
#include "server/mcp/internal.h"

#include <stdlib.h>

enum {
    CALL_BLOCK_BYTES = 1024, /* of a call's memory: thousands of them wait at once */
};

/* A wait that is at the shard. In the call's arena. */
struct mcp_wait {
    struct timer timer;
    struct mcp_call *call;
    int64_t began_ms, until_ms, told_ms;
};

/* A request that is to be sent again behind a registration. In the call's arena. */
struct mcp_again {
    struct request *request; /* between its two tries */
    mcp_on_reply *on_reply;
    int64_t wait_ms; /* < 0: it does not wait */
};

static struct mcp_face *face_of(const struct mcp_call *call)
{
    return &call->frontend->mcp;
}

/* ---- names */

static const char *const level_names[MCP_LEVEL_NONE] = {
    "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency",
};

enum mcp_level mcp_level_of(struct str name)
{
    unsigned i = 0;
    while (i < MCP_LEVEL_NONE &&
           !str_equal(name, (struct str){level_names[i], strlen(level_names[i])}))
        i++;
    return (enum mcp_level)i;
}

/* ---- from birth to death */

struct mcp_call *mcp_call_new(struct mcp_sink *sink, const struct mcp_caller *caller,
                              const struct rpc_message *message)
{
    struct mcp_call *call = mem_alloc(sizeof(*call));
    struct arena *arena = &call->arena;

    *call = (struct mcp_call){
        .frontend = sink->frontend,
        .arena.block_bytes = CALL_BLOCK_BYTES,
        .version = caller->version,
        .toolset = caller->toolset,
        .client_can = caller->client_can,
        .level = caller->level,
        .bound = caller->session.p != NULL,
        .params = message->params,
        .sink = sink,
        .next = sink->calls,
    };
    call->id = arena_copy(arena, message->id);
    call->method = arena_copy(arena, message->method);
    if (caller->session.p != NULL)
        call->session = arena_copy(arena, caller->session);
    if (caller->agent.p != NULL)
        call->agent = arena_copy(arena, caller->agent);
    if (caller->owner.p != NULL)
        call->owner = arena_copy(arena, caller->owner);
    if (call->next != NULL)
        call->next->previous = call;
    sink->calls = call;
    call->token = slots_add(&face_of(call)->calls, call);
    return call;
}

static void end_wait(struct mcp_call *call)
{
    struct frontend *frontend = call->frontend;
    struct request *request = request_new();

    request->kind = REQUEST_CANCEL;
    request->session = arena_copy(&request->arena, call->session);
    request->token = call->token | MCP_TOKEN;
    outbox_send(&frontend->outbox, frontend->mailbox, request);
}

static void forget_wait(struct mcp_call *call)
{
    timers_clear(&call->frontend->timers, &call->wait->timer);
    figure_add(&call->frontend->figures->waiting, -1);
    call->wait = NULL;
}

void mcp_call_drop(struct mcp_call *call)
{
    struct mcp_sink *sink = call->sink;

    if (call->wait != NULL) {
        end_wait(call);
        forget_wait(call);
    }
    if (call->asking != NULL)
        mcp_asking_forget(call);
    if (call->again != NULL && call->again->request != NULL)
        request_free(call->again->request);
    if (call->written != NULL) { /* it never answered */
        call->written->on_written(call->frontend, call->written->data, false);
        free(call->written);
    }
    slots_remove(&face_of(call)->calls, call->token);
    if (call->previous != NULL)
        call->previous->next = call->next;
    else
        sink->calls = call->next;
    if (call->next != NULL)
        call->next->previous = call->previous;
    arena_free(&call->arena);
    free(call);
    sink_left(sink);
}

struct mcp_call *mcp_call_find(struct frontend *frontend, struct str owner, struct str id)
{
    const struct slots *calls = &frontend->mcp.calls;
    for (uint32_t i = 0; i < calls->n; i++) {
        struct mcp_call *call = slots_at(calls, i);
        if (call != NULL && call->owner.p != NULL && str_equal(call->owner, owner) &&
            str_equal(call->id, id))
            return call;
    }
    return NULL;
}

/* ---- asking shards */

struct request *mcp_request(struct mcp_call *call, enum request_kind kind)
{
    struct request *request = kind == REQUEST_INBOX ? request_new_small() : request_new();
    request->kind = kind;
    request->session = arena_copy(&request->arena, call->session);
    return request;
}

bool mcp_send(struct mcp_call *call, struct request *request, mcp_on_reply *on_reply)
{
    struct core_refusal why;

    assert(call->on_reply == NULL);
    call->params = NULL;
    call->input_responses = NULL;
    int rc = guard_request(call->sink->grant, request, &why);
    if (rc != 0) {
        request_free(request);
        mcp_refuse(call, (unsigned)rc, why.field, why.detail);
        return false;
    }
    request->token = call->token | MCP_TOKEN;
    if (mailbox_send(call->frontend->mailbox, request) != 0) {
        request_free(request);
        mcp_refuse(call, REQUEST_E_OVERLOADED, NULL, "Too many requests are on their way.");
        return false;
    }
    call->on_reply = on_reply;
    if (call->sink->exchange != NULL && !call->sink->exchange->answered)
        exchange_stay_polled(call->sink->exchange);
    return true;
}

/* A reply that no call waits for. */
static void take_stray(struct frontend *frontend, struct request *request)
{
    if (request->kind == REQUEST_INBOX && request->handed != 0)
        mcp_give_back(frontend, request); /* nobody is there to be handed it */
    if (request->kind == REQUEST_COMMANDS && request->error == CORE_E_REFUSED &&
        request->thread.p != NULL)
        coral_read_past(frontend, request);
    request_free(request);
}

void mcp_on_shard_reply(struct frontend *frontend, struct request *request)
{
    struct mcp_call *call = slots_find(&frontend->mcp.calls, request->token & ~MCP_TOKEN);

    if (call == NULL || call->on_reply == NULL || request->kind == REQUEST_CANCEL) {
        take_stray(frontend, request);
        return;
    }
    mcp_on_reply *on_reply = call->on_reply;
    call->on_reply = NULL;
    if (call->wait != NULL)
        forget_wait(call);
    guard_reply(call->sink->grant, request);
    on_reply(call, request);
}

void mcp_give_back(struct frontend *frontend, const struct request *answer)
{
    struct request *request = request_new();
    request->kind = REQUEST_UNHAND;
    request->session = arena_copy(&request->arena, answer->session);
    request->agent = arena_copy(&request->arena, answer->inbox.agent);
    request->handed = answer->handed;
    request->token = MCP_TOKEN;
    outbox_send(&frontend->outbox, frontend->mailbox, request);
}

/* ---- … as an agent, who is registered when it is first heard of */

static bool send_wait(struct mcp_call *call, struct request *request, int64_t wait_ms,
                      mcp_on_reply *on_reply);

static bool send_either(struct mcp_call *call, struct request *request, int64_t wait_ms,
                        mcp_on_reply *on_reply)
{
    return wait_ms < 0 ? mcp_send(call, request, on_reply)
                       : send_wait(call, request, wait_ms, on_reply);
}

static void on_registered(struct mcp_call *call, struct request *registered)
{
    struct mcp_again *again = call->again;
    struct request *request = again->request;

    if (registered->error != 0) {
        mcp_refuse_reply(call, registered); /* the other one goes with the call */
        return;
    }
    request_free(registered);
    again->request = NULL;
    send_either(call, request, again->wait_ms, again->on_reply);
}

void mcp_fill_registration(struct request *request, struct str agent)
{
    struct request_command *item = arena_alloc(&request->arena, sizeof(*item));

    *item = (struct request_command){.command.type = CORE_AGENT_REGISTER};
    item->command.f.agent = arena_copy(&request->arena, agent);
    item->command.f.given = UINT64_C(1) << CORE_FIELD_AGENT;
    request->commands = item;
    request->commands_n = 1;
}

static void on_first_try(struct mcp_call *call, struct request *request)
{
    struct mcp_again *again = call->again;

    if (request->error != CORE_E_UNKNOWN_AGENT || request->held) {
        again->on_reply(call, request); /* one that was held has left meanwhile */
        return;
    }
    request_again(request);
    again->request = request;
    struct request *registration = mcp_request(call, REQUEST_COMMANDS);
    mcp_fill_registration(registration, call->agent);
    mcp_send(call, registration, on_registered);
}

static bool send_as_agent(struct mcp_call *call, struct request *request, int64_t wait_ms,
                          mcp_on_reply *on_reply)
{
    if (call->again == NULL)
        call->again = arena_alloc(&call->arena, sizeof(*call->again));
    *call->again = (struct mcp_again){.on_reply = on_reply, .wait_ms = wait_ms};
    return send_either(call, request, wait_ms, on_first_try);
}

bool mcp_send_as_agent(struct mcp_call *call, struct request *request, mcp_on_reply *on_reply)
{
    return send_as_agent(call, request, -1, on_reply);
}

bool mcp_send_wait(struct mcp_call *call, struct request *request, int64_t wait_ms,
                   mcp_on_reply *on_reply)
{
    return send_as_agent(call, request, wait_ms, on_reply);
}

/* ---- waiting */

static void tell_progress(struct mcp_call *call, int64_t now_ms)
{
    struct mcp_wait *wait = call->wait;
    wait->told_ms = now_ms;
    mcp_progress(call, (double)((now_ms - wait->began_ms) / 1000),
                 (double)((wait->until_ms - wait->began_ms) / 1000), STR("waiting"));
}

static int64_t wait_due_ms(const struct mcp_wait *wait)
{
    int64_t due_ms = wait->told_ms + MCP_PROGRESS_MS;
    return due_ms < wait->until_ms ? due_ms : wait->until_ms;
}

static void on_wait_timer(struct timer *timer)
{
    struct mcp_wait *wait = (struct mcp_wait *)timer;
    struct mcp_call *call = wait->call;
    struct timers *timers = &call->frontend->timers;
    int64_t now_ms = frontend_now_ms(call->frontend);

    if (now_ms >= wait->until_ms) {
        end_wait(call);
        /* It may have been too early for the shard: until the answer comes, ask again. */
        timers_set(timers, timer, now_ms + MCP_WAIT_AGAIN_MS);
        return;
    }
    sink_stream(call->sink);
    tell_progress(call, now_ms);
    timers_set(timers, timer, wait_due_ms(wait));
}

void mcp_wait_hurry(struct mcp_call *call)
{
    int64_t now_ms = frontend_now_ms(call->frontend);
    if (call->wait->until_ms <= now_ms)
        return; /* it is being ended */
    call->wait->until_ms = now_ms;
    timers_set(&call->frontend->timers, &call->wait->timer, now_ms);
}

static bool send_wait(struct mcp_call *call, struct request *request, int64_t wait_ms,
                      mcp_on_reply *on_reply)
{
    struct frontend *frontend = call->frontend;
    struct mcp_sink *sink = call->sink;
    int64_t now_ms = frontend_now_ms(frontend);

    request->wait = wait_ms != 0;
    if (!mcp_send(call, request, on_reply))
        return false;
    if (wait_ms == 0)
        return true;
    wait_ms = grant_lasts_ms(sink->grant, wait_ms);
    struct mcp_wait *wait = arena_alloc(&call->arena, sizeof(*wait));
    *wait = (struct mcp_wait){.timer.fire = on_wait_timer,
                              .call = call,
                              .began_ms = now_ms,
                              .until_ms = now_ms + wait_ms};
    call->wait = wait;
    figure_add(&frontend->figures->waiting, 1);
    int64_t first_ms = now_ms + MCP_STREAM_AFTER_MS;
    timers_set(&frontend->timers, &wait->timer,
               first_ms < wait->until_ms ? first_ms : wait->until_ms);
    if (!sink->takes_events && sink->exchange != NULL && !sink->exchange->watched)
        exchange_watch(sink->exchange);
    return true;
}

/* ---- on the way */

void mcp_stream(struct mcp_call *call)
{
    sink_stream(call->sink);
}

static void add_double(struct buf *out, double value)
{
    struct json_value number = {.type = JSON_NUMBER, .as.number = value};
    json_canonical(&number, out);
}

void mcp_progress(struct mcp_call *call, double progress, double total, struct str message)
{
    struct buf params = {0}, text = {0};

    if (call->progress_token.p == NULL || (call->told_progress && progress <= call->progress))
        return;
    call->told_progress = true;
    call->progress = progress;
    buf_add_literal(&params, "{\"progressToken\":");
    buf_add_str(&params, call->progress_token);
    buf_add_literal(&params, ",\"progress\":");
    add_double(&params, progress);
    if (total != 0) {
        buf_add_literal(&params, ",\"total\":");
        add_double(&params, total);
    }
    if (message.n != 0 && call->version >= MCP_2025_03_26) {
        buf_add_literal(&params, ",\"message\":");
        json_add_string(&params, message);
    }
    buf_add_byte(&params, '}');
    rpc_write_notification(&text, STR("notifications/progress"), buf_str(&params));
    sink_say(call->sink, buf_str(&text));
    buf_free(&text);
    buf_free(&params);
}

void mcp_log(struct mcp_call *call, enum mcp_level level, struct str logger, struct str data)
{
    struct buf text = {0};
    if (level < call->level || call->level == MCP_LEVEL_NONE)
        return;
    mcp_write_log(&text, level, logger, data);
    sink_say(call->sink, buf_str(&text));
    buf_free(&text);
}

void mcp_write_log(struct buf *out, enum mcp_level level, struct str logger, struct str data)
{
    struct buf params = {0};

    buf_add_literal(&params, "{\"level\":\"");
    buf_add(&params, level_names[level], strlen(level_names[level]));
    buf_add_literal(&params, "\",\"logger\":");
    json_add_string(&params, logger);
    buf_add_literal(&params, ",\"data\":");
    buf_add_str(&params, data);
    buf_add_byte(&params, '}');
    rpc_write_notification(out, STR("notifications/message"), buf_str(&params));
    buf_free(&params);
}

void mcp_when_written(struct mcp_call *call,
                      void (*on_written)(struct frontend *frontend, void *data, bool written),
                      void *data)
{
    assert(call->written == NULL);
    call->written = mem_alloc(sizeof(*call->written));
    *call->written = (struct sink_hook){.on_written = on_written, .data = data};
}

/* ---- being come back for */

static bool may_come_back(const struct mcp_call *call)
{
    const struct mcp_sink *sink = call->sink;
    return call->owner.p != NULL && sink->kind == SINK_POST && !sink->batch &&
           call->version >= MCP_2025_03_26 && !mcp_is_modern(call->version);
}

void mcp_resumable(struct mcp_call *call)
{
    if (!may_come_back(call) || call->params == NULL || call->resumable)
        return;
    struct buf message = {0};
    buf_add_literal(&message, "{\"jsonrpc\":\"2.0\",\"id\":");
    buf_add_str(&message, call->id);
    buf_add_literal(&message, ",\"method\":");
    json_add_string(&message, call->method);
    buf_add_literal(&message, ",\"params\":");
    json_canonical(call->params, &message);
    buf_add_byte(&message, '}');
    if (message.n <= MCP_RESUME_BYTES && !call->sink->streaming) {
        call->resumable = true;
        mcp_set_event_ids(call, MCP_EVENT_RESUMABLE, buf_str(&message));
    }
    buf_free(&message);
}

void mcp_set_event_ids(struct mcp_call *call, char kind, struct str what)
{
    struct mcp_sink *sink = call->sink;
    struct buf payload = {0}, text = {0};

    if (!may_come_back(call) || sink->streaming)
        return;
    free(sink->id_prefix);
    buf_add_byte(&payload, kind);
    buf_add_str(&payload, call->owner);
    buf_add_byte(&payload, '\n');
    buf_add_str(&payload, what);
    sign_text(face_of(call)->events, buf_str(&payload), &text);
    buf_add_byte(&text, '\0');
    sink->id_prefix = text.p;
    buf_free(&payload);
}

bool mcp_come_back(struct mcp_call *call, uint32_t retry_ms)
{
    struct mcp_sink *sink = call->sink;
    if (!call->resumable || call->version < MCP_2025_11_25 || !sink->takes_events)
        return false;
    sink_stream(sink);
    sink->retry_ms = retry_ms;
    call->ended = true;
    mcp_call_drop(call); /* the last of its sink, which ends */
    return true;
}

/* ---- helpers */

const struct json_value *mcp_member(const struct json_value *object, const char *name)
{
    return rpc_member(object, (struct str){name, strlen(name)});
}

struct str mcp_copy(struct mcp_call *call, struct str text)
{
    return arena_copy(&call->arena, text);
}
