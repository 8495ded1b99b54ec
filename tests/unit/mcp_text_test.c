/*
 * Words for models, around what agents wrote.
 */
#include "server/mcp/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct str text_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

static void expect(struct buf *got, const char *expected)
{
    assert_int_equal(got->n, strlen(expected));
    assert_memory_equal(got->p, expected, got->n);
    buf_free(got);
    *got = (struct buf){0};
}

static void what_is_quoted_is_cut_and_says_how_much_is_left(void **state)
{
    struct buf out = {0};
    (void)state;
    text_add_quoted(&out, text_of("\"all of it\""), 9);
    expect(&out, "\"all of it\"");
    text_add_quoted(&out, text_of("\"all of it\""), 6);
    expect(&out, "\"all of\" (cut: 3 bytes more)");
    text_add_quoted(&out, text_of("\"\\\"\\n\""), 3);
    expect(&out, "\"\\\"\" (cut: 2 bytes more)");
    text_add_quoted(&out, text_of("\"\""), 0);
    expect(&out, "\"\"");
}

static void ids_are_told_up_to_a_number_and_counted_from_there(void **state)
{
    struct buf out = {0};
    (void)state;
    text_add_ids(&out, text_of("[\"ann\",\"bob\",\"cy\"]"), 3);
    expect(&out, "ann, bob, cy");
    text_add_ids(&out, text_of("[\"ann\",\"bob\",\"cy\"]"), 2);
    expect(&out, "ann, bob and 1 more");
    text_add_ids(&out, text_of("{\"ann\":{\"read\":1},\"bob\":{}}"), 5);
    expect(&out, "ann, bob");
    text_add_ids(&out, text_of("[]"), 5);
    expect(&out, "nobody");
    text_add_ids(&out, (struct str){0}, 5);
    expect(&out, "nobody");
}

static void formatted_text_is_bounded(void **state)
{
    struct buf out = {0};
    (void)state;
    text_add(&out, "%*d", 5000, 1);
    assert_true(out.n > 1000 && out.n <= 1024);
    text_add(&out, "%s", "behind");
    assert_memory_equal(out.p + out.n - 6, "behind", 6);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_quoted_is_cut_and_says_how_much_is_left),
        cmocka_unit_test(ids_are_told_up_to_a_number_and_counted_from_there),
        cmocka_unit_test(formatted_text_is_bounded),
    };
    return cmocka_run_group_tests_name("mcp_text", tests, NULL, NULL);
}
