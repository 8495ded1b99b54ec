/*
 * sse: the text of server-sent events, formatted once and shared by all connections of a reactor.
 *
 *     event: patch                        snapshot, patch (of /stream); event (of /events); end
 *     id: <epoch>-<seq>-<version>         version: of the view's form, SSE_VIEW_VERSION
 *     data: {...}
 *
 * Pure but for memory. Chunks are counted without atomics: they stay on their reactor's thread.
 */
#ifndef ATOLL_SERVER_SSE_H
#define ATOLL_SERVER_SSE_H

#include "shards/request.h"

#define SSE_VIEW_VERSION 1

/* The text of consecutive seqs, each findable by its number; or of anything, with seqs 0. */
struct sse_chunk {
    uint32_t references;
    uint32_t items_n; /* 0: one text that is not cut */
    uint64_t first_seq, last_seq;
    size_t size;
    const char *bytes;
    size_t starts[]; /* items_n + 1 of them; then the bytes */
};

/* All with one reference. NULL: an item is not encoded in the form wanted (one of enum
 * request_wants). types: bits 1 << core_type; others are left empty; 0: all. */
struct sse_chunk *sse_frame(const struct frame *frame, struct str epoch, unsigned form,
                            uint32_t types);
struct sse_chunk *sse_snapshot(struct str epoch, uint64_t seq, struct str json);
struct sse_chunk *sse_end(struct str epoch, uint64_t seq);
struct sse_chunk *sse_text(struct str text);

void sse_hold(struct sse_chunk *chunk);
void sse_release(struct sse_chunk *chunk);

/* What the chunk says after `seq`, which is none of a chunk without items. */
struct str sse_after(const struct sse_chunk *chunk, uint64_t seq);

/* Where a Last-Event-ID stands. */
struct sse_position {
    struct str epoch;
    uint64_t seq;
    bool version_differs;
};

/* False: not an id of ours. */
bool sse_parse_id(struct str id, struct sse_position *position);

#endif
