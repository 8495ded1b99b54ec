/*
 * checkpoint: the file that holds what a shard's directory knew at one place of its log, as items.
 * Format: checkpoint_file.c. Writing one beside a running shard: checkpoint.c.
 *
 * Thread: any; nothing here is shared.
 */
#ifndef ATOLL_SHARDS_CHECKPOINT_H
#define ATOLL_SHARDS_CHECKPOINT_H

#include "shards/log.h"

enum checkpoint_type {
    CHECKPOINT_SESSION = 1, /* a session that exists */
    CHECKPOINT_PIN = 2,     /* a fork needs this life of `id` up to `at`; the fork is `other` */
    CHECKPOINT_FORK = 3,    /* this life of `id` is a fork of `other` */
    CHECKPOINT_GARBAGE = 4, /* this life has ended, and its records are on the disk yet */
    CHECKPOINT_END = 5,     /* the last item; `at`: how many there are before it */
    CHECKPOINT_EXPIRY = 6,  /* a session that may expire at `ms` */
};

enum checkpoint_flags {
    CHECKPOINT_IMPORTING = 1, /* SESSION: it is not whole yet */
    CHECKPOINT_DEAD = 2,      /* FORK: deleted, but forks of its own need it */
    CHECKPOINT_ATTENDED = 4,  /* SESSION: it has leases or wake targets */
};

struct checkpoint_item {
    uint8_t type;
    uint8_t flags;
    struct str id;
    uint64_t epoch;
    log_position head; /* SESSION: newest record; GARBAGE: the life's last one */
    log_position
        base;        /* SESSION: newest snapshot; GARBAGE: the life's first record, NONE: unknown */
    uint64_t labels; /* SESSION: their signature */
    int64_t ms;      /* EXPIRY; GARBAGE: since (wall clock) */
    struct str other;
    uint64_t other_epoch; /* of `other` */
    uint64_t at;          /* PIN, FORK; GARBAGE: bytes; END */
};

/* What a file being written consists of: a head, then blocks. */
enum { CHECKPOINT_HEAD_BYTES = 64, CHECKPOINT_BLOCK_BYTES = 256 * 1024 };

void checkpoint_head_write(struct datadir *dir, uint32_t shard, char head[CHECKPOINT_HEAD_BYTES]);
/* A block begins with room for its header, then come items; sealed when it is complete, for the
 * place in the file where it will stand. */
void checkpoint_block_begin(struct buf *block);
void checkpoint_item_add(struct buf *block, const struct checkpoint_item *item);
void checkpoint_block_seal(struct datadir *dir, struct buf *block, uint64_t offset);

/*
 * Shows every item of a checkpoint in order, the END item last. Strings are good during the call.
 * `bytes` (may be NULL) grows as it is read. 0, the visitor's answer, or -EIO or -errno with a
 * sentence that names the file and the offset.
 */
typedef int checkpoint_visit(void *ctx, const struct checkpoint_item *item);
int checkpoint_visit_file(struct datadir *dir, const struct datadir_checkpoint *checkpoint,
                          checkpoint_visit *visit, void *ctx, _Atomic uint64_t *bytes, char *error,
                          size_t error_size);

#endif
