#include "server/newid.h"

#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";

/* 128 bits as 26 digits, the first of which holds only 3 bits. */
static struct str write_id(char out[NEWID_BYTES], struct str tag, uint64_t high, uint64_t low)
{
    char *plain = out;

    assert(tag.n <= NEWID_TAG_BYTES);
    if (tag.n != 0) {
        memcpy(out, tag.p, tag.n);
        out[tag.n] = '-';
        plain = out + tag.n + 1;
    }
    for (int i = NEWID_PLAIN_BYTES - 1; i > 0; i--) {
        plain[i] = digits[low & 31];
        low = low >> 5 | high << 59;
        high >>= 5;
    }
    plain[0] = 's';
    return (struct str){out, (size_t)(plain - out) + NEWID_PLAIN_BYTES};
}

struct str newid_by_time(char out[NEWID_BYTES], struct str tag, int64_t wall_ms, uint64_t counter)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = (uint64_t)(uintptr_t)out * UINT64_C(0x9e3779b97f4a7c15) ^ counter;
    return write_id(out, tag, (uint64_t)wall_ms << 16 | (counter & 0xffff), random);
}

struct str newid_by_key(char out[NEWID_BYTES], struct str tag, struct str caller, struct str key)
{
    struct buf text = {0};
    buf_add_u64(&text, caller.n);
    buf_add_byte(&text, ':');
    buf_add_str(&text, caller);
    buf_add_str(&text, key);
    XXH128_hash_t hash = XXH3_128bits(text.p, text.n);
    buf_free(&text);
    return write_id(out, tag, hash.high64, hash.low64);
}

bool newid_tag_valid(struct str tag)
{
    if (tag.n == 0 || tag.n > NEWID_TAG_BYTES)
        return false;
    for (size_t i = 0; i < tag.n; i++)
        if (!(tag.p[i] >= 'a' && tag.p[i] <= 'z') && !(tag.p[i] >= '0' && tag.p[i] <= '9'))
            return false;
    return true;
}

bool newid_is_here(struct str id, struct str tag)
{
    return tag.n == 0 || (id.n > tag.n && memcmp(id.p, tag.p, tag.n) == 0 && id.p[tag.n] == '-');
}

/* Whether these are the 27 bytes of write_id. */
static bool is_plain(const char *p)
{
    if (p[0] != 's' || p[1] < '0' || p[1] > '7')
        return false;
    for (int i = 2; i < NEWID_PLAIN_BYTES; i++)
        if (memchr(digits, p[i], sizeof(digits) - 1) == NULL)
            return false;
    return true;
}

struct str newid_other_tag(struct str id, struct str tag)
{
    /* The length alone rules out nearly every id that a client has chosen. */
    if (tag.n == 0 || id.n < 1 + 1 + NEWID_PLAIN_BYTES || id.n > NEWID_BYTES)
        return (struct str){0};
    struct str other = {id.p, id.n - 1 - NEWID_PLAIN_BYTES};
    if (id.p[other.n] != '-' || str_equal(other, tag) || !newid_tag_valid(other) ||
        !is_plain(id.p + other.n + 1))
        return (struct str){0};
    return other;
}
