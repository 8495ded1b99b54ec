/*
 * The journal: how a session gets back to what it was.
 *
 * While the journal is active (core_begin, or one core_apply alone), every change to the state
 * leaves a record here: the bytes a place held before, an object that was made, or an object that
 * is no longer used. A record is its old bytes, padded to 8, followed by a struct record, so that
 * the journal is walked from its end:
 *
 *     undo: old bytes are put back, newest first, and what was made is freed
 *     keep: what is no longer used is freed; until then undo could need it
 *
 * As bytes and pointers come back just as they were, so does the order of every table.
 */
#include "core/internal.h"

enum record_kind { RECORD_BYTES, RECORD_MADE, RECORD_DROPPED };

struct record {
    void *p;
    uint32_t n;
    uint32_t kind;
};

enum { RECORD_BYTES_MAX = 1 << 30 };

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static void journal_release(struct core_session *s)
{
    struct journal *j = &s->journal;
    if (j->p != j->first)
        s->heap->free(s->heap->ctx, j->p, j->cap);
}

static void journal_grow(struct core_session *s, size_t more)
{
    struct journal *j = &s->journal;
    size_t cap = j->cap * 2;
    while (cap - j->n < more)
        cap *= 2;
    char *p = s->heap->alloc(s->heap->ctx, cap);
    memcpy(p, j->p, j->n);
    journal_release(s);
    j->p = p;
    j->cap = cap;
}

static void journal_record(struct core_session *s, enum record_kind kind, void *p, size_t n)
{
    assert(n <= RECORD_BYTES_MAX);
    struct journal *j = &s->journal;
    size_t copied = kind == RECORD_BYTES ? padded(n) : 0;
    struct record record = {.p = p, .n = (uint32_t)n, .kind = kind};
    if (j->cap - j->n < copied + sizeof(record))
        journal_grow(s, copied + sizeof(record));
    if (kind == RECORD_BYTES)
        memcpy(j->p + j->n, p, n);
    memcpy(j->p + j->n + copied, &record, sizeof(record));
    j->n += copied + sizeof(record);
}

void journal_save(struct core_session *s, void *p, size_t n)
{
    if (s->journal.active)
        journal_record(s, RECORD_BYTES, p, n);
}

void *state_alloc(struct core_session *s, size_t size)
{
    void *p = s->heap->alloc(s->heap->ctx, size);
    if (s->journal.active)
        journal_record(s, RECORD_MADE, p, size);
    return p;
}

void state_free(struct core_session *s, void *p, size_t size)
{
    if (p == NULL)
        return;
    if (s->journal.active) {
        journal_record(s, RECORD_DROPPED, p, size);
        s->journal.dropped++;
    } else {
        s->heap->free(s->heap->ctx, p, size);
    }
}

void state_free_text(struct core_session *s, struct str text)
{
    if (text.n != 0)
        state_free(s, (void *)(uintptr_t)text.p, text.n);
}

void state_set_text(struct core_session *s, struct str *place, struct str text)
{
    struct str copy = {text.p == NULL ? NULL : "", text.n};
    if (text.p != NULL && text.n != 0) {
        char *p = state_alloc(s, text.n);
        memcpy(p, text.p, text.n);
        copy.p = p;
    }
    state_free_text(s, *place);
    state_set(s, *place, copy);
}

/* Cuts the newest record off and returns it; its old bytes then begin at j->p + j->n. */
static struct record journal_pop(struct journal *j)
{
    struct record record;
    assert(j->n >= sizeof(record));
    memcpy(&record, j->p + j->n - sizeof(record), sizeof(record));
    j->n -= sizeof(record) + (record.kind == RECORD_BYTES ? padded(record.n) : 0);
    return record;
}

void journal_begin(struct core_session *s)
{
    struct journal *j = &s->journal;
    assert(!j->active);
    j->p = j->first;
    j->n = 0;
    j->cap = JOURNAL_FIRST_BYTES;
    j->dropped = 0;
    j->active = true;
}

void journal_rewind(struct core_session *s, size_t mark)
{
    struct journal *j = &s->journal;
    assert(j->active && mark <= j->n);
    while (j->n > mark) {
        struct record record = journal_pop(j);
        if (record.kind == RECORD_BYTES)
            memcpy(record.p, j->p + j->n, record.n);
        else if (record.kind == RECORD_MADE)
            s->heap->free(s->heap->ctx, record.p, record.n);
        else
            j->dropped--;
    }
    assert(j->n == mark);
}

void journal_end(struct core_session *s)
{
    struct journal *j = &s->journal;
    assert(j->active);
    while (j->dropped != 0) {
        struct record record = journal_pop(j);
        if (record.kind == RECORD_DROPPED) {
            s->heap->free(s->heap->ctx, record.p, record.n);
            j->dropped--;
        }
    }
    journal_release(s);
    j->active = false;
}

void core_begin(struct core_session *s)
{
    journal_begin(s);
}

void core_keep(struct core_session *s)
{
    journal_end(s);
}

void core_undo(struct core_session *s)
{
    journal_rewind(s, 0);
    journal_end(s);
}
