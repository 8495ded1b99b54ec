/*
 * compose: patches for a watcher that is to get less than all: parts of the view only (`path=`),
 * what is not hidden from it (redact.h), or many patches as one (a slow reader).
 *
 * Both work on the text of patches as core writes them: the operations of an event stand in one
 * array, each {"op":…,"path":…[,"value":…]} in just this order. Nothing but their order, paths and
 * text matters; values are copied, never read.
 *
 * Merging joins the operations in order. It drops an operation only where a later one replaces its
 * value: a `replace` that is followed by another of the same path with nothing on that path or
 * above it between; and messages that have come and left the window again within the run, where a
 * frame says how many are in the window afterwards: then the thread's messages are replaced as a
 * whole by those that are left. So the fold of a merged patch is the fold of its parts.
 *
 * Pure but for memory.
 */
#ifndef ATOLL_SERVER_COMPOSE_H
#define ATOLL_SERVER_COMPOSE_H

#include "shards/request.h"

struct redaction;

/* Patch objects one behind the other, each with the seq of its (last) event. */
struct composed {
    struct buf bytes;
    struct composed_item {
        uint64_t seq;
        size_t end; /* in bytes; begins where the one before ends */
    } * items;
    uint32_t n, cap;
};

void composed_clear(struct composed *out); /* keeps memory */
void composed_free(struct composed *out);

/*
 * Appends, for each event of the frame with seq > after that touches `parts`, its patch with only
 * the operations on them: {"seq","from","ts","type","actor","ops"}, where from is *told + 1;
 * *told moves to its seq. parts NULL: the patch of each event, without `from`. redaction: what is
 * hidden is left out, NULL: nothing is. `view`: WANTS_PATCHES or WANTS_COMPACT. False: the frame
 * does not have that form; nothing was appended.
 */
bool compose_narrow(const struct frame *frame, uint64_t after, unsigned view,
                    const struct core_parts *parts, const struct redaction *redaction,
                    uint64_t *told, struct composed *out);

/* Appends each event of the frame with seq > after, without what is hidden. False as above. */
bool compose_events(const struct frame *frame, uint64_t after, const struct redaction *redaction,
                    struct composed *out);

/*
 * Appends one patch for all events of `frames` (consecutive, in order) with seq > after:
 * {"seq":last,"from":after+1,"ts":that of the last,"type":"merged","actor":null,"ops":[…]}. parts:
 * NULL: all; with parts, nothing is appended where no operation is left. False as above.
 */
bool compose_merge(const struct frame *const *frames, uint32_t n, uint64_t after, unsigned view,
                   const struct core_parts *parts, const struct redaction *redaction,
                   struct composed *out);

#endif
