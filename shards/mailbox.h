/*
 * mailbox: the frontend's end of the rings to and from all shards.
 *
 *     mailbox_send     a request to the shard of its session; full ring or no credit: refused
 *     mailbox_drain    replies, frames and notices that have come, in order, shard by shard
 *
 * Lanes: a request goes to its shard by one of three queues, each with a bound and credits of its
 * own, so that a flood of one kind is refused without the others. The shard takes from each in
 * turn, by shares (limits.h): none starves, and what can be done late is done late.
 *
 *     control      what keeps things going or gives something back: TOUCH, UNHAND, REBUILD, RELAY,
 *                  and between shards PIN, UNPIN, KEEP
 *     commands     COMMANDS, FORK, IMPORT, DELETE, and all that has to come in order with them or
 *                  with each other: EXISTS, INBOX and its CANCEL, FOLLOW and UNFOLLOW
 *     telemetry    looking: VIEW and its parts, EVENTS, DIFF, PROOF, EXPORT, LIST, STATUS, CHANGES
 *                  and its CANCEL
 *
 * Within a lane requests of one frontend arrive in the order of their sending. Between lanes there
 * is none, and none is needed: a CANCEL is in the lane of what it cancels; an UNFOLLOW, which may
 * be sent before its FOLLOW is answered, in that one's; who watches behind a command that creates
 * the session finds it. What is in the control lane is about something that its sender has had an
 * answer about (a hand, a pin, an agent that is there), or is meant for whatever there is by then.
 *
 * Relays: a REQUEST_RELAY goes to a shard, which puts a copy of its bytes on the ring to the
 * frontend of the same number, as it does a notice, and answers the sender. A relay holds no credit
 * at its receiver: where only the half for replies is left of the ring, or RELAYED_BYTES_MAX have
 * not been taken yet, the sender is told OVERLOADED. So replies still always fit, and nobody waits.
 *
 * Credits: a request takes one when it is sent and gives it back when its reply is drained; there
 * are, for all lanes together, as many as half the reply ring holds, and frames and notices may
 * fill only the other half. So a reply always fits, and the shard never waits. A request that may
 * wait for long (REQUEST_INBOX with `wait`, REQUEST_CHANGES) takes no credit: its answer queues at
 * the shard for free space. So an answer to REQUEST_CHANGES is also never there before a frame or
 * notice of what it tells.
 *
 * Thread: each mailbox belongs to one reactor's thread. Neither side ever waits inside a turn.
 */
#ifndef ATOLL_SHARDS_MAILBOX_H
#define ATOLL_SHARDS_MAILBOX_H

#include "shards/request.h"

struct mailbox;

/* What has come for a feed, besides frames. */
enum mailbox_notice {
    NOTICE_LOST, /* frames did not fit: the feed is detached; FOLLOW again from where it stands */
    NOTICE_ENDED /* the session was deleted: no further frames */
};

struct mailbox_handlers {
    void *ctx;
    /* The request is the frontend's again, `token` as it was sent. */
    void (*on_reply)(void *ctx, struct request *request);
    /* One reference of `frame` is the frontend's now: frame_release it. */
    void (*on_frame)(void *ctx, uint64_t feed, struct frame *frame);
    void (*on_notice)(void *ctx, uint64_t feed, enum mailbox_notice notice);
    /* What frontend `from` has sent by REQUEST_RELAY, in the order of its sending; good during the
     * call. NULL: nobody listens. */
    void (*on_relay)(void *ctx, unsigned from, struct str bytes);
};

/*
 * Sends a request to the shard of its session, or to `shard` where it has none.
 * 0: taken; it will come back through on_reply exactly once. -EAGAIN: the ring is full or there is
 * no credit; the request stays the caller's (answer 503 with Retry-After at once).
 */
int mailbox_send(struct mailbox *mailbox, struct request *request);
int mailbox_send_to(struct mailbox *mailbox, struct request *request, unsigned shard);
unsigned mailbox_shards(const struct mailbox *mailbox);
/* The shard that a session belongs to. */
unsigned mailbox_shard_of(const struct mailbox *mailbox, struct str session);
unsigned mailbox_frontend(const struct mailbox *mailbox); /* its number, 0.. */

/* Runs the handlers for up to `max` messages; returns how many there were. */
unsigned mailbox_drain(struct mailbox *mailbox, const struct mailbox_handlers *handlers,
                       unsigned max);
/* Something has come that was not drained yet. */
bool mailbox_pending(const struct mailbox *mailbox);
/* Requests sent whose replies have not been drained. */
uint64_t mailbox_outstanding(const struct mailbox *mailbox);

/*
 * Errands: what a shard asks of another one (or of itself), over the mailbox of its own reactor. It
 * goes to the shard of its session; where it has none (session.p == NULL), to request->shard.
 * request->errand is called with request->errand_owner when the answer is there, on the thread that
 * sent it; the request is then the caller's again. Never refused: where the ring is full or there
 * is no credit it waits here, in order, for mailbox_send_errands. Thread: the reactor's.
 */
void mailbox_errand(struct mailbox *mailbox, struct request *request);
/* Once a turn: sends what waits. True: something still does. */
bool mailbox_send_errands(struct mailbox *mailbox);

#endif
