/*
 * service: what a service manager (systemd) and we tell each other: sockets that it holds for us,
 * that we are ready, reload, stop, and are well.
 *
 * The protocols are a few environment variables and datagrams (sd_listen_fds(3), sd_notify(3)):
 * these lines speak them without libsystemd, which would bring a handful of other libraries into
 * the process. Without such a manager all of it does nothing.
 *
 * Sockets: `--listen fd:NAME` takes the first passed socket of that name (FileDescriptorName=) that
 * no --listen before it has taken. They stay the manager's, too: while one process follows another
 * what connects waits in their queue, and nobody is refused.
 *
 * Watchdog (WatchdogSec=): the main thread says that all is well only while every reactor turns.
 * One that sleeps is nudged first, so each has turned since the last look, or is stuck.
 *
 * Thread: main thread only.
 */
#ifndef ATOLL_SERVER_SERVICE_H
#define ATOLL_SERVER_SERVICE_H

#include "core/base.h"
#include "server/config.h"

struct cluster;

struct service_socket {
    int fd; /* close-on-exec and non-blocking; -1: taken */
    const char *name;
};

struct service_sockets {
    struct service_socket items[CONFIG_LIST_MAX];
    unsigned n;
    char *names; /* what items' names point into */
};

/* Takes over what was passed to this process; the environment does not tell of it any more. 0, or
 * -EINVAL with a sentence. */
int service_take_sockets(struct service_sockets *sockets, char *error, size_t error_size);
/* The descriptor of that name, which is the caller's now; -1: there is none (left). */
int service_find_socket(struct service_sockets *sockets, const char *name);
/* The name of a socket that is not taken, or NULL. */
const char *service_left_over(const struct service_sockets *sockets);
/* Closes those that are not taken. */
void service_free_sockets(struct service_sockets *sockets);

/* One or more lines NAME=VALUE. Not heard where nobody listens. */
void service_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* That the settings are read anew; once that is over: READY=1. */
void service_tell_reloading(void);

struct service_watch {
    int64_t every_ms;    /* between two looks; 0: nobody wants to know */
    int64_t watchdog_ms; /* the same for when the server is ready */
    int64_t next_ms;     /* monotonic */
    uint64_t turns[CONFIG_SHARDS_MAX];
    bool ready;
};

/* Reads the environment. */
void service_watch_open(struct service_watch *watch, int64_t now_ms);
/* The server is ready: says so. */
void service_watch_ready(struct service_watch *watch);
/* Milliseconds until service_watch_look is due; -1: never. */
int service_watch_wait_ms(const struct service_watch *watch, int64_t now_ms);
/* Where it is due: says that all is well, if it is; while the shards recover, also how far they
 * are, and asks for more time. */
void service_watch_look(struct service_watch *watch, struct cluster *cluster, int64_t now_ms);

#endif
