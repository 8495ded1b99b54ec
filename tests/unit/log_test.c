/*
 * log: what was committed is there after a crash, exactly once and in order; what was not is cut
 * off; what is damaged is refused by name. On the fake io, whose clock and failures are ours, and
 * for the whole way also on the real ones.
 */
#define _GNU_SOURCE 1

#include "tests/unit/log_fixture.h"

#include <sys/mount.h>

/* Writing and reading. */

static void what_was_appended_is_recovered_in_order(void **state)
{
    struct fixture *f = *state;
    log_position positions[20], previous = 0;
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(log_reserve(f->logs[0], i * 50), 0);
        positions[i] = previous = append(f->logs[0], "session-a", i + 1, i * 50, previous);
        if (i % 3 == 2)
            settle(f, f->logs[0]);
    }
    settle(f, f->logs[0]);
    assert_int_equal(f->commits, 7);
    assert_int_equal(log_stats(f->logs[0])->records, 20);
    assert_int_equal(log_stats(f->logs[0])->batches, 7);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 20);
    for (size_t i = 0; i < 20; i++) {
        assert_true(f->seen[i].position == positions[i]);
        assert_true(f->seen[i].previous == (i == 0 ? 0 : positions[i - 1]));
        assert_string_equal(f->seen[i].session, "session-a");
        assert_int_equal(f->seen[i].epoch, 5);
        assert_int_equal(f->seen[i].body_bytes, i * 50);
    }
    assert_int_equal(f->torn_bytes, 0);
}

static void all_members_of_a_record_come_back(void **state)
{
    struct fixture *f = *state;
    char longest[LOG_SESSION_MAX_BYTES];
    memset(longest, 'z', sizeof(longest));
    struct log_record record = {.type = LOG_RECORD_TOMBSTONE,
                                .flags = LOG_RECORD_DIRECTORY | LOG_RECORD_IMPORTING,
                                .session = {longest, sizeof(longest)},
                                .epoch = UINT64_MAX - 1,
                                .seq = UINT64_MAX - 2,
                                .events = UINT32_MAX,
                                .ts_ms = INT64_MIN,
                                .previous = UINT64_MAX - 3};
    assert_int_equal(log_reserve(f->logs[0], 0), 0);
    log_append(f->logs[0], &record);
    settle(f, f->logs[0]);
    crash(f);
    start(f);
    assert_int_equal(f->seen_count, 1);
    assert_int_equal(f->seen[0].type, LOG_RECORD_TOMBSTONE);
    assert_int_equal(f->seen[0].flags, LOG_RECORD_DIRECTORY | LOG_RECORD_IMPORTING);
    assert_memory_equal(f->seen[0].session, longest, sizeof(longest));
    assert_true(f->seen[0].epoch == UINT64_MAX - 1 && f->seen[0].seq == UINT64_MAX - 2);
    assert_true(f->seen[0].previous == UINT64_MAX - 3 && f->seen[0].body_bytes == 0);
}

static void single_records_can_be_read_whatever_their_size(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 1, 100, 4000, 4096, 5000, 20000, 50000};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    struct noted_read noted = {0};
    log_position positions[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        positions[i] = put(f, 0, "s", i + 1, sizes[i]);
    for (size_t i = COUNT; i-- > 0;) {
        read_at(f, &noted, positions[i]);
        assert_int_equal(noted.result, 0);
        assert_int_equal(noted.read.record.seq, i + 1);
        assert_int_equal(noted.read.record.body.n, sizes[i]);
        assert_body(&noted.read.record);
    }
    log_read_release(&noted.read);
}

static void reading_where_no_record_stands_fails(void **state)
{
    struct fixture *f = *state;
    struct noted_read noted = {0};
    log_position position = put(f, 0, "s", 1, 300);
    put(f, 0, "s", 2, 300);
    const log_position wrong[] = {position + 8, position - 8, log_position_of(1, SEGMENT_BYTES - 8),
                                  position + (1 << 12), log_position_of(1, SEGMENT_BYTES - 64)};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        read_at(f, &noted, wrong[i]);
        assert_int_equal(noted.result, -EIO);
    }
    char flipped = 'X';
    file_patch(segment_path(f, 1), offset_of(position) + 200, &flipped, 1);
    read_at(f, &noted, position);
    assert_int_equal(noted.result, -EIO);
    const log_position nowhere[] = {log_position_of(77, FIRST), log_position_of(UINT32_MAX, FIRST),
                                    log_position_of(1, UINT32_MAX - 7), LOG_POSITION_NONE};
    for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
        read_at(f, &noted, nowhere[i]);
        assert_int_equal(noted.result, -ENOENT);
    }
    log_read_release(&noted.read);
}

static void a_start_goes_on_where_the_last_one_stopped(void **state)
{
    struct fixture *f = *state;
    for (uint64_t i = 0; i < 30; i++) {
        put(f, 0, "s", i + 1, 1000);
        if (i % 2 == 0)
            crash(f);
        else
            stop(f);
        start(f);
        assert_seqs_seen(f, 1, i + 1);
        assert_int_equal(log_committed(f->logs[0]), i + 1);
        assert_int_equal(log_building(f->logs[0]), i + 2);
    }
}

static void segments_follow_each_other_without_a_gap(void **state)
{
    struct fixture *f = *state;
    for (uint64_t i = 0; i < 300; i++)
        put(f, 0, "s", i + 1, 1 + i * 37 % 9000);
    assert_true(log_stats(f->logs[0])->segments > 15);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 300);
    for (size_t i = 0; i < f->seen_count; i++)
        assert_true(offset_of(f->seen[i].position) + f->seen[i].body_bytes < SEGMENT_BYTES);
}

static void the_next_segment_is_prepared_when_one_is_half_full(void **state)
{
    struct fixture *f = *state;
    io_fake_set_automatic(f->fake, false);
    assert_int_equal(log_reserve(f->logs[0], SEGMENT_BYTES / 4), 0);
    append(f->logs[0], "s", 1, SEGMENT_BYTES / 4, 0);
    turn(f);
    assert_int_equal(io_fake_count(f->fake), 0);
    assert_int_equal(log_reserve(f->logs[0], SEGMENT_BYTES / 4), 0);
    append(f->logs[0], "s", 2, SEGMENT_BYTES / 4, 0);
    turn(f);
    assert_int_equal(io_fake_count(f->fake), 1);
    assert_int_equal(io_fake_kind(f->fake, 0), IO_FAKE_JOB);
    io_fake_set_automatic(f->fake, true);
}

static void a_record_waits_for_the_segment_that_is_being_prepared(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 25000);
    io_fake_set_automatic(f->fake, false);
    assert_int_equal(log_reserve(f->logs[0], 40000), -EAGAIN);
    turn(f);
    assert_int_equal(log_reserve(f->logs[0], 40000), -EAGAIN);
    assert_int_equal(log_reserve(f->logs[0], 10000), 0);
    io_fake_complete(f->fake, io_fake_find(f->fake, IO_FAKE_JOB));
    turn(f);
    assert_int_equal(log_reserve(f->logs[0], 40000), 0);
    assert_int_equal(append(f->logs[0], "s", 2, 40000, 0) >> 32, 2);
    io_fake_set_automatic(f->fake, true);
    settle(f, f->logs[0]);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 2);
}

static void a_batch_never_spans_segments(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 35000);
    assert_int_equal(log_reserve(f->logs[0], 20000), 0);
    append(f->logs[0], "s", 2, 20000, 0);
    /* The next one would not fit: the batch has to go first. */
    assert_int_equal(log_reserve(f->logs[0], 20000), -EAGAIN);
    log_commit(f->logs[0]);
    assert_int_equal(log_reserve(f->logs[0], 20000), 0);
    assert_int_equal(append(f->logs[0], "s", 3, 20000, 0) >> 32, 2);
    settle(f, f->logs[0]);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 3);
}

static void a_record_larger_than_any_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(log_reserve(f->logs[0], SEGMENT_BYTES), -EFBIG);
    assert_int_equal(log_reserve(f->logs[0], SIZE_MAX), -EFBIG);
    assert_int_equal(log_reserve(f->logs[0], SEGMENT_BYTES - FIRST - 100), -EFBIG);
    assert_int_equal(log_reserve(f->logs[0], 50000), 0);
}

/* One that was larger than segments are now is skipped over too. */
static void segments_of_different_sizes_can_be_mixed(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 40000); /* a second small segment is prepared */
    crash(f);
    f->options.segment_bytes = 1 << 20;
    start(f);
    put(f, 0, "s", 2, 500000); /* fits in neither of the small ones */
    put(f, 0, "s", 3, 10);
    crash(f);
    f->options.segment_bytes = SEGMENT_BYTES;
    start(f);
    assert_seqs_seen(f, 1, 3);
    put(f, 0, "s", 4, 50000);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 4);
}

static void a_batch_being_built_is_bounded(void **state)
{
    struct fixture *f = *state;
    crash(f);
    f->options.segment_bytes = 64 << 20;
    start(f);
    put(f, 0, "s", 1, 100000); /* in a segment of the new size */
    io_fake_set_automatic(f->fake, false);
    uint64_t seq = 1;
    while (log_reserve(f->logs[0], 1 << 20) == 0)
        append(f->logs[0], "s", ++seq, 1 << 20, 0);
    assert_int_equal(log_reserve(f->logs[0], 1 << 20), -EAGAIN);
    assert_in_range(seq, 7, 9);
    log_commit(f->logs[0]);
    /* The other buffer takes what comes while the first is in flight; here, one huge record. */
    assert_int_equal(log_reserve(f->logs[0], 20 << 20), 0);
    append(f->logs[0], "s", ++seq, 20 << 20, 0);
    assert_int_equal(log_reserve(f->logs[0], 1), -EAGAIN);
    io_fake_set_automatic(f->fake, true);
    settle(f, f->logs[0]);
    assert_int_equal(log_reserve(f->logs[0], 1), 0);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, seq);
}

static void one_commit_is_in_flight_and_the_next_gathers_what_comes(void **state)
{
    struct fixture *f = *state;
    struct log *log = f->logs[0];
    io_fake_set_automatic(f->fake, false);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        assert_int_equal(log_reserve(log, 10), 0);
        append(log, "s", seq, 10, 0);
        assert_int_equal(log_building(log), seq == 1 ? 1 : 2);
        log_commit(log);
    }
    turn(f);
    assert_int_equal(io_fake_count(f->fake), 1);
    assert_int_equal(f->commits, 0);
    assert_false(log_idle(log));
    io_fake_complete(f->fake, 0);
    turn(f);
    assert_int_equal(f->committed, 1);
    log_commit(log);
    turn(f);
    io_fake_complete(f->fake, 0);
    turn(f);
    assert_int_equal(f->committed, 2);
    assert_int_equal(log_committed(log), 2);
    assert_int_equal(log_stats(log)->records, 5);
    assert_int_equal(io_fake_syncs(f->fake), 2);
    assert_true(log_idle(log));
    io_fake_set_automatic(f->fake, true);
}

/* Crashes. */

/* Two whole batches, and a third of some pages: positions[2] is where that one's record stands. */
static uint64_t write_three_batches(struct fixture *f, size_t last_bytes)
{
    put(f, 0, "s", 1, 700);
    put(f, 0, "s", 2, 900);
    log_position last = put(f, 0, "s", 3, last_bytes);
    return offset_of(last) - sizeof(struct log_batch_header);
}

static void assert_cut_to_two(struct fixture *f, uint64_t start_of_last, bool expect_torn)
{
    assert_int_equal(open_dir(f), 0);
    if (recover(f) != 0)
        fail_msg("%s", f->error);
    assert_seqs_seen(f, 1, 2);
    assert_true((f->torn_bytes != 0) == expect_torn);
    datadir_close(f->dir, false);
    f->dir = NULL;
    struct buf file = file_read(segment_path(f, 1));
    static const char zeros[SEGMENT_BYTES];
    assert_memory_equal(file.p + start_of_last, zeros, file.n - start_of_last);
    buf_free(&file);
}

static void a_last_batch_that_ends_anywhere_is_cut_off(void **state)
{
    struct fixture *f = *state;
    uint64_t from = write_three_batches(f, 6000);
    crash(f);
    struct buf whole = file_read(segment_path(f, 1));
    struct buf cut = file_read(segment_path(f, 1));
    uint64_t end = from + log_record_bytes(1, 6000) + sizeof(struct log_batch_header);
    for (uint64_t at = from; at < end - 7; at++) {
        memcpy(cut.p, whole.p, whole.n);
        memset(cut.p + at, 0, cut.n - at);
        if (memcmp(cut.p, whole.p, whole.n) == 0)
            continue; /* only the padding was cut */
        file_patch(segment_path(f, 1), from, cut.p + from, end - from);
        assert_cut_to_two(f, from, at > from);
    }
    buf_free(&whole);
    buf_free(&cut);
}

static void a_last_batch_with_any_byte_garbled_is_cut_off(void **state)
{
    struct fixture *f = *state;
    uint64_t from = write_three_batches(f, 5000);
    crash(f);
    struct buf file = file_read(segment_path(f, 1));
    uint64_t end = from + log_record_bytes(1, 5000) + sizeof(struct log_batch_header);
    for (uint64_t at = from; at < end; at++) {
        flip(&file.p[at], 0x10);
        file_patch(segment_path(f, 1), from, file.p + from, end - from);
        assert_cut_to_two(f, from, true);
        flip(&file.p[at], 0x10);
    }
    buf_free(&file);
}

/* The pages of the batch in flight reach the disk in any order, and any of them not. */
static void any_pages_of_the_batch_in_flight_may_be_missing(void **state)
{
    struct fixture *f = *state;
    uint64_t seq = 0;
    for (uint64_t pages = 0; pages < 31; pages++) {
        put(f, 0, "s", ++seq, 300);
        io_fake_set_automatic(f->fake, false);
        assert_int_equal(log_reserve(f->logs[0], 4096 * 3 + 500), 0);
        append(f->logs[0], "s", seq + 1, 4096 * 3 + 500, 0);
        log_commit(f->logs[0]);
        turn(f);
        size_t at = io_fake_find(f->fake, IO_FAKE_APPEND);
        const struct io_append *flying = io_fake_append(f->fake, at);
        uint64_t touched = (flying->offset % 4096 + flying->size + 4095) / 4096;
        bool whole = (pages & ((1 << touched) - 1)) == (1u << touched) - 1;
        io_fake_tear(f->fake, at, pages, -EIO);
        io_fake_set_automatic(f->fake, true);
        turn(f);
        crash(f);
        f->failures = 0;
        start(f);
        /* Written whole but not acknowledged: it may be there, and then it stays. */
        seq += whole;
        assert_seqs_seen(f, 1, seq);
        assert_int_equal(f->torn_bytes != 0, pages != 0 && !whole);
    }
}

/* Appends one record, and gives the append that writes it, which is still in flight. */
static const struct io_append *append_in_flight(struct fixture *f, uint64_t seq, size_t body_bytes)
{
    io_fake_set_automatic(f->fake, false);
    assert_int_equal(log_reserve(f->logs[0], body_bytes), 0);
    append(f->logs[0], "s", seq, body_bytes, 0);
    log_commit(f->logs[0]);
    turn(f);
    return io_fake_append(f->fake, io_fake_find(f->fake, IO_FAKE_APPEND));
}

static void land(struct fixture *f)
{
    io_fake_complete(f->fake, io_fake_find(f->fake, IO_FAKE_APPEND));
    io_fake_set_automatic(f->fake, true);
    settle(f, f->logs[0]);
}

static void batches_are_written_as_whole_blocks(void **state)
{
    struct fixture *f = *state;
    uint64_t end = FIRST;
    uint32_t segment = log_segment(f->logs[0]);
    for (uint64_t seq = 1; seq <= 40; seq++) {
        size_t body_bytes = seq * 97 % 5000;
        const struct io_append *flying = append_in_flight(f, seq, body_bytes);
        size_t bytes = sizeof(struct log_batch_header) + log_record_bytes(1, body_bytes);
        const char *buf = flying->buf;
        if (log_segment(f->logs[0]) != segment)
            end = FIRST;
        segment = log_segment(f->logs[0]);
        assert_true(flying->direct);
        assert_int_equal((uintptr_t)buf % IO_BLOCK_BYTES, 0);
        assert_int_equal(flying->size % IO_BLOCK_BYTES, 0);
        assert_int_equal(flying->offset, end - end % IO_BLOCK_BYTES);
        end += bytes;
        assert_in_range(flying->offset + flying->size - end, 0, IO_BLOCK_BYTES - 1);
        for (uint64_t at = end; at < flying->offset + flying->size; at++)
            assert_int_equal(buf[at - flying->offset], 0);
        land(f);
        if (seq % 7 == 0) { /* the block in which it goes on is read back */
            stop(f);
            start(f);
        }
    }
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 40);
}

static void where_nothing_can_be_written_directly_the_page_cache_is_used(void **state)
{
    struct fixture *f = *state;
    uint64_t seq = 0;
    for (f->direct = DIRECT_REFUSED; f->direct <= DIRECT_FAILS; f->direct++) {
        crash(f);
        start(f);
        for (unsigned i = 0; i < 30; i++) { /* over several segments, made meanwhile */
            const struct io_append *flying = append_in_flight(f, ++seq, SEGMENT_BYTES / 8);
            assert_false(flying->direct);
            land(f);
        }
    }
    f->direct = DIRECT_CAN;
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, seq);
}

static void what_is_synced_later_goes_through_the_page_cache(void **state)
{
    struct fixture *f = *state;
    stop(f);
    f->options.relaxed = true;
    start(f);
    assert_false(append_in_flight(f, 1, 100)->direct);
    io_fake_complete(f->fake, io_fake_find(f->fake, IO_FAKE_APPEND));
}

static void what_follows_a_cut_tail_is_found_again(void **state)
{
    struct fixture *f = *state;
    for (uint64_t round = 0; round < 10; round++) {
        put(f, 0, "s", 2 * round + 1, 3000);
        log_position last = put(f, 0, "s", 2 * round + 2, 3000);
        crash(f);
        uint32_t number = (uint32_t)(last >> 32);
        file_patch(segment_path(f, number), offset_of(last) + 100, "torn", 4);
        start(f);
        assert_seqs_seen(f, 1, 2 * round + 1);
        assert_int_equal(log_stats(f->logs[0])->torn_bytes, f->torn_bytes);
        assert_true(f->torn_bytes > 3000);
        put(f, 0, "s", 2 * round + 2, 500);
        crash(f);
        start(f);
        assert_seqs_seen(f, 1, 2 * round + 2);
    }
}

static void a_torn_first_batch_of_a_segment_is_cut_off(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 40000);
    log_position second = put(f, 0, "s", 2, 40000);
    assert_int_equal(second >> 32, 2);
    crash(f);
    file_patch(segment_path(f, 2), FIRST, "torn", 4);
    start(f);
    assert_seqs_seen(f, 1, 1);
    put(f, 0, "s", 2, 45000);
    put(f, 0, "s", 3, 10);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 3);
}

static void the_very_first_batch_may_be_torn(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 400);
    crash(f);
    file_patch(segment_path(f, 1), FIRST + 100, "torn", 4);
    start(f);
    assert_int_equal(f->seen_count, 0);
    assert_int_equal(log_building(f->logs[0]), 1);
    put(f, 0, "s", 1, 40);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, 1);
}

/* A body may hold what looks like batches: bytes of this very log, and headers made up. */
static void content_that_looks_like_batches_is_cut_off_like_any_other(void **state)
{
    struct fixture *f = *state;
    uint64_t from = write_three_batches(f, 12000);
    put(f, 0, "s", 4, 500);
    crash(f);
    struct buf file = file_read(segment_path(f, 1));
    struct log_batch_header made_up = {.magic = LOG_BATCH_MAGIC, .bytes = 1024, .number = 9};
    made_up.synced = 8;
    made_up.records = 1;
    /* The last two batches, torn, with copies of whole ones and made up headers in between. */
    uint64_t last = from + log_record_bytes(1, 12000) + sizeof(struct log_batch_header);
    memset(file.p + last, 0, file.n - last);
    flip(&file.p[from], 1);
    memcpy(file.p + from + 1024, file.p + FIRST, 1600);
    for (uint64_t at = from + 4096; at + sizeof(made_up) < last; at += 8)
        memcpy(file.p + at, &made_up, sizeof(made_up));
    file_write(segment_path(f, 1), file.p, file.n);
    assert_cut_to_two(f, from, true);
    buf_free(&file);
}

static void garbage_behind_the_end_is_overwritten(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 400);
    put(f, 0, "s", 2, 400);
    crash(f);
    file_patch(segment_path(f, 1), SEGMENT_BYTES - 9, "older life", 9);
    assert_cut_to_two(f, FIRST + 2 * (log_record_bytes(1, 400) + sizeof(struct log_batch_header)),
                      true);
}

/* Damage. */

static void any_flipped_bit_in_an_earlier_batch_is_refused(void **state)
{
    struct fixture *f = *state;
    uint64_t to = write_three_batches(f, 300);
    crash(f);
    struct buf file = file_read(segment_path(f, 1));
    uint64_t second = FIRST + log_record_bytes(1, 700) + sizeof(struct log_batch_header);
    for (uint64_t at = FIRST; at < to; at++) {
        char offset[32];
        snprintf(offset, sizeof(offset), "offset %llu",
                 (unsigned long long)(at < second ? FIRST : second));
        flip(&file.p[at], 1 << at % 8);
        file_patch(segment_path(f, 1), FIRST, file.p + FIRST, to - FIRST);
        assert_refused(f, "segment-00000001.log", offset);
        flip(&file.p[at], 1 << at % 8);
    }
    buf_free(&file);
}

static void any_flipped_bit_in_a_segments_header_is_refused(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 300);
    crash(f);
    struct buf file = file_read(segment_path(f, 1));
    for (size_t at = 0; at < sizeof(struct log_segment_header) * 8; at++) {
        flip(&file.p[at / 8], 1 << at % 8);
        file_write(segment_path(f, 1), file.p, file.n);
        int result = open_dir(f);
        assert_true(result < 0);
        assert_non_null(strstr(f->error, "segment-00000001.log"));
        flip(&file.p[at / 8], 1 << at % 8);
    }
    file_write(segment_path(f, 1), file.p, file.n);
    buf_free(&file);
    start(f);
    assert_seqs_seen(f, 1, 1);
}

static void fill_segments(struct fixture *f, uint32_t count)
{
    for (uint64_t seq = 1; log_stats(f->logs[0])->segments <= count; seq++)
        put(f, 0, "s", seq, 5000);
}

static void damage_in_a_full_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    fill_segments(f, 4);
    crash(f);
    file_patch(segment_path(f, 2), 20000, "damaged", 7);
    assert_refused(f, "segment-00000002.log", "offset ");
}

static void a_lost_first_batch_of_a_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    char zeros[4096] = {0};
    fill_segments(f, 4);
    crash(f);
    file_patch(segment_path(f, 3), FIRST, "damaged", 7);
    assert_refused(f, "segment-00000003.log", "offset 4096");
    file_patch(segment_path(f, 3), FIRST, zeros, sizeof(zeros));
    assert_refused(f, "segment-0000000", "damaged or missing");
}

static void a_lost_last_batch_of_a_full_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    fill_segments(f, 3);
    crash(f);
    start(f);
    uint64_t last = 0;
    for (size_t i = 0; i < f->seen_count; i++) {
        if (f->seen[i].position >> 32 == 1)
            last = offset_of(f->seen[i].position) - sizeof(struct log_batch_header);
    }
    crash(f);
    char *zeros = mem_alloc(SEGMENT_BYTES - last);
    memset(zeros, 0, SEGMENT_BYTES - last);
    file_patch(segment_path(f, 1), last, zeros, SEGMENT_BYTES - last);
    free(zeros);
    char offset[32];
    snprintf(offset, sizeof(offset), "offset %llu", (unsigned long long)last);
    assert_refused(f, "segment-00000001.log", offset);
}

/* After a clean stop the log's end is known: even its last batch cannot get lost unnoticed. */
static void after_a_clean_stop_damage_to_the_last_batch_is_refused(void **state)
{
    struct fixture *f = *state;
    uint64_t last = write_three_batches(f, 300);
    stop(f);
    file_patch(segment_path(f, 1), last + 99, "damaged", 7);
    char offset[32];
    snprintf(offset, sizeof(offset), "offset %llu", (unsigned long long)last);
    assert_refused(f, "segment-00000001.log", offset);
}

static int stop_at_two(void *ctx, const struct log_record *record, log_position position)
{
    (void)ctx, (void)position;
    return record->seq == 2 ? 42 : 0;
}

static void a_visitor_can_stop(void **state)
{
    struct fixture *f = *state;
    write_three_batches(f, 10);
    crash(f);
    assert_int_equal(open_dir(f), 0);
    assert_int_equal(recover(f), 0);
    assert_int_equal(recover_log(f, 0, stop_at_two), 42);
}

/* A shard that is ahead of another writes while that one still reads. */
static void recovery_does_not_see_what_is_appended_meanwhile(void **state)
{
    struct fixture *f = *state;
    write_three_batches(f, 10);
    crash(f);
    assert_int_equal(open_dir(f), 0);
    assert_int_equal(recover(f), 0);
    struct datadir_end end;
    assert_true(datadir_get_end(f->dir, 1, 0, &end));
    open_logs(f);
    put(f, 0, "s", 4, 100);
    datadir_set_end(f->dir, 1, 0, &end); /* as the other one has found it */
    f->seen_count = 0;
    assert_int_equal(recover_log(f, 0, see), 0);
    assert_seqs_seen(f, 1, 3);
}

/* Shards. */

static void each_shard_has_a_log_of_its_own(void **state)
{
    struct fixture *f = *state;
    crash(f);
    f->options.shards = 3;
    start(f);
    for (uint64_t seq = 1; seq <= 60; seq++) {
        char session[2] = {(char)('a' + seq % 3), 0};
        put(f, seq % 3, session, seq, 4000);
    }
    crash(f);
    start(f);
    assert_int_equal(f->seen_count, 60);
    for (size_t i = 0; i < f->seen_count; i++) {
        assert_int_equal(f->seen[i].seq % 3, i / 20);
        assert_int_equal(f->seen[i].session[0], 'a' + i / 20);
        assert_true(i % 20 == 0 || f->seen[i].seq == f->seen[i - 1].seq + 3);
    }
}

/* What older generations hold is in the checkpoints that begin a new one; its records stay. */
static void a_new_shard_count_begins_new_logs_and_keeps_old_records(void **state)
{
    struct fixture *f = *state;
    static const unsigned shards[] = {3, 2, 1, 3};
    struct noted_read noted = {0};
    log_position old = put(f, 0, "old", 1, 1500);
    for (size_t life = 0; life < sizeof(shards) / sizeof(shards[0]); life++) {
        if (life % 2 == 0)
            crash(f);
        else
            stop(f);
        f->options.shards = shards[life];
        start(f);
        assert_int_equal(f->torn_bytes, 0);
        read_at(f, &noted, old);
        assert_int_equal(noted.result, 0);
        assert_int_equal(noted.read.record.seq, life + 1);
        old = put(f, shards[life] - 1, "old", life + 2, 1500);
        crash(f);
        start(f);
        assert_seqs_seen(f, life + 2, life + 2);
    }
    log_read_release(&noted.read);
}

/* The crash may come before the older generation's tail has been looked at for the first time. */
static void a_tail_torn_before_the_shard_count_changed_is_cut_off(void **state)
{
    struct fixture *f = *state;
    uint64_t last = write_three_batches(f, 2000);
    crash(f);
    file_patch(segment_path(f, 1), last + 500, "torn", 4);
    f->options.shards = 3;
    assert_int_equal(open_dir(f), 0);
    crash(f);
    f->options.shards = 2;
    start(f);
    assert_seqs_seen(f, 1, 2);
    assert_true(f->torn_bytes != 0);
    put(f, 0, "s", 3, 10);
    crash(f);
    start(f);
    assert_seqs_seen(f, 3, 3);
    assert_int_equal(f->torn_bytes, 0);
}

static void segments_prepared_for_an_older_generation_are_given_back(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 40000);
    assert_true(file_exists(segment_path(f, 2)));
    crash(f);
    f->options.shards = 2;
    start(f);
    assert_seqs_seen(f, 1, 1);
    assert_true(file_exists(segment_path(f, 1)));
    assert_false(file_exists(segment_path(f, 2)));
    crash(f);
    f->options.shards = 3; /* generation 2 is empty */
    start(f);
    assert_int_equal(f->seen_count, 0);
    assert_false(file_exists(segment_path(f, 3)));
    assert_false(file_exists(segment_path(f, 4)));
}

/* No room. */

/* Fills the segment until a record of 1000 bytes finds no room; returns the last seq. */
static uint64_t fill_up(struct fixture *f, int error)
{
    uint64_t seq = 0;
    int result;
    io_fake_set_automatic(f->fake, false);
    while ((result = log_reserve(f->logs[0], 1000)) == 0) {
        append(f->logs[0], "s", ++seq, 1000, 0);
        log_commit(f->logs[0]);
        turn(f);
        if (io_fake_find(f->fake, IO_FAKE_JOB) < io_fake_count(f->fake))
            fail_preparation(f, error);
        io_fake_complete(f->fake, 0);
        turn(f);
    }
    assert_int_equal(result, -ENOSPC);
    return seq;
}

static void a_full_disk_refuses_records_and_takes_them_again_later(void **state)
{
    struct fixture *f = *state;
    uint64_t seq = fill_up(f, -ENOSPC);
    assert_int_equal(f->failures, 0);
    /* Not before a second has passed is it tried again. */
    io_fake_advance_ms(f->fake, 999);
    assert_int_equal(log_reserve(f->logs[0], 1000), -ENOSPC);
    turn(f);
    assert_int_equal(io_fake_count(f->fake), 0);
    io_fake_advance_ms(f->fake, 1);
    assert_int_equal(log_reserve(f->logs[0], 1000), -ENOSPC);
    fail_preparation(f, -ENOSPC);
    assert_int_equal(log_reserve(f->logs[0], 1000), -ENOSPC);
    io_fake_advance_ms(f->fake, 1000);
    assert_int_equal(log_reserve(f->logs[0], 1000), -ENOSPC);
    turn(f);
    io_fake_complete(f->fake, io_fake_find(f->fake, IO_FAKE_JOB));
    turn(f);
    io_fake_set_automatic(f->fake, true);
    put(f, 0, "s", seq + 1, 1000);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, seq + 1);
}

static void a_tombstone_still_fits_when_nothing_else_does(void **state)
{
    struct fixture *f = *state;
    uint64_t seq = fill_up(f, -ENOSPC);
    io_fake_set_automatic(f->fake, true);
    while (log_reserve(f->logs[0], 0) == 0) {
        append(f->logs[0], "s", ++seq, 0, 0);
        settle(f, f->logs[0]);
    }
    unsigned tombstones = 0;
    while (log_reserve_tombstone(f->logs[0], 0) == 0) {
        struct log_record record = {
            .type = LOG_RECORD_TOMBSTONE, .session = STR("s"), .seq = ++seq, .epoch = 5};
        log_append(f->logs[0], &record);
        settle(f, f->logs[0]);
        tombstones++;
    }
    assert_in_range(tombstones, 20, 100);
    assert_int_equal(log_reserve_tombstone(f->logs[0], 0), -ENOSPC);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, seq);
}

static void running_out_of_fds_is_like_a_full_disk(void **state)
{
    struct fixture *f = *state;
    fill_up(f, -EMFILE);
    assert_int_equal(f->failures, 0);
}

static void a_segment_that_cannot_be_synced_is_final(void **state)
{
    struct fixture *f = *state;
    put(f, 0, "s", 1, 25000);
    io_fake_set_automatic(f->fake, false);
    assert_int_equal(log_reserve(f->logs[0], 10000), 0);
    append(f->logs[0], "s", 2, 10000, 0);
    fail_preparation(f, -EIO);
    assert_int_equal(f->failures, 1);
    assert_int_equal(log_reserve(f->logs[0], 1), -EIO);
}

/* Of a test that did not get to it itself. */
static int unmount_and_tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->dir != NULL)
        crash(f);
    umount2(scratch_file(&f->scratch, "mounted"), MNT_DETACH);
    return tear_down(state);
}

/* The same on a file system that is really full, where this may be mounted. */
static void a_full_file_system_is_survived(void **state)
{
    struct fixture *f = *state;
    crash(f);
    const char *path = scratch_file(&f->scratch, "mounted");
    assert_int_equal(mkdir(path, 0700), 0);
    if (mount("tmpfs", path, "tmpfs", 0, "size=512k") != 0)
        skip();
    char data[128], filler[160];
    snprintf(data, sizeof(data), "%s/data", path);
    snprintf(filler, sizeof(filler), "%s/filler", path);
    static const char zeros[200 << 10];
    file_write(filler, zeros, sizeof(zeros));
    f->path = data;
    start(f);
    uint64_t seq = 0;
    int result;
    while ((result = log_reserve(f->logs[0], 3000)) == 0 || result == -EAGAIN) {
        if (result == 0)
            append(f->logs[0], "s", ++seq, 3000, 0);
        settle(f, f->logs[0]);
    }
    assert_int_equal(result, -ENOSPC);
    assert_int_equal(f->failures, 0);
    assert_true(seq > 30);
    assert_int_equal(unlink(filler), 0);
    io_fake_advance_ms(f->fake, 1000);
    assert_int_equal(log_reserve(f->logs[0], 3000), -ENOSPC);
    settle(f, f->logs[0]);
    put(f, 0, "s", ++seq, 3000);
    crash(f);
    start(f);
    assert_seqs_seen(f, 1, seq);
    crash(f);
    assert_int_equal(umount(path), 0);
    f->path = f->scratch.path;
}

/* Failures of the disk. */

static void a_failed_commit_is_final(void **state)
{
    struct fixture *f = *state;
    struct log *log = f->logs[0];
    put(f, 0, "s", 1, 100);
    io_fake_set_automatic(f->fake, false);
    assert_int_equal(log_reserve(log, 100), 0);
    append(log, "s", 2, 100, 0);
    log_commit(log);
    assert_int_equal(log_reserve(log, 100), 0);
    append(log, "s", 3, 100, 0);
    turn(f);
    io_fake_fail(f->fake, 0, -EIO);
    turn(f);
    assert_int_equal(f->failures, 1);
    assert_int_equal(f->failed_with, EIO);
    assert_int_equal(f->committed, 1);
    assert_int_equal(log_committed(log), 1);
    assert_int_equal(log_reserve(log, 1), -EIO);
    assert_int_equal(log_reserve_tombstone(log, 1), -EIO);
    log_commit(log);
    turn(f);
    assert_int_equal(io_fake_count(f->fake), 0); /* nothing is tried again */
    assert_true(log_idle(log));
    crash(f);
    assert_int_equal(f->failures, 1);
    start(f);
    assert_seqs_seen(f, 1, 1);
}

/* LOG_RELAXED. */

static void start_relaxed(struct fixture *f)
{
    crash(f);
    f->options.relaxed = true;
    start(f);
    io_fake_set_automatic(f->fake, false);
}

/* Writes one batch, without anything being synced. */
static void put_relaxed(struct fixture *f, uint64_t seq, size_t body_bytes)
{
    assert_int_equal(log_reserve(f->logs[0], body_bytes), 0);
    append(f->logs[0], "s", seq, body_bytes, 0);
    log_commit(f->logs[0]);
    turn(f);
    size_t at = 0;
    while (at < io_fake_count(f->fake) &&
           (io_fake_kind(f->fake, at) != IO_FAKE_APPEND || io_fake_append(f->fake, at)->size == 0))
        at++;
    assert_int_equal(io_fake_append(f->fake, at)->sync, 0);
    io_fake_complete(f->fake, at);
    turn(f);
    assert_int_equal(f->committed, log_committed(f->logs[0]));
}

static void relaxed_commits_before_it_syncs_and_syncs_soon(void **state)
{
    struct fixture *f = *state;
    start_relaxed(f);
    struct log *log = f->logs[0];
    assert_int_equal(log_tick(log, 5000), -1);
    put_relaxed(f, 1, 100);
    assert_int_equal(f->committed, 1);
    assert_false(log_idle(log));
    assert_int_equal(log_tick(log, 5000), 100);
    put_relaxed(f, 2, 100);
    assert_int_equal(log_tick(log, 5060), 40);
    assert_int_equal(log_tick(log, 5100), -1);
    assert_int_equal(io_fake_count(f->fake), 1);
    assert_int_equal(io_fake_append(f->fake, 0)->sync, 1);
    assert_int_equal(io_fake_append(f->fake, 0)->size, 0);
    /* What is written while the sync is under way is left for the next one. */
    put_relaxed(f, 3, 100);
    assert_int_equal(log_tick(log, 5300), -1);
    assert_int_equal(io_fake_count(f->fake), 1);
    io_fake_complete(f->fake, 0);
    turn(f);
    assert_false(log_idle(log));
    assert_int_equal(log_tick(log, 5350), 50);
    assert_int_equal(log_tick(log, 5400), -1);
    io_fake_complete(f->fake, 0);
    turn(f);
    assert_true(log_idle(log));
    assert_int_equal(log_tick(log, 9000), -1);
}

static void relaxed_syncs_what_is_left_when_it_is_closed(void **state)
{
    struct fixture *f = *state;
    start_relaxed(f);
    put_relaxed(f, 1, 100);
    io_fake_set_automatic(f->fake, true);
    unsigned before = io_fake_syncs(f->fake);
    log_close(f->logs[0]);
    f->logs[0] = NULL;
    assert_int_equal(io_fake_syncs(f->fake), before + 1);
}

static void a_failed_relaxed_sync_is_final(void **state)
{
    struct fixture *f = *state;
    start_relaxed(f);
    put_relaxed(f, 1, 100);
    log_tick(f->logs[0], 0);
    log_tick(f->logs[0], 100);
    io_fake_fail(f->fake, 0, -EIO);
    turn(f);
    assert_int_equal(f->failures, 1);
    assert_int_equal(log_reserve(f->logs[0], 1), -EIO);
    assert_int_equal(log_tick(f->logs[0], 1000), -1);
    assert_true(log_idle(f->logs[0]));
}

/* Only the newest segment ever has something that is not on disk. */
static void relaxed_syncs_a_segment_before_it_begins_the_next(void **state)
{
    struct fixture *f = *state;
    start_relaxed(f);
    put_relaxed(f, 1, 40000);
    io_fake_complete(f->fake, io_fake_find(f->fake, IO_FAKE_JOB));
    turn(f);
    assert_int_equal(log_reserve(f->logs[0], 40000), 0);
    append(f->logs[0], "s", 2, 40000, 0);
    log_commit(f->logs[0]);
    turn(f);
    size_t at = io_fake_find(f->fake, IO_FAKE_APPEND);
    assert_int_equal(io_fake_append(f->fake, at)->size, 0);
    assert_int_equal(io_fake_append(f->fake, at)->fd, segment_fd(f, 1));
    io_fake_complete(f->fake, at);
    turn(f);
    turn(f);
    at = io_fake_find(f->fake, IO_FAKE_APPEND);
    assert_true(io_fake_append(f->fake, at)->size > 40000);
    io_fake_complete(f->fake, at);
    turn(f);
    assert_int_equal(f->committed, 2);
    io_fake_set_automatic(f->fake, true);
}

/* Of what was not synced, a crash may take an earlier batch and leave a later one. */
static void unsynced_relaxed_batches_are_cut_off_from_the_first_bad_one(void **state)
{
    struct fixture *f = *state;
    start_relaxed(f);
    put_relaxed(f, 1, 500);
    log_tick(f->logs[0], 0);
    log_tick(f->logs[0], 100);
    io_fake_complete(f->fake, 0);
    turn(f);
    for (uint64_t seq = 2; seq <= 5; seq++)
        put_relaxed(f, seq, 500);
    io_fake_set_automatic(f->fake, true);
    crash(f);
    uint64_t step = log_record_bytes(1, 500) + sizeof(struct log_batch_header);
    file_patch(segment_path(f, 1), FIRST + 2 * step + 100, "torn", 4);
    start(f);
    assert_seqs_seen(f, 1, 2);
    assert_int_equal(f->torn_bytes, 3 * step);
    crash(f);
    /* Batch 1 had been on disk when batch 2 was written. */
    file_patch(segment_path(f, 1), FIRST + 100, "damaged", 7);
    assert_refused(f, "segment-00000001.log", "offset 4096");
}

/* The whole way on the real ones. */

static void run_on(struct fixture *f, enum io_kind kind)
{
    struct log_callbacks callbacks = {f, on_committed, on_failed};
    struct io *io;
    crash(f);
    if (io_new(kind, &io) != 0)
        skip();
    assert_int_equal(open_dir(f), 0);
    assert_int_equal(recover(f), 0);
    f->io = io;
    assert_int_equal(log_open(f->dir, 0, io, LOG_COMMIT, &callbacks, &f->logs[0]), 0);
    uint64_t seq = 0;
    for (size_t batch = 0; batch < 200; batch++) {
        for (size_t i = 0; i < 1 + batch % 7; i++) {
            if (log_reserve(f->logs[0], batch * 17) == 0)
                append(f->logs[0], "s", ++seq, batch * 17, 0);
        }
        settle(f, f->logs[0]);
    }
    assert_int_equal(f->failures, 0);
    assert_true(seq > 600);
    struct noted_read noted = {0};
    read_at(f, &noted, log_position_of(1, FIRST + sizeof(struct log_batch_header)));
    assert_int_equal(noted.result, 0);
    log_read_release(&noted.read);
    stop(f);
    start(f);
    assert_seqs_seen(f, 1, seq);
}

static void the_whole_way_on_helper_threads(void **state)
{
    run_on(*state, IO_POSIX);
}

static void the_whole_way_on_io_uring(void **state)
{
    run_on(*state, IO_URING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_appended_is_recovered_in_order),
        TEST(all_members_of_a_record_come_back),
        TEST(single_records_can_be_read_whatever_their_size),
        TEST(reading_where_no_record_stands_fails),
        TEST(a_start_goes_on_where_the_last_one_stopped),
        TEST(segments_follow_each_other_without_a_gap),
        TEST(the_next_segment_is_prepared_when_one_is_half_full),
        TEST(a_record_waits_for_the_segment_that_is_being_prepared),
        TEST(a_batch_never_spans_segments),
        TEST(a_record_larger_than_any_segment_is_refused),
        TEST(segments_of_different_sizes_can_be_mixed),
        TEST(a_batch_being_built_is_bounded),
        TEST(one_commit_is_in_flight_and_the_next_gathers_what_comes),
        TEST(a_last_batch_that_ends_anywhere_is_cut_off),
        TEST(a_last_batch_with_any_byte_garbled_is_cut_off),
        TEST(any_pages_of_the_batch_in_flight_may_be_missing),
        TEST(batches_are_written_as_whole_blocks),
        TEST(where_nothing_can_be_written_directly_the_page_cache_is_used),
        TEST(what_is_synced_later_goes_through_the_page_cache),
        TEST(what_follows_a_cut_tail_is_found_again),
        TEST(a_torn_first_batch_of_a_segment_is_cut_off),
        TEST(the_very_first_batch_may_be_torn),
        TEST(content_that_looks_like_batches_is_cut_off_like_any_other),
        TEST(garbage_behind_the_end_is_overwritten),
        TEST(any_flipped_bit_in_an_earlier_batch_is_refused),
        TEST(any_flipped_bit_in_a_segments_header_is_refused),
        TEST(damage_in_a_full_segment_is_refused),
        TEST(a_lost_first_batch_of_a_segment_is_refused),
        TEST(a_lost_last_batch_of_a_full_segment_is_refused),
        TEST(after_a_clean_stop_damage_to_the_last_batch_is_refused),
        TEST(a_visitor_can_stop),
        TEST(recovery_does_not_see_what_is_appended_meanwhile),
        TEST(each_shard_has_a_log_of_its_own),
        TEST(a_new_shard_count_begins_new_logs_and_keeps_old_records),
        TEST(a_tail_torn_before_the_shard_count_changed_is_cut_off),
        TEST(segments_prepared_for_an_older_generation_are_given_back),
        TEST(a_full_disk_refuses_records_and_takes_them_again_later),
        TEST(a_tombstone_still_fits_when_nothing_else_does),
        TEST(running_out_of_fds_is_like_a_full_disk),
        TEST(a_segment_that_cannot_be_synced_is_final),
        cmocka_unit_test_setup_teardown(a_full_file_system_is_survived, set_up,
                                        unmount_and_tear_down),
        TEST(a_failed_commit_is_final),
        TEST(relaxed_commits_before_it_syncs_and_syncs_soon),
        TEST(relaxed_syncs_what_is_left_when_it_is_closed),
        TEST(a_failed_relaxed_sync_is_final),
        TEST(relaxed_syncs_a_segment_before_it_begins_the_next),
        TEST(unsynced_relaxed_batches_are_cut_off_from_the_first_bad_one),
        TEST(the_whole_way_on_helper_threads),
        TEST(the_whole_way_on_io_uring),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
