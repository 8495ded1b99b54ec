/*
 * outbox: requests that must reach their shard although nobody waits for an answer (the end of a
 * wait, of a watch). Where the ring is full they are kept, in order, and sent when it has room.
 *
 * Bounded by what they end: one for each open wait and each watched session.
 */
#ifndef ATOLL_SERVER_OUTBOX_H
#define ATOLL_SERVER_OUTBOX_H

#include "shards/mailbox.h"

enum { OUTBOX_RETRY_MS = 5 };

/* Zero-initialise to make one. */
struct outbox {
    struct request *first, *last;
    bool closed;
};

/* Takes the request over. One without a session goes to request->shard. */
void outbox_send(struct outbox *outbox, struct mailbox *mailbox, struct request *request);
/* Tries what is left again; true: all is sent. */
bool outbox_flush(struct outbox *outbox, struct mailbox *mailbox);
/* The shards listen no more: frees what is left and whatever comes. */
void outbox_close(struct outbox *outbox);

#endif
