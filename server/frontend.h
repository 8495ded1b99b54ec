/*
 * frontend: the h2o side of a reactor: its loop, its listeners and connections, its timers, and
 * the requests and streams that are open on them.
 *
 * Normal path: on_req (frontend.c) makes an exchange, routes it and hands it to a face: rest.c,
 * list.c, status.c or stream.c. The face answers at once or sends a request over the ring;
 * frontend_work drains the mailbox and hands each reply to the face that sent it, which answers.
 * While the shards recover, only what needs none of them is answered, and all else refused.
 * Draining: accept no more, refuse what is new, end waits and streams, close what is idle and stays
 * so for a moment, and be done when no connection is left.
 * Failure: a client that goes takes its exchange along (exchange.h); a reply to it is dropped.
 *
 * Thread: a frontend is its reactor's alone. struct frontend_shared is written before the start,
 * but for the atomics in it.
 */
#ifndef ATOLL_SERVER_FRONTEND_H
#define ATOLL_SERVER_FRONTEND_H

#include "server/auth/audit.h"
#include "server/auth/grant.h"
#include "server/compose.h"
#include "server/config.h"
#include "server/connection.h"
#include "server/decode.h"
#include "server/h2o.h"
#include "server/live.h"
#include "server/mcp/mcp.h"
#include "server/outbox.h"
#include "server/outlet.h"
#include "server/overview.h"
#include "server/problem.h"
#include "server/rates.h"
#include "server/router.h"
#include "server/seal.h"
#include "server/slots.h"
#include "server/socket.h"
#include "server/timers.h"
#include "server/watcher.h"
#include "shards/cluster.h"
#include "shards/figures.h"
#include "shards/health.h"

#include <stdatomic.h>

enum {
    FRONTEND_DRAIN_MAX = 512, /* messages of the mailbox in one turn: the rest in the next */
};

/* As struct histogram (shards/figures.h), of a frontend. */
struct figure_histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS], sum;
};

/* Figures of one frontend: written by it alone, read by all (status.c). */
struct frontend_figures {
    _Alignas(64) _Atomic int cpu;
    /* refused: above --max-connections; crowding: above --max-connections-per-address; shed:
     * closed because there were no file descriptors */
    _Atomic uint64_t connections, accepted, refused, crowding, shed;
    _Atomic uint64_t malformed, slow;               /* requests that connection.c refused */
    _Atomic uint64_t handshakes, handshakes_failed; /* of TLS */
    _Atomic uint64_t h2_floods;                     /* connections closed by h2.c */
    _Atomic uint64_t requests, answers[6];          /* by class of status; [0] unused */
    _Atomic uint64_t streams, sockets, waiting;
    _Atomic uint64_t mcp_streams;    /* event streams of the MCP face, those that wait included */
    _Atomic uint64_t streams_merged; /* merged patches told to slow watchers */
    _Atomic uint64_t streams_reset;  /* times that one was too slow, and began anew */
    _Atomic uint64_t streams_cut;    /* streams and answers closed for not being read */
    _Atomic uint64_t watching[DATADIR_SHARDS_MAX]; /* streams, by shard of their session */
    _Atomic uint64_t routes[ROUTE_COUNT][6];       /* answers by route and class of status */
    _Atomic uint64_t problems[PROBLEM_ERROR_COUNT];
    _Atomic uint64_t tokens_refused[TOKEN_ERRORS]; /* by enum token_error; [0] unused */
    _Atomic uint64_t rate_limited[RATES_KINDS];
    _Atomic uint64_t answer_bytes;      /* bodies of answers; not what streams tell */
    struct figure_histogram answer_us;  /* from a request's arrival to its answer; not of waits */
    struct figure_histogram lag_frames; /* how far behind a watcher was when it was told more */
};

static inline void figure_add(_Atomic uint64_t *figure, int64_t n)
{
    uint64_t old = atomic_load_explicit(figure, memory_order_relaxed);
    atomic_store_explicit(figure, old + (uint64_t)n, memory_order_relaxed);
}

static inline void figure_observe(struct figure_histogram *histogram, uint64_t value)
{
    figure_add(&histogram->counts[histogram_bucket(value)], 1);
    figure_add(&histogram->sum, (int64_t)value);
}

static inline uint64_t figure_read(const _Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed);
}

/* What all frontends of the process have in common. */
struct frontend_shared {
    const struct config *config;
    const struct core_limits *limits;
    struct live_cell live;
    struct rates *rates;
    atomic_bool leaving; /* about to drain (--drain-delay): serving, but not ready */
    struct tickets *tickets;
    int64_t started_ms; /* monotonic */
    int64_t started_wall_ms;
    char start[OVERVIEW_START_BYTES + 1]; /* names this life of the process */
    /* Bound, not yet listening: listeners[reactor * listeners_n + i]; -1 once it is taken over. */
    int *listeners;
    unsigned listeners_n;
    unsigned frontends;
    struct frontend_figures *figures; /* by frontend */
    struct health_cell *accepting;    /* the same: health.c */
    atomic_uint connections;          /* of the process */
    struct connection_counts *counts; /* of them by address; NULL: not counted */
};

struct frontend {
    struct frontend_shared *shared;
    struct frontend_figures *figures; /* own */
    struct live *live;                /* the settings in force here; changes between turns alone */
    struct reactor *reactor;
    struct mailbox *mailbox;
    h2o_globalconf_t globalconf;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    struct listener listeners[CONFIG_LIST_MAX];
    unsigned listeners_n;
    h2o_socket_t *watched[3]; /* wake-up, io, hang-ups */
    int hangups;              /* epoll set of the fds whose end must be noticed: hangup.c */
    struct connection *connections;
    struct connection *fed;            /* the one whose bytes h2o is being given */
    LIST_HEAD(, connection) unsettled; /* whose exchange is over */
    int spare_fd;                      /* to close who comes when there are no others */
    struct slots exchanges;
    struct grants grants;
    struct audit audit;
    struct timers timers;
    struct timer accept_pause;
    struct arena scratch; /* of the request being handled */
    struct buf location;  /* of the answer being made */
    struct decoder *decoder;
    struct seal_key seal; /* of wake targets' secrets */
    struct feeds feeds;
    struct outlets outlets;
    struct overviews overviews;
    struct sockets sockets;
    struct mcp_face mcp;
    struct composed composed; /* scratch */
    struct outbox outbox;
    uint64_t ids;            /* counter of ids made: newid.c */
    int64_t draining_ms;     /* since when; 0: not draining */
    int64_t drain_look_ms;   /* when to look at what is open again */
    uint64_t requests_named; /* counter of ids that were made for the log */
    uint64_t clock_ns;       /* 0: not read yet: frontend_clock_ns */
    bool in_loop;            /* h2o's loop is running */
    bool touched;            /* sockets were used outside of it: give it a turn before sleeping */
};

/* What the reactor runs; its ctx is the struct frontend_shared. */
extern const struct reactor_frontend_ops frontend_ops;

/* --node-tag; empty: there is none. */
struct str frontend_node_tag(const struct frontend *frontend);

/* Monotonic, read once where it is asked for between two points at which time may have gone by: a
 * turn's work, and each run of the loop. For figures. */
static inline uint64_t frontend_clock_ns(struct frontend *frontend)
{
    if (frontend->clock_ns == 0)
        frontend->clock_ns = (uint64_t)outlet_clock_ns();
    return frontend->clock_ns;
}

static inline int64_t frontend_now_ms(const struct frontend *frontend)
{
    return reactor_now_ms(frontend->reactor);
}

#endif
