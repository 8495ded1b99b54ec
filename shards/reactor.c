/*
 * reactor: threads, rings between them, sleeping and waking. Start, turn, stop.
 *
 * Start: the main thread opens the data directory and cleans the tails of its logs; then each
 * reactor's thread pins itself, makes its io and recovers its shard; when all have, each opens its
 * log and starts its frontend; when all have, the cluster is ready. If one fails, all stop and the
 * first error is told.
 *
 * Stop: frontends drain (or their grace runs out), then shards finish what they hold, and a
 * reactor's thread ends once every frontend has drained and its own shard is idle.
 */
#include "shards/reactor.h"
#include "shards/shard.h"
#include "shards/siphash.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#ifdef ATOLL_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

enum { START_STEPS = 2 /* recover, start: see reactor_run */ };

struct mailbox {
    struct cluster *cluster;
    unsigned number;
    uint64_t wake; /* bit for each shard that was sent something this turn */
    uint64_t outstanding;
    uint32_t credits[DATADIR_SHARDS_MAX]; /* left, by shard */
};

struct reactor {
    struct cluster *cluster;
    unsigned number;
    int cpu;
    pthread_t thread;
    int wake_fd;
    struct io *io;
    struct shard *shard;
    struct mailbox mailbox;
    void *frontend;
    int64_t now_ms, wall_ms;
    int64_t stopping_since_ms; /* 0: not stopping */
    bool drained;
    bool all_drained; /* it has been heard that every frontend has */
    uint64_t woken;   /* writes to our eventfd, done or on their way, that were not read yet */
    _Atomic uint64_t turns, sleeps, wakeups; /* written by this reactor, read by any: figures */

    /* Shared with whoever wakes this reactor; on a line of its own. See reactor_sleep. */
    _Alignas(CACHE_LINE_BYTES) atomic_int sleeping;
};

struct cluster {
    struct cluster_options options;
    struct datadir *dir;
    unsigned size;
    struct reactor *reactors;
    struct ring *to_shard;    /* [frontend * size + shard] */
    struct ring *to_frontend; /* [shard * size + frontend] */
    /* Written once or seldom, read once a turn: start, stop and failure are no messages to anyone
     * in particular, so they are flags and not rings. */
    _Atomic(const char *) failed;
    _Atomic uint64_t full; /* a bit for each shard whose disk is full */
    int failure_fd;        /* an eventfd, written when `failed` is */
    atomic_bool stop;
    atomic_uint drained; /* reactors whose frontend has nothing left */

    pthread_mutex_t mutex; /* start-up only: */
    pthread_cond_t changed;
    unsigned met; /* steps told by all reactors together */
    int result;
    char error[512];
};

static void count(_Atomic uint64_t *figure)
{
    uint64_t old = atomic_load_explicit(figure, memory_order_relaxed);
    atomic_store_explicit(figure, old + 1, memory_order_relaxed);
}

/* ---- clocks */

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void reactor_read_clocks(struct reactor *reactor)
{
    reactor->now_ms = clock_ms(CLOCK_MONOTONIC);
    reactor->wall_ms = clock_ms(CLOCK_REALTIME);
}

/* ---- mailbox */

static struct ring *ring_to_shard(struct cluster *cluster, unsigned frontend, unsigned shard)
{
    return &cluster->to_shard[frontend * cluster->size + shard];
}

static struct ring *ring_to_frontend(struct cluster *cluster, unsigned shard, unsigned frontend)
{
    return &cluster->to_frontend[shard * cluster->size + frontend];
}

static bool request_takes_credit(const struct request *request)
{
    return !(request->kind == REQUEST_INBOX && request->wait);
}

int mailbox_send_to(struct mailbox *mailbox, struct request *request, unsigned shard)
{
    assert(shard < mailbox->cluster->size);
    bool credit = request_takes_credit(request);
    if (credit && mailbox->credits[shard] == 0)
        return -EAGAIN;
    request->frontend = (uint16_t)mailbox->number;
    request->shard = (uint16_t)shard;
    struct ring *ring = ring_to_shard(mailbox->cluster, mailbox->number, shard);
    if (!ring_push(ring, (struct ring_item){request, 0}))
        return -EAGAIN;
    mailbox->credits[shard] -= credit;
    mailbox->outstanding++;
    mailbox->wake |= UINT64_C(1) << shard;
    return 0;
}

int mailbox_send(struct mailbox *mailbox, struct request *request)
{
    const uint8_t *key = datadir_hash_key(mailbox->cluster->dir);
    uint64_t hash = siphash(key, request->session.p, request->session.n);
    return mailbox_send_to(mailbox, request, (unsigned)(hash % mailbox->cluster->size));
}

unsigned mailbox_shards(const struct mailbox *mailbox)
{
    return mailbox->cluster->size;
}

unsigned mailbox_frontend(const struct mailbox *mailbox)
{
    return mailbox->number;
}

uint64_t mailbox_outstanding(const struct mailbox *mailbox)
{
    return mailbox->outstanding;
}

static void mailbox_take(struct mailbox *mailbox, unsigned shard, struct ring_item item,
                         const struct mailbox_handlers *handlers)
{
    switch (reply_kind(item)) {
    case REPLY_REQUEST: {
        struct request *request = reply_pointer(item);
        mailbox->credits[shard] += request_takes_credit(request);
        mailbox->outstanding--;
        handlers->on_reply(handlers->ctx, request);
        return;
    }
    case REPLY_FRAME:
        handlers->on_frame(handlers->ctx, item.tag, reply_pointer(item));
        return;
    case REPLY_LOST:
        handlers->on_notice(handlers->ctx, item.tag, NOTICE_LOST);
        return;
    case REPLY_ENDED:
        handlers->on_notice(handlers->ctx, item.tag, NOTICE_ENDED);
        return;
    }
}

unsigned mailbox_drain(struct mailbox *mailbox, const struct mailbox_handlers *handlers,
                       unsigned max)
{
    unsigned taken = 0;
    for (unsigned shard = 0; shard < mailbox->cluster->size; shard++) {
        struct ring *ring = ring_to_frontend(mailbox->cluster, shard, mailbox->number);
        struct ring_item item;
        while (taken < max && ring_pop(ring, &item)) {
            mailbox_take(mailbox, shard, item, handlers);
            taken++;
        }
    }
    return taken;
}

bool mailbox_pending(const struct mailbox *mailbox)
{
    for (unsigned shard = 0; shard < mailbox->cluster->size; shard++) {
        if (ring_ready(ring_to_frontend(mailbox->cluster, shard, mailbox->number)))
            return true;
    }
    return false;
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

/* Once a turn, not per message: whoever was sent something, and sleeps, is woken. */
static void reactor_wake_others(struct reactor *reactor)
{
    uint64_t wake =
        (reactor->mailbox.wake | reactor->shard->wake) & ~(UINT64_C(1) << reactor->number);
    reactor->mailbox.wake = reactor->shard->wake = 0;
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

static bool reactor_pending(const struct reactor *reactor)
{
    const struct cluster *cluster = reactor->cluster;
    if (shard_pending(reactor->shard) || mailbox_pending(&reactor->mailbox))
        return true;
    if (reactor->stopping_since_ms == 0)
        return atomic_load(&cluster->stop);
    if (!reactor->all_drained)
        return atomic_load(&cluster->drained) == cluster->size;
    return shard_idle(reactor->shard); /* then there is no further turn */
}

static void reactor_drain_wake(struct reactor *reactor)
{
    uint64_t count;
    if (reactor->woken != 0 && read(reactor->wake_fd, &count, sizeof(count)) == sizeof(count))
        reactor->woken -= count;
}

/*
 * The one place where a reactor sleeps. No wake-up is lost:
 *
 *     sleeper: (1) sleeping = 1   (fence)   (2) look at the rings and the stop flag   (3) poll
 *     waker:   (4) push / set stop   (fence)   (5) if sleeping: exchange it to 0 and write the fd
 *
 * Both fences are sequentially consistent, so (2) and (5) cannot both miss the other side's
 * earlier store: if (2) does not see the push of (4), then (5) sees the 1 of (1), and the eventfd
 * is written. It is level-triggered, so the poll of (3) returns even if the write came before it.
 * The exchange makes one write for each sleep. A sleeper that comes back finds sleeping == 0 if
 * somebody has taken it, and then reads the eventfd, now or (if the write is still under way) in
 * one of its next turns, which the readable fd brings about. `woken` counts those writes: one that
 * is late is still read when a later one has come before it. No time-out is needed.
 */
static void reactor_sleep(struct reactor *reactor, int wait_ms)
{
    const struct reactor_frontend_ops *ops = reactor->cluster->options.frontend;
    if (wait_ms != 0) {
        atomic_store(&reactor->sleeping, 1);
        atomic_thread_fence(memory_order_seq_cst);
        if (reactor_pending(reactor))
            wait_ms = 0;
        else
            count(&reactor->sleeps);
        ops->poll(reactor->frontend, wait_ms);
        if (atomic_exchange(&reactor->sleeping, 0) == 0)
            reactor->woken++;
    } else {
        ops->poll(reactor->frontend, 0);
    }
    reactor_drain_wake(reactor);
}

/* ---- the turn */

static int wait_shorter(int a, int b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return a < b ? a : b;
}

static int64_t reactor_grace_left_ms(const struct reactor *reactor)
{
    int64_t end_ms = reactor->stopping_since_ms + reactor->cluster->options.grace_ms;
    return end_ms > reactor->now_ms ? end_ms - reactor->now_ms : 0;
}

/* Whether the frontend has nothing left, or no time; the last one to say so wakes all. */
static void reactor_look_drained(struct reactor *reactor)
{
    struct cluster *cluster = reactor->cluster;
    bool out_of_grace =
        reactor_grace_left_ms(reactor) == 0 || atomic_load(&cluster->failed) != NULL;
    if (!reactor->drained &&
        (out_of_grace || cluster->options.frontend->drained(reactor->frontend))) {
        reactor->drained = true;
        if (atomic_fetch_add(&cluster->drained, 1) + 1 == cluster->size) {
            for (unsigned i = 0; i < cluster->size; i++)
                reactor_wake(&cluster->reactors[i]);
        }
    }
}

static void reactor_turn(struct reactor *reactor)
{
    struct cluster *cluster = reactor->cluster;
    const struct reactor_frontend_ops *ops = cluster->options.frontend;
    count(&reactor->turns);
    reactor_read_clocks(reactor);
    bool more = shard_turn(reactor->shard, reactor->now_ms, reactor->wall_ms);
    reactor->io->ops->submit(reactor->io);
    if (reactor->io->ops->reap(reactor->io) != 0) {
        shard_commit(reactor->shard);
        reactor->io->ops->submit(reactor->io);
        more = more || reactor->shard->stalled != NULL; /* there may be room now */
    }
    if (atomic_load_explicit(&cluster->failed, memory_order_relaxed) != NULL)
        (void)eventfd_write(cluster->failure_fd, 1); /* a full one has been heard already */
    int wait = ops->work(reactor->frontend);
    wait = wait_shorter(wait, shard_tick(reactor->shard));
    if (reactor->stopping_since_ms != 0 && !reactor->drained) {
        reactor_look_drained(reactor); /* its work may have done the last of it */
        wait = wait_shorter(wait, (int)reactor_grace_left_ms(reactor));
    }
    reactor_wake_others(reactor);
    if (more || reactor_pending(reactor))
        wait = 0;
    reactor_sleep(reactor, wait);
}

/* After everyone is told to stop: turns go on until all frontends have drained and our shard has
 * nothing left. True: this reactor may end. */
static bool reactor_finished(struct reactor *reactor)
{
    struct cluster *cluster = reactor->cluster;
    if (!atomic_load(&cluster->stop))
        return false;
    if (reactor->stopping_since_ms == 0)
        reactor->stopping_since_ms = reactor->now_ms;
    reactor_look_drained(reactor);
    reactor->all_drained = atomic_load(&cluster->drained) == cluster->size;
    return reactor->all_drained && shard_idle(reactor->shard);
}

/* ---- a reactor's life */

/* Tells how a step of the start went, and waits until all have told it. False: one has failed. */
static bool reactor_meet(struct cluster *cluster, int result, const char *error)
{
    pthread_mutex_lock(&cluster->mutex);
    if (result != 0 && cluster->result == 0) {
        cluster->result = result;
        snprintf(cluster->error, sizeof(cluster->error), "%s", error);
    }
    unsigned step = cluster->met / cluster->size;
    cluster->met++;
    pthread_cond_broadcast(&cluster->changed);
    while (cluster->met < (step + 1) * cluster->size)
        pthread_cond_wait(&cluster->changed, &cluster->mutex);
    bool good = cluster->result == 0;
    pthread_mutex_unlock(&cluster->mutex);
    return good;
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
    unsigned arena;
    size_t size = sizeof(arena);
    if (mallctl("arenas.create", &arena, &size, NULL, 0) == 0)
        mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena));
#endif
}

static int reactor_recover(struct reactor *reactor, char *error, size_t error_size)
{
    struct cluster *cluster = reactor->cluster;
    reactor_pin(reactor);
    int result = io_new(cluster->options.io, &reactor->io);
    if (result != 0) {
        snprintf(error, error_size, "cannot use %s here: %s",
                 cluster->options.io == IO_URING ? "io_uring" : "the helper threads' io",
                 strerror(-result));
        return result;
    }
    struct shard_options options = {
        .number = reactor->number,
        .dir = cluster->dir,
        .io = reactor->io,
        .limits = &cluster->options.limits,
        .failed = &cluster->failed,
        .full = &cluster->full,
    };
    return shard_new(&options, &reactor->shard, error, error_size);
}

static int reactor_start(struct reactor *reactor, char *error, size_t error_size)
{
    struct cluster *cluster = reactor->cluster;
    int result = shard_open(reactor->shard, cluster->options.durability, error, error_size);
    if (result != 0)
        return result;
    for (unsigned f = 0; f < cluster->size; f++) {
        reactor->shard->requests[f] = ring_to_shard(cluster, f, reactor->number);
        reactor->shard->replies[f] = ring_to_frontend(cluster, reactor->number, f);
    }
    reactor_read_clocks(reactor);
    const struct reactor_frontend_ops *ops = cluster->options.frontend;
    reactor->frontend =
        ops->start(ops->ctx, reactor, &reactor->mailbox, reactor->wake_fd, reactor->io->fd);
    if (reactor->frontend == NULL) {
        snprintf(error, error_size, "the frontend of reactor %u did not start", reactor->number);
        return -EIO;
    }
    return 0;
}

static void *reactor_run(void *argument)
{
    struct reactor *reactor = argument;
    struct cluster *cluster = reactor->cluster;
    char error[512] = "";
    /* No log is written before every shard has read all of them, nobody serves before all can. */
    if (reactor_meet(cluster, reactor_recover(reactor, error, sizeof(error)), error) &&
        reactor_meet(cluster, reactor_start(reactor, error, sizeof(error)), error)) {
        while (!reactor_finished(reactor))
            reactor_turn(reactor);
    }
    if (reactor->frontend != NULL)
        cluster->options.frontend->stop(reactor->frontend);
    if (reactor->shard != NULL)
        shard_free(reactor->shard);
    if (reactor->io != NULL)
        reactor->io->ops->free(reactor->io);
    request_free_spares();
    return NULL;
}

/* ---- the cluster */

static void cluster_free(struct cluster *cluster)
{
    if (cluster->dir != NULL)
        datadir_close(cluster->dir, atomic_load(&cluster->failed) == NULL && cluster->result == 0);
    for (unsigned i = 0; i < cluster->size * cluster->size; i++) {
        ring_free(&cluster->to_shard[i]);
        ring_free(&cluster->to_frontend[i]);
    }
    for (unsigned i = 0; i < cluster->size; i++)
        close(cluster->reactors[i].wake_fd);
    close(cluster->failure_fd);
    free((char *)(uintptr_t)atomic_load(&cluster->failed));
    free(cluster->to_shard);
    free(cluster->to_frontend);
    free(cluster->reactors);
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

/* Zeroed, and each on cache lines of its own. */
static void *cluster_array(size_t n, size_t size)
{
    void *p = aligned_alloc(CACHE_LINE_BYTES, n * size);
    assert(p != NULL);
    return memset(p, 0, n * size);
}

static struct cluster *cluster_new(const struct cluster_options *options)
{
    struct cluster *cluster = mem_alloc(sizeof(*cluster));
    memset(cluster, 0, sizeof(*cluster));
    unsigned n = options->shards;
    cluster->options = *options;
    cluster->size = n;
    cluster->reactors = cluster_array(n, sizeof(struct reactor));
    cluster->to_shard = cluster_array((size_t)n * n, sizeof(struct ring));
    cluster->to_frontend = cluster_array((size_t)n * n, sizeof(struct ring));
    for (unsigned i = 0; i < n * n; i++) {
        ring_init(&cluster->to_shard[i], REQUEST_RING_ITEMS);
        ring_init(&cluster->to_frontend[i], REPLY_RING_ITEMS);
    }
    cluster->failure_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert(cluster->failure_fd >= 0);
    pthread_mutex_init(&cluster->mutex, NULL);
    pthread_cond_init(&cluster->changed, NULL);
    for (unsigned i = 0; i < n; i++) {
        struct reactor *reactor = &cluster->reactors[i];
        reactor->cluster = cluster;
        reactor->number = i;
        reactor->cpu = cluster_cpu(i);
        reactor->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        assert(reactor->wake_fd >= 0);
        reactor->mailbox = (struct mailbox){.cluster = cluster, .number = i};
        for (unsigned s = 0; s < n; s++)
            reactor->mailbox.credits[s] = REPLY_CREDITS;
    }
    return cluster;
}

static int cluster_open_directory(struct cluster *cluster, char *error, size_t error_size)
{
    struct datadir_options options = {
        .path = cluster->options.data,
        .shards = cluster->size,
        .segment_bytes = cluster->options.segment_bytes,
        .relaxed = cluster->options.durability == LOG_RELAXED,
    };
    uint64_t torn_bytes = 0;
    int result = datadir_open(&options, &cluster->dir, error, error_size);
    if (result == 0)
        result = log_clean_tails(cluster->dir, &torn_bytes, error, error_size);
    if (result == 0 && torn_bytes != 0)
        fprintf(stderr,
                "atoll: %s: cut %llu bytes of a batch that was never finished (nothing in it was "
                "acknowledged)\n",
                options.path, (unsigned long long)torn_bytes);
    return result;
}

int cluster_start(const struct cluster_options *options, struct cluster **made, char *error,
                  size_t error_size)
{
    assert(options->shards >= 1 && options->shards <= DATADIR_SHARDS_MAX);
    struct cluster *cluster = cluster_new(options);
    cluster->result = cluster_open_directory(cluster, error, error_size);
    if (cluster->result == 0) {
        for (unsigned i = 0; i < cluster->size; i++) {
            struct reactor *reactor = &cluster->reactors[i];
            int failed = pthread_create(&reactor->thread, NULL, reactor_run, reactor);
            assert(failed == 0);
        }
        pthread_mutex_lock(&cluster->mutex);
        while (cluster->met < START_STEPS * cluster->size &&
               !(cluster->result != 0 && cluster->met >= cluster->size))
            pthread_cond_wait(&cluster->changed, &cluster->mutex);
        int result = cluster->result;
        pthread_mutex_unlock(&cluster->mutex);
        if (result == 0) {
            *made = cluster;
            return 0;
        }
        for (unsigned i = 0; i < cluster->size; i++)
            pthread_join(cluster->reactors[i].thread, NULL);
        snprintf(error, error_size, "%s", cluster->error);
    }
    int result = cluster->result;
    cluster_free(cluster);
    return result;
}

void cluster_stop(struct cluster *cluster)
{
    atomic_store(&cluster->stop, true);
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < cluster->size; i++)
        reactor_wake(&cluster->reactors[i]);
}

int cluster_join(struct cluster *cluster)
{
    for (unsigned i = 0; i < cluster->size; i++)
        pthread_join(cluster->reactors[i].thread, NULL);
    const char *failed = atomic_load(&cluster->failed);
    if (failed != NULL)
        fprintf(stderr, "atoll: %s; the next start recovers what was acknowledged\n", failed);
    int status = failed != NULL;
    cluster_free(cluster);
    return status;
}

const char *cluster_failed(const struct cluster *cluster)
{
    return atomic_load(&cluster->failed);
}

bool cluster_full(const struct cluster *cluster)
{
    return atomic_load_explicit(&cluster->full, memory_order_relaxed) != 0;
}

int cluster_failure_fd(const struct cluster *cluster)
{
    return cluster->failure_fd;
}

unsigned cluster_size(const struct cluster *cluster)
{
    return cluster->size;
}

const char *cluster_io_name(const struct cluster *cluster)
{
    return cluster->reactors[0].io->ops->name;
}

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

bool reactor_stopping(const struct reactor *reactor)
{
    return reactor->stopping_since_ms != 0;
}

int64_t reactor_now_ms(const struct reactor *reactor)
{
    return reactor->now_ms;
}

int64_t reactor_wall_ms(const struct reactor *reactor)
{
    return reactor->wall_ms;
}

struct reactor_figures cluster_reactor_figures(const struct cluster *cluster, unsigned number)
{
    const struct reactor *reactor = &cluster->reactors[number];
    return (struct reactor_figures){
        .turns = atomic_load_explicit(&reactor->turns, memory_order_relaxed),
        .sleeps = atomic_load_explicit(&reactor->sleeps, memory_order_relaxed),
        .wakeups = atomic_load_explicit(&reactor->wakeups, memory_order_relaxed),
    };
}
