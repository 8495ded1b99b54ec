/*
 * process: what another process (the server) and this one have used: CPU time of all their threads,
 * memory. Read from /proc; a process that is gone gives zeros and `gone`.
 *
 * Thread: anyone's.
 */
#ifndef ATOLL_LOAD_PROCESS_H
#define ATOLL_LOAD_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct process_usage {
    double user_s, system_s; /* all threads, those that ended too */
    double rss_mb;           /* VmRSS, of 10^6 bytes */
    double peak_mb;          /* VmHWM */
    double page_tables_mb;   /* VmPTE */
    bool gone;
};

/* pid 0: this process. */
struct process_usage process_usage(uint64_t pid);
/* Monotonic. */
uint64_t process_now_ns(void);

#endif
