#include "server/auth/guard.h"

#include "server/auth/audit.h"
#include "server/auth/login.h"
#include "server/problem.h"
#include "server/redact.h"

#include <stdio.h>
#include <strings.h>

/* ---- what routes and requests need */

enum need {
    NEED_NOTHING = 1, /* no token at all */
    NEED_TOKEN = 2,   /* any good one */
    NEED_READ = 4,    /* these, in the session of the path, where there is one */
    NEED_WRITE = 8,
    NEED_ADMIN = 16,
    NEED_SERVER = 32, /* admin of all sessions */
    NEED_SELF = 64,   /* to be the agent, or admin */
    NEED_ALL = 128,   /* nothing is hidden from this caller */
};

/* A route without a row is open to nobody. */
static const uint8_t route_needs[ROUTE_COUNT] = {
    [ROUTE_PAGE] = NEED_NOTHING,
    [ROUTE_ASSET] = NEED_NOTHING,
    [ROUTE_HEALTH] = NEED_NOTHING,
    [ROUTE_READY] = NEED_NOTHING,
    [ROUTE_OPENAPI] = NEED_NOTHING,
    [ROUTE_LOGIN] = NEED_NOTHING, /* looks for itself */
    [ROUTE_LOGOUT] = NEED_NOTHING,
    [ROUTE_ME] = NEED_TOKEN,
    [ROUTE_TICKET] = NEED_TOKEN,
    [ROUTE_STATUS] = NEED_SERVER,
    [ROUTE_METRICS] = NEED_SERVER,
    [ROUTE_LOG_LEVEL_GET] = NEED_SERVER,
    [ROUTE_LOG_LEVEL_PUT] = NEED_SERVER,
    [ROUTE_SESSION_LIST] = NEED_READ,
    [ROUTE_SESSION_POST] = NEED_WRITE,
    [ROUTE_SESSION_GET] = NEED_READ,
    [ROUTE_SESSION_PUT] = NEED_WRITE,
    [ROUTE_SESSION_PATCH] = NEED_WRITE,
    [ROUTE_SESSION_DELETE] = NEED_ADMIN,
    [ROUTE_SESSION_CLOSE] = NEED_WRITE,
    [ROUTE_COMMANDS] = NEED_WRITE,
    [ROUTE_STREAM] = NEED_READ,
    [ROUTE_SOCKET] = NEED_READ, /* its commands are looked at one by one */
    [ROUTE_MANY_STREAM] = NEED_READ,
    [ROUTE_MANY_SOCKET] = NEED_READ,
    [ROUTE_EVENTS] = NEED_READ,
    [ROUTE_DIFF] = NEED_READ,
    [ROUTE_PROOF] = NEED_READ | NEED_ALL,
    [ROUTE_FORK] = NEED_READ | NEED_ALL,
    [ROUTE_EXPORT] = NEED_READ | NEED_ALL,
    [ROUTE_IMPORT] = NEED_ADMIN,
    [ROUTE_REBUILD] = NEED_ADMIN,
    [ROUTE_AGENT_POST] = NEED_WRITE,
    [ROUTE_AGENT_PATCH] = NEED_WRITE | NEED_SELF,
    [ROUTE_AGENT_DELETE] = NEED_WRITE | NEED_SELF,
    [ROUTE_INBOX_GET] = NEED_READ | NEED_SELF,
    [ROUTE_INBOX_ACK] = NEED_WRITE | NEED_SELF,
    [ROUTE_WAKE_SET] = NEED_WRITE | NEED_SELF,
    [ROUTE_WAKE_DELETE] = NEED_WRITE | NEED_SELF,
    [ROUTE_PING] = NEED_WRITE | NEED_SELF,
    [ROUTE_THREAD_POST] = NEED_WRITE,
    [ROUTE_THREAD_GET] = NEED_READ,
    [ROUTE_THREAD_CLOSE] = NEED_WRITE,
    [ROUTE_PARTICIPANT_PUT] = NEED_WRITE,
    [ROUTE_PARTICIPANT_DELETE] = NEED_WRITE,
    [ROUTE_MESSAGE_POST] = NEED_WRITE,
    [ROUTE_MESSAGE_LIST] = NEED_READ,
    [ROUTE_THREAD_READ] = NEED_WRITE,
    [ROUTE_MCP_POST] = NEED_READ | NEED_SELF,
    [ROUTE_MCP_GET] = NEED_READ | NEED_SELF,
    [ROUTE_MCP_DELETE] = NEED_READ | NEED_SELF,
    [ROUTE_MCP_SSE_GET] = NEED_READ | NEED_SELF,
    [ROUTE_MCP_SSE_POST] = NEED_READ | NEED_SELF,
};

/* The same of requests. 0: only faces themselves send it, never for what a client said. */
static const uint8_t request_needs[] = {
    [REQUEST_COMMANDS] = NEED_WRITE,
    [REQUEST_DELETE] = NEED_ADMIN,
    [REQUEST_VIEW] = NEED_READ,
    [REQUEST_THREAD] = NEED_READ,
    [REQUEST_MESSAGES] = NEED_READ,
    [REQUEST_EVENTS] = NEED_READ,
    [REQUEST_INBOX] = NEED_READ | NEED_SELF,
    [REQUEST_FOLLOW] = NEED_READ,
    [REQUEST_LIST] = NEED_READ,
    [REQUEST_STATUS] = NEED_SERVER,
    [REQUEST_DIFF] = NEED_READ,
    [REQUEST_PROOF] = NEED_READ | NEED_ALL,
    [REQUEST_FORK] = NEED_WRITE | NEED_ALL,
    [REQUEST_EXPORT] = NEED_READ | NEED_ALL,
    [REQUEST_IMPORT] = NEED_ADMIN,
    [REQUEST_CHANGES] = NEED_READ,
    [REQUEST_EXISTS] = NEED_READ,
    [REQUEST_RELAY] = NEED_TOKEN,
    [REQUEST_TOUCH] = NEED_WRITE | NEED_SELF,
    [REQUEST_REBUILD] = NEED_ADMIN,
};

/* ---- refusing */

__attribute__((format(printf, 2, 3))) static int forbid(struct core_refusal *why,
                                                        const char *format, ...)
{
    va_list arguments;
    *why = (struct core_refusal){0};
    va_start(arguments, format);
    vsnprintf(why->detail, sizeof(why->detail), format, arguments);
    va_end(arguments);
    return REQUEST_E_FORBIDDEN;
}

static int check_scope(const struct grant *grant, unsigned needs, struct core_refusal *why)
{
    if ((needs & NEED_SERVER) != 0 && !(grant_has_scope(grant, AUTH_ADMIN) && grant->all_sessions))
        return forbid(why, "This needs a token with the scope admin and the sid *.");
    if ((needs & NEED_ADMIN) != 0 && !grant_has_scope(grant, AUTH_ADMIN))
        return forbid(why, "This needs a token with the scope admin.");
    if ((needs & NEED_WRITE) != 0 && !grant_has_scope(grant, AUTH_WRITE))
        return forbid(why, "This needs a token with the scope write.");
    if ((needs & NEED_READ) != 0 && !grant_has_scope(grant, AUTH_READ))
        return forbid(why, "This needs a token with the scope read.");
    if ((needs & NEED_ALL) != 0 && grant->redaction != NULL)
        return forbid(why, "Parts of the session are hidden from this token (redact): it gets no "
                           "proof, export or fork.");
    return 0;
}

static int check_session(const struct grant *grant, struct str session, struct core_refusal *why)
{
    if (grant_has_session(grant, session))
        return 0;
    return forbid(why, "The token's sid does not allow the session \"%.*s\".", (int)session.n,
                  session.p);
}

static int check_speaker(const struct grant *grant, struct str agent, struct core_refusal *why)
{
    if (grant_speaks_for(grant, agent))
        return 0;
    if (grant->claims.sub.p == NULL)
        return forbid(why, "The token has no sub: it speaks for no agent.");
    return forbid(why, "The token speaks for \"%.*s\" (its sub), and not for \"%.*s\".",
                  (int)grant->claims.sub.n, grant->claims.sub.p, (int)agent.n, agent.p);
}

/* ---- who calls */

struct credentials {
    struct str token;  /* of the header or the cookie; p == NULL: none */
    struct str ticket; /* of the query */
    bool by_cookie;
};

static void refuse_unknown(struct exchange *exchange, const char *detail, bool given)
{
    exchange->token_refused = given;
    audit_refused(exchange, 401, detail);
    exchange_refuse_text(exchange, PROBLEM_E_UNAUTHORIZED, NULL, detail);
}

struct str guard_bearer(struct str header)
{
    static const char scheme[] = "Bearer ";
    size_t n = sizeof(scheme) - 1;
    if (header.n <= n || strncasecmp(header.p, scheme, n) != 0)
        return (struct str){0};
    while (n < header.n && header.p[n] == ' ')
        n++;
    return (struct str){header.p + n, header.n - n};
}

/* False: refused. */
static bool find_credentials(struct exchange *exchange, const struct call *call,
                             struct credentials *out)
{
    const struct call_headers *headers = &call->headers;
    struct str cookie =
        headers->cookie.p != NULL ? login_cookie(exchange, headers->cookie) : (struct str){0};

    *out = (struct credentials){.ticket = call->query.ticket};
    if (headers->authorization.p != NULL) {
        out->token = guard_bearer(headers->authorization);
        if (out->token.p == NULL) {
            refuse_unknown(exchange, "Authorization must be: Bearer TOKEN.", true);
            return false;
        }
    } else if (out->ticket.p == NULL) { /* what was asked for by name goes before the cookie */
        out->token = cookie;
        out->by_cookie = cookie.p != NULL;
    }
    if (out->token.p == NULL && out->ticket.p == NULL) {
        refuse_unknown(exchange, "This needs a token: Authorization: Bearer TOKEN.", false);
        return false;
    }
    if (out->token.p != NULL && out->ticket.p != NULL) {
        exchange_refuse_text(exchange, CORE_E_MALFORMED, "ticket",
                             "Give a ticket or an Authorization, not both.");
        return false;
    }
    return true;
}

static bool is_reading(const struct exchange *exchange)
{
    h2o_iovec_t method = exchange->req->input.method;
    bool safe = h2o_memis(method.base, method.len, H2O_STRLIT("GET")) ||
                h2o_memis(method.base, method.len, H2O_STRLIT("HEAD"));
    return safe && exchange->match.route != ROUTE_SOCKET &&
           exchange->match.route != ROUTE_MANY_SOCKET;
}

/* A browser adds the cookie whatever page it was that made the request: what changes something
 * must come from a page of ours. */
static bool check_cookie_origin(struct exchange *exchange, const struct call *call)
{
    if (is_reading(exchange) || login_own_origin(exchange, call))
        return true;
    audit_refused(exchange, 403, "cookie without the server's own Origin");
    exchange_refuse_text(exchange, PROBLEM_E_FORBIDDEN_ORIGIN, "Origin",
                         "With a cookie, only pages of this server may do this.");
    return false;
}

/* With one reference of the exchange's. */
static struct grant *take_grant(struct exchange *exchange, const struct credentials *credentials)
{
    struct connection *connection = exchange->connection;
    struct grant *grant = connection->grant;
    enum token_error error;

    if (credentials->ticket.p != NULL) {
        grant = ticket_redeem(exchange, credentials->ticket);
        if (grant == NULL)
            refuse_unknown(exchange, "The ticket is unknown, used, or older than 30 s.", true);
        return grant;
    }
    if (grant != NULL && str_equal(grant->token, credentials->token) && !grant_is_over(grant))
        return grant_hold(grant);
    grant = grants_take(exchange->frontend, credentials->token, &error);
    if (grant == NULL) {
        refuse_unknown(exchange, token_error_text(error), true);
        return NULL;
    }
    grant_release(connection->grant);
    connection->grant = grant_hold(grant);
    return grant;
}

static bool authenticate(struct exchange *exchange, const struct call *call)
{
    struct credentials credentials;

    if (!find_credentials(exchange, call, &credentials))
        return false;
    exchange->grant = take_grant(exchange, &credentials);
    if (exchange->grant == NULL)
        return false;
    return !credentials.by_cookie || check_cookie_origin(exchange, call);
}

bool guard_enter(struct exchange *exchange, const struct call *call)
{
    const struct route_match *match = &exchange->match;
    unsigned needs = route_needs[match->route];
    struct core_refusal why;
    int rc = 0;

    if (exchange->frontend->live->keys == NULL || (needs & NEED_NOTHING) != 0)
        return true;
    if (!authenticate(exchange, call))
        return false;
    if (needs == 0)
        rc = forbid(&why, "No token allows this.");
    if (rc == 0)
        rc = check_scope(exchange->grant, needs, &why);
    if (rc == 0 && match->session.p != NULL)
        rc = check_session(exchange->grant, match->session, &why);
    if (rc == 0 && (needs & NEED_SELF) != 0 && match->agent.p != NULL)
        rc = check_speaker(exchange->grant, match->agent, &why);
    if (rc != 0) {
        audit_refused(exchange, 403, why.detail);
        exchange_refuse(exchange, (unsigned)rc, &why);
        return false;
    }
    if ((needs & (NEED_ADMIN | NEED_SERVER)) != 0 && !is_reading(exchange))
        audit_admin(exchange);
    return true;
}

/* ---- what is asked of shards */

/* Companions are the faces' own; no client can name one. */
static bool is_companion(struct str session)
{
    return session.n != 0 && session.p[0] == '~';
}

static int check_command(const struct grant *grant, struct str session,
                         const struct core_command *command, struct core_refusal *why)
{
    const struct core_type_spec *spec = core_type_spec(command->type);
    struct str speaker;

    if (spec->actor_offset < 0)
        return 0;
    memcpy(&speaker, (const char *)&command->f + spec->actor_offset, sizeof(speaker));
    int rc = check_speaker(grant, speaker, why);
    if (rc == 0 && !str_equal(grant->claims.sub, speaker))
        audit_speaks_for(grant, session, speaker, spec->command_name);
    return rc;
}

static void mark_bad(struct request *request, struct request_command *item, int rc,
                     struct core_refusal *why)
{
    why->code = (enum core_error)rc;
    item->bad = arena_alloc(&request->arena, sizeof(*item->bad));
    *item->bad = *why;
}

static int check_commands(const struct grant *grant, struct request *request,
                          struct core_refusal *why)
{
    for (uint32_t i = 0; i < request->commands_n; i++) {
        struct request_command *item = &request->commands[i];
        int rc =
            item->bad != NULL ? 0 : check_command(grant, request->session, &item->command, why);
        if (rc != 0 && !request->batch)
            return rc;
        if (rc != 0) {
            audit_refused_later(grant->frontend, grant, request->session, 403, why->detail);
            mark_bad(request, item, rc, why);
        }
    }
    return 0;
}

/* Lists tell of what the caller may see, and of nothing else. */
static int narrow(const struct grant *grant, struct request *request, struct core_refusal *why)
{
    const struct auth_claims *claims = &grant->claims;

    if (grant->all_sessions)
        return 0;
    if (claims->sessions_n == 0)
        return forbid(why, "The token has no sid: it allows no session.");
    struct str *patterns = arena_alloc(&request->arena, claims->sessions_n * sizeof(*patterns));
    for (unsigned i = 0; i < claims->sessions_n; i++)
        patterns[i] = arena_copy(&request->arena, claims->sessions[i]);
    request->patterns = patterns;
    request->patterns_n = claims->sessions_n;
    return 0;
}

/* What is found by what is hidden tells of it. */
static int check_filters(const struct grant *grant, const struct request *request,
                         struct core_refusal *why)
{
    const char *field = grant->redaction != NULL ? redaction_bars(grant->redaction, request) : NULL;
    if (field == NULL)
        return 0;
    int rc = forbid(why, "This asks by something that is hidden from this token (redact).");
    why->field = field;
    return rc;
}

static int check_request(const struct grant *grant, struct request *request,
                         struct core_refusal *why)
{
    /* What is handed out is taken from the inbox. */
    unsigned needs = request_needs[request->kind] | (request->hand ? NEED_WRITE : 0U);
    bool many = request->kind == REQUEST_LIST || request->kind == REQUEST_CHANGES;
    int rc = check_scope(grant, needs, why);

    if (rc == 0)
        rc = check_filters(grant, request, why);
    if (rc == 0 && many)
        return narrow(grant, request, why);
    if (rc == 0 && request->session.p != NULL)
        rc = check_session(grant, request->session, why);
    if (rc == 0 && request->kind == REQUEST_FORK)
        rc = check_session(grant, request->parent, why);
    if (rc == 0 && request->kind == REQUEST_COMMANDS)
        rc = check_commands(grant, request, why);
    if (rc == 0 && (needs & NEED_SELF) != 0)
        rc = check_speaker(
            grant, request->kind == REQUEST_INBOX ? request->inbox.agent : request->agent, why);
    return rc;
}

int guard_request(const struct grant *grant, struct request *request, struct core_refusal *why)
{
    if (grant == NULL || is_companion(request->session))
        return 0;
    assert(request->kind < sizeof(request_needs) && request_needs[request->kind] != 0);
    int rc = grant_is_over(grant) ? forbid(why, "The token is no longer good.")
                                  : check_request(grant, request, why);
    if (rc != 0)
        audit_refused_later(grant->frontend, grant, request->session, 403, why->detail);
    if (rc == 0 || !request->refs)
        return rc;
    for (uint32_t i = 0; i < request->commands_n; i++) /* each is answered by itself */
        mark_bad(request, &request->commands[i], rc, why);
    return 0;
}

int guard_session(const struct grant *grant, enum auth_scope scope, struct str session,
                  struct core_refusal *why)
{
    if (grant == NULL || is_companion(session))
        return 0;
    int rc = check_scope(grant, scope == AUTH_WRITE ? NEED_WRITE : NEED_READ, why);
    if (rc == 0)
        rc = check_session(grant, session, why);
    if (rc != 0)
        audit_refused_later(grant->frontend, grant, session, 403, why->detail);
    return rc;
}

bool guard_may_write(const struct grant *grant)
{
    return grant == NULL || grant_has_scope(grant, AUTH_WRITE);
}

void guard_reply(const struct grant *grant, struct request *reply)
{
    if (grant != NULL && grant->redaction != NULL && !is_companion(reply->session))
        redact_reply(grant->redaction, reply);
}

const struct redaction *guard_redaction(const struct grant *grant)
{
    return grant != NULL ? grant->redaction : NULL;
}

struct str guard_speaker(const struct grant *grant)
{
    return grant != NULL ? grant->claims.sub : (struct str){0};
}

struct str guard_caller(const struct grant *grant)
{
    return grant != NULL && grant->claims.sub.p != NULL ? grant->claims.sub : STR("");
}
