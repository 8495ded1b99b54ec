/*
 * socket_internal: what the files of the WebSocket faces share.
 *
 *     socket.c            a connection from the handshake to its close
 *     socket_message.c    what comes: commands, watches
 *     socket_answers.c    what is answered, in order
 *     socket_watches.c    what a connection of many sessions watches
 */
#ifndef ATOLL_SERVER_SOCKET_INTERNAL_H
#define ATOLL_SERVER_SOCKET_INTERNAL_H

#include "server/frontend.h"
#include "server/outlet.h"
#include "server/watcher.h"
#include "server/ws.h"

struct overview;
struct socket_answer;
struct socket_watch;
struct decode_message;

struct socket_watches {
    struct socket_watch **buckets;
    uint32_t buckets_n, n;
    struct socket_watch *ready, *ready_last; /* have something to say */
    uint32_t loading_n;                      /* have asked, or hold an answer not said yet */
    struct overview *overview;               /* of the summary; NULL: not watched */
    struct socket_answer *overview_answer;   /* NULL: is out, so that it may be said */
    bool overview_first;                     /* in the next fill */
};

struct socket {
    struct frontend *frontend;
    struct exchange *exchange; /* until its connection is taken over */
    struct outlet *outlet;     /* from then on */
    bool many;
    bool paid;                     /* the message that is to be tried again has been counted */
    uint64_t address;              /* shares_address */
    struct watcher watcher;        /* not many */
    struct socket_watches watches; /* many */

    /* ---- in */
    struct ws_reader reader;
    bool stopped;      /* nothing is read from the outlet */
    struct buf held;   /* the text of a message that cannot be taken yet */
    struct buf unread; /* bytes behind it */
    size_t unread_at;
    struct timer again;       /* goes on with them, and with what could not be sent */
    struct request *gathered; /* commands that go to their shard together; NULL: none */
    size_t gathered_bytes;

    /* ---- out */
    struct socket_answer *first, *last;
    struct socket_answer *unsent; /* the first whose request is not at its shard */
    uint32_t unanswered;
    size_t unanswered_bytes;
    uint16_t close_code; /* 0: open. Else said behind the answers; nothing is read any more */
    const char *close_reason;
    bool ping, pong;
    uint8_t pong_n;
    char pong_payload[WS_CONTROL_BYTES];

    /* ---- whether the client lives */
    int64_t heard_ms, pinged_ms;
    struct timer alive;
    uint64_t taken; /* outlet_taken, when it was last looked at */
};

/* ---- socket.c */

/* Says good-bye behind the answers. The first reason counts. */
void socket_close(struct socket *socket, enum ws_code code, const char *reason);
void socket_wake(struct socket *socket);
/* In the next turn, or later: goes on with what could not be done. */
void socket_again(struct socket *socket, int64_t ms);

/* ---- socket_message.c */

/* One message. False: its shard cannot be asked now; to be tried again. */
bool socket_take(struct socket *socket, struct str text);
/* What was gathered is sent. */
void socket_flush(struct socket *socket);

/* ---- socket_answers.c */

/* The place of one answer, or, for a request, of those to all its commands. */
struct socket_answer {
    struct socket_answer *next;
    struct socket *socket;
    struct request *request;    /* to be sent */
    uint64_t token;             /* it is at its shard; 0: it is not */
    struct chunk *chunk;        /* framed; NULL: not there yet */
    struct socket_watch *watch; /* goes on when this is out */
    bool overview;              /* the overview does */
    uint32_t messages;
    size_t bytes; /* of them */
};

/* Behind the others; its text comes later. `bytes`: of what is to be answered. */
struct socket_answer *socket_answer_later(struct socket *socket, size_t bytes);
/* Sends the request, and answers its commands. */
void socket_answer_commands(struct socket *socket, struct request *request, size_t bytes);
/* {"ref":…,"status":200} or, with an error, a problem. `ref` p == NULL: none. */
struct chunk *socket_result(struct str ref, unsigned error, const struct core_refusal *why);
/* The same with another time to wait than is usual. */
struct chunk *socket_result_later(struct str ref, unsigned error, const struct core_refusal *why,
                                  int retry_after_s);
/* What is to be answered is within its bounds. */
bool socket_may_answer(const struct socket *socket);
/* Sends what could not be sent. */
void socket_send_unsent(struct socket *socket);
/* Pushes those that are there, as many as the outlet takes. */
void socket_answers_fill(struct socket *socket);
void socket_answers_free(struct socket *socket);

/* ---- socket_watches.c */

/* A message with `watch` or `unwatch`. `bytes`: of it. False as socket_take. */
bool socket_watch_take(struct socket *socket, const struct decode_message *message, size_t bytes);
/* The answer to the watch is out. */
void socket_watch_answered(struct socket_watch *watch);
void socket_overview_answered(struct socket *socket);
void socket_watches_fill(struct socket *socket);
void socket_watches_free(struct socket *socket);

#endif
