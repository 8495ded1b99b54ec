#include "server/cli_token.h"

#include "core/core.h"
#include "server/auth/keys_internal.h"
#include "server/auth/token.h"
#include "server/cli.h"
#include "server/config_options.h"
#include "server/json.h"

#include <jwt.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

enum {
    FAILED = 1,
    USAGE = 2,
    NAME_BYTES = 9, /* of `jti`: so much at random */
    VALUES_MAX = TOKEN_REDACT_MAX,
};

#define TTL "1h"
#define TTL_MAX_MS (UINT64_C(36500) * 24 * 3600 * 1000)

struct values {
    const char *items[VALUES_MAX];
    unsigned n;
};

struct arguments {
    const char *key, *sub, *ttl, *issuer, *audience, *name;
    struct values sids, scopes, redact;
};

static bool refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool refuse(const char *format, ...)
{
    va_list arguments;

    fputs("atoll: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return false;
}

/* ---- arguments */

static const struct {
    const char *name;
    size_t offset;
    bool many;
    const char *help;
} options[] = {
#define ONE(name, member, help)                                                                    \
    {                                                                                              \
        name, offsetof(struct arguments, member), false, help                                      \
    }
#define MANY(name, member, help)                                                                   \
    {                                                                                              \
        name, offsetof(struct arguments, member), true, help                                       \
    }
    ONE("--key", key,
        "FILE[#alg=NAME][#kid=NAME]\n      secret or private PEM key, as for --auth-key of serve"),
    ONE("--sub", sub, "AGENT\n      the agent that speaks; default: none, as for watchers"),
    MANY("--sid", sids,
         "SESSION\n      its id, or prefix*, or * for all; repeatable, or with commas"),
    MANY("--scope", scopes,
         "SCOPE\n      read, write or admin, each with those before it; also with commas"),
    ONE("--ttl", ttl, "DURATION\n      how long it is good, such as 30min or 7d; default: " TTL),
    MANY("--redact", redact,
         "POINTER\n      JSON Pointer into the state, hidden from this viewer; repeatable"),
    ONE("--issuer", issuer, "TEXT\n      `iss`, where the server has --auth-issuer"),
    ONE("--audience", audience, "TEXT\n      `aud`, where the server has --auth-audience"),
    ONE("--id", name, "TEXT\n      `jti`, told in the audit log; default: one at random"),
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

void cli_token_help(void)
{
    for (unsigned i = 0; i < OPTIONS; i++)
        printf("\n  %s %s\n", options[i].name, options[i].help);
}

static bool take_value(struct arguments *out, unsigned option, const char *value)
{
    void *place = (char *)out + options[option].offset;
    const char **one = place;
    struct values *many = place;

    if (value[0] == '\0' || !json_utf8_valid((struct str){value, strlen(value)}))
        return refuse("%s: the value is empty, or not UTF-8", options[option].name);
    if (options[option].many) {
        if (many->n == VALUES_MAX)
            return refuse("%s: given more than %d times", options[option].name, VALUES_MAX);
        many->items[many->n++] = value;
        return true;
    }
    if (*one != NULL)
        return refuse("%s: given twice", options[option].name);
    *one = value;
    return true;
}

static bool take_argument(struct arguments *out, int argc, char **argv, int *i)
{
    for (unsigned option = 0; option < OPTIONS; option++) {
        const char *value = cli_take_option(argc, argv, i, options[option].name);
        if (value != NULL)
            return take_value(out, option, value);
    }
    return refuse("\"%s\" is not an argument of this command, or lacks its value; atoll help token "
                  "lists them",
                  argv[*i]);
}

static bool read_arguments(int argc, char **argv, struct arguments *out)
{
    *out = (struct arguments){0};
    for (int i = 0; i < argc; i++)
        if (!take_argument(out, argc, argv, &i))
            return false;
    if (out->key == NULL)
        return refuse("--key FILE is missing: what the token is signed with");
    if (out->sids.n == 0)
        return refuse("--sid SESSION is missing: the sessions that the token allows (* for all)");
    if (out->scopes.n == 0)
        return refuse("--scope SCOPE is missing: read, write or admin");
    return true;
}

/* ---- claims */

/* Steps through the words of one value, between commas and spaces. */
static bool next_word(const char **rest, struct str *word)
{
    *rest += strspn(*rest, ", ");
    *word = (struct str){*rest, strcspn(*rest, ", ")};
    *rest += word->n;
    return word->n != 0;
}

static bool add_sids(struct buf *out, const struct values *values)
{
    unsigned n = 0;
    struct str word;

    buf_add_literal(out, ",\"sid\":[");
    for (unsigned i = 0; i < values->n; i++)
        for (const char *rest = values->items[i]; next_word(&rest, &word); n++) {
            if (!token_pattern_valid(word))
                return refuse("--sid: \"%.*s\" is not allowed; must be an id (" CORE_ID_RULE
                              "), the beginning of one and *, or *",
                              (int)word.n, word.p);
            if (n != 0)
                buf_add_byte(out, ',');
            json_add_string(out, word);
        }
    buf_add_byte(out, ']');
    if (n == 0 || n > TOKEN_SESSIONS_MAX)
        return refuse("--sid: %u sessions; must be 1 to %d", n, TOKEN_SESSIONS_MAX);
    return true;
}

static bool add_scopes(struct buf *out, const struct values *values)
{
    const char *space = "";
    struct str word;

    buf_add_literal(out, ",\"scope\":\"");
    for (unsigned i = 0; i < values->n; i++)
        for (const char *rest = values->items[i]; next_word(&rest, &word);) {
            if (token_scope_bits(word) == 0)
                return refuse("--scope: \"%.*s\" is not allowed; must be read, write or admin",
                              (int)word.n, word.p);
            buf_add(out, space, strlen(space));
            buf_add_str(out, word);
            space = " ";
        }
    buf_add_byte(out, '"');
    return space[0] != '\0' ? true : refuse("--scope: must be read, write or admin");
}

static bool add_redact(struct buf *out, const struct values *values)
{
    if (values->n == 0)
        return true;
    buf_add_literal(out, ",\"redact\":");
    for (unsigned i = 0; i < values->n; i++) {
        struct str pointer = {values->items[i], strlen(values->items[i])};
        if (!token_pointer_valid(pointer))
            return refuse("--redact: \"%s\" is not allowed; must be a JSON Pointer such as "
                          "/agents/*/note, of at most %d bytes",
                          values->items[i], TOKEN_POINTER_BYTES);
        buf_add_byte(out, i == 0 ? '[' : ',');
        json_add_string(out, pointer);
    }
    buf_add_byte(out, ']');
    return true;
}

static void add_text(struct buf *out, const char *name, const char *value)
{
    if (value == NULL)
        return;
    buf_add_byte(out, ',');
    json_add_string(out, (struct str){name, strlen(name)});
    buf_add_byte(out, ':');
    json_add_string(out, (struct str){value, strlen(value)});
}

static void add_name(struct buf *out, const char *given)
{
    uint8_t random[NAME_BYTES];

    if (given == NULL) {
        ssize_t n = getrandom(random, sizeof(random), 0);
        assert(n == sizeof(random)); /* so few bytes are never cut short */
        buf_add_literal(out, ",\"jti\":\"");
        buf_add_base64url(out, (struct str){(char *)random, sizeof(random)});
        buf_add_byte(out, '"');
    }
    add_text(out, "jti", given);
}

static bool add_times(struct buf *out, const char *ttl)
{
    int64_t now_s = time(NULL);
    uint64_t ttl_ms;

    if (config_parse_duration(ttl != NULL ? ttl : TTL, &ttl_ms) != 0 || ttl_ms < 1000 ||
        ttl_ms > TTL_MAX_MS)
        return refuse(
            "--ttl: \"%s\" is not allowed; must be a duration from 1s to 36500d (with ms, "
            "s, min, h, d)",
            ttl);
    buf_add_literal(out, "{\"iat\":");
    buf_add_i64(out, now_s);
    buf_add_literal(out, ",\"exp\":");
    buf_add_i64(out, now_s + (int64_t)(ttl_ms / 1000));
    return true;
}

/* The payload, terminated. */
static bool make_claims(const struct arguments *arguments, struct buf *out)
{
    const char *sub = arguments->sub;

    if (sub != NULL && !core_id_valid((struct str){sub, strlen(sub)}))
        return refuse("--sub: \"%s\" is not allowed; must be an agent's id: " CORE_ID_RULE, sub);
    if (!add_times(out, arguments->ttl) || !add_sids(out, &arguments->sids) ||
        !add_scopes(out, &arguments->scopes) || !add_redact(out, &arguments->redact))
        return false;
    add_text(out, "sub", sub);
    add_text(out, "iss", arguments->issuer);
    add_text(out, "aud", arguments->audience);
    add_name(out, arguments->name);
    buf_add(out, "}", 2);
    out->n--;
    return true;
}

/* ---- signing */

static void sign_by_libjwt(const struct auth_key *key, const struct buf *claims, struct buf *out)
{
    static const jwt_alg_t algs[] = {
        [AUTH_HS256] = JWT_ALG_HS256, [AUTH_HS384] = JWT_ALG_HS384, [AUTH_HS512] = JWT_ALG_HS512,
        [AUTH_RS256] = JWT_ALG_RS256, [AUTH_ES256] = JWT_ALG_ES256,
    };
    jwt_t *jwt = NULL;
    int failed =
        jwt_new(&jwt) || jwt_add_grants_json(jwt, claims->p) ||
        jwt_add_header(jwt, "kid", key->kid) ||
        jwt_set_alg(jwt, algs[key->alg], (const unsigned char *)key->bytes, (int)key->bytes_n);
    char *text = failed == 0 ? jwt_encode_str(jwt) : NULL;
    assert(text != NULL); /* key and claims have been looked at */
    buf_add(out, text, strlen(text));
    free(text);
    jwt_free(jwt);
}

static void sign_by_ed25519(const struct auth_key *key, const struct buf *claims, struct buf *out)
{
    struct buf header = {0};
    unsigned char signature[AUTH_ED25519_SIGNATURE_BYTES];
    size_t n = sizeof(signature);

    buf_add_literal(&header, "{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":");
    json_add_string(&header, (struct str){key->kid, strlen(key->kid)});
    buf_add_byte(&header, '}');
    buf_add_base64url(out, buf_str(&header));
    buf_free(&header);
    buf_add_byte(out, '.');
    buf_add_base64url(out, buf_str(claims));
    EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
                                                  (const unsigned char *)key->bytes, key->bytes_n);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert(pkey != NULL && ctx != NULL);
    bool good = EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                EVP_DigestSign(ctx, signature, &n, (const unsigned char *)out->p, out->n) == 1;
    assert(good && n == sizeof(signature));
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    buf_add_byte(out, '.');
    buf_add_base64url(out, (struct str){(char *)signature, n});
}

static int print_token(const struct auth_key *key, const struct buf *claims)
{
    struct buf out = {0};
    int status = 0;

    if (key->alg == AUTH_EDDSA)
        sign_by_ed25519(key, claims, &out);
    else
        sign_by_libjwt(key, claims, &out);
    if (out.n > TOKEN_BYTES_MAX) {
        refuse("the token would have %zu bytes; must be at most %d", out.n, TOKEN_BYTES_MAX);
        status = USAGE;
    } else if (printf("%.*s\n", (int)out.n, out.p) < 0 || fflush(stdout) != 0) {
        refuse("the token cannot be written to standard output");
        status = FAILED;
    }
    explicit_bzero(out.p, out.n);
    buf_free(&out);
    return status;
}

int cli_token(int argc, char **argv)
{
    struct arguments arguments;
    struct auth_key key;
    struct buf claims = {0};
    char error[CONFIG_ERROR_SIZE];
    int status = USAGE;

    if (!read_arguments(argc, argv, &arguments) || !make_claims(&arguments, &claims)) {
        buf_free(&claims);
        return USAGE;
    }
    if (auth_key_read(arguments.key, true, &key, error, sizeof(error)) != 0) {
        refuse("--key: %s", error);
    } else {
        status = print_token(&key, &claims);
        auth_key_clear(&key);
    }
    buf_free(&claims);
    return status;
}
