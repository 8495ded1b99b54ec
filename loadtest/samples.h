/*
 * samples: times that were measured and their percentiles, and the time that a process has used.
 *
 * Thread: anyone's; a set belongs to one.
 */
#ifndef ATOLL_LOADTEST_SAMPLES_H
#define ATOLL_LOADTEST_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

/* Zero-initialise to make one. */
struct samples {
    uint64_t *ns;
    size_t n, room;
};

/* Monotonic. */
uint64_t samples_now_ns(void);
/* Ends the program where there is no memory. */
void samples_add(struct samples *samples, uint64_t ns);
/* Prints " NAME_n=… NAME_p50_us=… _p99_us=… _max_us=…"; sorts them. Without samples only NAME_n. */
void samples_print(struct samples *samples, const char *name);
void samples_free(struct samples *samples);

/* User and system time of a process, all its threads included; 0: there is no such process. */
double samples_cpu_s(uint64_t pid);

#endif
