/*
 * changes: which sessions have changed after a position, for those who watch many of them.
 *
 * Positions number the changes of a shard, as long as the process lives. A session has the position
 * of its newest change, and a tree of them says what has changed after any. That costs a writer
 * next to nothing: a session gets a new position only where somebody has looked since it got the
 * last (`observed`), for else nobody can have been told of it yet.
 *
 * A position is given when a record is put into the batch being built. Who asks is shown what is in
 * memory, and is answered when all of that is committed. So the state that is shown, the position
 * and what a crash leaves never differ.
 *
 * A session that has changed and leaves memory, or ends, leaves a note with its position. Of
 * notes there are CHANGES_NOTES_MAX; `horizon` is the newest position of those that were forgotten.
 * Who asks for what lies before it is told to begin anew.
 *
 * Normal path: pages of all sessions (lists.c), from the position where the first one began; then
 * REQUEST_CHANGES with `wait`, one after the other. They are held until something has changed, and
 * looked at together, every CHANGES_PAUSE_MS at most: so one session that changes all the time
 * is told ten times a second, and costs no more when many write.
 *
 * What no longer has the labels that are asked for is told (`unmatched`) if it had them: a session
 * in memory keeps a signature of all that its labels have been.
 */
#include "shards/shard.h"

#include <stdio.h>
#include <stdlib.h>

static int change_order(const struct change *a, const struct change *b)
{
    return (a->position > b->position) - (a->position < b->position);
}

static struct str note_id(const struct change_note *note)
{
    return (struct str){note->id, note->id_size};
}

static int note_order(const struct change_note *a, const struct change_note *b)
{
    return str_compare(note_id(a), note_id(b));
}

RB_GENERATE(change_tree, change, by_position, change_order)
RB_GENERATE(change_notes, change_note, by_id, note_order)

static struct session *session_of(struct change *change)
{
    return (struct session *)((char *)change - offsetof(struct session, change));
}

static struct change_note *note_of(struct change *change)
{
    return (struct change_note *)((char *)change - offsetof(struct change_note, change));
}

/* ---- taking note */

static void changes_place(struct changes *changes, struct change *change)
{
    if (change->position != 0)
        RB_REMOVE(change_tree, &changes->tree, change);
    change->position = ++changes->last;
    RB_INSERT(change_tree, &changes->tree, change);
    changes->stirred = true;
}

void changes_note(struct shard *shard, struct session *session)
{
    struct changes *changes = &shard->changes;
    struct change *change = &session->change;
    if (change->position <= changes->observed)
        changes_place(changes, change);
    if (change->relabels)
        change->relabelled = change->position;
    change->relabels = false;
}

void changes_expect(struct session *session, const struct core_event *event)
{
    if (event->type != CORE_SESSION_UPDATE || !(event->f.given >> CORE_FIELD_LABELS & 1))
        return;
    session->change.labels |= signature_of(core_session_labels(session->core));
    session->change.relabels = true;
}

/* A key to look for: room for an id behind it. */
struct note_key {
    _Alignas(struct change_note) char room[sizeof(struct change_note) + CORE_ID_BYTES];
};

static struct change_note *note_find(struct shard *shard, struct str id)
{
    struct note_key key;
    struct change_note *note = (struct change_note *)key.room;
    note->id_size = (uint8_t)id.n;
    memcpy(note->id, id.p, id.n);
    return RB_FIND(change_notes, &shard->changes.notes, note);
}

static void note_remove(struct changes *changes, struct change_note *note)
{
    RB_REMOVE(change_tree, &changes->tree, &note->change);
    RB_REMOVE(change_notes, &changes->notes, note);
    TAILQ_REMOVE(&changes->notes_by_age, note, by_age);
    changes->notes_n--;
    free(note);
}

static void notes_forget_oldest(struct changes *changes)
{
    struct change_note *oldest = TAILQ_FIRST(&changes->notes_by_age);
    if (oldest->change.position > changes->horizon)
        changes->horizon = oldest->change.position;
    note_remove(changes, oldest);
}

/* Takes the place of an earlier note of the same id, of a life that has ended: for those who were
 * not told of that, it is as if the session had changed its labels then. */
static void note_replace(struct changes *changes, struct session *session, struct change_note *note)
{
    assert(note->ended);
    session->change.labels |= note->change.labels;
    if (session->change.relabelled < note->change.position)
        session->change.relabelled = note->change.position;
    note_remove(changes, note);
}

/* A note in the session's place. */
static struct change_note *note_make(struct shard *shard, struct session *session)
{
    struct changes *changes = &shard->changes;
    struct str id = session_id(session);
    struct change_note *note = note_find(shard, id);
    if (note != NULL)
        note_replace(changes, session, note);
    else if (changes->notes_n == CHANGES_NOTES_MAX)
        notes_forget_oldest(changes);
    if (session->change.position != 0)
        RB_REMOVE(change_tree, &changes->tree, &session->change);
    note = mem_alloc(sizeof(*note) + id.n);
    *note = (struct change_note){.change = session->change, .epoch = session->epoch};
    note->change.of_note = true;
    note->id_size = (uint8_t)id.n;
    memcpy(note->id, id.p, id.n);
    session->change = (struct change){0};
    RB_INSERT(change_notes, &changes->notes, note);
    TAILQ_INSERT_TAIL(&changes->notes_by_age, note, by_age);
    changes->notes_n++;
    return note;
}

void changes_end(struct shard *shard, struct session *session)
{
    uint64_t labels = signature_of(core_session_labels(session->core));
    struct change_note *note = note_make(shard, session);
    note->ended = true;
    note->seq = core_session_seq(session->core);
    note->change.labels |= labels;
    note->change.position = 0;
    changes_place(&shard->changes, &note->change);
}

void changes_depart(struct shard *shard, struct session *session)
{
    if (session->change.position == 0)
        return;
    struct change_note *note = note_make(shard, session);
    RB_INSERT(change_tree, &shard->changes.tree, &note->change);
}

void changes_return(struct shard *shard, struct session *session)
{
    struct change_note *note = note_find(shard, session_id(session));
    if (note == NULL || note->ended)
        return;
    struct change change = note->change;
    note_remove(&shard->changes, note);
    change.of_note = false;
    session->change = change;
    RB_INSERT(change_tree, &shard->changes.tree, &session->change);
}

bool changes_none_since(const struct shard *shard, const struct session *session, uint64_t position)
{
    return position >= shard->changes.horizon && position <= shard->changes.last &&
           session->change.position <= position;
}

void changes_free(struct shard *shard)
{
    struct change_note *note;
    while ((note = TAILQ_FIRST(&shard->changes.notes_by_age)) != NULL)
        note_remove(&shard->changes, note);
}

/* ---- what is told */

static void add_change(struct request *request, enum request_change_kind kind, struct str session,
                       struct str epoch, size_t offset)
{
    if (request->changes_n == request->changes_cap) {
        uint32_t cap = request->changes_cap != 0 ? request->changes_cap * 2 : 16;
        struct request_change *grown = arena_alloc(&request->arena, cap * sizeof(*grown));
        if (request->changes_n != 0)
            memcpy(grown, request->changes, request->changes_n * sizeof(*grown));
        request->changes = grown;
        request->changes_cap = cap;
    }
    request->changes[request->changes_n++] = (struct request_change){
        .session = arena_copy(&request->arena, session),
        .epoch = arena_copy(&request->arena, epoch),
        .offset = offset,
        .size = request->body.n - offset,
        .kind = kind,
    };
}

void changes_add_summary(struct request *request, const struct core_session *core)
{
    struct core_counts counts = core_session_counts(core);
    struct buf *out = &request->body;
    size_t offset = out->n;
    buf_add_literal(out, "{\"session\":");
    json_add_string(out, core_session_id(core));
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, core_session_epoch(core));
    buf_add_literal(out, ",\"status\":");
    json_add_string(out, core_session_closed(core) ? STR("closed") : STR("open"));
    buf_add_literal(out, ",\"labels\":");
    json_add_labels(out, core_session_labels(core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, core_session_seq(core));
    buf_add_literal(out, ",\"ts\":");
    json_add_time(out, core_session_ts_ms(core));
    buf_add_literal(out, ",\"created_at\":");
    json_add_time(out, core_session_created_ms(core));
    buf_add_literal(out, ",\"agents\":");
    buf_add_u64(out, counts.agents);
    buf_add_literal(out, ",\"threads\":");
    buf_add_u64(out, counts.threads);
    buf_add_literal(out, ",\"messages\":");
    buf_add_u64(out, counts.messages);
    buf_add_byte(out, '}');
    add_change(request, CHANGE_SUMMARY, core_session_id(core), core_session_epoch(core), offset);
}

static void add_end(struct request *request, enum request_change_kind kind, struct str session,
                    const char *epoch, uint64_t seq)
{
    struct str epoch_text = {epoch, strlen(epoch)};
    struct buf *out = &request->body;
    size_t offset = out->n;
    buf_add_literal(out, "{\"session\":");
    json_add_string(out, session);
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, epoch_text);
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, seq);
    buf_add_literal(out, ",\"reason\":");
    json_add_string(out, kind == CHANGE_DELETED ? STR("deleted") : STR("unmatched"));
    buf_add_byte(out, '}');
    add_change(request, kind, session, epoch_text, offset);
}

/* ---- looking */

enum change_step { CHANGE_NEXT, CHANGE_WAIT, CHANGE_READ, CHANGE_FULL };

static bool is_wanted(const struct request *request, struct str id)
{
    uint32_t from = 0, to = request->ids_n;
    if (!list_may_see(request, id))
        return false;
    if (to == 0)
        return true;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        int order = str_compare(request->ids[middle], id);
        if (order == 0)
            return true;
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return false;
}

static bool had_labels(const struct change *change, const struct request *request)
{
    uint64_t signature = list_signature(request);
    return (change->labels & signature) == signature;
}

/* A session as it stands; `change` says what is known of its labels before, NULL: nothing. */
static void show_session(struct shard *shard, struct request *request,
                         const struct core_session *core, uint64_t epoch,
                         const struct change *change)
{
    char text[CORE_EPOCH_BYTES + 1];
    if (list_matches(core, request)) {
        changes_add_summary(request, core);
    } else if (change != NULL && change->relabelled > request->after &&
               had_labels(change, request)) {
        session_epoch_text(shard, epoch, text);
        add_end(request, CHANGE_UNMATCHED, core_session_id(core), text, core_session_seq(core));
    }
}

static enum change_step look_at_session(struct shard *shard, struct request *request,
                                        struct change *change)
{
    const struct session *session = session_of(change);
    if (!is_wanted(request, session_id(session)))
        return CHANGE_NEXT;
    if (session->busy)
        return CHANGE_WAIT; /* half of a batch is nothing to show */
    show_session(shard, request, session->core, session->epoch, change);
    return CHANGE_NEXT;
}

static enum change_step look_at_note(struct shard *shard, struct request *request,
                                     const struct change_note *note)
{
    char text[CORE_EPOCH_BYTES + 1];
    if (!is_wanted(request, note_id(note)))
        return CHANGE_NEXT;
    if (note->ended) {
        session_epoch_text(shard, note->epoch, text);
        if (had_labels(&note->change, request))
            add_end(request, CHANGE_DELETED, note_id(note), text, note->seq);
        return CHANGE_NEXT;
    }
    const struct entry *entry = entry_find(shard, note_id(note));
    assert(entry != NULL);
    if (entry->flags & ENTRY_QUARANTINED)
        return CHANGE_NEXT;
    if (entry->flags & ENTRY_ACTIVE)
        return CHANGE_WAIT; /* it is being loaded */
    return CHANGE_READ;
}

/* What comes first after a position. */
static struct change *change_after(struct shard *shard, uint64_t position)
{
    struct change key = {.position = position + 1};
    return RB_NFIND(change_tree, &shard->changes.tree, &key);
}

/* A cancellation is good for one question. */
static bool take_cancelled(struct changes *changes, const struct request *request)
{
    for (unsigned i = 0; i < CHANGES_CANCELLED; i++) {
        if (changes->cancelled[i].token != request->token ||
            changes->cancelled[i].frontend != request->frontend)
            continue;
        changes->cancelled[i].token = 0;
        return true;
    }
    return false;
}

static void changes_hold(struct shard *shard, struct request *request)
{
    struct changes *changes = &shard->changes;
    if (take_cancelled(changes, request)) {
        list_reply(shard, request);
        return;
    }
    bool news = request->position < changes->last;
    changes->stirred = news || (changes->stirred && changes->waiting != NULL);
    request->next = changes->waiting;
    changes->waiting = request;
}

static void changes_read_done(struct past *past, int error)
{
    struct shard *shard = past->shard;
    struct request *request = past->request;
    if (list_read_same(past, error)) {
        const struct entry *entry = entry_find(shard, request->made);
        const struct change_note *note = note_find(shard, request->made);
        const struct change *change = NULL;
        if (note != NULL) /* also while it is being loaded */
            change = &note->change;
        else if (entry->flags & ENTRY_ACTIVE)
            change = &entry->u.session->change;
        if (error == 0)
            show_session(shard, request, past->core, past->epoch, change);
        request->position = request->upto;
    }
    past_free(past);
    shard_go_on(shard, request); /* what was not the same is looked at again */
}

static void changes_stale(struct shard *shard, struct request *request, const char *why)
{
    request->stale = why;
    request->changes_n = 0;
    request->body.n = 0;
    request->more = false;
    shard_reply(shard, request);
}

static void changes_look(struct shard *shard, struct request *request)
{
    struct changes *changes = &shard->changes;
    enum change_step step = CHANGE_NEXT;
    struct change *change;
    changes->observed = changes->last;
    if (request->position < changes->horizon) {
        changes_stale(shard, request, "too much has changed since");
        return;
    }
    for (unsigned steps = 0; (change = change_after(shard, request->position)) != NULL;) {
        if (request->body.n >= CHANGES_BYTES)
            step = CHANGE_FULL;
        else if (++steps > LIST_STEPS)
            step = CHANGE_WAIT;
        else if (change->of_note)
            step = look_at_note(shard, request, note_of(change));
        else
            step = look_at_session(shard, request, change);
        if (step != CHANGE_NEXT)
            break;
        request->position = change->position;
    }
    if (step == CHANGE_READ) {
        const struct change_note *note = note_of(change);
        request->upto = change->position;
        list_read(shard, entry_find(shard, note_id(note)), request, changes_read_done);
        return;
    }
    if (step == CHANGE_WAIT) {
        shard_go_on(shard, request);
        return;
    }
    request->more = step == CHANGE_FULL;
    if (!request->more)
        request->position = changes->last;
    if (request->wait && request->changes_n == 0) {
        request->after = request->position;
        changes_hold(shard, request);
    } else {
        list_reply(shard, request);
    }
}

/* ---- requests */

void changes_begin(struct shard *shard, struct request *request)
{
    struct changes *changes = &shard->changes;
    request->position = request->has_after ? request->after : changes->last;
    if (request->position > changes->last) {
        changes_stale(shard, request, "a position that was not reached");
    } else if (request->position < changes->horizon) {
        changes_stale(shard, request, "too much has changed since");
    } else if (request->pages) {
        request->position = changes->observed = changes->last;
        query_list(shard, request);
    } else if (request->wait) {
        changes_hold(shard, request);
    } else {
        changes_look(shard, request);
    }
}

void changes_go_on(struct shard *shard, struct request *request)
{
    if (request->pages)
        query_list(shard, request);
    else
        changes_look(shard, request);
}

void changes_cancel(struct shard *shard, struct request *request)
{
    struct changes *changes = &shard->changes;
    struct request **lists[] = {&changes->waiting, &changes->woken};
    bool any = false;
    for (unsigned i = 0; i < 2; i++) {
        struct request **at = lists[i];
        while (*at != NULL &&
               ((*at)->frontend != request->frontend || (*at)->token != request->token))
            at = &(*at)->next;
        struct request *found = *at;
        if (found == NULL)
            continue;
        *at = found->next;
        shard_reply(shard, found);
        any = true;
    }
    if (!any) {
        unsigned i = changes->cancelled_next++ % CHANGES_CANCELLED;
        changes->cancelled[i].frontend = request->frontend;
        changes->cancelled[i].token = request->token;
    }
    shard_reply(shard, request);
}

static struct request *take(struct request **list)
{
    struct request *request = *list;
    if (request != NULL)
        *list = request->next;
    return request;
}

static void refuse_all(struct shard *shard, struct request **list)
{
    struct request *request;
    while ((request = take(list)) != NULL)
        shard_refuse(shard, NULL, request, REQUEST_E_UNAVAILABLE, NULL, "%s", *shard->failed);
}

bool changes_turn(struct shard *shard)
{
    struct changes *changes = &shard->changes;
    struct request *request;
    if (*shard->failed != NULL) {
        refuse_all(shard, &changes->waiting);
        refuse_all(shard, &changes->woken);
        return false;
    }
    if (changes->stirred && changes->woken == NULL && changes->waiting != NULL &&
        shard->now_ms >= changes->due_ms) {
        changes->woken = changes->waiting;
        changes->waiting = NULL;
        changes->stirred = false;
        changes->due_ms = shard->now_ms + CHANGES_PAUSE_MS;
    }
    while ((request = take(&changes->woken)) != NULL) {
        changes_look(shard, request);
        if (shard_clock_ns(shard) > shard->slice_until_ns)
            break;
    }
    return changes->woken != NULL;
}

int changes_tick(const struct shard *shard)
{
    const struct changes *changes = &shard->changes;
    if (changes->woken != NULL)
        return 0;
    if (changes->waiting == NULL || !changes->stirred)
        return -1;
    int64_t wait_ms = changes->due_ms - shard->now_ms;
    return wait_ms > 0 ? (int)wait_ms : 0;
}
