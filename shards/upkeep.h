/*
 * upkeep: what goes on beside requests. Private to upkeep.c and compaction.c.
 */
#ifndef ATOLL_SHARDS_UPKEEP_H
#define ATOLL_SHARDS_UPKEEP_H

#include <stdbool.h>

struct shard;

/* Gives the verdicts, on other shards' sessions or our own, whose ground is on disk by now; once a
 * turn, also while stopping: the pass that asked ends only with its answer. */
void compaction_answer(struct shard *shard);
/* A look, once a turn; cheap where nothing is due. */
void compaction_turn(struct shard *shard);
/* Milliseconds until there may be something to do, -1: nothing. */
int compaction_tick(struct shard *shard);
bool compaction_busy(const struct shard *shard);
/* The segment that is being rewritten is left as it is, and no other is begun. */
void compaction_stop(struct shard *shard);
void compaction_free(struct shard *shard);

#endif
