#include "server/watcher_internal.h"

#include <stdlib.h>

struct framing watcher_framing_of(const struct watcher *watcher, char view[FRAMING_VIEW_BYTES])
{
    return (struct framing){
        .kind = (enum watcher_framing)watcher->framing,
        .session = feed_id(watcher->feed),
        .epoch = feed_epoch(watcher->feed),
        .view = framing_view(watcher->form, watcher->parts, watcher->redaction, view),
    };
}

struct str watcher_item_text(const struct frame *frame, uint32_t i, unsigned form)
{
    const struct frame_item *item = &frame->items[i];
    if (form == WANTS_PATCHES)
        return (struct str){frame->bytes + item->patch_offset, item->patch_size};
    if (form == WANTS_COMPACT)
        return (struct str){frame->bytes + item->compact_offset, item->compact_size};
    return (struct str){frame->bytes + item->event_offset, item->event_size};
}

/* The type in an event's JSON, which begins {"seq":…,"ts":"…","type":"…". */
static bool has_type(struct str json, uint32_t types)
{
    enum { SEARCH_BYTES = 96 };
    static const char key[] = "\"type\":\"";
    size_t n = json.n < SEARCH_BYTES ? json.n : SEARCH_BYTES;
    const char *p = memmem(json.p, n, key, sizeof(key) - 1);

    if (p == NULL)
        return false;
    p += sizeof(key) - 1;
    const char *end = memchr(p, '"', (size_t)(json.p + json.n - p));
    if (end == NULL)
        return false;
    return (types >> core_type_of_event((struct str){p, (size_t)(end - p)}) & 1) != 0;
}

static bool is_wanted(const struct watcher *watcher, struct str json)
{
    return watcher->types == 0 || has_type(json, watcher->types);
}

static struct str event_name(const struct watcher *watcher)
{
    return watcher->form == WANTS_EVENTS ? STR("event") : STR("patch");
}

/* The events of a frame after `after`, each as it is. NULL: it is not encoded in the watcher's
 * form. */
static struct chunk *text_of_frame(const struct watcher *watcher, const struct frame *frame,
                                   uint64_t after)
{
    char view[FRAMING_VIEW_BYTES];
    struct framing framing = watcher_framing_of(watcher, view);
    size_t overhead = framing_overhead(&framing), room = 0;

    for (uint32_t i = 0; i < frame->items_n; i++) {
        size_t n = watcher_item_text(frame, i, watcher->form).n;
        if (n == 0)
            return NULL;
        room += n + overhead;
    }
    struct chunk *chunk = chunk_new(room);
    char *p = chunk->p;
    for (uint32_t i = 0; i < frame->items_n; i++) {
        struct str json = watcher_item_text(frame, i, watcher->form);
        uint64_t seq = frame->items[i].seq;
        if (seq > after && is_wanted(watcher, json))
            p = framing_add(p, &framing, event_name(watcher), seq, json);
    }
    chunk->n = (size_t)(p - chunk->p);
    return chunk;
}

static struct chunk *text_of_composed(const struct watcher *watcher, const struct composed *from)
{
    char view[FRAMING_VIEW_BYTES];
    struct framing framing = watcher_framing_of(watcher, view);
    struct chunk *chunk = chunk_new(from->bytes.n + from->n * framing_overhead(&framing));
    char *p = chunk->p;
    size_t begin = 0;

    for (uint32_t i = 0; i < from->n; i++) {
        struct str json = {from->bytes.p + begin, from->items[i].end - begin};
        if (is_wanted(watcher, json))
            p = framing_add(p, &framing, event_name(watcher), from->items[i].seq, json);
        begin = from->items[i].end;
    }
    chunk->n = (size_t)(p - chunk->p);
    return chunk;
}

struct chunk *watcher_text(struct watcher *watcher, const struct frame *frame)
{
    struct composed *scratch = &watcher->frontend->composed;
    bool composed;
    if (watcher->parts == NULL && watcher->redaction == NULL) {
        struct chunk *chunk = text_of_frame(watcher, frame, watcher->told);
        if (chunk != NULL)
            watcher->said = frame->last_seq;
        return chunk;
    }
    composed_clear(scratch);
    if (watcher->form == WANTS_EVENTS)
        composed = compose_events(frame, watcher->told, watcher->redaction, scratch);
    else
        composed = compose_narrow(frame, watcher->told, watcher->form, watcher->parts,
                                  watcher->redaction, &watcher->said, scratch);
    if (!composed)
        return NULL;
    if (watcher->parts == NULL)
        watcher->said = frame->last_seq;
    return text_of_composed(watcher, scratch);
}

bool watcher_shares(const struct watcher *watcher)
{
    return watcher->parts == NULL && watcher->redaction == NULL && watcher->types == 0;
}

struct chunk *watcher_shared_text(struct watcher *watcher, struct feed_frame *at)
{
    uint32_t form = (uint32_t)watcher->framing << 8 | watcher->form;
    if (!watcher_shares(watcher) || at->first_seq <= watcher->told)
        return watcher_text(watcher, at->frame);
    for (struct chunk *chunk = at->texts; chunk != NULL; chunk = chunk->next) {
        if (chunk->form == form) {
            watcher->said = at->last_seq;
            return chunk_hold(chunk);
        }
    }
    struct chunk *chunk = watcher_text(watcher, at->frame);
    if (chunk == NULL)
        return NULL;
    chunk->form = form;
    chunk->next = at->texts;
    at->texts = chunk;
    return chunk_hold(chunk);
}

/* ---- merging */

static struct chunk *find_merged(const struct watcher *watcher, uint32_t form, uint64_t upto)
{
    for (unsigned i = 0; i < FEED_MERGED; i++) {
        const struct feed_merged *merged = &watcher->feed->merged[i];
        if (merged->chunk != NULL && merged->chunk->form == form &&
            merged->after == watcher->told && merged->upto == upto)
            return chunk_hold(merged->chunk);
    }
    return NULL;
}

static void keep_merged(const struct watcher *watcher, struct chunk *chunk, uint64_t upto)
{
    struct feed *feed = watcher->feed;
    struct feed_merged *merged = &feed->merged[feed->merged_next++ % FEED_MERGED];
    if (merged->chunk != NULL)
        chunk_release(merged->chunk);
    *merged =
        (struct feed_merged){.chunk = chunk_hold(chunk), .after = watcher->told, .upto = upto};
}

struct chunk *watcher_merged_text(struct watcher *watcher)
{
    struct feed *feed = watcher->feed;
    struct composed *scratch = &watcher->frontend->composed;
    uint32_t form = (uint32_t)watcher->framing << 8 | watcher->form, n = 0;
    uint64_t after = watcher->parts != NULL ? watcher->said : watcher->told;

    bool shares = watcher_shares(watcher);

    struct chunk *chunk = shares ? find_merged(watcher, form, feed->newest->last_seq) : NULL;
    if (chunk != NULL)
        return chunk;
    const struct frame **frames =
        mem_alloc((size_t)(feed->newest->number - watcher->at->number) * sizeof(*frames));
    for (const struct feed_frame *at = watcher->at->next; at != NULL; at = at->next) {
        if (at->last_seq <= watcher->told)
            continue;
        if (at->first_seq > (n == 0 ? watcher->told : frames[n - 1]->last_seq) + 1)
            break;
        frames[n++] = at->frame;
    }
    composed_clear(scratch);
    bool whole =
        n != 0 && frames[n - 1] == feed->newest->frame &&
        compose_merge(frames, n, after, watcher->form, watcher->parts, watcher->redaction, scratch);
    free(frames);
    if (!whole)
        return NULL;
    chunk = text_of_composed(watcher, scratch);
    chunk->form = form;
    if (shares)
        keep_merged(watcher, chunk, feed->newest->last_seq);
    return chunk;
}
