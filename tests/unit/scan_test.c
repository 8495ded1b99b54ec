/*
 * JSON as core writes it, read in place.
 */
#include "server/scan.h"

#include "core/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct str text_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

static void expect(struct str got, const char *expected)
{
    if (expected == NULL) {
        assert_null(got.p);
        return;
    }
    assert_non_null(got.p);
    assert_int_equal(got.n, strlen(expected));
    assert_memory_equal(got.p, expected, got.n);
}

static void a_value_ends_where_it_does_whatever_stands_in_strings(void **state)
{
    static const char *const values[] = {
        "\"\"",       "\"a\\\"}\"", "\"\\\\\"", "12",
        "null",       "{}",         "[]",       "{\"a\":{\"b\":[1,\"]\"]}}",
        "[\"}\",{}]", "-1.5e7",     "true",     "[[[[]]],\"\\\\\"]",
    };
    static const char *const behind[] = {"", ",1", "}", "]", ",\"x\":{}"};
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        for (size_t j = 0; j < sizeof(behind) / sizeof(behind[0]); j++) {
            struct buf text = {0};
            buf_add_str(&text, text_of(values[i]));
            buf_add_str(&text, text_of(behind[j]));
            expect(scan_value(buf_str(&text)), values[i]);
            buf_free(&text);
        }
    }
}

/* All of up to six quotes, backslashes and letters. */
static void a_string_ends_behind_its_last_quote(void **state)
{
    static const char letters[] = "\"\\a";
    (void)state;
    for (unsigned n = 0; n < 729; n++) {
        char content[6];
        size_t length = 0;
        for (unsigned rest = n; rest != 0; rest /= 3)
            content[length++] = letters[rest % 3];
        struct buf text = {0};
        json_add_string(&text, (struct str){content, length});
        size_t whole = text.n;
        buf_add_literal(&text, ",\"\\\"\"]");
        assert_int_equal(scan_value(buf_str(&text)).n, whole);
        buf_free(&text);
    }
}

static void a_walk_gives_each_member_once_and_in_order(void **state)
{
    struct str rest = text_of("{\"a\":1,\"b-2\":\"x,}\",\"c\":{\"a\":[]},\"d\":null}"), key, value;
    (void)state;
    assert_int_equal(scan_count(rest), 4);
    assert_true(scan_next(&rest, &key, &value));
    expect(key, "a");
    expect(value, "1");
    assert_true(scan_next(&rest, &key, &value));
    expect(key, "b-2");
    expect(scan_id(value), "x,}");
    assert_true(scan_next(&rest, &key, &value));
    expect(value, "{\"a\":[]}");
    assert_true(scan_next(&rest, &key, &value));
    assert_true(scan_is_null(value));
    assert_false(scan_next(&rest, &key, &value));
    assert_false(scan_next(&rest, &key, &value));
}

static void empty_containers_and_no_container_hold_nothing(void **state)
{
    static const char *const empty[] = {"{}", "[]", ""};
    struct str key, value;
    (void)state;
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        struct str rest = text_of(empty[i]);
        assert_int_equal(scan_count(rest), 0);
        assert_false(scan_next(&rest, &key, &value));
    }
    expect(scan_member((struct str){0}, "a"), NULL);
    assert_false(scan_has((struct str){0}, text_of("a")));
}

static void members_are_found_by_their_whole_name(void **state)
{
    struct str object = text_of("{\"ab\":1,\"b\":{\"a\":2},\"a\":3}");
    (void)state;
    expect(scan_member(object, "a"), "3");
    expect(scan_find(object, text_of("b")), "{\"a\":2}");
    expect(scan_member(object, "c"), NULL);
    assert_int_equal(scan_u64(scan_member(object, "ab")), 1);
    assert_int_equal(scan_u64(scan_member(object, "none")), 0);
}

static void ids_are_found_in_an_array(void **state)
{
    struct str ids = text_of("[\"ada\",\"bob\"]");
    (void)state;
    assert_true(scan_has(ids, text_of("bob")));
    assert_false(scan_has(ids, text_of("bo")));
    assert_false(scan_has(text_of("[]"), text_of("bob")));
}

static void depth_is_not_bounded(void **state)
{
    enum { DEPTH = 100000 };
    struct buf text = {0};
    (void)state;
    buf_add_literal(&text, "{\"data\":");
    for (int i = 0; i < DEPTH; i++)
        buf_add_byte(&text, '[');
    for (int i = 0; i < DEPTH; i++)
        buf_add_byte(&text, ']');
    buf_add_literal(&text, ",\"behind\":7}");
    assert_int_equal(scan_u64(scan_member(buf_str(&text), "behind")), 7);
    buf_free(&text);
}

/* Whatever is cut where: what is there is a string that JSON knows, and the beginning of the whole.
 */
static void a_cut_string_is_still_one(void **state)
{
    static const char plain[] = "a\"\\\n\x01\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x9f/z";
    struct str content = {plain, sizeof(plain) - 1};
    struct buf whole = {0};
    (void)state;
    json_add_string(&whole, content);
    for (size_t max = 0; max <= whole.n; max++) {
        struct buf cut = {0};
        bool all = scan_add_cut(&cut, buf_str(&whole), max);
        assert_int_equal(all, max >= whole.n - 2);
        assert_true(cut.n >= 2 && cut.n <= whole.n && (all || cut.n <= max + 2));
        assert_true(cut.p[0] == '"' && cut.p[cut.n - 1] == '"');
        assert_memory_equal(cut.p, whole.p, cut.n - 1);
        /* Some beginning of the content, escaped, is just this. */
        bool found = false;
        for (size_t n = 0; n <= content.n; n++) {
            struct buf part = {0};
            json_add_string(&part, (struct str){plain, n});
            bool inside = n == content.n || ((unsigned char)plain[n] & 0xc0) != 0x80;
            found |= inside && part.n == cut.n && memcmp(part.p, cut.p, cut.n) == 0;
            buf_free(&part);
        }
        assert_true(found);
        buf_free(&cut);
    }
    buf_free(&whole);
}

static void nothing_is_cut_off_what_is_not_there(void **state)
{
    static const char *const none[] = {"null", "7", ""};
    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        struct buf out = {0};
        struct str value = {none[i], strlen(none[i])};
        assert_true(scan_add_cut(&out, i == 2 ? (struct str){0} : value, 4));
        assert_int_equal(out.n, 2);
        assert_memory_equal(out.p, "\"\"", 2);
        buf_free(&out);
    }
    expect(scan_or_null((struct str){0}), "null");
    expect(scan_or_null(STR("1")), "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_ends_where_it_does_whatever_stands_in_strings),
        cmocka_unit_test(a_string_ends_behind_its_last_quote),
        cmocka_unit_test(a_walk_gives_each_member_once_and_in_order),
        cmocka_unit_test(empty_containers_and_no_container_hold_nothing),
        cmocka_unit_test(members_are_found_by_their_whole_name),
        cmocka_unit_test(ids_are_found_in_an_array),
        cmocka_unit_test(depth_is_not_bounded),
        cmocka_unit_test(a_cut_string_is_still_one),
        cmocka_unit_test(nothing_is_cut_off_what_is_not_there),
    };
    return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
