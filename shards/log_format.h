/*
 * log_format: the bytes of a segment file, shared by those who write and those who read them.
 * All numbers are little-endian.
 *
 *   segment   header of 4 KiB, then batches, each starting on a multiple of 8, then zeros
 *   batch     header of 56 bytes, then its records, each starting on a multiple of 8
 *   record    header of 56 bytes, session id, body, zeros up to a multiple of 8
 *
 * A segment that a compaction has rewritten has no batches:
 *
 *   rewritten header of 4 KiB (log_segment_header, log_rewritten_header, zeros), then runs of
 *             records, byte for byte as they were written, then the table of extents: where each
 *             run stood, and where it stands
 *
 * A batch is what one write makes durable, and never spans segments. Batches of one log (generation
 * and shard) are numbered without gaps, across its segments; that, and not where a segment stops
 * being filled, says whether anything is missing.
 *
 * Checksums are XXH3-64 (xxHash by Yann Collet, https://github.com/Cyan4973/xxHash), seeded with
 * the directory's secret key, the segment's number and the offset. So bytes only check where they
 * were written: neither what an older life or another directory left, nor a body in which a client
 * has put something that looks like a batch, is ever taken for one.
 *
 * A batch names the newest batch that was known to be on disk when it was written. With LOG_COMMIT
 * that is always the one before it. With LOG_RELAXED a machine's crash may take any of the batches
 * after it. That tells a torn tail from corruption: a bad batch is corruption if a later one stands
 * in the log that was written when the bad one had been on disk.
 */
#ifndef ATOLL_SHARDS_LOG_FORMAT_H
#define ATOLL_SHARDS_LOG_FORMAT_H

#include "shards/log.h"

enum {
    LOG_FORMAT_VERSION = 2,
    LOG_SEGMENT_HEADER_BYTES = 4096,
    LOG_BATCH_MAGIC = 0x48435442, /* "BTCH" */
    LOG_ALIGN_BYTES = 8,
    LOG_SESSION_MAX_BYTES = 64,
};

#define LOG_SEGMENT_MAGIC "ATOLLSEG"
#define LOG_SEGMENT_MIN_BYTES (UINT64_C(16) * 1024)
#define LOG_SEGMENT_MAX_BYTES (UINT64_C(1) << 32) /* offsets have 32 bits */

struct log_segment_header {
    char magic[8];
    uint32_t version;
    uint32_t generation;
    uint32_t shard;
    uint32_t number;
    uint64_t bytes;    /* of the file */
    uint64_t checksum; /* of all before */
};

/* Behind log_segment_header in the file of a rewritten segment. */
struct log_rewritten_header {
    uint32_t version; /* of the segment, as the manifest says */
    uint32_t extents_n;
    uint64_t extents_offset;   /* of the table: the runs end there, the file behind the table */
    uint64_t extents_checksum; /* of the table */
    uint64_t checksum;         /* of all before, in this struct */
};

struct log_batch_header {
    uint64_t checksum;        /* of all behind, to the batch's end */
    uint64_t header_checksum; /* of the header's members behind */
    uint32_t magic;
    uint32_t bytes;  /* of the whole batch, a multiple of 8 */
    uint64_t number; /* from 1 */
    uint64_t start;  /* number of the start that wrote it */
    uint64_t synced; /* newest batch known to be on disk when this one was written */
    uint32_t records;
    uint32_t zero;
};

struct log_record_header {
    uint64_t checksum; /* of all behind, to the body's end */
    uint32_t bytes; /* header, session id and body; the next record starts at the multiple of 8 */
    uint32_t events;
    uint64_t epoch;
    uint64_t seq;
    int64_t ts_ms;
    uint64_t previous;
    uint8_t type;
    uint8_t session_bytes;
    uint8_t flags;
    uint8_t zero[5];
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are the format");
_Static_assert(sizeof(struct log_segment_header) == 40, "on disk");
_Static_assert(offsetof(struct log_segment_header, version) == 8, "on disk, in every version");
_Static_assert(offsetof(struct log_segment_header, generation) == 12, "on disk");
_Static_assert(offsetof(struct log_segment_header, shard) == 16, "on disk");
_Static_assert(offsetof(struct log_segment_header, number) == 20, "on disk");
_Static_assert(offsetof(struct log_segment_header, bytes) == 24, "on disk");
_Static_assert(offsetof(struct log_segment_header, checksum) == 32, "on disk");
_Static_assert(sizeof(struct log_rewritten_header) == 32, "on disk");
_Static_assert(offsetof(struct log_rewritten_header, extents_n) == 4, "on disk");
_Static_assert(offsetof(struct log_rewritten_header, extents_offset) == 8, "on disk");
_Static_assert(offsetof(struct log_rewritten_header, extents_checksum) == 16, "on disk");
_Static_assert(offsetof(struct log_rewritten_header, checksum) == 24, "on disk");
_Static_assert(sizeof(struct datadir_extent) == 8, "on disk");
_Static_assert(offsetof(struct datadir_extent, at) == 4, "on disk");
_Static_assert(sizeof(struct log_batch_header) == 56, "on disk");
_Static_assert(offsetof(struct log_batch_header, header_checksum) == 8, "on disk");
_Static_assert(offsetof(struct log_batch_header, magic) == 16, "on disk");
_Static_assert(offsetof(struct log_batch_header, bytes) == 20, "on disk");
_Static_assert(offsetof(struct log_batch_header, number) == 24, "on disk");
_Static_assert(offsetof(struct log_batch_header, start) == 32, "on disk");
_Static_assert(offsetof(struct log_batch_header, synced) == 40, "on disk");
_Static_assert(offsetof(struct log_batch_header, records) == 48, "on disk");
_Static_assert(sizeof(struct log_record_header) == 56, "on disk");
_Static_assert(offsetof(struct log_record_header, bytes) == 8, "on disk");
_Static_assert(offsetof(struct log_record_header, events) == 12, "on disk");
_Static_assert(offsetof(struct log_record_header, epoch) == 16, "on disk");
_Static_assert(offsetof(struct log_record_header, seq) == 24, "on disk");
_Static_assert(offsetof(struct log_record_header, ts_ms) == 32, "on disk");
_Static_assert(offsetof(struct log_record_header, previous) == 40, "on disk");
_Static_assert(offsetof(struct log_record_header, type) == 48, "on disk");
_Static_assert(offsetof(struct log_record_header, session_bytes) == 49, "on disk");
_Static_assert(offsetof(struct log_record_header, flags) == 50, "on disk");
_Static_assert(sizeof(struct log_batch_header) % LOG_ALIGN_BYTES == 0, "records stay aligned");

static inline size_t log_align(size_t n)
{
    return (n + LOG_ALIGN_BYTES - 1) & ~(size_t)(LOG_ALIGN_BYTES - 1);
}

static inline log_position log_position_of(uint32_t segment, uint64_t offset)
{
    return (log_position)segment << 32 | offset;
}

uint64_t log_checksum(const void *p, size_t n, uint64_t seed);

/* The seed of everything in a segment, to which its offset is added. */
uint64_t log_segment_seed(const uint8_t *hash_key, uint32_t number);

/* The first LOG_SEGMENT_HEADER_BYTES of a segment, into `page`. */
void log_segment_header_write(const struct datadir_segment *segment, uint64_t seed, char *page);
/* NULL, or what is wrong with it ("is damaged: …"), a part of a sentence. */
const char *log_segment_header_check(const struct log_segment_header *header,
                                     const struct datadir_segment *segment, uint64_t seed);

/*
 * The same for a rewritten segment, whose `bytes` are the whole file's: the runs begin behind the
 * page, and the table of `extents_n` extents is the file's end.
 */
void log_rewritten_header_write(const struct datadir_segment *segment,
                                const struct datadir_extent *extents, uint32_t extents_n,
                                uint64_t seed, char *page);
/* NULL, and fills `header`; or what is wrong with the page. The checksum of the table is not looked
 * at. */
const char *log_rewritten_header_check(const char *page, const struct datadir_segment *segment,
                                       uint64_t seed, struct log_rewritten_header *header);
/* Whether the table that the header tells of is whole, in order, and within the runs. */
bool log_extents_check(const struct datadir_extent *extents,
                       const struct log_rewritten_header *header, uint64_t seed);

/* Fills in the checksums of a batch that is complete but for them. `seed`: with its offset. */
void log_batch_seal(char *batch, uint64_t seed);
/* Whether `header` is one, of a batch that ends within `available` bytes from its start. */
bool log_batch_header_check(const struct log_batch_header *header, uint64_t available,
                            uint64_t seed);
/* Whether the whole batch, whose header has checked, is as it was written. */
bool log_batch_check(const char *batch, const struct log_batch_header *header, uint64_t seed);

/* Bytes of a record in a batch, padding included. */
static inline size_t log_record_bytes(size_t session_bytes, size_t body_bytes)
{
    return log_align(sizeof(struct log_record_header) + session_bytes + body_bytes);
}

static inline size_t log_record_size(const struct log_record *record)
{
    return log_record_bytes(record->session.n, record->head.n + record->body.n);
}

/* Writes the record at `p`, where log_record_size bytes are free. `seed`: with its offset. */
void log_record_encode(const struct log_record *record, char *p, uint64_t seed);
/* Whether a header could be one of a record that ends within `available` bytes. */
bool log_record_header_check(const struct log_record_header *header, size_t available);
/* Fills `record`, whose strings point to `p`; false where it is none. For a record in a batch that
 * has checked: its own checksum is not looked at. */
bool log_record_parse(const char *p, size_t available, struct log_record *record, size_t *bytes);
/* The same for any record; false also where its checksum is wrong. */
bool log_record_decode(const char *p, size_t available, uint64_t seed, struct log_record *record,
                       size_t *bytes);

#endif
