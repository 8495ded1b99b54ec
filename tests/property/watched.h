/*
 * Goes before every file of the product that the test of watchers compiles for itself (-include, by
 * CMake): bounds that the test sets anew for each history, small enough to be met all the time, and
 * a look at every event just as it is applied. The files themselves are as they are.
 */
#ifndef ATOLL_TESTS_WATCHED_H
#define ATOLL_TESTS_WATCHED_H

#include "core/core.h"
#include "server/watcher.h"
#include "shards/limits.h"

struct watched_bounds {
    uint32_t merge_frames, merge_bytes;
    uint32_t keep_frames, keep_bytes;
    uint32_t recent_frames, recent_bytes;
    uint32_t request_ring, reply_ring; /* powers of two */
    uint32_t catch_up_bytes;
};

extern struct watched_bounds watched_bounds;

/* core_apply, and what the session is after it is noted. */
int watched_apply(struct core_session *s, const struct core_event *event, struct core_refusal *why);

/* In the place of outlet_push: into the hands of a client without a connection. */
void watched_push(struct outlet *outlet, struct chunk *chunk, struct str text);
/* In the place of outlet_clock_ns: goes on by being looked at. */
int64_t watched_clock_ns(void);

/* The enums of the headers above have these names; from here on they mean the test's. */
#define WATCHER_MERGE_FRAMES watched_bounds.merge_frames
#define WATCHER_MERGE_BYTES watched_bounds.merge_bytes
#define FEED_KEEP_FRAMES watched_bounds.keep_frames
#define FEED_KEEP_BYTES watched_bounds.keep_bytes
#define FEED_RECENT_FRAMES watched_bounds.recent_frames
#define FEED_RECENT_BYTES watched_bounds.recent_bytes
#define REQUEST_RING_ITEMS watched_bounds.request_ring
#define REPLY_RING_ITEMS watched_bounds.reply_ring
#define REPLY_CREDITS (watched_bounds.reply_ring / 2)
#define CATCH_UP_BYTES watched_bounds.catch_up_bytes

#ifndef ATOLL_WATCHED_TEST
#define core_apply watched_apply
#define outlet_push watched_push
#define outlet_clock_ns watched_clock_ns
#endif

#endif
