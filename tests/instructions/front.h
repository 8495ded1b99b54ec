/*
 * front: the frontend before a house, and clients on its connections, all in one thread. So a
 * request is read, parsed, routed, decoded, done, committed, answered and written as in the server,
 * but for the kernel's part, which callgrind does not count.
 *
 * Normal path: front_ask writes a request of each client, front_turn turns shard and frontend as a
 * reactor does, front_hear reads the answers and front_see what is told beside. After two turns
 * both are there: the first one reads the requests, the second one answers them.
 * Failure: as in house.h; an answer that is not 2xx, or not whole, is one.
 */
#ifndef ATOLL_TESTS_INSTRUCTIONS_FRONT_H
#define ATOLL_TESTS_INSTRUCTIONS_FRONT_H

#include "server/frontend.h"
#include "tests/instructions/house.h"

enum { FRONT_CLIENTS_MAX = 32 };

enum front_kind {
    FRONT_PLAIN,
    FRONT_WATCHED, /* beside each client another connection, on which its session's events come */
    FRONT_TOKEN,   /* there is a key, and each request brings a token */
};

struct front {
    struct house *house;
    struct config config;
    struct frontend_shared shared;
    struct frontend_figures figures;
    struct frontend *frontend;
    int listener, wake_fd;
    unsigned clients_n;
    int clients[FRONT_CLIENTS_MAX];
    int watchers[FRONT_CLIENTS_MAX]; /* -1: this client's session has none */
    uint64_t seen;                   /* events that watchers have been told */
    char *token;                     /* NULL: none is needed */
};

/* `clients` connections to the frontend of a house that has as many sessions. */
void front_open(struct front *front, struct house *house, unsigned clients, enum front_kind kind);
void front_close(struct front *front);
/* Client `number` posts commands to the session of the same number. */
void front_ask(struct front *front, unsigned number, struct str body);
void front_turn(struct front *front);
void front_hear(struct front *front, unsigned number);
/* The same of a watcher: counts the events that have come. */
void front_see(struct front *front, unsigned number);

#endif
