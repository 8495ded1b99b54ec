#include "server/auth/login.h"

#include "server/auth/audit.h"
#include "server/auth/guard.h"
#include "server/auth/ticket.h"
#include "server/json.h"
#include "server/problem.h"

#include <stdio.h>

/* What a cookie of this name holds, no page without TLS has set, and none of a neighbouring host.
 */
#define NAME "atoll"
#define SECURE_NAME "__Host-" NAME
#define ATTRIBUTES "; Path=/; HttpOnly; SameSite=Strict"

enum { SET_COOKIE_BYTES_MAX = LOGIN_COOKIE_BYTES_MAX + 128 };

static bool over_tls(const struct exchange *exchange)
{
    return exchange->connection->sock->ssl != NULL;
}

static bool is_https(struct str origin)
{
    static const char https[] = "https://";
    size_t n = sizeof(https) - 1;
    return origin.n >= n && memcmp(origin.p, https, n) == 0;
}

/* The browser speaks TLS: with us, or with a proxy before us whose pages are ours. */
static bool browser_has_tls(const struct exchange *exchange, const struct call *call)
{
    return over_tls(exchange) || is_https(call->headers.origin);
}

bool login_own_origin(const struct exchange *exchange, const struct call *call)
{
    struct str origin = call->headers.origin;
    return origin.p != NULL && access_origin_own(origin, call->host) &&
           (is_https(origin) || !over_tls(exchange));
}

/* ---- the cookie of a request */

static struct str trim(struct str s)
{
    while (s.n != 0 && s.p[0] == ' ')
        s = (struct str){s.p + 1, s.n - 1};
    while (s.n != 0 && s.p[s.n - 1] == ' ')
        s.n--;
    return s;
}

/* Its value; p == NULL: the header has none of this name, or more than one: whoever could add one
 * would choose who the caller is. */
static struct str cookie_value(struct str header, struct str name)
{
    struct str found = {0};

    while (header.n != 0) {
        const char *end = memchr(header.p, ';', header.n);
        size_t n = end != NULL ? (size_t)(end - header.p) : header.n;
        struct str pair = trim((struct str){header.p, n});
        header = (struct str){header.p + n + (end != NULL), header.n - n - (end != NULL)};
        if (pair.n <= name.n || memcmp(pair.p, name.p, name.n) != 0 || pair.p[name.n] != '=')
            continue;
        if (found.p != NULL)
            return (struct str){0};
        found = (struct str){pair.p + name.n + 1, pair.n - name.n - 1};
    }
    return found;
}

struct str login_cookie(struct exchange *exchange, struct str header)
{
    struct str token = cookie_value(header, STR(SECURE_NAME));
    return token.p != NULL || over_tls(exchange) ? token : cookie_value(header, STR(NAME));
}

/* ---- who the caller is */

static void add_scope(struct buf *out, unsigned scope)
{
    buf_add_literal(out, ",\"scope\":\"");
    buf_add_str(out, (scope & AUTH_READ) != 0 ? STR("read") : STR(""));
    buf_add_str(out, (scope & AUTH_WRITE) != 0 ? STR(" write") : STR(""));
    buf_add_str(out, (scope & AUTH_ADMIN) != 0 ? STR(" admin") : STR(""));
    buf_add_byte(out, '"');
}

static void add_claims(struct buf *out, const struct auth_claims *claims)
{
    buf_add_literal(out, "\"sub\":");
    json_add_string(out, claims->sub);
    add_scope(out, claims->scope);
    buf_add_literal(out, ",\"sessions\":[");
    for (unsigned i = 0; i < claims->sessions_n; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        json_add_string(out, claims->sessions[i]);
    }
    buf_add_literal(out, "],\"expires\":");
    if (claims->expires_s != 0)
        json_add_time(out, claims->expires_s * 1000);
    else
        buf_add_literal(out, "null");
    buf_add_str(out,
                claims->redact_n != 0 ? STR(",\"redacted\":true") : STR(",\"redacted\":false"));
}

static void answer_text(struct exchange *exchange, const h2o_header_t *more, size_t more_n)
{
    exchange_answer(exchange, &(struct answer){.status = 200,
                                               .kind = ANSWER_JSON,
                                               .body = buf_str(&exchange->text),
                                               .more = more,
                                               .more_n = more_n});
}

static void serve_me(struct exchange *exchange)
{
    static const struct auth_claims everything = {
        .scope = AUTH_READ | AUTH_WRITE | AUTH_ADMIN, .sessions = {{"*", 1}}, .sessions_n = 1};
    const struct grant *grant = exchange->grant;
    bool insecure = grant == NULL && exchange->frontend->shared->config->insecure_no_auth;
    struct buf *out = &exchange->text;

    buf_add_str(out, grant != NULL ? STR("{\"auth\":\"token\",") : STR("{\"auth\":\"open\","));
    add_claims(out, grant != NULL ? &grant->claims : &everything);
    buf_add_str(out, insecure ? STR(",\"insecure\":true}") : STR(",\"insecure\":false}"));
    answer_text(exchange, NULL, 0);
}

/* ---- signing in and out */

static h2o_header_t set_cookie(struct str value)
{
    return (h2o_header_t){.name = &H2O_TOKEN_SET_COOKIE->buf,
                          .value = h2o_iovec_init(value.p, value.n)};
}

/* The Set-Cookie of a token, in the pool. */
static struct str cookie_of(struct exchange *exchange, const struct call *call,
                            const struct grant *grant)
{
    bool secure = browser_has_tls(exchange, call);
    int64_t expires_s = grant->claims.expires_s;
    char *text = exchange_alloc(exchange, SET_COOKIE_BYTES_MAX);
    char age[32] = "";

    if (expires_s != 0)
        snprintf(age, sizeof(age), "; Max-Age=%lld",
                 (long long)(expires_s - reactor_wall_ms(exchange->frontend->reactor) / 1000));
    int n = snprintf(text, SET_COOKIE_BYTES_MAX, "%s=%.*s" ATTRIBUTES "%s%s",
                     secure ? SECURE_NAME : NAME, (int)grant->token.n, grant->token.p,
                     secure ? "; Secure" : "", age);
    assert(n > 0 && n < SET_COOKIE_BYTES_MAX);
    return (struct str){text, (size_t)n};
}

/* No other page may sign somebody in or out. */
static bool check_origin(struct exchange *exchange, const struct call *call)
{
    if (call->headers.origin.p == NULL || login_own_origin(exchange, call))
        return true;
    audit_refused(exchange, 403, "signing in or out from another origin");
    exchange_refuse_text(exchange, PROBLEM_E_FORBIDDEN_ORIGIN, "Origin",
                         "Only pages of this server may do this.");
    return false;
}

static bool refuse_body(struct exchange *exchange, unsigned error, const char *field,
                        const char *detail)
{
    exchange_refuse_text(exchange, error, field, detail);
    return false;
}

/* {"token": "…"}; false: refused. */
static bool read_body(struct exchange *exchange, const struct call *call, struct str *token)
{
    struct frontend *frontend = exchange->frontend;
    struct json_parser *parser = decoder_parser(frontend->decoder);
    const struct json_value *root;
    struct json_error error;

    if (access_media(call->headers.content_type) != ACCESS_MEDIA_JSON)
        return refuse_body(exchange, PROBLEM_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                           "The body must be application/json.");
    if (call->body.n > 2 * TOKEN_BYTES_MAX)
        return refuse_body(exchange, CORE_E_TOO_LARGE, "token", "A token has at most 8192 bytes.");
    bool good = json_parse(parser, &frontend->scratch, call->body, &root, &error) == 0 &&
                root->type == JSON_OBJECT && root->size == 1 &&
                str_equal(json_str(root + 1), STR("token")) && root[2].type == JSON_STRING;
    if (!good) /* what it is instead is not repeated: it may be a secret */
        return refuse_body(exchange, CORE_E_MALFORMED, "token",
                           "The body must be {\"token\": \"…\"}.");
    *token = json_str(root + 2);
    return true;
}

static bool read_token(struct exchange *exchange, const struct call *call, struct str *token)
{
    struct str header = call->headers.authorization;

    if (header.p == NULL && call->body.n == 0)
        return refuse_body(exchange, CORE_E_MALFORMED, "token",
                           "Give the token as Authorization: Bearer TOKEN, or as the body "
                           "{\"token\": \"…\"}.");
    if (header.p != NULL && call->body.n != 0)
        return refuse_body(exchange, CORE_E_MALFORMED, "token",
                           "Give the token in the header or in the body, not in both.");
    if (header.p == NULL)
        return read_body(exchange, call, token);
    *token = guard_bearer(header);
    if (token->p == NULL)
        return refuse_body(exchange, CORE_E_MALFORMED, "Authorization",
                           "Authorization must be: Bearer TOKEN.");
    return true;
}

static void serve_login(struct exchange *exchange, const struct call *call)
{
    struct str token;
    enum token_error error;

    if (!check_origin(exchange, call) || !read_token(exchange, call, &token))
        return;
    if (sizeof(SECURE_NAME) + token.n > LOGIN_COOKIE_BYTES_MAX) {
        exchange_refuse_text(exchange, CORE_E_TOO_LARGE, "token",
                             "The token is too long for a cookie, which holds about 3900 bytes.");
        return;
    }
    exchange->grant = grants_take(exchange->frontend, token, &error);
    if (exchange->grant == NULL) {
        exchange->token_refused = true;
        audit_refused(exchange, 401, token_error_text(error));
        exchange_refuse_text(exchange, PROBLEM_E_UNAUTHORIZED, "token", token_error_text(error));
        return;
    }
    h2o_header_t cookie = set_cookie(cookie_of(exchange, call, exchange->grant));
    buf_add_byte(&exchange->text, '{');
    add_claims(&exchange->text, &exchange->grant->claims);
    buf_add_byte(&exchange->text, '}');
    answer_text(exchange, &cookie, 1);
}

static void serve_logout(struct exchange *exchange, const struct call *call)
{
    const h2o_header_t cookies[] = {
        set_cookie(STR(NAME "=" ATTRIBUTES "; Max-Age=0")),
        set_cookie(STR(SECURE_NAME "=" ATTRIBUTES "; Secure; Max-Age=0")),
    };

    if (check_origin(exchange, call))
        exchange_answer(exchange, &(struct answer){.status = 204,
                                                   .kind = ANSWER_JSON,
                                                   .more = cookies,
                                                   .more_n = 1 + browser_has_tls(exchange, call)});
}

/* ---- tickets */

static void serve_ticket(struct exchange *exchange)
{
    struct frontend *frontend = exchange->frontend;
    char text[TICKET_TEXT_BYTES];

    int64_t after_ms = tickets_issue(frontend->shared->tickets, exchange->grant->token,
                                     exchange->match.session, frontend_now_ms(frontend), text);
    if (after_ms != 0) {
        exchange->retry_after_s = (int)((after_ms + 999) / 1000);
        exchange_refuse_text(exchange, REQUEST_E_TOO_MANY, NULL,
                             "Too many tickets have been made and not used; they last 30 s.");
        return;
    }
    buf_add_literal(&exchange->text, "{\"ticket\":\"");
    buf_add(&exchange->text, text, sizeof(text));
    buf_add_literal(&exchange->text, "\",\"expires_in\":");
    buf_add_u64(&exchange->text, TICKET_LIFE_S);
    buf_add_byte(&exchange->text, '}');
    answer_text(exchange, NULL, 0);
}

struct grant *ticket_redeem(struct exchange *exchange, struct str ticket)
{
    struct frontend *frontend = exchange->frontend;
    struct str token = tickets_redeem(frontend->shared->tickets, ticket, exchange->match.session,
                                      frontend_now_ms(frontend));
    enum token_error error;

    if (token.p == NULL)
        return NULL;
    struct grant *grant = grants_take(frontend, token, &error);
    ticket_token_free(token);
    return grant;
}

/* ---- */

void login_serve(struct exchange *exchange, const struct call *call)
{
    enum route route = exchange->match.route;

    if (route == ROUTE_ME)
        serve_me(exchange);
    else if (route == ROUTE_LOGOUT)
        serve_logout(exchange, call);
    else if (exchange->frontend->live->keys == NULL)
        exchange_refuse_text(exchange, CORE_E_REFUSED, NULL,
                             "This server has no --auth-key: everybody may do everything, and "
                             "nobody has to sign in.");
    else if (route == ROUTE_LOGIN)
        serve_login(exchange, call);
    else
        serve_ticket(exchange);
}
