/*
 * verify_lives: the sessions of one pass, folded from their records as the logs are walked.
 *
 * In the chain of a life each record names the one before it, and seqs go on without a gap. Where
 * compaction or retention has taken what was before a record, its state is not known until a
 * snapshot brings it back; that is no fault as long as the record named is in a segment that has
 * been rewritten or dropped. Where the state is known, events must apply to it, and a snapshot must
 * hold that very state, byte for byte, and the chain of all events so far.
 *
 * A checkpoint tells which sessions live and where each one's newest record and snapshot are. It
 * was made while the shard went on: what it says of a session is true at some place behind the one
 * it was begun at. So its entries are kept until their record comes by. What it does not name has
 * ended by then, or does behind it.
 *
 * At the end of a pass every session that lives must have a known state, and every record that a
 * checkpoint has named must have been met.
 */
#include "shards/verify_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { BUCKETS_MIN = 1024 };

/* What the newest snapshot of a life has said, for the next one. */
struct last_snapshot {
    struct record_snapshot said; /* without the state */
    struct record_skip at;
};

struct life {
    struct life *next; /* of one bucket */
    uint64_t hash;
    uint64_t epoch;            /* of the newest life; 0: only a checkpoint has named it so far */
    log_position head, base;   /* newest record, newest snapshot of it */
    uint64_t seq;              /* after the newest record */
    struct core_session *core; /* NULL: its state is not known */
    struct core_chain chain;
    struct last_snapshot *snapshot; /* NULL: none known */
    uint64_t named_epoch;           /* what a checkpoint says, until it has come by; 0: nothing */
    log_position named_head, named_base;
    bool alive;     /* no end of it has been seen */
    bool importing; /* its newest record is of an import that goes on */
    bool unnamed;   /* its shard's checkpoint does not name it … */
    bool loose;     /* … and there are records of it behind that */
    bool hit;       /* by a missing segment */
    uint8_t id_size;
    char id[];
};

struct verify_lives {
    uint64_t passes, pass;
    struct life **buckets;
    uint64_t mask, n;
    struct arena scratch;
    struct buf state; /* a snapshot, encoded */
};

static struct str life_id(const struct life *life)
{
    return (struct str){life->id, life->id_size};
}

/* The table. */

static void grow(struct verify_lives *lives)
{
    uint64_t mask = 2 * lives->mask + 1;
    struct life **buckets = mem_zeroed(mask + 1, sizeof(buckets[0]));
    for (uint64_t i = 0; i <= lives->mask; i++) {
        for (struct life *life = lives->buckets[i], *next; life != NULL; life = next) {
            struct life **bucket = &buckets[life->hash / lives->passes & mask];
            next = life->next;
            life->next = *bucket;
            *bucket = life;
        }
    }
    free(lives->buckets);
    lives->buckets = buckets;
    lives->mask = mask;
}

static struct life *find_or_make(struct verify_lives *lives, struct str id, uint64_t hash)
{
    struct life *life = lives->buckets[hash / lives->passes & lives->mask];
    while (life != NULL && (life->hash != hash || !str_equal(life_id(life), id)))
        life = life->next;
    if (life != NULL)
        return life;
    if (lives->n++ > lives->mask)
        grow(lives);
    struct life **bucket = &lives->buckets[hash / lives->passes & lives->mask];
    life = mem_zeroed(1, sizeof(*life) + id.n);
    life->next = *bucket;
    life->hash = hash;
    life->id_size = (uint8_t)id.n;
    memcpy(life->id, id.p, id.n);
    *bucket = life;
    return life;
}

/* Its state is not known (any more). */
static void forget_state(struct life *life)
{
    if (life->core != NULL)
        core_session_free(life->core);
    free(life->snapshot);
    life->core = NULL;
    life->snapshot = NULL;
}

static void hit(struct verify *v, struct life *life)
{
    if (!life->hit)
        verify_hit(v, life_id(life));
    life->hit = true;
}

/* The chain. */

/* A record that is missing before this one: may it be? */
static int check_gone(struct verify *v, struct life *life, const struct log_record *record)
{
    switch (verify_place_of(v, record->previous)) {
    case PLACE_GONE:
        return 0;
    case PLACE_MISSING:
        hit(v, life);
        return 0;
    case PLACE_THERE:
    case PLACE_NONE:
        break;
    }
    return verify_fault(v, v->offset, record,
                        "the record before it should be in segment %" PRIu32 " at offset %" PRIu32
                        ", and is not",
                        (uint32_t)(record->previous >> 32), (uint32_t)record->previous);
}

static bool is_forks_first(const struct log_record *record)
{
    return record->type == LOG_RECORD_SNAPSHOT && record->events != 0;
}

static void begin_state(struct life *life)
{
    life->core = core_session_new(&core_heap_malloc, &core_limits_default, life_id(life), STR(""));
    life->chain = (struct core_chain){0};
}

static int begin_life(struct verify *v, struct life *life, const struct log_record *record)
{
    if (record->epoch < life->epoch)
        return verify_fault(v, v->offset, record,
                            "it comes behind a record of epoch %" PRIu64 ": epochs ascend",
                            life->epoch);
    if (life->alive && !life->importing && !v->gaps)
        return verify_fault(v, v->offset, record, "its life of epoch %" PRIu64 " has not ended",
                            life->epoch);
    forget_state(life);
    life->epoch = record->epoch;
    life->alive = true;
    life->unnamed = life->loose = false;
    life->head = life->base = LOG_POSITION_NONE;
    life->seq = 0;
    v->report->lives++;
    if (is_forks_first(record)) { /* what it names is its parent's */
        life->seq = record->seq - 1;
        return 0;
    }
    if (record->previous != LOG_POSITION_NONE) {
        life->seq = record->seq - 1;
        return check_gone(v, life, record);
    }
    begin_state(life);
    return 0;
}

/* The record's place behind those before it; the state is forgotten where something is gone. */
static int follow(struct verify *v, struct life *life, const struct log_record *record)
{
    bool begins = record->epoch != life->epoch;
    int result = begins ? begin_life(v, life, record) : 0;
    if (result != 0)
        return result;
    if (!life->alive)
        return verify_fault(v, v->offset, record, "this life of it had ended");
    if (!begins && record->previous != life->head) {
        result = record->previous > life->head || life->head == LOG_POSITION_NONE
                     ? check_gone(v, life, record)
                     : verify_fault(v, v->offset, record,
                                    "the record before it is in segment %" PRIu32
                                    " at offset %" PRIu32 ", but it names another",
                                    (uint32_t)(life->head >> 32), (uint32_t)life->head);
        if (result != 0)
            return result;
        forget_state(life);
        if (record->seq > life->seq)
            life->seq = record->seq - 1;
    }
    if (record->seq == life->seq + 1)
        return 0;
    return verify_fault(v, v->offset, record,
                        "the seq before it is %" PRIu64 ": events are missing", life->seq);
}

/* Folding. */

static int fold_events(struct verify *v, struct life *life, struct record_reader *reader,
                       const struct log_record *record, log_position position)
{
    struct core_event event;
    struct core_refusal why;
    struct str bytes;
    size_t forks = verify_forks_of(v, position);
    int more, result = 0;
    while (result == 0 && (more = record_read_event(reader, &v->lives->scratch, &event, &bytes))) {
        if (more < 0)
            return verify_fault(v, v->offset, record, "its events cannot be read");
        bool is_fork = is_forks_first(record);
        if (life->core != NULL && !is_fork) {
            core_begin(life->core);
            if (core_apply(life->core, &event, &why) != 0)
                return verify_fault(v, v->offset, record, "event %" PRIu64 " does not apply: %s",
                                    event.seq, why.detail);
            core_keep(life->core);
            core_chain_add(&life->chain, event.seq, bytes);
        }
        life->seq = event.seq;
        if (!is_fork)
            result =
                verify_forks_at(v, record, position, life->core, &life->chain, event.seq, &forks);
        arena_reset(&v->lives->scratch);
    }
    return result;
}

/* The skips have to be those that follow from the snapshot before. */
static int compare_skips(struct verify *v, const struct life *life,
                         const struct record_snapshot *snapshot, const struct log_record *record)
{
    struct record_skip skips[RECORD_SKIPS_MAX];
    if (life->snapshot == NULL)
        return 0;
    uint32_t n = record_next_skips(&life->snapshot->said, &life->snapshot->at, skips);
    bool same = n == snapshot->skips_n && snapshot->ordinal == life->snapshot->said.ordinal + 1;
    for (uint32_t i = 0; same && i < n; i++)
        same = skips[i].seq == snapshot->skips[i].seq &&
               skips[i].ts_ms == snapshot->skips[i].ts_ms &&
               skips[i].position == snapshot->skips[i].position;
    return same ? 0
                : verify_fault(v, v->offset, record,
                               "its snapshot leads to others than those before it");
}

/* The state is known: the snapshot has to be it. */
static int compare_snapshot(struct verify *v, struct life *life,
                            const struct record_snapshot *snapshot, const struct log_record *record)
{
    struct buf *state = &v->lives->state;
    state->n = 0;
    core_snapshot_encode(life->core, state);
    if (!str_equal(buf_str(state), snapshot->state))
        return verify_fault(v, v->offset, record,
                            "its snapshot is not the state that the events before it lead to");
    if (memcmp(&life->chain, &snapshot->chain, sizeof(life->chain)) != 0)
        return verify_fault(v, v->offset, record,
                            "its snapshot's chain is not that of the events before it");
    return compare_skips(v, life, snapshot, record);
}

/* The state is not known: it is the snapshot's from here on. */
static int take_snapshot(struct verify *v, struct life *life,
                         const struct record_snapshot *snapshot, const struct log_record *record)
{
    struct buf *state = &v->lives->state;
    begin_state(life);
    if (core_snapshot_decode(life->core, snapshot->state) != 0)
        return verify_fault(v, v->offset, record, "its snapshot cannot be read");
    state->n = 0;
    core_snapshot_encode(life->core, state);
    if (!str_equal(buf_str(state), snapshot->state) || core_session_seq(life->core) != life->seq)
        return verify_fault(v, v->offset, record, "its snapshot does not fit together");
    life->chain = snapshot->chain;
    return 0;
}

static int fold_snapshot(struct verify *v, struct life *life, struct record_reader *reader,
                         const struct log_record *record, log_position position)
{
    struct record_snapshot snapshot;
    if (record_read_snapshot(reader, &snapshot) != 0)
        return verify_fault(v, v->offset, record, "its snapshot cannot be read");
    int result = life->core != NULL ? compare_snapshot(v, life, &snapshot, record)
                                    : take_snapshot(v, life, &snapshot, record);
    if (result != 0)
        return result;
    if (life->snapshot == NULL)
        life->snapshot = mem_alloc(sizeof(*life->snapshot));
    *life->snapshot = (struct last_snapshot){
        .said = snapshot,
        .at = {life->seq, core_session_ts_ms(life->core), position},
    };
    life->snapshot->said.state = (struct str){0};
    life->base = position;
    v->report->snapshots++;
    size_t forks = verify_forks_of(v, position);
    return verify_forks_at(v, record, position, life->core, &life->chain, life->seq, &forks);
}

static int fold(struct verify *v, struct life *life, const struct log_record *record,
                log_position position)
{
    struct record_reader reader;
    int result = follow(v, life, record);
    if (result != 0)
        return result;
    if (record_read_begin(&reader, record) != 0 || record_skip_keys(&reader) != 0)
        return verify_fault(v, v->offset, record, "its idempotency keys cannot be read");
    result = fold_events(v, life, &reader, record, position);
    if (result == 0 && record->type == LOG_RECORD_SNAPSHOT)
        result = fold_snapshot(v, life, &reader, record, position);
    life->head = position;
    life->importing = (record->flags & LOG_RECORD_IMPORTING) != 0;
    return result;
}

static int end_life(struct verify *v, struct life *life, const struct log_record *record)
{
    log_position first;
    uint64_t bytes;
    if (record_read_end(record->body, &first, &bytes) != 0)
        return verify_fault(v, v->offset, record, "its deletion cannot be read");
    bool known = life->epoch == record->epoch && life->alive;
    if (record->epoch < life->epoch)
        return verify_fault(v, v->offset, record,
                            "its deletion comes behind a record of epoch %" PRIu64, life->epoch);
    if (known && record->previous != life->head) {
        int result = record->previous > life->head
                         ? check_gone(v, life, record)
                         : verify_fault(v, v->offset, record,
                                        "its deletion names another record "
                                        "than its last one");
        if (result != 0)
            return result;
    } else if (known && record->seq != life->seq + 1) {
        return verify_fault(v, v->offset, record, "the seq before its deletion is %" PRIu64,
                            life->seq);
    } else if (!known) {
        int result = check_gone(v, life, record);
        if (result != 0)
            return result;
        v->report->lives += life->epoch != record->epoch;
    }
    forget_state(life);
    life->epoch = record->epoch;
    life->alive = false;
    return 0;
}

/* What a checkpoint has named comes by. */
static int meet_named(struct verify *v, struct life *life, const struct log_record *record,
                      log_position position)
{
    if (life->named_epoch != record->epoch || life->named_head != position)
        return 0;
    life->named_epoch = 0;
    if (life->named_base == life->base || verify_place_of(v, life->named_base) != PLACE_THERE)
        return 0;
    return verify_fault(v, v->offset, record,
                        "a checkpoint says that its newest snapshot here is in segment %" PRIu32
                        " at offset %" PRIu32 ", which it is not",
                        (uint32_t)(life->named_base >> 32), (uint32_t)life->named_base);
}

int verify_lives_record(struct verify *v, const struct log_record *record, log_position position)
{
    struct verify_lives *lives = v->lives;
    uint64_t hash = verify_hash(v, record->session);
    if (hash % lives->passes != lives->pass || record->type == LOG_RECORD_PIN ||
        record->type == LOG_RECORD_UNPIN)
        return 0;
    struct life *life = find_or_make(lives, record->session, hash);
    int result;
    life->loose = life->unnamed;
    switch (record->type) {
    case LOG_RECORD_EVENTS:
    case LOG_RECORD_SNAPSHOT:
        result = fold(v, life, record, position);
        return result == 0 ? meet_named(v, life, record, position) : result;
    case LOG_RECORD_TOMBSTONE:
        return end_life(v, life, record);
    default:
        return verify_fault(v, v->offset, record, "it is of a type this version does not know");
    }
}

/* Checkpoints. */

static int name_session(void *ctx, const struct checkpoint_item *item)
{
    struct verify *v = ctx;
    struct verify_lives *lives = v->lives;
    if (item->type != CHECKPOINT_SESSION)
        return 0;
    uint64_t hash = verify_hash(v, item->id);
    if (hash % lives->passes != lives->pass)
        return 0;
    struct life *life = find_or_make(lives, item->id, hash);
    life->unnamed = false;
    if (verify_place_of(v, item->head) == PLACE_MISSING) {
        hit(v, life);
        return 0;
    }
    life->named_epoch = item->epoch;
    life->named_head = item->head;
    life->named_base = item->base;
    struct log_record record = {.session = life_id(life), .epoch = item->epoch, .seq = life->seq};
    if (life->epoch == item->epoch && life->alive && life->head > item->head)
        return verify_fault(v, 0, &record,
                            "its newest record is said to be in segment %" PRIu32
                            " at offset %" PRIu32 ", but there is a newer one",
                            (uint32_t)(item->head >> 32), (uint32_t)item->head);
    if (life->epoch > item->epoch || (life->epoch == item->epoch && !life->alive))
        return verify_fault(v, 0, &record, "it is said to live, but that life has ended");
    return meet_named(v, life, &record, life->head);
}

int verify_lives_checkpoint(struct verify *v, const struct manifest_checkpoint *checkpoint)
{
    struct verify_lives *lives = v->lives;
    for (uint64_t i = 0; i <= lives->mask; i++) {
        for (struct life *life = lives->buckets[i]; life != NULL; life = life->next)
            life->unnamed = life->unnamed || life->hash % v->manifest.shards == checkpoint->shard;
    }
    return verify_read_checkpoint(v, checkpoint, name_session, v);
}

/* The end of a pass. */

/* A fault in a session of which no record is at hand. */
static int fault_life(struct verify *v, const struct life *life, log_position position,
                      const char *what)
{
    struct datadir_segment *segment =
        manifest_find_segment(&v->manifest, (uint32_t)(position >> 32));
    struct log_record record = {.session = life_id(life), .epoch = life->epoch, .seq = life->seq};
    if (segment != NULL)
        datadir_segment_name(segment, v->name);
    return verify_fault(v, (uint32_t)position, &record, "%s", what);
}

/* A checkpoint has named a record that did not come by. It may have gone since, where the life has
 * ended or has a newer snapshot; but not if nothing newer is there. */
static bool is_lost(const struct verify *v, const struct life *life)
{
    if (life->named_epoch == 0)
        return false;
    if (verify_place_of(v, life->named_head) != PLACE_GONE || life->epoch < life->named_epoch)
        return true;
    return life->epoch == life->named_epoch && life->alive && life->head < life->named_head;
}

static int end_of_life(struct verify *v, struct life *life)
{
    if (life->hit)
        return 0;
    if (is_lost(v, life))
        return fault_life(v, life, life->named_head,
                          "a checkpoint says that its newest record is here, and it is not");
    if (!life->alive)
        return 0;
    if (life->unnamed && (life->loose || !v->gaps))
        return fault_life(v, life, life->head, "its shard's checkpoint does not know it");
    if (life->unnamed) /* what ended it has been compacted away */
        return 0;
    if (life->core == NULL)
        return fault_life(v, life, life->head,
                          "it lives, but neither its beginning nor a snapshot is there");
    if (core_companion_id(life_id(life)))
        v->report->companions++;
    else
        v->report->sessions++;
    return 0;
}

int verify_lives_end(struct verify *v)
{
    struct verify_lives *lives = v->lives;
    int result = 0;
    for (uint64_t i = 0; i <= lives->mask && result == 0; i++) {
        for (struct life *life = lives->buckets[i]; life != NULL && result == 0; life = life->next)
            result = end_of_life(v, life);
    }
    return result;
}

void verify_lives_begin(struct verify *v, uint64_t passes, uint64_t pass)
{
    struct verify_lives *lives = mem_zeroed(1, sizeof(*lives));
    lives->passes = passes;
    lives->pass = pass;
    lives->mask = BUCKETS_MIN - 1;
    lives->buckets = mem_zeroed(BUCKETS_MIN, sizeof(lives->buckets[0]));
    v->lives = lives;
}

void verify_lives_free(struct verify *v)
{
    struct verify_lives *lives = v->lives;
    for (uint64_t i = 0; i <= lives->mask; i++) {
        for (struct life *life = lives->buckets[i], *next; life != NULL; life = next) {
            next = life->next;
            forget_state(life);
            free(life);
        }
    }
    free(lives->buckets);
    arena_free(&lives->scratch);
    buf_free(&lives->state);
    free(lives);
    v->lives = NULL;
}
