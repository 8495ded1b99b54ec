/*
 * tale_fixture: sessions written into real logs record by record, as a shard writes them, so that a
 * test can also write what a shard never would.
 */
#ifndef ATOLL_TESTS_UNIT_TALE_FIXTURE_H
#define ATOLL_TESTS_UNIT_TALE_FIXTURE_H

#include "shards/checkpoint.h"
#include "shards/compact.h"
#include "shards/record.h"
#include "shards/siphash.h"
#include "tests/unit/core_fixture.h"
#include "tests/unit/log_fixture.h"

/* One life of a session, and what its shard would know of it. */
struct tale {
    struct world w;
    char id[LOG_SESSION_MAX_BYTES + 1];
    uint64_t epoch;
    log_position head, base, first;
    struct core_chain chain;
    struct record_snapshot snapshot; /* the newest; ordinal 0: none */
    struct record_skip snapshot_at;
    uint64_t bytes;
    uint64_t pinned; /* up to which seq forks need it */
    bool alive;
};

static inline struct str tale_id(const struct tale *t)
{
    return str_of(t->id);
}

static inline unsigned shard_of(const struct fixture *f, struct str id)
{
    return (unsigned)(siphash(datadir_hash_key(f->dir), id.p, id.n) % f->options.shards);
}

static inline int same_random(struct fs *fs, void *p, size_t n)
{
    (void)fs;
    memset(p, 7, n);
    return 0;
}

/* Makes the directory with a key that is always the same, so that a session is in every run on the
 * same shard, and starts. */
static inline void start_with_same_key(struct fixture *f)
{
    struct fs_ops ops;
    assert_int_equal(fs_posix_open(f->path, true, &f->options.fs, f->error, sizeof(f->error)), 0);
    ops = *f->options.fs->ops;
    ops.random = same_random;
    f->options.fs->ops = &ops;
    assert_int_equal(datadir_open(&f->options, &f->dir, f->error, sizeof(f->error)), 0);
    assert_int_equal(datadir_begin_generation(f->dir, NULL, NULL), 0);
    datadir_close(f->dir, false);
    start(f);
}

static inline void tale_open(struct tale *t, const char *id, uint64_t epoch)
{
    memset(t, 0, sizeof(*t));
    snprintf(t->id, sizeof(t->id), "%s", id);
    t->w.limits = core_limits_default;
    t->w.heap = (struct core_heap){counting_alloc, counting_free, &t->w.heap_bytes};
    t->w.s = core_session_new(&t->w.heap, &t->w.limits, tale_id(t), STR("1"));
    t->w.now_ms = INT64_C(1767323045678);
    t->epoch = epoch;
    t->alive = true;
}

static inline void tale_close(struct tale *t)
{
    core_session_free(t->w.s);
    arena_free(&t->w.scratch);
}

static inline log_position write_to(struct fixture *f, unsigned shard,
                                    const struct log_record *record)
{
    struct log *log = f->logs[shard];
    int result;
    while ((result = log_reserve(log, record->body.n)) == -EAGAIN) {
        log_commit(log);
        turn(f);
    }
    assert_int_equal(result, 0);
    log_position position = log_append(log, record);
    settle(f, log);
    return position;
}

/* The record as it would be, for a test to change before it is written. */
static inline struct log_record record_of(struct tale *t, uint8_t type, struct str body)
{
    return (struct log_record){
        .type = type,
        .session = tale_id(t),
        .epoch = t->epoch,
        .seq = core_session_seq(t->w.s) + 1,
        .ts_ms = t->w.now_ms,
        .previous = t->head,
        .body = body,
    };
}

static inline log_position tale_write(struct fixture *f, struct tale *t,
                                      const struct log_record *record)
{
    t->head = write_to(f, shard_of(f, tale_id(t)), record);
    t->bytes += log_record_bytes(record->session.n, record->body.n);
    if (t->first == LOG_POSITION_NONE)
        t->first = t->head;
    return t->head;
}

/* Applies a command, and adds its event to `body`. */
static inline void tale_add(struct tale *t, const char *line, struct buf *body)
{
    size_t begin = body->n;
    expect_event(&t->w, line);
    core_event_encode(&t->w.event, body);
    core_chain_add(&t->chain, t->w.event.seq, (struct str){body->p + begin, body->n - begin});
    arena_reset(&t->w.scratch);
}

/* One command, one record. */
static inline void tell(struct fixture *f, struct tale *t, const char *line)
{
    struct buf body = {0};
    record_add_count(&body, 0);
    struct log_record record = record_of(t, LOG_RECORD_EVENTS, (struct str){0});
    tale_add(t, line, &body);
    record.body = buf_str(&body);
    record.events = 1;
    record.flags = record.seq == 1 ? LOG_RECORD_DIRECTORY : 0;
    tale_write(f, t, &record);
    buf_free(&body);
}

static inline void tell_beginning(struct fixture *f, struct tale *t)
{
    tell(f, t, "session.create");
    tell(f, t, "agent.register agent=ada");
    tell(f, t, "agent.register agent=bob");
    tell(f, t, "thread.create creator=ada name=General participants=bob thread=general");
}

static inline void tell_messages(struct fixture *f, struct tale *t, unsigned n)
{
    char line[512];
    for (unsigned i = 0; i < n; i++) {
        snprintf(line, sizeof(line),
                 "message.send thread=general sender=%s content=%s-number-%u-%0200u",
                 i % 2 == 0 ? "ada" : "bob", t->id, i, i);
        tell(f, t, line);
    }
}

static inline void snapshot_body(struct tale *t, struct record_snapshot *snapshot, struct buf *body)
{
    record_add_snapshot(body, snapshot);
    core_snapshot_encode(t->w.s, body);
}

static inline struct record_snapshot next_snapshot(struct tale *t)
{
    struct record_snapshot snapshot = {
        .chain = t->chain,
        .log_bytes = t->bytes,
        .first = t->first,
        .ordinal = t->snapshot.ordinal + 1,
    };
    if (t->snapshot.ordinal != 0)
        snapshot.skips_n = record_next_skips(&t->snapshot, &t->snapshot_at, snapshot.skips);
    return snapshot;
}

static inline void note_snapshot(struct tale *t, const struct record_snapshot *snapshot)
{
    t->base = t->head;
    t->snapshot = *snapshot;
    t->snapshot_at =
        (struct record_skip){core_session_seq(t->w.s), core_session_ts_ms(t->w.s), t->head};
}

static inline void take_snapshot(struct fixture *f, struct tale *t)
{
    struct buf body = {0};
    struct record_snapshot snapshot = next_snapshot(t);
    record_add_count(&body, 0);
    snapshot_body(t, &snapshot, &body);
    struct log_record record = record_of(t, LOG_RECORD_SNAPSHOT, buf_str(&body));
    tale_write(f, t, &record);
    note_snapshot(t, &snapshot);
    buf_free(&body);
}

static inline void tell_end(struct fixture *f, struct tale *t)
{
    struct buf body = {0};
    record_add_end(&body, t->first, t->bytes);
    struct log_record record = record_of(t, LOG_RECORD_TOMBSTONE, buf_str(&body));
    write_to(f, shard_of(f, tale_id(t)), &record);
    t->alive = false;
    buf_free(&body);
}

static inline void pin(struct fixture *f, struct tale *parent, const struct tale *child,
                       uint64_t at)
{
    struct buf body = {0};
    record_add_pin(&body, tale_id(child), child->epoch, at);
    struct log_record record = record_of(parent, LOG_RECORD_PIN, buf_str(&body));
    write_to(f, shard_of(f, tale_id(parent)), &record);
    parent->pinned = at;
    buf_free(&body);
}

/* The fork's first record, of the parent as it is now. */
static inline void begin_fork(struct fixture *f, struct tale *child, struct tale *parent)
{
    struct buf bytes = {0}, body = {0};
    char line[512], epoch = (char)('0' + parent->epoch);
    core_session_free(child->w.s);
    child->w.s = core_session_new(&child->w.heap, &child->w.limits, tale_id(child), STR("1"));
    core_snapshot_encode(parent->w.s, &bytes);
    assert_int_equal(core_snapshot_decode(child->w.s, buf_str(&bytes)), 0);
    child->chain = parent->chain;
    child->snapshot = parent->snapshot;
    child->snapshot_at = parent->snapshot_at;
    record_add_count(&body, 0);
    struct log_record record = record_of(child, LOG_RECORD_SNAPSHOT, (struct str){0});
    snprintf(line, sizeof(line), "session.fork session=%s parent=%s parent_epoch=%c parent_seq=%u",
             child->id, parent->id, epoch, (unsigned)core_session_seq(parent->w.s));
    tale_add(child, line, &body);
    struct record_snapshot snapshot = next_snapshot(child);
    snapshot_body(child, &snapshot, &body);
    record.events = 1;
    record.flags = LOG_RECORD_DIRECTORY;
    record.previous = parent->head;
    record.body = buf_str(&body);
    tale_write(f, child, &record);
    note_snapshot(child, &snapshot);
    buf_free(&bytes);
    buf_free(&body);
}

/* Checkpoints. */

struct checkpointing {
    struct buf block;
    uint64_t items;
};

static inline void checkpoint_add(struct checkpointing *c, const struct checkpoint_item *item)
{
    checkpoint_item_add(&c->block, item);
    c->items++;
}

static inline void checkpoint_add_tale(struct checkpointing *c, const struct tale *t)
{
    checkpoint_add(c, &(struct checkpoint_item){.type = CHECKPOINT_SESSION,
                                                .id = tale_id(t),
                                                .epoch = t->epoch,
                                                .head = t->head,
                                                .base = t->base});
}

static inline void checkpoint_add_fork(struct checkpointing *c, const struct tale *child,
                                       const struct tale *parent, uint64_t at)
{
    checkpoint_add(c, &(struct checkpoint_item){.type = CHECKPOINT_FORK,
                                                .id = tale_id(child),
                                                .epoch = child->epoch,
                                                .other = tale_id(parent),
                                                .other_epoch = parent->epoch,
                                                .at = at});
}

static inline void checkpoint_add_pin(struct checkpointing *c, const struct tale *child,
                                      const struct tale *parent, uint64_t at)
{
    checkpoint_add(c, &(struct checkpoint_item){.type = CHECKPOINT_PIN,
                                                .id = tale_id(parent),
                                                .epoch = parent->epoch,
                                                .other = tale_id(child),
                                                .other_epoch = child->epoch,
                                                .at = at});
}

static inline struct checkpointing checkpoint_of_items(void)
{
    struct checkpointing c = {0};
    checkpoint_block_begin(&c.block);
    return c;
}

/* Writes and enters it; frees `c`. */
static inline void checkpoint_finish(struct fixture *f, unsigned shard, struct checkpointing *c)
{
    struct fs *fs = datadir_fs(f->dir);
    struct datadir_checkpoint checkpoint = {0};
    char head[CHECKPOINT_HEAD_BYTES];
    int fd;
    checkpoint_item_add(&c->block,
                        &(struct checkpoint_item){.type = CHECKPOINT_END, .at = c->items});
    checkpoint_block_seal(f->dir, &c->block, sizeof(head));
    checkpoint_head_write(f->dir, shard, head);
    log_mark(f->logs[shard], &checkpoint.from);
    assert_int_equal(datadir_begin_checkpoint(f->dir, &checkpoint.number, &fd), 0);
    assert_int_equal(fs->ops->write(fs, fd, head, sizeof(head), 0), 0);
    assert_int_equal(fs->ops->write(fs, fd, c->block.p, c->block.n, sizeof(head)), 0);
    checkpoint.bytes = sizeof(head) + c->block.n;
    assert_int_equal(datadir_finish_checkpoint(f->dir, shard, &checkpoint, fd), 0);
    buf_free(&c->block);
}

/* Compaction. */

/* Rewrites a segment so that of these tales only what is from their newest snapshots on stays, and
 * what is pinned; of any other life nothing. */
static inline void compact(struct fixture *f, uint32_t segment, struct tale *tales, unsigned n,
                           struct compact_result *result)
{
    struct compact_survey *survey;
    assert_int_equal(compact_survey(f->dir, segment, &survey, f->error, sizeof(f->error)), 0);
    for (uint32_t i = 0; i < survey->lives_n; i++) {
        for (unsigned t = 0; t < n; t++) {
            struct compact_verdict *verdict = &survey->lives[i].verdict;
            if (tales[t].epoch != survey->lives[i].epoch ||
                !str_equal(tale_id(&tales[t]), survey->lives[i].session))
                continue;
            verdict->from = tales[t].alive ? tales[t].base : UINT64_MAX;
            verdict->upto_seq = tales[t].pinned;
        }
    }
    int done = compact_rewrite(f->dir, survey, 0, NULL, result, f->error, sizeof(f->error));
    if (done != 0)
        fail_msg("%s", f->error);
    compact_survey_free(survey);
}

#endif
