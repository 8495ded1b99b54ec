/*
 * cors: what browsers are told about pages of other origins (the Fetch standard's CORS protocol).
 *
 * An --allowed-origin may read answers and send what the API takes, with a token; never with a
 * cookie, so Access-Control-Allow-Credentials is not said and cookies stay the own pages'.
 * Preflights are answered for every route alike, before tokens are asked for: they tell nothing. An
 * Origin that is not allowed was refused before (access.h).
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_CORS_H
#define ATOLL_SERVER_CORS_H

#include "server/call.h"

/* Remembers that the answer goes to another origin. False: it was a preflight, and is answered. */
bool cors_begin(struct exchange *exchange, const struct call *call);
/* Adds what an answer of this exchange says beside the rest, to headers that hold theirs. */
void cors_add_headers(const struct exchange *exchange, h2o_headers_t *headers);

#endif
