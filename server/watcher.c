#include "server/watcher_internal.h"

#include <stdio.h>
#include <stdlib.h>

const char watcher_other_life[] = "another epoch: the session was deleted and made again";

struct str watcher_session(const struct watcher *watcher)
{
    return feed_id(watcher->feed);
}

struct str watcher_epoch(const struct watcher *watcher)
{
    return feed_epoch(watcher->feed);
}

/* ---- beginning, and falling behind */

void watcher_begin(struct watcher *watcher)
{
    watcher->is_beginning = true;
    TAILQ_INSERT_TAIL(&watcher->frontend->feeds.beginning, watcher, beginning);
}

/* False: there are as many of this session here as may be, and it was told. A companion's are the
 * face's own. */
static bool may_begin(struct watcher *watcher)
{
    const struct feed *feed = watcher->feed;
    uint32_t most = watcher->frontend->feeds.watchers_max;
    struct core_refusal why = {0};
    if (most == 0 || feed->begun_n < most || feed->id[0] == '~')
        return true;
    snprintf(why.detail, sizeof(why.detail),
             "This session has as many watchers here as it may have (max-session-watchers: %u).",
             most);
    feed_leave(watcher);
    watcher->state = WATCHER_BEHIND;
    watcher->ops->refused(watcher, REQUEST_E_TOO_MANY, &why);
    return false;
}

bool feeds_work(struct frontend *frontend)
{
    struct feeds *feeds = &frontend->feeds;
    struct watcher *watcher;
    if (TAILQ_EMPTY(&feeds->beginning))
        return false;
    int64_t until_ns = outlet_clock_ns() + OUTLET_SLICE_NS;
    while ((watcher = TAILQ_FIRST(&feeds->beginning)) != NULL) {
        TAILQ_REMOVE(&feeds->beginning, watcher, beginning);
        watcher->is_beginning = false;
        if (may_begin(watcher)) {
            watcher->shard = watcher->feed->shard;
            watcher->begun = true;
            watcher->feed->begun_n++;
            watcher->ops->begun(watcher);
        }
        if (outlet_clock_ns() > until_ns)
            break;
    }
    return !TAILQ_EMPTY(&feeds->beginning);
}

static void on_retry(struct timer *timer)
{
    struct watcher *watcher = (struct watcher *)((char *)timer - offsetof(struct watcher, retry));
    watcher->ops->ready(watcher);
}

void watcher_ask_later(struct watcher *watcher)
{
    struct frontend *frontend = watcher->frontend;
    watcher->state = WATCHER_BEHIND;
    timers_set(&frontend->timers, &watcher->retry, frontend_now_ms(frontend) + WATCHER_RETRY_MS);
}

void watcher_fall_behind(struct watcher *watcher, const char *why)
{
    feed_leave(watcher);
    watcher->state = WATCHER_BEHIND;
    watcher->target = 0;
    watcher->positioned = true;
    if (watcher->form != WANTS_EVENTS)
        watcher->stale = why;
}

/* What it is to tell next is no longer kept. */
static void fall_too_far_behind(struct watcher *watcher)
{
    watcher_fall_behind(watcher, "the connection takes less than the session gives");
    if (watcher->form != WANTS_EVENTS)
        figure_add(&watcher->frontend->figures->streams_reset, 1);
}

void watcher_begin_life(struct watcher *watcher)
{
    watcher_fall_behind(watcher, watcher_other_life);
    watcher->told = watcher->said = 0;
}

static bool is_slow(const struct watcher *watcher)
{
    const struct feed_frame *newest = watcher->feed->newest;
    return watcher->form != WANTS_EVENTS &&
           (newest->number - watcher->at->number > WATCHER_MERGE_FRAMES ||
            newest->total_bytes - watcher->at->total_bytes > WATCHER_MERGE_BYTES);
}

/* ---- filling */

static void push(struct outlet *outlet, struct chunk *chunk)
{
    outlet_push(outlet, chunk, chunk_text(chunk));
}

/* Frames that follow were lost, or do not come: they are read from the log. */
static void ask_for_rest(struct watcher *watcher)
{
    feed_leave(watcher);
    watcher->state = WATCHER_BEHIND;
    watcher->target = 0;
}

/* All that is kept is told, and that is not all there is. */
static bool lacks_something(const struct watcher *watcher)
{
    const struct feed *feed = watcher->feed;
    return watcher->at->next == NULL && !feed->ended &&
           (!feed->attached || watcher->told < feed->last_seq);
}

static void push_merged(struct watcher *watcher, struct outlet *outlet)
{
    struct chunk *chunk = watcher_merged_text(watcher);
    if (chunk == NULL) {
        ask_for_rest(watcher);
        return;
    }
    feed_stand(watcher, watcher->feed->newest);
    watcher->told = watcher->at->last_seq;
    if (chunk->n != 0) {
        watcher->said = watcher->told;
        figure_add(&watcher->frontend->figures->streams_merged, 1);
    }
    push(outlet, chunk);
}

/* False: what comes next is not to be had here. */
static bool push_next(struct watcher *watcher, struct outlet *outlet)
{
    struct feed_frame *next = watcher->at->next;
    if (next->last_seq > watcher->told) {
        struct chunk *chunk =
            next->first_seq <= watcher->told + 1 ? watcher_shared_text(watcher, next) : NULL;
        if (chunk == NULL)
            return false;
        watcher->told = next->last_seq;
        push(outlet, chunk);
    }
    feed_stand(watcher, next);
    return true;
}

/* What follows its place; it stays LIVE unless that cannot be had. */
static void push_live(struct watcher *watcher, struct outlet *outlet)
{
    if (watcher->at->gone) {
        fall_too_far_behind(watcher);
        return;
    }
    figure_observe(&watcher->frontend->figures->lag_frames,
                   watcher->feed->newest->number - watcher->at->number);
    if (is_slow(watcher))
        push_merged(watcher, outlet);
    while (watcher->state == WATCHER_LIVE && watcher->at->next != NULL && !outlet_full(outlet))
        if (!push_next(watcher, outlet))
            ask_for_rest(watcher);
    if (watcher->state == WATCHER_LIVE && lacks_something(watcher))
        ask_for_rest(watcher);
}

static void push_end(struct watcher *watcher, struct outlet *outlet)
{
    char view[FRAMING_VIEW_BYTES];
    struct framing framing = watcher_framing_of(watcher, view);
    struct buf object = {0};

    buf_add_literal(&object, "{\"epoch\":");
    json_add_string(&object, feed_epoch(watcher->feed));
    buf_add_literal(&object, ",\"seq\":");
    buf_add_u64(&object, watcher->feed->last_seq);
    buf_add_literal(&object, ",\"reason\":\"deleted\"}");
    push(outlet, framing_chunk(&framing, STR("end"), 0, buf_str(&object)));
    buf_free(&object);
    watcher->state = WATCHER_ENDING;
}

static bool is_level(const struct watcher *watcher)
{
    return watcher->state == WATCHER_LIVE && watcher->at->next == NULL && !watcher->at->gone &&
           !lacks_something(watcher);
}

bool watcher_fill(struct watcher *watcher, struct outlet *outlet)
{
    struct feed *feed = watcher->feed;

    if (!watcher->begun || watcher->state == WATCHER_ENDING)
        return false;
    if (watcher->pending != NULL && !outlet_full(outlet)) {
        push(outlet, watcher->pending);
        watcher->pending = NULL;
    }
    if (outlet_full(outlet))
        return true;
    if (watcher->state == WATCHER_LIVE)
        push_live(watcher, outlet);
    if (outlet_full(outlet))
        return true;
    if (feed->ended && watcher->state != WATCHER_ASKING) {
        push_end(watcher, outlet);
        return false;
    }
    if (watcher->state == WATCHER_BEHIND && watcher->retry.place == 0 &&
        !watcher_ask(watcher, feed_epoch(feed)))
        watcher_ask_later(watcher);
    return false;
}

bool watcher_read(struct watcher *watcher, void (*each)(void *ctx, struct str text), void *ctx)
{
    struct outlet basket = {0}; /* of no connection: it only gathers */
    bool more = watcher_fill(watcher, &basket);

    for (uint32_t i = 0; i < basket.pieces_n; i++) {
        each(ctx, basket.pieces[i].text);
        chunk_release(basket.pieces[i].chunk);
    }
    free(basket.pieces);
    return more;
}

bool watcher_ended(const struct watcher *watcher)
{
    return watcher->state == WATCHER_ENDING;
}

bool watcher_level(const struct watcher *watcher)
{
    return watcher->begun && watcher->pending == NULL && is_level(watcher);
}

/* ---- opening and closing */

/* Where the client stands. The epoch of its id lies in `id`. */
static struct str take_position(struct watcher *watcher, const struct watcher_wish *wish)
{
    struct framing_position position;
    char scratch[FRAMING_VIEW_BYTES];
    struct str view = framing_view(watcher->form, watcher->parts, watcher->redaction, scratch);
    bool patches = watcher->form != WANTS_EVENTS;

    watcher->positioned = wish->last_event_id.n != 0 || wish->has_after;
    if (wish->last_event_id.n == 0) {
        watcher->told = watcher->said = wish->has_after ? wish->after : 0;
        return (struct str){0};
    }
    if (!framing_parse_id(wish->last_event_id, &position)) {
        watcher->stale = patches ? "not an id of this stream" : NULL;
        return (struct str){0};
    }
    watcher->told = watcher->said = position.seq;
    if (patches && !str_equal(position.view, view))
        watcher->stale = "an id of another view";
    return position.epoch;
}

/* All that follows its position is in the feed: it is LIVE at once, and has begun a little later,
 * when its owner has it. */
static bool goes_on_from_memory(struct watcher *watcher, struct str epoch)
{
    const struct feed *feed = watcher->feed;

    if (!watcher->positioned || watcher->stale != NULL ||
        (epoch.p != NULL && !str_equal(epoch, feed_epoch(feed))))
        return false;
    if (!feed->attached || (feed->wants & watcher->form) == 0)
        return false;
    struct feed_frame *at = feed_place(feed, watcher->told);
    const struct feed_frame *next = at->next;
    bool follows = next != NULL ? next->first_seq <= watcher->told + 1 &&
                                      watcher_item_text(next->frame, 0, watcher->form).n != 0
                                : watcher->told == feed->last_seq;
    if (!follows)
        return false;
    feed_stand(watcher, at);
    watcher->state = WATCHER_LIVE;
    watcher_begin(watcher);
    return true;
}

static void link_watcher(struct watcher *watcher, struct feed *feed)
{
    watcher->feed = feed;
    watcher->next = feed->watchers;
    if (feed->watchers != NULL)
        feed->watchers->previous = watcher;
    feed->watchers = watcher;
}

bool watcher_open(struct watcher *watcher, struct frontend *frontend,
                  const struct watcher_wish *wish, const struct watcher_ops *ops, void *owner)
{
    *watcher = (struct watcher){
        .ops = ops,
        .owner = owner,
        .frontend = frontend,
        .types = wish->types,
        .form = (uint8_t)wish->form,
        .framing = (uint8_t)wish->framing,
        .redaction = wish->redaction,
        .known = wish->known,
        .has_known = wish->has_known,
        .retry.fire = on_retry,
    };
    if (wish->parts != NULL)
        watcher->parts = core_parts_copy(wish->parts, mem_alloc(core_parts_bytes(wish->parts)));
    link_watcher(watcher, feed_find_or_make(frontend, wish->session));
    struct str epoch = take_position(watcher, wish);
    if (goes_on_from_memory(watcher, epoch))
        return true;
    watcher->feed->wants |= watcher->form;
    if (watcher_ask(watcher, epoch))
        return true;
    watcher_close(watcher);
    return false;
}

void watcher_close(struct watcher *watcher)
{
    struct frontend *frontend = watcher->frontend;
    struct feed *feed = watcher->feed;

    timers_clear(&frontend->timers, &watcher->retry);
    if (watcher->is_beginning)
        TAILQ_REMOVE(&frontend->feeds.beginning, watcher, beginning);
    if (watcher->ask != NULL)
        watcher_ask_leave(watcher);
    feed->begun_n -= watcher->begun;
    feed_leave(watcher);
    if (watcher->pending != NULL)
        chunk_release(watcher->pending);
    if (watcher->previous != NULL)
        watcher->previous->next = watcher->next;
    else
        feed->watchers = watcher->next;
    if (watcher->next != NULL)
        watcher->next->previous = watcher->previous;
    free(watcher->parts);
    feed_drop_if_idle(frontend, feed);
}
