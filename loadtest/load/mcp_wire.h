/*
 * mcp_wire: requests of the Model Context Protocol, as an agent of a session sends them to
 * …/agents/{agent}/mcp: both generations of Streamable HTTP.
 *
 * Thread: anyone's.
 */
#ifndef ATOLL_LOAD_MCP_WIRE_H
#define ATOLL_LOAD_MCP_WIRE_H

#include "ask.h"

enum mcp_revision {
    MCP_MODERN, /* 2026-07-28: each request stands by itself */
    MCP_OLDER   /* 2025-11-25: within a session of the protocol, by Mcp-Session-Id */
};

enum { MCP_TOKEN_BYTES = 256 };

/* A tools/call in the place of what `text` held. `token`: of MCP_OLDER, by mcp_initialize. `id`: no
 * two of a token are alike. `arguments`: a JSON object. */
void mcp_put_call(struct text *text, enum mcp_revision revision, const char *token,
                  const char *session, const char *agent, const char *tool, uint64_t id,
                  const char *arguments);
/* Begins a session of the protocol; NULL: `token` names it, else what is wrong, valid until the
 * next question. */
const char *mcp_initialize(struct asker *asker, const char *session, const char *agent,
                           char token[MCP_TOKEN_BYTES]);
/* The tool's structured result in the answer (JSON, or an event stream that has ended), up to the
 * answer's end; NULL: there is none, as the call was refused. */
const char *mcp_result(const struct http *http);

#endif
