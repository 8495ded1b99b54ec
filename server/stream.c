#include "server/stream.h"

#include "server/call.h"
#include "server/problem.h"
#include "server/stream_queue.h"

#include <stdlib.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FEED_BUCKETS_MIN = 64 };

/* A session that connections of this reactor watch. */
struct feed_entry {
    struct feed_entry *next; /* in its bucket */
    uint64_t hash;
    uint64_t token;
    unsigned wants;  /* of all its watchers, together */
    unsigned asking; /* REQUEST_FOLLOWs at the shard */
    bool ended;      /* the session was deleted: no longer findable, no frames come */
    uint64_t last_seq;
    struct watcher *watchers;
    uint8_t id_n;
    char id[CORE_ID_BYTES];
};

enum watcher_state { OPENING, LIVE, CATCHING, BEHIND, ENDING };

struct watcher {
    struct exchange *exchange;
    struct feed_entry *feed;
    struct watcher *previous, *next;           /* in its feed */
    struct watcher *previous_open, *next_open; /* in the frontend */
    enum watcher_state state;
    unsigned form;  /* WANTS_PATCHES or WANTS_EVENTS */
    uint32_t types; /* events: bits 1 << core_type; 0: all */
    uint16_t shard;
    bool begun;      /* the answer has begun */
    bool finished;   /* its last byte was handed over */
    bool positioned; /* the client said where it stood */
    bool held_lost;  /* frames were not held: they have to be asked for */
    uint64_t until;  /* of the REQUEST_FOLLOW at the shard; 0: it attaches */
    uint64_t told;   /* newest seq that is queued or was said */
    uint64_t handed; /* newest seq that was handed to h2o */
    uint64_t target; /* above `told`: what lies between is to be asked for, the rest is held */
    struct stream_queue queue, held;
    uint32_t in_flight; /* first entries of the queue, h2o is sending them */
    size_t in_flight_bytes;
    int64_t sent_ms; /* when they were handed over */
    struct timer retry;
    uint8_t epoch_n;
    char epoch[CORE_EPOCH_BYTES];
};

static void pump(struct watcher *watcher);

static struct frontend *frontend_of(const struct watcher *watcher)
{
    return watcher->exchange->frontend;
}

static struct str epoch_of(const struct watcher *watcher)
{
    return (struct str){watcher->epoch, watcher->epoch_n};
}

static struct str feed_id(const struct feed_entry *feed)
{
    return (struct str){feed->id, feed->id_n};
}

/* ---- feeds */

static uint64_t feed_hash(const struct frontend *frontend, struct str id)
{
    return XXH3_64bits_withSeed(id.p, id.n, frontend->shared->limits->hash_seed);
}

static void feeds_grow(struct streams *streams)
{
    uint32_t n = streams->buckets_n == 0 ? FEED_BUCKETS_MIN : streams->buckets_n * 2;
    struct feed_entry **buckets = mem_alloc(n * sizeof(struct feed_entry *));

    memset(buckets, 0, n * sizeof(struct feed_entry *));
    for (uint32_t i = 0; i < streams->buckets_n; i++) {
        for (struct feed_entry *feed = streams->buckets[i], *next; feed != NULL; feed = next) {
            next = feed->next;
            feed->next = buckets[feed->hash & (n - 1)];
            buckets[feed->hash & (n - 1)] = feed;
        }
    }
    free(streams->buckets);
    streams->buckets = buckets;
    streams->buckets_n = n;
}

static struct feed_entry *feed_find_or_make(struct frontend *frontend, struct str id)
{
    struct streams *streams = &frontend->streams;
    uint64_t hash = feed_hash(frontend, id);

    if (streams->feeds_n >= streams->buckets_n)
        feeds_grow(streams);
    struct feed_entry **bucket = &streams->buckets[hash & (streams->buckets_n - 1)];
    for (struct feed_entry *feed = *bucket; feed != NULL; feed = feed->next)
        if (feed->hash == hash && str_equal(feed_id(feed), id))
            return feed;
    struct feed_entry *feed = mem_alloc(sizeof(*feed));
    *feed = (struct feed_entry){.next = *bucket, .hash = hash, .id_n = (uint8_t)id.n};
    memcpy(feed->id, id.p, id.n);
    feed->token = slots_add(&streams->tokens, feed);
    *bucket = feed;
    streams->feeds_n++;
    return feed;
}

/* Takes it out of its bucket, so that nobody finds it any more. */
static void feed_unlink(struct streams *streams, struct feed_entry *feed)
{
    struct feed_entry **at = &streams->buckets[feed->hash & (streams->buckets_n - 1)];
    while (*at != feed)
        at = &(*at)->next;
    *at = feed->next;
    streams->feeds_n--;
}

/* Frees a feed that nobody watches and nothing is asked for; the shard is told. */
static void feed_drop_if_idle(struct frontend *frontend, struct feed_entry *feed)
{
    if (feed->watchers != NULL || feed->asking != 0)
        return;
    if (!feed->ended) {
        struct request *request = request_new();
        request->kind = REQUEST_UNFOLLOW;
        request->session = arena_copy(&request->arena, feed_id(feed));
        request->feed = feed->token;
        outbox_send(&frontend->outbox, frontend->mailbox, request);
        feed_unlink(&frontend->streams, feed);
    }
    slots_remove(&frontend->streams.tokens, feed->token);
    free(feed);
}

void streams_free(struct streams *streams)
{
    for (uint32_t i = 0; i < streams->tokens.n; i++)
        free(slots_at(&streams->tokens, i));
    free(streams->buckets);
    slots_free(&streams->tokens);
    *streams = (struct streams){0};
}

/* ---- asking the shard */

static struct request *follow_request(const struct watcher *watcher)
{
    struct request *request = request_new();
    request->kind = REQUEST_FOLLOW;
    request->session = arena_copy(&request->arena, feed_id(watcher->feed));
    request->feed = watcher->feed->token;
    request->wants = watcher->feed->wants;
    request->token = watcher->exchange->token;
    return request;
}

static bool ask(struct watcher *watcher, struct request *request)
{
    if (mailbox_send(frontend_of(watcher)->mailbox, request) != 0) {
        request_free(request);
        return false;
    }
    watcher->feed->asking++;
    return true;
}

static void retry_later(struct watcher *watcher)
{
    struct frontend *frontend = frontend_of(watcher);
    watcher->state = BEHIND;
    timers_set(&frontend->timers, &watcher->retry, frontend_now_ms(frontend) + STREAM_RETRY_MS);
}

static void on_retry(struct timer *timer)
{
    pump((struct watcher *)((char *)timer - offsetof(struct watcher, retry)));
}

/* Asks for what follows `told`: up to `target`, or all there is and then live. */
static void catch_up(struct watcher *watcher)
{
    struct request *request = follow_request(watcher);
    request->has_after = true;
    request->after = watcher->told;
    request->after_epoch = arena_copy(&request->arena, epoch_of(watcher));
    request->until = watcher->target > watcher->told ? watcher->target : 0;
    watcher->until = request->until;
    watcher->positioned = true;
    if (ask(watcher, request))
        watcher->state = CATCHING;
    else
        retry_later(watcher);
}

/* ---- the queue and the socket */

/* Heartbeats and the write deadline; looks at what is due rather than being moved by each send. */
static void on_timer(struct timer *timer)
{
    struct exchange *exchange =
        (struct exchange *)((char *)timer - offsetof(struct exchange, timer));
    struct watcher *watcher = exchange->watcher;
    struct frontend *frontend = exchange->frontend;
    const struct config *config = frontend->shared->config;
    bool sending = watcher->in_flight != 0 || watcher->finished;
    uint64_t pause_ms = sending ? config->write_timeout_ms : config->heartbeat_ms;
    int64_t due_ms = watcher->sent_ms + (int64_t)pause_ms;

    if (frontend_now_ms(frontend) < due_ms) {
        timers_set(&frontend->timers, timer, due_ms);
    } else if (sending) {
        figure_add(&frontend->figures->streams_cut, 1);
        exchange_cut(exchange);
    } else {
        stream_touch(watcher);
    }
}

static void note_sending(struct watcher *watcher)
{
    struct exchange *exchange = watcher->exchange;
    struct frontend *frontend = exchange->frontend;
    const struct config *config = frontend->shared->config;
    uint64_t pause_ms = config->write_timeout_ms < config->heartbeat_ms ? config->write_timeout_ms
                                                                        : config->heartbeat_ms;

    watcher->sent_ms = frontend_now_ms(frontend);
    if (exchange->timer.place == 0 || exchange->timer.due_ms > watcher->sent_ms + (int64_t)pause_ms)
        timers_set(&frontend->timers, &exchange->timer, watcher->sent_ms + (int64_t)pause_ms);
    if (!frontend->in_loop)
        frontend->touched = true;
}

static void finish(struct watcher *watcher)
{
    if (watcher->finished)
        return;
    watcher->finished = true;
    if (frontend_of(watcher)->draining_ms != 0)
        watcher->exchange->req->http1_is_persistent = 0;
    note_sending(watcher);
    h2o_send(watcher->exchange->req, NULL, 0, H2O_SEND_STATE_FINAL);
}

static void send_queue(struct watcher *watcher)
{
    h2o_iovec_t pieces[STREAM_SEND_CHUNKS];
    struct stream_queue *queue = &watcher->queue;
    uint32_t n = queue->n < STREAM_SEND_CHUNKS ? queue->n : STREAM_SEND_CHUNKS;

    watcher->in_flight_bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct stream_entry *entry = stream_queue_at(queue, i);
        pieces[i] = h2o_iovec_init(entry->text.p, entry->text.n);
        watcher->in_flight_bytes += entry->text.n;
        if (entry->chunk->last_seq != 0)
            watcher->handed = entry->chunk->last_seq;
    }
    if (n == queue->n)
        watcher->handed = watcher->told;
    watcher->in_flight = n;
    note_sending(watcher);
    h2o_send(watcher->exchange->req, pieces, n, H2O_SEND_STATE_IN_PROGRESS);
}

/* Goes on with whatever is next: the queue, the end, or asking for more. */
static void pump(struct watcher *watcher)
{
    if (watcher->in_flight != 0 || watcher->finished || !watcher->begun)
        return;
    if (watcher->queue.n != 0) {
        send_queue(watcher);
        return;
    }
    watcher->handed = watcher->told;
    if (watcher->state == ENDING)
        finish(watcher);
    else if (watcher->state == BEHIND && watcher->retry.place == 0)
        catch_up(watcher);
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct exchange *exchange =
        (struct exchange *)((char *)generator - offsetof(struct exchange, generator));
    struct watcher *watcher = exchange->watcher;

    (void)req;
    while (watcher->in_flight != 0) {
        stream_queue_shift(&watcher->queue);
        watcher->in_flight--;
    }
    if (watcher->queue.n == 0)
        stream_queue_free(&watcher->queue);
    pump(watcher);
}

static void push(struct watcher *watcher, struct sse_chunk *chunk, struct str text, bool live)
{
    if (text.n == 0)
        sse_release(chunk);
    else
        stream_queue_push(&watcher->queue, chunk, text, live);
}

static void push_text(struct watcher *watcher, struct str text)
{
    struct sse_chunk *chunk = sse_text(text);
    push(watcher, chunk, (struct str){chunk->bytes, chunk->size}, false);
}

void stream_touch(struct watcher *watcher)
{
    if (watcher->in_flight != 0 || watcher->finished)
        return;
    push_text(watcher, STR(":\n\n"));
    pump(watcher);
}

static void begin(struct watcher *watcher)
{
    struct exchange *exchange = watcher->exchange;
    struct frontend *frontend = exchange->frontend;

    watcher->begun = true;
    exchange->generator.proceed = on_proceed;
    exchange->timer.fire = on_timer;
    exchange_begin_stream(exchange);
    figure_add(&frontend->figures->streams, 1);
    figure_add(&frontend->figures->watching[watcher->shard], 1);
    if (watcher->queue.n == 0)
        push_text(watcher, STR(":\n\n")); /* the first send must carry bytes */
}

/* ---- joining what comes to what was told */

static void fall_behind(struct watcher *watcher)
{
    watcher->state = BEHIND;
    watcher->target = 0;
}

/* The reader is slow: lets go of what can be asked for again. */
static void drop_live(struct watcher *watcher)
{
    struct stream_queue *queue = &watcher->queue;

    figure_add(&frontend_of(watcher)->figures->streams_lagged, 1);
    while (queue->n > watcher->in_flight && stream_queue_at(queue, queue->n - 1)->live)
        stream_queue_pop(queue);
    watcher->told = watcher->handed;
    for (uint32_t i = watcher->in_flight; i < queue->n; i++)
        if (stream_queue_at(queue, i)->chunk->last_seq != 0)
            watcher->told = stream_queue_at(queue, i)->chunk->last_seq;
}

static bool has_room(const struct stream_queue *queue, uint32_t in_flight, size_t in_flight_bytes,
                     size_t more)
{
    uint32_t n = queue->n - in_flight;
    return n == 0 ||
           (n < STREAM_QUEUE_FRAMES && queue->bytes - in_flight_bytes + more <= STREAM_QUEUE_BYTES);
}

/* A frame for a watcher that is LIVE. */
static void deliver(struct watcher *watcher, struct sse_chunk *chunk)
{
    if (chunk->last_seq <= watcher->told)
        return;
    if (chunk->first_seq > watcher->told + 1) {
        fall_behind(watcher);
        pump(watcher);
        return;
    }
    struct str text = sse_after(chunk, watcher->told);
    if (!has_room(&watcher->queue, watcher->in_flight, watcher->in_flight_bytes, text.n)) {
        drop_live(watcher);
        fall_behind(watcher);
        return;
    }
    watcher->told = chunk->last_seq;
    sse_hold(chunk);
    push(watcher, chunk, text, true);
    pump(watcher);
}

/* A frame for a watcher that is to be told of earlier ones first. */
static void hold(struct watcher *watcher, struct sse_chunk *chunk)
{
    if (watcher->held_lost)
        return;
    if (!has_room(&watcher->held, 0, 0, chunk->size)) {
        watcher->held_lost = true;
        stream_queue_free(&watcher->held);
        return;
    }
    sse_hold(chunk);
    stream_queue_push(&watcher->held, chunk, (struct str){chunk->bytes, chunk->size}, true);
}

/* It has caught up: what was held follows, and then it is live. */
static void join(struct watcher *watcher)
{
    struct stream_queue *held = &watcher->held;
    bool lost = watcher->held_lost;

    for (uint32_t i = 0; i < held->n && !lost; i++) {
        struct sse_chunk *chunk = stream_queue_at(held, i)->chunk;
        if (chunk->last_seq <= watcher->told)
            continue;
        lost = chunk->first_seq > watcher->told + 1;
        if (lost)
            continue;
        sse_hold(chunk);
        push(watcher, chunk, sse_after(chunk, watcher->told), true);
        watcher->told = chunk->last_seq;
    }
    stream_queue_free(held);
    watcher->held_lost = false;
    watcher->target = 0;
    watcher->state = lost ? BEHIND : LIVE;
}

/* ---- replies */

static void end(struct watcher *watcher, uint64_t seq)
{
    struct sse_chunk *chunk = sse_end(epoch_of(watcher), seq);
    stream_queue_free(&watcher->held);
    watcher->state = ENDING;
    push(watcher, chunk, (struct str){chunk->bytes, chunk->size}, false);
    pump(watcher);
}

/* What the reply says, into the queue. False: it joins on to nothing. */
static bool take_reply(struct watcher *watcher, const struct request *request)
{
    struct sse_chunk *chunk;

    if (request->body.n != 0 && watcher->form == WANTS_PATCHES) {
        chunk = sse_snapshot(epoch_of(watcher), request->seq, buf_str(&request->body));
        push(watcher, chunk, (struct str){chunk->bytes, chunk->size}, false);
        watcher->told = request->seq;
    } else if (request->body.n != 0 && watcher->positioned) {
        /* All of another life is told; a seq that this one has not reached yet is waited for. */
        if (request->after_epoch.p != NULL && !str_equal(request->after_epoch, epoch_of(watcher)))
            watcher->told = 0;
    } else if (!watcher->positioned) {
        watcher->told = request->attached;
    } else if (request->frame != NULL) {
        if (request->frame->first_seq != watcher->told + 1)
            return false;
        chunk = sse_frame(request->frame, epoch_of(watcher), watcher->form, watcher->types);
        if (chunk == NULL)
            return false;
        push(watcher, chunk, (struct str){chunk->bytes, chunk->size}, false);
        watcher->told = request->frame->last_seq;
    }
    return true;
}

static void on_followed(struct watcher *watcher, const struct request *request)
{
    struct str epoch = {request->epoch, strlen(request->epoch)};
    struct feed_entry *feed = watcher->feed;
    bool attached = watcher->until == 0;

    if (!attached && !str_equal(epoch, epoch_of(watcher))) {
        fall_behind(watcher); /* a piece of another life: ask where this one stands */
        pump(watcher);
        return;
    }
    watcher->epoch_n = (uint8_t)epoch.n;
    memcpy(watcher->epoch, epoch.p, epoch.n);
    if (attached) {
        watcher->target = request->attached;
        if (feed->last_seq < request->attached)
            feed->last_seq = request->attached;
    }
    bool joined = take_reply(watcher, request);
    if (!joined)
        fall_behind(watcher);
    else if (watcher->told < watcher->target)
        watcher->state = BEHIND; /* the next piece when this one is out */
    else
        join(watcher);
    if (!watcher->begun)
        begin(watcher);
    if (feed->ended)
        end(watcher, feed->last_seq);
    else
        pump(watcher);
}

static void on_refused(struct watcher *watcher, const struct request *request)
{
    if (!watcher->begun)
        exchange_refuse(watcher->exchange, request->error, &request->refusal);
    else if (request->error == CORE_E_UNKNOWN_SESSION)
        end(watcher, watcher->feed->last_seq);
    else
        retry_later(watcher);
}

void stream_on_reply(struct frontend *frontend, struct request *request)
{
    struct exchange *exchange = slots_find(&frontend->exchanges, request->token);
    struct feed_entry *feed = slots_find(&frontend->streams.tokens, request->feed);
    struct watcher *watcher = exchange != NULL ? exchange->watcher : NULL;

    assert(feed != NULL && feed->asking != 0);
    feed->asking--;
    bool asked = watcher != NULL && (watcher->state == OPENING || watcher->state == CATCHING);
    if (!asked || (!watcher->begun && exchange->answered)) {
        feed_drop_if_idle(frontend, feed);
    } else if (!watcher->begun && frontend->draining_ms != 0) {
        exchange_refuse_text(exchange, REQUEST_E_UNAVAILABLE, NULL, "The server is about to stop.");
    } else {
        watcher->shard = request->shard;
        if (request->error != 0)
            on_refused(watcher, request);
        else
            on_followed(watcher, request);
    }
    request_free(request);
}

/* ---- frames and notices */

/* The frame as this watcher wants it; *shared is that of its form, made when first wanted. */
static struct sse_chunk *chunk_for(const struct watcher *watcher, const struct frame *frame,
                                   struct sse_chunk **shared)
{
    if (watcher->types != 0)
        return sse_frame(frame, epoch_of(watcher), watcher->form, watcher->types);
    if (*shared == NULL)
        *shared = sse_frame(frame, epoch_of(watcher), watcher->form, 0);
    if (*shared != NULL)
        sse_hold(*shared);
    return *shared;
}

static void take_frame(struct watcher *watcher, const struct frame *frame,
                       struct sse_chunk **shared)
{
    if (watcher->state == ENDING || (watcher->state == BEHIND && watcher->target == 0))
        return;
    struct sse_chunk *chunk = chunk_for(watcher, frame, shared);
    if (watcher->state == LIVE && chunk == NULL) {
        fall_behind(watcher);
        pump(watcher);
    } else if (chunk == NULL) {
        watcher->held_lost = true;
    } else if (watcher->state == LIVE) {
        deliver(watcher, chunk);
    } else {
        hold(watcher, chunk);
    }
    if (chunk != NULL)
        sse_release(chunk);
}

void stream_on_frame(struct frontend *frontend, uint64_t token, struct frame *frame)
{
    struct feed_entry *feed = slots_find(&frontend->streams.tokens, token);
    struct sse_chunk *shared[2] = {NULL, NULL}; /* patches, events */

    if (feed != NULL) {
        feed->last_seq = frame->last_seq;
        for (struct watcher *watcher = feed->watchers; watcher != NULL; watcher = watcher->next)
            take_frame(watcher, frame, &shared[watcher->form == WANTS_EVENTS]);
    }
    for (unsigned i = 0; i < 2; i++)
        if (shared[i] != NULL)
            sse_release(shared[i]);
    frame_release(frame);
}

static void on_lost(struct watcher *watcher)
{
    if (watcher->state == LIVE) {
        fall_behind(watcher);
        pump(watcher);
    } else if (watcher->state != ENDING) {
        watcher->held_lost = true;
    }
}

void stream_on_notice(struct frontend *frontend, uint64_t token, enum mailbox_notice notice)
{
    struct feed_entry *feed = slots_find(&frontend->streams.tokens, token);

    if (feed == NULL)
        return;
    if (notice == NOTICE_ENDED && !feed->ended) {
        feed->ended = true;
        feed_unlink(&frontend->streams, feed);
    }
    for (struct watcher *watcher = feed->watchers; watcher != NULL; watcher = watcher->next) {
        if (notice == NOTICE_LOST)
            on_lost(watcher);
        else if (watcher->begun && watcher->state != ENDING)
            end(watcher, feed->last_seq);
    }
}

/* ---- opening and closing */

static struct str given_id(const struct call *call)
{
    if (call->headers.last_event_id.n != 0)
        return call->headers.last_event_id;
    return call->query.last_event_id;
}

/* Where the client stands, into its first request. */
static void set_position(const struct watcher *watcher, const struct call *call,
                         struct request *request)
{
    struct sse_position position;
    struct str id = given_id(call);
    bool is_id = id.n != 0 && sse_parse_id(id, &position);

    request->has_after = id.n != 0 || query_has(&call->query, QUERY_AFTER);
    if (is_id) {
        request->after = position.seq;
        request->after_epoch = arena_copy(&request->arena, position.epoch);
        if (position.version_differs && watcher->form == WANTS_PATCHES)
            request->stale = "an id of another version of the view";
    } else if (id.n != 0) {
        if (watcher->form == WANTS_PATCHES)
            request->stale = "not an id of this stream";
    } else if (request->has_after) {
        request->after = call->query.after;
    }
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

static void link_watcher(struct frontend *frontend, struct feed_entry *feed,
                         struct watcher *watcher)
{
    watcher->feed = feed;
    watcher->next = feed->watchers;
    if (feed->watchers != NULL)
        feed->watchers->previous = watcher;
    feed->watchers = watcher;
    watcher->next_open = frontend->streams.watchers;
    if (frontend->streams.watchers != NULL)
        frontend->streams.watchers->previous_open = watcher;
    frontend->streams.watchers = watcher;
}

static void unlink_watcher(struct frontend *frontend, struct watcher *watcher)
{
    struct watcher **at =
        watcher->previous != NULL ? &watcher->previous->next : &watcher->feed->watchers;
    *at = watcher->next;
    if (watcher->next != NULL)
        watcher->next->previous = watcher->previous;
    at = watcher->previous_open != NULL ? &watcher->previous_open->next_open
                                        : &frontend->streams.watchers;
    *at = watcher->next_open;
    if (watcher->next_open != NULL)
        watcher->next_open->previous_open = watcher->previous_open;
}

void stream_open(struct exchange *exchange, const struct call *call)
{
    struct frontend *frontend = exchange->frontend;

    if (!check_parameters(exchange, call))
        return;
    struct watcher *watcher = mem_alloc(sizeof(*watcher));
    *watcher = (struct watcher){.exchange = exchange, .state = OPENING};
    watcher->form = exchange->match.route == ROUTE_STREAM ? WANTS_PATCHES : WANTS_EVENTS;
    watcher->types = call->query.types;
    watcher->retry.fire = on_retry;
    exchange->watcher = watcher;
    link_watcher(frontend, feed_find_or_make(frontend, exchange->match.session), watcher);
    watcher->feed->wants |= watcher->form;
    struct request *request = follow_request(watcher);
    set_position(watcher, call, request);
    watcher->positioned = request->has_after;
    watcher->told = request->after;
    exchange_watch(exchange);
    if (!ask(watcher, request))
        exchange_refuse_text(exchange, REQUEST_E_OVERLOADED, NULL,
                             "Too many requests are on their way; try again.");
}

void stream_close(struct watcher *watcher)
{
    struct frontend *frontend = frontend_of(watcher);

    if (watcher->begun) {
        figure_add(&frontend->figures->streams, -1);
        figure_add(&frontend->figures->watching[watcher->shard], -1);
    }
    timers_clear(&frontend->timers, &watcher->retry);
    stream_queue_free(&watcher->queue);
    stream_queue_free(&watcher->held);
    unlink_watcher(frontend, watcher);
    feed_drop_if_idle(frontend, watcher->feed);
    free(watcher);
}

/* ---- draining */

static void tell_to_come_back(struct watcher *watcher)
{
    struct buf text = {0};
    uint32_t random = 0;
    uint32_t span = STREAM_COME_BACK_MAX_MS - STREAM_COME_BACK_MIN_MS + 1;

    (void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
    buf_add_literal(&text, "retry: ");
    buf_add_u64(&text, STREAM_COME_BACK_MIN_MS + random % span);
    buf_add_literal(&text, "\n\n");
    stream_queue_free(&watcher->held);
    watcher->state = ENDING;
    push_text(watcher, buf_str(&text));
    buf_free(&text);
    pump(watcher);
}

void stream_drain(struct frontend *frontend)
{
    for (struct watcher *watcher = frontend->streams.watchers; watcher != NULL;
         watcher = watcher->next_open)
        if (watcher->begun && watcher->state != ENDING)
            tell_to_come_back(watcher);
}
