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
    REQUEST_STATUS    /* figures of this shard */
};

/* Errors beyond the core's own, continuing its numbers: code, status, name, title. */
#define REQUEST_ERRORS(X)                                                                          \
    X(NOT_APPLIED, 424, "not-applied", "Not applied")                                              \
    X(OVERLOADED, 503, "overloaded", "Overloaded")                                                 \
    X(UNAVAILABLE, 503, "unavailable", "Unavailable")                                              \
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
};

enum request_wants { WANTS_PATCHES = 1, WANTS_EVENTS = 2 };

struct request_label_filter {
    struct str key;
    struct str value; /* p == NULL: any value */
};

/*
 * A run of consecutive events of one session, encoded once. `bytes` holds for each item its patch
 * object ({"seq","ts","type","actor","ops"}), its event object, or both, as the followers wanted.
 */
struct frame_item {
    uint64_t seq;
    uint32_t patch_offset, patch_size; /* size 0: not encoded */
    uint32_t event_offset, event_size;
};

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

struct request {
    /* ---- whose it is and where it goes */
    struct request *next; /* the holder's own use */
    enum request_kind kind;
    uint16_t frontend;  /* set by mailbox_send */
    uint16_t shard;     /* set by mailbox_send */
    uint64_t token;     /* the frontend's own (slot and generation); comes back as it was */
    struct str session; /* in the arena */
    struct arena arena; /* owns all that goes in */

    /* ---- REQUEST_COMMANDS, REQUEST_DELETE */
    struct request_command *commands;
    uint32_t commands_n;
    bool batch;        /* answer in the form of many, even where it holds one */
    bool atomic;       /* all or none */
    struct str key;    /* idempotency key of the whole request; with a single command its own `key`
                          is put here by the face. p == NULL: none */
    struct str caller; /* whose key it is; empty: anonymous */
    /* If-Match: the session must stand at exactly this epoch and seq (p == NULL: not asked). */
    struct str expected_epoch;
    uint64_t expected_seq;

    /* ---- reading */
    struct str thread;      /* THREAD, MESSAGES */
    uint64_t after, before; /* MESSAGES, EVENTS; FOLLOW: `after`, good where has_after */
    bool has_after, has_before;
    uint32_t limit;                /* MESSAGES, EVENTS, INBOX, LIST */
    uint32_t types;                /* EVENTS: bit 1 << core_type; 0: all */
    struct core_inbox_query inbox; /* INBOX; strings in the arena */
    bool wait;                     /* INBOX: hold until there is something or REQUEST_CANCEL */
    struct str cursor;             /* LIST: ids after this one; p == NULL: from the start */
    struct request_label_filter *labels; /* LIST: all must match */
    uint32_t labels_n;

    /* ---- REQUEST_FOLLOW */
    struct str after_epoch; /* epoch that `after` speaks of; p == NULL: the one there is */
    uint64_t until;         /* not 0: read (after, until] only, and do not attach */
    uint64_t feed;          /* the frontend's token for its feed of this session: comes back with
                               every frame and notice */
    unsigned wants;         /* enum request_wants */
    const char *stale;      /* not NULL: give a snapshot with this text as `reset` */

    /* ---- the reply */
    unsigned error;              /* 0, or a core/request error: then `refusal` says why */
    struct core_refusal refusal; /* its code is `error`'s, where that is the core's */
    struct buf body;             /* JSON. COMMANDS: the answer (also with error REFUSED of an atomic
                                    batch: its results). VIEW: the envelope, FOLLOW: the snapshot,
                                    where there is one. LIST: session objects, comma separated */
    char epoch[CORE_EPOCH_BYTES + 1];
    uint64_t seq;       /* where the session stood when it was answered */
    bool replayed;      /* the answer of an earlier request with the same key */
    struct str made;    /* id of what a single command made; p == NULL: nothing. In the arena */
    bool more;          /* LIST: there are further sessions behind the last one */
    uint32_t count;     /* LIST: how many; last_id: where the page ends */
    struct str last_id; /* in the arena */
    /* FOLLOW: events (after, upto] as a frame (NULL: none), all being sent up to `upto`; where it
     * attached, frames with first_seq > attached will be delivered for `feed` from now on; ones
     * with last_seq <= attached may still be under way and are to be passed over. Where
     * upto < attached, ask for (upto, attached] with `until`. */
    struct frame *frame;
    uint64_t upto;
    uint64_t attached;

    /* ---- the shard's own while it works on it */
    void *work;                /* COMMANDS: its run; INBOX: the session that holds the wait */
    struct request *wait_next; /* INBOX: in that session's list */
    unsigned wait_state;
};

/* Makes an empty request, or takes one from the frontend's spares. Frontend's thread. */
struct request *request_new(void);
/* Frees it with all it owns, a frame it may hold included. Frontend's thread. */
void request_free(struct request *request);
/* Frees the spares that request_free kept for this thread; before the thread ends. */
void request_free_spares(void);

#endif
