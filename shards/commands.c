/*
 * commands: one request's commands to one session.
 *
 * Normal path: look at the idempotency key, then at the expected seq; decide and apply each
 * command in order; encode the events and keys into one record; reserve room in the log; append.
 * One request is one record, so that a crash keeps all of it or nothing. The answer waits for the
 * commit like everything that leaves the shard.
 *
 * All of a request runs between core_begin and core_keep: where the log has no room, or an atomic
 * batch is refused half-way, core_undo brings the session back, and keys and wake-up marks go too.
 * A big batch runs in slices over several turns; meanwhile its session is busy and what comes for
 * it queues behind.
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct run {
    uint32_t at; /* the next command */
    unsigned wants;
    uint64_t first_seq;
    uint32_t events_n;
    uint32_t keys_n; /* added to the session's keys, this request's own included */
    struct buf events;
    struct buf keys;
    struct buf head; /* of the record's body: all that stands before the events */
    struct frame_builder frame;
    uint64_t membership_seq;
    bool begun; /* the session began with this request */
    bool single_event;
    bool directory;             /* an event changes what the directory holds of the session */
    bool closed;                /* an event closes the session */
    struct buf attended;        /* agents whose lease or target an event changes */
    struct core_chain chain;    /* before the first event */
    struct core_hash key, body; /* of the whole request, where it has a key */
    bool refused;               /* atomic: by command `at` */
    bool broken;                /* an event could not be applied: our own bug */
    unsigned refused_error;
    struct core_refusal why;
};

static struct run *run_new(struct shard *shard)
{
    struct run *run = shard->spare_run;
    shard->spare_run = NULL;
    if (run == NULL) {
        run = mem_alloc(sizeof(*run));
        *run = (struct run){0};
    }
    return run;
}

static void run_destroy(struct run *run)
{
    buf_free(&run->events);
    buf_free(&run->keys);
    buf_free(&run->attended);
    buf_free(&run->head);
    frame_builder_free(&run->frame);
    free(run);
}

static void run_free(struct shard *shard, struct request *request)
{
    enum { KEEP_BYTES = 64 * 1024 };
    struct run *run = request->work;
    request->work = NULL;
    if (shard->spare_run != NULL || run->head.cap > KEEP_BYTES || run->events.cap > KEEP_BYTES ||
        run->keys.cap > KEEP_BYTES) {
        run_destroy(run);
        return;
    }
    run->at = run->events_n = run->keys_n = 0;
    run->events.n = run->keys.n = run->head.n = run->attended.n = 0;
    run->frame.n = 0;
    run->frame.bytes.n = 0;
    run->membership_seq = 0;
    run->begun = run->single_event = run->refused = run->directory = run->closed = false;
    run->broken = false;
    shard->spare_run = run;
}

void commands_free_spare(struct shard *shard)
{
    if (shard->spare_run != NULL)
        run_destroy(shard->spare_run);
    shard->spare_run = NULL;
}

void commands_stand(const struct session *session, struct request *request)
{
    if (session->core == NULL)
        return;
    request->seq = core_session_seq(session->core);
    memcpy(request->epoch, session->epoch_text, sizeof(request->epoch));
}

static int64_t event_time(const struct shard *shard, const struct session *session)
{
    int64_t last = session->core != NULL ? core_session_ts_ms(session->core) : 0;
    return shard->wall_ms > last ? shard->wall_ms : last;
}

/* ---- answering again what was answered before */

struct replay {
    struct log_read read;
    struct shard *shard;
    struct session *session;
    struct request *request;
    struct key_entry entry;
};

static void answer_single(struct request *request, uint64_t seq, const struct core_event *event)
{
    struct buf *out = &request->body;
    buf_add_literal(out, "{\"seq\":");
    buf_add_u64(out, seq);
    if (event == NULL) {
        buf_add_literal(out, ",\"events\":[]}");
        return;
    }
    char scratch[CORE_MADE_ID_BYTES];
    struct str made = core_event_made(event, scratch);
    size_t made_at = 0;
    if (made.p != NULL) {
        buf_add_literal(out, ",\"id\":\"");
        made_at = out->n;
        buf_add_str(out, made);
        buf_add_byte(out, '"');
    }
    buf_add_literal(out, ",\"events\":[");
    core_event_json(event, out);
    buf_add_literal(out, "]}");
    if (made.p != NULL) /* the body is whole, and moves no more */
        request->made = (struct str){out->p + made_at, made.n};
}

/* Finds the answer in the record that holds it. */
static int replay_answer(struct replay *replay)
{
    struct shard *shard = replay->shard;
    struct record_reader reader;
    struct key_entry key;
    struct str answer;
    int more = record_read_begin(&reader, &replay->read.record);
    while (more == 0 && (more = record_read_key(&reader, &key, &answer)) == 1) {
        bool ours = key.key.low == replay->entry.key.low && key.key.high == replay->entry.key.high;
        if (ours && replay->entry.flags & KEY_BATCH) {
            buf_add_str(&replay->request->body, answer);
            return 0;
        }
        more = 0;
    }
    if (more != 0)
        return -1;
    struct core_event event;
    while (record_read_event(&reader, &shard->scratch, &event, NULL) == 1) {
        if (event.seq == replay->entry.seq) {
            answer_single(replay->request, event.seq, &event);
            return 0;
        }
    }
    return -1;
}

static void replay_done(struct log_read *read, int result)
{
    struct replay *replay = read->owner;
    struct shard *shard = replay->shard;
    struct request *request = replay->request;
    shard->histories--;
    shard->stats.history_records++;
    if (result == -ENOENT)
        shard_refuse(shard, NULL, request, REQUEST_E_GONE, "Idempotency-Key",
                     "this was done before, up to seq %llu; the answer is no longer kept",
                     (unsigned long long)replay->entry.seq);
    else if (result != 0 || replay_answer(replay) != 0)
        shard_refuse(shard, NULL, request, CORE_E_INVARIANT, NULL,
                     "the first answer cannot be read back");
    else
        shard_reply(shard, request);
    arena_reset(&shard->scratch);
    log_read_release(read);
    replay->session->pins--;
    session_drop_if_vacant(shard, replay->session);
    free(replay);
}

static void commands_replay(struct shard *shard, struct session *session, struct request *request,
                            const struct key_entry *entry)
{
    if (entry->position > session->committed_head) {
        shard_retry_committed(shard, session, request); /* the first answer is not out yet */
        return;
    }
    request->replayed = true;
    commands_stand(session, request);
    request->seq = entry->seq;
    shard->stats.replayed++;
    if (!(entry->flags & (KEY_BATCH | KEY_EVENT))) {
        answer_single(request, entry->seq, NULL);
        shard_reply(shard, request);
        return;
    }
    struct replay *replay = mem_alloc(sizeof(*replay));
    *replay =
        (struct replay){.shard = shard, .session = session, .request = request, .entry = *entry};
    replay->read.owner = replay;
    replay->read.done = replay_done;
    session->pins++;
    shard->histories++;
    log_read(shard->log, &replay->read, entry->position);
}

/* ---- one command */

static void result_begin(struct request *request, uint32_t at)
{
    struct str ref = request->commands[at].ref;
    if (request->refs && ref.p != NULL) {
        buf_add_literal(&request->body, "{\"ref\":");
        buf_add_str(&request->body, ref);
        buf_add_literal(&request->body, ",\"status\":");
    } else {
        buf_add_literal(&request->body, "{\"status\":");
    }
}

static void result_ok(struct request *request, uint32_t at, uint64_t seq, struct str made,
                      bool again)
{
    result_begin(request, at);
    buf_add_literal(&request->body, "200,\"seq\":");
    buf_add_u64(&request->body, seq);
    if (made.p != NULL) {
        buf_add_literal(&request->body, ",\"id\":\"");
        buf_add_str(&request->body, made);
        buf_add_byte(&request->body, '"');
    }
    if (again)
        buf_add_literal(&request->body, ",\"replayed\":true");
    buf_add_byte(&request->body, '}');
}

static void result_problem(struct request *request, uint32_t at, unsigned error,
                           const struct core_refusal *why)
{
    result_begin(request, at);
    buf_add_u64(&request->body, (uint64_t)request_error_status(error));
    buf_add_literal(&request->body, ",\"error\":");
    json_begin_problem(&request->body, request_error_status(error), request_error_name(error),
                       request_error_title(error), why);
    buf_add_literal(&request->body, "}}");
}

static bool run_refuse(struct shard *shard, struct request *request, unsigned error,
                       const struct core_refusal *why)
{
    struct run *run = request->work;
    shard->stats.refused++;
    if (request->batch && !request->atomic) {
        result_problem(request, run->at, error, why);
        return true;
    }
    run->refused = true;
    run->refused_error = error;
    run->why = *why;
    return false;
}

/* The id of what a command made, from the command itself: for a repeated item of a batch, whose
 * answer holds no events. */
static struct str made_by(const struct session *session, const struct core_command *command,
                          const struct key_entry *entry, char scratch[CORE_MADE_ID_BYTES])
{
    bool named = command->f.given >> CORE_FIELD_THREAD & 1;
    if (!(entry->flags & KEY_MADE))
        return (struct str){0};
    switch (command->type) {
    case CORE_SESSION_CREATE:
        return session_id(session);
    case CORE_AGENT_REGISTER:
        return command->f.agent;
    case CORE_THREAD_CREATE:
        return named ? command->f.thread : core_made_id('t', entry->seq, scratch);
    default:
        return core_made_id('m', entry->seq, scratch);
    }
}

/* 1: this item was answered before and has been answered again; 0: it is new; -1: refused. */
static int item_again(struct shard *shard, struct session *session, struct request *request,
                      const struct request_command *item, struct core_hash key,
                      struct core_hash body)
{
    struct key_entry *entry = keys_find(session, key, event_time(shard, session));
    const struct run *run = request->work;
    char scratch[CORE_MADE_ID_BYTES];
    if (entry == NULL)
        return 0;
    if (entry->body.low != body.low || entry->body.high != body.high) {
        struct core_refusal why = {.code = CORE_E_KEY_REUSED, .field = "key"};
        snprintf(why.detail, sizeof(why.detail),
                 "this idempotency key was used with another command");
        return run_refuse(shard, request, CORE_E_KEY_REUSED, &why) ? 1 : -1;
    }
    shard->stats.replayed++;
    result_ok(request, run->at, entry->seq, made_by(session, &item->command, entry, scratch), true);
    return 1;
}

static void item_remember(struct shard *shard, struct session *session, struct run *run,
                          struct core_hash key, struct core_hash body,
                          const struct core_event *event)
{
    char scratch[CORE_MADE_ID_BYTES];
    struct key_entry entry = {.key = key, .body = body, .ts_ms = event_time(shard, session)};
    entry.seq = core_session_seq(session->core);
    if (event != NULL) {
        entry.flags = KEY_EVENT;
        if (core_event_made(event, scratch).p != NULL)
            entry.flags |= KEY_MADE;
    }
    keys_add(shard, session, &entry);
    record_add_key(&run->keys, &entry, (struct str){0});
    run->keys_n++;
}

bool commands_changes_membership(enum core_type type)
{
    switch (type) {
    case CORE_AGENT_REGISTER:
    case CORE_AGENT_LEAVE:
    case CORE_THREAD_CREATE:
    case CORE_THREAD_ADD:
    case CORE_THREAD_REMOVE:
        return true;
    default:
        return false;
    }
}

static void run_note_event(struct shard *shard, struct session *session, struct run *run,
                           const struct core_event *event)
{
    size_t begin = run->events.n;
    core_event_encode(event, &run->events);
    core_chain_add(&session->chain, event->seq,
                   (struct str){run->events.p + begin, run->events.n - begin});
    run->events_n++;
    shard->stats.events++;
    if (run->wants != 0)
        frame_builder_add(&run->frame, run->wants, event, session->core);
    if (session->waiters != NULL)
        inbox_mark(session, event);
    if (!RB_EMPTY(&session->hands))
        hands_touch(session, event);
    if (commands_changes_membership(event->type))
        run->membership_seq = event->seq;
    run->directory = run->directory || event->type <= CORE_SESSION_UPDATE;
    run->closed = run->closed || event->type == CORE_SESSION_CLOSE;
    if (core_event_attends(event)) {
        run->directory = true;
        attended_note(&run->attended, event);
    }
    if (!RB_EMPTY(&session->attended))
        attended_news(shard, session, event);
}

static bool expected_met(const struct session *session, uint64_t expected, struct core_refusal *why)
{
    uint64_t seq = core_session_seq(session->core);
    if (seq == expected)
        return true;
    *why = (struct core_refusal){.code = CORE_E_EXPECTED_SEQ, .field = "expected_seq", .seq = seq};
    if (seq == 0)
        snprintf(why->detail, sizeof(why->detail), "the session does not exist");
    else
        snprintf(why->detail, sizeof(why->detail), "the session stands at seq %llu, not at %llu",
                 (unsigned long long)seq, (unsigned long long)expected);
    return false;
}

/* False: the whole request is refused (a single command, or an atomic batch). */
static bool run_command(struct shard *shard, struct session *session, struct request *request)
{
    struct run *run = request->work;
    const struct request_command *item = &request->commands[run->at];
    struct core_refusal why;
    struct core_event event;
    struct core_hash key = {0}, body = {0};
    bool has_key = request->batch && item->key.p != NULL && item->bad == NULL;
    char scratch[CORE_MADE_ID_BYTES];

    shard->stats.commands++;
    if (request->batch && run->at != 0)
        buf_add_byte(&request->body, request->refs ? '\n' : ',');
    if (item->bad != NULL)
        return run_refuse(shard, request, item->bad->code, item->bad);
    if (has_key) {
        key = key_hash(request->caller, item->key);
        body = key_body_hash(item, 1, false, false);
        int again = item_again(shard, session, request, item, key, body);
        if (again != 0)
            return again > 0;
    }
    if (item->has_expected && !expected_met(session, item->expected_seq, &why))
        return run_refuse(shard, request, CORE_E_EXPECTED_SEQ, &why);

    enum core_decision decision =
        core_decide(session->core, &item->command, shard->wall_ms, &shard->scratch, &event, &why);
    if (decision == CORE_REFUSED)
        return run_refuse(shard, request, why.code, &why);
    if (decision == CORE_EVENT) {
        if (shard->has_budgets && request->errand == NULL &&
            !budget_allows(shard, session, event.type, run->events.n, &why))
            return run_refuse(shard, request, why.code, &why);
        changes_expect(session, &event);
        if (core_apply(session->core, &event, &why) != 0) {
            run->broken = true;
            run->why = why;
            return false;
        }
        run_note_event(shard, session, run, &event);
    }
    if (has_key)
        item_remember(shard, session, run, key, body, decision == CORE_EVENT ? &event : NULL);
    uint64_t seq = core_session_seq(session->core);
    const struct core_event *made = decision == CORE_EVENT ? &event : NULL;
    if (request->batch) {
        result_ok(request, run->at, seq, made ? core_event_made(made, scratch) : (struct str){0},
                  false);
    } else {
        answer_single(request, seq, made);
        run->single_event = made != NULL;
    }
    return true;
}

/* ---- the whole request */

static void run_undo(struct shard *shard, struct session *session, struct request *request)
{
    struct run *run = request->work;
    core_undo(session->core);
    session->chain = run->chain;
    keys_undo(session, run->keys_n);
    inbox_unmark(session);
    shard->stats.events -= run->events_n;
    if (run->begun)
        session_end(shard, session);
}

/* All or none, and it is none: each result says why. */
static void answer_atomic_refused(struct request *request)
{
    struct run *run = request->work;
    struct core_refusal undone = {0};
    snprintf(undone.detail, sizeof(undone.detail), "command %u of this atomic batch was refused",
             run->at);
    request->body.n = 0;
    buf_add_literal(&request->body, "{\"results\":[");
    for (uint32_t i = 0; i < request->commands_n; i++) {
        if (i != 0)
            buf_add_byte(&request->body, ',');
        if (i == run->at)
            result_problem(request, i, run->refused_error, &run->why);
        else
            result_problem(request, i, REQUEST_E_NOT_APPLIED, &undone);
    }
    buf_add_literal(&request->body, "],\"seq\":");
    buf_add_u64(&request->body, request->seq);
    buf_add_byte(&request->body, '}');
}

static void run_refused(struct shard *shard, struct session *session, struct request *request)
{
    struct run *run = request->work;
    run_undo(shard, session, request);
    request->seq = session->core != NULL ? core_session_seq(session->core) : 0;
    commands_stand(session, request);
    request->error = request->batch ? (unsigned)CORE_E_REFUSED : run->refused_error;
    request->refusal = run->why;
    if (request->batch)
        answer_atomic_refused(request);
    else
        request->body.n = 0;
    run_free(shard, request);
    shard_reply_committed(shard, session, request);
}

/* Nothing of it is kept, whatever came before in the same batch: that was decided by the same
 * state. True: the session is made anew, and busy until then. */
static bool run_broken(struct shard *shard, struct session *session, struct request *request)
{
    struct core_refusal why = ((struct run *)request->work)->why;
    run_undo(shard, session, request);
    run_free(shard, request);
    shard->stats.broken++;
    shard_refuse(shard, session, request, CORE_E_INVARIANT, NULL,
                 "the command could not be carried out, which is a fault of this server: %s",
                 why.detail);
    if (session->core == NULL) /* there was nothing before it */
        return false;
    quarantine_broken(shard, session, why.detail);
    return true;
}

static void run_no_room(struct shard *shard, struct session *session, struct request *request,
                        int result)
{
    run_undo(shard, session, request);
    run_free(shard, request);
    request->body.n = 0;
    request->made = (struct str){0};
    if (result == -EAGAIN) {
        shard_stall(shard, request);
    } else if (result == -EFBIG) {
        shard_refuse(shard, session, request, CORE_E_TOO_LARGE, NULL,
                     "these commands are more than one record of the log can hold");
    } else if (result == -ENOSPC) {
        shard->stats.no_space++;
        shard_set_full(shard, true);
        shard_refuse(shard, session, request, REQUEST_E_NO_SPACE, NULL,
                     "the disk under %s is full: make room there; reading goes on meanwhile",
                     datadir_path(shard->dir));
    } else {
        shard_refuse(shard, session, request, REQUEST_E_UNAVAILABLE, NULL, "the log has failed");
    }
}

static void run_encode_head(struct shard *shard, struct session *session, struct request *request)
{
    struct run *run = request->work;
    uint32_t keys_n = run->keys_n;
    if (request->key.p != NULL) {
        struct key_entry entry = {.key = run->key, .body = run->body};
        entry.ts_ms = event_time(shard, session);
        entry.seq = core_session_seq(session->core);
        entry.flags = request->batch ? KEY_BATCH : run->single_event ? KEY_EVENT : 0;
        if (request->made.p != NULL)
            entry.flags |= KEY_MADE;
        keys_add(shard, session, &entry);
        run->keys_n++;
        record_add_count(&run->head, keys_n + 1);
        record_add_key(&run->head, &entry, buf_str(&request->body));
    } else {
        record_add_count(&run->head, keys_n);
    }
    buf_add_str(&run->head, buf_str(&run->keys));
}

/* Into the log, or back to where we were. */
static void run_finish(struct shard *shard, struct session *session, struct request *request)
{
    struct run *run = request->work;
    commands_stand(session, request);
    if (request->batch && !request->refs) {
        buf_add_literal(&request->body, "],\"seq\":");
        buf_add_u64(&request->body, request->seq);
        buf_add_byte(&request->body, '}');
    }
    if (run->begun && run->events_n == 0) { /* nothing created it after all */
        run_undo(shard, session, request);
        run_free(shard, request);
        shard_reply_committed(shard, session, request);
        return;
    }
    if (run->events_n != 0 || run->keys_n != 0 || request->key.p != NULL) {
        run_encode_head(shard, session, request);
        int result = log_reserve(shard->log, run->head.n + run->events.n);
        if (result != 0) {
            run_no_room(shard, session, request, result);
            return;
        }
        struct log_record record = {
            .type = LOG_RECORD_EVENTS,
            .flags = run->directory ? LOG_RECORD_DIRECTORY : 0,
            .session = session_id(session),
            .epoch = session->epoch,
            .seq = core_session_seq(session->core) + 1 - run->events_n,
            .events = run->events_n,
            .ts_ms = core_session_ts_ms(session->core),
            .previous = session->head,
            .head = buf_str(&run->head),
            .body = buf_str(&run->events),
        };
        shard_append(shard, session, &record, frame_builder_take(&run->frame));
        keys_place(session, run->keys_n, session->head);
    }
    core_keep(session->core);
    if (run->membership_seq != 0)
        session->membership_seq = run->membership_seq;
    if (run->begun)
        commands_expire(shard, session);
    if (run->attended.n != 0 || run->closed)
        attended_follow(shard, session, buf_str(&run->attended));
    if (!LIST_EMPTY(&session->touched_hands))
        hands_settle(shard, session);
    if (session->waiters != NULL)
        inbox_wake_marked(shard, session);
    run_free(shard, request);
    shard_reply_committed(shard, session, request);
    if (snapshot_due(shard, session))
        snapshot_write(shard,
                       session); /* else at the next command: that it had no room is no harm */
}

/* True: all commands have been looked at (or one has refused the whole). */
static bool run_slice(struct shard *shard, struct session *session, struct request *request)
{
    struct run *run = request->work;
    for (; run->at < request->commands_n; run->at++) {
        if (run->at % SLICE_STEPS == SLICE_STEPS - 1 &&
            shard_clock_ns(shard) > shard->slice_until_ns)
            return false;
        bool going_on = run_command(shard, session, request);
        arena_reset(&shard->scratch);
        if (!going_on)
            return true;
    }
    return true;
}

/* Whether If-Match, if there is one, says where the session stands. False: answered. */
static bool stands_as_expected(struct shard *shard, struct session *session,
                               struct request *request)
{
    struct str epoch = {session->epoch_text, strlen(session->epoch_text)};
    if (request->expected_epoch.p == NULL)
        return true;
    commands_stand(session, request);
    if (session->core != NULL && request->seq == request->expected_seq &&
        str_equal(epoch, request->expected_epoch))
        return true;
    request->refusal.seq = request->seq;
    if (session->core == NULL)
        shard_refuse(shard, session, request, CORE_E_EXPECTED_SEQ, "If-Match",
                     "the session does not exist");
    else
        shard_refuse(shard, session, request, CORE_E_EXPECTED_SEQ, "If-Match",
                     "the session stands at \"%s-%llu\"", session->epoch_text,
                     (unsigned long long)request->seq);
    return false;
}

/* Key, expected seq, room: what is looked at before anything is decided. False: answered. */
static bool run_begin(struct shard *shard, struct session *session, struct request *request)
{
    struct core_hash key = {0}, body = {0};
    if (request->key.p != NULL) {
        key = key_hash(request->caller, request->key);
        body =
            key_body_hash(request->commands, request->commands_n, request->batch, request->atomic);
        const struct key_entry *entry = keys_find(session, key, event_time(shard, session));
        if (entry != NULL && (entry->body.low != body.low || entry->body.high != body.high)) {
            shard_refuse(shard, session, request, CORE_E_KEY_REUSED, "Idempotency-Key",
                         "this idempotency key was used with another body");
            return false;
        }
        if (entry != NULL) {
            commands_replay(shard, session, request, entry);
            return false;
        }
    }
    if (!stands_as_expected(shard, session, request))
        return false;
    int room = log_reserve(shard->log, RECORD_HINT_BYTES);
    if (room == -EAGAIN) {
        shard_stall(shard, request);
        return false;
    }
    struct run *run = run_new(shard);
    request->work = run;
    run->key = key;
    run->body = body;
    run->begun = session->core == NULL;
    if (run->begun)
        session_begin(shard, session, 0);
    run->chain = session->chain;
    run->wants = follow_wants(session);
    if (request->batch && !request->refs)
        buf_add_literal(&request->body, "{\"results\":[");
    core_begin(session->core);
    return true;
}

bool commands_create(const struct request *request)
{
    for (uint32_t i = 0; i < request->commands_n; i++) {
        if (request->commands[i].command.type == CORE_SESSION_CREATE)
            return true;
    }
    return false;
}

/* What the shard itself has to say of a life that has ended meanwhile. */
static bool is_of_another_life(const struct session *session, const struct request *request)
{
    return request->errand != NULL && request->pin_epoch != session->epoch;
}

void commands_execute(struct shard *shard, struct session *session, struct request *request)
{
    session->pins++;
    bool going_on = request->work != NULL;
    if (!going_on && !RB_EMPTY(&session->attended))
        attended_hear(shard, session, request); /* also where it is refused */
    if (!going_on && is_of_another_life(session, request)) {
        shard_refuse_unknown(shard, session, request);
    } else if (!going_on && session->core == NULL && !commands_create(request)) {
        shard_refuse_unknown(shard, session, request);
    } else if (!going_on && shard->settings.rate_commands != 0 &&
               !budget_rate_allows(shard, session, request)) {
        /* answered */
    } else if (going_on || run_begin(shard, session, request)) {
        bool all = run_slice(shard, session, request);
        struct run *run = request->work;
        if (!all) {
            session->busy = true;
            shard_go_on(shard, request);
        } else {
            bool anew = false;
            if (run->broken)
                anew = run_broken(shard, session, request);
            else if (run->refused)
                run_refused(shard, session, request);
            else
                run_finish(shard, session, request);
            if (going_on && !anew)
                shard_unbusy(shard, session);
        }
    }
    session->pins--;
    session_drop_if_vacant(shard, session);
}

void commands_expire(struct shard *shard, struct session *session)
{
    uint64_t ttl_s = core_session_ttl_s(session->core);
    if (ttl_s != 0 && !(session->entry->flags & ENTRY_TTL))
        upkeep_expires(shard, session->entry,
                       core_session_ts_ms(session->core) + (int64_t)ttl_s * 1000);
}

/* Appends the end of a session's life, for which log_reserve_tombstone has said yes. */
void commands_end(struct shard *shard, struct session *session)
{
    struct buf *body = &shard->snapshot;
    body->n = 0;
    record_add_end(body, session->first, session->log_bytes);
    struct log_record record = {
        .type = LOG_RECORD_TOMBSTONE,
        .flags = LOG_RECORD_DIRECTORY,
        .session = session_id(session),
        .epoch = session->epoch,
        .seq = core_session_seq(session->core) + 1,
        .ts_ms = event_time(shard, session),
        .previous = session->head,
        .body = buf_str(body),
    };
    log_position last = session->head;
    shard_append(shard, session, &record, NULL);
    struct effect *effect = shard_effect(shard, session->dirty, EFFECT_ENDED);
    effect->session = session;
    effect->epoch = session->epoch;
    session->pins++;
    struct garbage garbage = {.epoch = session->epoch,
                              .first = session->first,
                              .last = last,
                              .bytes = session->log_bytes,
                              .since_ms = shard->wall_ms,
                              .id_size = session->entry->id_size};
    memcpy(garbage.id, session->entry->id, garbage.id_size);
    upkeep_add_garbage(shard, &garbage);
    struct fork *fork = fork_find(shard, session_id(session), session->epoch);
    if (fork != NULL)
        fork->alive = false; /* now, for checkpoints; let go of when it is committed */
    shard->kept_n += fork_is_pinned(shard, session_id(session), session->epoch);
    inbox_wake_all(shard, session);
    session_end(shard, session);
}

void commands_delete(struct shard *shard, struct session *session, struct request *request)
{
    if (session->core == NULL) {
        shard_refuse_unknown(shard, session, request);
        return;
    }
    if (!stands_as_expected(shard, session, request))
        return;
    int room = log_reserve_tombstone(shard->log, RECORD_END_BYTES);
    if (room == -EAGAIN) {
        shard_stall(shard, request);
        return;
    }
    if (room != 0) {
        shard->stats.no_space++;
        shard_refuse(shard, session, request,
                     room == -ENOSPC ? REQUEST_E_NO_SPACE : REQUEST_E_UNAVAILABLE, NULL,
                     "there is no room in the log for the deletion");
        return;
    }
    commands_stand(session, request);
    commands_end(shard, session);
    shard_reply_committed(shard, session, request);
}
