/*
 * gather: one question to all shards, and their replies until the last one has come.
 */
#ifndef ATOLL_SERVER_GATHER_H
#define ATOLL_SERVER_GATHER_H

#include "server/exchange.h"

struct gather {
    unsigned expected, come;
    struct request *replies[DATADIR_SHARDS_MAX]; /* by shard */
};

/* Makes the request for one shard. */
typedef struct request *gather_ask(void *ctx);

/* Asks all shards for `exchange`; where one cannot be asked the exchange is answered with 503. */
void gather_begin(struct exchange *exchange, gather_ask *ask, void *ctx);
/* Takes a reply over. True: that was the last one, and none of them is an error; an error answers
 * the exchange. */
bool gather_take(struct exchange *exchange, struct request *reply);
void gather_free(struct gather *gather);

#endif
