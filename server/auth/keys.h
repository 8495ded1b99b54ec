/*
 * keys: what tokens are verified with: the files of --auth-key, read into one immutable set.
 *
 * A file holds one key. PEM: a public key (or a private one, of which the public part is used), RSA
 * for RS256, EC P-256 for ES256, Ed25519 for EdDSA where libjwt has it. Anything else is an HMAC
 * secret: the file's bytes without one final newline, at least AUTH_SECRET_MIN_BYTES; HS256 unless
 * the option says otherwise. The algorithm is the key's, never the token's: what a token says is
 * only compared. `kid`: the option's, or the file's name without directory and last extension.
 *
 * Thread: made on the main thread; any thread reads what it holds.
 */
#ifndef ATOLL_SERVER_AUTH_KEYS_H
#define ATOLL_SERVER_AUTH_KEYS_H

#include "core/base.h"
#include "server/config.h"

enum { AUTH_SECRET_MIN_BYTES = 32 };

struct auth_keys;

/*
 * Reads all key files of the configuration. 0 and *keys with one reference (NULL: the configuration
 * names none); or -EINVAL with one sentence that names file and reason, never a key.
 */
int auth_keys_load(const struct config *config, struct auth_keys **keys, char *error,
                   size_t error_size);
struct auth_keys *auth_keys_hold(struct auth_keys *keys);
/* The last release wipes and frees. NULL is fine. */
void auth_keys_release(struct auth_keys *keys);
/* How much of an --auth-key is the path of its file: its options stand behind that. */
size_t auth_key_path_bytes(const char *option);
/* Whether both hold the same key of this name: what it has verified need not be verified again. */
bool auth_keys_share(const struct auth_keys *a, const struct auth_keys *b, struct str kid);

#endif
