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

/* A session.create among commands is for the request's session, whether it says so or not. 0, or an
 * error. */
int rest_check_create(struct request *request, struct request_command *item,
                      struct core_refusal *why);

/* ---- for history.c */

/* An empty request for the session of the path. */
struct request *rest_request(const struct exchange *exchange, enum request_kind kind);
/* Whether the body's media type and size are ones that the route takes. 0, or an error. */
int rest_check_body(const struct exchange *exchange, const struct call *call,
                    struct core_refusal *why);
/* Takes the Idempotency-Key, if there is one, and the caller. 0, or an error. */
int rest_take_key(const struct exchange *exchange, const struct call *call, struct request *request,
                  struct core_refusal *why);
/* A session id: always the same for the request's key, or, without one, one of its own. */
struct str rest_new_id(struct frontend *frontend, struct request *request);
/* Whether requests for a session that the body names will come to this node. 0, or
 * PROBLEM_E_MISDIRECTED; `instead`: what else can be done, a clause of the sentence. */
int rest_check_node(const struct frontend *frontend, struct str id, const char *instead,
                    struct core_refusal *why);
/* The path of what the request made; in the exchange's pool. */
struct str rest_location(struct exchange *exchange, const struct request *request);

#endif
