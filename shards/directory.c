/*
 * directory: every session id of a shard, in memory or not. A keyed hash table finds one by id; a
 * tree keeps them in the order of their ids, for lists.
 *
 * An entry stays while its id has a life, and while there is a session object for it (which may
 * hold what is not committed yet: a 404 for a session just deleted must wait for that commit like
 * any other answer).
 */
#include "shards/shard.h"
#include "shards/siphash.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    TABLE_BUCKETS_MIN = 64,
    TABLE_LOAD = 2,  /* entries a bucket before it grows: memory against steps */
    TABLE_MOVES = 4, /* buckets moved by an insertion while growing */
};

_Static_assert(offsetof(struct entry, id) == 78, "what an idle session costs");

static int entry_order(const struct entry *a, const struct entry *b)
{
    return str_compare(entry_id(a), entry_id(b));
}

RB_GENERATE(entry_tree, entry, by_id, entry_order)

uint64_t entry_hash(const struct shard *shard, struct str id)
{
    return siphash(datadir_hash_key(shard->dir), id.p, id.n);
}

/* ---- the table. The shard is chosen by the hash's low part, the bucket by its high part. */

static struct entry **table_bucket(struct entry_table *table, int which, uint32_t hash)
{
    return &table->buckets[which][hash & table->mask[which]];
}

static void table_move_bucket(struct entry_table *table)
{
    struct entry *entry = table->buckets[0][table->moved++];
    while (entry != NULL) {
        struct entry *next = entry->hash_next;
        struct entry **bucket = table_bucket(table, 1, entry->hash);
        entry->hash_next = *bucket;
        *bucket = entry;
        entry = next;
    }
    if (table->moved > table->mask[0]) {
        free(table->buckets[0]);
        table->buckets[0] = table->buckets[1];
        table->mask[0] = table->mask[1];
        table->buckets[1] = NULL;
        table->moved = 0;
    }
}

static void table_grow(struct entry_table *table)
{
    if (table->buckets[0] == NULL) {
        table->buckets[0] = mem_zeroed(TABLE_BUCKETS_MIN, sizeof(struct entry *));
        table->mask[0] = TABLE_BUCKETS_MIN - 1;
    } else if (table->buckets[1] == NULL && table->count > TABLE_LOAD * (uint64_t)table->mask[0]) {
        table->mask[1] = table->mask[0] * 2 + 1;
        table->buckets[1] = mem_zeroed(table->mask[1] + 1, sizeof(struct entry *));
        table->moved = 0;
    }
    for (int i = 0; i < TABLE_MOVES && table->buckets[1] != NULL; i++)
        table_move_bucket(table);
}

/* The bucket that holds (or would hold) a hash now. */
static struct entry **table_bucket_now(struct entry_table *table, uint32_t hash)
{
    bool moved = table->buckets[1] != NULL && (hash & table->mask[0]) < table->moved;
    return table_bucket(table, moved, hash);
}

void entries_fetch(struct shard *shard, const uint64_t *hashes, unsigned n)
{
    enum { LINE_BYTES = 64 };
    struct entry **buckets[ENTRIES_FETCHED], *entries[ENTRIES_FETCHED];
    struct session *sessions[ENTRIES_FETCHED];
    assert(n <= ENTRIES_FETCHED);
    if (shard->table.count == 0)
        return;
    for (unsigned i = 0; i < n; i++) {
        buckets[i] = table_bucket_now(&shard->table, (uint32_t)(hashes[i] >> 32));
        __builtin_prefetch(buckets[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        entries[i] = *buckets[i];
        __builtin_prefetch(entries[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        struct entry *entry = entries[i];
        while (entry != NULL && entry->hash != (uint32_t)(hashes[i] >> 32))
            entry = entry->hash_next;
        sessions[i] = entry != NULL && entry->flags & ENTRY_ACTIVE ? entry->u.session : NULL;
        for (unsigned at = 0; sessions[i] != NULL && at < sizeof(struct session); at += LINE_BYTES)
            __builtin_prefetch((char *)sessions[i] + at, 1);
    }
    for (unsigned step = 0; step < CORE_FETCH_STEPS; step++) {
        for (unsigned i = 0; i < n; i++) {
            if (sessions[i] != NULL && sessions[i]->core != NULL)
                core_session_fetch(sessions[i]->core, step);
        }
    }
}

struct entry *entry_find_hashed(struct shard *shard, struct str id, uint64_t hash)
{
    if (shard->table.count == 0)
        return NULL;
    uint32_t high = (uint32_t)(hash >> 32);
    struct entry *entry = *table_bucket_now(&shard->table, high);
    while (entry != NULL && (entry->hash != high || !str_equal(entry_id(entry), id)))
        entry = entry->hash_next;
    return entry;
}

struct entry *entry_find(struct shard *shard, struct str id)
{
    return entry_find_hashed(shard, id, entry_hash(shard, id));
}

struct entry *entry_find_or_make(struct shard *shard, struct str id)
{
    struct entry *entry = entry_find(shard, id);
    if (entry != NULL)
        return entry;
    table_grow(&shard->table);
    entry = shard->heap.core.alloc(&shard->heap, offsetof(struct entry, id) + id.n);
    memset(entry, 0, offsetof(struct entry, id));
    shard->entries_bytes += offsetof(struct entry, id) + id.n;
    entry->hash = (uint32_t)(entry_hash(shard, id) >> 32);
    entry->id_size = (uint8_t)id.n;
    memcpy(entry->id, id.p, id.n);
    struct entry **bucket = table_bucket_now(&shard->table, entry->hash);
    entry->hash_next = *bucket;
    *bucket = entry;
    shard->table.count++;
    RB_INSERT(entry_tree, &shard->tree, entry);
    return entry;
}

static void entry_free(struct shard *shard, struct entry *entry)
{
    shard->entries_bytes -= offsetof(struct entry, id) + entry->id_size;
    shard->heap.core.free(&shard->heap, entry, offsetof(struct entry, id) + entry->id_size);
}

void entry_drop_if_vacant(struct shard *shard, struct entry *entry)
{
    if (entry->flags & (ENTRY_ALIVE | ENTRY_ACTIVE | ENTRY_TTL))
        return;
    struct entry **at = table_bucket_now(&shard->table, entry->hash);
    while (*at != entry)
        at = &(*at)->hash_next;
    *at = entry->hash_next;
    shard->table.count--;
    RB_REMOVE(entry_tree, &shard->tree, entry);
    entry_free(shard, entry);
}

/* The first whose id is above `id`, or is not below it where `least` is 0. */
static struct entry *entry_first(struct shard *shard, struct str id, int least)
{
    struct entry *at = RB_ROOT(&shard->tree);
    struct entry *above = NULL;
    while (at != NULL) {
        if (str_compare(entry_id(at), id) >= least) {
            above = at;
            at = RB_LEFT(at, by_id);
        } else {
            at = RB_RIGHT(at, by_id);
        }
    }
    return above;
}

struct entry *entry_after(struct shard *shard, struct str id)
{
    return id.p == NULL ? RB_MIN(entry_tree, &shard->tree) : entry_first(shard, id, 1);
}

struct entry *entry_at_or_after(struct shard *shard, struct str id)
{
    return entry_first(shard, id, 0);
}

struct entry *entry_next(struct entry *entry)
{
    return RB_NEXT(entry_tree, NULL, entry);
}

void entry_count_life(struct shard *shard, const struct entry *entry, int by)
{
    *(entry_is_companion(entry) ? &shard->companions : &shard->sessions) += (uint32_t)by;
}

/* A session whose first record is not in the log yet has no life to speak of. */
bool entry_life(const struct entry *entry, struct entry_life *life)
{
    if ((entry->flags & (ENTRY_ACTIVE | ENTRY_QUARANTINED)) == ENTRY_ACTIVE) {
        const struct session *session = entry->u.session;
        if (session->core != NULL || !session->busy) {
            *life = (struct entry_life){session->epoch, session->head, session->base};
            return session->core != NULL && session->head != LOG_POSITION_NONE;
        } /* else it is being loaded: the entry still says where it stands */
    }
    *life = (struct entry_life){entry->epoch, entry->head, entry->base};
    return (entry->flags & ENTRY_ALIVE) != 0;
}

/* ---- signatures of labels */

static uint64_t signature_bits(uint64_t hash)
{
    return UINT64_C(1) << (hash & 63) | UINT64_C(1) << (hash >> 6 & 63);
}

static uint64_t signature_of_key(struct str key)
{
    return signature_bits(XXH3_64bits(key.p, key.n));
}

static uint64_t signature_of_value(struct str key, struct str value)
{
    uint64_t seed = XXH3_64bits(key.p, key.n);
    return signature_bits(XXH3_64bits_withSeed(value.p, value.n, seed));
}

uint64_t signature_of(const struct core_labels *labels)
{
    uint64_t signature = 0;
    for (uint32_t i = 0; i < labels->n; i++) {
        signature |= signature_of_key(labels->items[i].key);
        if (labels->items[i].value.p != NULL)
            signature |= signature_of_value(labels->items[i].key, labels->items[i].value);
    }
    return signature;
}

uint64_t signature_of_filter(const struct request_label_filter *filter)
{
    uint64_t signature = signature_of_key(filter->key);
    if (filter->value.p != NULL)
        signature |= signature_of_value(filter->key, filter->value);
    return signature;
}

void directory_free(struct shard *shard)
{
    struct entry *entry;
    while ((entry = RB_MIN(entry_tree, &shard->tree)) != NULL) {
        RB_REMOVE(entry_tree, &shard->tree, entry);
        entry_free(shard, entry);
    }
    free(shard->table.buckets[0]);
    free(shard->table.buckets[1]);
    shard->table = (struct entry_table){0};
}
