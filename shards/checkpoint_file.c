/*
 * checkpoint_file: the bytes of a checkpoint. All numbers are little-endian.
 *
 *   head     64 bytes: magic "ATOLLCKP", version 4, shard 4, zeros, checksum 8 of all before
 *   block *  header of 16 bytes (bytes of the items 4, zero 4, checksum 8 of the items), items
 *
 *   item     type 1, flags 1, id size 1 and id, varint epoch, and by type
 *            SESSION  varint head, varint base, labels 8
 *            EXPIRY   varint ms
 *            PIN, FORK  other size 1 and other, varint other_epoch, varint at
 *            GARBAGE  varint head, varint base, varint at, varint ms
 *            END      varint at
 *
 * An item does not span blocks. Checksums are XXH3-64 with the directory's key and the offset, as
 * in segments. The END item counts those before it, so that no block can be missing.
 */
#include "core/core.h"
#include "shards/checkpoint.h"
#include "shards/log_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { CHECKPOINT_VERSION = 1, BLOCK_HEADER_BYTES = 16, BLOCK_MAX_BYTES = 1 << 20 };

#define CHECKPOINT_MAGIC "ATOLLCKP"

struct block_header {
    uint32_t bytes;
    uint32_t zero;
    uint64_t checksum;
};

_Static_assert(sizeof(struct block_header) == BLOCK_HEADER_BYTES, "on disk");

static uint64_t seed_of(const struct datadir *dir, uint64_t offset)
{
    return log_segment_seed(datadir_hash_key(dir), UINT32_MAX) + offset; /* no segment's */
}

/* ---- writing */

void checkpoint_head_write(struct datadir *dir, uint32_t shard, char head[CHECKPOINT_HEAD_BYTES])
{
    uint32_t version = CHECKPOINT_VERSION;
    memset(head, 0, CHECKPOINT_HEAD_BYTES);
    memcpy(head, CHECKPOINT_MAGIC, 8);
    memcpy(head + 8, &version, sizeof(version));
    memcpy(head + 12, &shard, sizeof(shard));
    uint64_t checksum = log_checksum(head, CHECKPOINT_HEAD_BYTES - 8, seed_of(dir, 0));
    memcpy(head + CHECKPOINT_HEAD_BYTES - 8, &checksum, sizeof(checksum));
}

void checkpoint_block_begin(struct buf *block)
{
    static const struct block_header none;
    block->n = 0;
    buf_add(block, &none, sizeof(none));
}

static void add_varint(struct buf *block, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        buf_add_byte(block, (char)(value | 0x80));
    buf_add_byte(block, (char)value);
}

static void add_id(struct buf *block, struct str id)
{
    buf_add_byte(block, (char)id.n);
    buf_add_str(block, id);
}

void checkpoint_item_add(struct buf *block, const struct checkpoint_item *item)
{
    buf_add_byte(block, (char)item->type);
    buf_add_byte(block, (char)item->flags);
    add_id(block, item->id);
    add_varint(block, item->epoch);
    switch ((enum checkpoint_type)item->type) {
    case CHECKPOINT_SESSION:
        add_varint(block, item->head);
        add_varint(block, item->base);
        buf_add(block, &item->labels, sizeof(item->labels));
        break;
    case CHECKPOINT_EXPIRY:
        add_varint(block, (uint64_t)item->ms);
        break;
    case CHECKPOINT_PIN:
    case CHECKPOINT_FORK:
        add_id(block, item->other);
        add_varint(block, item->other_epoch);
        add_varint(block, item->at);
        break;
    case CHECKPOINT_GARBAGE:
        add_varint(block, item->head);
        add_varint(block, item->base);
        add_varint(block, item->at);
        add_varint(block, (uint64_t)item->ms);
        break;
    case CHECKPOINT_END:
        add_varint(block, item->at);
        break;
    }
}

void checkpoint_block_seal(struct datadir *dir, struct buf *block, uint64_t offset)
{
    assert(block->n <= BLOCK_MAX_BYTES);
    struct block_header header = {.bytes = (uint32_t)(block->n - sizeof(header))};
    header.checksum = log_checksum(block->p + sizeof(header), header.bytes, seed_of(dir, offset));
    memcpy(block->p, &header, sizeof(header));
}

/* ---- reading */

struct input {
    const char *p, *end;
    bool failed;
};

static const char *take(struct input *in, size_t n)
{
    static const char zeros[256];
    if (n > (size_t)(in->end - in->p)) {
        in->failed = true;
        in->p = in->end;
        return zeros;
    }
    in->p += n;
    return in->p - n;
}

static uint64_t take_varint(struct input *in)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = (uint8_t)*take(in, 1);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    in->failed = true;
    return 0;
}

static struct str take_id(struct input *in)
{
    size_t n = (uint8_t)*take(in, 1);
    return (struct str){take(in, n), in->failed ? 0 : n};
}

static void take_item(struct input *in, struct checkpoint_item *item)
{
    *item = (struct checkpoint_item){.type = (uint8_t)*take(in, 1)};
    item->flags = (uint8_t)*take(in, 1);
    item->id = take_id(in);
    item->epoch = take_varint(in);
    switch ((enum checkpoint_type)item->type) {
    case CHECKPOINT_SESSION:
        item->head = take_varint(in);
        item->base = take_varint(in);
        memcpy(&item->labels, take(in, sizeof(item->labels)), sizeof(item->labels));
        break;
    case CHECKPOINT_EXPIRY:
        item->ms = (int64_t)take_varint(in);
        break;
    case CHECKPOINT_PIN:
    case CHECKPOINT_FORK:
        item->other = take_id(in);
        item->other_epoch = take_varint(in);
        item->at = take_varint(in);
        break;
    case CHECKPOINT_GARBAGE:
        item->head = take_varint(in);
        item->base = take_varint(in);
        item->at = take_varint(in);
        item->ms = (int64_t)take_varint(in);
        break;
    case CHECKPOINT_END:
        item->at = take_varint(in);
        break;
    default:
        in->failed = true;
    }
    bool named = item->type == CHECKPOINT_END || core_session_id_valid(item->id);
    bool other = item->type != CHECKPOINT_PIN && item->type != CHECKPOINT_FORK;
    if (!named || (!other && !core_id_valid(item->other)))
        in->failed = true;
}

struct source {
    struct datadir *dir;
    const struct datadir_checkpoint *checkpoint;
    int fd;
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int damaged(const struct source *source,
                                                         uint64_t offset, const char *format, ...)
{
    char what[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    snprintf(source->error, source->error_size,
             "%s/checkpoint-%08" PRIu32 ".dat: %s at offset %" PRIu64, datadir_path(source->dir),
             source->checkpoint->number, what, offset);
    return -EIO;
}

static int read_at(const struct source *source, void *p, size_t n, uint64_t offset)
{
    struct fs *fs = datadir_fs(source->dir);
    int64_t got = fs->ops->read(fs, source->fd, p, n, offset);
    if (got < 0)
        return damaged(source, offset, "cannot be read (%s)", strerror((int)-got));
    return (size_t)got == n ? 0 : damaged(source, offset, "ends too early");
}

static int check_head(const struct source *source)
{
    char head[CHECKPOINT_HEAD_BYTES];
    uint64_t checksum;
    uint32_t version;
    int result = read_at(source, head, sizeof(head), 0);
    if (result != 0)
        return result;
    memcpy(&version, head + 8, sizeof(version));
    memcpy(&checksum, head + sizeof(head) - 8, sizeof(checksum));
    if (memcmp(head, CHECKPOINT_MAGIC, 8) != 0)
        return damaged(source, 0, "is no checkpoint");
    if (version != CHECKPOINT_VERSION)
        return damaged(source, 8, "has format %" PRIu32 ", this program reads %d,", version,
                       CHECKPOINT_VERSION);
    if (checksum != log_checksum(head, sizeof(head) - 8, seed_of(source->dir, 0)))
        return damaged(source, 0, "is damaged");
    return 0;
}

static int visit_items(const struct source *source, struct input *in, uint64_t offset,
                       uint64_t *items, bool *ended, checkpoint_visit *visit, void *ctx)
{
    while (in->p != in->end) {
        struct checkpoint_item item;
        take_item(in, &item);
        if (in->failed || *ended || (item.type == CHECKPOINT_END && item.at != *items))
            return damaged(source, offset, "does not fit together");
        *ended = item.type == CHECKPOINT_END;
        ++*items;
        int result = visit(ctx, &item);
        if (result != 0)
            return result;
    }
    return 0;
}

static int visit_blocks(const struct source *source, struct buf *block, checkpoint_visit *visit,
                        void *ctx, _Atomic uint64_t *bytes)
{
    uint64_t offset = CHECKPOINT_HEAD_BYTES, items = 0;
    bool ended = false;
    int result = 0;
    while (result == 0 && offset < source->checkpoint->bytes) {
        struct block_header header;
        result = read_at(source, &header, sizeof(header), offset);
        if (result == 0 && (header.bytes == 0 || header.bytes > BLOCK_MAX_BYTES))
            result = damaged(source, offset, "is damaged");
        if (result != 0)
            break;
        block->n = 0;
        result = read_at(source, buf_reserve(block, header.bytes), header.bytes,
                         offset + sizeof(header));
        if (result == 0 &&
            header.checksum != log_checksum(block->p, header.bytes, seed_of(source->dir, offset)))
            result = damaged(source, offset, "is damaged");
        struct input in = {block->p, block->p + header.bytes, false};
        if (result == 0)
            result = visit_items(source, &in, offset, &items, &ended, visit, ctx);
        offset += sizeof(header) + header.bytes;
        if (bytes != NULL)
            *bytes += sizeof(header) + header.bytes;
    }
    return result == 0 && !ended ? damaged(source, offset, "ends too early") : result;
}

int checkpoint_visit_file(struct datadir *dir, const struct datadir_checkpoint *checkpoint,
                          checkpoint_visit *visit, void *ctx, _Atomic uint64_t *bytes, char *error,
                          size_t error_size)
{
    struct source source = {dir, checkpoint, -1, error, error_size};
    struct buf block = {0};
    source.fd = datadir_open_checkpoint(dir, checkpoint);
    if (source.fd < 0)
        return damaged(&source, 0, "cannot be opened (%s)", strerror(-source.fd));
    int result = check_head(&source);
    if (result == 0)
        result = visit_blocks(&source, &block, visit, ctx, bytes);
    struct fs *fs = datadir_fs(dir);
    fs->ops->close(fs, source.fd);
    buf_free(&block);
    return result;
}
