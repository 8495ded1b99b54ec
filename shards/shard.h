/*
 * shard: the single writer of the sessions that hash to it. Private to shards/.
 *
 * Its rooms: sessions.c (the directory of sessions), commands.c (deciding, logging, answering),
 * keys.c (idempotency), queries.c (views, pages, lists, figures), inbox.c (unread messages, waits),
 * history.c (reading the log while the shard goes on), follow.c (feeds and frames), recovery.c
 * (from the log at start), and shard.c: dispatch and what a commit releases.
 *
 * What leaves the shard leaves in order and only when it is committed: each reply, frame and
 * notice that speaks of uncommitted state is an `effect` of the batch that makes it true, and is
 * let go when that batch is on disk.
 *
 * Thread: all of it runs on its reactor's thread. Only the rings are shared.
 */
#ifndef ATOLL_SHARDS_SHARD_H
#define ATOLL_SHARDS_SHARD_H

#include "shards/heap.h"
#include "shards/limits.h"
#include "shards/log.h"
#include "shards/mailbox.h"
#include "shards/ring.h"

#include <bsd/sys/tree.h>

struct shard;
struct keys;

/* One frontend's interest in a session: where its frames go. */
struct feed {
    struct feed *next;
    uint64_t token;
    uint64_t epoch; /* the life it follows */
    uint16_t frontend;
    uint8_t wants; /* enum request_wants */
};

/* Positions of every CHAIN_STRIDE-th record of a session, ascending: the way into its chain. */
struct chain_entry {
    uint64_t last_seq; /* of the last event in the record */
    log_position position;
};

/* One session id on this shard, through all its lives. */
struct session {
    struct session *hash_next;
    RB_ENTRY(session) by_id;
    uint64_t hash;
    struct core_session *core; /* NULL: no such session (never made, or deleted) */
    uint64_t epoch;
    char epoch_text[CORE_EPOCH_BYTES + 1];

    uint64_t dirty;              /* newest batch with something of it; committed when that is */
    uint64_t committed_seq;      /* what the log can be read up to */
    log_position head;           /* its newest record, committed or not */
    log_position committed_head; /* its newest committed record */
    uint64_t records;
    struct chain_entry *chain;
    uint32_t chain_n, chain_cap;
    uint64_t membership_seq; /* newest event that changed who takes part in what */

    struct keys *keys; /* NULL until the first key */
    struct feed *feeds;
    struct request *waiters; /* REQUEST_INBOX that may wait, until they are answered */

    uint32_t pins;                       /* effects and histories that hold it */
    bool busy;                           /* a batch is being worked on in slices */
    struct request *queue, **queue_tail; /* what came meanwhile */
    uint32_t queue_n;

    uint8_t id_size;
    char id[];
};

RB_HEAD(session_tree, session);

static inline struct str session_id(const struct session *session)
{
    return (struct str){session->id, session->id_size};
}

/* Chained hash table that grows a bucket at a time, so that no insertion takes long. */
struct session_table {
    struct session **buckets[2]; /* while growing: [0] the old, [1] the new */
    uint32_t mask[2];
    uint32_t moved; /* buckets of [0] that are empty now */
    uint32_t count;
};

enum effect_kind {
    EFFECT_REPLY,  /* request may be answered */
    EFFECT_RETRY,  /* request is to be dispatched again */
    EFFECT_RECORD, /* a record of session is committed up to seq, and here is its frame */
    EFFECT_ENDED,  /* a life of session has ended: its feeds are told */
};

struct effect {
    enum effect_kind kind;
    struct request *request;
    struct session *session;
    struct frame *frame; /* EFFECT_RECORD: NULL if nobody follows */
    uint64_t epoch;      /* EFFECT_RECORD, EFFECT_ENDED: the life it is about */
    uint64_t seq;
    log_position position;
};

struct effects {
    struct effect *items;
    uint32_t n, cap;
};

/* What could not go onto a full reply ring without credit: in order, until there is room. */
struct outbox {
    struct outgoing *first, **last;
};

struct shard_stats {
    uint64_t requests, commands, events, refused, replayed;
    uint64_t frames, frames_lost; /* frames delivered; feeds detached because a ring was full */
    uint64_t ring_full;           /* uncredited messages that had to wait */
    uint64_t no_space;            /* commands refused with 507 */
    uint64_t overloaded;          /* requests refused because a session's queue was full */
    uint64_t history_records;     /* records read back from the log */
};

struct shard {
    unsigned number;
    struct datadir *dir;
    struct io *io;
    struct log *log;
    struct heap heap;
    struct core_limits limits;
    /* The cluster's: why, once a log has failed (then malloc'd, the cluster frees it). Not a ring:
     * written once in a process's life, and every reactor has to see it. */
    _Atomic(const char *) *failed;

    /* The cluster's: a bit for each shard that cannot write because its disk is full. */
    _Atomic uint64_t *full;
    bool is_full;
    int64_t full_look_ms; /* monotonic: when to see whether there is room again */

    /* Rings, by frontend; owned by the cluster. */
    unsigned frontends;
    struct ring *requests[DATADIR_SHARDS_MAX];
    struct ring *replies[DATADIR_SHARDS_MAX];
    struct outbox outboxes[DATADIR_SHARDS_MAX];
    uint64_t wake; /* bit for each frontend that was sent something this turn */

    struct session_table table;
    struct session_tree tree;
    uint32_t sessions; /* that exist */
    uint64_t epochs;   /* the last one given out */

    struct effects effects[4]; /* by batch number & 3: at most two are open at a time */
    struct request *stalled, **stalled_tail; /* the log had no room this turn: go first */
    struct request *running, **running_tail; /* work in slices */
    uint64_t dirty;                          /* newest batch with something in it */
    uint32_t waiting;                        /* inbox waits held */
    uint32_t histories;                      /* log readings under way */

    int64_t wall_ms; /* of this turn */
    int64_t now_ms;
    struct arena scratch;  /* of the command being worked on */
    struct run *spare_run; /* of commands.c, kept for its buffers */
    struct shard_stats stats;
};

/* ---- shard.c */

struct shard_options {
    unsigned number;
    struct datadir *dir;
    struct io *io;
    const struct core_limits *limits;
    _Atomic(const char *) *failed;
    _Atomic uint64_t *full;
};

/* Recovers the shard's sessions. Reactor's thread. 0 or -errno with a sentence. */
int shard_new(const struct shard_options *options, struct shard **shard, char *error,
              size_t error_size);
/* Opens its log for writing; all shards of the directory must have recovered. The same errors. */
int shard_open(struct shard *shard, enum log_durability durability, char *error, size_t error_size);
void shard_free(struct shard *shard);
/* One turn: requests, slices, commit. True: there is more to do at once. */
bool shard_turn(struct shard *shard, int64_t now_ms, int64_t wall_ms);
/* Writes the batch being built, if none is in flight: also after completions were reaped. */
void shard_commit(struct shard *shard);
/* Milliseconds until shard_turn must be called even if nothing comes, -1: no need. */
int shard_tick(struct shard *shard);
/* Nothing queued, running, uncommitted or being read. */
bool shard_idle(const struct shard *shard);
/* Whether a request ring holds something. */
bool shard_pending(const struct shard *shard);

void shard_dispatch(struct shard *shard, struct request *request);
/* Answers now; what the answer says must be committed. */
void shard_reply(struct shard *shard, struct request *request);
/* Answers when what `session` (may be NULL) shows now is committed. */
void shard_reply_committed(struct shard *shard, struct session *session, struct request *request);
/* Dispatches the request again when all of `session` is committed (at once, if it is). */
void shard_retry_committed(struct shard *shard, struct session *session, struct request *request);
void shard_refuse(struct shard *shard, struct session *session, struct request *request,
                  unsigned error, const char *field, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
/* 404: there is no such session. */
void shard_refuse_unknown(struct shard *shard, struct session *session, struct request *request);
/* Says on stderr and to /readyz that the disk is full, or has room again. */
void shard_set_full(struct shard *shard, bool full);
/* Puts a request first in line for when the log has room again. */
void shard_stall(struct shard *shard, struct request *request);
/* Goes on with a request (and its session, which is busy) in the next turn. */
void shard_go_on(struct shard *shard, struct request *request);
/* The session's batch in slices is done: its queue goes on. */
void shard_unbusy(struct shard *shard, struct session *session);
struct effect *shard_effect(struct shard *shard, uint64_t batch, enum effect_kind kind);
/* Appends a record of `session`; log_reserve must have said yes. `frame` may be NULL. */
void shard_append(struct shard *shard, struct session *session, const struct log_record *record,
                  struct frame *frame);
void shard_notify(struct shard *shard, uint16_t frontend, uint64_t feed,
                  enum mailbox_notice notice);

/*
 * What is on a reply ring: the low bits of an item's pointer say which, for all that is pointed to
 * is aligned; the tag is the feed's token.
 */
enum reply_kind { REPLY_REQUEST = 0, REPLY_FRAME = 1, REPLY_LOST = 2, REPLY_ENDED = 3 };

static inline struct ring_item reply_item(enum reply_kind kind, void *p, uint64_t feed)
{
    assert(((uintptr_t)p & 3) == 0);
    return (struct ring_item){(void *)((uintptr_t)p + kind), feed}; /* `p` may be NULL */
}

static inline enum reply_kind reply_kind(struct ring_item item)
{
    return (enum reply_kind)((uintptr_t)item.p & 3);
}

static inline void *reply_pointer(struct ring_item item)
{
    return (void *)((uintptr_t)item.p & ~(uintptr_t)3);
}

/* ---- sessions.c */

uint64_t session_hash(const struct shard *shard, struct str id);
struct session *session_find(struct shard *shard, struct str id);
struct session *session_find_or_make(struct shard *shard, struct str id);
/* Begins a life: an empty core session under a new epoch (or `epoch`, not 0, at recovery). */
void session_begin(struct shard *shard, struct session *session, uint64_t epoch);
/* Ends it: state, keys and chain are gone; feeds and waiters are the caller's to tell. */
void session_end(struct shard *shard, struct session *session);
/* Frees the entry if it holds no life, nothing uncommitted and nobody pins it. */
void session_drop_if_vacant(struct shard *shard, struct session *session);
void session_epoch_text(const struct shard *shard, uint64_t epoch, char text[CORE_EPOCH_BYTES + 1]);
/* Takes note of a record that was appended (or recovered). */
void session_note_record(struct session *session, uint64_t last_seq, log_position position);
/* First session whose id is above `id` (p == NULL: the first of all). */
struct session *session_after(struct shard *shard, struct str id);
struct session *session_next(struct session *session);
void sessions_free(struct shard *shard);

/* ---- keys.c */

enum key_flags { KEY_BATCH = 1, KEY_EVENT = 2, KEY_MADE = 4 };

/* What is remembered of an answered request. */
struct key_entry {
    struct core_hash key;  /* of caller and key */
    struct core_hash body; /* of the canonical command(s) */
    log_position position; /* the record that holds it */
    uint64_t seq;          /* as answered */
    int64_t ts_ms;
    uint32_t flags; /* enum key_flags */
};

struct core_hash key_hash(struct str caller, struct str key);
struct core_hash key_body_hash(const struct request_command *commands, uint32_t n, bool batch,
                               bool atomic);
/* The entry, good until the next call, or NULL. Forgets what is older than its time first. */
struct key_entry *keys_find(const struct session *session, struct core_hash key, int64_t now_ms);
void keys_add(struct session *session, const struct key_entry *entry);
/* Takes back the newest n additions (their batch was undone). */
void keys_undo(struct session *session, uint32_t n);
/* The newest n additions lie in the record at `position`. */
void keys_place(struct session *session, uint32_t n, log_position position);
void keys_free(struct session *session);

/* ---- record.c: the body of a LOG_RECORD_EVENTS */

/* Begins a body: the number of keys that follow. */
void record_add_count(struct buf *body, uint32_t keys);
void record_add_key(struct buf *body, const struct key_entry *entry, struct str answer);

/* Reads a body: first all keys, then the events. */
struct record_reader {
    struct str left;
    uint32_t keys_left;
    uint32_t events_left;
    uint64_t seq; /* of the next event */
};

int record_read_begin(struct record_reader *reader, const struct log_record *record);
/* 1: one key; 0: no more; -1: not a record. `answer` is empty unless KEY_BATCH. */
int record_read_key(struct record_reader *reader, struct key_entry *entry, struct str *answer);
/* 1: one event, its strings in the record and its lists in scratch; 0: no more; -1. */
int record_read_event(struct record_reader *reader, struct arena *scratch,
                      struct core_event *event);

/* ---- commands.c */

void commands_execute(struct shard *shard, struct session *session, struct request *request);
void commands_delete(struct shard *shard, struct session *session, struct request *request);
/* Whether one of the commands is a session.create. */
bool commands_create(const struct request *request);
void commands_free_spare(struct shard *shard);
/* Where the session stands, into the reply. */
void commands_stand(const struct session *session, struct request *request);

/* ---- history.c */

struct history;
/* One event, in order. False: enough. The event is good during the call. */
typedef bool history_visit(struct history *history, const struct core_event *event);
typedef void history_done(struct history *history, int error);

struct history {
    struct shard *shard;
    struct session *session; /* pinned */
    struct request *request;
    uint64_t epoch;
    uint64_t after, until; /* events with after < seq <= until; until is committed */
    bool descending;
    history_visit *visit;
    history_done *done; /* once; history_free is its business. error: 0 or -errno */
    union {
        struct core_inbox inbox;
        struct frame_builder *frame;
        struct page *page;
    } u;
    uint64_t last_seq; /* the caller's own */
    bool full;         /* visit has said: enough */
    /* Private to history.c */
    struct log_read read;
    struct arena records;             /* of the chunk being collected */
    struct history_record *collected; /* newest first while collecting */
};

struct history *history_new(struct shard *shard, struct session *session, struct request *request);
void history_start(struct history *history);
void history_free(struct history *history);

/* ---- queries.c */

void query_view(struct shard *shard, struct session *session, struct request *request);
void query_thread(struct shard *shard, struct session *session, struct request *request);
void query_messages(struct shard *shard, struct session *session, struct request *request);
void query_events(struct shard *shard, struct session *session, struct request *request);
void query_list(struct shard *shard, struct request *request);
void query_status(struct shard *shard, struct request *request);
/* {"epoch","seq","ts", and `reset` where there is one, "state"} */
void query_envelope(const struct session *session, const char *reset, struct buf *out);

/* ---- inbox.c */

void inbox_query(struct shard *shard, struct session *session, struct request *request);
void inbox_cancel(struct shard *shard, struct session *session, struct request *request);
/* An event was applied: marks the waits that it may end. */
void inbox_mark(struct session *session, const struct core_event *event);
/* The events are in the log: marked waits are tried again when they are committed. */
void inbox_wake_marked(struct shard *shard, struct session *session);
/* The events were undone: so are the marks. */
void inbox_unmark(struct session *session);
/* A wait is about to be answered: it leaves its session's list. */
void inbox_release(struct shard *shard, struct request *request);
/* The session is gone: all its waits are tried again (and find that out). */
void inbox_wake_all(struct shard *shard, struct session *session);

/* ---- follow.c */

void follow_begin(struct shard *shard, struct session *session, struct request *request);
void follow_end(struct shard *shard, struct session *session, struct request *request);
/* What the session's feeds want, together (enum request_wants); 0: nobody follows. */
unsigned follow_wants(const struct session *session);
/* A life has ended, and that is committed: tells and removes the feeds that followed it. */
void follow_ended(struct shard *shard, struct session *session, uint64_t epoch);

struct frame_builder {
    struct buf bytes;
    struct frame_item *items;
    uint32_t n, cap;
};

void frame_builder_add(struct frame_builder *builder, unsigned wants,
                       const struct core_event *event);
/* A frame with one reference, NULL where nothing was added; the builder is empty again. */
struct frame *frame_builder_take(struct frame_builder *builder);
void frame_builder_free(struct frame_builder *builder);

/* ---- recovery.c */

int recovery_run(struct shard *shard, char *error, size_t error_size);

#endif
