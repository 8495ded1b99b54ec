/*
 * manifest: between the manifest's text and struct manifest; the format is told in manifest.h.
 */
#include "shards/manifest.h"
#include "shards/log_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_WORD "atoll-data"
#define CHECKSUM_WORD "checksum "

enum { CHECKSUM_LINE_BYTES = sizeof(CHECKSUM_WORD) - 1 + 16 + 1 };

void manifest_free(struct manifest *m)
{
    free(m->segments);
    free(m->checkpoints);
    free(m->ends);
    *m = (struct manifest){0};
}

/* Room for as many as `grow` would have made for `count`. */
static size_t rounded_up(size_t count)
{
    size_t room = count != 0 ? 1 : 0;
    while (room < count)
        room *= 2;
    return room;
}

/* Doubles an array that is full: it has room for its count, rounded up to a power of two. */
static void *grow(void *items, size_t count, size_t size)
{
    if (count != rounded_up(count))
        return items;
    return mem_realloc(items, rounded_up(count + 1) * size);
}

static void *copy_of(const void *items, size_t count, size_t size)
{
    if (count == 0)
        return NULL;
    return memcpy(mem_alloc(rounded_up(count) * size), items, count * size);
}

void manifest_copy(const struct manifest *m, struct manifest *copy)
{
    *copy = *m;
    copy->segments = copy_of(m->segments, m->segment_count, sizeof(m->segments[0]));
    copy->checkpoints = copy_of(m->checkpoints, m->checkpoint_count, sizeof(m->checkpoints[0]));
    copy->ends = copy_of(m->ends, m->end_count, sizeof(m->ends[0]));
}

/* Where the segment of that number is, or would be. */
static size_t place_of(const struct manifest *m, uint32_t number)
{
    size_t from = 0, to = m->segment_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (m->segments[middle].number < number)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

void manifest_add_segment(struct manifest *m, const struct datadir_segment *segment)
{
    size_t at = place_of(m, segment->number);
    m->segments = grow(m->segments, m->segment_count, sizeof(m->segments[0]));
    memmove(&m->segments[at + 1], &m->segments[at],
            (m->segment_count - at) * sizeof(m->segments[0]));
    m->segments[at] = *segment;
    m->segment_count++;
}

/* The arrays keep their sizes when something is dropped, which may be more than they need. */
void manifest_drop_segment(struct manifest *m, uint32_t number)
{
    size_t at = place_of(m, number);
    if (at == m->segment_count || m->segments[at].number != number)
        return;
    m->segment_count--;
    memmove(&m->segments[at], &m->segments[at + 1],
            (m->segment_count - at) * sizeof(m->segments[0]));
}

struct datadir_segment *manifest_find_segment(const struct manifest *m, uint32_t number)
{
    size_t at = place_of(m, number);
    bool found = at < m->segment_count && m->segments[at].number == number;
    return found ? &m->segments[at] : NULL;
}

struct manifest_end *manifest_find_end(const struct manifest *m, uint32_t generation,
                                       uint32_t shard)
{
    for (size_t i = 0; i < m->end_count; i++) {
        if (m->ends[i].generation == generation && m->ends[i].shard == shard)
            return &m->ends[i];
    }
    return NULL;
}

void manifest_set_end(struct manifest *m, uint32_t generation, uint32_t shard,
                      const struct datadir_end *end)
{
    struct manifest_end *found = manifest_find_end(m, generation, shard);
    if (found == NULL) {
        m->ends = grow(m->ends, m->end_count, sizeof(m->ends[0]));
        found = &m->ends[m->end_count++];
    }
    *found = (struct manifest_end){generation, shard, *end};
}

void manifest_drop_end(struct manifest *m, uint32_t generation, uint32_t shard)
{
    struct manifest_end *found = manifest_find_end(m, generation, shard);
    if (found == NULL)
        return;
    *found = m->ends[m->end_count - 1];
    m->end_count--;
}

struct manifest_checkpoint *manifest_find_checkpoint(const struct manifest *m, uint32_t generation,
                                                     uint32_t shard)
{
    for (size_t i = 0; i < m->checkpoint_count; i++) {
        if (m->checkpoints[i].generation == generation && m->checkpoints[i].shard == shard)
            return &m->checkpoints[i];
    }
    return NULL;
}

void manifest_set_checkpoint(struct manifest *m, uint32_t generation, uint32_t shard,
                             const struct datadir_checkpoint *checkpoint)
{
    struct manifest_checkpoint *found = manifest_find_checkpoint(m, generation, shard);
    if (found == NULL) {
        m->checkpoints = grow(m->checkpoints, m->checkpoint_count, sizeof(m->checkpoints[0]));
        found = &m->checkpoints[m->checkpoint_count++];
    }
    *found = (struct manifest_checkpoint){generation, shard, *checkpoint};
}

void manifest_drop_checkpoints(struct manifest *m)
{
    m->checkpoint_count = 0;
}

uint64_t manifest_bytes(const struct manifest *m)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->segment_count; i++)
        bytes += m->segments[i].bytes;
    for (size_t i = 0; i < m->checkpoint_count; i++)
        bytes += m->checkpoints[i].checkpoint.bytes;
    return bytes;
}

/* Text. */

__attribute__((format(printf, 2, 3))) static void add_line(struct buf *out, const char *format, ...)
{
    enum { LINE_MAX_BYTES = 256 };
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(buf_reserve(out, LINE_MAX_BYTES), LINE_MAX_BYTES, format, arguments);
    va_end(arguments);
    assert(n > 0 && n < LINE_MAX_BYTES);
    out->n += (size_t)n;
}

static void add_place(struct buf *out, const struct datadir_end *place)
{
    add_line(out, " %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", place->segment, place->offset,
             place->batch);
}

void manifest_format(const struct manifest *m, struct buf *out)
{
    size_t start = out->n;
    add_line(out, FIRST_WORD " %d\n", MANIFEST_VERSION);
    add_line(out, "generation %" PRIu32 "\nshards %" PRIu32 "\n", m->generation, m->shards);
    add_line(out, "hash_key ");
    for (size_t i = 0; i < DATADIR_HASH_KEY_BYTES; i++)
        add_line(out, "%02x", m->hash_key[i]);
    add_line(out, "\nstarts %" PRIu64 "\nincarnation %" PRIu64 "\n", m->starts, m->incarnation);
    add_line(out, "next_segment %" PRIu32 "\n", m->next_segment);
    add_line(out, "boot %s\n", m->boot[0] != 0 ? m->boot : "-");
    add_line(out, "durability %s\n", m->relaxed ? "relaxed" : "commit");
    add_line(out, "state %s\n", m->clean ? "clean" : "open");
    for (size_t i = 0; i < m->segment_count; i++) {
        const struct datadir_segment *s = &m->segments[i];
        add_line(out, "segment %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64 "\n",
                 s->number, s->generation, s->shard, s->version, s->bytes);
    }
    for (size_t i = 0; i < m->checkpoint_count; i++) {
        const struct manifest_checkpoint *c = &m->checkpoints[i];
        add_line(out, "checkpoint %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64, c->generation,
                 c->shard, c->checkpoint.number, c->checkpoint.bytes);
        add_place(out, &c->checkpoint.from);
    }
    for (size_t i = 0; i < m->end_count; i++) {
        const struct manifest_end *e = &m->ends[i];
        if (!m->clean && e->generation == m->generation)
            continue;
        add_line(out, "end %" PRIu32 " %" PRIu32, e->generation, e->shard);
        add_place(out, &e->end);
    }
    uint64_t checksum = log_checksum(out->p + start, out->n - start, 0);
    add_line(out, CHECKSUM_WORD "%016" PRIx64 "\n", checksum);
}

/* Where the parser stands; `ok` ends with the first thing that is not as expected. */
struct cursor {
    const char *p;
    const char *end;
    bool ok;
};

static bool skip(struct cursor *c, const char *text)
{
    size_t n = strlen(text);
    if (!c->ok || (size_t)(c->end - c->p) < n || memcmp(c->p, text, n) != 0)
        return false;
    c->p += n;
    return true;
}

static void expect(struct cursor *c, const char *text)
{
    if (!skip(c, text))
        c->ok = false;
}

static uint64_t number(struct cursor *c, uint64_t max)
{
    uint64_t value = 0;
    const char *start = c->p;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
        uint64_t digit = (uint64_t)(*c->p - '0');
        if (value > (max - digit) / 10)
            c->ok = false;
        value = value * 10 + digit;
    }
    if (c->p == start)
        c->ok = false;
    return value;
}

static uint64_t number_line(struct cursor *c, const char *word, uint64_t max)
{
    expect(c, word);
    expect(c, " ");
    uint64_t value = number(c, max);
    expect(c, "\n");
    return value;
}

static uint32_t number_after_space(struct cursor *c)
{
    expect(c, " ");
    return (uint32_t)number(c, UINT32_MAX);
}

static void parse_hash_key(struct cursor *c, uint8_t *key)
{
    static const char digits[] = "0123456789abcdef";
    expect(c, "hash_key ");
    for (size_t i = 0; i < 2 * (size_t)DATADIR_HASH_KEY_BYTES && c->ok; i++) {
        const char *digit = c->p < c->end && *c->p != 0 ? strchr(digits, *c->p) : NULL;
        c->p++;
        if (digit == NULL)
            c->ok = false;
        else
            key[i / 2] = (uint8_t)(key[i / 2] << 4 | (digit - digits));
    }
    expect(c, "\n");
}

static void parse_boot(struct cursor *c, char *boot)
{
    expect(c, "boot ");
    const char *end = c->ok ? memchr(c->p, '\n', (size_t)(c->end - c->p)) : NULL;
    if (end == NULL || end - c->p >= MANIFEST_BOOT_BYTES) {
        c->ok = false;
        return;
    }
    memcpy(boot, c->p, (size_t)(end - c->p));
    if (strcmp(boot, "-") == 0)
        boot[0] = 0;
    c->p = end + 1;
}

static uint64_t long_number_after_space(struct cursor *c, uint64_t max)
{
    expect(c, " ");
    return number(c, max);
}

static void parse_segment(struct cursor *c, struct manifest *m)
{
    struct datadir_segment s = {.fd = -1};
    s.number = number_after_space(c);
    s.generation = number_after_space(c);
    s.shard = number_after_space(c);
    s.version = number_after_space(c);
    s.bytes = long_number_after_space(c, LOG_SEGMENT_MAX_BYTES);
    expect(c, "\n");
    uint32_t before = m->segment_count != 0 ? m->segments[m->segment_count - 1].number : 0;
    uint64_t least = s.version == 0 ? LOG_SEGMENT_MIN_BYTES : LOG_SEGMENT_HEADER_BYTES;
    if (s.number <= before || s.number >= m->next_segment || s.generation == 0 ||
        s.generation > m->generation || s.shard >= DATADIR_SHARDS_MAX ||
        (s.generation == m->generation && s.shard >= m->shards) || s.bytes < least)
        c->ok = false;
    if (c->ok)
        manifest_add_segment(m, &s);
}

/* Whether a log may end or go on there. */
static bool is_place_in_log(const struct manifest *m, uint32_t generation, uint32_t shard,
                            const struct datadir_end *place)
{
    if (generation == 0 || generation > m->generation || shard >= DATADIR_SHARDS_MAX)
        return false;
    if (place->segment == 0)
        return place->offset == 0 && place->batch == 0;
    if (place->segment >= m->next_segment || place->offset < LOG_SEGMENT_HEADER_BYTES ||
        place->offset % LOG_ALIGN_BYTES != 0)
        return false;
    const struct datadir_segment *s = manifest_find_segment(m, place->segment);
    if (s == NULL)
        return true;
    return s->generation == generation && s->shard == shard &&
           (s->version != 0 || place->offset <= s->bytes);
}

static void parse_place(struct cursor *c, struct datadir_end *place)
{
    *place = (struct datadir_end){0};
    place->segment = number_after_space(c);
    place->offset = long_number_after_space(c, LOG_SEGMENT_MAX_BYTES);
    place->batch = long_number_after_space(c, UINT64_MAX);
    expect(c, "\n");
}

static void parse_checkpoint(struct cursor *c, struct manifest *m)
{
    struct datadir_checkpoint checkpoint = {0};
    uint32_t generation = number_after_space(c);
    uint32_t shard = number_after_space(c);
    checkpoint.number = number_after_space(c);
    checkpoint.bytes = long_number_after_space(c, INT64_MAX);
    parse_place(c, &checkpoint.from);
    if (generation != m->generation || shard >= m->shards || checkpoint.number == 0 ||
        manifest_find_checkpoint(m, generation, shard) != NULL ||
        !is_place_in_log(m, generation, shard, &checkpoint.from))
        c->ok = false;
    if (c->ok)
        manifest_set_checkpoint(m, generation, shard, &checkpoint);
}

static void parse_end(struct cursor *c, struct manifest *m)
{
    struct datadir_end end;
    uint32_t generation = number_after_space(c);
    uint32_t shard = number_after_space(c);
    parse_place(c, &end);
    if (manifest_find_end(m, generation, shard) != NULL ||
        !is_place_in_log(m, generation, shard, &end))
        c->ok = false;
    if (c->ok)
        manifest_set_end(m, generation, shard, &end);
}

static void parse_lines(struct cursor *c, struct manifest *m)
{
    m->generation = (uint32_t)number_line(c, "generation", UINT32_MAX);
    m->shards = (uint32_t)number_line(c, "shards", DATADIR_SHARDS_MAX);
    parse_hash_key(c, m->hash_key);
    m->starts = number_line(c, "starts", UINT64_MAX);
    m->incarnation = number_line(c, "incarnation", UINT64_MAX);
    m->next_segment = (uint32_t)number_line(c, "next_segment", MANIFEST_SEGMENTS_MAX);
    parse_boot(c, m->boot);
    m->relaxed = skip(c, "durability relaxed\n");
    if (!m->relaxed)
        expect(c, "durability commit\n");
    m->clean = skip(c, "state clean\n");
    if (!m->clean)
        expect(c, "state open\n");
    while (skip(c, "segment"))
        parse_segment(c, m);
    while (skip(c, "checkpoint"))
        parse_checkpoint(c, m);
    while (skip(c, "end"))
        parse_end(c, m);
    if (c->p != c->end || (m->generation == 0) != (m->shards == 0))
        c->ok = false;
}

/* The text but for its last line; NULL where that is not the checksum of the rest. */
static const char *checked_end(struct str text)
{
    char line[CHECKSUM_LINE_BYTES + 1];
    if (text.n < CHECKSUM_LINE_BYTES)
        return NULL;
    size_t n = text.n - CHECKSUM_LINE_BYTES;
    snprintf(line, sizeof(line), CHECKSUM_WORD "%016" PRIx64 "\n", log_checksum(text.p, n, 0));
    return memcmp(text.p + n, line, CHECKSUM_LINE_BYTES) == 0 ? text.p + n : NULL;
}

__attribute__((format(printf, 4, 5))) static int refuse(int result, char *what, size_t what_size,
                                                        const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, what_size, format, arguments);
    va_end(arguments);
    return result;
}

int manifest_parse(struct manifest *m, struct str text, char *what, size_t what_size)
{
    struct cursor c = {text.p, text.p + text.n, true};
    expect(&c, FIRST_WORD " ");
    uint64_t version = number(&c, UINT32_MAX);
    expect(&c, "\n");
    if (!c.ok || version == 0)
        return refuse(-EIO, what, what_size, "is damaged, or no manifest of Atoll");
    if (version != MANIFEST_VERSION)
        return refuse(-EPROTONOSUPPORT, what, what_size,
                      "was written by %s Atoll: format %" PRIu64 ", this program reads %d",
                      version > MANIFEST_VERSION ? "a newer" : "an older", version,
                      MANIFEST_VERSION);
    c.end = checked_end(text);
    if (c.end == NULL)
        return refuse(-EIO, what, what_size, "is damaged: its checksum is wrong");
    parse_lines(&c, m);
    if (!c.ok) {
        manifest_free(m);
        return refuse(-EIO, what, what_size,
                      "is damaged: its checksum is right, but it makes no sense");
    }
    return 0;
}
