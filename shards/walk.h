/*
 * walk: the files of a data directory, read by those who have not opened it: atoll verify, which
 * must be able to say of a damaged directory what is wrong with it, and atoll backup, which reads
 * beside the process that has it open.
 *
 * Nothing here writes, locks, or believes a byte before it has been checked.
 *
 * Thread: any; each struct belongs to whoever made it.
 */
#ifndef ATOLL_SHARDS_WALK_H
#define ATOLL_SHARDS_WALK_H

#include "shards/datadir_internal.h"
#include "shards/log_format.h"

/* The manifest's text, and what it says; both empty before, and to be freed by the caller. 0, or
 * -errno with a sentence that names the file. */
int walk_read_manifest(struct fs *fs, struct buf *text, struct manifest *manifest, char *error,
                       size_t error_size);

/* A file being read from its beginning to its end, through a window. */
struct walk {
    struct fs *fs;
    int file;
    uint64_t bytes; /* of it */
    uint64_t seed;  /* of a segment: of all its checksums, to which their offsets are added */
    struct buf window;
    uint64_t window_from;
};

/* The segment is open (fd). walk_end frees what walk_begin has made, and leaves the file open. */
void walk_begin(struct walk *walk, struct fs *fs, const struct datadir_segment *segment,
                const uint8_t *hash_key);
void walk_end(struct walk *walk);
/* What is read next comes from the file again, which somebody else may be writing. */
void walk_forget(struct walk *walk);

/* `n` bytes at `offset`, good until the next call; NULL where they cannot be had, with *result
 * -errno (-EIO: the file ends before). */
const char *walk_view(struct walk *walk, uint64_t offset, size_t n, int *result);
/* 1: a whole batch stands there, and is at *batch until the next call; 0: none does; -errno. */
int walk_batch(struct walk *walk, uint64_t offset, struct log_batch_header *header,
               const char **batch);

#endif
