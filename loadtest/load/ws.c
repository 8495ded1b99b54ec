/*
 * ws: commands pipelined over WebSocket connections, every answer checked.
 *
 * Normal path: connection i upgrades PATH (default: …/ws of session i modulo --sessions),
 * subprotocol atoll.v1, and sends
 *   {"ref":R,"type":"message.send","thread":"work","sender":"a1","content":"…"}
 * each in a masked frame with a key of its own, as long as no more than --window are unanswered,
 * or, with --rate, at times planned ahead. The content begins with a marker (verify.h). Answers
 * have to come in order, with status 200 and seqs that grow, by one where a connection has its
 * session for itself. What the server tells of the session besides (snapshot, patches) is counted
 * and has to follow without a gap; pings are answered. At the end it waits for what is under way,
 * closes with 1000, waits for the server's close, and reads back what was sent. Failure: a problem
 * in the report.
 *
 * Latencies count from the moment at which a command was made, or planned, until its answer was
 * read; time is read once for what one read brings and for what one send takes.
 */
#include "ask.h"
#include "loop.h"
#include "meter.h"
#include "mode.h"
#include "options.h"
#include "prepare.h"
#include "verify.h"
#include "watchers.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_BYTES = 1024 * 1024, /* also the longest frame that is taken */
    WS_CONNECTIONS_MAX = 1024,
    WINDOW_MAX = 65536,
    PAYLOAD_MAX = 60000, /* a frame's length has 16 bits */
    HEAD_BYTES_MAX = 4096,
    FRAME_ROOM = 512,      /* of a command's frame besides its content; of a pong */
    SEND_BYTES = 1 << 16,  /* begun commands are sent when they are as many bytes */
    MARGIN = 8,            /* masking goes in steps of eight bytes */
    CONTROL_MAX = 125,     /* the longest text of a ping */
    REF_FIRST = 100000000, /* refs of as many digits for as long as this runs */
    REF_DIGITS = 9,
};

enum opcode { OP_TEXT = 1, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

static struct {
    const char *path;
    uint64_t window;
} own = {.window = 1024};

static const char own_help[] =
    "  --window N         commands that may be unanswered on a connection (default 1024)\n"
    "  --path PATH        to upgrade, {} being the number of the session, for instance with\n"
    "                     ?path=/labels, so that nothing but answers is told\n";

struct counts {
    uint64_t patches, messages, merged, snapshots, reads, bytes;
};

struct all;

struct sock {
    struct loop_source source; /* first: the loop gives this pointer back */
    struct all *all;
    int fd;
    unsigned number;
    bool alone; /* nobody else writes to its session */
    bool closed;
    /* Out: bytes [out_sent, out_n) are to be sent. */
    char *out;
    size_t out_n, out_sent;
    /* In: bytes [0, in_n) are there. */
    char *in;
    size_t in_n;
    uint64_t *began_ns;           /* by the command's number modulo the window */
    uint64_t sent, answered, seq; /* seq: of the last answer */
    bool placed;
    uint64_t told; /* the newest event that was told */
};

struct all {
    const struct load_options *options;
    struct report *report;
    struct loop loop;
    struct meter meter;
    struct verify verify;
    struct sock *socks;
    char path[WATCHERS_PATH_BYTES + 1];
    bool writing, narrowed;
    /* The object, with zeros for the ref and a place for the marker. */
    char *command;
    size_t command_n, ref_at, marker_at;
    uint64_t random, due_ns, next, gaps;
    uint64_t stop_ns; /* what is planned for later is not sent */
    struct counts counts;
    struct histogram answer;
};

/* ---- frames out */

/* splitmix64 */
static uint64_t draw(struct all *all)
{
    uint64_t z = all->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The `n` bytes at `p` become masked; up to MARGIN bytes behind them are overwritten. */
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

/* The head of a masked final frame of `n` bytes, 65535 at most, behind what is to be sent; returns
 * where its text goes. */
static char *begin_frame(struct sock *sock, enum opcode opcode, size_t n, uint32_t key)
{
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
    return p + sizeof(key);
}

static void end_frame(struct sock *sock, char *text, size_t n, uint32_t key)
{
    mask(text, n, key);
    sock->out_n = (size_t)(text + n - sock->out);
}

static void add_command(struct sock *sock, uint64_t began_ns)
{
    struct all *all = sock->all;
    uint32_t key = (uint32_t)draw(all);
    char *p = begin_frame(sock, OP_TEXT, all->command_n, key);
    uint64_t ref = REF_FIRST + sock->sent;

    memcpy(p, all->command, all->command_n);
    for (unsigned i = REF_DIGITS; i-- != 0; ref /= 10)
        p[all->ref_at + i] = (char)('0' + ref % 10);
    marker_put(p + all->marker_at, &all->verify, sock->number, sock->sent);
    end_frame(sock, p, all->command_n, key);
    sock->began_ns[sock->sent++ % own.window] = began_ns;
}

static void add_control(struct sock *sock, enum opcode opcode, const char *text, size_t n)
{
    uint32_t key = (uint32_t)draw(sock->all);

    if (sock->out_n > SEND_BYTES + sock->all->command_n + FRAME_ROOM / 2) {
        loop_fail(&sock->all->loop, "connection %u: the server pings and reads nothing",
                  sock->number);
        return;
    }
    char *p = begin_frame(sock, opcode, n, key);
    memcpy(p, text, n);
    end_frame(sock, p, n, key);
}

static void send_out(struct sock *sock)
{
    while (sock->out_sent < sock->out_n) {
        ssize_t n =
            send(sock->fd, sock->out + sock->out_sent, sock->out_n - sock->out_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0 && errno != EINTR) {
            loop_fail(&sock->all->loop, "connection %u: %s", sock->number, strerror(errno));
            return;
        }
        sock->out_sent += n > 0 ? (size_t)n : 0;
    }
    sock->out_n = sock->out_sent = 0;
}

static bool has_room(const struct sock *sock)
{
    return sock->sent - sock->answered < own.window && sock->out_n < SEND_BYTES;
}

/* New commands, as many as the window lets, and out with them. */
static void write_some(struct sock *sock)
{
    struct all *all = sock->all;

    send_out(sock);
    while (all->loop.error == NULL && all->writing && sock->out_n == 0 && has_room(sock)) {
        uint64_t now_ns = process_now_ns();
        while (has_room(sock))
            add_command(sock, now_ns);
        send_out(sock);
    }
}

/* The next connection that can take another; NULL: none can. */
static struct sock *next_with_room(struct all *all)
{
    for (unsigned i = 0; i < all->options->connections; i++) {
        struct sock *sock = &all->socks[all->next++ % all->options->connections];
        if (has_room(sock))
            return sock;
    }
    return NULL;
}

/* Before each wait: what is planned for now. */
static uint64_t write_planned(void *context, uint64_t now_ns)
{
    struct all *all = context;
    uint64_t apart_ns = (uint64_t)(1e9 / all->options->rate);
    bool added = false;

    while (all->writing && all->due_ns <= now_ns && all->due_ns < all->stop_ns) {
        struct sock *sock = next_with_room(all);
        if (sock == NULL)
            break;
        add_command(sock, all->due_ns);
        all->due_ns += apart_ns;
        added = true;
    }
    for (unsigned i = 0; added && i < all->options->connections; i++)
        send_out(&all->socks[i]);
    bool waits = all->writing && all->due_ns < all->stop_ns;
    return waits && all->due_ns > now_ns ? all->due_ns : UINT64_MAX;
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
    loop_fail(&sock->all->loop, "connection %u: %s: %.*s", sock->number, what,
              n < 400 ? (int)n : 400, text);
}

/* From behind {"ref": */
static void on_answer(struct sock *sock, const char *text, size_t n, const char *p, uint64_t now_ns)
{
    struct all *all = sock->all;
    const char *end = text + n;
    uint64_t ref = take_number(&p, end);

    if (ref != REF_FIRST + sock->answered || !take_text(&p, end, ",\"status\":200,\"seq\":")) {
        refuse(sock, "an answer that is not the next one, or not good", text, n);
        return;
    }
    uint64_t seq = take_number(&p, end);
    if (sock->answered != 0 && (sock->alone ? seq != sock->seq + 1 : seq <= sock->seq))
        refuse(sock, "an answer's seq does not follow the last", text, n);
    uint64_t took_ns = now_ns - sock->began_ns[sock->answered % own.window];
    meter_count(&all->meter, 1, took_ns);
    if (meter_takes(&all->meter, now_ns - took_ns))
        histogram_add(&all->answer, took_ns);
    sock->seq = seq;
    sock->answered++;
}

/* {"event":"snapshot","id":"…","epoch":"…","seq":N… or
 * {"event":"patch","id":"…","seq":N[,"from":N]… */
static void on_event(struct sock *sock, const char *text, size_t n)
{
    static const char seq_key[] = ",\"seq\":";
    struct counts *counts = &sock->all->counts;
    const char *p = text, *end = text + n;
    bool patch = take_text(&p, end, "{\"event\":\"patch\"");

    if (!patch && !take_text(&p, end, "{\"event\":\"snapshot\"")) {
        refuse(sock, "an event that is not expected", text, n);
        return;
    }
    p = memmem(p, (size_t)(end - p), seq_key, sizeof(seq_key) - 1);
    if (p == NULL) {
        refuse(sock, "an event without seq", text, n);
        return;
    }
    p += sizeof(seq_key) - 1;
    uint64_t seq = take_number(&p, end), from = seq;
    if (patch && take_text(&p, end, ",\"from\":"))
        from = take_number(&p, end);
    sock->all->gaps += patch ? !sock->placed || from != sock->told + 1 : seq < sock->told;
    counts->messages += patch;
    counts->merged += patch && from != seq;
    counts->patches += patch ? seq - from + 1 : 0;
    counts->snapshots += !patch && sock->placed;
    sock->placed = true;
    sock->told = seq;
}

static void on_frame(struct sock *sock, enum opcode opcode, const char *text, size_t n,
                     uint64_t now_ns)
{
    const char *p = text;

    if (opcode == OP_TEXT && take_text(&p, text + n, "{\"ref\":"))
        on_answer(sock, text, n, p, now_ns);
    else if (opcode == OP_TEXT)
        on_event(sock, text, n);
    else if (opcode == OP_PING && n <= CONTROL_MAX)
        add_control(sock, OP_PONG, text, n);
    else if (opcode == OP_CLOSE && !sock->all->writing && n >= 2 &&
             (unsigned char)text[0] * 256 + (unsigned char)text[1] == 1000)
        sock->closed = true;
    else
        refuse(sock, "a frame that is not expected", n > 2 ? text + 2 : text, n > 2 ? n - 2 : 0);
}

/* Takes one frame of the `n` bytes; returns its size, 0: it is not there as a whole. */
static size_t take_frame(struct sock *sock, const char *bytes, size_t n, uint64_t now_ns)
{
    struct loop *loop = &sock->all->loop;
    const unsigned char *p = (const unsigned char *)bytes;
    size_t head = 2, size;

    if (n < 2)
        return 0;
    if ((p[0] & 0xf0) != 0x80 || (p[1] & 0x80) != 0) {
        loop_fail(loop, "connection %u: a frame is in parts, compressed or masked", sock->number);
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
        loop_fail(loop, "connection %u: a frame is longer than %d bytes", sock->number, READ_BYTES);
    if (loop->error != NULL || n < head + size)
        return 0;
    on_frame(sock, p[0] & 0x0f, bytes + head, size, now_ns);
    return head + size;
}

/* False: there is no more for now. */
static bool read_some(struct sock *sock)
{
    struct all *all = sock->all;
    ssize_t n = recv(sock->fd, sock->in + sock->in_n, READ_BYTES - sock->in_n, 0);
    size_t at = 0, took;

    if (n < 0 && errno == EINTR)
        return true;
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        if (!sock->closed)
            loop_fail(&all->loop, "connection %u: %s", sock->number,
                      n < 0 ? strerror(errno) : "the server has closed it");
        return false;
    }
    uint64_t now_ns = process_now_ns();
    all->counts.reads++;
    all->counts.bytes += (uint64_t)n;
    sock->in_n += (size_t)n;
    while (all->loop.error == NULL &&
           (took = take_frame(sock, sock->in + at, sock->in_n - at, now_ns)) != 0)
        at += took;
    memmove(sock->in, sock->in + at, sock->in_n - at);
    sock->in_n -= at;
    return all->loop.error == NULL;
}

static void on_ready(struct loop_source *source, uint32_t events)
{
    struct sock *sock = (struct sock *)source;

    (void)events;
    do {
        if (sock->all->options->rate > 0)
            send_out(sock);
        else
            write_some(sock);
    } while (sock->all->loop.error == NULL && read_some(sock));
}

/* ---- start */

static void upgrade(struct sock *sock, const char *path)
{
    struct loop *loop = &sock->all->loop;
    const struct sockaddr_in *address = &sock->all->options->address;
    char request[1024 + HTTP_HOST_BYTES], head[HEAD_BYTES_MAX + 1];
    size_t n = 0;
    int one = 1;

    sock->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int size = snprintf(request, sizeof(request),
                        "GET %s HTTP/1.1\r\n%sConnection: Upgrade\r\n"
                        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                        "Sec-WebSocket-Protocol: atoll.v1\r\n\r\n",
                        path, http_host);
    if (sock->fd < 0 ||
        connect(sock->fd, (const struct sockaddr *)address, sizeof(*address)) != 0 ||
        setsockopt(sock->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        send(sock->fd, request, (size_t)size, MSG_NOSIGNAL) != size) {
        loop_fail(loop, "connection %u: %s", sock->number, strerror(errno));
        return;
    }
    /* One byte after the other: what follows the head is frames. */
    while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
        if (n == HEAD_BYTES_MAX || recv(sock->fd, head + n, 1, 0) != 1) {
            loop_fail(loop, "connection %u: the answer to the upgrade has no end", sock->number);
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
        loop_fail(loop, "connection %u: %s", sock->number, strerror(errno));
}

static void *must_alloc(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (p == NULL)
        option_refuse("out of memory");
    return p;
}

static void open_all(struct all *all)
{
    const struct load_options *options = all->options;
    char path[WATCHERS_PATH_BYTES + 32];

    all->socks = must_alloc(options->connections, sizeof(*all->socks));
    for (unsigned i = 0; i < options->connections && all->loop.error == NULL; i++) {
        struct sock *sock = &all->socks[i];
        *sock = (struct sock){
            .source.ready = on_ready,
            .all = all,
            .number = i,
            .alone = options->connections == options->sessions,
            .out = must_alloc(SEND_BYTES + all->command_n + FRAME_ROOM + MARGIN, 1),
            .in = must_alloc(READ_BYTES, 1),
            .began_ns = must_alloc(own.window, sizeof(*sock->began_ns)),
        };
        watchers_put_path(path, sizeof(path), all->path, i % options->sessions);
        upgrade(sock, path);
        if (all->loop.error == NULL)
            loop_add(&all->loop, sock->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &sock->source);
    }
}

static void make_command(struct all *all)
{
    static const char begin[] = "{\"ref\":000000000,\"type\":\"message.send\",\"thread\":\"work\","
                                "\"sender\":\"a1\",\"content\":\"";
    size_t n = sizeof(begin) - 1, content = all->options->payload_bytes;

    all->command_n = n + content + 2;
    all->command = must_alloc(all->command_n + 1, 1);
    memcpy(all->command, begin, n);
    memset(all->command + n, 'x', content);
    memcpy(all->command + n + content, "\"}", 2);
    all->ref_at = sizeof("{\"ref\":") - 1;
    all->marker_at = n;
    all->verify.behind = all->command + n + MARKER_BYTES;
    all->verify.behind_n = content - MARKER_BYTES + 1; /* with the quote */
}

/* ---- the end */

static bool all_answered(const void *context)
{
    const struct all *all = context;
    for (unsigned i = 0; i < all->options->connections; i++) {
        if (all->socks[i].answered != all->socks[i].sent)
            return false;
    }
    return !all->writing || all->due_ns >= all->stop_ns;
}

/* Of the whole session, each connection is told all events. */
static bool all_told(const void *context)
{
    const struct all *all = context;
    for (unsigned i = 0; !all->narrowed && i < all->options->connections; i++) {
        if (all->socks[i].told < all->socks[i].seq)
            return false;
    }
    return true;
}

static bool all_closed(const void *context)
{
    const struct all *all = context;
    for (unsigned i = 0; i < all->options->connections; i++) {
        if (!all->socks[i].closed)
            return false;
    }
    return true;
}

static void finish(struct all *all)
{
    /* What was planned before is still sent, late as it may be. */
    all->stop_ns = process_now_ns();
    all->writing = all->options->rate > 0;
    loop_until(&all->loop, all_answered, all, "the last commands were answered");
    all->writing = false;
    loop_until(&all->loop, all_told, all, "all was told");
    for (unsigned i = 0; i < all->options->connections && all->loop.error == NULL; i++) {
        add_control(&all->socks[i], OP_CLOSE, "\x03\xe8", 2);
        send_out(&all->socks[i]);
    }
    loop_until(&all->loop, all_closed, all, "the server had closed all connections");
}

static void check(struct all *all)
{
    uint64_t answered = 0;

    if (all->loop.error != NULL)
        report_problem(all->report, "%s", all->loop.error);
    if (all->gaps != 0)
        report_problem(all->report, "%llu patches did not follow what was told before",
                       (unsigned long long)all->gaps);
    for (unsigned i = 0; i < all->options->connections; i++) {
        all->verify.writers[i].sent = all->socks[i].sent;
        all->verify.writers[i].acknowledged = all->socks[i].answered;
        answered += all->socks[i].answered;
    }
    report_checked(all->report, "answers in order, with seqs that follow", answered);
    report_checked(all->report, "events told without a gap", all->counts.patches);
    verify_read(&all->verify);
}

static void tell(struct all *all, const struct counts *from, uint64_t answers, double seconds)
{
    const struct counts *to = &all->counts;
    struct report *report = all->report;
    double reads = (double)(to->reads - from->reads);

    report_figure(report, "patches_per_s", (double)(to->patches - from->patches) / seconds,
                  "events told besides: a merged patch tells several");
    report_figure(report, "messages_per_s", (double)(to->messages - from->messages) / seconds,
                  "patches as they came");
    report_figure(report, "merged", (double)(to->merged - from->merged), "patches");
    report_figure(report, "resets", (double)(to->snapshots - from->snapshots),
                  "snapshots in between");
    report_figure(report, "mb_per_s", (double)(to->bytes - from->bytes) / seconds / 1e6, "read");
    report_figure(report, "a_read", reads > 0 ? (double)answers / reads : 0, "answers a read");
    report_latency(report, "answer", &all->answer,
                   "from making (or the planned time) until the answer was read");
}

static void measure(struct all *all)
{
    struct counts begin = {0};
    bool on = false;

    all->writing = true;
    all->stop_ns = UINT64_MAX;
    if (all->options->rate > 0) {
        all->due_ns = process_now_ns();
        all->loop.before = write_planned;
        all->loop.context = all;
    }
    meter_begin(&all->meter, all->options, all->report, false);
    for (unsigned i = 0; all->options->rate == 0 && i < all->options->connections; i++)
        write_some(&all->socks[i]);
    while (all->loop.error == NULL && !load_stopped && meter_turn(&all->meter, process_now_ns())) {
        if (!on && all->meter.on) {
            begin = all->counts;
            on = true;
        }
        loop_turn(&all->loop, meter_due(&all->meter));
    }
    uint64_t now_ns = process_now_ns();
    double seconds = (double)(now_ns - all->meter.begin_ns) / 1e9;
    meter_end(&all->meter, now_ns, "commands answered");
    tell(all, &begin, all->answer.n, seconds);
    finish(all);
}

static void close_all(struct all *all)
{
    for (unsigned i = 0; i < all->options->connections; i++) {
        if (all->socks[i].all != NULL && all->socks[i].fd >= 0)
            close(all->socks[i].fd);
        free(all->socks[i].out);
        free(all->socks[i].in);
        free(all->socks[i].began_ns);
    }
    free(all->socks);
    verify_close(&all->verify);
    free(all->command);
    loop_close(&all->loop);
}

static void refuse_options(const struct load_options *options)
{
    if (options->connections > WS_CONNECTIONS_MAX)
        option_refuse("--connections is %u, and has to be 1 to %d", options->connections,
                      WS_CONNECTIONS_MAX);
    if (options->sessions > options->connections)
        option_refuse("--sessions is %u, and has to be no more than --connections, which is %u",
                      options->sessions, options->connections);
    if (options->batch != 1)
        option_refuse("--batch is %u, and has to be 1: a frame holds one command", options->batch);
    if (options->payload_bytes < MARKER_BYTES || options->payload_bytes > PAYLOAD_MAX)
        option_refuse("--payload is %u, and has to be %d to %d: each content begins with a marker",
                      options->payload_bytes, MARKER_BYTES, PAYLOAD_MAX);
}

static int run(const struct load_options *options, struct report *report)
{
    static struct all one; /* its histogram is looked at when it is over */
    struct all *all = &one;

    refuse_options(options);
    all->options = options;
    all->report = report;
    all->random = options->seed;
    snprintf(all->path, sizeof(all->path), "/v1/sessions/%s{}/ws", options->prefix);
    if (own.path != NULL)
        snprintf(all->path, sizeof(all->path), "%s", own.path);
    all->narrowed = strchr(all->path, '?') != NULL;
    report_option(report, "path", "%s", all->path);
    report_option(report, "window", "%llu", (unsigned long long)own.window);
    verify_open(&all->verify, options, report, options->connections, options->sessions, 1);
    all->verify.fixed = true;
    if (!prepare_sessions(options, report, all->verify.base))
        return report_has_problem(report) ? 0 : 2;
    if (!loop_open(&all->loop)) {
        fprintf(stderr, "atoll-load: no epoll set: %s\n", strerror(errno));
        return 2;
    }
    make_command(all);
    open_all(all);
    if (all->loop.error == NULL)
        measure(all);
    check(all);
    close_all(all);
    return 0;
}

static void defaults(struct load_options *options)
{
    options->connections = 1;
    options->sessions = 1;
}

static bool option(const char *name, const char *value)
{
    if (strcmp(name, "--window") == 0) {
        own.window = option_integer(name, value, 1, WINDOW_MAX);
    } else if (strcmp(name, "--path") == 0) {
        if (strlen(value) > WATCHERS_PATH_BYTES || value[0] != '/')
            option_refuse("--path is \"%s\", and has to begin with / and be %d bytes long at most",
                          value, WATCHERS_PATH_BYTES);
        own.path = value;
    } else {
        return false;
    }
    return true;
}

const struct mode mode_ws = {
    .name = "ws",
    .summary = "commands pipelined over WebSocket connections",
    .help = own_help,
    .defaults = defaults,
    .option = option,
    .run = run,
};
