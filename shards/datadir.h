/*
 * datadir: the data directory: its lock, its manifest, its segment and checkpoint files.
 *
 * The manifest names what counts: format version, generation, shard count, the key of the session
 * hash, the number of starts, every segment and every checkpoint. It is replaced as a whole
 * (temporary file, fsync, rename, fsync of the directory). Files it does not name are left-overs of
 * a crash and are removed at start (only those with our segment, checkpoint and temporary names).
 *
 * A new shard count starts a new generation: the logs of older ones are sealed, read for the
 * history in them until compaction drops them, and never written again.
 *
 * Failure at start: a sentence naming the file and what is wrong with it; nothing is changed in a
 * directory that is not ours, is newer or older than this program, is locked, or cannot be read.
 *
 * Thread: opened, closed, and its generation begun by the main thread. What changes the manifest
 * blocks, and is for helper threads: one mutex lets them do so one after the other. What only asks
 * never waits for a disk: what is known of segments, ends and checkpoints, and the table of open
 * files, are each behind a mutex of their own that is held for a look only.
 */
#ifndef ATOLL_SHARDS_DATADIR_H
#define ATOLL_SHARDS_DATADIR_H

#include "shards/fs.h"

struct datadir;

enum { DATADIR_SHARDS_MAX = 64, DATADIR_HASH_KEY_BYTES = 16, DATADIR_LOCK_WAIT_MS = 2000 };

struct datadir_options {
    struct fs *fs;          /* taken: freed with the datadir, or when opening it fails */
    unsigned shards;        /* wanted from now on */
    uint64_t segment_bytes; /* size of new segments */
    bool relaxed;           /* the durability of this run */
    bool read_only;         /* atoll verify, see datadir_open */
};

struct datadir_segment {
    uint32_t number;     /* unique in the directory, ascending, from 1 */
    uint32_t generation; /* from 1 */
    uint32_t shard;      /* of that generation */
    uint32_t version;    /* 0: as it was written; n: rewritten by the nth compaction */
    int fd;              /* open; do not keep it: see datadir_hold. -1: missing (read_only) */
    uint64_t bytes;      /* size of the file */
};

/*
 * Opens or makes the directory: takes the lock (tried for DATADIR_LOCK_WAIT_MS), reads the
 * manifest, checks that every file it names is there and is what it should be, counts this start,
 * makes the new manifest durable. Where the last run was relaxed, did not end cleanly and the
 * machine has restarted since (boot id), `incarnation` goes up.
 *
 * Where the shard count differs from that of the directory's newest generation, that one stays the
 * current one for recovery, and datadir_begin_generation ends it.
 *
 * read_only: changes nothing in the directory; only what asks may be called, and datadir_set_end.
 * `shards`, `segment_bytes` and `relaxed` are not looked at. A directory in use is refused as ever.
 * A segment or checkpoint that is missing is no refusal: the segment stays among the others, with
 * fd -1 and nothing to hold; opening the checkpoint fails.
 *
 * 0, or -errno with a sentence in `error`: a format newer (or older) than ours is refused by its
 * version, a missing segment by its name.
 */
int datadir_open(const struct datadir_options *options, struct datadir **opened, char *error,
                 size_t error_size);
/* clean: everything is committed and synced; noted in the manifest. */
void datadir_close(struct datadir *dir, bool clean);

const char *datadir_path(const struct datadir *dir);
struct fs *datadir_fs(const struct datadir *dir);
uint64_t datadir_starts(const struct datadir *dir);      /* number of this start, from 1 */
uint64_t datadir_incarnation(const struct datadir *dir); /* 0, and one more after each such loss */
/* What the last run has left behind; 0 in a new directory. Logs of this generation, each from its
 * checkpoint on, are what recovery has to read. */
uint32_t datadir_recover_generation(const struct datadir *dir);
unsigned datadir_recover_shards(const struct datadir *dir);
/* Whether the last run ended with everything on disk and in checkpoints. */
bool datadir_was_clean(const struct datadir *dir);
/* What is written from now on. */
uint32_t datadir_generation(const struct datadir *dir);
unsigned datadir_shards(const struct datadir *dir);
uint64_t datadir_segment_bytes(const struct datadir *dir);
const uint8_t *datadir_hash_key(const struct datadir *dir); /* DATADIR_HASH_KEY_BYTES */

/* The segments of a log in ascending order into `segments` (an array of `max`); returns how many
 * there are. generation 0: of all logs, ordered by generation, shard, number. */
size_t datadir_segments(const struct datadir *dir, uint32_t generation, uint32_t shard,
                        struct datadir_segment *segments, size_t max);
/* "segment-00000007.log", or "segment-00000007.2.log" where it has been rewritten twice. */
void datadir_segment_name(const struct datadir_segment *segment, char name[32]);

/* Where a log ends: behind its last batch. */
struct datadir_end {
    uint32_t segment; /* 0: nowhere, the log has no batch */
    uint64_t offset;
    uint64_t batch;      /* number of the last batch, 0 if there is none */
    uint64_t torn_bytes; /* cut off there at this start; not in the manifest */
};

/*
 * The end of a log, as found at start or left by log_close. `false`: not known (yet). After a clean
 * stop they are in the manifest, and those of older generations always.
 */
bool datadir_get_end(const struct datadir *dir, uint32_t generation, uint32_t shard,
                     struct datadir_end *end);
/* NULL: not known any more. */
void datadir_set_end(struct datadir *dir, uint32_t generation, uint32_t shard,
                     const struct datadir_end *end);

/*
 * Makes the next segment of a log of the current generation: file with its header, allocated,
 * written with zeros, synced, in the manifest. Blocking: helper thread or start. 0 or -errno
 * (-ENOSPC leaves nothing behind).
 */
int datadir_add_segment(struct datadir *dir, uint32_t shard, struct datadir_segment *added);
/* A second fd of a segment, for direct appends (FS_DIRECT); the caller's, until
 * datadir_close_direct. Or -errno: then the segment's own fd has to do. */
int datadir_open_direct(struct datadir *dir, const struct datadir_segment *segment);
void datadir_close_direct(struct datadir *dir, int fd);
/* Whether such an fd can really be written to here. It is tried with the first whole block behind
 * `end`, where zeros stand: with zeros. Blocks. */
bool datadir_can_direct(struct datadir *dir, const struct datadir_segment *segment, uint64_t end);

/* ---- reading segments

 A log_position is logical: segment number and the offset at which the record was written. It stays
 good for ever, or until the record is gone. A rewritten segment keeps runs of records one behind
 the other, and a table (its extents) of where each run stood and stands. */

struct datadir_extent {
    uint32_t offset; /* where the run stood when it was written */
    uint32_t at;     /* where it stands in the file; the next one's `at` ends it */
};

/* One version of a segment's file; immutable but for what is appended. */
struct datadir_file {
    uint32_t number;
    uint32_t version;
    int fd;
    uint64_t bytes;                 /* version 0: of the file; else: where the last run ends */
    struct datadir_extent *extents; /* ascending; NULL: version 0, everything stands where it was */
    uint32_t extents_n;
    uint32_t references; /* private */
};

/*
 * The file that holds a segment now, for reading; NULL where the segment is gone. Whoever holds it
 * may go on reading from it when a compaction has replaced or dropped it meanwhile. Any thread:
 * one lock held for a few instructions, on history reads only, because a file may be replaced
 * under any shard's feet and has to stay open until the last reader is through.
 */
const struct datadir_file *datadir_hold(struct datadir *dir, uint32_t number);
void datadir_release(struct datadir *dir, const struct datadir_file *file);
/* Where what stood at `offset` is in the file, and how many bytes the run goes on from there; false
 * where it is gone. */
bool datadir_locate(const struct datadir_file *file, uint32_t offset, uint64_t *at, uint64_t *room);

/* ---- rewriting segments (compaction). Blocking: helper threads.

 The new file is made under its own name, and becomes the segment when the manifest that names it
 is durable; only then is the old one removed. A crash leaves one or the other whole. */

/* Makes the file of the segment's next version, empty; `*rewritten` is the segment as it will be,
 * its fd open. -EEXIST: somebody else is at it. */
int datadir_begin_rewrite(struct datadir *dir, uint32_t number, struct datadir_segment *rewritten);
/*
 * The file has been written (format: log_format.h) and is synced here: puts it in the place of the
 * version before. The extents (malloc) and the file are taken, also where it fails: there is
 * nothing to abandon then. 0 or -errno; -EIO also where the file is not what it should be. As long
 * as it is not certain which manifest a crash would leave, both versions stay on the disk.
 */
int datadir_finish_rewrite(struct datadir *dir, const struct datadir_segment *rewritten,
                           struct datadir_extent *extents, uint32_t extents_n);
void datadir_abandon_rewrite(struct datadir *dir, const struct datadir_segment *rewritten);
/* Drops whole segments: out of the manifest, then off the disk. */
int datadir_drop_segments(struct datadir *dir, const uint32_t *numbers, size_t n);
/* What all segments and checkpoints take on the disk, as their sizes say. Any thread. */
uint64_t datadir_bytes(const struct datadir *dir);

/* ---- checkpoints: what a shard knows of its sessions at one place of its log.

 One file each, "checkpoint-00000003.dat", its content the shard's own (checkpoint.c). A start reads
 the newest one of each log and what the log holds behind `from`. */

struct datadir_checkpoint {
    uint32_t number;         /* of the file */
    uint64_t bytes;          /* of the file */
    struct datadir_end from; /* the log has to be read from here on; batch: the last one before */
};

/* A new empty file: its number and its fd. Blocking. */
int datadir_begin_checkpoint(struct datadir *dir, uint32_t *number, int *fd);
/* Syncs it and closes it, enters it for a log of the current generation, removes the one before.
 * Blocking. The fd is closed also where it fails. */
int datadir_finish_checkpoint(struct datadir *dir, uint32_t shard,
                              const struct datadir_checkpoint *checkpoint, int fd);
void datadir_abandon_checkpoint(struct datadir *dir, uint32_t number, int fd);
/* The newest of a log; false: there is none, the log is read from its beginning. */
bool datadir_get_checkpoint(const struct datadir *dir, uint32_t generation, uint32_t shard,
                            struct datadir_checkpoint *checkpoint);
int datadir_open_checkpoint(struct datadir *dir, const struct datadir_checkpoint *checkpoint);

/*
 * Main thread, at start, where datadir_recover_shards differs from datadir_shards (or the directory
 * is new): ends the old generation and begins one with a checkpoint for each shard, all in one
 * manifest. checkpoints: written and still open (`fds`), one a shard; synced and closed here; NULL
 * in a new directory. Unused segments of the old generation are removed. 0 or -errno: then the old
 * generation still stands.
 */
int datadir_begin_generation(struct datadir *dir, const struct datadir_checkpoint *checkpoints,
                             const int *fds);

#endif
