/*
 * level: GET and PUT /v1/log-level: what the logger tells, read and changed while the server runs.
 * It stays so until the next change, by this or by a configuration that is read anew.
 */
#ifndef ATOLL_SERVER_LEVEL_H
#define ATOLL_SERVER_LEVEL_H

#include "server/call.h"

void level_serve(struct exchange *exchange, const struct call *call);

#endif
