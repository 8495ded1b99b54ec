#include "server/auth/guard.h"
#include "server/call.h"
#include "server/connected.h"
#include "server/mcp/notify.h"
#include "server/mcp/older.h"
#include "server/mcp/visit.h"
#include "server/problem.h"
#include "server/redact.h"
#include "server/scan.h"
#include "server/shares.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    BATCH_MAX = 64, /* messages in one body (2025-03-26) */
};

const struct mcp_extension *mcp_extension;

void mcp_extend(const struct mcp_extension *extension)
{
    mcp_extension = extension;
}

/* ---- parsing */

int mcp_parse(struct frontend *frontend, struct arena *arena, struct str text,
              const struct json_value **root, struct json_error *error)
{
    struct json_parser *parser = decoder_parser(frontend->decoder);

    json_parser_round(parser, true); /* what is not a number for us may be one for a tool */
    int rc = json_parse(parser, arena, text, root, error);
    json_parser_round(parser, false);
    return rc;
}

/* The body, into the thread's scratch. NULL: the exchange has been answered. */
static const struct json_value *parse(struct visit *visit)
{
    struct exchange *exchange = visit->exchange;
    struct frontend *frontend = exchange->frontend;
    const struct json_value *root = NULL;
    struct json_error error;
    char text[200];

    if (visit->body.n != 0 &&
        mcp_parse(frontend, &frontend->scratch, visit->body, &root, &error) == 0)
        return root;
    snprintf(text, sizeof(text), "The body is not JSON: %s.",
             visit->body.n != 0 ? error.text : "it is empty");
    visit_refuse(exchange, 400, (struct str){0}, MCP_E_PARSE, text);
    return NULL;
}

/* ---- messages of a session */

static void take_notification(struct frontend *frontend, const struct mcp_claims *claims,
                              const struct rpc_message *message)
{
    if (!str_equal(message->method, STR("notifications/cancelled")))
        return;
    const struct json_value *id = rpc_member(message->params, STR("requestId"));
    struct str text = id != NULL ? rpc_scalar(id, &frontend->scratch) : (struct str){0};
    if (text.p != NULL)
        relay_cancel(frontend, claims->companion, text);
}

/* An answer to a request of ours, which is all of the body. */
static void take_response(struct visit *visit, const struct rpc_message *message)
{
    struct exchange *exchange = visit->exchange;
    struct frontend *frontend = exchange->frontend;
    struct str owner = visit->claims.companion;
    struct mcp_asking_id id;

    bool ours = mcp_read_asking(frontend, message->id, &id);
    if (ours && id.reactor != reactor_number(frontend->reactor))
        mcp_relay(exchange, (unsigned)id.reactor, MCP_RELAY_ANSWER, owner, visit->body);
    else if (ours && mcp_answered(frontend, NULL, owner, &id, message))
        visit_accept(exchange);
    else
        visit_refuse(exchange, 400, (struct str){0}, MCP_E_INVALID_REQUEST,
                     "The request that this answers is not open: it was answered, its call has "
                     "ended, or the server was started again.");
}

/* The same in a batch, where nothing answers it. */
static void pass_response(struct visit *visit, const struct rpc_message *message, struct str text)
{
    struct frontend *frontend = visit->exchange->frontend;
    struct str owner = visit->claims.companion;
    struct mcp_asking_id id;

    if (!mcp_read_asking(frontend, message->id, &id))
        return;
    if (id.reactor == reactor_number(frontend->reactor)) {
        (void)mcp_answered(frontend, NULL, owner, &id, message);
        return;
    }
    relay_answer(frontend, (unsigned)id.reactor, owner, text);
}

/* ---- calls */

static struct mcp_caller caller_of(const struct mcp_claims *claims, enum mcp_level level)
{
    return (struct mcp_caller){
        .version = claims->version,
        .toolset = claims->toolset,
        .session = claims->session,
        .agent = claims->agent,
        .owner = claims->companion,
        .client_can = claims->client_can,
        .level = level,
    };
}

struct mcp_sink *visit_sink(struct visit *visit, enum mcp_version version)
{
    struct mcp_sink *sink = sink_new(visit->exchange, SINK_POST, version);
    sink->takes_events = visit->takes_events;
    return sink;
}

static void refuse_message(struct exchange *exchange, const struct rpc_message *message)
{
    visit_refuse(exchange, 400, message->id, MCP_E_INVALID_REQUEST, message->why);
}

/* One message that is all of the body, and a good one. */
static void take_one(struct visit *visit, const struct rpc_message *message, enum mcp_level level)
{
    struct exchange *exchange = visit->exchange;
    struct mcp_caller caller = caller_of(&visit->claims, level);

    if (message->kind == RPC_RESPONSE) {
        take_response(visit, message);
    } else if (message->kind == RPC_NOTIFICATION) {
        take_notification(exchange->frontend, &visit->claims, message);
        visit_accept(exchange);
    } else {
        mcp_begin(mcp_call_new(visit_sink(visit, caller.version), &caller, message));
    }
}

/* ---- batches */

static struct str after_blanks(struct str text)
{
    while (text.n != 0 && strchr(" \t\r\n", text.p[0]) != NULL)
        text = (struct str){text.p + 1, text.n - 1};
    return text;
}

/* The next element of an array that was parsed before and has one more. What stands first is the
 * opening bracket, or the comma behind the last element. */
static struct str take_element(struct str *rest)
{
    struct str text = after_blanks(*rest);
    text = after_blanks((struct str){text.p + 1, text.n - 1});
    struct str element = scan_value(text);
    *rest = (struct str){element.p + element.n, text.n - element.n};
    return element;
}

static void refuse_element(struct mcp_sink *sink, struct str id, const char *why)
{
    struct buf text = {0};
    rpc_write_error(&text, id, MCP_E_INVALID_REQUEST, (struct str){why, strlen(why)},
                    (struct str){0});
    sink_add(sink, buf_str(&text));
    buf_free(&text);
}

static void take_of_batch(struct visit *visit, struct mcp_sink *sink, struct str text,
                          enum mcp_level level)
{
    struct frontend *frontend = sink->frontend;
    struct mcp_caller caller = caller_of(&visit->claims, level);
    const struct json_value *root;
    struct json_error error;
    struct rpc_message message;

    arena_reset(&frontend->scratch);
    if (mcp_parse(frontend, &frontend->scratch, text, &root, &error) != 0) {
        refuse_element(sink, (struct str){0}, error.text);
        return;
    }
    rpc_read(root, &frontend->scratch, &message);
    if (message.kind == RPC_NOTIFICATION)
        take_notification(frontend, &visit->claims, &message);
    else if (message.kind == RPC_RESPONSE)
        pass_response(visit, &message, text);
    else if (message.kind == RPC_REQUEST)
        mcp_begin(mcp_call_new(sink, &caller, &message));
    else
        refuse_element(sink, message.id, message.why);
}

/* Several messages in one body. Each is parsed again by itself: values are good only until
 * something else is parsed. */
static void take_batch(struct visit *visit, const struct json_value *root, enum mcp_level level)
{
    struct exchange *exchange = visit->exchange;
    struct str rest = visit->body;
    uint32_t n = root->size;

    if (visit->claims.version != MCP_2025_03_26) {
        visit_refuse(exchange, 400, (struct str){0}, MCP_E_INVALID_REQUEST,
                     "Only revision 2025-03-26 has batches: send one message at a time.");
        return;
    }
    if (n == 0 || n > BATCH_MAX) {
        visit_refuse(exchange, 400, (struct str){0}, MCP_E_INVALID_REQUEST,
                     "A batch has 1 to 64 messages.");
        return;
    }
    shares_charge(exchange, n - 1);
    struct mcp_sink *sink = visit_sink(visit, visit->claims.version);
    sink->batch = true;
    for (sink->expected = n; sink->expected != 0; sink->expected--)
        take_of_batch(visit, sink, take_element(&rest), level);
    sink_left(sink);
}

/* ---- whose request it is: revisions with sessions */

static void free_visit(void *face)
{
    arena_free(&((struct visit *)face)->arena);
}

static struct visit *visit_new(struct exchange *exchange, const struct call *call)
{
    struct visit *visit = h2o_mem_alloc_shared(&exchange->req->pool, sizeof(*visit), free_visit);

    *visit = (struct visit){
        .exchange = exchange,
        .body = call->body,
        .version = visit_header(exchange, "mcp-protocol-version"),
        .session_id = visit_header(exchange, "mcp-session-id"),
        .last_event_id = call->headers.last_event_id,
        .arena.block_bytes = 1024,
        .takes_events = access_accepts(call->headers.accept, STR("text/event-stream")),
        .coral = call->query.coral,
    };
    exchange->state = visit;
    return visit;
}

static void renew(struct frontend *frontend, struct str companion)
{
    struct request *request = request_new();
    struct buf now = {0};

    buf_add_u64(&now, (uint64_t)time(NULL));
    mcp_companion_label(request, companion, STR("used"), buf_str(&now));
    outbox_send(&frontend->outbox, frontend->mailbox, request);
    buf_free(&now);
}

static void refuse_session(struct exchange *exchange)
{
    visit_refuse(exchange, 404, (struct str){0}, MCP_E_INVALID_REQUEST,
                 "This MCP session has ended, or never was: begin a new one with initialize.");
}

/* The reply to the question whether the session lives is an error: says so. */
static void refuse_guard(struct exchange *exchange, const struct request *request)
{
    if (request->error == CORE_E_UNKNOWN_SESSION)
        refuse_session(exchange);
    else
        exchange_refuse(exchange, request->error, &request->refusal);
}

struct request *mcp_labels_request(struct str companion)
{
    struct request *request = request_new();
    struct core_parts *parts = arena_alloc(&request->arena, sizeof(*parts) + sizeof(struct str));

    parts->n = 1;
    parts->items[0] = STR("/labels");
    request->kind = REQUEST_VIEW;
    request->session = arena_copy(&request->arena, companion);
    request->parts = parts;
    return request;
}

static void guard(struct visit *visit, struct request *request,
                  void (*on_reply)(struct exchange *, struct request *))
{
    if (request == NULL) {
        request = request_new();
        request->kind = REQUEST_EXISTS;
        request->session = arena_copy(&request->arena, visit->claims.companion);
    }
    visit->exchange->on_reply = on_reply;
    exchange_send(visit->exchange, request);
}

static void refuse_without_session(struct exchange *exchange)
{
    visit_refuse(exchange, 400, (struct str){0}, MCP_E_INVALID_REQUEST,
                 "There is no Mcp-Session-Id: begin with initialize; or, for revision "
                 "2026-07-28, say it in _meta and MCP-Protocol-Version.");
}

/* Whose an MCP session is, as far as its URL does not say it: what it was told may be told again,
 * so what is hidden counts, too. */
static struct str caller_name(const struct exchange *exchange, struct arena *arena)
{
    const struct redaction *redaction = guard_redaction(exchange->grant);
    bool bound = exchange->match.session.p != NULL;
    struct str sub = bound ? STR("") : guard_caller(exchange->grant);
    if (redaction == NULL)
        return sub;
    char *text = arena_alloc(arena, sub.n + 18);
    int n = snprintf(text, sub.n + 18, "%.*s~%016llx", (int)sub.n, sub.p,
                     (unsigned long long)redaction_hash(redaction));
    return (struct str){text, (size_t)n};
}

/* The session id of the headers, looked at. False: the exchange has been answered. */
static bool read_session(struct visit *visit)
{
    struct exchange *exchange = visit->exchange;
    const struct route_match *match = &exchange->match;
    struct mcp_claims *claims = &visit->claims;

    if (visit->session_id.p == NULL) {
        refuse_without_session(exchange);
        return false;
    }
    if (!mcp_session_read(exchange->connection, visit->session_id, &visit->arena, claims)) {
        refuse_session(exchange);
        return false;
    }
    if (!str_equal(claims->session, match->session) || !str_equal(claims->agent, match->agent)) {
        visit_refuse(exchange, 403, (struct str){0}, MCP_E_INVALID_REQUEST,
                     "This MCP session was begun for another agent, at another URL: it does not "
                     "speak for this one.");
        return false;
    }
    if (str_compare(claims->caller, caller_name(exchange, &visit->arena)) != 0) {
        visit_refuse(
            exchange, 403, (struct str){0}, MCP_E_INVALID_REQUEST,
            "This MCP session was begun with another agent's token, or with one from which "
            "other parts are hidden.");
        return false;
    }
    enum mcp_version version =
        visit->version.p != NULL ? mcp_version_of(visit->version) : claims->version;
    if (version == MCP_VERSION_COUNT || mcp_is_modern(version)) {
        visit_refuse_version(exchange, (struct str){0}, visit->version);
        return false;
    }
    return true;
}

/* Whether the message calls a tool that has something to log. */
static bool may_log(const struct visit *visit, const struct json_value *root)
{
    struct str method = rpc_string(root, STR("method"));
    if (!str_equal(method, STR("tools/call")))
        return root->type == JSON_ARRAY; /* some of them may */
    const struct json_value *params = rpc_member(root, STR("params"));
    const struct mcp_tool *tool =
        mcp_tool_find(visit->claims.toolset, rpc_string(params, STR("name")));
    return tool != NULL && tool->logs;
}

/* ---- initialize */

static void on_begun(struct exchange *exchange, struct request *request)
{
    static h2o_iovec_t name = {(char *)"mcp-session-id", 14};
    struct visit *visit = exchange->state;
    struct buf *text = &exchange->text;
    struct buf id = {0};

    if (request->error != 0) {
        exchange_refuse(exchange, request->error, &request->refusal);
        request_free(request);
        return;
    }
    request_free(request);
    mcp_session_write(exchange->frontend, &visit->claims, &id);
    struct str value = exchange_copy(exchange, &id);
    buf_free(&id);
    h2o_header_t header = {&name, NULL, {(char *)value.p, value.n}};
    text->n = 0;
    buf_add_literal(text, "{\"jsonrpc\":\"2.0\",\"id\":");
    buf_add_str(text, visit->id);
    buf_add_literal(text, ",\"result\":");
    mcp_write_initialized(text, visit->claims.version, visit->claims.toolset,
                          visit->claims.session.p != NULL);
    buf_add_byte(text, '}');
    exchange_answer(exchange, &(struct answer){.status = 200,
                                               .kind = ANSWER_JSON,
                                               .body = buf_str(text),
                                               .more = &header,
                                               .more_n = 1});
}

static void begin_session(struct visit *visit)
{
    struct frontend *frontend = visit->exchange->frontend;
    char *name = arena_alloc(&visit->arena, MCP_COMPANION_BYTES);
    struct request *request = request_new();

    visit->claims.companion = mcp_companion_name(frontend, visit->claims.session, name);
    mcp_companion_create(request, visit->claims.companion);
    visit->exchange->on_reply = on_begun;
    exchange_send(visit->exchange, request);
}

/* A closed session takes no new agents, but can be read. */
static void on_registered(struct exchange *exchange, struct request *request)
{
    struct visit *visit = exchange->state;
    unsigned error = request->error;

    if (error == CORE_E_UNKNOWN_SESSION)
        visit_refuse(exchange, 404, visit->id, MCP_E_INVALID_PARAMS,
                     "There is no such session: create it first (POST /v1/sessions).");
    else if (error != 0 && error != CORE_E_REFUSED)
        exchange_refuse(exchange, error, &request->refusal);
    else
        begin_session(visit);
    request_free(request);
}

unsigned mcp_client_can_of(const struct json_value *capabilities)
{
    return (rpc_member(capabilities, STR("sampling")) != NULL ? MCP_CAN_SAMPLE : 0U) |
           (rpc_member(capabilities, STR("elicitation")) != NULL ? MCP_CAN_ELICIT : 0U) |
           (rpc_member(capabilities, STR("roots")) != NULL ? MCP_CAN_LIST_ROOTS : 0U);
}

enum mcp_version mcp_negotiate(struct str wanted)
{
    enum mcp_version version = mcp_version_of(wanted);
    return version < MCP_2026_07_28 ? version : MCP_2025_11_25;
}

static void initialize(struct visit *visit, const struct rpc_message *message)
{
    struct exchange *exchange = visit->exchange;
    struct str wanted = rpc_string(message->params, STR("protocolVersion"));

    if (wanted.n == 0) {
        visit_refuse(exchange, 400, message->id, MCP_E_INVALID_PARAMS,
                     "initialize has a protocolVersion: 2025-11-25, 2025-06-18, 2025-03-26 or "
                     "2024-11-05.");
        return;
    }
    if (visit->version.p != NULL && mcp_version_of(visit->version) == MCP_VERSION_COUNT) {
        visit_refuse_version(exchange, message->id, visit->version);
        return;
    }
    visit->id = arena_copy(&visit->arena, message->id);
    visit->claims = (struct mcp_claims){
        .version = mcp_negotiate(wanted),
        .toolset = visit->coral ? MCP_TOOLS_CORAL : MCP_TOOLS_ATOLL,
        .client_can = mcp_client_can_of(rpc_member(message->params, STR("capabilities"))),
        .session = arena_copy(&visit->arena, exchange->match.session),
        .agent = arena_copy(&visit->arena, exchange->match.agent),
    };
    visit->claims.caller = arena_copy(&visit->arena, caller_name(exchange, &visit->arena));
    if (visit->claims.session.p == NULL) {
        begin_session(visit);
        return;
    }
    struct request *request = request_new();
    request->session = arena_copy(&request->arena, visit->claims.session);
    if (guard_may_write(exchange->grant)) {
        request->kind = REQUEST_COMMANDS;
        mcp_fill_registration(request, visit->claims.agent);
    } else { /* it looks on */
        request->kind = REQUEST_EXISTS;
    }
    exchange->on_reply = on_registered;
    exchange_send(exchange, request);
}

/* ---- POST */

/* Whether its headers say 2026-07-28. */
static bool says_modern(const struct visit *visit)
{
    enum mcp_version version =
        visit->version.p != NULL ? mcp_version_of(visit->version) : MCP_VERSION_COUNT;
    return version != MCP_VERSION_COUNT && mcp_is_modern(version);
}

/* By its own word, or, where it has none, by its header. */
static bool is_modern(const struct visit *visit, const struct rpc_message *message)
{
    const struct json_value *meta = rpc_member(message->params, STR("_meta"));
    if (rpc_member(meta, STR("io.modelcontextprotocol/protocolVersion")) != NULL)
        return true;
    return says_modern(visit);
}

static bool check_body(struct exchange *exchange, const struct call *call)
{
    const struct config *config = exchange->frontend->shared->config;

    if (access_media(call->headers.content_type) != ACCESS_MEDIA_JSON) {
        exchange_refuse_text(exchange, PROBLEM_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                             "Send application/json.");
        return false;
    }
    if (call->body.n > config->max_body_bytes) {
        exchange_refuse_text(exchange, CORE_E_TOO_LARGE, NULL,
                             "The body has more bytes than --max-body allows.");
        return false;
    }
    return true;
}

/* A message whose sender says itself what it speaks. False: it is of a session. */
static bool take_sessionless(struct visit *visit, const struct rpc_message *message)
{
    if (message->kind == RPC_BAD)
        refuse_message(visit->exchange, message);
    else if (is_modern(visit, message))
        modern_take(visit, message);
    else if (message->kind == RPC_REQUEST && str_equal(message->method, STR("initialize")))
        initialize(visit, message);
    else
        return false;
    return true;
}

static void on_guarded(struct exchange *exchange, struct request *request);

/* The session lives. Of its level of log messages is read (`level_known`) where something may be
 * logged. */
static void take_body(struct visit *visit, enum mcp_level level, bool level_known)
{
    struct arena *scratch = &visit->exchange->frontend->scratch;
    struct rpc_message message;

    arena_reset(scratch); /* of a request that is over */
    const struct json_value *root = parse(visit);
    if (root == NULL)
        return;
    if (root->type != JSON_ARRAY) {
        rpc_read(root, scratch, &message);
        if (take_sessionless(visit, &message))
            return;
    }
    if (!level_known && may_log(visit, root))
        guard(visit, mcp_labels_request(visit->claims.companion), on_guarded);
    else if (root->type == JSON_ARRAY)
        take_batch(visit, root, level);
    else
        take_one(visit, &message, level);
}

static void on_guarded(struct exchange *exchange, struct request *request)
{
    struct visit *visit = exchange->state;
    enum mcp_level level = MCP_INFO;
    bool level_known = request->kind == REQUEST_VIEW;

    if (request->error != 0) {
        refuse_guard(exchange, request);
        request_free(request);
        return;
    }
    if (request->more)
        renew(exchange->frontend, visit->claims.companion);
    if (level_known) {
        struct str labels = scan_member(scan_member(buf_str(&request->body), "state"), "labels");
        struct str name = scan_id(scan_member(labels, "level"));
        level = name.p != NULL ? mcp_level_of(name) : MCP_INFO;
    }
    request_free(request);
    take_body(visit, level, level_known);
}

/* Without a session that the headers name, what the message says has to do. */
static void take_unguarded(struct visit *visit)
{
    const struct json_value *root = parse(visit);
    struct rpc_message message;

    if (root == NULL)
        return;
    if (root->type != JSON_ARRAY) {
        rpc_read(root, &visit->exchange->frontend->scratch, &message);
        if (take_sessionless(visit, &message))
            return;
    }
    refuse_without_session(visit->exchange);
}

static void serve_post(struct visit *visit)
{
    if (visit->session_id.p == NULL || says_modern(visit))
        take_unguarded(visit);
    else if (read_session(visit))
        guard(visit, NULL, on_guarded); /* and it is parsed once, when that is known */
}

/* ---- DELETE */

static void on_deleted(struct exchange *exchange, struct request *request)
{
    if (request->error != 0)
        refuse_guard(exchange, request);
    else
        exchange_answer(exchange, &(struct answer){.status = 204, .kind = ANSWER_JSON});
    request_free(request);
}

static void serve_delete(struct visit *visit)
{
    if (!read_session(visit))
        return;
    struct request *request = request_new();
    request->kind = REQUEST_DELETE;
    request->session = arena_copy(&request->arena, visit->claims.companion);
    guard(visit, request, on_deleted);
}

/* ---- GET: notifications, or the rest of an answer */

/* What an event id of ours says; p == NULL: it is none, of this MCP session. */
static struct str read_event_id(struct visit *visit, char *kind)
{
    struct str id = visit->last_event_id;
    const char *dot = id.n != 0 ? memrchr(id.p, '.', id.n) : NULL;
    struct str owner = visit->claims.companion;

    *kind = 0;
    if (dot == NULL)
        return (struct str){0};
    id.n = (size_t)(dot - id.p);
    struct str payload = sign_check(visit->exchange->frontend->mcp.events, id, &visit->arena);
    if (payload.p == NULL || payload.n < 2 + owner.n ||
        memcmp(payload.p + 1, owner.p, owner.n) != 0 || payload.p[1 + owner.n] != '\n')
        return (struct str){0};
    *kind = payload.p[0];
    return (struct str){payload.p + 2 + owner.n, payload.n - 2 - owner.n};
}

/* Begins the call again that the id holds. */
static void go_on(struct visit *visit, struct str request)
{
    struct frontend *frontend = visit->exchange->frontend;
    struct mcp_caller caller = caller_of(&visit->claims, MCP_INFO);
    struct mcp_sink *sink = visit_sink(visit, caller.version);
    const struct json_value *root;
    struct json_error error;
    struct rpc_message message;

    int rc = mcp_parse(frontend, &visit->arena, request, &root, &error);
    assert(rc == 0); /* we have signed it */
    rpc_read(root, &visit->arena, &message);
    assert(message.kind == RPC_REQUEST);
    struct mcp_call *call = mcp_call_new(sink, &caller, &message);
    call->resumed = true;
    sink->at_once = true;
    mcp_begin(call);
}

/* The call went with its connection, or runs on where nobody hears it. */
static void tell_lost(struct visit *visit, struct str id)
{
    struct mcp_sink *sink = visit_sink(visit, visit->claims.version);
    struct buf text = {0};

    rpc_write_error(&text, id, MCP_E_INTERNAL,
                    STR("The connection was lost before this call was answered, and it cannot be "
                        "gone on with. Look at the state: it may have been carried out."),
                    (struct str){0});
    sink_say(sink, buf_str(&text));
    sink_end(sink, 0);
    buf_free(&text);
}

static void on_get_guarded(struct exchange *exchange, struct request *request)
{
    struct visit *visit = exchange->state;
    char kind = 0;

    if (request->error != 0) {
        refuse_guard(exchange, request);
        request_free(request);
        return;
    }
    if (request->more)
        renew(exchange->frontend, visit->claims.companion);
    request_free(request);
    struct str what = read_event_id(visit, &kind);
    if (kind == MCP_EVENT_RESUMABLE) {
        go_on(visit, what);
        return;
    }
    if (kind == MCP_EVENT_LOST) {
        tell_lost(visit, what);
        return;
    }
    struct mcp_sink *sink = sink_new(exchange, SINK_NOTES, visit->claims.version);
    sink->takes_events = true;
    sink->level = MCP_INFO;
    exchange_watch(exchange);
    mcp_notes_begin(sink, &visit->claims,
                    visit->last_event_id.n != 0 ? (struct str){kind != 0 ? what.p : "", what.n}
                                                : (struct str){0});
}

static void serve_get(struct visit *visit)
{
    if (!visit->takes_events) {
        exchange_refuse_text(visit->exchange, PROBLEM_E_NOT_ACCEPTABLE, "Accept",
                             "Here is an event stream: Accept must name text/event-stream.");
        return;
    }
    if (read_session(visit))
        guard(visit, NULL, on_get_guarded);
}

/* ---- the face */

static void refuse_method(struct exchange *exchange)
{
    snprintf(exchange->match.allow, sizeof(exchange->match.allow), "POST");
    exchange_refuse_text(exchange, PROBLEM_E_METHOD_NOT_ALLOWED, NULL,
                         "Revision 2026-07-28 has POST only: subscriptions/listen is its stream.");
}

static void serve_other(struct visit *visit)
{
    if (says_modern(visit))
        refuse_method(visit->exchange);
    else if (visit->exchange->match.route == ROUTE_MCP_GET)
        serve_get(visit);
    else
        serve_delete(visit);
}

void mcp_serve(struct exchange *exchange, const struct call *call)
{
    enum route route = exchange->match.route;
    bool posts = route == ROUTE_MCP_POST || route == ROUTE_MCP_SSE_POST;

    if (posts && !check_body(exchange, call))
        return;
    if (route == ROUTE_MCP_SSE_GET)
        mcp_older_open(exchange, call);
    else if (route == ROUTE_MCP_SSE_POST)
        mcp_older_post(exchange, call);
    else if (route == ROUTE_MCP_POST)
        serve_post(visit_new(exchange, call));
    else
        serve_other(visit_new(exchange, call));
}

void mcp_take_reply(struct frontend *frontend, struct request *request)
{
    if ((request->token & MCP_NOTES_TOKEN) == MCP_NOTES_TOKEN)
        mcp_notes_on_reply(frontend, request);
    else
        mcp_on_shard_reply(frontend, request);
}

/* Its calls, and, where it outlasts them, whom it is open for. */
static void describe_sink(const struct mcp_sink *sink, struct connected *connected)
{
    const char *face = sink->kind == SINK_OLDER ? "mcp-sse" : "mcp";
    struct str session = {0}, agent = {0};
    bool told = false;

    for (const struct mcp_call *call = sink->calls; call != NULL; call = call->next) {
        if (call->agent.p == NULL || sink->gone)
            continue;
        connected_add(connected, call->session, call->agent, face, call->wait != NULL);
        told = true;
    }
    if (sink->kind == SINK_OLDER)
        mcp_older_agent(sink, &session, &agent);
    else if (sink->kind == SINK_NOTES && sink->notes != NULL)
        mcp_notes_agent(sink->notes, &session, &agent);
    if (agent.p != NULL && !told)
        connected_add(connected, session, agent, face, false);
}

void mcp_describe(const struct frontend *frontend, struct connected *connected)
{
    for (const struct mcp_sink *sink = frontend->mcp.sinks; sink != NULL; sink = sink->next)
        describe_sink(sink, connected);
}

void mcp_drain(struct frontend *frontend)
{
    sinks_drain(frontend);
}

void mcp_expire(struct frontend *frontend)
{
    const struct slots *calls = &frontend->mcp.calls;
    for (uint32_t i = 0; i < calls->n; i++) {
        struct mcp_call *call = slots_at(calls, i);
        if (call != NULL && call->wait != NULL && call->sink->grant != NULL &&
            call->sink->grant->ended)
            mcp_wait_hurry(call);
    }
}

static void log_stopping(struct mcp_sink *sink)
{
    struct buf text = {0};
    mcp_write_log(&text, MCP_NOTICE, STR("atoll"),
                  STR("\"The server is about to stop: come back in a moment.\""));
    sink_say(sink, buf_str(&text));
    buf_free(&text);
}

void mcp_sink_drain(struct mcp_sink *sink)
{
    if (sink->kind == SINK_LISTEN && sink->calls != NULL) {
        mcp_result(sink->calls, STR("{}"));
        sink_end(sink, 0);
    } else if (sink->kind != SINK_POST) {
        if (sink->level <= MCP_NOTICE)
            log_stopping(sink);
        sink_end(sink, MCP_COME_BACK_MS);
    }
}

static struct sign_key *key_for(struct frontend *frontend, const char *purpose)
{
    uint8_t secret[SEAL_KEY_BYTES];
    cluster_derive_key(reactor_cluster(frontend->reactor), purpose, secret);
    return sign_key_new(secret);
}

void mcp_face_init(struct frontend *frontend)
{
    frontend->mcp.sessions = key_for(frontend, "mcp session id");
    frontend->mcp.events = key_for(frontend, "mcp event id");
    frontend->mcp.states = key_for(frontend, "mcp request state");
}

void mcp_face_free(struct frontend *frontend)
{
    struct mcp_face *face = &frontend->mcp;
    sinks_free(frontend);
    sign_key_free(face->sessions);
    sign_key_free(face->events);
    sign_key_free(face->states);
    slots_free(&face->calls);
    slots_free(&face->streams);
}
