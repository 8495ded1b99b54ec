/*
 * cli_backup: `atoll backup DEST [--data DIR]`.
 *
 * Every file of the directory is open at the same time, so that a compaction may remove it
 * meanwhile: the limit on open files is raised to what the system allows.
 */
#include "server/cli_directory.h"

#include "shards/backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, ERROR_BYTES = 1024 };

#define DEFAULT_DATA "./atoll-data"

static bool read_arguments(int argc, char **argv, const char **to, const char **from)
{
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--data=", 7) == 0)
            *from = argv[i] + 7;
        else if (strcmp(argv[i], "--data") == 0 && i + 1 < argc)
            *from = argv[++i];
        else if (argv[i][0] != '-' && *to == NULL)
            *to = argv[i];
        else
            return false;
    }
    return *to != NULL;
}

static void allow_many_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* where it is not enough, opening says so */
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int copy(const char *from_path, const char *to_path, struct backup_report *report,
                char *error)
{
    struct fs *from, *to;
    int result = fs_posix_open(from_path, false, &from, error, ERROR_BYTES);
    if (result != 0)
        return result;
    result = fs_posix_open(to_path, true, &to, error, ERROR_BYTES);
    if (result == 0) {
        result = backup_run(from, to, report, error, ERROR_BYTES);
        to->ops->free(to);
    }
    from->ops->free(from);
    return result;
}

int cli_backup(int argc, char **argv)
{
    char error[ERROR_BYTES];
    struct backup_report report = {0};
    const char *to = NULL, *from = DEFAULT_DATA;
    if (!read_arguments(argc, argv, &to, &from)) {
        fputs("atoll: usage: atoll backup DEST [--data DIR]\n", stderr);
        return EXIT_USAGE;
    }
    allow_many_files();
    double began = seconds();
    if (copy(from, to, &report, error) != 0) {
        fprintf(stderr, "atoll: %s\n", error);
        return EXIT_FAILED;
    }
    printf("%s: backup of %s, %" PRIu64 " segments and %" PRIu64 " checkpoints, %" PRIu64
           " bytes, in %.1f s\n",
           to, from, report.segments, report.checkpoints, report.bytes, seconds() - began);
    return EXIT_DONE;
}
