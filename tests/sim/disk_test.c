/*
 * The simulated disk keeps its own promises: what was synced survives, what was not may be lost in
 * every way that disk.h tells of, and in no other.
 */
#include "tests/sim/disk.h"
#include "tests/sim/simio.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TIMES = 400, BYTES = 4 * DISK_SECTOR_BYTES };

struct rig {
    struct rng rng;
    struct disk *disk;
    struct fs *fs;
};

static void rig_open(struct rig *rig, uint64_t seed)
{
    rng_seed(&rig->rng, seed, 1);
    rig->disk = disk_new(&rig->rng);
    rig->fs = disk_fs_new(rig->disk, NULL, NULL);
}

static void rig_close(struct rig *rig)
{
    rig->fs->ops->free(rig->fs);
    disk_free(rig->disk);
}

static int create(struct rig *rig, const char *name)
{
    int file = rig->fs->ops->open(rig->fs, name, FS_CREATE);
    assert_true(file >= 0);
    return file;
}

static void fill(struct rig *rig, int file, char c, size_t n, uint64_t offset)
{
    char bytes[BYTES];
    memset(bytes, c, n);
    assert_int_equal(rig->fs->ops->write(rig->fs, file, bytes, n, offset), 0);
}

/* "a" with a durable name and four durable sectors of A. */
static int settled(struct rig *rig)
{
    int file = create(rig, "a");
    fill(rig, file, 'A', BYTES, 0);
    assert_int_equal(rig->fs->ops->sync(rig->fs, file), 0);
    assert_int_equal(rig->fs->ops->sync_directory(rig->fs), 0);
    return file;
}

/* One letter a sector, '-' for zeros, '?' for what is neither. */
static void shape(struct rig *rig, const char *name, char text[64])
{
    uint64_t bytes = 0;
    char *content = disk_content(rig->disk, name, &bytes);
    unsigned n = 0;
    for (uint64_t at = 0; content != NULL && at < bytes; at += DISK_SECTOR_BYTES) {
        char c = content[at];
        for (uint64_t i = at; i < at + DISK_SECTOR_BYTES && i < bytes; i++)
            c = content[i] == c ? c : '?';
        text[n++] = c;
        if (c == '\0')
            text[n - 1] = '-';
    }
    snprintf(text + n, 64 - n, "%s", content == NULL ? "none" : "");
    free(content);
}

/* A set of short texts, to see what can happen. */
struct seen {
    char texts[256][64];
    unsigned n;
};

static void see(struct seen *seen, const char *text)
{
    for (unsigned i = 0; i < seen->n; i++) {
        if (strcmp(seen->texts[i], text) == 0)
            return;
    }
    assert_true(seen->n < 256);
    strcpy(seen->texts[seen->n++], text);
}

static bool was_seen(const struct seen *seen, const char *text)
{
    for (unsigned i = 0; i < seen->n; i++) {
        if (strcmp(seen->texts[i], text) == 0)
            return true;
    }
    return false;
}

static void test_what_was_synced_survives_a_loss_of_power(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        char text[64];
        rig_open(&rig, seed);
        settled(&rig);
        disk_restart(rig.disk, DISK_POWER);
        shape(&rig, "a", text);
        assert_string_equal(text, "AAAA");
        rig_close(&rig);
    }
}

static void test_unsynced_sectors_are_lost_in_any_combination(void **state)
{
    (void)state;
    struct seen seen = {.n = 0};
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        char text[64];
        rig_open(&rig, seed);
        int file = settled(&rig);
        fill(&rig, file, 'B', 3 * DISK_SECTOR_BYTES, 0);
        disk_restart(rig.disk, DISK_POWER);
        shape(&rig, "a", text);
        see(&seen, text);
        rig_close(&rig);
    }
    assert_int_equal(seen.n, 8); /* each of three sectors, old or new; the fourth always old */
    assert_true(was_seen(&seen, "ABAA") && was_seen(&seen, "AABA") && was_seen(&seen, "BABA"));
}

static void test_a_file_that_grew_has_any_size_and_zeros_where_sectors_are_missing(void **state)
{
    (void)state;
    struct seen seen = {.n = 0};
    for (uint64_t seed = 0; seed < 4 * TIMES; seed++) {
        struct rig rig;
        char text[64];
        rig_open(&rig, seed);
        int file = settled(&rig);
        fill(&rig, file, 'B', 2 * DISK_SECTOR_BYTES, BYTES);
        disk_restart(rig.disk, DISK_POWER);
        shape(&rig, "a", text);
        assert_memory_equal(text, "AAAA", 4);
        see(&seen, text);
        rig_close(&rig);
    }
    assert_true(was_seen(&seen, "AAAA") && was_seen(&seen, "AAAABB"));
    assert_true(was_seen(&seen, "AAAA--") && was_seen(&seen, "AAAA-B"));
    assert_true(was_seen(&seen, "AAAAB-"));
}

static void test_names_are_lost_until_the_directory_is_synced(void **state)
{
    (void)state;
    struct seen seen = {.n = 0};
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        char a[64], b[64], c[64], text[64];
        rig_open(&rig, seed);
        const struct fs_ops *fs = rig.fs->ops;
        settled(&rig);
        int file = create(&rig, "b");
        fill(&rig, file, 'B', DISK_SECTOR_BYTES, 0);
        assert_int_equal(fs->sync(rig.fs, file), 0);
        assert_int_equal(fs->rename(rig.fs, "a", "c"), 0);
        disk_restart(rig.disk, DISK_POWER);
        shape(&rig, "a", a);
        shape(&rig, "b", b);
        shape(&rig, "c", c);
        snprintf(text, sizeof(text), "%.8s %.8s %.8s", a, b, c);
        see(&seen, text);
        rig_close(&rig);
    }
    assert_int_equal(seen.n, 4); /* b there or not, a moved or not; never twice, never gone */
    assert_true(was_seen(&seen, "AAAA none none") && was_seen(&seen, "AAAA B none"));
    assert_true(was_seen(&seen, "none none AAAA") && was_seen(&seen, "none B AAAA"));
}

static void test_a_rename_replaces_at_once_or_not_at_all(void **state)
{
    (void)state;
    struct seen seen = {.n = 0};
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        char text[64];
        rig_open(&rig, seed);
        settled(&rig);
        int file = create(&rig, "next");
        fill(&rig, file, 'B', DISK_SECTOR_BYTES, 0);
        assert_int_equal(rig.fs->ops->sync(rig.fs, file), 0);
        assert_int_equal(rig.fs->ops->rename(rig.fs, "next", "a"), 0);
        if (seed % 2 == 0)
            assert_int_equal(rig.fs->ops->sync_directory(rig.fs), 0);
        disk_restart(rig.disk, DISK_POWER);
        shape(&rig, "a", text);
        if (seed % 2 == 0)
            assert_string_equal(text, "B");
        see(&seen, text);
        rig_close(&rig);
    }
    assert_int_equal(seen.n, 2);
}

static void test_a_kill_keeps_what_was_written(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        char text[64];
        rig_open(&rig, seed);
        int file = settled(&rig);
        fill(&rig, file, 'B', 2 * DISK_SECTOR_BYTES, 0);
        disk_restart(rig.disk, DISK_KILL);
        shape(&rig, "a", text);
        assert_string_equal(text, "BBAA");
        rig_close(&rig);
    }
}

static void test_after_a_failed_sync_a_second_one_says_well_and_saves_nothing(void **state)
{
    (void)state;
    unsigned lost = 0;
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        char text[64];
        rig_open(&rig, seed);
        int file = settled(&rig);
        fill(&rig, file, 'B', BYTES, 0);
        disk_set_faults(rig.disk, &(struct disk_faults){.sync_fails = 1});
        assert_int_equal(rig.fs->ops->sync(rig.fs, file), -EIO);
        assert_int_equal(disk_faults_n(rig.disk), 1);
        disk_set_faults(rig.disk, &(struct disk_faults){0});
        assert_int_equal(rig.fs->ops->sync(rig.fs, file), 0);
        shape(&rig, "a", text);
        assert_string_equal(text, "BBBB"); /* it is still read as written … */
        if (seed % 2 == 0)
            rig.fs->ops->forget(rig.fs, file);
        else
            disk_restart(rig.disk, DISK_POWER);
        shape(&rig, "a", text); /* … but not from the platter */
        lost += strchr(text, 'A') != NULL;
        rig_close(&rig);
    }
    assert_in_range(lost, TIMES / 2, TIMES);
}

static void test_nothing_happens_after_the_crash_point(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        char text[64];
        rig_open(&rig, seed);
        const struct fs_ops *fs = rig.fs->ops;
        int file = settled(&rig);
        disk_arm(rig.disk, 2);
        fill(&rig, file, 'B', DISK_SECTOR_BYTES, 0);
        assert_false(disk_is_dead(rig.disk));
        char bytes[DISK_SECTOR_BYTES];
        memset(bytes, 'C', sizeof(bytes));
        assert_int_equal(fs->write(rig.fs, file, bytes, sizeof(bytes), 512), -EIO);
        assert_true(disk_is_dead(rig.disk));
        assert_int_equal(fs->write(rig.fs, file, bytes, sizeof(bytes), 1024), -EIO);
        assert_int_equal(fs->sync(rig.fs, file), -EIO);
        assert_int_equal(fs->rename(rig.fs, "a", "b"), -EIO);
        assert_int_equal(fs->remove(rig.fs, "a"), -EIO);
        assert_int_equal(fs->open(rig.fs, "b", FS_CREATE), -EIO);
        assert_int_equal(fs->sync_directory(rig.fs), -EIO);
        disk_restart(rig.disk, DISK_KILL);
        shape(&rig, "a", text);
        assert_true(text[0] == 'B' && text[2] == 'A' && text[3] == 'A');
        shape(&rig, "b", text);
        assert_string_equal(text, "none");
        rig_close(&rig);
    }
}

static void test_a_full_disk_says_so_until_something_is_removed(void **state)
{
    (void)state;
    struct rig rig;
    char bytes[BYTES] = {0};
    rig_open(&rig, 1);
    int file = settled(&rig);
    disk_set_budget(rig.disk, 8192);
    int other = create(&rig, "b");
    assert_int_equal(rig.fs->ops->write(rig.fs, other, bytes, BYTES, 0), 0);
    assert_int_equal(rig.fs->ops->write(rig.fs, other, bytes, BYTES, 2 * BYTES), -ENOSPC);
    assert_true(disk_was_full(rig.disk));
    assert_int_equal(rig.fs->ops->remove(rig.fs, "a"), 0);
    assert_int_equal(rig.fs->ops->write(rig.fs, other, bytes, BYTES, 2 * BYTES), -ENOSPC);
    rig.fs->ops->close(rig.fs, file); /* only then is its room free */
    assert_int_equal(rig.fs->ops->write(rig.fs, other, bytes, BYTES, 2 * BYTES), 0);
    rig_close(&rig);
}

static void test_the_lock_is_held_until_its_fs_is_freed_or_its_process_gone(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, 1);
    struct fs *other = disk_fs_new(rig.disk, NULL, NULL);
    assert_int_equal(rig.fs->ops->lock(rig.fs, "lock"), 0);
    assert_int_equal(other->ops->lock(other, "lock"), -EWOULDBLOCK);
    disk_restart(rig.disk, DISK_KILL);
    assert_int_equal(other->ops->lock(other, "lock"), 0);
    other->ops->free(other);
    rig_close(&rig);
}

static void test_rot_turns_a_bit_before_the_last_append_and_can_be_healed(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        struct disk_rot rot;
        char text[64];
        rig_open(&rig, seed);
        int file = settled(&rig);
        assert_false(disk_rot(rig.disk, "b", &rot));
        disk_note_append(rig.disk, file, 512, true);
        uint64_t before = disk_digest(rig.disk);
        assert_true(disk_rot(rig.disk, "a", &rot));
        assert_true(rot.offset < 512);
        shape(&rig, "a", text);
        assert_string_equal(text, "?AAA");
        assert_int_not_equal(disk_digest(rig.disk), before);
        disk_heal(rig.disk, &rot);
        assert_int_equal(disk_digest(rig.disk), before);
        rig_close(&rig);
    }
}

/* ---- io on it */

static int results[4];
static unsigned results_n;

static void append_done(struct io_append *append, int result)
{
    (void)append;
    results[results_n++] = result;
}

static void test_an_append_is_durable_when_it_is_done_and_in_pieces_before(void **state)
{
    (void)state;
    struct seen seen = {.n = 0};
    for (uint64_t seed = 0; seed < TIMES; seed++) {
        struct rig rig;
        struct sim_clock clock = {0};
        char text[64], bytes[BYTES];
        rig_open(&rig, seed);
        int file = settled(&rig);
        struct io *io = simio_new(rig.disk, &rig.rng, &clock);
        memset(bytes, 'B', sizeof(bytes));
        struct io_append append = {
            .done = append_done, .buf = bytes, .size = sizeof(bytes), .fd = file, .sync = 1};
        results_n = 0;
        io->ops->append(io, &append);
        assert_false(simio_step(io)); /* not submitted */
        io->ops->submit(io);
        unsigned steps = rng_below(&rig.rng, 4);
        while (steps-- != 0 && simio_step(io))
            ;
        bool done = io->ops->reap(io) == 1;
        disk_restart(rig.disk, DISK_POWER);
        shape(&rig, "a", text);
        if (done)
            assert_string_equal(text, "BBBB");
        assert_int_equal(results_n, done);
        see(&seen, text);
        io->ops->free(io);
        rig_close(&rig);
    }
    assert_true(seen.n > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_synced_survives_a_loss_of_power),
        cmocka_unit_test(test_unsynced_sectors_are_lost_in_any_combination),
        cmocka_unit_test(test_a_file_that_grew_has_any_size_and_zeros_where_sectors_are_missing),
        cmocka_unit_test(test_names_are_lost_until_the_directory_is_synced),
        cmocka_unit_test(test_a_rename_replaces_at_once_or_not_at_all),
        cmocka_unit_test(test_a_kill_keeps_what_was_written),
        cmocka_unit_test(test_after_a_failed_sync_a_second_one_says_well_and_saves_nothing),
        cmocka_unit_test(test_nothing_happens_after_the_crash_point),
        cmocka_unit_test(test_a_full_disk_says_so_until_something_is_removed),
        cmocka_unit_test(test_the_lock_is_held_until_its_fs_is_freed_or_its_process_gone),
        cmocka_unit_test(test_rot_turns_a_bit_before_the_last_append_and_can_be_healed),
        cmocka_unit_test(test_an_append_is_durable_when_it_is_done_and_in_pieces_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
