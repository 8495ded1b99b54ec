/*
 * disk_internal: what disk.c (files, names, crashes) and disk_fs.c (struct fs on it) share.
 */
#ifndef ATOLL_TESTS_SIM_DISK_INTERNAL_H
#define ATOLL_TESTS_SIM_DISK_INTERNAL_H

#include "core/base.h"
#include "tests/sim/disk.h"

enum { NAME_BYTES = 48, FILES_MAX = 4096, ALLOCATION_BYTES = 4096 };

struct inode {
    char *now, *durable; /* `cap` bytes each, zeros behind the file's end */
    uint8_t *dirty;      /* of each sector */
    uint64_t cap;
    uint64_t serial; /* of the disk's files */
    uint64_t size, durable_size;
    uint64_t allocated;  /* counted in the budget while it has a name or a handle */
    uint64_t rotten;     /* offset of a turned bit; UINT64_MAX: none */
    uint64_t appended;   /* where the last append that was synced stands; UINT64_MAX: none */
    unsigned references; /* names in both directories, operations, handles */
    unsigned users;      /* names as seen now, and handles */
};

struct name {
    char text[NAME_BYTES];
    struct inode *inode;
};

struct directory {
    struct name names[FILES_MAX];
    unsigned n;
};

enum operation_kind { LINK, UNLINK, RENAME };

struct operation {
    enum operation_kind kind;
    char name[NAME_BYTES];
    char to[NAME_BYTES];
    struct inode *inode;
};

struct handle {
    struct inode *inode; /* NULL: closed */
    bool writable;
    bool direct; /* whole, aligned blocks only */
};

struct disk {
    struct rng *rng;
    struct disk_faults faults;
    uint64_t faults_n;
    uint64_t budget, used;
    bool full;
    uint64_t operations, crash_at;
    bool dead;
    bool locked;
    unsigned life; /* how often it has come back: an fs of an earlier one is of no use */
    unsigned boots;
    uint64_t files; /* ever made */

    struct directory now, durable;
    struct operation *pending; /* on the directory, unsynced */
    unsigned pending_n, pending_cap;

    struct handle *handles; /* by number, from 3 */
    unsigned handles_n, handles_cap;
};

static inline uint64_t disk_sectors(uint64_t bytes)
{
    return (bytes + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES;
}

static inline uint64_t disk_least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t disk_most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

struct inode *inode_new(struct disk *disk);
void inode_hold(struct inode *inode);
void inode_release(struct inode *inode);
/* Counts it in the budget. */
void inode_use(struct disk *disk, struct inode *inode);
void inode_unuse(struct disk *disk, struct inode *inode);
void inode_grow(struct inode *inode, uint64_t size);
/* Room on the disk for a file of this size. 0 or -ENOSPC. */
int inode_allocate(struct disk *disk, struct inode *inode, uint64_t size);
/* One sector's way to the platter. */
void inode_carry(struct inode *inode, uint64_t sector);
/* What is clean is read from the platter next time. */
void inode_forget(struct inode *inode);
struct name *disk_find_name(struct directory *directory, const char *text);
void disk_copy_name(char to[NAME_BYTES], const char *text);
void disk_apply(struct disk *disk, struct directory *directory, const struct operation *operation);
/* Now, and on the platter with the next sync of the directory. */
void disk_change(struct disk *disk, enum operation_kind kind, const char *name, const char *to,
                 struct inode *inode);
/* Counts an operation. False: the crash point has been passed, nothing happens any more. *last:
 * this one is the crash point, and may happen in part. */
bool disk_begins(struct disk *disk, bool *last);
/* Whether this one is to fail. */
bool disk_fault(struct disk *disk, uint32_t once_in);
/* The same for what is done whole or not at all. Not 0: the answer, nothing is to be done. */
int disk_begins_whole(struct disk *disk);
/* What is done at the crash point is answered by nobody. */
int disk_result(const struct disk *disk, int result);
/* The file behind a handle; using a closed one ends the process. */
struct inode *disk_inode(const struct disk *disk, int file);

#endif
