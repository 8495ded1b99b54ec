/*
 * socket: the WebSocket faces, subprotocol `atoll.v1`.
 *
 *     GET /v1/sessions/{sid}/ws   one session is watched, and takes commands
 *     GET /v1/ws                  any of them: `watch` and `unwatch` say which, commands have a
 *                                 `session`
 *
 * To the client go messages of watchers (framing.h), and answers:
 *     {"ref":1,"status":200,"seq":43,"id":"m43"}     {"ref":1,"status":409,"error":{a problem}}
 * From it come commands as in a batch, with `ref`, and watches:
 *     {"ref":1,"type":"message.send",...}            {"ref":2,"watch":{"session":"s1",...}}
 *
 * Normal path: the handshake is checked while the exchange is still HTTP, and the session's
 * watcher opened, so that a refusal is an answer like any other. Then the connection leaves HTTP
 * (outlet.h). Commands that come together for one session are gathered into one request, a batch
 * whose answer is lines; each line goes out as a message. Answers go out in the order of what they
 * answer, whichever shards they come from.
 *
 * Bounds: what is not answered yet (its answer included, until the socket has it) is at most
 * SOCKET_COMMANDS_MAX messages and SOCKET_BYTES_MAX bytes of them; nothing is read beyond. A ring
 * that is full is tried again. Failure: a close frame that says why, behind all answers.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_SOCKET_H
#define ATOLL_SERVER_SOCKET_H

#include "server/slots.h"

enum {
    SOCKET_COMMANDS_MAX = 4096,
    SOCKET_BYTES_MAX = 8 * 1024 * 1024,
    SOCKET_GATHER_COMMANDS = 1024,     /* commands in one request */
    SOCKET_GATHER_BYTES = 1024 * 1024, /* of messages, above which it is sent */
    SOCKET_READ_MESSAGES = 1024,       /* read at once; the rest in the next turn */
    SOCKET_RETRY_MS = 1,               /* until a ring that was full is tried again */
    SOCKET_LOADING_MAX = 48,    /* watches of one connection that wait for a snapshot or hold one */
    SOCKET_WATCHES_MAX = 10000, /* of one connection: closed with 1008 beyond */
};

struct call;
struct exchange;
struct frontend;
struct request;

/* A frontend's WebSockets. Zero-initialise to make one. */
struct sockets {
    struct slots tokens; /* of answers that shards are to give */
};

void socket_open(struct exchange *exchange, const struct call *call);
/* A REQUEST_COMMANDS with `refs` has come back; takes it over. */
void sockets_on_reply(struct frontend *frontend, struct request *request);
/* All of them are closed. */
void sockets_free(struct sockets *sockets);

#endif
