/*
 * fixtures: the tools, resources and prompts that the protocol's conformance suite asks a server
 * for, with the names, texts and schemas that it expects. They are in a program of their own, built
 * on the MCP face as it is (conformance.c); nothing of them is in `atoll`.
 *
 * Thread: a frontend's, each.
 */
#ifndef ATOLL_TESTS_MCP_FIXTURES_H
#define ATOLL_TESTS_MCP_FIXTURES_H

#include "server/mcp/feature.h"

/* 1 × 1 pixel, and a sample of silence; base64. */
#define PNG_BASE64                                                                                 \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJg" \
    "gg=="
#define WAV_BASE64 "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

#define NO_ARGUMENTS "\"inputSchema\":{\"type\":\"object\",\"properties\":{}}"

/* What tools answer in content, and what asks the client before 2026-07-28: tools.c. */
extern const struct mcp_tool fixture_tools[];
extern const size_t fixture_tools_n;

/* What answers by "input_required", from 2026-07-28 on: inputs.c. */
void fixture_ask_name(struct mcp_call *call, const struct json_value *arguments);
void fixture_ask_sampling(struct mcp_call *call, const struct json_value *arguments);
void fixture_ask_roots(struct mcp_call *call, const struct json_value *arguments);
void fixture_ask_confirmation(struct mcp_call *call, const struct json_value *arguments);
void fixture_ask_all(struct mcp_call *call, const struct json_value *arguments);
void fixture_ask_twice(struct mcp_call *call, const struct json_value *arguments);
void fixture_ask_what_is_declared(struct mcp_call *call, const struct json_value *arguments);
void fixture_ask_on_stream(struct mcp_call *call, const struct json_value *arguments);
void fixture_ask_context(struct mcp_call *call, const struct json_value *arguments); /* a prompt */

/* resources.c */
extern const char fixture_resources[], fixture_templates[];
bool fixture_read(struct mcp_call *call, struct str uri);
bool fixture_knows(struct str uri);

/* prompts.c */
extern const struct mcp_prompt fixture_prompts[];
extern const size_t fixture_prompts_n;
bool fixture_complete(struct mcp_call *call, const struct json_value *ref,
                      const struct json_value *argument);

/* A member that is a string; p == NULL: it is none, or not there, or `object` is none, or NULL. */
struct str fixture_string(const struct json_value *object, const char *name);
/* The same of one that is an object. */
const struct json_value *fixture_object(const struct json_value *object, const char *name);

#endif
