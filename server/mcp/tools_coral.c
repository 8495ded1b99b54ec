/*
 * The tools by Coral's names, for agents written for Coral Server: what they are called, take and
 * answer is Coral's; what they do is Atoll's, without the losses. A wait returns the oldest message
 * that is unread, however long ago it came: `currentUnixTime` is taken and means nothing.
 *
 * Waiting: the shard hands a message to one wait alone (request.hand). When the answer has been
 * written to a live connection the message is acknowledged, for good; when it could not be, it is
 * given back, and the next wait gets it. So it is returned once, and only a lost answer may repeat.
 */
#include "server/frontend.h"
#include "server/mcp/internal.h"
#include "server/mcp/tools.h"
#include "server/scan.h"

enum { WAIT_MS_MAX = 55 * 1000, WAIT_MS = 60 * 1000 /* where the caller says nothing */ };

/* clang-format off */

/* ---- arguments */

#define CREATE_THREAD(FIRST, MORE)                                                                 \
    FIRST(TEXT, threadName, NEED, NAME, "The thread's topic, in a few words.")                     \
    MORE(IDS, participantNames, MAY, PARTICIPANTS,                                                 \
         "Names of the agents that are to take part; you do anyway.")

#define SEND_MESSAGE(FIRST, MORE)                                                                  \
    FIRST(ID, threadId, NEED, THREAD, "Id of the thread to send into.")                            \
    MORE(TEXT, content, NEED, CONTENT, "What you say.")                                            \
    MORE(IDS, mentions, MAY, MENTIONS,                                                             \
         "Names of the participants that are to act or to answer; [] for none.")

#define PARTICIPANT(FIRST, MORE)                                                                   \
    FIRST(ID, threadId, NEED, THREAD, "Id of a thread in which you take part.")                    \
    MORE(ID, participantName, NEED, AGENT, "Name of the agent that it is about.")

#define CLOSE_THREAD(FIRST, MORE)                                                                  \
    FIRST(ID, threadId, NEED, THREAD, "Id of a thread in which you take part.")                    \
    MORE(TEXT, summary, MAY, SUMMARY, "All that matters of what was said, in short.")

#define CLOSE_SESSION(FIRST, MORE)                                                                 \
    FIRST(TEXT, reason, MAY, SUMMARY, "Why the session ends.")

#define TIME_NOW                                                                                   \
    "The time now, in milliseconds. It hides nothing: what is unread is returned anyway."
#define WAIT_AT_MOST "How many milliseconds to wait at most, up to 55000."
#define WAIT(FIRST, MORE)                                                                          \
    FIRST(IGNORED, currentUnixTime, MAY, ignored, TIME_NOW)                                        \
    MORE(SIGNED, maxWaitMs, MAY, wait_ms, WAIT_AT_MOST)
#define WAIT_FOR_AGENT(FIRST, MORE)                                                                \
    FIRST(ID, agentName, NEED, from, "Name of the agent to hear from.")                            \
    MORE(IGNORED, currentUnixTime, MAY, ignored, TIME_NOW)                                         \
    MORE(SIGNED, maxWaitMs, MAY, wait_ms, WAIT_AT_MOST)

TOOL_COMMAND(coral_create_thread, THREAD_CREATE, CREATE_THREAD);
TOOL_COMMAND(coral_send_message, MESSAGE_SEND, SEND_MESSAGE);
TOOL_COMMAND(coral_add_participant, THREAD_ADD, PARTICIPANT);
TOOL_COMMAND(coral_remove_participant, THREAD_REMOVE, PARTICIPANT);
TOOL_COMMAND(coral_close_thread, THREAD_CLOSE, CLOSE_THREAD);
TOOL_COMMAND(coral_close_session, SESSION_CLOSE, CLOSE_SESSION);
TOOL_QUESTION(coral_wait_for_message, WAIT);
TOOL_QUESTION(coral_wait_for_mention, WAIT);
TOOL_QUESTION(coral_wait_for_agent, WAIT_FOR_AGENT);

/* ---- results. None of their members is required: a refusal has an `error` instead. */

#define OBJECT(name, properties)                                                                   \
    "\"" #name "\":{\"type\":\"object\",\"properties\":{" properties "}}"
#define MESSAGE                                                                                    \
    OBJECT(message, TOOL_MEMBER(TEXT, id) "," TOOL_MEMBER(TEXT, threadId) ","                      \
           TOOL_MEMBER(TEXT, text) "," TOOL_MEMBER(TEXT, senderName) ","                           \
           TOOL_MEMBER(IDS, mentionNames) "," TOOL_MEMBER(TEXT, timestamp))
#define RESULT(properties) TOOL_OUTPUT(properties "," TOOL_MEMBER(TEXT, error), "")
#define THREAD_RESULT                                                                              \
    RESULT(OBJECT(thread, TOOL_MEMBER(TEXT, id) "," TOOL_MEMBER(TEXT, name) ","                    \
                  TOOL_MEMBER(TEXT, creatorName) "," TOOL_MEMBER(IDS, participants) ","            \
                  TOOL_LIST(messages, "", "") "," OBJECT(state, TOOL_MEMBER(TEXT, state)) ","      \
                  TOOL_MEMBER(TEXT, timestamp)))
#define MESSAGE_RESULT RESULT(TOOL_MEMBER(TEXT, status) "," MESSAGE)
#define SUCCESS_RESULT RESULT(TOOL_MEMBER(TEXT, message))

/* clang-format on */

/* Ends the call with `json`, which is also the text, as Coral's answers are. Takes the request
 * over.
 */
static void end_with(struct mcp_call *call, struct request *request, struct buf *json)
{
    mcp_tool_result(call, buf_str(json), buf_str(json));
    buf_free(json);
    request_free(request);
}

/* ---- commands */

typedef void writer(struct buf *out, const struct request *request, const struct core_fields *f);

static void end_command(struct mcp_call *call, struct request *request, writer *write)
{
    struct buf json = {0};

    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    write(&json, request, &request->commands[0].command.f);
    end_with(call, request, &json);
}

/* The one event that the command led to, as core wrote it. */
static struct str event_of(const struct request *request)
{
    struct str events = scan_member(buf_str(&request->body), "events"), event = {0};
    scan_next(&events, NULL, &event);
    return event;
}

/* Members of `object` under other names, the first without a comma. */
struct renamed {
    const char *name, *of;
};

static void add_renamed(struct buf *out, struct str object, const struct renamed *members, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        text_add(out, "%s\"%s\":", i != 0 ? "," : "", members[i].name);
        buf_add_str(out, scan_or_null(scan_member(object, members[i].of)));
    }
}

static void write_created(struct buf *out, const struct request *request,
                          const struct core_fields *f)
{
    static const struct renamed members[] = {{"id", "thread"},
                                             {"name", "name"},
                                             {"creatorName", "creator"},
                                             {"participants", "participants"},
                                             {"timestamp", "ts"}};
    (void)f;
    buf_add_literal(out, "{\"thread\":{");
    add_renamed(out, event_of(request), members, sizeof(members) / sizeof(members[0]));
    buf_add_literal(out, ",\"messages\":[],\"state\":{\"state\":\"open\"}}}");
}

/* A message, of an inbox or as an event: both name its members alike. */
static void add_message(struct buf *out, struct str message)
{
    static const struct renamed members[] = {{"id", "id"},
                                             {"threadId", "thread"},
                                             {"text", "content"},
                                             {"senderName", "sender"},
                                             {"mentionNames", "mentions"},
                                             {"timestamp", "ts"}};
    buf_add_literal(out, "\"message\":{");
    add_renamed(out, message, members, sizeof(members) / sizeof(members[0]));
    buf_add_byte(out, '}');
}

static void write_sent(struct buf *out, const struct request *request, const struct core_fields *f)
{
    (void)f;
    buf_add_literal(out, "{\"status\":\"Message sent successfully\",");
    add_message(out, event_of(request));
    buf_add_byte(out, '}');
}

static void write_added(struct buf *out, const struct request *request, const struct core_fields *f)
{
    (void)request;
    text_add(out, "{\"message\":\"Successfully added participant %.*s to thread %.*s\"}",
             ID_ARGS(f->agent), ID_ARGS(f->thread));
}

static void write_removed(struct buf *out, const struct request *request,
                          const struct core_fields *f)
{
    (void)request;
    text_add(out, "{\"message\":\"Successfully removed participant %.*s from thread %.*s\"}",
             ID_ARGS(f->agent), ID_ARGS(f->thread));
}

static void write_closed(struct buf *out, const struct request *request,
                         const struct core_fields *f)
{
    (void)request;
    text_add(out, "{\"message\":\"Successfully closed thread %.*s\"}", ID_ARGS(f->thread));
}

static void write_ended(struct buf *out, const struct request *request, const struct core_fields *f)
{
    (void)request, (void)f;
    buf_add_literal(out, "{\"message\":\"Successfully closed session\"}");
}

/* What each is as a handler, and when the reply has come. */
#define HANDLER(tool, send, write)                                                                 \
    static void tool##_done(struct mcp_call *call, struct request *request)                        \
    {                                                                                              \
        end_command(call, request, write);                                                         \
    }                                                                                              \
    static void tool##_call(struct mcp_call *call, const struct json_value *arguments)             \
    {                                                                                              \
        struct request *request = tool_command_request(call, &tool##_command, arguments);          \
        if (request != NULL)                                                                       \
            send(call, request, tool##_done);                                                      \
    }

HANDLER(coral_create_thread, mcp_send_as_agent, write_created)
HANDLER(coral_send_message, mcp_send_as_agent, write_sent)
HANDLER(coral_remove_participant, mcp_send_as_agent, write_removed)
HANDLER(coral_close_thread, mcp_send_as_agent, write_closed)
HANDLER(coral_close_session, mcp_send, write_ended)

static void coral_add_participant_done(struct mcp_call *call, struct request *request)
{
    end_command(call, request, write_added);
}

/* Who is added gets all that was said before. */
static void coral_add_participant_call(struct mcp_call *call, const struct json_value *arguments)
{
    struct request *request = tool_command_request(call, &coral_add_participant_command, arguments);
    if (request == NULL)
        return;
    request->commands[0].command.f.history = true;
    request->commands[0].command.f.given |= UINT64_C(1) << CORE_FIELD_HISTORY;
    mcp_send_as_agent(call, request, coral_add_participant_done);
}

/* ---- waits */

/* Acknowledges what an inbox's answer held. Nobody waits for the reply. */
static void acknowledge(struct frontend *frontend, const struct request *answer)
{
    struct request *request = request_new();
    struct str cursor = scan_id(scan_member(buf_str(&answer->body), "cursor"));

    struct str messages = scan_member(buf_str(&answer->body), "messages"), message = {0};

    tool_fill_acknowledgement(request, answer->inbox.agent, cursor);
    request->session = arena_copy(&request->arena, answer->session);
    request->token = MCP_TOKEN;
    (void)scan_next(&messages, NULL, &message); /* for coral_read_past */
    request->thread = arena_copy(&request->arena, scan_id(scan_member(message, "thread")));
    request->after = core_message_seq(scan_id(scan_member(message, "id")));
    outbox_send(&frontend->outbox, frontend->mailbox, request);
}

void coral_read_past(struct frontend *frontend, const struct request *refused)
{
    struct request *request = request_new();
    struct request_command *item = arena_alloc(&request->arena, sizeof(*item));
    struct core_fields *f = &item->command.f;

    *item = (struct request_command){.command.type = CORE_THREAD_READ};
    f->thread = arena_copy(&request->arena, refused->thread);
    f->agent = arena_copy(&request->arena, refused->commands[0].command.f.agent);
    f->upto = refused->after;
    f->given = UINT64_C(1) << CORE_FIELD_THREAD | UINT64_C(1) << CORE_FIELD_AGENT |
               UINT64_C(1) << CORE_FIELD_UPTO;
    request->kind = REQUEST_COMMANDS;
    request->session = arena_copy(&request->arena, refused->session);
    request->commands = item;
    request->commands_n = 1;
    request->token = MCP_TOKEN;
    outbox_send(&frontend->outbox, frontend->mailbox, request);
}

/* `data` is the inbox's answer. */
static void on_written(struct frontend *frontend, void *data, bool written)
{
    struct request *answer = data;
    if (written)
        acknowledge(frontend, answer);
    else
        mcp_give_back(frontend, answer);
    request_free(answer);
}

static void on_inbox(struct mcp_call *call, struct request *request)
{
    struct str messages = scan_member(buf_str(&request->body), "messages"), message;
    struct buf json = {0};

    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    if (!scan_next(&messages, NULL, &message)) {
        buf_add_literal(&json, "{\"status\":\"Timeout reached\"}");
        end_with(call, request, &json);
        return;
    }
    mcp_when_written(call, on_written, request);
    buf_add_byte(&json, '{');
    add_message(&json, message);
    buf_add_literal(&json, ",\"status\":\"Message received\"}");
    mcp_tool_result(call, buf_str(&json), buf_str(&json));
    buf_free(&json);
}

static void wait_for(struct mcp_call *call, const struct tool_question *tool,
                     const struct json_value *arguments, bool mentions)
{
    struct tool_query query = {.wait_ms = WAIT_MS};

    if (!tool_question_read(call, tool, arguments, &query))
        return;
    struct request *request = mcp_request(call, REQUEST_INBOX);
    struct core_inbox_query *inbox = &request->inbox;
    inbox->agent = arena_copy(&request->arena, call->agent);
    inbox->mentions = mentions;
    if (query.from.p != NULL)
        inbox->from = arena_copy(&request->arena, query.from);
    inbox->limit = request->limit = 1;
    request->hand = true;
    if (query.wait_ms > WAIT_MS_MAX)
        query.wait_ms = WAIT_MS_MAX;
    if (query.wait_ms > 0) {
        mcp_resumable(call);
        mcp_send_wait(call, request, query.wait_ms, on_inbox);
    } else {
        mcp_send_as_agent(call, request, on_inbox);
    }
}

static void coral_wait_for_message_call(struct mcp_call *call, const struct json_value *arguments)
{
    wait_for(call, &coral_wait_for_message_question, arguments, false);
}

static void coral_wait_for_mention_call(struct mcp_call *call, const struct json_value *arguments)
{
    wait_for(call, &coral_wait_for_mention_question, arguments, true);
}

static void coral_wait_for_agent_call(struct mcp_call *call, const struct json_value *arguments)
{
    wait_for(call, &coral_wait_for_agent_question, arguments, false);
}

/* ---- the table */

static const struct mcp_tool tools[] = {
    TOOL(coral_create_thread, "Create a thread",
         "Creates a thread, a conversation on one topic, with the agents that are to take part. "
         "Then say what it is about with coral_send_message.",
         CREATE_THREAD, THREAD_RESULT, TOOL_ADDS, coral_create_thread_call),
    TOOL(coral_send_message, "Send a message",
         "Sends a message into a thread you take part in. Mention the agents that are to act or "
         "to answer. The other agents see nothing of you but your messages.",
         SEND_MESSAGE, MESSAGE_RESULT, TOOL_ADDS, coral_send_message_call),
    TOOL(coral_wait_for_message, "Wait for a message",
         "Waits for one message of another agent in any thread you take part in, and returns it. "
         "What came since the last wait is returned at once, the oldest first.",
         WAIT, MESSAGE_RESULT, TOOL_ADDS, coral_wait_for_message_call),
    TOOL(coral_wait_for_mention, "Wait for a mention",
         "Waits for one message that mentions you, in any thread you take part in, and returns "
         "it. What came since the last wait is returned at once, the oldest first.",
         WAIT, MESSAGE_RESULT, TOOL_ADDS, coral_wait_for_mention_call),
    TOOL(coral_wait_for_agent, "Wait for an agent",
         "Waits for one message of a certain agent in any thread you take part in, and returns "
         "it. What came since the last wait is returned at once, the oldest first.",
         WAIT_FOR_AGENT, MESSAGE_RESULT, TOOL_ADDS, coral_wait_for_agent_call),
    TOOL(coral_add_participant, "Add a participant",
         "Adds an agent to a thread you take part in, as soon as its topic concerns that agent. "
         "It gets what was said before, too.",
         PARTICIPANT, SUCCESS_RESULT, TOOL_SETS, coral_add_participant_call),
    TOOL(coral_remove_participant, "Remove a participant",
         "Removes an agent that is not needed any more from a thread you take part in.",
         PARTICIPANT, SUCCESS_RESULT, TOOL_ENDS, coral_remove_participant_call),
    TOOL(coral_close_thread, "Close a thread",
         "Closes a thread whose topic is settled, with a summary. Nobody can send into it any "
         "more.",
         CLOSE_THREAD, SUCCESS_RESULT, TOOL_ENDS, coral_close_thread_call),
    TOOL(coral_close_session, "Close the session",
         "Closes the whole session, for all agents: only when everything in it is done.",
         CLOSE_SESSION, SUCCESS_RESULT, TOOL_ENDS, coral_close_session_call),
};

const struct mcp_tools mcp_tools_coral = {tools, sizeof(tools) / sizeof(tools[0])};
