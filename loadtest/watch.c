/*
 * watch: watchers of event streams beside writers, everything that they are told checked.
 *
 *   watch --url http://ADDRESS:PORT --watchers N [--path PATH] [--sessions M] [OPTION]...
 *
 * Watcher i reads PATH (default /v1/sessions/w{}/stream), with i modulo M for `{}`. It has begun
 * with its snapshot, or, where --from SEQ says that none will come, with the head of its answer;
 * then its first patch has to follow SEQ. The patches of each have to follow each other without a
 * gap or a repetition, also merged ones. What happens when all have begun is one of these:
 *
 *   writing   with --writers W; the default is to watch what somebody else writes
 *   --until N    until each of them was told N, from when the first began to connect
 *   --hold       nothing, until SIGTERM; "begun" is printed when all have
 *
 * Writing: W connections, each with one request at a time, to --post PATH (default
 * /v1/sessions/w{}/commands), to one session after the other.
 *   --write note|message|raw   an agent's note changed, a message sent, or the text of a patch as
 *                              another server is to tell it (default note)
 *   --bytes N     of a patch on the wire, about; of a message's content (default 220)
 *   --batch N     commands in a request (default 1)
 *   --rate R      requests a second; else as fast as they are answered
 *   --ahead N     events that may be written beyond what every watcher was told (one session)
 *   --seconds S, --warmup S    measured, and before that (default 5 and 1)
 *   --stopped N   so many more watchers with small buffers that read nothing until it is over
 *   --server-pid PID           whose CPU time is told, too
 *
 * Normal path: connect, wait until all have begun, write, count for a while, stop writing, wait
 * until all were told everything, let the stopped ones read and wait for these, print one line.
 * An answer other than 2xx, a stream that ends, a gap, a repetition, or somebody who is not told
 * everything within 30 s: a sentence, and status 1.
 *
 * The line: what was counted within the time measured; `_n`, `_p50_us`, … of
 *   answer   from sending a request until its answer was read
 *   last     from sending a request until the last watcher's bytes with it were read: it includes
 *            the request's way, the commit, and reading all streams (one writer, one session, with
 *            --rate or --ahead)
 *   after    from reading the answer until the same; 0 where the answer came later
 */
#include "http.h"
#include "reader.h"
#include "samples.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    EVENTS_AT_ONCE = 256,
    CONNECTING_AT_ONCE = 1024, /* must fit into the server's backlog */
    WINDOW_EVENTS = 1 << 16,   /* written, and not yet told to all: writing waits */
    SESSIONS_MAX = 65536,
    COMMAND_ROOM = 512, /* of a command, besides what it is filled up with */
    HEAD_ROOM = 512,
    PATIENCE_S = 30,
    COUNTER_DIGITS = 10,
};

/* What of a patch is no filling. Of a note's, besides twice the digits of its seq:
 *   event: patch / id: E-S-1 / data: {"seq":S,"ts":…,"type":"agent.updated","actor":"a1","ops":
 *   [{"op":"replace","path":"/agents/a1/note","value":"…"}]}
 * and of one as nchan tells it, besides the digits of the seq (it counts within a second, mostly
 * with three digits): event: patch / id: 1795274704:123 / data: {"seq":S,"text":"…"} */
enum { NOTE_OVERHEAD_BYTES = 173, RAW_OVERHEAD_BYTES = 58 };

enum write_kind { WRITE_NOTE, WRITE_MESSAGE, WRITE_RAW };

/* Where an event is that was written and not yet told to all. */
struct place {
    uint32_t told; /* to so many watchers */
    uint64_t sent_ns, answered_ns;
};

struct lane {
    struct http http; /* first: epoll gives this pointer back */
    bool busy;
    uint32_t session;
    uint64_t began_ns;
    uint64_t first; /* seq of its first event, where one lane writes to one session */
    char *request;
};

struct watch {
    /* Options. */
    const char *url, *path, *post, *last_event_id;
    uint64_t watchers, stopped, sessions, writers, batch, bytes, ahead, until, server_pid;
    int64_t from;
    double rate, seconds, warmup;
    enum write_kind kind;
    bool hold;

    struct sockaddr_in address;
    int epoll_fd;
    const char *error;
    struct reader *readers; /* the watchers, then the stopped ones */
    struct reader_counts counts, stopped_counts;
    /* Watchers that are connected, have begun, had a patch, were told --until; stopped ones that
     * could read. */
    uint64_t connected, begun, patched, level, readable;
    uint64_t *heads; /* by session: the seq after all that was answered */

    struct lane *lanes;
    bool writing, measuring;
    uint64_t sent, answered, requests, late, due_ns, next_session, counter;
    struct place *places;    /* by seq modulo WINDOW_EVENTS; NULL: nobody asks for it */
    uint64_t base, all_told; /* seqs of the session before writing, and told to all */
    struct samples answer, last, after;
};

static volatile sig_atomic_t signalled;

static void on_signal(int signal)
{
    (void)signal;
    signalled = 1;
}

static void *must_alloc(size_t n, size_t size)
{
    void *p = calloc(n != 0 ? n : 1, size);
    if (p == NULL) {
        fprintf(stderr, "watch: out of memory\n");
        exit(1);
    }
    return p;
}

/* PATH with the number in place of `{}`. */
static int put_path(char *out, size_t size, const char *path, uint64_t number)
{
    const char *hole = strstr(path, "{}");

    if (hole == NULL)
        return snprintf(out, size, "%s", path);
    return snprintf(out, size, "%.*s%llu%s", (int)(hole - path), path, (unsigned long long)number,
                    hole + 2);
}

static uint64_t digits(uint64_t value)
{
    uint64_t n = 1;
    while (value >= 10) {
        value /= 10;
        n++;
    }
    return n;
}

/* ---- what watchers are told */

/* All watchers were told the event. */
static void told_all(struct watch *watch, struct place *place, uint64_t now)
{
    if (watch->measuring && place->sent_ns != 0) {
        samples_add(&watch->last, now - place->sent_ns);
        samples_add(&watch->after, place->answered_ns != 0 ? now - place->answered_ns : 0);
    }
    *place = (struct place){0};
    watch->all_told++;
}

static void on_told(void *context, struct reader *reader, uint64_t from, uint64_t seq)
{
    struct watch *watch = context;

    if (watch->until != 0 && from <= watch->until && seq >= watch->until)
        watch->level++;
    if (watch->places == NULL || reader->stopped)
        return;
    for (uint64_t at = from > watch->base ? from : watch->base + 1; at <= seq; at++) {
        struct place *place = &watch->places[at % WINDOW_EVENTS];
        /* A stream is in order: who was told this was told all before. */
        if (++place->told == watch->watchers)
            told_all(watch, place, samples_now_ns());
    }
}

static bool reader_begun(const struct watch *watch, const struct reader *reader)
{
    return watch->from >= 0 ? reader->headed : reader->placed;
}

static void on_readable(struct watch *watch, struct reader *reader, uint32_t events)
{
    bool stopped = (uint64_t)(reader - watch->readers) >= watch->watchers;
    struct reader_counts *counts = stopped ? &watch->stopped_counts : &watch->counts;
    bool begun = reader_begun(watch, reader), had_patch = reader->has_patch;

    if (reader->stopped) { /* it has begun when it could read */
        watch->readable += !reader->headed;
        reader->headed = true;
        return;
    }
    do
        watch->error = reader_read(reader, counts, stopped ? NULL : on_told, watch);
    while (watch->error == NULL && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    if (stopped)
        return;
    watch->begun += !begun && reader_begun(watch, reader);
    watch->patched += !had_patch && reader->has_patch;
}

/* ---- writing */

static size_t put_command(struct watch *watch, uint64_t session, char *out)
{
    uint64_t seq = watch->heads[session] + 1, n = ++watch->counter;
    uint64_t fill = watch->bytes, used = COUNTER_DIGITS;
    char *p = out;

    if (watch->kind == WRITE_NOTE) {
        p += sprintf(p, "{\"type\":\"agent.update\",\"agent\":\"a1\",\"note\":\"");
        used += NOTE_OVERHEAD_BYTES + 2 * digits(seq);
    } else if (watch->kind == WRITE_MESSAGE) {
        p += sprintf(p, "{\"type\":\"message.send\",\"thread\":\"work\",\"sender\":\"a1\","
                        "\"content\":\"");
    } else {
        p += sprintf(p, "{\"seq\":%llu,\"text\":\"", (unsigned long long)n);
        used += RAW_OVERHEAD_BYTES + digits(n);
    }
    p += sprintf(p, "%0*llu", COUNTER_DIGITS, (unsigned long long)n);
    fill = fill > used ? fill - used : 0;
    memset(p, 'x', fill);
    p += fill;
    memcpy(p, "\"}", 2);
    return (size_t)(p + 2 - out);
}

/* One lane's next request. */
static void write_next(struct watch *watch, struct lane *lane, uint64_t now)
{
    char *body = lane->request + HEAD_ROOM, head[HEAD_ROOM], path[256];
    uint64_t session = watch->next_session++ % watch->sessions;
    size_t size = 0;

    for (uint64_t i = 0; i < watch->batch; i++) {
        if (watch->batch > 1)
            body[size++] = i == 0 ? '[' : ',';
        size += put_command(watch, session, body + size);
    }
    if (watch->batch > 1)
        body[size++] = ']';
    put_path(path, sizeof(path), watch->post, session);
    int n = snprintf(head, sizeof(head),
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     path, size);
    memcpy(body - n, head, (size_t)n);
    lane->busy = true;
    lane->session = (uint32_t)session;
    lane->began_ns = now;
    lane->first = watch->base + watch->sent + 1;
    watch->sent += watch->batch;
    /* With one lane the seqs are known beforehand. */
    for (uint64_t i = 0; watch->places != NULL && watch->writers == 1 && i < watch->batch; i++)
        watch->places[(lane->first + i) % WINDOW_EVENTS].sent_ns = now;
    if (http_send(&lane->http, body - n, size + (size_t)n) == HTTP_FAILED)
        watch->error = lane->http.error;
}

static void on_answer(struct watch *watch, struct lane *lane)
{
    static char why[HTTP_TAIL_BYTES + 64];
    enum http_result result = http_go_on(&lane->http);

    if (result == HTTP_MORE)
        return;
    if (result == HTTP_FAILED) {
        watch->error = lane->http.error;
        return;
    }
    if (lane->http.status < 200 || lane->http.status > 299) {
        snprintf(why, sizeof(why), "a command: %d …%s", lane->http.status, lane->http.tail);
        watch->error = why;
        return;
    }
    uint64_t now = samples_now_ns();
    lane->busy = false;
    watch->answered += watch->batch;
    watch->requests++;
    watch->heads[lane->session] += watch->batch;
    if (watch->measuring)
        samples_add(&watch->answer, now - lane->began_ns);
    for (uint64_t i = 0; watch->places != NULL && watch->writers == 1 && i < watch->batch; i++) {
        struct place *place = &watch->places[(lane->first + i) % WINDOW_EVENTS];
        if (place->sent_ns != 0)
            place->answered_ns = now;
    }
}

static bool may_write(const struct watch *watch)
{
    if (!watch->writing)
        return false;
    if (watch->places == NULL)
        return true;
    uint64_t ahead = watch->sent + watch->batch - (watch->all_told - watch->base);
    return ahead <= (watch->ahead != 0 ? watch->ahead : WINDOW_EVENTS / 2);
}

/* Gives idle lanes something to do; returns when to come again at the latest. */
static uint64_t write_some(struct watch *watch, uint64_t now)
{
    uint64_t apart_ns = watch->rate > 0 ? (uint64_t)(1e9 / watch->rate) : 0;

    for (uint64_t i = 0; i < watch->writers && watch->error == NULL && may_write(watch); i++) {
        struct lane *lane = &watch->lanes[i];
        if (lane->busy || (apart_ns != 0 && now < watch->due_ns))
            continue;
        watch->due_ns += apart_ns;
        watch->late += apart_ns != 0 && now > watch->due_ns;
        write_next(watch, lane, now);
    }
    return watch->writing && apart_ns != 0 && watch->due_ns > now ? watch->due_ns : UINT64_MAX;
}

/* ---- the loop */

static bool is_lane(const struct watch *watch, const void *p)
{
    return watch->lanes != NULL && (const struct lane *)p >= watch->lanes &&
           (const struct lane *)p < watch->lanes + watch->writers;
}

/* Waits until something happens or the time has come, and sees to it. */
static void turn(struct watch *watch, uint64_t until_ns)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t now = samples_now_ns(), due_ns = write_some(watch, now);
    struct timespec wait = {0};

    due_ns = due_ns < until_ns ? due_ns : until_ns;
    if (due_ns > now) {
        wait.tv_sec = (time_t)((due_ns - now) / 1000000000u);
        wait.tv_nsec = (long)((due_ns - now) % 1000000000u);
    }
    int n = epoll_pwait2(watch->epoll_fd, events, EVENTS_AT_ONCE, &wait, NULL);
    for (int i = 0; i < n && watch->error == NULL; i++) {
        if (!is_lane(watch, events[i].data.ptr))
            on_readable(watch, events[i].data.ptr, events[i].events);
        else if (((struct lane *)events[i].data.ptr)->busy)
            on_answer(watch, events[i].data.ptr);
    }
}

static void go_on_for(struct watch *watch, double seconds)
{
    uint64_t until_ns = samples_now_ns() + (uint64_t)(seconds * 1e9);
    while (watch->error == NULL && !signalled && samples_now_ns() < until_ns)
        turn(watch, until_ns);
}

typedef bool condition(const struct watch *watch);

static void go_on_until(struct watch *watch, condition *met, const char *what)
{
    static char why[128];
    uint64_t until_ns = samples_now_ns() + PATIENCE_S * UINT64_C(1000000000);

    while (watch->error == NULL && !met(watch)) {
        if (signalled || samples_now_ns() > until_ns) {
            snprintf(why, sizeof(why), "waited in vain until %s", what);
            watch->error = why;
            return;
        }
        turn(watch, until_ns);
    }
}

static bool all_connected_begun(const struct watch *watch)
{
    return watch->begun == watch->connected;
}

static bool all_stopped_readable(const struct watch *watch)
{
    return watch->readable == watch->stopped;
}

static bool all_answered(const struct watch *watch)
{
    return watch->answered == watch->sent;
}

static bool level(const struct watch *watch, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; i < first + n; i++) {
        if (watch->readers[i].seq < watch->heads[watch->readers[i].session])
            return false;
    }
    return true;
}

static bool watchers_level(const struct watch *watch)
{
    return level(watch, 0, watch->watchers);
}

static bool stopped_level(const struct watch *watch)
{
    return level(watch, watch->watchers, watch->stopped);
}

static bool all_until(const struct watch *watch)
{
    return watch->level == watch->watchers;
}

static bool all_patched(const struct watch *watch)
{
    return watch->patched == watch->watchers;
}

/* ---- connecting */

static void connect_one(struct watch *watch, uint64_t i)
{
    struct reader *reader = &watch->readers[i];
    char path[256], request[1024];

    reader->session = (uint32_t)(i % watch->sessions);
    reader->small = reader->stopped = i >= watch->watchers;
    reader->placed = watch->from >= 0;
    reader->seq = watch->from >= 0 ? (uint64_t)watch->from : 0;
    put_path(path, sizeof(path), watch->path, reader->session);
    int n =
        snprintf(request, sizeof(request),
                 "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%s%s%s\r\n",
                 path, watch->last_event_id != NULL ? "Last-Event-ID: " : "",
                 watch->last_event_id != NULL ? watch->last_event_id : "",
                 watch->last_event_id != NULL ? "\r\n" : "");
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = reader};
    if (!reader_connect(reader, &watch->address, request, (size_t)n) ||
        epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, reader->fd, &event) != 0)
        watch->error = strerror(errno);
}

static void connect_all(struct watch *watch)
{
    uint64_t all = watch->watchers + watch->stopped;

    watch->readers = must_alloc(all, sizeof(*watch->readers));
    for (uint64_t i = watch->watchers; i < all && watch->error == NULL; i++)
        connect_one(watch, i);
    go_on_until(watch, all_stopped_readable, "the stopped watchers had begun");
    for (uint64_t i = 0; i < watch->watchers && watch->error == NULL; i++) {
        connect_one(watch, i);
        watch->connected++;
        if ((i + 1) % CONNECTING_AT_ONCE == 0 || i + 1 == watch->watchers)
            go_on_until(watch, all_connected_begun, "all watchers had begun");
    }
}

static void connect_lanes(struct watch *watch)
{
    watch->lanes = must_alloc(watch->writers, sizeof(*watch->lanes));
    for (uint64_t i = 0; i < watch->writers && watch->error == NULL; i++) {
        struct lane *lane = &watch->lanes[i];
        lane->request = must_alloc(HEAD_ROOM + watch->batch * (COMMAND_ROOM + watch->bytes), 1);
        if (!http_connect(&lane->http, &watch->address) ||
            !http_watch(&lane->http, watch->epoll_fd))
            watch->error = strerror(errno);
    }
}

/* ---- what is done */

/* Lets the stopped ones read, from the edge that they have ignored. */
static void wake_stopped(struct watch *watch)
{
    for (uint64_t i = watch->watchers; i < watch->watchers + watch->stopped; i++) {
        watch->readers[i].stopped = false;
        watch->readers[i].headed = false;
        if (watch->error == NULL)
            on_readable(watch, &watch->readers[i], 0);
    }
    go_on_until(watch, stopped_level, "the stopped watchers were told everything");
}

static void begin_writing(struct watch *watch)
{
    for (uint64_t i = 0; i < watch->watchers; i++)
        watch->heads[watch->readers[i].session] = watch->readers[i].seq;
    watch->base = watch->all_told = watch->heads[0];
    if (watch->sessions == 1 && watch->writers != 0 && (watch->ahead != 0 || watch->rate > 0))
        watch->places = must_alloc(WINDOW_EVENTS, sizeof(*watch->places));
    connect_lanes(watch);
    watch->due_ns = samples_now_ns();
    watch->writing = watch->writers != 0;
}

static void tell(struct watch *watch, const struct reader_counts *before, uint64_t answered,
                 double seconds, double cpu, double server_cpu)
{
    const struct reader_counts *now = &watch->counts;
    uint64_t messages = now->messages - before->messages, reads = now->reads - before->reads;
    uint64_t patches = now->patches - before->patches, bytes = now->bytes - before->bytes;

    printf("watchers=%llu s=%.3f events_per_s=%.0f patches_per_s=%.0f messages_per_s=%.0f "
           "MB_per_s=%.1f bytes_each=%.1f a_read=%.1f merged=%llu resets=%llu late=%llu "
           "cpu=%.0f server_cpu=%.0f",
           (unsigned long long)watch->watchers, seconds, (double)answered / seconds,
           (double)patches / seconds, (double)messages / seconds, (double)bytes / seconds / 1e6,
           messages != 0 ? (double)bytes / (double)messages : 0,
           reads != 0 ? (double)messages / (double)reads : 0,
           (unsigned long long)(now->merged - before->merged),
           (unsigned long long)(now->resets - before->resets), (unsigned long long)watch->late,
           100 * cpu / seconds, 100 * server_cpu / seconds);
    if (watch->stopped != 0)
        printf(" stopped=%llu stopped_merged=%llu stopped_resets=%llu",
               (unsigned long long)watch->stopped, (unsigned long long)watch->stopped_counts.merged,
               (unsigned long long)watch->stopped_counts.resets);
    samples_print(&watch->answer, "answer");
    samples_print(&watch->last, "last");
    samples_print(&watch->after, "after");
    putchar('\n');
}

static void measure(struct watch *watch)
{
    begin_writing(watch);
    if (watch->writers == 0)
        go_on_until(watch, all_patched, "all watchers had a patch");
    go_on_for(watch, watch->warmup);
    struct reader_counts before = watch->counts;
    uint64_t answered = watch->answered, began_ns = samples_now_ns();
    double cpu = samples_cpu_s((uint64_t)getpid()), server_cpu = samples_cpu_s(watch->server_pid);
    watch->measuring = true;
    watch->late = 0;
    go_on_for(watch, watch->seconds);
    watch->measuring = watch->writing = false;
    double seconds = (double)(samples_now_ns() - began_ns) / 1e9;
    cpu = samples_cpu_s((uint64_t)getpid()) - cpu;
    server_cpu = samples_cpu_s(watch->server_pid) - server_cpu;
    answered = watch->answered - answered;
    struct reader_counts after = watch->counts;
    if (watch->writers != 0) {
        go_on_until(watch, all_answered, "all requests were answered");
        go_on_until(watch, watchers_level, "all watchers were told everything");
        wake_stopped(watch);
    }
    if (watch->error != NULL)
        return;
    struct reader_counts all = watch->counts;
    watch->counts = after;
    tell(watch, &before, answered, seconds, cpu, server_cpu);
    watch->counts = all;
}

static void resume(struct watch *watch, uint64_t began_ns)
{
    go_on_until(watch, all_patched, "all watchers had a patch");
    double patched = (double)(samples_now_ns() - began_ns) / 1e6;
    go_on_until(watch, all_until, "all watchers were told everything");
    if (watch->error == NULL)
        printf("watchers=%llu first_ms=%.1f level_ms=%.1f patches=%llu messages=%llu merged=%llu "
               "resets=%llu MB=%.1f\n",
               (unsigned long long)watch->watchers, patched,
               (double)(samples_now_ns() - began_ns) / 1e6,
               (unsigned long long)watch->counts.patches,
               (unsigned long long)watch->counts.messages, (unsigned long long)watch->counts.merged,
               (unsigned long long)watch->counts.resets, (double)watch->counts.bytes / 1e6);
}

static void hold(struct watch *watch, uint64_t began_ns)
{
    if (watch->error != NULL)
        return;
    printf("begun=%llu s=%.3f\n", (unsigned long long)watch->begun,
           (double)(samples_now_ns() - began_ns) / 1e9);
    fflush(stdout);
    while (watch->error == NULL && !signalled)
        turn(watch, samples_now_ns() + 1000000000u);
}

/* ---- start */

static void usage(const char *what)
{
    fprintf(stderr,
            "watch: %s\nusage: watch --url http://ADDRESS:PORT --watchers N [--path PATH] "
            "[--sessions M]\n"
            "  [--from SEQ] [--last-event-id ID] [--until SEQ | --hold]\n"
            "  [--writers W] [--post PATH] [--write note|message|raw] [--bytes N] [--batch N]\n"
            "  [--rate R] [--ahead N] [--seconds S] [--warmup S] [--stopped N] "
            "[--server-pid PID]\n",
            what);
    exit(2);
}

static const struct option options[] = {
    {"url", required_argument, NULL, 'u'},        {"watchers", required_argument, NULL, 'n'},
    {"path", required_argument, NULL, 'p'},       {"sessions", required_argument, NULL, 'm'},
    {"from", required_argument, NULL, 'f'},       {"last-event-id", required_argument, NULL, 'i'},
    {"until", required_argument, NULL, 'U'},      {"hold", no_argument, NULL, 'h'},
    {"writers", required_argument, NULL, 'w'},    {"post", required_argument, NULL, 'P'},
    {"write", required_argument, NULL, 'k'},      {"bytes", required_argument, NULL, 'b'},
    {"batch", required_argument, NULL, 'B'},      {"rate", required_argument, NULL, 'r'},
    {"ahead", required_argument, NULL, 'a'},      {"seconds", required_argument, NULL, 's'},
    {"warmup", required_argument, NULL, 'W'},     {"stopped", required_argument, NULL, 'S'},
    {"server-pid", required_argument, NULL, 'c'}, {0},
};

static enum write_kind parse_kind(const char *text)
{
    static const char *const names[] = {
        [WRITE_NOTE] = "note", [WRITE_MESSAGE] = "message", [WRITE_RAW] = "raw"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0)
            return (enum write_kind)i;
    }
    usage("--write: note, message or raw");
    return WRITE_NOTE;
}

static void parse_option(struct watch *watch, int option)
{
    struct {
        int option;
        uint64_t *value;
    } numbers[] = {{'n', &watch->watchers}, {'m', &watch->sessions}, {'U', &watch->until},
                   {'w', &watch->writers},  {'b', &watch->bytes},    {'B', &watch->batch},
                   {'a', &watch->ahead},    {'S', &watch->stopped},  {'c', &watch->server_pid}};
    struct {
        int option;
        double *value;
    } reals[] = {{'r', &watch->rate}, {'s', &watch->seconds}, {'W', &watch->warmup}};
    struct {
        int option;
        const char **value;
    } texts[] = {
        {'u', &watch->url}, {'p', &watch->path}, {'P', &watch->post}, {'i', &watch->last_event_id}};

    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (numbers[i].option == option)
            *numbers[i].value = strtoull(optarg, NULL, 10);
    }
    for (unsigned i = 0; i < sizeof(reals) / sizeof(reals[0]); i++) {
        if (reals[i].option == option)
            *reals[i].value = strtod(optarg, NULL);
    }
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i].option == option)
            *texts[i].value = optarg;
    }
    if (option == 'f')
        watch->from = strtoll(optarg, NULL, 10);
    if (option == 'h')
        watch->hold = true;
    if (option == 'k')
        watch->kind = parse_kind(optarg);
}

static void parse_options(struct watch *watch, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == '?')
            usage("no such option, or one without its value");
        parse_option(watch, option);
    }
    if (watch->url == NULL || !http_parse_url(watch->url, &watch->address) || optind != argc)
        usage("--url: http://ADDRESS:PORT, and nothing behind the options");
    if (watch->watchers < 1 || watch->watchers > 100000 || watch->sessions < 1 ||
        watch->sessions > SESSIONS_MAX || watch->sessions > watch->watchers)
        usage("--watchers: 1 to 100000, and as many as --sessions at least");
    if (watch->writers > 1024 || watch->batch < 1 || watch->batch > 1000 || watch->bytes > 100000)
        usage("--writers: 1024 at most; --batch: 1 to 1000; --bytes: 100000 at most");
    if (watch->seconds <= 0 || watch->warmup < 0 || watch->rate < 0)
        usage("--seconds, --warmup, --rate: must not be negative");
    if (watch->ahead != 0 && (watch->sessions != 1 || watch->ahead < watch->batch))
        usage("--ahead: for one session, and not less than --batch");
    if (strlen(watch->path) > 200 || strlen(watch->post) > 200 ||
        (watch->last_event_id != NULL && strlen(watch->last_event_id) > 200))
        usage("--path, --post, --last-event-id: 200 bytes at most");
}

static int finish(struct watch *watch)
{
    const struct reader_counts *counts = &watch->counts, *stopped = &watch->stopped_counts;
    uint64_t gaps = counts->gaps + stopped->gaps, repeats = counts->repeats + stopped->repeats;

    if (watch->error != NULL)
        fprintf(stderr, "watch: %s\n", watch->error);
    if (gaps + repeats + counts->ends != 0)
        fprintf(stderr, "watch: %llu gaps, %llu repetitions, %llu ends\n", (unsigned long long)gaps,
                (unsigned long long)repeats, (unsigned long long)counts->ends);
    for (uint64_t i = 0; i < watch->watchers + watch->stopped; i++)
        reader_close(&watch->readers[i]);
    for (uint64_t i = 0; watch->lanes != NULL && i < watch->writers; i++) {
        http_close(&watch->lanes[i].http);
        free(watch->lanes[i].request);
    }
    free(watch->lanes);
    free(watch->readers);
    free(watch->heads);
    free(watch->places);
    samples_free(&watch->answer);
    samples_free(&watch->last);
    samples_free(&watch->after);
    /* Raw frames are numbered by who sends them: over several connections there is no order. */
    bool ordered = watch->kind != WRITE_RAW;
    return watch->error != NULL || (ordered && gaps + repeats != 0) || counts->ends != 0;
}

int main(int argc, char **argv)
{
    struct watch watch = {.path = "/v1/sessions/w{}/stream",
                          .post = "/v1/sessions/w{}/commands",
                          .sessions = 1,
                          .batch = 1,
                          .bytes = 220,
                          .from = -1,
                          .seconds = 5,
                          .warmup = 1};
    struct sigaction action = {.sa_handler = on_signal};

    parse_options(&watch, argc, argv);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    watch.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch.heads = must_alloc(watch.sessions, sizeof(*watch.heads));
    uint64_t began_ns = samples_now_ns();
    connect_all(&watch);
    if (watch.hold)
        hold(&watch, began_ns);
    else if (watch.until != 0)
        resume(&watch, began_ns);
    else if (watch.error == NULL)
        measure(&watch);
    int result = finish(&watch);
    close(watch.epoll_fd);
    return result;
}
