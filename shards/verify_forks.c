/*
 * verify_forks: forks against their parents, and pins against forks.
 *
 * A fork's first record is a snapshot with one event, session.forked, and names as its previous one
 * the parent's record that holds the seq it was forked at. In the first walk all of these are taken
 * note of: the event, and the hashes of the state and of the chain after it. When a pass has folded
 * the parent up to there, the event applied to its state has to lead to the same hashes.
 *
 * What is pinned is what the checkpoint of the parent's shard says, and what the log says behind
 * it: pins, which compaction takes, stay in no segment. The same goes for the forks that count. A
 * fork that lives without a pin is a fault; a pin without a fork is what a crash between the two
 * leaves, and the next start removes it.
 */
#include "shards/verify_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { BUCKETS = 4096 };

struct fork_note {
    struct fork_note *next; /* of one bucket, by the fork's id */
    struct str child, parent, event;
    uint64_t epoch, parent_epoch, at;
    log_position position, previous; /* NONE: only a checkpoint tells of it */
    struct core_hash state;          /* after the event */
    struct core_chain chain;
    bool counts;         /* it has not been let go */
    bool dead;           /* deleted: needs its pin only as long as forks of its own need it */
    bool needed, looked; /* needs_pin's answer, and that it is known */
    bool come_by;        /* in a pass: its parent's record was there */
};

struct pin_note {
    struct pin_note *next; /* of one bucket, by the parent's id */
    struct str parent, child;
    uint64_t epoch, child_epoch, at;
};

struct verify_forks {
    struct arena arena, scratch;
    struct fork_note *forks[BUCKETS];
    struct pin_note *pins[BUCKETS];
    struct fork_note **sorted; /* those with a record: by previous, at */
    size_t records_n;
};

static struct verify_forks *forks_of(struct verify *v)
{
    if (v->forks == NULL)
        v->forks = mem_zeroed(1, sizeof(*v->forks));
    return v->forks;
}

/* Notes. */

static struct fork_note **fork_bucket(struct verify *v, struct str child)
{
    return &forks_of(v)->forks[verify_hash(v, child) % BUCKETS];
}

static struct fork_note *fork_find(struct verify *v, struct str child, uint64_t epoch)
{
    struct fork_note *fork = *fork_bucket(v, child);
    while (fork != NULL && (fork->epoch != epoch || !str_equal(fork->child, child)))
        fork = fork->next;
    return fork;
}

static struct fork_note *fork_add(struct verify *v, struct str child, uint64_t epoch)
{
    struct fork_note **bucket = fork_bucket(v, child);
    struct fork_note *fork = arena_alloc(&v->forks->arena, sizeof(*fork));
    *fork = (struct fork_note){
        .next = *bucket,
        .child = arena_copy(&v->forks->arena, child),
        .epoch = epoch,
        .counts = true,
    };
    *bucket = fork;
    return fork;
}

static struct pin_note **pin_find(struct verify *v, struct str parent, uint64_t epoch,
                                  struct str child, uint64_t child_epoch)
{
    struct pin_note **at = &forks_of(v)->pins[verify_hash(v, parent) % BUCKETS];
    while (*at != NULL && ((*at)->epoch != epoch || (*at)->child_epoch != child_epoch ||
                           !str_equal((*at)->parent, parent) || !str_equal((*at)->child, child)))
        at = &(*at)->next;
    return at;
}

static void pin_add(struct verify *v, struct str parent, uint64_t epoch, struct str child,
                    uint64_t child_epoch, uint64_t at)
{
    struct pin_note **place = pin_find(v, parent, epoch, child, child_epoch);
    if (*place == NULL) {
        struct arena *arena = &v->forks->arena;
        struct pin_note *pin = arena_alloc(arena, sizeof(*pin));
        *pin = (struct pin_note){.parent = arena_copy(arena, parent),
                                 .child = arena_copy(arena, child),
                                 .epoch = epoch,
                                 .child_epoch = child_epoch};
        *place = pin;
    }
    (*place)->at = at;
}

static void pin_remove(struct verify *v, struct str parent, uint64_t epoch, struct str child,
                       uint64_t child_epoch)
{
    struct pin_note **place = pin_find(v, parent, epoch, child, child_epoch);
    if (*place != NULL)
        *place = (*place)->next;
}

/* Records. */

/* A fork's first record: what it says of itself has to be one thing. */
static int read_fork(struct verify *v, const struct log_record *record, struct fork_note *fork)
{
    struct record_reader reader;
    struct record_snapshot snapshot;
    struct core_event event;
    struct str bytes;
    struct arena *scratch = &v->forks->scratch;
    if (record->events != 1 || record_read_begin(&reader, record) != 0 ||
        record_skip_keys(&reader) != 0 ||
        record_read_event(&reader, scratch, &event, &bytes) != 1 ||
        record_read_snapshot(&reader, &snapshot) != 0 || event.type != CORE_SESSION_FORK)
        return verify_fault(v, v->offset, record, "a fork's first record cannot be read");
    struct core_session *core =
        core_session_new(&core_heap_malloc, &core_limits_default, record->session, STR(""));
    int result = core_snapshot_decode(core, snapshot.state);
    struct core_parent parent = result == 0 ? core_session_parent(core) : (struct core_parent){0};
    if (result != 0)
        result = verify_fault(v, v->offset, record, "its snapshot cannot be read");
    else if (core_session_seq(core) != record->seq || parent.seq + 1 != record->seq ||
             parent.seq != event.f.parent_seq || !str_equal(parent.session, event.f.parent) ||
             !str_equal(parent.epoch, event.f.parent_epoch))
        result = verify_fault(v, v->offset, record,
                              "its event says that it is a fork of something else than its state "
                              "does");
    else
        fork->state = core_state_hash(core);
    core_session_free(core);
    if (result != 0)
        return result;
    fork->parent = arena_copy(&v->forks->arena, event.f.parent);
    fork->parent_epoch = verify_epoch_of(event.f.parent_epoch);
    fork->at = event.f.parent_seq;
    fork->event = arena_copy(&v->forks->arena, bytes);
    fork->chain = snapshot.chain;
    return 0;
}

static int note_fork(struct verify *v, const struct log_record *record, log_position position)
{
    struct fork_note *fork = fork_find(v, record->session, record->epoch);
    struct fork_note told = {0}; /* by a checkpoint of an older place in the log: none so far */
    if (fork != NULL)
        told = *fork;
    else
        fork = fork_add(v, record->session, record->epoch);
    int result = read_fork(v, record, fork);
    arena_reset(&v->forks->scratch);
    if (result == 0 && told.child.p != NULL &&
        (!str_equal(told.parent, fork->parent) || told.parent_epoch != fork->parent_epoch ||
         told.at != fork->at))
        result = verify_fault(v, v->offset, record,
                              "a checkpoint calls it a fork of \"%.*s\" at "
                              "%" PRIu64,
                              (int)told.parent.n, told.parent.p, told.at);
    fork->position = position;
    fork->previous = record->previous;
    v->forks->records_n++;
    v->report->forks++;
    return result;
}

int verify_forks_note(struct verify *v, const struct log_record *record, log_position position)
{
    struct str child;
    uint64_t child_epoch, at;
    struct fork_note *fork;
    switch (record->type) {
    case LOG_RECORD_SNAPSHOT:
        return record->events != 0 ? note_fork(v, record, position) : 0;
    case LOG_RECORD_TOMBSTONE:
        fork = fork_find(v, record->session, record->epoch);
        if (fork != NULL)
            fork->dead = true;
        return 0;
    case LOG_RECORD_PIN:
    case LOG_RECORD_UNPIN:
        if (record_read_pin(record->body, &child, &child_epoch, &at) != 0)
            return verify_fault(v, v->offset, record, "a pin cannot be read");
        if (record->type == LOG_RECORD_PIN)
            pin_add(v, record->session, record->epoch, child, child_epoch, at);
        else
            pin_remove(v, record->session, record->epoch, child, child_epoch);
        return 0;
    default:
        return 0;
    }
}

/* Checkpoints. */

static bool is_of_shard(const struct verify *v, struct str id, uint32_t shard)
{
    return verify_hash(v, id) % v->manifest.shards == shard;
}

/* What the checkpoint does not name has ended before, and what said so may be compacted. */
static void forget_shard(struct verify *v, uint32_t shard)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct fork_note *fork = forks_of(v)->forks[i]; fork != NULL; fork = fork->next) {
            if (is_of_shard(v, fork->child, shard))
                fork->counts = false;
        }
        for (struct pin_note **at = &v->forks->pins[i]; *at != NULL;) {
            if (is_of_shard(v, (*at)->parent, shard))
                *at = (*at)->next;
            else
                at = &(*at)->next;
        }
    }
}

static int note_item(void *ctx, const struct checkpoint_item *item)
{
    struct verify *v = ctx;
    if (item->type == CHECKPOINT_PIN)
        pin_add(v, item->id, item->epoch, item->other, item->other_epoch, item->at);
    if (item->type == CHECKPOINT_SESSION)
        v->report->entries++;
    if (item->type != CHECKPOINT_FORK)
        return 0;
    struct fork_note *fork = fork_find(v, item->id, item->epoch);
    if (fork == NULL) {
        fork = fork_add(v, item->id, item->epoch);
        fork->parent = arena_copy(&v->forks->arena, item->other);
        fork->parent_epoch = item->other_epoch;
        fork->at = item->at;
    } else if (!str_equal(fork->parent, item->other) || fork->parent_epoch != item->other_epoch ||
               fork->at != item->at) {
        return verify_fault(v, 0, NULL,
                            "session \"%.*s\" is called a fork of \"%.*s\" at %" PRIu64
                            ", but its log says of \"%.*s\" at %" PRIu64,
                            (int)item->id.n, item->id.p, (int)item->other.n, item->other.p,
                            item->at, (int)fork->parent.n, fork->parent.p, fork->at);
    }
    fork->counts = true;
    fork->dead = (item->flags & CHECKPOINT_DEAD) != 0;
    return 0;
}

int verify_forks_checkpoint(struct verify *v, const struct manifest_checkpoint *checkpoint)
{
    forget_shard(v, checkpoint->shard);
    v->report->checkpoints++;
    return verify_read_checkpoint(v, checkpoint, note_item, v);
}

/* Settling. */

static int by_previous(const void *left, const void *right)
{
    const struct fork_note *a = *(struct fork_note *const *)left;
    const struct fork_note *b = *(struct fork_note *const *)right;
    int order = (a->previous > b->previous) - (a->previous < b->previous);
    return order != 0 ? order : (a->at > b->at) - (a->at < b->at);
}

static int fault_fork(struct verify *v, const struct fork_note *fork, const char *what)
{
    struct datadir_segment *segment =
        manifest_find_segment(&v->manifest, (uint32_t)(fork->position >> 32));
    struct log_record record = {.session = fork->child, .epoch = fork->epoch, .seq = fork->at + 1};
    if (segment != NULL)
        datadir_segment_name(segment, v->name);
    return verify_fault(v, (uint32_t)fork->position, &record,
                        "%s (a fork of \"%.*s\", epoch %" PRIu64 ", at %" PRIu64 ")", what,
                        (int)fork->parent.n, fork->parent.p, fork->parent_epoch, fork->at);
}

/* A live one does; one that was deleted where what is pinned of it is needed by a fork that does.
 */
static bool needs_pin(struct verify *v, struct fork_note *fork)
{
    if (fork->looked)
        return fork->needed;
    fork->looked = true;
    fork->needed = fork->counts && !fork->dead;
    struct pin_note *pin = v->forks->pins[verify_hash(v, fork->child) % BUCKETS];
    for (; pin != NULL && !fork->needed && fork->counts; pin = pin->next) {
        if (pin->epoch != fork->epoch || !str_equal(pin->parent, fork->child))
            continue;
        struct fork_note *child = fork_find(v, pin->child, pin->child_epoch);
        fork->needed = child != NULL && needs_pin(v, child);
    }
    return fork->needed;
}

static int settle_fork(struct verify *v, struct fork_note *fork)
{
    const struct pin_note *pin =
        *pin_find(v, fork->parent, fork->parent_epoch, fork->child, fork->epoch);
    bool may_be_lost = v->manifest.relaxed && !v->manifest.clean; /* the next start renews it */
    if (v->report->missing != 0 || may_be_lost || !needs_pin(v, fork))
        return 0;
    if (pin == NULL)
        return fault_fork(v, fork, "nothing pins what it needs of its parent");
    return pin->at >= fork->at ? 0 : fault_fork(v, fork, "its pin does not reach so far");
}

static bool is_orphan(struct verify *v, const struct pin_note *pin)
{
    struct fork_note *fork = fork_find(v, pin->child, pin->child_epoch);
    return fork == NULL || !needs_pin(v, fork);
}

int verify_forks_settle(struct verify *v)
{
    struct verify_forks *forks = forks_of(v);
    size_t n = 0;
    int result = 0;
    forks->sorted = mem_alloc((forks->records_n + 1) * sizeof(struct fork_note *));
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct fork_note *fork = forks->forks[i]; fork != NULL; fork = fork->next) {
            if (fork->position != LOG_POSITION_NONE)
                forks->sorted[n++] = fork;
            if (result == 0)
                result = settle_fork(v, fork);
        }
        for (struct pin_note *pin = forks->pins[i]; pin != NULL; pin = pin->next) {
            v->report->pins++;
            v->report->orphans += is_orphan(v, pin);
        }
    }
    forks->records_n = n;
    if (n != 0)
        qsort(forks->sorted, n, sizeof(struct fork_note *), by_previous);
    return result;
}

/* The passes. */

size_t verify_forks_of(const struct verify *v, log_position position)
{
    const struct verify_forks *forks = v->forks;
    size_t from = 0, to = forks->records_n;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (forks->sorted[middle]->previous < position)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* Whether the record is one of the fork's parent, or, where the parent is a fork itself and that
 * seq lies before it, of the parent's own. */
static bool is_history_of(struct verify *v, const struct fork_note *fork,
                          const struct log_record *record)
{
    struct str session = fork->parent;
    uint64_t epoch = fork->parent_epoch;
    while (epoch != record->epoch || !str_equal(session, record->session)) {
        const struct fork_note *parent = fork_find(v, session, epoch);
        if (parent == NULL)
            return v->gaps; /* a fork that has gone: what it was a fork of is not known any more */
        if (fork->at > parent->at)
            return false;
        session = parent->parent;
        epoch = parent->parent_epoch;
    }
    return true;
}

/* The parent's state, with the event applied, has to be the fork's. */
static int compare_states(struct verify *v, const struct log_record *record,
                          const struct fork_note *fork, const struct core_session *parent,
                          const struct core_chain *chain)
{
    struct buf bytes = {0};
    struct core_event event;
    struct core_refusal why;
    struct str in = fork->event;
    struct core_chain after = *chain;
    struct core_session *core =
        core_session_new(&core_heap_malloc, &core_limits_default, record->session, STR(""));
    core_snapshot_encode(parent, &bytes);
    int result = core_snapshot_decode(core, buf_str(&bytes));
    if (result == 0)
        result = core_event_decode(&in, &v->forks->scratch, &event);
    event.seq = fork->at + 1;
    if (result == 0)
        result = core_apply(core, &event, &why);
    core_chain_add(&after, fork->at + 1, fork->event);
    struct core_hash state = result == 0 ? core_state_hash(core) : (struct core_hash){0};
    core_session_free(core);
    arena_reset(&v->forks->scratch);
    buf_free(&bytes);
    if (result != 0 || state.low != fork->state.low || state.high != fork->state.high)
        return fault_fork(v, fork, "its state is not the one that its parent had");
    if (memcmp(&after, &fork->chain, sizeof(after)) != 0)
        return fault_fork(v, fork, "its chain does not go on from its parent's");
    return 0;
}

int verify_forks_at(struct verify *v, const struct log_record *record, log_position position,
                    const struct core_session *core, const struct core_chain *chain, uint64_t seq,
                    size_t *next)
{
    const struct verify_forks *forks = v->forks;
    int result = 0;
    while (*next < forks->records_n && result == 0) {
        struct fork_note *fork = forks->sorted[*next];
        if (fork->previous != position || fork->at != seq)
            break;
        ++*next;
        if (!is_history_of(v, fork, record))
            return fault_fork(v, fork, "what it goes on from is not its parent's");
        fork->come_by = true;
        result = core != NULL ? compare_states(v, record, fork, core, chain) : 0;
    }
    return result;
}

int verify_forks_end(struct verify *v)
{
    const struct verify_forks *forks = v->forks;
    for (size_t i = 0; i < forks->records_n; i++) {
        const struct fork_note *fork = forks->sorted[i];
        enum verify_place place = verify_place_of(v, fork->previous);
        if (place == PLACE_MISSING)
            verify_hit(v, fork->child);
        else if (!fork->come_by && place != PLACE_GONE)
            return fault_fork(v, fork, "its parent's record is not where it says");
    }
    return 0;
}

void verify_forks_free(struct verify *v)
{
    if (v->forks == NULL)
        return;
    free(v->forks->sorted);
    arena_free(&v->forks->arena);
    arena_free(&v->forks->scratch);
    free(v->forks);
    v->forks = NULL;
}
