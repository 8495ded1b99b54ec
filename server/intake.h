/*
 * intake: where one HTTP/1 request ends in the bytes of a connection, and whether all who read it
 * would agree on that. Pure.
 *
 * h2o is lenient: it takes two lengths, lines that end in a bare LF, folded headers and more. A
 * proxy in front may read such a request otherwise, and take for the body of one what we take for
 * the next. So every byte passes here before h2o sees it, and what RFC 9112 does not allow, or
 * leaves to choose, is refused: both Content-Length and Transfer-Encoding, either more than once, a
 * length that is not digits alone, a coding that is not "chunked", bare CR or LF, NUL and other
 * controls, folded headers, blanks before a colon or around the parts of the request line, more
 * than one Host; in chunked bodies everything but sizes, extensions and trailers as they should be.
 *
 * Normal path: intake_take until INTAKE_DONE; it says how many of the bytes belong to the request.
 * Failure: an enum intake_error, with its sentence.
 */
#ifndef ATOLL_SERVER_INTAKE_H
#define ATOLL_SERVER_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    INTAKE_HEADERS_MAX = 100,           /* of a request, as many as h2o reads */
    INTAKE_CHUNK_LINE_BYTES = 256,      /* size and extensions of one chunk */
    INTAKE_EXTENSION_BYTES = 16 * 1024, /* of all chunks of a request, and its trailers */
};

enum intake_got {
    INTAKE_HEAD, /* the head has not come whole */
    INTAKE_BODY, /* the body has not */
    INTAKE_DONE,
    INTAKE_BAD,       /* 400 */
    INTAKE_TOO_LARGE, /* the head: 431 */
};

/* Zero-initialise for each request. */
struct intake {
    uint8_t state;
    bool request_line, empty_line;  /* it has come; the one that may be before it */
    bool chunked, sized, host, old; /* old: HTTP/1.0 */
    uint8_t digits;                 /* of a chunk's size */
    uint16_t headers, line;         /* how many; bytes of a chunk's line */
    size_t line_at;                 /* in the head: where the line begins that has not ended */
    size_t searched;                /* and up to where its end was looked for */
    uint64_t left;                  /* of the body, or of the chunk */
    size_t extensions;              /* bytes that are neither size nor data */
    const char *why;                /* INTAKE_BAD, INTAKE_TOO_LARGE: a sentence */
};

/*
 * While it answers INTAKE_HEAD, `bytes` are all of the request so far, and at the next call the
 * same with more behind them; after that they are those that came since. `used`: how many of them
 * belong to the request; the rest belongs to the next one. `head_max`: bytes of the head.
 */
enum intake_got intake_take(struct intake *intake, const char *bytes, size_t n, size_t head_max,
                            size_t *used);

#endif
