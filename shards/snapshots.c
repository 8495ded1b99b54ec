/*
 * snapshots: a session as a whole, as a record in its own chain. It gets one when the records since
 * the last one outweigh that (so they cost at most as much again as what they stand for), and at a
 * clean stop.
 *
 * A snapshot is of the newest state, committed or not: it stands behind all that it holds in the
 * same log, so that it can only survive together with that.
 *
 * Failure: without room it is left out; the next command of the session tries again. A state that
 * is more than a segment can hold never gets one, and is folded from its beginning.
 */
#include "shards/log_format.h"
#include "shards/shard.h"
#include "shards/sim_bug.h"

#include <errno.h>

bool snapshot_due(const struct shard *shard, const struct session *session)
{
    uint64_t least = shard->settings.snapshot_bytes;
    uint64_t outweighed = session->base_bytes > least ? session->base_bytes : least;
    return session->since_bytes > outweighed;
}

void snapshot_encode(struct shard *shard, const struct session *session,
                     struct record_snapshot *snapshot)
{
    struct buf *body = &shard->snapshot;
    *snapshot = (struct record_snapshot){
        .chain = session->chain,
        .membership_seq = session->membership_seq,
        .log_bytes = session->log_bytes,
        .first = session->first,
        .ordinal = session->ordinal + 1,
        .skips_n = session->skips_n,
    };
    if (session->skips_n != 0)
        memcpy(snapshot->skips, session->skips, session->skips_n * sizeof(session->skips[0]));
    body->n = 0;
    record_add_count(body, sim_bug(SIM_BUG_KEYS_LEFT_OUT) ? 0 : keys_count(session));
    if (!sim_bug(SIM_BUG_KEYS_LEFT_OUT))
        keys_encode(session, body);
    record_add_snapshot(body, snapshot);
    core_snapshot_encode(session->core, body);
}

int snapshot_write(struct shard *shard, struct session *session)
{
    enum { KEEP_BYTES = 1 << 20 };
    struct record_snapshot snapshot;
    int result = log_reserve(shard->log, RECORD_HINT_BYTES);
    if (result != 0)
        return result; /* before anything is encoded for nothing */
    snapshot_encode(shard, session, &snapshot);
    result = log_reserve(shard->log, shard->snapshot.n);
    if (result == 0) {
        struct record_skip at = {
            .seq = core_session_seq(session->core),
            .ts_ms = core_session_ts_ms(session->core),
        };
        struct log_record record = {
            .type = LOG_RECORD_SNAPSHOT,
            .flags = session->importing ? LOG_RECORD_IMPORTING : 0,
            .session = session_id(session),
            .epoch = session->epoch,
            .seq = at.seq + 1,
            .ts_ms = at.ts_ms,
            .previous = session->head,
            .body = buf_str(&shard->snapshot),
        };
        shard_append(shard, session, &record, NULL);
        at.position = session->head;
        uint64_t bytes = log_record_bytes(record.session.n, record.body.n);
        session_note_snapshot(shard, session, &snapshot, &at, bytes);
        shard->stats.snapshots++;
        shard->stats.snapshot_bytes += bytes;
    } else if (result == -EFBIG) {
        session->base_bytes = UINT32_MAX; /* not to be tried at every command */
    }
    if (shard->snapshot.cap > KEEP_BYTES)
        buf_free(&shard->snapshot);
    return result;
}
