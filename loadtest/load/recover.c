/*
 * recover: a server that is killed while it works, again and again, and what it knows afterwards.
 *
 *   atoll-load recover [OPTION]... -- atoll serve --listen 127.0.0.1:0 --data DIR …
 *
 * Normal path: start the server by its command, which says its URL on standard output when it is
 * ready; make a history of --fill events in --sessions sessions; then, --rounds times: send
 * messages over --connections connections as fast as they are answered, kill the server (SIGKILL)
 * at a moment drawn from the second half of --seconds, start it again, and take the time until it
 * says its URL, until /readyz answers 200, and until it has acknowledged the first message, all
 * from the start of its process. At the end it is asked to stop (SIGTERM). Where DIR holds data
 * already, that is what each start finds.
 *
 * Checked, after the last round: each message that was acknowledged in any round is there, once, in
 * the order of its connection; those under way at a kill are there once or not at all; the history
 * is as long as it was; the server stops with status 0. Failure: a server that does not start
 * within START_TIMEOUT_S, or answers a message other than by 2xx, is a problem and ends the run. It
 * is ended with this program, however that ends.
 *
 * Thread: one.
 */
#include "ask.h"
#include "drive.h"
#include "options.h"
#include "prepare.h"
#include "process.h"
#include "target.h"
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ARGUMENTS_MAX = 64,
    URL_BYTES = 64,
    SAID_BYTES = 4096, /* by the server before its URL, at most */
    START_TIMEOUT_S = 120,
    STOP_TIMEOUT_S = 30,
    FILL_BATCH = 100,
    SECOND_NS = 1000000000,
};

static unsigned rounds_n = 3;
static uint64_t fill_n = 100 * 1000;

struct recover {
    struct load_options options; /* with the address that the server has now */
    struct report *report;
    char url[URL_BYTES];
    int said_fd; /* the server's standard output */
    uint64_t started_ns;
    struct verify verify;
    struct target target;
    char *buffers; /* a request's for each connection, and for the first message after a start */
    uint64_t random;
    uint64_t per_session; /* events of the history */
    char fill_prefix[LOAD_PREFIX_BYTES + 8];
    uint64_t acknowledged; /* messages */
    double cpu_s;          /* of starts */
    uint64_t last_ns;      /* the newest start, until its first message was acknowledged */
    struct histogram url_said, ready, first;
};

/* Of the server; the handler of SIGALRM kills it. 0: it does not run. */
static volatile pid_t server_pid;

/* ---- the server */

static void kill_server(int signal_number)
{
    (void)signal_number;
    if (server_pid != 0)
        kill(server_pid, SIGKILL);
}

/* In the child. */
static void become_server(char **command, const int fds[2])
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(fds[1], STDOUT_FILENO);
    execvp(command[0], command);
    fprintf(stderr, "atoll-load: %s: %s\n", command[0], strerror(errno));
    _exit(127);
}

/* Reads what the server says until its URL is there. NULL, or what is wrong. */
static const char *read_url(struct recover *recover)
{
    uint64_t end_ns = recover->started_ns + (uint64_t)START_TIMEOUT_S * SECOND_NS;
    char said[SAID_BYTES + 1];
    size_t n = 0;

    for (;;) {
        struct pollfd ready = {recover->said_fd, POLLIN, 0};
        uint64_t now_ns = process_now_ns();
        if (now_ns >= end_ns || n == SAID_BYTES)
            return "it does not say its URL";
        poll(&ready, 1, (int)((end_ns - now_ns) / 1000000) + 1);
        ssize_t got = read(recover->said_fd, said + n, SAID_BYTES - n);
        if (got == 0)
            return "it has ended";
        if (got < 0)
            continue;
        n += (size_t)got;
        said[n] = '\0';
        const char *url = strstr(said, "http://");
        if (url == NULL || strchr(url, '\n') == NULL)
            continue;
        snprintf(recover->url, sizeof(recover->url), "%.*s", (int)strcspn(url, " \r\n"), url);
        return http_parse_url(recover->url, &recover->options.address) ? NULL : "its URL is no URL";
    }
}

/* False: told in the report. */
static bool start_server(struct recover *recover)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0) {
        report_problem(recover->report, "a pipe: %s", strerror(errno));
        return false;
    }
    recover->started_ns = process_now_ns();
    pid_t pid = fork();
    if (pid == 0)
        become_server(recover->options.arguments, fds);
    close(fds[1]);
    recover->said_fd = fds[0];
    if (pid < 0) {
        report_problem(recover->report, "fork: %s", strerror(errno));
        return false;
    }
    server_pid = pid;
    const char *wrong = read_url(recover);
    if (wrong == NULL)
        return true;
    report_problem(recover->report, "the server does not start: %s", wrong);
    return false;
}

/* Waits for its end; returns its status as of waitpid. */
static int server_ended(struct recover *recover)
{
    pid_t pid = server_pid;
    int status = 0;

    while (pid != 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    server_pid = 0;
    close(recover->said_fd);
    return status;
}

/* Asks it to stop; killed where it does not. */
static void stop_server(struct recover *recover)
{
    alarm(STOP_TIMEOUT_S);
    kill(server_pid, SIGTERM);
    int status = server_ended(recover);
    alarm(0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        report_problem(recover->report, "asked to stop, the server ended with %s %d",
                       WIFEXITED(status) ? "status" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

/* ---- messages under which it is killed */

static struct drive_request next(void *context, struct drive_lane *lane)
{
    struct recover *recover = context;
    struct verify_writer *writer = &recover->verify.writers[lane->number];
    uint64_t counter = writer->sent;

    writer->sent += recover->options.batch;
    return target_request(&recover->target, recover->buffers + lane->number * recover->target.room,
                          &lane->http, verify_session(&recover->verify, lane->number, counter),
                          counter);
}

static void doubt(struct recover *recover, unsigned number)
{
    struct verify_writer *writer = &recover->verify.writers[number];

    verify_doubt(&recover->verify, number, writer->sent - recover->options.batch, writer->sent);
}

static unsigned judge(void *context, struct drive_lane *lane)
{
    struct recover *recover = context;
    struct verify_writer *writer = &recover->verify.writers[lane->number];

    if (target_is_good(&recover->target, &lane->http)) {
        writer->acknowledged = writer->sent;
        recover->acknowledged += recover->options.batch;
        return recover->options.batch;
    }
    doubt(recover, lane->number);
    report_problem(recover->report, "a message was answered by %d …%.160s", lane->http.status,
                   lane->http.tail);
    return 0;
}

static void lost(void *context, struct drive_lane *lane)
{
    doubt(context, lane->number);
}

static uint64_t draw(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = (*state ^ *state >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Sends until the server is gone. */
static bool load_and_kill(struct recover *recover)
{
    struct drive_work work = {.context = recover,
                              .next = next,
                              .judge = judge,
                              .lost = lost,
                              .go_on = target_go_on(&recover->target),
                              .operations = recover->options.batch,
                              .may_fail = true};
    double share = 0.5 + 0.5 * (double)(draw(&recover->random) >> 11) / (double)(1ull << 53);
    double after_s = share * recover->options.seconds;
    struct itimerval timer = {
        .it_value = {(time_t)after_s, (suseconds_t)((after_s - (time_t)after_s) * 1e6)}};

    setitimer(ITIMER_REAL, &timer, NULL);
    bool ran = drive_run(&recover->options, recover->report, &work);
    int status = server_ended(recover);
    if (ran && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
        report_problem(recover->report, "the server ended by itself under the load");
        return false;
    }
    return ran;
}

/* ---- a start, measured */

static bool wait_until_ready(struct recover *recover, struct asker *asker)
{
    uint64_t end_ns = recover->started_ns + (uint64_t)START_TIMEOUT_S * SECOND_NS;
    const char *wrong;

    do {
        ask_get(&asker->request, "/readyz");
        wrong = asker_ask(asker);
    } while (wrong != NULL && asker->http.status == 503 && process_now_ns() < end_ns);
    if (wrong != NULL)
        report_problem(recover->report, "after a start /readyz answers %s", wrong);
    return wrong == NULL;
}

/* The first message since the start, by a writer of its own. */
static bool send_first(struct recover *recover, struct asker *asker)
{
    unsigned number = recover->options.connections;
    struct drive_lane lane = {.number = number};
    struct verify_writer *writer = &recover->verify.writers[number];
    struct drive_request request = next(recover, &lane);

    asker->request.n = 0;
    text_add(&asker->request, request.bytes, request.size);
    const char *wrong = asker_ask(asker);
    if (wrong == NULL && target_is_good(&recover->target, &asker->http)) {
        writer->acknowledged = writer->sent;
        recover->acknowledged += recover->options.batch;
        return true;
    }
    doubt(recover, number);
    report_problem(recover->report, "the first message after a start: %s",
                   wrong != NULL ? wrong : asker->http.tail);
    return false;
}

static bool restart(struct recover *recover)
{
    struct asker asker;

    if (!start_server(recover))
        return false;
    uint64_t said_ns = process_now_ns() - recover->started_ns;
    if (!asker_open(&asker, &recover->options))
        return false;
    bool good = wait_until_ready(recover, &asker);
    uint64_t ready_ns = process_now_ns() - recover->started_ns;
    struct process_usage usage = process_usage((uint64_t)server_pid);
    good = good && send_first(recover, &asker);
    if (good) {
        recover->last_ns = process_now_ns() - recover->started_ns;
        histogram_add(&recover->first, recover->last_ns);
        histogram_add(&recover->ready, ready_ns);
        histogram_add(&recover->url_said, said_ns);
        recover->cpu_s += usage.user_s + usage.system_s;
    }
    asker_close(&asker);
    return good;
}

/* ---- history */

static struct load_options fill_options(const struct recover *recover)
{
    struct load_options options = recover->options;

    options.prefix = recover->fill_prefix;
    options.batch = FILL_BATCH;
    options.pid = 0;
    return options;
}

static bool fill(struct recover *recover)
{
    struct load_options options = fill_options(recover);
    struct report *aside = report_new("fill", "atoll", options.quiet);
    char events[24];

    recover->per_session = fill_n / options.sessions;
    if (recover->per_session == 0)
        recover->per_session = 1;
    snprintf(events, sizeof(events), "%llu", (unsigned long long)recover->per_session);
    mode_fill.option("--events", events);
    bool good = mode_fill.run(&options, aside) == 0 && !report_has_problem(aside);
    report_free(aside);
    if (!good)
        report_problem(recover->report, "the history could not be made");
    return good;
}

static void check_fill(struct recover *recover)
{
    struct load_options options = fill_options(recover);
    uint64_t *seqs = calloc(options.sessions, sizeof(*seqs)), right = 0;

    if (seqs == NULL || !prepare_sessions(&options, recover->report, seqs)) {
        report_problem(recover->report, "the history cannot be read");
        free(seqs);
        return;
    }
    for (unsigned i = 0; i < options.sessions; i++) {
        if (seqs[i] == recover->per_session)
            right++;
        else
            report_problem(recover->report, "session %s%u had %llu events, and now has %llu",
                           options.prefix, i, (unsigned long long)recover->per_session,
                           (unsigned long long)seqs[i]);
    }
    free(seqs);
    report_checked(recover->report, "sessions of the history as long as they were", right);
}

/* ---- the run */

static void tell(struct recover *recover)
{
    struct process_usage usage = process_usage((uint64_t)server_pid);

    report_figure(recover->report, "operations", (double)recover->acknowledged,
                  "messages acknowledged, over all kills");
    report_figure(recover->report, "kills", (double)recover->first.n, "and starts after them");
    report_figure(recover->report, "ready_ms", histogram_mean_ns(&recover->ready) / 1e6,
                  "from the start of the process until /readyz answers 200, mean");
    report_figure(recover->report, "first_ms", histogram_mean_ns(&recover->first) / 1e6,
                  "from the same until the first message is acknowledged, mean");
    if (recover->first.n != 0)
        report_figure(recover->report, "start_cpu_ms",
                      recover->cpu_s * 1e3 / (double)recover->first.n,
                      "CPU time of the server until it is ready, mean");
    report_figure(recover->report, "server_rss_mb", usage.rss_mb,
                  "memory of the server, some rounds of messages later");
    report_latency(recover->report, "url", &recover->url_said,
                   "from the start of the process until it says its URL");
    report_latency(recover->report, "ready", &recover->ready, "until /readyz answers 200");
    report_latency(recover->report, "first", &recover->first,
                   "until the first message is acknowledged");
}

static void make_buffers(struct recover *recover)
{
    unsigned n = recover->options.connections + 1;

    recover->buffers = malloc(n * recover->target.room);
    if (recover->buffers == NULL)
        option_refuse("out of memory");
    for (unsigned i = 0; i < n; i++)
        target_fill(&recover->target, recover->buffers + i * recover->target.room, i);
}

/* From the first start to the last end. */
static void play(struct recover *recover)
{
    bool good = start_server(recover) && (fill_n == 0 || fill(recover)) &&
                target_prepare(&recover->target, recover->report);

    for (unsigned round = 0; good && round < rounds_n && !load_stopped; round++) {
        good = load_and_kill(recover) && restart(recover);
        if (good && !recover->options.quiet)
            fprintf(stderr, "recover: killed %u times; the last start took %.0f ms\n", round + 1,
                    (double)recover->last_ns / 1e6);
    }
    if (good) {
        verify_read(&recover->verify);
        if (fill_n != 0)
            check_fill(recover);
        tell(recover);
        stop_server(recover);
    } else {
        kill_server(0);
        server_ended(recover);
    }
}

static int run(const struct load_options *options, struct report *report)
{
    static struct recover recover;
    struct sigaction action = {.sa_handler = kill_server};

    recover = (struct recover){.options = *options, .report = report, .random = options->seed};
    recover.options.url = recover.url;
    recover.options.pid = 0;
    if (options->arguments_n == 0)
        option_refuse("recover needs the server's command: recover [OPTION]... -- COMMAND...");
    report_option(report, "rounds", "%u", rounds_n);
    report_option(report, "fill", "%llu", (unsigned long long)fill_n);
    snprintf(recover.fill_prefix, sizeof(recover.fill_prefix), "%s-fill", options->prefix);
    sigaction(SIGALRM, &action, NULL);
    verify_open(&recover.verify, &recover.options, report, options->connections + 1,
                options->sessions, options->batch);
    target_open(&recover.target, &recover.options, &recover.verify, NULL);
    make_buffers(&recover);
    play(&recover);
    free(recover.buffers);
    target_close(&recover.target);
    verify_close(&recover.verify);
    return 0;
}

static bool own_option(const char *name, const char *value)
{
    if (strcmp(name, "--rounds") == 0)
        rounds_n = (unsigned)option_integer(name, value, 1, 10000);
    else if (strcmp(name, "--fill") == 0)
        fill_n = option_integer(name, value, 0, UINT32_MAX);
    else
        return false;
    return true;
}

static void defaults(struct load_options *options)
{
    options->seconds = 2;
}

const struct mode mode_recover = {
    .name = "recover",
    .summary = "a server that is killed under load: how soon it is back, and what it knows",
    .help = "  -- COMMAND...      starts the server; it says its URL on standard output\n"
            "  --rounds N         kills (default 3), each within --seconds of load\n"
            "  --fill N           events of a history made before (default 100000)\n",
    .arguments_max = ARGUMENTS_MAX,
    .serverless = true,
    .defaults = defaults,
    .option = own_option,
    .run = run,
};
