/*
 * list: GET /v1/sessions. Every shard lists its own sessions; here their pages become one, sorted
 * by id. A shard that stopped before its end (`more`) has said nothing of ids behind its last one,
 * so the common page goes no further than that.
 */
#ifndef ATOLL_SERVER_LIST_H
#define ATOLL_SERVER_LIST_H

#include "server/call.h"

void list_serve(struct exchange *exchange, const struct call *call);
/* A REQUEST_LIST has come back; takes it over. */
void list_on_reply(struct exchange *exchange, struct request *request);

/* base64url without padding, for cursors. */
void list_cursor_write(struct buf *out, struct str id);
/* False: not a cursor of ours. */
bool list_cursor_read(struct str cursor, struct arena *arena, struct str *id);

#endif
