/*
 * memory: how much of it this process may use, and how jemalloc is to cut it.
 */
#ifndef ATOLL_SERVER_MEMORY_H
#define ATOLL_SERVER_MEMORY_H

#include <stdint.h>

/* The machine's memory, or less where a control group (v2, v1) allows less. Any thread. */
uint64_t memory_available_bytes(void);

/* The least of the limits of the group `path` and those above it, "/" being at `root`; UINT64_MAX:
 * there is none. For tests. */
uint64_t memory_group_bytes(const char *root, const char *path, const char *file);

#endif
