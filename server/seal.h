/*
 * seal: what goes out of our hands and has to come back as it was, or must not be read meanwhile.
 *
 *     signed text   base64url(payload || HMAC-SHA256 of it, cut to 16 bytes): anybody can read it,
 *                   only we can make it: names of MCP sessions, event ids, request states
 *     sealed text   base64url(version || nonce || AES-256-GCM of a secret || tag): only we can
 *                   read it, and only for the session and the agent that it was sealed for
 *
 * Each key is made for one purpose (cluster_derive_key), so what was signed for one never passes
 * for another. They come from the data directory's own key: whoever has the directory can open what
 * is in it, a log or an export alone tells nothing, and a restart or a restored backup changes
 * nothing.
 *
 * The nonce of a sealed text is made of all that it seals (as in RFC 5297's idea): the same secret
 * for the same agent gives the same text, so that a repeated command compares equal; two different
 * ones do not share a nonce before some 2^48 of them.
 *
 * Failure: a text that was cut, changed, or made with another key is simply not ours.
 */
#ifndef ATOLL_SERVER_SEAL_H
#define ATOLL_SERVER_SEAL_H

#include "core/base.h"

enum {
    SEAL_KEY_BYTES = 32,
    SIGN_MAC_BYTES = 16,
};

/* ---- signing. A key is its thread's alone. */

struct sign_key;

struct sign_key *sign_key_new(const uint8_t secret[SEAL_KEY_BYTES]);
void sign_key_free(struct sign_key *key);
/* Appends the signed text of the payload. */
void sign_text(struct sign_key *key, struct str payload, struct buf *out);
/* The payload of a signed text, in the arena; p == NULL: this key has signed no such text. */
struct str sign_check(struct sign_key *key, struct str text, struct arena *arena);
/* The same of a text that was checked before: it is not checked again. */
struct str sign_payload(struct str text, struct arena *arena);

/* ---- sealing. A key is constant: any thread. */

struct seal_key {
    uint8_t cipher[SEAL_KEY_BYTES], nonce[SEAL_KEY_BYTES];
};

void seal_key_init(struct seal_key *key, const uint8_t secret[SEAL_KEY_BYTES]);
/* Appends the sealed text of `secret`, which is not empty. */
void seal_secret(const struct seal_key *key, struct str session, struct str agent,
                 struct str secret, struct buf *out);
/* The secret, in the arena, to be wiped by the caller; p == NULL: it was not sealed with this key
 * for this agent of this session. */
struct str seal_open(const struct seal_key *key, struct str session, struct str agent,
                     struct str sealed, struct arena *arena);

#endif
