/*
 * Threads: conversations, and who takes part in them.
 *
 * Snapshot part: varint count, then for each thread in the order of creation: text id, text name,
 * text creator, varint created_seq, bool closed, nullable summary.
 */
#include "core/internal.h"

struct thread *thread_find(const struct core_session *s, struct str id)
{
    return table_find_id(s, &s->threads, id);
}

struct thread *thread_find_created(const struct core_session *s, uint64_t created_seq)
{
    uint32_t low = 0;
    uint32_t high = s->threads.used;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct thread *t = s->threads.entries[middle].object;
        if (t->created_seq == created_seq)
            return t;
        if (t->created_seq < created_seq)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

struct participant *participant_find(const struct thread *t, const struct agent *a)
{
    return t == NULL || a == NULL ? NULL : table_find(&t->participants, a->hash, a->id);
}

/* ---- decide */

static enum core_decision refuse_id(const struct deciding *d, struct str id)
{
    if (core_thread_id_reserved(id))
        return refuse(d, CORE_E_MALFORMED, "thread",
                      "Ids of \"t\" and digits are made by the server: choose another one.");
    return refuse(d, CORE_E_MALFORMED, "thread", "A thread's id must match " CORE_ID_RULE ".");
}

static enum core_decision refuse_full(const struct deciding *d, const char *field, uint32_t count)
{
    return refuse(d, CORE_E_REFUSED, field, "A thread has at most %u participants, not %u.",
                  limit_of(d->s, CORE_LIMIT_PARTICIPANTS), count);
}

/* The creator first, then the others, each once. False: refused. */
static bool fold_participants(const struct deciding *d, struct core_ids *folded)
{
    const struct table *agents = &d->s->agents;
    const struct core_fields *wish = &d->command->f;
    uint8_t *seen = seen_begin(agents, d->scratch);
    folded->n = 0;
    folded->items = arena_alloc(d->scratch, (wish->participants.n + 1) * sizeof(struct str));
    for (uint32_t i = 0; i <= wish->participants.n; i++) {
        struct str id = i == 0 ? wish->creator : wish->participants.items[i - 1];
        int64_t slot = table_slot(agents, table_hash(d->s, id), id);
        if (slot == TABLE_NONE) {
            refuse_unknown_agent(d, i == 0 ? "creator" : "participants", id);
            return false;
        }
        if (!seen_before(seen, slot))
            folded->items[folded->n++] = id;
    }
    return true;
}

static enum core_decision decide_create(const struct deciding *d)
{
    const struct core_session *s = d->s;
    const struct core_fields *wish = &d->command->f;
    bool named = given(wish, CORE_FIELD_THREAD);
    if (named && (core_thread_id_reserved(wish->thread) || !core_id_valid(wish->thread)))
        return refuse_id(d, wish->thread);
    struct core_ids folded;
    if (!fold_participants(d, &folded))
        return CORE_REFUSED;
    if (named && thread_find(s, wish->thread) != NULL)
        return refuse(d, CORE_E_REFUSED, "thread", "There is already a thread \"%.*s\".",
                      ID_PRINTF(wish->thread));
    if (s->threads.live >= limit_of(s, CORE_LIMIT_THREADS))
        return refuse(d, CORE_E_REFUSED, NULL, "The session has its %u threads already.",
                      s->threads.live);
    if (folded.n > limit_of(s, CORE_LIMIT_PARTICIPANTS))
        return refuse_full(d, "participants", folded.n);
    struct core_fields *f = event_from_command(d);
    f->participants = folded;
    if (!named) {
        f->given |= GIVEN(THREAD);
        f->thread = made_id(d->scratch, 't', d->event->seq);
    }
    return CORE_EVENT;
}

/* The command's thread; NULL: refused. */
static const struct thread *find_thread(const struct deciding *d)
{
    const struct thread *t = thread_find(d->s, d->command->f.thread);
    if (t == NULL)
        refuse_unknown_thread(d);
    return t;
}

/* The agent in one of the command's fields; NULL: refused. */
static const struct agent *find_agent(const struct deciding *d, const char *field, struct str id)
{
    const struct agent *a = agent_find(d->s, id);
    if (a == NULL)
        refuse_unknown_agent(d, field, id);
    return a;
}

/* The agent that a participant of an open thread wants in or out; NULL: refused. */
static const struct agent *find_moved(const struct deciding *d, const struct thread *t)
{
    const struct agent *agent = find_agent(d, "agent", d->command->f.agent);
    const struct agent *by = agent == NULL ? NULL : find_agent(d, "by", d->command->f.by);
    if (by == NULL)
        return NULL;
    if (!t->closed && participant_find(t, by) != NULL)
        return agent;
    if (t->closed)
        refuse_closed_thread(d);
    else
        refuse_outsider(d, "by", by->id);
    return NULL;
}

static enum core_decision decide_add(const struct deciding *d)
{
    const struct thread *t = find_thread(d);
    const struct agent *agent = t == NULL ? NULL : find_moved(d, t);
    if (agent == NULL)
        return CORE_REFUSED;
    if (participant_find(t, agent) != NULL)
        return CORE_NOTHING;
    if (t->participants.live >= limit_of(d->s, CORE_LIMIT_PARTICIPANTS))
        return refuse_full(d, "agent", t->participants.live + 1);
    struct core_fields *f = event_from_command(d);
    f->given |= GIVEN(READ);
    f->read = f->history ? t->created_seq : d->event->seq;
    return CORE_EVENT;
}

static enum core_decision decide_remove(const struct deciding *d)
{
    const struct thread *t = find_thread(d);
    const struct agent *agent = t == NULL ? NULL : find_moved(d, t);
    if (agent == NULL)
        return CORE_REFUSED;
    if (participant_find(t, agent) == NULL)
        return CORE_NOTHING;
    event_from_command(d);
    return CORE_EVENT;
}

static enum core_decision decide_close(const struct deciding *d)
{
    const struct thread *t = find_thread(d);
    const struct agent *by = t == NULL ? NULL : find_agent(d, "by", d->command->f.by);
    if (by == NULL)
        return CORE_REFUSED;
    if (t->closed && str_equal(t->summary, d->command->f.summary))
        return CORE_NOTHING;
    if (t->closed)
        return refuse(d, CORE_E_REFUSED, "thread",
                      "The thread \"%.*s\" is already closed, with another summary.",
                      ID_PRINTF(t->id));
    if (participant_find(t, by) == NULL)
        return refuse_outsider(d, "by", by->id);
    struct core_fields *f = event_from_command(d);
    f->given |= GIVEN(OLDER);
    f->older = t->window.older + t->window.count;
    return CORE_EVENT;
}

static enum core_decision decide(const struct deciding *d)
{
    switch (d->command->type) {
    case CORE_THREAD_CREATE:
        return decide_create(d);
    case CORE_THREAD_ADD:
        return decide_add(d);
    case CORE_THREAD_REMOVE:
        return decide_remove(d);
    default:
        assert(d->command->type == CORE_THREAD_CLOSE);
        return decide_close(d);
    }
}

/* ---- apply */

static size_t thread_size(const struct thread *t)
{
    return sizeof(*t) + t->id.n + t->name.n + t->creator.n;
}

static struct thread *thread_new(struct core_session *s, struct str id, struct str name,
                                 struct str creator, uint64_t created_seq)
{
    struct thread head = {.hash = table_hash(s, id), .created_seq = created_seq};
    head.id.n = id.n;
    head.name.n = name.n;
    head.creator.n = creator.n;
    struct thread *t = state_alloc(s, thread_size(&head));
    char *at = (char *)(t + 1);
    head.id.p = memcpy(at, id.p, id.n);
    head.creator.p = memcpy(at + id.n, creator.p, creator.n);
    head.name.p = memcpy(at + id.n + creator.n, name.p, name.n);
    *t = head;
    table_add(s, &s->threads, t->hash, t);
    return t;
}

struct participant *thread_join(struct core_session *s, struct thread *t, struct agent *a,
                                uint64_t read, uint64_t joined)
{
    struct participant *p = state_alloc(s, sizeof(*p));
    *p = (struct participant){.id = a->id, .agent = a, .thread = t, .read = read, .joined = joined};
    table_add(s, &t->participants, a->hash, p);
    agent_joins(s, p);
    return p;
}

void thread_part(struct core_session *s, struct participant *p)
{
    struct table *participants = &p->thread->participants;
    table_remove(s, participants, table_slot(participants, p->agent->hash, p->id));
    agent_parts(s, p);
    reading_free(s, p);
    state_free(s, p, sizeof(*p));
}

static int apply_created(struct core_session *s, const struct core_event *event,
                         struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    if (!core_id_valid(f->thread) || !core_id_valid(f->creator) || f->name.p == NULL)
        return broken(why, "the thread's id or name cannot be");
    if (thread_find(s, f->thread) != NULL)
        return broken(why, "the thread is there already");
    struct thread *t = thread_new(s, f->thread, f->name, f->creator, event->seq);
    for (uint32_t i = 0; i < f->participants.n; i++) {
        struct agent *a = agent_find(s, f->participants.items[i]);
        if (a == NULL || participant_find(t, a) != NULL)
            return broken(why, "a participant is unknown or named twice");
        thread_join(s, t, a, event->seq, event->seq);
    }
    return 0;
}

static int apply_change(struct core_session *s, struct thread *t, const struct core_event *event,
                        struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    struct agent *a = agent_find(s, f->agent);
    struct participant *p = participant_find(t, a);
    if (a == NULL || (p == NULL) != (event->type == CORE_THREAD_ADD))
        return broken(why, "the agent is unknown, or already in or out of the thread");
    if (event->type == CORE_THREAD_ADD)
        thread_join(s, t, a, f->read, event->seq);
    else
        thread_part(s, p);
    return 0;
}

static int apply(struct core_session *s, const struct core_event *event, struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    if (event->type == CORE_THREAD_CREATE)
        return apply_created(s, event, why);
    struct thread *t = thread_find(s, f->thread);
    if (t == NULL || t->closed)
        return broken(why, "the thread is unknown or closed");
    if (event->type != CORE_THREAD_CLOSE)
        return apply_change(s, t, event, why);
    if (f->older != t->window.older + t->window.count)
        return broken(why, "the count of older messages is wrong");
    state_set(s, t->closed, true);
    state_set_text(s, &t->summary, f->summary);
    messages_close(s, t);
    return 0;
}

static int check(const struct core_session *s, const struct core_event *event,
                 struct core_refusal *why)
{
    const struct thread *t = thread_find(s, event->f.thread);
    if (t == NULL || t->closed != (event->type == CORE_THREAD_CLOSE))
        return broken(why, "the thread is not as its event leaves it");
    if (t->participants.live > t->participants.used || t->created_seq > s->now.seq)
        return broken(why, "the count of participants or the thread's beginning is wrong");
    if (event->type != CORE_THREAD_ADD && event->type != CORE_THREAD_REMOVE)
        return 0;
    const struct participant *p = participant_find(t, agent_find(s, event->f.agent));
    if ((p != NULL) != (event->type == CORE_THREAD_ADD))
        return broken(why, "the participant is not where its event leaves it");
    if (p != NULL && (p->read < t->created_seq || p->read > s->now.seq))
        return broken(why, "a participant has read what was never written");
    return 0;
}

/* ---- patch, diff and view */

static struct str status_of(const struct thread *t)
{
    return t->closed ? STR("closed") : STR("open");
}

static void json_head(struct buf *out, const struct thread *t)
{
    buf_add_literal(out, "\"name\":");
    json_add_string(out, t->name);
    buf_add_literal(out, ",\"creator\":");
    json_add_id(out, t->creator);
    buf_add_literal(out, ",\"status\":");
    json_add_id(out, status_of(t));
    buf_add_literal(out, ",\"summary\":");
    json_add_string(out, t->summary);
}

void thread_view(const struct thread *t, enum message_form form, struct buf *out)
{
    json_head(out, t);
    reading_view(t, out);
    messages_view(t, form, out);
}

bool core_view_thread(const struct core_session *s, struct str thread, struct buf *out)
{
    const struct thread *t = thread_find(s, thread);
    if (t == NULL)
        return false;
    buf_add_literal(out, "{\"id\":");
    json_add_id(out, t->id);
    buf_add_byte(out, ',');
    thread_view(t, MESSAGE_FULL, out);
    buf_add_byte(out, '}');
    return true;
}

static void view(const struct viewing *v)
{
    struct buf *out = v->out;
    buf_add_literal(out, ",\"threads\":{");
    const struct thread *t;
    for (uint32_t at = 0; (t = table_next(&v->s->threads, &at)) != NULL;) {
        if (!parts_show(v->parts, STR("threads"), t->id))
            continue;
        json_add_member_id(out, t->id);
        buf_add_byte(out, '{');
        thread_view(t, v->form, out);
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, '}');
}

static void patch_thread(struct buf *out, const char *op, struct str thread, struct str rest)
{
    patch_begin(out, op);
    buf_add_literal(out, "/threads/");
    buf_add_str(out, thread);
    buf_add_str(out, rest);
}

static void patch_created(const struct core_event *event, struct buf *out)
{
    const struct core_fields *f = &event->f;
    patch_thread(out, "add", f->thread, STR(""));
    patch_value(out);
    buf_add_byte(out, '{');
    json_head(out, &(struct thread){.name = f->name, .creator = f->creator});
    buf_add_literal(out, ",\"participants\":{");
    for (uint32_t i = 0; i < f->participants.n; i++) {
        json_add_member_id(out, f->participants.items[i]);
        json_add_reading(out, event->seq, NULL, 0);
    }
    buf_add_literal(out, "},\"older\":0,\"messages\":[]}");
    patch_end(out);
}

static void patch_closed(const struct core_fields *f, struct buf *out)
{
    patch_thread(out, "replace", f->thread, STR("/status\",\"value\":\"closed\"}"));
    patch_thread(out, "replace", f->thread, STR("/summary"));
    patch_value(out);
    json_add_string(out, f->summary);
    patch_end(out);
    patch_thread(out, "replace", f->thread, STR("/older"));
    patch_value(out);
    buf_add_u64(out, f->older);
    patch_end(out);
    patch_thread(out, "replace", f->thread, STR("/messages\",\"value\":[]}"));
}

static void patch(const struct core_event *event, struct buf *out)
{
    const struct core_fields *f = &event->f;
    switch (event->type) {
    case CORE_THREAD_CREATE:
        patch_created(event, out);
        break;
    case CORE_THREAD_ADD:
        patch_thread(out, "add", f->thread, STR("/participants/"));
        buf_add_str(out, f->agent);
        patch_value(out);
        json_add_reading(out, f->read, NULL, 0);
        patch_end(out);
        break;
    case CORE_THREAD_REMOVE:
        patch_thread(out, "remove", f->thread, STR("/participants/"));
        buf_add_str(out, f->agent);
        patch_end_path(out);
        break;
    default:
        assert(event->type == CORE_THREAD_CLOSE);
        patch_closed(f, out);
    }
}

static void diff_thread(const struct diffing *d, const struct thread *from, const struct thread *to)
{
    struct str parent = STR("/threads/");
    struct str id = to->id;
    patch_changed_text(d->out, parent, id, STR("/name"), from->name, to->name);
    patch_changed_text(d->out, parent, id, STR("/creator"), from->creator, to->creator);
    patch_changed_text(d->out, parent, id, STR("/status"), status_of(from), status_of(to));
    patch_changed_text(d->out, parent, id, STR("/summary"), from->summary, to->summary);
    reading_diff(d, from, to);
    messages_diff(d, from, to);
}

static void diff(const struct diffing *d)
{
    const struct thread *t;
    for (uint32_t at = 0; (t = table_next(&d->from->threads, &at)) != NULL;) {
        if (thread_find(d->to, t->id) == NULL) {
            patch_thread(d->out, "remove", t->id, STR(""));
            patch_end_path(d->out);
        }
    }
    for (uint32_t at = 0; (t = table_next(&d->to->threads, &at)) != NULL;) {
        const struct thread *old = thread_find(d->from, t->id);
        if (old != NULL) {
            diff_thread(d, old, t);
            continue;
        }
        patch_thread(d->out, "add", t->id, STR(""));
        patch_value(d->out);
        buf_add_byte(d->out, '{');
        thread_view(t, MESSAGE_FULL, d->out);
        buf_add_byte(d->out, '}');
        patch_end(d->out);
    }
}

/* ---- bytes */

static void encode(const struct core_session *s, struct buf *out)
{
    put_varint(out, s->threads.live);
    const struct thread *t;
    for (uint32_t at = 0; (t = table_next(&s->threads, &at)) != NULL;) {
        put_text(out, t->id);
        put_text(out, t->name);
        put_text(out, t->creator);
        put_varint(out, t->created_seq);
        put_varint(out, t->closed);
        put_nullable_text(out, t->summary);
    }
}

static void decode(struct core_session *s, struct reader *in, struct arena *scratch)
{
    (void)scratch;
    uint64_t last_seq = 0;
    for (uint32_t left = get_count(in); left != 0 && !in->failed; left--) {
        struct str id = get_id(in);
        struct str name = get_text(in);
        struct str creator = get_id(in);
        uint64_t created_seq = get_seq(in);
        if (created_seq <= last_seq || created_seq > s->now.seq || thread_find(s, id) != NULL)
            in->failed = true;
        if (in->failed)
            return;
        struct thread *t = thread_new(s, id, name, creator, created_seq);
        t->closed = get_bool(in);
        state_set_text(s, &t->summary, get_nullable_text(in));
        last_seq = created_seq;
    }
}

static void thread_free(struct core_session *s, struct thread *t)
{
    struct participant *p;
    for (uint32_t at = 0; (p = table_next(&t->participants, &at)) != NULL;) {
        reading_free(s, p);
        state_free(s, p, sizeof(*p));
    }
    table_free(s, &t->participants);
    messages_free(s, t);
    state_free_text(s, t->summary);
    state_free(s, t, thread_size(t));
}

static void release(struct core_session *s)
{
    struct thread *t;
    for (uint32_t at = 0; (t = table_next(&s->threads, &at)) != NULL;)
        thread_free(s, t);
    table_free(s, &s->threads);
}

const struct slice threads_slice = {
    .name = "threads",
    .decide = decide,
    .apply = apply,
    .check = check,
    .patch = patch,
    .diff = diff,
    .view = view,
    .encode = encode,
    .decode = decode,
    .release = release,
};
