/*
 * reactor, cluster: the start in its phases, errands between shards, the stop, and the figures of
 * turns. Directory and shards are stand-ins that do what the test says and write down what they are
 * asked for, a letter for each: so every order of things can be had, and none takes long.
 *
 *     t  tails cleaned          n  a shard recovered         c  a first checkpoint written
 *     g  a generation begun     s  pins settled              o  a log opened
 *     e  an errand answered     x  a shard told to stop      z  the directory closed
 */
#include "tests/unit/core_fixture.h"
#include "tests/unit/shards_fixture.h"

#include "shards/mailbox_internal.h"
#include "shards/shard.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

enum { SPIN_US = 9000 };

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    char order[64];
    unsigned recovering; /* shards in shard_new */
    bool hold_recovery;
    unsigned recover_shards;
    int fail_number; /* of the shard whose recovery fails; -1: none */
    int fail_open;   /* the same for its log */
    atomic_bool hold_errands;
    struct request *held;      /* under the mutex, and shard 1's */
    bool stopped_after_errand; /* shard 0 */
    bool unclean;              /* what shard 1 says of itself at the end */
    bool closed_clean;
    pthread_t asked_on, answered_on;
    struct cluster_options options;
} fake = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void note(char letter)
{
    pthread_mutex_lock(&fake.mutex);
    size_t n = strlen(fake.order);
    assert(n + 1 < sizeof(fake.order));
    fake.order[n] = letter;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.mutex);
}

/* ---- a directory */

struct datadir {
    unsigned shards;
};

int fs_posix_open(const char *path, bool make, struct fs **fs, char *error, size_t error_size)
{
    (void)path;
    (void)make;
    (void)error;
    (void)error_size;
    *fs = NULL;
    return 0;
}

int datadir_open(const struct datadir_options *options, struct datadir **opened, char *error,
                 size_t error_size)
{
    (void)error;
    (void)error_size;
    *opened = mem_alloc(sizeof(**opened));
    **opened = (struct datadir){options->shards};
    return 0;
}

void datadir_close(struct datadir *dir, bool clean)
{
    fake.closed_clean = clean;
    note('z');
    free(dir);
}

const char *datadir_path(const struct datadir *dir)
{
    (void)dir;
    return "/data";
}

const uint8_t *datadir_hash_key(const struct datadir *dir)
{
    static const uint8_t key[DATADIR_HASH_KEY_BYTES] = "0123456789abcdef";
    (void)dir;
    return key;
}

unsigned datadir_recover_shards(const struct datadir *dir)
{
    (void)dir;
    return fake.recover_shards;
}

int datadir_begin_generation(struct datadir *dir, const struct datadir_checkpoint *checkpoints,
                             const int *fds)
{
    assert((checkpoints == NULL) == (fake.recover_shards == 0) && (fds == NULL) == !checkpoints);
    for (unsigned i = 0; fds != NULL && i < dir->shards; i++)
        assert(checkpoints[i].number == i + 1 && fds[i] == (int)i + 1000);
    note('g');
    return 0;
}

void datadir_abandon_checkpoint(struct datadir *dir, uint32_t number, int fd)
{
    (void)dir;
    (void)number;
    (void)fd;
    assert(!"every checkpoint has gone into a generation");
}

int log_clean_tails(struct datadir *dir, uint64_t *torn_bytes, char *error, size_t error_size)
{
    (void)dir;
    (void)error;
    (void)error_size;
    *torn_bytes = 0;
    note('t');
    return 0;
}

/* ---- shards */

const struct shard_settings shard_settings_default;

int shard_new(const struct shard_options *options, struct shard **made, char *error,
              size_t error_size)
{
    atomic_store(&options->progress->total, UINT64_C(617000000));
    atomic_store(&options->progress->bytes, UINT64_C(265500000));
    pthread_mutex_lock(&fake.mutex);
    fake.recovering++;
    pthread_cond_broadcast(&fake.changed);
    while (fake.hold_recovery && (int)options->number != fake.fail_number &&
           !atomic_load(options->stop))
        pthread_cond_wait(&fake.changed, &fake.mutex);
    pthread_mutex_unlock(&fake.mutex);
    if (atomic_load(options->stop))
        return -ECANCELED;
    if ((int)options->number == fake.fail_number) {
        snprintf(error, error_size, "shard %u is broken", options->number);
        return -EIO;
    }
    *made = mem_alloc(sizeof(**made));
    **made = (struct shard){.number = options->number, .frontends = fake.options.shards};
    note('n');
    return 0;
}

int shard_write_first_checkpoint(struct shard *shard, struct datadir_checkpoint *checkpoint,
                                 int *fd, char *error, size_t error_size)
{
    (void)error;
    (void)error_size;
    checkpoint->number = shard->number + 1;
    *fd = (int)shard->number + 1000;
    note('c');
    return 0;
}

void shards_settle(struct shard **shards, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert(shards[i]->number == i);
    note('s');
}

int shard_open(struct shard *shard, enum log_durability durability, char *error, size_t error_size)
{
    assert(durability == LOG_COMMIT && shard->mailbox != NULL && shard->io != NULL);
    note('o');
    if ((int)shard->number != fake.fail_open)
        return 0;
    snprintf(error, error_size, "shard %u has no log", shard->number);
    return -ENOSPC;
}

void shard_free(struct shard *shard)
{
    free(shard);
}

static void fake_reply(struct shard *shard, struct request *request)
{
    bool pushed =
        ring_push(shard->replies[request->frontend], reply_item(REPLY_REQUEST, request, 0));
    assert(pushed);
    shard->wake |= UINT64_C(1) << request->frontend;
}

static void fake_errand_back(void *owner, struct request *errand)
{
    struct shard *shard = owner;
    struct request *asked = errand->work;
    fake.answered_on = pthread_self();
    note('e');
    request_free(errand);
    if (asked != NULL)
        fake_reply(shard, asked);
}

/* To the next shard. */
static void fake_send_errand(struct shard *shard, struct request *asked)
{
    struct request *errand = request_new();
    errand->kind = REQUEST_KEEP;
    errand->shard = (uint16_t)((shard->number + 1) % fake.options.shards);
    errand->errand = fake_errand_back;
    errand->errand_owner = shard;
    errand->work = asked;
    fake.asked_on = pthread_self();
    mailbox_errand(shard->mailbox, errand);
}

static uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void fake_take(struct shard *shard, struct request *request)
{
    uint64_t begin_us = clock_us();
    switch (request->kind) {
    case REQUEST_VIEW: /* asks the next shard before it answers */
        fake_send_errand(shard, request);
        return;
    case REQUEST_PROOF: /* asks it, and does not wait */
        fake_send_errand(shard, NULL);
        fake_reply(shard, request);
        return;
    case REQUEST_KEEP:
        if (!atomic_load(&fake.hold_errands)) {
            fake_reply(shard, request);
            return;
        }
        pthread_mutex_lock(&fake.mutex);
        fake.held = request;
        pthread_cond_broadcast(&fake.changed);
        pthread_mutex_unlock(&fake.mutex);
        return;
    case REQUEST_EXPORT: /* takes long */
        while (clock_us() - begin_us < SPIN_US)
            ;
        fake_reply(shard, request);
        return;
    default:
        fake_reply(shard, request);
        return;
    }
}

bool shard_turn(struct shard *shard, int64_t now_ms, int64_t wall_ms)
{
    (void)now_ms;
    (void)wall_ms;
    if (shard->number == 1 && fake.held != NULL && !atomic_load(&fake.hold_errands)) {
        fake_reply(shard, fake.held);
        fake.held = NULL;
    }
    for (unsigned f = 0; f < shard->frontends; f++) {
        struct ring_item item;
        for (unsigned lane = 0; lane < LANES; lane++) {
            while (ring_pop(&shard->requests[f][lane], &item))
                fake_take(shard, item.p);
        }
    }
    return false;
}

void shard_commit(struct shard *shard)
{
    (void)shard;
}

int shard_tick(struct shard *shard)
{
    (void)shard;
    return -1;
}

bool shard_pending(const struct shard *shard)
{
    for (unsigned f = 0; f < shard->frontends; f++) {
        for (unsigned lane = 0; lane < LANES; lane++) {
            if (ring_ready(&shard->requests[f][lane]))
                return true;
        }
    }
    return false;
}

bool shard_idle(const struct shard *shard)
{
    return !shard_pending(shard);
}

bool shard_stop(struct shard *shard, int64_t grace_left_ms)
{
    (void)grace_left_ms;
    pthread_mutex_lock(&fake.mutex);
    if (shard->number == 0)
        fake.stopped_after_errand = strchr(fake.order, 'e') != NULL;
    pthread_mutex_unlock(&fake.mutex);
    note('x');
    return true;
}

bool shard_stopped_clean(const struct shard *shard)
{
    return !(fake.unclean && shard->number == 1);
}

/* ---- the tests */

static struct rig rig;

static void prepare(unsigned shards)
{
    rig_prepare(&rig, shards, IO_POSIX);
    memset(fake.order, 0, sizeof(fake.order));
    fake.recovering = 0;
    atomic_store(&fake.hold_errands, false);
    fake.hold_recovery = fake.unclean = fake.closed_clean = fake.stopped_after_errand = false;
    fake.recover_shards = shards;
    fake.fail_number = fake.fail_open = -1;
    fake.held = NULL;
    fake.options = rig.options;
}

static void await_recovering(unsigned n)
{
    pthread_mutex_lock(&fake.mutex);
    while (fake.recovering < n)
        pthread_cond_wait(&fake.changed, &fake.mutex);
    pthread_mutex_unlock(&fake.mutex);
}

static void release_recovery(void)
{
    pthread_mutex_lock(&fake.mutex);
    fake.hold_recovery = false;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.mutex);
}

/* Ends a cluster whose start has failed or is to be given up; its status. */
static int give_up(void)
{
    cluster_stop(rig.cluster);
    release_recovery(); /* those held look at the stop flag */
    int status = cluster_join(rig.cluster);
    rig.cluster = NULL;
    for (unsigned i = 0; i < RIG_FACES_MAX; i++) {
        free(rig.faces[i]);
        rig.faces[i] = NULL;
    }
    rig_close(&rig);
    return status;
}

/* Asks a shard by its number. */
static struct call *ask(unsigned frontend, enum request_kind kind, unsigned shard)
{
    struct call *call = call_new(&rig, frontend, request_for(kind, NULL));
    call->shard = (int)shard;
    return call_wait(call_send(call));
}

static void faces_run_while_shards_recover_and_requests_are_refused(void **state)
{
    char error[64], text[128];
    (void)state;
    prepare(2);
    fake.hold_recovery = true;
    rig_begin(&rig);
    await_recovering(2);
    assert_int_equal(cluster_state(rig.cluster, error, sizeof(error)), 0);
    cluster_tell_recovery(rig.cluster, text, sizeof(text));
    assert_string_equal(text, "recovering: 43 % of 1 234 MB of log read");
    struct call *refused = ask(1, REQUEST_STATUS, 0);
    assert_int_equal(refused->sent, -EAGAIN);
    call_free(refused);
    release_recovery();
    assert_int_equal(cluster_await(rig.cluster, error, sizeof(error)), 0);
    assert_int_equal(cluster_state(rig.cluster, error, sizeof(error)), 1);
    for (unsigned frontend = 0; frontend < 2; frontend++) {
        for (unsigned shard = 0; shard < 2; shard++) { /* at once, and each of them */
            struct call *call = ask(frontend, REQUEST_STATUS, shard);
            assert_int_equal(call->sent, 0);
            call_free(call);
        }
    }
    rig_close(&rig);
}

static void steps_of_a_start_and_an_end_come_in_order(void **state)
{
    static const struct {
        unsigned before, now;
        const char *order;
    } rows[] = {
        {1, 1, "tnsoxz"},   {2, 2, "tnnsooxxz"},  {1, 2, "tnnccgsooxxz"},
        {3, 1, "tncgsoxz"}, {0, 2, "tnngsooxxz"}, /* a new directory */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        prepare(rows[i].now);
        fake.recover_shards = rows[i].before;
        rig_start(&rig);
        rig_close(&rig);
        assert_string_equal(fake.order, rows[i].order);
        assert_true(fake.closed_clean);
    }
}

static void directory_is_clean_only_if_every_shard_is(void **state)
{
    (void)state;
    prepare(2);
    fake.unclean = true;
    rig_start(&rig);
    rig_close(&rig);
    assert_false(fake.closed_clean);
}

static void stop_ends_a_recovery_and_is_no_failure(void **state)
{
    (void)state;
    prepare(2);
    fake.hold_recovery = true;
    rig_begin(&rig);
    await_recovering(2);
    assert_int_equal(give_up(), 0);
    assert_string_equal(fake.order, "tz");
    assert_false(fake.closed_clean);
}

static void recovery_that_fails_is_told_with_its_sentence(void **state)
{
    char error[64] = "";
    uint64_t news = 0;
    (void)state;
    prepare(2);
    fake.hold_recovery = true; /* the other one is not waited for */
    fake.fail_number = 1;
    rig_begin(&rig);
    struct pollfd fd = {.fd = cluster_news_fd(rig.cluster), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 1000 * RIG_PATIENCE_S), 1);
    assert_int_equal(read(fd.fd, &news, sizeof(news)), sizeof(news));
    assert_int_equal(cluster_state(rig.cluster, error, sizeof(error)), -EIO);
    assert_int_equal(cluster_await(rig.cluster, error, sizeof(error)), -EIO);
    assert_string_equal(error, "shard 1 is broken");
    assert_int_equal(give_up(), 1);
    assert_false(fake.closed_clean);
}

static void log_that_cannot_be_opened_fails_the_start(void **state)
{
    char error[64] = "";
    (void)state;
    prepare(2);
    fake.fail_open = 0;
    rig_begin(&rig);
    assert_int_equal(cluster_await(rig.cluster, error, sizeof(error)), -ENOSPC);
    assert_string_equal(error, "shard 0 has no log");
    struct call *refused = ask(1, REQUEST_STATUS, 1);
    assert_int_equal(refused->sent, -EAGAIN);
    call_free(refused);
    assert_int_equal(give_up(), 1);
    assert_false(fake.closed_clean);
}

static void errand_is_answered_on_the_thread_that_sent_it(void **state)
{
    (void)state;
    prepare(2);
    rig_start(&rig);
    for (unsigned i = 0; i < 100; i++) {
        struct call *call = ask(i & 1, REQUEST_VIEW, i >> 1 & 1);
        assert_int_equal(call->sent, 0);
        assert_true(pthread_equal(fake.asked_on, fake.answered_on));
        memset(fake.order, 0, sizeof(fake.order));
        call_free(call);
    }
    rig_close(&rig);
}

static void run_nothing(struct face *face, struct errand *errand)
{
    rig_lock(face->rig);
    errand->done = true;
    rig_changed(face->rig);
    rig_unlock(face->rig);
}

/* Makes both reactors turn. */
static void turn_both(void)
{
    for (unsigned i = 0; i < 6; i++) {
        struct errand errand = {.run = run_nothing};
        rig_run(&rig, i & 1, &errand);
    }
}

/* Shard 0 has sent an errand, and shard 1 keeps the answer back. */
static void hold_an_errand(void)
{
    atomic_store(&fake.hold_errands, true);
    struct call *call = ask(0, REQUEST_PROOF, 0);
    assert_int_equal(call->sent, 0);
    call_free(call);
    pthread_mutex_lock(&fake.mutex);
    while (fake.held == NULL)
        pthread_cond_wait(&fake.changed, &fake.mutex);
    pthread_mutex_unlock(&fake.mutex);
}

static void stop_waits_for_errands_that_are_out(void **state)
{
    (void)state;
    prepare(2);
    rig_start(&rig);
    hold_an_errand();
    cluster_stop(rig.cluster);
    turn_both();
    atomic_store(&fake.hold_errands, false);
    struct errand wake = {.run = run_nothing};
    rig_post(&rig, 1, &wake);
    rig_close(&rig);
    assert_true(fake.stopped_after_errand);
    assert_true(fake.closed_clean);
}

static void stop_does_not_wait_beyond_the_grace(void **state)
{
    (void)state;
    prepare(2);
    rig.options.grace_ms = 0;
    rig_start(&rig);
    hold_an_errand();
    rig_close(&rig);
    assert_null(strchr(fake.order, 'e'));
    request_free(fake.held);
    request_free_spares();
}

static struct reactor_figures figures;

/* On the reactor's own thread, so in the middle of a turn. */
static void run_read_figures(struct face *face, struct errand *errand)
{
    figures = cluster_reactor_figures(face->rig->cluster, face->number);
    run_nothing(face, errand);
}

static void read_figures(void)
{
    struct errand errand = {.run = run_read_figures};
    rig_run(&rig, 0, &errand);
}

static uint64_t turns_measured(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < REACTOR_TURN_BUCKETS; i++)
        sum += figures.turn_us[i];
    return sum;
}

static void every_turn_is_measured_once(void **state)
{
    (void)state;
    prepare(2);
    rig_start(&rig);
    for (unsigned i = 0; i < 20; i++) {
        call_free(ask(0, REQUEST_STATUS, i & 1));
        read_figures();
        assert_int_equal(turns_measured(), figures.turns - 1); /* this one goes on */
    }
    rig_close(&rig);
}

static void long_turn_shows_in_the_last_bucket(void **state)
{
    (void)state;
    prepare(1);
    rig_start(&rig);
    read_figures();
    uint64_t before = figures.turn_us[REACTOR_TURN_BUCKETS - 1];
    call_free(ask(0, REQUEST_EXPORT, 0));
    read_figures(); /* this may be in the same turn, */
    read_figures(); /* and this is not */
    assert_true(figures.turn_us[REACTOR_TURN_BUCKETS - 1] > before);
    assert_true(figures.turn_longest_us >= SPIN_US);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faces_run_while_shards_recover_and_requests_are_refused),
        cmocka_unit_test(steps_of_a_start_and_an_end_come_in_order),
        cmocka_unit_test(directory_is_clean_only_if_every_shard_is),
        cmocka_unit_test(stop_ends_a_recovery_and_is_no_failure),
        cmocka_unit_test(recovery_that_fails_is_told_with_its_sentence),
        cmocka_unit_test(log_that_cannot_be_opened_fails_the_start),
        cmocka_unit_test(errand_is_answered_on_the_thread_that_sent_it),
        cmocka_unit_test(stop_waits_for_errands_that_are_out),
        cmocka_unit_test(stop_does_not_wait_beyond_the_grace),
        cmocka_unit_test(every_turn_is_measured_once),
        cmocka_unit_test(long_turn_shows_in_the_last_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
