/*
 * reader: one stream of server-sent events, read as cheaply as it can be and checked.
 *
 * It looks for the lines that begin a message, `data: {"seq":N[,"from":N]` (a patch) and
 * `data: {"epoch":"…","seq":N` (a snapshot, or the end), the blank or none, and skips all that
 * stands between. So it also reads a stream in chunks, as long as none of them ends within such a
 * line's first bytes, and what other servers send, if their messages begin alike. Patches have to
 * follow each other: one that begins later than the last one's seq + 1 is a gap, one that begins
 * earlier a repetition. Where the seqs are the writers' own and these are many (`unordered`), any
 * order will do; then who was told each of 1…n exactly once has been told n messages whose seqs add
 * up to n(n + 1)/2 and whose squares to n(n + 1)(2n + 1)/6, modulo 2^64: reader_told_each.
 *
 * Normal path: reader_connect, and reader_read whenever epoll says that the socket is ready.
 *
 * Thread: anyone's; a reader belongs to one.
 */
#ifndef ATOLL_LOAD_READER_H
#define ATOLL_LOAD_READER_H

#include "loop.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { READER_KEEP_BYTES = 256 }; /* the beginning of a message that is not there as a whole */

/* Of all readers of a kind. */
struct reader_counts {
    uint64_t reads, bytes;
    uint64_t messages; /* patches as they came: a merged one is one */
    uint64_t patches;  /* events told by them: a merged one is as many as it covers */
    uint64_t merged;
    uint64_t snapshots; /* the first ones */
    uint64_t resets;    /* the others */
    uint64_t ends;
    uint64_t gaps, repeats;
};

struct reader {
    struct loop_source source; /* this and the next three: the owner's own use */
    void *owner;
    uint32_t session;
    bool stopped;
    /* To be set before reader_connect: */
    bool small;     /* its socket takes next to nothing */
    bool placed;    /* `seq` is known: where no snapshot will come */
    bool joins;     /* the first patch places it, whatever its seq is */
    bool unordered; /* see above */
    /* What it has seen: */
    bool headed; /* the answer has begun, with 200 */
    bool has_patch;
    int fd;
    uint32_t kept;
    uint64_t seq;                       /* the newest that was told; the greatest, if unordered */
    uint64_t told, sum, sum_of_squares; /* if unordered */
    char keep[READER_KEEP_BYTES];
};

/* What a read tells: the events from..seq of a stream, by a patch or a reset. */
typedef void reader_told(void *context, struct reader *reader, uint64_t from, uint64_t seq);

/* Connects, and sends the request `size` bytes long. False: errno says why. */
bool reader_connect(struct reader *reader, const struct sockaddr_in *address, const char *request,
                    size_t size);
/* Reads what is there. Returns NULL, or a sentence: the stream is over. `told` may be NULL. With
 * edge-triggered epoll: again, until it says so, where EPOLLRDHUP, HUP or ERR has come. */
const char *reader_read(struct reader *reader, struct reader_counts *counts, reader_told *told,
                        void *context);
/* Whether an unordered one was told each of 1…n exactly once. */
bool reader_told_each(const struct reader *reader, uint64_t n);
void reader_close(struct reader *reader);

#endif
