/*
 * visit: one HTTP request of an MCP client, and its refusals before there is a call.
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_VISIT_H
#define ATOLL_SERVER_MCP_VISIT_H

#include "server/mcp/internal.h"

/* One POST, GET or DELETE, until its answer is due. In the request's pool. */
struct visit {
    struct exchange *exchange;
    struct str body;
    struct str version;       /* MCP-Protocol-Version; p == NULL: none */
    struct str session_id;    /* Mcp-Session-Id */
    struct str last_event_id; /* in the pool */
    struct mcp_claims claims; /* of the session id; strings in `arena` */
    struct arena arena;
    struct str id; /* of an initialize: JSON text */
    bool takes_events, coral;
};

/* A request's header; p == NULL: it is not there. */
struct str visit_header(const struct exchange *exchange, const char *name);

/* Answers with a JSON-RPC error; `id` is JSON text, p == NULL: none. */
void visit_refuse(struct exchange *exchange, int status, struct str id, enum mcp_code code,
                  const char *message);
/* The same for a revision that we do not speak: it names those that we do. */
void visit_refuse_version(struct exchange *exchange, struct str id, struct str requested);
/* 202, for what needs no answer. */
void visit_accept(struct exchange *exchange);
/* The sink of the visit's answer. */
struct mcp_sink *visit_sink(struct visit *visit, enum mcp_version version);

/* ---- modern.c: revision 2026-07-28 */

void modern_take(struct visit *visit, const struct rpc_message *message);

/* ---- relay.c: what belongs to another reactor's call */

/* The call of this owner and id ends, wherever it is. */
void relay_cancel(struct frontend *frontend, struct str owner, struct str id);
/* An answer to what the client was asked, for the reactor that asked; nobody hears whether it is
 * there. (With an exchange that does: mcp_relay.) */
void relay_answer(struct frontend *frontend, unsigned reactor, struct str owner, struct str text);

#endif
