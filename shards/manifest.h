/*
 * manifest: what the data directory's manifest says, as a struct and as text. Part of datadir;
 * touches no file.
 *
 * The text is one `word value …` per line, in this order:
 *
 *   atoll-data 2                     format version; another is refused, whatever else it says
 *   generation 2                     0 until the first has begun: then no shards, and no files
 *   shards 3                         of that generation
 *   hash_key 000102…0f               16 bytes
 *   starts 17
 *   incarnation 0
 *   next_segment 6                   numbers below are never used again
 *   boot 01234567-89ab-…             of the machine at the last start, or "-"
 *   durability commit                or "relaxed": of the run that began then
 *   state open                       or "clean": stopped with everything on disk
 *   segment 1 1 0 0 67108864         number, generation, shard, version, bytes; once for each,
 *                                    ascending by number
 *   checkpoint 2 0 7 81920 1 8192 12 generation, shard: number and bytes of the file; the log goes
 *                                    on in segment 1 at offset 8192, behind batch 12
 *   end 1 0 1 8192 12                generation, shard: the log ends in segment 1 at offset 8192,
 *                                    its last batch is 12; for logs that are not open
 *   checksum 0123456789abcdef        XXH3-64 of all lines before
 *
 * Where a log ends or goes on, segment 0 (offset 0, batch 0) says: nowhere, it has no batch. The
 * segment named there may be gone, or rewritten: compaction does not wait for the log's end.
 * Checkpoints are of the newest generation only.
 *
 * Failure: manifest_parse says in words what is wrong; it believes nothing before the checksum has
 * been found right, and then still checks every number.
 */
#ifndef ATOLL_SHARDS_MANIFEST_H
#define ATOLL_SHARDS_MANIFEST_H

#include "core/base.h"
#include "shards/datadir.h"

enum {
    MANIFEST_VERSION = 2,
    MANIFEST_BOOT_BYTES = 40,            /* longest boot id, and its 0 */
    MANIFEST_SEGMENTS_MAX = 1024 * 1024, /* numbers; more: -ENOSPC. 64 TiB of 64 MiB segments */
};

struct manifest_end {
    uint32_t generation;
    uint32_t shard;
    struct datadir_end end;
};

struct manifest_checkpoint {
    uint32_t generation;
    uint32_t shard;
    struct datadir_checkpoint checkpoint;
};

/* Zero-initialise to make one; manifest_free releases what it holds. */
struct manifest {
    uint32_t generation;
    uint32_t shards;
    uint8_t hash_key[DATADIR_HASH_KEY_BYTES];
    uint64_t starts;
    uint64_t incarnation;
    uint32_t next_segment;
    char boot[MANIFEST_BOOT_BYTES];
    bool relaxed;
    bool clean;
    struct datadir_segment *segments; /* ascending; fd -1 from manifest_parse */
    size_t segment_count;
    struct manifest_checkpoint *checkpoints;
    size_t checkpoint_count;
    struct manifest_end *ends;
    size_t end_count;
};

void manifest_free(struct manifest *m);
/* Fills an empty `copy`. */
void manifest_copy(const struct manifest *m, struct manifest *copy);

void manifest_add_segment(struct manifest *m, const struct datadir_segment *segment);
void manifest_drop_segment(struct manifest *m, uint32_t number);
/* NULL where there is none of that number. */
struct datadir_segment *manifest_find_segment(const struct manifest *m, uint32_t number);

/* NULL where it is not known. */
struct manifest_end *manifest_find_end(const struct manifest *m, uint32_t generation,
                                       uint32_t shard);
void manifest_set_end(struct manifest *m, uint32_t generation, uint32_t shard,
                      const struct datadir_end *end);
void manifest_drop_end(struct manifest *m, uint32_t generation, uint32_t shard);

/* NULL where there is none. */
struct manifest_checkpoint *manifest_find_checkpoint(const struct manifest *m, uint32_t generation,
                                                     uint32_t shard);
void manifest_set_checkpoint(struct manifest *m, uint32_t generation, uint32_t shard,
                             const struct datadir_checkpoint *checkpoint);
void manifest_drop_checkpoints(struct manifest *m);

/* Of all files it names. */
uint64_t manifest_bytes(const struct manifest *m);

/* Adds the text to `out`. Ends of the current generation are left out unless it is clean. */
void manifest_format(const struct manifest *m, struct buf *out);
/* Fills an empty `m`. 0, or -EIO (damaged), -EPROTONOSUPPORT (newer or older), and the end of a
 * sentence in `what`; then there is nothing to free. */
int manifest_parse(struct manifest *m, struct str text, char *what, size_t what_size);

#endif
