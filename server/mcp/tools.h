/*
 * tools: what tools_atoll.c, tools_waiting.c, tools_reading.c and tools_coral.c have in common:
 * definitions and the rows that arguments are read by, from one list; and the way of a tool that is
 * one command.
 *
 * A tool's arguments are a macro over FIRST and MORE, one row each:
 *
 *     ROW(form, name, need, place, "what it is, for a model")
 *
 * form: ID, TEXT, IDS, FLAG, NUMBER, SIGNED, STATUS, IGNORED; need: NEED or MAY; place: where it
 * goes, the name of a CORE_FIELD_… (of a command) or a member of struct tool_query. By the schema
 * all arguments are required, which strict validators want; the server takes those that MAY be
 * missing as left out where they are missing, null or "".
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_TOOLS_H
#define ATOLL_SERVER_MCP_TOOLS_H

#include "server/decode.h"
#include "server/mcp/feature.h"
#include "server/mcp/text.h"

#define ID_ARGS(id) (int)(id).n, (id).p /* of a "%.*s" */

/* ---- definitions */

#define TOOL_TYPE_ID "\"type\":\"string\""
#define TOOL_TYPE_TEXT "\"type\":\"string\""
#define TOOL_TYPE_MESSAGE "\"type\":\"string\""
#define TOOL_TYPE_IDS "\"type\":\"array\",\"items\":{\"type\":\"string\"}"
#define TOOL_TYPE_FLAG "\"type\":\"boolean\""
#define TOOL_TYPE_NUMBER "\"type\":\"integer\""
#define TOOL_TYPE_STATUS                                                                           \
    "\"type\":\"string\",\"enum\":[\"idle\",\"working\",\"waiting\",\"attention\",\"question\","   \
    "\"offline\"]"
#define TOOL_TYPE_ANY "\"title\":\"JSON\""

#define TOOL_PROPERTY(form, name, need, place, what)                                               \
    "\"" #name "\":{" TOOL_TYPE_##form ",\"description\":\"" what "\"}"
#define TOOL_PROPERTY_MORE(form, name, need, place, what)                                          \
    "," TOOL_PROPERTY(form, name, need, place, what)
#define TOOL_REQUIRED(form, name, need, place, what) "\"" #name "\""
#define TOOL_REQUIRED_MORE(form, name, need, place, what) ",\"" #name "\""

/* Who speaks, where the address does not say it. */
#define TOOL_SPEAKER                                                                               \
    "\"session\":{\"type\":\"string\",\"description\":\"Id of the session you work in.\"},"        \
    "\"agent\":{\"type\":\"string\",\"description\":\"Your own id in that session: you speak and " \
    "read as this agent.\"}"

#define TOOL_OBJECT(properties, required)                                                          \
    "{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required                 \
    "],\"additionalProperties\":false}"
#define TOOL_INPUT(arguments)                                                                      \
    TOOL_OBJECT(arguments(TOOL_PROPERTY, TOOL_PROPERTY_MORE),                                      \
                arguments(TOOL_REQUIRED, TOOL_REQUIRED_MORE))
#define TOOL_INPUT_UNBOUND(arguments)                                                              \
    TOOL_OBJECT(TOOL_SPEAKER arguments(TOOL_PROPERTY_MORE, TOOL_PROPERTY_MORE),                    \
                "\"session\",\"agent\"" arguments(TOOL_REQUIRED_MORE, TOOL_REQUIRED_MORE))

/* Of results: members by form and name, and which of them are always there. */
#define TOOL_MEMBER(form, name) "\"" #name "\":{" TOOL_TYPE_##form "}"
#define TOOL_LIST(name, properties, required)                                                      \
    "\"" #name "\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{" properties \
    "},\"required\":[" required "]}}"
#define TOOL_OUTPUT(properties, required)                                                          \
    "{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required "]}"

/* Hints to whoever asks a human before a tool is called. */
#define TOOL_READS                                                                                 \
    "{\"readOnlyHint\":true,\"destructiveHint\":false,\"idempotentHint\":true,"                    \
    "\"openWorldHint\":false}"
#define TOOL_ADDS                                                                                  \
    "{\"readOnlyHint\":false,\"destructiveHint\":false,\"idempotentHint\":false,"                  \
    "\"openWorldHint\":false}"
#define TOOL_SETS                                                                                  \
    "{\"readOnlyHint\":false,\"destructiveHint\":false,\"idempotentHint\":true,"                   \
    "\"openWorldHint\":false}"
#define TOOL_ENDS                                                                                  \
    "{\"readOnlyHint\":false,\"destructiveHint\":true,\"idempotentHint\":true,"                    \
    "\"openWorldHint\":false}"

#define TOOL_TEXTS(title, what, input, output, hints)                                              \
    "\"title\":\"" title "\",\"description\":\"" what "\",\"inputSchema\":" input                  \
    ",\"outputSchema\":" output ",\"annotations\":" hints

/* A row of a table of tools: its name, and what is said of it above. */
#define TOOL(tool, title, what, arguments, output, hints, called)                                  \
    {                                                                                              \
        .name = #tool,                                                                             \
        .definition = TOOL_TEXTS(title, what, TOOL_INPUT(arguments), output, hints),               \
        .unbound = TOOL_TEXTS(title, what, TOOL_INPUT_UNBOUND(arguments), output, hints),          \
        .call = (called),                                                                          \
    }

/* ---- a tool that is one command */

struct tool_row {
    const char *name;
    uint8_t field; /* enum core_field */
    bool need;
};

#define TOOL_NEED true
#define TOOL_MAY false
#define TOOL_ROW(form, name, need, place, what) {#name, CORE_FIELD_##place, TOOL_##need},

struct tool_command {
    const char *what; /* the tool's name */
    enum core_type type;
    const struct tool_row *rows;
    uint8_t n;
};

#define TOOL_COMMAND(tool, command, arguments)                                                     \
    static const struct tool_row tool##_rows[] = {arguments(TOOL_ROW, TOOL_ROW)};                  \
    static const struct tool_command tool##_command = {                                            \
        #tool, CORE_##command, tool##_rows, sizeof(tool##_rows) / sizeof(tool##_rows[0])}

/* The command, by call->agent, as a request. NULL: refused, and the call has ended. */
struct request *tool_command_request(struct mcp_call *call, const struct tool_command *tool,
                                     const struct json_value *arguments);

/* What makes a request the acknowledgement of an inbox's answer; texts are copied. */
void tool_fill_acknowledgement(struct request *request, struct str agent, struct str cursor);

/* ---- a tool that asks for something */

/* What its arguments may be, by name. Each has eight bytes, by which its bit is numbered. */
struct tool_query {
    struct str thread, cursor, from, ack, ignored;
    uint64_t wait_s;
    int64_t wait_ms;
    _Alignas(8) bool mentions_only;
};

#define TOOL_KIND_ID KIND_ID
#define TOOL_KIND_TEXT KIND_TEXT
#define TOOL_KIND_FLAG KIND_BOOL
#define TOOL_KIND_NUMBER KIND_U64
#define TOOL_KIND_SIGNED KIND_I64
#define TOOL_KIND_IGNORED KIND_JSON
#define TOOL_TYPE_SIGNED TOOL_TYPE_NUMBER
#define TOOL_TYPE_IGNORED TOOL_TYPE_NUMBER
#define TOOL_LIMIT_ID CORE_LIMIT_NONE
#define TOOL_LIMIT_TEXT CORE_LIMIT_CURSOR_BYTES
#define TOOL_LIMIT_FLAG CORE_LIMIT_NONE
#define TOOL_LIMIT_NUMBER CORE_LIMIT_NONE
#define TOOL_LIMIT_SIGNED CORE_LIMIT_NONE
#define TOOL_LIMIT_IGNORED CORE_LIMIT_DATA_BYTES
#define TOOL_SPEC(form, argument, need, place, what)                                               \
    {.name = #argument,                                                                            \
     .field = offsetof(struct tool_query, place) / 8,                                              \
     .kind = TOOL_KIND_##form,                                                                     \
     .flags = TOOL_##need ? FIELD_REQUIRED : 0,                                                    \
     .limit = TOOL_LIMIT_##form,                                                                   \
     .offset = offsetof(struct tool_query, place)},

struct tool_question {
    const char *what;
    const struct core_field_spec *specs;
    uint8_t n;
};

#define TOOL_QUESTION(tool, arguments)                                                             \
    static const struct core_field_spec tool##_specs[] = {arguments(TOOL_SPEC, TOOL_SPEC)};        \
    static const struct tool_question tool##_question = {                                          \
        #tool, tool##_specs, sizeof(tool##_specs) / sizeof(tool##_specs[0])}

/* Reads them; what is not given stays as it is. Texts are copied to the call's arena. False:
 * refused, and the call has ended. */
bool tool_question_read(struct mcp_call *call, const struct tool_question *tool,
                        const struct json_value *arguments, struct tool_query *query);

/* ---- answers */

struct tool_answer {
    struct buf json, text;
};

/* Ends the call with what was put together, and frees that and the request. */
void tool_end(struct mcp_call *call, struct request *request, struct tool_answer *answer);

#endif
