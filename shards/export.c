/*
 * export: a session as lines of JSON, and a session made of such lines.
 *
 *   {"atoll":"session","version":1,"session":…,"epoch":…,"seq":…,"chain":…,"state_hash":…}
 *   {"seq":1,"event":{…},"bytes":"<base64>","chain":"…"}    once for each event
 *
 * `event` is for readers; `bytes` is what is stored (core_event_encode), and what the chain is of.
 * An export is read from the log a page at a time, up to the seq that its first line names.
 *
 * An import takes the pages in order. Of every line the bytes must lead to the next state, be told
 * by exactly the JSON that stands beside them, and lead to the chain that stands there: so a
 * changed file is refused, naming its line. Until the last page the session is not there for
 * anybody else, and its records say so: a crash leaves nothing of it, and one that is refused is
 * ended.
 */
#include "shards/shard.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { EXPORT_PAGE_BYTES = 256 * 1024, EVENTS_A_LOOK = 32 };

/* ---- export */

static void add_base64(struct buf *out, struct str bytes)
{
    char *to = buf_reserve(out, (bytes.n + 2) / 3 * 4 + 1);
    out->n +=
        (size_t)EVP_EncodeBlock((unsigned char *)to, (const unsigned char *)bytes.p, (int)bytes.n);
}

static void export_head(const struct session *session, struct buf *out)
{
    buf_add_literal(out, "{\"atoll\":\"session\",\"version\":1,\"session\":");
    json_add_string(out, session_id(session));
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, core_session_epoch(session->core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, core_session_seq(session->core));
    buf_add_byte(out, ',');
    query_add_proof(session->core, &session->chain, out);
    buf_add_literal(out, "}\n");
}

static bool export_visit(struct history *history, const struct core_event *event, struct str bytes)
{
    struct request *request = history->request;
    struct buf *out = &request->body;
    buf_add_literal(out, "{\"seq\":");
    buf_add_u64(out, event->seq);
    buf_add_literal(out, ",\"event\":");
    core_event_json(event, out);
    buf_add_literal(out, ",\"bytes\":\"");
    add_base64(out, bytes);
    buf_add_literal(out, "\",\"chain\":\"");
    query_add_chain(&history->chain, out);
    buf_add_literal(out, "\"}\n");
    request->upto = event->seq;
    return out->n < EXPORT_PAGE_BYTES;
}

static void export_done(struct history *history, int error)
{
    struct request *request = history->request;
    if (error == 0) {
        request->more = request->upto < history->until && history->full;
        shard_reply(history->shard, request);
    } else {
        query_gone(history->shard, history->session, request, NULL, error, history->oldest);
    }
    history_free(history);
}

void export_page(struct shard *shard, struct session *session, struct request *request)
{
    struct trail_target target;
    if (session->core == NULL) {
        shard_refuse_unknown(shard, session, request);
        return;
    }
    commands_stand(session, request);
    if (!query_target(shard, session, request, &request->at, "at", &target))
        return;
    if (request->after == 0 && !request->at.given) {
        /* The head is of now, and leaves when it is committed; so what it speaks of is here. */
        request->at = (struct request_at){.given = true, .seq = target.seq};
        export_head(session, &request->body);
    }
    if (target.seq > session->committed_seq) {
        shard_retry_committed(shard, session, request);
        return;
    }
    struct history *history = history_new(shard, session, request);
    history->after = request->after;
    history->until = target.seq;
    history->chain_wanted = true;
    history->visit = export_visit;
    history->done = export_done;
    request->upto = request->after;
    history_start(history);
}

/* ---- import */

struct importing {
    struct shard *shard;
    struct session *session; /* busy meanwhile */
    struct request *request;
    uint32_t at;             /* the next item */
    struct core_chain chain; /* before this page */
    uint64_t membership_seq; /* the same */
    struct buf events, json;
    bool directory;
    struct chore chore;
};

static void import_end(struct importing *importing)
{
    struct shard *shard = importing->shard;
    struct session *session = importing->session;
    buf_free(&importing->events);
    buf_free(&importing->json);
    free(importing);
    session->pins++;
    shard_unbusy(shard, session);
    session->pins--;
    session_drop_if_vacant(shard, session);
}

/* Back to before this page. What earlier pages have logged of it is ended with it. */
static void import_undo(struct importing *importing)
{
    struct session *session = importing->session;
    if (session->core == NULL)
        return;
    core_undo(session->core);
    session->chain = importing->chain;
    session->membership_seq = importing->membership_seq;
}

static void import_drop(struct shard *shard, struct session *session)
{
    if (session->core == NULL)
        return;
    if (session->head == LOG_POSITION_NONE)
        session_end(shard, session);
    else if (log_reserve_tombstone(shard->log, RECORD_END_BYTES) == 0)
        commands_end(shard, session); /* else it stays hidden; upkeep.c or the next start ends it */
}

__attribute__((format(printf, 3, 4))) static void import_refuse(struct importing *importing,
                                                                const struct request_import *item,
                                                                const char *format, ...)
{
    struct shard *shard = importing->shard;
    struct session *session = importing->session;
    char why[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    import_undo(importing);
    import_drop(shard, session);
    shard_refuse(shard, session, importing->request, CORE_E_MALFORMED, NULL, "line %llu: %s",
                 (unsigned long long)item->line, why);
}

/* 0, or -1 and refused. */
static int import_event(struct importing *importing, const struct request_import *item)
{
    struct shard *shard = importing->shard;
    struct session *session = importing->session;
    struct core_event event;
    struct core_refusal why;
    struct str bytes = item->bytes;
    if (core_event_decode(&bytes, &shard->scratch, &event) != 0 || bytes.n != 0) {
        import_refuse(importing, item, "its bytes are no event");
        return -1;
    }
    if (event.type == CORE_SESSION_CREATE && !core_id_valid(event.f.session)) { /* a companion's */
        import_refuse(importing, item, "a session's id must match " CORE_ID_RULE);
        return -1;
    }
    if (session->core == NULL) {
        session_begin(shard, session, 0);
        session->importing = true;
        core_session_free(session->core); /* of a fork, the root's id comes first */
        session->core = core_session_new(
            &shard->heap.core, &shard->limits,
            event.type == CORE_SESSION_CREATE ? event.f.session : session_id(session),
            (struct str){session->epoch_text, strlen(session->epoch_text)});
        core_begin(session->core);
    }
    event.seq = core_session_seq(session->core) + 1;
    importing->json.n = 0;
    core_event_json(&event, &importing->json);
    if (!str_equal(buf_str(&importing->json), item->json)) {
        import_refuse(importing, item, "the event is not what its bytes say");
        return -1;
    }
    core_chain_add(&session->chain, event.seq, item->bytes);
    if (memcmp(&session->chain, &item->chain, sizeof(item->chain)) != 0) {
        import_refuse(importing, item,
                      "its chain does not follow from the lines before: one of "
                      "them was changed, or is missing");
        return -1;
    }
    if (event.ts_ms < core_session_ts_ms(session->core) ||
        core_apply(session->core, &event, &why) != 0) {
        import_refuse(importing, item, "the event does not follow from those before it");
        return -1;
    }
    if (commands_changes_membership(event.type))
        session->membership_seq = event.seq;
    importing->directory = importing->directory || event.type <= CORE_SESSION_UPDATE ||
                           core_event_attends(&event);
    buf_add_str(&importing->events, item->bytes);
    shard->stats.events++;
    return 0;
}

static void import_answer(struct session *session, struct request *request)
{
    struct buf *out = &request->body;
    commands_stand(session, request);
    buf_add_literal(out, "{\"session\":");
    json_add_string(out, session_id(session));
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, core_session_epoch(session->core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, request->seq);
    buf_add_literal(out, ",\"chain\":\"");
    query_add_chain(&session->chain, out);
    buf_add_literal(out, "\"}");
}

/* The page as one record. False: no room this turn. */
static bool import_log(struct importing *importing)
{
    struct shard *shard = importing->shard;
    struct session *session = importing->session;
    struct request *request = importing->request;
    struct buf *body = &shard->snapshot;
    body->n = 0;
    record_add_count(body, 0);
    buf_add_str(body, buf_str(&importing->events));
    int room = log_reserve(shard->log, body->n);
    if (room == -EAGAIN && *shard->failed == NULL)
        return false;
    if (room != 0) {
        import_undo(importing);
        import_drop(shard, session);
        shard_refuse(shard, session, request,
                     room == -ENOSPC  ? (unsigned)REQUEST_E_NO_SPACE
                     : room == -EFBIG ? (unsigned)CORE_E_TOO_LARGE
                                      : (unsigned)REQUEST_E_UNAVAILABLE,
                     NULL, "there is no room in the log for this page: the import was given up");
        return true;
    }
    struct log_record record = {
        .type = LOG_RECORD_EVENTS,
        .flags = (uint8_t)((importing->directory ? LOG_RECORD_DIRECTORY : 0) |
                           (request->import_more ? LOG_RECORD_IMPORTING : 0)),
        .session = session_id(session),
        .epoch = session->epoch,
        .seq = core_session_seq(session->core) + 1 - request->imports_n,
        .events = request->imports_n,
        .ts_ms = core_session_ts_ms(session->core),
        .previous = session->head,
        .body = buf_str(body),
    };
    shard_append(shard, session, &record, NULL);
    core_keep(session->core);
    session->importing = request->import_more;
    if (!session->importing) {
        commands_expire(shard, session);
        attended_load(shard, session);
    }
    if (snapshot_due(shard, session))
        snapshot_write(shard, session);
    import_answer(session, request);
    shard_reply_committed(shard, session, request);
    return true;
}

static enum chore_result import_run(struct chore *chore, int64_t until_ns)
{
    struct importing *importing = chore->owner;
    struct request *request = importing->request;
    struct shard *shard = importing->shard;
    struct session *session = importing->session;
    while (importing->at < request->imports_n) {
        const struct request_import *item = &request->imports[importing->at++];
        int result = import_event(importing, item);
        arena_reset(&shard->scratch);
        if (result != 0) {
            import_end(importing);
            return CHORE_DONE;
        }
        if (importing->at % EVENTS_A_LOOK == 0 && shard_clock_ns(shard) > until_ns)
            return CHORE_MORE;
    }
    if (!request->import_more && !str_equal(core_session_id(session->core), session_id(session)))
        import_refuse(importing, &request->imports[request->imports_n - 1],
                      "the events are of another session than the path names");
    else if (!import_log(importing))
        return CHORE_WAIT;
    import_end(importing);
    return CHORE_DONE;
}

void import_page(struct shard *shard, struct session *session, struct request *request)
{
    if (session->core != NULL && request->after == 0 && session->importing) {
        import_drop(shard, session); /* an import before this one was not finished */
        if (session->core != NULL) {
            shard->stats.no_space++;
            shard_refuse(shard, session, request, REQUEST_E_NO_SPACE, NULL,
                         "there is no room in the log to end the import before this one");
            return;
        }
    }
    bool fresh = session->core == NULL && request->after == 0;
    bool next = session->core != NULL && session->importing &&
                request->after == core_session_seq(session->core);
    if (request->imports_n == 0) {
        shard_refuse(shard, session, request, CORE_E_MALFORMED, NULL, "there are no events");
    } else if (fresh || next) {
        struct importing *importing = mem_alloc(sizeof(*importing));
        *importing = (struct importing){.shard = shard,
                                        .session = session,
                                        .request = request,
                                        .chain = session->chain,
                                        .membership_seq = session->membership_seq};
        if (fresh)
            importing->chain = session->chain = (struct core_chain){{0}};
        else
            core_begin(session->core);
        importing->chore = (struct chore){.run = import_run, .owner = importing};
        session->busy = true;
        shard_chore(shard, &importing->chore);
    } else if (session->core != NULL && !session->importing) {
        shard_refuse(shard, session, request, CORE_E_REFUSED, "session",
                     "there is a session \"%.*s\" already", (int)request->session.n,
                     request->session.p);
    } else {
        shard_refuse(shard, session, request, CORE_E_REFUSED, "after",
                     "no import of this session stands at seq %llu: begin again",
                     (unsigned long long)request->after);
    }
}
