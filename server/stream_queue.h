/*
 * stream_queue: what is to be said to one watcher, in order, by reference.
 */
#ifndef ATOLL_SERVER_STREAM_QUEUE_H
#define ATOLL_SERVER_STREAM_QUEUE_H

#include "server/sse.h"

struct stream_entry {
    struct sse_chunk *chunk; /* one reference */
    struct str text;         /* what of it is to be said */
    bool live;               /* from a live frame: may be dropped and asked for again */
};

/* A ring that grows. Zero-initialise to make one. */
struct stream_queue {
    struct stream_entry *entries;
    uint32_t cap, head, n;
    size_t bytes;
};

/* Takes the reference over. */
void stream_queue_push(struct stream_queue *queue, struct sse_chunk *chunk, struct str text,
                       bool live);
struct stream_entry *stream_queue_at(const struct stream_queue *queue, uint32_t i);
/* Removes the first, or the last one, with its reference. */
void stream_queue_shift(struct stream_queue *queue);
void stream_queue_pop(struct stream_queue *queue);
/* Removes all, memory included. */
void stream_queue_free(struct stream_queue *queue);

#endif
