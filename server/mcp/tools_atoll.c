/*
 * The tools of Atoll: this is their table, and those that are one command. Those that wait stand in
 * tools_waiting.c, those that read in tools_reading.c.
 *
 * What is said of a tool and of its arguments is all that most models ever learn of Atoll: what it
 * does, when to use it, what to do next.
 */
#include "server/mcp/tools_atoll.h"

#include "server/mcp/tools.h"

/* clang-format off */

/* ---- arguments */

#define CREATE_THREAD(FIRST, MORE)                                                                 \
    FIRST(TEXT, name, NEED, NAME, "The topic, in a few words.")                                    \
    MORE(IDS, participants, MAY, PARTICIPANTS,                                                     \
         "Ids of the other agents that are to read and write here. You take part anyway; [] to "   \
         "begin alone.")

#define SEND_MESSAGE(FIRST, MORE)                                                                  \
    FIRST(ID, thread, NEED, THREAD, "Id of the thread to send into.")                              \
    MORE(TEXT, content, NEED, CONTENT, "What you say.")                                            \
    MORE(IDS, mentions, MAY, MENTIONS,                                                             \
         "Ids of the participants whom you want to act or to answer; [] for none.")                \
    MORE(MESSAGE, reply_to, MAY, REPLY_TO,                                                         \
         "Id of the message in this thread that you answer; empty for none.")

#define ACKNOWLEDGE(FIRST, MORE)                                                                   \
    FIRST(TEXT, cursor, NEED, CURSOR, "The cursor of the atoll_wait whose messages are done with.")

#define SET_STATUS(FIRST, MORE)                                                                    \
    FIRST(STATUS, status, NEED, STATUS,                                                            \
          "What you are about: idle, working, waiting (for others), attention (somebody should "   \
          "look), question (you need an answer from a human), offline.")                           \
    MORE(TEXT, note, MAY, NOTE, "What about, in a few words; empty for none.")

#define ADD_PARTICIPANT(FIRST, MORE)                                                               \
    FIRST(ID, thread, NEED, THREAD, "Id of a thread in which you take part.")                      \
    MORE(ID, participant, NEED, AGENT, "Id of the agent to add.")                                  \
    MORE(FLAG, history, MAY, HISTORY,                                                              \
         "true: all that was said so far is unread for it, so that it catches up; false: it "      \
         "begins with what is said from now on.")

#define REMOVE_PARTICIPANT(FIRST, MORE)                                                            \
    FIRST(ID, thread, NEED, THREAD, "Id of a thread in which you take part.")                      \
    MORE(ID, participant, NEED, AGENT, "Id of the agent to remove; your own to leave.")

#define CLOSE_THREAD(FIRST, MORE)                                                                  \
    FIRST(ID, thread, NEED, THREAD, "Id of a thread in which you take part.")                      \
    MORE(TEXT, summary, MAY, SUMMARY,                                                              \
         "The result, so that nobody has to read the thread again; at most 1024 bytes.")

TOOL_COMMAND(atoll_create_thread, THREAD_CREATE, CREATE_THREAD);
TOOL_COMMAND(atoll_send_message, MESSAGE_SEND, SEND_MESSAGE);
TOOL_COMMAND(atoll_acknowledge, INBOX_ACK, ACKNOWLEDGE);
TOOL_COMMAND(atoll_set_status, AGENT_UPDATE, SET_STATUS);
TOOL_COMMAND(atoll_add_participant, THREAD_ADD, ADD_PARTICIPANT);
TOOL_COMMAND(atoll_remove_participant, THREAD_REMOVE, REMOVE_PARTICIPANT);
TOOL_COMMAND(atoll_close_thread, THREAD_CLOSE, CLOSE_THREAD);

/* ---- results */

#define SEQ TOOL_MEMBER(NUMBER, seq)
#define THREAD_RESULT TOOL_OUTPUT(TOOL_MEMBER(TEXT, thread) "," SEQ, "\"thread\",\"seq\"")
#define SENT_RESULT                                                                                \
    TOOL_OUTPUT(TOOL_MEMBER(TEXT, message) "," TOOL_MEMBER(TEXT, thread) "," SEQ,                  \
                "\"message\",\"thread\",\"seq\"")
#define ACKNOWLEDGE_RESULT                                                                         \
    TOOL_OUTPUT(TOOL_MEMBER(FLAG, acknowledged) "," SEQ, "\"acknowledged\",\"seq\"")
#define STATUS_RESULT TOOL_OUTPUT(TOOL_MEMBER(STATUS, status) "," SEQ, "\"status\",\"seq\"")
#define PARTICIPANT_RESULT                                                                         \
    TOOL_OUTPUT(TOOL_MEMBER(TEXT, thread) "," TOOL_MEMBER(TEXT, participant) "," SEQ,              \
                "\"thread\",\"participant\",\"seq\"")

/* clang-format on */

enum { SENT_BYTES = 256 };

/* What was done, from the reply; `f` are the command's fields. */
typedef void writer(struct tool_answer *answer, const struct request *request,
                    const struct core_fields *f);

static void end_command(struct mcp_call *call, struct request *request, writer *write)
{
    struct tool_answer answer = {0};

    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    write(&answer, request, &request->commands[0].command.f);
    buf_add_literal(&answer.json, ",\"seq\":");
    buf_add_u64(&answer.json, request->seq);
    buf_add_byte(&answer.json, '}');
    tool_end(call, request, &answer);
}

static void write_created(struct tool_answer *answer, const struct request *request,
                          const struct core_fields *f)
{
    struct str thread = request->made;
    (void)f;
    text_add(&answer->json, "{\"thread\":\"%.*s\"", ID_ARGS(thread));
    text_add(&answer->text,
             "The thread %.*s is open. Say what it is about with atoll_send_message, and mention "
             "whom you want to act.",
             ID_ARGS(thread));
}

/* What most calls come for: no printf. */
static void write_sent(struct tool_answer *answer, const struct request *request,
                       const struct core_fields *f)
{
    struct buf *json = &answer->json, *text = &answer->text;
    (void)buf_reserve(json, SENT_BYTES);
    buf_add_literal(json, "{\"message\":\"");
    buf_add_str(json, request->made);
    buf_add_literal(json, "\",\"thread\":\"");
    buf_add_str(json, f->thread);
    buf_add_byte(json, '"');
    (void)buf_reserve(text, SENT_BYTES);
    buf_add_literal(text, "Sent into ");
    buf_add_str(text, f->thread);
    buf_add_literal(text, " as ");
    buf_add_str(text, request->made);
    buf_add_literal(text, ". For answers call atoll_wait.");
}

static void write_acknowledged(struct tool_answer *answer, const struct request *request,
                               const struct core_fields *f)
{
    (void)request, (void)f;
    buf_add_literal(&answer->json, "{\"acknowledged\":true");
    buf_add_literal(&answer->text, "Acknowledged: these messages will not come again.");
}

static void write_status(struct tool_answer *answer, const struct request *request,
                         const struct core_fields *f)
{
    const char *status = core_status_name(f->status);
    (void)request;
    text_add(&answer->json, "{\"status\":\"%s\"", status);
    text_add(&answer->text, "All can see now that you are %s.", status);
}

static void write_participant(struct tool_answer *answer, const struct core_fields *f)
{
    text_add(&answer->json, "{\"thread\":\"%.*s\",\"participant\":\"%.*s\"", ID_ARGS(f->thread),
             ID_ARGS(f->agent));
}

static void write_added(struct tool_answer *answer, const struct request *request,
                        const struct core_fields *f)
{
    (void)request;
    write_participant(answer, f);
    text_add(&answer->text, "%.*s takes part in %.*s. Mention it there if it is to act.",
             ID_ARGS(f->agent), ID_ARGS(f->thread));
}

static void write_removed(struct tool_answer *answer, const struct request *request,
                          const struct core_fields *f)
{
    (void)request;
    write_participant(answer, f);
    text_add(&answer->text, "%.*s does not take part in %.*s any more.", ID_ARGS(f->agent),
             ID_ARGS(f->thread));
}

static void write_closed(struct tool_answer *answer, const struct request *request,
                         const struct core_fields *f)
{
    (void)request;
    text_add(&answer->json, "{\"thread\":\"%.*s\"", ID_ARGS(f->thread));
    text_add(&answer->text, "The thread %.*s is closed: nobody can send into it any more.",
             ID_ARGS(f->thread));
}

/* What each is as a handler, and when the reply has come. */
#define HANDLER(tool, write)                                                                       \
    static void tool##_done(struct mcp_call *call, struct request *request)                        \
    {                                                                                              \
        end_command(call, request, write);                                                         \
    }                                                                                              \
    static void tool##_call(struct mcp_call *call, const struct json_value *arguments)             \
    {                                                                                              \
        struct request *request = tool_command_request(call, &tool##_command, arguments);          \
        if (request != NULL)                                                                       \
            mcp_send_as_agent(call, request, tool##_done);                                         \
    }

HANDLER(atoll_create_thread, write_created)
HANDLER(atoll_send_message, write_sent)
HANDLER(atoll_acknowledge, write_acknowledged)
HANDLER(atoll_set_status, write_status)
HANDLER(atoll_add_participant, write_added)
HANDLER(atoll_remove_participant, write_removed)
HANDLER(atoll_close_thread, write_closed)

/* ---- the table */

static const struct mcp_tool tools[] = {
    TOOL(atoll_create_thread, "Open a thread",
         "Opens a thread, a conversation on one topic with the agents you name. Look with "
         "atoll_get_state first whether there is one already, and with atoll_list_agents whom to "
         "ask. Then say what it is about with atoll_send_message.",
         CREATE_THREAD, THREAD_RESULT, TOOL_ADDS, atoll_create_thread_call),
    TOOL(atoll_send_message, "Send a message",
         "Sends a message into a thread you take part in. All its participants can read it; those "
         "you mention are called upon to act. Use it for all you have to tell the other agents: "
         "they see nothing else of you. When it returns, the message is stored for good. Then "
         "call atoll_wait for answers.",
         SEND_MESSAGE, SENT_RESULT, TOOL_ADDS, atoll_send_message_call),
    TOOL(atoll_wait, "Wait for messages",
         "Waits for messages to you and returns all that are unread, oldest first, from every "
         "thread you take part in. Call it whenever you have nothing else to do: nothing is lost "
         "in between, as what came meanwhile is returned at once. Messages stay unread until you "
         "acknowledge them: pass the cursor of this answer as ack in your next atoll_wait. If "
         "nothing comes in time the answer is empty; then just call it again.",
         ATOLL_WAIT, ATOLL_WAIT_RESULT, TOOL_SETS, atoll_wait_call),
    TOOL(atoll_acknowledge, "Acknowledge messages",
         "Marks the messages of one atoll_wait as dealt with, so that they do not come again. "
         "Only needed where you will not call atoll_wait soon: its ack does the same.",
         ACKNOWLEDGE, ACKNOWLEDGE_RESULT, TOOL_SETS, atoll_acknowledge_call),
    TOOL(atoll_read_thread, "Read a thread",
         "Returns messages of a thread, oldest first: the newest ones, or a page further back. "
         "Use it to learn what was said before, or to read one long message whole. It changes "
         "nothing and acknowledges nothing.",
         ATOLL_READ_THREAD, ATOLL_READ_THREAD_RESULT, TOOL_READS, atoll_read_thread_call),
    TOOL(atoll_list_agents, "List the agents",
         "Returns who is in the session: id, what each is for, and its status. Use it to find out "
         "whom to ask.",
         ATOLL_LIST_AGENTS, ATOLL_LIST_AGENTS_RESULT, TOOL_READS, atoll_list_agents_call),
    TOOL(atoll_get_state, "See the session",
         "Returns the session in short: its threads with name, status, participants and number "
         "of messages, and its agents. Use it to find your way in, or again after a while. What "
         "was said: atoll_read_thread.",
         ATOLL_GET_STATE, ATOLL_GET_STATE_RESULT, TOOL_READS, atoll_get_state_call),
    TOOL(atoll_set_status, "Set your status",
         "Tells everybody what you are about. Use it when you begin or end a longer piece of "
         "work, or need somebody's attention.",
         SET_STATUS, STATUS_RESULT, TOOL_SETS, atoll_set_status_call),
    TOOL(atoll_add_participant, "Add to a thread",
         "Adds an agent to a thread you take part in, as soon as the topic concerns it. Then "
         "mention it in a message if it is to act.",
         ADD_PARTICIPANT, PARTICIPANT_RESULT, TOOL_SETS, atoll_add_participant_call),
    TOOL(atoll_remove_participant, "Remove from a thread",
         "Removes an agent from a thread you take part in: it gets nothing of it any more. With "
         "your own id you leave.",
         REMOVE_PARTICIPANT, PARTICIPANT_RESULT, TOOL_ENDS, atoll_remove_participant_call),
    TOOL(atoll_close_thread, "Close a thread",
         "Closes a thread whose topic is settled, with a summary of the result. Nobody can send "
         "into it any more, and it cannot be opened again.",
         CLOSE_THREAD, THREAD_RESULT, TOOL_ENDS, atoll_close_thread_call),
};

const struct mcp_tools mcp_tools_atoll = {tools, sizeof(tools) / sizeof(tools[0])};
