#include "report_inner.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const struct report_percentile report_percentiles[REPORT_PERCENTILES] = {
    {.5, "p50", "p50"}, {.9, "p90", "p90"}, {.99, "p99", "p99"}, {.999, "p99_9", "p99.9"}};

static void *must(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "atoll-load: out of memory\n");
        exit(2);
    }
    return p;
}

static char *format_text(const char *format, va_list arguments)
{
    char *text = NULL;
    return vasprintf(&text, format, arguments) >= 0 ? text : must(NULL);
}

struct report *report_new(const char *mode, const char *target, bool quiet)
{
    struct report *report = must(calloc(1, sizeof(*report)));
    report->mode = mode;
    report->target = target;
    report->quiet = quiet;
    return report;
}

void report_free(struct report *report)
{
    for (unsigned i = 0; i < report->options_n; i++)
        free(report->options[i].value);
    for (unsigned i = 0; i < report_problems_told(report); i++)
        free(report->problems[i]);
    free(report->seconds);
    free(report);
}

/* ---- filling it */

void report_option(struct report *report, const char *name, const char *format, ...)
{
    va_list arguments;
    unsigned i = 0;

    while (i < report->options_n && strcmp(report->options[i].name, name) != 0)
        i++;
    assert(i < REPORT_OPTIONS);
    va_start(arguments, format);
    free(report->options[i].value);
    report->options[i] = (struct report_option){name, format_text(format, arguments)};
    va_end(arguments);
    if (i == report->options_n)
        report->options_n++;
}

void report_figure(struct report *report, const char *name, double value, const char *meaning)
{
    unsigned i = 0;

    while (i < report->figures_n && strcmp(report->figures[i].name, name) != 0)
        i++;
    assert(i < REPORT_FIGURES);
    report->figures[i] = (struct report_figure){name, meaning, value};
    if (i == report->figures_n)
        report->figures_n++;
}

void report_latency(struct report *report, const char *name, const struct histogram *histogram,
                    const char *meaning)
{
    assert(report->latencies_n < REPORT_HISTOGRAMS);
    report->latencies[report->latencies_n++] = (struct report_latency){name, meaning, histogram};
}

void report_second(struct report *report, double at_s, double operations, uint64_t p99_ns)
{
    if (report->seconds_n == report->seconds_room) {
        report->seconds_room = report->seconds_room != 0 ? 2 * report->seconds_room : 64;
        report->seconds =
            must(realloc(report->seconds, report->seconds_room * sizeof(report->seconds[0])));
    }
    report->seconds[report->seconds_n++] = (struct report_second){at_s, operations, p99_ns};
    if (!report->quiet)
        fprintf(stderr, "%s: %6.1f s %12.0f operations   p99 %10.1f us\n", report->mode, at_s,
                operations, (double)p99_ns / 1e3);
}

void report_checked(struct report *report, const char *what, uint64_t times)
{
    assert(report->checks_n < REPORT_CHECKS);
    report->checks[report->checks_n++] = (struct report_check){what, times};
}

void report_problem(struct report *report, const char *format, ...)
{
    va_list arguments;

    if (report->problems_n++ >= REPORT_PROBLEMS)
        return;
    va_start(arguments, format);
    report->problems[report->problems_n - 1] = format_text(format, arguments);
    va_end(arguments);
}

bool report_has_problem(const struct report *report)
{
    return report->problems_n != 0;
}

unsigned report_problems_told(const struct report *report)
{
    return report->problems_n < REPORT_PROBLEMS ? (unsigned)report->problems_n : REPORT_PROBLEMS;
}

const char *report_number(double value, char *text)
{
    if (value == floor(value) && fabs(value) < 1e15)
        snprintf(text, 32, "%.0f", value);
    else if (fabs(value) >= 1e5)
        snprintf(text, 32, "%.1f", value);
    else
        snprintf(text, 32, "%.6g", value);
    return text;
}

/* ---- text */

static void put_text_latencies(FILE *file, const struct report *report)
{
    if (report->latencies_n == 0)
        return;
    fprintf(file, "\n  %-16s %10s %10s", "us", "n", "mean");
    for (unsigned p = 0; p < REPORT_PERCENTILES; p++)
        fprintf(file, " %10s", report_percentiles[p].title);
    fprintf(file, " %10s\n", "max");
    for (unsigned i = 0; i < report->latencies_n; i++) {
        const struct histogram *histogram = report->latencies[i].histogram;
        fprintf(file, "  %-16s %10llu %10.1f", report->latencies[i].name,
                (unsigned long long)histogram->n, histogram_mean_ns(histogram) / 1e3);
        for (unsigned p = 0; p < REPORT_PERCENTILES; p++)
            fprintf(file, " %10.1f",
                    (double)histogram_percentile(histogram, report_percentiles[p].share) / 1e3);
        fprintf(file, " %10.1f  %s\n", (double)histogram->max_ns / 1e3,
                report->latencies[i].meaning);
    }
}

static void put_text(FILE *file, const struct report *report)
{
    char number[32];

    for (unsigned i = 0; i < report_problems_told(report); i++)
        fprintf(file, "PROBLEM: %s\n", report->problems[i]);
    if (report->problems_n > REPORT_PROBLEMS)
        fprintf(file, "PROBLEM: and %llu more\n",
                (unsigned long long)report->problems_n - REPORT_PROBLEMS);
    fprintf(file, "%s, target %s:", report->mode, report->target);
    for (unsigned i = 0; i < report->options_n; i++)
        fprintf(file, " %s=%s", report->options[i].name, report->options[i].value);
    fprintf(file, "\n\n");
    for (unsigned i = 0; i < report->figures_n; i++)
        fprintf(file, "  %-24s %14s  %s\n", report->figures[i].name,
                report_number(report->figures[i].value, number), report->figures[i].meaning);
    put_text_latencies(file, report);
    if (report->checks_n != 0)
        fprintf(file, "\n");
    for (unsigned i = 0; i < report->checks_n; i++)
        fprintf(file, "  checked: %llu %s\n", (unsigned long long)report->checks[i].times,
                report->checks[i].what);
}

/* ---- JSON */

static void put_json_string(FILE *file, const char *text)
{
    fputc('"', file);
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(file, "\\%c", *p);
        else if (*p < 0x20 || *p >= 0x7f) /* also what is no UTF-8: what a server has said */
            fprintf(file, "\\u%04x", *p);
        else
            fputc(*p, file);
    }
    fputc('"', file);
}

static void put_json_number(FILE *file, double value)
{
    char number[32];
    fputs(isfinite(value) ? report_number(value, number) : "null", file);
}

/* An option that is a number is one in JSON, too. */
static void put_json_option(FILE *file, const char *value)
{
    char *end;
    double number = strtod(value, &end);

    if (*value != '\0' && *end == '\0' && strspn(value, "0123456789.-") == strlen(value))
        put_json_number(file, number);
    else
        put_json_string(file, value);
}

/* What comes before member or element number `i` of what opens with `open`: one to a line. */
static void put_json_next(FILE *file, size_t i)
{
    fputs(i == 0 ? "\n    " : ",\n    ", file);
}

static void put_json_latency(FILE *file, const struct report_latency *latency)
{
    const struct histogram *histogram = latency->histogram;

    fprintf(file, "\"%s_us\": {\"n\": %llu, \"mean\": ", latency->name,
            (unsigned long long)histogram->n);
    put_json_number(file, histogram_mean_ns(histogram) / 1e3);
    for (unsigned p = 0; p < REPORT_PERCENTILES; p++) {
        fprintf(file, ", \"%s\": ", report_percentiles[p].json);
        put_json_number(file,
                        (double)histogram_percentile(histogram, report_percentiles[p].share) / 1e3);
    }
    fprintf(file, ", \"max\": ");
    put_json_number(file, (double)histogram->max_ns / 1e3);
    fputc('}', file);
}

static void put_json_seconds(FILE *file, const struct report *report)
{
    fprintf(file, "\n  },\n  \"seconds\": [");
    for (size_t i = 0; i < report->seconds_n; i++) {
        put_json_next(file, i);
        fprintf(file, "{\"at\": %.3f, \"operations\": ", report->seconds[i].at_s);
        put_json_number(file, report->seconds[i].operations);
        fprintf(file, ", \"p99_us\": ");
        put_json_number(file, (double)report->seconds[i].p99_ns / 1e3);
        fputc('}', file);
    }
}

static void put_json_verdicts(FILE *file, const struct report *report)
{
    fprintf(file, "\n  ],\n  \"checked\": [");
    for (unsigned i = 0; i < report->checks_n; i++) {
        put_json_next(file, i);
        fprintf(file, "{\"what\": ");
        put_json_string(file, report->checks[i].what);
        fprintf(file, ", \"times\": %llu}", (unsigned long long)report->checks[i].times);
    }
    fprintf(file, "\n  ],\n  \"problems_total\": %llu,\n  \"problems\": [",
            (unsigned long long)report->problems_n);
    for (unsigned i = 0; i < report_problems_told(report); i++) {
        put_json_next(file, i);
        put_json_string(file, report->problems[i]);
    }
    fprintf(file, "\n  ]\n}\n");
}

static void put_json(FILE *file, const struct report *report)
{
    fprintf(file, "{\n  \"mode\": ");
    put_json_string(file, report->mode);
    fprintf(file, ",\n  \"target\": ");
    put_json_string(file, report->target);
    fprintf(file, ",\n  \"options\": {");
    for (unsigned i = 0; i < report->options_n; i++) {
        put_json_next(file, i);
        fprintf(file, "\"%s\": ", report->options[i].name);
        put_json_option(file, report->options[i].value);
    }
    fprintf(file, "\n  },\n  \"figures\": {");
    for (unsigned i = 0; i < report->figures_n; i++) {
        put_json_next(file, i);
        fprintf(file, "\"%s\": ", report->figures[i].name);
        put_json_number(file, report->figures[i].value);
    }
    fprintf(file, "\n  },\n  \"latency\": {");
    for (unsigned i = 0; i < report->latencies_n; i++) {
        put_json_next(file, i);
        put_json_latency(file, &report->latencies[i]);
    }
    put_json_seconds(file, report);
    put_json_verdicts(file, report);
}

/* ---- the end */

static bool write_file(const char *path, void (*put)(FILE *, const struct report *),
                       const struct report *report)
{
    FILE *file = fopen(path, "we");

    if (file != NULL) {
        put(file, report);
        bool bad = ferror(file) != 0;
        if (fclose(file) == 0 && !bad)
            return true;
    }
    fprintf(stderr, "atoll-load: %s could not be written: %s\n", path, strerror(errno));
    return false;
}

int report_finish(struct report *report, const char *json_path, const char *html_path)
{
    bool json_out = json_path != NULL && strcmp(json_path, "-") == 0;
    int result = report_has_problem(report) ? 1 : 0;

    (json_out ? put_json : put_text)(stdout, report);
    if (fflush(stdout) != 0) {
        fprintf(stderr, "atoll-load: standard output could not be written: %s\n", strerror(errno));
        result = 2;
    }
    if (json_path != NULL && !json_out && !write_file(json_path, put_json, report))
        result = 2;
    if (html_path != NULL && !write_file(html_path, html_write, report))
        result = 2;
    report_free(report);
    return result;
}
