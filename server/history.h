/*
 * history: past states, what lies between two of them, their proof, forks, and whole sessions on
 * their way out and in.
 *
 * Normal path: history_serve makes one request for the shard; a fork goes to the shard of the
 * session to be made, all else to that of the path's. An export comes back page by page, each asked
 * for when the client has taken the one before, and ends where the session stood at the first.
 * Failure: a problem; of an export that has begun, the connection is cut, so that no client takes
 * the part for the whole.
 */
#ifndef ATOLL_SERVER_HISTORY_H
#define ATOLL_SERVER_HISTORY_H

#include "server/call.h"

void history_serve(struct exchange *exchange, const struct call *call);
/* A page of an export has come; takes it over. False: it is an error that can still be answered. */
bool history_on_page(struct exchange *exchange, struct request *request);
/* The answer of a fork or an import, which the exchange holds already. */
void history_answer_made(struct exchange *exchange, const struct request *request);

#endif
