#include "core/write.h"

#include <stdio.h>
#include <stdlib.h>

enum { ARENA_BLOCK_BYTES = 16 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t size;
    _Alignas(8) char bytes[];
};

int str_compare(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n == 0 ? 0 : memcmp(a.p, b.p, n);
    if (order != 0)
        return order;
    return a.n < b.n ? -1 : a.n > b.n;
}

static void mem_exhausted(size_t size)
{
    fprintf(stderr, "atoll: out of memory (%zu bytes wanted)\n", size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *p = malloc(size != 0 ? size : 1);
    if (p == NULL)
        mem_exhausted(size);
    return p;
}

void *mem_alloc_aligned(size_t alignment, size_t size)
{
    void *p = aligned_alloc(alignment, size);
    if (p == NULL)
        mem_exhausted(size);
    return p;
}

void *mem_realloc(void *old, size_t size)
{
    void *p = realloc(old, size != 0 ? size : 1);
    if (p == NULL)
        mem_exhausted(size);
    return p;
}

void *mem_zeroed(size_t n, size_t size)
{
    void *p = calloc(n != 0 ? n : 1, size);
    if (p == NULL)
        mem_exhausted(n * size);
    return p;
}

void buf_grow(struct buf *b, size_t more)
{
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap - b->n < more)
        cap *= 2;
    b->p = mem_realloc(b->p, cap);
    b->cap = cap;
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

char *write_long_decimal(char *to, uint64_t value)
{
    to = write_decimal(to, value / WRITE_EIGHT);
    uint64_t digits = eight_digits((uint32_t)(value % WRITE_EIGHT)) | WRITE_ZEROS;
    memcpy(to, &digits, 8);
    return to + 8;
}

void buf_add_u64(struct buf *b, uint64_t value)
{
    char *to = buf_reserve(b, WRITE_DECIMAL_BYTES + WRITE_SPILL);
    b->n += (size_t)(write_decimal(to, value) - to);
}

void buf_add_i64(struct buf *b, int64_t value)
{
    if (value < 0)
        buf_add_byte(b, '-');
    buf_add_u64(b, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

/* ---- base64url */

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void buf_add_base64url(struct buf *b, struct str bytes)
{
    char *to = buf_reserve(b, bytes.n + bytes.n / 3 + 2);
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < bytes.n; i++) {
        bits = bits << 8 | (unsigned char)bytes.p[i];
        for (have += 8; have >= 6; have -= 6)
            *to++ = base64url[bits >> (have - 6) & 63];
    }
    if (have != 0)
        *to++ = base64url[bits << (6 - have) & 63];
    b->n = (size_t)(to - b->p);
}

static int base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

struct str arena_base64url(struct arena *a, struct str text)
{
    char *bytes = arena_alloc(a, text.n * 3 / 4 + 1);
    size_t n = 0;
    uint32_t bits = 0;
    int have = 0;
    for (size_t i = 0; i < text.n; i++) {
        int value = base64url_value(text.p[i]);
        if (value < 0)
            return (struct str){0};
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            bytes[n++] = (char)(bits >> have);
        }
    }
    bool rest_is_zero = have < 6 && (bits & ((1U << have) - 1)) == 0;
    return rest_is_zero ? (struct str){bytes, n} : (struct str){0};
}

/* ---- arenas */

void *arena_alloc(struct arena *a, size_t size)
{
    size = (size + 7) & ~(size_t)7;
    if (size > a->left || a->p == NULL) {
        size_t least = a->block_bytes != 0 ? a->block_bytes : ARENA_BLOCK_BYTES;
        size_t block_size = size > least ? size : least;
        struct arena_block *block = mem_alloc(sizeof(*block) + block_size);
        block->next = a->blocks;
        block->size = block_size;
        a->blocks = block;
        a->p = block->bytes;
        a->left = block_size;
    }
    void *p = a->p;
    a->p += size;
    a->left -= size;
    return p;
}

struct str arena_copy(struct arena *a, struct str s)
{
    if (s.p == NULL)
        return s;
    char *p = arena_alloc(a, s.n);
    if (s.n != 0)
        memcpy(p, s.p, s.n);
    return (struct str){p, s.n};
}

static void arena_drop(struct arena *a, struct arena_block *keep)
{
    struct arena_block *block = a->blocks;
    while (block != NULL) {
        struct arena_block *next = block->next;
        if (block != keep)
            free(block);
        block = next;
    }
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = a->blocks;
    if (keep != NULL && keep->size > ARENA_BLOCK_BYTES)
        keep = NULL;
    arena_drop(a, keep);
    *a = (struct arena){.block_bytes = a->block_bytes};
    if (keep != NULL) {
        keep->next = NULL;
        a->blocks = keep;
        a->p = keep->bytes;
        a->left = keep->size;
    }
}

void arena_free(struct arena *a)
{
    arena_drop(a, NULL);
    *a = (struct arena){0};
}
