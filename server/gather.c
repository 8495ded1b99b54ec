#include "server/gather.h"

#include <stdlib.h>

void gather_begin(struct exchange *exchange, gather_ask *ask, void *ctx)
{
    struct gather *gather = mem_alloc(sizeof(*gather));

    *gather = (struct gather){.expected = mailbox_shards(exchange->frontend->mailbox)};
    exchange->gather = gather;
    for (unsigned i = 0; i < gather->expected; i++)
        if (!exchange_send_to(exchange, ask(ctx), i))
            return;
}

bool gather_take(struct exchange *exchange, struct request *reply)
{
    struct gather *gather = exchange->gather;

    if (exchange->answered) {
        request_free(reply);
        return false;
    }
    assert(gather->replies[reply->shard] == NULL);
    gather->replies[reply->shard] = reply;
    gather->come++;
    if (reply->error != 0) {
        exchange_refuse(exchange, reply->error, &reply->refusal);
        return false;
    }
    return gather->come == gather->expected;
}

void gather_free(struct gather *gather)
{
    for (unsigned i = 0; i < gather->expected; i++)
        if (gather->replies[i] != NULL)
            request_free(gather->replies[i]);
    free(gather);
}
