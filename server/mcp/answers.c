/*
 * answers: how calls end: results, errors, refusals; the last section but one of call.h.
 */
#include "server/mcp/hints.h"
#include "server/mcp/internal.h"
#include "server/problem.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    HINT_BYTES = 400,
    ANSWER_BYTES = 384, /* around what a handler says */
};

/* The answer's place in line for being told that it was written. */
static void pass_hook_on(struct mcp_call *call)
{
    if (call->written == NULL)
        return;
    call->written->next = call->sink->hooks;
    call->sink->hooks = call->written;
    call->written = NULL;
}

static void answer(struct mcp_call *call, int status, struct buf *text)
{
    assert(!call->ended);
    call->ended = true;
    pass_hook_on(call);
    sink_answer(call->sink, call, status, text);
}

static void begin_result(const struct mcp_call *call, struct buf *out)
{
    buf_add_literal(out, "{\"jsonrpc\":\"2.0\",\"id\":");
    buf_add_str(out, call->id);
    buf_add_literal(out, ",\"result\":{");
}

/* What 2026-07-28 has in every result, and in those that may be kept for a while. */
static void add_modern(const struct mcp_call *call, struct buf *out, struct str type)
{
    buf_add_literal(out, "\"resultType\":\"");
    buf_add_str(out, type);
    buf_add_literal(out, "\",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":" MCP_SERVER_INFO);
    if (call->listens) {
        buf_add_literal(out, ",\"io.modelcontextprotocol/subscriptionId\":");
        buf_add_str(out, call->id);
    }
    buf_add_byte(out, '}');
    if (call->cacheable && str_equal(type, STR("complete"))) {
        buf_add_literal(out, ",\"ttlMs\":");
        buf_add_u64(out, call->ttl_ms);
        buf_add_literal(out, ",\"cacheScope\":\"private\"");
    }
}

/* The answer up to the result's own members, with room for `more` bytes of these. */
static void begin_members(const struct mcp_call *call, struct str type, size_t more,
                          struct buf *out)
{
    (void)buf_reserve(out, call->id.n + more + ANSWER_BYTES);
    begin_result(call, out);
    if (mcp_is_modern(call->version))
        add_modern(call, out, type);
}

static void end_members(struct mcp_call *call, struct buf *text)
{
    buf_add_literal(text, "}}");
    answer(call, 200, text);
}

static void comma_if_modern(const struct mcp_call *call, struct buf *out)
{
    if (mcp_is_modern(call->version))
        buf_add_byte(out, ',');
}

/* `members` is what stands between the braces. */
void mcp_end(struct mcp_call *call, struct str type, struct str members)
{
    struct buf text = {0};

    begin_members(call, type, members.n, &text);
    if (members.n != 0) {
        comma_if_modern(call, &text);
        buf_add_str(&text, members);
    }
    end_members(call, &text);
}

void mcp_result(struct mcp_call *call, struct str result)
{
    assert(result.n >= 2 && result.p[0] == '{');
    mcp_end(call, STR("complete"), (struct str){result.p + 1, result.n - 2});
}

/* HTTP's status of an error that is the whole answer. */
static int status_of(const struct mcp_call *call, enum mcp_code code)
{
    if (!mcp_is_modern(call->version))
        return 200;
    switch (code) {
    case MCP_E_UNKNOWN_METHOD:
        return 404;
    case MCP_E_HEADER_MISMATCH:
    case MCP_E_MISSING_CAPABILITY:
    case MCP_E_VERSION:
        return 400;
    default:
        return 200;
    }
}

void mcp_error(struct mcp_call *call, enum mcp_code code, const char *message, struct str data)
{
    struct buf text = {0};
    rpc_write_error(&text, call->id, code, (struct str){message, strlen(message)}, data);
    answer(call, status_of(call, code), &text);
}

void mcp_add_text(struct buf *out, struct str text)
{
    buf_add_literal(out, "{\"type\":\"text\",\"text\":");
    json_add_string(out, text);
    buf_add_byte(out, '}');
}

/* What follows a tool's content. */
static void end_content(struct mcp_call *call, struct str structured, bool is_error,
                        struct buf *text)
{
    if (structured.n != 0) {
        buf_add_literal(text, ",\"structuredContent\":");
        buf_add_str(text, structured);
    }
    if (is_error)
        buf_add_literal(text, ",\"isError\":true");
    end_members(call, text);
}

void mcp_tool_content(struct mcp_call *call, struct str content, struct str structured,
                      bool is_error)
{
    struct buf text = {0};

    begin_members(call, STR("complete"), content.n + structured.n, &text);
    comma_if_modern(call, &text);
    buf_add_literal(&text, "\"content\":");
    buf_add_str(&text, content);
    end_content(call, structured, is_error, &text);
}

static void end_with_text(struct mcp_call *call, struct str structured, struct str told,
                          bool is_error)
{
    struct buf text = {0};

    begin_members(call, STR("complete"), told.n + structured.n, &text);
    comma_if_modern(call, &text);
    buf_add_literal(&text, "\"content\":[");
    mcp_add_text(&text, told);
    buf_add_byte(&text, ']');
    end_content(call, structured, is_error, &text);
}

void mcp_tool_result(struct mcp_call *call, struct str structured, struct str text)
{
    end_with_text(call, structured, text, false);
}

void mcp_tool_refuse(struct mcp_call *call, const char *format, ...)
{
    struct buf text = {0}, structured = {0};
    va_list arguments, again;

    va_start(arguments, format);
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    vsnprintf(buf_reserve(&text, (size_t)n + 1), (size_t)n + 1, format, again);
    text.n = (size_t)n;
    va_end(again);
    va_end(arguments);
    if (call->toolset == MCP_TOOLS_CORAL) { /* where its clients look for it */
        buf_add_literal(&structured, "{\"error\":");
        json_add_string(&structured, buf_str(&text));
        buf_add_byte(&structured, '}');
    }
    end_with_text(call, buf_str(&structured), buf_str(&text), true);
    buf_free(&structured);
    buf_free(&text);
}

static bool is_tool_call(const struct mcp_call *call)
{
    return str_equal(call->method, STR("tools/call"));
}

static enum mcp_code code_of(unsigned error)
{
    int status = problem_status(error);
    return status == 503 || status == 507 ? MCP_E_UNAVAILABLE
           : status >= 500                ? MCP_E_INTERNAL
                                          : MCP_E_INVALID_PARAMS;
}

void mcp_refuse(struct mcp_call *call, unsigned error, const char *field, const char *detail)
{
    char text[HINT_BYTES];
    const char *hint = mcp_hint(error, field, call->toolset);
    bool ends = detail[0] != 0 && detail[strlen(detail) - 1] == '.';
    const char *blank = hint[0] == 0 ? "" : ends ? " " : ". ";

    if (is_tool_call(call)) {
        mcp_tool_refuse(call, "%s%s%s", detail, blank, hint);
        return;
    }
    snprintf(text, sizeof(text), "%s%s%s", detail, blank, hint);
    mcp_error(call, code_of(error), text, (struct str){0});
}

void mcp_refuse_reply(struct mcp_call *call, struct request *request)
{
    char detail[sizeof(request->refusal.detail)];
    char field[32];
    unsigned error = request->error;
    const struct core_refusal *why = &request->refusal;

    snprintf(detail, sizeof(detail), "%s",
             why->detail[0] != 0 ? why->detail : problem_title(error));
    snprintf(field, sizeof(field), "%s", why->field != NULL ? why->field : "");
    request_free(request);
    mcp_refuse(call, error, field[0] != 0 ? field : NULL, detail);
}
