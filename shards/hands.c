/*
 * hands: what inbox answers with `hand` have handed out, so that of an agent's waits, however many
 * there are, each message goes to one.
 *
 * A hand is what one answer held. Until it ends, queries of that agent with `hand` leave its
 * messages out. It ends message by message as they are acknowledged (or the agent leaves their
 * thread), or whole: given back (REQUEST_UNHAND), HANDED_MS old, for then whoever had it is stuck
 * or has died, or with the life of the session. Where an agent's hand ends, its waits with `hand`
 * are tried again.
 *
 * All of this is in memory alone: what was handed out and not acknowledged before a crash is handed
 * out again. A session with hands does not leave memory.
 */
#include "shards/shard.h"

#include <stdlib.h>

struct hand {
    RB_ENTRY(hand) by_agent;   /* of its session */
    TAILQ_ENTRY(hand) by_time; /* of the shard: the oldest first */
    LIST_ENTRY(hand) by_touch; /* of its session, where `touched` */
    struct session *session;
    uint64_t number; /* no two are alike */
    int64_t due_ms;  /* monotonic */
    struct core_inbox_taken *taken;
    uint32_t taken_n;
    uint32_t room_n; /* of `taken`, for giving it back to the heap */
    bool touched;    /* an event was applied that may have ended some of it */
    uint8_t agent_size;
    char agent[CORE_ID_BYTES];
};

static struct str hand_agent(const struct hand *hand)
{
    return (struct str){hand->agent, hand->agent_size};
}

static int hand_order(const struct hand *a, const struct hand *b)
{
    int order = str_compare(hand_agent(a), hand_agent(b));
    return order != 0 ? order : (a->number > b->number) - (a->number < b->number);
}

RB_GENERATE(hand_tree, hand, by_agent, hand_order)

static struct hand hand_key(struct str agent, uint64_t number)
{
    struct hand key = {.number = number, .agent_size = (uint8_t)agent.n};
    assert(agent.n <= CORE_ID_BYTES);
    memcpy(key.agent, agent.p, agent.n);
    return key;
}

static struct hand *hands_of(struct session *session, struct str agent)
{
    struct hand key = hand_key(agent, 0);
    return RB_NFIND(hand_tree, &session->hands, &key);
}

/* The agent's next one; NULL: that was the last. */
static struct hand *hand_next(struct hand *hand)
{
    struct hand *next = RB_NEXT(hand_tree, NULL, hand);
    return next != NULL && str_equal(hand_agent(next), hand_agent(hand)) ? next : NULL;
}

static struct hand *hand_first(struct session *session, struct str agent)
{
    struct hand *hand = hands_of(session, agent);
    return hand != NULL && str_equal(hand_agent(hand), agent) ? hand : NULL;
}

static void hand_remove(struct shard *shard, struct hand *hand)
{
    const struct core_heap *heap = &shard->heap.core;
    RB_REMOVE(hand_tree, &hand->session->hands, hand);
    TAILQ_REMOVE(&shard->hands, hand, by_time);
    if (hand->touched)
        LIST_REMOVE(hand, by_touch);
    shard->handed -= hand->taken_n;
    heap->free(heap->ctx, hand->taken, hand->room_n * sizeof(*hand->taken));
    heap->free(heap->ctx, hand, sizeof(*hand));
}

/* ---- what a query leaves out */

static int seq_order(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

uint64_t *hands_seqs(struct session *session, struct str agent, uint32_t *n)
{
    struct hand *first = hand_first(session, agent);
    *n = 0;
    if (first == NULL)
        return NULL;
    for (struct hand *at = first; at != NULL; at = hand_next(at))
        *n += at->taken_n;
    uint64_t *seqs = mem_alloc(*n * sizeof(*seqs)), *to = seqs;
    for (struct hand *at = first; at != NULL; at = hand_next(at)) {
        for (uint32_t i = 0; i < at->taken_n; i++)
            *to++ = at->taken[i].seq;
    }
    qsort(seqs, *n, sizeof(*seqs), seq_order);
    return seqs;
}

bool hands_hold_any(struct session *session, const struct core_inbox *inbox)
{
    uint32_t n;
    uint64_t *seqs = hands_seqs(session, inbox->query.agent, &n);
    const struct core_inbox_taken *taken = core_inbox_taken(inbox);
    bool any = false;
    for (uint32_t i = 0; i < inbox->count && n != 0 && !any; i++)
        any = bsearch(&taken[i].seq, seqs, n, sizeof(*seqs), seq_order) != NULL;
    free(seqs);
    return any;
}

/* ---- beginning and end */

uint64_t hands_give(struct shard *shard, struct session *session, const struct core_inbox *inbox)
{
    const struct core_heap *heap = &shard->heap.core;
    struct hand *hand = heap->alloc(heap->ctx, sizeof(*hand));
    *hand = hand_key(inbox->query.agent, ++shard->hands_made);
    hand->session = session;
    hand->due_ms = shard->now_ms + HANDED_MS;
    hand->taken_n = hand->room_n = inbox->count;
    hand->taken = heap->alloc(heap->ctx, inbox->count * sizeof(*hand->taken));
    memcpy(hand->taken, core_inbox_taken(inbox), inbox->count * sizeof(*hand->taken));
    RB_INSERT(hand_tree, &session->hands, hand);
    TAILQ_INSERT_TAIL(&shard->hands, hand, by_time);
    shard->handed += hand->taken_n;
    return hand->number;
}

static void hand_give_back(struct shard *shard, struct hand *hand)
{
    struct session *session = hand->session;
    char room[CORE_ID_BYTES];
    struct str agent = {room, hand->agent_size};
    memcpy(room, hand->agent, agent.n);
    hand_remove(shard, hand);
    inbox_given_back(shard, session, agent);
}

void hands_take_back(struct shard *shard, struct session *session, struct request *request)
{
    struct hand key = hand_key(request->agent, request->handed);
    struct hand *hand = RB_FIND(hand_tree, &session->hands, &key);
    if (hand != NULL) /* else it has ended */
        hand_give_back(shard, hand);
    shard_reply(shard, request);
}

void hands_touch(struct session *session, const struct core_event *event)
{
    if (event->type != CORE_INBOX_ACK && event->type != CORE_THREAD_READ &&
        event->type != CORE_THREAD_REMOVE && event->type != CORE_AGENT_LEAVE)
        return;
    for (struct hand *at = hand_first(session, event->f.agent); at != NULL; at = hand_next(at)) {
        if (at->touched)
            continue;
        at->touched = true;
        LIST_INSERT_HEAD(&session->touched_hands, at, by_touch);
    }
}

/* Leaves of it what is unread. False: nothing. */
static bool hand_keep_unread(struct shard *shard, struct hand *hand)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < hand->taken_n; i++) {
        if (core_inbox_is_unread(hand->session->core, hand_agent(hand), &hand->taken[i]))
            hand->taken[n++] = hand->taken[i];
    }
    shard->handed -= hand->taken_n - n;
    hand->taken_n = n;
    return n != 0;
}

void hands_settle(struct shard *shard, struct session *session)
{
    struct hand *hand;
    while ((hand = LIST_FIRST(&session->touched_hands)) != NULL) {
        LIST_REMOVE(hand, by_touch);
        hand->touched = false;
        inbox_mark_handed(session, hand_agent(hand));
        if (!hand_keep_unread(shard, hand))
            hand_remove(shard, hand);
    }
}

void hands_end(struct shard *shard, struct session *session)
{
    struct hand *hand;
    while ((hand = RB_MIN(hand_tree, &session->hands)) != NULL)
        hand_remove(shard, hand);
}

/* ---- time */

void hands_turn(struct shard *shard)
{
    struct hand *oldest;
    while ((oldest = TAILQ_FIRST(&shard->hands)) != NULL && oldest->due_ms <= shard->now_ms &&
           *shard->failed == NULL) {
        hand_give_back(shard, oldest);
        if (shard_clock_ns(shard) > shard->slice_until_ns)
            break;
    }
}

int hands_tick(const struct shard *shard)
{
    const struct hand *oldest = TAILQ_FIRST(&shard->hands);
    if (oldest == NULL || *shard->failed != NULL)
        return -1;
    int64_t wait_ms = oldest->due_ms - shard->now_ms;
    return wait_ms > 0 ? (int)wait_ms : 0;
}
