/*
 * past_queries: views, differences and proofs of the state as it stood.
 *
 * What is asked for is committed already or waits until it is; then it is folded from the log
 * (past.c), so that nothing of the writer is held up. A diff folds both its states, one after the
 * other.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdlib.h>

enum { TRIES_MAX = 3 };

void query_gone(struct shard *shard, struct session *session, struct request *request,
                const char *field, int error, uint64_t oldest)
{
    /* A life that ended meanwhile may have been followed by another one already. */
    bool deleted = session->core == NULL || strcmp(request->epoch, session->epoch_text) != 0;
    bool begun = request->kind == REQUEST_EXPORT || request->kind == REQUEST_FOLLOW;
    if (session->entry->flags & ENTRY_QUARANTINED) {
        quarantine_refuse(shard, session->entry, request);
        return;
    }
    if (!deleted && !begun && error == -ENOENT && oldest == 0 && request->tries++ < TRIES_MAX) {
        request->body.n =
            0; /* a snapshot was written while we read, and what it replaces has gone */
        shard_dispatch(shard, request);
        return;
    }
    if (error != -ENOENT && error != -ESTALE && !deleted) {
        shard_refuse(shard, session, request, CORE_E_INVARIANT, NULL,
                     "the session's events cannot be read back");
    } else if (deleted) {
        shard_refuse(shard, session, request, CORE_E_UNKNOWN_SESSION, "session",
                     "the session was deleted");
    } else {
        request->oldest = oldest;
        if (oldest != 0)
            shard_refuse(shard, session, request, REQUEST_E_GONE, field,
                         "this part of the session's history is no longer kept: the oldest state "
                         "that can be had is that of seq %llu",
                         (unsigned long long)oldest);
        else
            shard_refuse(shard, session, request, REQUEST_E_GONE, field,
                         "this part of the session's history is no longer kept");
    }
}

bool query_target(struct shard *shard, struct session *session, struct request *request,
                  const struct request_at *at, const char *field, struct trail_target *target)
{
    struct str epoch = {session->epoch_text, strlen(session->epoch_text)};
    uint64_t seq = core_session_seq(session->core);
    *target = (struct trail_target){at->by_time, at->seq, at->ts_ms};
    if (!at->given)
        target->seq = seq;
    if (at->epoch.p != NULL && !str_equal(at->epoch, epoch)) {
        shard_refuse(shard, session, request, REQUEST_E_GONE, field,
                     "epoch \"%.*s\" is another life of this session: this is \"%s\"",
                     (int)at->epoch.n, at->epoch.p, session->epoch_text);
        return false;
    }
    request->refusal.seq = seq;
    if (at->by_time ? at->ts_ms > shard->wall_ms && at->ts_ms > core_session_ts_ms(session->core)
                    : target->seq > seq) {
        shard_refuse(shard, session, request, CORE_E_MALFORMED, field,
                     at->by_time ? "a time in the future: the session stands at seq %llu"
                                 : "a seq in the future: the session stands at seq %llu",
                     (unsigned long long)seq);
        return false;
    }
    if (at->by_time ? at->ts_ms < core_session_created_ms(session->core) : target->seq == 0) {
        shard_refuse(shard, session, request, CORE_E_UNKNOWN_SESSION, field,
                     "the session did not exist yet");
        return false;
    }
    return true;
}

/* Nailed down at the first look: a session that is written to all the time goes on meanwhile. */
static void settle(const struct shard *shard, const struct session *session, struct request_at *at)
{
    bool now = !at->given || (at->by_time && at->ts_ms >= core_session_ts_ms(session->core) &&
                              at->ts_ms <= shard->wall_ms);
    if (now)
        *at = (struct request_at){.given = true, .seq = core_session_seq(session->core)};
}

/* The session's past state at `at`, to be started. NULL: answered, or later. */
static struct past *begin(struct shard *shard, struct session *session, struct request *request,
                          struct request_at *at, const char *field)
{
    struct trail_target target;
    if (session->core == NULL) {
        shard_refuse_unknown(shard, session, request);
        return NULL;
    }
    commands_stand(session, request);
    if (!query_target(shard, session, request, at, field, &target))
        return NULL;
    settle(shard, session, at);
    bool wait;
    if (at->by_time) { /* what is under way may be of that time too */
        wait = !request->waited && session->dirty > log_committed(shard->log);
        request->waited = true;
    } else {
        target = (struct trail_target){.seq = at->seq};
        wait = target.seq > session->committed_seq;
    }
    if (wait) {
        shard_retry_committed(shard, session, request);
        return NULL;
    }
    struct past *past = past_of(shard, session, request);
    past->trail.target = target;
    return past;
}

static void stand(struct request *request, const struct core_session *core)
{
    request->seq = core_session_seq(core);
}

/* ---- a view */

static void view_done(struct past *past, int error)
{
    struct request *request = past->request;
    if (error == 0) {
        stand(request, past->core);
        query_envelope(past->core, request, NULL, &request->body);
        shard_reply(past->shard, request);
    } else {
        query_gone(past->shard, past->session, request, "at", error, past->trail.oldest);
    }
    past_free(past);
}

static void ask(struct shard *shard, struct session *session, struct request *request,
                void (*done)(struct past *past, int error))
{
    struct past *past = begin(shard, session, request, &request->at, "at");
    if (past == NULL)
        return;
    past->done = done;
    past_start(past);
}

void query_past(struct shard *shard, struct session *session, struct request *request)
{
    ask(shard, session, request, view_done);
}

/* ---- a proof */

static void add_hex(struct buf *out, const void *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) {
        buf_add_byte(out, digits[p[i] >> 4]);
        buf_add_byte(out, digits[p[i] & 15]);
    }
}

void query_add_proof(const struct core_session *core, const struct core_chain *chain,
                     struct buf *out)
{
    /* XXH3's canonical form: high half first, big-endian. */
    struct core_hash hash = core_state_hash(core);
    uint64_t canonical[2] = {__builtin_bswap64(hash.high), __builtin_bswap64(hash.low)};
    buf_add_literal(out, "\"chain\":\"");
    add_hex(out, chain->bytes, sizeof(chain->bytes));
    buf_add_literal(out, "\",\"state_hash\":\"");
    add_hex(out, canonical, sizeof(canonical));
    buf_add_byte(out, '"');
}

void query_add_chain(const struct core_chain *chain, struct buf *out)
{
    add_hex(out, chain->bytes, sizeof(chain->bytes));
}

static void proof_done(struct past *past, int error)
{
    struct request *request = past->request;
    struct buf *out = &request->body;
    if (error == 0) {
        stand(request, past->core);
        query_add_position(past->core, out);
        buf_add_byte(out, ',');
        query_add_proof(past->core, &past->chain, out);
        buf_add_byte(out, '}');
        shard_reply(past->shard, request);
    } else {
        query_gone(past->shard, past->session, request, "at", error, past->trail.oldest);
    }
    past_free(past);
}

void query_proof(struct shard *shard, struct session *session, struct request *request)
{
    ask(shard, session, request, proof_done);
}

/* ---- a difference */

static void diff_done(struct past *past, int error)
{
    struct past *from = past->owner;
    struct request *request = past->request;
    struct buf *out = &request->body;
    if (error == 0) {
        stand(request, past->core);
        buf_add_literal(out, "{\"epoch\":");
        json_add_string(out, core_session_epoch(past->core));
        buf_add_literal(out, ",\"from\":");
        buf_add_u64(out, core_session_seq(from->core));
        buf_add_literal(out, ",\"to\":");
        buf_add_u64(out, core_session_seq(past->core));
        buf_add_literal(out, ",\"ops\":");
        core_diff(from->core, past->core, out);
        buf_add_byte(out, '}');
        shard_reply(past->shard, request);
    } else {
        query_gone(past->shard, past->session, request, "to", error, past->trail.oldest);
    }
    past_free(from);
    past_free(past);
}

static void diff_from_done(struct past *from, int error)
{
    struct past *to = from->owner;
    if (error == 0) {
        past_start(to);
        return;
    }
    query_gone(from->shard, from->session, from->request, "from", error, from->trail.oldest);
    past_free(to);
    past_free(from);
}

void query_diff(struct shard *shard, struct session *session, struct request *request)
{
    struct past *from = begin(shard, session, request, &request->at, "from");
    if (from == NULL)
        return;
    struct past *to = begin(shard, session, request, &request->to, "to");
    if (to == NULL) {
        past_free(from);
        return;
    }
    to->owner = from;
    from->owner = to;
    from->done = diff_from_done;
    to->done = diff_done;
    past_start(from);
}
