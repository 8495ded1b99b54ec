/*
 * attended: the agents that a shard looks after by itself, because they have a lease or a wake
 * target. What attended.c (whom there is, leases, time) and wakes.c (calls) share; private to them.
 */
#ifndef ATOLL_SHARDS_ATTENDED_H
#define ATOLL_SHARDS_ATTENDED_H

#include "shards/shard.h"

enum wake_state {
    WAKE_QUIET,   /* nothing to tell, or it has been told */
    WAKE_PENDING, /* to be looked at when wake_ms comes */
    WAKE_QUEUED,  /* … when calls under way leave room for it */
    WAKE_LOOKING, /* its inbox is being asked for */
    WAKE_CALLING  /* the courier has an order about it */
};

/* One agent of a session in memory. In no way durable: what is, stands in the session's state. */
struct attended {
    RB_ENTRY(attended) by_agent;    /* of its session */
    RB_ENTRY(attended) by_due;      /* of its shard, where due_ms is not 0 */
    TAILQ_ENTRY(attended) by_queue; /* of its session */
    struct session *session;
    uint64_t number;  /* no two are alike */
    int64_t due_ms;   /* monotonic, like all times here */
    uint32_t waiting; /* inbox waits of the agent that are held */

    /* The lease. */
    int64_t lease_ms;  /* 0: it has none */
    int64_t heard_ms;  /* -1: not yet */
    int64_t lapsed_ms; /* when it was said that the lease has run out */
    bool lapsed;       /* as the state has it */
    bool over;         /* it has run out, and that has been said */
    bool telling;      /* a command of ours about the lease is on its way */

    /* The target. */
    bool has_target, only_mentions, open, inherited;
    bool unreachable; /* counted as such */
    bool again;       /* there is news since it was looked at */
    bool reporting;   /* a command of ours about its breaker is on its way */
    enum wake_state wake;
    uint64_t set_seq;      /* of the event that set it */
    uint64_t call;         /* the look or order that is under way: others are of no interest */
    uint64_t told_seq;     /* the newest message that it has been told of */
    int64_t wake_ms;       /* PENDING */
    int64_t not_before_ms; /* not to be called before */
    uint32_t failures;     /* since it was reached last */
    char *why;             /* of the last one; NULL: there was none */

    uint8_t agent_size;
    char agent[CORE_ID_BYTES];
};

static inline struct str attended_agent(const struct attended *a)
{
    return (struct str){a->agent, a->agent_size};
}

/* ---- attended.c */

/* Looks at it when that time comes, or before. */
void attended_arm(struct shard *shard, struct attended *a, int64_t due_ms);
/* An errand of the shard's own about it; attended_of finds it again. `agent` is in the arena. */
struct request *attended_request(struct shard *shard, const struct attended *a,
                                 enum request_kind kind,
                                 void (*done)(void *shard, struct request *request));
/* The only command of such a request: agent and type are set. */
struct core_command *attended_command(struct request *request, enum core_type type);
/* NULL: it is not there any more, or its session is another life. */
struct attended *attended_of(struct shard *shard, struct str session, uint64_t epoch,
                             struct str agent);

/* ---- wakes.c */

/* There may be news for it, or an end of its waiting. */
void wakes_soon(struct shard *shard, struct attended *a);
/* As the state has it now. */
void wakes_target(struct shard *shard, struct attended *a, const struct core_attended *now);
/* Its time may have come. When to look again: 0, not. */
int64_t wakes_due(struct shard *shard, struct attended *a);
/* Lets go of it. */
void wakes_end(struct shard *shard, struct attended *a);
/* It is no longer there: nor is its breaker. */
void wakes_forget(struct shard *shard, struct attended *a);
/* Once a turn: orders that are done, and those in the queue. */
void wakes_turn(struct shard *shard);

#endif
