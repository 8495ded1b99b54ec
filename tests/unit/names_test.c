/* A name is found in a set at its place, whatever the others are; and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/names.h"

static void assert_found(const struct names *names)
{
    for (uint32_t i = 0; i < names->n; i++)
        assert_int_equal(names_find(names, names->items[i].name), (int)i);
}

static void names_are_found_at_their_places(void **state)
{
    static const char *const members[] = {"thread",       "sender", "content", "mentions",
                                          "reply_to",     "data",   "trace",   "cause",
                                          "key",          "type",   "a",       "ab",
                                          "expected_seq", "abc",    "b",       "0123456789abcdef"};
    struct names names = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        names_add(&names, (struct str){members[i], strlen(members[i])});
    names_make(&names);
    assert_int_equal(names.n, NAMES_MAX);
    assert_found(&names);
}

/* Of the same bytes at both ends, or the same length, or a part of one. */
static void what_only_resembles_a_name_is_not_found(void **state)
{
    static const char *const others[] = {"",
                                         "t",
                                         "typ",
                                         "types",
                                         "Type",
                                         "tpye",
                                         "abcdefgh",
                                         "abcdefghij",
                                         "axcd",
                                         "abxd",
                                         "abcdxfgh",
                                         "abcdefghi",
                                         "abcdefghiabcdefghi",
                                         "abcdefghabcdefghi"};
    struct names names = {0};

    (void)state;
    names_add(&names, STR("type"));
    names_add(&names, STR("abcd"));
    names_add(&names, STR("abc"));
    names_add(&names, STR("abcdefgx"));
    names_add(&names, STR("abcdefghabcdefgh"));
    names_make(&names);
    assert_found(&names);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_int_equal(names_find(&names, (struct str){others[i], strlen(others[i])}), -1);
}

/* Any set of different names has its hash: here of those that differ least. */
static void any_set_is_made(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= NAMES_MAX; n++) {
        for (unsigned length = 1; length <= NAMES_BYTES; length++) {
            char text[NAMES_MAX][NAMES_BYTES];
            struct names names = {0};
            memset(text, 'x', sizeof(text));
            for (unsigned i = 0; i < n; i++) {
                text[i][(length - 1) * i / NAMES_MAX] = (char)('a' + i);
                names_add(&names, (struct str){text[i], length});
            }
            names_make(&names);
            assert_found(&names);
            memset(text[0], 'z', length);
            assert_int_equal(names_find(&names, (struct str){text[0], length}), -1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found_at_their_places),
        cmocka_unit_test(what_only_resembles_a_name_is_not_found),
        cmocka_unit_test(any_set_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
