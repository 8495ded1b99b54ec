/*
 * verify: reads a whole data directory that no server uses, and says whether all of it is as it was
 * written and fits together: every checksum, every chain of records, every fold.
 *
 * Thread: any; blocks for as long as the directory is large. Changes nothing in it.
 */
#ifndef ATOLL_SHARDS_VERIFY_H
#define ATOLL_SHARDS_VERIFY_H

#include "shards/fs.h"

enum { VERIFY_HITS_MAX = 20, VERIFY_ID_BYTES = 65 };

struct verify_options {
    uint64_t memory_bytes;                         /* for the sessions of one pass; 0: 1 GiB */
    void (*progress)(void *ctx, unsigned percent); /* NULL: not asked */
    void *ctx;
};

/* What has been checked. */
struct verify_report {
    uint64_t bytes;               /* of all files that the manifest names */
    uint64_t segments, rewritten; /* files; the second are among the first */
    uint64_t batches, records, events;
    uint64_t sessions;   /* that live, */
    uint64_t companions; /* and faces' own beside them */
    uint64_t lives;      /* of sessions, theirs and those that have ended or lie in part */
    uint64_t snapshots;  /* compared with the fold, or begun from where what is before is gone */
    uint64_t forks, pins;
    uint64_t checkpoints, entries; /* files, and the sessions they list */
    uint64_t passes;
    uint64_t torn_bytes; /* of batches never committed, which the next start cuts off: no fault */
    uint64_t orphans;    /* pins without a fork, which the next start removes: no fault */
    uint64_t missing;    /* segments that the manifest names and that are not there */
    /* Sessions that a missing segment hits: how many, and the first of them. */
    uint64_t hits;
    char hit[VERIFY_HITS_MAX][VERIFY_ID_BYTES];
};

/*
 * 0: all of it is well. -EIO: `error` says what is wrong first, naming file and offset, and session
 * and seq where they are known; with report->missing the name of the first segment that is missing,
 * and `hits` says the rest. Any other -errno: it could not be looked at.
 */
int verify_run(struct fs *fs, const struct verify_options *options, struct verify_report *report,
               char *error, size_t error_size);

#endif
