/*
 * trace: by what a request is known to whoever looks for it in logs: its X-Request-Id, or else the
 * trace-id of its traceparent (W3C Trace Context), or else an id made here. One line of the log for
 * each answer: all at the level debug, those of 5xx at warn.
 *
 * An X-Request-Id is 1 to 128 printable characters of ASCII without blanks; another one, and a
 * traceparent that is not well-formed, are passed over. The id is told as X-Request-Id where the
 * client gave one, and with every refusal. A traceparent's trace-id is the `trace` of commands that
 * name none.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_TRACE_H
#define ATOLL_SERVER_TRACE_H

#include "server/call.h"

enum { TRACE_ID_BYTES = 128 };

/* p == NULL: it is no good one. */
struct str trace_request_id(struct str header);
/* Its 32 hexadecimal digits; p == NULL: it is not well-formed. */
struct str trace_of_parent(struct str header);

/* Takes what the client has given. */
void trace_begin(struct exchange *exchange, const struct call_headers *headers);
/* The request's id; made where there is none. Lives as long as the exchange. */
struct str trace_id(struct exchange *exchange);
/* The answer has begun; `bytes` of its body, -1: not known yet. */
void trace_answer(struct exchange *exchange, int status, int64_t bytes);

#endif
