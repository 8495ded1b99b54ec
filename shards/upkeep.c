/*
 * upkeep: what goes on beside requests: sessions whose time is over end, idle ones leave memory, a
 * checkpoint is begun when the log has grown by enough. Compaction and retention: compaction.c.
 *
 * It is looked after when something is due (upkeep_tick says when), and when memory is short.
 *
 * Thread: the shard's.
 */
#include "shards/upkeep.h"
#include "shards/shard.h"

#include <stdlib.h>

/* ---- expiry */

static int expiry_order(const struct expiry *a, const struct expiry *b)
{
    if (a->due_ms != b->due_ms)
        return a->due_ms < b->due_ms ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

static int expiring_order(const struct expiry *a, const struct expiry *b)
{
    return ((uintptr_t)a->entry > (uintptr_t)b->entry) -
           ((uintptr_t)a->entry < (uintptr_t)b->entry);
}

RB_GENERATE(expiry_tree, expiry, by_due, expiry_order)
RB_GENERATE(expiry_entries, expiry, by_entry, expiring_order)

void upkeep_expires(struct shard *shard, struct entry *entry, int64_t due_ms)
{
    if (entry->flags & ENTRY_TTL)
        return;
    struct expiry *expiry = mem_alloc(sizeof(*expiry));
    *expiry = (struct expiry){.due_ms = due_ms, .number = ++shard->expiries_made, .entry = entry};
    entry->flags |= ENTRY_TTL;
    RB_INSERT(expiry_tree, &shard->expiries, expiry);
    RB_INSERT(expiry_entries, &shard->expiring, expiry);
}

static void expiry_remove(struct shard *shard, struct expiry *expiry)
{
    RB_REMOVE(expiry_tree, &shard->expiries, expiry);
    RB_REMOVE(expiry_entries, &shard->expiring, expiry);
    expiry->entry->flags &= (uint8_t)~ENTRY_TTL;
    free(expiry);
}

void upkeep_never_expires(struct shard *shard, struct entry *entry)
{
    struct expiry key = {.entry = entry};
    if (entry->flags & ENTRY_TTL)
        expiry_remove(shard, RB_FIND(expiry_entries, &shard->expiring, &key));
}

void upkeep_passive_expires(struct shard *shard, struct entry *entry, int64_t due_ms,
                            uint64_t ttl_s)
{
    struct expiry key = {.entry = entry};
    upkeep_never_expires(shard, entry);
    upkeep_expires(shard, entry, due_ms);
    RB_FIND(expiry_entries, &shard->expiring, &key)->ttl_s = ttl_s;
}

/* Of a passive one that the last run has left, only when it may be due is known. */
bool upkeep_half_over(struct shard *shard, struct entry *entry)
{
    struct expiry key = {.entry = entry};
    const struct core_session *core = NULL;
    if (entry->flags & ENTRY_ACTIVE)
        core = entry->u.session->core;
    if (core != NULL) {
        int64_t half_ms = (int64_t)core_session_ttl_s(core) * 500;
        return half_ms != 0 && shard->wall_ms - core_session_ts_ms(core) > half_ms;
    }
    if (!(entry->flags & ENTRY_TTL))
        return false;
    const struct expiry *expiry = RB_FIND(expiry_entries, &shard->expiring, &key);
    return expiry->ttl_s == 0 || expiry->due_ms - shard->wall_ms < (int64_t)expiry->ttl_s * 500;
}

struct expiry *upkeep_expiry_after(struct shard *shard, int64_t due_ms, uint64_t number)
{
    struct expiry key = {.due_ms = due_ms, .number = number + 1};
    return RB_NFIND(expiry_tree, &shard->expiries, &key);
}

/* A session with a ttl is in memory, and its time may be over. */
static void expire_session(struct shard *shard, struct session *session)
{
    uint64_t ttl_s = core_session_ttl_s(session->core);
    if (ttl_s == 0 || session->importing)
        return;
    int64_t due_ms = core_session_ts_ms(session->core) + (int64_t)ttl_s * 1000;
    if (due_ms > shard->wall_ms) {
        upkeep_expires(shard, session->entry, due_ms);
    } else if (log_reserve_tombstone(shard->log, RECORD_END_BYTES) == 0) {
        commands_end(shard, session);
        shard->stats.expired++;
    } else {
        upkeep_expires(shard, session->entry, shard->wall_ms + UPKEEP_AGAIN_MS);
    }
}

/* A passive one is loaded first, and is then put back with the time that it really is due. */
static void expire_entry(struct shard *shard, struct entry *entry)
{
    enum { BUSY_LOOK_MS = 100 };
    if (entry->flags & ENTRY_QUARANTINED) /* once it is rebuilt it is put back */
        return;
    if (!(entry->flags & ENTRY_ACTIVE)) {
        if (entry->flags & ENTRY_ALIVE)
            session_load(shard, entry);
        return;
    }
    struct session *session = entry->u.session;
    if (session->busy)
        upkeep_expires(shard, entry, shard->wall_ms + BUSY_LOOK_MS);
    else if (session->core != NULL)
        expire_session(shard, session);
}

static void expire(struct shard *shard)
{
    struct expiry *first;
    for (unsigned steps = 0; steps < PASSIVATE_STEPS; steps++) {
        first = RB_MIN(expiry_tree, &shard->expiries);
        if (first == NULL || first->due_ms > shard->wall_ms)
            break;
        struct entry *entry = first->entry;
        expiry_remove(shard, first);
        expire_entry(shard, entry);
    }
}

/* ---- passivation */

static bool is_short_of_memory(const struct shard *shard)
{
    return shard->heap.allocated_bytes - shard->entries_bytes > shard->settings.memory_bytes;
}

/* For how long nobody has to have used a session for it to leave; 0: it stays. */
static int64_t idle_ms(const struct shard *shard)
{
    int64_t ms = shard->settings.idle_passivate_ms;
    bool pressed = pressure_level(shard->pressure) != PRESSURE_NONE;
    return pressed && (ms == 0 || ms > PRESSED_PASSIVATE_MS) ? PRESSED_PASSIVATE_MS : ms;
}

static bool is_idle(const struct shard *shard, const struct session *session)
{
    int64_t ms = idle_ms(shard);
    return ms != 0 && shard->now_ms - session->used_ms >= ms;
}

/* An import whose next page does not come. */
static void give_up_import(struct shard *shard, struct session *session)
{
    if (session->core != NULL && !session->busy && session->head != LOG_POSITION_NONE &&
        log_reserve_tombstone(shard->log, RECORD_END_BYTES) == 0)
        commands_end(shard, session);
    else
        session_use(shard, session);
}

/* The least recently used first. Those that may not leave go behind the others, as if they had been
 * used now. */
static void passivate(struct shard *shard)
{
    struct session *next;
    unsigned steps = 0;
    for (struct session *at = TAILQ_FIRST(&shard->by_use); at != NULL && steps++ < PASSIVATE_STEPS;
         at = next) {
        bool idle = is_idle(shard, at);
        next = TAILQ_NEXT(at, by_use);
        if (!idle && !is_short_of_memory(shard))
            break;
        if (at->importing && idle && pressure_level(shard->pressure) == PRESSURE_NONE)
            give_up_import(shard, at);
        else if (!session_passivate(shard, at))
            session_use(shard, at);
    }
}

/* ---- checkpoints */

static bool checkpoint_is_due(const struct shard *shard)
{
    uint64_t grown =
        log_stats(shard->log)->bytes - shard->checkpoint_log_bytes + shard->recovered_bytes;
    return shard->settings.checkpoint_bytes != 0 && grown >= shard->settings.checkpoint_bytes;
}

static void checkpoint(struct shard *shard)
{
    if (shard->checkpoint != NULL || !checkpoint_is_due(shard))
        return;
    if (shard->checkpoint_failed && shard->now_ms < shard->checkpoint_again_ms)
        return;
    shard->checkpoint_again_ms = shard->now_ms + UPKEEP_AGAIN_MS; /* should it fail */
    checkpoint_begin(shard);
}

/* ---- the whole */

void upkeep_turn(struct shard *shard)
{
    compaction_answer(shard); /* also while stopping: a pass, perhaps our own, waits for it */
    if (*shard->failed != NULL || shard->stopping != STOP_NOT)
        return;
    checkpoint(shard);
    expire(shard);
    if (is_short_of_memory(shard) ||
        (!TAILQ_EMPTY(&shard->by_use) && is_idle(shard, TAILQ_FIRST(&shard->by_use))))
        passivate(shard);
    compaction_turn(shard);
}

static int wait_ms(int64_t ms)
{
    return ms <= 0 ? 0 : ms > 60 * 1000 ? 60 * 1000 : (int)ms;
}

int upkeep_tick(struct shard *shard)
{
    int wait = compaction_tick(shard);
    int64_t passivate_ms = idle_ms(shard);
    const struct session *first = TAILQ_FIRST(&shard->by_use);
    if (*shard->failed != NULL || shard->stopping != STOP_NOT)
        return wait;
    if (first != NULL && passivate_ms != 0) {
        int until = wait_ms(first->used_ms + passivate_ms - shard->now_ms);
        wait = wait < 0 || until < wait ? until : wait;
    }
    const struct expiry *expiry = RB_MIN(expiry_tree, &shard->expiries);
    if (expiry != NULL) {
        int until = wait_ms(expiry->due_ms - shard->wall_ms);
        wait = wait < 0 || until < wait ? until : wait;
    }
    return wait;
}

bool upkeep_busy(const struct shard *shard)
{
    return shard->checkpoint != NULL || compaction_busy(shard);
}

void upkeep_stop(struct shard *shard)
{
    compaction_stop(shard);
}

void upkeep_free(struct shard *shard)
{
    compaction_free(shard);
    struct expiry *expiry;
    while ((expiry = RB_MIN(expiry_tree, &shard->expiries)) != NULL)
        expiry_remove(shard, expiry);
}
