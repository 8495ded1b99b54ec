/*
 * The schema: which fields each command and event has. Said once, here; it drives the decoding of
 * JSON (server/), the JSON of events (json.c) and their bytes (codec.c).
 *
 * Order matters: in JSON it is the order of members, and in the bytes of an event a field is known
 * by its place. So a new field of an event goes at the end of its row.
 */
#include "core/internal.h"

#define FIELD(json_name, code, member, field_kind, max, field_flags)                               \
    {                                                                                              \
        .name = (json_name), .field = CORE_FIELD_##code, .kind = (field_kind),                     \
        .flags = (field_flags), .limit = CORE_LIMIT_##max,                                         \
        .offset = offsetof(struct core_fields, member), .name_n = sizeof(json_name) - 1            \
    }

#define OPTIONAL 0
#define REQUIRED FIELD_REQUIRED
#define NULLABLE FIELD_NULLABLE
#define INTERNAL FIELD_INTERNAL
#define ALWAYS FIELD_ALWAYS

#define SESSION(flags) FIELD("session", SESSION, session, KIND_ID, NONE, flags)
#define AGENT(flags) FIELD("agent", AGENT, agent, KIND_ID, NONE, flags)
#define CREATOR(flags) FIELD("creator", CREATOR, creator, KIND_ID, NONE, flags)
#define BY(flags) FIELD("by", BY, by, KIND_ID, NONE, flags)
#define SENDER(flags) FIELD("sender", SENDER, sender, KIND_ID, NONE, flags)
#define THREAD(flags) FIELD("thread", THREAD, thread, KIND_ID, NONE, flags)
#define NAME(flags) FIELD("name", NAME, name, KIND_TEXT, TEXT_BYTES, flags)
#define DESCRIPTION(flags)                                                                         \
    FIELD("description", DESCRIPTION, description, KIND_TEXT, TEXT_BYTES, flags)
#define NOTE(flags) FIELD("note", NOTE, note, KIND_TEXT, TEXT_BYTES, flags)
#define SUMMARY(flags) FIELD("summary", SUMMARY, summary, KIND_TEXT, TEXT_BYTES, flags)
#define CONTENT(flags) FIELD("content", CONTENT, content, KIND_TEXT, CONTENT_BYTES, flags)
#define REPLY_TO(flags) FIELD("reply_to", REPLY_TO, reply_to, KIND_MESSAGE, NONE, flags)
#define CURSOR(flags) FIELD("cursor", CURSOR, cursor, KIND_TEXT, CURSOR_BYTES, flags)
#define DATA(flags) FIELD("data", DATA, data, KIND_JSON, DATA_BYTES, flags)
#define TRACE FIELD("trace", TRACE, trace, KIND_TEXT, TRACE_BYTES, OPTIONAL)
#define CAUSE FIELD("cause", CAUSE, cause, KIND_TEXT, TRACE_BYTES, OPTIONAL)
#define ID(flags) FIELD("id", ID, id, KIND_MESSAGE, NONE, flags)
#define LABELS(flags) FIELD("labels", LABELS, labels, KIND_LABELS, LABELS, flags)
#define PARTICIPANTS(flags)                                                                        \
    FIELD("participants", PARTICIPANTS, participants, KIND_IDS, PARTICIPANTS, flags)
#define MENTIONS(flags) FIELD("mentions", MENTIONS, mentions, KIND_IDS, MENTIONS, flags)
#define STATUS(flags) FIELD("status", STATUS, status, KIND_STATUS, NONE, flags)
#define PRIORITY(flags) FIELD("priority", PRIORITY, priority, KIND_I64, NONE, flags)
#define TTL_S(flags) FIELD("ttl_s", TTL_S, ttl_s, KIND_U64, NONE, flags)
#define UPTO(flags) FIELD("upto", UPTO, upto, KIND_U64, NONE, flags)
#define HISTORY(flags) FIELD("history", HISTORY, history, KIND_BOOL, NONE, flags)
#define FRESH(flags) FIELD("fresh", FRESH, fresh, KIND_BOOL, NONE, flags)
#define READ(flags) FIELD("read", READ, read, KIND_U64, NONE, flags)
#define TAKEN(flags) FIELD("taken", TAKEN, taken, KIND_SEQS, TAKEN, flags)
#define EVICTED(flags) FIELD("evicted", EVICTED, evicted, KIND_U32, NONE, flags)
#define OLDER(flags) FIELD("older", OLDER, older, KIND_U64, NONE, flags)
#define WINDOW_MESSAGES(flags)                                                                     \
    FIELD("window_messages", WINDOW_MESSAGES, window_messages, KIND_U32, NONE, flags)
#define WINDOW_BYTES(flags) FIELD("window_bytes", WINDOW_BYTES, window_bytes, KIND_U32, NONE, flags)
#define THREADS(flags) FIELD("threads", THREADS, threads, KIND_IDS, THREADS, flags)
#define READINGS(flags) FIELD("threads", READINGS, readings, KIND_READINGS, THREADS, flags)

#define PARENT(flags) FIELD("parent", PARENT, parent, KIND_ID, NONE, flags)
#define PARENT_EPOCH(flags)                                                                        \
    FIELD("parent_epoch", PARENT_EPOCH, parent_epoch, KIND_TEXT, TRACE_BYTES, flags)
#define PARENT_SEQ(flags) FIELD("parent_seq", PARENT_SEQ, parent_seq, KIND_U64, NONE, flags)

typedef const struct core_field_spec fields[];

/* Each type's two lists, by the name of its row in CORE_TYPES. */
static fields command_SESSION_CREATE = {SESSION(OPTIONAL), LABELS(OPTIONAL), TTL_S(OPTIONAL), TRACE,
                                        CAUSE};
static fields event_SESSION_CREATE = {TRACE,
                                      CAUSE,
                                      SESSION(REQUIRED),
                                      LABELS(ALWAYS),
                                      TTL_S(OPTIONAL),
                                      WINDOW_MESSAGES(REQUIRED | INTERNAL),
                                      WINDOW_BYTES(REQUIRED | INTERNAL)};

static fields command_SESSION_UPDATE = {LABELS(REQUIRED), TRACE, CAUSE};
static fields event_SESSION_UPDATE = {TRACE, CAUSE, LABELS(REQUIRED)};

static fields command_SESSION_CLOSE = {SUMMARY(NULLABLE), TRACE, CAUSE};
static fields event_SESSION_CLOSE = {TRACE, CAUSE, SUMMARY(NULLABLE | ALWAYS)};

static fields command_AGENT_REGISTER = {AGENT(REQUIRED), DESCRIPTION(NULLABLE), LABELS(OPTIONAL),
                                        TRACE, CAUSE};
static fields event_AGENT_REGISTER = {
    TRACE, CAUSE, AGENT(REQUIRED), DESCRIPTION(NULLABLE), LABELS(OPTIONAL), FRESH(INTERNAL)};

static fields command_AGENT_UPDATE = {
    AGENT(REQUIRED),    STATUS(OPTIONAL), NOTE(NULLABLE), DESCRIPTION(NULLABLE),
    PRIORITY(OPTIONAL), LABELS(OPTIONAL), TRACE,          CAUSE};
static fields event_AGENT_UPDATE = {TRACE,
                                    CAUSE,
                                    AGENT(REQUIRED),
                                    STATUS(OPTIONAL),
                                    NOTE(NULLABLE),
                                    DESCRIPTION(NULLABLE),
                                    PRIORITY(OPTIONAL),
                                    LABELS(OPTIONAL)};

static fields command_AGENT_LEAVE = {AGENT(REQUIRED), TRACE, CAUSE};
static fields event_AGENT_LEAVE = {TRACE, CAUSE, AGENT(REQUIRED), THREADS(REQUIRED)};

static fields command_THREAD_CREATE = {CREATOR(REQUIRED), NAME(REQUIRED), PARTICIPANTS(REQUIRED),
                                       THREAD(OPTIONAL),  TRACE,          CAUSE};
static fields event_THREAD_CREATE = {
    TRACE, CAUSE, THREAD(REQUIRED), CREATOR(REQUIRED), NAME(REQUIRED), PARTICIPANTS(REQUIRED)};

static fields command_THREAD_ADD = {THREAD(REQUIRED),  AGENT(REQUIRED), BY(REQUIRED),
                                    HISTORY(OPTIONAL), TRACE,           CAUSE};
static fields event_THREAD_ADD = {TRACE,           CAUSE,        THREAD(REQUIRED),
                                  AGENT(REQUIRED), BY(REQUIRED), HISTORY(OPTIONAL),
                                  READ(REQUIRED)};

static fields command_THREAD_REMOVE = {THREAD(REQUIRED), AGENT(REQUIRED), BY(REQUIRED), TRACE,
                                       CAUSE};
static fields event_THREAD_REMOVE = {TRACE, CAUSE, THREAD(REQUIRED), AGENT(REQUIRED), BY(REQUIRED)};

static fields command_THREAD_CLOSE = {THREAD(REQUIRED), BY(REQUIRED), SUMMARY(NULLABLE), TRACE,
                                      CAUSE};
static fields event_THREAD_CLOSE = {TRACE,
                                    CAUSE,
                                    THREAD(REQUIRED),
                                    BY(REQUIRED),
                                    SUMMARY(NULLABLE | ALWAYS),
                                    OLDER(REQUIRED | INTERNAL)};

static fields command_MESSAGE_SEND = {THREAD(REQUIRED),
                                      SENDER(REQUIRED),
                                      CONTENT(REQUIRED),
                                      MENTIONS(OPTIONAL),
                                      REPLY_TO(NULLABLE),
                                      DATA(NULLABLE),
                                      TRACE,
                                      CAUSE};
static fields event_MESSAGE_SEND = {TRACE,
                                    CAUSE,
                                    ID(FIELD_DERIVED),
                                    THREAD(REQUIRED),
                                    SENDER(REQUIRED),
                                    CONTENT(REQUIRED),
                                    MENTIONS(ALWAYS),
                                    REPLY_TO(NULLABLE | ALWAYS),
                                    DATA(NULLABLE | ALWAYS),
                                    EVICTED(INTERNAL),
                                    OLDER(INTERNAL)};

static fields command_THREAD_READ = {THREAD(REQUIRED), AGENT(REQUIRED), UPTO(REQUIRED), TRACE,
                                     CAUSE};
static fields event_THREAD_READ = {TRACE,           CAUSE,          THREAD(REQUIRED),
                                   AGENT(REQUIRED), UPTO(REQUIRED), READ(REQUIRED),
                                   TAKEN(REQUIRED)};

static fields command_INBOX_ACK = {AGENT(REQUIRED), CURSOR(REQUIRED), TRACE, CAUSE};
static fields event_INBOX_ACK = {TRACE, CAUSE, AGENT(REQUIRED), READINGS(REQUIRED)};

static fields command_SESSION_FORK = {SESSION(REQUIRED),
                                      PARENT(REQUIRED),
                                      PARENT_EPOCH(REQUIRED),
                                      PARENT_SEQ(REQUIRED),
                                      TRACE,
                                      CAUSE};
static fields event_SESSION_FORK = {TRACE,
                                    CAUSE,
                                    SESSION(REQUIRED),
                                    PARENT(REQUIRED),
                                    PARENT_EPOCH(REQUIRED),
                                    PARENT_SEQ(REQUIRED)};

/* Which field names the agent that acts; nobody does for session.* */
#define ACTOR(member) (int)offsetof(struct core_fields, member)
enum {
    actor_SESSION_CREATE = -1,
    actor_SESSION_UPDATE = -1,
    actor_SESSION_CLOSE = -1,
    actor_AGENT_REGISTER = ACTOR(agent),
    actor_AGENT_UPDATE = ACTOR(agent),
    actor_AGENT_LEAVE = ACTOR(agent),
    actor_THREAD_CREATE = ACTOR(creator),
    actor_THREAD_ADD = ACTOR(by),
    actor_THREAD_REMOVE = ACTOR(by),
    actor_THREAD_CLOSE = ACTOR(by),
    actor_MESSAGE_SEND = ACTOR(sender),
    actor_THREAD_READ = ACTOR(agent),
    actor_INBOX_ACK = ACTOR(agent),
    actor_SESSION_FORK = -1
};

static const struct core_type_spec types[CORE_TYPE_COUNT] = {
#define X(code, command, event)                                                                    \
    [CORE_##code] = {                                                                              \
        .command_name = (command),                                                                 \
        .event_name = (event),                                                                     \
        .command_fields = command_##code,                                                          \
        .event_fields = event_##code,                                                              \
        .command_fields_n = sizeof(command_##code) / sizeof(command_##code[0]),                    \
        .event_fields_n = sizeof(event_##code) / sizeof(event_##code[0]),                          \
        .actor_offset = actor_##code,                                                              \
    },
    CORE_TYPES(X)
#undef X
};

static const char *const status_names[AGENT_STATUS_COUNT] = {
    [AGENT_IDLE] = "idle",           [AGENT_WORKING] = "working",   [AGENT_WAITING] = "waiting",
    [AGENT_ATTENTION] = "attention", [AGENT_QUESTION] = "question", [AGENT_OFFLINE] = "offline",
};

static const struct {
    int status;
    const char *name;
    const char *title;
} errors[CORE_ERROR_COUNT] = {[CORE_OK] = {200, "ok", "OK"},
#define X(code, status_code, stable_name, title_text)                                              \
    [CORE_E_##code] = {status_code, stable_name, title_text},
                              CORE_ERRORS(X)
#undef X
};

const struct core_limits core_limits_default = {
    .max =
        {
#define X(name, value) [CORE_LIMIT_##name] = (value),
            CORE_LIMITS(X)
#undef X
        },
};

int core_error_status(enum core_error code)
{
    assert(code < CORE_ERROR_COUNT);
    return errors[code].status;
}

const char *core_error_name(enum core_error code)
{
    assert(code < CORE_ERROR_COUNT);
    return errors[code].name;
}

const char *core_error_title(enum core_error code)
{
    assert(code < CORE_ERROR_COUNT);
    return errors[code].title;
}

const struct core_type_spec *core_type_spec(enum core_type type)
{
    assert(type > CORE_TYPE_NONE && type < CORE_TYPE_COUNT);
    return &types[type];
}

static bool is_name(struct str s, const char *name)
{
    return strlen(name) == s.n && memcmp(s.p, name, s.n) == 0;
}

enum core_type core_type_of_command(struct str name)
{
    for (int type = CORE_TYPE_NONE + 1; type < CORE_TYPE_COUNT; type++) {
        if (type != CORE_SESSION_FORK && is_name(name, types[type].command_name))
            return (enum core_type)type;
    }
    return CORE_TYPE_NONE;
}

enum core_type core_type_of_event(struct str name)
{
    for (int type = CORE_TYPE_NONE + 1; type < CORE_TYPE_COUNT; type++) {
        if (is_name(name, types[type].event_name))
            return (enum core_type)type;
    }
    return CORE_TYPE_NONE;
}

const char *core_status_name(enum core_agent_status status)
{
    assert(status < AGENT_STATUS_COUNT);
    return status_names[status];
}

int core_status_parse(struct str name)
{
    for (int status = 0; status < AGENT_STATUS_COUNT; status++) {
        if (is_name(name, status_names[status]))
            return status;
    }
    return -1;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c);
}

bool core_id_valid(struct str id)
{
    if (id.n == 0 || id.n > CORE_ID_BYTES || !is_alphanumeric(id.p[0]))
        return false;
    for (size_t i = 1; i < id.n; i++) {
        if (!is_alphanumeric(id.p[i]) && id.p[i] != '_' && id.p[i] != '-')
            return false;
    }
    return true;
}

bool core_thread_id_reserved(struct str id)
{
    if (id.n < 2 || id.p[0] != 't')
        return false;
    for (size_t i = 1; i < id.n; i++) {
        if (!is_digit(id.p[i]))
            return false;
    }
    return true;
}

uint64_t core_message_seq(struct str id)
{
    if (id.n < 2 || id.n > 17 || id.p[0] != 'm' || id.p[1] == '0')
        return 0;
    uint64_t seq = 0;
    for (size_t i = 1; i < id.n; i++) {
        if (!is_digit(id.p[i]))
            return 0;
        seq = seq * 10 + (uint64_t)(id.p[i] - '0');
    }
    return seq <= CORE_SAFE_INTEGER ? seq : 0;
}
