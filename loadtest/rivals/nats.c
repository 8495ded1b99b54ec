/*
 * nats-load: messages published to NATS JetStream, as many at a time as told, each acknowledged.
 *
 *   nats-load --url nats://ADDRESS:PORT [--pid PID] [--seconds N] [--warmup S] [--connections N]
 *             [--outstanding N] [--streams N] [--payload BYTES] [--prefix P] [--json FILE]
 *
 * What `atoll-load post` does to Atoll, through the library that a user of NATS would take: a
 * stream for each session (--streams of them, file storage, one replica), the same body, and a
 * closed loop: an acknowledgement lets the next message go. --outstanding of them (default 256) are
 * under way over all --connections (default 1) together. The library is asynchronous, so that one
 * connection carries all of them: that is cheaper for the server than a connection for each.
 *
 * Normal path: makes the streams, publishes through warm-up and measured part, waits for what is
 * under way, and checks: the sequence numbers acknowledged for a stream are, together, each of
 * those that it has grown by, once; and of a sample of messages (the report says how many) that
 * they are there, under their number and unchanged. Failure: an error of a publish, or one
 * unanswered, is a problem of the report (status 1); where nothing could be measured at all, status
 * 2 and a sentence.
 *
 * Thread: main makes and checks; the library calls on_ack in one thread for each connection. A
 * lane's lock is held by whoever publishes on it, main for its first messages, on_ack for the rest.
 */
#include "process.h"
#include "report.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nats/nats.h>

enum {
    CONNECTIONS_MAX = 256,
    OUTSTANDING_MAX = 65536,
    STREAMS_MAX = 4096,
    PAYLOAD_MAX = 262144,
    MARKER_BYTES = 24, /* "<slot> <counter> ", at the beginning of a content */
    PREFIX_BYTES = 40,
    NAME_BYTES = PREFIX_BYTES + 16,
    SAMPLES_MAX = 512, /* of a connection, read back */
    DRAIN_S = 30,
};

struct options {
    const char *url, *json, *prefix;
    uint64_t pid;
    double seconds, warmup_s;
    unsigned connections, outstanding, streams, payload;
};

/* What was acknowledged for a stream. */
struct stream {
    uint64_t base; /* its last sequence number before */
    uint64_t acknowledged;
    uint64_t sum; /* of the numbers, mixed: two sets with the same sum are the same */
};

struct sample {
    unsigned stream;
    uint64_t sequence, slot, counter;
};

/* One message after another: the next goes when this one is acknowledged. */
struct slot {
    uint64_t sent_ns, counter;
};

struct lane {
    pthread_mutex_t lock;
    natsConnection *connection;
    jsCtx *js;
    struct run *run;
    unsigned first, slots_n; /* numbers of its slots */
    struct slot *slots;
    char *body;
    struct stream *streams; /* its own counts of all of them */
    struct histogram took;
    struct sample samples[SAMPLES_MAX];
    unsigned samples_n;
    uint64_t errors;
    char error[128];                 /* the first */
    atomic_uint_fast64_t operations; /* acknowledged within the measured part */
    atomic_uint under_way;
};

struct run {
    struct options options;
    size_t body_bytes, marker_at;
    uint64_t begin_ns, end_ns; /* of the measured part */
    atomic_bool over;
    struct lane *lanes;
};

static void refuse(const char *what, natsStatus status)
{
    fprintf(stderr, "nats-load: %s: %s\n", what, natsStatus_GetText(status));
    exit(2);
}

static void *zeroed(size_t n, size_t size)
{
    void *p = calloc(n, size);

    if (p == NULL) {
        fprintf(stderr, "nats-load: out of memory\n");
        exit(2);
    }
    return p;
}

/* Messages. */

static const char body_head[] = "{\"type\":\"message.send\",\"thread\":\"work\",\"sender\":\"a1\","
                                "\"content\":\"";

/* A body with `payload` bytes of content, the marker blank. */
static char *make_body(struct run *run)
{
    static const char tail[] = "\"}";
    size_t head = sizeof(body_head) - 1, payload = run->options.payload;
    char *body = zeroed(1, head + payload + sizeof(tail));

    memcpy(body, body_head, head);
    memset(body + head, 'x', payload);
    memcpy(body + head + payload, tail, sizeof(tail));
    run->body_bytes = head + payload + sizeof(tail) - 1;
    run->marker_at = head;
    return body;
}

static void put_marker(char *body, const struct run *run, uint64_t slot, uint64_t counter)
{
    char marker[MARKER_BYTES + 1];

    snprintf(marker, sizeof(marker), "%08llu %014llu ", (unsigned long long)slot,
             (unsigned long long)counter);
    memcpy(body + run->marker_at, marker, MARKER_BYTES);
}

static bool read_marker(const natsMsg *message, const struct run *run, uint64_t *slot,
                        uint64_t *counter)
{
    unsigned long long a = 0, b = 0;

    if (natsMsg_GetDataLength(message) != (int)run->body_bytes ||
        sscanf(natsMsg_GetData(message) + run->marker_at, "%8llu %14llu ", &a, &b) != 2)
        return false;
    *slot = a;
    *counter = b;
    return true;
}

/* As in splitmix64. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static unsigned stream_of(const struct run *run, uint64_t slot, uint64_t counter)
{
    return (unsigned)((slot + counter * run->options.outstanding) % run->options.streams);
}

static void name_stream(char *name, const struct run *run, unsigned stream)
{
    snprintf(name, NAME_BYTES, "%s%u", run->options.prefix, stream);
}

/* Publishing. */

static void lane_failed(struct lane *lane, const char *why)
{
    if (lane->errors++ == 0)
        snprintf(lane->error, sizeof(lane->error), "%s", why != NULL ? why : "no reason told");
    atomic_fetch_sub(&lane->under_way, 1);
}

static void publish(struct lane *lane, uint64_t number, uint64_t now_ns)
{
    struct run *run = lane->run;
    struct slot *slot = &lane->slots[number - lane->first];
    char name[NAME_BYTES];

    slot->counter++;
    slot->sent_ns = now_ns;
    put_marker(lane->body, run, number, slot->counter);
    name_stream(name, run, stream_of(run, number, slot->counter));
    natsStatus status = js_PublishAsync(lane->js, name, lane->body, (int)run->body_bytes, NULL);
    if (status != NATS_OK)
        lane_failed(lane, natsStatus_GetText(status));
}

static void take_sample(struct lane *lane, unsigned stream, uint64_t sequence, uint64_t slot,
                        uint64_t counter)
{
    if (lane->samples_n < SAMPLES_MAX && counter % 16 == 1)
        lane->samples[lane->samples_n++] = (struct sample){stream, sequence, slot, counter};
}

static void count_ack(struct lane *lane, uint64_t slot, uint64_t counter, uint64_t sequence)
{
    unsigned number = stream_of(lane->run, slot, counter);
    struct stream *stream = &lane->streams[number];

    stream->acknowledged++;
    stream->sum += mix(sequence);
    take_sample(lane, number, sequence, slot, counter);
}

/* The slot of an acknowledged message, and its number; NULL: an answer to nothing that was asked.
 */
static struct slot *find_slot(struct lane *lane, const natsMsg *message, uint64_t *number)
{
    uint64_t counter = 0;

    if (!read_marker(message, lane->run, number, &counter) || *number < lane->first ||
        *number - lane->first >= lane->slots_n)
        return NULL;
    struct slot *slot = &lane->slots[*number - lane->first];
    return slot->counter == counter ? slot : NULL;
}

static void go_on(struct lane *lane, struct slot *slot, uint64_t number, uint64_t sequence)
{
    struct run *run = lane->run;
    uint64_t now_ns = process_now_ns();

    count_ack(lane, number, slot->counter, sequence);
    if (now_ns >= run->begin_ns && now_ns < run->end_ns) {
        histogram_add(&lane->took, now_ns - slot->sent_ns);
        atomic_fetch_add_explicit(&lane->operations, 1, memory_order_relaxed);
    }
    if (atomic_load_explicit(&run->over, memory_order_relaxed))
        atomic_fetch_sub(&lane->under_way, 1);
    else
        publish(lane, number, now_ns);
}

static void on_ack(jsCtx *js, natsMsg *message, jsPubAck *ack, jsPubAckErr *error, void *closure)
{
    struct lane *lane = closure;
    uint64_t number = 0;

    (void)js;
    pthread_mutex_lock(&lane->lock);
    struct slot *slot = find_slot(lane, message, &number);
    if (error != NULL)
        lane_failed(lane, error->ErrText);
    else if (slot == NULL)
        lane_failed(lane, "an answer to nothing that was asked");
    else
        go_on(lane, slot, number, ack->Sequence);
    pthread_mutex_unlock(&lane->lock);
    natsMsg_Destroy(message);
}

/* Setting up. */

/* The library collects what is published for a millisecond; with one message at a time on a
 * connection there is nothing to collect. */
static natsStatus connect_to(natsConnection **connection, const char *url, bool at_once)
{
    natsOptions *options = NULL;
    natsStatus status = natsOptions_Create(&options);

    if (status == NATS_OK)
        status = natsOptions_SetURL(options, url);
    if (status == NATS_OK)
        status = natsOptions_SetSendAsap(options, at_once);
    if (status == NATS_OK)
        status = natsConnection_Connect(connection, options);
    natsOptions_Destroy(options);
    return status;
}

static void open_lane(struct run *run, unsigned index)
{
    struct lane *lane = &run->lanes[index];
    unsigned share = run->options.outstanding / run->options.connections;
    jsOptions options;
    natsStatus status = connect_to(&lane->connection, run->options.url, share == 1);

    if (status != NATS_OK)
        refuse(run->options.url, status);
    jsOptions_Init(&options);
    options.PublishAsync.AckHandler = on_ack;
    options.PublishAsync.AckHandlerClosure = lane;
    status = natsConnection_JetStream(&lane->js, lane->connection, &options);
    if (status != NATS_OK)
        refuse("JetStream", status);
    pthread_mutex_init(&lane->lock, NULL);
    lane->run = run;
    lane->first = index * share;
    lane->slots_n = share;
    lane->slots = zeroed(share, sizeof(*lane->slots));
    lane->streams = zeroed(run->options.streams, sizeof(*lane->streams));
    lane->body = make_body(run);
}

static uint64_t last_sequence(struct run *run, const char *name)
{
    jsStreamInfo *info = NULL;
    natsStatus status = js_GetStreamInfo(&info, run->lanes[0].js, name, NULL, NULL);

    if (status != NATS_OK)
        refuse(name, status);
    uint64_t last = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return last;
}

/* One that is there already, from an earlier run, is gone on with. */
static void make_streams(struct run *run, struct stream *streams)
{
    for (unsigned i = 0; i < run->options.streams; i++) {
        char name[NAME_BYTES];
        const char *subjects[] = {name};
        jsStreamConfig config;

        name_stream(name, run, i);
        jsStreamConfig_Init(&config);
        config.Name = name;
        config.Subjects = subjects;
        config.SubjectsLen = 1;
        config.Storage = js_FileStorage;
        natsStatus status = js_AddStream(NULL, run->lanes[0].js, &config, NULL, NULL);
        if (status != NATS_OK)
            refuse("making a stream", status);
        streams[i].base = last_sequence(run, name);
    }
}

/* Measuring. */

static uint64_t operations(const struct run *run)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < run->options.connections; i++)
        n += atomic_load_explicit(&run->lanes[i].operations, memory_order_relaxed);
    return n;
}

static void sleep_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000),
                          .tv_nsec = (long)(at_ns % 1000000000)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
        ;
}

/* False: something is still under way after DRAIN_S. */
static bool drain(struct run *run)
{
    uint64_t until_ns = process_now_ns() + (uint64_t)DRAIN_S * 1000000000;

    atomic_store(&run->over, true);
    for (unsigned i = 0; i < run->options.connections; i++) {
        while (atomic_load(&run->lanes[i].under_way) != 0) {
            if (process_now_ns() > until_ns)
                return false;
            sleep_until(process_now_ns() + 10000000);
        }
    }
    return true;
}

static double cpu_s(const struct process_usage *from, const struct process_usage *to)
{
    return to->user_s + to->system_s - from->user_s - from->system_s;
}

static void tell_figures(struct run *run, struct report *report, double seconds,
                         const struct process_usage *server, const struct process_usage *self)
{
    double n = (double)operations(run);

    report_figure(report, "operations", n, "messages acknowledged");
    report_figure(report, "per_s", n / seconds, "of them a second");
    report_figure(report, "seconds", seconds, "measured");
    if (run->options.pid != 0) {
        double server_s = cpu_s(&server[0], &server[1]);
        if (n > 0)
            report_figure(report, "server_cpu_us", server_s / n * 1e6, "of the server, a message");
        report_figure(report, "server_cpu_percent", server_s / seconds * 100, "of a core");
        report_figure(report, "server_rss_mb", server[1].rss_mb, "of the server, at the end");
        if (server[1].gone)
            report_problem(report, "the server's process is gone");
    }
    report_figure(report, "load_cpu_percent", cpu_s(&self[0], &self[1]) / seconds * 100,
                  "of a core, this process");
}

static void measure(struct run *run, struct report *report)
{
    struct process_usage server[2] = {0}, self[2];
    uint64_t before = 0;

    run->begin_ns = process_now_ns() + (uint64_t)(run->options.warmup_s * 1e9);
    run->end_ns = run->begin_ns + (uint64_t)(run->options.seconds * 1e9);
    for (unsigned i = 0; i < run->options.connections; i++) {
        struct lane *lane = &run->lanes[i];
        atomic_store(&lane->under_way, lane->slots_n);
        pthread_mutex_lock(&lane->lock);
        for (unsigned k = 0; k < lane->slots_n; k++)
            publish(lane, lane->first + k, process_now_ns());
        pthread_mutex_unlock(&lane->lock);
    }
    sleep_until(run->begin_ns);
    self[0] = process_usage(0);
    if (run->options.pid != 0)
        server[0] = process_usage(run->options.pid);
    for (uint64_t at_ns = run->begin_ns; at_ns < run->end_ns;) {
        at_ns = at_ns + 1000000000 < run->end_ns ? at_ns + 1000000000 : run->end_ns;
        sleep_until(at_ns);
        uint64_t now = operations(run);
        report_second(report, (double)(at_ns - run->begin_ns) / 1e9, (double)(now - before), 0);
        before = now;
    }
    self[1] = process_usage(0);
    if (run->options.pid != 0)
        server[1] = process_usage(run->options.pid);
    tell_figures(run, report, run->options.seconds, server, self);
}

/* Checking. */

static void check_numbers(struct run *run, struct report *report, struct stream *streams)
{
    uint64_t right = 0;

    for (unsigned i = 0; i < run->options.streams; i++) {
        struct stream *all = &streams[i];
        char name[NAME_BYTES];

        for (unsigned k = 0; k < run->options.connections; k++) {
            const struct stream *part = &run->lanes[k].streams[i];
            all->acknowledged += part->acknowledged;
            all->sum += part->sum;
        }
        name_stream(name, run, i);
        uint64_t n = all->acknowledged, grown = last_sequence(run, name) - all->base;
        uint64_t expected = 0;
        for (uint64_t sequence = all->base + 1; sequence <= all->base + grown; sequence++)
            expected += mix(sequence);
        if (grown != n || all->sum != expected)
            report_problem(report, "stream %s: %llu acknowledged, grown by %llu, or not once each",
                           name, (unsigned long long)n, (unsigned long long)grown);
        else
            right += n;
    }
    report_checked(report, "messages acknowledged, each under a number of its own", right);
}

static bool sample_is_there(struct run *run, const struct sample *sample, char *body)
{
    char name[NAME_BYTES];
    natsMsg *message = NULL;

    name_stream(name, run, sample->stream);
    natsStatus status = js_GetMsg(&message, run->lanes[0].js, name, sample->sequence, NULL, NULL);
    put_marker(body, run, sample->slot, sample->counter);
    bool same = status == NATS_OK && natsMsg_GetDataLength(message) == (int)run->body_bytes &&
                memcmp(natsMsg_GetData(message), body, run->body_bytes) == 0;
    natsMsg_Destroy(message);
    return same;
}

static void check_samples(struct run *run, struct report *report)
{
    uint64_t right = 0;

    for (unsigned i = 0; i < run->options.connections; i++) {
        struct lane *lane = &run->lanes[i];
        for (unsigned k = 0; k < lane->samples_n; k++) {
            if (sample_is_there(run, &lane->samples[k], lane->body))
                right++;
            else
                report_problem(report, "stream %s%u: message %llu is not what was acknowledged",
                               run->options.prefix, lane->samples[k].stream,
                               (unsigned long long)lane->samples[k].sequence);
        }
    }
    report_checked(report, "messages of a sample, read back unchanged", right);
}

static void check_errors(struct run *run, struct report *report)
{
    for (unsigned i = 0; i < run->options.connections; i++) {
        const struct lane *lane = &run->lanes[i];
        if (lane->errors != 0)
            report_problem(report, "%llu messages were refused, the first: %s",
                           (unsigned long long)lane->errors, lane->error);
    }
}

/* Options. */

static void usage(const char *wrong)
{
    fprintf(stderr,
            "nats-load: %s\n"
            "usage: nats-load --url nats://ADDRESS:PORT [--pid PID] [--seconds 0.1…3600]\n"
            "  [--warmup 0…3600] [--connections 1…%d] [--outstanding N, a multiple of it, to %d]\n"
            "  [--streams 1…%d] [--payload %d…%d] [--prefix P, of letters, digits and -]\n"
            "  [--json FILE]\n",
            wrong, CONNECTIONS_MAX, OUTSTANDING_MAX, STREAMS_MAX, MARKER_BYTES, PAYLOAD_MAX);
    exit(2);
}

static double number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= least && value <= most))
        usage(text);
    return value;
}

static void parse_options(struct options *o, int argc, char **argv)
{
    static const struct option options[] = {{"url", required_argument, NULL, 'u'},
                                            {"pid", required_argument, NULL, 'p'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"warmup", required_argument, NULL, 'w'},
                                            {"connections", required_argument, NULL, 'c'},
                                            {"outstanding", required_argument, NULL, 'o'},
                                            {"streams", required_argument, NULL, 'n'},
                                            {"payload", required_argument, NULL, 'b'},
                                            {"prefix", required_argument, NULL, 'x'},
                                            {"json", required_argument, NULL, 'j'},
                                            {0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'u':
            o->url = optarg;
            break;
        case 'p':
            o->pid = (uint64_t)number(optarg, 1, 1 << 22);
            break;
        case 's':
            o->seconds = number(optarg, 0.1, 3600);
            break;
        case 'w':
            o->warmup_s = number(optarg, 0, 3600);
            break;
        case 'c':
            o->connections = (unsigned)number(optarg, 1, CONNECTIONS_MAX);
            break;
        case 'o':
            o->outstanding = (unsigned)number(optarg, 1, OUTSTANDING_MAX);
            break;
        case 'n':
            o->streams = (unsigned)number(optarg, 1, STREAMS_MAX);
            break;
        case 'b':
            o->payload = (unsigned)number(optarg, MARKER_BYTES, PAYLOAD_MAX);
            break;
        case 'x':
            o->prefix = optarg;
            break;
        case 'j':
            o->json = optarg;
            break;
        default:
            usage("no such option");
        }
    }
    if (optind != argc || o->url == NULL)
        usage(o->url == NULL ? "--url is missing" : argv[optind]);
    if (o->outstanding % o->connections != 0)
        usage("--outstanding is no multiple of --connections");
    if (strlen(o->prefix) > PREFIX_BYTES ||
        strspn(o->prefix, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(o->prefix))
        usage(o->prefix);
}

static void tell_options(struct report *report, const struct options *o)
{
    report_option(report, "url", "%s", o->url);
    report_option(report, "seconds", "%g", o->seconds);
    report_option(report, "warmup", "%g", o->warmup_s);
    report_option(report, "connections", "%u", o->connections);
    report_option(report, "outstanding", "%u", o->outstanding);
    report_option(report, "streams", "%u", o->streams);
    report_option(report, "payload", "%u", o->payload);
    report_option(report, "library", "libnats %s", nats_GetVersion());
}

int main(int argc, char **argv)
{
    static struct histogram took;
    struct run run = {.options = {.seconds = 5,
                                  .warmup_s = 1,
                                  .connections = 1,
                                  .outstanding = 256,
                                  .streams = 256,
                                  .payload = 64,
                                  .prefix = "bench"}};

    parse_options(&run.options, argc, argv);
    struct report *report = report_new("post", "nats", true);
    tell_options(report, &run.options);
    struct stream *streams = zeroed(run.options.streams, sizeof(*streams));
    run.lanes = zeroed(run.options.connections, sizeof(*run.lanes));
    for (unsigned i = 0; i < run.options.connections; i++)
        open_lane(&run, i);
    make_streams(&run, streams);
    measure(&run, report);
    if (drain(&run)) {
        check_numbers(&run, report, streams);
        check_samples(&run, report);
    } else {
        report_problem(report, "messages are unanswered %d s after the end", DRAIN_S);
    }
    check_errors(&run, report);
    for (unsigned i = 0; i < run.options.connections; i++)
        histogram_merge(&took, &run.lanes[i].took);
    report_latency(report, "answer", &took, "from publishing to the acknowledgement");
    return report_finish(report, run.options.json, NULL);
}
