/*
 * hints: what a model that was refused can do about it, said behind the refusal's own sentence.
 * Pure.
 */
#ifndef ATOLL_SERVER_MCP_HINTS_H
#define ATOLL_SERVER_MCP_HINTS_H

#include "server/mcp/call.h"

/* A sentence, or "". `error`: core's or a request's; `field`: the refusal's, may be NULL. */
const char *mcp_hint(unsigned error, const char *field, enum mcp_toolset toolset);

#endif
