#include "server/metrics.h"

#include "server/gather.h"
#include "server/health.h"
#include "server/logger.h"
#include "server/process.h"

#include <stdio.h>

#ifdef ATOLL_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

#ifndef ATOLL_VERSION
#error "the build file defines ATOLL_VERSION"
#endif

enum { LABEL_BYTES = 256 };

/* ---- the text */

enum type { COUNTER, GAUGE, HISTOGRAM };

struct writer {
    struct buf *out;
    bool open_metrics;
    const char *name; /* of the family that is being written */
    enum type type;
};

static void add_text(struct writer *w, const char *text)
{
    buf_add(w->out, text, strlen(text));
}

/* A counter's samples end in _total; OpenMetrics names the family without it. */
static void add_family(struct writer *w, const char *what, const char *text)
{
    add_text(w, what);
    add_text(w, w->name);
    if (w->type == COUNTER && !w->open_metrics)
        add_text(w, "_total");
    add_text(w, " ");
    add_text(w, text);
    add_text(w, "\n");
}

static void begin(struct writer *w, const char *name, enum type type, const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    w->name = name;
    w->type = type;
    add_family(w, "# HELP ", help);
    add_family(w, "# TYPE ", types[type]);
}

/* `labels`: what stands in the braces; "": none. */
static void add_sample(struct writer *w, const char *suffix, const char *labels)
{
    add_text(w, w->name);
    add_text(w, suffix);
    if (labels[0] != '\0') {
        add_text(w, "{");
        add_text(w, labels);
        add_text(w, "}");
    }
    add_text(w, " ");
}

static const char *suffix_of(const struct writer *w)
{
    return w->type == COUNTER ? "_total" : "";
}

static void put_u64(struct writer *w, const char *labels, uint64_t value)
{
    add_sample(w, suffix_of(w), labels);
    buf_add_u64(w->out, value);
    add_text(w, "\n");
}

static void add_double(struct writer *w, double value)
{
    char text[40];
    buf_add(w->out, text, (size_t)snprintf(text, sizeof(text), "%.12g\n", value));
}

static void put_double(struct writer *w, const char *labels, double value)
{
    add_sample(w, suffix_of(w), labels);
    add_double(w, value);
}

static void put_one_u64(struct writer *w, const char *name, enum type type, const char *help,
                        uint64_t value)
{
    begin(w, name, type, help);
    put_u64(w, "", value);
}

static void put_one_double(struct writer *w, const char *name, enum type type, const char *help,
                           double value)
{
    begin(w, name, type, help);
    put_double(w, "", value);
}

/* Bucket i ends at unit << i. `sum` is in units, too. */
static void put_histogram(struct writer *w, const char *labels, const struct histogram *histogram,
                          double unit)
{
    uint64_t total = 0;
    char all[LABEL_BYTES];
    const char *comma = labels[0] != '\0' ? "," : "";

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        total += histogram->counts[i];
        if (i < HISTOGRAM_BUCKETS - 1)
            snprintf(all, sizeof(all), "%s%sle=\"%.9g\"", labels, comma,
                     unit * (double)(UINT64_C(1) << i));
        else
            snprintf(all, sizeof(all), "%s%sle=\"+Inf\"", labels, comma);
        add_sample(w, "_bucket", all);
        buf_add_u64(w->out, total);
        add_text(w, "\n");
    }
    add_sample(w, "_sum", labels);
    add_double(w, unit * (double)histogram->sum);
    add_sample(w, "_count", labels);
    buf_add_u64(w->out, total);
    add_text(w, "\n");
}

static const char *number_label(char label[LABEL_BYTES], const char *name, unsigned number)
{
    snprintf(label, LABEL_BYTES, "%s=\"%u\"", name, number);
    return label;
}

/* ---- shards */

struct figure_row {
    size_t offset;
    enum type type;
    const char *name, *help;
};

#define AT(member) offsetof(struct shard_figures, member)
static const struct figure_row shard_rows[] = {
    {AT(sessions), GAUGE, "atoll_sessions", "Sessions that exist, in memory or not."},
    {AT(active), GAUGE, "atoll_sessions_active", "Sessions in memory."},
    {AT(waiting), GAUGE, "atoll_inbox_waits", "Inbox waits that are held."},
    {AT(forks), GAUGE, "atoll_forks", "Lives that began as forks."},
    {AT(stats.requests), COUNTER, "atoll_shard_requests", "Requests taken from the rings."},
    {AT(stats.commands), COUNTER, "atoll_commands", "Commands carried out."},
    {AT(stats.events), COUNTER, "atoll_events", "Events made."},
    {AT(stats.refused), COUNTER, "atoll_commands_refused", "Commands that the state refused."},
    {AT(stats.replayed), COUNTER, "atoll_commands_replayed",
     "Commands answered again by their idempotency key."},
    {AT(stats.broken), COUNTER, "atoll_commands_broken",
     "Commands that broke an invariant of their session and were refused."},
    {AT(stats.rebuilds), COUNTER, "atoll_session_rebuilds",
     "Sessions made anew from their records."},
    {AT(quarantined), GAUGE, "atoll_sessions_quarantined",
     "Sessions that are not served until they are rebuilt."},
    {AT(stats.no_space), COUNTER, "atoll_commands_without_space",
     "Commands refused because the log had no room."},
    {AT(stats.memory_refused), COUNTER, "atoll_commands_without_memory",
     "Commands refused because --memory-limit was nearly reached."},
    {AT(stats.overloaded), COUNTER, "atoll_session_queue_full",
     "Requests refused because too many waited for their session."},
    {AT(stats.frames), COUNTER, "atoll_frames", "Frames given to frontends that watch."},
    {AT(stats.frames_lost), COUNTER, "atoll_frames_lost",
     "Feeds detached because a reply ring was full."},
    {AT(stats.ring_full), COUNTER, "atoll_reply_ring_full",
     "Messages that waited because a reply ring was full."},
    {AT(stats.history_records), COUNTER, "atoll_history_records",
     "Records read back from the log."},
    {AT(stats.loads), COUNTER, "atoll_session_loads", "Passive sessions brought into memory."},
    {AT(stats.load_failures), COUNTER, "atoll_session_load_failures",
     "Sessions that could not be read back from the log."},
    {AT(stats.passivations), COUNTER, "atoll_session_passivations", "Sessions put out of memory."},
    {AT(stats.expired), COUNTER, "atoll_sessions_expired", "Sessions ended by their ttl."},
    {AT(stats.wakes), COUNTER, "atoll_wakes", "Calls made to agents."},
    {AT(stats.wake_failures), COUNTER, "atoll_wakes_failed", "Calls to agents that failed."},
    {AT(wakes_under_way), GAUGE, "atoll_wakes_under_way", "Calls to agents under way."},
    {AT(wakes_unreachable), GAUGE, "atoll_wake_breakers_open",
     "Agents that are seldom called because their target did not answer."},
    {AT(stats.snapshots), COUNTER, "atoll_snapshots", "Snapshots written."},
    {AT(stats.snapshot_bytes), COUNTER, "atoll_snapshot_bytes", "Bytes of snapshots written."},
    {AT(stats.checkpoints), COUNTER, "atoll_checkpoints", "Checkpoints written."},
    {AT(stats.checkpoint_bytes), GAUGE, "atoll_checkpoint_bytes", "Size of the newest checkpoint."},
    {AT(stats.compactions), COUNTER, "atoll_compactions", "Segments rewritten or dropped."},
    {AT(stats.compacted_bytes), COUNTER, "atoll_compacted_bytes", "Bytes that compaction freed."},
    {AT(deleted_waiting), GAUGE, "atoll_deleted_lives",
     "Deleted lives whose records are still on the disk."},
    {AT(deleted_waiting_bytes), GAUGE, "atoll_deleted_bytes", "Bytes of these records."},
    {AT(memory_bytes), GAUGE, "atoll_shard_memory_bytes", "Memory of the shard's own arena."},
    {AT(sessions_bytes), GAUGE, "atoll_sessions_memory_bytes",
     "What sessions have asked for of it."},
    {AT(log.batches), COUNTER, "atoll_log_commits", "Batches committed to the log."},
    {AT(log.records), COUNTER, "atoll_log_records", "Records committed to the log."},
    {AT(log.bytes), COUNTER, "atoll_log_bytes", "Bytes committed to the log."},
    {AT(log.segments), GAUGE, "atoll_log_segments", "Segments of the log."},
    {AT(log.torn_bytes), GAUGE, "atoll_log_torn_bytes",
     "Bytes of an unfinished batch that were cut off at the start."},
};

static const struct {
    size_t offset;
    double unit;
    const char *name, *help;
} shard_histograms[] = {
    {AT(log.commit_us), 1e-6, "atoll_log_commit_seconds",
     "Time from handing a batch to the disk until it is committed."},
    {AT(log.sync_us), 1e-6, "atoll_log_sync_seconds",
     "Time of an fdatasync that follows commits (--durability relaxed)."},
    {AT(log.batch_records), 1, "atoll_log_batch_records", "Records of a batch."},
    {AT(log.batch_units), BATCH_BYTES_UNIT, "atoll_log_batch_bytes", "Size of a batch."},
    {AT(stats.queue_us), 1e-6, "atoll_shard_queue_seconds",
     "Time that a request waits in the ring to its shard; one in 64 is measured."},
};
#undef AT

static void put_shards(struct writer *w, const struct gather *gather)
{
    char label[LABEL_BYTES];

    for (size_t row = 0; row < sizeof(shard_rows) / sizeof(shard_rows[0]); row++) {
        begin(w, shard_rows[row].name, shard_rows[row].type, shard_rows[row].help);
        for (unsigned i = 0; i < gather->expected; i++) {
            const char *figures = (const char *)gather->replies[i]->figures;
            uint64_t value;
            memcpy(&value, figures + shard_rows[row].offset, sizeof(value));
            put_u64(w, number_label(label, "shard", i), value);
        }
    }
    for (size_t row = 0; row < sizeof(shard_histograms) / sizeof(shard_histograms[0]); row++) {
        begin(w, shard_histograms[row].name, HISTOGRAM, shard_histograms[row].help);
        for (unsigned i = 0; i < gather->expected; i++) {
            const char *figures = (const char *)gather->replies[i]->figures;
            const void *histogram = figures + shard_histograms[row].offset;
            put_histogram(w, number_label(label, "shard", i), histogram,
                          shard_histograms[row].unit);
        }
    }
}

static void put_lane(struct writer *w, unsigned shard, unsigned lane, uint64_t value)
{
    static const char *const names[REQUEST_LANES] = {"control", "commands", "telemetry"};
    char label[LABEL_BYTES];
    snprintf(label, sizeof(label), "shard=\"%u\",lane=\"%s\"", shard, names[lane]);
    put_u64(w, label, value);
}

static void put_lanes(struct writer *w, const struct gather *gather)
{
    begin(w, "atoll_shard_queued", GAUGE, "Requests in the rings to the shard.");
    for (unsigned i = 0; i < gather->expected; i++)
        for (unsigned lane = 0; lane < REQUEST_LANES; lane++)
            put_lane(w, i, lane, gather->replies[i]->figures->lane_queued[lane]);
    begin(w, "atoll_shard_queue_refused", COUNTER,
          "Requests of the frontend beside the shard that found no room on their way to any.");
    for (unsigned i = 0; i < gather->expected; i++)
        for (unsigned lane = 0; lane < REQUEST_LANES; lane++)
            put_lane(w, i, lane, gather->replies[i]->figures->lane_full[lane]);
}

/* ---- reactors and their frontends */

#define AT(member) offsetof(struct frontend_figures, member)
static const struct figure_row frontend_rows[] = {
    {AT(connections), GAUGE, "atoll_connections", "Open connections."},
    {AT(accepted), COUNTER, "atoll_connections_accepted", "Connections accepted."},
    {AT(refused), COUNTER, "atoll_connections_refused",
     "Connections closed at once: above --max-connections."},
    {AT(crowding), COUNTER, "atoll_connections_crowding",
     "Connections closed at once: above --max-connections-per-address."},
    {AT(shed), COUNTER, "atoll_connections_shed",
     "Connections closed because there were no file descriptors."},
    {AT(slow), COUNTER, "atoll_connections_slow", "Connections closed for sending too slowly."},
    {AT(malformed), COUNTER, "atoll_http_malformed", "Requests refused as ambiguous or malformed."},
    {AT(handshakes), COUNTER, "atoll_tls_handshakes", "TLS handshakes done."},
    {AT(handshakes_failed), COUNTER, "atoll_tls_handshakes_failed", "TLS handshakes that failed."},
    {AT(h2_floods), COUNTER, "atoll_http2_floods",
     "HTTP/2 connections closed for resetting too many requests."},
    {AT(streams), GAUGE, "atoll_streams", "Open event streams."},
    {AT(sockets), GAUGE, "atoll_sockets", "Open WebSockets."},
    {AT(mcp_streams), GAUGE, "atoll_mcp_streams", "Open event streams of MCP."},
    {AT(waiting), GAUGE, "atoll_waiting_requests", "Requests that wait for messages."},
    {AT(streams_merged), COUNTER, "atoll_watcher_merges",
     "Merged patches told to watchers that read slowly."},
    {AT(streams_reset), COUNTER, "atoll_watcher_resets",
     "Watchers that read too slowly and began anew."},
    {AT(streams_cut), COUNTER, "atoll_connections_cut",
     "Streams and answers closed for not being read."},
    {AT(answer_bytes), COUNTER, "atoll_http_answer_bytes", "Bytes of answers' bodies."},
};
#undef AT

static void put_frontends(struct writer *w, const struct frontend_shared *shared)
{
    char label[LABEL_BYTES];

    for (size_t row = 0; row < sizeof(frontend_rows) / sizeof(frontend_rows[0]); row++) {
        begin(w, frontend_rows[row].name, frontend_rows[row].type, frontend_rows[row].help);
        for (unsigned i = 0; i < shared->frontends; i++) {
            const char *figures = (const char *)&shared->figures[i];
            const void *figure = figures + frontend_rows[row].offset;
            put_u64(w, number_label(label, "reactor", i), figure_read(figure));
        }
    }
}

static void put_summed(struct writer *w, const struct frontend_shared *shared, size_t offset,
                       double unit)
{
    struct histogram all = {0};
    for (unsigned i = 0; i < shared->frontends; i++) {
        const void *at = (const char *)&shared->figures[i] + offset;
        const struct figure_histogram *one = at;
        for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++)
            all.counts[bucket] += figure_read(&one->counts[bucket]);
        all.sum += figure_read(&one->sum);
    }
    put_histogram(w, "", &all, unit);
}

static void put_watching(struct writer *w, const struct frontend_shared *shared)
{
    begin(w, "atoll_shard_watchers", GAUGE, "Streams that are open on sessions of the shard.");
    for (unsigned shard = 0; shard < shared->frontends; shard++) {
        char label[LABEL_BYTES];
        uint64_t n = 0;
        for (unsigned i = 0; i < shared->frontends; i++)
            n += figure_read(&shared->figures[i].watching[shard]);
        put_u64(w, number_label(label, "shard", shard), n);
    }
    begin(w, "atoll_watcher_lag_frames", HISTOGRAM,
          "Frames by which a watcher was behind its session when it was told more.");
    put_summed(w, shared, offsetof(struct frontend_figures, lag_frames), 1);
}

/* The turns' buckets begin elsewhere. */
static void put_turns(struct writer *w, const struct reactor_figures *reactor, const char *label)
{
    uint64_t total = 0;
    char all[LABEL_BYTES];

    for (unsigned i = 0; i < REACTOR_TURN_BUCKETS; i++) {
        total += reactor->turn_us[i];
        if (i < REACTOR_TURN_BUCKETS - 1)
            snprintf(all, sizeof(all), "%s,le=\"%.9g\"", label,
                     1e-6 * (double)((uint64_t)REACTOR_TURN_LEAST_US << i));
        else
            snprintf(all, sizeof(all), "%s,le=\"+Inf\"", label);
        add_sample(w, "_bucket", all);
        buf_add_u64(w->out, total);
        add_text(w, "\n");
    }
    add_sample(w, "_sum", label);
    add_double(w, 1e-6 * (double)reactor->turn_total_us);
    add_sample(w, "_count", label);
    buf_add_u64(w->out, total);
    add_text(w, "\n");
}

static void put_reactors(struct writer *w, const struct cluster *cluster)
{
    static const struct figure_row rows[] = {
        {offsetof(struct reactor_figures, sleeps), COUNTER, "atoll_reactor_sleeps",
         "Turns that had nothing to do and slept."},
        {offsetof(struct reactor_figures, wakeups), COUNTER, "atoll_reactor_wakeups",
         "Other reactors that this one woke."},
    };
    struct reactor_figures figures[CONFIG_SHARDS_MAX];
    unsigned n = cluster_size(cluster);
    char label[LABEL_BYTES];

    for (unsigned i = 0; i < n; i++)
        figures[i] = cluster_reactor_figures(cluster, i);
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        begin(w, rows[row].name, rows[row].type, rows[row].help);
        for (unsigned i = 0; i < n; i++) {
            uint64_t value;
            memcpy(&value, (const char *)&figures[i] + rows[row].offset, sizeof(value));
            put_u64(w, number_label(label, "reactor", i), value);
        }
    }
    begin(w, "atoll_reactor_turn_seconds", HISTOGRAM, "Time of a turn, without its sleep.");
    for (unsigned i = 0; i < n; i++)
        put_turns(w, &figures[i], number_label(label, "reactor", i));
    begin(w, "atoll_reactor_turn_longest_seconds", GAUGE, "The longest turn since the start.");
    for (unsigned i = 0; i < n; i++)
        put_double(w, number_label(label, "reactor", i), 1e-6 * (double)figures[i].turn_longest_us);
}

/* ---- HTTP */

static uint64_t sum_of(const struct frontend_shared *shared, size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < shared->frontends; i++) {
        const void *figure = (const char *)&shared->figures[i] + offset;
        sum += figure_read(figure);
    }
    return sum;
}

static void put_route(struct writer *w, const struct frontend_shared *shared, unsigned route)
{
    struct buf path = {0};
    const char *method = router_describe((enum route)route, &path);
    char label[LABEL_BYTES];

    for (unsigned class = 1; class < 6; class ++) {
        uint64_t n = sum_of(shared, offsetof(struct frontend_figures, routes) +
                                        (route * 6 + class) * sizeof(uint64_t));
        if (n == 0)
            continue; /* most routes never give most classes */
        snprintf(label, sizeof(label), "method=\"%s\",route=\"%.*s\",status=\"%uxx\"",
                 method != NULL ? method : "", (int)path.n, path.n != 0 ? path.p : "", class);
        put_u64(w, label, n);
    }
    buf_free(&path);
}

/* One for each of a row of counters that a name belongs to. */
static void put_named(struct writer *w, const struct frontend_shared *shared, size_t offset,
                      const char *label_name, const char *(*name)(unsigned), unsigned from,
                      unsigned n)
{
    for (unsigned i = from; i < n; i++) {
        char label[LABEL_BYTES];
        snprintf(label, sizeof(label), "%s=\"%s\"", label_name, name(i));
        put_u64(w, label, sum_of(shared, offset + i * sizeof(uint64_t)));
    }
}

static const char *token_error_name(unsigned error)
{
    static const char *const names[TOKEN_ERRORS] = {
        [TOKEN_MALFORMED] = "malformed",
        [TOKEN_UNKNOWN_KEY] = "unknown_key",
        [TOKEN_BAD_SIGNATURE] = "bad_signature",
        [TOKEN_EXPIRED] = "expired",
        [TOKEN_NOT_YET] = "not_yet",
        [TOKEN_WRONG_ISSUER] = "wrong_issuer",
        [TOKEN_WRONG_AUDIENCE] = "wrong_audience",
    };
    assert(names[error] != NULL);
    return names[error];
}

/* Tokens and addresses are counted by frontends, sessions by their shards. */
static void put_rate_limited(struct writer *w, const struct frontend_shared *shared,
                             const struct gather *gather)
{
    size_t offset = offsetof(struct frontend_figures, rate_limited);
    uint64_t by_session = 0;

    for (unsigned i = 0; i < gather->expected; i++)
        by_session += gather->replies[i]->figures->stats.rate_limited;
    begin(w, "atoll_rate_limited", COUNTER, "Requests refused because there were too many.");
    put_u64(w, "by=\"token\"", sum_of(shared, offset + RATES_TOKEN * sizeof(uint64_t)));
    put_u64(w, "by=\"address\"", sum_of(shared, offset + RATES_ADDRESS * sizeof(uint64_t)));
    put_u64(w, "by=\"session\"", by_session);
}

static void put_http(struct writer *w, const struct frontend_shared *shared)
{
    begin(w, "atoll_http_requests", COUNTER, "Requests answered, by route and class of status.");
    for (unsigned route = 0; route < ROUTE_COUNT; route++)
        put_route(w, shared, route);
    begin(w, "atoll_http_request_seconds", HISTOGRAM,
          "Time from a request's arrival to its answer, as turns of the loop see it; without those "
          "that wait for messages.");
    put_summed(w, shared, offsetof(struct frontend_figures, answer_us), 1e-6);
    begin(w, "atoll_problems", COUNTER, "Requests refused, by the type of the problem.");
    put_named(w, shared, offsetof(struct frontend_figures, problems), "type", problem_name,
              CORE_OK + 1, PROBLEM_ERROR_COUNT);
    begin(w, "atoll_tokens_refused", COUNTER, "Tokens that were not good, by the reason.");
    put_named(w, shared, offsetof(struct frontend_figures, tokens_refused), "reason",
              token_error_name, TOKEN_OK + 1, TOKEN_ERRORS);
}

/* ---- the process */

#ifdef ATOLL_JEMALLOC
static uint64_t malloc_figure(const char *name)
{
    size_t bytes = 0, size = sizeof(bytes);
    return mallctl(name, &bytes, &size, NULL, 0) == 0 ? bytes : 0;
}

static uint64_t arena_figure(unsigned arena, const char *what)
{
    char name[64];
    snprintf(name, sizeof(name), "stats.arenas.%u.%s", arena, what);
    return malloc_figure(name);
}

/* The shards' replies have just had jemalloc add all up (its epoch). */
static void put_malloc(struct writer *w, const struct cluster *cluster)
{
    char label[LABEL_BYTES];
    unsigned arena;

    put_one_u64(w, "jemalloc_allocated_bytes", GAUGE, "Bytes in use.",
                malloc_figure("stats.allocated"));
    put_one_u64(w, "jemalloc_active_bytes", GAUGE, "Bytes of pages that hold some in use.",
                malloc_figure("stats.active"));
    put_one_u64(w, "jemalloc_resident_bytes", GAUGE, "Bytes of pages that are there.",
                malloc_figure("stats.resident"));
    put_one_u64(w, "jemalloc_retained_bytes", GAUGE, "Bytes kept of the address space alone.",
                malloc_figure("stats.retained"));
    begin(w, "atoll_reactor_memory_bytes", GAUGE,
          "Memory of the reactor's arena: connections, requests, frames. The shard has its own.");
    for (unsigned i = 0; i < cluster_size(cluster); i++)
        if (cluster_reactor_arena(cluster, i, &arena))
            put_u64(w, number_label(label, "reactor", i),
                    arena_figure(arena, "small.allocated") +
                        arena_figure(arena, "large.allocated"));
}
#endif

static void put_process(struct writer *w, const struct frontend_shared *shared)
{
    struct process_figures process = process_figures();

    put_one_double(w, "process_cpu_seconds", COUNTER, "Time of processors that was used.",
                   process.cpu_s);
    put_one_u64(w, "process_resident_memory_bytes", GAUGE, "Memory that is there.",
                process.resident_bytes);
    put_one_u64(w, "process_virtual_memory_bytes", GAUGE, "Address space.", process.virtual_bytes);
    put_one_u64(w, "process_open_fds", GAUGE, "Open file descriptors.", process.open_fds);
    put_one_u64(w, "process_max_fds", GAUGE, "File descriptors that it may have open.",
                process.max_fds);
    put_one_double(w, "process_start_time_seconds", GAUGE, "When it began, in Unix time.",
                   1e-3 * (double)shared->started_wall_ms);
}

static void put_server(struct writer *w, struct frontend *frontend)
{
    const struct frontend_shared *shared = frontend->shared;
    const struct cluster *cluster = reactor_cluster(frontend->reactor);
    char label[LABEL_BYTES];

    begin(w, "atoll_build_info", GAUGE, "Always 1.");
    snprintf(label, sizeof(label), "version=\"%s\",io=\"%s\",durability=\"%s\"", ATOLL_VERSION,
             cluster_io_name(cluster),
             shared->config->durability == CONFIG_DURABILITY_COMMIT ? "commit" : "relaxed");
    put_u64(w, label, 1);
    put_one_double(w, "atoll_uptime_seconds", GAUGE, "Since the start.",
                   1e-3 * (double)(frontend_now_ms(frontend) - shared->started_ms));
    put_one_double(w, "atoll_recovery_seconds", GAUGE,
                   "From the start until the shards took requests.",
                   1e-3 * (double)cluster_recovery_ms(cluster));
    put_one_u64(w, "atoll_memory_limit_bytes", GAUGE,
                "What the process may use (--memory-limit); 0: no bound.",
                cluster_pressure(cluster)->limit_bytes);
    put_one_u64(w, "atoll_logger_lines", COUNTER, "Lines written for people.", logger_lines());
    put_one_u64(w, "atoll_logger_lines_dropped", COUNTER,
                "Such lines that were lost because nobody took them fast enough.",
                logger_dropped());
    put_one_u64(w, "atoll_logger_lines_suppressed", COUNTER,
                "Such lines left out because the same had been said too often.",
                logger_suppressed());
}

/* The path of a listener's socket may have any characters. */
static void put_component(void *ctx, const char *component, const struct health *health)
{
    struct writer *w = ctx;
    char label[2 * LABEL_BYTES];
    size_t n = (size_t)snprintf(label, sizeof(label), "component=\"");
    for (const char *at = component; *at != '\0' && n + 4 < sizeof(label); at++) {
        if (*at == '"' || *at == '\\' || *at == '\n')
            label[n++] = '\\';
        label[n++] = *at == '\n' ? 'n' : *at;
    }
    memcpy(label + n, "\"", 2);
    put_u64(w, label, (uint64_t)health->state);
}

/* ---- the answer */

static void answer(struct exchange *exchange, struct request *request)
{
    struct frontend *frontend = exchange->frontend;
    struct cluster *cluster = reactor_cluster(frontend->reactor);
    const bool *open_metrics = exchange->state;
    struct writer w = {.out = &exchange->text, .open_metrics = *open_metrics};

    if (!gather_take(exchange, request))
        return;
    put_server(&w, frontend);
    put_http(&w, frontend->shared);
    put_rate_limited(&w, frontend->shared, exchange->gather);
    put_frontends(&w, frontend->shared);
    put_watching(&w, frontend->shared);
    put_reactors(&w, cluster);
    put_shards(&w, exchange->gather);
    put_lanes(&w, exchange->gather);
    begin(&w, "atoll_component_health", GAUGE, "0: healthy, 1: degraded, 2: failing, 3: failed.");
    health_each(frontend, put_component, &w);
#ifdef ATOLL_JEMALLOC
    put_malloc(&w, cluster);
#endif
    put_process(&w, frontend->shared);
    if (w.open_metrics)
        add_text(&w, "# EOF\n");
    exchange_answer(exchange,
                    &(struct answer){.status = 200,
                                     .kind = w.open_metrics ? ANSWER_OPENMETRICS : ANSWER_METRICS,
                                     .body = buf_str(&exchange->text)});
}

static struct request *ask(void *ctx)
{
    struct request *request = request_new();
    (void)ctx;
    request->kind = REQUEST_STATUS;
    return request;
}

void metrics_serve(struct exchange *exchange, const struct call *call)
{
    bool *open_metrics = exchange_alloc(exchange, sizeof(*open_metrics));

    *open_metrics = access_accepts(call->headers.accept, STR("application/openmetrics-text"));
    exchange->state = open_metrics;
    exchange->on_reply = answer;
    gather_begin(exchange, ask, NULL);
}
