/*
 * mailbox: requests out, replies and frames in, by credit; and errands, which wait here where there
 * is none.
 */
#include "shards/mailbox_internal.h"
#include "shards/shard.h"
#include "shards/siphash.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* ---- the rings */

/* So many groups of one ring for each of `items`, each on cache lines of its own. */
static struct ring *rings_make(size_t groups, const uint32_t *items, unsigned n)
{
    struct ring *rings = aligned_alloc(CACHE_LINE_BYTES, groups * n * sizeof(*rings));
    assert(rings != NULL);
    for (size_t i = 0; i < groups * n; i++)
        ring_init(&rings[i], items[i % n]);
    return rings;
}

struct rings *rings_new(unsigned size, const uint8_t *hash_key)
{
    assert(size >= 1 && size <= DATADIR_SHARDS_MAX);
    struct rings *rings = mem_alloc(sizeof(*rings));
    rings->size = size;
    memcpy(rings->hash_key, hash_key, sizeof(rings->hash_key));
    const uint32_t lanes[LANES] = {CONTROL_RING_ITEMS, REQUEST_RING_ITEMS, TELEMETRY_RING_ITEMS};
    const uint32_t replies = REPLY_RING_ITEMS;
    rings->to_shard = rings_make((size_t)size * size, lanes, LANES);
    rings->to_frontend = rings_make((size_t)size * size, &replies, 1);
    return rings;
}

/* Nobody else knows of what is relayed. */
static void ring_free_relays(struct ring *ring)
{
    struct ring_item item;
    while (ring_pop(ring, &item)) {
        if (reply_kind(item) == REPLY_RELAY)
            free(reply_pointer(item));
    }
}

void rings_free(struct rings *rings)
{
    size_t pairs = (size_t)rings->size * rings->size;
    for (size_t i = 0; i < pairs; i++) {
        ring_free_relays(&rings->to_frontend[i]);
        ring_free(&rings->to_frontend[i]);
    }
    for (size_t i = 0; i < pairs * LANES; i++)
        ring_free(&rings->to_shard[i]);
    free(rings->to_shard);
    free(rings->to_frontend);
    free(rings);
}

/* That of the first lane; the others follow it. */
static struct ring *rings_to_shard(struct rings *rings, unsigned frontend, unsigned shard)
{
    return &rings->to_shard[(frontend * rings->size + shard) * LANES];
}

static struct ring *ring_to_frontend(struct rings *rings, unsigned shard, unsigned frontend)
{
    return &rings->to_frontend[shard * rings->size + frontend];
}

void rings_attach_shard(struct rings *rings, struct shard *shard)
{
    assert(shard->number < rings->size);
    for (unsigned f = 0; f < rings->size; f++) {
        shard->requests[f] = rings_to_shard(rings, f, shard->number);
        shard->replies[f] = ring_to_frontend(rings, shard->number, f);
    }
}

/* ---- lanes */

enum request_lane request_lane(const struct request *request)
{
    static const uint8_t lanes[] = {
        [REQUEST_COMMANDS] = LANE_COMMANDS,  [REQUEST_DELETE] = LANE_COMMANDS,
        [REQUEST_VIEW] = LANE_TELEMETRY,     [REQUEST_THREAD] = LANE_TELEMETRY,
        [REQUEST_MESSAGES] = LANE_TELEMETRY, [REQUEST_EVENTS] = LANE_TELEMETRY,
        [REQUEST_INBOX] = LANE_COMMANDS,     [REQUEST_CANCEL] = LANE_COMMANDS,
        [REQUEST_FOLLOW] = LANE_COMMANDS,    [REQUEST_UNFOLLOW] = LANE_COMMANDS,
        [REQUEST_LIST] = LANE_TELEMETRY,     [REQUEST_STATUS] = LANE_TELEMETRY,
        [REQUEST_DIFF] = LANE_TELEMETRY,     [REQUEST_PROOF] = LANE_TELEMETRY,
        [REQUEST_FORK] = LANE_COMMANDS,      [REQUEST_EXPORT] = LANE_TELEMETRY,
        [REQUEST_IMPORT] = LANE_COMMANDS,    [REQUEST_CHANGES] = LANE_TELEMETRY,
        [REQUEST_EXISTS] = LANE_COMMANDS,    [REQUEST_RELAY] = LANE_CONTROL,
        [REQUEST_UNHAND] = LANE_CONTROL,     [REQUEST_TOUCH] = LANE_CONTROL,
        [REQUEST_REBUILD] = LANE_CONTROL,    [REQUEST_PIN] = LANE_CONTROL,
        [REQUEST_UNPIN] = LANE_CONTROL,      [REQUEST_KEEP] = LANE_CONTROL,
    };
    if (request->kind == REQUEST_CANCEL && request->session.p == NULL)
        return LANE_TELEMETRY; /* of a REQUEST_CHANGES */
    return lanes[request->kind];
}

/* For commands all that the others do not have. */
static void credits_init(uint32_t credits[LANES])
{
    credits[LANE_CONTROL] = REPLY_CREDITS / 4;
    credits[LANE_TELEMETRY] = REPLY_CREDITS / 4;
    credits[LANE_COMMANDS] = REPLY_CREDITS - credits[LANE_CONTROL] - credits[LANE_TELEMETRY];
}

/* ---- sending */

void mailbox_init(struct mailbox *mailbox, struct rings *rings, unsigned number)
{
    assert(number < rings->size);
    *mailbox = (struct mailbox){.rings = rings, .number = number};
    for (unsigned shard = 0; shard < rings->size; shard++)
        credits_init(mailbox->credits[shard]);
}

static bool request_takes_credit(const struct request *request)
{
    return request->kind != REQUEST_CHANGES && !(request->kind == REQUEST_INBOX && request->wait);
}

static uint64_t session_hash(const struct mailbox *mailbox, struct str session)
{
    return siphash(mailbox->rings->hash_key, session.p, session.n);
}

static unsigned hash_shard(const struct mailbox *mailbox, uint64_t hash)
{
    return (unsigned)(hash % mailbox->rings->size);
}

unsigned mailbox_shard_of(const struct mailbox *mailbox, struct str session)
{
    return hash_shard(mailbox, session_hash(mailbox, session));
}

/* Monotonic, as the shard's io has it. */
static uint64_t mailbox_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Counts nothing but the credit. */
static int mailbox_push(struct mailbox *mailbox, struct request *request, unsigned shard)
{
    assert(shard < mailbox->rings->size);
    bool credit = request_takes_credit(request);
    enum request_lane lane = request_lane(request);
    uint32_t *credits = &mailbox->credits[shard][lane];
    if (mailbox->shut || (credit && *credits == 0))
        return -EAGAIN;
    request->frontend = (uint16_t)mailbox->number;
    request->shard = (uint16_t)shard;
    struct ring *ring = rings_to_shard(mailbox->rings, mailbox->number, shard) + lane;
    uint64_t sent_ns = mailbox->pushed % QUEUE_SAMPLE == 0 ? mailbox_clock_ns() : 0;
    if (!ring_push(ring, (struct ring_item){request, sent_ns}))
        return -EAGAIN;
    mailbox->pushed++;
    *credits -= credit;
    mailbox->wake |= UINT64_C(1) << shard;
    return 0;
}

int mailbox_send_to(struct mailbox *mailbox, struct request *request, unsigned shard)
{
    assert(request->errand == NULL);
    int result = mailbox_push(mailbox, request, shard);
    if (result == 0)
        mailbox->outstanding++;
    else
        mailbox->full[request_lane(request)]++;
    return result;
}

int mailbox_send(struct mailbox *mailbox, struct request *request)
{
    request->hash = session_hash(mailbox, request->session);
    return mailbox_send_to(mailbox, request, hash_shard(mailbox, request->hash));
}

unsigned mailbox_shards(const struct mailbox *mailbox)
{
    return mailbox->rings->size;
}

unsigned mailbox_frontend(const struct mailbox *mailbox)
{
    return mailbox->number;
}

uint64_t mailbox_outstanding(const struct mailbox *mailbox)
{
    return mailbox->outstanding;
}

/* ---- errands */

void mailbox_errand(struct mailbox *mailbox, struct request *request)
{
    assert(request->errand != NULL);
    if (request->session.p != NULL) {
        request->hash = session_hash(mailbox, request->session);
        request->shard = (uint16_t)hash_shard(mailbox, request->hash);
    }
    request->next = NULL;
    *(mailbox->errands == NULL ? &mailbox->errands : mailbox->errands_tail) = request;
    mailbox->errands_tail = &request->next;
    if (mailbox->errands_unsent++ == 0)
        (void)mailbox_send_errands(mailbox);
}

bool mailbox_send_errands(struct mailbox *mailbox)
{
    struct request **at = &mailbox->errands;
    /* Shards that have refused one in a lane: the rest for it keeps its place. */
    uint64_t blocked[LANES] = {0};
    while (*at != NULL) {
        struct request *request = *at;
        struct request *next = request->next; /* once sent, it is the shard's */
        uint64_t bit = UINT64_C(1) << request->shard;
        enum request_lane lane = request_lane(request);
        if ((blocked[lane] & bit) == 0 && mailbox_push(mailbox, request, request->shard) == 0) {
            *at = next;
            mailbox->errands_unsent--;
            mailbox->errands_outstanding++;
        } else {
            blocked[lane] |= bit;
            at = &request->next;
        }
    }
    mailbox->errands_tail = at;
    return mailbox->errands_unsent != 0;
}

uint64_t mailbox_errands(const struct mailbox *mailbox)
{
    return mailbox->errands_unsent + mailbox->errands_outstanding;
}

/* ---- relays */

struct relay *mailbox_relay_new(struct mailbox *mailbox, const struct request *request)
{
    size_t n = request->relay.n;
    /* The frontend only ever takes off: there is no more than what is seen here. */
    uint64_t before = atomic_load_explicit(&mailbox->relayed_bytes, memory_order_relaxed);
    if (before != 0 && before + n > RELAYED_BYTES_MAX)
        return NULL;
    struct relay *relay = mem_alloc(sizeof(*relay) + n);
    *relay = (struct relay){.from = request->frontend, .size = n};
    if (n != 0)
        memcpy(relay->bytes, request->relay.p, n);
    atomic_fetch_add_explicit(&mailbox->relayed_bytes, n, memory_order_relaxed);
    return relay;
}

void mailbox_relay_free(struct mailbox *mailbox, struct relay *relay)
{
    atomic_fetch_sub_explicit(&mailbox->relayed_bytes, relay->size, memory_order_relaxed);
    free(relay);
}

static void mailbox_take_relay(struct mailbox *mailbox, struct relay *relay,
                               const struct mailbox_handlers *handlers)
{
    if (handlers->on_relay != NULL)
        handlers->on_relay(handlers->ctx, relay->from, (struct str){relay->bytes, relay->size});
    mailbox_relay_free(mailbox, relay);
}

/* ---- what has come */

static void mailbox_take_reply(struct mailbox *mailbox, unsigned shard, struct request *request,
                               const struct mailbox_handlers *handlers)
{
    mailbox->credits[shard][request_lane(request)] += request_takes_credit(request);
    if (request->errand != NULL) {
        mailbox->errands_outstanding--;
        request->errand(request->errand_owner, request);
    } else {
        mailbox->outstanding--;
        handlers->on_reply(handlers->ctx, request);
    }
}

static void mailbox_take(struct mailbox *mailbox, unsigned shard, struct ring_item item,
                         const struct mailbox_handlers *handlers)
{
    switch (reply_kind(item)) {
    case REPLY_REQUEST:
        mailbox_take_reply(mailbox, shard, reply_pointer(item), handlers);
        return;
    case REPLY_FRAME:
        handlers->on_frame(handlers->ctx, item.tag, reply_pointer(item));
        return;
    case REPLY_LOST:
        handlers->on_notice(handlers->ctx, item.tag, NOTICE_LOST);
        return;
    case REPLY_ENDED:
        handlers->on_notice(handlers->ctx, item.tag, NOTICE_ENDED);
        return;
    case REPLY_RELAY:
        mailbox_take_relay(mailbox, reply_pointer(item), handlers);
        return;
    }
}

unsigned mailbox_drain(struct mailbox *mailbox, const struct mailbox_handlers *handlers,
                       unsigned max)
{
    unsigned taken = 0, size = mailbox->rings->size;
    for (unsigned i = 0; i < size && taken < max; i++) {
        unsigned shard = mailbox->next_drained;
        struct ring *ring = ring_to_frontend(mailbox->rings, shard, mailbox->number);
        struct ring_item item;
        while (taken < max && ring_pop(ring, &item)) {
            mailbox_take(mailbox, shard, item, handlers);
            taken++;
        }
        mailbox->next_drained = (shard + 1) % size; /* none waits for others to fall silent */
    }
    return taken;
}

bool mailbox_pending(const struct mailbox *mailbox)
{
    for (unsigned shard = 0; shard < mailbox->rings->size; shard++) {
        if (ring_ready(ring_to_frontend(mailbox->rings, shard, mailbox->number)))
            return true;
    }
    return false;
}
