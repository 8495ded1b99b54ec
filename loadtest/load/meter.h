/*
 * meter: the measured part of a run. It begins when the warm-up is over and ends after --seconds;
 * only what is counted in between becomes a figure.
 *
 * Normal path: meter_begin, then meter_turn with each look at the clock until it says that the time
 * is over, meter_count for each operation that has ended, and meter_end, which adds the figures
 * that every mode gives: operations, per_s, seconds, server_cpu_us (per operation),
 * server_cpu_percent, server_rss_mb, load_cpu_percent.
 *
 * Thread: one.
 */
#ifndef ATOLL_LOAD_METER_H
#define ATOLL_LOAD_METER_H

#include "mode.h"
#include "process.h"

struct meter {
    struct report *report;
    uint64_t pid;              /* of the server; 0: not told */
    uint64_t begin_ns, end_ns; /* of what is measured */
    uint64_t second_end_ns;    /* of the second under way */
    uint64_t operations, second_operations;
    bool on;      /* within the measured part */
    bool planned; /* an open loop */
    struct process_usage server, self;
    struct histogram second;
};

/* From now on the warm-up runs. With `endless` there is none, and the run ends when its owner says
 * so, by meter_end. */
void meter_begin(struct meter *meter, const struct load_options *options, struct report *report,
                 bool endless);
/* False: the time is over. */
bool meter_turn(struct meter *meter, uint64_t now_ns);
/* When to call it again at the latest. */
uint64_t meter_due(const struct meter *meter);
/* `n` operations have ended, which took `ns` (each); outside the measured part they do not count.
 * Returns whether they do, for the owner's own histograms. */
bool meter_count(struct meter *meter, uint64_t n, uint64_t ns);
/* Whether what began (or was planned) at `from_ns` and ends now belongs to a latency: it does
 * within the measured part, and in an open loop, whose late ones count too, behind it. */
bool meter_takes(const struct meter *meter, uint64_t from_ns);
/* `what` an operation is, for the report. Once, right after the last turn. */
void meter_end(struct meter *meter, uint64_t now_ns, const char *what);

#endif
