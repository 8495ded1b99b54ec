/*
 * reactor: one thread's turns, its sleeping and waking, its end. What all reactors do together,
 * start and recovery above all: cluster.c.
 *
 * Normal path: the thread pins itself, makes its io, starts its frontend and turns that alone,
 * while a thread beside it recovers its shard. When all shards have recovered it takes its own one
 * over and opens its log (PHASE_OPEN); when all are open its mailbox takes requests and the shard
 * is turned, too (PHASE_SERVE).
 *
 * Stop: frontends drain (or their grace runs out), then each shard finishes what it holds and
 * leaves a checkpoint; the threads end once all shards have, because until then any of them may
 * still be asked something by another one.
 *
 * Failure of the start: told to the cluster, whose main thread stops all.
 */
#include "shards/cluster_internal.h"
#include "shards/report.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#ifdef ATOLL_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

enum {
    ERRAND_RETRY_MS = 5,     /* between two tries to send what a full ring has refused */
    PROGRESS_TELL_MS = 2000, /* between two lines on how far a long recovery is */
};

static void add(_Atomic uint64_t *figure, uint64_t n)
{
    uint64_t old = atomic_load_explicit(figure, memory_order_relaxed);
    atomic_store_explicit(figure, old + n, memory_order_relaxed);
}

static void count(_Atomic uint64_t *figure)
{
    add(figure, 1);
}

static bool reactor_serves(const struct reactor *reactor)
{
    return reactor->phase == PHASE_SERVE;
}

/* ---- clocks */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void reactor_read_clocks(struct reactor *reactor)
{
    reactor->begin_ns = clock_ns(CLOCK_MONOTONIC);
    reactor->now_ms = (int64_t)(reactor->begin_ns / 1000000);
    reactor->wall_ms = (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000);
}

/* How long the turn took, of which it slept for a while. */
static void reactor_measure(struct reactor *reactor, uint64_t slept_ns)
{
    uint64_t took_ns = clock_ns(CLOCK_MONOTONIC) - reactor->begin_ns;
    uint64_t us = took_ns > slept_ns ? (took_ns - slept_ns + 999) / 1000 : 0;
    unsigned bucket = 0;
    while (bucket < REACTOR_TURN_BUCKETS - 1 && us > (uint64_t)REACTOR_TURN_LEAST_US << bucket)
        bucket++;
    count(&reactor->turn_us[bucket]);
    add(&reactor->turn_total_us, us);
    if (us > atomic_load_explicit(&reactor->turn_longest_us, memory_order_relaxed))
        atomic_store_explicit(&reactor->turn_longest_us, us, memory_order_relaxed);
}

/* ---- sleeping and waking */

static void reactor_wake(struct reactor *reactor)
{
    if (atomic_exchange(&reactor->sleeping, 0) == 1) {
        uint64_t one = 1;
        ssize_t written = write(reactor->wake_fd, &one, sizeof(one));
        assert(written == sizeof(one)); /* one write for each sleep: it cannot overflow */
    }
}

void reactors_wake(struct cluster *cluster)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < cluster->size; i++)
        reactor_wake(&cluster->reactors[i]);
}

void reactor_nudge(struct reactor *reactor)
{
    atomic_store(&reactor->nudged, true);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&reactor->sleeping, memory_order_relaxed) == 1)
        reactor_wake(reactor);
}

static void reactor_nudge_others(struct reactor *reactor)
{
    for (unsigned i = 0; i < reactor->cluster->size; i++)
        if (i != reactor->number)
            cluster_nudge(reactor->cluster, i);
}

/* Once a turn, not per message: whoever was sent something, and sleeps, is woken. */
static void reactor_wake_others(struct reactor *reactor)
{
    uint64_t wake = reactor->mailbox.wake;
    reactor->mailbox.wake = 0;
    if (reactor_serves(reactor)) {
        wake |= reactor->shard->wake;
        reactor->shard->wake = 0;
    }
    wake &= ~(UINT64_C(1) << reactor->number);
    if (wake == 0)
        return;
    /* The other half of reactor_sleep's proof: pushes first, then the look at the flag. */
    atomic_thread_fence(memory_order_seq_cst);
    for (; wake != 0; wake &= wake - 1) {
        struct reactor *other = &reactor->cluster->reactors[__builtin_ctzll(wake)];
        if (atomic_load_explicit(&other->sleeping, memory_order_relaxed) == 1) {
            reactor_wake(other);
            count(&reactor->wakeups);
        }
    }
}

/* 0 also where nothing is worth waiting for any more. */
static int64_t reactor_grace_left_ms(const struct reactor *reactor)
{
    const struct cluster *cluster = reactor->cluster;
    if (atomic_load(&cluster->failed) != NULL || atomic_load(&cluster->start_failed))
        return 0;
    int64_t end_ms = reactor->stopping_since_ms + cluster->options.grace_ms;
    return end_ms > reactor->now_ms ? end_ms - reactor->now_ms : 0;
}

/* Whether a stop can go on from where it stands. */
static bool reactor_stop_pending(const struct reactor *reactor)
{
    const struct cluster *cluster = reactor->cluster;
    if (reactor->stopping_since_ms == 0)
        return atomic_load(&cluster->stop);
    if (!reactor->all_drained)
        return atomic_load(&cluster->drained) == cluster->size;
    if (reactor->shard_stopped)
        return atomic_load(&cluster->stopped) == cluster->size;
    if (!reactor_serves(reactor))
        return true;
    /* What is still out comes back over the io's fd or a ring. */
    if (reactor->io->in_flight != 0 || !shard_idle(reactor->shard))
        return false;
    return mailbox_errands(&reactor->mailbox) == 0 || reactor_grace_left_ms(reactor) == 0;
}

static bool reactor_pending(const struct reactor *reactor)
{
    if (mailbox_pending(&reactor->mailbox))
        return true;
    if (reactor_serves(reactor) && (shard_pending(reactor->shard) || atomic_load(&reactor->nudged)))
        return true;
    if (atomic_load(&reactor->cluster->phase) != (int)reactor->phase)
        return true;
    return reactor_stop_pending(reactor);
}

static void reactor_drain_wake(struct reactor *reactor)
{
    uint64_t count;
    if (reactor->woken != 0 && read(reactor->wake_fd, &count, sizeof(count)) == sizeof(count))
        reactor->woken -= count;
}

/* The frontend's poll, and how long of it was sleep: all that was no work of this thread. */
static uint64_t reactor_poll(struct reactor *reactor, int wait_ms)
{
    const struct reactor_frontend_ops *ops = reactor->cluster->options.frontend;
    if (wait_ms == 0) {
        ops->poll(reactor->frontend, 0);
        return 0;
    }
    uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t worked_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    reactor->polling = true;
    ops->poll(reactor->frontend, wait_ms);
    reactor->polling = false;
    worked_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - worked_ns;
    uint64_t took_ns = clock_ns(CLOCK_MONOTONIC) - begin_ns;
    return took_ns > worked_ns ? took_ns - worked_ns : 0;
}

/*
 * The one place where a reactor sleeps. No wake-up is lost:
 *
 *     sleeper: (1) sleeping = 1   (fence)   (2) look at the rings and the cluster's flags
 *              (3) poll
 *     waker:   (4) push / set a flag   (fence)   (5) if sleeping: exchange it to 0, write the fd
 *
 * The flags are phase, stop, drained and stopped: whoever changes one of them (the last two: to
 * their full count) wakes all. And nudged, this reactor's own: it says that the courier has pushed
 * something, stays until a turn takes it back, and is then followed by a look at what was pushed.
 * Both fences are sequentially consistent, so (2) and (5) cannot both miss the other side's earlier
 * store: if (2) does not see the push of (4), then (5) sees the 1 of (1), and the eventfd is
 * written. It is level-triggered, so the poll of (3) returns even if the write came before it. The
 * exchange makes one write for each sleep. A sleeper that comes back finds sleeping == 0 if
 * somebody has taken it, and then reads the eventfd, now or (if the write is still under way) in
 * one of its next turns, which the readable fd brings about. `woken` counts those writes: one that
 * is late is still read when a later one has come before it. No time-out is needed.
 *
 * Returns how long it slept.
 */
static uint64_t reactor_sleep(struct reactor *reactor, int wait_ms)
{
    uint64_t slept_ns;
    if (wait_ms != 0) {
        atomic_store(&reactor->sleeping, 1);
        atomic_thread_fence(memory_order_seq_cst);
        if (reactor_pending(reactor))
            wait_ms = 0;
        else
            count(&reactor->sleeps);
        slept_ns = reactor_poll(reactor, wait_ms);
        if (atomic_exchange(&reactor->sleeping, 0) == 0)
            reactor->woken++;
    } else {
        slept_ns = reactor_poll(reactor, 0);
    }
    reactor_drain_wake(reactor);
    return slept_ns;
}

/* ---- the turn */

static int wait_shorter(int a, int b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return a < b ? a : b;
}

/* Counts this reactor in; the last one wakes all. */
static void reactor_count_in(struct reactor *reactor, atomic_uint *counter)
{
    struct cluster *cluster = reactor->cluster;
    if (atomic_fetch_add(counter, 1) + 1 == cluster->size)
        reactors_wake(cluster);
}

/* Whether the frontend has nothing left, or no time. */
static void reactor_look_drained(struct reactor *reactor)
{
    struct cluster *cluster = reactor->cluster;
    if (!reactor->drained && (reactor_grace_left_ms(reactor) == 0 ||
                              cluster->options.frontend->drained(reactor->frontend))) {
        reactor->drained = true;
        reactor_count_in(reactor, &cluster->drained);
    }
}

/* True: the shard has more to do at once. */
static bool reactor_turn_shard(struct reactor *reactor)
{
    struct shard *shard = reactor->shard;
    const struct io_ops *io = reactor->io->ops;
    /* Before the turn looks: it then finds what was pushed by whoever has set the flag. */
    if (atomic_load_explicit(&reactor->nudged, memory_order_relaxed))
        atomic_exchange(&reactor->nudged, false);
    bool more = shard_turn(shard, reactor->now_ms, reactor->wall_ms);
    io->submit(reactor->io);
    if (io->reap(reactor->io) != 0) {
        shard_commit(shard);
        io->submit(reactor->io);
        more = more || shard->stalled != NULL; /* there may be room now */
    }
    return more;
}

/* Says how far a recovery is that takes long. Milliseconds until it wants to again. */
static int reactor_tell_progress(struct reactor *reactor)
{
    char text[128];
    if (reactor->progress_told_ms == 0)
        reactor->progress_told_ms = reactor->now_ms;
    if (reactor->now_ms - reactor->progress_told_ms >= PROGRESS_TELL_MS) {
        reactor->progress_told_ms = reactor->now_ms;
        cluster_tell_recovery(reactor->cluster, text, sizeof(text));
        report_tell(REPORT_INFO, "recovering", REPORT_NO_SHARD, (struct str){0}, "%s", text);
    }
    return (int)(reactor->progress_told_ms + PROGRESS_TELL_MS - reactor->now_ms);
}

/* How long this turn may sleep for all that is the reactor's own; the frontend and the shard each
 * have theirs. */
static int reactor_tick(struct reactor *reactor)
{
    int wait = -1;
    if (mailbox_send_errands(&reactor->mailbox))
        wait = ERRAND_RETRY_MS; /* a ring that gets room tells nobody */
    if (reactor->stopping_since_ms != 0) {
        int64_t grace_ms = reactor_grace_left_ms(reactor);
        if (!reactor->drained || grace_ms != 0)
            wait = wait_shorter(wait, (int)grace_ms);
    }
    if (reactor->phase == PHASE_RECOVER && reactor->number == 0)
        wait = wait_shorter(wait, reactor_tell_progress(reactor));
    return wait;
}

static void reactor_turn(struct reactor *reactor)
{
    struct cluster *cluster = reactor->cluster;
    count(&reactor->turns);
    reactor_read_clocks(reactor);
    if (pressure_look(&cluster->pressure, reactor->now_ms))
        reactor_nudge_others(reactor);
    bool more = reactor_serves(reactor) && reactor_turn_shard(reactor);
    if (atomic_load_explicit(&cluster->failed, memory_order_relaxed) != NULL)
        cluster_tell_news(cluster);
    int wait = cluster->options.frontend->work(reactor->frontend);
    if (reactor_serves(reactor)) {
        /* Answers to errands came out of the mailbox, and may have begun something. */
        reactor->io->ops->submit(reactor->io);
        wait = wait_shorter(wait, shard_tick(reactor->shard));
    }
    if (reactor->stopping_since_ms != 0)
        reactor_look_drained(reactor); /* its work may have done the last of it */
    wait = wait_shorter(wait, reactor_tick(reactor));
    reactor_wake_others(reactor);
    if (more || reactor_pending(reactor))
        wait = 0;
    if (wait == 0 && reactor_serves(reactor) && reactor->shard->histories != 0)
        sched_yield(); /* long reads keep this core busy, where a commit's sync may be due */
    reactor_measure(reactor, reactor_sleep(reactor, wait));
}

/* ---- from phase to phase */

static int reactor_open_shard(struct reactor *reactor, char *error, size_t error_size)
{
    struct cluster *cluster = reactor->cluster;
    struct shard *shard = reactor->shard;
    shard->io = reactor->io;
    shard->mailbox = &reactor->mailbox;
    rings_attach_shard(cluster->rings, shard);
    return shard_open(shard, cluster->options.durability, error, error_size);
}

/*
 * Between two turns: follows the cluster into its next phase. Its shard is this thread's from
 * PHASE_OPEN on. Also while it is to stop: others may serve already, and have asked our shard for
 * what they need to drain.
 */
static void reactor_advance(struct reactor *reactor)
{
    struct cluster *cluster = reactor->cluster;
    char error[CLUSTER_ERROR_SIZE] = "";
    if (atomic_load(&cluster->phase) == (int)reactor->phase)
        return;
    reactor->phase++;
    int result = 0;
    if (reactor->phase == PHASE_OPEN)
        result = reactor_open_shard(reactor, error, sizeof(error));
    else
        reactor->mailbox.shut = false;
    if (result == 0)
        cluster_count_in(cluster, reactor->phase);
    else
        cluster_fail_start(cluster, result, error);
}

/* Once a turn after everyone has drained. True: its shard has nothing left to do, or no time. */
static bool reactor_stop_shard(struct reactor *reactor)
{
    if (!reactor_serves(reactor))
        return true;
    int64_t grace_ms = reactor_grace_left_ms(reactor);
    bool busy = mailbox_errands(&reactor->mailbox) != 0 || !shard_idle(reactor->shard);
    if (!reactor->shard_stopping && busy && grace_ms != 0)
        return false;
    reactor->shard_stopping = true;
    return shard_stop(reactor->shard, grace_ms) && shard_idle(reactor->shard);
}

/* After everyone is told to stop: turns go on until all frontends have drained and all shards have
 * stopped. True: this reactor may end. */
static bool reactor_finished(struct reactor *reactor)
{
    struct cluster *cluster = reactor->cluster;
    if (!atomic_load(&cluster->stop))
        return false;
    if (reactor->stopping_since_ms == 0)
        reactor->stopping_since_ms = reactor->now_ms;
    reactor_look_drained(reactor);
    reactor->all_drained = atomic_load(&cluster->drained) == cluster->size;
    if (reactor->all_drained && !reactor->shard_stopped && reactor_stop_shard(reactor)) {
        reactor->shard_stopped = true;
        reactor_count_in(reactor, &cluster->stopped);
    }
    return atomic_load(&cluster->stopped) == cluster->size;
}

/* ---- a reactor's life */

void reactor_use_arena(const struct reactor *reactor)
{
#ifdef ATOLL_JEMALLOC
    unsigned arena = reactor->arena;
    if (reactor->has_arena)
        mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena));
#else
    (void)reactor;
#endif
}

static void reactor_pin(struct reactor *reactor)
{
    if (reactor->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)reactor->cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set) != 0)
            reactor->cpu = -1;
    }
#ifdef ATOLL_JEMALLOC
    size_t size = sizeof(reactor->arena);
    reactor->has_arena = mallctl("arenas.create", &reactor->arena, &size, NULL, 0) == 0;
#endif
    reactor_use_arena(reactor);
}

static int reactor_start(struct reactor *reactor, char *error, size_t error_size)
{
    const struct cluster_options *options = &reactor->cluster->options;
    const struct reactor_frontend_ops *ops = options->frontend;
    reactor_pin(reactor);
    int result = io_new(options->io, &reactor->io);
    if (result != 0) {
        snprintf(error, error_size, "cannot use %s here: %s",
                 options->io == IO_URING ? "io_uring" : "the helper threads' io",
                 strerror(-result));
        return result;
    }
    reactor_read_clocks(reactor);
    reactor->frontend =
        ops->start(ops->ctx, reactor, &reactor->mailbox, reactor->wake_fd, reactor->io->fd);
    if (reactor->frontend == NULL) {
        snprintf(error, error_size, "the frontend of reactor %u did not start", reactor->number);
        return -EIO;
    }
    return 0;
}

static void reactor_turn_to_the_end(struct reactor *reactor)
{
    int failed = pthread_create(&reactor->recovering, NULL, cluster_recover, reactor);
    assert(failed == 0);
    while (!reactor_finished(reactor)) {
        reactor_advance(reactor);
        reactor_turn(reactor);
    }
    pthread_join(reactor->recovering, NULL);
    if (!reactor_serves(reactor) || !shard_stopped_clean(reactor->shard))
        atomic_fetch_add(&reactor->cluster->unclean, 1);
}

void *reactor_run(void *argument)
{
    struct reactor *reactor = argument;
    struct cluster *cluster = reactor->cluster;
    char error[CLUSTER_ERROR_SIZE] = "";
    int result = reactor_start(reactor, error, sizeof(error));
    if (meeting_tell(&cluster->starting, result, error))
        reactor_turn_to_the_end(reactor);
    if (reactor->frontend != NULL)
        cluster->options.frontend->stop(reactor->frontend);
    if (reactor->shard != NULL)
        shard_free(reactor->shard);
    if (reactor->io != NULL)
        reactor->io->ops->free(reactor->io);
    request_free_spares();
    return NULL;
}

/* ---- what others may know of it */

struct cluster *reactor_cluster(struct reactor *reactor)
{
    return reactor->cluster;
}

unsigned reactor_number(const struct reactor *reactor)
{
    return reactor->number;
}

int reactor_cpu(const struct reactor *reactor)
{
    return reactor->cpu;
}

bool reactor_ready(const struct reactor *reactor)
{
    return reactor_serves(reactor);
}

bool reactor_stopping(const struct reactor *reactor)
{
    return reactor->stopping_since_ms != 0;
}

/* What is begun in a poll that has slept must not be as old as the sleep is long. */
int64_t reactor_now_ms(const struct reactor *reactor)
{
    return reactor->polling ? (int64_t)(clock_ns(CLOCK_MONOTONIC) / 1000000) : reactor->now_ms;
}

int64_t reactor_wall_ms(const struct reactor *reactor)
{
    return reactor->polling ? (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000) : reactor->wall_ms;
}

static uint64_t figure(const _Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed);
}

struct reactor_figures cluster_reactor_figures(const struct cluster *cluster, unsigned number)
{
    const struct reactor *reactor = &cluster->reactors[number];
    struct reactor_figures figures = {
        .turns = figure(&reactor->turns),
        .sleeps = figure(&reactor->sleeps),
        .wakeups = figure(&reactor->wakeups),
        .turn_longest_us = figure(&reactor->turn_longest_us),
        .turn_total_us = figure(&reactor->turn_total_us),
    };
    for (unsigned i = 0; i < REACTOR_TURN_BUCKETS; i++)
        figures.turn_us[i] = figure(&reactor->turn_us[i]);
    return figures;
}
