/*
 * Inbox: what is unread for one agent over all its threads, oldest first, and the cursor that
 * acknowledges exactly what one answer held.
 *
 * A cursor is base64url without padding of:
 *
 *     one byte   version
 *     8 bytes    check: XXH3-64 of epoch, agent and all that follows, lowest byte first
 *     varint     seq at which the session stood
 *     varint     upto; 0: the seqs follow
 *     varint     count of threads, and for each
 *       varint   created_seq (difference to the one before): names the thread
 *       seqs     the messages, where upto is 0
 *
 * An answer without filters holds the oldest unread messages, so "up to its last seq, in each
 * thread it has messages of" says all. A filtered one names its messages. Threads that have
 * nothing in the answer are not in the cursor: so acknowledging costs what the answer held, and
 * doing it again changes nothing.
 */
#include "core/internal.h"

#include <stdlib.h>

enum { CURSOR_VERSION = 1, CURSOR_CHECK_BYTES = 8 };

/* ---- cursors */

static int held_order(const void *a, const void *b)
{
    const struct core_inbox_taken *left = a;
    const struct core_inbox_taken *right = b;
    if (left->thread != right->thread)
        return left->thread < right->thread ? -1 : 1;
    return left->seq < right->seq ? -1 : left->seq > right->seq;
}

static uint64_t cursor_check(const struct core_session *s, struct str agent, struct str rest)
{
    struct buf bytes = {0};
    put_text(&bytes, s->epoch);
    put_text(&bytes, agent);
    buf_add_str(&bytes, rest);
    uint64_t check = hash_stable(buf_str(&bytes));
    buf_free(&bytes);
    return check;
}

/* How many of the n sorted ones at `held` are of the same thread. */
static uint32_t held_run(const struct core_inbox_taken *held, uint32_t n)
{
    uint32_t run = 1;
    while (run < n && held[run].thread == held[0].thread)
        run++;
    return run;
}

static void put_held(struct buf *out, struct core_inbox_taken *held, uint32_t n, bool with_seqs)
{
    uint32_t threads = 0;
    if (n != 0)
        qsort(held, n, sizeof(*held), held_order);
    for (uint32_t i = 0; i < n; i += held_run(held + i, n - i))
        threads++;
    put_varint(out, threads);
    uint64_t last_thread = 0;
    for (uint32_t i = 0; i < n;) {
        uint32_t run = held_run(held + i, n - i);
        put_varint(out, held[i].thread - last_thread);
        last_thread = held[i].thread;
        if (with_seqs)
            put_varint(out, run);
        uint64_t last_seq = 0;
        for (uint32_t end = i + run; i < end; i++) {
            if (with_seqs)
                put_varint(out, held[i].seq - last_seq);
            last_seq = held[i].seq;
        }
    }
}

/* Whether an answer may leave out some that are older than others that it holds. */
static bool is_filtered(const struct core_inbox_query *query)
{
    return query->mentions || query->from.p != NULL || query->skip_n != 0;
}

static void cursor_add(const struct core_session *s, struct core_inbox *inbox, struct buf *out)
{
    bool filtered = is_filtered(&inbox->query);
    struct buf rest = {0};
    put_varint(&rest, s->now.seq);
    put_varint(&rest, filtered ? 0 : inbox->last_seq);
    put_held(&rest, (struct core_inbox_taken *)(void *)inbox->taken.p, inbox->count, filtered);

    struct buf bytes = {0};
    uint64_t check = cursor_check(s, inbox->query.agent, buf_str(&rest));
    buf_add_byte(&bytes, CURSOR_VERSION);
    for (int i = 0; i < CURSOR_CHECK_BYTES; i++)
        buf_add_byte(&bytes, (char)(check >> (8 * i)));
    buf_add_str(&bytes, buf_str(&rest));
    buf_add_base64url(out, buf_str(&bytes));
    buf_free(&bytes);
    buf_free(&rest);
}

static void get_parts(struct reader *in, struct arena *scratch, struct cursor *cursor)
{
    uint64_t last = 0;
    cursor->parts_n = get_count(in);
    cursor->parts = arena_alloc(scratch, cursor->parts_n * sizeof(*cursor->parts));
    for (uint32_t i = 0; i < cursor->parts_n && !in->failed; i++) {
        struct cursor_part *part = &cursor->parts[i];
        uint64_t step = get_seq(in);
        *part = (struct cursor_part){.created_seq = last + step};
        last = part->created_seq;
        if (cursor->upto == 0)
            part->seqs_n = get_seqs(in, scratch, &part->seqs);
        bool beyond = part->seqs_n != 0 && part->seqs[part->seqs_n - 1] > cursor->at;
        if (step == 0 || last > cursor->at || beyond)
            in->failed = true;
    }
}

bool cursor_parse(const struct core_session *s, struct str agent, struct str text,
                  struct arena *scratch, struct cursor *cursor)
{
    struct str bytes = arena_base64url(scratch, text);
    if (bytes.p == NULL || bytes.n < 1 + CURSOR_CHECK_BYTES || bytes.p[0] != CURSOR_VERSION)
        return false;
    uint64_t check = 0;
    for (int i = 0; i < CURSOR_CHECK_BYTES; i++)
        check |= (uint64_t)(unsigned char)bytes.p[1 + i] << (8 * i);
    struct str rest = {bytes.p + 1 + CURSOR_CHECK_BYTES, bytes.n - 1 - CURSOR_CHECK_BYTES};
    if (check != cursor_check(s, agent, rest))
        return false;
    struct reader in = {.p = rest.p, .end = rest.p + rest.n};
    cursor->at = get_seq(&in);
    cursor->upto = get_seq(&in);
    if (cursor->at > s->now.seq || cursor->upto > cursor->at)
        return false;
    get_parts(&in, scratch, cursor);
    return !in.failed && in.p == in.end;
}

/* ---- which messages */

static bool is_unread(const struct participant *p, uint64_t seq, struct str sender)
{
    return seq > p->read && !str_equal(sender, p->id) && !participant_has_taken(p, seq);
}

static bool ids_contain(const struct core_ids *ids, struct str id)
{
    for (uint32_t i = 0; i < ids->n; i++) {
        if (str_equal(ids->items[i], id))
            return true;
    }
    return false;
}

static bool is_skipped(const struct core_inbox_query *query, uint64_t seq)
{
    uint32_t low = 0;
    uint32_t high = query->skip_n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (query->skip[middle] == seq)
            return true;
        if (query->skip[middle] < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool is_asked_for(const struct core_inbox_query *query, const struct message *m)
{
    if (is_skipped(query, m->seq))
        return false;
    if (query->from.p != NULL && !str_equal(query->from, m->sender))
        return false;
    return !query->mentions || ids_contain(&m->mentions, query->agent);
}

static bool is_full(const struct core_inbox *inbox)
{
    return inbox->count >= inbox->query.limit && inbox->remaining >= CORE_REMAINING_MAX;
}

static void answer_add(struct core_inbox *inbox, const struct thread *t, const struct message *m)
{
    inbox->newest_seq = m->seq;
    if (inbox->query.bare && !inbox->mentioned)
        inbox->mentioned = ids_contain(&m->mentions, inbox->query.agent);
    if (inbox->count >= inbox->query.limit) {
        if (inbox->remaining < CORE_REMAINING_MAX)
            inbox->remaining++;
        return;
    }
    if (!inbox->query.bare) {
        if (inbox->count != 0)
            buf_add_byte(&inbox->messages, ',');
        message_json(m, t->id, MESSAGE_FULL, &inbox->messages);
    }
    struct core_inbox_taken held = {.thread = t->created_seq, .seq = m->seq};
    buf_add(&inbox->taken, &held, sizeof(held));
    inbox->last_seq = m->seq;
    inbox->count++;
}

void core_inbox_begin(struct core_inbox *inbox, const struct core_inbox_query *query)
{
    *inbox = (struct core_inbox){.query = *query};
}

void core_inbox_free(struct core_inbox *inbox)
{
    buf_free(&inbox->messages);
    buf_free(&inbox->taken);
}

/* ---- from the windows: one lane for each thread with something to answer, merged by seq */

struct lane {
    const struct participant *p;
    uint64_t seq;  /* of the message it stands at */
    uint32_t next; /* index of that message in the window */
};

/* Goes on to the next message asked for, from lane->next on; false: there is none. */
static bool lane_seek(const struct core_inbox_query *query, struct lane *lane)
{
    const struct window *w = &lane->p->thread->window;
    for (; lane->next < w->count; lane->next++) {
        const struct message *m = window_at(w, lane->next);
        if (is_unread(lane->p, m->seq, m->sender) && is_asked_for(query, m)) {
            lane->seq = m->seq;
            return true;
        }
    }
    return false;
}

/* Lets the lane at `at` sink to where no lane below has a smaller seq. */
static void heap_sink(struct lane *lanes, uint32_t n, uint32_t at)
{
    struct lane lane = lanes[at];
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && lanes[child + 1].seq < lanes[child].seq)
            child++;
        if (lane.seq <= lanes[child].seq)
            break;
        lanes[at] = lanes[child];
    }
    lanes[at] = lane;
}

static void merge_lanes(struct core_inbox *inbox, struct lane *lanes, uint32_t n)
{
    for (uint32_t at = n / 2; at-- > 0;)
        heap_sink(lanes, n, at);
    while (n != 0 && !is_full(inbox)) {
        const struct thread *t = lanes[0].p->thread;
        answer_add(inbox, t, window_at(&t->window, lanes[0].next));
        lanes[0].next++;
        if (!lane_seek(&inbox->query, &lanes[0]))
            lanes[0] = lanes[--n];
        heap_sink(lanes, n, 0);
    }
}

/* Fills the lanes; returns the seq from which the log must be read instead, 0: it need not. */
static uint64_t find_lanes(const struct core_inbox *inbox, const struct agent *a,
                           struct lane *lanes, uint32_t *n)
{
    uint64_t first = UINT64_MAX;
    bool evicted = false;
    *n = 0;
    for (uint32_t i = 0; i < a->part_of_n; i++) {
        const struct participant *p = a->part_of[i];
        const struct window *w = &p->thread->window;
        if (w->last_seq <= p->read)
            continue;
        struct lane lane = {.p = p, .seq = p->read + 1};
        if (p->read < w->evicted_seq) {
            evicted = true;
        } else {
            lane.next = window_after(w, p->read);
            if (!lane_seek(&inbox->query, &lane))
                continue;
            lanes[(*n)++] = lane;
        }
        first = lane.seq < first ? lane.seq : first;
    }
    return evicted ? first : 0;
}

uint64_t core_inbox_from_state(const struct core_session *s, struct core_inbox *inbox)
{
    const struct agent *a = agent_find(s, inbox->query.agent);
    if (a == NULL || a->part_of_n == 0)
        return 0;
    struct lane *lanes = mem_alloc(a->part_of_n * sizeof(*lanes));
    uint32_t n;
    uint64_t from = find_lanes(inbox, a, lanes, &n);
    if (from == 0)
        merge_lanes(inbox, lanes, n);
    free(lanes);
    return from;
}

/* ---- from the log */

/* Where the event is a message, unread and asked for: the thread it is in; NULL otherwise. */
static const struct thread *unread_in(const struct core_session *s,
                                      const struct core_inbox_query *query,
                                      const struct core_event *event)
{
    if (event->type != CORE_MESSAGE_SEND)
        return NULL;
    const struct thread *t = thread_find(s, event->f.thread);
    if (t == NULL)
        return NULL;
    const struct participant *p = participant_find(t, agent_find(s, query->agent));
    struct message m = message_of_event(event);
    if (p == NULL || !is_unread(p, m.seq, m.sender) || !is_asked_for(query, &m))
        return NULL;
    return t;
}

bool core_inbox_offer(const struct core_session *s, struct core_inbox *inbox,
                      const struct core_event *event)
{
    if (event->seq > s->now.seq)
        return false;
    const struct thread *t = unread_in(s, &inbox->query, event);
    if (t != NULL) {
        struct message m = message_of_event(event);
        answer_add(inbox, t, &m);
    }
    return !is_full(inbox);
}

void core_inbox_finish(const struct core_session *s, struct core_inbox *inbox, struct buf *out)
{
    buf_add_literal(out, "{\"messages\":[");
    buf_add_str(out, buf_str(&inbox->messages));
    buf_add_literal(out, "],\"cursor\":\"");
    cursor_add(s, inbox, out);
    buf_add_literal(out, "\",\"remaining\":");
    buf_add_u64(out, inbox->remaining);
    buf_add_byte(out, '}');
}

bool core_inbox_is_unread(const struct core_session *s, struct str agent,
                          const struct core_inbox_taken *message)
{
    const struct thread *t = thread_find_created(s, message->thread);
    const struct participant *p = participant_find(t, agent_find(s, agent));
    return p != NULL && message->seq > p->read && !participant_has_taken(p, message->seq);
}

/* Joining with history makes old messages unread: that is news too, whichever they are. */
bool core_inbox_wakes(const struct core_session *s, const struct core_inbox_query *query,
                      const struct core_event *event)
{
    if (event->type == CORE_THREAD_ADD)
        return event->f.history && str_equal(event->f.agent, query->agent);
    return unread_in(s, query, event) != NULL;
}
