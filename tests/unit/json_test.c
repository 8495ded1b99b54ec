/*
 * json: what is read, what is refused with which words, and canonical text by the vectors of
 * RFC 8785. The last tests hold for anything: what we write as canonical we also read, unchanged.
 */
#include "server/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX_ELEMENTS = 300001 };

static struct json_parser *parser;
static struct arena memory;
static struct json_error error;

static int make_parser(void **state)
{
    (void)state;
    parser = json_parser_new(MAX_ELEMENTS, 7);
    return 0;
}

static int free_parser(void **state)
{
    (void)state;
    json_parser_free(parser);
    arena_free(&memory);
    return 0;
}

static struct str text_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

static const struct json_value *parse(const char *text)
{
    const struct json_value *root = NULL;
    if (json_parse(parser, &memory, text_of(text), &root, &error) != 0) {
        print_error("%s: %s\n", text, error.text);
        fail();
    }
    return root;
}

static void assert_refused(struct str text, const char *expected)
{
    const struct json_value *root = NULL;
    memset(&error, 0, sizeof(error));
    if (json_parse(parser, &memory, text, &root, &error) == 0) {
        print_error("taken: %.*s\n", (int)text.n, text.p);
        fail();
    }
    assert_string_equal(error.text, expected);
}

static void assert_canonical(const char *text, const char *expected)
{
    struct buf out = {0};
    json_canonical(parse(text), &out);
    buf_add_byte(&out, '\0');
    assert_string_equal(out.p, expected);
    buf_free(&out);
}

static void assert_text(const struct json_value *v, const char *expected)
{
    assert_int_equal(v->type, JSON_STRING);
    assert_true(str_equal(json_str(v), text_of(expected)));
}

static void values_stand_in_reading_order(void **state)
{
    (void)state;
    const struct json_value *v = parse(" {\"a\":[1,{\"b\":null}],\"c\":\"x\\ty\",\"d\":{}}");
    assert_int_equal(v->type, JSON_OBJECT);
    assert_int_equal(v->size, 3);
    assert_int_equal(v->at, 1);
    v = json_first(v);
    assert_text(v, "a");
    const struct json_value *array = ++v;
    assert_int_equal(array->size, 2);
    v = json_first(array);
    assert_true(v->type == JSON_NUMBER && v->as.number == 1);
    assert_int_equal(v->at, 7);
    v = json_next(v);
    assert_int_equal(v->type, JSON_OBJECT);
    assert_ptr_equal(json_next(v), json_next(array));
    v = json_next(array);
    assert_text(v, "c");
    assert_text(v + 1, "x\ty");
    v = json_next(v + 1);
    assert_text(v, "d");
    assert_int_equal(v[1].size, 0);
    assert_int_equal(v[1].at, (int)strlen(" {\"a\":[1,{\"b\":null}],\"c\":\"x\\ty\",\"d\":"));
}

static void every_kind_of_value_may_stand_alone(void **state)
{
    (void)state;
    assert_int_equal(parse("null")->type, JSON_NULL);
    assert_int_equal(parse("true")->type, JSON_TRUE);
    assert_int_equal(parse(" false\n")->type, JSON_FALSE);
    assert_true(parse("-12.5e1")->as.number == -125);
    assert_text(parse("\"\""), "");
    assert_int_equal(parse("[]")->size, 0);
}

static void broken_json_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "not JSON: a value is missing at byte 0"},
        {"  ", "not JSON: a value is missing at byte 2"},
        {"[1,2", "not JSON: a comma or ] is missing at byte 4"},
        {"[1,]", "not JSON: a value is missing at byte 3"},
        {"[1 2]", "not JSON: a comma or ] is missing at byte 3"},
        {"[1]]", "not JSON: something follows the value at byte 3"},
        {"{} {}", "not JSON: something follows the value at byte 3"},
        {"{\"a\" 1}", "not JSON: a colon is missing at byte 5"},
        {"{\"a\":1 \"b\":2}", "not JSON: a comma or } is missing at byte 7"},
        {"{\"a\":1,}", "not JSON: a key is missing at byte 7"},
        {"{a:1}", "not JSON: a key is missing at byte 1"},
        {"[tru]", "not JSON: unknown word at byte 1"},
        {"[nulll]", "not JSON: a comma or ] is missing at byte 5"},
        {"[NaN]", "not JSON: a value is missing at byte 1"},
        {"[01]", "not JSON: malformed number at byte 1"},
        {"[1.]", "not JSON: malformed number at byte 1"},
        {"[-]", "not JSON: malformed number at byte 1"},
        {"[1e]", "not JSON: malformed number at byte 1"},
        {"[+1]", "not JSON: a value is missing at byte 1"},
        {"[\"a", "not JSON: unclosed string at byte 1"},
        {"[\"a\nb\"]", "not JSON: unescaped control character in a string at byte 3"},
        {"[\"\\x\"]", "not JSON: unknown escape at byte 2"},
        {"[\"\\u12g4\"]", "not JSON: broken \\u escape at byte 2"},
        {"[\"\\ud800\"]", "not JSON: half of a surrogate pair at byte 2"},
        {"[\"\\ud800\\u0041\"]", "not JSON: half of a surrogate pair at byte 2"},
        {"[\"\\ud800\\ud800\"]", "not JSON: half of a surrogate pair at byte 2"},
        {"[\"\\udc00\"]", "not JSON: half of a surrogate pair at byte 2"},
        {"[\"ab\xff\"]", "not JSON: invalid UTF-8 at byte 4"},
        {"[\"\xc0\xaf\"]", "not JSON: invalid UTF-8 at byte 2"},
        {"[\"\xed\xa0\x80\"]", "not JSON: invalid UTF-8 at byte 2"},
        {"[\"\xe2\x82\"]", "not JSON: invalid UTF-8 at byte 2"},
        {"\xef\xbb\xbf{}", "not JSON: a value is missing at byte 0"},
        {"{\"k\":1,n\":2}", "not JSON: a key is missing at byte 7"},
        {"[1 2,\"\xff\"]", "not JSON: a comma or ] is missing at byte 3"},
        {"[1\"a\"]", "not JSON: a comma or ] is missing at byte 2"},
        {"1x", "not JSON: something follows the value at byte 1"},
        {"\"a\"\xff", "not JSON: invalid UTF-8 at byte 3"},
        {"\\\"a\"", "not JSON: a value is missing at byte 0"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(text_of(cases[i].text), cases[i].expected);
    assert_refused(STR("[\"a\0b\"]"),
                   "not JSON: unescaped control character in a string at byte 3");
    assert_refused(STR("[1]\0"), "not JSON: something follows the value at byte 3");
}

static void a_number_must_survive_a_double(void **state)
{
    static const char *const kept[] = {
        "9007199254740992",
        "-9007199254740992",
        "9007199254740994",
        "1152921504606846976",
        "1152921504606847000",
        "18446744073709549568",
        "-9223372036854775808",
        "100000000000000000000",
        "295147905179352830000",
        "295147905179352825856",
        "100000000000000000000000",
        "-10000000000000000000",
        "-9300000000000000000",
        "0.1",
        "333333333.33333329",
        "1e308",
        "5e-324",
        "1e-320",
        "-0.0",
        "0e999999999999",
        "0.00000000000000000000000000000000000000000000",
        "1.50000000000000000000000000000",
    };
    static const char *const lost[] = {
        "9007199254740993",
        "-9007199254740993",
        "9007199254740995",
        "1e400",
        "-1e400",
        "1e-400",
        "1e99999999999",
        "18446744073709551615",
        "18446744073709551617",
        "959037052606240770",
        "123456789012345678901",
        "0.123456789012345678",
        "123456789012345678901234567890e-20",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        assert_true(parse(kept[i])->as.number == strtod(kept[i], NULL));
    for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
        char text[80], expected[160];
        snprintf(text, sizeof(text), "[%s]", lost[i]);
        const struct json_value *v = NULL;
        if (json_parse(parser, &memory, text_of(text), &v, &error) == 0) {
            assert_int_equal(v[1].type, JSON_FAULT);
            json_fault(parser, v + 1, &error);
        }
        snprintf(expected, sizeof(expected), "number %s cannot be held without loss at byte 1",
                 lost[i]);
        assert_string_equal(error.text, expected);
    }
}

static void an_integer_beyond_64_bits_is_read_where_its_digits_survive(void **state)
{
    (void)state;
    assert_canonical("{\"b\":100000000000000000000,\"a\":[-295147905179352830000 ]}",
                     "{\"a\":[-295147905179352830000],\"b\":100000000000000000000}");
    assert_refused(STR("[100000000000000000000,tru]"), "not JSON: unknown word at byte 23");
    assert_refused(STR("{\"a\":1000000000000000000000,\"b\":\"\\u0000\"}"),
                   "a string holds \\u0000 at byte 32");
}

static void the_33rd_level_is_refused(void **state)
{
    char text[512];
    (void)state;
    for (int levels = 31; levels <= 34; levels++) {
        for (int filled = 0; filled < 2; filled++) {
            int n = 0;
            for (int i = 0; i < levels; i++)
                n += snprintf(text + n, sizeof(text) - (size_t)n, i % 2 ? "[" : "{\"a\":");
            if (levels % 2 == 1 && !filled)
                n -= (int)strlen("\"a\":");
            else if (filled)
                text[n++] = '1';
            for (int i = levels - 1; i >= 0; i--)
                text[n++] = i % 2 ? ']' : '}';
            text[n] = '\0';
            if (levels <= 32)
                parse(text);
            else
                assert_refused(text_of(text), "not JSON: more than 32 levels at byte 96");
        }
    }
}

static void a_key_stands_once_in_an_object(void **state)
{
    (void)state;
    assert_refused(STR("{\"a\":1,\"b\":{\"x\":1,\"y\":2,\"x\":3}}"),
                   "key \"x\" stands twice in one object at byte 24");
    assert_true(str_equal(error.member, STR("b")));
    assert_refused(STR("{\"ab\":1,\"\\u0061b\":2}"),
                   "key \"\\u0061b\" stands twice in one object at byte 8");
    assert_true(str_equal(error.member, STR("ab")));
    assert_refused(STR("{\"a\\\"b\":1,\"a\\\"b\":2}"),
                   "key \"a\\\"b\" stands twice in one object at byte 10");
    assert_refused(STR("{\"\":1,\"\":2}"), "key \"\" stands twice in one object at byte 6");
    parse("{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]}}");
}

static void a_key_stands_once_in_a_large_object(void **state)
{
    struct buf text = {0};
    const struct json_value *v;
    (void)state;
    buf_add_byte(&text, '{');
    for (uint64_t i = 0; i < 5000; i++) {
        buf_add_literal(&text, "\"k");
        buf_add_u64(&text, i);
        buf_add_literal(&text, "\":0,");
    }
    size_t n = text.n;
    buf_add_literal(&text, "\"k5000\":0}");
    assert_int_equal(json_parse(parser, &memory, buf_str(&text), &v, &error), 0);
    assert_int_equal(v->size, 5001);
    text.n = n;
    buf_add_literal(&text, "\"k4711\":0}");
    assert_int_equal(json_parse(parser, &memory, buf_str(&text), &v, &error), -1);
    assert_true(str_equal(error.member, STR("k4711")));
    assert_int_equal(error.at, n);
    buf_free(&text);
}

/* One of a few short keys, many of which look alike to a rough look. */
static struct str any_key(unsigned number)
{
    static const char *const keys[] = {"a",       "b",    "ab",  "ba",  "aab",      "bab", "",
                                       "I",       "i",    "1",   "q",   "abb",      "aIb", "z",
                                       "\\u0061", "a\\n", "key", "kay", "k\u00e9y", "type"};
    return text_of(keys[number % (sizeof(keys) / sizeof(keys[0]))]);
}

/* What a key is when it is read. */
static bool same_when_read(struct str a, struct str b)
{
    struct str escaped = STR("\\u0061");
    return str_equal(str_equal(a, escaped) ? STR("a") : a, str_equal(b, escaped) ? STR("a") : b);
}

/* Texts and other values mixed, which are read in different ways; each form at each place. */
static void a_key_stands_once_among_any_values(void **state)
{
    static const char *const values[] = {"\"text\"", "1",       "\"es\\ncaped\"",
                                         "{}",       "[\"a\"]", "\"\""};
    uint32_t random = 7;
    unsigned refused = 0;
    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        struct buf text = {0};
        struct str keys[6];
        const struct json_value *v;
        bool twice = false;
        unsigned n = 1 + round % 6;
        buf_add_byte(&text, '{');
        for (unsigned i = 0; i < n; i++) {
            random = random * 1664525 + 1013904223;
            keys[i] = any_key(random >> 16);
            for (unsigned k = 0; k < i; k++)
                twice = twice || same_when_read(keys[k], keys[i]);
            buf_add_literal(&text, "\"");
            buf_add_str(&text, keys[i]);
            buf_add_literal(&text, "\":");
            buf_add_str(&text, text_of(values[random >> 24 & 7 ? (random >> 24) % 6 : 0]));
            buf_add_byte(&text, i + 1 < n ? ',' : '}');
        }
        int rc = json_parse(parser, &memory, buf_str(&text), &v, &error);
        assert_int_equal(rc, twice ? -1 : 0);
        if (twice)
            assert_non_null(strstr(error.text, "stands twice"));
        else
            assert_int_equal(v->size, n);
        refused += twice;
        buf_free(&text);
        arena_reset(&memory);
    }
    assert_in_range(refused, 1000, 19000);
}

static void an_object_has_its_bound(void **state)
{
    struct buf text = {0};
    const struct json_value *v;
    (void)state;
    buf_add_literal(&text, "[{\"k0\":0");
    for (uint64_t i = 1; i < JSON_MEMBERS; i++) {
        buf_add_literal(&text, ",\"k");
        buf_add_u64(&text, i);
        buf_add_literal(&text, "\":0");
    }
    size_t n = text.n;
    buf_add_literal(&text, "}]");
    assert_int_equal(json_parse(parser, &memory, buf_str(&text), &v, &error), 0);
    assert_int_equal(v[1].size, JSON_MEMBERS);
    text.n = n;
    buf_add_literal(&text, ",\"k\":0}]");
    assert_int_equal(json_parse(parser, &memory, buf_str(&text), &v, &error), -1);
    assert_int_equal(error.at, n + 1);
    assert_non_null(strstr(error.text, "more than 16384 members in one object"));
    buf_free(&text);
}

/* The text, and a long one by the blanks behind it: both must have so many elements. */
static void assert_elements(struct json_parser *few, const char *text, uint32_t expected)
{
    enum { BLANKS = 1024 * 1024 };
    struct buf whole = {0};
    const struct json_value *v;
    buf_add(&whole, text, strlen(text));
    memset(buf_reserve(&whole, BLANKS), ' ', BLANKS);
    whole.n += BLANKS;
    for (size_t blanks = 0; blanks <= BLANKS; blanks += BLANKS) {
        struct str part = {whole.p, whole.n - blanks};
        if (json_parse(few, &memory, part, &v, &error) != 0)
            fail_msg("%s: %s", text, error.text);
        assert_int_equal(v->size, expected);
    }
    buf_free(&whole);
}

static void an_array_is_read_up_to_its_bound(void **state)
{
    struct json_parser *few = json_parser_new(3, 7);
    (void)state;
    assert_elements(few, "[1,[2,2,2,2],{\"a\":3,\"b\":[4,5,6]}]", 3);
    assert_elements(few, "[\",,,\\\",,,\\\\\",2,3]", 3);
    assert_elements(few, "[1,2,3,4]", 4);
    assert_elements(few, "[1,[],{},4,tru", 4);
    assert_elements(few, "[[1,2,3,4,5]]", 1);
    assert_elements(few, "{\"a\":1,\"b\":2,\"c\":3,\"d\":[4,5,6,7,8]}", 4);
    json_parser_free(few);
}

static void a_string_or_key_holds_no_nul(void **state)
{
    (void)state;
    assert_refused(STR("{\"a\":\"x\\u0000\"}"), "a string holds \\u0000 at byte 5");
    assert_true(str_equal(error.member, STR("a")));
    assert_refused(STR("{\"a\":{\"\\u0000\":1}}"), "a string holds \\u0000 at byte 6");
    parse("{\"a\":\"\\\\u0000\"}");
}

static void long_names_are_cut_between_characters(void **state)
{
    char text[512];
    char shown[64];
    (void)state;
    memset(shown, 0, sizeof(shown));
    for (int i = 0; i < 23; i++)
        strcat(shown, "\xc3\xb6");
    snprintf(text, sizeof(text), "{\"x%s%s\":1,\"x%s%s\":2}", shown, shown, shown, shown);
    const struct json_value *v;
    assert_int_equal(json_parse(parser, &memory, text_of(text), &v, &error), -1);
    assert_memory_equal(error.text, "key \"x", 6);
    assert_true(json_utf8_valid(text_of(error.text)));
    assert_non_null(strstr(error.text, "\xc3\xb6... stands twice"));
}

static void a_faulty_element_leaves_its_neighbours_alone(void **state)
{
    (void)state;
    const struct json_value *v =
        parse("[1,{\"a\":{\"b\":\"\\u0000\"}},[1e-999],\"x\",{\"c\":1,\"c\":2},3]");
    assert_int_equal(v->size, 6);
    v = json_first(v);
    assert_true(v->as.number == 1);
    v = json_next(v);
    assert_int_equal(v->type, JSON_FAULT);
    json_fault(parser, v, &error);
    assert_string_equal(error.text, "a string holds \\u0000 at byte 13");
    assert_true(str_equal(error.member, STR("a")));
    v = json_next(v);
    json_fault(parser, v, &error);
    assert_string_equal(error.text, "number 1e-999 cannot be held without loss at byte 25");
    assert_null(error.member.p);
    v = json_next(v);
    assert_text(v, "x");
    v = json_next(v);
    json_fault(parser, v, &error);
    assert_string_equal(error.text, "key \"c\" stands twice in one object at byte 44");
    assert_true(str_equal(error.member, STR("c")));
    assert_true(json_next(v)->as.number == 3);
}

static void a_large_text_leaves_no_memory_behind(void **state)
{
    struct buf text = {0};
    const struct json_value *v;
    (void)state;
    buf_add_byte(&text, '[');
    for (int i = 0; i < 300000; i++)
        buf_add_literal(&text, "1,");
    buf_add_literal(&text, "2]");
    assert_int_equal(json_parse(parser, &memory, buf_str(&text), &v, &error), 0);
    assert_int_equal(v->size, 300001);
    json_parser_trim(parser);
    assert_int_equal(parse("[7]")->size, 1);
    json_parser_trim(parser);
    buf_free(&text);
}

static void canonical_text_follows_rfc_8785(void **state)
{
    (void)state;
    assert_canonical("{\n  \"numbers\": [333333333.33333329, 1E30, 4.50, 2e-3, "
                     "0.000000000000000000000000001],\n"
                     "  \"string\": \"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\",\n"
                     "  \"literals\": [null, true, false]\n}",
                     "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,"
                     "0.002,1e-27],\"string\":\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
    assert_canonical("[56,{\"d\":true,\"10\":null,\"1\":[ ]}]",
                     "[56,{\"1\":[],\"10\":null,\"d\":true}]");
    assert_canonical("\"\\b\\f\\t\\r\\u007f\\u2028\"", "\"\\b\\f\\t\\r\x7f\xe2\x80\xa8\"");
    assert_canonical("-0", "0");
    assert_canonical("-0.0", "0");
}

static void keys_are_ordered_by_utf16_units(void **state)
{
    (void)state;
    assert_canonical("{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Dalet\","
                     "\"1\":\"One\",\"\\ud83d\\ude00\":\"Grinning Face\",\"\\u0080\":\"Control\","
                     "\"\\u00f6\":\"O With Diaeresis\"}",
                     "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xc2\x80\":\"Control\","
                     "\"\xc3\xb6\":\"O With Diaeresis\",\"\xe2\x82\xac\":\"Euro Sign\","
                     "\"\xf0\x9f\x98\x80\":\"Grinning Face\",\"\xef\xac\xb3\":\"Dalet\"}");
    assert_canonical("{\"a\\ue000\":1,\"a\\ud800\\udc00\":2,\"a\\ud7ff\":3,\"a\":4,\"\":5,"
                     "\"a\\udbff\\udfff\":6,\"a\\uffff\":7}",
                     "{\"\":5,\"a\":4,\"a\xed\x9f\xbf\":3,\"a\xf0\x90\x80\x80\":2,"
                     "\"a\xf4\x8f\xbf\xbf\":6,\"a\xee\x80\x80\":1,\"a\xef\xbf\xbf\":7}");
}

static void keys_of_a_large_object_are_ordered(void **state)
{
    struct buf text = {0}, out = {0};
    const struct json_value *v;
    (void)state;
    buf_add_literal(&text, "{\"a999\":0");
    for (uint64_t i = 998; i >= 100; i--) {
        buf_add_literal(&text, ",\"a");
        buf_add_u64(&text, i);
        buf_add_literal(&text, "\":0");
    }
    buf_add_byte(&text, '}');
    assert_int_equal(json_parse(parser, &memory, buf_str(&text), &v, &error), 0);
    json_canonical(v, &out);
    assert_memory_equal(out.p, "{\"a100\":0,\"a101\":0,", 19);
    assert_int_equal(out.n, text.n);
    buf_free(&text);
    buf_free(&out);
}

static void assert_number(double number, const char *expected)
{
    struct json_value value = {.type = JSON_NUMBER, .as.number = number};
    struct buf out = {0};
    json_canonical(&value, &out);
    buf_add_byte(&out, '\0');
    assert_string_equal(out.p, expected);
    assert_true(parse(out.p)->as.number == number);
    buf_free(&out);
}

static double double_of(uint64_t bits)
{
    double number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

static void canonical_numbers_follow_rfc_8785(void **state)
{
    static const struct {
        uint64_t bits;
        const char *expected;
    } cases[] = {
        {0x0000000000000000, "0"},
        {0x8000000000000000, "0"},
        {0x0000000000000001, "5e-324"},
        {0x8000000000000001, "-5e-324"},
        {0x7fefffffffffffff, "1.7976931348623157e+308"},
        {0xffefffffffffffff, "-1.7976931348623157e+308"},
        {0x4340000000000000, "9007199254740992"},
        {0xc340000000000000, "-9007199254740992"},
        {0x4430000000000000, "295147905179352830000"},
        {0x44b52d02c7e14af5, "9.999999999999997e+22"},
        {0x44b52d02c7e14af6, "1e+23"},
        {0x44b52d02c7e14af7, "1.0000000000000001e+23"},
        {0x444b1ae4d6e2ef4e, "999999999999999700000"},
        {0x444b1ae4d6e2ef4f, "999999999999999900000"},
        {0x444b1ae4d6e2ef50, "1e+21"},
        {0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
        {0x3eb0c6f7a0b5ed8d, "0.000001"},
        {0x41b3de4355555553, "333333333.3333332"},
        {0x41b3de4355555554, "333333333.33333325"},
        {0x41b3de4355555555, "333333333.3333333"},
        {0x41b3de4355555556, "333333333.3333334"},
        {0x41b3de4355555557, "333333333.33333343"},
        {0xbecbf647612f3696, "-0.0000033333333333333333"},
        {0x43143ff3c1cb0959, "1424953923781206.2"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_number(double_of(cases[i].bits), cases[i].expected);
    assert_number(1e15, "1000000000000000");
    assert_number(-123456.75, "-123456.75");
    assert_number(0.5, "0.5");
}

static uint64_t next_random(uint64_t *seed)
{
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *seed;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void any_canonical_number_is_read_back_the_same(void **state)
{
    uint64_t seed = 1;
    struct buf out = {0};
    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint64_t bits = next_random(&seed);
        if (i % 2 == 0) /* the range where integers are written in full */
            bits = (bits & UINT64_C(0x800fffffffffffff)) | (1023 + 40 + next_random(&seed) % 40)
                                                               << 52;
        struct json_value value = {.type = JSON_NUMBER, .as.number = double_of(bits)};
        const struct json_value *back = NULL;
        if ((bits >> 52 & 0x7ff) == 0x7ff)
            continue;
        out.n = 0;
        json_canonical(&value, &out);
        if (json_parse(parser, &memory, buf_str(&out), &back, &error) != 0)
            fail_msg("%s", error.text);
        assert_true(back->as.number == value.as.number);
    }
    buf_free(&out);
}

static const char alphabet[] = "{}[]\",:\\u0123456789eE+-.tfnab \n\xc3\xb6\x80\xff";

static void mutate(char *text, size_t n, uint64_t *seed)
{
    for (uint64_t changes = 1 + next_random(seed) % 4; changes != 0; changes--)
        text[next_random(seed) % n] = alphabet[next_random(seed) % (sizeof(alphabet) - 1)];
}

static bool has_fault(const struct json_value *v)
{
    if (v->type != JSON_ARRAY)
        return false;
    const struct json_value *item = json_first(v);
    for (uint32_t i = 0; i < v->size; i++, item = json_next(item)) {
        if (item->type == JSON_FAULT)
            return true;
    }
    return false;
}

static void whatever_is_read_has_a_canonical_text_that_is_its_own(void **state)
{
    static const char original[] =
        "{\"k\":[1,-2.5e3,0.001,12345678901234567,1e300,true,false,null],\"\\u00e9\":{\"a\":"
        "\"\\n\\\"\","
        "\"b\":{},\"c\":[]},\"x\":\"\\ud83d\\ude00 \xc3\xb6\",\"n\":100000000000000000000}";
    uint64_t seed = 7;
    struct buf once = {0}, twice = {0};
    (void)state;
    for (int i = 0; i < 100000; i++) {
        size_t n = sizeof(original) - 1 - (i % 16 == 0 ? next_random(&seed) % 100 : 0);
        char *text = malloc(n);
        memcpy(text, original, n);
        mutate(text, n, &seed);
        const struct json_value *v;
        once.n = twice.n = 0;
        if (json_parse(parser, &memory, (struct str){text, n}, &v, &error) != 0) {
            assert_true(error.at <= n && json_utf8_valid(text_of(error.text)));
            assert_null(strstr(error.text, "refused"));
        } else if (!has_fault(v)) {
            json_canonical(v, &once);
            assert_int_equal(json_parse(parser, &memory, buf_str(&once), &v, &error), 0);
            json_canonical(v, &twice);
            assert_true(str_equal(buf_str(&once), buf_str(&twice)));
        }
        free(text);
    }
    buf_free(&once);
    buf_free(&twice);
}

/* A fault takes two values, and such a last element may have but one token. Each text comes to a
 * parser that has no room left from a longer one. */
static void a_fault_at_the_end_of_an_array_without_end_has_room(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[1e999", "[1e999raw", "[1e999,1e999,1e999", "[\"\\u0000\"", "[1,[],\"x\",9007199254740993",
        "[[1e999"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct json_parser *fresh = json_parser_new(MAX_ELEMENTS, 7);
        const struct json_value *root = NULL;
        assert_int_equal(json_parse(fresh, &memory, text_of(texts[i]), &root, &error), -1);
        assert_true(error.text[0] != '\0');
        json_parser_free(fresh);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_stand_in_reading_order),
        cmocka_unit_test(every_kind_of_value_may_stand_alone),
        cmocka_unit_test(broken_json_is_refused_with_its_place),
        cmocka_unit_test(a_number_must_survive_a_double),
        cmocka_unit_test(an_integer_beyond_64_bits_is_read_where_its_digits_survive),
        cmocka_unit_test(the_33rd_level_is_refused),
        cmocka_unit_test(a_key_stands_once_in_an_object),
        cmocka_unit_test(a_key_stands_once_in_a_large_object),
        cmocka_unit_test(a_key_stands_once_among_any_values),
        cmocka_unit_test(an_object_has_its_bound),
        cmocka_unit_test(an_array_is_read_up_to_its_bound),
        cmocka_unit_test(a_string_or_key_holds_no_nul),
        cmocka_unit_test(long_names_are_cut_between_characters),
        cmocka_unit_test(a_faulty_element_leaves_its_neighbours_alone),
        cmocka_unit_test(a_large_text_leaves_no_memory_behind),
        cmocka_unit_test(canonical_text_follows_rfc_8785),
        cmocka_unit_test(a_fault_at_the_end_of_an_array_without_end_has_room),
        cmocka_unit_test(keys_are_ordered_by_utf16_units),
        cmocka_unit_test(keys_of_a_large_object_are_ordered),
        cmocka_unit_test(canonical_numbers_follow_rfc_8785),
        cmocka_unit_test(any_canonical_number_is_read_back_the_same),
        cmocka_unit_test(whatever_is_read_has_a_canonical_text_that_is_its_own),
    };
    return cmocka_run_group_tests(tests, make_parser, free_parser);
}
