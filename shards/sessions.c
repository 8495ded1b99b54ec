/*
 * sessions: the directory of a shard's sessions. A keyed hash table finds one by id; a tree keeps
 * them in the order of their ids, for lists.
 *
 * An entry stays while its id has a life, while something of it is uncommitted (a 404 for a session
 * just deleted must wait for that commit like any other answer), and while someone pins it.
 */
#include "shards/shard.h"
#include "shards/siphash.h"

#include <stdio.h>
#include <stdlib.h>

enum { TABLE_BUCKETS_MIN = 64, TABLE_MOVES = 4 /* buckets moved by an insertion while growing */ };

static int session_order(const struct session *a, const struct session *b)
{
    return str_compare(session_id(a), session_id(b));
}

RB_GENERATE(session_tree, session, by_id, session_order)

uint64_t session_hash(const struct shard *shard, struct str id)
{
    return siphash(datadir_hash_key(shard->dir), id.p, id.n);
}

/* ---- the table. The shard is chosen by the hash's low part, the bucket by its high part. */

static struct session **table_bucket(struct session_table *table, int which, uint64_t hash)
{
    return &table->buckets[which][(hash >> 32) & table->mask[which]];
}

static void table_move_bucket(struct session_table *table)
{
    struct session *session = table->buckets[0][table->moved++];
    while (session != NULL) {
        struct session *next = session->hash_next;
        struct session **bucket = table_bucket(table, 1, session->hash);
        session->hash_next = *bucket;
        *bucket = session;
        session = next;
    }
    if (table->moved > table->mask[0]) {
        free(table->buckets[0]);
        table->buckets[0] = table->buckets[1];
        table->mask[0] = table->mask[1];
        table->buckets[1] = NULL;
        table->moved = 0;
    }
}

static void table_grow(struct session_table *table)
{
    if (table->buckets[0] == NULL) {
        table->buckets[0] = mem_zeroed(TABLE_BUCKETS_MIN, sizeof(struct session *));
        table->mask[0] = TABLE_BUCKETS_MIN - 1;
    } else if (table->buckets[1] == NULL && table->count > table->mask[0]) {
        table->mask[1] = table->mask[0] * 2 + 1;
        table->buckets[1] = mem_zeroed(table->mask[1] + 1, sizeof(struct session *));
        table->moved = 0;
    }
    for (int i = 0; i < TABLE_MOVES && table->buckets[1] != NULL; i++)
        table_move_bucket(table);
}

/* The bucket that holds (or would hold) a hash now. */
static struct session **table_bucket_now(struct session_table *table, uint64_t hash)
{
    bool moved = table->buckets[1] != NULL && ((hash >> 32) & table->mask[0]) < table->moved;
    return table_bucket(table, moved, hash);
}

struct session *session_find(struct shard *shard, struct str id)
{
    if (shard->table.count == 0)
        return NULL;
    uint64_t hash = session_hash(shard, id);
    struct session *session = *table_bucket_now(&shard->table, hash);
    while (session != NULL && (session->hash != hash || !str_equal(session_id(session), id)))
        session = session->hash_next;
    return session;
}

struct session *session_find_or_make(struct shard *shard, struct str id)
{
    struct session *session = session_find(shard, id);
    if (session != NULL)
        return session;
    table_grow(&shard->table);
    session = shard->heap.core.alloc(&shard->heap, sizeof(*session) + id.n);
    *session = (struct session){.hash = session_hash(shard, id), .id_size = (uint8_t)id.n};
    memcpy(session->id, id.p, id.n);
    struct session **bucket = table_bucket_now(&shard->table, session->hash);
    session->hash_next = *bucket;
    *bucket = session;
    shard->table.count++;
    RB_INSERT(session_tree, &shard->tree, session);
    return session;
}

void session_drop_if_vacant(struct shard *shard, struct session *session)
{
    if (session->core != NULL || session->pins != 0 || session->busy || session->queue != NULL)
        return;
    assert(session->feeds == NULL && session->waiters == NULL);
    struct session **at = table_bucket_now(&shard->table, session->hash);
    while (*at != session)
        at = &(*at)->hash_next;
    *at = session->hash_next;
    shard->table.count--;
    RB_REMOVE(session_tree, &shard->tree, session);
    shard->heap.core.free(&shard->heap, session, sizeof(*session) + session->id_size);
}

struct session *session_after(struct shard *shard, struct str id)
{
    struct session *at = RB_ROOT(&shard->tree);
    struct session *above = NULL;
    while (at != NULL) {
        bool is_above = id.p == NULL || str_compare(session_id(at), id) > 0;
        if (is_above)
            above = at;
        at = is_above ? RB_LEFT(at, by_id) : RB_RIGHT(at, by_id);
    }
    return above;
}

struct session *session_next(struct session *session)
{
    return RB_NEXT(session_tree, NULL, session);
}

/* ---- lives */

void session_epoch_text(const struct shard *shard, uint64_t epoch, char text[CORE_EPOCH_BYTES + 1])
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's base 32 */
    char reversed[16];
    unsigned n = 0;
    do {
        reversed[n++] = digits[epoch & 31];
        epoch >>= 5;
    } while (epoch != 0);
    unsigned at = 0;
    while (n != 0)
        text[at++] = reversed[--n];
    text[at] = '\0';
    uint64_t incarnation = datadir_incarnation(shard->dir);
    if (incarnation != 0)
        snprintf(text + at, CORE_EPOCH_BYTES + 1 - at, ".%llu", (unsigned long long)incarnation);
}

void session_begin(struct shard *shard, struct session *session, uint64_t epoch)
{
    assert(session->core == NULL);
    session->epoch = epoch != 0 ? epoch : ++shard->epochs;
    session_epoch_text(shard, session->epoch, session->epoch_text);
    struct str text = {session->epoch_text, strlen(session->epoch_text)};
    session->core = core_session_new(&shard->heap.core, &shard->limits, session_id(session), text);
    session->committed_seq = 0;
    session->head = session->committed_head = LOG_POSITION_NONE;
    session->records = 0;
    session->membership_seq = 0;
    shard->sessions++;
}

void session_end(struct shard *shard, struct session *session)
{
    core_session_free(session->core);
    session->core = NULL;
    keys_free(session);
    free(session->chain);
    session->chain = NULL;
    session->chain_n = session->chain_cap = 0;
    shard->sessions--;
}

void session_note_record(struct session *session, uint64_t last_seq, log_position position)
{
    session->head = position;
    if (++session->records % CHAIN_STRIDE != 0)
        return;
    if (session->chain_n == session->chain_cap) {
        session->chain_cap = session->chain_cap != 0 ? session->chain_cap * 2 : 4;
        session->chain = mem_realloc(session->chain, session->chain_cap * sizeof(*session->chain));
    }
    session->chain[session->chain_n++] = (struct chain_entry){last_seq, position};
}

void sessions_free(struct shard *shard)
{
    struct session *session;
    while ((session = RB_MIN(session_tree, &shard->tree)) != NULL) {
        RB_REMOVE(session_tree, &shard->tree, session);
        while (session->feeds != NULL) {
            struct feed *feed = session->feeds;
            session->feeds = feed->next;
            free(feed);
        }
        if (session->core != NULL)
            session_end(shard, session);
        shard->heap.core.free(&shard->heap, session, sizeof(*session) + session->id_size);
    }
    free(shard->table.buckets[0]);
    free(shard->table.buckets[1]);
    shard->table = (struct session_table){0};
}
