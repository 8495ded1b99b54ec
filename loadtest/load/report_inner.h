/*
 * What a report holds, for the two that write it: report.c (text, JSON) and html.c.
 */
#ifndef ATOLL_LOAD_REPORT_INNER_H
#define ATOLL_LOAD_REPORT_INNER_H

#include "report.h"

#include <stddef.h>
#include <stdio.h>

struct report_option {
    const char *name;
    char *value;
};

struct report_figure {
    const char *name, *meaning;
    double value;
};

struct report_latency {
    const char *name, *meaning;
    const struct histogram *histogram;
};

struct report_second {
    double at_s, operations;
    uint64_t p99_ns;
};

struct report_check {
    const char *what;
    uint64_t times;
};

struct report {
    const char *mode, *target;
    bool quiet;
    unsigned options_n, figures_n, latencies_n, checks_n;
    struct report_option options[REPORT_OPTIONS];
    struct report_figure figures[REPORT_FIGURES];
    struct report_latency latencies[REPORT_HISTOGRAMS];
    struct report_check checks[REPORT_CHECKS];
    struct report_second *seconds;
    size_t seconds_n, seconds_room;
    char *problems[REPORT_PROBLEMS];
    uint64_t problems_n; /* all that there were, not only those told in words */
};

/* How many problems are told in words. */
unsigned report_problems_told(const struct report *report);
/* A number as short as it can be without losing what matters: six significant digits, whole ones
 * in full. `text` has room for 32 bytes; returns it. */
const char *report_number(double value, char *text);

/* The percentiles that a report tells of. */
struct report_percentile {
    double share;
    const char *json, *title;
};
enum { REPORT_PERCENTILES = 4 };
extern const struct report_percentile report_percentiles[REPORT_PERCENTILES];

/* Writes the page. */
void html_write(FILE *file, const struct report *report);

#endif
