/*
 * relay: what belongs to another reactor's call, stream or question goes there by REQUEST_RELAY:
 * kind, whom it is for, a newline, bytes.
 */
#include "server/call.h"
#include "server/mcp/older.h"
#include "server/mcp/visit.h"
#include "server/problem.h"

static struct request *relay_new(char kind, struct str whom, struct str bytes)
{
    struct request *request = request_new();
    char *p = arena_alloc(&request->arena, 2 + whom.n + bytes.n);

    request->kind = REQUEST_RELAY;
    request->relay = (struct str){p, 2 + whom.n + bytes.n};
    *p++ = kind;
    memcpy(p, whom.p, whom.n);
    p += whom.n;
    *p++ = '\n';
    if (bytes.n != 0)
        memcpy(p, bytes.p, bytes.n);
    return request;
}

static void on_relayed(struct exchange *exchange, struct request *request)
{
    unsigned error = request->error;
    request_free(request);
    if (error != 0)
        exchange_refuse_text(exchange, REQUEST_E_OVERLOADED, NULL,
                             "Too much is on its way to where this belongs; try again.");
    else
        visit_accept(exchange);
}

void mcp_relay(struct exchange *exchange, unsigned reactor, char kind, struct str whom,
               struct str bytes)
{
    exchange->on_reply = on_relayed;
    exchange_send_to(exchange, relay_new(kind, whom, bytes), reactor);
}

static void cancel_here(struct frontend *frontend, struct str owner, struct str id)
{
    struct mcp_call *call = mcp_call_find(frontend, owner, id);
    if (call != NULL)
        mcp_call_drop(call);
}

void relay_cancel(struct frontend *frontend, struct str owner, struct str id)
{
    unsigned own = reactor_number(frontend->reactor);

    for (unsigned i = 0; i < frontend->shared->frontends; i++) {
        if (i == own) {
            cancel_here(frontend, owner, id);
            continue;
        }
        struct request *request = relay_new(MCP_RELAY_CANCEL, owner, id);
        request->shard = (uint16_t)i;
        outbox_send(&frontend->outbox, frontend->mailbox, request);
    }
}

void relay_answer(struct frontend *frontend, unsigned reactor, struct str owner, struct str text)
{
    struct request *request = relay_new(MCP_RELAY_ANSWER, owner, text);
    request->shard = (uint16_t)reactor;
    outbox_send(&frontend->outbox, frontend->mailbox, request);
}

static void answer_here(struct frontend *frontend, struct str owner, struct str body)
{
    const struct json_value *root;
    struct json_error error;
    struct rpc_message message;
    struct mcp_asking_id id;
    struct arena arena = {0};

    if (mcp_parse(frontend, &arena, body, &root, &error) == 0) {
        rpc_read(root, &arena, &message);
        if (message.kind == RPC_RESPONSE && mcp_read_asking(frontend, message.id, &id))
            (void)mcp_answered(frontend, NULL, owner, &id, &message);
    }
    arena_free(&arena);
}

void mcp_on_relay(struct frontend *frontend, struct str bytes)
{
    const char *end = memchr(bytes.p, '\n', bytes.n);
    assert(bytes.n > 1 && end != NULL);
    struct str whom = {bytes.p + 1, (size_t)(end - bytes.p) - 1};
    struct str rest = {end + 1, bytes.n - whom.n - 2};

    if (bytes.p[0] == MCP_RELAY_CANCEL)
        cancel_here(frontend, whom, rest);
    else if (bytes.p[0] == MCP_RELAY_ANSWER)
        answer_here(frontend, whom, rest);
    else
        mcp_older_on_relay(frontend, whom, rest);
}
