/*
 * audit: one line for each refusal (401, 403) and each act of an admin: who, what, where, why. In
 * --audit-log FILE, or else in the log, as
 *
 *     {"ts":…,"event":"refused","status":403,"reason":…,"method":…,"path":…,"session":…,"sub":…, …}
 *     {"ts":…,"event":"admin_act","method":"DELETE","path":…,"session":…,"sub":…,"jti":…, …}
 *     {"ts":…,"event":"admin_act","act":"message.send","agent":…,"session":…,"sub":…,"jti":…, …}
 *
 * Never a token or a ticket: of the target only the path is told, and no header.
 * Normal path: a line goes to the logger, which never blocks.
 * Failure: who is refused again and again must not fill the disk, nor must an admin that speaks for
 * a thousand agents. Of either a reactor writes at most AUDIT_LINES_PER_S lines in a second, and
 * tells in its next one how many it has left out (`omitted`). All else that admins do is told.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_AUTH_AUDIT_H
#define ATOLL_SERVER_AUTH_AUDIT_H

#include "core/base.h"

struct exchange;
struct frontend;
struct grant;

enum {
    AUDIT_LINES_PER_S = 100, /* of refusals, and of speaking for others */
    AUDIT_TEXT_BYTES = 256,  /* of a path or a reason; more is cut */
};

/* A frontend's. Zero-initialise. */
struct audit {
    struct audit_bound {
        int64_t second;   /* monotonic */
        unsigned lines;   /* in it */
        uint64_t omitted; /* since the last line */
    } refusals, speaking;
};

/* The request was refused. `reason` is for people; the caller's words in it may be any. */
void audit_refused(struct exchange *exchange, int status, const char *reason);
/* The same of something asked for on a connection that has left HTTP. `grant` may be NULL. */
void audit_refused_later(struct frontend *frontend, const struct grant *grant, struct str session,
                         int status, const char *reason);
/* Somebody does what takes an admin. Reading is no act. */
void audit_admin(struct exchange *exchange);
/* An admin speaks for another agent, by a command of this name. */
void audit_speaks_for(const struct grant *grant, struct str session, struct str agent,
                      const char *command);

#endif
