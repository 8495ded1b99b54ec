/*
 * tls: certificates and how TLS is spoken with them, for the listeners "tls:ADDR:PORT".
 *
 * Normal path: tls_load reads --tls-cert and --tls-key into one immutable object; each connection
 * holds the one that it was accepted with until its handshake is over, so that newer certificates
 * (live.h) cost the open connections nothing. Which of several certificates is shown goes by the
 * name that the client asks for (SNI), else it is the first.
 * TLS 1.2 (AEAD and forward secrecy alone) and 1.3; no compression, no renegotiation, no early
 * data; sessions are resumed by tickets, whose keys live as long as the object.
 * Failure: a sentence that names the file; then there is no object.
 *
 * h2o moves the bytes. It can not answer a TLS 1.3 KeyUpdate that asks for one in return: that
 * client's connection is closed.
 *
 * Thread: an object may be used and released by any; tls_say_end is of the connection's.
 */
#ifndef ATOLL_SERVER_TLS_H
#define ATOLL_SERVER_TLS_H

#include "server/config.h"

#include <openssl/ssl.h>

struct tls;

/* Reads the files that `config` names. 0, with one reference in *tls, or NULL there where none are
 * named and no listener wants one; or -EINVAL with one sentence. */
int tls_load(const struct config *config, struct tls **tls, char *error, size_t error_size);
struct tls *tls_hold(struct tls *tls);
void tls_release(struct tls *tls); /* NULL is fine */
/* To begin handshakes with; good while `tls` is held. */
SSL_CTX *tls_context(const struct tls *tls);
/* Whether the client and we have agreed on HTTP/2. */
bool tls_is_http2(const SSL *ssl);
/* Tells the client that no more will come (close_notify), past h2o, on a socket to which nothing is
 * being written. Where the kernel does not take it, it is left out. */
void tls_say_end(SSL *ssl, int fd);

#endif
