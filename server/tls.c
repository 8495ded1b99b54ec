#include "server/tls.h"

#include "core/base.h"
#include "server/connection.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* What is left of 1.2 when all without forward secrecy or authenticated encryption is gone. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"

struct tls {
    atomic_uint references;
    bool http2;
    unsigned contexts_n;
    SSL_CTX *contexts[CONFIG_LIST_MAX]; /* by certificate; the first is the default */
};

struct tls *tls_hold(struct tls *tls)
{
    atomic_fetch_add_explicit(&tls->references, 1, memory_order_relaxed);
    return tls;
}

void tls_release(struct tls *tls)
{
    if (tls == NULL || atomic_fetch_sub_explicit(&tls->references, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < tls->contexts_n; i++)
        SSL_CTX_free(tls->contexts[i]);
    free(tls);
}

SSL_CTX *tls_context(const struct tls *tls)
{
    return tls->contexts[0];
}

/* ---- what OpenSSL asks during a handshake */

static bool is_for(SSL_CTX *context, const char *name)
{
    return X509_check_host(SSL_CTX_get0_certificate(context), name, 0, 0, NULL) == 1;
}

static int on_name(SSL *ssl, int *alert, void *p)
{
    const struct tls *tls = p;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    if (name == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    for (unsigned i = 0; i < tls->contexts_n; i++) {
        if (!is_for(tls->contexts[i], name))
            continue;
        if (i != 0)
            SSL_set_SSL_CTX(ssl, tls->contexts[i]);
        break;
    }
    return SSL_TLSEXT_ERR_OK;
}

#define H2 "\x02h2"
#define HTTP_1_1 "\x08http/1.1"

static int on_protocols(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_n,
                        const unsigned char *offered, unsigned offered_n, void *p)
{
    static const unsigned char ours[] = H2 HTTP_1_1;
    const struct tls *tls = p;
    unsigned skipped = tls->http2 ? 0 : sizeof(H2) - 1;

    (void)ssl;
    if (SSL_select_next_proto((unsigned char **)(uintptr_t)chosen, chosen_n, ours + skipped,
                              (unsigned)sizeof(ours) - 1 - skipped, offered,
                              offered_n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

/* h2o keeps its SSL to itself; the way to it leads over the BIO that h2o has made. */
static void on_progress(const SSL *ssl, int where, int result)
{
    (void)result;
    if ((where & SSL_CB_HANDSHAKE_DONE) == 0)
        return;
    h2o_socket_t *sock = BIO_get_data(SSL_get_rbio(ssl));
    struct connection *connection = sock->on_close.data;
    connection->ssl = (SSL *)(uintptr_t)ssl;
}

bool tls_is_http2(const SSL *ssl)
{
    const unsigned char *name;
    unsigned n;
    SSL_get0_alpn_selected(ssl, &name, &n);
    return n == 2 && memcmp(name, "h2", 2) == 0;
}

/* ---- loading */

/* The reason that OpenSSL gives, in its words. */
static int fail(const char *what, const char *path, char *error, size_t error_size)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    if (errno != 0)
        reason = strerror(errno);
    snprintf(error, error_size, "cannot use the %s in %s: %s", what, path,
             reason != NULL ? reason : "it is not one");
    ERR_clear_error();
    return -EINVAL;
}

/* Nobody is asked for a passphrase. */
static int no_passphrase(char *text, int size, int writing, void *p)
{
    (void)text, (void)size, (void)writing, (void)p;
    return -1;
}

static void set_manners(SSL_CTX *context, const struct config *config, struct tls *tls)
{
    SSL_CTX_set_min_proto_version(context, config->tls_min == CONFIG_TLS_1_3 ? TLS1_3_VERSION
                                                                             : TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(context, CIPHERS_1_2);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS); /* idle connections keep none */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_tlsext_servername_callback(context, on_name);
    SSL_CTX_set_tlsext_servername_arg(context, tls);
    SSL_CTX_set_alpn_select_cb(context, on_protocols, tls);
    SSL_CTX_set_info_callback(context, on_progress);
}

static int load_pair(SSL_CTX *context, const char *cert, const char *key, char *error,
                     size_t error_size)
{
    errno = 0;
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, cert) != 1)
        return fail("certificate", cert, error, error_size);
    errno = 0;
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1)
        return fail("private key", key, error, error_size);
    return 0;
}

static int load_all(const struct config *config, struct tls *tls, char *error, size_t error_size)
{
    for (size_t i = 0; i < config->tls_certs.count; i++) {
        SSL_CTX *context = SSL_CTX_new(TLS_server_method());
        if (context == NULL)
            return fail("certificate", config->tls_certs.items[i], error, error_size);
        tls->contexts[tls->contexts_n++] = context;
        set_manners(context, config, tls);
        int rc = load_pair(context, config->tls_certs.items[i], config->tls_keys.items[i], error,
                           error_size);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int check(const struct config *config, char *error, size_t error_size)
{
    if (config->tls_certs.count != config->tls_keys.count) {
        snprintf(error, error_size,
                 "tls-cert names %zu file(s) and tls-key %zu: each certificate needs its key",
                 config->tls_certs.count, config->tls_keys.count);
        return -EINVAL;
    }
    for (size_t i = 0; i < config->listen.count && config->tls_certs.count == 0; i++) {
        if (!config_listen_is_tls(config->listen.items[i]))
            continue;
        snprintf(error, error_size, "cannot listen on %s: it needs --tls-cert and --tls-key",
                 config->listen.items[i]);
        return -EINVAL;
    }
    return 0;
}

int tls_load(const struct config *config, struct tls **out, char *error, size_t error_size)
{
    *out = NULL;
    int rc = check(config, error, error_size);
    if (rc != 0 || config->tls_certs.count == 0)
        return rc;
    struct tls *tls = mem_alloc(sizeof(*tls));
    *tls = (struct tls){.references = 1, .http2 = config->http2 != 0};
    rc = load_all(config, tls, error, error_size);
    if (rc == 0)
        *out = tls;
    else
        tls_release(tls);
    return rc;
}

/* ---- the end */

void tls_say_end(SSL *ssl, int fd)
{
    BIO *end = BIO_new(BIO_s_mem());
    BIO *usual = SSL_get_wbio(ssl);
    char *bytes;

    if (end == NULL)
        return;
    BIO_up_ref(usual);
    SSL_set0_wbio(ssl, end);
    ERR_clear_error();
    (void)SSL_shutdown(ssl);
    long n = BIO_get_mem_data(end, &bytes);
    if (n > 0)
        (void)send(fd, bytes, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    SSL_set0_wbio(ssl, usual);
}
