/*
 * at: a place in a session's history as a client names it: a seq, an ETag without its quotes, or a
 * time (RFC 3339). Pure.
 */
#ifndef ATOLL_SERVER_AT_H
#define ATOLL_SERVER_AT_H

#include "shards/request.h"

#define AT_RULE "a seq, \"<epoch>-<seq>\", or a time such as 2025-03-01T09:30:00Z"

/* False: it is none of the three. `at->epoch` lies in `text`. */
bool at_read(struct str text, struct request_at *at);

/* The millisecond that a time lies in, and whether it lies behind its beginning. False: no time. */
bool at_read_time(struct str text, int64_t *ts_ms, bool *behind);

/* A copy whose epoch lies in `arena`. */
struct request_at at_copy(struct arena *arena, const struct request_at *at);

#endif
