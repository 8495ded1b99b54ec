/*
 * call: one request of an MCP client, from its arrival to its one answer, and all that tools,
 * resources and prompts may do meanwhile.
 *
 * A handler (struct mcp_tool.call, …) reads what it needs of `params` or its arguments at once:
 * JSON values are good until it returns, or asks for something. It then ends the call by exactly
 * one of the functions under "ending", now or in a callback. What it asks shards for goes through
 * mcp_send; the callback gets the reply, takes it over (request_free), and may ask again: one at a
 * time. If the client cancels, or is gone where that cancels, no callback comes any more: the call
 * and its arena go, and what is at a shard is freed when it comes back.
 *
 * Strings in a call lie in its arena and live as long as it does.
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_CALL_H
#define ATOLL_SERVER_MCP_CALL_H

#include "server/json.h"
#include "shards/request.h"

struct frontend;
struct mcp_again;
struct mcp_asking;
struct mcp_call;
struct mcp_sink;
struct mcp_wait;
struct sink_hook;

/* Revisions, oldest first. MCP_2024 is the older transport's (sse.h). */
#define MCP_VERSIONS(X)                                                                            \
    X(2024_11_05, "2024-11-05")                                                                    \
    X(2025_03_26, "2025-03-26")                                                                    \
    X(2025_06_18, "2025-06-18")                                                                    \
    X(2025_11_25, "2025-11-25")                                                                    \
    X(2026_07_28, "2026-07-28")

enum mcp_version {
#define X(name, text) MCP_##name,
    MCP_VERSIONS(X)
#undef X
        MCP_VERSION_COUNT
};

/* Each request stands for itself: `_meta`, resultType, ttlMs, no session. */
static inline bool mcp_is_modern(enum mcp_version version)
{
    return version >= MCP_2026_07_28;
}

enum mcp_toolset { MCP_TOOLS_ATOLL, MCP_TOOLS_CORAL };

/* What the client says it can be asked for. */
enum mcp_client_can { MCP_CAN_SAMPLE = 1, MCP_CAN_ELICIT = 2, MCP_CAN_LIST_ROOTS = 4 };

/* By RFC 5424, the least important first. */
enum mcp_level {
    MCP_DEBUG,
    MCP_INFO,
    MCP_NOTICE,
    MCP_WARNING,
    MCP_ERROR,
    MCP_CRITICAL,
    MCP_ALERT,
    MCP_EMERGENCY,
    MCP_LEVEL_NONE /* the client wants none */
};

/* JSON-RPC's codes, and those of the revisions. */
enum mcp_code {
    MCP_E_PARSE = -32700,
    MCP_E_INVALID_REQUEST = -32600,
    MCP_E_UNKNOWN_METHOD = -32601,
    MCP_E_INVALID_PARAMS = -32602,
    MCP_E_INTERNAL = -32603,
    MCP_E_UNKNOWN_RESOURCE = -32002, /* until 2025-11-25; then MCP_E_INVALID_PARAMS */
    MCP_E_HEADER_MISMATCH = -32020,
    MCP_E_MISSING_CAPABILITY = -32021,
    MCP_E_VERSION = -32022,
    MCP_E_UNAVAILABLE = -31503, /* ours: overloaded, stopping, no space; beyond JSON-RPC's range */
};

typedef void mcp_on_reply(struct mcp_call *call, struct request *request);
/* `result`: what the client answered, good during the call; NULL: it refused, or cannot any more,
 * and `why` says so. */
typedef void mcp_on_answer(struct mcp_call *call, const struct json_value *result, struct str why);

struct mcp_call {
    struct frontend *frontend;
    struct arena arena;
    enum mcp_version version;
    enum mcp_toolset toolset;
    struct str id;     /* JSON text of the request's id */
    struct str method; /* "tools/call" */
    /* Whom it speaks for: by the URL, or (`bound` false) by its arguments; p == NULL: not known. */
    struct str session, agent;
    bool bound;
    bool resumed;              /* it was begun before, on a connection that went: mcp_resumable */
    unsigned client_can;       /* enum mcp_client_can */
    enum mcp_level level;      /* log messages from this level up are wanted */
    struct str progress_token; /* JSON text; p == NULL: no progress is wanted */
    /* The params object; NULL: none, or the handler has returned. */
    const struct json_value *params;
    /* What the client sent with a further try (2026-07-28, mcp_ask_by_result): the `state` that it
     * was given, its signature checked, p == NULL: none; and the answers by key, NULL: none. */
    struct str request_state;
    const struct json_value *input_responses;
    void *state; /* the handler's own, in the arena */

    /* ---- call.c's own */
    struct mcp_call *previous, *next; /* of its sink */
    struct mcp_sink *sink;
    uint64_t token;
    struct str owner;   /* the MCP session's name; p == NULL: none */
    struct str subject; /* what `params` is about: name or uri; p == NULL: nothing */
    mcp_on_reply *on_reply;
    mcp_on_answer *on_answer;
    struct mcp_wait *wait;     /* it waits at the shard */
    struct mcp_asking *asking; /* the client is to answer */
    struct mcp_again *again;
    struct sink_hook *written;
    double progress;
    uint64_t asked;  /* requests of the client so far */
    uint32_t ttl_ms; /* good where cacheable */
    bool cacheable;  /* its result says for how long and for whom it is good */
    bool listens;    /* its result ends a stream of notifications */
    bool told_progress, ended, resumable;
};

/* ---- ending: one of these, once; then the call is gone */

/* `result` is an object without `_meta`; what the revision has in every result (resultType, _meta,
 * ttlMs, …) is added. */
void mcp_result(struct mcp_call *call, struct str result);
/* `data` is JSON; n == 0: none. `message` is copied. */
void mcp_error(struct mcp_call *call, enum mcp_code code, const char *message, struct str data);
/* Of a tool: `structured` is an object, n == 0: none; `text` is what a model reads instead. */
void mcp_tool_result(struct mcp_call *call, struct str structured, struct str text);
/* Of a tool, all of its result: `content` is an array of content blocks. */
void mcp_tool_content(struct mcp_call *call, struct str content, struct str structured,
                      bool is_error);
/* Of a tool that was refused: isError, with a sentence that also says what to do next. */
void mcp_tool_refuse(struct mcp_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same of a reply that is an error (request->error): its sentence, and what to do next. Takes
 * the request over. Of another method than tools/call: an error. */
void mcp_refuse_reply(struct mcp_call *call, struct request *request);
/* 2026-07-28: asks the client for `requests` ({"key":{"method","params"},…}); it calls again with
 * its answers and `state` (any bytes, signed and bound to agent, method and name on the way; n ==
 * 0: none). Where it did not say that it can: an error. */
void mcp_ask_by_result(struct mcp_call *call, struct str requests, struct str state);

/* ---- on the way */

/* A request for call->session, empty but for that. */
struct request *mcp_request(struct mcp_call *call, enum request_kind kind);
/* Sends it; one at a time. Where there is no room the call ends with a refusal, and false. */
bool mcp_send(struct mcp_call *call, struct request *request, mcp_on_reply *on_reply);
/* The same for what call->agent does or reads: where it is not there it is registered, and the
 * request sent again. REQUEST_COMMANDS, REQUEST_INBOX. */
bool mcp_send_as_agent(struct mcp_call *call, struct request *request, mcp_on_reply *on_reply);
/* The same for a REQUEST_INBOX that waits `wait_ms` at most (0: not at all); the client is told of
 * progress. */
bool mcp_send_wait(struct mcp_call *call, struct request *request, int64_t wait_ms,
                   mcp_on_reply *on_reply);
/* `total` 0: not known; `message` n == 0: none. Nothing happens where none is wanted. */
void mcp_progress(struct mcp_call *call, double progress, double total, struct str message);
/* `data` is JSON. Nothing happens where the level is not wanted. */
void mcp_log(struct mcp_call *call, enum mcp_level level, struct str logger, struct str data);
/* Before 2026-07-28: a request to the client; the method is good where call->client_can says so. A
 * client that never answers: at the end of `patience_ms`. */
void mcp_ask(struct mcp_call *call, const char *method, struct str params, int64_t patience_ms,
             mcp_on_answer *on_answer);
/* The call only reads and may be begun again with the same arguments: where its connection goes, it
 * goes too, and the client comes back for it with the id of the last event it saw (GET,
 * Last-Event-ID; from 2025-03-26 to 2025-11-25). Before anything was sent to the client. */
void mcp_resumable(struct mcp_call *call);
/* Where the client can come back (2025-11-25): closes the connection, which it does in `retry_ms`;
 * the call then begins again, `resumed`. False: it cannot, and nothing happened. */
bool mcp_come_back(struct mcp_call *call, uint32_t retry_ms);
/* What is sent from now on goes out at once, as an event stream, and not when the call ends. */
void mcp_stream(struct mcp_call *call);
/* Once the answer is written to a live connection: on_written(written: true); where the connection
 * was gone before: false. `frontend` and `data` are all that is left of the call then; `data` is
 * mem_alloc'ed and the callee's. To be set before the call ends. */
void mcp_when_written(struct mcp_call *call,
                      void (*on_written)(struct frontend *frontend, void *data, bool written),
                      void *data);

/* ---- helpers */

/* A member of an object; NULL: it is not there. */
const struct json_value *mcp_member(const struct json_value *object, const char *name);
/* The text of a JSON string with \u0000-free UTF-8, copied to the call's arena. */
struct str mcp_copy(struct mcp_call *call, struct str text);
/* Adds {"type":"text","text":…}. */
void mcp_add_text(struct buf *out, struct str text);
/* By its name in notifications/message; MCP_LEVEL_NONE: there is none. */
enum mcp_level mcp_level_of(struct str name);

#endif
