/*
 * What the files of core/ share and nobody else sees: the state, its journal, and the verbs that
 * each slice of the state has.
 *
 * The state is a tree of plain objects. Objects with an id (agents, threads, participants) begin
 * with it and are found through a struct table, which also keeps the order of their coming.
 * Everything an event changes in them goes through the journal (undo.c): state_set before a place
 * is overwritten, state_alloc and state_free for memory.
 */
#ifndef ATOLL_CORE_INTERNAL_H
#define ATOLL_CORE_INTERNAL_H

#include "core/core.h"

/* ---- journal: undo.c */

enum { JOURNAL_FIRST_BYTES = 192 /* enough for one message */, JOURNAL_BYTES_MAX = 1 << 30 };

struct journal {
    char *p; /* `first`, or from the session's heap */
    size_t n;
    size_t cap;
    uint32_t dropped; /* objects that wait to be freed */
    bool active;
    char first[JOURNAL_FIRST_BYTES];
};

/* Takes back everything after `mark`, a former value of journal.n. */
void journal_rewind(struct core_session *s, size_t mark);
void journal_begin(struct core_session *s);
void journal_end(struct core_session *s);

/* What the journal is made of: undo.c. */
enum journal_kind { JOURNAL_BYTES, JOURNAL_MADE, JOURNAL_DROPPED };

struct journal_record {
    void *p;
    uint32_t n;
    uint32_t kind;
};

void journal_grow(struct core_session *s, size_t more);

void *state_alloc(struct core_session *s, size_t size);        /* given back when undone */
void state_free(struct core_session *s, void *p, size_t size); /* p stays valid until kept */
/* A copy in the session's memory; the text at *place, if any, is freed. */
void state_set_text(struct core_session *s, struct str *place, struct str text);
void state_free_text(struct core_session *s, struct str text);

/* Copies the text to *at, in an allocation that holds several, and moves *at behind it. */
static inline struct str text_pack(char **at, struct str text)
{
    if (text.p == NULL)
        return text;
    struct str copy = {*at, text.n};
    memcpy(*at, text.p, text.n);
    *at += text.n;
    return copy;
}

/* ---- tables: table.c */

struct table_entry {
    uint64_t hash;
    void *object; /* begins with its struct str id; NULL: removed */
};

/* Objects by id, in the order they were added. All zero: empty. */
struct table {
    struct table_entry *entries;
    uint32_t *index; /* slot + 1 of an entry, 0: free; NULL while the table is small */
    uint32_t cap;    /* of entries; the index has twice as many */
    uint32_t used;   /* entries, removed ones included */
    uint32_t live;
    uint32_t hint; /* a slot to look at first: any number will do, and no part of the state */
};

enum { TABLE_NONE = -1 };

/* The same in every process, for what is kept: not for tables. */
uint64_t hash_stable(struct str bytes);
uint64_t table_hash(const struct core_session *s, struct str id);

/* Two ids of the same length; most are short, and a call of memcmp costs more than the look. */
static inline bool id_equal(const char *a, const char *b, size_t n)
{
    uint64_t first[2], last[2];
    uint32_t half[4];
    if (n > 16)
        return memcmp(a, b, n) == 0;
    if (n >= 8) {
        memcpy(&first[0], a, 8);
        memcpy(&first[1], b, 8);
        memcpy(&last[0], a + n - 8, 8);
        memcpy(&last[1], b + n - 8, 8);
        return first[0] == first[1] && last[0] == last[1];
    }
    if (n >= 4) {
        memcpy(&half[0], a, 4);
        memcpy(&half[1], b, 4);
        memcpy(&half[2], a + n - 4, 4);
        memcpy(&half[3], b + n - 4, 4);
        return half[0] == half[1] && half[2] == half[3];
    }
    return n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
}

static inline bool table_entry_is(const struct table_entry *e, uint64_t hash, struct str id)
{
    if (e->hash != hash || e->object == NULL)
        return false;
    const struct str *own = e->object;
    return own->n == id.n && id_equal(own->p, id.p, id.n);
}

int64_t table_slot_indexed(const struct table *t, uint64_t hash, struct str id);

static inline int64_t table_slot(const struct table *t, uint64_t hash, struct str id)
{
    if (t->index != NULL)
        return table_slot_indexed(t, hash, id);
    for (uint32_t slot = 0; slot < t->used; slot++) {
        if (table_entry_is(&t->entries[slot], hash, id))
            return slot;
    }
    return TABLE_NONE;
}

/* NULL: not there. */
static inline void *table_find(const struct table *t, uint64_t hash, struct str id)
{
    int64_t slot = table_slot(t, hash, id);
    return slot == TABLE_NONE ? NULL : t->entries[slot].object;
}

void *table_find_hashed(const struct core_session *s, const struct table *t, struct str id);

/* The same without a hash: what was found last, which is often what is wanted, needs none. */
static inline void *table_find_id(const struct core_session *s, const struct table *t,
                                  struct str id)
{
    if (t->hint < t->used) {
        struct str *own = t->entries[t->hint].object;
        if (own != NULL && own->n == id.n && id_equal(own->p, id.p, id.n))
            return own;
    }
    return table_find_hashed(s, t, id);
}

void table_add(struct core_session *s, struct table *t, uint64_t hash, void *object);
void table_remove(struct core_session *s, struct table *t, int64_t slot);
void table_free(struct core_session *s, struct table *t); /* not the objects */

/* Walks the live objects in order: for (uint32_t at = 0; (x = table_next(t, &at)) != NULL;) */
static inline void *table_next(const struct table *t, uint32_t *at)
{
    while (*at < t->used) {
        void *object = t->entries[(*at)++].object;
        if (object != NULL)
            return object;
    }
    return NULL;
}

/* ---- labels: labels.c */

/* The outcome of merging given labels into present ones. */
struct label_merge {
    struct core_labels effect; /* what was given, but for removals of what is not there */
    uint32_t count;            /* labels afterwards */
    bool changed;
};

void labels_plan(const struct core_labels *present, const struct core_labels *given,
                 struct arena *scratch, struct label_merge *plan);
void labels_apply(struct core_session *s, struct core_labels *place,
                  const struct core_labels *given);
/* What, given to labels_apply, makes `from` into `to`. */
struct core_labels labels_diff(const struct core_labels *from, const struct core_labels *to,
                               struct arena *scratch);
void labels_free(struct core_session *s, const struct core_labels *labels);

/* ---- the state */

struct participant {
    struct str id; /* the agent's own bytes */
    struct agent *agent;
    struct thread *thread;
    uint64_t read;   /* every message of the thread up to here is read */
    uint64_t joined; /* seq of the event that brought it in */
    uint64_t *taken; /* messages above `read` acknowledged alone, ascending */
    uint32_t taken_n;
    uint32_t at; /* index in agent->part_of */
};

/* Whom to call when there is something for an agent. One allocation with all texts behind it. */
struct target {
    struct str url;
    struct str sealed; /* n == 0: none */
    struct str why;    /* of the breaker's being open; p == NULL */
    uint64_t set_seq;  /* of the event that set it */
    uint64_t realm;    /* names the life in which it was set */
    bool only_mentions;
    bool open;
};

struct agent {
    struct str id; /* bytes behind the struct */
    uint64_t hash;
    struct str description;
    struct str note;
    struct core_labels labels;
    int64_t priority;
    struct participant **part_of; /* in no particular order */
    uint32_t part_of_n;
    uint32_t part_of_cap;
    enum core_agent_status status;
    uint32_t lease_s; /* 0: none */
    bool lapsed;      /* its lease ran out and made it offline */
    struct target *target; /* NULL: none */
};

/* One allocation with all its strings behind it. Also serves as a view of a message elsewhere. */
struct message {
    uint64_t seq;
    int64_t ts_ms;
    struct str sender, content, data, reply_to;
    struct core_ids mentions;
    size_t size; /* of the allocation */
};

/* The newest messages of a thread: a circular buffer of `cap` (a power of two) pointers. */
struct window {
    struct message **ring;
    uint32_t cap;
    uint32_t head; /* index of the oldest */
    uint32_t count;
    uint64_t bytes;       /* content and data of the messages held */
    uint64_t older;       /* messages that have left */
    uint64_t evicted_seq; /* seq of the newest of those, 0: none */
    uint64_t last_seq;    /* seq of the newest message of all, 0: none */
};

struct thread {
    struct str id; /* bytes of id, name and creator behind the struct */
    uint64_t hash;
    struct str name;
    struct str creator;
    struct str summary;
    uint64_t created_seq;
    struct table participants;
    struct window window;
    bool closed;
};

/* An id other than the one the session was made with, and where it was forked from. One allocation
 * with all bytes behind it. */
struct origin {
    struct str id;
    struct core_parent parent; /* session.p == NULL: not a fork */
};

struct core_session {
    const struct core_heap *heap;
    const struct core_limits *limits;
    struct str id;         /* in *origin, or behind the struct, and then the epoch's bytes */
    struct str epoch;      /* behind the struct */
    struct origin *origin; /* NULL: none */

    struct {
        uint64_t seq;
        int64_t ts_ms;
    } now; /* the last event's */
    int64_t created_ms;
    uint64_t ttl_s;
    uint64_t creation; /* hash of what session.create gave */
    uint32_t window_messages;
    uint32_t window_bytes;
    bool closed;
    uint8_t made_id_n; /* length of the id it was made with */
    struct str summary;
    struct core_labels labels;

    struct table agents;
    uint32_t attended; /* of them: has a lease or a target, or has lapsed */
    struct table threads; /* never removed from: created_seq ascends */

    struct journal journal;
    enum core_type break_next; /* core_break_invariant_for_test */
};

/* Adds a record behind `copied` bytes that the caller has put at the journal's end, for which and
 * for the record there is room. */
static inline void journal_add(struct journal *j, enum journal_kind kind, void *p, size_t n,
                               size_t copied)
{
    struct journal_record record = {.p = p, .n = (uint32_t)n, .kind = kind};
    memcpy(j->p + j->n + copied, &record, sizeof(record));
    j->n += copied + sizeof(record);
}

/* Remembers the n bytes at p, where the journal is active. Call it before writing to them. It is
 * inline because n is nearly always a constant. */
static inline void journal_save(struct core_session *s, void *p, size_t n)
{
    struct journal *j = &s->journal;
    size_t copied = (n + 7) & ~(size_t)7;
    if (!j->active)
        return;
    assert(n <= JOURNAL_BYTES_MAX);
    if (j->cap - j->n < copied + sizeof(struct journal_record))
        journal_grow(s, copied + sizeof(struct journal_record));
    memcpy(j->p + j->n, p, n);
    journal_add(j, JOURNAL_BYTES, p, n, copied);
}

/* Overwrites one place of the state. */
#define state_set(s, place, ...)                                                                   \
    (journal_save((s), &(place), sizeof(place)), (void)((place) = (__VA_ARGS__)))

struct agent *agent_find(const struct core_session *s, struct str id);
struct thread *thread_find(const struct core_session *s, struct str id);
struct thread *thread_find_created(const struct core_session *s, uint64_t created_seq);
/* t and a may be NULL: no participant either. */
struct participant *participant_find(const struct thread *t, const struct agent *a);

/* ---- the verbs of a slice */

/* What one decision is about; passed to the decide verbs. */
struct deciding {
    const struct core_session *s;
    const struct core_command *command;
    struct arena *scratch;
    struct core_event *event;
    struct core_refusal *why;
};

/* Readers of binary input: what does not fit sets `failed` and reads as zero from then on. */
struct reader {
    const char *p;
    const char *end;
    bool failed;
    uint8_t version; /* of the snapshot that is being read */
};

/* Two states of which one view is to become the other; passed to the diff verbs. */
struct diffing {
    const struct core_session *from;
    const struct core_session *to;
    struct arena *scratch;
    struct buf *out;
};

/* How much of a message is told: all, no `content` and `data`, or nothing: it is counted alone. */
enum message_form { MESSAGE_FULL, MESSAGE_COMPACT, MESSAGE_COUNTED };

/* What of a state its view is to show; passed to the view verbs. */
struct viewing {
    const struct core_session *s;
    const struct core_parts *parts; /* NULL: all */
    enum message_form form;
    struct buf *out;
};

struct slice {
    const char *name;
    enum core_decision (*decide)(const struct deciding *d);
    /* 0, or -1 where the event cannot be; what was changed by then is taken back by the caller. */
    int (*apply)(struct core_session *s, const struct core_event *event, struct core_refusal *why);
    /* After apply: whether what the event touched is still sound. 0 or -1. */
    int (*check)(const struct core_session *s, const struct core_event *event,
                 struct core_refusal *why);
    void (*patch)(const struct core_event *event, struct buf *out);
    /* Operations for what `view` shows. NULL where there is no view. */
    void (*diff)(const struct diffing *d);
    /* Members of the state object; NULL: the slice shows within threads (thread_view). */
    void (*view)(const struct viewing *v);
    void (*encode)(const struct core_session *s, struct buf *out);
    /* Into an empty session; lists may live in scratch. Failure is told by in->failed. */
    void (*decode)(struct core_session *s, struct reader *in, struct arena *scratch);
    void (*release)(struct core_session *s); /* at the session's end */
};

extern const struct slice session_slice, agents_slice, threads_slice, messages_slice, reading_slice;

/* Helpers of the verbs: core.c */

/* Fills *why and says CORE_REFUSED. `format` makes the detail. */
__attribute__((format(printf, 4, 5))) enum core_decision
refuse(const struct deciding *d, enum core_error code, const char *field, const char *format, ...);
enum core_decision refuse_unknown_thread(const struct deciding *d); /* the field thread */
enum core_decision refuse_closed_thread(const struct deciding *d);
enum core_decision refuse_unknown_agent(const struct deciding *d, const char *field, struct str id);
enum core_decision refuse_outsider(const struct deciding *d, const char *field, struct str id);
enum core_decision refuse_too_many_labels(const struct deciding *d, uint32_t count);
/* Fills the event with the command's fields; the caller then adds what it works out. */
struct core_fields *event_from_command(const struct deciding *d);
/* "broken: what" into *why; always -1. */
int broken(struct core_refusal *why, const char *what);
/* The first of `letter` and the decimal seq, in scratch memory: t3, m42. */
struct str made_id(struct arena *scratch, char letter, uint64_t seq);

static inline uint32_t limit_of(const struct core_session *s, enum core_limit limit)
{
    return s->limits->max[limit];
}

static inline bool given(const struct core_fields *f, enum core_field field)
{
    return (f->given >> field & 1) != 0;
}

#define GIVEN(field) (UINT64_C(1) << CORE_FIELD_##field)
#define ID_PRINTF(id) (int)((id).n < CORE_ID_BYTES ? (id).n : CORE_ID_BYTES), (id).p

/* ---- what slices ask of each other */

/* agents.c */
void agent_joins(struct core_session *s, struct participant *p);
void agent_parts(struct core_session *s, struct participant *p);
/* threads.c */
struct participant *thread_join(struct core_session *s, struct thread *t, struct agent *a,
                                uint64_t read, uint64_t joined);
void thread_part(struct core_session *s, struct participant *p);
/* Members of a thread's object. */
void thread_view(const struct thread *t, enum message_form form, struct buf *out);

/* Folds doubles in a list of ids: one bit for each slot of the table they are found in. */
uint8_t *seen_begin(const struct table *t, struct arena *scratch);
static inline bool seen_before(uint8_t *seen, int64_t slot)
{
    bool before = (seen[slot >> 3] >> (slot & 7) & 1) != 0;
    seen[slot >> 3] |= (uint8_t)(1 << (slot & 7));
    return before;
}

/* messages.c */
struct message message_of_event(const struct core_event *event);
void message_json(const struct message *m, struct str thread, enum message_form form,
                  struct buf *out); /* thread.p NULL: without "thread" */
void messages_patch(const struct core_event *event, enum message_form form, struct buf *out);
void messages_close(struct core_session *s, struct thread *t);
void messages_free(struct core_session *s, struct thread *t);
/* Members of a thread's object. */
void messages_view(const struct thread *t, enum message_form form, struct buf *out);
void messages_diff(const struct diffing *d, const struct thread *from, const struct thread *to);

static inline const struct message *window_at(const struct window *w, uint32_t i)
{
    return w->ring[(w->head + i) & (w->cap - 1)];
}

/* Index of the oldest message of the window with a seq above `seq`; w->count: none. */
uint32_t window_after(const struct window *w, uint64_t seq);

/* reading.c */
bool participant_has_taken(const struct participant *p, uint64_t seq);
void reading_free(struct core_session *s, struct participant *p);
void reading_view(const struct thread *t, struct buf *out); /* members of a thread's object */
void reading_diff(const struct diffing *d, const struct thread *from, const struct thread *to);

/* inbox.c: what an inbox answer held, as its cursor says. */
struct cursor_part {
    uint64_t created_seq; /* of the thread */
    uint64_t *seqs;       /* where cursor.upto is 0: the messages, ascending */
    uint32_t seqs_n;
};

struct cursor {
    uint64_t at;   /* where the session stood */
    uint64_t upto; /* not 0: all that was unread up to here in each part's thread */
    struct cursor_part *parts;
    uint32_t parts_n;
};

/* False: not a cursor of this agent's inbox in this session. */
bool cursor_parse(const struct core_session *s, struct str agent, struct str text,
                  struct arena *scratch, struct cursor *cursor);

/* ---- bytes: codec.c */

void put_varint(struct buf *out, uint64_t value);
void put_signed(struct buf *out, int64_t value);
void put_text(struct buf *out, struct str text);          /* not null */
void put_nullable_text(struct buf *out, struct str text); /* may be null */
void put_seqs(struct buf *out, const uint64_t *seqs, uint32_t n);
void put_labels(struct buf *out, const struct core_labels *labels);
void put_ids(struct buf *out, const struct core_ids *ids);

uint64_t get_varint(struct reader *in);
uint32_t get_u32(struct reader *in);
uint64_t get_seq(struct reader *in); /* at most CORE_SAFE_INTEGER */
int64_t get_time(struct reader *in);
int64_t get_signed(struct reader *in);
enum core_agent_status get_status(struct reader *in);
bool get_bool(struct reader *in);
/* How many elements of at least one byte each follow: never more than there are bytes left. */
uint32_t get_count(struct reader *in);
struct str get_text(struct reader *in);
struct str get_nullable_text(struct reader *in);
struct str get_id(struct reader *in);
struct str get_session_id(struct reader *in); /* or a companion's */
uint32_t get_seqs(struct reader *in, struct arena *scratch, uint64_t **seqs);
struct core_labels get_labels(struct reader *in, struct arena *scratch);
struct core_ids get_ids(struct reader *in, struct arena *scratch);

#define TIME_MAX_MS INT64_C(253402300799999) /* the end of year 9999 */

/* ---- parts: parts.c */

/* Whether the parts (NULL: all) show this member of the root's object `name`. */
bool parts_show(const struct core_parts *parts, struct str name, struct str key);

/* ---- JSON: json.c */

void json_add_id(struct buf *out, struct str id); /* quoted; an id needs no escaping */
void json_add_number(struct buf *out, uint64_t value, bool nullable); /* nullable: 0 is null */
void json_add_ids(struct buf *out, const struct core_ids *ids);
/* "id": with the comma before it unless it is the first member. */
void json_add_member_id(struct buf *out, struct str id);
void json_add_reading(struct buf *out, uint64_t read, const uint64_t *taken, uint32_t taken_n);

/* One operation: patch_begin, the path, then patch_value, the value and patch_end; or, where there
 * is no value, patch_end_path. Commas between operations come by themselves. */
void patch_begin(struct buf *out, const char *op);
void patch_value(struct buf *out);
void patch_end(struct buf *out);
void patch_end_path(struct buf *out);
/* Replaces the member at `parent` + `id` + `member` where the texts differ. */
void patch_changed_text(struct buf *out, struct str parent, struct str id, struct str member,
                        struct str from, struct str to);
/* One operation per label, below the path `parent` + `id` + "/labels/"; both may be empty. */
void patch_labels(struct buf *out, struct str parent, struct str id,
                  const struct core_labels *labels);

#endif
