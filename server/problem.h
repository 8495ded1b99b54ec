/*
 * problem: what a refused request is answered with, application/problem+json (RFC 9457).
 *
 * Errors come from three rooms and share one numbering: core's, then those of the requests, then
 * the ones that only a face can tell. Their table gives status, name and title; the sentence in
 * `detail` is of who refused.
 */
#ifndef ATOLL_SERVER_PROBLEM_H
#define ATOLL_SERVER_PROBLEM_H

#include "shards/request.h"

/* code, status, name, title */
#define PROBLEM_ERRORS(X)                                                                          \
    X(UNKNOWN_ROUTE, 404, "unknown-route", "Unknown route")                                        \
    X(METHOD_NOT_ALLOWED, 405, "method-not-allowed", "Method not allowed")                         \
    X(NOT_ACCEPTABLE, 406, "not-acceptable", "Not acceptable")                                     \
    X(UNAUTHORIZED, 401, "unauthorized", "Unauthorized")                                           \
    X(FORBIDDEN_HOST, 403, "forbidden-host", "Host not allowed")                                   \
    X(FORBIDDEN_ORIGIN, 403, "forbidden-origin", "Origin not allowed")                             \
    X(REQUEST_TIMEOUT, 408, "request-timeout", "Request timeout")                                  \
    X(UNSUPPORTED_MEDIA_TYPE, 415, "unsupported-media-type", "Unsupported media type")             \
    X(MISDIRECTED, 421, "misdirected", "Another node's session")                                   \
    X(HEADERS_TOO_LARGE, 431, "headers-too-large", "Headers too large")                            \
    X(UPGRADE_REQUIRED, 426, "upgrade-required", "Upgrade required")

enum problem_error {
    PROBLEM_E_FIRST = REQUEST_ERROR_COUNT - 1,
#define X(code, status, name, title) PROBLEM_E_##code,
    PROBLEM_ERRORS(X)
#undef X
        PROBLEM_ERROR_COUNT
};

/* For errors of all three rooms. */
int problem_status(unsigned error);
const char *problem_name(unsigned error);
const char *problem_title(unsigned error);

/*
 * Adds the problem as a JSON object. `why` gives detail, field and (for 409 and 412) seq; NULL:
 * there is no more to say. `retry_after_s` 0: no word on that.
 */
void problem_write(struct buf *out, unsigned error, const struct core_refusal *why,
                   int retry_after_s);

#endif
