/*
 * tools: tools/list and tools/call, and what most tools have in common (tools.h).
 *
 * Failure: a call that is no good as a request (no name, no such tool, arguments that are no
 * object) is a JSON-RPC error. Arguments that are wrong, and what a session refuses, are results
 * with isError, which a model gets to read: with what is allowed, or what to do next.
 */
#include "server/mcp/tools.h"
#include "server/auth/guard.h"
#include "server/mcp/sink.h"

#include "server/frontend.h"
#include "server/mcp/rpc.h"

#include <stdio.h>

enum { NAME_SHOWN_BYTES = 64 };

static const char *const speaker[] = {"session", "agent", NULL};

/* ---- the tables */

static const struct mcp_tools *tools_of(enum mcp_toolset toolset)
{
    return toolset == MCP_TOOLS_CORAL ? &mcp_tools_coral : &mcp_tools_atoll;
}

static const struct mcp_tool *find_among(const struct mcp_tool *tools, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++) {
        if (str_equal(name, (struct str){tools[i].name, strlen(tools[i].name)}))
            return &tools[i];
    }
    return NULL;
}

const struct mcp_tool *mcp_tool_find(enum mcp_toolset toolset, struct str name)
{
    const struct mcp_tools *own = tools_of(toolset);
    const struct mcp_tool *tool = find_among(own->items, own->n, name);
    if (tool == NULL && mcp_extension != NULL)
        tool = find_among(mcp_extension->tools, mcp_extension->tools_n, name);
    return tool;
}

/* ---- tools/list */

static void list_add(struct buf *out, const struct mcp_tool *tools, size_t n, bool bound)
{
    for (size_t i = 0; i < n; i++) {
        const struct mcp_tool *tool = &tools[i];
        const char *definition = bound || tool->unbound == NULL ? tool->definition : tool->unbound;
        if (out->p[out->n - 1] == '}')
            buf_add_byte(out, ',');
        buf_add_literal(out, "{\"name\":\"");
        buf_add(out, tool->name, strlen(tool->name));
        buf_add_literal(out, "\",");
        buf_add(out, definition, strlen(definition));
        buf_add_byte(out, '}');
    }
}

void mcp_tools_list(struct mcp_call *call)
{
    const struct mcp_tools *own = tools_of(call->toolset);
    struct buf out = {0};

    if (rpc_member(call->params, STR("cursor")) != NULL) {
        mcp_error(call, MCP_E_INVALID_PARAMS, "There is no such cursor: one page holds all tools.",
                  (struct str){0});
        return;
    }
    buf_add_literal(&out, "{\"tools\":[");
    list_add(&out, own->items, own->n, call->bound);
    if (mcp_extension != NULL)
        list_add(&out, mcp_extension->tools, mcp_extension->tools_n, call->bound);
    buf_add_literal(&out, "]}");
    mcp_result(call, buf_str(&out));
    buf_free(&out);
}

/* ---- tools/call */

/* An id among the arguments. False: refused. */
static bool take_id(struct mcp_call *call, const struct mcp_tool *tool,
                    const struct json_value *arguments, const char *name, struct str *out)
{
    const struct json_value *v = rpc_member(arguments, (struct str){name, strlen(name)});

    if (v == NULL || v->type != JSON_STRING || !core_id_valid(json_str(v))) {
        mcp_tool_refuse(call, "\"%s\" %s: %s needs it, an id: " CORE_ID_RULE ".", name,
                        v == NULL ? "is missing" : "is not good", tool->name);
        return false;
    }
    *out = mcp_copy(call, json_str(v));
    return true;
}

static void refuse_unknown(struct mcp_call *call, struct str name)
{
    char text[NAME_SHOWN_BYTES + 80];
    size_t n = json_cut(name, NAME_SHOWN_BYTES);
    snprintf(text, sizeof(text), "Unknown tool: %.*s%s (tools/list tells them all)", (int)n, name.p,
             n < name.n ? "..." : "");
    mcp_error(call, MCP_E_INVALID_PARAMS, text, (struct str){0});
}

void mcp_tools_call(struct mcp_call *call)
{
    static const struct json_value none = {.type = JSON_OBJECT, .as.values = 1};
    const struct json_value *name = rpc_member(call->params, STR("name"));
    const struct json_value *arguments = rpc_member(call->params, STR("arguments"));

    if (name == NULL || name->type != JSON_STRING) {
        mcp_error(call, MCP_E_INVALID_PARAMS, "\"name\" must be the name of a tool, as a string.",
                  (struct str){0});
        return;
    }
    const struct mcp_tool *tool = mcp_tool_find(call->toolset, json_str(name));
    if (tool == NULL) {
        refuse_unknown(call, json_str(name));
        return;
    }
    if (arguments != NULL && arguments->type != JSON_OBJECT) {
        mcp_error(call, MCP_E_INVALID_PARAMS, "\"arguments\" must be an object.", (struct str){0});
        return;
    }
    if (arguments == NULL)
        arguments = &none;
    if (!call->bound && !tool->needs_no_session &&
        (!take_id(call, tool, arguments, speaker[0], &call->session) ||
         !take_id(call, tool, arguments, speaker[1], &call->agent)))
        return;
    tool->call(call, arguments);
}

/* ---- arguments */

/* A client that is bound by its address cannot speak for somebody else. */
static bool refuse_speaker(struct mcp_call *call, const struct json_value *arguments)
{
    for (size_t i = 0; call->bound && speaker[i] != NULL; i++) {
        if (rpc_member(arguments, (struct str){speaker[i], strlen(speaker[i])}) == NULL)
            continue;
        mcp_tool_refuse(call,
                        "Leave \"%s\" out: at this address you are the agent \"%.*s\" of the "
                        "session \"%.*s\", and can be nobody else.",
                        speaker[i], ID_ARGS(call->agent), ID_ARGS(call->session));
        return true;
    }
    return false;
}

static bool read_arguments(struct mcp_call *call, struct decode_arguments *rows,
                           const struct json_value *arguments, struct arena *arena, void *out,
                           uint64_t *given)
{
    struct core_refusal why;

    if (refuse_speaker(call, arguments))
        return false;
    rows->others = call->bound ? NULL : speaker;
    if (decode_arguments(call->frontend->decoder, rows, arguments, arena, out, given, &why) == 0)
        return true;
    mcp_tool_refuse(call, "%s.", why.detail);
    return false;
}

bool tool_question_read(struct mcp_call *call, const struct tool_question *tool,
                        const struct json_value *arguments, struct tool_query *query)
{
    struct decode_arguments rows = {.what = tool->what, .specs = tool->specs, .n = tool->n};
    uint64_t given = 0;
    return read_arguments(call, &rows, arguments, &call->arena, query, &given);
}

/* ---- commands */

static const struct core_field_spec *find_spec(const struct core_type_spec *type, uint8_t field)
{
    for (uint32_t i = 0; i < type->command_fields_n; i++) {
        if (type->command_fields[i].field == field)
            return &type->command_fields[i];
    }
    assert(!"a tool's argument is no field of its command");
    return NULL;
}

/* A command's row by the tool's name for it. */
static struct core_field_spec spec_of(const struct core_type_spec *type, const struct tool_row *row)
{
    struct core_field_spec spec = *find_spec(type, row->field);
    spec.name = row->name;
    spec.flags &= (uint8_t)~FIELD_REQUIRED;
    spec.flags |= row->need ? FIELD_REQUIRED : 0;
    return spec;
}

static void set_actor(struct mcp_call *call, struct request *request,
                      const struct core_type_spec *type, struct core_fields *f)
{
    for (uint32_t i = 0; i < type->command_fields_n; i++) {
        const struct core_field_spec *spec = &type->command_fields[i];
        if ((int)spec->offset != type->actor_offset)
            continue;
        *(struct str *)(void *)((char *)f + spec->offset) =
            arena_copy(&request->arena, call->agent);
        f->given |= UINT64_C(1) << spec->field;
    }
}

struct request *tool_command_request(struct mcp_call *call, const struct tool_command *tool,
                                     const struct json_value *arguments)
{
    enum { ROWS_MAX = 8 };
    const struct core_type_spec *type = core_type_spec(tool->type);
    struct core_field_spec specs[ROWS_MAX];
    struct decode_arguments rows = {.what = tool->what, .specs = specs, .n = tool->n};
    struct request *request = mcp_request(call, REQUEST_COMMANDS);
    struct request_command *item = arena_alloc(&request->arena, sizeof(*item));
    struct core_fields *f = &item->command.f;
    uint64_t given = 0;

    assert(tool->n <= ROWS_MAX);
    for (uint8_t i = 0; i < tool->n; i++)
        specs[i] = spec_of(type, &tool->rows[i]);
    *item = (struct request_command){.command.type = tool->type};
    request->commands = item;
    request->commands_n = 1;
    request->caller = arena_copy(&request->arena, guard_caller(call->sink->grant));
    if (!read_arguments(call, &rows, arguments, &request->arena, f, &given)) {
        request_free(request);
        return NULL;
    }
    f->given |= given | type->command_required; /* what is left out is empty */
    set_actor(call, request, type, f);
    return request;
}

void tool_fill_acknowledgement(struct request *request, struct str agent, struct str cursor)
{
    struct request_command *item = arena_alloc(&request->arena, sizeof(*item));
    struct core_fields *f = &item->command.f;

    *item = (struct request_command){.command.type = CORE_INBOX_ACK};
    f->agent = arena_copy(&request->arena, agent);
    f->cursor = arena_copy(&request->arena, cursor);
    f->given = UINT64_C(1) << CORE_FIELD_AGENT | UINT64_C(1) << CORE_FIELD_CURSOR;
    request->kind = REQUEST_COMMANDS;
    request->caller = STR("");
    request->commands = item;
    request->commands_n = 1;
}

/* ---- answers */

void tool_end(struct mcp_call *call, struct request *request, struct tool_answer *answer)
{
    mcp_tool_result(call, buf_str(&answer->json), buf_str(&answer->text));
    buf_free(&answer->json);
    buf_free(&answer->text);
    request_free(request);
}
