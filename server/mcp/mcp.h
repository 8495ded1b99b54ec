/*
 * mcp: the Model Context Protocol's face. Agents that speak it join a session with a URL:
 *
 *     /v1/sessions/{sid}/agents/{aid}/mcp   speaks as that agent
 *     /mcp                                  tools take session and agent as arguments
 *     …/sse                                 the transport of revision 2024-11-05
 *
 * Revisions 2025-03-26, 2025-06-18 and 2025-11-25 (initialize, sessions) and 2026-07-28 (each
 * request stands for itself) share the URLs; what a request says decides.
 *
 * Normal path: mcp_serve reads a POST's message, finds whose it is (session.h), makes a call of it
 * (call.h), and the method (methods.c) ends that call; its answer goes out through a sink (sink.h).
 * Failure: what is wrong with a message is a JSON-RPC error; with the request that brought it
 * (Host, Origin, media type, size), a problem as everywhere.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_MCP_H
#define ATOLL_SERVER_MCP_MCP_H

#include "server/slots.h"
#include "shards/request.h"

struct call;
struct connected;
struct exchange;
struct frontend;
struct mcp_sink;
struct sign_key;

/* A frontend's part of the face. */
struct mcp_face {
    struct slots calls;
    struct slots streams; /* of the older transport */
    struct mcp_sink *sinks;
    struct sign_key *sessions, *events, *states; /* keys: session ids, event ids, request states */
};

void mcp_face_init(struct frontend *frontend);
void mcp_face_free(struct frontend *frontend);

/* ROUTE_MCP_POST, _GET, _DELETE and ROUTE_MCP_SSE_GET, _POST. */
void mcp_serve(struct exchange *exchange, const struct call *call);
/* Whether a reply is to a request of this face. */
static inline bool mcp_is_reply(const struct request *request)
{
    return (request->token >> 63) != 0;
}
void mcp_take_reply(struct frontend *frontend, struct request *request);
/* From another frontend (REQUEST_RELAY). */
void mcp_on_relay(struct frontend *frontend, struct str bytes);
/* Tells of the agents that have a stream or a call open. */
void mcp_describe(const struct frontend *frontend, struct connected *connected);
/* The server is about to stop: ends waits. Each look. */
void mcp_drain(struct frontend *frontend);
/* Grants have ended: so do the waits of those who called with them. */
void mcp_expire(struct frontend *frontend);

#endif
