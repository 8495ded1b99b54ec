/*
 * recovery: the shard's sessions from the log, at start.
 *
 * Every shard reads every log in the directory and keeps the sessions that hash to it under
 * today's shard count, so that a start with another --shards moves sessions without a copy.
 * Generations come in order, and within one generation a session lived in one log: so its records
 * come in order too, which is checked: epochs ascend, seq has no gap, each record names the one
 * before it.
 *
 * A record that passed its checksums but does not fit is our own bug or a foreign hand: the start
 * is refused, naming the session and the seq, rather than serving something else than was
 * acknowledged.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct recovery {
    struct shard *shard;
    char *error;
    size_t error_size;
};

static int recovery_refuse(struct recovery *recovery, const struct log_record *record,
                           const char *why)
{
    snprintf(recovery->error, recovery->error_size,
             "%s: the log does not fit together: session \"%.*s\", epoch %llu, seq %llu: %s",
             datadir_path(recovery->shard->dir), (int)record->session.n, record->session.p,
             (unsigned long long)record->epoch, (unsigned long long)record->seq, why);
    return -EIO;
}

static int recovery_tombstone(struct recovery *recovery, struct session *session,
                              const struct log_record *record)
{
    if (session->core == NULL || session->epoch != record->epoch)
        return recovery_refuse(recovery, record, "a deletion of a session that is not there");
    session_end(recovery->shard, session);
    return 0;
}

static int recovery_keys(struct session *session, struct record_reader *reader,
                         log_position position)
{
    struct key_entry key;
    struct str answer;
    uint32_t n = 0;
    int more;
    while ((more = record_read_key(reader, &key, &answer)) == 1) {
        keys_add(session, &key);
        n++;
    }
    keys_place(session, n, position);
    return more;
}

static int recovery_events(struct recovery *recovery, struct session *session,
                           const struct log_record *record, log_position position)
{
    struct shard *shard = recovery->shard;
    struct record_reader reader;
    struct core_event event;
    struct core_refusal why;
    int more = record_read_begin(&reader, record);
    if (more == 0)
        more = recovery_keys(session, &reader, position);
    while (more == 0 && (more = record_read_event(&reader, &shard->scratch, &event)) == 1) {
        core_begin(session->core);
        if (core_apply(session->core, &event, &why) != 0)
            return recovery_refuse(recovery, record, why.detail);
        core_keep(session->core);
        arena_reset(&shard->scratch);
        more = 0;
        if (event.type >= CORE_AGENT_REGISTER && event.type <= CORE_THREAD_REMOVE)
            session->membership_seq = event.seq;
    }
    if (more != 0)
        return recovery_refuse(recovery, record, "its events cannot be read");
    session_note_record(session, record->seq + record->events - 1, position);
    session->committed_seq = core_session_seq(session->core);
    session->committed_head = position;
    return 0;
}

static int recovery_visit(void *ctx, const struct log_record *record, log_position position)
{
    struct recovery *recovery = ctx;
    struct shard *shard = recovery->shard;
    if (session_hash(shard, record->session) % datadir_shards(shard->dir) != shard->number)
        return 0;
    struct session *session = session_find_or_make(shard, record->session);
    int result;
    if (record->type == LOG_RECORD_TOMBSTONE) {
        result = recovery_tombstone(recovery, session, record);
    } else if (record->type != LOG_RECORD_EVENTS) {
        result = recovery_refuse(recovery, record, "a record of a type this version does not know");
    } else {
        if (session->core == NULL)
            session_begin(shard, session, record->epoch);
        if (session->epoch != record->epoch)
            result = recovery_refuse(recovery, record, "another life of it has not ended");
        else if (record->seq != core_session_seq(session->core) + 1)
            result = recovery_refuse(recovery, record, "events are missing before it");
        else if (record->previous != session->head)
            result = recovery_refuse(recovery, record, "it names another record before it");
        else
            result = recovery_events(recovery, session, record, position);
    }
    if (result == 0)
        session_drop_if_vacant(shard, session);
    return result;
}

int recovery_run(struct shard *shard, char *error, size_t error_size)
{
    struct recovery recovery = {shard, error, error_size};
    return log_recover(shard->dir, recovery_visit, &recovery, error, error_size);
}
