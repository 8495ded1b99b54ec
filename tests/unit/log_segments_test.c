/*
 * log: segments after they have been written: rewritten by a compaction, dropped, left behind a
 * checkpoint. A position stays good as long as its record is there, a recovery begins at the
 * checkpoint and touches nothing before it, and reading back along a session is cheap.
 */
#define _GNU_SOURCE 1

#include "tests/unit/log_fixture.h"

/* Rewritten and dropped segments. */

struct kept {
    log_position position;
    size_t bytes; /* of the run that begins there */
};

/* Rewrites a segment as a compaction does, such that only these runs stay. */
static void rewrite(struct fixture *f, uint32_t number, const struct kept *kept, uint32_t n)
{
    struct fs *fs = datadir_fs(f->dir);
    struct datadir_segment rewritten;
    struct datadir_extent *extents = mem_alloc(n * sizeof(extents[0]));
    uint64_t to = FIRST;
    assert_int_equal(datadir_begin_rewrite(f->dir, number, &rewritten), 0);
    const struct datadir_file *file = datadir_hold(f->dir, number);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t at, room;
        char *run = mem_alloc(kept[i].bytes);
        uint32_t offset = (uint32_t)kept[i].position;
        assert_true(datadir_locate(file, offset, &at, &room) && room >= kept[i].bytes);
        assert_int_equal(fs->ops->read(fs, file->fd, run, kept[i].bytes, at), kept[i].bytes);
        assert_int_equal(fs->ops->write(fs, rewritten.fd, run, kept[i].bytes, to), 0);
        free(run);
        extents[i] = (struct datadir_extent){.offset = offset, .at = (uint32_t)to};
        to += kept[i].bytes;
    }
    datadir_release(f->dir, file);
    size_t table_bytes = n * sizeof(extents[0]);
    assert_int_equal(fs->ops->write(fs, rewritten.fd, extents, table_bytes, to), 0);
    char page[LOG_SEGMENT_HEADER_BYTES];
    rewritten.bytes = to + table_bytes;
    log_rewritten_header_write(&rewritten, extents, n,
                               log_segment_seed(datadir_hash_key(f->dir), number), page);
    assert_int_equal(fs->ops->write(fs, rewritten.fd, page, sizeof(page), 0), 0);
    assert_int_equal(datadir_finish_rewrite(f->dir, &rewritten, extents, n), 0);
}

static void roll(struct fixture *f, unsigned shard)
{
    while (log_roll(f->logs[shard]) == -EAGAIN) {
        log_commit(f->logs[shard]);
        turn(f);
    }
    assert_int_equal(log_roll(f->logs[shard]), 0);
}

enum { SMALL_BYTES = 500 };

/* Records with seqs 1 to `n`, three a batch: positions[seq]. */
static void put_small(struct fixture *f, uint64_t n, log_position *positions)
{
    for (uint64_t seq = 1; seq <= n; seq++) {
        assert_int_equal(log_reserve(f->logs[0], SMALL_BYTES), 0);
        positions[seq] =
            append(f->logs[0], "s", seq, SMALL_BYTES, seq > 1 ? positions[seq - 1] : 0);
        if (seq % 3 == 0 || seq == n)
            settle(f, f->logs[0]);
    }
}

static void assert_read(struct fixture *f, struct noted_read *noted, log_position position,
                        uint64_t seq)
{
    read_at(f, noted, position);
    assert_int_equal(noted->result, 0);
    assert_int_equal(noted->read.record.seq, seq);
    assert_int_equal(noted->read.record.body.n, SMALL_BYTES);
    assert_body(&noted->read.record);
}

/* Of 30 records in segment 1, what begins a batch, what ends one, and two neighbours. */
static void keep_four(struct fixture *f, const log_position *positions)
{
    size_t step = log_record_bytes(1, SMALL_BYTES);
    struct kept kept[] = {{positions[3], step}, {positions[10], step}, {positions[20], 2 * step}};
    rewrite(f, 1, kept, 3);
}

static bool is_one_of_four(uint64_t seq)
{
    return seq == 3 || seq == 10 || seq == 20 || seq == 21;
}

static void what_a_rewritten_segment_keeps_is_read_and_the_rest_is_gone(void **state)
{
    struct fixture *f = *state;
    struct noted_read noted = {0}, window = {.read.window_bytes = 16384};
    log_position positions[31];
    put_small(f, 30, positions);
    roll(f, 0);
    checkpoint(f, 0);
    keep_four(f, positions);
    for (unsigned life = 0; life < 2; life++) {
        for (uint64_t seq = 30; seq >= 1; seq--) {
            if (is_one_of_four(seq)) {
                assert_read(f, &noted, positions[seq], seq);
                assert_read(f, &window, positions[seq], seq);
                continue;
            }
            read_at(f, &noted, positions[seq]);
            assert_int_equal(noted.result, -ENOENT);
            read_at(f, &window, positions[seq]);
            assert_int_equal(window.result, -ENOENT);
        }
        assert_int_equal(io_fake_reads(f->fake), 4 + 1);
        crash(f);
        start(f);
        assert_int_equal(f->seen_count, 0);
        log_read_release(&window.read);
    }
    /* Again, and then all of it. */
    struct kept kept = {positions[20], log_record_bytes(1, SMALL_BYTES)};
    rewrite(f, 1, &kept, 1);
    assert_read(f, &noted, positions[20], 20);
    assert_read(f, &window, positions[20], 20);
    read_at(f, &noted, positions[21]);
    assert_int_equal(noted.result, -ENOENT);
    assert_int_equal(datadir_drop_segments(f->dir, (uint32_t[]){1}, 1), 0);
    read_at(f, &window, positions[20]);
    assert_int_equal(window.result, -ENOENT);
    log_read_release(&noted.read);
    log_read_release(&window.read);
}

static void damage_in_a_rewritten_segment_is_found_by_the_record(void **state)
{
    struct fixture *f = *state;
    struct noted_read noted = {0};
    log_position positions[31];
    put_small(f, 30, positions);
    roll(f, 0);
    keep_four(f, positions);
    file_patch(scratch_file(&f->scratch, "segment-00000001.1.log"),
               FIRST + log_record_bytes(1, SMALL_BYTES) + 100, "damaged", 7);
    assert_read(f, &noted, positions[3], 3);
    read_at(f, &noted, positions[10]);
    assert_int_equal(noted.result, -EIO);
    assert_read(f, &noted, positions[20], 20);
    log_read_release(&noted.read);
}

/* The file is held while it is being read. */
static void a_read_under_way_goes_on_when_its_segment_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct noted_read noted = {.read.done = note_read, .read.owner = &noted};
    log_position position = put(f, 0, "s", 1, 20000); /* takes two reads */
    roll(f, 0);
    io_fake_set_automatic(f->fake, false);
    log_read(f->logs[0], &noted.read, position);
    turn(f);
    assert_int_equal(datadir_drop_segments(f->dir, (uint32_t[]){1}, 1), 0);
    io_fake_set_automatic(f->fake, true);
    while (!noted.done)
        turn(f);
    assert_int_equal(noted.result, 0);
    assert_body(&noted.read.record);
    read_at(f, &noted, position);
    assert_int_equal(noted.result, -ENOENT);
    log_read_release(&noted.read);
}

static void a_window_reads_many_neighbours_at_once(void **state)
{
    struct fixture *f = *state;
    struct noted_read noted = {.read.window_bytes = 32 * 1024};
    log_position positions[51];
    put_small(f, 50, positions);
    for (uint64_t seq = 50; seq >= 1; seq--)
        assert_read(f, &noted, positions[seq], seq);
    assert_int_equal(io_fake_reads(f->fake), 1);
    noted.read.window_bytes = 8 * 1024; /* half of it is in front of the first record */
    read_at(f, &noted, LOG_POSITION_NONE);
    log_read_release(&noted.read);
    for (uint64_t seq = 50; seq >= 1; seq--)
        assert_read(f, &noted, positions[seq], seq);
    assert_in_range(io_fake_reads(f->fake), 1 + 5, 1 + 8);
    noted.read.window_bytes = 0;
    unsigned before = io_fake_reads(f->fake);
    for (uint64_t seq = 50; seq >= 1; seq--)
        assert_read(f, &noted, positions[seq], seq);
    assert_int_equal(io_fake_reads(f->fake), before + 50);
    log_read_release(&noted.read);
}

static void a_window_takes_records_of_any_size(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 1, 4000, 50000, 4096, 100, 5000, 20000, 50000, 3};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    static const uint32_t windows[] = {1, 4096, 10000, 1 << 20};
    log_position positions[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        positions[i] = put(f, 0, "s", i + 1, sizes[i]);
    for (size_t w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
        struct noted_read noted = {.read.window_bytes = windows[w]};
        for (size_t i = 0; i < 3 * COUNT; i++) {
            size_t at = i * 7 % COUNT;
            read_at(f, &noted, positions[at]);
            assert_int_equal(noted.result, 0);
            assert_int_equal(noted.read.record.seq, at + 1);
            assert_int_equal(noted.read.record.body.n, sizes[at]);
            assert_body(&noted.read.record);
        }
        log_read_release(&noted.read);
    }
}

/* It may be older than a record that is written to where it has seen zeros. */
static void a_window_does_not_hide_what_was_written_since(void **state)
{
    struct fixture *f = *state;
    struct noted_read noted = {.read.window_bytes = 16 * 1024};
    for (uint64_t seq = 1; seq <= 10; seq++) {
        log_position position = put(f, 0, "s", seq, SMALL_BYTES);
        assert_read(f, &noted, position, seq);
        assert_int_equal(io_fake_reads(f->fake), seq);
    }
    log_read_release(&noted.read);
}

static void a_window_that_could_not_be_read_is_not_believed(void **state)
{
    struct fixture *f = *state;
    struct noted_read noted = {.read.window_bytes = 16 * 1024};
    log_position positions[5];
    put_small(f, 4, positions);
    noted.read.done = note_read;
    noted.read.owner = &noted;
    io_fake_set_automatic(f->fake, false);
    log_read(f->logs[0], &noted.read, positions[4]);
    turn(f);
    io_fake_fail(f->fake, io_fake_find(f->fake, IO_FAKE_READ), -EIO);
    turn(f);
    assert_true(noted.done);
    assert_int_equal(noted.result, -EIO);
    io_fake_set_automatic(f->fake, true);
    assert_read(f, &noted, positions[3], 3);
    log_read_release(&noted.read);
}

static void assert_visited(struct fixture *f, uint32_t number)
{
    f->seen_count = 0;
    int result = log_visit_segment(f->dir, number, see, f, f->error, sizeof(f->error));
    if (result != 0)
        fail_msg("%s", f->error);
}

static int stop_at_ten(void *ctx, const struct log_record *record, log_position position)
{
    (void)ctx, (void)position;
    return record->seq == 10 ? 42 : 0;
}

static void a_visit_shows_a_segments_records_rewritten_or_not(void **state)
{
    struct fixture *f = *state;
    static const uint64_t seqs[] = {3, 10, 20, 21};
    log_position positions[31];
    put_small(f, 30, positions);
    assert_visited(f, 1);
    assert_seqs_seen(f, 1, 30);
    for (uint64_t seq = 1; seq <= 30; seq++)
        assert_true(f->seen[seq - 1].position == positions[seq]);
    roll(f, 0);
    assert_visited(f, 2);
    assert_int_equal(f->seen_count, 0);
    keep_four(f, positions);
    assert_visited(f, 1);
    assert_int_equal(f->seen_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(f->seen[i].seq, seqs[i]);
        assert_true(f->seen[i].position == positions[seqs[i]]);
    }
    assert_int_equal(log_visit_segment(f->dir, 1, stop_at_ten, NULL, f->error, sizeof(f->error)),
                     42);
    assert_int_equal(log_visit_segment(f->dir, 9, see, f, f->error, sizeof(f->error)), -ENOENT);
}

static void a_visit_finds_any_flipped_bit(void **state)
{
    struct fixture *f = *state;
    log_position positions[31];
    put_small(f, 30, positions);
    /* Where the first bad batch stands, the visit ends. */
    file_patch(segment_path(f, 1), offset_of(positions[10]) + 300, "X", 1);
    assert_visited(f, 1);
    assert_seqs_seen(f, 1, 9);
    char original = body_byte(10, 300 - 57);
    file_patch(segment_path(f, 1), offset_of(positions[10]) + 300, &original, 1);
    assert_visited(f, 1);
    assert_seqs_seen(f, 1, 30);

    roll(f, 0);
    keep_four(f, positions);
    const char *path = scratch_file(&f->scratch, "segment-00000001.1.log");
    struct buf file = file_read(path);
    size_t step = log_record_bytes(1, SMALL_BYTES);
    size_t padding = step - 56 - 1 - SMALL_BYTES;
    for (uint64_t at = FIRST; at < FIRST + 4 * step; at++) {
        if ((at - FIRST) % step >= step - padding)
            continue;
        flip(&file.p[at], 1 << at % 8);
        file_patch(path, at, &file.p[at], 1);
        f->seen_count = 0;
        assert_int_equal(log_visit_segment(f->dir, 1, see, f, f->error, sizeof(f->error)), -EIO);
        assert_int_equal(f->seen_count, (at - FIRST) / step);
        assert_non_null(strstr(f->error, "segment-00000001.1.log"));
        flip(&file.p[at], 1 << at % 8);
        file_patch(path, at, &file.p[at], 1);
    }
    buf_free(&file);
}

/* A record that went bad before its batch was sealed: compaction must not pass it on. */
static void a_visit_checks_each_record_in_a_good_batch(void **state)
{
    struct fixture *f = *state;
    log_position positions[7];
    put_small(f, 6, positions);
    struct buf file = file_read(segment_path(f, 1));
    uint64_t batch = offset_of(positions[4]) - sizeof(struct log_batch_header);
    flip(&file.p[offset_of(positions[5]) + 8 + 6], 0x80); /* of `events` */
    log_batch_seal(file.p + batch, log_segment_seed(datadir_hash_key(f->dir), 1) + batch);
    file_write(segment_path(f, 1), file.p, file.n);
    buf_free(&file);
    f->seen_count = 0;
    assert_int_equal(log_visit_segment(f->dir, 1, see, f, f->error, sizeof(f->error)), -EIO);
    assert_seqs_seen(f, 1, 4);
    assert_non_null(strstr(f->error, "segment-00000001.log"));
}

/* Checkpoints. */

static void recovery_from_a_mark_shows_its_batch_and_all_later_ones(void **state)
{
    struct fixture *f = *state;
    struct datadir_end mark;
    for (uint64_t seq = 1; seq <= 3; seq++)
        put(f, 0, "s", seq, 300);
    io_fake_set_automatic(f->fake, false);
    for (uint64_t seq = 4; seq <= 6; seq++) {
        assert_int_equal(log_reserve(f->logs[0], 300), 0);
        append(f->logs[0], "s", seq, 300, 0);
        if (seq == 4)
            log_commit(f->logs[0]);
        if (seq == 5)
            log_mark(f->logs[0], &mark);
    }
    io_fake_set_automatic(f->fake, true);
    settle(f, f->logs[0]);
    put(f, 0, "s", 7, 300);
    assert_int_equal(mark.batch, 4);
    checkpoint_at(f, 0, &mark);
    for (unsigned life = 0; life < 2; life++) {
        if (life == 0)
            crash(f);
        else
            stop(f);
        start(f);
        assert_seqs_seen(f, 5, 7);
        assert_int_equal(log_building(f->logs[0]), 7);
    }
}

/* Between any two batches, in one segment or in the next. */
static void recovery_from_any_mark_misses_nothing(void **state)
{
    struct fixture *f = *state;
    enum { BATCHES = 40 };
    struct datadir_end marks[BATCHES + 1];
    for (uint64_t seq = 1; seq <= BATCHES; seq++) {
        log_mark(f->logs[0], &marks[seq - 1]);
        put(f, 0, "s", seq, 1 + seq * 977 % 9000);
    }
    log_mark(f->logs[0], &marks[BATCHES]);
    assert_true(log_segment(f->logs[0]) > 3);
    crash(f);
    assert_int_equal(open_dir(f), 0);
    assert_int_equal(recover(f), 0);
    assert_seqs_seen(f, 1, BATCHES);
    for (uint64_t i = 0; i <= BATCHES; i++) {
        _Atomic uint64_t bytes = 0;
        f->seen_count = 0;
        if (log_recover(f->dir, 1, 0, &marks[i], see, f, &bytes, f->error, sizeof(f->error)) != 0)
            fail_msg("%s", f->error);
        assert_seqs_seen(f, i + 1, BATCHES);
        assert_int_equal(bytes, log_recover_bytes(f->dir, 1, 0, &marks[i]));
    }
    assert_int_equal(log_recover_bytes(f->dir, 1, 0, &marks[BATCHES]), 0);
    assert_true(log_recover_bytes(f->dir, 1, 0, NULL) > 3 * (SEGMENT_BYTES - FIRST));
    struct datadir_end nowhere = {0};
    f->seen_count = 0;
    assert_int_equal(log_recover(f->dir, 1, 0, &nowhere, see, f, NULL, f->error, sizeof(f->error)),
                     0);
    assert_seqs_seen(f, 1, BATCHES);
}

/* A crash may come before anything has been written behind a checkpoint, wherever that is. */
static void a_log_goes_on_behind_its_checkpoint(void **state)
{
    struct fixture *f = *state;
    for (uint64_t seq = 1; seq <= 30; seq++) {
        checkpoint(f, 0);
        crash(f);
        start(f);
        assert_int_equal(f->seen_count, 0);
        assert_int_equal(log_building(f->logs[0]), seq);
        put(f, 0, "s", seq, 9000);
        crash(f);
        start(f);
        assert_seqs_seen(f, seq, seq);
        if (seq % 4 == 0)
            roll(f, 0);
    }
    assert_true(log_segment(f->logs[0]) > 7);
}

static void segments_before_the_checkpoint_are_not_touched(void **state)
{
    struct fixture *f = *state;
    log_position positions[31];
    put_small(f, 30, positions);
    roll(f, 0);
    put(f, 0, "s", 31, 100);
    roll(f, 0);
    put(f, 0, "s", 32, 100);
    checkpoint(f, 0);
    put(f, 0, "s", 33, 100);
    crash(f);
    /* Damage and garbage there are not this start's to judge. */
    file_patch(segment_path(f, 1), offset_of(positions[10]), "damaged", 7);
    file_patch(segment_path(f, 2), SEGMENT_BYTES - 9, "garbage", 7);
    struct buf before = file_read(segment_path(f, 2));
    start(f);
    assert_seqs_seen(f, 33, 33);
    assert_int_equal(f->torn_bytes, 0);
    struct buf after = file_read(segment_path(f, 2));
    assert_memory_equal(before.p, after.p, before.n);
    buf_free(&before);
    buf_free(&after);

    keep_four(f, positions);
    assert_int_equal(datadir_drop_segments(f->dir, (uint32_t[]){2}, 1), 0);
    put(f, 0, "s", 34, 100);
    crash(f);
    start(f);
    assert_seqs_seen(f, 33, 34);
    assert_int_equal(datadir_drop_segments(f->dir, (uint32_t[]){1}, 1), 0);
    put(f, 0, "s", 35, 100);
    crash(f);
    start(f);
    assert_seqs_seen(f, 33, 35);
}

/* A checkpoint may be at the end of a segment in which nothing has followed. */
static void a_checkpoint_at_the_end_of_a_rewritten_segment_is_good(void **state)
{
    struct fixture *f = *state;
    log_position positions[31];
    put_small(f, 30, positions);
    checkpoint(f, 0);
    roll(f, 0);
    keep_four(f, positions);
    for (uint64_t seq = 31; seq <= 33; seq++) {
        crash(f);
        start(f);
        assert_int_equal(f->seen_count, seq - 31);
        assert_int_equal(put(f, 0, "s", seq, 10) >> 32, 2);
    }
    crash(f);
    start(f);
    assert_seqs_seen(f, 31, 33);
}

static void a_torn_tail_behind_a_checkpoint_is_cut_off(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 300);
    checkpoint(f, 0);
    log_position second = put(f, 0, "s", 2, 300);
    crash(f);
    file_patch(segment_path(f, 1), offset_of(second) + 100, "torn", 4);
    start(f);
    assert_int_equal(f->seen_count, 0);
    assert_int_equal(f->torn_bytes, sizeof(struct log_batch_header) + log_record_bytes(1, 300));
    put(f, 0, "s", 2, 400);
    log_position third = put(f, 0, "s", 3, 300);
    crash(f);
    file_patch(segment_path(f, 1), offset_of(third) + 100, "torn", 4);
    start(f);
    assert_seqs_seen(f, 2, 2);
    assert_true(f->torn_bytes != 0);
    /* In the next segment too. */
    roll(f, 0);
    log_position fourth = put(f, 0, "s", 3, 300);
    assert_int_equal(fourth >> 32, 2);
    crash(f);
    file_patch(segment_path(f, 2), offset_of(fourth) + 100, "torn", 4);
    start(f);
    assert_seqs_seen(f, 2, 2);
    assert_true(f->torn_bytes != 0);
    put(f, 0, "s", 3, 300);
    crash(f);
    start(f);
    assert_seqs_seen(f, 2, 3);
}

static void damage_behind_a_checkpoint_is_refused(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 300);
    checkpoint(f, 0);
    log_position second = put(f, 0, "s", 2, 300);
    put(f, 0, "s", 3, 300);
    crash(f);
    file_patch(segment_path(f, 1), offset_of(second) + 100, "damaged", 7);
    char offset[32];
    snprintf(offset, sizeof(offset), "offset %llu",
             (unsigned long long)(offset_of(second) - sizeof(struct log_batch_header)));
    assert_refused(f, "segment-00000001.log", offset);
}

static void after_a_clean_stop_nothing_behind_the_end_is_looked_at(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 300);
    checkpoint(f, 0);
    put(f, 0, "s", 2, 300);
    stop(f);
    file_patch(segment_path(f, 1), SEGMENT_BYTES - 9, "garbage", 7);
    start(f);
    assert_seqs_seen(f, 2, 2);
    assert_int_equal(f->torn_bytes, 0);
    checkpoint(f, 0);
    roll(f, 0);
    stop(f);
    assert_int_equal(open_dir(f), 0);
    assert_int_equal(recover(f), 0);
    assert_int_equal(f->seen_count, 0);
    struct datadir_checkpoint newest;
    assert_true(datadir_get_checkpoint(f->dir, 1, 0, &newest));
    assert_int_equal(log_recover_bytes(f->dir, 1, 0, &newest.from), 0);
}

/* Rolling. */

static void rolling_begins_a_new_segment(void **state)
{
    struct fixture *f = *state;
    struct log *log = f->logs[0];
    assert_int_equal(log_segment(log), 1);
    assert_int_equal(log_roll(log), 0); /* there is nothing in it */
    assert_int_equal(log_segment(log), 1);
    for (uint64_t seq = 1; seq <= 3; seq++) {
        assert_int_equal(put(f, 0, "s", seq, 10) >> 32, seq);
        assert_int_equal(log_roll(log), -EAGAIN);
        roll(f, 0);
        assert_int_equal(log_segment(log), seq + 1);
        assert_int_equal(log_roll(log), 0);
        assert_int_equal(log_segment(log), seq + 1);
    }
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 3);
    put(f, 0, "s", 4, 10);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 4);
}

/* A busy shard always has a batch half built when it comes to ask. */
static void rolling_waits_for_no_idle_moment(void **state)
{
    struct fixture *f = *state;
    struct log *log = f->logs[0];
    uint64_t seq = 0;
    int result;
    do {
        assert_int_equal(log_reserve(log, 10), 0);
        append(log, "s", ++seq, 10, 0);
        result = log_roll(log);
        log_commit(log);
        assert_int_equal(log_reserve(log, 10), 0);
        append(log, "s", ++seq, 10, 0);
        turn(f);
    } while (result == -EAGAIN && seq < 100);
    assert_int_equal(result, 0);
    assert_int_equal(log_segment(log), 2);
    settle(f, log);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, seq);
}

static void rolling_needs_room_and_a_working_disk(void **state)
{
    struct fixture *f = *state;
    struct log *log = f->logs[0];
    put(f, 0, "s", 1, 10);
    io_fake_set_automatic(f->fake, false);
    assert_int_equal(log_roll(log), -EAGAIN);
    fail_preparation(f, -ENOSPC);
    assert_int_equal(log_roll(log), -ENOSPC);
    assert_int_equal(log_reserve(log, 10), 0); /* the present one still takes records */
    io_fake_advance_ms(f->fake, 1000);
    assert_int_equal(log_roll(log), -ENOSPC);
    fail_preparation(f, -EIO);
    assert_int_equal(f->failures, 1);
    assert_int_equal(log_roll(log), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_rewritten_segment_keeps_is_read_and_the_rest_is_gone),
        TEST(damage_in_a_rewritten_segment_is_found_by_the_record),
        TEST(a_read_under_way_goes_on_when_its_segment_is_dropped),
        TEST(a_window_reads_many_neighbours_at_once),
        TEST(a_window_takes_records_of_any_size),
        TEST(a_window_does_not_hide_what_was_written_since),
        TEST(a_window_that_could_not_be_read_is_not_believed),
        TEST(a_visit_shows_a_segments_records_rewritten_or_not),
        TEST(a_visit_finds_any_flipped_bit),
        TEST(a_visit_checks_each_record_in_a_good_batch),
        TEST(recovery_from_a_mark_shows_its_batch_and_all_later_ones),
        TEST(recovery_from_any_mark_misses_nothing),
        TEST(a_log_goes_on_behind_its_checkpoint),
        TEST(segments_before_the_checkpoint_are_not_touched),
        TEST(a_checkpoint_at_the_end_of_a_rewritten_segment_is_good),
        TEST(a_torn_tail_behind_a_checkpoint_is_cut_off),
        TEST(damage_behind_a_checkpoint_is_refused),
        TEST(after_a_clean_stop_nothing_behind_the_end_is_looked_at),
        TEST(rolling_begins_a_new_segment),
        TEST(rolling_waits_for_no_idle_moment),
        TEST(rolling_needs_room_and_a_working_disk),
    };
    return cmocka_run_group_tests_name("log_segments", tests, NULL, NULL);
}
