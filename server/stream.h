/*
 * stream: sessions watched live, /stream and /events as server-sent events.
 *
 * A reactor has one feed for each session that its connections watch, and a watcher for each such
 * connection. The shard sends a feed's frames once; their text is made once (sse.h) and shared.
 *
 * A watcher is
 *     OPENING   its first REQUEST_FOLLOW is at the shard; nothing has been said to the client
 *     LIVE      each frame goes to its queue, and from there to the socket, many at a time
 *     CATCHING  a REQUEST_FOLLOW is out for what it missed; frames that come meanwhile are held
 *     BEHIND    it missed something; when its queue is empty it asks for what follows `told`
 *
 * Normal path: OPENING -> (CATCHING, where the history comes in pieces) -> LIVE. A queue at its
 * bound is dropped as far as it is live, and the watcher is BEHIND: so a slow reader pins no
 * memory, slows no writer, and still gets everything. Whatever does not join on to what was told
 * (lost frames, a gap) ends in BEHIND too.
 * End: the session is deleted: `event: end` behind what is queued. Draining: `retry:` with some
 * jitter behind what is queued. A client that takes nothing for --write-timeout is cut off.
 */
#ifndef ATOLL_SERVER_STREAM_H
#define ATOLL_SERVER_STREAM_H

#include "server/slots.h"
#include "shards/mailbox.h"

enum {
    STREAM_QUEUE_FRAMES = 256,        /* waiting for one connection; at it: dropped, BEHIND */
    STREAM_QUEUE_BYTES = 1024 * 1024, /* the same in bytes */
    STREAM_SEND_CHUNKS = 64,          /* in one write */
    STREAM_RETRY_MS = 50,             /* until a REQUEST_FOLLOW that could not be sent or done */
    STREAM_COME_BACK_MIN_MS = 100,    /* `retry:` when draining, with jitter */
    STREAM_COME_BACK_MAX_MS = 1000,
};

struct call;
struct exchange;
struct frontend;
struct watcher;
struct feed_entry;

/* A frontend's feeds. Zero-initialise to make one. */
struct streams {
    struct feed_entry **buckets;
    uint32_t buckets_n, feeds_n;
    struct slots tokens;
    struct watcher *watchers; /* all of them */
};

/* Serves ROUTE_STREAM and, where the client accepts an event stream, ROUTE_EVENTS. */
void stream_open(struct exchange *exchange, const struct call *call);
/* What the mailbox brings. The request or the frame's reference is taken over. */
void stream_on_reply(struct frontend *frontend, struct request *request);
void stream_on_frame(struct frontend *frontend, uint64_t feed, struct frame *frame);
void stream_on_notice(struct frontend *frontend, uint64_t feed, enum mailbox_notice notice);
/* The exchange goes: frees the watcher. */
void stream_close(struct watcher *watcher);
/* One write, so that h2o finds out that the connection is gone. */
void stream_touch(struct watcher *watcher);
/* Ends all streams, telling the clients when to come back. */
void stream_drain(struct frontend *frontend);
/* All watchers are gone. */
void streams_free(struct streams *streams);

#endif
