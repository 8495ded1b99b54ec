/*
 * forks: a new session whose history up to a seq is another one's, shared and not copied.
 *
 * A fork is asked of the shard that will own it. That one sends an errand to the parent's shard,
 * which commits a pin (the fork's id and the seq) and answers with the state there; then the fork's
 * shard commits its first record: a snapshot with the one event session.forked, whose `previous`
 * is the parent's record that holds that seq. So its history is read back into the parent's records
 * like into its own. What a pin holds stays on disk when the parent is deleted (upkeep.c).
 *
 * When a fork has been deleted, and nothing of it is pinned in turn, its pin is let go: another
 * errand. Deleting the last fork of a chain of deleted ones so unravels the chain.
 *
 * Failure: whatever happens between pin and fork leaves a pin without a fork, which the next start
 * removes (shards_settle), as it renews one that a loss of power took (relaxed durability). No room
 * for the fork: its pin is let go, and 507.
 */
#include "shards/log_format.h"
#include "shards/shard.h"
#include "shards/sim_bug.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the tables */

static struct str pin_parent(const struct pin *pin)
{
    return (struct str){pin->ids, pin->parent_size};
}

static struct str pin_child(const struct pin *pin)
{
    return (struct str){pin->ids + pin->parent_size, pin->child_size};
}

static struct str fork_child(const struct fork *fork)
{
    return (struct str){fork->ids, fork->child_size};
}

static struct str fork_parent(const struct fork *fork)
{
    return (struct str){fork->ids + fork->child_size, fork->parent_size};
}

static int number_order(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int pin_order(const struct pin *a, const struct pin *b)
{
    int order = str_compare(pin_parent(a), pin_parent(b));
    if (order == 0)
        order = number_order(a->epoch, b->epoch);
    if (order == 0)
        order = str_compare(pin_child(a), pin_child(b));
    return order != 0 ? order : number_order(a->child_epoch, b->child_epoch);
}

static int fork_order(const struct fork *a, const struct fork *b)
{
    int order = str_compare(fork_child(a), fork_child(b));
    return order != 0 ? order : number_order(a->epoch, b->epoch);
}

RB_GENERATE(pin_tree, pin, by_lives, pin_order)
RB_GENERATE(fork_tree, fork, by_life, fork_order)

/* Keys to look for: room for two ids behind them. */
struct pin_key {
    _Alignas(struct pin) char room[sizeof(struct pin) + 2 * CORE_ID_BYTES];
};

struct fork_key {
    _Alignas(struct fork) char room[sizeof(struct fork) + 2 * CORE_ID_BYTES];
};

static struct pin *pin_key(struct pin_key *key, struct str parent, uint64_t epoch, struct str child,
                           uint64_t child_epoch)
{
    struct pin *pin = (struct pin *)key->room;
    *pin = (struct pin){.epoch = epoch,
                        .child_epoch = child_epoch,
                        .parent_size = (uint8_t)parent.n,
                        .child_size = (uint8_t)child.n};
    memcpy(pin->ids, parent.p, parent.n);
    if (child.n != 0)
        memcpy(pin->ids + parent.n, child.p, child.n);
    return pin;
}

static struct pin *pin_find(struct shard *shard, struct str parent, uint64_t epoch,
                            struct str child, uint64_t child_epoch)
{
    struct pin_key key;
    return RB_FIND(pin_tree, &shard->pins, pin_key(&key, parent, epoch, child, child_epoch));
}

/* The first one of a life; NULL: there is none. */
static struct pin *pin_first(const struct shard *shard, struct str parent, uint64_t epoch)
{
    struct pin_key key;
    struct pin *pin = RB_NFIND(pin_tree, (struct pin_tree *)&shard->pins,
                               pin_key(&key, parent, epoch, (struct str){0}, 0));
    return pin != NULL && pin->epoch == epoch && str_equal(pin_parent(pin), parent) ? pin : NULL;
}

struct pin *fork_pin_after(struct shard *shard, const struct pin *pin)
{
    struct pin_key key;
    return RB_NFIND(
        pin_tree, &shard->pins,
        pin_key(&key, pin_parent(pin), pin->epoch, pin_child(pin), pin->child_epoch + 1));
}

static bool is_alive(struct shard *shard, struct str id, uint64_t epoch)
{
    struct entry *entry = entry_find(shard, id);
    struct entry_life life;
    return entry != NULL && entry_life(entry, &life) && life.epoch == epoch;
}

void fork_add_pin(struct shard *shard, struct str parent, uint64_t epoch, struct str child,
                  uint64_t child_epoch, uint64_t at)
{
    struct pin *pin = pin_find(shard, parent, epoch, child, child_epoch);
    if (pin == NULL) {
        struct pin_key key;
        size_t bytes = sizeof(*pin) + parent.n + child.n;
        pin = memcpy(mem_alloc(bytes), pin_key(&key, parent, epoch, child, child_epoch), bytes);
        RB_INSERT(pin_tree, &shard->pins, pin);
        shard->pins_n++;
    }
    pin->at = at;
}

static void pin_remove(struct shard *shard, struct pin *pin)
{
    RB_REMOVE(pin_tree, &shard->pins, pin);
    shard->pins_n--;
    free(pin);
}

void fork_remove_pin(struct shard *shard, struct str parent, uint64_t epoch, struct str child,
                     uint64_t child_epoch)
{
    struct pin *pin = pin_find(shard, parent, epoch, child, child_epoch);
    if (pin != NULL)
        pin_remove(shard, pin);
}

bool fork_is_pinned(const struct shard *shard, struct str id, uint64_t epoch)
{
    return pin_first(shard, id, epoch) != NULL;
}

uint64_t fork_pinned(const struct shard *shard, struct str id, uint64_t epoch)
{
    uint64_t highest = 0;
    struct pin *pin = pin_first(shard, id, epoch);
    while (pin != NULL && pin->epoch == epoch && str_equal(pin_parent(pin), id)) {
        highest = pin->at > highest ? pin->at : highest;
        pin = RB_NEXT(pin_tree, &shard->pins, pin);
    }
    return highest;
}

void forks_count_kept(struct shard *shard)
{
    const struct pin *before = NULL;
    struct pin *pin;
    shard->kept_n = 0;
    RB_FOREACH(pin, pin_tree, &shard->pins)
    {
        bool same = before != NULL && before->epoch == pin->epoch &&
                    str_equal(pin_parent(before), pin_parent(pin));
        shard->kept_n += !same && !is_alive(shard, pin_parent(pin), pin->epoch);
        before = pin;
    }
}

static struct fork *fork_key(struct fork_key *key, struct str child, uint64_t epoch,
                             struct str parent)
{
    struct fork *fork = (struct fork *)key->room;
    *fork = (struct fork){.epoch = epoch,
                          .alive = true,
                          .child_size = (uint8_t)child.n,
                          .parent_size = (uint8_t)parent.n};
    memcpy(fork->ids, child.p, child.n);
    if (parent.n != 0)
        memcpy(fork->ids + child.n, parent.p, parent.n);
    return fork;
}

struct fork *fork_find(const struct shard *shard, struct str child, uint64_t epoch)
{
    struct fork_key key;
    return RB_FIND(fork_tree, (struct fork_tree *)&shard->forks,
                   fork_key(&key, child, epoch, (struct str){0}));
}

struct fork *fork_after(struct shard *shard, const struct fork *fork)
{
    struct fork_key key;
    return RB_NFIND(fork_tree, &shard->forks,
                    fork_key(&key, fork_child(fork), fork->epoch + 1, (struct str){0}));
}

struct fork *fork_add(struct shard *shard, struct str child, uint64_t epoch, struct str parent,
                      uint64_t parent_epoch, uint64_t at)
{
    struct fork *fork = fork_find(shard, child, epoch);
    if (fork == NULL) {
        struct fork_key key;
        size_t bytes = sizeof(*fork) + child.n + parent.n;
        fork = memcpy(mem_alloc(bytes), fork_key(&key, child, epoch, parent), bytes);
        fork->parent_epoch = parent_epoch;
        fork->at = at;
        RB_INSERT(fork_tree, &shard->forks, fork);
        shard->forks_n++;
    }
    return fork;
}

static void fork_remove(struct shard *shard, struct fork *fork)
{
    RB_REMOVE(fork_tree, &shard->forks, fork);
    shard->forks_n--;
    free(fork);
}

bool forks_sweep(struct shard *shard)
{
    struct fork *fork, *next;
    bool swept = false;
    for (fork = RB_MIN(fork_tree, &shard->forks); fork != NULL; fork = next) {
        next = RB_NEXT(fork_tree, &shard->forks, fork);
        fork->ended = !fork->alive; /* what was read is on the disk */
        if (fork->alive || fork_is_pinned(shard, fork_child(fork), fork->epoch))
            continue;
        fork_remove(shard, fork);
        swept = true;
    }
    return swept;
}

void forks_free(struct shard *shard)
{
    struct pin *pin;
    struct fork *fork;
    while ((pin = RB_MIN(pin_tree, &shard->pins)) != NULL)
        pin_remove(shard, pin);
    while ((fork = RB_MIN(fork_tree, &shard->forks)) != NULL)
        fork_remove(shard, fork);
}

/* ---- at start: pins and forks of all shards against each other */

static struct shard *owner_of(struct shard **shards, unsigned n, struct str id)
{
    return shards[entry_hash(shards[0], id) % n];
}

static bool has_fork(const struct shard *shard, const struct pin *pin)
{
    const struct fork *fork = fork_find(shard, pin_child(pin), pin->child_epoch);
    return fork != NULL && fork->parent_epoch == pin->epoch &&
           str_equal(fork_parent(fork), pin_parent(pin));
}

static bool remove_orphans(struct shard **shards, unsigned n, struct shard *shard)
{
    bool removed = false;
    struct pin *pin, *next;
    for (pin = RB_MIN(pin_tree, &shard->pins); pin != NULL; pin = next) {
        next = RB_NEXT(pin_tree, &shard->pins, pin);
        if (has_fork(owner_of(shards, n, pin_child(pin)), pin))
            continue;
        pin_remove(shard, pin);
        removed = true;
    }
    return removed;
}

static void renew_pins(struct shard **shards, unsigned n, struct shard *shard)
{
    struct fork *fork;
    RB_FOREACH(fork, fork_tree, &shard->forks)
    fork_add_pin(owner_of(shards, n, fork_parent(fork)), fork_parent(fork), fork->parent_epoch,
                 fork_child(fork), fork->epoch, fork->at);
}

void shards_settle(struct shard **shards, unsigned n)
{
    bool removed = !sim_bug(SIM_BUG_ORPHANS_STAY);
    for (unsigned i = 0; i < n; i++)
        renew_pins(shards, n, shards[i]);
    while (removed) { /* without its pin, a fork that has ended may let go of its own parent */
        removed = false;
        for (unsigned i = 0; i < n; i++)
            removed = remove_orphans(shards, n, shards[i]) || removed;
        for (unsigned i = 0; i < n; i++)
            removed = forks_sweep(shards[i]) || removed;
    }
    for (unsigned i = 0; i < n; i++)
        forks_count_kept(shards[i]);
}

/* ---- letting go */

struct letting_go {
    struct shard *shard;
    uint64_t epoch;
};

static void let_go_done(void *owner, struct request *request)
{
    struct letting_go *going = owner;
    struct fork *fork = fork_find(going->shard, request->child, going->epoch);
    if (fork != NULL && request->error == 0)
        fork_remove(going->shard, fork);
    else if (fork != NULL)
        fork->unpinning = false; /* the next start sees to it */
    free(going);
    request_free(request);
}

static void send_unpin(struct shard *shard, struct str parent, uint64_t parent_epoch,
                       struct str child, uint64_t epoch)
{
    struct letting_go *going = mem_alloc(sizeof(*going));
    *going = (struct letting_go){shard, epoch};
    struct request *request = request_new();
    request->kind = REQUEST_UNPIN;
    request->session = arena_copy(&request->arena, parent);
    request->child = arena_copy(&request->arena, child);
    request->child_epoch = epoch;
    request->pin_epoch = parent_epoch;
    request->errand = let_go_done;
    request->errand_owner = going;
    mailbox_errand(shard->mailbox, request);
}

void fork_ended(struct shard *shard, struct str id, uint64_t epoch)
{
    struct fork *fork = fork_find(shard, id, epoch);
    if (fork == NULL)
        return;
    fork->alive = false;
    fork->ended = true;
    if (fork->unpinning || fork_is_pinned(shard, id, epoch))
        return;
    fork->unpinning = true;
    send_unpin(shard, fork_parent(fork), fork->parent_epoch, id, epoch);
}

/* Where the log has no room for it the pin goes from memory alone: the next start removes it. */
static void log_unpin(struct shard *shard, struct str parent, uint64_t epoch, struct str child,
                      uint64_t child_epoch)
{
    struct buf body = {0};
    record_add_pin(&body, child, child_epoch, 0);
    if (log_reserve(shard->log, body.n) == 0) {
        struct log_record record = {
            .type = LOG_RECORD_UNPIN,
            .session = parent,
            .epoch = epoch,
            .body = buf_str(&body),
        };
        shard->dirty = log_building(shard->log);
        log_append(shard->log, &record);
    }
    buf_free(&body);
}

/* Of a parent that has ended, what was pinned may go with the next compaction. */
static void add_garbage(struct shard *shard, struct str parent, uint64_t epoch)
{
    struct garbage garbage = {.epoch = epoch,
                              .last = log_position_of(log_segment(shard->log), UINT32_MAX),
                              .since_ms = shard->wall_ms,
                              .id_size = (uint8_t)parent.n};
    memcpy(garbage.id, parent.p, parent.n);
    upkeep_add_garbage(shard, &garbage);
}

static void unpin(struct shard *shard, struct str parent, uint64_t epoch, struct str child,
                  uint64_t child_epoch)
{
    bool was_pinned = fork_is_pinned(shard, parent, epoch);
    fork_remove_pin(shard, parent, epoch, child, child_epoch);
    log_unpin(shard, parent, epoch, child, child_epoch);
    if (is_alive(shard, parent, epoch))
        return;
    add_garbage(shard, parent, epoch);
    if (was_pinned && !fork_is_pinned(shard, parent, epoch))
        shard->kept_n--;
    struct fork *fork = fork_find(shard, parent, epoch);
    if (fork != NULL && fork->ended) /* else its own end's commit sees to it */
        fork_ended(shard, parent, epoch);
}

void fork_unpin(struct shard *shard, struct request *request)
{
    unpin(shard, request->session, request->pin_epoch, request->child, request->child_epoch);
    shard_reply(shard, request);
}

/* ---- the parent's side */

/* The state where the fork begins, as the body of a snapshot record without keys. */
static void answer_pin(struct past *past)
{
    struct request *request = past->request;
    struct record_snapshot snapshot = {
        .chain = past->chain,
        .membership_seq = past->membership_seq,
        .ordinal = past->snapshot.ordinal + 1,
    };
    if (past->snapshot.ordinal != 0)
        snapshot.skips_n = record_next_skips(&past->snapshot, &past->snapshot_at, snapshot.skips);
    record_add_count(&request->body, 0);
    record_add_snapshot(&request->body, &snapshot);
    core_snapshot_encode(past->core, &request->body);
    request->pin_place = past->last;
}

static void pin_done(struct past *past, int error)
{
    struct shard *shard = past->shard;
    struct session *session = past->session;
    struct request *request = past->request;
    if (error == 0)
        answer_pin(past);
    else
        unpin(shard, session_id(session), past->epoch, request->child, request->child_epoch);
    if (error == 0)
        shard_reply_committed(shard, session, request);
    else
        query_gone(shard, session, request, "at", error, past->trail.oldest);
    past_free(past);
}

void fork_pin(struct shard *shard, struct session *session, struct request *request)
{
    struct trail_target target;
    if (session->core == NULL) {
        shard_refuse(shard, session, request, CORE_E_UNKNOWN_SESSION, "parent",
                     "there is no session \"%.*s\"", (int)request->session.n, request->session.p);
        return;
    }
    commands_stand(session, request);
    if (!request->at.given)
        request->at = (struct request_at){.given = true, .seq = request->seq};
    if (!query_target(shard, session, request, &request->at, "at", &target))
        return;
    if (target.seq > session->committed_seq) {
        shard_retry_committed(shard, session, request);
        return;
    }
    struct buf body = {0};
    record_add_pin(&body, request->child, request->child_epoch, target.seq);
    int room = log_reserve(shard->log, body.n);
    if (room == 0) {
        struct log_record record = {
            .type = LOG_RECORD_PIN,
            .session = session_id(session),
            .epoch = session->epoch,
            .seq = target.seq + 1,
            .ts_ms = core_session_ts_ms(session->core),
            .body = buf_str(&body),
        };
        shard_append(shard, session, &record, NULL);
        fork_add_pin(shard, session_id(session), session->epoch, request->child,
                     request->child_epoch, target.seq);
        request->pin_epoch = session->epoch;
        request->seq = target.seq;
        struct past *past = past_of(shard, session, request);
        past->trail.target = target;
        past->done = pin_done;
        past_start(past);
    } else if (room == -EAGAIN) {
        shard_stall(shard, request);
    } else {
        shard->stats.no_space++;
        shard_refuse(shard, session, request,
                     room == -ENOSPC ? REQUEST_E_NO_SPACE : REQUEST_E_UNAVAILABLE, NULL,
                     "there is no room in the log for the fork");
    }
    buf_free(&body);
}

/* ---- the fork's side */

struct forking {
    struct shard *shard;
    struct session *session; /* busy meanwhile */
    struct request *request;
    struct request *pin; /* the answer of the parent's shard */
    struct chore chore;
};

static void forking_end(struct forking *forking)
{
    struct shard *shard = forking->shard;
    struct session *session = forking->session;
    request_free(forking->pin);
    free(forking);
    session->pins++;
    shard_unbusy(shard, session);
    session->pins--;
    session_drop_if_vacant(shard, session);
}

static void answer_fork(struct session *session, struct request *request)
{
    struct core_parent parent = core_session_parent(session->core);
    struct buf *out = &request->body;
    commands_stand(session, request);
    buf_add_literal(out, "{\"session\":");
    json_add_string(out, session_id(session));
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, core_session_epoch(session->core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, parent.seq + 1);
    buf_add_literal(out, ",\"parent\":{\"session\":");
    json_add_string(out, parent.session);
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, parent.epoch);
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, parent.seq);
    buf_add_literal(out, "}}");
}

/* The session in memory as the parent's state and one event. 0 or -1. */
static int make_fork(struct forking *forking, struct record_snapshot *snapshot,
                     struct core_event *event)
{
    struct shard *shard = forking->shard;
    struct session *session = forking->session;
    const struct request *pin = forking->pin;
    struct core_refusal why;
    struct core_command command = {.type = CORE_SESSION_FORK};
    struct log_record as_record = {.type = LOG_RECORD_SNAPSHOT, .body = buf_str(&pin->body)};
    if (record_snapshot_of(&as_record, &shard->scratch, snapshot) != 0)
        return -1;
    session_begin(shard, session, pin->child_epoch);
    if (core_snapshot_decode(session->core, snapshot->state) != 0)
        return -1;
    command.f.given = UINT64_C(1) << CORE_FIELD_SESSION | UINT64_C(1) << CORE_FIELD_PARENT |
                      UINT64_C(1) << CORE_FIELD_PARENT_EPOCH | UINT64_C(1) << CORE_FIELD_PARENT_SEQ;
    command.f.session = session_id(session);
    command.f.parent = pin->session;
    command.f.parent_epoch = (struct str){pin->epoch, strlen(pin->epoch)};
    command.f.parent_seq = pin->seq;
    core_begin(session->core);
    if (core_decide(session->core, &command, shard->wall_ms, &shard->scratch, event, &why) !=
            CORE_EVENT ||
        core_apply(session->core, event, &why) != 0)
        return -1;
    core_keep(session->core);
    session->chain = snapshot->chain;
    session->membership_seq = snapshot->membership_seq;
    return 0;
}

/* Its first record. 0, or what log_reserve says. */
static int log_fork(struct forking *forking, struct record_snapshot *snapshot,
                    const struct core_event *event)
{
    struct shard *shard = forking->shard;
    struct session *session = forking->session;
    struct buf *body = &shard->snapshot;
    body->n = 0;
    record_add_count(body, 0);
    size_t begin = body->n;
    core_event_encode(event, body);
    core_chain_add(&session->chain, event->seq, (struct str){body->p + begin, body->n - begin});
    snapshot->chain = session->chain;
    record_add_snapshot(body, snapshot);
    core_snapshot_encode(session->core, body);
    int result = log_reserve(shard->log, body->n);
    if (result != 0)
        return result;
    struct log_record record = {
        .type = LOG_RECORD_SNAPSHOT,
        .flags = LOG_RECORD_DIRECTORY,
        .session = session_id(session),
        .epoch = session->epoch,
        .seq = event->seq,
        .events = 1,
        .ts_ms = event->ts_ms,
        .previous = forking->pin->pin_place,
        .body = buf_str(body),
    };
    shard_append(shard, session, &record, NULL);
    struct record_skip at = {event->seq, event->ts_ms, session->head};
    session_note_snapshot(shard, session, snapshot, &at, session->since_bytes);
    return 0;
}

static void fork_failed(struct forking *forking, int error)
{
    struct shard *shard = forking->shard;
    struct session *session = forking->session;
    const struct request *pin = forking->pin;
    if (error == -ENOSPC) {
        shard->stats.no_space++;
        shard_set_full(shard, true);
    }
    unsigned code = error == -ENOSPC  ? (unsigned)REQUEST_E_NO_SPACE
                    : error == -EFBIG ? (unsigned)CORE_E_TOO_LARGE
                    : error == -EIO   ? (unsigned)REQUEST_E_UNAVAILABLE
                                      : (unsigned)CORE_E_INVARIANT;
    shard_refuse(shard, session, forking->request, code, NULL, "the fork cannot be written: %s",
                 error == -EFBIG ? "its state is more than one record of the log can hold"
                                 : strerror(-error));
    send_unpin(shard, pin->session, pin->pin_epoch, session_id(session), pin->child_epoch);
}

static enum chore_result fork_write(struct chore *chore, int64_t until_ns)
{
    struct forking *forking = chore->owner;
    struct shard *shard = forking->shard;
    struct session *session = forking->session;
    struct record_snapshot snapshot;
    struct core_event event;
    (void)until_ns;
    int result = *shard->failed != NULL ? -EIO : log_reserve(shard->log, forking->pin->body.n);
    if (result == 0 && make_fork(forking, &snapshot, &event) != 0)
        result = -EPROTO;
    if (result == 0)
        result = log_fork(forking, &snapshot, &event);
    arena_reset(&shard->scratch);
    if (result == 0) {
        const struct request *pin = forking->pin;
        fork_add(shard, session_id(session), session->epoch, pin->session, pin->pin_epoch,
                 pin->seq);
        commands_expire(shard, session);
        attended_load(shard, session);
        answer_fork(session, forking->request);
        shard_reply_committed(shard, session, forking->request);
        forking_end(forking);
        return CHORE_DONE;
    }
    if (session->core != NULL)
        session_end(shard, session);
    if (result == -EAGAIN)
        return CHORE_WAIT;
    fork_failed(forking, result);
    forking_end(forking);
    return CHORE_DONE;
}

static void fork_on_pinned(void *owner, struct request *pin)
{
    struct forking *forking = owner;
    struct request *request = forking->request;
    forking->pin = pin;
    if (pin->error == 0) {
        forking->chore = (struct chore){.run = fork_write, .owner = forking};
        shard_chore(forking->shard, &forking->chore);
        return;
    }
    request->error = pin->error;
    request->refusal = pin->refusal;
    request->oldest = pin->oldest;
    shard_reply_committed(forking->shard, forking->session, request);
    forking_end(forking);
}

/* It is there already: the same fork, or something else. */
static void fork_exists(struct shard *shard, struct session *session, struct request *request)
{
    struct core_parent parent = core_session_parent(session->core);
    bool same = parent.session.p != NULL && str_equal(parent.session, request->parent) &&
                (!request->at.given || request->at.seq == parent.seq) &&
                (request->at.epoch.p == NULL || str_equal(request->at.epoch, parent.epoch));
    if (!same) {
        shard_refuse(shard, session, request, CORE_E_REFUSED, "session",
                     "there is a session \"%.*s\" already", (int)request->session.n,
                     request->session.p);
        return;
    }
    request->again = true;
    answer_fork(session, request);
    shard_reply_committed(shard, session, request);
}

void fork_begin(struct shard *shard, struct session *session, struct request *request)
{
    if (session->core != NULL) {
        fork_exists(shard, session, request);
        return;
    }
    if (str_equal(request->session, request->parent)) {
        shard_refuse_unknown(shard, session, request);
        return;
    }
    struct forking *forking = mem_alloc(sizeof(*forking));
    *forking = (struct forking){.shard = shard, .session = session, .request = request};
    struct request *pin = request_new();
    pin->kind = REQUEST_PIN;
    pin->session = arena_copy(&pin->arena, request->parent);
    pin->child = arena_copy(&pin->arena, request->session);
    pin->child_epoch = ++shard->epochs; /* its life's, if it comes to be */
    pin->at = request->at;
    if (pin->at.epoch.p != NULL)
        pin->at.epoch = arena_copy(&pin->arena, pin->at.epoch);
    pin->errand = fork_on_pinned;
    pin->errand_owner = forking;
    session->busy = true;
    mailbox_errand(shard->mailbox, pin);
}
