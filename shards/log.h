/*
 * log: the shard's append-only segments, committed in batches. Format: log.c; what is in the data
 * directory besides, and the manifest: datadir.h.
 *
 * Normal path: the shard reserves room, appends records to the batch being built, and once a turn
 * calls log_commit, which writes that batch if none is in flight (group commit without a timer).
 * When it is on disk, on_committed runs with its number; everything up to that number is durable.
 *
 * Failure: no room and no next segment: log_reserve says -ENOSPC and nothing has been changed. A
 * failed write or fdatasync runs on_failed, once; the log takes no more records after that, and
 * the process is expected to say so and exit.
 *
 * Thread: the shard's own. Only segment preparation runs on the io's helper thread.
 */
#ifndef ATOLL_SHARDS_LOG_H
#define ATOLL_SHARDS_LOG_H

#include "core/base.h"
#include "shards/datadir.h"
#include "shards/io.h"

/* Where a record starts: segment number (high 32 bits) and offset in it. 0: nowhere. */
typedef uint64_t log_position;

#define LOG_POSITION_NONE ((log_position)0)

enum log_record_type {
    LOG_RECORD_EVENTS = 1,    /* body: what the shard makes of it (shards/record.h) */
    LOG_RECORD_TOMBSTONE = 2, /* this life of the session has ended */
};

struct log_record {
    uint8_t type;
    struct str session;    /* 1..64 bytes */
    uint64_t epoch;
    uint64_t seq;          /* of the first event in it (where it has none: of the next one) */
    uint32_t events;       /* how many */
    int64_t ts_ms;
    log_position previous; /* the session's record before this one in the same life, or none */
    struct str body;
};

enum log_durability {
    LOG_COMMIT,  /* a batch is committed when it is written and synced */
    LOG_RELAXED, /* … when it is written; synced within 100 ms */
};

struct log_callbacks {
    void *ctx;
    void (*on_committed)(void *ctx, uint64_t batch);
    void (*on_failed)(void *ctx, int error); /* positive errno */
};

struct log_stats {
    uint64_t batches;        /* committed */
    uint64_t records;        /* committed */
    uint64_t bytes;          /* committed, headers and padding included */
    uint64_t commit_ns;      /* sum over commits: from submitting the write to its completion */
    uint64_t commit_ns_last;
    uint64_t segments;       /* of this log, sealed ones included */
    uint64_t torn_bytes;     /* cut off at start */
};

struct log;

/*
 * Opens the log of one shard of the current generation for appending; log_clean_tails must have
 * found its end. Makes its first segment (blocking) where there is none. 0 or -errno.
 */
int log_open(struct datadir *dir, unsigned shard, struct io *io, enum log_durability durability,
             const struct log_callbacks *callbacks, struct log **opened);
/*
 * Everything should be committed or failed (log_idle): a batch being built is dropped. Waits for
 * what is in flight, running the callbacks of whatever its io completes meanwhile, and syncs what
 * LOG_RELAXED left unsynced; should that fail, on_failed runs.
 */
void log_close(struct log *log);

/*
 * Makes sure that one record with a body of `body_size` can be appended next. 0; -EAGAIN: not now,
 * try again after the next on_committed or log_commit (batch full, or next segment being
 * prepared); -ENOSPC: the disk is full (tried again at most once a second, by itself);
 * -EFBIG: more than a segment could ever hold; -EIO after a failure.
 */
int log_reserve(struct log *log, size_t body_size);
/* The same for a tombstone with a small body: a little of the last segment is kept for these, so
 * that they mostly still fit where log_reserve says -ENOSPC. */
int log_reserve_tombstone(struct log *log, size_t body_size);
/* Appends to the batch being built; the record's bytes are copied. Needs log_reserve's 0. */
log_position log_append(struct log *log, const struct log_record *record);

/* Number of the batch that log_append adds to now; on_committed will name it. */
uint64_t log_building(const struct log *log);
/* Newest committed batch. */
uint64_t log_committed(const struct log *log);
/* Starts writing the batch being built, if there is one and none is in flight. */
void log_commit(struct log *log);
/* Nothing built, nothing in flight, nothing unsynced, no segment being prepared. */
bool log_idle(const struct log *log);
/* LOG_RELAXED: milliseconds until log_tick must be called, -1: no need. now_ms is monotonic. */
int log_tick(struct log *log, int64_t now_ms);
const struct log_stats *log_stats(const struct log *log);

/*
 * Reads one record of any log in the directory (sealed segments may be read by any shard). The
 * record must be committed. done gets 0 and fills `record`, whose strings point into the
 * request's own buffer, good until log_read_release or the next log_read with it; or -EIO where
 * what stands there does not check.
 */
struct log_read {
    void (*done)(struct log_read *read, int result);
    void *owner;
    struct log_record record;
    /* Private. */
    struct io_read io;
    struct buf bytes;
    struct io *via;
    log_position position;
    uint64_t seed;
    uint64_t room; /* from the position to the end of its segment */
    int fd;
};

void log_read(struct log *log, struct log_read *read, log_position position);
void log_read_release(struct log_read *read);

/*
 * Recovery. Visits every record of every log in the directory, generation by generation, each log
 * in order, checking every checksum. Runs before log_open, blocking, on the shard's thread; any
 * number of shards may do so side by side (each then keeps what hashes to it), but the tails must
 * have been cleaned before by log_clean_tails.
 *
 * A visitor's non-zero answer stops and is returned. Errors: `error` gets a sentence naming file
 * and offset, the result is -EIO (corruption) or -errno.
 */
typedef int log_visit(void *ctx, const struct log_record *record, log_position position);
int log_recover(struct datadir *dir, log_visit *visit, void *ctx, char *error, size_t error_size);

/*
 * Finds the end of each log of the newest generation, tells a torn tail (a bad last batch: zeroed,
 * synced, counted in *torn_bytes) from corruption (a bad batch with a valid later one behind it:
 * -EIO, naming file and offset). Once, on the main thread, before any log_recover.
 */
int log_clean_tails(struct datadir *dir, uint64_t *torn_bytes, char *error, size_t error_size);

#endif
