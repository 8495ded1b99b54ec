#include "tests/unit/stage.h"

#include "tests/unit/shards_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>

/* ---- clocks: a shard's own goes on while it works, so that work is cut into slices */

static const struct io_ops *plain_ops;

static uint64_t ticking_now_ns(struct io *io)
{
    static uint64_t looks;
    return plain_ops->now_ns(io) + ++looks * 2000;
}

static struct io *ticking_io(struct io_fake *fake)
{
    static struct io_ops ticking;
    struct io *io = io_fake_io(fake);
    if (plain_ops == NULL) {
        plain_ops = io->ops;
        ticking = *plain_ops;
        ticking.now_ns = ticking_now_ns;
    }
    io->ops = &ticking;
    return io;
}

/* ---- the directory */

const char *stage_path(const struct stage *stage)
{
    char name[32];
    snprintf(name, sizeof(name), "data%u", stage->copies);
    return scratch_file(&stage->scratch, name);
}

static void copy_file(const char *from, const char *to)
{
    struct buf bytes = file_read(from);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.p, 1, bytes.n, f), bytes.n);
    assert_int_equal(fclose(f), 0);
    buf_free(&bytes);
}

/* As it is now, to a directory that the next start takes. */
static void copy_directory(struct stage *stage)
{
    char from[160];
    snprintf(from, sizeof(from), "%s", stage_path(stage));
    stage->copies++;
    assert_int_equal(mkdir(stage_path(stage), 0700), 0);
    DIR *dir = opendir(from);
    assert_non_null(dir);
    for (struct dirent *at; (at = readdir(dir)) != NULL;) {
        char path[512], to[512];
        snprintf(path, sizeof(path), "%s/%s", from, at->d_name);
        snprintf(to, sizeof(to), "%s/%s", stage_path(stage), at->d_name);
        if (at->d_name[0] != '.')
            copy_file(path, to);
    }
    closedir(dir);
}

static bool file_holds(const char *path, const char *bytes)
{
    struct buf b = file_read(path);
    bool found = b.n != 0 && memmem(b.p, b.n, bytes, strlen(bytes)) != NULL;
    buf_free(&b);
    return found;
}

bool stage_finds(const struct stage *stage, const char *bytes)
{
    DIR *dir = opendir(stage_path(stage));
    assert_non_null(dir);
    bool found = false;
    for (struct dirent *at; !found && (at = readdir(dir)) != NULL;) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", stage_path(stage), at->d_name);
        found = at->d_name[0] != '.' && file_holds(path, bytes);
    }
    closedir(dir);
    return found;
}

unsigned stage_files(const struct stage *stage, const char *prefix)
{
    DIR *dir = opendir(stage_path(stage));
    assert_non_null(dir);
    unsigned n = 0;
    for (struct dirent *at; (at = readdir(dir)) != NULL;)
        n += strncmp(at->d_name, prefix, strlen(prefix)) == 0;
    closedir(dir);
    return n;
}

/* ---- start */

static int open_directory(struct stage *stage, char *error, size_t error_size)
{
    struct datadir_options options = {.shards = stage->n, .segment_bytes = stage->segment_bytes};
    uint64_t torn_bytes = 0;
    int result = fs_posix_open(stage_path(stage), true, &options.fs, error, error_size);
    if (result == 0)
        result = datadir_open(&options, &stage->dir, error, error_size);
    if (result == 0)
        result = log_clean_tails(stage->dir, &torn_bytes, error, error_size);
    return result;
}

static int recover(struct stage *stage, char *error, size_t error_size)
{
    int result = 0;
    for (unsigned i = 0; i < stage->n && result == 0; i++) {
        stage->fakes[i] = io_fake_new();
        io_fake_set_automatic(stage->fakes[i], true);
        struct shard_options options = {
            .number = i,
            .dir = stage->dir,
            .io = ticking_io(stage->fakes[i]),
            .limits = &stage->limits,
            .settings = &stage->settings,
            .failed = &stage->failed,
            .full = &stage->full,
            .courier = stage->courier,
        };
        result = shard_new(&options, &stage->shards[i], error, error_size);
    }
    return result;
}

static int begin_generation(struct stage *stage, char *error, size_t error_size)
{
    struct datadir_checkpoint checkpoints[STAGE_SHARDS_MAX];
    int fds[STAGE_SHARDS_MAX];
    bool is_new = datadir_recover_shards(stage->dir) == 0;
    int result = 0;
    for (unsigned i = 0; i < stage->n && result == 0 && !is_new; i++)
        result = shard_write_first_checkpoint(stage->shards[i], &checkpoints[i], &fds[i], error,
                                              error_size);
    if (result == 0)
        result =
            datadir_begin_generation(stage->dir, is_new ? NULL : checkpoints, is_new ? NULL : fds);
    return result;
}

static int open_shards(struct stage *stage, char *error, size_t error_size)
{
    int result = 0;
    stage->rings = rings_new(stage->n, datadir_hash_key(stage->dir));
    for (unsigned i = 0; i < stage->n && result == 0; i++) {
        struct shard *shard = stage->shards[i];
        mailbox_init(&stage->mailboxes[i], stage->rings, i);
        rings_attach_shard(stage->rings, shard);
        shard->frontends = stage->n;
        shard->mailbox = &stage->mailboxes[i];
        shard->now_ms = stage->now_ms;
        shard->wall_ms = stage->wall_ms;
        result = shard_open(shard, LOG_COMMIT, error, error_size);
    }
    return result;
}

int stage_try_start(struct stage *stage, char *error, size_t error_size)
{
    int result = open_directory(stage, error, error_size);
    if (result == 0)
        result = recover(stage, error, error_size);
    if (result == 0 && datadir_recover_shards(stage->dir) != stage->n)
        result = begin_generation(stage, error, error_size);
    if (result == 0)
        shards_settle(stage->shards, stage->n);
    if (result == 0)
        result = open_shards(stage, error, error_size);
    return result;
}

void stage_start(struct stage *stage)
{
    char error[512] = "";
    if (stage_try_start(stage, error, sizeof(error)) != 0)
        fail_msg("the shards did not start: %s", error);
}

void stage_prepare(struct stage *stage, unsigned shards)
{
    *stage = (struct stage){
        .n = shards,
        .limits = core_limits_default,
        .settings = shard_settings_default,
        .segment_bytes = 64 * 1024,
        .now_ms = 1000 * 1000,
        .wall_ms = INT64_C(1767323045678),
    };
    stage->settings.snapshot_bytes = 2000;
    stage->settings.checkpoint_bytes = 100 * 1000;
    stage->settings.compact_bytes_per_s = 0;
    scratch_make(&stage->scratch, false);
}

void stage_open(struct stage *stage, unsigned shards)
{
    stage_prepare(stage, shards);
    stage_start(stage);
}

/* ---- turns */

static void on_reply(void *ctx, struct request *request)
{
    struct ask *ask = (struct ask *)(uintptr_t)request->token;
    (void)ctx;
    if (request->kind == REQUEST_CANCEL && ask->request != request) { /* stage_cancel */
        request_free(request);
        return;
    }
    assert(ask->request == request && !ask->done);
    ask->done = true;
}

static void on_frame(void *ctx, uint64_t feed, struct frame *frame)
{
    struct watch *watch = (struct watch *)(uintptr_t)feed;
    (void)ctx;
    watch->frames++;
    for (uint32_t i = 0; i < frame->items_n; i++) {
        const struct frame_item *item = &frame->items[i];
        if (item->seq <= watch->told)
            continue;
        watch->gaps += item->seq != watch->told + 1;
        watch->told = item->seq;
        buf_add(&watch->items, frame->bytes + item->patch_offset, item->patch_size);
        buf_add_byte(&watch->items, '\n');
    }
    frame_release(frame);
}

static void on_notice(void *ctx, uint64_t feed, enum mailbox_notice notice)
{
    struct watch *watch = (struct watch *)(uintptr_t)feed;
    (void)ctx;
    watch->ended += notice == NOTICE_ENDED;
    watch->lost += notice == NOTICE_LOST;
}

static bool turn_io(struct shard *shard)
{
    struct io *io = shard->io;
    io->ops->submit(io);
    bool more = io->ops->reap(io) != 0;
    if (more) {
        shard_commit(shard);
        io->ops->submit(io);
    }
    return more;
}

bool stage_turn(struct stage *stage)
{
    static const struct mailbox_handlers handlers = {NULL, on_reply, on_frame, on_notice, NULL};
    bool more = false;
    for (unsigned i = 0; i < stage->n; i++) {
        struct shard *shard = stage->shards[i];
        more = shard_turn(shard, stage->now_ms, stage->wall_ms) || more;
        more = turn_io(shard) || more;
        more = mailbox_drain(&stage->mailboxes[i], &handlers, UINT32_MAX) != 0 || more;
        more = mailbox_send_errands(&stage->mailboxes[i]) || more;
        more = shard_pending(shard) || more;
        more = mailbox_errands(&stage->mailboxes[i]) != 0 || upkeep_busy(shard) || more;
    }
    return more;
}

static bool is_idle(const struct stage *stage)
{
    for (unsigned i = 0; i < stage->n; i++) {
        if (!shard_idle(stage->shards[i]))
            return false;
    }
    return true;
}

void stage_settle(struct stage *stage)
{
    for (unsigned turns = 0; stage_turn(stage) || !is_idle(stage); turns++) {
        if (turns == STAGE_PATIENCE)
            fail_msg("the shards do not come to rest");
    }
}

void stage_pass(struct stage *stage, int64_t ms)
{
    stage->now_ms += ms;
    stage->wall_ms += ms;
    for (unsigned i = 0; i < stage->n; i++)
        io_fake_advance_ms(stage->fakes[i], (uint64_t)ms);
    stage_settle(stage);
}

/* ---- stop */

static void stop_clean(struct stage *stage)
{
    bool stopped = false;
    stage_settle(stage);
    for (unsigned turns = 0; !stopped; turns++) {
        stopped = true;
        for (unsigned i = 0; i < stage->n; i++)
            stopped = shard_stop(stage->shards[i], 60000) && stopped;
        stage_turn(stage);
        assert_in_range(turns, 0, STAGE_PATIENCE);
    }
    stage_settle(stage);
    for (unsigned i = 0; i < stage->n; i++)
        assert_true(shard_stopped_clean(stage->shards[i]));
}

void stage_stop(struct stage *stage, enum stage_end how)
{
    if (stage->dir == NULL)
        return;
    if (how == STAGE_CRASH)
        copy_directory(stage); /* what is done to the old one from here on has never happened */
    if (how == STAGE_CLEAN)
        stop_clean(stage);
    else
        stage_settle(stage);
    for (unsigned i = 0; i < stage->n; i++) {
        struct io *io = io_fake_io(stage->fakes[i]);
        shard_free(stage->shards[i]);
        io->ops->free(io);
        stage->shards[i] = NULL;
    }
    rings_free(stage->rings);
    datadir_close(stage->dir, how == STAGE_CLEAN);
    stage->dir = NULL;
}

void stage_restart(struct stage *stage, unsigned shards, enum stage_end how)
{
    stage_stop(stage, how);
    stage->n = shards;
    stage_start(stage);
}

void stage_close(struct stage *stage)
{
    stage_stop(stage, STAGE_CLEAN);
    scratch_remove(&stage->scratch);
    request_free_spares();
}

/* ---- requests */

struct ask *stage_send(struct stage *stage, struct request *request)
{
    struct ask *ask = mem_alloc(sizeof(*ask));
    *ask = (struct ask){.request = request};
    request->token = (uint64_t)(uintptr_t)ask;
    bool anywhere = request->session.p == NULL;
    int sent = anywhere ? mailbox_send_to(&stage->mailboxes[0], request, request->shard)
                        : mailbox_send(&stage->mailboxes[0], request);
    assert_int_equal(sent, 0);
    return ask;
}

struct request *stage_await(struct stage *stage, struct ask *ask)
{
    struct request *request = ask->request;
    for (unsigned turns = 0; !ask->done; turns++) {
        stage_turn(stage);
        if (turns == STAGE_PATIENCE)
            fail_msg("a request of kind %d is not answered", (int)request->kind);
    }
    free(ask);
    return request;
}

struct request *stage_cancel(struct stage *stage, struct ask *ask)
{
    struct request *request = request_for(REQUEST_CANCEL, NULL);
    request->session = ask->request->session;
    request->token = ask->request->token;
    unsigned shard = ask->request->shard;
    assert_int_equal(mailbox_send_to(&stage->mailboxes[0], request, shard), 0);
    return stage_await(stage, ask);
}

struct request *stage_ask(struct stage *stage, struct request *request)
{
    return stage_await(stage, stage_send(stage, request));
}

struct request *stage_ask_well(struct stage *stage, struct request *request)
{
    stage_ask(stage, request);
    if (request->error != 0)
        fail_msg("request of kind %d for %.*s: error %u: %s", (int)request->kind,
                 (int)request->session.n, request->session.n != 0 ? request->session.p : "",
                 request->error, request->refusal.detail);
    return request;
}

void stage_expect_refused(struct stage *stage, struct request *request, unsigned error)
{
    stage_ask(stage, request);
    if (request->error != error)
        fail_msg("error %u (%s), not %u", request->error,
                 request->error != 0 ? request->refusal.detail : "none", error);
    assert_int_equal(request->body.n, 0);
    assert_int_not_equal(strlen(request->refusal.detail), 0);
    request_free(request);
}

const char *stage_text(struct request *request)
{
    *buf_reserve(&request->body, 1) = '\0';
    return request->body.p;
}

struct shard *stage_shard_of(struct stage *stage, const char *session)
{
    return stage->shards[entry_hash(stage->shards[0], str_of(session)) % stage->n];
}

bool stage_is_active(struct stage *stage, const char *session)
{
    return session_find(stage_shard_of(stage, session), str_of(session)) != NULL;
}

void stage_passivate(struct stage *stage)
{
    stage_settle(stage);
    for (unsigned i = 0; i < stage->n; i++) {
        struct shard *shard = stage->shards[i];
        struct session *at, *next;
        TAILQ_FOREACH_SAFE(at, &shard->by_use, by_use, next)
        session_passivate(shard, at);
    }
}

struct request *stage_command(const char *session, const char *line)
{
    struct request *request = request_for(REQUEST_COMMANDS, session);
    request_add(request, line);
    return request;
}

uint64_t stage_do(struct stage *stage, const char *session, const char *line)
{
    struct request *request = stage_ask(stage, stage_command(session, line));
    if (request->error != 0)
        fail_msg("%s: %.100s: %s", session, line, request->refusal.detail);
    uint64_t seq = request->seq;
    request_free(request);
    return seq;
}

void stage_populate(struct stage *stage, const char *session)
{
    stage_do(stage, session, "session.create");
    stage_do(stage, session, "agent.register agent=ada");
    stage_do(stage, session, "agent.register agent=bob");
    uint64_t seq = stage_do(stage, session,
                            "thread.create creator=ada name=G participants=bob thread=general");
    assert_int_equal(seq, 4);
}

void stage_talk(struct stage *stage, const char *session, unsigned n, unsigned bytes)
{
    char *line = NULL;
    for (unsigned i = 0; i < n; i++) {
        int made = asprintf(&line, "message.send thread=general sender=%s content=%0*u",
                            i % 2 == 0 ? "ada" : "bob", (int)bytes, i);
        assert_true(made > 0);
        stage_do(stage, session, line);
        free(line);
    }
}

void stage_delete(struct stage *stage, const char *session)
{
    request_free(stage_ask_well(stage, request_for(REQUEST_DELETE, session)));
}

struct request *stage_fork_request(const char *parent, uint64_t at, const char *child)
{
    struct request *request = request_for(REQUEST_FORK, child);
    request->parent = request_text(request, parent);
    request->at = (struct request_at){.given = true, .seq = at};
    return request;
}

void stage_fork(struct stage *stage, const char *parent, uint64_t at, const char *child)
{
    struct request *request = stage_ask_well(stage, stage_fork_request(parent, at, child));
    assert_false(request->again);
    request_free(request);
}

static char *body_or_404(struct stage *stage, struct request *request)
{
    char *text = NULL;
    stage_ask(stage, request);
    if (request->error == 0)
        text = strdup(stage_text(request));
    else if (request->error != CORE_E_UNKNOWN_SESSION)
        fail_msg("%.*s: error %u: %s", (int)request->session.n, request->session.p, request->error,
                 request->refusal.detail);
    request_free(request);
    return text;
}

char *stage_view(struct stage *stage, const char *session)
{
    return body_or_404(stage, request_for(REQUEST_VIEW, session));
}

static struct request *at_request(enum request_kind kind, const char *session, uint64_t seq)
{
    struct request *request = request_for(kind, session);
    request->at = (struct request_at){.given = seq != 0, .seq = seq};
    return request;
}

char *stage_view_at(struct stage *stage, const char *session, uint64_t seq)
{
    return body_or_404(stage, at_request(REQUEST_VIEW, session, seq));
}

char *stage_proof(struct stage *stage, const char *session, uint64_t seq)
{
    return body_or_404(stage, at_request(REQUEST_PROOF, session, seq));
}

void stage_expect_view(struct stage *stage, const char *session, const char *expected)
{
    char *view = stage_view(stage, session);
    assert_non_null(view);
    assert_string_equal(view, expected);
    free(view);
}

uint64_t stage_figure(struct stage *stage, const char *name)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < stage->n; i++) {
        struct request *request = request_for(REQUEST_STATUS, NULL);
        request->shard = (uint16_t)i;
        stage_ask_well(stage, request);
        json_t *tree = json_of(stage_text(request));
        json_t *found = json_object_get(tree, name);
        if (found == NULL)
            fail_msg("there is no figure \"%s\"", name);
        sum += (uint64_t)json_integer_value(found);
        json_decref(tree);
        request_free(request);
    }
    return sum;
}

/* ---- JSON */

json_t *json_of_text(struct str text)
{
    json_error_t error;
    json_t *tree = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (tree == NULL)
        fail_msg("%s at %d in %.*s", error.text, error.position, (int)text.n, text.p);
    return tree;
}

json_t *json_of(const char *text)
{
    return json_of_text((struct str){text, strlen(text)});
}

void expect_json(const char *text, const char *pointer, const char *expected)
{
    json_t *tree = json_of(text);
    json_t *found = pointer_get(tree, pointer);
    char *there = found != NULL ? json_dumps(found, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (expected == NULL ? there != NULL : there == NULL || strcmp(there, expected) != 0)
        fail_msg("%s is %s, not %s, in %s", pointer, there != NULL ? there : "missing",
                 expected != NULL ? expected : "missing", text);
    free(there);
    json_decref(tree);
}

/* ---- tales */

void tale_begin(struct tale *tale, struct stage *stage, const char *session)
{
    struct buf all = {0};
    uint64_t after = 0;
    bool more = true;
    char epoch[CORE_EPOCH_BYTES + 1] = "";
    uint64_t end = 0;
    while (more) {
        struct request *request = request_for(REQUEST_EXPORT, session);
        request->after = after;
        if (after != 0)
            request->at = (struct request_at){
                .epoch = request_text(request, epoch), .seq = end, .given = true};
        stage_ask_well(stage, request);
        if (after == 0) {
            snprintf(epoch, sizeof(epoch), "%s", request->epoch);
            end = request->seq;
        }
        buf_add_str(&all, buf_str(&request->body));
        more = request->more;
        assert_true(!more || request->upto > after);
        after = request->upto;
        request_free(request);
    }
    assert_int_equal(after, end);
    buf_add_byte(&all, '\0');
    *tale = (struct tale){.limits = stage->limits, .lines = all.p, .at = all.p};
    tale->heap = (struct core_heap){counting_alloc, counting_free, &tale->heap_bytes};
    snprintf(tale->epoch, sizeof(tale->epoch), "%s", epoch);
    tale->at = strchr(tale->at, '\n') + 1; /* the head */
}

static void tale_apply(struct tale *tale, json_t *line)
{
    unsigned char bytes[65536];
    struct core_event event;
    const char *text = json_string_value(json_object_get(line, "bytes"));
    size_t n = strlen(text);
    assert_true(n / 4 * 3 < sizeof(bytes));
    int got = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)n);
    assert_true(got > 0);
    while (n != 0 && text[--n] == '=')
        got--;
    struct str in = {(const char *)bytes, (size_t)got}, whole = in;
    assert_int_equal(core_event_decode(&in, &tale->scratch, &event), 0);
    assert_int_equal(in.n, 0);
    if (tale->core == NULL) /* a fork's history begins with the id of the first of its parents */
        tale->core =
            core_session_new(&tale->heap, &tale->limits, event.f.session, str_of(tale->epoch));
    event.seq = core_session_seq(tale->core) + 1;
    assert_int_equal(json_integer_value(json_object_get(line, "seq")), event.seq);
    struct core_refusal why;
    core_begin(tale->core);
    if (core_apply(tale->core, &event, &why) != 0)
        fail_msg("seq %llu does not follow: %s", (unsigned long long)event.seq, why.detail);
    core_keep(tale->core);
    core_chain_add(&tale->chain, event.seq, whole);
    arena_reset(&tale->scratch);
}

bool tale_next(struct tale *tale)
{
    char *end = strchr(tale->at, '\n');
    if (end == NULL)
        return false;
    *end = '\0';
    json_t *line = json_of(tale->at);
    tale_apply(tale, line);
    json_decref(line);
    tale->at = end + 1;
    return true;
}

void tale_expect_view(struct tale *tale, const char *view)
{
    struct buf expected = {0};
    query_envelope(tale->core, &(struct request){0}, NULL, &expected);
    buf_add_byte(&expected, '\0');
    assert_non_null(view);
    if (strcmp(view, expected.p) != 0)
        fail_msg("the view is\n%s\nand should be\n%s", view, expected.p);
    buf_free(&expected);
}

void tale_expect_proof(struct tale *tale, const char *proof)
{
    struct buf expected = {0};
    buf_add_byte(&expected, '{');
    query_add_proof(tale->core, &tale->chain, &expected);
    buf_add(&expected, "}", 2);
    json_t *wanted = json_of(expected.p);
    json_t *tree = json_of(proof);
    assert_int_equal(json_integer_value(json_object_get(tree, "seq")),
                     core_session_seq(tale->core));
    assert_true(json_equal(json_object_get(tree, "chain"), json_object_get(wanted, "chain")));
    assert_true(
        json_equal(json_object_get(tree, "state_hash"), json_object_get(wanted, "state_hash")));
    json_decref(tree);
    json_decref(wanted);
    buf_free(&expected);
}

void tale_end(struct tale *tale)
{
    core_session_free(tale->core);
    assert_int_equal(tale->heap_bytes, 0);
    arena_free(&tale->scratch);
    free(tale->lines);
}

void stage_expect_whole(struct stage *stage, const char *session, unsigned looks)
{
    struct tale tale;
    char *now = stage_view(stage, session);
    assert_non_null(now);
    json_t *tree = json_of(now);
    uint64_t end = (uint64_t)json_integer_value(json_object_get(tree, "seq"));
    json_decref(tree);
    uint64_t step = end / looks + 1;
    tale_begin(&tale, stage, session);
    for (uint64_t seq = 1; tale_next(&tale); seq++) {
        if (seq % step != 0 && seq != end && seq != 1)
            continue;
        char *view = stage_view_at(stage, session, seq);
        char *proof = stage_proof(stage, session, seq);
        tale_expect_view(&tale, view);
        tale_expect_proof(&tale, proof);
        free(view);
        free(proof);
    }
    assert_int_equal(core_session_seq(tale.core), end);
    tale_expect_view(&tale, now);
    tale_end(&tale);
    free(now);
}

/* ---- watching */

static void take_follow(struct watch *watch, struct request *request)
{
    if (request->body.n != 0) {
        json_t *tree = json_of(stage_text(request));
        json_t *reset = json_object_get(tree, "reset");
        if (reset != NULL)
            snprintf(watch->reset, sizeof(watch->reset), "%.63s", json_string_value(reset));
        watch->told = (uint64_t)json_integer_value(json_object_get(tree, "seq"));
        watch->snapshots++;
        json_decref(tree);
    }
    if (request->frame != NULL) {
        frame_hold(request->frame);
        on_frame(NULL, (uint64_t)(uintptr_t)watch, request->frame);
    }
}

void stage_follow(struct stage *stage, struct watch *watch, const char *session, uint64_t after)
{
    uint64_t target = 0;
    bool first = true;
    *watch = (struct watch){.told = after != UINT64_MAX ? after : 0};
    while (first || watch->told < target) {
        struct request *request = request_for(REQUEST_FOLLOW, session);
        request->feed = (uint64_t)(uintptr_t)watch;
        request->wants = WANTS_PATCHES;
        request->has_after = !first || after != UINT64_MAX;
        request->after = watch->told;
        request->until = first ? 0 : target;
        stage_ask_well(stage, request);
        take_follow(watch, request);
        if (first)
            target = request->attached;
        first = false;
        request_free(request);
    }
}

void stage_unfollow(struct stage *stage, struct watch *watch, const char *session)
{
    struct request *request = request_for(REQUEST_UNFOLLOW, session);
    request->feed = (uint64_t)(uintptr_t)watch;
    request_free(stage_ask(stage, request));
}

void watch_free(struct watch *watch)
{
    buf_free(&watch->items);
}
