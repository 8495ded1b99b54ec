/*
 * courier: carries wake-up calls to agents that are not waiting: webhooks, one POST for each order
 * of a shard (shards/wake.h), on one thread of its own that runs libcurl's multi interface.
 *
 *     {"type":"agent.wake","session":"s1","epoch":"k3x9","agent":"coder","seq":42,"unread":3,
 *      "mentioned":true,"cursor":"…"}
 *
 * Headers are those of the Standard Webhooks specification: webhook-id (the same in every try of a
 * call: wake:<session>:<epoch>:<agent>:<seq>), webhook-timestamp, and, where the target has a
 * secret, webhook-signature: v1,base64(HMAC-SHA256(secret, id.timestamp.body)).
 *
 * A call is done when it is answered 2xx. Redirects are not followed, proxies of the environment
 * not asked, cookies not kept; of an answer COURIER_ANSWER_MAX bytes are read. Where a call may go
 * is looked at when its socket is made, with the address in hand (courier_rules.h).
 * Failure: told in the order; the shard tries again, or gives up. Orders that a stop finds under
 * way are dropped: whoever still has unread messages is called after the next start.
 *
 * Thread: made, started, stopped and freed by the main thread.
 */
#ifndef ATOLL_SERVER_COURIER_H
#define ATOLL_SERVER_COURIER_H

#include "server/config.h"
#include "server/seal.h"
#include "shards/wake.h"

enum {
    COURIER_CALLS_MAX = 128, /* under way at once; further orders wait in their rings */
    COURIER_TIMEOUT_MS = 10000,
    COURIER_CONNECT_MS = 3000, /* of it, with the resolution of the name */
    COURIER_ANSWER_MAX = 65536,
};

struct cluster;
struct courier;

/* What the secrets of a data directory's targets are sealed with. */
void courier_make_key(const struct cluster *cluster, struct seal_key *key);

/* Of a courier's start. */
struct courier_start {
    struct seal_key seal;
    /* Called when an order of a shard is done. Courier's thread. */
    void (*nudge)(void *ctx, unsigned shard);
    void *ctx;
};

/* `allowed` are the values of --allow-wake-to. */
struct courier *courier_new(unsigned shards, const struct config_list *allowed);
/* What the shards are given; good until courier_free, and before the start, too. */
const struct wake_courier *courier_wake(const struct courier *courier);
void courier_start(struct courier *courier, const struct courier_start *start);
/* Ends the thread; `nudge` is not called any more. Shards may still post and ask what is done. */
void courier_stop(struct courier *courier);
/* Stopped or never started; no shard uses it any more. */
void courier_free(struct courier *courier);

#endif
