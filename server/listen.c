#include "server/listen.h"

#include "core/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct address {
    struct sockaddr_storage storage;
    socklen_t size;
};

static struct sockaddr *sockaddr_of(struct address *address)
{
    return (struct sockaddr *)&address->storage;
}

static int make_socket(const struct address *address)
{
    return socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int set_option(int fd, int level, int option)
{
    int on = 1;
    return setsockopt(fd, level, option, &on, sizeof(on));
}

/* ---- TCP */

/* A bound socket, or -1 with errno. */
static int bind_tcp(struct address *address, bool shared)
{
    int fd = make_socket(address);

    if (fd < 0)
        return -1;
    if (set_option(fd, SOL_SOCKET, SO_REUSEADDR) != 0 ||
        (shared && set_option(fd, SOL_SOCKET, SO_REUSEPORT) != 0) ||
        (address->storage.ss_family == AF_INET6 &&
         set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0) ||
        bind(fd, sockaddr_of(address), address->size) != 0 ||
        getsockname(fd, sockaddr_of(address), &address->size) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static uint16_t port_of(const struct address *address)
{
    return address->storage.ss_family == AF_INET
               ? ((const struct sockaddr_in *)&address->storage)->sin_port
               : ((const struct sockaddr_in6 *)&address->storage)->sin6_port;
}

/* One socket for each reactor into fds[0], fds[stride], … */
static int bind_all_tcp(struct address *address, int *fds, unsigned reactors, unsigned stride)
{
    if (port_of(address) != 0) {
        int trial = bind_tcp(address, false);
        if (trial < 0)
            return -errno;
        close(trial);
    }
    for (unsigned i = 0; i < reactors; i++) {
        fds[i * stride] = bind_tcp(address, true);
        if (fds[i * stride] < 0)
            return -errno;
    }
    return 0;
}

/* ---- Unix sockets */

/* Whether somebody answers on it; else it was left behind. */
static bool is_answered(struct address *address)
{
    int fd = make_socket(address);
    if (fd < 0)
        return true;
    bool answered = connect(fd, sockaddr_of(address), address->size) == 0 || errno == EAGAIN;
    close(fd);
    return answered;
}

static int bind_unix(struct address *address)
{
    const char *path = ((struct sockaddr_un *)&address->storage)->sun_path;
    struct stat found;
    int fd = make_socket(address);

    if (fd < 0)
        return -1;
    if (lstat(path, &found) == 0 && S_ISSOCK(found.st_mode) && !is_answered(address))
        (void)unlink(path);
    mode_t mask = umask(0177);
    int rc = bind(fd, sockaddr_of(address), address->size);
    int error = errno;
    umask(mask);
    if (rc == 0)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

/* One socket for all reactors. */
static int share(int *fds, unsigned reactors, unsigned stride)
{
    for (unsigned i = 1; i < reactors; i++) {
        fds[i * stride] = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
        if (fds[i * stride] < 0)
            return -errno;
    }
    return 0;
}

static int bind_all_unix(struct address *address, int *fds, unsigned reactors, unsigned stride)
{
    fds[0] = bind_unix(address);
    return fds[0] < 0 ? -errno : share(fds, reactors, stride);
}

/* ---- sockets that were passed to us */

static int use_passed(struct service_sockets *passed, const char *name, struct address *address,
                      unsigned i, struct listen_sockets *sockets)
{
    int *fds = sockets->fds + i;

    fds[0] = service_find_socket(passed, name);
    if (fds[0] < 0)
        return -ENOENT;
    address->size = sizeof(address->storage);
    if (getsockname(fds[0], sockaddr_of(address), &address->size) != 0)
        return -errno;
    sockets->passed[sockets->passed_n++].storage = address->storage;
    return share(fds, sockets->reactors, sockets->n);
}

/* ---- all of them */

static void write_url(struct address *address, bool tls, char *url, size_t size)
{
    const char *scheme = tls ? "https" : "http";
    char text[INET6_ADDRSTRLEN];
    if (address->storage.ss_family == AF_UNIX) {
        snprintf(url, size, "unix:%s", ((struct sockaddr_un *)&address->storage)->sun_path);
    } else if (address->storage.ss_family == AF_INET) {
        inet_ntop(AF_INET, &((struct sockaddr_in *)&address->storage)->sin_addr, text,
                  sizeof(text));
        snprintf(url, size, "%s://%s:%u", scheme, text, ntohs(port_of(address)));
    } else {
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&address->storage)->sin6_addr, text,
                  sizeof(text));
        snprintf(url, size, "%s://[%s]:%u", scheme, text, ntohs(port_of(address)));
    }
}

static int bind_address(const char *text, unsigned i, struct service_sockets *passed,
                        struct listen_sockets *sockets)
{
    struct address address;
    const char *name = config_listen_passed(text);
    int rc = config_parse_listen(text, &address.storage, &address.size);

    if (rc != 0)
        return rc;
    if (name != NULL) {
        rc = use_passed(passed, name, &address, i, sockets);
    } else if (address.storage.ss_family == AF_UNIX) {
        rc = bind_all_unix(&address, sockets->fds + i, sockets->reactors, sockets->n);
        if (rc == 0)
            strcpy(sockets->unix_paths[i], ((struct sockaddr_un *)&address.storage)->sun_path);
    } else {
        rc = bind_all_tcp(&address, sockets->fds + i, sockets->reactors, sockets->n);
    }
    if (rc == 0 && i == 0)
        write_url(&address, config_listen_is_tls(text), sockets->url, sizeof(sockets->url));
    return rc;
}

static void write_failure(const char *text, int rc, char *error, size_t error_size)
{
    const char *name = config_listen_passed(text);

    if (rc == -ENOENT && name != NULL)
        snprintf(error, error_size,
                 "cannot listen on %s: no (further) socket of the name \"%s\" was passed here by a "
                 "service manager",
                 text, name);
    else
        snprintf(error, error_size, "cannot listen on %s: %s", text, strerror(-rc));
}

/* Nobody would answer those who connect to it. */
static int refuse_left_over(const struct service_sockets *passed, char *error, size_t error_size)
{
    const char *name = service_left_over(passed);

    if (name == NULL)
        return 0;
    snprintf(error, error_size, "the socket \"%s\" was passed here, and no --listen fd:%s wants it",
             name, name);
    return -EINVAL;
}

static void give_up(struct listen_sockets *sockets)
{
    listen_unlink(sockets);
    listen_close(sockets);
    listen_free(sockets);
}

int listen_bind(const struct config *config, unsigned reactors, struct service_sockets *passed,
                struct listen_sockets *sockets, char *error, size_t error_size)
{
    *sockets = (struct listen_sockets){.n = (unsigned)config->listen.count, .reactors = reactors};
    size_t fds_n = (size_t)sockets->n * reactors;
    sockets->fds = mem_alloc(fds_n * sizeof(int));
    for (size_t i = 0; i < fds_n; i++)
        sockets->fds[i] = -1;
    sockets->unix_paths = mem_alloc(sockets->n * sizeof(*sockets->unix_paths));
    memset(sockets->unix_paths, 0, sockets->n * sizeof(*sockets->unix_paths));
    for (unsigned i = 0; i < sockets->n; i++) {
        int rc = bind_address(config->listen.items[i], i, passed, sockets);
        if (rc == 0)
            continue;
        write_failure(config->listen.items[i], rc, error, error_size);
        give_up(sockets);
        return rc;
    }
    int rc = refuse_left_over(passed, error, error_size);
    if (rc != 0)
        give_up(sockets);
    return rc;
}

void listen_close(struct listen_sockets *sockets)
{
    for (size_t i = 0; i < (size_t)sockets->n * sockets->reactors; i++) {
        if (sockets->fds[i] >= 0)
            close(sockets->fds[i]);
        sockets->fds[i] = -1;
    }
}

void listen_unlink(const struct listen_sockets *sockets)
{
    for (unsigned i = 0; i < sockets->n; i++)
        if (sockets->unix_paths[i][0] != '\0')
            (void)unlink(sockets->unix_paths[i]);
}

void listen_free(struct listen_sockets *sockets)
{
    free(sockets->fds);
    free(sockets->unix_paths);
    *sockets = (struct listen_sockets){0};
}
