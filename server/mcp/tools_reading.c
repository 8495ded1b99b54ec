/*
 * The tools of Atoll that only read: a thread's messages, the agents, the state. Each shows as much
 * as a context can hold, and says in `more` with which cursor to go on.
 */
#include "server/mcp/shown.h"
#include "server/mcp/tools_atoll.h"
#include "server/scan.h"

TOOL_QUESTION(atoll_read_thread, ATOLL_READ_THREAD);
TOOL_QUESTION(atoll_list_agents, ATOLL_LIST_AGENTS);
TOOL_QUESTION(atoll_get_state, ATOLL_GET_STATE);

enum { AGENTS_BYTES = 8 * 1024 /* of the agents in a state: more is for atoll_list_agents */ };

static struct tool_query *read_query(struct mcp_call *call, const struct tool_question *question,
                                     const struct json_value *arguments)
{
    struct tool_query *query = arena_alloc(&call->arena, sizeof(*query));
    *query = (struct tool_query){0};
    call->state = query;
    return tool_question_read(call, question, arguments, query) ? query : NULL;
}

/* The end of every answer: where it goes on. */
static void add_more(struct tool_answer *answer, const char *tool, struct str more)
{
    buf_add_literal(&answer->json, ",\"more\":\"");
    buf_add_str(&answer->json, more);
    buf_add_literal(&answer->json, "\"}");
    if (more.n != 0)
        text_add(&answer->text, "There is more: call %s with cursor \"%.*s\".\n", tool,
                 ID_ARGS(more));
}

/* ---- atoll_read_thread */

/* Elements of a page, as text of its body. */
struct page {
    struct str items[SHOWN_MESSAGES];
    uint32_t n;
};

static void page_read(struct page *page, struct str body)
{
    struct str rest = scan_member(body, "messages");
    page->n = 0;
    while (page->n < SHOWN_MESSAGES && scan_next(&rest, NULL, &page->items[page->n]))
        page->n++;
}

/* How many of items from..n fit. */
static uint32_t page_show(const struct page *page, uint32_t from, struct str thread,
                          struct shown *shown)
{
    shown->json.n = shown->text.n = 0;
    shown->n = 0;
    for (uint32_t i = from; i < page->n; i++) {
        if (!shown_add_message(shown, page->items[i], thread))
            break;
    }
    return shown->n;
}

/* 0: it is hidden. */
static uint64_t seq_of(struct str message)
{
    uint64_t seq = scan_u64(scan_member(message, "seq"));
    return seq != 0 ? seq : core_message_seq(scan_id(scan_member(message, "id")));
}

/* Where to go on, from the last that was shown; where that does not say it, behind the page. */
static void add_place(struct buf *more, const char *where, uint64_t seq, struct str next)
{
    if (seq != 0)
        text_add(more, "%s-%llu", where, (unsigned long long)seq);
    else if (!scan_is_null(next))
        text_add(more, "%s-%.*s", where, ID_ARGS(next));
}

/* Shows the oldest that fit, and where they end; or, read backwards, the newest that fit and where
 * they begin. */
static void show_page(const struct page *page, struct str body, struct str thread, bool forwards,
                      struct shown *shown, struct buf *more)
{
    struct str next = scan_member(body, "next");
    uint32_t from = 0;

    if (!forwards) {
        while (page_show(page, from, thread, shown) < page->n - from)
            from++;
        add_place(more, "before", from != 0 ? seq_of(page->items[from]) : 0, next);
    } else {
        uint32_t n = page_show(page, 0, thread, shown);
        if (n != 0 && (n < page->n || !scan_is_null(next)))
            add_place(more, "after", seq_of(page->items[n - 1]), next);
    }
}

static void end_page(struct mcp_call *call, struct request *request, const struct shown *shown,
                     struct str more)
{
    struct str thread = request->thread;
    struct tool_answer answer = {0};

    text_add(&answer.json, "{\"thread\":\"%.*s\",\"messages\":[", ID_ARGS(thread));
    buf_add_str(&answer.json, buf_str(&shown->json));
    buf_add_byte(&answer.json, ']');
    if (shown->n == 0)
        text_add(&answer.text, "No messages there in %.*s.\n", ID_ARGS(thread));
    buf_add_str(&answer.text, buf_str(&shown->text));
    add_more(&answer, "atoll_read_thread", more);
    tool_end(call, request, &answer);
}

static void refuse_gone(struct mcp_call *call, struct request *request)
{
    uint64_t oldest = request->oldest;
    request_free(request);
    mcp_tool_refuse(call,
                    "So old messages are no longer kept. Begin with the oldest that are: cursor "
                    "\"after-%llu\".",
                    (unsigned long long)oldest);
}

static void on_page(struct mcp_call *call, struct request *request)
{
    const struct tool_query *query = call->state;
    struct shown shown = {.reader = call->agent};
    struct str body = buf_str(&request->body);
    struct buf more = {0};
    struct page page;

    if (request->error == REQUEST_E_GONE) {
        refuse_gone(call, request);
        return;
    }
    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    page_read(&page, body);
    show_page(&page, body, query->thread, request->has_after, &shown, &more);
    end_page(call, request, &shown, buf_str(&more));
    shown_free(&shown);
    buf_free(&more);
}

static void end_piece(struct mcp_call *call, struct request *request,
                      const struct shown_cursor *cursor, struct str message)
{
    struct shown shown = {.reader = call->agent};
    struct buf more = {0};
    size_t next = shown_add_piece(&shown, message, request->thread, cursor->of_data, cursor->from);

    if (next != 0)
        text_add(&more, "m%llu%s+%zu", (unsigned long long)cursor->seq,
                 cursor->of_data ? ".data" : "", next);
    end_page(call, request, &shown, buf_str(&more));
    shown_free(&shown);
    buf_free(&more);
}

/* A page of one: the message itself, or the next one behind it. */
static void on_message(struct mcp_call *call, struct request *request)
{
    const struct tool_query *query = call->state;
    struct shown_cursor cursor = shown_cursor_parse(query->cursor);
    struct page page;

    if (request->error == REQUEST_E_GONE) {
        refuse_gone(call, request);
        return;
    }
    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    page_read(&page, buf_str(&request->body));
    if (page.n != 0 && seq_of(page.items[0]) == cursor.seq) {
        end_piece(call, request, &cursor, page.items[0]);
        return;
    }
    request_free(request);
    mcp_tool_refuse(call,
                    "There is no message m%llu in the thread \"%.*s\". Leave cursor empty for the "
                    "newest ones.",
                    (unsigned long long)cursor.seq, ID_ARGS(query->thread));
}

void atoll_read_thread_call(struct mcp_call *call, const struct json_value *arguments)
{
    const struct tool_query *query = read_query(call, &atoll_read_thread_question, arguments);

    if (query == NULL)
        return;
    struct shown_cursor cursor = shown_cursor_parse(query->cursor);
    if (cursor.place == SHOWN_BAD) {
        mcp_tool_refuse(call, SHOWN_CURSOR_RULE ".");
        return;
    }
    bool one = cursor.place == SHOWN_MESSAGE;
    struct request *request = mcp_request(call, REQUEST_MESSAGES);
    request->thread = arena_copy(&request->arena, query->thread);
    request->limit = one ? 1 : SHOWN_MESSAGES;
    request->has_after = one || cursor.place == SHOWN_AFTER;
    request->after = cursor.seq - one;
    request->has_before = cursor.place == SHOWN_BEFORE;
    request->before = cursor.seq;
    mcp_send(call, request, one ? on_message : on_page);
}

/* ---- views */

void tool_ask_view(struct mcp_call *call, const char *part, mcp_on_reply *on_reply)
{
    struct request *request = mcp_request(call, REQUEST_VIEW);

    request->outline = true;
    if (part != NULL) {
        struct core_parts *parts =
            arena_alloc(&request->arena, sizeof(*parts) + sizeof(parts->items[0]));
        parts->n = 1;
        parts->items[0] = (struct str){part, strlen(part)};
        request->parts = parts;
    }
    mcp_send(call, request, on_reply);
}

typedef bool adder(struct shown *shown, struct str id, struct str item);

/* Shows members of `object` behind the one called `after` (p == NULL: from the first one), as many
 * as fit. Returns the last one shown where there are more; p == NULL: there are none. False: there
 * is no `after`. */
static bool show_members(struct str object, struct str after, adder *add, struct shown *shown,
                         struct str *more)
{
    bool begun = after.p == NULL;
    struct str id, item, last = {0};

    *more = (struct str){0};
    while (scan_next(&object, &id, &item)) {
        if (!begun) {
            begun = str_equal(id, after);
            continue;
        }
        if (!add(shown, id, item)) {
            *more = last;
            return true;
        }
        last = id;
    }
    return begun;
}

static void refuse_cursor(struct mcp_call *call, struct request *request)
{
    request_free(request);
    mcp_tool_refuse(call, "\"cursor\" must be empty, or what the last answer had in \"more\"; that "
                          "place is not there any more: begin again with an empty one.");
}

/* ---- atoll_list_agents */

static void on_agents(struct mcp_call *call, struct request *request)
{
    const struct tool_query *query = call->state;
    struct shown shown = {.reader = call->agent};
    struct str state = scan_member(buf_str(&request->body), "state"), more;
    struct tool_answer answer = {0};

    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    if (!show_members(scan_member(state, "agents"), query->cursor, shown_add_agent, &shown,
                      &more)) {
        shown_free(&shown);
        refuse_cursor(call, request);
        return;
    }
    buf_add_literal(&answer.json, "{\"agents\":[");
    buf_add_str(&answer.json, buf_str(&shown.json));
    buf_add_byte(&answer.json, ']');
    text_add(&answer.text, "%s\n", shown.n != 0 ? "In the session:" : "Nobody is here yet.");
    buf_add_str(&answer.text, buf_str(&shown.text));
    add_more(&answer, "atoll_list_agents", more);
    shown_free(&shown);
    tool_end(call, request, &answer);
}

void atoll_list_agents_call(struct mcp_call *call, const struct json_value *arguments)
{
    if (read_query(call, &atoll_list_agents_question, arguments) != NULL)
        tool_ask_view(call, "/agents", on_agents);
}

/* ---- atoll_get_state */

static void add_session(struct tool_answer *answer, const struct request *request, struct str state)
{
    struct str id = request->session;
    struct str status = scan_id(scan_member(state, "status"));
    struct str summary = scan_member(state, "summary");

    text_add(&answer->json,
             "{\"session\":\"%.*s\",\"seq\":%llu,\"status\":\"%.*s\",\"summary\":", ID_ARGS(id),
             (unsigned long long)request->seq, ID_ARGS(status));
    buf_add_str(&answer->json, scan_is_null(summary) ? STR("\"\"") : summary);
    text_add(&answer->text, "The session %.*s is %.*s.", ID_ARGS(id), ID_ARGS(status));
    if (!scan_is_null(summary)) {
        buf_add_literal(&answer->text, " Summary: ");
        buf_add_str(&answer->text, summary);
    }
    buf_add_byte(&answer->text, '\n');
}

/* The agents, in less room than the whole has. */
static void add_agents(struct tool_answer *answer, struct str agents, struct str reader)
{
    struct shown shown = {.reader = reader, .used = SHOWN_BYTES - AGENTS_BYTES};
    struct str id, agent;
    size_t left_out = 0;

    while (scan_next(&agents, &id, &agent)) {
        if (left_out != 0 || !shown_add_agent(&shown, id, agent))
            left_out++;
    }
    buf_add_literal(&answer->json, ",\"agents\":[");
    buf_add_str(&answer->json, buf_str(&shown.json));
    buf_add_byte(&answer->json, ']');
    buf_add_literal(&answer->text, "Agents:\n");
    buf_add_str(&answer->text, buf_str(&shown.text));
    if (left_out != 0) {
        text_add(&answer->json, ",\"agents_left_out\":%zu", left_out);
        text_add(&answer->text, "and %zu more: atoll_list_agents.\n", left_out);
    }
    shown_free(&shown);
}

static void on_state(struct mcp_call *call, struct request *request)
{
    const struct tool_query *query = call->state;
    struct str state = scan_member(buf_str(&request->body), "state"), more;
    struct shown shown = {.reader = call->agent};
    struct tool_answer answer = {0};

    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    add_session(&answer, request, state);
    if (query->cursor.p == NULL) {
        add_agents(&answer, scan_member(state, "agents"), call->agent);
        shown.used = AGENTS_BYTES;
    } else {
        buf_add_literal(&answer.json, ",\"agents\":[]");
    }
    if (!show_members(scan_member(state, "threads"), query->cursor, shown_add_thread, &shown,
                      &more)) {
        shown_free(&shown);
        buf_free(&answer.json);
        buf_free(&answer.text);
        refuse_cursor(call, request);
        return;
    }
    buf_add_literal(&answer.json, ",\"threads\":[");
    buf_add_str(&answer.json, buf_str(&shown.json));
    buf_add_byte(&answer.json, ']');
    text_add(&answer.text, "%s\n", shown.n != 0 ? "Threads:" : "There are no threads yet.");
    buf_add_str(&answer.text, buf_str(&shown.text));
    add_more(&answer, "atoll_get_state", more);
    shown_free(&shown);
    tool_end(call, request, &answer);
}

void atoll_get_state_call(struct mcp_call *call, const struct json_value *arguments)
{
    if (read_query(call, &atoll_get_state_question, arguments) != NULL)
        tool_ask_view(call, NULL, on_state);
}
