/*
 * newid: ids that the server makes are good ids, sort by time, are the same for the same key, and
 * say which node made them.
 */
#include "server/newid.h"

#include "core/core.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct str none = {"", 0};

static void ids_are_good_and_sort_by_time(void **state)
{
    struct str tags[] = {none, STR("a"), STR("node0042")};
    char earlier[NEWID_BYTES], later[NEWID_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        struct str first = newid_by_time(earlier, tags[i], INT64_C(1732233600000), 7);
        struct str second = newid_by_time(later, tags[i], INT64_C(1732233600000), 8);
        struct str third = newid_by_time(later, tags[i], INT64_C(1732233600001), 0);
        assert_true(core_id_valid(first) && core_id_valid(second));
        assert_int_equal(first.n, tags[i].n + (tags[i].n != 0) + NEWID_PLAIN_BYTES);
        assert_int_equal(first.n, third.n);
        assert_true(memcmp(first.p, third.p, first.n) < 0);
        assert_true(newid_is_here(first, tags[i]));
    }
}

static void a_counter_tells_ids_of_one_millisecond_apart(void **state)
{
    char earlier[NEWID_BYTES], later[NEWID_BYTES];
    struct str first = newid_by_time(earlier, none, 1, 1);
    struct str second = newid_by_time(later, none, 1, 2);

    (void)state;
    assert_true(memcmp(first.p, second.p, first.n) < 0);
}

static void the_same_key_gives_the_same_id_and_nothing_else_does(void **state)
{
    char a[NEWID_BYTES], b[NEWID_BYTES];
    struct str id = newid_by_key(a, STR("a"), STR("ann"), STR("key"));

    (void)state;
    assert_true(core_id_valid(id));
    assert_true(str_equal(id, newid_by_key(b, STR("a"), STR("ann"), STR("key"))));
    assert_false(str_equal(id, newid_by_key(b, STR("a"), STR("ann"), STR("kez"))));
    assert_false(str_equal(id, newid_by_key(b, STR("a"), STR("an"), STR("nkey"))));
    assert_false(str_equal(id, newid_by_key(b, STR("b"), STR("ann"), STR("key"))));
}

static void tags_are_short_and_plain(void **state)
{
    const char *good[] = {"a", "0", "node0042", "12345678"};
    const char *bad[] = {"", "A", "a-b", "a_b", "123456789", "\xc3\xa4", " "};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(newid_tag_valid((struct str){good[i], strlen(good[i])}));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(newid_tag_valid((struct str){bad[i], strlen(bad[i])}));
}

static void an_id_is_here_if_it_begins_with_the_tag(void **state)
{
    (void)state;
    assert_true(newid_is_here(STR("whatever"), none));
    assert_true(newid_is_here(STR("a-notes"), STR("a")));
    assert_false(newid_is_here(STR("a"), STR("a")));
    assert_false(newid_is_here(STR("ab-notes"), STR("a")));
    assert_false(newid_is_here(STR("demo"), STR("a")));
    assert_false(newid_is_here(STR(""), STR("a")));
}

static void another_nodes_id_is_known_by_its_form(void **state)
{
    char out[NEWID_BYTES];
    struct str id = newid_by_time(out, STR("b7"), INT64_C(1732233600000), 1);

    (void)state;
    assert_true(str_equal(newid_other_tag(id, STR("a")), STR("b7")));
    assert_int_equal(newid_other_tag(id, STR("b7")).n, 0);
    assert_int_equal(newid_other_tag(id, none).n, 0);
    id = newid_by_key(out, STR("12345678"), STR(""), STR("key"));
    assert_true(str_equal(newid_other_tag(id, STR("1234567")), STR("12345678")));
}

static void what_a_client_has_chosen_is_nobodys(void **state)
{
    static const char *const chosen[] = {
        "demo",
        "b-notes",
        "b-s0123456789abcdefghjkmnpqrst", /* too long */
        "b-s0123456789abcdefghjkmnpqr",   /* too short */
        "b-t0123456789abcdefghjkmnpqrs",  /* no s */
        "b-s8123456789abcdefghjkmnpqrs",  /* more than 128 bits */
        "b-s0123456789abcdefghjkmnpqru",  /* u is no digit */
        "B-s0123456789abcdefghjkmnpqrs",  /* no tag */
        "bs0123456789abcdefghjkmnpqrs0",  /* no separator */
        "-s0123456789abcdefghjkmnpqrs",   /* nothing before it */
        "123456789-s0123456789abcdefghjkmnpqrs",
        "s0123456789abcdefghjkmnpqrs", /* made by a server that was alone */
        "",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(chosen) / sizeof(chosen[0]); i++)
        assert_int_equal(newid_other_tag((struct str){chosen[i], strlen(chosen[i])}, STR("a")).n,
                         0);
    assert_int_equal(newid_other_tag(STR("b-s0123456789abcdefghjkmnpqrs"), STR("a")).n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_good_and_sort_by_time),
        cmocka_unit_test(a_counter_tells_ids_of_one_millisecond_apart),
        cmocka_unit_test(the_same_key_gives_the_same_id_and_nothing_else_does),
        cmocka_unit_test(tags_are_short_and_plain),
        cmocka_unit_test(an_id_is_here_if_it_begins_with_the_tag),
        cmocka_unit_test(another_nodes_id_is_known_by_its_form),
        cmocka_unit_test(what_a_client_has_chosen_is_nobodys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
