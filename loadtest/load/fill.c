/*
 * fill: makes sessions with a history, as fast as the server takes them.
 *
 * Sessions are P0, P1, … (--prefix P). Each gets exactly --events events: its creation with the
 * labels fill=P and part=p0 … p99 in turn, agents a1, a2, …, the thread "work" of all of them, and
 * from then on messages by a1, each a command of --bytes bytes. They are sent as atomic batches of
 * --batch commands over --connections connections; each connection gives a batch to all of its
 * sessions before the next one to the first of them, so in the log they all stand mixed.
 *
 * Every answer is checked: 200, and the seq that the session has to have by then. The first wrong
 * answer is a problem that names the session, and the end.
 */
#include "http.h"
#include "meter.h"
#include "mode.h"
#include "options.h"
#include "process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { COMMAND_MAX = 100000, BATCH_MAX = 10000, AGENTS_MAX = 1000 };
enum { HEAD_ROOM = 256 + HTTP_HOST_BYTES, EVENTS_AT_ONCE = 64 };

/* One connection, and the sessions first, first + connections, … that it fills. */
struct lane {
    struct http http;               /* first: epoll gives this pointer back */
    uint64_t first, session, event; /* event: how many the sessions before `session` have */
    uint64_t expected;              /* seq after the batch under way */
    uint64_t began_ns;
    char *request;
    bool finished;
};

struct fill {
    const struct load_options *options;
    struct report *report;
    uint64_t lanes;
    uint64_t done; /* events that are acknowledged */
    struct meter meter;
    struct histogram answer;
    char *messages; /* a batch of them, each with a comma before it */
    size_t message_size;
    size_t request_room;
};

static uint64_t events = 1000, bytes = 130, agents = 1;

static void *must_alloc(size_t size)
{
    void *p = calloc(1, size);
    if (p == NULL)
        option_refuse("out of memory");
    return p;
}

static void make_messages(struct fill *fill)
{
    static const char begin[] = ",{\"type\":\"message.send\",\"thread\":\"work\",\"sender\":\"a1\","
                                "\"content\":\"";
    size_t least = sizeof(begin) - 1 + 2;

    fill->message_size = 1 + bytes > least + 1 ? 1 + bytes : least + 1;
    fill->messages = must_alloc(fill->message_size * fill->options->batch);
    for (unsigned i = 0; i < fill->options->batch; i++) {
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
                               fill->options->prefix, (unsigned)(session % 100));
    if (n <= agents)
        return (size_t)sprintf(out, ",{\"type\":\"agent.register\",\"agent\":\"a%u\"}",
                               (unsigned)n);
    size = (size_t)sprintf(out, ",{\"type\":\"thread.create\",\"thread\":\"work\","
                                "\"creator\":\"a1\",\"name\":\"work\",\"participants\":[");
    for (uint64_t i = 2; i <= agents; i++)
        size += (size_t)sprintf(out + size, "%s\"a%u\"", i == 2 ? "" : ",", (unsigned)i);
    return size + (size_t)sprintf(out + size, "]}");
}

/* The next batch of the lane's session goes out. */
static enum http_result send_batch(const struct fill *fill, struct lane *lane)
{
    unsigned batch = fill->options->batch;
    uint64_t end = lane->event + batch < events ? lane->event + batch : events;
    char *body = lane->request + HEAD_ROOM, head[HEAD_ROOM];
    size_t size = 0;
    uint64_t n = lane->event;

    for (; n < end && n < agents + 2; n++)
        size += put_setup(fill, lane->session, n, body + size);
    memcpy(body + size, fill->messages, (end - n) * fill->message_size);
    size += (end - n) * fill->message_size;
    body[0] = '['; /* in the place of the first comma */
    body[size++] = ']';
    int head_size =
        snprintf(head, sizeof(head),
                 "POST /v1/sessions/%s%llu/commands?atomic=true HTTP/1.1\r\n"
                 "%sContent-Type: application/json\r\n"
                 "Content-Length: %zu\r\n\r\n",
                 fill->options->prefix, (unsigned long long)lane->session, http_host, size);
    memcpy(body - head_size, head, (size_t)head_size);
    lane->expected = end;
    lane->began_ns = process_now_ns();
    return http_send(&lane->http, body - head_size, (size_t)head_size + size);
}

/* Returns false, for the caller to do so, too. */
static bool refuse(const struct fill *fill, const struct lane *lane)
{
    if (lane->http.error != NULL)
        report_problem(fill->report, "session %s%llu: %s", fill->options->prefix,
                       (unsigned long long)lane->session, lane->http.error);
    else
        report_problem(fill->report, "session %s%llu, which should have seq %llu: %d …%s",
                       fill->options->prefix, (unsigned long long)lane->session,
                       (unsigned long long)lane->expected, lane->http.status, lane->http.tail);
    return false;
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
    lane->session += fill->lanes;
    if (lane->session < fill->options->sessions)
        return;
    lane->session = lane->first;
    lane->event = lane->expected;
    lane->finished = lane->event == events;
}

static bool lane_start(const struct fill *fill, struct lane *lane, uint64_t number)
{
    lane->first = lane->session = number;
    lane->request = must_alloc(fill->request_room);
    return send_batch(fill, lane) != HTTP_FAILED || refuse(fill, lane);
}

static bool lane_go_on(struct fill *fill, struct lane *lane)
{
    enum http_result result = http_go_on(&lane->http);

    if (result == HTTP_MORE)
        return true;
    if (result == HTTP_FAILED || !is_as_expected(lane))
        return refuse(fill, lane);
    uint64_t took_ns = process_now_ns() - lane->began_ns;
    histogram_add(&fill->answer, took_ns);
    meter_count(&fill->meter, lane->expected - lane->event, took_ns);
    fill->done += lane->expected - lane->event;
    step(fill, lane);
    return lane->finished || send_batch(fill, lane) != HTTP_FAILED || refuse(fill, lane);
}

static void go(struct fill *fill, struct lane *lanes, int epoll_fd)
{
    struct epoll_event ready[EVENTS_AT_ONCE];
    uint64_t all = fill->options->sessions * events;
    bool good = true;

    meter_begin(&fill->meter, fill->options, fill->report, true);
    meter_turn(&fill->meter, process_now_ns());
    for (uint64_t i = 0; i < fill->lanes && good; i++)
        good = lane_start(fill, &lanes[i], i);
    while (good && fill->done < all && !load_stopped) {
        int n = epoll_wait(epoll_fd, ready, EVENTS_AT_ONCE, 1000);
        for (int i = 0; i < n && good; i++) {
            struct lane *lane = ready[i].data.ptr;
            if (!lane->finished && lane->request != NULL)
                good = lane_go_on(fill, lane);
        }
        meter_turn(&fill->meter, process_now_ns());
    }
    if (good && load_stopped)
        report_problem(fill->report, "stopped before all was there");
}

static bool connect_all(const struct fill *fill, struct lane *lanes, int epoll_fd)
{
    for (uint64_t i = 0; i < fill->lanes; i++) {
        if (!http_connect(&lanes[i].http, &fill->options->address) ||
            !http_watch(&lanes[i].http, epoll_fd)) {
            fprintf(stderr, "atoll-load: %s: %s\n", fill->options->url, strerror(errno));
            return false;
        }
    }
    return true;
}

static void tell(struct fill *fill)
{
    meter_end(&fill->meter, process_now_ns(), "events made");
    report_latency(fill->report, "answer", &fill->answer, "from sending a batch to its answer");
    report_checked(fill->report, "batches answered by 200 and the seq that had to be",
                   fill->answer.n);
    report_option(fill->report, "events", "%llu", (unsigned long long)events);
    report_option(fill->report, "bytes", "%llu", (unsigned long long)bytes);
    report_option(fill->report, "agents", "%llu", (unsigned long long)agents);
}

static struct fill fill;

static int run(const struct load_options *options, struct report *report)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), result = 2;

    if (options->batch > BATCH_MAX)
        option_refuse("--batch is %u, and has to be at most %d for fill", options->batch,
                      BATCH_MAX);
    fill = (struct fill){.options = options, .report = report};
    fill.lanes =
        options->connections < options->sessions ? options->connections : options->sessions;
    make_messages(&fill);
    fill.request_room = HEAD_ROOM + options->batch * fill.message_size + 16 +
                        (agents + 2) * (128 + sizeof("\"a1000\",")) + 2 * LOAD_PREFIX_BYTES;
    struct lane *lanes = must_alloc(fill.lanes * sizeof(*lanes));
    if (connect_all(&fill, lanes, epoll_fd)) {
        go(&fill, lanes, epoll_fd);
        tell(&fill);
        result = 0;
    }
    for (uint64_t i = 0; i < fill.lanes; i++) {
        http_close(&lanes[i].http);
        free(lanes[i].request);
    }
    free(lanes);
    free(fill.messages);
    close(epoll_fd);
    return result;
}

/* ---- options */

static void defaults(struct load_options *options)
{
    options->prefix = "fill";
    options->sessions = 1;
    options->batch = 100;
}

static bool own_option(const char *name, const char *value)
{
    if (strcmp(name, "--events") == 0)
        events = option_integer(name, value, 1, UINT32_MAX);
    else if (strcmp(name, "--bytes") == 0)
        bytes = option_integer(name, value, 1, COMMAND_MAX);
    else if (strcmp(name, "--agents") == 0)
        agents = option_integer(name, value, 1, AGENTS_MAX);
    else
        return false;
    return true;
}

const struct mode mode_fill = {
    .name = "fill",
    .summary = "makes sessions with a history, as fast as the server takes them",
    .help = "  --events N         of each session, its making included (default 1000)\n"
            "  --bytes N          of each message's command (default 130)\n"
            "  --agents N         of each session, all in its thread (default 1)\n",
    .defaults = defaults,
    .option = own_option,
    .run = run,
};
