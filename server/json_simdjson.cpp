/*
 * json on simdjson: the one file in C++, with nothing in it that throws.
 *
 * Normal path: simdjson checks the text and builds its own form of it. Its first stage also leaves
 * the offset of every token; walking the values and these offsets side by side (struct json_parser:
 * `token`) gives each value its place in the text and each number its digits.
 * Failure: simdjson says little about what is wrong and nothing about where. So a text that it
 * refuses is read once more, slowly, by `struct scanner`, which knows.
 *
 * simdjson takes no integer beyond 64 bits, not even one that a double holds and that RFC 8785
 * writes so (1e20 is 100000000000000000000). The scanner rewrites those in place (10000…e12) in
 * our copy, and the text is parsed again.
 */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* compound literals of the C headers */
#include "server/json.h"

#include "core/core.h"
#pragma GCC diagnostic pop

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <simdjson.h>
#include <vector>

using simdjson::dom::element;
using simdjson::dom::element_type;

enum fault { FAULT_NONE, FAULT_NUMBER, FAULT_NUL, FAULT_TWICE };

struct json_parser {
    simdjson::dom::parser dom;
    char *text;
    size_t n, cap; /* cap: without the padding */
    json_value *values;
    size_t values_n, values_cap;
    const uint32_t *token; /* offset of the next one */
    bool escapes;          /* the text has a backslash */
    bool too_deep;         /* a level more than simdjson was asked to refuse: an empty one */
    unsigned member_depth; /* depth of the objects whose keys are errors' `member` */
    str member;
    uint32_t fault, fault_at; /* the first one since the last element of the outermost array */
    str fault_member;
};

/* ---- numbers */

/* A number's significant digits, and its value as 0.DIGITS * 10^exponent. */
struct digits {
    char text[17]; /* as many as a double can tell apart */
    unsigned n;    /* beyond 17: there are more than these */
    int exponent;
    bool integer; /* written without point and exponent */
};

static digits digits_of(const char *p)
{
    digits d = {};
    unsigned zeros = 0; /* that count only if another digit follows */
    d.integer = true;
    for (p += *p == '-'; (*p >= '0' && *p <= '9') || *p == '.'; p++) {
        d.exponent += d.integer && *p != '.' && (d.n != 0 || *p != '0');
        d.exponent -= !d.integer && d.n == 0 && *p == '0';
        if (*p == '.') {
            d.integer = false;
        } else if (*p == '0') {
            zeros += d.n != 0;
        } else {
            for (; zeros != 0; zeros--, d.n++) {
                if (d.n < sizeof(d.text))
                    d.text[d.n] = '0';
            }
            if (d.n < sizeof(d.text))
                d.text[d.n] = *p;
            d.n++;
        }
    }
    if (*p == 'e' || *p == 'E') {
        d.integer = false;
        d.exponent += static_cast<int>(std::clamp(strtol(p + 1, nullptr, 10), -99999L, 99999L));
    }
    return d;
}

/* The fewest digits that stand for this double and no other. */
static digits shortest(double value)
{
    char text[32];
    *std::to_chars(text, text + sizeof(text) - 1, value, std::chars_format::scientific).ptr = '\0';
    return digits_of(text);
}

/* Whether the number written at `text` is still the same after a trip through a double. */
static bool number_survives(const char *text, double value)
{
    digits given = digits_of(text);
    if (given.n > sizeof(given.text) || (value == 0 && given.n != 0) || std::isinf(value))
        return false;
    if (!given.integer || given.n <= 15)
        return true;
    digits back = shortest(value);
    return back.n == given.n && memcmp(back.text, given.text, given.n) == 0;
}

/* Any 64-bit integer of at most 53 bits between its first and its last set one. */
static bool integer_exact(uint64_t magnitude)
{
    return magnitude == 0 || magnitude >> __builtin_ctzll(magnitude) <= UINT64_C(1) << 53;
}

static size_t number_size(const char *p)
{
    return strspn(p, "0123456789+-.eE"); /* the padding ends it */
}

/* ---- walking what simdjson made */

static void raise_fault(json_parser *p, fault kind, uint32_t at)
{
    if (p->fault != FAULT_NONE)
        return;
    p->fault = kind;
    p->fault_at = at;
    p->fault_member = p->member;
}

static json_value *add_value(json_parser *p, json_type type, uint32_t at)
{
    assert(p->values_n < p->values_cap);
    json_value *v = &p->values[p->values_n++];
    v->size = 0;
    v->type = type;
    v->at = at & JSON_BYTES;
    return v;
}

static void add_string(json_parser *p, std::string_view s, uint32_t at)
{
    json_value *v = add_value(p, JSON_STRING, at);
    v->as.text = s.data();
    v->size = static_cast<uint32_t>(s.size());
    if (p->escapes && memchr(s.data(), 0, s.size()) != nullptr)
        raise_fault(p, FAULT_NUL, at);
}

static void add_number(json_parser *p, element e, uint32_t at)
{
    json_value *v = add_value(p, JSON_NUMBER, at);
    bool exact = false;
    if (e.type() == element_type::INT64) {
        int64_t n = e.get_int64().value_unsafe();
        v->as.number = static_cast<double>(n);
        exact = integer_exact(n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n));
    } else if (e.type() == element_type::UINT64) {
        uint64_t n = e.get_uint64().value_unsafe();
        v->as.number = static_cast<double>(n);
        exact = integer_exact(n);
    } else {
        v->as.number = e.get_double().value_unsafe();
    }
    if (!exact && !number_survives(p->text + at, v->as.number))
        raise_fault(p, FAULT_NUMBER, at);
}

static bool same_key(const json_value *a, const json_value *b)
{
    return a->size == b->size && memcmp(a->as.text, b->as.text, a->size) == 0;
}

static void raise_twice(json_parser *p, const json_value *key, unsigned depth)
{
    if (depth == p->member_depth)
        p->member = json_str(key);
    raise_fault(p, FAULT_TWICE, key->at);
}

static bool key_before(const json_value *a, const json_value *b)
{
    int order =
        a->size != b->size ? (a->size < b->size ? -1 : 1) : memcmp(a->as.text, b->as.text, a->size);
    return order != 0 ? order < 0 : a->at < b->at;
}

static void check_keys(json_parser *p, const json_value *object, unsigned depth)
{
    enum { FEW = 16 }; /* up to here comparing all pairs is faster than sorting */
    const json_value *few[FEW];
    std::vector<const json_value *> many(object->size > FEW ? object->size : 0);
    const json_value **keys = object->size > FEW ? many.data() : few;
    const json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1)) {
        keys[i] = key;
        for (uint32_t k = 0; k < i && object->size <= FEW; k++) {
            if (same_key(keys[k], key))
                raise_twice(p, key, depth);
        }
    }
    std::sort(many.begin(), many.end(), key_before);
    for (size_t i = 1; i < many.size(); i++) {
        if (same_key(many[i - 1], many[i]))
            raise_twice(p, many[i], depth);
    }
}

/* Puts a fault in the place of an element of the outermost array, from values[from] on. */
static void replace_by_fault(json_parser *p, size_t from)
{
    p->values_n = from;
    json_value *v = add_value(p, JSON_FAULT, p->fault_at);
    v->as.values = 2;
    v->size = p->fault;
    v = add_value(p, JSON_STRING, p->fault_at);
    v->as.text = p->fault_member.p;
    v->size = static_cast<uint32_t>(p->fault_member.n);
    p->fault = FAULT_NONE;
}

static void add_element(json_parser *p, element e, unsigned depth);

static void add_array(json_parser *p, simdjson::dom::array array, uint32_t at, unsigned depth)
{
    json_value *v = add_value(p, JSON_ARRAY, at);
    for (element child : array) {
        size_t from = p->values_n;
        if (depth == 1)
            p->member = str{};
        add_element(p, child, depth + 1);
        p->token++; /* the comma or bracket behind it */
        v->size++;
        if (depth == 1 && p->fault != FAULT_NONE)
            replace_by_fault(p, from);
    }
    p->token += v->size == 0;
    v->as.values = static_cast<uint32_t>(p->values + p->values_n - v);
}

static void add_object(json_parser *p, simdjson::dom::object object, uint32_t at, unsigned depth)
{
    json_value *v = add_value(p, JSON_OBJECT, at);
    for (auto member : object) {
        if (depth == p->member_depth)
            p->member = str{member.key.data(), member.key.size()};
        add_string(p, member.key, *p->token);
        p->token += 2; /* the key and its colon */
        add_element(p, member.value, depth + 1);
        p->token++;
        v->size++;
    }
    p->token += v->size == 0;
    v->as.values = static_cast<uint32_t>(p->values + p->values_n - v);
    check_keys(p, v, depth);
}

static void add_element(json_parser *p, element e, unsigned depth)
{
    uint32_t at = *p->token++;
    switch (e.type()) {
    case element_type::OBJECT:
        p->too_deep |= depth > JSON_DEPTH;
        return add_object(p, e.get_object().value_unsafe(), at, depth);
    case element_type::ARRAY:
        p->too_deep |= depth > JSON_DEPTH;
        return add_array(p, e.get_array().value_unsafe(), at, depth);
    case element_type::STRING:
        return add_string(p, e.get_string().value_unsafe(), at);
    case element_type::BOOL:
        add_value(p, e.get_bool().value_unsafe() ? JSON_TRUE : JSON_FALSE, at);
        return;
    case element_type::NULL_VALUE:
        add_value(p, JSON_NULL, at);
        return;
    default:
        return add_number(p, e, at);
    }
}

/* ---- what is wrong, and where */

static void fault_text(const json_parser *p, uint32_t kind, size_t at, json_error *error)
{
    const char *from = p->text + at;
    str shown = {from, number_size(from)};
    const char *form = "number %.*s%s cannot be held without loss at byte %zu";
    if (kind == FAULT_NUL) {
        shown.n = 0;
        form = "%.*s%sa string holds \\u0000 at byte %zu";
    } else if (kind == FAULT_TWICE) {
        shown.n = 1;
        while (from[shown.n] != '"')
            shown.n += 1 + (from[shown.n] == '\\');
        shown.n++;
        form = "key %.*s%s stands twice in one object at byte %zu";
    }
    size_t cut = json_cut(shown, 48);
    error->at = at;
    snprintf(error->text, sizeof(error->text), form, static_cast<int>(cut), from,
             cut < shown.n ? "..." : "", at);
}

/* Reads a text that simdjson has refused, up to its first fault. */
struct scanner {
    json_parser *p;
    const char *at;
    const char *why = nullptr;
    bool bad_number = false; /* grammatical, but too long or too large */
    bool rewritten = false;

    bool fail(const char *text)
    {
        why = text;
        return false;
    }

    bool fail_at(const char *place, const char *text)
    {
        at = place;
        return fail(text);
    }

    char peek()
    {
        at += strspn(at, " \t\r\n");
        return at < p->text + p->n ? *at : '\0';
    }

    bool closed()
    {
        at++;
        return true;
    }

    bool word(const char *text)
    {
        if (strncmp(at, text, strlen(text)) != 0)
            return fail("unknown word");
        at += strlen(text);
        return true;
    }

    bool hex(const char *from, unsigned *unit)
    {
        if (strspn(from, "0123456789abcdefABCDEF") < 4)
            return fail("broken \\u escape");
        char digits4[5] = {from[0], from[1], from[2], from[3], '\0'};
        *unit = static_cast<unsigned>(strtoul(digits4, nullptr, 16));
        return true;
    }

    bool escape()
    {
        unsigned high = 0, low = 0;
        if (at[1] != 'u') {
            if (at[1] == '\0' || strchr("\"\\/bfnrt", at[1]) == nullptr)
                return fail("unknown escape");
            at += 2;
            return true;
        }
        if (!hex(at + 2, &high))
            return false;
        bool pair = high >> 10 == 0xd800 >> 10;
        bool followed = at[6] == '\\' && at[7] == 'u' && hex(at + 8, &low);
        if (high >> 10 == 0xdc00 >> 10 || (pair && !(followed && low >> 10 == 0xdc00 >> 10)))
            return fail("half of a surrogate pair");
        at += pair ? 12 : 6;
        return true;
    }

    bool string()
    {
        const char *end = p->text + p->n;
        const char *open = at++;
        while (at < end && *at != '"') {
            unsigned char c = static_cast<unsigned char>(*at);
            size_t size = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
            if (c == '\\') {
                if (!escape())
                    return false;
                continue;
            }
            if (c < 0x20)
                return fail("unescaped control character in a string");
            if (!simdjson::validate_utf8(at, size))
                return fail("invalid UTF-8");
            at += size;
        }
        if (at >= end)
            return fail_at(open, "unclosed string");
        at++;
        return true;
    }

    /* Whether the integer from `from` to `at` is one that simdjson takes and a double holds. */
    bool plain_integer(const char *from)
    {
        uint64_t magnitude = 0;
        bool negative = *from == '-';
        return std::from_chars(from + negative, at, magnitude).ec == std::errc() &&
               integer_exact(magnitude) && (!negative || magnitude <= UINT64_C(1) << 63);
    }

    /* Writes the integer from `from` to `at`, whose last digits are zeros, with an exponent. */
    void rewrite(const char *from)
    {
        size_t zeros = 0;
        while (at[-1 - static_cast<ptrdiff_t>(zeros)] == '0')
            zeros++;
        assert(at - from > static_cast<ptrdiff_t>(zeros));
        char *to = p->text + (at - p->text) - zeros;
        char exponent[16];
        int n = snprintf(exponent, sizeof(exponent), "e%zu", zeros);
        assert(static_cast<size_t>(n) <= zeros);
        memset(to, ' ', zeros);
        memcpy(to, exponent, static_cast<size_t>(n));
        rewritten = true;
    }

    bool number()
    {
        const char *from = at;
        at += *at == '-';
        size_t whole = strspn(at, "0123456789");
        if (whole == 0 || (whole > 1 && *at == '0'))
            return fail_at(from, "malformed number");
        at += whole;
        if (*at == '.') {
            size_t fraction = strspn(++at, "0123456789");
            if (fraction == 0)
                return fail_at(from, "malformed number");
            at += fraction;
        }
        if (*at == 'e' || *at == 'E') {
            at++;
            at += *at == '+' || *at == '-';
            size_t exponent = strspn(at, "0123456789");
            if (exponent == 0)
                return fail_at(from, "malformed number");
            at += exponent;
        }
        double value = 0;
        bool fits = std::from_chars(from, at, value).ec == std::errc();
        if (fits && whole >= 19 && at == from + (*from == '-') + whole && !plain_integer(from)) {
            fits = number_survives(from, value);
            if (fits)
                rewrite(from);
        }
        bad_number = !fits;
        if (bad_number)
            at = from;
        return fits;
    }

    bool members(char close, unsigned depth)
    {
        at++;
        if (peek() == close)
            return closed();
        for (;;) {
            if (close == '}') {
                if (peek() != '"')
                    return fail("a key is missing");
                if (!string())
                    return false;
                if (peek() != ':')
                    return fail("a colon is missing");
                at++;
            }
            if (!value(depth + 1))
                return false;
            char c = peek();
            if (c != ',' && c != close)
                return fail(close == '}' ? "a comma or } is missing" : "a comma or ] is missing");
            at++;
            if (c == close)
                return true;
        }
    }

    bool value(unsigned depth)
    {
        char c = peek();
        if ((c == '{' || c == '[') && depth > JSON_DEPTH)
            return fail("more than 32 levels");
        if (c == '{' || c == '[')
            return members(c == '{' ? '}' : ']', depth);
        if (c == '"')
            return string();
        if (c == '-' || (c >= '0' && c <= '9'))
            return number();
        if (c == 't' || c == 'f' || c == 'n')
            return word(c == 't' ? "true" : c == 'f' ? "false" : "null");
        return fail("a value is missing");
    }

    bool text()
    {
        if (!value(1))
            return false;
        peek();
        return at == p->text + p->n || fail("something follows the value");
    }
};

/* True: the text has been changed and may be better now. Else fills *error. */
static bool explain(json_parser *p, json_error *error)
{
    scanner s = {p, p->text};
    if (s.text()) {
        s.why = "refused";
        if (s.rewritten)
            return true;
    }
    size_t at = static_cast<size_t>(s.at - p->text);
    error->at = at;
    error->member = str{};
    if (s.bad_number)
        fault_text(p, FAULT_NUMBER, at, error);
    else
        snprintf(error->text, sizeof(error->text), "not JSON: %s at byte %zu", s.why, at);
    return false;
}

/* ---- the C face */

static void make_room(json_parser *p, size_t n)
{
    size_t cap = p->cap == 0 ? 4096 : p->cap;
    while (cap < n)
        cap *= 2;
    if (p->cap != cap) {
        free(p->text);
        p->text = static_cast<char *>(mem_alloc(cap + simdjson::SIMDJSON_PADDING));
        p->cap = cap;
        /* One level more than allowed: simdjson counts the innermost only if it holds something. */
        if (p->dom.allocate(cap, JSON_DEPTH + 1) || p->dom.doc.allocate(cap)) {
            fprintf(stderr, "atoll: out of memory (a JSON text of %zu bytes)\n", n);
            abort();
        }
    }
}

static void walk(json_parser *p, element root)
{
    const auto &dom = *p->dom.implementation;
    if (p->values_cap < dom.n_structural_indexes) {
        p->values_cap = std::max<size_t>(2 * p->values_cap, dom.n_structural_indexes);
        free(p->values);
        p->values = static_cast<json_value *>(mem_alloc(p->values_cap * sizeof(json_value)));
    }
    p->values_n = 0;
    p->token = dom.structural_indexes.get();
    p->escapes = memchr(p->text, '\\', p->n) != nullptr;
    p->too_deep = false;
    p->fault = FAULT_NONE;
    p->member = str{};
    p->member_depth = root.is_array() ? 2 : 1;
    add_element(p, root, 1);
}

json_parser *json_parser_new(void)
{
    return new json_parser();
}

void json_parser_free(json_parser *p)
{
    free(p->text);
    free(p->values);
    delete p;
}

void json_parser_trim(json_parser *p)
{
    /* By length of text, simdjson holds 4 bytes of offsets, 8 of values and 5/3 of strings. */
    if (p->cap * 15 + p->values_cap * sizeof(json_value) <= JSON_KEEP_BYTES)
        return;
    free(p->text);
    free(p->values);
    *p = json_parser();
}

int json_parse(json_parser *p, str text, const json_value **root, json_error *error)
{
    if (text.n > JSON_BYTES) {
        *error = json_error{JSON_BYTES, {}, "not JSON: more than 268435455 bytes"};
        return -1;
    }
    make_room(p, text.n);
    if (text.n != 0)
        memcpy(p->text, text.p, text.n);
    memset(p->text + text.n, 0, simdjson::SIMDJSON_PADDING);
    p->n = text.n;
    for (int round = 0; round < 2; round++) {
        element e;
        bool parsed = p->dom.parse(p->text, p->n, false).get(e) == simdjson::SUCCESS;
        if (parsed)
            walk(p, e);
        if (parsed && !p->too_deep)
            break;
        if (!explain(p, error) || round == 1)
            return -1;
    }
    *root = p->values;
    if (p->fault == FAULT_NONE)
        return 0;
    fault_text(p, p->fault, p->fault_at, error);
    error->member = p->fault_member;
    return -1;
}

void json_fault(const json_parser *p, const json_value *fault, json_error *error)
{
    assert(fault->type == JSON_FAULT);
    fault_text(p, fault->size, fault->at, error);
    error->member = json_str(fault + 1);
}

bool json_utf8_valid(str s)
{
    return s.n == 0 || simdjson::validate_utf8(s.p, s.n);
}

/* ---- canonical text: RFC 8785 */

static void canonical_number(double value, buf *out)
{
    if (std::fabs(value) < 1e15 && std::trunc(value) == value)
        return buf_add_i64(out, static_cast<int64_t>(value));
    digits d = shortest(value);
    int n = static_cast<int>(d.n);
    if (value < 0)
        buf_add_byte(out, '-');
    if (d.exponent > -6 && d.exponent <= 21) {
        if (d.exponent <= 0)
            buf_add(out, "0.00000", static_cast<size_t>(2 - d.exponent));
        int whole = std::clamp(d.exponent, 0, n);
        buf_add(out, d.text, static_cast<size_t>(whole));
        if (whole > 0 && whole < n)
            buf_add_byte(out, '.');
        buf_add(out, d.text + whole, static_cast<size_t>(n - whole));
        for (int i = n; i < d.exponent; i++)
            buf_add_byte(out, '0');
        return;
    }
    buf_add(out, d.text, 1);
    if (n > 1)
        buf_add_byte(out, '.');
    buf_add(out, d.text + 1, static_cast<size_t>(n - 1));
    buf_add(out, d.exponent > 0 ? "e+" : "e", d.exponent > 0 ? 2 : 1);
    buf_add_i64(out, d.exponent - 1);
}

/*
 * The order of UTF-16 units. It is that of the bytes of UTF-8, but that the characters beyond
 * U+FFFF (first byte F0 and up; in UTF-16 surrogates, D800 and up) go before U+E000 to U+FFFF
 * (first byte EE or EF).
 */
static bool utf16_before(const json_value *a, const json_value *b)
{
    const auto *p = reinterpret_cast<const unsigned char *>(a->as.text);
    const auto *q = reinterpret_cast<const unsigned char *>(b->as.text);
    size_t n = std::min(a->size, b->size);
    size_t i = static_cast<size_t>(std::mismatch(p, p + n, q).first - p);
    if (i == n)
        return a->size < b->size;
    bool swapped = p[i] >= 0xee && q[i] >= 0xee && (p[i] >= 0xf0) != (q[i] >= 0xf0);
    return swapped ? p[i] > q[i] : p[i] < q[i];
}

static void canonical_object(const json_value *object, buf *out)
{
    enum { FEW = 16 };
    const json_value *few[FEW];
    std::vector<const json_value *> many(object->size > FEW ? object->size : 0);
    const json_value **keys = object->size > FEW ? many.data() : few;
    const json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1))
        keys[i] = key;
    std::sort(keys, keys + object->size, utf16_before);
    buf_add_byte(out, '{');
    for (uint32_t i = 0; i < object->size; i++) {
        if (i != 0)
            buf_add_byte(out, ',');
        json_add_string(out, json_str(keys[i]));
        buf_add_byte(out, ':');
        json_canonical(keys[i] + 1, out);
    }
    buf_add_byte(out, '}');
}

static void canonical_array(const json_value *array, buf *out)
{
    const json_value *v = json_first(array);
    buf_add_byte(out, '[');
    for (uint32_t i = 0; i < array->size; i++, v = json_next(v)) {
        if (i != 0)
            buf_add_byte(out, ',');
        json_canonical(v, out);
    }
    buf_add_byte(out, ']');
}

void json_canonical(const json_value *value, buf *out)
{
    switch (value->type) {
    case JSON_NULL:
        return buf_add_literal(out, "null");
    case JSON_FALSE:
        return buf_add_literal(out, "false");
    case JSON_TRUE:
        return buf_add_literal(out, "true");
    case JSON_NUMBER:
        return canonical_number(value->as.number, out);
    case JSON_STRING:
        return json_add_string(out, json_str(value));
    case JSON_ARRAY:
        return canonical_array(value, out);
    default:
        assert(value->type == JSON_OBJECT);
        return canonical_object(value, out);
    }
}
