/*
 * shard: the single writer of the sessions that hash to it. Private to shards/.
 *
 * Its rooms: directory.c (every session id, in memory or not), sessions.c (the sessions in memory:
 * loading, passivation), commands.c (deciding, logging, answering), keys.c (idempotency),
 * snapshots.c (writing them), trail.c (finding a way back through a session's records), past.c
 * (the state as it stood), history.c (ranges of events), queries.c, lists.c, past_queries.c
 * (answers), inbox.c (unread messages, waits), follow.c (feeds and frames), forks.c, checkpoint.c
 * and recovery.c (from the directory on disk, at start), upkeep.c (what goes on beside: expiry,
 * passivation, checkpoints, compaction), and shard.c: dispatch and what a commit releases.
 *
 * What leaves the shard leaves in order and only when it is committed: each reply, frame and
 * notice that speaks of uncommitted state is an `effect` of the batch that makes it true, and is
 * let go when that batch is on disk.
 *
 * Thread: all of it runs on its reactor's thread. Only the rings are shared.
 */
#ifndef ATOLL_SHARDS_SHARD_H
#define ATOLL_SHARDS_SHARD_H

#include "shards/figures.h"
#include "shards/health.h"
#include "shards/heap.h"
#include "shards/limits.h"
#include "shards/log.h"
#include "shards/mailbox.h"
#include "shards/pressure.h"
#include "shards/record.h"
#include "shards/ring.h"
#include "shards/wake.h"

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <stdatomic.h>

struct shard;
struct session;
struct keys;
struct checkpoint_writer;
struct upkeep;

enum chore_result {
    CHORE_DONE, /* the chore is its owner's again (and may be gone) */
    CHORE_MORE, /* to be gone on with at once */
    CHORE_WAIT  /* the log has no room this turn: to be tried again when it may have */
};

/* Work in pieces, for as long as it takes: turns give it pieces until `run` says that it is done.
 * Its owner keeps it alive until then. */
struct chore {
    struct chore *next;
    enum chore_result (*run)(struct chore *chore, int64_t until_ns);
    void *owner;
};

/* Where a session stands among the changes of its shard: changes.c. */
struct change {
    uint64_t position;   /* of its newest change since the process began; 0: none is known */
    bool relabels;       /* what is being done now changes its labels */
    bool of_note;        /* part of a change_note; else of a session */
    uint64_t relabelled; /* the newest position at which labels changed; 0: none is known */
    uint64_t labels;     /* signatures of what they were before that, together */
    RB_ENTRY(change) by_position;
};

RB_HEAD(change_tree, change);

/* The same of a session that is not in memory any more: passive, or ended. */
struct change_note {
    struct change change;
    RB_ENTRY(change_note) by_id;
    TAILQ_ENTRY(change_note) by_age;
    bool ended;
    uint64_t epoch, seq; /* where it ended */
    uint8_t id_size;
    char id[];
};

RB_HEAD(change_notes, change_note);
TAILQ_HEAD(change_note_list, change_note);

enum { CHANGES_CANCELLED = 64 };

/* hands.c */
struct hand;
RB_HEAD(hand_tree, hand);
LIST_HEAD(hand_list, hand);
TAILQ_HEAD(hand_queue, hand);

/* attended.c, wakes.c */
struct attended;
RB_HEAD(attended_tree, attended);
RB_HEAD(attended_due_tree, attended);
TAILQ_HEAD(attended_queue, attended);

struct changes {
    struct change_tree tree; /* of sessions and notes */
    struct change_notes notes;
    struct change_note_list notes_by_age; /* the oldest first */
    uint32_t notes_n;
    uint64_t last;     /* the newest position */
    uint64_t observed; /* whoever asks has seen no later one */
    uint64_t horizon;  /* what lies before it is not known whole */
    struct request *waiting, *woken;
    bool stirred;   /* there is news for those that wait */
    int64_t due_ms; /* monotonic: when they may be told */
    /* The newest cancellations that found no question held: it may be looked at just then. */
    struct {
        uint16_t frontend;
        uint64_t token;
    } cancelled[CHANGES_CANCELLED];
    unsigned cancelled_next;
};

/* One frontend's interest in a session: where its frames go. */
struct feed {
    struct feed *next;
    uint64_t token;
    uint64_t epoch; /* the life it follows */
    uint16_t frontend;
    uint8_t wants; /* enum request_wants */
};

enum entry_flags {
    ENTRY_ALIVE = 1,  /* passive: it has a life */
    ENTRY_ACTIVE = 2, /* `session` is in memory, and says what the entry's other members do not */
    ENTRY_TTL = 4,    /* it stands in the shard's list of expiries */
    ENTRY_IMPORTING = 8,    /* passive (at recovery): its import was not finished */
    ENTRY_ATTENDED = 16,    /* it has leases or wake targets, or may have (after a start) */
    ENTRY_TROUBLED = 32,    /* the shard's troubles have it (quarantine.c) */
    ENTRY_QUARANTINED = 64, /* and nothing may be done with it; passive, also while it is ACTIVE */
};

/*
 * What the directory holds of every session id of this shard, in memory or not. This is all that an
 * idle session costs: 78 bytes and its id, and 4 to 12 in the table. (With a ttl, an expiry too.)
 */
struct entry {
    struct entry *hash_next;
    RB_ENTRY(entry) by_id;
    uint64_t epoch;    /* passive: of its life */
    log_position head; /* passive: its newest record */
    log_position base; /* passive: its newest snapshot, NONE: there is none */
    union {
        uint64_t labels;         /* passive: signature_of its labels (directory.c) */
        struct session *session; /* ENTRY_ACTIVE */
    } u;
    uint32_t hash; /* the high half */
    uint8_t flags; /* enum entry_flags */
    uint8_t id_size;
    char id[];
};

RB_HEAD(entry_tree, entry);

static inline struct str entry_id(const struct entry *entry)
{
    return (struct str){entry->id, entry->id_size};
}

/* A face's own: no list, overview or count of sessions shows it. `~` comes after all that begins
 * other ids, so that in the tree companions stand behind the sessions. */
static inline bool entry_is_companion(const struct entry *entry)
{
    return entry->id[0] == '~';
}

/* Chained hash table that grows a bucket at a time, so that no insertion takes long. */
struct entry_table {
    struct entry **buckets[2]; /* while growing: [0] the old, [1] the new */
    uint32_t mask[2];
    uint32_t moved; /* buckets of [0] that are empty now */
    uint32_t count;
};

/* A session in memory (or an id that is about to be one, or has just ceased to be). What a command
 * looks at comes first, so that it lies on as few cache lines as may be. */
struct session {
    struct entry *entry;
    struct core_session *core; /* NULL: no such session (never made, deleted, or being loaded) */
    uint32_t pins;             /* effects, histories and the like that hold it */
    bool busy;                 /* a batch is being worked on in slices, or it is being loaded */
    bool importing;
    int64_t used_ms;             /* monotonic */
    TAILQ_ENTRY(session) by_use; /* the least recently used first */
    struct feed *feeds;

    struct request *waiters;       /* REQUEST_INBOX that may wait, until they are answered */
    struct attended_tree attended; /* agents with a lease or a wake target */
    struct hand_tree hands;        /* what was handed out of its inboxes */
    struct hand_list touched_hands;
    struct keys *keys; /* NULL until the first key */
    uint64_t epoch;
    uint64_t dirty;          /* newest batch with something of it; committed when that is */
    struct core_chain chain; /* after its newest event */

    log_position head;           /* its newest record, committed or not */
    log_position committed_head; /* its newest committed record */
    uint64_t committed_seq;      /* what the log can be read up to */
    uint64_t since_bytes;        /* of the records behind its newest snapshot */
    uint64_t log_bytes;          /* of all records of this life */
    log_position first;          /* the first of them */
    int64_t rate_ns;             /* until then the rate is used up (budgets.c); monotonic */
    uint32_t base_bytes;         /* of its newest snapshot's record */
    uint32_t skips_n;
    uint64_t membership_seq; /* newest event that changed who takes part in what */

    char epoch_text[CORE_EPOCH_BYTES + 1];
    struct change change;

    /* Its newest snapshot, committed or not, and the skips of the next one: skips[0] is it. */
    log_position base;
    struct record_skip *skips;
    uint64_t ordinal; /* of that snapshot; 0: none */

    struct request *queue, **queue_tail; /* what came while it was busy */
    uint32_t queue_n;

    uint32_t targets;              /* attended agents with a wake target */
    struct attended_queue wakes;   /* of them, waiting for a call; not made while it is empty */
    TAILQ_ENTRY(session) by_wakes; /* of the shard, where `wakes` is not empty */
};

TAILQ_HEAD(session_list, session);

static inline struct str session_id(const struct session *session)
{
    return entry_id(session->entry);
}

/* A fork needs this life of a session up to a seq. On the shard of the parent; in the order of
 * parent, epoch, child, child's epoch. */
struct pin {
    RB_ENTRY(pin) by_lives;
    uint64_t epoch; /* of the parent */
    uint64_t child_epoch;
    uint64_t at;
    uint8_t parent_size, child_size;
    char ids[]; /* parent, child */
};

RB_HEAD(pin_tree, pin);

/* A life that began as a fork. On the shard of the child, in the order of child and epoch; stays as
 * long as that life, or what is pinned of it. */
struct fork {
    RB_ENTRY(fork) by_life;
    uint64_t epoch; /* of the child */
    uint64_t parent_epoch;
    uint64_t at;
    bool alive;     /* else: deleted, but its own forks need it */
    bool ended;     /* and that is on the disk */
    bool unpinning; /* an errand is on its way */
    uint8_t child_size, parent_size;
    char ids[]; /* child, parent */
};

RB_HEAD(fork_tree, fork);

/* A life that has ended, and whose records are still on the disk. */
struct garbage {
    RB_ENTRY(garbage) by_number;
    uint64_t number; /* in the order of their coming */
    uint64_t epoch;
    log_position first, last; /* first NONE: not known, any segment up to `last` may have some */
    uint64_t bytes;
    int64_t since_ms; /* wall clock */
    int64_t again_ms; /* monotonic: it lies where nothing can be read; not before */
    bool taken;       /* the pass that is under way sees to it */
    uint8_t id_size;
    char id[CORE_ID_BYTES];
};

RB_HEAD(garbage_tree, garbage);

struct garbage_list {
    struct garbage_tree tree;
    uint64_t made, bytes;
    uint32_t n;
};

/* When a session with a ttl may be due: looked at then, and put back if it was used meanwhile. So
 * its time only ever moves on. */
struct expiry {
    RB_ENTRY(expiry) by_due;
    RB_ENTRY(expiry) by_entry;
    int64_t due_ms;  /* wall clock */
    uint64_t number; /* of its making: no two are alike */
    struct entry *entry;
    uint64_t ttl_s; /* of a passive session, which then is due just then; 0: not known */
};

RB_HEAD(expiry_tree, expiry);
RB_HEAD(expiry_entries, expiry);

/* quarantine.c */
struct trouble;
RB_HEAD(trouble_tree, trouble);

enum effect_kind {
    EFFECT_REPLY,  /* request may be answered */
    EFFECT_RETRY,  /* request is to be dispatched again */
    EFFECT_RECORD, /* a record of session is committed up to seq, and here is its frame */
    EFFECT_ENDED,  /* a life of session has ended: its feeds are told */
    EFFECT_CALL,   /* `call` is called */
};

struct effect {
    enum effect_kind kind;
    struct request *request;
    struct session *session;
    struct frame *frame; /* EFFECT_RECORD: NULL if nobody follows */
    uint64_t epoch;      /* EFFECT_RECORD, EFFECT_ENDED: the life it is about */
    uint64_t seq;
    log_position position;
    void (*call)(void *owner, int error); /* EFFECT_CALL */
    void *owner;
};

struct effects {
    struct effect *items;
    uint32_t n, cap;
};

/* What could not go onto a full reply ring without credit: in order, until there is room. */
struct outbox {
    struct outgoing *first, **last;
};

struct shard_settings {
    int64_t idle_passivate_ms;    /* a session untouched for so long leaves memory; 0: never */
    uint64_t memory_bytes;        /* of sessions in memory, beyond which the least used leave */
    int64_t retain_ms;            /* history older than that may go; 0: never */
    uint64_t retain_bytes;        /* the oldest history goes where the shard's log takes more; 0 */
    int64_t compact_after_ms;     /* deleted data stays on disk at most about so long */
    uint64_t compact_bytes_per_s; /* read and written by compaction; 0: no bound */
    uint64_t checkpoint_bytes;    /* of log between two checkpoints */
    uint64_t snapshot_bytes;      /* of a session's records, before which it gets no snapshot */
    /* Of one session, companions excepted; 0: no bound. */
    uint64_t session_events;    /* that it may have */
    uint64_t session_log_bytes; /* of its records, from which on it takes no further events */
    uint64_t rate_commands;     /* in rate_ms, in the long run, and … */
    uint64_t rate_ms;
    uint64_t rate_burst; /* … at once */
};

extern const struct shard_settings shard_settings_default;

struct shard_progress {
    _Atomic uint64_t bytes, total; /* of checkpoints and logs read at start */
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
    struct shard_health *health; /* the cluster's, or `unasked` */
    struct feelings {
        uint64_t overflows, slow_commits;        /* counted so far */
        int64_t crowded_until_ms, slow_until_ms; /* monotonic */
        bool pressed;                            /* memory is short */
    } feels;
    struct shard_health unasked;
    bool is_full;
    int64_t full_look_ms; /* monotonic: when to see whether there is room again */

    /* Rings, by frontend; owned by the cluster. */
    unsigned frontends;
    struct ring *requests[DATADIR_SHARDS_MAX]; /* of each as many as there are lanes */
    struct ring *replies[DATADIR_SHARDS_MAX];
    struct outbox outboxes[DATADIR_SHARDS_MAX];
    uint64_t wake; /* bit for each frontend that was sent something this turn */

    struct mailbox *mailbox; /* of its reactor: for errands. Set before shard_open */
    struct shard_settings settings;
    bool has_budgets;                /* of events or bytes */
    const struct pressure *pressure; /* the cluster's; NULL: nobody watches memory */

    struct entry_table table;
    struct entry_tree tree;
    uint64_t entries_bytes; /* of the directory, as part of the heap's */
    uint32_t sessions;      /* that exist, in memory or not; companions are not among them */
    uint32_t active;        /* of them in memory */
    uint32_t companions, companions_active;
    struct session_list by_use;
    struct changes changes;
    uint64_t epochs; /* the last one given out */
    struct pin_tree pins;
    struct fork_tree forks;
    uint32_t pins_n, forks_n;
    uint32_t kept_n; /* lives that have ended, of which forks keep a part */
    struct garbage_list garbage;
    struct expiry_tree expiries;
    struct expiry_entries expiring;
    uint64_t expiries_made;
    struct checkpoint_writer *checkpoint; /* one being written */
    struct datadir_end checkpoint_from;   /* of the newest one */
    uint64_t checkpoint_log_bytes;        /* log_stats' bytes when it was begun */
    uint64_t recovered_bytes;             /* of log read at start, not in a checkpoint yet */
    int64_t checkpoint_again_ms;          /* monotonic: after a failure */
    bool checkpoint_failed;
    struct upkeep *upkeep;
    struct keeping *keeping; /* verdicts that wait for what they speak of to be on disk */
    enum { STOP_NOT, STOP_SNAPSHOTS, STOP_COMMIT, STOP_CHECKPOINT, STOP_DONE } stopping;
    bool stopped_clean;

    struct effects effects[4]; /* by batch number & 3: at most two are open at a time */
    struct request *stalled, **stalled_tail; /* the log had no room this turn: go first */
    struct request *running, **running_tail; /* work in slices */
    struct chore *chores, **chores_tail;
    struct chore *waiting_chores; /* CHORE_WAIT, for the next turn */
    uint64_t dirty;               /* newest batch with something in it */
    uint32_t waiting;             /* inbox waits held */
    uint32_t handed;              /* messages handed out */
    struct hand_queue hands;      /* the oldest first */
    uint64_t hands_made;
    uint32_t histories; /* log readings under way */
    uint32_t loading;   /* passive sessions on their way into memory */

    const struct wake_courier *courier;                /* NULL: no agent is woken */
    void (*describe)(void *frontend, struct buf *out); /* who is connected; NULL: nobody knows */
    void *frontend;                                    /* its own, on this thread */
    struct trouble_tree troubles;
    uint32_t quarantined;
    struct attended_due_tree attended;
    uint64_t attended_made;
    struct attended_walk {
        struct chore chore;
        bool wanted, parked;
        uint8_t id_size;
        char id[CORE_ID_BYTES]; /* of the entry walked last */
    } attended_walk;
    struct {
        struct session_list queue; /* with agents waiting for a call; they take turns */
        uint32_t under_way;        /* looks and orders */
        uint32_t unreachable;      /* agents whose breaker is open because they did not answer */
        uint64_t calls;            /* made so far */
    } wakes;

    int64_t wall_ms; /* of this turn */
    int64_t now_ms;
    int64_t slice_until_ns; /* what can go on in the next turn does so from here on */
    struct {
        unsigned lane, frontend;
        unsigned taken;    /* of its share */
    } visit;               /* the ring that requests are taken from next */
    struct arena scratch;  /* of the command being worked on */
    struct run *spare_run; /* of commands.c, kept for its buffers */
    struct buf snapshot;   /* of snapshots.c, the same */
    struct shard_stats stats;
};

/* ---- shard.c */

struct shard_options {
    unsigned number;
    struct datadir *dir;
    struct io *io; /* may be NULL for shard_new; set before shard_open */
    const struct core_limits *limits;
    const struct shard_settings *settings;
    _Atomic(const char *) *failed;
    _Atomic uint64_t *full;
    const struct wake_courier *courier;                /* NULL: no agent is woken */
    void (*describe)(void *frontend, struct buf *out); /* reactor_frontend_ops'; may be NULL */
    void *frontend;
    const atomic_bool *stop;         /* recovery ends early with -ECANCELED; may be NULL */
    struct shard_progress *progress; /* may be NULL */
    struct shard_health *health;     /* may be NULL */
    const struct pressure *pressure; /* the same */
};

/*
 * The start of a directory's shards, in this order:
 *   shard_new                    each, on any thread of its own: recovers from checkpoints and logs
 *   shard_write_first_checkpoint each, where a generation begins on an old directory (then
 *                                datadir_begin_generation)
 *   shards_settle                one thread for all: removes pins whose fork never came to be
 *   shard_open                   each, on its reactor's thread: opens its log for writing
 * 0, or -errno with a sentence.
 */
int shard_new(const struct shard_options *options, struct shard **shard, char *error,
              size_t error_size);
int shard_write_first_checkpoint(struct shard *shard, struct datadir_checkpoint *checkpoint,
                                 int *fd, char *error, size_t error_size);
void shards_settle(struct shard **shards, unsigned n);
int shard_open(struct shard *shard, enum log_durability durability, char *error, size_t error_size);
/*
 * At the end, when all frontends have drained and shard_idle: once a turn until it says true.
 * Snapshots what is active, then writes a last checkpoint. Where less than half a second of the
 * grace is left it gives up, which costs the next start some reading.
 */
bool shard_stop(struct shard *shard, int64_t grace_left_ms);
/* Whether shard_stop has left a checkpoint of all there is. */
bool shard_stopped_clean(const struct shard *shard);
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
/* Gives the chore a piece of every turn from the next on. */
void shard_chore(struct shard *shard, struct chore *chore);
int64_t shard_clock_ns(const struct shard *shard); /* its io's: monotonic */

void shard_dispatch(struct shard *shard, struct request *request);
/* What a session has only while it is in memory: with none there is nothing to end, and it is done.
 */
static inline bool shard_ends_something(const struct request *request)
{
    return request->kind == REQUEST_CANCEL || request->kind == REQUEST_UNFOLLOW ||
           request->kind == REQUEST_UNHAND;
}
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
/* The disk cannot be relied on (a positive errno): nothing that is not committed is shown any more,
 * and the process is to end. */
void shard_fail(struct shard *shard, int error);
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
enum reply_kind { REPLY_REQUEST, REPLY_FRAME, REPLY_LOST, REPLY_ENDED, REPLY_RELAY };

enum { REPLY_KIND_MASK = 7 };

static inline struct ring_item reply_item(enum reply_kind kind, void *p, uint64_t feed)
{
    assert(((uintptr_t)p & REPLY_KIND_MASK) == 0);
    return (struct ring_item){(void *)((uintptr_t)p + kind), feed}; /* `p` may be NULL */
}

static inline enum reply_kind reply_kind(struct ring_item item)
{
    return (enum reply_kind)((uintptr_t)item.p & REPLY_KIND_MASK);
}

static inline void *reply_pointer(struct ring_item item)
{
    return (void *)((uintptr_t)item.p & ~(uintptr_t)REPLY_KIND_MASK);
}

/* Calls `call` when all that is in the log now is committed (at once, if it is), or with -EIO when
 * it never will be. */
void shard_call_committed(struct shard *shard, void (*call)(void *owner, int error), void *owner);

/* ---- directory.c */

uint64_t entry_hash(const struct shard *shard, struct str id);
struct entry *entry_find(struct shard *shard, struct str id);
struct entry *entry_find_hashed(struct shard *shard, struct str id, uint64_t hash);
struct entry *entry_find_or_make(struct shard *shard, struct str id);
/* Has the processor fetch what stands in memory for these ids, all at once: who looks at one after
 * the other waits for each, and for each thing that it leads to. Changes nothing. */
enum { ENTRIES_FETCHED = 8 };
void entries_fetch(struct shard *shard, const uint64_t *hashes, unsigned n);
/* Frees it where it is passive and has no life. */
void entry_drop_if_vacant(struct shard *shard, struct entry *entry);
/* First one whose id is above `id` (p == NULL: the first of all), in order. */
struct entry *entry_after(struct shard *shard, struct str id);
struct entry *entry_at_or_after(struct shard *shard, struct str id);
struct entry *entry_next(struct entry *entry);
/* A life has come into being (by 1) or ended (by -1). */
void entry_count_life(struct shard *shard, const struct entry *entry, int by);
/* Of a life: where it stands, whether in memory or not. False: there is none. */
struct entry_life {
    uint64_t epoch;
    log_position head, base;
};
bool entry_life(const struct entry *entry, struct entry_life *life);
/* 64 bits that hold two for each label's key and two for each key and value: where a label's bits
 * are missing the session does not have it (a signature file: Faloutsos and Christodoulakis, 1984).
 */
uint64_t signature_of(const struct core_labels *labels);
uint64_t signature_of_filter(const struct request_label_filter *filter);
void directory_free(struct shard *shard);

/* ---- sessions.c */

/* The session in memory, NULL: passive or none. */
struct session *session_find(struct shard *shard, struct str id);
/* A session object for an entry without one, empty. */
struct session *session_new(struct shard *shard, struct entry *entry);
/* Begins loading a passive session: it is busy until then. Where it fails it is put into
 * quarantine. */
struct session *session_load(struct shard *shard, struct entry *entry);
/* The same of one that has an object already; all of it is committed. Its state, if it has one, is
 * there until the new one is. */
void session_read(struct shard *shard, struct session *session);
/* Its state and keys go, and its entry says where it stands: for quarantine.c. */
void session_put_away(struct shard *shard, struct session *session);
/* Says on stderr, and counts, that a passive session cannot be read back. */
void session_unreadable(struct shard *shard, const struct entry *entry, int error);
/* Begins a life: an empty core session under a new epoch, or one that was given out before (not 0).
 */
void session_begin(struct shard *shard, struct session *session, uint64_t epoch);
/* Ends it in memory: state, keys and skips are gone; feeds and waiters are the caller's to tell. */
void session_end(struct shard *shard, struct session *session);
/* Frees the object if it holds no life, nothing uncommitted and nobody pins it. */
void session_drop_if_vacant(struct shard *shard, struct session *session);
void sessions_free(struct shard *shard);
/* Used now: last to be passivated. */
void session_use(struct shard *shard, struct session *session);
/* Out of memory, if it may be: clean, committed, and nobody waits on it. */
bool session_passivate(struct shard *shard, struct session *session);
void session_epoch_text(const struct shard *shard, uint64_t epoch, char text[CORE_EPOCH_BYTES + 1]);
/* The number in such a text; 0: it is none. */
uint64_t session_epoch_number(struct str text);
/* Takes note of a record that was appended. `bytes`: what it takes in the log. */
void session_note_record(struct session *session, log_position position, uint64_t bytes);
/* From what a snapshot record says (NULL: there is none), which stands at `at`. */
void session_note_snapshot(struct shard *shard, struct session *session,
                           const struct record_snapshot *snapshot, const struct record_skip *at,
                           uint64_t bytes);

/* ---- quarantine.c */

/* Applying an event broke an invariant, and was undone with the whole request: the session is made
 * anew from its records, or put into quarantine where that has happened too often. */
void quarantine_broken(struct shard *shard, struct session *session, const char *why);
/* Puts it there: it is busy, and all of it is committed. What has queued behind it is refused. */
void quarantine_session(struct shard *shard, struct session *session, const char *why);
/* A request for one that is there: refused, unless it is to be rebuilt. */
void quarantine_request(struct shard *shard, struct entry *entry, struct request *request);
/* 503, and why. */
void quarantine_refuse(struct shard *shard, const struct entry *entry, struct request *request);
/* REQUEST_REBUILD of a session in memory. */
void quarantine_rebuild(struct shard *shard, struct session *session, struct request *request);
/* It has been made anew as `core`, which is about to take the place of what there was. */
void quarantine_compare(struct shard *shard, struct session *session,
                        const struct core_session *core);
/* What was shown of it up to there may not be what the log says; 0: nothing. */
uint64_t quarantine_doubtful_seq(struct shard *shard, const struct session *session);
/* Its life has ended. */
void quarantine_forget(struct shard *shard, struct entry *entry);
/* For REQUEST_STATUS: "rebuilds","quarantined","quarantine":[…], the first hundred. */
void quarantine_describe(struct shard *shard, struct buf *out);
void quarantine_free(struct shard *shard);

/* ---- budgets.c */

/* Whether the session has room for another event of this type; else *why says which budget is used
 * up. `bytes`: what the request has added already. */
bool budget_allows(const struct shard *shard, const struct session *session, enum core_type type,
                   size_t bytes, struct core_refusal *why);
/* A request that would take more memory, where there is little. True: answered, 503. `entry`: of
 * its session, may be NULL. */
bool budget_refuses_memory(struct shard *shard, const struct entry *entry, struct request *request);
/* Whether the session's rate allows the request's commands now. False: answered, 429. */
bool budget_rate_allows(struct shard *shard, struct session *session, struct request *request);

/* ---- snapshots.c */

/* Whether its records since the last snapshot outweigh that. */
bool snapshot_due(const struct shard *shard, const struct session *session);
/* Appends one, if the log has room for it now. 0 or log_reserve's errors. */
int snapshot_write(struct shard *shard, struct session *session);
/* The body of one into shard->snapshot, what it says of itself into *snapshot. */
void snapshot_encode(struct shard *shard, const struct session *session,
                     struct record_snapshot *snapshot);

/* ---- keys.c */

struct core_hash key_hash(struct str caller, struct str key);
struct core_hash key_body_hash(const struct request_command *commands, uint32_t n, bool batch,
                               bool atomic);
/* The entry, good until the next call, or NULL. Forgets what is older than its time first. */
struct key_entry *keys_find(const struct session *session, struct core_hash key, int64_t now_ms);
void keys_add(struct shard *shard, struct session *session, const struct key_entry *entry);
/* Takes back the newest n additions (their batch was undone). */
void keys_undo(struct session *session, uint32_t n);
/* The newest n additions lie in the record at `position`. */
void keys_place(struct session *session, uint32_t n, log_position position);
void keys_free(struct session *session);
/* How many there are, and into a body as a snapshot holds them. */
uint32_t keys_count(const struct session *session);
void keys_encode(const struct session *session, struct buf *body);

/* ---- commands.c */

void commands_execute(struct shard *shard, struct session *session, struct request *request);
void commands_delete(struct shard *shard, struct session *session, struct request *request);
/* Ends a life: a tombstone, its feeds and waiters told. log_reserve_tombstone(RECORD_END_BYTES)
 * must have said yes. */
void commands_end(struct shard *shard, struct session *session);
/* Where it has a ttl: puts it in the list of expiries, if it is not there. */
void commands_expire(struct shard *shard, struct session *session);
/* Whether one of the commands is a session.create. */
bool commands_create(const struct request *request);
/* Whether an event of this type changes who takes part in what. */
bool commands_changes_membership(enum core_type type);
void commands_free_spare(struct shard *shard);
/* Where the session stands, into the reply. */
void commands_stand(const struct session *session, struct request *request);

/* ---- trail.c: a session's records between a snapshot and some later place */

struct trail_record {
    struct log_record record; /* session and body in the trail's arena */
    log_position position;
};

struct trail_target {
    bool by_time;
    uint64_t seq;  /* the state after this event … */
    int64_t ts_ms; /* … or by_time: after the newest that is not later */
};

/*
 * The way to a past state: the newest snapshot at or before the target, and the records behind it
 * up to the next snapshot (or the head). Found by skips, then read back along `previous`.
 */
struct trail {
    struct shard *shard;
    /* In: */
    log_position head; /* a record of the session to begin from, with all that lies before */
    const struct record_skip
        *skips; /* known snapshots before it, newest first; good during start */
    uint32_t skips_n;
    struct trail_target target;
    bool newest; /* no target: what lies behind the newest snapshot */
    void (*done)(struct trail *trail, int error); /* 0; -ENOENT: gone, see `oldest`; -EIO */
    void *owner;
    /* Out: */
    struct trail_record base;     /* the snapshot; record.type 0: none, the life's beginning */
    struct trail_record *records; /* behind it, oldest first */
    uint32_t records_n;
    uint64_t oldest; /* -ENOENT: oldest seq whose state can be had, 0: none */
    /* Private to trail.c */
    struct log_read read;
    struct arena arena;
    struct record_snapshot *node;   /* whose skips say where to go on; NULL: `skips` do */
    uint64_t node_seq;              /* of that snapshot's state */
    log_position node_at;           /* where it stands, if it has to be collected too */
    log_position anchor;            /* read back from here on */
    struct record_skip looking_for; /* the snapshot that is being read */
    uint64_t gone_seq;              /* of the newest snapshot known to be gone */
    log_position at;                /* the record that is being read */
    int read_result, error;
    bool read_ready, collecting, going, finished;
    uint32_t records_cap;
};

/* For the committed history of a session in memory: sets head and skips. */
void trail_of(struct trail *trail, const struct session *session);
void trail_start(struct trail *trail);
void trail_free(struct trail *trail);

/* ---- past.c: the state as it stood */

struct past {
    struct shard *shard;
    struct trail trail;                         /* in: head, skips, target, newest */
    struct session *session;                    /* pinned; NULL when loading or listing */
    uint64_t epoch;                             /* of the life */
    struct request *request;                    /* the caller's own */
    void *owner;                                /* the same */
    void (*done)(struct past *past, int error); /* past_free is its business */
    bool keys;                                  /* in: also the keys, into `into` */
    struct session *into;
    /* Out: */
    struct core_session *core; /* taken by whoever sets it to NULL */
    struct core_chain chain;
    struct record_snapshot snapshot; /* what the newest snapshot says; ordinal 0: there is none */
    struct record_skip snapshot_at;
    uint64_t membership_seq;
    uint64_t snapshot_bytes, since_bytes;
    log_position last; /* the record with the newest event of the state */
    log_position first;
    /* Private */
    struct chore chore;
    uint32_t at; /* the record that comes next, or is being read */
    struct record_reader reader;
    bool open, reached;
};

struct past *past_new(struct shard *shard);
void past_start(struct past *past);
void past_free(struct past *past);
/* Of a session in memory: pins it and sets what past_start needs for its committed history. */
struct past *past_of(struct shard *shard, struct session *session, struct request *request);

/* ---- history.c: a range of a session's events */

struct history;
/* One event, in order. False: enough. The event is good during the call. */
typedef bool history_visit(struct history *history, const struct core_event *event,
                           struct str bytes);
typedef void history_done(struct history *history, int error);

struct history {
    struct shard *shard;
    struct session *session; /* pinned */
    struct request *request;
    uint64_t epoch;
    uint64_t after, until; /* events with after < seq <= until; until is committed */
    bool descending;
    history_visit *visit;
    history_done *done; /* once; history_free is its business. error: 0 or -errno; -ENOENT: gone;
                           -ESTALE: the session was deleted meanwhile */
    union {
        struct core_inbox inbox;
        struct frame_builder *frame;
        struct page *page;
        void *owner;
    } u;
    uint64_t last_seq;       /* the caller's own */
    bool full;               /* visit has said: enough */
    uint64_t oldest;         /* -ENOENT: events after this seq can be had */
    struct core_chain chain; /* before the first event that is visited, where chain is wanted */
    bool chain_wanted;       /* then every visit finds it as of after its event. Ascending only */
    /* Private to history.c */
    struct trail trail;
    struct chore chore;
    uint32_t at; /* the record that comes next, or is being read */
    struct record_reader reader;
    bool open;
    struct core_event *events; /* descending: of that record, as far as they have been read */
    struct str *bytes;
    uint32_t events_n;
    bool turned; /* all of them have: they are visited, the last one first */
};

struct history *history_new(struct shard *shard, struct session *session, struct request *request);
void history_start(struct history *history);
void history_free(struct history *history);

/* ---- feel.c */

/* Once a turn: tells how it is. */
void feel_turn(struct shard *shard);
/* Milliseconds until that changes by itself; -1: it does not. */
int feel_tick(const struct shard *shard);

/* ---- figures.c */

const struct shard_figures *shard_figures(const struct shard *shard, struct arena *arena);

/* ---- queries.c */

void query_view(struct shard *shard, struct session *session, struct request *request);
void query_thread(struct shard *shard, struct session *session, struct request *request);
void query_messages(struct shard *shard, struct session *session, struct request *request);
void query_events(struct shard *shard, struct session *session, struct request *request);
void query_status(struct shard *shard, struct request *request);
/* REQUEST_EXISTS of a session in memory, */
void query_exists(struct shard *shard, struct session *session, struct request *request);
/* and of any other. False: it is in memory, and not answered yet. */
bool query_exists_passive(struct shard *shard, struct request *request);
/* {"epoch":…,"seq":…,"ts":… without the closing brace */
void query_add_position(const struct core_session *core, struct buf *out);
/* {"epoch","seq","ts", and `reset` where there is one, "state"}; of the state what the request asks
 * to be shown. */
void query_envelope(const struct core_session *core, const struct request *request,
                    const char *reset, struct buf *out);

/* ---- lists.c */

void query_list(struct shard *shard, struct request *request);
/* For REQUEST_CHANGES too: */
bool list_matches(const struct core_session *core, const struct request *request);
/* Whether one of the request's patterns, if it has any, means the session. */
bool list_may_see(const struct request *request, struct str session);
/* Bits that a signature must have to match. */
uint64_t list_signature(const struct request *request);
/* Answers when all that is not committed yet is. */
void list_reply(struct shard *shard, struct request *request);
/* Reads a passive session for the request, whose `made` is its id until `done`. */
void list_read(struct shard *shard, const struct entry *entry, struct request *request,
               void (*done)(struct past *past, int error));
/* In `done`: the session is still what was read, or could not be (that is said). */
bool list_read_same(struct past *past, int error);

/* ---- changes.c */

/* REQUEST_CHANGES. */
void changes_begin(struct shard *shard, struct request *request);
void changes_go_on(struct shard *shard, struct request *request);
/* REQUEST_CANCEL without a session: ends the wait of the frontend's `token`. */
void changes_cancel(struct shard *shard, struct request *request);
/* Once a turn, behind the requests. True: some that wait are still to be looked at. */
bool changes_turn(struct shard *shard);
/* Milliseconds until changes_turn has something to do, -1: nothing. */
int changes_tick(const struct shard *shard);
/* A record of the session is in the batch being built. */
void changes_note(struct shard *shard, struct session *session);
/* An event is about to be applied: what it changes of the labels. */
void changes_expect(struct session *session, const struct core_event *event);
/* The session's life ends in the batch being built; its state is still there. */
void changes_end(struct shard *shard, struct session *session);
/* It leaves memory, or has come back. */
void changes_depart(struct shard *shard, struct session *session);
void changes_return(struct shard *shard, struct session *session);
/* Whether it is as it was at that position. */
bool changes_none_since(const struct shard *shard, const struct session *session,
                        uint64_t position);
/* Adds a summary to the reply. */
void changes_add_summary(struct request *request, const struct core_session *core);
void changes_free(struct shard *shard);

/* ---- past_queries.c */

/* A view with `at`, a diff, a proof. */
void query_past(struct shard *shard, struct session *session, struct request *request);
void query_diff(struct shard *shard, struct session *session, struct request *request);
void query_proof(struct shard *shard, struct session *session, struct request *request);
/* Answers 400, 404 or 410 where `at` cannot be had of this session; else true and the target. */
bool query_target(struct shard *shard, struct session *session, struct request *request,
                  const struct request_at *at, const char *field, struct trail_target *target);
/* "chain":"…","state_hash":"…" */
void query_add_proof(const struct core_session *core, const struct core_chain *chain,
                     struct buf *out);
void query_add_chain(const struct core_chain *chain, struct buf *out); /* its hex digits */
/* Answers for a past or a history that ended in `error`. */
void query_gone(struct shard *shard, struct session *session, struct request *request,
                const char *field, int error, uint64_t oldest);

/* ---- export.c */

void export_page(struct shard *shard, struct session *session, struct request *request);
void import_page(struct shard *shard, struct session *session, struct request *request);

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
/* The same for a session in quarantine, with nothing that is not committed. */
void inbox_try_all(struct shard *shard, struct session *session);
/* The session is gone: all its waits are tried again (and find that out). */
void inbox_wake_all(struct shard *shard, struct session *session);

/* Something of what the agent was handed out has ended: its waits with `hand` are tried again. */
void inbox_given_back(struct shard *shard, struct session *session, struct str agent);
/* The same, in a run whose events are in the log: inbox_wake_marked follows. */
void inbox_mark_handed(struct session *session, struct str agent);

/* ---- attended.c */

/* A session was loaded, or is whole now: follows what its state says. */
void attended_load(struct shard *shard, struct session *session);
/* An event for which core_event_attends was applied: notes its agent, for attended_follow. */
void attended_note(struct buf *agents, const struct core_event *event);
/* The events are in the log. */
void attended_follow(struct shard *shard, struct session *session, struct str agents);
/* Its life ends, or it leaves memory. */
void attended_free(struct shard *shard, struct session *session);
/* Whether it may leave memory: no lease runs, and nothing is to be told. */
bool attended_may_leave(struct session *session);
/* A client speaks: its agents are there. */
void attended_hear(struct shard *shard, struct session *session, const struct request *request);
/* REQUEST_TOUCH. */
void attended_touch(struct shard *shard, struct session *session, struct request *request);
/* A wait of the agent is held (by 1), or was answered (by -1). */
void attended_waits(struct shard *shard, struct session *session, struct str agent, int by);
/* An event was applied: it may be news for those with a target. (Undone: they find none.) */
void attended_news(struct shard *shard, struct session *session, const struct core_event *event);
/* Messages that the agent was handed out are unread again. */
void attended_unread(struct shard *shard, struct session *session, struct str agent);
void attended_turn(struct shard *shard);
/* Milliseconds until attended_turn has something to do, -1: nothing. */
int attended_tick(struct shard *shard);
/* After a start: has those sessions loaded that recovery has found (attended_walk.wanted). */
void attended_begin(struct shard *shard);
/* A session was loaded, or could not be. */
void attended_loaded(struct shard *shard);

/* ---- hands.c */

/* The seqs that the agent was handed out, ascending: to be freed; NULL: none. */
uint64_t *hands_seqs(struct session *session, struct str agent, uint32_t *n);
/* Whether one of the answer's messages was handed out meanwhile. */
bool hands_hold_any(struct session *session, const struct core_inbox *inbox);
/* Hands out what the answer holds (something): what REQUEST_UNHAND gives back by. */
uint64_t hands_give(struct shard *shard, struct session *session, const struct core_inbox *inbox);
/* REQUEST_UNHAND. */
void hands_take_back(struct shard *shard, struct session *session, struct request *request);
/* An event was applied. */
void hands_touch(struct session *session, const struct core_event *event);
/* The events are in the log: what was touched ends as far as it is not unread any more. */
void hands_settle(struct shard *shard, struct session *session);
/* A life of the session ends, or the session leaves memory. */
void hands_end(struct shard *shard, struct session *session);
/* Once a turn: those whose time is over end. */
void hands_turn(struct shard *shard);
/* Milliseconds until hands_turn has something to do, -1: nothing. */
int hands_tick(const struct shard *shard);

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

/* `after`: the session, just after the event was applied to it; NULL: it was read from the log. */
void frame_builder_add(struct frame_builder *builder, unsigned wants,
                       const struct core_event *event, const struct core_session *after);
/* A frame with one reference, NULL where nothing was added; the builder is empty again. */
struct frame *frame_builder_take(struct frame_builder *builder);
void frame_builder_free(struct frame_builder *builder);

/* ---- forks.c */

void fork_begin(struct shard *shard, struct session *session, struct request *request);
void fork_pin(struct shard *shard, struct session *session, struct request *request);
void fork_unpin(struct shard *shard, struct request *request);
/* A life has ended: what it had pinned is let go, once none of its own forks need it. */
void fork_ended(struct shard *shard, struct str id, uint64_t epoch);
/* The highest seq that forks need of this life; 0: none. */
uint64_t fork_pinned(const struct shard *shard, struct str id, uint64_t epoch);
/* Whether there is one at all. */
bool fork_is_pinned(const struct shard *shard, struct str id, uint64_t epoch);
/* After recovery: counts the ended lives of which forks keep a part. */
void forks_count_kept(struct shard *shard);
/* The first that comes after it, in order; `pin`, `fork` may be keys alone. */
struct pin *fork_pin_after(struct shard *shard, const struct pin *pin);
struct fork *fork_after(struct shard *shard, const struct fork *fork);
/* The tables. Adding what is there changes it. */
void fork_add_pin(struct shard *shard, struct str parent, uint64_t epoch, struct str child,
                  uint64_t child_epoch, uint64_t at);
void fork_remove_pin(struct shard *shard, struct str parent, uint64_t epoch, struct str child,
                     uint64_t child_epoch);
struct fork *fork_add(struct shard *shard, struct str child, uint64_t epoch, struct str parent,
                      uint64_t parent_epoch, uint64_t at);
struct fork *fork_find(const struct shard *shard, struct str child, uint64_t epoch);
/* At start: forgets forks that have ended and that nothing pins; whether there were some. */
bool forks_sweep(struct shard *shard);
void forks_free(struct shard *shard);

/* ---- checkpoint.c */

/* Begins one; it goes on as a chore. */
void checkpoint_begin(struct shard *shard);
void checkpoint_free(struct shard *shard);

/* ---- recovery.c */

int recovery_run(struct shard *shard, const struct shard_options *options, char *error,
                 size_t error_size);

/* ---- upkeep.c */

void upkeep_turn(struct shard *shard);
/* Milliseconds until it has something to do, -1: nothing. */
int upkeep_tick(struct shard *shard);
/* Begins nothing more; what can be cut short is. */
void upkeep_stop(struct shard *shard);
/* A checkpoint or a compaction is under way. */
bool upkeep_busy(const struct shard *shard);
void upkeep_free(struct shard *shard);
/* REQUEST_KEEP: what of these lives is needed. */
void upkeep_keep(struct shard *shard, struct request *request);
/* A life has ended: its records are to go. `garbage` is copied. */
void upkeep_add_garbage(struct shard *shard, const struct garbage *garbage);
struct garbage *upkeep_garbage_after(struct shard *shard, uint64_t number);
/* After recovery, which may find one twice: each once, the oldest first. */
void upkeep_settle_garbage(struct shard *shard);
/* A session with a ttl: to be looked at when it may be due. */
void upkeep_expires(struct shard *shard, struct entry *entry, int64_t due_ms);
/* It leaves memory: it may be due just then and no earlier. */
void upkeep_passive_expires(struct shard *shard, struct entry *entry, int64_t due_ms,
                            uint64_t ttl_s);
/* It has a ttl, of which more than half is over, or may be. */
bool upkeep_half_over(struct shard *shard, struct entry *entry);
/* Its life has ended. */
void upkeep_never_expires(struct shard *shard, struct entry *entry);
/* The first one that comes after (due_ms, number), in order; NULL: there is none. */
struct expiry *upkeep_expiry_after(struct shard *shard, int64_t due_ms, uint64_t number);

#endif
