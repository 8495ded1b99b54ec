/*
 * heap: a shard's own memory for its sessions: a jemalloc arena with a thread cache of its own,
 * so that what sessions take can be told from what connections take, and the two do not fragment
 * each other. Before it stand lists of the newest small pieces that were freed, by size, up to
 * 32 KiB each: nearly every command takes pieces like those that the one before gave back, and
 * the way to an arena of one's own is a long one. Without jemalloc (sanitizer builds) it is malloc,
 * counted by hand.
 *
 * Thread: the shard's own.
 */
#ifndef ATOLL_SHARDS_HEAP_H
#define ATOLL_SHARDS_HEAP_H

#include "core/core.h"

enum { HEAP_SPARE_SIZES = 61 };

struct heap {
    struct core_heap core; /* what core_session_new takes; ctx is this heap */
    unsigned arena;
    unsigned cache;
    size_t allocated_bytes; /* sum of the sizes asked for */
    struct heap_spare {
        void *first; /* each begins with a pointer to the next */
        unsigned n;
    } spares[HEAP_SPARE_SIZES];
};

void heap_init(struct heap *heap);
/* Everything must have been freed. */
void heap_free(struct heap *heap);
/* Has the allocator add up what all arenas hold: some 10 microseconds for each. Any thread. */
void heap_refresh(void);
/* Bytes that the allocator holds for what was allocated when it added up last. */
size_t heap_used_bytes(const struct heap *heap);

#endif
