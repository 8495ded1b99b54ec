#include "server/newid.h"

#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* 128 bits as 26 digits, the first of which holds only 3 bits. */
static struct str write_id(char out[NEWID_BYTES], uint64_t high, uint64_t low)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    for (int i = NEWID_BYTES - 1; i > 0; i--) {
        out[i] = digits[low & 31];
        low = low >> 5 | high << 59;
        high >>= 5;
    }
    out[0] = 's';
    return (struct str){out, NEWID_BYTES};
}

struct str newid_by_time(char out[NEWID_BYTES], int64_t wall_ms, uint64_t counter)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = (uint64_t)(uintptr_t)out * UINT64_C(0x9e3779b97f4a7c15) ^ counter;
    return write_id(out, (uint64_t)wall_ms << 16 | (counter & 0xffff), random);
}

struct str newid_by_key(char out[NEWID_BYTES], struct str caller, struct str key)
{
    struct buf text = {0};
    buf_add_u64(&text, caller.n);
    buf_add_byte(&text, ':');
    buf_add_str(&text, caller);
    buf_add_str(&text, key);
    XXH128_hash_t hash = XXH3_128bits(text.p, text.n);
    buf_free(&text);
    return write_id(out, hash.high64, hash.low64);
}
