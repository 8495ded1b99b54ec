/*
 * Tokens. The first line says what the rest is:
 *
 *     raw        a token, which nobody here has signed: never good
 *     hs rs ed   a line with the header, then the claims: signed with the key of that kind, so that
 *                what is in them is looked at
 *     confused   the same, signed as HS256 with the text of the RSA public key: never good
 */
#include "server/auth/token.h"
#include "server/auth/keys_internal.h"
#include "tests/fuzz/fuzz.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

enum { NOW_S = 1700000000 };

static const struct str secret = {"0123456789abcdef0123456789abcdef", 32};
static struct auth_keys keys;
static EVP_PKEY *rsa, *ec, *ed25519;

static void add_key(enum auth_alg alg, const char *kid, struct str bytes)
{
    struct auth_key *key = &keys.items[keys.n++];
    *key = (struct auth_key){.alg = alg, .kid = strdup(kid), .bytes_n = bytes.n};
    key->bytes = calloc(1, bytes.n + 1);
    memcpy(key->bytes, bytes.p, bytes.n);
}

static struct str public_pem(EVP_PKEY *key)
{
    static char texts[2][1024];
    static int n;
    char *text;
    BIO *bio = BIO_new(BIO_s_mem());
    assert(bio != NULL && PEM_write_bio_PUBKEY(bio, key) == 1);
    long size = BIO_get_mem_data(bio, &text);
    assert(size > 0 && size < (long)sizeof(texts[0]));
    struct str pem = {memcpy(texts[n++], text, (size_t)size), (size_t)size};
    BIO_free(bio);
    return pem;
}

static void prepare(void)
{
    unsigned char raw[AUTH_ED25519_BYTES];
    size_t raw_n = sizeof(raw);
    rsa = EVP_RSA_gen(AUTH_RSA_BITS_MIN);
    ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    assert(rsa != NULL && ec != NULL && EVP_PKEY_get_raw_public_key(ed25519, raw, &raw_n) == 1);
    atomic_init(&keys.references, 1);
    keys.seed = 7;
    add_key(AUTH_HS256, "h", secret);
    add_key(AUTH_RS256, "r", public_pem(rsa));
    add_key(AUTH_ES256, "e", public_pem(ec));
    add_key(AUTH_EDDSA, "d", (struct str){(const char *)raw, raw_n});
}

static void sign_hmac(struct str key, struct str text, struct buf *out)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    HMAC(EVP_sha256(), key.p, (int)key.n, (const unsigned char *)text.p, text.n, mac, &n);
    buf_add_base64url(out, (struct str){(const char *)mac, n});
}

static void sign_key(EVP_PKEY *key, const EVP_MD *digest, struct str text, struct buf *out)
{
    unsigned char signature[AUTH_RSA_BITS_MIN / 8];
    size_t n = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert(EVP_DigestSignInit(context, NULL, digest, NULL, key) == 1);
    assert(EVP_DigestSign(context, signature, &n, (const unsigned char *)text.p, text.n) == 1);
    EVP_MD_CTX_free(context);
    buf_add_base64url(out, (struct str){(const char *)signature, n});
}

static void make_token(struct str what, struct str in, struct buf *token)
{
    struct str header = take_line(&in);
    struct buf signature = {0};
    buf_add_base64url(token, header);
    buf_add_byte(token, '.');
    buf_add_base64url(token, in);
    if (str_equal(what, STR("rs")))
        sign_key(rsa, EVP_sha256(), buf_str(token), &signature);
    else if (str_equal(what, STR("ed")))
        sign_key(ed25519, NULL, buf_str(token), &signature);
    else if (str_equal(what, STR("confused")))
        sign_hmac((struct str){keys.items[1].bytes, keys.items[1].bytes_n}, buf_str(token),
                  &signature);
    else
        sign_hmac(secret, buf_str(token), &signature);
    buf_add_byte(token, '.');
    buf_add_str(token, buf_str(&signature));
    buf_free(&signature);
}

static void check_claims(const struct auth_claims *claims)
{
    assert(claims->sub.p == NULL || core_id_valid(claims->sub));
    assert(claims->kid.n == 1);
    assert(claims->expires_s == 0 || claims->expires_s > NOW_S);
    assert(claims->sessions_n <= TOKEN_SESSIONS_MAX && claims->redact_n <= TOKEN_REDACT_MAX);
    for (unsigned i = 0; i < claims->sessions_n; i++)
        assert(token_pattern_valid(claims->sessions[i]));
    for (unsigned i = 0; i < claims->redact_n; i++)
        assert(token_pointer_valid(claims->redact[i]) &&
               claims->redact[i].n <= TOKEN_POINTER_BYTES);
    /* Each scope holds those below it. */
    assert((claims->scope & AUTH_ADMIN) == 0 || (claims->scope & AUTH_WRITE) != 0);
    assert((claims->scope & AUTH_WRITE) == 0 || (claims->scope & AUTH_READ) != 0);
}

static enum token_error verify(struct str token, struct str issuer, struct str audience)
{
    struct auth_claims claims;
    char *exact = exact_copy(token);
    enum token_error error =
        token_verify(&keys, issuer, audience, (struct str){exact, token.n}, NOW_S, &claims);
    if (error == TOKEN_OK) {
        check_claims(&claims);
        token_claims_free(&claims);
    } else {
        check_sentence(token_error_text(error), 500);
    }
    free(exact);
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size), what = take_line(&in), any = {0};
    struct buf token = {0};
    bool raw = str_equal(what, STR("raw"));

    if (keys.n == 0)
        prepare();
    if (raw)
        buf_add_str(&token, in);
    else
        make_token(what, in, &token);
    enum token_error error = verify(buf_str(&token), any, any);
    if (raw || str_equal(what, STR("confused")))
        assert(error != TOKEN_OK);
    verify(buf_str(&token), STR("issuer"), STR("audience"));
    if (error == TOKEN_OK) { /* and not with a byte that is another one */
        size_t at = (size_t)(buf_str(&token).n / 2);
        token.p[at] = token.p[at] == 'A' ? 'B' : 'A';
        assert(verify(buf_str(&token), any, any) != TOKEN_OK);
    }
    buf_free(&token);
    return 0;
}
