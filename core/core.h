/*
 * core: the pure state machine of one session.
 *
 *     decide(state, command, now) -> one event, nothing to change, or a refusal
 *     apply(state, event)         -> the next state, or the state as it was and "invariant broken"
 *     view(state)                 -> JSON
 *     patch(event)                -> RFC 6902 operations on that JSON
 *     encode / decode             -> events and snapshots as bytes
 *
 * Everything that an event changes is worked out by decide and written into the event (how many
 * messages leave the window, what a participant has read afterwards, …). So apply only assigns,
 * and patch needs the event alone: a stream is resumed from the log without the state of then.
 *
 * core knows no threads, clock, files, sockets or randomness: time and identities come in as
 * arguments, so that it can be replayed, simulated and fuzzed.
 *
 * Thread: a session belongs to the thread that owns its shard. Nothing here is shared, not even for
 * reading: what looks something up remembers where it was.
 */
#ifndef ATOLL_CORE_CORE_H
#define ATOLL_CORE_CORE_H

#include "core/base.h"
#include "core/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors: code, HTTP-like status, stable name (the last part of a problem's `type`), title */

#define CORE_ERRORS(X)                                                                             \
    X(MALFORMED, 400, "malformed", "Malformed request")                                            \
    X(UNKNOWN_SESSION, 404, "unknown-session", "Unknown session")                                  \
    X(UNKNOWN_AGENT, 404, "unknown-agent", "Unknown agent")                                        \
    X(UNKNOWN_THREAD, 404, "unknown-thread", "Unknown thread")                                     \
    X(UNKNOWN_MESSAGE, 404, "unknown-message", "Unknown message")                                  \
    X(REFUSED, 409, "refused", "Refused by the session's state")                                   \
    X(EXPECTED_SEQ, 412, "expected-seq", "The session does not stand at the expected seq")         \
    X(TOO_LARGE, 413, "too-large", "Too large")                                                    \
    X(KEY_REUSED, 422, "idempotency-key-reused", "Idempotency key used with another body")         \
    X(INVARIANT, 500, "internal", "Internal error")

enum core_error {
    CORE_OK = 0,
#define X(code, status, name, title) CORE_E_##code,
    CORE_ERRORS(X)
#undef X
        CORE_ERROR_COUNT
};

int core_error_status(enum core_error code);
const char *core_error_name(enum core_error code);
const char *core_error_title(enum core_error code);

/* Why a command was refused. `field` is NULL, or a name that is static or lives as long as the
 * command; `detail` is a whole sentence. */
struct core_refusal {
    enum core_error code;
    const char *field;
    uint64_t seq; /* where the session stands */
    char detail[240];
};

/* ---- commands and events: one row each; what fields they have stands in core/schema.c */

#define CORE_TYPES(X)                                                                              \
    X(SESSION_CREATE, "session.create", "session.created")                                         \
    X(SESSION_UPDATE, "session.update", "session.updated")                                         \
    X(SESSION_CLOSE, "session.close", "session.closed")                                            \
    X(AGENT_REGISTER, "agent.register", "agent.registered")                                        \
    X(AGENT_UPDATE, "agent.update", "agent.updated")                                               \
    X(AGENT_LEAVE, "agent.leave", "agent.left")                                                    \
    X(THREAD_CREATE, "thread.create", "thread.created")                                            \
    X(THREAD_ADD, "thread.add", "thread.participant_added")                                        \
    X(THREAD_REMOVE, "thread.remove", "thread.participant_removed")                                \
    X(THREAD_CLOSE, "thread.close", "thread.closed")                                               \
    X(MESSAGE_SEND, "message.send", "message.sent")                                                \
    X(THREAD_READ, "thread.read", "thread.read")                                                   \
    X(INBOX_ACK, "inbox.ack", "inbox.acked")                                                       \
    X(SESSION_FORK, "session.fork", "session.forked")                                              \
    X(AGENT_WAKE, "agent.wake", "agent.wake_set")                                                  \
    X(AGENT_WAKE_REPORT, "agent.wake_report", "agent.wake_reported")

/* The numbers are on disk: append new rows, never reorder. A command and its event share one. */
enum core_type {
    CORE_TYPE_NONE = 0,
#define X(code, command, event) CORE_##code,
    CORE_TYPES(X)
#undef X
        CORE_TYPE_COUNT
};

enum core_agent_status {
    AGENT_IDLE,
    AGENT_WORKING,
    AGENT_WAITING,
    AGENT_ATTENTION,
    AGENT_QUESTION,
    AGENT_OFFLINE,
    AGENT_STATUS_COUNT
};

struct core_label {
    struct str key;
    struct str value; /* p == NULL: remove this label (in a command or event, never in a state) */
};

/* Sorted by key, each key once. */
struct core_labels {
    struct core_label *items;
    uint32_t n;
};

/* Ids in the order given, each once. */
struct core_ids {
    struct str *items;
    uint32_t n;
};

/* What one participant has read of one thread after an event. `taken` ascends, all above `read`. */
struct core_reading {
    struct str thread;
    uint64_t read;
    uint64_t *taken;
    uint32_t taken_n;
};

/*
 * The fields of all commands and events. Which of them a type has, their JSON names, kinds, limits
 * and whether they may be null or left out is said once, in the schema table, which also drives
 * JSON decoding (server/), JSON encoding and the binary codec.
 *
 * `given` has bit CORE_FIELD_x set where the field was given, null included: a null string has
 * p == NULL. What is not given is zero.
 */
struct core_fields {
    uint64_t given;
    struct str session, agent, creator, by, sender, thread;
    struct str name, description, note;
    /* Pairs that no type has together. */
    union {
        struct str summary;
        struct str why; /* agent.wake_reported, with: */
    };
    union {
        struct str reply_to;
        struct str breaker; /* "open" or "closed" */
    };
    union {
        struct str content;
        struct str url; /* agent.wake_set, with: */
    };
    union {
        struct str cursor;
        struct str sealed; /* its secret, as only server/ can open it */
    };
    union {
        uint64_t upto;
        uint64_t realm; /* names the life that set it */
    };
    struct str data; /* canonical JSON text */
    struct str trace, cause;
    struct core_labels labels;
    struct core_ids participants, mentions;
    enum core_agent_status status;
    int64_t priority;
    uint64_t ttl_s;
    bool history;
    /* Worked out by decide, in events only. */
    bool fresh;      /* agent.registered: was not there before */
    uint64_t read;   /* participant_added, thread.read */
    uint64_t *taken; /* thread.read: afterwards */
    uint32_t taken_n;
    uint32_t evicted;              /* message.sent: messages that leave the window */
    uint64_t older;                /* message.sent, thread.closed: count before the window then */
    uint32_t window_messages;      /* session.created */
    uint32_t window_bytes;         /* session.created */
    struct core_ids threads;       /* agent.left: where it took part */
    struct core_reading *readings; /* inbox.acked: threads whose reading changed */
    uint32_t readings_n;
    struct str parent, parent_epoch; /* session.forked */
    uint64_t parent_seq;
    uint64_t lease_s;   /* 0: null, no lease */
    bool lapsed;        /* agent.updated: `status` is what the lease has made of it */
    bool only_mentions; /* agent.wake_set: only unread messages that mention it are a call */
};

enum core_field {
    CORE_FIELD_SESSION,
    CORE_FIELD_AGENT,
    CORE_FIELD_CREATOR,
    CORE_FIELD_BY,
    CORE_FIELD_SENDER,
    CORE_FIELD_THREAD,
    CORE_FIELD_NAME,
    CORE_FIELD_DESCRIPTION,
    CORE_FIELD_NOTE,
    CORE_FIELD_SUMMARY,
    CORE_FIELD_CONTENT,
    CORE_FIELD_REPLY_TO,
    CORE_FIELD_CURSOR,
    CORE_FIELD_DATA,
    CORE_FIELD_TRACE,
    CORE_FIELD_CAUSE,
    CORE_FIELD_ID,
    CORE_FIELD_LABELS,
    CORE_FIELD_PARTICIPANTS,
    CORE_FIELD_MENTIONS,
    CORE_FIELD_STATUS,
    CORE_FIELD_PRIORITY,
    CORE_FIELD_TTL_S,
    CORE_FIELD_UPTO,
    CORE_FIELD_HISTORY,
    CORE_FIELD_FRESH,
    CORE_FIELD_READ,
    CORE_FIELD_TAKEN,
    CORE_FIELD_EVICTED,
    CORE_FIELD_OLDER,
    CORE_FIELD_WINDOW_MESSAGES,
    CORE_FIELD_WINDOW_BYTES,
    CORE_FIELD_THREADS,
    CORE_FIELD_READINGS,
    CORE_FIELD_PARENT,
    CORE_FIELD_PARENT_EPOCH,
    CORE_FIELD_PARENT_SEQ,
    CORE_FIELD_LEASE_S,
    CORE_FIELD_LAPSED,
    CORE_FIELD_ONLY_MENTIONS,
    CORE_FIELD_URL,
    CORE_FIELD_SEALED,
    CORE_FIELD_BREAKER,
    CORE_FIELD_WHY,
    CORE_FIELD_REALM,
    CORE_FIELD_COUNT
};

enum core_kind {
    KIND_ID,       /* struct str, the id rule */
    KIND_TEXT,     /* struct str, UTF-8 without NUL, at most limits->*_bytes */
    KIND_MESSAGE,  /* struct str, "m<seq>" */
    KIND_JSON,     /* struct str, canonical JSON text */
    KIND_LABELS,   /* struct core_labels */
    KIND_IDS,      /* struct core_ids */
    KIND_STATUS,   /* enum core_agent_status, a name in JSON */
    KIND_I64,      /* int64_t, within +-(2^53-1) */
    KIND_U64,      /* uint64_t, at most 2^53-1, or its limit; nullable: from 1, 0 is null */
    KIND_U32,      /* uint32_t */
    KIND_BOOL,     /* bool */
    KIND_SEQS,     /* uint64_t *taken + count */
    KIND_READINGS, /* struct core_reading * + count */
    KIND_SECRET    /* struct str: sealed text. In a command's JSON: the secret, sealed by whoever
                      decodes it; in no event's JSON */
};

enum {
    FIELD_REQUIRED = 1,
    FIELD_NULLABLE = 2,
    FIELD_INTERNAL = 4, /* never in JSON */
    FIELD_DERIVED = 8,  /* follows from the event's seq: in JSON, but not in its bytes */
    FIELD_ALWAYS = 16   /* in an event's JSON even where it was not given: null, [] or {} */
};

/* Texts that are copied whole, which costs less than looking how long they are. */
enum { CORE_MEMBER_BYTES = 24, CORE_EVENT_MEMBER_BYTES = 48 };

struct core_field_spec {
    const char *name;
    uint8_t field; /* enum core_field */
    uint8_t kind;  /* enum core_kind */
    uint8_t flags;
    uint8_t limit;    /* index into struct core_limits' uint32_t array view: enum core_limit */
    uint16_t offset;  /* in struct core_fields */
    uint8_t name_n;   /* strlen(name) */
    uint8_t member_n; /* of `member` */
    char member[CORE_MEMBER_BYTES]; /* as it stands in an event: ,"name": and zeros */
};

struct core_type_spec {
    const char *command_name;
    const char *event_name;
    const struct core_field_spec *command_fields; /* in JSON order; trace and cause included */
    const struct core_field_spec *event_fields;
    const uint64_t *event_bits; /* the bit of each of these in core_fields.given */
    uint64_t command_required;  /* as in core_fields.given */
    uint64_t event_required;
    uint64_t event_derived;
    uint8_t command_fields_n;
    uint8_t event_fields_n;
    uint8_t event_member_n;
    char event_member[CORE_EVENT_MEMBER_BYTES]; /* ,"type":"…","actor": and zeros */
    /* Offset in struct core_fields of the agent that acts, or -1 (session.*). */
    int16_t actor_offset;
};

/* The row of a type; never NULL for CORE_TYPE_NONE < type < CORE_TYPE_COUNT. */
const struct core_type_spec *core_type_spec(enum core_type type);
/* CORE_TYPE_NONE: no such command, or one that no client may give. */
enum core_type core_type_of_command(struct str name);
enum core_type core_type_of_event(struct str name);
const char *core_status_name(enum core_agent_status status);
int core_status_parse(struct str name); /* -1: no such status */

/* A wish. Strings are the caller's and need to live only as long as the event made from it. */
struct core_command {
    enum core_type type;
    struct core_fields f;
};

/* A fact. Strings belong to the command, the scratch arena or the record it was decoded from. */
struct core_event {
    enum core_type type;
    uint64_t seq;
    int64_t ts_ms; /* Unix time in milliseconds, never less than that of the event before */
    struct core_fields f;
};

/* The id rule: [A-Za-z0-9][A-Za-z0-9_-]{0,63} */
bool core_id_valid(struct str id);
/* A companion: a session that a face keeps beside one of its clients'. Its id is '~' and an id of
 * at most 63 bytes, so that no client can name it. */
bool core_companion_id(struct str id);
/* The id of a session: either of the two. */
bool core_session_id_valid(struct str id);
#define CORE_ID_RULE "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
/* "t" and digits alone: kept for ids made by the server. */
bool core_thread_id_reserved(struct str id);
/* "m42", "t3": the id that the server gives to what event `seq` made; the text lies in scratch. */
struct str core_made_id(char letter, uint64_t seq, char scratch[CORE_MADE_ID_BYTES]);
/* The number in "m42"; 0 where it is not such an id. */
uint64_t core_message_seq(struct str id);

/* ---- the state */

struct core_session;

/* Where a session's memory comes from. The shard gives one backed by its own arena. */
struct core_heap {
    void *(*alloc)(void *ctx, size_t size); /* never NULL */
    void (*free)(void *ctx, void *p, size_t size);
    void *ctx;
};

extern const struct core_heap core_heap_malloc; /* for tests and tools */

/*
 * An empty session (seq 0): only session.create is accepted. `id` and `epoch` (its text form, as
 * shown outside, at most CORE_EPOCH_BYTES) are copied. `limits` and `heap` must outlive it.
 */
struct core_session *core_session_new(const struct core_heap *heap,
                                      const struct core_limits *limits, struct str id,
                                      struct str epoch);
void core_session_free(struct core_session *s);

uint64_t core_session_seq(const struct core_session *s);
int64_t core_session_ts_ms(const struct core_session *s);
struct str core_session_id(const struct core_session *s);
struct str core_session_epoch(const struct core_session *s);
bool core_session_closed(const struct core_session *s);
int64_t core_session_created_ms(const struct core_session *s);
uint64_t core_session_ttl_s(const struct core_session *s);
const struct core_labels *core_session_labels(const struct core_session *s);
/* What there is of it; messages: all that were ever sent. Takes a step for each thread. */
struct core_counts {
    uint32_t agents, threads;
    uint64_t messages;
};
struct core_counts core_session_counts(const struct core_session *s);
bool core_session_has_agent(const struct core_session *s, struct str agent);
bool core_session_has_thread(const struct core_session *s, struct str thread);

/*
 * Has the processor fetch what the next command of a session is likely to look at. `step` goes from
 * 0 to CORE_FETCH_STEPS - 1, and each follows what the one before it asked for: so do one for each
 * of several sessions, then the next for each. Changes nothing. How: core/fetch.c
 */
enum { CORE_FETCH_STEPS = 5 };
void core_session_fetch(const struct core_session *s, unsigned step);

enum core_decision { CORE_REFUSED = -1, CORE_NOTHING = 0, CORE_EVENT = 1 };

/*
 * What a command leads to: CORE_EVENT fills *event (seq = the session's + 1, ts = max(now, the
 * session's last)), CORE_NOTHING means that it is already so, CORE_REFUSED fills *why. Changes
 * nothing. The event points into the command, the session and `scratch`, and not into what applying
 * it replaces: it is good until another event is applied, or the command or `scratch` goes.
 */
enum core_decision core_decide(const struct core_session *s, const struct core_command *command,
                               int64_t now_ms, struct arena *scratch, struct core_event *event,
                               struct core_refusal *why);

/*
 * Applies one event and checks the invariants it could break. 0, or -1 with the session exactly as
 * it was before and *why filled (our own bug, or a record that does not belong here).
 */
int core_apply(struct core_session *s, const struct core_event *event, struct core_refusal *why);

/*
 * Undo. Between core_begin and core_keep or core_undo, old contents are remembered; core_undo
 * brings back the state (and its hash) as of core_begin. Does not nest.
 */
void core_begin(struct core_session *s);
void core_keep(struct core_session *s);
void core_undo(struct core_session *s);

/* Test hook: the next core_apply of `type` breaks an invariant on purpose (0 switches it off). */
void core_break_invariant_for_test(struct core_session *s, enum core_type type);

/* ---- JSON */

/*
 * Parts of a view, as JSON Pointers (RFC 6901) of one or two segments: "/threads", "/threads/t3",
 * "/agents/ann", "/labels/team". A part's path stays what it is in the whole view; the root keeps
 * its shape: its plain members are always there, of `labels`, `agents` and `threads` what no part
 * names is left out ({} where that is all). What a pointer names need not exist (yet).
 */
struct core_parts {
    uint32_t n;
    struct str items[];
};

/* Whether `pointer` can be a part: form, escapes, at most two segments. */
bool core_part_valid(struct str pointer);
/* A copy with its texts in one piece: `room` has core_parts_bytes. */
size_t core_parts_bytes(const struct core_parts *parts);
struct core_parts *core_parts_copy(const struct core_parts *parts, void *room);
/* Whether an event's operation at `path` (a JSON Pointer) concerns what is shown (parts NULL: all
 * is). */
bool core_parts_have(const struct core_parts *parts, struct str path);

/* The `state` object. */
void core_view(const struct core_session *s, struct buf *out);
/* The same of `parts` (NULL: all), with messages as they are or, compact, without `content` and
 * `data`. */
void core_view_parts(const struct core_session *s, const struct core_parts *parts, bool compact,
                     struct buf *out);
/* The same without any message: each thread's are all counted by `older`. */
void core_view_outline(const struct core_session *s, const struct core_parts *parts,
                       struct buf *out);
/* One thread of the view, with its "id"; false where there is none. */
bool core_view_thread(const struct core_session *s, struct str thread, struct buf *out);
/* {"seq","ts","type","actor" without a closing brace: what every event begins with. */
void core_event_head_json(const struct core_event *event, struct buf *out);
/* {"seq","ts","type","actor","trace"?,"cause"?,...fields} */
void core_event_json(const struct core_event *event, struct buf *out);
/* The RFC 6902 array that turns the view before the event into the view after it. */
void core_event_patch(const struct core_event *event, struct buf *out);
/* The same for the compact view. */
void core_event_patch_compact(const struct core_event *event, struct buf *out);
/* How many messages the thread's window holds; 0 where there is no such thread. */
uint32_t core_thread_window(const struct core_session *s, struct str thread);
/* One message as in a view, from its message.sent event; with "thread" where asked for. */
void core_message_json(const struct core_event *event, bool with_thread, struct buf *out);
/* The id of what the event made (session, agent, thread, message), p == NULL where nothing. */
struct str core_event_made(const struct core_event *event, char scratch[CORE_MADE_ID_BYTES]);
/* The agent that acted, p == NULL for session.* */
struct str core_event_actor(const struct core_event *event);

void json_add_string(struct buf *out, struct str s); /* quoted and escaped; null where p is NULL */
void json_add_time(struct buf *out, int64_t ts_ms);  /* quoted RFC 3339, milliseconds, UTC */
void json_add_labels(struct buf *out, const struct core_labels *labels);
/* A problem object (RFC 9457) but for its closing brace, so that more members can follow. `name` is
 * the last part of its type; `why` may be NULL. */
void json_begin_problem(struct buf *out, int status, const char *name, const char *title,
                        const struct core_refusal *why);

/* ---- bytes */

/* Self-delimiting encoding of an event without seq (given by the record). Format: core/codec.c */
void core_event_encode(const struct core_event *event, struct buf *out);
/*
 * Decodes one event from *in and advances it; seq is the caller's to set. Strings point into *in,
 * lists into `scratch`. 0, or -1 where the bytes are not an event.
 */
int core_event_decode(struct str *in, struct arena *scratch, struct core_event *event);

/* The whole state as bytes, the same for the same state however it was reached. */
void core_snapshot_encode(const struct core_session *s, struct buf *out);
/* Fills an empty session (seq 0) from a snapshot; its id is then the snapshot's (of a fork's state
 * before the fork: the parent's). 0, or -1: not a snapshot; the session is then only good for
 * core_session_free. */
int core_snapshot_decode(struct core_session *s, struct str in);
/* XXH3-128 of the snapshot encoding. */
struct core_hash {
    uint64_t low, high;
};
struct core_hash core_state_hash(const struct core_session *s);

/* ---- forks, past states, proof */

/*
 * A session becomes a fork by one event, session.forked: the state is the parent's as of the
 * event's seq - 1, and from this event on it has an id of its own and names where it came from
 * (`parent` in the view). The command behind it cannot be given by a client: it has no name in
 * core_type_of_command. Fields: session (the fork's id), parent, parent_epoch, parent_seq. The
 * parent is whoever was asked to be forked; where the seq lies before that was made by a fork
 * itself, the state still has the id of a session further back.
 */
struct core_parent {
    struct str session; /* p == NULL: not a fork */
    struct str epoch;
    uint64_t seq; /* up to which the history is the parent's */
};
struct core_parent core_session_parent(const struct core_session *s);

/*
 * RFC 6902 operations that turn the view of `from` into the view of `to`: two states of one
 * session, of a fork and its parent, or of two forks. Also backwards in time. The fewest that the
 * view's objects allow, not the shortest there can be.
 */
void core_diff(const struct core_session *from, const struct core_session *to, struct buf *out);

/*
 * The chain: a running SHA-256 over a session's events,
 *     chain(0) = 32 zero bytes,  chain(n) = SHA-256(chain(n - 1), n as 8 bytes little-endian,
 *                                                   the bytes of core_event_encode of event n)
 * So whoever has noted the chain at some seq can tell later whether any event up to there is still
 * what it was. FIPS 180-4; OpenSSL's.
 */
struct core_chain {
    uint8_t bytes[32];
};
void core_chain_add(struct core_chain *chain, uint64_t seq, struct str event_bytes);

/* ---- leases and wake targets: what the shard has to look after */

/* Of one agent; strings are the state's, good until the next event. */
struct core_attended {
    struct str agent;
    uint64_t lease_s; /* 0: none */
    bool offline;     /* its status is */
    bool lapsed;      /* … because its lease ran out */
    bool only_mentions;
    bool open;         /* the target's breaker */
    bool inherited;    /* the target was set in another life: of which this is a fork, or a copy */
    uint64_t set_seq;  /* of the event that set it */
    struct str url;    /* p == NULL: no target */
    struct str sealed; /* n == 0: it has no secret */
};

/* How many agents have a lease or a target, or were put offline by a lease. */
uint32_t core_session_attended(const struct core_session *s);
/* False: there is no such agent. */
bool core_agent_attended(const struct core_session *s, struct str agent, struct core_attended *out);
/* Walks those that core_session_attended counts: begin with *at = 0. False: no more. */
bool core_attended_next(const struct core_session *s, uint32_t *at, struct core_attended *out);
/* Whether an event may change what core_agent_attended says of its `agent`, beyond its status. */
static inline bool core_event_attends(const struct core_event *event)
{
    const uint64_t fields = UINT64_C(1) << CORE_FIELD_LEASE_S | UINT64_C(1) << CORE_FIELD_LAPSED |
                            UINT64_C(1) << CORE_FIELD_URL | UINT64_C(1) << CORE_FIELD_BREAKER |
                            UINT64_C(1) << CORE_FIELD_THREADS; /* of agent.left */
    return (event->f.given & fields) != 0;
}

/* Whether an event is by or about this agent (acts, is added, mentioned, acknowledges, …) or this
 * thread. */
bool core_event_of_agent(const struct core_event *event, struct str agent);
bool core_event_of_thread(const struct core_event *event, struct str thread);

/* ---- inbox */

struct core_inbox_query {
    struct str agent;
    bool mentions;   /* only messages that mention the agent */
    struct str from; /* only from this agent; p == NULL: from all */
    uint32_t limit;  /* messages in the answer */
    bool bare; /* … which does not show them: there is the cursor, and what core_inbox says */
    /* Messages that are to be left out, as if they were read: ascending, good until
     * core_inbox_finish. The answer's cursor then names each message, and so leaves them unread. */
    const uint64_t *skip;
    uint32_t skip_n;
};

/* A message that an answer holds. */
struct core_inbox_taken {
    uint64_t thread; /* the seq at which it was created */
    uint64_t seq;
};

/*
 * An inbox answer being put together: {"messages":[…],"cursor":"…","remaining":N}. Two ways:
 *   core_inbox_from_state  where all that is unread still lies in the windows (returns 0), or
 *   otherwise it returns the seq from which events must be read: offer each message.sent event in
 *   order to core_inbox_offer until it returns false (full, and `remaining` has been counted to
 *   its bound) or the session's current seq is reached; then core_inbox_finish.
 * All against one and the same state: if the session changes in between, begin again.
 */
struct core_inbox {
    struct core_inbox_query query;
    struct buf messages; /* JSON objects, comma separated */
    struct buf taken;    /* of struct core_inbox_taken: see core_inbox_taken */
    uint32_t count;
    uint32_t remaining;
    uint64_t last_seq;   /* of the newest message in the answer */
    uint64_t newest_seq; /* of the newest that was counted, in the answer or remaining */
    bool mentioned;      /* bare: one of those counted mentions the agent */
};

void core_inbox_begin(struct core_inbox *inbox, const struct core_inbox_query *query);
uint64_t core_inbox_from_state(const struct core_session *s, struct core_inbox *inbox);
bool core_inbox_offer(const struct core_session *s, struct core_inbox *inbox,
                      const struct core_event *event);
void core_inbox_finish(const struct core_session *s, struct core_inbox *inbox, struct buf *out);
void core_inbox_free(struct core_inbox *inbox);
/* The `count` messages that it holds, in no order; good as long as it is not changed. */
static inline const struct core_inbox_taken *core_inbox_taken(const struct core_inbox *inbox)
{
    return (const struct core_inbox_taken *)(const void *)inbox->taken.p;
}
/* Whether a message that an answer has held is still unread for the agent. */
bool core_inbox_is_unread(const struct core_session *s, struct str agent,
                          const struct core_inbox_taken *message);
/* Whether an event that was just applied is news for this query and wakes a wait: a message, or the
 * agent's joining with history. */
bool core_inbox_wakes(const struct core_session *s, const struct core_inbox_query *query,
                      const struct core_event *event);

#ifdef __cplusplus
}
#endif

#endif
