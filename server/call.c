#include "server/call.h"

static struct str str_of(h2o_iovec_t v)
{
    return (struct str){v.base != NULL ? v.base : "", v.len};
}

static void take(struct str *place, const h2o_header_t *header, const char *name,
                 struct call_headers *headers)
{
    if (place->p != NULL)
        headers->twice = name;
    *place = str_of(header->value);
}

/* HTTP/2 may send each of its parts as a header of its own (RFC 9113, 8.2.3). */
static void take_cookie(h2o_req_t *req, const h2o_header_t *header, struct call_headers *headers)
{
    struct str before = headers->cookie;
    headers->cookie = str_of(header->value);
    if (before.p == NULL)
        return;
    h2o_iovec_t joined = h2o_concat(&req->pool, h2o_iovec_init(before.p, before.n),
                                    h2o_iovec_init(H2O_STRLIT("; ")), header->value);
    headers->cookie = str_of(joined);
}

/* h2o has no tokens for these; it has put their names in lower case. */
static void take_other(const h2o_header_t *header, struct call_headers *headers)
{
    const h2o_iovec_t *name = header->name;
    if (h2o_memis(name->base, name->len, H2O_STRLIT("origin")))
        take(&headers->origin, header, "Origin", headers);
    else if (h2o_memis(name->base, name->len, H2O_STRLIT("idempotency-key")))
        take(&headers->key, header, "Idempotency-Key", headers);
    else if (h2o_memis(name->base, name->len, H2O_STRLIT("last-event-id")))
        take(&headers->last_event_id, header, "Last-Event-ID", headers);
    else if (h2o_memis(name->base, name->len, H2O_STRLIT("x-request-id")))
        headers->request_id = str_of(header->value);
    else if (h2o_memis(name->base, name->len, H2O_STRLIT("traceparent")))
        headers->traceparent = str_of(header->value);
}

void call_read_headers(h2o_req_t *req, struct call_headers *headers)
{
    *headers = (struct call_headers){0};
    for (size_t i = 0; i < req->headers.size; i++) {
        const h2o_header_t *header = &req->headers.entries[i];
        if (header->name == &H2O_TOKEN_CONTENT_TYPE->buf)
            take(&headers->content_type, header, "Content-Type", headers);
        else if (header->name == &H2O_TOKEN_AUTHORIZATION->buf)
            take(&headers->authorization, header, "Authorization", headers);
        else if (header->name == &H2O_TOKEN_COOKIE->buf)
            take_cookie(req, header, headers);
        else if (header->name == &H2O_TOKEN_IF_MATCH->buf)
            take(&headers->if_match, header, "If-Match", headers);
        else if (header->name == &H2O_TOKEN_IF_NONE_MATCH->buf)
            headers->if_none_match = str_of(header->value);
        else if (header->name == &H2O_TOKEN_ACCEPT->buf)
            headers->accept = str_of(header->value);
        else if (!h2o_iovec_is_token(header->name))
            take_other(header, headers);
    }
}

void call_read_target(const h2o_req_t *req, struct arena *scratch, struct call *call)
{
    call->target = str_of(req->input.path);
    call->host = router_take_authority(&call->target, scratch);
    if (call->host.p == NULL)
        call->host = str_of(req->input.authority);
}
