#include "tests/unit/shards_fixture.h"

#include "tests/unit/core_fixture.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

/* ---- requests */

struct str request_text(struct request *request, const char *text)
{
    char *p = arena_alloc(&request->arena, strlen(text) + 1);
    memcpy(p, text, strlen(text) + 1);
    return str_of(p);
}

struct request *request_for(enum request_kind kind, const char *session)
{
    struct request *request = request_new();
    request->kind = kind;
    if (session != NULL)
        request->session = request_text(request, session);
    return request;
}

struct request_command *request_add(struct request *request, const char *line)
{
    uint32_t n = request->commands_n;
    if ((n & (n - 1)) == 0) { /* full: 0, 1, 2, 4, … */
        struct request_command *more =
            arena_alloc(&request->arena, (n != 0 ? 2 * n : 1) * sizeof(*more));
        if (n != 0)
            memcpy(more, request->commands, n * sizeof(*more));
        request->commands = more;
    }
    struct request_command *command = &request->commands[request->commands_n++];
    *command = (struct request_command){0};
    read_command(&request->arena, request_text(request, line).p, &command->command);
    return command;
}

/* ---- waiting */

void rig_lock(struct rig *rig)
{
    pthread_mutex_lock(&rig->mutex);
}

void rig_unlock(struct rig *rig)
{
    pthread_mutex_unlock(&rig->mutex);
}

void rig_changed(struct rig *rig)
{
    pthread_cond_broadcast(&rig->changed);
}

void rig_wait(struct rig *rig, const char *what)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += RIG_PATIENCE_S;
    if (pthread_cond_timedwait(&rig->changed, &rig->mutex, &end) == ETIMEDOUT) {
        fprintf(stderr, "waited in vain: %s\n", what);
        abort();
    }
}

/* ---- errands */

static void face_ring(struct face *face)
{
    uint64_t one = 1;
    ssize_t n = write(face->bell_fd, &one, sizeof(one));
    assert(n == sizeof(one));
}

void rig_post(struct rig *rig, unsigned frontend, struct errand *errand)
{
    struct face *face = rig->faces[frontend];
    rig_lock(rig);
    errand->next = NULL;
    errand->done = false;
    *(face->errands == NULL ? &face->errands : face->errands_tail) = errand;
    face->errands_tail = &errand->next;
    rig_unlock(rig);
    face_ring(face);
}

void rig_run(struct rig *rig, unsigned frontend, struct errand *errand)
{
    rig_post(rig, frontend, errand);
    RIG_UNTIL(rig, errand->done);
}

/* An errand is its owner's again when it is done: its run may say so itself, and free it later. */
static void face_run_errands(struct face *face)
{
    struct rig *rig = face->rig;
    rig_lock(rig);
    struct errand *errand = face->errands;
    face->errands = NULL;
    rig_unlock(rig);
    while (errand != NULL) {
        struct errand *next = errand->next;
        errand->run(face, errand);
        errand = next;
    }
}

static void errand_done(struct rig *rig, struct errand *errand)
{
    rig_lock(rig);
    errand->done = true;
    rig_changed(rig);
    rig_unlock(rig);
}

struct deafen {
    struct errand errand;
    bool deaf;
};

static void run_deafen(struct face *face, struct errand *errand)
{
    face->deaf = ((struct deafen *)errand)->deaf;
    errand_done(face->rig, errand);
}

void rig_deafen(struct rig *rig, unsigned frontend, bool deaf)
{
    struct deafen deafen = {.errand.run = run_deafen, .deaf = deaf};
    rig_run(rig, frontend, &deafen.errand);
}

static void run_linger(struct face *face, struct errand *errand)
{
    face->lingers = true;
    errand_done(face->rig, errand);
}

void rig_linger(struct rig *rig, unsigned frontend)
{
    struct errand errand = {.run = run_linger};
    rig_run(rig, frontend, &errand);
}

/* ---- calls */

struct call *call_new(struct rig *rig, unsigned frontend, struct request *request)
{
    struct call *call = mem_alloc(sizeof(*call));
    *call = (struct call){.rig = rig, .face = rig->faces[frontend], .request = request};
    call->shard = -1;
    return call;
}

struct call *call_commands(struct rig *rig, unsigned frontend, const char *session, ...)
{
    struct request *request = request_for(REQUEST_COMMANDS, session);
    va_list lines;
    va_start(lines, session);
    for (const char *line; (line = va_arg(lines, const char *)) != NULL;)
        request_add(request, line);
    va_end(lines);
    request->batch = request->commands_n > 1;
    return call_new(rig, frontend, request);
}

struct call *call_key(struct call *call, const char *key)
{
    call->request->key = request_text(call->request, key);
    call->request->caller = request_text(call->request, "tester");
    return call;
}

static void call_answered(struct call *call)
{
    if (call->then != NULL) {
        call->then(call);
        return;
    }
    rig_lock(call->rig);
    call->done = true;
    rig_changed(call->rig);
    rig_unlock(call->rig);
}

void call_send_here(struct call *call)
{
    struct face *face = call->face;
    struct request *request = call->request;
    /* A cancellation carries the token of what it cancels. */
    if (request->kind == REQUEST_CANCEL)
        request->feed = (uint64_t)(uintptr_t)call;
    else
        request->token = (uint64_t)(uintptr_t)call;
    bool waits = request->kind == REQUEST_INBOX && request->wait;
    if (waits) { /* before it is sent: then it is the shard's */
        call->wait_next = face->waits;
        face->waits = call;
    }
    call->sent = call->shard < 0 ? mailbox_send(face->mailbox, request)
                                 : mailbox_send_to(face->mailbox, request, (unsigned)call->shard);
    if (call->sent != 0) {
        if (waits)
            face->waits = call->wait_next;
        call_answered(call);
    }
}

static void run_call(struct face *face, struct errand *errand)
{
    (void)face;
    call_send_here((struct call *)errand);
}

struct call *call_send(struct call *call)
{
    call->errand.run = run_call;
    rig_post(call->rig, call->face->number, &call->errand);
    return call;
}

struct sending {
    struct errand errand;
    struct call **calls;
    unsigned n;
};

static void run_sending(struct face *face, struct errand *errand)
{
    struct sending *sending = (struct sending *)errand;
    for (unsigned i = 0; i < sending->n; i++)
        call_send_here(sending->calls[i]);
    errand_done(face->rig, errand);
}

void calls_send(struct call **calls, unsigned n)
{
    struct sending sending = {.errand.run = run_sending, .calls = calls, .n = n};
    rig_run(calls[0]->rig, calls[0]->face->number, &sending.errand);
}

struct call *call_wait(struct call *call)
{
    RIG_UNTIL(call->rig, call->done);
    return call;
}

void call_free(struct call *call)
{
    request_free(call->request);
    free(call);
}

const char *call_body(struct call *call)
{
    struct buf *body = &call->request->body;
    *buf_reserve(body, 1) = '\0';
    return body->p;
}

struct call *rig_ask(struct rig *rig, unsigned frontend, struct request *request)
{
    struct call *call = call_wait(call_send(call_new(rig, frontend, request)));
    assert_int_equal(call->sent, 0);
    return call;
}

uint64_t rig_do(struct rig *rig, unsigned frontend, const char *session, const char *line)
{
    struct request *request = request_for(REQUEST_COMMANDS, session);
    request_add(request, line);
    struct call *call = rig_ask(rig, frontend, request);
    if (call->request->error != 0)
        fail_msg("%s: %s: %s", session, line, call->request->refusal.detail);
    uint64_t seq = call->request->seq;
    call_free(call);
    return seq;
}

unsigned rig_refused(struct rig *rig, unsigned frontend, const char *session, const char *line)
{
    struct request *request = request_for(REQUEST_COMMANDS, session);
    request_add(request, line);
    struct call *call = rig_ask(rig, frontend, request);
    unsigned error = call->request->error;
    if (error == 0)
        fail_msg("%s: %s: not refused", session, line);
    assert_int_equal(call->request->body.n, 0);
    assert_int_not_equal(strlen(call->request->refusal.detail), 0);
    call_free(call);
    return error;
}

char *rig_view(struct rig *rig, unsigned frontend, const char *session)
{
    struct call *call = rig_ask(rig, frontend, request_for(REQUEST_VIEW, session));
    char *view = NULL;
    if (call->request->error == 0)
        view = strdup(call_body(call));
    else
        assert_int_equal(call->request->error, CORE_E_UNKNOWN_SESSION);
    call_free(call);
    return view;
}

unsigned rig_shard_of(struct rig *rig, const char *session)
{
    struct call *call = rig_ask(rig, 0, request_for(REQUEST_VIEW, session));
    unsigned shard = call->request->shard;
    call_free(call);
    return shard;
}

/* ---- followers. All but what the test calls runs on the reactor's thread, the rig locked. */

static void follower_ask(struct follower *follower, bool has_after, uint64_t after, uint64_t until)
{
    struct request *request = request_for(REQUEST_FOLLOW, follower->session);
    bool first = follower->replies == 0;
    const char *epoch = first ? follower->after_epoch : follower->epoch;
    request->feed = (uint64_t)(uintptr_t)follower;
    request->wants = follower->wants;
    request->has_after = has_after;
    request->after = after;
    request->until = follower->until = until;
    request->stale = first ? follower->stale : NULL;
    request->compact = follower->compact;
    request->parts = follower->parts;
    if (epoch[0] != '\0')
        request->after_epoch = request_text(request, epoch);
    follower->asking = true;
    follower->live = false;
    follower->unsent = mailbox_send(follower->face->mailbox, request) != 0;
    if (follower->unsent)
        request_free(request);
}

static void follower_begin(struct follower *follower)
{
    if (follower->replies == 0)
        follower_ask(follower, follower->has_after, follower->after, 0);
    else
        follower_ask(follower, true, follower->told, 0);
}

static void follower_take(struct follower *follower, const struct frame *frame)
{
    for (uint32_t i = 0; i < frame->items_n; i++) {
        const struct frame_item *item = &frame->items[i];
        struct str text = {frame->bytes + item->event_offset, item->event_size};
        if (follower->wants & WANTS_PATCHES)
            text = (struct str){frame->bytes + item->patch_offset, item->patch_size};
        else if (follower->wants & WANTS_COMPACT)
            text = (struct str){frame->bytes + item->compact_offset, item->compact_size};
        if (item->seq <= follower->told) {
            follower->repeats++;
            continue;
        }
        follower->gaps += item->seq != follower->told + 1;
        follower->told = item->seq;
        follower->items_n++;
        assert(text.n != 0);
        buf_add_str(&follower->items, text);
        buf_add_byte(&follower->items, '\n');
    }
}

static void follower_forget_early(struct follower *follower)
{
    for (unsigned i = 0; i < follower->early_n; i++)
        frame_release(follower->early[i]);
    follower->early_n = 0;
}

/* What came while it was asking. Frames of what the reply already holds are no repeats: they were
 * on their way before the feed was attached. */
static void follower_join(struct follower *follower)
{
    if (follower->detached) {
        follower->detached = false;
        follower_forget_early(follower);
        if (follower->again)
            follower_ask(follower, true, follower->told, 0);
        return;
    }
    for (unsigned i = 0; i < follower->early_n; i++) {
        if (follower->early[i]->last_seq > follower->target)
            follower_take(follower, follower->early[i]);
        frame_release(follower->early[i]);
    }
    follower->early_n = 0;
    follower->live = true;
    follower->asking = false;
}

static void follower_on_reply(struct follower *follower, struct request *request)
{
    follower->asking = false;
    follower->replies++;
    follower->error = request->error;
    if (request->error != 0)
        return;
    snprintf(follower->epoch, sizeof(follower->epoch), "%s", request->epoch);
    if (follower->until == 0)
        follower->target = request->attached;
    if (request->body.n != 0) {
        follower->snapshots++;
        follower->snapshot.n = 0;
        buf_add_str(&follower->snapshot, buf_str(&request->body));
        follower->told = request->attached;
    } else if (request->frame != NULL) {
        if (follower->replies == 1)
            follower->told = request->after;
        follower->pieces++;
        follower_take(follower, request->frame);
        assert(request->upto == follower->told);
    } else if (follower->replies == 1) {
        follower->told = request->attached;
    }
    if (follower->told < follower->target)
        follower_ask(follower, true, follower->told, follower->target);
    else
        follower_join(follower);
}

static void follower_on_frame(struct follower *follower, struct frame *frame)
{
    follower->frames++;
    if (follower->live) {
        follower_take(follower, frame);
        frame_release(frame);
        return;
    }
    if (follower->early_n == follower->early_cap) {
        follower->early_cap = follower->early_cap != 0 ? 2 * follower->early_cap : 16;
        follower->early =
            mem_realloc(follower->early, follower->early_cap * sizeof(*follower->early));
    }
    follower->early[follower->early_n++] = frame;
}

static void follower_on_notice(struct follower *follower, enum mailbox_notice notice)
{
    if (notice == NOTICE_ENDED) {
        follower->ended++;
        follower->live = false;
        return;
    }
    follower->lost++;
    follower->live = false;
    if (follower->asking)
        follower->detached = true; /* the rest is asked for when it has what is on its way */
    else if (follower->again)
        follower_begin(follower);
}

struct follower *follower_new(struct rig *rig, unsigned frontend, const char *session)
{
    struct follower *follower = mem_alloc(sizeof(*follower));
    *follower = (struct follower){
        .rig = rig, .face = rig->faces[frontend], .wants = WANTS_PATCHES, .again = true};
    snprintf(follower->session, sizeof(follower->session), "%s", session);
    return follower;
}

static void run_follower_start(struct face *face, struct errand *errand)
{
    struct follower *follower = (struct follower *)errand;
    rig_lock(face->rig);
    bool is_new = true;
    for (struct follower *at = face->followers; at != NULL; at = at->next)
        is_new = is_new && at != follower;
    if (is_new) {
        follower->next = face->followers;
        face->followers = follower;
    }
    follower_begin(follower);
    errand->done = true;
    rig_changed(face->rig);
    rig_unlock(face->rig);
}

void follower_start(struct follower *follower)
{
    follower->errand.run = run_follower_start;
    rig_run(follower->rig, follower->face->number, &follower->errand);
}

void follower_resume(struct follower *follower)
{
    follower_start(follower);
}

void follower_wait_live(struct follower *follower)
{
    RIG_UNTIL(follower->rig, follower->live || follower->error != 0);
    assert_int_equal(follower->error, 0);
}

void follower_wait_told(struct follower *follower, uint64_t seq)
{
    RIG_UNTIL(follower->rig, follower->told >= seq);
}

static void run_follower_leave(struct face *face, struct errand *errand)
{
    struct follower *follower = (struct follower *)errand;
    struct request *request = request_for(REQUEST_UNFOLLOW, follower->session);
    request->feed = (uint64_t)(uintptr_t)follower;
    int sent = mailbox_send(face->mailbox, request);
    assert(sent == 0);
}

void follower_leave(struct follower *follower)
{
    follower->errand.run = run_follower_leave;
    rig_post(follower->rig, follower->face->number, &follower->errand);
    RIG_UNTIL(follower->rig, follower->left);
}

static void run_follower_forget(struct face *face, struct errand *errand)
{
    struct follower **at = &face->followers;
    while (*at != NULL && *at != (struct follower *)errand)
        at = &(*at)->next;
    if (*at != NULL)
        *at = (*at)->next;
    errand_done(face->rig, errand);
}

void follower_free(struct follower *follower)
{
    struct rig *rig = follower->rig;
    if (rig->cluster != NULL) {
        follower->errand.run = run_follower_forget;
        rig_run(rig, follower->face->number, &follower->errand);
    }
    follower_forget_early(follower);
    free(follower->early);
    buf_free(&follower->snapshot);
    buf_free(&follower->items);
    free(follower);
}

/* ---- the frontend's functions */

static void face_on_reply(void *ctx, struct request *request)
{
    struct face *face = ctx;
    struct call *call = (struct call *)(uintptr_t)request->token;
    if (request->kind == REQUEST_CANCEL) {
        call = (struct call *)(uintptr_t)request->feed;
        if (call == NULL) { /* sent by face_drained */
            request_free(request);
            return;
        }
    }
    face->replies++;
    if (call == NULL) {
        struct follower *follower = (struct follower *)(uintptr_t)request->feed;
        rig_lock(face->rig);
        if (request->kind == REQUEST_FOLLOW)
            follower_on_reply(follower, request);
        else
            follower->left = true;
        rig_changed(face->rig);
        rig_unlock(face->rig);
        request_free(request);
        return;
    }
    assert(call->request == request && call->face == face);
    if (request->kind == REQUEST_INBOX && request->wait) {
        struct call **at = &face->waits;
        while (*at != call)
            at = &(*at)->wait_next;
        *at = call->wait_next;
    }
    call->order = face->replies;
    call_answered(call);
}

static struct follower *face_follower(struct face *face, uint64_t feed)
{
    struct follower *at = face->followers;
    while (at != NULL && (uint64_t)(uintptr_t)at != feed)
        at = at->next;
    return at;
}

static void face_on_frame(void *ctx, uint64_t feed, struct frame *frame)
{
    struct face *face = ctx;
    rig_lock(face->rig);
    struct follower *follower = face_follower(face, feed);
    if (follower != NULL)
        follower_on_frame(follower, frame);
    else
        frame_release(frame);
    rig_changed(face->rig);
    rig_unlock(face->rig);
}

static void face_on_notice(void *ctx, uint64_t feed, enum mailbox_notice notice)
{
    struct face *face = ctx;
    rig_lock(face->rig);
    struct follower *follower = face_follower(face, feed);
    if (follower != NULL)
        follower_on_notice(follower, notice);
    rig_changed(face->rig);
    rig_unlock(face->rig);
}

static void face_on_relay(void *ctx, unsigned from, struct str bytes)
{
    struct face *face = ctx;
    rig_lock(face->rig);
    buf_add_u64(&face->relayed, from);
    buf_add_byte(&face->relayed, ':');
    buf_add_str(&face->relayed, bytes);
    buf_add_byte(&face->relayed, '\n');
    rig_changed(face->rig);
    rig_unlock(face->rig);
}

static void *face_start(void *ctx, struct reactor *reactor, struct mailbox *mailbox, int wake_fd,
                        int io_fd)
{
    struct rig *rig = ctx;
    struct face *face = mem_alloc(sizeof(*face));
    *face = (struct face){
        .rig = rig,
        .number = reactor_number(reactor),
        .reactor = reactor,
        .mailbox = mailbox,
        .wake_fd = wake_fd,
        .io_fd = io_fd,
        .bell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
    };
    assert(face->bell_fd >= 0 && mailbox_frontend(mailbox) == face->number);
    rig->faces[face->number] = face;
    return face;
}

static int face_work(void *frontend)
{
    struct face *face = frontend;
    struct mailbox_handlers handlers = {face, face_on_reply, face_on_frame, face_on_notice,
                                        face_on_relay};
    face_run_errands(face);
    if (!face->deaf)
        mailbox_drain(face->mailbox, &handlers, UINT32_MAX);
    int wait = -1;
    rig_lock(face->rig);
    for (struct follower *at = face->followers; at != NULL; at = at->next) {
        if (at->unsent)
            follower_ask(at, at->replies != 0 || at->has_after,
                         at->replies != 0 ? at->told : at->after, at->until);
        if (at->unsent)
            wait = 0;
    }
    rig_unlock(face->rig);
    return wait;
}

static void face_poll(void *frontend, int max_wait_ms)
{
    struct face *face = frontend;
    struct pollfd fds[3] = {
        {.fd = face->wake_fd, .events = POLLIN},
        {.fd = face->io_fd, .events = POLLIN},
        {.fd = face->bell_fd, .events = POLLIN},
    };
    uint64_t count;
    int n = poll(fds, 3, max_wait_ms);
    assert(n >= 0 || errno == EINTR);
    if (n > 0 && fds[2].revents != 0) {
        ssize_t got = read(face->bell_fd, &count, sizeof(count));
        assert(got == sizeof(count));
        /* What was asked for by then runs now: requests that a poll brings are sent from it. */
        face_run_errands(face);
    }
}

static bool face_drained(void *frontend)
{
    struct face *face = frontend;
    if (face->lingers)
        return false;
    for (struct call *at = face->waits; at != NULL && !face->waits_cancelled; at = at->wait_next) {
        struct request *request = request_for(REQUEST_CANCEL, NULL);
        request->session = arena_copy(&request->arena, at->request->session);
        request->token = (uint64_t)(uintptr_t)at;
        int sent = mailbox_send(face->mailbox, request);
        assert(sent == 0);
    }
    face->waits_cancelled = true;
    return mailbox_outstanding(face->mailbox) == 0;
}

static void face_stop(void *frontend)
{
    struct face *face = frontend;
    struct mailbox_handlers handlers = {face, face_on_reply, face_on_frame, face_on_notice,
                                        face_on_relay};
    mailbox_drain(face->mailbox, &handlers, UINT32_MAX);
    rig_lock(face->rig);
    for (struct follower *at = face->followers; at != NULL; at = at->next)
        at->live = false;
    rig_unlock(face->rig);
    close(face->bell_fd);
}

/* ---- the cluster */

static const struct reactor_frontend_ops face_ops = {
    .start = face_start,
    .work = face_work,
    .poll = face_poll,
    .drained = face_drained,
    .stop = face_stop,
};

void rig_prepare(struct rig *rig, unsigned shards, enum io_kind io)
{
    *rig = (struct rig){0};
    scratch_make(&rig->scratch, false);
    pthread_mutex_init(&rig->mutex, NULL);
    pthread_cond_init(&rig->changed, NULL);
    rig->options = (struct cluster_options){
        .data = rig->scratch.path,
        .shards = shards,
        .io = io,
        .durability = LOG_COMMIT,
        .segment_bytes = 1 << 20,
        .limits = core_limits_default,
        .settings =
            {
                .idle_passivate_ms = 600 * 1000,
                .memory_bytes = UINT64_C(1) << 30,
                .compact_after_ms = 600 * 1000,
                .checkpoint_bytes = UINT64_C(128) << 20,
            },
        .grace_ms = 1000 * RIG_PATIENCE_S,
    };
}

void rig_begin(struct rig *rig)
{
    char error[512] = "";
    rig->ops = face_ops;
    rig->ops.ctx = rig;
    rig->options.frontend = &rig->ops;
    int result = cluster_start(&rig->options, &rig->cluster, error, sizeof(error));
    rig->options.fs = NULL; /* taken */
    if (result != 0)
        fail_msg("the cluster did not start: %s", error);
}

void rig_start(struct rig *rig)
{
    char error[512] = "";
    rig_begin(rig);
    if (cluster_await(rig->cluster, error, sizeof(error)) != 0)
        fail_msg("the shards did not recover: %s", error);
}

void rig_stop(struct rig *rig)
{
    cluster_stop(rig->cluster);
    int status = cluster_join(rig->cluster);
    rig->cluster = NULL;
    for (unsigned i = 0; i < RIG_FACES_MAX; i++) {
        if (rig->faces[i] != NULL)
            buf_free(&rig->faces[i]->relayed);
        free(rig->faces[i]);
        rig->faces[i] = NULL;
    }
    assert_int_equal(status, 0);
}

void rig_open(struct rig *rig, unsigned shards, enum io_kind io)
{
    rig_prepare(rig, shards, io);
    rig_start(rig);
}

void rig_close(struct rig *rig)
{
    if (rig->cluster != NULL)
        rig_stop(rig);
    scratch_remove(&rig->scratch);
    pthread_mutex_destroy(&rig->mutex);
    pthread_cond_destroy(&rig->changed);
    request_free_spares();
}

void rig_restart(struct rig *rig, unsigned shards)
{
    rig_stop(rig);
    rig->options.shards = shards;
    rig_start(rig);
}
