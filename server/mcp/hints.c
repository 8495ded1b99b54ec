#include "server/mcp/hints.h"

#define BOTH(text) text, text

/* By error and field; the first row that fits. A row without a field fits all. */
static const struct hint {
    unsigned error;
    const char *field;
    const char *atoll, *coral;
} hints[] = {
    {CORE_E_MALFORMED, "cursor",
     "Take it from the last atoll_wait of this agent just as it was; or call atoll_wait with an "
     "empty ack: what is unread is then shown again.",
     ""},
    {CORE_E_UNKNOWN_SESSION, NULL,
     BOTH("It may have been deleted, or never made: ask whoever runs the session for its id.")},
    {CORE_E_UNKNOWN_AGENT, NULL,
     "See who is here with atoll_list_agents. Somebody who is still to come is there from the "
     "first call on: try again then.",
     "Use the name of an agent of this session (resource coral://state). One that is still to "
     "come is there from its first call on: try again then."},
    {CORE_E_UNKNOWN_THREAD, NULL,
     "See the threads with atoll_get_state, or open one with atoll_create_thread.",
     "Use the id that coral_create_thread gave (resource coral://state), or create a thread."},
    {CORE_E_UNKNOWN_MESSAGE, NULL,
     "Take a message's id from atoll_read_thread, or leave reply_to empty.", ""},
    {CORE_E_REFUSED, "thread",
     "Go on in another thread: atoll_get_state lists them, atoll_create_thread opens one.",
     "Go on in another thread, or create one with coral_create_thread."},
    {CORE_E_REFUSED, "sender",
     "Ask one of its participants to add you (atoll_add_participant), or open a thread of your "
     "own with atoll_create_thread.",
     "Ask one of its participants to add you (coral_add_participant), or create a thread."},
    {CORE_E_REFUSED, "by",
     "Only participants can do this: ask one of them, or work in a thread that is yours "
     "(atoll_get_state).",
     "Only participants can do this: ask one of them."},
    {CORE_E_REFUSED, "mentions",
     "Mention participants only, or add the agent first with atoll_add_participant.",
     "Mention participants only, or add the agent first with coral_add_participant."},
    {CORE_E_REFUSED, "cursor",
     "Call atoll_wait without filters, and acknowledge the older messages first.", ""},
    {CORE_E_REFUSED, "participants", BOTH("Work with fewer, or in several threads.")},
    {CORE_E_REFUSED, NULL,
     "Do not repeat this as it is. What there is can still be read: atoll_get_state, "
     "atoll_read_thread.",
     "Do not repeat this as it is."},
    {CORE_E_TOO_LARGE, NULL, BOTH("Make it shorter, or send it in several parts.")},
    {REQUEST_E_GONE, NULL, BOTH("What is older is no longer kept: read newer messages.")},
    {REQUEST_E_OVERLOADED, NULL, BOTH("Nothing was done. Try again in a second.")},
    {REQUEST_E_UNAVAILABLE, NULL, BOTH("Nothing was done. Try again in a second.")},
    {REQUEST_E_NO_SPACE, NULL,
     BOTH("Nothing was done: the server's disk is full. Tell whoever runs it, and try later.")},
};

static bool fits(const struct hint *hint, unsigned error, const char *field)
{
    return hint->error == error &&
           (hint->field == NULL || (field != NULL && strcmp(hint->field, field) == 0));
}

const char *mcp_hint(unsigned error, const char *field, enum mcp_toolset toolset)
{
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        if (fits(&hints[i], error, field))
            return toolset == MCP_TOOLS_CORAL ? hints[i].coral : hints[i].atoll;
    }
    return "";
}
