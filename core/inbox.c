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

/* ---- base64url */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void base64url_add(struct buf *out, struct str bytes)
{
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < bytes.n; i++) {
        bits = bits << 8 | (unsigned char)bytes.p[i];
        for (have += 8; have >= 6; have -= 6)
            buf_add_byte(out, alphabet[bits >> (have - 6) & 63]);
    }
    if (have != 0)
        buf_add_byte(out, alphabet[bits << (6 - have) & 63]);
}

static int base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Accepts only what base64url_add makes; p == NULL otherwise. */
static struct str base64url_decode(struct str text, struct arena *scratch)
{
    char *bytes = arena_alloc(scratch, text.n * 3 / 4 + 1);
    size_t n = 0;
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < text.n; i++) {
        int value = base64url_value(text.p[i]);
        if (value < 0)
            return (struct str){0};
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            bytes[n++] = (char)(bits >> have);
        }
    }
    bool rest_is_zero = have < 6 && (bits & ((1U << have) - 1)) == 0;
    return rest_is_zero ? (struct str){bytes, n} : (struct str){0};
}

/* ---- cursors */

/* What the cursor is made of: one for each message of the answer. */
struct held {
    uint64_t created_seq;
    uint64_t seq;
};

static int held_order(const void *a, const void *b)
{
    const struct held *left = a;
    const struct held *right = b;
    if (left->created_seq != right->created_seq)
        return left->created_seq < right->created_seq ? -1 : 1;
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
static uint32_t held_run(const struct held *held, uint32_t n)
{
    uint32_t run = 1;
    while (run < n && held[run].created_seq == held[0].created_seq)
        run++;
    return run;
}

static void put_held(struct buf *out, struct held *held, uint32_t n, bool with_seqs)
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
        put_varint(out, held[i].created_seq - last_thread);
        last_thread = held[i].created_seq;
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

static bool is_filtered(const struct core_inbox_query *query)
{
    return query->mentions || query->from.p != NULL;
}

static void cursor_add(const struct core_session *s, struct core_inbox *inbox, struct buf *out)
{
    bool filtered = is_filtered(&inbox->query);
    struct buf rest = {0};
    put_varint(&rest, s->now.seq);
    put_varint(&rest, filtered ? 0 : inbox->last_seq);
    put_held(&rest, (struct held *)(void *)inbox->taken.p, inbox->count, filtered);

    struct buf bytes = {0};
    uint64_t check = cursor_check(s, inbox->query.agent, buf_str(&rest));
    buf_add_byte(&bytes, CURSOR_VERSION);
    for (int i = 0; i < CURSOR_CHECK_BYTES; i++)
        buf_add_byte(&bytes, (char)(check >> (8 * i)));
    buf_add_str(&bytes, buf_str(&rest));
    base64url_add(out, buf_str(&bytes));
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
    struct str bytes = base64url_decode(text, scratch);
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

static bool is_asked_for(const struct core_inbox_query *query, const struct message *m)
{
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
    if (inbox->count >= inbox->query.limit) {
        if (inbox->remaining < CORE_REMAINING_MAX)
            inbox->remaining++;
        return;
    }
    if (inbox->count != 0)
        buf_add_byte(&inbox->messages, ',');
    message_json(m, t->id, MESSAGE_FULL, &inbox->messages);
    struct held held = {.created_seq = t->created_seq, .seq = m->seq};
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

/* Joining with history makes old messages unread: that is news too, whichever they are. */
bool core_inbox_wakes(const struct core_session *s, const struct core_inbox_query *query,
                      const struct core_event *event)
{
    if (event->type == CORE_THREAD_ADD)
        return event->f.history && str_equal(event->f.agent, query->agent);
    return unread_in(s, query, event) != NULL;
}
