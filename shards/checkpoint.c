/*
 * checkpoint: writing down what the directory holds, while the shard goes on.
 *
 * The place in the log is noted first, then the directory is walked in the order of ids, a piece a
 * turn. What changes meanwhile may or may not be in it: the log from the noted place on is read
 * over it at start, and says the same again or says more (recovery.c). So it need not be of one
 * moment. What it says must be in the log, though, before it counts: it is entered in the manifest
 * only when all that the log held at the end of the walk is committed.
 *
 * One block is built while the one before is written. Failure (no room, mostly): the file is given
 * up, the checkpoint before stays, and upkeep.c tries again later.
 */
#include "shards/checkpoint.h"
#include "shards/report.h"
#include "shards/shard.h"
#include "shards/sim_bug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { ENTRIES_A_LOOK = 64 /* walked before the clock is looked at */ };

enum walk_step {
    WALK_SESSIONS,
    WALK_EXPIRIES,
    WALK_PINS,
    WALK_FORKS,
    WALK_GARBAGE,
    WALK_END,
    WALK_DONE
};

struct checkpoint_writer {
    struct shard *shard;
    struct datadir_checkpoint checkpoint;
    int fd;
    enum walk_step step;
    char id[CORE_ID_BYTES]; /* of the entry walked last */
    uint8_t id_size;
    int64_t due_ms; /* of the expiry walked last */
    uint64_t number;
    uint64_t garbage; /* number of the garbage walked last */
    /* The pin, then the fork, walked last, as a key; its tree links mean nothing. */
    _Alignas(8) char last[sizeof(struct fork) + sizeof(struct pin) + 2 * CORE_ID_BYTES];
    uint64_t items;
    uint64_t log_bytes; /* log_stats' when it was begun */
    struct buf block, flying;
    struct io_append append;
    struct io_job job;
    struct chore chore;
    const struct datadir_file *unsynced; /* held: a segment to be synced first */
    bool writing, parked, sync_failed;
    int error;
};

/* ---- the walk */

static void add(struct checkpoint_writer *writer, const struct checkpoint_item *item)
{
    checkpoint_item_add(&writer->block, item);
    writer->items++;
}

static void add_entry(struct checkpoint_writer *writer, const struct entry *entry)
{
    struct entry_life life;
    if (!entry_life(entry, &life))
        return;
    struct checkpoint_item item = {
        .type = CHECKPOINT_SESSION,
        .id = entry_id(entry),
        .epoch = life.epoch,
        .head = life.head,
        .base = life.base,
        .labels = entry->u.labels,
        .flags = entry->flags & ENTRY_ATTENDED ? CHECKPOINT_ATTENDED : 0,
    };
    if (entry->flags & ENTRY_ACTIVE) {
        const struct session *session = entry->u.session;
        /* While it is loaded, or half of a batch is applied, any labels are possible. */
        item.labels = session->core != NULL && !session->busy
                          ? signature_of(core_session_labels(session->core))
                          : UINT64_MAX;
        item.flags |= session->importing ? CHECKPOINT_IMPORTING : 0;
    }
    add(writer, &item);
}

static void add_pin(struct checkpoint_writer *writer, const struct pin *pin)
{
    struct checkpoint_item item = {
        .type = CHECKPOINT_PIN,
        .id = {pin->ids, pin->parent_size},
        .epoch = pin->epoch,
        .other = {pin->ids + pin->parent_size, pin->child_size},
        .other_epoch = pin->child_epoch,
        .at = pin->at,
    };
    add(writer, &item);
}

static void add_fork(struct checkpoint_writer *writer, const struct fork *fork)
{
    struct checkpoint_item item = {
        .type = CHECKPOINT_FORK,
        .flags = fork->alive ? 0 : CHECKPOINT_DEAD,
        .id = {fork->ids, fork->child_size},
        .epoch = fork->epoch,
        .other = {fork->ids + fork->child_size, fork->parent_size},
        .other_epoch = fork->parent_epoch,
        .at = fork->at,
    };
    add(writer, &item);
}

static void add_garbage(struct checkpoint_writer *writer, const struct garbage *garbage)
{
    struct checkpoint_item item = {
        .type = CHECKPOINT_GARBAGE,
        .id = {garbage->id, garbage->id_size},
        .epoch = garbage->epoch,
        .head = garbage->last,
        .base = garbage->first,
        .at = garbage->bytes,
        .ms = garbage->since_ms,
    };
    add(writer, &item);
}

static void walk_sessions(struct checkpoint_writer *writer)
{
    struct str after = {writer->id_size != 0 ? writer->id : NULL, writer->id_size};
    struct entry *entry = entry_after(writer->shard, after);
    for (unsigned n = 0; entry != NULL && n < ENTRIES_A_LOOK; n++) {
        add_entry(writer, entry);
        writer->id_size = entry->id_size;
        memcpy(writer->id, entry->id, entry->id_size);
        entry = entry_next(entry);
    }
    if (entry == NULL)
        writer->step++;
}

/* In the order of time, in which they only ever move on: so none is missed. */
static void walk_expiries(struct checkpoint_writer *writer)
{
    struct expiry *expiry = NULL;
    for (unsigned n = 0; n < ENTRIES_A_LOOK; n++) {
        expiry = upkeep_expiry_after(writer->shard, writer->due_ms, writer->number);
        if (expiry == NULL)
            break;
        struct checkpoint_item item = {
            .type = CHECKPOINT_EXPIRY, .id = entry_id(expiry->entry), .ms = expiry->due_ms};
        add(writer, &item);
        writer->due_ms = expiry->due_ms;
        writer->number = expiry->number;
    }
    if (expiry == NULL)
        writer->step++;
}

/* The others are walked in the order of their keys as well, the last one's being kept. */
static void walk_pins(struct checkpoint_writer *writer)
{
    struct pin *pin = NULL;
    for (unsigned n = 0; n < ENTRIES_A_LOOK; n++) {
        pin = fork_pin_after(writer->shard, (struct pin *)writer->last);
        if (pin == NULL)
            break;
        add_pin(writer, pin);
        memcpy(writer->last, pin, sizeof(*pin) + pin->parent_size + pin->child_size);
    }
    if (pin == NULL) {
        memset(writer->last, 0, sizeof(writer->last));
        writer->step++;
    }
}

static void walk_forks(struct checkpoint_writer *writer)
{
    struct fork *fork = NULL;
    for (unsigned n = 0; n < ENTRIES_A_LOOK; n++) {
        fork = fork_after(writer->shard, (struct fork *)writer->last);
        if (fork == NULL)
            break;
        add_fork(writer, fork);
        memcpy(writer->last, fork, sizeof(*fork) + fork->parent_size + fork->child_size);
    }
    if (fork == NULL)
        writer->step++;
}

static void walk_garbage(struct checkpoint_writer *writer)
{
    struct garbage *garbage = NULL;
    for (unsigned n = 0; n < ENTRIES_A_LOOK; n++) {
        garbage = upkeep_garbage_after(writer->shard, writer->garbage);
        if (garbage == NULL)
            break;
        add_garbage(writer, garbage);
        writer->garbage = garbage->number;
    }
    if (garbage == NULL)
        writer->step++;
}

static void walk_end(struct checkpoint_writer *writer)
{
    struct checkpoint_item end = {.type = CHECKPOINT_END, .at = writer->items};
    add(writer, &end);
    writer->step++;
}

static void walk_step(struct checkpoint_writer *writer)
{
    static void (*const steps[])(struct checkpoint_writer *) = {
        [WALK_SESSIONS] = walk_sessions, [WALK_EXPIRIES] = walk_expiries, [WALK_PINS] = walk_pins,
        [WALK_FORKS] = walk_forks,       [WALK_GARBAGE] = walk_garbage,   [WALK_END] = walk_end,
    };
    if (writer->step != WALK_DONE)
        steps[writer->step](writer);
}

/* ---- the file */

static void writer_free(struct checkpoint_writer *writer)
{
    writer->shard->checkpoint = NULL;
    buf_free(&writer->block);
    buf_free(&writer->flying);
    free(writer);
}

/* What is committed under LOG_RELAXED need not be on the disk yet; a checkpoint must not speak of
 * what a loss of power could take. Only the newest segment ever has something unsynced. */
static int sync_log(struct checkpoint_writer *writer)
{
    struct datadir *dir = writer->shard->dir;
    struct fs *fs = datadir_fs(dir);
    int result = fs->ops->data_sync(fs, writer->unsynced->fd);
    datadir_release(dir, writer->unsynced);
    return result;
}

static int finish_run(struct io_job *job)
{
    struct checkpoint_writer *writer = job->owner;
    struct shard *shard = writer->shard;
    if (writer->unsynced != NULL) {
        int result = sync_log(writer);
        writer->sync_failed = result != 0;
        if (writer->error == 0)
            writer->error = result;
    }
    if (writer->error == 0)
        return datadir_finish_checkpoint(shard->dir, shard->number, &writer->checkpoint,
                                         writer->fd);
    datadir_abandon_checkpoint(shard->dir, writer->checkpoint.number, writer->fd);
    return writer->error;
}

static void finish_done(struct io_job *job, int result)
{
    struct checkpoint_writer *writer = job->owner;
    struct shard *shard = writer->shard;
    shard->checkpoint_failed = result != 0;
    if (result == 0) {
        shard->checkpoint_from = writer->checkpoint.from;
        shard->checkpoint_log_bytes = writer->log_bytes;
        shard->recovered_bytes = 0;
        shard->stats.checkpoints++;
        shard->stats.checkpoint_bytes = writer->checkpoint.bytes;
    } else {
        report_tell(REPORT_ERROR, "checkpoint_failed", (int)shard->number, (struct str){0},
                    "a checkpoint could not be written: %s", strerror(-result));
    }
    if (writer->sync_failed)
        shard_fail(shard, -result); /* never retried: pages may be lost */
    writer_free(writer);
}

static void finish(void *owner, int error)
{
    struct checkpoint_writer *writer = owner;
    if (error != 0)
        writer->error = error;
    struct io *io = writer->shard->io;
    uint32_t unsynced = log_unsynced_segment(writer->shard->log);
    writer->unsynced = unsynced != 0 ? datadir_hold(writer->shard->dir, unsynced) : NULL;
    if (sim_bug(SIM_BUG_LATE_CHECKPOINT))
        log_mark(writer->shard->log, &writer->checkpoint.from);
    writer->job = (struct io_job){.run = finish_run, .done = finish_done, .owner = writer};
    io->ops->job(io, &writer->job);
}

static enum chore_result writer_run(struct chore *chore, int64_t until_ns);

static void written(struct io_append *append, int result)
{
    struct checkpoint_writer *writer = append->owner;
    writer->writing = false;
    if (result != 0)
        writer->error = result;
    if (writer->parked) {
        writer->parked = false;
        shard_chore(writer->shard, &writer->chore);
    }
}

/* Hands the block to the disk; the next is built in the other buffer. */
static void flush(struct checkpoint_writer *writer)
{
    struct buf full = writer->block;
    writer->block = writer->flying;
    writer->flying = full;
    checkpoint_block_seal(writer->shard->dir, &writer->flying, writer->checkpoint.bytes);
    writer->append = (struct io_append){
        .done = written,
        .owner = writer,
        .buf = writer->flying.p,
        .size = writer->flying.n,
        .offset = writer->checkpoint.bytes,
        .fd = writer->fd,
    };
    writer->writing = true;
    writer->checkpoint.bytes += writer->flying.n;
    checkpoint_block_begin(&writer->block);
    writer->shard->io->ops->append(writer->shard->io, &writer->append);
}

static enum chore_result writer_run(struct chore *chore, int64_t until_ns)
{
    struct checkpoint_writer *writer = chore->owner;
    struct shard *shard = writer->shard;
    do {
        bool full = writer->block.n >= CHECKPOINT_BLOCK_BYTES || writer->step == WALK_DONE;
        if (full && writer->writing) {
            writer->parked = true;
            return CHORE_DONE; /* until what is being written is */
        }
        if (writer->error != 0) {
            finish(writer, 0);
            return CHORE_DONE;
        }
        if (full && writer->block.n > sizeof(uint64_t) * 2) {
            flush(writer);
        } else if (writer->step == WALK_DONE) {
            if (sim_bug(SIM_BUG_EARLY_CHECKPOINT))
                finish(writer, 0);
            else
                shard_call_committed(shard, finish, writer);
            return CHORE_DONE;
        } else {
            walk_step(writer);
        }
    } while (shard_clock_ns(shard) < until_ns);
    return CHORE_MORE;
}

static int begin_run(struct io_job *job)
{
    struct checkpoint_writer *writer = job->owner;
    char head[CHECKPOINT_HEAD_BYTES];
    struct shard *shard = writer->shard;
    struct fs *fs = datadir_fs(shard->dir);
    int result = datadir_begin_checkpoint(shard->dir, &writer->checkpoint.number, &writer->fd);
    if (result != 0)
        return result;
    checkpoint_head_write(shard->dir, shard->number, head);
    result = fs->ops->write(fs, writer->fd, head, sizeof(head), 0);
    if (result != 0)
        datadir_abandon_checkpoint(shard->dir, writer->checkpoint.number, writer->fd);
    return result;
}

static void begin_done(struct io_job *job, int result)
{
    struct checkpoint_writer *writer = job->owner;
    struct shard *shard = writer->shard;
    if (result != 0) {
        shard->checkpoint_failed = true;
        report_tell(REPORT_ERROR, "checkpoint_failed", (int)shard->number, (struct str){0},
                    "a checkpoint could not be begun: %s", strerror(-result));
        writer_free(writer);
        return;
    }
    log_mark(shard->log, &writer->checkpoint.from);
    shard_chore(shard, &writer->chore);
}

static struct checkpoint_writer *writer_new(struct shard *shard)
{
    struct checkpoint_writer *writer = mem_alloc(sizeof(*writer));
    *writer = (struct checkpoint_writer){.shard = shard, .fd = -1, .due_ms = INT64_MIN};
    writer->checkpoint.bytes = CHECKPOINT_HEAD_BYTES;
    writer->chore = (struct chore){.run = writer_run, .owner = writer};
    checkpoint_block_begin(&writer->block);
    shard->checkpoint = writer;
    return writer;
}

void checkpoint_begin(struct shard *shard)
{
    assert(shard->checkpoint == NULL);
    struct checkpoint_writer *writer = writer_new(shard);
    writer->log_bytes = log_stats(shard->log)->bytes;
    writer->job = (struct io_job){.run = begin_run, .done = begin_done, .owner = writer};
    shard->io->ops->job(shard->io, &writer->job);
}

void checkpoint_free(struct shard *shard)
{
    if (shard->checkpoint != NULL)
        writer_free(shard->checkpoint);
}

/* ---- the first one of a generation: at start, in one go */

int shard_write_first_checkpoint(struct shard *shard, struct datadir_checkpoint *checkpoint,
                                 int *fd, char *error, size_t error_size)
{
    struct checkpoint_writer *writer = writer_new(shard);
    struct fs *fs = datadir_fs(shard->dir);
    struct io_job job = {.owner = writer};
    int result = begin_run(&job);
    int begun = result;
    while (result == 0 && writer->step != WALK_DONE) {
        walk_step(writer);
        if (writer->block.n < CHECKPOINT_BLOCK_BYTES && writer->step != WALK_DONE)
            continue;
        checkpoint_block_seal(shard->dir, &writer->block, writer->checkpoint.bytes);
        result = fs->ops->write(fs, writer->fd, writer->block.p, writer->block.n,
                                writer->checkpoint.bytes);
        writer->checkpoint.bytes += writer->block.n;
        checkpoint_block_begin(&writer->block);
    }
    if (result != 0) {
        if (begun == 0)
            datadir_abandon_checkpoint(shard->dir, writer->checkpoint.number, writer->fd);
        snprintf(error, error_size, "%s: the checkpoint of shard %u cannot be written: %s",
                 datadir_path(shard->dir), shard->number, strerror(-result));
    }
    *checkpoint = writer->checkpoint;
    *fd = writer->fd;
    writer_free(writer);
    return result;
}
