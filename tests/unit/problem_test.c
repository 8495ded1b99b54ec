/*
 * problem: the bodies that clients see, byte for byte, and that the three rooms' errors share one
 * numbering without gaps or doubles.
 */
#include "server/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void assert_body(unsigned error, const struct core_refusal *why, int retry_after_s,
                        const char *expected)
{
    struct buf out = {0};
    problem_write(&out, error, why, retry_after_s);
    buf_add_byte(&out, '\0');
    assert_string_equal(out.p, expected);
    buf_free(&out);
}

static void a_problem_names_type_title_and_status(void **state)
{
    (void)state;
    assert_body(
        CORE_E_UNKNOWN_AGENT, NULL, 0,
        "{\"type\":\"/problems/unknown-agent\",\"title\":\"Unknown agent\",\"status\":404}");
    assert_body(
        PROBLEM_E_UNKNOWN_ROUTE, NULL, 0,
        "{\"type\":\"/problems/unknown-route\",\"title\":\"Unknown route\",\"status\":404}");
}

static void detail_and_field_follow_where_there_are_any(void **state)
{
    struct core_refusal why = {
        .code = CORE_E_MALFORMED, .field = "agent", .detail = "\"agent\" \n"};
    (void)state;
    assert_body(CORE_E_MALFORMED, &why, 0,
                "{\"type\":\"/problems/malformed\",\"title\":\"Malformed request\",\"status\":400,"
                "\"detail\":\"\\\"agent\\\" \\n\",\"field\":\"agent\"}");
    why = (struct core_refusal){.code = CORE_E_MALFORMED};
    assert_body(
        CORE_E_MALFORMED, &why, 0,
        "{\"type\":\"/problems/malformed\",\"title\":\"Malformed request\",\"status\":400}");
}

static void seq_is_told_where_the_state_refuses(void **state)
{
    struct core_refusal why = {.seq = 42, .detail = "closed"};
    (void)state;
    assert_body(CORE_E_REFUSED, &why, 0,
                "{\"type\":\"/problems/refused\",\"title\":\"Refused by the session's state\","
                "\"status\":409,\"detail\":\"closed\",\"seq\":42}");
    assert_body(
        CORE_E_EXPECTED_SEQ, &why, 0,
        "{\"type\":\"/problems/expected-seq\",\"title\":\"The session does not stand at the "
        "expected seq\",\"status\":412,\"detail\":\"closed\",\"seq\":42}");
    assert_body(
        CORE_E_UNKNOWN_THREAD, &why, 0,
        "{\"type\":\"/problems/unknown-thread\",\"title\":\"Unknown thread\",\"status\":404,"
        "\"detail\":\"closed\"}");
}

static void retry_after_is_in_seconds(void **state)
{
    (void)state;
    assert_body(REQUEST_E_OVERLOADED, NULL, 2,
                "{\"type\":\"/problems/overloaded\",\"title\":\"Overloaded\",\"status\":503,"
                "\"retry_after\":2}");
}

static void face_errors_have_their_status(void **state)
{
    (void)state;
    assert_int_equal(problem_status(PROBLEM_E_UNKNOWN_ROUTE), 404);
    assert_int_equal(problem_status(PROBLEM_E_METHOD_NOT_ALLOWED), 405);
    assert_int_equal(problem_status(PROBLEM_E_NOT_ACCEPTABLE), 406);
    assert_int_equal(problem_status(PROBLEM_E_FORBIDDEN_HOST), 403);
    assert_int_equal(problem_status(PROBLEM_E_FORBIDDEN_ORIGIN), 403);
    assert_int_equal(problem_status(REQUEST_E_GONE), 410);
    assert_int_equal(problem_status(PROBLEM_E_UNSUPPORTED_MEDIA_TYPE), 415);
    assert_int_equal(problem_status(REQUEST_E_NO_SPACE), 507);
    assert_int_equal(problem_status(CORE_E_TOO_LARGE), 413);
}

static void every_error_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (unsigned a = CORE_OK + 1; a < PROBLEM_ERROR_COUNT; a++) {
        assert_in_range(problem_status(a), 400, 599);
        assert_true(problem_title(a)[0] != '\0');
        for (unsigned b = CORE_OK + 1; b < a; b++)
            assert_string_not_equal(problem_name(a), problem_name(b));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_problem_names_type_title_and_status),
        cmocka_unit_test(detail_and_field_follow_where_there_are_any),
        cmocka_unit_test(seq_is_told_where_the_state_refuses),
        cmocka_unit_test(retry_after_is_in_seconds),
        cmocka_unit_test(face_errors_have_their_status),
        cmocka_unit_test(every_error_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
