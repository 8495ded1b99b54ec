/*
 * recovery: the shard's directory from checkpoints and logs, at start. No session is folded: each
 * comes into memory when it is asked for.
 *
 * With the shard count of the last run a shard reads its own checkpoint, and its log from there on.
 * With another one it reads all of both, and keeps what hashes to it now. Within a generation a
 * session lived in one log, so its records come in order, which is checked: epochs ascend, each
 * record names the one before it.
 *
 * A checkpoint may already know what the log says again: records up to the head that it names are
 * passed over. It may also have been taken when a life, of which the log holds only the later part,
 * had ended: such records of no known life have to lead to that end, or the start is refused.
 *
 * What does not fit together although its checksums do is our own bug or a foreign hand: the start
 * is refused, naming the session and the seq, rather than serving something else than was
 * acknowledged.
 */
#include "shards/checkpoint.h"
#include "shards/shard.h"
#include "shards/sim_bug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A life of which only later records were seen. */
struct loose_end {
    struct core_hash id;
    uint64_t epoch;
};

struct recovery {
    struct shard *shard;
    const struct shard_options *options;
    bool checkpointed; /* this log is read from a checkpoint on */
    struct loose_end *loose;
    uint32_t loose_n, loose_cap;
    char *error;
    size_t error_size;
};

static bool is_ours(const struct shard *shard, struct str id)
{
    return entry_hash(shard, id) % datadir_shards(shard->dir) == shard->number;
}

static int refuse(struct recovery *recovery, const struct log_record *record, const char *why)
{
    snprintf(recovery->error, recovery->error_size,
             "%s: the log does not fit together: session \"%.*s\", epoch %llu, seq %llu: %s",
             datadir_path(recovery->shard->dir), (int)record->session.n, record->session.p,
             (unsigned long long)record->epoch, (unsigned long long)record->seq, why);
    return -EIO;
}

/* ---- lives without a beginning */

static struct loose_end *loose_find(struct recovery *recovery, const struct log_record *record)
{
    struct core_hash id = key_hash(record->session, (struct str){0});
    for (uint32_t i = 0; i < recovery->loose_n; i++) {
        struct loose_end *loose = &recovery->loose[i];
        if (loose->epoch == record->epoch && memcmp(&loose->id, &id, sizeof(id)) == 0)
            return loose;
    }
    return NULL;
}

static int loose_add(struct recovery *recovery, const struct log_record *record)
{
    if (!recovery->checkpointed)
        return refuse(recovery, record, "events are missing before it");
    if (loose_find(recovery, record) != NULL)
        return 0;
    if (recovery->loose_n == recovery->loose_cap) {
        recovery->loose_cap = recovery->loose_cap != 0 ? recovery->loose_cap * 2 : 16;
        recovery->loose =
            mem_realloc(recovery->loose, recovery->loose_cap * sizeof(*recovery->loose));
    }
    recovery->loose[recovery->loose_n++] =
        (struct loose_end){key_hash(record->session, (struct str){0}), record->epoch};
    return 0;
}

static void loose_remove(struct recovery *recovery, struct loose_end *loose)
{
    *loose = recovery->loose[--recovery->loose_n];
}

static void add_garbage(struct shard *shard, struct str id, const struct garbage *what)
{
    struct garbage garbage = *what; /* copied again */
    garbage.id_size = (uint8_t)id.n;
    memcpy(garbage.id, id.p, id.n);
    upkeep_add_garbage(shard, &garbage);
}

/* ---- records */

static void life_begins(struct shard *shard, struct entry *entry, uint64_t epoch)
{
    entry->flags |= ENTRY_ALIVE;
    entry->epoch = epoch;
    entry->head = entry->base = LOG_POSITION_NONE;
    entry->u.labels = 0;
    entry_count_life(shard, entry, 1);
}

static void life_ends(struct shard *shard, struct entry *entry)
{
    upkeep_never_expires(shard, entry);
    entry->flags &= (uint8_t) ~(ENTRY_ALIVE | ENTRY_IMPORTING | ENTRY_ATTENDED);
    entry_count_life(shard, entry, -1);
}

/* Of an import that was not finished nobody has seen anything. */
static void drop_import(struct shard *shard, struct entry *entry)
{
    add_garbage(shard, entry_id(entry),
                &(struct garbage){.epoch = entry->epoch, .last = entry->head});
    life_ends(shard, entry);
}

static void attended_found(struct shard *shard, struct entry *entry)
{
    entry->flags |= ENTRY_ATTENDED;
    shard->attended_walk.wanted = true;
}

/* An event that changes what the directory holds. */
static void take_event(struct shard *shard, struct entry *entry, const struct log_record *record,
                       const struct core_event *event)
{
    bool fork = record->type == LOG_RECORD_SNAPSHOT; /* else it was imported with its history */
    if (event->type == CORE_SESSION_CREATE || event->type == CORE_SESSION_UPDATE)
        entry->u.labels |= signature_of(&event->f.labels);
    if (event->type == CORE_SESSION_CREATE && event->f.ttl_s != 0)
        upkeep_expires(shard, entry, event->ts_ms + (int64_t)event->f.ttl_s * 1000);
    if (core_event_attends(event)) /* perhaps not any more: that is seen when it is loaded */
        attended_found(shard, entry);
    if (event->type == CORE_SESSION_FORK && fork) {
        entry->u.labels = UINT64_MAX; /* the parent's, which are not known here; so for its ttl, */
        upkeep_expires(shard, entry, event->ts_ms);
        attended_found(shard, entry); /* and for leases and targets */
        fork_add(shard, entry_id(entry), entry->epoch, event->f.parent,
                 session_epoch_number(event->f.parent_epoch), event->f.parent_seq);
    }
}

static int take_events(struct recovery *recovery, struct entry *entry,
                       const struct log_record *record)
{
    struct shard *shard = recovery->shard;
    struct record_reader reader;
    struct core_event event;
    int more = record_read_begin(&reader, record);
    if (more == 0)
        more = record_skip_keys(&reader);
    while (more == 0 && (more = record_read_event(&reader, &shard->scratch, &event, NULL)) == 1) {
        take_event(shard, entry, record, &event);
        arena_reset(&shard->scratch);
        more = 0;
    }
    return more == 0 ? 0 : refuse(recovery, record, "its events cannot be read");
}

static bool begins_a_life(const struct log_record *record)
{
    return record->seq == 1 || (record->type == LOG_RECORD_SNAPSHOT && record->events != 0);
}

static int visit_chain(struct recovery *recovery, const struct log_record *record,
                       log_position position)
{
    struct shard *shard = recovery->shard;
    struct entry *entry = entry_find(shard, record->session);
    bool alive = entry != NULL && entry->flags & ENTRY_ALIVE;
    if (alive && (entry->epoch > record->epoch ||
                  (entry->epoch == record->epoch && position <= entry->head)))
        return 0; /* the checkpoint knows */
    if (alive && entry->epoch != record->epoch && entry->flags & ENTRY_IMPORTING) {
        drop_import(shard, entry); /* begun again after a start that had dropped it */
        alive = false;
    }
    if (alive && entry->epoch != record->epoch)
        return refuse(recovery, record, "another life of it has not ended");
    if (!alive && !begins_a_life(record))
        return loose_add(recovery, record);
    if (!alive) {
        entry = entry_find_or_make(shard, record->session);
        life_begins(shard, entry, record->epoch);
    } else if (record->previous != entry->head) {
        return refuse(recovery, record, "it names another record before it");
    }
    entry->head = position;
    if (record->type == LOG_RECORD_SNAPSHOT)
        entry->base = position;
    if (record->flags & LOG_RECORD_IMPORTING)
        entry->flags |= ENTRY_IMPORTING;
    else
        entry->flags &= (uint8_t)~ENTRY_IMPORTING;
    return record->flags & LOG_RECORD_DIRECTORY ? take_events(recovery, entry, record) : 0;
}

static int visit_tombstone(struct recovery *recovery, const struct log_record *record)
{
    struct shard *shard = recovery->shard;
    struct entry *entry = entry_find(shard, record->session);
    struct loose_end *loose = loose_find(recovery, record);
    log_position first;
    uint64_t bytes;
    if (sim_bug(SIM_BUG_RESURRECTION) &&
        datadir_recover_shards(shard->dir) != datadir_shards(shard->dir))
        return 0;
    if (record_read_end(record->body, &first, &bytes) != 0)
        return refuse(recovery, record, "its deletion cannot be read");
    if (entry != NULL && entry->flags & ENTRY_ALIVE && entry->epoch == record->epoch)
        life_ends(shard, entry);
    else if (loose != NULL)
        loose_remove(recovery, loose);
    else if (!recovery->checkpointed)
        return refuse(recovery, record, "a deletion of a session that is not there");
    struct garbage garbage = {.epoch = record->epoch,
                              .first = first,
                              .last = record->previous,
                              .bytes = bytes,
                              .since_ms = record->ts_ms};
    add_garbage(shard, record->session, &garbage);
    struct fork *fork = fork_find(shard, record->session, record->epoch);
    if (fork != NULL)
        fork->alive = false;
    if (entry != NULL)
        entry_drop_if_vacant(shard, entry);
    return 0;
}

static int visit_pin(struct recovery *recovery, const struct log_record *record)
{
    struct str child;
    uint64_t child_epoch, at;
    if (record_read_pin(record->body, &child, &child_epoch, &at) != 0)
        return refuse(recovery, record, "its pin cannot be read");
    if (record->type == LOG_RECORD_PIN)
        fork_add_pin(recovery->shard, record->session, record->epoch, child, child_epoch, at);
    else
        fork_remove_pin(recovery->shard, record->session, record->epoch, child, child_epoch);
    return 0;
}

static int visit_record(void *ctx, const struct log_record *record, log_position position)
{
    struct recovery *recovery = ctx;
    const atomic_bool *stop = recovery->options->stop;
    if (stop != NULL && atomic_load_explicit(stop, memory_order_relaxed))
        return -ECANCELED;
    if (!is_ours(recovery->shard, record->session))
        return 0;
    switch (record->type) {
    case LOG_RECORD_EVENTS:
    case LOG_RECORD_SNAPSHOT:
        return visit_chain(recovery, record, position);
    case LOG_RECORD_TOMBSTONE:
        return visit_tombstone(recovery, record);
    case LOG_RECORD_PIN:
    case LOG_RECORD_UNPIN:
        return visit_pin(recovery, record);
    default:
        return refuse(recovery, record, "a record of a type this version does not know");
    }
}

/* ---- checkpoints */

static void take_session(struct shard *shard, const struct checkpoint_item *item)
{
    struct entry *entry = entry_find_or_make(shard, item->id);
    life_begins(shard, entry, item->epoch);
    entry->head = item->head;
    entry->base = item->base;
    entry->u.labels = item->labels;
    if (item->flags & CHECKPOINT_IMPORTING)
        entry->flags |= ENTRY_IMPORTING;
    if (item->flags & CHECKPOINT_ATTENDED)
        attended_found(shard, entry);
}

static int visit_item(void *ctx, const struct checkpoint_item *item)
{
    struct recovery *recovery = ctx;
    struct shard *shard = recovery->shard;
    const atomic_bool *stop = recovery->options->stop;
    if (stop != NULL && atomic_load_explicit(stop, memory_order_relaxed))
        return -ECANCELED;
    if (item->type == CHECKPOINT_END || !is_ours(shard, item->id))
        return 0;
    switch ((enum checkpoint_type)item->type) {
    case CHECKPOINT_SESSION:
        take_session(shard, item);
        break;
    case CHECKPOINT_EXPIRY: {
        struct entry *entry = entry_find(shard, item->id);
        if (entry != NULL) /* else deleted between the two walks */
            upkeep_expires(shard, entry, item->ms);
        break;
    }
    case CHECKPOINT_PIN:
        fork_add_pin(shard, item->id, item->epoch, item->other, item->other_epoch, item->at);
        break;
    case CHECKPOINT_FORK:
        fork_add(shard, item->id, item->epoch, item->other, item->other_epoch, item->at)->alive =
            !(item->flags & CHECKPOINT_DEAD);
        break;
    case CHECKPOINT_GARBAGE:
        add_garbage(shard, item->id,
                    &(struct garbage){.epoch = item->epoch,
                                      .first = item->base,
                                      .last = item->head,
                                      .bytes = item->at,
                                      .since_ms = item->ms});
        break;
    case CHECKPOINT_END:
        break;
    }
    return 0;
}

/* ---- the whole */

/* One log of the last run: its checkpoint, and what stands behind it. */
static int recover_log(struct recovery *recovery, uint32_t generation, unsigned number)
{
    struct shard *shard = recovery->shard;
    struct shard_progress *progress = recovery->options->progress;
    _Atomic uint64_t *bytes = progress != NULL ? &progress->bytes : NULL;
    struct datadir_checkpoint checkpoint;
    int result = 0;
    recovery->checkpointed = datadir_get_checkpoint(shard->dir, generation, number, &checkpoint);
    if (recovery->checkpointed)
        result = checkpoint_visit_file(shard->dir, &checkpoint, visit_item, recovery, bytes,
                                       recovery->error, recovery->error_size);
    const struct datadir_end *from = recovery->checkpointed ? &checkpoint.from : NULL;
    if (number == shard->number && generation == datadir_generation(shard->dir)) {
        shard->checkpoint_from = from != NULL ? *from : (struct datadir_end){0};
        shard->recovered_bytes = log_recover_bytes(shard->dir, generation, number, from);
    }
    if (result == 0)
        result = log_recover(shard->dir, generation, number, from, visit_record, recovery, bytes,
                             recovery->error, recovery->error_size);
    if (result == 0 && recovery->loose_n != 0) {
        snprintf(recovery->error, recovery->error_size,
                 "%s: the log of shard %u (generation %u) does not fit together: it holds records "
                 "of %u sessions whose beginning is missing",
                 datadir_path(shard->dir), number, generation, recovery->loose_n);
        result = -EIO;
    }
    return result;
}

static void count_bytes(const struct recovery *recovery, uint32_t generation, unsigned number)
{
    struct datadir_checkpoint checkpoint;
    struct datadir *dir = recovery->shard->dir;
    bool has = datadir_get_checkpoint(dir, generation, number, &checkpoint);
    uint64_t bytes = log_recover_bytes(dir, generation, number, has ? &checkpoint.from : NULL);
    recovery->options->progress->total += bytes + (has ? checkpoint.bytes : 0);
}

static void drop_imports(struct shard *shard)
{
    struct entry *next;
    for (struct entry *entry = entry_after(shard, (struct str){0}); entry != NULL; entry = next) {
        next = entry_next(entry);
        if (!(entry->flags & ENTRY_IMPORTING))
            continue;
        drop_import(shard, entry);
        entry_drop_if_vacant(shard, entry);
    }
}

int recovery_run(struct shard *shard, const struct shard_options *options, char *error,
                 size_t error_size)
{
    struct recovery recovery = {
        .shard = shard, .options = options, .error = error, .error_size = error_size};
    uint32_t generation = datadir_recover_generation(shard->dir);
    unsigned logs = generation != 0 ? datadir_recover_shards(shard->dir) : 0;
    bool same = logs == datadir_shards(shard->dir);
    int result = 0;
    for (unsigned number = 0; number < logs && options->progress != NULL; number++) {
        if (!same || number == shard->number)
            count_bytes(&recovery, generation, number);
    }
    for (unsigned number = 0; number < logs && result == 0; number++) {
        if (!same || number == shard->number)
            result = recover_log(&recovery, generation, number);
    }
    free(recovery.loose);
    if (result == -ECANCELED)
        snprintf(error, error_size, "stopped while recovering");
    if (result == 0) {
        drop_imports(shard);
        upkeep_settle_garbage(shard);
        forks_sweep(shard);
    }
    return result;
}
