/*
 * gzip: a body that goes on for hours as one gzip member (RFC 1952, RFC 1951).
 *
 * Large texts are deflated, each by itself and flushed to a byte, so that no state has to be kept
 * between them; small ones stand as stored blocks of five bytes more, so that they stay shared. The
 * checksum of it all is kept for the end.
 *
 * Pure but for memory.
 */
#ifndef ATOLL_SERVER_GZIP_H
#define ATOLL_SERVER_GZIP_H

#include "server/chunk.h"

enum {
    GZIP_MIN_BYTES = 16 * 1024, /* of a text: smaller ones are stored */
    GZIP_STORED_BYTES = 5,      /* before a stored text */
    GZIP_HEAD_BYTES = 10,
    GZIP_TAIL_BYTES = 13,
};

_Static_assert(GZIP_MIN_BYTES <= 65535, "what is stored fits one block");

struct gzip {
    uint32_t crc, size; /* size modulo 2^32 */
};

/* The member's header. */
struct chunk *gzip_begin(struct gzip *gzip);
/* For a text of fewer than GZIP_MIN_BYTES: what goes before it. */
struct chunk *gzip_store(struct gzip *gzip, struct str text);
/* For a larger one, that lies in `chunk`: what goes instead of it, with a reference. Made once
 * where it is all of the chunk. */
struct chunk *gzip_deflate(struct gzip *gzip, struct chunk *chunk, struct str text);
/* The last block, and the member's trailer. */
struct chunk *gzip_end(const struct gzip *gzip);

#endif
