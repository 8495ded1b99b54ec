/*
 * writers: connections that write to watched sessions, each with one request at a time.
 *
 * Writer i of n has the sessions i, i + n, i + 2n, … of which it takes one after the other; so each
 * session has one writer, whose seqs are known when they are sent. Where there are more writers
 * than sessions, it has session i modulo `sessions`. What each command says begins with a marker
 * (verify.h); its writer is the session where that has one, else the connection.
 * With `rate` requests are planned ahead, and an answer counts from the planned time; else each
 * writer sends as soon as it has its answer. Either way no more than `ahead` events of a session
 * may be under way, which means that not all of its watchers were told them yet.
 *
 * Normal path: set what is above the line, writers_connect, writers_begin, let the loop turn (its
 * `before` has to be writers_due), writers_end and wait until all were answered.
 * Failure: of the loop: an answer other than 2xx, or one with a seq that cannot be.
 *
 * Thread: the loop's.
 */
#ifndef ATOLL_LOAD_WRITERS_H
#define ATOLL_LOAD_WRITERS_H

#include "deliveries.h"
#include "loop.h"
#include "meter.h"
#include "verify.h"

enum { WRITERS_MAX = 1024, WRITERS_BATCH_MAX = 1000 };

enum writers_kind {
    WRITERS_NOTE,    /* a command that changes an agent's note */
    WRITERS_MESSAGE, /* a command that sends a message */
    WRITERS_RAW,     /* the text of a patch, numbered here, as another server is to tell it */
    WRITERS_TEXT,    /* a text, which another server numbers and tells */
};

struct writer;

struct writers {
    struct loop *loop;
    struct meter *meter;
    const struct sockaddr_in *address;
    const char *path; /* of the requests; the number of the session for `{}` */
    enum writers_kind kind;
    uint64_t n, sessions, batch;
    uint64_t bytes;                /* of a patch on the wire, about; of a message's content */
    uint64_t ahead;                /* 0: as many as `deliveries` lets */
    uint64_t count;                /* requests; 0: until writers_end */
    double rate;                   /* requests a second; 0: as fast as they are answered */
    struct deliveries *deliveries; /* NULL: watchers are not waited for, and `ahead` is 0 */
    struct verify *verify;         /* opened by writers_verify */

    /* ---- what has become of them */
    struct writer *writers;
    uint64_t *heads; /* by session: the seq after all that was answered */
    uint64_t *sent;  /* by session: the seq after all that was sent */
    bool writing;
    uint64_t stop_ns; /* what is planned for later is not sent */
    uint64_t requests, answered,
        late; /* late: sent more than the time between two after its time */
    uint64_t due_ns, next;
    struct histogram answer; /* from sending, or the planned time, until the answer was read */
};

/* Opens `verify` for what they will write. */
void writers_verify(struct writers *writers, const struct load_options *options,
                    struct report *report);
void writers_connect(struct writers *writers);
/* The session stands at `seq`. After writers_connect. */
void writers_place(struct writers *writers, uint64_t session, uint64_t seq);
void writers_begin(struct writers *writers);
/* A loop's `before`, with the writers as its context. */
uint64_t writers_due(void *writers, uint64_t now_ns);
/* From now on nothing new is written, but what was planned before still is, late as it may be. */
void writers_end(struct writers *writers);
/* Whether all that was to be sent is answered; for loop_until. */
bool writers_answered(const void *writers);
void writers_close(struct writers *writers);

#endif
