/*
 * hangup: notices clients that go while their request waits or their stream is open. h2o does not
 * read the socket then, so a FIN or RST would go unseen until a write fails.
 *
 * A second epoll set with EPOLLRDHUP | EPOLLONESHOT on those sockets, itself watched by h2o's
 * loop. A client that closes its sending half counts as gone.
 */
#ifndef ATOLL_SERVER_HANGUP_H
#define ATOLL_SERVER_HANGUP_H

#include <stdint.h>

struct frontend;

/* Makes the set: frontend->hangups, -1 where it cannot be had. */
int hangup_open(struct frontend *frontend);
/* Failing to add is no error: then the next write tells. */
void hangup_add(struct frontend *frontend, int fd, uint64_t token);
void hangup_remove(struct frontend *frontend, int fd);
/* The set is readable: runs exchange_gone for each. */
void hangup_run(struct frontend *frontend);

#endif
