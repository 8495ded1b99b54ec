/*
 * serve: from a configuration to a running server, and back.
 *
 * Normal path: bind the sockets, start the cluster with the frontends, print the URL when the
 * shards have recovered, wait for a signal, drain, join. SIGTERM and SIGINT are blocked everywhere
 * and waited for here, also while the shards recover; after the first of them a second one ends the
 * process at once.
 * Failure: one line on stderr. A start that fails closes everything again; a log that fails while
 * the server runs ends it without a drain.
 */
#include "server/serve.h"

#include "server/courier.h"
#include "server/frontend.h"
#include "server/listen.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { QUIT_STATUS = 130 /* exit status after a second signal */ };

static struct listen_sockets sockets;

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* ---- signals */

static void quit_at_once(int signal)
{
    (void)signal;
    listen_unlink(&sockets);
    _exit(QUIT_STATUS);
}

static sigset_t stop_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

/* Threads made from here on have them blocked, too. The descriptor to wait for them is made now,
 * while there are some left. */
static int block_signals(void)
{
    sigset_t set = stop_signals();
    struct sigaction quit = {.sa_handler = quit_at_once};

    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &quit, NULL);
    sigaction(SIGINT, &quit, NULL);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static void tell_ready(const struct config *config, const struct cluster *cluster)
{
    fprintf(stderr, "atoll " ATOLL_VERSION ": %u shard%s, %s, durability %s, data in %s\n",
            cluster_size(cluster), cluster_size(cluster) == 1 ? "" : "s", cluster_io_name(cluster),
            config->durability == CONFIG_DURABILITY_COMMIT ? "commit" : "relaxed", config->data);
    printf("%s\n", sockets.url);
    fflush(stdout);
}

/* Waits for a signal or for news of the cluster. True: it was a signal. */
static bool wait_for_event(const struct cluster *cluster, int signals_fd)
{
    struct pollfd fds[] = {
        {.fd = signals_fd, .events = POLLIN},
        {.fd = cluster_news_fd(cluster), .events = POLLIN},
    };
    struct signalfd_siginfo taken;
    uint64_t news;

    while (poll(fds, 2, -1) < 0)
        assert(errno == EINTR);
    if (fds[1].revents != 0) {
        ssize_t n = read(fds[1].fd, &news, sizeof(news));
        assert(n == sizeof(news));
    }
    if (fds[0].revents == 0)
        return false;
    ssize_t n = read(fds[0].fd, &taken, sizeof(taken));
    assert(n == sizeof(taken));
    return true;
}

/* Until a signal says so, or the start or a log has failed. From then on a signal quits at once. */
static void wait_for_stop(const struct config *config, struct cluster *cluster, int signals_fd)
{
    sigset_t set = stop_signals();
    char error[CONFIG_ERROR_SIZE];
    bool told = false;

    while (!wait_for_event(cluster, signals_fd) && cluster_failed(cluster) == NULL) {
        int state = cluster_state(cluster, error, sizeof(error));
        if (state < 0) {
            fprintf(stderr, "atoll: %s\n", error);
            break;
        }
        if (state == 1 && !told)
            tell_ready(config, cluster);
        told = state == 1;
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* ---- what the cluster is told */

static struct core_limits limits_of(const struct config *config)
{
    struct core_limits limits = core_limits_default;

    limits.max[CORE_LIMIT_CONTENT_BYTES] = (uint32_t)config->max_content_bytes;
    limits.max[CORE_LIMIT_DATA_BYTES] = (uint32_t)config->max_data_bytes;
    limits.max[CORE_LIMIT_TEXT_BYTES] = (uint32_t)config->max_text_bytes;
    limits.max[CORE_LIMIT_LABELS] = (uint32_t)config->max_labels;
    limits.max[CORE_LIMIT_LABEL_BYTES] = (uint32_t)config->max_label_bytes;
    limits.max[CORE_LIMIT_AGENTS] = (uint32_t)config->max_agents;
    limits.max[CORE_LIMIT_THREADS] = (uint32_t)config->max_threads;
    limits.max[CORE_LIMIT_PARTICIPANTS] = (uint32_t)config->max_participants;
    limits.max[CORE_LIMIT_WINDOW_MESSAGES] = (uint32_t)config->window_messages;
    limits.max[CORE_LIMIT_WINDOW_BYTES] = (uint32_t)config->window_bytes;
    if (getrandom(&limits.hash_seed, sizeof(limits.hash_seed), 0) != sizeof(limits.hash_seed))
        limits.hash_seed = (uint64_t)monotonic_ms() * UINT64_C(0x9e3779b97f4a7c15);
    return limits;
}

static struct cluster_settings settings_of(const struct config *config)
{
    return (struct cluster_settings){
        .idle_passivate_ms = (int64_t)config->idle_passivate_ms,
        .memory_bytes = config->memory_bytes,
        .retain_ms = (int64_t)config->retain_age_ms,
        .retain_bytes = config->retain_bytes,
        .compact_after_ms = (int64_t)config->compact_after_ms,
        .compact_bytes_per_s = config->compact_rate_bytes,
        .checkpoint_bytes = config->checkpoint_bytes,
    };
}

static enum io_kind io_of(enum config_io io)
{
    return io == CONFIG_IO_URING ? IO_URING : io == CONFIG_IO_POSIX ? IO_POSIX : IO_AUTO;
}

static struct cluster_options options_of(const struct config *config,
                                         const struct reactor_frontend_ops *ops)
{
    return (struct cluster_options){
        .data = config->data,
        .shards = (unsigned)config->shards,
        .io = io_of(config->io),
        .durability = config->durability == CONFIG_DURABILITY_COMMIT ? LOG_COMMIT : LOG_RELAXED,
        .segment_bytes = config->segment_size_bytes,
        .limits = limits_of(config),
        .settings = settings_of(config),
        .grace_ms = (int64_t)config->grace_ms,
        .frontend = ops,
    };
}

/* As many descriptors as we may have; connections need one each. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- all together */

static void nudge(void *cluster, unsigned shard)
{
    cluster_nudge(cluster, shard);
}

/* The courier outlives the cluster, and touches it only while it runs. */
static void start_courier(struct courier *courier, struct cluster *cluster)
{
    struct courier_start start = {.nudge = nudge, .ctx = cluster};
    courier_make_key(cluster, &start.seal);
    courier_start(courier, &start);
}

static int run_cluster(const struct config *config, struct frontend_shared *shared,
                       struct courier *courier, int signals_fd)
{
    struct reactor_frontend_ops ops = frontend_ops;
    char error[CONFIG_ERROR_SIZE];
    struct cluster *cluster;

    ops.ctx = shared;
    struct cluster_options options = options_of(config, &ops);
    options.courier = courier_wake(courier);
    shared->limits = &options.limits;
    if (cluster_start(&options, &cluster, error, sizeof(error)) != 0) {
        fprintf(stderr, "atoll: %s\n", error);
        return 1;
    }
    start_courier(courier, cluster);
    wait_for_stop(config, cluster, signals_fd);
    cluster_stop(cluster);
    courier_stop(courier);
    return cluster_join(cluster);
}

int serve_run(const struct config *config)
{
    unsigned reactors = (unsigned)config->shards;
    char error[CONFIG_ERROR_SIZE];

    int signals_fd = block_signals();
    if (signals_fd < 0) {
        fprintf(stderr, "atoll: cannot wait for signals: %s\n", strerror(errno));
        return 1;
    }
    raise_descriptor_limit();
    /* Large bodies stay in memory: h2o would put them into files under /tmp. */
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX;
    if (listen_bind(config, reactors, &sockets, error, sizeof(error)) != 0) {
        fprintf(stderr, "atoll: %s\n", error);
        close(signals_fd);
        return 1;
    }
    struct frontend_shared shared = {
        .config = config,
        .started_ms = monotonic_ms(),
        .listeners = sockets.fds,
        .listeners_n = sockets.n,
        .frontends = reactors,
    };
    overview_make_start(shared.start);
    access_init(&shared.access, config);
    size_t figures_bytes = reactors * sizeof(*shared.figures);
    shared.figures = aligned_alloc(_Alignof(struct frontend_figures), figures_bytes);
    if (shared.figures == NULL)
        abort();
    memset((void *)shared.figures, 0, figures_bytes);
    struct courier *courier = courier_new(reactors, &config->allow_wake_to);
    int status = run_cluster(config, &shared, courier, signals_fd);
    courier_free(courier);
    close(signals_fd);
    listen_unlink(&sockets);
    listen_close(&sockets);
    listen_free(&sockets);
    free(shared.figures);
    return status;
}
