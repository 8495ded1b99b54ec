#include "ask.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_TIMEOUT_MS = 60 * 1000, NAME_BYTES = 32 };

/* ---- text */

char *text_room(struct text *text, size_t n)
{
    if (text->n + n + 1 > text->room) {
        size_t room = 2 * (text->n + n + 1);
        char *p = realloc(text->p, room);
        if (p == NULL) {
            fprintf(stderr, "atoll-load: out of memory\n");
            exit(2);
        }
        text->p = p;
        text->room = room;
    }
    return text->p + text->n;
}

void text_add(struct text *text, const char *bytes, size_t n)
{
    char *p = text_room(text, n);

    memcpy(p, bytes, n);
    p[n] = '\0';
    text->n += n;
}

static void add_arguments(struct text *text, const char *format, va_list arguments)
{
    va_list again;

    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    vsnprintf(text_room(text, (size_t)n), (size_t)n + 1, format, again);
    va_end(again);
    text->n += (size_t)n;
}

void text_format(struct text *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add_arguments(text, format, arguments);
    va_end(arguments);
}

/* ---- requests */

void ask_get(struct text *text, const char *path, ...)
{
    va_list arguments;

    text->n = 0;
    text_add(text, "GET ", 4);
    va_start(arguments, path);
    add_arguments(text, path, arguments);
    va_end(arguments);
    text_format(text, " HTTP/1.1\r\n%s\r\n", http_host);
}

void ask_post(struct text *text, const char *body, size_t body_size, const char *path, ...)
{
    va_list arguments;

    text->n = 0;
    text_add(text, "POST ", 5);
    va_start(arguments, path);
    add_arguments(text, path, arguments);
    va_end(arguments);
    text_format(text,
                " HTTP/1.1\r\n%sContent-Type: application/json\r\n"
                "Content-Length: %zu\r\n\r\n",
                http_host, body_size);
    text_add(text, body, body_size);
}

/* ---- asking */

bool asker_open(struct asker *asker, const struct load_options *options)
{
    memset(asker, 0, sizeof(*asker));
    if (!http_connect(&asker->http, &options->address)) {
        fprintf(stderr, "atoll-load: %s: %s\n", options->url, strerror(errno));
        return false;
    }
    asker->http.keep_body = true;
    return true;
}

const char *asker_exchange(struct asker *asker, enum http_result (*go_on)(struct http *http))
{
    struct http *http = &asker->http;
    enum http_result result = http_send(http, asker->request.p, asker->request.n);

    while (result == HTTP_MORE) {
        bool sending = http->out_sent < http->out_size;
        struct pollfd ready = {http->fd, (short)(sending ? POLLIN | POLLOUT : POLLIN), 0};
        int n = poll(&ready, 1, ANSWER_TIMEOUT_MS);
        if (n == 0)
            return "no answer within a minute";
        if (n > 0)
            result = go_on(http);
        else if (errno != EINTR)
            return strerror(errno);
    }
    return result == HTTP_FAILED ? http->error : NULL;
}

const char *asker_ask(struct asker *asker)
{
    static _Thread_local char wrong[256];
    const struct http *http = &asker->http;
    const char *error = asker_exchange(asker, http_go_on);

    if (error != NULL)
        return error;
    if (http->status >= 200 && http->status <= 299)
        return NULL;
    snprintf(wrong, sizeof(wrong), "%d %.200s", http->status, http->body_size ? http->body : "");
    return wrong;
}

void asker_close(struct asker *asker)
{
    http_close(&asker->http);
    free(asker->request.p);
}

/* ---- answers */

const char *find_member(const char *p, const char *end, const char *name)
{
    char key[NAME_BYTES];
    size_t n = (size_t)snprintf(key, sizeof(key), "\"%s\":", name);

    p = memmem(p, (size_t)(end - p), key, n);
    if (p == NULL)
        return NULL;
    p += n;
    return p < end && *p == '"' ? p + 1 : p;
}

/* The string's inside ends where a quote is that is not escaped. */
static size_t inside(const char *p, const char *end)
{
    size_t n = 0;

    while (p + n < end && p[n] != '"')
        n += p[n] == '\\' && p + n + 1 < end ? 2 : 1;
    return n;
}

static json_t *decode(const char *p, size_t n)
{
    struct text quoted = {0};

    text_format(&quoted, "\"%.*s\"", (int)n, p);
    json_t *value = json_loadb(quoted.p, quoted.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    free(quoted.p);
    return value;
}

bool json_says(const char *p, const char *end, const char *text, size_t n)
{
    if ((size_t)(end - p) > n && memcmp(p, text, n) == 0 && p[n] == '"')
        return true;
    json_t *one = decode(p, inside(p, end)), *other = decode(text, n);
    bool same = one != NULL && json_equal(one, other);
    json_decref(one);
    json_decref(other);
    return same;
}

/* ---- reading back */

/* The member is sought from `p` on, which moves behind it; NULL ends the page. */
static const char *step(const char **p, const char *end, const char *name)
{
    return *p = *p != NULL ? find_member(*p, end, name) : NULL;
}

const char *asker_messages(struct asker *asker, const char *session,
                           void (*each)(void *context, const struct told *message), void *context)
{
    uint64_t next = 0;

    do {
        ask_get(&asker->request, "/v1/sessions/%s/events?type=message.sent&limit=1000&cursor=%llu",
                session, (unsigned long long)next);
        const char *wrong = asker_ask(asker);
        if (wrong != NULL)
            return wrong;
        const char *p = asker->http.body, *end = p + asker->http.body_size, *seq;
        struct told told = {.end = end};
        while ((seq = step(&p, end, "seq")) != NULL) {
            told.seq = strtoull(seq, NULL, 10);
            told.thread = step(&p, end, "thread");
            told.sender = step(&p, end, "sender");
            told.content = step(&p, end, "content");
            if (told.content == NULL)
                return "an event that should be a message is none";
            each(context, &told);
        }
        size_t tail = asker->http.body_size < NAME_BYTES ? asker->http.body_size : NAME_BYTES;
        const char *value = find_member(end - tail, end, "next");
        if (value == NULL)
            return "a page of events does not say which is the next";
        next = strtoull(value, NULL, 10);
    } while (next != 0);
    return NULL;
}
