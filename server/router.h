/*
 * router: what a request line asks for: the route, the ids in its path, the parameters of its
 * query. Pure: it knows no h2o and no server.
 *
 * Normal path: router_match finds the one place of the table that has the path's form, then its
 * method; query_parse reads the parameters that the route knows, each at most once unless it may
 * be repeated. Paths are exact: no trailing slash, no dots, percent-encoding is undone.
 * Failure: an error number for problem_write, with field and sentence in `why`.
 */
#ifndef ATOLL_SERVER_ROUTER_H
#define ATOLL_SERVER_ROUTER_H

#include "shards/request.h"

enum route {
    ROUTE_NONE,
    ROUTE_PAGE,
    ROUTE_HEALTH,
    ROUTE_READY,
    ROUTE_OPENAPI,
    ROUTE_STATUS,
    ROUTE_METRICS,
    ROUTE_LOG_LEVEL_GET,
    ROUTE_LOG_LEVEL_PUT,
    ROUTE_LOGIN,
    ROUTE_LOGOUT,
    ROUTE_ME,     /* who the caller is */
    ROUTE_TICKET, /* of all the caller may do, or of one session */
    ROUTE_SESSION_LIST,
    ROUTE_SESSION_POST,
    ROUTE_SESSION_GET,
    ROUTE_SESSION_PUT,
    ROUTE_SESSION_PATCH,
    ROUTE_SESSION_DELETE,
    ROUTE_SESSION_CLOSE,
    ROUTE_COMMANDS,
    ROUTE_STREAM,
    ROUTE_SOCKET,      /* WebSocket of one session */
    ROUTE_MANY_STREAM, /* many sessions in one event stream */
    ROUTE_MANY_SOCKET, /* … or one WebSocket */
    ROUTE_ASSET,       /* of the dashboard */
    ROUTE_EVENTS,
    ROUTE_DIFF,
    ROUTE_PROOF,
    ROUTE_FORK,
    ROUTE_EXPORT,
    ROUTE_IMPORT,
    ROUTE_REBUILD, /* of a session from its log: the operator's */
    ROUTE_AGENT_POST,
    ROUTE_AGENT_PATCH,
    ROUTE_AGENT_DELETE,
    ROUTE_INBOX_GET,
    ROUTE_INBOX_ACK,
    ROUTE_WAKE_SET,
    ROUTE_WAKE_DELETE,
    ROUTE_PING,
    ROUTE_THREAD_POST,
    ROUTE_THREAD_GET,
    ROUTE_THREAD_CLOSE,
    ROUTE_PARTICIPANT_PUT,
    ROUTE_PARTICIPANT_DELETE,
    ROUTE_MESSAGE_POST,
    ROUTE_MESSAGE_LIST,
    ROUTE_THREAD_READ,
    ROUTE_MCP_POST, /* of the MCP face: as an agent, or with session and agent as arguments */
    ROUTE_MCP_GET,
    ROUTE_MCP_DELETE,
    ROUTE_MCP_SSE_GET, /* its older transport */
    ROUTE_MCP_SSE_POST,
    ROUTE_COUNT
};

enum {
    ROUTER_ALLOW_BYTES = 40,
    ROUTER_LABELS_MAX = 64,
    ROUTER_PARTS_MAX = 64,
    ROUTER_SESSIONS_MAX = 1000,
    ROUTER_WAIT_MAX_S = 55
};

/* Ids are good ones; strings lie in the target or in `scratch`. p == NULL: not in this path. */
struct route_match {
    enum route route;
    struct str session, agent, thread;
    struct str asset;               /* name of a file: [A-Za-z0-9._-]+ */
    struct str query;               /* behind the '?' */
    char allow[ROUTER_ALLOW_BYTES]; /* of a path that lacks this method: those it has */
};

/* Takes scheme and authority off a target that is a whole URL (RFC 9112, 3.2.2). Returns the
 * authority, not looked at; p == NULL: the target is none, and stays as it is. */
struct str router_take_authority(struct str *target, struct arena *scratch);

/* 0, or PROBLEM_E_UNKNOWN_ROUTE, PROBLEM_E_METHOD_NOT_ALLOWED, CORE_E_MALFORMED. */
int router_match(struct str method, struct str target, struct arena *scratch,
                 struct route_match *match, struct core_refusal *why);

/* Writes the path of a route as it is documented, with ids in braces, and gives its method; NULL:
 * ROUTE_NONE. Of several paths, the first. */
const char *router_describe(enum route route, struct buf *path);

/* Name in the query, member of struct query's `given` (QUERY_name). */
#define QUERY_PARAMETERS(X)                                                                        \
    X(AFTER, "after")                                                                              \
    X(BEFORE, "before")                                                                            \
    X(LIMIT, "limit")                                                                              \
    X(CURSOR, "cursor")                                                                            \
    X(LABEL, "label")                                                                              \
    X(TYPE, "type")                                                                                \
    X(ATOMIC, "atomic")                                                                            \
    X(BY, "by")                                                                                    \
    X(HISTORY, "history")                                                                          \
    X(MENTIONS, "mentions")                                                                        \
    X(FROM, "from")                                                                                \
    X(WAIT, "wait")                                                                                \
    X(AT, "at")                                                                                    \
    X(TO, "to")                                                                                    \
    X(AGENT, "agent")                                                                              \
    X(THREAD, "thread")                                                                            \
    X(SINCE, "since")                                                                              \
    X(UNTIL, "until")                                                                              \
    X(ORDER, "order")                                                                              \
    X(MORE, "more")                                                                                \
    X(LAST_EVENT_ID, "last_event_id")                                                              \
    X(VIEW, "view")                                                                                \
    X(PATH, "path")                                                                                \
    X(SESSION, "session")                                                                          \
    X(TOOLS, "tools")                                                                              \
    X(STREAM, "stream")                                                                            \
    X(TICKET, "ticket")

enum view { VIEW_FULL, VIEW_COMPACT, VIEW_SUMMARY };

enum query_parameter {
#define X(name, text) QUERY_##name,
    QUERY_PARAMETERS(X)
#undef X
        QUERY_COUNT
};

struct query_limits {
    uint32_t page;     /* `limit` where none is given */
    uint32_t page_max; /* more is clamped */
};

struct query {
    uint32_t given; /* bit 1 << enum query_parameter */
    uint64_t after, before;
    uint32_t limit; /* good even if not given */
    uint32_t types; /* bit 1 << core_type; 0: all */
    int64_t wait_ms;
    bool atomic, history, mentions, descending, more;
    struct str by, from, cursor, last_event_id, agent, thread; /* in `scratch` or the text */
    struct request_at at, to;                                  /* of a diff: from and to */
    int64_t since_ms, until_ms;          /* rounded up: no event lies between two milliseconds */
    struct request_label_filter *labels; /* in `scratch` */
    uint32_t labels_n;
    enum view view;
    struct core_parts *parts; /* in `scratch`; NULL: all. Each once, sorted */
    struct str stream;        /* of the older MCP transport */
    struct str ticket;        /* in place of a token */
    bool coral;               /* tools=coral */
    struct str *sessions;     /* in `scratch`. Each once, sorted */
    uint32_t sessions_n;
};

static inline bool query_has(const struct query *query, enum query_parameter parameter)
{
    return (query->given >> parameter & 1) != 0;
}

/* Reads `text` as the query of `route`. 0 or CORE_E_MALFORMED. */
int query_parse(struct str text, enum route route, const struct query_limits *limits,
                struct arena *scratch, struct query *query, struct core_refusal *why);

/* For messages that say by JSON what a query says: one value of view, path, session, label or
 * last_event_id, which must live as long as the query. 0 or CORE_E_MALFORMED. Behind the last:
 * query_sort. */
int query_take(struct query *query, enum query_parameter parameter, struct str value,
               struct arena *scratch, struct core_refusal *why);
void query_sort(struct query *query);

/* An unsigned number in plain decimal, at most 2^53-1; false where it is not one. */
bool query_number(struct str text, uint64_t *value);

#endif
