#include "tests/instructions/front.h"

#include <errno.h>
#include <jwt.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

/* ---- turning */

void front_turn(struct front *front)
{
    if (house_turn_shard(front->house))
        house_fail("a turn was not enough");
    (void)frontend_ops.work(front->frontend); /* how long it could wait: nobody sleeps here */
    frontend_ops.poll(front->frontend, 0);
}

/* ---- clients */

void front_ask(struct front *front, unsigned number, struct str body)
{
    struct buf text = {0};
    char head[1024];
    int n = snprintf(head, sizeof(head),
                     "POST /v1/sessions/bench%u/commands HTTP/1.1\r\n"
                     "Host: 127.0.0.1:8080\r\n"
                     "Content-Type: application/json\r\n"
                     "Content-Length: %zu\r\n%s%s%s\r\n",
                     number, body.n, front->token != NULL ? "Authorization: Bearer " : "",
                     front->token != NULL ? front->token : "", front->token != NULL ? "\r\n" : "");
    buf_add(&text, head, (size_t)n);
    buf_add_str(&text, body);
    ssize_t written = write(front->clients[number], text.p, text.n);
    if (written != (ssize_t)text.n)
        house_fail("a request of %zu bytes was not taken at once", text.n);
    buf_free(&text);
}

void front_hear(struct front *front, unsigned number)
{
    static char answer[64 * 1024];
    size_t size = 0;
    int end = 0;
    ssize_t n = recv(front->clients[number], answer, sizeof(answer) - 1, MSG_DONTWAIT);
    if (n <= 0)
        house_fail("client %u has no answer: %s", number, n < 0 ? strerror(errno) : "closed");
    answer[n] = '\0';
    const char *length = strcasestr(answer, "\r\ncontent-length: ");
    const char *body = strstr(answer, "\r\n\r\n");
    bool good = strncmp(answer, "HTTP/1.1 2", 10) == 0 && length != NULL && body != NULL &&
                sscanf(length + 18, "%zu%n", &size, &end) == 1;
    if (!good || body + 4 + size != answer + n || strstr(answer, "\"error\"") != NULL)
        house_fail("client %u was answered: %s", number, answer);
}

void front_see(struct front *front, unsigned number)
{
    static char text[256 * 1024];
    ssize_t n;
    while ((n = recv(front->watchers[number], text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
        text[n] = '\0';
        for (const char *at = text; (at = strstr(at, "event: patch\n")) != NULL; at++)
            front->seen++;
    }
    if (n == 0)
        house_fail("the stream of watcher %u has ended", number);
}

static int connect_to(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
        house_fail("a client cannot connect: %s", strerror(errno));
    return fd;
}

static void watch(struct front *front, unsigned number)
{
    char head[160];
    int n = snprintf(head, sizeof(head),
                     "GET /v1/sessions/bench%u/stream HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
                     number);
    if (write(front->watchers[number], head, (size_t)n) != n)
        house_fail("watcher %u cannot ask: %s", number, strerror(errno));
}

/* ---- beginning and end */

static int listen_at(struct sockaddr_un *address, const char *folder)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "%s/front", folder);
    if (fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
        house_fail("cannot listen at %s: %s", address->sun_path, strerror(errno));
    return fd;
}

/* A key in a file, an option that names it, and a token for all that the clients do. */
static void make_key(struct front *front, const char *folder)
{
    static const unsigned char secret[] = "the key of who counts instructions";
    char path[256], error[CONFIG_ERROR_SIZE], option[] = "--auth-key";
    char *arguments[] = {option, path};
    jwt_t *token = NULL;

    snprintf(path, sizeof(path), "%s/key", folder);
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs((const char *)secret, file) < 0 || fclose(file) != 0)
        house_fail("cannot write %s", path);
    config_free(&front->config);
    if (config_load(&front->config, 2, arguments, error, sizeof(error)) != 0)
        house_fail("%s", error);
    if (jwt_new(&token) != 0 || jwt_add_grant(token, "sub", "a1") != 0 ||
        jwt_add_grant(token, "sid", "bench*") != 0 ||
        jwt_add_grant(token, "scope", "read write admin") != 0 ||
        jwt_set_alg(token, JWT_ALG_HS256, secret, sizeof(secret) - 1) != 0 ||
        (front->token = jwt_encode_str(token)) == NULL)
        house_fail("cannot make a token");
    jwt_free(token);
}

static void publish(struct front *front)
{
    struct config config;
    struct live *live;
    char error[CONFIG_ERROR_SIZE];
    config_copy(&config, &front->config);
    if (live_make(&config, NULL, 0, &live, error, sizeof(error)) != 0)
        house_fail("%s", error);
    live_open(&front->shared.live);
    live_publish(&front->shared.live, live);
}

static void start(struct front *front)
{
    struct house *house = front->house;
    front->shared = (struct frontend_shared){
        .config = &front->config,
        .limits = &house->limits,
        .listeners = &front->listener,
        .listeners_n = 1,
        .frontends = 1,
        .figures = &front->figures,
    };
    publish(front);
    front->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX; /* as the server does */
    front->frontend = frontend_ops.start(&front->shared, house->reactor, &house->mailbox,
                                         front->wake_fd, io_fake_io(house->fake)->fd);
    if (front->frontend == NULL)
        house_fail("the frontend did not start");
    /* Checked like those that come over TCP. */
    front->frontend->listeners[0].local = false;
}

void front_open(struct front *front, struct house *house, unsigned clients, enum front_kind kind)
{
    enum { TURNS_TO_JOIN = 6 };
    bool watched = kind == FRONT_WATCHED;
    struct sockaddr_un address;
    assert(clients <= FRONT_CLIENTS_MAX);
    *front = (struct front){.house = house, .clients_n = clients};
    config_defaults(&front->config);
    if (kind == FRONT_TOKEN)
        make_key(front, house->scratch.path);
    front->listener = listen_at(&address, house->scratch.path);
    start(front);
    for (unsigned i = 0; i < clients; i++) {
        front->clients[i] = connect_to(&address);
        front->watchers[i] = watched ? connect_to(&address) : -1;
        if (watched)
            watch(front, i);
    }
    for (unsigned turn = 0; turn < TURNS_TO_JOIN; turn++) {
        front_turn(front);
        for (unsigned i = 0; i < clients && watched; i++)
            front_see(front, i); /* a snapshot may be more than a socket takes at once */
    }
}

void front_close(struct front *front)
{
    for (unsigned i = 0; i < front->clients_n; i++) {
        close(front->clients[i]);
        if (front->watchers[i] >= 0)
            close(front->watchers[i]);
    }
    front_turn(front);
    front_turn(front);
    if (front->frontend->connections != NULL)
        house_fail("a connection has outlived its client");
    frontend_ops.stop(front->frontend);
    live_close(&front->shared.live);
    close(front->wake_fd);
    config_free(&front->config);
    free(front->token);
}
