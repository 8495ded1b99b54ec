/*
 * figures: a shard's, copied for an answer.
 */
#include "shards/mailbox_internal.h"
#include "shards/shard.h"

enum { REFRESH_MS = 100 };

/* jemalloc adds up all arenas at once, which takes time for each of them: once is enough for an
 * answer that asks all shards. */
static void refresh_heaps(const struct shard *shard)
{
    static _Atomic int64_t refreshed_ms = INT64_MIN / 2;
    int64_t before_ms = atomic_load_explicit(&refreshed_ms, memory_order_relaxed);
    if (shard->now_ms - before_ms < REFRESH_MS && shard->now_ms >= before_ms)
        return;
    atomic_store_explicit(&refreshed_ms, shard->now_ms, memory_order_relaxed);
    heap_refresh();
}

const struct shard_figures *shard_figures(const struct shard *shard, struct arena *arena)
{
    struct shard_figures *figures = arena_alloc(arena, sizeof(*figures));

    refresh_heaps(shard);
    *figures = (struct shard_figures){
        .stats = shard->stats,
        .log = *log_stats(shard->log),
        .sessions = shard->sessions,
        .active = shard->active,
        .companions = shard->companions,
        .companions_active = shard->companions_active,
        .waiting = shard->waiting,
        .forks = shard->forks_n,
        .pins = shard->pins_n,
        .deleted_waiting = shard->garbage.n,
        .deleted_waiting_bytes = shard->garbage.bytes,
        .memory_bytes = heap_used_bytes(&shard->heap),
        .sessions_bytes = shard->heap.allocated_bytes,
        .wakes_under_way = shard->wakes.under_way,
        .wakes_unreachable = shard->wakes.unreachable,
        .quarantined = shard->quarantined,
    };
    _Static_assert((int)REQUEST_LANES == (int)LANES, "one figure for each");
    for (unsigned lane = 0; lane < LANES; lane++) {
        for (unsigned f = 0; f < shard->frontends; f++)
            figures->lane_queued[lane] += ring_waiting(&shard->requests[f][lane]);
        figures->queued += figures->lane_queued[lane];
        if (shard->mailbox != NULL) /* its reactor's: the same thread */
            figures->lane_full[lane] = shard->mailbox->full[lane];
    }
    return figures;
}
