/*
 * What may be dropped of a run of patches, and why the fold stays the same.
 *
 * The operations that events have (each slice's `patch` in core/):
 *
 *     replace  /<member>, /agents/<a>/<member>, /threads/<t>/<member>: of plain values, of which no
 *              operation reaches the inside; /threads/<t>/participants/<a>, likewise
 *     replace  /threads/<t>/messages, once: with [], when the thread is closed
 *     add      /labels/<k>, /agents/<a>, /agents/<a>/labels/<k>, /threads/<t> (with no messages),
 *              /threads/<t>/participants/<a>; /threads/<t>/messages/-
 *     remove   all of these but threads; /threads/<t>/messages/0
 *
 * None reads a value, none moves one, and whether an operation can be done depends only on what
 * there is, not on what it holds.
 *
 * Replaced values. A replace of a value with no inside changes nothing but this value: what there
 * is stays. If the same path is replaced again later in the run, the value is that one, or, where
 * it went with its agent or participant in between, it was gone before. So of all replaces of a
 * path the last one does, at its own place: up to there the path exists whenever it did before.
 *
 * Messages. Nothing but the operations on a thread's messages reaches into them, so for these only
 * their own order matters. They are a queue: messages are added behind, and leave in front. With c
 * of them at the end and a added in the run, and c <= a, the queue holds the last c of those that
 * were added, whatever it held before: all operations become one replace of the whole, at the place
 * of the last. c is known where a frame says it, or the thread was made or closed in the run, and
 * from then on by counting. Where it is not, or is more than a, every added message counts, and all
 * is kept.
 *
 * With parts, operations are left out by path before that. A thread's messages are shown or not as
 * a whole, so counting goes by what is left.
 *
 * Time is linear in the text and memory in the number of operations, which the frames bound.
 */
#include "server/compose.h"

#include "server/patch_text.h"
#include "server/redact.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FIRST_CAP = 64 };

#define NONE UINT32_MAX

/* ---- reading patches */

static struct str patch_of(const struct frame *frame, const struct frame_item *item, unsigned view)
{
    if (view == WANTS_COMPACT)
        return (struct str){frame->bytes + item->compact_offset, item->compact_size};
    return (struct str){frame->bytes + item->patch_offset, item->patch_size};
}

static bool has_form(const struct frame *frame, uint64_t after, unsigned view)
{
    for (uint32_t i = 0; i < frame->items_n; i++)
        if (frame->items[i].seq > after && patch_of(frame, &frame->items[i], view).n == 0)
            return false;
    return true;
}

/* ---- parts as they stand in a patch */

/* Only labels' keys can have such. */
static bool needs_escape(const struct core_parts *parts)
{
    for (uint32_t i = 0; i < parts->n; i++)
        for (size_t k = 0; k < parts->items[i].n; k++) {
            char c = parts->items[i].p[k];
            if (c == '"' || c == '\\' || (unsigned char)c < 0x20)
                return true;
        }
    return false;
}

/* Paths in patches are JSON strings, so parts are compared in that form. */
static const struct core_parts *escape_parts(const struct core_parts *parts, struct arena *arena)
{
    if (parts == NULL || !needs_escape(parts))
        return parts;
    struct buf text = {0};
    struct core_parts *escaped =
        arena_alloc(arena, sizeof(*escaped) + parts->n * sizeof(struct str));
    escaped->n = parts->n;
    for (uint32_t i = 0; i < parts->n; i++) {
        text.n = 0;
        json_add_string(&text, parts->items[i]);
        escaped->items[i] = arena_copy(arena, (struct str){text.p + 1, text.n - 2});
    }
    buf_free(&text);
    return escaped;
}

/* ---- what comes out */

void composed_clear(struct composed *out)
{
    out->bytes.n = 0;
    out->n = 0;
}

void composed_free(struct composed *out)
{
    buf_free(&out->bytes);
    free(out->items);
    *out = (struct composed){0};
}

static void composed_end_item(struct composed *out, uint64_t seq)
{
    if (out->n == out->cap) {
        out->cap = out->cap != 0 ? out->cap * 2 : FIRST_CAP;
        out->items = mem_realloc(out->items, out->cap * sizeof(*out->items));
    }
    out->items[out->n++] = (struct composed_item){.seq = seq, .end = out->bytes.n};
}

/* from 0: not said. */
static void add_seqs(struct buf *out, uint64_t seq, uint64_t from)
{
    buf_add_literal(out, "{\"seq\":");
    buf_add_u64(out, seq);
    if (from == 0)
        return;
    buf_add_literal(out, ",\"from\":");
    buf_add_u64(out, from);
}

/* ---- narrowing */

/* Adds an operation behind those that were added from `begin` on, if it is to be seen. */
static void add_op(struct buf *out, size_t begin, const struct op_text *op,
                   const struct redaction *redaction)
{
    size_t before = out->n;
    if (before != begin)
        buf_add_byte(out, ',');
    if (redaction == NULL)
        buf_add_str(out, op->text);
    else if (!redact_op(redaction, op, out))
        out->n = before;
}

/* The operations on the parts; whether there are any. */
static bool add_shown(struct buf *out, struct str ops, const struct core_parts *parts,
                      const struct redaction *redaction)
{
    size_t begin = out->n;
    struct op_text op;
    while (patch_next_op(&ops, &op)) {
        if (core_parts_have(parts, op.path))
            add_op(out, begin, &op, redaction);
    }
    return out->n != begin;
}

bool compose_narrow(const struct frame *frame, uint64_t after, unsigned view,
                    const struct core_parts *parts, const struct redaction *redaction,
                    uint64_t *told, struct composed *out)
{
    struct arena arena = {0};
    if (!has_form(frame, after, view))
        return false;
    const struct core_parts *escaped = escape_parts(parts, &arena);
    for (uint32_t i = 0; i < frame->items_n; i++) {
        const struct frame_item *item = &frame->items[i];
        if (item->seq <= after)
            continue;
        struct patch_text patch = patch_cut(patch_of(frame, item, view));
        size_t begin = out->bytes.n;
        add_seqs(&out->bytes, item->seq, parts != NULL ? *told + 1 : 0);
        if (redaction != NULL)
            redact_patch_head(redaction, &patch, &out->bytes);
        else
            buf_add_str(&out->bytes, patch.head);
        buf_add_literal(&out->bytes, ",\"ops\":[");
        if (!add_shown(&out->bytes, patch.ops, escaped, redaction) && parts != NULL) {
            out->bytes.n = begin;
            continue;
        }
        buf_add_literal(&out->bytes, "]}");
        composed_end_item(out, item->seq);
        *told = item->seq;
    }
    arena_free(&arena);
    return true;
}

bool compose_events(const struct frame *frame, uint64_t after, const struct redaction *redaction,
                    struct composed *out)
{
    for (uint32_t i = 0; i < frame->items_n; i++) {
        const struct frame_item *item = &frame->items[i];
        if (item->seq > after && item->event_size == 0)
            return false;
    }
    for (uint32_t i = 0; i < frame->items_n; i++) {
        const struct frame_item *item = &frame->items[i];
        if (item->seq <= after)
            continue;
        redact_event(redaction, (struct str){frame->bytes + item->event_offset, item->event_size},
                     &out->bytes);
        composed_end_item(out, item->seq);
    }
    return true;
}

/* ---- merging */

/* An operation that may have to be said. */
struct op {
    struct str text;   /* n == 0: dropped */
    struct str value;  /* of a message that is added */
    uint32_t messages; /* index of the queue that it is about, NONE: of none */
    uint32_t next;     /* the next message that is added to this queue */
};

/* The messages of a thread. */
struct queue {
    uint32_t first, last;  /* messages added, NONE: none */
    uint32_t last_op;      /* of all its operations */
    uint32_t added, count; /* in the run; there are now, good where `known` */
    bool known, shortened; /* shortened: some have left, so that a replace may be shorter */
};

/* Open addressing: a path to the number of its last replace, or of its queue, + 1. */
struct slot {
    struct str path;
    uint32_t number;
    bool is_queue;
};

struct merge {
    struct op *ops;
    struct queue *queues;
    struct slot *slots;
    uint32_t ops_n, ops_cap, queues_n, queues_cap;
    uint32_t slots_n, slots_cap; /* cap: a power of two */
};

static uint64_t hash_path(const struct merge *merge, struct str path)
{
    /* Clients choose paths: where the memory lies is what they do not know. */
    return XXH3_64bits_withSeed(path.p, path.n, (uintptr_t)merge);
}

static struct slot *find_slot(const struct merge *merge, struct str path, bool is_queue)
{
    uint32_t mask = merge->slots_cap - 1;
    uint32_t at = (uint32_t)hash_path(merge, path) & mask;
    struct slot *slot;
    while (slot = &merge->slots[at],
           slot->path.p != NULL && (slot->is_queue != is_queue || !str_equal(slot->path, path)))
        at = (at + 1) & mask;
    return slot;
}

static void grow_slots(struct merge *merge)
{
    struct slot *old = merge->slots;
    uint32_t old_cap = merge->slots_cap;
    merge->slots_cap = old_cap != 0 ? old_cap * 2 : FIRST_CAP;
    merge->slots = mem_zeroed(merge->slots_cap, sizeof(*merge->slots));
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i].path.p != NULL)
            *find_slot(merge, old[i].path, old[i].is_queue) = old[i];
    free(old);
}

/* The number kept for a path; NONE where it is a new one, which the caller then sets. */
static uint32_t *number_of(struct merge *merge, struct str path, bool is_queue)
{
    if (merge->slots_n * 2 >= merge->slots_cap)
        grow_slots(merge);
    struct slot *slot = find_slot(merge, path, is_queue);
    if (slot->path.p == NULL) {
        *slot = (struct slot){path, NONE, is_queue};
        merge->slots_n++;
    }
    return &slot->number;
}

static uint32_t queue_of(struct merge *merge, struct str thread)
{
    uint32_t *number = number_of(merge, thread, true);
    if (*number != NONE)
        return *number;
    if (merge->queues_n == merge->queues_cap) {
        merge->queues_cap = merge->queues_cap != 0 ? merge->queues_cap * 2 : FIRST_CAP;
        merge->queues = mem_realloc(merge->queues, merge->queues_cap * sizeof(*merge->queues));
    }
    *number = merge->queues_n++;
    merge->queues[*number] = (struct queue){.first = NONE, .last = NONE, .last_op = NONE};
    return *number;
}

static uint32_t keep_op(struct merge *merge, const struct op_text *op)
{
    if (merge->ops_n == merge->ops_cap) {
        merge->ops_cap = merge->ops_cap != 0 ? merge->ops_cap * 2 : FIRST_CAP;
        merge->ops = mem_realloc(merge->ops, merge->ops_cap * sizeof(*merge->ops));
    }
    merge->ops[merge->ops_n] = (struct op){op->text, op->value, NONE, NONE};
    return merge->ops_n++;
}

/* "/threads/t3/messages/0" into "/threads/t3" and "/messages/0"; false: it lies in no thread. */
static bool cut_thread(struct str path, struct str *thread, struct str *rest)
{
    static const struct str threads = {"/threads/", 9};
    if (path.n <= threads.n || memcmp(path.p, threads.p, threads.n) != 0)
        return false;
    const char *slash = memchr(path.p + threads.n, '/', path.n - threads.n);
    thread->p = path.p;
    thread->n = slash != NULL ? (size_t)(slash - path.p) : path.n;
    *rest = (struct str){path.p + thread->n, path.n - thread->n};
    return true;
}

static void queue_add(struct merge *merge, struct queue *queue, uint32_t number, uint32_t window)
{
    if (queue->last != NONE)
        merge->ops[queue->last].next = number;
    else
        queue->first = number;
    queue->last = number;
    queue->added++;
    if (window != FRAME_WINDOW_UNKNOWN) {
        queue->known = true;
        queue->count = window;
    } else {
        queue->count++;
    }
}

/* Whether it is about the messages of a thread, and then notes what it does to them. */
static bool take_messages(struct merge *merge, const struct op_text *op, uint32_t number,
                          uint32_t window)
{
    struct str thread, rest;
    if (!cut_thread(op->path, &thread, &rest))
        return false;
    bool makes = rest.n == 0 && op->op == 'a';
    bool adds = str_equal(rest, STR("/messages/-"));
    bool removes = str_equal(rest, STR("/messages/0"));
    bool clears = str_equal(rest, STR("/messages"));
    if (!makes && !adds && !removes && !clears)
        return false;
    uint32_t at = queue_of(merge, thread);
    struct queue *queue = &merge->queues[at];
    if (makes || clears) {
        queue->known = true;
        queue->count = 0;
        queue->shortened = clears;
    }
    if (makes)
        return true;
    merge->ops[number].messages = at;
    queue->last_op = number;
    if (adds) {
        queue_add(merge, queue, number, window);
    } else if (removes) {
        queue->count--;
        queue->shortened = true;
    }
    return true;
}

static void take_op(struct merge *merge, const struct op_text *op, uint32_t window)
{
    uint32_t number = keep_op(merge, op);
    if (take_messages(merge, op, number, window) || op->op != 'p')
        return;
    uint32_t *last = number_of(merge, op->path, false);
    if (*last != NONE)
        merge->ops[*last].text.n = 0;
    *last = number;
}

/* The queue as a whole: the last of the messages that were added. */
static void add_queue(struct buf *out, const struct merge *merge, const struct queue *queue,
                      struct str thread)
{
    uint32_t at = queue->first;
    bool first = true;
    for (uint32_t skip = queue->added - queue->count; skip != 0; skip--)
        at = merge->ops[at].next;
    buf_add_literal(out, "{\"op\":\"replace\",\"path\":\"");
    buf_add_str(out, thread);
    buf_add_literal(out, "/messages\",\"value\":[");
    for (; at != NONE && queue->count != 0; at = merge->ops[at].next) {
        if (!first)
            buf_add_byte(out, ',');
        first = false;
        buf_add_str(out, merge->ops[at].value);
    }
    buf_add_literal(out, "]}");
}

/* The thread of an operation on messages. */
static struct str thread_of(const struct op *op)
{
    struct str ops = op->text;
    struct op_text text;
    struct str thread = {0}, rest;
    patch_next_op(&ops, &text);
    cut_thread(text.path, &thread, &rest);
    return thread;
}

/* All that is left, in order; whether there is any. */
static bool add_merged(struct buf *out, const struct merge *merge)
{
    bool any = false;
    for (uint32_t i = 0; i < merge->ops_n; i++) {
        const struct op *op = &merge->ops[i];
        const struct queue *queue = op->messages != NONE ? &merge->queues[op->messages] : NULL;
        bool whole =
            queue != NULL && queue->known && queue->shortened && queue->count <= queue->added;
        if (op->text.n == 0 || (whole && i != queue->last_op))
            continue;
        if (any)
            buf_add_byte(out, ',');
        if (whole)
            add_queue(out, merge, queue, thread_of(op));
        else
            buf_add_str(out, op->text);
        any = true;
    }
    return any;
}

/* The last event of the run: its seq (0: there is none) and its time. */
struct run_end {
    uint64_t seq;
    struct str ts;
};

static void take_frame(struct merge *merge, const struct frame *frame, uint64_t after,
                       unsigned view, const struct core_parts *parts, struct run_end *end)
{
    for (uint32_t i = 0; i < frame->items_n; i++) {
        const struct frame_item *item = &frame->items[i];
        if (item->seq <= after)
            continue;
        struct patch_text patch = patch_cut(patch_of(frame, item, view));
        struct op_text op;
        while (patch_next_op(&patch.ops, &op))
            if (core_parts_have(parts, op.path))
                take_op(merge, &op, item->window);
        *end = (struct run_end){item->seq, patch.ts};
    }
}

/* The merged operations, as far as they are to be seen; whether there are any. */
static bool add_ops(struct buf *out, const struct merge *merge, const struct redaction *redaction)
{
    struct buf all = {0};
    if (redaction == NULL)
        return add_merged(out, merge);
    add_merged(&all, merge);
    bool any = all.n != 0 && add_shown(out, buf_str(&all), NULL, redaction);
    buf_free(&all);
    return any;
}

bool compose_merge(const struct frame *const *frames, uint32_t n, uint64_t after, unsigned view,
                   const struct core_parts *parts, const struct redaction *redaction,
                   struct composed *out)
{
    struct arena arena = {0};
    struct merge merge = {0};
    struct run_end end = {0};
    for (uint32_t i = 0; i < n; i++)
        if (!has_form(frames[i], after, view))
            return false;
    const struct core_parts *escaped = escape_parts(parts, &arena);
    for (uint32_t i = 0; i < n; i++)
        take_frame(&merge, frames[i], after, view, escaped, &end);
    size_t begin = out->bytes.n;
    if (end.seq != 0) {
        add_seqs(&out->bytes, end.seq, after + 1);
        buf_add_literal(&out->bytes, ",\"ts\":");
        buf_add_str(&out->bytes, end.ts);
        buf_add_literal(&out->bytes, ",\"type\":\"merged\",\"actor\":null,\"ops\":[");
        bool any = add_ops(&out->bytes, &merge, redaction);
        buf_add_literal(&out->bytes, "]}");
        if (any || parts == NULL)
            composed_end_item(out, end.seq);
        else
            out->bytes.n = begin;
    }
    free(merge.ops);
    free(merge.queues);
    free(merge.slots);
    arena_free(&arena);
    return true;
}
