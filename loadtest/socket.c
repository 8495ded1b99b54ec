/*
 * socket: commands pipelined over one WebSocket connection, every answer checked.
 *
 *   socket --url http://ADDRESS:PORT [--path PATH] [--window N] [--bytes N] [--seconds S]
 *          [--warmup S] [--server-pid PID]
 *
 * Normal path: upgrades PATH (default /v1/sessions/w0/ws), subprotocol atoll.v1, and sends
 *   {"ref":R,"type":"message.send","thread":"work","sender":"a1","content":"…"}
 * with --bytes (default 128) of content, each in a masked frame with a key of its own, as long as
 * no more than --window (default 1024) are unanswered. Answers have to come in order, with status
 * 200 and seqs that grow by one. What the server tells of the session besides (snapshot, patches)
 * is counted; pings are answered. At the end it waits for what is under way, closes with 1000,
 * waits for the server's close, and prints one line; times are from the moment at which a command
 * was made until its answer was read:
 *
 *   commands=… s=… per_s=… patches=… messages=… MB_per_s=… cpu=… server_cpu=… answer_p50_us=…
 *
 * Failure: a sentence and status 1.
 */
#include "http.h"
#include "samples.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_BYTES = 1024 * 1024, /* also the longest frame that is taken */
    WINDOW_MAX = 65536,
    HEAD_BYTES_MAX = 4096,
    FRAME_ROOM = 256,     /* of a command's frame besides its content */
    SEND_BYTES = 1 << 16, /* begun commands are sent when they are as many bytes */
    MARGIN = 8,           /* masking goes in steps of eight bytes */
    PATIENCE_MS = 30000,
    REF_FIRST = 100000000, /* refs of as many digits for as long as this runs */
    REF_DIGITS = 9,
};

enum opcode { OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct sock {
    /* Options. */
    const char *url, *path;
    uint64_t window, bytes, server_pid;
    double seconds, warmup;

    int fd;
    const char *error;
    bool writing, measuring, closed;
    /* Out: bytes [out_sent, out_n) are to be sent. */
    char *out;
    size_t out_n, out_sent, out_room;
    /* In: bytes [0, in_n) are there. */
    char *in;
    size_t in_n;
    char *command; /* the object with zeros for the ref */
    size_t command_n, ref_at;
    uint64_t random;
    uint64_t *began_ns;                  /* by ref modulo the window */
    uint64_t sent, answered, seq, reads; /* seq: of the last answer */
    uint64_t patches, messages, merged, snapshots, read_bytes;
    struct samples answer;
};

/* ---- frames out */

/* splitmix64 */
static uint64_t draw(struct sock *sock)
{
    uint64_t z = sock->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The text that stands at `p` with `n` bytes becomes masked; up to MARGIN bytes behind it are
 * overwritten. */
static void mask(char *p, size_t n, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key;

    for (size_t i = 0; i < n; i += sizeof(wide)) {
        uint64_t bytes;
        memcpy(&bytes, p + i, sizeof(bytes));
        bytes ^= wide;
        memcpy(p + i, &bytes, sizeof(bytes));
    }
}

/* A masked final frame behind what is to be sent; 65535 bytes at most. */
static void add_frame(struct sock *sock, enum opcode opcode, const char *text, size_t n,
                      uint64_t ref)
{
    uint32_t key = (uint32_t)draw(sock);
    char *p = sock->out + sock->out_n;

    *p++ = (char)(0x80 | opcode);
    if (n < 126) {
        *p++ = (char)(0x80 | n);
    } else {
        *p++ = (char)(0x80 | 126);
        *p++ = (char)(n >> 8);
        *p++ = (char)n;
    }
    memcpy(p, &key, sizeof(key));
    p += sizeof(key);
    memcpy(p, text, n);
    for (unsigned i = REF_DIGITS; ref != 0 && i-- != 0; ref /= 10)
        p[sock->ref_at + i] = (char)('0' + ref % 10);
    mask(p, n, key);
    sock->out_n = (size_t)(p - sock->out) + n;
}

static void send_out(struct sock *sock)
{
    while (sock->out_sent < sock->out_n) {
        ssize_t n =
            send(sock->fd, sock->out + sock->out_sent, sock->out_n - sock->out_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0 && errno != EINTR) {
            sock->error = strerror(errno);
            return;
        }
        sock->out_sent += n > 0 ? (size_t)n : 0;
    }
    sock->out_n = sock->out_sent = 0;
}

/* New commands, as many as the window lets, and out with them. */
static void write_some(struct sock *sock)
{
    send_out(sock);
    while (sock->error == NULL && sock->writing && sock->out_n == 0 &&
           sock->sent - sock->answered < sock->window) {
        uint64_t now = samples_now_ns();
        while (sock->sent - sock->answered < sock->window && sock->out_n < SEND_BYTES) {
            sock->began_ns[sock->sent % sock->window] = now;
            add_frame(sock, OP_TEXT, sock->command, sock->command_n, REF_FIRST + sock->sent);
            sock->sent++;
        }
        send_out(sock);
    }
}

/* ---- frames in */

static bool take_text(const char **p, const char *end, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(end - *p) < n || memcmp(*p, text, n) != 0)
        return false;
    *p += n;
    return true;
}

static uint64_t take_number(const char **p, const char *end)
{
    uint64_t value = 0;
    while (*p != end && **p >= '0' && **p <= '9')
        value = 10 * value + (uint64_t)(*(*p)++ - '0');
    return value;
}

static void refuse(struct sock *sock, const char *what, const char *text, size_t n)
{
    static char why[512];
    snprintf(why, sizeof(why), "%s: %.*s", what, n < 400 ? (int)n : 400, text);
    sock->error = why;
}

/* From behind {"ref": */
static void on_answer(struct sock *sock, const char *text, size_t n, const char *p, uint64_t now)
{
    const char *end = text + n;
    uint64_t ref = take_number(&p, end);

    if (ref != REF_FIRST + sock->answered || !take_text(&p, end, ",\"status\":200,\"seq\":")) {
        refuse(sock, "an answer that is not the next one, or not good", text, n);
        return;
    }
    uint64_t seq = take_number(&p, end);
    if (sock->answered != 0 && seq != sock->seq + 1)
        refuse(sock, "an answer's seq is not the one after the last", text, n);
    if (sock->measuring)
        samples_add(&sock->answer, now - sock->began_ns[sock->answered % sock->window]);
    sock->seq = seq;
    sock->answered++;
}

/* {"event":"patch","id":"…","seq":N[,"from":N]… */
static void on_event(struct sock *sock, const char *text, size_t n)
{
    static const char seq_key[] = ",\"seq\":";
    const char *p = text, *end = text + n;

    if (!take_text(&p, end, "{\"event\":\"patch\"")) {
        sock->snapshots++;
        return;
    }
    p = memmem(p, (size_t)(end - p), seq_key, sizeof(seq_key) - 1);
    if (p == NULL) {
        refuse(sock, "a patch without seq", text, n);
        return;
    }
    p += sizeof(seq_key) - 1;
    uint64_t seq = take_number(&p, end), from = seq;
    if (take_text(&p, end, ",\"from\":"))
        from = take_number(&p, end);
    sock->messages++;
    sock->merged += from != seq;
    sock->patches += seq - from + 1;
}

static void on_frame(struct sock *sock, enum opcode opcode, const char *text, size_t n,
                     uint64_t now)
{
    const char *p = text;

    if (opcode == OP_TEXT && take_text(&p, text + n, "{\"ref\":"))
        on_answer(sock, text, n, p, now);
    else if (opcode == OP_TEXT)
        on_event(sock, text, n);
    else if (opcode == OP_PING)
        add_frame(sock, OP_PONG, text, n, 0);
    else if (opcode == OP_CLOSE && !sock->writing && n >= 2 &&
             (unsigned char)text[0] * 256 + (unsigned char)text[1] == 1000)
        sock->closed = true;
    else
        refuse(sock, "a frame that is not expected", n > 2 ? text + 2 : text, n > 2 ? n - 2 : 0);
}

/* Takes one frame of the `n` bytes; returns its size, 0: it is not there as a whole. */
static size_t take_frame(struct sock *sock, const char *bytes, size_t n, uint64_t now)
{
    const unsigned char *p = (const unsigned char *)bytes;
    size_t head = 2, size;

    if (n < 2)
        return 0;
    if ((p[0] & 0xf0) != 0x80 || (p[1] & 0x80) != 0) {
        sock->error = "a frame is in parts, compressed or masked";
        return 0;
    }
    size = p[1];
    if (size >= 126) {
        unsigned length_bytes = size == 126 ? 2 : 8;
        head += length_bytes;
        if (n < head)
            return 0;
        size = 0;
        for (unsigned i = 0; i < length_bytes; i++)
            size = size << 8 | p[2 + i];
    }
    if (size > READ_BYTES - head)
        sock->error = "a frame is longer than 1 MiB";
    if (sock->error != NULL || n < head + size)
        return 0;
    on_frame(sock, p[0] & 0x0f, bytes + head, size, now);
    return head + size;
}

static void read_some(struct sock *sock)
{
    ssize_t n = recv(sock->fd, sock->in + sock->in_n, READ_BYTES - sock->in_n, 0);
    size_t at = 0, took;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        sock->error = n < 0 ? strerror(errno) : "the server has closed the connection";
        return;
    }
    uint64_t now = samples_now_ns();
    sock->reads++;
    sock->read_bytes += (uint64_t)n;
    sock->in_n += (size_t)n;
    while (sock->error == NULL &&
           (took = take_frame(sock, sock->in + at, sock->in_n - at, now)) != 0)
        at += took;
    memmove(sock->in, sock->in + at, sock->in_n - at);
    sock->in_n -= at;
}

/* ---- the loop */

/* Whether there is room to write again is never waited for: what is out brings answers. */
static void turn(struct sock *sock, int epoll_fd, int timeout_ms)
{
    struct epoll_event event;

    write_some(sock);
    if (sock->error == NULL && epoll_wait(epoll_fd, &event, 1, timeout_ms) == 1 &&
        (event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        read_some(sock);
}

static void go_on_for(struct sock *sock, int epoll_fd, double seconds)
{
    uint64_t until_ns = samples_now_ns() + (uint64_t)(seconds * 1e9);
    while (sock->error == NULL && samples_now_ns() < until_ns)
        turn(sock, epoll_fd, 100);
}

static void finish_writing(struct sock *sock, int epoll_fd)
{
    uint64_t until_ns = samples_now_ns() + PATIENCE_MS * UINT64_C(1000000);

    sock->writing = false;
    while (sock->error == NULL && sock->answered != sock->sent) {
        turn(sock, epoll_fd, 100);
        if (samples_now_ns() > until_ns)
            sock->error = "waited in vain for the last answers";
    }
    add_frame(sock, OP_CLOSE, "\x03\xe8", 2, 0);
    while (sock->error == NULL && !sock->closed) {
        turn(sock, epoll_fd, 100);
        if (samples_now_ns() > until_ns)
            sock->error = "waited in vain for the server's close";
    }
}

/* ---- start */

static void upgrade(struct sock *sock, const struct sockaddr_in *address)
{
    char request[1024], head[HEAD_BYTES_MAX + 1];
    size_t n = 0;
    int one = 1;

    sock->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int size = snprintf(request, sizeof(request),
                        "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                        "Sec-WebSocket-Protocol: atoll.v1\r\n\r\n",
                        sock->path);
    if (sock->fd < 0 ||
        connect(sock->fd, (const struct sockaddr *)address, sizeof(*address)) != 0 ||
        setsockopt(sock->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        send(sock->fd, request, (size_t)size, MSG_NOSIGNAL) != size) {
        sock->error = strerror(errno);
        return;
    }
    /* One byte after the other: what follows the head is frames. */
    while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
        if (n == HEAD_BYTES_MAX || recv(sock->fd, head + n, 1, 0) != 1) {
            sock->error = "the answer to the upgrade has no end";
            return;
        }
        n++;
    }
    head[n] = '\0';
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0 ||
        strcasestr(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") == NULL ||
        strcasestr(head, "\r\nSec-WebSocket-Protocol: atoll.v1\r\n") == NULL)
        refuse(sock, "no upgrade", head, strcspn(head, "\r\n"));
    else if (fcntl(sock->fd, F_SETFL, O_NONBLOCK) != 0)
        sock->error = strerror(errno);
}

static void measure(struct sock *sock, int epoll_fd)
{
    sock->writing = true;
    go_on_for(sock, epoll_fd, sock->warmup);
    struct sock before = *sock;
    uint64_t began_ns = samples_now_ns();
    double cpu = samples_cpu_s((uint64_t)getpid()), server_cpu = samples_cpu_s(sock->server_pid);
    sock->measuring = true;
    go_on_for(sock, epoll_fd, sock->seconds);
    sock->measuring = false;
    double seconds = (double)(samples_now_ns() - began_ns) / 1e9;
    struct sock after = *sock;
    cpu = samples_cpu_s((uint64_t)getpid()) - cpu;
    server_cpu = samples_cpu_s(sock->server_pid) - server_cpu;
    finish_writing(sock, epoll_fd);
    if (sock->error != NULL)
        return;
    printf("commands=%llu s=%.3f per_s=%.0f patches=%llu messages=%llu merged=%llu resets=%llu "
           "MB_per_s=%.1f a_read=%.1f cpu=%.0f server_cpu=%.0f",
           (unsigned long long)(after.answered - before.answered), seconds,
           (double)(after.answered - before.answered) / seconds,
           (unsigned long long)(after.patches - before.patches),
           (unsigned long long)(after.messages - before.messages),
           (unsigned long long)(after.merged - before.merged),
           (unsigned long long)(after.snapshots - before.snapshots),
           (double)(after.read_bytes - before.read_bytes) / seconds / 1e6,
           (double)(after.answered - before.answered) / (double)(after.reads - before.reads + 1),
           100 * cpu / seconds, 100 * server_cpu / seconds);
    samples_print(&sock->answer, "answer");
    putchar('\n');
}

static void make_command(struct sock *sock)
{
    static const char begin[] = "{\"ref\":000000000,\"type\":\"message.send\",\"thread\":\"work\","
                                "\"sender\":\"a1\",\"content\":\"";
    size_t n = sizeof(begin) - 1;

    sock->command = malloc(n + sock->bytes + 3);
    sock->out_room = SEND_BYTES + 2 * (FRAME_ROOM + sock->bytes) + MARGIN;
    sock->out = malloc(sock->out_room);
    sock->in = malloc(READ_BYTES);
    sock->began_ns = calloc(sock->window, sizeof(*sock->began_ns));
    if (sock->command == NULL || sock->out == NULL || sock->in == NULL || sock->began_ns == NULL) {
        fprintf(stderr, "socket: out of memory\n");
        exit(1);
    }
    memcpy(sock->command, begin, n);
    memset(sock->command + n, 'x', sock->bytes);
    memcpy(sock->command + n + sock->bytes, "\"}", 2);
    sock->command_n = n + sock->bytes + 2;
    sock->ref_at = sizeof("{\"ref\":") - 1;
}

static void usage(void)
{
    fprintf(stderr, "usage: socket --url http://ADDRESS:PORT [--path PATH] [--window 1…65536]\n"
                    "              [--bytes 0…60000] [--seconds S] [--warmup S] "
                    "[--server-pid PID]\n");
    exit(2);
}

static void parse_options(struct sock *sock, struct sockaddr_in *address, int argc, char **argv)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},        {"path", required_argument, NULL, 'p'},
        {"window", required_argument, NULL, 'w'},     {"bytes", required_argument, NULL, 'b'},
        {"seconds", required_argument, NULL, 's'},    {"warmup", required_argument, NULL, 'W'},
        {"server-pid", required_argument, NULL, 'c'}, {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'u')
            sock->url = optarg;
        else if (option == 'p')
            sock->path = optarg;
        else if (option == 'w')
            sock->window = strtoull(optarg, NULL, 10);
        else if (option == 'b')
            sock->bytes = strtoull(optarg, NULL, 10);
        else if (option == 's')
            sock->seconds = strtod(optarg, NULL);
        else if (option == 'W')
            sock->warmup = strtod(optarg, NULL);
        else if (option == 'c')
            sock->server_pid = strtoull(optarg, NULL, 10);
        else
            usage();
    }
    if (sock->url == NULL || !http_parse_url(sock->url, address) || optind != argc ||
        strlen(sock->path) > 500 || sock->window < 1 || sock->window > WINDOW_MAX ||
        sock->bytes > 60000 || sock->seconds <= 0 || sock->warmup < 0)
        usage();
}

int main(int argc, char **argv)
{
    struct sock sock = {.path = "/v1/sessions/w0/ws",
                        .window = 1024,
                        .bytes = 128,
                        .seconds = 5,
                        .warmup = 1,
                        .random = (uint64_t)getpid()};
    struct sockaddr_in address;
    struct epoll_event event = {.events = EPOLLIN};

    parse_options(&sock, &address, argc, argv);
    make_command(&sock);
    upgrade(&sock, &address);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (sock.error == NULL && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sock.fd, &event) != 0)
        sock.error = strerror(errno);
    if (sock.error == NULL)
        measure(&sock, epoll_fd);
    if (sock.error != NULL)
        fprintf(stderr, "socket: %s\n", sock.error);
    close(sock.fd);
    close(epoll_fd);
    free(sock.command);
    free(sock.out);
    free(sock.in);
    free(sock.began_ns);
    samples_free(&sock.answer);
    return sock.error != NULL;
}
