/*
 * token: what libjwt 1.10 leaves open is closed before it sees a token. It takes keys twice in an
 * object, base64 in many spellings and the algorithm that the token names; here header and payload
 * are first read by our own strict reader, and `alg` and `kid` choose a key whose algorithm is
 * fixed. So libjwt is only asked whether the signature over these bytes is that key's. EdDSA, which
 * it does not know, is OpenSSL's.
 */
#include "server/auth/token.h"

#include "core/core.h"
#include "server/auth/keys_internal.h"
#include "server/json.h"

#include <jwt.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <strings.h>

enum { CLAIMS_BLOCK_BYTES = 256 };

/* Of the year 9999: a time behind it is never. */
#define LAST_SECOND INT64_C(253402300799)

/* A token being read; all strings lie in `scratch`. */
struct reading {
    struct arena scratch;
    struct json_parser *parser;
    const struct auth_keys *keys;
    struct auth_claims *claims;
    struct str text;        /* terminated */
    struct str signed_part; /* of it: header and payload */
    struct str signature;   /* bytes */
    const struct json_value *payload;
    const struct auth_key *key;
    enum auth_alg alg;
    struct str kid; /* p == NULL: none */
};

/* ---- JSON */

/* The member of an object; NULL: it has none. */
static const struct json_value *member(const struct json_value *object, struct str name)
{
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++) {
        const struct json_value *value = json_next(key);
        if (str_equal(json_str(key), name))
            return value;
        key = json_next(value);
    }
    return NULL;
}

static const struct json_value *read_object(struct reading *r, struct str text)
{
    struct str bytes = arena_base64url(&r->scratch, text);
    const struct json_value *root;
    struct json_error error;

    if (bytes.p == NULL || bytes.n == 0 ||
        json_parse(r->parser, &r->scratch, bytes, &root, &error) != 0)
        return NULL;
    return root->type == JSON_OBJECT ? root : NULL;
}

/* A member that must be a string where there is one. */
static bool read_string(const struct json_value *object, struct str name, struct str *out)
{
    const struct json_value *value = member(object, name);
    if (value != NULL && value->type == JSON_STRING)
        *out = json_str(value);
    return value == NULL || value->type == JSON_STRING;
}

/* A time in whole seconds; a fraction counts as the second behind it (`up`) or before it. *out
 * stays where there is none. */
static bool read_time(const struct json_value *object, struct str name, bool up, int64_t *out)
{
    const struct json_value *value = member(object, name);
    if (value == NULL)
        return true;
    if (value->type != JSON_NUMBER)
        return false;
    double seconds = value->as.number;
    if (seconds >= (double)LAST_SECOND || seconds <= -(double)LAST_SECOND) {
        *out = seconds > 0 ? LAST_SECOND : -LAST_SECOND;
        return true;
    }
    *out = (int64_t)seconds;
    if (up)
        *out += (double)*out < seconds;
    else
        *out -= (double)*out > seconds;
    return true;
}

/* ---- the three parts */

/* Cuts off what stands before the next dot; false: there is none. */
static bool cut(struct str *rest, struct str *part)
{
    const char *dot = rest->n != 0 ? memchr(rest->p, '.', rest->n) : NULL;
    if (dot == NULL)
        return false;
    *part = (struct str){rest->p, (size_t)(dot - rest->p)};
    *rest = (struct str){dot + 1, rest->n - part->n - 1};
    return true;
}

/* `crit` names what a reader must know: we know none. libjwt takes no other `typ`. */
static bool read_header(struct reading *r, struct str text)
{
    const struct json_value *header = read_object(r, text);
    struct str alg = {0}, typ = STR("JWT");

    if (header == NULL || !read_string(header, STR("alg"), &alg) || alg.p == NULL ||
        !read_string(header, STR("kid"), &r->kid) || !read_string(header, STR("typ"), &typ) ||
        member(header, STR("crit")) != NULL || typ.n != 3 || strncasecmp(typ.p, "JWT", 3) != 0)
        return false;
    r->alg = auth_alg_find(alg);
    return true;
}

static bool read_parts(struct reading *r)
{
    struct str rest = r->text, header, payload;

    if (!cut(&rest, &header) || !cut(&rest, &payload) || rest.n == 0)
        return false;
    r->signed_part = (struct str){r->text.p, header.n + 1 + payload.n};
    r->signature = arena_base64url(&r->scratch, rest); /* a second dot is no base64 */
    if (r->signature.p == NULL || !read_header(r, header))
        return false;
    r->payload = read_object(r, payload);
    return r->payload != NULL;
}

/* ---- the signature */

static bool verify_ed25519(const struct reading *r, const struct auth_key *key)
{
    if (r->signature.n != AUTH_ED25519_SIGNATURE_BYTES)
        return false;
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
                                                 (const unsigned char *)key->bytes, key->bytes_n);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert(pkey != NULL && ctx != NULL);
    bool good = EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                EVP_DigestVerify(ctx, (const unsigned char *)r->signature.p, r->signature.n,
                                 (const unsigned char *)r->signed_part.p, r->signed_part.n) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return good;
}

static bool verify_by_libjwt(const struct reading *r, const struct auth_key *key)
{
    jwt_t *jwt = NULL;
    bool good =
        jwt_decode(&jwt, r->text.p, (const unsigned char *)key->bytes, (int)key->bytes_n) == 0;
    /* The algorithm is ours, and libjwt must have read the same. */
    if (good)
        good = strcmp(jwt_alg_str(jwt_get_alg(jwt)), auth_alg_names[key->alg]) == 0;
    jwt_free(jwt);
    return good;
}

static enum token_error verify_signature(struct reading *r)
{
    bool tried = false;

    for (unsigned i = 0; i < r->keys->n; i++) {
        const struct auth_key *key = &r->keys->items[i];
        if (key->alg != r->alg ||
            (r->kid.p != NULL && !str_equal(r->kid, (struct str){key->kid, strlen(key->kid)})))
            continue;
        tried = true;
        if (key->alg == AUTH_EDDSA ? verify_ed25519(r, key) : verify_by_libjwt(r, key)) {
            r->key = key;
            return TOKEN_OK;
        }
    }
    ERR_clear_error(); /* of the signatures that were none: the thread's queue is h2o's too */
    return tried ? TOKEN_BAD_SIGNATURE : TOKEN_UNKNOWN_KEY;
}

/* ---- claims */

static bool read_time_claims(struct reading *r, int64_t now_s, enum token_error *error)
{
    int64_t expires_s = INT64_MAX, not_before_s = INT64_MIN;

    if (!read_time(r->payload, STR("exp"), false, &expires_s) ||
        !read_time(r->payload, STR("nbf"), true, &not_before_s))
        return false;
    if (now_s >= expires_s)
        *error = TOKEN_EXPIRED;
    else if (now_s < not_before_s)
        *error = TOKEN_NOT_YET;
    r->claims->expires_s = expires_s < LAST_SECOND ? expires_s : 0;
    return true;
}

/* Whether `value`, a string or an array of strings, holds `wanted`; *good: it is one of the two. */
static bool holds(const struct json_value *value, struct str wanted, bool *good)
{
    bool found = false;

    if (value->type == JSON_STRING)
        return str_equal(json_str(value), wanted);
    *good = value->type == JSON_ARRAY;
    const struct json_value *item = json_first(value);
    for (uint32_t i = 0; *good && i < value->size; i++, item = json_next(item)) {
        *good = item->type == JSON_STRING;
        found = found || (*good && str_equal(json_str(item), wanted));
    }
    return found;
}

static bool read_parties(struct reading *r, struct str issuer, struct str audience,
                         enum token_error *error)
{
    const struct json_value *aud = member(r->payload, STR("aud"));
    struct str iss = {0};
    bool good = read_string(r->payload, STR("iss"), &iss);
    bool ours = aud != NULL && holds(aud, audience, &good);

    if (issuer.n != 0 && (iss.p == NULL || !str_equal(iss, issuer)))
        *error = TOKEN_WRONG_ISSUER;
    else if (audience.n != 0 && !ours)
        *error = TOKEN_WRONG_AUDIENCE;
    return good;
}

static bool read_subject(struct reading *r)
{
    struct auth_claims *claims = r->claims;
    struct str sub = {0}, id = {0};

    if (!read_string(r->payload, STR("sub"), &sub) || !read_string(r->payload, STR("jti"), &id) ||
        (sub.p != NULL && !core_id_valid(sub)))
        return false;
    claims->sub = arena_copy(&claims->arena, sub);
    claims->id = arena_copy(&claims->arena, id);
    claims->kid = arena_copy(&claims->arena, (struct str){r->key->kid, strlen(r->key->kid)});
    return true;
}

bool token_pattern_valid(struct str pattern)
{
    bool prefix = pattern.n != 0 && pattern.p[pattern.n - 1] == '*';
    pattern.n -= prefix;
    /* What begins an id is one. */
    return prefix && pattern.n == 0 ? true : core_id_valid(pattern);
}

bool token_pointer_valid(struct str pointer)
{
    if (pointer.n > TOKEN_POINTER_BYTES || (pointer.n != 0 && pointer.p[0] != '/'))
        return false;
    for (size_t i = 0; i < pointer.n; i++)
        if (pointer.p[i] == '~' &&
            (i + 1 == pointer.n || (pointer.p[i + 1] != '0' && pointer.p[i + 1] != '1')))
            return false;
    return true;
}

/* The strings of an array, or (`single`) a string as the only one. */
static bool read_strings(struct reading *r, struct str name, bool single, bool (*valid)(struct str),
                         struct str *out, unsigned max, unsigned *n)
{
    const struct json_value *value = member(r->payload, name);

    if (value == NULL)
        return true;
    bool array = value->type == JSON_ARRAY;
    if (array ? value->size > max : !single || value->type != JSON_STRING)
        return false;
    uint32_t count = array ? value->size : 1;
    const struct json_value *item = array ? json_first(value) : value;
    for (uint32_t i = 0; i < count; i++, item = json_next(item)) {
        if (item->type != JSON_STRING || !valid(json_str(item)))
            return false;
        out[(*n)++] = arena_copy(&r->claims->arena, json_str(item));
    }
    return true;
}

unsigned token_scope_bits(struct str word)
{
    if (str_equal(word, STR("read")))
        return AUTH_READ;
    if (str_equal(word, STR("write")))
        return AUTH_WRITE | AUTH_READ;
    return str_equal(word, STR("admin")) ? AUTH_ADMIN | AUTH_WRITE | AUTH_READ : 0;
}

/* Words between spaces; those that are not ours may mean something elsewhere. */
static bool read_scope(struct reading *r)
{
    struct str scope = {0};

    if (!read_string(r->payload, STR("scope"), &scope))
        return false;
    while (scope.n != 0) {
        const char *space = memchr(scope.p, ' ', scope.n);
        size_t n = space != NULL ? (size_t)(space - scope.p) : scope.n;
        r->claims->scope |= token_scope_bits((struct str){scope.p, n});
        scope = (struct str){scope.p + n + (space != NULL), scope.n - n - (space != NULL)};
    }
    return true;
}

static enum token_error read_claims(struct reading *r, struct str issuer, struct str audience,
                                    int64_t now_s)
{
    struct auth_claims *claims = r->claims;
    enum token_error error = TOKEN_OK;

    if (!read_parties(r, issuer, audience, &error) || !read_time_claims(r, now_s, &error) ||
        !read_subject(r) || !read_scope(r) ||
        !read_strings(r, STR("sid"), true, token_pattern_valid, claims->sessions,
                      TOKEN_SESSIONS_MAX, &claims->sessions_n) ||
        !read_strings(r, STR("redact"), false, token_pointer_valid, claims->redact,
                      TOKEN_REDACT_MAX, &claims->redact_n))
        return TOKEN_MALFORMED;
    return error;
}

/* ---- the whole */

enum token_error token_verify(const struct auth_keys *keys, struct str issuer, struct str audience,
                              struct str text, int64_t now_s, struct auth_claims *claims)
{
    struct reading r = {.keys = keys, .claims = claims};

    *claims = (struct auth_claims){.arena.block_bytes = CLAIMS_BLOCK_BYTES};
    if (text.n > TOKEN_BYTES_MAX)
        return TOKEN_MALFORMED;
    char *copy = arena_alloc(&r.scratch, text.n + 1);
    memcpy(copy, text.n != 0 ? text.p : "", text.n);
    copy[text.n] = '\0';
    r.text = (struct str){copy, text.n};
    r.parser = json_parser_new(1, keys->seed);
    json_parser_round(r.parser, true); /* claims of others are their business */
    enum token_error error = read_parts(&r) ? verify_signature(&r) : TOKEN_MALFORMED;
    if (error == TOKEN_OK)
        error = read_claims(&r, issuer, audience, now_s);
    json_parser_free(r.parser);
    arena_free(&r.scratch);
    if (error != TOKEN_OK)
        token_claims_free(claims);
    return error;
}

void token_claims_free(struct auth_claims *claims)
{
    arena_free(&claims->arena);
    *claims = (struct auth_claims){0};
}

const char *token_error_text(enum token_error error)
{
    static const char *const texts[] = {
        [TOKEN_OK] = "The token is good.",
        [TOKEN_MALFORMED] = "The token is not a JWT, or one of its claims is not what it must be.",
        [TOKEN_UNKNOWN_KEY] = "No key here has the token's kid and alg.",
        [TOKEN_BAD_SIGNATURE] = "The token's signature is not good.",
        [TOKEN_EXPIRED] = "The token has expired.",
        [TOKEN_NOT_YET] = "The token is not valid yet.",
        [TOKEN_WRONG_ISSUER] = "The token's issuer is not the one trusted here.",
        [TOKEN_WRONG_AUDIENCE] = "The token is meant for another audience.",
    };
    return texts[error];
}
