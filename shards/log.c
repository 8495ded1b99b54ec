/*
 * log: appending to the log of one shard. The format is told in log_format.h; reading single
 * records is in log_read.c, reading whole logs in log_scan.c.
 *
 * There are two buffers: the batch being built, whose place is known from its first record on (so
 * that log_append can say where a record will stand), and the batch in flight. A batch is closed
 * when it is handed to the disk; the one built after it starts where it ends.
 *
 * What is written are whole blocks (IO_BLOCK_BYTES), so that it can go past the page cache. The
 * block in which a batch begins is therefore written once more, with the same bytes before it, and
 * the one in which it ends is filled up with the zeros that stand there. A power failure in between
 * leaves either of two versions of a sector, and both begin with what was committed. What is read
 * back of it later comes from the disk the first time, and from the page cache then.
 *
 * Normal path: log_reserve, log_append, …, log_commit; the write comes back, and the batch is
 * committed. Meanwhile, once the segment is half full, the next one is prepared by a job. When a
 * record no longer fits, the batch being built has to be committed first; then log_reserve moves on
 * to the next segment.
 *
 * LOG_RELAXED: a batch is committed when it is written; log_tick starts an fdatasync for what has
 * been written within the last 100 ms, one at a time. Only the current segment ever has something
 * unsynced: the first batch of the next one waits for that.
 *
 * Failure: with no room and no next segment, log_reserve says so and prepares again once a second.
 * A little of the last segment is kept for tombstones, so that sessions can be ended on a full
 * disk. A failed write or fdatasync is final: on_failed, once, and no record is taken any more.
 */
#include "shards/log_format.h"
#include "shards/sim_bug.h"

#include <errno.h>
#include <stdlib.h>

enum {
    BATCH_MAX_BYTES = 8 << 20,       /* being built; full: log_reserve says -EAGAIN. One record may
                                        be larger, and is then alone. */
    TOMBSTONES_MAX_BYTES = 64 << 10, /* kept for tombstones, at most a 16th of a segment */
    RELAXED_SYNC_MS = 100,
};

static const uint64_t prepare_again_ns = 1000000000;

struct log {
    struct datadir *dir;
    struct io *io;
    struct log_callbacks callbacks;
    enum log_durability durability;
    unsigned shard;

    struct datadir_segment segment; /* where the batch being built will stand */
    uint64_t seed;                  /* of that segment */
    uint64_t at;                    /* offset of that batch */
    int direct_fd;                  /* of that segment, or -1: written through the page cache */
    bool direct;                    /* the file system can */
    uint32_t leaving;               /* segment that log_roll was to leave; 0: none */

    struct buf building; /* from the block on in which it begins; empty: no record yet */
    struct buf flying;
    uint32_t building_records;
    uint32_t flying_records;
    uint64_t flying_bytes;     /* of the batch alone */
    char tail[IO_BLOCK_BYTES]; /* what stands before `at` in its block */

    uint64_t next;      /* number of the batch being built */
    uint64_t committed; /* newest committed */
    uint64_t written;   /* newest written */
    uint64_t synced;    /* newest known to be on disk */

    struct io_append append;
    uint64_t append_started_ns;

    struct io_append sync; /* LOG_RELAXED */
    uint64_t sync_batch;   /* newest one that it covers */
    uint64_t sync_started_ns;
    int64_t unsynced_since_ms; /* -1: not known yet, or nothing unsynced */
    uint32_t written_segment, append_segment;
    int written_fd; /* of the segment with the newest written batch */

    int prepare_error; /* of the last preparation: 0, or the errno of a lack that may end */
    uint64_t prepare_failed_ns;
    struct io_job prepare;
    struct datadir_segment prepared;
    struct datadir_segment *ahead; /* prepared, not begun; room for one more than at open */
    size_t ahead_count;

    bool append_busy;
    bool sync_busy;
    bool commit_waits_for_sync;
    bool prepare_busy;
    bool failed;
    struct log_stats stats;
};

static size_t lead_bytes(const struct log *log)
{
    return log->at % IO_BLOCK_BYTES;
}

/* Of the batch alone. */
static size_t building_bytes(const struct log *log)
{
    return log->building.n != 0 ? log->building.n - lead_bytes(log) : 0;
}

static bool is_unsynced(const struct log *log)
{
    return log->durability == LOG_RELAXED && log->synced != log->written;
}

static void fail(struct log *log, int error)
{
    if (log->failed)
        return;
    log->failed = true;
    log->commit_waits_for_sync = false;
    log->building.n = 0;
    log->building_records = 0;
    log->callbacks.on_failed(log->callbacks.ctx, error);
}

/* Preparing the next segment. */

static int prepare_run(struct io_job *job)
{
    struct log *log = job->owner;
    return datadir_add_segment(log->dir, log->shard, &log->prepared);
}

/* Lacks that may end while we run; anything else says that the disk cannot be relied on. */
static bool is_lack(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE ||
           error == ENOMEM;
}

static void prepare_done(struct io_job *job, int result)
{
    struct log *log = job->owner;
    log->prepare_busy = false;
    log->prepare_error = 0;
    if (result == 0) {
        log->ahead[log->ahead_count++] = log->prepared;
        log->stats.segments++;
    } else if (is_lack(-result)) {
        log->prepare_error = -result;
        log->prepare_failed_ns = log->io->ops->now_ns(log->io);
    } else {
        fail(log, -result);
    }
}

static void prepare_start(struct log *log)
{
    if (log->prepare_busy || log->ahead_count != 0 || log->failed)
        return;
    if (log->prepare_error != 0 &&
        log->io->ops->now_ns(log->io) - log->prepare_failed_ns < prepare_again_ns)
        return;
    log->prepare_busy = true;
    log->prepare = (struct io_job){.run = prepare_run, .done = prepare_done, .owner = log};
    log->io->ops->job(log->io, &log->prepare);
}

static void prepare_when_half_full(struct log *log)
{
    if (log->at + building_bytes(log) > log->segment.bytes / 2)
        prepare_start(log);
}

/* Opening and closing. */

static void use_segment(struct log *log, const struct datadir_segment *segment, uint64_t offset)
{
    log->segment = *segment;
    log->seed = log_segment_seed(datadir_hash_key(log->dir), segment->number);
    log->at = offset;
    if (log->direct_fd >= 0 && !(log->append_busy && log->append.fd == log->direct_fd))
        datadir_close_direct(log->dir, log->direct_fd);
    log->direct_fd = log->direct ? datadir_open_direct(log->dir, segment) : -1;
}

static int load_tail(struct log *log)
{
    struct fs *fs = datadir_fs(log->dir);
    int64_t n =
        fs->ops->read(fs, log->segment.fd, log->tail, lead_bytes(log), log->at - lead_bytes(log));
    return n < 0 ? (int)n : (size_t)n == lead_bytes(log) ? 0 : -EIO;
}

/* What is synced later is best left in the page cache until then. */
static void try_direct(struct log *log, const struct datadir_segment *newest,
                       const struct datadir_end *end)
{
    uint64_t used =
        newest->number == end->segment ? end->offset : (uint64_t)LOG_SEGMENT_HEADER_BYTES;
    log->direct = log->durability == LOG_COMMIT && datadir_can_direct(log->dir, newest, used);
}

/* Finds the segment of the log's end and those that were prepared behind it. Where that one is gone
 * or rewritten, the next batch begins in the one behind it. */
static int load_segments(struct log *log, const struct datadir_end *end, bool known)
{
    uint32_t generation = datadir_generation(log->dir);
    size_t count = datadir_segments(log->dir, generation, log->shard, NULL, 0);
    log->ahead = mem_alloc((count + 2) * sizeof(log->ahead[0]));
    datadir_segments(log->dir, generation, log->shard, log->ahead, count);

    size_t i = 0;
    while (i < count && (log->ahead[i].number < end->segment || log->ahead[i].version != 0))
        i++;
    assert(known || i == count); /* else log_clean_tails has not run */
    if (i == count) {
        int result = datadir_add_segment(log->dir, log->shard, &log->ahead[count]);
        if (result < 0)
            return result;
        count++;
    }
    bool ends_there = log->ahead[i].number == end->segment;
    try_direct(log, &log->ahead[count - 1], end);
    use_segment(log, &log->ahead[i], ends_there ? end->offset : LOG_SEGMENT_HEADER_BYTES);
    log->stats.segments = count;
    log->ahead_count = count - i - 1;
    memmove(log->ahead, log->ahead + i + 1, log->ahead_count * sizeof(log->ahead[0]));
    return load_tail(log);
}

static void log_free(struct log *log)
{
    if (log->direct_fd >= 0)
        datadir_close_direct(log->dir, log->direct_fd);
    buf_free(&log->building);
    buf_free(&log->flying);
    free(log->ahead);
    free(log);
}

int log_open(struct datadir *dir, unsigned shard, struct io *io, enum log_durability durability,
             const struct log_callbacks *callbacks, struct log **opened)
{
    struct datadir_end end = {0};
    bool known = datadir_get_end(dir, datadir_generation(dir), shard, &end);
    struct log *log = mem_alloc(sizeof(*log));
    *log = (struct log){
        .dir = dir,
        .io = io,
        .callbacks = *callbacks,
        .durability = durability,
        .shard = shard,
        .next = end.batch + 1,
        .committed = end.batch,
        .written = end.batch,
        .synced = end.batch,
        .written_fd = -1,
        .direct_fd = -1,
        .unsynced_since_ms = -1,
        .stats.torn_bytes = end.torn_bytes,
    };
    int result = load_segments(log, &end, known);
    if (result < 0) {
        log_free(log);
        return result;
    }
    datadir_set_end(dir, log->segment.generation, shard, NULL); /* until log_close */
    prepare_when_half_full(log);
    *opened = log;
    return 0;
}

static void sync_start(struct log *log);

/* Lets what was started come back; runs the callbacks of whatever else this io has done. */
static void wait_until_quiet(struct log *log)
{
    const struct io_ops *ops = log->io->ops;
    while (log->append_busy || log->sync_busy || log->prepare_busy) {
        ops->submit(log->io);
        if (ops->reap(log->io) == 0)
            ops->wait(log->io);
    }
}

void log_close(struct log *log)
{
    wait_until_quiet(log);
    if (is_unsynced(log) && !log->failed) {
        sync_start(log);
        wait_until_quiet(log);
    }
    if (!log->failed) {
        struct datadir_end end = {
            .segment = log->segment.number, .offset = log->at, .batch = log->committed};
        datadir_set_end(log->dir, log->segment.generation, log->shard, &end);
    }
    log_free(log);
}

/* Room. */

static uint64_t tombstone_bytes(const struct log *log)
{
    uint64_t bytes = datadir_segment_bytes(log->dir) / 16 & ~(uint64_t)(LOG_ALIGN_BYTES - 1);
    return bytes < TOMBSTONES_MAX_BYTES ? bytes : TOMBSTONES_MAX_BYTES;
}

/* What is kept for tombstones counts only while there is nothing behind the current segment. */
static bool fits(const struct log *log, size_t bytes, bool is_tombstone)
{
    size_t before = log->building.n != 0 ? building_bytes(log) : sizeof(struct log_batch_header);
    uint64_t kept = is_tombstone || log->ahead_count != 0 ? 0 : tombstone_bytes(log);
    return log->at + before + bytes + kept <= log->segment.bytes;
}

static void next_segment(struct log *log)
{
    assert(log->building.n == 0 && log->ahead_count != 0);
    use_segment(log, &log->ahead[0], LOG_SEGMENT_HEADER_BYTES);
    log->ahead_count--;
    memmove(log->ahead, log->ahead + 1, log->ahead_count * sizeof(log->ahead[0]));
}

static int reserve(struct log *log, size_t body_size, bool is_tombstone)
{
    if (log->failed)
        return -EIO;
    uint64_t segment_room =
        datadir_segment_bytes(log->dir) - LOG_SEGMENT_HEADER_BYTES - tombstone_bytes(log);
    size_t bytes = log_record_bytes(LOG_SESSION_MAX_BYTES, body_size);
    if (body_size > segment_room || sizeof(struct log_batch_header) + bytes > segment_room)
        return -EFBIG;
    if (log->building.n != 0 && log->building.n + bytes > BATCH_MAX_BYTES)
        return -EAGAIN;
    while (!fits(log, bytes, is_tombstone)) {
        if (log->ahead_count == 0) {
            prepare_start(log);
            return log->prepare_error != 0 ? -ENOSPC : -EAGAIN;
        }
        if (log->building.n != 0)
            return -EAGAIN;
        next_segment(log);
    }
    return 0;
}

int log_reserve(struct log *log, size_t body_size)
{
    return reserve(log, body_size, false);
}

int log_reserve_tombstone(struct log *log, size_t body_size)
{
    return reserve(log, body_size, true);
}

/* Room for `more` bytes, and for those that fill up the last block. */
static char *reserve_blocks(struct buf *b, size_t more)
{
    size_t cap = b->cap != 0 ? b->cap : IO_BLOCK_BYTES;
    while (cap - b->n < more)
        cap *= 2;
    if (cap != b->cap) {
        char *p = mem_alloc_aligned(IO_BLOCK_BYTES, cap);
        if (b->n != 0)
            memcpy(p, b->p, b->n);
        free(b->p);
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->n;
}

static void begin_batch(struct log *log)
{
    size_t lead = lead_bytes(log);
    memcpy(reserve_blocks(&log->building, lead + sizeof(struct log_batch_header)), log->tail, lead);
    log->building.n = lead + sizeof(struct log_batch_header);
}

log_position log_append(struct log *log, const struct log_record *record)
{
    assert(!log->failed);
    assert(record->session.n >= 1 && record->session.n <= LOG_SESSION_MAX_BYTES);
    size_t bytes = log_record_size(record);
    assert(fits(log, bytes, true));

    if (log->building.n == 0)
        begin_batch(log);
    uint64_t offset = log->at + building_bytes(log);
    log_record_encode(record, reserve_blocks(&log->building, bytes), log->seed + offset);
    log->building.n += bytes;
    log->building_records++;
    prepare_when_half_full(log);
    return log_position_of(log->segment.number, offset);
}

/* Places. */

void log_mark(const struct log *log, struct datadir_end *mark)
{
    *mark = (struct datadir_end){
        .segment = log->segment.number, .offset = log->at, .batch = log->next - 1};
}

uint32_t log_segment(const struct log *log)
{
    return log->segment.number;
}

/* Once asked for, it also happens by itself, behind the batch being built: a shard that is busy may
 * never have an empty one when log_roll is called. */
int log_roll(struct log *log)
{
    bool has_left = log->leaving != 0 && log->leaving != log->segment.number;
    bool is_empty = log->at == LOG_SEGMENT_HEADER_BYTES && log->building.n == 0;
    if (log->failed)
        return -EIO;
    log->leaving = 0;
    if (has_left || is_empty)
        return 0;
    if (log->ahead_count != 0 && log->building.n == 0) {
        next_segment(log);
        return 0;
    }
    log->leaving = log->segment.number;
    prepare_start(log);
    return log->ahead_count == 0 && log->prepare_error != 0 ? -ENOSPC : -EAGAIN;
}

struct datadir *log_datadir(const struct log *log)
{
    return log->dir;
}

struct io *log_io(const struct log *log)
{
    return log->io;
}

/* Committing. */

uint64_t log_building(const struct log *log)
{
    return log->next;
}

uint64_t log_committed(const struct log *log)
{
    return log->committed;
}

/* A buffer that one huge record has made larger than a batch should be is not kept. */
static void empty_buffer(struct buf *b)
{
    if (b->cap > BATCH_MAX_BYTES)
        buf_free(b);
    b->n = 0;
}

/* Planted: a failed sync is tried once more, as if the pages were still there. */
static void append_again(struct log *log)
{
    log->append.size = 0;
    log->append_busy = true;
    log->io->ops->append(log->io, &log->append);
    log->io->ops->submit(log->io);
}

static void append_done(struct io_append *append, int result)
{
    struct log *log = append->owner;
    log->append_busy = false;
    if (result < 0 && sim_bug(SIM_BUG_SYNC_AGAIN)) {
        append_again(log);
        return;
    }
    if (result < 0)
        fail(log, -result);
    if (!log->failed) {
        uint64_t ns = log->io->ops->now_ns(log->io) - log->append_started_ns;
        log->written++;
        log->written_fd = append->fd;
        log->written_segment = log->append_segment;
        log->committed = log->written;
        if (append->sync)
            log->synced = log->written;
        log->stats.batches++;
        log->stats.records += log->flying_records;
        log->stats.bytes += log->flying_bytes;
        log->stats.commit_ns += ns;
        log->stats.commit_ns_last = ns;
        histogram_add(&log->stats.commit_us, (ns + 999) / 1000);
        histogram_add(&log->stats.batch_records, log->flying_records);
        histogram_add(&log->stats.batch_units,
                      (log->flying_bytes + BATCH_BYTES_UNIT - 1) / BATCH_BYTES_UNIT);
    }
    if (append->direct && append->fd != log->direct_fd)
        datadir_close_direct(log->dir, append->fd);
    empty_buffer(&log->flying);
    if (!log->failed)
        log->callbacks.on_committed(log->callbacks.ctx, log->committed);
}

/* Seals it, fills up its last block, and keeps what the next batch's block begins with. */
static void close_batch(struct log *log)
{
    char *batch = log->building.p + lead_bytes(log);
    size_t over = log->building.n % IO_BLOCK_BYTES;
    struct log_batch_header header = {
        .magic = LOG_BATCH_MAGIC,
        .bytes = (uint32_t)building_bytes(log),
        .number = log->next,
        .start = datadir_starts(log->dir),
        .synced = log->synced,
        .records = log->building_records,
    };
    memcpy(batch, &header, sizeof(header));
    log_batch_seal(batch, log->seed + log->at);
    memcpy(log->tail, log->building.p + log->building.n - over, over);
    if (over != 0)
        memset(log->building.p + log->building.n, 0, IO_BLOCK_BYTES - over);
}

static void append_start(struct log *log)
{
    close_batch(log);
    struct buf emptied = log->flying;
    log->flying = log->building;
    log->flying_bytes = building_bytes(log);
    log->flying_records = log->building_records;
    log->building = emptied;
    log->building_records = 0;
    log->append_segment = log->segment.number;
    log->append = (struct io_append){
        .done = append_done,
        .owner = log,
        .buf = log->flying.p,
        .size = (log->flying.n + IO_BLOCK_BYTES - 1) / IO_BLOCK_BYTES * IO_BLOCK_BYTES,
        .offset = log->at - lead_bytes(log),
        .fd = log->direct_fd >= 0 ? log->direct_fd : log->segment.fd,
        .direct = log->direct_fd >= 0,
        .sync = log->durability == LOG_COMMIT && !sim_bug(SIM_BUG_NO_LOG_SYNC),
    };
    assert(log->append.offset + log->append.size <= log->segment.bytes);
    log->at += log->flying_bytes;
    log->next++;
    log->append_busy = true;
    log->append_started_ns = log->io->ops->now_ns(log->io);
    log->io->ops->append(log->io, &log->append);
    if (log->leaving == log->segment.number && log->ahead_count != 0)
        next_segment(log);
}

void log_commit(struct log *log)
{
    if (log->building.n == 0 || log->append_busy || log->failed)
        return;
    if (is_unsynced(log) && log->written_fd != log->segment.fd) {
        log->commit_waits_for_sync = true;
        sync_start(log);
        return;
    }
    append_start(log);
}

bool log_idle(const struct log *log)
{
    if (log->append_busy || log->sync_busy || log->prepare_busy)
        return false;
    return log->failed || (log->building.n == 0 && !is_unsynced(log));
}

uint64_t log_synced(const struct log *log)
{
    return log->synced;
}

uint32_t log_busy_segment(const struct log *log)
{
    if (log->append_busy)
        return log->append_segment;
    return log->sync_busy || is_unsynced(log) ? log->written_segment : 0;
}

uint32_t log_unsynced_segment(const struct log *log)
{
    return is_unsynced(log) ? log->written_segment : 0;
}

const struct log_stats *log_stats(const struct log *log)
{
    return &log->stats;
}

/* Syncing what LOG_RELAXED has committed. */

static void sync_done(struct io_append *sync, int result)
{
    struct log *log = sync->owner;
    uint64_t ns = log->io->ops->now_ns(log->io) - log->sync_started_ns;
    log->sync_busy = false;
    if (result < 0)
        fail(log, -result);
    if (log->failed)
        return;
    histogram_add(&log->stats.sync_us, (ns + 999) / 1000);
    log->synced = log->sync_batch;
    if (log->commit_waits_for_sync) {
        log->commit_waits_for_sync = false;
        log_commit(log);
    }
}

/* Covers what has been written by now; a write under way may come too late for it. */
static void sync_start(struct log *log)
{
    if (log->sync_busy)
        return;
    log->sync_busy = true;
    log->sync_batch = log->written;
    log->sync_started_ns = log->io->ops->now_ns(log->io);
    log->unsynced_since_ms = -1;
    log->sync = (struct io_append){
        .done = sync_done, .owner = log, .buf = "", .fd = log->written_fd, .sync = 1};
    log->io->ops->append(log->io, &log->sync);
}

int log_tick(struct log *log, int64_t now_ms)
{
    bool covered = log->sync_busy && log->sync_batch == log->written;
    if (log->failed || !is_unsynced(log) || covered)
        return -1;
    if (log->unsynced_since_ms < 0)
        log->unsynced_since_ms = now_ms;
    if (log->sync_busy)
        return -1; /* its completion causes a turn */
    int64_t left_ms = log->unsynced_since_ms + RELAXED_SYNC_MS - now_ms;
    if (left_ms > 0)
        return (int)left_ms;
    sync_start(log);
    log->io->ops->submit(log->io); /* the turn's submit may have been before */
    return -1;
}
