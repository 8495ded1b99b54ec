/*
 * quarantine: sessions whose state in memory, or whose records, cannot be relied on.
 *
 * Where applying an event breaks an invariant (our own bug, or memory that has gone bad) the
 * request is refused with 500 and nothing of it is logged. The session is then made anew: it is
 * busy, so that what comes for it queues behind; when all that it has logged is on the disk it is
 * read back like a passive one, and goes on. Its watchers and waits stay. If the new state is not
 * the old one, watchers may have been shown what the log does not say: their feeds are told that
 * they have lost something, and whoever comes back from a seq before that gets a snapshot.
 *
 * Failure: the third break within QUARANTINE_WITHIN_MS, or records that cannot be read, put the
 * session into quarantine. Every request for it gets 503 and the reason, lists leave it out, and
 * everything else goes on. REQUEST_REBUILD reads it back once more, which ends the quarantine if
 * it succeeds; so does a restart, until somebody asks for the session and it fails again.
 *
 * A session that has been in trouble has an entry in the shard's troubles until its life ends: one
 * that never was costs nothing.
 *
 * Thread: the shard's.
 */
#include "shards/report.h"
#include "shards/shard.h"
#include "shards/sim_bug.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TROUBLE_WHY_BYTES = 200,
    TROUBLES_TOLD = 100, /* of those in quarantine, in the status */
};

struct trouble {
    RB_ENTRY(trouble) by_id;
    struct entry *entry;
    int64_t since_ms; /* wall clock: of the quarantine */
    /* Monotonic: of the newest breaks, in turn; 0: none. */
    int64_t broken_ms[QUARANTINE_AFTER - 1];
    unsigned breaks;
    uint64_t doubtful_seq;
    char why[TROUBLE_WHY_BYTES];
};

static int trouble_order(const struct trouble *a, const struct trouble *b)
{
    return str_compare(entry_id(a->entry), entry_id(b->entry));
}

RB_GENERATE(trouble_tree, trouble, by_id, trouble_order)

static struct trouble *trouble_find(struct shard *shard, struct entry *entry)
{
    struct trouble key = {.entry = entry};
    return RB_FIND(trouble_tree, &shard->troubles, &key);
}

static struct trouble *trouble_of(struct shard *shard, struct entry *entry)
{
    struct trouble *trouble = trouble_find(shard, entry);
    if (trouble == NULL) {
        trouble = mem_alloc(sizeof(*trouble));
        *trouble = (struct trouble){.entry = entry};
        entry->flags |= ENTRY_TROUBLED;
        RB_INSERT(trouble_tree, &shard->troubles, trouble);
    }
    return trouble;
}

void quarantine_forget(struct shard *shard, struct entry *entry)
{
    struct trouble *trouble = trouble_find(shard, entry);
    assert(!(entry->flags & ENTRY_QUARANTINED)); /* nothing ends the life of one that is there */
    RB_REMOVE(trouble_tree, &shard->troubles, trouble);
    entry->flags &= (uint8_t)~ENTRY_TROUBLED;
    free(trouble);
}

void quarantine_free(struct shard *shard)
{
    struct trouble *trouble;
    while ((trouble = RB_ROOT(&shard->troubles)) != NULL) {
        RB_REMOVE(trouble_tree, &shard->troubles, trouble);
        free(trouble);
    }
}

/* ---- refusing */

void quarantine_refuse(struct shard *shard, const struct entry *entry, struct request *request)
{
    struct trouble *trouble = trouble_find(shard, (struct entry *)(uintptr_t)entry);
    if (shard_ends_something(request))
        shard_reply(shard, request);
    else
        shard_refuse(shard, NULL, request, REQUEST_E_QUARANTINED, "session",
                     "this session is in quarantine until it is rebuilt. %s", trouble->why);
}

/* What has queued up behind it. */
static void refuse_queue(struct shard *shard, struct session *session)
{
    while (session->queue != NULL) {
        struct request *request = session->queue;
        session->queue = request->next;
        session->queue_n--;
        if (*shard->failed != NULL)
            shard_refuse(shard, NULL, request, REQUEST_E_UNAVAILABLE, NULL, "%s", *shard->failed);
        else
            quarantine_refuse(shard, session->entry, request);
    }
}

/* They ask again from where they stand, and are told why they get nothing. */
static void lose_feeds(struct shard *shard, struct session *session)
{
    struct feed *feed;
    while ((feed = session->feeds) != NULL) {
        shard_notify(shard, feed->frontend, feed->token, NOTICE_LOST);
        session->feeds = feed->next;
        free(feed);
    }
}

void quarantine_session(struct shard *shard, struct session *session, const char *why)
{
    struct entry *entry = session->entry;
    struct trouble *trouble = trouble_of(shard, entry);
    assert(session->busy);
    session->pins++;
    if (trouble->why != why)
        snprintf(trouble->why, sizeof(trouble->why), "%s", why);
    trouble->since_ms = shard->wall_ms;
    session_put_away(shard, session);
    entry->flags |= ENTRY_QUARANTINED;
    shard->quarantined++;
    report_tell(REPORT_ERROR, "session_quarantined", (int)shard->number, entry_id(entry), "%s",
                trouble->why);
    session->busy = false;
    lose_feeds(shard, session);
    refuse_queue(shard, session);
    inbox_try_all(shard, session);
    session->pins--;
    session_drop_if_vacant(shard, session);
}

/* ---- making anew */

struct rebuild {
    struct shard *shard;
    struct session *session; /* pinned, and busy */
};

/* All of it is on the disk, or will never be. */
static void rebuild_committed(void *owner, int error)
{
    struct rebuild *rebuild = owner;
    struct shard *shard = rebuild->shard;
    struct session *session = rebuild->session;
    struct trouble *trouble = trouble_find(shard, session->entry);
    free(rebuild);
    session->pins--;
    if (error != 0) {
        session->busy = false;
        refuse_queue(shard, session);
    } else if (trouble->breaks >= QUARANTINE_AFTER) {
        quarantine_session(shard, session, trouble->why);
    } else {
        shard->stats.rebuilds++;
        session_read(shard, session);
    }
}

static void rebuild_begin(struct shard *shard, struct session *session)
{
    struct rebuild *rebuild = mem_alloc(sizeof(*rebuild));
    *rebuild = (struct rebuild){shard, session};
    session->busy = true;
    session->pins++;
    if (sim_bug(SIM_BUG_EARLY_REBUILD))
        rebuild_committed(rebuild, 0);
    else
        shard_call_committed(shard, rebuild_committed, rebuild);
}

/* Counts this one, and those before it that were not long ago. */
static void count_break(struct shard *shard, struct trouble *trouble)
{
    unsigned n = 1;
    for (unsigned i = 0; i < QUARANTINE_AFTER - 1; i++) {
        int64_t at_ms = trouble->broken_ms[i];
        n += at_ms != 0 && shard->now_ms - at_ms < QUARANTINE_WITHIN_MS;
    }
    memmove(&trouble->broken_ms[1], &trouble->broken_ms[0],
            sizeof(trouble->broken_ms) - sizeof(trouble->broken_ms[0]));
    trouble->broken_ms[0] = shard->now_ms;
    trouble->breaks = n;
}

void quarantine_broken(struct shard *shard, struct session *session, const char *why)
{
    struct entry *entry = session->entry;
    struct trouble *trouble = trouble_of(shard, entry);
    snprintf(trouble->why, sizeof(trouble->why), "%s", why);
    count_break(shard, trouble);
    report_tell(REPORT_ERROR, "session_broken", (int)shard->number, entry_id(entry),
                "%s It is made anew from its log", trouble->why);
    rebuild_begin(shard, session);
}

void quarantine_compare(struct shard *shard, struct session *session,
                        const struct core_session *core)
{
    struct trouble *trouble = trouble_find(shard, session->entry);
    if (session->core == NULL)
        return;
    struct core_hash was = core_state_hash(session->core), is = core_state_hash(core);
    if (was.low == is.low && was.high == is.high &&
        core_session_seq(session->core) == core_session_seq(core))
        return;
    report_tell(REPORT_ERROR, "session_differed", (int)shard->number, session_id(session),
                "it was not in memory as its log says that it is");
    trouble->doubtful_seq = core_session_seq(session->core);
    lose_feeds(shard, session);
}

uint64_t quarantine_doubtful_seq(struct shard *shard, const struct session *session)
{
    if (!(session->entry->flags & ENTRY_TROUBLED))
        return 0;
    return trouble_find(shard, session->entry)->doubtful_seq;
}

/* ---- REQUEST_REBUILD */

static void queue_first(struct session *session, struct request *request)
{
    request->waited = true; /* when it comes out of the queue it has been done */
    request->next = session->queue;
    if (session->queue == NULL)
        session->queue_tail = &request->next;
    session->queue = request;
    session->queue_n++;
}

static void forgive(struct trouble *trouble)
{
    memset(trouble->broken_ms, 0, sizeof(trouble->broken_ms));
    trouble->breaks = 0;
}

static void rebuild_answer(struct shard *shard, struct session *session, struct request *request)
{
    struct buf *out = &request->body;
    commands_stand(session, request);
    buf_add_literal(out, "{\"session\":");
    json_add_string(out, session_id(session));
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, core_session_epoch(session->core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, request->seq);
    buf_add_literal(out, ",\"rebuilt\":true}");
    shard_reply_committed(shard, session, request);
}

void quarantine_rebuild(struct shard *shard, struct session *session, struct request *request)
{
    if (session->core == NULL) {
        shard_refuse_unknown(shard, session, request);
    } else if (request->waited) {
        rebuild_answer(shard, session, request);
    } else {
        forgive(trouble_of(shard, session->entry));
        queue_first(session, request);
        rebuild_begin(shard, session);
    }
}

void quarantine_request(struct shard *shard, struct entry *entry, struct request *request)
{
    if (request->kind != REQUEST_REBUILD) {
        quarantine_refuse(shard, entry, request);
        return;
    }
    forgive(trouble_find(shard, entry));
    entry->flags &= (uint8_t)~ENTRY_QUARANTINED;
    shard->quarantined--;
    shard->stats.rebuilds++;
    bool active = (entry->flags & ENTRY_ACTIVE) != 0; /* something still holds what it was */
    struct session *session = active ? entry->u.session : session_new(shard, entry);
    queue_first(session, request);
    session_read(shard, session);
}

/* ---- telling */

void quarantine_describe(struct shard *shard, struct buf *out)
{
    unsigned told = 0;
    struct trouble *trouble;
    buf_add_literal(out, ",\"rebuilds\":");
    buf_add_u64(out, shard->stats.rebuilds);
    buf_add_literal(out, ",\"quarantined\":");
    buf_add_u64(out, shard->quarantined);
    buf_add_literal(out, ",\"quarantine\":[");
    RB_FOREACH(trouble, trouble_tree, &shard->troubles)
    {
        if (!(trouble->entry->flags & ENTRY_QUARANTINED))
            continue;
        if (told++ == TROUBLES_TOLD)
            break;
        if (told != 1)
            buf_add_byte(out, ',');
        buf_add_literal(out, "{\"session\":");
        json_add_string(out, entry_id(trouble->entry));
        buf_add_literal(out, ",\"since\":");
        json_add_time(out, trouble->since_ms);
        buf_add_literal(out, ",\"reason\":");
        json_add_string(out, (struct str){trouble->why, strlen(trouble->why)});
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, ']');
}
