/* Every request ends where all who read it would say that it ends, however its bytes arrive; one on
 * which they might not agree is refused, with the reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/intake.h"

enum { HEAD_MAX = 1024 };

#define REQUEST "POST /v1/x HTTP/1.1\r\nHost: a\r\n"
#define NEXT "GET /next HTTP/1.1\r\n"

struct taken {
    enum intake_got got;
    size_t used; /* of all bytes */
    const char *why;
};

/* In pieces of `step` bytes, each in memory of its own size, as a connection would. */
static struct taken take(const char *bytes, size_t n, size_t step)
{
    struct intake intake = {0};
    enum intake_got got = INTAKE_HEAD;
    size_t at = 0, come = 0, used = 0; /* at: what is behind the head and was taken */

    while (come < n && (got == INTAKE_HEAD || got == INTAKE_BODY)) {
        size_t from = got == INTAKE_HEAD ? 0 : come;
        come = n - come < step ? n : come + step;
        char *copy = malloc(come - from);
        memcpy(copy, bytes + from, come - from);
        got = intake_take(&intake, copy, come - from, HEAD_MAX, &used);
        free(copy);
        at = from + used;
    }
    return (struct taken){got, at, intake.why};
}

static void ends_there(const char *text, size_t n)
{
    char bytes[4096];
    assert_true(n + sizeof(NEXT) <= sizeof(bytes));
    memcpy(bytes, text, n);
    memcpy(bytes + n, NEXT, sizeof(NEXT) - 1);
    for (size_t step = 1; step <= n + sizeof(NEXT) - 1; step++) {
        struct taken taken = take(bytes, n + sizeof(NEXT) - 1, step);
        if (taken.got != INTAKE_DONE)
            fail_msg("in steps of %zu: %d (%s)\n%.*s", step, taken.got, taken.why, (int)n, text);
        assert_int_equal(taken.used, n);
    }
}

static void is_refused(const char *text, size_t n, const char *why)
{
    for (size_t step = 1; step <= n; step++) {
        struct taken taken = take(text, n, step);
        if (taken.got != INTAKE_BAD || strstr(taken.why, why) == NULL)
            fail_msg("in steps of %zu: %d (%s), not \"%s\"\n%.*s", step, taken.got,
                     taken.why != NULL ? taken.why : "", why, (int)n, text);
    }
}

#define ENDS_THERE(text) ends_there((text), sizeof(text) - 1)
#define REFUSED(text, why) is_refused((text), sizeof(text) - 1, (why))

static void test_ends_where_its_framing_says(void **state)
{
    (void)state;
    ENDS_THERE("GET / HTTP/1.1\r\n\r\n");
    ENDS_THERE("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    ENDS_THERE(
        "\r\nGET /a?b=%20&c=\"{}|^` HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t \r\nZ:\t a b \r\n\r\n");
    ENDS_THERE("!#$%&'*+-.^_`|~a0 * HTTP/1.1\r\n!#$%&'*+-.^_`|~a0: \x80\xff\r\n\r\n");
    ENDS_THERE(REQUEST "Content-Length: 0\r\n\r\n");
    ENDS_THERE(REQUEST "content-length:  11\t\r\n\r\nhello world");
    ENDS_THERE(REQUEST "Content-Length: 000000000000000011\r\n\r\n\r\n\r\nab\n\r\ncd");
    ENDS_THERE(REQUEST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    ENDS_THERE(REQUEST "transfer-encoding:Chunked \r\n\r\n5\r\nhello\r\n0A\r\n0123456789\r\n"
                       "00\r\n\r\n");
    ENDS_THERE(REQUEST "Transfer-Encoding: chunked\r\n\r\n2;a=b;c=\"d\"\r\n\r\n\r\n1 \r\nx\r\n"
                       "0;last\r\nTrailer: a\r\nOther:\r\n\r\n");
}

static void test_refuses_what_may_be_read_in_two_ways(void **state)
{
    (void)state;
    REFUSED(REQUEST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "together");
    REFUSED(REQUEST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "together");
    REFUSED(REQUEST "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", "only once");
    REFUSED(REQUEST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", "only once");
    REFUSED(REQUEST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "only once");
    REFUSED(REQUEST "Transfer-Encoding: gzip, chunked\r\n\r\n", "chunked");
    REFUSED(REQUEST "Transfer-Encoding: chunked, identity\r\n\r\n", "chunked");
    REFUSED(REQUEST "Transfer-Encoding: xchunked\r\n\r\n", "chunked");
    REFUSED(REQUEST "Transfer-Encoding: \vchunked\r\n\r\n", "control");
    REFUSED(REQUEST "Transfer-Encoding:\r\n\r\n", "chunked");
    REFUSED("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0");
    REFUSED(REQUEST "Host: b\r\n\r\n", "Host");
}

static void test_refuses_lengths_that_are_no_numbers(void **state)
{
    (void)state;
    REFUSED(REQUEST "Content-Length: +3\r\n\r\n", "number");
    REFUSED(REQUEST "Content-Length: -1\r\n\r\n", "number");
    REFUSED(REQUEST "Content-Length: 0x3\r\n\r\n", "number");
    REFUSED(REQUEST "Content-Length: 3, 3\r\n\r\n", "number");
    REFUSED(REQUEST "Content-Length: 3 3\r\n\r\n", "number");
    REFUSED(REQUEST "Content-Length:\r\n\r\n", "number");
    REFUSED(REQUEST "Content-Length: 1111111111111111111\r\n\r\n", "number");
}

static void test_refuses_lines_that_are_not_as_they_should(void **state)
{
    (void)state;
    REFUSED("GET / HTTP/1.1\nHost: a\n\n", "CR LF");
    REFUSED("GET / HTTP/1.1\r\nHost: a\n\r\n", "CR LF");
    REFUSED("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", "control");
    REFUSED("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", "control");
    REFUSED("GET / HTTP/1.1\r\nX: \x7f\r\n\r\n", "control");
    REFUSED("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", "next line");
    REFUSED("GET / HTTP/1.1\r\n\tX: a\r\n\r\n", "next line");
    REFUSED("GET / HTTP/1.1\r\nX : a\r\n\r\n", "colon");
    REFUSED("GET / HTTP/1.1\r\n: a\r\n\r\n", "colon");
    REFUSED("GET / HTTP/1.1\r\nX\r\n\r\n", "colon");
    REFUSED("GET / HTTP/1.1\r\nX(y): a\r\n\r\n", "colon");
    REFUSED("GET / HTTP/1.1\r\nX\0: a\r\n\r\n", "colon");
}

static void test_refuses_request_lines_that_are_not_as_they_should(void **state)
{
    (void)state;
    REFUSED("GET  / HTTP/1.1\r\n\r\n", "request line");
    REFUSED("GET /  HTTP/1.1\r\n\r\n", "request line");
    REFUSED("GET / a HTTP/1.1\r\n\r\n", "request line");
    REFUSED("GET\t/ HTTP/1.1\r\n\r\n", "HTTP");
    REFUSED("GET /\0 HTTP/1.1\r\n\r\n", "request line");
    REFUSED("GET / HTTP/1.1 \r\n\r\n", "request line");
    REFUSED("GET / HTTP/1.2\r\n\r\n", "request line");
    REFUSED("GET / HTTP/1.10\r\n\r\n", "request line");
    REFUSED("GET / HTTP/2.0\r\n\r\n", "request line");
    REFUSED("GET / http/1.1\r\n\r\n", "request line");
    REFUSED("GET /\r\n\r\n", "request line");
    REFUSED("GET\r\n\r\n", "HTTP");
    REFUSED(" GET / HTTP/1.1\r\n\r\n", "HTTP");
    REFUSED("\r\n\r\nGET / HTTP/1.1\r\n\r\n", "HTTP");
    REFUSED("\nGET / HTTP/1.1\r\n\r\n", "");
    REFUSED("\x16\x03\x01\x02", "HTTP"); /* TLS where there is none */
    REFUSED("\x05\x01", "HTTP");
}

static void test_refuses_chunks_that_are_not_as_they_should(void **state)
{
    (void)state;
#define CHUNKED REQUEST "Transfer-Encoding: chunked\r\n\r\n"
    REFUSED(CHUNKED "\r\n", "chunks");
    REFUSED(CHUNKED ";a\r\n", "chunks");
    REFUSED(CHUNKED "g\r\n", "chunks");
    REFUSED(CHUNKED "0x1\r\n", "chunks");
    REFUSED(CHUNKED "-1\r\n", "chunks");
    REFUSED(CHUNKED "1\nx\r\n", "chunks");
    REFUSED(CHUNKED "1\r\r\nx\r\n", "chunks");
    REFUSED(CHUNKED "1;a\nx\r\n", "chunks");
    REFUSED(CHUNKED "1;a\rb\r\nx\r\n", "chunks");
    REFUSED(CHUNKED "1;\0\r\nx\r\n", "chunks");
    REFUSED(CHUNKED "1\r\nxy\r\n", "chunks");
    REFUSED(CHUNKED "1\r\nx\n", "chunks");
    REFUSED(CHUNKED "0000000000000000\r\n", "chunks");
    REFUSED(CHUNKED "0\r\n\n", "chunks");
    REFUSED(CHUNKED "0\r\n a: b\r\n\r\n", "chunks");
    REFUSED(CHUNKED "0\r\na: b\n\r\n", "chunks");
    REFUSED(CHUNKED "0\r\na: \0\r\n\r\n", "chunks");
}

/* Wherever it stands: text is looked at in pieces. */
static void test_finds_each_control_character_at_each_place(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        for (size_t at = 0; at < 40; at++) {
            char text[128];
            memcpy(text, "GET / HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
                   65);
            text[20 + at] = (char)c;
            bool good = c == '\t' || (c >= ' ' && c != 0x7f);
            assert_int_equal(take(text, 65, 65).got, good ? INTAKE_DONE : INTAKE_BAD);
            memcpy(text, "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n\r\n", 59);
            text[5 + at] = (char)c;
            good = c > ' ' && c != 0x7f;
            assert_int_equal(take(text, 59, 59).got, good ? INTAKE_DONE : INTAKE_BAD);
        }
    }
}

/* The same pattern, over and over, until something is said to it. */
static struct taken take_endless(const char *begin, const char *again, size_t most)
{
    struct intake intake = {0};
    size_t n = strlen(begin), more = strlen(again), used;
    char *bytes = malloc(n + most + more);
    memcpy(bytes, begin, n);
    for (size_t at = n; at < n + most; at += more)
        memcpy(bytes + at, again, more);
    enum intake_got got = intake_take(&intake, bytes, n + most, HEAD_MAX, &used);
    free(bytes);
    return (struct taken){got, used, intake.why};
}

static void test_bounds_what_has_no_end(void **state)
{
    (void)state;
    assert_int_equal(take_endless("GET /", "a", HEAD_MAX).got, INTAKE_TOO_LARGE);
    assert_int_equal(take_endless("GET / HTTP/1.1\r\n", "A: b\r\n", HEAD_MAX).got,
                     INTAKE_TOO_LARGE);
    assert_int_equal(take_endless("GET / HTTP/1.1\r\n", "A:\r\n", 4 * 101).got, INTAKE_TOO_LARGE);
    assert_int_equal(take_endless("GET / HTTP/1.1\r\n", "A:\r\n", 4 * 100).got, INTAKE_HEAD);
    assert_int_equal(take_endless(CHUNKED "1;", "a", INTAKE_CHUNK_LINE_BYTES - 2).got, INTAKE_BODY);
    assert_int_equal(take_endless(CHUNKED "1;", "a", INTAKE_CHUNK_LINE_BYTES + 2).got, INTAKE_BAD);
    assert_int_equal(take_endless(CHUNKED, "1;aaaaaaaa\r\nx\r\n", 64 * 1024).got, INTAKE_BAD);
    assert_int_equal(take_endless(CHUNKED "0\r\n", "a\r\n", 64 * 1024).got, INTAKE_BAD);
    assert_int_equal(take_endless(CHUNKED "0\r\na", "a", 64 * 1024).got, INTAKE_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_where_its_framing_says),
        cmocka_unit_test(test_refuses_what_may_be_read_in_two_ways),
        cmocka_unit_test(test_refuses_lengths_that_are_no_numbers),
        cmocka_unit_test(test_refuses_lines_that_are_not_as_they_should),
        cmocka_unit_test(test_refuses_request_lines_that_are_not_as_they_should),
        cmocka_unit_test(test_refuses_chunks_that_are_not_as_they_should),
        cmocka_unit_test(test_finds_each_control_character_at_each_place),
        cmocka_unit_test(test_bounds_what_has_no_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
