/*
 * chunk: text that is written to many connections, made once and counted.
 *
 * Thread: a chunk stays on its reactor's thread; the count is no atomic.
 */
#ifndef ATOLL_SERVER_CHUNK_H
#define ATOLL_SERVER_CHUNK_H

#include "core/base.h"

/* Its text follows it in memory, and does not change any more once somebody else sees it. */
struct chunk {
    struct chunk *next; /* its holder's own use */
    uint32_t references;
    uint32_t form;          /* its holder's own use */
    uint32_t crc;           /* of `deflated`: of the text that it was made of */
    struct chunk *deflated; /* gzip.c's form of all of it, shared like it; NULL: not made yet */
    size_t n;
    char p[];
};

/* Room for `size` bytes of text, n == 0, one reference. */
struct chunk *chunk_new(size_t size);
/* A copy of `text`. */
struct chunk *chunk_of(struct str text);
struct chunk *chunk_hold(struct chunk *chunk);
void chunk_release(struct chunk *chunk);

static inline struct str chunk_text(const struct chunk *chunk)
{
    return (struct str){chunk->p, chunk->n};
}

#endif
