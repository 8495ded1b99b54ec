/*
 * sessions: those in memory. A session comes into memory when it is made, or when a request asks
 * for a passive one (session_load: its newest snapshot and the records behind it); it leaves when
 * nobody has used it for long, or the least recently used first when memory is short.
 *
 * Only what is clean may leave: everything committed, nothing in the works, nobody watching or
 * waiting. What stays is its entry in the directory. So nothing is written on the way out.
 *
 * While a session is loaded it is busy, and requests for it queue behind. Failure: it is put into
 * quarantine (quarantine.c), and they are all refused with the reason. One in memory whose state
 * cannot be relied on is loaded anew in the same way; its watchers and waits stay.
 */
#include "shards/report.h"
#include "shards/shard.h"
#include "shards/sim_bug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct session *session_find(struct shard *shard, struct str id)
{
    struct entry *entry = entry_find(shard, id);
    return entry != NULL && entry->flags & ENTRY_ACTIVE ? entry->u.session : NULL;
}

static void sessions_count_active(struct shard *shard, const struct entry *entry, int by)
{
    *(entry_is_companion(entry) ? &shard->companions_active : &shard->active) += (uint32_t)by;
}

struct session *session_new(struct shard *shard, struct entry *entry)
{
    assert(!(entry->flags & ENTRY_ACTIVE));
    struct session *session = shard->heap.core.alloc(&shard->heap, sizeof(*session));
    *session = (struct session){.entry = entry, .used_ms = shard->now_ms};
    entry->u.session = session;
    entry->flags |= ENTRY_ACTIVE;
    TAILQ_INSERT_TAIL(&shard->by_use, session, by_use);
    sessions_count_active(shard, entry, 1);
    return session;
}

/* The object alone; the entry is passive again. */
static void session_free(struct shard *shard, struct session *session)
{
    struct entry *entry = session->entry;
    TAILQ_REMOVE(&shard->by_use, session, by_use);
    sessions_count_active(shard, entry, -1);
    entry->flags &= (uint8_t)~ENTRY_ACTIVE;
    entry->u.labels = UINT64_MAX; /* any, until somebody says better */
    shard->heap.core.free(&shard->heap, session, sizeof(*session));
}

void session_use(struct shard *shard, struct session *session)
{
    if (session->used_ms == shard->now_ms && TAILQ_NEXT(session, by_use) == NULL)
        return;
    session->used_ms = shard->now_ms;
    TAILQ_REMOVE(&shard->by_use, session, by_use);
    TAILQ_INSERT_TAIL(&shard->by_use, session, by_use);
}

static const char epoch_digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's base 32 */

uint64_t session_epoch_number(struct str text)
{
    uint64_t epoch = 0;
    for (size_t i = 0; i < text.n && text.p[i] != '_'; i++) {
        const char *digit = text.p[i] != '\0' ? strchr(epoch_digits, text.p[i]) : NULL;
        if (digit == NULL || epoch >> 59 != 0)
            return 0;
        epoch = epoch << 5 | (uint64_t)(digit - epoch_digits);
    }
    return epoch;
}

void session_epoch_text(const struct shard *shard, uint64_t epoch, char text[CORE_EPOCH_BYTES + 1])
{
    char reversed[16];
    unsigned n = 0;
    do {
        reversed[n++] = epoch_digits[epoch & 31];
        epoch >>= 5;
    } while (epoch != 0);
    unsigned at = 0;
    while (n != 0)
        text[at++] = reversed[--n];
    text[at] = '\0';
    uint64_t incarnation = datadir_incarnation(shard->dir);
    if (incarnation != 0)
        snprintf(text + at, CORE_EPOCH_BYTES + 1 - at, "_%llu", (unsigned long long)incarnation);
}

/* ---- lives */

void session_begin(struct shard *shard, struct session *session, uint64_t epoch)
{
    assert(session->core == NULL);
    entry_count_life(shard, session->entry, 1);
    session->epoch = epoch != 0 ? epoch : ++shard->epochs;
    session_epoch_text(shard, session->epoch, session->epoch_text);
    struct str text = {session->epoch_text, strlen(session->epoch_text)};
    session->core = core_session_new(&shard->heap.core, &shard->limits, session_id(session), text);
    session->committed_seq = session->membership_seq = 0;
    session->head = session->committed_head = LOG_POSITION_NONE;
    session->base = session->first = LOG_POSITION_NONE;
    session->ordinal = session->since_bytes = session->log_bytes = 0;
    session->chain = (struct core_chain){{0}};
    session->importing = false;
}

static void skips_free(struct shard *shard, struct session *session)
{
    if (session->skips != NULL)
        shard->heap.core.free(&shard->heap, session->skips,
                              session->skips_n * sizeof(*session->skips));
    session->skips = NULL;
    session->skips_n = 0;
}

static void session_forget(struct shard *shard, struct session *session)
{
    hands_end(shard, session);
    attended_free(shard, session);
    core_session_free(session->core);
    session->core = NULL;
    keys_free(session);
    skips_free(shard, session);
}

void session_end(struct shard *shard, struct session *session)
{
    session_forget(shard, session);
    session->head = session->base = LOG_POSITION_NONE;
    session->importing = false;
    if (session->entry->flags & ENTRY_TROUBLED)
        quarantine_forget(shard, session->entry);
    upkeep_never_expires(shard, session->entry);
    session->entry->flags &= (uint8_t) ~(ENTRY_ALIVE | ENTRY_IMPORTING | ENTRY_ATTENDED);
    entry_count_life(shard, session->entry, -1);
}

void session_drop_if_vacant(struct shard *shard, struct session *session)
{
    if (session->core != NULL || session->pins != 0 || session->busy || session->queue != NULL)
        return;
    if (session->feeds != NULL || session->waiters != NULL)
        return; /* the log has failed before they could be told */
    struct entry *entry = session->entry;
    session_free(shard, session);
    entry_drop_if_vacant(shard, entry);
}

/* Into its entry, where it stands. */
static void session_leave_place(struct session *session)
{
    struct entry *entry = session->entry;
    assert(session->head == session->committed_head && session->head != LOG_POSITION_NONE);
    entry->epoch = session->epoch;
    entry->head = session->head;
    entry->base = session->base;
    entry->flags |= ENTRY_ALIVE;
}

void session_put_away(struct shard *shard, struct session *session)
{
    if (session->core == NULL) { /* the entry still says where it stands */
        keys_free(session);
        return;
    }
    session_leave_place(session);
    changes_depart(shard, session);
    session_forget(shard, session);
}

bool session_passivate(struct shard *shard, struct session *session)
{
    struct entry *entry = session->entry;
    if (session->core == NULL || session->pins != 0 || session->busy || session->queue != NULL ||
        session->feeds != NULL || session->waiters != NULL || session->importing ||
        !RB_EMPTY(&session->hands) || !attended_may_leave(session) ||
        session->dirty > log_committed(shard->log))
        return false;
    uint64_t labels = signature_of(core_session_labels(session->core));
    session_leave_place(session);
    if (sim_bug(SIM_BUG_STALE_SNAPSHOT) && session->base != LOG_POSITION_NONE)
        entry->head = session->base;
    uint64_t ttl_s = core_session_ttl_s(session->core);
    if (ttl_s != 0)
        upkeep_passive_expires(shard, entry,
                               core_session_ts_ms(session->core) + (int64_t)ttl_s * 1000, ttl_s);
    changes_depart(shard, session);
    session_forget(shard, session);
    session_free(shard, session);
    entry->u.labels = labels;
    shard->stats.passivations++;
    return true;
}

/* ---- records */

void session_note_record(struct session *session, log_position position, uint64_t bytes)
{
    session->head = position;
    session->since_bytes += bytes;
    session->log_bytes += bytes;
    if (session->first == LOG_POSITION_NONE)
        session->first = position;
}

void session_note_snapshot(struct shard *shard, struct session *session,
                           const struct record_snapshot *snapshot, const struct record_skip *at,
                           uint64_t bytes)
{
    struct record_skip skips[RECORD_SKIPS_MAX];
    uint32_t n = record_next_skips(snapshot, at, skips);
    if (n != session->skips_n) {
        skips_free(shard, session);
        session->skips = shard->heap.core.alloc(&shard->heap, n * sizeof(*skips));
    }
    memcpy(session->skips, skips, n * sizeof(*skips));
    session->skips_n = n;
    session->base = at->position;
    session->base_bytes = (uint32_t)bytes;
    session->ordinal = snapshot->ordinal;
    session->since_bytes = 0;
}

/* ---- loading */

/* What was in memory of a session that is made anew. */
static void session_drop_state(struct shard *shard, struct session *session)
{
    attended_free(shard, session);
    if (session->core != NULL)
        core_session_free(session->core);
    session->core = NULL;
    skips_free(shard, session);
    session->base = LOG_POSITION_NONE;
    session->ordinal = 0;
}

static void session_take(struct session *session, struct past *past)
{
    struct shard *shard = past->shard;
    session->core = past->core;
    past->core = NULL;
    session->epoch = past->epoch;
    session_epoch_text(shard, session->epoch, session->epoch_text);
    session->chain = past->chain;
    session->membership_seq = past->membership_seq;
    session->committed_seq = core_session_seq(session->core);
    session->head = session->committed_head = past->trail.head;
    session->log_bytes = past->since_bytes;
    session->first = past->first;
    if (past->snapshot.ordinal != 0) {
        session_note_snapshot(shard, session, &past->snapshot, &past->snapshot_at,
                              past->snapshot_bytes);
        session->log_bytes += past->snapshot.log_bytes + past->snapshot_bytes;
        session->first = past->snapshot.first != LOG_POSITION_NONE ? past->snapshot.first
                                                                   : past->snapshot_at.position;
    }
    session->since_bytes = past->since_bytes;
}

void session_unreadable(struct shard *shard, const struct entry *entry, int error)
{
    shard->stats.load_failures++;
    report_tell(REPORT_ERROR, "session_unreadable", (int)shard->number, entry_id(entry),
                "it cannot be read back from the log: %s",
                error == -ENOENT ? "records are missing" : strerror(-error));
}

static void session_load_failed(struct shard *shard, struct session *session, int error)
{
    session_unreadable(shard, session->entry, error);
    quarantine_session(shard, session,
                       error == -ENOENT ? "A part of it is missing in the log."
                                        : "It cannot be read back from the log.");
    attended_loaded(shard);
}

static void session_loaded(struct past *past, int error)
{
    struct shard *shard = past->shard;
    struct session *session = past->into;
    bool again = session->core != NULL;
    shard->loading--;
    if (error != 0) {
        past_free(past);
        session_load_failed(shard, session, error);
        return;
    }
    shard->stats.loads++;
    if (session->entry->flags & ENTRY_TROUBLED)
        quarantine_compare(shard, session, past->core);
    session_drop_state(shard, session);
    session_take(session, past);
    past_free(past);
    if (!again)
        changes_return(shard, session);
    commands_expire(shard, session);
    attended_load(shard, session);
    shard_unbusy(shard, session);
    attended_loaded(shard);
}

void session_read(struct shard *shard, struct session *session)
{
    const struct entry *entry = session->entry;
    struct past *past = past_new(shard);
    bool again = session->core != NULL;
    session->busy = true;
    shard->loading++;
    keys_free(session);
    past->epoch = again ? session->epoch : entry->epoch;
    past->trail.head = again ? session->committed_head : entry->head;
    past->trail.newest = true;
    past->keys = true;
    past->into = session;
    past->done = session_loaded;
    past_start(past);
}

struct session *session_load(struct shard *shard, struct entry *entry)
{
    struct session *session = session_new(shard, entry);
    session_read(shard, session);
    return session;
}

void sessions_free(struct shard *shard)
{
    struct session *session;
    while ((session = TAILQ_FIRST(&shard->by_use)) != NULL) {
        while (session->feeds != NULL) {
            struct feed *feed = session->feeds;
            session->feeds = feed->next;
            free(feed);
        }
        if (session->core != NULL)
            session_forget(shard, session);
        keys_free(session);
        session_free(shard, session);
    }
}
