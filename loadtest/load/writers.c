#include "writers.h"

#include "ask.h"
#include "http.h"
#include "process.h"
#include "watchers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum {
    HEAD_ROOM = 512 + HTTP_HOST_BYTES,
    COMMAND_ROOM = 256, /* of a command, besides what it is filled up with */
};

/* What of a patch is no filling. Of a note's, besides twice the digits of its seq:
 *   event: patch / id: E-S-1 / data: {"seq":S,"ts":…,"type":"agent.updated","actor":"a1","ops":
 *   [{"op":"replace","path":"/agents/a1/note","value":"…"}]}
 * of one as nchan tells it, besides the digits of the seq (it counts within a second, mostly with
 * three digits): event: patch / id: 1795274704:123 / data: {"seq":S,"text":"…"}
 * and of one as better-sse does: event: message / id: … / data: {"seq":S,"text":"…"} */
enum { NOTE_OVERHEAD_BYTES = 173, RAW_OVERHEAD_BYTES = 58, TEXT_OVERHEAD_BYTES = 85 };

struct writer {
    struct loop_source source; /* first: the loop gives this pointer back */
    struct writers *all;
    struct http http;
    bool busy;
    unsigned number;
    uint64_t session, next_session; /* of what is under way; of what comes next */
    unsigned marked;                /* as which writer, in verify.h's sense */
    uint64_t began_ns;
    uint64_t first; /* seq of the first event of what is under way, if it is the only writer */
    char *request;
};

static uint64_t digits(uint64_t value)
{
    uint64_t n = 1;
    while (value >= 10) {
        value /= 10;
        n++;
    }
    return n;
}

/* Each session has one writer alone. */
static bool one_each(const struct writers *all)
{
    return all->n <= all->sessions;
}

static bool knows_seqs(const struct writers *all)
{
    return all->kind == WRITERS_RAW || one_each(all);
}

/* ---- requests */

/* The command that makes event `seq`, about; returns its size. */
static size_t put_command(struct writers *all, struct writer *writer, uint64_t seq, char *out)
{
    uint64_t fill = all->bytes, used = MARKER_BYTES;
    char *p = out;

    if (all->kind == WRITERS_NOTE) {
        p += sprintf(p, "{\"type\":\"agent.update\",\"agent\":\"a1\",\"note\":\"");
        used += NOTE_OVERHEAD_BYTES + 2 * digits(seq);
    } else if (all->kind == WRITERS_MESSAGE) {
        p += sprintf(p, "{\"type\":\"message.send\",\"thread\":\"work\",\"sender\":\"a1\","
                        "\"content\":\"");
    } else if (all->kind == WRITERS_RAW) {
        p += sprintf(p, "{\"seq\":%llu,\"text\":\"", (unsigned long long)seq);
        used += RAW_OVERHEAD_BYTES + digits(seq);
    } else {
        used += TEXT_OVERHEAD_BYTES + digits(seq);
    }
    struct verify_writer *marked = &all->verify->writers[writer->marked];
    marker_put(p, all->verify, writer->marked, marked->sent++);
    p += MARKER_BYTES;
    fill = fill > used ? fill - used : 0;
    memset(p, 'x', fill);
    p += fill;
    if (all->kind != WRITERS_TEXT) {
        memcpy(p, "\"}", 2);
        p += 2;
    }
    return (size_t)(p - out);
}

static size_t put_body(struct writers *all, struct writer *writer, uint64_t first, char *body)
{
    size_t size = 0;

    if (all->batch == 1)
        return put_command(all, writer, first, body);
    for (uint64_t i = 0; i < all->batch; i++) {
        body[size++] = i == 0 ? '[' : ',';
        size += put_command(all, writer, first + i, body + size);
    }
    body[size++] = ']';
    return size;
}

/* The next request of a writer, which counts from `began_ns`. */
static void write_next(struct writers *all, struct writer *writer, uint64_t began_ns)
{
    char *body = writer->request + HEAD_ROOM, head[HEAD_ROOM], path[WATCHERS_PATH_BYTES + 32];
    uint64_t session = writer->next_session, first = all->sent[session] + 1;

    writer->marked = one_each(all) ? (unsigned)session : writer->number;
    size_t size = put_body(all, writer, first, body);

    watchers_put_path(path, sizeof(path), all->path, session);
    int n = snprintf(head, sizeof(head),
                     "POST %s HTTP/1.1\r\n%sContent-Type: %s\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     path, http_host, all->kind == WRITERS_TEXT ? "text/plain" : "application/json",
                     size);
    memcpy(body - n, head, (size_t)n);
    writer->busy = true;
    writer->session = session;
    if (one_each(all))
        writer->next_session = session + all->n < all->sessions ? session + all->n : writer->number;
    writer->began_ns = began_ns;
    writer->first = first;
    all->sent[session] += all->batch;
    all->requests++;
    if (all->deliveries != NULL && knows_seqs(all))
        deliveries_sent(all->deliveries, session, first, all->batch, began_ns);
    if (http_send(&writer->http, body - n, size + (size_t)n) == HTTP_FAILED)
        loop_fail(all->loop, "a writer: %s", writer->http.error);
}

/* ---- answers */

/* The seqs of an answer: {"seq":N,…} or {"results":[{"status":200,"seq":FIRST…}…],"seq":N}. */
static bool find_seqs(const struct http *http, uint64_t *first, uint64_t *last)
{
    static const char key[] = "\"seq\":";
    const char *end = http->body + http->body_size;
    const char *at = find_member(http->body, end, "seq");

    if (at == NULL)
        return false;
    *first = *last = strtoull(at, NULL, 10);
    if (http->body[2] != 'r')
        return true;
    for (at = end - sizeof(key); at > http->body && memcmp(at, key, sizeof(key) - 1) != 0;)
        at--;
    *last = strtoull(at + sizeof(key) - 1, NULL, 10);
    return true;
}

static void take_seqs(struct writers *all, struct writer *writer, uint64_t now_ns)
{
    uint64_t first = writer->first, last = first + all->batch - 1, *head;

    if (all->kind != WRITERS_RAW && !find_seqs(&writer->http, &first, &last)) {
        loop_fail(all->loop, "session %llu: an answer without a seq: %s",
                  (unsigned long long)writer->session, writer->http.tail);
        return;
    }
    if (last - first + 1 != all->batch || last > all->sent[writer->session] ||
        (knows_seqs(all) && first != writer->first)) {
        loop_fail(
            all->loop,
            "session %llu: a request of %llu commands made the events %llu to %llu, where %llu "
            "is the next: refused in part, or somebody else writes",
            (unsigned long long)writer->session, (unsigned long long)all->batch,
            (unsigned long long)first, (unsigned long long)last, (unsigned long long)writer->first);
        return;
    }
    head = &all->heads[writer->session];
    *head = last > *head ? last : *head;
    if (all->deliveries != NULL)
        deliveries_answered(all->deliveries, writer->session, first, all->batch, writer->began_ns,
                            now_ns);
}

static void on_answer(struct writers *all, struct writer *writer)
{
    uint64_t now_ns = process_now_ns();

    if (writer->http.status < 200 || writer->http.status > 299) {
        loop_fail(all->loop, "a command: %d …%s", writer->http.status, writer->http.tail);
        return;
    }
    writer->busy = false;
    all->answered++;
    all->verify->writers[writer->marked].acknowledged += all->batch;
    if (meter_takes(all->meter, writer->began_ns))
        histogram_add(&all->answer, now_ns - writer->began_ns);
    take_seqs(all, writer, now_ns);
}

static void on_ready(struct loop_source *source, uint32_t events)
{
    struct writer *writer = (struct writer *)source;
    struct writers *all = writer->all;

    (void)events;
    if (!writer->busy)
        return;
    enum http_result result = http_go_on(&writer->http);
    if (result == HTTP_FAILED)
        loop_fail(all->loop, "a writer: %s", writer->http.error);
    else if (result == HTTP_DONE)
        on_answer(all, writer);
}

/* ---- when to write */

static bool may_write(const struct writers *all, const struct writer *writer)
{
    uint64_t session = writer->next_session, most;

    if (writer->busy)
        return false;
    if (all->deliveries == NULL)
        return true;
    most = all->ahead != 0 ? all->ahead : all->deliveries->window;
    return all->sent[session] + all->batch - deliveries_done(all->deliveries, session) <= most;
}

static bool goes_on(const struct writers *all)
{
    return all->writing && all->loop->error == NULL &&
           (all->count == 0 || all->requests < all->count);
}

uint64_t writers_due(void *context, uint64_t now_ns)
{
    struct writers *all = context;
    uint64_t apart_ns = all->rate > 0 ? (uint64_t)(1e9 / all->rate) : 0;

    for (uint64_t i = 0; i < all->n && goes_on(all); i++) {
        struct writer *writer = &all->writers[all->next++ % all->n];
        if (apart_ns != 0 && (now_ns < all->due_ns || all->due_ns >= all->stop_ns))
            break;
        if (!may_write(all, writer))
            continue;
        write_next(all, writer, apart_ns != 0 ? all->due_ns : now_ns);
        all->due_ns += apart_ns;
        all->late += apart_ns != 0 && now_ns > all->due_ns;
    }
    bool waits = goes_on(all) && apart_ns != 0 && all->due_ns < all->stop_ns;
    return waits && all->due_ns > now_ns ? all->due_ns : UINT64_MAX;
}

void writers_begin(struct writers *writers)
{
    writers->due_ns = process_now_ns();
    writers->stop_ns = UINT64_MAX;
    writers->writing = writers->n != 0;
}

void writers_end(struct writers *writers)
{
    writers->stop_ns = process_now_ns();
    writers->writing = writers->rate > 0;
}

bool writers_answered(const void *context)
{
    const struct writers *writers = context;
    return writers->answered == writers->requests &&
           (!writers->writing || writers->due_ns >= writers->stop_ns);
}

/* ---- start and end */

static void connect_one(struct writers *all, unsigned number)
{
    struct writer *writer = &all->writers[number];

    *writer = (struct writer){.source.ready = on_ready,
                              .all = all,
                              .number = number,
                              .next_session = number % all->sessions,
                              .request =
                                  malloc(HEAD_ROOM + 2 + all->batch * (COMMAND_ROOM + all->bytes))};
    if (!http_connect(&writer->http, all->address))
        loop_fail(all->loop, "writer %u cannot connect: %s", number, strerror(errno));
    writer->http.keep_body = true;
    if (writer->request == NULL)
        loop_fail(all->loop, "there is no memory for writer %u", number);
    if (all->loop->error == NULL)
        loop_add(all->loop, writer->http.fd, EPOLLIN | EPOLLOUT, &writer->source);
}

void writers_verify(struct writers *writers, const struct load_options *options,
                    struct report *report)
{
    unsigned n = (unsigned)(one_each(writers) ? writers->sessions : writers->n);

    verify_open(writers->verify, options, report, n, (unsigned)writers->sessions,
                (unsigned)writers->batch);
    writers->verify->fixed = true;
}

void writers_connect(struct writers *all)
{
    all->writers = calloc(all->n != 0 ? all->n : 1, sizeof(*all->writers));
    all->heads = calloc(all->sessions, sizeof(*all->heads));
    all->sent = calloc(all->sessions, sizeof(*all->sent));
    if (all->writers == NULL || all->heads == NULL || all->sent == NULL) {
        loop_fail(all->loop, "there is no memory for %llu writers", (unsigned long long)all->n);
        return;
    }
    for (unsigned i = 0; i < all->n; i++)
        all->writers[i].http.fd = -1;
    for (unsigned i = 0; i < all->n && all->loop->error == NULL; i++)
        connect_one(all, i);
}

void writers_place(struct writers *writers, uint64_t session, uint64_t seq)
{
    writers->heads[session] = writers->sent[session] = seq;
}

void writers_close(struct writers *all)
{
    for (uint64_t i = 0; all->writers != NULL && i < all->n; i++) {
        http_close(&all->writers[i].http);
        free(all->writers[i].request);
    }
    free(all->writers);
    free(all->heads);
    free(all->sent);
    all->writers = NULL;
    all->heads = all->sent = NULL;
}
