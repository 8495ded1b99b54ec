/*
 * crowd: clients that nobody wants, beside what another atoll-load measures meanwhile.
 *
 *   flood  each connection posts a command, again as soon as it has its answer, whatever that is: a
 *          client that minds no 429
 *   slow   each connection says the head of a request, a byte every --interval, and never its end:
 *          what keeps a server's connections busy at little cost ("Slowloris"). One that the server
 *          closes is opened again
 *
 * Normal path: all --connections are there (then it says "begun" on standard error), and go on
 * until SIGINT or SIGTERM, or for --seconds. What they were answered is told, and is no problem,
 * whatever it is. Failure: a problem where a connection cannot be made.
 */
#include "ask.h"
#include "http.h"
#include "loop.h"
#include "mode.h"
#include "options.h"
#include "process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { SECOND_NS = 1000000000 };

static struct {
    bool slow;
    double interval_s;
} own = {.interval_s = 1};

static const char own_help[] =
    "  --kind KIND        flood: posts as fast as there are answers; slow: heads that never end\n"
    "                     (default flood)\n"
    "  --interval S       of slow: between two bytes of one connection (default 1)\n";

static const char slow_begin[] = "GET /v1/sessions HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";

struct client {
    struct loop_source source; /* first: the loop gives this pointer back */
    struct crowd *crowd;
    struct http http;
};

struct crowd {
    const struct load_options *options;
    struct loop loop;
    struct client *clients;
    struct text post; /* the request of a flood */
    uint64_t opened, answers, good, limited, busy, other;
    uint64_t begin_ns, said; /* of slow: so many bytes in all, evenly over all connections */
};

static void open_client(struct client *client);

/* ---- flood */

static void post_again(struct client *client)
{
    const struct text *post = &client->crowd->post;

    if (http_send(&client->http, post->p, post->n) == HTTP_FAILED)
        open_client(client);
}

static void count(struct crowd *crowd, int status)
{
    crowd->answers++;
    if (status >= 200 && status < 300)
        crowd->good++;
    else if (status == 429)
        crowd->limited++;
    else if (status == 503)
        crowd->busy++;
    else
        crowd->other++;
}

static void flood_on(struct client *client)
{
    enum http_result result = http_go_on(&client->http);

    if (result == HTTP_DONE) {
        count(client->crowd, client->http.status);
        post_again(client);
    } else if (result == HTTP_FAILED) {
        open_client(client);
    }
}

/* ---- slow */

/* Whatever is said to it is passed over; an end has it come again. */
static void slow_on(struct client *client)
{
    char bytes[4096];
    ssize_t n;

    while ((n = recv(client->http.fd, bytes, sizeof(bytes), 0)) > 0)
        continue;
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        open_client(client);
}

/* The bytes that are due; returns when the next one is. */
static uint64_t say_more(void *context, uint64_t now_ns)
{
    struct crowd *crowd = context;
    double period_ns = own.interval_s * SECOND_NS / crowd->options->connections;
    uint64_t due = (uint64_t)((double)(now_ns - crowd->begin_ns) / period_ns);

    for (; crowd->said < due && crowd->loop.error == NULL; crowd->said++) {
        struct client *client = &crowd->clients[crowd->said % crowd->options->connections];
        if (send(client->http.fd, "x", 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
            open_client(client);
    }
    return crowd->begin_ns + (uint64_t)((double)(crowd->said + 1) * period_ns);
}

/* ---- from beginning to end */

static void on_ready(struct loop_source *source, uint32_t events)
{
    struct client *client = (struct client *)source;

    (void)events;
    if (own.slow)
        slow_on(client);
    else
        flood_on(client);
}

/* Again, where it was open before. */
static void open_client(struct client *client)
{
    struct crowd *crowd = client->crowd;
    struct loop *loop = &crowd->loop;

    http_close(&client->http);
    if (load_stopped || loop->error != NULL)
        return;
    if (!http_connect(&client->http, &crowd->options->address)) {
        loop_fail(loop, "a connection cannot be made: %s", strerror(errno));
        return;
    }
    crowd->opened++;
    loop_add(loop, client->http.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &client->source);
    if (!own.slow)
        post_again(client);
    else if (send(client->http.fd, slow_begin, sizeof(slow_begin) - 1, MSG_NOSIGNAL) < 0 &&
             errno != ECONNRESET && errno != EPIPE)
        loop_fail(loop, "a head cannot be said: %s", strerror(errno));
}

static void go_on(struct crowd *crowd)
{
    uint64_t end_ns;

    for (unsigned i = 0; i < crowd->options->connections; i++) {
        crowd->clients[i] =
            (struct client){.source.ready = on_ready, .crowd = crowd, .http.fd = -1};
        open_client(&crowd->clients[i]);
    }
    crowd->begin_ns = process_now_ns();
    end_ns = crowd->begin_ns + (uint64_t)(crowd->options->seconds * SECOND_NS);
    if (own.slow) {
        crowd->loop.before = say_more;
        crowd->loop.context = crowd;
    }
    fputs("begun\n", stderr);
    while (crowd->loop.error == NULL && !load_stopped && process_now_ns() < end_ns)
        loop_turn(&crowd->loop, end_ns);
}

static void tell(const struct crowd *crowd, struct report *report)
{
    double seconds = (double)(process_now_ns() - crowd->begin_ns) / SECOND_NS;

    report_figure(report, "seconds", seconds, "from when all were there");
    report_figure(report, "opened", (double)crowd->opened, "connections, the repeated ones too");
    if (!own.slow) {
        report_figure(report, "answers_per_s", (double)crowd->answers / seconds, "all of them");
        report_figure(report, "good", (double)crowd->good, "answers: 2xx");
        report_figure(report, "limited", (double)crowd->limited, "answers: 429");
        report_figure(report, "busy", (double)crowd->busy, "answers: 503");
        report_figure(report, "other", (double)crowd->other, "answers: of another kind");
    }
    if (crowd->loop.error != NULL)
        report_problem(report, "%s", crowd->loop.error);
}

static int run(const struct load_options *options, struct report *report)
{
    static const char body[] = "{\"type\":\"agent.register\",\"agent\":\"a1\"}";
    static struct crowd crowd;

    report_option(report, "kind", "%s", own.slow ? "slow" : "flood");
    crowd = (struct crowd){.options = options};
    crowd.clients = calloc(options->connections, sizeof(*crowd.clients));
    if (crowd.clients == NULL || !loop_open(&crowd.loop))
        option_refuse("%s", strerror(errno));
    ask_post(&crowd.post, body, sizeof(body) - 1, "/v1/sessions/%s0/commands", options->prefix);
    go_on(&crowd);
    tell(&crowd, report);
    for (unsigned i = 0; i < options->connections; i++)
        http_close(&crowd.clients[i].http);
    loop_close(&crowd.loop);
    free(crowd.clients);
    free(crowd.post.p);
    return 0;
}

static void defaults(struct load_options *options)
{
    options->seconds = 86400;
    options->connections = 64;
}

static bool own_option(const char *name, const char *value)
{
    if (strcmp(name, "--kind") == 0)
        own.slow = strcmp(option_word(name, value, "flood slow"), "slow") == 0;
    else if (strcmp(name, "--interval") == 0)
        own.interval_s = option_number(name, value, 0.001, 3600);
    else
        return false;
    return true;
}

const struct mode mode_crowd = {
    .name = "crowd",
    .summary = "clients that nobody wants, beside what another measures: a flood, or slow heads",
    .help = own_help,
    .defaults = defaults,
    .option = own_option,
    .run = run,
};
