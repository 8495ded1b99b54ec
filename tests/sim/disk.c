/*
 * disk: see disk.h. Everything is in memory; images are as large as the file, dirty flags are a
 * byte a sector.
 *
 * Failure: of the simulated program, by design; of ours, by assert.
 */
#include "shards/io.h"
#include "tests/sim/disk_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- inodes */

struct inode *inode_new(struct disk *disk)
{
    struct inode *inode = mem_zeroed(1, sizeof(*inode));
    inode->serial = ++disk->files;
    inode->appended = inode->rotten = UINT64_MAX;
    return inode;
}

void inode_hold(struct inode *inode)
{
    inode->references++;
}

void inode_release(struct inode *inode)
{
    assert(inode->references != 0);
    if (--inode->references != 0)
        return;
    free(inode->now);
    free(inode->durable);
    free(inode->dirty);
    free(inode);
}

void inode_use(struct disk *disk, struct inode *inode)
{
    if (inode->users++ == 0)
        disk->used += inode->allocated;
}

void inode_unuse(struct disk *disk, struct inode *inode)
{
    assert(inode->users != 0);
    if (--inode->users == 0)
        disk->used -= inode->allocated;
}

void inode_grow(struct inode *inode, uint64_t size)
{
    if (size <= inode->cap)
        return;
    uint64_t cap = disk_most(inode->cap * 2, disk_sectors(size) * DISK_SECTOR_BYTES);
    inode->now = mem_realloc(inode->now, cap);
    inode->durable = mem_realloc(inode->durable, cap);
    inode->dirty = mem_realloc(inode->dirty, disk_sectors(cap));
    memset(inode->now + inode->cap, 0, cap - inode->cap);
    memset(inode->durable + inode->cap, 0, cap - inode->cap);
    memset(inode->dirty + disk_sectors(inode->cap), 0,
           disk_sectors(cap) - disk_sectors(inode->cap));
    inode->cap = cap;
}

/* Room on the disk for a file of this size. */
int inode_allocate(struct disk *disk, struct inode *inode, uint64_t size)
{
    uint64_t wanted = (size + ALLOCATION_BYTES - 1) / ALLOCATION_BYTES * ALLOCATION_BYTES;
    if (wanted <= inode->allocated)
        return 0;
    uint64_t more = wanted - inode->allocated;
    if (disk->budget < disk->used || disk->budget - disk->used < more) {
        disk->full = true;
        return -ENOSPC;
    }
    disk->used += more;
    inode->allocated = wanted;
    return 0;
}

static void inode_write(struct inode *inode, const char *p, uint64_t n, uint64_t offset)
{
    if (n == 0)
        return;
    if (inode->rotten >= offset && inode->rotten < offset + n)
        inode->rotten = UINT64_MAX;
    inode_grow(inode, offset + n);
    memcpy(inode->now + offset, p, n);
    uint64_t first = offset / DISK_SECTOR_BYTES;
    memset(inode->dirty + first, 1, disk_sectors(offset + n) - first);
    inode->size = disk_most(inode->size, offset + n);
}

/* One sector's way to the platter. */
void inode_carry(struct inode *inode, uint64_t sector)
{
    uint64_t at = sector * DISK_SECTOR_BYTES;
    if (at >= inode->size)
        return;
    uint64_t n = disk_least(DISK_SECTOR_BYTES, inode->size - at);
    memcpy(inode->durable + at, inode->now + at, n);
    inode->durable_size = disk_most(inode->durable_size, at + n);
    inode->dirty[sector] = 0;
}

static void inode_sync(struct inode *inode)
{
    uint64_t n = disk_sectors(disk_most(inode->size, inode->durable_size));
    for (uint64_t i = 0; i < n; i++) {
        if (inode->dirty[i])
            inode_carry(inode, i);
    }
    if (inode->durable_size > inode->size)
        memset(inode->durable + inode->size, 0, inode->durable_size - inode->size);
    inode->durable_size = inode->size;
    memset(inode->dirty, 0, n);
}

/* Some of it gets there. */
static void inode_sync_partly(struct disk *disk, struct inode *inode)
{
    for (uint64_t i = 0; i < disk_sectors(inode->size); i++) {
        if (inode->dirty[i] && rng_percent(disk->rng, 50))
            inode_carry(inode, i);
    }
}

/* What is clean is read from the platter next time. */
void inode_forget(struct inode *inode)
{
    for (uint64_t i = 0; i < disk_sectors(inode->size); i++) {
        uint64_t at = i * DISK_SECTOR_BYTES;
        if (!inode->dirty[i])
            memcpy(inode->now + at, inode->durable + at,
                   disk_least(DISK_SECTOR_BYTES, inode->size - at));
    }
}

/* ---- names */

struct name *disk_find_name(struct directory *directory, const char *text)
{
    for (unsigned i = 0; i < directory->n; i++) {
        if (strcmp(directory->names[i].text, text) == 0)
            return &directory->names[i];
    }
    return NULL;
}

void disk_copy_name(char to[NAME_BYTES], const char *text)
{
    assert(strlen(text) < NAME_BYTES);
    snprintf(to, NAME_BYTES, "%s", text);
}

static void name_remove(struct disk *disk, struct directory *directory, const char *text)
{
    struct name *name = disk_find_name(directory, text);
    if (name == NULL)
        return;
    if (directory == &disk->now)
        inode_unuse(disk, name->inode);
    inode_release(name->inode);
    *name = directory->names[--directory->n];
}

static void name_set(struct disk *disk, struct directory *directory, const char *text,
                     struct inode *inode)
{
    inode_hold(inode);
    if (directory == &disk->now)
        inode_use(disk, inode);
    name_remove(disk, directory, text);
    assert(directory->n < FILES_MAX);
    struct name *name = &directory->names[directory->n++];
    disk_copy_name(name->text, text);
    name->inode = inode;
}

void disk_apply(struct disk *disk, struct directory *directory, const struct operation *operation)
{
    const struct name *name = disk_find_name(directory, operation->name);
    switch (operation->kind) {
    case LINK:
        name_set(disk, directory, operation->name, operation->inode);
        break;
    case UNLINK:
        if (name != NULL && name->inode == operation->inode)
            name_remove(disk, directory, operation->name);
        break;
    case RENAME:
        if (name != NULL && name->inode == operation->inode)
            name_remove(disk, directory, operation->name);
        name_set(disk, directory, operation->to, operation->inode);
        break;
    }
}

void disk_change(struct disk *disk, enum operation_kind kind, const char *name, const char *to,
                 struct inode *inode)
{
    if (disk->pending_n == disk->pending_cap) {
        disk->pending_cap = disk->pending_cap != 0 ? 2 * disk->pending_cap : 16;
        disk->pending = mem_realloc(disk->pending, disk->pending_cap * sizeof(*disk->pending));
    }
    struct operation *operation = &disk->pending[disk->pending_n++];
    *operation = (struct operation){.kind = kind, .inode = inode};
    disk_copy_name(operation->name, name);
    disk_copy_name(operation->to, to);
    inode_hold(inode);
    disk_apply(disk, &disk->now, operation);
}

static void operations_drop(struct disk *disk)
{
    for (unsigned i = 0; i < disk->pending_n; i++)
        inode_release(disk->pending[i].inode);
    disk->pending_n = 0;
}

/* ---- crashes */

/* Counts an operation. False: the crash point has been passed, nothing happens any more. *last:
 * this one is the crash point, and may happen in part. */
bool disk_begins(struct disk *disk, bool *last)
{
    *last = false;
    if (disk->dead)
        return false;
    disk->operations++;
    if (disk->crash_at == 0 || disk->operations < disk->crash_at)
        return true;
    disk->dead = *last = true;
    return true;
}

bool disk_fault(struct disk *disk, uint32_t once_in)
{
    if (!rng_once_in(disk->rng, once_in))
        return false;
    disk->faults_n++;
    return true;
}

/* For operations that are done whole or not at all. Not 0: the answer, nothing is to be done. */
int disk_begins_whole(struct disk *disk)
{
    bool last;
    if (!disk_begins(disk, &last) || (last && rng_percent(disk->rng, 50)))
        return -EIO;
    return 0;
}

int disk_result(const struct disk *disk, int result)
{
    return disk->dead ? -EIO : result;
}

void disk_arm(struct disk *disk, uint64_t n)
{
    disk->crash_at = n != 0 ? disk->operations + n : 0;
}

bool disk_is_dead(const struct disk *disk)
{
    return disk->dead;
}

uint64_t disk_operations(const struct disk *disk)
{
    return disk->operations;
}

enum survival { ALL, NONE, PREFIX, PART, SURVIVALS };

struct lottery {
    enum survival survival;
    uint64_t left; /* PREFIX */
};

static struct lottery lottery_begin(struct disk *disk, uint64_t n)
{
    struct lottery lottery = {.survival = (enum survival)rng_below(disk->rng, SURVIVALS)};
    lottery.left = rng_below(disk->rng, n + 1);
    return lottery;
}

static bool lottery_draw(struct disk *disk, struct lottery *lottery)
{
    switch (lottery->survival) {
    case ALL:
        return true;
    case PREFIX:
        return lottery->left != 0 && lottery->left--;
    case PART:
        return rng_percent(disk->rng, 50);
    default:
        return false;
    }
}

/* Its size after a loss of power: what was synced, what was last seen, or something between. */
static uint64_t size_survives(struct disk *disk, const struct inode *inode)
{
    uint64_t low = disk_least(inode->size, inode->durable_size);
    uint64_t high = disk_most(inode->size, inode->durable_size);
    switch (rng_below(disk->rng, 4)) {
    case 0:
        return inode->durable_size;
    case 1:
        return low + rng_below(disk->rng, high - low + 1);
    default:
        return inode->size;
    }
}

static void inode_lose_power(struct disk *disk, struct inode *inode)
{
    uint64_t n = disk_sectors(inode->size), unsynced = 0;
    for (uint64_t i = 0; i < n; i++)
        unsynced += inode->dirty[i];
    if (unsynced != 0 || inode->size != inode->durable_size) {
        struct lottery lottery = lottery_begin(disk, unsynced);
        uint64_t size = size_survives(disk, inode);
        for (uint64_t i = 0; i < n; i++) {
            if (inode->dirty[i] && lottery_draw(disk, &lottery))
                inode_carry(inode, i);
        }
        if (size < inode->durable_size)
            memset(inode->durable + size, 0, inode->durable_size - size);
        inode->durable_size = size;
    }
    if (inode->cap != 0) {
        memset(inode->dirty, 0, disk_sectors(inode->cap));
        memcpy(inode->now, inode->durable, inode->cap);
    }
    inode->size = inode->durable_size;
}

static void disk_lose_power(struct disk *disk)
{
    struct lottery lottery = lottery_begin(disk, disk->pending_n);
    for (unsigned i = 0; i < disk->pending_n; i++) {
        if (lottery_draw(disk, &lottery))
            disk_apply(disk, &disk->durable, &disk->pending[i]);
    }
    operations_drop(disk);
    while (disk->now.n != 0)
        name_remove(disk, &disk->now, disk->now.names[0].text);
    for (unsigned i = 0; i < disk->durable.n; i++) {
        struct name *name = &disk->durable.names[i];
        name_set(disk, &disk->now, name->text, name->inode);
        inode_lose_power(disk, name->inode);
    }
}

void disk_restart(struct disk *disk, enum disk_outage outage)
{
    for (unsigned i = 0; i < disk->handles_n; i++) {
        struct handle *handle = &disk->handles[i];
        if (handle->inode != NULL) {
            inode_unuse(disk, handle->inode);
            inode_release(handle->inode);
            handle->inode = NULL;
        }
    }
    if (outage == DISK_POWER) {
        disk_lose_power(disk);
        disk->boots++;
    }
    disk->dead = disk->locked = false;
    disk->crash_at = 0;
    disk->life++;
}

/* ---- files */

struct inode *disk_inode(const struct disk *disk, int file)
{
    assert(file >= 3 && (unsigned)file - 3 < disk->handles_n);
    struct inode *inode = disk->handles[file - 3].inode;
    assert(inode != NULL); /* used after it was closed */
    return inode;
}

int64_t disk_read(struct disk *disk, int file, void *buf, size_t n, uint64_t offset)
{
    struct inode *inode = disk_inode(disk, file);
    bool last;
    if (!disk_begins(disk, &last) || last || disk_fault(disk, disk->faults.read_fails))
        return -EIO;
    if (offset >= inode->size)
        return 0;
    n = (size_t)disk_least(n, inode->size - offset);
    memcpy(buf, inode->now + offset, n);
    return (int64_t)n;
}

/* Some of the sectors, one of them perhaps in part. */
static void write_partly(struct disk *disk, struct inode *inode, const char *p, uint64_t n,
                         uint64_t offset)
{
    struct lottery lottery = lottery_begin(disk, disk_sectors(n) + 1);
    for (uint64_t at = 0; at < n;) {
        uint64_t left = DISK_SECTOR_BYTES - (offset + at) % DISK_SECTOR_BYTES;
        uint64_t some = disk_least(left, n - at);
        if (lottery_draw(disk, &lottery))
            inode_write(inode, p + at, some, offset + at);
        else if (lottery.survival != NONE && rng_percent(disk->rng, 20))
            inode_write(inode, p + at, rng_below(disk->rng, some), offset + at);
        at += some;
    }
}

/* Sectors get to the platter without having been asked to. */
static void write_back(struct disk *disk, struct inode *inode)
{
    uint64_t n = disk_sectors(inode->size);
    if (n == 0 || !rng_once_in(disk->rng, 8))
        return;
    for (unsigned tries = rng_between(disk->rng, 1, 8); tries != 0; tries--) {
        uint64_t sector = rng_below(disk->rng, n);
        if (inode->dirty[sector])
            inode_carry(inode, sector);
    }
}

int disk_write(struct disk *disk, int file, const void *buf, size_t n, uint64_t offset)
{
    struct inode *inode = disk_inode(disk, file);
    bool last;
    const struct handle *handle = &disk->handles[file - 3];
    assert(handle->writable);
    assert(!handle->direct || ((uintptr_t)buf | n | offset) % IO_BLOCK_BYTES == 0);
    if (!disk_begins(disk, &last))
        return -EIO;
    int result = inode_allocate(disk, inode, offset + n);
    if (result != 0)
        return disk_result(disk, result);
    if (last || disk_fault(disk, disk->faults.write_fails)) {
        write_partly(disk, inode, buf, n, offset);
        return -EIO;
    }
    inode_write(inode, buf, n, offset);
    write_back(disk, inode);
    return 0;
}

int disk_sync(struct disk *disk, int file)
{
    struct inode *inode = disk_inode(disk, file);
    bool last;
    if (!disk_begins(disk, &last))
        return -EIO;
    if (last) {
        inode_sync_partly(disk, inode);
        return -EIO;
    }
    if (disk_fault(disk, disk->faults.sync_fails)) {
        inode_sync_partly(disk, inode);
        if (inode->cap != 0) /* nobody will try the rest again */
            memset(inode->dirty, 0, disk_sectors(inode->cap));
        return -EIO;
    }
    inode_sync(inode);
    return 0;
}

void disk_note_append(struct disk *disk, int file, uint64_t offset, bool synced)
{
    struct inode *inode = disk_inode(disk, file);
    if (synced || inode->appended == UINT64_MAX)
        inode->appended = offset;
}

/* ---- the disk as a whole */

struct disk *disk_new(struct rng *rng)
{
    struct disk *disk = mem_zeroed(1, sizeof(*disk));
    disk->rng = rng;
    disk->budget = UINT64_MAX;
    return disk;
}

void disk_free(struct disk *disk)
{
    disk_restart(disk, DISK_KILL);
    operations_drop(disk);
    while (disk->now.n != 0)
        name_remove(disk, &disk->now, disk->now.names[0].text);
    while (disk->durable.n != 0)
        name_remove(disk, &disk->durable, disk->durable.names[0].text);
    free(disk->pending);
    free(disk->handles);
    free(disk);
}

void disk_set_faults(struct disk *disk, const struct disk_faults *faults)
{
    disk->faults = *faults;
}

uint64_t disk_faults_n(const struct disk *disk)
{
    return disk->faults_n;
}

unsigned disk_open_files(const struct disk *disk)
{
    unsigned n = 0;
    for (unsigned i = 0; i < disk->handles_n; i++)
        n += disk->handles[i].inode != NULL;
    return n;
}

void disk_set_budget(struct disk *disk, uint64_t bytes)
{
    disk->budget = bytes;
    disk->full = false;
}

uint64_t disk_used(const struct disk *disk)
{
    return disk->used;
}

bool disk_was_full(const struct disk *disk)
{
    return disk->full;
}

static void turn_bit(struct inode *inode, uint64_t offset, uint8_t bit)
{
    inode->now[offset] ^= (char)(1u << bit);
    inode->durable[offset] ^= (char)(1u << bit);
}

bool disk_rot(struct disk *disk, const char *prefix, struct disk_rot *rot)
{
    unsigned n = disk->now.n;
    unsigned first = n != 0 ? rng_below(disk->rng, n) : 0;
    for (unsigned i = 0; i < n; i++) {
        const struct name *name = &disk->now.names[(first + i) % n];
        struct inode *inode = name->inode;
        uint64_t end = disk_least(disk_least(inode->size, inode->durable_size), inode->appended);
        if (end == 0 || strncmp(name->text, prefix, strlen(prefix)) != 0)
            continue;
        disk_copy_name(rot->name, name->text);
        rot->file = inode->serial;
        rot->bit = (uint8_t)rng_below(disk->rng, 8);
        /* Where there is something: most of a file may be zeros. */
        for (unsigned tries = 0; tries < 64; tries++) {
            rot->offset = rng_below(disk->rng, end);
            if (inode->now[rot->offset] != 0)
                break;
        }
        turn_bit(inode, rot->offset, rot->bit);
        inode->rotten = rot->offset;
        return true;
    }
    return false;
}

void disk_heal(struct disk *disk, const struct disk_rot *rot)
{
    const struct name *name = disk_find_name(&disk->now, rot->name);
    if (name == NULL || name->inode->serial != rot->file || name->inode->rotten != rot->offset)
        return;
    turn_bit(name->inode, rot->offset, rot->bit);
    name->inode->rotten = UINT64_MAX;
}

static uint64_t digest_add(uint64_t digest, const void *p, uint64_t n)
{
    const uint8_t *bytes = p;
    for (uint64_t i = 0; i < n; i++)
        digest = (digest ^ bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return digest;
}

uint64_t disk_digest(const struct disk *disk)
{
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    for (unsigned i = 0; i < disk->now.n; i++) {
        const struct name *name = &disk->now.names[i];
        digest = digest_add(digest, name->text, strlen(name->text));
        digest = digest_add(digest, name->inode->now, name->inode->size);
    }
    return digest;
}

void disk_list(const struct disk *disk, void (*visit)(void *ctx, const char *name, uint64_t bytes),
               void *ctx)
{
    for (unsigned i = 0; i < disk->now.n; i++)
        visit(ctx, disk->now.names[i].text, disk->now.names[i].inode->size);
}

char *disk_content(const struct disk *disk, const char *text, uint64_t *bytes)
{
    for (unsigned i = 0; i < disk->now.n; i++) {
        const struct name *name = &disk->now.names[i];
        if (strcmp(name->text, text) == 0) {
            *bytes = name->inode->size;
            char *copy = mem_alloc(*bytes + 1);
            if (*bytes != 0)
                memcpy(copy, name->inode->now, *bytes);
            return copy;
        }
    }
    return NULL;
}
