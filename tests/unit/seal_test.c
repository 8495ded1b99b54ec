/* What was signed or sealed comes back as it was, and nothing else passes: no bit changed, no byte
 * cut, no other key, purpose, session or agent. */
#include "server/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint8_t one[SEAL_KEY_BYTES] = {1, 2, 3};
static const uint8_t other[SEAL_KEY_BYTES] = {1, 2, 4};

static struct str text(const char *p)
{
    return (struct str){p, strlen(p)};
}

static bool is_base64url(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '-' && c != '_')
            return false;
    }
    return true;
}

/* ---- base64url */

static void texts_of_rfc_4648_are_made_and_read(void **state)
{
    static const char *const pairs[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xbf", "-_-_"},
    };
    struct arena arena = {0};
    (void)state;

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct buf made = {0};
        buf_add_base64url(&made, text(pairs[i][0]));
        assert_true(str_equal((struct str){pairs[i][1], made.n}, text(pairs[i][1])));
        assert_memory_equal(pairs[i][1], made.p, made.n);
        assert_true(str_equal(arena_base64url(&arena, text(pairs[i][1])), text(pairs[i][0])));
        buf_free(&made);
    }
    arena_free(&arena);
}

static void each_text_has_one_form(void **state)
{
    static const char *const bad[] = {
        "Z", "Zh", "Zm9", "Zg==", "Zg=", "Zm9vY", "Zm+v", "Zm/v", "Zm 9", "Zm9v\n"};
    struct arena arena = {0};
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(arena_base64url(&arena, text(bad[i])).p);
    arena_free(&arena);
}

/* ---- signing */

static void a_signed_text_gives_its_payload_back(void **state)
{
    static const char bytes[] = "\0any bytes\xff of any length";
    struct sign_key *key = sign_key_new(one);
    struct arena arena = {0};
    (void)state;

    for (size_t n = 0; n < sizeof(bytes); n++) {
        struct str payload = {bytes, n};
        struct buf out = {0};
        buf_add_literal(&out, "before ");
        sign_text(key, payload, &out);
        struct str made = {out.p + 7, out.n - 7};
        assert_memory_equal(out.p, "before ", 7);
        assert_true(is_base64url(made));
        assert_true(str_equal(sign_check(key, made, &arena), payload));
        buf_free(&out);
    }
    arena_free(&arena);
    sign_key_free(key);
}

/* HMAC-SHA256 of RFC 4231, test case 2, cut: with a key of the same bytes and zeros behind them,
 * which HMAC takes for the same. */
static void the_signature_is_hmac_sha256(void **state)
{
    static const uint8_t jefe[SEAL_KEY_BYTES] = "Jefe";
    static const uint8_t mac[SIGN_MAC_BYTES] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e,
                                                0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7};
    struct str payload = STR("what do ya want for nothing?");
    struct sign_key *key = sign_key_new(jefe);
    struct arena arena = {0};
    struct buf out = {0};
    (void)state;

    sign_text(key, payload, &out);
    struct str bytes = arena_base64url(&arena, buf_str(&out));
    assert_int_equal(bytes.n, payload.n + SIGN_MAC_BYTES);
    assert_memory_equal(bytes.p, payload.p, payload.n);
    assert_memory_equal(bytes.p + payload.n, mac, sizeof(mac));
    buf_free(&out);
    arena_free(&arena);
    sign_key_free(key);
}

static void no_other_text_passes_as_signed(void **state)
{
    struct sign_key *key = sign_key_new(one);
    struct sign_key *stranger = sign_key_new(other);
    struct arena arena = {0};
    struct buf out = {0};
    (void)state;

    sign_text(key, STR("payload"), &out);
    assert_null(sign_check(stranger, buf_str(&out), &arena).p);
    for (size_t n = 0; n < out.n; n++)
        assert_null(sign_check(key, (struct str){out.p, n}, &arena).p);
    for (size_t i = 0; i < out.n; i++) {
        for (char bit = 1; bit > 0 && bit <= 64; bit = (char)(bit << 1)) {
            out.p[i] ^= bit;
            assert_null(sign_check(key, buf_str(&out), &arena).p);
            out.p[i] ^= bit;
        }
    }
    assert_non_null(sign_check(key, buf_str(&out), &arena).p);
    buf_add_byte(&out, 'A');
    assert_null(sign_check(key, buf_str(&out), &arena).p);
    assert_null(sign_check(key, (struct str){0}, &arena).p);
    buf_free(&out);
    arena_free(&arena);
    sign_key_free(stranger);
    sign_key_free(key);
}

/* ---- sealing */

static void a_secret_is_read_only_where_it_was_sealed_for(void **state)
{
    struct str secret = STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    struct seal_key key, stranger;
    struct arena arena = {0};
    struct buf out = {0};
    (void)state;

    seal_key_init(&key, one);
    seal_key_init(&stranger, other);
    seal_secret(&key, STR("s1"), STR("coder"), secret, &out);
    assert_true(is_base64url(buf_str(&out)));
    struct str sealed = buf_str(&out);
    assert_true(str_equal(seal_open(&key, STR("s1"), STR("coder"), sealed, &arena), secret));
    assert_null(seal_open(&stranger, STR("s1"), STR("coder"), sealed, &arena).p);
    assert_null(seal_open(&key, STR("s2"), STR("coder"), sealed, &arena).p);
    assert_null(seal_open(&key, STR("s1"), STR("code"), sealed, &arena).p);
    assert_null(seal_open(&key, STR("s1c"), STR("oder"), sealed, &arena).p);
    assert_null(seal_open(&key, STR("s1"), STR(""), sealed, &arena).p);
    buf_free(&out);
    arena_free(&arena);
}

static void no_bit_of_a_sealed_text_can_be_changed(void **state)
{
    struct seal_key key;
    struct arena arena = {0};
    struct buf out = {0};
    (void)state;

    seal_key_init(&key, one);
    seal_secret(&key, STR("s1"), STR("coder"), STR("a secret of some bytes"), &out);
    for (size_t n = 0; n < out.n; n++)
        assert_null(seal_open(&key, STR("s1"), STR("coder"), (struct str){out.p, n}, &arena).p);
    for (size_t i = 0; i < out.n; i++) {
        for (char bit = 1; bit > 0 && bit <= 64; bit = (char)(bit << 1)) {
            out.p[i] ^= bit;
            assert_null(seal_open(&key, STR("s1"), STR("coder"), buf_str(&out), &arena).p);
            out.p[i] ^= bit;
        }
    }
    assert_non_null(seal_open(&key, STR("s1"), STR("coder"), buf_str(&out), &arena).p);
    buf_free(&out);
    arena_free(&arena);
}

static void seal_for(const char *session, const char *agent, const char *secret, struct buf *out)
{
    struct seal_key key;
    seal_key_init(&key, one);
    out->n = 0;
    seal_secret(&key, text(session), text(agent), text(secret), out);
}

static void the_same_command_is_sealed_the_same_and_no_other(void **state)
{
    struct buf first = {0}, again = {0};
    (void)state;

    seal_for("s1", "coder", "one secret of many", &first);
    seal_for("s1", "coder", "one secret of many", &again);
    assert_true(str_equal(buf_str(&first), buf_str(&again)));
    /* Nor do others share what stands before the secret: version and nonce, 16 characters. */
    static const char *const others[][3] = {{"s2", "coder", "one secret of many"},
                                            {"s1", "codes", "one secret of many"},
                                            {"s1", "coder", "one secret of Many"}};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        seal_for(others[i][0], others[i][1], others[i][2], &again);
        assert_memory_not_equal(first.p, again.p, 16);
    }
    buf_free(&first);
    buf_free(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_of_rfc_4648_are_made_and_read),
        cmocka_unit_test(each_text_has_one_form),
        cmocka_unit_test(a_signed_text_gives_its_payload_back),
        cmocka_unit_test(the_signature_is_hmac_sha256),
        cmocka_unit_test(no_other_text_passes_as_signed),
        cmocka_unit_test(a_secret_is_read_only_where_it_was_sealed_for),
        cmocka_unit_test(no_bit_of_a_sealed_text_can_be_changed),
        cmocka_unit_test(the_same_command_is_sealed_the_same_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
