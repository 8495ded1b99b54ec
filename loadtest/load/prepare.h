/*
 * prepare: sessions to write to. Those that are not there are made as `fill` makes them, with the
 * agent a1 and its thread "work"; what is there stays as it is.
 *
 * Thread: one.
 */
#ifndef ATOLL_LOAD_PREPARE_H
#define ATOLL_LOAD_PREPARE_H

#include "mode.h"

/* All of --sessions; `seqs` takes where each stands. False: told in the report, or on standard
 * error. */
bool prepare_sessions(const struct load_options *options, struct report *report, uint64_t *seqs);

#endif
