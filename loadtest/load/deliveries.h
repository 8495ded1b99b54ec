/*
 * deliveries: how long it took from a command to each watcher of its session.
 *
 * Each event that is under way has a place: how many watchers were told it, when its command was
 * sent, and when the answer to it was read, which is the moment at which a client sees that it is
 * committed. For this the seqs of a session have to be those of the writers here, and no more than
 * `window` of them may be under way. A watcher that is told an event before its answer
 * is read counts as told at once (0), and is counted.
 *
 * Where one writer alone writes to a session, the seq of a command is known when it is sent, and so
 * the time from sending; else only the answer says which seq it has.
 *
 * Normal path: deliveries_open; for each session deliveries_begin; deliveries_sent where the seqs
 * are known; deliveries_answered; deliveries_told.
 * Failure: of the loop: seqs that cannot be, as when somebody else writes to the session.
 *
 * Thread: the loop's.
 */
#ifndef ATOLL_LOAD_DELIVERIES_H
#define ATOLL_LOAD_DELIVERIES_H

#include "histogram.h"
#include "loop.h"
#include "meter.h"

enum { DELIVERIES_MAX = 1 << 16 /* of a session under way; fewer where there are many sessions */ };

struct delivery_place;
struct delivery_session;

struct deliveries {
    struct loop *loop;
    struct meter *meter;     /* what is counted when it is on, and as operations of it */
    struct histogram commit; /* from reading the answer until a watcher's bytes were read */
    struct histogram send;   /* from sending until then; where the seq was known */
    struct histogram last_commit, last_send; /* the same until the last watcher's were */
    uint64_t before_answer;                  /* were told before the answer was read */
    uint64_t window;                         /* places of each session */
    struct delivery_place *places;
    struct delivery_session *sessions;
};

/* False: there is no memory. */
bool deliveries_open(struct deliveries *deliveries, struct loop *loop, struct meter *meter,
                     uint64_t sessions);
/* The session stands at `seq`, and has so many watchers, one at least. */
void deliveries_begin(struct deliveries *deliveries, uint64_t session, uint64_t seq,
                      uint64_t watchers);
/* The newest event of the session for which all before it, and itself, are answered and were told
 * to all. */
uint64_t deliveries_done(const struct deliveries *deliveries, uint64_t session);
void deliveries_sent(struct deliveries *deliveries, uint64_t session, uint64_t first, uint64_t n,
                     uint64_t sent_ns);
/* The events first..first + n - 1, which were sent or planned at `began_ns`, were committed. */
void deliveries_answered(struct deliveries *deliveries, uint64_t session, uint64_t first,
                         uint64_t n, uint64_t began_ns, uint64_t now_ns);
void deliveries_told(struct deliveries *deliveries, uint64_t session, uint64_t from, uint64_t seq,
                     uint64_t now_ns);
void deliveries_close(struct deliveries *deliveries);

#endif
