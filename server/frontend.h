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

#include "server/access.h"
#include "server/compose.h"
#include "server/config.h"
#include "server/decode.h"
#include "server/h2o.h"
#include "server/mcp/mcp.h"
#include "server/outbox.h"
#include "server/outlet.h"
#include "server/overview.h"
#include "server/router.h"
#include "server/seal.h"
#include "server/slots.h"
#include "server/socket.h"
#include "server/watcher.h"
#include "server/timers.h"
#include "shards/cluster.h"

#include <stdatomic.h>

enum {
    FRONTEND_DRAIN_MAX = 512,       /* messages of the mailbox in one turn: the rest in the next */
    FRONTEND_ACCEPT_MAX = 32,       /* connections accepted in one callback: the rest in the next */
    FRONTEND_ACCEPT_PAUSE_MS = 100, /* after running out of file descriptors */
    /* h2o has one time for headers and body together, and for idle connections: enough for the
     * largest batch (16 MiB) at 2.3 Mbit/s. */
    FRONTEND_REQUEST_TIMEOUT_MS = 60000,
    FRONTEND_IDLE_LINGER_MS = 300,  /* while draining, for a request that is under way */
    FRONTEND_LINGER_MS = 1000,      /* the same, for one that has not come whole */
    FRONTEND_HOST_CACHE_BYTES = 64, /* a Host found good, kept by its connection */
};

/* Figures of one frontend: written by it alone, read by all (status.c). */
struct frontend_figures {
    _Alignas(64) _Atomic int cpu;
    _Atomic uint64_t connections, accepted, refused; /* refused: above --max-connections */
    _Atomic uint64_t requests, answers[6];           /* by class of status; [0] unused */
    _Atomic uint64_t streams, sockets, waiting;
    _Atomic uint64_t mcp_streams; /* event streams of the MCP face, those that wait included */
    _Atomic uint64_t streams_merged; /* merged patches told to slow watchers */
    _Atomic uint64_t streams_reset;  /* times that one was too slow, and began anew */
    _Atomic uint64_t streams_cut;    /* streams and answers closed for not being read */
    _Atomic uint64_t watching[DATADIR_SHARDS_MAX]; /* streams, by shard of their session */
};

static inline void figure_add(_Atomic uint64_t *figure, int64_t n)
{
    uint64_t old = atomic_load_explicit(figure, memory_order_relaxed);
    atomic_store_explicit(figure, old + (uint64_t)n, memory_order_relaxed);
}

static inline uint64_t figure_read(const _Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed);
}

/* What all frontends of the process have in common. */
struct frontend_shared {
    const struct config *config;
    const struct core_limits *limits;
    struct access access;
    int64_t started_ms; /* monotonic */
    char start[OVERVIEW_START_BYTES + 1]; /* names this life of the process */
    /* Bound, not yet listening: listeners[reactor * listeners_n + i]; -1 once it is taken over. */
    int *listeners;
    unsigned listeners_n;
    unsigned frontends;
    struct frontend_figures *figures; /* by frontend */
    atomic_uint connections;          /* of the process */
};

/* One accepted connection; the h2o socket's on_close frees it. */
struct connection {
    struct frontend *frontend;
    h2o_socket_t *sock;
    struct connection *previous, *next;
    unsigned exchanges; /* open ones: 0 or 1 in HTTP/1 */
    int64_t idle_ms;    /* draining: since when it has been seen idle; 0: not yet */
    bool ended;         /* draining: our side is shut, a FIN is out */
    bool local;         /* a Unix socket */
    uint8_t host_n;
    uint16_t mcp_session_n;
    char *mcp_session; /* an Mcp-Session-Id that was found good, as its requests come in rows */
    char host[FRONTEND_HOST_CACHE_BYTES];
};

struct frontend {
    struct frontend_shared *shared;
    struct frontend_figures *figures; /* own */
    struct reactor *reactor;
    struct mailbox *mailbox;
    h2o_globalconf_t globalconf;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    struct listener {
        struct frontend *frontend;
        h2o_socket_t *sock;
        bool local; /* a Unix socket */
    } listeners[CONFIG_LIST_MAX];
    unsigned listeners_n;
    h2o_socket_t *watched[3]; /* wake-up, io, hang-ups */
    int hangups;              /* epoll set of the fds whose end must be noticed: hangup.c */
    struct connection *connections;
    struct slots exchanges;
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
    uint64_t ids;          /* counter of ids made: newid.c */
    int64_t draining_ms;   /* since when; 0: not draining */
    int64_t drain_look_ms; /* when to look at what is open again */
    bool in_loop;          /* h2o's loop is running */
    bool touched;          /* sockets were used outside of it: give it a turn before sleeping */
};

/* What the reactor runs; its ctx is the struct frontend_shared. */
extern const struct reactor_frontend_ops frontend_ops;

static inline int64_t frontend_now_ms(const struct frontend *frontend)
{
    return reactor_now_ms(frontend->reactor);
}

#endif
