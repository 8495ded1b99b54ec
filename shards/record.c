/*
 * record: the body of a record in a session's chain.
 *
 *     varint    number of keys
 *     key *     key hash 16, body hash 16, flags 1, varint seq, varint ts_ms,
 *               with KEY_PLACED: varint position,
 *               else with KEY_BATCH: varint size and the answer's bytes
 *     event *   core_event_encode, as many as the record's header says
 *
 * and where the record is a snapshot
 *
 *     chain 32, varint membership_seq, varint log_bytes, varint first, varint ordinal,
 *     varint number of skips, skip *: varint seq, varint ts_ms, varint position
 *     core_snapshot_encode to the end
 *
 * A TOMBSTONE holds varint first, varint log_bytes; a PIN or UNPIN varint at, varint epoch and the
 * id of the child.
 *
 * Idempotency keys lie in the same record as what they guard: either both survive a crash or
 * neither. A snapshot repeats all that are still kept, so that what lies before it is not needed to
 * load the session. Integers little-endian, varints LEB128.
 */
#include "shards/record.h"

enum { RECORD_KEY_HEAD_BYTES = 33, VARINT_BYTES_MAX = 10 };

static void record_add_varint(struct buf *body, uint64_t value)
{
    char *p = buf_reserve(body, VARINT_BYTES_MAX);
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        p[n++] = (char)(value | 0x80);
    p[n++] = (char)value;
    body->n += n;
}

static int record_read_varint(struct str *in, uint64_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX && i < in->n; i++) {
        uint8_t byte = (uint8_t)in->p[i];
        *value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *in = (struct str){in->p + i + 1, in->n - i - 1};
            return 0;
        }
    }
    return -1;
}

void record_add_count(struct buf *body, uint32_t keys)
{
    record_add_varint(body, keys);
}

void record_add_key(struct buf *body, const struct key_entry *entry, struct str answer)
{
    buf_add(body, &entry->key, sizeof(entry->key));
    buf_add(body, &entry->body, sizeof(entry->body));
    buf_add_byte(body, (char)entry->flags);
    record_add_varint(body, entry->seq);
    record_add_varint(body, (uint64_t)entry->ts_ms);
    if (entry->flags & KEY_PLACED) {
        record_add_varint(body, entry->position);
    } else if (entry->flags & KEY_BATCH) {
        record_add_varint(body, answer.n);
        buf_add_str(body, answer);
    }
}

void record_add_snapshot(struct buf *body, const struct record_snapshot *snapshot)
{
    buf_add(body, snapshot->chain.bytes, sizeof(snapshot->chain.bytes));
    record_add_varint(body, snapshot->membership_seq);
    record_add_varint(body, snapshot->log_bytes);
    record_add_varint(body, snapshot->first);
    record_add_varint(body, snapshot->ordinal);
    record_add_varint(body, snapshot->skips_n);
    for (uint32_t i = 0; i < snapshot->skips_n; i++) {
        record_add_varint(body, snapshot->skips[i].seq);
        record_add_varint(body, (uint64_t)snapshot->skips[i].ts_ms);
        record_add_varint(body, snapshot->skips[i].position);
    }
}

int record_read_begin(struct record_reader *reader, const struct log_record *record)
{
    uint64_t keys;
    *reader = (struct record_reader){
        .left = record->body,
        .events_left = record->events,
        .seq = record->seq,
        .snapshot = record->type == LOG_RECORD_SNAPSHOT,
        .cut = (record->flags & RECORD_CUT) != 0,
    };
    if (record_read_varint(&reader->left, &keys) != 0 || keys > record->body.n)
        return -1;
    reader->keys_left = (uint32_t)keys;
    return 0;
}

int record_read_key(struct record_reader *reader, struct key_entry *entry, struct str *answer)
{
    struct str *in = &reader->left;
    if (reader->keys_left == 0)
        return 0;
    if (in->n < RECORD_KEY_HEAD_BYTES)
        return -1;
    reader->keys_left--;
    *entry = (struct key_entry){.flags = (uint8_t)in->p[RECORD_KEY_HEAD_BYTES - 1]};
    memcpy(&entry->key, in->p, sizeof(entry->key));
    memcpy(&entry->body, in->p + sizeof(entry->key), sizeof(entry->body));
    *in = (struct str){in->p + RECORD_KEY_HEAD_BYTES, in->n - RECORD_KEY_HEAD_BYTES};
    uint64_t ts;
    if (record_read_varint(in, &entry->seq) != 0 || record_read_varint(in, &ts) != 0)
        return -1;
    entry->ts_ms = (int64_t)ts;
    *answer = (struct str){in->p, 0};
    if (entry->flags & KEY_PLACED) {
        if (record_read_varint(in, &entry->position) != 0)
            return -1;
    } else if (entry->flags & KEY_BATCH) {
        uint64_t size;
        if (record_read_varint(in, &size) != 0 || size > in->n)
            return -1;
        *answer = (struct str){in->p, (size_t)size};
        *in = (struct str){in->p + size, in->n - (size_t)size};
    }
    return 1;
}

int record_skip_keys(struct record_reader *reader)
{
    struct key_entry key;
    struct str answer;
    int more;
    while ((more = record_read_key(reader, &key, &answer)) == 1)
        continue;
    return more;
}

int record_read_event(struct record_reader *reader, struct arena *scratch, struct core_event *event,
                      struct str *bytes)
{
    assert(reader->keys_left == 0);
    if (reader->events_left == 0)
        return reader->snapshot || reader->cut || reader->left.n == 0 ? 0 : -1;
    const char *begin = reader->left.p;
    if (core_event_decode(&reader->left, scratch, event) != 0)
        return -1;
    if (bytes != NULL)
        *bytes = (struct str){begin, (size_t)(reader->left.p - begin)};
    reader->events_left--;
    event->seq = reader->seq++;
    return 1;
}

static int record_read_skip(struct str *in, struct record_skip *skip)
{
    uint64_t ts;
    if (record_read_varint(in, &skip->seq) != 0 || record_read_varint(in, &ts) != 0 ||
        record_read_varint(in, &skip->position) != 0)
        return -1;
    skip->ts_ms = (int64_t)ts;
    return 0;
}

int record_read_snapshot(struct record_reader *reader, struct record_snapshot *snapshot)
{
    struct str *in = &reader->left;
    uint64_t skips_n;
    assert(reader->keys_left == 0 && reader->events_left == 0);
    if (!reader->snapshot || in->n < sizeof(snapshot->chain.bytes))
        return -1;
    memcpy(snapshot->chain.bytes, in->p, sizeof(snapshot->chain.bytes));
    *in =
        (struct str){in->p + sizeof(snapshot->chain.bytes), in->n - sizeof(snapshot->chain.bytes)};
    if (record_read_varint(in, &snapshot->membership_seq) != 0 ||
        record_read_varint(in, &snapshot->log_bytes) != 0 ||
        record_read_varint(in, &snapshot->first) != 0 ||
        record_read_varint(in, &snapshot->ordinal) != 0 || record_read_varint(in, &skips_n) != 0 ||
        skips_n > RECORD_SKIPS_MAX)
        return -1;
    snapshot->skips_n = (uint32_t)skips_n;
    for (uint32_t i = 0; i < skips_n; i++) {
        if (record_read_skip(in, &snapshot->skips[i]) != 0)
            return -1;
    }
    snapshot->state = *in;
    return 0;
}

int record_snapshot_of(const struct log_record *record, struct arena *scratch,
                       struct record_snapshot *snapshot)
{
    struct record_reader reader;
    struct core_event event;
    int more = record_read_begin(&reader, record);
    if (more == 0)
        more = record_skip_keys(&reader);
    while (more == 0 && (more = record_read_event(&reader, scratch, &event, NULL)) == 1)
        more = 0;
    return more == 0 ? record_read_snapshot(&reader, snapshot) : -1;
}

/* Whether the snapshot that stands at `skip` is the newest one before `ordinal` that 2^i divides is
 * known from the ordinals alone: of the skips of snapshot k, the one for 2^i has the ordinal
 * (k - 1) >> i << i. So the list for k + 1 is k itself, then those of k's that still are. */
uint32_t record_next_skips(const struct record_snapshot *snapshot, const struct record_skip *at,
                           struct record_skip skips[RECORD_SKIPS_MAX])
{
    uint64_t k = snapshot->ordinal;
    uint32_t n = 0, old = 0;
    uint64_t old_last = 0, last = 0; /* ordinals of the newest ones passed over, and taken */
    for (unsigned i = 0; i < 64 && k >> i != 0; i++) {
        uint64_t wanted = k >> i << i;     /* for k + 1 */
        uint64_t had = (k - 1) >> i << i;  /* for k */
        if (had != 0 && had != old_last) { /* k's list has one more here */
            old_last = had;
            old++;
        }
        if (wanted == last || n == RECORD_SKIPS_MAX)
            continue;
        last = wanted;
        if (wanted == k)
            skips[n++] = *at;
        else if (had == wanted && old - 1 < snapshot->skips_n)
            skips[n++] = snapshot->skips[old - 1];
    }
    return n;
}

void record_add_end(struct buf *body, log_position first, uint64_t log_bytes)
{
    record_add_varint(body, first);
    record_add_varint(body, log_bytes);
}

int record_read_end(struct str body, log_position *first, uint64_t *log_bytes)
{
    return record_read_varint(&body, first) != 0 || record_read_varint(&body, log_bytes) != 0 ||
                   body.n != 0
               ? -1
               : 0;
}

void record_add_pin(struct buf *body, struct str child, uint64_t child_epoch, uint64_t at)
{
    record_add_varint(body, at);
    record_add_varint(body, child_epoch);
    buf_add_str(body, child);
}

int record_read_pin(struct str body, struct str *child, uint64_t *child_epoch, uint64_t *at)
{
    if (record_read_varint(&body, at) != 0 || record_read_varint(&body, child_epoch) != 0 ||
        !core_id_valid(body))
        return -1;
    *child = body;
    return 0;
}
