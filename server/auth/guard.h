/*
 * guard: where what a caller may do meets what it asks for.
 *
 * Two gates. guard_enter, once for each HTTP request: who calls (Authorization, cookie or ticket),
 * and whether the route is open to them at all. guard_request, for each request that a face sends
 * to a shard for a client, whatever the face: whether just this may be done, by its kind, its
 * session, and who speaks in its commands. So a face that forgets to ask still shows and does
 * nothing that it may not, and a tool of MCP needs to know nothing of tokens.
 *
 * Where there are no keys everybody may do everything: grants are NULL, and all of this passes.
 * Failure: 401 with WWW-Authenticate (RFC 6750), or 403; both are told to the audit log. A refusal
 * never says whether the session exists.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_AUTH_GUARD_H
#define ATOLL_SERVER_AUTH_GUARD_H

#include "server/auth/grant.h"
#include "server/call.h"

/* Sets exchange->grant. False: the exchange has been answered. */
bool guard_enter(struct exchange *exchange, const struct call *call);

/* The token in an Authorization; p == NULL: it is no "Bearer TOKEN". */
struct str guard_bearer(struct str header);

/* 0, or an error. A command of a batch that may not be given is marked (request_command.bad), and
 * the others go on. Fills what a list is to be narrowed to. */
int guard_request(const struct grant *grant, struct request *request, struct core_refusal *why);
/* For what is no request yet: whether something with `scope` may be done in a session. 0, or an
 * error. */
int guard_session(const struct grant *grant, enum auth_scope scope, struct str session,
                  struct core_refusal *why);
/* Whether it may change anything; with NULL everybody may. */
bool guard_may_write(const struct grant *grant);
/* A reply that this caller is to see: takes out what is hidden from it. */
void guard_reply(const struct grant *grant, struct request *reply);

/* What is hidden from it; NULL: nothing. Lives as long as the grant. */
const struct redaction *guard_redaction(const struct grant *grant);

/* The agent that speaks where a command names none; p == NULL: nobody. Lives as long as the grant.
 */
struct str guard_speaker(const struct grant *grant);
/* Whose idempotency keys its are; "" where everybody is the same. */
struct str guard_caller(const struct grant *grant);

#endif
