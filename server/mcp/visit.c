#include "server/mcp/visit.h"

/* ---- headers */

struct str visit_header(const struct exchange *exchange, const char *name)
{
    const h2o_headers_t *headers = &exchange->req->headers;
    ssize_t at = h2o_find_header_by_str(headers, name, strlen(name), -1);
    if (at < 0)
        return (struct str){0};
    h2o_iovec_t value = headers->entries[at].value;
    while (value.len != 0 && strchr(" \t", value.base[value.len - 1]) != NULL)
        value.len--; /* blanks around a value do not belong to it; h2o leaves those behind */
    return (struct str){value.base != NULL ? value.base : "", value.len};
}

/* ---- refusals without a call */

static void refuse(struct exchange *exchange, int status, struct str id, enum mcp_code code,
                   const char *message, struct str data)
{
    struct buf *text = &exchange->text;
    text->n = 0;
    rpc_write_error(text, id, code, (struct str){message, strlen(message)}, data);
    exchange_answer(exchange,
                    &(struct answer){.status = status, .kind = ANSWER_JSON, .body = buf_str(text)});
}

void visit_refuse(struct exchange *exchange, int status, struct str id, enum mcp_code code,
                  const char *message)
{
    refuse(exchange, status, id, code, message, (struct str){0});
}

void visit_refuse_version(struct exchange *exchange, struct str id, struct str requested)
{
    struct buf data = {0};

    buf_add_literal(&data, "{\"supported\":");
    mcp_write_versions(&data);
    buf_add_literal(&data, ",\"requested\":");
    json_add_string(&data, (struct str){requested.p, json_cut(requested, 64)});
    buf_add_byte(&data, '}');
    refuse(exchange, 400, id, MCP_E_VERSION,
           "Unsupported protocol version; this server speaks 2026-07-28, 2025-11-25, 2025-06-18, "
           "2025-03-26 and 2024-11-05.",
           buf_str(&data));
    buf_free(&data);
}

void visit_accept(struct exchange *exchange)
{
    exchange_answer(exchange, &(struct answer){.status = 202, .kind = ANSWER_JSON});
}
