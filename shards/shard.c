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
#include "shards/log_format.h"
#include "shards/mailbox_internal.h"
#include "shards/report.h"
#include "shards/sim_bug.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const struct shard_settings shard_settings_default = {
    .idle_passivate_ms = 10 * 60 * 1000,
    .memory_bytes = UINT64_MAX,
    .compact_after_ms = 10 * 60 * 1000,
    .compact_bytes_per_s = 128 << 20,
    .checkpoint_bytes = 128 << 20,
    .snapshot_bytes = 32 << 10,
};

int64_t shard_clock_ns(const struct shard *shard)
{
    return (int64_t)shard->io->ops->now_ns(shard->io);
}

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
    if (request->kind == REQUEST_CHANGES || (request->kind == REQUEST_INBOX && request->wait)) {
        if (request->kind == REQUEST_INBOX)
            inbox_release(shard, request);
        shard_push_or_queue(shard, frontend, item);
        return;
    }
    /* A follower has to hear of losses and ends in the order in which they came about. */
    if (request->kind == REQUEST_FOLLOW && shard->outboxes[frontend].first != NULL) {
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

/* To the frontend of this shard's own number. */
static void shard_relay(struct shard *shard, struct request *request)
{
    struct mailbox *mailbox = shard->mailbox;
    struct relay *relay = mailbox_relay_new(mailbox, request);
    struct ring_item item = reply_item(REPLY_RELAY, relay, 0);
    if (relay != NULL && shard_push_uncredited(shard, (uint16_t)shard->number, item)) {
        shard_reply(shard, request);
        return;
    }
    if (relay != NULL)
        mailbox_relay_free(mailbox, relay);
    shard->stats.overloaded++;
    shard_refuse(shard, NULL, request, REQUEST_E_OVERLOADED, NULL,
                 "the reactor that it is for has not taken what was sent to it before");
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
    return session == NULL || sim_bug(SIM_BUG_EARLY_REPLY) ||
           session->dirty <= log_committed(shard->log);
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
        fork_ended(shard, session_id(effect->session), effect->epoch);
        break;
    case EFFECT_CALL:
        effect->call(effect->owner, 0);
        break;
    }
    if (effect->session != NULL) /* a list, or a call, is about none in particular */
        shard_unpin(shard, effect->session);
}

static void shard_on_committed(void *ctx, uint64_t batch)
{
    struct shard *shard = ctx;
    /* A retry may add effects, but only to batches still open: not to this list. */
    struct effects effects = shard->effects[batch & 3];
    shard->effects[batch & 3] = (struct effects){0};
    for (uint32_t i = 0; i < effects.n; i++) {
        if (effects.items[i].kind != EFFECT_RETRY)
            shard_let_go(shard, &effects.items[i]);
    }
    /* What is tried again has to find all of the batch committed. */
    for (uint32_t i = 0; i < effects.n; i++) {
        if (effects.items[i].kind == EFFECT_RETRY)
            shard_let_go(shard, &effects.items[i]);
    }
    if (shard->effects[batch & 3].items == NULL) {
        effects.n = 0;
        shard->effects[batch & 3] = effects;
    } else {
        free(effects.items);
    }
}

void shard_fail(struct shard *shard, int error)
{
    char why[160];
    snprintf(why, sizeof(why), "the log of shard %u failed: %s", shard->number, strerror(error));
    health_set(&shard->health->log, HEALTH_FAILED, shard->wall_ms, why);
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
            if (effect->kind == EFFECT_CALL)
                effect->call(effect->owner, -EIO);
        }
        effects->n = 0;
    }
}

void shard_call_committed(struct shard *shard, void (*call)(void *owner, int error), void *owner)
{
    if (*shard->failed != NULL) {
        call(owner, -EIO);
    } else if (shard->dirty <= log_committed(shard->log)) {
        call(owner, 0);
    } else {
        struct effect *effect = shard_effect(shard, shard->dirty, EFFECT_CALL);
        effect->call = call;
        effect->owner = owner;
    }
}

/* Whether it is one of the records that make up the session's history. */
static bool is_in_chain(const struct log_record *record)
{
    return record->type == LOG_RECORD_EVENTS || record->type == LOG_RECORD_SNAPSHOT;
}

static void shard_on_failed(void *ctx, int error)
{
    shard_fail(ctx, error);
}

/* What of it those may want to know who watch many sessions: no companion, and no import that is
 * not whole. */
static void shard_note_change(struct shard *shard, struct session *session,
                              const struct log_record *record)
{
    if (entry_is_companion(session->entry))
        return;
    if (record->type == LOG_RECORD_TOMBSTONE && !session->importing)
        changes_end(shard, session);
    else if (record->events != 0 && !(record->flags & LOG_RECORD_IMPORTING))
        changes_note(shard, session);
}

void shard_append(struct shard *shard, struct session *session, const struct log_record *record,
                  struct frame *frame)
{
    uint64_t batch = log_building(shard->log);
    log_position position = log_append(shard->log, record);
    uint64_t last_seq = record->seq + record->events - 1;
    session->dirty = shard->dirty = batch;
    shard_note_change(shard, session, record);
    if (!is_in_chain(record)) /* it commits with the batch, but is nothing to read back */
        return;
    session_note_record(session, position, log_record_size(record));
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

/* A session that is still being imported is not there for anybody else. */
static bool shard_is_hidden(const struct session *session, const struct request *request)
{
    return session->importing && request->kind != REQUEST_IMPORT;
}

static void shard_refuse_hidden(struct shard *shard, struct session *session,
                                struct request *request)
{
    if (shard_ends_something(request))
        shard_reply(shard, request);
    else if (request->kind == REQUEST_FORK ||
             (request->kind == REQUEST_COMMANDS && commands_create(request)))
        shard_refuse(shard, session, request, CORE_E_REFUSED, "session",
                     "a session of this id is being imported");
    else
        shard_refuse_unknown(shard, session, request);
}

static void (*const session_requests[])(struct shard *, struct session *, struct request *) = {
    [REQUEST_COMMANDS] = commands_execute, [REQUEST_DELETE] = commands_delete,
    [REQUEST_VIEW] = query_view,           [REQUEST_THREAD] = query_thread,
    [REQUEST_MESSAGES] = query_messages,   [REQUEST_EVENTS] = query_events,
    [REQUEST_INBOX] = inbox_query,         [REQUEST_FOLLOW] = follow_begin,
    [REQUEST_UNFOLLOW] = follow_end,       [REQUEST_CANCEL] = inbox_cancel,
    [REQUEST_DIFF] = query_diff,           [REQUEST_PROOF] = query_proof,
    [REQUEST_FORK] = fork_begin,           [REQUEST_PIN] = fork_pin,
    [REQUEST_EXPORT] = export_page,        [REQUEST_IMPORT] = import_page,
    [REQUEST_TOUCH] = attended_touch,      [REQUEST_REBUILD] = quarantine_rebuild,
    [REQUEST_UNHAND] = hands_take_back,    [REQUEST_EXISTS] = query_exists,
};

static void shard_dispatch_session(struct shard *shard, struct session *session,
                                   struct request *request)
{
    if (shard_is_hidden(session, request)) {
        shard_refuse_hidden(shard, session, request);
        return;
    }
    session_use(shard, session);
    session->pins++;
    session_requests[request->kind](shard, session, request);
    shard_unpin(shard, session);
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

/* Only these may bring a session into being; anything else is told that it is not there. */
static bool shard_makes_session(const struct request *request)
{
    switch (request->kind) {
    case REQUEST_COMMANDS:
        return commands_create(request);
    case REQUEST_FORK:
        return true;
    case REQUEST_IMPORT:
        return request->after == 0;
    default:
        return false;
    }
}

/* A pin does not wait for a session that is only being made, and may be waiting for a pin itself:
 * two that are made forks of each other would wait for ever. */
static bool shard_is_in_the_making(const struct session *session, const struct request *request)
{
    return request->kind == REQUEST_PIN && session->busy && session->core == NULL &&
           !(session->entry->flags & ENTRY_ALIVE);
}

static struct entry *shard_entry_of(struct shard *shard, const struct request *request)
{
    uint64_t hash = request->hash != 0 ? request->hash : entry_hash(shard, request->session);
    return entry_find_hashed(shard, request->session, hash);
}

/* In memory, or on its way there; NULL: there is none. */
static struct session *shard_session_of(struct shard *shard, struct entry *entry,
                                        const struct request *request)
{
    if (entry != NULL && entry->flags & ENTRY_ACTIVE)
        return entry->u.session;
    if (entry != NULL &&
        entry->flags & ENTRY_ALIVE) /* nobody waits for, follows or has a hand of a passive one */
        return shard_ends_something(request) ? NULL : session_load(shard, entry);
    if (!shard_makes_session(request))
        return NULL;
    return session_new(shard, entry_find_or_make(shard, request->session));
}

void shard_dispatch(struct shard *shard, struct request *request)
{
    switch (request->kind) {
    case REQUEST_LIST:
        query_list(shard, request);
        return;
    case REQUEST_CHANGES:
        changes_begin(shard, request);
        return;
    case REQUEST_STATUS:
        query_status(shard, request);
        return;
    case REQUEST_UNPIN:
        fork_unpin(shard, request);
        return;
    case REQUEST_KEEP:
        upkeep_keep(shard, request);
        return;
    case REQUEST_RELAY:
        shard_relay(shard, request);
        return;
    case REQUEST_EXISTS:
        if (!query_exists_passive(shard, request))
            break;
        return;
    case REQUEST_CANCEL:
        if (request->session.p != NULL)
            break;
        changes_cancel(shard, request);
        return;
    default:
        break;
    }
    struct entry *entry = shard_entry_of(shard, request);
    if (entry != NULL && entry->flags & ENTRY_QUARANTINED) {
        quarantine_request(shard, entry, request);
        return;
    }
    if (pressure_level(shard->pressure) != PRESSURE_NONE &&
        budget_refuses_memory(shard, entry, request))
        return;
    struct session *session = shard_session_of(shard, entry, request);
    if (session == NULL && shard_ends_something(request)) {
        shard_reply(shard, request);
    } else if (session == NULL || shard_is_in_the_making(session, request)) {
        shard_refuse_unknown(shard, NULL, request);
    } else if (!session->busy) {
        shard_dispatch_session(shard, session, request);
    } else if (session->queue_n < SESSION_QUEUE_MAX || shard_ends_something(request)) {
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
        else if (request->kind == REQUEST_CHANGES)
            changes_go_on(shard, request);
        else
            commands_execute(shard, session_find(shard, request->session), request);
        request = next;
    }
}

void shard_chore(struct shard *shard, struct chore *chore)
{
    chore->next = NULL;
    *(shard->chores == NULL ? &shard->chores : shard->chores_tail) = chore;
    shard->chores_tail = &chore->next;
}

static struct chore *chore_take(struct chore **list)
{
    struct chore *chore = *list;
    if (chore != NULL)
        *list = chore->next;
    return chore;
}

/* One piece after the other while there is time; who is not done goes behind the others. The first
 * gets a piece in any case. */
static void shard_take_chores(struct shard *shard)
{
    struct chore *waiting = shard->waiting_chores, *chore;
    shard->waiting_chores = NULL;
    while ((chore = chore_take(&waiting)) != NULL)
        shard_chore(shard, chore);
    while ((chore = chore_take(&shard->chores)) != NULL) {
        switch (chore->run(chore, shard->slice_until_ns)) {
        case CHORE_DONE:
            break;
        case CHORE_MORE:
            shard_chore(shard, chore);
            break;
        case CHORE_WAIT:
            chore->next = shard->waiting_chores;
            shard->waiting_chores = chore;
            break;
        }
        if (shard_clock_ns(shard) > shard->slice_until_ns)
            break;
    }
}

/* Whether this turn has had its time. Looked at seldom: a small request is done in no time. */
static bool shard_is_late(const struct shard *shard, unsigned *work, const struct request *request)
{
    *work += 1 + (request->kind == REQUEST_COMMANDS ? request->commands_n : 0);
    if (*work < SLICE_STEPS)
        return false;
    *work = 0;
    return shard_clock_ns(shard) > shard->slice_until_ns;
}

/* What the next few requests will look at, where there are several. */
static void shard_look_ahead(struct shard *shard, struct ring *ring)
{
    struct ring_item items[ENTRIES_FETCHED];
    uint64_t hashes[ENTRIES_FETCHED];
    unsigned n = 0;
    while (n < ENTRIES_FETCHED && ring_peek(ring, n, &items[n]))
        __builtin_prefetch(items[n++].p);
    if (n < 2)
        return;
    for (unsigned i = 0; i < n; i++)
        hashes[i] = ((const struct request *)items[i].p)->hash;
    entries_fetch(shard, hashes, n);
}

/* Of one request in QUEUE_SAMPLE the tag says when it was sent. */
static void shard_measure_queue(struct shard *shard, uint64_t sent_ns)
{
    uint64_t now_ns = (uint64_t)shard_clock_ns(shard);
    if (now_ns > sent_ns)
        histogram_add(&shard->stats.queue_us, (now_ns - sent_ns + 999) / 1000);
}

/* Takes the rest of a ring's share. How many; `*late`: the turn has had its time. */
static unsigned shard_visit(struct shard *shard, unsigned *work, bool *late)
{
    static const uint16_t shares[LANES] = {CONTROL_SHARE, COMMANDS_SHARE, TELEMETRY_SHARE};
    enum request_lane lane = shard->visit.lane;
    struct ring *ring = &shard->requests[shard->visit.frontend][lane];
    struct ring_item item;
    int64_t until_ns = 0;
    unsigned taken = 0;
    while (shard->visit.taken < shares[lane] && !*late && shard->stalled == NULL) {
        if (taken % ENTRIES_FETCHED == 0)
            shard_look_ahead(shard, ring);
        if (!ring_pop(ring, &item))
            break;
        struct request *request = item.p;
        shard->visit.taken++;
        if (item.tag != 0)
            shard_measure_queue(shard, item.tag);
        if (taken++ == 0 && lane == LANE_TELEMETRY)
            until_ns = shard_clock_ns(shard) + TELEMETRY_SLICE_NS;
        *late = shard_is_late(shard, work, request);
        if (*shard->failed != NULL)
            shard_refuse_failed(shard, request);
        else
            shard_dispatch(shard, request);
        int64_t now_ns = lane == LANE_TELEMETRY ? shard_clock_ns(shard) : 0;
        if (now_ns > until_ns) { /* looking may take long for each: this was its share */
            *late = *late || now_ns > shard->slice_until_ns;
            shard->visit.taken = shares[lane];
        }
    }
    return taken;
}

static void shard_visit_next(struct shard *shard)
{
    shard->visit.taken = 0;
    if (++shard->visit.frontend < shard->frontends)
        return;
    shard->visit.frontend = 0;
    shard->visit.lane = (shard->visit.lane + 1) % LANES;
}

/*
 * Visits ring after ring: the control lane's of all frontends, then those of commands, then those
 * of telemetry, and again; each gives at most its share. Where the time is over the next turn goes
 * on from here, so that over any number of late turns each lane gets what it should, and each ring
 * its turn. True: a ring may hold more.
 */
static bool shard_take_requests(struct shard *shard)
{
    bool late = false;
    unsigned work = 0, dry = 0, total = 0;
    unsigned rings = LANES * shard->frontends, most = TURN_REQUESTS_MAX * shard->frontends;
    while (dry < rings && total < most) {
        total += shard_visit(shard, &work, &late);
        if (late || shard->stalled != NULL)
            break;
        struct ring *ring = &shard->requests[shard->visit.frontend][shard->visit.lane];
        dry = ring_ready(ring) ? 0 : dry + 1;
        shard_visit_next(shard);
    }
    shard->stats.requests += total;
    return late || total >= most;
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
    report_tell(full ? REPORT_ERROR : REPORT_INFO, full ? "disk_full" : "disk_has_room",
                (int)shard->number, (struct str){0}, "the disk under %s %s",
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
    shard->slice_until_ns = shard_clock_ns(shard) + SLICE_NS;
    shard_flush_outboxes(shard);
    shard_look_for_room(shard);
    shard_take_stalled(shard);
    shard_take_running(shard);
    shard_take_chores(shard);
    bool more = shard_take_requests(shard);
    bool changes = changes_turn(shard);
    hands_turn(shard);
    attended_turn(shard);
    upkeep_turn(shard);
    feel_turn(shard);
    shard_commit(shard);
    return more || changes || shard->running != NULL || shard->chores != NULL;
}

int shard_tick(struct shard *shard)
{
    int wait = log_tick(shard->log, shard->now_ms);
    int upkeep = upkeep_tick(shard);
    int changes = changes_tick(shard);
    int hands = hands_tick(shard);
    int attended = attended_tick(shard);
    int feel = feel_tick(shard);
    if (feel >= 0 && (wait < 0 || feel < wait))
        wait = feel;
    if (upkeep >= 0 && (wait < 0 || upkeep < wait))
        wait = upkeep;
    if (changes >= 0 && (wait < 0 || changes < wait))
        wait = changes;
    if (hands >= 0 && (wait < 0 || hands < wait))
        wait = hands;
    if (attended >= 0 && (wait < 0 || attended < wait))
        wait = attended;
    /* A request stalled without a commit in flight waits for a segment or for space. */
    bool waits = shard->stalled != NULL || shard->waiting_chores != NULL;
    if (waits && (wait < 0 || wait > 10))
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
    if (shard->running != NULL || shard->chores != NULL) /* begun by a commit, after the turn */
        return true;
    if (shard->stalled != NULL)
        return false; /* nothing is taken before the log has room again */
    for (unsigned f = 0; f < shard->frontends; f++) {
        for (unsigned lane = 0; lane < LANES; lane++) {
            if (ring_ready(&shard->requests[f][lane]))
                return true;
        }
    }
    return false;
}

bool shard_idle(const struct shard *shard)
{
    if (shard->stalled != NULL || shard->running != NULL || shard->chores != NULL ||
        shard->waiting_chores != NULL || shard->histories != 0)
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
        .settings = *options->settings,
        .failed = options->failed,
        .full = options->full,
        .health = options->health,
        .pressure = options->pressure,
        .courier = options->courier,
        .describe = options->describe,
        .frontend = options->frontend,
        .epochs = sim_bug(SIM_BUG_EPOCH_AGAIN) ? 0 : datadir_starts(options->dir) << 32,
        .frontends = datadir_shards(options->dir),
    };
    if (shard->health == NULL)
        shard->health = &shard->unasked;
    shard->has_budgets =
        shard->settings.session_events != 0 || shard->settings.session_log_bytes != 0;
    memcpy(&shard->limits.hash_seed, datadir_hash_key(options->dir),
           sizeof(shard->limits.hash_seed));
    RB_INIT(&shard->tree);
    RB_INIT(&shard->expiries);
    RB_INIT(&shard->expiring);
    RB_INIT(&shard->pins);
    RB_INIT(&shard->forks);
    RB_INIT(&shard->garbage.tree);
    RB_INIT(&shard->changes.tree);
    RB_INIT(&shard->changes.notes);
    TAILQ_INIT(&shard->changes.notes_by_age);
    TAILQ_INIT(&shard->by_use);
    TAILQ_INIT(&shard->hands);
    RB_INIT(&shard->attended);
    RB_INIT(&shard->troubles);
    TAILQ_INIT(&shard->wakes.queue);
    heap_init(&shard->heap);
    int result = recovery_run(shard, options, error, error_size);
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
    if (result == 0)
        attended_begin(shard);
    else
        snprintf(error, error_size, "%s: cannot open the log of shard %u: %s",
                 datadir_path(shard->dir), shard->number, strerror(-result));
    return result;
}

/* Marks a session that shard_stop has been through. */
#define STOP_USED_MS INT64_MAX

/* Snapshots of what is in memory and has something behind its last one. True: all have it. */
static bool shard_stop_snapshots(struct shard *shard)
{
    int64_t until_ns = shard_clock_ns(shard) + SLICE_NS;
    struct session *session;
    while ((session = TAILQ_FIRST(&shard->by_use)) != NULL && session->used_ms != STOP_USED_MS) {
        int result = 0;
        if (session->core != NULL && session->since_bytes != 0 && !session->importing)
            result = snapshot_write(shard, session);
        if (result == -EAGAIN || shard_clock_ns(shard) > until_ns)
            return false;
        session->used_ms = STOP_USED_MS;
        TAILQ_REMOVE(&shard->by_use, session, by_use);
        TAILQ_INSERT_TAIL(&shard->by_use, session, by_use);
    }
    return true;
}

bool shard_stop(struct shard *shard, int64_t grace_left_ms)
{
    enum { GRACE_LEAST_MS = 500 };
    if (*shard->failed != NULL || grace_left_ms < GRACE_LEAST_MS) {
        upkeep_stop(shard);
        shard->stopping = STOP_DONE;
    }
    switch (shard->stopping) {
    case STOP_NOT:
        upkeep_stop(shard);
        shard->stopping = STOP_SNAPSHOTS;
        return false;
    case STOP_SNAPSHOTS:
        if (shard_stop_snapshots(shard))
            shard->stopping = STOP_COMMIT;
        shard_commit(shard);
        return false;
    case STOP_COMMIT:
        if (!log_idle(shard->log) || upkeep_busy(shard))
            return false;
        shard->checkpoint_failed = false;
        checkpoint_begin(shard);
        shard->stopping = STOP_CHECKPOINT;
        return false;
    case STOP_CHECKPOINT:
        if (shard->checkpoint != NULL)
            return false;
        shard->stopped_clean = !shard->checkpoint_failed;
        shard->stopping = STOP_DONE;
        break;
    case STOP_DONE:
        break;
    }
    return !upkeep_busy(shard);
}

bool shard_stopped_clean(const struct shard *shard)
{
    return shard->stopped_clean;
}

void shard_free(struct shard *shard)
{
    if (shard->log != NULL)
        log_close(shard->log);
    upkeep_free(shard);
    checkpoint_free(shard);
    changes_free(shard);
    sessions_free(shard);
    quarantine_free(shard);
    forks_free(shard);
    directory_free(shard);
    for (unsigned b = 0; b < 4; b++)
        free(shard->effects[b].items);
    arena_free(&shard->scratch);
    buf_free(&shard->snapshot);
    commands_free_spare(shard);
    heap_free(&shard->heap);
    free(shard);
}
