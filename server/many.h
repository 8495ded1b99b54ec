/*
 * many: the face of many sessions watched as one event stream, GET /v1/stream.
 *
 * view=summary says what an overview has to say (overview.h). view=compact and view=full say the
 * sessions themselves instead: each is a member with a watcher of its own (watcher.h), which comes
 * and goes as the overview tells. Those that have something to say take turns.
 *
 *     reset, ready, position, end    as an overview says them; so all that was told up to an id is
 *                                    told of every member too
 *     snapshot, patch                of a member, with "session"
 *     refused                        {"session","error"}: it cannot be watched
 *
 * Going on from an id, a member that has not changed since says nothing but what follows; another
 * begins with a snapshot.
 *
 * Bounds: MANY_WATCHES_MAX members; those beyond are refused, the first MANY_REFUSED_MAX by name.
 * Snapshots are asked for MANY_ASKING_MAX at a time, so that a slow reader holds no more of them.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MANY_H
#define ATOLL_SERVER_MANY_H

enum {
    MANY_WATCHES_MAX = 10000,
    MANY_REFUSED_MAX = 1000,
    MANY_JOINING_MAX = 32, /* watchers that begin at the same time */
    MANY_ASKING_MAX = 48,  /* … or begin anew, or read from the log */
    MANY_BUCKETS_MIN = 64,
};

struct call;
struct exchange;

/* Serves ROUTE_MANY_STREAM. */
void many_open(struct exchange *exchange, const struct call *call);

#endif
