/*
 * watch: watchers of event streams beside writers, everything that they are told checked.
 *
 * Normal path: connect, wait until all have begun, write, count for a while, stop writing, wait
 * until all requests are answered and all watchers were told everything, let the stopped ones read
 * and wait for these too, read back what was written. With --until nobody writes: it ends when each
 * was told so much.
 * Failure: a problem in the report: an answer other than 2xx, a stream that ends, a gap, a
 * repetition, somebody who is not told everything within 30 s, or what verify.h finds.
 *
 * The latency of deliveries is measured where the writers are paced (--ahead, --rate): without,
 * slow watchers are told many events in one, and it would say how long the queue is.
 *
 * Time is read once for what one read brings; the commit of an event is, as a client sees it, when
 * the answer to its command was read.
 */
#include "ask.h"
#include "deliveries.h"
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
#include <unistd.h>

/* ---- options */

/* What a target is watched and written by, where the options do not say it. */
struct preset {
    const char *target, *path, *post; /* NULL: of Atoll's sessions */
    const char *write;
    int64_t from;
    bool joins;
};

static const struct preset presets[] = {
    {.target = "atoll", .write = "note", .from = -1},
    {.target = "nchan", .path = "/subscribe", .post = "/publish", .write = "raw"},
    {.target = "sse",
     .path = "/stream",
     .post = "/publish",
     .write = "text",
     .from = -1,
     .joins = true},
    {.target = "sendloop", .path = "/"},
};

static struct {
    uint64_t watchers, writers, bytes, ahead, stopped, until;
    const char *path, *post, *write, *last_event_id;
    int64_t from;
} own = {.watchers = 1000, .bytes = 220, .from = -1};

static const char own_help[] =
    "  --watchers N       open streams; watcher i has session i modulo --sessions (default 1000)\n"
    "  --stopped N        so many more, with small buffers, that read nothing until it is over\n"
    "  --writers W        connections that write (default 0: watch what somebody else writes)\n"
    "  --ahead N          events of a session that may be written beyond what each watcher was "
    "told\n"
    "  --rate R           requests a second; 0: as fast as they are answered\n"
    "  --write KIND       note (an agent's, changed), message (sent), raw (the text of a patch as\n"
    "                     another server is to tell it) or text (default: as the target takes)\n"
    "  --bytes N          of a note's or a text's patch on the wire, about (default 220); of a\n"
    "                     message it is the content: --payload\n"
    "  --path PATH        of the streams, {} being the number of the session\n"
    "  --post PATH        of the requests that write\n"
    "  --from SEQ         no snapshot will come, and the first patch follows this one\n"
    "  --last-event-id ID is sent by each watcher\n"
    "  --until SEQ        ends when each watcher was told that\n";

static void defaults(struct load_options *options)
{
    options->sessions = 1;
}

static const char *short_text(const char *name, const char *value)
{
    if (strlen(value) == 0 || strlen(value) > WATCHERS_PATH_BYTES)
        option_refuse("%s is \"%s\", and has to be 1 to %d bytes long", name, value,
                      WATCHERS_PATH_BYTES);
    return value;
}

static bool option(const char *name, const char *value)
{
    if (strcmp(name, "--watchers") == 0)
        own.watchers = option_integer(name, value, 1, WATCHERS_MAX);
    else if (strcmp(name, "--stopped") == 0)
        own.stopped = option_integer(name, value, 0, WATCHERS_MAX);
    else if (strcmp(name, "--writers") == 0)
        own.writers = option_integer(name, value, 0, WRITERS_MAX);
    else if (strcmp(name, "--ahead") == 0)
        own.ahead = option_integer(name, value, 0, DELIVERIES_MAX);
    else if (strcmp(name, "--bytes") == 0)
        own.bytes = option_integer(name, value, 0, 100000);
    else if (strcmp(name, "--until") == 0)
        own.until = option_integer(name, value, 1, INT64_MAX);
    else if (strcmp(name, "--from") == 0)
        own.from = (int64_t)option_integer(name, value, 0, INT64_MAX);
    else if (strcmp(name, "--write") == 0)
        own.write = option_word(name, value, "note message raw text");
    else if (strcmp(name, "--path") == 0)
        own.path = short_text(name, value);
    else if (strcmp(name, "--post") == 0)
        own.post = short_text(name, value);
    else if (strcmp(name, "--last-event-id") == 0)
        own.last_event_id = short_text(name, value);
    else
        return false;
    return true;
}

/* ---- a run */

struct watch {
    const struct load_options *options;
    struct report *report;
    const struct preset *preset;
    bool verified; /* Atoll's sessions, whose events can be read back */
    char path[WATCHERS_PATH_BYTES + 1], post[WATCHERS_PATH_BYTES + 1];
    struct loop loop;
    struct meter meter;
    struct watchers watchers;
    struct writers writers;
    struct deliveries deliveries;
    struct verify verify;
    bool paced;     /* deliveries are measured */
    uint64_t level; /* watchers that were told --until */
};

/* When the measured part begins, and when it ends. */
struct moment {
    struct reader_counts counts;
    uint64_t answered;
    double server_s;
};

static struct moment now(const struct watch *watch)
{
    uint64_t pid = watch->options->pid;
    struct process_usage server = pid != 0 ? process_usage(pid) : (struct process_usage){0};

    return (struct moment){.counts = watch->watchers.counts,
                           .answered = watch->writers.answered * watch->writers.batch,
                           .server_s = server.user_s + server.system_s};
}

static void on_told(void *context, uint32_t session, uint64_t from, uint64_t seq, uint64_t now_ns)
{
    struct watch *watch = context;

    if (own.until != 0)
        watch->level += from <= own.until && seq >= own.until;
    else if (watch->paced)
        deliveries_told(&watch->deliveries, session, from, seq, now_ns);
    else
        meter_count(&watch->meter, seq - from + 1, 0);
}

/* ---- conditions */

static bool all_patched(const void *context)
{
    const struct watch *watch = context;
    return watch->watchers.patched == watch->watchers.n;
}

static bool all_until(const void *context)
{
    const struct watch *watch = context;
    return watch->level == watch->watchers.n;
}

static bool all_level(const void *context)
{
    const struct watch *watch = context;
    return watchers_level(&watch->watchers, watch->writers.heads);
}

static bool stopped_level(const void *context)
{
    const struct watch *watch = context;
    return watchers_stopped_level(&watch->watchers, watch->writers.heads);
}

/* ---- before it is measured */

/* A text is published, which all begin with: from then on the server's numbers are known. */
static uint64_t join(struct watch *watch)
{
    struct asker asker;
    uint64_t seq = 0;

    if (!asker_open(&asker, watch->options)) {
        loop_fail(&watch->loop, "no connection to publish by");
        return 0;
    }
    ask_post(&asker.request, "first", 5, "%s", watch->post);
    const char *wrong = asker_ask(&asker);
    const char *found =
        wrong == NULL ? find_member(asker.http.body, asker.http.body + asker.http.body_size, "seq")
                      : NULL;
    if (found != NULL)
        seq = strtoull(found, NULL, 10);
    else
        loop_fail(&watch->loop, "what was published has no seq: %s",
                  wrong != NULL ? wrong : asker.http.tail);
    asker_close(&asker);
    loop_until(&watch->loop, all_patched, watch, "all watchers were told the first text");
    return seq;
}

/* All watchers of a session have to stand at the same seq: nobody has written yet. */
static void place_sessions(struct watch *watch, uint64_t joined)
{
    for (uint64_t i = 0; i < watch->watchers.n && watch->loop.error == NULL; i++) {
        const struct reader *reader = &watch->watchers.readers[i];
        uint32_t session = reader->session;
        if (i < watch->watchers.sessions) {
            watch->verify.base[session] = reader->seq;
            writers_place(&watch->writers, session, reader->seq);
        }
        if (reader->seq != watch->writers.heads[session] ||
            (watch->preset->joins && reader->seq != joined))
            loop_fail(&watch->loop,
                      "watchers of session %u stand at %llu and at %llu: somebody else writes, or "
                      "they were told different things",
                      session, (unsigned long long)reader->seq,
                      (unsigned long long)watch->writers.heads[session]);
    }
}

/* From now on what is under way is bounded, and so how long it took can be said. */
static void pace(struct watch *watch)
{
    struct deliveries *deliveries = &watch->deliveries;
    uint64_t sessions = watch->watchers.sessions;

    if (!deliveries_open(deliveries, &watch->loop, &watch->meter, sessions))
        option_refuse("out of memory");
    if (deliveries->window < own.ahead || deliveries->window < watch->writers.batch)
        option_refuse("--ahead and --batch: with %llu sessions %llu at most",
                      (unsigned long long)sessions, (unsigned long long)deliveries->window);
    for (uint64_t i = 0; i < sessions; i++)
        deliveries_begin(deliveries, i, watch->writers.heads[i], watchers_of(&watch->watchers, i));
    watch->writers.deliveries = deliveries;
    watch->paced = true;
}

static void begin_writing(struct watch *watch)
{
    uint64_t joined = watch->preset->joins ? join(watch) : 0;

    writers_connect(&watch->writers);
    place_sessions(watch, joined);
    if (watch->loop.error != NULL)
        return;
    if (own.ahead != 0 || watch->options->rate > 0)
        pace(watch);
    watch->loop.before = writers_due;
    watch->loop.context = &watch->writers;
    writers_begin(&watch->writers);
}

/* ---- figures */

static void tell_written(struct watch *watch, const struct moment *from, const struct moment *to,
                         double seconds)
{
    struct report *report = watch->report;
    double events = (double)(to->answered - from->answered);

    report_figure(report, "events_per_s", events / seconds, "written, and acknowledged");
    if (watch->options->pid != 0 && events > 0)
        report_figure(report, "server_cpu_us_event", (to->server_s - from->server_s) * 1e6 / events,
                      "CPU time of the server for each event written, microseconds");
    report_figure(report, "late", (double)watch->writers.late,
                  "requests sent later than when the next was due");
    report_latency(report, "answer", &watch->writers.answer,
                   "from sending (or the planned time) until the answer was read");
    if (!watch->paced)
        return;
    report_figure(report, "before_answer", (double)watch->deliveries.before_answer,
                  "events told to a watcher before their answer was read: counted as 0");
    report_latency(report, "delivery", &watch->deliveries.commit,
                   "from the answer (the commit) until a watcher has read it");
    report_latency(report, "last", &watch->deliveries.last_commit,
                   "from the answer until the last watcher has read it");
    if (watch->deliveries.send.n == 0)
        return;
    report_latency(report, "delivery_send", &watch->deliveries.send,
                   "from sending until a watcher has read it");
    report_latency(report, "last_send", &watch->deliveries.last_send,
                   "from sending until the last watcher has read it");
}

static void tell_told(struct watch *watch, const struct reader_counts *from,
                      const struct reader_counts *to, double seconds)
{
    struct report *report = watch->report;
    double messages = (double)(to->messages - from->messages);
    double reads = (double)(to->reads - from->reads), bytes = (double)(to->bytes - from->bytes);

    report_figure(report, "patches_per_s", (double)(to->patches - from->patches) / seconds,
                  "events told by patches: a merged one tells several");
    report_figure(report, "messages_per_s", messages / seconds, "patches as they came");
    report_figure(report, "mb_per_s", bytes / seconds / 1e6, "read by all watchers");
    report_figure(report, "bytes_each", messages > 0 ? bytes / messages : 0, "of a patch");
    report_figure(report, "a_read", reads > 0 ? messages / reads : 0, "patches for each read");
    report_figure(report, "merged", (double)(to->merged - from->merged), "patches");
    report_figure(report, "resets", (double)(to->resets - from->resets), "snapshots in between");
}

static void tell_stopped(struct watch *watch)
{
    const struct reader_counts *counts = &watch->watchers.stopped_counts;

    if (own.stopped == 0)
        return;
    report_figure(watch->report, "stopped_merged", (double)counts->merged,
                  "merged patches told to those that had stopped");
    report_figure(watch->report, "stopped_resets", (double)counts->resets,
                  "snapshots told to those that had stopped");
}

/* ---- what was told, as a whole */

/* Over several connections there is no order among raw texts, but each has to be told once. */
static uint64_t count_incomplete(const struct watch *watch)
{
    uint64_t n = 0;

    if (!watch->watchers.unordered || watch->writers.heads == NULL)
        return 0;
    for (uint64_t i = 0; i < watch->watchers.n; i++)
        n += !reader_told_each(&watch->watchers.readers[i], watch->writers.heads[0]);
    return n;
}

static void check(struct watch *watch)
{
    const struct reader_counts *counts = &watch->watchers.counts;
    const struct reader_counts *stopped = &watch->watchers.stopped_counts;
    uint64_t gaps = counts->gaps + stopped->gaps, repeats = counts->repeats + stopped->repeats;
    uint64_t ends = counts->ends + stopped->ends, incomplete = count_incomplete(watch);

    if (watch->loop.error != NULL)
        report_problem(watch->report, "%s", watch->loop.error);
    if (gaps + repeats != 0)
        report_problem(watch->report, "watchers saw %llu gaps and %llu repetitions",
                       (unsigned long long)gaps, (unsigned long long)repeats);
    if (ends != 0)
        report_problem(watch->report, "%llu streams were told that their session has ended",
                       (unsigned long long)ends);
    if (incomplete != 0)
        report_problem(watch->report, "%llu watchers were not told each text exactly once",
                       (unsigned long long)incomplete);
    report_checked(watch->report, "events told to watchers, each once and, if numbered, in order",
                   counts->patches + stopped->patches - repeats);
}

/* ---- what is done */

/* All were told what was written; those that had stopped, too. */
static void finish_writing(struct watch *watch)
{
    writers_end(&watch->writers);
    loop_until(&watch->loop, writers_answered, &watch->writers, "all requests were answered");
    loop_until(&watch->loop, all_level, watch, "all watchers were told everything");
    watchers_wake(&watch->watchers);
    loop_until(&watch->loop, stopped_level, watch, "the stopped watchers were told everything");
}

static void measure(struct watch *watch)
{
    struct moment begin = {0};
    bool on = false;

    if (own.writers != 0)
        begin_writing(watch);
    else
        loop_until(&watch->loop, all_patched, watch, "all watchers had a patch");
    if (watch->loop.error != NULL)
        return;
    meter_begin(&watch->meter, watch->options, watch->report, false);
    while (watch->loop.error == NULL && !load_stopped &&
           meter_turn(&watch->meter, process_now_ns())) {
        if (!on && watch->meter.on) {
            begin = now(watch);
            watch->writers.late = 0;
            on = true;
        }
        loop_turn(&watch->loop, meter_due(&watch->meter));
    }
    struct moment end = now(watch);
    uint64_t now_ns = process_now_ns();
    double seconds = (double)(now_ns - watch->meter.begin_ns) / 1e9;
    meter_end(&watch->meter, now_ns, "events told to watchers");
    tell_told(watch, &begin.counts, &end.counts, seconds);
    if (own.writers == 0)
        return;
    tell_written(watch, &begin, &end, seconds);
    finish_writing(watch);
    tell_stopped(watch);
    if (watch->verified)
        verify_read(&watch->verify);
}

/* Whoever comes back: how long until all are level with what was missed. */
static void resume(struct watch *watch, uint64_t began_ns)
{
    const struct reader_counts *counts = &watch->watchers.counts;
    struct report *report = watch->report;

    loop_until(&watch->loop, all_patched, watch, "all watchers had a patch");
    report_figure(report, "first_ms", (double)(process_now_ns() - began_ns) / 1e6,
                  "from connecting until the last had its first patch");
    loop_until(&watch->loop, all_until, watch, "all watchers were told everything");
    report_figure(report, "level_ms", (double)(process_now_ns() - began_ns) / 1e6,
                  "from connecting until the last was told --until");
    report_figure(report, "patches", (double)counts->patches, "events told by patches");
    report_figure(report, "messages", (double)counts->messages, "patches as they came");
    report_figure(report, "merged", (double)counts->merged, "patches");
    report_figure(report, "resets", (double)counts->resets, "snapshots in between");
    report_figure(report, "mb", (double)counts->bytes / 1e6, "read by all watchers");
}

/* ---- start */

static const struct preset *preset_of(const char *target)
{
    const struct preset *preset = presets;

    while (strcmp(preset->target, target) != 0)
        preset++;
    return preset;
}

static void put_paths(struct watch *watch)
{
    const struct preset *preset = watch->preset;
    const char *prefix = watch->options->prefix;

    snprintf(watch->path, sizeof(watch->path), "/v1/sessions/%s{}/stream", prefix);
    snprintf(watch->post, sizeof(watch->post), "/v1/sessions/%s{}/commands", prefix);
    if (own.path != NULL || preset->path != NULL)
        snprintf(watch->path, sizeof(watch->path), "%s",
                 own.path != NULL ? own.path : preset->path);
    if (own.post != NULL || preset->post != NULL)
        snprintf(watch->post, sizeof(watch->post), "%s",
                 own.post != NULL ? own.post : preset->post);
    watch->verified = preset->path == NULL && own.post == NULL;
}

static enum writers_kind kind_of(const char *write)
{
    static const char *const names[] = {[WRITERS_NOTE] = "note",
                                        [WRITERS_MESSAGE] = "message",
                                        [WRITERS_RAW] = "raw",
                                        [WRITERS_TEXT] = "text"};
    unsigned i = 0;

    while (strcmp(write, names[i]) != 0)
        i++;
    return (enum writers_kind)i;
}

/* What the options may not say together. */
static void refuse_options(const struct watch *watch)
{
    const struct load_options *options = watch->options;
    bool commands = watch->writers.kind == WRITERS_NOTE || watch->writers.kind == WRITERS_MESSAGE;

    if (options->sessions > own.watchers || options->sessions > LOAD_CONNECTIONS_MAX)
        option_refuse("--sessions is %u, and has to be no more than --watchers, which is %llu, and "
                      "than %d",
                      options->sessions, (unsigned long long)own.watchers, LOAD_CONNECTIONS_MAX);
    if (options->sessions != 1 && strstr(watch->path, "{}") == NULL)
        option_refuse("--sessions is %u, and has to be 1 where the path of the streams has no {}",
                      options->sessions);
    if (options->batch > WRITERS_BATCH_MAX || (options->batch > 1 && !commands))
        option_refuse("--batch is %u, and has to be 1 to %d, and 1 where no commands are written",
                      options->batch, WRITERS_BATCH_MAX);
    if (watch->writers.kind == WRITERS_MESSAGE && options->payload_bytes < MARKER_BYTES)
        option_refuse("--payload is %u, and has to be at least %d: each content begins with a "
                      "marker",
                      options->payload_bytes, MARKER_BYTES);
    if (own.ahead != 0 && own.ahead < options->batch)
        option_refuse("--ahead is %llu, and has to be as much as --batch, which is %u, or 0",
                      (unsigned long long)own.ahead, options->batch);
    if (own.writers != 0 && watch->preset->write == NULL && own.write == NULL)
        option_refuse("--writers: target %s takes nothing", watch->preset->target);
    if (own.until != 0 && own.writers != 0)
        option_refuse("--until and --writers: one of them");
}

static void tell_options(const struct watch *watch)
{
    struct report *report = watch->report;

    report_option(report, "watchers", "%llu", (unsigned long long)own.watchers);
    report_option(report, "stopped", "%llu", (unsigned long long)own.stopped);
    report_option(report, "path", "%s", watch->path);
    if (watch->watchers.from >= 0)
        report_option(report, "from", "%lld", (long long)watch->watchers.from);
    if (own.until != 0)
        report_option(report, "until", "%llu", (unsigned long long)own.until);
    report_option(report, "writers", "%llu", (unsigned long long)own.writers);
    if (own.writers == 0)
        return;
    report_option(report, "post", "%s", watch->post);
    report_option(report, "write", "%s", own.write != NULL ? own.write : watch->preset->write);
    report_option(report, "bytes", "%llu", (unsigned long long)watch->writers.bytes);
    report_option(report, "ahead", "%llu", (unsigned long long)own.ahead);
}

static void set_up(struct watch *watch)
{
    const struct load_options *options = watch->options;
    const struct preset *preset = watch->preset;
    const char *write = own.write != NULL ? own.write : preset->write;
    enum writers_kind kind = write != NULL ? kind_of(write) : WRITERS_NOTE;

    watch->watchers = (struct watchers){.loop = &watch->loop,
                                        .address = &options->address,
                                        .path = watch->path,
                                        .last_event_id = own.last_event_id,
                                        .n = own.watchers,
                                        .stopped = own.stopped,
                                        .sessions = options->sessions,
                                        .from = own.from >= 0 ? own.from : preset->from,
                                        .joins = preset->joins,
                                        .unordered = kind == WRITERS_RAW && own.writers > 1,
                                        .told = on_told,
                                        .context = watch};
    watch->writers =
        (struct writers){.loop = &watch->loop,
                         .meter = &watch->meter,
                         .address = &options->address,
                         .path = watch->post,
                         .kind = kind,
                         .n = own.writers,
                         .sessions = options->sessions,
                         .batch = options->batch,
                         .bytes = kind == WRITERS_MESSAGE ? options->payload_bytes : own.bytes,
                         .ahead = own.ahead,
                         .rate = options->rate,
                         .verify = &watch->verify};
}

static int run(const struct load_options *options, struct report *report)
{
    static struct watch one; /* its histograms are looked at when it is over */
    struct watch *watch = &one;
    uint64_t began_ns;

    if (!loop_open(&watch->loop)) {
        fprintf(stderr, "atoll-load: no epoll set: %s\n", strerror(errno));
        return 2;
    }
    watch->options = options;
    watch->report = report;
    watch->preset = preset_of(options->target);
    put_paths(watch);
    set_up(watch);
    refuse_options(watch);
    tell_options(watch);
    if (own.writers != 0)
        writers_verify(&watch->writers, options, report);
    if (own.writers != 0 && watch->verified &&
        !prepare_sessions(options, report, watch->verify.base))
        return report_has_problem(report) ? 0 : 2;
    began_ns = process_now_ns();
    watchers_connect(&watch->watchers);
    if (own.until != 0)
        resume(watch, began_ns);
    else if (watch->loop.error == NULL)
        measure(watch);
    check(watch);
    watchers_close(&watch->watchers);
    writers_close(&watch->writers);
    deliveries_close(&watch->deliveries);
    verify_close(&watch->verify);
    loop_close(&watch->loop);
    return 0;
}

const struct mode mode_watch = {
    .name = "watch",
    .summary = "watchers of event streams beside writers: fan-out, and how long it takes",
    .help = own_help,
    .targets = "atoll nchan sse sendloop",
    .defaults = defaults,
    .option = option,
    .run = run,
};
