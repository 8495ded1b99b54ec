#include "shards/wake.h"

#include "shards/ring.h"

/* One shard's. Its counter keeps the way back from ever being full: what is out is in one of the
 * two rings or in the courier's hands, and each ring has room for all of it. */
struct wake_pair {
    struct ring there, back;
    uint32_t out; /* the shard's thread alone */
};

struct wake_rings {
    unsigned shards;
    unsigned next; /* the courier's: whose order is looked for first */
    struct wake_pair *pairs;
};

struct wake_order *wake_order_new(void)
{
    struct wake_order *order = mem_alloc(sizeof(*order));
    *order = (struct wake_order){0};
    return order;
}

void wake_order_free(struct wake_order *order)
{
    arena_free(&order->arena);
    free(order);
}

struct wake_rings *wake_rings_new(unsigned shards)
{
    struct wake_rings *rings = mem_alloc(sizeof(*rings));
    *rings = (struct wake_rings){.shards = shards};
    rings->pairs = mem_alloc_aligned(CACHE_LINE_BYTES, shards * sizeof(*rings->pairs));
    for (unsigned i = 0; i < shards; i++) {
        ring_init(&rings->pairs[i].there, WAKE_ORDERS_MAX);
        ring_init(&rings->pairs[i].back, WAKE_ORDERS_MAX);
        rings->pairs[i].out = 0;
    }
    return rings;
}

static void ring_drop(struct ring *ring)
{
    struct ring_item item;
    while (ring_pop(ring, &item))
        wake_order_free(item.p);
    ring_free(ring);
}

void wake_rings_free(struct wake_rings *rings)
{
    for (unsigned i = 0; i < rings->shards; i++) {
        ring_drop(&rings->pairs[i].there);
        ring_drop(&rings->pairs[i].back);
    }
    free(rings->pairs);
    free(rings);
}

bool wake_rings_post(struct wake_rings *rings, struct wake_order *order)
{
    struct wake_pair *pair = &rings->pairs[order->shard];
    if (pair->out == WAKE_ORDERS_MAX)
        return false;
    bool pushed = ring_push(&pair->there, (struct ring_item){.p = order});
    assert(pushed);
    pair->out++;
    return true;
}

struct wake_order *wake_rings_take(struct wake_rings *rings)
{
    struct ring_item item;
    for (unsigned i = 0; i < rings->shards; i++) {
        unsigned shard = rings->next;
        rings->next = (shard + 1) % rings->shards;
        if (ring_pop(&rings->pairs[shard].there, &item))
            return item.p;
    }
    return NULL;
}

void wake_rings_return(struct wake_rings *rings, struct wake_order *order)
{
    bool pushed = ring_push(&rings->pairs[order->shard].back, (struct ring_item){.p = order});
    assert(pushed);
}

struct wake_order *wake_rings_done(struct wake_rings *rings, unsigned shard)
{
    struct wake_pair *pair = &rings->pairs[shard];
    struct ring_item item;
    if (!ring_pop(&pair->back, &item))
        return NULL;
    pair->out--;
    return item.p;
}
