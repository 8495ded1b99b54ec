/* A key file is a key or it is refused by name: what it holds decides the algorithm, not what the
 * option would like it to be, and no text that is told has a secret in it. */
#include "auth_fixture.h"
#include "server/auth/keys_internal.h"

#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct fixture_keys f;

static int open_fixture(void **state)
{
    (void)state;
    fixture_open(&f);
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    fixture_close(&f);
    return 0;
}

static void assert_refused(const char *words)
{
    assert_int_equal(fixture_load(&f), -22);
    assert_null(f.keys);
    if (strstr(f.error, words) == NULL || strncmp(f.error, "--auth-key: \"", 13) != 0 ||
        strstr(f.error, f.scratch.path) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", f.error, words);
    assert_null(strchr(f.error, '\n'));
}

/* The one file is refused so. */
static void assert_file_refused(const char *suffix, const void *bytes, size_t n, const char *words)
{
    f.config.auth_keys.count = 0;
    fixture_add_bytes(&f, "k.key", suffix, bytes, n);
    assert_refused(words);
}

static void assert_text_refused(const char *suffix, const char *text, const char *words)
{
    assert_file_refused(suffix, text, strlen(text), words);
}

static const struct auth_key *load_one(const char *suffix, const void *bytes, size_t n)
{
    f.config.auth_keys.count = 0;
    fixture_add_bytes(&f, "k.key", suffix, bytes, n);
    if (fixture_load(&f) != 0)
        fail_msg("%s", f.error);
    assert_int_equal(f.keys->n, 1);
    return &f.keys->items[0];
}

/* A new key of a kind, as PEM. */
static char *make_pem(EVP_PKEY *pkey, bool private, const EVP_CIPHER *cipher)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text, *copy;

    assert_non_null(pkey);
    if (private)
        PEM_write_bio_PrivateKey(bio, pkey, cipher, (const unsigned char *)"pass", 4, NULL, NULL);
    else
        PEM_write_bio_PUBKEY(bio, pkey);
    long n = BIO_get_mem_data(bio, &text);
    copy = fixture_copy(text, (size_t)n);
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    return copy;
}

/* ---- */

static void without_an_option_there_are_no_keys(void **state)
{
    (void)state;
    assert_int_equal(fixture_load(&f), 0);
    assert_null(f.keys);
}

static void a_secret_is_the_file_without_one_final_newline(void **state)
{
    static const char text[] = FIXTURE_SECRET "\n\n";
    static const char bytes[] = "\0\xff secret bytes of any value, and \n in it";
    (void)state;

    const struct auth_key *key = load_one("", text, 32);
    assert_int_equal(key->alg, AUTH_HS256);
    assert_string_equal(key->kid, "k");
    assert_int_equal(key->bytes_n, 32);
    assert_int_equal(load_one("", text, 33)->bytes_n, 32);
    assert_int_equal(load_one("", text, 34)->bytes_n, 33);
    key = load_one("#alg=HS512", bytes, sizeof(bytes));
    assert_int_equal(key->alg, AUTH_HS512);
    assert_int_equal(key->bytes_n, sizeof(bytes));
    assert_memory_equal(key->bytes, bytes, sizeof(bytes));
}

static void a_secret_that_is_too_short_is_refused(void **state)
{
    (void)state;
    assert_text_refused("", "", "is empty");
    assert_text_refused("", "\n", "0 bytes; must be at least 32");
    assert_text_refused("", "short and known", "15 bytes; must be at least 32");
    assert_null(strstr(f.error, "short and known"));
    assert_text_refused("", "0123456789abcdef0123456789abcde\n", "31 bytes");
}

static void what_a_pem_key_is_decides_its_algorithm(void **state)
{
    (void)state;
    const struct auth_key *key = load_one("", FIXTURE_RSA_PUBLIC, sizeof(FIXTURE_RSA_PUBLIC) - 1);
    assert_int_equal(key->alg, AUTH_RS256);
    assert_string_equal(key->bytes, FIXTURE_RSA_PUBLIC);
    key = load_one("#alg=ES256", FIXTURE_EC_PUBLIC, sizeof(FIXTURE_EC_PUBLIC) - 1);
    assert_int_equal(key->alg, AUTH_ES256);
    key = load_one("#alg=EdDSA", FIXTURE_ED_PUBLIC, sizeof(FIXTURE_ED_PUBLIC) - 1);
    assert_int_equal(key->alg, AUTH_EDDSA);
    assert_int_equal(key->bytes_n, 32);
}

static void of_a_private_key_the_public_part_is_kept(void **state)
{
    (void)state;
    const struct auth_key *key = load_one("", FIXTURE_EC_PRIVATE, sizeof(FIXTURE_EC_PRIVATE) - 1);
    assert_false(key->signs);
    assert_string_equal(key->bytes, FIXTURE_EC_PUBLIC);
    key = load_one("", FIXTURE_ED_PRIVATE, sizeof(FIXTURE_ED_PRIVATE) - 1);
    assert_false(key->signs);
    assert_int_equal((unsigned char)key->bytes[0], 0xd7); /* d75a98…, of RFC 8032 */
}

static void a_key_is_not_used_for_another_algorithm(void **state)
{
    (void)state;
    assert_text_refused("#alg=HS256", FIXTURE_RSA_PUBLIC, "a key for RS256, not for HS256");
    assert_text_refused("#alg=RS256", FIXTURE_EC_PUBLIC, "a key for ES256, not for RS256");
    assert_text_refused("#alg=ES256", FIXTURE_ED_PUBLIC, "a key for EdDSA, not for ES256");
    assert_text_refused("#alg=RS256", FIXTURE_SECRET, "no PEM key, which RS256 needs");
    assert_text_refused("#alg=none", FIXTURE_SECRET, "must be HS256, HS384, HS512");
    assert_text_refused("#alg=hs256", FIXTURE_SECRET, "must be HS256, HS384, HS512");
    assert_text_refused("#alg=", FIXTURE_SECRET, "must be HS256, HS384, HS512");
}

static void keys_that_are_too_weak_or_of_another_kind_are_refused(void **state)
{
    (void)state;
    char *weak = make_pem(EVP_RSA_gen(1024), false, NULL);
    char *curve = make_pem(EVP_EC_gen("P-384"), false, NULL);
    char *kind = make_pem(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), false, NULL);
    assert_text_refused("", weak, "1024 bits; must be at least 2048");
    assert_text_refused("", curve, "secp384r1; ES256 needs P-256");
    assert_text_refused("", kind, "a X25519 key; must be RSA, EC P-256 or Ed25519");
    free(weak);
    free(curve);
    free(kind);
}

static void a_key_with_a_pass_phrase_is_refused_and_not_asked_for(void **state)
{
    (void)state;
    char *locked = make_pem(EVP_EC_gen("P-256"), true, EVP_aes_256_cbc());
    assert_text_refused("", locked, "without pass phrase");
    free(locked);
}

static void broken_pem_is_no_secret(void **state)
{
    (void)state;
    assert_text_refused("", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                        "no key that can be used");
    assert_text_refused("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                        "no key that can be used");
    assert_text_refused("", FIXTURE_RSA_PUBLIC FIXTURE_EC_PUBLIC, "2 PEM keys");
}

static void files_that_cannot_be_read_are_refused(void **state)
{
    char *large = mem_zeroed(1, AUTH_FILE_BYTES_MAX + 1);
    (void)state;

    assert_file_refused("", large, AUTH_FILE_BYTES_MAX + 1, "larger than the 64 KiB");
    assert_int_equal(load_one("", large, AUTH_FILE_BYTES_MAX)->bytes_n, AUTH_FILE_BYTES_MAX);
    free(large);
    unlink(scratch_file(&f.scratch, "k.key"));
    assert_refused("cannot be opened: No such file");
    mkdir(scratch_file(&f.scratch, "k.key"), 0700);
    assert_refused("is not a regular file");
    rmdir(scratch_file(&f.scratch, "k.key"));
    mkfifo(scratch_file(&f.scratch, "k.key"), 0600);
    assert_refused("is not a regular file"); /* at once: nobody writes to it */
}

static void names_come_from_the_option_or_the_file(void **state)
{
    (void)state;
    assert_string_equal(load_one("#kid=2026-01", FIXTURE_SECRET, 32)->kid, "2026-01");
    const struct auth_key *key = load_one("#kid=a/b+c=#alg=HS384", FIXTURE_SECRET, 32);
    assert_string_equal(key->kid, "a/b+c=");
    assert_int_equal(key->alg, AUTH_HS384);
    assert_int_equal(load_one("#alg=HS512#kid=x", FIXTURE_SECRET, 32)->alg, AUTH_HS512);
    assert_text_refused("#kid=", FIXTURE_SECRET, "#kid= that is not allowed");
    assert_text_refused("#kid=a b", FIXTURE_SECRET, "#kid= that is not allowed");
    f.config.auth_keys.count = 0;
    fixture_add(&f, "of#the.month.pem", "", FIXTURE_SECRET);
    assert_int_equal(fixture_load(&f), 0);
    assert_string_equal(f.keys->items[0].kid, "of#the.month");
}

static void two_keys_of_one_name_are_refused(void **state)
{
    (void)state;
    fixture_add(&f, "k.key", "", FIXTURE_SECRET);
    fixture_add(&f, "k.pem", "", FIXTURE_RSA_PUBLIC);
    assert_refused("both have the name \"k\"");
    snprintf(f.options[1], sizeof(f.options[1]), "%s#kid=k2", scratch_file(&f.scratch, "k.pem"));
    assert_int_equal(fixture_load(&f), 0);
    assert_int_equal(f.keys->n, 2);
}

static void a_key_is_the_same_while_its_name_and_bytes_are(void **state)
{
    (void)state;
    fixture_add(&f, "a.key", "", FIXTURE_SECRET);
    fixture_add(&f, "b.pem", "", FIXTURE_EC_PUBLIC);
    assert_int_equal(fixture_load(&f), 0);
    struct auth_keys *before = auth_keys_hold(f.keys);
    file_patch(scratch_file(&f.scratch, "a.key"), 3, "X", 1);
    assert_int_equal(fixture_load(&f), 0);
    assert_ptr_not_equal(before, f.keys);
    assert_true(auth_keys_share(before, f.keys, STR("b")));
    assert_false(auth_keys_share(before, f.keys, STR("a")));
    assert_false(auth_keys_share(before, f.keys, STR("c")));
    f.config.auth_keys.count = 1;
    assert_int_equal(fixture_load(&f), 0);
    assert_false(auth_keys_share(before, f.keys, STR("b")));
    auth_keys_release(before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        TEST(without_an_option_there_are_no_keys),
        TEST(a_secret_is_the_file_without_one_final_newline),
        TEST(a_secret_that_is_too_short_is_refused),
        TEST(what_a_pem_key_is_decides_its_algorithm),
        TEST(of_a_private_key_the_public_part_is_kept),
        TEST(a_key_is_not_used_for_another_algorithm),
        TEST(keys_that_are_too_weak_or_of_another_kind_are_refused),
        TEST(a_key_with_a_pass_phrase_is_refused_and_not_asked_for),
        TEST(broken_pem_is_no_secret),
        TEST(files_that_cannot_be_read_are_refused),
        TEST(names_come_from_the_option_or_the_file),
        TEST(two_keys_of_one_name_are_refused),
        TEST(a_key_is_the_same_while_its_name_and_bytes_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
