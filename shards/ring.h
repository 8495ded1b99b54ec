/*
 * ring: a bounded queue between exactly one producer thread and one consumer thread.
 *
 * Indices run freely and are masked on access; each side keeps its own index, a cached copy of
 * the other's, and looks at the real one only when the cached one says full (empty). After
 * D. Lamport's SPSC queue with the cached indices of FastForward/folly's ProducerConsumerQueue.
 *
 * Proof. `tail` is written by the producer alone, `head` by the consumer alone. An item's slot is
 * written before tail's release store, and read after tail's acquire load that saw it: so what is
 * read is what was pushed. A slot is written again only after an acquire load of head showed that
 * its reader's release store, made after the read, has passed it: so nothing is overwritten
 * unread. A cached index is an old value of a counter that only grows, so it errs to "full" or
 * "empty", and the real one is then looked at. tail - head never exceeds the capacity, which
 * unsigned wrap-around keeps true because the capacity divides 2^32.
 */
#ifndef ATOLL_SHARDS_RING_H
#define ATOLL_SHARDS_RING_H

#include "core/base.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { CACHE_LINE_BYTES = 64 };

struct ring_item {
    void *p;
    uint64_t tag;
};

struct ring {
    struct ring_item *items;
    uint32_t capacity; /* a power of two */
    /* The consumer's line. */
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t head;
    uint32_t tail_seen;
    /* The producer's line. */
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t tail;
    uint32_t head_seen;
};

static inline void ring_init(struct ring *ring, uint32_t capacity)
{
    assert(capacity != 0 && (capacity & (capacity - 1)) == 0);
    *ring = (struct ring){.capacity = capacity};
    ring->items = mem_zeroed(capacity, sizeof(*ring->items));
}

static inline void ring_free(struct ring *ring)
{
    free(ring->items);
    ring->items = NULL;
}

/* Items not yet popped, as the producer may assume: never fewer than there are. Producer. */
static inline uint32_t ring_used(struct ring *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return tail - atomic_load_explicit(&ring->head, memory_order_acquire);
}

/* False: full. Producer. */
static inline bool ring_push(struct ring *ring, struct ring_item item)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - ring->head_seen == ring->capacity) {
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
        if (tail - ring->head_seen == ring->capacity)
            return false;
    }
    ring->items[tail & (ring->capacity - 1)] = item;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

/* False: empty. Consumer. */
static inline bool ring_pop(struct ring *ring, struct ring_item *item)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == ring->tail_seen) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head == ring->tail_seen)
            return false;
    }
    *item = ring->items[head & (ring->capacity - 1)];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

/* What the pop after `n` others would find; false: nothing yet. It stays in the ring: no slot
 * between head and a tail that was acquired is written before head has passed it. Consumer. */
static inline bool ring_peek(struct ring *ring, uint32_t n, struct ring_item *item)
{
    uint32_t at = atomic_load_explicit(&ring->head, memory_order_relaxed) + n;
    if (ring->tail_seen - at - 1 >= ring->capacity) { /* it is not before the tail seen last */
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (ring->tail_seen - at - 1 >= ring->capacity)
            return false;
    }
    *item = ring->items[at & (ring->capacity - 1)];
    return true;
}

/* Whether a pop would find something. Consumer. */
static inline bool ring_ready(struct ring *ring)
{
    return atomic_load_explicit(&ring->head, memory_order_relaxed) !=
           atomic_load_explicit(&ring->tail, memory_order_acquire);
}

/* How many a pop would find, at least. Consumer. */
static inline uint32_t ring_waiting(struct ring *ring)
{
    return atomic_load_explicit(&ring->tail, memory_order_acquire) -
           atomic_load_explicit(&ring->head, memory_order_relaxed);
}

#endif
