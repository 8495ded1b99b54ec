/*
 * follow: feeds, and the frames that go to them.
 *
 * REQUEST_FOLLOW attaches the asking frontend at the seq where the session stands now: every frame
 * of a later event will be delivered. What lies before is the answer: a snapshot of exactly that
 * seq, or the events since the follower's own position, read from the log a piece at a time (the
 * follower asks for the next piece with `until`). So snapshot, history and live join without a
 * gap and without a lock, and how far behind a follower is costs the writer nothing.
 *
 * A frame is encoded once, when its events are applied, if anybody follows.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdlib.h>

/* ---- frames */

static void add_patch(struct buf *out, const struct core_event *event, bool compact)
{
    core_event_head_json(event, out);
    buf_add_literal(out, ",\"ops\":");
    if (compact)
        core_event_patch_compact(event, out);
    else
        core_event_patch(event, out);
    buf_add_byte(out, '}');
}

/* Only a message's compact patch differs from its full one: others stand there once for both. */
static void add_compact(struct frame_item *item, struct buf *out, const struct core_event *event)
{
    if (item->patch_size != 0 && event->type != CORE_MESSAGE_SEND) {
        item->compact_offset = item->patch_offset;
        item->compact_size = item->patch_size;
        return;
    }
    item->compact_offset = (uint32_t)out->n;
    add_patch(out, event, true);
    item->compact_size = (uint32_t)out->n - item->compact_offset;
}

void frame_builder_add(struct frame_builder *builder, unsigned wants,
                       const struct core_event *event, const struct core_session *after)
{
    if (builder->n == builder->cap) {
        builder->cap = builder->cap != 0 ? builder->cap * 2 : 16;
        builder->items = mem_realloc(builder->items, builder->cap * sizeof(*builder->items));
    }
    struct frame_item *item = &builder->items[builder->n++];
    struct buf *out = &builder->bytes;
    *item = (struct frame_item){.seq = event->seq, .window = FRAME_WINDOW_UNKNOWN};
    if (after != NULL && event->type == CORE_MESSAGE_SEND)
        item->window = core_thread_window(after, event->f.thread);
    if (wants & WANTS_PATCHES) {
        item->patch_offset = (uint32_t)out->n;
        add_patch(out, event, false);
        item->patch_size = (uint32_t)out->n - item->patch_offset;
    }
    if (wants & WANTS_COMPACT)
        add_compact(item, out, event);
    if (wants & WANTS_EVENTS) {
        item->event_offset = (uint32_t)out->n;
        core_event_json(event, out);
        item->event_size = (uint32_t)out->n - item->event_offset;
    }
}

struct frame *frame_builder_take(struct frame_builder *builder)
{
    if (builder->n == 0)
        return NULL;
    size_t items_bytes = builder->n * sizeof(*builder->items);
    struct frame *frame = mem_alloc(sizeof(*frame) + items_bytes + builder->bytes.n);
    atomic_init(&frame->references, 1);
    frame->items_n = builder->n;
    frame->items = (struct frame_item *)(frame + 1);
    frame->bytes = (char *)frame->items + items_bytes;
    memcpy(frame->items, builder->items, items_bytes);
    memcpy(frame->bytes, builder->bytes.p, builder->bytes.n);
    frame->first_seq = builder->items[0].seq;
    frame->last_seq = builder->items[builder->n - 1].seq;
    builder->n = 0;
    builder->bytes.n = 0;
    return frame;
}

void frame_builder_free(struct frame_builder *builder)
{
    free(builder->items);
    buf_free(&builder->bytes);
    *builder = (struct frame_builder){0};
}

/* ---- feeds */

unsigned follow_wants(const struct session *session)
{
    unsigned wants = 0;
    for (const struct feed *feed = session->feeds; feed != NULL; feed = feed->next)
        wants |= feed->epoch == session->epoch ? feed->wants : 0u;
    return wants;
}

static void follow_attach(struct session *session, const struct request *request)
{
    struct feed *feed = session->feeds;
    while (feed != NULL && feed->frontend != request->frontend)
        feed = feed->next;
    if (feed == NULL) {
        feed = mem_alloc(sizeof(*feed));
        feed->next = session->feeds;
        feed->frontend = request->frontend;
        session->feeds = feed;
    }
    feed->token = request->feed;
    feed->epoch = session->epoch;
    feed->wants = (uint8_t)request->wants;
}

void follow_end(struct shard *shard, struct session *session, struct request *request)
{
    for (struct feed **at = &session->feeds; *at != NULL;) {
        struct feed *feed = *at;
        if (feed->frontend == request->frontend && feed->token == request->feed) {
            *at = feed->next;
            free(feed);
        } else {
            at = &feed->next;
        }
    }
    shard_reply(shard, request);
}

void follow_ended(struct shard *shard, struct session *session, uint64_t epoch)
{
    for (struct feed **at = &session->feeds; *at != NULL;) {
        struct feed *feed = *at;
        if (feed->epoch == epoch) {
            shard_notify(shard, feed->frontend, feed->token, NOTICE_ENDED);
            *at = feed->next;
            free(feed);
        } else {
            at = &feed->next;
        }
    }
}

/* ---- catching up from the log */

static bool follow_visit(struct history *history, const struct core_event *event, struct str bytes)
{
    (void)bytes;
    struct frame_builder *builder = history->u.frame;
    frame_builder_add(builder, history->request->wants, event, NULL);
    history->request->upto = event->seq;
    return builder->bytes.n < CATCH_UP_BYTES;
}

/* What lies behind the follower is gone: it begins anew with a snapshot. */
static void follow_reset(struct shard *shard, struct session *session, struct request *request)
{
    if (request->frame != NULL)
        frame_release(request->frame);
    request->frame = NULL;
    request->catching_up = false;
    request->until = 0;
    request->stale = "a part of the history behind it is no longer kept";
    follow_begin(shard, session, request);
}

static void follow_read_done(struct history *history, int error)
{
    struct shard *shard = history->shard;
    struct request *request = history->request;
    struct frame_builder *builder = history->u.frame;
    request->frame = frame_builder_take(builder);
    frame_builder_free(builder);
    free(builder);
    if (error == -ENOENT && request->catching_up && !request->events)
        follow_reset(shard, history->session, request);
    else if (error != 0)
        query_gone(shard, history->session, request, NULL, error, history->oldest);
    else
        shard_reply(shard, request);
    history_free(history);
}

static void follow_read(struct shard *shard, struct session *session, struct request *request)
{
    struct str epoch = {session->epoch_text, strlen(session->epoch_text)};
    if ((request->after_epoch.p != NULL && !str_equal(request->after_epoch, epoch)) ||
        request->until > core_session_seq(session->core)) {
        shard_refuse(shard, session, request, CORE_E_UNKNOWN_SESSION, "session",
                     "the session was deleted, and what is asked for with it");
        return;
    }
    if (request->until > session->committed_seq) {
        shard_retry_committed(shard, session, request);
        return;
    }
    struct history *history = history_new(shard, session, request);
    history->after = request->after;
    history->until = request->until;
    history->visit = follow_visit;
    history->done = follow_read_done;
    history->u.frame = mem_alloc(sizeof(*history->u.frame));
    *history->u.frame = (struct frame_builder){0};
    request->upto = request->after;
    history_start(history);
}

/* Why `after` cannot be gone on from, NULL: it can. */
static const char *follow_stale(struct shard *shard, const struct session *session,
                                const struct request *request)
{
    struct str epoch = {session->epoch_text, strlen(session->epoch_text)};
    if (request->stale != NULL)
        return request->stale;
    if (request->after_epoch.p != NULL && !str_equal(request->after_epoch, epoch))
        return "another epoch: the session was deleted and made again, or data was lost";
    if (request->after > core_session_seq(session->core))
        return "a seq that the session has not reached";
    if (request->after != 0 && request->after <= quarantine_doubtful_seq(shard, session))
        return "the session was made anew from its log";
    return NULL;
}

void follow_begin(struct shard *shard, struct session *session, struct request *request)
{
    if (session->core == NULL) {
        shard_refuse_unknown(shard, session, request);
        return;
    }
    for (const struct feed *feed = session->feeds; feed != NULL; feed = feed->next) {
        if (feed->epoch != session->epoch) { /* followers of the life before are told first */
            shard_retry_committed(shard, session, request);
            return;
        }
    }
    commands_stand(session, request);
    if (request->until != 0) {
        follow_read(shard, session, request);
        return;
    }
    follow_attach(session, request);
    request->attached = request->seq;
    if (request->has_known && quarantine_doubtful_seq(shard, session) == 0 &&
        changes_none_since(shard, session, request->known)) {
        request->has_after = true; /* it stands where the session stands */
        request->after = request->attached;
    }
    bool positioned = request->has_after || request->stale != NULL;
    const char *stale = positioned ? follow_stale(shard, session, request) : NULL;
    if (positioned && stale == NULL && request->after < request->attached) {
        request->until = request->attached;
        request->catching_up = true;
        request->after_epoch = arena_copy(&request->arena, core_session_epoch(session->core));
        follow_read(shard, session, request);
        return;
    }
    request->upto = request->attached;
    bool fresh = !positioned && request->wants & (WANTS_PATCHES | WANTS_COMPACT);
    if (stale != NULL || fresh)
        query_envelope(session->core, request, stale, &request->body);
    shard_reply_committed(shard, session, request);
}
