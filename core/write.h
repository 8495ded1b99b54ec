/*
 * write: bytes put down where room has been made for them.
 *
 * Each function writes at `to` and returns the end of what it wrote. So a whole object is written
 * with one buf_reserve before it and one sum behind it, instead of a look at the buffer for each
 * piece of it. The caller says how much room there is; what may be written behind the end that is
 * returned (WRITE_SPILL) needs room too, and is nothing to anyone.
 *
 * Thread: any; nothing is shared.
 */
#ifndef ATOLL_CORE_WRITE_H
#define ATOLL_CORE_WRITE_H

#include "core/base.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digits are made in one word");

enum {
    WRITE_DECIMAL_BYTES = 20, /* of the largest number */
    WRITE_TIME_BYTES = 26,    /* quoted */
    WRITE_SPILL = 8           /* what write_decimal may write behind the digits */
};

#define write_literal(to, literal)                                                                 \
    ((char *)memcpy((to), (literal), sizeof(literal) - 1) + (sizeof(literal) - 1))

/* A few bytes, as ids are: a call of memcpy would cost more than the copy. */
static inline char *write_bytes(char *to, const char *p, size_t n)
{
    if (n > 16) {
        memcpy(to, p, n);
    } else if (n >= 8) {
        uint64_t first, last;
        memcpy(&first, p, 8);
        memcpy(&last, p + n - 8, 8);
        memcpy(to, &first, 8);
        memcpy(to + n - 8, &last, 8);
    } else if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, p, 4);
        memcpy(&last, p + n - 4, 4);
        memcpy(to, &first, 4);
        memcpy(to + n - 4, &last, 4);
    } else if (n != 0) {
        char middle = p[n / 2];
        char last = p[n - 1];
        to[0] = p[0];
        to[n / 2] = middle;
        to[n - 1] = last;
    }
    return to + n;
}

static inline char *write_str(char *to, struct str s)
{
    return write_bytes(to, s.p, s.n);
}

static inline char *write_byte(char *to, char c)
{
    *to = c;
    return to + 1;
}

/* The eight decimal digits of a value below 10^8, each in its byte, the first in the lowest: halves
 * of four, then pairs, then single digits, all halves at once. */
static inline uint64_t eight_digits(uint32_t value)
{
    uint64_t high = value / 10000;
    uint64_t fours = high | (value - high * 10000) << 32;
    uint64_t hundreds = (fours * 10486 >> 20) & UINT64_C(0x0000007f0000007f);
    uint64_t pairs = hundreds | (fours - hundreds * 100) << 16;
    uint64_t tens = (pairs * 103 >> 10) & UINT64_C(0x000f000f000f000f);
    return tens | (pairs - tens * 10) << 8;
}

#define WRITE_ZEROS UINT64_C(0x3030303030303030)

/* Below 10^8, without leading zeros, which are the lowest bytes; the last digit always stays. */
static inline char *write_up_to_eight(char *to, uint32_t value)
{
    uint64_t digits = eight_digits(value);
    unsigned zeros = (unsigned)__builtin_ctzll(digits | UINT64_C(1) << 56) & ~7U;
    digits = (digits | WRITE_ZEROS) >> zeros;
    memcpy(to, &digits, 8);
    return to + 8 - zeros / 8;
}

enum { WRITE_EIGHT = 100000000 };

char *write_long_decimal(char *to, uint64_t value); /* base.c */

/* Decimal. Room: WRITE_DECIMAL_BYTES and WRITE_SPILL. */
static inline char *write_decimal(char *to, uint64_t value)
{
    return value < WRITE_EIGHT ? write_up_to_eight(to, (uint32_t)value)
                               : write_long_decimal(to, value);
}

/* An id in quotes; ids need no escaping. */
static inline char *write_id(char *to, struct str id)
{
    *to = '"';
    to = write_bytes(to + 1, id.p, id.n);
    *to = '"';
    return to + 1;
}

/* Quoted RFC 3339 in UTC, with milliseconds: WRITE_TIME_BYTES. json.c */
char *write_time(char *to, int64_t ts_ms);

#endif
