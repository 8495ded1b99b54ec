/*
 * call: what a face needs to know of a request besides its route: query, headers, body.
 *
 * All strings point into h2o's request or the frontend's scratch arena: good during the call.
 */
#ifndef ATOLL_SERVER_CALL_H
#define ATOLL_SERVER_CALL_H

#include "server/exchange.h"

/* Headers that mean something here. p == NULL: not given. */
struct call_headers {
    struct str content_type, if_match, if_none_match, accept, origin, key, last_event_id;
    struct str authorization, cookie, request_id, traceparent;
    const char *twice; /* name of one that may be given only once, and was given again */
};

struct call {
    struct str host;   /* the Host, or that of a target that is a whole URL */
    struct str target; /* path and query */
    struct query query;
    struct call_headers headers;
    struct str body;
};

/* Host and target of the request line. */
void call_read_target(const h2o_req_t *req, struct arena *scratch, struct call *call);
/* One pass over the request's headers. */
void call_read_headers(h2o_req_t *req, struct call_headers *headers);

#endif
