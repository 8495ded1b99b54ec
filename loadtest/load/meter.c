#include "meter.h"

#include <string.h>

enum { SECOND_NS = 1000000000 };

void meter_begin(struct meter *meter, const struct load_options *options, struct report *report,
                 bool endless)
{
    uint64_t now_ns = process_now_ns();

    memset(meter, 0, sizeof(*meter));
    meter->report = report;
    meter->pid = options->pid;
    meter->planned = options->rate != 0;
    meter->begin_ns = endless ? now_ns : now_ns + (uint64_t)(options->warmup_s * SECOND_NS);
    meter->end_ns =
        endless ? UINT64_MAX : meter->begin_ns + (uint64_t)(options->seconds * SECOND_NS);
}

static void start(struct meter *meter, uint64_t now_ns)
{
    meter->on = true;
    if (meter->end_ns != UINT64_MAX)
        meter->end_ns += now_ns - meter->begin_ns;
    meter->begin_ns = now_ns;
    meter->second_end_ns = now_ns + SECOND_NS;
    if (meter->pid != 0)
        meter->server = process_usage(meter->pid);
    meter->self = process_usage(0);
}

static void end_second(struct meter *meter, uint64_t now_ns)
{
    report_second(meter->report, (double)(now_ns - meter->begin_ns) / SECOND_NS,
                  (double)meter->second_operations, histogram_percentile(&meter->second, 0.99));
    memset(&meter->second, 0, sizeof(meter->second));
    meter->second_operations = 0;
    while (meter->second_end_ns <= now_ns)
        meter->second_end_ns += SECOND_NS;
}

bool meter_turn(struct meter *meter, uint64_t now_ns)
{
    if (!meter->on && now_ns >= meter->begin_ns)
        start(meter, now_ns);
    if (meter->on && now_ns >= meter->second_end_ns)
        end_second(meter, now_ns);
    return now_ns < meter->end_ns;
}

uint64_t meter_due(const struct meter *meter)
{
    if (!meter->on)
        return meter->begin_ns;
    return meter->second_end_ns < meter->end_ns ? meter->second_end_ns : meter->end_ns;
}

bool meter_count(struct meter *meter, uint64_t n, uint64_t ns)
{
    if (!meter->on)
        return false;
    meter->operations += n;
    meter->second_operations += n;
    histogram_add(&meter->second, ns);
    return true;
}

bool meter_takes(const struct meter *meter, uint64_t from_ns)
{
    if (meter->planned)
        return from_ns >= meter->begin_ns && from_ns < meter->end_ns;
    return meter->on;
}

static double cpu_s(const struct process_usage *from, const struct process_usage *to)
{
    return (to->user_s - from->user_s) + (to->system_s - from->system_s);
}

static void end_server(struct meter *meter, double seconds)
{
    struct process_usage usage = process_usage(meter->pid);
    double used_s = cpu_s(&meter->server, &usage);

    if (usage.gone || meter->server.gone) {
        report_problem(meter->report, "there is no process %llu (--pid)",
                       (unsigned long long)meter->pid);
        return;
    }
    if (meter->operations != 0)
        report_figure(meter->report, "server_cpu_us", used_s * 1e6 / (double)meter->operations,
                      "CPU time of the server for each operation, microseconds");
    report_figure(meter->report, "server_cpu_percent", used_s * 100 / seconds,
                  "of one core, all threads of the server");
    report_figure(meter->report, "server_rss_mb", usage.rss_mb, "memory of the server at the end");
}

void meter_end(struct meter *meter, uint64_t now_ns, const char *what)
{
    struct process_usage self = process_usage(0);
    double seconds = (double)(now_ns - meter->begin_ns) / SECOND_NS;

    if (!meter->on) {
        report_problem(meter->report, "the run was over before its warm-up was");
        return;
    }
    report_figure(meter->report, "operations", (double)meter->operations, what);
    report_figure(meter->report, "per_s", (double)meter->operations / seconds,
                  "operations a second");
    report_figure(meter->report, "seconds", seconds, "measured, without the warm-up");
    if (meter->pid != 0)
        end_server(meter, seconds);
    report_figure(meter->report, "load_cpu_percent", cpu_s(&meter->self, &self) * 100 / seconds,
                  "of one core, this program");
    meter->on = false;
}
