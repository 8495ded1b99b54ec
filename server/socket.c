#include "server/socket.h"
#include "server/auth/guard.h"

#include "server/call.h"
#include "server/problem.h"
#include "server/shares.h"
#include "server/socket_internal.h"

#include <stdlib.h>

#define PROTOCOL "atoll.v1"

/* ---- from birth to death */

void socket_close(struct socket *socket, enum ws_code code, const char *reason)
{
    if (socket->close_code != 0)
        return;
    socket->close_code = (uint16_t)code;
    socket->close_reason = reason;
    socket_wake(socket);
}

void socket_wake(struct socket *socket)
{
    if (socket->outlet != NULL)
        outlet_wake(socket->outlet);
}

void socket_again(struct socket *socket, int64_t ms)
{
    struct timers *timers = &socket->frontend->timers;
    int64_t due_ms = frontend_now_ms(socket->frontend) + ms;
    if (socket->again.place == 0 || socket->again.due_ms > due_ms)
        timers_set(timers, &socket->again, due_ms);
}

static void socket_free(struct socket *socket)
{
    struct frontend *frontend = socket->frontend;

    timers_clear(&frontend->timers, &socket->again);
    timers_clear(&frontend->timers, &socket->alive);
    if (socket->many)
        socket_watches_free(socket);
    else
        watcher_close(&socket->watcher);
    if (socket->gathered != NULL)
        request_free(socket->gathered);
    socket_answers_free(socket);
    ws_reader_free(&socket->reader);
    buf_free(&socket->held);
    buf_free(&socket->unread);
    free(socket);
}

/* ---- in */

static void heard_ping(struct socket *socket, struct str payload)
{
    socket->pong = true; /* of pings that come too fast the last one is answered (5.5.3) */
    socket->pong_n = (uint8_t)payload.n;
    memcpy(socket->pong_payload, payload.p, payload.n);
    socket_wake(socket);
}

static bool may_go_on(const struct socket *socket)
{
    return socket->close_code == 0 && socket_may_answer(socket);
}

static void heard(struct socket *socket, enum ws_got got, struct str payload)
{
    if (got == WS_GOT_TEXT && !socket_take(socket, payload))
        buf_add_str(&socket->held, payload);
    else if (got == WS_GOT_PING)
        heard_ping(socket, payload);
    else if (got == WS_GOT_CLOSE)
        socket_close(socket, socket->reader.code, "");
    else if (got == WS_BROKEN)
        socket_close(socket, socket->reader.code, socket->reader.reason);
}

/* Returns how many bytes were used: all, if what is not answered yet stays within its bounds. */
static size_t read_some(struct socket *socket, struct str bytes)
{
    size_t all = bytes.n;
    unsigned messages = 0;

    while (messages++ < SOCKET_READ_MESSAGES && socket->held.n == 0 && may_go_on(socket)) {
        struct str payload;
        enum ws_got got = ws_read(&socket->reader, &bytes, &payload);
        if (got == WS_GOT_NOTHING)
            break;
        heard(socket, got, payload);
    }
    socket_flush(socket);
    ws_reader_rest(&socket->reader);
    return all - bytes.n;
}

/* Not all can be read now. It is gone on with in the next turn, when a ring may have room, or when
 * answers have gone out. */
static void stop_reading(struct socket *socket)
{
    socket->stopped = true;
    outlet_pause(socket->outlet, true);
    if (socket_may_answer(socket))
        socket_again(socket, socket->held.n != 0 ? SOCKET_RETRY_MS : 0);
}

static void on_received(void *owner, struct str bytes)
{
    struct socket *socket = owner;

    socket->heard_ms = frontend_now_ms(socket->frontend);
    if (socket->close_code != 0)
        return;
    size_t used = socket->stopped ? 0 : read_some(socket, bytes);
    buf_add(&socket->unread, bytes.p + used, bytes.n - used);
    if (socket->close_code == 0 && (socket->held.n != 0 || socket->unread.n != 0))
        stop_reading(socket);
}

static void start_reading(struct socket *socket)
{
    buf_free(&socket->unread);
    socket->unread_at = 0;
    socket->stopped = false;
    socket->heard_ms = frontend_now_ms(socket->frontend);
    outlet_pause(socket->outlet, false);
}

/* What was held first, then the bytes behind it. */
static void read_on(struct socket *socket)
{
    struct str unread = buf_str(&socket->unread);

    if (unread.n != 0)
        unread = (struct str){unread.p + socket->unread_at, unread.n - socket->unread_at};

    if (may_go_on(socket) && socket->held.n != 0 && socket_take(socket, buf_str(&socket->held)))
        buf_free(&socket->held);
    socket->unread_at += read_some(socket, unread);
    if (socket->close_code != 0 || (socket->held.n == 0 && socket->unread_at == socket->unread.n))
        start_reading(socket);
    else
        stop_reading(socket);
}

static void on_again(struct timer *timer)
{
    struct socket *socket = (struct socket *)((char *)timer - offsetof(struct socket, again));
    socket_send_unsent(socket);
    if (socket->stopped)
        read_on(socket);
}

/* ---- out */

static void push(struct socket *socket, struct chunk *chunk)
{
    outlet_push(socket->outlet, chunk, chunk_text(chunk));
}

static void push_control(struct socket *socket)
{
    if (socket->pong)
        push(socket, ws_frame(WS_PONG, (struct str){socket->pong_payload, socket->pong_n}));
    if (socket->ping)
        push(socket, ws_frame(WS_PING, (struct str){0}));
    socket->ping = socket->pong = false;
}

static void fill_watched(struct socket *socket)
{
    if (socket->many) {
        socket_watches_fill(socket);
        return;
    }
    watcher_fill(&socket->watcher, socket->outlet);
    if (watcher_ended(&socket->watcher))
        socket_close(socket, WS_NORMAL, "the session was deleted");
}

static void on_fill(void *owner)
{
    struct socket *socket = owner;

    push_control(socket);
    socket_answers_fill(socket);
    if (socket->close_code == 0)
        fill_watched(socket);
    if (socket->close_code == 0 || socket->first != NULL || outlet_full(socket->outlet))
        return;
    push(socket, ws_close_frame(socket->close_code, socket->close_reason));
    outlet_end(socket->outlet);
}

/* ---- whether the client lives */

static void ping(struct socket *socket)
{
    int64_t now_ms = frontend_now_ms(socket->frontend);
    if (now_ms - socket->pinged_ms < (int64_t)socket->frontend->shared->config->heartbeat_ms)
        return;
    socket->pinged_ms = now_ms;
    socket->ping = true;
    socket_wake(socket);
}

/* Nothing may be due for it, and it says nothing: is it there? */
static void on_alive(struct timer *timer)
{
    struct socket *socket = (struct socket *)((char *)timer - offsetof(struct socket, alive));
    struct frontend *frontend = socket->frontend;
    const struct config *config = frontend->shared->config;
    int64_t now_ms = frontend_now_ms(frontend);
    uint64_t taken = outlet_taken(socket->outlet);
    if (taken != socket->taken && outlet_behind(socket->outlet))
        socket->heard_ms = now_ms; /* a ping may lie far behind what it is slowly taking */
    socket->taken = taken;
    int64_t silent_ms = now_ms - socket->heard_ms;
    bool listening = !socket->stopped;

    if (listening && silent_ms >= (int64_t)(config->write_timeout_ms + config->heartbeat_ms)) {
        figure_add(&frontend->figures->streams_cut, 1);
        outlet_cut(socket->outlet);
        return;
    }
    if (listening && silent_ms >= (int64_t)config->heartbeat_ms)
        ping(socket);
    timers_set(&frontend->timers, timer, now_ms + (int64_t)config->heartbeat_ms);
}

static void on_quiet(void *owner)
{
    ping(owner);
}

/* ---- the outlet's side */

static void on_opened(void *owner, struct outlet *outlet)
{
    struct socket *socket = owner;
    struct frontend *frontend = socket->frontend;

    if (outlet == NULL) {
        socket_free(socket);
        return;
    }
    socket->outlet = outlet;
    socket->heard_ms = frontend_now_ms(frontend);
    socket->alive.fire = on_alive;
    timers_set(&frontend->timers, &socket->alive,
               socket->heard_ms + (int64_t)frontend->shared->config->heartbeat_ms);
    figure_add(&frontend->figures->sockets, 1);
    if (!socket->many)
        figure_add(&frontend->figures->watching[socket->watcher.shard], 1);
}

static void on_drain(void *owner)
{
    socket_close(owner, WS_RESTART, "the server restarts");
}

static void on_expired(void *owner)
{
    socket_close(owner, WS_POLICY, "the token is no longer good");
}

static void on_closed(void *owner, enum outlet_end why)
{
    struct socket *socket = owner;
    struct frontend *frontend = socket->frontend;

    (void)why;
    figure_add(&frontend->figures->sockets, -1);
    if (!socket->many)
        figure_add(&frontend->figures->watching[socket->watcher.shard], -1);
    socket_free(socket);
}

static const struct outlet_ops outlet_ops = {
    .opened = on_opened,
    .fill = on_fill,
    .received = on_received,
    .quiet = on_quiet,
    .drain = on_drain,
    .expired = on_expired,
    .closed = on_closed,
};

/* ---- the handshake */

/* A header that may be given once; p == NULL: it is not, or is given again. */
static struct str header(const h2o_req_t *req, struct str name)
{
    ssize_t at = h2o_find_header_by_str(&req->headers, name.p, name.n, -1);
    if (at < 0 || h2o_find_header_by_str(&req->headers, name.p, name.n, at) >= 0)
        return (struct str){0};
    h2o_iovec_t value = req->headers.entries[at].value;
    return (struct str){value.base, value.len};
}

static bool offers_protocol(const h2o_req_t *req)
{
    ssize_t at = -1;
    while ((at = h2o_find_header_by_str(&req->headers, H2O_STRLIT("sec-websocket-protocol"), at)) >=
           0) {
        h2o_iovec_t iter = req->headers.entries[at].value;
        const char *token;
        size_t n;
        while ((token = h2o_next_token(&iter, ',', &n, NULL)) != NULL)
            if (h2o_memis(token, n, H2O_STRLIT(PROTOCOL)))
                return true;
    }
    return false;
}

static bool is_upgrade(const h2o_req_t *req)
{
    return req->version == 0x101 && req->upgrade.base != NULL &&
           h2o_contains_token(req->upgrade.base, req->upgrade.len, H2O_STRLIT("websocket"), ',');
}

static bool check_handshake(struct exchange *exchange)
{
    const h2o_req_t *req = exchange->req;

    if (!is_upgrade(req))
        exchange_refuse_text(exchange, PROBLEM_E_UPGRADE_REQUIRED, "Upgrade",
                             "This is for WebSocket: HTTP/1.1 with Connection: Upgrade and "
                             "Upgrade: websocket.");
    else if (!str_equal(header(req, STR("sec-websocket-version")), STR("13")))
        exchange_refuse_text(exchange, PROBLEM_E_UPGRADE_REQUIRED, "Sec-WebSocket-Version",
                             "The version of the protocol must be 13.");
    else if (!ws_key_valid(header(req, STR("sec-websocket-key"))))
        exchange_refuse_text(exchange, CORE_E_MALFORMED, "Sec-WebSocket-Key",
                             "The key must be given once: 16 bytes in base64.");
    else if (!offers_protocol(req))
        exchange_refuse_text(exchange, CORE_E_MALFORMED, "Sec-WebSocket-Protocol",
                             "The subprotocols offered must include " PROTOCOL ".");
    else
        return true;
    return false;
}

/* clang-format off */
#define VALUE(text) {(char *)(text), sizeof(text) - 1}
/* clang-format on */

static void upgrade(struct socket *socket)
{
    static h2o_iovec_t accept_name = VALUE("sec-websocket-accept");
    static h2o_iovec_t protocol_name = VALUE("sec-websocket-protocol");
    struct exchange *exchange = socket->exchange;
    char *accept = exchange_alloc(exchange, WS_ACCEPT_BYTES);

    ws_accept(header(exchange->req, STR("sec-websocket-key")), accept);
    const h2o_header_t headers[] = {
        {&H2O_TOKEN_UPGRADE->buf, NULL, VALUE("websocket")},
        {&accept_name, NULL, {accept, WS_ACCEPT_BYTES}},
        {&protocol_name, NULL, VALUE(PROTOCOL)},
    };
    exchange_set_head(exchange, 101, "Switching Protocols", headers,
                      sizeof(headers) / sizeof(headers[0]));
    socket->exchange = NULL;
    outlet_take(exchange, &outlet_ops, socket);
}

/* ---- the watcher's side */

static void on_ready(struct watcher *watcher)
{
    socket_wake(watcher->owner);
}

static void on_begun(struct watcher *watcher)
{
    struct socket *socket = watcher->owner;
    if (socket->frontend->draining_ms != 0)
        exchange_refuse_text(socket->exchange, REQUEST_E_UNAVAILABLE, NULL,
                             "The server is about to stop.");
    else
        upgrade(socket);
}

static void on_refused(struct watcher *watcher, unsigned error, const struct core_refusal *why)
{
    struct socket *socket = watcher->owner;
    exchange_refuse(socket->exchange, error, why);
}

static const struct watcher_ops watcher_ops = {
    .ready = on_ready,
    .begun = on_begun,
    .refused = on_refused,
};

/* ---- opening */

/* The exchange goes, and the connection was not taken over. */
static void on_exchange_gone(void *face)
{
    socket_free(face);
}

static struct socket *socket_new(struct exchange *exchange, bool many)
{
    struct socket *socket = mem_alloc(sizeof(*socket));
    *socket = (struct socket){.frontend = exchange->frontend, .exchange = exchange, .many = many};
    socket->address = shares_address(exchange);
    socket->reader.max_bytes = exchange->frontend->shared->config->max_body_bytes;
    socket->again.fire = on_again;
    return socket;
}

static void open_one(struct exchange *exchange, const struct call *call)
{
    struct watcher_wish wish = {
        .session = exchange->match.session,
        .form = call->query.view == VIEW_COMPACT ? WANTS_COMPACT : WANTS_PATCHES,
        .framing = FRAMING_WS,
        .parts = call->query.parts,
        .redaction = guard_redaction(exchange->grant),
        .last_event_id = call->headers.last_event_id.n != 0 ? call->headers.last_event_id
                                                            : call->query.last_event_id,
        .after = call->query.after,
        .has_after = query_has(&call->query, QUERY_AFTER),
    };
    struct socket *socket = socket_new(exchange, false);

    if (!watcher_open(&socket->watcher, exchange->frontend, &wish, &watcher_ops, socket)) {
        free(socket);
        exchange_refuse_text(exchange, REQUEST_E_OVERLOADED, NULL,
                             "Too many requests are on their way; try again.");
        return;
    }
    exchange->face = socket;
    exchange->on_gone = on_exchange_gone;
    exchange_watch(exchange);
}

void socket_open(struct exchange *exchange, const struct call *call)
{
    if (!check_handshake(exchange))
        return;
    if (exchange->match.route == ROUTE_MANY_SOCKET)
        upgrade(socket_new(exchange, true));
    else
        open_one(exchange, call);
}
