/*
 * tools_atoll: arguments, results and handlers of the tools of Atoll that are not one command each.
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_TOOLS_ATOLL_H
#define ATOLL_SERVER_MCP_TOOLS_ATOLL_H

#include "server/mcp/tools.h"

enum {
    TOOL_WAIT_S = 50, /* where the caller says nothing */
    TOOL_WAIT_S_MAX = 55
};

/* clang-format off */

#define ATOLL_WAIT(FIRST, MORE)                                                                    \
    FIRST(FLAG, mentions_only, MAY, mentions_only,                                                 \
          "true: only messages that mention you; the others stay unread. false: all.")             \
    MORE(ID, from, MAY, from, "Only messages from this agent; empty: from everybody.")             \
    MORE(TEXT, ack, MAY, ack,                                                                      \
         "The cursor of the last answer, if you are done with its messages: they are then "        \
         "acknowledged first. Empty: nothing is.")                                                 \
    MORE(NUMBER, wait_s, MAY, wait_s,                                                              \
         "How many seconds to wait at most, up to 55; use 50. 0: only look.")

#define ATOLL_MESSAGE                                                                              \
    TOOL_MEMBER(TEXT, id) "," TOOL_MEMBER(TEXT, thread) "," TOOL_MEMBER(TEXT, ts) ","              \
    TOOL_MEMBER(TEXT, sender) "," TOOL_MEMBER(IDS, mentions) ","                                   \
    TOOL_MEMBER(NUMBER, mentions_left_out) "," TOOL_MEMBER(TEXT, reply_to) ","                     \
    TOOL_MEMBER(TEXT, content) "," TOOL_MEMBER(TEXT, more) "," TOOL_MEMBER(ANY, data) ","          \
    TOOL_MEMBER(TEXT, more_data)
#define ATOLL_MESSAGE_ALWAYS "\"id\",\"thread\",\"ts\",\"sender\",\"mentions\""

#define ATOLL_WAIT_RESULT                                                                          \
    TOOL_OUTPUT(TOOL_LIST(messages, ATOLL_MESSAGE, ATOLL_MESSAGE_ALWAYS) ","                       \
                TOOL_MEMBER(TEXT, cursor) "," TOOL_MEMBER(NUMBER, remaining) ","                   \
                TOOL_MEMBER(FLAG, closed),                                                         \
                "\"messages\",\"cursor\",\"remaining\"")

#define ATOLL_READ_THREAD(FIRST, MORE)                                                             \
    FIRST(ID, thread, NEED, thread, "Id of the thread.")                                           \
    MORE(TEXT, cursor, MAY, cursor,                                                                \
         "Empty: the newest messages. after-0: from the beginning. A message's id, as m42: that "  \
         "message whole. Or the cursor of an earlier answer, to go on from there.")

#define ATOLL_READ_THREAD_RESULT                                                                   \
    TOOL_OUTPUT(TOOL_MEMBER(TEXT, thread) ","                                                      \
                TOOL_LIST(messages, ATOLL_MESSAGE "," TOOL_MEMBER(TEXT, data_text),                \
                          ATOLL_MESSAGE_ALWAYS) "," TOOL_MEMBER(TEXT, more),                       \
                "\"thread\",\"messages\",\"more\"")

#define ATOLL_LIST_AGENTS(FIRST, MORE)                                                             \
    FIRST(TEXT, cursor, MAY, cursor,                                                               \
          "Empty: from the first one. Or what the last answer had in more, to go on from there.")

#define ATOLL_AGENT                                                                                \
    TOOL_MEMBER(TEXT, agent) "," TOOL_MEMBER(FLAG, you) "," TOOL_MEMBER(STATUS, status) ","        \
    TOOL_MEMBER(TEXT, note) "," TOOL_MEMBER(TEXT, description)
#define ATOLL_AGENT_ALWAYS "\"agent\",\"you\",\"status\",\"note\",\"description\""

#define ATOLL_LIST_AGENTS_RESULT                                                                   \
    TOOL_OUTPUT(TOOL_LIST(agents, ATOLL_AGENT, ATOLL_AGENT_ALWAYS) "," TOOL_MEMBER(TEXT, more),    \
                "\"agents\",\"more\"")

#define ATOLL_GET_STATE(FIRST, MORE)                                                               \
    FIRST(TEXT, cursor, MAY, cursor,                                                               \
          "Empty: all, from the first thread. Or what the last answer had in more, to go on from " \
          "there.")

#define ATOLL_THREAD                                                                               \
    TOOL_MEMBER(TEXT, thread) "," TOOL_MEMBER(TEXT, name) "," TOOL_MEMBER(TEXT, status) ","        \
    TOOL_MEMBER(TEXT, summary) "," TOOL_MEMBER(TEXT, creator) "," TOOL_MEMBER(IDS, participants)   \
    "," TOOL_MEMBER(NUMBER, participants_left_out) "," TOOL_MEMBER(FLAG, yours) ","                \
    TOOL_MEMBER(NUMBER, messages)
#define ATOLL_THREAD_ALWAYS                                                                        \
    "\"thread\",\"name\",\"status\",\"summary\",\"creator\",\"participants\",\"yours\","           \
    "\"messages\""

#define ATOLL_GET_STATE_RESULT                                                                     \
    TOOL_OUTPUT(TOOL_MEMBER(TEXT, session) "," TOOL_MEMBER(NUMBER, seq) ","                        \
                TOOL_MEMBER(TEXT, status) "," TOOL_MEMBER(TEXT, summary) ","                       \
                TOOL_LIST(agents, ATOLL_AGENT, ATOLL_AGENT_ALWAYS) ","                             \
                TOOL_MEMBER(NUMBER, agents_left_out) ","                                           \
                TOOL_LIST(threads, ATOLL_THREAD, ATOLL_THREAD_ALWAYS) "," TOOL_MEMBER(TEXT, more), \
                "\"session\",\"seq\",\"status\",\"summary\",\"agents\",\"threads\",\"more\"")

/* clang-format on */

/* tools_waiting.c */
void atoll_wait_call(struct mcp_call *call, const struct json_value *arguments);
/* tools_reading.c */
/* Asks for the view without messages, or for `part` of it (static text; NULL: all). */
void tool_ask_view(struct mcp_call *call, const char *part, mcp_on_reply *on_reply);
void atoll_read_thread_call(struct mcp_call *call, const struct json_value *arguments);
void atoll_list_agents_call(struct mcp_call *call, const struct json_value *arguments);
void atoll_get_state_call(struct mcp_call *call, const struct json_value *arguments);

#endif
