/*
 * run: one seed: a disk, and a number of processes on it one after the other, each of which ends in
 * its own way (a loss of power, a kill, a failed disk, a clean stop), under clients at work.
 */
#ifndef ATOLL_TESTS_SIM_RUN_H
#define ATOLL_TESTS_SIM_RUN_H

#include "tests/sim/disk.h"

struct run_figures {
    uint64_t lives, starts_failed, crashes, stops, events, requests, faults;
    uint64_t snapshots, checkpoints, compactions, passivations, loads, rebuilds, forks, rots;
    uint64_t verified; /* directories and backups */
    uint64_t digest;   /* of the disk at the end */
};

/* Ends the process through sim_violation where something is wrong. */
void run_seed(uint64_t seed, struct run_figures *figures);

#endif
