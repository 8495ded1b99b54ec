#include "watchers.h"

#include "http.h"
#include "mode.h"
#include "process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { CONNECTING_AT_ONCE = 1024 /* must fit into the server's backlog */ };

int watchers_put_path(char *out, size_t size, const char *path, uint64_t number)
{
    const char *hole = strstr(path, "{}");

    if (hole == NULL)
        return snprintf(out, size, "%s", path);
    return snprintf(out, size, "%.*s%llu%s", (int)(hole - path), path, (unsigned long long)number,
                    hole + 2);
}

/* ---- reading */

static bool has_begun(const struct watchers *watchers, const struct reader *reader)
{
    return watchers->from >= 0 || watchers->joins ? reader->headed : reader->placed;
}

static void on_told(void *context, struct reader *reader, uint64_t from, uint64_t seq)
{
    struct watchers *watchers = context;

    if (watchers->read_ns == 0)
        watchers->read_ns = process_now_ns();
    watchers->told(watchers->context, reader->session, from, seq, watchers->read_ns);
}

static void read_watcher(struct watchers *watchers, struct reader *reader, uint32_t events)
{
    bool begun = has_begun(watchers, reader), had_patch = reader->has_patch;
    const char *error;

    watchers->read_ns = 0;
    do
        error = reader_read(reader, &watchers->counts, watchers->told != NULL ? on_told : NULL,
                            watchers);
    while (error == NULL && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    if (error != NULL)
        loop_fail(watchers->loop, "a watcher of session %u, which stands at %llu: %s",
                  reader->session, (unsigned long long)reader->seq, error);
    watchers->begun += !begun && has_begun(watchers, reader);
    watchers->patched += !had_patch && reader->has_patch;
}

static void read_stopped(struct watchers *watchers, struct reader *reader)
{
    if (reader->stopped) { /* it has begun when it could read */
        watchers->readable += !reader->headed;
        reader->headed = true;
        return;
    }
    const char *error = reader_read(reader, &watchers->stopped_counts, NULL, NULL);
    if (error != NULL)
        loop_fail(watchers->loop, "a watcher that was stopped: %s", error);
}

static void on_ready(struct loop_source *source, uint32_t events)
{
    struct reader *reader = (struct reader *)source;
    struct watchers *watchers = reader->owner;

    if ((uint64_t)(reader - watchers->readers) < watchers->n)
        read_watcher(watchers, reader, events);
    else
        read_stopped(watchers, reader);
}

/* From the edge that they have ignored. */
void watchers_wake(struct watchers *watchers)
{
    for (uint64_t i = watchers->n; i < watchers->n + watchers->stopped; i++) {
        struct reader *reader = &watchers->readers[i];
        reader->stopped = reader->headed = false;
        if (watchers->loop->error == NULL)
            read_stopped(watchers, reader);
    }
}

/* ---- connecting */

static void connect_one(struct watchers *watchers, uint64_t i)
{
    struct reader *reader = &watchers->readers[i];
    char path[WATCHERS_PATH_BYTES + 32], request[1024 + HTTP_HOST_BYTES];
    const char *id = watchers->last_event_id;

    *reader = (struct reader){.source.ready = on_ready,
                              .owner = watchers,
                              .session = (uint32_t)(i % watchers->sessions),
                              .stopped = i >= watchers->n,
                              .small = i >= watchers->n,
                              .placed = watchers->from >= 0,
                              .joins = watchers->joins,
                              .unordered = watchers->unordered,
                              .seq = watchers->from >= 0 ? (uint64_t)watchers->from : 0};
    watchers_put_path(path, sizeof(path), watchers->path, reader->session);
    int n = snprintf(request, sizeof(request),
                     "GET %s HTTP/1.1\r\n%sAccept: text/event-stream\r\n%s%s%s\r\n", path,
                     http_host, id != NULL ? "Last-Event-ID: " : "", id != NULL ? id : "",
                     id != NULL ? "\r\n" : "");
    if (reader_connect(reader, watchers->address, request, (size_t)n))
        loop_add(watchers->loop, reader->fd, EPOLLIN | EPOLLRDHUP, &reader->source);
    else
        loop_fail(watchers->loop, "watcher %llu cannot connect: %s", (unsigned long long)i,
                  strerror(errno));
}

static bool connected_have_begun(const void *context)
{
    const struct watchers *watchers = context;
    return watchers->begun == watchers->connected;
}

static bool stopped_are_readable(const void *context)
{
    const struct watchers *watchers = context;
    return watchers->readable == watchers->stopped;
}

void watchers_connect(struct watchers *watchers)
{
    struct loop *loop = watchers->loop;
    uint64_t all = watchers->n + watchers->stopped;

    watchers->readers = calloc(all != 0 ? all : 1, sizeof(*watchers->readers));
    if (watchers->readers == NULL) {
        loop_fail(loop, "there is no memory for %llu watchers", (unsigned long long)all);
        return;
    }
    for (uint64_t i = 0; i < all; i++)
        watchers->readers[i].fd = -1;
    for (uint64_t i = watchers->n; i < all && loop->error == NULL; i++)
        connect_one(watchers, i);
    loop_until(loop, stopped_are_readable, watchers, "the stopped watchers had begun");
    for (uint64_t i = 0; i < watchers->n && loop->error == NULL; i++) {
        connect_one(watchers, i);
        watchers->connected++;
        if ((i + 1) % CONNECTING_AT_ONCE == 0 || i + 1 == watchers->n)
            loop_until(loop, connected_have_begun, watchers, "all watchers had begun");
        if (load_stopped)
            loop_fail(loop, "stopped by a signal while connecting");
    }
}

/* ---- where they stand */

uint64_t watchers_of(const struct watchers *watchers, uint64_t session)
{
    return watchers->n / watchers->sessions + (session < watchers->n % watchers->sessions);
}

static bool level(const struct reader *readers, uint64_t n, const uint64_t *heads)
{
    for (uint64_t i = 0; i < n; i++) {
        if (readers[i].seq < heads[readers[i].session])
            return false;
    }
    return true;
}

bool watchers_level(const struct watchers *watchers, const uint64_t *heads)
{
    return level(watchers->readers, watchers->n, heads);
}

bool watchers_stopped_level(const struct watchers *watchers, const uint64_t *heads)
{
    return level(watchers->readers + watchers->n, watchers->stopped, heads);
}

void watchers_close(struct watchers *watchers)
{
    if (watchers->readers == NULL)
        return;
    for (uint64_t i = 0; i < watchers->n + watchers->stopped; i++)
        reader_close(&watchers->readers[i]);
    free(watchers->readers);
    watchers->readers = NULL;
}
