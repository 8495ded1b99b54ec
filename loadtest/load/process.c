#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Reads /proc/PID/NAME, `self` for 0, as text. False: there is no such process. */
static bool read_proc(uint64_t pid, const char *name, char *text, size_t size)
{
    char path[64];

    if (pid == 0)
        snprintf(path, sizeof(path), "/proc/self/%s", name);
    else
        snprintf(path, sizeof(path), "/proc/%llu/%s", (unsigned long long)pid, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t n = fread(text, 1, size - 1, file);
    fclose(file);
    text[n] = '\0';
    return n != 0;
}

/* What all threads of the process have used, those that ended too; 0: not to be had. */
static double cpu_clock_s(uint64_t pid)
{
    clockid_t clock;
    struct timespec ts;

    if (clock_getcpuclockid((pid_t)pid, &clock) != 0 || clock_gettime(clock, &ts) != 0)
        return 0;
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool read_times(uint64_t pid, struct process_usage *usage)
{
    char text[1024];
    unsigned long long user, system;

    if (!read_proc(pid, "stat", text, sizeof(text)))
        return false;
    /* The name is in parentheses and may hold any character. */
    const char *p = strrchr(text, ')');
    if (p == NULL || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                            &system) != 2)
        return false;
    /* Ticks of 10 ms are too coarse for short runs: they only tell user from system. */
    double ticks = (double)(user + system), total_s = cpu_clock_s(pid);
    if (total_s == 0)
        total_s = ticks / (double)sysconf(_SC_CLK_TCK);
    usage->user_s = ticks != 0 ? total_s * (double)user / ticks : total_s;
    usage->system_s = total_s - usage->user_s;
    return true;
}

/* "VmRSS:\t  1234 kB" in MB; 0: not there, as of a process that has ended. */
static double status_mb(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    return at != NULL ? (double)strtoull(at + strlen(name), NULL, 10) * 1024 / 1e6 : 0;
}

struct process_usage process_usage(uint64_t pid)
{
    struct process_usage usage = {0};
    char status[4096];

    if (!read_times(pid, &usage) || !read_proc(pid, "status", status, sizeof(status)))
        return (struct process_usage){.gone = true};
    usage.rss_mb = status_mb(status, "VmRSS:");
    usage.peak_mb = status_mb(status, "VmHWM:");
    usage.page_tables_mb = status_mb(status, "VmPTE:");
    return usage;
}

uint64_t process_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
