/*
 * compact: what is done to one segment's file to rid it of records that nobody needs. Which those
 * are is the shards' to say (upkeep.c); this knows files and records.
 *
 * A segment is read once for the lives in it (compact_survey), the shards give a verdict on each,
 * and it is read again while what stays is written to a new file (compact_rewrite), which then
 * takes its place (datadir_finish_rewrite), or the segment is dropped where nothing stays.
 *
 * Thread: a helper's; all of it blocks. Nothing here is shared. The survey belongs to whoever made
 * it.
 */
#ifndef ATOLL_SHARDS_COMPACT_H
#define ATOLL_SHARDS_COMPACT_H

#include "shards/log.h"

/* What of one life of a session stays. A record stays where its position is `from` or later, or
 * where its first seq, or its state where it is a snapshot, is `upto_seq` or less (what forks have
 * pinned). */
struct compact_verdict {
    log_position from; /* LOG_POSITION_NONE: all of it; UINT64_MAX: nothing by this rule */
    uint64_t upto_seq; /* 0: nothing by this rule */
};

struct compact_life {
    struct str session; /* in the survey's arena */
    uint64_t epoch;
    uint64_t bytes; /* of its records here */
    struct compact_verdict verdict; /* before the shards have said: nothing stays */
};

struct compact_survey {
    uint32_t segment;
    struct compact_life *lives; /* each once, in no order */
    uint32_t lives_n;
    uint64_t bytes; /* of all records */
    int64_t newest_ts_ms;
    struct arena arena;
};

struct compact_result {
    uint64_t read_bytes, kept_bytes; /* of records */
    bool dropped;                    /* nothing stayed: the segment is gone */
    bool unchanged;                  /* everything stayed: left as it was */
};

/* 0, or -errno with a sentence in `error`. Pins, unpins and tombstones are of no life here: they
 * never stay (a checkpoint holds what they said). */
int compact_survey(struct datadir *dir, uint32_t segment, struct compact_survey **survey,
                   char *error, size_t error_size);
/*
 * Rewrites or drops the segment after the verdicts. `bytes_per_s`: it pauses so as to read and
 * write no faster than that (0: as fast as it can), that appending goes on beside it.
 * `stop` (may be NULL) is looked at between pieces: then -ECANCELED, nothing has changed.
 */
int compact_rewrite(struct datadir *dir, const struct compact_survey *survey, uint64_t bytes_per_s,
                    const _Atomic bool *stop, struct compact_result *result, char *error,
                    size_t error_size);
void compact_survey_free(struct compact_survey *survey);

#endif
