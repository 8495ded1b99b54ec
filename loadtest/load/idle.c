/*
 * idle: streams and connections on which nothing happens, and what they cost the server.
 *
 * Normal path: --streams event streams of --sessions sessions have begun, and --connections
 * keep-alive connections had one answer each; for --warmup and --seconds (with --hold: until SIGINT
 * or SIGTERM) nobody asks or writes, while the server's CPU time is measured; then one event is
 * written to each session, of which all streams have to be told, and each connection that is still
 * open asks again. Failure: a problem in the report: anything but heartbeats that is told
 * meanwhile, a stream that ends, somebody who is not told the event within 30 s. That the server
 * closes a connection which asks nothing for long (a minute, here) is counted, and no problem.
 *
 * Memory is the server's own, page tables included, and, apart from it, what the kernel's slabs
 * have grown by, of all processes and both ends of each connection: that is about right only where
 * there are many, as what earlier sockets leave behind is given back late.
 */
#include "deliveries.h"
#include "http.h"
#include "loop.h"
#include "meter.h"
#include "mode.h"
#include "options.h"
#include "prepare.h"
#include "verify.h"
#include "watchers.h"
#include "writers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { WRITERS = 16, NOTE_BYTES = 220, CONNECTING_AT_ONCE = 1024 };

static struct {
    uint64_t streams;
    bool hold;
} own = {.streams = 1000};

static const char own_help[] =
    "  --streams N        open event streams, of session i modulo --sessions (default 1000)\n"
    "  --connections N    keep-alive connections that have had one answer (default 0)\n"
    "  --hold             until SIGINT or SIGTERM, not for --seconds; says \"begun\" on standard\n"
    "                     error when all are there\n";

struct peer {
    struct loop_source source; /* first: the loop gives this pointer back */
    struct idle *idle;
    struct http http;
    bool asking, closed;
    uint64_t began_ns;
};

struct idle {
    const struct load_options *options;
    struct report *report;
    struct loop loop;
    struct meter meter;
    struct meter told_meter; /* on when the event is written */
    char path[WATCHERS_PATH_BYTES + 1], post[WATCHERS_PATH_BYTES + 1],
        request[512 + HTTP_HOST_BYTES];
    struct watchers watchers;
    struct writers writers;
    struct deliveries deliveries;
    struct verify verify;
    struct peer *peers;
    uint64_t asking, answered, unasked, closed;
    struct histogram again;
    bool writing;
};

/* ---- memory, in bytes */

struct memory {
    double server, kernel;
};

static double kernel_bytes(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    double sum = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        unsigned long long kib;
        if (sscanf(line, "Slab: %llu", &kib) == 1 || sscanf(line, "KernelStack: %llu", &kib) == 1)
            sum += (double)kib * 1024;
    }
    if (file != NULL)
        fclose(file);
    return sum;
}

static struct memory memory_now(const struct idle *idle)
{
    struct memory memory = {.kernel = kernel_bytes()};

    if (idle->options->pid != 0) {
        struct process_usage usage = process_usage(idle->options->pid);
        memory.server = (usage.rss_mb + usage.page_tables_mb) * 1e6;
    }
    return memory;
}

static void tell_memory(struct idle *idle, const char *name, const struct memory *before,
                        uint64_t n, const char *meaning)
{
    if (idle->options->pid != 0 && n != 0)
        report_figure(idle->report, name, (memory_now(idle).server - before->server) / (double)n,
                      meaning);
}

/* ---- connections */

static void ask(struct idle *idle, struct peer *peer)
{
    peer->asking = true;
    peer->began_ns = process_now_ns();
    idle->asking++;
    if (http_send(&peer->http, idle->request, strlen(idle->request)) == HTTP_FAILED)
        loop_fail(&idle->loop, "a connection: %s", peer->http.error);
}

static void on_answer(struct idle *idle, struct peer *peer)
{
    peer->asking = false;
    idle->asking--;
    idle->answered++;
    if (peer->http.status != 200)
        loop_fail(&idle->loop, "an answer is %d, not 200: %s", peer->http.status, peer->http.tail);
    if (idle->writing)
        histogram_add(&idle->again, process_now_ns() - peer->began_ns);
}

/* Nobody has asked: nothing but the end may come. */
static void look(struct idle *idle, struct peer *peer)
{
    char byte;
    ssize_t n = recv(peer->http.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    idle->unasked += n > 0;
    idle->closed++;
    peer->closed = true;
    http_close(&peer->http);
}

static void on_ready(struct loop_source *source, uint32_t events)
{
    struct peer *peer = (struct peer *)source;
    struct idle *idle = peer->idle;

    (void)events;
    if (peer->closed)
        return;
    if (!peer->asking) {
        look(idle, peer);
        return;
    }
    enum http_result result = http_go_on(&peer->http);
    if (result == HTTP_FAILED)
        loop_fail(&idle->loop, "a connection: %s", peer->http.error);
    else if (result == HTTP_DONE)
        on_answer(idle, peer);
}

static bool none_asks(const void *context)
{
    const struct idle *idle = context;
    return idle->asking == 0;
}

static void connect_peers(struct idle *idle)
{
    unsigned n = idle->options->connections;

    idle->peers = calloc(n != 0 ? n : 1, sizeof(*idle->peers));
    if (idle->peers == NULL)
        option_refuse("out of memory");
    for (unsigned i = 0; i < n; i++)
        idle->peers[i].http.fd = -1;
    for (unsigned i = 0; i < n && idle->loop.error == NULL; i++) {
        struct peer *peer = &idle->peers[i];
        *peer = (struct peer){.source.ready = on_ready, .idle = idle};
        if (!http_connect(&peer->http, &idle->options->address)) {
            loop_fail(&idle->loop, "connection %u cannot connect: %s", i, strerror(errno));
            return;
        }
        loop_add(&idle->loop, peer->http.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &peer->source);
        ask(idle, peer);
        if ((i + 1) % CONNECTING_AT_ONCE == 0 || i + 1 == n)
            loop_until(&idle->loop, none_asks, idle, "all connections had an answer");
        if (load_stopped)
            loop_fail(&idle->loop, "stopped by a signal while connecting");
    }
}

static void ask_again(struct idle *idle)
{
    for (unsigned i = 0; i < idle->options->connections && idle->loop.error == NULL; i++) {
        if (!idle->peers[i].closed)
            ask(idle, &idle->peers[i]);
    }
    loop_until(&idle->loop, none_asks, idle, "all open connections had another answer");
}

/* ---- the event at the end */

static void on_told(void *context, uint32_t session, uint64_t from, uint64_t seq, uint64_t now_ns)
{
    struct idle *idle = context;

    if (idle->writing)
        deliveries_told(&idle->deliveries, session, from, seq, now_ns);
    else
        meter_count(&idle->meter, seq - from + 1, 0);
}

static bool all_written(const void *context)
{
    const struct idle *idle = context;
    return idle->writers.answered == idle->writers.count;
}

static bool all_level(const void *context)
{
    const struct idle *idle = context;
    return watchers_level(&idle->watchers, idle->writers.heads);
}

static void write_events(struct idle *idle)
{
    uint64_t sessions = idle->watchers.sessions;

    writers_connect(&idle->writers);
    if (!deliveries_open(&idle->deliveries, &idle->loop, &idle->told_meter, sessions))
        option_refuse("out of memory");
    for (uint64_t i = 0; i < sessions && idle->loop.error == NULL; i++) {
        uint64_t seq = idle->watchers.readers[i].seq;
        idle->verify.base[i] = seq;
        writers_place(&idle->writers, i, seq);
        deliveries_begin(&idle->deliveries, i, seq, watchers_of(&idle->watchers, i));
    }
    idle->told_meter.on = idle->writing = true;
    idle->loop.before = writers_due;
    idle->loop.context = &idle->writers;
    writers_begin(&idle->writers);
    loop_until(&idle->loop, all_written, idle, "an event was written to each session");
    loop_until(&idle->loop, all_level, idle, "all streams were told the event");
    idle->told_meter.on = false;
}

/* ---- what is done */

/* `before`: when the streams had begun. */
static void rest(struct idle *idle, struct reader_counts before)
{
    if (own.hold)
        fprintf(stderr, "begun: %llu streams, %u connections\n",
                (unsigned long long)idle->watchers.n, idle->options->connections);
    meter_begin(&idle->meter, idle->options, idle->report, own.hold);
    while (idle->loop.error == NULL && !load_stopped && meter_turn(&idle->meter, process_now_ns()))
        loop_turn(&idle->loop, meter_due(&idle->meter));
    meter_end(&idle->meter, process_now_ns(), "events told meanwhile: there are none to tell");
    report_figure(idle->report, "heartbeats", (double)(idle->watchers.counts.reads - before.reads),
                  "reads that brought a comment, from the beginning on");
    report_figure(idle->report, "connections_closed", (double)idle->closed,
                  "that asked nothing for long, by the server");
    if (idle->watchers.counts.messages + idle->watchers.counts.resets !=
        before.messages + before.resets)
        report_problem(idle->report, "streams were told %llu patches while nobody wrote",
                       (unsigned long long)(idle->watchers.counts.messages - before.messages));
}

static void run_all(struct idle *idle)
{
    struct memory start = memory_now(idle), middle;
    uint64_t streams = idle->watchers.n, n = streams + idle->options->connections;

    watchers_connect(&idle->watchers);
    tell_memory(idle, "stream_bytes", &start, streams,
                "memory of the server for each stream, as they have begun");
    struct reader_counts begun = idle->watchers.counts;
    middle = memory_now(idle);
    if (idle->loop.error == NULL)
        connect_peers(idle);
    tell_memory(idle, "connection_bytes", &middle, idle->options->connections,
                "memory of the server for each connection, after one answer");
    if (idle->loop.error != NULL)
        return;
    rest(idle, begun);
    tell_memory(idle, "rested_bytes", &start, n,
                "memory of the server for each of both after the rest");
    report_figure(idle->report, "kernel_bytes", (kernel_bytes() - start.kernel) / (double)n,
                  "of the kernel's slabs for each of both, both ends of the connection");
    if (load_stopped && !own.hold)
        return;
    write_events(idle);
    ask_again(idle);
    report_latency(idle->report, "delivery", &idle->deliveries.commit,
                   "one event to each session: from its answer until a stream had it");
    report_latency(idle->report, "last", &idle->deliveries.last_commit,
                   "from its answer until the last stream of the session had it");
    if (idle->options->connections != 0)
        report_latency(idle->report, "again", &idle->again,
                       "the answers to the connections, which all asked at once");
    verify_read(&idle->verify);
}

static void check(struct idle *idle)
{
    const struct reader_counts *counts = &idle->watchers.counts;

    if (idle->loop.error != NULL)
        report_problem(idle->report, "%s", idle->loop.error);
    if (counts->gaps + counts->repeats + counts->ends != 0)
        report_problem(idle->report, "streams saw %llu gaps, %llu repetitions and %llu ends",
                       (unsigned long long)counts->gaps, (unsigned long long)counts->repeats,
                       (unsigned long long)counts->ends);
    if (idle->unasked != 0)
        report_problem(idle->report, "%llu connections were sent something that nobody asked for",
                       (unsigned long long)idle->unasked);
    report_checked(idle->report, "streams told the one event, and nothing else", counts->patches);
    report_checked(idle->report, "answers to connections, before and after the rest",
                   idle->answered);
}

/* ---- start */

static void defaults(struct load_options *options)
{
    options->sessions = 1;
    options->connections = 0;
}

static bool option(const char *name, const char *value)
{
    if (strcmp(name, "--streams") == 0)
        own.streams = option_integer(name, value, 1, WATCHERS_MAX);
    else if (strcmp(name, "--hold") == 0)
        own.hold = true;
    else
        return false;
    return true;
}

static void set_up(struct idle *idle)
{
    const struct load_options *options = idle->options;
    const char *prefix = options->prefix;

    snprintf(idle->path, sizeof(idle->path), "/v1/sessions/%s{}/stream", prefix);
    snprintf(idle->post, sizeof(idle->post), "/v1/sessions/%s{}/commands", prefix);
    snprintf(idle->request, sizeof(idle->request),
             "GET /v1/sessions/%s0/events?limit=1 HTTP/1.1\r\n%s\r\n", prefix, http_host);
    idle->watchers = (struct watchers){.loop = &idle->loop,
                                       .address = &options->address,
                                       .path = idle->path,
                                       .n = own.streams,
                                       .sessions = options->sessions,
                                       .from = -1,
                                       .told = on_told,
                                       .context = idle};
    idle->writers = (struct writers){
        .loop = &idle->loop,
        .meter = &idle->told_meter,
        .address = &options->address,
        .path = idle->post,
        .kind = WRITERS_NOTE,
        .n = options->sessions < WRITERS ? options->sessions : WRITERS,
        .sessions = options->sessions,
        .batch = 1,
        .bytes = NOTE_BYTES,
        .count = options->sessions,
        .deliveries = &idle->deliveries,
        .verify = &idle->verify,
    };
}

static int run(const struct load_options *options, struct report *report)
{
    static struct idle one; /* its histograms are looked at when it is over */
    struct idle *idle = &one;

    if (options->sessions > own.streams || options->sessions > LOAD_CONNECTIONS_MAX)
        option_refuse("--sessions is %u, and has to be no more than --streams, which is %llu, and "
                      "than %d",
                      options->sessions, (unsigned long long)own.streams, LOAD_CONNECTIONS_MAX);
    report_option(report, "streams", "%llu", (unsigned long long)own.streams);
    report_option(report, "hold", "%s", own.hold ? "yes" : "no");
    idle->options = options;
    idle->report = report;
    set_up(idle);
    writers_verify(&idle->writers, options, report);
    if (!prepare_sessions(options, report, idle->verify.base))
        return report_has_problem(report) ? 0 : 2;
    if (!loop_open(&idle->loop)) {
        fprintf(stderr, "atoll-load: no epoll set: %s\n", strerror(errno));
        return 2;
    }
    run_all(idle);
    check(idle);
    watchers_close(&idle->watchers);
    writers_close(&idle->writers);
    deliveries_close(&idle->deliveries);
    verify_close(&idle->verify);
    for (unsigned i = 0; idle->peers != NULL && i < options->connections; i++)
        http_close(&idle->peers[i].http);
    free(idle->peers);
    loop_close(&idle->loop);
    return 0;
}

const struct mode mode_idle = {
    .name = "idle",
    .summary = "streams and connections on which nothing happens: memory, CPU, and still there",
    .help = own_help,
    .flags = " --hold ",
    .defaults = defaults,
    .option = option,
    .run = run,
};
