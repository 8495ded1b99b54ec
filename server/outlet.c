#include "server/outlet.h"
#include "server/auth/grant.h"

#include "server/exchange.h"
#include "server/gzip.h"
#include "server/outlet_h2.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* An owner may go a little beyond a full write; and gzip has a piece for each, its head and end. */
enum { PIECES_MIN = 4, PIECES_MAX = 2 * OUTLET_WRITE_CHUNKS + 16, LATER_BYTES = 64 * 1024 };

static void on_read(h2o_socket_t *sock, const char *error);

static int outlet_fd(const struct outlet *outlet)
{
    return h2o_socket_get_fd(outlet->sock);
}

static SSL *ssl_of(const struct outlet *outlet)
{
    return outlet->connection->ssl;
}

/* ---- closing: whoever calls an owner holds the outlet meanwhile */

static void release_pieces(struct outlet *outlet)
{
    for (uint32_t i = 0; i < outlet->pieces_n; i++)
        chunk_release(outlet->pieces[i].chunk);
    free(outlet->pieces);
    outlet->pieces = NULL;
    outlet->pieces_n = outlet->pieces_cap = 0;
    outlet->bytes = outlet->sent = 0;
}

static void destroy(struct outlet *outlet)
{
    struct frontend *frontend = outlet->frontend;

    outlet->ops->closed(outlet->owner, outlet->why);
    if (outlet->is_ready)
        TAILQ_REMOVE(&frontend->outlets.ready, outlet, ready);
    timers_clear(&frontend->timers, &outlet->timer);
    grant_unbind(outlet);
    if (outlet->previous != NULL)
        outlet->previous->next = outlet->next;
    else
        frontend->outlets.first = outlet->next;
    if (outlet->next != NULL)
        outlet->next->previous = outlet->previous;
    frontend->outlets.n--;
    if (outlet->h2 != NULL) {
        outlet_h2_leave(outlet);
    } else {
        outlet->connection->exchanges--;
        h2o_socket_close(outlet->sock);
    }
    release_pieces(outlet);
    free(outlet->gzip);
    free(outlet);
    if (!frontend->in_loop)
        frontend->touched = true;
}

static void hold(struct outlet *outlet)
{
    outlet->busy++;
}

static void let_go(struct outlet *outlet)
{
    if (--outlet->busy == 0 && outlet->closing)
        destroy(outlet);
}

static void close_for(struct outlet *outlet, enum outlet_end why)
{
    if (outlet->closing)
        return;
    outlet->closing = true;
    outlet->why = (uint8_t)why;
    hold(outlet);
    let_go(outlet);
}

void outlet_cut(struct outlet *outlet)
{
    close_for(outlet, OUTLET_ENDED);
}

/* ---- deadlines: looked at when due, rather than moved by each write */

static int kernel_backlog(const struct outlet *outlet)
{
    int waiting = 0;
    (void)ioctl(outlet_fd(outlet), SIOCOUTQ, &waiting);
    return waiting;
}

bool outlet_behind(const struct outlet *outlet)
{
    return outlet->writing || (outlet->h2 == NULL && kernel_backlog(outlet) != 0);
}

uint64_t outlet_taken(const struct outlet *outlet)
{
    struct tcp_info info;
    socklen_t n = sizeof(info);
    if (outlet->h2 != NULL)
        return outlet_h2_taken(outlet);
    if (getsockopt(outlet_fd(outlet), IPPROTO_TCP, TCP_INFO, &info, &n) == 0 &&
        n > offsetof(struct tcp_info, tcpi_bytes_acked))
        return info.tcpi_bytes_acked;
    return (uint64_t)kernel_backlog(outlet); /* a Unix socket */
}

static int64_t pause_ms(const struct outlet *outlet)
{
    const struct config *config = outlet->frontend->shared->config;
    if (outlet->fin && outlet->h2 == NULL)
        return OUTLET_LINGER_MS;
    return (int64_t)(outlet->writing ? config->write_timeout_ms : config->heartbeat_ms);
}

static void set_timer(struct outlet *outlet)
{
    int64_t due_ms = outlet->sent_ms + pause_ms(outlet);
    if (outlet->timer.place == 0 || outlet->timer.due_ms > due_ms)
        timers_set(&outlet->frontend->timers, &outlet->timer, due_ms);
}

static void on_timer(struct timer *timer)
{
    struct outlet *outlet = (struct outlet *)((char *)timer - offsetof(struct outlet, timer));
    int64_t now_ms = frontend_now_ms(outlet->frontend);

    if (now_ms < outlet->sent_ms + pause_ms(outlet)) {
        set_timer(outlet);
        return;
    }
    if (outlet->fin && outlet->h2 == NULL) {
        close_for(outlet, OUTLET_ENDED);
        return;
    }
    uint64_t taken = outlet->writing ? outlet_taken(outlet) : 0;
    if (outlet->writing && taken == outlet->taken) {
        figure_add(&outlet->frontend->figures->streams_cut, 1);
        close_for(outlet, OUTLET_UNREAD);
        return;
    }
    outlet->taken = taken;
    outlet->sent_ms = now_ms;
    set_timer(outlet);
    if (outlet->writing)
        return;
    hold(outlet);
    outlet->ops->quiet(outlet->owner);
    let_go(outlet);
}

/* ---- writing */

static void add_piece(struct outlet *outlet, struct chunk *chunk, struct str text)
{
    if (outlet->pieces_n == outlet->pieces_cap) {
        outlet->pieces_cap = outlet->pieces_cap == 0 ? PIECES_MIN : outlet->pieces_cap * 2;
        outlet->pieces = mem_realloc(outlet->pieces, outlet->pieces_cap * sizeof(*outlet->pieces));
    }
    assert(outlet->pieces_n < PIECES_MAX);
    outlet->pieces[outlet->pieces_n++] = (struct outlet_piece){chunk, text};
    outlet->bytes += text.n;
}

static void add_chunk(struct outlet *outlet, struct chunk *chunk)
{
    add_piece(outlet, chunk, chunk_text(chunk));
}

static void read_or_not(struct outlet *outlet)
{
    if (outlet->h2 != NULL)
        return;
    if (outlet->paused)
        h2o_socket_read_stop(outlet->sock);
    else
        h2o_socket_read_start(outlet->sock, on_read);
}

/* What is read is said again because h2o looks at what to poll a socket for only where something
 * was said: it goes on polling for a write that was begun outside of its loop and done at once, and
 * asserts that there is one when the next EPOLLOUT comes. */
void outlet_written(struct outlet *outlet, const char *error)
{
    outlet->writing = false;
    outlet->sent += outlet->later;
    read_or_not(outlet);
    if (error != NULL) {
        close_for(outlet, OUTLET_GONE);
        return;
    }
    if (outlet->sent == outlet->bytes)
        release_pieces(outlet);
    outlet_wake(outlet);
}

static void on_written(h2o_socket_t *sock, const char *error)
{
    outlet_written(sock->data, error);
}

/* Our end is said; what is left is to hear the client's. */
static void say_end(struct outlet *outlet)
{
    outlet->fin = true;
    outlet->sent_ms = frontend_now_ms(outlet->frontend);
    outlet->writing = outlet->h2 != NULL;
    set_timer(outlet);
    if (outlet->h2 != NULL) {
        outlet_h2_end(outlet);
        return;
    }
    if (ssl_of(outlet) != NULL)
        tls_say_end(ssl_of(outlet), outlet_fd(outlet));
    (void)shutdown(outlet_fd(outlet), SHUT_WR);
    outlet_pause(outlet, false);
}

/* What is left of the pieces, at most `max` bytes of it. Returns in how many parts. */
static unsigned parts_left(const struct outlet *outlet, size_t max, struct iovec *parts)
{
    size_t sent = outlet->sent;
    unsigned n = 0;
    for (uint32_t i = 0; i < outlet->pieces_n && max != 0; i++) {
        struct str text = outlet->pieces[i].text;
        size_t skipped = sent < text.n ? sent : text.n;
        size_t size = text.n - skipped < max ? text.n - skipped : max;
        sent -= skipped;
        max -= size;
        if (size != 0)
            parts[n++] = (struct iovec){(void *)(uintptr_t)(text.p + skipped), size};
    }
    return n;
}

/* What the kernel takes at once goes to it without h2o, which is needed for TLS alone (and HTTP/2
 * is spoken over TLS). False: the socket has failed. */
static bool send_now(struct outlet *outlet)
{
    struct iovec parts[PIECES_MAX];
    if (ssl_of(outlet) != NULL)
        return true;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = parts_left(outlet, SIZE_MAX, parts)};
    ssize_t n = sendmsg(outlet_fd(outlet), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    outlet->sent += (size_t)n;
    return true;
}

/* More, when the socket takes it: a part of the rest, so that it is seen to go on. */
static void send_later(struct outlet *outlet)
{
    struct iovec parts[PIECES_MAX];
    h2o_iovec_t later[PIECES_MAX];
    unsigned n = parts_left(outlet, LATER_BYTES, parts);
    outlet->later = 0;
    for (unsigned i = 0; i < n; i++) {
        later[i] = h2o_iovec_init(parts[i].iov_base, parts[i].iov_len);
        outlet->later += parts[i].iov_len;
    }
    outlet->writing = true;
    outlet->taken = outlet_taken(outlet);
    set_timer(outlet);
    if (!outlet->frontend->in_loop)
        outlet->frontend->touched = true;
    if (outlet->h2 != NULL)
        outlet_h2_write(outlet, later, n);
    else
        h2o_socket_write(outlet->sock, later, n, on_written);
}

static void write_pieces(struct outlet *outlet)
{
    outlet->sent_ms = frontend_now_ms(outlet->frontend);
    if (!send_now(outlet)) {
        close_for(outlet, OUTLET_GONE);
    } else if (outlet->sent == outlet->bytes) {
        release_pieces(outlet);
        outlet_wake(outlet);
    } else {
        send_later(outlet);
    }
}

static void fill(struct outlet *outlet)
{
    if (outlet->writing || outlet->fin || outlet->closing)
        return;
    hold(outlet);
    bool going_on = outlet->sent != 0;
    if (!outlet->ending && !going_on)
        outlet->ops->fill(outlet->owner);
    if (outlet->ending && !going_on && outlet->gzip != NULL && !outlet->closing) {
        add_chunk(outlet, gzip_end(outlet->gzip));
        free(outlet->gzip);
        outlet->gzip = NULL;
    }
    if (!outlet->closing && outlet->pieces_n != 0)
        write_pieces(outlet);
    else if (!outlet->closing && outlet->ending)
        say_end(outlet);
    let_go(outlet);
}

void outlet_gzip(struct outlet *outlet)
{
    outlet->gzip = mem_alloc(sizeof(*outlet->gzip));
    add_chunk(outlet, gzip_begin(outlet->gzip));
}

void outlet_push(struct outlet *outlet, struct chunk *chunk, struct str text)
{
    assert(!outlet->writing && !outlet->ending);
    if (text.n == 0) {
        chunk_release(chunk);
    } else if (outlet->gzip != NULL && text.n >= GZIP_MIN_BYTES) {
        add_chunk(outlet, gzip_deflate(outlet->gzip, chunk, text));
        chunk_release(chunk);
    } else {
        if (outlet->gzip != NULL)
            add_chunk(outlet, gzip_store(outlet->gzip, text));
        add_piece(outlet, chunk, text);
    }
}

void outlet_wake(struct outlet *outlet)
{
    if (outlet->is_ready || outlet->writing || outlet->closing || outlet->fin)
        return;
    outlet->is_ready = true;
    TAILQ_INSERT_TAIL(&outlet->frontend->outlets.ready, outlet, ready);
}

void outlet_end(struct outlet *outlet)
{
    outlet->ending = true;
    outlet_wake(outlet);
}

void outlets_init(struct outlets *outlets)
{
    *outlets = (struct outlets){0};
    TAILQ_INIT(&outlets->ready);
}

int64_t outlet_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

bool outlets_work(struct frontend *frontend)
{
    struct outlets *outlets = &frontend->outlets;
    struct outlet *outlet;
    if (TAILQ_EMPTY(&outlets->ready))
        return false;
    int64_t until_ns = outlet_clock_ns() + OUTLET_SLICE_NS;
    while ((outlet = TAILQ_FIRST(&outlets->ready)) != NULL) {
        TAILQ_REMOVE(&outlets->ready, outlet, ready);
        outlet->is_ready = false;
        fill(outlet);
        if (outlet_clock_ns() > until_ns)
            break;
    }
    return !TAILQ_EMPTY(&outlets->ready);
}

void outlet_expire(struct outlet *outlet)
{
    hold(outlet);
    if (!outlet->ending && outlet->open)
        (outlet->ops->expired != NULL ? outlet->ops->expired : outlet->ops->drain)(outlet->owner);
    let_go(outlet);
}

void outlets_drain(struct frontend *frontend)
{
    for (struct outlet *outlet = frontend->outlets.first, *next; outlet != NULL; outlet = next) {
        next = outlet->next;
        hold(outlet);
        if (!outlet->ending)
            outlet->ops->drain(outlet->owner);
        let_go(outlet);
    }
}

/* ---- reading */

/* Idle ones keep no buffer. */
static void drop_input(h2o_socket_t *sock)
{
    h2o_buffer_dispose(&sock->input);
    h2o_buffer_init(&sock->input, &h2o_socket_buffer_prototype);
}

static void take_input(struct outlet *outlet)
{
    h2o_socket_t *sock = outlet->sock;
    size_t n = sock->input->size;
    if (n != 0 && outlet->ops->received != NULL && !outlet->ending)
        outlet->ops->received(outlet->owner, (struct str){sock->input->bytes, n});
    drop_input(sock);
}

static void on_read(h2o_socket_t *sock, const char *error)
{
    struct outlet *outlet = sock->data;
    hold(outlet);
    if (sock->input->size != 0)
        take_input(outlet);
    if (error != NULL)
        close_for(outlet, outlet->fin ? OUTLET_ENDED : OUTLET_GONE);
    let_go(outlet);
}

void outlet_pause(struct outlet *outlet, bool paused)
{
    if (outlet->paused == paused || outlet->closing)
        return;
    outlet->paused = paused;
    read_or_not(outlet);
    if (!outlet->frontend->in_loop)
        outlet->frontend->touched = true;
}

/* ---- opening */

static void open(struct outlet *outlet)
{
    struct frontend *frontend = outlet->frontend;

    outlet->open = true;
    outlet->next = frontend->outlets.first;
    if (outlet->next != NULL)
        outlet->next->previous = outlet;
    frontend->outlets.first = outlet;
    frontend->outlets.n++;
    outlet->sent_ms = frontend_now_ms(frontend);
    outlet->timer.fire = on_timer;
    set_timer(outlet);
    hold(outlet);
    outlet->ops->opened(outlet->owner, outlet);
    if (!outlet->closing) {
        if (outlet->sock != NULL)
            take_input(outlet); /* what came behind the request */
        read_or_not(outlet);
        outlet_wake(outlet);
        if (frontend->draining_ms != 0 && !outlet->ending)
            outlet->ops->drain(outlet->owner);
        if (outlet->grant != NULL && grant_is_over(outlet->grant))
            outlet_expire(outlet);
    }
    let_go(outlet);
}

void outlet_begun(struct outlet *outlet)
{
    open(outlet);
}

/* The client has gone before. */
static void give_up(struct outlet *outlet)
{
    outlet->ops->opened(outlet->owner, NULL);
    grant_unbind(outlet);
    free(outlet);
}

void outlet_lost(struct outlet *outlet)
{
    if (outlet->open)
        close_for(outlet, outlet->fin ? OUTLET_ENDED : OUTLET_GONE);
    else
        give_up(outlet);
}

static void on_upgraded(void *p, h2o_socket_t *sock, size_t request_bytes)
{
    struct outlet *outlet = p;
    if (sock == NULL) {
        give_up(outlet);
        return;
    }
    outlet->sock = sock;
    outlet->connection->exchanges++;
    h2o_buffer_consume(&sock->input, request_bytes);
    connection_leave(outlet->connection);
    sock->data = outlet;
    open(outlet);
}

void outlet_take(struct exchange *exchange, const struct outlet_ops *ops, void *owner)
{
    struct outlet *outlet = mem_alloc(sizeof(*outlet));
    *outlet = (struct outlet){.frontend = exchange->frontend,
                              .connection = exchange->connection,
                              .ops = ops,
                              .owner = owner};
    grant_bind(exchange->grant, outlet);
    exchange_give_away(exchange);
    if (exchange_is_http2(exchange))
        outlet_h2_begin(outlet, exchange);
    else
        h2o_http1_upgrade(exchange->req, NULL, 0, on_upgraded, outlet);
}
