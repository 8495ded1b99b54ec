/*
 * post, batch: messages sent over many connections, in a closed or an open loop (drive.h), to Atoll
 * or to what it is compared with (target.h), each with a marker, and all of them read back at the
 * end (verify.h). Each connection goes through all sessions, in leaps (verify.h).
 *
 * `post` sends one command a request unless --batch says otherwise, over 64 connections to 256
 * sessions; `batch` 100 a request, over 16 connections to one session.
 */
#include "drive.h"
#include "mode.h"
#include "options.h"
#include "target.h"
#include "verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_BYTES_MAX = 64 * 1024 * 1024 };

static const char *path;
static uint64_t count, read_max;

struct post {
    const struct load_options *options;
    struct report *report;
    struct verify verify;
    struct target target;
    char *buffers; /* a request's for each connection */
    uint64_t bad;
    int first_bad;
    char first_text[160];
};

static struct drive_request next(void *context, struct drive_lane *lane)
{
    struct post *post = context;
    struct verify_writer *writer = &post->verify.writers[lane->number];
    uint64_t counter = writer->sent;

    writer->sent += post->options->batch;
    return target_request(&post->target, post->buffers + lane->number * post->target.room,
                          &lane->http, verify_session(&post->verify, lane->number, counter),
                          counter);
}

static unsigned judge(void *context, struct drive_lane *lane)
{
    struct post *post = context;
    struct verify_writer *writer = &post->verify.writers[lane->number];
    const struct http *http = &lane->http;

    if (target_is_good(&post->target, http)) {
        writer->acknowledged = writer->sent;
        return post->options->batch;
    }
    verify_doubt(&post->verify, lane->number, writer->sent - post->options->batch, writer->sent);
    if (post->bad++ == 0) {
        post->first_bad = http->status;
        snprintf(post->first_text, sizeof(post->first_text), "%.*s",
                 (int)sizeof(post->first_text) - 1, http->tail);
    }
    return 0;
}

/* ---- from beginning to end */

static void make_buffers(struct post *post)
{
    size_t all = post->target.room * post->options->connections;

    if (post->target.room > REQUEST_BYTES_MAX)
        option_refuse("--batch %u and --payload %u make requests of %zu bytes, and %d is the most",
                      post->options->batch, post->options->payload_bytes, post->target.room,
                      REQUEST_BYTES_MAX);
    post->buffers = malloc(all);
    if (post->buffers == NULL)
        option_refuse("no memory for requests of %zu bytes, one for each connection", all);
    for (unsigned i = 0; i < post->options->connections; i++)
        target_fill(&post->target, post->buffers + i * post->target.room, i);
}

static void tell(struct post *post)
{
    uint64_t acknowledged = 0;

    for (unsigned w = 0; w < post->verify.writers_n; w++)
        acknowledged += post->verify.writers[w].acknowledged;
    report_figure(post->report, "acknowledged", (double)acknowledged,
                  "messages in all, the warm-up's too");
    report_figure(post->report, "bad_answers", (double)post->bad, "requests not answered by 2xx");
    if (post->bad != 0)
        report_problem(post->report, "%llu requests were not answered by 2xx: the first was %d …%s",
                       (unsigned long long)post->bad, post->first_bad, post->first_text);
    if (post->target.atoll || post->target.redis)
        verify_read(&post->verify);
    else
        report_checked(post->report, "messages answered by 2xx; nothing was read back",
                       acknowledged);
}

static int run(const struct load_options *options, struct report *report)
{
    static struct post post;
    int result = 0;

    post = (struct post){.options = options, .report = report};
    verify_open(&post.verify, options, report, options->connections, options->sessions,
                options->batch);
    if (read_max != 0)
        post.verify.read_max = read_max;
    target_open(&post.target, options, &post.verify, path);
    make_buffers(&post);
    struct drive_work work = {.context = &post,
                              .next = next,
                              .judge = judge,
                              .go_on = target_go_on(&post.target),
                              .operations = options->batch,
                              .count = count,
                              .what = "messages acknowledged"};
    if (target_prepare(&post.target, report)) {
        if (drive_run(options, report, &work))
            tell(&post);
        else
            result = 2;
    } else if (!report_has_problem(report)) {
        result = 2;
    }
    free(post.buffers);
    target_close(&post.target);
    verify_close(&post.verify);
    return result;
}

/* ---- options */

static bool own_option(const char *name, const char *value)
{
    if (strcmp(name, "--path") == 0)
        path = value;
    else if (strcmp(name, "--count") == 0)
        count = option_integer(name, value, 1, UINT32_MAX);
    else if (strcmp(name, "--read-max") == 0)
        read_max = option_integer(name, value, 1, UINT32_MAX);
    else
        return false;
    return true;
}

static void batch_defaults(struct load_options *options)
{
    options->batch = 100;
    options->connections = 16;
    options->sessions = 1;
}

static const char help[] =
    "  --path PATH        of target http, {} in it is the session's number\n"
    "  --count N          requests in all, in the place of --seconds and --warmup\n"
    "  --read-max N       messages that are read back, about; of more, a part spread over all\n"
    "                     (default 1000000; Redis: all)\n";

const struct mode mode_post = {
    .name = "post",
    .summary = "messages, one a request, over many connections to many sessions",
    .help = help,
    .targets = TARGET_NAMES,
    .option = own_option,
    .run = run,
};

const struct mode mode_batch = {
    .name = "batch",
    .summary = "messages, many a request, into one session",
    .help = help,
    .targets = TARGET_NAMES,
    .defaults = batch_defaults,
    .option = own_option,
    .run = run,
};
