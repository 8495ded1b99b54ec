/*
 * notify: what a client is told unasked: resources that were updated, lists that have changed. All
 * of it comes from committed events of the sessions that it is about (watcher.h), so nothing is
 * told that a crash could take back.
 *
 * Normal path: a GET stream reads its subscriptions from the companion of its MCP session, and
 * again whenever that changes; subscriptions/listen and the older transport bring them along. Each
 * session that one of them is about is watched; its events, when the stream can be written, become
 * notifications, each at most once for what has gathered. The ids of a GET stream's events say how
 * far that session was told, so that a client that comes back misses nothing; where that cannot be
 * told (several sessions, history no longer kept) it is told that everything was updated.
 * Failure: a session that is not there, or was deleted, is updated no more; it is told once.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_NOTIFY_H
#define ATOLL_SERVER_MCP_NOTIFY_H

#include "server/mcp/internal.h"

/* Whether a URI can be subscribed to. `session`: of the URL; p == NULL: /mcp. */
bool mcp_notes_can(struct str uri, struct str session);
/* Of the older transport, whose subscriptions last as long as its stream. False: there are too many
 * (MCP_SUBSCRIPTIONS_MAX). */
bool mcp_notes_change(struct mcp_sink *sink, struct str uri, bool subscribe);
/* Notifications of an MCP session on a GET stream. `position`: of the last event that the client
 * has seen ("<epoch>-<seq>"), p == NULL: it begins anew, n == 0: it had none. */
void mcp_notes_begin(struct mcp_sink *sink, const struct mcp_claims *claims, struct str position);
/* The older transport: told of lists, and of what it subscribes to. */
void mcp_notes_begin_older(struct mcp_sink *sink, struct str session);
/* Whose GET stream it is; p == NULL: nobody's by its URL. */
void mcp_notes_agent(const struct mcp_notes *notes, struct str *session, struct str *agent);
/* subscriptions/listen */
void mcp_listen(struct mcp_call *call);

/* A reply for notes (token MCP_NOTES_TOKEN). Takes it over. */
#define MCP_NOTES_TOKEN (UINT64_C(3) << 62)
void mcp_notes_on_reply(struct frontend *frontend, struct request *request);

#endif
