/*
 * keys: idempotency keys of a session, the newest SESSION_KEYS_MAX of the last SESSION_KEYS_MS of
 * event time. Only hashes are kept (XXH3-128), and where the answer lies in the log.
 *
 * A ring of entries in the order they came, and an open-addressed index of it by key hash (linear
 * probing, at most half full, rebuilt when it grows; removal by shifting back).
 */
#define XXH_INLINE_ALL
#include "shards/shard.h"

#include <stdlib.h>
#include <xxhash.h>

struct keys {
    struct key_entry *entries; /* a ring of `cap` */
    uint32_t *index;           /* 2 * cap slots: position in the ring + 1; 0 is empty */
    uint32_t cap, first, n;
    const struct core_heap *heap; /* the shard's: they count as the session's memory */
};

static struct core_hash hash_of(XXH128_hash_t hash)
{
    return (struct core_hash){hash.low64, hash.high64};
}

static bool hash_equal(struct core_hash a, struct core_hash b)
{
    return a.low == b.low && a.high == b.high;
}

struct core_hash key_hash(struct str caller, struct str key)
{
    XXH3_state_t state;
    uint64_t caller_size = caller.n; /* keeps ("a","bc") and ("ab","c") apart */
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, &caller_size, sizeof(caller_size));
    XXH3_128bits_update(&state, caller.p, caller.n);
    XXH3_128bits_update(&state, key.p, key.n);
    return hash_of(XXH3_128bits_digest(&state));
}

/* ---- bodies: the decoded commands, each given field with its name's number and its length.
 * Decoding has already put data and labels into canonical form, so that two spellings of the same
 * JSON hash alike. */

static void hash_number(XXH3_state_t *state, uint64_t value)
{
    XXH3_128bits_update(state, &value, sizeof(value));
}

static void hash_str(XXH3_state_t *state, struct str s)
{
    hash_number(state, s.p != NULL ? s.n : UINT64_MAX);
    if (s.n != 0)
        XXH3_128bits_update(state, s.p, s.n);
}

static void hash_field(XXH3_state_t *state, const struct core_field_spec *spec, const void *at)
{
    hash_number(state, spec->field);
    switch ((enum core_kind)spec->kind) {
    case KIND_ID:
    case KIND_TEXT:
    case KIND_MESSAGE:
    case KIND_JSON:
    case KIND_SECRET:
        hash_str(state, *(const struct str *)at);
        return;
    case KIND_LABELS: {
        const struct core_labels *labels = at;
        hash_number(state, labels->n);
        for (uint32_t i = 0; i < labels->n; i++) {
            hash_str(state, labels->items[i].key);
            hash_str(state, labels->items[i].value);
        }
        return;
    }
    case KIND_IDS: {
        const struct core_ids *ids = at;
        hash_number(state, ids->n);
        for (uint32_t i = 0; i < ids->n; i++)
            hash_str(state, ids->items[i]);
        return;
    }
    case KIND_STATUS:
        hash_number(state, *(const enum core_agent_status *)at);
        return;
    case KIND_I64:
    case KIND_U64:
        hash_number(state, *(const uint64_t *)at);
        return;
    case KIND_U32:
        hash_number(state, *(const uint32_t *)at);
        return;
    case KIND_BOOL:
        hash_number(state, *(const bool *)at);
        return;
    case KIND_SEQS:
    case KIND_READINGS:
        break;
    }
    assert(!"a kind that commands have");
}

static void hash_command(XXH3_state_t *state, const struct request_command *item)
{
    if (item->bad != NULL) {
        /* Its bytes were no command: what was wrong with it stands for it. */
        hash_str(state, (struct str){item->bad->detail, strlen(item->bad->detail)});
        return;
    }
    const struct core_type_spec *spec = core_type_spec(item->command.type);
    hash_number(state, item->command.type);
    hash_number(state, item->has_expected ? item->expected_seq : UINT64_MAX);
    for (unsigned i = 0; i < spec->command_fields_n; i++) {
        const struct core_field_spec *field = &spec->command_fields[i];
        if (item->command.f.given & UINT64_C(1) << field->field)
            hash_field(state, field, (const char *)&item->command.f + field->offset);
    }
}

struct core_hash key_body_hash(const struct request_command *commands, uint32_t n, bool batch,
                               bool atomic)
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    hash_number(&state, batch ? 2 + atomic : 0);
    for (uint32_t i = 0; i < n; i++)
        hash_command(&state, &commands[i]);
    return hash_of(XXH3_128bits_digest(&state));
}

/* ---- the table */

static uint32_t keys_slot_mask(const struct keys *keys)
{
    return keys->cap * 2 - 1;
}

static struct key_entry *keys_at(const struct keys *keys, uint32_t order)
{
    return &keys->entries[(keys->first + order) & (keys->cap - 1)];
}

static void keys_index_add(struct keys *keys, uint32_t at)
{
    uint32_t slot = (uint32_t)keys->entries[at].key.low & keys_slot_mask(keys);
    while (keys->index[slot] != 0)
        slot = (slot + 1) & keys_slot_mask(keys);
    keys->index[slot] = at + 1;
}

static void keys_index_remove(struct keys *keys, uint32_t at)
{
    uint32_t mask = keys_slot_mask(keys);
    uint32_t hole = (uint32_t)keys->entries[at].key.low & mask;
    while (keys->index[hole] != at + 1)
        hole = (hole + 1) & mask;
    for (uint32_t slot = (hole + 1) & mask; keys->index[slot] != 0; slot = (slot + 1) & mask) {
        uint32_t home = (uint32_t)keys->entries[keys->index[slot] - 1].key.low & mask;
        if (((slot - home) & mask) >= ((slot - hole) & mask)) {
            keys->index[hole] = keys->index[slot];
            hole = slot;
        }
    }
    keys->index[hole] = 0;
}

static void keys_release(struct keys *keys)
{
    const struct core_heap *heap = keys->heap;
    if (keys->cap == 0)
        return;
    heap->free(heap->ctx, keys->entries, keys->cap * sizeof(*keys->entries));
    heap->free(heap->ctx, keys->index, 2 * keys->cap * sizeof(*keys->index));
}

static void keys_grow(struct keys *keys)
{
    struct keys grown = {
        .cap = keys->cap != 0 ? keys->cap * 2 : 8, .n = keys->n, .heap = keys->heap};
    grown.entries = keys->heap->alloc(keys->heap->ctx, grown.cap * sizeof(*grown.entries));
    grown.index = keys->heap->alloc(keys->heap->ctx, 2 * grown.cap * sizeof(*grown.index));
    memset(grown.index, 0, 2 * grown.cap * sizeof(*grown.index));
    for (uint32_t i = 0; i < keys->n; i++) {
        grown.entries[i] = *keys_at(keys, i);
        keys_index_add(&grown, i);
    }
    keys_release(keys);
    *keys = grown;
}

static void keys_forget_oldest(struct keys *keys)
{
    keys_index_remove(keys, keys->first);
    keys->first = (keys->first + 1) & (keys->cap - 1);
    keys->n--;
}

struct key_entry *keys_find(const struct session *session, struct core_hash key, int64_t now_ms)
{
    struct keys *keys = session->keys;
    if (keys == NULL || keys->n == 0)
        return NULL;
    uint32_t slot = (uint32_t)key.low & keys_slot_mask(keys);
    for (; keys->index[slot] != 0; slot = (slot + 1) & keys_slot_mask(keys)) {
        struct key_entry *entry = &keys->entries[keys->index[slot] - 1];
        if (hash_equal(entry->key, key))
            return now_ms - entry->ts_ms <= SESSION_KEYS_MS ? entry : NULL;
    }
    return NULL;
}

void keys_add(struct shard *shard, struct session *session, const struct key_entry *entry)
{
    struct keys *keys = session->keys;
    if (keys == NULL) {
        keys = shard->heap.core.alloc(&shard->heap, sizeof(*keys));
        *keys = (struct keys){.heap = &shard->heap.core};
        session->keys = keys;
    }
    if (keys->n == keys->cap)
        keys_grow(keys);
    uint32_t at = (keys->first + keys->n) & (keys->cap - 1);
    keys->entries[at] = *entry;
    keys->n++;
    keys_index_add(keys, at);
}

void keys_undo(struct session *session, uint32_t n)
{
    while (n-- != 0) {
        struct keys *keys = session->keys;
        keys->n--;
        keys_index_remove(keys, (keys->first + keys->n) & (keys->cap - 1));
    }
}

void keys_place(struct session *session, uint32_t n, log_position position)
{
    struct keys *keys = session->keys;
    if (n == 0)
        return;
    int64_t newest_ms = keys_at(keys, keys->n - 1)->ts_ms;
    for (uint32_t i = keys->n - n; i < keys->n; i++)
        keys_at(keys, i)->position = position;
    while (keys->n > SESSION_KEYS_MAX || newest_ms - keys_at(keys, 0)->ts_ms > SESSION_KEYS_MS)
        keys_forget_oldest(keys);
}

void keys_free(struct session *session)
{
    struct keys *keys = session->keys;
    if (keys == NULL)
        return;
    keys_release(keys);
    keys->heap->free(keys->heap->ctx, keys, sizeof(*keys));
    session->keys = NULL;
}

uint32_t keys_count(const struct session *session)
{
    return session->keys != NULL ? session->keys->n : 0;
}

void keys_encode(const struct session *session, struct buf *body)
{
    for (uint32_t i = 0; i < keys_count(session); i++) {
        struct key_entry entry = *keys_at(session->keys, i);
        entry.flags |= KEY_PLACED;
        record_add_key(body, &entry, (struct str){0});
    }
}
