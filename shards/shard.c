/*
 * shard: dispatch, and what a commit releases.
 *
 * A turn takes a bounded number of requests from each ring, goes on with work in slices, and
 * hands the batch being built to the log if none is in flight. When a batch is on disk,
 * shard_on_committed lets its effects go: replies and frames leave in the order in which they
 * were made.
 *
 * Replies always fit (credits: mailbox.h). What has no credit (frames, notices, woken waits) may
 * fill half of the ring: a frame that does not fit detaches its feed, whose frontend catches up
 * from the log later; notices and woken waits queue in the outbox.
 *
 * When the log fails, nothing that it did not confirm is shown: every held reply becomes 503, and
 * the cluster stops.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Without credit: a woken wait or a notice that found the ring half full. */
struct outgoing {
    struct outgoing *next;
    struct ring_item item;
};

/* ---- out: replies, frames, notices */

static void shard_sent(struct shard *shard, uint16_t frontend)
{
    shard->wake |= UINT64_C(1) << frontend;
}

/* Without credit: only into the half of the ring that replies do not need. */
static bool shard_push_uncredited(struct shard *shard, uint16_t frontend, struct ring_item item)
{
    struct ring *ring = shard->replies[frontend];
    if (shard->outboxes[frontend].first != NULL ||
        ring_used(ring) >= REPLY_RING_ITEMS - REPLY_CREDITS)
        return false;
    bool pushed = ring_push(ring, item);
    assert(pushed);
    shard_sent(shard, frontend);
    return true;
}

static void shard_push_or_queue(struct shard *shard, uint16_t frontend, struct ring_item item)
{
    if (shard_push_uncredited(shard, frontend, item))
        return;
    struct outgoing *outgoing = mem_alloc(sizeof(*outgoing));
    *outgoing = (struct outgoing){.item = item};
    struct outbox *outbox = &shard->outboxes[frontend];
    *(outbox->first == NULL ? &outbox->first : outbox->last) = outgoing;
    outbox->last = &outgoing->next;
    shard->stats.ring_full++;
}

static void shard_flush_outboxes(struct shard *shard)
{
    for (unsigned f = 0; f < shard->frontends; f++) {
        struct outbox *outbox = &shard->outboxes[f];
        while (outbox->first != NULL &&
               ring_used(shard->replies[f]) < REPLY_RING_ITEMS - REPLY_CREDITS) {
            struct outgoing *outgoing = outbox->first;
            bool pushed = ring_push(shard->replies[f], outgoing->item);
            assert(pushed);
            shard_sent(shard, (uint16_t)f);
            outbox->first = outgoing->next;
            free(outgoing);
        }
    }
}

void shard_reply(struct shard *shard, struct request *request)
{
    struct ring_item item = reply_item(REPLY_REQUEST, request, 0);
    uint16_t frontend = request->frontend;
    if (request->kind == REQUEST_INBOX && request->wait) {
        inbox_release(shard, request);
        shard_push_or_queue(shard, frontend, item);
        return;
    }
    bool pushed = ring_push(shard->replies[frontend], item);
    assert(pushed); /* its credit says so */
    shard_sent(shard, frontend);
}

/* False: the ring was full, and the frontend has been told that the feed is lost. */
static bool shard_deliver(struct shard *shard, const struct feed *feed, struct frame *frame)
{
    frame_hold(frame);
    if (shard_push_uncredited(shard, feed->frontend, reply_item(REPLY_FRAME, frame, feed->token))) {
        shard->stats.frames++;
        return true;
    }
    frame_release(frame);
    shard->stats.frames_lost++;
    shard_notify(shard, feed->frontend, feed->token, NOTICE_LOST);
    return false;
}

void shard_notify(struct shard *shard, uint16_t frontend, uint64_t feed, enum mailbox_notice notice)
{
    enum reply_kind kind = notice == NOTICE_LOST ? REPLY_LOST : REPLY_ENDED;
    shard_push_or_queue(shard, frontend, reply_item(kind, NULL, feed));
}

void shard_refuse(struct shard *shard, struct session *session, struct request *request,
                  unsigned error, const char *field, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    request->error = error;
    request->refusal.code = error < CORE_ERROR_COUNT ? (enum core_error)error : CORE_OK;
    request->refusal.field = field;
    vsnprintf(request->refusal.detail, sizeof(request->refusal.detail), format, arguments);
    va_end(arguments);
    request->body.n = 0;
    shard->stats.refused++;
    shard_reply_committed(shard, session, request);
}

/* ---- effects */

static void shard_refuse_failed(struct shard *shard, struct request *request)
{
    shard_refuse(shard, NULL, request, REQUEST_E_UNAVAILABLE, NULL, "%s", *shard->failed);
}

struct effect *shard_effect(struct shard *shard, uint64_t batch, enum effect_kind kind)
{
    assert(batch > log_committed(shard->log) && batch <= log_building(shard->log));
    struct effects *effects = &shard->effects[batch & 3];
    if (effects->n == effects->cap) {
        effects->cap = effects->cap != 0 ? effects->cap * 2 : 64;
        effects->items = mem_realloc(effects->items, effects->cap * sizeof(*effects->items));
    }
    struct effect *effect = &effects->items[effects->n++];
    *effect = (struct effect){.kind = kind};
    return effect;
}

static bool shard_is_committed(const struct shard *shard, const struct session *session)
{
    return session == NULL || session->dirty <= log_committed(shard->log);
}

static void shard_after_commit(struct shard *shard, struct session *session,
                               struct request *request, enum effect_kind kind)
{
    if (*shard->failed != NULL) { /* it never will be */
        shard_refuse_failed(shard, request);
        return;
    }
    struct effect *effect = shard_effect(shard, session->dirty, kind);
    effect->request = request;
    effect->session = session;
    session->pins++;
}

void shard_reply_committed(struct shard *shard, struct session *session, struct request *request)
{
    if (shard_is_committed(shard, session))
        shard_reply(shard, request);
    else
        shard_after_commit(shard, session, request, EFFECT_REPLY);
}

void shard_retry_committed(struct shard *shard, struct session *session, struct request *request)
{
    if (shard_is_committed(shard, session))
        shard_dispatch(shard, request);
    else
        shard_after_commit(shard, session, request, EFFECT_RETRY);
}

static void shard_unpin(struct shard *shard, struct session *session)
{
    session->pins--;
    session_drop_if_vacant(shard, session);
}

static void shard_record_committed(struct shard *shard, struct effect *effect)
{
    struct session *session = effect->session;
    if (session->epoch == effect->epoch) {
        session->committed_seq = effect->seq;
        session->committed_head = effect->position;
    }
    if (effect->frame == NULL)
        return;
    struct feed **at = &session->feeds;
    while (*at != NULL) {
        struct feed *feed = *at;
        if (feed->epoch == effect->epoch && !shard_deliver(shard, feed, effect->frame)) {
            *at = feed->next; /* detached: its frontend catches up from the log */
            free(feed);
        } else {
            at = &feed->next;
        }
    }
    frame_release(effect->frame);
}

static void shard_let_go(struct shard *shard, struct effect *effect)
{
    switch (effect->kind) {
    case EFFECT_REPLY:
        shard_reply(shard, effect->request);
        break;
    case EFFECT_RETRY:
        shard_dispatch(shard, effect->request);
        break;
    case EFFECT_RECORD:
        shard_record_committed(shard, effect);
        break;
    case EFFECT_ENDED:
        follow_ended(shard, effect->session, effect->epoch);
        break;
    }
    if (effect->session != NULL) /* a list is about none in particular */
        shard_unpin(shard, effect->session);
}

static void shard_on_committed(void *ctx, uint64_t batch)
{
    struct shard *shard = ctx;
    /* A retry may add effects, but only to batches still open: not to this list. */
    struct effects effects = shard->effects[batch & 3];
    shard->effects[batch & 3] = (struct effects){0};
    for (uint32_t i = 0; i < effects.n; i++)
        shard_let_go(shard, &effects.items[i]);
    if (shard->effects[batch & 3].items == NULL) {
        effects.n = 0;
        shard->effects[batch & 3] = effects;
    } else {
        free(effects.items);
    }
}

static void shard_on_failed(void *ctx, int error)
{
    struct shard *shard = ctx;
    char why[160];
    snprintf(why, sizeof(why), "the log of shard %u failed: %s", shard->number, strerror(error));
    char *kept = strdup(why);
    const char *none = NULL;
    if (!atomic_compare_exchange_strong(shard->failed, &none, kept))
        free(kept); /* another shard was first */
    for (unsigned b = 0; b < 4; b++) {
        struct effects *effects = &shard->effects[b];
        for (uint32_t i = 0; i < effects->n; i++) {
            struct effect *effect = &effects->items[i];
            if (effect->frame != NULL)
                frame_release(effect->frame);
            if (effect->session != NULL)
                effect->session->pins--;
            if (effect->request != NULL)
                shard_refuse_failed(shard, effect->request);
        }
        effects->n = 0;
    }
}

void shard_append(struct shard *shard, struct session *session, const struct log_record *record,
                  struct frame *frame)
{
    uint64_t batch = log_building(shard->log);
    log_position position = log_append(shard->log, record);
    uint64_t last_seq = record->seq + record->events - 1;
    session->dirty = shard->dirty = batch;
    if (record->type == LOG_RECORD_EVENTS)
        session_note_record(session, last_seq, position);
    struct effect *effect = shard_effect(shard, batch, EFFECT_RECORD);
    effect->session = session;
    effect->epoch = record->epoch;
    effect->frame = frame;
    effect->seq = last_seq;
    effect->position = position;
    session->pins++;
}

void shard_refuse_unknown(struct shard *shard, struct session *session, struct request *request)
{
    shard_refuse(shard, session, request, CORE_E_UNKNOWN_SESSION, "session",
                 "there is no session \"%.*s\"", (int)request->session.n, request->session.p);
}

/* ---- in: dispatch */

static void queue_put(struct request **first, struct request ***tail, struct request *request)
{
    request->next = NULL;
    *(*first == NULL ? first : *tail) = request;
    *tail = &request->next;
}

static struct request *queue_take(struct request **first)
{
    struct request *request = *first;
    if (request != NULL)
        *first = request->next;
    return request;
}

void shard_stall(struct shard *shard, struct request *request)
{
    queue_put(&shard->stalled, &shard->stalled_tail, request);
}

void shard_go_on(struct shard *shard, struct request *request)
{
    queue_put(&shard->running, &shard->running_tail, request);
}

static void shard_dispatch_session(struct shard *shard, struct session *session,
                                   struct request *request)
{
    switch (request->kind) {
    case REQUEST_COMMANDS:
        commands_execute(shard, session, request);
        return;
    case REQUEST_DELETE:
        commands_delete(shard, session, request);
        return;
    case REQUEST_VIEW:
        query_view(shard, session, request);
        return;
    case REQUEST_THREAD:
        query_thread(shard, session, request);
        return;
    case REQUEST_MESSAGES:
        query_messages(shard, session, request);
        return;
    case REQUEST_EVENTS:
        query_events(shard, session, request);
        return;
    case REQUEST_INBOX:
        inbox_query(shard, session, request);
        return;
    case REQUEST_FOLLOW:
        follow_begin(shard, session, request);
        return;
    case REQUEST_UNFOLLOW:
        follow_end(shard, session, request);
        return;
    case REQUEST_CANCEL:
        inbox_cancel(shard, session, request);
        return;
    case REQUEST_LIST:
    case REQUEST_STATUS:
        break;
    }
    assert(!"a kind that needs a session");
}

void shard_unbusy(struct shard *shard, struct session *session)
{
    assert(session->busy);
    session->busy = false;
    session->pins++;
    while (!session->busy && session->queue != NULL) {
        struct request *request = queue_take(&session->queue);
        session->queue_n--;
        if (shard->stalled != NULL) /* something before it waits for room: keep the order */
            shard_stall(shard, request);
        else
            shard_dispatch_session(shard, session, request);
    }
    shard_unpin(shard, session);
}

static struct session *shard_session_of(struct shard *shard, const struct request *request)
{
    struct session *session = session_find(shard, request->session);
    /* Only session.create may bring one into being; anything else is told that it is not there. */
    if (session == NULL && request->kind == REQUEST_COMMANDS && commands_create(request))
        session = session_find_or_make(shard, request->session);
    return session;
}

void shard_dispatch(struct shard *shard, struct request *request)
{
    if (request->kind == REQUEST_LIST) {
        query_list(shard, request);
        return;
    }
    if (request->kind == REQUEST_STATUS) {
        query_status(shard, request);
        return;
    }
    struct session *session = shard_session_of(shard, request);
    bool ends = request->kind == REQUEST_CANCEL || request->kind == REQUEST_UNFOLLOW;
    if (session == NULL && ends) {
        shard_reply(shard, request);
    } else if (session == NULL) {
        shard_refuse_unknown(shard, NULL, request);
    } else if (!session->busy) {
        shard_dispatch_session(shard, session, request);
    } else if (session->queue_n < SESSION_QUEUE_MAX || ends) {
        queue_put(&session->queue, &session->queue_tail, request);
        session->queue_n++;
    } else {
        shard->stats.overloaded++;
        shard_refuse(shard, NULL, request, REQUEST_E_OVERLOADED, NULL,
                     "%d requests already wait for this session", SESSION_QUEUE_MAX);
    }
}

/* ---- the turn */

static void shard_take_stalled(struct shard *shard)
{
    struct request *request = shard->stalled;
    shard->stalled = NULL;
    while (request != NULL) {
        struct request *next = request->next;
        if (shard->stalled != NULL)
            shard_stall(shard, request); /* still no room: keep the order */
        else if (*shard->failed != NULL)
            shard_refuse_failed(shard, request);
        else
            shard_dispatch(shard, request);
        request = next;
    }
}

static void shard_take_running(struct shard *shard)
{
    struct request *request = shard->running;
    shard->running = NULL;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->kind == REQUEST_LIST)
            query_list(shard, request);
        else
            commands_execute(shard, session_find(shard, request->session), request);
        request = next;
    }
}

/* True: a ring may hold more. */
static bool shard_take_requests(struct shard *shard)
{
    bool more = false;
    for (unsigned f = 0; f < shard->frontends; f++) {
        struct ring_item item;
        unsigned taken = 0;
        while (shard->stalled == NULL && taken < TURN_REQUESTS_MAX &&
               ring_pop(shard->requests[f], &item)) {
            taken++;
            if (*shard->failed != NULL)
                shard_refuse_failed(shard, item.p);
            else
                shard_dispatch(shard, item.p);
        }
        shard->stats.requests += taken;
        more = more || taken == TURN_REQUESTS_MAX;
    }
    return more;
}

void shard_commit(struct shard *shard)
{
    log_commit(shard->log); /* also after another shard's log has failed: ours has not */
}

void shard_set_full(struct shard *shard, bool full)
{
    uint64_t bit = UINT64_C(1) << shard->number;
    shard->full_look_ms = shard->now_ms + FULL_LOOK_MS;
    if (shard->is_full == full)
        return;
    shard->is_full = full;
    if (full)
        atomic_fetch_or(shard->full, bit);
    else
        atomic_fetch_and(shard->full, ~bit);
    fprintf(stderr, "atoll: shard %u: the disk under %s %s\n", shard->number,
            datadir_path(shard->dir),
            full ? "is full; commands are refused, reading goes on" : "has room again");
}

static void shard_look_for_room(struct shard *shard)
{
    if (shard->is_full && shard->now_ms >= shard->full_look_ms)
        shard_set_full(shard, log_reserve(shard->log, RECORD_HINT_BYTES) == -ENOSPC);
}

bool shard_turn(struct shard *shard, int64_t now_ms, int64_t wall_ms)
{
    shard->now_ms = now_ms;
    shard->wall_ms = wall_ms;
    shard_flush_outboxes(shard);
    shard_look_for_room(shard);
    shard_take_stalled(shard);
    shard_take_running(shard);
    bool more = shard_take_requests(shard);
    shard_commit(shard);
    return more || shard->running != NULL;
}

int shard_tick(struct shard *shard)
{
    int wait = log_tick(shard->log, shard->now_ms);
    /* A request stalled without a commit in flight waits for a segment or for space. */
    if (shard->stalled != NULL && (wait < 0 || wait > 10))
        wait = 10;
    if (shard->is_full && (wait < 0 || wait > FULL_LOOK_MS))
        wait = FULL_LOOK_MS;
    for (unsigned f = 0; f < shard->frontends; f++) {
        if (shard->outboxes[f].first != NULL)
            wait = 0;
    }
    return wait;
}

bool shard_pending(const struct shard *shard)
{
    if (shard->running != NULL) /* begun by a commit, after the turn */
        return true;
    if (shard->stalled != NULL)
        return false; /* nothing is taken before the log has room again */
    for (unsigned f = 0; f < shard->frontends; f++) {
        if (ring_ready(shard->requests[f]))
            return true;
    }
    return false;
}

bool shard_idle(const struct shard *shard)
{
    if (shard->stalled != NULL || shard->running != NULL || shard->histories != 0)
        return false;
    return !shard_pending(shard) && log_idle(shard->log);
}

/* ---- beginning and end */

int shard_new(const struct shard_options *options, struct shard **made, char *error,
              size_t error_size)
{
    struct shard *shard = mem_alloc(sizeof(*shard));
    *shard = (struct shard){
        .number = options->number,
        .dir = options->dir,
        .io = options->io,
        .limits = *options->limits,
        .failed = options->failed,
        .full = options->full,
        .epochs = datadir_starts(options->dir) << 32,
        .frontends = datadir_shards(options->dir),
    };
    memcpy(&shard->limits.hash_seed, datadir_hash_key(options->dir),
           sizeof(shard->limits.hash_seed));
    RB_INIT(&shard->tree);
    heap_init(&shard->heap);
    int result = recovery_run(shard, error, error_size);
    if (result != 0) {
        shard_free(shard);
        return result;
    }
    *made = shard;
    return 0;
}

int shard_open(struct shard *shard, enum log_durability durability, char *error, size_t error_size)
{
    struct log_callbacks callbacks = {shard, shard_on_committed, shard_on_failed};
    int result =
        log_open(shard->dir, shard->number, shard->io, durability, &callbacks, &shard->log);
    if (result != 0)
        snprintf(error, error_size, "%s: cannot open the log of shard %u: %s",
                 datadir_path(shard->dir), shard->number, strerror(-result));
    return result;
}

void shard_free(struct shard *shard)
{
    if (shard->log != NULL)
        log_close(shard->log);
    sessions_free(shard);
    for (unsigned b = 0; b < 4; b++)
        free(shard->effects[b].items);
    arena_free(&shard->scratch);
    commands_free_spare(shard);
    heap_free(&shard->heap);
    free(shard);
}
