/*
 * backup: the copy of a directory that is being written to holds each log up to some batch, and
 * together they fit; whatever happens to the source meanwhile, or goes wrong, there is either such
 * a copy or none that could be taken for one.
 */
#define _GNU_SOURCE 1

#include "shards/backup.h"
#include "shards/manifest.h"
#include "shards/verify.h"
#include "tests/unit/failing_fs.h"
#include "tests/unit/tale_fixture.h"

enum { TALES = 6, PARENT = 0, CHILD = 5 };

/* s0, s1 and s4 are on shard 0, s2 and s3 on shard 1; the fork of s0 too. */
static const char *const names[TALES] = {"s0", "s1", "s2", "s3", "s4", "other"};

struct source {
    struct fixture f; /* first member */
    struct tale tales[TALES];
    struct backup_report report;
    char to[128];
    void (*meanwhile)(struct source *s); /* called at the nth look at the source */
    unsigned countdown;
    unsigned happened;
    struct fs_ops ops;
};

static struct source *current;

static int set_up_source(void **state)
{
    struct source *s = mem_zeroed(1, sizeof(*s));
    scratch_make(&s->f.scratch, false);
    s->f.path = s->f.scratch.path;
    s->f.options = (struct datadir_options){.shards = 2, .segment_bytes = SEGMENT_BYTES};
    start_with_same_key(&s->f);
    snprintf(s->to, sizeof(s->to), "%s-copy", s->f.path);
    for (unsigned i = 0; i < TALES; i++)
        tale_open(&s->tales[i], names[i], 1);
    assert_int_not_equal(shard_of(&s->f, tale_id(&s->tales[PARENT])),
                         shard_of(&s->f, tale_id(&s->tales[CHILD])));
    current = s;
    *state = s;
    return 0;
}

static void remove_copy(struct source *s)
{
    struct scratch copy;
    int n = snprintf(copy.path, sizeof(copy.path), "%s", s->to);
    assert_true(n > 0 && (size_t)n < sizeof(copy.path));
    if (file_exists(s->to))
        scratch_remove(&copy);
}

static int tear_down_source(void **state)
{
    struct source *s = *state;
    for (unsigned i = 0; i < TALES; i++)
        tale_close(&s->tales[i]);
    remove_copy(s);
    return tear_down(state);
}

static void tell_sessions(struct source *s)
{
    for (unsigned i = 0; i < CHILD; i++) {
        tell_beginning(&s->f, &s->tales[i]);
        tell_messages(&s->f, &s->tales[i], 20);
        take_snapshot(&s->f, &s->tales[i]);
        tell_messages(&s->f, &s->tales[i], 20);
    }
}

static void checkpoint_all(struct source *s)
{
    struct fixture *f = &s->f;
    for (unsigned shard = 0; shard < f->options.shards; shard++) {
        struct checkpointing c = checkpoint_of_items();
        for (unsigned i = 0; i < TALES; i++) {
            const struct tale *t = &s->tales[i];
            if (t->head != LOG_POSITION_NONE && shard_of(f, tale_id(t)) == shard)
                checkpoint_add_tale(&c, t);
        }
        checkpoint_finish(f, shard, &c);
    }
}

/* At the nth look at the source something happens to it. */
static void look(void)
{
    struct source *s = current;
    if (s->meanwhile != NULL && s->countdown-- == 0) {
        void (*meanwhile)(struct source * s) = s->meanwhile;
        s->meanwhile = NULL;
        s->happened++;
        meanwhile(s);
    }
}

static int64_t read_meanwhile(struct fs *fs, int file, void *p, size_t n, uint64_t offset)
{
    look();
    return failing_read(fs, file, p, n, offset);
}

static int open_meanwhile(struct fs *fs, const char *name, enum fs_open how)
{
    look();
    return failing_open(fs, name, how);
}

static void pause_not(struct fs *fs, unsigned ms)
{
    (void)fs, (void)ms;
}

static struct failing_fs *open_fs(struct source *s, const char *path, bool make)
{
    struct fs *real;
    if (fs_posix_open(path, make, &real, s->f.error, sizeof(s->f.error)) != 0)
        fail_msg("%s", s->f.error);
    return failing_fs_make(real);
}

/* `left`: steps of writing that go well, then one fails with ENOSPC; UINT_MAX: all go well. */
static int backup(struct source *s, unsigned left)
{
    struct failing_fs *from = open_fs(s, s->f.path, false), *to = open_fs(s, s->to, true);
    s->ops = *from->fs.ops;
    s->ops.read = read_meanwhile;
    s->ops.open = open_meanwhile;
    s->ops.pause_ms = pause_not;
    from->fs.ops = &s->ops;
    to->left = left;
    to->bad = 1;
    to->error = -ENOSPC;
    s->f.error[0] = 0;
    int result = backup_run(&from->fs, &to->fs, &s->report, s->f.error, sizeof(s->f.error));
    from->fs.ops->free(&from->fs);
    to->fs.ops->free(&to->fs);
    return result;
}

static void expect_backup(struct source *s)
{
    if (backup(s, UINT32_MAX) != 0)
        fail_msg("%s", s->f.error);
}

static void expect_well(struct source *s, const char *path, struct verify_report *report)
{
    struct verify_options options = {0};
    struct failing_fs *fs = open_fs(s, path, false);
    int result = verify_run(&fs->fs, &options, report, s->f.error, sizeof(s->f.error));
    if (result != 0)
        fail_msg("%s", s->f.error);
    fs->fs.ops->free(&fs->fs);
}

/* The copy, verified, and then started as a server would. */
static struct verify_report expect_whole(struct source *s)
{
    struct verify_report report;
    expect_well(s, s->to, &report);
    struct fixture *copy = mem_zeroed(1, sizeof(*copy));
    copy->path = s->to;
    copy->options = s->f.options;
    copy->options.fs = NULL;
    if (open_dir(copy) != 0)
        fail_msg("%s", copy->error);
    uint64_t torn_bytes;
    assert_int_equal(log_clean_tails(copy->dir, &torn_bytes, copy->error, sizeof(copy->error)), 0);
    assert_int_equal(torn_bytes, 0);
    assert_int_equal(datadir_incarnation(copy->dir), 1);
    open_logs(copy);
    log_position position = put(copy, 0, "new", 1, 100);
    struct noted_read noted = {0};
    read_at(copy, &noted, position);
    assert_int_equal(noted.result, 0);
    log_read_release(&noted.read);
    close_logs(copy);
    datadir_close(copy->dir, false);
    free(copy);
    return report;
}

static void a_running_directory_is_copied_up_to_its_last_batch(void **state)
{
    struct source *s = *state;
    tell_sessions(s);
    expect_backup(s);
    assert_true(s->report.bytes > 50000);
    assert_int_equal(expect_whole(s).records, 5 * (4 + 20 + 1 + 20));
    /* The source goes on as if nothing had been. */
    tell_messages(&s->f, &s->tales[1], 3);
    crash(&s->f);
    struct verify_report report;
    expect_well(s, s->f.path, &report);
    assert_int_equal(report.records, 5 * (4 + 20 + 1 + 20) + 3);
}

static void checkpoints_and_rewritten_segments_are_copied(void **state)
{
    struct source *s = *state;
    struct compact_result result;
    tell_sessions(s);
    for (unsigned shard = 0; shard < 2; shard++) {
        while (log_roll(s->f.logs[shard]) == -EAGAIN)
            turn(&s->f);
    }
    checkpoint_all(s);
    compact(&s->f, 1, s->tales, TALES, &result);
    assert_true(result.kept_bytes != 0 && result.kept_bytes < result.read_bytes);
    tell_messages(&s->f, &s->tales[3], 5);
    expect_backup(s);
    assert_int_equal(s->report.checkpoints, 2);
    expect_whole(s);
}

static void a_stopped_directory_is_copied(void **state)
{
    struct source *s = *state;
    tell_sessions(s);
    stop(&s->f);
    expect_backup(s);
    assert_int_equal(expect_whole(s).records, 5 * (4 + 20 + 1 + 20));
}

static void an_empty_directory_is_copied(void **state)
{
    struct source *s = *state;
    expect_backup(s);
    assert_int_equal(expect_whole(s).records, 0);
}

/* The source changes while it is read. */

static void say_more(struct source *s)
{
    for (unsigned i = 0; i < CHILD; i++)
        tell_messages(&s->f, &s->tales[i], 10);
}

static void rewrite_and_drop(struct source *s)
{
    struct compact_result result;
    for (unsigned shard = 0; shard < 2; shard++) {
        while (log_roll(s->f.logs[shard]) == -EAGAIN)
            turn(&s->f);
    }
    checkpoint_all(s);
    compact(&s->f, 1, s->tales, TALES, &result);
    compact(&s->f, 2, s->tales, TALES, &result);
}

static void make_fork(struct source *s)
{
    struct tale *parent = &s->tales[PARENT], *child = &s->tales[CHILD];
    if (child->head != LOG_POSITION_NONE)
        return;
    tell_messages(&s->f, parent, 1);
    pin(&s->f, parent, child, core_session_seq(parent->w.s));
    begin_fork(&s->f, child, parent);
    tell_messages(&s->f, child, 2);
}

/* Two further on: the next one may have been made ahead of need, and be known. */
static void make_fork_in_a_new_segment(struct source *s)
{
    struct tale *parent = &s->tales[PARENT];
    struct log *log = s->f.logs[shard_of(&s->f, tale_id(parent))];
    for (unsigned i = 0; i < 2; i++) {
        while (log_roll(log) == -EAGAIN)
            turn(&s->f);
        tell_messages(&s->f, parent, 1);
    }
    make_fork(s);
}

/* Once for each moment at which the source is looked at. */
static void try_at_every_moment(void **state, void (*meanwhile)(struct source *s))
{
    for (unsigned moment = 0;; moment++) {
        struct source *s = *state;
        tell_sessions(s);
        s->meanwhile = meanwhile;
        s->countdown = moment;
        s->happened = 0;
        expect_backup(s);
        struct verify_report report = expect_whole(s);
        assert_in_range(report.sessions, CHILD, TALES);
        assert_true(meanwhile == rewrite_and_drop || report.events >= 5 * (4 + 20 + 20));
        bool happened = s->happened != 0;
        tear_down_source(state);
        set_up_source(state);
        if (!happened) {
            assert_in_range(moment, 8, 1000);
            break;
        }
    }
}

static void what_is_written_meanwhile_is_there_or_not(void **state)
{
    try_at_every_moment(state, say_more);
}

static void a_compaction_meanwhile_leaves_no_mixed_state(void **state)
{
    try_at_every_moment(state, rewrite_and_drop);
}

static void a_fork_made_meanwhile_is_there_with_its_pin_or_not_at_all(void **state)
{
    try_at_every_moment(state, make_fork);
}

static void a_fork_whose_pin_is_in_a_segment_of_its_own_is_there_with_it_or_not_at_all(void **state)
{
    try_at_every_moment(state, make_fork_in_a_new_segment);
}

/* Refused. */

static void a_destination_that_holds_something_is_refused_and_left(void **state)
{
    struct source *s = *state;
    char path[160];
    assert_int_equal(mkdir(s->to, 0700), 0);
    snprintf(path, sizeof(path), "%s/letters", s->to);
    file_write(path, "private", 7);
    assert_int_equal(backup(s, UINT32_MAX), -ENOTEMPTY);
    assert_non_null(strstr(s->f.error, s->to));
    assert_non_null(strstr(s->f.error, "is not empty"));
    struct buf letters = file_read(path);
    assert_memory_equal(letters.p, "private", 7);
    buf_free(&letters);
}

static void a_source_without_a_manifest_is_refused(void **state)
{
    struct source *s = *state;
    crash(&s->f);
    remove(scratch_file(&s->f.scratch, "manifest"));
    assert_int_equal(backup(s, UINT32_MAX), -ENOENT);
    assert_non_null(strstr(s->f.error, "no data directory"));
}

static void a_source_with_a_segment_missing_is_refused_by_its_name(void **state)
{
    struct source *s = *state;
    tell_sessions(s);
    remove(scratch_file(&s->f.scratch, "segment-00000002.log"));
    assert_int_equal(backup(s, UINT32_MAX), -ENOENT);
    assert_non_null(strstr(s->f.error, "segment-00000002.log is missing"));
}

static bool has_manifest(const struct source *s)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/manifest", s->to);
    return file_exists(path);
}

static void a_full_disk_at_any_step_leaves_nothing_that_looks_like_a_backup(void **state)
{
    struct source *s = *state;
    tell_sessions(s);
    unsigned steps = 0;
    for (;; steps++) {
        int result = backup(s, steps);
        if (result == 0)
            break;
        assert_int_equal(result, -ENOSPC);
        assert_non_null(strstr(s->f.error, s->to));
        assert_non_null(strstr(s->f.error, "No space left"));
        assert_false(has_manifest(s));
        remove_copy(s);
    }
    assert_in_range(steps, 10, 1000);
    assert_true(has_manifest(s));
    expect_whole(s);
}

#define SOURCE(function) cmocka_unit_test_setup_teardown(function, set_up_source, tear_down_source)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SOURCE(a_running_directory_is_copied_up_to_its_last_batch),
        SOURCE(checkpoints_and_rewritten_segments_are_copied),
        SOURCE(a_stopped_directory_is_copied),
        SOURCE(an_empty_directory_is_copied),
        SOURCE(what_is_written_meanwhile_is_there_or_not),
        SOURCE(a_compaction_meanwhile_leaves_no_mixed_state),
        SOURCE(a_fork_made_meanwhile_is_there_with_its_pin_or_not_at_all),
        SOURCE(a_fork_whose_pin_is_in_a_segment_of_its_own_is_there_with_it_or_not_at_all),
        SOURCE(a_destination_that_holds_something_is_refused_and_left),
        SOURCE(a_source_without_a_manifest_is_refused),
        SOURCE(a_source_with_a_segment_missing_is_refused_by_its_name),
        SOURCE(a_full_disk_at_any_step_leaves_nothing_that_looks_like_a_backup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
