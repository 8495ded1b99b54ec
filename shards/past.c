/*
 * past: the state of a session as it stood, or as it stands when it is loaded: a snapshot, and the
 * events behind it (trail.c), folded in pieces so that no turn is held up.
 *
 * The state has the memory of the shard, and belongs to the past until somebody takes it.
 *
 * Failure: as of the trail; -EIO too where a record that checks cannot be folded.
 */
#include "shards/log_format.h"
#include "shards/shard.h"

#include <errno.h>
#include <stdlib.h>

enum { EVENTS_A_LOOK = 32 /* folded before the clock is looked at */ };

struct past *past_new(struct shard *shard)
{
    struct past *past = mem_alloc(sizeof(*past));
    *past = (struct past){.shard = shard};
    past->trail.shard = shard;
    shard->histories++;
    return past;
}

struct past *past_of(struct shard *shard, struct session *session, struct request *request)
{
    struct past *past = past_new(shard);
    struct trail *trail = &past->trail;
    past->session = session;
    past->epoch = session->epoch;
    past->request = request;
    session->pins++;
    trail_of(trail, session);
    return past;
}

void past_free(struct past *past)
{
    struct shard *shard = past->shard;
    if (past->core != NULL)
        core_session_free(past->core);
    trail_free(&past->trail);
    shard->histories--;
    if (past->session != NULL) {
        past->session->pins--;
        session_drop_if_vacant(shard, past->session);
    }
    free(past);
}

static uint64_t bytes_of(const struct log_record *record)
{
    return log_record_bytes(record->session.n, record->body.n);
}

/* Keys of a record, where they are wanted. */
static int take_keys(struct past *past, struct record_reader *reader, log_position position)
{
    struct key_entry key;
    struct str answer;
    uint32_t n = 0;
    int more;
    if (!past->keys)
        return record_skip_keys(reader);
    while ((more = record_read_key(reader, &key, &answer)) == 1) {
        bool placed = (key.flags & KEY_PLACED) != 0;
        key.flags &= ~(uint32_t)KEY_PLACED;
        keys_add(past->shard, past->into, &key);
        n += !placed;
    }
    keys_place(past->into, n, position);
    return more;
}

static struct core_session *new_state(struct past *past, struct str id)
{
    char epoch[CORE_EPOCH_BYTES + 1];
    session_epoch_text(past->shard, past->epoch, epoch);
    return core_session_new(&past->shard->heap.core, &past->shard->limits, id,
                            (struct str){epoch, strlen(epoch)});
}

/* A state before the first event. Of a fork that was imported the first one is its root's, and
 * names that. */
static int take_beginning(struct past *past)
{
    const struct log_record *record = &past->trail.records[0].record;
    struct arena *scratch = &past->shard->scratch;
    struct record_reader reader;
    struct core_event event;
    int more = record_read_begin(&reader, record);
    if (more == 0)
        more = record_skip_keys(&reader);
    if (more == 0)
        more = record_read_event(&reader, scratch, &event, NULL);
    if (more == 1 && event.type == CORE_SESSION_CREATE)
        past->core = new_state(past, event.f.session);
    arena_reset(scratch);
    return past->core != NULL ? 0 : -EIO;
}

static int take_base(struct past *past)
{
    const struct log_record *record = &past->trail.base.record;
    struct record_reader reader;
    struct core_event event;
    int more = record_read_begin(&reader, record);
    if (more == 0)
        more = take_keys(past, &reader, past->trail.base.position);
    while (more == 0 &&
           (more = record_read_event(&reader, &past->shard->scratch, &event, NULL)) == 1)
        more = 0; /* a fork's: the state has it already */
    arena_reset(&past->shard->scratch);
    if (more != 0 || record_read_snapshot(&reader, &past->snapshot) != 0)
        return -EIO;
    past->core = new_state(past, record->session);
    if (core_snapshot_decode(past->core, past->snapshot.state) != 0)
        return -EIO;
    past->chain = past->snapshot.chain;
    past->membership_seq = past->snapshot.membership_seq;
    past->last = past->trail.base.position;
    past->snapshot_bytes = bytes_of(record);
    past->snapshot_at = (struct record_skip){
        .seq = core_session_seq(past->core),
        .ts_ms = core_session_ts_ms(past->core),
        .position = past->trail.base.position,
    };
    return 0;
}

static bool is_beyond(const struct past *past, const struct core_event *event)
{
    const struct trail_target *target = &past->trail.target;
    if (past->trail.newest)
        return false;
    return target->by_time ? event->ts_ms > target->ts_ms : event->seq > target->seq;
}

static int fold(struct past *past, const struct core_event *event, struct str bytes)
{
    struct core_refusal why;
    core_begin(past->core);
    if (core_apply(past->core, event, &why) != 0)
        return -EIO;
    core_keep(past->core);
    core_chain_add(&past->chain, event->seq, bytes);
    if (commands_changes_membership(event->type))
        past->membership_seq = event->seq;
    return 0;
}

/* Begins the record that comes next. */
static int open_record(struct past *past)
{
    const struct trail_record *from = &past->trail.records[past->at];
    past->open = true;
    past->since_bytes += bytes_of(&from->record);
    if (record_read_begin(&past->reader, &from->record) != 0)
        return -EIO;
    return take_keys(past, &past->reader, from->position) == 0 ? 0 : -EIO;
}

/* Folds the record's next event; what is beyond the target is left. */
static int fold_next(struct past *past)
{
    struct arena *scratch = &past->shard->scratch;
    struct core_event event;
    struct str bytes;
    int more = record_read_event(&past->reader, scratch, &event, &bytes);
    if (more == 0) {
        past->open = false;
        past->at++;
    } else if (more == 1 && is_beyond(past, &event)) {
        past->reached = true;
    } else if (more == 1) {
        bool follows = event.seq == core_session_seq(past->core) + 1;
        past->last = past->trail.records[past->at].position;
        if (!follows || fold(past, &event, bytes) != 0)
            more = -1;
    }
    arena_reset(scratch);
    return more < 0 ? -EIO : 0;
}

/* True: done, one way or the other. */
static bool past_fold(struct past *past, int64_t until_ns, int *error)
{
    uint32_t steps = 0;
    *error = 0;
    while (past->at < past->trail.records_n && !past->reached && *error == 0) {
        *error = past->open ? fold_next(past) : open_record(past);
        if (++steps % EVENTS_A_LOOK == 0 && shard_clock_ns(past->shard) > until_ns)
            return false;
    }
    return true;
}

static enum chore_result past_run(struct chore *chore, int64_t until_ns)
{
    struct past *past = chore->owner;
    int error;
    if (!past_fold(past, until_ns, &error))
        return CHORE_MORE;
    past->done(past, error);
    return CHORE_DONE;
}

static void past_trail_done(struct trail *trail, int error)
{
    struct past *past = trail->owner;
    if (error == 0 && trail->base.record.type != 0)
        error = take_base(past);
    else if (error == 0 && trail->records_n != 0)
        error = take_beginning(past);
    else if (error == 0)
        error = -EIO; /* a life without a record */
    if (trail->records_n != 0)
        past->first = trail->records[0].position;
    if (error != 0) {
        past->done(past, error);
        return;
    }
    past->chore.run = past_run;
    shard_chore(past->shard, &past->chore);
}

static enum chore_result past_begin(struct chore *chore, int64_t until_ns)
{
    struct past *past = chore->owner;
    (void)until_ns;
    trail_start(&past->trail);
    return CHORE_DONE;
}

/* Not at once: the caller does not want to hear before it has returned, and many that begin in one
 * turn share its time. */
void past_start(struct past *past)
{
    past->trail.owner = past;
    past->trail.done = past_trail_done;
    past->chore = (struct chore){.run = past_begin, .owner = past};
    shard_chore(past->shard, &past->chore);
}
