#include "server/trace.h"

#include "server/auth/grant.h"
#include "server/logger.h"

#include <stdio.h>

enum { MADE_BYTES = OVERVIEW_START_BYTES + 32 };

struct str trace_request_id(struct str header)
{
    if (header.n == 0 || header.n > TRACE_ID_BYTES)
        return (struct str){0};
    for (size_t i = 0; i < header.n; i++)
        if (header.p[i] <= ' ' || header.p[i] > '~')
            return (struct str){0};
    return header;
}

static bool is_hex(struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}

static bool is_zero(struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != '0')
            return false;
    return true;
}

/* 00-TRACE-PARENT-FLAGS. Later versions may be longer, and begin like that (3.2.4). */
struct str trace_of_parent(struct str header)
{
    enum { VERSION = 2, TRACE = 32, PARENT = 16, FLAGS = 2, ALL = 55 };
    if (header.n < ALL)
        return (struct str){0};
    struct str version = {header.p, VERSION}, trace = {header.p + 3, TRACE},
               parent = {header.p + 36, PARENT}, flags = {header.p + 53, FLAGS};
    bool longer = header.n > ALL;

    if (header.p[2] != '-' || header.p[35] != '-' || header.p[52] != '-' || !is_hex(version) ||
        !is_hex(trace) || !is_hex(parent) || !is_hex(flags) || is_zero(trace) || is_zero(parent) ||
        str_equal(version, STR("ff")) || (longer && (is_zero(version) || header.p[ALL] != '-')))
        return (struct str){0};
    return trace;
}

void trace_begin(struct exchange *exchange, const struct call_headers *headers)
{
    if (headers->request_id.p != NULL)
        exchange->request_id = trace_request_id(headers->request_id);
    exchange->id_given = exchange->request_id.p != NULL;
    if (headers->traceparent.p == NULL)
        return;
    exchange->trace = trace_of_parent(headers->traceparent);
    if (!exchange->id_given)
        exchange->request_id = exchange->trace;
}

struct str trace_id(struct exchange *exchange)
{
    struct frontend *frontend = exchange->frontend;

    if (exchange->request_id.p == NULL) {
        char *text = exchange_alloc(exchange, MADE_BYTES);
        int n = snprintf(text, MADE_BYTES, "%s-%u-%llu", frontend->shared->start,
                         reactor_number(frontend->reactor),
                         (unsigned long long)++frontend->requests_named);
        exchange->request_id = (struct str){text, (size_t)n};
    }
    return exchange->request_id;
}

/* Without the query, which may hold a ticket, and without an authority, which may hold a password.
 */
static struct str path_of(const h2o_req_t *req)
{
    h2o_iovec_t target = req->input.path;
    const char *end = memchr(target.base, '?', target.len);

    if (target.len == 0 || target.base[0] != '/')
        return (struct str){0};
    return (struct str){target.base, end != NULL ? (size_t)(end - target.base) : target.len};
}

void trace_answer(struct exchange *exchange, int status, int64_t bytes)
{
    const h2o_req_t *req = exchange->req;
    const struct grant *grant = exchange->grant;
    struct logger_line line;

    logger_begin(&line, status >= 500 ? LOGGER_WARN : LOGGER_DEBUG, "request");
    logger_add_str(&line, "method", (struct str){req->input.method.base, req->input.method.len});
    logger_add_str(&line, "path", path_of(req));
    logger_add_i64(&line, "status", status);
    logger_add_i64(&line, "us",
                   (int64_t)(frontend_clock_ns(exchange->frontend) - exchange->begun_ns) / 1000);
    if (bytes >= 0)
        logger_add_i64(&line, "bytes", bytes);
    logger_add_str(&line, "request_id", trace_id(exchange));
    if (grant != NULL)
        logger_add_str(&line, "sub", grant->claims.sub);
    logger_end(&line);
}
