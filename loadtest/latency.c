/*
 * latency: one request after another over each of some connections, and how long answers took.
 *
 *   latency --url http://ADDRESS:PORT [--connections N] [--seconds S | --count N]
 *           [--range A-B] [--page NAME] PATH [BODY]
 *
 * With a BODY, which is JSON, the requests are POSTs, else GETs. `{}` in PATH becomes a number of
 * --range, drawn anew for each request (the same numbers on every run). With --page the answers are
 * pages: the member NAME ("next" or "cursor") at the end of each is given back as `cursor`, and
 * after the last page it begins again.
 *
 * Normal path: sends until the time (default 5 s) or the count is over, or SIGTERM comes, waits for
 * what is under way (not after SIGTERM), and prints one line, times in microseconds:
 *
 *   requests=99 s=5.0 per_s=19.8 p50_us=16.1 p99_us=21.0 p999_us=30.2 max_us=90.5 bytes=2633
 *
 * per_s counts what was answered in time. An answer other than 2xx, or none, ends it with status 1.
 */
#include "http.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES = 8192, CURSOR_BYTES = 256, EVENTS_AT_ONCE = 64 };

struct lane {
    struct http http; /* first: epoll gives this pointer back */
    uint64_t began_ns;
    bool busy;
    char cursor[CURSOR_BYTES]; /* of the next page; "": the first */
    char request[REQUEST_BYTES];
};

struct load {
    const char *url, *path, *body, *page;
    uint64_t connections, count, low, high;
    double seconds;
    uint64_t random;
    uint64_t began_ns, end_ns;
    uint64_t sent, under_way, in_time, bytes;
    uint64_t *samples_ns;
    size_t samples, room;
};

static volatile sig_atomic_t stopped;

static void on_signal(int signal)
{
    (void)signal;
    stopped = 1;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- requests */

/* splitmix64 */
static uint64_t draw(struct load *load)
{
    uint64_t z = load->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return load->low + (z ^ (z >> 31)) % (load->high - load->low + 1);
}

static void put_path(struct load *load, const struct lane *lane, char *out, size_t size)
{
    const char *hole = strstr(load->path, "{}");
    size_t n;

    if (hole == NULL)
        n = (size_t)snprintf(out, size, "%s", load->path);
    else
        n = (size_t)snprintf(out, size, "%.*s%llu%s", (int)(hole - load->path), load->path,
                             (unsigned long long)draw(load), hole + 2);
    if (lane->cursor[0] != '\0' && n < size)
        snprintf(out + n, size - n, "%ccursor=%s", strchr(load->path, '?') ? '&' : '?',
                 lane->cursor);
}

static enum http_result send_next(struct load *load, struct lane *lane)
{
    char path[2048];
    int n;

    put_path(load, lane, path, sizeof(path));
    if (load->body == NULL)
        n = snprintf(lane->request, sizeof(lane->request),
                     "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    else
        n = snprintf(lane->request, sizeof(lane->request),
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     path, strlen(load->body), load->body);
    load->sent++;
    load->under_way++;
    lane->busy = true;
    lane->began_ns = now_ns();
    return http_send(&lane->http, lane->request, (size_t)n);
}

/* Takes the cursor of the next page from the end of an answer. */
static void take_cursor(const struct load *load, struct lane *lane)
{
    char name[64];
    const char *at = NULL, *next = lane->http.tail;
    size_t n = 0;

    snprintf(name, sizeof(name), "\"%s\":", load->page);
    while ((next = strstr(next, name)) != NULL)
        at = next += strlen(name);
    if (at != NULL && strncmp(at, "null", 4) != 0) {
        for (at += *at == '"'; *at != '"' && *at != ',' && *at != '}' && *at != '\0'; at++) {
            if (n + 4 > sizeof(lane->cursor))
                break;
            bool plain = isalnum((unsigned char)*at) || strchr("-_.~", *at) != NULL;
            n += (size_t)snprintf(lane->cursor + n, 4, plain ? "%c" : "%%%02X", (unsigned char)*at);
        }
    }
    lane->cursor[n] = '\0';
}

/* ---- answers */

static void keep_sample(struct load *load, uint64_t took_ns)
{
    if (load->samples == load->room) {
        load->room = load->room != 0 ? 2 * load->room : 65536;
        load->samples_ns = realloc(load->samples_ns, load->room * sizeof(load->samples_ns[0]));
        if (load->samples_ns == NULL) {
            fprintf(stderr, "latency: out of memory\n");
            exit(1);
        }
    }
    load->samples_ns[load->samples++] = took_ns;
}

static int refuse(const struct load *load, const struct lane *lane)
{
    if (lane->http.error != NULL)
        fprintf(stderr, "latency: %s: %s\n", load->path, lane->http.error);
    else
        fprintf(stderr, "latency: %s: %d …%s\n", load->path, lane->http.status, lane->http.tail);
    return 1;
}

static bool goes_on(const struct load *load, uint64_t now)
{
    return !stopped && (load->count != 0 ? load->sent < load->count : now < load->end_ns);
}

static int lane_go_on(struct load *load, struct lane *lane)
{
    enum http_result result = http_go_on(&lane->http);

    if (result == HTTP_MORE)
        return 0;
    if (result == HTTP_FAILED || lane->http.status < 200 || lane->http.status > 299)
        return refuse(load, lane);
    uint64_t now = now_ns();
    lane->busy = false;
    load->under_way--;
    keep_sample(load, now - lane->began_ns);
    load->bytes += lane->http.body_bytes;
    load->in_time += load->count != 0 || now <= load->end_ns;
    if (load->page != NULL)
        take_cursor(load, lane);
    if (goes_on(load, now) && send_next(load, lane) == HTTP_FAILED)
        return refuse(load, lane);
    return 0;
}

static int run(struct load *load, struct lane *lanes, int epoll_fd)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int result = 0;

    load->began_ns = now_ns();
    load->end_ns = load->began_ns + (uint64_t)(load->seconds * 1e9);
    for (uint64_t i = 0; i < load->connections && goes_on(load, now_ns()); i++) {
        if (send_next(load, &lanes[i]) == HTTP_FAILED)
            return refuse(load, &lanes[i]);
    }
    while (result == 0 && load->under_way != 0 && !stopped) {
        int n = epoll_wait(epoll_fd, events, EVENTS_AT_ONCE, 1000);
        for (int i = 0; i < n && result == 0; i++) {
            struct lane *lane = events[i].data.ptr;
            if (lane->busy)
                result = lane_go_on(load, lane);
        }
    }
    return result;
}

/* ---- the line at the end */

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(const struct load *load, double percent)
{
    size_t at = (size_t)((double)load->samples * percent / 100);
    if (load->samples == 0)
        return 0;
    return (double)load->samples_ns[at < load->samples ? at : load->samples - 1] / 1e3;
}

static void tell(struct load *load)
{
    double seconds = (double)(now_ns() - load->began_ns) / 1e9;

    if (load->count == 0 && !stopped)
        seconds = load->seconds;
    if (load->samples != 0)
        qsort(load->samples_ns, load->samples, sizeof(load->samples_ns[0]), by_time);
    printf("requests=%zu s=%.3f per_s=%.1f p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f "
           "bytes=%llu\n",
           load->samples, seconds, (double)load->in_time / seconds, percentile_us(load, 50),
           percentile_us(load, 99), percentile_us(load, 99.9), percentile_us(load, 100),
           (unsigned long long)load->bytes);
}

/* ---- start */

static void usage(void)
{
    fprintf(stderr, "usage: latency --url http://ADDRESS:PORT [--connections N] "
                    "[--seconds S | --count N]\n               [--range A-B] [--page NAME] "
                    "PATH [BODY]\n");
    exit(2);
}

static void parse_options(struct load *load, int argc, char **argv)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},
        {"connections", required_argument, NULL, 'c'},
        {"count", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 's'},
        {"range", required_argument, NULL, 'r'},
        {"page", required_argument, NULL, 'p'},
        {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        unsigned long long low, high;
        if (option == 'u') {
            load->url = optarg;
        } else if (option == 'c') {
            load->connections = strtoull(optarg, NULL, 10);
        } else if (option == 'n') {
            load->count = strtoull(optarg, NULL, 10);
        } else if (option == 's') {
            load->seconds = strtod(optarg, NULL);
        } else if (option == 'p') {
            load->page = optarg;
        } else if (option == 'r' && sscanf(optarg, "%llu-%llu", &low, &high) == 2 && low <= high) {
            load->low = low;
            load->high = high;
        } else {
            usage();
        }
    }
    if (load->url == NULL || argc - optind < 1 || argc - optind > 2 || load->connections < 1 ||
        load->connections > 4096 || load->seconds <= 0)
        usage();
    load->path = argv[optind];
    load->body = argv[optind + 1]; /* NULL where there is none: argv ends with it */
    if (strlen(load->path) > 1024 || (load->body != NULL && strlen(load->body) > 4096))
        usage();
}

static int connect_all(const struct load *load, struct lane *lanes, int epoll_fd)
{
    struct sockaddr_in address;

    if (!http_parse_url(load->url, &address))
        usage();
    for (uint64_t i = 0; i < load->connections; i++) {
        if (!http_connect(&lanes[i].http, &address) || !http_watch(&lanes[i].http, epoll_fd)) {
            fprintf(stderr, "latency: %s: %s\n", load->url, strerror(errno));
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct load load = {.connections = 1, .seconds = 5};
    struct sigaction action = {.sa_handler = on_signal};

    parse_options(&load, argc, argv);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct lane *lanes = calloc(load.connections, sizeof(*lanes));
    if (lanes == NULL || epoll_fd < 0) {
        perror("latency");
        return 1;
    }
    int result = connect_all(&load, lanes, epoll_fd);
    if (result == 0)
        result = run(&load, lanes, epoll_fd);
    if (result == 0)
        tell(&load);
    for (uint64_t i = 0; i < load.connections; i++)
        http_close(&lanes[i].http);
    free(lanes);
    free(load.samples_ns);
    close(epoll_fd);
    return result;
}
