#include "server/mcp/notify.h"
#include "server/auth/guard.h"

#include "server/framing.h"
#include "server/scan.h"
#include "server/stream.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 64 };

/* A resource that is subscribed to. */
struct subscription {
    struct subscription *next;
    struct mcp_resource_name name; /* lies in uri */
    bool wanted;                   /* while they are read anew */
    bool updated;                  /* to be told */
    /* Where its session stood when it was subscribed to; epoch "": that is not known. */
    char epoch[CORE_EPOCH_BYTES + 1];
    uint64_t seq;
    uint32_t uri_n;
    char uri[];
};

/* A session that is watched for one of them, or for its list of resources. */
struct watch {
    struct watcher watcher;
    struct mcp_notes *notes;
    struct watch *next;
    bool first;   /* what was told before is not known: all of it may have changed */
    bool goes_on; /* from where the client was told */
    bool wanted;
    bool over;  /* it tells no more … */
    bool again; /* … unless it is begun anew */
    char session[CORE_ID_BYTES];
    uint8_t session_n;
};

struct mcp_notes {
    struct mcp_sink *sink;
    struct subscription *subscriptions;
    struct watch *watches;
    struct watcher companion; /* good where has_companion */
    uint64_t token;
    uint32_t subscriptions_n;
    char *subscription_id; /* JSON, mem_alloc'ed; NULL: not of a listen */
    struct str owner;      /* companion's name, in owner_text */
    char owner_text[MCP_COMPANION_BYTES];
    char name[NAME_BYTES];     /* of this stream, in the companion */
    char bound[CORE_ID_BYTES]; /* session of the URL */
    uint8_t bound_n;           /* 0: none */
    char agent[CORE_ID_BYTES];
    uint8_t agent_n;
    char position[NAME_BYTES]; /* to go on from, once */
    bool comes_back, has_companion, reading, read_again, newest, lists, list_changed;
    bool known; /* what is subscribed to has been read */
    bool ready; /* and all of it is watched: the client has been told so */
};

static struct str bound_of(const struct mcp_notes *notes)
{
    return (struct str){notes->bound_n != 0 ? notes->bound : NULL, notes->bound_n};
}

static struct frontend *frontend_of(const struct mcp_notes *notes)
{
    return notes->sink->frontend;
}

static void wake(const struct mcp_notes *notes)
{
    if (notes->sink->outlet != NULL)
        outlet_wake(notes->sink->outlet);
}

/* What would be escaped in JSON is in no URI; and so a label's key is its text. */
static bool is_plain(struct str uri)
{
    for (size_t i = 0; i < uri.n; i++) {
        if ((unsigned char)uri.p[i] <= ' ' || uri.p[i] == '"' || uri.p[i] == '\\')
            return false;
    }
    return true;
}

bool mcp_notes_can(struct str uri, struct str session)
{
    return is_plain(uri) &&
           (mcp_resource_parse(uri, session).kind != MCP_RESOURCE_NONE ||
            (mcp_extension != NULL && mcp_extension->knows != NULL && mcp_extension->knows(uri)));
}

/* ---- what events say */

static void mark(struct mcp_notes *notes, struct str session, struct str thread, bool all)
{
    for (struct subscription *s = notes->subscriptions; s != NULL; s = s->next) {
        bool of_thread = s->name.kind == MCP_RESOURCE_THREAD;
        if (str_equal(s->name.session, session) &&
            (all || !of_thread || str_equal(s->name.thread, thread)))
            s->updated = true;
    }
}

/* agent.left has all threads that it was in. */
static void mark_threads(struct mcp_notes *notes, struct str session, struct str threads)
{
    struct str id;
    while (scan_next(&threads, NULL, &id))
        mark(notes, session, scan_id(id), false);
}

static void on_event(struct watch *watch, struct str event)
{
    struct mcp_notes *notes = watch->notes;
    struct str session = {watch->session, watch->session_n};
    struct str type = scan_id(scan_member(event, "type"));
    struct str threads = scan_member(event, "threads");

    if (type.p == NULL) { /* the last word on a session that was deleted */
        mark(notes, session, (struct str){0}, true);
        notes->list_changed = true;
        return;
    }
    mark(notes, session, scan_id(scan_member(event, "thread")), false);
    if (threads.p != NULL)
        mark_threads(notes, session, threads);
    if (str_equal(type, STR("thread.created")))
        notes->list_changed = true;
}

/* Messages as server-sent events: what stands in their `data`. */
static void on_text(void *ctx, struct str text)
{
    static const char data[] = "data: ";
    const char *p = text.p, *end = text.p + text.n;
    while (p < end) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        if (line_end == NULL)
            return;
        size_t n = (size_t)(line_end - p);
        if (n > sizeof(data) - 1 && memcmp(p, data, sizeof(data) - 1) == 0)
            on_event(ctx, (struct str){p + sizeof(data) - 1, n - (sizeof(data) - 1)});
        p = line_end + 1;
    }
}

/* ---- watching sessions */

static void on_ready(struct watcher *watcher)
{
    wake(((struct watch *)watcher->owner)->notes);
}

/* What happened between a subscription and the beginning of its watch. */
static void mark_if_behind(struct subscription *s, const struct watch *watch)
{
    struct str epoch = {s->epoch, strlen(s->epoch)};
    if (epoch.n == 0 || !str_equal(s->name.session, (struct str){watch->session, watch->session_n}))
        return;
    s->updated |= !str_equal(epoch, watcher_epoch(&watch->watcher)) || watch->watcher.told > s->seq;
    s->epoch[0] = 0; /* from now on the watch knows better */
}

static void get_ready(struct mcp_notes *notes);

static void on_begun(struct watcher *watcher)
{
    struct watch *watch = watcher->owner;
    struct mcp_notes *notes = watch->notes;

    if (watch->first) {
        mark(notes, (struct str){watch->session, watch->session_n}, (struct str){0}, true);
        notes->list_changed |= notes->lists;
        watch->first = false;
    }
    for (struct subscription *s = notes->subscriptions; s != NULL; s = s->next)
        if (!watch->goes_on)
            mark_if_behind(s, watch);
    get_ready(notes);
    wake(notes);
}

/* It is not there; or what it is to tell next is no longer kept, and it begins anew. */
static void on_refused(struct watcher *watcher, unsigned error, const struct core_refusal *why)
{
    struct watch *watch = watcher->owner;
    (void)why;
    watch->over = true;
    watch->again = error == REQUEST_E_GONE || error == REQUEST_E_UNAVAILABLE;
    get_ready(watch->notes);
    wake(watch->notes);
}

static const struct watcher_ops watch_ops = {
    .ready = on_ready,
    .begun = on_begun,
    .refused = on_refused,
};

static bool open_watch(struct watch *watch, struct str last_event_id)
{
    struct watcher_wish wish = {
        .session = {watch->session, watch->session_n},
        .form = WANTS_EVENTS,
        .framing = FRAMING_SSE,
        .redaction = guard_redaction(watch->notes->sink->grant),
        .last_event_id = last_event_id,
    };
    return watcher_open(&watch->watcher, frontend_of(watch->notes), &wish, &watch_ops, watch);
}

/* False: it cannot be asked for now; the stream ends, and its client comes back. */
static bool add_watch(struct mcp_notes *notes, struct str session, struct str last_event_id,
                      bool first)
{
    struct watch *watch = mem_alloc(sizeof(*watch));
    struct core_refusal why;

    if (guard_session(notes->sink->grant, AUTH_READ, session, &why) != 0) {
        free(watch); /* nothing is told of it */
        return true;
    }
    *watch = (struct watch){
        .notes = notes, .first = first, .goes_on = last_event_id.n != 0, .wanted = true};
    memcpy(watch->session, session.p, session.n);
    watch->session_n = (uint8_t)session.n;
    if (!open_watch(watch, last_event_id)) {
        free(watch);
        sink_end(notes->sink, MCP_COME_BACK_MS);
        return false;
    }
    watch->next = notes->watches;
    notes->watches = watch;
    return true;
}

/* Removes the first watch at *at. */
static void drop_watch(struct watch **at)
{
    struct watch *watch = *at;
    *at = watch->next;
    watcher_close(&watch->watcher);
    free(watch);
}

static struct watch *find_watch(const struct mcp_notes *notes, struct str session)
{
    struct watch *watch = notes->watches;
    while (watch != NULL && !str_equal((struct str){watch->session, watch->session_n}, session))
        watch = watch->next;
    return watch;
}

/* The place of the client in the session of the URL, as an id of this server's event streams. */
static struct str take_position(struct mcp_notes *notes, struct str session,
                                char out[FRAMING_ID_BYTES])
{
    char view[FRAMING_VIEW_BYTES];
    if (notes->position[0] == 0 || !str_equal(session, bound_of(notes)))
        return (struct str){0};
    struct str form = framing_view(WANTS_EVENTS, NULL, NULL, view);
    int n = snprintf(out, FRAMING_ID_BYTES, "%s-%.*s", notes->position, (int)form.n, form.p);
    notes->position[0] = 0;
    return (struct str){out, (size_t)n};
}

static bool want(struct mcp_notes *notes, struct str session)
{
    char id[FRAMING_ID_BYTES];
    struct watch *watch = find_watch(notes, session);

    if (watch != NULL) {
        watch->wanted = true;
        return true;
    }
    struct str last = take_position(notes, session, id);
    return add_watch(notes, session, last, notes->comes_back && last.n == 0);
}

/* Watches the sessions that something is subscribed of, and no others. */
static void watch_what_is_wanted(struct mcp_notes *notes)
{
    for (struct watch *watch = notes->watches; watch != NULL; watch = watch->next)
        watch->wanted = false;
    if (notes->lists && notes->bound_n != 0 && !want(notes, bound_of(notes)))
        return;
    for (const struct subscription *s = notes->subscriptions; s != NULL; s = s->next)
        if (s->name.session.p != NULL && !want(notes, s->name.session))
            return;
    for (struct watch **at = &notes->watches; *at != NULL;) {
        if ((*at)->wanted)
            at = &(*at)->next;
        else
            drop_watch(at);
    }
    notes->comes_back = false;
}

/* ---- subscriptions */

static struct subscription **find_subscription(struct mcp_notes *notes, struct str uri)
{
    struct subscription **at = &notes->subscriptions;
    while (*at != NULL && !str_equal((struct str){(*at)->uri, (*at)->uri_n}, uri))
        at = &(*at)->next;
    return at;
}

/* `position`: "<epoch>-<seq>", p == NULL: not known. */
static void take_standing(struct mcp_notes *notes, struct subscription *s, struct str position)
{
    const char *dash = position.n != 0 ? memrchr(position.p, '-', position.n) : NULL;
    struct watch *watch = s->name.session.p != NULL ? find_watch(notes, s->name.session) : NULL;

    if (dash == NULL || (size_t)(dash - position.p) > CORE_EPOCH_BYTES ||
        !query_number((struct str){dash + 1, (size_t)(position.p + position.n - dash) - 1},
                      &s->seq))
        return;
    memcpy(s->epoch, position.p, (size_t)(dash - position.p));
    if (watch != NULL && watch->watcher.begun)
        mark_if_behind(s, watch);
}

static void add_subscription(struct mcp_notes *notes, struct str uri, struct str position)
{
    struct subscription **at = find_subscription(notes, uri);
    if (*at == NULL) {
        *at = mem_alloc(sizeof(**at) + uri.n);
        **at = (struct subscription){.uri_n = (uint32_t)uri.n};
        memcpy((*at)->uri, uri.p, uri.n);
        (*at)->name = mcp_resource_parse((struct str){(*at)->uri, uri.n}, bound_of(notes));
        if ((*at)->name.kind == MCP_RESOURCE_CORAL_STATE)
            (*at)->name.session = bound_of(notes);
        notes->subscriptions_n++;
        take_standing(notes, *at, position);
    }
    (*at)->wanted = true;
}

static void drop_subscription(struct mcp_notes *notes, struct subscription **at)
{
    struct subscription *s = *at;
    *at = s->next;
    notes->subscriptions_n--;
    free(s);
}

/* ---- what a GET stream reads from the companion of its MCP session */

static void ask_companion(struct mcp_notes *notes, struct request *request)
{
    request->token = MCP_NOTES_TOKEN | notes->token;
    outbox_send(&frontend_of(notes)->outbox, frontend_of(notes)->mailbox, request);
}

static void read_companion(struct mcp_notes *notes)
{
    if (notes->reading) {
        notes->read_again = true;
        return;
    }
    struct request *request = mcp_labels_request(notes->owner);
    notes->reading = true;
    ask_companion(notes, request);
}

static void take_labels(struct mcp_notes *notes, struct str labels)
{
    struct str key, value;

    for (struct subscription *s = notes->subscriptions; s != NULL; s = s->next)
        s->wanted = false;
    notes->newest = false;
    while (scan_next(&labels, &key, &value)) {
        if (key.n > 1 && key.p[0] == '+')
            add_subscription(notes, (struct str){key.p + 1, key.n - 1}, scan_id(value));
        else if (str_equal(key, STR("stream")))
            notes->newest =
                str_equal(scan_id(value), (struct str){notes->name, strlen(notes->name)});
        else if (str_equal(key, STR("level")))
            notes->sink->level = mcp_level_of(scan_id(value));
    }
    for (struct subscription **at = &notes->subscriptions; *at != NULL;) {
        if ((*at)->wanted)
            at = &(*at)->next;
        else
            drop_subscription(notes, at);
    }
    watch_what_is_wanted(notes);
    notes->known = true;
    get_ready(notes);
}

static void on_companion_event(void *ctx, struct str text)
{
    struct mcp_notes *notes = ctx;
    if (text.n > 1) /* not a comment */
        notes->read_again = true;
}

static void on_companion_ready(struct watcher *watcher)
{
    wake(watcher->owner);
}

/* The MCP session has ended, or what happened to it is too long ago: the client hears which when it
 * comes back. */
static void on_companion_refused(struct watcher *watcher, unsigned error,
                                 const struct core_refusal *why)
{
    struct mcp_notes *notes = watcher->owner;
    (void)error;
    (void)why;
    sink_end(notes->sink, MCP_COME_BACK_MS);
}

static const struct watcher_ops companion_ops = {
    .ready = on_companion_ready,
    .begun = on_companion_ready,
    .refused = on_companion_refused,
};

static void watch_companion(struct mcp_notes *notes)
{
    struct watcher_wish wish = {
        .session = notes->owner, .form = WANTS_EVENTS, .framing = FRAMING_SSE};
    notes->has_companion =
        watcher_open(&notes->companion, frontend_of(notes), &wish, &companion_ops, notes);
    if (notes->has_companion)
        read_companion(notes);
    else
        sink_end(notes->sink, MCP_COME_BACK_MS);
}

void mcp_notes_on_reply(struct frontend *frontend, struct request *request)
{
    struct mcp_notes *notes = slots_find(&frontend->mcp.streams, request->token & ~MCP_NOTES_TOKEN);

    if (notes == NULL) {
        request_free(request);
        return;
    }
    bool reading = request->kind == REQUEST_VIEW;
    bool again = reading && notes->read_again;
    if (reading)
        notes->reading = notes->read_again = false;
    if (request->error != 0)
        sink_end(notes->sink, MCP_COME_BACK_MS);
    else if (!reading)
        watch_companion(notes);
    else
        take_labels(notes, scan_member(scan_member(buf_str(&request->body), "state"), "labels"));
    request_free(request);
    if (again && !notes->sink->ending)
        read_companion(notes);
    wake(notes);
}

/* ---- saying it */

/* How far the session of the URL was told. */
static void add_event_id(const struct mcp_notes *notes, struct buf *out)
{
    const struct watch *watch = notes->bound_n != 0 ? find_watch(notes, bound_of(notes)) : NULL;
    struct buf payload = {0};

    buf_add_byte(&payload, MCP_EVENT_NOTES);
    buf_add_str(&payload, notes->owner);
    buf_add_byte(&payload, '\n');
    if (watch != NULL && watch->watcher.begun) {
        buf_add_str(&payload, watcher_epoch(&watch->watcher));
        buf_add_byte(&payload, '-');
        buf_add_u64(&payload, watch->watcher.told);
    }
    buf_add_literal(out, "id: ");
    sign_text(frontend_of(notes)->mcp.events, buf_str(&payload), out);
    buf_add_byte(out, '.');
    buf_add_u64(out, ++notes->sink->events);
    buf_add_byte(out, '\n');
    buf_free(&payload);
}

static void say(struct mcp_notes *notes, struct str method, struct str params)
{
    struct mcp_sink *sink = notes->sink;
    struct buf message = {0}, text = {0};

    if (sink->kind != SINK_NOTES) {
        rpc_write_notification(&message, method, params);
        sink_say(sink, buf_str(&message));
        buf_free(&message);
        return;
    }
    rpc_write_notification(&message, method, params);
    add_event_id(notes, &text);
    buf_add_literal(&text, "data: ");
    buf_add_str(&text, buf_str(&message));
    buf_add_literal(&text, "\n\n");
    sink_push(sink, chunk_of(buf_str(&text)));
    buf_free(&text);
    buf_free(&message);
}

/* {"_meta":{…subscriptionId…}, as listen has it; then what follows. */
static void begin_params(const struct mcp_notes *notes, struct buf *out)
{
    buf_add_byte(out, '{');
    if (notes->subscription_id == NULL)
        return;
    buf_add_literal(out, "\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":");
    buf_add(out, notes->subscription_id, strlen(notes->subscription_id));
    buf_add_byte(out, '}');
}

static void say_list_changed(struct mcp_notes *notes)
{
    struct buf params = {0};
    begin_params(notes, &params);
    buf_add_byte(&params, '}');
    say(notes, STR("notifications/resources/list_changed"),
        params.n > 2 ? buf_str(&params) : (struct str){0});
    buf_free(&params);
}

static void say_updated(struct mcp_notes *notes, const struct subscription *s)
{
    struct buf params = {0};
    begin_params(notes, &params);
    buf_add_str(&params, params.n > 1 ? STR(",\"uri\":") : STR("\"uri\":"));
    json_add_string(&params, (struct str){s->uri, s->uri_n});
    buf_add_byte(&params, '}');
    say(notes, STR("notifications/resources/updated"), buf_str(&params));
    buf_free(&params);
}

static void read_watches(struct mcp_notes *notes)
{
    for (struct watch **at = &notes->watches; *at != NULL;) {
        struct watch *watch = *at;
        while (!watch->over && watcher_read(&watch->watcher, on_text, watch))
            ;
        watch->over |= watcher_ended(&watch->watcher);
        if (!watch->over) {
            at = &watch->next;
            continue;
        }
        bool again = watch->again;
        char session[CORE_ID_BYTES];
        struct str id = {session, watch->session_n};
        memcpy(session, watch->session, watch->session_n);
        mark(notes, id, (struct str){0}, true);
        drop_watch(at);
        if (again && !add_watch(notes, id, (struct str){0}, true))
            return;
    }
}

static void say_all(struct mcp_notes *notes)
{
    if (notes->list_changed && notes->lists)
        say_list_changed(notes);
    notes->list_changed = false;
    for (struct subscription *s = notes->subscriptions; s != NULL; s = s->next) {
        if (s->updated)
            say_updated(notes, s);
        s->updated = false;
    }
}

void mcp_notes_fill(struct mcp_notes *notes)
{
    if (notes->has_companion) {
        while (watcher_read(&notes->companion, on_companion_event, notes))
            ;
        if (watcher_ended(&notes->companion)) { /* DELETE */
            sink_end(notes->sink, 0);
            return;
        }
        if (notes->read_again)
            read_companion(notes);
    }
    read_watches(notes);
    /* Of an MCP session's streams only the newest is told. */
    if (notes->newest || !notes->has_companion)
        say_all(notes);
}

/* ---- beginning and end */

static struct mcp_notes *notes_new(struct mcp_sink *sink, struct str session)
{
    struct mcp_notes *notes = mem_alloc(sizeof(*notes));

    *notes = (struct mcp_notes){.sink = sink};
    notes->token = slots_add(&sink->frontend->mcp.streams, notes);
    if (session.p != NULL) {
        memcpy(notes->bound, session.p, session.n);
        notes->bound_n = (uint8_t)session.n;
    }
    sink->notes = notes;
    return notes;
}

void mcp_notes_free(struct mcp_notes *notes)
{
    slots_remove(&frontend_of(notes)->mcp.streams, notes->token);
    if (notes->has_companion)
        watcher_close(&notes->companion);
    while (notes->watches != NULL)
        drop_watch(&notes->watches);
    while (notes->subscriptions != NULL)
        drop_subscription(notes, &notes->subscriptions);
    free(notes->subscription_id);
    free(notes);
}

void mcp_notes_begin(struct mcp_sink *sink, const struct mcp_claims *claims, struct str position)
{
    struct frontend *frontend = sink->frontend;
    struct mcp_notes *notes = notes_new(sink, claims->session);
    struct request *request = request_new();

    notes->lists = true;
    notes->comes_back = position.p != NULL;
    if (claims->agent.p != NULL) {
        memcpy(notes->agent, claims->agent.p, claims->agent.n);
        notes->agent_n = (uint8_t)claims->agent.n;
    }
    if (position.n != 0 && position.n < sizeof(notes->position))
        memcpy(notes->position, position.p, position.n);
    memcpy(notes->owner_text, claims->companion.p, MCP_COMPANION_BYTES);
    notes->owner = (struct str){notes->owner_text, MCP_COMPANION_BYTES};
    snprintf(notes->name, sizeof(notes->name), "%s-%u-%llu", frontend->shared->start,
             reactor_number(frontend->reactor), (unsigned long long)notes->token);
    mcp_companion_label(request, notes->owner, STR("stream"),
                        (struct str){notes->name, strlen(notes->name)});
    ask_companion(notes, request);
}

void mcp_notes_agent(const struct mcp_notes *notes, struct str *session, struct str *agent)
{
    *session = bound_of(notes);
    *agent = (struct str){notes->agent_n != 0 ? notes->agent : NULL, notes->agent_n};
}

void mcp_notes_begin_older(struct mcp_sink *sink, struct str session)
{
    struct mcp_notes *notes = notes_new(sink, session);
    notes->lists = true;
    watch_what_is_wanted(notes);
}

bool mcp_notes_change(struct mcp_sink *sink, struct str uri, bool subscribe)
{
    struct mcp_notes *notes = sink->notes;
    struct subscription **at = find_subscription(notes, uri);

    if (subscribe && *at == NULL && notes->subscriptions_n == MCP_SUBSCRIPTIONS_MAX)
        return false;
    if (subscribe)
        add_subscription(notes, uri, (struct str){0});
    else if (*at != NULL)
        drop_subscription(notes, at);
    watch_what_is_wanted(notes);
    wake(notes);
    return true;
}

/* ---- subscriptions/listen */

static void acknowledge(struct mcp_notes *notes);

/*
 * The client hears that its stream stands when all that it is about is watched: what it does from
 * then on is told.
 */
static void get_ready(struct mcp_notes *notes)
{
    struct mcp_sink *sink = notes->sink;

    if (notes->ready || !notes->known)
        return;
    for (const struct watch *watch = notes->watches; watch != NULL; watch = watch->next)
        if (!watch->over && !watch->watcher.begun)
            return;
    notes->ready = true;
    if (sink->kind == SINK_LISTEN) {
        acknowledge(notes);
    } else if (sink->kind == SINK_NOTES) {
        sink_stream(sink);
        sink_push(sink, stream_comment());
    }
}

static bool is_true(const struct json_value *value)
{
    return value != NULL && value->type == JSON_TRUE;
}

static void acknowledge(struct mcp_notes *notes)
{
    struct buf params = {0};
    const char *comma = "";

    begin_params(notes, &params);
    buf_add_literal(&params, ",\"notifications\":{");
    if (notes->lists) {
        buf_add_literal(&params, "\"resourcesListChanged\":true");
        comma = ",";
    }
    for (const struct subscription *s = notes->subscriptions; s != NULL; s = s->next) {
        buf_add(&params, comma, strlen(comma));
        if (s == notes->subscriptions)
            buf_add_literal(&params, "\"resourceSubscriptions\":[");
        json_add_string(&params, (struct str){s->uri, s->uri_n});
        comma = ",";
    }
    buf_add_str(&params, notes->subscriptions != NULL ? STR("]}}") : STR("}}"));
    say(notes, STR("notifications/subscriptions/acknowledged"), buf_str(&params));
    buf_free(&params);
}

/* What of the filter is honoured. False: the call has been refused. */
static bool take_filter(struct mcp_call *call, const struct json_value *filter,
                        struct mcp_notes *notes)
{
    const struct json_value *uris = rpc_member(filter, STR("resourceSubscriptions"));
    bool good = uris == NULL || uris->type == JSON_ARRAY;
    const struct json_value *uri = good && uris != NULL ? json_first(uris) : NULL;

    notes->lists = call->bound && is_true(rpc_member(filter, STR("resourcesListChanged")));
    for (uint32_t i = 0; good && uri != NULL && i < uris->size; i++, uri = json_next(uri)) {
        good = uri->type == JSON_STRING && notes->subscriptions_n < MCP_SUBSCRIPTIONS_MAX;
        if (good && uri->size != 0 && uri->size <= MCP_URI_BYTES &&
            mcp_notes_can(json_str(uri), bound_of(notes)))
            add_subscription(notes, json_str(uri), (struct str){0});
    }
    return good;
}

void mcp_listen(struct mcp_call *call)
{
    struct mcp_sink *sink = call->sink;
    const struct json_value *filter = rpc_member(call->params, STR("notifications"));

    if (!sink->takes_events) {
        mcp_error(call, MCP_E_INVALID_REQUEST,
                  "The answer is an event stream: Accept must name text/event-stream.",
                  (struct str){0});
        return;
    }
    if (filter == NULL || filter->type != JSON_OBJECT) {
        mcp_error(call, MCP_E_INVALID_PARAMS, "The notifications must be an object: a filter.",
                  (struct str){0});
        return;
    }
    struct mcp_notes *notes = notes_new(sink, call->session);
    if (!take_filter(call, filter, notes)) {
        mcp_error(call, MCP_E_INVALID_PARAMS,
                  "The resourceSubscriptions must be an array of at most 48 URIs.",
                  (struct str){0});
        return;
    }
    notes->subscription_id = mem_alloc(call->id.n + 1);
    memcpy(notes->subscription_id, call->id.p, call->id.n);
    notes->subscription_id[call->id.n] = 0;
    call->listens = true;
    call->params = NULL;
    sink->kind = SINK_LISTEN;
    exchange_watch(sink->exchange);
    watch_what_is_wanted(notes);
    notes->known = true;
    get_ready(notes);
}
