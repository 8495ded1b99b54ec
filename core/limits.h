/*
 * Every bound on what one session may hold or one command may carry, with what happens at it.
 * The numbers are the defaults; all of them can be configured.
 */
#ifndef ATOLL_CORE_LIMITS_H
#define ATOLL_CORE_LIMITS_H

#include <stdint.h>

/* name, default, at the maximum */
#define CORE_LIMITS(X)                                                                             \
    X(CONTENT_BYTES, 256 * 1024) /* message content: 413 naming the field */                       \
    X(DATA_BYTES, 64 * 1024)     /* message data, as canonical JSON: 413 */                        \
    X(TEXT_BYTES, 1024)          /* name, note, description, summary: 413 */                       \
    X(TRACE_BYTES, 128)          /* trace, cause: 413 */                                           \
    X(CURSOR_BYTES, 64 * 1024)   /* inbox cursor, our own making: 413 */                           \
    X(LABELS, 64)                /* labels of one thing: 413 in a command, 409 when merged */      \
    X(LABEL_BYTES, 256)          /* a label's key and its value, each: 413 */                      \
    X(AGENTS, 1000)              /* agents of a session: 409 */                                    \
    X(THREADS, 10000)            /* threads of a session: 409 */                                   \
    X(PARTICIPANTS, 1000)        /* of a thread: 413 in a command, 409 when merged */              \
    X(MENTIONS, 1000)            /* mentions of a message: 413 */                                  \
    X(TAKEN, 1000)               /* seqs taken alone by one participant of one thread: 409 */      \
    X(WINDOW_MESSAGES, 100)      /* messages kept in a thread's window: the oldest leave */        \
    X(WINDOW_BYTES, 1024 * 1024) /* bytes of content and data in a window: the oldest leave */     \
    X(LEASE_S, 86400)            /* seconds of a lease: 400 */                                     \
    X(URL_BYTES, 2048)           /* of a wake target: 413 */

enum core_limit {
    CORE_LIMIT_NONE,
#define X(name, value) CORE_LIMIT_##name,
    CORE_LIMITS(X)
#undef X
        CORE_LIMIT_COUNT
};

struct core_limits {
    uint32_t max[CORE_LIMIT_COUNT]; /* indexed by enum core_limit */
    /* Seeds the hash tables, whose keys clients choose. Drawn at start; shows in no output. */
    uint64_t hash_seed;
};

extern const struct core_limits core_limits_default;

enum {
    CORE_ID_BYTES = 64,       /* an id's length, by its rule */
    CORE_MADE_ID_BYTES = 24,  /* a letter and a seq, with room to spare */
    CORE_EPOCH_BYTES = 40,    /* text form of an epoch */
    CORE_REMAINING_MAX = 1000 /* an inbox answer's `remaining` counts no further */
};

#define CORE_SAFE_INTEGER ((UINT64_C(1) << 53) - 1)

#endif
