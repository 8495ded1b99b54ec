#include "server/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdlib.h>

enum {
    SEAL_VERSION = 1,
    SEAL_NONCE_BYTES = 12,
    SEAL_TAG_BYTES = 16,
    SEAL_HEAD_BYTES = 1 + SEAL_NONCE_BYTES,
    SEAL_LEAST_BYTES = SEAL_HEAD_BYTES + SEAL_TAG_BYTES,
};

/* ---- signing */

/* Its state has the key in it already: a mac begun anew from there takes a fifth of the time of one
 * from the key's bytes. */
struct sign_key {
    EVP_MAC_CTX *mac;
};

struct sign_key *sign_key_new(const uint8_t secret[SEAL_KEY_BYTES])
{
    struct sign_key *key = mem_alloc(sizeof(*key));
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", "SHA256", 0),
                           OSSL_PARAM_construct_end()};

    assert(hmac != NULL);
    key->mac = EVP_MAC_CTX_new(hmac);
    assert(key->mac != NULL);
    EVP_MAC_free(hmac);
    int good = EVP_MAC_init(key->mac, secret, SEAL_KEY_BYTES, params);
    assert(good == 1);
    return key;
}

void sign_key_free(struct sign_key *key)
{
    EVP_MAC_CTX_free(key->mac);
    free(key);
}

static void sign_mac(struct sign_key *key, struct str payload, uint8_t mac[SHA256_DIGEST_LENGTH])
{
    size_t n;
    int good = EVP_MAC_init(key->mac, NULL, 0, NULL) &&
               EVP_MAC_update(key->mac, (const uint8_t *)payload.p, payload.n) &&
               EVP_MAC_final(key->mac, mac, &n, SHA256_DIGEST_LENGTH);
    assert(good && n == SHA256_DIGEST_LENGTH);
}

void sign_text(struct sign_key *key, struct str payload, struct buf *out)
{
    uint8_t mac[SHA256_DIGEST_LENGTH];
    struct buf bytes = {0};

    sign_mac(key, payload, mac);
    buf_add_str(&bytes, payload);
    buf_add_fixed(&bytes, mac, SIGN_MAC_BYTES);
    buf_add_base64url(out, buf_str(&bytes));
    buf_free(&bytes);
}

struct str sign_payload(struct str text, struct arena *arena)
{
    struct str bytes = arena_base64url(arena, text);
    assert(bytes.p != NULL && bytes.n >= SIGN_MAC_BYTES);
    return (struct str){bytes.p, bytes.n - SIGN_MAC_BYTES};
}

struct str sign_check(struct sign_key *key, struct str text, struct arena *arena)
{
    uint8_t mac[SHA256_DIGEST_LENGTH];
    struct str bytes = arena_base64url(arena, text);

    if (bytes.p == NULL || bytes.n < SIGN_MAC_BYTES)
        return (struct str){0};
    struct str payload = {bytes.p, bytes.n - SIGN_MAC_BYTES};
    sign_mac(key, payload, mac);
    bool same = CRYPTO_memcmp(mac, payload.p + payload.n, SIGN_MAC_BYTES) == 0;
    return same ? payload : (struct str){0};
}

/* ---- sealing */

/* HMAC-SHA256 of `data` with `secret`. */
static void seal_mac(const uint8_t secret[SEAL_KEY_BYTES], struct str data,
                     uint8_t out[SHA256_DIGEST_LENGTH])
{
    unsigned n = 0;
    const uint8_t *done =
        HMAC(EVP_sha256(), secret, SEAL_KEY_BYTES, (const uint8_t *)data.p, data.n, out, &n);
    assert(done != NULL && n == SHA256_DIGEST_LENGTH);
}

void seal_key_init(struct seal_key *key, const uint8_t secret[SEAL_KEY_BYTES])
{
    seal_mac(secret, STR("cipher"), key->cipher);
    seal_mac(secret, STR("nonce"), key->nonce);
}

/* What a sealed text is for: no id holds a NUL, so that no two pairs are alike. */
static void seal_add_place(struct buf *out, struct str session, struct str agent)
{
    buf_add_str(out, session);
    buf_add_byte(out, '\0');
    buf_add_str(out, agent);
    buf_add_byte(out, '\0');
}

static void seal_make_nonce(const struct seal_key *key, struct str place, struct str secret,
                            uint8_t nonce[SEAL_NONCE_BYTES])
{
    uint8_t mac[SHA256_DIGEST_LENGTH];
    struct buf all = {0};

    buf_add_str(&all, place);
    buf_add_str(&all, secret);
    seal_mac(key->nonce, buf_str(&all), mac);
    memcpy(nonce, mac, SEAL_NONCE_BYTES);
    OPENSSL_cleanse(all.p, all.n);
    buf_free(&all);
}

/* Begins one way or the other (`encrypt`), with the associated data taken in. */
static EVP_CIPHER_CTX *seal_begin(const struct seal_key *key, const uint8_t *nonce,
                                  struct str place, bool encrypt)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;

    assert(ctx != NULL);
    int good = EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key->cipher, nonce, encrypt) &&
               EVP_CipherUpdate(ctx, NULL, &n, (const uint8_t *)place.p, (int)place.n);
    assert(good);
    return ctx;
}

void seal_secret(const struct seal_key *key, struct str session, struct str agent,
                 struct str secret, struct buf *out)
{
    struct buf place = {0}, bytes = {0};
    int n, rest;

    assert(secret.n != 0);
    seal_add_place(&place, session, agent);
    uint8_t *to = (uint8_t *)buf_reserve(&bytes, SEAL_LEAST_BYTES + secret.n);
    bytes.n = SEAL_LEAST_BYTES + secret.n;
    to[0] = SEAL_VERSION;
    seal_make_nonce(key, buf_str(&place), secret, to + 1);
    EVP_CIPHER_CTX *ctx = seal_begin(key, to + 1, buf_str(&place), true);
    uint8_t *body = to + SEAL_HEAD_BYTES;
    int good = EVP_CipherUpdate(ctx, body, &n, (const uint8_t *)secret.p, (int)secret.n) &&
               EVP_CipherFinal_ex(ctx, body + n, &rest) &&
               EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, body + secret.n);
    assert(good && (size_t)n == secret.n && rest == 0);
    EVP_CIPHER_CTX_free(ctx);
    buf_add_base64url(out, buf_str(&bytes));
    buf_free(&bytes);
    buf_free(&place);
}

struct str seal_open(const struct seal_key *key, struct str session, struct str agent,
                     struct str sealed, struct arena *arena)
{
    struct str bytes = arena_base64url(arena, sealed);
    struct buf place = {0};
    int n, rest;

    if (bytes.p == NULL || bytes.n <= SEAL_LEAST_BYTES || bytes.p[0] != SEAL_VERSION)
        return (struct str){0};
    seal_add_place(&place, session, agent);
    const uint8_t *from = (const uint8_t *)bytes.p;
    uint8_t tag[SEAL_TAG_BYTES];
    size_t secret_n = bytes.n - SEAL_LEAST_BYTES;
    uint8_t *secret = arena_alloc(arena, secret_n + 1);
    memcpy(tag, from + bytes.n - SEAL_TAG_BYTES, SEAL_TAG_BYTES);
    EVP_CIPHER_CTX *ctx = seal_begin(key, from + 1, buf_str(&place), false);
    int good = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_BYTES, tag) &&
               EVP_CipherUpdate(ctx, secret, &n, from + SEAL_HEAD_BYTES, (int)secret_n) &&
               EVP_CipherFinal_ex(ctx, secret + n, &rest);
    EVP_CIPHER_CTX_free(ctx);
    buf_free(&place);
    if (!good) {
        OPENSSL_cleanse(secret, secret_n);
        return (struct str){0};
    }
    return (struct str){(const char *)secret, secret_n};
}
