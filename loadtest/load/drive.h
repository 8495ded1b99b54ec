/*
 * drive: requests over many connections, one at a time on each, as fast as one thread can or at a
 * given rate, and how long their answers took.
 *
 * Closed loop (rate 0): each connection sends its next request when it has its answer.
 * Open loop: requests are planned ahead, at even distances, on a clock that does not wait for the
 * server. A request goes out on the connection that has been idle longest; where all are busy it
 * queues up, and its latency counts from when it was planned, so that a server that stops for a
 * while is charged with all who waited ("coordinated omission"; Gil Tene, "How NOT to Measure
 * Latency"). After the end, what was planned before it is still sent for as long again; what then
 * remains is told as a problem. Latencies are of all that was planned in the measured time.
 *
 * Times: the clock is read before each request goes out, and once for all answers that epoll has
 * reported at a time, right behind epoll_wait: a latency holds the answer's wait for this program,
 * too, and is never told too short.
 *
 * Normal path: drive_run calls `next`, sends what it made, reads the answer, calls `judge`, …
 * After --seconds the answers that are still to come are waited for; after a signal they are not.
 * Failure: a connection that fails is closed and told (`lost`); with the last of them it ends.
 *
 * Thread: one.
 */
#ifndef ATOLL_LOAD_DRIVE_H
#define ATOLL_LOAD_DRIVE_H

#include "http.h"
#include "meter.h"
#include "mode.h"

struct drive_lane {
    struct http http; /* first: epoll gives this pointer back */
    unsigned number;
    bool busy;
    uint64_t began_ns; /* when it went out or, in an open loop, was planned */
};

/* The bytes of a request; they stay until its answer is judged. */
struct drive_request {
    const char *bytes;
    size_t size;
};

/* What is driven. `context` is given to each function. */
struct drive_work {
    void *context;
    /* The lane's next request. bytes NULL: it has no more to send. */
    struct drive_request (*next)(void *context, struct drive_lane *lane);
    /* Looks at an answer: how many operations it acknowledges, 0 where it is bad (and told). */
    unsigned (*judge)(void *context, struct drive_lane *lane);
    /* There will be no answer: the connection has failed, or all is over. May be NULL. */
    void (*lost)(void *context, struct drive_lane *lane);
    /* Reads an answer: http_go_on, or another protocol's of the same contract. */
    enum http_result (*go_on)(struct http *http);
    bool may_fail;       /* connections may end: that is no problem, and only `lost` is told */
    unsigned operations; /* a request is: --rate counts operations */
    uint64_t count;      /* requests at most; 0: by --seconds */
    const char *what; /* one operation, for the report; NULL: nothing is measured nor reported but
                         failures, and it ends with the work */
};

/* Runs it; what is measured only once in a process. False, with a sentence on standard error: there
 * are no connections. */
bool drive_run(const struct load_options *options, struct report *report,
               const struct drive_work *work);

#endif
