#include "server/scan.h"

/* Whether the quote at `at` stands behind a backslash that is not behind one itself, and so on. */
static bool is_escaped(struct str text, size_t begin, size_t at)
{
    size_t n = at;
    while (n != begin && text.p[n - 1] == '\\')
        n--;
    return (at - n) % 2 != 0;
}

/* Behind the quote that ends the string which begins at `at`. */
static size_t string_end(struct str text, size_t at)
{
    size_t begin = at + 1;
    for (at = begin; at < text.n; at++) {
        const char *quote = memchr(text.p + at, '"', text.n - at);
        if (quote == NULL)
            return text.n;
        at = (size_t)(quote - text.p);
        if (!is_escaped(text, begin, at))
            return at + 1;
    }
    return text.n;
}

static size_t container_end(struct str text, size_t at)
{
    /* What has to be looked at: quotes and brackets. */
    static const bool tokens[256] = {
        ['"'] = true, ['{'] = true, ['}'] = true, ['['] = true, [']'] = true};
    size_t depth = 0;
    for (;;) {
        while (at < text.n && !tokens[(unsigned char)text.p[at]])
            at++;
        if (at == text.n)
            return at;
        if (text.p[at] == '"') {
            at = string_end(text, at);
            continue;
        }
        bool opens = text.p[at] == '{' || text.p[at] == '[';
        depth += opens ? 1 : SIZE_MAX;
        at++;
        if (depth == 0)
            return at;
    }
}

static size_t value_end(struct str text, size_t at)
{
    if (at == text.n)
        return at;
    if (text.p[at] == '"')
        return string_end(text, at);
    if (text.p[at] == '{' || text.p[at] == '[')
        return container_end(text, at);
    while (at < text.n && strchr(",]}", text.p[at]) == NULL)
        at++;
    return at;
}

struct str scan_value(struct str text)
{
    return (struct str){text.p, value_end(text, 0)};
}

static struct str rest_from(struct str text, size_t at)
{
    return (struct str){text.p + at, text.n - at};
}

bool scan_next(struct str *rest, struct str *key, struct str *value)
{
    /* What stands first is the opening bracket, or the comma behind the last value. */
    if (rest->n < 2 || (rest->p[0] != '{' && rest->p[0] != '[' && rest->p[0] != ','))
        return false;
    struct str text = rest_from(*rest, 1);
    if (text.p[0] == ']' || text.p[0] == '}')
        return false;
    if (key != NULL) {
        size_t end = string_end(text, 0);
        *key = (struct str){text.p + 1, end - 2};
        text = rest_from(text, end + (end < text.n)); /* the colon */
    }
    *value = scan_value(text);
    *rest = rest_from(text, value->n);
    return true;
}

struct str scan_find(struct str object, struct str name)
{
    struct str key, value;
    while (scan_next(&object, &key, &value)) {
        if (str_equal(key, name))
            return value;
    }
    return (struct str){0};
}

struct str scan_member(struct str object, const char *name)
{
    return scan_find(object, (struct str){name, strlen(name)});
}

/* Elements are told from members by their first value, where there is one. */
size_t scan_count(struct str container)
{
    struct str key, value;
    struct str *keys = container.n != 0 && container.p[0] == '{' ? &key : NULL;
    size_t n = 0;
    while (scan_next(&container, keys, &value))
        n++;
    return n;
}

bool scan_has(struct str ids, struct str id)
{
    struct str value;
    while (scan_next(&ids, NULL, &value)) {
        if (str_equal(scan_id(value), id))
            return true;
    }
    return false;
}

struct str scan_id(struct str value)
{
    if (value.n < 2 || value.p[0] != '"')
        return (struct str){0};
    return (struct str){value.p + 1, value.n - 2};
}

uint64_t scan_u64(struct str value)
{
    uint64_t number = 0;
    for (size_t i = 0; i < value.n && value.p[i] >= '0' && value.p[i] <= '9'; i++)
        number = number * 10 + (uint64_t)(value.p[i] - '0');
    return number;
}

/* How many bytes the character or escape at `at` has. */
static size_t unit_bytes(struct str text, size_t at)
{
    size_t n = 1;
    if (text.p[at] == '\\')
        return text.p[at + 1] == 'u' ? 6 : 2;
    while (at + n < text.n && ((unsigned char)text.p[at + n] & 0xc0) == 0x80)
        n++;
    return n;
}

struct str scan_piece(struct str string, size_t from, size_t max)
{
    struct str text = scan_id(string);
    size_t begin = 0, end;
    if (text.p == NULL)
        return STR("");
    while (begin < from && begin < text.n)
        begin += unit_bytes(text, begin);
    if (text.n - begin <= max)
        return rest_from(text, begin);
    end = begin;
    for (size_t next = begin; next - begin <= max; next += unit_bytes(text, next))
        end = next;
    return (struct str){text.p + begin, end - begin};
}

bool scan_add_cut(struct buf *out, struct str string, size_t max)
{
    struct str piece = scan_piece(string, 0, max);
    buf_add_byte(out, '"');
    buf_add_str(out, piece);
    buf_add_byte(out, '"');
    return piece.n == scan_id(string).n;
}
