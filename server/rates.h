/*
 * rates: how much one token, and one address, may ask for in a time: token buckets (as GCRA).
 *
 * Each command and each read costs one; what a batch holds beyond its first command is charged when
 * it is known (rates_charge). So a batch is never refused for its size: it leaves a debt, and
 * nothing more passes until that is paid off. In the long run the rate holds exactly, and no more
 * than the burst, or one batch, comes at once.
 *
 * A bucket is one number, the time at which it is full again. One that is full is like one that was
 * never used: so the table has a fixed size, forgets full buckets without loss, and needs no clock
 * of its own. It is shared by all frontends, since a limit counts over all connections of a token,
 * wherever the kernel has put them; the proof that this needs no lock is in rates.c.
 *
 * Thread: any.
 */
#ifndef ATOLL_SERVER_RATES_H
#define ATOLL_SERVER_RATES_H

#include "server/access.h"

/* The session's buckets are in its shard; here it is only told of them. */
enum rates_kind { RATES_TOKEN, RATES_ADDRESS, RATES_SESSION, RATES_KINDS };

enum {
    RATES_LINES = 32768, /* of the table, with RATES_WAYS buckets each: 2 MiB */
    RATES_WAYS = 4,
    RATES_HEADER_BYTES = 160, /* the value of a RateLimit header, and of a RateLimit-Policy */
};

struct rates;

/* One limit, ready to count with; interval_ns == 0: none. */
struct rates_limit {
    uint64_t interval_ns; /* in which one comes back */
    uint64_t full_ns;     /* in which an empty bucket fills */
    uint32_t burst;
};

struct rates_verdict {
    enum rates_kind kind;
    bool limited;           /* there is a limit of this kind; all below is 0 without */
    uint32_t limit;         /* how many may come at once */
    uint32_t window_s;      /* the time in which these come back, at least 1 */
    uint32_t remaining;     /* after this one */
    uint32_t reset_s;       /* until all are back, rounded up */
    uint32_t retry_after_s; /* where it did not pass: until it would, at least 1 */
};

struct rates *rates_new(void);
void rates_free(struct rates *rates);

struct rates_limit rates_limit_of(const struct config_rate *rate);

/*
 * Takes one out of the bucket of `key` and returns true, or returns false and takes nothing.
 * `now_ms` is monotonic. Without a limit everything passes.
 */
bool rates_pass(struct rates *rates, const struct rates_limit *limit, enum rates_kind kind,
                uint64_t key, int64_t now_ms, struct rates_verdict *verdict);
/* Takes out `more`, also where there are not so many: the rest is a debt. */
void rates_charge(struct rates *rates, const struct rates_limit *limit, enum rates_kind kind,
                  uint64_t key, int64_t now_ms, uint32_t more);
/* What is told where a bucket that somebody else keeps has let nothing through. */
struct rates_verdict rates_refusal(const struct rates_limit *limit, enum rates_kind kind,
                                   uint32_t retry_ms);
/* How often a bucket that was not full had to make room for another one. */
uint64_t rates_displaced(const struct rates *rates);

/* What stands for an address: all of IPv4, the first 64 bits of IPv6. 0: neither (a Unix socket),
 * and to be let pass. */
uint64_t rates_address_key(const struct access_address *address);

/* The values of RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10), of those
 * that are limited; "" where none is. */
void rates_write_limit(const struct rates_verdict *verdicts, unsigned n,
                       char out[RATES_HEADER_BYTES]);
void rates_write_policy(const struct rates_verdict *verdicts, unsigned n,
                        char out[RATES_HEADER_BYTES]);

#endif
