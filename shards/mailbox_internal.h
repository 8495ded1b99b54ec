/*
 * mailbox_internal: the rings between all frontends and all shards, and what a mailbox is made of.
 * Private to shards/, for whoever turns shards: reactor.c, and a simulation in one thread.
 *
 *     struct rings *rings = rings_new(shards, datadir_hash_key(dir));
 *     mailbox_init(&mailbox, rings, number);            // one for each frontend
 *     rings_attach_shard(rings, shard);                 // each shard, before its first turn
 *     shard->mailbox = &mailbox;                        // of the same number, before shard_open
 *     …                                                 // each turn: shard_turn, mailbox_drain,
 *                                                       // mailbox_send_errands
 *     rings_free(rings);                                // what is still in them is lost
 *
 * Nothing here waits, sleeps or makes a thread. `wake` says who was sent something: with threads,
 * the reactor clears it and wakes them; who turns all shards in one thread may let it be.
 *
 * Thread: rings_* before the threads begin and after they end, rings_attach_shard by the shard's
 * owner; the rings in between as in ring.h.
 */
#ifndef ATOLL_SHARDS_MAILBOX_INTERNAL_H
#define ATOLL_SHARDS_MAILBOX_INTERNAL_H

#include "shards/datadir.h"
#include "shards/mailbox.h"
#include "shards/ring.h"

struct shard;

enum request_lane { LANE_CONTROL, LANE_COMMANDS, LANE_TELEMETRY, LANES };

/* As it is when it is sent, or has come back. */
enum request_lane request_lane(const struct request *request);

/* As many frontends as shards; between each two of them a ring for each lane, and one back. */
struct rings {
    unsigned size;
    uint8_t hash_key[DATADIR_HASH_KEY_BYTES]; /* says which shard a session belongs to */
    struct ring *to_shard;                    /* [(frontend * size + shard) * LANES + lane] */
    struct ring *to_frontend;                 /* [shard * size + frontend] */
};

struct mailbox {
    struct rings *rings;
    unsigned number;
    bool shut;             /* mailbox_send refuses: the shards are not there yet */
    unsigned next_drained; /* the shard that mailbox_drain begins with */
    uint64_t pushed;       /* requests, in all */
    uint64_t wake;         /* bit for each shard that was sent something this turn */
    uint64_t outstanding;  /* of the frontend's requests */
    struct request *errands, **errands_tail; /* not sent yet */
    uint64_t errands_unsent, errands_outstanding;
    uint32_t credits[DATADIR_SHARDS_MAX][LANES]; /* left */
    uint64_t full[LANES]; /* requests of the frontend that were refused: no room or no credit */
    /* Of relays on the ring to this frontend: added by the shard of its number before it pushes
     * one, taken off by the frontend. */
    _Atomic uint64_t relayed_bytes;
};

struct relay {
    uint32_t from;
    size_t size;
    char bytes[];
};

/* A copy of the request's bytes for this mailbox's frontend; NULL: too many are on their way. The
 * shard of its number. */
struct relay *mailbox_relay_new(struct mailbox *mailbox, const struct request *request);
/* Taken, or not pushed after all. */
void mailbox_relay_free(struct mailbox *mailbox, struct relay *relay);

struct rings *rings_new(unsigned size, const uint8_t *hash_key);
void rings_free(struct rings *rings);
/* Fills the shard's requests and replies. */
void rings_attach_shard(struct rings *rings, struct shard *shard);
void mailbox_init(struct mailbox *mailbox, struct rings *rings, unsigned number);
/* Errands whose answer has not come, sent or not. */
uint64_t mailbox_errands(const struct mailbox *mailbox);

#endif
