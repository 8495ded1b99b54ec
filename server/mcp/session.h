/*
 * session: MCP sessions, of the revisions before 2026-07-28. A session's id is a signed text that
 * holds whom it is for, so that any reactor can serve any of its requests; what can change is kept
 * durably in the labels of its companion (a session of Atoll that only faces see), under its name:
 *
 *     level              the least level of log messages
 *     stream             names the newest GET stream: the one that gets notifications
 *     used               when it was last renewed
 *     +<uri>             a subscription
 *
 * It ends when its companion is deleted: by DELETE, or MCP_SESSION_TTL_S after it was last used.
 */
#ifndef ATOLL_SERVER_MCP_SESSION_H
#define ATOLL_SERVER_MCP_SESSION_H

#include "server/mcp/call.h"

struct connection;

enum {
    MCP_SESSION_TTL_S = 2 * 24 * 3600,
    MCP_COMPANION_BYTES = 27, /* '~' and 26 digits */
    MCP_SUBSCRIPTIONS_MAX = 48,
};

struct mcp_claims {
    enum mcp_version version;
    enum mcp_toolset toolset;
    unsigned client_can;
    struct str companion;
    struct str session, agent; /* of the URL; p == NULL: /mcp */
    struct str caller;         /* whose it is, beyond its URL; n == 0: nobody in particular */
};

/* A name for a companion, on the shard of `session` where that is given. */
struct str mcp_companion_name(struct frontend *frontend, struct str session,
                              char out[MCP_COMPANION_BYTES]);
/* Appends the id. */
void mcp_session_write(struct frontend *frontend, const struct mcp_claims *claims, struct buf *out);
/* Strings lie in the arena. False: it is no id of ours. */
bool mcp_session_read(struct connection *connection, struct str id, struct arena *arena,
                      struct mcp_claims *claims);

/* Makes `request` the command that creates, or that changes labels of, a companion. A value with
 * p == NULL removes the label. */
void mcp_companion_create(struct request *request, struct str companion);
void mcp_companion_label(struct request *request, struct str companion, struct str key,
                         struct str value);

#endif
