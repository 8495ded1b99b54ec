/*
 * fill: makes sessions with a history, as fast as the server takes them.
 *
 *   fill --url http://ADDRESS:PORT [--prefix P] [--sessions N] [--events N] [--batch N]
 *        [--bytes N] [--agents N] [--connections N]
 *
 * Sessions are P0, P1, … Each gets exactly --events events: its creation with the labels
 * fill=P and part=p0 … p99 in turn, agents a1, a2, …, the thread "work" of all of them, and from
 * then on messages by a1, each a command of --bytes bytes. They are sent as atomic batches of
 * --batch commands over --connections connections; each connection gives a batch to all of its
 * sessions before the next one to the first of them, so in the log they all stand mixed.
 *
 * Every answer is checked: 200, and the seq that the session has to have by then. Prints one line,
 *   events=1000000 s=1.250 per_s=800000
 * or ends at the first wrong answer with status 1, naming the session.
 */
#include "http.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { PREFIX_MAX = 40, BYTES_MAX = 100000, HEAD_ROOM = 256, EVENTS_AT_ONCE = 64 };

/* One connection, and the sessions first, first + connections, … that it fills. */
struct lane {
    struct http http;               /* first: epoll gives this pointer back */
    uint64_t first, session, event; /* event: how many the sessions before `session` have */
    uint64_t expected;              /* seq after the batch under way */
    char *request;
    bool finished;
};

struct fill {
    const char *url, *prefix;
    uint64_t sessions, events, batch, bytes, agents, connections;
    uint64_t done; /* events that are acknowledged */
    uint64_t began_ns, told_ns;
    char *messages; /* `batch` of them, each with a comma before it */
    size_t message_size;
    size_t request_room;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *must_alloc(size_t size)
{
    void *p = malloc(size);
    if (p == NULL) {
        fprintf(stderr, "fill: out of memory\n");
        exit(1);
    }
    return p;
}

static void show_progress(struct fill *fill)
{
    uint64_t now = now_ns();

    if (now - fill->told_ns < 2000000000u)
        return;
    fill->told_ns = now;
    fprintf(stderr, "fill: %.1f of %.1f million events, %.0f/s\n", (double)fill->done / 1e6,
            (double)(fill->sessions * fill->events) / 1e6,
            (double)fill->done * 1e9 / (double)(now - fill->began_ns));
}

static void make_messages(struct fill *fill)
{
    static const char begin[] = ",{\"type\":\"message.send\",\"thread\":\"work\",\"sender\":\"a1\","
                                "\"content\":\"";
    size_t least = sizeof(begin) - 1 + 2;

    fill->message_size = 1 + fill->bytes > least + 1 ? 1 + fill->bytes : least + 1;
    fill->messages = must_alloc(fill->message_size * fill->batch);
    for (uint64_t i = 0; i < fill->batch; i++) {
        char *message = fill->messages + i * fill->message_size;
        memset(message, 'x', fill->message_size);
        memcpy(message, begin, sizeof(begin) - 1);
        memcpy(message + fill->message_size - 2, "\"}", 2);
    }
}

/* The command that makes event `n` (from 0) of a session, up to its first message. */
static size_t put_setup(const struct fill *fill, uint64_t session, uint64_t n, char *out)
{
    size_t size;

    if (n == 0)
        return (size_t)sprintf(out,
                               ",{\"type\":\"session.create\",\"labels\":{\"fill\":\"%s\","
                               "\"part\":\"p%u\"}}",
                               fill->prefix, (unsigned)(session % 100));
    if (n <= fill->agents)
        return (size_t)sprintf(out, ",{\"type\":\"agent.register\",\"agent\":\"a%u\"}",
                               (unsigned)n);
    size = (size_t)sprintf(out, ",{\"type\":\"thread.create\",\"thread\":\"work\","
                                "\"creator\":\"a1\",\"name\":\"work\",\"participants\":[");
    for (uint64_t i = 2; i <= fill->agents; i++)
        size += (size_t)sprintf(out + size, "%s\"a%u\"", i == 2 ? "" : ",", (unsigned)i);
    return size + (size_t)sprintf(out + size, "]}");
}

/* The next batch of the lane's session goes out. */
static enum http_result send_batch(const struct fill *fill, struct lane *lane)
{
    uint64_t end =
        lane->event + fill->batch < fill->events ? lane->event + fill->batch : fill->events;
    char *body = lane->request + HEAD_ROOM, head[HEAD_ROOM];
    size_t size = 0;
    uint64_t n = lane->event;

    for (; n < end && n < fill->agents + 2; n++)
        size += put_setup(fill, lane->session, n, body + size);
    memcpy(body + size, fill->messages, (end - n) * fill->message_size);
    size += (end - n) * fill->message_size;
    body[0] = '['; /* in the place of the first comma */
    body[size++] = ']';
    int head_size = snprintf(head, sizeof(head),
                             "POST /v1/sessions/%s%llu/commands?atomic=true HTTP/1.1\r\n"
                             "Host: localhost\r\nContent-Type: application/json\r\n"
                             "Content-Length: %zu\r\n\r\n",
                             fill->prefix, (unsigned long long)lane->session, size);
    memcpy(body - head_size, head, (size_t)head_size);
    lane->expected = end;
    return http_send(&lane->http, body - head_size, (size_t)head_size + size);
}

static int refuse(const struct fill *fill, const struct lane *lane)
{
    if (lane->http.error != NULL)
        fprintf(stderr, "fill: session %s%llu: %s\n", fill->prefix,
                (unsigned long long)lane->session, lane->http.error);
    else
        fprintf(stderr, "fill: session %s%llu, which should have seq %llu: %d …%s\n", fill->prefix,
                (unsigned long long)lane->session, (unsigned long long)lane->expected,
                lane->http.status, lane->http.tail);
    return 1;
}

static bool is_as_expected(const struct lane *lane)
{
    char end[64];
    int n = snprintf(end, sizeof(end), "],\"seq\":%llu}", (unsigned long long)lane->expected);
    const struct http *http = &lane->http;
    return http->status == 200 && http->tail_size >= (size_t)n &&
           memcmp(http->tail + http->tail_size - n, end, (size_t)n) == 0;
}

/* To the next session, or to the next batch of the first. */
static void step(const struct fill *fill, struct lane *lane)
{
    lane->session += fill->connections;
    if (lane->session < fill->sessions)
        return;
    lane->session = lane->first;
    lane->event = lane->expected;
    lane->finished = lane->event == fill->events;
}

static int lane_start(const struct fill *fill, struct lane *lane, uint64_t number, int epoll_fd)
{
    struct sockaddr_in address;

    if (!http_parse_url(fill->url, &address)) {
        fprintf(stderr, "fill: --url has to be http://ADDRESS:PORT\n");
        return 2;
    }
    if (!http_connect(&lane->http, &address) || !http_watch(&lane->http, epoll_fd)) {
        fprintf(stderr, "fill: %s: %s\n", fill->url, strerror(errno));
        return 1;
    }
    lane->first = lane->session = number;
    lane->request = must_alloc(fill->request_room);
    return send_batch(fill, lane) == HTTP_FAILED ? refuse(fill, lane) : 0;
}

static int lane_go_on(struct fill *fill, struct lane *lane)
{
    enum http_result result = http_go_on(&lane->http);

    if (result == HTTP_MORE)
        return 0;
    if (result == HTTP_FAILED || !is_as_expected(lane))
        return refuse(fill, lane);
    fill->done += lane->expected - lane->event;
    step(fill, lane);
    if (lane->finished)
        return 0;
    return send_batch(fill, lane) == HTTP_FAILED ? refuse(fill, lane) : 0;
}

static int run(struct fill *fill, struct lane *lanes, int epoll_fd)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int result = 0;

    fill->began_ns = fill->told_ns = now_ns();
    for (uint64_t i = 0; i < fill->connections && result == 0; i++)
        result = lane_start(fill, &lanes[i], i, epoll_fd);
    while (result == 0 && fill->done < fill->sessions * fill->events) {
        int n = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, 1000);
        for (int i = 0; i < n && result == 0; i++) {
            struct lane *lane = events[i].data.ptr;
            if (!lane->finished && lane->request != NULL)
                result = lane_go_on(fill, lane);
        }
        show_progress(fill);
    }
    return result;
}

static uint64_t number_of(const char *text, uint64_t max)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    if (*end != '\0' || number < 1 || number > max) {
        fprintf(stderr, "fill: \"%s\" is not a number from 1 to %llu\n", text,
                (unsigned long long)max);
        exit(2);
    }
    return number;
}

static void parse_options(struct fill *fill, int argc, char **argv)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},
        {"prefix", required_argument, NULL, 'p'},
        {"sessions", required_argument, NULL, 's'},
        {"events", required_argument, NULL, 'e'},
        {"batch", required_argument, NULL, 'b'},
        {"bytes", required_argument, NULL, 'y'},
        {"agents", required_argument, NULL, 'a'},
        {"connections", required_argument, NULL, 'c'},
        {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'u')
            fill->url = optarg;
        else if (option == 'p' && strlen(optarg) <= PREFIX_MAX)
            fill->prefix = optarg;
        else if (option == 's')
            fill->sessions = number_of(optarg, UINT32_MAX);
        else if (option == 'e')
            fill->events = number_of(optarg, UINT32_MAX);
        else if (option == 'b')
            fill->batch = number_of(optarg, 10000);
        else if (option == 'y')
            fill->bytes = number_of(optarg, BYTES_MAX);
        else if (option == 'a')
            fill->agents = number_of(optarg, 1000);
        else if (option == 'c')
            fill->connections = number_of(optarg, 4096);
        else
            exit(2);
    }
    if (optind == argc && fill->url != NULL)
        return;
    fprintf(stderr, "usage: fill --url http://ADDRESS:PORT [--prefix P] [--sessions N] "
                    "[--events N] [--batch N]\n            [--bytes N] [--agents N] "
                    "[--connections N]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    struct fill fill = {.prefix = "fill",
                        .sessions = 1,
                        .events = 1000,
                        .batch = 100,
                        .bytes = 130,
                        .agents = 1,
                        .connections = 64};
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

    parse_options(&fill, argc, argv);
    if (fill.connections > fill.sessions)
        fill.connections = fill.sessions;
    make_messages(&fill);
    fill.request_room = HEAD_ROOM + fill.batch * fill.message_size + 16 +
                        (fill.agents + 2) * (128 + sizeof("\"a1000\",")) + 2 * PREFIX_MAX;
    struct lane *lanes = calloc(fill.connections, sizeof(*lanes));
    if (lanes == NULL || epoll_fd < 0) {
        perror("fill");
        return 1;
    }
    int result = run(&fill, lanes, epoll_fd);
    double seconds = (double)(now_ns() - fill.began_ns) / 1e9;
    for (uint64_t i = 0; i < fill.connections; i++) {
        http_close(&lanes[i].http);
        free(lanes[i].request);
    }
    free(lanes);
    free(fill.messages);
    close(epoll_fd);
    if (result == 0)
        printf("events=%llu s=%.3f per_s=%.0f\n", (unsigned long long)fill.done, seconds,
               (double)fill.done / seconds);
    return result;
}
