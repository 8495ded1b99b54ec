/*
 * verify_internal: what the files of verify share.
 *
 *   verify.c         the whole: manifest, passes, progress
 *   verify_files.c   segments: batches, records, where logs end
 *   verify_lives.c   sessions: chains of records, folds, snapshots, checkpoints
 *   verify_forks.c   forks against their parents, pins against forks
 */
#ifndef ATOLL_SHARDS_VERIFY_INTERNAL_H
#define ATOLL_SHARDS_VERIFY_INTERNAL_H

#include "core/core.h"
#include "shards/checkpoint.h"
#include "shards/record.h"
#include "shards/verify.h"
#include "shards/walk.h"

struct verify;
struct verify_forks;
struct verify_lives;

/* One record, in the order of its log. 0, or -errno with v->error. */
typedef int verify_visit(struct verify *v, const struct log_record *record, log_position position);
/* The walk has come to where a checkpoint of this shard says the log goes on. */
typedef int verify_at_checkpoint(struct verify *v, const struct manifest_checkpoint *checkpoint);

struct verify {
    struct fs *fs;
    struct manifest manifest;
    struct datadir_segment *segments; /* by generation, shard, number */
    bool *missing;                    /* … of those */
    bool gaps;                        /* some segment has been rewritten, dropped, or is missing */
    struct verify_report *report;
    const struct verify_options *options;
    char *error;
    size_t error_size;

    /* The walk. */
    bool first; /* the first time: counted, and looked at behind the logs' ends */
    verify_visit *visit;
    verify_at_checkpoint *at_checkpoint; /* NULL: not asked */
    char name[DATADIR_NAME_BYTES];       /* of the file being read */
    uint64_t offset;                     /* in it, of the record being visited */

    /* Progress. */
    uint64_t read, total;
    unsigned percent;

    struct verify_forks *forks;
    struct verify_lives *lives; /* of this pass */
};

/* ---- verify.c */

/* A fault in the file being read: puts it into v->error, and is -EIO. record: NULL where it is not
 * known which it hits. */
int verify_fault(struct verify *v, uint64_t offset, const struct log_record *record,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
/* It cannot be read. */
int verify_unreadable(struct verify *v, uint64_t offset, int result);
void verify_progress(struct verify *v, uint64_t bytes);
uint64_t verify_hash(const struct verify *v, struct str session);
/* Why a record may not be where another one says. */
enum verify_place { PLACE_THERE, PLACE_GONE, PLACE_MISSING, PLACE_NONE };
/* Of a position: its segment is whole, or rewritten or dropped, or missing, or never was. */
enum verify_place verify_place_of(const struct verify *v, log_position position);
/* A missing segment has hit this session. */
void verify_hit(struct verify *v, struct str session);
/* The number in an epoch's text form; 0 where it is none. */
uint64_t verify_epoch_of(struct str text);
/* Shows the items of a checkpoint; faults in it are v->error's. */
int verify_read_checkpoint(struct verify *v, const struct manifest_checkpoint *checkpoint,
                           checkpoint_visit *visit, void *ctx);

/* ---- verify_files.c */

/* Opens what the manifest names, notes what is missing. */
int verify_files_open(struct verify *v);
int verify_files_walk(struct verify *v);

/* ---- verify_lives.c: those sessions of which hash % passes == pass */

void verify_lives_begin(struct verify *v, uint64_t passes, uint64_t pass);
/* The visitor. */
int verify_lives_record(struct verify *v, const struct log_record *record, log_position position);
int verify_lives_checkpoint(struct verify *v, const struct manifest_checkpoint *checkpoint);
/* When all has been visited. */
int verify_lives_end(struct verify *v);
void verify_lives_free(struct verify *v);

/* ---- verify_forks.c: in the first walk, which sees everything in order */

int verify_forks_note(struct verify *v, const struct log_record *record, log_position position);
int verify_forks_checkpoint(struct verify *v, const struct manifest_checkpoint *checkpoint);
/* When all of it has been seen: pins are compared with forks, and the passes may begin. */
int verify_forks_settle(struct verify *v);
/* In the passes: the first of the forks that go on from the record at `position`. */
size_t verify_forks_of(const struct verify *v, log_position position);
/* Compares those of them, from `*next` on, that were made at `seq` with the state there (NULL: not
 * known). Moves *next behind them. */
int verify_forks_at(struct verify *v, const struct log_record *record, log_position position,
                    const struct core_session *core, const struct core_chain *chain, uint64_t seq,
                    size_t *next);
/* When all passes are through: was every fork come by? */
int verify_forks_end(struct verify *v);
void verify_forks_free(struct verify *v);

#endif
