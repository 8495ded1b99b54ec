/* A token passes by its key alone: by the vectors of RFC 7515 and RFC 8037, and no token that was
 * changed in a bit, spelled otherwise, signed by another key or algorithm, or that says twice or
 * wrongly what counts here. */
#include "auth_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PAYLOAD_A                                                                                  \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"
/* RFC 7515, A.1 to A.3; the last one is this payload by the key of RFC 8037, A.1. */
#define TOKEN_HS256                                                                                \
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." PAYLOAD_A                                          \
    ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define TOKEN_RS256                                                                                \
    "eyJhbGciOiJSUzI1NiJ9." PAYLOAD_A                                                              \
    ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2"   \
    "Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQ"   \
    "BMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeY"  \
    "I2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
#define TOKEN_ES256                                                                                \
    "eyJhbGciOiJFUzI1NiJ9." PAYLOAD_A                                                              \
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
#define TOKEN_EDDSA                                                                                \
    "eyJhbGciOiJFZERTQSJ9." PAYLOAD_A                                                              \
    "._vSpFAYzQd76KTga_fKXdhrh3C0FWu4LvjqsxWd4NRyBOrKTdBeh_PkyRQtFmRgGKgdW5upgieZM67Gbz4AtAA"

enum { NOW_S = 1300819379 /* a second before these expire */ };

static struct fixture_keys f;
static struct buf made;
static struct auth_claims claims;

static void add_rfc_secret(const char *name)
{
    struct arena arena = {0};
    struct str secret = arena_base64url(
        &arena, STR("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZ"
                    "r1Z9CAow"));
    assert_int_equal(secret.n, 64);
    fixture_add_bytes(&f, name, "", secret.p, secret.n);
    arena_free(&arena);
}

static int open_fixture(void **state)
{
    (void)state;
    fixture_open(&f);
    fixture_add(&f, "ours.key", "", FIXTURE_SECRET);
    return fixture_load(&f);
}

static int close_fixture(void **state)
{
    (void)state;
    token_claims_free(&claims);
    buf_free(&made);
    fixture_close(&f);
    return 0;
}

static enum token_error verify(struct str text)
{
    token_claims_free(&claims);
    return token_verify(f.keys, STR(""), STR(""), text, NOW_S, &claims);
}

static enum token_error verify_text(const char *text)
{
    return verify(fixture_text(text));
}

/* Of header and payload, signed with our secret whatever the header says. */
static enum token_error verify_made(const char *header, const char *payload)
{
    fixture_begin_token(&made, fixture_text(header), fixture_text(payload));
    fixture_sign_hs256(&made, STR(FIXTURE_SECRET));
    return verify(buf_str(&made));
}

#define HS256 "{\"alg\":\"HS256\"}"

static enum token_error verify_claims(const char *payload)
{
    return verify_made(HS256, payload);
}

/* ---- signatures */

static void the_examples_of_the_rfcs_pass_by_their_keys(void **state)
{
    static const char *const tokens[] = {TOKEN_HS256, TOKEN_RS256, TOKEN_ES256, TOKEN_EDDSA};
    static const char *const kids[] = {"hs", "rs", "es", "ed"};
    (void)state;

    add_rfc_secret("hs");
    fixture_add(&f, "rs", "", FIXTURE_RSA_PUBLIC);
    fixture_add(&f, "es", "", FIXTURE_EC_PUBLIC);
    fixture_add(&f, "ed", "", FIXTURE_ED_PUBLIC);
    assert_int_equal(fixture_load(&f), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(verify_text(tokens[i]), TOKEN_OK);
        assert_true(str_equal(claims.kid, fixture_text(kids[i])));
        assert_int_equal(claims.expires_s, 1300819380);
        assert_null(claims.sub.p);
        assert_int_equal(claims.sessions_n, 0);
        assert_int_equal(claims.scope, 0);
    }
}

static void no_character_of_a_token_can_be_changed(void **state)
{
    static const char *const tokens[] = {TOKEN_HS256, TOKEN_ES256, TOKEN_EDDSA};
    (void)state;

    add_rfc_secret("hs");
    fixture_add(&f, "es", "", FIXTURE_EC_PUBLIC);
    fixture_add(&f, "ed", "", FIXTURE_ED_PUBLIC);
    assert_int_equal(fixture_load(&f), 0);
    for (unsigned t = 0; t < 3; t++) {
        char *text = strdup(tokens[t]);
        size_t n = strlen(text);
        for (size_t i = 0; i < n; i++) {
            char was = text[i];
            text[i] = was == 'A' ? 'B' : 'A';
            assert_int_not_equal(verify_text(text), TOKEN_OK);
            text[i] = '\0'; /* one in the middle, too */
            assert_int_not_equal(verify((struct str){text, n}), TOKEN_OK);
            text[i] = was;
            assert_int_not_equal(verify((struct str){text, i}), TOKEN_OK);
        }
        free(text);
    }
}

static void another_key_of_the_same_kind_does_not_pass(void **state)
{
    (void)state;
    assert_int_equal(verify_text(TOKEN_HS256), TOKEN_BAD_SIGNATURE);
    fixture_begin_token(&made, STR(HS256), STR("{}"));
    fixture_sign_hs256(&made, STR("another secret"));
    assert_int_equal(verify(buf_str(&made)), TOKEN_BAD_SIGNATURE);
}

static void a_public_key_is_no_secret(void **state)
{
    (void)state;
    f.config.auth_keys.count = 0;
    fixture_add(&f, "rs", "", FIXTURE_RSA_PUBLIC);
    assert_int_equal(fixture_load(&f), 0);
    fixture_begin_token(&made, STR("{\"alg\":\"HS256\",\"kid\":\"rs\"}"), STR("{}"));
    fixture_sign_hs256(&made, STR(FIXTURE_RSA_PUBLIC));
    assert_int_equal(verify(buf_str(&made)), TOKEN_UNKNOWN_KEY);
    fixture_begin_token(&made, STR("{\"alg\":\"RS256\",\"kid\":\"rs\"}"), STR("{}"));
    fixture_sign_hs256(&made, STR(FIXTURE_RSA_PUBLIC));
    assert_int_equal(verify(buf_str(&made)), TOKEN_BAD_SIGNATURE);
}

static void no_algorithm_is_none_of_ours(void **state)
{
    static const char *const algs[] = {"none",   "None",  "NONE",  "",     "hs256",
                                       "HS256 ", "HS257", "RS512", "PS256"};
    char header[64];
    (void)state;

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", algs[i]);
        assert_int_equal(verify_made(header, "{}"), TOKEN_UNKNOWN_KEY);
        fixture_begin_token(&made, fixture_text(header), STR("{}"));
        buf_add_byte(&made, '.');
        assert_int_equal(verify(buf_str(&made)), TOKEN_MALFORMED);
    }
}

static void kid_names_the_key(void **state)
{
    (void)state;
    fixture_add(&f, "next.key", "", "the secret of the month that is to come");
    assert_int_equal(fixture_load(&f), 0);
    assert_int_equal(verify_made("{\"alg\":\"HS256\",\"kid\":\"ours\"}", "{}"), TOKEN_OK);
    assert_int_equal(verify_made("{\"alg\":\"HS256\",\"kid\":\"next\"}", "{}"),
                     TOKEN_BAD_SIGNATURE);
    assert_int_equal(verify_made("{\"alg\":\"HS256\",\"kid\":\"last\"}", "{}"), TOKEN_UNKNOWN_KEY);
    assert_int_equal(verify_made("{\"alg\":\"HS256\",\"kid\":\"\"}", "{}"), TOKEN_UNKNOWN_KEY);
    assert_int_equal(verify_made("{\"alg\":\"HS256\",\"kid\":\"ours\\u0000\"}", "{}"),
                     TOKEN_MALFORMED);
    /* Without one, every key of this algorithm may be the one. */
    fixture_begin_token(&made, STR(HS256), STR("{}"));
    fixture_sign_hs256(&made, STR("the secret of the month that is to come"));
    assert_int_equal(verify(buf_str(&made)), TOKEN_OK);
    assert_true(str_equal(claims.kid, STR("next")));
}

/* ---- form */

static void headers_that_say_what_we_do_not_know_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "\"x\"",
        "{}",
        "{\"alg\":1}",
        "{\"alg\":null}",
        "{\"alg\":[\"HS256\"]}",
        "{\"alg\":\"HS256\",\"alg\":\"HS256\"}",
        "{\"alg\":\"none\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"\\u0061lg\":\"none\"}",
        "{\"alg\":\"HS256\",\"kid\":1}",
        "{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}",
        "{\"alg\":\"HS256\",\"typ\":1}",
        "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}",
        "{\"alg\":\"HS256\"} ",
        "{\"alg\":\"HS256\"}x",
        "{'alg':'HS256'}",
        "\xef\xbb\xbf{\"alg\":\"HS256\"}",
    };
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        bool spaces = strstr(bad[i], "} ") != NULL; /* these are JSON's */
        enum token_error error = verify_made(bad[i], "{}");
        if (error != (spaces ? TOKEN_OK : TOKEN_MALFORMED))
            fail_msg("%s: %d", bad[i], error);
    }
    assert_int_equal(verify_made("{\"alg\":\"HS256\",\"typ\":\"jwt\",\"jku\":\"http://x/\"}", "{}"),
                     TOKEN_OK);
}

static void payloads_that_are_no_object_are_refused(void **state)
{
    static const char *const bad[] = {
        "",      "null",           "[]",
        "\"x\"", "{\"sub\":\"a\"", "{\"sub\":\"a\",\"sub\":\"b\"}",
        "{}{}",  "{\"a\":NaN}",    "{\"a\":\"\xff\"}",
    };
    char deep[256] = "{\"a\":";
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(verify_claims(bad[i]), TOKEN_MALFORMED);
    memset(deep + 5, '[', 100);
    memset(deep + 105, ']', 100);
    memcpy(deep + 205, "}", 2);
    assert_int_equal(verify_claims(deep), TOKEN_MALFORMED);
    assert_int_equal(verify_claims("{\"a\":[[[{\"b\":[1,2.5,1e300]}]]]}"), TOKEN_OK);
}

static void base64_has_one_spelling(void **state)
{
    (void)state;
    assert_int_equal(verify_claims("{}"), TOKEN_OK);
    char *good = fixture_copy(made.p, made.n);
    struct buf other = {0};
    static const char *const insertions[] = {"=", " ", "\n", "%", ".", "\t"};
    for (unsigned i = 0; i < sizeof(insertions) / sizeof(insertions[0]); i++)
        for (size_t at = 0; at <= strlen(good); at++) {
            other.n = 0;
            buf_add(&other, good, at);
            buf_add(&other, insertions[i], 1);
            buf_add(&other, good + at, strlen(good) - at);
            assert_int_equal(verify(buf_str(&other)), TOKEN_MALFORMED);
        }
    /* The last character of 32 bytes holds four bits: the other two must be 0. */
    good[strlen(good) - 1]++;
    assert_int_equal(verify_text(good), TOKEN_MALFORMED);
    free(good);
    buf_free(&other);
}

static void texts_that_are_no_token_are_refused(void **state)
{
    static const char *const bad[] = {
        "",    ".",     "..",      "...",          "a",
        "a.b", "a.b.c", "a.b.c.d", "Bearer x.y.z", "....................................."};
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(verify_text(bad[i]), TOKEN_MALFORMED);
    assert_int_equal(verify((struct str){0}), TOKEN_MALFORMED);
}

static void a_token_has_at_most_8192_bytes(void **state)
{
    char *payload = mem_zeroed(1, TOKEN_BYTES_MAX);
    unsigned good = 0;
    (void)state;

    for (int fill = 6000; fill < 6200; fill++) {
        snprintf(payload, TOKEN_BYTES_MAX, "{\"x\":\"%0*d\"}", fill, 0);
        enum token_error error = verify_claims(payload);
        assert_int_equal(error, made.n <= TOKEN_BYTES_MAX ? TOKEN_OK : TOKEN_MALFORMED);
        good += error == TOKEN_OK;
    }
    assert_in_range(good, 1, 199);
    free(payload);
}

/* ---- claims */

static void time_is_from_nbf_up_to_exp(void **state)
{
    static const struct {
        const char *payload;
        enum token_error error;
    } cases[] = {
        {"{\"exp\":1300819380}", TOKEN_OK},
        {"{\"exp\":1300819379}", TOKEN_EXPIRED},
        {"{\"exp\":1300819379.9}", TOKEN_EXPIRED},
        {"{\"exp\":0}", TOKEN_EXPIRED},
        {"{\"exp\":-1e300}", TOKEN_EXPIRED},
        {"{\"exp\":1e300}", TOKEN_OK},
        {"{\"exp\":\"1300819380\"}", TOKEN_MALFORMED},
        {"{\"exp\":null}", TOKEN_MALFORMED},
        {"{\"nbf\":1300819379}", TOKEN_OK},
        {"{\"nbf\":1300819379.1}", TOKEN_NOT_YET},
        {"{\"nbf\":1300819380}", TOKEN_NOT_YET},
        {"{\"nbf\":1e300}", TOKEN_NOT_YET},
        {"{\"nbf\":-1e300}", TOKEN_OK},
        {"{\"nbf\":true}", TOKEN_MALFORMED},
        {"{\"iat\":99999999999}", TOKEN_OK},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (verify_claims(cases[i].payload) != cases[i].error)
            fail_msg("%s", cases[i].payload);
    verify_claims("{\"exp\":1300819380.9}");
    assert_int_equal(claims.expires_s, 1300819380);
    verify_claims("{\"exp\":1e300}");
    assert_int_equal(claims.expires_s, 0);
    verify_claims("{}");
    assert_int_equal(claims.expires_s, 0);
}

static enum token_error verify_parties(const char *issuer, const char *audience,
                                       const char *payload)
{
    verify_claims(payload); /* makes it */
    token_claims_free(&claims);
    return token_verify(f.keys, fixture_text(issuer), fixture_text(audience), buf_str(&made), NOW_S,
                        &claims);
}

static void issuer_and_audience_count_where_they_are_configured(void **state)
{
    (void)state;
    assert_int_equal(verify_parties("", "", "{\"iss\":\"a\",\"aud\":\"b\"}"), TOKEN_OK);
    assert_int_equal(verify_parties("a", "b", "{\"iss\":\"a\",\"aud\":\"b\"}"), TOKEN_OK);
    assert_int_equal(verify_parties("a", "b", "{\"iss\":\"a\",\"aud\":[\"c\",\"b\"]}"), TOKEN_OK);
    assert_int_equal(verify_parties("a", "", "{}"), TOKEN_WRONG_ISSUER);
    assert_int_equal(verify_parties("a", "", "{\"iss\":\"a \"}"), TOKEN_WRONG_ISSUER);
    assert_int_equal(verify_parties("", "b", "{}"), TOKEN_WRONG_AUDIENCE);
    assert_int_equal(verify_parties("", "b", "{\"aud\":[]}"), TOKEN_WRONG_AUDIENCE);
    assert_int_equal(verify_parties("", "b", "{\"aud\":[\"c\"]}"), TOKEN_WRONG_AUDIENCE);
    assert_int_equal(verify_parties("", "b", "{\"aud\":[\"b\",1]}"), TOKEN_MALFORMED);
    assert_int_equal(verify_parties("", "", "{\"aud\":1}"), TOKEN_MALFORMED);
    assert_int_equal(verify_parties("", "", "{\"iss\":1}"), TOKEN_MALFORMED);
}

static void the_subject_is_an_agent(void **state)
{
    (void)state;
    assert_int_equal(verify_claims("{\"sub\":\"coder-7\",\"jti\":\"j \\n 1\"}"), TOKEN_OK);
    assert_true(str_equal(claims.sub, STR("coder-7")));
    assert_true(str_equal(claims.id, STR("j \n 1")));
    assert_int_equal(verify_claims("{\"sub\":\"\"}"), TOKEN_MALFORMED);
    assert_int_equal(verify_claims("{\"sub\":\"a|b\"}"), TOKEN_MALFORMED);
    assert_int_equal(verify_claims("{\"sub\":[\"a\"]}"), TOKEN_MALFORMED);
    assert_int_equal(verify_claims("{\"sub\":null}"), TOKEN_MALFORMED);
    assert_int_equal(verify_claims("{\"jti\":7}"), TOKEN_MALFORMED);
}

static void sessions_are_ids_or_prefixes(void **state)
{
    static const char *const bad[] = {
        "\"\"",      "\"a*b\"", "\"**\"", "\"-*\"",    "\"a b\"", "\"~a\"",  "\"~*\"",
        "[\"a\",1]", "{}",      "null",   "[[\"a\"]]", "[\"\"]",  "\"a/*\"",
    };
    char payload[1024];
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(payload, sizeof(payload), "{\"sid\":%s}", bad[i]);
        if (verify_claims(payload) != TOKEN_MALFORMED)
            fail_msg("%s", payload);
    }
    assert_int_equal(verify_claims("{\"sid\":\"*\"}"), TOKEN_OK);
    assert_int_equal(claims.sessions_n, 1);
    assert_int_equal(verify_claims("{\"sid\":[]}"), TOKEN_OK);
    assert_int_equal(claims.sessions_n, 0);
    assert_int_equal(verify_claims("{\"sid\":[\"s1\",\"team-*\"]}"), TOKEN_OK);
    assert_int_equal(claims.sessions_n, 2);
    assert_true(str_equal(claims.sessions[0], STR("s1")));
    assert_true(str_equal(claims.sessions[1], STR("team-*")));
    /* Sixteen and no more. */
    strcpy(payload, "{\"sid\":[\"a\"");
    for (int i = 1; i < 16; i++)
        strcat(payload, ",\"a\"");
    size_t n = strlen(payload);
    strcpy(payload + n, "]}");
    assert_int_equal(verify_claims(payload), TOKEN_OK);
    assert_int_equal(claims.sessions_n, 16);
    strcpy(payload + n, ",\"a\"]}");
    assert_int_equal(verify_claims(payload), TOKEN_MALFORMED);
}

static void scopes_hold_those_below_them(void **state)
{
    static const struct {
        const char *scope;
        unsigned bits;
    } cases[] = {
        {"", 0},           {"read", 1},       {"write", 3},
        {"admin", 7},      {"read write", 3}, {"openid  read profile", 1},
        {"read,write", 0}, {"READ", 0},       {"reader", 0},
    };
    char payload[64];
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(payload, sizeof(payload), "{\"scope\":\"%s\"}", cases[i].scope);
        assert_int_equal(verify_claims(payload), TOKEN_OK);
        assert_int_equal(claims.scope, cases[i].bits);
    }
    assert_int_equal(verify_claims("{\"scope\":[\"read\"]}"), TOKEN_MALFORMED);
}

static void redactions_are_pointers_and_nothing_else(void **state)
{
    static const char *const bad[] = {
        "\"/a\"", "[\"a\"]", "[\"/a~\"]", "[\"/a~2\"]", "[1]", "{}", "null", "[\"/a\",\"b\"]",
    };
    char payload[512];
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(payload, sizeof(payload), "{\"redact\":%s}", bad[i]);
        if (verify_claims(payload) != TOKEN_MALFORMED)
            fail_msg("%s", payload);
    }
    assert_int_equal(verify_claims("{\"redact\":[\"/agents/*/note\",\"/a~0b~1c\"]}"), TOKEN_OK);
    assert_int_equal(claims.redact_n, 2);
    assert_true(str_equal(claims.redact[0], STR("/agents/*/note")));
    for (int fill = 255; fill <= 256; fill++) {
        snprintf(payload, sizeof(payload), "{\"redact\":[\"/%0*d\"]}", fill, 0);
        assert_int_equal(verify_claims(payload), fill == 255 ? TOKEN_OK : TOKEN_MALFORMED);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        TEST(the_examples_of_the_rfcs_pass_by_their_keys),
        TEST(no_character_of_a_token_can_be_changed),
        TEST(another_key_of_the_same_kind_does_not_pass),
        TEST(a_public_key_is_no_secret),
        TEST(no_algorithm_is_none_of_ours),
        TEST(kid_names_the_key),
        TEST(headers_that_say_what_we_do_not_know_are_refused),
        TEST(payloads_that_are_no_object_are_refused),
        TEST(base64_has_one_spelling),
        TEST(texts_that_are_no_token_are_refused),
        TEST(a_token_has_at_most_8192_bytes),
        TEST(time_is_from_nbf_up_to_exp),
        TEST(issuer_and_audience_count_where_they_are_configured),
        TEST(the_subject_is_an_agent),
        TEST(sessions_are_ids_or_prefixes),
        TEST(scopes_hold_those_below_them),
        TEST(redactions_are_pointers_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
