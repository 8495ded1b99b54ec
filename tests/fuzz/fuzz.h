/*
 * What the targets have in common: taking an input apart, and what is true of every refusal.
 *
 * A target is a file of its own: bytes that somebody else has made go into one reader of ours, and
 * asserts say what must then be so, beyond that no sanitizer has a word to say. Inputs are text
 * where the reader's are: a first line says what it is about, the rest is the thing itself.
 */
#ifndef ATOLL_TESTS_FUZZ_H
#define ATOLL_TESTS_FUZZ_H

#include "server/problem.h"

#include <stdio.h>
#include <stdlib.h>

/* Of server/json.h, whose names are jansson's as well: so no file includes both. */
bool json_utf8_valid(struct str s);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 0 where nothing is left. */
static inline uint8_t take_byte(struct str *in)
{
    if (in->n == 0)
        return 0;
    in->p++;
    in->n--;
    return (uint8_t)in->p[-1];
}

static inline uint32_t take_u16(struct str *in)
{
    uint32_t low = take_byte(in);
    return low | (uint32_t)take_byte(in) << 8;
}

static inline uint64_t take_u64(struct str *in)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 8)
        value |= (uint64_t)take_byte(in) << shift;
    return value;
}

/* At most so many bytes. */
static inline struct str take_bytes(struct str *in, size_t n)
{
    struct str taken = {in->p, n < in->n ? n : in->n};
    in->p += taken.n;
    in->n -= taken.n;
    return taken;
}

/* Up to the next newline, which is taken as well; all where there is none. */
static inline struct str take_line(struct str *in)
{
    const char *end = in->n == 0 ? NULL : memchr(in->p, '\n', in->n);
    struct str line = take_bytes(in, end == NULL ? in->n : (size_t)(end - in->p));
    take_byte(in);
    return line;
}

static inline struct str text_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

static inline struct str input_of(const uint8_t *data, size_t size)
{
    return (struct str){size == 0 ? "" : (const char *)data, size};
}

/* A copy with nothing behind it, so that a byte read too many is seen; to be freed. */
static inline char *exact_copy(struct str bytes)
{
    char *copy = malloc(bytes.n == 0 ? 1 : bytes.n);
    assert(copy != NULL);
    if (bytes.n != 0)
        memcpy(copy, bytes.p, bytes.n);
    return copy;
}

/* Every allocation is one of its own, so that writing beyond it is seen. */
static inline struct arena exact_arena(void)
{
    return (struct arena){.block_bytes = 1};
}

static inline void check_sentence(const char *text, size_t size)
{
    struct str s = {text, strnlen(text, size)};
    assert(s.n != 0 && s.n < size);
    assert(json_utf8_valid(s));
}

/* A refusal tells a client what is wrong, in words that JSON can carry. */
static inline void check_refusal(const struct core_refusal *why)
{
    assert(problem_status(why->code) >= 400);
    check_sentence(why->detail, sizeof(why->detail));
}

static inline bool buf_equal(const struct buf *a, const struct buf *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

#endif
