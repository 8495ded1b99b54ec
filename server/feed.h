/*
 * feed: what a reactor has of a session that its connections watch: the newest frames, and who
 * stands where among them. Private to watcher*.c and feed.c.
 *
 * Frames are kept as long as a watcher has not told them, within FEED_KEEP_FRAMES and _BYTES; what
 * a slower one still stands on is then marked `gone`, and its memory but for the node let go of.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_FEED_H
#define ATOLL_SERVER_FEED_H

#include "server/frontend.h"

enum { FEED_MERGED = 4 };

/* Frames in the order of their seqs; watchers stand on them. The first one of a feed is empty. */
struct feed_frame {
    struct feed_frame *next;
    struct frame *frame;  /* one reference; NULL: empty, or given up */
    struct chunk *texts;  /* of all its events, one for each framing and form that was wanted */
    uint64_t number;      /* of frames up to it */
    uint64_t total_bytes; /* of frames up to it */
    uint64_t first_seq, last_seq;
    uint32_t standing; /* watchers whose place it is */
    bool gone;         /* what follows it is no longer kept */
};

/* A merged patch that others may want too. */
struct feed_merged {
    struct chunk *chunk;
    uint64_t after, upto;
};

/* A session that connections of this reactor watch. */
struct feed {
    struct feed *next; /* in its bucket */
    uint64_t hash;
    uint64_t token;
    unsigned wants;    /* of all its watchers, together */
    bool attached;     /* frames come; false: some did not, ask */
    bool ended;        /* the session was deleted: no longer findable, no frames come */
    uint64_t last_seq; /* of the session, as far as is known */
    uint16_t shard;
    struct watcher *watchers;
    uint32_t begun_n; /* of them that have begun */
    struct feed_ask *asks;
    struct feed_frame *oldest, *newest;
    uint32_t frames_n;
    struct feed_merged merged[FEED_MERGED];
    unsigned merged_next;
    uint8_t epoch_n, id_n;
    char epoch[CORE_EPOCH_BYTES];
    char id[CORE_ID_BYTES];
};

static inline struct str feed_id(const struct feed *feed)
{
    return (struct str){feed->id, feed->id_n};
}

static inline struct str feed_epoch(const struct feed *feed)
{
    return (struct str){feed->epoch, feed->epoch_n};
}

/* The feed of a session, made where there is none. */
struct feed *feed_find_or_make(struct frontend *frontend, struct str id);
/* Frees a feed that nobody watches and nothing is asked for; the shard is told. */
void feed_drop_if_idle(struct frontend *frontend, struct feed *feed);
/* The session was deleted: it is no longer findable. */
void feed_end(struct frontend *frontend, struct feed *feed);
/* Another life than its frames are of, and nothing has told of the end: they are let go of, and
 * whoever stands on them begins anew. */
void feed_begin_life(struct feed *feed);
/* Where one stands who has told all up to `seq`: the last frame before what follows. What follows
 * may be missing nevertheless. */
struct feed_frame *feed_place(const struct feed *feed, uint64_t seq);
/* A watcher's place. */
void feed_leave(struct watcher *watcher);
void feed_stand(struct watcher *watcher, struct feed_frame *at);

#endif
