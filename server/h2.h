/*
 * h2: HTTP/2, which is off unless --http2 on; by ALPN over TLS alone. h2o speaks it; this watches
 * what a client makes it do.
 *
 * Frames that cost work and bring none (RST_STREAM, PING, SETTINGS, PRIORITY, empty DATA) are
 * counted before h2o reads them: each connection may send H2_FRAMES of them, and one more for each
 * H2_REQUESTS_PER_FRAME requests that were answered, in any H2_WINDOW_MS. Who sends more is
 * closed ("rapid reset", CVE-2023-44487, and the floods of CVE-2019-9511 to 9518: h2o 2.2 has no
 * bound for some of them). So is who sends a block of headers larger than --max-header-bytes.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_H2_H
#define ATOLL_SERVER_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    H2_FRAMES = 100,
    H2_REQUESTS_PER_FRAME = 10,
    H2_WINDOW_MS = 10000,
    H2_PREFACE_BYTES = 24, /* what a client begins with, before its frames */
    H2_FRAME_HEAD_BYTES = 9,
};

/* Zero-initialise. */
struct h2_guard {
    uint32_t preface;  /* bytes of it that have come */
    uint32_t head_n;   /* bytes of the frame's head that have come */
    uint32_t payload;  /* bytes of the frame that are still to come */
    uint32_t headers;  /* bytes of the block of headers that is coming */
    uint32_t frames;   /* in this window */
    uint32_t answered; /* in this window */
    int64_t window_ms; /* when it began */
    uint8_t head[H2_FRAME_HEAD_BYTES];
};

/* The next bytes of the connection. False: enough. */
bool h2_guard_take(struct h2_guard *guard, const char *bytes, size_t n, size_t head_max,
                   int64_t now_ms);
/* A request was answered. */
void h2_guard_answered(struct h2_guard *guard);

#endif
