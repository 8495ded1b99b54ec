/*
 * request: what crosses the rings. A frontend sends requests to the shard that owns the session;
 * the same object comes back as the reply. Besides replies, a shard delivers to a frontend the
 * frames of sessions that it follows, and notices about them.
 *
 * Ownership: a request owns all its bytes (arena, body) and points into no connection, pool or
 * session. It belongs to the frontend until mailbox_send has taken it, then to the shard until it
 * comes back. Frames are immutable and counted: see frame_release.
 *
 * This header is all that faces know of shards. It knows no HTTP; `status` only follows its
 * numbers.
 */
#ifndef ATOLL_SHARDS_REQUEST_H
#define ATOLL_SHARDS_REQUEST_H

#include "core/core.h"

#include <stdatomic.h>

enum request_kind {
    REQUEST_COMMANDS, /* one command or a batch, to one session */
    REQUEST_DELETE,   /* end this life of a session */
    REQUEST_VIEW,     /* the whole view */
    REQUEST_THREAD,   /* one thread of it */
    REQUEST_MESSAGES, /* a page of a thread's messages */
    REQUEST_EVENTS,   /* a page of events as JSON */
    REQUEST_INBOX,    /* unread messages of an agent; may wait */
    REQUEST_CANCEL,   /* end the wait of `token` (it is answered with what there is: nothing) */
    REQUEST_FOLLOW,   /* begin or go on watching a session: snapshot or events, then frames */
    REQUEST_UNFOLLOW, /* this frontend no longer watches the session */
    REQUEST_LIST,     /* sessions of this shard */
    REQUEST_STATUS,   /* figures of this shard */
    REQUEST_DIFF,     /* RFC 6902 operations from the view at one seq to the view at another */
    REQUEST_PROOF,    /* chain and state hash at a seq */
    REQUEST_FORK,     /* make `session` a fork of `parent`; sent to the shard of the new one */
    REQUEST_EXPORT,   /* a page of a session as NDJSON: events, their bytes and chain */
    REQUEST_IMPORT,   /* a page of the same, to make a session of */
    REQUEST_CHANGES,  /* summaries of sessions of this shard: all, or what has changed */
    REQUEST_EXISTS,   /* whether there is such a session: nothing is loaded */
    REQUEST_RELAY,    /* bytes for another frontend: the one of the shard it is sent to */
    REQUEST_UNHAND,   /* gives back what an inbox answer with `hand` held */
    REQUEST_TOUCH,    /* `agent` is there: its lease begins anew */
    REQUEST_REBUILD,  /* the session's state is made anew from its records; ends a quarantine */
    /* Between shards: errands (mailbox.h). */
    REQUEST_PIN,   /* a fork needs this session up to `at`; the answer is the state there */
    REQUEST_UNPIN, /* it does no longer */
    REQUEST_KEEP   /* which records of a segment are still needed (compact.h) */
};

/* Errors beyond the core's own, continuing its numbers: code, status, name, title. */
#define REQUEST_ERRORS(X)                                                                          \
    X(FORBIDDEN, 403, "forbidden", "Forbidden")                                                    \
    X(GONE, 410, "gone", "No longer kept")                                                         \
    X(NOT_APPLIED, 424, "not-applied", "Not applied")                                              \
    X(TOO_MANY, 429, "too-many", "Too many")                                                       \
    X(OVERLOADED, 503, "overloaded", "Overloaded")                                                 \
    X(UNAVAILABLE, 503, "unavailable", "Unavailable")                                              \
    X(QUARANTINED, 503, "quarantined", "Quarantined")                                              \
    X(NO_SPACE, 507, "no-space", "No space left for the log")

enum request_error {
    REQUEST_E_FIRST = CORE_ERROR_COUNT - 1,
#define X(code, status, name, title) REQUEST_E_##code,
    REQUEST_ERRORS(X)
#undef X
        REQUEST_ERROR_COUNT
};

/* For core errors and ours. */
int request_error_status(unsigned code);
const char *request_error_name(unsigned code);
const char *request_error_title(unsigned code);

/* One command of a request; decoded by the face, everything in the request's arena. */
struct request_command {
    struct core_command command;
    struct str key;        /* idempotency key, p == NULL: none */
    uint64_t expected_seq; /* good where has_expected */
    bool has_expected;
    struct core_refusal *bad; /* not NULL: it could not be decoded, and this is its answer */
    struct str ref;           /* JSON text without newlines; p == NULL: none. See `refs` */
};

/* One event of a session that is being imported. In the request's arena. */
struct request_import {
    uint64_t line;           /* of the file, for messages */
    struct str bytes;        /* core_event_encode's */
    struct str json;         /* as core_event_json writes it; compared byte for byte */
    struct core_chain chain; /* after it */
};

/* A past state that is asked for. */
struct request_at {
    struct str epoch; /* p == NULL: the life there is now */
    uint64_t seq;     /* good where by_time is not set */
    int64_t ts_ms;    /* by_time: the newest event that is not later */
    bool given, by_time;
};

/* Forms of what followers get: patches of the whole view, events, patches of the compact view
 * (messages without `content` and `data`). */
enum request_wants { WANTS_PATCHES = 1, WANTS_EVENTS = 2, WANTS_COMPACT = 4 };

struct request_label_filter {
    struct str key;
    struct str value; /* p == NULL: any value */
};

/*
 * A run of consecutive events of one session, encoded once. `bytes` holds for each item its patch
 * object ({"seq","ts","type","actor","ops"}), its event object, its compact patch, as the followers
 * wanted.
 */
struct frame_item {
    uint64_t seq;
    uint32_t patch_offset, patch_size; /* size 0: not encoded */
    uint32_t event_offset, event_size;
    uint32_t compact_offset, compact_size;
    /* message.sent: messages in its thread's window afterwards; FRAME_WINDOW_UNKNOWN: read from the
     * log, or another event. For merging (server/compose.h). */
    uint32_t window;
};

#define FRAME_WINDOW_UNKNOWN UINT32_MAX

struct frame {
    atomic_uint references; /* one for each frontend (and one for the shard while it holds it) */
    uint32_t items_n;
    struct frame_item *items;
    char *bytes;
    uint64_t first_seq, last_seq;
};

/* Takes one reference more. Any thread that holds one. */
void frame_hold(struct frame *frame);
/* Gives up one reference; the last one frees. Any thread; cannot fail. */
void frame_release(struct frame *frame);

/* One thing that a REQUEST_CHANGES tells of a session. */
enum request_change_kind {
    CHANGE_SUMMARY,   /* {"session","epoch","status","labels","seq","ts","created_at","agents",
                         "threads","messages"} */
    CHANGE_DELETED,   /* {"session","epoch","seq","reason"} */
    CHANGE_UNMATCHED, /* the same: its labels are no longer those asked for */
};

struct request_change {
    struct str session, epoch; /* in the arena */
    size_t offset, size;       /* of its object, in the body */
    enum request_change_kind kind;
};

struct compact_life;

struct request {
    /* ---- whose it is and where it goes */
    struct request *next; /* the holder's own use */
    enum request_kind kind;
    uint16_t frontend;  /* set by mailbox_send */
    uint16_t shard;     /* set by mailbox_send */
    uint64_t token;     /* the frontend's own (slot and generation); comes back as it was */
    struct str session; /* in the arena */
    uint64_t hash;      /* of `session`, set by mailbox_send; 0: not known */
    struct arena arena; /* owns all that goes in */

    /* An errand: who gets the reply, instead of the frontend. On the sending shard's thread. */
    void (*errand)(void *owner, struct request *request);
    void *errand_owner;
    /* The shard's own. COMMANDS: its run; INBOX: the session that holds the wait. */
    void *work;

    /* ---- REQUEST_COMMANDS, REQUEST_DELETE */
    struct request_command *commands;
    uint32_t commands_n;
    bool batch;        /* answer in the form of many, even where it holds one */
    bool atomic;       /* all or none */
    bool refs;         /* a batch, not atomic, whose answer is lines: each command's result as an
                          object that begins with its `ref`. A whole that is refused has none */
    struct str key;    /* idempotency key of the whole request; with a single command its own `key`
                          is put here by the face. p == NULL: none */
    struct str caller; /* whose key it is; empty: anonymous */
    /* If-Match: the session must stand at exactly this epoch and seq (p == NULL: not asked). */
    struct str expected_epoch;
    uint64_t expected_seq;

    /* ---- the reply */
    unsigned error;  /* 0, or a core/request error: then `refusal` says why */
    bool replayed;   /* the answer of an earlier request with the same key */
    uint64_t seq;    /* where the session stood when it was answered */
    struct buf body; /* JSON. COMMANDS: the answer (also with error REFUSED of an atomic batch: its
                        results). VIEW: the envelope, FOLLOW: the snapshot, where there is one.
                        LIST: session objects, comma separated. DIFF, PROOF, FORK: the answer.
                        EXPORT: lines. PIN: private */
    struct str made; /* id of what a single command made, in the body; p == NULL: nothing */
    char epoch[CORE_EPOCH_BYTES + 1];

    /* ---- reading */
    struct str thread;      /* THREAD, MESSAGES */
    uint64_t after, before; /* MESSAGES, EVENTS; FOLLOW: `after`, good where has_after */
    bool has_after, has_before;
    uint32_t limit;             /* MESSAGES, EVENTS, INBOX, LIST */
    uint32_t types;             /* EVENTS: bit 1 << core_type; 0: all */
    struct str agent;           /* EVENTS: about this agent only; p == NULL: all. `thread` too.
                                   UNHAND: whose inbox it is. TOUCH: who is there */
    int64_t since_ms, until_ms; /* EVENTS: since <= ts < until, good where has_… */
    bool has_since, has_until;
    bool descending;                     /* EVENTS: newest first */
    struct request_at at;                /* VIEW, PROOF, FORK, PIN; DIFF: from */
    struct request_at to;                /* DIFF */
    struct core_inbox_query inbox;       /* INBOX; strings in the arena */
    bool wait;                           /* INBOX, CHANGES: hold until there is something or
                                            REQUEST_CANCEL */
    bool hand;                           /* INBOX: leaves out what somebody else was handed, and
                                            hands out what the answer holds: until it is
                                            acknowledged, given back, or HANDED_MS have gone by */
    uint64_t handed;                     /* INBOX, with `hand`, in the reply: names what was handed
                                            out, 0: nothing. UNHAND: that */
    struct str cursor;                   /* LIST, CHANGES: ids after this one; p == NULL: all */
    struct request_label_filter *labels; /* LIST, CHANGES: all must match */
    uint32_t labels_n;
    const struct str *patterns; /* LIST, CHANGES: only sessions that one of them means, which is an
                                   id, or ends in `*`: all that begin so. Good until the reply */
    uint32_t patterns_n;        /* 0: any session */

    /* ---- REQUEST_CHANGES: which sessions have changed after position `after`, the oldest change
     * first; or with `pages` all there are, by id, and `after`, where has_after, is only looked at.
     * REQUEST_CANCEL without a session ends its wait. */
    bool pages;
    const struct str *ids; /* only these, ascending; in the arena */
    uint32_t ids_n;        /* 0: any */

    /* ---- REQUEST_FORK, REQUEST_PIN, REQUEST_UNPIN */
    struct str parent; /* FORK: the session to fork; PIN, UNPIN: that is `session` … */
    struct str child;  /* … and this is the fork */
    uint64_t child_epoch;
    uint64_t pin_epoch; /* UNPIN: the life that was pinned; PIN answers it */
    uint64_t pin_place; /* PIN answers: where the record that holds seq `at` stands */

    /* ---- REQUEST_KEEP: lives whose verdicts are wanted, lent by the sender until the answer */
    struct compact_life **lives;
    uint32_t lives_n;
    bool expired; /* the segment's history is older than what is promised to be kept */

    /* ---- REQUEST_IMPORT: events after `after`; the first page (after == 0) makes the session */
    struct request_import *imports;
    uint32_t imports_n;
    bool import_more; /* this is not the last page */

    /* ---- REQUEST_FOLLOW */
    struct str after_epoch; /* epoch that `after` speaks of; p == NULL: the one there is */
    uint64_t until;         /* not 0: read (after, until] only, and do not attach */
    uint64_t feed;          /* the frontend's token for its feed of this session: comes back with
                               every frame and notice */
    unsigned wants;         /* enum request_wants */
    uint8_t tries;          /* the shard's own: how often it has been begun again */
    bool waited;            /* the shard's own: it has been tried again once. REBUILD: it has been
                               done; COMMANDS: they have been counted */
    bool catching_up;       /* the shard's own: it has set `until` */
    const char *stale;      /* not NULL: give a snapshot with this text as `reset`. CHANGES, in the
                               reply: why `after` is not good, and there is nothing else */
    bool events;            /* a snapshot is of no use: what is no longer kept is GONE */
    uint64_t known;         /* good where has_known: the follower stands where the session stands,
                               if that has not changed after this position (CHANGES) */
    bool has_known;

    /* ---- REQUEST_RELAY, by mailbox_send_to: it comes back with error 0 when `relay` has been put
     * on the other frontend's ring (mailbox_handlers.on_relay), with OVERLOADED where that has no
     * room. */
    struct str relay; /* in the arena */

    /* ---- VIEW and FOLLOW's snapshot: what of the state is shown */
    bool compact;                   /* messages without `content` and `data` */
    bool outline;                   /* VIEW: no messages, they are only counted */
    const struct core_parts *parts; /* in the arena; NULL: all */

    /* ---- more of the reply */
    uint64_t newest;   /* INBOX: seq of the newest message counted, in the answer or remaining; 0 */
    uint32_t unread;   /* INBOX: how many those are */
    bool mentioned;    /* INBOX, where it is bare: one of those mentions the agent */
    bool more;         /* LIST, CHANGES: there are further sessions behind the last one. EXPORT:
                          there are lines after `upto`. EXISTS: it has a ttl, of which more than
                          half may be over: an event of it is due */
    uint64_t oldest;   /* error GONE: the oldest seq whose state can be had (0: none) */
    uint32_t retry_ms; /* error TOO_MANY and some UNAVAILABLE: not to be tried again before; 0:
                          nobody can say */
    bool again;        /* FORK: it is there already, the same fork: 200 and not 201 */
    uint32_t count;    /* LIST: how many; last_id: where the page ends */
    struct str last_id;             /* in the arena. CHANGES: with `pages` */
    struct request_change *changes; /* CHANGES: in the arena */
    uint32_t changes_n, changes_cap;
    bool held; /* INBOX: it was held; what is refused then was there before */
    const struct shard_figures *figures; /* STATUS: in the arena */
    struct str connected; /* STATUS: what the frontend beside the shard tells of its connections; in
                             the arena */
    uint64_t position; /* CHANGES: all up to here was told; with `pages`: what changes after this is
                          to be asked for */
    /* FOLLOW: events (after, upto] as a frame (NULL: none), all being sent up to `upto`; where it
     * attached, frames with first_seq > attached will be delivered for `feed` from now on; ones
     * with last_seq <= attached may still be under way and are to be passed over. Where
     * upto < attached, ask for (upto, attached] with `until`. */
    struct frame *frame;
    uint64_t upto;
    uint64_t attached;

    /* ---- INBOX, the shard's own */
    struct request *wait_next; /* in the list of the session that holds the wait */
    unsigned wait_state;

    struct core_refusal refusal; /* its code is `error`'s, where that is the core's. The last, as
                                    most requests get none and need not clear its text */
};

/* Whether the pattern means the session: see `patterns`. */
bool request_pattern_means(struct str pattern, struct str session);

/* Makes an empty request, or takes one from the frontend's spares. Frontend's thread. */
struct request *request_new(void);
/* The same for one that may wait for long beside many others: with little memory, and no spare. */
struct request *request_new_small(void);
/* A request of commands or for an inbox that came back refused, to be sent once more. */
void request_again(struct request *request);
/* Frees it with all it owns, a frame it may hold included. Frontend's thread. */
void request_free(struct request *request);
/* Frees the spares that request_free kept for this thread; before the thread ends. */
void request_free_spares(void);

#endif
