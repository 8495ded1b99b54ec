#include "server/auth/audit.h"

#include "server/exchange.h"
#include "server/json.h"
#include "server/logger.h"
#include "server/trace.h"

#include <arpa/inet.h>

/* ---- what lines say */

static struct str cut(struct str text)
{
    return (struct str){text.p, json_cut(text, AUDIT_TEXT_BYTES)};
}

static void add_grant(struct logger_line *line, const struct grant *grant)
{
    if (grant == NULL)
        return;
    logger_add_str(line, "sub", grant->claims.sub);
    logger_add_str(line, "kid", grant->claims.kid);
    logger_add_str(line, "jti", grant->claims.id);
}

static void add_address(struct logger_line *line, const h2o_req_t *req)
{
    struct sockaddr_storage peer;
    char text[INET6_ADDRSTRLEN] = "unix";

    if (req->conn->callbacks->get_peername(req->conn, (struct sockaddr *)&peer) != 0) {
        if (peer.ss_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)&peer)->sin_addr, text, sizeof(text));
        else if (peer.ss_family == AF_INET6)
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&peer)->sin6_addr, text, sizeof(text));
    }
    logger_add_text(line, "address", text);
}

/* The target without its query, which may hold a ticket. */
static struct str path_of(const h2o_req_t *req)
{
    struct str target = {req->input.path.base, req->input.path.len};
    const char *query = target.n != 0 ? memchr(target.p, '?', target.n) : NULL;
    return cut((struct str){target.p, query != NULL ? (size_t)(query - target.p) : target.n});
}

static void add_exchange(struct logger_line *line, struct exchange *exchange)
{
    const h2o_req_t *req = exchange->req;

    logger_add_str(line, "method",
                   cut((struct str){req->input.method.base, req->input.method.len}));
    logger_add_str(line, "path", path_of(req));
    if (exchange->match.session.p != NULL)
        logger_add_str(line, "session", exchange->match.session);
    add_grant(line, exchange->grant);
    add_address(line, req);
    logger_add_str(line, "request_id", trace_id(exchange));
}

/* ---- bounds and refusals */

/* False: there have been enough in this second. */
static bool may_tell(const struct frontend *frontend, struct audit_bound *bound)
{
    int64_t second = frontend_now_ms(frontend) / 1000;

    if (bound->second != second) {
        bound->second = second;
        bound->lines = 0;
    }
    if (bound->lines == AUDIT_LINES_PER_S) {
        bound->omitted++;
        return false;
    }
    bound->lines++;
    return true;
}

static void add_omitted(struct logger_line *line, struct audit_bound *bound)
{
    if (bound->omitted != 0)
        logger_add_i64(line, "omitted", (int64_t)bound->omitted);
    bound->omitted = 0;
}

static bool begin_refusal(struct frontend *frontend, struct logger_line *line, int status,
                          const char *reason)
{
    if (!may_tell(frontend, &frontend->audit.refusals))
        return false;
    logger_begin_audit(line, "refused");
    logger_add_i64(line, "status", status);
    logger_add_str(line, "reason", cut((struct str){reason, strlen(reason)}));
    add_omitted(line, &frontend->audit.refusals);
    return true;
}

void audit_refused(struct exchange *exchange, int status, const char *reason)
{
    struct logger_line line;

    if (!begin_refusal(exchange->frontend, &line, status, reason))
        return;
    add_exchange(&line, exchange);
    logger_end(&line);
}

void audit_refused_later(struct frontend *frontend, const struct grant *grant, struct str session,
                         int status, const char *reason)
{
    struct logger_line line;

    if (!begin_refusal(frontend, &line, status, reason))
        return;
    logger_add_str(&line, "session", session);
    add_grant(&line, grant);
    logger_end(&line);
}

/* ---- acts */

static bool only_reads(const h2o_req_t *req)
{
    h2o_iovec_t method = req->input.method;
    return h2o_memis(method.base, method.len, H2O_STRLIT("GET")) ||
           h2o_memis(method.base, method.len, H2O_STRLIT("HEAD"));
}

void audit_admin(struct exchange *exchange)
{
    struct logger_line line;

    if (only_reads(exchange->req))
        return;
    logger_begin_audit(&line, "admin_act");
    add_exchange(&line, exchange);
    logger_end(&line);
}

void audit_speaks_for(const struct grant *grant, struct str session, struct str agent,
                      const char *command)
{
    struct audit_bound *bound = &grant->frontend->audit.speaking;
    struct logger_line line;

    if (!may_tell(grant->frontend, bound))
        return;
    logger_begin_audit(&line, "admin_act");
    logger_add_text(&line, "act", command);
    logger_add_str(&line, "agent", agent);
    logger_add_str(&line, "session", session);
    add_grant(&line, grant);
    add_omitted(&line, bound);
    logger_end(&line);
}
