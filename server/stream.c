#include "server/stream.h"

#include "server/auth/guard.h"
#include "server/call.h"
#include "server/gzip.h"
#include "server/outlet.h"
#include "server/problem.h"

#include <stdlib.h>
#include <sys/random.h>

struct stream {
    struct watcher watcher;
    struct exchange *exchange; /* until its connection is taken over */
    struct outlet *outlet;     /* from then on */
    bool gzip;
    bool quiet; /* a comment is to be said */
    bool draining;
};

/* ---- what event streams have in common */

struct chunk *stream_comment(void)
{
    return chunk_of(STR(":\n\n"));
}

struct chunk *stream_retry(void)
{
    struct buf text = {0};
    uint32_t random = 0;
    uint32_t span = STREAM_COME_BACK_MAX_MS - STREAM_COME_BACK_MIN_MS + 1;

    (void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
    buf_add_literal(&text, "retry: ");
    buf_add_u64(&text, STREAM_COME_BACK_MIN_MS + random % span);
    buf_add_literal(&text, "\n\n");
    struct chunk *chunk = chunk_of(buf_str(&text));
    buf_free(&text);
    return chunk;
}

/* clang-format off */
#define TOKEN(name) &H2O_TOKEN_##name->buf
#define VALUE(text) {(char *)(text), sizeof(text) - 1}
/* clang-format on */

/* h2o says "Connection: upgrade" of whatever leaves it; that the end of the connection is the end
 * of the body has to be said beside it. */
void stream_set_head(struct exchange *exchange, bool gzip)
{
    static h2o_iovec_t nosniff = VALUE("x-content-type-options");
    static h2o_iovec_t buffering = VALUE("x-accel-buffering");
    const h2o_header_t headers[] = {
        {TOKEN(CONTENT_TYPE), NULL, VALUE("text/event-stream")},
        {TOKEN(CACHE_CONTROL), NULL, VALUE("private, no-store")},
        {&nosniff, NULL, VALUE("nosniff")},
        {&buffering, NULL, VALUE("no")},
        {TOKEN(CONNECTION), NULL, VALUE("close")},
        {TOKEN(VARY), NULL, VALUE("accept-encoding")},
        {TOKEN(CONTENT_ENCODING), NULL, VALUE("gzip")}, /* the last: if so */
    };
    size_t n = sizeof(headers) / sizeof(headers[0]);
    exchange_set_head(exchange, 200, "OK", headers, gzip ? n : n - 1);
}

static void push(struct outlet *outlet, struct chunk *chunk)
{
    outlet_push(outlet, chunk, chunk_text(chunk));
}

/* ---- the outlet's side */

static struct frontend *frontend_of(const struct stream *stream)
{
    return stream->watcher.frontend;
}

static void stream_free(struct stream *stream)
{
    watcher_close(&stream->watcher);
    free(stream);
}

static void count_stream(const struct stream *stream, int n)
{
    struct frontend_figures *figures = frontend_of(stream)->figures;
    figure_add(&figures->streams, n);
    figure_add(&figures->watching[stream->watcher.shard], n);
}

static void on_opened(void *owner, struct outlet *outlet)
{
    struct stream *stream = owner;
    if (outlet == NULL) {
        stream_free(stream);
        return;
    }
    stream->outlet = outlet;
    if (stream->gzip)
        outlet_gzip(outlet);
    count_stream(stream, 1);
}

static void on_fill(void *owner)
{
    struct stream *stream = owner;
    struct outlet *outlet = stream->outlet;

    if (stream->draining) {
        push(outlet, stream_retry());
        outlet_end(outlet);
        return;
    }
    watcher_fill(&stream->watcher, outlet);
    if (stream->quiet && outlet->pieces_n == 0)
        push(outlet, stream_comment());
    stream->quiet = false;
    if (watcher_ended(&stream->watcher))
        outlet_end(outlet);
}

static void on_quiet(void *owner)
{
    struct stream *stream = owner;
    stream->quiet = true;
    outlet_wake(stream->outlet);
}

static void on_drain(void *owner)
{
    struct stream *stream = owner;
    stream->draining = true;
    outlet_wake(stream->outlet);
}

static void on_closed(void *owner, enum outlet_end why)
{
    struct stream *stream = owner;
    (void)why;
    count_stream(stream, -1);
    stream_free(stream);
}

static const struct outlet_ops outlet_ops = {
    .opened = on_opened,
    .fill = on_fill,
    .quiet = on_quiet,
    .drain = on_drain,
    .closed = on_closed,
};

/* ---- the watcher's side */

static void on_ready(struct watcher *watcher)
{
    struct stream *stream = watcher->owner;
    if (stream->outlet != NULL)
        outlet_wake(stream->outlet);
}

static bool accepts_gzip(const h2o_req_t *req)
{
    ssize_t at = h2o_find_header(&req->headers, H2O_TOKEN_ACCEPT_ENCODING, -1);
    if (at < 0)
        return false;
    h2o_iovec_t value = req->headers.entries[at].value;
    return access_accepts((struct str){value.base, value.len}, STR("gzip"));
}

static void on_begun(struct watcher *watcher)
{
    struct stream *stream = watcher->owner;
    struct exchange *exchange = stream->exchange;

    if (frontend_of(stream)->draining_ms != 0) {
        exchange_refuse_text(exchange, REQUEST_E_UNAVAILABLE, NULL, "The server is about to stop.");
        return;
    }
    stream->exchange = NULL;
    stream->gzip = watcher->pending != NULL && watcher->pending->n >= GZIP_MIN_BYTES &&
                   accepts_gzip(exchange->req);
    stream_set_head(exchange, stream->gzip);
    outlet_take(exchange, &outlet_ops, stream);
}

static void on_refused(struct watcher *watcher, unsigned error, const struct core_refusal *why)
{
    struct stream *stream = watcher->owner;
    if (stream->exchange != NULL)
        exchange_refuse(stream->exchange, error, why);
    else if (stream->outlet != NULL)
        outlet_end(stream->outlet); /* the client hears why when it comes back */
    else
        stream->draining = true;
}

static const struct watcher_ops watcher_ops = {
    .ready = on_ready,
    .begun = on_begun,
    .refused = on_refused,
};

/* ---- opening */

/* The exchange goes, and the stream has not taken its connection. */
static void on_exchange_gone(void *face)
{
    stream_free(face);
}

static bool check_parameters(struct exchange *exchange, const struct call *call)
{
    static const struct {
        enum query_parameter parameter;
        const char *name;
    } of_pages[] = {
        {QUERY_BEFORE, "before"}, {QUERY_LIMIT, "limit"}, {QUERY_CURSOR, "cursor"},
        {QUERY_ORDER, "order"},   {QUERY_AGENT, "agent"}, {QUERY_THREAD, "thread"},
        {QUERY_SINCE, "since"},   {QUERY_UNTIL, "until"},
    };
    for (size_t i = 0; i < sizeof(of_pages) / sizeof(of_pages[0]); i++) {
        if (!query_has(&call->query, of_pages[i].parameter))
            continue;
        exchange_refuse_text(exchange, CORE_E_MALFORMED, of_pages[i].name,
                             "This belongs to pages; a stream takes after and type.");
        return false;
    }
    return true;
}

void stream_open(struct exchange *exchange, const struct call *call)
{
    bool events = exchange->match.route == ROUTE_EVENTS;

    if (!check_parameters(exchange, call))
        return;
    struct watcher_wish wish = {
        .session = exchange->match.session,
        .form = events                             ? WANTS_EVENTS
                : call->query.view == VIEW_COMPACT ? WANTS_COMPACT
                                                   : WANTS_PATCHES,
        .framing = FRAMING_SSE,
        .types = call->query.types,
        .parts = call->query.parts,
        .redaction = guard_redaction(exchange->grant),
        .last_event_id = call->headers.last_event_id.n != 0 ? call->headers.last_event_id
                                                            : call->query.last_event_id,
        .after = call->query.after,
        .has_after = query_has(&call->query, QUERY_AFTER),
    };
    struct stream *stream = mem_alloc(sizeof(*stream));
    *stream = (struct stream){.exchange = exchange};
    if (!watcher_open(&stream->watcher, exchange->frontend, &wish, &watcher_ops, stream)) {
        free(stream);
        exchange_refuse_text(exchange, REQUEST_E_OVERLOADED, NULL,
                             "Too many requests are on their way; try again.");
        return;
    }
    exchange->face = stream;
    exchange->on_gone = on_exchange_gone;
    exchange_watch(exchange);
}
