/*
 * heap: a shard's own memory for its sessions: a jemalloc arena with a thread cache of its own,
 * so that what sessions take can be told from what connections take, and the two do not fragment
 * each other. Without jemalloc (sanitizer builds) it is malloc, counted by hand.
 *
 * Thread: the shard's own.
 */
#ifndef ATOLL_SHARDS_HEAP_H
#define ATOLL_SHARDS_HEAP_H

#include "core/core.h"

struct heap {
    struct core_heap core; /* what core_session_new takes; ctx is this heap */
    unsigned arena;
    unsigned cache;
    size_t allocated_bytes; /* sum of the sizes asked for */
};

void heap_init(struct heap *heap);
/* Everything must have been freed. */
void heap_free(struct heap *heap);
/* Bytes that the allocator holds for what is allocated now. */
size_t heap_used_bytes(const struct heap *heap);

#endif
