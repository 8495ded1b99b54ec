/*
 * Events and snapshots as bytes.
 *
 *     varint    unsigned, 7 bits a byte, lowest first, the top bit set on all but the last
 *     signed    varint of (n << 1) ^ (n >> 63)
 *     text      varint length, bytes
 *     nullable  varint 0: null, or length + 1 and the bytes
 *     seqs      varint count, then each as varint difference to the one before (0 at the start)
 *     ids       varint count, texts
 *     labels    varint count; key text, value nullable; keys ascend
 *
 * Event: one byte type, varint ts_ms, varint with bit i set where field i of the type's row in
 * schema.c was given, then these fields by their kind. The seq is not in it: the record that holds
 * the event has one. Nothing follows from an id made by the seq, so those are left out too.
 *
 * Snapshot: one byte version, then each slice's part in the order of the slice table (core.c); the
 * format of a part stands with its slice. Version 3 where there are leases or wake targets, else 2:
 * so a state that has none of them keeps its bytes, and its hash.
 *
 * Reading trusts nothing: what does not fit marks the reader as failed, from where on it yields
 * zeros, and whoever started it looks at the mark at the end. Lists are checked against the bytes
 * that are left before memory is taken for them.
 */
#include "core/internal.h"
#include "core/write.h"

/* ---- writing */

enum { VARINT_BYTES_MAX = 10 };

static inline char *write_varint(char *to, uint64_t value)
{
    while (value >= 0x80) {
        *to++ = (char)(value | 0x80);
        value >>= 7;
    }
    *to++ = (char)value;
    return to;
}

void put_varint(struct buf *out, uint64_t value)
{
    char *to = buf_reserve(out, VARINT_BYTES_MAX);
    out->n += (size_t)(write_varint(to, value) - to);
}

void put_signed(struct buf *out, int64_t value)
{
    put_varint(out, ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0));
}

static inline void put_counted(struct buf *out, uint64_t count, struct str text)
{
    char *start = buf_reserve(out, VARINT_BYTES_MAX + text.n);
    char *to = write_varint(start, count);
    out->n += (size_t)(write_str(to, text) - start);
}

void put_text(struct buf *out, struct str text)
{
    put_counted(out, text.n, text);
}

void put_nullable_text(struct buf *out, struct str text)
{
    put_counted(out, text.p == NULL ? 0 : text.n + 1, text);
}

void put_seqs(struct buf *out, const uint64_t *seqs, uint32_t n)
{
    uint64_t last = 0;
    put_varint(out, n);
    for (uint32_t i = 0; i < n; i++) {
        put_varint(out, seqs[i] - last);
        last = seqs[i];
    }
}

void put_ids(struct buf *out, const struct core_ids *ids)
{
    put_varint(out, ids->n);
    for (uint32_t i = 0; i < ids->n; i++)
        put_text(out, ids->items[i]);
}

void put_labels(struct buf *out, const struct core_labels *labels)
{
    put_varint(out, labels->n);
    for (uint32_t i = 0; i < labels->n; i++) {
        put_text(out, labels->items[i].key);
        put_nullable_text(out, labels->items[i].value);
    }
}

static void put_readings(struct buf *out, const struct core_reading *readings, uint32_t n)
{
    put_varint(out, n);
    for (uint32_t i = 0; i < n; i++) {
        put_text(out, readings[i].thread);
        put_varint(out, readings[i].read);
        put_seqs(out, readings[i].taken, readings[i].taken_n);
    }
}

static void put_field(struct buf *out, const struct core_field_spec *spec,
                      const struct core_fields *f)
{
    const void *at = (const char *)f + spec->offset;
    switch ((enum core_kind)spec->kind) {
    case KIND_ID:
        put_text(out, *(const struct str *)at);
        break;
    case KIND_TEXT:
    case KIND_MESSAGE:
    case KIND_JSON:
    case KIND_SECRET:
        if (spec->flags & FIELD_NULLABLE)
            put_nullable_text(out, *(const struct str *)at);
        else
            put_text(out, *(const struct str *)at);
        break;
    case KIND_LABELS:
        put_labels(out, at);
        break;
    case KIND_IDS:
        put_ids(out, at);
        break;
    case KIND_STATUS:
        put_varint(out, f->status);
        break;
    case KIND_I64:
        put_signed(out, *(const int64_t *)at);
        break;
    case KIND_U64:
        put_varint(out, *(const uint64_t *)at);
        break;
    case KIND_U32:
        put_varint(out, *(const uint32_t *)at);
        break;
    case KIND_BOOL:
        put_varint(out, *(const bool *)at);
        break;
    case KIND_SEQS:
        put_seqs(out, f->taken, f->taken_n);
        break;
    case KIND_READINGS:
        put_readings(out, f->readings, f->readings_n);
        break;
    }
}

void core_event_encode(const struct core_event *event, struct buf *out)
{
    const struct core_type_spec *spec = core_type_spec(event->type);
    uint64_t encoded = event->f.given & ~spec->event_derived;
    uint64_t mask = 0;
    for (unsigned i = 0; i < spec->event_fields_n; i++)
        mask |= (uint64_t)((encoded & spec->event_bits[i]) != 0) << i;
    char *start = buf_reserve(out, 1 + 2 * VARINT_BYTES_MAX);
    char *to = write_byte(start, (char)event->type);
    to = write_varint(to, (uint64_t)event->ts_ms);
    to = write_varint(to, mask);
    out->n += (size_t)(to - start);
    for (; mask != 0; mask &= mask - 1)
        put_field(out, &spec->event_fields[__builtin_ctzll(mask)], &event->f);
}

/* ---- reading */

static uint64_t reader_fail(struct reader *in)
{
    in->failed = true;
    in->p = in->end;
    return 0;
}

uint64_t get_varint(struct reader *in)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && in->p != in->end; shift += 7) {
        uint64_t byte = (unsigned char)*in->p++;
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return shift == 63 && byte > 1 ? reader_fail(in) : value;
    }
    return reader_fail(in);
}

static uint64_t get_at_most(struct reader *in, uint64_t max)
{
    uint64_t value = get_varint(in);
    return value <= max ? value : reader_fail(in);
}

uint32_t get_u32(struct reader *in)
{
    return (uint32_t)get_at_most(in, UINT32_MAX);
}

uint64_t get_seq(struct reader *in)
{
    return get_at_most(in, CORE_SAFE_INTEGER);
}

int64_t get_time(struct reader *in)
{
    return (int64_t)get_at_most(in, TIME_MAX_MS);
}

bool get_bool(struct reader *in)
{
    return get_at_most(in, 1) != 0;
}

int64_t get_signed(struct reader *in)
{
    uint64_t value = get_at_most(in, CORE_SAFE_INTEGER * 2);
    int64_t half = (int64_t)(value >> 1);
    return value & 1 ? -half - 1 : half;
}

enum core_agent_status get_status(struct reader *in)
{
    return (enum core_agent_status)get_at_most(in, AGENT_STATUS_COUNT - 1);
}

uint32_t get_count(struct reader *in)
{
    size_t left = (size_t)(in->end - in->p);
    return (uint32_t)get_at_most(in, left < UINT32_MAX ? left : UINT32_MAX);
}

static struct str get_bytes(struct reader *in, uint64_t n)
{
    if (n > (uint64_t)(in->end - in->p)) {
        reader_fail(in);
        return STR("");
    }
    struct str text = {in->p, (size_t)n};
    in->p += n;
    return text;
}

struct str get_text(struct reader *in)
{
    return get_bytes(in, get_varint(in));
}

struct str get_nullable_text(struct reader *in)
{
    uint64_t n = get_varint(in);
    return n == 0 ? (struct str){0} : get_bytes(in, n - 1);
}

struct str get_id(struct reader *in)
{
    struct str id = get_text(in);
    if (!core_id_valid(id))
        reader_fail(in);
    return id;
}

struct str get_session_id(struct reader *in)
{
    struct str id = get_text(in);
    if (!core_session_id_valid(id))
        reader_fail(in);
    return id;
}

uint32_t get_seqs(struct reader *in, struct arena *scratch, uint64_t **seqs)
{
    uint32_t n = get_count(in);
    uint64_t last = 0;
    *seqs = arena_alloc(scratch, n * sizeof(**seqs));
    for (uint32_t i = 0; i < n; i++) {
        uint64_t step = get_seq(in);
        last += step;
        if (step == 0 || last > CORE_SAFE_INTEGER) {
            reader_fail(in);
            return 0;
        }
        (*seqs)[i] = last;
    }
    return n;
}

struct core_ids get_ids(struct reader *in, struct arena *scratch)
{
    struct core_ids ids = {.n = get_count(in)};
    ids.items = arena_alloc(scratch, ids.n * sizeof(*ids.items));
    for (uint32_t i = 0; i < ids.n; i++)
        ids.items[i] = get_id(in);
    return ids;
}

struct core_labels get_labels(struct reader *in, struct arena *scratch)
{
    struct core_labels labels = {.n = get_count(in)};
    labels.items = arena_alloc(scratch, labels.n * sizeof(*labels.items));
    for (uint32_t i = 0; i < labels.n; i++) {
        labels.items[i].key = get_text(in);
        labels.items[i].value = get_nullable_text(in);
        if (i != 0 && str_compare(labels.items[i - 1].key, labels.items[i].key) >= 0)
            reader_fail(in);
    }
    return labels;
}

static void get_readings(struct reader *in, struct arena *scratch, struct core_fields *f)
{
    f->readings_n = get_count(in);
    f->readings = arena_alloc(scratch, f->readings_n * sizeof(*f->readings));
    for (uint32_t i = 0; i < f->readings_n; i++) {
        f->readings[i].thread = get_id(in);
        f->readings[i].read = get_seq(in);
        f->readings[i].taken_n = get_seqs(in, scratch, &f->readings[i].taken);
    }
}

static void get_field(struct reader *in, const struct core_field_spec *spec, struct arena *scratch,
                      struct core_fields *f)
{
    void *at = (char *)f + spec->offset;
    switch ((enum core_kind)spec->kind) {
    case KIND_ID:
        *(struct str *)at = spec->field == CORE_FIELD_SESSION ? get_session_id(in) : get_id(in);
        break;
    case KIND_TEXT:
    case KIND_MESSAGE:
    case KIND_JSON:
    case KIND_SECRET:
        *(struct str *)at = spec->flags & FIELD_NULLABLE ? get_nullable_text(in) : get_text(in);
        break;
    case KIND_LABELS:
        *(struct core_labels *)at = get_labels(in, scratch);
        break;
    case KIND_IDS:
        *(struct core_ids *)at = get_ids(in, scratch);
        break;
    case KIND_STATUS:
        f->status = get_status(in);
        break;
    case KIND_I64:
        *(int64_t *)at = get_signed(in);
        break;
    case KIND_U64:
        *(uint64_t *)at = get_seq(in);
        break;
    case KIND_U32:
        *(uint32_t *)at = get_u32(in);
        break;
    case KIND_BOOL:
        *(bool *)at = get_bool(in);
        break;
    case KIND_SEQS:
        f->taken_n = get_seqs(in, scratch, &f->taken);
        break;
    case KIND_READINGS:
        get_readings(in, scratch, f);
        break;
    }
}

int core_event_decode(struct str *in, struct arena *scratch, struct core_event *event)
{
    memset(event, 0, large_size(sizeof(*event)));
    if (in->n == 0)
        return -1;
    struct reader reader = {.p = in->p, .end = in->p + in->n};
    uint64_t type = get_varint(&reader);
    if (type == CORE_TYPE_NONE || type >= CORE_TYPE_COUNT)
        return -1;
    event->type = (enum core_type)type;
    event->ts_ms = get_time(&reader);
    uint64_t mask = get_varint(&reader);
    const struct core_type_spec *spec = core_type_spec(event->type);
    if (mask >> spec->event_fields_n != 0)
        return -1;
    for (int i = 0; i < spec->event_fields_n; i++) {
        const struct core_field_spec *field = &spec->event_fields[i];
        if ((mask >> i & 1) == 0)
            continue;
        if (field->flags & FIELD_DERIVED) /* never written, and has no place to be read to */
            return -1;
        event->f.given |= UINT64_C(1) << field->field;
        get_field(&reader, field, scratch, &event->f);
    }
    if (reader.failed || (spec->event_required & ~event->f.given) != 0)
        return -1;
    in->n = (size_t)(reader.end - reader.p);
    in->p = reader.p;
    return 0;
}
