/*
 * redis: enough of RESP (https://redis.io/docs/reference/protocol-spec) to append to streams and
 * read them back, over the connection of http.h.
 *
 * Normal path: redis_expect, then http_send with the commands' bytes, then redis_go_on until it
 * says HTTP_DONE: `status` is 200, or 500 when one of the replies is an error, which is then in
 * `tail`. Failure: as of http.h.
 *
 * Thread: anyone's; a connection belongs to one.
 */
#ifndef ATOLL_LOAD_REDIS_H
#define ATOLL_LOAD_REDIS_H

#include "http.h"
#include "verify.h"

/* So many replies are an answer: as many as commands are sent at a time. */
void redis_expect(struct http *http, unsigned replies);
/* The contract of http_go_on. With keep_body all bytes of the replies are kept. */
enum http_result redis_go_on(struct http *http);

/* Bytes that redis_put_add writes at most. */
size_t redis_add_room(size_t key_size, size_t content_size);
/* XADD key * content …: writes it and returns its size; `*at` (where not NULL) is where the content
 * begins in it. */
size_t redis_put_add(char *out, const char *key, size_t key_size, const char *content,
                     size_t content_size, size_t *at);
/* The key of session number `session`, always of the same size; returns it (at most 64 bytes). */
size_t redis_put_key(char *out, const char *prefix, unsigned session);

/* Streams read back for verify; redis_since puts the time from which on into `base`. */
extern const struct verify_source redis_source;
bool redis_since(struct verify *verify);

#endif
