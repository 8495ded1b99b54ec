/*
 * verify: the whole of it.
 *
 * Normal path: the lock is looked at, the manifest is read, its files are opened once to see that
 * they are there. A first walk through all logs checks every byte of every segment, counts, and
 * takes note of forks and pins. How many sessions it has met says into how many passes the second
 * part is cut, so that the sessions of one pass fit into memory: each pass walks the directory
 * again, folds the sessions whose hash is its turn, and compares.
 *
 * Failure: the first fault ends it. A missing segment does not at once: the passes then go on to
 * find out which sessions it hits.
 */
#include "shards/siphash.h"
#include "shards/verify_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SESSION_BYTES = 16 * 1024 /* in memory, on average */ };

#define MEMORY_BYTES (UINT64_C(1) << 30)

/* Faults. */

int verify_fault(struct verify *v, uint64_t offset, const struct log_record *record,
                 const char *format, ...)
{
    char what[512], who[160] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    if (record != NULL)
        snprintf(who, sizeof(who), ", session \"%.*s\", epoch %" PRIu64 ", seq %" PRIu64,
                 (int)record->session.n, record->session.p, record->epoch, record->seq);
    snprintf(v->error, v->error_size, "%s/%s, offset %" PRIu64 "%s: %s", v->fs->path, v->name,
             offset, who, what);
    return -EIO;
}

int verify_unreadable(struct verify *v, uint64_t offset, int result)
{
    snprintf(v->error, v->error_size, "%s/%s, offset %" PRIu64 ": it cannot be read: %s",
             v->fs->path, v->name, offset, strerror(-result));
    return -EIO;
}

void verify_hit(struct verify *v, struct str session)
{
    struct verify_report *report = v->report;
    if (report->hits < VERIFY_HITS_MAX)
        snprintf(report->hit[report->hits], VERIFY_ID_BYTES, "%.*s", (int)session.n, session.p);
    report->hits++;
}

enum verify_place verify_place_of(const struct verify *v, log_position position)
{
    uint32_t number = (uint32_t)(position >> 32);
    if (number == 0 || number >= v->manifest.next_segment)
        return PLACE_NONE;
    for (size_t i = 0; v->report->missing != 0 && i < v->manifest.segment_count; i++) {
        if (v->segments[i].number == number && v->missing[i])
            return PLACE_MISSING;
    }
    const struct datadir_segment *segment = manifest_find_segment(&v->manifest, number);
    return segment != NULL && segment->version == 0 ? PLACE_THERE : PLACE_GONE;
}

uint64_t verify_hash(const struct verify *v, struct str session)
{
    return siphash(v->manifest.hash_key, session.p, session.n);
}

uint64_t verify_epoch_of(struct str text)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's base 32 */
    uint64_t epoch = 0;
    for (size_t i = 0; i < text.n && text.p[i] != '.' && text.p[i] != '_'; i++) {
        const char *digit = text.p[i] != 0 ? strchr(digits, text.p[i]) : NULL;
        if (digit == NULL || epoch >> 59 != 0)
            return 0;
        epoch = epoch << 5 | (uint64_t)(digit - digits);
    }
    return epoch;
}

int verify_read_checkpoint(struct verify *v, const struct manifest_checkpoint *checkpoint,
                           checkpoint_visit *visit, void *ctx)
{
    /* All that reading one needs of a directory that is open. */
    struct datadir dir = {.fs = v->fs, .read_only = true};
    memcpy(dir.hash_key, v->manifest.hash_key, sizeof(dir.hash_key));
    datadir_checkpoint_name(checkpoint->checkpoint.number, v->name);
    v->offset = 0;
    return checkpoint_visit_file(&dir, &checkpoint->checkpoint, visit, ctx, NULL, v->error,
                                 v->error_size);
}

/* Progress. */

void verify_progress(struct verify *v, uint64_t bytes)
{
    v->read += bytes;
    unsigned percent = v->total != 0 ? (unsigned)(v->read * 100 / v->total) : 100;
    if (percent > 100)
        percent = 100;
    if (percent <= v->percent)
        return;
    v->percent = percent;
    if (v->options->progress != NULL)
        v->options->progress(v->options->ctx, percent);
}

/* The first walk: ids met, as a set of their hashes. */

struct counting {
    uint64_t *slots; /* 0: empty */
    uint64_t mask;
    uint64_t n;
};

static void count_grow(struct counting *c)
{
    struct counting bigger = {.mask = c->mask != 0 ? 2 * c->mask + 1 : 1023, .n = c->n};
    bigger.slots = mem_zeroed(bigger.mask + 1, sizeof(bigger.slots[0]));
    for (uint64_t i = 0; c->slots != NULL && i <= c->mask; i++) {
        uint64_t at = c->slots[i];
        while (c->slots[i] != 0 && bigger.slots[at & bigger.mask] != 0)
            at++;
        if (c->slots[i] != 0)
            bigger.slots[at & bigger.mask] = c->slots[i];
    }
    free(c->slots);
    *c = bigger;
}

static void count(struct counting *c, uint64_t hash)
{
    hash += hash == 0;
    if (2 * c->n >= c->mask)
        count_grow(c);
    uint64_t at = hash;
    while (c->slots[at & c->mask] != 0 && c->slots[at & c->mask] != hash)
        at++;
    c->n += c->slots[at & c->mask] == 0;
    c->slots[at & c->mask] = hash;
}

/* The first walk's visitor has no context of its own but v: the set hangs on it. */
struct first_walk {
    struct verify verify; /* first member */
    struct counting counting;
};

static int first_visit(struct verify *v, const struct log_record *record, log_position position)
{
    struct first_walk *walk = (struct first_walk *)v;
    v->report->records++;
    v->report->events += record->events;
    count(&walk->counting, verify_hash(v, record->session));
    return verify_forks_note(v, record, position);
}

static int walk_first(struct first_walk *walk)
{
    struct verify *v = &walk->verify;
    v->first = true;
    v->visit = first_visit;
    v->at_checkpoint = verify_forks_checkpoint;
    v->total *= 2; /* as if there were to be one pass: how many is not known yet */
    int result = verify_files_walk(v);
    v->first = false;
    return result == 0 ? verify_forks_settle(v) : result;
}

/* The passes. */

static uint64_t passes_for(const struct verify *v, uint64_t sessions)
{
    uint64_t memory = v->options->memory_bytes != 0 ? v->options->memory_bytes : MEMORY_BYTES;
    return sessions * SESSION_BYTES / memory + 1;
}

static int walk_passes(struct verify *v, uint64_t passes)
{
    int result = 0;
    v->visit = verify_lives_record;
    v->at_checkpoint = verify_lives_checkpoint;
    v->report->passes = passes;
    v->total = v->read * (1 + passes);
    for (uint64_t pass = 0; pass < passes && result == 0; pass++) {
        verify_lives_begin(v, passes, pass);
        result = verify_files_walk(v);
        if (result == 0)
            result = verify_lives_end(v);
        verify_lives_free(v);
    }
    return result == 0 ? verify_forks_end(v) : result;
}

/* What the first missing segment is called, in the place of any other fault. */
static int say_missing(struct verify *v)
{
    for (size_t i = 0; i < v->manifest.segment_count; i++) {
        if (!v->missing[i])
            continue;
        datadir_segment_name(&v->segments[i], v->name);
        snprintf(v->error, v->error_size, "%s/%s is missing, but the manifest names it",
                 v->fs->path, v->name);
        break;
    }
    return -EIO;
}

static int verify_all(struct first_walk *walk)
{
    struct verify *v = &walk->verify;
    int result = verify_files_open(v);
    if (result == 0)
        result = walk_first(walk);
    uint64_t passes = passes_for(v, walk->counting.n);
    free(walk->counting.slots);
    if (result == 0)
        result = walk_passes(v, passes);
    return result == 0 && v->report->missing != 0 ? say_missing(v) : result;
}

/* Nobody has the directory open. Where there is no lock nobody ever had. */
static int check_lock(struct verify *v)
{
    int file = v->fs->ops->open(v->fs, LOCK_NAME, FS_READ);
    if (file < 0)
        return 0;
    v->fs->ops->close(v->fs, file);
    if (v->fs->ops->lock(v->fs, LOCK_NAME) != -EWOULDBLOCK)
        return 0;
    snprintf(v->error, v->error_size,
             "%s is being used by a server: stop it, or verify a backup of it", v->fs->path);
    return -EBUSY;
}

int verify_run(struct fs *fs, const struct verify_options *options, struct verify_report *report,
               char *error, size_t error_size)
{
    struct first_walk walk = {.verify = {.fs = fs,
                                         .report = report,
                                         .options = options,
                                         .error = error,
                                         .error_size = error_size}};
    struct verify *v = &walk.verify;
    struct buf text = {0};
    *report = (struct verify_report){0};
    int result = check_lock(v);
    if (result == 0)
        result = walk_read_manifest(fs, &text, &v->manifest, error, error_size);
    buf_free(&text);
    if (result != 0)
        return result;
    result = verify_all(&walk);
    verify_forks_free(v);
    free(v->segments);
    free(v->missing);
    manifest_free(&v->manifest);
    return result;
}
