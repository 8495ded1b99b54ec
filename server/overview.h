/*
 * overview: many sessions watched from afar on one connection: which there are, and a summary of
 * each that is new or has changed. Whatever face it has.
 *
 * An overview asks each shard, one question at a time, and asks on only when it has told what came.
 * First for pages of all sessions that match (REQUEST_CHANGES with `pages`), then, again and again,
 * for what has changed after a position; a shard answers that when something has, and every 100 ms
 * at most. So a slow reader gets of each session only how it stands by then, nothing queues for
 * it but one answer of each shard, and a session that changes all the time costs ten summaries a
 * second.
 *
 *     reset       {"reset":"why" or null}: forget what was told
 *     summary     {"session","epoch","status","labels","seq","ts","created_at","agents","threads",
 *                 "messages"}
 *     end         {"session","epoch","seq","reason":"deleted" or "unmatched"}
 *     ready       {"sessions":N}: N were told, and nothing that was there at the beginning is left
 *     position    {}: all is told up to its id
 *
 * Its id, `<start>-<view>.<position of shard 0>.<of shard 1>…`, says up to where all is told: each
 * position is good in this life of the process alone, which <start> names, and for what was wished,
 * of which <view> is a hash. An overview that is opened with one tells what has changed since;
 * where that cannot be known it begins with a reset and its reason.
 *
 * An end may name a session that was not told: one that is not in the set any more, and may have
 * been.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_OVERVIEW_H
#define ATOLL_SERVER_OVERVIEW_H

#include "server/watcher.h"
#include "shards/cluster.h"

enum {
    OVERVIEW_CHUNK_BYTES = 16 * 1024, /* of text made at once */
    OVERVIEW_POSITION_MS = 1000,      /* between two ids, where there is nothing else to say */
    OVERVIEW_RETRY_MS = 50,           /* until a question that could not be asked or answered */
    OVERVIEW_START_BYTES = 13,        /* of <start> … */
    OVERVIEW_VIEW_BYTES = 7,          /* … and <view> in an id */
    OVERVIEW_ID_BYTES = OVERVIEW_START_BYTES + 1 + OVERVIEW_VIEW_BYTES + 21 * DATADIR_SHARDS_MAX,
};

struct grant;
struct overview;

struct overview_ops {
    /* There is something to be said: overview_fill, or overview_next. */
    void (*ready)(struct overview *overview);
};

/* What is to be seen. Its strings need to live only during the call. */
struct overview_wish {
    const struct request_label_filter *labels; /* all must match … */
    uint32_t labels_n;
    const struct str *sessions; /* … and only these (with n != 0): ascending, each once */
    uint32_t sessions_n;
    struct grant *grant; /* of who watches, NULL: there are no keys. Held as long as it is open */
    unsigned form;      /* of what is told instead of summaries (enum request_wants); 0: they are */
    struct str last_id; /* n == 0: none */
    bool whole;         /* with last_id: tells every session all the same, and then what changed */
    enum watcher_framing framing; /* FRAMING_SSE_MANY or FRAMING_WS_MANY */
};

/* 0, or an error: why the grant does not allow to watch this. */
int overview_check(const struct overview_wish *wish, struct core_refusal *why);
/* Never refused, once it was checked: what cannot be asked now is asked later. `ready` comes after
 * the call. */
struct overview *overview_open(struct frontend *frontend, const struct overview_wish *wish,
                               const struct overview_ops *ops, void *owner);
void *overview_owner(const struct overview *overview);
/* In the owner's `fill`: pushes what is to be said, as much as the outlet takes. True: there may be
 * more to say when this is out. */
bool overview_fill(struct overview *overview, struct outlet *outlet);
void overview_close(struct overview *overview);

/* ---- for an owner who does not say it as it is, instead of overview_fill */

enum overview_event {
    OVERVIEW_NOTHING, /* for now: `ready` will come */
    OVERVIEW_RESET,
    OVERVIEW_SUMMARY,
    OVERVIEW_END,
    OVERVIEW_READY,
};

/* Strings are good until the next call with this overview. */
struct overview_item {
    struct str object;  /* as above */
    struct str session; /* SUMMARY, END */
    struct str epoch;   /* the same */
    uint16_t shard;     /* the same */
    bool deleted;       /* END: else unmatched */
};

enum overview_event overview_next(struct overview *overview, struct overview_item *item);
/* What last_id says of a shard, for watchers of its sessions; false: it is not good (any more). */
bool overview_since(const struct overview *overview, unsigned shard, uint64_t *position);
/* All that has come was taken with overview_next, and the last answer of each shard was whole:
 * overview_id speaks of all that was taken. Before `ready` never. */
bool overview_level(const struct overview *overview);
/* The text lies in `scratch`. */
struct str overview_id(const struct overview *overview, char scratch[OVERVIEW_ID_BYTES]);
/* Whether the id has moved since it was said, at least OVERVIEW_POSITION_MS ago. False: `ready`
 * will come when it is so. */
bool overview_moved(struct overview *overview);
/* The id was said, or will be. */
void overview_said(struct overview *overview);
/* One message of a stream as a chunk, with `id` where n != 0. */
struct chunk *overview_message(enum watcher_framing framing, struct str event, struct str id,
                               struct str object);

/* A token for the life of the process. */
void overview_make_start(char start[OVERVIEW_START_BYTES + 1]);

/* A frontend's overviews. Zero-initialise to make one. */
struct overviews {
    struct slots tokens;
};

/* What the mailbox brings for REQUEST_CHANGES. The request is taken over. */
void overviews_on_reply(struct frontend *frontend, struct request *request);
/* All overviews are closed. */
void overviews_free(struct overviews *overviews);

#endif
