/*
 * disk: a simulated disk with one directory, as pessimistic as POSIX allows.
 *
 * Each file has two images: what a program reads (the page cache) and what would be there after a
 * loss of power. They differ in the sectors written since the last sync. The directory too has two,
 * and a list of the operations (made, moved, removed) between them. sync of a file carries its
 * sectors and size over, sync_directory the operations; nothing else is promised, but sectors may
 * also get there by themselves.
 *
 * A loss of power keeps of the unsynced sectors of each file, and of the unsynced operations on the
 * directory, all, none, a random part or a prefix. A file's size is the synced one, the last one,
 * or anything between; what is missing within it is zeros.
 *
 * A failed sync has carried over some of the sectors; the others count as clean from then on: they
 * are still read as written until the page is dropped (disk_forget, or at random), and no later
 * sync writes them. This is what Linux does, and why an fsync must not be tried again.
 *
 * The crash point: disk_arm says that the nth operation from now does not end any more. A write is
 * then carried out in part; everything after it fails with -EIO and changes nothing, until
 * disk_restart says how it went on. So the program under test is interrupted in the middle of a
 * job, of a start, of a stop, without having to be.
 *
 * Handles are never used twice, so that the use of a closed one is noticed (and ends the process:
 * it is a bug of the program under test).
 */
#ifndef ATOLL_TESTS_SIM_DISK_H
#define ATOLL_TESTS_SIM_DISK_H

#include "shards/fs.h"
#include "tests/sim/random.h"

enum { DISK_SECTOR_BYTES = 512 };

struct disk;

/* Faults, each once in n operations of its kind; 0: never. */
struct disk_faults {
    uint32_t sync_fails;
    uint32_t write_fails; /* in part carried out, then -EIO */
    uint32_t read_fails;
    uint32_t directory_sync_fails;
};

enum disk_outage {
    DISK_KILL, /* the process is gone, the machine goes on: the page cache stays */
    DISK_POWER /* the machine is gone: what was not synced may be too */
};

struct disk *disk_new(struct rng *rng);
void disk_free(struct disk *disk);

/* An fs on it, for datadir_open; freeing it gives up its lock. `pause` (may be NULL) is told of
 * pauses. */
struct fs *disk_fs_new(struct disk *disk, void (*pause)(void *ctx, unsigned ms), void *ctx);

void disk_set_faults(struct disk *disk, const struct disk_faults *faults);
/* Failed operations so far; what the program under test may complain about. */
uint64_t disk_faults_n(const struct disk *disk);
/* Bytes that its files may take together; what is more is -ENOSPC. UINT64_MAX at first. */
void disk_set_budget(struct disk *disk, uint64_t bytes);
unsigned disk_open_files(const struct disk *disk);
uint64_t disk_used(const struct disk *disk);
bool disk_was_full(const struct disk *disk); /* -ENOSPC was said since the last disk_set_budget */

/* The crash point: in the nth operation from now; 0: none. */
void disk_arm(struct disk *disk, uint64_t n);
bool disk_is_dead(const struct disk *disk);
/* Operations so far. */
uint64_t disk_operations(const struct disk *disk);
/* Crashes now, if it has not already, and comes back: no handles, no locks. */
void disk_restart(struct disk *disk, enum disk_outage outage);

/* ---- what io does; as in fs_ops */

int64_t disk_read(struct disk *disk, int file, void *buf, size_t n, uint64_t offset);
int disk_write(struct disk *disk, int file, const void *buf, size_t n, uint64_t offset);
int disk_sync(struct disk *disk, int file);
/* An append at `offset` begins, or (`synced`) has succeeded: what stands before the first one that
 * was begun, or the last one that was synced, may rot (disk_rot). */
void disk_note_append(struct disk *disk, int file, uint64_t offset, bool synced);

/* ---- rot */

/* Where a bit was turned. */
struct disk_rot {
    char name[48];
    uint64_t file; /* which it was: the name may be another's later */
    uint64_t offset;
    uint8_t bit;
};

/*
 * Turns one bit in a file, in both images: anywhere in those that were never appended to, and
 * before the last append in the others (rot in a log's last batch looks like a torn tail, and
 * nothing can tell them apart). Only in files whose name begins with `prefix`. False: there is no
 * such place.
 */
bool disk_rot(struct disk *disk, const char *prefix, struct disk_rot *rot);
/* Turns it back, where the file is still there and has not been written to at that place. */
void disk_heal(struct disk *disk, const struct disk_rot *rot);

/* The whole disk's state, as one number: that one seed is one run can be seen by it. */
uint64_t disk_digest(const struct disk *disk);
/* Names and sizes, into `out`. */
void disk_list(const struct disk *disk, void (*visit)(void *ctx, const char *name, uint64_t bytes),
               void *ctx);
/* A copy of a file's content as it is read now; NULL where there is none. For tests. */
char *disk_content(const struct disk *disk, const char *name, uint64_t *bytes);

#endif
