#include "shards/pressure.h"

#include "shards/report.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef ATOLL_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

enum {
    LOOK_MS = 100,
    PURGE_MS = 1000,
    HIGH_PERCENT = 80,
    CRITICAL_PERCENT = 95,
    SLACK_PERCENT = 5, /* a level ends so much lower than it begins */
};

/* "size resident shared …", in pages. */
static uint64_t resident_of_process(struct pressure *pressure)
{
    char text[128];
    unsigned long long size, resident;
    ssize_t n = pread(pressure->fd, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    if (sscanf(text, "%llu %llu", &size, &resident) != 2)
        return 0;
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void pressure_init(struct pressure *pressure, uint64_t limit_bytes)
{
    *pressure = (struct pressure){.limit_bytes = limit_bytes, .resident = resident_of_process};
    pressure->fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (pressure->fd < 0)
        report_tell(REPORT_WARN, "memory_unknown", REPORT_NO_SHARD, (struct str){0},
                    "/proc/self/statm cannot be read: memory is not watched");
}

void pressure_end(struct pressure *pressure)
{
    if (pressure->fd >= 0)
        close(pressure->fd);
}

const char *pressure_name(enum pressure_level level)
{
    static const char *const names[] = {"none", "high", "critical"};
    return names[level];
}

static bool is_over(const struct pressure *pressure, uint64_t bytes, int percent)
{
    return bytes >= pressure->limit_bytes / 100 * (uint64_t)percent;
}

static int level_at(const struct pressure *pressure, uint64_t bytes, int before)
{
    int critical = CRITICAL_PERCENT - (before >= PRESSURE_CRITICAL ? SLACK_PERCENT : 0);
    int high = HIGH_PERCENT - (before >= PRESSURE_HIGH ? SLACK_PERCENT : 0);
    if (is_over(pressure, bytes, critical))
        return PRESSURE_CRITICAL;
    return is_over(pressure, bytes, high) ? PRESSURE_HIGH : PRESSURE_NONE;
}

static void tell(const struct pressure *pressure, uint64_t bytes, int level)
{
    static const char *const consequences[] = {
        "all is done again",
        "no session is made, and those that nobody uses leave memory",
        "commands are refused, reading goes on",
    };
    report_tell(level == PRESSURE_NONE ? REPORT_INFO : REPORT_WARN, "memory_pressure",
                REPORT_NO_SHARD, (struct str){0}, "%llu of %llu MiB of memory are in use: %s",
                (unsigned long long)(bytes >> 20),
                (unsigned long long)(pressure->limit_bytes >> 20), consequences[level]);
}

static void purge(struct pressure *pressure, int64_t now_ms)
{
    if (now_ms < atomic_load_explicit(&pressure->purge_ms, memory_order_relaxed))
        return;
    atomic_store_explicit(&pressure->purge_ms, now_ms + PURGE_MS, memory_order_relaxed);
#ifdef ATOLL_JEMALLOC
    char name[40];
    snprintf(name, sizeof(name), "arena.%u.purge", (unsigned)MALLCTL_ARENAS_ALL);
    mallctl(name, NULL, NULL, NULL, 0);
#endif
}

/* Whoever moves look_ms on is the one that looks: so no two do at a time, or the second, who is
 * late by 100 ms, sees what is newer. */
bool pressure_look(struct pressure *pressure, int64_t now_ms)
{
    int64_t due_ms = atomic_load_explicit(&pressure->look_ms, memory_order_relaxed);
    if (now_ms < due_ms || pressure->limit_bytes == 0 ||
        !atomic_compare_exchange_strong(&pressure->look_ms, &due_ms, now_ms + LOOK_MS))
        return false;
    uint64_t bytes = pressure->resident(pressure);
    int before = atomic_load_explicit(&pressure->level, memory_order_relaxed);
    int level = level_at(pressure, bytes, before);
    atomic_store_explicit(&pressure->resident_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&pressure->level, level, memory_order_relaxed);
    if (level != before)
        tell(pressure, bytes, level);
    if (level != PRESSURE_NONE)
        purge(pressure, now_ms);
    return level != before;
}
