#include "shards/heap.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef ATOLL_JEMALLOC

#include <jemalloc/jemalloc.h>

static int heap_flags(const struct heap *heap)
{
    return MALLOCX_ARENA(heap->arena) | MALLOCX_TCACHE(heap->cache);
}

/*
 * Spares. Sizes up to 512 bytes go in steps of 16, those up to 4 KiB in steps of 128: jemalloc's
 * own steps are as wide or wider, so that a piece costs no more than what was asked for would.
 */
enum {
    FINE_BYTES = 16,
    FINE_MAX_BYTES = 512,
    COARSE_BYTES = 128,
    SPARE_MAX_BYTES = 4096,
    SPARES_MAX_BYTES = 32 << 10, /* kept of each size: what a batch of a hundred drops at once */
    FINE_SIZES = FINE_MAX_BYTES / FINE_BYTES
};

_Static_assert(HEAP_SPARE_SIZES ==
                   FINE_SIZES + (SPARE_MAX_BYTES - FINE_MAX_BYTES) / COARSE_BYTES + 1,
               "one for each size, and one for nothing");

static unsigned spare_of(size_t size)
{
    if (size <= FINE_MAX_BYTES)
        return (unsigned)((size + FINE_BYTES - 1) / FINE_BYTES);
    return (unsigned)(FINE_SIZES + (size - FINE_MAX_BYTES + COARSE_BYTES - 1) / COARSE_BYTES);
}

static size_t spare_bytes(unsigned spare)
{
    if (spare <= FINE_SIZES)
        return (size_t)spare * FINE_BYTES;
    return FINE_MAX_BYTES + (size_t)(spare - FINE_SIZES) * COARSE_BYTES;
}

static void *take_from_arena(struct heap *heap, size_t size)
{
    void *p = mallocx(size, heap_flags(heap));
    if (p == NULL) {
        fprintf(stderr, "atoll: out of memory (%zu bytes wanted)\n", size);
        abort();
    }
    return p;
}

static void *heap_alloc(void *ctx, size_t size)
{
    struct heap *heap = ctx;
    heap->allocated_bytes += size;
    if (size > SPARE_MAX_BYTES)
        return take_from_arena(heap, size);
    struct heap_spare *spare = &heap->spares[spare_of(size)];
    void *p = spare->first;
    if (p == NULL)
        return take_from_arena(heap, spare_bytes(spare_of(size)));
    memcpy(&spare->first, p, sizeof(spare->first));
    spare->n--;
    return p;
}

static void heap_release(void *ctx, void *p, size_t size)
{
    struct heap *heap = ctx;
    heap->allocated_bytes -= size;
    if (size > SPARE_MAX_BYTES) {
        sdallocx(p, size, heap_flags(heap));
        return;
    }
    size_t bytes = spare_bytes(spare_of(size));
    struct heap_spare *spare = &heap->spares[spare_of(size)];
    if ((spare->n + 1) * bytes > SPARES_MAX_BYTES) {
        sdallocx(p, bytes, heap_flags(heap));
        return;
    }
    memcpy(p, &spare->first, sizeof(spare->first));
    spare->first = p;
    spare->n++;
}

static void heap_free_spares(struct heap *heap)
{
    for (unsigned i = 0; i < HEAP_SPARE_SIZES; i++) {
        struct heap_spare *spare = &heap->spares[i];
        for (void *p = spare->first, *next; p != NULL; p = next) {
            memcpy(&next, p, sizeof(next));
            sdallocx(p, spare_bytes(i), heap_flags(heap));
        }
        *spare = (struct heap_spare){0};
    }
}

void heap_init(struct heap *heap)
{
    size_t size = sizeof(unsigned);
    *heap = (struct heap){.core = {heap_alloc, heap_release, heap}};
    int failed = mallctl("arenas.create", &heap->arena, &size, NULL, 0);
    assert(failed == 0);
    failed = mallctl("tcache.create", &heap->cache, &size, NULL, 0);
    assert(failed == 0);
}

void heap_free(struct heap *heap)
{
    heap_free_spares(heap);
    int failed = mallctl("tcache.destroy", NULL, NULL, &heap->cache, sizeof(heap->cache));
    assert(failed == 0);
}

static size_t heap_stat(const struct heap *heap, const char *kind)
{
    char name[64];
    size_t bytes = 0;
    size_t size = sizeof(bytes);
    snprintf(name, sizeof(name), "stats.arenas.%u.%s.allocated", heap->arena, kind);
    return mallctl(name, &bytes, &size, NULL, 0) == 0 ? bytes : 0;
}

void heap_refresh(void)
{
    uint64_t epoch = 1;
    mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
}

size_t heap_used_bytes(const struct heap *heap)
{
    size_t spare = 0;
    for (unsigned i = 1; i < HEAP_SPARE_SIZES; i++)
        spare += heap->spares[i].n * nallocx(spare_bytes(i), heap_flags(heap));
    size_t held = heap_stat(heap, "small") + heap_stat(heap, "large");
    return held > spare ? held - spare : 0; /* there may be more of them than at the last look */
}

#else

static void *heap_alloc(void *ctx, size_t size)
{
    struct heap *heap = ctx;
    heap->allocated_bytes += size;
    return mem_alloc(size);
}

static void heap_release(void *ctx, void *p, size_t size)
{
    struct heap *heap = ctx;
    heap->allocated_bytes -= size;
    free(p);
}

void heap_init(struct heap *heap)
{
    *heap = (struct heap){.core = {heap_alloc, heap_release, heap}};
}

void heap_free(struct heap *heap)
{
    assert(heap->allocated_bytes == 0);
}

void heap_refresh(void)
{
}

size_t heap_used_bytes(const struct heap *heap)
{
    return heap->allocated_bytes;
}

#endif
