/*
 * queries: views, pages, lists and figures. What comes from the state waits for the commit of what
 * it shows; what comes from the log is committed already.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdlib.h>

/* False, and answered: there is no such session. */
static bool query_find(struct shard *shard, struct session *session, struct request *request)
{
    if (session->core != NULL) {
        commands_stand(session, request);
        return true;
    }
    shard_refuse_unknown(shard, session, request);
    return false;
}

static bool query_find_thread(struct shard *shard, struct session *session, struct request *request)
{
    if (!query_find(shard, session, request))
        return false;
    if (core_session_has_thread(session->core, request->thread))
        return true;
    shard_refuse(shard, session, request, CORE_E_UNKNOWN_THREAD, "thread",
                 "there is no thread \"%.*s\" in this session", (int)request->thread.n,
                 request->thread.p);
    return false;
}

/* ---- the view */

/* {"epoch":…,"seq":…,"ts":… without the closing brace */
static void add_position(const struct session *session, struct buf *out)
{
    buf_add_literal(out, "{\"epoch\":");
    json_add_string(out, core_session_epoch(session->core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, core_session_seq(session->core));
    buf_add_literal(out, ",\"ts\":");
    json_add_time(out, core_session_ts_ms(session->core));
}

void query_envelope(const struct session *session, const char *reset, struct buf *out)
{
    add_position(session, out);
    if (reset != NULL) {
        buf_add_literal(out, ",\"reset\":");
        json_add_string(out, (struct str){reset, strlen(reset)});
    }
    buf_add_literal(out, ",\"state\":");
    core_view(session->core, out);
    buf_add_byte(out, '}');
}

void query_view(struct shard *shard, struct session *session, struct request *request)
{
    if (!query_find(shard, session, request))
        return;
    query_envelope(session, NULL, &request->body);
    shard_reply_committed(shard, session, request);
}

void query_thread(struct shard *shard, struct session *session, struct request *request)
{
    if (!query_find_thread(shard, session, request))
        return;
    add_position(session, &request->body);
    buf_add_literal(&request->body, ",\"thread\":");
    core_view_thread(session->core, request->thread, &request->body);
    buf_add_byte(&request->body, '}');
    shard_reply_committed(shard, session, request);
}

/* ---- pages from the log */

struct page {
    struct str name;
    struct buf items; /* JSON objects, each with a comma before it */
    uint32_t *starts; /* descending: where each begins */
    uint32_t n;
    bool more; /* there is one behind the page's last */
};

static struct page *page_of(struct history *history)
{
    return history->u.page;
}

/* False: the page is full, and this one is for the next. */
static bool page_add_begin(struct history *history, const struct core_event *event)
{
    struct page *page = page_of(history);
    if (page->n == history->request->limit || page->items.n >= PAGE_BYTES) {
        page->more = true;
        return false;
    }
    page->starts[page->n++] = (uint32_t)page->items.n;
    history->last_seq = event->seq;
    return true;
}

static bool page_visit_event(struct history *history, const struct core_event *event)
{
    uint32_t types = history->request->types;
    if (types != 0 && !(types >> event->type & 1))
        return true;
    if (!page_add_begin(history, event))
        return false;
    core_event_json(event, &page_of(history)->items);
    return true;
}

static bool page_visit_message(struct history *history, const struct core_event *event)
{
    if (event->type != CORE_MESSAGE_SEND || !str_equal(event->f.thread, history->request->thread))
        return true;
    if (!page_add_begin(history, event))
        return false;
    core_message_json(event, false, &page_of(history)->items);
    return true;
}

static void page_write(const struct history *history, const struct page *page, struct buf *out)
{
    buf_add_literal(out, "{\"");
    buf_add_str(out, page->name);
    buf_add_literal(out, "\":[");
    for (uint32_t i = 0; i < page->n; i++) {
        uint32_t at = history->descending ? page->n - 1 - i : i;
        size_t end = at + 1 < page->n ? page->starts[at + 1] : page->items.n;
        if (i != 0)
            buf_add_byte(out, ',');
        buf_add(out, page->items.p + page->starts[at], end - page->starts[at]);
    }
    buf_add_literal(out, "],\"next\":");
    if (page->more)
        buf_add_u64(out, history->last_seq);
    else
        buf_add_literal(out, "null");
    buf_add_byte(out, '}');
}

static void page_done(struct history *history, int error)
{
    struct shard *shard = history->shard;
    struct request *request = history->request;
    struct page *page = page_of(history);
    if (error == 0) {
        page_write(history, page, &request->body);
        shard_reply_committed(shard, history->session, request); /* it says where that stands */
    } else if (error == -ENOENT) {
        shard_refuse(shard, history->session, request, CORE_E_UNKNOWN_SESSION, "session",
                     "the session was deleted");
    } else {
        shard_refuse(shard, history->session, request, CORE_E_INVARIANT, NULL,
                     "the session's events cannot be read back");
    }
    buf_free(&page->items);
    free(page->starts);
    free(page);
    history_free(history);
}

static void page_start(struct shard *shard, struct session *session, struct request *request,
                       struct str name, history_visit *visit, bool descending)
{
    if (session->committed_seq == 0) { /* it has just been made */
        shard_retry_committed(shard, session, request);
        return;
    }
    struct history *history = history_new(shard, session, request);
    struct page *page = mem_alloc(sizeof(*page));
    *page = (struct page){.name = name};
    page->starts = mem_alloc(request->limit * sizeof(*page->starts));
    history->after = request->has_after ? request->after : 0;
    history->until = request->has_before ? request->before - (request->before != 0) : UINT64_MAX;
    history->descending = descending;
    history->visit = visit;
    history->done = page_done;
    history->u.page = page;
    history_start(history);
}

void query_events(struct shard *shard, struct session *session, struct request *request)
{
    if (query_find(shard, session, request))
        page_start(shard, session, request, STR("events"), page_visit_event, false);
}

void query_messages(struct shard *shard, struct session *session, struct request *request)
{
    if (query_find_thread(shard, session, request))
        page_start(shard, session, request, STR("messages"), page_visit_message,
                   !request->has_after);
}

/* ---- lists */

static bool list_matches(const struct session *session, const struct request *request)
{
    const struct core_labels *labels = core_session_labels(session->core);
    for (uint32_t i = 0; i < request->labels_n; i++) {
        const struct request_label_filter *filter = &request->labels[i];
        uint32_t at = 0;
        while (at < labels->n && !str_equal(labels->items[at].key, filter->key))
            at++;
        if (at == labels->n)
            return false;
        if (filter->value.p != NULL && !str_equal(labels->items[at].value, filter->value))
            return false;
    }
    return true;
}

static void list_add(const struct session *session, struct request *request)
{
    struct buf *out = &request->body;
    if (request->count++ != 0)
        buf_add_byte(out, ',');
    buf_add_literal(out, "{\"id\":");
    json_add_string(out, session_id(session));
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, core_session_epoch(session->core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, core_session_seq(session->core));
    buf_add_literal(out, ",\"status\":");
    json_add_string(out, core_session_closed(session->core) ? STR("closed") : STR("open"));
    buf_add_literal(out, ",\"labels\":");
    json_add_labels(out, core_session_labels(session->core));
    buf_add_literal(out, ",\"created_at\":");
    json_add_time(out, core_session_created_ms(session->core));
    buf_add_literal(out, ",\"ts\":");
    json_add_time(out, core_session_ts_ms(session->core));
    buf_add_byte(out, '}');
}

/* A list may show any of the shard's sessions: it waits for all that is not committed yet. */
static void list_reply(struct shard *shard, struct request *request)
{
    if (shard->dirty <= log_committed(shard->log) || *shard->failed != NULL)
        shard_reply(shard, request);
    else
        shard_effect(shard, shard->dirty, EFFECT_REPLY)->request = request;
}

void query_list(struct shard *shard, struct request *request)
{
    struct str from = request->last_id.p != NULL ? request->last_id : request->cursor;
    struct session *at = session_after(shard, from);
    for (unsigned steps = 0; at != NULL; at = session_next(at)) {
        if (++steps > LIST_STEPS || at->busy) { /* half of a batch is nothing to show */
            request->last_id = arena_copy(&request->arena, request->last_id);
            shard_go_on(shard, request);
            return;
        }
        if (at->core != NULL && core_session_seq(at->core) != 0 && list_matches(at, request)) {
            if (request->count == request->limit) {
                request->more = true;
                break;
            }
            list_add(at, request);
        }
        request->last_id = session_id(at); /* the session's own: copied before it may go */
    }
    request->last_id = arena_copy(&request->arena, request->last_id);
    list_reply(shard, request);
}

/* ---- figures */

static void add_figure(struct buf *out, const char *name, uint64_t value)
{
    buf_add_literal(out, ",\"");
    buf_add(out, name, strlen(name));
    buf_add_literal(out, "\":");
    buf_add_u64(out, value);
}

void query_status(struct shard *shard, struct request *request)
{
    struct buf *out = &request->body;
    const struct log_stats *log = log_stats(shard->log);
    uint64_t queued = 0;
    for (unsigned f = 0; f < shard->frontends; f++)
        queued += ring_waiting(shard->requests[f]);
    buf_add_literal(out, "{\"shard\":");
    buf_add_u64(out, shard->number);
    add_figure(out, "sessions", shard->sessions);
    add_figure(out, "waiting", shard->waiting);
    add_figure(out, "queued", queued);
    add_figure(out, "requests", shard->stats.requests);
    add_figure(out, "commands", shard->stats.commands);
    add_figure(out, "events", shard->stats.events);
    add_figure(out, "refused", shard->stats.refused);
    add_figure(out, "replayed", shard->stats.replayed);
    add_figure(out, "overloaded", shard->stats.overloaded);
    add_figure(out, "no_space", shard->stats.no_space);
    add_figure(out, "frames", shard->stats.frames);
    add_figure(out, "frames_lost", shard->stats.frames_lost);
    add_figure(out, "ring_full", shard->stats.ring_full);
    add_figure(out, "history_records", shard->stats.history_records);
    add_figure(out, "memory_bytes", heap_used_bytes(&shard->heap));
    buf_add_literal(out, ",\"log\":{\"commits\":");
    buf_add_u64(out, log->batches);
    add_figure(out, "records", log->records);
    add_figure(out, "bytes", log->bytes);
    add_figure(out, "segments", log->segments);
    add_figure(out, "torn_bytes", log->torn_bytes);
    add_figure(out, "commit_mean_us", log->batches != 0 ? log->commit_ns / log->batches / 1000 : 0);
    add_figure(out, "commit_last_us", log->commit_ns_last / 1000);
    buf_add_literal(out, "}}");
    shard_reply(shard, request);
}
