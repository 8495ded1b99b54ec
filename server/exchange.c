#include "server/exchange.h"

#include "server/auth/guard.h"
#include "server/cors.h"
#include "server/gather.h"
#include "server/hangup.h"
#include "server/logger.h"
#include "server/problem.h"
#include "server/shares.h"
#include "server/trace.h"

#include <stdio.h>
#include <sys/socket.h>

enum {
    HEADERS_MAX = 7 + SHARES_HEADERS, /* of an answer, beside those that it brings along */
    RETRY_AFTER_S = 1,
    CANCEL_AGAIN_MS = 1000
};

static struct exchange *exchange_of(struct timer *timer)
{
    return (struct exchange *)((char *)timer - offsetof(struct exchange, timer));
}

static int fd_of(const struct exchange *exchange)
{
    return h2o_socket_get_fd(exchange->connection->sock);
}

/* ---- from birth to death */

/* h2o clears the request's pool: the answer is out, or the client is gone. */
static void dispose(void *p)
{
    struct exchange *exchange = p;
    struct frontend *frontend = exchange->frontend;

    slots_remove(&frontend->exchanges, exchange->token);
    timers_clear(&frontend->timers, &exchange->timer);
    if (exchange->unread)
        h2o_socket_dont_read(exchange->connection->sock, 0);
    if (exchange->watched)
        hangup_remove(frontend, fd_of(exchange));
    if (exchange->waiting) {
        exchange_end_wait(exchange);
        figure_add(&frontend->figures->waiting, -1);
    }
    if (exchange->on_gone != NULL)
        exchange->on_gone(exchange->face);
    if (exchange->reply != NULL)
        request_free(exchange->reply);
    if (exchange->gather != NULL)
        gather_free(exchange->gather);
    if (exchange->text.p != NULL)
        buf_free(&exchange->text);
    grant_release(exchange->grant);
    exchange->connection->exchanges--;
    connection_settle_later(exchange->connection);
}

struct exchange *exchange_new(struct frontend *frontend, h2o_req_t *req)
{
    struct exchange *exchange = h2o_mem_alloc_shared(&req->pool, sizeof(*exchange), dispose);
    *exchange = (struct exchange){
        .frontend = frontend,
        .req = req,
        .connection = req->conn->callbacks->get_socket(req->conn)->on_close.data,
    };
    exchange->begun_ns = frontend_clock_ns(frontend);
    exchange->token = slots_add(&frontend->exchanges, exchange);
    exchange->connection->exchanges++;
    figure_add(&frontend->figures->requests, 1);
    return exchange;
}

void *exchange_alloc(struct exchange *exchange, size_t size)
{
    return h2o_mem_alloc_pool(&exchange->req->pool, size);
}

struct str exchange_copy(struct exchange *exchange, struct buf *text)
{
    char *p = exchange_alloc(exchange, text->n);
    memcpy(p, text->p, text->n);
    return (struct str){p, text->n};
}

/* ---- headers */

/* clang-format off */
#define TOKEN(name) &H2O_TOKEN_##name->buf
#define VALUE(text) {(char *)(text), sizeof(text) - 1}

static h2o_iovec_t referrer_name = VALUE("referrer-policy");
static h2o_iovec_t replayed_name = VALUE("idempotent-replayed");
static h2o_iovec_t request_id_name = VALUE("x-request-id");

#define NOSNIFF "\r\nx-content-type-options: nosniff"
#define NO_STORE "private, no-store" NOSNIFF
#define NO_CACHE "no-cache" NOSNIFF
#define OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define TYPED(type, rest) \
    {TOKEN(CONTENT_TYPE), NULL, VALUE(type "\r\ncache-control: " rest)}, \
    {TOKEN(CACHE_CONTROL), NULL, VALUE(rest)}

/*
 * As the bytes that they are in HTTP/1, the only one spoken here: h2o copies one header in the
 * place of three. Without a body nothing is said about its type.
 */
static const struct kind_headers {
    h2o_header_t with_body, without;
} shared_headers[] = {
    [ANSWER_JSON] = {TYPED("application/json", NO_STORE)},
    [ANSWER_LINES] = {TYPED("application/x-ndjson", NO_STORE)},
    [ANSWER_STATE] = {TYPED("application/json", NO_CACHE)},
    [ANSWER_PROBLEM] = {TYPED("application/problem+json", NO_STORE)},
    [ANSWER_YAML] = {TYPED("application/yaml", NO_CACHE)},
    [ANSWER_TEXT] = {TYPED("text/plain; charset=utf-8", NO_CACHE)},
    [ANSWER_METRICS] = {TYPED("text/plain; version=0.0.4; charset=utf-8", NO_STORE)},
    [ANSWER_OPENMETRICS] = {TYPED(OPENMETRICS, NO_STORE)},
    [ANSWER_FILE] = {{&referrer_name, NULL, VALUE("no-referrer\r\nvary: accept-encoding" NOSNIFF)},
                     {&referrer_name, NULL, VALUE("no-referrer" NOSNIFF)}},
};
/* clang-format on */

/* What an upgrade must be to (RFC 9110, 15.5.22; RFC 6455, 4.4). */
static h2o_iovec_t version_name = VALUE("sec-websocket-version");
static const h2o_header_t upgrade_headers[] = {
    {TOKEN(UPGRADE), NULL, VALUE("websocket")},
    {&version_name, NULL, VALUE("13")},
};

/* What a caller that is refused has to do (RFC 6750, 3). */
static const h2o_header_t challenges[] = {
    {TOKEN(WWW_AUTHENTICATE), NULL, VALUE("Bearer realm=\"atoll\"")},
    {TOKEN(WWW_AUTHENTICATE), NULL, VALUE("Bearer realm=\"atoll\", error=\"invalid_token\"")},
    {TOKEN(WWW_AUTHENTICATE), NULL, VALUE("Bearer realm=\"atoll\", error=\"insufficient_scope\"")},
};

static void add_header(h2o_headers_t *headers, h2o_iovec_t *name, struct str value)
{
    headers->entries[headers->size++] =
        (h2o_header_t){.name = name, .value = h2o_iovec_init(value.p, value.n)};
}

static struct str number_of(const struct exchange *exchange, int number)
{
    char *text = h2o_mem_alloc_pool(&exchange->req->pool, 12);
    return (struct str){text, (size_t)snprintf(text, 12, "%d", number)};
}

/* What belongs to a connection has no place in a stream of one (RFC 9113, 8.2.2). */
static bool is_of_connection(const h2o_iovec_t *name)
{
    return name == TOKEN(CONNECTION) || name == TOKEN(UPGRADE);
}

/* HTTP/2 wants one by one what is prepared as bytes for HTTP/1. */
static void split_headers(h2o_req_t *req)
{
    h2o_headers_t *headers = &req->res.headers;
    h2o_headers_t split = {0};

    for (size_t i = 0; i < headers->size; i++) {
        h2o_header_t header = headers->entries[i];
        const char *end = header.value.base + header.value.len, *line_end;
        while ((line_end = memmem(header.value.base, (size_t)(end - header.value.base), "\r\n",
                                  2)) != NULL) {
            const char *name = line_end + 2, *colon = memchr(name, ':', (size_t)(end - name));
            h2o_iovec_t *next = h2o_mem_alloc_pool(&req->pool, sizeof(*next));
            header.value.len = (size_t)(line_end - header.value.base);
            h2o_vector_reserve(&req->pool, &split, split.size + 1);
            split.entries[split.size++] = header;
            *next = h2o_iovec_init(name, colon - name);
            header =
                (h2o_header_t){.name = next, .value = h2o_iovec_init(colon + 2, end - colon - 2)};
        }
        if (is_of_connection(header.name))
            continue;
        h2o_vector_reserve(&req->pool, &split, split.size + 1);
        split.entries[split.size++] = header;
    }
    *headers = split;
}

static void set_headers(struct exchange *exchange, const struct answer *answer)
{
    h2o_req_t *req = exchange->req;
    h2o_headers_t *headers = &req->res.headers;
    /* What a token was needed for is kept by nobody. */
    bool is_private = exchange->grant != NULL && answer->kind == ANSWER_STATE;
    const struct kind_headers *kind = &shared_headers[is_private ? ANSWER_JSON : answer->kind];

    h2o_vector_reserve(&req->pool, headers, HEADERS_MAX + answer->more_n);
    headers->entries[0] = answer->body.p == NULL ? kind->without : kind->with_body;
    headers->size = 1;
    for (size_t i = 0; i < answer->more_n; i++)
        headers->entries[headers->size++] = answer->more[i];
    if (answer->etag.p != NULL)
        add_header(headers, TOKEN(ETAG), answer->etag);
    if (answer->location.p != NULL)
        add_header(headers, TOKEN(LOCATION), answer->location);
    if (answer->allow.p != NULL)
        add_header(headers, TOKEN(ALLOW), answer->allow);
    if (answer->retry_after_s == RETRY_AFTER_S)
        add_header(headers, TOKEN(RETRY_AFTER), STR("1"));
    else if (answer->retry_after_s != 0)
        add_header(headers, TOKEN(RETRY_AFTER), number_of(exchange, answer->retry_after_s));
    shares_add_headers(exchange, headers);
    if (answer->replayed)
        add_header(headers, &replayed_name, STR("true"));
    if (exchange->id_given || (answer->status >= 400 && exchange->request_id.p != NULL))
        add_header(headers, &request_id_name, exchange->request_id);
    cors_add_headers(exchange, headers);
    if (exchange_is_http2(exchange))
        split_headers(req);
}

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {431, "Headers Too Large"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Error";
}

/* ---- answering */

static void on_deadline(struct timer *timer)
{
    struct exchange *exchange = exchange_of(timer);
    figure_add(&exchange->frontend->figures->streams_cut, 1);
    exchange_cut(exchange);
}

static void arm_deadline(struct exchange *exchange)
{
    struct frontend *frontend = exchange->frontend;
    int64_t patience_ms = (int64_t)frontend->shared->config->write_timeout_ms;

    exchange->timer.fire = on_deadline;
    timers_set(&frontend->timers, &exchange->timer, frontend_now_ms(frontend) + patience_ms);
}

/* Hands h2o the next piece of the body, or asks for more of it. */
static void send_piece(struct exchange *exchange)
{
    size_t n = exchange->rest.n < EXCHANGE_PIECE_BYTES ? exchange->rest.n : EXCHANGE_PIECE_BYTES;
    h2o_iovec_t piece = h2o_iovec_init(exchange->rest.p, n);
    bool last = n == exchange->rest.n && !exchange->paged;

    if (n == 0 && exchange->paged) {
        timers_clear(&exchange->frontend->timers, &exchange->timer); /* not the client's time */
        exchange->ask(exchange);
        return;
    }
    if (n != 0)
        exchange->rest = (struct str){exchange->rest.p + n, exchange->rest.n - n};
    arm_deadline(exchange);
    struct connection *connection = exchange->connection;
    h2o_send(exchange->req, &piece, n != 0,
             last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
    if (connection->h2 != NULL)
        connection_settle_later(connection);
}

/* Nothing is read anyway; it is said again for h2o to see what to poll for (outlet.c). */
static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    if (req->version < 0x200)
        h2o_socket_read_stop(req->conn->callbacks->get_socket(req->conn));
    send_piece((struct exchange *)((char *)generator - offsetof(struct exchange, generator)));
}

bool exchange_is_head(const struct exchange *exchange)
{
    h2o_iovec_t method = exchange->req->input.method;
    return h2o_memis(method.base, method.len, H2O_STRLIT("HEAD"));
}

/* `bytes` of its body, -1: not known yet. */
static void begin_answer(struct exchange *exchange, int status, int64_t bytes)
{
    struct frontend *frontend = exchange->frontend;
    h2o_req_t *req = exchange->req;

    assert(!exchange->answered);
    exchange->answered = true;
    if (frontend->draining_ms != 0)
        req->http1_is_persistent = 0;
    if (!frontend->in_loop)
        frontend->touched = true;
    if (exchange->connection->h2 != NULL)
        h2_guard_answered(exchange->connection->h2);
    req->res.status = status;
    req->res.reason = reason_of(status);
    figure_add(&frontend->figures->answers[status / 100], 1);
    figure_add(&frontend->figures->routes[exchange->match.route][status / 100], 1);
    if (!exchange->watched) /* it has not waited for messages */
        figure_observe(&frontend->figures->answer_us,
                       (frontend_clock_ns(frontend) - exchange->begun_ns + 999) / 1000);
    if (logger_wants(status >= 500 ? LOGGER_WARN : LOGGER_DEBUG))
        trace_answer(exchange, status, bytes);
}

void exchange_answer(struct exchange *exchange, const struct answer *answer)
{
    h2o_req_t *req = exchange->req;
    bool bodiless = answer->status == 204 || answer->status == 304;

    begin_answer(exchange, answer->status, (int64_t)answer->body.n);
    req->res.content_length = bodiless ? SIZE_MAX : answer->body.n;
    set_headers(exchange, answer);
    figure_add(&exchange->frontend->figures->answer_bytes, (int64_t)answer->body.n);
    exchange->rest = bodiless || exchange_is_head(exchange) ? (struct str){0} : answer->body;
    exchange->generator.proceed = on_proceed;
    h2o_start_response(req, &exchange->generator);
    send_piece(exchange);
}

static void begin_pages(struct exchange *exchange)
{
    h2o_req_t *req = exchange->req;

    begin_answer(exchange, 200, -1);
    if (req->version < 0x101)
        req->http1_is_persistent = 0; /* the end of the connection is the end of the body */
    set_headers(exchange, &(struct answer){.kind = ANSWER_LINES, .body = STR("")});
    exchange->generator.proceed = on_proceed;
    h2o_start_response(req, &exchange->generator);
}

void exchange_page(struct exchange *exchange, struct request *page, bool last, exchange_ask *ask)
{
    exchange->asking = false;
    if (exchange->reply != NULL)
        request_free(exchange->reply);
    exchange->reply = page;
    exchange->rest = buf_str(&page->body);
    exchange->paged = !last;
    exchange->ask = ask;
    if (exchange_is_head(exchange)) { /* how long it would be is not known */
        exchange->rest = (struct str){0};
        exchange->paged = false;
    }
    if (!exchange->answered)
        begin_pages(exchange);
    else if (!exchange->frontend->in_loop)
        exchange->frontend->touched = true;
    send_piece(exchange);
}

void exchange_refuse_with(struct exchange *exchange, unsigned error, const struct core_refusal *why,
                          struct str members)
{
    struct answer answer = {.status = problem_status(error), .kind = ANSWER_PROBLEM};
    struct buf *text = &exchange->text;

    figure_add(&exchange->frontend->figures->problems[error], 1);
    bool later = answer.status == 503 || answer.status == 429;
    answer.retry_after_s = exchange->retry_after_s != 0 ? exchange->retry_after_s
                           : later                      ? RETRY_AFTER_S
                                                        : 0;
    text->n = 0;
    problem_write(text, error, why, answer.retry_after_s);
    if (members.n > 2) {
        text->p[text->n - 1] = ',';
        buf_add(text, members.p + 1, members.n - 1);
    }
    if (error == PROBLEM_E_METHOD_NOT_ALLOWED)
        answer.allow = (struct str){exchange->match.allow, strlen(exchange->match.allow)};
    if (error == PROBLEM_E_UPGRADE_REQUIRED) {
        answer.more = upgrade_headers;
        answer.more_n = sizeof(upgrade_headers) / sizeof(upgrade_headers[0]);
    }
    if (error == PROBLEM_E_UNAUTHORIZED || error == REQUEST_E_FORBIDDEN) {
        answer.more = &challenges[error == REQUEST_E_FORBIDDEN ? 2 : exchange->token_refused];
        answer.more_n = 1;
    }
    answer.body = buf_str(text);
    exchange_answer(exchange, &answer);
}

void exchange_refuse(struct exchange *exchange, unsigned error, const struct core_refusal *why)
{
    exchange_refuse_with(exchange, error, why, (struct str){0});
}

void exchange_refuse_text(struct exchange *exchange, unsigned error, const char *field,
                          const char *detail)
{
    struct core_refusal why = {.field = field};
    size_t n = strlen(detail);
    assert(n < sizeof(why.detail));
    memcpy(why.detail, detail, n + 1);
    exchange_refuse(exchange, error, &why);
}

void exchange_set_head(struct exchange *exchange, int status, const char *reason,
                       const h2o_header_t *headers, size_t headers_n)
{
    h2o_req_t *req = exchange->req;

    begin_answer(exchange, status, -1);
    req->res.reason = reason;
    req->res.content_length = SIZE_MAX;
    h2o_vector_reserve(&req->pool, &req->res.headers, headers_n);
    memcpy(req->res.headers.entries, headers, headers_n * sizeof(*headers));
    req->res.headers.size = headers_n;
    cors_add_headers(exchange, &req->res.headers);
    if (exchange_is_http2(exchange))
        split_headers(req);
    arm_deadline(exchange); /* for the head; the exchange goes when it is out */
}

void exchange_give_away(struct exchange *exchange)
{
    assert(exchange->answered);
    exchange->on_gone = NULL;
}

/* ---- requests */

/* Something has come early: the next request, or the end. It is left in the socket for h2o, which
 * reads again when this exchange is over. */
static void on_early_input(h2o_socket_t *sock, const char *error)
{
    (void)error;
    h2o_socket_read_stop(sock);
}

/*
 * h2o stops reading while a request is worked on. Where the answer is not written in the same turn
 * of the loop that costs two epoll_ctl for each request. So the socket stays polled, but unread:
 * h2o's buffer, in which the request lies, is not touched until dispose lets h2o read again.
 */
void exchange_stay_polled(struct exchange *exchange)
{
    h2o_socket_t *sock = exchange->connection->sock;
    if (exchange->unread || exchange_is_http2(exchange))
        return;
    exchange->unread = true;
    h2o_socket_dont_read(sock, 1);
    h2o_socket_read_start(sock, on_early_input);
}

static bool sent(struct exchange *exchange, struct request *request, int rc)
{
    if (rc == 0)
        return true;
    request_free(request);
    exchange_refuse_text(exchange, REQUEST_E_OVERLOADED, NULL,
                         "Too many requests are on their way; try again.");
    return false;
}

/* False: it was refused. */
static bool guarded(struct exchange *exchange, struct request *request)
{
    struct core_refusal why;
    int rc = guard_request(exchange->grant, request, &why);

    if (rc == 0)
        return true;
    request_free(request);
    exchange_refuse(exchange, (unsigned)rc, &why);
    return false;
}

bool exchange_send(struct exchange *exchange, struct request *request)
{
    if (!guarded(exchange, request))
        return false;
    request->token = exchange->token;
    if (!sent(exchange, request, mailbox_send(exchange->frontend->mailbox, request)))
        return false;
    exchange_stay_polled(exchange);
    return true;
}

bool exchange_send_to(struct exchange *exchange, struct request *request, unsigned shard)
{
    if (!guarded(exchange, request))
        return false;
    request->token = exchange->token;
    return sent(exchange, request, mailbox_send_to(exchange->frontend->mailbox, request, shard));
}

void exchange_send_next(struct exchange *exchange, struct request *request)
{
    struct frontend *frontend = exchange->frontend;

    if (exchange->grant != NULL && grant_is_over(exchange->grant)) {
        request_free(request);
        exchange->asking = true;
        exchange_gone(exchange);
        return;
    }
    request->token = exchange->token;
    exchange->asking = true;
    outbox_send(&frontend->outbox, frontend->mailbox, request);
}

/* ---- endings */

void exchange_watch(struct exchange *exchange)
{
    assert(!exchange->watched);
    if (exchange_is_http2(exchange))
        return; /* h2o reads on, and tells */
    exchange->watched = true;
    hangup_add(exchange->frontend, fd_of(exchange), exchange->token);
}

void exchange_cut(struct exchange *exchange)
{
    /* What was not taken is to go at once, not to stay in the kernel for minutes. */
    struct linger reset = {.l_onoff = 1};

    exchange->req->http1_is_persistent = 0;
    (void)setsockopt(fd_of(exchange), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)shutdown(fd_of(exchange), SHUT_RDWR);
}

void exchange_gone(struct exchange *exchange)
{
    if (exchange->answered && !exchange->asking)
        return; /* its own write tells */
    /* One write, so that h2o finds out; nobody reads it. */
    exchange_cut(exchange);
    if (exchange->asking) {
        exchange->asking = exchange->paged = false;
        if (!exchange->frontend->in_loop)
            exchange->frontend->touched = true;
        h2o_send(exchange->req, NULL, 0, H2O_SEND_STATE_FINAL);
        return;
    }
    exchange->answered = true;
    if (!exchange->frontend->in_loop)
        exchange->frontend->touched = true;
    exchange->req->res.status = 204;
    h2o_start_response(exchange->req, &exchange->generator);
    h2o_send(exchange->req, NULL, 0, H2O_SEND_STATE_FINAL);
}

static void on_wait_over(struct timer *timer)
{
    struct exchange *exchange = exchange_of(timer);
    struct frontend *frontend = exchange->frontend;

    exchange_end_wait(exchange);
    /* It may have been too early for the shard: until the answer comes, ask again. */
    timers_set(&frontend->timers, timer, frontend_now_ms(frontend) + CANCEL_AGAIN_MS);
}

void exchange_end_wait(struct exchange *exchange)
{
    struct request *request = request_new();
    request->kind = REQUEST_CANCEL;
    request->session = arena_copy(&request->arena, exchange->session);
    request->token = exchange->token;
    outbox_send(&exchange->frontend->outbox, exchange->frontend->mailbox, request);
}

static struct str copy_str(struct exchange *exchange, struct str text)
{
    char *copy = exchange_alloc(exchange, text.n);
    memcpy(copy, text.p, text.n);
    return (struct str){copy, text.n};
}

void exchange_begin_wait(struct exchange *exchange, struct str session, struct str agent,
                         int64_t wait_ms)
{
    struct frontend *frontend = exchange->frontend;

    exchange->session = copy_str(exchange, session);
    exchange->agent = copy_str(exchange, agent);
    exchange->waiting = true;
    figure_add(&frontend->figures->waiting, 1);
    exchange->timer.fire = on_wait_over;
    timers_set(&frontend->timers, &exchange->timer,
               frontend_now_ms(frontend) + grant_lasts_ms(exchange->grant, wait_ms));
    exchange_watch(exchange);
}

void exchange_waited(struct exchange *exchange)
{
    if (!exchange->waiting)
        return;
    exchange->waiting = false;
    figure_add(&exchange->frontend->figures->waiting, -1);
    timers_clear(&exchange->frontend->timers, &exchange->timer);
}
