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
#include "core/write.h"

#include <openssl/sha.h>

_Static_assert(sizeof(struct core_chain) == SHA256_DIGEST_LENGTH, "a link is one hash");

enum { BLOCK_BYTES = 64, HEAD_BYTES = sizeof(struct core_chain) + 8 };
enum { SHORT_BYTES = 512, PADDING_BYTES = BLOCK_BYTES + 8 /* at most */ };

/* FIPS 180-4, 5.1.1: a one, zeros, and the length in bits up to the end of a block. Returns the
 * size with these; there is room. */
static size_t pad(uint8_t *text, size_t n)
{
    size_t end = (n + 1 + 8 + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    uint64_t bits = __builtin_bswap64((uint64_t)n * 8);
    memset(text + n, 0, PADDING_BYTES); /* a constant, and so a few moves */
    text[n] = 0x80;
    memcpy(text + end - sizeof(bits), &bits, sizeof(bits));
    return end;
}

/* A short event is put into whole blocks here, which are hashed where they lie: of what SHA256_*
 * does around the hashing itself, that leaves less than half. */
void core_chain_add(struct core_chain *chain, uint64_t seq, struct str event_bytes)
{
    uint8_t text[SHORT_BYTES + PADDING_BYTES];
    SHA256_CTX sha;
    memcpy(text, chain->bytes, sizeof(chain->bytes));
    memcpy(text + sizeof(chain->bytes), &seq, sizeof(seq));
    SHA256_Init(&sha);
    if (event_bytes.n > SHORT_BYTES - HEAD_BYTES) {
        SHA256_Update(&sha, text, HEAD_BYTES);
        SHA256_Update(&sha, event_bytes.p, event_bytes.n);
        SHA256_Final(chain->bytes, &sha);
        return;
    }
    write_str((char *)text + HEAD_BYTES, event_bytes);
    SHA256_Update(&sha, text, pad(text, HEAD_BYTES + event_bytes.n));
    for (int i = 0; i < SHA256_DIGEST_LENGTH / 4; i++) {
        uint32_t word = __builtin_bswap32(sha.h[i]);
        memcpy(chain->bytes + 4 * i, &word, sizeof(word));
    }
}
