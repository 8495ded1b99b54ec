/*
 * baseline-h2o: the yardstick for throughput, the least that h2o can do with a command.
 *
 *   baseline-h2o --listen ADDR:PORT [--threads N] [--answer-bytes N]
 *
 * Each thread runs its own h2o event loop over its own SO_REUSEPORT socket and answers every POST
 * at once, from inside the handler, with a fixed JSON body as long as Atoll's answer to one
 * message.send (300 bytes unless told). Nothing is parsed, ordered, stored or handed to another
 * thread: what Atoll's answers cost above this is what Atoll itself costs.
 *
 * Normal path: bind all sockets, start all threads, print the URL in one line (with the real port
 * where 0 was asked for), serve until killed. Anything that fails at start ends the process with
 * status 1 and a line on stderr; wrong options with status 2. Other methods get h2o's own 404.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <h2o.h>
#include <h2o/http1.h>

_Static_assert(H2O_USE_LIBUV == 0, "h2o's structs differ between libuv and evloop builds");

enum { THREADS_MAX = 64, ACCEPTS_PER_TURN = 64, ANSWER_MIN_BYTES = 200, ANSWER_MAX_BYTES = 8192 };

struct worker {
    pthread_t thread;
    int listen_fd;
    h2o_context_t ctx;
    h2o_accept_ctx_t accept_ctx;
};

static h2o_globalconf_t config;
static h2o_iovec_t answer;

static int answer_post(h2o_handler_t *self, h2o_req_t *req)
{
    static h2o_generator_t generator;

    (void)self;
    if (!h2o_memis(req->method.base, req->method.len, H2O_STRLIT("POST")))
        return -1;
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = answer.len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/json"));
    h2o_start_response(req, &generator);
    h2o_send(req, &answer, 1, H2O_SEND_STATE_FINAL);
    return 0;
}

static void on_accept(h2o_socket_t *listener, const char *err)
{
    struct worker *worker = listener->data;

    if (err != NULL)
        return;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        if (sock == NULL)
            return;
        h2o_accept(&worker->accept_ctx, sock);
    }
}

static void *serve(void *arg)
{
    struct worker *worker = arg;

    h2o_context_init(&worker->ctx, h2o_evloop_create(), &config);
    worker->accept_ctx = (h2o_accept_ctx_t){.ctx = &worker->ctx, .hosts = config.hosts};
    h2o_socket_t *listener =
        h2o_evloop_socket_create(worker->ctx.loop, worker->listen_fd, H2O_SOCKET_FLAG_DONT_READ);
    listener->data = worker;
    h2o_socket_read_start(listener, on_accept);
    while (h2o_evloop_run(worker->ctx.loop, INT32_MAX) == 0 || errno == EINTR)
        ;
    perror("baseline-h2o: event loop");
    exit(1);
}

/* One message.send's answer, its content as long as makes the whole `size` bytes. */
static h2o_iovec_t answer_make(size_t size)
{
    static const char head[] =
        "{\"seq\":42,\"id\":\"m42\",\"events\":[{\"seq\":42,\"ts\":\"2026-01-01T00:00:00.000Z\","
        "\"type\":\"message.sent\",\"actor\":\"a1\",\"id\":\"m42\",\"thread\":\"t3\","
        "\"sender\":\"a1\",\"content\":\"";
    static const char tail[] = "\"}]}";
    h2o_iovec_t text = {.base = malloc(size), .len = size};

    _Static_assert(sizeof(head) + sizeof(tail) <= ANSWER_MIN_BYTES, "the frame fits any answer");
    if (text.base == NULL)
        return text;
    memset(text.base, 'x', size);
    memcpy(text.base, head, sizeof(head) - 1);
    memcpy(text.base + size - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
    return text;
}

/* Fills `addr` from "ADDR:PORT" (IPv4); false if it is not one. */
static bool parse_listen(const char *text, struct sockaddr_in *addr)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    char *end;

    if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
        return false;
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
    unsigned long port = strtoul(colon + 1, &end, 10);
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return end != colon + 1 && *end == '\0' && port <= UINT16_MAX &&
           inet_pton(AF_INET, host, &addr->sin_addr) == 1;
}

/* A listening socket at `addr`; where its port is 0, fills in the one the system gave. */
static int listen_at(struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    socklen_t len = sizeof(*addr);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)addr, sizeof(*addr)) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)addr, &len) != 0) {
        perror("baseline-h2o: listen");
        exit(1);
    }
    return fd;
}

static void usage(void)
{
    fprintf(stderr,
            "usage: baseline-h2o --listen ADDR:PORT [--threads 1..%d] [--answer-bytes %d..%d]\n",
            THREADS_MAX, ANSWER_MIN_BYTES, ANSWER_MAX_BYTES);
    exit(2);
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS_MAX];
    static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"answer-bytes", required_argument, NULL, 'b'},
                                            {0}};
    struct sockaddr_in addr = {0};
    long threads = 1, answer_bytes = 300;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'l' && parse_listen(optarg, &addr))
            continue;
        if (option == 't' && (threads = strtol(optarg, NULL, 10)) >= 1 && threads <= THREADS_MAX)
            continue;
        if (option == 'b' && (answer_bytes = strtol(optarg, NULL, 10)) >= ANSWER_MIN_BYTES &&
            answer_bytes <= ANSWER_MAX_BYTES)
            continue;
        usage();
    }
    if (addr.sin_family == 0 || optind != argc)
        usage();

    h2o_config_init(&config);
    h2o_hostconf_t *host =
        h2o_config_register_host(&config, h2o_iovec_init(H2O_STRLIT("default")), UINT16_MAX);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    h2o_create_handler(path, sizeof(h2o_handler_t))->on_req = answer_post;
    answer = answer_make((size_t)answer_bytes);
    if (answer.base == NULL) {
        perror("baseline-h2o");
        return 1;
    }

    for (long i = 0; i < threads; i++)
        workers[i].listen_fd = listen_at(&addr);
    for (long i = 0; i < threads; i++) {
        errno = pthread_create(&workers[i].thread, NULL, serve, &workers[i]);
        if (errno != 0) {
            perror("baseline-h2o: thread");
            return 1;
        }
    }
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &addr.sin_addr, text, sizeof(text));
    printf("http://%s:%d\n", text, ntohs(addr.sin_port));
    fflush(stdout);
    return pthread_join(workers[0].thread, NULL);
}
