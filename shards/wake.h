/*
 * wake: calls to agents that are not waiting. A shard decides who is to be called and when, and how
 * a dead target is spared (wakes.c); a courier makes one call at a time for each order and tells
 * how it went (server/courier.c). This header is what they know of each other.
 *
 * Ownership: an order belongs to the shard until wake_courier.post has taken it, then to the
 * courier until it comes back over the ring `done` of its shard; it owns all its bytes. Failure:
 * there is none; what the courier cannot do comes back as WAKE_FAILED with a sentence.
 */
#ifndef ATOLL_SHARDS_WAKE_H
#define ATOLL_SHARDS_WAKE_H

#include "core/base.h"

enum wake_outcome {
    WAKE_DELIVERED, /* the target answered 2xx */
    WAKE_FAILED,    /* it did not, or could not be reached: to be tried again */
    WAKE_REFUSED    /* it may not be called: its address is private, its secret cannot be opened */
};

struct wake_order {
    struct arena arena; /* owns all strings */
    uint16_t shard;
    struct str session, epoch, agent;
    struct str url;
    struct str
        sealed;   /* the target's secret as it stands in the event (server/seal.h); n == 0: none */
    uint64_t seq; /* of the newest unread message that it is about; with epoch and agent it names
                     the call, also in further tries of it */
    uint64_t unread;   /* messages not acknowledged, counted to 1 000: how far it lags behind */
    bool mentioned;    /* one of them mentions it */
    struct str cursor; /* of the inbox: acknowledges these */

    enum wake_outcome outcome;
    int status;    /* HTTP's; 0: there was none */
    char why[160]; /* a sentence, where it was not delivered */
    void *work;    /* the shard's own */
};

struct wake_order *wake_order_new(void);
void wake_order_free(struct wake_order *order);

/* What the cluster is given at its start; all NULL: nobody is woken. */
struct wake_courier {
    void *ctx;
    /* Takes an order over; false: it has as many as it may, and the order stays the shard's, to be
     * tried again when one has come back. Any reactor's thread; never waits. */
    bool (*post)(void *ctx, struct wake_order *order);
    /* The next order of this shard that is done; NULL: none. The reactor's thread, once a turn. */
    struct wake_order *(*done)(void *ctx, unsigned shard);
};

/* ---- the way there and back: for each shard a ring to the courier's thread, and one from it */

enum { WAKE_ORDERS_MAX = 64 }; /* of a shard, out at once; more stay with it */

struct wake_rings;

struct wake_rings *wake_rings_new(unsigned shards);
/* Frees what is in them, too. Neither end may be in use any more. */
void wake_rings_free(struct wake_rings *rings);
/* False: WAKE_ORDERS_MAX of its shard are out, and the order stays the caller's. The thread of the
 * order's shard. */
bool wake_rings_post(struct wake_rings *rings, struct wake_order *order);
/* The next order of any shard, none left behind for long; NULL: there is none. Courier's thread. */
struct wake_order *wake_rings_take(struct wake_rings *rings);
/* Gives an order back that was taken: there is always room. Courier's thread. */
void wake_rings_return(struct wake_rings *rings, struct wake_order *order);
/* The next one that came back to this shard; NULL: none. The shard's thread. */
struct wake_order *wake_rings_done(struct wake_rings *rings, unsigned shard);

#endif
