#include "shards/report.h"

#include <stdarg.h>
#include <stdio.h>

enum { DETAIL_BYTES = 1024 };

static void (*told)(const struct report *report);

void report_to(void (*sink)(const struct report *report))
{
    told = sink;
}

static void write_plain(const struct report *report)
{
    char shard[32] = "";
    if (report->shard != REPORT_NO_SHARD)
        snprintf(shard, sizeof(shard), "shard %d: ", report->shard);
    if (report->session.p != NULL)
        fprintf(stderr, "atoll: %ssession \"%.*s\": %s\n", shard, (int)report->session.n,
                report->session.p, report->detail);
    else
        fprintf(stderr, "atoll: %s%s\n", shard, report->detail);
}

void report_tell(enum report_level level, const char *event, int shard, struct str session,
                 const char *format, ...)
{
    char detail[DETAIL_BYTES];
    struct report report = {level, event, shard, session, detail};
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(detail, sizeof(detail), format, arguments);
    va_end(arguments);
    (told != NULL ? told : write_plain)(&report);
}
