#include "server/auth/keys_internal.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const auth_alg_names[AUTH_ALG_COUNT] = {
    [AUTH_HS256] = "HS256", [AUTH_HS384] = "HS384", [AUTH_HS512] = "HS512",
    [AUTH_RS256] = "RS256", [AUTH_ES256] = "ES256", [AUTH_EDDSA] = "EdDSA",
};

/* A key being read, and where its sentence goes if it is none. */
struct reading {
    struct auth_key *key;
    char path[CONFIG_STRING_MAX + 1];
    bool alg_given, signs_wanted;
    char text[AUTH_FILE_BYTES_MAX + 1];
    size_t text_n;
    char *error;
    size_t error_size;
};

static int fail(struct reading *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(struct reading *r, const char *format, ...)
{
    va_list arguments;
    int n = snprintf(r->error, r->error_size, "\"%s\" ", r->path);

    va_start(arguments, format);
    if (n >= 0 && (size_t)n < r->error_size)
        vsnprintf(r->error + n, r->error_size - (size_t)n, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

enum auth_alg auth_alg_find(struct str name)
{
    for (unsigned alg = 0; alg < AUTH_ALG_COUNT; alg++)
        if (name.n == strlen(auth_alg_names[alg]) &&
            memcmp(name.p, auth_alg_names[alg], name.n) == 0)
            return alg;
    return AUTH_ALG_COUNT;
}

/* ---- PATH[#alg=NAME][#kid=NAME] */

/* Printable, and needs no escape in JSON. */
static bool kid_allowed(const char *kid)
{
    size_t n = strlen(kid);
    for (size_t i = 0; i < n; i++)
        if (kid[i] <= ' ' || kid[i] > '~' || kid[i] == '"' || kid[i] == '\\')
            return false;
    return n != 0 && n <= AUTH_KID_BYTES_MAX;
}

/* The file's name without directory and last extension. */
static char *kid_of_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *kid = strdup(slash != NULL ? slash + 1 : path);
    assert(kid != NULL);
    char *dot = strrchr(kid, '.');
    if (dot != NULL && dot != kid)
        *dot = '\0';
    return kid;
}

static int take_alg(struct reading *r, const char *name)
{
    r->key->alg = auth_alg_find((struct str){name, strlen(name)});
    r->alg_given = true;
    if (r->key->alg == AUTH_ALG_COUNT)
        return fail(r, "has #alg=%.16s; must be " AUTH_ALGS, name);
    return 0;
}

static int take_kid(struct reading *r, const char *name)
{
    if (!kid_allowed(name))
        return fail(r,
                    "has a #kid= that is not allowed; must be 1 to %d printable characters "
                    "without space, \" and \\",
                    AUTH_KID_BYTES_MAX);
    free(r->key->kid);
    r->key->kid = strdup(name);
    assert(r->key->kid != NULL);
    return 0;
}

size_t auth_key_path_bytes(const char *option)
{
    size_t n = strlen(option);
    const char *hash;

    while ((hash = memrchr(option, '#', n)) != NULL &&
           (strncmp(hash, "#alg=", 5) == 0 || strncmp(hash, "#kid=", 5) == 0))
        n = (size_t)(hash - option);
    return n;
}

/* What is behind the last '#' is taken off as long as it is one of the two. */
static int read_option(struct reading *r, const char *option)
{
    int rc = 0;
    char *hash;

    snprintf(r->path, sizeof(r->path), "%s", option);
    while (rc == 0 && (hash = strrchr(r->path, '#')) != NULL) {
        bool alg = strncmp(hash, "#alg=", 5) == 0;
        if (!alg && strncmp(hash, "#kid=", 5) != 0)
            break;
        *hash = '\0';
        rc = alg ? take_alg(r, hash + 5) : take_kid(r, hash + 5);
    }
    if (rc != 0 || r->key->kid != NULL)
        return rc;
    r->key->kid = kid_of_path(r->path);
    if (!kid_allowed(r->key->kid))
        return fail(r, "has a file name that cannot be a key's name; give it one by #kid=NAME");
    return 0;
}

/* ---- files */

static int read_all(struct reading *r, int fd)
{
    for (;;) {
        ssize_t n = read(fd, r->text + r->text_n, sizeof(r->text) - r->text_n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(r, "cannot be read: %s", strerror(errno));
        if (n == 0)
            break;
        r->text_n += (size_t)n;
        if (r->text_n > AUTH_FILE_BYTES_MAX)
            return fail(r, "is larger than the %d KiB that a key may have",
                        AUTH_FILE_BYTES_MAX / 1024);
    }
    return r->text_n == 0 ? fail(r, "is empty") : 0;
}

static int read_file(struct reading *r)
{
    struct stat about;
    /* O_NONBLOCK: a pipe without a writer must not hold up the server. */
    int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail(r, "cannot be opened: %s", strerror(errno));
    int rc = fstat(fd, &about) == 0 && S_ISREG(about.st_mode) ? read_all(r, fd)
                                                              : fail(r, "is not a regular file");
    close(fd);
    return rc;
}

static void keep(struct reading *r, const char *bytes, size_t n)
{
    r->key->bytes = mem_alloc(n + 1);
    memcpy(r->key->bytes, bytes, n);
    r->key->bytes[n] = '\0';
    r->key->bytes_n = n;
}

/* ---- secrets */

static int take_secret(struct reading *r)
{
    size_t n = r->text_n - (r->text[r->text_n - 1] == '\n');

    if (!r->alg_given)
        r->key->alg = AUTH_HS256;
    if (r->key->alg > AUTH_HS512)
        return fail(r, "holds no PEM key, which %s needs", auth_alg_names[r->key->alg]);
    if (n < AUTH_SECRET_MIN_BYTES)
        return fail(r, "holds a secret of %zu bytes; must be at least %d, without a final newline",
                    n, AUTH_SECRET_MIN_BYTES);
    keep(r, r->text, n);
    r->key->signs = true;
    return 0;
}

/* ---- PEM */

/* Without this OpenSSL would ask for a pass phrase on the terminal. */
static int no_passphrase(char *out, int size, int writing, void *ctx)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

static unsigned count_pem_keys(const struct reading *r)
{
    static const char begin[] = "-----BEGIN ";
    unsigned keys = 0;
    const char *end = r->text + r->text_n;
    const char *p = r->text;

    while ((p = memmem(p, (size_t)(end - p), begin, sizeof(begin) - 1)) != NULL) {
        p += sizeof(begin) - 1;
        size_t line = strcspn(p, "\n");
        keys += memmem(p, line, "KEY-----", 8) != NULL;
    }
    return keys;
}

static EVP_PKEY *parse_pem(struct reading *r)
{
    BIO *bio = BIO_new_mem_buf(r->text, (int)r->text_n);
    assert(bio != NULL);
    EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    r->key->signs = pkey != NULL;
    if (pkey == NULL) {
        (void)BIO_reset(bio);
        pkey = PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
    }
    BIO_free(bio);
    ERR_clear_error(); /* of the attempts that failed: the thread's queue is h2o's too */
    return pkey;
}

/* The algorithm of the key itself; what makes it unfit is told. */
static int find_alg(struct reading *r, const EVP_PKEY *pkey, enum auth_alg *alg)
{
    char curve[32] = "of an unnamed curve";
    size_t n;

    if (EVP_PKEY_is_a(pkey, "RSA")) {
        *alg = AUTH_RS256;
        if (EVP_PKEY_get_bits(pkey) < AUTH_RSA_BITS_MIN)
            return fail(r, "holds an RSA key of %d bits; must be at least %d",
                        EVP_PKEY_get_bits(pkey), AUTH_RSA_BITS_MIN);
    } else if (EVP_PKEY_is_a(pkey, "EC")) {
        *alg = AUTH_ES256;
        (void)EVP_PKEY_get_group_name(pkey, curve, sizeof(curve), &n);
        if (strcmp(curve, "prime256v1") != 0)
            return fail(r, "holds an EC key %s; ES256 needs P-256 (prime256v1)", curve);
    } else if (EVP_PKEY_is_a(pkey, "ED25519")) {
        *alg = AUTH_EDDSA;
    } else {
        return fail(r, "holds a %s key; must be RSA, EC P-256 or Ed25519",
                    EVP_PKEY_get0_type_name(pkey));
    }
    return 0;
}

/* The public part as PEM, for libjwt. */
static void keep_public(struct reading *r, EVP_PKEY *pkey)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    assert(bio != NULL);
    int good = PEM_write_bio_PUBKEY(bio, pkey);
    assert(good == 1);
    long n = BIO_get_mem_data(bio, &text);
    keep(r, text, (size_t)n);
    BIO_free(bio);
}

static void keep_raw(struct reading *r, const EVP_PKEY *pkey)
{
    unsigned char raw[AUTH_ED25519_BYTES];
    size_t n = sizeof(raw);
    int good = r->signs_wanted ? EVP_PKEY_get_raw_private_key(pkey, raw, &n)
                               : EVP_PKEY_get_raw_public_key(pkey, raw, &n);
    assert(good == 1 && n == sizeof(raw));
    keep(r, (char *)raw, n);
    explicit_bzero(raw, sizeof(raw));
}

static int take_pkey(struct reading *r, EVP_PKEY *pkey)
{
    enum auth_alg alg = AUTH_ALG_COUNT;

    if (find_alg(r, pkey, &alg) != 0)
        return -EINVAL;
    if (r->alg_given && r->key->alg != alg)
        return fail(r, "holds a key for %s, not for %s", auth_alg_names[alg],
                    auth_alg_names[r->key->alg]);
    r->key->alg = alg;
    if (r->signs_wanted && !r->key->signs)
        return fail(r, "holds a public key, which cannot sign");
    r->key->signs = r->signs_wanted;
    if (alg == AUTH_EDDSA)
        keep_raw(r, pkey);
    else if (r->signs_wanted)
        keep(r, r->text, r->text_n);
    else
        keep_public(r, pkey);
    return 0;
}

static int take_pem(struct reading *r)
{
    unsigned keys = count_pem_keys(r);

    if (keys > 1)
        return fail(r, "holds %u PEM keys; one file holds one key", keys);
    EVP_PKEY *pkey = parse_pem(r);
    if (pkey == NULL)
        return fail(r, "holds PEM that is no key that can be used; must be a public key (BEGIN "
                       "PUBLIC KEY), or a private one without pass phrase");
    int rc = take_pkey(r, pkey);
    EVP_PKEY_free(pkey);
    return rc;
}

/* ---- keys and sets of them */

int auth_key_read(const char *option, bool signs, struct auth_key *key, char *error,
                  size_t error_size)
{
    struct reading *r = mem_zeroed(1, sizeof(*r));

    *key = (struct auth_key){0};
    r->key = key;
    r->signs_wanted = signs;
    r->error = error;
    r->error_size = error_size;
    int rc = read_option(r, option);
    if (rc == 0)
        rc = read_file(r);
    if (rc == 0)
        rc = memmem(r->text, r->text_n, "-----BEGIN ", 11) != NULL ? take_pem(r) : take_secret(r);
    explicit_bzero(r->text, sizeof(r->text));
    free(r);
    if (rc != 0)
        auth_key_clear(key);
    return rc;
}

void auth_key_clear(struct auth_key *key)
{
    if (key->bytes != NULL)
        explicit_bzero(key->bytes, key->bytes_n);
    free(key->bytes);
    free(key->kid);
    *key = (struct auth_key){0};
}

static int load(const struct config_list *files, struct auth_keys *keys, char *error,
                size_t error_size)
{
    for (size_t i = 0; i < files->count; i++) {
        struct auth_key *key = &keys->items[keys->n];
        char why[CONFIG_ERROR_SIZE];
        if (auth_key_read(files->items[i], false, key, why, sizeof(why)) != 0) {
            snprintf(error, error_size, "--auth-key: %s", why);
            return -EINVAL;
        }
        keys->n++;
        for (unsigned k = 0; k + 1 < keys->n; k++)
            if (strcmp(keys->items[k].kid, key->kid) == 0) {
                snprintf(error, error_size,
                         "--auth-key: \"%s\" and \"%s\" both have the name \"%s\"; give one of "
                         "them another by #kid=NAME",
                         files->items[k], files->items[i], key->kid);
                return -EINVAL;
            }
    }
    return 0;
}

int auth_keys_load(const struct config *config, struct auth_keys **keys, char *error,
                   size_t error_size)
{
    *keys = NULL;
    if (config->auth_keys.count == 0)
        return 0;
    struct auth_keys *made = mem_zeroed(1, sizeof(*made));
    atomic_init(&made->references, 1);
    if (load(&config->auth_keys, made, error, error_size) != 0) {
        auth_keys_release(made);
        return -EINVAL;
    }
    if (getrandom(&made->seed, sizeof(made->seed), 0) != sizeof(made->seed))
        made->seed = (uint64_t)(uintptr_t)made; /* no worse than none */
    *keys = made;
    return 0;
}

struct auth_keys *auth_keys_hold(struct auth_keys *keys)
{
    if (keys != NULL)
        atomic_fetch_add_explicit(&keys->references, 1, memory_order_relaxed);
    return keys;
}

void auth_keys_release(struct auth_keys *keys)
{
    if (keys == NULL || atomic_fetch_sub_explicit(&keys->references, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < CONFIG_LIST_MAX; i++)
        auth_key_clear(&keys->items[i]);
    free(keys);
}

static bool key_equal(const struct auth_key *a, const struct auth_key *b)
{
    return a->alg == b->alg && a->bytes_n == b->bytes_n &&
           memcmp(a->bytes, b->bytes, a->bytes_n) == 0;
}

static const struct auth_key *find(const struct auth_keys *keys, struct str kid)
{
    for (unsigned i = 0; i < keys->n; i++)
        if (strlen(keys->items[i].kid) == kid.n && memcmp(keys->items[i].kid, kid.p, kid.n) == 0)
            return &keys->items[i];
    return NULL;
}

bool auth_keys_share(const struct auth_keys *a, const struct auth_keys *b, struct str kid)
{
    const struct auth_key *one = find(a, kid), *other = find(b, kid);
    return one != NULL && other != NULL && key_equal(one, other);
}
