/*
 * rpc: JSON-RPC 2.0 messages, as MCP narrows them: ids are strings or integers, never null. Pure.
 *
 * Normal path: rpc_read tells of a parsed value what message it is; rpc_write_* make those that go
 * out.
 */
#ifndef ATOLL_SERVER_MCP_RPC_H
#define ATOLL_SERVER_MCP_RPC_H

#include "server/json.h"

enum { RPC_ID_BYTES = 256 /* of a string id; longer is refused */ };

enum rpc_kind { RPC_BAD, RPC_REQUEST, RPC_NOTIFICATION, RPC_RESPONSE };

/* Values are good as long as the parse; texts lie in the arena. */
struct rpc_message {
    enum rpc_kind kind;
    struct str id; /* JSON text; p == NULL: none, or not a good one */
    struct str method;
    const struct json_value *params;         /* an object; NULL: none */
    const struct json_value *result, *error; /* of a response: one of them */
    const char *why;                         /* BAD: a static sentence */
};

void rpc_read(const struct json_value *value, struct arena *arena, struct rpc_message *message);

/* A member of an object; NULL: it is not there, or `object` is NULL or none. */
const struct json_value *rpc_member(const struct json_value *object, struct str name);
/* The same where it is a string; p == NULL: it is not. */
struct str rpc_string(const struct json_value *object, struct str name);
/* The JSON text of a string or an integer, as an id or a progress token is; p == NULL: neither. */
struct str rpc_scalar(const struct json_value *value, struct arena *arena);

/* {"jsonrpc":"2.0","id":…,"error":{…}}; `id` p == NULL: none. `data` n == 0: none. */
void rpc_write_error(struct buf *out, struct str id, int code, struct str message, struct str data);
/* {"jsonrpc":"2.0","method":…,"params":…} */
void rpc_write_notification(struct buf *out, struct str method, struct str params);
/* The same with an id: a request. */
void rpc_write_request(struct buf *out, struct str id, struct str method, struct str params);

#endif
