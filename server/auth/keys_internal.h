/*
 * keys_internal: what a key is, for those who verify or sign with one: token.c, cli_token.c.
 *
 * libjwt 1.10 knows no EdDSA. Such a key is 32 raw bytes for OpenSSL; all others are what libjwt
 * takes: the secret itself, or PEM text.
 */
#ifndef ATOLL_SERVER_AUTH_KEYS_INTERNAL_H
#define ATOLL_SERVER_AUTH_KEYS_INTERNAL_H

#include "server/auth/keys.h"

#include <stdatomic.h>

enum {
    AUTH_FILE_BYTES_MAX = 64 * 1024,
    AUTH_KID_BYTES_MAX = 128,
    AUTH_RSA_BITS_MIN = 2048,
    AUTH_ED25519_BYTES = 32,
    AUTH_ED25519_SIGNATURE_BYTES = 64,
};

/* The order is that of auth_alg_names. */
enum auth_alg {
    AUTH_HS256,
    AUTH_HS384,
    AUTH_HS512,
    AUTH_RS256,
    AUTH_ES256,
    AUTH_EDDSA,
    AUTH_ALG_COUNT
};

extern const char *const auth_alg_names[AUTH_ALG_COUNT];
#define AUTH_ALGS "HS256, HS384, HS512, RS256, ES256 or EdDSA"

/* By its exact name, as JWTs have it; AUTH_ALG_COUNT: none of ours ("none" too). */
enum auth_alg auth_alg_find(struct str name);

struct auth_key {
    enum auth_alg alg;
    bool signs;  /* so can `bytes`; a secret always */
    char *kid;   /* terminated */
    char *bytes; /* secret, PEM text, or raw Ed25519 key; one NUL follows, not counted */
    size_t bytes_n;
};

/* Immutable once loaded. */
struct auth_keys {
    atomic_uint references;
    uint64_t seed; /* of the readers of tokens: no client knows it */
    unsigned n;
    struct auth_key items[CONFIG_LIST_MAX];
};

/*
 * Reads one key, of PATH[#alg=NAME][#kid=NAME]. `signs` asks for one that can; else of a private
 * PEM key only the public part is kept. 0, and auth_key_clear wipes it; or -EINVAL with the
 * sentence behind the option's name.
 */
int auth_key_read(const char *option, bool signs, struct auth_key *key, char *error,
                  size_t error_size);
void auth_key_clear(struct auth_key *key);

#endif
