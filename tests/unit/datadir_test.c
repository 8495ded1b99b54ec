/*
 * datadir: a directory is made, found again, locked, and refused by name where anything about it
 * is not as it should be; nothing is changed in one that is refused, or opened to be read only.
 */
#define _GNU_SOURCE 1

#include "tests/unit/datadir_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { NOBODY = 65534 };

/* Normal life. */

static void a_new_directory_is_made_for_its_owner_alone(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    umask(0);
    open_dir(f);
    umask(022);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(stat(in_data(f, "manifest"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_string_equal(datadir_path(f->dir), f->path);
    assert_int_equal(datadir_generation(f->dir), 1);
    assert_int_equal(datadir_shards(f->dir), 2);
    assert_int_equal(datadir_starts(f->dir), 1);
    assert_int_equal(datadir_incarnation(f->dir), 0);
    assert_int_equal(datadir_segments(f->dir, 0, 0, NULL, 0), 0);
}

static void starts_are_counted_and_the_hash_key_stays(void **state)
{
    struct fixture *f = *state;
    uint8_t key[DATADIR_HASH_KEY_BYTES], zeros[DATADIR_HASH_KEY_BYTES] = {0};
    open_dir(f);
    memcpy(key, datadir_hash_key(f->dir), sizeof(key));
    assert_memory_not_equal(key, zeros, sizeof(key));
    for (uint64_t starts = 2; starts < 5; starts++) {
        close_dir(f, starts % 2 == 0);
        open_dir(f);
        assert_int_equal(datadir_starts(f->dir), starts);
        assert_memory_equal(key, datadir_hash_key(f->dir), sizeof(key));
    }
}

static void a_new_shard_count_begins_a_generation(void **state)
{
    struct fixture *f = *state;
    static const struct {
        unsigned shards;
        uint32_t generation;
    } lives[] = {{2, 1}, {2, 1}, {3, 2}, {3, 2}, {2, 3}, {64, 4}, {1, 5}};
    for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++) {
        f->options.shards = lives[i].shards;
        open_dir(f);
        assert_int_equal(datadir_generation(f->dir), lives[i].generation);
        assert_int_equal(datadir_shards(f->dir), lives[i].shards);
        close_dir(f, true);
    }
}

static void segments_are_found_again(void **state)
{
    struct fixture *f = *state;
    struct datadir_segment found[8];
    make_three_segments(f);
    f->options.shards = 1;
    f->options.segment_bytes = 2 * SEGMENT_BYTES;
    open_dir(f);
    assert_int_equal(add_segment(f, 0).number, 4);
    assert_int_equal(datadir_segments(f->dir, 0, 0, found, 8), 4);
    static const uint64_t expected[4][4] = {{1, 1, 0, SEGMENT_BYTES},
                                            {3, 1, 0, SEGMENT_BYTES},
                                            {2, 1, 1, SEGMENT_BYTES},
                                            {4, 2, 0, 2 * SEGMENT_BYTES}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(found[i].number, expected[i][0]);
        assert_int_equal(found[i].generation, expected[i][1]);
        assert_int_equal(found[i].shard, expected[i][2]);
        assert_int_equal(found[i].bytes, expected[i][3]);
        assert_int_equal(found[i].version, 0);
        const struct datadir_file *file = datadir_hold(f->dir, found[i].number);
        assert_non_null(file);
        assert_int_equal(file->fd, found[i].fd);
        assert_int_equal(file->bytes, found[i].bytes);
        datadir_release(f->dir, file);
    }
    assert_int_equal(datadir_segments(f->dir, 1, 0, found, 8), 2);
    assert_int_equal(datadir_segments(f->dir, 1, 1, found, 8), 1);
    assert_int_equal(datadir_segments(f->dir, 1, 2, found, 8), 0);
    assert_int_equal(datadir_segments(f->dir, 1, 0, found, 1), 2);
}

static void there_is_nothing_to_hold_where_there_is_no_segment(void **state)
{
    struct fixture *f = *state;
    open_dir(f);
    add_segment(f, 0);
    static const uint32_t none[] = {0, 2, 1023, 1024, 1 << 20, UINT32_MAX};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_null(datadir_hold(f->dir, none[i]));
}

static void a_new_segment_is_zeros_behind_its_header(void **state)
{
    struct fixture *f = *state;
    static const char zeros[3 << 20];
    f->options.segment_bytes = (2 << 20) + 5000; /* is rounded up to whole pages */
    open_dir(f);
    assert_int_equal(add_segment(f, 1).bytes, (2 << 20) + 8192);
    struct buf file = file_read(in_data(f, "segment-00000001.log"));
    assert_int_equal(file.n, (2 << 20) + 8192);
    assert_memory_equal(file.p, LOG_SEGMENT_MAGIC, 8);
    size_t header = sizeof(struct log_segment_header);
    assert_memory_equal(file.p + header, zeros, file.n - header);
    buf_free(&file);
}

static void segments_of_impossible_sizes_are_refused(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 100;
    assert_refused(f, -EINVAL, "100 bytes");
    f->options.segment_bytes = (UINT64_C(4) << 30) + 1;
    assert_refused(f, -EINVAL, "4294967297 bytes");
}

/* Several shards' helper threads add segments while everyone looks them up. */

enum { ADDERS = 4, EACH = 12, ALL = ADDERS * EACH };

struct adder {
    struct datadir *dir;
    unsigned shard;
};

static void *add_some(void *argument)
{
    struct adder *adder = argument;
    struct datadir_segment segment;
    for (int i = 0; i < EACH; i++) {
        if (datadir_add_segment(adder->dir, adder->shard, &segment) != 0)
            return argument;
    }
    return NULL;
}

static void segments_are_added_from_many_threads(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[ADDERS];
    struct adder adders[ADDERS];
    struct datadir_segment found[ALL];
    f->options.shards = ADDERS;
    open_dir(f);
    for (unsigned i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){f->dir, i};
        assert_int_equal(pthread_create(&threads[i], NULL, add_some, &adders[i]), 0);
    }
    for (size_t seen = 0; seen < ALL;) {
        seen = 0;
        for (uint32_t number = 1; number <= ALL; number++) {
            const struct datadir_file *file = datadir_hold(f->dir, number);
            if (file != NULL) {
                assert_int_equal(file->bytes, SEGMENT_BYTES);
                datadir_release(f->dir, file);
                seen++;
            }
        }
    }
    for (unsigned i = 0; i < ADDERS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    close_dir(f, false);
    open_dir(f);
    assert_int_equal(datadir_segments(f->dir, 0, 0, found, ALL), ALL);
    for (unsigned i = 0; i < ADDERS; i++)
        assert_int_equal(datadir_segments(f->dir, 1, i, NULL, 0), EACH);
}

/* What a crash leaves. */

static void left_overs_are_removed_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    static const char *const ours[] = {"segment-00000009.log",    "segment-00000010.log",
                                       "segment-00000001.1.log",  "segment-00000009.12.log",
                                       "checkpoint-00000001.dat", "checkpoint-4294967295.dat"};
    static const char *const theirs[] = {
        "segment-9.log",           "segment-00000001.log.bak", "notes",
        "segment-00000000.log",    "segment-12345678.log",     "segment-00000001.0.log",
        "segment-00000001.01.log", "segment-00000001.x.log",   "checkpoint-1.dat",
        "checkpoint-00000000.dat", "checkpoint-00000001.log"};
    const size_t ours_n = sizeof(ours) / sizeof(ours[0]);
    const size_t theirs_n = sizeof(theirs) / sizeof(theirs[0]);
    make_three_segments(f);
    for (size_t i = 0; i < ours_n; i++)
        file_write(in_data(f, ours[i]), "x", 1);
    for (size_t i = 0; i < theirs_n; i++)
        file_write(in_data(f, theirs[i]), "x", 1);
    open_dir(f);
    for (size_t i = 0; i < ours_n; i++)
        assert_false(file_exists(in_data(f, ours[i])));
    for (size_t i = 0; i < theirs_n; i++)
        assert_true(file_exists(in_data(f, theirs[i])));
    assert_int_equal(datadir_segments(f->dir, 0, 0, NULL, 0), 3);
}

static void a_first_start_that_was_cut_short_is_gone_on_with(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_int_equal(mkdir(in_data(f, "lost+found"), 0700), 0);
    file_write(in_data(f, "lock"), "", 0);
    file_write(in_data(f, "manifest.next"), "atoll-", 6);
    open_dir(f);
    assert_int_equal(datadir_starts(f->dir), 1);
    assert_true(file_exists(in_data(f, "lost+found")));
}

static void other_boot(struct manifest *m)
{
    snprintf(m->boot, sizeof(m->boot), "another-boot");
}

static void only_a_relaxed_run_lost_with_its_machine_changes_the_incarnation(void **state)
{
    struct fixture *f = *state;
    static const struct {
        bool relaxed, clean, rebooted;
    } runs[] = {{false, false, false}, {false, false, true}, {true, true, true},
                {true, false, false},  {true, false, true},  {true, false, true}};
    uint64_t expected = 0;
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        f->options.relaxed = runs[i].relaxed;
        open_dir(f);
        close_dir(f, runs[i].clean);
        if (runs[i].rebooted)
            change_manifest(f, other_boot);
        expected += runs[i].relaxed && !runs[i].clean && runs[i].rebooted;
        f->options.relaxed = false;
        open_dir(f);
        assert_int_equal(datadir_incarnation(f->dir), expected);
        close_dir(f, true);
    }
    assert_int_equal(expected, 2);
}

static void ends_last_over_a_clean_stop_only(void **state)
{
    struct fixture *f = *state;
    struct datadir_end end = {.segment = 1, .offset = 8192, .batch = 17}, found;
    make_three_segments(f);
    open_dir(f);
    datadir_set_end(f->dir, 1, 0, &end);
    assert_true(datadir_get_end(f->dir, 1, 0, &found));
    assert_false(datadir_get_end(f->dir, 1, 1, &found));
    close_dir(f, true);
    open_dir(f);
    assert_true(datadir_get_end(f->dir, 1, 0, &found));
    assert_int_equal(found.segment, 1);
    assert_int_equal(found.offset, 8192);
    assert_int_equal(found.batch, 17);
    assert_false(datadir_get_end(f->dir, 1, 1, &found));
    close_dir(f, false);
    open_dir(f);
    assert_false(datadir_get_end(f->dir, 1, 0, &found));
}

/* Refusals. */

static void a_path_that_is_a_file_is_refused(void **state)
{
    struct fixture *f = *state;
    file_write(f->path, "mine", 4);
    assert_refused(f, -ENOTDIR, "is no directory");
    struct buf file = file_read(f->path);
    assert_int_equal(file.n, 4);
    buf_free(&file);
}

static void a_path_whose_parent_is_missing_is_refused(void **state)
{
    struct fixture *f = *state;
    snprintf(f->path, sizeof(f->path), "%s/not/there", f->scratch.path);
    assert_refused(f, -ENOENT, "cannot be made");
}

static void a_directory_of_someone_else_is_refused_and_not_touched(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->path, 0755), 0);
    file_write(in_data(f, "thesis.txt"), "x", 1);
    assert_refused(f, -ENOTEMPTY, "thesis.txt");
    assert_false(file_exists(in_data(f, "lock")));
    assert_false(file_exists(in_data(f, "manifest")));
}

static void a_foreign_manifest_is_refused_and_not_touched(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->path, 0755), 0);
    file_write(in_data(f, "manifest"), "{\"name\": \"web app\"}\n", 20);
    assert_refused(f, -EIO, "manifest");
    assert_false(file_exists(in_data(f, "lock")));
}

static void segments_without_a_manifest_are_refused(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    assert_int_equal(unlink(in_data(f, "manifest")), 0);
    assert_refused(f, -ENOTEMPTY, "has no manifest");
    assert_true(file_exists(in_data(f, "segment-00000001.log")));
}

static void a_manifest_of_another_format_is_refused_by_its_version_whatever_it_says(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    file_write(in_data(f, "manifest"), "atoll-data 3\nsomething new\n", 27);
    assert_refused(f, -EPROTONOSUPPORT,
                   "manifest was written by a newer Atoll: format 3, this program reads 2");
    file_write(in_data(f, "manifest"), "atoll-data 1\nsomething old\n", 27);
    assert_refused(f, -EPROTONOSUPPORT,
                   "manifest was written by an older Atoll: format 1, this program reads 2");
    assert_true(file_exists(in_data(f, "segment-00000001.log")));
}

static void any_flipped_bit_in_the_manifest_is_refused(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    struct buf text = file_read(in_data(f, "manifest"));
    for (size_t bit = 0; bit < text.n * 8; bit++) {
        struct datadir *dir = NULL;
        flip(&text.p[bit / 8], 1 << bit % 8);
        file_write(in_data(f, "manifest"), text.p, text.n);
        assert_true(try_open(f, &dir) < 0);
        assert_non_null(strstr(f->error, "data/manifest "));
        flip(&text.p[bit / 8], 1 << bit % 8);
    }
    file_write(in_data(f, "manifest"), text.p, text.n);
    buf_free(&text);
    open_dir(f);
}

static void a_manifest_of_any_other_length_is_refused(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    struct buf text = file_read(in_data(f, "manifest"));
    for (size_t n = 0; n < text.n; n++) {
        struct datadir *dir = NULL;
        file_write(in_data(f, "manifest"), text.p, n);
        assert_true(try_open(f, &dir) < 0);
    }
    buf_add_byte(&text, '\n');
    file_write(in_data(f, "manifest"), text.p, text.n);
    assert_refused(f, -EIO, "manifest is damaged");
    buf_free(&text);
}

static void segment_zero(struct manifest *m)
{
    m->segments[0].number = 0;
}

static void segment_twice(struct manifest *m)
{
    m->segments[0].number = m->segments[1].number;
}

static void segment_of_the_future(struct manifest *m)
{
    m->segments[0].generation = 9;
}

static void segment_of_a_shard_too_many(struct manifest *m)
{
    m->segments[0].shard = 2;
}

static void end_behind_its_segment(struct manifest *m)
{
    struct datadir_end end = {.segment = 1, .offset = SEGMENT_BYTES + 8, .batch = 1};
    m->clean = true;
    manifest_set_end(m, 1, 0, &end);
}

static void end_nowhere_with_a_batch(struct manifest *m)
{
    struct datadir_end end = {.batch = 1};
    m->clean = true;
    manifest_set_end(m, 1, 0, &end);
}

static void checkpoint_zero(struct manifest *m)
{
    struct datadir_checkpoint checkpoint = {.bytes = 1};
    manifest_set_checkpoint(m, 1, 0, &checkpoint);
}

static void checkpoint_in_another_log(struct manifest *m)
{
    struct datadir_checkpoint checkpoint = {
        .number = 1, .bytes = 1, .from = {.segment = 2, .offset = 4096, .batch = 1}};
    manifest_set_checkpoint(m, 1, 0, &checkpoint);
}

static void checkpoint_of_a_shard_too_many(struct manifest *m)
{
    struct datadir_checkpoint checkpoint = {.number = 1, .bytes = 1};
    manifest_set_checkpoint(m, 1, 2, &checkpoint);
}

static void too_many_shards(struct manifest *m)
{
    m->shards = DATADIR_SHARDS_MAX + 1;
}

static void no_shards(struct manifest *m)
{
    m->shards = 0;
}

static void no_generation(struct manifest *m)
{
    m->generation = 0;
}

static void a_manifest_that_makes_no_sense_is_refused_though_its_checksum_is_right(void **state)
{
    struct fixture *f = *state;
    void (*const changes[])(struct manifest *) = {segment_zero,
                                                  segment_twice,
                                                  segment_of_the_future,
                                                  segment_of_a_shard_too_many,
                                                  end_behind_its_segment,
                                                  end_nowhere_with_a_batch,
                                                  checkpoint_zero,
                                                  checkpoint_in_another_log,
                                                  checkpoint_of_a_shard_too_many,
                                                  too_many_shards,
                                                  no_shards,
                                                  no_generation};
    make_three_segments(f);
    struct buf text = file_read(in_data(f, "manifest"));
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        change_manifest(f, changes[i]);
        assert_refused(f, -EIO, "manifest is damaged");
        file_write(in_data(f, "manifest"), text.p, text.n);
    }
    buf_free(&text);
    open_dir(f);
}

static void a_missing_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    assert_int_equal(unlink(in_data(f, "segment-00000002.log")), 0);
    assert_refused(f, -ENOENT, "segment-00000002.log is missing");
    assert_non_null(strstr(f->error, "`atoll verify` tells"));
    assert_names(f, " lock manifest manifest.next segment-00000001.log segment-00000003.log");
}

static void a_segment_of_another_size_is_refused(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    assert_int_equal(truncate(in_data(f, "segment-00000002.log"), SEGMENT_BYTES - 1), 0);
    assert_refused(f, -EIO, "segment-00000002.log has 32767 bytes");
    assert_int_equal(truncate(in_data(f, "segment-00000002.log"), 0), 0);
    assert_refused(f, -EIO, "segment-00000002.log has 0 bytes");
}

static void segments_that_were_swapped_are_refused(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    struct buf one = file_read(in_data(f, "segment-00000001.log"));
    file_write(in_data(f, "segment-00000003.log"), one.p, one.n);
    assert_refused(f, -EIO, "segment-00000003.log");
    buf_free(&one);
}

static void a_segment_of_another_format_is_refused_by_its_version(void **state)
{
    struct fixture *f = *state;
    uint32_t version = LOG_FORMAT_VERSION + 1;
    size_t at = offsetof(struct log_segment_header, version);
    make_three_segments(f);
    file_patch(in_data(f, "segment-00000003.log"), at, &version, sizeof(version));
    assert_refused(f, -EPROTONOSUPPORT,
                   "segment-00000003.log was written by a newer Atoll: segment format 3, this "
                   "program reads 2");
    version = 1;
    file_patch(in_data(f, "segment-00000003.log"), at, &version, sizeof(version));
    assert_refused(f, -EPROTONOSUPPORT, "an older Atoll: segment format 1, this program reads 2");
}

/* Runs `open` as a user who may not look into the directory. */
static void an_unreadable_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    assert_int_equal(chmod(f->path, 0), 0);
    assert_int_equal(chmod(f->scratch.path, 0711), 0);
    pid_t child = fork();
    if (child == 0) {
        struct datadir *dir;
        if (geteuid() == 0 && seteuid(NOBODY) != 0)
            _exit(2);
        int result = try_open(f, &dir);
        bool named = strstr(f->error, f->path) != NULL && strstr(f->error, "Permission") != NULL;
        _exit(result == -EACCES && named ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(f->path, 0700), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Opens the directory in another process, which then holds it until the pipe is closed. */
static pid_t hold_in_child(struct fixture *f, int *release)
{
    int to_child[2], from_child[2];
    char byte;
    assert_int_equal(pipe2(to_child, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from_child, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        struct datadir *dir;
        close(to_child[1]);
        if (try_open(f, &dir) != 0)
            _exit(1);
        if (write(from_child[1], "x", 1) != 1 || read(to_child[0], &byte, 1) != 0)
            _exit(1);
        _exit(0);
    }
    close(to_child[0]);
    close(from_child[1]);
    assert_int_equal(read(from_child[0], &byte, 1), 1);
    close(from_child[0]);
    *release = to_child[1];
    return child;
}

static void a_directory_in_use_is_refused_until_it_is_free(void **state)
{
    struct fixture *f = *state;
    int release, status;
    make_three_segments(f);
    pid_t child = hold_in_child(f, &release);
    struct buf before = file_read(in_data(f, "manifest"));
    assert_refused(f, -EBUSY, "lock is locked");
    struct buf after = file_read(in_data(f, "manifest"));
    assert_int_equal(before.n, after.n);
    assert_memory_equal(before.p, after.p, after.n);
    buf_free(&before);
    buf_free(&after);
    close(release);
    /* It may hold the lock for a moment longer: that is waited for. */
    open_dir(f);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Only looked at. */

/* All there is to see of a directory: its files' names, and what is in them. */
static struct buf everything_in(const struct fixture *f)
{
    struct buf all = list_names(f);
    struct buf names = list_names(f);
    for (char *name = strtok(names.p, " "); name != NULL; name = strtok(NULL, " ")) {
        struct buf file = file_read(in_data(f, name));
        buf_add(&all, file.p, file.n);
        buf_free(&file);
    }
    buf_free(&names);
    return all;
}

static void assert_unchanged_by_looking(struct fixture *f)
{
    struct buf before = everything_in(f);
    f->options.read_only = true;
    open_dir(f);
    assert_int_equal(datadir_segments(f->dir, 1, 0, NULL, 0), 2);
    struct datadir_end end = {0};
    datadir_set_end(f->dir, 1, 0, &end); /* as found out, for whoever has opened it */
    assert_true(datadir_get_end(f->dir, 1, 0, &end));
    close_dir(f, true);
    struct buf after = everything_in(f);
    assert_int_equal(before.n, after.n);
    assert_memory_equal(before.p, after.p, after.n);
    buf_free(&before);
    buf_free(&after);
}

static void looking_changes_nothing(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    file_write(in_data(f, "segment-00000009.log"), "x", 1);
    file_write(in_data(f, "checkpoint-00000009.dat"), "x", 1);
    assert_unchanged_by_looking(f);
    assert_int_equal(unlink(in_data(f, "manifest.next")), 0);
    assert_int_equal(unlink(in_data(f, "lock")), 0);
    assert_unchanged_by_looking(f);
}

static void looking_goes_on_where_a_segment_or_checkpoint_is_missing(void **state)
{
    struct fixture *f = *state;
    struct datadir_segment found[2];
    struct datadir_checkpoint checkpoint;
    make_three_segments(f);
    open_dir(f);
    assert_int_equal(make_checkpoint(f, 0, 'c', 10), 0);
    close_dir(f, false);
    assert_int_equal(unlink(in_data(f, "segment-00000003.log")), 0);
    assert_int_equal(unlink(in_data(f, "checkpoint-00000001.dat")), 0);
    assert_refused(f, -ENOENT, "segment-00000003.log is missing");
    f->options.read_only = true;
    open_dir(f);
    assert_int_equal(datadir_segments(f->dir, 1, 0, found, 2), 2);
    assert_int_equal(found[1].number, 3);
    assert_int_equal(found[1].fd, -1);
    assert_null(datadir_hold(f->dir, 3));
    const struct datadir_file *file = datadir_hold(f->dir, 1);
    assert_non_null(file);
    datadir_release(f->dir, file);
    assert_true(datadir_get_checkpoint(f->dir, 1, 0, &checkpoint));
    assert_int_equal(datadir_open_checkpoint(f->dir, &checkpoint), -ENOENT);
}

static void looking_says_what_the_last_run_left(void **state)
{
    struct fixture *f = *state;
    make_three_segments(f);
    f->options.read_only = true;
    f->options.shards = 7; /* is not looked at */
    open_dir(f);
    assert_int_equal(datadir_recover_generation(f->dir), 1);
    assert_int_equal(datadir_generation(f->dir), 1);
    assert_int_equal(datadir_recover_shards(f->dir), 2);
    assert_int_equal(datadir_shards(f->dir), 2);
    assert_int_equal(datadir_starts(f->dir), 1);
    assert_false(datadir_was_clean(f->dir));
    assert_int_equal(datadir_bytes(f->dir), 3 * SEGMENT_BYTES);
}

static void looking_at_what_is_no_data_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    f->options.read_only = true;
    assert_refused(f, -ENOENT, "cannot be opened");
    assert_false(file_exists(f->path));
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_refused(f, -ENOENT, "is no data directory");
    assert_names(f, "");
}

static void looking_at_a_directory_in_use_is_refused(void **state)
{
    struct fixture *f = *state;
    int release, status;
    make_three_segments(f);
    pid_t child = hold_in_child(f, &release);
    f->options.read_only = true;
    assert_refused(f, -EBUSY, "lock is locked");
    close(release);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* No room. */

static void a_segment_that_cannot_be_made_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    struct datadir_segment segment;
    struct rlimit limit;
    open_dir(f);
    add_segment(f, 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = SEGMENT_BYTES - 1;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int result = datadir_add_segment(f->dir, 0, &segment);
    limit.rlim_cur = before;
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(result, -EFBIG);
    assert_false(file_exists(in_data(f, "segment-00000002.log")));
    assert_int_equal(datadir_segments(f->dir, 0, 0, NULL, 0), 1);
    assert_null(datadir_hold(f->dir, 2));
    close_dir(f, false);
    open_dir(f);
    assert_int_equal(datadir_segments(f->dir, 0, 0, NULL, 0), 1);
}

/* On a file system of our own, where it may be mounted. */
static void a_full_disk_leaves_nothing_behind(void **state)
{
    struct fixture *f = *state;
    struct datadir_segment segment;
    assert_int_equal(mkdir(f->path, 0700), 0);
    if (mount("tmpfs", f->path, "tmpfs", 0, "size=200k") != 0)
        skip();
    open_dir(f);
    size_t count = 0;
    int result;
    while ((result = datadir_add_segment(f->dir, 0, &segment)) == 0)
        count++;
    assert_int_equal(result, -ENOSPC);
    assert_in_range(count, 3, 6);
    assert_int_equal(datadir_segments(f->dir, 0, 0, NULL, 0), count);
    char name[32];
    struct datadir_segment missing = {.number = (uint32_t)count + 1};
    datadir_segment_name(&missing, name);
    assert_false(file_exists(in_data(f, name)));
    close_dir(f, true);
    open_dir(f);
    assert_int_equal(datadir_segments(f->dir, 0, 0, NULL, 0), count);
    close_dir(f, true);
    assert_int_equal(umount(f->path), 0);
}

static void fill_disk(const char *path)
{
    char block[512] = {0};
    int fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    assert_true(fd >= 0);
    while (write(fd, block, sizeof(block)) > 0)
        ;
    assert_int_equal(errno, ENOSPC);
    close(fd);
}

static void a_full_disk_does_not_keep_from_starting(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdir(f->path, 0700), 0);
    if (mount("tmpfs", f->path, "tmpfs", 0, "size=400k") != 0)
        skip();
    open_dir(f);
    uint64_t starts = datadir_starts(f->dir);
    fill_disk(in_data(f, "filler"));
    for (unsigned i = 1; i <= 4; i++) {
        close_dir(f, i % 2 == 0);
        open_dir(f);
        assert_int_equal(datadir_starts(f->dir), starts + i);
    }
    close_dir(f, true);
    assert_int_equal(umount(f->path), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_directory_is_made_for_its_owner_alone),
        TEST(starts_are_counted_and_the_hash_key_stays),
        TEST(a_new_shard_count_begins_a_generation),
        TEST(segments_are_found_again),
        TEST(there_is_nothing_to_hold_where_there_is_no_segment),
        TEST(a_new_segment_is_zeros_behind_its_header),
        TEST(segments_of_impossible_sizes_are_refused),
        TEST(segments_are_added_from_many_threads),
        TEST(left_overs_are_removed_and_nothing_else),
        TEST(a_first_start_that_was_cut_short_is_gone_on_with),
        TEST(only_a_relaxed_run_lost_with_its_machine_changes_the_incarnation),
        TEST(ends_last_over_a_clean_stop_only),
        TEST(a_path_that_is_a_file_is_refused),
        TEST(a_path_whose_parent_is_missing_is_refused),
        TEST(a_directory_of_someone_else_is_refused_and_not_touched),
        TEST(a_foreign_manifest_is_refused_and_not_touched),
        TEST(segments_without_a_manifest_are_refused),
        TEST(a_manifest_of_another_format_is_refused_by_its_version_whatever_it_says),
        TEST(any_flipped_bit_in_the_manifest_is_refused),
        TEST(a_manifest_of_any_other_length_is_refused),
        TEST(a_manifest_that_makes_no_sense_is_refused_though_its_checksum_is_right),
        TEST(a_missing_segment_is_refused),
        TEST(a_segment_of_another_size_is_refused),
        TEST(segments_that_were_swapped_are_refused),
        TEST(a_segment_of_another_format_is_refused_by_its_version),
        TEST(an_unreadable_directory_is_refused),
        TEST(a_directory_in_use_is_refused_until_it_is_free),
        TEST(looking_changes_nothing),
        TEST(looking_goes_on_where_a_segment_or_checkpoint_is_missing),
        TEST(looking_says_what_the_last_run_left),
        TEST(looking_at_what_is_no_data_directory_is_refused),
        TEST(looking_at_a_directory_in_use_is_refused),
        TEST(a_segment_that_cannot_be_made_leaves_nothing_behind),
        TEST(a_full_disk_leaves_nothing_behind),
        TEST(a_full_disk_does_not_keep_from_starting),
    };
    return cmocka_run_group_tests_name("datadir", tests, NULL, NULL);
}
