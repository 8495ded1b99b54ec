/*
 * The journal: how a session gets back to what it was.
 *
 * While the journal is active (core_begin, or one core_apply alone), every change to the state
 * leaves a record here: the bytes a place held before, an object that was made, or an object that
 * is no longer used. A record is its old bytes, padded to 8, followed by a struct journal_record,
 * so that the journal is walked from its end:
 *
 *     undo: old bytes are put back, newest first, and what was made is freed
 *     keep: what is no longer used is freed; until then undo could need it
 *
 * As bytes and pointers come back just as they were, so does the order of every table.
 */
#include "core/internal.h"

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

void journal_grow(struct core_session *s, size_t more)
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

static void journal_note(struct core_session *s, enum journal_kind kind, void *p, size_t n)
{
    struct journal *j = &s->journal;
    assert(n <= JOURNAL_BYTES_MAX);
    if (j->cap - j->n < sizeof(struct journal_record))
        journal_grow(s, sizeof(struct journal_record));
    journal_add(j, kind, p, n, 0);
}

void *state_alloc(struct core_session *s, size_t size)
{
    void *p = s->heap->alloc(s->heap->ctx, size);
    if (s->journal.active)
        journal_note(s, JOURNAL_MADE, p, size);
    return p;
}

void state_free(struct core_session *s, void *p, size_t size)
{
    if (p == NULL)
        return;
    if (s->journal.active) {
        journal_note(s, JOURNAL_DROPPED, p, size);
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
static struct journal_record journal_pop(struct journal *j)
{
    struct journal_record record;
    assert(j->n >= sizeof(record));
    memcpy(&record, j->p + j->n - sizeof(record), sizeof(record));
    j->n -= sizeof(record) + (record.kind == JOURNAL_BYTES ? padded(record.n) : 0);
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
        struct journal_record record = journal_pop(j);
        if (record.kind == JOURNAL_BYTES)
            memcpy(record.p, j->p + j->n, record.n);
        else if (record.kind == JOURNAL_MADE)
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
        struct journal_record record = journal_pop(j);
        if (record.kind == JOURNAL_DROPPED) {
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
