#include "server/mcp/older.h"
#include "server/auth/guard.h"

#include "server/call.h"
#include "server/mcp/internal.h"
#include "server/mcp/notify.h"
#include "server/problem.h"

#include <stdlib.h>

enum {
    STREAM_KIND = 'o',
    CALLS_MAX = 256, /* open at once on a stream: none of them costs its client a connection */
};

/* A stream of the older transport. */
struct mcp_older {
    uint64_t token;
    enum mcp_toolset toolset;
    unsigned client_can;
    uint8_t session_n, agent_n; /* 0: /sse */
    char session[CORE_ID_BYTES], agent[CORE_ID_BYTES];
};

static struct str or_none(const char *p, size_t n)
{
    return n != 0 ? (struct str){p, n} : (struct str){0};
}

static struct str session_of(const struct mcp_older *older)
{
    return or_none(older->session, older->session_n);
}

static struct str agent_of(const struct mcp_older *older)
{
    return or_none(older->agent, older->agent_n);
}

void mcp_older_free(struct mcp_sink *sink)
{
    slots_remove(&sink->frontend->mcp.streams, sink->older->token);
    free(sink->older);
}

void mcp_older_agent(const struct mcp_sink *sink, struct str *session, struct str *agent)
{
    *session = session_of(sink->older);
    *agent = agent_of(sink->older);
}

/* ---- messages */

static void on_registered(struct mcp_call *call, struct request *request)
{
    struct buf result = {0};

    /* A closed session takes no new agents, but can be read. */
    if (request->error != 0 && request->error != CORE_E_REFUSED) {
        mcp_refuse_reply(call, request);
        return;
    }
    request_free(request);
    mcp_write_initialized(&result, MCP_2024_11_05, call->toolset, call->bound);
    mcp_result(call, buf_str(&result));
    buf_free(&result);
}

static void initialize(struct mcp_call *call)
{
    struct mcp_older *older = call->sink->older;
    struct buf result = {0};

    older->client_can = mcp_client_can_of(rpc_member(call->params, STR("capabilities")));
    if (call->bound && guard_may_write(call->sink->grant)) {
        struct request *request = mcp_request(call, REQUEST_COMMANDS);
        mcp_fill_registration(request, call->agent);
        mcp_send(call, request, on_registered);
        return;
    }
    mcp_write_initialized(&result, MCP_2024_11_05, call->toolset, call->bound);
    mcp_result(call, buf_str(&result));
    buf_free(&result);
}

static void say_error(struct mcp_sink *sink, struct str id, enum mcp_code code, const char *why)
{
    struct buf text = {0};
    rpc_write_error(&text, id, code, (struct str){why, strlen(why)}, (struct str){0});
    sink_say(sink, buf_str(&text));
    buf_free(&text);
}

static bool is_full(const struct mcp_sink *sink)
{
    unsigned n = 0;
    for (const struct mcp_call *call = sink->calls; call != NULL; call = call->next)
        n++;
    return n >= CALLS_MAX;
}

static void take_request(struct mcp_sink *sink, const struct rpc_message *message)
{
    const struct mcp_older *older = sink->older;
    struct mcp_caller caller = {
        .version = MCP_2024_11_05,
        .toolset = older->toolset,
        .session = session_of(older),
        .agent = agent_of(older),
        .client_can = older->client_can,
        .level = sink->level,
    };
    if (is_full(sink)) {
        say_error(sink, message->id, MCP_E_UNAVAILABLE,
                  "256 calls of this stream are open: wait for the answer to one of them.");
        return;
    }
    struct mcp_call *call = mcp_call_new(sink, &caller, message);
    if (str_equal(message->method, STR("initialize")))
        initialize(call);
    else
        mcp_begin(call);
}

static void take_cancel(struct mcp_sink *sink, const struct rpc_message *message,
                        struct arena *arena)
{
    const struct json_value *value = rpc_member(message->params, STR("requestId"));
    struct str id = value != NULL ? rpc_scalar(value, arena) : (struct str){0};
    struct mcp_call *call = sink->calls;

    if (id.p == NULL || !str_equal(message->method, STR("notifications/cancelled")))
        return;
    while (call != NULL && !str_equal(call->id, id))
        call = call->next;
    if (call != NULL)
        mcp_call_drop(call);
}

static void take_message(struct mcp_sink *sink, struct str body)
{
    struct frontend *frontend = sink->frontend;
    const struct json_value *root;
    struct json_error error;
    struct rpc_message message;
    struct mcp_asking_id id;
    struct arena arena = {0};

    if (mcp_parse(frontend, &arena, body, &root, &error) != 0) {
        say_error(sink, (struct str){0}, MCP_E_PARSE, "The message is not JSON.");
        arena_free(&arena);
        return;
    }
    rpc_read(root, &arena, &message);
    if (message.kind == RPC_REQUEST)
        take_request(sink, &message);
    else if (message.kind == RPC_NOTIFICATION)
        take_cancel(sink, &message, &arena);
    else if (message.kind == RPC_BAD)
        say_error(sink, message.id, MCP_E_INVALID_REQUEST, message.why);
    else if (mcp_read_asking(frontend, message.id, &id))
        (void)mcp_answered(frontend, sink, (struct str){0}, &id, &message);
    arena_free(&arena);
}

/* ---- the stream */

/* What is posted is done with what the stream's token allows: so it must be posted with that. */
static uint64_t caller_of(const struct exchange *exchange)
{
    return exchange->grant != NULL ? exchange->grant->hash >> 12 : 0; /* what JSON's numbers hold */
}

/* "/…/sse?stream=" and a signed text: this life of the server, reactor, token, caller. */
static struct chunk *endpoint_event(const struct exchange *exchange, const struct mcp_older *older)
{
    struct frontend *frontend = exchange->frontend;
    struct buf text = {0}, payload = {0};

    buf_add_byte(&payload, STREAM_KIND);
    buf_add(&payload, frontend->shared->start, strlen(frontend->shared->start));
    buf_add_byte(&payload, '.');
    buf_add_u64(&payload, reactor_number(frontend->reactor));
    buf_add_byte(&payload, '.');
    mcp_token_write(older->token, &payload);
    buf_add_byte(&payload, '.');
    buf_add_u64(&payload, caller_of(exchange));
    buf_add_literal(&text, "event: endpoint\ndata: ");
    if (older->session_n != 0) {
        buf_add_literal(&text, "/v1/sessions/");
        buf_add_str(&text, session_of(older));
        buf_add_literal(&text, "/agents/");
        buf_add_str(&text, agent_of(older));
    }
    buf_add_literal(&text, "/sse?stream=");
    sign_text(frontend->mcp.events, buf_str(&payload), &text);
    buf_add_literal(&text, "\n\n");
    struct chunk *chunk = chunk_of(buf_str(&text));
    buf_free(&text);
    buf_free(&payload);
    return chunk;
}

static void begin(struct exchange *exchange)
{
    const struct route_match *match = &exchange->match;
    struct mcp_sink *sink = sink_new(exchange, SINK_OLDER, MCP_2024_11_05);
    struct mcp_older *older = mem_alloc(sizeof(*older));

    *older = (struct mcp_older){
        .token = slots_add(&exchange->frontend->mcp.streams, sink),
        .toolset = *(const bool *)exchange->state ? MCP_TOOLS_CORAL : MCP_TOOLS_ATOLL,
        .session_n = (uint8_t)match->session.n,
        .agent_n = (uint8_t)match->agent.n,
    };
    if (match->session.n != 0) {
        memcpy(older->session, match->session.p, match->session.n);
        memcpy(older->agent, match->agent.p, match->agent.n);
    }
    sink->older = older;
    sink->level = MCP_INFO;
    sink->takes_events = true;
    struct chunk *endpoint = endpoint_event(exchange, older);
    sink_stream(sink);
    sink_push(sink, endpoint);
    mcp_notes_begin_older(sink, session_of(older));
}

static void on_looked(struct exchange *exchange, struct request *request)
{
    if (request->error != 0)
        exchange_refuse(exchange, request->error, &request->refusal);
    else
        begin(exchange);
    request_free(request);
}

void mcp_older_open(struct exchange *exchange, const struct call *call)
{
    bool *coral = exchange_alloc(exchange, sizeof(*coral));

    if (!access_accepts(call->headers.accept, STR("text/event-stream"))) {
        exchange_refuse_text(exchange, PROBLEM_E_NOT_ACCEPTABLE, "Accept",
                             "Here is an event stream: Accept must name text/event-stream.");
        return;
    }
    *coral = call->query.coral;
    exchange->state = coral;
    if (exchange->match.session.p == NULL) {
        begin(exchange);
        return;
    }
    struct request *request = request_new();
    request->kind = REQUEST_EXISTS;
    request->session = arena_copy(&request->arena, exchange->match.session);
    exchange->on_reply = on_looked;
    exchange_send(exchange, request);
}

/* ---- POST */

struct place {
    uint64_t reactor, token;
    uint64_t caller; /* of the stream: whose token it was opened with */
};

/* Where the stream of a signed text is. False: this life of the server has given no such text. */
static bool read_place(struct frontend *frontend, struct str stream, struct place *place)
{
    struct str payload = sign_check(frontend->mcp.events, stream, &frontend->scratch);
    const char *start = frontend->shared->start;
    size_t n = strlen(start);

    if (payload.p == NULL || payload.n <= n + 2 || payload.p[0] != STREAM_KIND ||
        memcmp(payload.p + 1, start, n) != 0 || payload.p[n + 1] != '.')
        return false;
    struct str rest = {payload.p + n + 2, payload.n - n - 2};
    const char *dot = memchr(rest.p, '.', rest.n);
    if (dot == NULL)
        return false;
    struct str reactor = {rest.p, (size_t)(dot - rest.p)};
    struct str token = {dot + 1, rest.n - reactor.n - 1};
    dot = memchr(token.p, '.', token.n);
    if (dot == NULL)
        return false;
    struct str caller = {dot + 1, token.n - (size_t)(dot - token.p) - 1};
    token.n -= caller.n + 1;
    return query_number(reactor, &place->reactor) && mcp_token_read(token, &place->token) &&
           query_number(caller, &place->caller);
}

static void refuse_stream(struct exchange *exchange)
{
    exchange_refuse_text(exchange, PROBLEM_E_UNKNOWN_ROUTE, "stream",
                         "This stream is not open any more: GET …/sse opens a new one.");
}

void mcp_older_post(struct exchange *exchange, const struct call *call)
{
    struct frontend *frontend = exchange->frontend;
    struct buf whom = {0};
    struct place place;

    if (!read_place(frontend, call->query.stream, &place)) {
        refuse_stream(exchange);
        return;
    }
    if (place.caller != caller_of(exchange)) {
        exchange_refuse_text(exchange, REQUEST_E_FORBIDDEN, "stream",
                             "This stream was opened with another token.");
        return;
    }
    if (place.reactor != reactor_number(frontend->reactor)) {
        mcp_token_write(place.token, &whom);
        mcp_relay(exchange, (unsigned)place.reactor, MCP_RELAY_OLDER, buf_str(&whom), call->body);
        buf_free(&whom);
        return;
    }
    struct mcp_sink *sink = slots_find(&frontend->mcp.streams, place.token);
    if (sink == NULL || sink->gone) {
        refuse_stream(exchange);
        return;
    }
    exchange_answer(exchange, &(struct answer){.status = 202, .kind = ANSWER_JSON});
    take_message(sink, call->body);
}

void mcp_older_on_relay(struct frontend *frontend, struct str whom, struct str body)
{
    uint64_t token;
    struct mcp_sink *sink =
        mcp_token_read(whom, &token) ? slots_find(&frontend->mcp.streams, token) : NULL;
    if (sink != NULL && !sink->gone)
        take_message(sink, body);
}
