/*
 * datadir: segments are made, rewritten and dropped, checkpoints replaced, generations begun; each
 * of it whole or not at all, wherever it is cut short, and under the feet of readers.
 */
#define _GNU_SOURCE 1

#include "tests/unit/datadir_fixture.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

/* Rewriting. */

/* Two runs of what stood in the segment: where they stood, how long they were. */
enum { RUN_1 = 8192, RUN_1_BYTES = 64, RUN_2 = 12288, RUN_2_BYTES = 128 };
enum { RUNS_BYTES = RUN_1_BYTES + RUN_2_BYTES, TABLE_BYTES = 2 * sizeof(struct datadir_extent) };
enum { REWRITTEN_BYTES = LOG_SEGMENT_HEADER_BYTES + RUNS_BYTES + TABLE_BYTES };

static struct datadir_extent *make_extents(void)
{
    struct datadir_extent *extents = mem_alloc(2 * sizeof(extents[0]));
    extents[0] = (struct datadir_extent){RUN_1, LOG_SEGMENT_HEADER_BYTES};
    extents[1] = (struct datadir_extent){RUN_2, LOG_SEGMENT_HEADER_BYTES + RUN_1_BYTES};
    return extents;
}

/* The file that goes with these extents: its runs hold '1' and '2'. */
static void make_rewritten(struct fixture *f, const struct datadir_segment *segment,
                           const struct datadir_extent *extents, char *file)
{
    struct datadir_segment whole = *segment;
    uint64_t seed = log_segment_seed(datadir_hash_key(f->dir), segment->number);
    char *runs = file + LOG_SEGMENT_HEADER_BYTES;
    whole.bytes = REWRITTEN_BYTES;
    log_rewritten_header_write(&whole, extents, 2, seed, file);
    memset(runs, '1', RUN_1_BYTES);
    memset(runs + RUN_1_BYTES, '2', RUN_2_BYTES);
    memcpy(runs + RUNS_BYTES, extents, TABLE_BYTES);
}

/* As a compaction would. */
static int rewrite(struct fixture *f, uint32_t number)
{
    char file[REWRITTEN_BYTES];
    struct datadir_segment rewritten;
    struct fs *fs = datadir_fs(f->dir);
    int result = datadir_begin_rewrite(f->dir, number, &rewritten);
    if (result != 0)
        return result;
    struct datadir_extent *extents = make_extents();
    make_rewritten(f, &rewritten, extents, file);
    result = fs->ops->write(fs, rewritten.fd, file, sizeof(file), 0);
    if (result == 0)
        return datadir_finish_rewrite(f->dir, &rewritten, extents, 2);
    free(extents);
    datadir_abandon_rewrite(f->dir, &rewritten);
    return result;
}

static struct datadir_segment find_segment(const struct fixture *f, uint32_t number)
{
    struct datadir_segment segments[64], none = {0};
    size_t count = datadir_segments(f->dir, 0, 0, segments, 64);
    for (size_t i = 0; i < count; i++) {
        if (segments[i].number == number)
            return segments[i];
    }
    return none;
}

/* The byte that stands where `offset` stood; 0: it is gone. */
static char byte_at(struct fixture *f, const struct datadir_file *file, uint32_t offset)
{
    struct fs *fs = datadir_fs(f->dir);
    uint64_t at, room;
    char byte;
    if (!datadir_locate(file, offset, &at, &room))
        return 0;
    assert_int_equal(fs->ops->read(fs, file->fd, &byte, 1, at), 1);
    return byte;
}

static void assert_is_rewritten(struct fixture *f, uint32_t number, uint32_t version)
{
    static const struct {
        uint32_t offset;
        uint64_t at, room;
    } places[] = {
        {0, 0, 0},
        {4096, 0, 0},
        {RUN_1 - 8, 0, 0},
        {RUN_1, 4096, RUN_1_BYTES},
        {RUN_1 + RUN_1_BYTES - 8, 4096 + RUN_1_BYTES - 8, 8},
        {RUN_1 + RUN_1_BYTES, 0, 0},
        {RUN_2 - 8, 0, 0},
        {RUN_2, 4096 + RUN_1_BYTES, RUN_2_BYTES},
        {RUN_2 + RUN_2_BYTES - 8, 4096 + RUNS_BYTES - 8, 8},
        {RUN_2 + RUN_2_BYTES, 0, 0},
        {UINT32_MAX, 0, 0},
    };
    const struct datadir_file *file = datadir_hold(f->dir, number);
    assert_non_null(file);
    assert_int_equal(file->version, version);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint64_t at = 0, room = 0;
        assert_int_equal(datadir_locate(file, places[i].offset, &at, &room), places[i].room != 0);
        if (places[i].room != 0) {
            assert_int_equal(at, places[i].at);
            assert_int_equal(room, places[i].room);
        }
    }
    assert_int_equal(byte_at(f, file, RUN_1), '1');
    assert_int_equal(byte_at(f, file, RUN_2), '2');
    datadir_release(f->dir, file);
}

static void what_stays_of_a_rewritten_segment_is_found_where_it_stood(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    open_dir(f);
    assert_int_equal(datadir_bytes(f->dir), 3 * SEGMENT_BYTES);
    assert_int_equal(rewrite(f, 1), 0);
    assert_is_rewritten(f, 1, 1);
    assert_int_equal(datadir_bytes(f->dir), 2 * SEGMENT_BYTES + REWRITTEN_BYTES);
    assert_names(f, " lock manifest manifest.next segment-00000001.1.log segment-00000002.log"
                    " segment-00000003.log");
    close_dir(f, false);
    open_dir(f);
    assert_is_rewritten(f, 1, 1);
    struct datadir_segment segment = find_segment(f, 1);
    assert_int_equal(segment.version, 1);
    assert_int_equal(segment.bytes, REWRITTEN_BYTES);
    assert_int_equal(rewrite(f, 1), 0);
    assert_is_rewritten(f, 1, 2);
    assert_names(f, " lock manifest manifest.next segment-00000001.2.log segment-00000002.log"
                    " segment-00000003.log");
}

static void everything_stands_where_it_stood_in_a_segment_as_it_was_written(void **state)
{
    struct fixture *f = *state;
    uint64_t at, room;
    open_dir(f);
    add_segment(f, 0);
    const struct datadir_file *file = datadir_hold(f->dir, 1);
    assert_true(datadir_locate(file, 8192, &at, &room));
    assert_int_equal(at, 8192);
    assert_int_equal(room, SEGMENT_BYTES - 8192);
    assert_false(datadir_locate(file, SEGMENT_BYTES, &at, &room));
    datadir_release(f->dir, file);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void who_holds_a_file_reads_on_when_it_is_replaced(void **state)
{
    struct fixture *f = *state;
    open_dir(f);
    struct datadir_segment segment = add_segment(f, 0);
    struct fs *fs = datadir_fs(f->dir);
    assert_int_equal(fs->ops->write(fs, segment.fd, "old", 3, RUN_1), 0);
    const struct datadir_file *one = datadir_hold(f->dir, 1);
    const struct datadir_file *two = datadir_hold(f->dir, 1);
    assert_int_equal(rewrite(f, 1), 0);
    assert_false(file_exists(in_data(f, "segment-00000001.log")));
    assert_int_equal(byte_at(f, one, RUN_1), 'o');
    int fd = one->fd;
    datadir_release(f->dir, one);
    assert_int_equal(byte_at(f, two, RUN_1), 'o');
    assert_is_rewritten(f, 1, 1);
    assert_true(is_open(fd));
    datadir_release(f->dir, two);
    assert_false(is_open(fd));
}

static void who_holds_a_file_reads_on_when_it_is_dropped(void **state)
{
    struct fixture *f = *state;
    uint32_t number = 1;
    open_dir(f);
    add_segment(f, 0);
    assert_int_equal(rewrite(f, 1), 0);
    const struct datadir_file *file = datadir_hold(f->dir, 1);
    assert_int_equal(datadir_drop_segments(f->dir, &number, 1), 0);
    assert_null(datadir_hold(f->dir, 1));
    assert_false(file_exists(in_data(f, "segment-00000001.1.log")));
    assert_int_equal(byte_at(f, file, RUN_2), '2');
    int fd = file->fd;
    datadir_release(f->dir, file);
    assert_false(is_open(fd));
}

static void a_rewritten_file_that_cannot_be_read_back_replaces_nothing(void **state)
{
    struct fixture *f = *state;
    char file[REWRITTEN_BYTES];
    struct datadir_segment rewritten;
    struct fs *fs;
    open_dir(f);
    fs = datadir_fs(f->dir);
    add_segment(f, 0);
    for (size_t cut = 0; cut < 3; cut++) {
        static const size_t sizes[] = {0, REWRITTEN_BYTES - 1, REWRITTEN_BYTES};
        assert_int_equal(datadir_begin_rewrite(f->dir, 1, &rewritten), 0);
        struct datadir_extent *extents = make_extents();
        make_rewritten(f, &rewritten, extents, file);
        flip(&file[REWRITTEN_BYTES - 1], 1);
        assert_int_equal(fs->ops->write(fs, rewritten.fd, file, sizes[cut], 0), 0);
        assert_int_equal(datadir_finish_rewrite(f->dir, &rewritten, extents, 2), -EIO);
        assert_false(is_open(rewritten.fd));
        assert_names(f, " lock manifest manifest.next segment-00000001.log");
    }
    assert_int_equal(find_segment(f, 1).version, 0);
    assert_int_equal(rewrite(f, 1), 0);
    assert_is_rewritten(f, 1, 1);
}

static void an_abandoned_rewrite_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    struct datadir_segment rewritten;
    open_dir(f);
    add_segment(f, 0);
    assert_int_equal(datadir_begin_rewrite(f->dir, 1, &rewritten), 0);
    assert_int_equal(rewritten.version, 1);
    assert_true(file_exists(in_data(f, "segment-00000001.1.log")));
    datadir_abandon_rewrite(f->dir, &rewritten);
    assert_names(f, " lock manifest manifest.next segment-00000001.log");
    assert_int_equal(rewrite(f, 1), 0);
}

static void a_segment_that_is_gone_is_not_rewritten(void **state)
{
    struct fixture *f = *state;
    char file[REWRITTEN_BYTES];
    struct datadir_segment rewritten;
    struct fs *fs;
    uint32_t number = 1;
    open_dir(f);
    fs = datadir_fs(f->dir);
    add_segment(f, 0);
    assert_int_equal(datadir_begin_rewrite(f->dir, 2, &rewritten), -ENOENT);
    assert_int_equal(datadir_begin_rewrite(f->dir, 1, &rewritten), 0);
    assert_int_equal(datadir_drop_segments(f->dir, &number, 1), 0);
    struct datadir_extent *extents = make_extents();
    make_rewritten(f, &rewritten, extents, file);
    assert_int_equal(fs->ops->write(fs, rewritten.fd, file, sizeof(file), 0), 0);
    assert_int_equal(datadir_finish_rewrite(f->dir, &rewritten, extents, 2), -ENOENT);
    assert_names(f, " lock manifest manifest.next");
}

static void any_flipped_bit_in_a_rewritten_segments_header_or_table_is_refused(void **state)
{
    struct fixture *f = *state;
    enum { HEADER = sizeof(struct log_segment_header) + sizeof(struct log_rewritten_header) };
    open_dir(f);
    add_segment(f, 0);
    assert_int_equal(rewrite(f, 1), 0);
    close_dir(f, false);
    struct buf file = file_read(in_data(f, "segment-00000001.1.log"));
    for (size_t i = 0; i < file.n; i++) {
        if (i == HEADER)
            i = REWRITTEN_BYTES - TABLE_BYTES;
        for (unsigned bit = 0; bit < 8; bit++) {
            struct datadir *dir = NULL;
            flip(&file.p[i], 1U << bit);
            file_patch(in_data(f, "segment-00000001.1.log"), i, &file.p[i], 1);
            assert_true(try_open(f, &dir) < 0);
            assert_non_null(strstr(f->error, "data/segment-00000001.1.log "));
            flip(&file.p[i], 1U << bit);
        }
        file_patch(in_data(f, "segment-00000001.1.log"), i, &file.p[i], 1);
    }
    buf_free(&file);
    open_dir(f);
    assert_is_rewritten(f, 1, 1);
}

static void a_table_that_makes_no_sense_is_refused_though_its_checksum_is_right(void **state)
{
    struct fixture *f = *state;
    static const struct datadir_extent tables[][2] = {
        {{RUN_2, 4096}, {RUN_1, 4096 + RUN_1_BYTES}},                   /* descending */
        {{RUN_1, 4096}, {RUN_1 + RUN_1_BYTES - 8, 4096 + RUN_1_BYTES}}, /* one over the other */
        {{RUN_1, 4096}, {RUN_2, 4096}},                                 /* nothing in the first */
        {{RUN_1, 4096}, {RUN_2, 4096 + RUNS_BYTES}},                    /* nothing in the second */
        {{RUN_1, 4104}, {RUN_2, 4096 + RUN_1_BYTES}},                   /* bytes before the first */
        {{RUN_1, 4096}, {RUN_2, 4096 + RUN_1_BYTES + 4}},               /* not aligned */
        {{RUN_1 + 4, 4096}, {RUN_2, 4096 + RUN_1_BYTES}},
        {{4088, 4096}, {RUN_2, 4096 + RUN_1_BYTES}}, /* in the header */
    };
    open_dir(f);
    add_segment(f, 0);
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        char file[REWRITTEN_BYTES];
        struct datadir_segment rewritten;
        struct datadir_extent *extents = make_extents();
        memcpy(extents, tables[i], TABLE_BYTES);
        assert_int_equal(datadir_begin_rewrite(f->dir, 1, &rewritten), 0);
        make_rewritten(f, &rewritten, extents, file);
        struct fs *fs = datadir_fs(f->dir);
        assert_int_equal(fs->ops->write(fs, rewritten.fd, file, sizeof(file), 0), 0);
        assert_int_equal(datadir_finish_rewrite(f->dir, &rewritten, extents, 2), -EIO);
    }
    assert_int_equal(find_segment(f, 1).version, 0);
}

static void another_version_under_a_segments_name_is_refused(void **state)
{
    struct fixture *f = *state;
    open_dir(f);
    add_segment(f, 0);
    assert_int_equal(rewrite(f, 1), 0);
    struct buf first = file_read(in_data(f, "segment-00000001.1.log"));
    assert_int_equal(rewrite(f, 1), 0);
    close_dir(f, false);
    file_write(in_data(f, "segment-00000001.2.log"), first.p, first.n);
    assert_refused(f, -EIO, "segment-00000001.2.log is not the version");
    buf_free(&first);
}

/* Dropping. */

static void dropped_segments_are_gone_for_ever(void **state)
{
    struct fixture *f = *state;
    static const uint32_t numbers[] = {3, 1, 9};
    make_three_segments(f);
    open_dir(f);
    assert_int_equal(datadir_drop_segments(f->dir, numbers, 3), 0);
    assert_int_equal(datadir_segments(f->dir, 1, 0, NULL, 0), 0);
    assert_int_equal(datadir_bytes(f->dir), SEGMENT_BYTES);
    assert_names(f, " lock manifest manifest.next segment-00000002.log");
    close_dir(f, false);
    open_dir(f);
    assert_null(datadir_hold(f->dir, 1));
    assert_int_equal(add_segment(f, 0).number, 4); /* numbers are not used again */
}

static void the_end_of_an_old_log_stays_as_long_as_anything_of_it(void **state)
{
    struct fixture *f = *state;
    static const uint32_t one = 1, three = 3;
    struct datadir_end end;
    make_three_segments(f);
    f->options.shards = 3;
    open_dir(f);
    assert_int_equal(datadir_drop_segments(f->dir, &three, 1), 0); /* the log ended there */
    close_dir(f, false);
    open_dir(f);
    assert_true(datadir_get_end(f->dir, 1, 0, &end));
    assert_int_equal(end.segment, 3);
    assert_int_equal(datadir_drop_segments(f->dir, &one, 1), 0);
    assert_false(datadir_get_end(f->dir, 1, 0, &end));
    close_dir(f, false);
    open_dir(f);
    assert_false(datadir_get_end(f->dir, 1, 0, &end));
    assert_true(datadir_get_end(f->dir, 1, 1, &end));
}

/* Checkpoints. */

/* What the file of a log's checkpoint holds throughout; 0: there is none. */
static char checkpoint_fill(struct fixture *f, uint32_t generation, uint32_t shard)
{
    struct datadir_checkpoint checkpoint;
    struct fs *fs = datadir_fs(f->dir);
    char bytes[1024];
    if (!datadir_get_checkpoint(f->dir, generation, shard, &checkpoint))
        return 0;
    int fd = datadir_open_checkpoint(f->dir, &checkpoint);
    assert_true(fd >= 0);
    assert_int_equal(fs->ops->read(fs, fd, bytes, sizeof(bytes), 0), checkpoint.bytes);
    fs->ops->close(fs, fd);
    for (size_t i = 1; i < checkpoint.bytes; i++)
        assert_int_equal(bytes[i], bytes[0]);
    return bytes[0];
}

static void a_checkpoint_takes_the_place_of_the_one_before(void **state)
{
    struct fixture *f = *state;
    struct datadir_checkpoint checkpoint;
    int fd;
    make_three_segments(f);
    open_dir(f);
    assert_int_equal(checkpoint_fill(f, 1, 0), 0);
    assert_int_equal(make_checkpoint(f, 0, 'a', 10), 0);
    assert_int_equal(make_checkpoint(f, 1, 'b', 20), 0);
    assert_int_equal(write_checkpoint(f, 'c', 30, &checkpoint, &fd), 0);
    assert_int_equal(checkpoint_fill(f, 1, 0), 'a');
    checkpoint.from = (struct datadir_end){.segment = 3, .offset = 8192, .batch = 77};
    assert_int_equal(datadir_finish_checkpoint(f->dir, 0, &checkpoint, fd), 0);
    assert_int_equal(checkpoint_fill(f, 1, 0), 'c');
    assert_int_equal(datadir_bytes(f->dir), 3 * SEGMENT_BYTES + 50);
    close_dir(f, false);
    open_dir(f);
    assert_int_equal(checkpoint_fill(f, 1, 0), 'c');
    assert_int_equal(checkpoint_fill(f, 1, 1), 'b');
    assert_true(datadir_get_checkpoint(f->dir, 1, 0, &checkpoint));
    assert_int_equal(checkpoint.from.segment, 3);
    assert_int_equal(checkpoint.from.offset, 8192);
    assert_int_equal(checkpoint.from.batch, 77);
    assert_names(f, " checkpoint-00000002.dat checkpoint-00000003.dat lock manifest manifest.next"
                    " segment-00000001.log segment-00000002.log segment-00000003.log");
    assert_int_equal(make_checkpoint(f, 1, 'd', 1), 0);
    assert_int_equal(checkpoint_fill(f, 1, 1), 'd');
    assert_int_equal(checkpoint_fill(f, 1, 0), 'c');
}

static void an_abandoned_checkpoint_leaves_the_one_before(void **state)
{
    struct fixture *f = *state;
    struct datadir_checkpoint checkpoint;
    int fd;
    open_dir(f);
    assert_int_equal(make_checkpoint(f, 0, 'a', 10), 0);
    assert_int_equal(write_checkpoint(f, 'b', 10, &checkpoint, &fd), 0);
    datadir_abandon_checkpoint(f->dir, checkpoint.number, fd);
    assert_int_equal(write_checkpoint(f, 'b', 10, &checkpoint, &fd), 0);
    checkpoint.bytes = 11; /* it has not been written as its maker thinks */
    assert_int_equal(datadir_finish_checkpoint(f->dir, 0, &checkpoint, fd), -EIO);
    assert_false(is_open(fd));
    assert_int_equal(checkpoint_fill(f, 1, 0), 'a');
    assert_names(f, " checkpoint-00000001.dat lock manifest manifest.next");
}

static void a_missing_or_short_checkpoint_is_refused_by_its_name(void **state)
{
    struct fixture *f = *state;
    open_dir(f);
    assert_int_equal(make_checkpoint(f, 1, 'a', 10), 0);
    close_dir(f, true);
    assert_int_equal(truncate(in_data(f, "checkpoint-00000001.dat"), 9), 0);
    assert_refused(f, -EIO, "checkpoint-00000001.dat has 9 bytes, but the manifest says 10");
    assert_int_equal(unlink(in_data(f, "checkpoint-00000001.dat")), 0);
    assert_refused(f, -ENOENT, "checkpoint-00000001.dat is missing, but the manifest names it");
}

/* Generations. */

static void a_clean_stop_is_known_until_the_next_start_but_one(void **state)
{
    struct fixture *f = *state;
    open_dir(f);
    close_dir(f, true);
    open_dir(f);
    assert_true(datadir_was_clean(f->dir));
    close_dir(f, false);
    open_dir(f);
    assert_false(datadir_was_clean(f->dir));
}

static void a_new_directory_has_nothing_to_recover(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) { /* the second time: it was made, but nothing has begun */
        assert_int_equal(try_open(f, &f->dir), 0);
        assert_int_equal(datadir_recover_generation(f->dir), 0);
        assert_int_equal(datadir_recover_shards(f->dir), 0);
        assert_int_equal(datadir_generation(f->dir), 1);
        assert_int_equal(datadir_shards(f->dir), 2);
        if (i == 0)
            close_dir(f, false);
    }
    assert_int_equal(datadir_begin_generation(f->dir, NULL, NULL), 0);
    assert_int_equal(datadir_recover_generation(f->dir), 0); /* still what the last run has left */
    close_dir(f, false);
    assert_int_equal(try_open(f, &f->dir), 0);
    assert_int_equal(datadir_recover_generation(f->dir), 1);
    assert_int_equal(datadir_recover_shards(f->dir), 2);
}

/* Two segments of shard 0 of which the second is unused, one of shard 1, a checkpoint of shard 0;
 * opened for three shards. */
static void prepare_generation(struct fixture *f)
{
    struct datadir_end end = {.segment = 1, .offset = 8192, .batch = 5};
    f->options.shards = 2;
    make_three_segments(f);
    open_dir(f);
    assert_int_equal(make_checkpoint(f, 0, 'o', 10), 0);
    close_dir(f, false);
    f->options.shards = 3;
    assert_int_equal(try_open(f, &f->dir), 0);
    datadir_set_end(f->dir, 1, 0, &end);
    find_ends(f);
}

/* Which of the two stands, wholly; asked of a directory opened again. */
static bool has_generation_begun(struct fixture *f)
{
    uint32_t generation = datadir_recover_generation(f->dir);
    struct datadir_end end;
    if (generation == 1) {
        assert_int_equal(datadir_recover_shards(f->dir), 2);
        assert_int_equal(datadir_segments(f->dir, 0, 0, NULL, 0), 3);
        assert_int_equal(checkpoint_fill(f, 1, 0), 'o');
        return false;
    }
    assert_int_equal(generation, 2);
    assert_int_equal(datadir_recover_shards(f->dir), 3);
    assert_int_equal(datadir_segments(f->dir, 1, 0, NULL, 0), 1);
    assert_int_equal(datadir_segments(f->dir, 1, 1, NULL, 0), 1);
    assert_int_equal(checkpoint_fill(f, 1, 0), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(checkpoint_fill(f, 2, i), 'A' + (int)i);
    assert_true(datadir_get_end(f->dir, 1, 0, &end));
    assert_int_equal(end.segment, 1);
    assert_int_equal(end.offset, 8192);
    assert_int_equal(end.batch, 5);
    return true;
}

static void the_old_generation_stands_until_the_new_one_has_begun(void **state)
{
    struct fixture *f = *state;
    prepare_generation(f);
    assert_int_equal(datadir_recover_generation(f->dir), 1);
    assert_int_equal(datadir_recover_shards(f->dir), 2);
    assert_int_equal(datadir_generation(f->dir), 2);
    assert_int_equal(datadir_shards(f->dir), 3);
    close_dir(f, false);
    assert_int_equal(try_open(f, &f->dir), 0);
    assert_false(has_generation_begun(f));
    close_dir(f, false);
    open_dir(f);
    close_dir(f, false);
    f->options.shards = 2; /* and back again */
    open_dir(f);
    assert_int_equal(datadir_recover_generation(f->dir), 2);
    assert_int_equal(datadir_generation(f->dir), 3);
    close_dir(f, false);
    open_dir(f);
    assert_int_equal(datadir_recover_generation(f->dir), 3);
    assert_int_equal(datadir_generation(f->dir), 3);
}

static void the_same_shard_count_goes_on_with_the_generation(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    open_dir(f);
    assert_int_equal(datadir_recover_generation(f->dir), 1);
    assert_int_equal(datadir_generation(f->dir), 1);
    assert_int_equal(add_segment(f, 1).generation, 1);
    assert_int_equal(make_checkpoint(f, 0, 'x', 3), 0);
    assert_int_equal(checkpoint_fill(f, 1, 0), 'x');
}

/* Cut short, at every step there is. */

static unsigned count_files(const struct fixture *f)
{
    struct buf names = list_names(f);
    unsigned count = 0;
    for (char *name = strtok(names.p, " "); name != NULL; name = strtok(NULL, " "))
        count += strncmp(name, "segment-", 8) == 0 || strncmp(name, "checkpoint-", 11) == 0;
    buf_free(&names);
    return count;
}

/* That each file is there which the manifest names was checked when it was opened. */
static void assert_no_left_overs(const struct fixture *f)
{
    struct manifest m = load_manifest(f);
    assert_int_equal(count_files(f), m.segment_count + m.checkpoint_count);
    manifest_free(&m);
}

struct change {
    void (*prepare)(struct fixture *f); /* leaves the directory open */
    int (*make)(struct fixture *f);
    bool (*is_made)(struct fixture *f); /* wholly; or else wholly not */
};

enum failure { CRASH, HICCUP, FULL };

/* Lets the step behind `left` others fail; false where there are not so many. */
static bool cut_short(struct fixture *f, const struct change *change, unsigned left,
                      enum failure failure)
{
    unsigned bad = failure == CRASH ? UINT_MAX : 1;
    change->prepare(f);
    *f->fs = (struct failing_fs){.fs = f->fs->fs,
                                 .real = f->fs->real,
                                 .left = left,
                                 .bad = bad,
                                 .error = failure == FULL ? -ENOSPC : -EIO,
                                 .only_files = failure == FULL};
    int result = change->make(f);
    bool failed = f->fs->bad != bad;
    f->fs->left = 0;
    if (failure == FULL)
        assert_no_left_overs(f);
    if (!failed)
        assert_int_equal(result, 0);
    close_dir(f, false);
    if (try_open(f, &f->dir) != 0)
        fail_msg("after step %u: %s", left, f->error);
    assert_no_left_overs(f);
    bool made = change->is_made(f);
    if (result == 0 || failure == FULL)
        assert_int_equal(made, result == 0);
    close_dir(f, false);
    assert_int_equal(nftw(f->path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    return failed;
}

static void cut_short_everywhere(struct fixture *f, const struct change *change)
{
    static const enum failure failures[] = {CRASH, HICCUP, FULL};
    for (size_t i = 0; i < 3; i++) {
        unsigned steps = 0;
        while (cut_short(f, change, steps, failures[i]))
            steps++;
        assert_in_range(steps, 4, 100); /* the manifest alone takes so many */
    }
}

static void prepare_segments(struct fixture *f)
{
    make_three_segments(f);
    open_dir(f);
}

static int make_segment(struct fixture *f)
{
    struct datadir_segment segment;
    return datadir_add_segment(f->dir, 0, &segment);
}

static bool is_segment_made(struct fixture *f)
{
    return datadir_segments(f->dir, 1, 0, NULL, 0) == 3;
}

static void a_segment_is_made_whole_or_not_at_all(void **state)
{
    cut_short_everywhere(*state, &(struct change){prepare_segments, make_segment, is_segment_made});
}

static int rewrite_first(struct fixture *f)
{
    return rewrite(f, 1);
}

static bool is_first_rewritten(struct fixture *f)
{
    assert_int_equal(datadir_segments(f->dir, 1, 0, NULL, 0), 2);
    if (find_segment(f, 1).version == 0)
        return false;
    assert_is_rewritten(f, 1, 1);
    return true;
}

static void a_segment_is_rewritten_whole_or_not_at_all(void **state)
{
    cut_short_everywhere(*state,
                         &(struct change){prepare_segments, rewrite_first, is_first_rewritten});
}

static int drop_two(struct fixture *f)
{
    static const uint32_t numbers[] = {1, 2};
    return datadir_drop_segments(f->dir, numbers, 2);
}

static bool are_two_dropped(struct fixture *f)
{
    size_t count = datadir_segments(f->dir, 0, 0, NULL, 0);
    assert_true(count == 1 || count == 3);
    return count == 1;
}

static void segments_are_dropped_all_or_none(void **state)
{
    cut_short_everywhere(*state, &(struct change){prepare_segments, drop_two, are_two_dropped});
}

static void prepare_checkpoint(struct fixture *f)
{
    prepare_segments(f);
    assert_int_equal(make_checkpoint(f, 0, 'o', 10), 0);
}

static int replace_checkpoint(struct fixture *f)
{
    return make_checkpoint(f, 0, 'n', 1000);
}

static bool is_checkpoint_replaced(struct fixture *f)
{
    char fill = checkpoint_fill(f, 1, 0);
    assert_true(fill == 'o' || fill == 'n');
    return fill == 'n';
}

static void a_checkpoint_is_replaced_whole_or_not_at_all(void **state)
{
    cut_short_everywhere(
        *state, &(struct change){prepare_checkpoint, replace_checkpoint, is_checkpoint_replaced});
}

static void a_generation_begins_whole_or_not_at_all(void **state)
{
    cut_short_everywhere(
        *state, &(struct change){prepare_generation, begin_generation, has_generation_begun});
}

/* Under the feet of readers. */

enum { READERS = 3, REWRITES = 40 };

struct reader {
    struct fixture *f;
    _Atomic bool *stop;
    unsigned reads;
};

static void *read_on(void *argument)
{
    struct reader *reader = argument;
    struct fixture *f = reader->f;
    do {
        const struct datadir_file *file = datadir_hold(f->dir, 1 + reader->reads % 2);
        if (file == NULL)
            continue; /* not there yet, or dropped */
        char byte = byte_at(f, file, RUN_2);
        if (byte != (file->version == 0 ? 0 : '2') || datadir_bytes(f->dir) > 3 * SEGMENT_BYTES)
            return argument;
        datadir_release(f->dir, file);
        reader->reads++;
    } while (!atomic_load(reader->stop));
    return NULL;
}

static void readers_go_on_while_segments_are_made_rewritten_and_dropped(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[READERS];
    struct reader readers[READERS];
    _Atomic bool stop = false;
    open_dir(f);
    add_segment(f, 0);
    add_segment(f, 1);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){f, &stop, i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    }
    for (unsigned i = 0; i < REWRITES; i++) {
        uint32_t dropped = add_segment(f, i % 2).number;
        assert_int_equal(rewrite(f, 1 + i % 2), 0);
        assert_int_equal(datadir_drop_segments(f->dir, &dropped, 1), 0);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < READERS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
        assert_true(readers[i].reads > i);
    }
    assert_is_rewritten(f, 1, REWRITES / 2);
    assert_is_rewritten(f, 2, REWRITES / 2);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_stays_of_a_rewritten_segment_is_found_where_it_stood),
        TEST(everything_stands_where_it_stood_in_a_segment_as_it_was_written),
        TEST(who_holds_a_file_reads_on_when_it_is_replaced),
        TEST(who_holds_a_file_reads_on_when_it_is_dropped),
        TEST(a_rewritten_file_that_cannot_be_read_back_replaces_nothing),
        TEST(an_abandoned_rewrite_leaves_nothing_behind),
        TEST(a_segment_that_is_gone_is_not_rewritten),
        TEST(any_flipped_bit_in_a_rewritten_segments_header_or_table_is_refused),
        TEST(a_table_that_makes_no_sense_is_refused_though_its_checksum_is_right),
        TEST(another_version_under_a_segments_name_is_refused),
        TEST(dropped_segments_are_gone_for_ever),
        TEST(the_end_of_an_old_log_stays_as_long_as_anything_of_it),
        TEST(a_checkpoint_takes_the_place_of_the_one_before),
        TEST(an_abandoned_checkpoint_leaves_the_one_before),
        TEST(a_missing_or_short_checkpoint_is_refused_by_its_name),
        TEST(a_clean_stop_is_known_until_the_next_start_but_one),
        TEST(a_new_directory_has_nothing_to_recover),
        TEST(the_old_generation_stands_until_the_new_one_has_begun),
        TEST(the_same_shard_count_goes_on_with_the_generation),
        TEST(a_segment_is_made_whole_or_not_at_all),
        TEST(a_segment_is_rewritten_whole_or_not_at_all),
        TEST(segments_are_dropped_all_or_none),
        TEST(a_checkpoint_is_replaced_whole_or_not_at_all),
        TEST(a_generation_begins_whole_or_not_at_all),
        TEST(readers_go_on_while_segments_are_made_rewritten_and_dropped),
    };
    return cmocka_run_group_tests_name("datadir_change", tests, NULL, NULL);
}
