/*
 * A data directory in memory with one log, for targets whose input is in its files. Checksums are
 * no obstacle: what an input says is sealed as the shard would have, unless it says otherwise.
 */
#ifndef ATOLL_TESTS_FUZZ_DIRECTORY_H
#define ATOLL_TESTS_FUZZ_DIRECTORY_H

#include "shards/log_format.h"
#include "shards/manifest.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_fs.h"

enum { FUZZ_SEGMENT_BYTES = LOG_SEGMENT_MIN_BYTES, FUZZ_ERROR_BYTES = 1024 };

static const uint8_t fuzz_hash_key[DATADIR_HASH_KEY_BYTES] = {1, 2, 3};

static inline struct manifest fuzz_manifest(uint32_t segments)
{
    struct manifest m = {
        .generation = 1, .shards = 1, .starts = 1, .next_segment = segments + 1, .boot = "boot"};
    memcpy(m.hash_key, fuzz_hash_key, sizeof(m.hash_key));
    return m;
}

static inline int fuzz_open(struct memory_files *files, bool read_only, struct datadir **dir,
                            char error[FUZZ_ERROR_BYTES])
{
    struct datadir_options options = {.fs = memory_fs_new(files),
                                      .shards = 1,
                                      .segment_bytes = FUZZ_SEGMENT_BYTES,
                                      .read_only = read_only};
    error[0] = '\0';
    return datadir_open(&options, dir, error, FUZZ_ERROR_BYTES);
}

static inline void fuzz_write_manifest(struct memory_files *files, const struct manifest *m)
{
    struct buf *text = memory_file(files, "manifest");
    text->n = 0;
    manifest_format(m, text);
}

#endif
