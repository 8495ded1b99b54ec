#include "server/status.h"

#include "server/gather.h"
#include "server/health.h"
#include "server/openapi.h"

#include <stdio.h>

#ifndef ATOLL_VERSION
#error "the build file defines ATOLL_VERSION"
#endif

static void answer_text(struct exchange *exchange, enum answer_kind kind, struct str body)
{
    exchange_answer(exchange, &(struct answer){.status = 200, .kind = kind, .body = body});
}

void status_refuse_recovering(struct exchange *exchange)
{
    struct core_refusal why = {0};
    cluster_tell_recovery(reactor_cluster(exchange->frontend->reactor), why.detail,
                          sizeof(why.detail));
    exchange_refuse(exchange, REQUEST_E_UNAVAILABLE, &why);
}

/* Ready unless a component does not do its work: the answer says which, and why. */
static void answer_readiness(struct exchange *exchange)
{
    bool full = cluster_full(reactor_cluster(exchange->frontend->reactor));
    struct core_refusal why = {0};
    struct buf components = {0};

    snprintf(why.detail, sizeof(why.detail), "%s",
             full ? "The disk is full: sessions can be read, not changed."
                  : "A component of the server does not work.");

    buf_add_literal(&components, "{\"components\":");
    unsigned n = health_add_json(exchange->frontend, HEALTH_FAILING, &components);
    buf_add_byte(&components, '}');
    if (n == 0 && !full)
        answer_text(exchange, ANSWER_JSON, STR("{\"ready\":true}"));
    else
        exchange_refuse_with(exchange, REQUEST_E_UNAVAILABLE, &why, buf_str(&components));
    buf_free(&components);
}

static void serve_ready(struct exchange *exchange)
{
    struct reactor *reactor = exchange->frontend->reactor;
    const char *failed = cluster_failed(reactor_cluster(reactor));
    struct core_refusal why = {0};

    if (failed != NULL) {
        buf_add(&exchange->text, failed, strnlen(failed, sizeof(why.detail) - 1));
        memcpy(why.detail, exchange->text.p, exchange->text.n);
        exchange_refuse(exchange, REQUEST_E_UNAVAILABLE, &why);
    } else if (reactor_stopping(reactor) || atomic_load(&exchange->frontend->shared->leaving)) {
        exchange_refuse_text(exchange, REQUEST_E_UNAVAILABLE, NULL, "The server is about to stop.");
    } else if (!reactor_ready(reactor)) {
        status_refuse_recovering(exchange);
    } else {
        answer_readiness(exchange);
    }
}

static struct request *ask(void *ctx)
{
    struct request *request = request_new();
    (void)ctx;
    request->kind = REQUEST_STATUS;
    return request;
}

void status_serve(struct exchange *exchange)
{
    switch (exchange->match.route) {
    case ROUTE_HEALTH:
        answer_text(exchange, ANSWER_JSON, STR("{\"alive\":true}"));
        break;
    case ROUTE_READY:
        serve_ready(exchange);
        break;
    case ROUTE_OPENAPI:
        answer_text(exchange, ANSWER_YAML, (struct str){web_openapi_yaml, web_openapi_yaml_size});
        break;
    default:
        gather_begin(exchange, ask, NULL);
        break;
    }
}

/* ---- /v1/status */

static void add_text(struct buf *out, const char *text)
{
    buf_add(out, text, strlen(text));
}

static void add_figure(struct buf *out, const char *name, uint64_t value)
{
    buf_add_literal(out, ",\"");
    add_text(out, name);
    buf_add_literal(out, "\":");
    buf_add_u64(out, value);
}

static void add_answers(struct buf *out, const struct frontend_figures *figures)
{
    static const char *const names[] = {NULL, "1xx", "2xx", "3xx", "4xx", "5xx"};
    buf_add_literal(out, ",\"answers\":{");
    for (unsigned i = 2; i <= 5; i++) {
        buf_add_literal(out, "\"");
        add_text(out, names[i]);
        buf_add_literal(out, "\":");
        buf_add_u64(out, figure_read(&figures->answers[i]));
        if (i < 5)
            buf_add_byte(out, ',');
    }
    buf_add_byte(out, '}');
}

/* Turns by how long they took: "le_16" counts those of at most 16 microseconds, "le_32" the longer
 * ones of at most 32, … */
static void add_turns(struct buf *out, const struct reactor_figures *reactor)
{
    enum { LAST = REACTOR_TURN_BUCKETS - 1 };
    buf_add_literal(out, ",\"turn_us\":{");
    for (unsigned i = 0; i <= LAST; i++) {
        buf_add_str(out, i == 0 ? STR("\"le_") : i < LAST ? STR(",\"le_") : STR(",\"over_"));
        buf_add_u64(out, (uint64_t)REACTOR_TURN_LEAST_US << (i < LAST ? i : LAST - 1));
        buf_add_literal(out, "\":");
        buf_add_u64(out, reactor->turn_us[i]);
    }
    buf_add_byte(out, '}');
    add_figure(out, "turn_longest_us", reactor->turn_longest_us);
}

static void add_reactor(struct buf *out, const struct cluster *cluster,
                        const struct frontend_figures *figures, unsigned number)
{
    struct reactor_figures reactor = cluster_reactor_figures(cluster, number);
    int cpu = atomic_load_explicit(&figures->cpu, memory_order_relaxed);

    buf_add_literal(out, "{\"id\":");
    buf_add_u64(out, number);
    buf_add_literal(out, ",\"cpu\":");
    if (cpu >= 0)
        buf_add_u64(out, (uint64_t)cpu);
    else
        buf_add_literal(out, "null");
    add_figure(out, "turns", reactor.turns);
    add_figure(out, "sleeps", reactor.sleeps);
    add_figure(out, "wakeups", reactor.wakeups);
    add_turns(out, &reactor);
    add_figure(out, "connections", figure_read(&figures->connections));
    add_figure(out, "connections_accepted", figure_read(&figures->accepted));
    add_figure(out, "connections_refused", figure_read(&figures->refused));
    add_figure(out, "streams", figure_read(&figures->streams));
    add_figure(out, "sockets", figure_read(&figures->sockets));
    add_figure(out, "streams_merged", figure_read(&figures->streams_merged));
    add_figure(out, "streams_reset", figure_read(&figures->streams_reset));
    add_figure(out, "streams_cut", figure_read(&figures->streams_cut));
    add_figure(out, "waiting", figure_read(&figures->waiting));
    add_figure(out, "mcp_streams", figure_read(&figures->mcp_streams));
    add_figure(out, "requests", figure_read(&figures->requests));
    add_answers(out, figures);
    buf_add_byte(out, '}');
}

static void add_seconds(struct buf *out, int64_t ms)
{
    char decimals[3] = {(char)('0' + ms / 100 % 10), (char)('0' + ms / 10 % 10),
                        (char)('0' + ms % 10)};
    buf_add_u64(out, (uint64_t)ms / 1000);
    buf_add_byte(out, '.');
    buf_add(out, decimals, sizeof(decimals));
}

/* The shard's own object, with how many streams all frontends have open on its sessions. */
static void add_shard(struct buf *out, const struct frontend_shared *shared, unsigned shard,
                      struct str object)
{
    uint64_t watching = 0;
    for (unsigned i = 0; i < shared->frontends; i++)
        watching += figure_read(&shared->figures[i].watching[shard]);
    assert(object.n > 2 && object.p[object.n - 1] == '}');
    buf_add(out, object.p, object.n - 1);
    add_figure(out, "watching", watching);
    buf_add_byte(out, '}');
}

static void add_connected(struct buf *out, const struct gather *gather)
{
    const char *comma = "";
    buf_add_literal(out, "],\"connected\":[");
    for (unsigned i = 0; i < gather->expected; i++) {
        struct str told = gather->replies[i]->connected;
        if (told.n == 0)
            continue;
        buf_add(out, comma, strlen(comma));
        buf_add_str(out, told);
        comma = ",";
    }
    buf_add_byte(out, ']');
}

/* As --io has it. */
static const char *io_name(const struct cluster *cluster)
{
    const char *name = cluster_io_name(cluster);
    return strcmp(name, "io_uring") == 0 ? "uring" : name;
}

void status_on_reply(struct exchange *exchange, struct request *request)
{
    struct frontend *frontend = exchange->frontend;
    const struct frontend_shared *shared = frontend->shared;
    struct buf *out = &exchange->text;

    if (!gather_take(exchange, request))
        return;
    buf_add_literal(out, "{\"version\":\"" ATOLL_VERSION "\",\"uptime_s\":");
    add_seconds(out, frontend_now_ms(frontend) - shared->started_ms);
    buf_add_literal(out, ",\"durability\":\"");
    add_text(out, shared->config->durability == CONFIG_DURABILITY_COMMIT ? "commit" : "relaxed");
    buf_add_literal(out, "\",\"io\":\"");
    add_text(out, io_name(reactor_cluster(frontend->reactor)));
    buf_add_literal(out, "\",\"reactors\":[");
    for (unsigned i = 0; i < shared->frontends; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        add_reactor(out, reactor_cluster(frontend->reactor), &shared->figures[i], i);
    }
    buf_add_literal(out, "],\"shards\":[");
    for (unsigned i = 0; i < exchange->gather->expected; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        add_shard(out, shared, i, buf_str(&exchange->gather->replies[i]->body));
    }
    add_connected(out, exchange->gather);
    buf_add_literal(out, ",\"health\":");
    health_add_json(frontend, HEALTH_HEALTHY, out);
    buf_add_literal(out, "}");
    answer_text(exchange, ANSWER_JSON, buf_str(out));
}
