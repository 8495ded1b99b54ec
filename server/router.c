#include "server/router.h"

#include "server/at.h"
#include "server/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { SEGMENTS_MAX = 7, LABEL_SEPARATOR = ':' };

enum method { GET, POST, PUT, PATCH, DELETE, METHOD_COUNT };

static const struct str method_names[METHOD_COUNT] = {
    [GET] = {"GET", 3},     [POST] = {"POST", 4},     [PUT] = {"PUT", 3},
    [PATCH] = {"PATCH", 5}, [DELETE] = {"DELETE", 6},
};

/* One path: its segments, and the route of each method it has. A segment without text is an id. */
struct place {
    struct str segments[SEGMENTS_MAX];
    enum route routes[METHOD_COUNT];
};

enum id { ID_SESSION, ID_AGENT, ID_THREAD, ID_ASSET };

/* clang-format off */
#define SEGMENT(text) {(text), sizeof(text) - 1}
#define SESSION {NULL, ID_SESSION}
#define AGENT {NULL, ID_AGENT}
#define THREAD {NULL, ID_THREAD}
#define ASSET {NULL, ID_ASSET}
#define V1 SEGMENT("v1")
#define IN_SESSION V1, SEGMENT("sessions"), SESSION
#define AGENTS IN_SESSION, SEGMENT("agents")
#define THREADS IN_SESSION, SEGMENT("threads")
#define MCP_ROUTES {[POST] = ROUTE_MCP_POST, [GET] = ROUTE_MCP_GET, [DELETE] = ROUTE_MCP_DELETE}
#define MCP_SSE_ROUTES {[GET] = ROUTE_MCP_SSE_GET, [POST] = ROUTE_MCP_SSE_POST}
/* clang-format on */

/* By how many segments they have. */
static const struct place places_1[] = {
    {{SEGMENT("")}, {[GET] = ROUTE_PAGE}},
    {{SEGMENT("sessions")}, {[GET] = ROUTE_PAGE}},
    {{SEGMENT("server")}, {[GET] = ROUTE_PAGE}},
    {{SEGMENT("healthz")}, {[GET] = ROUTE_HEALTH}},
    {{SEGMENT("readyz")}, {[GET] = ROUTE_READY}},
    {{SEGMENT("metrics")}, {[GET] = ROUTE_METRICS}},
    {{SEGMENT("openapi.yaml")}, {[GET] = ROUTE_OPENAPI}},
    {{SEGMENT("mcp")}, MCP_ROUTES},
    {{SEGMENT("sse")}, MCP_SSE_ROUTES},
};
static const struct place places_2[] = {
    {{SEGMENT("sessions"), SESSION}, {[GET] = ROUTE_PAGE}},
    {{SEGMENT("assets"), ASSET}, {[GET] = ROUTE_ASSET}},
    {{V1, SEGMENT("status")}, {[GET] = ROUTE_STATUS}},
    {{V1, SEGMENT("log-level")}, {[GET] = ROUTE_LOG_LEVEL_GET, [PUT] = ROUTE_LOG_LEVEL_PUT}},
    {{V1, SEGMENT("login")}, {[POST] = ROUTE_LOGIN}},
    {{V1, SEGMENT("logout")}, {[POST] = ROUTE_LOGOUT}},
    {{V1, SEGMENT("me")}, {[GET] = ROUTE_ME}},
    {{V1, SEGMENT("tickets")}, {[POST] = ROUTE_TICKET}},
    {{V1, SEGMENT("stream")}, {[GET] = ROUTE_MANY_STREAM}},
    {{V1, SEGMENT("ws")}, {[GET] = ROUTE_MANY_SOCKET}},
    {{V1, SEGMENT("sessions")}, {[GET] = ROUTE_SESSION_LIST, [POST] = ROUTE_SESSION_POST}},
};
static const struct place places_3[] = {
    {{IN_SESSION},
     {[GET] = ROUTE_SESSION_GET,
      [PUT] = ROUTE_SESSION_PUT,
      [PATCH] = ROUTE_SESSION_PATCH,
      [DELETE] = ROUTE_SESSION_DELETE}},
};
static const struct place places_4[] = {
    {{IN_SESSION, SEGMENT("close")}, {[POST] = ROUTE_SESSION_CLOSE}},
    {{IN_SESSION, SEGMENT("commands")}, {[POST] = ROUTE_COMMANDS}},
    {{IN_SESSION, SEGMENT("stream")}, {[GET] = ROUTE_STREAM}},
    {{IN_SESSION, SEGMENT("ws")}, {[GET] = ROUTE_SOCKET}},
    {{IN_SESSION, SEGMENT("events")}, {[GET] = ROUTE_EVENTS}},
    {{IN_SESSION, SEGMENT("tickets")}, {[POST] = ROUTE_TICKET}},
    {{IN_SESSION, SEGMENT("diff")}, {[GET] = ROUTE_DIFF}},
    {{IN_SESSION, SEGMENT("proof")}, {[GET] = ROUTE_PROOF}},
    {{IN_SESSION, SEGMENT("fork")}, {[POST] = ROUTE_FORK}},
    {{IN_SESSION, SEGMENT("export")}, {[GET] = ROUTE_EXPORT}},
    {{IN_SESSION, SEGMENT("import")}, {[POST] = ROUTE_IMPORT}},
    {{IN_SESSION, SEGMENT("rebuild")}, {[POST] = ROUTE_REBUILD}},
    {{AGENTS}, {[POST] = ROUTE_AGENT_POST}},
    {{THREADS}, {[POST] = ROUTE_THREAD_POST}},
};
static const struct place places_5[] = {
    {{AGENTS, AGENT}, {[PATCH] = ROUTE_AGENT_PATCH, [DELETE] = ROUTE_AGENT_DELETE}},
    {{THREADS, THREAD}, {[GET] = ROUTE_THREAD_GET}},
};
static const struct place places_6[] = {
    {{AGENTS, AGENT, SEGMENT("inbox")}, {[GET] = ROUTE_INBOX_GET}},
    {{AGENTS, AGENT, SEGMENT("mcp")}, MCP_ROUTES},
    {{AGENTS, AGENT, SEGMENT("sse")}, MCP_SSE_ROUTES},
    {{AGENTS, AGENT, SEGMENT("wake")},
     {[PUT] = ROUTE_WAKE_SET, [POST] = ROUTE_WAKE_SET, [DELETE] = ROUTE_WAKE_DELETE}},
    {{AGENTS, AGENT, SEGMENT("ping")}, {[POST] = ROUTE_PING}},
    {{THREADS, THREAD, SEGMENT("close")}, {[POST] = ROUTE_THREAD_CLOSE}},
    {{THREADS, THREAD, SEGMENT("read")}, {[POST] = ROUTE_THREAD_READ}},
    {{THREADS, THREAD, SEGMENT("messages")},
     {[GET] = ROUTE_MESSAGE_LIST, [POST] = ROUTE_MESSAGE_POST}},
};
static const struct place places_7[] = {
    {{AGENTS, AGENT, SEGMENT("inbox"), SEGMENT("ack")}, {[POST] = ROUTE_INBOX_ACK}},
    {{THREADS, THREAD, SEGMENT("participants"), AGENT},
     {[PUT] = ROUTE_PARTICIPANT_PUT, [DELETE] = ROUTE_PARTICIPANT_DELETE}},
};

static const struct {
    const struct place *items;
    size_t n;
} places[SEGMENTS_MAX + 1] = {
#define PLACES(count) [count] = {places_##count, sizeof(places_##count) / sizeof(struct place)}
    PLACES(1), PLACES(2), PLACES(3), PLACES(4), PLACES(5), PLACES(6), PLACES(7),
#undef PLACES
};

#define KNOWS(name) (UINT32_C(1) << QUERY_##name)

/* The parameters that a route knows. */
static const uint32_t known[ROUTE_COUNT] = {
    [ROUTE_SESSION_LIST] = KNOWS(LIMIT) | KNOWS(CURSOR) | KNOWS(LABEL),
    [ROUTE_SESSION_GET] = KNOWS(AT) | KNOWS(VIEW) | KNOWS(PATH),
    [ROUTE_COMMANDS] = KNOWS(ATOMIC),
    [ROUTE_DIFF] = KNOWS(FROM) | KNOWS(TO),
    [ROUTE_PROOF] = KNOWS(AT),
    [ROUTE_EXPORT] = KNOWS(AFTER),
    [ROUTE_IMPORT] = KNOWS(AFTER) | KNOWS(MORE),
    [ROUTE_STREAM] =
        KNOWS(AFTER) | KNOWS(LAST_EVENT_ID) | KNOWS(VIEW) | KNOWS(PATH) | KNOWS(TICKET),
    [ROUTE_SOCKET] =
        KNOWS(AFTER) | KNOWS(LAST_EVENT_ID) | KNOWS(VIEW) | KNOWS(PATH) | KNOWS(TICKET),
    [ROUTE_MANY_STREAM] =
        KNOWS(LABEL) | KNOWS(SESSION) | KNOWS(LAST_EVENT_ID) | KNOWS(VIEW) | KNOWS(TICKET),
    [ROUTE_MANY_SOCKET] = KNOWS(TICKET),
    [ROUTE_EVENTS] = KNOWS(AFTER) | KNOWS(BEFORE) | KNOWS(LIMIT) | KNOWS(TYPE) | KNOWS(CURSOR) |
                     KNOWS(AGENT) | KNOWS(THREAD) | KNOWS(SINCE) | KNOWS(UNTIL) | KNOWS(ORDER) |
                     KNOWS(LAST_EVENT_ID) | KNOWS(TICKET),
    [ROUTE_INBOX_GET] = KNOWS(MENTIONS) | KNOWS(FROM) | KNOWS(WAIT) | KNOWS(LIMIT),
    [ROUTE_PARTICIPANT_PUT] = KNOWS(BY) | KNOWS(HISTORY),
    [ROUTE_PARTICIPANT_DELETE] = KNOWS(BY),
    [ROUTE_MESSAGE_LIST] = KNOWS(AFTER) | KNOWS(BEFORE) | KNOWS(LIMIT),
    [ROUTE_MCP_POST] = KNOWS(TOOLS),
    [ROUTE_MCP_GET] = KNOWS(TICKET) | KNOWS(TOOLS),
    [ROUTE_MCP_DELETE] = KNOWS(TOOLS),
    [ROUTE_MCP_SSE_GET] = KNOWS(TICKET) | KNOWS(TOOLS),
    [ROUTE_MCP_SSE_POST] = KNOWS(TOOLS) | KNOWS(STREAM),
};

static const uint32_t required[ROUTE_COUNT] = {
    [ROUTE_DIFF] = KNOWS(FROM),
    [ROUTE_MCP_SSE_POST] = KNOWS(STREAM),
};

static const uint32_t repeatable = KNOWS(LABEL) | KNOWS(TYPE) | KNOWS(PATH) | KNOWS(SESSION);

static const char *const parameter_names[QUERY_COUNT] = {
#define X(name, text) [QUERY_##name] = text,
    QUERY_PARAMETERS(X)
#undef X
};

static int malformed(struct core_refusal *why, const char *field, const char *format,
                     const char *detail)
{
    *why = (struct core_refusal){.code = CORE_E_MALFORMED, .field = field};
    snprintf(why->detail, sizeof(why->detail), format, detail);
    return CORE_E_MALFORMED;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undoes percent-encoding, in a query also '+'. False where it is not well formed. */
static bool decode(struct str *text, bool in_query, struct arena *scratch)
{
    if (memchr(text->p, '%', text->n) == NULL && (!in_query || !memchr(text->p, '+', text->n)))
        return true;
    char *out = arena_alloc(scratch, text->n);
    size_t n = 0;
    for (size_t i = 0; i < text->n; i++) {
        char c = text->p[i];
        if (c == '+' && in_query)
            c = ' ';
        if (c == '%') {
            int high = i + 2 < text->n ? hex_digit(text->p[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text->p[i + 2]) : -1;
            if (low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        out[n++] = c;
    }
    *text = (struct str){out, n};
    return true;
}

/* A target taken apart. */
struct path {
    struct str segments[SEGMENTS_MAX];
    unsigned n;       /* 0: it is no path of ours */
    bool encoded;     /* there is a '%' in it */
    struct str query; /* behind the '?'; p == NULL: none */
};

/* Takes "/a/b?c" apart. */
static void split(struct str target, struct path *path)
{
    const char *mark = memchr(target.p, '?', target.n);
    const char *end = mark != NULL ? mark : target.p + target.n;
    const char *p = target.p, *slash = p;

    path->n = 0;
    path->query = mark != NULL ? (struct str){mark + 1, (size_t)(target.p + target.n - end) - 1}
                               : (struct str){0};
    path->encoded = memchr(p, '%', (size_t)(end - p)) != NULL;
    if (p == end || *p != '/')
        return;
    while (slash != NULL) {
        p = slash + 1;
        if (path->n == SEGMENTS_MAX) {
            path->n = 0;
            return;
        }
        slash = memchr(p, '/', (size_t)(end - p));
        size_t n = (size_t)((slash != NULL ? slash : end) - p);
        path->segments[path->n++] = (struct str){p, n};
    }
}

/* From their ends: how they begin is much alike. */
static bool place_matches(const struct place *place, const struct str *segments, unsigned n)
{
    while (n-- != 0) {
        struct str segment = place->segments[n];
        if (segment.p == NULL ? segments[n].n == 0 : !str_equal(segment, segments[n]))
            return false;
    }
    return true;
}

static const struct place *find_place(const struct path *path)
{
    for (size_t i = 0; i < places[path->n].n; i++)
        if (place_matches(&places[path->n].items[i], path->segments, path->n))
            return &places[path->n].items[i];
    return NULL;
}

static void describe_place(const struct place *place, unsigned n, struct buf *path)
{
    static const char *const ids[] = {
        [ID_SESSION] = "{sid}", [ID_AGENT] = "{aid}", [ID_THREAD] = "{tid}", [ID_ASSET] = "{name}"};
    for (unsigned i = 0; i < n; i++) {
        struct str segment = place->segments[i];
        buf_add_byte(path, '/');
        if (segment.p != NULL)
            buf_add_str(path, segment);
        else
            buf_add(path, ids[segment.n], strlen(ids[segment.n]));
    }
}

const char *router_describe(enum route route, struct buf *path)
{
    for (unsigned n = 1; n <= SEGMENTS_MAX && route != ROUTE_NONE; n++) {
        for (size_t i = 0; i < places[n].n; i++) {
            for (unsigned method = 0; method < METHOD_COUNT; method++) {
                if (places[n].items[i].routes[method] != route)
                    continue;
                describe_place(&places[n].items[i], n, path);
                return method_names[method].p;
            }
        }
    }
    return NULL;
}

static enum method find_method(struct str method)
{
    for (unsigned i = 0; i < METHOD_COUNT; i++)
        if (str_equal(method, method_names[i]))
            return (enum method)i;
    return METHOD_COUNT;
}

static int refuse_method(const struct place *place, struct route_match *match,
                         struct core_refusal *why)
{
    size_t n = 0;
    for (unsigned i = 0; i < METHOD_COUNT; i++)
        if (place->routes[i] != ROUTE_NONE)
            n += (size_t)snprintf(match->allow + n, sizeof(match->allow) - n, "%s%s",
                                  n != 0 ? ", " : "", method_names[i].p);
    *why = (struct core_refusal){0};
    snprintf(why->detail, sizeof(why->detail), "This path has %s only.", match->allow);
    return PROBLEM_E_METHOD_NOT_ALLOWED;
}

static int take_id(struct str *id, struct str segment, const char *field, struct core_refusal *why)
{
    if (!core_id_valid(segment))
        return malformed(why, field, "The %s of the path must match " CORE_ID_RULE ".", field);
    *id = segment;
    return 0;
}

static int take_asset(struct str *name, struct str segment, struct core_refusal *why)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    for (size_t i = 0; i < segment.n; i++)
        if (memchr(allowed, segment.p[i], sizeof(allowed) - 1) == NULL)
            return malformed(why, "name", "The %s of a file must match [A-Za-z0-9._-]+.", "name");
    *name = segment;
    return 0;
}

static int take_ids(const struct place *place, const struct path *path, struct route_match *match,
                    struct core_refusal *why)
{
    int rc = 0;
    for (unsigned i = 0; i < path->n && rc == 0; i++) {
        if (place->segments[i].p != NULL)
            continue;
        switch ((enum id)place->segments[i].n) {
        case ID_SESSION:
            rc = take_id(&match->session, path->segments[i], "session", why);
            break;
        case ID_AGENT:
            rc = take_id(&match->agent, path->segments[i], "agent", why);
            break;
        case ID_THREAD:
            rc = take_id(&match->thread, path->segments[i], "thread", why);
            break;
        case ID_ASSET:
            rc = take_asset(&match->asset, path->segments[i], why);
            break;
        }
    }
    return rc;
}

/* How much of it is "http://" or "https://", in any case. */
static size_t scheme_length(struct str target)
{
    static const struct str schemes[] = {{"http://", 7}, {"https://", 8}};
    for (unsigned i = 0; i < 2; i++)
        if (target.n >= schemes[i].n && strncasecmp(target.p, schemes[i].p, schemes[i].n) == 0)
            return schemes[i].n;
    return 0;
}

struct str router_take_authority(struct str *target, struct arena *scratch)
{
    size_t start = target->n != 0 && target->p[0] != '/' ? scheme_length(*target) : 0;
    if (start == 0)
        return (struct str){0};
    size_t end = start;
    while (end < target->n && target->p[end] != '/' && target->p[end] != '?')
        end++;
    struct str authority = {target->p + start, end - start};
    *target = (struct str){target->p + end, target->n - end};
    if (target->n == 0 || target->p[0] == '?') { /* an empty path is that of the root */
        char *path = arena_alloc(scratch, target->n + 1);
        path[0] = '/';
        memcpy(path + 1, target->p, target->n);
        *target = (struct str){path, target->n + 1};
    }
    return authority;
}

/* What goes on for hours has no end to be told of. */
static bool is_endless(enum route route)
{
    return route == ROUTE_STREAM || route == ROUTE_MANY_STREAM || route == ROUTE_SOCKET ||
           route == ROUTE_MANY_SOCKET || route == ROUTE_MCP_GET || route == ROUTE_MCP_SSE_GET;
}

int router_match(struct str method, struct str target, struct arena *scratch,
                 struct route_match *match, struct core_refusal *why)
{
    struct path path;

    split(target, &path);
    *match = (struct route_match){.query = path.query};
    for (unsigned i = 0; path.encoded && i < path.n; i++)
        if (!decode(&path.segments[i], false, scratch))
            return malformed(why, "path", "The path is not well percent-encoded%s.", "");
    const struct place *place = find_place(&path);
    if (place == NULL) {
        *why = (struct core_refusal){.detail = "There is no such path; see /openapi.yaml."};
        return PROBLEM_E_UNKNOWN_ROUTE;
    }
    bool head = str_equal(method, STR("HEAD"));
    enum method number = head ? GET : find_method(method);
    if (head && is_endless(place->routes[GET]))
        return refuse_method(place, match, why);
    if (number == METHOD_COUNT || place->routes[number] == ROUTE_NONE)
        return refuse_method(place, match, why);
    match->route = place->routes[number];
    return take_ids(place, &path, match, why);
}

/* ---- the query */

bool query_number(struct str text, uint64_t *value)
{
    uint64_t number = 0;
    if (text.n == 0 || text.n > 16 || (text.n > 1 && text.p[0] == '0'))
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text.p[i] - '0');
    }
    *value = number;
    return number <= CORE_SAFE_INTEGER;
}

static int take_number(struct str text, uint64_t min, uint64_t *value, const char *name,
                       struct core_refusal *why)
{
    if (query_number(text, value) && *value >= min)
        return 0;
    return malformed(why, name,
                     min == 0 ? "%s must be a whole number from 0 to 9007199254740991."
                              : "%s must be a whole number from 1 to 9007199254740991.",
                     name);
}

static int take_bool(struct str text, bool *value, const char *name, struct core_refusal *why)
{
    *value = str_equal(text, STR("true"));
    if (*value || str_equal(text, STR("false")))
        return 0;
    return malformed(why, name, "%s must be true or false.", name);
}

/* Seconds with at most three decimals, 0 to ROUTER_WAIT_MAX_S. */
static int take_wait(struct str text, int64_t *wait_ms, struct core_refusal *why)
{
    const char *point = text.n != 0 ? memchr(text.p, '.', text.n) : NULL;
    struct str whole = {text.p, point != NULL ? (size_t)(point - text.p) : text.n};
    size_t decimals = point != NULL ? text.n - whole.n - 1 : 0;
    uint64_t seconds;
    int64_t ms = 0;
    bool good = query_number(whole, &seconds) && seconds <= ROUTER_WAIT_MAX_S && decimals <= 3 &&
                (point == NULL || decimals != 0);

    for (size_t i = 0; good && i < 3; i++) {
        char c = i < decimals ? point[1 + i] : '0';
        good = c >= '0' && c <= '9';
        ms = ms * 10 + (c - '0');
    }
    *wait_ms = good ? (int64_t)seconds * 1000 + ms : 0;
    if (good && *wait_ms <= ROUTER_WAIT_MAX_S * 1000)
        return 0;
    return malformed(why, "wait", "%s must be a number of seconds from 0 to 55.", "wait");
}

static int take_query_id(struct str text, struct str *id, const char *name,
                         struct core_refusal *why)
{
    if (!core_id_valid(text))
        return malformed(why, name, "%s must match " CORE_ID_RULE ".", name);
    *id = text;
    return 0;
}

static int take_label(struct str text, struct arena *scratch, struct query *query,
                      struct core_refusal *why)
{
    const char *colon = text.n != 0 ? memchr(text.p, LABEL_SEPARATOR, text.n) : NULL;
    struct request_label_filter filter = {.key = text};

    if (colon != NULL) {
        filter.key.n = (size_t)(colon - text.p);
        filter.value = (struct str){colon + 1, text.n - filter.key.n - 1};
    }
    if (filter.key.n == 0)
        return malformed(why, "label", "%s must be a key, or key:value.", "label");
    if (query->labels_n == ROUTER_LABELS_MAX)
        return malformed(why, "label", "%s may be given at most 64 times.", "label");
    if (query->labels == NULL)
        query->labels = arena_alloc(scratch, ROUTER_LABELS_MAX * sizeof(filter));
    query->labels[query->labels_n++] = filter;
    return 0;
}

static int take_type(struct str text, struct query *query, struct core_refusal *why)
{
    enum core_type type = core_type_of_event(text);
    if (type == CORE_TYPE_NONE)
        return malformed(why, "type", "%s must be the type of an event.", "type");
    query->types |= UINT32_C(1) << type;
    return 0;
}

static int take_tools(struct str text, struct query *query, struct core_refusal *why)
{
    query->coral = str_equal(text, STR("coral"));
    if (query->coral || str_equal(text, STR("atoll")))
        return 0;
    return malformed(why, "tools", "%s must be atoll or coral.", "tools");
}

static int take_at(struct str text, struct request_at *at, const char *name,
                   struct core_refusal *why)
{
    if (at_read(text, at))
        return 0;
    return malformed(why, name, "%s must be " AT_RULE ".", name);
}

static int take_time(struct str text, int64_t *ts_ms, const char *name, struct core_refusal *why)
{
    bool behind;
    if (!at_read_time(text, ts_ms, &behind))
        return malformed(why, name, "%s must be a time such as 2025-03-01T09:30:00Z.", name);
    *ts_ms += behind;
    return 0;
}

static int take_order(struct str text, struct query *query, struct core_refusal *why)
{
    query->descending = str_equal(text, STR("desc"));
    if (query->descending || str_equal(text, STR("asc")))
        return 0;
    return malformed(why, "order", "%s must be asc or desc.", "order");
}

/* Where a page of events goes on: the `next` of the page before. */
static int take_event_cursor(struct str text, struct query *query, struct core_refusal *why)
{
    uint64_t seq;
    if (!query_number(text, &seq))
        return malformed(why, "cursor", "%s must be the next of an earlier page.", "cursor");
    query->cursor = text;
    return 0;
}

/* ---- what is watched */

static int take_view(struct str text, enum route route, struct query *query,
                     struct core_refusal *why)
{
    static const struct str names[] = {[VIEW_FULL] = {"full", 4},
                                       [VIEW_COMPACT] = {"compact", 7},
                                       [VIEW_SUMMARY] = {"summary", 7}};
    bool many = route == ROUTE_MANY_STREAM;

    for (unsigned view = VIEW_FULL; view <= (many ? VIEW_SUMMARY : VIEW_COMPACT); view++) {
        if (!str_equal(text, names[view]))
            continue;
        query->view = (enum view)view;
        return 0;
    }
    return malformed(why, "view",
                     many ? "%s must be summary, compact or full." : "%s must be full or compact.",
                     "view");
}

static int take_part(struct str text, struct arena *scratch, struct query *query,
                     struct core_refusal *why)
{
    if (!core_part_valid(text))
        return malformed(why, "path",
                         "%s must be a JSON Pointer of one or two segments, such as /threads or "
                         "/threads/t3, in which ~ is written ~0 and / is ~1.",
                         "path");
    if (query->parts == NULL) {
        query->parts =
            arena_alloc(scratch, sizeof(*query->parts) + ROUTER_PARTS_MAX * sizeof(struct str));
        query->parts->n = 0;
    }
    if (query->parts->n == ROUTER_PARTS_MAX)
        return malformed(why, "path", "%s may be given at most 64 times.", "path");
    query->parts->items[query->parts->n++] = text;
    return 0;
}

static int take_session(struct str text, struct arena *scratch, struct query *query,
                        struct core_refusal *why)
{
    if (query->sessions_n == ROUTER_SESSIONS_MAX)
        return malformed(why, "session", "%s may be given at most 1000 times.", "session");
    if (query->sessions == NULL)
        query->sessions = arena_alloc(scratch, ROUTER_SESSIONS_MAX * sizeof(struct str));
    return take_query_id(text, &query->sessions[query->sessions_n++], "session", why);
}

static int compare_items(const void *a, const void *b)
{
    return str_compare(*(const struct str *)a, *(const struct str *)b);
}

/* Sorts; each stays once. Returns how many there are then. */
static uint32_t sort_once(struct str *items, uint32_t n)
{
    uint32_t kept = 0;
    qsort(items, n, sizeof(*items), compare_items);
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || !str_equal(items[kept - 1], items[i]))
            items[kept++] = items[i];
    return kept;
}

/* ---- all parameters */

/* The parameters of history; `route` tells whose `from` and `cursor` it is. */
static int take_history_value(enum query_parameter parameter, struct str text, enum route route,
                              struct query *query, struct core_refusal *why)
{
    const char *name = parameter_names[parameter];

    switch (parameter) {
    case QUERY_AT:
        return take_at(text, &query->at, name, why);
    case QUERY_FROM:
        return route == ROUTE_DIFF ? take_at(text, &query->at, name, why)
                                   : take_query_id(text, &query->from, name, why);
    case QUERY_TO:
        return take_at(text, &query->to, name, why);
    case QUERY_AGENT:
        return take_query_id(text, &query->agent, name, why);
    case QUERY_THREAD:
        return take_query_id(text, &query->thread, name, why);
    case QUERY_SINCE:
        return take_time(text, &query->since_ms, name, why);
    case QUERY_UNTIL:
        return take_time(text, &query->until_ms, name, why);
    case QUERY_ORDER:
        return take_order(text, query, why);
    case QUERY_CURSOR:
        if (route == ROUTE_EVENTS)
            return take_event_cursor(text, query, why);
        query->cursor = text;
        return 0;
    default:
        query->last_event_id = text;
        return 0;
    }
}

static int take_value(enum query_parameter parameter, struct str text, enum route route,
                      const struct query_limits *limits, struct arena *scratch, struct query *query,
                      struct core_refusal *why)
{
    const char *name = parameter_names[parameter];
    uint64_t number;
    int rc;

    switch (parameter) {
    case QUERY_AFTER:
        return take_number(text, 0, &query->after, name, why);
    case QUERY_BEFORE:
        return take_number(text, 0, &query->before, name, why);
    case QUERY_LIMIT:
        rc = take_number(text, 1, &number, name, why);
        query->limit = rc == 0 && number < limits->page_max ? (uint32_t)number : limits->page_max;
        return rc;
    case QUERY_LABEL:
        return take_label(text, scratch, query, why);
    case QUERY_TYPE:
        return take_type(text, query, why);
    case QUERY_ATOMIC:
        return take_bool(text, &query->atomic, name, why);
    case QUERY_HISTORY:
        return take_bool(text, &query->history, name, why);
    case QUERY_MENTIONS:
        return take_bool(text, &query->mentions, name, why);
    case QUERY_BY:
        return take_query_id(text, &query->by, name, why);
    case QUERY_MORE:
        return take_bool(text, &query->more, name, why);
    case QUERY_WAIT:
        return take_wait(text, &query->wait_ms, why);
    case QUERY_VIEW:
        return take_view(text, route, query, why);
    case QUERY_PATH:
        return take_part(text, scratch, query, why);
    case QUERY_SESSION:
        return take_session(text, scratch, query, why);
    case QUERY_TOOLS:
        return take_tools(text, query, why);
    case QUERY_STREAM:
        query->stream = text;
        return 0;
    case QUERY_TICKET:
        query->ticket = text;
        return 0;
    default:
        return take_history_value(parameter, text, route, query, why);
    }
}

/* The client's own name for a parameter, fit to be shown: printable ASCII, cut. */
static const char *shown_name(struct str name, struct arena *scratch)
{
    size_t n = name.n < 64 ? name.n : 64;
    char *out = arena_alloc(scratch, n + 1);
    for (size_t i = 0; i < n; i++)
        out[i] = name.p[i] > ' ' && name.p[i] < 0x7f ? name.p[i] : '?';
    out[n] = '\0';
    return out;
}

static int find_parameter(struct str name, uint32_t allowed)
{
    for (int i = 0; i < QUERY_COUNT; i++)
        if ((allowed >> i & 1) != 0 && strlen(parameter_names[i]) == name.n &&
            memcmp(parameter_names[i], name.p, name.n) == 0)
            return i;
    return -1;
}

static int take_once(enum query_parameter parameter, struct str value, enum route route,
                     const struct query_limits *limits, struct arena *scratch, struct query *query,
                     struct core_refusal *why)
{
    uint32_t bit = UINT32_C(1) << parameter;
    if ((query->given & bit & ~repeatable) != 0)
        return malformed(why, parameter_names[parameter], "%s may be given only once.",
                         parameter_names[parameter]);
    query->given |= bit;
    return take_value(parameter, value, route, limits, scratch, query, why);
}

static int take_pair(struct str pair, enum route route, const struct query_limits *limits,
                     struct arena *scratch, struct query *query, struct core_refusal *why)
{
    const char *equals = memchr(pair.p, '=', pair.n);
    struct str name = {pair.p, equals != NULL ? (size_t)(equals - pair.p) : pair.n};
    struct str value = {equals != NULL ? equals + 1 : pair.p,
                        equals != NULL ? pair.n - name.n - 1 : 0};

    if (!decode(&name, true, scratch) || !decode(&value, true, scratch))
        return malformed(why, shown_name(name, scratch), "%s is not well percent-encoded.",
                         shown_name(name, scratch));
    int parameter = find_parameter(name, known[route]);
    if (parameter < 0)
        return malformed(why, shown_name(name, scratch), "Unknown parameter \"%s\".",
                         shown_name(name, scratch));
    return take_once((enum query_parameter)parameter, value, route, limits, scratch, query, why);
}

int query_take(struct query *query, enum query_parameter parameter, struct str value,
               struct arena *scratch, struct core_refusal *why)
{
    assert(parameter == QUERY_VIEW || parameter == QUERY_PATH || parameter == QUERY_SESSION ||
           parameter == QUERY_LABEL || parameter == QUERY_LAST_EVENT_ID);
    return take_once(parameter, value, ROUTE_MANY_STREAM, NULL, scratch, query, why);
}

void query_sort(struct query *query)
{
    if (query->parts != NULL)
        query->parts->n = sort_once(query->parts->items, query->parts->n);
    if (query->sessions_n != 0)
        query->sessions_n = sort_once(query->sessions, query->sessions_n);
}

/* A page of events that follows another: the same question, but behind the cursor. */
static void go_on_at_cursor(struct query *query)
{
    enum query_parameter bound = query->descending ? QUERY_BEFORE : QUERY_AFTER;
    uint64_t *place = query->descending ? &query->before : &query->after;
    uint64_t seq = 0;

    query_number(query->cursor, &seq);
    bool beyond = query->descending ? seq < *place : seq > *place;
    if (!query_has(query, bound) || beyond)
        *place = seq;
    query->given |= UINT32_C(1) << bound;
}

int query_parse(struct str text, enum route route, const struct query_limits *limits,
                struct arena *scratch, struct query *query, struct core_refusal *why)
{
    *query = (struct query){.limit = limits->page};
    if (route == ROUTE_MANY_STREAM)
        query->view = VIEW_SUMMARY;
    if (route == ROUTE_PAGE) /* whatever it has is the page's own */
        return 0;
    while (text.n != 0) {
        const char *end = memchr(text.p, '&', text.n);
        struct str pair = {text.p, end != NULL ? (size_t)(end - text.p) : text.n};
        text = (struct str){text.p + pair.n + (end != NULL), text.n - pair.n - (end != NULL)};
        if (pair.n == 0)
            continue;
        int rc = take_pair(pair, route, limits, scratch, query, why);
        if (rc != 0)
            return rc;
    }
    if (route == ROUTE_EVENTS && query_has(query, QUERY_CURSOR))
        go_on_at_cursor(query);
    if (query_has(query, QUERY_SESSION) && query_has(query, QUERY_LABEL))
        return malformed(why, "label", "session and %s exclude each other.", "label");
    query_sort(query);
    uint32_t missing = required[route] & ~query->given;
    for (int i = 0; missing != 0 && i < QUERY_COUNT; i++)
        if ((missing >> i & 1) != 0)
            return malformed(why, parameter_names[i], "The parameter %s is required.",
                             parameter_names[i]);
    return 0;
}
