#include "server/watcher_internal.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FEED_BUCKETS_MIN = 64 };

/* ---- a feed's frames */

static void release_texts(struct feed_frame *at)
{
    for (struct chunk *chunk = at->texts, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        chunk_release(chunk);
    }
    at->texts = NULL;
}

static void empty_frame(struct feed_frame *at)
{
    release_texts(at);
    if (at->frame != NULL)
        frame_release(at->frame);
    at->frame = NULL;
}

/* They end at the newest frame, so the next one makes them useless. */
static void drop_merged(struct feed *feed)
{
    for (unsigned i = 0; i < FEED_MERGED; i++) {
        if (feed->merged[i].chunk != NULL)
            chunk_release(feed->merged[i].chunk);
        feed->merged[i] = (struct feed_merged){0};
    }
}

static size_t bytes_of(const struct frame *frame)
{
    const struct frame_item *last = &frame->items[frame->items_n - 1];
    size_t patch = last->patch_offset + last->patch_size;
    size_t event = last->event_offset + last->event_size;
    size_t compact = last->compact_offset + last->compact_size;
    size_t bytes = patch > event ? patch : event;
    return bytes > compact ? bytes : compact;
}

static struct feed_frame *frame_new(const struct feed_frame *before, struct frame *frame)
{
    struct feed_frame *made = mem_alloc(sizeof(*made));
    *made = (struct feed_frame){.frame = frame};
    if (before != NULL) {
        made->number = before->number + 1;
        made->total_bytes = before->total_bytes + bytes_of(frame);
        made->first_seq = frame->first_seq;
        made->last_seq = frame->last_seq;
    }
    return made;
}

static bool keeps_more_than(const struct feed *feed, uint32_t frames, size_t bytes)
{
    return feed->oldest != feed->newest &&
           (feed->frames_n > frames ||
            feed->newest->total_bytes - feed->oldest->total_bytes > bytes);
}

/* The one behind it is only a place then: what it held has been told to all who are kept. */
static void drop_oldest(struct feed *feed)
{
    struct feed_frame *at = feed->oldest;
    feed->oldest = at->next;
    feed->frames_n--;
    empty_frame(feed->oldest);
    if (at->standing != 0) {
        at->gone = true;
        at->next = NULL;
    } else {
        free(at);
    }
}

/* Lets go of what nobody needs, and of what only the slowest still need. Whoever is asking may need
 * all that comes meanwhile. */
static void feed_trim(struct feed *feed)
{
    while (feed->asks == NULL && feed->oldest->standing == 0 &&
           keeps_more_than(feed, FEED_RECENT_FRAMES, FEED_RECENT_BYTES))
        drop_oldest(feed);
    while (feed->oldest->next != feed->newest &&
           keeps_more_than(feed, FEED_KEEP_FRAMES, FEED_KEEP_BYTES))
        drop_oldest(feed);
}

void feed_leave(struct watcher *watcher)
{
    struct feed *feed = watcher->feed;
    struct feed_frame *at = watcher->at;
    watcher->at = NULL;
    if (at == NULL || --at->standing != 0)
        return;
    if (at->gone)
        free(at);
    else if (at == feed->oldest)
        feed_trim(feed);
}

void feed_stand(struct watcher *watcher, struct feed_frame *at)
{
    at->standing++; /* before the other is left: that may let go of frames */
    feed_leave(watcher);
    watcher->at = at;
}

struct feed_frame *feed_place(const struct feed *feed, uint64_t seq)
{
    struct feed_frame *at = feed->oldest;
    while (at->next != NULL && at->next->last_seq <= seq)
        at = at->next;
    return at;
}

/* ---- feeds */

static uint64_t feed_hash(const struct frontend *frontend, struct str id)
{
    return XXH3_64bits_withSeed(id.p, id.n, frontend->shared->limits->hash_seed);
}

static void feeds_grow(struct feeds *feeds)
{
    uint32_t n = feeds->buckets_n == 0 ? FEED_BUCKETS_MIN : feeds->buckets_n * 2;
    struct feed **buckets = mem_alloc(n * sizeof(struct feed *));

    memset(buckets, 0, n * sizeof(struct feed *));
    for (uint32_t i = 0; i < feeds->buckets_n; i++) {
        for (struct feed *feed = feeds->buckets[i], *next; feed != NULL; feed = next) {
            next = feed->next;
            feed->next = buckets[feed->hash & (n - 1)];
            buckets[feed->hash & (n - 1)] = feed;
        }
    }
    free(feeds->buckets);
    feeds->buckets = buckets;
    feeds->buckets_n = n;
}

struct feed *feed_find_or_make(struct frontend *frontend, struct str id)
{
    struct feeds *feeds = &frontend->feeds;
    uint64_t hash = feed_hash(frontend, id);

    if (feeds->feeds_n >= feeds->buckets_n)
        feeds_grow(feeds);
    struct feed **bucket = &feeds->buckets[hash & (feeds->buckets_n - 1)];
    for (struct feed *feed = *bucket; feed != NULL; feed = feed->next)
        if (feed->hash == hash && str_equal(feed_id(feed), id))
            return feed;
    struct feed *feed = mem_alloc(sizeof(*feed));
    *feed = (struct feed){.next = *bucket, .hash = hash, .id_n = (uint8_t)id.n};
    memcpy(feed->id, id.p, id.n);
    feed->token = slots_add(&feeds->tokens, feed);
    feed->oldest = feed->newest = frame_new(NULL, NULL);
    *bucket = feed;
    feeds->feeds_n++;
    return feed;
}

/* Takes it out of its bucket, so that nobody finds it any more. */
static void feed_unlink(struct feeds *feeds, struct feed *feed)
{
    struct feed **at = &feeds->buckets[feed->hash & (feeds->buckets_n - 1)];
    while (*at != feed)
        at = &(*at)->next;
    *at = feed->next;
    feeds->feeds_n--;
}

static void feed_free(struct feed *feed)
{
    while (feed->oldest != NULL) {
        struct feed_frame *at = feed->oldest;
        feed->oldest = at->next;
        empty_frame(at);
        free(at);
    }
    drop_merged(feed);
    free(feed);
}

void feed_drop_if_idle(struct frontend *frontend, struct feed *feed)
{
    if (feed->watchers != NULL || feed->asks != NULL)
        return;
    if (!feed->ended || feed->attached) {
        struct request *request = request_new();
        request->kind = REQUEST_UNFOLLOW;
        request->session = arena_copy(&request->arena, feed_id(feed));
        request->feed = feed->token;
        outbox_send(&frontend->outbox, frontend->mailbox, request);
    }
    if (!feed->ended)
        feed_unlink(&frontend->feeds, feed);
    slots_remove(&frontend->feeds.tokens, feed->token);
    feed_free(feed);
}

void feeds_init(struct feeds *feeds)
{
    *feeds = (struct feeds){0};
    TAILQ_INIT(&feeds->beginning);
}

void feeds_free(struct feeds *feeds)
{
    for (uint32_t i = 0; i < feeds->asks.n; i++)
        free(slots_at(&feeds->asks, i));
    for (uint32_t i = 0; i < feeds->tokens.n; i++)
        if (slots_at(&feeds->tokens, i) != NULL)
            feed_free(slots_at(&feeds->tokens, i));
    free(feeds->buckets);
    slots_free(&feeds->tokens);
    slots_free(&feeds->asks);
    feeds_init(feeds);
}

static void tell_all(struct feed *feed)
{
    for (struct watcher *watcher = feed->watchers, *next; watcher != NULL; watcher = next) {
        next = watcher->next;
        if (watcher->begun && watcher->state != WATCHER_ASKING)
            watcher->ops->ready(watcher);
    }
}

void feed_end(struct frontend *frontend, struct feed *feed)
{
    if (feed->ended)
        return;
    feed->ended = true;
    feed->attached = false;
    feed_unlink(&frontend->feeds, feed);
    tell_all(feed);
}

void feed_begin_life(struct feed *feed)
{
    struct feed_frame *made = frame_new(NULL, NULL);
    made->number = feed->newest->number + 1;
    made->total_bytes = feed->newest->total_bytes;
    feed->newest->next = made;
    feed->newest = made;
    feed->frames_n++;
    feed->last_seq = 0;
    while (feed->oldest != made)
        drop_oldest(feed);
    drop_merged(feed);
    for (struct watcher *watcher = feed->watchers; watcher != NULL; watcher = watcher->next)
        if (watcher->state != WATCHER_ASKING)
            watcher_begin_life(watcher);
    tell_all(feed);
}

/* ---- frames and notices */

void feeds_on_frame(struct frontend *frontend, uint64_t token, struct frame *frame)
{
    struct feed *feed = slots_find(&frontend->feeds.tokens, token);

    if (feed == NULL || feed->ended || frame->last_seq <= feed->newest->last_seq) {
        frame_release(frame);
        return;
    }
    drop_merged(feed);
    feed->newest->next = frame_new(feed->newest, frame);
    feed->newest = feed->newest->next;
    feed->frames_n++;
    if (feed->last_seq < frame->last_seq)
        feed->last_seq = frame->last_seq;
    feed_trim(feed);
    tell_all(feed);
}

void feeds_on_notice(struct frontend *frontend, uint64_t token, enum mailbox_notice notice)
{
    struct feed *feed = slots_find(&frontend->feeds.tokens, token);

    if (feed == NULL)
        return;
    if (notice == NOTICE_LOST)
        watcher_feed_lost(feed);
    if (notice == NOTICE_ENDED)
        feed_end(frontend, feed);
    else
        tell_all(feed);
}
