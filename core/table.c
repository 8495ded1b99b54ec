/*
 * Tables: objects by id, kept in the order they were added.
 *
 * The entries are an array in that order; a removed one stays as a hole until the array is full
 * and written anew. Beyond INDEX_FROM entries an index finds them: open addressing with linear
 * probing over slot numbers, never more than half full. A hole keeps its place in the index, so
 * that probing goes on behind it; so removing is one write, and undoing it another.
 *
 * A table remembers the slot where it found something last. That is looked at first, and held
 * against the id like any other: so it need not be kept right when entries go or come back.
 *
 * Ids are chosen by clients: the hash is seeded with limits->hash_seed.
 */
#include "core/internal.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { TABLE_FIRST_CAP = 4, INDEX_FROM = 9 };

uint64_t table_hash(const struct core_session *s, struct str id)
{
    return XXH3_64bits_withSeed(id.p, id.n, s->limits->hash_seed);
}

uint64_t hash_stable(struct str bytes)
{
    return XXH3_64bits(bytes.p, bytes.n);
}

int64_t table_slot_indexed(const struct table *t, uint64_t hash, struct str id)
{
    uint32_t mask = t->cap * 2 - 1;
    for (uint32_t at = (uint32_t)hash & mask; t->index[at] != 0; at = (at + 1) & mask) {
        if (table_entry_is(&t->entries[t->index[at] - 1], hash, id))
            return t->index[at] - 1;
    }
    return TABLE_NONE;
}

void *table_find_hashed(const struct core_session *s, const struct table *t, struct str id)
{
    int64_t slot = table_slot(t, table_hash(s, id), id);
    if (slot == TABLE_NONE)
        return NULL;
    ((struct table *)(uintptr_t)t)->hint = (uint32_t)slot;
    return t->entries[slot].object;
}

static uint32_t *index_place(const struct table *t, uint64_t hash)
{
    uint32_t mask = t->cap * 2 - 1;
    uint32_t at = (uint32_t)hash & mask;
    while (t->index[at] != 0)
        at = (at + 1) & mask;
    return &t->index[at];
}

static size_t index_size(uint32_t cap)
{
    return cap < INDEX_FROM ? 0 : (size_t)cap * 2 * sizeof(uint32_t);
}

void table_free(struct core_session *s, struct table *t)
{
    state_free(s, t->entries, t->cap * sizeof(*t->entries));
    state_free(s, t->index, index_size(t->cap));
}

/* Writes the table anew without holes and with room for one more at least. */
static void table_rebuild(struct core_session *s, struct table *t)
{
    struct table new = {.cap = TABLE_FIRST_CAP};
    while (new.cap < t->live + t->live / 2 + 1)
        new.cap *= 2;
    new.entries = state_alloc(s, new.cap * sizeof(*new.entries));
    if (index_size(new.cap) != 0) {
        new.index = state_alloc(s, index_size(new.cap));
        memset(new.index, 0, index_size(new.cap));
    }
    for (uint32_t slot = 0; slot < t->used; slot++) {
        if (t->entries[slot].object == NULL)
            continue;
        new.entries[new.used++] = t->entries[slot];
        if (new.index != NULL)
            *index_place(&new, t->entries[slot].hash) = new.used;
    }
    new.live = new.used;
    table_free(s, t);
    state_set(s, *t, new);
}

void table_add(struct core_session *s, struct table *t, uint64_t hash, void *object)
{
    if (t->used == t->cap)
        table_rebuild(s, t);
    assert(t->used < t->cap);
    /* Entries from `used` on are nothing to anyone: no need to remember them. */
    t->entries[t->used] = (struct table_entry){.hash = hash, .object = object};
    if (t->index != NULL)
        state_set(s, *index_place(t, hash), t->used + 1);
    state_set(s, t->used, t->used + 1);
    state_set(s, t->live, t->live + 1);
}

void table_remove(struct core_session *s, struct table *t, int64_t slot)
{
    assert(slot >= 0 && slot < t->used && t->entries[slot].object != NULL);
    state_set(s, t->entries[slot].object, NULL);
    state_set(s, t->live, t->live - 1);
}

uint8_t *seen_begin(const struct table *t, struct arena *scratch)
{
    size_t size = t->used / 8 + 1;
    return memset(arena_alloc(scratch, size), 0, size);
}
