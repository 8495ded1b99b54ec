/*
 * auth_fixture: the keys of RFC 7515's appendix A and of RFC 8037's, which sign nothing but
 * examples, key files, and tokens put together by hand: so that a test can make what no library
 * would.
 */
#ifndef ATOLL_TESTS_UNIT_AUTH_FIXTURE_H
#define ATOLL_TESTS_UNIT_AUTH_FIXTURE_H

#include "scratch.h"
#include "server/auth/token.h"

#include <openssl/hmac.h>

/* clang-format off */
#define FIXTURE_RSA_PUBLIC \
    "-----BEGIN PUBLIC KEY-----\n" \
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj\n" \
    "NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz\n" \
    "P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo\n" \
    "9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB\n" \
    "EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX\n" \
    "FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp\n" \
    "oQIDAQAB\n" \
    "-----END PUBLIC KEY-----\n"
#define FIXTURE_EC_PUBLIC \
    "-----BEGIN PUBLIC KEY-----\n" \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n" \
    "6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n" \
    "-----END PUBLIC KEY-----\n"
#define FIXTURE_EC_PRIVATE \
    "-----BEGIN PRIVATE KEY-----\n" \
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjpsQnnGQmL+YBIff\n" \
    "H1136cspYG6+0iY7X1fCE9+E9LKhRANCAAR/zc4ncPbEXUGDy+5v20t7WAczNXvp\n" \
    "7xO6z248e9FURcfxRM0bvZt+hyzf7bnuufSzaV1uqQskrYpGIyiFiOWt\n" \
    "-----END PRIVATE KEY-----\n"
#define FIXTURE_ED_PUBLIC \
    "-----BEGIN PUBLIC KEY-----\n" \
    "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n" \
    "-----END PUBLIC KEY-----\n"
#define FIXTURE_ED_PRIVATE \
    "-----BEGIN PRIVATE KEY-----\n" \
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n" \
    "-----END PRIVATE KEY-----\n"
/* clang-format on */

#define FIXTURE_SECRET "0123456789abcdef0123456789abcdef"

/* A configuration that names key files alone. */
struct fixture_keys {
    struct scratch scratch;
    struct config config;
    char options[CONFIG_LIST_MAX][256];
    char *items[CONFIG_LIST_MAX];
    char error[CONFIG_ERROR_SIZE];
    struct auth_keys *keys;
};

static inline void fixture_open(struct fixture_keys *f)
{
    *f = (struct fixture_keys){0};
    scratch_make(&f->scratch, false);
    f->config.auth_keys.items = f->items;
}

/* Writes the file and names it, with `suffix` ("#alg=…") behind its path. */
static inline void fixture_add_bytes(struct fixture_keys *f, const char *name, const char *suffix,
                                     const void *bytes, size_t n)
{
    size_t i = f->config.auth_keys.count++;
    const char *path = scratch_file(&f->scratch, name);
    file_write(path, bytes, n);
    snprintf(f->options[i], sizeof(f->options[i]), "%s%s", path, suffix);
    f->items[i] = f->options[i];
}

static inline void fixture_add(struct fixture_keys *f, const char *name, const char *suffix,
                               const char *text)
{
    fixture_add_bytes(f, name, suffix, text, strlen(text));
}

/* 0 or -EINVAL. */
static inline int fixture_load(struct fixture_keys *f)
{
    auth_keys_release(f->keys);
    f->keys = NULL;
    f->error[0] = '\0';
    return auth_keys_load(&f->config, &f->keys, f->error, sizeof(f->error));
}

static inline void fixture_close(struct fixture_keys *f)
{
    auth_keys_release(f->keys);
    scratch_remove(&f->scratch);
}

static inline struct str fixture_text(const char *text)
{
    return (struct str){text, strlen(text)};
}

/* A terminated copy, to be freed. */
static inline char *fixture_copy(const char *p, size_t n)
{
    char *copy = mem_alloc(n + 1);
    memcpy(copy, p, n);
    copy[n] = '\0';
    return copy;
}

/* HEADER.PAYLOAD of two texts, whatever they are. */
static inline void fixture_begin_token(struct buf *out, struct str header, struct str payload)
{
    out->n = 0;
    buf_add_base64url(out, header);
    buf_add_byte(out, '.');
    buf_add_base64url(out, payload);
}

static inline void fixture_sign_hs256(struct buf *out, struct str secret)
{
    unsigned char mac[32];
    unsigned n = 0;
    HMAC(EVP_sha256(), secret.p, (int)secret.n, (const unsigned char *)out->p, out->n, mac, &n);
    assert(n == sizeof(mac));
    buf_add_byte(out, '.');
    buf_add_base64url(out, (struct str){(char *)mac, n});
}

#endif
