/*
 * atoll-load: load for a server, and what came of it: rates, latencies, the server's CPU and
 * memory, and whether all that it acknowledged is there. It shares no code with the server.
 *
 * Normal path: read the options, run the mode (mode.h), tell the report (report.h).
 * Failure: 1 where the server did something wrong, which the report says; 2 where the options are
 * wrong or the mode could not run, with a sentence on standard error.
 */
#include "http.h"
#include "mode.h"
#include "options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct mode *const modes[] = {
    &mode_post, &mode_batch, &mode_request, &mode_fill, &mode_watch,    &mode_ws,    &mode_idle,
    &mode_wait, &mode_mixed, &mode_recover, &mode_mcp,  &mode_mcp_wait, &mode_crowd,
};
enum { MODES = sizeof(modes) / sizeof(modes[0]) };

volatile sig_atomic_t load_stopped;

static void on_signal(int signal)
{
    (void)signal;
    load_stopped = 1;
}

/* ---- help */

static const char common_help[] =
    "  --url URL          of the server, http://ADDRESS:PORT\n"
    "  --token TOKEN      a bearer token that every request has (default: none)\n"
    "  --pid PID          of the server, for its CPU time and memory (default: not measured)\n"
    "  --seconds S        how long is measured\n"
    "  --warmup S         what goes before and is not measured, but verified\n"
    "  --connections N    that are open at a time\n"
    "  --sessions N       that the load is spread over\n"
    "  --payload BYTES    of each message's content\n"
    "  --rate R           operations a second, at times planned ahead; 0: each connection sends\n"
    "                     when it has its answer\n"
    "  --batch N          commands a request\n"
    "  --prefix P         of the names of sessions\n"
    "  --seed N           of what is drawn\n"
    "  --json FILE        also write the report as JSON; -: to standard output, without the text\n"
    "  --html FILE        also write the report as a page with charts\n"
    "  --quiet            no line of progress each second\n";

static void show_modes(FILE *file)
{
    fprintf(file, "usage: atoll-load MODE --url http://ADDRESS:PORT [OPTION]...\n"
                  "       atoll-load MODE --help\n\nModes:\n");
    for (unsigned i = 0; i < MODES; i++)
        fprintf(file, "  %-8s %s\n", modes[i]->name, modes[i]->summary);
}

static void show_help(const struct mode *mode, const struct load_options *options)
{
    printf("atoll-load %s: %s\n\n%s%s\nCommon to all modes, not each of use to each:\n%s",
           mode->name, mode->summary, mode->help != NULL ? "Options:\n" : "",
           mode->help != NULL ? mode->help : "", common_help);
    printf("  --target NAME      one of: %s\n", mode->targets != NULL ? mode->targets : "atoll");
    printf("\nDefaults: --seconds %g --warmup %g --connections %u --sessions %u --payload %u "
           "--rate %g\n          --batch %u --prefix %s --seed %llu --target %s\n",
           options->seconds, options->warmup_s, options->connections, options->sessions,
           options->payload_bytes, options->rate, options->batch, options->prefix,
           (unsigned long long)options->seed, options->target);
}

/* ---- options */

static const struct mode *find_mode(const char *name)
{
    for (unsigned i = 0; i < MODES; i++) {
        if (strcmp(modes[i]->name, name) == 0)
            return modes[i];
    }
    fprintf(stderr, "atoll-load: there is no mode \"%s\"\n", name);
    show_modes(stderr);
    exit(2);
}

/* Letters, digits and those few signs that an id may hold, so that it needs no quoting anywhere. */
static const char *parse_prefix(const char *value)
{
    size_t n = 0;

    while (isalnum((unsigned char)value[n]) ||
           (n != 0 && value[n] != '\0' && strchr("-_.", value[n])))
        n++;
    if (n == 0 || n > LOAD_PREFIX_BYTES || value[n] != '\0')
        option_refuse("--prefix is \"%s\", and has to be 1 to %d letters, digits, -, _ or ., the "
                      "first a letter or a digit",
                      value, LOAD_PREFIX_BYTES);
    return value;
}

static bool common_number(struct load_options *options, const char *name, const char *value)
{
    if (strcmp(name, "--pid") == 0)
        options->pid = option_integer(name, value, 1, INT32_MAX);
    else if (strcmp(name, "--seconds") == 0)
        options->seconds = option_number(name, value, 0.01, 86400);
    else if (strcmp(name, "--warmup") == 0)
        options->warmup_s = option_number(name, value, 0, 3600);
    else if (strcmp(name, "--connections") == 0)
        options->connections = (unsigned)option_integer(name, value, 1, LOAD_CONNECTIONS_MAX);
    else if (strcmp(name, "--sessions") == 0)
        options->sessions = (unsigned)option_integer(name, value, 1, 100 * 1000 * 1000);
    else if (strcmp(name, "--payload") == 0)
        options->payload_bytes = (unsigned)option_integer(name, value, 0, 256 * 1024);
    else if (strcmp(name, "--rate") == 0)
        options->rate = option_number(name, value, 0, 1e7);
    else if (strcmp(name, "--batch") == 0)
        options->batch = (unsigned)option_integer(name, value, 1, 100000);
    else if (strcmp(name, "--seed") == 0)
        options->seed = option_integer(name, value, 0, UINT64_MAX);
    else
        return false;
    return true;
}

static bool common_option(const struct mode *mode, struct load_options *options, const char *name,
                          const char *value)
{
    if (strcmp(name, "--url") == 0) {
        options->url = value;
        if (!http_parse_url(value, &options->address))
            option_refuse(
                "--url is \"%s\", and has to be http://ADDRESS:PORT, with an IPv4 address", value);
    } else if (strcmp(name, "--token") == 0) {
        if (!http_set_token(value))
            option_refuse("--token has to be a token of at most %d bytes, without spaces",
                          HTTP_TOKEN_BYTES);
    } else if (strcmp(name, "--target") == 0) {
        options->target = option_word(name, value, mode->targets != NULL ? mode->targets : "atoll");
    } else if (strcmp(name, "--prefix") == 0) {
        options->prefix = parse_prefix(value);
    } else if (strcmp(name, "--json") == 0) {
        options->json = value;
    } else if (strcmp(name, "--html") == 0) {
        options->html = value;
    } else {
        return common_number(options, name, value);
    }
    return true;
}

/* Takes the option at argv[0], and its value; returns how many arguments that were. */
static int take_option(const struct mode *mode, struct load_options *options, char **argv)
{
    char name[64];
    size_t n = strcspn(argv[0], "=");
    const char *value = argv[0][n] == '=' ? argv[0] + n + 1 : NULL;

    snprintf(name, sizeof(name), "%.*s", (int)n, argv[0]);
    if (value == NULL && strcmp(name, "--help") == 0) {
        show_help(mode, options);
        exit(0);
    }
    if (value == NULL && strcmp(name, "--quiet") == 0) {
        options->quiet = true;
        return 1;
    }
    if (value == NULL && mode->flags != NULL && option_is_word(name, mode->flags) &&
        mode->option(name, NULL))
        return 1;
    int taken = value != NULL ? 1 : 2;
    if (value == NULL)
        value = argv[1];
    if (value == NULL)
        option_refuse("%s needs a value, or is none of the options of %s", name, mode->name);
    if ((mode->option == NULL || !mode->option(name, value)) &&
        !common_option(mode, options, name, value))
        option_refuse("%s has no option %s; see atoll-load %s --help", mode->name, name,
                      mode->name);
    return taken;
}

/* What is no option moves to the front of argv, in order. */
static void parse_options(const struct mode *mode, struct load_options *options, char **argv)
{
    char **next = argv;

    options->arguments = argv;
    while (*next != NULL && strcmp(*next, "--") != 0) {
        if (strncmp(*next, "--", 2) == 0)
            next += take_option(mode, options, next);
        else
            argv[options->arguments_n++] = *next++;
    }
    if (*next != NULL)
        next++;
    while (*next != NULL)
        argv[options->arguments_n++] = *next++;
    argv[options->arguments_n] = NULL;
    if (options->arguments_n > mode->arguments_max)
        option_refuse("\"%s\" is an argument too many for %s",
                      options->arguments[mode->arguments_max], mode->name);
    if (options->url == NULL && !mode->serverless)
        option_refuse("%s needs --url http://ADDRESS:PORT", mode->name);
}

static void tell_options(struct report *report, const struct load_options *options)
{
    if (options->url != NULL)
        report_option(report, "url", "%s", options->url);
    report_option(report, "seconds", "%g", options->seconds);
    report_option(report, "warmup", "%g", options->warmup_s);
    report_option(report, "connections", "%u", options->connections);
    report_option(report, "sessions", "%u", options->sessions);
    report_option(report, "payload", "%u", options->payload_bytes);
    report_option(report, "rate", "%g", options->rate);
    report_option(report, "batch", "%u", options->batch);
    report_option(report, "prefix", "%s", options->prefix);
    report_option(report, "seed", "%llu", (unsigned long long)options->seed);
}

/* ---- start */

/* As many files as the system allows: each connection is one. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    struct load_options options = {.seconds = 5,
                                   .warmup_s = 1,
                                   .connections = 64,
                                   .sessions = 256,
                                   .payload_bytes = 64,
                                   .batch = 1,
                                   .prefix = "bench",
                                   .target = "atoll",
                                   .seed = 1};

    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        show_modes(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    const struct mode *mode = find_mode(argv[1]);
    if (mode->defaults != NULL)
        mode->defaults(&options);
    parse_options(mode, &options, argv + 2);
    raise_file_limit();
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    struct report *report = report_new(mode->name, options.target, options.quiet);
    tell_options(report, &options);
    int result = mode->run(&options, report);
    if (result != 0) {
        report_free(report);
        return result;
    }
    return report_finish(report, options.json, options.html);
}
