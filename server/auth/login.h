/*
 * login: how browsers hold a token. Signing in puts it into a cookie that no script can read
 * (HttpOnly) and that no other site's page makes a browser send (SameSite=Strict); what changes
 * something then also needs the server's own Origin (guard.c). Where a page of elsewhere has to
 * open an EventSource or a WebSocket, it gets a ticket for that (ticket.h).
 *
 *     POST /v1/login                     a token, by Authorization or as {"token": …}, to a cookie
 *     POST /v1/logout                    forgets it
 *     GET  /v1/me                        who the caller is, and what it may do
 *     POST /v1/tickets                   a ticket of what the caller may do; or, so that a load
 *     POST /v1/sessions/{sid}/tickets    balancer can route it, for one session alone
 *
 * Failure: as everywhere, a problem; a token that is not good is told to the audit log.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_AUTH_LOGIN_H
#define ATOLL_SERVER_AUTH_LOGIN_H

#include "server/call.h"

/* Name and value together; what browsers keep, with room for the attributes. */
enum { LOGIN_COOKIE_BYTES_MAX = 3900 };

void login_serve(struct exchange *exchange, const struct call *call);

/* The token in a Cookie header. p == NULL: there is none, or more than one. Over TLS only the name
 * counts that no page without TLS can have set (__Host-). */
struct str login_cookie(struct exchange *exchange, struct str header);
/* Whether the request has an Origin, and that is this server's own. Over TLS only https is: whoever
 * sits between can make up any page without TLS. */
bool login_own_origin(const struct exchange *exchange, const struct call *call);
/* The grant of a ticket, with a reference. NULL: the ticket is unknown, used, too old or not for
 * this session; or its token is no longer good. */
struct grant *ticket_redeem(struct exchange *exchange, struct str ticket);

#endif
