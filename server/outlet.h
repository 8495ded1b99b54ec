/*
 * outlet: a connection that has left HTTP: an event stream, or a WebSocket.
 *
 * h2o sends the head of the answer and then gives the socket away (h2o_http1_upgrade), with all
 * that it holds for HTTP: an idle outlet costs a socket, a timer and its owner. An outlet asks its
 * owner for what to say next only when it can be written (`fill`), so nothing waits in it but what
 * the kernel is being given, and that is shared text. What waits for a slow reader is the
 * owner's: a place in a feed.
 *
 * Over HTTP/2 an outlet is a stream of a connection that it shares (outlet_h2.h); nothing is heard
 * from its client.
 *
 * Normal path: outlet_take -> opened -> (outlet_wake -> fill -> outlet_push …)* -> outlet_end.
 * Outlets that were woken are filled in turn, FIFO, in slices of OUTLET_SLICE_NS a turn: a thousand
 * watchers of one session hold up nobody's command for longer.
 * Failure: an error of the socket, the client's end, or nothing taken for --write-timeout while
 * something is being written: `closed` is called once, the last that is heard of it.
 *
 * Thread: its frontend's. Callbacks come from frontend_work or out of h2o's loop; an outlet may
 * be ended or cut in any of them, and is freed only after they have returned.
 */
#ifndef ATOLL_SERVER_OUTLET_H
#define ATOLL_SERVER_OUTLET_H

#include "server/chunk.h"
#include "server/h2o.h"
#include "server/timers.h"

#include <sys/queue.h>

enum {
    OUTLET_WRITE_CHUNKS = 128,       /* pieces in one write, and some more where it is gzip */
    OUTLET_WRITE_BYTES = 256 * 1024, /* a write is full when it has that many, or more */
    OUTLET_SLICE_NS = 1000 * 1000,   /* filling of outlets in one turn */
    OUTLET_LINGER_MS = 2000,         /* for the client's end, after ours */
};

struct call;
struct connection;
struct exchange;
struct frontend;
struct outlet;

enum outlet_end {
    OUTLET_GONE,   /* the client went, or the socket failed */
    OUTLET_ENDED,  /* outlet_end, outlet_cut */
    OUTLET_UNREAD, /* it took nothing for --write-timeout */
};

struct outlet_ops {
    /* The head is out: the outlet is the owner's until `closed`. NULL: the client has gone first,
     * `closed` will not come. The exchange it was made from is gone in either case. */
    void (*opened)(void *owner, struct outlet *outlet);
    /* Nothing is being written: outlet_push what is to be. After nothing was pushed, it is asked
     * again only after an outlet_wake. */
    void (*fill)(void *owner);
    /* Bytes of the client's; good during the call. NULL: they are thrown away. */
    void (*received)(void *owner, struct str bytes);
    /* Nothing was written for --heartbeat. */
    void (*quiet)(void *owner);
    /* The server is about to stop: say so and outlet_end. */
    void (*drain)(void *owner);
    /* The token that it was opened with is no longer good: say so and outlet_end. NULL: as
     * drain. */
    void (*expired)(void *owner);
    /* The last call; the owner frees itself. */
    void (*closed)(void *owner, enum outlet_end why);
};

struct outlet_piece {
    struct chunk *chunk; /* one reference */
    struct str text;     /* what of it is to be said */
};

struct outlet {
    struct frontend *frontend;
    const struct outlet_ops *ops;
    void *owner;
    struct connection *connection;
    h2o_socket_t *sock;             /* NULL: HTTP/2, or not opened */
    struct outlet_h2 *h2;           /* NULL: not HTTP/2 */
    struct outlet *previous, *next; /* all of a frontend's */
    TAILQ_ENTRY(outlet) ready;
    struct outlet_piece *pieces; /* being written; NULL: none */
    uint32_t pieces_n, pieces_cap;
    size_t bytes;       /* of them */
    size_t sent, later; /* of these bytes: that the socket took; that h2o has */
    int64_t sent_ms;    /* when the last write began */
    uint64_t taken;     /* bytes that the client had taken when it was last looked at */
    struct timer timer;
    struct gzip *gzip;   /* own; NULL: texts go out as they are */
    struct grant *grant; /* of the request; NULL: there are no keys */
    LIST_ENTRY(outlet) of_grant;
    bool is_ready; /* in that list */
    bool writing;  /* the socket has the pieces */
    bool open;     /* `opened` was called */
    bool ending;   /* FIN behind what is being written */
    bool fin;      /* it is out */
    bool paused;   /* nothing is read */
    bool closing;  /* to be closed when the calls that it is in have returned */
    uint8_t why;   /* closing: enum outlet_end */
    uint16_t busy; /* depth of those calls */
};

/* A frontend's outlets. */
struct outlets {
    struct outlet *first;
    TAILQ_HEAD(, outlet) ready; /* to be filled, in this order */
    uint32_t n;
};

void outlets_init(struct outlets *outlets);

/* Takes the exchange's connection over: its answer begins with res.status, res.reason and
 * res.headers of its h2o request, which must be set. The exchange is answered by this. */
void outlet_take(struct exchange *exchange, const struct outlet_ops *ops, void *owner);
/* From now on what is pushed goes out as gzip; the head has to say so. In `opened`. */
void outlet_gzip(struct outlet *outlet);
/* There is something to be said. Cheap where it was woken already. */
void outlet_wake(struct outlet *outlet);
/* Within `fill` alone. Takes the reference over; text lies in the chunk. */
void outlet_push(struct outlet *outlet, struct chunk *chunk, struct str text);
static inline bool outlet_full(const struct outlet *outlet)
{
    return outlet->pieces_n >= OUTLET_WRITE_CHUNKS || outlet->bytes >= OUTLET_WRITE_BYTES;
}
/* No more will be said: closes behind what was pushed, when the client closes or OUTLET_LINGER_MS
 * are over. `closed` comes with OUTLET_ENDED. */
void outlet_end(struct outlet *outlet);
/* Closes now. */
void outlet_cut(struct outlet *outlet);
/* Something was written that the client has not taken. */
bool outlet_behind(const struct outlet *outlet);
/* A count that grows with what the client takes, or at least changes with it. */
uint64_t outlet_taken(const struct outlet *outlet);
/* Its grant has ended. */
void outlet_expire(struct outlet *outlet);
/* Stops reading from the client, or goes on. */
void outlet_pause(struct outlet *outlet, bool paused);

/* Monotonic, for slices. */
int64_t outlet_clock_ns(void);
/* The server is about to stop: `drain` for each. */
void outlets_drain(struct frontend *frontend);
/* Once a turn: fills those that were woken, for a slice. True: some are left. */
bool outlets_work(struct frontend *frontend);

#endif
