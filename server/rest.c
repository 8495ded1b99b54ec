#include "server/rest.h"

#include "server/at.h"
#include "server/auth/guard.h"
#include "server/etag.h"
#include "server/framing.h"
#include "server/history.h"
#include "server/newid.h"
#include "server/problem.h"
#include "server/shares.h"

#include <stdio.h>

/* ---- the routes that are one command each */

enum preset {
    PRESET_AGENT = 1,
    PRESET_THREAD = 2,
    PRESET_BY = 4,
    PRESET_SESSION = 8,
    PRESET_NO_URL = 16
};

struct form {
    enum core_type type; /* CORE_TYPE_NONE: not such a route */
    uint8_t preset;      /* enum preset: fields that come in path and query */
    bool makes;          /* 201 with Location where it made something */
};

static const struct form forms[ROUTE_COUNT] = {
    [ROUTE_SESSION_POST] = {CORE_SESSION_CREATE, 0, true},
    [ROUTE_SESSION_PUT] = {CORE_SESSION_CREATE, PRESET_SESSION, true},
    [ROUTE_SESSION_PATCH] = {CORE_SESSION_UPDATE, 0, false},
    [ROUTE_SESSION_CLOSE] = {CORE_SESSION_CLOSE, 0, false},
    [ROUTE_AGENT_POST] = {CORE_AGENT_REGISTER, 0, true},
    [ROUTE_AGENT_PATCH] = {CORE_AGENT_UPDATE, PRESET_AGENT, false},
    [ROUTE_AGENT_DELETE] = {CORE_AGENT_LEAVE, PRESET_AGENT, false},
    [ROUTE_INBOX_ACK] = {CORE_INBOX_ACK, PRESET_AGENT, false},
    [ROUTE_WAKE_SET] = {CORE_AGENT_WAKE, PRESET_AGENT, false},
    [ROUTE_WAKE_DELETE] = {CORE_AGENT_WAKE, PRESET_AGENT | PRESET_NO_URL, false},
    [ROUTE_THREAD_POST] = {CORE_THREAD_CREATE, 0, true},
    [ROUTE_THREAD_CLOSE] = {CORE_THREAD_CLOSE, PRESET_THREAD, false},
    [ROUTE_THREAD_READ] = {CORE_THREAD_READ, PRESET_THREAD, false},
    [ROUTE_PARTICIPANT_PUT] = {CORE_THREAD_ADD, PRESET_THREAD | PRESET_AGENT | PRESET_BY, false},
    [ROUTE_PARTICIPANT_DELETE] = {CORE_THREAD_REMOVE, PRESET_THREAD | PRESET_AGENT | PRESET_BY,
                                  false},
    [ROUTE_MESSAGE_POST] = {CORE_MESSAGE_SEND, PRESET_THREAD, true},
};

static int malformed(struct core_refusal *why, const char *field, const char *detail)
{
    *why = (struct core_refusal){.code = CORE_E_MALFORMED, .field = field};
    snprintf(why->detail, sizeof(why->detail), "%s", detail);
    return CORE_E_MALFORMED;
}

static int too_large(struct core_refusal *why, const char *field, const char *detail)
{
    malformed(why, field, detail);
    why->code = CORE_E_TOO_LARGE;
    return CORE_E_TOO_LARGE;
}

/* ---- checks before decoding */

static int check_media(const struct exchange *exchange, const struct call *call,
                       struct core_refusal *why)
{
    enum access_media media = access_media(call->headers.content_type);
    bool json = exchange->match.route != ROUTE_IMPORT;
    bool lines = !json || exchange->match.route == ROUTE_COMMANDS;

    if (call->body.n == 0 || (media == ACCESS_MEDIA_JSON && json) ||
        (media == ACCESS_MEDIA_NDJSON && lines))
        return 0;
    *why = (struct core_refusal){.field = "Content-Type"};
    snprintf(why->detail, sizeof(why->detail), "Send %s%s%s.", json ? "application/json" : "",
             json && lines ? " or " : "", lines ? "application/x-ndjson" : "");
    return PROBLEM_E_UNSUPPORTED_MEDIA_TYPE;
}

static bool is_batch(const struct call *call)
{
    size_t i = 0;
    if (access_media(call->headers.content_type) == ACCESS_MEDIA_NDJSON)
        return true;
    while (i < call->body.n && strchr(" \t\r\n", call->body.p[i]) != NULL && call->body.p[i] != 0)
        i++;
    return i < call->body.n && call->body.p[i] == '[';
}

static int check_size(const struct exchange *exchange, const struct call *call,
                      struct core_refusal *why)
{
    const struct config *config = exchange->frontend->shared->config;
    bool import = exchange->match.route == ROUTE_IMPORT;
    uint64_t limit = import ? config->max_batch_bytes : config->max_body_bytes;

    if (call->body.n <= limit || (exchange->match.route == ROUTE_COMMANDS && is_batch(call)))
        return 0;
    *why = (struct core_refusal){.code = CORE_E_TOO_LARGE};
    snprintf(why->detail, sizeof(why->detail), "The body has %zu bytes; at most %llu are allowed.",
             call->body.n, (unsigned long long)limit);
    return CORE_E_TOO_LARGE;
}

int rest_check_body(const struct exchange *exchange, const struct call *call,
                    struct core_refusal *why)
{
    int rc = check_media(exchange, call, why);
    return rc == 0 ? check_size(exchange, call, why) : rc;
}

/* ---- making requests */

struct request *rest_request(const struct exchange *exchange, enum request_kind kind)
{
    struct request *request = request_new();
    request->kind = kind;
    request->session = arena_copy(&request->arena, exchange->match.session);
    return request;
}

static void preset_str(struct core_fields *fields, enum core_field field, struct str *place,
                       struct str value, struct arena *arena)
{
    *place = arena_copy(arena, value);
    fields->given |= UINT64_C(1) << field;
}

static void preset_fields(const struct exchange *exchange, const struct call *call,
                          const struct form *form, struct request *request,
                          struct core_fields *fields)
{
    const struct route_match *match = &exchange->match;
    struct arena *arena = &request->arena;

    if (form->preset & PRESET_SESSION) {
        fields->session = request->session;
        fields->given |= UINT64_C(1) << CORE_FIELD_SESSION;
    }
    if (form->preset & PRESET_AGENT)
        preset_str(fields, CORE_FIELD_AGENT, &fields->agent, match->agent, arena);
    if (form->preset & PRESET_THREAD)
        preset_str(fields, CORE_FIELD_THREAD, &fields->thread, match->thread, arena);
    if ((form->preset & PRESET_BY) != 0 && query_has(&call->query, QUERY_BY))
        preset_str(fields, CORE_FIELD_BY, &fields->by, call->query.by, arena);
    if (form->preset & PRESET_NO_URL)
        fields->given |= UINT64_C(1) << CORE_FIELD_URL;
    if (query_has(&call->query, QUERY_HISTORY)) {
        fields->history = call->query.history;
        fields->given |= UINT64_C(1) << CORE_FIELD_HISTORY;
    }
}

int rest_take_key(const struct exchange *exchange, const struct call *call, struct request *request,
                  struct core_refusal *why)
{
    struct str key = call->headers.key;

    request->caller = arena_copy(&request->arena, guard_caller(exchange->grant));
    if (key.p == NULL)
        return 0;
    if (key.n > DECODE_KEY_BYTES)
        return too_large(why, "Idempotency-Key", "An idempotency key has at most 128 bytes.");
    if (!decode_key_valid(key))
        return malformed(why, "Idempotency-Key",
                         "An idempotency key has 1 to 128 bytes, no control characters.");
    request->key = arena_copy(&request->arena, key);
    return 0;
}

static int take_headers(const struct exchange *exchange, const struct call *call,
                        struct request *request, struct core_refusal *why)
{
    const struct call_headers *headers = &call->headers;
    struct str epoch;
    int rc = rest_take_key(exchange, call, request, why);

    if (rc != 0)
        return rc;
    if (headers->if_match.p != NULL) {
        if (!etag_read(headers->if_match, &epoch, &request->expected_seq))
            return malformed(why, "If-Match", "If-Match must be one ETag, \"<epoch>-<seq>\".");
        request->expected_epoch = arena_copy(&request->arena, epoch);
    }
    return 0;
}

struct str rest_new_id(struct frontend *frontend, struct request *request)
{
    struct str tag = frontend_node_tag(frontend);
    int64_t now_ms = reactor_wall_ms(frontend->reactor);
    char id[NEWID_BYTES];
    struct str made = request->key.p != NULL ? newid_by_key(id, tag, request->caller, request->key)
                                             : newid_by_time(id, tag, now_ms, ++frontend->ids);
    return arena_copy(&request->arena, made);
}

int rest_check_node(const struct frontend *frontend, struct str id, const char *instead,
                    struct core_refusal *why)
{
    struct str tag = frontend_node_tag(frontend);

    if (newid_is_here(id, tag))
        return 0;
    *why = (struct core_refusal){.field = "session"};
    snprintf(why->detail, sizeof(why->detail),
             "Sessions are found by the id in the path, and this one would be looked for at "
             "another node than this, \"%.*s\". Leave the id out, begin it with \"%.*s-\"%s.",
             (int)tag.n, tag.p, (int)tag.n, tag.p, instead);
    return PROBLEM_E_MISDIRECTED;
}

/* POST /v1/sessions: the id is the body's, made from the key, or a new one. */
static int name_session(struct frontend *frontend, struct request *request,
                        struct core_refusal *why)
{
    struct core_fields *fields = &request->commands[0].command.f;

    if (fields->session.p == NULL) {
        fields->session = rest_new_id(frontend, request);
        fields->given |= UINT64_C(1) << CORE_FIELD_SESSION;
    }
    request->session = fields->session;
    return rest_check_node(frontend, request->session, ", or use PUT /v1/sessions/ID", why);
}

static int decode_form(struct exchange *exchange, const struct call *call, const struct form *form,
                       struct request *request, struct core_refusal *why)
{
    struct frontend *frontend = exchange->frontend;
    struct core_fields fields = {0};

    preset_fields(exchange, call, form, request, &fields);
    if (decode_rest(frontend->decoder, form->type, &fields, call->body, request, why) != 0)
        return (int)why->code;
    return exchange->match.route == ROUTE_SESSION_POST ? name_session(frontend, request, why) : 0;
}

int rest_check_create(struct request *request, struct request_command *item,
                      struct core_refusal *why)
{
    struct core_fields *fields = &item->command.f;

    if (item->bad != NULL || item->command.type != CORE_SESSION_CREATE)
        return 0;
    if (fields->session.p != NULL && !str_equal(fields->session, request->session))
        return malformed(why, "session", "The session must be that of the path, or left out.");
    fields->session = request->session;
    fields->given |= UINT64_C(1) << CORE_FIELD_SESSION;
    return 0;
}

static int decode_batch(struct exchange *exchange, const struct call *call, struct request *request,
                        struct core_refusal *why)
{
    bool lines = access_media(call->headers.content_type) == ACCESS_MEDIA_NDJSON;

    request->atomic = call->query.atomic;
    if (decode_commands(exchange->frontend->decoder, call->body, lines, request, why) != 0)
        return (int)why->code;
    if (request->batch && call->headers.key.p != NULL)
        return malformed(why, "Idempotency-Key",
                         "In a batch each command has a key of its own, in \"key\".");
    for (uint32_t i = 0; i < request->commands_n; i++) {
        struct request_command *item = &request->commands[i];
        int rc = rest_check_create(request, item, why);
        if (rc != 0 && !request->batch)
            return rc;
        if (rc != 0) {
            item->bad = arena_alloc(&request->arena, sizeof(*item->bad));
            *item->bad = *why;
        }
    }
    return 0;
}

static void serve_commands(struct exchange *exchange, const struct call *call)
{
    const struct form *form = &forms[exchange->match.route];
    struct core_refusal why; /* good where rc is not 0 */
    int rc = rest_check_body(exchange, call, &why);

    if (rc != 0) {
        exchange_refuse(exchange, (unsigned)rc, &why);
        return;
    }
    struct request *request = rest_request(exchange, REQUEST_COMMANDS);
    decoder_speak_as(exchange->frontend->decoder, guard_speaker(exchange->grant), exchange->trace);
    rc = take_headers(exchange, call, request, &why);
    if (rc == 0)
        rc = form->type != CORE_TYPE_NONE ? decode_form(exchange, call, form, request, &why)
                                          : decode_batch(exchange, call, request, &why);
    if (rc == 0) {
        if (request->commands_n > 1)
            shares_charge(exchange, request->commands_n - 1);
        exchange_send(exchange, request);
    } else {
        exchange_refuse(exchange, (unsigned)rc, &why);
        request_free(request);
    }
}

static void serve_delete(struct exchange *exchange, const struct call *call)
{
    struct request *request = rest_request(exchange, REQUEST_DELETE);
    struct core_refusal why;
    int rc = take_headers(exchange, call, request, &why);

    if (rc == 0) {
        exchange_send(exchange, request);
    } else {
        exchange_refuse(exchange, (unsigned)rc, &why);
        request_free(request);
    }
}

/* ---- reading */

static void serve_page(struct exchange *exchange, const struct call *call, enum request_kind kind)
{
    const struct query *query = &call->query;

    if (kind == REQUEST_MESSAGES && query_has(query, QUERY_AFTER) &&
        query_has(query, QUERY_BEFORE)) {
        exchange_refuse_text(exchange, CORE_E_MALFORMED, "before",
                             "before and after exclude each other.");
        return;
    }
    if (query_has(query, QUERY_LAST_EVENT_ID)) {
        exchange_refuse_text(exchange, CORE_E_MALFORMED, "last_event_id",
                             "last_event_id belongs to a stream, not to a page.");
        return;
    }
    struct request *request = rest_request(exchange, kind);
    request->thread = arena_copy(&request->arena,
                                 kind == REQUEST_MESSAGES ? exchange->match.thread : query->thread);
    request->agent = arena_copy(&request->arena, query->agent);
    request->has_since = query_has(query, QUERY_SINCE);
    request->since_ms = query->since_ms;
    request->has_until = query_has(query, QUERY_UNTIL);
    request->until_ms = query->until_ms;
    request->descending = query->descending;
    request->has_after = query_has(query, QUERY_AFTER);
    request->after = query->after;
    request->has_before = query_has(query, QUERY_BEFORE);
    request->before = query->before;
    request->limit = query->limit;
    request->types = query->types;
    exchange_send(exchange, request);
}

static void serve_inbox(struct exchange *exchange, const struct call *call)
{
    const struct query *query = &call->query;
    struct request *request = rest_request(exchange, REQUEST_INBOX);

    request->inbox.agent = arena_copy(&request->arena, exchange->match.agent);
    request->inbox.from = arena_copy(&request->arena, query->from);
    request->inbox.mentions = query->mentions;
    request->inbox.limit = request->limit = query->limit;
    request->wait = query->wait_ms != 0;
    if (exchange_send(exchange, request) && query->wait_ms != 0)
        exchange_begin_wait(exchange, exchange->match.session, exchange->match.agent,
                            query->wait_ms);
}

/* A ping of an agent, or a rebuild, which is of none. */
static void serve_bare(struct exchange *exchange, const struct call *call, enum request_kind kind)
{
    if (call->body.n != 0) {
        exchange_refuse_text(exchange, CORE_E_MALFORMED, NULL,
                             kind == REQUEST_TOUCH ? "A ping has no body."
                                                   : "A rebuild has no body.");
        return;
    }
    struct request *request = rest_request(exchange, kind);
    request->agent = arena_copy(&request->arena, exchange->match.agent);
    exchange_send(exchange, request);
}

static void serve_state(struct exchange *exchange, const struct call *call, enum request_kind kind)
{
    struct request *request = rest_request(exchange, kind);
    const struct core_parts *parts = call->query.parts;

    request->thread = arena_copy(&request->arena, exchange->match.thread);
    request->at = at_copy(&request->arena, &call->query.at);
    request->compact = call->query.view == VIEW_COMPACT;
    if (parts != NULL)
        request->parts =
            core_parts_copy(parts, arena_alloc(&request->arena, core_parts_bytes(parts)));
    exchange->none_match = call->headers.if_none_match;
    exchange_send(exchange, request);
}

void rest_serve(struct exchange *exchange, const struct call *call)
{
    switch (exchange->match.route) {
    case ROUTE_SESSION_DELETE:
        serve_delete(exchange, call);
        break;
    case ROUTE_SESSION_GET:
        serve_state(exchange, call, REQUEST_VIEW);
        break;
    case ROUTE_THREAD_GET:
        serve_state(exchange, call, REQUEST_THREAD);
        break;
    case ROUTE_EVENTS:
        serve_page(exchange, call, REQUEST_EVENTS);
        break;
    case ROUTE_MESSAGE_LIST:
        serve_page(exchange, call, REQUEST_MESSAGES);
        break;
    case ROUTE_INBOX_GET:
        serve_inbox(exchange, call);
        break;
    case ROUTE_PING:
        serve_bare(exchange, call, REQUEST_TOUCH);
        break;
    case ROUTE_REBUILD:
        serve_bare(exchange, call, REQUEST_REBUILD);
        break;
    case ROUTE_DIFF:
    case ROUTE_PROOF:
    case ROUTE_FORK:
    case ROUTE_EXPORT:
    case ROUTE_IMPORT:
        history_serve(exchange, call);
        break;
    default:
        serve_commands(exchange, call);
        break;
    }
}

/* ---- answers */

/* The path of what was made; of a message, the page that holds just it. */
struct str rest_location(struct exchange *exchange, const struct request *request)
{
    struct buf *out = &exchange->frontend->location;

    out->n = 0;
    buf_add_literal(out, "/v1/sessions/");
    buf_add_str(out, request->session);
    if (exchange->match.route == ROUTE_AGENT_POST) {
        buf_add_literal(out, "/agents/");
        buf_add_str(out, request->made);
    } else if (exchange->match.route == ROUTE_THREAD_POST) {
        buf_add_literal(out, "/threads/");
        buf_add_str(out, request->made);
    } else if (exchange->match.route == ROUTE_MESSAGE_POST) {
        buf_add_literal(out, "/threads/");
        buf_add_str(out, request->commands[0].command.f.thread);
        buf_add_literal(out, "/messages?after=");
        buf_add_u64(out, core_message_seq(request->made) - 1);
        buf_add_literal(out, "&limit=1");
    }
    return exchange_copy(exchange, out);
}

static void answer_commands(struct exchange *exchange, const struct request *request)
{
    struct answer answer = {.status = 200, .kind = ANSWER_JSON, .body = buf_str(&request->body)};

    if (forms[exchange->match.route].makes && request->made.p != NULL) {
        answer.status = 201;
        answer.location = rest_location(exchange, request);
    }
    answer.replayed = request->replayed;
    exchange_answer(exchange, &answer);
}

/* The tag of another view than the plain one: "<epoch>-<seq>-<view>", as in the ids of a stream. */
static struct str etag_of_view(struct exchange *exchange, struct str etag,
                               const struct request *request)
{
    char scratch[FRAMING_VIEW_BYTES];
    unsigned form = request->compact ? WANTS_COMPACT : WANTS_PATCHES;
    struct str view = framing_view(form, request->parts, guard_redaction(exchange->grant), scratch);
    char *text = exchange_alloc(exchange, etag.n + 1 + view.n);
    size_t n = etag.n - 1;

    memcpy(text, etag.p, n);
    text[n++] = '-';
    memcpy(text + n, view.p, view.n);
    n += view.n;
    text[n++] = '"';
    return (struct str){text, n};
}

static void answer_state(struct exchange *exchange, const struct request *request)
{
    struct answer answer = {.status = 200, .kind = ANSWER_STATE, .body = buf_str(&request->body)};
    struct str epoch = {request->epoch, strlen(request->epoch)};

    answer.etag = etag_write(exchange_alloc(exchange, ETAG_BYTES), epoch, request->seq);
    if (request->compact || request->parts != NULL || guard_redaction(exchange->grant) != NULL)
        answer.etag = etag_of_view(exchange, answer.etag, request);
    if (exchange->none_match.n != 0 && etag_listed(exchange->none_match, answer.etag)) {
        answer.status = 304;
        answer.body = (struct str){0};
    }
    exchange_answer(exchange, &answer);
}

/* With how far history reaches back, or where the session stands that is not as far as asked. */
static void answer_refusal(struct exchange *exchange, const struct request *request)
{
    bool gone = request->error == REQUEST_E_GONE;
    uint64_t value = gone ? request->oldest : request->refusal.seq;
    char members[48];
    int n = snprintf(members, sizeof(members), "{\"%s\":%llu}", gone ? "oldest" : "seq",
                     (unsigned long long)value);
    bool told = value != 0 && (gone || request->error == CORE_E_MALFORMED);

    exchange_refuse_with(exchange, request->error, &request->refusal,
                         (struct str){members, told ? (size_t)n : 0});
}

static void answer_error(struct exchange *exchange, struct request *request)
{
    struct core_refusal *why = &request->refusal;

    if (request->kind != REQUEST_COMMANDS || request->body.n == 0) {
        answer_refusal(exchange, request);
        return;
    }
    /* An atomic batch: which command it was and why stands in its results. */
    *why = (struct core_refusal){.code = CORE_E_REFUSED};
    snprintf(why->detail, sizeof(why->detail),
             "One of the %u commands was refused, so none was applied.", request->commands_n);
    exchange_refuse_with(exchange, request->error, why, buf_str(&request->body));
}

void rest_on_reply(struct exchange *exchange, struct request *request)
{
    exchange_waited(exchange);
    if (request->kind == REQUEST_EXPORT && history_on_page(exchange, request))
        return;
    if (exchange->answered) {
        request_free(request);
        return;
    }
    exchange->reply = request;
    if (request->error != 0)
        answer_error(exchange, request);
    else if (request->kind == REQUEST_COMMANDS)
        answer_commands(exchange, request);
    else if (request->kind == REQUEST_VIEW || request->kind == REQUEST_THREAD)
        answer_state(exchange, request);
    else if (request->kind == REQUEST_DELETE || request->kind == REQUEST_TOUCH)
        exchange_answer(exchange, &(struct answer){.status = 204, .kind = ANSWER_JSON});
    else if (request->kind == REQUEST_FORK || request->kind == REQUEST_IMPORT)
        history_answer_made(exchange, request);
    else
        exchange_answer(
            exchange,
            &(struct answer){.status = 200, .kind = ANSWER_JSON, .body = buf_str(&request->body)});
}
