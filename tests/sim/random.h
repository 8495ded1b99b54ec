/*
 * random: the only source of chance in the simulator. xoshiro256** 1.0, its state filled by
 * splitmix64, both by David Blackman and Sebastiano Vigna and in the public domain
 * (https://prng.di.unimi.it/).
 *
 * One seed makes several streams (rng_seed's `stream`), so that what one part of the simulator
 * draws does not shift what another draws.
 */
#ifndef ATOLL_TESTS_SIM_RANDOM_H
#define ATOLL_TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rng {
    uint64_t s[4];
};

static inline uint64_t rng_split(uint64_t *x)
{
    uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline void rng_seed(struct rng *rng, uint64_t seed, uint64_t stream)
{
    uint64_t x = seed;
    x = rng_split(&x) ^ stream;
    for (int i = 0; i < 4; i++)
        rng->s[i] = rng_split(&x);
}

static inline uint64_t rng_next(struct rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t fives = s[1] * 5;
    uint64_t result = (fives << 7 | fives >> 57) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

/* 0 … n - 1; n below 2^32. */
static inline uint32_t rng_below(struct rng *rng, uint64_t n)
{
    return (uint32_t)((rng_next(rng) >> 32) * n >> 32);
}

/* low … high, both included. */
static inline uint32_t rng_between(struct rng *rng, uint32_t low, uint32_t high)
{
    return low + rng_below(rng, (uint64_t)high - low + 1);
}

static inline bool rng_percent(struct rng *rng, uint32_t percent)
{
    return rng_below(rng, 100) < percent;
}

/* True once in n times; n == 0: never. */
static inline bool rng_once_in(struct rng *rng, uint32_t n)
{
    return n != 0 && rng_below(rng, n) == 0;
}

static inline void rng_fill(struct rng *rng, void *p, size_t n)
{
    for (char *at = p; n != 0;) {
        uint64_t x = rng_next(rng);
        size_t some = n < sizeof(x) ? n : sizeof(x);
        memcpy(at, &x, some);
        at += some;
        n -= some;
    }
}

#endif
