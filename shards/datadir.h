/*
 * datadir: the data directory: its lock, its manifest, its segment files.
 *
 * The manifest names what counts: format version, generation, shard count, the key of the session
 * hash, the number of starts, and every segment. It is replaced as a whole (temporary file, fsync,
 * rename, fsync of the directory). Files it does not name are left-overs of a crash and are
 * removed at start (only those with our segment and temporary names).
 *
 * A new shard count starts a new generation: the logs of older ones are sealed, still read at
 * start, and never written again.
 *
 * Failure at start: a sentence naming the file and what is wrong with it; nothing is changed in a
 * directory that is not ours, is newer than this program, is locked, or cannot be read.
 *
 * Thread: opened and closed by the main thread. Segments are added from the helper threads of
 * several shards, so manifest and segment table are behind one mutex: this is no ring because it
 * is touched once per segment, never on the path of a command. A segment's fd never changes while
 * the directory is open, so readers find it without the mutex.
 */
#ifndef ATOLL_SHARDS_DATADIR_H
#define ATOLL_SHARDS_DATADIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct datadir;

enum { DATADIR_SHARDS_MAX = 64, DATADIR_HASH_KEY_BYTES = 16, DATADIR_LOCK_WAIT_MS = 2000 };

struct datadir_options {
    const char *path;
    unsigned shards;        /* wanted from now on */
    uint64_t segment_bytes; /* size of new segments */
    bool relaxed;           /* the durability of this run */
};

struct datadir_segment {
    uint32_t number;     /* unique in the directory, ascending, from 1 */
    uint32_t generation; /* from 1 */
    uint32_t shard;      /* of that generation */
    int fd;              /* open for reading and writing */
    uint64_t bytes;      /* size of the file */
};

/*
 * Opens or makes the directory: takes the lock (tried for DATADIR_LOCK_WAIT_MS), reads the
 * manifest, counts this start, starts a new generation if the shard count changed, makes the new
 * manifest durable. Where the last run was relaxed, did not end cleanly and the machine has
 * restarted since (boot id), `incarnation` goes up. 0, or -errno with a sentence in `error`.
 */
int datadir_open(const struct datadir_options *options, struct datadir **opened, char *error,
                 size_t error_size);
/* clean: everything is committed and synced; noted in the manifest. */
void datadir_close(struct datadir *dir, bool clean);

const char *datadir_path(const struct datadir *dir);
uint64_t datadir_starts(const struct datadir *dir);      /* number of this start, from 1 */
uint64_t datadir_incarnation(const struct datadir *dir); /* 0, and one more after each such loss */
uint32_t datadir_generation(const struct datadir *dir);
unsigned datadir_shards(const struct datadir *dir);
uint64_t datadir_segment_bytes(const struct datadir *dir);
const uint8_t *datadir_hash_key(const struct datadir *dir); /* DATADIR_HASH_KEY_BYTES */

/* The segments of a log in ascending order into `segments` (an array of `max`); returns how many
 * there are. generation 0: of all logs, ordered by generation, shard, number. */
size_t datadir_segments(const struct datadir *dir, uint32_t generation, uint32_t shard,
                        struct datadir_segment *segments, size_t max);
/* The open fd of a segment, -1 where there is none of this number. Any thread. */
int datadir_segment_fd(const struct datadir *dir, uint32_t number);
/* Its size; 0 where there is none of this number. Any thread. */
uint64_t datadir_segment_size(const struct datadir *dir, uint32_t number);
void datadir_segment_name(uint32_t number, char name[32]);

/* Where a log ends: behind its last batch. */
struct datadir_end {
    uint32_t segment;
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
 * Main thread, at start, when the ends of all older generations' logs are known: removes their
 * segments behind the end (made ahead of need, never written) and puts the ends into the manifest.
 * 0 or -errno.
 */
int datadir_seal(struct datadir *dir);

/*
 * Makes the next segment of a log of the current generation: file with its header, allocated,
 * written with zeros, synced, in the manifest. Blocking: helper thread or start. 0 or -errno
 * (-ENOSPC leaves nothing behind).
 */
int datadir_add_segment(struct datadir *dir, uint32_t shard, struct datadir_segment *added);

#endif
