#include "server/cors.h"

/* clang-format off */
#define VALUE(text) {(char *)(text), sizeof(text) - 1}

static h2o_iovec_t allow_origin = VALUE("access-control-allow-origin");
static h2o_iovec_t allow_methods = VALUE("access-control-allow-methods");
static h2o_iovec_t allow_headers = VALUE("access-control-allow-headers");
static h2o_iovec_t expose_headers = VALUE("access-control-expose-headers");
static h2o_iovec_t max_age = VALUE("access-control-max-age");

static const h2o_header_t vary = {&H2O_TOKEN_VARY->buf, NULL, VALUE("origin")};
static const h2o_header_t exposed = {
    &expose_headers, NULL,
    VALUE("ETag, Location, Retry-After, RateLimit, RateLimit-Policy, Idempotent-Replayed, "
          "Mcp-Session-Id, WWW-Authenticate, X-Request-Id")};
static const h2o_header_t preflight_headers[] = {
    {&allow_methods, NULL, VALUE("GET, HEAD, POST, PUT, PATCH, DELETE")},
    {&allow_headers, NULL,
     VALUE("Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
           "Last-Event-ID, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, "
           "Traceparent, X-Request-Id")},
    {&max_age, NULL, VALUE("7200")}, /* the longest that browsers keep it */
};
/* clang-format on */

static bool is_preflight(const h2o_req_t *req)
{
    return h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("OPTIONS")) &&
           h2o_find_header_by_str(&req->headers, H2O_STRLIT("access-control-request-method"), -1) !=
               -1;
}

bool cors_begin(struct exchange *exchange, const struct call *call)
{
    struct str origin = call->headers.origin;

    if (origin.p == NULL || access_origin_own(origin, call->host))
        return true;
    char *copy = exchange_alloc(exchange, origin.n);
    memcpy(copy, origin.p, origin.n);
    exchange->origin = (struct str){copy, origin.n};
    if (!is_preflight(exchange->req))
        return true;
    exchange_answer(exchange,
                    &(struct answer){
                        .status = 204,
                        .kind = ANSWER_JSON,
                        .more = preflight_headers,
                        .more_n = sizeof(preflight_headers) / sizeof(preflight_headers[0]),
                    });
    return false;
}

void cors_add_headers(const struct exchange *exchange, h2o_headers_t *headers)
{
    struct str origin = exchange->origin;

    if (exchange->frontend->live->access.origins->count == 0)
        return;
    h2o_vector_reserve(&exchange->req->pool, headers, headers->size + 3);
    headers->entries[headers->size++] = vary;
    if (origin.p == NULL)
        return;
    headers->entries[headers->size++] =
        (h2o_header_t){.name = &allow_origin, .value = h2o_iovec_init(origin.p, origin.n)};
    headers->entries[headers->size++] = exposed;
}
