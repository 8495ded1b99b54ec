/*
 * history: reads a range of a session's committed events from the log, while the shard goes on.
 *
 * It goes from snapshot to snapshot (trail.c): what lies between two of them is collected, and then
 * shown to the visitor in pieces, a turn at a time. Ascending it begins at the snapshot before the
 * range; descending it begins at the end and goes on in front of each base.
 *
 * If the session's life ends meanwhile, the reading ends with -ESTALE. Where a part of the range is
 * gone it ends with -ENOENT, and `oldest` says after which seq there are events.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdlib.h>

enum { EVENTS_A_LOOK = 32 /* visited before the clock is looked at */ };

struct history *history_new(struct shard *shard, struct session *session, struct request *request)
{
    struct history *history = mem_alloc(sizeof(*history));
    *history = (struct history){
        .shard = shard, .session = session, .request = request, .epoch = session->epoch};
    session->pins++;
    shard->histories++;
    return history;
}

void history_free(struct history *history)
{
    struct shard *shard = history->shard;
    trail_free(&history->trail);
    shard->histories--;
    history->session->pins--;
    session_drop_if_vacant(shard, history->session);
    free(history);
}

static bool history_wants(const struct history *history, uint64_t seq)
{
    return seq > history->after && seq <= history->until && !history->full;
}

/* Begins a record. Descending, its events have to be read before the last one can be visited. */
static int open_record(struct history *history, const struct log_record *record)
{
    history->open = true;
    if (record_read_begin(&history->reader, record) != 0 || record_skip_keys(&history->reader) != 0)
        return -EIO;
    if (history->descending) {
        struct arena *arena = &history->trail.arena;
        history->events = arena_alloc(arena, (record->events + 1) * sizeof(*history->events));
        history->bytes = arena_alloc(arena, (record->events + 1) * sizeof(*history->bytes));
        history->events_n = 0;
        history->turned = false;
    }
    return 0;
}

static void close_record(struct history *history)
{
    history->open = false;
    history->at++;
}

static int visit_next_ascending(struct history *history)
{
    struct arena *scratch = &history->shard->scratch;
    struct core_event event;
    struct str bytes;
    int more = record_read_event(&history->reader, scratch, &event, &bytes);
    if (more == 0)
        close_record(history);
    if (more == 1 && history->chain_wanted)
        core_chain_add(&history->chain, event.seq, bytes);
    if (more == 1 && history_wants(history, event.seq))
        history->full = !history->visit(history, &event, bytes);
    arena_reset(scratch);
    return more < 0 ? -EIO : 0;
}

static int visit_next_descending(struct history *history)
{
    uint32_t n = history->events_n;
    if (!history->turned) {
        int more = record_read_event(&history->reader, &history->trail.arena, &history->events[n],
                                     &history->bytes[n]);
        history->turned = more == 0;
        history->events_n += more == 1;
        return more < 0 ? -EIO : 0;
    }
    if (n == 0) {
        close_record(history);
        return 0;
    }
    history->events_n = --n;
    if (history_wants(history, history->events[n].seq))
        history->full = !history->visit(history, &history->events[n], history->bytes[n]);
    return 0;
}

static void history_next(struct history *history);

static uint64_t last_seq_of(const struct log_record *record)
{
    return record->seq + record->events - 1;
}

/* Everything collected has been visited. Sets where to go on; false: nowhere. */
static bool history_go_on(struct history *history)
{
    const struct trail *trail = &history->trail;
    const struct log_record *base = &trail->base.record;
    if (history->full)
        return false;
    if (history->descending) {
        if (base->type == 0 || last_seq_of(base) <= history->after)
            return false;
        history->until = base->seq - 1;
        return history->until > history->after;
    }
    if (trail->records_n == 0)
        return false;
    uint64_t reached = last_seq_of(&trail->records[trail->records_n - 1].record);
    if (reached <= history->after)
        return false; /* records without events, at the head */
    history->after = reached;
    return history->after < history->until;
}

/* True: done with what was collected. */
static bool history_visit_pieces(struct history *history, int64_t until_ns, int *error)
{
    const struct trail *trail = &history->trail;
    bool base = history->descending && trail->base.record.type != 0; /* it may hold an event too */
    uint32_t n = trail->records_n + base;
    uint32_t steps = 0;
    *error = 0;
    while (history->at < n && !history->full && *error == 0) {
        uint32_t i = history->at;
        const struct log_record *record = &trail->records[i].record;
        if (history->descending)
            record = i < trail->records_n ? &trail->records[trail->records_n - 1 - i].record
                                          : &trail->base.record;
        if (!history->open)
            *error = open_record(history, record);
        else
            *error = history->descending ? visit_next_descending(history)
                                         : visit_next_ascending(history);
        if (++steps % EVENTS_A_LOOK == 0 && shard_clock_ns(history->shard) > until_ns)
            return false;
    }
    return true;
}

static void history_visited(struct history *history, int error)
{
    if (error == 0 && history_go_on(history))
        history_next(history);
    else
        history->done(history, error);
}

/* Also between two pieces: the state that a visit may look at is gone. */
static bool history_is_stale(const struct history *history)
{
    const struct session *session = history->session;
    return session->core == NULL || session->epoch != history->epoch;
}

static enum chore_result history_run(struct chore *chore, int64_t until_ns)
{
    struct history *history = chore->owner;
    int error;
    if (history_is_stale(history)) {
        history->done(history, -ESTALE);
        return CHORE_DONE;
    }
    if (!history_visit_pieces(history, until_ns, &error))
        return CHORE_MORE;
    history_visited(history, error);
    return CHORE_DONE;
}

/* What the chain was at the base. */
static int history_take_chain(struct history *history)
{
    const struct log_record *base = &history->trail.base.record;
    struct record_snapshot snapshot;
    history->chain = (struct core_chain){{0}};
    if (base->type == 0)
        return 0;
    int result = record_snapshot_of(base, &history->shard->scratch, &snapshot);
    arena_reset(&history->shard->scratch);
    history->chain = snapshot.chain;
    return result == 0 ? 0 : -EIO;
}

static void history_trail_done(struct trail *trail, int error)
{
    struct history *history = trail->owner;
    if (history_is_stale(history))
        error = -ESTALE;
    history->oldest = trail->oldest;
    if (error == 0 && history->chain_wanted)
        error = history_take_chain(history);
    if (error != 0) {
        history->done(history, error);
        return;
    }
    history->chore = (struct chore){.run = history_run, .owner = history};
    shard_chore(history->shard, &history->chore);
}

static void history_next(struct history *history)
{
    struct trail *trail = &history->trail;
    trail_free(trail);
    *trail = (struct trail){.shard = history->shard, .done = history_trail_done, .owner = history};
    trail_of(trail, history->session);
    trail->target.seq = history->descending ? history->until : history->after;
    /* Descending, the events up to `until` may lie in the record behind the snapshot at it. */
    if (history->descending)
        trail->target.seq--;
    history->at = 0;
    history->open = false;
    trail_start(trail);
}

void history_start(struct history *history)
{
    struct session *session = history->session;
    if (history->until > session->committed_seq)
        history->until = session->committed_seq;
    if (history->after >= history->until)
        history->done(history, 0);
    else
        history_next(history);
}
