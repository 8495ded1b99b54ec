/*
 * watchers: many readers of event streams, all of which are told the same of their session.
 *
 * Watcher i reads `path`, with i modulo `sessions` for `{}`. It has begun with its snapshot, or,
 * where none will come, with the head of its answer. Those that are stopped come on top: their
 * sockets take next to nothing, and they read nothing until watchers_wake.
 *
 * Normal path: set what is above the line, watchers_connect, then whatever the loop does.
 * Failure: of the loop, which names what went wrong: an answer other than 200, a stream that ends.
 * Gaps and repetitions are counted.
 *
 * Thread: the loop's.
 */
#ifndef ATOLL_LOAD_WATCHERS_H
#define ATOLL_LOAD_WATCHERS_H

#include "loop.h"
#include "reader.h"

enum { WATCHERS_MAX = 100000, WATCHERS_PATH_BYTES = 200 };

/* A watcher was told the events from..seq of its session; its bytes were read at `now_ns`. */
typedef void watchers_told(void *context, uint32_t session, uint64_t from, uint64_t seq,
                           uint64_t now_ns);

struct watchers {
    struct loop *loop;
    const struct sockaddr_in *address;
    const char *path;
    const char *last_event_id; /* NULL: none is sent */
    uint64_t n, stopped, sessions;
    int64_t from;   /* no snapshot will come, and the first patch follows this seq; -1: one will */
    bool joins;     /* no snapshot will come, and the first patch may have any seq */
    bool unordered; /* see reader.h */
    watchers_told *told; /* of those that are not stopped */
    void *context;

    /* ---- what has become of them */
    struct reader *readers; /* `n`, then the stopped ones */
    struct reader_counts counts, stopped_counts;
    /* Watchers that are connected, have begun, had a patch; stopped ones that could read. */
    uint64_t connected, begun, patched, readable;
    uint64_t read_ns; /* when the bytes that are looked at were read; 0: not asked for yet */
};

/* Connects all, the stopped ones first, and waits until all have begun. */
void watchers_connect(struct watchers *watchers);
/* Lets the stopped ones read. */
void watchers_wake(struct watchers *watchers);
/* How many watchers a session has, without the stopped ones. */
uint64_t watchers_of(const struct watchers *watchers, uint64_t session);
/* Whether all that are not stopped (or that are) were told `heads[session]`. */
bool watchers_level(const struct watchers *watchers, const uint64_t *heads);
bool watchers_stopped_level(const struct watchers *watchers, const uint64_t *heads);
void watchers_close(struct watchers *watchers);

/* PATH with the number in place of `{}`; returns its length, as of snprintf. */
int watchers_put_path(char *out, size_t size, const char *path, uint64_t number);

#endif
