/*
 * Reading: what each participant has read of its threads.
 *
 * All messages up to `read` are read; above it only those in `taken`, acknowledged one by one, and
 * the participant's own. Where no unread message can have left the window, `read` is moved over
 * what is read anyway, so that `taken` stays short.
 *
 * Snapshot part: for each thread in order: varint count, then for each participant in the order of
 * joining: text agent id, varint joined, varint read, seqs taken.
 */
#include "core/internal.h"

bool participant_has_taken(const struct participant *p, uint64_t seq)
{
    uint32_t low = 0;
    uint32_t high = p->taken_n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->taken[middle] == seq)
            return true;
        if (p->taken[middle] < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* ---- decide */

static void drop_read(struct core_reading *r)
{
    while (r->taken_n != 0 && r->taken[0] <= r->read) {
        r->taken++;
        r->taken_n--;
    }
}

/*
 * Moves r->read over the messages that are taken or the participant's own while the next one is
 * such. Only where every message after r->read is in the window: of others it is not known here
 * who sent them, nor which of them there are.
 */
static void normalise(const struct participant *p, struct core_reading *r)
{
    const struct window *w = &p->thread->window;
    drop_read(r);
    if (r->read < w->evicted_seq)
        return;
    for (uint32_t i = window_after(w, r->read); i < w->count; i++) {
        const struct message *m = window_at(w, i);
        bool taken = r->taken_n != 0 && r->taken[0] == m->seq;
        if (!taken && !str_equal(m->sender, p->id))
            return;
        r->read = m->seq;
        drop_read(r);
    }
}

/* What p has read so far, in memory of its own: the event outlives what apply replaces. */
static struct core_reading reading_so_far(const struct participant *p, struct arena *scratch)
{
    struct core_reading r = {.thread = p->thread->id, .read = p->read, .taken_n = p->taken_n};
    r.taken = arena_alloc(scratch, p->taken_n * sizeof(*r.taken));
    if (p->taken_n != 0)
        memcpy(r.taken, p->taken, p->taken_n * sizeof(*r.taken));
    return r;
}

static enum core_decision decide_read(const struct deciding *d)
{
    const struct core_fields *wish = &d->command->f;
    const struct thread *t = thread_find(d->s, wish->thread);
    if (t == NULL)
        return refuse_unknown_thread(d);
    const struct agent *a = agent_find(d->s, wish->agent);
    if (a == NULL)
        return refuse_unknown_agent(d, "agent", wish->agent);
    const struct participant *p = participant_find(t, a);
    if (p == NULL)
        return refuse_outsider(d, "agent", a->id);
    if (wish->upto > d->s->now.seq)
        return refuse(d, CORE_E_REFUSED, "upto", "The session stands at seq %llu, not yet at %llu.",
                      (unsigned long long)d->s->now.seq, (unsigned long long)wish->upto);
    if (wish->upto <= p->read)
        return CORE_NOTHING;
    struct core_reading r = reading_so_far(p, d->scratch);
    r.read = wish->upto;
    normalise(p, &r);
    struct core_fields *f = event_from_command(d);
    f->given |= GIVEN(READ) | GIVEN(TAKEN);
    f->read = r.read;
    f->taken = r.taken;
    f->taken_n = r.taken_n;
    return CORE_EVENT;
}

/* Adds the seqs above p->read to what p has taken; whether there were new ones. */
static bool merge_taken(const struct participant *p, const struct cursor_part *part,
                        struct arena *scratch, struct core_reading *r)
{
    uint32_t i = 0;
    r->taken_n = 0;
    r->taken = arena_alloc(scratch, ((size_t)p->taken_n + part->seqs_n) * sizeof(*r->taken));
    for (uint32_t k = 0; k < part->seqs_n; k++) {
        uint64_t seq = part->seqs[k];
        if (seq <= p->read || participant_has_taken(p, seq))
            continue;
        while (i < p->taken_n && p->taken[i] < seq)
            r->taken[r->taken_n++] = p->taken[i++];
        r->taken[r->taken_n++] = seq;
    }
    bool changed = r->taken_n > i;
    while (i < p->taken_n)
        r->taken[r->taken_n++] = p->taken[i++];
    return changed;
}

/* What is read of one thread once the cursor's answer is; false: nothing new. */
static bool acknowledge(const struct deciding *d, const struct cursor *cursor,
                        const struct cursor_part *part, struct core_reading *r)
{
    const struct thread *t = thread_find_created(d->s, part->created_seq);
    const struct agent *a = agent_find(d->s, d->command->f.agent);
    const struct participant *p = participant_find(t, a);
    /* Who joined after the answer may have history unread that the answer did not hold. */
    if (p == NULL || p->joined > cursor->at)
        return false;
    *r = reading_so_far(p, d->scratch);
    if (cursor->upto != 0) {
        if (cursor->upto <= p->read)
            return false;
        r->read = cursor->upto;
    } else if (!merge_taken(p, part, d->scratch, r)) {
        return false;
    }
    normalise(p, r);
    return true;
}

static enum core_decision decide_ack(const struct deciding *d)
{
    const struct core_fields *wish = &d->command->f;
    struct cursor cursor;
    if (agent_find(d->s, wish->agent) == NULL)
        return refuse_unknown_agent(d, "agent", wish->agent);
    if (!cursor_parse(d->s, wish->agent, wish->cursor, d->scratch, &cursor))
        return refuse(d, CORE_E_MALFORMED, "cursor",
                      "This is not a cursor of this agent's inbox in this session.");
    uint32_t n = 0;
    struct core_reading *readings =
        arena_alloc(d->scratch, cursor.parts_n * sizeof(struct core_reading));
    for (uint32_t i = 0; i < cursor.parts_n; i++) {
        struct core_reading *r = &readings[n];
        if (!acknowledge(d, &cursor, &cursor.parts[i], r))
            continue;
        if (r->taken_n > limit_of(d->s, CORE_LIMIT_TAKEN))
            return refuse(d, CORE_E_REFUSED, "cursor",
                          "At most %u messages of the thread \"%.*s\" can be acknowledged before "
                          "older unread ones: read those first.",
                          limit_of(d->s, CORE_LIMIT_TAKEN), ID_PRINTF(r->thread));
        n++;
    }
    if (n == 0)
        return CORE_NOTHING;
    struct core_fields *f = event_from_command(d);
    f->cursor = (struct str){0};
    f->given = (f->given & ~GIVEN(CURSOR)) | GIVEN(READINGS);
    f->readings = readings;
    f->readings_n = n;
    return CORE_EVENT;
}

static enum core_decision decide(const struct deciding *d)
{
    if (d->command->type == CORE_THREAD_READ)
        return decide_read(d);
    assert(d->command->type == CORE_INBOX_ACK);
    return decide_ack(d);
}

/* ---- apply */

static bool taken_sound(const struct core_reading *r, uint64_t seq)
{
    uint64_t last = r->read;
    for (uint32_t i = 0; i < r->taken_n; i++) {
        if (r->taken[i] <= last)
            return false;
        last = r->taken[i];
    }
    return last <= seq;
}

static void set_taken(struct core_session *s, struct participant *p, const uint64_t *taken,
                      uint32_t n)
{
    uint64_t *copy = NULL;
    if (n != 0) {
        copy = state_alloc(s, n * sizeof(*copy));
        memcpy(copy, taken, n * sizeof(*copy));
    }
    state_free(s, p->taken, p->taken_n * sizeof(*p->taken));
    state_set(s, p->taken, copy);
    state_set(s, p->taken_n, n);
}

static int apply_reading(struct core_session *s, const struct agent *a,
                         const struct core_reading *r, struct core_refusal *why)
{
    const struct thread *t = thread_find(s, r->thread);
    struct participant *p = participant_find(t, a);
    if (p == NULL)
        return broken(why, "the reader takes no part in the thread");
    if (r->read < p->read || !taken_sound(r, s->now.seq))
        return broken(why, "what is read moves back, or beyond what was written");
    state_set(s, p->read, r->read);
    if (r->taken_n != 0 || p->taken_n != 0)
        set_taken(s, p, r->taken, r->taken_n);
    return 0;
}

static struct core_reading reading_of_event(const struct core_fields *f)
{
    return (struct core_reading){
        .thread = f->thread, .read = f->read, .taken = f->taken, .taken_n = f->taken_n};
}

static int apply(struct core_session *s, const struct core_event *event, struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    const struct agent *a = agent_find(s, f->agent);
    if (event->type == CORE_THREAD_READ) {
        struct core_reading r = reading_of_event(f);
        return apply_reading(s, a, &r, why);
    }
    for (uint32_t i = 0; i < f->readings_n; i++) {
        if (apply_reading(s, a, &f->readings[i], why) != 0)
            return -1;
    }
    return 0;
}

static bool participant_sound(const struct core_session *s, const struct participant *p)
{
    struct core_reading r = {.read = p->read, .taken = p->taken, .taken_n = p->taken_n};
    return p->read >= p->thread->created_seq && p->joined >= p->thread->created_seq &&
           p->joined <= s->now.seq && taken_sound(&r, s->now.seq) && p->at < p->agent->part_of_n &&
           p->agent->part_of[p->at] == p;
}

static int check(const struct core_session *s, const struct core_event *event,
                 struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    const struct agent *a = agent_find(s, f->agent);
    uint32_t n = event->type == CORE_THREAD_READ ? 1 : f->readings_n;
    for (uint32_t i = 0; i < n; i++) {
        struct str id = event->type == CORE_THREAD_READ ? f->thread : f->readings[i].thread;
        const struct participant *p = participant_find(thread_find(s, id), a);
        if (p == NULL || !participant_sound(s, p))
            return broken(why, "a participant has read what was never written");
    }
    return 0;
}

void reading_free(struct core_session *s, struct participant *p)
{
    state_free(s, p->taken, p->taken_n * sizeof(*p->taken));
}

/* ---- patch, diff and view */

static void patch_path(struct buf *out, const char *op, struct str thread, struct str agent)
{
    patch_begin(out, op);
    buf_add_literal(out, "/threads/");
    buf_add_str(out, thread);
    buf_add_literal(out, "/participants/");
    buf_add_str(out, agent);
}

static void patch_reading(struct buf *out, const char *op, struct str agent,
                          const struct core_reading *r)
{
    patch_path(out, op, r->thread, agent);
    patch_value(out);
    json_add_reading(out, r->read, r->taken, r->taken_n);
    patch_end(out);
}

static void patch(const struct core_event *event, struct buf *out)
{
    const struct core_fields *f = &event->f;
    if (event->type == CORE_THREAD_READ) {
        struct core_reading r = reading_of_event(f);
        patch_reading(out, "replace", f->agent, &r);
    }
    for (uint32_t i = 0; i < f->readings_n; i++)
        patch_reading(out, "replace", f->agent, &f->readings[i]);
}

static bool same_reading(const struct participant *a, const struct participant *b)
{
    return a->read == b->read && a->taken_n == b->taken_n &&
           (a->taken_n == 0 || memcmp(a->taken, b->taken, a->taken_n * sizeof(*a->taken)) == 0);
}

void reading_diff(const struct diffing *d, const struct thread *from, const struct thread *to)
{
    const struct participant *p;
    for (uint32_t at = 0; (p = table_next(&from->participants, &at)) != NULL;) {
        if (participant_find(to, agent_find(d->to, p->id)) == NULL) {
            patch_path(d->out, "remove", to->id, p->id);
            patch_end_path(d->out);
        }
    }
    for (uint32_t at = 0; (p = table_next(&to->participants, &at)) != NULL;) {
        const struct participant *old = participant_find(from, agent_find(d->from, p->id));
        struct core_reading r = {
            .thread = to->id, .read = p->read, .taken = p->taken, .taken_n = p->taken_n};
        if (old == NULL || !same_reading(old, p))
            patch_reading(d->out, old == NULL ? "add" : "replace", p->id, &r);
    }
}

void reading_view(const struct thread *t, struct buf *out)
{
    buf_add_literal(out, ",\"participants\":{");
    const struct participant *p;
    for (uint32_t at = 0; (p = table_next(&t->participants, &at)) != NULL;) {
        json_add_member_id(out, p->id);
        json_add_reading(out, p->read, p->taken, p->taken_n);
    }
    buf_add_byte(out, '}');
}

/* ---- bytes */

static void encode(const struct core_session *s, struct buf *out)
{
    const struct thread *t;
    for (uint32_t i = 0; (t = table_next(&s->threads, &i)) != NULL;) {
        put_varint(out, t->participants.live);
        const struct participant *p;
        for (uint32_t at = 0; (p = table_next(&t->participants, &at)) != NULL;) {
            put_text(out, p->id);
            put_varint(out, p->joined);
            put_varint(out, p->read);
            put_seqs(out, p->taken, p->taken_n);
        }
    }
}

static void decode_participant(struct core_session *s, struct thread *t, struct reader *in,
                               struct arena *scratch)
{
    struct agent *a = agent_find(s, get_id(in));
    uint64_t joined = get_seq(in);
    uint64_t read = get_seq(in);
    uint64_t *taken;
    uint32_t taken_n = get_seqs(in, scratch, &taken);
    if (a == NULL || participant_find(t, a) != NULL)
        in->failed = true;
    if (in->failed)
        return;
    struct participant *p = thread_join(s, t, a, read, joined);
    set_taken(s, p, taken, taken_n);
    in->failed = !participant_sound(s, p);
}

static void decode(struct core_session *s, struct reader *in, struct arena *scratch)
{
    struct thread *t;
    for (uint32_t i = 0; (t = table_next(&s->threads, &i)) != NULL && !in->failed;) {
        for (uint32_t left = get_count(in); left != 0 && !in->failed; left--)
            decode_participant(s, t, in, scratch);
    }
}

const struct slice reading_slice = {
    .name = "reading",
    .decide = decide,
    .apply = apply,
    .check = check,
    .patch = patch,
    .encode = encode,
    .decode = decode,
};
