#include "server/chunk.h"

#include <stdlib.h>

struct chunk *chunk_new(size_t size)
{
    struct chunk *chunk = mem_alloc(sizeof(*chunk) + size);
    *chunk = (struct chunk){.references = 1};
    return chunk;
}

struct chunk *chunk_of(struct str text)
{
    struct chunk *chunk = chunk_new(text.n);
    if (text.n != 0)
        memcpy(chunk->p, text.p, text.n);
    chunk->n = text.n;
    return chunk;
}

struct chunk *chunk_hold(struct chunk *chunk)
{
    chunk->references++;
    return chunk;
}

void chunk_release(struct chunk *chunk)
{
    assert(chunk->references != 0);
    if (--chunk->references != 0)
        return;
    if (chunk->deflated != NULL)
        chunk_release(chunk->deflated);
    free(chunk);
}
