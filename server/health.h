/*
 * health: the components of the server, and how each of them is: shards, their logs, what they call
 * (agents' targets), listeners. Read from the cells in which each tells it
 * (shards/health.h), so that it can be told although a shard stands still.
 *
 * Thread: any frontend's.
 */
#ifndef ATOLL_SERVER_HEALTH_H
#define ATOLL_SERVER_HEALTH_H

#include "server/frontend.h"
#include "shards/health.h"

typedef void health_told(void *ctx, const char *component, const struct health *health);

/* `component` and `health` are good during the call. */
void health_each(struct frontend *frontend, health_told *told, void *ctx);
/* [{"component","state","since","error","error_at"}, …]; those that are at least as bad as
 * `least`. Returns how many. */
unsigned health_add_json(struct frontend *frontend, enum health_state least, struct buf *out);

/* The frontend cannot accept connections just now, and why; NULL: it can again. */
void health_set_accepting(struct frontend *frontend, const char *why);

#endif
