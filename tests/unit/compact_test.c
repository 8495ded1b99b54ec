/*
 * compact: after a rewrite exactly what the verdicts keep is there, byte for byte and at the same
 * positions; whatever goes wrong on the way leaves the segment as it was.
 */
#define _GNU_SOURCE 1

#include "shards/compact.h"
#include "tests/unit/failing_fs.h"
#include "tests/unit/log_fixture.h"

#include <stdatomic.h>

enum { RECORDS = 40, BODY_BYTES = 900 };

/* Segment 1 holds RECORDS records of two sessions by turns, one batch for two of them, and is no
 * longer the one being written. */
struct filled {
    struct fixture f; /* first member */
    log_position positions[RECORDS];
    struct failing_fs *fs;
    unsigned paused_ms;
};

static log_position write_record(struct fixture *f, struct log_record record, size_t body_bytes)
{
    char body[4096];
    for (size_t i = 0; i < body_bytes; i++)
        body[i] = body_byte(record.seq, i);
    record.body = (struct str){body, body_bytes};
    record.ts_ms = 1700000000000 + (int64_t)record.seq;
    int result;
    while ((result = log_reserve(f->logs[0], body_bytes)) == -EAGAIN) {
        log_commit(f->logs[0]);
        turn(f);
    }
    assert_int_equal(result, 0);
    return log_append(f->logs[0], &record);
}

static struct str name_of(unsigned i)
{
    return i % 2 == 0 ? STR("even") : STR("odd");
}

static void roll(struct fixture *f)
{
    int result;
    while ((result = log_roll(f->logs[0])) == -EAGAIN)
        turn(f);
    assert_int_equal(result, 0);
}

static struct filled *fill(void **state)
{
    struct filled *filled = *state;
    struct fixture *f = &filled->f;
    for (unsigned i = 0; i < RECORDS; i++) {
        filled->positions[i] = write_record(f,
                                            (struct log_record){.type = LOG_RECORD_EVENTS,
                                                                .session = name_of(i),
                                                                .epoch = 5,
                                                                .seq = i / 2 + 1,
                                                                .events = 1},
                                            BODY_BYTES + i);
        if (i % 2 != 0)
            settle(f, f->logs[0]);
    }
    roll(f);
    put(f, 0, "behind", 1, 100);
    checkpoint(f, 0);
    return filled;
}

/* Opens the directory again, on a file system that can be told to fail. */
static void reopen(struct filled *filled)
{
    struct fixture *f = &filled->f;
    struct fs *real;
    crash(f);
    assert_int_equal(fs_posix_open(f->path, true, &real, f->error, sizeof(f->error)), 0);
    filled->fs = failing_fs_make(real);
    f->options.fs = &filled->fs->fs;
    assert_int_equal(datadir_open(&f->options, &f->dir, f->error, sizeof(f->error)), 0);
    assert_int_equal(recover(f), 0);
    open_logs(f);
}

static struct compact_survey *survey(struct fixture *f, uint32_t segment)
{
    struct compact_survey *survey;
    if (compact_survey(f->dir, segment, &survey, f->error, sizeof(f->error)) != 0)
        fail_msg("%s", f->error);
    return survey;
}

static struct compact_life *life_of(struct compact_survey *survey, struct str session)
{
    for (uint32_t i = 0; i < survey->lives_n; i++) {
        if (str_equal(survey->lives[i].session, session))
            return &survey->lives[i];
    }
    fail_msg("%.*s is in no life", (int)session.n, session.p);
    return NULL;
}

static int rewrite(struct fixture *f, const struct compact_survey *survey,
                   struct compact_result *result)
{
    return compact_rewrite(f->dir, survey, 0, NULL, result, f->error, sizeof(f->error));
}

static uint32_t version_of(struct fixture *f, uint32_t segment)
{
    const struct datadir_file *file = datadir_hold(f->dir, segment);
    assert_non_null(file);
    uint32_t version = file->version;
    datadir_release(f->dir, file);
    return version;
}

/* Reads each record of segment 1: there as it was, or gone. */
static void assert_kept(struct filled *filled, bool (*kept)(unsigned i))
{
    struct noted_read noted = {0};
    for (unsigned i = 0; i < RECORDS; i++) {
        read_at(&filled->f, &noted, filled->positions[i]);
        assert_int_equal(noted.result, kept(i) ? 0 : -ENOENT);
        if (noted.result != 0)
            continue;
        assert_true(str_equal(noted.read.record.session, name_of(i)));
        assert_int_equal(noted.read.record.seq, i / 2 + 1);
        assert_int_equal(noted.read.record.body.n, BODY_BYTES + i);
        assert_body(&noted.read.record);
    }
    log_read_release(&noted.read);
}

static bool all_are_kept(unsigned i)
{
    (void)i;
    return true;
}

static bool odd_ones_from_20_and_even_ones_to_10(unsigned i)
{
    return i % 2 != 0 ? i >= 21 : i / 2 + 1 <= 10;
}

/* Rewrites segment 1 after these verdicts. */
static void rewrite_some(struct filled *filled, struct compact_result *result)
{
    struct fixture *f = &filled->f;
    struct compact_survey *s = survey(f, 1);
    life_of(s, STR("odd"))->verdict.from = filled->positions[21];
    life_of(s, STR("even"))->verdict.upto_seq = 10;
    if (rewrite(f, s, result) != 0)
        fail_msg("%s", f->error);
    compact_survey_free(s);
}

static void a_survey_tells_each_life_once_with_its_bytes(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct log_record record = {.session = STR("even"), .previous = 8, .epoch = 6, .seq = 900};
    for (unsigned i = 0; i < 3000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "s%u", i % 1500);
        struct log_record one = {.type = i < 1500 ? LOG_RECORD_EVENTS : LOG_RECORD_SNAPSHOT,
                                 .session = {name, strlen(name)},
                                 .epoch = 1,
                                 .seq = i / 1500 + 1};
        write_record(f, one, 0);
    }
    record.type = LOG_RECORD_EVENTS;
    write_record(f, record, 10);
    record.type = LOG_RECORD_TOMBSTONE;
    write_record(f, record, 0);
    record.type = LOG_RECORD_PIN;
    record.session = STR("pinned");
    record.seq = 5000;
    log_position last = write_record(f, record, 0);
    settle(f, f->logs[0]);

    struct compact_survey *s = survey(f, 1);
    assert_int_equal(s->segment, 1);
    assert_int_equal(s->lives_n, 2);
    assert_int_equal(s->newest_ts_ms, 1700000000000 + RECORDS / 2);
    uint64_t bytes = 0;
    for (unsigned i = 1; i < RECORDS; i += 2)
        bytes += log_record_bytes(3, BODY_BYTES + i);
    assert_int_equal(life_of(s, STR("odd"))->bytes, bytes);
    assert_int_equal(life_of(s, STR("odd"))->epoch, 5);
    assert_int_equal(s->bytes, bytes + life_of(s, STR("even"))->bytes);
    compact_survey_free(s);

    unsigned small = 0;
    bool even = false;
    for (uint32_t segment = 2; segment <= last >> 32; segment++) {
        s = survey(f, segment);
        for (uint32_t i = 0; i < s->lives_n; i++) {
            small += s->lives[i].session.p[0] == 's';
            even = even || (str_equal(s->lives[i].session, STR("even")) && s->lives[i].epoch == 6);
            assert_false(str_equal(s->lives[i].session, STR("pinned")));
            for (uint32_t j = 0; j < i; j++)
                assert_false(str_equal(s->lives[i].session, s->lives[j].session));
        }
        if (segment == last >> 32)
            assert_int_equal(s->newest_ts_ms, 1700000005000);
        compact_survey_free(s);
    }
    assert_true(even);
    assert_true(small >= 1500);
}

static void what_the_verdicts_keep_stays_where_it_was_and_the_rest_is_gone(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct compact_result result;
    rewrite_some(filled, &result);
    assert_false(result.dropped || result.unchanged);
    uint64_t kept = 0, read = 0;
    for (unsigned i = 0; i < RECORDS; i++) {
        uint64_t bytes = log_record_bytes(name_of(i).n, BODY_BYTES + i);
        read += bytes;
        kept += odd_ones_from_20_and_even_ones_to_10(i) ? bytes : 0;
    }
    assert_int_equal(result.read_bytes, read);
    assert_int_equal(result.kept_bytes, kept);
    assert_int_equal(version_of(f, 1), 1);
    assert_false(file_exists(segment_path(f, 1)));
    assert_kept(filled, odd_ones_from_20_and_even_ones_to_10);
    crash(f);
    start(f);
    assert_kept(filled, odd_ones_from_20_and_even_ones_to_10);
}

static void kept_records_are_copied_byte_for_byte(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct compact_result result;
    struct buf before = file_read(segment_path(f, 1));
    rewrite_some(filled, &result);
    struct buf after = file_read(scratch_file(&f->scratch, "segment-00000001.1.log"));
    const struct datadir_file *file = datadir_hold(f->dir, 1);
    uint64_t end = FIRST;
    for (unsigned i = 0; i < RECORDS; i++) {
        uint64_t at, room, bytes = log_record_bytes(name_of(i).n, BODY_BYTES + i);
        uint64_t offset = offset_of(filled->positions[i]);
        bool found = datadir_locate(file, (uint32_t)offset, &at, &room);
        assert_int_equal(found, odd_ones_from_20_and_even_ones_to_10(i));
        if (!found)
            continue;
        assert_int_equal(at, end);
        assert_memory_equal(after.p + at, before.p + offset, bytes);
        end += bytes;
    }
    assert_int_equal(end, file->bytes);
    datadir_release(f->dir, file);
    buf_free(&before);
    buf_free(&after);
}

static void records_that_stood_side_by_side_are_one_run(void **state)
{
    struct filled *filled = *state;
    struct fixture *f = &filled->f;
    for (unsigned i = 0; i < 10; i++)
        write_record(f,
                     (struct log_record){.type = LOG_RECORD_EVENTS,
                                         .session = i == 4 ? STR("gone") : STR("kept"),
                                         .epoch = 1,
                                         .seq = i + 1},
                     100);
    settle(f, f->logs[0]);
    roll(f);
    put(f, 0, "behind", 1, 100);
    checkpoint(f, 0);
    struct compact_survey *s = survey(f, 1);
    struct compact_result result;
    life_of(s, STR("kept"))->verdict.from = LOG_POSITION_NONE;
    assert_int_equal(rewrite(f, s, &result), 0);
    const struct datadir_file *file = datadir_hold(f->dir, 1);
    assert_int_equal(file->extents_n, 2);
    datadir_release(f->dir, file);
    compact_survey_free(s);
}

static void a_segment_of_which_all_stays_is_left_as_it_was(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct compact_survey *s = survey(f, 1);
    struct compact_result result;
    const log_position all[] = {LOG_POSITION_NONE, filled->positions[0]};
    for (size_t i = 0; i < 2; i++) { /* decided at once, and only when all has been read */
        life_of(s, STR("odd"))->verdict.from = all[i];
        life_of(s, STR("even"))->verdict.from = all[i];
        assert_int_equal(rewrite(f, s, &result), 0);
        assert_true(result.unchanged && !result.dropped);
        assert_int_equal(result.kept_bytes, s->bytes);
        assert_int_equal(version_of(f, 1), 0);
        assert_false(file_exists(scratch_file(&f->scratch, "segment-00000001.1.log")));
    }
    compact_survey_free(s);
    assert_kept(filled, all_are_kept);
}

static void a_segment_of_which_nothing_stays_is_dropped(void **state)
{
    for (size_t i = 0; i < 2; i++) { /* decided at once, and only when all has been read */
        struct filled *filled = fill(state);
        struct fixture *f = &filled->f;
        struct compact_result result;
        uint32_t segment = (uint32_t)(filled->positions[0] >> 32);
        struct compact_survey *s = survey(f, segment);
        life_of(s, STR("odd"))->verdict.from = i == 0 ? UINT64_MAX : UINT64_MAX - 1;
        assert_int_equal(rewrite(f, s, &result), 0);
        assert_true(result.dropped && !result.unchanged);
        assert_int_equal(result.kept_bytes, 0);
        assert_null(datadir_hold(f->dir, segment));
        assert_false(file_exists(segment_path(f, segment)));
        compact_survey_free(s);
        struct noted_read noted = {0};
        read_at(f, &noted, filled->positions[0]);
        assert_int_equal(noted.result, -ENOENT);
        log_read_release(&noted.read);
        crash(f);
        start(f);
    }
}

static bool odd_ones_from_30(unsigned i)
{
    return i % 2 != 0 && i >= 31;
}

static void a_rewritten_segment_is_rewritten_again(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct compact_result result;
    rewrite_some(filled, &result);
    uint64_t kept_before = result.kept_bytes;
    struct compact_survey *s = survey(f, 1);
    assert_int_equal(s->bytes, kept_before);
    life_of(s, STR("odd"))->verdict.from = filled->positions[31];
    assert_int_equal(rewrite(f, s, &result), 0);
    compact_survey_free(s);
    assert_int_equal(result.read_bytes, kept_before);
    assert_int_equal(version_of(f, 1), 2);
    assert_kept(filled, odd_ones_from_30);
    crash(f);
    start(f);
    assert_kept(filled, odd_ones_from_30);
}

static void tombstones_and_pins_never_stay(void **state)
{
    struct filled *filled = *state;
    struct fixture *f = &filled->f;
    struct log_record record = {.session = STR("s"), .epoch = 1, .seq = 1};
    static const uint8_t types[] = {LOG_RECORD_EVENTS, LOG_RECORD_TOMBSTONE, LOG_RECORD_PIN,
                                    LOG_RECORD_UNPIN};
    log_position positions[4];
    for (size_t i = 0; i < 4; i++) {
        record.type = types[i];
        positions[i] = write_record(f, record, 8);
    }
    settle(f, f->logs[0]);
    roll(f);
    put(f, 0, "behind", 1, 100);
    struct compact_survey *s = survey(f, 1);
    struct compact_result result;
    assert_int_equal(s->lives_n, 1);
    s->lives[0].verdict.from = LOG_POSITION_NONE;
    assert_int_equal(rewrite(f, s, &result), 0);
    compact_survey_free(s);
    assert_false(result.unchanged);
    struct noted_read noted = {0};
    for (size_t i = 0; i < 4; i++) {
        read_at(f, &noted, positions[i]);
        assert_int_equal(noted.result, i == 0 ? 0 : -ENOENT);
    }
    log_read_release(&noted.read);
}

static void a_damaged_segment_is_refused_and_stays(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct compact_result result;
    struct compact_survey *before = survey(f, 1), *none = NULL;
    struct buf bytes = file_read(segment_path(f, 1));
    life_of(before, STR("odd"))->verdict.from = filled->positions[21];
    /* A body; a record's header; a batch's header, so that no batch seems to follow. */
    const uint64_t offsets[] = {offset_of(filled->positions[24]) + 500,
                                offset_of(filled->positions[25]) + 8,
                                offset_of(filled->positions[26]) - 30};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        char byte = bytes.p[offsets[i]];
        flip(&byte, 4);
        file_patch(segment_path(f, 1), offsets[i], &byte, 1);
        f->error[0] = 0;
        assert_int_equal(compact_survey(f->dir, 1, &none, f->error, sizeof(f->error)), -EIO);
        assert_non_null(strstr(f->error, "egment"));
        f->error[0] = 0;
        assert_int_equal(rewrite(f, before, &result), -EIO);
        assert_non_null(strstr(f->error, "egment"));
        assert_int_equal(version_of(f, 1), 0);
        assert_false(file_exists(scratch_file(&f->scratch, "segment-00000001.1.log")));
        file_patch(segment_path(f, 1), offsets[i], &bytes.p[offsets[i]], 1);
        assert_kept(filled, all_are_kept);
    }
    buf_free(&bytes);
    compact_survey_free(before);
}

static void a_disk_that_fails_at_any_step_leaves_the_old_file(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct compact_result result;
    reopen(filled);
    struct compact_survey *s = survey(f, 1);
    life_of(s, STR("odd"))->verdict.from = filled->positions[21];
    life_of(s, STR("even"))->verdict.upto_seq = 10;
    unsigned failures = 0;
    for (filled->fs->only_files = true;; failures++) {
        filled->fs->left = failures;
        filled->fs->bad = 1;
        filled->fs->error = -ENOSPC;
        int outcome = rewrite(f, s, &result);
        if (filled->fs->bad != 0) { /* it got through without coming to that step */
            assert_int_equal(outcome, 0);
            break;
        }
        filled->fs->bad = 0;
        if (version_of(f, 1) != 0)
            break; /* what failed then came after the change */
        assert_int_equal(outcome, -ENOSPC);
        assert_non_null(strstr(f->error, "No space left"));
        assert_false(file_exists(scratch_file(&f->scratch, "segment-00000001.1.log")));
        assert_kept(filled, all_are_kept);
    }
    filled->fs->bad = 0;
    assert_in_range(failures, 5, 100); /* create, records, table, header, sync, manifest … */
    compact_survey_free(s);
    assert_kept(filled, odd_ones_from_20_and_even_ones_to_10);
}

static void a_stop_is_heeded_and_changes_nothing(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct compact_survey *s = survey(f, 1);
    struct compact_result result;
    _Atomic bool stop = true;
    assert_int_equal(compact_rewrite(f->dir, s, 0, &stop, &result, f->error, sizeof(f->error)),
                     -ECANCELED);
    assert_int_equal(version_of(f, 1), 0);
    assert_kept(filled, all_are_kept);
    compact_survey_free(s);
}

static struct filled *pausing;

static void pause_counting(struct fs *fs, unsigned ms)
{
    (void)fs;
    assert_true(ms <= 20);
    pausing->paused_ms += ms;
}

static void pauses_keep_it_at_the_rate_asked_for(void **state)
{
    struct filled *filled = fill(state);
    struct fixture *f = &filled->f;
    struct compact_result result;
    reopen(filled);
    struct fs_ops ops = *filled->fs->fs.ops;
    ops.pause_ms = pause_counting;
    filled->fs->fs.ops = &ops;
    pausing = filled;
    struct compact_survey *s = survey(f, 1);
    life_of(s, STR("odd"))->verdict.from = LOG_POSITION_NONE;
    assert_int_equal(compact_rewrite(f->dir, s, 50000, NULL, &result, f->error, sizeof(f->error)),
                     0);
    uint64_t expected_ms = (result.read_bytes + result.kept_bytes) * 1000 / 50000;
    assert_in_range(filled->paused_ms, expected_ms - 10, expected_ms);
    compact_survey_free(s);
    crash(f);
    start(f);
}

static int set_up_filled(void **state)
{
    struct filled *filled = mem_zeroed(1, sizeof(*filled));
    struct fixture *f = &filled->f;
    scratch_make(&f->scratch, false);
    f->path = f->scratch.path;
    f->options = (struct datadir_options){.shards = 1, .segment_bytes = SEGMENT_BYTES};
    start(f);
    *state = filled;
    return 0;
}

#define FILLED(function) cmocka_unit_test_setup_teardown(function, set_up_filled, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILLED(a_survey_tells_each_life_once_with_its_bytes),
        FILLED(what_the_verdicts_keep_stays_where_it_was_and_the_rest_is_gone),
        FILLED(kept_records_are_copied_byte_for_byte),
        FILLED(records_that_stood_side_by_side_are_one_run),
        FILLED(a_segment_of_which_all_stays_is_left_as_it_was),
        FILLED(a_segment_of_which_nothing_stays_is_dropped),
        FILLED(a_rewritten_segment_is_rewritten_again),
        FILLED(tombstones_and_pins_never_stay),
        FILLED(a_damaged_segment_is_refused_and_stays),
        FILLED(a_disk_that_fails_at_any_step_leaves_the_old_file),
        FILLED(a_stop_is_heeded_and_changes_nothing),
        FILLED(pauses_keep_it_at_the_rate_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
