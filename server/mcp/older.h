/*
 * older: the transport of revision 2024-11-05: a GET opens an event stream, its first event
 * (`endpoint`) says where to POST messages, and all answers come on the stream.
 *
 *     GET …/sse                     event: endpoint   data: …/sse?stream=<signed>
 *     POST …/sse?stream=<signed>    202, whichever reactor it reaches: the message is handed to the
 *                                   one that has the stream
 *
 * Everything that the session is lasts as long as its stream: a client whose stream ends begins
 * again. Failure: a stream that is not there (any more) is a 404 that says so.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_OLDER_H
#define ATOLL_SERVER_MCP_OLDER_H

#include "core/base.h"

struct call;
struct exchange;
struct frontend;
struct mcp_sink;

void mcp_older_open(struct exchange *exchange, const struct call *call);
void mcp_older_post(struct exchange *exchange, const struct call *call);
/* A message for a stream here, POSTed to another reactor. `whom` is its token. */
void mcp_older_on_relay(struct frontend *frontend, struct str whom, struct str body);
void mcp_older_free(struct mcp_sink *sink);
/* Whom it speaks for; p == NULL: nobody by its URL. */
void mcp_older_agent(const struct mcp_sink *sink, struct str *session, struct str *agent);

#endif
