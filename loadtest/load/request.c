/*
 * request: requests of one kind over some connections, and how long answers took.
 *
 *   atoll-load request --url URL [OPTION]... PATH [BODY]
 *
 * With a BODY, which is JSON, the requests are POSTs, else GETs. `{}` in PATH becomes a number of
 * --range, drawn anew for each request (the same numbers with the same --seed). With --page the
 * answers are pages: the member of that name ("next" or "cursor") at the end of each is given back
 * as `cursor`, and after the last page it begins again.
 *
 * An answer other than 2xx is a problem, and no operation.
 */
#include "drive.h"
#include "mode.h"
#include "options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 1024, BODY_BYTES = 4096, REQUEST_BYTES = 8192, CURSOR_BYTES = 256 };

static const char *page;
static uint64_t count, low, high;

struct slot {
    char cursor[CURSOR_BYTES]; /* of the next page; "": the first */
    char request[REQUEST_BYTES];
};

struct asking {
    const char *path, *body; /* body NULL: GET */
    struct slot *slots;      /* of each connection */
    uint64_t random, bytes, bad;
    int first_bad;
    char first_text[160];
};

/* splitmix64 */
static uint64_t draw(struct asking *asking)
{
    uint64_t z = asking->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return low + (z ^ (z >> 31)) % (high - low + 1);
}

static void put_path(struct asking *asking, const struct slot *slot, char *out, size_t size)
{
    const char *hole = strstr(asking->path, "{}");
    size_t n;

    if (hole == NULL)
        n = (size_t)snprintf(out, size, "%s", asking->path);
    else
        n = (size_t)snprintf(out, size, "%.*s%llu%s", (int)(hole - asking->path), asking->path,
                             (unsigned long long)draw(asking), hole + 2);
    if (slot->cursor[0] != '\0')
        snprintf(out + n, size - n, "%ccursor=%s", strchr(asking->path, '?') ? '&' : '?',
                 slot->cursor);
}

static struct drive_request next(void *context, struct drive_lane *lane)
{
    struct asking *asking = context;
    struct slot *slot = &asking->slots[lane->number];
    char path[PATH_BYTES + CURSOR_BYTES + 64];
    int n;

    put_path(asking, slot, path, sizeof(path));
    if (asking->body == NULL)
        n = snprintf(slot->request, sizeof(slot->request), "GET %s HTTP/1.1\r\n%s\r\n", path,
                     http_host);
    else
        n = snprintf(slot->request, sizeof(slot->request),
                     "POST %s HTTP/1.1\r\n%sContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     path, http_host, strlen(asking->body), asking->body);
    return (struct drive_request){slot->request, (size_t)n};
}

/* Takes the cursor of the next page from the end of an answer, quoted as a query needs it. */
static void take_cursor(struct slot *slot, const char *tail)
{
    char name[64];
    const char *at = NULL, *found = tail;
    size_t n = 0;

    snprintf(name, sizeof(name), "\"%s\":", page);
    while ((found = strstr(found, name)) != NULL)
        at = found += strlen(name);
    if (at != NULL && strncmp(at, "null", 4) != 0) {
        for (at += *at == '"'; *at != '"' && *at != ',' && *at != '}' && *at != '\0'; at++) {
            if (n + 4 > sizeof(slot->cursor))
                break;
            bool plain = isalnum((unsigned char)*at) || strchr("-_.~", *at) != NULL;
            n += (size_t)snprintf(slot->cursor + n, 4, plain ? "%c" : "%%%02X", (unsigned char)*at);
        }
    }
    slot->cursor[n] = '\0';
}

static unsigned judge(void *context, struct drive_lane *lane)
{
    struct asking *asking = context;
    const struct http *http = &lane->http;

    if (http->status < 200 || http->status > 299) {
        if (asking->bad++ == 0) {
            asking->first_bad = http->status;
            snprintf(asking->first_text, sizeof(asking->first_text), "%.*s",
                     (int)sizeof(asking->first_text) - 1, http->tail);
        }
        return 0;
    }
    asking->bytes += http->body_bytes;
    if (page != NULL)
        take_cursor(&asking->slots[lane->number], http->tail);
    return 1;
}

static int run(const struct load_options *options, struct report *report)
{
    struct load_options own = *options;
    struct asking asking = {.random = options->seed};

    if (options->arguments_n == 0)
        option_refuse("request needs a PATH");
    asking.path = options->arguments[0];
    asking.body = options->arguments[1];
    if (asking.path[0] != '/' || strlen(asking.path) > PATH_BYTES)
        option_refuse("the PATH is \"%s\", and has to begin with / and be of at most %d bytes",
                      asking.path, PATH_BYTES);
    if (asking.body != NULL && strlen(asking.body) > BODY_BYTES)
        option_refuse("the BODY is of %zu bytes, and may be of at most %d", strlen(asking.body),
                      BODY_BYTES);
    if (count != 0)
        own.warmup_s = 0; /* all are counted */
    report_option(report, "warmup", "%g", own.warmup_s);
    report_option(report, "path", "%s", asking.path);
    report_option(report, "count", "%llu", (unsigned long long)count);
    asking.slots = calloc(options->connections, sizeof(asking.slots[0]));
    if (asking.slots == NULL)
        option_refuse("out of memory");
    struct drive_work work = {.context = &asking,
                              .next = next,
                              .judge = judge,
                              .go_on = http_go_on,
                              .operations = 1,
                              .count = count,
                              .what = "requests answered by 2xx"};
    bool connected = drive_run(&own, report, &work);
    report_figure(report, "body_bytes", (double)asking.bytes, "of all answers' bodies");
    if (asking.bad != 0)
        report_problem(report, "%llu requests were not answered by 2xx: the first was %d …%s",
                       (unsigned long long)asking.bad, asking.first_bad, asking.first_text);
    free(asking.slots);
    return connected ? 0 : 2;
}

static void defaults(struct load_options *options)
{
    options->connections = 1;
    options->warmup_s = 0;
}

static bool own_option(const char *name, const char *value)
{
    unsigned long long from, to;
    int end = 0;

    if (strcmp(name, "--count") == 0) {
        count = option_integer(name, value, 1, UINT32_MAX);
    } else if (strcmp(name, "--page") == 0) {
        page = value;
    } else if (strcmp(name, "--range") == 0) {
        if (sscanf(value, "%llu-%llu%n", &from, &to, &end) != 2 || value[end] != '\0' || from > to)
            option_refuse("--range is \"%s\", and has to be A-B, two whole numbers, A not above B",
                          value);
        low = from;
        high = to;
    } else {
        return false;
    }
    return true;
}

const struct mode mode_request = {
    .name = "request",
    .summary = "GETs or POSTs of one kind: request PATH [BODY]",
    .help = "  --count N          requests in all, in the place of --seconds\n"
            "  --range A-B        {} in PATH becomes one of these numbers, drawn anew each time\n"
            "  --page NAME        answers are pages, whose member NAME is the next one's cursor\n",
    .arguments_max = 2,
    .defaults = defaults,
    .option = own_option,
    .run = run,
};
