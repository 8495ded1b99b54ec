/*
 * live: settings that may change while the server runs: keys, certificates, allowed hosts and
 * origins, rates, the level of the log.
 *
 * One immutable object, counted. The main thread makes a new one (reload.c), publishes it with
 * live_publish and nudges all reactors; each frontend adopts it between two turns
 * (frontend_adopt) and lets the old one go. So within a turn nothing changes, and no reader locks.
 *
 * Thread: live_publish is the main thread's; live_take and live_release are any thread's.
 */
#ifndef ATOLL_SERVER_LIVE_H
#define ATOLL_SERVER_LIVE_H

#include "server/access.h"
#include "server/auth/keys.h"
#include "server/rates.h"
#include "server/tls.h"

#include <pthread.h>
#include <stdatomic.h>

struct live {
    atomic_uint references;
    uint64_t generation;    /* 1, 2, … */
    struct config *config;  /* all options as they were read for this one; what can't change while
                               the server runs is not looked at here */
    struct auth_keys *keys; /* one reference; NULL: open */
    struct tls *tls;        /* one reference; NULL: no certificates */
    struct access access;
    struct rates_limit rates[RATES_KINDS]; /* by token and by address; none of sessions here */
};

/* Where the newest one is found. The lock is held for a few instructions, once a change and
 * frontend; turns without a change read `generation` alone. */
struct live_cell {
    pthread_mutex_t lock;
    struct live *newest;
    _Atomic uint64_t generation;
};

/* The address of a socket that was passed to us: no option names it. */
struct live_address {
    struct sockaddr_storage storage;
};

/*
 * A new one with these options, which it takes over: `config` is empty afterwards, also where this
 * fails. Reads the files that the options name. 0 and *made with one reference; or -EINVAL with one
 * sentence: a file is not what it must be, or the server would be open to others than this machine.
 * Any thread.
 */
int live_make(struct config *config, const struct live_address *passed, unsigned passed_n,
              struct live **made, char *error, size_t error_size);

void live_open(struct live_cell *cell); /* holds nothing: publish before the first live_take */
void live_publish(struct live_cell *cell, struct live *live); /* takes the reference over */
struct live *live_take(struct live_cell *cell);               /* the newest, with a reference */
void live_release(struct live *live);                         /* NULL is fine */
void live_close(struct live_cell *cell);                      /* nobody takes from it any more */

/* Whether there is a newer one than `live`: to be asked once a turn. */
static inline bool live_outdated(const struct live_cell *cell, const struct live *live)
{
    return atomic_load_explicit(&cell->generation, memory_order_relaxed) != live->generation;
}

#endif
