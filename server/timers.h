/*
 * timers: what is due when, on the monotonic clock, for one reactor's thread.
 *
 * A binary heap of timers that their owners embed. h2o's own timers follow the wall clock and know
 * only a few durations, so waits, heartbeats and write deadlines live here.
 *
 * Failure: none. A timer must be cleared before its memory goes.
 */
#ifndef ATOLL_SERVER_TIMERS_H
#define ATOLL_SERVER_TIMERS_H

#include <stdint.h>

/* Zero-initialise, then set `fire`. */
struct timer {
    int64_t due_ms;
    uint32_t place; /* in the heap, from 1; 0: not set */
    void (*fire)(struct timer *timer);
};

/* Zero-initialise to make one. */
struct timers {
    struct timer **heap; /* heap[1] is due first */
    uint32_t n, cap;
    int64_t running_ms; /* while timers_run runs: its time */
};

void timers_free(struct timers *timers);
/* Sets it, or moves it if it is set. While timers_run runs it becomes due after that run. */
void timers_set(struct timers *timers, struct timer *timer, int64_t due_ms);
/* Nothing happens if it is not set. */
void timers_clear(struct timers *timers, struct timer *timer);
/* Fires all that are due. A timer is no longer set when it fires, and may be set again then. */
void timers_run(struct timers *timers, int64_t now_ms);
/* Milliseconds until the first one is due, 0 if it is, -1 if there is none. */
int timers_wait_ms(const struct timers *timers, int64_t now_ms);

#endif
