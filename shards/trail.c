/*
 * trail: the way to a past state of a session, through records that only name what came before.
 *
 * Looking: from the newest snapshot, always on to the oldest known one that still lies behind the
 * target, until the one before the present one is at the target or before it: that is the base. A
 * snapshot's skips make this O(log n) reads, however long the history is.
 *
 * Collecting: back along `previous` from the snapshot behind the base (or the head) to the base.
 * As a session gets a snapshot when the records since the last one outweigh it, what is collected
 * is about as large as the base at most. Neighbours in the log come with one read.
 *
 * A fork's first record is a snapshot whose `previous` is the parent's record: so both ways lead on
 * through the parents without knowing it.
 *
 * Failure: what is gone (retention, compaction) is -ENOENT, and `oldest` is the oldest seq from
 * which on everything is there; what does not check is -EIO.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdlib.h>

enum { WINDOW_BYTES = 64 * 1024, NEIGHBOUR_BYTES = 32 * 1024 };

static bool is_behind(const struct trail *trail, const struct record_skip *skip)
{
    return trail->target.by_time ? skip->ts_ms > trail->target.ts_ms
                                 : skip->seq > trail->target.seq;
}

static void trail_read_done(struct log_read *read, int result);

static void trail_read(struct trail *trail, log_position position, uint32_t window_bytes)
{
    trail->at = position;
    trail->read.done = trail_read_done;
    trail->read.owner = trail;
    trail->read.window_bytes = window_bytes;
    log_read(trail->shard->log, &trail->read, position);
}

static void trail_finish(struct trail *trail, int error)
{
    log_read_release(&trail->read);
    trail->finished = true;
    trail->error = error;
}

/* ---- collecting */

static void collect_from(struct trail *trail, log_position position)
{
    trail->collecting = true;
    if (position == LOG_POSITION_NONE)
        trail_finish(trail, 0);
    else
        trail_read(trail, position, 0);
}

static struct trail_record keep(struct trail *trail, const struct log_record *record)
{
    struct trail_record kept = {*record, trail->at};
    kept.record.session = arena_copy(&trail->arena, record->session);
    kept.record.body = arena_copy(&trail->arena, record->body);
    return kept;
}

static void add_record(struct trail *trail, const struct log_record *record)
{
    if (trail->records_n == trail->records_cap) {
        trail->records_cap = trail->records_cap != 0 ? trail->records_cap * 2 : 64;
        trail->records = mem_realloc(trail->records, trail->records_cap * sizeof(*trail->records));
    }
    struct trail_record kept = keep(trail, record);
    if (trail->records_n != 0) {
        /* A fork's first record follows in the middle of the parent's, if that was a batch. */
        uint64_t next = trail->records[trail->records_n - 1].record.seq;
        if (kept.record.seq + kept.record.events > next) {
            kept.record.events = (uint32_t)(next - kept.record.seq);
            kept.record.flags |= RECORD_CUT;
        }
    }
    trail->records[trail->records_n++] = kept;
}

/* They were collected newest first. */
static void turn_round(struct trail *trail)
{
    for (uint32_t i = 0, j = trail->records_n; i + 1 < j; i++) {
        struct trail_record newer = trail->records[i];
        trail->records[i] = trail->records[--j];
        trail->records[j] = newer;
    }
}

static void look_at(struct trail *trail, const struct log_record *record);

/* A snapshot on the way that lies behind the target: known skips did not lead to it, because the
 * newest one, which would have, is not committed yet. It leads on itself. */
static bool leads_on(struct trail *trail, const struct log_record *record)
{
    struct record_skip skip = {record->seq + record->events - 1, record->ts_ms, trail->at};
    if (trail->newest || !is_behind(trail, &skip))
        return false;
    trail->records_n = 0;
    trail->collecting = false;
    trail->looking_for = skip;
    look_at(trail, record);
    return true;
}

static void collect(struct trail *trail, const struct log_record *record)
{
    bool snapshot = record->type == LOG_RECORD_SNAPSHOT && trail->at != trail->node_at;
    if (snapshot && leads_on(trail, record))
        return;
    if (snapshot)
        trail->base = keep(trail, record);
    else
        add_record(trail, record);
    if (snapshot || record->previous == LOG_POSITION_NONE) {
        turn_round(trail);
        trail_finish(trail, 0);
        return;
    }
    bool neighbour = record->previous < trail->at &&
                     trail->at - record->previous < NEIGHBOUR_BYTES; /* so in the same segment */
    trail_read(trail, record->previous, neighbour ? WINDOW_BYTES : 0);
}

/* ---- looking */

/* The skips of the node (or what was known at first) say where to go on. */
static void look_on(struct trail *trail)
{
    const struct record_skip *skips = trail->node != NULL ? trail->node->skips : trail->skips;
    uint32_t n = trail->node != NULL ? trail->node->skips_n : trail->skips_n;
    uint32_t at = n;
    while (at != 0 && (!is_behind(trail, &skips[at - 1]) || skips[at - 1].seq <= trail->gone_seq))
        at--;
    if (at != 0) {
        trail->looking_for = skips[at - 1];
        trail_read(trail, skips[at - 1].position, 0);
    } else if (trail->gone_seq != 0 && n != 0 && is_behind(trail, &skips[0])) {
        trail->oldest = trail->node_seq;
        trail_finish(trail, -ENOENT);
    } else {
        collect_from(trail, trail->anchor);
    }
}

static void look_at(struct trail *trail, const struct log_record *record)
{
    struct record_snapshot *node = arena_alloc(&trail->arena, sizeof(*node));
    int result = record->type == LOG_RECORD_SNAPSHOT
                     ? record_snapshot_of(record, &trail->shard->scratch, node)
                     : -1;
    arena_reset(&trail->shard->scratch);
    if (result != 0) {
        trail_finish(trail, -EIO);
        return;
    }
    trail->node = node;
    trail->node_seq = trail->looking_for.seq;
    /* A fork's first record holds an event too: then it is the newest that is collected. */
    trail->node_at = record->events != 0 ? trail->at : LOG_POSITION_NONE;
    trail->anchor = record->events != 0 ? trail->at : record->previous;
    look_on(trail);
}

/* ---- */

static void trail_step(struct trail *trail)
{
    int result = trail->read_result;
    trail->shard->stats.history_records++;
    if (result == -ENOENT && !trail->collecting) {
        trail->gone_seq = trail->looking_for.seq;
        look_on(trail);
    } else if (result != 0) {
        trail->oldest = trail->node_seq;
        trail_finish(trail, result);
    } else if (trail->collecting) {
        collect(trail, &trail->read.record);
    } else {
        look_at(trail, &trail->read.record);
    }
}

/* A read may be done at once: then the loop goes on, instead of one call in the other. */
static void trail_go(struct trail *trail)
{
    trail->going = true;
    while (trail->read_ready && !trail->finished) {
        trail->read_ready = false;
        trail_step(trail);
    }
    trail->going = false;
    if (trail->finished)
        trail->done(trail, trail->error);
}

static void trail_read_done(struct log_read *read, int result)
{
    struct trail *trail = read->owner;
    trail->read_ready = true;
    trail->read_result = result;
    if (!trail->going)
        trail_go(trail);
}

void trail_of(struct trail *trail, const struct session *session)
{
    uint32_t from = 0;
    while (from < session->skips_n && session->skips[from].position > session->committed_head)
        from++; /* written, and not committed yet */
    trail->head = session->committed_head;
    trail->skips_n = session->skips_n - from;
    size_t bytes = trail->skips_n * sizeof(session->skips[0]);
    struct record_skip *skips = arena_alloc(&trail->arena, bytes);
    if (bytes != 0)
        memcpy(skips, session->skips + from, bytes);
    trail->skips = skips;
}

void trail_start(struct trail *trail)
{
    trail->going = true;
    trail->anchor = trail->head;
    if (trail->newest)
        collect_from(trail, trail->head);
    else
        look_on(trail);
    trail_go(trail);
}

void trail_free(struct trail *trail)
{
    log_read_release(&trail->read);
    arena_free(&trail->arena);
    free(trail->records);
}
