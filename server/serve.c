/*
 * serve: from a configuration to a running server, and back.
 *
 * Normal path: bind the sockets, read the settings that may change later (live.h), start the
 * cluster with the frontends, print the URL when the shards have recovered, wait for a signal,
 * drain, join. SIGTERM and SIGINT are blocked everywhere and waited for here, also while the shards
 * recover; after the first of them a second one ends the process at once. SIGHUP reads the settings
 * again (reload.h); from a terminal that is closed it is like SIGTERM. A service manager, where
 * there is one, is told of all of that (service.h). Failure: one line on stderr. A start that fails
 * closes everything again; a log that fails while the server runs ends it without a drain.
 */
#include "server/serve.h"

#include "server/auth/ticket.h"
#include "server/courier.h"
#include "server/frontend.h"
#include "server/listen.h"
#include "server/logger.h"
#include "server/reload.h"
#include "server/service.h"

#include <errno.h>
#include <fcntl.h>
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

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
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
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Whether the terminal that we were started from has been closed: its SIGHUP means an end. */
static bool terminal_gone(int terminal)
{
    struct pollfd fd = {.fd = terminal};
    return terminal >= 0 && poll(&fd, 1, 0) == 1 && (fd.revents & POLLHUP) != 0;
}

static void tell_ready(const struct config *config, const struct cluster *cluster)
{
    bool relaxed = config->durability == CONFIG_DURABILITY_RELAXED;
    struct logger_line line;

    logger_begin(&line, LOGGER_INFO, "ready");
    logger_add_text(&line, "version", ATOLL_VERSION);
    logger_add_text(&line, "url", sockets.url);
    logger_add_i64(&line, "shards", cluster_size(cluster));
    logger_add_text(&line, "io", cluster_io_name(cluster));
    logger_add_text(&line, "durability", relaxed ? "relaxed" : "commit");
    logger_add_text(&line, "data", config->data);
    logger_end(&line);
    printf("%s\n", sockets.url);
    fflush(stdout);
}

/* ---- waiting */

/* What the main thread does while the reactors turn. */
struct attendance {
    struct frontend_shared *shared;
    struct cluster *cluster;
    struct reload *reload;
    struct service_watch watch;
    int signals_fd;
    int terminal;    /* that we were started from; -1: none */
    int64_t stop_ms; /* when to begin to drain; 0: nobody has asked for it */
};

static int sooner(int a, int b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

static int wait_ms(const struct attendance *at, int64_t now_ms)
{
    int wait =
        sooner(reload_wait_ms(at->reload, now_ms), service_watch_wait_ms(&at->watch, now_ms));
    if (at->stop_ms != 0)
        wait = sooner(wait, at->stop_ms > now_ms ? (int)(at->stop_ms - now_ms) : 0);
    return wait;
}

static void nudge_all(struct cluster *cluster)
{
    for (unsigned i = 0; i < cluster_size(cluster); i++)
        cluster_nudge(cluster, i);
}

static void reload_settings(struct attendance *at)
{
    service_tell_reloading();
    logger_reopen_audit();
    if (reload_all(at->reload))
        nudge_all(at->cluster);
    if (at->watch.ready)
        service_tell("READY=1");
}

/* From the first signal on a second one quits at once. Load balancers get --drain-delay to see that
 * we are not ready any more, while we still serve. */
static void begin_to_stop(struct attendance *at, int64_t now_ms)
{
    sigset_t set = stop_signals();

    service_tell("STOPPING=1\nSTATUS=stopping");
    atomic_store(&at->shared->leaving, true);
    at->stop_ms = now_ms + (int64_t)at->shared->config->drain_delay_ms;
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void take_signals(struct attendance *at, int64_t now_ms)
{
    struct signalfd_siginfo taken;

    while (read(at->signals_fd, &taken, sizeof(taken)) == sizeof(taken)) {
        bool reload = taken.ssi_signo == SIGHUP && !terminal_gone(at->terminal);
        if (reload)
            reload_settings(at);
        else if (at->stop_ms == 0)
            begin_to_stop(at, now_ms);
    }
}

static void wait_for_events(struct attendance *at)
{
    struct pollfd fds[] = {
        {.fd = at->signals_fd, .events = POLLIN},
        {.fd = cluster_news_fd(at->cluster), .events = POLLIN},
        {.fd = at->reload->fd, .events = POLLIN},
    };
    uint64_t news;

    while (poll(fds, 3, wait_ms(at, monotonic_ms())) < 0)
        assert(errno == EINTR);
    int64_t now_ms = monotonic_ms();
    if (fds[0].revents != 0)
        take_signals(at, now_ms);
    if (fds[1].revents != 0) {
        ssize_t n = read(fds[1].fd, &news, sizeof(news));
        assert(n == sizeof(news));
    }
    if (fds[2].revents != 0)
        reload_on_change(at->reload, now_ms);
    if (reload_files(at->reload, now_ms))
        nudge_all(at->cluster);
    service_watch_look(&at->watch, at->cluster, now_ms);
}

/* Until a signal says so, or the start or a log has failed. */
static void attend(struct attendance *at)
{
    char error[CONFIG_ERROR_SIZE];

    while (cluster_failed(at->cluster) == NULL) {
        int state = cluster_state(at->cluster, error, sizeof(error));
        if (state < 0) {
            fprintf(stderr, "atoll: %s\n", error);
            break;
        }
        if (state == 1 && !at->watch.ready) {
            tell_ready(at->shared->config, at->cluster);
            service_watch_ready(&at->watch);
        }
        if (at->stop_ms != 0 && monotonic_ms() >= at->stop_ms)
            break;
        wait_for_events(at);
    }
    if (at->stop_ms == 0)
        begin_to_stop(at, monotonic_ms());
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
        .session_events = config->max_session_events,
        .session_log_bytes = config->max_session_bytes,
        .rate_commands = config->rate_session.n,
        .rate_ms = config->rate_session.per_ms,
        .rate_burst = config->rate_session.burst,
        .memory_limit_bytes = config->memory_limit_bytes,
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

static int run_cluster(struct frontend_shared *shared, struct courier *courier,
                       struct attendance *at)
{
    struct reactor_frontend_ops ops = frontend_ops;
    char error[CONFIG_ERROR_SIZE];

    ops.ctx = shared;
    struct cluster_options options = options_of(shared->config, &ops);
    options.courier = courier_wake(courier);
    shared->limits = &options.limits;
    if (cluster_start(&options, &at->cluster, error, sizeof(error)) != 0) {
        fprintf(stderr, "atoll: %s\n", error);
        return 1;
    }
    start_courier(courier, at->cluster);
    attend(at);
    cluster_stop(at->cluster);
    courier_stop(courier);
    return cluster_join(at->cluster);
}

static void close_sockets(void)
{
    listen_unlink(&sockets);
    listen_close(&sockets);
    listen_free(&sockets);
}

/* Binds what is listened on. 0, or what the process is to end with. */
static int open_sockets(const struct config *config)
{
    struct service_sockets passed;
    char error[CONFIG_ERROR_SIZE];

    int rc = service_take_sockets(&passed, error, sizeof(error));
    if (rc == 0)
        rc = listen_bind(config, (unsigned)config->shards, &passed, &sockets, error, sizeof(error));
    service_free_sockets(&passed);
    if (rc != 0)
        fprintf(stderr, "atoll: %s\n", error);
    return rc == 0 ? 0 : 1;
}

/* The first settings, and the log. 0, or what the process is to end with. */
static int open_settings(const struct config *config, struct reload *reload, struct live **live)
{
    char error[CONFIG_ERROR_SIZE];
    struct config first;

    reload_open(reload, config);
    config_copy(&first, config);
    int status = 0;
    if (live_make(&first, reload->passed, reload->passed_n, live, error, sizeof(error)) != 0) {
        status = 2;
    } else if (logger_start(config->audit_log, error, sizeof(error)) != 0) {
        live_release(*live);
        status = 1;
    }
    if (status != 0) {
        fprintf(stderr, "atoll: %s\n", error);
        reload_close(reload);
    }
    return status;
}

static void warn_if_open(const struct live *live)
{
    struct logger_line line;

    if (live->keys != NULL || !live->config->insecure_no_auth)
        return;
    logger_begin(&line, LOGGER_WARN, "insecure");
    logger_add_text(&line, "reason",
                    "--insecure-no-auth: whoever reaches this server may do everything");
    logger_end(&line);
}

static int run_server(const struct config *config, struct live *live, struct attendance *at)
{
    unsigned reactors = (unsigned)config->shards;
    struct frontend_shared shared = {
        .config = config,
        .started_ms = monotonic_ms(),
        .started_wall_ms = wall_ms(),
        .listeners = sockets.fds,
        .listeners_n = sockets.n,
        .frontends = reactors,
    };

    warn_if_open(live);
    overview_make_start(shared.start);
    shared.rates = rates_new();
    shared.tickets = tickets_new();
    live_open(&shared.live);
    live_publish(&shared.live, live);
    at->shared = &shared;
    at->reload->cell = &shared.live;
    size_t figures_bytes = reactors * sizeof(*shared.figures);
    shared.counts = connection_counts_new(config);
    shared.figures = aligned_alloc(_Alignof(struct frontend_figures), figures_bytes);
    if (shared.figures == NULL)
        abort();
    memset((void *)shared.figures, 0, figures_bytes);
    shared.accepting = mem_zeroed(reactors, sizeof(*shared.accepting));
    for (unsigned i = 0; i < reactors; i++)
        health_init(&shared.accepting[i]);
    struct courier *courier = courier_new(reactors, &config->allow_wake_to);
    int status = run_cluster(&shared, courier, at);
    courier_free(courier);
    live_close(&shared.live);
    rates_free(shared.rates);
    tickets_free(shared.tickets);
    free(shared.figures);
    for (unsigned i = 0; i < reactors; i++)
        health_end(&shared.accepting[i]);
    free(shared.accepting);
    connection_counts_free(shared.counts);
    return status;
}

int serve_run(const struct config *config, int argc, char **argv)
{
    struct reload reload = {.argc = argc, .argv = argv};
    struct attendance at = {.reload = &reload, .signals_fd = block_signals()};
    struct live *live;

    if (at.signals_fd < 0) {
        fprintf(stderr, "atoll: cannot wait for signals: %s\n", strerror(errno));
        return 1;
    }
    raise_descriptor_limit();
    /* Large bodies stay in memory: h2o would put them into files under /tmp. */
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX;
    logger_set_level((enum logger_level)config->log_level);
    int status = open_sockets(config);
    if (status != 0) {
        close(at.signals_fd);
        return status;
    }
    reload.passed = sockets.passed;
    reload.passed_n = sockets.passed_n;
    status = open_settings(config, &reload, &live);
    if (status == 0) {
        at.terminal = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
        service_watch_open(&at.watch, monotonic_ms());
        status = run_server(config, live, &at);
        if (at.terminal >= 0)
            close(at.terminal);
        reload_close(&reload);
        logger_stop();
    }
    close(at.signals_fd);
    close_sockets();
    return status;
}
