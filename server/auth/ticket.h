/*
 * ticket: what stands in for a token, once and for half a minute, where a browser cannot send a
 * header: EventSource and WebSocket. So a token never has to stand in a URL; a ticket that is found
 * in somebody's log is worth nothing.
 *
 * A ticket is 128 random bits as base64url. The table keeps its SHA-256 and the token it stands
 * for, which is verified anew when the ticket comes: a key that was taken away meanwhile counts.
 * The table is bounded, and so is what one token may hold of it.
 *
 * One table for the process, with a lock: a ticket that one reactor has made comes back on whatever
 * connection the kernel gives to another. That happens as often as people open pages, and the lock
 * is held for some microseconds; a message to the reactor that made it would cost more.
 *
 * Thread: any.
 */
#ifndef ATOLL_SERVER_AUTH_TICKET_H
#define ATOLL_SERVER_AUTH_TICKET_H

#include "core/base.h"

enum {
    TICKET_TEXT_BYTES = 22,
    TICKET_LIFE_S = 30,
    TICKETS_MAX = 4096,      /* of all; more are refused */
    TICKETS_OF_ONE_MAX = 64, /* of one token; the same */
};

struct tickets;

struct tickets *tickets_new(void);
void tickets_free(struct tickets *tickets); /* NULL is fine */

/*
 * A new ticket of this token, good from `now_ms` (monotonic) for TICKET_LIFE_S: for one session, or
 * (p == NULL) for whatever the token is good for. 0; or in how many milliseconds there is room
 * again: there are too many.
 */
int64_t tickets_issue(struct tickets *tickets, struct str token, struct str session, int64_t now_ms,
                      char text[TICKET_TEXT_BYTES]);
/*
 * The token of a ticket, which is used up by that; a malloc'd text for ticket_token_free.
 * `session`: where it is to be used; p == NULL: in no single one. p == NULL: there is no such
 * ticket, or not for this.
 */
struct str tickets_redeem(struct tickets *tickets, struct str text, struct str session,
                          int64_t now_ms);
void ticket_token_free(struct str token);

#endif
