/*
 * atoll_wait: what is unread for an agent, at once or as soon as it comes.
 *
 * Normal path: `ack` is acknowledged; the inbox is asked, and waits; what it answers is shown.
 * Where that is more than a context can hold, it is asked again for as many messages as fit: so the
 * cursor is always one for just what was shown, and what was not is still unread. Nothing else is
 * changed, and acknowledging twice does no harm: the whole can be begun again on another
 * connection.
 */
#include "server/mcp/shown.h"
#include "server/mcp/tools_atoll.h"
#include "server/scan.h"

TOOL_QUESTION(atoll_wait, ATOLL_WAIT);

static void on_inbox(struct mcp_call *call, struct request *request);

/* Asks for the oldest `limit` messages; waits where wait_s is not 0. */
static void ask(struct mcp_call *call, uint32_t limit, uint64_t wait_s)
{
    const struct tool_query *query = call->state;
    struct request *request = mcp_request(call, REQUEST_INBOX);
    struct core_inbox_query *inbox = &request->inbox;

    inbox->agent = arena_copy(&request->arena, call->agent);
    inbox->mentions = query->mentions_only;
    if (query->from.p != NULL)
        inbox->from = arena_copy(&request->arena, query->from);
    inbox->limit = request->limit = limit;
    if (wait_s != 0)
        mcp_send_wait(call, request, (int64_t)wait_s * 1000, on_inbox);
    else
        mcp_send_as_agent(call, request, on_inbox);
}

static void on_acknowledged(struct mcp_call *call, struct request *request)
{
    const struct tool_query *query = call->state;
    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    request_free(request);
    ask(call, SHOWN_MESSAGES, query->wait_s);
}

static void acknowledge(struct mcp_call *call, struct str cursor)
{
    struct request *request = mcp_request(call, REQUEST_COMMANDS);
    tool_fill_acknowledgement(request, call->agent, cursor);
    mcp_send_as_agent(call, request, on_acknowledged);
}

void atoll_wait_call(struct mcp_call *call, const struct json_value *arguments)
{
    struct tool_query *query = arena_alloc(&call->arena, sizeof(*query));

    *query = (struct tool_query){.wait_s = TOOL_WAIT_S};
    if (!tool_question_read(call, &atoll_wait_question, arguments, query))
        return;
    if (query->wait_s > TOOL_WAIT_S_MAX)
        query->wait_s = TOOL_WAIT_S_MAX;
    call->state = query;
    if (query->wait_s != 0)
        mcp_resumable(call);
    if (query->ack.p != NULL)
        acknowledge(call, query->ack);
    else
        ask(call, SHOWN_MESSAGES, query->wait_s);
}

/* ---- the answer */

/* What to do is another thing where nothing can come any more. */
static void on_state(struct mcp_call *call, struct request *request)
{
    const struct tool_query *query = call->state;
    struct tool_answer answer = {0};

    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    struct str state = scan_member(buf_str(&request->body), "state");
    bool closed = str_equal(scan_id(scan_member(state, "status")), STR("closed"));
    text_add(&answer.json, "{\"messages\":[],\"cursor\":\"\",\"remaining\":0,\"closed\":%s}",
             closed ? "true" : "false");
    text_add(&answer.text, "Nothing new%s%s%.*s%s.",
             query->mentions_only ? " that mentions you" : "",
             query->from.p != NULL ? " from " : "", ID_ARGS(query->from),
             closed               ? ", and nothing more will come: the session is closed"
             : query->wait_s != 0 ? " so far. Call atoll_wait again to go on waiting"
                                  : "");
    tool_end(call, request, &answer);
}

static void end_with(struct mcp_call *call, struct request *request, const struct shown *shown,
                     struct str body)
{
    struct str cursor = scan_id(scan_member(body, "cursor"));
    uint64_t remaining = scan_u64(scan_member(body, "remaining"));
    struct tool_answer answer = {0};

    buf_add_literal(&answer.json, "{\"messages\":[");
    buf_add_str(&answer.json, buf_str(&shown->json));
    buf_add_literal(&answer.json, "],\"cursor\":\"");
    buf_add_str(&answer.json, cursor);
    text_add(&answer.json, "\",\"remaining\":%llu,\"closed\":false}",
             (unsigned long long)remaining);

    text_add(&answer.text, "%u unread message%s for you%s:\n\n", shown->n, shown->n == 1 ? "" : "s",
             shown->n == 1 ? "" : ", oldest first");
    buf_add_str(&answer.text, buf_str(&shown->text));
    if (remaining != 0)
        text_add(&answer.text, "%s%llu more unread: they come when these are acknowledged.\n",
                 remaining == CORE_REMAINING_MAX ? "At least " : "", (unsigned long long)remaining);
    buf_add_literal(&answer.text, "When you are done with these, call atoll_wait with ack \"");
    buf_add_str(&answer.text, cursor);
    buf_add_literal(&answer.text, "\"; until then they stay unread.");
    tool_end(call, request, &answer);
}

static void on_inbox(struct mcp_call *call, struct request *request)
{
    struct str body = buf_str(&request->body), message;
    struct shown shown = {.reader = call->agent};
    bool fits = true;

    if (request->error == CORE_E_UNKNOWN_AGENT) { /* it had been there when the wait began */
        request_free(request);
        mcp_tool_refuse(call, "You were removed from the session while you waited. Stop here; with "
                              "any further call you would join it again.");
        return;
    }
    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    struct str rest = scan_member(body, "messages");
    while (fits && scan_next(&rest, NULL, &message))
        fits = shown_add_message(&shown, message, (struct str){0});
    uint32_t n = shown.n;
    if (n == 0) {
        request_free(request);
        tool_ask_view(call, "/labels", on_state); /* the least that has its status */
    } else if (fits) {
        end_with(call, request, &shown, body);
    } else {
        request_free(request);
        ask(call, n, 0);
    }
    shown_free(&shown);
}
