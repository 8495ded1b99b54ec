/*
 * report: what a run has found, told three times: as text on standard output, as JSON (--json), and
 * as a page with charts (--html; one file that needs nothing beside it, no script from elsewhere).
 *
 * A mode fills it while it runs: figures (named numbers), histograms, a series of samples over time
 * (one a second, also told on standard error while it runs), and what its verification found.
 * Nothing of it is lost in any of the three forms; a problem found makes the exit status 1 and
 * stands first in the text.
 *
 * All names are lower case with underscores; a figure's carries its unit (`per_s`, `cpu_us`,
 * `rss_mb`). Names and meanings are borrowed: literals.
 *
 * Thread: one.
 */
#ifndef ATOLL_LOAD_REPORT_H
#define ATOLL_LOAD_REPORT_H

#include "histogram.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    REPORT_OPTIONS = 64,
    REPORT_FIGURES = 64,
    REPORT_HISTOGRAMS = 16,
    REPORT_CHECKS = 32,
    REPORT_PROBLEMS = 32, /* that are told in words; how many there were is told too */
};

struct report;

/* `mode` and `target` are borrowed. `quiet`: no lines of progress. */
struct report *report_new(const char *mode, const char *target, bool quiet);
/* An option as it was in force, defaults too; the text is copied. A second time replaces the first.
 */
void report_option(struct report *report, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A second time replaces the first. */
void report_figure(struct report *report, const char *name, double value, const char *meaning);
/* `histogram` is borrowed until report_finish. In JSON an object NAME_us with n, mean, p50, p90,
 * p99, p99_9 and max, in microseconds. */
void report_latency(struct report *report, const char *name, const struct histogram *histogram,
                    const char *meaning);
/* One second's sample: its operations, and the p99 of what was answered in it (ns; 0: nothing).
 * Prints a line of progress to standard error, unless quiet. */
void report_second(struct report *report, double at_s, double operations, uint64_t p99_ns);
/* What was checked, and how often it was right: "acknowledged messages found once, in order". */
void report_checked(struct report *report, const char *what, uint64_t times);
/* Something is wrong: lost, repeated, reordered, a bad answer. */
void report_problem(struct report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool report_has_problem(const struct report *report);
/* Writes all that was asked for (NULL: not asked for; "-" as `json_path`: to standard output, in
 * the place of the text). Returns the exit status: 0, 1 for a problem, 2 where a file could not be
 * written. Frees the report. */
int report_finish(struct report *report, const char *json_path, const char *html_path);
/* Frees it without a word, where a mode could not run. */
void report_free(struct report *report);

#endif
