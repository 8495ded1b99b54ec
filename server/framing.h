/*
 * framing: the bytes of a message as a client gets it.
 *
 *     SSE         event: patch
 *                 id: <epoch>-<seq>-<view>          <view>: enum view's form and parts, see below
 *                 data: {"seq":…}
 *     SSE_MANY    event: patch
 *                 data: {"session":"s1","seq":…}
 *     WS          one text frame {"event":"patch","id":"<epoch>-<seq>-<view>","seq":…}
 *     WS_MANY     {"event":"patch","session":"s1","id":"…","seq":…}
 *
 * <view> names what the positions of a stream are good for: FRAMING_VIEW_VERSION, a letter for the
 * form (none for all, `c` for compact, `e` for events), for parts a hash of them, and another one
 * of what is hidden from the viewer.
 *
 * Pure but for memory.
 */
#ifndef ATOLL_SERVER_FRAMING_H
#define ATOLL_SERVER_FRAMING_H

#include "server/chunk.h"
#include "server/watcher.h"

#define FRAMING_VIEW_VERSION "2"

enum { FRAMING_VIEW_BYTES = 20, FRAMING_ID_BYTES = CORE_EPOCH_BYTES + FRAMING_VIEW_BYTES + 24 };

/* What is said around each message of a watcher. */
struct framing {
    enum watcher_framing kind;
    struct str session, epoch;
    struct str view; /* framing_view's */
};

/* The <view> of an id; the text lies in `scratch`. NULL: all is shown; nothing is hidden. */
struct str framing_view(unsigned form, const struct core_parts *parts,
                        const struct redaction *redaction, char scratch[FRAMING_VIEW_BYTES]);

/* Bytes that framing_add adds to those of the object at most. */
size_t framing_overhead(const struct framing *framing);
/* `object` is a JSON object with at least one member. seq 0: without an id. Writes at p, returns
 * the end. */
char *framing_add(char *p, const struct framing *framing, struct str event, uint64_t seq,
                  struct str object);
/* One message as a chunk. */
struct chunk *framing_chunk(const struct framing *framing, struct str event, uint64_t seq,
                            struct str object);

/* Head of an unmasked final WebSocket frame (RFC 6455, 5.2) with `opcode` for n bytes; returns the
 * end; at most 10 bytes. */
char *framing_ws_head(char *p, unsigned opcode, size_t n);

/* Where a Last-Event-ID stands; strings lie in it. False: not an id of ours. */
struct framing_position {
    struct str epoch, view;
    uint64_t seq;
};
bool framing_parse_id(struct str id, struct framing_position *position);

#endif
