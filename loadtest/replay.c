/*
 * replay: plays a transcript of agents' conversations into a server over REST, then checks it.
 *
 *   replay FILE [--url URL] [--speed X] [--sessions-at-once N] [--prefix P]
 *
 * FILE is NDJSON, plain or gzip; see transcript.c. URL is http://HOST:PORT or unix:/path, by
 * default http://127.0.0.1:8080. With --speed messages keep their distances in time, X times
 * faster than they were (1: as they were); without it each follows the answer to the one before.
 *
 * Normal path of one session, many of them at once over keep-alive connections: create it,
 * register its agents, create its threads, send its messages in order, each waiting for its
 * answer, then page through what the server holds of each thread and compare: every message that
 * was acknowledged, under its seq, in order, with the same sender, content and mentions.
 *
 * 429 and 503 are tried again after Retry-After, with the same Idempotency-Key. Any other refusal
 * ends its session with a line on stderr; the others go on. Where a session exists already, or no
 * answer comes, no more sessions are begun, as they would fare the same. The exit status is 0 only
 * if everything was sent and is held as sent, 1 otherwise, 2 for wrong options.
 */
#include "transcript.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

enum {
    SESSIONS_AT_ONCE_MAX = 4096,
    TRIES_MAX = 100,       /* of one request that is answered 429 or 503 */
    FAULTS_SHOWN_MAX = 20, /* the others are only counted */
    ANSWER_TIMEOUT_S = 60,
    POLL_MS = 200,
};

/* The life of one session here. The middle three send one body for each entry of a list. */
enum phase { CREATE, AGENTS, THREADS, MESSAGES, CHECK, FINISHED };

struct buffer {
    char *bytes;
    size_t size;
};

/* One of the sessions being played, with the one request it has under way or waits to send. */
struct play {
    json_t *session; /* borrowed from the transcript; NULL: the place is free */
    const char *id;
    enum phase phase;
    size_t index;        /* CHECK: of the thread; else of the body in the phase's list */
    size_t expected;     /* CHECK: index of the message to be seen next, or later */
    json_int_t after;    /* CHECK: seq the next page begins behind */
    json_int_t last_seq; /* of the newest acknowledged message */
    uint64_t began_ns;   /* when the first message was due */
    uint64_t due_ns;     /* when the request may go */
    int tries;           /* of the request */
    bool busy;           /* the request is under way */
    char *body;          /* of the request; NULL for GET */
    char url_path[256];  /* of the request, without the server */
    struct curl_slist *headers;
    struct buffer answer;
    CURL *easy;
};

struct replay {
    const char *base_url;
    const char *socket_path; /* NULL: TCP */
    double speed;            /* 0: as fast as it goes */
    json_t *sessions;
    size_t next_session, finished, messages, sent, checked, retries, faults;
    uint64_t keys; /* how many Idempotency-Keys were made */
    uint64_t run;  /* random, so that no two replays share a key */
    bool stop;     /* begin no more sessions */
    bool on_tty, bar_shown;
    uint64_t began_ns, shown_ns;
    CURLM *multi;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * Where the replay stands, on stderr: a bar on a terminal ten times a second, else a line every
 * two seconds, and in any case when `last`.
 */
static void show_progress(struct replay *r, bool last)
{
    uint64_t now = now_ns();
    char bar[31];

    if (!last && now - r->shown_ns < (r->on_tty ? 100000000u : 2000000000u))
        return;
    r->shown_ns = now;
    size_t filled = r->messages == 0 ? 30 : r->sent * 30 / r->messages;
    memset(bar, '.', 30);
    memset(bar, '#', filled);
    bar[30] = '\0';
    if (r->on_tty)
        fprintf(stderr, "\r\033[K[%s] ", bar);
    fprintf(stderr, "%zu/%zu messages, %zu checked, %zu/%zu sessions%s", r->sent, r->messages,
            r->checked, r->finished, json_array_size(r->sessions), r->on_tty && !last ? "" : "\n");
    r->bar_shown = r->on_tty && !last;
}

__attribute__((format(printf, 3, 4))) static void fault(struct replay *r, const struct play *p,
                                                        const char *format, ...)
{
    va_list args;

    if (r->faults++ >= FAULTS_SHOWN_MAX)
        return;
    fprintf(stderr, "%ssession %s: ", r->bar_shown ? "\r\033[K" : "", p->id);
    r->bar_shown = false;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static size_t take_answer(char *bytes, size_t one, size_t size, void *data)
{
    struct buffer *b = data;
    char *more = realloc(b->bytes, b->size + one * size);

    if (more == NULL)
        return 0;
    memcpy(more + b->size, bytes, one * size);
    *b = (struct buffer){more, b->size + one * size};
    return one * size;
}

static const char *field(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

/* The list that the phase sends or checks one by one; NULL where there is none. */
static json_t *phase_list(const struct play *p)
{
    static const char *const keys[] = {NULL, "agents", "threads", "messages", "threads", NULL};
    return keys[p->phase] == NULL ? NULL : json_object_get(p->session, keys[p->phase]);
}

/* Sets path and body of the request for the play's phase and index, and when it may go. */
static void prepare_request(struct replay *r, struct play *p)
{
    json_t *entry = json_array_get(phase_list(p), p->index);
    json_t *body = json_incref(entry);
    const char *what = p->phase == AGENTS ? "/agents" : p->phase == THREADS ? "/threads" : "";
    char run[32];
    int n = snprintf(p->url_path, sizeof(p->url_path), "/v1/sessions%s%s%s",
                     p->phase == CREATE ? "" : "/", p->phase == CREATE ? "" : p->id, what);
    char *rest = p->url_path + n;
    size_t room = sizeof(p->url_path) - (size_t)n;

    p->due_ns = 0;
    if (p->phase == CREATE) {
        /* The label makes a session of an earlier run a conflict rather than the same wish again.
         */
        snprintf(run, sizeof(run), "%016llx", (unsigned long long)r->run);
        body = json_pack("{ss s{ss}}", "session", p->id, "labels", "replay", run);
    } else if (p->phase == MESSAGES) {
        snprintf(rest, room, "/threads/%s/messages", field(entry, "thread"));
        json_decref(body);
        body = json_incref(json_object_get(entry, "body"));
        double at_ms = (double)json_integer_value(json_object_get(entry, "at_ms"));
        if (p->index == 0)
            p->began_ns = now_ns();
        if (r->speed > 0 && at_ms > 0)
            p->due_ns = p->began_ns + (uint64_t)(at_ms * 1e6 / r->speed);
    } else if (p->phase == CHECK) {
        snprintf(rest, room, "/threads/%s/messages?after=%lld&limit=1000", field(entry, "thread"),
                 (long long)p->after);
        json_decref(body);
        body = NULL;
    }
    free(p->body);
    p->body = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
    json_decref(body);
    p->tries = 0;
}

/* Sends the prepared request, under a new key unless it was tried before. */
static void send_request(struct replay *r, struct play *p)
{
    char url[1024], key[64];

    if (p->tries++ == 0) {
        snprintf(url, sizeof(url), "%s%s", r->base_url, p->url_path);
        snprintf(key, sizeof(key), "Idempotency-Key: %016llx-%llu", (unsigned long long)r->run,
                 (unsigned long long)r->keys++);
        curl_slist_free_all(p->headers);
        p->headers = curl_slist_append(NULL, "Content-Type: application/json");
        p->headers = curl_slist_append(p->headers, "Expect:");
        p->headers = curl_slist_append(p->headers, key);
        curl_easy_setopt(p->easy, CURLOPT_URL, url);
        curl_easy_setopt(p->easy, CURLOPT_HTTPHEADER, p->body == NULL ? NULL : p->headers);
        if (p->body == NULL) {
            curl_easy_setopt(p->easy, CURLOPT_HTTPGET, 1L);
        } else {
            curl_easy_setopt(p->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(p->body));
            curl_easy_setopt(p->easy, CURLOPT_POSTFIELDS, p->body);
        }
    }
    p->answer.size = 0;
    p->busy = true;
    curl_multi_add_handle(r->multi, p->easy);
}

static void begin_session(struct replay *r, struct play *p)
{
    p->session = json_array_get(r->sessions, r->next_session++);
    p->id = field(p->session, "id");
    p->phase = CREATE;
    p->index = 0;
    p->last_seq = 0;
    prepare_request(r, p);
}

static void end_session(struct replay *r, struct play *p)
{
    r->finished++;
    p->session = NULL;
}

/* One entry of the phase is done: on to the next, or to the first of the next phase that has any.
 */
static void advance(struct replay *r, struct play *p)
{
    p->index++;
    while (p->phase != FINISHED && p->index >= json_array_size(phase_list(p))) {
        p->phase++;
        p->index = 0;
    }
    p->expected = 0;
    p->after = 0;
    if (p->phase == FINISHED)
        end_session(r, p);
    else
        prepare_request(r, p);
}

/* The next message sent to the thread being checked, or NULL. Leaves p->expected at it. */
static json_t *expected_message(struct play *p, const char *thread)
{
    json_t *messages = json_object_get(p->session, "messages"), *message;

    while ((message = json_array_get(messages, p->expected)) != NULL &&
           strcmp(field(message, "thread"), thread) != 0)
        p->expected++;
    return message;
}

static json_int_t seq_of(const json_t *object)
{
    return json_integer_value(json_object_get(object, "seq"));
}

static void compare_message(struct replay *r, struct play *p, const json_t *sent,
                            const json_t *held)
{
    const char *key;
    bool same = true;
    json_t *value;

    json_object_foreach (json_object_get(sent, "body"), key, value) {
        json_t *other = json_object_get(held, key);
        if (json_equal(value, other))
            continue;
        same = false;
        char *a = json_dumps(value, JSON_ENCODE_ANY), *b = json_dumps(other, JSON_ENCODE_ANY);
        fault(r, p, "thread %s, seq %lld: %s differs: sent %.100s, held %.100s",
              field(sent, "thread"), (long long)seq_of(sent), key, a, b == NULL ? "nothing" : b);
        free(a);
        free(b);
    }
    r->checked += same;
}

/* Says that messages acknowledged before `seq` are not there, and steps over them. */
static json_t *skip_missing(struct replay *r, struct play *p, const char *thread, json_int_t seq)
{
    json_t *sent = expected_message(p, thread);

    while (sent != NULL && seq_of(sent) < seq) {
        fault(r, p, "thread %s, seq %lld: acknowledged, but not held in this place", thread,
              (long long)seq_of(sent));
        p->expected++;
        sent = expected_message(p, thread);
    }
    return sent;
}

/* Compares one page of a thread with what was sent; seqs bring the two into step. */
static void check_page(struct replay *r, struct play *p, const json_t *page)
{
    const char *thread = field(json_array_get(phase_list(p), p->index), "thread");
    const json_t *next = json_object_get(page, "next");
    json_t *held;
    size_t i;

    json_array_foreach (json_object_get(page, "messages"), i, held) {
        const json_t *sent = skip_missing(r, p, thread, seq_of(held));
        if (sent == NULL || seq_of(sent) != seq_of(held)) {
            fault(r, p, "thread %s, seq %lld: held in this place, but not sent", thread,
                  (long long)seq_of(held));
            continue;
        }
        compare_message(r, p, sent, held);
        p->expected++;
    }
    if (json_is_integer(next) && json_integer_value(next) > p->after) {
        p->after = json_integer_value(next);
        prepare_request(r, p);
        return;
    }
    if (!json_is_null(next))
        fault(r, p, "thread %s: a page ends with a \"next\" that leads nowhere", thread);
    skip_missing(r, p, thread, INT64_MAX);
    advance(r, p);
}

/* What became of a message: its seq is kept, to be met again when the thread is checked. */
static void note_sent(struct replay *r, struct play *p, const json_t *answer)
{
    json_int_t seq = seq_of(answer);

    if (seq <= p->last_seq)
        fault(r, p, "message %zu was acknowledged as seq %lld, after seq %lld", p->index + 1,
              (long long)seq, (long long)p->last_seq);
    p->last_seq = seq;
    json_object_set_new(json_array_get(phase_list(p), p->index), "seq", json_integer(seq));
    r->sent++;
}

/* A refusal: tried again later if the server asks for that, else told, and the session ended. */
static void refused(struct replay *r, struct play *p, long status, const json_t *answer)
{
    curl_off_t wait_s = 0;

    if ((status == 429 || status == 503) && p->tries < TRIES_MAX) {
        curl_easy_getinfo(p->easy, CURLINFO_RETRY_AFTER, &wait_s);
        p->due_ns = now_ns() + (uint64_t)(wait_s > 0 ? wait_s : 1) * 1000000000u;
        r->retries++;
        return;
    }
    fault(r, p, "%s %s: %ld %s: %s", p->body == NULL ? "GET" : "POST", p->url_path, status,
          field(answer, "title"), field(answer, "detail"));
    if (status == 409 && p->phase == CREATE) {
        if (!r->stop)
            fprintf(stderr, "Sessions of these ids exist there already: choose a new --prefix.\n");
        r->stop = true;
    }
    end_session(r, p);
}

static void answered(struct replay *r, struct play *p, CURLcode result)
{
    long status = 0;

    p->busy = false;
    if (result != CURLE_OK) {
        fault(r, p, "%s: %s", p->url_path, curl_easy_strerror(result));
        r->stop = true;
        end_session(r, p);
        return;
    }
    curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
    json_t *answer = json_loadb(p->answer.bytes == NULL ? "" : p->answer.bytes, p->answer.size,
                                JSON_ALLOW_NUL, NULL);
    if (status < 200 || status > 299) {
        refused(r, p, status, answer);
    } else if (!json_is_object(answer)) {
        fault(r, p, "%s: %ld, but the answer is not a JSON object", p->url_path, status);
        end_session(r, p);
    } else if (p->phase == CHECK) {
        check_page(r, p, answer);
    } else {
        if (p->phase == MESSAGES)
            note_sent(r, p, answer);
        advance(r, p);
    }
    json_decref(answer);
}

/* Deals with the answers that are there; true if there were any. */
static bool take_answers(struct replay *r)
{
    CURLMsg *message;
    int left;
    bool any = false;

    while ((message = curl_multi_info_read(r->multi, &left)) != NULL) {
        struct play *p;
        CURLcode result = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&p);
        curl_multi_remove_handle(r->multi, message->easy_handle);
        answered(r, p, result);
        any = true;
    }
    return any;
}

/*
 * Begins sessions in free places and sends what is due. Gives how many ms nothing more will be
 * due; -1 when all is done.
 */
static int send_due(struct replay *r, struct play *plays, size_t count)
{
    uint64_t now = now_ns(), wait_ns = POLL_MS * UINT64_C(1000000);
    bool active = false;

    for (struct play *p = plays; p < plays + count; p++) {
        if (p->session == NULL && !r->stop && r->next_session < json_array_size(r->sessions))
            begin_session(r, p);
        if (p->session == NULL)
            continue;
        active = true;
        if (!p->busy && p->due_ns <= now)
            send_request(r, p);
        else if (!p->busy && p->due_ns - now < wait_ns)
            wait_ns = p->due_ns - now;
    }
    return active ? (int)(wait_ns / 1000000u) + (wait_ns < 1000000u) : -1;
}

static void run(struct replay *r, struct play *plays, size_t count)
{
    int wait_ms, running;

    while ((wait_ms = send_due(r, plays, count)) >= 0) {
        curl_multi_perform(r->multi, &running);
        bool any = take_answers(r);
        show_progress(r, false);
        if (!any)
            curl_multi_poll(r->multi, NULL, 0, wait_ms, NULL);
    }
}

static void play_init(struct replay *r, struct play *p)
{
    p->easy = curl_easy_init();
    curl_easy_setopt(p->easy, CURLOPT_PRIVATE, p);
    curl_easy_setopt(p->easy, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(p->easy, CURLOPT_WRITEDATA, &p->answer);
    curl_easy_setopt(p->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(p->easy, CURLOPT_TIMEOUT, (long)ANSWER_TIMEOUT_S);
    if (r->socket_path != NULL)
        curl_easy_setopt(p->easy, CURLOPT_UNIX_SOCKET_PATH, r->socket_path);
}

static void play_free(struct play *p)
{
    curl_easy_cleanup(p->easy);
    curl_slist_free_all(p->headers);
    free(p->answer.bytes);
    free(p->body);
}

static void usage(void)
{
    fprintf(stderr,
            "usage: replay FILE [--url http://HOST:PORT|unix:PATH] [--speed X]\n"
            "              [--sessions-at-once 1..%d] [--prefix P]\n",
            SESSIONS_AT_ONCE_MAX);
    exit(2);
}

/* Splits --url into what curl wants; the text stays the caller's. */
static void use_url(struct replay *r, char *url)
{
    size_t n = strlen(url);

    if (strncmp(url, "unix:", 5) == 0) {
        r->socket_path = url + 5;
        r->base_url = "http://localhost";
        return;
    }
    while (n > 0 && url[n - 1] == '/')
        url[--n] = '\0';
    if (strncmp(url, "http", 4) != 0 || n > 512)
        usage();
    r->base_url = url;
    r->socket_path = NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"url", required_argument, NULL, 'u'},
                                            {"speed", required_argument, NULL, 's'},
                                            {"prefix", required_argument, NULL, 'p'},
                                            {"sessions-at-once", required_argument, NULL, 'n'},
                                            {0}};
    struct replay r = {.base_url = "http://127.0.0.1:8080", .on_tty = isatty(STDERR_FILENO) == 1};
    const char *prefix = "";
    size_t at_once = 32, i;
    json_t *session;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'u')
            use_url(&r, optarg);
        else if (option == 'p')
            prefix = optarg;
        else if (option == 's' && strtod(optarg, NULL) > 0)
            r.speed = strtod(optarg, NULL);
        else if (option == 'n' && strtol(optarg, NULL, 10) >= 1 &&
                 strtol(optarg, NULL, 10) <= SESSIONS_AT_ONCE_MAX)
            at_once = (size_t)strtol(optarg, NULL, 10);
        else
            usage();
    }
    if (optind != argc - 1)
        usage();
    r.sessions = transcript_load(argv[optind], prefix);
    if (r.sessions == NULL || getrandom(&r.run, sizeof(r.run), 0) != sizeof(r.run))
        return 1;
    json_array_foreach (r.sessions, i, session)
        r.messages += json_array_size(json_object_get(session, "messages"));

    curl_global_init(CURL_GLOBAL_DEFAULT);
    r.multi = curl_multi_init();
    curl_multi_setopt(r.multi, CURLMOPT_MAXCONNECTS, (long)at_once);
    struct play *plays = calloc(at_once, sizeof(*plays));
    if (plays == NULL)
        return 1;
    for (i = 0; i < at_once; i++)
        play_init(&r, &plays[i]);
    r.began_ns = r.shown_ns = now_ns();
    run(&r, plays, at_once);
    show_progress(&r, true);

    double seconds = (double)(now_ns() - r.began_ns) / 1e9;
    bool good = r.faults == 0 && r.sent == r.messages && r.checked == r.messages;
    printf("%s: %zu of %zu messages sent, %zu found as sent, %zu sessions, %.2f s, %zu retries, "
           "%zu faults\n",
           good ? "good" : "FAILED", r.sent, r.messages, r.checked, r.finished, seconds, r.retries,
           r.faults);
    for (i = 0; i < at_once; i++)
        play_free(&plays[i]);
    free(plays);
    curl_multi_cleanup(r.multi);
    curl_global_cleanup();
    json_decref(r.sessions);
    return good ? 0 : 1;
}
