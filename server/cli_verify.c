/*
 * cli_verify: `atoll verify DATA_DIR`.
 *
 * How far it is goes to stderr: on a terminal one number that counts up, else a line every 5 %.
 * What was checked goes to stdout, one line each, when all of it is well. Where a segment is
 * missing, the sessions that this hits follow the sentence that names it.
 */
#include "server/cli_directory.h"

#include "shards/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum { EXIT_WELL = 0, EXIT_FAULT = 1, EXIT_USAGE = 2, LINE_PERCENT = 5, ERROR_BYTES = 1024 };

struct shown {
    bool terminal;
    unsigned percent; /* of the last line */
};

static void show_percent(void *ctx, unsigned percent)
{
    struct shown *shown = ctx;
    if (shown->terminal) {
        fprintf(stderr, "\r%3u %%", percent);
        if (percent == 100)
            fputs("\r     \r", stderr);
    } else if (percent >= shown->percent + LINE_PERCENT) {
        shown->percent = percent / LINE_PERCENT * LINE_PERCENT;
        fprintf(stderr, "atoll: verified %u %%\n", shown->percent);
    }
    fflush(stderr);
}

static void print_count(const char *what, uint64_t count, const char *more)
{
    printf("  %-12s %12" PRIu64 "%s\n", what, count, more);
}

static void print_report(const char *path, const struct verify_report *report)
{
    char more[128];
    printf("%s is well. Checked:\n", path);
    print_count("bytes", report->bytes, "");
    snprintf(more, sizeof(more), "  (%" PRIu64 " rewritten by compaction)", report->rewritten);
    print_count("segments", report->segments, more);
    print_count("batches", report->batches, "");
    print_count("records", report->records, "");
    print_count("events", report->events, "");
    snprintf(more, sizeof(more), "  (%" PRIu64 " lives, with those that have ended)",
             report->lives);
    print_count("sessions", report->sessions, more);
    if (report->companions != 0)
        print_count("companions", report->companions, "  (that MCP keeps beside them)");
    print_count("snapshots", report->snapshots, "");
    print_count("forks", report->forks, "");
    print_count("pins", report->pins, "");
    snprintf(more, sizeof(more), "  (%" PRIu64 " sessions listed)", report->entries);
    print_count("checkpoints", report->checkpoints, more);
    if (report->torn_bytes != 0)
        printf("%" PRIu64 " bytes of a batch that was never committed: the next start cuts them "
               "off\n",
               report->torn_bytes);
    if (report->orphans != 0)
        printf("%" PRIu64 " pins without a fork: the next start removes them\n", report->orphans);
}

static void print_hits(const struct verify_report *report)
{
    if (report->missing > 1)
        fprintf(stderr, "atoll: %" PRIu64 " segments are missing\n", report->missing);
    fprintf(stderr, "atoll: this hits %" PRIu64 " sessions that are known\n", report->hits);
    for (uint64_t i = 0; i < report->hits && i < VERIFY_HITS_MAX; i++)
        fprintf(stderr, "  %s\n", report->hit[i]);
    if (report->hits > VERIFY_HITS_MAX)
        fprintf(stderr, "  and %" PRIu64 " more\n", report->hits - VERIFY_HITS_MAX);
}

int cli_verify(int argc, char **argv)
{
    char error[ERROR_BYTES];
    struct shown shown = {.terminal = isatty(STDERR_FILENO) != 0};
    struct verify_options options = {.progress = show_percent, .ctx = &shown};
    struct verify_report report = {0};
    struct fs *fs;
    if (argc != 1 || argv[0][0] == '-') {
        fputs("atoll: usage: atoll verify DATA_DIR\n", stderr);
        return EXIT_USAGE;
    }
    int result = fs_posix_open(argv[0], false, &fs, error, sizeof(error));
    if (result == 0) {
        result = verify_run(fs, &options, &report, error, sizeof(error));
        fs->ops->free(fs);
    }
    if (result == 0) {
        print_report(argv[0], &report);
        return EXIT_WELL;
    }
    fprintf(stderr, "%satoll: %s\n", shown.terminal ? "\r" : "", error);
    if (report.missing != 0)
        print_hits(&report);
    return EXIT_FAULT;
}
