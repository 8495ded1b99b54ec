#include "server/gzip.h"

#include <zlib.h>

enum { RAW_WINDOW_BITS = -15, MEMORY_LEVEL = 8, FLUSH_BYTES = 16 };

static uint32_t crc_of(struct str text)
{
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), (const Bytef *)text.p, text.n);
}

static void count(struct gzip *gzip, struct str text)
{
    gzip->crc = (uint32_t)crc32_z(gzip->crc, (const Bytef *)text.p, text.n);
    gzip->size += (uint32_t)text.n;
}

struct chunk *gzip_begin(struct gzip *gzip)
{
    static const char head[GZIP_HEAD_BYTES] = {0x1f, (char)0x8b, Z_DEFLATED, 0, 0,
                                               0,    0,          0,          0, (char)255};
    *gzip = (struct gzip){.crc = (uint32_t)crc32_z(0, NULL, 0)};
    return chunk_of((struct str){head, sizeof(head)});
}

struct chunk *gzip_store(struct gzip *gzip, struct str text)
{
    assert(text.n != 0 && text.n < GZIP_MIN_BYTES);
    struct chunk *chunk = chunk_new(GZIP_STORED_BYTES);
    uint16_t n = (uint16_t)text.n;
    const unsigned char head[GZIP_STORED_BYTES] = {0, (unsigned char)n, (unsigned char)(n >> 8),
                                                   (unsigned char)~n, (unsigned char)(~n >> 8)};
    memcpy(chunk->p, head, sizeof(head));
    chunk->n = sizeof(head);
    count(gzip, text);
    return chunk;
}

static struct chunk *deflated(struct str text)
{
    z_stream z = {0};
    int rc = deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, RAW_WINDOW_BITS, MEMORY_LEVEL,
                          Z_DEFAULT_STRATEGY);
    assert(rc == Z_OK); /* it can fail for want of memory alone */
    assert(text.n <= UINT32_MAX / 2);
    size_t room = deflateBound(&z, text.n) + FLUSH_BYTES;
    struct chunk *chunk = chunk_new(room);
    z.next_in = (Bytef *)(uintptr_t)text.p;
    z.avail_in = (uInt)text.n;
    z.next_out = (Bytef *)chunk->p;
    z.avail_out = (uInt)room;
    rc = deflate(&z, Z_SYNC_FLUSH);
    assert(rc == Z_OK && z.avail_in == 0 && z.avail_out != 0);
    chunk->n = room - z.avail_out;
    deflateEnd(&z);
    chunk->crc = crc_of(text);
    return chunk;
}

struct chunk *gzip_deflate(struct gzip *gzip, struct chunk *chunk, struct str text)
{
    bool whole = text.n == chunk->n;
    struct chunk *made = whole && chunk->deflated != NULL ? chunk->deflated : deflated(text);
    gzip->crc = (uint32_t)crc32_combine(gzip->crc, made->crc, (z_off_t)text.n);
    gzip->size += (uint32_t)text.n;
    if (!whole)
        return made;
    chunk->deflated = made;
    return chunk_hold(made);
}

struct chunk *gzip_end(const struct gzip *gzip)
{
    char tail[GZIP_TAIL_BYTES] = {1, 0, 0, (char)0xff, (char)0xff};
    for (unsigned i = 0; i < 4; i++) {
        tail[5 + i] = (char)(gzip->crc >> (8 * i));
        tail[9 + i] = (char)(gzip->size >> (8 * i));
    }
    return chunk_of((struct str){tail, sizeof(tail)});
}
