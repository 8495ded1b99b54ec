#include "redis.h"

#include "ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { KEY_DIGITS = 9, PAGE_ENTRIES = 1000 };

/* ---- replies */

void redis_expect(struct http *http, unsigned replies)
{
    http->left = replies;
}

/* The line of a reply, without its end. Its `body_bytes` are what still follows it. */
static enum http_result take_line(struct http *http, const char *line, size_t n)
{
    long long number = n > 1 ? strtoll(line + 1, NULL, 10) : 0;

    http->left--;
    switch (n != 0 ? line[0] : '\0') {
    case '-':
        http->status = 500;
        http->tail_size = n < HTTP_TAIL_BYTES ? n : HTTP_TAIL_BYTES;
        memcpy(http->tail, line, http->tail_size);
        return HTTP_MORE;
    case '+':
    case ':':
        return HTTP_MORE;
    case '$':
        http->body_bytes = number >= 0 ? (uint64_t)number + 2 : 0;
        return HTTP_MORE;
    case '*':
        http->left += number > 0 ? (uint64_t)number : 0;
        return HTTP_MORE;
    default:
        http->error = "the answer is not of Redis' protocol";
        return HTTP_FAILED;
    }
}

/* Takes the end of a line, with what of it came before; `*taken` bytes of `p`. */
static enum http_result take_some(struct http *http, const char *p, size_t n, size_t *taken)
{
    if (http->body_bytes != 0) {
        *taken = n < http->body_bytes ? n : (size_t)http->body_bytes;
        http->body_bytes -= *taken;
        return HTTP_MORE;
    }
    const char *end = memchr(p, '\n', n);
    *taken = end != NULL ? (size_t)(end - p) + 1 : n;
    if (http->head_size + *taken >= HTTP_HEAD_BYTES) {
        http->error = "a line of the answer is too long";
        return HTTP_FAILED;
    }
    memcpy(http->head + http->head_size, p, *taken);
    http->head_size += *taken;
    if (end == NULL)
        return HTTP_MORE;
    size_t size = http->head_size >= 2 ? http->head_size - 2 : 0;
    http->head[size] = '\0';
    http->head_size = 0;
    return take_line(http, http->head, size);
}

static enum http_result take(struct http *http, const char *p, size_t n)
{
    enum http_result result = HTTP_MORE;

    if (http->keep_body && !http_keep(http, p, n)) {
        http->error = "no memory for the answer";
        return HTTP_FAILED;
    }
    while (n != 0 && result == HTTP_MORE && (http->left != 0 || http->body_bytes != 0)) {
        size_t taken;
        result = take_some(http, p, n, &taken);
        p += taken;
        n -= taken;
    }
    if (result == HTTP_FAILED || http->left != 0 || http->body_bytes != 0)
        return result;
    if (n != 0) {
        http->error = "there is more behind the answer";
        return HTTP_FAILED;
    }
    http->tail[http->tail_size] = '\0';
    http->status = http->status != 0 ? http->status : 200;
    http->state = HTTP_IDLE;
    return HTTP_DONE;
}

enum http_result redis_go_on(struct http *http)
{
    return http_receive(http, take);
}

/* ---- commands */

size_t redis_add_room(size_t key_size, size_t content_size)
{
    return key_size + content_size + 96;
}

size_t redis_put_add(char *out, const char *key, size_t key_size, const char *content,
                     size_t content_size, size_t *at)
{
    int n = sprintf(out, "*5\r\n$4\r\nXADD\r\n$%zu\r\n%.*s\r\n$1\r\n*\r\n$7\r\ncontent\r\n$%zu\r\n",
                    key_size, (int)key_size, key, content_size);
    size_t size = (size_t)n;

    if (at != NULL)
        *at = size;
    memcpy(out + size, content, content_size);
    memcpy(out + size + content_size, "\r\n", 2);
    return size + content_size + 2;
}

size_t redis_put_key(char *out, const char *prefix, unsigned session)
{
    return (size_t)sprintf(out, "%s%0*u", prefix, KEY_DIGITS, session);
}

/* ---- reading back */

/* Sends one command and waits for its reply, in the body. NULL, or what went wrong. */
static const char *ask(struct asker *asker)
{
    struct http *http = &asker->http;

    redis_expect(http, 1);
    const char *error = asker_exchange(asker, redis_go_on);
    if (error != NULL)
        return error;
    return http->status == 200 ? NULL : http->tail;
}

static void put_range(struct text *text, const char *key, const char *from)
{
    char count[16];
    int n = snprintf(count, sizeof(count), "%d", PAGE_ENTRIES);

    text->n = 0;
    text_format(text,
                "*6\r\n$6\r\nXRANGE\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n$1\r\n+\r\n$5\r\nCOUNT\r\n"
                "$%d\r\n%s\r\n",
                strlen(key), key, strlen(from), from, n, count);
}

/* The id of the page's last entry, "(" before it, so that the next page begins behind it. */
static void take_last(const char *body, char *next, size_t size)
{
    static const char fields[] = "\r\n*2\r\n$7\r\ncontent\r\n";
    const char *at = NULL, *found = body;

    next[0] = '\0';
    while ((found = strstr(found, fields)) != NULL)
        at = found++;
    if (at == NULL)
        return;
    const char *id = memrchr(body, '\n', (size_t)(at - body));
    if (id != NULL)
        snprintf(next, size, "(%.*s", (int)(at - id - 1), id + 1);
}

static void first(const struct verify *verify, unsigned session, char *next, size_t size)
{
    snprintf(next, size, "%llu", (unsigned long long)verify->base[session]);
}

static const char *page(const struct verify *verify, struct asker *asker, unsigned session,
                        char *next, size_t size)
{
    char key[64];

    redis_put_key(key, verify->options->prefix, session);
    put_range(&asker->request, key, next);
    const char *wrong = ask(asker);
    if (wrong == NULL)
        take_last(asker->http.body, next, size);
    return wrong;
}

const struct verify_source redis_source = {first, page, .whole = true};

bool redis_since(struct verify *verify)
{
    struct asker asker;

    if (!asker_open(&asker, verify->options))
        return false;
    asker.request.n = 0;
    text_format(&asker.request, "*1\r\n$4\r\nTIME\r\n");
    const char *wrong = ask(&asker);
    const char *seconds = wrong == NULL ? strchr(asker.http.body, '\n') : NULL;
    seconds = seconds != NULL ? strchr(seconds + 1, '\n') : NULL;
    if (seconds == NULL)
        fprintf(stderr, "atoll-load: %s: TIME: %s\n", verify->options->url,
                wrong != NULL ? wrong : "no time");
    for (unsigned s = 0; seconds != NULL && s < verify->sessions; s++)
        verify->base[s] = strtoull(seconds + 1, NULL, 10) * 1000;
    asker_close(&asker);
    return seconds != NULL;
}
