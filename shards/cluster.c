/*
 * cluster: the start of all reactors and shards, and their end.
 *
 * Start: the main thread opens the data directory; each reactor's thread makes its io and starts
 * its frontend, and a thread beside it recovers its shard, in step with the others (recover_steps).
 * When all have, cluster_set_phase lets the reactors take their shards over and open their logs;
 * when all of those are open, the cluster is ready.
 *
 * Failure: the first step that fails counts, with its sentence; whoever started the cluster is told
 * and stops it. A stop is no failure: shards leave their recovery with -ECANCELED.
 */
#include "shards/cluster_internal.h"
#include "shards/report.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- meetings */

static void meeting_init(struct meeting *meeting, unsigned size)
{
    *meeting = (struct meeting){.size = size};
    pthread_mutex_init(&meeting->mutex, NULL);
    pthread_cond_init(&meeting->changed, NULL);
}

static void meeting_end(struct meeting *meeting)
{
    pthread_mutex_destroy(&meeting->mutex);
    pthread_cond_destroy(&meeting->changed);
}

bool meeting_tell(struct meeting *meeting, int result, const char *error)
{
    pthread_mutex_lock(&meeting->mutex);
    unsigned step = meeting->met / meeting->size;
    if (result != 0 && meeting->result == 0) {
        meeting->result = result;
        meeting->failed_step = step;
        snprintf(meeting->error, sizeof(meeting->error), "%s", error);
    }
    meeting->met++;
    pthread_cond_broadcast(&meeting->changed);
    while (meeting->met < (step + 1) * meeting->size)
        pthread_cond_wait(&meeting->changed, &meeting->mutex);
    /* Somebody may have told the next step already, and has to be met there. */
    bool good = meeting->result == 0 || meeting->failed_step > step;
    pthread_mutex_unlock(&meeting->mutex);
    return good;
}

/* For who takes no part: waits for the first step. */
static int meeting_await(struct meeting *meeting)
{
    pthread_mutex_lock(&meeting->mutex);
    while (meeting->met < meeting->size)
        pthread_cond_wait(&meeting->changed, &meeting->mutex);
    int result = meeting->result;
    pthread_mutex_unlock(&meeting->mutex);
    return result;
}

/* ---- how the start goes */

void cluster_tell_news(struct cluster *cluster)
{
    (void)eventfd_write(cluster->news_fd, 1); /* a full one has been heard already */
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void cluster_set_state(struct cluster *cluster, int state, const char *error)
{
    pthread_mutex_lock(&cluster->mutex);
    if (cluster->state == 0) {
        if (state == 1) /* at least 1: 0 means not yet */
            atomic_store(&cluster->recovery_ms,
                         1 + (int64_t)((clock_ns() - cluster->started_ns) / 1000000));
        cluster->state = state;
        snprintf(cluster->error, sizeof(cluster->error), "%s", error);
    }
    pthread_cond_broadcast(&cluster->changed);
    pthread_mutex_unlock(&cluster->mutex);
    cluster_tell_news(cluster);
}

void cluster_fail_start(struct cluster *cluster, int result, const char *error)
{
    atomic_store(&cluster->start_failed, true); /* before the main thread hears of it and stops */
    cluster_set_state(cluster, result, error);
}

static void cluster_set_phase(struct cluster *cluster, enum cluster_phase phase)
{
    atomic_store(&cluster->phase, (int)phase);
    reactors_wake(cluster);
}

void cluster_count_in(struct cluster *cluster, enum cluster_phase phase)
{
    if (atomic_fetch_add(&cluster->arrived[phase], 1) + 1 < cluster->size)
        return;
    if (phase == PHASE_OPEN)
        cluster_set_phase(cluster, PHASE_SERVE);
    else
        cluster_set_state(cluster, 1, "");
}

static int cluster_copy_error(const struct cluster *cluster, char *error, size_t error_size)
{
    if (cluster->state < 0)
        snprintf(error, error_size, "%s", cluster->error);
    return cluster->state;
}

int cluster_state(struct cluster *cluster, char *error, size_t error_size)
{
    pthread_mutex_lock(&cluster->mutex);
    int state = cluster_copy_error(cluster, error, error_size);
    pthread_mutex_unlock(&cluster->mutex);
    return state;
}

int cluster_await(struct cluster *cluster, char *error, size_t error_size)
{
    pthread_mutex_lock(&cluster->mutex);
    while (cluster->state == 0)
        pthread_cond_wait(&cluster->changed, &cluster->mutex);
    int state = cluster_copy_error(cluster, error, error_size);
    pthread_mutex_unlock(&cluster->mutex);
    return state < 0 ? state : 0;
}

/* Decimal, its thousands apart. */
static void write_grouped(uint64_t value, char text[32])
{
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    char *out = text;
    for (int i = 0; i < n; i++) {
        if (i != 0 && (n - i) % 3 == 0)
            *out++ = ' ';
        *out++ = digits[i];
    }
    *out = '\0';
}

void cluster_tell_recovery(const struct cluster *cluster, char *text, size_t size)
{
    uint64_t bytes = 0, total = 0;
    char megabytes[32];
    for (unsigned i = 0; i < cluster->size; i++) {
        const struct shard_progress *progress = &cluster->reactors[i].progress;
        bytes += atomic_load_explicit(&progress->bytes, memory_order_relaxed);
        total += atomic_load_explicit(&progress->total, memory_order_relaxed);
    }
    if (bytes > total)
        bytes = total;
    uint64_t percent = total != 0 ? (uint64_t)((double)bytes / (double)total * 100) : 0;
    write_grouped((total + 999999) / 1000000, megabytes);
    snprintf(text, size, "recovering: %llu %% of %s MB of log read", (unsigned long long)percent,
             megabytes);
}

/* ---- recovery */

static int recover_tails(struct cluster *cluster, char *error, size_t error_size)
{
    uint64_t torn_bytes = 0;
    int result = log_clean_tails(cluster->dir, &torn_bytes, error, error_size);
    if (result == 0 && torn_bytes != 0)
        report_tell(REPORT_WARN, "torn_tail_cut", REPORT_NO_SHARD, (struct str){0},
                    "%s: cut %llu bytes of a batch that was never finished (nothing in it was "
                    "acknowledged)",
                    datadir_path(cluster->dir), (unsigned long long)torn_bytes);
    return result;
}

static int recover_shard(struct reactor *reactor, char *error, size_t error_size)
{
    struct cluster *cluster = reactor->cluster;
    struct shard_options options = {
        .number = reactor->number,
        .dir = cluster->dir,
        .io = reactor->io,
        .limits = &cluster->options.limits,
        .settings = &cluster->settings,
        .failed = &cluster->failed,
        .full = &cluster->full,
        .stop = &cluster->stop,
        .courier = cluster->options.courier,
        .describe = cluster->options.frontend->describe,
        .frontend = reactor->frontend,
        .progress = &reactor->progress,
        .health = &reactor->health,
        .pressure = &cluster->pressure,
    };
    if (atomic_load(&cluster->stop))
        return -ECANCELED;
    return shard_new(&options, &reactor->shard, error, error_size);
}

static int recover_checkpoint(struct reactor *reactor, char *error, size_t error_size)
{
    struct cluster *cluster = reactor->cluster;
    if (datadir_recover_shards(cluster->dir) == 0) /* a new directory has nothing to keep */
        return 0;
    return shard_write_first_checkpoint(reactor->shard, &cluster->checkpoints[reactor->number],
                                        &cluster->checkpoint_fds[reactor->number], error,
                                        error_size);
}

static int recover_begin_generation(struct cluster *cluster, char *error, size_t error_size)
{
    bool is_new = datadir_recover_shards(cluster->dir) == 0;
    int result = datadir_begin_generation(cluster->dir, is_new ? NULL : cluster->checkpoints,
                                          is_new ? NULL : cluster->checkpoint_fds);
    for (unsigned i = 0; i < cluster->size; i++)
        cluster->checkpoint_fds[i] = -1; /* closed there */
    if (result != 0)
        snprintf(error, error_size, "%s: cannot begin with %u shard%s: %s",
                 datadir_path(cluster->dir), cluster->size, cluster->size == 1 ? "" : "s",
                 strerror(-result));
    return result;
}

static void recover_settle(struct cluster *cluster)
{
    struct shard *shards[DATADIR_SHARDS_MAX];
    for (unsigned i = 0; i < cluster->size; i++)
        shards[i] = cluster->reactors[i].shard;
    shards_settle(shards, cluster->size);
}

/* Tells how a step went; a failure is the start's at once, so that the others are stopped. */
static bool recover_tell(struct cluster *cluster, int result, const char *error)
{
    if (result != 0 && !(result == -ECANCELED && atomic_load(&cluster->stop)))
        cluster_fail_start(cluster, result, error);
    return meeting_tell(&cluster->recovering, result, error);
}

/*
 * What the threads that recover do, each for its shard, or the first for all: no log is read before
 * all tails are clean, a generation ends when every shard has read what it holds and has written a
 * checkpoint of it, and pins are settled when all shards know theirs. True: all is done.
 */
static bool recover_steps(struct reactor *reactor)
{
    struct cluster *cluster = reactor->cluster;
    bool first = reactor->number == 0;
    char error[CLUSTER_ERROR_SIZE] = "";
    int result = first ? recover_tails(cluster, error, sizeof(error)) : 0;
    if (!recover_tell(cluster, result, error))
        return false;
    result = recover_shard(reactor, error, sizeof(error));
    if (!recover_tell(cluster, result, error))
        return false;
    if (datadir_recover_shards(cluster->dir) != cluster->size) {
        result = recover_checkpoint(reactor, error, sizeof(error));
        if (!recover_tell(cluster, result, error))
            return false;
        result = first ? recover_begin_generation(cluster, error, sizeof(error)) : 0;
        if (!recover_tell(cluster, result, error))
            return false;
    }
    if (first)
        recover_settle(cluster);
    return recover_tell(cluster, 0, error);
}

void *cluster_recover(void *argument)
{
    struct reactor *reactor = argument;
    reactor_use_arena(reactor);
    if (recover_steps(reactor) && reactor->number == 0)
        cluster_set_phase(reactor->cluster, PHASE_OPEN);
    request_free_spares();
    return NULL;
}

/* ---- making and freeing */

static void cluster_free(struct cluster *cluster)
{
    if (cluster->dir != NULL) {
        for (unsigned i = 0; i < cluster->size; i++) {
            if (cluster->checkpoint_fds[i] >= 0)
                datadir_abandon_checkpoint(cluster->dir, cluster->checkpoints[i].number,
                                           cluster->checkpoint_fds[i]);
        }
        bool clean = atomic_load(&cluster->failed) == NULL && cluster->state == 1 &&
                     atomic_load(&cluster->unclean) == 0;
        datadir_close(cluster->dir, clean);
    }
    if (cluster->rings != NULL)
        rings_free(cluster->rings);
    for (unsigned i = 0; i < cluster->size; i++) {
        close(cluster->reactors[i].wake_fd);
        health_end(&cluster->reactors[i].health.shard);
        health_end(&cluster->reactors[i].health.log);
        health_end(&cluster->reactors[i].health.wakes);
    }
    close(cluster->news_fd);
    pressure_end(&cluster->pressure);
    free((char *)(uintptr_t)atomic_load(&cluster->failed));
    free(cluster->reactors);
    meeting_end(&cluster->starting);
    meeting_end(&cluster->recovering);
    pthread_mutex_destroy(&cluster->mutex);
    pthread_cond_destroy(&cluster->changed);
    free(cluster);
}

/* The nth CPU that this process may run on; -1 where there are fewer. */
static int cluster_cpu(unsigned n)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return -1;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &set) && n-- == 0)
            return (int)cpu;
    }
    return -1;
}

static int cluster_event_fd(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert(fd >= 0);
    return fd;
}

static struct shard_settings cluster_shard_settings(const struct cluster_options *options)
{
    const struct cluster_settings *all = &options->settings;
    struct shard_settings settings = shard_settings_default;
    settings.idle_passivate_ms = all->idle_passivate_ms;
    settings.memory_bytes = all->memory_bytes / options->shards;
    settings.retain_ms = all->retain_ms;
    settings.retain_bytes = (all->retain_bytes + options->shards - 1) / options->shards;
    settings.compact_after_ms = all->compact_after_ms;
    settings.compact_bytes_per_s = all->compact_bytes_per_s;
    settings.checkpoint_bytes = all->checkpoint_bytes;
    settings.session_events = all->session_events;
    settings.session_log_bytes = all->session_log_bytes;
    settings.rate_commands = all->rate_commands;
    settings.rate_ms = all->rate_ms;
    settings.rate_burst = all->rate_burst;
    return settings;
}

static struct cluster *cluster_new(const struct cluster_options *options)
{
    struct cluster *cluster = mem_alloc(sizeof(*cluster));
    memset(cluster, 0, sizeof(*cluster));
    unsigned n = options->shards;
    cluster->options = *options;
    cluster->settings = cluster_shard_settings(options);
    pressure_init(&cluster->pressure, options->settings.memory_limit_bytes);
    cluster->size = n;
    cluster->reactors = aligned_alloc(CACHE_LINE_BYTES, n * sizeof(struct reactor));
    assert(cluster->reactors != NULL);
    memset(cluster->reactors, 0, n * sizeof(struct reactor));
    cluster->started_ns = clock_ns();
    cluster->news_fd = cluster_event_fd();
    meeting_init(&cluster->starting, n);
    meeting_init(&cluster->recovering, n);
    pthread_mutex_init(&cluster->mutex, NULL);
    pthread_cond_init(&cluster->changed, NULL);
    for (unsigned i = 0; i < n; i++) {
        struct reactor *reactor = &cluster->reactors[i];
        reactor->cluster = cluster;
        reactor->number = i;
        reactor->cpu = cluster_cpu(i);
        health_init(&reactor->health.shard);
        health_init(&reactor->health.log);
        health_init(&reactor->health.wakes);
        reactor->wake_fd = cluster_event_fd();
        cluster->checkpoint_fds[i] = -1;
    }
    return cluster;
}

/* ---- start */

static int cluster_open_directory(struct cluster *cluster, char *error, size_t error_size)
{
    struct datadir_options options = {
        .fs = cluster->options.fs,
        .shards = cluster->size,
        .segment_bytes = cluster->options.segment_bytes,
        .relaxed = cluster->options.durability == LOG_RELAXED,
    };
    int result = 0;
    if (options.fs == NULL)
        result = fs_posix_open(cluster->options.data, true, &options.fs, error, error_size);
    if (result == 0)
        result = datadir_open(&options, &cluster->dir, error, error_size);
    return result;
}

static void cluster_make_mailboxes(struct cluster *cluster)
{
    cluster->rings = rings_new(cluster->size, datadir_hash_key(cluster->dir));
    for (unsigned i = 0; i < cluster->size; i++) {
        struct mailbox *mailbox = &cluster->reactors[i].mailbox;
        mailbox_init(mailbox, cluster->rings, i);
        mailbox->shut = true;
    }
}

static int cluster_start_reactors(struct cluster *cluster, char *error, size_t error_size)
{
    for (unsigned i = 0; i < cluster->size; i++) {
        struct reactor *reactor = &cluster->reactors[i];
        int failed = pthread_create(&reactor->thread, NULL, reactor_run, reactor);
        assert(failed == 0);
    }
    int result = meeting_await(&cluster->starting);
    if (result == 0)
        return 0;
    for (unsigned i = 0; i < cluster->size; i++)
        pthread_join(cluster->reactors[i].thread, NULL);
    snprintf(error, error_size, "%s", cluster->starting.error);
    return result;
}

int cluster_start(const struct cluster_options *options, struct cluster **started, char *error,
                  size_t error_size)
{
    assert(options->shards >= 1 && options->shards <= DATADIR_SHARDS_MAX);
    struct cluster *cluster = cluster_new(options);
    int result = cluster_open_directory(cluster, error, error_size);
    if (result == 0) {
        cluster_make_mailboxes(cluster);
        result = cluster_start_reactors(cluster, error, error_size);
    }
    if (result != 0)
        cluster_free(cluster);
    else
        *started = cluster;
    return result;
}

/* ---- stop */

void cluster_stop(struct cluster *cluster)
{
    atomic_store(&cluster->stop, true);
    reactors_wake(cluster);
}

int cluster_join(struct cluster *cluster)
{
    for (unsigned i = 0; i < cluster->size; i++)
        pthread_join(cluster->reactors[i].thread, NULL);
    const char *failed = atomic_load(&cluster->failed);
    if (failed != NULL)
        report_tell(REPORT_ERROR, "log_failed", REPORT_NO_SHARD, (struct str){0},
                    "%s; the next start recovers what was acknowledged", failed);
    int status = failed != NULL || cluster->state < 0;
    cluster_free(cluster);
    return status;
}

/* ---- what others may know of it */

const char *cluster_failed(const struct cluster *cluster)
{
    return atomic_load(&cluster->failed);
}

bool cluster_full(const struct cluster *cluster)
{
    return atomic_load_explicit(&cluster->full, memory_order_relaxed) != 0;
}

void cluster_nudge(struct cluster *cluster, unsigned shard)
{
    reactor_nudge(&cluster->reactors[shard]);
}

int64_t cluster_recovery_ms(const struct cluster *cluster)
{
    return atomic_load_explicit(&cluster->recovery_ms, memory_order_relaxed);
}

const struct pressure *cluster_pressure(const struct cluster *cluster)
{
    return &cluster->pressure;
}

struct shard_health *cluster_health(struct cluster *cluster, unsigned number)
{
    return &cluster->reactors[number].health;
}

bool cluster_reactor_arena(const struct cluster *cluster, unsigned number, unsigned *arena)
{
    *arena = cluster->reactors[number].arena;
    return cluster->reactors[number].has_arena;
}

int cluster_news_fd(const struct cluster *cluster)
{
    return cluster->news_fd;
}

unsigned cluster_size(const struct cluster *cluster)
{
    return cluster->size;
}

const char *cluster_io_name(const struct cluster *cluster)
{
    return cluster->reactors[0].io->ops->name;
}

/* HKDF (RFC 5869) with SHA-256: one block of it is all that is asked for. */
void cluster_derive_key(const struct cluster *cluster, const char *purpose,
                        uint8_t key[CLUSTER_KEY_BYTES])
{
    static const char salt[] = "atoll data directory";
    uint8_t extracted[CLUSTER_KEY_BYTES];
    unsigned n = 0;
    struct buf info = {0};

    buf_add(&info, purpose, strlen(purpose));
    buf_add_byte(&info, 1);
    bool good = HMAC(EVP_sha256(), salt, sizeof(salt) - 1, datadir_hash_key(cluster->dir),
                     DATADIR_HASH_KEY_BYTES, extracted, &n) != NULL &&
                HMAC(EVP_sha256(), extracted, sizeof(extracted), (const uint8_t *)info.p, info.n,
                     key, &n) != NULL;
    assert(good && n == CLUSTER_KEY_BYTES);
    OPENSSL_cleanse(extracted, sizeof(extracted));
    buf_free(&info);
}
