#include "server/mcp/rpc.h"

#include "core/core.h"

#include <math.h>

const struct json_value *rpc_member(const struct json_value *object, struct str name)
{
    if (object == NULL || object->type != JSON_OBJECT)
        return NULL;
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1))
        if (str_equal(json_str(key), name))
            return key + 1;
    return NULL;
}

struct str rpc_string(const struct json_value *object, struct str name)
{
    const struct json_value *value = rpc_member(object, name);
    return value != NULL && value->type == JSON_STRING ? json_str(value) : (struct str){0};
}

struct str rpc_scalar(const struct json_value *value, struct arena *arena)
{
    struct buf text = {0};
    bool integer = value->type == JSON_NUMBER && trunc(value->as.number) == value->as.number &&
                   fabs(value->as.number) <= (double)CORE_SAFE_INTEGER;
    if (!integer && (value->type != JSON_STRING || value->size > RPC_ID_BYTES))
        return (struct str){0};
    json_canonical(value, &text);
    struct str copy = arena_copy(arena, buf_str(&text));
    buf_free(&text);
    return copy;
}

static void bad(struct rpc_message *message, const char *why)
{
    message->kind = RPC_BAD;
    message->why = why;
}

static void read_response(const struct json_value *value, struct rpc_message *message)
{
    message->result = rpc_member(value, STR("result"));
    message->error = rpc_member(value, STR("error"));
    if ((message->result == NULL) == (message->error == NULL))
        bad(message, "It has neither a method nor a result nor an error.");
    else if (message->id.p == NULL && message->result != NULL)
        bad(message, "A response must have the id of its request.");
    else if (message->error != NULL && message->error->type != JSON_OBJECT)
        bad(message, "The error of a response must be an object.");
    else
        message->kind = RPC_RESPONSE;
}

void rpc_read(const struct json_value *value, struct arena *arena, struct rpc_message *message)
{
    *message = (struct rpc_message){0};
    if (value->type != JSON_OBJECT) {
        bad(message, "A message must be an object.");
        return;
    }
    const struct json_value *id = rpc_member(value, STR("id"));
    const struct json_value *method = rpc_member(value, STR("method"));
    const struct json_value *params = rpc_member(value, STR("params"));
    if (params != NULL && params->type == JSON_NULL)
        params = NULL; /* as some clients write "none" */

    if (id != NULL)
        message->id = rpc_scalar(id, arena);
    if (!str_equal(rpc_string(value, STR("jsonrpc")), STR("2.0")))
        bad(message, "A message must have \"jsonrpc\": \"2.0\".");
    else if (id != NULL && message->id.p == NULL)
        bad(message, "The id must be a string of at most 256 bytes or an integer within "
                     "+-9007199254740991, and not null.");
    else if (method == NULL)
        read_response(value, message);
    else if (method->type != JSON_STRING || method->size == 0)
        bad(message, "The method must be a string.");
    else if (params != NULL && params->type != JSON_OBJECT)
        bad(message, "The params must be an object.");
    else
        message->kind = id != NULL ? RPC_REQUEST : RPC_NOTIFICATION;
    if (message->kind == RPC_BAD || message->kind == RPC_RESPONSE)
        return;
    message->method = arena_copy(arena, json_str(method));
    message->params = params;
}

/* ---- writing */

static void begin(struct buf *out, struct str id)
{
    buf_add_literal(out, "{\"jsonrpc\":\"2.0\"");
    if (id.p != NULL) {
        buf_add_literal(out, ",\"id\":");
        buf_add_str(out, id);
    }
}

void rpc_write_error(struct buf *out, struct str id, int code, struct str message, struct str data)
{
    begin(out, id);
    buf_add_literal(out, ",\"error\":{\"code\":");
    buf_add_i64(out, code);
    buf_add_literal(out, ",\"message\":");
    json_add_string(out, message);
    if (data.n != 0) {
        buf_add_literal(out, ",\"data\":");
        buf_add_str(out, data);
    }
    buf_add_literal(out, "}}");
}

void rpc_write_request(struct buf *out, struct str id, struct str method, struct str params)
{
    begin(out, id);
    buf_add_literal(out, ",\"method\":");
    json_add_string(out, method);
    if (params.n != 0) {
        buf_add_literal(out, ",\"params\":");
        buf_add_str(out, params);
    }
    buf_add_byte(out, '}');
}

void rpc_write_notification(struct buf *out, struct str method, struct str params)
{
    rpc_write_request(out, (struct str){0}, method, params);
}
