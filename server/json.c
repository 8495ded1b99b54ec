/*
 * json: from text to values and back to canonical text.
 *
 * Normal path: simdjson says where the tokens are (server/json_internal.h), and read_value follows
 * them, one call a value. A string ends at the last quote before the next token. Strings stay where
 * they are in our copy of the text; only those with escapes are written anew. read_texts takes the
 * members of which most objects consist, strings, in one go.
 * Failure: fail() keeps what is wrong and where, and its false goes up to json_parse. What breaks a
 * rule of ours only is kept by raise_fault and reading goes on, since it may be one element's.
 */
#include "server/json.h"

#include "core/core.h"
#include "server/json_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    KEY_SLOTS_MIN = 16,       /* a power of 2, as its doubles are */
    TEXT_MIN = 4096,          /* bytes of text whose tokens there is room for from the start */
    LONG_BYTES = 1024 * 1024, /* a text from here on is looked at before it is read */
    SMALL_BYTES = 6,          /* an element */
    DIGITS_KEPT = 17,         /* any decimal of so many digits finds its way back from a double */
    INTEGER_DIGITS = 15,      /* any integer of so many is a double */
    NUMBER_BYTES = 32         /* longest canonical text of a number, and more */
};

enum fault { FAULT_NONE, FAULT_NUMBER, FAULT_NUL, FAULT_TWICE };

struct json_parser {
    uint32_t max_elements;
    uint64_t hash_seed;
    struct json_index *index;
    size_t index_cap;
    struct arena *arena; /* of this parse */
    char *text;          /* in the arena, and JSON_PADDING zeros behind it */
    size_t n;
    char *plain; /* in the arena: where the next unescaped string goes; NULL: none has come */
    struct json_value *values;
    size_t values_n, values_cap;
    const uint32_t *token, *end; /* the next token; behind the last one, where *end is n */
    bool rounds;                 /* numbers that a double does not hold are rounded */
    bool escapes;                /* the text has a backslash */
    const char *why;             /* what makes it no JSON; NULL: nothing so far */
    size_t why_at;
    size_t tail;           /* what stands glued to the last value, as in 1x; 0: nothing */
    unsigned member_depth; /* depth of the objects whose keys are errors' `member` */
    struct str member;
    enum fault fault; /* the first one since the last element of the outermost array */
    uint32_t fault_at;
    struct str fault_member;
    uint32_t key_slots[2 * JSON_MEMBERS]; /* places in `values`; 0: free */
};

static bool fail(struct json_parser *p, size_t at, const char *why)
{
    p->why = why;
    p->why_at = at;
    return false;
}

static void raise_fault(struct json_parser *p, enum fault fault, uint32_t at)
{
    if (p->fault != FAULT_NONE)
        return;
    p->fault = fault;
    p->fault_at = at;
    p->fault_member = p->member;
}

static struct json_value *add_value(struct json_parser *p, enum json_type type, uint32_t at)
{
    assert(p->values_n < p->values_cap);
    struct json_value *v = &p->values[p->values_n++];
    v->size = 0;
    v->type = type;
    v->at = at & JSON_BYTES;
    return v;
}

/* ---- numbers */

/* Writes the number as RFC 8785 has it; returns its length. */
static size_t number_text(double value, char to[NUMBER_BYTES])
{
    char d[JSON_DIGITS_BYTES], *at = to;
    json_digits(fabs(value), d);
    const char *e = strchr(d, 'e');
    int point = atoi(e + 1) + 1; /* the value is 0.DIGITS * 10^point */
    int n = (int)(e - d) - (e - d > 1);
    bool scientific = point <= -6 || point > 21;
    int whole = scientific ? 1 : point < 0 ? 0 : point < n ? point : n;
    memmove(d + 1, d + 2, (size_t)n - 1);
    if (value < 0)
        *at++ = '-';
    if (whole == 0)
        at = mempcpy(at, "0.00000", (size_t)(2 - point));
    at = mempcpy(at, d, (size_t)whole);
    if (whole != 0 && whole != n)
        *at++ = '.';
    at = mempcpy(at, d + whole, (size_t)(n - whole));
    if (scientific)
        return (size_t)(at - to + sprintf(at, "e%+d", point - 1));
    for (; n < point; n++)
        *at++ = '0';
    return (size_t)(at - to);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool take_digits(const char **p)
{
    const char *from = *p;
    while (is_digit(**p))
        (*p)++;
    return *p != from;
}

/* How many digits there are from the first to the last one that is not 0. */
static size_t significant(const char *p)
{
    size_t n = 0, zeros = 0;
    for (p += *p == '-'; is_digit(*p) || *p == '.'; p++) {
        if (*p == '0') {
            zeros += n != 0;
        } else if (*p != '.') {
            n += zeros + 1;
            zeros = 0;
        }
    }
    return n;
}

/* An integer written in full, without sign, must be the double itself or have its digits. */
static bool integer_survives(const char *text, size_t digits, double value)
{
    char exact[320], shortest[JSON_DIGITS_BYTES];
    size_t n = (size_t)snprintf(exact, sizeof(exact), "%.0f", value);
    if (strncmp(text, exact, n) == 0 && !is_digit(text[n]))
        return true;
    json_digits(value, shortest);
    return digits <= DIGITS_KEPT && text[0] == shortest[0] &&
           memcmp(text + 1, shortest + 2, digits - 1) == 0 &&
           shortest[digits == 1 ? 1 : digits + 1] == 'e';
}

/* Whether the number is still the same after a trip through its double. */
static bool number_survives(const char *text, bool integer, double value)
{
    size_t digits = significant(text);
    if (!isfinite(value) || (value == 0 && digits != 0))
        return false;
    return integer ? integer_survives(text + (*text == '-'), digits, fabs(value))
                   : digits <= DIGITS_KEPT;
}

static double small_integer(const char *digits, const char *end, bool negative)
{
    int64_t value = 0;
    while (digits != end)
        value = value * 10 + (*digits++ - '0');
    return negative ? -(double)value : (double)value;
}

/* What follows a number or a word must be white space or a token. */
static bool check_tail(struct json_parser *p, const char *end)
{
    static const char blanks[] = " \t\r\n";
    size_t at = (size_t)(end - p->text);
    if (at != *p->token && memchr(blanks, *end, sizeof(blanks) - 1) == NULL)
        p->tail = at;
    return true;
}

static bool read_number(struct json_parser *p, uint32_t at)
{
    const char *from = p->text + at;
    const char *whole = from + (*from == '-');
    const char *end = whole;
    bool good = take_digits(&end) && (*whole != '0' || end == whole + 1);
    const char *whole_end = end;
    if (good && *end == '.') {
        end++;
        good = take_digits(&end);
    }
    if (good && (*end == 'e' || *end == 'E')) {
        end += end[1] == '+' || end[1] == '-' ? 2 : 1;
        good = take_digits(&end);
    }
    if (!good)
        return fail(p, at, "malformed number");
    struct json_value *v = add_value(p, JSON_NUMBER, at);
    if (end == whole_end && end - whole <= INTEGER_DIGITS) {
        v->as.number = small_integer(whole, end, whole != from);
        return check_tail(p, end);
    }
    v->as.number = json_double(from, end);
    if (!number_survives(from, end == whole_end, v->as.number) &&
        !(p->rounds && isfinite(v->as.number)))
        raise_fault(p, FAULT_NUMBER, at);
    return check_tail(p, end);
}

/* ---- strings and words */

/* -1: not four hex digits. */
static int hex4(const char *p)
{
    int unit = 0;
    for (int i = 0; i < 4; i++) {
        char letter = (char)(p[i] | 0x20);
        if (is_digit(p[i]))
            unit = unit << 4 | (p[i] - '0');
        else if (letter >= 'a' && letter <= 'f')
            unit = unit << 4 | (letter - 'a' + 10);
        else
            return -1;
    }
    return unit;
}

static char *put_utf8(char *to, int c)
{
    static const int lead[] = {0, 0xc0, 0xe0, 0xf0};
    int more = (c >= 0x80) + (c >= 0x800) + (c >= 0x10000);
    *to++ = (char)(lead[more] | c >> 6 * more);
    while (more-- != 0)
        *to++ = (char)(0x80 | (c >> 6 * more & 0x3f));
    return to;
}

/* Takes a \uXXXX, or the two of a character beyond U+FFFF. */
static bool take_unicode(struct json_parser *p, const char **from)
{
    size_t at = (size_t)(*from - p->text);
    int c = hex4(*from + 2);
    *from += 6;
    if (c < 0)
        return fail(p, at, "broken \\u escape");
    if ((c & 0xf800) == 0xd800) {
        int low = (*from)[0] == '\\' && (*from)[1] == 'u' ? hex4(*from + 2) : -1;
        if (c >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
            return fail(p, at, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        *from += 6;
    }
    p->plain = put_utf8(p->plain, c);
    return true;
}

static bool take_escape(struct json_parser *p, const char **from)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    char c = (*from)[1];
    if (c == 'u')
        return take_unicode(p, from);
    const char *name = memchr(names, c, sizeof(names) - 1);
    if (name == NULL)
        return fail(p, (size_t)(*from - p->text), "unknown escape");
    *p->plain++ = bytes[name - names];
    *from += 2;
    return true;
}

static bool unescape(struct json_parser *p, struct json_value *v)
{
    const char *from = v->as.text;
    const char *end = from + v->size;
    if (p->plain == NULL) /* no string grows by it */
        p->plain = arena_alloc(p->arena, p->n - v->at);
    v->as.text = p->plain;
    for (;;) {
        const char *escape = memchr(from, '\\', (size_t)(end - from));
        size_t run = (size_t)((escape != NULL ? escape : end) - from);
        memcpy(p->plain, from, run);
        p->plain += run;
        from = escape;
        if (escape == NULL)
            break;
        if (!take_escape(p, &from))
            return false;
    }
    v->size = (uint32_t)(p->plain - v->as.text);
    if (memchr(v->as.text, '\0', v->size) != NULL)
        raise_fault(p, FAULT_NUL, v->at);
    return true;
}

/* Where a string ends whose next token is at text[next]. */
static inline const char *string_end(const char *text, uint32_t next)
{
    const char *end = text + next - 1;
    while (*end != '"')
        end--;
    return end;
}

static inline void put_string(struct json_value *v, const char *text, uint32_t at, uint32_t next)
{
    v->as.text = text + at + 1;
    const char *end = string_end(text, next);
    assert(end >= v->as.text);
    v->size = (uint32_t)(end - v->as.text);
    v->type = JSON_STRING;
    v->at = at & JSON_BYTES;
}

static bool has_escapes(const struct json_value *string)
{
    return memchr(string->as.text, '\\', string->size) != NULL;
}

static bool read_string(struct json_parser *p, uint32_t at)
{
    struct json_value *v = add_value(p, JSON_STRING, at);
    put_string(v, p->text, at, *p->token);
    return !p->escapes || !has_escapes(v) || unescape(p, v);
}

static bool read_word(struct json_parser *p, uint32_t at, const char *word, enum json_type type)
{
    size_t n = strlen(word);
    if (memcmp(p->text + at, word, n) != 0)
        return fail(p, at, "unknown word");
    add_value(p, type, at);
    return check_tail(p, p->text + at + n);
}

/* ---- keys stand once */

/* What keys an object has so far: one bit each. Only where two have the same they are compared. */
struct keys {
    uint64_t seen;
    bool alike;
};

static inline void keys_add(struct keys *keys, const struct json_value *key)
{
    const char *text = key->as.text;
    unsigned ends = key->size != 0 ? (unsigned)text[0] * 7 + (unsigned)text[key->size - 1] : 0;
    uint64_t bit = UINT64_C(1) << ((ends + key->size * 3) & 63);
    keys->alike |= (keys->seen & bit) != 0;
    keys->seen |= bit;
}

static bool same_key(const struct json_value *a, const struct json_value *b)
{
    return a->size == b->size && memcmp(a->as.text, b->as.text, a->size) == 0;
}

/* Whether the key is in the table; otherwise it is then. */
static bool key_stands(struct json_parser *p, uint32_t mask, const struct json_value *key)
{
    uint64_t slot = XXH3_64bits_withSeed(key->as.text, key->size, p->hash_seed);
    for (;; slot++) {
        uint32_t *place = &p->key_slots[slot & mask];
        if (*place == 0) {
            *place = (uint32_t)(key - p->values);
            return false;
        }
        if (same_key(&p->values[*place], key))
            return true;
    }
}

static void check_keys(struct json_parser *p, const struct json_value *object, unsigned depth)
{
    uint32_t slots = KEY_SLOTS_MIN;
    while (slots < 2 * object->size)
        slots *= 2;
    memset(p->key_slots, 0, slots * sizeof(*p->key_slots));
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1)) {
        if (!key_stands(p, slots - 1, key))
            continue;
        if (depth == p->member_depth)
            p->member = json_str(key);
        raise_fault(p, FAULT_TWICE, key->at);
    }
}

/* ---- values */

static bool read_value(struct json_parser *p, unsigned depth);

/* What follows the last value. */
static size_t follower(const struct json_parser *p)
{
    return p->tail != 0 ? p->tail : *p->token;
}

static bool take(struct json_parser *p, char c)
{
    bool there = p->text[*p->token] == c;
    p->token += there;
    return there;
}

/* After a member or an element: whether there is another. Else that was the last, or it fails. */
static bool goes_on(struct json_parser *p, char close)
{
    size_t at = follower(p);
    char c = p->text[at];
    if (c != ',' && c != close)
        return fail(p, at, close == '}' ? "a comma or } is missing" : "a comma or ] is missing");
    p->token++;
    return c == ',';
}

static bool finish(struct json_parser *p, struct json_value *container)
{
    container->as.values = (uint32_t)(p->values + p->values_n - container);
    return p->why == NULL;
}

static bool read_member(struct json_parser *p, unsigned depth)
{
    uint32_t at = *p->token;
    const struct json_value *key = p->values + p->values_n;
    bool outer = depth == p->member_depth;
    if (!take(p, '"'))
        return fail(p, at, "a key is missing");
    if (outer)
        p->member = (struct str){0};
    if (!read_string(p, at))
        return false;
    if (outer)
        p->member = json_str(key);
    if (!take(p, ':'))
        return fail(p, *p->token, "a colon is missing");
    return read_value(p, depth + 1);
}

/*
 * Reads the members that come next as far as they are strings without escapes; nothing can be wrong
 * with those. True: they were the last, and the object's end is taken. What follows the last token
 * is a 0.
 */
static bool read_texts(struct json_parser *p, struct json_value *object, struct keys *keys)
{
    const char *text = p->text;
    const uint32_t *token = p->token;
    struct json_value *v = p->values + p->values_n;
    char after = ',';

    while (after == ',' && text[token[0]] == '"' && text[token[1]] == ':' &&
           text[token[2]] == '"' && object->size != JSON_MEMBERS) {
        char next = text[token[3]];
        put_string(v, text, token[0], token[1]);
        put_string(v + 1, text, token[2], token[3]);
        if ((next != ',' && next != '}') || (p->escapes && (has_escapes(v) || has_escapes(v + 1))))
            break;
        keys_add(keys, v);
        after = next;
        object->size++;
        token += 4;
        v += 2;
    }
    p->token = token;
    p->values_n = (size_t)(v - p->values);
    assert(p->values_n <= p->values_cap);
    return after == '}';
}

static bool read_object(struct json_parser *p, uint32_t at, unsigned depth)
{
    struct json_value *v = add_value(p, JSON_OBJECT, at);
    struct keys keys = {0};
    for (bool more = !take(p, '}'); more && !read_texts(p, v, &keys); more = goes_on(p, '}')) {
        const struct json_value *key = p->values + p->values_n;
        if (v->size++ == JSON_MEMBERS)
            return fail(p, *p->token, "more than 16384 members in one object");
        if (!read_member(p, depth))
            return false;
        keys_add(&keys, key);
    }
    if (!finish(p, v))
        return false;
    if (keys.alike)
        check_keys(p, v, depth);
    return true;
}

/* An element of the outermost array ends, which began at values[from]: a fault takes its place. */
static void end_element(struct json_parser *p, size_t from)
{
    p->member = (struct str){0};
    if (p->fault == FAULT_NONE)
        return;
    p->values_n = from;
    struct json_value *v = add_value(p, JSON_FAULT, p->fault_at);
    v->as.values = 2;
    v->size = p->fault;
    v = add_value(p, JSON_STRING, p->fault_at);
    v->as.text = p->fault_member.p;
    v->size = (uint32_t)p->fault_member.n;
    p->fault = FAULT_NONE;
}

static bool read_array(struct json_parser *p, uint32_t at, unsigned depth)
{
    struct json_value *v = add_value(p, JSON_ARRAY, at);
    for (bool more = !take(p, ']'); more; more = goes_on(p, ']')) {
        size_t from = p->values_n;
        if (v->size++ == p->max_elements && depth == 1) {
            p->token = p->end;
            break;
        }
        if (!read_value(p, depth + 1))
            return false;
        if (depth == 1)
            end_element(p, from);
    }
    return finish(p, v);
}

static bool read_value(struct json_parser *p, unsigned depth)
{
    uint32_t at = *p->token++;
    char c = p->text[at];
    if ((c == '{' || c == '[') && depth > JSON_DEPTH)
        return fail(p, at, "more than 32 levels");
    switch (c) {
    case '{':
        return read_object(p, at, depth);
    case '[':
        return read_array(p, at, depth);
    case '"':
        return read_string(p, at);
    case 't':
        return read_word(p, at, "true", JSON_TRUE);
    case 'f':
        return read_word(p, at, "false", JSON_FALSE);
    case 'n':
        return read_word(p, at, "null", JSON_NULL);
    default:
        return c == '-' || is_digit(c) ? read_number(p, at) : fail(p, at, "a value is missing");
    }
}

/* ---- what is wrong, and where */

static void fault_text(const struct json_parser *p, enum fault fault, size_t at,
                       struct json_error *error)
{
    const char *from = p->text + at;
    struct str shown = {from, 0};
    const char *form = "%.*s%sa string holds \\u0000 at byte %zu";
    if (fault == FAULT_NUMBER) {
        shown.n = strspn(from, "0123456789+-.eE");
        form = "number %.*s%s cannot be held without loss at byte %zu";
    } else if (fault == FAULT_TWICE) {
        for (shown.n = 1; from[shown.n] != '"'; shown.n++)
            shown.n += from[shown.n] == '\\';
        shown.n++;
        form = "key %.*s%s stands twice in one object at byte %zu";
    }
    size_t cut = json_cut(shown, 48);
    error->at = at;
    snprintf(error->text, sizeof(error->text), form, (int)cut, from, cut < shown.n ? "..." : "",
             at);
}

/* ---- the parser */

struct json_parser *json_parser_new(uint32_t max_elements, uint64_t hash_seed)
{
    struct json_parser *p = mem_alloc(sizeof(*p));
    memset(p, 0, sizeof(*p));
    p->max_elements = max_elements;
    p->hash_seed = hash_seed;
    return p;
}

static void release(struct json_parser *p)
{
    free(p->values);
    if (p->index != NULL)
        json_index_free(p->index);
    p->values = NULL;
    p->index = NULL;
    p->index_cap = p->values_cap = 0;
}

void json_parser_free(struct json_parser *p)
{
    release(p);
    free(p);
}

void json_parser_trim(struct json_parser *p)
{
    size_t index_bytes = p->index_cap * sizeof(*p->token);
    if (index_bytes + p->values_cap * sizeof(*p->values) > JSON_KEEP_BYTES)
        release(p);
}

/*
 * How much of the text will be read. Of a long array with far too many elements, and so with small
 * ones, that is not all; a look at its beginning shows it.
 */
static size_t relevant(const struct json_parser *p, struct str text)
{
    uint32_t elements = 0, depth = 0;
    bool inside = false; /* a string */
    size_t seen = text.n < LONG_BYTES ? 0 : (size_t)SMALL_BYTES * p->max_elements;
    for (size_t i = 0; i < seen && i < text.n; i++) {
        char c = text.p[i];
        if (c == '"')
            inside = !inside;
        else if (inside)
            i += c == '\\';
        else if (c == '{' && depth == 0)
            break;
        else if (c == '[' || c == '{')
            depth++;
        else if (c == ']' || c == '}')
            depth--;
        else if (c == ',' && depth == 1 && elements++ == p->max_elements)
            return i;
    }
    return text.n;
}

/* Makes a copy of the text, and room for what comes of it. */
static void load(struct json_parser *p, struct arena *arena, struct str text)
{
    p->n = relevant(p, text);
    if (p->index_cap < p->n || p->index == NULL) {
        release(p);
        p->index_cap = p->n < TEXT_MIN ? TEXT_MIN : p->n;
        p->index = json_index_new(p->index_cap);
    }
    p->arena = arena;
    p->text = arena_alloc(arena, p->n + JSON_PADDING);
    if (p->n != 0)
        memcpy(p->text, text.p, p->n);
    memset(p->text + p->n, 0, JSON_PADDING);
    p->plain = NULL;
    p->escapes = memchr(p->text, '\\', p->n) != NULL;
    p->values_n = 0;
    p->why = NULL;
    p->tail = 0;
    p->member = (struct str){0};
    p->fault = FAULT_NONE;
}

static bool read_text(struct json_parser *p);

static const char *byte_fault(const char *from, size_t size, bool in_string)
{
    if (size > 1 && !json_utf8_valid((struct str){from, size}))
        return "invalid UTF-8";
    return in_string && (unsigned char)*from < 0x20 ? "unescaped control character in a string"
                                                    : NULL;
}

/* A text has no tokens: finds out why, and reads up to there for what may be wrong before. */
static bool fail_tokens(struct json_parser *p)
{
    const char *why = NULL;
    size_t open = 0, at = 0;
    bool inside = false; /* a string; a backslash counts outside, too */
    while (at < p->n) {
        const char *from = p->text + at;
        unsigned char c = (unsigned char)*from;
        size_t size = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        why = byte_fault(from, size, inside);
        if (why != NULL)
            break;
        if (c == '"') {
            inside = !inside;
            open = at;
        }
        at += c == '\\' && (from[1] == '"' || from[1] == '\\') ? 2 : size;
    }
    size_t end = inside ? open : at;
    if (end < p->n) {
        p->n = end;
        p->text[end] = '\0';
        if (!read_text(p) && p->why_at < end)
            return false;
    }
    return why != NULL ? fail(p, at, why) : fail(p, open, "unclosed string");
}

static bool read_text(struct json_parser *p)
{
    size_t tokens_n;
    p->token = json_index_tokens(p->index, (struct str){p->text, p->n}, &tokens_n);
    if (p->token == NULL)
        return fail_tokens(p);
    if (tokens_n == 0)
        return fail(p, p->n, "a value is missing");
    /* No value has less than a token. A fault has two values for its element and the comma or
     * bracket behind that, which the last element of an array that does not end lacks. */
    if (p->values_cap < tokens_n + 1) {
        free(p->values);
        p->values_cap = tokens_n + 1;
        p->values = mem_alloc(p->values_cap * sizeof(*p->values));
    }
    p->end = p->token + tokens_n;
    p->member_depth = p->text[*p->token] == '[' ? 2 : 1;
    if (!read_value(p, 1))
        return false;
    return follower(p) == p->n || fail(p, follower(p), "something follows the value");
}

void json_parser_round(struct json_parser *p, bool rounds)
{
    p->rounds = rounds;
}

int json_parse(struct json_parser *p, struct arena *arena, struct str text,
               const struct json_value **root, struct json_error *error)
{
    assert(text.n <= JSON_BYTES);
    load(p, arena, text);
    bool good = read_text(p);
    *root = p->values;
    if (good && p->fault == FAULT_NONE)
        return 0;
    error->member = good ? p->fault_member : (struct str){0};
    error->at = p->why_at;
    if (good)
        fault_text(p, p->fault, p->fault_at, error);
    else
        snprintf(error->text, sizeof(error->text), "not JSON: %s at byte %zu", p->why, p->why_at);
    return -1;
}

void json_fault(const struct json_parser *p, const struct json_value *fault,
                struct json_error *error)
{
    assert(fault->type == JSON_FAULT);
    fault_text(p, (enum fault)fault->size, fault->at, error);
    error->member = json_str(fault + 1);
}

/* ---- canonical text: RFC 8785 */

static void canonical_number(double value, struct buf *out)
{
    if (fabs(value) < 1e15 && trunc(value) == value)
        buf_add_i64(out, (int64_t)value);
    else
        out->n += number_text(value, buf_reserve(out, NUMBER_BYTES));
}

/*
 * The order of UTF-16 units. It is that of the bytes of UTF-8, but that the characters beyond
 * U+FFFF (first byte F0 and up; in UTF-16 surrogates, D800 and up) go before U+E000 to U+FFFF
 * (first byte EE or EF).
 */
static int utf16_order(const void *a, const void *b)
{
    const struct json_value *left = *(const struct json_value *const *)a;
    const struct json_value *right = *(const struct json_value *const *)b;
    const unsigned char *p = (const unsigned char *)left->as.text;
    const unsigned char *q = (const unsigned char *)right->as.text;
    size_t n = left->size < right->size ? left->size : right->size;
    size_t i = 0;
    while (i < n && p[i] == q[i])
        i++;
    if (i == n)
        return left->size < right->size ? -1 : 1;
    bool swapped = p[i] >= 0xee && q[i] >= 0xee && (p[i] >= 0xf0) != (q[i] >= 0xf0);
    return (p[i] < q[i]) != swapped ? -1 : 1;
}

static void canonical_object(const struct json_value *object, struct buf *out)
{
    enum { EACH = sizeof(const struct json_value *) };
    const struct json_value **keys = mem_alloc((size_t)object->size * EACH);
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1))
        keys[i] = key;
    qsort(keys, object->size, EACH, utf16_order);
    buf_add_byte(out, '{');
    for (uint32_t i = 0; i < object->size; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        json_add_string(out, json_str(keys[i]));
        buf_add_byte(out, ':');
        json_canonical(keys[i] + 1, out);
    }
    buf_add_byte(out, '}');
    free(keys);
}

static void canonical_array(const struct json_value *array, struct buf *out)
{
    const struct json_value *v = json_first(array);
    buf_add_byte(out, '[');
    for (uint32_t i = 0; i < array->size; i++, v = json_next(v)) {
        if (i != 0)
            buf_add_byte(out, ',');
        json_canonical(v, out);
    }
    buf_add_byte(out, ']');
}

void json_canonical(const struct json_value *value, struct buf *out)
{
    static const struct str words[] = {{"null", 4}, {"false", 5}, {"true", 4}};
    switch (value->type) {
    case JSON_NULL:
    case JSON_FALSE:
    case JSON_TRUE:
        buf_add_str(out, words[value->type]);
        break;
    case JSON_NUMBER:
        canonical_number(value->as.number, out);
        break;
    case JSON_STRING:
        json_add_string(out, json_str(value));
        break;
    case JSON_ARRAY:
        canonical_array(value, out);
        break;
    default:
        assert(value->type == JSON_OBJECT);
        canonical_object(value, out);
    }
}
