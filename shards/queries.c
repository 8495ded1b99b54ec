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

void query_add_position(const struct core_session *core, struct buf *out)
{
    buf_add_literal(out, "{\"epoch\":");
    json_add_string(out, core_session_epoch(core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, core_session_seq(core));
    buf_add_literal(out, ",\"ts\":");
    json_add_time(out, core_session_ts_ms(core));
}

void query_envelope(const struct core_session *core, const struct request *request,
                    const char *reset, struct buf *out)
{
    query_add_position(core, out);
    if (reset != NULL) {
        buf_add_literal(out, ",\"reset\":");
        json_add_string(out, (struct str){reset, strlen(reset)});
    }
    buf_add_literal(out, ",\"state\":");
    if (request->outline)
        core_view_outline(core, request->parts, out);
    else
        core_view_parts(core, request->parts, request->compact, out);
    buf_add_byte(out, '}');
}

void query_view(struct shard *shard, struct session *session, struct request *request)
{
    if (request->at.given) {
        query_past(shard, session, request);
        return;
    }
    if (!query_find(shard, session, request))
        return;
    query_envelope(session->core, request, NULL, &request->body);
    shard_reply_committed(shard, session, request);
}

void query_thread(struct shard *shard, struct session *session, struct request *request)
{
    if (!query_find_thread(shard, session, request))
        return;
    query_add_position(session->core, &request->body);
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

/* Whether it is one of those asked for. */
static bool page_wants(const struct request *request, const struct core_event *event)
{
    return (request->types == 0 || request->types >> event->type & 1) &&
           (request->agent.p == NULL || core_event_of_agent(event, request->agent)) &&
           (request->thread.p == NULL || core_event_of_thread(event, request->thread)) &&
           (!request->has_since || event->ts_ms >= request->since_ms) &&
           (!request->has_until || event->ts_ms < request->until_ms);
}

/* Time never goes back: from here on nothing is wanted any more. */
static bool page_is_past(const struct request *request, const struct core_event *event)
{
    return request->descending ? request->has_since && event->ts_ms < request->since_ms
                               : request->has_until && event->ts_ms >= request->until_ms;
}

static bool page_visit_event(struct history *history, const struct core_event *event,
                             struct str bytes)
{
    (void)bytes;
    if (page_is_past(history->request, event))
        return false;
    if (!page_wants(history->request, event))
        return true;
    if (!page_add_begin(history, event))
        return false;
    core_event_json(event, &page_of(history)->items);
    return true;
}

static bool page_visit_message(struct history *history, const struct core_event *event,
                               struct str bytes)
{
    (void)bytes;
    if (event->type != CORE_MESSAGE_SEND || !str_equal(event->f.thread, history->request->thread))
        return true;
    if (!page_add_begin(history, event))
        return false;
    core_message_json(event, false, &page_of(history)->items);
    return true;
}

static void page_write(const struct history *history, const struct page *page, struct buf *out)
{
    /* Messages are told oldest first, whichever way they were read. */
    bool turned = history->descending && history->request->kind == REQUEST_MESSAGES;
    buf_add_literal(out, "{\"");
    buf_add_str(out, page->name);
    buf_add_literal(out, "\":[");
    for (uint32_t i = 0; i < page->n; i++) {
        uint32_t at = turned ? page->n - 1 - i : i;
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
    } else {
        query_gone(shard, history->session, request, NULL, error, history->oldest);
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
        page_start(shard, session, request, STR("events"), page_visit_event, request->descending);
}

void query_messages(struct shard *shard, struct session *session, struct request *request)
{
    if (query_find_thread(shard, session, request))
        page_start(shard, session, request, STR("messages"), page_visit_message,
                   !request->has_after);
}

/* ---- whether it is there */

void query_exists(struct shard *shard, struct session *session, struct request *request)
{
    if (session->core == NULL) {
        shard_refuse_unknown(shard, session, request);
        return;
    }
    request->more = upkeep_half_over(shard, session->entry);
    shard_reply_committed(shard, session, request);
}

/* A life that was in the log when it left memory, or at the start, is not taken back by what is
 * being done now: so of one that is being loaded, or is busy otherwise, it is as good. */
bool query_exists_passive(struct shard *shard, struct request *request)
{
    uint64_t hash = request->hash != 0 ? request->hash : entry_hash(shard, request->session);
    struct entry *entry = entry_find_hashed(shard, request->session, hash);
    bool known = entry != NULL && entry->flags & ENTRY_ALIVE && !(entry->flags & ENTRY_IMPORTING);
    if (entry != NULL && entry->flags & ENTRY_ACTIVE && !(known && entry->u.session->busy))
        return false;
    if (known) {
        request->more = upkeep_half_over(shard, entry);
        shard_reply(shard, request);
    } else {
        shard_refuse_unknown(shard, NULL, request);
    }
    return true;
}

/* ---- figures */

static void add_figure(struct buf *out, const char *name, uint64_t value)
{
    buf_add_literal(out, ",\"");
    buf_add(out, name, strlen(name));
    buf_add_literal(out, "\":");
    buf_add_u64(out, value);
}

static void add_lanes(struct buf *out, const struct shard_figures *figures)
{
    static const char *const names[REQUEST_LANES] = {"control", "commands", "telemetry"};
    buf_add_literal(out, ",\"lanes\":{");
    for (unsigned lane = 0; lane < REQUEST_LANES; lane++) {
        if (lane != 0)
            buf_add_byte(out, ',');
        json_add_string(out, (struct str){names[lane], strlen(names[lane])});
        buf_add_literal(out, ":{\"queued\":");
        buf_add_u64(out, figures->lane_queued[lane]);
        add_figure(out, "full", figures->lane_full[lane]);
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, '}');
}

static void describe_connected(struct shard *shard, struct request *request)
{
    struct buf text = {0};
    if (shard->describe == NULL)
        return;
    shard->describe(shard->frontend, &text);
    request->connected = arena_copy(&request->arena, buf_str(&text));
    buf_free(&text);
}

void query_status(struct shard *shard, struct request *request)
{
    struct buf *out = &request->body;
    const struct log_stats *log = log_stats(shard->log);
    const struct shard_figures *figures = shard_figures(shard, &request->arena);
    buf_add_literal(out, "{\"shard\":");
    buf_add_u64(out, shard->number);
    add_figure(out, "sessions", shard->sessions);
    add_figure(out, "active", shard->active);
    add_figure(out, "companions", shard->companions);
    add_figure(out, "companions_active", shard->companions_active);
    add_figure(out, "waiting", shard->waiting);
    add_figure(out, "queued", figures->queued);
    add_lanes(out, figures);
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
    add_figure(out, "loads", shard->stats.loads);
    add_figure(out, "load_failures", shard->stats.load_failures);
    add_figure(out, "passivations", shard->stats.passivations);
    add_figure(out, "expired", shard->stats.expired);
    add_figure(out, "wakes", shard->stats.wakes);
    add_figure(out, "wake_failures", shard->stats.wake_failures);
    add_figure(out, "snapshots", shard->stats.snapshots);
    add_figure(out, "snapshot_bytes", shard->stats.snapshot_bytes);
    add_figure(out, "checkpoints", shard->stats.checkpoints);
    add_figure(out, "checkpoint_bytes", shard->stats.checkpoint_bytes);
    add_figure(out, "compactions", shard->stats.compactions);
    add_figure(out, "compacted_bytes", shard->stats.compacted_bytes);
    add_figure(out, "deleted_waiting", shard->garbage.n);
    add_figure(out, "deleted_waiting_bytes", shard->garbage.bytes);
    add_figure(out, "forks", shard->forks_n);
    add_figure(out, "pins", shard->pins_n);
    add_figure(out, "deleted_kept", shard->kept_n);
    add_figure(out, "memory_bytes", figures->memory_bytes);
    add_figure(out, "sessions_bytes", shard->heap.allocated_bytes);
    add_figure(out, "rate_limited", shard->stats.rate_limited);
    add_figure(out, "memory_refused", shard->stats.memory_refused);
    add_figure(out, "broken", shard->stats.broken);
    quarantine_describe(shard, out);
    buf_add_literal(out, ",\"log\":{\"commits\":");
    buf_add_u64(out, log->batches);
    add_figure(out, "records", log->records);
    add_figure(out, "bytes", log->bytes);
    add_figure(out, "segments", log->segments);
    add_figure(out, "torn_bytes", log->torn_bytes);
    add_figure(out, "commit_mean_us", log->batches != 0 ? log->commit_ns / log->batches / 1000 : 0);
    add_figure(out, "commit_last_us", log->commit_ns_last / 1000);
    buf_add_literal(out, "}}");
    request->figures = figures;
    describe_connected(shard, request);
    shard_reply(shard, request);
}
