#include "server/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

#ifdef ATOLL_JEMALLOC
/*
 * Read by jemalloc when it starts; the environment's MALLOC_CONF goes over it. While a request is
 * under way h2o holds a piece of 4 KiB for it, and a buffer of a little more than 8 KiB; of those
 * that are done with it keeps only 16 each, the rest are malloc's: hundreds in each turn of a busy
 * server. By default there are one or two to a slab, and a thread keeps 20. Slabs of 64 it is.
 */
const char *malloc_conf = "slab_sizes:4096-4096:64|10240-10240:160";
#endif

/* What the file says; UINT64_MAX where it is not there or says "max". */
static uint64_t read_limit(const char *path)
{
    uint64_t bytes = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return UINT64_MAX;
    if (fscanf(file, "%" SCNu64, &bytes) != 1)
        bytes = UINT64_MAX;
    fclose(file);
    return bytes;
}

uint64_t memory_group_bytes(const char *root, const char *path, const char *file)
{
    uint64_t least = UINT64_MAX;
    char group[PATH_SIZE];
    char name[2 * PATH_SIZE];

    snprintf(group, sizeof(group), "%s", path);
    for (;;) {
        snprintf(name, sizeof(name), "%s%s/%s", root, group, file);
        uint64_t bytes = read_limit(name);
        least = bytes < least ? bytes : least;
        char *last = strrchr(group, '/');
        if (last == NULL)
            return least;
        *last = '\0';
    }
}

/* Of the groups that this process is in: lines "0::/path" (v2) and "4:memory:/path" (v1). */
static uint64_t groups_bytes(void)
{
    uint64_t least = UINT64_MAX;
    char line[PATH_SIZE];
    FILE *file = fopen("/proc/self/cgroup", "re");

    if (file == NULL)
        return UINT64_MAX;
    while (fgets(line, sizeof(line), file) != NULL) {
        uint64_t bytes = UINT64_MAX;
        const char *v1 = strstr(line, ":memory:/");
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::/", 4) == 0)
            bytes = memory_group_bytes("/sys/fs/cgroup", line + 3, "memory.max");
        else if (v1 != NULL)
            bytes = memory_group_bytes("/sys/fs/cgroup/memory", v1 + strlen(":memory:"),
                                       "memory.limit_in_bytes");
        least = bytes < least ? bytes : least;
    }
    fclose(file);
    return least;
}

uint64_t memory_available_bytes(void)
{
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
    uint64_t groups = groups_bytes();
    return groups < machine ? groups : machine;
}
