/*
 * JSON as Atoll writes it: no spaces, UTF-8 as it came, and only what must be escaped is escaped.
 * Reading JSON is the business of whoever talks to the outside.
 */
#include "core/internal.h"
#include "core/write.h"

typedef unsigned char sixteen __attribute__((vector_size(16)));
typedef uint64_t two __attribute__((vector_size(16)));

/* All ones where one of sixteen bytes is a quote, a backslash or below space. */
static inline two find_special(sixteen v)
{
    return (two)(v == '"') | (two)(v == '\\') | (two)(v < 0x20);
}

static inline bool is_found(two found)
{
    return (found[0] | found[1]) != 0;
}

/* A bit for each byte of eight that is all ones; the others are zero. */
static inline uint32_t bits_of(uint64_t bytes)
{
    return (uint32_t)((bytes & UINT64_C(0x8040201008040201)) * UINT64_C(0x0101010101010101) >> 56);
}

static inline uint32_t bits_found(two found)
{
    return bits_of(found[0]) | bits_of(found[1]) << 8;
}

static bool needs_escape(char c)
{
    return c == '"' || c == '\\' || (unsigned char)c < 0x20;
}

enum { ESCAPE_BYTES = 6, BLOCK_BYTES = 2 * sizeof(sixteen) };

static inline char *write_escape(char *to, char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_forms[32] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    unsigned char byte = (unsigned char)c;
    to[0] = '\\';
    if (byte >= 0x20 || short_forms[byte] != 0) {
        to[1] = (char)(byte >= 0x20 ? c : short_forms[byte]);
        return to + 2;
    }
    to = write_literal(to + 1, "u00");
    to[0] = hex[byte >> 4];
    to[1] = hex[byte & 15];
    return to + 2;
}

/* One block, of which the bytes with a bit in `special` must be escaped. A block's size is read
 * from wherever a plain run begins, also behind the block, and written, so that the size of each
 * copy is a constant. */
static char *write_escaped_block(char *to, const char *p, uint32_t special)
{
    unsigned at = 0;
    for (; special != 0; special &= special - 1) {
        unsigned place = (unsigned)__builtin_ctz(special);
        memcpy(to, p + at, BLOCK_BYTES);
        to = write_escape(to + (place - at), p[place]);
        at = place + 1;
    }
    memcpy(to, p + at, BLOCK_BYTES);
    return to + (BLOCK_BYTES - at);
}

/* Writes whole blocks, up to one with what must be escaped and less than another one's bytes behind
 * it. Returns what is left. */
static struct str add_escaped_blocks(struct buf *out, struct str s)
{
    enum { ROOM = BLOCK_BYTES * ESCAPE_BYTES + BLOCK_BYTES };
    const char *end = s.p + s.n;
    const char *p = s.p;
    char *to = buf_reserve(out, s.n + ROOM); /* or more, whenever a block begins */
    for (; end - p >= BLOCK_BYTES; p += BLOCK_BYTES) {
        sixteen v[2];
        memcpy(v, p, sizeof(v));
        two first = find_special(v[0]);
        two second = find_special(v[1]);
        if (!is_found(first | second)) {
            memcpy(to, v, sizeof(v));
            to += sizeof(v);
            continue;
        }
        if (end - p < 2 * BLOCK_BYTES)
            break;
        to = write_escaped_block(to, p, bits_found(first) | bits_found(second) << 16);
        out->n = (size_t)(to - out->p);
        to = buf_reserve(out, (size_t)(end - p) + ROOM);
    }
    out->n = (size_t)(to - out->p);
    return (struct str){p, (size_t)(end - p)};
}

/* How many bytes of n need no escaping. */
static size_t plain_run(const char *p, size_t n)
{
    size_t at = 0;
    for (; n - at >= sizeof(sixteen); at += sizeof(sixteen)) {
        sixteen v;
        memcpy(&v, p + at, sizeof(v));
        if (is_found(find_special(v)))
            break;
    }
    if (n - at >= 8 && n - at < sizeof(sixteen)) {
        two ends;
        memcpy(&ends, p + at, 8);
        memcpy((char *)&ends + 8, p + n - 8, 8);
        if (!is_found(find_special((sixteen)ends)))
            return n;
    }
    while (at != n && !needs_escape(p[at]))
        at++;
    return at;
}

static void add_escaped(struct buf *out, struct str s)
{
    if (s.n >= BLOCK_BYTES)
        s = add_escaped_blocks(out, s);
    while (s.n != 0) {
        size_t run = plain_run(s.p, s.n);
        char *to = buf_reserve(out, run + ESCAPE_BYTES);
        char *end = write_bytes(to, s.p, run);
        if (run != s.n)
            end = write_escape(end, s.p[run++]);
        out->n += (size_t)(end - to);
        s.p += run;
        s.n -= run;
    }
}

void json_add_string(struct buf *out, struct str s)
{
    if (s.p == NULL) {
        buf_add_literal(out, "null");
        return;
    }
    buf_reserve(out, s.n + 2);
    buf_add_byte(out, '"');
    add_escaped(out, s);
    buf_add_byte(out, '"');
}

void json_add_id(struct buf *out, struct str id)
{
    char *to = buf_reserve(out, id.n + 2);
    out->n += (size_t)(write_id(to, id) - to);
}

/* ---- times */

static const char two_digits[] = "00010203040506070809101112131415161718192021222324"
                                 "25262728293031323334353637383940414243444546474849"
                                 "50515253545556575859606162636465666768697071727374"
                                 "75767778798081828384858687888990919293949596979899";

static char *put_two(char *to, uint32_t value, char behind)
{
    memcpy(to, two_digits + (size_t)value * 2, 2);
    to[2] = behind;
    return to + 3;
}

struct date {
    uint32_t year, month, day;
};

/* Days since 1970-01-01 to the Gregorian date, counting years from March so that the leap day is
 * the last of its year; 719468 days lie between 0000-03-01 and the epoch. */
static struct date date_of_days(uint32_t days)
{
    uint32_t shifted = days + 719468;
    uint32_t era = shifted / 146097;
    uint32_t day_of_era = shifted % 146097;
    uint32_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t march_month = (5 * day_of_year + 2) / 153;
    uint32_t month = march_month < 10 ? march_month + 3 : march_month - 9;
    return (struct date){.year = year_of_era + era * 400 + (month <= 2),
                         .month = month,
                         .day = day_of_year - (153 * march_month + 2) / 5 + 1};
}

enum { SECOND_BYTES = 21 }; /* of a time up to its milliseconds */

static void write_second(char *to, uint64_t second)
{
    struct date date = date_of_days((uint32_t)(second / 86400));
    uint32_t left = (uint32_t)(second % 86400);
    *to++ = '"';
    memcpy(to, two_digits + (size_t)(date.year / 100) * 2, 2);
    to = put_two(to + 2, date.year % 100, '-');
    to = put_two(to, date.month, '-');
    to = put_two(to, date.day, 'T');
    to = put_two(to, left / 3600, ':');
    to = put_two(to, left / 60 % 60, ':');
    put_two(to, left % 60, '.');
}

/* Nearly every time that is written is of the same second as the one before, so that one is kept;
 * for each thread, as nothing here is shared. */
char *write_time(char *to, int64_t ts_ms)
{
    static _Thread_local struct {
        uint64_t second;
        char text[24];
    } last = {.second = UINT64_MAX};
    uint64_t ms = ts_ms < 0 ? 0 : ts_ms > TIME_MAX_MS ? (uint64_t)TIME_MAX_MS : (uint64_t)ts_ms;
    uint64_t second = ms / 1000;
    uint32_t left = (uint32_t)(ms - second * 1000);
    _Static_assert(sizeof(last.text) <= WRITE_TIME_BYTES, "copied whole");
    if (second != last.second) {
        write_second(last.text, second);
        last.second = second;
    }
    memcpy(to, last.text, sizeof(last.text));
    to[SECOND_BYTES] = (char)('0' + left / 100);
    to = put_two(to + SECOND_BYTES + 1, left % 100, 'Z');
    return write_byte(to, '"');
}

void json_add_time(struct buf *out, int64_t ts_ms)
{
    char *to = buf_reserve(out, WRITE_TIME_BYTES);
    out->n += (size_t)(write_time(to, ts_ms) - to);
}

/* The comma before a member or an element, unless it is the first of what was just opened. */
static void add_comma(struct buf *out)
{
    char last = out->p[out->n - 1];
    if (last != '{' && last != '[')
        buf_add_byte(out, ',');
}

void json_add_labels(struct buf *out, const struct core_labels *labels)
{
    buf_add_byte(out, '{');
    for (uint32_t i = 0; i < labels->n; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        json_add_string(out, labels->items[i].key);
        buf_add_byte(out, ':');
        json_add_string(out, labels->items[i].value);
    }
    buf_add_byte(out, '}');
}

void json_add_ids(struct buf *out, const struct core_ids *ids)
{
    buf_add_byte(out, '[');
    for (uint32_t i = 0; i < ids->n; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        json_add_id(out, ids->items[i]);
    }
    buf_add_byte(out, ']');
}

static void add_seqs(struct buf *out, const uint64_t *seqs, uint32_t n)
{
    buf_add_byte(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        buf_add_u64(out, seqs[i]);
    }
    buf_add_byte(out, ']');
}

static void add_reading_members(struct buf *out, uint64_t read, const uint64_t *taken, uint32_t n)
{
    buf_add_literal(out, "\"read\":");
    buf_add_u64(out, read);
    buf_add_literal(out, ",\"taken\":");
    add_seqs(out, taken, n);
}

void json_add_reading(struct buf *out, uint64_t read, const uint64_t *taken, uint32_t taken_n)
{
    buf_add_byte(out, '{');
    add_reading_members(out, read, taken, taken_n);
    buf_add_byte(out, '}');
}

static void add_readings(struct buf *out, const struct core_reading *readings, uint32_t n)
{
    buf_add_byte(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        add_comma(out);
        buf_add_literal(out, "{\"thread\":");
        json_add_id(out, readings[i].thread);
        buf_add_byte(out, ',');
        add_reading_members(out, readings[i].read, readings[i].taken, readings[i].taken_n);
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, ']');
}

void json_add_member_id(struct buf *out, struct str id)
{
    add_comma(out);
    json_add_id(out, id);
    buf_add_byte(out, ':');
}

void json_add_number(struct buf *out, uint64_t value, bool nullable)
{
    if (nullable && value == 0)
        buf_add_literal(out, "null");
    else
        buf_add_u64(out, value);
}

/* ---- events */

/* Of an event's head but for the actor's id. */
enum { EVENT_HEAD_ROOM = 192 };

static void add_field(struct buf *out, const struct core_field_spec *spec,
                      const struct core_fields *f)
{
    const void *at = (const char *)f + spec->offset;
    switch ((enum core_kind)spec->kind) {
    case KIND_ID:
        json_add_id(out, *(const struct str *)at);
        break;
    case KIND_TEXT:
    case KIND_MESSAGE:
        json_add_string(out, *(const struct str *)at);
        break;
    case KIND_JSON:
        if (((const struct str *)at)->p != NULL)
            buf_add_str(out, *(const struct str *)at);
        else
            buf_add_literal(out, "null");
        break;
    case KIND_LABELS:
        json_add_labels(out, at);
        break;
    case KIND_IDS:
        json_add_ids(out, at);
        break;
    case KIND_STATUS:
        json_add_string(
            out, (struct str){core_status_name(f->status), strlen(core_status_name(f->status))});
        break;
    case KIND_I64:
        buf_add_i64(out, *(const int64_t *)at);
        break;
    case KIND_U64:
        json_add_number(out, *(const uint64_t *)at, (spec->flags & FIELD_NULLABLE) != 0);
        break;
    case KIND_U32:
        buf_add_u64(out, *(const uint32_t *)at);
        break;
    case KIND_BOOL:
        buf_add_str(out, *(const bool *)at ? STR("true") : STR("false"));
        break;
    case KIND_SEQS:
        add_seqs(out, f->taken, f->taken_n);
        break;
    case KIND_READINGS:
        add_readings(out, f->readings, f->readings_n);
        break;
    case KIND_SECRET:
        assert(!"a secret is in no event's JSON");
    }
}

static void add_member_name(struct buf *out, const struct core_field_spec *field)
{
    memcpy(buf_reserve(out, sizeof(field->member)), field->member, sizeof(field->member));
    out->n += field->member_n;
}

struct str core_event_actor(const struct core_event *event)
{
    int offset = core_type_spec(event->type)->actor_offset;
    if (offset < 0)
        return (struct str){0};
    return *(const struct str *)((const char *)&event->f + offset);
}

void core_event_head_json(const struct core_event *event, struct buf *out)
{
    const struct core_type_spec *spec = core_type_spec(event->type);
    struct str actor = core_event_actor(event);
    char *start = buf_reserve(out, EVENT_HEAD_ROOM + actor.n);
    char *to = write_literal(start, "{\"seq\":");
    to = write_decimal(to, event->seq);
    to = write_literal(to, ",\"ts\":");
    to = write_time(to, event->ts_ms);
    memcpy(to, spec->event_member, sizeof(spec->event_member));
    to += spec->event_member_n;
    to = actor.p != NULL ? write_id(to, actor) : write_literal(to, "null");
    out->n += (size_t)(to - start);
}

void core_event_json(const struct core_event *event, struct buf *out)
{
    const struct core_type_spec *spec = core_type_spec(event->type);
    core_event_head_json(event, out);
    for (int i = 0; i < spec->event_fields_n; i++) {
        const struct core_field_spec *field = &spec->event_fields[i];
        if (field->flags & FIELD_DERIVED) {
            assert(field->field == CORE_FIELD_ID);
            buf_add_literal(out, ",\"id\":\"m");
            buf_add_u64(out, event->seq);
            buf_add_byte(out, '"');
        } else if ((given(&event->f, field->field) && !(field->flags & FIELD_INTERNAL)) ||
                   field->flags & FIELD_ALWAYS) {
            add_member_name(out, field);
            add_field(out, field, &event->f);
        }
    }
    buf_add_byte(out, '}');
}

/* ---- patches */

void patch_begin(struct buf *out, const char *op)
{
    add_comma(out);
    buf_add_literal(out, "{\"op\":\"");
    buf_add(out, op, strlen(op));
    buf_add_literal(out, "\",\"path\":\"");
}

void patch_value(struct buf *out)
{
    buf_add_literal(out, "\",\"value\":");
}

void patch_end(struct buf *out)
{
    buf_add_byte(out, '}');
}

void patch_end_path(struct buf *out)
{
    buf_add_literal(out, "\"}");
}

/* A key within a JSON Pointer within a JSON string: ~ is ~0 and / is ~1 (RFC 6901). */
static void add_pointer_key(struct buf *out, struct str key)
{
    const char *p = key.p;
    const char *end = key.p + key.n;
    while (p != end) {
        const char *run = p;
        while (p != end && *p != '~' && *p != '/')
            p++;
        add_escaped(out, (struct str){run, (size_t)(p - run)});
        if (p != end)
            buf_add_str(out, *p++ == '~' ? STR("~0") : STR("~1"));
    }
}

void patch_changed_text(struct buf *out, struct str parent, struct str id, struct str member,
                        struct str from, struct str to)
{
    if (str_equal(from, to))
        return;
    patch_begin(out, "replace");
    buf_add_str(out, parent);
    buf_add_str(out, id);
    buf_add_str(out, member);
    patch_value(out);
    json_add_string(out, to);
    patch_end(out);
}

void patch_labels(struct buf *out, struct str parent, struct str id,
                  const struct core_labels *labels)
{
    for (uint32_t i = 0; i < labels->n; i++) {
        bool removes = labels->items[i].value.p == NULL;
        patch_begin(out, removes ? "remove" : "add");
        buf_add_str(out, parent);
        buf_add_str(out, id);
        buf_add_literal(out, "/labels/");
        add_pointer_key(out, labels->items[i].key);
        if (removes) {
            patch_end_path(out);
            continue;
        }
        patch_value(out);
        json_add_string(out, labels->items[i].value);
        patch_end(out);
    }
}

static void add_text(struct buf *out, const char *text)
{
    json_add_string(out, (struct str){text, strlen(text)});
}

void json_begin_problem(struct buf *out, int status, const char *name, const char *title,
                        const struct core_refusal *why)
{
    buf_add_literal(out, "{\"type\":\"/problems/");
    buf_add(out, name, strlen(name));
    buf_add_literal(out, "\",\"title\":");
    add_text(out, title);
    buf_add_literal(out, ",\"status\":");
    buf_add_i64(out, status);
    if (why != NULL && why->detail[0] != '\0') {
        buf_add_literal(out, ",\"detail\":");
        add_text(out, why->detail);
    }
    if (why != NULL && why->field != NULL) {
        buf_add_literal(out, ",\"field\":");
        add_text(out, why->field);
    }
    if (why != NULL && (status == 412 || (status == 409 && why->seq != 0))) {
        buf_add_literal(out, ",\"seq\":");
        buf_add_u64(out, why->seq);
    }
}
