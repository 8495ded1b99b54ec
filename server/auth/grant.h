/*
 * grant: what the bearer of a token may do here.
 *
 * A frontend verifies a token once and keeps the grant while anybody uses it, and some time longer:
 * its connections (the hot path compares the header's bytes, and does no crypto), exchanges, calls,
 * outlets. It ends at the token's `exp`, or when there are keys that do not verify it
 * (grants_adopt): then nothing passes with it any more, and its outlets are closed.
 *
 * Thread: its frontend's; the count is no atomic. No other thread keeps a pointer to one.
 */
#ifndef ATOLL_SERVER_AUTH_GRANT_H
#define ATOLL_SERVER_AUTH_GRANT_H

#include "server/auth/token.h"
#include "server/timers.h"

#include <sys/queue.h>

struct frontend;
struct live;
struct outlet;
struct redaction;

enum { GRANTS_IDLE_MAX = 1024 /* kept although nobody uses them */ };

struct grant {
    struct frontend *frontend;
    unsigned references;
    bool ended;        /* nothing passes any more */
    bool all_sessions; /* one of its patterns is "*" */
    uint64_t hash;     /* of the token; names its bucket (rates.h) */
    struct str token;  /* own copy */
    struct auth_claims claims;
    struct redaction *redaction; /* NULL: nothing is hidden */
    struct timer timer;          /* set: when it expires */
    LIST_HEAD(, outlet) outlets; /* to be closed when it ends */
    LIST_ENTRY(grant) in_bucket; /* of the table; not where it has ended */
    TAILQ_ENTRY(grant) idle;     /* references == 0 */
};

/* A frontend's. Zero-initialise, then grants_init. */
struct grants {
    LIST_HEAD(, grant) * buckets;
    TAILQ_HEAD(, grant) idle; /* the one that was used last is last */
    uint32_t idle_n;
    uint64_t seed; /* of the hash: nobody aims at a bucket */
};

void grants_init(struct grants *grants, uint64_t seed);
/* All connections are closed. */
void grants_free(struct frontend *frontend);
/* The grant of a token, verified now or before, with one reference. NULL and *error: it is not
 * good. */
struct grant *grants_take(struct frontend *frontend, struct str token, enum token_error *error);
struct grant *grant_hold(struct grant *grant); /* NULL is fine */
void grant_release(struct grant *grant);       /* the same */
/* The frontend has adopted other settings than `old`: grants that these do not verify end. */
void grants_adopt(struct frontend *frontend, const struct live *old);

/* Its time is over, by the wall clock; or it has ended. */
bool grant_is_over(const struct grant *grant);
/* The least of `ms` and the time until it expires; NULL: just `ms`. */
int64_t grant_lasts_ms(const struct grant *grant, int64_t ms);
/* The outlet is closed when the grant ends; for outlet.c, which keeps a reference as long. */
void grant_bind(struct grant *grant, struct outlet *outlet);
void grant_unbind(struct outlet *outlet);

bool grant_has_session(const struct grant *grant, struct str session);
static inline bool grant_has_scope(const struct grant *grant, enum auth_scope scope)
{
    return (grant->claims.scope & scope) != 0;
}
/* Whether it may act for this agent, and read what is its own. */
bool grant_speaks_for(const struct grant *grant, struct str agent);

#endif
