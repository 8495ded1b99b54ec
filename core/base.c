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

void *arena_alloc(struct arena *a, size_t size)
{
    size = (size + 7) & ~(size_t)7;
    if (size > a->left || a->p == NULL) {
        size_t block_size = size > ARENA_BLOCK_BYTES ? size : ARENA_BLOCK_BYTES;
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
    *a = (struct arena){0};
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
