/*
 * token: a JSON Web Token (RFC 7519) to claims, or why not.
 *
 * Normal path: the header is read first: `kid` picks the key (without one every key is tried that
 * has the token's alg), `alg` must be the key's own; then libjwt checks the signature, and the
 * claims are read. Unknown claims are passed over; a known one of a wrong type spoils the token.
 * Time is the caller's: `now_s` since 1970.
 * Failure: one of enum token_error, for WWW-Authenticate and the audit log; nothing is left to
 * free.
 *
 * Thread: any; pure but for memory.
 */
#ifndef ATOLL_SERVER_AUTH_TOKEN_H
#define ATOLL_SERVER_AUTH_TOKEN_H

#include "server/auth/keys.h"

enum {
    TOKEN_BYTES_MAX = 8192,
    TOKEN_SESSIONS_MAX = 16, /* patterns of `sid` */
    TOKEN_REDACT_MAX = 64,   /* pointers of `redact` */
    TOKEN_POINTER_BYTES = 256,
};

enum token_error {
    TOKEN_OK,
    TOKEN_MALFORMED,   /* not a JWT, too long, or a claim that is not what it must be */
    TOKEN_UNKNOWN_KEY, /* no key has its kid, or its alg */
    TOKEN_BAD_SIGNATURE,
    TOKEN_EXPIRED,
    TOKEN_NOT_YET, /* nbf */
    TOKEN_WRONG_ISSUER,
    TOKEN_WRONG_AUDIENCE,
    TOKEN_ERRORS
};

enum auth_scope { AUTH_READ = 1, AUTH_WRITE = 2, AUTH_ADMIN = 4 }; /* each holds those below it */

struct auth_claims {
    struct arena arena;                      /* owns all strings */
    struct str sub;                          /* p == NULL: none. Else a good agent id */
    struct str kid;                          /* of the key that verified it */
    struct str id;                           /* `jti`; p == NULL: none */
    struct str sessions[TOKEN_SESSIONS_MAX]; /* an id, or a prefix (also "") and '*' */
    unsigned sessions_n;                     /* 0: none */
    unsigned scope;    /* bits of enum auth_scope, the implied ones included */
    int64_t expires_s; /* 0: never */
    struct str redact[TOKEN_REDACT_MAX];
    unsigned redact_n;
};

/* `issuer`, `audience`: those that it must have; n == 0: any. On TOKEN_OK the claims are the
 * caller's, for token_claims_free. */
enum token_error token_verify(const struct auth_keys *keys, struct str issuer, struct str audience,
                              struct str text, int64_t now_s, struct auth_claims *claims);
void token_claims_free(struct auth_claims *claims);
/* What claims may hold: an id or a prefix and '*'; a JSON Pointer (RFC 6901) not too long. */
bool token_pattern_valid(struct str pattern);
bool token_pointer_valid(struct str pointer);
/* The bits of one word of `scope`, with those that it implies; 0: none of ours. */
unsigned token_scope_bits(struct str word);
/* One sentence for the client. */
const char *token_error_text(enum token_error error);

#endif
