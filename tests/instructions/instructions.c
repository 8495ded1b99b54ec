/*
 * instructions: how many instructions a command takes on its way through the process, stage by
 * stage. Runs under callgrind, started and read by check.mjs.
 *
 *     instructions [PART]      only rows whose name, "KIND|STAGE", has PART in it
 *
 * Normal path: each kind of command runs through each stage some hundred times, with that stage
 * alone being counted; then callgrind writes what it has counted, and calls it
 * "KIND|STAGE|COMMANDS|PIECES". Sessions stand as they do after a while: the thread's window is
 * full, so that each message pushes the oldest one out. Nothing depends on time, chance or the disk
 * (house.h).
 * Failure: exit 1 with a sentence; exit 2 outside of callgrind, or where no row has PART in it.
 *
 * This file and house.c are not optimized together with what they call (no LTO), so that nothing
 * is known there of what it is called with.
 */
#include "shards/heap.h"
#include "tests/instructions/front.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <sys/wait.h>
#include <valgrind/callgrind.h>

enum {
    WINDOW_MESSAGES = 100, /* core/limits.h's, and a thread has seen more */
    CORE_COMMANDS = 256,   /* that a stage of core/ is counted for */
    WARM_TURNS = 4,        /* before anything of a shard or frontend is counted */
    COMMANDS_A_TICK = 32,  /* the clock goes on by a millisecond for so many */
    CONTENT_BYTES_MAX = 4096
};

struct kind {
    const char *name;
    bool update;          /* agent.update, else message.send */
    size_t bytes;         /* of a message's text as JSON */
    unsigned commands;    /* in one body; more than 1: an array */
    unsigned sessions;    /* that get a body each in a turn */
    unsigned turns;       /* that are counted */
    unsigned stagger;     /* bodies that each session has had more than the one before: so they do
                             not all write their snapshots in the same turn */
    struct buf bodies[2]; /* in turn: an update that changes nothing is no event */
};

static struct kind kinds[] = {
    {.name = "message.send, 130 bytes",
     .bytes = 130,
     .commands = 1,
     .sessions = 32,
     .turns = 32,
     .stagger = 6},
    {.name = "message.send, 2 KiB",
     .bytes = 2048,
     .commands = 1,
     .sessions = 32,
     .turns = 16,
     .stagger = 3},
    {.name = "message.send, batches of 100",
     .bytes = 130,
     .commands = 100,
     .sessions = 4,
     .turns = 8,
     .stagger = 1},
    {.name = "agent.update",
     .update = true,
     .commands = 1,
     .sessions = 32,
     .turns = 32,
     .stagger = 10},
};

/* ---- bodies */

/* Prose, with what has to be escaped in JSON where there is room for whole sentences of it. */
static void add_content(struct buf *out, size_t bytes)
{
    static const char sentence[] = "The third shard answers late: its \\\"commit\\\" waits for a "
                                   "sync \xe2\x80\x93 see the trace below.\\n";
    static const char words[] = "A commit is on its way to the disk and nothing is told before it "
                                "has come back; then all of it is told at once, in order. ";
    size_t end = out->n + bytes;
    while (end - out->n >= 4 * sizeof(sentence))
        buf_add_literal(out, sentence);
    while (out->n < end)
        buf_add_byte(out, words[(end - out->n) % (sizeof(words) - 1)]);
}

static void add_message(struct buf *out, size_t bytes)
{
    size_t begin = out->n;
    buf_add_literal(out, "{\"type\":\"message.send\",\"thread\":\"work\",\"sender\":\"a1\","
                         "\"content\":\"");
    add_content(out, bytes - (out->n - begin) - 2);
    buf_add_literal(out, "\"}");
}

static void make_body(const struct kind *kind, unsigned which, struct buf *out)
{
    if (kind->update) {
        buf_add_literal(out, "{\"type\":\"agent.update\",\"agent\":\"a1\",\"status\":\"working\","
                             "\"note\":\"reading part ");
        buf_add_u64(out, which + 1);
        buf_add_literal(out, " of the log\"}");
        return;
    }
    for (unsigned i = 0; i < kind->commands; i++) {
        if (kind->commands > 1)
            buf_add_byte(out, i == 0 ? '[' : ',');
        add_message(out, kind->bytes);
    }
    if (kind->commands > 1)
        buf_add_byte(out, ']');
}

static struct str body_of(const struct kind *kind, unsigned turn)
{
    return buf_str(&kind->bodies[turn % 2]);
}

/* ---- what is counted */

static const char *chosen = "";
static unsigned rows, pieces;

typedef void count_stage(const struct kind *kind, int how);

static void finish_row(const struct kind *kind, const char *stage, unsigned commands)
{
    char row[160];
    snprintf(row, sizeof(row), "%s|%s|%u|%u", kind->name, stage, commands, pieces);
    CALLGRIND_DUMP_STATS_AT(row);
}

/* In a process of its own, so that no row depends on what others have left in memory. */
static void run_row(const struct kind *kind, const char *stage, count_stage *count, int how)
{
    char row[160];
    int status = 0;
    snprintf(row, sizeof(row), "%s|%s", kind->name, stage);
    if (strstr(row, chosen) == NULL)
        return;
    rows++;
    pid_t child = fork();
    if (child < 0)
        house_fail("cannot fork: %s", strerror(errno));
    if (child == 0) {
        count(kind, how);
        exit(0);
    }
    if (waitpid(child, &status, 0) != child || status != 0)
        house_fail("%s: not counted", row);
}

/* What stands between these two is a piece that is counted. */
static void begin_piece(bool counted)
{
    if (counted)
        CALLGRIND_TOGGLE_COLLECT;
}

static void end_piece(bool counted)
{
    if (!counted)
        return;
    CALLGRIND_TOGGLE_COLLECT;
    pieces++;
}

/* ---- core: from command to event to bytes */

enum stage { DECIDE, APPLY, ENCODE, CHAIN, PATCH, ANSWER, STAGES };

static const char *const stage_names[STAGES] = {
    [DECIDE] = "decide", [APPLY] = "apply", [ENCODE] = "encode",
    [CHAIN] = "chain",   [PATCH] = "patch", [ANSWER] = "answer",
};

struct desk {
    struct core_limits limits;
    struct heap heap;
    struct core_session *session;
    struct core_chain chain;
    struct arena scratch;
    struct buf bytes, patch, answer;
    struct decoder *decoder;
    int64_t now_ms;
};

static void do_command(struct desk *desk, const struct core_command *command, int counted)
{
    struct core_refusal why;
    struct core_event event;
    struct core_session *s = desk->session;

    begin_piece(counted == DECIDE);
    enum core_decision decision =
        core_decide(s, command, desk->now_ms, &desk->scratch, &event, &why);
    end_piece(counted == DECIDE);
    if (decision != CORE_EVENT)
        house_fail("no event: %s", decision == CORE_REFUSED ? why.detail : "nothing to change");

    begin_piece(counted == APPLY);
    core_begin(s);
    int result = core_apply(s, &event, &why);
    core_keep(s);
    end_piece(counted == APPLY);
    if (result != 0)
        house_fail("not applied: %s", why.detail);

    desk->bytes.n = desk->patch.n = desk->answer.n = 0;
    begin_piece(counted == ENCODE);
    core_event_encode(&event, &desk->bytes);
    end_piece(counted == ENCODE);

    begin_piece(counted == CHAIN);
    core_chain_add(&desk->chain, event.seq, buf_str(&desk->bytes));
    end_piece(counted == CHAIN);

    begin_piece(counted == PATCH);
    core_event_patch(&event, &desk->patch);
    end_piece(counted == PATCH);

    begin_piece(counted == ANSWER);
    core_event_json(&event, &desk->answer);
    end_piece(counted == ANSWER);
    arena_reset(&desk->scratch);
}

static void do_body(struct desk *desk, struct str body, int counted)
{
    struct request *request = house_decode(desk->decoder, STR("bench0"), body);
    for (uint32_t i = 0; i < request->commands_n; i++)
        do_command(desk, &request->commands[i].command, counted);
    request_free(request);
}

static void desk_open(struct desk *desk)
{
    *desk = (struct desk){.limits = core_limits_default, .now_ms = INT64_C(1767323045678)};
    heap_init(&desk->heap);
    desk->decoder = decoder_new(&desk->limits, 100, 1 << 20);
    desk->session = core_session_new(&desk->heap.core, &desk->limits, STR("bench0"), STR("1"));
    do_body(desk, STR(HOUSE_BEGINNING), -1);
    for (unsigned i = 0; i < 2 * WINDOW_MESSAGES; i++)
        do_body(desk, buf_str(&kinds[0].bodies[0]), -1);
}

static void desk_close(struct desk *desk)
{
    core_session_free(desk->session);
    heap_free(&desk->heap);
    decoder_free(desk->decoder);
    arena_free(&desk->scratch);
    buf_free(&desk->bytes);
    buf_free(&desk->patch);
    buf_free(&desk->answer);
}

static void run_bodies(struct desk *desk, const struct kind *kind, unsigned n, int counted)
{
    for (unsigned i = 0; i < n; i++) {
        do_body(desk, body_of(kind, i), counted);
        desk->now_ms += i % COMMANDS_A_TICK == 0;
    }
}

static void count_core(const struct kind *kind, int stage)
{
    struct desk desk;
    desk_open(&desk);
    run_bodies(&desk, kind, 2 * WINDOW_MESSAGES, -1);
    CALLGRIND_START_INSTRUMENTATION;
    run_bodies(&desk, kind, CORE_COMMANDS, stage);
    finish_row(kind, stage_names[stage], CORE_COMMANDS);
    desk_close(&desk);
}

/* ---- decode: from a body to commands */

static void count_decode(const struct kind *kind, int how)
{
    struct core_limits limits = core_limits_default;
    struct decoder *decoder = decoder_new(&limits, 100, 1 << 20);
    unsigned times = kind->commands > 1 ? 16 : CORE_COMMANDS;
    (void)how;
    CALLGRIND_START_INSTRUMENTATION;
    for (unsigned i = 0; i < 2 * times; i++) {
        begin_piece(i >= times);
        struct request *request = house_decode(decoder, STR("bench0"), body_of(kind, i));
        end_piece(i >= times);
        request_free(request);
    }
    finish_row(kind, "decode", times * kind->commands);
    decoder_free(decoder);
}

/* ---- shard: from the ring to the answer */

static const char *const shard_names[] = {"shard", "shard, followed"};

static void run_turn(struct house *house, const struct kind *kind, unsigned turn, bool counted)
{
    struct request *requests[32];
    assert(kind->sessions <= sizeof(requests) / sizeof(requests[0]));
    for (unsigned i = 0; i < kind->sessions; i++)
        requests[i] = house_request(house, i, body_of(kind, turn));
    begin_piece(counted);
    house_turn(house, requests, kind->sessions);
    end_piece(counted);
}

static void run_one(struct house *house, unsigned session, struct str body)
{
    struct request *request = house_request(house, session, body);
    house_turn(house, &request, 1);
}

/* Windows full of this kind's messages, and sessions at different distances to their next
 * snapshot. */
static void fill(struct house *house, const struct kind *kind)
{
    for (unsigned session = 0; session < kind->sessions; session++) {
        unsigned bodies = WINDOW_MESSAGES / kind->commands + session * kind->stagger;
        for (unsigned i = 0; kind->update && i < WINDOW_MESSAGES; i++)
            run_one(house, session, buf_str(&kinds[0].bodies[0]));
        for (unsigned i = 0; i < bodies; i++)
            run_one(house, session, body_of(kind, i + bodies));
    }
}

static void count_shard(const struct kind *kind, int followed)
{
    struct house house;
    house_open(&house, kind->sessions, followed);
    fill(&house, kind);
    uint32_t frames = house.frames;
    CALLGRIND_START_INSTRUMENTATION;
    for (unsigned turn = 0; turn < WARM_TURNS + kind->turns; turn++)
        run_turn(&house, kind, turn, turn >= WARM_TURNS);
    finish_row(kind, shard_names[followed], kind->turns * kind->sessions * kind->commands);
    if (house.frames - frames != (followed ? (WARM_TURNS + kind->turns) * kind->sessions : 0))
        house_fail("%u frames came", house.frames - frames);
    house_close(&house);
}

/* ---- all of it: from a connection to a connection */

static void run_round(struct front *front, const struct kind *kind, unsigned round, bool counted)
{
    for (unsigned i = 0; i < kind->sessions; i++)
        front_ask(front, i, body_of(kind, round));
    begin_piece(counted);
    front_turn(front);
    front_turn(front);
    end_piece(counted);
    for (unsigned i = 0; i < kind->sessions; i++) {
        front_hear(front, i);
        if (front->watchers[i] >= 0)
            front_see(front, i);
    }
}

static const char *const post_names[] = {
    [FRONT_PLAIN] = "POST", [FRONT_WATCHED] = "POST, watched", [FRONT_TOKEN] = "POST, token"};

static void count_post(const struct kind *kind, int how)
{
    bool watched = how == FRONT_WATCHED;
    unsigned rounds = WARM_TURNS + kind->turns;
    uint64_t sent = (uint64_t)rounds * kind->sessions * kind->commands;
    struct house house;
    struct front front;
    house_open(&house, kind->sessions, false);
    fill(&house, kind);
    front_open(&front, &house, kind->sessions, (enum front_kind)how);
    CALLGRIND_START_INSTRUMENTATION;
    for (unsigned round = 0; round < rounds; round++)
        run_round(&front, kind, round, round >= WARM_TURNS);
    finish_row(kind, post_names[how], kind->turns * kind->sessions * kind->commands);
    if (front.seen != (watched ? sent : 0))
        house_fail("%llu of %llu events were seen", (unsigned long long)front.seen,
                   (unsigned long long)sent);
    front_close(&front);
    house_close(&house);
}

/* ---- all rows */

/* What it costs to switch counting on and off once. */
static void count_nothing(const struct kind *kind, int how)
{
    (void)how;
    CALLGRIND_START_INSTRUMENTATION;
    for (unsigned i = 0; i < CORE_COMMANDS; i++) {
        begin_piece(true);
        end_piece(true);
    }
    finish_row(kind, "nothing", CORE_COMMANDS);
}

static void count_kind(const struct kind *kind)
{
    for (int stage = 0; stage < STAGES && kind->commands == 1; stage++)
        run_row(kind, stage_names[stage], count_core, stage);
    run_row(kind, "decode", count_decode, 0);
    for (int followed = 0; followed < 2; followed++)
        run_row(kind, shard_names[followed], count_shard, followed);
    for (int how = FRONT_PLAIN; how <= FRONT_TOKEN; how++)
        run_row(kind, post_names[how], count_post, how);
}

int main(int argc, char **argv)
{
    enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };
    static const struct kind nothing = {.name = "nothing"};
    if (argc > 2 || !RUNNING_ON_VALGRIND) {
        fputs("instructions: runs under valgrind --tool=callgrind, with one argument at most; see "
              "check.mjs beside its source\n",
              stderr);
        return 2;
    }
    printf("gcc %s, glibc %s\n", __VERSION__, gnu_get_libc_version());
    fflush(stdout);
    for (unsigned i = 0; i < KINDS; i++) {
        make_body(&kinds[i], 0, &kinds[i].bodies[0]);
        make_body(&kinds[i], 1, &kinds[i].bodies[1]);
    }
    run_row(&nothing, "", count_nothing, 0);
    chosen = argc == 2 ? argv[1] : "";
    rows = 0;
    for (unsigned i = 0; i < KINDS; i++)
        count_kind(&kinds[i]);
    if (rows == 0) {
        fprintf(stderr, "instructions: no row is called anything with '%s' in it\n", chosen);
        return 2;
    }
    return 0;
}
