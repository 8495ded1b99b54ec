/*
 * stage: all shards of a data directory in one thread, with clocks that the test sets. So what
 * takes a server hours takes no time, and every run is like the one before.
 *
 *     struct stage stage;
 *     stage_open(&stage, 2);                         // a directory, and two shards on it
 *     stage_populate(&stage, "s1");                  // ada, bob and the thread "general": seq 4
 *     stage_do(&stage, "s1", "agent.register agent=cy");
 *     stage_pass(&stage, 600 * 1000);                // ten minutes later
 *     stage_restart(&stage, 3, STAGE_KILL);
 *     stage_close(&stage);
 *
 * Commands are lines as in core_fixture.h. Whatever has to be waited for comes of turns; where it
 * does not come after very many, the test fails.
 *
 * Settings are small, so that a few hundred events make many snapshots, segments and checkpoints.
 */
#ifndef ATOLL_TESTS_UNIT_STAGE_H
#define ATOLL_TESTS_UNIT_STAGE_H

#include "tests/unit/core_fixture.h"
#include "tests/unit/io_fake.h"
#include "tests/unit/scratch.h"

#include "shards/mailbox_internal.h"
#include "shards/shard.h"

enum { STAGE_SHARDS_MAX = 4, STAGE_PATIENCE = 200000 /* turns */ };

struct stage {
    struct scratch scratch;
    unsigned copies; /* directories made by crashes */
    struct datadir *dir;
    unsigned n;
    struct shard *shards[STAGE_SHARDS_MAX];
    struct io_fake *fakes[STAGE_SHARDS_MAX];
    struct mailbox mailboxes[STAGE_SHARDS_MAX];
    struct rings *rings;
    _Atomic(const char *) failed;
    _Atomic uint64_t full;
    struct core_limits limits;
    struct shard_settings settings; /* for the next start */
    uint64_t segment_bytes;
    int64_t now_ms, wall_ms;
    const struct wake_courier *courier; /* for the next start; NULL: none */
};

enum stage_end {
    STAGE_CLEAN, /* snapshots, a last checkpoint */
    STAGE_KILL,  /* everything is committed, and that is all */
    STAGE_CRASH  /* in the midst of whatever is under way */
};

void stage_open(struct stage *stage, unsigned shards);
/* For other limits or settings: stage_prepare, change them, stage_start. */
void stage_prepare(struct stage *stage, unsigned shards);
void stage_start(struct stage *stage);
/* The same, where the start may fail: its sentence into `error`. */
int stage_try_start(struct stage *stage, char *error, size_t error_size);
void stage_stop(struct stage *stage, enum stage_end how);
void stage_restart(struct stage *stage, unsigned shards, enum stage_end how);
void stage_close(struct stage *stage);
/* Where the directory lies now. */
const char *stage_path(const struct stage *stage);

/* One turn of each shard. True: there is more to do at once. */
bool stage_turn(struct stage *stage);
/* Turns until nothing is left to do but what time brings. */
void stage_settle(struct stage *stage);
/* Time goes by, and what is due then happens. */
void stage_pass(struct stage *stage, int64_t ms);

/* ---- requests */

/* A request that is under way. */
struct ask {
    struct request *request;
    bool done;
};

struct ask *stage_send(struct stage *stage, struct request *request);
/* Its answer, which the caller frees; the ask is gone. */
struct request *stage_await(struct stage *stage, struct ask *ask);
/* Ends its wait. */
struct request *stage_cancel(struct stage *stage, struct ask *ask);
struct request *stage_ask(struct stage *stage, struct request *request);
/* Must be answered well, or with this error. */
struct request *stage_ask_well(struct stage *stage, struct request *request);
void stage_expect_refused(struct stage *stage, struct request *request, unsigned error);
const char *stage_text(struct request *request); /* its body, with a NUL behind it */

struct shard *stage_shard_of(struct stage *stage, const char *session);
bool stage_is_active(struct stage *stage, const char *session);
/* A session in memory leaves it: everything else does too. */
void stage_passivate(struct stage *stage);

struct request *stage_command(const char *session, const char *line);
uint64_t stage_do(struct stage *stage, const char *session, const char *line);
void stage_populate(struct stage *stage, const char *session);
/* So many messages with contents of so many bytes. */
void stage_talk(struct stage *stage, const char *session, unsigned n, unsigned bytes);
void stage_delete(struct stage *stage, const char *session);
struct request *stage_fork_request(const char *parent, uint64_t at, const char *child);
void stage_fork(struct stage *stage, const char *parent, uint64_t at, const char *child);

/* Bodies; the caller frees. NULL: 404. */
char *stage_view(struct stage *stage, const char *session);
char *stage_view_at(struct stage *stage, const char *session, uint64_t seq);
char *stage_proof(struct stage *stage, const char *session, uint64_t seq); /* 0: now */
void stage_expect_view(struct stage *stage, const char *session, const char *expected);
/* A member of the shards' status, of all together. */
uint64_t stage_figure(struct stage *stage, const char *name);

/* ---- what a session should be, folded by the test itself from what an export holds */

struct tale {
    struct core_heap heap;
    size_t heap_bytes;
    struct core_limits limits;
    struct core_session *core; /* NULL: before the first event */
    char epoch[CORE_EPOCH_BYTES + 1];
    struct core_chain chain;
    struct arena scratch;
    char *lines, *at; /* of the export, head and events */
};

void tale_begin(struct tale *tale, struct stage *stage, const char *session);
/* Applies the next event. False: that was the last one. */
bool tale_next(struct tale *tale);
/* As REQUEST_VIEW and REQUEST_PROOF should answer at this seq. */
void tale_expect_view(struct tale *tale, const char *view);
void tale_expect_proof(struct tale *tale, const char *proof);
void tale_end(struct tale *tale);
/* All of the above, at so many seqs evenly spread, and at the end. */
void stage_expect_whole(struct stage *stage, const char *session, unsigned looks);

/* ---- watching */

struct watch {
    uint64_t told;
    unsigned frames, snapshots, gaps, ended, lost;
    char reset[64];
    struct buf items; /* one line each */
};

/* Follows the session from `after` on (UINT64_MAX: from now), until it is up to date. */
void stage_follow(struct stage *stage, struct watch *watch, const char *session, uint64_t after);
void stage_unfollow(struct stage *stage, struct watch *watch, const char *session);
void watch_free(struct watch *watch);

/* ---- the files */

/* Whether any file of the directory holds these bytes. */
bool stage_finds(const struct stage *stage, const char *bytes);
unsigned stage_files(const struct stage *stage, const char *prefix);

json_t *json_of(const char *text);
json_t *json_of_text(struct str text);
/* What stands at a JSON Pointer of a text, compactly; `expected` NULL: nothing. */
void expect_json(const char *text, const char *pointer, const char *expected);

#endif
