/*
 * model: what the clients know, from replies and frames alone, and whether it can all be true.
 *
 * A session id has lives, named by their epochs. Of each life the model holds its events, in order,
 * as JSON texts that some reply or frame has shown. It folds them with core as they become known
 * without a gap, through the command behind each event (every command carries a `trace` of its
 * own): deciding that command on the state before must give exactly the event that was shown. So
 * events, views, state hashes and chains are worked out here a second time, and everything that is
 * shown later is compared with them.
 *
 * What is checked, by name:
 *
 *     acknowledged    a command that was acknowledged is where the acknowledgement said, and stays
 *     once            no command is in a session twice, none that was refused or given up is there
 *     gap             events come numbered without a gap
 *     event           an event is always shown as the same bytes
 *     fold            events, views, hashes and chains are those of the fold
 *     shown           what a reply or frame has shown is there after every crash
 *     key             a repeated request with the same key gets the same answer, and no second
 * event atomic          an atomic batch is there whole or not at all life            a session that
 * was deleted stays so; epochs ascend and are never used again list            a list names exactly
 * the sessions there are patch           patches fold to the view stale           a read is no
 * older than what its client knew before gone            410 only where history may be dropped
 *     refused         an error that has no excuse, a start or a stop that fails without one
 *
 * and by run.c
 *
 *     lease           in the end, agents whose lease has run out are offline
 *     wake            in the end, who has a target has been told of its newest unread message
 *     pins            as many pins are held after a start as there are forks that need one
 *     verify          `atoll verify` finds no fault in what is whole, nor in a backup of it
 */
#ifndef ATOLL_TESTS_SIM_MODEL_H
#define ATOLL_TESTS_SIM_MODEL_H

#include "tests/sim/sim.h"

enum { MODEL_SESSIONS_MAX = 64, MODEL_LIVES_MAX = 256 };

struct model;
struct life;

/* How far a command has come. */
enum command_state {
    COMMAND_UNSENT,
    COMMAND_SENT,    /* and not answered, or not so that one would know */
    COMMAND_APPLIED, /* it is event `seq` of `life` */
    COMMAND_VOID,    /* answered, and led to no event */
    COMMAND_LOST     /* unanswered when the process crashed, and not there afterwards */
};

struct model_command {
    struct core_command command; /* in the model's arena */
    struct id *id;               /* the session it was sent to */
    struct batch *batch;
    uint32_t index; /* in the batch */
    enum command_state state;
    struct life *life;
    uint64_t seq;
};

/* What goes out in one request, and may go out again where it has a key. */
struct batch {
    struct batch *next;
    struct id *id;
    uint32_t first, n; /* of the model's commands */
    bool many, atomic; /* as an array; all or none */
    struct str key;    /* p == NULL: none */
    bool item_keys;    /* each command has one of its own: its trace */
    bool has_expected; /* of a single command */
    uint64_t expected;
    struct str answer; /* the first one of 200; p == NULL: not known */
    struct life *answer_life;
    uint64_t answer_seq;
    int64_t first_ms; /* when it was sent first, wall clock */
    bool expired;     /* its keys may have been forgotten since: a day has gone by */
    unsigned out;     /* how often it is on its way */
    bool open;        /* one of those was answered so that nobody knows */
    bool twice;       /* it was sent again while it was on its way */
    bool creates;     /* a command in it is session.create */
};

struct model_event {
    struct str json, bytes, view;
    struct core_chain chain;
    struct core_hash hash;
    int64_t ts_ms;
    enum core_type type;
    uint32_t command; /* its number + 1; 0: a fork's beginning, or the parent's */
};

/* Something that was shown of a seq before the model knew the events up to it. */
struct pending {
    struct pending *next;
    uint64_t seq;
    enum { PENDING_VIEW, PENDING_CHAIN, PENDING_PROOF } kind;
    struct str text;
};

enum life_state {
    LIFE_LIVES,
    LIFE_ENDED /* a deletion was acknowledged, or seen */
};

struct life {
    struct id *id;
    char epoch[CORE_EPOCH_BYTES + 1];
    enum life_state state;
    struct life *parent;        /* a fork */
    uint64_t at;                /* up to which it shares the parent's events */
    struct core_session *core;  /* the fold; NULL: not begun */
    struct model_event *events; /* event n is events[n - 1] */
    uint64_t n;
    struct str *known; /* by seq - 1: JSON that is not folded yet; p == NULL: not known */
    uint32_t *owed;    /* by seq - 1: the number + 1 of the command that was acknowledged there */
    uint64_t room;
    uint64_t shown; /* the newest seq that was shown to anyone */
    uint64_t acknowledged;
    bool may_expire;     /* it has a ttl, or nobody knows yet */
    uint64_t ttl_s;      /* 0: none, or not known */
    uint64_t oldest;     /* events and states below may be gone; 0: none may */
    bool unknown_before; /* events were gone before the model had seen them: no fold */
    struct pending *pending;
};

/* A session id. */
struct id {
    char text[CORE_ID_BYTES + 1];
    struct life *lives[MODEL_LIVES_MAX]; /* in the order in which they were noticed */
    unsigned lives_n;
    /* Since the last start: deletions, creations and forks that are out or whose outcome is open.
     */
    unsigned deletes_open, creates_open;
    uint64_t deletes_sent;
    uint64_t steps;           /* commands made for it */
    struct life *fork_parent; /* of the fork that was last asked for under this id */
    uint64_t fork_at;
    char cursors[2][512]; /* of earlier inbox answers, to these agents */
    struct str readers[2];
};

struct model_limits {
    struct core_limits core;
    bool history_may_go; /* retention is on: 410 is an answer */
    bool expiry;         /* sessions may have a ttl */
};

struct model *model_new(const struct model_limits *limits);
struct arena *model_arena(struct model *model);
const struct core_limits *model_core_limits(const struct model *model);

/* The data directory's, once there is one: of it depends what a wake target's realm is. */
void model_set_seed(struct model *model, uint64_t hash_seed);
bool model_history_may_go(const struct model *model);
struct id *model_id(struct model *model, const char *text); /* found or made */
unsigned model_ids(const struct model *model);
struct id *model_nth_id(const struct model *model, unsigned n);
/* The newest life that has not ended; NULL: none that is known of. */
struct life *model_current(const struct id *id);
struct life *model_find_life(const struct id *id, const char *epoch);
bool model_epoch_above(const char *a, const char *b);
/* Found, or noticed for the first time: then, where a fork was asked for under that id, this is it,
 * and it shares the parent's events. */
struct life *model_life(struct model *model, struct id *id, const char *epoch);

/* ---- commands */

struct batch *model_batch_new(struct model *model, struct id *id);
/* Adds a command, whose strings must be in the model's arena, and gives it its trace. */
void model_batch_add(struct model *model, struct batch *batch, const struct core_command *command);
struct model_command *model_command(struct model *model, uint32_t number);
uint32_t model_commands(const struct model *model);
struct batch *model_batches(struct model *model);

/* ---- what was shown */

/* One event, as JSON. */
void model_learn(struct model *model, struct life *life, struct str json);
/* All of a JSON text like …"events":[{…},{…}]…; returns how many, the last one's seq in *last. */
unsigned model_learn_events(struct model *model, struct life *life, struct str body,
                            const char *array, uint64_t *last);
/* The session stood at seq. */
void model_shown(struct life *life, uint64_t seq);
/* An envelope {"epoch":…,"seq":…,"ts":…,"state":…}. */
void model_show_view(struct model *model, struct life *life, uint64_t seq, struct str body);
/* Something in which the chain and the state hash after seq stand in hexadecimal. */
void model_show_proof(struct model *model, struct life *life, uint64_t seq, struct str body);
/* The same without the hash. */
void model_show_chain(struct model *model, struct life *life, uint64_t seq, struct str body);
/* A command is said to be event `seq` of life. */
void model_acknowledge(struct model *model, uint32_t number, struct life *life, uint64_t seq);
void model_ended(struct model *model, struct life *life);

/* The state after `seq`, folded anew: the caller frees. NULL where it is not known. */
struct core_session *model_state_at(struct model *model, const struct life *life, uint64_t seq);
/* Seq of the newest message, as far as that is known, that is unread for the agent, and where asked
 * for mentions it; 0: there is none. */
uint64_t model_newest_unread(struct model *model, const struct life *life, struct str agent,
                             bool mentions);
/* Whether an event that is folded was made by the shard itself. */
bool model_is_own(const struct life *life, uint64_t seq);
/* How many forks are there, or were and are needed by others: so many pins there must be. */
unsigned model_pins(const struct model *model);

/* ---- crashes */

/* Once a start after a crash has been looked at: what is not there by now must not come later. */
void model_give_up_open(struct model *model);
/* No batch may be there in part. */
void model_check_batches(struct model *model);

/* ---- reading JSON without a parser: these texts are core's own, or have been compared with it */

/* The number behind the first `"name":`, 0 where there is none. */
uint64_t text_number(struct str text, const char *name);
/* The string behind the first `"name":"`, which holds no escapes; p == NULL: none. */
struct str text_string(struct str text, const char *name);
/* The next object of an array whose inside is *rest. */
bool text_next_object(struct str *rest, struct str *object);
/* The inside of the array behind `"name":[`; n == 0: none, or empty. */
struct str text_array(struct str text, const char *name);
/* RFC 3339 as json_add_time writes it. */
int64_t text_time(struct str text);

#endif
