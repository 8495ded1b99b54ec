#include "target.h"

#include "ask.h"
#include "options.h"
#include "prepare.h"
#include "redis.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_DIGITS = 10, PATH_BYTES = 512, KEY_BYTES = 64 };

static const char command_begin[] =
    "{\"type\":\"message.send\",\"thread\":\"work\",\"sender\":\"a1\",\"content\":\"";
static const char command_end[] = "\"}";

/* ---- making the parts */

/* The commands of a request as JSON, markers left open; `marker_at` is set, `message_bytes` too. */
static void put_commands(struct target *target, struct text *text)
{
    bool array = target->batch > 1;

    if (array)
        text_add(text, "[", 1);
    target->marker_at = text->n + sizeof(command_begin) - 1;
    for (unsigned i = 0; i < target->batch; i++) {
        if (i != 0)
            text_add(text, ",", 1);
        text_add(text, command_begin, sizeof(command_begin) - 1);
        memset(text_room(text, target->options->payload_bytes), 'x',
               target->options->payload_bytes);
        text->n += target->options->payload_bytes;
        text_add(text, command_end, sizeof(command_end) - 1);
    }
    target->message_bytes =
        sizeof(command_begin) + sizeof(command_end) - 2 + target->options->payload_bytes + 1;
    if (array)
        text_add(text, "]", 1);
}

/* "POST …/bench" and "/commands …", with the head's end and the body. */
static void make_http(struct target *target, const char *path)
{
    struct text before = {0}, behind = {0}, body = {0};
    const char *hole = strstr(path, "{}");

    target->numbered = hole != NULL;
    put_commands(target, &body);
    text_format(&before, "POST %.*s", hole != NULL ? (int)(hole - path) : (int)strlen(path), path);
    text_format(&behind,
                "%s HTTP/1.1\r\n%sContent-Type: application/json\r\n"
                "Content-Length: %zu\r\n\r\n",
                hole != NULL ? hole + 2 : "", http_host, body.n);
    target->marker_at += behind.n;
    text_add(&behind, body.p, body.n);
    free(body.p);
    target->before = before.p;
    target->before_n = before.n;
    target->behind = behind.p;
    target->behind_n = behind.n;
    target->room = before.n + NUMBER_DIGITS + behind.n;
}

static void make_redis(struct target *target)
{
    char key[KEY_BYTES], *command;
    unsigned payload = target->options->payload_bytes;
    char *content = malloc(payload + 1);

    target->key_n = redis_put_key(key, target->options->prefix, 0);
    command = malloc(redis_add_room(target->key_n, payload));
    if (content == NULL || command == NULL)
        option_refuse("out of memory");
    memset(content, 'x', payload);
    target->message_bytes =
        redis_put_add(command, key, target->key_n, content, payload, &target->marker_at);
    target->key_at =
        (size_t)((char *)memmem(command, target->message_bytes, key, target->key_n) - command);
    free(content);
    target->behind = command; /* one command */
    target->room = target->message_bytes * target->batch;
}

void target_open(struct target *target, const struct load_options *options, struct verify *verify,
                 const char *path)
{
    char atoll_path[PATH_BYTES];
    unsigned padding = options->payload_bytes - MARKER_BYTES;

    *target = (struct target){.options = options,
                              .verify = verify,
                              .redis = strcmp(options->target, "redis") == 0,
                              .atoll = strcmp(options->target, "atoll") == 0,
                              .batch = options->batch};
    if (options->payload_bytes < MARKER_BYTES)
        option_refuse("--payload is %u, and has to be at least %d: each content begins with a "
                      "marker by which it is found again",
                      options->payload_bytes, MARKER_BYTES);
    if (path != NULL && strcmp(options->target, "http") != 0)
        option_refuse("--path is for --target http");
    if (path != NULL && (path[0] != '/' || strlen(path) > PATH_BYTES - LOAD_PREFIX_BYTES))
        option_refuse("--path is \"%s\", and has to begin with / and be of at most %d bytes", path,
                      PATH_BYTES - LOAD_PREFIX_BYTES);
    snprintf(atoll_path, sizeof(atoll_path), "/v1/sessions/%s{}/commands", options->prefix);
    if (target->redis)
        make_redis(target);
    else
        make_http(target, path != NULL ? path : atoll_path);
    target->padding = malloc(padding + 2);
    if (target->padding == NULL)
        option_refuse("out of memory");
    memset(target->padding, 'x', padding);
    target->padding[padding] = target->redis ? '\r' : '"';
    verify->behind = target->padding;
    verify->behind_n = padding + 1;
    if (target->redis)
        verify->source = &redis_source;
}

void target_close(struct target *target)
{
    free(target->before);
    free(target->behind);
    free(target->padding);
}

bool target_prepare(struct target *target, struct report *report)
{
    if (target->atoll)
        return prepare_sessions(target->options, report, target->verify->base);
    return !target->redis || redis_since(target->verify);
}

/* ---- requests */

void target_fill(const struct target *target, char *buffer, unsigned writer)
{
    char *first = buffer;

    if (target->redis) {
        for (unsigned i = 0; i < target->batch; i++)
            memcpy(buffer + i * target->message_bytes, target->behind, target->message_bytes);
    } else {
        first = buffer + target->before_n + NUMBER_DIGITS;
        memcpy(first, target->behind, target->behind_n);
    }
    for (unsigned i = 0; i < target->batch; i++)
        marker_put(first + target->marker_at + i * target->message_bytes, target->verify, writer,
                   0);
}

/* Writes the decimal digits so that they end at `end`; returns where they begin. */
static char *put_number(char *end, unsigned number)
{
    do
        *--end = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    return end;
}

static struct drive_request redis_request(const struct target *target, char *buffer,
                                          struct http *http, unsigned session, uint64_t counter)
{
    char key[KEY_BYTES];

    redis_put_key(key, target->options->prefix, session);
    for (unsigned i = 0; i < target->batch; i++) {
        char *command = buffer + i * target->message_bytes;
        memcpy(command + target->key_at, key, target->key_n);
        marker_count(command + target->marker_at, counter + i);
    }
    redis_expect(http, target->batch);
    return (struct drive_request){buffer, target->room};
}

struct drive_request target_request(const struct target *target, char *buffer, struct http *http,
                                    unsigned session, uint64_t counter)
{
    if (target->redis)
        return redis_request(target, buffer, http, session, counter);
    /* The part behind the number stays where it is; what is before it moves up to it. */
    char *behind = buffer + target->before_n + NUMBER_DIGITS;
    char *begin = target->numbered ? put_number(behind, session) : behind;
    begin -= target->before_n;
    memcpy(begin, target->before, target->before_n);
    for (unsigned i = 0; i < target->batch; i++)
        marker_count(behind + target->marker_at + i * target->message_bytes, counter + i);
    return (struct drive_request){begin, (size_t)(behind - begin) + target->behind_n};
}

/* ---- answers */

enum http_result (*target_go_on(const struct target *target))(struct http *http)
{
    return target->redis ? redis_go_on : http_go_on;
}

bool target_is_good(const struct target *target, const struct http *http)
{
    if (http->status < 200 || http->status > 299)
        return false;
    /* Of a batch the last commands' statuses are in the kept end; all others are read back. */
    return !target->atoll || target->batch == 1 ||
           (strstr(http->tail, "\"status\":200") != NULL &&
            strstr(http->tail, "\"status\":4") == NULL &&
            strstr(http->tail, "\"status\":5") == NULL);
}
