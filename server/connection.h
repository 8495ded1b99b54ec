/*
 * connection: one accepted connection from accept to close: its TLS handshake, the bytes of its
 * requests on their way to h2o, its clocks, and what it may cost.
 *
 * Normal path: accepted -> (handshake) -> h2o_http1_accept. From then on our callback stands before
 * h2o's: bytes pass intake.c first, and h2o sees one whole head at a time and never what is behind
 * the request that it works on; that waits in `stash`. When an exchange is over (exchange.c says
 * connection_settle_later), the callback is put back in its place and what waits is fed.
 * A connection that becomes an outlet leaves this (connection_leave); one that speaks HTTP/2 is
 * h2o's and h2.c's after the handshake.
 *
 * Clocks: one timer, which is not moved by each request but looks, when it fires, at what the
 * connection is at and since when. --header-timeout for a handshake and from the first byte of a
 * request to the end of its head; --body-timeout, and a second more for each
 * CONNECTION_BODY_BYTES_PER_S that came, for its body; --idle-timeout between requests.
 * Answers have a deadline of their own (exchange.c, outlet.c).
 *
 * Failure: what intake.c refuses, and what comes too slowly, is answered here (400, 431, 408), and
 * the connection closed behind it: our end first, then for CONNECTION_LINGER_MS what still comes is
 * thrown away, so that the answer is not lost to a reset. Where no answer can be given it is shut.
 * Without file descriptors the connections that have been idle for the longest time make room;
 * where there is none, those who come are closed at once, by a descriptor kept for that.
 *
 * Thread: its frontend's.
 */
#ifndef ATOLL_SERVER_CONNECTION_H
#define ATOLL_SERVER_CONNECTION_H

#include "core/base.h"
#include "server/access.h"
#include "server/h2.h"
#include "server/h2o.h"
#include "server/intake.h"
#include "server/timers.h"
#include "server/tls.h"

#include <sys/queue.h>

enum {
    CONNECTION_ACCEPT_MAX = 32,        /* accepted in one callback: the rest in the next */
    CONNECTION_ACCEPT_PAUSE_MS = 100,  /* after running out of file descriptors */
    CONNECTION_ROOM_MAX = 32,          /* idle ones closed to make room, in one such pause */
    CONNECTION_BODY_BYTES_PER_S = 500, /* slower than that on average is too slow */
    CONNECTION_LINGER_MS = 2000,       /* for the client's end, behind an answer of ours */
    CONNECTION_HOST_BYTES = 64,        /* a Host found good, kept by its connection */
};

enum connection_phase {
    CONNECTION_HANDSHAKE,
    CONNECTION_IDLE, /* nothing has come of the next request */
    CONNECTION_HEAD,
    CONNECTION_BODY,
    CONNECTION_BUSY,    /* a request is worked on */
    CONNECTION_REFUSED, /* what comes is thrown away */
    CONNECTION_HTTP2,
    CONNECTION_LEFT, /* an outlet's */
};

struct frontend;
struct grant;

/* The h2o socket's on_close frees it. */
struct connection {
    struct frontend *frontend;
    h2o_socket_t *sock;
    struct connection *previous, *next;
    struct grant *grant; /* of the Authorization that was last found good; NULL: none was */
    unsigned exchanges;  /* open ones: 0 or 1 in HTTP/1 */
    int64_t idle_ms;     /* draining: since when it has been seen idle; 0: not yet */
    bool ended;          /* draining: our side is shut, a FIN is out */
    bool local;          /* a Unix socket */
    bool secure;         /* TLS */
    bool unsettled;      /* in frontend->unsettled */
    bool stuck;          /* h2o was seen closing it, and waiting for the client to take the rest */
    uint8_t phase;
    uint8_t host_n;
    uint16_t mcp_session_n;
    char *mcp_session; /* an Mcp-Session-Id that was found good, as its requests come in rows */
    struct access_address address; /* of the client; family 0: a Unix socket */
    _Atomic uint32_t *of_address;  /* how many its address has; NULL: not counted */
    int64_t since_ms;              /* when the phase began */
    struct timer timer;
    LIST_ENTRY(connection) settling;
    h2o_socket_cb h2o_read; /* h2o's callback, behind ours */
    struct intake intake;   /* of the request that is coming */
    uint64_t body_bytes;    /* of it, so far */
    struct buf stash;       /* came behind the request that is worked on */
    size_t stash_at;
    struct buf refusal;
    struct tls *tls;     /* during the handshake */
    SSL *ssl;            /* h2o's; from the handshake on */
    struct h2_guard *h2; /* HTTP/2; else NULL */
    char host[CONNECTION_HOST_BYTES];
};

struct listener {
    struct frontend *frontend;
    h2o_socket_t *sock;
    bool local; /* a Unix socket */
    bool tls;
    bool passed; /* by a service manager, whose it stays: the process after us takes its backlog */
};

/* How many connections each client's address has: shared by all frontends, one count for all
 * addresses of a hash. */
struct connection_counts;
/* NULL: --max-connections-per-address is not set. */
struct connection_counts *connection_counts_new(const struct config *config);
void connection_counts_free(struct connection_counts *counts);

void connections_init(struct frontend *frontend);
void connections_free(struct frontend *frontend);
/* Accepts up to `max`; false: there are none left, or no means to take them. */
bool connections_accept(struct listener *listener, unsigned max);
/* h2o's callback of a listener's socket, whose data is the struct listener. */
void connections_on_accept(h2o_socket_t *sock, const char *error);
/* frontend->accept_pause is over. */
void connections_on_pause_over(struct timer *timer);
/* Draining: closes what is idle and stays so for a moment. */
void connections_close_idle(struct frontend *frontend, int64_t now_ms);

/* Its exchange is over. Cheap; connections_settle does the rest. */
void connection_settle_later(struct connection *connection);
/* After h2o's callbacks have run. */
void connections_settle(struct frontend *frontend);
/* It is no longer HTTP: what came behind the request is put back into the socket's input. */
void connection_leave(struct connection *connection);

#endif
