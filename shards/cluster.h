/*
 * cluster: all reactors of a process, the data directory under them, their start and their end.
 *
 *     cluster_start    opens the directory; frontends run; shards begin to recover
 *     cluster_await    until all shards are there (or poll cluster_news_fd and ask cluster_state)
 *     cluster_stop     drain and stop
 *     cluster_join     until they have; closes the directory
 *
 * Failure: a start that fails before the frontends run leaves nothing behind. A recovery that fails
 * is told by cluster_state with its sentence, a log that fails while the shards run by
 * cluster_failed; after either of them, stop and join.
 */
#ifndef ATOLL_SHARDS_CLUSTER_H
#define ATOLL_SHARDS_CLUSTER_H

#include "shards/fs.h"
#include "shards/health.h"
#include "shards/io.h"
#include "shards/log.h"
#include "shards/pressure.h"
#include "shards/reactor.h"
#include "shards/wake.h"

/* How long things stay where they are; for all shards together, unless said otherwise. */
struct cluster_settings {
    int64_t idle_passivate_ms;    /* a session untouched for so long leaves memory; 0: never */
    uint64_t memory_bytes;        /* of sessions in memory; beyond it the least used ones leave */
    int64_t retain_ms;            /* history older than that may go; 0: never */
    uint64_t retain_bytes;        /* the oldest history goes where the logs take more; 0: never */
    int64_t compact_after_ms;     /* deleted data stays on disk about so long at most */
    uint64_t compact_bytes_per_s; /* read and written by a shard's compaction; 0: no bound */
    uint64_t checkpoint_bytes;    /* of a shard's log between two checkpoints */
    /* Of one session, 0: no bound. As in struct shard_settings. */
    uint64_t session_events, session_log_bytes;
    uint64_t rate_commands, rate_ms, rate_burst;
    uint64_t memory_limit_bytes; /* of the process (pressure.h); 0: no bound */
};

struct cluster_options {
    const char *data;
    struct fs *fs;   /* taken, also where the start fails; NULL: the directory `data` */
    unsigned shards; /* and so reactors and frontends */
    enum io_kind io;
    enum log_durability durability;
    uint64_t segment_bytes;
    struct core_limits limits;
    struct cluster_settings settings;
    int64_t grace_ms; /* longest wait for frontends to drain, and for what shards do at the end */
    const struct reactor_frontend_ops *frontend;
    const struct wake_courier *courier; /* outlives the cluster; NULL: no agent is woken */
};

/*
 * Opens the data directory, starts the reactors, waits until their frontends run; the shards begin
 * to recover meanwhile. 0, or -errno with a sentence in `error` and everything closed again.
 */
int cluster_start(const struct cluster_options *options, struct cluster **cluster, char *error,
                  size_t error_size);
/* 1: ready, every mailbox takes requests; 0: the shards recover; -errno with a sentence in `error`:
 * the start has failed. Any thread. */
int cluster_state(struct cluster *cluster, char *error, size_t error_size);
/* Waits until cluster_state is not 0 any more. 0, or its error. Any thread but a reactor's. */
int cluster_await(struct cluster *cluster, char *error, size_t error_size);
/* Becomes readable when cluster_state has changed or a log has failed: an eventfd, to be read by
 * whoever waits for it. Any thread; the cluster's own. */
int cluster_news_fd(const struct cluster *cluster);
/* "recovering: 43 % of 1 234 MB of log read". Any thread. */
void cluster_tell_recovery(const struct cluster *cluster, char *text, size_t size);
/* Asks all reactors to drain and stop, and shards that still recover to leave it. Any thread; safe
 * in a signalfd handler. */
void cluster_stop(struct cluster *cluster);
/* Waits until they have stopped and closes the data directory. Returns the exit status: 0, or 1
 * after a failure of the start or of the log (the latter is said on stderr). */
int cluster_join(struct cluster *cluster);
/* Not NULL: a log has failed, and this is why; the frontend should answer 503 and let the process
 * end. Any thread. */
const char *cluster_failed(const struct cluster *cluster);
/* The courier has an order of this shard that is done: its reactor looks at once, also where it
 * sleeps. Any thread, until cluster_join. */
void cluster_nudge(struct cluster *cluster, unsigned shard);
/* Whether a shard cannot write because its disk is full. Any thread. */
bool cluster_full(const struct cluster *cluster);
/* From cluster_start until all shards took requests; 0: they do not yet. Any thread. */
int64_t cluster_recovery_ms(const struct cluster *cluster);
/* How much memory is in use. Any thread. */
const struct pressure *cluster_pressure(const struct cluster *cluster);
/* How the shard with this number is. Any thread; the cluster's own. */
struct shard_health *cluster_health(struct cluster *cluster, unsigned number);
/* jemalloc's arena of the reactor with this number; false: it has none of its own. */
bool cluster_reactor_arena(const struct cluster *cluster, unsigned number, unsigned *arena);
/* Figures of the reactor with this number. Any thread. */
struct reactor_figures cluster_reactor_figures(const struct cluster *cluster, unsigned number);
unsigned cluster_size(const struct cluster *cluster);
const char *cluster_io_name(const struct cluster *cluster);
/* A key for one purpose, the same for as long as the data directory lives; different purposes have
 * keys that tell nothing of each other. Any thread, from the frontends' start on. */
enum { CLUSTER_KEY_BYTES = 32 };
void cluster_derive_key(const struct cluster *cluster, const char *purpose,
                        uint8_t key[CLUSTER_KEY_BYTES]);

#endif
