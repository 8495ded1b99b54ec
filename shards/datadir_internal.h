/*
 * datadir_internal: what the files of datadir share.
 *
 *   datadir.c         opening, closing, what there is to know
 *   datadir_files.c   names, and the table of open segment files
 *   datadir_change.c  everything that changes the directory while it is open
 *   manifest.c        the manifest as a struct and as text
 *
 * Locks. `changing` is held over I/O by whoever changes the manifest, so that one does after the
 * other; `known` while the manifest in memory is looked at or replaced; `files` while the table of
 * files is. Whoever holds `changing` may read the manifest without `known`. Only `known` is taken
 * while another, `changing`, is held.
 */
#ifndef ATOLL_SHARDS_DATADIR_INTERNAL_H
#define ATOLL_SHARDS_DATADIR_INTERNAL_H

#include "core/base.h"
#include "shards/datadir.h"
#include "shards/manifest.h"

#include <pthread.h>
#include <stdatomic.h>

#define MANIFEST_NAME "manifest"
#define MANIFEST_SPARE_NAME "manifest.next"
#define LOCK_NAME "lock"

enum { DATADIR_NAME_BYTES = 32 };

/* Memory of its own: functions that change nothing lock too. */
struct datadir_locks {
    pthread_mutex_t changing;
    pthread_mutex_t known;
    pthread_mutex_t files;
};

struct datadir {
    /* Never changes while it is open. */
    struct fs *fs;
    struct datadir_locks *locks;
    bool read_only;
    bool was_clean;
    uint64_t starts;
    uint64_t incarnation;
    uint64_t segment_bytes;
    uint32_t recover_generation;
    unsigned recover_shards;
    uint32_t generation; /* the manifest's once it has begun */
    unsigned shards;
    bool begun; /* set by datadir_begin_generation, before there are other threads */
    uint8_t hash_key[DATADIR_HASH_KEY_BYTES];

    struct manifest manifest;    /* changing, known */
    uint32_t next_checkpoint;    /* changing */
    _Atomic uint64_t bytes;      /* of all files the manifest names */
    struct datadir_file **files; /* by number, NULL where there is none: files */
    size_t files_room;           /* files */
    uint32_t rewriting[DATADIR_SHARDS_MAX]; /* segments of which a next version is made: files */
};

/* Names. `name` has DATADIR_NAME_BYTES. */
void datadir_checkpoint_name(uint32_t number, char *name);
/* Whether it is a name as we would write it, of a segment (number and version) or checkpoint. */
bool datadir_parse_segment_name(const char *name, uint32_t *number, uint32_t *version);
bool datadir_parse_checkpoint_name(const char *name, uint32_t *number);

/*
 * Checks the open file of a segment, reads its extents if it has been rewritten, and makes `*file`,
 * which owns the fd. 0, or -errno and the end of a sentence in `what`: then the fd is the caller's
 * still.
 */
int datadir_load_file(const struct datadir *dir, const struct datadir_segment *segment,
                      struct datadir_file **file, char *what, size_t what_size);
/* Closes and frees one that is in no table. */
void datadir_free_file(struct datadir *dir, struct datadir_file *file);
/* Puts it into the table, in the place of the segment's version before. */
void datadir_put_file(struct datadir *dir, struct datadir_file *file);
/* Takes it out of the table. */
void datadir_drop_file(struct datadir *dir, uint32_t number);
void datadir_free_files(struct datadir *dir);

/*
 * Writes the manifest that is to be and puts it into the place of the present one, on the disk and
 * in memory (`next` is taken). *placed: whether that has happened; with an error it means that the
 * new one stands, but nobody knows which of them a crash would leave. Under `changing`.
 */
int datadir_replace_manifest(struct datadir *dir, struct manifest *next, bool *placed);

#endif
