/*
 * Watching, whole: what any watcher is told, put together, is the session, whatever becomes of the
 * two meanwhile. Real shards, rings, feeds, watchers, texts and framings, in one thread; around
 * them frontends without connections, and clients that are slow or quick (watched_client.h).
 * Everything happens in an order that the seed says: commands, commits, reads from the log, drains,
 * fills, time. Bounds are small and differ from history to history (watched.h): rings run over,
 * frames are lost, watchers are merged, begin anew, and are refused.
 *
 * Bugs planted by hand into copies of feed.c and watcher*.c, each found within a few dozen
 * histories: events that were told are told again; a place whose frames are gone is gone on from;
 * `from` of a merged patch counts what was left out; somebody else's merged patch is taken; the
 * text of another framing is taken; lost frames are not minded; who asks for other parts, or other
 * types, is given the same answer; an id of another view is gone on from; a full outlet ends a turn
 * for good; `told` does not move with what was read.
 */
#define ATOLL_WATCHED_TEST
#include "tests/property/watched.h"

#include "tests/property/watched_client.h"
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

#include "shards/cluster_internal.h"

#include <errno.h>

enum {
    HISTORIES = 24,
    STEPS = 4000,
    REST_STEPS = 1300, /* about so many between two rests */
    SHARDS = 2,
    SESSIONS = 3,
    CLIENTS = 14,
    PATIENCE = 20000,
};

struct watched_bounds watched_bounds;

/* ---- what sessions really were */

const struct core_parts *truth_parts[PARTS_SETS];
static struct life *lives;

struct life *truth_newest(const char *session)
{
    struct life *life = lives;
    while (life != NULL && strcmp(life->session, session) != 0)
        life = life->next;
    return life;
}

struct life *truth_life(const char *session, struct str epoch)
{
    struct life *life = lives;
    while (life != NULL &&
           (strcmp(life->session, session) != 0 || !str_equal(str_of(life->epoch), epoch)))
        life = life->next;
    return life;
}

static char *text_of_buf(struct buf *text)
{
    buf_add_byte(text, '\0');
    return text->p;
}

static struct truth truth_of(const struct core_session *s, const struct core_event *event)
{
    struct truth truth = {0};
    for (unsigned view = 0; view < VIEWS; view++) {
        struct buf text = {0};
        core_view_parts(s, truth_parts[view / 2], view % 2 != 0, &text);
        truth.views[view] = text_of_buf(&text);
    }
    if (event != NULL) {
        struct buf text = {0};
        core_event_json(event, &text);
        truth.event = text_of_buf(&text);
    }
    return truth;
}

static void truth_free(struct truth *truth)
{
    for (unsigned view = 0; view < VIEWS; view++)
        free(truth->views[view]);
    free(truth->event);
}

static void note(struct life *life, struct truth truth, uint64_t seq)
{
    for (; seq != 0 && life->seq >= seq; life->seq--) /* a batch that has been undone */
        truth_free(&life->truths[life->seq]);
    if ((seq & (seq - 1)) == 0) /* full: 0, 1, 2, 4, … */
        life->truths = mem_realloc(life->truths, (seq != 0 ? 2 * seq : 1) * sizeof(truth));
    life->truths[seq] = truth;
    life->seq = seq;
}

static struct life *life_begin(const struct core_session *s)
{
    struct str id = core_session_id(s), epoch = core_session_epoch(s);
    struct life *life = mem_zeroed(1, sizeof(*life));
    memcpy(life->session, id.p, id.n);
    memcpy(life->epoch, epoch.p, epoch.n);
    life->next = lives;
    lives = life;
    note(life, truth_of(s, NULL), 0);
    return life;
}

int watched_apply(struct core_session *s, const struct core_event *event, struct core_refusal *why)
{
    char session[CORE_ID_BYTES + 1] = "";
    memcpy(session, core_session_id(s).p, core_session_id(s).n);
    struct life *life = truth_life(session, core_session_epoch(s));
    if (life == NULL)
        life = life_begin(s);
    int result = core_apply(s, event, why);
    if (result == 0)
        note(life, truth_of(s, event), core_session_seq(s));
    return result;
}

json_t *truth_view(const struct life *life, uint64_t seq, unsigned view)
{
    assert_true(seq <= life->seq);
    return json_of(life->truths[seq].views[view]);
}

bool truth_has_type(const struct life *life, uint64_t seq, uint32_t types)
{
    if (types == 0)
        return true;
    json_t *event = json_of(life->truths[seq].event);
    const char *type = json_string_value(json_object_get(event, "type"));
    bool has = (types >> core_type_of_event(str_of(type)) & 1) != 0;
    json_decref(event);
    return has;
}

void truth_forget(void)
{
    while (lives != NULL) {
        struct life *life = lives;
        lives = life->next;
        for (uint64_t seq = 0; seq <= life->seq; seq++)
            truth_free(&life->truths[seq]);
        free(life->truths);
        free(life);
    }
}

/* ---- a history */

struct front {
    struct frontend *frontend;
    struct mailbox *mailbox;
    struct reactor reactor; /* a clock */
    struct history_run *run;
};

struct watched_session {
    char id[CORE_ID_BYTES + 1];
    struct known known;
    bool making, ending; /* it is asked for */
};

/* How likely things are, in this history. */
struct mood {
    uint32_t command, burst, end, come, go, complete, drain, fill, narrow, big;
};

struct history_run {
    struct stage stage;
    struct generator g;
    struct arena scratch;
    struct mood mood;
    struct front fronts[SHARDS];
    struct watched_session sessions[SESSIONS];
    struct client clients[CLIENTS];
    uint64_t lost;
    uint32_t figures[2]; /* streams_merged, streams_reset */
};

static struct watched_session *session_named(struct history_run *run, struct str id)
{
    for (unsigned i = 0; i < SESSIONS; i++)
        if (str_equal(str_of(run->sessions[i].id), id))
            return &run->sessions[i];
    fail_msg("a session %.*s", (int)id.n, id.p);
    return NULL;
}

/* ---- what the mailbox brings */

static void take_known(struct watched_session *session, const struct request *request)
{
    session->known.good = request->changes_n == 1;
    if (!session->known.good)
        return;
    const struct request_change *change = &request->changes[0];
    json_t *summary = json_of_text((struct str){request->body.p + change->offset, change->size});
    session->known.seq = (uint64_t)json_integer_value(json_object_get(summary, "seq"));
    session->known.position = request->position;
    snprintf(session->known.epoch, sizeof(session->known.epoch), "%.*s", (int)change->epoch.n,
             change->epoch.p);
    json_decref(summary);
}

static void on_reply(void *ctx, struct request *request)
{
    struct front *front = ctx;
    struct history_run *run = front->run;
    struct watched_session *session;

    switch (request->kind) {
    case REQUEST_FOLLOW:
        feeds_on_reply(front->frontend, request);
        return;
    case REQUEST_COMMANDS:
        session = session_named(run, request->session);
        session->making = session->making && request->token == 0;
        break;
    case REQUEST_DELETE:
        session = session_named(run, request->session);
        session->ending = false;
        if (request->error != 0)
            truth_newest(session->id)->deleted = false;
        break;
    case REQUEST_CHANGES:
        take_known(session_named(run, request->ids[0]), request);
        break;
    default:
        assert_int_equal(request->kind, REQUEST_UNFOLLOW);
    }
    request_free(request);
}

static void on_frame(void *ctx, uint64_t feed, struct frame *frame)
{
    struct front *front = ctx;
    feeds_on_frame(front->frontend, feed, frame);
}

static void on_notice(void *ctx, uint64_t feed, enum mailbox_notice notice)
{
    struct front *front = ctx;
    front->run->lost += notice == NOTICE_LOST;
    feeds_on_notice(front->frontend, feed, notice);
}

static bool drain(struct front *front, unsigned max)
{
    struct mailbox_handlers handlers = {front, on_reply, on_frame, on_notice, NULL};
    return mailbox_drain(front->mailbox, &handlers, max) != 0;
}

static void front_work(struct front *front)
{
    front->reactor.now_ms = front->run->stage.now_ms;
    watched_frontend_work(front->frontend);
}

/* ---- what clients of the other kind do */

static bool put(struct history_run *run, struct request *request)
{
    struct mailbox *mailbox = run->fronts[below(&run->g, SHARDS)].mailbox;
    int sent = request->session.p != NULL ? mailbox_send(mailbox, request)
                                          : mailbox_send_to(mailbox, request, request->shard);
    if (sent != 0)
        request_free(request);
    return sent == 0;
}

static void send_prelude(struct history_run *run, struct watched_session *session)
{
    struct request *request = request_for(REQUEST_COMMANDS, session->id);
    request->batch = true;
    request->token = 1;
    for (int i = 0; i < PRELUDE; i++)
        request_add(request, prelude[i]);
    session->making = put(run, request);
}

static void add_message(struct history_run *run, struct request *request)
{
    char line[4200];
    uint32_t n = percent(&run->g, run->mood.big) ? below(&run->g, 4000) : below(&run->g, 60);
    snprintf(line, sizeof(line), "message.send thread=%s sender=ada content=%0*u",
             percent(&run->g, 80) ? "x" : "y", (int)n + 1, below(&run->g, 1000));
    request_add(request, line);
}

static void add_command(struct history_run *run, const struct core_session *s,
                        struct request *request)
{
    if (s == NULL || percent(&run->g, run->mood.narrow)) {
        add_message(run, request);
        return;
    }
    struct request_command *command = request_add(request, "session.update");
    struct core_command *made = &command->command;
    run->g.scratch = &request->arena;
    do
        a_command(&run->g, s, made);
    while (made->type == CORE_SESSION_FORK || made->type == CORE_SESSION_CREATE ||
           (made->type == CORE_SESSION_CLOSE && percent(&run->g, 70)));
    if (made->f.session.p == core_session_id(s).p)
        made->f.session = request->session;
}

static void send_commands(struct history_run *run, struct watched_session *session)
{
    struct life *life = truth_newest(session->id);
    if (life == NULL || life->deleted) {
        if (!session->making && !session->ending)
            send_prelude(run, session);
        return;
    }
    struct session *there =
        session_find(stage_shard_of(&run->stage, session->id), str_of(session->id));
    uint32_t n = percent(&run->g, run->mood.burst) ? 1 + below(&run->g, 30) : 1;
    struct request *request = request_for(REQUEST_COMMANDS, session->id);
    request->batch = n > 1;
    for (; n != 0; n--)
        add_command(run, there != NULL ? there->core : NULL, request);
    put(run, request);
}

static void send_end(struct history_run *run, struct watched_session *session)
{
    struct life *life = truth_newest(session->id);
    if (life == NULL || life->deleted || session->making || session->ending)
        return;
    life->deleted = session->ending = put(run, request_for(REQUEST_DELETE, session->id));
}

static void send_question(struct history_run *run, const struct watched_session *session)
{
    struct request *request = request_for(REQUEST_CHANGES, NULL);
    struct str *ids = arena_alloc(&request->arena, sizeof(*ids));
    *ids = arena_copy(&request->arena, str_of(session->id));
    request->ids = ids;
    request->ids_n = 1;
    request->pages = true;
    request->shard = (uint16_t)stage_shard_of(&run->stage, session->id)->number;
    put(run, request);
}

/* ---- one step */

static void turn(struct history_run *run, unsigned number)
{
    struct shard *shard = run->stage.shards[number];
    shard_turn(shard, run->stage.now_ms, run->stage.wall_ms);
    shard->io->ops->submit(shard->io);
    if (shard->io->ops->reap(shard->io) != 0) {
        shard_commit(shard);
        shard->io->ops->submit(shard->io);
    }
    mailbox_send_errands(&run->stage.mailboxes[number]);
}

static void complete(struct history_run *run, unsigned shard)
{
    struct io_fake *fake = run->stage.fakes[shard];
    if (io_fake_count(fake) != 0)
        io_fake_complete(fake, below(&run->g, (uint32_t)io_fake_count(fake)));
}

static void pass(struct history_run *run, int64_t ms)
{
    run->stage.now_ms += ms;
    run->stage.wall_ms += ms;
    for (unsigned i = 0; i < SHARDS; i++) {
        io_fake_advance_ms(run->stage.fakes[i], (uint64_t)ms);
        front_work(&run->fronts[i]);
    }
}

static void come(struct history_run *run, struct client *client)
{
    struct watched_session *session = session_named(run, str_of(client->session));
    if (client->state != CLIENT_CLOSED)
        return;
    client_open(client, run->fronts[client->number % SHARDS].frontend, &run->g,
                &run->clients[below(&run->g, CLIENTS)], &session->known);
}

static bool may_fill(const struct client *client)
{
    return client->state == CLIENT_BEGUN && client->woken && !client->ended;
}

static void fill(struct history_run *run, struct client *client)
{
    if (!may_fill(client))
        return;
    bool little = percent(&run->g, 60);
    client_fill(client, little ? 1 + below(&run->g, 3) : OUTLET_WRITE_CHUNKS,
                percent(&run->g, 20) ? 1 + below(&run->g, 2000) : OUTLET_WRITE_BYTES);
}

static void step(struct history_run *run)
{
    struct generator *g = &run->g;
    const struct mood *mood = &run->mood;
    struct watched_session *session = &run->sessions[below(g, SESSIONS)];
    struct client *client = &run->clients[below(g, CLIENTS)];

    if (percent(g, mood->command))
        send_commands(run, session);
    if (below(g, 1000) < mood->end)
        send_end(run, session);
    if (percent(g, 1))
        send_question(run, session);
    if (percent(g, mood->come))
        come(run, client);
    if (client->state != CLIENT_CLOSED && percent(g, client->ended ? 30 : mood->go))
        client_close(client);
    turn(run, below(g, SHARDS));
    if (percent(g, mood->complete))
        complete(run, below(g, SHARDS));
    if (percent(g, mood->drain))
        drain(&run->fronts[below(g, SHARDS)], 1 + below(g, 40));
    if (percent(g, mood->fill))
        fill(run, &run->clients[below(g, CLIENTS)]);
    if (percent(g, 30))
        front_work(&run->fronts[below(g, SHARDS)]);
    if (percent(g, 10))
        pass(run, below(g, percent(g, 5) ? 2000 : 20));
}

/* ---- at rest */

static bool at_rest(const struct history_run *run)
{
    bool rest = true;
    for (unsigned i = 0; i < SHARDS; i++) {
        rest = rest && watched_frontend_rests(run->fronts[i].frontend) &&
               shard_idle(run->stage.shards[i]) && !shard_pending(run->stage.shards[i]) &&
               io_fake_count(run->stage.fakes[i]) == 0 &&
               !mailbox_pending(run->fronts[i].mailbox) &&
               mailbox_errands(run->fronts[i].mailbox) == 0;
        for (unsigned f = 0; f < SHARDS; f++)
            rest = rest && run->stage.shards[i]->outboxes[f].first == NULL;
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        rest = rest && !may_fill(&run->clients[i]);
    return rest;
}

static void fail_unrest(const struct history_run *run)
{
    for (unsigned i = 0; i < SHARDS; i++)
        print_error("front %u rests: %d, shard idle: %d, pending: %d, io: %zu, outstanding: %d\n",
                    i, watched_frontend_rests(run->fronts[i].frontend),
                    shard_idle(run->stage.shards[i]), shard_pending(run->stage.shards[i]),
                    io_fake_count(run->stage.fakes[i]),
                    (int)mailbox_outstanding(run->fronts[i].mailbox));
    for (unsigned i = 0; i < CLIENTS; i++)
        if (may_fill(&run->clients[i]))
            print_error("client %u is woken\n", i);
    fail_msg("it does not come to rest");
}

/* Everything goes its way, and nothing new comes. */
static void rest(struct history_run *run)
{
    for (unsigned patience = 0; !at_rest(run); patience++) {
        if (patience == PATIENCE)
            fail_unrest(run);
        for (unsigned i = 0; i < SHARDS; i++) {
            while (io_fake_count(run->stage.fakes[i]) != 0)
                complete(run, i);
            turn(run, i);
            drain(&run->fronts[i], UINT32_MAX);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
            fill(run, &run->clients[i]);
        pass(run, 10);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        client_expect_level(&run->clients[i]);
}

/* ---- a whole history */

static uint32_t one_of(struct generator *g, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t which = below(g, 3);
    return which == 0 ? a : which == 1 ? b : c;
}

static void choose_bounds(struct generator *g)
{
    watched_bounds = (struct watched_bounds){
        .merge_frames = one_of(g, 1, 4, 12),
        .merge_bytes = one_of(g, 500, 3000, 100000),
        .keep_frames = one_of(g, 3, 16, 60),
        .keep_bytes = one_of(g, 1000, 10000, 1000000),
        .recent_frames = one_of(g, 0, 4, 16),
        .recent_bytes = one_of(g, 0, 2000, 100000),
        .request_ring = one_of(g, 4, 16, 64),
        .reply_ring = one_of(g, 8, 32, 256),
        .catch_up_bytes = one_of(g, 200, 1500, 100000),
    };
}

static void choose_mood(struct generator *g, struct mood *mood)
{
    *mood = (struct mood){
        .command = one_of(g, 10, 30, 60),
        .burst = one_of(g, 0, 5, 30),
        .end = one_of(g, 0, 2, 10),
        .come = one_of(g, 3, 10, 30),
        .go = one_of(g, 0, 2, 10),
        .complete = one_of(g, 10, 40, 90),
        .drain = one_of(g, 3, 20, 80),
        .fill = one_of(g, 5, 30, 90),
        .narrow = one_of(g, 0, 30, 90),
        .big = one_of(g, 0, 5, 30),
    };
}

/* Which parts may be watched, in this history: the first set is all. */
static void choose_parts(struct history_run *run)
{
    static const char *const pointers[] = {
        "/labels",  "/labels/\"q\"", "/labels/a~1b~0c", "/agents",     "/agents/ada",   "/agents/c",
        "/threads", "/threads/x",    "/threads/y",      "/threads/t9", "/threads/Z_-9", "/nothing",
    };
    enum { POINTERS = sizeof(pointers) / sizeof(*pointers), MOST = 3 };
    for (unsigned i = 1; i < PARTS_SETS; i++) {
        struct core_parts *parts =
            arena_alloc(&run->scratch, sizeof(*parts) + MOST * sizeof(struct str));
        parts->n = 1 + below(&run->g, MOST);
        for (uint32_t k = 0; k < parts->n; k++)
            parts->items[k] = str_of(pointers[below(&run->g, POINTERS)]);
        truth_parts[i] = parts;
    }
}

/* Which shard a name belongs to is drawn with each directory: the names follow that. */
static void name_sessions(struct history_run *run)
{
    unsigned n = 0;
    for (unsigned i = 0; i < SESSIONS; i++) {
        do
            snprintf(run->sessions[i].id, sizeof(run->sessions[i].id), "s%04u", n++);
        while (stage_shard_of(&run->stage, run->sessions[i].id)->number != i % SHARDS);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        run->clients[i].number = i;
        snprintf(run->clients[i].session, sizeof(run->clients[i].session), "%s",
                 run->sessions[i / 2 % SESSIONS].id);
    }
}

static void history_begin(struct history_run *run, uint64_t seed)
{
    memset(run, 0, sizeof(*run));
    generator_start(&run->g, seed, &run->scratch);
    choose_bounds(&run->g);
    choose_mood(&run->g, &run->mood);
    choose_parts(run);
    stage_prepare(&run->stage, SHARDS);
    run->stage.limits = small_limits();
    run->stage.limits.max[CORE_LIMIT_WINDOW_BYTES] = one_of(&run->g, 400, 5000, 100000);
    run->stage.settings.idle_passivate_ms = one_of(&run->g, 10, 500, 1000000);
    stage_start(&run->stage);
    name_sessions(run);
    for (unsigned i = 0; i < SHARDS; i++) {
        struct front *front = &run->fronts[i];
        io_fake_set_automatic(run->stage.fakes[i], false);
        front->run = run;
        front->mailbox = &run->stage.mailboxes[i];
        front->reactor.now_ms = run->stage.now_ms;
        front->frontend = watched_frontend_new(&front->reactor, front->mailbox, &run->stage.limits);
    }
}

static void history_end(struct history_run *run)
{
    rest(run);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_free(&run->clients[i]);
    rest(run);
    for (unsigned i = 0; i < SHARDS; i++) {
        watched_frontend_free(run->fronts[i].frontend);
        io_fake_set_automatic(run->stage.fakes[i], true);
    }
    stage_close(&run->stage);
    truth_forget();
    arena_free(&run->scratch);
}

static void run_history(struct history_run *run, uint64_t seed)
{
    history_begin(run, seed);
    for (unsigned i = 0; i < STEPS; i++) {
        step(run);
        if (below(&run->g, REST_STEPS) == 0)
            rest(run);
    }
    history_end(run);
}

static void every_watcher_is_told_the_session(void **state)
{
    static struct history_run run;
    uint64_t seed = first_seed(), lost = 0;
    unsigned histories = getenv("ATOLL_SEED") != NULL ? 1 : HISTORIES;
    (void)state;
    for (unsigned i = 0; i < histories; i++) {
        run_history(&run, seed + i);
        lost += run.lost;
    }
    const struct client_counts *n = &client_counts;
    print_message("%u histories: %llu snapshots (%llu resets, %llu too slow), %llu patches (%llu "
                  "narrowed, %llu merged), %llu events, %llu ends, %llu resumed, %llu refused; "
                  "frames lost %llu times\n",
                  histories, (unsigned long long)n->snapshots, (unsigned long long)n->resets,
                  (unsigned long long)n->slow, (unsigned long long)n->patches,
                  (unsigned long long)n->narrowed, (unsigned long long)n->merged,
                  (unsigned long long)n->events, (unsigned long long)n->ends,
                  (unsigned long long)n->resumed, (unsigned long long)n->refused,
                  (unsigned long long)lost);
    if (histories > 1)
        assert_true(n->slow > 0 && n->merged > 0 && n->ends > 0 && n->resumed > 0 && lost > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_watcher_is_told_the_session, print_seed),
    };
    return cmocka_run_group_tests_name("watchers_property", tests, NULL, NULL);
}
