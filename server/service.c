#include "server/service.h"

#include "server/logger.h"
#include "shards/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    FIRST_FD = 3,       /* of those that are passed */
    LOOKS = 4,          /* within the time that the watchdog grants */
    STARTING_MS = 5000, /* between two words while the shards recover */
    PATIENCE_S = 60,    /* what each of these asks for */
    MESSAGE_BYTES = 512,
};

/* ---- sockets */

/* A number in the environment; 0: none, or not one. */
static uint64_t number_in(const char *name)
{
    const char *text = getenv(name);
    char *end;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return 0;
    errno = 0;
    uintmax_t number = strtoumax(text, &end, 10);
    return errno == 0 && *end == '\0' ? number : 0;
}

static int refuse(char *error, size_t error_size, const char *name, const char *why)
{
    snprintf(error, error_size, "the socket \"%s\" that was passed here %s", name, why);
    return -EINVAL;
}

static int check_socket(const struct service_socket *socket, char *error, size_t error_size)
{
    struct sockaddr_storage address;
    socklen_t address_size = sizeof(address);
    int type = 0;
    socklen_t type_size = sizeof(type);
    int flags = fcntl(socket->fd, F_GETFL);

    if (flags < 0 || getsockopt(socket->fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0)
        return refuse(error, error_size, socket->name, "is none");
    if (type != SOCK_STREAM ||
        getsockname(socket->fd, (struct sockaddr *)&address, &address_size) != 0 ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6 &&
         address.ss_family != AF_UNIX))
        return refuse(error, error_size, socket->name, "must be a stream of TCP or Unix");
    (void)fcntl(socket->fd, F_SETFL, flags | O_NONBLOCK);
    (void)fcntl(socket->fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

int service_take_sockets(struct service_sockets *sockets, char *error, size_t error_size)
{
    uint64_t n = number_in("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");

    *sockets = (struct service_sockets){0};
    if (n == 0 || number_in("LISTEN_PID") != (uint64_t)getpid())
        return 0;
    if (n > CONFIG_LIST_MAX) {
        snprintf(error, error_size, "%" PRIu64 " sockets were passed here; at most %d can be", n,
                 CONFIG_LIST_MAX);
        return -EINVAL;
    }
    sockets->names = strdup(names != NULL ? names : "");
    if (sockets->names == NULL)
        abort();
    char *rest = sockets->names;
    int rc = 0;
    while (sockets->n < n && rc == 0) {
        char *name = rest != NULL ? strsep(&rest, ":") : NULL;
        struct service_socket *socket = &sockets->items[sockets->n];
        *socket = (struct service_socket){
            .fd = FIRST_FD + (int)sockets->n,
            .name = name != NULL && name[0] != '\0' ? name : "unknown",
        };
        sockets->n++;
        rc = check_socket(socket, error, error_size);
    }
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
    return rc;
}

int service_find_socket(struct service_sockets *sockets, const char *name)
{
    for (unsigned i = 0; i < sockets->n; i++) {
        int fd = sockets->items[i].fd;
        if (fd < 0 || strcmp(sockets->items[i].name, name) != 0)
            continue;
        sockets->items[i].fd = -1;
        return fd;
    }
    return -1;
}

const char *service_left_over(const struct service_sockets *sockets)
{
    for (unsigned i = 0; i < sockets->n; i++)
        if (sockets->items[i].fd >= 0)
            return sockets->items[i].name;
    return NULL;
}

void service_free_sockets(struct service_sockets *sockets)
{
    for (unsigned i = 0; i < sockets->n; i++)
        if (sockets->items[i].fd >= 0)
            close(sockets->items[i].fd);
    free(sockets->names);
    *sockets = (struct service_sockets){0};
}

/* ---- telling */

static void send_to(const char *path, const char *text, size_t n)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);

    if (length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* in the abstract name space */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

void service_tell(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    char text[MESSAGE_BYTES];
    va_list arguments;

    if (path == NULL)
        return;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    assert(n > 0 && (size_t)n < sizeof(text));
    send_to(path, text, (size_t)n);
}

void service_tell_reloading(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    service_tell("RELOADING=1\nMONOTONIC_USEC=%" PRId64,
                 (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

/* ---- the watchdog */

void service_watch_open(struct service_watch *watch, int64_t now_ms)
{
    uint64_t us = number_in("WATCHDOG_USEC");
    uint64_t pid = number_in("WATCHDOG_PID");

    *watch = (struct service_watch){.next_ms = now_ms};
    if (getenv("NOTIFY_SOCKET") == NULL)
        return;
    if (us != 0 && (pid == 0 || pid == (uint64_t)getpid()))
        watch->watchdog_ms = us / 1000 < LOOKS ? 1 : (int64_t)(us / 1000 / LOOKS);
    watch->every_ms = STARTING_MS;
}

void service_watch_ready(struct service_watch *watch)
{
    service_tell("READY=1\nSTATUS=serving");
    watch->ready = true;
    watch->every_ms = watch->watchdog_ms;
    watch->next_ms = 0;
}

int service_watch_wait_ms(const struct service_watch *watch, int64_t now_ms)
{
    if (watch->every_ms == 0)
        return -1;
    return watch->next_ms > now_ms ? (int)(watch->next_ms - now_ms) : 0;
}

/* Whether each has turned since the last look; those that sleep are made to before the next. */
static bool all_turn(struct service_watch *watch, struct cluster *cluster)
{
    bool all = true;

    for (unsigned i = 0; i < cluster_size(cluster); i++) {
        uint64_t turns = cluster_reactor_figures(cluster, i).turns;
        all = all && turns != watch->turns[i];
        watch->turns[i] = turns;
        cluster_nudge(cluster, i);
    }
    return all;
}

void service_watch_look(struct service_watch *watch, struct cluster *cluster, int64_t now_ms)
{
    char text[MESSAGE_BYTES / 2];

    if (watch->every_ms == 0 || now_ms < watch->next_ms)
        return;
    watch->next_ms = now_ms + watch->every_ms;
    if (!all_turn(watch, cluster))
        return;
    if (watch->ready) {
        service_tell("WATCHDOG=1");
        return;
    }
    cluster_tell_recovery(cluster, text, sizeof(text));
    service_tell("EXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=%s", (uint64_t)PATIENCE_S * 1000000,
                 text);
}
