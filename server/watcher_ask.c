#include "server/redact.h"
#include "server/watcher_internal.h"

#include <stdlib.h>

/* A question that is at the shard, and who waits for its answer. */
struct feed_ask {
    struct feed_ask *next;
    struct feed *feed;
    uint64_t token;
    struct watcher *watchers;
    unsigned form;
    const struct core_parts *parts; /* the first watcher's; good while there is one */
    const char *stale;
    bool has_after, has_known;
    bool lost;     /* frames behind its answer did not come */
    bool answered; /* nobody joins it any more */
    uint64_t after, until, known;
    uint8_t epoch_n;
    char epoch[CORE_EPOCH_BYTES]; /* that `after` speaks of */
};

static bool parts_equal(const struct core_parts *a, const struct core_parts *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!str_equal(a->items[i], b->items[i]))
            return false;
    return true;
}

/* ---- asking */

/* What a watcher has to ask for now. `epoch`: that its position speaks of; p == NULL: the one there
 * is. */
static struct feed_ask question_of(const struct watcher *watcher, struct str epoch)
{
    struct feed_ask ask = {.feed = watcher->feed,
                           .form = watcher->form,
                           .parts = watcher->parts,
                           .stale = watcher->stale,
                           .has_after = watcher->positioned,
                           .has_known = watcher->has_known,
                           .known = watcher->known};
    if (watcher->positioned && watcher->stale == NULL) {
        ask.after = watcher->told;
        ask.until = watcher->target > watcher->told ? watcher->target : 0;
        ask.epoch_n = (uint8_t)epoch.n;
        memcpy(ask.epoch, epoch.p != NULL ? epoch.p : "", epoch.n);
    }
    return ask;
}

static bool same_question(const struct feed_ask *a, const struct feed_ask *b)
{
    return a->form == b->form && a->stale == b->stale && a->has_after == b->has_after &&
           a->after == b->after && a->until == b->until && a->has_known == b->has_known &&
           a->known == b->known && a->epoch_n == b->epoch_n &&
           memcmp(a->epoch, b->epoch, a->epoch_n) == 0 && parts_equal(a->parts, b->parts);
}

static struct request *request_of(const struct feed_ask *ask)
{
    struct request *request = request_new();
    request->kind = REQUEST_FOLLOW;
    request->session = arena_copy(&request->arena, feed_id(ask->feed));
    request->feed = ask->feed->token;
    request->token = ask->token;
    request->wants = ask->feed->wants;
    request->stale = ask->stale;
    request->has_after = ask->has_after;
    request->after = ask->after;
    request->until = ask->until;
    request->has_known = ask->has_known;
    request->known = ask->known;
    if (ask->epoch_n != 0)
        request->after_epoch = arena_copy(&request->arena, (struct str){ask->epoch, ask->epoch_n});
    request->events = ask->form == WANTS_EVENTS;
    request->compact = ask->form == WANTS_COMPACT;
    if (ask->parts != NULL)
        request->parts =
            core_parts_copy(ask->parts, arena_alloc(&request->arena, core_parts_bytes(ask->parts)));
    return request;
}

static void join_ask(struct watcher *watcher, struct feed_ask *ask)
{
    watcher->ask = ask;
    watcher->state = WATCHER_ASKING;
    watcher->next_asking = ask->watchers;
    ask->watchers = watcher;
}

bool watcher_ask(struct watcher *watcher, struct str epoch)
{
    struct frontend *frontend = watcher->frontend;
    struct feed *feed = watcher->feed;
    struct feed_ask question = question_of(watcher, epoch);

    for (struct feed_ask *other = feed->asks; other != NULL; other = other->next) {
        if (other->watchers != NULL && !other->answered && same_question(other, &question)) {
            join_ask(watcher, other);
            return true;
        }
    }
    struct feed_ask *made = mem_alloc(sizeof(*made));
    *made = question;
    made->token = slots_add(&frontend->feeds.asks, made);
    struct request *request = request_of(made);
    if (mailbox_send(frontend->mailbox, request) != 0) {
        request_free(request);
        slots_remove(&frontend->feeds.asks, made->token);
        free(made);
        return false;
    }
    made->next = feed->asks;
    feed->asks = made;
    join_ask(watcher, made);
    return true;
}

void watcher_ask_leave(struct watcher *watcher)
{
    struct watcher **at = &watcher->ask->watchers;
    while (*at != watcher)
        at = &(*at)->next_asking;
    *at = watcher->next_asking;
    watcher->ask->parts = watcher->ask->watchers != NULL ? watcher->ask->watchers->parts : NULL;
    watcher->ask = NULL;
}

/* ---- replies */

/* The text of an answer for one watcher; of those who want the same, all but the first get the
 * first one's. */
struct answer_texts {
    struct chunk *chunks[FRAMING_COUNT];
};

/* Those who ask the same may have different things hidden from them. */
static struct chunk *redacted_snapshot(const struct watcher *watcher, const struct request *request)
{
    char view[FRAMING_VIEW_BYTES];
    struct framing framing = watcher_framing_of(watcher, view);
    struct buf body = {0};
    redact_envelope(watcher->redaction, buf_str(&request->body), &body);
    struct chunk *chunk = framing_chunk(&framing, STR("snapshot"), request->seq, buf_str(&body));
    buf_free(&body);
    return chunk;
}

static struct chunk *snapshot_for(struct watcher *watcher, const struct request *request,
                                  struct answer_texts *texts)
{
    char view[FRAMING_VIEW_BYTES];
    struct framing framing = watcher_framing_of(watcher, view);
    struct chunk **text = &texts->chunks[watcher->framing];
    watcher->told = watcher->said = request->seq;
    watcher->stale = NULL;
    if (watcher->redaction != NULL)
        return redacted_snapshot(watcher, request);
    if (*text == NULL)
        *text = framing_chunk(&framing, STR("snapshot"), request->seq, buf_str(&request->body));
    return chunk_hold(*text);
}

/* What was read from the log. NULL: it joins on to nothing. */
static struct chunk *piece_for(struct watcher *watcher, const struct request *request,
                               struct answer_texts *texts)
{
    const struct frame *frame = request->frame;
    struct chunk **text = &texts->chunks[watcher->framing];
    bool shared = watcher_shares(watcher);

    if (frame->first_seq != watcher->told + 1)
        return NULL;
    struct chunk *chunk =
        shared && *text != NULL ? chunk_hold(*text) : watcher_text(watcher, frame);
    if (chunk == NULL)
        return NULL;
    if (shared && *text == NULL)
        *text = chunk_hold(chunk);
    watcher->told = frame->last_seq;
    if (watcher->parts == NULL)
        watcher->said = watcher->told;
    return chunk;
}

/* What the answer says, into `pending`. False: it joins on to nothing. */
static bool take_answer(struct watcher *watcher, const struct request *request,
                        struct answer_texts *texts)
{
    struct str epoch = feed_epoch(watcher->feed);

    assert(watcher->pending == NULL);
    if (request->body.n != 0 && watcher->form != WANTS_EVENTS) {
        watcher->pending = snapshot_for(watcher, request, texts);
    } else if (request->body.n != 0 && watcher->positioned) {
        /* All of another life is told; a seq that this one has not reached yet is waited for. */
        if (request->after_epoch.p != NULL && !str_equal(request->after_epoch, epoch))
            watcher->told = 0;
    } else if (!watcher->positioned) {
        watcher->told = watcher->said = request->attached;
    } else if (request->frame != NULL) {
        watcher->pending = piece_for(watcher, request, texts);
        return watcher->pending != NULL;
    }
    return true;
}

static void answer(struct watcher *watcher, const struct request *request, bool attached,
                   struct answer_texts *texts)
{
    if (attached) {
        watcher->target = request->attached;
        /* Frames of what follows may have come before the answer, where that was read. */
        feed_stand(watcher, feed_place(watcher->feed, request->attached));
    }
    bool joined = take_answer(watcher, request, texts);
    watcher->positioned = true;
    watcher->has_known = false;
    if (!joined)
        watcher_fall_behind(watcher, "a part of the history behind it could not be read");
    else if (watcher->told < watcher->target)
        watcher->state = WATCHER_BEHIND; /* the next piece when this one is out */
    else
        watcher->state = WATCHER_LIVE;
    if (!watcher->begun)
        watcher_begin(watcher);
    else
        watcher->ops->ready(watcher);
}

static void refuse(struct watcher *watcher, const struct request *request, bool attaching)
{
    struct feed *feed = watcher->feed;
    bool unknown = request->error == CORE_E_UNKNOWN_SESSION;

    if (!watcher->begun) {
        watcher->state = WATCHER_BEHIND;
        watcher->ops->refused(watcher, request->error, &request->refusal);
    } else if (unknown) {
        /* A piece of a life that is over: where there is another one the next question tells. */
        if (attaching)
            feed_end(watcher->frontend, feed);
        watcher->state = WATCHER_BEHIND;
        watcher->target = 0;
        watcher->ops->ready(watcher);
    } else if (request->error == REQUEST_E_GONE && watcher->form == WANTS_EVENTS) {
        watcher->state = WATCHER_BEHIND;
        watcher->ops->refused(watcher, request->error, &request->refusal);
    } else if (request->error == REQUEST_E_GONE) {
        watcher_fall_behind(watcher, "a part of the history behind it is no longer kept");
        watcher->ops->ready(watcher);
    } else {
        watcher_ask_later(watcher);
    }
}

static void ask_unlink(struct feed_ask *done)
{
    struct feed_ask **at = &done->feed->asks;
    while (*at != done)
        at = &(*at)->next;
    *at = done->next;
}

/* A piece of a life that the feed is no longer of. */
static bool is_of_another_life(const struct feed_ask *done)
{
    return done->until != 0 &&
           !str_equal((struct str){done->epoch, done->epoch_n}, feed_epoch(done->feed));
}

/* It was lost, and is of another life than the feed is of by now: whoever asked asks again. */
static bool is_overtaken(const struct feed_ask *done, const struct request *request)
{
    const struct feed *feed = done->feed;
    struct str epoch = {request->epoch, strlen(request->epoch)};
    return done->until == 0 && done->lost && epoch.n != 0 && feed->epoch_n != 0 &&
           !str_equal(epoch, feed_epoch(feed));
}

/* Of a life that the feed is no longer of. */
static void begin_again(struct watcher *watcher, const struct feed_ask *done)
{
    static const struct core_refusal why = {.detail = "The session was made again; try again."};
    if (watcher->begun) {
        watcher_begin_life(watcher);
        watcher->ops->ready(watcher);
    } else if (!watcher_ask(watcher, (struct str){done->epoch, done->epoch_n})) {
        watcher->state = WATCHER_BEHIND;
        watcher->ops->refused(watcher, REQUEST_E_OVERLOADED, &why);
    }
}

void watcher_feed_lost(struct feed *feed)
{
    feed->attached = false;
    if (feed->epoch_n == 0)
        feed_begin_life(feed); /* whose frames they are nobody knows */
    for (struct feed_ask *ask = feed->asks; ask != NULL; ask = ask->next)
        ask->lost = true;
}

static void take_attached(struct feed *feed, const struct request *request)
{
    size_t n = strlen(request->epoch);
    if (feed->epoch_n != 0 && !str_equal(feed_epoch(feed), (struct str){request->epoch, n}))
        feed_begin_life(feed);
    feed->epoch_n = (uint8_t)n;
    memcpy(feed->epoch, request->epoch, n);
    feed->shard = request->shard;
    if (feed->last_seq < request->attached)
        feed->last_seq = request->attached;
}

/* The session has been made again behind the end that this feed was told of. */
static void refuse_late(struct request *request)
{
    request->error = CORE_E_UNKNOWN_SESSION;
    request->refusal = (struct core_refusal){
        .code = CORE_E_UNKNOWN_SESSION, .field = "session", .detail = "The session was deleted."};
}

void feeds_on_reply(struct frontend *frontend, struct request *request)
{
    struct feed_ask *done = slots_find(&frontend->feeds.asks, request->token);
    struct feed *feed = done->feed;
    struct answer_texts texts = {0};
    bool other_life = is_of_another_life(done) || is_overtaken(done, request);
    bool attached = request->error == 0 && done->until == 0;

    slots_remove(&frontend->feeds.asks, done->token);
    done->answered = true;
    if (attached && !other_life) {
        feed->attached = feed->attached || !done->lost;
        if (feed->ended)
            refuse_late(request);
        else
            take_attached(feed, request);
    }
    while (done->watchers != NULL) {
        struct watcher *watcher = done->watchers;
        watcher_ask_leave(watcher);
        if (other_life) {
            begin_again(watcher, done);
        } else if (request->error != 0) {
            refuse(watcher, request, done->until == 0);
        } else {
            answer(watcher, request, attached, &texts);
        }
    }
    for (unsigned i = 0; i < FRAMING_COUNT; i++)
        if (texts.chunks[i] != NULL)
            chunk_release(texts.chunks[i]);
    ask_unlink(done);
    free(done);
    feed_drop_if_idle(frontend, feed);
    request_free(request);
}
