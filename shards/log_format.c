/*
 * log_format: writing and checking the parts of a segment file; the format is told in
 * log_format.h.
 *
 * Everything read from disk is copied into a struct before it is looked at, and no length is
 * believed before it has been compared with what is there.
 */
#include "shards/log_format.h"

/* xxHash 0.8 as a header (Debian: libxxhash-dev), BSD 2-clause; XXH3 is inlined from it, here
 * only. https://github.com/Cyan4973/xxHash */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t log_checksum(const void *p, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(p, n, seed);
}

uint64_t log_segment_seed(const uint8_t *hash_key, uint32_t number)
{
    return XXH3_64bits_withSeed(hash_key, DATADIR_HASH_KEY_BYTES, number);
}

void log_segment_header_write(const struct datadir_segment *segment, uint64_t seed, char *page)
{
    struct log_segment_header header = {
        .version = LOG_FORMAT_VERSION,
        .generation = segment->generation,
        .shard = segment->shard,
        .number = segment->number,
        .bytes = segment->bytes,
    };
    memcpy(header.magic, LOG_SEGMENT_MAGIC, sizeof(header.magic));
    header.checksum = log_checksum(&header, offsetof(struct log_segment_header, checksum), seed);
    memset(page, 0, LOG_SEGMENT_HEADER_BYTES);
    memcpy(page, &header, sizeof(header));
}

const char *log_segment_header_check(const struct log_segment_header *header,
                                     const struct datadir_segment *segment, uint64_t seed)
{
    if (memcmp(header->magic, LOG_SEGMENT_MAGIC, sizeof(header->magic)) != 0)
        return "is no segment, or its header is damaged";
    if (header->version > LOG_FORMAT_VERSION)
        return "was written by a newer version of Atoll";
    if (header->version < LOG_FORMAT_VERSION)
        return "was written by an older version of Atoll, in a format that this one does not read";
    uint64_t checksum = log_checksum(header, offsetof(struct log_segment_header, checksum), seed);
    if (header->checksum != checksum)
        return "has a damaged header, or belongs to another data directory";
    if (header->generation != segment->generation || header->shard != segment->shard ||
        header->number != segment->number || header->bytes != segment->bytes)
        return "is not the segment that the manifest names";
    return NULL;
}

enum { REWRITTEN_HEADER_AT = sizeof(struct log_segment_header) };

static uint64_t rewritten_checksum(const struct log_rewritten_header *header, uint64_t seed)
{
    return log_checksum(header, offsetof(struct log_rewritten_header, checksum),
                        seed + REWRITTEN_HEADER_AT);
}

static uint64_t extents_checksum(const struct datadir_extent *extents, uint32_t n, uint64_t offset,
                                 uint64_t seed)
{
    return log_checksum(extents, n * sizeof(extents[0]), seed + offset);
}

void log_rewritten_header_write(const struct datadir_segment *segment,
                                const struct datadir_extent *extents, uint32_t extents_n,
                                uint64_t seed, char *page)
{
    struct log_rewritten_header header = {
        .version = segment->version,
        .extents_n = extents_n,
        .extents_offset = segment->bytes - (uint64_t)extents_n * sizeof(extents[0]),
    };
    header.extents_checksum = extents_checksum(extents, extents_n, header.extents_offset, seed);
    header.checksum = rewritten_checksum(&header, seed);
    log_segment_header_write(segment, seed, page);
    memcpy(page + REWRITTEN_HEADER_AT, &header, sizeof(header));
}

const char *log_rewritten_header_check(const char *page, const struct datadir_segment *segment,
                                       uint64_t seed, struct log_rewritten_header *header)
{
    struct log_segment_header first;
    memcpy(&first, page, sizeof(first));
    memcpy(header, page + REWRITTEN_HEADER_AT, sizeof(*header));
    const char *wrong = log_segment_header_check(&first, segment, seed);
    if (wrong != NULL)
        return wrong;
    if (header->checksum != rewritten_checksum(header, seed))
        return "has a damaged header";
    if (header->version != segment->version)
        return "is not the version of the segment that the manifest names";
    if (header->extents_offset < LOG_SEGMENT_HEADER_BYTES ||
        header->extents_offset % LOG_ALIGN_BYTES != 0 || header->extents_offset > segment->bytes ||
        segment->bytes - header->extents_offset !=
            (uint64_t)header->extents_n * sizeof(struct datadir_extent))
        return "has a header that makes no sense";
    return NULL;
}

bool log_extents_check(const struct datadir_extent *extents,
                       const struct log_rewritten_header *header, uint64_t seed)
{
    uint64_t stood_to = LOG_SEGMENT_HEADER_BYTES, stands_to = LOG_SEGMENT_HEADER_BYTES;
    if (header->extents_checksum !=
        extents_checksum(extents, header->extents_n, header->extents_offset, seed))
        return false;
    for (uint32_t i = 0; i < header->extents_n; i++) {
        uint64_t end = i + 1 < header->extents_n ? extents[i + 1].at : header->extents_offset;
        if (extents[i].offset < stood_to || extents[i].offset % LOG_ALIGN_BYTES != 0 ||
            extents[i].at != stands_to || end <= extents[i].at || end % LOG_ALIGN_BYTES != 0)
            return false;
        stood_to = extents[i].offset + (end - extents[i].at);
        stands_to = end;
    }
    return stands_to == header->extents_offset;
}

enum { BATCH_CHECKED_FROM = offsetof(struct log_batch_header, header_checksum) };
enum { HEADER_CHECKED_FROM = offsetof(struct log_batch_header, magic) };

static uint64_t batch_header_checksum(const struct log_batch_header *header, uint64_t seed)
{
    return log_checksum((const char *)header + HEADER_CHECKED_FROM,
                        sizeof(*header) - HEADER_CHECKED_FROM, seed);
}

void log_batch_seal(char *batch, uint64_t seed)
{
    struct log_batch_header header;
    memcpy(&header, batch, sizeof(header));
    header.header_checksum = batch_header_checksum(&header, seed);
    memcpy(batch, &header, sizeof(header));
    header.checksum =
        log_checksum(batch + BATCH_CHECKED_FROM, header.bytes - BATCH_CHECKED_FROM, seed);
    memcpy(batch, &header, sizeof(header));
}

bool log_batch_header_check(const struct log_batch_header *header, uint64_t available,
                            uint64_t seed)
{
    return header->magic == LOG_BATCH_MAGIC && header->bytes > sizeof(*header) &&
           header->bytes % LOG_ALIGN_BYTES == 0 && header->bytes <= available &&
           header->header_checksum == batch_header_checksum(header, seed);
}

bool log_batch_check(const char *batch, const struct log_batch_header *header, uint64_t seed)
{
    return header->checksum ==
           log_checksum(batch + BATCH_CHECKED_FROM, header->bytes - BATCH_CHECKED_FROM, seed);
}

enum { RECORD_CHECKED_FROM = offsetof(struct log_record_header, bytes) };

void log_record_encode(const struct log_record *record, char *p, uint64_t seed)
{
    size_t before = sizeof(struct log_record_header) + record->session.n + record->head.n;
    size_t bytes = before + record->body.n;
    struct log_record_header header = {
        .bytes = (uint32_t)bytes,
        .events = record->events,
        .epoch = record->epoch,
        .seq = record->seq,
        .ts_ms = record->ts_ms,
        .previous = record->previous,
        .type = record->type,
        .session_bytes = (uint8_t)record->session.n,
        .flags = record->flags,
    };
    char *at = p + sizeof(header);
    memcpy(p, &header, sizeof(header));
    memcpy(at, record->session.p, record->session.n);
    if (record->head.n != 0)
        memcpy(at + record->session.n, record->head.p, record->head.n);
    if (record->body.n != 0)
        memcpy(p + before, record->body.p, record->body.n);
    memset(p + bytes, 0, log_align(bytes) - bytes);
    header.checksum = log_checksum(p + RECORD_CHECKED_FROM, bytes - RECORD_CHECKED_FROM, seed);
    memcpy(p, &header.checksum, sizeof(header.checksum));
}

bool log_record_header_check(const struct log_record_header *header, size_t available)
{
    return header->session_bytes >= 1 && header->session_bytes <= LOG_SESSION_MAX_BYTES &&
           header->bytes >= sizeof(*header) + header->session_bytes &&
           log_align(header->bytes) <= available;
}

bool log_record_parse(const char *p, size_t available, struct log_record *record, size_t *bytes)
{
    struct log_record_header header;
    if (available < sizeof(header))
        return false;
    memcpy(&header, p, sizeof(header));
    if (!log_record_header_check(&header, available))
        return false;
    const char *session = p + sizeof(header);
    *record = (struct log_record){
        .type = header.type,
        .flags = header.flags,
        .session = {session, header.session_bytes},
        .epoch = header.epoch,
        .seq = header.seq,
        .events = header.events,
        .ts_ms = header.ts_ms,
        .previous = header.previous,
        .body = {session + header.session_bytes,
                 header.bytes - sizeof(header) - header.session_bytes},
    };
    *bytes = log_align(header.bytes);
    return true;
}

bool log_record_decode(const char *p, size_t available, uint64_t seed, struct log_record *record,
                       size_t *bytes)
{
    struct log_record_header header;
    if (!log_record_parse(p, available, record, bytes))
        return false;
    memcpy(&header, p, sizeof(header));
    return header.checksum ==
           log_checksum(p + RECORD_CHECKED_FROM, header.bytes - RECORD_CHECKED_FROM, seed);
}
