/*
 * base: the small things every room uses: byte strings, growable buffers, scratch arenas.
 *
 * Nothing here touches the operating system but for memory. Running out of memory is not an error
 * a caller could handle half-way through a command, so it ends the process with one line; the log
 * makes that safe.
 *
 * Thread: none of these types is shared; each object belongs to the thread that holds it.
 */
#ifndef ATOLL_CORE_BASE_H
#define ATOLL_CORE_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef NDEBUG
#error "asserts guard the log: they stay on in release builds"
#endif

/* A view of bytes owned by someone else; `p` is NULL for "not given" or JSON null. Not terminated.
 */
struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})

static inline bool str_equal(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0) && (a.p == NULL) == (b.p == NULL);
}

/* <0, 0, >0 by bytes, the shorter first where one is the other's beginning. */
int str_compare(struct str a, struct str b);

/* malloc that ends the process with "out of memory" where there is none; free() releases it. */
void *mem_alloc(size_t size);
void *mem_realloc(void *old, size_t size);
/* A multiple of `alignment`, a power of two, in size too. */
void *mem_alloc_aligned(size_t alignment, size_t size);
void *mem_zeroed(size_t n, size_t size); /* of n things; pages are touched as they are used */

/*
 * The size of something large, for memcpy and memset. The compiler takes a constant one for `rep
 * movs` or `rep stos`, which need some 20 ns to begin with; one that it does not know is a call of
 * libc's, with the widest moves there are.
 */
static inline size_t large_size(size_t n)
{
    __asm__("" : "+r"(n));
    return n;
}

/* A growable byte buffer. Zero-initialise to make one; buf_free releases what it holds. */
struct buf {
    char *p;
    size_t n;
    size_t cap;
};

void buf_free(struct buf *b);
/* Makes room for `more` bytes behind n. */
__attribute__((cold)) void buf_grow(struct buf *b, size_t more);

/* Room for `more` bytes at the end; the caller writes there and then adds to b->n. */
static inline char *buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->n < more)
        buf_grow(b, more);
    return b->p + b->n;
}

static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    if (n != 0) {
        memcpy(buf_reserve(b, n), p, n);
        b->n += n;
    }
}

/* buf_add of a constant n, which is then a few moves and no call. */
__attribute__((always_inline)) static inline void buf_add_fixed(struct buf *b, const void *p,
                                                                size_t n)
{
    memcpy(buf_reserve(b, n), p, n);
    b->n += n;
}

static inline void buf_add_str(struct buf *b, struct str s)
{
    buf_add(b, s.p, s.n);
}

static inline void buf_add_byte(struct buf *b, char c)
{
    *buf_reserve(b, 1) = c;
    b->n += 1;
}

#define buf_add_literal(b, literal) buf_add_fixed((b), (literal), sizeof(literal) - 1)

void buf_add_u64(struct buf *b, uint64_t value); /* decimal */
void buf_add_i64(struct buf *b, int64_t value);  /* decimal */
void buf_add_base64url(struct buf *b, struct str bytes); /* without padding */

/* The bytes so far, as a view that is good until the buffer grows. */
static inline struct str buf_str(const struct buf *b)
{
    struct str s = {b->p, b->n};
    return s;
}

/* A bump allocator for what lives as long as one request or one turn. Zero-initialise to make one.
 */
struct arena {
    struct arena_block *blocks; /* newest first */
    char *p;                    /* free space of the newest block */
    size_t left;
    uint32_t block_bytes; /* of a block, at least; 0: 16 KiB. For arenas that wait in thousands */
};

void *arena_alloc(struct arena *a, size_t size); /* 8-byte aligned, not zeroed */
struct str arena_copy(struct arena *a, struct str s);
/* The bytes that buf_add_base64url has made this text of; p == NULL: it made no such text. */
struct str arena_base64url(struct arena *a, struct str text);
void arena_reset(struct arena *a); /* forgets everything, keeps one block for the next use */
void arena_free(struct arena *a);

#ifdef __cplusplus
}
#endif

#endif
