/*
 * JSON as Atoll writes it: no spaces, UTF-8 as it came, and only what must be escaped is escaped.
 * Reading JSON is the business of whoever talks to the outside.
 */
#include "core/internal.h"

typedef unsigned char sixteen __attribute__((vector_size(16)));
typedef uint64_t two __attribute__((vector_size(16)));

/* Whether one of sixteen bytes is a quote, a backslash or below space. */
static bool sixteen_need_escape(const char *p)
{
    sixteen v;
    memcpy(&v, p, sizeof(v));
    two found = (two)(v == '"') | (two)(v == '\\') | (two)(v < 0x20);
    return (found[0] | found[1]) != 0;
}

static bool needs_escape(char c)
{
    return c == '"' || c == '\\' || (unsigned char)c < 0x20;
}

/* How many bytes from p on can be copied as they are. */
static size_t plain_run(const char *p, const char *end)
{
    const char *at = p;
    while (end - at >= 16 && !sixteen_need_escape(at))
        at += 16;
    if (end - at < 16 && end - p >= 16 && !sixteen_need_escape(end - 16))
        return (size_t)(end - p);
    while (at != end && !needs_escape(*at))
        at++;
    return (size_t)(at - p);
}

static void add_escape(struct buf *out, char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_forms[32] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    unsigned char byte = (unsigned char)c;
    char *to = buf_reserve(out, 6);
    to[0] = '\\';
    if (byte >= 0x20 || short_forms[byte] != 0) {
        to[1] = (char)(byte >= 0x20 ? c : short_forms[byte]);
        out->n += 2;
        return;
    }
    to[1] = 'u';
    to[2] = '0';
    to[3] = '0';
    to[4] = hex[byte >> 4];
    to[5] = hex[byte & 15];
    out->n += 6;
}

static void add_escaped(struct buf *out, struct str s)
{
    const char *p = s.p;
    const char *end = s.p + s.n;
    while (p != end) {
        size_t run = plain_run(p, end);
        buf_add(out, p, run);
        p += run;
        if (p != end)
            add_escape(out, *p++);
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
    to[0] = '"';
    memcpy(to + 1, id.p, id.n);
    to[id.n + 1] = '"';
    out->n += id.n + 2;
}

/* ---- numbers and times */

static const char two_digits[] = "00010203040506070809101112131415161718192021222324"
                                 "25262728293031323334353637383940414243444546474849"
                                 "50515253545556575859606162636465666768697071727374"
                                 "75767778798081828384858687888990919293949596979899";

void json_add_u64(struct buf *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    for (; value >= 100; value /= 100)
        memcpy(digits + (at -= 2), two_digits + value % 100 * 2, 2);
    if (value >= 10)
        memcpy(digits + (at -= 2), two_digits + value * 2, 2);
    else
        digits[--at] = (char)('0' + value);
    buf_add(out, digits + at, sizeof(digits) - at);
}

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

void json_add_time(struct buf *out, int64_t ts_ms)
{
    uint64_t ms = ts_ms < 0 ? 0 : ts_ms > TIME_MAX_MS ? (uint64_t)TIME_MAX_MS : (uint64_t)ts_ms;
    struct date date = date_of_days((uint32_t)(ms / 86400000));
    uint32_t left = (uint32_t)(ms % 86400000);
    char *start = buf_reserve(out, 32);
    char *to = start;
    *to++ = '"';
    memcpy(to, two_digits + (size_t)(date.year / 100) * 2, 2);
    to = put_two(to + 2, date.year % 100, '-');
    to = put_two(to, date.month, '-');
    to = put_two(to, date.day, 'T');
    to = put_two(to, left / 3600000, ':');
    to = put_two(to, left / 60000 % 60, ':');
    to = put_two(to, left / 1000 % 60, '.');
    *to++ = (char)('0' + left % 1000 / 100);
    to = put_two(to, left % 100, 'Z');
    *to++ = '"';
    out->n += (size_t)(to - start);
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
        json_add_u64(out, seqs[i]);
    }
    buf_add_byte(out, ']');
}

static void add_reading_members(struct buf *out, uint64_t read, const uint64_t *taken, uint32_t n)
{
    buf_add_literal(out, "\"read\":");
    json_add_u64(out, read);
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

/* ---- events */

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
        json_add_u64(out, *(const uint64_t *)at);
        break;
    case KIND_U32:
        json_add_u64(out, *(const uint32_t *)at);
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
    }
}

static void add_member_name(struct buf *out, const struct core_field_spec *field)
{
    char *to = buf_reserve(out, 4 + (size_t)field->name_n);
    to[0] = ',';
    to[1] = '"';
    memcpy(to + 2, field->name, field->name_n);
    to[2 + field->name_n] = '"';
    to[3 + field->name_n] = ':';
    out->n += 4 + (size_t)field->name_n;
}

struct str core_event_actor(const struct core_event *event)
{
    int offset = core_type_spec(event->type)->actor_offset;
    if (offset < 0)
        return (struct str){0};
    return *(const struct str *)((const char *)&event->f + offset);
}

void core_event_json(const struct core_event *event, struct buf *out)
{
    const struct core_type_spec *spec = core_type_spec(event->type);
    buf_add_literal(out, "{\"seq\":");
    json_add_u64(out, event->seq);
    buf_add_literal(out, ",\"ts\":");
    json_add_time(out, event->ts_ms);
    buf_add_literal(out, ",\"type\":\"");
    buf_add(out, spec->event_name, strlen(spec->event_name));
    buf_add_literal(out, "\",\"actor\":");
    struct str actor = core_event_actor(event);
    if (actor.p != NULL)
        json_add_id(out, actor);
    else
        buf_add_literal(out, "null");
    for (int i = 0; i < spec->event_fields_n; i++) {
        const struct core_field_spec *field = &spec->event_fields[i];
        if (field->flags & FIELD_DERIVED) {
            assert(field->field == CORE_FIELD_ID);
            buf_add_literal(out, ",\"id\":\"m");
            json_add_u64(out, event->seq);
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
