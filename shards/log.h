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
#include "shards/figures.h"
#include "shards/io.h"

/* Where a record starts: segment number (high 32 bits) and offset in it. 0: nowhere. */
typedef uint64_t log_position;

#define LOG_POSITION_NONE ((log_position)0)

enum log_record_type {
    LOG_RECORD_EVENTS = 1,    /* what one request did; its body: record.c */
    LOG_RECORD_TOMBSTONE = 2, /* this life of the session has ended */
    LOG_RECORD_SNAPSHOT = 3,  /* the whole session as of its last event; body: record.c */
    LOG_RECORD_PIN = 4,       /* a fork needs this life up to a seq; not in the session's chain */
    LOG_RECORD_UNPIN = 5,     /* it does no longer */
};

enum log_record_flags {
    LOG_RECORD_DIRECTORY = 1, /* changes what the directory of sessions holds of it (labels, ttl) */
    LOG_RECORD_IMPORTING = 2, /* the session is not whole until a record without this follows */
};

struct log_record {
    uint8_t type;
    uint8_t flags;
    struct str session; /* 1..64 bytes */
    uint64_t epoch;
    uint64_t seq;    /* of the first event in it (where it has none: of the next one) */
    uint32_t events; /* how many */
    int64_t ts_ms;
    log_position previous; /* the session's record before this one in the same life, or none */
    struct str head;       /* appending only: what the body begins with, before `body` */
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

/*
 * Where the batch being built will stand: everything appended to earlier batches is before it. For
 * checkpoints: a recovery that starts there misses nothing of this batch or of later ones.
 */
void log_mark(const struct log *log, struct datadir_end *mark);
/* The record appended next begins in a new segment, so that the present one can be compacted. 0, or
 * -EAGAIN while the next segment is being prepared (call again), -ENOSPC, -EIO. */
int log_roll(struct log *log);
/* The segment that is being written. */
uint32_t log_segment(const struct log *log);

/* Number of the batch that log_append adds to now; on_committed will name it. */
uint64_t log_building(const struct log *log);
/* Newest committed batch. */
uint64_t log_committed(const struct log *log);
/* Newest batch that is known to be on disk; LOG_COMMIT: log_committed. */
uint64_t log_synced(const struct log *log);
/* The segment that is being written to or synced, or has something unsynced; 0: none. */
uint32_t log_busy_segment(const struct log *log);
/* The segment in which something committed is not synced yet (there is one at most); 0: none. */
uint32_t log_unsynced_segment(const struct log *log);
/* Starts writing the batch being built, if there is one and none is in flight. */
void log_commit(struct log *log);
/* Nothing built, nothing in flight, nothing unsynced, no segment being prepared. */
bool log_idle(const struct log *log);
/* LOG_RELAXED: milliseconds until log_tick must be called, -1: no need. now_ms is monotonic. */
int log_tick(struct log *log, int64_t now_ms);
const struct log_stats *log_stats(const struct log *log);
/* What it was opened with. */
struct datadir *log_datadir(const struct log *log);
struct io *log_io(const struct log *log);

/*
 * Reads one record of any log in the directory, wherever a compaction has put it. The record must
 * be committed. done gets 0 and fills `record`, whose strings point into the request's own buffer,
 * good until log_read_release or the next log_read with it; -ENOENT where it is gone (retention,
 * compaction after a deletion); -EIO where what stands there does not check.
 *
 * Readers that go back along a session's records set `window_bytes`: so much is then read in one
 * go, ending behind the record, and a record that is in there already costs no further read.
 */
struct log_read {
    void (*done)(struct log_read *read, int result);
    void *owner;
    struct log_record record;
    uint32_t window_bytes; /* 0: only the record */
    /* Private. */
    struct io_read io;
    struct buf bytes;
    struct log *log;
    const struct datadir_file *file; /* held while a read is out */
    log_position position;
    uint64_t at;   /* in the file */
    uint64_t room; /* from there to the end of its run */
    uint64_t window_from;
    uint32_t window_number, window_version;
};

/* `done` may run before this returns: where the window holds the record, and for -ENOENT. */
void log_read(struct log *log, struct log_read *read, log_position position);
void log_read_release(struct log_read *read);

/*
 * Recovery. Visits every record of one log from its checkpoint on (`from`; NULL: from its
 * beginning) to its end, in order, checking every checksum. Runs before log_open, blocking; any
 * number of threads may do so side by side (each then keeps what hashes to its shard), but the
 * tails must have been cleaned before by log_clean_tails. `*bytes` grows as the log is read, for
 * progress (NULL: not asked).
 *
 * A visitor's non-zero answer stops and is returned. Errors: `error` gets a sentence naming file
 * and offset, the result is -EIO (corruption) or -errno.
 */
typedef int log_visit(void *ctx, const struct log_record *record, log_position position);
int log_recover(struct datadir *dir, uint32_t generation, uint32_t shard,
                const struct datadir_end *from, log_visit *visit, void *ctx,
                _Atomic uint64_t *bytes, char *error, size_t error_size);
/* How much log_recover would read there. */
uint64_t log_recover_bytes(struct datadir *dir, uint32_t generation, uint32_t shard,
                           const struct datadir_end *from);

/*
 * Finds the end of each log of the generation to recover, beginning at its checkpoint; tells a torn
 * tail (a bad last batch: zeroed, synced, counted in *torn_bytes) from corruption (a bad batch with
 * a valid later one behind it: -EIO, naming file and offset). Once, on the main thread, before any
 * log_recover.
 */
int log_clean_tails(struct datadir *dir, uint64_t *torn_bytes, char *error, size_t error_size);

/*
 * Visits the records of one segment as it is now, rewritten or not, checking every checksum: for
 * compaction and atoll verify. In a segment that was not rewritten it ends where no whole batch
 * follows any more; whether that is where it should end is for those to say who know the log's end.
 * Blocking, on any thread.
 */
int log_visit_segment(struct datadir *dir, uint32_t number, log_visit *visit, void *ctx,
                      char *error, size_t error_size);

#endif
