/*
 * compact: reading a segment for the lives in it, and writing what stays of it to a new file.
 *
 * Normal path: the survey visits every record and counts it to its life, found by a hash of session
 * and epoch. The rewrite visits them again. Those that stay go byte for byte into a buffer, and
 * from there behind the page that is kept for the header; where one did not stand right behind the
 * one before it, a new extent begins. At the end come the table of extents and the header, and the
 * datadir syncs the file and puts it in the place of the old one.
 *
 * Pacing: what is read and written counts against a budget of time, and whenever some milliseconds
 * of it have been used up they are waited out. Time that the work itself takes is not taken off, so
 * the rate stays below what was asked for. Each piece is on its way to the disk before the next is
 * written: a long queue there would stand between a commit and its disk.
 *
 * Failure: a record that does not check, as it is read or as it has been copied; something other
 * than zeros behind the last whole batch; another size than the survey has found: an error, and the
 * old file stays. So does it where the new one cannot be written.
 */
#include "shards/compact.h"
#include "shards/log_format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TABLE_SLOTS_MIN = 1024,
    PIECE_BYTES = 256 * 1024, /* written in one go */
    ZEROS_BYTES = 64 * 1024,  /* looked at in one go */
    PAUSE_MIN_US = 2000,
    PAUSE_STEP_MS = 20, /* between two looks at `stop` */
};

__attribute__((format(printf, 5, 6))) static int refuse(struct datadir *dir, uint32_t segment,
                                                        char *error, size_t error_size,
                                                        const char *format, ...)
{
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    snprintf(error, error_size, "%s: segment %" PRIu32 " %s", datadir_path(dir), segment, what);
    return -EIO;
}

/* The survey. */

/* A table of indices into the lives, 1 more than they are; 0 is empty. Linear probing, at most half
 * full. */
struct table {
    uint32_t *slots;
    uint32_t mask;
};

struct surveying {
    struct compact_survey *survey;
    struct table table;
    uint32_t lives_cap;
    uint64_t end; /* behind the last record */
};

static uint64_t life_hash(struct str session, uint64_t epoch)
{
    return log_checksum(session.p, session.n, epoch);
}

/* The slot of a life, or the empty one where it belongs. */
static uint32_t *table_slot(const struct table *table, const struct compact_life *lives,
                            struct str session, uint64_t epoch)
{
    uint64_t at = life_hash(session, epoch);
    for (;; at++) {
        uint32_t *slot = &table->slots[at & table->mask];
        if (*slot == 0)
            return slot;
        const struct compact_life *life = &lives[*slot - 1];
        if (life->epoch == epoch && str_equal(life->session, session))
            return slot;
    }
}

static void table_fill(struct table *table, uint32_t slots, const struct compact_survey *survey)
{
    table->slots = mem_zeroed(slots, sizeof(table->slots[0]));
    table->mask = slots - 1;
    for (uint32_t i = 0; i < survey->lives_n; i++) {
        const struct compact_life *life = &survey->lives[i];
        *table_slot(table, survey->lives, life->session, life->epoch) = i + 1;
    }
}

static void table_grow(struct table *table, const struct compact_survey *survey)
{
    if (table->mask + 1 > 2 * survey->lives_n)
        return;
    free(table->slots);
    table_fill(table, 2 * (table->mask + 1), survey);
}

static struct compact_life *survey_life(struct surveying *s, const struct log_record *record)
{
    struct compact_survey *survey = s->survey;
    uint32_t *slot = table_slot(&s->table, survey->lives, record->session, record->epoch);
    if (*slot != 0)
        return &survey->lives[*slot - 1];
    if (survey->lives_n == s->lives_cap) {
        s->lives_cap = s->lives_cap != 0 ? 2 * s->lives_cap : 256;
        survey->lives = mem_realloc(survey->lives, s->lives_cap * sizeof(survey->lives[0]));
    }
    struct compact_life *life = &survey->lives[survey->lives_n++];
    *life = (struct compact_life){
        .session = arena_copy(&survey->arena, record->session),
        .epoch = record->epoch,
        .verdict.from = UINT64_MAX,
    };
    *slot = survey->lives_n;
    table_grow(&s->table, survey);
    return life;
}

/* Whether the record can stay at all. */
static bool has_life(const struct log_record *record)
{
    return record->type == LOG_RECORD_EVENTS || record->type == LOG_RECORD_SNAPSHOT;
}

static int survey_visit(void *ctx, const struct log_record *record, log_position position)
{
    struct surveying *s = ctx;
    struct compact_survey *survey = s->survey;
    uint64_t bytes = log_record_bytes(record->session.n, record->body.n);
    survey->bytes += bytes;
    s->end = (uint32_t)position + bytes;
    if (record->ts_ms > survey->newest_ts_ms)
        survey->newest_ts_ms = record->ts_ms;
    if (has_life(record))
        survey_life(s, record)->bytes += bytes;
    return 0;
}

/* 0, or -errno: behind the last batch stands nothing but the zeros the segment was made of. If it
 * does not, a batch is damaged, and what comes behind it has not been seen. */
static int check_rest(struct datadir *dir, uint32_t segment, uint64_t end, char *error,
                      size_t error_size)
{
    struct fs *fs = datadir_fs(dir);
    const struct datadir_file *file = datadir_hold(dir, segment);
    int result = 0;
    if (file == NULL)
        return refuse(dir, segment, error, error_size, "has gone");
    char *bytes = mem_alloc(ZEROS_BYTES);
    while (file->version == 0 && end < file->bytes && result == 0) {
        uint64_t left = file->bytes - end;
        size_t n = left < ZEROS_BYTES ? (size_t)left : ZEROS_BYTES;
        int64_t got = fs->ops->read(fs, file->fd, bytes, n, end);
        if (got != (int64_t)n)
            result =
                refuse(dir, segment, error, error_size, "cannot be read at offset %" PRIu64, end);
        else if (bytes[0] != 0 || memcmp(bytes, bytes + 1, n - 1) != 0)
            result = refuse(dir, segment, error, error_size,
                            "holds something behind offset %" PRIu64
                            ", where its last whole batch ends: it is damaged",
                            end);
        end += n;
    }
    free(bytes);
    datadir_release(dir, file);
    return result;
}

int compact_survey(struct datadir *dir, uint32_t segment, struct compact_survey **surveyed,
                   char *error, size_t error_size)
{
    struct compact_survey *survey = mem_zeroed(1, sizeof(*survey));
    struct surveying s = {.survey = survey, .end = LOG_SEGMENT_HEADER_BYTES};
    survey->segment = segment;
    table_fill(&s.table, TABLE_SLOTS_MIN, survey);
    int result = log_visit_segment(dir, segment, survey_visit, &s, error, error_size);
    if (result == 0)
        result = check_rest(dir, segment, s.end, error, error_size);
    free(s.table.slots);
    if (result == 0)
        *surveyed = survey;
    else
        compact_survey_free(survey);
    return result;
}

void compact_survey_free(struct compact_survey *survey)
{
    if (survey == NULL)
        return;
    arena_free(&survey->arena);
    free(survey->lives);
    free(survey);
}

/* The rewrite. */

struct rewriting {
    struct datadir *dir;
    struct fs *fs;
    const struct compact_survey *survey;
    struct table table;
    const _Atomic bool *stop;
    struct compact_result *result;
    struct datadir_segment file; /* fd -1: not begun */
    struct buf piece;            /* to be written behind `written` */
    uint64_t written;            /* bytes of the file so far */
    struct datadir_extent *extents;
    uint32_t extents_n, extents_cap;
    uint64_t run_end; /* where the next record of the present run has stood */
    uint64_t seed;
    uint64_t bytes_per_s;
    uint64_t debt_us; /* time that has to be waited out */
    char *error;
    size_t error_size;
};

static bool is_stopped(const struct rewriting *r)
{
    return r->stop != NULL && atomic_load_explicit(r->stop, memory_order_relaxed);
}

/* Waits out what `bytes` have cost; -ECANCELED where it is to stop. */
static int pace(struct rewriting *r, uint64_t bytes)
{
    if (r->bytes_per_s != 0)
        r->debt_us += bytes * 1000000 / r->bytes_per_s;
    while (r->debt_us >= PAUSE_MIN_US && !is_stopped(r)) {
        uint64_t ms = r->debt_us / 1000;
        if (ms > PAUSE_STEP_MS)
            ms = PAUSE_STEP_MS;
        r->fs->ops->pause_ms(r->fs, (unsigned)ms);
        r->debt_us -= ms * 1000;
    }
    return is_stopped(r) ? -ECANCELED : 0;
}

static int refuse_writing(struct rewriting *r, int result)
{
    snprintf(r->error, r->error_size, "%s: segment %" PRIu32 " cannot be rewritten: %s",
             datadir_path(r->dir), r->survey->segment, strerror(-result));
    return result;
}

static int write_at(struct rewriting *r, const void *p, size_t n, uint64_t offset)
{
    int result = r->fs->ops->write(r->fs, r->file.fd, p, n, offset);
    return result < 0 ? refuse_writing(r, result) : 0;
}

static int flush_piece(struct rewriting *r)
{
    size_t n = r->piece.n;
    if (n == 0)
        return 0;
    int result = write_at(r, r->piece.p, n, r->written);
    if (result != 0)
        return result;
    (void)r->fs->ops->write_out(r->fs, r->file.fd, r->written, n); /* only so as not to queue */
    r->written += n;
    r->piece.n = 0;
    return pace(r, n);
}

static bool stays(const struct compact_verdict *verdict, const struct log_record *record,
                  log_position position)
{
    /* A snapshot is of the state before the seq that it names. */
    uint64_t first = record->events != 0 ? record->seq : record->seq - 1;
    return position >= verdict->from || first <= verdict->upto_seq;
}

static void add_extent(struct rewriting *r, uint64_t offset)
{
    if (r->extents_n == r->extents_cap) {
        r->extents_cap = r->extents_cap != 0 ? 2 * r->extents_cap : 64;
        r->extents = mem_realloc(r->extents, r->extents_cap * sizeof(r->extents[0]));
    }
    r->extents[r->extents_n++] =
        (struct datadir_extent){(uint32_t)offset, (uint32_t)(r->written + r->piece.n)};
}

static int begin_file(struct rewriting *r)
{
    int result = datadir_begin_rewrite(r->dir, r->survey->segment, &r->file);
    if (result == 0)
        return 0;
    r->file.fd = -1;
    return refuse_writing(r, result);
}

/* The record's header lies right before its session id, as it was read, and its padding behind. */
static int keep_record(struct rewriting *r, const struct log_record *record, uint64_t offset)
{
    struct log_record copy;
    size_t n = log_record_bytes(record->session.n, record->body.n), copied;
    int result = r->file.fd < 0 ? begin_file(r) : 0;
    if (result == 0 && r->piece.n >= PIECE_BYTES)
        result = flush_piece(r);
    if (result != 0)
        return result;
    if (r->extents_n == 0 || offset != r->run_end)
        add_extent(r, offset);
    char *p = buf_reserve(&r->piece, n);
    memcpy(p, record->session.p - sizeof(struct log_record_header), n);
    if (!log_record_decode(p, n, r->seed + offset, &copy, &copied) || copied != n)
        return refuse(r->dir, r->survey->segment, r->error, r->error_size,
                      "has a record at offset %" PRIu64 " that is damaged as it is copied", offset);
    r->piece.n += n;
    r->run_end = offset + n;
    r->result->kept_bytes += n;
    return 0;
}

static int rewrite_visit(void *ctx, const struct log_record *record, log_position position)
{
    struct rewriting *r = ctx;
    uint64_t bytes = log_record_bytes(record->session.n, record->body.n);
    int result = pace(r, bytes);
    r->result->read_bytes += bytes;
    if (result != 0 || !has_life(record))
        return result;
    uint32_t slot = *table_slot(&r->table, r->survey->lives, record->session, record->epoch);
    if (slot == 0)
        return refuse(r->dir, r->survey->segment, r->error, r->error_size,
                      "holds another life than it did a moment ago");
    if (!stays(&r->survey->lives[slot - 1].verdict, record, position))
        return 0;
    return keep_record(r, record, (uint32_t)position);
}

/* Table and header, and then it takes the old one's place. */
static int finish_file(struct rewriting *r)
{
    char page[LOG_SEGMENT_HEADER_BYTES];
    size_t table_bytes = r->extents_n * sizeof(r->extents[0]);
    int result = flush_piece(r);
    if (result == 0)
        result = write_at(r, r->extents, table_bytes, r->written);
    if (result != 0)
        return result;
    r->file.bytes = r->written + table_bytes;
    log_rewritten_header_write(&r->file, r->extents, r->extents_n, r->seed, page);
    result = write_at(r, page, sizeof(page), 0);
    if (result != 0)
        return result;
    struct datadir_extent *extents = r->extents;
    r->extents = NULL;
    int fd = r->file.fd;
    r->file.fd = -1;
    struct datadir_segment done = r->file;
    done.fd = fd;
    result = datadir_finish_rewrite(r->dir, &done, extents, r->extents_n);
    return result < 0 ? refuse_writing(r, result) : 0;
}

static int drop(struct datadir *dir, uint32_t segment, struct compact_result *result, char *error,
                size_t error_size)
{
    int dropped = datadir_drop_segments(dir, &segment, 1);
    if (dropped < 0) {
        snprintf(error, error_size, "%s: segment %" PRIu32 " cannot be dropped: %s",
                 datadir_path(dir), segment, strerror(-dropped));
        return dropped;
    }
    result->dropped = true;
    return 0;
}

/* Once all records have been visited. */
static int conclude(struct rewriting *r)
{
    uint32_t segment = r->survey->segment;
    const struct compact_result *result = r->result;
    if (result->read_bytes != r->survey->bytes)
        return refuse(r->dir, segment, r->error, r->error_size,
                      "holds %" PRIu64 " bytes of records, but held %" PRIu64 " a moment ago",
                      result->read_bytes, r->survey->bytes);
    if (result->kept_bytes == 0)
        return drop(r->dir, segment, r->result, r->error, r->error_size);
    if (result->kept_bytes == result->read_bytes) {
        r->result->unchanged = true;
        return 0;
    }
    return finish_file(r);
}

/* What the verdicts alone decide, without reading anything: true, and *result is filled. */
static bool is_decided(const struct compact_survey *survey, struct compact_result *result)
{
    log_position begin = log_position_of(survey->segment, 0);
    uint64_t all = 0, none = 0, lives = 0;
    for (uint32_t i = 0; i < survey->lives_n; i++) {
        const struct compact_life *life = &survey->lives[i];
        lives += life->bytes;
        if (life->verdict.from <= begin)
            all += life->bytes;
        else if (life->verdict.from == UINT64_MAX && life->verdict.upto_seq == 0)
            none += life->bytes;
    }
    *result = (struct compact_result){.read_bytes = survey->bytes, .kept_bytes = all};
    result->unchanged = all == survey->bytes && all != 0;
    return result->unchanged || none == lives;
}

static int rewrite(struct rewriting *r)
{
    uint32_t slots = TABLE_SLOTS_MIN;
    while (slots < 2 * r->survey->lives_n)
        slots *= 2;
    table_fill(&r->table, slots, r->survey);
    int result =
        log_visit_segment(r->dir, r->survey->segment, rewrite_visit, r, r->error, r->error_size);
    if (result == 0)
        result = conclude(r);
    if (r->file.fd >= 0)
        datadir_abandon_rewrite(r->dir, &r->file);
    buf_free(&r->piece);
    free(r->extents);
    free(r->table.slots);
    return result;
}

int compact_rewrite(struct datadir *dir, const struct compact_survey *survey, uint64_t bytes_per_s,
                    const _Atomic bool *stop, struct compact_result *result, char *error,
                    size_t error_size)
{
    struct rewriting r = {
        .dir = dir,
        .fs = datadir_fs(dir),
        .survey = survey,
        .stop = stop,
        .result = result,
        .file.fd = -1,
        .written = LOG_SEGMENT_HEADER_BYTES,
        .seed = log_segment_seed(datadir_hash_key(dir), survey->segment),
        .bytes_per_s = bytes_per_s,
        .error = error,
        .error_size = error_size,
    };
    if (is_stopped(&r))
        return -ECANCELED;
    if (is_decided(survey, result))
        return result->unchanged ? 0 : drop(dir, survey->segment, result, error, error_size);
    *result = (struct compact_result){0};
    return rewrite(&r);
}
