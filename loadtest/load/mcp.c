/*
 * mcp: the same messages by REST and by MCP's tool atoll_send_message, in turns, over the same
 * connections, to the same sessions of the same server: what does the protocol cost? Each
 * connection is an agent's and stays with its session, as a client of MCP does.
 *
 * Normal path: time is cut into slices of --slice seconds. In one all connections send by REST (as
 * mode `post` does), in the next by MCP 2026-07-28, in the next by 2025-11-25, and so on: whatever
 * else the machine does, it does to all three. Closed loop. At a slice's end what was answered in
 * it, and the server's CPU time, are added to what its form has so far; the slices of the warm-up
 * and the last one, which is cut short, are not. The ratios are of these sums. At the end all is
 * read back (verify.h).
 * Failure: an answer that is no acknowledgement is a problem of the report, by its form.
 *
 * Thread: one.
 */
#include "drive.h"
#include "mcp_wire.h"
#include "mode.h"
#include "options.h"
#include "process.h"
#include "target.h"
#include "verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECOND_NS = 1000000000, SLICES_LEAST = 2 };

enum form { FORM_REST, FORM_MODERN, FORM_OLDER, FORMS };

/* What a form has come to, or within one slice. */
struct sum {
    uint64_t answered;
    double seconds, cpu_s;
};

struct lane {
    char *rest; /* the request by REST, of target->room bytes */
    struct text request, arguments;
    char *content; /* a marker and its padding, with a zero byte behind */
    enum form form;
};

struct mcp {
    const struct load_options *options;
    struct report *report;
    struct verify verify;
    struct target target;
    struct lane *lanes;
    char (*tokens)[MCP_TOKEN_BYTES]; /* of the agent in each session */
    enum form form;                  /* of the slice */
    uint64_t slice_begin_ns, measured_ns;
    double slice_cpu_s;
    uint64_t answered[FORMS]; /* in this slice */
    struct sum sums[FORMS];
    unsigned slices[FORMS];
    uint64_t bad[FORMS];
    char first_bad[FORMS][160];
    struct histogram took[FORMS];
};

static double slice_s = 0.25;

static const char *const form_names[FORMS] = {"REST", "MCP 2026-07-28", "MCP 2025-11-25"};

/* ---- slices */

static double cpu_now_s(const struct mcp *mcp)
{
    if (mcp->options->pid == 0)
        return 0;
    struct process_usage usage = process_usage(mcp->options->pid);
    return usage.user_s + usage.system_s;
}

static void begin_slice(struct mcp *mcp, enum form form, uint64_t now_ns)
{
    mcp->form = form;
    mcp->slice_begin_ns = now_ns;
    mcp->slice_cpu_s = cpu_now_s(mcp);
    memset(mcp->answered, 0, sizeof(mcp->answered));
}

/* Of what was answered in it, a few were asked for in the slice before: in each slice as many. */
static void end_slice(struct mcp *mcp, uint64_t now_ns)
{
    struct sum *sum = &mcp->sums[mcp->form];

    sum->seconds += (double)(now_ns - mcp->slice_begin_ns) / SECOND_NS;
    sum->cpu_s += cpu_now_s(mcp) - mcp->slice_cpu_s;
    for (int form = 0; form < FORMS; form++)
        mcp->sums[form].answered += mcp->answered[form];
    mcp->slices[mcp->form]++;
}

static void look_at_clock(struct mcp *mcp)
{
    uint64_t now_ns = process_now_ns();

    if (mcp->slice_begin_ns == 0) {
        mcp->measured_ns = now_ns + (uint64_t)(mcp->options->warmup_s * SECOND_NS);
        begin_slice(mcp, FORM_REST, now_ns);
    } else if (now_ns - mcp->slice_begin_ns >= (uint64_t)(slice_s * SECOND_NS)) {
        if (mcp->slice_begin_ns >= mcp->measured_ns)
            end_slice(mcp, now_ns);
        begin_slice(mcp, (mcp->form + 1) % FORMS, now_ns);
    }
}

/* ---- requests */

static struct drive_request put_call(struct mcp *mcp, struct lane *lane, unsigned number,
                                     unsigned session, uint64_t counter)
{
    enum { ID_OF_LANE = 10 }; /* decimal digits for what one connection sends */
    char name[LOAD_PREFIX_BYTES + 16];
    uint64_t id = number + 1;

    for (int i = 0; i < ID_OF_LANE; i++)
        id *= 10;
    snprintf(name, sizeof(name), "%s%u", mcp->options->prefix, session);
    marker_count(lane->content, counter);
    lane->arguments.n = 0;
    text_format(&lane->arguments, "{\"thread\":\"work\",\"content\":\"%s\"}", lane->content);
    mcp_put_call(&lane->request, lane->form == FORM_MODERN ? MCP_MODERN : MCP_OLDER,
                 mcp->tokens[session], name, "a1", "atoll_send_message", id + counter,
                 lane->arguments.p);
    return (struct drive_request){lane->request.p, lane->request.n};
}

static struct drive_request next(void *context, struct drive_lane *drive_lane)
{
    struct mcp *mcp = context;
    struct lane *lane = &mcp->lanes[drive_lane->number];
    uint64_t counter = mcp->verify.writers[drive_lane->number].sent++;
    unsigned session = verify_session(&mcp->verify, drive_lane->number, counter);

    look_at_clock(mcp);
    lane->form = mcp->form;
    if (lane->form == FORM_REST)
        return target_request(&mcp->target, lane->rest, &drive_lane->http, session, counter);
    return put_call(mcp, lane, drive_lane->number, session, counter);
}

static bool is_good(const struct mcp *mcp, const struct lane *lane, const struct http *http)
{
    return lane->form == FORM_REST ? target_is_good(&mcp->target, http) : mcp_result(http) != NULL;
}

static unsigned judge(void *context, struct drive_lane *drive_lane)
{
    struct mcp *mcp = context;
    const struct lane *lane = &mcp->lanes[drive_lane->number];
    struct verify_writer *writer = &mcp->verify.writers[drive_lane->number];
    const struct http *http = &drive_lane->http;
    uint64_t now_ns = process_now_ns();

    if (!is_good(mcp, lane, http)) {
        verify_doubt(&mcp->verify, drive_lane->number, writer->sent - 1, writer->sent);
        if (mcp->bad[lane->form]++ == 0)
            snprintf(mcp->first_bad[lane->form], sizeof(mcp->first_bad[0]), "%d …%.140s",
                     http->status, http->tail);
        return 0;
    }
    writer->acknowledged = writer->sent;
    mcp->answered[lane->form]++;
    if (drive_lane->began_ns >= mcp->measured_ns)
        histogram_add(&mcp->took[lane->form], now_ns - drive_lane->began_ns);
    return 1;
}

/* ---- before */

static void make_lanes(struct mcp *mcp)
{
    unsigned payload = mcp->options->payload_bytes;

    mcp->lanes = calloc(mcp->options->connections, sizeof(*mcp->lanes));
    mcp->tokens = calloc(mcp->options->sessions, sizeof(*mcp->tokens));
    if (mcp->lanes == NULL || mcp->tokens == NULL)
        option_refuse("out of memory");
    for (unsigned i = 0; i < mcp->options->connections; i++) {
        struct lane *lane = &mcp->lanes[i];
        lane->rest = malloc(mcp->target.room);
        lane->content = malloc(payload + 1);
        if (lane->rest == NULL || lane->content == NULL)
            option_refuse("out of memory");
        target_fill(&mcp->target, lane->rest, i);
        memset(lane->content, 'x', payload);
        lane->content[payload] = '\0';
        marker_put(lane->content, &mcp->verify, i, 0);
    }
}

static bool make_tokens(struct mcp *mcp)
{
    struct asker asker;
    const char *wrong = NULL;

    if (!asker_open(&asker, mcp->options))
        return false;
    for (unsigned i = 0; i < mcp->options->sessions && wrong == NULL; i++) {
        char name[LOAD_PREFIX_BYTES + 16];
        snprintf(name, sizeof(name), "%s%u", mcp->options->prefix, i);
        wrong = mcp_initialize(&asker, name, "a1", mcp->tokens[i]);
    }
    if (wrong != NULL)
        fprintf(stderr, "atoll-load: MCP cannot be begun with: %s\n", wrong);
    asker_close(&asker);
    return wrong == NULL;
}

/* ---- behind */

static double per_s(const struct sum *sum)
{
    return sum->seconds > 0 ? (double)sum->answered / sum->seconds : 0;
}

static double cpu_us(const struct sum *sum)
{
    return sum->answered != 0 ? sum->cpu_s * 1e6 / (double)sum->answered : 0;
}

static void tell_forms(struct mcp *mcp)
{
    const struct sum *sums = mcp->sums;
    struct report *report = mcp->report;

    report_figure(report, "rest_per_s", per_s(&sums[FORM_REST]), "messages a second by REST");
    report_figure(report, "modern_per_s", per_s(&sums[FORM_MODERN]), "the same by MCP 2026-07-28");
    report_figure(report, "older_per_s", per_s(&sums[FORM_OLDER]), "the same by MCP 2025-11-25");
    report_figure(report, "modern_ratio", per_s(&sums[FORM_MODERN]) / per_s(&sums[FORM_REST]),
                  "of REST's rate");
    report_figure(report, "older_ratio", per_s(&sums[FORM_OLDER]) / per_s(&sums[FORM_REST]),
                  "of REST's rate");
    report_latency(report, "rest", &mcp->took[FORM_REST], "from sending to the answer, by REST");
    report_latency(report, "modern", &mcp->took[FORM_MODERN], "the same by MCP 2026-07-28");
    report_latency(report, "older", &mcp->took[FORM_OLDER], "the same by MCP 2025-11-25");
    if (mcp->options->pid == 0)
        return;
    report_figure(report, "rest_cpu_us", cpu_us(&sums[FORM_REST]),
                  "CPU time of the server for a message by REST, microseconds");
    report_figure(report, "modern_cpu_us", cpu_us(&sums[FORM_MODERN]),
                  "the same by MCP 2026-07-28");
    report_figure(report, "older_cpu_us", cpu_us(&sums[FORM_OLDER]), "the same by MCP 2025-11-25");
}

static void tell(struct mcp *mcp)
{
    uint64_t acknowledged = 0;

    report_option(mcp->report, "slice", "%g", slice_s);
    for (unsigned w = 0; w < mcp->verify.writers_n; w++)
        acknowledged += mcp->verify.writers[w].acknowledged;
    report_figure(mcp->report, "acknowledged", (double)acknowledged,
                  "messages in all, the warm-up's too");
    for (int form = 0; form < FORMS; form++) {
        if (mcp->bad[form] != 0)
            report_problem(mcp->report, "%llu messages by %s were not acknowledged: the first %s",
                           (unsigned long long)mcp->bad[form], form_names[form],
                           mcp->first_bad[form]);
        if (mcp->slices[form] < SLICES_LEAST)
            report_problem(mcp->report, "%s had %u whole slices, and %d are the least",
                           form_names[form], mcp->slices[form], SLICES_LEAST);
    }
    tell_forms(mcp);
    verify_read(&mcp->verify);
}

static void free_all(struct mcp *mcp)
{
    for (unsigned i = 0; i < mcp->options->connections; i++) {
        free(mcp->lanes[i].rest);
        free(mcp->lanes[i].content);
        free(mcp->lanes[i].request.p);
        free(mcp->lanes[i].arguments.p);
    }
    free(mcp->lanes);
    free(mcp->tokens);
    target_close(&mcp->target);
    verify_close(&mcp->verify);
}

static int run(const struct load_options *options, struct report *report)
{
    static struct mcp mcp; /* the report borrows its histograms */
    struct drive_work work = {.context = &mcp,
                              .next = next,
                              .judge = judge,
                              .go_on = http_go_on,
                              .operations = 1,
                              .what = "messages acknowledged, by whichever form"};

    if (options->rate != 0 || options->batch != 1)
        option_refuse("mode mcp has no --rate and no --batch: all forms go as fast as they can");
    if (options->seconds < slice_s * FORMS * (SLICES_LEAST + 1))
        option_refuse("--seconds is %g, and each of %d forms needs %d slices of %g s",
                      options->seconds, FORMS, SLICES_LEAST + 1, slice_s);
    mcp = (struct mcp){.options = options, .report = report};
    verify_open(&mcp.verify, options, report, options->connections, options->sessions, 1);
    mcp.verify.fixed = true;
    target_open(&mcp.target, options, &mcp.verify, NULL);
    make_lanes(&mcp);
    int result = 2;
    if (target_prepare(&mcp.target, report) && make_tokens(&mcp) &&
        drive_run(options, report, &work)) {
        tell(&mcp);
        result = 0;
    } else if (report_has_problem(report)) {
        result = 0;
    }
    free_all(&mcp);
    return result;
}

static bool own_option(const char *name, const char *value)
{
    if (strcmp(name, "--slice") != 0)
        return false;
    slice_s = option_number(name, value, 0.01, 60);
    return true;
}

static void defaults(struct load_options *options)
{
    options->sessions = options->connections;
}

const struct mode mode_mcp = {
    .name = "mcp",
    .summary = "messages by REST and by MCP's atoll_send_message, in turns",
    .help = "  --slice S          how long one form sends before the next (default 0.25)\n",
    .defaults = defaults,
    .option = own_option,
    .run = run,
};
