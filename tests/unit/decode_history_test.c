/*
 * decode_history: the bodies of forks and imports: what they fill, and every way in which a changed
 * file is refused by its line.
 */
#include "server/decode.h"

#include "server/import_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define CHAIN_1 "0101010101010101010101010101010101010101010101010101010101010101"
#define CHAIN_2 "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2"
#define STATE_HASH "4e07408562bedb8b60ce05c1decfe3ad"
#define HEADER_AS(session, version, seq, chain)                                                    \
    "{\"atoll\":\"session\",\"version\":" version ",\"session\":\"" session                        \
    "\",\"epoch\":\"k3x9\",\"seq\":" seq ",\"chain\":\"" chain "\",\"state_hash\":\"" STATE_HASH   \
    "\"}\n"
#define HEADER HEADER_AS("demo", "1", "2", CHAIN_2)
#define EVENT_AS(seq, event, bytes, chain)                                                         \
    "{\"seq\":" seq ",\"event\":" event ",\"bytes\":\"" bytes "\",\"chain\":\"" chain "\"}\n"
#define EVENT_1 EVENT_AS("1", "{\"a\":\"}\\\"{\"}", "AAEC", CHAIN_1)
#define EVENT_2 EVENT_AS("2", "{\"b\":{\"c\":[]}}", "/+8=", CHAIN_2)

static struct core_limits limits;
static struct decoder *decoder;
static struct request *request;
static struct core_refusal why;

static int make_request(void **state)
{
    (void)state;
    limits = core_limits_default;
    decoder = decoder_new(&limits, 10, 4096);
    request = request_new();
    request->session = STR("demo");
    return 0;
}

static int free_request(void **state)
{
    (void)state;
    request_free(request);
    request_free_spares();
    decoder_free(decoder);
    return 0;
}

static struct str text_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

/* A copy of exactly this size, so that reading beyond it shows. */
static int import(struct str body)
{
    char *exact = malloc(body.n + (body.n == 0));
    if (body.n != 0)
        memcpy(exact, body.p, body.n);
    int status = decode_import((struct str){exact, body.n}, request, &why);
    free(exact);
    return status;
}

static void assert_bytes(struct str s, const void *expected, size_t n)
{
    assert_int_equal(s.n, n);
    assert_memory_equal(s.p, expected, n);
}

static void a_whole_file_is_taken(void **state)
{
    (void)state;
    assert_int_equal(import(text_of(HEADER EVENT_1 EVENT_2)), 0);
    assert_int_equal(request->imports_n, 2);
    assert_int_equal(request->imports[0].line, 2);
    assert_bytes(request->imports[0].bytes, "\x00\x01\x02", 3);
    assert_bytes(request->imports[0].json, "{\"a\":\"}\\\"{\"}", 12);
    assert_int_equal(request->imports[0].chain.bytes[31], 1);
    assert_int_equal(request->imports[1].line, 3);
    assert_bytes(request->imports[1].bytes, "\xff\xef", 2);
    assert_bytes(request->imports[1].json, "{\"b\":{\"c\":[]}}", 14);
    assert_int_equal(request->imports[1].chain.bytes[0], 0xa2);
    assert_true(request->at.given);
    assert_int_equal(request->at.seq, 2);
    assert_bytes(request->at.epoch, "k3x9", 4);
}

static void pages_follow_each_other(void **state)
{
    (void)state;
    request->import_more = true;
    assert_int_equal(import(text_of(HEADER EVENT_1)), 0);
    request->after = 1;
    request->import_more = false;
    assert_int_equal(import(text_of(EVENT_2)), 0);
    assert_int_equal(request->imports_n, 1);
    assert_int_equal(request->imports[0].line, 3);
    assert_int_equal(import(text_of(HEADER EVENT_2)), -1); /* the header belongs to the first */
    assert_string_equal(why.detail, "line 3: unknown member \"atoll\"");
}

static void the_end_of_the_file_may_lack_its_newline(void **state)
{
    struct str body = STR(HEADER EVENT_1 EVENT_2);
    (void)state;
    body.n--;
    assert_int_equal(import(body), 0);
    assert_int_equal(request->imports_n, 2);
}

static void an_event_may_be_nested_deeper_than_a_body(void **state)
{
    struct buf body = {0};
    (void)state;
    buf_add_literal(&body, HEADER EVENT_1 "{\"seq\":2,\"event\":{\"data\":");
    for (int i = 0; i < 31; i++)
        buf_add_byte(&body, '[');
    for (int i = 0; i < 31; i++)
        buf_add_byte(&body, ']');
    buf_add_literal(&body, "},\"bytes\":\"\",\"chain\":\"" CHAIN_2 "\"}");
    assert_int_equal(import(buf_str(&body)), 0);
    assert_int_equal(request->imports[1].json.n, 71);
    buf_free(&body);
}

static void a_changed_file_is_refused_by_its_line(void **state)
{
    static const struct {
        const char *body, *field, *detail;
    } cases[] = {
        {"", "body", "line 1: it is not a JSON object"},
        {"\n" HEADER EVENT_1 EVENT_2, "body", "line 1: it is not a JSON object"},
        {EVENT_1 EVENT_2, "body", "line 1: unknown member \"event\""},
        {HEADER, "body", "the page holds no event"},
        {HEADER EVENT_1, "body", "line 1 tells of 2 events; 1 have come"},
        {HEADER EVENT_1 "\n" EVENT_2, "body", "line 3: it is not a JSON object"},
        {HEADER EVENT_2, "body", "line 2: \"seq\" must be 1"},
        {HEADER EVENT_1 EVENT_1, "body", "line 3: \"seq\" must be 2"},
        {HEADER_AS("demo", "2", "2", CHAIN_2) EVENT_1 EVENT_2, "body",
         "line 1: the export is of version 2; only version 1 is known"},
        {HEADER_AS("other", "1", "2", CHAIN_2) EVENT_1 EVENT_2, "session",
         "line 1: the export is of the session \"other\""},
        {HEADER_AS("-", "1", "2", CHAIN_2) EVENT_1 EVENT_2, "body",
         "line 1: it names no session, epoch or seq that can be"},
        {HEADER_AS("demo", "1", "0", CHAIN_2) EVENT_1 EVENT_2, "body",
         "line 1: it names no session, epoch or seq that can be"},
        {HEADER_AS("demo", "1", "2", CHAIN_1) EVENT_1 EVENT_2, "body",
         "line 3: its \"chain\" is not the one of line 1"},
        {HEADER_AS("demo", "1", "2", "01") EVENT_1 EVENT_2, "body",
         "line 1: \"chain\" must be 64 hex digits"},
        {HEADER EVENT_AS("1", "[]", "AAEC", CHAIN_1), "body",
         "line 2: \"event\" must be an object"},
        {HEADER EVENT_AS("1", "{\"a\":1", "AAEC", CHAIN_1), "body",
         "line 2: it is not a JSON object"},
        {HEADER "{\"seq\":1,\"event\":{\n", "body", "line 2: \"event\" must be an object"},
        {HEADER EVENT_AS("-1", "{}", "AAEC", CHAIN_1), "body", "line 2: \"seq\" must be a number"},
        {HEADER EVENT_AS("9007199254740992", "{}", "AAEC", CHAIN_1), "body",
         "line 2: \"seq\" must be a number"},
        {HEADER EVENT_AS("1", "{}", "AAE", CHAIN_1), "body", "line 2: \"bytes\" must be base64"},
        {HEADER EVENT_AS("1", "{}", "A===", CHAIN_1), "body", "line 2: \"bytes\" must be base64"},
        {HEADER EVENT_AS("1", "{}", "AA=C", CHAIN_1), "body", "line 2: \"bytes\" must be base64"},
        {HEADER EVENT_AS("1", "{}", "AA-C", CHAIN_1), "body", "line 2: \"bytes\" must be base64"},
        {HEADER EVENT_AS("1", "{}", "A\\nC", CHAIN_1), "body",
         "line 2: \"bytes\" must be a string"},
        {HEADER EVENT_AS("1,\"seq\":1", "{}", "AAEC", CHAIN_1), "body",
         "line 2: \"seq\" stands there twice"},
        {HEADER EVENT_AS("1,\"extra\":1", "{}", "AAEC", CHAIN_1), "body",
         "line 2: unknown member \"extra\""},
        {HEADER "{\"seq\":1}\n", "body", "line 2: \"event\" is missing"},
        {HEADER "{\"seq\":1} x\n", "body", "line 2: it is not a JSON object"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (import(text_of(cases[i].body)) != -1)
            fail_msg("taken: %s", cases[i].body);
        assert_string_equal(why.detail, cases[i].detail);
        assert_string_equal(why.field, cases[i].field);
        assert_int_equal(why.code, CORE_E_MALFORMED);
    }
}

static void every_cut_of_a_file_is_refused(void **state)
{
    struct str whole = STR(HEADER EVENT_1 EVENT_2);
    (void)state;
    for (size_t n = 0; n < whole.n - 1; n++) {
        assert_int_equal(import((struct str){whole.p, n}), -1);
        assert_true(why.detail[0] != '\0');
    }
}

static void many_short_lines_take_no_memory(void **state)
{
    struct buf body = {0};
    (void)state;
    buf_add_literal(&body, HEADER EVENT_1);
    memset(buf_reserve(&body, 4000000), '\n', 4000000);
    body.n += 4000000;
    assert_int_equal(import(buf_str(&body)), -1);
    assert_string_equal(why.detail, "line 3: it is not a JSON object");
    buf_free(&body);
}

static void base64_is_undone(void **state)
{
    static const struct {
        const char *text, *bytes;
    } rows[] = {{"", ""}, {"Zg==", "f"}, {"Zm8=", "fo"}, {"Zm9v", "foo"}, {"Zm9vYg==", "foob"}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char out[16];
        size_t n;
        assert_true(import_base64(text_of(rows[i].text), out, &n));
        assert_int_equal(n, strlen(rows[i].bytes));
        assert_memory_equal(out, rows[i].bytes, n);
    }
}

static void a_fork_says_where_and_as_what(void **state)
{
    request->session = (struct str){0};
    (void)state;
    assert_int_equal(decode_fork(decoder, STR(""), request, &why), 0);
    assert_false(request->at.given);
    assert_null(request->session.p);
    assert_int_equal(decode_fork(decoder, STR("{\"at\":42,\"session\":\"again\"}"), request, &why),
                     0);
    assert_true(request->at.given);
    assert_int_equal(request->at.seq, 42);
    assert_bytes(request->session, "again", 5);
}

static void a_bad_fork_is_named(void **state)
{
    static const struct {
        const char *body, *field;
    } cases[] = {
        {"{\"at\":0}", "at"},
        {"{\"at\":1.5}", "at"},
        {"{\"at\":\"7\"}", "at"},
        {"{\"at\":-1}", "at"},
        {"{\"at\":1e300}", "at"},
        {"{\"at\":null}", "at"},
        {"{\"session\":7}", "session"},
        {"{\"session\":\"a b\"}", "session"},
        {"{\"sid\":\"a\"}", NULL},
        {"[]", NULL},
        {"{", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (decode_fork(decoder, text_of(cases[i].body), request, &why) != -1)
            fail_msg("taken: %s", cases[i].body);
        assert_true(why.detail[0] != '\0');
        if (cases[i].field == NULL)
            assert_null(why.field);
        else
            assert_string_equal(why.field, cases[i].field);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_request, free_request)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_file_is_taken),
        TEST(pages_follow_each_other),
        TEST(the_end_of_the_file_may_lack_its_newline),
        TEST(an_event_may_be_nested_deeper_than_a_body),
        TEST(a_changed_file_is_refused_by_its_line),
        TEST(every_cut_of_a_file_is_refused),
        TEST(many_short_lines_take_no_memory),
        TEST(base64_is_undone),
        TEST(a_fork_says_where_and_as_what),
        TEST(a_bad_fork_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
