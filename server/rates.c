/*
 * rates: see rates.h. A table of lines of RATES_WAYS buckets, each a key and a time.
 *
 * Without a lock, since each step is one atomic operation on one word:
 * - `full_at_ns` only changes by compare-and-exchange from the value that was judged. So of two
 *   that want the last of a bucket one gets it, the other judges anew.
 * - A bucket is given to another key by compare-and-exchange of `key`; its time stays. Where it was
 *   full, that time is past, which is what a new bucket has: nothing to set, and nothing to order.
 * - Two that come with the same new key at once may give it two buckets: later ones find the first
 *   of them, the other fills and is forgotten. So a key may get once, in its first moment, one
 *   burst for each thread.
 * - Who has found its bucket while it is given to another key takes from the other's: one too few
 *   there, one too many here. A bucket in use is only given away where a line holds nothing but
 *   such ones, and then the one that is nearest to being full.
 * Nothing but these words is read with them, so all of it can be relaxed.
 */
#include "server/rates.h"

#include "core/base.h"

#define XXH_INLINE_ALL
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

struct bucket {
    _Atomic uint64_t key;        /* hashed; 0: never used */
    _Atomic uint64_t full_at_ns; /* monotonic */
};

struct line {
    _Alignas(64) struct bucket ways[RATES_WAYS];
};
_Static_assert(sizeof(struct line) == 64, "one cache line");

struct rates {
    struct line *lines;
    uint64_t seed; /* so that nobody can aim at another's line */
    _Atomic uint64_t displaced;
};

static const char *const names[] = {
    [RATES_TOKEN] = "token",
    [RATES_ADDRESS] = "address",
    [RATES_SESSION] = "session",
};

struct rates *rates_new(void)
{
    struct rates *rates = mem_zeroed(1, sizeof(*rates));
    size_t size = RATES_LINES * sizeof(struct line);

    rates->lines = mem_alloc_aligned(_Alignof(struct line), size);
    memset((void *)rates->lines, 0, size);
    while (getrandom(&rates->seed, sizeof(rates->seed), 0) != sizeof(rates->seed))
        ;
    return rates;
}

void rates_free(struct rates *rates)
{
    free(rates->lines);
    free(rates);
}

struct rates_limit rates_limit_of(const struct config_rate *rate)
{
    struct rates_limit limit = {0};

    if (rate->n == 0)
        return limit;
    limit.interval_ns = (uint64_t)rate->per_ms * 1000000 / rate->n;
    limit.burst = rate->burst;
    limit.full_ns = limit.interval_ns * rate->burst;
    return limit;
}

/* ---- finding a bucket */

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* Another limit (after a reload) has buckets of its own: debts of one rate are none of the other.
 */
static uint64_t hash_key(const struct rates *rates, const struct rates_limit *limit,
                         enum rates_kind kind, uint64_t key)
{
    uint64_t parts[] = {key, kind, limit->interval_ns, limit->burst};
    uint64_t hash = XXH3_64bits_withSeed(parts, sizeof(parts), rates->seed);
    return hash != 0 ? hash : 1;
}

/* The one that is longest full, or nearest to it. */
static struct bucket *fullest(struct line *line)
{
    struct bucket *best = &line->ways[0];
    for (unsigned i = 1; i < RATES_WAYS; i++)
        if (load(&line->ways[i].full_at_ns) < load(&best->full_at_ns))
            best = &line->ways[i];
    return best;
}

static struct bucket *find(struct rates *rates, uint64_t key, uint64_t now_ns)
{
    struct line *line = &rates->lines[key % RATES_LINES];

    for (;;) {
        for (unsigned i = 0; i < RATES_WAYS; i++)
            if (load(&line->ways[i].key) == key)
                return &line->ways[i];
        struct bucket *bucket = fullest(line);
        uint64_t other = load(&bucket->key);
        uint64_t full_at_ns = load(&bucket->full_at_ns);
        if (!atomic_compare_exchange_strong_explicit(&bucket->key, &other, key,
                                                     memory_order_relaxed, memory_order_relaxed))
            continue;
        if (full_at_ns > now_ns) {
            /* Its debt is not ours. Where it has just changed it is one of ours already. */
            atomic_fetch_add_explicit(&rates->displaced, 1, memory_order_relaxed);
            (void)atomic_compare_exchange_strong_explicit(&bucket->full_at_ns, &full_at_ns, now_ns,
                                                          memory_order_relaxed,
                                                          memory_order_relaxed);
        }
        return bucket;
    }
}

/* ---- taking from it */

static uint32_t seconds_up(uint64_t ns)
{
    return (uint32_t)((ns + 999999999) / 1000000000);
}

static uint32_t at_least_one(uint32_t n)
{
    return n != 0 ? n : 1;
}

/* `owed_ns` is how far from full the bucket is. */
static void fill_verdict(struct rates_verdict *verdict, const struct rates_limit *limit,
                         uint64_t owed_ns, bool passed)
{
    uint64_t left_ns = owed_ns < limit->full_ns ? limit->full_ns - owed_ns : 0;

    verdict->limited = true;
    verdict->limit = limit->burst;
    verdict->window_s = at_least_one(seconds_up(limit->full_ns));
    verdict->remaining = (uint32_t)(left_ns / limit->interval_ns);
    verdict->reset_s = seconds_up(owed_ns);
    if (!passed)
        verdict->retry_after_s =
            at_least_one(seconds_up(owed_ns + limit->interval_ns - limit->full_ns));
}

struct rates_verdict rates_refusal(const struct rates_limit *limit, enum rates_kind kind,
                                   uint32_t retry_ms)
{
    struct rates_verdict verdict = {.kind = kind};
    uint64_t lacking_ns = (uint64_t)retry_ms * 1000000;

    fill_verdict(&verdict, limit, limit->full_ns + lacking_ns - limit->interval_ns, false);
    return verdict;
}

bool rates_pass(struct rates *rates, const struct rates_limit *limit, enum rates_kind kind,
                uint64_t key, int64_t now_ms, struct rates_verdict *verdict)
{
    uint64_t now_ns = (uint64_t)now_ms * 1000000;

    *verdict = (struct rates_verdict){.kind = kind};
    if (limit->interval_ns == 0)
        return true;
    struct bucket *bucket = find(rates, hash_key(rates, limit, kind, key), now_ns);
    uint64_t full_at_ns = load(&bucket->full_at_ns);
    for (;;) {
        uint64_t owed_ns = full_at_ns > now_ns ? full_at_ns - now_ns : 0;
        if (owed_ns + limit->interval_ns > limit->full_ns) {
            fill_verdict(verdict, limit, owed_ns, false);
            return false;
        }
        owed_ns += limit->interval_ns;
        if (atomic_compare_exchange_weak_explicit(&bucket->full_at_ns, &full_at_ns,
                                                  now_ns + owed_ns, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            fill_verdict(verdict, limit, owed_ns, true);
            return true;
        }
    }
}

void rates_charge(struct rates *rates, const struct rates_limit *limit, enum rates_kind kind,
                  uint64_t key, int64_t now_ms, uint32_t more)
{
    uint64_t now_ns = (uint64_t)now_ms * 1000000;

    if (limit->interval_ns == 0 || more == 0)
        return;
    struct bucket *bucket = find(rates, hash_key(rates, limit, kind, key), now_ns);
    uint64_t old_ns = load(&bucket->full_at_ns);
    uint64_t new_ns;
    do {
        new_ns = (old_ns > now_ns ? old_ns : now_ns) + more * limit->interval_ns;
    } while (!atomic_compare_exchange_weak_explicit(&bucket->full_at_ns, &old_ns, new_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
}

uint64_t rates_displaced(const struct rates *rates)
{
    return load(&rates->displaced);
}

/* ---- who */

uint64_t rates_address_key(const struct access_address *address)
{
    static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};
    const uint8_t *bytes = address->bytes;
    bool v4 = address->family == AF_INET;
    uint32_t in_v4;

    if (address->family == AF_INET6 && memcmp(bytes, v4_mapped, sizeof(v4_mapped)) == 0) {
        bytes += sizeof(v4_mapped);
        v4 = true;
    }
    if (v4) {
        memcpy(&in_v4, bytes, sizeof(in_v4));
        return UINT64_C(1) << 32 | in_v4;
    }
    return address->family == AF_INET6 ? XXH3_64bits(bytes, 8) : 0;
}

/* ---- telling */

static void add(char out[RATES_HEADER_BYTES], const char *text)
{
    size_t used = strlen(out);
    snprintf(out + used, RATES_HEADER_BYTES - used, "%s%s", used != 0 ? ", " : "", text);
}

void rates_write_limit(const struct rates_verdict *verdicts, unsigned n,
                       char out[RATES_HEADER_BYTES])
{
    char text[RATES_HEADER_BYTES];

    out[0] = '\0';
    for (unsigned i = 0; i < n; i++) {
        if (!verdicts[i].limited)
            continue;
        snprintf(text, sizeof(text), "\"%s\";r=%" PRIu32 ";t=%" PRIu32, names[verdicts[i].kind],
                 verdicts[i].remaining, verdicts[i].reset_s);
        add(out, text);
    }
}

void rates_write_policy(const struct rates_verdict *verdicts, unsigned n,
                        char out[RATES_HEADER_BYTES])
{
    char text[RATES_HEADER_BYTES];

    out[0] = '\0';
    for (unsigned i = 0; i < n; i++) {
        if (!verdicts[i].limited)
            continue;
        snprintf(text, sizeof(text), "\"%s\";q=%" PRIu32 ";w=%" PRIu32, names[verdicts[i].kind],
                 verdicts[i].limit, verdicts[i].window_s);
        add(out, text);
    }
}
