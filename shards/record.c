/*
 * record: the body of a LOG_RECORD_EVENTS: what one request did to one session.
 *
 *     varint   number of keys
 *     key *    key hash 16, body hash 16, flags 1, varint seq, varint ts_ms,
 *              with KEY_BATCH: varint size and the answer's bytes
 *     event *  core_event_encode, as many as the record's header says
 *
 * Idempotency keys lie in the same record as what they guard: either both survive a crash or
 * neither. Integers little-endian, varints LEB128.
 */
#include "shards/shard.h"

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
    if (entry->flags & KEY_BATCH) {
        record_add_varint(body, answer.n);
        buf_add_str(body, answer);
    }
}

int record_read_begin(struct record_reader *reader, const struct log_record *record)
{
    uint64_t keys;
    *reader = (struct record_reader){
        .left = record->body, .events_left = record->events, .seq = record->seq};
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
    if (entry->flags & KEY_BATCH) {
        uint64_t size;
        if (record_read_varint(in, &size) != 0 || size > in->n)
            return -1;
        *answer = (struct str){in->p, (size_t)size};
        *in = (struct str){in->p + size, in->n - (size_t)size};
    }
    return 1;
}

int record_read_event(struct record_reader *reader, struct arena *scratch, struct core_event *event)
{
    assert(reader->keys_left == 0);
    if (reader->events_left == 0)
        return reader->left.n == 0 ? 0 : -1;
    if (core_event_decode(&reader->left, scratch, event) != 0)
        return -1;
    reader->events_left--;
    event->seq = reader->seq++;
    return 1;
}
