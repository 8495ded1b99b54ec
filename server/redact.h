/*
 * redact: what a viewer is not to see (claim `redact`), taken out of text that core wrote.
 *
 * A redaction is a set of JSON Pointers into a session's state, in which `*` as a segment stands
 * for any; at a place in an array every segment does, as windows of messages move. Hidden members
 * of objects are left out, hidden elements of arrays are null; what is below a hidden place is
 * hidden. "" hides all members of the state. The fold of redacted patches is the redacted view, at
 * every seq (tests/property).
 *
 * Of an event each field is hidden with the place of the state that it sets (the table in
 * redact_event.c); of one about something that is hidden as a whole seq, ts and type are told. What
 * is asked for by what is hidden (`label=`, `from=`, …) would tell it all the same: see
 * redaction_bars.
 *
 * Never hidden are the id and the epoch of the session, and seqs and times of events: without them
 * nothing can be followed. A command is answered with the id of what it made, or with why it was
 * refused, in the names that it gave itself.
 *
 * Thread: immutable once made; any thread reads it. Pure but for memory.
 */
#ifndef ATOLL_SERVER_REDACT_H
#define ATOLL_SERVER_REDACT_H

#include "server/patch_text.h"
#include "shards/request.h"

enum { REDACTION_POINTERS_MAX = 64 /* more: no redaction can be made of them */ };

struct redaction;

/* NULL: one of the pointers is none (RFC 6901), or there are none, or too many. */
struct redaction *redaction_new(const struct str *pointers, unsigned n);
void redaction_free(struct redaction *redaction); /* NULL is fine */
/* The same for the same set of pointers, whatever their order; for ETags and ids of streams. */
uint64_t redaction_hash(const struct redaction *redaction);

/* The parameter of a request by whose answer a viewer would learn what is hidden: a filter that
 * looks at it. A static name, NULL: there is none. To be refused before it is sent. */
const char *redaction_bars(const struct redaction *redaction, const struct request *request);

/* Rewrites the body of a reply that a client is to see, by its kind. What is asked for and hidden
 * as a whole is unknown: the reply is then refused as that. */
void redact_reply(const struct redaction *redaction, struct request *request);

/* ---- for those who put together what is watched; each adds to `out` */

/* A snapshot or a view: {"epoch",…,"state":{…}}. */
void redact_envelope(const struct redaction *redaction, struct str envelope, struct buf *out);
/* An event's object. */
void redact_event(const struct redaction *redaction, struct str event, struct buf *out);
/* A summary of a session, of a list or an overview. */
void redact_summary(const struct redaction *redaction, struct str summary, struct buf *out);
/* patch->head: the actor is null where it is hidden. */
void redact_patch_head(const struct redaction *redaction, const struct patch_text *patch,
                       struct buf *out);
/* False: the operation is not to be seen, and nothing was added. */
bool redact_op(const struct redaction *redaction, const struct op_text *op, struct buf *out);

#endif
