#include "server/frontend.h"

#include "server/assets.h"
#include "server/auth/guard.h"
#include "server/auth/login.h"
#include "server/call.h"
#include "server/connected.h"
#include "server/cors.h"
#include "server/courier.h"
#include "server/hangup.h"
#include "server/level.h"
#include "server/list.h"
#include "server/many.h"
#include "server/metrics.h"
#include "server/newid.h"
#include "server/problem.h"
#include "server/rest.h"
#include "server/shares.h"
#include "server/status.h"
#include "server/stream.h"
#include "server/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BODY_SLACK_BYTES = 1024 * 1024, /* read although too large, so that the client gets the 413 */
    DRAIN_LOOK_MS = 20,             /* between two looks at what is open */
    STOP_TURNS_MAX = 100,           /* of the loop, for cut connections to be closed */
    H2O_SPARES = 16,                /* chunks that h2o keeps for a thread */
    NO_TIMEOUT_MS = INT32_MAX,
};

/* h2o's handler and filter, with the way back to us. */
struct handler {
    h2o_handler_t super;
    struct frontend *frontend;
};

/* ---- one request */

static bool host_known(const struct connection *connection, struct str host)
{
    return connection->host_n != 0 && connection->host_n == host.n &&
           memcmp(connection->host, host.p, host.n) == 0;
}

static bool check_host(struct exchange *exchange, struct str host)
{
    struct connection *connection = exchange->connection;

    if (connection->local || host_known(connection, host))
        return true;
    if (!access_host_allowed(&exchange->frontend->live->access, host)) {
        audit_refused(exchange, 403, "Host not allowed");
        exchange_refuse_text(exchange, PROBLEM_E_FORBIDDEN_HOST, "Host",
                             "This Host is not allowed here; see --allowed-host.");
        return false;
    }
    if (host.n <= sizeof(connection->host)) {
        connection->host_n = (uint8_t)host.n;
        memcpy(connection->host, host.p, host.n);
    }
    return true;
}

/* Of HTTP/2, where headers are sent compressed; intake.c has looked at those of HTTP/1. */
static bool check_head(struct exchange *exchange)
{
    const h2o_req_t *req = exchange->req;
    size_t bytes = req->input.path.len + req->input.authority.len;

    if (!exchange_is_http2(exchange))
        return true;
    for (size_t i = 0; i < req->headers.size; i++)
        bytes += req->headers.entries[i].name->len + req->headers.entries[i].value.len;
    if (bytes <= exchange->frontend->shared->config->max_header_bytes &&
        req->headers.size <= INTAKE_HEADERS_MAX)
        return true;
    exchange_refuse_text(exchange, PROBLEM_E_HEADERS_TOO_LARGE, NULL,
                         "The headers are too large; see --max-header-bytes.");
    return false;
}

static bool check_access(struct exchange *exchange, const struct call *call)
{
    const struct access *access = &exchange->frontend->live->access;
    struct str origin = call->headers.origin;

    if (!check_host(exchange, call->host))
        return false;
    if (origin.p != NULL && !access_origin_allowed(access, origin, call->host)) {
        audit_refused(exchange, 403, "Origin not allowed");
        exchange_refuse_text(exchange, PROBLEM_E_FORBIDDEN_ORIGIN, "Origin",
                             "This Origin is not allowed here; see --allowed-origin.");
        return false;
    }
    return true;
}

struct str frontend_node_tag(const struct frontend *frontend)
{
    const char *tag = frontend->shared->config->node_tag;
    return (struct str){tag, strlen(tag)};
}

/* A session that another node has made can only be sought here by mistake. */
static bool check_node(struct exchange *exchange)
{
    struct str tag = frontend_node_tag(exchange->frontend);
    struct str other = newid_other_tag(exchange->match.session, tag);
    struct core_refusal why = {.field = "session"};

    if (other.n == 0)
        return true;
    snprintf(why.detail, sizeof(why.detail),
             "The node \"%.*s\" made this session; this is the node \"%.*s\".", (int)other.n,
             other.p, (int)tag.n, tag.p);
    exchange_refuse(exchange, PROBLEM_E_MISDIRECTED, &why);
    return false;
}

/* Query and headers; what is wrong with them, or with the route (`rc`, `why`), is answered. */
static bool read_call(struct exchange *exchange, struct call *call, int rc,
                      struct core_refusal *why)
{
    struct frontend *frontend = exchange->frontend;
    const struct config *config = frontend->shared->config;
    const h2o_req_t *req = exchange->req;
    struct query_limits limits = {(uint32_t)config->page_limit, (uint32_t)config->page_limit_max};

    if (rc == 0)
        rc = query_parse(exchange->match.query, exchange->match.route, &limits, &frontend->scratch,
                         &call->query, why);
    if (rc != 0) {
        exchange_refuse(exchange, (unsigned)rc, why);
        return false;
    }
    if (call->headers.twice != NULL) {
        exchange_refuse_text(exchange, CORE_E_MALFORMED, call->headers.twice,
                             "This header may be given only once.");
        return false;
    }
    call->body = (struct str){req->entity.base, req->entity.len};
    return check_node(exchange);
}

static void dispatch(struct exchange *exchange, const struct call *call)
{
    switch (exchange->match.route) {
    case ROUTE_PAGE:
    case ROUTE_ASSET:
        assets_serve(exchange, call);
        break;
    case ROUTE_HEALTH:
    case ROUTE_READY:
    case ROUTE_OPENAPI:
    case ROUTE_STATUS:
        status_serve(exchange);
        break;
    case ROUTE_METRICS:
        metrics_serve(exchange, call);
        break;
    case ROUTE_LOG_LEVEL_GET:
    case ROUTE_LOG_LEVEL_PUT:
        level_serve(exchange, call);
        break;
    case ROUTE_LOGIN:
    case ROUTE_LOGOUT:
    case ROUTE_ME:
    case ROUTE_TICKET:
        login_serve(exchange, call);
        break;
    case ROUTE_SESSION_LIST:
        list_serve(exchange, call);
        break;
    case ROUTE_STREAM:
        stream_open(exchange, call);
        break;
    case ROUTE_EVENTS:
        if (!exchange_is_head(exchange) &&
            access_accepts(call->headers.accept, STR("text/event-stream")))
            stream_open(exchange, call);
        else
            rest_serve(exchange, call);
        break;
    case ROUTE_MANY_STREAM:
        many_open(exchange, call);
        break;
    case ROUTE_SOCKET:
    case ROUTE_MANY_SOCKET:
        socket_open(exchange, call);
        break;
    case ROUTE_MCP_POST:
    case ROUTE_MCP_GET:
    case ROUTE_MCP_DELETE:
    case ROUTE_MCP_SSE_GET:
    case ROUTE_MCP_SSE_POST:
        mcp_serve(exchange, call);
        break;
    default:
        rest_serve(exchange, call);
        break;
    }
}

static bool is_probe(enum route route)
{
    return route == ROUTE_HEALTH || route == ROUTE_READY;
}

static bool needs_shards(enum route route)
{
    return !is_probe(route) && route != ROUTE_PAGE && route != ROUTE_ASSET &&
           route != ROUTE_OPENAPI && route != ROUTE_LOGIN && route != ROUTE_LOGOUT &&
           route != ROUTE_ME && route != ROUTE_TICKET && route != ROUTE_LOG_LEVEL_GET &&
           route != ROUTE_LOG_LEVEL_PUT;
}

static int on_req(h2o_handler_t *self, h2o_req_t *req)
{
    struct frontend *frontend = ((struct handler *)self)->frontend;
    struct exchange *exchange = exchange_new(frontend, req);
    struct core_refusal why; /* good where there is no such route */
    struct call call;

    arena_reset(&frontend->scratch);
    call_read_target(req, &frontend->scratch, &call);
    call_read_headers(req, &call.headers);
    trace_begin(exchange, &call.headers);
    int rc = router_match((struct str){req->input.method.base, req->input.method.len}, call.target,
                          &frontend->scratch, &exchange->match, &why);
    /* The rate of its address first: it holds for what is refused, too. */
    if (!shares_enter_address(exchange) || !check_head(exchange) ||
        !check_access(exchange, &call) || !cors_begin(exchange, &call) ||
        !read_call(exchange, &call, rc, &why) || !guard_enter(exchange, &call) ||
        !shares_enter(exchange))
        return 0;
    if (frontend->draining_ms != 0 && !is_probe(exchange->match.route))
        exchange_refuse_text(exchange, REQUEST_E_UNAVAILABLE, NULL, "The server is about to stop.");
    else if (!reactor_ready(frontend->reactor) && needs_shards(exchange->match.route))
        status_refuse_recovering(exchange);
    else
        dispatch(exchange, &call);
    return 0;
}

/* ---- what h2o answers by itself: 400 and 413, as problems */

struct problem_stream {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void send_problem(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t n,
                         h2o_send_state_t state)
{
    struct problem_stream *stream = (struct problem_stream *)self;
    (void)bufs;
    h2o_ostream_send_next(self, req, &stream->body, n != 0, state);
}

static void make_problem(struct handler *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    const struct config *config = self->frontend->shared->config;
    bool too_large = req->res.status == 413;
    struct core_refusal why = {.code = too_large ? CORE_E_TOO_LARGE : CORE_E_MALFORMED};
    struct problem_stream *stream = (void *)h2o_add_ostream(req, sizeof(*stream), slot);
    struct buf text = {0};

    if (too_large)
        snprintf(why.detail, sizeof(why.detail), "The body has more than the %llu bytes allowed.",
                 (unsigned long long)config->max_batch_bytes);
    else
        snprintf(why.detail, sizeof(why.detail), "The request is not well-formed HTTP.");
    problem_write(&text, why.code, &why, 0);
    stream->super.do_send = send_problem;
    stream->body = h2o_strdup(&req->pool, text.p, text.n);
    buf_free(&text);
    req->res.content_length = stream->body.len;
    h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE,
                   H2O_STRLIT("application/problem+json"), 1);
}

struct problem_filter {
    h2o_filter_t super;
    struct handler *handler;
};

static void on_setup_ostream(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    if (req->res.status == 400 || req->res.status == 413) {
        make_problem(((struct problem_filter *)self)->handler, req, slot);
        slot = &(*slot)->next;
    }
    h2o_setup_next_ostream(req, slot);
}

/* ---- starting */

static void on_reactor_fd(h2o_socket_t *sock, const char *error)
{
    (void)sock; /* the reactor drains it behind this turn */
    (void)error;
}

static void on_hangup(h2o_socket_t *sock, const char *error)
{
    if (error == NULL)
        hangup_run(sock->data);
}

/* h2o closes what it watches, so it gets a descriptor of its own. */
static int watch(struct frontend *frontend, unsigned i, int fd, h2o_socket_cb callback)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return -1;
    frontend->watched[i] =
        h2o_evloop_socket_create(frontend->context.loop, own, H2O_SOCKET_FLAG_DONT_READ);
    frontend->watched[i]->data = frontend;
    h2o_socket_read_start(frontend->watched[i], callback);
    return 0;
}

static int open_listeners(struct frontend *frontend)
{
    struct frontend_shared *shared = frontend->shared;
    int *fds = shared->listeners + reactor_number(frontend->reactor) * shared->listeners_n;

    for (unsigned i = 0; i < shared->listeners_n; i++) {
        struct listener *listener = &frontend->listeners[i];
        int domain = 0;
        socklen_t size = sizeof(domain);
        if (listen(fds[i], SOMAXCONN) != 0) {
            fprintf(stderr, "atoll: cannot listen on %s: %s\n", shared->config->listen.items[i],
                    strerror(errno));
            return -1;
        }
        (void)getsockopt(fds[i], SOL_SOCKET, SO_DOMAIN, &domain, &size);
        *listener = (struct listener){.frontend = frontend, .local = domain == AF_UNIX};
        listener->tls = config_listen_is_tls(shared->config->listen.items[i]);
        listener->passed = config_listen_passed(shared->config->listen.items[i]) != NULL;
        listener->sock =
            h2o_evloop_socket_create(frontend->context.loop, fds[i], H2O_SOCKET_FLAG_DONT_READ);
        listener->sock->data = listener;
        h2o_socket_read_start(listener->sock, connections_on_accept);
        fds[i] = -1;
        frontend->listeners_n++;
    }
    return 0;
}

static void configure_h2o(struct frontend *frontend)
{
    const struct config *config = frontend->shared->config;
    h2o_globalconf_t *globalconf = &frontend->globalconf;

    h2o_config_init(globalconf);
    globalconf->server_name = h2o_iovec_init(H2O_STRLIT(""));
    globalconf->http1.upgrade_to_http2 = 0;
    globalconf->http1.req_timeout = NO_TIMEOUT_MS; /* connection.c has clocks of its own */
    globalconf->http2.idle_timeout = config->idle_timeout_ms;
    globalconf->max_request_entity_size = config->max_batch_bytes + BODY_SLACK_BYTES;
    /* Its name stands in for a Host that is missing: one that is never allowed. */
    h2o_hostconf_t *host =
        h2o_config_register_host(globalconf, h2o_iovec_init(H2O_STRLIT("*")), UINT16_MAX);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    struct handler *handler = (void *)h2o_create_handler(path, sizeof(*handler));
    handler->super.on_req = on_req;
    handler->frontend = frontend;
    struct problem_filter *filter =
        (void *)h2o_create_filter(&host->fallback_path, sizeof(*filter));
    filter->super.on_setup_ostream = on_setup_ostream;
    filter->handler = handler;
    h2o_context_init(&frontend->context, h2o_evloop_create(), globalconf);
    frontend->accept = (h2o_accept_ctx_t){.ctx = &frontend->context, .hosts = globalconf->hosts};
}

static void *frontend_start(void *ctx, struct reactor *reactor, struct mailbox *mailbox,
                            int wake_fd, int io_fd)
{
    struct frontend_shared *shared = ctx;
    const struct config *config = shared->config;
    struct frontend *frontend = mem_alloc(sizeof(*frontend));

    memset(frontend, 0, sizeof(*frontend));
    frontend->shared = shared;
    frontend->live = live_take(&shared->live);
    grants_init(&frontend->grants, shared->limits->hash_seed);
    feeds_init(&frontend->feeds);
    frontend->feeds.watchers_max = (uint32_t)config->max_session_watchers;
    outlets_init(&frontend->outlets);
    frontend->reactor = reactor;
    frontend->mailbox = mailbox;
    frontend->figures = &shared->figures[reactor_number(reactor)];
    atomic_store_explicit(&frontend->figures->cpu, reactor_cpu(reactor), memory_order_relaxed);
    connections_init(frontend);
    frontend->decoder =
        decoder_new(shared->limits, (uint32_t)config->max_batch_commands, config->max_batch_bytes);
    courier_make_key(reactor_cluster(reactor), &frontend->seal);
    decoder_seal_with(frontend->decoder, &frontend->seal);
    mcp_face_init(frontend);
    configure_h2o(frontend);
    if (hangup_open(frontend) < 0 || watch(frontend, 0, wake_fd, on_reactor_fd) != 0 ||
        watch(frontend, 1, io_fd, on_reactor_fd) != 0 ||
        watch(frontend, 2, frontend->hangups, on_hangup) != 0) {
        fprintf(stderr, "atoll: cannot watch a descriptor: %s\n", strerror(errno));
        return NULL;
    }
    return open_listeners(frontend) == 0 ? frontend : NULL;
}

/* ---- turning */

static void on_reply(void *ctx, struct request *request)
{
    struct frontend *frontend = ctx;

    if (request->kind == REQUEST_FOLLOW) {
        feeds_on_reply(frontend, request);
        return;
    }
    if (request->kind == REQUEST_CHANGES) {
        overviews_on_reply(frontend, request);
        return;
    }
    if (request->refs) {
        sockets_on_reply(frontend, request);
        return;
    }
    if (mcp_is_reply(request)) {
        mcp_take_reply(frontend, request);
        return;
    }
    struct exchange *exchange = slots_find(&frontend->exchanges, request->token);
    if (exchange == NULL || request->kind == REQUEST_CANCEL || request->kind == REQUEST_UNFOLLOW) {
        request_free(request);
        return;
    }
    guard_reply(exchange->grant, request);
    shares_on_reply(exchange, request);
    if (exchange->on_reply != NULL)
        exchange->on_reply(exchange, request);
    else if (request->kind == REQUEST_LIST)
        list_on_reply(exchange, request);
    else if (request->kind == REQUEST_STATUS)
        status_on_reply(exchange, request);
    else
        rest_on_reply(exchange, request);
}

static void on_frame(void *ctx, uint64_t feed, struct frame *frame)
{
    feeds_on_frame(ctx, feed, frame);
}

static void on_relay(void *ctx, unsigned from, struct str bytes)
{
    (void)from;
    mcp_on_relay(ctx, bytes);
}

static void on_notice(void *ctx, uint64_t feed, enum mailbox_notice notice)
{
    feeds_on_notice(ctx, feed, notice);
}

/*
 * Answers are written outside of h2o's loop, and what is to happen when one is out waits for the
 * loop's next turn. That would first ask epoll for all these sockets whether they can be written,
 * and find their next requests before they are ready for them: three system calls more for each.
 * So it happens now; h2o has this for its timers. What then is left to do needs no turn: h2o sees
 * to it before it polls.
 */
static void finish_writes(struct frontend *frontend)
{
    if (!frontend->touched)
        return;
    frontend->in_loop = true;
    h2o_timeout__do_post_callback(frontend->context.loop);
    frontend->in_loop = false;
    frontend->touched = false;
    connections_settle(frontend);
}

/* Streams are closed when their grant ends; those who wait get what there is. */
static void end_waits_without_grant(struct frontend *frontend)
{
    for (uint32_t i = 0; i < frontend->exchanges.n; i++) {
        struct exchange *exchange = slots_at(&frontend->exchanges, i);
        if (exchange != NULL && exchange->waiting && exchange->grant != NULL &&
            exchange->grant->ended)
            exchange_end_wait(exchange);
    }
    mcp_expire(frontend);
}

/* There are newer settings. */
static void frontend_adopt(struct frontend *frontend)
{
    struct live *old = frontend->live;

    frontend->live = live_take(&frontend->shared->live);
    for (struct connection *c = frontend->connections; c != NULL; c = c->next)
        c->host_n = 0; /* what was found good was so by the old ones */
    grants_adopt(frontend, old);
    end_waits_without_grant(frontend);
    live_release(old);
}

static int frontend_work(void *p)
{
    struct frontend *frontend = p;
    struct mailbox_handlers handlers = {
        .ctx = frontend,
        .on_reply = on_reply,
        .on_frame = on_frame,
        .on_notice = on_notice,
        .on_relay = on_relay,
    };
    int64_t now_ms = frontend_now_ms(frontend);

    frontend->clock_ns = 0;
    if (live_outdated(&frontend->shared->live, frontend->live))
        frontend_adopt(frontend);
    mailbox_drain(frontend->mailbox, &handlers, FRONTEND_DRAIN_MAX);
    finish_writes(frontend);
    timers_run(&frontend->timers, now_ms);
    bool unbegun = feeds_work(frontend);
    bool unfilled = outlets_work(frontend);
    bool all_sent = outbox_flush(&frontend->outbox, frontend->mailbox);
    if (unbegun || unfilled || mailbox_pending(frontend->mailbox))
        return 0;
    int wait_ms = timers_wait_ms(&frontend->timers, now_ms);
    if (!all_sent && (wait_ms < 0 || wait_ms > OUTBOX_RETRY_MS))
        wait_ms = OUTBOX_RETRY_MS;
    if (frontend->draining_ms != 0 && (wait_ms < 0 || wait_ms > DRAIN_LOOK_MS))
        wait_ms = DRAIN_LOOK_MS;
    return wait_ms;
}

static void run_loop(struct frontend *frontend, int32_t wait_ms)
{
    frontend->in_loop = true;
    frontend->clock_ns = 0;
    /* -1: interrupted by a signal, and what is pending has not had its turn. */
    if (h2o_evloop_run(frontend->context.loop, wait_ms) == 0)
        frontend->touched = false;
    frontend->in_loop = false;
    connections_settle(frontend);
}

static void frontend_poll(void *p, int max_wait_ms)
{
    struct frontend *frontend = p;
    /* A socket written to outside of the loop is noticed by its next turn: no sleep before that. */
    run_loop(frontend, frontend->touched ? 0 : max_wait_ms < 0 ? INT32_MAX : max_wait_ms);
}

/* ---- draining and stopping */

static void stop_accepting(struct frontend *frontend)
{
    timers_clear(&frontend->timers, &frontend->accept_pause);
    for (unsigned i = 0; i < frontend->listeners_n; i++) {
        /* Closing a socket resets what is in its backlog: take that first. One that was passed to
         * us is closed here alone. */
        while (!frontend->listeners[i].passed &&
               connections_accept(&frontend->listeners[i], CONNECTION_ACCEPT_MAX))
            ;
        timers_clear(&frontend->timers, &frontend->accept_pause);
        h2o_socket_close(frontend->listeners[i].sock);
    }
    frontend->listeners_n = 0;
    frontend->touched = true;
}

static void end_waits(struct frontend *frontend)
{
    for (uint32_t i = 0; i < frontend->exchanges.n; i++) {
        struct exchange *exchange = slots_at(&frontend->exchanges, i);
        if (exchange != NULL && exchange->waiting)
            exchange_end_wait(exchange);
    }
}

static bool frontend_drained(void *p)
{
    struct frontend *frontend = p;
    int64_t now_ms = frontend_now_ms(frontend);

    if (frontend->draining_ms == 0) {
        frontend->draining_ms = now_ms;
        /* h2o: no keep-alive for what comes now, and GOAWAY. */
        h2o_context_request_shutdown(&frontend->context);
        stop_accepting(frontend);
        outlets_drain(frontend);
    }
    if (now_ms >= frontend->drain_look_ms) {
        frontend->drain_look_ms = now_ms + DRAIN_LOOK_MS;
        end_waits(frontend);
        mcp_drain(frontend);
        connections_close_idle(frontend, now_ms);
    }
    return frontend->connections == NULL && frontend->outbox.first == NULL &&
           mailbox_outstanding(frontend->mailbox) == 0;
}

/* Whatever is still open after the grace period. */
static void cut_all(struct frontend *frontend)
{
    for (uint32_t i = 0; i < frontend->exchanges.n; i++) {
        struct exchange *exchange = slots_at(&frontend->exchanges, i);
        if (exchange != NULL)
            exchange_gone(exchange);
    }
    for (struct connection *c = frontend->connections; c != NULL; c = c->next)
        (void)shutdown(h2o_socket_get_fd(c->sock), SHUT_RDWR);
    for (unsigned i = 0; i < STOP_TURNS_MAX && frontend->connections != NULL; i++)
        run_loop(frontend, 1);
}

/* h2o keeps a few chunks for each thread and never gives them back. (The buffers of HTTP/2 are out
 * of reach: they go with the process.) */
static void free_h2o_spares(void)
{
    h2o_mem_recycle_t *buffers = &h2o_socket_buffer_prototype.allocator;
    while (buffers->cnt != 0)
        free(h2o_mem_alloc_recycle(buffers, 0));
    for (unsigned i = 0; i < H2O_SPARES; i++) {
        h2o_mem_pool_t pool;
        h2o_mem_init_pool(&pool);
        h2o_mem_alloc_pool(&pool, 1);
        free(pool.chunks);
    }
}

static void frontend_stop(void *p)
{
    struct frontend *frontend = p;
    h2o_loop_t *loop = frontend->context.loop;

    outbox_close(&frontend->outbox);
    stop_accepting(frontend);
    cut_all(frontend);
    for (unsigned i = 0; i < sizeof(frontend->watched) / sizeof(frontend->watched[0]); i++)
        h2o_socket_close(frontend->watched[i]);
    close(frontend->hangups);
    connections_free(frontend);
    if (frontend->connections != NULL)
        return; /* h2o still holds them; the process is about to end */
    run_loop(frontend, 0);
    h2o_timeout_unlink(&frontend->context.http2._graceful_shutdown_timeout);
    h2o_multithread_queue_t *queue = frontend->context.queue;
    h2o_context_dispose(&frontend->context);
    free(queue); /* closed by h2o, but not freed */
    h2o_evloop_destroy(loop);
    h2o_config_dispose(&frontend->globalconf);
    free_h2o_spares();
    mcp_face_free(frontend);
    feeds_free(&frontend->feeds);
    sockets_free(&frontend->sockets);
    overviews_free(&frontend->overviews);
    composed_free(&frontend->composed);
    slots_free(&frontend->exchanges);
    grants_free(frontend);
    timers_free(&frontend->timers);
    arena_free(&frontend->scratch);
    buf_free(&frontend->location);
    decoder_free(frontend->decoder);
    live_release(frontend->live);
    free(frontend);
}

/* ---- who is connected */

static void describe(void *p, struct buf *out)
{
    struct frontend *frontend = p;
    struct connected connected = {.out = out};

    for (uint32_t i = 0; i < frontend->exchanges.n; i++) {
        const struct exchange *exchange = slots_at(&frontend->exchanges, i);
        if (exchange != NULL && exchange->waiting)
            connected_add(&connected, exchange->session, exchange->agent, "inbox", true);
    }
    mcp_describe(frontend, &connected);
}

const struct reactor_frontend_ops frontend_ops = {
    .start = frontend_start,
    .work = frontend_work,
    .poll = frontend_poll,
    .drained = frontend_drained,
    .stop = frontend_stop,
    .describe = describe,
};
