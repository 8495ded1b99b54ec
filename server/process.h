/*
 * process: what the operating system counts of this process. Any thread; some tens of microseconds.
 */
#ifndef ATOLL_SERVER_PROCESS_H
#define ATOLL_SERVER_PROCESS_H

#include <stdint.h>

/* 0: not known. */
struct process_figures {
    double cpu_s;
    uint64_t resident_bytes, virtual_bytes;
    uint64_t open_fds, max_fds;
};

struct process_figures process_figures(void);

#endif
