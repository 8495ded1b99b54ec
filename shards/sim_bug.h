/*
 * sim_bug: bugs that the simulator plants on purpose, one at a time, to show that it would find
 * them (tests/sim/README.md). Only its own build has them; in the product each `sim_bug(…)` is the
 * constant false.
 */
#ifndef ATOLL_SHARDS_SIM_BUG_H
#define ATOLL_SHARDS_SIM_BUG_H

#include <stdbool.h>

/* code, name, what is done wrong */
#define SIM_BUGS(X)                                                                                \
    X(EARLY_REPLY, "early-reply", "answers leave before what they speak of is committed")          \
    X(NO_LOG_SYNC, "no-log-sync", "a batch counts as committed without an fdatasync")              \
    X(SYNC_AGAIN, "sync-again", "a failed fdatasync of the log is tried again")                    \
    X(NO_DIRECTORY_SYNC, "no-directory-sync", "the directory is not synced behind a manifest")     \
    X(TAIL_NOT_CUT, "tail-not-cut", "a torn tail is overwritten, but not synced")                  \
    X(CACHE_BELIEVED, "cache-believed", "a start reads the log's end from the page cache")         \
    X(STALE_SNAPSHOT, "stale-snapshot", "a session leaves memory as of its newest snapshot")       \
    X(KEYS_LEFT_OUT, "keys-left-out", "snapshots hold no idempotency keys")                        \
    X(EARLY_CHECKPOINT, "early-checkpoint", "a checkpoint counts before the log it speaks of")     \
    X(LATE_CHECKPOINT, "late-checkpoint", "a checkpoint's place is that of its end")               \
    X(PINNED_DROPPED, "pinned-dropped", "compaction drops what forks need of deleted sessions")    \
    X(ORPHANS_STAY, "orphans-stay", "a start keeps pins whose fork never came to be")              \
    X(RESURRECTION, "resurrection", "tombstones are passed over with another shard count")         \
    X(EARLY_UNLINK, "early-unlink", "a rewritten segment goes before the manifest is durable")     \
    X(EPOCH_AGAIN, "epoch-again", "epochs begin anew with each start")                             \
    X(UNATTENDED, "unattended", "the directory forgets which sessions have leases or targets")     \
    X(TOLD_ENOUGH, "told-enough", "a call that failed counts as if it had reached its target")     \
    X(EARLY_REBUILD, "early-rebuild", "a session is made anew before all of it is committed")

enum sim_bug {
    SIM_BUG_NONE,
#define X(code, name, what) SIM_BUG_##code,
    SIM_BUGS(X)
#undef X
};

#ifdef ATOLL_SIM_BUGS
bool sim_bug(enum sim_bug bug);
#else
#define sim_bug(bug) false
#endif

#endif
