/*
 * The chain: SHA-256 over a session's events, each link over the one before (core.h).
 *
 * One link is one or a few blocks, and is made for every event. OpenSSL's EVP looks its algorithm
 * up under a lock and takes memory at each use, or wants a context that somebody has to keep; its
 * own SHA256_* need neither, and cost less than half of it for a short event. OpenSSL 3 calls them
 * deprecated, and still has them.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "core/core.h"

#include <openssl/sha.h>

_Static_assert(sizeof(struct core_chain) == SHA256_DIGEST_LENGTH, "a link is one hash");

void core_chain_add(struct core_chain *chain, uint64_t seq, struct str event_bytes)
{
    uint8_t head[sizeof(chain->bytes) + 8];
    SHA256_CTX sha;
    memcpy(head, chain->bytes, sizeof(chain->bytes));
    for (unsigned i = 0; i < 8; i++)
        head[sizeof(chain->bytes) + i] = (uint8_t)(seq >> (8 * i));
    SHA256_Init(&sha);
    SHA256_Update(&sha, head, sizeof(head));
    SHA256_Update(&sha, event_bytes.p, event_bytes.n);
    SHA256_Final(chain->bytes, &sha);
}
