/*
 * loop: one epoll set for all that a mode reads from, and waiting with a reason.
 *
 * Normal path: loop_open, loop_add for each descriptor, then loop_turn again and again, and
 * loop_until: they wait, call `ready` of what is, and before each wait `before`, where a mode does
 * what is due by time.
 * Failure: loop_fail keeps the first sentence in `error`; from then on nothing more is done, and
 * who waits comes back at once.
 *
 * Thread: one.
 */
#ifndef ATOLL_LOAD_LOOP_H
#define ATOLL_LOAD_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/* Of each descriptor; lies in what its owner keeps of it. */
struct loop_source {
    void (*ready)(struct loop_source *source, uint32_t events);
};

struct loop {
    int epoll_fd;
    const char *error;
    char why[512];
    /* May be NULL. `now_ns` is when it is called; returns when to call again at the latest. */
    uint64_t (*before)(void *context, uint64_t now_ns);
    void *context;
};

/* False: errno says why. */
bool loop_open(struct loop *loop);
/* Edge-triggered, for `events` of epoll. The source has to stay until the descriptor is closed. */
void loop_add(struct loop *loop, int fd, uint32_t events, struct loop_source *source);
void loop_fail(struct loop *loop, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Waits once, for `until_ns` (of process_now_ns) at the latest or until a signal has come. */
void loop_turn(struct loop *loop, uint64_t until_ns);
/* Goes on until `met` says so; fails with "waited in vain until WHAT" after 30 s. */
void loop_until(struct loop *loop, bool (*met)(const void *context), const void *context,
                const char *what);
/* Closes the set, not what is in it. */
void loop_close(struct loop *loop);

#endif
