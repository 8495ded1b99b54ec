#include "tests/instructions/house.h"

#include "shards/cluster_internal.h"

#include <stdarg.h>
#include <sys/time.h>
#include <time.h>

enum { SEGMENT_BYTES = 64 << 20 }; /* all that is counted is in the first */

static struct scratch *in_use; /* NULL: none is */

void house_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("instructions: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    if (in_use != NULL)
        scratch_remove(in_use);
    exit(1);
}

/* ---- the clock, which only turns move */

static int64_t clock_ms;

int clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = (struct timespec){.tv_sec = clock_ms / 1000, .tv_nsec = clock_ms % 1000 * 1000000};
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    *now = (struct timeval){.tv_sec = clock_ms / 1000, .tv_usec = clock_ms % 1000 * 1000};
    return 0;
}

/* ---- requests */

/* As the server does: the session of the path is that of a session.create. */
static void name_session(struct request *request)
{
    for (uint32_t i = 0; i < request->commands_n; i++) {
        struct request_command *item = &request->commands[i];
        if (item->bad != NULL)
            house_fail("command %u is bad: %s", i, item->bad->detail);
        if (item->command.type == CORE_SESSION_CREATE) {
            item->command.f.session = request->session;
            item->command.f.given |= UINT64_C(1) << CORE_FIELD_SESSION;
        }
    }
}

struct request *house_decode(struct decoder *decoder, struct str id, struct str body)
{
    struct core_refusal why;
    struct request *request = request_new();
    request->kind = REQUEST_COMMANDS;
    request->session = arena_copy(&request->arena, id);
    request->caller = STR("");
    if (decode_commands(decoder, body, false, request, &why) != 0)
        house_fail("the body is refused: %s", why.detail);
    return request;
}

static struct str session_name(char name[24], unsigned number)
{
    int n = snprintf(name, 24, "bench%u", number);
    return (struct str){name, (size_t)n};
}

struct request *house_request(struct house *house, unsigned number, struct str body)
{
    char name[24];
    struct request *request = house_decode(house->decoder, session_name(name, number), body);
    name_session(request);
    return request;
}

/* ---- turning */

static void on_reply(void *ctx, struct request *request)
{
    struct house *house = ctx;
    if (request->error != 0)
        house_fail("refused: %s", request->refusal.detail);
    house->answers++;
    request_free(request);
}

static void on_frame(void *ctx, uint64_t feed, struct frame *frame)
{
    struct house *house = ctx;
    (void)feed;
    house->frames++;
    frame_release(frame);
}

static void on_notice(void *ctx, uint64_t feed, enum mailbox_notice notice)
{
    (void)ctx;
    house_fail("feed %llu was told %d, which nothing here leads to", (unsigned long long)feed,
               (int)notice);
}

bool house_turn_shard(struct house *house)
{
    struct io *io = io_fake_io(house->fake);
    clock_ms = ++house->now_ms;
    house->reactor->now_ms = house->reactor->wall_ms = house->now_ms;
    bool more = shard_turn(house->shard, house->now_ms, house->now_ms);
    io->ops->submit(io);
    while (io->ops->reap(io) != 0) {
        shard_commit(house->shard);
        io->ops->submit(io);
    }
    house->mailbox.wake = house->shard->wake = 0; /* everybody is here */
    return more;
}

void house_turn(struct house *house, struct request **requests, unsigned n)
{
    const struct mailbox_handlers handlers = {
        .ctx = house, .on_reply = on_reply, .on_frame = on_frame, .on_notice = on_notice};
    uint32_t answers = house->answers;
    for (unsigned i = 0; i < n; i++) {
        if (mailbox_send(&house->mailbox, requests[i]) != 0)
            house_fail("the ring is full");
    }
    bool more = house_turn_shard(house);
    mailbox_drain(&house->mailbox, &handlers, UINT32_MAX);
    if (more || house->answers != answers + n)
        house_fail("%u of %u requests were answered in one turn", house->answers - answers, n);
}

/* Until nothing is left of what may take more than a turn. */
static void settle(struct house *house)
{
    do {
        house_turn(house, NULL, 0);
    } while (!shard_idle(house->shard));
}

/* ---- beginning and end */

static const struct fs_ops *own_fs_ops;

static int same_random(struct fs *fs, void *p, size_t n)
{
    (void)fs;
    memset(p, 0x5a, n);
    return 0;
}

/* A log writes directly, as on most disks, whatever the file system here can do. */
static int always_direct(struct fs *fs, const char *name, enum fs_open how)
{
    return own_fs_ops->open(fs, name, how == FS_DIRECT ? FS_WRITE : how);
}

static int open_directory(struct house *house, char *error, size_t error_size)
{
    static struct fs_ops without_chance;
    struct datadir_options options = {.shards = 1, .segment_bytes = SEGMENT_BYTES};
    uint64_t torn_bytes = 0;
    scratch_make(&house->scratch, false);
    in_use = &house->scratch;
    int result = fs_posix_open(house->scratch.path, true, &options.fs, error, error_size);
    if (result != 0)
        return result;
    own_fs_ops = options.fs->ops;
    without_chance = *own_fs_ops;
    without_chance.random = same_random;
    without_chance.open = always_direct;
    options.fs->ops = &without_chance;
    result = datadir_open(&options, &house->dir, error, error_size);
    return result != 0 ? result : log_clean_tails(house->dir, &torn_bytes, error, error_size);
}

static struct reactor *make_reactor(struct house *house)
{
    struct cluster *cluster = mem_alloc(sizeof(*cluster));
    struct reactor *reactor = aligned_alloc(_Alignof(struct reactor), sizeof(*reactor));
    assert(reactor != NULL);
    *cluster = (struct cluster){.size = 1, .reactors = reactor, .dir = house->dir};
    *reactor = (struct reactor){.cluster = cluster, .cpu = -1, .phase = PHASE_SERVE};
    return reactor;
}

static int open_shard(struct house *house, char *error, size_t error_size)
{
    static struct shard_settings settings;
    settings = shard_settings_default;
    settings.idle_passivate_ms = 0; /* nobody stays away */
    struct shard_options options = {
        .number = 0,
        .dir = house->dir,
        .io = io_fake_io(house->fake),
        .limits = &house->limits,
        .settings = &settings,
        .failed = &house->failed,
        .full = &house->full,
    };
    int result = shard_new(&options, &house->shard, error, error_size);
    if (result == 0)
        result = datadir_begin_generation(house->dir, NULL, NULL);
    if (result != 0)
        return result;
    house->rings = rings_new(1, datadir_hash_key(house->dir));
    mailbox_init(&house->mailbox, house->rings, 0);
    rings_attach_shard(house->rings, house->shard);
    house->shard->mailbox = &house->mailbox;
    return shard_open(house->shard, LOG_COMMIT, error, error_size);
}

static void follow(struct house *house, unsigned number)
{
    char name[24];
    struct request *request = request_new();
    request->kind = REQUEST_FOLLOW;
    request->session = arena_copy(&request->arena, session_name(name, number));
    request->wants = WANTS_PATCHES;
    request->feed = number + 1;
    house_turn(house, &request, 1);
}

void house_open(struct house *house, unsigned sessions, bool followed)
{
    char error[512] = "";
    *house = (struct house){.limits = core_limits_default};
    house->now_ms = INT64_C(1767323045678); /* 2026-01-02T03:04:05.678Z */
    house->decoder = decoder_new(&house->limits, 10000, 16 << 20);
    house->fake = io_fake_new();
    io_fake_set_automatic(house->fake, true);
    if (open_directory(house, error, sizeof(error)) != 0 ||
        open_shard(house, error, sizeof(error)) != 0)
        house_fail("the shard did not start: %s", error);
    house->reactor = make_reactor(house);
    settle(house);
    for (unsigned i = 0; i < sessions; i++) {
        struct request *request = house_request(house, i, STR(HOUSE_BEGINNING));
        house_turn(house, &request, 1);
        if (followed)
            follow(house, i);
    }
}

void house_close(struct house *house)
{
    settle(house);
    if (house->shard->stats.refused != 0)
        house_fail("%llu commands were refused", (unsigned long long)house->shard->stats.refused);
    shard_free(house->shard);
    free(house->reactor->cluster);
    free(house->reactor);
    io_fake_io(house->fake)->ops->free(io_fake_io(house->fake));
    rings_free(house->rings);
    datadir_close(house->dir, true);
    decoder_free(house->decoder);
    request_free_spares();
    scratch_remove(&house->scratch);
    in_use = NULL;
}
