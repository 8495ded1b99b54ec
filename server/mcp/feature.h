/*
 * feature: what the MCP face offers: tools, resources, prompts, completion. Each is a row of a
 * table; atoll's own stand in tools*.c, resources.c, prompts.c. A program that is built on the
 * face may add to them (mcp_extend): the one that the protocol's conformance suite is run against
 * does.
 *
 * Thread: tables are constant while the server runs.
 */
#ifndef ATOLL_SERVER_MCP_FEATURE_H
#define ATOLL_SERVER_MCP_FEATURE_H

#include "server/mcp/call.h"

struct mcp_tool {
    const char *name;
    /* Members of its definition but for the name, as JSON: "title":…,"description":…,
     * "inputSchema":{…},… `unbound`: the same where session and agent are arguments; NULL: alike */
    const char *definition, *unbound;
    /* call->session, call->agent are set. `arguments` is an object, never NULL. */
    void (*call)(struct mcp_call *call, const struct json_value *arguments);
    bool needs_no_session; /* it may be called without session and agent */
    bool logs;             /* it says log messages: call->level has to be known */
};

struct mcp_prompt {
    const char *name;
    const char *definition; /* as above: "description":…,"arguments":[…] */
    void (*get)(struct mcp_call *call, const struct json_value *arguments); /* may be NULL */
};

/* Of a program that adds to the face. Any member may be NULL. */
struct mcp_extension {
    const struct mcp_tool *tools;
    size_t tools_n;
    const struct mcp_prompt *prompts;
    size_t prompts_n;
    /* Elements of the arrays of resources/list and resources/templates/list, with commas between.
     */
    const char *resources, *templates;
    bool (*knows)(struct str uri); /* whether it may be subscribed to; pure */
    /* False: not one of its own. */
    bool (*read)(struct mcp_call *call, struct str uri);
    /* completion/complete; false: not about one of its own. */
    bool (*complete)(struct mcp_call *call, const struct json_value *ref,
                     const struct json_value *argument);
};

/* Before the server starts. */
void mcp_extend(const struct mcp_extension *extension);
extern const struct mcp_extension *mcp_extension; /* NULL: none */

/* ---- atoll's own: tools_atoll.c, tools_coral.c; by toolset */

struct mcp_tools {
    const struct mcp_tool *items;
    size_t n;
};
extern const struct mcp_tools mcp_tools_atoll, mcp_tools_coral;

/* NULL: there is none. The extension's own are in both toolsets. */
const struct mcp_tool *mcp_tool_find(enum mcp_toolset toolset, struct str name);

/* ---- methods: each ends the call. resources.c, prompts.c, complete.c */

void mcp_tools_list(struct mcp_call *call);
void mcp_tools_call(struct mcp_call *call);
void mcp_resources_list(struct mcp_call *call);
void mcp_resources_templates(struct mcp_call *call);
void mcp_resources_read(struct mcp_call *call);
void mcp_prompts_list(struct mcp_call *call);
void mcp_prompts_get(struct mcp_call *call);
void mcp_complete(struct mcp_call *call);

/* What an "atoll://…" or "coral://…" URI of this call names. Strings lie in it. */
enum mcp_resource {
    MCP_RESOURCE_NONE, /* not one of ours, or not one that this call may read */
    MCP_RESOURCE_STATE,
    MCP_RESOURCE_THREAD,
    MCP_RESOURCE_EVENTS,
    MCP_RESOURCE_CORAL_STATE,
    MCP_RESOURCE_CORAL_INSTRUCTION,
};
struct mcp_resource_name {
    enum mcp_resource kind;
    struct str session, thread;
    struct str query; /* of EVENTS, behind the '?' */
};
/* Pure. `session`: that of the URL, p == NULL: any. */
struct mcp_resource_name mcp_resource_parse(struct str uri, struct str session);

#endif
