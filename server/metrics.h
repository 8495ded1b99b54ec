/*
 * metrics: GET /metrics, in the text format of Prometheus (0.0.4), or as OpenMetrics 1.0 where
 * Accept asks for that.
 *
 * Names begin with atoll_ and end in their unit; process_… and jemalloc_… are what their names say.
 * Labels are bounded: shards, reactors, routes, classes of status, kinds of problems, components.
 * What is by shard comes in the replies to REQUEST_STATUS; all else is read where it is counted.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_METRICS_H
#define ATOLL_SERVER_METRICS_H

#include "server/call.h"

void metrics_serve(struct exchange *exchange, const struct call *call);

#endif
