/*
 * status: what concerns the server as a whole: /, /healthz, /readyz, /v1/status, /openapi.yaml.
 */
#ifndef ATOLL_SERVER_STATUS_H
#define ATOLL_SERVER_STATUS_H

#include "server/call.h"

void status_serve(struct exchange *exchange);
/* A REQUEST_STATUS has come back; takes it over. */
/* 503, saying how far the shards' recovery is. */
void status_refuse_recovering(struct exchange *exchange);
void status_on_reply(struct exchange *exchange, struct request *request);

#endif
