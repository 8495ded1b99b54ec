#include "shards/heap.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef ATOLL_JEMALLOC

#include <jemalloc/jemalloc.h>

static int heap_flags(const struct heap *heap)
{
    return MALLOCX_ARENA(heap->arena) | MALLOCX_TCACHE(heap->cache);
}

static void *heap_alloc(void *ctx, size_t size)
{
    struct heap *heap = ctx;
    void *p = mallocx(size, heap_flags(heap));
    if (p == NULL) {
        fprintf(stderr, "atoll: out of memory (%zu bytes wanted)\n", size);
        abort();
    }
    heap->allocated_bytes += size;
    return p;
}

static void heap_release(void *ctx, void *p, size_t size)
{
    struct heap *heap = ctx;
    heap->allocated_bytes -= size;
    sdallocx(p, size, heap_flags(heap));
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

size_t heap_used_bytes(const struct heap *heap)
{
    uint64_t epoch = 1;
    mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
    return heap_stat(heap, "small") + heap_stat(heap, "large");
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

size_t heap_used_bytes(const struct heap *heap)
{
    return heap->allocated_bytes;
}

#endif
