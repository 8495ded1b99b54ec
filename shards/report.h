/*
 * report: what happens in shards that an operator should hear of, told to whoever wants to know.
 * Where nobody does it is a plain line on standard error.
 *
 * Thread: report_tell: any. report_to: before any shard starts, or after all have ended.
 */
#ifndef ATOLL_SHARDS_REPORT_H
#define ATOLL_SHARDS_REPORT_H

#include "core/base.h"

enum report_level { REPORT_ERROR, REPORT_WARN, REPORT_INFO };

enum { REPORT_NO_SHARD = -1 };

struct report {
    enum report_level level;
    const char *event;  /* a literal of [a-z_] */
    int shard;          /* or REPORT_NO_SHARD */
    struct str session; /* p == NULL: none */
    const char *detail; /* a sentence */
};

/* Must not wait. NULL: standard error again. */
void report_to(void (*sink)(const struct report *report));
__attribute__((format(printf, 5, 6))) void report_tell(enum report_level level, const char *event,
                                                       int shard, struct str session,
                                                       const char *format, ...);

#endif
