/*
 * verify: a directory as servers leave it is found well; whatever is changed in it behind their
 * backs is found, and named; and so is what a shard with a bug would have written, of which every
 * checksum is right.
 */
#define _GNU_SOURCE 1

#include "shards/manifest.h"
#include "shards/verify.h"
#include "tests/unit/tale_fixture.h"

enum { TALES = 8, CHILD = 6, AGAIN = 7, ENDED = 5, SAID = 12 };

struct directory {
    struct fixture f; /* first member */
    struct tale tales[TALES];
    struct verify_report report;
    struct verify_options options;
    uint64_t forked_at;
    unsigned percent;
};

static const char *const names[TALES] = {"s0", "s1", "s2", "s3", "s4", "s5", "child", "s5"};

static struct tale *tale(struct directory *d, unsigned i)
{
    return &d->tales[i];
}

static int set_up_directory(void **state)
{
    struct directory *d = mem_zeroed(1, sizeof(*d));
    scratch_make(&d->f.scratch, false);
    d->f.path = d->f.scratch.path;
    d->f.options = (struct datadir_options){.shards = 2, .segment_bytes = SEGMENT_BYTES};
    start_with_same_key(&d->f);
    for (unsigned i = 0; i < TALES; i++)
        tale_open(tale(d, i), names[i], i == AGAIN ? 2 : 1);
    *state = d;
    return 0;
}

static int tear_down_directory(void **state)
{
    struct directory *d = *state;
    for (unsigned i = 0; i < TALES; i++)
        tale_close(tale(d, i));
    return tear_down(state);
}

/* Sessions s0 to s5 with two snapshots each, of which s5 is deleted. */
static void tell_sessions(struct directory *d)
{
    for (unsigned i = 0; i < CHILD; i++) {
        struct tale *t = tale(d, i);
        tell_beginning(&d->f, t);
        tell_messages(&d->f, t, SAID);
        take_snapshot(&d->f, t);
        tell_messages(&d->f, t, SAID);
        take_snapshot(&d->f, t);
        tell_messages(&d->f, t, 2);
    }
    tell_end(&d->f, tale(d, ENDED));
}

/* s5 is told anew, and `child` is a fork of s0. */
static void tell_fork(struct directory *d)
{
    struct tale *parent = tale(d, 0), *child = tale(d, CHILD);
    d->forked_at = core_session_seq(parent->w.s);
    tell_beginning(&d->f, tale(d, AGAIN));
    pin(&d->f, parent, child, d->forked_at);
    begin_fork(&d->f, child, parent);
    tell_messages(&d->f, child, 3);
    tell_messages(&d->f, parent, 3);
}

/* What each shard would put into a checkpoint now. */
static void checkpoint_all(struct directory *d, bool with_pins)
{
    struct fixture *f = &d->f;
    for (unsigned shard = 0; shard < f->options.shards; shard++) {
        struct checkpointing c = checkpoint_of_items();
        for (unsigned i = 0; i < TALES; i++) {
            const struct tale *t = tale(d, i);
            if (t->alive && t->head != LOG_POSITION_NONE && shard_of(f, tale_id(t)) == shard)
                checkpoint_add_tale(&c, t);
        }
        const struct tale *parent = tale(d, 0), *child = tale(d, CHILD);
        if (with_pins && shard_of(f, tale_id(parent)) == shard)
            checkpoint_add_pin(&c, child, parent, d->forked_at);
        if (child->head != LOG_POSITION_NONE && shard_of(f, tale_id(child)) == shard)
            checkpoint_add_fork(&c, child, parent, d->forked_at);
        checkpoint_finish(f, shard, &c);
    }
}

static void roll_all(struct fixture *f)
{
    for (unsigned shard = 0; shard < f->options.shards; shard++) {
        int result;
        while ((result = log_roll(f->logs[shard])) == -EAGAIN)
            turn(f);
        assert_int_equal(result, 0);
    }
}

/* A directory with something of everything, the server stopped or killed. */
static void tell_all(struct directory *d, bool clean)
{
    struct compact_result result;
    tell_sessions(d);
    roll_all(&d->f);
    tell_fork(d);
    checkpoint_all(d, true);
    compact(&d->f, 1, d->tales, TALES, &result);
    assert_false(result.unchanged || result.dropped);
    tell_messages(&d->f, tale(d, 1), 2);
    tell_messages(&d->f, tale(d, CHILD), 2);
    take_snapshot(&d->f, tale(d, CHILD));
    if (clean)
        stop(&d->f);
    else
        crash(&d->f);
}

static int verify(struct directory *d)
{
    struct fs *fs;
    d->f.error[0] = 0;
    assert_int_equal(fs_posix_open(d->f.path, false, &fs, d->f.error, sizeof(d->f.error)), 0);
    int result = verify_run(fs, &d->options, &d->report, d->f.error, sizeof(d->f.error));
    fs->ops->free(fs);
    return result;
}

static void expect_well(struct directory *d)
{
    if (verify(d) != 0)
        fail_msg("%s", d->f.error);
}

static void expect_fault(struct directory *d, const char *what, const char *also)
{
    int result = verify(d);
    assert_int_equal(result, -EIO);
    if (strstr(d->f.error, what) == NULL || strstr(d->f.error, also) == NULL)
        fail_msg("\"%s\" says nothing of %s and %s", d->f.error, what, also);
}

static const char *file_of(struct directory *d, const char *name)
{
    return scratch_file(&d->f.scratch, name);
}

/* Well. */

static void a_directory_as_it_should_be_is_well(void **state)
{
    struct directory *d = *state;
    tell_all(d, true);
    expect_well(d);
    assert_int_equal(d->report.sessions, 7); /* s0 to s4, s5 again, child */
    assert_int_equal(d->report.lives, 8);    /* and what s5 was at first */
    assert_int_equal(d->report.forks, 1);
    assert_int_equal(d->report.pins, 1);
    assert_int_equal(d->report.orphans, 0);
    assert_int_equal(d->report.checkpoints, 2);
    assert_int_equal(d->report.entries, 7);
    assert_int_equal(d->report.rewritten, 1);
    assert_true(d->report.snapshots > 8);
    assert_int_equal(d->report.missing, 0);
    assert_int_equal(d->report.torn_bytes, 0);
    assert_int_equal(d->report.passes, 1);
}

static void what_is_checked_is_counted(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    take_snapshot(&d->f, tale(d, 0));
    stop(&d->f);
    expect_well(d);
    assert_int_equal(d->report.segments, 2);
    assert_int_equal(d->report.batches, 5);
    assert_int_equal(d->report.records, 5);
    assert_int_equal(d->report.events, 4);
    assert_int_equal(d->report.sessions, 1);
    assert_int_equal(d->report.snapshots, 1);
    assert_int_equal(d->report.bytes, 2 * SEGMENT_BYTES);
}

static void an_empty_directory_is_well(void **state)
{
    struct directory *d = *state;
    crash(&d->f);
    expect_well(d);
    assert_int_equal(d->report.records, 0);
}

static void remains_of_a_batch_that_was_being_written_are_no_fault(void **state)
{
    struct directory *d = *state;
    tell_all(d, false);
    struct buf bytes = {0};
    expect_well(d);
    uint64_t records = d->report.records;
    /* The last record of a log, cut short. */
    log_position head = tale(d, CHILD)->head;
    uint64_t batch = offset_of(head) - sizeof(struct log_batch_header);
    bytes = file_read(segment_path(&d->f, (uint32_t)(head >> 32)));
    uint32_t size;
    memcpy(&size, bytes.p + batch + offsetof(struct log_batch_header, bytes), sizeof(size));
    static const char zeros[64];
    file_patch(segment_path(&d->f, (uint32_t)(head >> 32)), batch + size - sizeof(zeros), zeros,
               sizeof(zeros));
    buf_free(&bytes);
    expect_well(d);
    assert_int_equal(d->report.records, records - 1);
    assert_in_range(d->report.torn_bytes, 100, size);
}

static void many_sessions_are_taken_in_several_passes(void **state)
{
    struct directory *d = *state;
    tell_all(d, true);
    d->options.memory_bytes = 32 * 1024;
    expect_well(d);
    assert_int_equal(d->report.passes, 4); /* 7 ids of 16 KiB each, and one more */
    assert_int_equal(d->report.sessions, 7);
    assert_int_equal(d->report.lives, 8);
    assert_int_equal(d->report.forks, 1);
}

static void note_percent(void *ctx, unsigned percent)
{
    struct directory *d = ctx;
    assert_true(percent > d->percent && percent <= 100);
    d->percent = percent;
}

static void progress_rises_to_a_hundred(void **state)
{
    struct directory *d = *state;
    tell_all(d, true);
    d->options.progress = note_percent;
    d->options.ctx = d;
    d->options.memory_bytes = 32 * 1024;
    expect_well(d);
    assert_int_equal(d->percent, 100);
}

static void a_history_that_begins_with_a_snapshot_is_well(void **state)
{
    struct directory *d = *state;
    struct compact_result result;
    tell_sessions(d);
    roll_all(&d->f);
    checkpoint_all(d, false);
    /* Retention: nothing before the newest snapshots stays, in any segment. */
    for (uint32_t segment = 1; segment <= 2; segment++)
        compact(&d->f, segment, d->tales, TALES, &result);
    tell_messages(&d->f, tale(d, 2), 3);
    take_snapshot(&d->f, tale(d, 2));
    crash(&d->f);
    expect_well(d);
    assert_int_equal(d->report.sessions, 5);
}

static void nothing_in_the_directory_is_changed(void **state)
{
    struct directory *d = *state;
    tell_all(d, false);
    remove(file_of(d, "lock"));
    struct buf before = file_read(file_of(d, "manifest"));
    expect_well(d);
    struct buf after = file_read(file_of(d, "manifest"));
    assert_int_equal(before.n, after.n);
    assert_memory_equal(before.p, after.p, before.n);
    assert_false(file_exists(file_of(d, "lock")));
    buf_free(&before);
    buf_free(&after);
}

/* Refused. */

static void a_directory_that_is_in_use_is_refused(void **state)
{
    struct directory *d = *state;
    assert_int_equal(verify(d), -EBUSY);
    assert_non_null(strstr(d->f.error, "used by a server"));
}

static void a_directory_of_a_newer_format_is_refused_by_its_version(void **state)
{
    struct directory *d = *state;
    crash(&d->f);
    const char *newer = "atoll-data 77\nwhatever\n";
    file_write(file_of(d, "manifest"), newer, strlen(newer));
    assert_int_not_equal(verify(d), 0);
    assert_non_null(strstr(d->f.error, "manifest"));
    assert_non_null(strstr(d->f.error, "77"));
}

static void a_directory_without_a_manifest_is_refused(void **state)
{
    struct directory *d = *state;
    crash(&d->f);
    remove(file_of(d, "manifest"));
    assert_int_equal(verify(d), -ENOENT);
    assert_non_null(strstr(d->f.error, "no data directory"));
}

/* Damage. */

/* One byte of `name` changed at `offset`: found, in that file, and put back. */
static void expect_damage(struct directory *d, const char *name, uint64_t offset, const char *also)
{
    char byte, other;
    const char *path = file_of(d, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
    other = byte;
    flip(&other, 1);
    file_patch(path, offset, &other, 1);
    if (verify(d) == 0)
        fail_msg("a changed byte in %s at %llu was not found", name, (unsigned long long)offset);
    if (strstr(d->f.error, name) == NULL || strstr(d->f.error, also) == NULL)
        fail_msg("\"%s\" says nothing of %s and %s", d->f.error, name, also);
    file_patch(path, offset, &byte, 1);
}

static void damage_every(struct directory *d, const char *name, uint64_t stride)
{
    struct stat st;
    assert_int_equal(stat(file_of(d, name), &st), 0);
    for (uint64_t at = 0; at < (uint64_t)st.st_size; at += stride)
        expect_damage(d, name, at, "");
}

/* Of the checkpoint's block header four bytes mean nothing: those are passed over. */
static void damage_checkpoint(struct directory *d, const char *name)
{
    struct stat st;
    assert_int_equal(stat(file_of(d, name), &st), 0);
    for (uint64_t at = 0; at < (uint64_t)st.st_size; at++) {
        if (at < CHECKPOINT_HEAD_BYTES + 4 || at >= CHECKPOINT_HEAD_BYTES + 8)
            expect_damage(d, name, at, "offset");
    }
}

static void any_changed_byte_is_found_after_a_clean_stop(void **state)
{
    struct directory *d = *state;
    tell_all(d, true);
    damage_every(d, "segment-00000001.1.log", 487);
    damage_every(d, "segment-00000002.log", 1523);
    damage_every(d, "segment-00000003.log", 1523);
    damage_every(d, "manifest", 13);
    expect_well(d);
}

static void any_changed_byte_of_a_checkpoint_is_found(void **state)
{
    struct directory *d = *state;
    char name[64];
    unsigned found = 0;
    tell_all(d, true);
    for (unsigned number = 1; number < 16; number++) {
        snprintf(name, sizeof(name), "checkpoint-%08u.dat", number);
        if (!file_exists(file_of(d, name)))
            continue;
        damage_checkpoint(d, name);
        found++;
    }
    assert_int_equal(found, 2);
}

static void a_damaged_record_is_named_with_its_session_and_seq(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 3));
    log_position broken = tale(d, 3)->head;
    tell_messages(&d->f, tale(d, 3), 3);
    crash(&d->f);
    char offset[64], name[32];
    snprintf(name, sizeof(name), "segment-%08u.log", (unsigned)(broken >> 32));
    snprintf(offset, sizeof(offset),
             "offset %u, session \"s3\", epoch 1, seq 4:", (unsigned)offset_of(broken));
    /* The body, and what its header says of the time. */
    expect_damage(d, name, offset_of(broken) + sizeof(struct log_record_header) + 5, offset);
    expect_damage(d, name, offset_of(broken) + offsetof(struct log_record_header, ts_ms), offset);
    /* The batch's header: the offset is its own, the session that of its first record. */
    snprintf(offset, sizeof(offset), "offset %u, session \"s3\", epoch 1, seq 4:",
             (unsigned)(offset_of(broken) - sizeof(struct log_batch_header)));
    expect_damage(d, name, offset_of(broken) - 20, offset);
}

static void after_a_crash_a_lost_batch_before_the_last_is_found(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 3));
    log_position lost = tale(d, 3)->head;
    tell_messages(&d->f, tale(d, 3), 3);
    crash(&d->f);
    static const char zeros[64];
    file_patch(segment_path(&d->f, (uint32_t)(lost >> 32)),
               offset_of(lost) - sizeof(struct log_batch_header), zeros, sizeof(zeros));
    expect_fault(d, "batch 4", "is not the last one");
}

static void a_segment_cut_short_is_found(void **state)
{
    struct directory *d = *state;
    tell_all(d, true);
    assert_int_equal(truncate(file_of(d, "segment-00000002.log"), SEGMENT_BYTES - 8), 0);
    expect_fault(d, "segment-00000002.log", "65528 bytes");
}

static bool is_hit(const struct directory *d, const char *session)
{
    for (uint64_t i = 0; i < d->report.hits && i < VERIFY_HITS_MAX; i++) {
        if (strcmp(d->report.hit[i], session) == 0)
            return true;
    }
    return false;
}

static void a_missing_segment_is_named_with_the_sessions_it_hits(void **state)
{
    struct directory *d = *state;
    tell_all(d, true);
    uint32_t segment = (uint32_t)(tale(d, 2)->base >> 32);
    char name[32];
    snprintf(name, sizeof(name), "segment-%08u.log", segment);
    assert_int_equal(remove(file_of(d, name)), 0);
    expect_fault(d, name, "is missing");
    assert_int_equal(d->report.missing, 1);
    assert_true(is_hit(d, "s2"));
    for (unsigned i = 0; i < TALES; i++) {
        const struct tale *t = tale(d, i);
        if (t->alive && t->base >> 32 == segment)
            assert_true(is_hit(d, t->id));
    }
    assert_false(is_hit(d, "s0"));
}

/* Bugs: every checksum is right. */

static void a_seq_left_out_is_found(void **state)
{
    struct directory *d = *state;
    struct tale *t = tale(d, 0);
    struct buf body = {0};
    tell_beginning(&d->f, t);
    record_add_count(&body, 0);
    struct log_record record = record_of(t, LOG_RECORD_EVENTS, (struct str){0});
    tale_add(t, "agent.register agent=cy", &body);
    record.body = buf_str(&body);
    record.events = 1;
    record.seq++;
    tale_write(&d->f, t, &record);
    buf_free(&body);
    crash(&d->f);
    expect_fault(d, "session \"s0\", epoch 1, seq 6", "events are missing");
}

static void a_record_that_names_another_before_it_is_found(void **state)
{
    struct directory *d = *state;
    struct tale *t = tale(d, 0);
    tell_beginning(&d->f, t);
    t->head = t->first;
    tell(&d->f, t, "agent.register agent=cy");
    crash(&d->f);
    expect_fault(d, "session \"s0\", epoch 1, seq 5", "but it names another");
}

static void an_event_that_does_not_apply_is_found(void **state)
{
    struct directory *d = *state;
    struct tale *t = tale(d, 0), *other = tale(d, 1);
    struct buf body = {0};
    tell_beginning(&d->f, t);
    tell_beginning(&d->f, other);
    tell(&d->f, other, "agent.register agent=cy");
    record_add_count(&body, 0);
    tale_add(other, "agent.leave agent=cy", &body);
    struct log_record record = record_of(t, LOG_RECORD_EVENTS, buf_str(&body));
    record.events = 1;
    tale_write(&d->f, t, &record);
    buf_free(&body);
    crash(&d->f);
    expect_fault(d, "session \"s0\", epoch 1, seq 5", "event 5 does not apply");
}

static void write_bad_snapshot(struct directory *d, struct tale *t, bool bad_chain, bool bad_state,
                               bool bad_skips)
{
    struct buf body = {0};
    struct record_snapshot snapshot = next_snapshot(t);
    snapshot.chain.bytes[7] ^= bad_chain;
    if (bad_skips)
        snapshot.skips[0].position += 8;
    record_add_count(&body, 0);
    record_add_snapshot(&body, &snapshot);
    if (bad_state) { /* stale: without the newest event */
        core_snapshot_encode(t->w.s, &body);
        tell(&d->f, t, "agent.register agent=late");
    } else {
        core_snapshot_encode(t->w.s, &body);
    }
    struct log_record record = record_of(t, LOG_RECORD_SNAPSHOT, buf_str(&body));
    tale_write(&d->f, t, &record);
    note_snapshot(t, &snapshot);
    buf_free(&body);
}

static void a_snapshot_of_another_state_is_found(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    write_bad_snapshot(d, tale(d, 0), false, true, false);
    crash(&d->f);
    expect_fault(d, "session \"s0\", epoch 1, seq 6", "is not the state");
}

static void a_snapshot_with_another_chain_is_found(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    write_bad_snapshot(d, tale(d, 0), true, false, false);
    crash(&d->f);
    expect_fault(d, "session \"s0\", epoch 1, seq 5", "chain");
}

static void a_snapshot_that_leads_to_others_is_found(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    take_snapshot(&d->f, tale(d, 0));
    write_bad_snapshot(d, tale(d, 0), false, false, true);
    crash(&d->f);
    expect_fault(d, "session \"s0\", epoch 1, seq 5", "leads to others");
}

static void epochs_that_do_not_ascend_are_found(void **state)
{
    struct directory *d = *state;
    struct tale *t = tale(d, 0);
    t->epoch = 7;
    tell_beginning(&d->f, t);
    tell_end(&d->f, t);
    struct tale older;
    tale_open(&older, "s0", 3);
    tell_beginning(&d->f, &older);
    crash(&d->f);
    tale_close(&older);
    expect_fault(d, "session \"s0\", epoch 3, seq 1", "epochs ascend");
}

static void a_life_that_goes_on_after_its_end_is_found(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    tell_end(&d->f, tale(d, 0));
    tell(&d->f, tale(d, 0), "agent.register agent=cy");
    crash(&d->f);
    expect_fault(d, "session \"s0\", epoch 1, seq 5", "had ended");
}

static void a_life_that_begins_before_the_last_one_has_ended_is_found(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, ENDED));
    tell_beginning(&d->f, tale(d, AGAIN));
    crash(&d->f);
    expect_fault(d, "session \"s5\", epoch 2, seq 1", "has not ended");
}

static void a_live_session_whose_needed_records_are_gone_is_found(void **state)
{
    struct directory *d = *state;
    struct compact_result result;
    tell_sessions(d);
    roll_all(&d->f);
    checkpoint_all(d, false);
    uint32_t segment = (uint32_t)(tale(d, 1)->first >> 32);
    tale(d, 1)->alive = false; /* so that compaction takes it all */
    compact(&d->f, segment, d->tales, TALES, &result);
    tell_messages(&d->f, tale(d, 1), 1);
    crash(&d->f);
    expect_fault(d, "session \"s1\"", "neither its beginning nor a snapshot");
}

/* Forks. */

static void a_fork_of_another_state_than_its_parents_is_found(void **state)
{
    struct directory *d = *state;
    struct tale *parent = tale(d, 0), *child = tale(d, CHILD), twin;
    tell_beginning(&d->f, parent);
    tell_messages(&d->f, parent, 3);
    /* The same session told in another way. */
    tale_open(&twin, "s0", 1);
    struct buf unused = {0};
    tale_add(&twin, "session.create", &unused);
    for (unsigned i = 0; i < 6; i++) {
        char line[64];
        snprintf(line, sizeof(line), "agent.register agent=a%u", i);
        tale_add(&twin, line, &unused);
    }
    twin.head = parent->head;
    pin(&d->f, parent, child, core_session_seq(parent->w.s));
    begin_fork(&d->f, child, &twin);
    buf_free(&unused);
    tale_close(&twin);
    crash(&d->f);
    expect_fault(d, "session \"child\", epoch 1, seq 8", "is not the one that its parent had");
}

static void a_fork_whose_chain_is_not_its_parents_is_found(void **state)
{
    struct directory *d = *state;
    struct tale *parent = tale(d, 0);
    tell_beginning(&d->f, parent);
    pin(&d->f, parent, tale(d, CHILD), 4);
    struct core_chain chain = parent->chain;
    parent->chain.bytes[0] ^= 1;
    begin_fork(&d->f, tale(d, CHILD), parent);
    parent->chain = chain;
    crash(&d->f);
    expect_fault(d, "session \"child\", epoch 1, seq 5", "does not go on from its parent's");
}

static void a_fork_that_names_another_record_of_its_parent_is_found(void **state)
{
    struct directory *d = *state;
    struct tale *parent = tale(d, 0);
    tell_beginning(&d->f, parent);
    pin(&d->f, parent, tale(d, CHILD), 4);
    log_position head = parent->head;
    parent->head = parent->first;
    begin_fork(&d->f, tale(d, CHILD), parent);
    parent->head = head;
    crash(&d->f);
    expect_fault(d, "session \"child\", epoch 1, seq 5", "is not where it says");
}

static void a_fork_without_a_pin_is_found(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    begin_fork(&d->f, tale(d, CHILD), tale(d, 0));
    crash(&d->f);
    expect_fault(d, "session \"child\", epoch 1, seq 5", "nothing pins");
}

static void a_fork_that_only_the_log_pins_is_found_when_the_checkpoint_has_no_pin(void **state)
{
    struct directory *d = *state;
    tell_sessions(d);
    tell_fork(d);
    checkpoint_all(d, false);
    crash(&d->f);
    expect_fault(d, "session \"child\"", "nothing pins");
}

static void a_deleted_fork_needs_no_pin(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    begin_fork(&d->f, tale(d, CHILD), tale(d, 0));
    tell_end(&d->f, tale(d, CHILD));
    crash(&d->f);
    expect_well(d);
}

static void a_deleted_fork_needs_its_pin_as_long_as_a_fork_of_its_own_lives(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    begin_fork(&d->f, tale(d, CHILD), tale(d, 0));
    pin(&d->f, tale(d, CHILD), tale(d, 4), 5);
    begin_fork(&d->f, tale(d, 4), tale(d, CHILD));
    tell_end(&d->f, tale(d, CHILD));
    crash(&d->f);
    expect_fault(d, "session \"child\", epoch 1, seq 5", "nothing pins");
}

static void a_pin_without_a_fork_is_what_a_crash_may_leave(void **state)
{
    struct directory *d = *state;
    tell_beginning(&d->f, tale(d, 0));
    pin(&d->f, tale(d, 0), tale(d, CHILD), 4);
    crash(&d->f);
    expect_well(d);
    assert_int_equal(d->report.orphans, 1);
}

static void a_fork_whose_parent_was_deleted_keeps_what_it_needs(void **state)
{
    struct directory *d = *state;
    struct compact_result result;
    tell_sessions(d);
    tell_fork(d);
    tell_end(&d->f, tale(d, 0));
    roll_all(&d->f);
    checkpoint_all(d, true);
    for (uint32_t segment = 1; segment <= 2; segment++)
        compact(&d->f, segment, d->tales, TALES, &result);
    crash(&d->f);
    expect_well(d);
    assert_int_equal(d->report.forks, 1);
    assert_int_equal(d->report.sessions, 6);
}

/* Checkpoints. */

static void a_checkpoint_with_another_newest_record_is_found(void **state)
{
    struct directory *d = *state;
    tell_sessions(d);
    log_position head = tale(d, 2)->head;
    tale(d, 2)->head = tale(d, 2)->base;
    checkpoint_all(d, false);
    tale(d, 2)->head = head;
    crash(&d->f);
    expect_fault(d, "checkpoint-", "session \"s2\"");
}

static void a_checkpoint_with_another_newest_snapshot_is_found(void **state)
{
    struct directory *d = *state;
    tell_sessions(d);
    log_position base = tale(d, 2)->base;
    tale(d, 2)->base = tale(d, 2)->first;
    checkpoint_all(d, false);
    tale(d, 2)->base = base;
    crash(&d->f);
    expect_fault(d, "checkpoint-", "session \"s2\"");
}

static void a_checkpoint_with_a_session_that_never_was_is_found(void **state)
{
    struct directory *d = *state;
    tell_sessions(d);
    tale(d, CHILD)->head = tale(d, 2)->head;
    tale(d, CHILD)->epoch = 3;
    d->forked_at = 1;
    checkpoint_all(d, true);
    tale(d, CHILD)->head = LOG_POSITION_NONE;
    crash(&d->f);
    expect_fault(d, "session \"child\"", "newest record is here, and it is not");
}

static void a_checkpoint_that_has_forgotten_a_session_is_found(void **state)
{
    struct directory *d = *state;
    tell_sessions(d);
    tale(d, 2)->alive = false;
    checkpoint_all(d, false);
    crash(&d->f);
    expect_fault(d, "session \"s2\"", "does not know it");
}

static void a_checkpoint_at_a_place_between_no_batches_is_found(void **state)
{
    struct directory *d = *state;
    struct datadir_end mark;
    tell_sessions(d);
    log_mark(d->f.logs[0], &mark);
    mark.offset -= 8;
    checkpoint_at(&d->f, 0, &mark);
    crash(&d->f);
    expect_fault(d, "segment-", "a checkpoint says that the log goes on here");
}

#define DIRECTORY(function)                                                                        \
    cmocka_unit_test_setup_teardown(function, set_up_directory, tear_down_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRECTORY(a_directory_as_it_should_be_is_well),
        DIRECTORY(what_is_checked_is_counted),
        DIRECTORY(an_empty_directory_is_well),
        DIRECTORY(remains_of_a_batch_that_was_being_written_are_no_fault),
        DIRECTORY(many_sessions_are_taken_in_several_passes),
        DIRECTORY(progress_rises_to_a_hundred),
        DIRECTORY(a_history_that_begins_with_a_snapshot_is_well),
        DIRECTORY(nothing_in_the_directory_is_changed),
        DIRECTORY(a_directory_that_is_in_use_is_refused),
        DIRECTORY(a_directory_of_a_newer_format_is_refused_by_its_version),
        DIRECTORY(a_directory_without_a_manifest_is_refused),
        DIRECTORY(any_changed_byte_is_found_after_a_clean_stop),
        DIRECTORY(any_changed_byte_of_a_checkpoint_is_found),
        DIRECTORY(a_damaged_record_is_named_with_its_session_and_seq),
        DIRECTORY(after_a_crash_a_lost_batch_before_the_last_is_found),
        DIRECTORY(a_segment_cut_short_is_found),
        DIRECTORY(a_missing_segment_is_named_with_the_sessions_it_hits),
        DIRECTORY(a_seq_left_out_is_found),
        DIRECTORY(a_record_that_names_another_before_it_is_found),
        DIRECTORY(an_event_that_does_not_apply_is_found),
        DIRECTORY(a_snapshot_of_another_state_is_found),
        DIRECTORY(a_snapshot_with_another_chain_is_found),
        DIRECTORY(a_snapshot_that_leads_to_others_is_found),
        DIRECTORY(epochs_that_do_not_ascend_are_found),
        DIRECTORY(a_life_that_goes_on_after_its_end_is_found),
        DIRECTORY(a_life_that_begins_before_the_last_one_has_ended_is_found),
        DIRECTORY(a_live_session_whose_needed_records_are_gone_is_found),
        DIRECTORY(a_fork_of_another_state_than_its_parents_is_found),
        DIRECTORY(a_fork_whose_chain_is_not_its_parents_is_found),
        DIRECTORY(a_fork_that_names_another_record_of_its_parent_is_found),
        DIRECTORY(a_fork_without_a_pin_is_found),
        DIRECTORY(a_fork_that_only_the_log_pins_is_found_when_the_checkpoint_has_no_pin),
        DIRECTORY(a_deleted_fork_needs_no_pin),
        DIRECTORY(a_deleted_fork_needs_its_pin_as_long_as_a_fork_of_its_own_lives),
        DIRECTORY(a_pin_without_a_fork_is_what_a_crash_may_leave),
        DIRECTORY(a_fork_whose_parent_was_deleted_keeps_what_it_needs),
        DIRECTORY(a_checkpoint_with_another_newest_record_is_found),
        DIRECTORY(a_checkpoint_with_another_newest_snapshot_is_found),
        DIRECTORY(a_checkpoint_with_a_session_that_never_was_is_found),
        DIRECTORY(a_checkpoint_that_has_forgotten_a_session_is_found),
        DIRECTORY(a_checkpoint_at_a_place_between_no_batches_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
