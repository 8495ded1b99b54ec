/*
 * resources: what the methods about resources, prompts and completion have in common.
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_RESOURCES_H
#define ATOLL_SERVER_MCP_RESOURCES_H

#include "server/mcp/feature.h"

/* Ends the call: its parameters are bad, MCP_E_INVALID_PARAMS. At most 600 bytes are said. */
void params_refuse(struct mcp_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* For a "%.*s" of such a sentence: a client's text, or its beginning. */
enum { PARAMS_SHOWN_BYTES = 100 };
#define PARAMS_SHOWN(text) (int)json_cut((text), PARAMS_SHOWN_BYTES), (text).p

/* Ends the call: one text, `note` (n == 0: none) being told in its `_meta`. */
void resource_give(struct mcp_call *call, struct str uri, const char *type, struct str text,
                   struct str note);
/* Ends the call: there is no such resource. */
void resource_unknown(struct mcp_call *call, struct str uri);
/* Ends the call with a reply that is an error, taking it over: of a session or thread that is not
 * there, as resource_unknown. */
void resource_refuse(struct mcp_call *call, struct str uri, struct request *request);

/* A REQUEST_VIEW of these parts (JSON Pointers, copied); `outline`: without messages. */
struct request *resource_view(struct mcp_call *call, const struct str *parts, uint32_t n,
                              bool outline);

/* coral://… of this agent, which is known. `uri` lies in the call's arena. */
void coral_read_state(struct mcp_call *call, struct str uri);
void coral_read_instruction(struct mcp_call *call, struct str uri);

#endif
