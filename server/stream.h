/*
 * stream: the face of one session watched as server-sent events: /stream, and /events where the
 * client accepts an event stream.
 *
 *     event: patch                        snapshot, patch (of /stream); event (of /events); end
 *     id: <epoch>-<seq>-<view>            framing.h
 *     data: {...}
 *
 * Normal path: a watcher is opened while the exchange is still HTTP, so that what cannot be watched
 * is refused as any request is. When it has begun, the connection leaves HTTP (outlet.h), and the
 * watcher says what there is whenever it can be written.
 * A stream that begins with a large snapshot is gzip (gzip.h) where the client accepts that.
 * End: the session is deleted: `event: end`. Draining: `retry:` with some jitter behind what was
 * written. A client that takes nothing for --write-timeout is cut off.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_STREAM_H
#define ATOLL_SERVER_STREAM_H

#include "core/base.h"

enum {
    STREAM_COME_BACK_MIN_MS = 100, /* `retry:` when draining, with jitter */
    STREAM_COME_BACK_MAX_MS = 1000,
};

struct call;
struct exchange;

/* Serves ROUTE_STREAM and, where the client accepts an event stream, ROUTE_EVENTS. */
void stream_open(struct exchange *exchange, const struct call *call);

/* For all faces that are event streams: the head of the answer; what is said when there is nothing
 * to say; when to come back. */
void stream_set_head(struct exchange *exchange, bool gzip);
struct chunk *stream_comment(void);
struct chunk *stream_retry(void);

#endif
