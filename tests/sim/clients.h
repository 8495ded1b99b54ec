/*
 * clients: those who use the server in a run: they send requests over the mailboxes of all
 * frontends, take what comes back, and tell the model.
 *
 * Each request is an `op`, whose pointer is its token. Feeds (followers) go on over restarts from
 * where they stand, as a client with Last-Event-ID does.
 */
#ifndef ATOLL_TESTS_SIM_CLIENTS_H
#define ATOLL_TESTS_SIM_CLIENTS_H

#include "tests/sim/generate.h"
#include "tests/sim/model.h"
#include "tests/sim/world.h"

#include <jansson.h>

enum { CLIENTS_FEEDS = 4, CLIENTS_WAITS = 16, FEED_EARLY_MAX = 4096 };

/* What is sent, and how often: weights. */
struct client_habits {
    unsigned sessions, forks; /* how many ids of each kind */
    uint32_t command, batch, again, delete, fork, view, past, diff, proof, events, messages, inbox,
        list, follow, status, touch;
    uint32_t key_percent, expected_percent;
    uint32_t outstanding_max;
};

struct feed_state;

struct op {
    enum request_kind kind;
    struct id *id;
    struct batch *batch;
    unsigned frontend;
    /* What was known when it was sent. */
    struct life *life;  /* the current one; NULL: none */
    bool must_live;     /* it cannot have ended but by a deletion sent later */
    uint64_t deletes;   /* sent until then */
    uint64_t known;     /* events */
    uint64_t least_seq; /* of that life: acknowledged */
    bool known_applied, creates;
    struct life *known_answer; /* its batch had been answered in that life */
    uint64_t from, to;         /* seqs asked about; LIST, STATUS: the shard; EVENTS: the limit */
    bool whole;                /* EVENTS: nothing is filtered out, in ascending order */
    struct life *parent;       /* FORK */
    struct str reader;         /* INBOX */
    struct core_inbox_query inbox;
    bool waits;
    bool audit;        /* sent where nothing else goes on: no error is excused, but by rot */
    struct op *before; /* the one sent before it */
    /* The answer. */
    bool answered;
    unsigned error;
    struct life *answer_life;
    uint64_t seq;
    uint64_t last; /* EVENTS: the last one on the page */
    unsigned n;
    struct str body; /* audits only */
    bool gone;
    uint64_t oldest;
};

/* A follower. */
struct feed_state {
    struct id *id;
    unsigned frontend;
    uint64_t token; /* each feed has one of its own */
    bool used, asking, live, detached;
    struct life *asked_life; /* known when it asked … */
    uint64_t asked_least;    /* … and what was acknowledged of it */
    unsigned wants;
    char epoch[CORE_EPOCH_BYTES + 1];
    uint64_t told, target, until;
    bool has_told;
    json_t *view;                        /* folded from patches; NULL: no snapshot yet */
    struct frame *early[FEED_EARLY_MAX]; /* came while it was asking */
    unsigned early_n;
};

struct clients {
    struct model *model;
    struct world *world;
    struct rng *rng;
    struct sim_clock *clock;
    struct generator generator;
    struct client_habits habits;
    struct feed_state feeds[CLIENTS_FEEDS];
    struct op *waits[CLIENTS_WAITS]; /* inbox waits that are out */
    unsigned waits_n;
    uint64_t tokens; /* of feeds, given out */
    struct op *ops;  /* of this process, the newest first */
    unsigned outstanding;
    uint64_t sent, answered, errors; /* over the run */
    uint64_t events_seen;
    int64_t latest_wall_ms; /* the wall clock was never later */
    bool deaf[WORLD_SHARDS_MAX];
    bool read_faults; /* reads may fail: 500 is an answer */
    bool rotten;      /* a bit was turned: the same */
    bool was_full;    /* 507 is an answer */
    bool breaks;      /* commands may break invariants: 500, and then 503, are answers */
    struct buf text;
};

/* A process has started: feeds follow again, everything that was out is forgotten. */
void clients_attach(struct clients *clients, struct world *world);
/* Sends something at random, perhaps nothing. */
void clients_act(struct clients *clients);
/* Takes what has come for a frontend; returns how much. */
unsigned clients_drain(struct clients *clients, unsigned frontend, unsigned max);
/* The clock was set: keys of long ago may be forgotten. */
void clients_expire_keys(struct clients *clients);
/* Ends waits, so that everything gets an answer. */
void clients_cancel_waits(struct clients *clients);
/* What is out, into the trace. */
void clients_trace_outstanding(const struct clients *clients);
/* All followers leave. */
void clients_unfollow(struct clients *clients);

/* ---- for audits: an op that is sent now; NULL: there was no room. `fill` may be NULL. */
typedef void clients_fill(struct clients *clients, struct request *request, struct op *op);
struct op *clients_ask(struct clients *clients, enum request_kind kind, struct id *id,
                       clients_fill *fill, uint64_t from, uint64_t to);
void clients_fill_view(struct clients *clients, struct request *request, struct op *op);
void clients_fill_events(struct clients *clients, struct request *request, struct op *op);
void clients_fill_proof(struct clients *clients, struct request *request, struct op *op);
/* A command whose only purpose is to see that commands are taken. */
struct op *clients_probe(struct clients *clients, struct id *id);

#endif
