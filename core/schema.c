/*
 * The schema: which fields each command and event has. Said once, here; it drives the decoding of
 * JSON (server/), the JSON of events (json.c) and their bytes (codec.c).
 *
 * Order matters: in JSON it is the order of members, and in the bytes of an event a field is known
 * by its place. So a new field of an event goes at the end of its row.
 */
#include "core/internal.h"

/* What a row of a list can become: an element of an array, or a bit of a mask. */
#define AS_FIELD(json_name, code, place, field_kind, max, field_flags)                             \
    {.name = (json_name),                                                                          \
     .field = CORE_FIELD_##code,                                                                   \
     .kind = (field_kind),                                                                         \
     .flags = (field_flags),                                                                       \
     .limit = CORE_LIMIT_##max,                                                                    \
     .offset = offsetof(struct core_fields, place),                                                \
     .name_n = sizeof(json_name) - 1,                                                              \
     .member_n = sizeof(json_name) + 3,                                                            \
     .member = ",\"" json_name "\":"},
#define AS_BIT(json_name, code, place, field_kind, max, field_flags)                               \
    UINT64_C(1) << CORE_FIELD_##code,
#define AS_REQUIRED(json_name, code, place, field_kind, max, field_flags)                          \
    | (uint64_t)(((field_flags)&FIELD_REQUIRED) != 0) << CORE_FIELD_##code
#define AS_DERIVED(json_name, code, place, field_kind, max, field_flags)                           \
    | (uint64_t)(((field_flags)&FIELD_DERIVED) != 0) << CORE_FIELD_##code

#define OPTIONAL 0
#define REQUIRED FIELD_REQUIRED
#define NULLABLE FIELD_NULLABLE
#define INTERNAL FIELD_INTERNAL
#define ALWAYS FIELD_ALWAYS

#define SESSION(ROW, flags) ROW("session", SESSION, session, KIND_ID, NONE, flags)
#define AGENT(ROW, flags) ROW("agent", AGENT, agent, KIND_ID, NONE, flags)
#define CREATOR(ROW, flags) ROW("creator", CREATOR, creator, KIND_ID, NONE, flags)
#define BY(ROW, flags) ROW("by", BY, by, KIND_ID, NONE, flags)
#define SENDER(ROW, flags) ROW("sender", SENDER, sender, KIND_ID, NONE, flags)
#define THREAD(ROW, flags) ROW("thread", THREAD, thread, KIND_ID, NONE, flags)
#define NAME(ROW, flags) ROW("name", NAME, name, KIND_TEXT, TEXT_BYTES, flags)
#define DESCRIPTION(ROW, flags)                                                                    \
    ROW("description", DESCRIPTION, description, KIND_TEXT, TEXT_BYTES, flags)
#define NOTE(ROW, flags) ROW("note", NOTE, note, KIND_TEXT, TEXT_BYTES, flags)
#define SUMMARY(ROW, flags) ROW("summary", SUMMARY, summary, KIND_TEXT, TEXT_BYTES, flags)
#define CONTENT(ROW, flags) ROW("content", CONTENT, content, KIND_TEXT, CONTENT_BYTES, flags)
#define REPLY_TO(ROW, flags) ROW("reply_to", REPLY_TO, reply_to, KIND_MESSAGE, NONE, flags)
#define CURSOR(ROW, flags) ROW("cursor", CURSOR, cursor, KIND_TEXT, CURSOR_BYTES, flags)
#define DATA(ROW, flags) ROW("data", DATA, data, KIND_JSON, DATA_BYTES, flags)
#define TRACE(ROW) ROW("trace", TRACE, trace, KIND_TEXT, TRACE_BYTES, OPTIONAL)
#define CAUSE(ROW) ROW("cause", CAUSE, cause, KIND_TEXT, TRACE_BYTES, OPTIONAL)
/* It follows from the seq, and has no place of its own. */
#define ID(ROW, flags) ROW("id", ID, given, KIND_MESSAGE, NONE, flags)
#define LABELS(ROW, flags) ROW("labels", LABELS, labels, KIND_LABELS, LABELS, flags)
#define PARTICIPANTS(ROW, flags)                                                                   \
    ROW("participants", PARTICIPANTS, participants, KIND_IDS, PARTICIPANTS, flags)
#define MENTIONS(ROW, flags) ROW("mentions", MENTIONS, mentions, KIND_IDS, MENTIONS, flags)
#define STATUS(ROW, flags) ROW("status", STATUS, status, KIND_STATUS, NONE, flags)
#define PRIORITY(ROW, flags) ROW("priority", PRIORITY, priority, KIND_I64, NONE, flags)
#define TTL_S(ROW, flags) ROW("ttl_s", TTL_S, ttl_s, KIND_U64, NONE, flags)
#define UPTO(ROW, flags) ROW("upto", UPTO, upto, KIND_U64, NONE, flags)
#define HISTORY(ROW, flags) ROW("history", HISTORY, history, KIND_BOOL, NONE, flags)
#define FRESH(ROW, flags) ROW("fresh", FRESH, fresh, KIND_BOOL, NONE, flags)
#define READ(ROW, flags) ROW("read", READ, read, KIND_U64, NONE, flags)
#define TAKEN(ROW, flags) ROW("taken", TAKEN, taken, KIND_SEQS, TAKEN, flags)
#define EVICTED(ROW, flags) ROW("evicted", EVICTED, evicted, KIND_U32, NONE, flags)
#define OLDER(ROW, flags) ROW("older", OLDER, older, KIND_U64, NONE, flags)
#define WINDOW_MESSAGES(ROW, flags)                                                                \
    ROW("window_messages", WINDOW_MESSAGES, window_messages, KIND_U32, NONE, flags)
#define WINDOW_BYTES(ROW, flags)                                                                   \
    ROW("window_bytes", WINDOW_BYTES, window_bytes, KIND_U32, NONE, flags)
#define THREADS(ROW, flags) ROW("threads", THREADS, threads, KIND_IDS, THREADS, flags)
#define READINGS(ROW, flags) ROW("threads", READINGS, readings, KIND_READINGS, THREADS, flags)

#define PARENT(ROW, flags) ROW("parent", PARENT, parent, KIND_ID, NONE, flags)
#define PARENT_EPOCH(ROW, flags)                                                                   \
    ROW("parent_epoch", PARENT_EPOCH, parent_epoch, KIND_TEXT, TRACE_BYTES, flags)
#define PARENT_SEQ(ROW, flags) ROW("parent_seq", PARENT_SEQ, parent_seq, KIND_U64, NONE, flags)
#define LEASE_S(ROW, flags) ROW("lease_s", LEASE_S, lease_s, KIND_U64, LEASE_S, flags)
#define LAPSED(ROW, flags) ROW("lapsed", LAPSED, lapsed, KIND_BOOL, NONE, flags)
#define ONLY_MENTIONS(ROW, flags)                                                                  \
    ROW("mentions", ONLY_MENTIONS, only_mentions, KIND_BOOL, NONE, flags)
#define URL(ROW, flags) ROW("url", URL, url, KIND_TEXT, URL_BYTES, flags)
#define SECRET(ROW, flags) ROW("secret", SEALED, sealed, KIND_SECRET, TEXT_BYTES, flags)
#define BREAKER(ROW, flags) ROW("breaker", BREAKER, breaker, KIND_TEXT, TEXT_BYTES, flags)
#define REALM(ROW, flags) ROW("realm", REALM, realm, KIND_U64, NONE, flags)
#define WHY(ROW, flags) ROW("why", WHY, why, KIND_TEXT, TEXT_BYTES, flags)

/* Each type's two lists, by the name of its row in CORE_TYPES. */
/* clang-format off */
#define COMMAND_SESSION_CREATE(ROW)                                                                \
    SESSION(ROW, OPTIONAL) LABELS(ROW, OPTIONAL) TTL_S(ROW, OPTIONAL) TRACE(ROW) CAUSE(ROW)
#define EVENT_SESSION_CREATE(ROW)                                                                  \
    TRACE(ROW) CAUSE(ROW) SESSION(ROW, REQUIRED) LABELS(ROW, ALWAYS) TTL_S(ROW, OPTIONAL)          \
    WINDOW_MESSAGES(ROW, REQUIRED | INTERNAL) WINDOW_BYTES(ROW, REQUIRED | INTERNAL)

#define COMMAND_SESSION_UPDATE(ROW) LABELS(ROW, REQUIRED) TRACE(ROW) CAUSE(ROW)
#define EVENT_SESSION_UPDATE(ROW) TRACE(ROW) CAUSE(ROW) LABELS(ROW, REQUIRED)

#define COMMAND_SESSION_CLOSE(ROW) SUMMARY(ROW, NULLABLE) TRACE(ROW) CAUSE(ROW)
#define EVENT_SESSION_CLOSE(ROW) TRACE(ROW) CAUSE(ROW) SUMMARY(ROW, NULLABLE | ALWAYS)

#define COMMAND_AGENT_REGISTER(ROW)                                                                \
    AGENT(ROW, REQUIRED) DESCRIPTION(ROW, NULLABLE) LABELS(ROW, OPTIONAL)                          \
    LEASE_S(ROW, NULLABLE) TRACE(ROW) CAUSE(ROW)
#define EVENT_AGENT_REGISTER(ROW)                                                                  \
    TRACE(ROW) CAUSE(ROW) AGENT(ROW, REQUIRED) DESCRIPTION(ROW, NULLABLE)                          \
    LABELS(ROW, OPTIONAL) FRESH(ROW, INTERNAL) LEASE_S(ROW, NULLABLE)

#define COMMAND_AGENT_UPDATE(ROW)                                                                  \
    AGENT(ROW, REQUIRED) STATUS(ROW, OPTIONAL) NOTE(ROW, NULLABLE) DESCRIPTION(ROW, NULLABLE)      \
    PRIORITY(ROW, OPTIONAL) LABELS(ROW, OPTIONAL) LEASE_S(ROW, NULLABLE) TRACE(ROW) CAUSE(ROW)
#define EVENT_AGENT_UPDATE(ROW)                                                                    \
    TRACE(ROW) CAUSE(ROW) AGENT(ROW, REQUIRED) STATUS(ROW, OPTIONAL) NOTE(ROW, NULLABLE)           \
    DESCRIPTION(ROW, NULLABLE) PRIORITY(ROW, OPTIONAL) LABELS(ROW, OPTIONAL)                       \
    LEASE_S(ROW, NULLABLE) LAPSED(ROW, INTERNAL)

#define COMMAND_AGENT_LEAVE(ROW) AGENT(ROW, REQUIRED) TRACE(ROW) CAUSE(ROW)
#define EVENT_AGENT_LEAVE(ROW) TRACE(ROW) CAUSE(ROW) AGENT(ROW, REQUIRED) THREADS(ROW, REQUIRED)

#define COMMAND_THREAD_CREATE(ROW)                                                                 \
    CREATOR(ROW, REQUIRED) NAME(ROW, REQUIRED) PARTICIPANTS(ROW, REQUIRED)                         \
    THREAD(ROW, OPTIONAL) TRACE(ROW) CAUSE(ROW)
#define EVENT_THREAD_CREATE(ROW)                                                                   \
    TRACE(ROW) CAUSE(ROW) THREAD(ROW, REQUIRED) CREATOR(ROW, REQUIRED) NAME(ROW, REQUIRED)         \
    PARTICIPANTS(ROW, REQUIRED)

#define COMMAND_THREAD_ADD(ROW)                                                                    \
    THREAD(ROW, REQUIRED) AGENT(ROW, REQUIRED) BY(ROW, REQUIRED) HISTORY(ROW, OPTIONAL)            \
    TRACE(ROW) CAUSE(ROW)
#define EVENT_THREAD_ADD(ROW)                                                                      \
    TRACE(ROW) CAUSE(ROW) THREAD(ROW, REQUIRED) AGENT(ROW, REQUIRED) BY(ROW, REQUIRED)             \
    HISTORY(ROW, OPTIONAL) READ(ROW, REQUIRED)

#define COMMAND_THREAD_REMOVE(ROW)                                                                 \
    THREAD(ROW, REQUIRED) AGENT(ROW, REQUIRED) BY(ROW, REQUIRED) TRACE(ROW) CAUSE(ROW)
#define EVENT_THREAD_REMOVE(ROW)                                                                   \
    TRACE(ROW) CAUSE(ROW) THREAD(ROW, REQUIRED) AGENT(ROW, REQUIRED) BY(ROW, REQUIRED)

#define COMMAND_THREAD_CLOSE(ROW)                                                                  \
    THREAD(ROW, REQUIRED) BY(ROW, REQUIRED) SUMMARY(ROW, NULLABLE) TRACE(ROW) CAUSE(ROW)
#define EVENT_THREAD_CLOSE(ROW)                                                                    \
    TRACE(ROW) CAUSE(ROW) THREAD(ROW, REQUIRED) BY(ROW, REQUIRED)                                  \
    SUMMARY(ROW, NULLABLE | ALWAYS) OLDER(ROW, REQUIRED | INTERNAL)

#define COMMAND_MESSAGE_SEND(ROW)                                                                  \
    THREAD(ROW, REQUIRED) SENDER(ROW, REQUIRED) CONTENT(ROW, REQUIRED) MENTIONS(ROW, OPTIONAL)     \
    REPLY_TO(ROW, NULLABLE) DATA(ROW, NULLABLE) TRACE(ROW) CAUSE(ROW)
#define EVENT_MESSAGE_SEND(ROW)                                                                    \
    TRACE(ROW) CAUSE(ROW) ID(ROW, FIELD_DERIVED) THREAD(ROW, REQUIRED) SENDER(ROW, REQUIRED)       \
    CONTENT(ROW, REQUIRED) MENTIONS(ROW, ALWAYS) REPLY_TO(ROW, NULLABLE | ALWAYS)                  \
    DATA(ROW, NULLABLE | ALWAYS) EVICTED(ROW, INTERNAL) OLDER(ROW, INTERNAL)

#define COMMAND_THREAD_READ(ROW)                                                                   \
    THREAD(ROW, REQUIRED) AGENT(ROW, REQUIRED) UPTO(ROW, REQUIRED) TRACE(ROW) CAUSE(ROW)
#define EVENT_THREAD_READ(ROW)                                                                     \
    TRACE(ROW) CAUSE(ROW) THREAD(ROW, REQUIRED) AGENT(ROW, REQUIRED) UPTO(ROW, REQUIRED)           \
    READ(ROW, REQUIRED) TAKEN(ROW, REQUIRED)

#define COMMAND_INBOX_ACK(ROW) AGENT(ROW, REQUIRED) CURSOR(ROW, REQUIRED) TRACE(ROW) CAUSE(ROW)
#define EVENT_INBOX_ACK(ROW) TRACE(ROW) CAUSE(ROW) AGENT(ROW, REQUIRED) READINGS(ROW, REQUIRED)

#define COMMAND_SESSION_FORK(ROW)                                                                  \
    SESSION(ROW, REQUIRED) PARENT(ROW, REQUIRED) PARENT_EPOCH(ROW, REQUIRED)                       \
    PARENT_SEQ(ROW, REQUIRED) TRACE(ROW) CAUSE(ROW)
#define EVENT_SESSION_FORK(ROW)                                                                    \
    TRACE(ROW) CAUSE(ROW) SESSION(ROW, REQUIRED) PARENT(ROW, REQUIRED)                             \
    PARENT_EPOCH(ROW, REQUIRED) PARENT_SEQ(ROW, REQUIRED)

#define COMMAND_AGENT_WAKE(ROW)                                                                    \
    AGENT(ROW, REQUIRED) URL(ROW, REQUIRED | NULLABLE) SECRET(ROW, NULLABLE)                       \
    ONLY_MENTIONS(ROW, OPTIONAL) TRACE(ROW) CAUSE(ROW)
#define EVENT_AGENT_WAKE(ROW)                                                                      \
    TRACE(ROW) CAUSE(ROW) AGENT(ROW, REQUIRED) URL(ROW, REQUIRED | NULLABLE)                       \
    ONLY_MENTIONS(ROW, ALWAYS) SECRET(ROW, NULLABLE | INTERNAL) REALM(ROW, INTERNAL)

#define COMMAND_AGENT_WAKE_REPORT(ROW)                                                             \
    AGENT(ROW, REQUIRED) BREAKER(ROW, REQUIRED) WHY(ROW, NULLABLE) TRACE(ROW) CAUSE(ROW)
#define EVENT_AGENT_WAKE_REPORT(ROW)                                                               \
    TRACE(ROW) CAUSE(ROW) AGENT(ROW, REQUIRED) BREAKER(ROW, REQUIRED) WHY(ROW, NULLABLE | ALWAYS)  \
    URL(ROW, REQUIRED | INTERNAL) ONLY_MENTIONS(ROW, INTERNAL) SECRET(ROW, NULLABLE | INTERNAL)
/* clang-format on */

typedef const struct core_field_spec fields[];

#define X(code, command, event)                                                                    \
    static fields command_##code = {COMMAND_##code(AS_FIELD)};                                     \
    static fields event_##code = {EVENT_##code(AS_FIELD)};                                         \
    static const uint64_t bits_##code[] = {EVENT_##code(AS_BIT)};
CORE_TYPES(X)
#undef X

/* Which field names the agent that acts; nobody does for session.*, and for what the server finds
 * out by itself. */
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
    actor_SESSION_FORK = -1,
    actor_AGENT_WAKE = ACTOR(agent),
    actor_AGENT_WAKE_REPORT = -1
};

static const struct core_type_spec types[CORE_TYPE_COUNT] = {
#define X(code, command, event)                                                                    \
    [CORE_##code] = {                                                                              \
        .command_name = (command),                                                                 \
        .event_name = (event),                                                                     \
        .command_fields = command_##code,                                                          \
        .event_bits = bits_##code,                                                                 \
        .event_fields = event_##code,                                                              \
        .command_fields_n = sizeof(command_##code) / sizeof(command_##code[0]),                    \
        .event_fields_n = sizeof(event_##code) / sizeof(event_##code[0]),                          \
        .command_required = 0 COMMAND_##code(AS_REQUIRED),                                         \
        .event_required = 0 EVENT_##code(AS_REQUIRED),                                             \
        .event_derived = 0 EVENT_##code(AS_DERIVED),                                               \
        .event_member = ",\"type\":\"" event "\",\"actor\":",                                      \
        .event_member_n = sizeof(",\"type\":\"" event "\",\"actor\":") - 1,                        \
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
        bool ours = type == CORE_SESSION_FORK || type == CORE_AGENT_WAKE_REPORT;
        if (!ours && is_name(name, types[type].command_name))
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

bool core_companion_id(struct str id)
{
    return id.n > 1 && id.n <= CORE_ID_BYTES && id.p[0] == '~' &&
           core_id_valid((struct str){id.p + 1, id.n - 1});
}

bool core_session_id_valid(struct str id)
{
    return core_id_valid(id) || core_companion_id(id);
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
