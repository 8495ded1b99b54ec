/*
 * What the files of the MCP face know of each other. Faces and frontends include mcp.h alone.
 */
#ifndef ATOLL_SERVER_MCP_INTERNAL_H
#define ATOLL_SERVER_MCP_INTERNAL_H

#include "server/frontend.h"
#include "server/mcp/call.h"
#include "server/mcp/feature.h"
#include "server/mcp/rpc.h"
#include "server/mcp/session.h"
#include "server/mcp/sink.h"
#include "server/seal.h"

enum {
    MCP_PROGRESS_MS = 10 * 1000, /* between two notifications of a wait's progress */
    MCP_STREAM_AFTER_MS = 25,    /* a wait that lasts longer becomes an event stream */
    MCP_WAIT_AGAIN_MS = 1000,    /* until the end of a wait is asked for once more */
    MCP_TTL_MS = 60 * 1000,      /* for which what never changes while we run may be kept */
    MCP_URI_BYTES = 200,         /* of a subscription */
    MCP_STATE_TTL_S = 600,       /* for which a requestState is good */
    MCP_RESUME_BYTES = 2048,     /* of a request that its events' ids hold */
    MCP_COME_BACK_MS = 500,      /* `retry` of a stream that ends as the server stops */
};

#define MCP_SERVER_INFO "{\"name\":\"atoll\",\"title\":\"Atoll\",\"version\":\"" ATOLL_VERSION "\"}"

/* Tokens of calls, beside those of exchanges. */
#define MCP_TOKEN (UINT64_C(1) << 63)

/* ---- call.c */

/* Whom and in which manner a call is for; strings are copied. */
struct mcp_caller {
    enum mcp_version version;
    enum mcp_toolset toolset;
    struct str session, agent; /* of the URL; p == NULL: none */
    struct str owner;          /* the MCP session's companion; p == NULL: none */
    unsigned client_can;
    enum mcp_level level;
};

/* A call in `sink` for a request that was read; the message's texts are copied, its params lent
 * until the handler returns. */
struct mcp_call *mcp_call_new(struct mcp_sink *sink, const struct mcp_caller *caller,
                              const struct rpc_message *message);
/* Ends it without an answer: it was cancelled, or nobody is there. */
void mcp_call_drop(struct mcp_call *call);
/* The reply to a request of a call has come. */
void mcp_on_shard_reply(struct frontend *frontend, struct request *request);
/* Its wait is over: it is answered with what there is. */
void mcp_wait_hurry(struct mcp_call *call);
/* The server is about to stop: what was asked of its client cannot be answered any more. */
void mcp_asking_hurry(struct mcp_call *call);
/* The call of this owner and id; NULL: none here. */
struct mcp_call *mcp_call_find(struct frontend *frontend, struct str owner, struct str id);

/* The id of a request of ours (mcp_ask). */
struct mcp_asking_id {
    uint64_t reactor, token, n;
};
/* False: this life of the server has asked nothing with this id (JSON text). */
bool mcp_read_asking(const struct frontend *frontend, struct str id, struct mcp_asking_id *out);
/* What was answered to it, by the MCP session `owner`, or (not NULL) on the older stream `sink`.
 * False: nobody waits for it here. */
bool mcp_answered(struct frontend *frontend, const struct mcp_sink *sink, struct str owner,
                  const struct mcp_asking_id *id, const struct rpc_message *message);
/* A slot's token in a text, and back. */
void mcp_token_write(uint64_t token, struct buf *out);
bool mcp_token_read(struct str text, uint64_t *token);

/* Ids for the events of its stream, if that has not begun: a signed text of kind, owner, `what`. */
enum { MCP_EVENT_RESUMABLE = 'r', MCP_EVENT_LOST = 'x', MCP_EVENT_NOTES = 'n' };
void mcp_set_event_ids(struct mcp_call *call, char kind, struct str what);
/* Takes the `requestState` that a client sent; false: we did not give it, for this. */
bool mcp_take_state(struct mcp_call *call, struct str text);
/* Gives back what an inbox answer handed to somebody who is gone. */
void mcp_give_back(struct frontend *frontend, const struct request *answer);
/* tools_coral.c: an acknowledgement was refused, as too many messages of that thread were taken
 * past an older one that is unread: all up to this one is read then, or it would come again for
 * ever. */
void coral_read_past(struct frontend *frontend, const struct request *refused);
/* Makes it the registration of an agent. */
void mcp_fill_registration(struct request *request, struct str agent);
/* notifications/message */
void mcp_write_log(struct buf *out, enum mcp_level level, struct str logger, struct str data);

/* ---- answers.c */

/* Ends the call with a result of this type; `members` is what stands between its braces. */
void mcp_end(struct mcp_call *call, struct str type, struct str members);
/* Ends it with a refusal: core's or a request's error, in words. `field` may be NULL. */
void mcp_refuse(struct mcp_call *call, unsigned error, const char *field, const char *detail);

/* ---- asking.c */

/* Nobody waits for the client's answer any more. */
void mcp_asking_forget(struct mcp_call *call);

/* ---- methods.c */

/* Finds the method and begins it: the call is answered in time. */
void mcp_begin(struct mcp_call *call);
/* {"protocolVersion":…}: what initialize answers. */
void mcp_write_initialized(struct buf *out, enum mcp_version version, enum mcp_toolset toolset,
                           bool bound);
/* All revisions that we speak, as a JSON array, the newest first. */
void mcp_write_versions(struct buf *out);
/* The member of a method's params that says what it is about ("name", "uri"); NULL: nothing does.
 */
const char *mcp_method_subject(struct str name);
/* MCP_VERSION_COUNT: we do not speak it. */
enum mcp_version mcp_version_of(struct str name);

/* ---- notify.c: see notify.h */

struct mcp_notes;
void mcp_notes_free(struct mcp_notes *notes);
void mcp_notes_fill(struct mcp_notes *notes);

/* ---- mcp.c */

/* Reads a message by the thread's parser: as json_parse, but numbers may be rounded. */
int mcp_parse(struct frontend *frontend, struct arena *arena, struct str text,
              const struct json_value **root, struct json_error *error);
/* Whether a client can be asked for something, by its capabilities (NULL: none). */
unsigned mcp_client_can_of(const struct json_value *capabilities);
/* The revision to speak with a client that wants this one, by initialize. */
enum mcp_version mcp_negotiate(struct str wanted);
/* A REQUEST_VIEW of a companion's labels. */
struct request *mcp_labels_request(struct str companion);
/* What a relay holds, and for whom it is. */
enum { MCP_RELAY_CANCEL = 'c', MCP_RELAY_ANSWER = 'a', MCP_RELAY_OLDER = 'o' };
/* Sends bytes to another reactor's face; the exchange is answered 202 when they are there. */
void mcp_relay(struct exchange *exchange, unsigned reactor, char kind, struct str whom,
               struct str bytes);

/* The server is about to stop: says so on a stream, and ends it. */
void mcp_sink_drain(struct mcp_sink *sink);

#endif
