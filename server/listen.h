/*
 * listen: the sockets that the server is reached by, bound before anything else is opened.
 *
 * TCP: one socket for each reactor with SO_REUSEPORT, so that the kernel spreads connections. As
 * that would also let a second server of ours take half of them, the address is first tried
 * without it. Port 0: the first bind decides for all. Unix: one socket, mode 0600 from the start,
 * that all reactors accept from; a file left behind by a server that is gone is replaced. A socket
 * that a service manager has passed (fd:NAME) is used by all reactors, too, and stays what it was.
 *
 * Failure: one sentence with the address. Nothing listens yet: the frontends do that.
 */
#ifndef ATOLL_SERVER_LISTEN_H
#define ATOLL_SERVER_LISTEN_H

#include "server/live.h"
#include "server/service.h"

struct listen_sockets {
    int *fds; /* fds[reactor * n + i]: of the i-th address. The frontends take them over */
    unsigned n, reactors;
    char url[192];           /* of the first address */
    char (*unix_paths)[108]; /* to unlink at the end; "": not a Unix socket, or not ours */
    struct live_address passed[CONFIG_LIST_MAX]; /* where those are bound that were passed to us */
    unsigned passed_n;
};

/* Takes what it needs of `passed`. 0, or -errno with a sentence and nothing left open. */
int listen_bind(const struct config *config, unsigned reactors, struct service_sockets *passed,
                struct listen_sockets *sockets, char *error, size_t error_size);
/* Closes those that no frontend has taken over. */
void listen_close(struct listen_sockets *sockets);
/* Removes the files of Unix sockets. Safe in a signal handler. */
void listen_unlink(const struct listen_sockets *sockets);
/* Frees the tables; the descriptors stay as they are. */
void listen_free(struct listen_sockets *sockets);

#endif
