/*
 * siphash: SipHash-2-4 (J.-P. Aumasson, D. J. Bernstein: "SipHash: a fast short-input PRF", 2012),
 * the keyed hash that spreads session ids over shards and buckets. Without the key, which is made
 * at the first start and kept in the manifest, no client can aim at one shard.
 */
#ifndef ATOLL_SHARDS_SIPHASH_H
#define ATOLL_SHARDS_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* Any thread. `key` has 16 bytes. */
uint64_t siphash(const uint8_t key[16], const void *in, size_t size);

#endif
