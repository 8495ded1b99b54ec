#include "server/connection.h"

#include "server/frontend.h"
#include "server/health.h"
#include "server/problem.h"
#include "shards/siphash.h"

#include <errno.h>
#include <fcntl.h>
#include <h2o/http2.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    COUNTS = 1 << 16,     /* of addresses; two of one hash share a count */
    IDLE_LINGER_MS = 300, /* while draining, for a request that is under way */
    LINGER_MS = 1000,     /* the same, for one that has not come whole */
};

static int fd_of(const struct connection *connection)
{
    return h2o_socket_get_fd(connection->sock);
}

/* ---- how many an address has */

struct connection_counts {
    uint32_t max;
    uint8_t key[16];
    _Atomic uint32_t counts[COUNTS];
};

struct connection_counts *connection_counts_new(const struct config *config)
{
    if (config->max_connections_per_address == 0)
        return NULL;
    struct connection_counts *counts = mem_zeroed(1, sizeof(*counts));
    counts->max = (uint32_t)config->max_connections_per_address;
    /* Without random bytes addresses can be chosen to share a count; no more than that. */
    (void)!getrandom(counts->key, sizeof(counts->key), GRND_NONBLOCK);
    return counts;
}

void connection_counts_free(struct connection_counts *counts)
{
    free(counts);
}

/* Who has one IPv6 address has all of its /64. */
static _Atomic uint32_t *count_of(struct connection_counts *counts,
                                  const struct access_address *address)
{
    size_t n = address->family == AF_INET ? 4 : 8;
    return &counts->counts[siphash(counts->key, address->bytes, n) % COUNTS];
}

static void read_address(h2o_socket_t *sock, struct access_address *address)
{
    struct sockaddr_storage peer;
    socklen_t n = sizeof(peer);

    if (getpeername(h2o_socket_get_fd(sock), (struct sockaddr *)&peer, &n) != 0)
        return;
    if (peer.ss_family == AF_INET)
        memcpy(address->bytes, &((struct sockaddr_in *)&peer)->sin_addr, 4);
    else if (peer.ss_family == AF_INET6)
        memcpy(address->bytes, &((struct sockaddr_in6 *)&peer)->sin6_addr, 16);
    else
        return;
    address->family = peer.ss_family;
}

/* ---- clocks */

static void shut(struct connection *connection)
{
    (void)shutdown(fd_of(connection), SHUT_RDWR); /* h2o notices in the loop's next turn */
}

static int64_t deadline_ms(const struct connection *connection)
{
    const struct config *config = connection->frontend->shared->config;
    int64_t since_ms = connection->since_ms;

    switch ((enum connection_phase)connection->phase) {
    case CONNECTION_HANDSHAKE:
    case CONNECTION_HEAD:
        return since_ms + (int64_t)config->header_timeout_ms;
    case CONNECTION_BODY:
        return since_ms + (int64_t)config->body_timeout_ms +
               (int64_t)(connection->body_bytes * 1000 / CONNECTION_BODY_BYTES_PER_S);
    case CONNECTION_REFUSED:
        return since_ms + CONNECTION_LINGER_MS;
    case CONNECTION_IDLE:
        return since_ms + (int64_t)config->idle_timeout_ms;
    default: /* somebody else's time: look again then */
        return frontend_now_ms(connection->frontend) + (int64_t)config->idle_timeout_ms;
    }
}

/* Sees to it that the connection is looked at when its time may be over. */
static void watch_clock(struct connection *connection)
{
    int64_t due_ms = deadline_ms(connection);
    if (connection->timer.place == 0 || connection->timer.due_ms > due_ms)
        timers_set(&connection->frontend->timers, &connection->timer, due_ms);
}

static void enter(struct connection *connection, enum connection_phase phase)
{
    connection->phase = (uint8_t)phase;
    connection->since_ms = frontend_now_ms(connection->frontend);
}

static void refuse(struct connection *connection, unsigned error, const char *sentence);

/* h2o closes a TLS connection behind what it has still to say, for which it has no clock. */
static void watch_end(struct connection *connection)
{
    bool closing = connection->exchanges == 0 && connection->sock->_cb.read == NULL;

    if (closing && connection->stuck)
        shut(connection);
    connection->stuck = closing;
    watch_clock(connection);
}

static void on_timer(struct timer *timer)
{
    struct connection *connection =
        (struct connection *)((char *)timer - offsetof(struct connection, timer));
    struct frontend *frontend = connection->frontend;

    if (connection->phase == CONNECTION_BUSY || connection->phase == CONNECTION_HTTP2) {
        watch_end(connection);
        return;
    }
    if (frontend_now_ms(frontend) < deadline_ms(connection)) {
        watch_clock(connection);
        return;
    }
    if (connection->phase == CONNECTION_HEAD) {
        figure_add(&frontend->figures->slow, 1);
        refuse(connection, PROBLEM_E_REQUEST_TIMEOUT, "The request's head took too long to come.");
    } else if (connection->phase == CONNECTION_BODY) {
        figure_add(&frontend->figures->slow, 1);
        refuse(connection, PROBLEM_E_REQUEST_TIMEOUT, "The request's body took too long to come.");
    } else {
        shut(connection);
        timers_set(&frontend->timers, timer, frontend_now_ms(frontend) + CONNECTION_LINGER_MS);
    }
}

/* ---- answers that h2o has no part in */

static void on_refused(h2o_socket_t *sock, const char *error)
{
    struct connection *connection = sock->on_close.data;

    if (error != NULL) {
        connection->h2o_read(sock, error); /* h2o gives up what it has of it, and closes */
        return;
    }
    if (connection->ssl != NULL)
        tls_say_end(connection->ssl, fd_of(connection));
    (void)shutdown(fd_of(connection), SHUT_WR);
}

static void on_input(h2o_socket_t *sock, const char *error);

static void refuse(struct connection *connection, unsigned error, const char *sentence)
{
    struct frontend *frontend = connection->frontend;
    h2o_socket_t *sock = connection->sock;
    struct core_refusal why = {0};
    struct buf problem = {0}, *out = &connection->refusal;
    char date[H2O_TIMESTR_RFC1123_LEN + 1];
    struct tm now;
    time_t seconds = time(NULL);

    /* h2o is saying something already; it closes behind it, or else is cut off here. */
    if (sock->_cb.read != on_input || h2o_socket_is_writing(sock)) {
        shut(connection);
        return;
    }
    snprintf(why.detail, sizeof(why.detail), "%s", sentence);
    problem_write(&problem, error, &why, 0);
    gmtime_r(&seconds, &now);
    h2o_time2str_rfc1123(date, &now);
    buf_add_literal(out, "HTTP/1.1 ");
    buf_add_u64(out, (uint64_t)problem_status(error));
    buf_add_byte(out, ' ');
    buf_add(out, problem_title(error), strlen(problem_title(error)));
    buf_add_literal(out, "\r\nDate: ");
    buf_add(out, date, H2O_TIMESTR_RFC1123_LEN);
    buf_add_literal(out, "\r\nConnection: close\r\ncontent-type: application/problem+json\r\n"
                         "cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
                         "Content-Length: ");
    buf_add_u64(out, problem.n);
    buf_add_literal(out, "\r\n\r\n");
    buf_add_str(out, buf_str(&problem));
    buf_free(&problem);
    figure_add(&frontend->figures->requests, 1);
    figure_add(&frontend->figures->answers[problem_status(error) / 100], 1);
    enter(connection, CONNECTION_REFUSED);
    watch_clock(connection);
    h2o_buffer_consume(&sock->input, sock->input->size);
    buf_free(&connection->stash);
    if (!frontend->in_loop)
        frontend->touched = true;
    h2o_iovec_t text = h2o_iovec_init(out->p, out->n);
    h2o_socket_write(sock, &text, 1, on_refused);
}

/* ---- requests on their way to h2o */

/* Hands h2o what its socket has. False: the connection is no more. */
static bool feed_h2o(struct connection *connection)
{
    struct frontend *frontend = connection->frontend;

    frontend->fed = connection;
    connection->h2o_read(connection->sock, NULL);
    bool alive = frontend->fed == connection;
    frontend->fed = NULL;
    return alive;
}

/* The socket's input holds what intake.c has let through. */
static void go_on(struct connection *connection, enum intake_got got)
{
    bool began = connection->phase != CONNECTION_BODY;

    switch (got) {
    case INTAKE_BAD:
        figure_add(&connection->frontend->figures->malformed, 1);
        refuse(connection, CORE_E_MALFORMED, connection->intake.why);
        return;
    case INTAKE_TOO_LARGE:
        refuse(connection, PROBLEM_E_HEADERS_TOO_LARGE, connection->intake.why);
        return;
    case INTAKE_HEAD:
        watch_clock(connection);
        return;
    case INTAKE_BODY:
        if (began)
            enter(connection, CONNECTION_BODY);
        watch_clock(connection);
        break;
    case INTAKE_DONE:
        connection->phase = CONNECTION_BUSY;
        break;
    }
    if (!feed_h2o(connection) || connection->exchanges != 0)
        return;
    if (connection->sock->_cb.read != on_input)
        connection_settle_later(connection); /* h2o says 100, or refuses */
}

static size_t head_max(const struct connection *connection)
{
    return (size_t)connection->frontend->shared->config->max_header_bytes;
}

static void take_input(struct connection *connection)
{
    h2o_buffer_t *input = connection->sock->input;
    bool in_body = connection->phase == CONNECTION_BODY;
    size_t n = in_body ? connection->sock->bytes_read : input->size, used;

    if (n == 0)
        return; /* a part of a TLS record */
    if (connection->phase == CONNECTION_IDLE)
        enter(connection, CONNECTION_HEAD);
    if (in_body)
        connection->body_bytes += n;
    enum intake_got got = intake_take(&connection->intake, input->bytes + input->size - n, n,
                                      head_max(connection), &used);
    if (got == INTAKE_DONE && used < n) {
        buf_add(&connection->stash, input->bytes + input->size - (n - used), n - used);
        input->size -= n - used;
    }
    go_on(connection, got);
}

/* Ours, before h2o's. */
static void on_input(h2o_socket_t *sock, const char *error)
{
    struct connection *connection = sock->on_close.data;

    if (error != NULL)
        connection->h2o_read(sock, error);
    else if (connection->phase == CONNECTION_REFUSED)
        h2o_buffer_consume(&sock->input, sock->input->size);
    else
        take_input(connection);
}

static void put_input(h2o_socket_t *sock, const char *bytes, size_t n)
{
    h2o_iovec_t room = h2o_buffer_reserve(&sock->input, n);
    memcpy(room.base, bytes, n);
    sock->input->size += n;
}

/* What has waited behind the last request, as far as the next one goes. */
static void take_stash(struct connection *connection)
{
    const char *bytes = connection->stash.p + connection->stash_at;
    size_t n = connection->stash.n - connection->stash_at, used;

    enter(connection, CONNECTION_HEAD);
    enum intake_got got = intake_take(&connection->intake, bytes, n, head_max(connection), &used);
    put_input(connection->sock, bytes, used);
    connection->stash_at += used;
    if (used == n) {
        buf_free(&connection->stash);
        connection->stash_at = 0;
    }
    go_on(connection, got);
}

/* ---- from one request to the next */

void connection_settle_later(struct connection *connection)
{
    if (connection->unsettled || connection->phase == CONNECTION_REFUSED ||
        connection->phase == CONNECTION_LEFT)
        return;
    connection->unsettled = true;
    LIST_INSERT_HEAD(&connection->frontend->unsettled, connection, settling);
}

/* Ours, before that of h2o's HTTP/2. */
static void on_h2_input(h2o_socket_t *sock, const char *error)
{
    struct connection *connection = sock->on_close.data;
    struct frontend *frontend = connection->frontend;
    size_t n = sock->bytes_read;

    if (error != NULL) {
        connection->h2o_read(sock, error);
        return;
    }
    if (!h2_guard_take(connection->h2, sock->input->bytes + sock->input->size - n, n,
                       head_max(connection), frontend_now_ms(frontend))) {
        figure_add(&frontend->figures->h2_floods, 1);
        shut(connection);
        h2o_buffer_consume(&sock->input, sock->input->size);
        return;
    }
    if (feed_h2o(connection))
        connection_settle_later(connection);
}

/* h2o stops reading while it has much to write. */
static void settle_http2(struct connection *connection)
{
    h2o_socket_t *sock = connection->sock;

    if (sock->_cb.read == NULL) {
        connection_settle_later(connection);
    } else if (sock->_cb.read != on_h2_input) {
        connection->h2o_read = sock->_cb.read;
        sock->_cb.read = on_h2_input;
    }
}

/* h2o reads again: for the next request, or, where it has said 100, for the body of this one. */
static void settle(struct connection *connection)
{
    h2o_socket_t *sock = connection->sock;

    if (connection->phase == CONNECTION_HTTP2) {
        settle_http2(connection);
        return;
    }
    if (connection->exchanges != 0)
        return;
    if (sock->_cb.read == NULL) {
        connection_settle_later(connection);
        return;
    }
    if (sock->_cb.read != on_input) {
        connection->h2o_read = sock->_cb.read;
        sock->_cb.read = on_input;
    }
    if (connection->phase != CONNECTION_BUSY)
        return;
    enter(connection, CONNECTION_IDLE);
    watch_clock(connection);
    connection->intake = (struct intake){0};
    connection->body_bytes = 0;
    if (connection->stash.n != 0) {
        take_stash(connection);
        connection->frontend->touched = true;
    }
}

void connections_settle(struct frontend *frontend)
{
    LIST_HEAD(, connection) now = {LIST_FIRST(&frontend->unsettled)};
    struct connection *connection;
    bool in_loop = frontend->in_loop;

    if (now.lh_first == NULL)
        return;
    now.lh_first->settling.le_prev = &now.lh_first;
    LIST_INIT(&frontend->unsettled);
    frontend->in_loop = true;
    while ((connection = LIST_FIRST(&now)) != NULL) {
        LIST_REMOVE(connection, settling);
        connection->unsettled = false;
        settle(connection);
    }
    frontend->in_loop = in_loop;
}

void connection_leave(struct connection *connection)
{
    enter(connection, CONNECTION_LEFT);
    timers_clear(&connection->frontend->timers, &connection->timer);
    if (connection->unsettled)
        LIST_REMOVE(connection, settling);
    connection->unsettled = false;
    if (connection->stash.n != 0)
        put_input(connection->sock, connection->stash.p + connection->stash_at,
                  connection->stash.n - connection->stash_at);
    buf_free(&connection->stash);
    connection->stash_at = 0;
}

/* ---- birth and death */

static void on_close(void *p)
{
    struct connection *connection = p;
    struct frontend *frontend = connection->frontend;

    if (connection->previous != NULL)
        connection->previous->next = connection->next;
    else
        frontend->connections = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    if (connection->unsettled)
        LIST_REMOVE(connection, settling);
    if (frontend->fed == connection)
        frontend->fed = NULL;
    timers_clear(&frontend->timers, &connection->timer);
    atomic_fetch_sub_explicit(&frontend->shared->connections, 1, memory_order_relaxed);
    if (connection->of_address != NULL)
        atomic_fetch_sub_explicit(connection->of_address, 1, memory_order_relaxed);
    figure_add(&frontend->figures->connections, -1);
    tls_release(connection->tls);
    buf_free(&connection->stash);
    buf_free(&connection->refusal);
    free(connection->h2);
    free(connection->mcp_session);
    grant_release(connection->grant);
    free(connection);
}

static void speak_http1(struct connection *connection)
{
    struct frontend *frontend = connection->frontend;
    h2o_socket_t *sock = connection->sock;

    /* Bytes that came with the end of a handshake pass intake.c, too. */
    if (sock->input->size != 0) {
        buf_add(&connection->stash, sock->input->bytes, sock->input->size);
        h2o_buffer_consume(&sock->input, sock->input->size);
    }
    h2o_http1_accept(&frontend->accept, sock, *h2o_get_timestamp(&frontend->context, NULL, NULL));
    connection->h2o_read = sock->_cb.read;
    sock->_cb.read = on_input;
    enter(connection, CONNECTION_IDLE);
    watch_clock(connection);
    if (connection->stash.n != 0)
        take_stash(connection);
}

static void speak_http2(struct connection *connection)
{
    struct frontend *frontend = connection->frontend;
    h2o_socket_t *sock = connection->sock;
    bool good = true;

    connection->h2 = mem_zeroed(1, sizeof(*connection->h2));
    enter(connection, CONNECTION_HTTP2);
    if (sock->input->size != 0)
        good = h2_guard_take(connection->h2, sock->input->bytes, sock->input->size,
                             head_max(connection), frontend_now_ms(frontend));
    if (!good) {
        figure_add(&frontend->figures->h2_floods, 1);
        h2o_socket_close(sock);
        return;
    }
    frontend->fed = connection;
    h2o_http2_accept(&frontend->accept, sock, *h2o_get_timestamp(&frontend->context, NULL, NULL));
    if (frontend->fed == connection)
        connection_settle_later(connection);
    frontend->fed = NULL;
}

static void on_handshake(h2o_socket_t *sock, const char *error)
{
    struct connection *connection = sock->on_close.data;
    struct frontend *frontend = connection->frontend;

    tls_release(connection->tls);
    connection->tls = NULL;
    if (error != NULL) {
        figure_add(&frontend->figures->handshakes_failed, 1);
        h2o_socket_close(sock);
        return;
    }
    figure_add(&frontend->figures->handshakes, 1);
    if (tls_is_http2(connection->ssl))
        speak_http2(connection);
    else
        speak_http1(connection);
}

/* False: the address has too many. */
static bool count_address(struct connection *connection)
{
    struct connection_counts *counts = connection->frontend->shared->counts;

    if (counts == NULL || connection->address.family == 0)
        return true;
    connection->of_address = count_of(counts, &connection->address);
    return atomic_fetch_add_explicit(connection->of_address, 1, memory_order_relaxed) < counts->max;
}

static void begin(struct connection *connection, const struct listener *listener)
{
    struct frontend *frontend = connection->frontend;

    if (!listener->tls) {
        speak_http1(connection);
        return;
    }
    connection->secure = true;
    connection->tls = tls_hold(frontend->live->tls);
    enter(connection, CONNECTION_HANDSHAKE);
    watch_clock(connection);
    h2o_socket_ssl_handshake(connection->sock, tls_context(connection->tls), NULL, on_handshake);
}

/* False: there are too many; it is closed. */
static bool admit(struct frontend *frontend, h2o_socket_t *sock)
{
    struct frontend_shared *shared = frontend->shared;
    unsigned before = atomic_fetch_add_explicit(&shared->connections, 1, memory_order_relaxed);

    if (before < shared->config->max_connections)
        return true;
    atomic_fetch_sub_explicit(&shared->connections, 1, memory_order_relaxed);
    figure_add(&frontend->figures->refused, 1);
    h2o_socket_close(sock);
    return false;
}

static void take_connection(struct listener *listener, h2o_socket_t *sock)
{
    struct frontend *frontend = listener->frontend;

    if (!admit(frontend, sock))
        return;
    struct connection *connection = mem_alloc(sizeof(*connection));
    *connection = (struct connection){.frontend = frontend,
                                      .sock = sock,
                                      .next = frontend->connections,
                                      .local = listener->local,
                                      .timer.fire = on_timer};
    if (connection->next != NULL)
        connection->next->previous = connection;
    frontend->connections = connection;
    figure_add(&frontend->figures->connections, 1);
    figure_add(&frontend->figures->accepted, 1);
    sock->on_close.cb = on_close;
    sock->on_close.data = connection;
    if (!listener->local)
        read_address(sock, &connection->address);
    if (count_address(connection)) {
        begin(connection, listener);
        return;
    }
    figure_add(&frontend->figures->crowding, 1);
    h2o_socket_close(sock);
}

/* ---- accepting */

static void open_spare(struct frontend *frontend)
{
    if (frontend->spare_fd < 0)
        frontend->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void connections_init(struct frontend *frontend)
{
    LIST_INIT(&frontend->unsettled);
    frontend->spare_fd = -1;
    open_spare(frontend);
    frontend->accept_pause.fire = connections_on_pause_over;
}

void connections_free(struct frontend *frontend)
{
    if (frontend->spare_fd >= 0)
        close(frontend->spare_fd);
}

/* Closes those that have been idle for the longest time. Returns how many. */
static unsigned make_room(struct frontend *frontend)
{
    struct connection *oldest[CONNECTION_ROOM_MAX];
    unsigned n = 0;

    for (struct connection *c = frontend->connections; c != NULL; c = c->next) {
        if (c->phase != CONNECTION_IDLE)
            continue;
        unsigned place = n < CONNECTION_ROOM_MAX ? n++ : CONNECTION_ROOM_MAX;
        for (; place != 0 && oldest[place - 1]->since_ms > c->since_ms; place--)
            if (place < CONNECTION_ROOM_MAX)
                oldest[place] = oldest[place - 1];
        if (place < CONNECTION_ROOM_MAX)
            oldest[place] = c;
    }
    for (unsigned i = 0; i < n; i++)
        shut(oldest[i]);
    figure_add(&frontend->figures->shed, n);
    return n;
}

/* Nobody is to wait for an answer that does not come: who waits to be accepted is closed. */
static void turn_away(struct listener *listener)
{
    struct frontend *frontend = listener->frontend;

    for (unsigned i = 0; i < CONNECTION_ACCEPT_MAX && frontend->spare_fd >= 0; i++) {
        close(frontend->spare_fd);
        frontend->spare_fd = -1;
        int fd = accept4(h2o_socket_get_fd(listener->sock), NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            close(fd);
            figure_add(&frontend->figures->shed, 1);
        }
        open_spare(frontend);
        if (fd < 0)
            break;
    }
}

/* The listener stays readable, so look away for a while. */
static void pause_accepting(struct listener *listener)
{
    struct frontend *frontend = listener->frontend;

    health_set_accepting(frontend, strerror(errno));
    if (make_room(frontend) == 0)
        turn_away(listener);
    for (unsigned i = 0; i < frontend->listeners_n; i++)
        h2o_socket_read_stop(frontend->listeners[i].sock);
    timers_set(&frontend->timers, &frontend->accept_pause,
               frontend_now_ms(frontend) + CONNECTION_ACCEPT_PAUSE_MS);
}

void connections_on_pause_over(struct timer *timer)
{
    struct frontend *frontend =
        (struct frontend *)((char *)timer - offsetof(struct frontend, accept_pause));

    health_set_accepting(frontend, NULL);
    open_spare(frontend);
    for (unsigned i = 0; i < frontend->listeners_n; i++)
        h2o_socket_read_start(frontend->listeners[i].sock, connections_on_accept);
    frontend->touched = true;
}

bool connections_accept(struct listener *listener, unsigned max)
{
    for (unsigned i = 0; i < max; i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener->sock);
        if (sock == NULL) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accepting(listener);
            return false;
        }
        take_connection(listener, sock);
    }
    return true;
}

void connections_on_accept(h2o_socket_t *sock, const char *error)
{
    if (error == NULL)
        connections_accept(sock->data, CONNECTION_ACCEPT_MAX);
}

/* ---- draining */

/* Nothing of a request has come on this connection. */
static bool is_silent(const struct connection *connection)
{
    int unread = 0;
    (void)ioctl(fd_of(connection), FIONREAD, &unread);
    return unread == 0 && connection->sock->input->size == 0 && connection->stash.n == 0;
}

/*
 * The next request on an idle connection may be under way: it is waited for, and answered. Then our
 * side is shut first: closed at once, what crosses the FIN would be met with a reset. What comes
 * from then on is not carried out, and who does not close has one more look's time.
 */
static void close_if_idle(struct connection *connection, int64_t now_ms)
{
    if (connection->exchanges != 0) {
        connection->idle_ms = 0;
        return;
    }
    if (connection->ended) {
        shut(connection);
        return;
    }
    if (connection->idle_ms == 0)
        connection->idle_ms = now_ms;
    int64_t idle_ms = now_ms - connection->idle_ms;
    if (idle_ms < IDLE_LINGER_MS || (idle_ms < LINGER_MS && !is_silent(connection)))
        return;
    connection->ended = true;
    if (connection->ssl != NULL && connection->h2 == NULL &&
        !h2o_socket_is_writing(connection->sock))
        tls_say_end(connection->ssl, fd_of(connection));
    (void)shutdown(fd_of(connection), SHUT_WR);
}

void connections_close_idle(struct frontend *frontend, int64_t now_ms)
{
    for (struct connection *c = frontend->connections; c != NULL; c = c->next)
        close_if_idle(c, now_ms);
}
