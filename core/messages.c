/*
 * Messages: what is said in a thread. Each thread keeps a window of the newest; what leaves it is
 * only in the log, and only counted here.
 *
 * Snapshot part: for each thread in order: varint older, varint evicted_seq, varint last_seq,
 * varint count, then for each message of the window: varint seq (difference to the one before, or
 * to evicted_seq), varint ts_ms, text sender, text content, ids mentions, nullable reply_to,
 * nullable data.
 */
#include "core/internal.h"
#include "core/write.h"

enum { RING_FIRST_CAP = 4 };

/* ---- the window */

static uint64_t message_weight(const struct message *m)
{
    return m->content.n + m->data.n;
}

uint32_t window_after(const struct window *w, uint64_t seq)
{
    uint32_t low = 0;
    uint32_t high = w->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (window_at(w, middle)->seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void ring_grow(struct core_session *s, struct window *w)
{
    uint32_t cap = w->cap == 0 ? RING_FIRST_CAP : w->cap * 2;
    struct message **ring = state_alloc(s, cap * sizeof(struct message *));
    for (uint32_t i = 0; i < w->count; i++)
        ring[i] = w->ring[(w->head + i) & (w->cap - 1)];
    state_free(s, w->ring, w->cap * sizeof(struct message *));
    w->ring = ring;
    w->cap = cap;
    w->head = 0;
}

/* The caller has remembered *w. */
static void window_push(struct core_session *s, struct window *w, struct message *m)
{
    if (w->count == w->cap)
        ring_grow(s, w);
    state_set(s, w->ring[(w->head + w->count) & (w->cap - 1)], m);
    w->count++;
    w->bytes += message_weight(m);
    w->last_seq = m->seq;
}

/* The caller has remembered *w. */
static void window_evict(struct core_session *s, struct window *w)
{
    struct message *m = w->ring[w->head];
    w->head = (w->head + 1) & (w->cap - 1);
    w->count--;
    w->bytes -= message_weight(m);
    w->older++;
    w->evicted_seq = m->seq;
    state_free(s, m, m->size);
}

void messages_close(struct core_session *s, struct thread *t)
{
    struct window *w = &t->window;
    journal_save(s, w, sizeof(*w));
    while (w->count != 0)
        window_evict(s, w);
    state_free(s, w->ring, w->cap * sizeof(struct message *));
    w->ring = NULL;
    w->cap = 0;
    w->head = 0;
}

void messages_free(struct core_session *s, struct thread *t)
{
    for (uint32_t i = 0; i < t->window.count; i++) {
        const struct message *m = window_at(&t->window, i);
        state_free(s, (void *)(uintptr_t)m, m->size);
    }
    state_free(s, t->window.ring, t->window.cap * sizeof(struct message *));
}

/* ---- decide */

/* The mentions of a message, each once, and who they are. */
struct mentioned {
    struct core_ids ids;
    const struct agent **agents;
};

/* Folds the mentions, each of which must be registered. False: refused. */
static bool fold_mentions(const struct deciding *d, struct mentioned *folded)
{
    const struct table *agents = &d->s->agents;
    const struct core_ids *mentions = &d->command->f.mentions;
    uint8_t *seen = seen_begin(agents, d->scratch);
    folded->ids.items = arena_alloc(d->scratch, mentions->n * sizeof(struct str));
    folded->agents = arena_alloc(d->scratch, mentions->n * sizeof(struct agent *));
    for (uint32_t i = 0; i < mentions->n; i++) {
        struct str id = mentions->items[i];
        int64_t slot = table_slot(agents, table_hash(d->s, id), id);
        if (slot == TABLE_NONE) {
            refuse_unknown_agent(d, "mentions", id);
            return false;
        }
        if (seen_before(seen, slot))
            continue;
        folded->agents[folded->ids.n] = agents->entries[slot].object;
        folded->ids.items[folded->ids.n++] = id;
    }
    return true;
}

/* The first mention that is no participant; p == NULL: there is none. */
static struct str find_outsider(const struct thread *t, const struct mentioned *mentions)
{
    for (uint32_t i = 0; i < mentions->ids.n; i++) {
        if (participant_find(t, mentions->agents[i]) == NULL)
            return mentions->ids.items[i];
    }
    return (struct str){0};
}

/* Messages that have left the window are taken at their word: that they were here is in the log. */
static bool may_be_message(const struct thread *t, uint64_t seq)
{
    const struct window *w = &t->window;
    if (seq <= w->evicted_seq)
        return seq > t->created_seq;
    uint32_t i = window_after(w, seq - 1);
    return i < w->count && window_at(w, i)->seq == seq;
}

static enum core_decision refuse_reply(const struct deciding *d, uint64_t seq)
{
    if (seq == 0)
        return refuse(d, CORE_E_MALFORMED, "reply_to", "A message's id is \"m\" and its seq.");
    return refuse(d, CORE_E_UNKNOWN_MESSAGE, "reply_to",
                  "There is no message \"%.*s\" in the thread \"%.*s\".",
                  ID_PRINTF(d->command->f.reply_to), ID_PRINTF(d->command->f.thread));
}

/* How many of the oldest messages make room for one more of `weight` bytes. */
static uint32_t count_evicted(const struct core_session *s, const struct window *w, uint64_t weight)
{
    uint32_t evicted = 0;
    uint64_t bytes = w->bytes + weight;
    while (evicted < w->count &&
           (w->count - evicted >= s->window_messages || bytes > s->window_bytes))
        bytes -= message_weight(window_at(w, evicted++));
    return evicted;
}

static enum core_decision decide(const struct deciding *d)
{
    const struct core_fields *wish = &d->command->f;
    struct mentioned mentions = {0};
    const struct thread *t = thread_find(d->s, wish->thread);
    if (t == NULL)
        return refuse_unknown_thread(d);
    const struct agent *sender = agent_find(d->s, wish->sender);
    if (sender == NULL)
        return refuse_unknown_agent(d, "sender", wish->sender);
    if (wish->mentions.n != 0 && !fold_mentions(d, &mentions))
        return CORE_REFUSED;
    if (t->closed)
        return refuse_closed_thread(d);
    if (participant_find(t, sender) == NULL)
        return refuse_outsider(d, "sender", sender->id);
    struct str outsider = find_outsider(t, &mentions);
    if (outsider.p != NULL)
        return refuse_outsider(d, "mentions", outsider);
    uint64_t reply_to = core_message_seq(wish->reply_to);
    if (wish->reply_to.p != NULL && (reply_to == 0 || !may_be_message(t, reply_to)))
        return refuse_reply(d, reply_to);
    struct core_fields *f = event_from_command(d);
    f->mentions = mentions.ids;
    f->evicted = count_evicted(d->s, &t->window, wish->content.n + wish->data.n);
    if (f->evicted != 0) {
        f->older = t->window.older + f->evicted;
        f->given |= GIVEN(EVICTED) | GIVEN(OLDER);
    }
    return CORE_EVENT;
}

/* ---- apply */

static struct message *message_new(struct core_session *s, const struct message *from)
{
    size_t size = sizeof(*from) + from->sender.n + from->content.n + from->data.n +
                  from->reply_to.n + from->mentions.n * sizeof(struct str);
    for (uint32_t i = 0; i < from->mentions.n; i++)
        size += from->mentions.items[i].n;
    struct message *m = state_alloc(s, size);
    m->seq = from->seq;
    m->ts_ms = from->ts_ms;
    m->size = size;
    m->mentions = (struct core_ids){(struct str *)(m + 1), from->mentions.n};
    char *at = (char *)(m->mentions.items + m->mentions.n);
    m->sender = text_pack(&at, from->sender);
    m->content = text_pack(&at, from->content);
    m->data = text_pack(&at, from->data);
    m->reply_to = text_pack(&at, from->reply_to);
    for (uint32_t i = 0; i < from->mentions.n; i++)
        m->mentions.items[i] = text_pack(&at, from->mentions.items[i]);
    assert(at == (char *)m + size);
    return m;
}

struct message message_of_event(const struct core_event *event)
{
    return (struct message){.seq = event->seq,
                            .ts_ms = event->ts_ms,
                            .sender = event->f.sender,
                            .content = event->f.content,
                            .data = event->f.data,
                            .reply_to = event->f.reply_to,
                            .mentions = event->f.mentions};
}

static int apply(struct core_session *s, const struct core_event *event, struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    struct thread *t = thread_find(s, f->thread);
    if (t == NULL || t->closed || f->content.p == NULL)
        return broken(why, "the thread is unknown or closed, or there is no content");
    if (participant_find(t, agent_find(s, f->sender)) == NULL)
        return broken(why, "the sender takes no part in the thread");
    struct window *w = &t->window;
    if (f->evicted > w->count || (f->evicted != 0 && f->older != w->older + f->evicted))
        return broken(why, "the window's content is not what the event says");
    struct message from = message_of_event(event);
    struct message *m = message_new(s, &from);
    journal_save(s, w, sizeof(*w));
    for (uint32_t i = 0; i < f->evicted; i++)
        window_evict(s, w);
    window_push(s, w, m);
    return 0;
}

static bool window_sound(const struct core_session *s, const struct thread *t)
{
    const struct window *w = &t->window;
    if (w->count > w->cap || w->count > s->window_messages || w->last_seq > s->now.seq)
        return false;
    if ((w->older == 0) != (w->evicted_seq == 0) || w->evicted_seq > w->last_seq)
        return false;
    if (w->count == 0)
        return w->bytes == 0 && w->last_seq == w->evicted_seq;
    return (w->bytes <= s->window_bytes || w->count == 1) && !t->closed &&
           window_at(w, 0)->seq > w->evicted_seq && window_at(w, w->count - 1)->seq == w->last_seq;
}

static int check(const struct core_session *s, const struct core_event *event,
                 struct core_refusal *why)
{
    const struct thread *t = thread_find(s, event->f.thread);
    if (t == NULL || !window_sound(s, t) || t->window.last_seq != event->seq)
        return broken(why, "the thread's window is not within its bounds");
    return 0;
}

/* ---- patch and view */

/* Of a message's object: what stands before its content, without the ids. */
enum { MESSAGE_HEAD_ROOM = 192 };

static void json_message_head(const struct message *m, struct str thread, struct buf *out)
{
    char *start = buf_reserve(out, MESSAGE_HEAD_ROOM + thread.n + m->sender.n);
    char *to = write_literal(start, "{\"id\":\"m");
    to = write_decimal(to, m->seq);
    to = write_literal(to, "\",\"seq\":");
    to = write_decimal(to, m->seq);
    to = write_literal(to, ",\"ts\":");
    to = write_time(to, m->ts_ms);
    if (thread.p != NULL) {
        to = write_literal(to, ",\"thread\":");
        to = write_id(to, thread);
    }
    to = write_literal(to, ",\"sender\":");
    to = write_id(to, m->sender);
    out->n += (size_t)(to - start);
}

void message_json(const struct message *m, struct str thread, enum message_form form,
                  struct buf *out)
{
    struct str data = m->data.p != NULL ? m->data : STR("null");
    json_message_head(m, thread, out);
    if (form == MESSAGE_FULL) {
        buf_add_literal(out, ",\"content\":");
        json_add_string(out, m->content);
    }
    buf_add_literal(out, ",\"mentions\":");
    json_add_ids(out, &m->mentions);
    buf_add_literal(out, ",\"reply_to\":");
    json_add_string(out, m->reply_to);
    if (form == MESSAGE_FULL) {
        buf_add_literal(out, ",\"data\":");
        buf_add_str(out, data);
    }
    buf_add_byte(out, '}');
}

void core_message_json(const struct core_event *event, bool with_thread, struct buf *out)
{
    assert(event->type == CORE_MESSAGE_SEND);
    struct message m = message_of_event(event);
    message_json(&m, with_thread ? event->f.thread : (struct str){0}, MESSAGE_FULL, out);
}

static void json_messages(const struct window *w, enum message_form form, struct buf *out)
{
    buf_add_byte(out, '[');
    for (uint32_t i = 0; i < w->count; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        message_json(window_at(w, i), (struct str){0}, form, out);
    }
    buf_add_byte(out, ']');
}

void messages_view(const struct thread *t, enum message_form form, struct buf *out)
{
    buf_add_literal(out, ",\"older\":");
    buf_add_u64(out, t->window.older + (form == MESSAGE_COUNTED ? t->window.count : 0));
    buf_add_literal(out, ",\"messages\":");
    if (form == MESSAGE_COUNTED)
        buf_add_literal(out, "[]");
    else
        json_messages(&t->window, form, out);
}

uint32_t core_thread_window(const struct core_session *s, struct str thread)
{
    const struct thread *t = thread_find(s, thread);
    return t != NULL ? t->window.count : 0;
}

static void patch_thread(struct buf *out, const char *op, struct str thread)
{
    patch_begin(out, op);
    buf_add_literal(out, "/threads/");
    buf_add_str(out, thread);
}

/* Of an operation, without ids and value. */
enum { OPERATION_ROOM = 128 };

/* What leaves the window, as operations with a comma behind each. */
static void patch_evicted(const struct core_fields *f, struct buf *out)
{
    for (uint32_t i = 0; i < f->evicted; i++) {
        char *start = buf_reserve(out, OPERATION_ROOM + f->thread.n);
        char *to = write_literal(start, "{\"op\":\"remove\",\"path\":\"/threads/");
        to = write_str(to, f->thread);
        to = write_literal(to, "/messages/0\"},");
        out->n += (size_t)(to - start);
    }
    char *start = buf_reserve(out, OPERATION_ROOM + f->thread.n);
    char *to = write_literal(start, "{\"op\":\"replace\",\"path\":\"/threads/");
    to = write_str(to, f->thread);
    to = write_literal(to, "/older\",\"value\":");
    to = write_decimal(to, f->older);
    to = write_literal(to, "},");
    out->n += (size_t)(to - start);
}

void messages_patch(const struct core_event *event, enum message_form form, struct buf *out)
{
    const struct core_fields *f = &event->f;
    struct message m = message_of_event(event);
    if (f->evicted != 0)
        patch_evicted(f, out);
    char *start = buf_reserve(out, OPERATION_ROOM + f->thread.n);
    char *to = write_literal(start, "{\"op\":\"add\",\"path\":\"/threads/");
    to = write_str(to, f->thread);
    to = write_literal(to, "/messages/-\",\"value\":");
    out->n += (size_t)(to - start);
    message_json(&m, (struct str){0}, form, out);
    buf_add_byte(out, '}');
}

static void patch(const struct core_event *event, struct buf *out)
{
    messages_patch(event, MESSAGE_FULL, out);
}

/* ---- diff */

static bool same_ids(const struct core_ids *a, const struct core_ids *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        if (!str_equal(a->items[i], b->items[i]))
            return false;
    }
    return true;
}

/* Two forks may have said something else under the same seq. */
static bool same_message(const struct message *a, const struct message *b)
{
    return a->seq == b->seq && a->ts_ms == b->ts_ms && str_equal(a->sender, b->sender) &&
           str_equal(a->content, b->content) && str_equal(a->data, b->data) &&
           str_equal(a->reply_to, b->reply_to) && same_ids(&a->mentions, &b->mentions);
}

/* The first run of messages that two windows share: where it begins in each, and its length. */
struct overlap {
    uint32_t from, to, n;
};

static struct overlap find_overlap(const struct window *from, const struct window *to)
{
    struct overlap o = {0};
    while (o.from < from->count && o.to < to->count) {
        const struct message *a = window_at(from, o.from);
        const struct message *b = window_at(to, o.to);
        if (same_message(a, b))
            break;
        o.from += a->seq <= b->seq;
        o.to += b->seq <= a->seq;
    }
    while (o.from + o.n < from->count && o.to + o.n < to->count &&
           same_message(window_at(from, o.from + o.n), window_at(to, o.to + o.n)))
        o.n++;
    return o;
}

static void remove_messages(struct buf *out, struct str thread, uint32_t at, uint32_t n)
{
    for (; n != 0; n--) {
        patch_thread(out, "remove", thread);
        buf_add_literal(out, "/messages/");
        buf_add_u64(out, at);
        patch_end_path(out);
    }
}

/* Puts messages i to end of the window at their own places, or behind all others. */
static void add_messages(struct buf *out, const struct thread *t, uint32_t i, uint32_t end,
                         bool behind)
{
    for (; i < end; i++) {
        patch_thread(out, "add", t->id);
        buf_add_literal(out, "/messages/");
        if (behind)
            buf_add_byte(out, '-');
        else
            buf_add_u64(out, i);
        patch_value(out);
        message_json(window_at(&t->window, i), (struct str){0}, MESSAGE_FULL, out);
        patch_end(out);
    }
}

/* What both windows hold stays; were there nothing of that, the array is replaced as a whole. */
static void diff_windows(struct buf *out, const struct thread *from, const struct thread *to)
{
    struct overlap o = find_overlap(&from->window, &to->window);
    if (o.n == 0) {
        if (from->window.count == 0 && to->window.count == 0)
            return;
        patch_thread(out, "replace", to->id);
        buf_add_literal(out, "/messages");
        patch_value(out);
        json_messages(&to->window, MESSAGE_FULL, out);
        patch_end(out);
        return;
    }
    remove_messages(out, to->id, o.from + o.n, from->window.count - o.from - o.n);
    remove_messages(out, to->id, 0, o.from);
    add_messages(out, to, 0, o.to, false);
    add_messages(out, to, o.to + o.n, to->window.count, true);
}

void messages_diff(const struct diffing *d, const struct thread *from, const struct thread *to)
{
    if (from->window.older != to->window.older) {
        patch_thread(d->out, "replace", to->id);
        buf_add_literal(d->out, "/older");
        patch_value(d->out);
        buf_add_u64(d->out, to->window.older);
        patch_end(d->out);
    }
    diff_windows(d->out, from, to);
}

/* ---- bytes */

static void encode_window(const struct window *w, struct buf *out)
{
    uint64_t last = w->evicted_seq;
    put_varint(out, w->older);
    put_varint(out, w->evicted_seq);
    put_varint(out, w->last_seq);
    put_varint(out, w->count);
    for (uint32_t i = 0; i < w->count; i++) {
        const struct message *m = window_at(w, i);
        put_varint(out, m->seq - last);
        put_varint(out, (uint64_t)m->ts_ms);
        put_text(out, m->sender);
        put_text(out, m->content);
        put_ids(out, &m->mentions);
        put_nullable_text(out, m->reply_to);
        put_nullable_text(out, m->data);
        last = m->seq;
    }
}

static void encode(const struct core_session *s, struct buf *out)
{
    const struct thread *t;
    for (uint32_t at = 0; (t = table_next(&s->threads, &at)) != NULL;)
        encode_window(&t->window, out);
}

static void decode_message(struct core_session *s, struct window *w, struct reader *in,
                           struct arena *scratch)
{
    uint64_t step = get_seq(in);
    struct message from = {.seq = w->last_seq + step, .ts_ms = get_time(in)};
    from.sender = get_id(in);
    from.content = get_text(in);
    from.mentions = get_ids(in, scratch);
    from.reply_to = get_nullable_text(in);
    from.data = get_nullable_text(in);
    if (step == 0 || from.seq > s->now.seq)
        in->failed = true;
    if (!in->failed)
        window_push(s, w, message_new(s, &from));
}

static void decode(struct core_session *s, struct reader *in, struct arena *scratch)
{
    struct thread *t;
    for (uint32_t at = 0; (t = table_next(&s->threads, &at)) != NULL && !in->failed;) {
        struct window *w = &t->window;
        w->older = get_seq(in);
        w->evicted_seq = get_seq(in);
        uint64_t last_seq = get_seq(in);
        w->last_seq = w->evicted_seq;
        for (uint32_t left = get_count(in); left != 0 && !in->failed; left--)
            decode_message(s, w, in, scratch);
        if (w->last_seq != last_seq || !window_sound(s, t) ||
            (last_seq != 0 && last_seq <= t->created_seq))
            in->failed = true;
    }
}

const struct slice messages_slice = {
    .name = "messages",
    .decide = decide,
    .apply = apply,
    .check = check,
    .patch = patch,
    .encode = encode,
    .decode = decode,
};
