#include "server/history.h"
#include "server/auth/guard.h"

#include "server/at.h"
#include "server/rest.h"

/* ---- asking */

static void serve_past(struct exchange *exchange, const struct call *call, enum request_kind kind)
{
    struct request *request = rest_request(exchange, kind);

    request->at = at_copy(&request->arena, &call->query.at);
    request->to = at_copy(&request->arena, &call->query.to);
    exchange_send(exchange, request);
}

static void serve_export(struct exchange *exchange, const struct call *call)
{
    struct request *request = rest_request(exchange, REQUEST_EXPORT);

    request->has_after = query_has(&call->query, QUERY_AFTER);
    request->after = call->query.after;
    exchange_send(exchange, request);
}

static int read_fork(struct exchange *exchange, const struct call *call, struct request *request,
                     struct core_refusal *why)
{
    struct frontend *frontend = exchange->frontend;
    int rc = rest_take_key(exchange, call, request, why);

    if (rc != 0)
        return rc;
    request->parent = request->session;
    request->session = (struct str){0};
    if (decode_fork(frontend->decoder, call->body, request, why) != 0)
        return (int)why->code;
    if (request->session.p == NULL)
        request->session = rest_new_id(frontend, request);
    request->key = (struct str){0}; /* it has done its work: the id is what makes a retry safe */
    return rest_check_node(frontend, request->session, "", why);
}

static int read_import(const struct call *call, struct request *request, struct core_refusal *why)
{
    request->has_after = query_has(&call->query, QUERY_AFTER);
    request->after = call->query.after;
    request->import_more = call->query.more;
    return decode_import(call->body, request, why) != 0 ? (int)why->code : 0;
}

static void serve_made(struct exchange *exchange, const struct call *call, enum request_kind kind)
{
    struct core_refusal why = {0};
    int rc = rest_check_body(exchange, call, &why);

    if (rc != 0) {
        exchange_refuse(exchange, (unsigned)rc, &why);
        return;
    }
    struct request *request = rest_request(exchange, kind);
    rc = kind == REQUEST_FORK ? read_fork(exchange, call, request, &why)
                              : read_import(call, request, &why);
    if (rc == 0) {
        exchange_send(exchange, request);
    } else {
        exchange_refuse(exchange, (unsigned)rc, &why);
        request_free(request);
    }
}

void history_serve(struct exchange *exchange, const struct call *call)
{
    switch (exchange->match.route) {
    case ROUTE_DIFF:
        serve_past(exchange, call, REQUEST_DIFF);
        break;
    case ROUTE_PROOF:
        serve_past(exchange, call, REQUEST_PROOF);
        break;
    case ROUTE_EXPORT:
        serve_export(exchange, call);
        break;
    case ROUTE_FORK:
        serve_made(exchange, call, REQUEST_FORK);
        break;
    default:
        serve_made(exchange, call, REQUEST_IMPORT);
        break;
    }
}

/* ---- answers */

void history_answer_made(struct exchange *exchange, const struct request *request)
{
    struct answer answer = {.status = 200, .kind = ANSWER_JSON, .body = buf_str(&request->body)};

    if (request->kind == REQUEST_FORK ? !request->again : !request->import_more) {
        answer.status = 201;
        answer.location = rest_location(exchange, request);
    }
    exchange_answer(exchange, &answer);
}

/* The page behind the exchange's reply, of the same life and no further than the first one said. */
static void ask_next(struct exchange *exchange)
{
    const struct request *page = exchange->reply;
    struct request *request = request_new();

    request->kind = REQUEST_EXPORT;
    request->session = arena_copy(&request->arena, page->session);
    request->after = page->upto;
    request->has_after = true;
    if (page->at.given) {
        request->at = at_copy(&request->arena, &page->at);
    } else {
        struct str epoch = {page->epoch, strlen(page->epoch)};
        request->at = (struct request_at){.given = true, .seq = page->seq};
        request->at.epoch = arena_copy(&request->arena, epoch);
    }
    exchange_send_next(exchange, request);
}

bool history_on_page(struct exchange *exchange, struct request *request)
{
    if (!exchange->answered && request->error != 0)
        return false;
    if (exchange->answered && !exchange->asking) { /* it was cut meanwhile */
        request_free(request);
    } else if (request->error != 0) {
        request_free(request);
        exchange_gone(exchange);
    } else {
        exchange_page(exchange, request, !request->more, ask_next);
    }
    return true;
}
