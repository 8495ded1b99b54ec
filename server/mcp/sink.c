#include "server/mcp/sink.h"
#include "server/auth/guard.h"

#include "server/frontend.h"
#include "server/mcp/internal.h"
#include "server/mcp/older.h"
#include "server/stream.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* ---- hooks */

static void run_hooks(struct mcp_sink *sink, bool written)
{
    struct sink_hook *hook = sink->hooks;
    sink->hooks = NULL;
    while (hook != NULL) {
        struct sink_hook *next = hook->next;
        hook->on_written(sink->frontend, hook->data, written);
        free(hook);
        hook = next;
    }
}

/*
 * Whether what our kernel has taken went to a live connection. Open, or closed by a client whose
 * kernel has taken all of it: it did. What is still with ours, or met an error, did not.
 */
static bool is_taken(h2o_socket_t *sock)
{
    int fd = h2o_socket_get_fd(sock), unsent = 0;
    char byte;

    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n != 0)
        return n > 0 || errno == EAGAIN;
    return ioctl(fd, SIOCOUTQ, &unsent) == 0 && unsent == 0;
}

/* The same of an answer that h2o is done with. */
static bool was_written(const struct exchange *exchange)
{
    const h2o_req_t *req = exchange->req;
    /* Of HTTP/2 the client may have given up what h2o still holds. */
    if (exchange_is_http2(exchange) && req->bytes_sent < req->res.content_length)
        return false;
    return exchange->answered && exchange->rest.n == 0 && is_taken(exchange->connection->sock);
}

/* ---- from birth to death */

static void sink_free(struct mcp_sink *sink)
{
    assert(sink->calls == NULL && sink->exchange == NULL && sink->outlet == NULL);
    run_hooks(sink, false);
    if (sink->notes != NULL)
        mcp_notes_free(sink->notes);
    if (sink->older != NULL)
        mcp_older_free(sink);
    for (struct chunk *chunk = sink->first, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        chunk_release(chunk);
    }
    if (sink->previous != NULL)
        sink->previous->next = sink->next;
    else
        sink->frontend->mcp.sinks = sink->next;
    if (sink->next != NULL)
        sink->next->previous = sink->previous;
    buf_free(&sink->results);
    free(sink->id_prefix);
    grant_release(sink->grant);
    free(sink);
}

/* A client that goes takes along what is worth something to it alone. Before 2026-07-28 that is
 * what it can come back for. */
static bool goes_along(const struct mcp_sink *sink, const struct mcp_call *call)
{
    return mcp_is_modern(sink->version) || call->resumable || call->wait != NULL;
}

static void on_client_gone(struct mcp_sink *sink)
{
    sink->gone = true;
    sink->expected++; /* it stays until all calls have been looked at */
    for (struct mcp_call *call = sink->calls, *next; call != NULL; call = next) {
        next = call->next;
        if (goes_along(sink, call))
            mcp_call_drop(call);
    }
    sink->expected--;
    sink_left(sink);
}

static void on_exchange_gone(void *face)
{
    struct mcp_sink *sink = face;

    if (sink->hooks != NULL)
        run_hooks(sink, was_written(sink->exchange));
    sink->exchange = NULL;
    on_client_gone(sink);
}

struct mcp_sink *sink_new(struct exchange *exchange, enum sink_kind kind, enum mcp_version version)
{
    struct mcp_face *face = &exchange->frontend->mcp;
    struct mcp_sink *sink = mem_alloc(sizeof(*sink));

    *sink = (struct mcp_sink){.frontend = exchange->frontend,
                              .grant = grant_hold(exchange->grant),
                              .exchange = exchange,
                              .kind = kind,
                              .version = version,
                              .next = face->sinks};
    if (sink->next != NULL)
        sink->next->previous = sink;
    face->sinks = sink;
    exchange->face = sink;
    exchange->on_gone = on_exchange_gone;
    return sink;
}

/* ---- the event stream */

static void count_stream(const struct mcp_sink *sink, int n)
{
    figure_add(&sink->frontend->figures->mcp_streams, n);
}

static void on_opened(void *owner, struct outlet *outlet)
{
    struct mcp_sink *sink = owner;
    if (outlet == NULL) {
        sink->gone = true;
        on_client_gone(sink);
        return;
    }
    sink->outlet = outlet;
    count_stream(sink, 1);
    outlet_wake(outlet);
}

static void push_queued(struct mcp_sink *sink)
{
    while (sink->first != NULL && !outlet_full(sink->outlet)) {
        struct chunk *chunk = sink->first;
        sink->first = chunk->next;
        if (sink->first == NULL)
            sink->last = NULL;
        sink->queued -= chunk->n;
        outlet_push(sink->outlet, chunk, chunk_text(chunk));
    }
}

static void push_end(struct mcp_sink *sink)
{
    if (sink->retry_ms != 0) {
        struct buf text = {0};
        buf_add_literal(&text, "retry: ");
        buf_add_u64(&text, sink->retry_ms);
        buf_add_literal(&text, "\n\n");
        struct chunk *chunk = chunk_of(buf_str(&text));
        outlet_push(sink->outlet, chunk, chunk_text(chunk));
        buf_free(&text);
    }
    outlet_end(sink->outlet);
}

static void on_fill(void *owner)
{
    struct mcp_sink *sink = owner;

    if (sink->cut.place != 0)
        return; /* what was dropped must not pass for written */
    /* What was pushed before this has been taken by the socket. */
    if (sink->first == NULL && sink->hooks != NULL)
        run_hooks(sink, is_taken(sink->outlet->connection->sock));
    push_queued(sink);
    if (sink->notes != NULL && sink->first == NULL)
        mcp_notes_fill(sink->notes);
    if (sink->quiet && sink->outlet->pieces_n == 0) {
        struct chunk *comment = stream_comment();
        outlet_push(sink->outlet, comment, chunk_text(comment));
    }
    sink->quiet = false;
    if (sink->ending && sink->first == NULL && sink->hooks == NULL)
        push_end(sink);
}

static void on_quiet(void *owner)
{
    struct mcp_sink *sink = owner;
    sink->quiet = true;
    outlet_wake(sink->outlet);
}

/* Calls that run on find nobody to answer. */
static void on_expired(void *owner)
{
    outlet_end(((struct mcp_sink *)owner)->outlet);
}

static void on_drain(void *owner)
{
    struct mcp_sink *sink = owner;
    mcp_sink_drain(sink);
}

static void on_closed(void *owner, enum outlet_end why)
{
    struct mcp_sink *sink = owner;
    bool all_said = sink->ending && sink->first == NULL;

    timers_clear(&sink->frontend->timers, &sink->cut);
    run_hooks(sink, why == OUTLET_ENDED && all_said);
    count_stream(sink, -1);
    sink->outlet = NULL;
    on_client_gone(sink);
}

static const struct outlet_ops outlet_ops = {
    .opened = on_opened,
    .fill = on_fill,
    .quiet = on_quiet,
    .drain = on_drain,
    .expired = on_expired,
    .closed = on_closed,
};

/* 2025-11-25: an event without data, by whose id the client can come back before there is more. */
static void prime(struct mcp_sink *sink)
{
    if (sink->id_prefix == NULL || sink->version != MCP_2025_11_25)
        return;
    sink_say(sink, (struct str){"", 0});
}

/* What a batch has answered before it became a stream. */
static void say_results(struct mcp_sink *sink)
{
    struct buf text = {0};
    if (sink->results.n == 0)
        return;
    buf_add_byte(&text, '[');
    buf_add_str(&text, buf_str(&sink->results));
    buf_add_byte(&text, ']');
    buf_free(&sink->results);
    sink_say(sink, buf_str(&text));
    buf_free(&text);
}

void sink_stream(struct mcp_sink *sink)
{
    struct exchange *exchange = sink->exchange;
    if (sink->streaming || sink->gone || !sink->takes_events)
        return;
    assert(!exchange->answered);
    if (sink->id_prefix == NULL && sink->calls != NULL)
        mcp_set_event_ids(sink->calls, MCP_EVENT_LOST, sink->calls->id);
    sink->streaming = true;
    sink->exchange = NULL;
    stream_set_head(exchange, false);
    prime(sink);
    say_results(sink);
    outlet_take(exchange, &outlet_ops, sink);
}

static void on_cut(struct timer *timer)
{
    struct mcp_sink *sink = (struct mcp_sink *)((char *)timer - offsetof(struct mcp_sink, cut));
    figure_add(&sink->frontend->figures->streams_cut, 1);
    outlet_cut(sink->outlet);
}

void sink_push(struct mcp_sink *sink, struct chunk *chunk)
{
    if (sink->gone || sink->cut.place != 0) {
        chunk_release(chunk);
        return;
    }
    chunk->next = NULL;
    if (sink->last != NULL)
        sink->last->next = chunk;
    else
        sink->first = chunk;
    sink->last = chunk;
    bool too_much = sink->outlet != NULL && sink->queued > SINK_QUEUE_BYTES;
    sink->queued += chunk->n;
    if (too_much) {
        sink->cut.fire = on_cut;
        timers_set(&sink->frontend->timers, &sink->cut, frontend_now_ms(sink->frontend));
    } else if (sink->outlet != NULL) {
        outlet_wake(sink->outlet);
    }
}

void sink_say(struct mcp_sink *sink, struct str message)
{
    struct buf text = {0};

    sink_stream(sink);
    if (!sink->streaming || sink->gone)
        return; /* a client that takes JSON alone gets the answer alone */
    assert(message.n == 0 || memchr(message.p, '\n', message.n) == NULL);
    if (sink->kind == SINK_OLDER)
        buf_add_literal(&text, "event: message\n");
    if (sink->id_prefix != NULL) {
        buf_add_literal(&text, "id: ");
        buf_add(&text, sink->id_prefix, strlen(sink->id_prefix));
        buf_add_byte(&text, '.');
        buf_add_u64(&text, ++sink->events);
        buf_add_byte(&text, '\n');
    }
    buf_add_literal(&text, "data: ");
    buf_add_str(&text, message);
    buf_add_literal(&text, "\n\n");
    sink_push(sink, chunk_of(buf_str(&text)));
    buf_free(&text);
}

void sink_end(struct mcp_sink *sink, uint32_t retry_ms)
{
    sink_stream(sink); /* what has not begun begins, to say this */
    sink->ending = true;
    sink->retry_ms = retry_ms;
    if (sink->outlet != NULL)
        outlet_wake(sink->outlet);
}

/* ---- answers */

/* Takes the text over. */
static void answer_json(struct mcp_sink *sink, int status, struct buf *body)
{
    struct exchange *exchange = sink->exchange;

    buf_free(&exchange->text);
    exchange->text = *body;
    *body = (struct buf){0};
    exchange_answer(
        exchange,
        &(struct answer){.status = status, .kind = ANSWER_JSON, .body = buf_str(&exchange->text)});
}

static void accept_only(struct mcp_sink *sink)
{
    exchange_answer(sink->exchange, &(struct answer){.status = 202, .kind = ANSWER_JSON});
}

static void answer_batch(struct mcp_sink *sink)
{
    struct buf text = {0};

    buf_add_byte(&text, '[');
    buf_add_str(&text, buf_str(&sink->results));
    buf_add_byte(&text, ']');
    answer_json(sink, 200, &text);
}

void sink_add(struct mcp_sink *sink, struct str message)
{
    if (sink->streaming) {
        sink_say(sink, message);
        return;
    }
    if (sink->results.n != 0)
        buf_add_byte(&sink->results, ',');
    buf_add_str(&sink->results, message);
}

void sink_answer(struct mcp_sink *sink, struct mcp_call *call, int status, struct buf *message)
{
    if (sink->at_once)
        sink_stream(sink);
    if (sink->streaming || (!sink->gone && sink->batch))
        sink_add(sink, buf_str(message));
    else if (!sink->gone)
        answer_json(sink, status, message);
    buf_free(message);
    mcp_call_drop(call);
}

void sink_left(struct mcp_sink *sink)
{
    if (sink->calls != NULL || sink->expected != 0)
        return;
    if (sink->gone)
        sink_free(sink);
    else if (sink->streaming && sink->kind == SINK_POST)
        sink_end(sink, sink->retry_ms);
    else if (sink->streaming || sink->exchange->answered)
        return;
    else if (sink->results.n != 0)
        answer_batch(sink);
    else
        accept_only(sink); /* all of it was cancelled, or wants no answer */
}

void sinks_drain(struct frontend *frontend)
{
    for (struct mcp_sink *sink = frontend->mcp.sinks, *next; sink != NULL; sink = next) {
        next = sink->next;
        for (struct mcp_call *call = sink->calls; call != NULL; call = call->next) {
            if (call->wait != NULL)
                mcp_wait_hurry(call);
            if (call->asking != NULL)
                mcp_asking_hurry(call);
        }
    }
}

void sinks_free(struct frontend *frontend)
{
    for (struct mcp_sink *sink = frontend->mcp.sinks, *next; sink != NULL; sink = next) {
        next = sink->next;
        if (!sink->gone)
            continue; /* h2o still holds its connection */
        sink->expected++;
        while (sink->calls != NULL)
            mcp_call_drop(sink->calls);
        sink->expected--;
        sink_left(sink);
    }
}
