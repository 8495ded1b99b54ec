/*
 * resources: what a client can read of a session: its state, its threads, its events.
 *
 * Normal path: resources/list asks the shard for the threads without their messages, and tells a
 * page of them; resources/read asks for what the URI names and gives the reply's JSON as text. What
 * is too large is given smaller, with a word on that: of a state its messages without what they
 * say, or their number; of events a page, and where the next one is. Failure: what is not there is
 * an error with the code of the client's revision, and names the URI. A session other than that of
 * the URL is not there.
 */
#include "server/mcp/resources.h"

#include "server/list.h"
#include "server/mcp/rpc.h"
#include "server/mcp/text.h"
#include "server/router.h"
#include "server/scan.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    LIST_PAGE = 100,           /* threads in an answer of resources/list */
    EVENTS_PAGE = 200,         /* events in a text */
    STATE_BYTES = 1024 * 1024, /* a state that is larger is given smaller */
};

#define ATOLL "atoll://sessions/"
#define JSON_TYPE "application/json"

/* ---- names */

/* Takes `head` off the front of *text. */
static bool skip(struct str *text, struct str head)
{
    if (text->n < head.n || memcmp(text->p, head.p, head.n) != 0)
        return false;
    *text = (struct str){text->p + head.n, text->n - head.n};
    return true;
}

/* Takes all up to the next slash, which goes too. */
static struct str take_segment(struct str *text)
{
    const char *slash = text->n != 0 ? memchr(text->p, '/', text->n) : NULL;
    struct str segment = {text->p, slash != NULL ? (size_t)(slash - text->p) : text->n};
    size_t used = segment.n + (slash != NULL);
    *text = (struct str){text->p + used, text->n - used};
    return segment;
}

static struct mcp_resource_name name_coral(struct str rest, struct str session)
{
    struct mcp_resource_name name = {.session = session};
    if (session.p == NULL) /* they are about one agent */
        return name;
    if (str_equal(rest, STR("state")))
        name.kind = MCP_RESOURCE_CORAL_STATE;
    else if (str_equal(rest, STR("instruction")))
        name.kind = MCP_RESOURCE_CORAL_INSTRUCTION;
    return name;
}

struct mcp_resource_name mcp_resource_parse(struct str uri, struct str session)
{
    struct mcp_resource_name name = {0};
    struct str rest = uri;
    if (skip(&rest, STR("coral://")))
        return name_coral(rest, session);
    if (!skip(&rest, STR(ATOLL)))
        return name;
    name.session = take_segment(&rest);
    if (!core_id_valid(name.session) || (session.p != NULL && !str_equal(name.session, session)))
        return name;
    if (str_equal(rest, STR("state"))) {
        name.kind = MCP_RESOURCE_STATE;
    } else if (skip(&rest, STR("threads/"))) {
        name.thread = rest;
        name.kind = core_id_valid(rest) ? MCP_RESOURCE_THREAD : MCP_RESOURCE_NONE;
    } else if (skip(&rest, STR("events"))) {
        if (rest.n == 0 || rest.p[0] == '?')
            name.kind = MCP_RESOURCE_EVENTS;
        if (skip(&rest, STR("?")))
            name.query = rest;
    }
    return name;
}

/* ---- answers */

void params_refuse(struct mcp_call *call, const char *format, ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    mcp_error(call, MCP_E_INVALID_PARAMS, text, (struct str){0});
}

void resource_give(struct mcp_call *call, struct str uri, const char *type, struct str text,
                   struct str note)
{
    struct buf out = {0};
    buf_add_literal(&out, "{\"contents\":[{\"uri\":");
    json_add_string(&out, uri);
    buf_add_literal(&out, ",\"mimeType\":");
    json_add_string(&out, (struct str){type, strlen(type)});
    buf_add_literal(&out, ",\"text\":");
    json_add_string(&out, text);
    if (note.n != 0) {
        buf_add_literal(&out, ",\"_meta\":{\"note\":");
        json_add_string(&out, note);
        buf_add_byte(&out, '}');
    }
    buf_add_literal(&out, "}]}");
    mcp_result(call, buf_str(&out));
    buf_free(&out);
}

void resource_unknown(struct mcp_call *call, struct str uri)
{
    enum mcp_code code =
        mcp_is_modern(call->version) ? MCP_E_INVALID_PARAMS : MCP_E_UNKNOWN_RESOURCE;
    struct buf data = {0};
    buf_add_literal(&data, "{\"uri\":");
    json_add_string(&data, uri);
    buf_add_byte(&data, '}');
    mcp_error(call, code,
              "There is no such resource here; resources/list and resources/templates/list tell "
              "which there are.",
              buf_str(&data));
    buf_free(&data);
}

void resource_refuse(struct mcp_call *call, struct str uri, struct request *request)
{
    if (request->error != CORE_E_UNKNOWN_SESSION && request->error != CORE_E_UNKNOWN_THREAD) {
        mcp_refuse_reply(call, request);
        return;
    }
    request_free(request);
    resource_unknown(call, uri);
}

struct request *resource_view(struct mcp_call *call, const struct str *parts, uint32_t n,
                              bool outline)
{
    struct request *request = mcp_request(call, REQUEST_VIEW);
    struct core_parts *copy =
        arena_alloc(&request->arena, sizeof(*copy) + n * sizeof(copy->items[0]));
    copy->n = n;
    for (uint32_t i = 0; i < n; i++)
        copy->items[i] = arena_copy(&request->arena, parts[i]);
    request->parts = copy;
    request->outline = outline;
    return request;
}

/* ---- resources/list */

static void add_uri(struct buf *out, struct str session, const char *rest)
{
    buf_add_literal(out, ATOLL);
    buf_add_str(out, session);
    buf_add(out, rest, strlen(rest));
}

/* What there is once; `more` are the members behind the URI. */
static void add_own(struct mcp_call *call, struct buf *out, const char *rest, const char *more)
{
    buf_add_literal(out, "{\"uri\":\"");
    add_uri(out, call->session, rest);
    buf_add(out, more, strlen(more));
}

static void add_first_page(struct mcp_call *call, struct buf *out)
{
    add_own(call, out, "/state",
            "\",\"name\":\"State\",\"description\":\"The whole session as it stands: agents with "
            "their status, threads with participants and newest messages.\",\"mimeType\":"
            "\"" JSON_TYPE "\"},");
    add_own(call, out, "/events",
            "\",\"name\":\"Events\",\"description\":\"All that has happened in the session, oldest "
            "first, by pages; ?after=SEQ gives what came later than that.\",\"mimeType\":"
            "\"" JSON_TYPE "\"}");
    if (call->toolset == MCP_TOOLS_CORAL)
        buf_add_literal(out,
                        ",{\"uri\":\"coral://instruction\",\"name\":\"Instructions\","
                        "\"description\":\"How to work with the other agents here.\","
                        "\"mimeType\":\"text/markdown\"},"
                        "{\"uri\":\"coral://state\",\"name\":\"State\","
                        "\"description\":\"The other agents, and the threads you take part in with "
                        "their messages.\",\"mimeType\":\"text/markdown\"}");
}

static void add_extension(struct buf *out, const char *elements)
{
    if (elements == NULL)
        return;
    if (out->p[out->n - 1] != '[')
        buf_add_byte(out, ',');
    buf_add(out, elements, strlen(elements));
}

static void add_thread(struct mcp_call *call, struct buf *out, struct str id, struct str thread)
{
    struct str name = scan_member(thread, "name");
    struct str creator = scan_id(scan_member(thread, "creator"));
    if (out->p[out->n - 1] != '[')
        buf_add_byte(out, ',');
    buf_add_literal(out, "{\"uri\":\"");
    add_uri(out, call->session, "/threads/");
    buf_add_str(out, id);
    buf_add_literal(out, "\",\"name\":");
    if (scan_id(name).n != 0)
        buf_add_str(out, name);
    else
        json_add_string(out, id);
    buf_add_literal(out, ",\"description\":\"Thread of ");
    buf_add_str(out, creator);
    buf_add_literal(out, " (");
    buf_add_str(out, scan_id(scan_member(thread, "status")));
    buf_add_literal(out, "): participants ");
    buf_add_u64(out, scan_count(scan_member(thread, "participants")));
    buf_add_literal(out, ", messages ");
    buf_add_u64(out, scan_u64(scan_member(thread, "older")));
    buf_add_literal(out, ".\",\"mimeType\":\"" JSON_TYPE "\"}");
}

/* A page of the threads behind `after` (p == NULL: the first). False: there is no `after`. */
static bool add_threads(struct mcp_call *call, struct str threads, struct str after,
                        struct buf *out, struct str *last)
{
    struct str id, thread;
    uint32_t n = 0;
    while (after.p != NULL) {
        if (!scan_next(&threads, &id, &thread))
            return false;
        if (str_equal(id, after))
            break;
    }
    while (scan_next(&threads, &id, &thread)) {
        if (n++ == LIST_PAGE)
            return true;
        add_thread(call, out, id, thread);
        *last = id;
    }
    *last = (struct str){0};
    return true;
}

static void refuse_cursor(struct mcp_call *call)
{
    params_refuse(call, "\"cursor\" must be the nextCursor of an earlier page, or left out for the "
                        "first.");
}

static void on_list(struct mcp_call *call, struct request *request)
{
    const struct str *after = call->state;
    struct buf out = {0};
    struct str last = {0};
    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    struct str threads = scan_member(scan_member(buf_str(&request->body), "state"), "threads");
    buf_add_literal(&out, "{\"resources\":[");
    if (after->p == NULL) {
        add_first_page(call, &out);
        add_extension(&out, mcp_extension != NULL ? mcp_extension->resources : NULL);
    }
    bool found = add_threads(call, threads, *after, &out, &last);
    buf_add_byte(&out, ']');
    if (last.p != NULL) {
        buf_add_literal(&out, ",\"nextCursor\":\"");
        list_cursor_write(&out, last);
        buf_add_byte(&out, '"');
    }
    buf_add_byte(&out, '}');
    request_free(request);
    if (found)
        mcp_result(call, buf_str(&out));
    else
        refuse_cursor(call);
    buf_free(&out);
}

/* What does not depend on any session: `array` is its name in the answer. */
static void give_fixed(struct mcp_call *call, const char *array, const char *own,
                       const char *extension)
{
    struct buf out = {0};
    if (rpc_member(call->params, STR("cursor")) != NULL) { /* there is one page */
        refuse_cursor(call);
        return;
    }
    buf_add_literal(&out, "{\"");
    buf_add(&out, array, strlen(array));
    buf_add_literal(&out, "\":[");
    buf_add(&out, own, strlen(own));
    add_extension(&out, extension);
    buf_add_literal(&out, "]}");
    mcp_result(call, buf_str(&out));
    buf_free(&out);
}

void mcp_resources_list(struct mcp_call *call)
{
    static const struct str threads = {"/threads", 8};
    struct str cursor = rpc_string(call->params, STR("cursor"));
    struct str *after = arena_alloc(&call->arena, sizeof(*after));
    if (!call->bound) {
        give_fixed(call, "resources", "", mcp_extension != NULL ? mcp_extension->resources : NULL);
        return;
    }
    *after = (struct str){0};
    if (rpc_member(call->params, STR("cursor")) != NULL &&
        (cursor.p == NULL || !list_cursor_read(cursor, &call->arena, after))) {
        refuse_cursor(call);
        return;
    }
    call->state = after;
    mcp_send(call, resource_view(call, &threads, 1, true), on_list);
}

void mcp_resources_templates(struct mcp_call *call)
{
    give_fixed(call, "resourceTemplates",
               "{\"uriTemplate\":\"" ATOLL "{sid}/state\",\"name\":\"State\","
               "\"description\":\"A session as it stands: agents with their status, threads with "
               "participants and newest messages.\",\"mimeType\":\"" JSON_TYPE "\"},"
               "{\"uriTemplate\":\"" ATOLL "{sid}/threads/{tid}\",\"name\":\"Thread\","
               "\"description\":\"One thread: its participants and what each has read, and its "
               "newest messages.\",\"mimeType\":\"" JSON_TYPE "\"},"
               "{\"uriTemplate\":\"" ATOLL "{sid}/events{?after}\",\"name\":\"Events\","
               "\"description\":\"What has happened in a session, oldest first, by pages: later "
               "than event number `after`, or from the beginning.\",\"mimeType\":"
               "\"" JSON_TYPE "\"}",
               mcp_extension != NULL ? mcp_extension->templates : NULL);
}

/* ---- resources/read */

struct reading {
    struct str uri;
    unsigned form; /* of a state: what of messages is given, less with each try */
};

enum { FORM_FULL, FORM_COMPACT, FORM_OUTLINE };

static void on_state(struct mcp_call *call, struct request *request);

static void ask_state(struct mcp_call *call)
{
    const struct reading *reading = call->state;
    struct request *request = mcp_request(call, REQUEST_VIEW);
    request->compact = reading->form == FORM_COMPACT;
    request->outline = reading->form == FORM_OUTLINE;
    mcp_send(call, request, on_state);
}

#define NOTE(text)                                                                                 \
    {                                                                                              \
        (text), sizeof(text) - 1                                                                   \
    }

static void on_state(struct mcp_call *call, struct request *request)
{
    static const struct str notes[] = {
        [FORM_FULL] = {NULL, 0},
        [FORM_COMPACT] = NOTE("The whole state is over 1 MiB, so messages are shown without their "
                              "content and data: read the threads for these."),
        [FORM_OUTLINE] = NOTE("The whole state is over 1 MiB, so messages are only counted, by "
                              "`older`: read the threads for them."),
    };
    struct reading *reading = call->state;
    if (request->error != 0) {
        resource_refuse(call, reading->uri, request);
    } else if (request->body.n > STATE_BYTES && reading->form != FORM_OUTLINE) {
        request_free(request);
        reading->form++;
        ask_state(call);
    } else {
        resource_give(call, reading->uri, JSON_TYPE, buf_str(&request->body), notes[reading->form]);
        request_free(request);
    }
}

static void on_thread(struct mcp_call *call, struct request *request)
{
    const struct reading *reading = call->state;
    struct buf note = {0};
    if (request->error != 0) {
        resource_refuse(call, reading->uri, request);
        return;
    }
    uint64_t older = scan_u64(scan_member(scan_member(buf_str(&request->body), "thread"), "older"));
    if (older != 0)
        text_add(&note,
                 "%llu earlier messages are not shown here: they stand in " ATOLL "%.*s/events.",
                 (unsigned long long)older, (int)call->session.n, call->session.p);
    resource_give(call, reading->uri, JSON_TYPE, buf_str(&request->body), buf_str(&note));
    request_free(request);
    buf_free(&note);
}

/* What is no longer kept: tells from where on there is some. */
static void refuse_gone(struct mcp_call *call, struct request *request)
{
    params_refuse(call,
                  "These events are no longer kept; the oldest that are stand in " ATOLL
                  "%.*s/events?after=%llu",
                  (int)call->session.n, call->session.p, (unsigned long long)request->oldest);
    request_free(request);
}

/* {"events":[…],"next":SEQ|null}: the URI of the next page is told, too. */
static void on_events(struct mcp_call *call, struct request *request)
{
    const struct reading *reading = call->state;
    struct buf note = {0};
    if (request->error == REQUEST_E_GONE && request->oldest != 0) {
        refuse_gone(call, request);
        return;
    }
    if (request->error != 0) {
        resource_refuse(call, reading->uri, request);
        return;
    }
    struct str next = scan_member(buf_str(&request->body), "next");
    if (!scan_is_null(next))
        text_add(&note, "There are more: " ATOLL "%.*s/events?after=%.*s", (int)call->session.n,
                 call->session.p, (int)next.n, next.p);
    resource_give(call, reading->uri, JSON_TYPE, buf_str(&request->body), buf_str(&note));
    request_free(request);
    buf_free(&note);
}

static void read_thread(struct mcp_call *call, struct str thread)
{
    struct request *request = mcp_request(call, REQUEST_THREAD);
    request->thread = arena_copy(&request->arena, thread);
    mcp_send(call, request, on_thread);
}

/* `query`: empty, or "after=SEQ". */
static void read_events(struct mcp_call *call, struct str query)
{
    uint64_t after = 0;
    struct str number = query;
    if (query.n != 0 && (!skip(&number, STR("after=")) || !query_number(number, &after))) {
        params_refuse(call,
                      "Behind the '?' of an events URI stands after=SEQ, the number of an event, "
                      "and not \"%.*s\".",
                      PARAMS_SHOWN(query));
        return;
    }
    struct request *request = mcp_request(call, REQUEST_EVENTS);
    request->has_after = true;
    request->after = after;
    request->limit = EVENTS_PAGE;
    mcp_send(call, request, on_events);
}

static void read_named(struct mcp_call *call, const struct mcp_resource_name *name)
{
    struct reading *reading = call->state;
    switch (name->kind) {
    case MCP_RESOURCE_STATE:
        ask_state(call);
        return;
    case MCP_RESOURCE_THREAD:
        read_thread(call, name->thread);
        return;
    case MCP_RESOURCE_EVENTS:
        read_events(call, name->query);
        return;
    case MCP_RESOURCE_CORAL_STATE:
        coral_read_state(call, reading->uri);
        return;
    case MCP_RESOURCE_CORAL_INSTRUCTION:
        coral_read_instruction(call, reading->uri);
        return;
    case MCP_RESOURCE_NONE:
        break;
    }
    resource_unknown(call, reading->uri);
}

static bool is_coral(enum mcp_resource kind)
{
    return kind == MCP_RESOURCE_CORAL_STATE || kind == MCP_RESOURCE_CORAL_INSTRUCTION;
}

void mcp_resources_read(struct mcp_call *call)
{
    struct str uri = rpc_string(call->params, STR("uri"));
    if (uri.p == NULL) {
        params_refuse(call, "resources/read needs \"uri\", a string, as resources/list tells it.");
        return;
    }
    uri = mcp_copy(call, uri);
    if (mcp_extension != NULL && mcp_extension->read != NULL && mcp_extension->read(call, uri))
        return;
    struct mcp_resource_name name =
        mcp_resource_parse(uri, call->bound ? call->session : (struct str){0});
    if (is_coral(name.kind) && call->toolset != MCP_TOOLS_CORAL)
        name.kind = MCP_RESOURCE_NONE;
    struct reading *reading = arena_alloc(&call->arena, sizeof(*reading));
    *reading = (struct reading){.uri = uri};
    call->state = reading;
    if (!call->bound)
        call->session = name.session;
    read_named(call, &name);
}
