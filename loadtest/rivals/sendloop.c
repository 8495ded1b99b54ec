/*
 * sendloop: what fan-out costs a program that does nothing else: one thread that send()s the same
 * frames to one socket after the other, over and over.
 *
 *   sendloop --listen 127.0.0.1:PORT [--watchers N] [--bytes N] [--frames N]
 *
 * The yardstick for streams of one session: no parsing, no log, no queues, no epoll. Each frame is
 * --bytes long (default 220) and looks like a patch, so that the same program can read both.
 * --frames of them (default 1) go out in one send: with 1, a server that puts several into a write
 * can be faster.
 *
 * Normal path: prints "sendloop: listening on http://ADDRESS:PORT", accepts --watchers (default
 * 1000), reads a request from each and answers with a head; then sends until SIGTERM or until one
 * of them leaves. Failure before that: a message and status 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 4096 };

struct loop {
    struct sockaddr_in address;
    uint64_t watchers, bytes, frames;
    int *fds;
    char *text; /* `frames` of `bytes` */
};

static int fail(const char *what)
{
    fprintf(stderr, "sendloop: %s: %s\n", what, strerror(errno));
    return 1;
}

static int listen_at(struct loop *loop, int *fd)
{
    struct sockaddr_in *address = &loop->address;
    socklen_t size = sizeof(*address);
    int one = 1;

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(*fd, (struct sockaddr *)address, size) != 0 || listen(*fd, LISTEN_BACKLOG) != 0 ||
        getsockname(*fd, (struct sockaddr *)address, &size) != 0)
        return fail("listening");
    printf("sendloop: listening on http://127.0.0.1:%u\n", ntohs(address->sin_port));
    fflush(stdout);
    return 0;
}

/* Whole requests: they are small, so they come in one piece. */
static int accept_all(struct loop *loop, int fd)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Connection: close\r\n\r\n";
    char request[4096];
    int one = 1;

    for (uint64_t i = 0; i < loop->watchers; i++) {
        loop->fds[i] = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (loop->fds[i] < 0 ||
            setsockopt(loop->fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
            recv(loop->fds[i], request, sizeof(request), 0) <= 0)
            return fail("accepting");
    }
    for (uint64_t i = 0; i < loop->watchers; i++) {
        if (send(loop->fds[i], head, sizeof(head) - 1, MSG_NOSIGNAL) < 0)
            return fail("answering");
    }
    return 0;
}

/* A frame of exactly `bytes`. */
static void put_frame(char *out, uint64_t bytes, uint64_t seq)
{
    static const char tail[] = "\"}]}\n\n";
    int n = snprintf(out, bytes,
                     "event: patch\nid: 4000001-%llu-1\ndata: {\"seq\":%llu,\"ts\":"
                     "\"2026-01-01T00:00:00.000Z\",\"type\":\"agent.updated\",\"actor\":\"a1\","
                     "\"ops\":[{\"op\":\"replace\",\"path\":\"/agents/a1/note\",\"value\":\"",
                     (unsigned long long)seq, (unsigned long long)seq);
    memset(out + n, 'x', bytes - (uint64_t)n);
    memcpy(out + bytes - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
}

static bool send_all(int fd, const char *p, size_t n)
{
    while (n != 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

static void send_on(struct loop *loop)
{
    uint64_t seq = 0;

    for (;;) {
        for (uint64_t i = 0; i < loop->frames; i++)
            put_frame(loop->text + i * loop->bytes, loop->bytes, ++seq);
        for (uint64_t i = 0; i < loop->watchers; i++) {
            if (!send_all(loop->fds[i], loop->text, loop->frames * loop->bytes))
                return;
        }
    }
}

static void parse_options(struct loop *loop, int argc, char **argv)
{
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'},
        {"watchers", required_argument, NULL, 'n'},
        {"bytes", required_argument, NULL, 'b'},
        {"frames", required_argument, NULL, 'f'},
        {0},
    };
    unsigned port = 0;
    int option;
    bool good = true;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'n')
            loop->watchers = strtoull(optarg, NULL, 10);
        else if (option == 'b')
            loop->bytes = strtoull(optarg, NULL, 10);
        else if (option == 'f')
            loop->frames = strtoull(optarg, NULL, 10);
        else
            good &= option == 'l' && sscanf(optarg, "127.0.0.1:%u", &port) == 1 && port <= 65535;
    }
    if (!good || optind != argc || loop->watchers < 1 || loop->watchers > 100000 ||
        loop->bytes < 200 || loop->bytes > 65536 || loop->frames < 1 || loop->frames > 1000) {
        fprintf(stderr, "usage: sendloop [--listen 127.0.0.1:PORT] [--watchers N] "
                        "[--bytes 200…65536] [--frames 1…1000]\n");
        exit(2);
    }
    loop->address = (struct sockaddr_in){.sin_family = AF_INET,
                                         .sin_port = htons((uint16_t)port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int main(int argc, char **argv)
{
    struct loop loop = {.watchers = 1000, .bytes = 220, .frames = 1};
    int fd = -1;

    parse_options(&loop, argc, argv);
    loop.fds = calloc(loop.watchers, sizeof(*loop.fds));
    loop.text = malloc(loop.frames * loop.bytes);
    if (loop.fds == NULL || loop.text == NULL)
        return fail("memory");
    if (listen_at(&loop, &fd) != 0 || accept_all(&loop, fd) != 0)
        return 1;
    send_on(&loop);
    return 0;
}
