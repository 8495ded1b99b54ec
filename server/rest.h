/*
 * rest: commands and reading over plain HTTP.
 *
 * Normal path: rest_serve decodes the request into one struct request and sends it to the shard of
 * its session; rest_on_reply turns the reply into the answer. What was made is a 201 with Location
 * where the route is one that makes things.
 * Failure: a problem, from here (headers, content type, size), from decode or from the shard.
 */
#ifndef ATOLL_SERVER_REST_H
#define ATOLL_SERVER_REST_H

#include "server/call.h"

void rest_serve(struct exchange *exchange, const struct call *call);
/* A request of rest_serve has come back; takes it over. */
void rest_on_reply(struct exchange *exchange, struct request *request);

#endif
