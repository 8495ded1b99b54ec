/*
 * The files of a log as a crash, a bad disk or somebody else may have left them. A start comes to
 * an end of the log or refuses in words that name the file; what was written well and not touched
 * is all there; and the next start comes to the same.
 *
 * The input is steps, each a byte and what it needs:
 *     batch    how 1, records, each: type 1, session size 1, body size 2, session, body
 *     segment  the next one
 *     bytes    count 1, bytes
 *     gap      count 1, in 8 bytes, of zeros
 */
#include "shards/record.h"
#include "tests/fuzz/directory.h"

enum { SEGMENTS_MAX = 3, RECORDS_MAX = 6 };
enum { STEP_BATCH, STEP_SEGMENT, STEP_BYTES, STEP_GAP, STEP_COUNT };
/* How a batch is: its number is not the next one, it is old, a byte of it is not what it was. */
enum { BATCH_OTHER_NUMBER = 1, BATCH_SYNCED_ELSE = 2, BATCH_DAMAGED = 4, BATCH_COUNTS_WRONG = 8 };

struct built {
    struct memory_files files;
    struct manifest manifest;
    struct buf *segment; /* the one being written */
    uint32_t number;     /* of it */
    size_t at;           /* in it */
    uint64_t batch;      /* number of the last one */
    uint64_t records;
    bool tampered;
};

static size_t room(const struct built *built)
{
    return FUZZ_SEGMENT_BYTES - built->at;
}

/* Adds a segment to the manifest, and its file: a header and zeros. */
static struct buf *fuzz_segment(struct memory_files *files, struct manifest *m, uint32_t number)
{
    struct datadir_segment segment = {
        .number = number, .generation = 1, .fd = -1, .bytes = FUZZ_SEGMENT_BYTES};
    char name[32];
    datadir_segment_name(&segment, name);
    struct buf *bytes = memory_file(files, name);
    bytes->n = 0;
    memset(buf_reserve(bytes, FUZZ_SEGMENT_BYTES), 0, FUZZ_SEGMENT_BYTES);
    bytes->n = FUZZ_SEGMENT_BYTES;
    log_segment_header_write(&segment, log_segment_seed(fuzz_hash_key, number), bytes->p);
    manifest_add_segment(m, &segment);
    return bytes;
}

static void next_segment(struct built *built)
{
    built->segment = fuzz_segment(&built->files, &built->manifest, ++built->number);
    built->manifest.next_segment = built->number + 1;
    built->at = LOG_SEGMENT_HEADER_BYTES;
}

static uint64_t seed_here(const struct built *built, size_t at)
{
    return log_segment_seed(fuzz_hash_key, built->number) + at;
}

/* Appends one record behind `used` bytes of the batch. False: it has no room. */
static bool add_record(struct built *built, struct str *in, size_t *used)
{
    char session[LOG_SESSION_MAX_BYTES];
    struct log_record record = {.type = take_byte(in), .epoch = 5, .ts_ms = 1700000000000};
    size_t session_bytes = 1 + take_byte(in) % LOG_SESSION_MAX_BYTES, body_bytes = take_u16(in);
    struct str name = take_bytes(in, session_bytes);
    memset(session, 's', sizeof(session));
    if (name.n != 0)
        memcpy(session, name.p, name.n);
    record.session = (struct str){session, session_bytes};
    record.events = record.type % 8;
    record.seq = built->records + 1;
    record.body = take_bytes(in, body_bytes);
    size_t size = log_record_size(&record);
    if (*used + size > room(built))
        return false;
    size_t at = built->at + *used;
    log_record_encode(&record, built->segment->p + at, seed_here(built, at));
    *used += size;
    return true;
}

static void add_batch(struct built *built, struct str *in)
{
    uint8_t how = take_byte(in);
    uint32_t records = 1 + how / 16 % RECORDS_MAX, n = 0;
    size_t used = sizeof(struct log_batch_header);
    if (room(built) < used)
        return;
    while (n < records && add_record(built, in, &used))
        n++;
    if (n == 0) {
        memset(built->segment->p + built->at, 0, used);
        return;
    }
    struct log_batch_header header = {.magic = LOG_BATCH_MAGIC,
                                      .bytes = (uint32_t)used,
                                      .number = built->batch + 1,
                                      .start = 1,
                                      .synced = built->batch,
                                      .records = n};
    if (how & BATCH_OTHER_NUMBER)
        header.number += 1 + take_byte(in);
    if (how & BATCH_SYNCED_ELSE)
        header.synced = take_byte(in);
    if (how & BATCH_COUNTS_WRONG)
        header.records += 1 + take_byte(in);
    char *batch = built->segment->p + built->at;
    memcpy(batch, &header, sizeof(header));
    log_batch_seal(batch, seed_here(built, built->at));
    if (how & BATCH_DAMAGED)
        batch[take_u16(in) % used] ^= (char)(1 + take_byte(in) % 255);
    built->tampered = built->tampered || (how & 15) != 0;
    built->batch = header.number;
    built->records += n;
    built->at += used;
}

static void add_bytes(struct built *built, struct str bytes)
{
    size_t n = bytes.n < room(built) ? bytes.n : room(built) & ~(size_t)7;
    if (n != 0)
        memcpy(built->segment->p + built->at, bytes.p, n);
    built->at += log_align(n) <= room(built) ? log_align(n) : 0;
    built->tampered = true;
}

static void build(struct built *built, struct str in)
{
    built->manifest = fuzz_manifest(0);
    next_segment(built);
    while (in.n != 0) {
        switch (take_byte(&in) % STEP_COUNT) {
        case STEP_BATCH:
            add_batch(built, &in);
            break;
        case STEP_SEGMENT:
            if (built->number < SEGMENTS_MAX)
                next_segment(built);
            break;
        case STEP_BYTES:
            add_bytes(built, take_bytes(&in, take_byte(&in)));
            break;
        default:
            built->tampered = true;
            built->at += 8 * (size_t)take_byte(&in);
            if (built->at > FUZZ_SEGMENT_BYTES - LOG_ALIGN_BYTES)
                built->at = FUZZ_SEGMENT_BYTES;
        }
    }
    fuzz_write_manifest(&built->files, &built->manifest);
}

/* What a recovery does with a record. */
static int look(void *ctx, const struct log_record *record, log_position position)
{
    struct arena scratch = exact_arena();
    struct record_reader reader;
    struct record_snapshot snapshot;
    struct core_event event;
    struct str child;
    uint64_t epoch, at;
    log_position first;

    assert(position != LOG_POSITION_NONE && record->session.n != 0);
    ++*(uint64_t *)ctx;
    if (record_read_begin(&reader, record) == 0 && record_skip_keys(&reader) == 0) {
        while (record_read_event(&reader, &scratch, &event, NULL) == 1)
            continue;
        if (reader.snapshot && reader.events_left == 0)
            record_read_snapshot(&reader, &snapshot);
    }
    if (record->type == LOG_RECORD_SNAPSHOT)
        record_snapshot_of(record, &scratch, &snapshot);
    record_read_end(record->body, &first, &at);
    record_read_pin(record->body, &child, &epoch, &at);
    arena_free(&scratch);
    return 0;
}

struct found {
    int result;
    uint64_t torn_bytes, records;
    struct datadir_end end;
};

static void check_error(int result, const char *error)
{
    if (result != 0)
        check_sentence(error, FUZZ_ERROR_BYTES);
}

static struct found start(struct built *built)
{
    char error[FUZZ_ERROR_BYTES];
    struct found found = {0};
    struct datadir *dir = NULL;

    found.result = fuzz_open(&built->files, false, &dir, error);
    check_error(found.result, error);
    assert(found.result == 0); /* headers and manifest are whole */
    found.result = log_clean_tails(dir, &found.torn_bytes, error, sizeof(error));
    check_error(found.result, error);
    if (found.result == 0) {
        found.result =
            log_recover(dir, 1, 0, NULL, look, &found.records, NULL, error, sizeof(error));
        check_error(found.result, error);
        assert(datadir_get_end(dir, 1, 0, &found.end));
    }
    for (uint32_t number = 1; number <= built->number; number++) {
        uint64_t seen = 0;
        error[0] = '\0';
        check_error(log_visit_segment(dir, number, look, &seen, error, sizeof(error)), error);
    }
    datadir_close(dir, false);
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct built built = {0};

    build(&built, input_of(data, size));
    struct found first = start(&built);
    if (!built.tampered)
        assert(first.result == 0 && first.torn_bytes == 0 && first.records == built.records);
    struct found second = start(&built);
    assert(second.result == first.result);
    if (first.result == 0)
        assert(second.torn_bytes == 0 && second.records == first.records &&
               second.end.batch == first.end.batch && second.end.offset == first.end.offset);
    manifest_free(&built.manifest);
    memory_files_free(&built.files);
    return 0;
}
