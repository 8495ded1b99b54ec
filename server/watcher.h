/*
 * watcher: one session watched on one connection, whatever face it has.
 *
 * A reactor has one feed for each session that its connections watch. The shard sends a feed its
 * frames once; the feed keeps the newest in a list, and a watcher is a place in that list. So a
 * frame is encoded once, its text is made once for each form (SSE, WebSocket, …) and shared, and a
 * watcher that is slow pins no text of its own.
 *
 *     ASKING   a question about what lies before is at the shard; frames go on being kept
 *     LIVE     says what follows its place, as far as its connection takes it
 *     BEHIND   has to ask for what follows `told` (patches from the log), or to begin anew
 *     ENDING   says what is left, then nothing
 *
 * What is said of a LIVE one that is behind by
 *     at most WATCHER_MERGE_FRAMES and WATCHER_MERGE_BYTES     each patch as it came
 *     more                                                     one merged patch (compose.h)
 *     more than the feed keeps (FEED_KEEP_FRAMES, _BYTES)      one snapshot, with `reset`
 * Watchers of events are never merged: those that fall out of the feed read on from the log.
 * Watchers that ask the same at the same time get one answer: a thousand that come back after a
 * restart cost one reading.
 *
 * The owner (stream.c, socket.c) is told when there is something to say, and calls watcher_fill
 * when its connection can take it.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_WATCHER_H
#define ATOLL_SERVER_WATCHER_H

#include "server/slots.h"
#include "server/timers.h"
#include "shards/mailbox.h"

#include <sys/queue.h>

enum {
    WATCHER_MERGE_FRAMES = 64,         /* frames behind, above which they are merged */
    WATCHER_MERGE_BYTES = 256 * 1024,  /* the same in bytes of frames */
    FEED_KEEP_FRAMES = 4096,           /* frames kept for the slowest watcher */
    FEED_KEEP_BYTES = 4 * 1024 * 1024, /* the same in bytes */
    FEED_RECENT_FRAMES = 16,           /* kept for those who come back, though nobody needs them */
    FEED_RECENT_BYTES = 8 * 1024,
    WATCHER_RETRY_MS = 50, /* until a question that could not be asked or answered */
};

struct chunk;
struct feed;
struct feed_ask;
struct feed_frame;
struct frontend;
struct outlet;
struct redaction;
struct watcher;

/* How the text of a message is framed. With the form wanted (enum request_wants) the key of a
 * text. */
enum watcher_framing {
    FRAMING_SSE,      /* event:, id:, data: */
    FRAMING_SSE_MANY, /* the same without id:, and "session" in data */
    FRAMING_WS,       /* a WebSocket frame with "event" and "id" in the object */
    FRAMING_WS_MANY,  /* the same and "session" */
    FRAMING_COUNT
};

struct watcher_ops {
    /* There is something to be said, or the watcher has ended: watcher_fill. Not to be closed in
     * this call. */
    void (*ready)(struct watcher *watcher);
    /* The first answer: it has begun, and watcher->epoch, shard are good. Before it nothing is
     * ready. */
    void (*begun)(struct watcher *watcher);
    /* Instead of the first answer: it cannot begin. Later, of events alone: it cannot go on, as
     * what it is to tell is no longer kept. To be closed by the owner, in the call or later. */
    void (*refused)(struct watcher *watcher, unsigned error, const struct core_refusal *why);
};

enum watcher_state {
    WATCHER_ASKING,
    WATCHER_LIVE,
    WATCHER_BEHIND,
    WATCHER_ENDING, /* `end` is queued or said */
};

struct watcher {
    const struct watcher_ops *ops;
    void *owner;
    struct frontend *frontend;
    struct feed *feed;
    struct watcher *previous, *next;   /* in its feed */
    struct watcher *next_asking;       /* with the same question */
    TAILQ_ENTRY(watcher) beginning;    /* its first answer is there */
    struct feed_ask *ask;              /* ASKING */
    struct feed_frame *at;             /* its place: the newest frame that it is beyond; counted */
    struct chunk *pending;             /* to be said before what follows `at`; NULL: nothing */
    uint64_t told;                     /* newest seq that was pushed, is pending, or was left out */
    uint64_t said;                     /* the same without those that were left out */
    uint64_t target;                   /* what is to be read from the log, up to here */
    uint64_t known;                    /* of the wish, until the first answer */
    const char *stale;                 /* it begins anew with this as `reset`; NULL: it need not */
    struct core_parts *parts;          /* own; NULL: all */
    const struct redaction *redaction; /* the owner's; NULL: nothing is hidden */
    struct timer retry;
    uint32_t types;         /* of events: bits 1 << core_type; 0: all */
    uint8_t state;          /* enum watcher_state */
    uint8_t framing;        /* enum watcher_framing */
    uint8_t form;           /* WANTS_PATCHES, WANTS_COMPACT or WANTS_EVENTS */
    bool begun, positioned; /* positioned: it goes on from `told` */
    bool has_known;
    bool is_beginning; /* in the list of those */
    uint16_t shard;
};

/* Where and what somebody wants to watch. Strings and parts need to live only during the call. */
struct watcher_wish {
    struct str session;
    unsigned form;
    enum watcher_framing framing;
    uint32_t types;
    const struct core_parts *parts;
    const struct redaction *redaction; /* NULL: nothing is hidden. Until watcher_close */
    struct str last_event_id;          /* n == 0: none. Wins over `after` */
    uint64_t after;
    bool has_after;
    /* Instead of these: a position of the session's shard (changes.c) up to which all was told. If
     * the session has not changed since, it goes on from where it stands; else a snapshot. */
    uint64_t known;
    bool has_known;
};

/* False: it cannot be asked for now (503); nothing was made. The watcher's memory is the owner's,
 * and must stay until watcher_close. */
bool watcher_open(struct watcher *watcher, struct frontend *frontend,
                  const struct watcher_wish *wish, const struct watcher_ops *ops, void *owner);
/* In the owner's `fill`: pushes what is to be said, as much as the outlet takes. True: there may be
 * more to say when this is out. */
bool watcher_fill(struct watcher *watcher, struct outlet *outlet);
/* The same for an owner that reads the texts itself, one or more messages in each. */
bool watcher_read(struct watcher *watcher, void (*each)(void *ctx, struct str text), void *ctx);
/* All is said, `end` included. */
bool watcher_ended(const struct watcher *watcher);
/* It has told all that its feed has: nothing is queued, asked or behind. */
bool watcher_level(const struct watcher *watcher);
void watcher_close(struct watcher *watcher);
struct str watcher_session(const struct watcher *watcher);
struct str watcher_epoch(const struct watcher *watcher);

/* A frontend's feeds. */
struct feeds {
    TAILQ_HEAD(, watcher) beginning;
    struct feed **buckets;
    uint32_t buckets_n, feeds_n;
    uint32_t watchers_max; /* of one session on this frontend; 0: no bound */
    struct slots tokens;
    struct slots asks;
};

void feeds_init(struct feeds *feeds);
/* What the mailbox brings. The request or the frame's reference is taken over. */
void feeds_on_reply(struct frontend *frontend, struct request *request);
void feeds_on_frame(struct frontend *frontend, uint64_t feed, struct frame *frame);
void feeds_on_notice(struct frontend *frontend, uint64_t feed, enum mailbox_notice notice);
/* Once a turn: begins watchers whose first answer is there, for OUTLET_SLICE_NS. True: some are
 * left. */
bool feeds_work(struct frontend *frontend);
/* All watchers are gone. */
void feeds_free(struct feeds *feeds);

#endif
