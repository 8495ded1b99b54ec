/*
 * shards_fixture: a cluster under test, and frontends without HTTP.
 *
 * Each reactor turns a `face`, which polls the reactor's two descriptors and one of its own: so a
 * test's thread can hand it things to do on the reactor's thread, and wait for what comes of them.
 *
 *     struct rig rig;
 *     rig_open(&rig, 2, IO_POSIX);                            // a directory, and a cluster of 2
 *     rig_do(&rig, 0, "s1", "session.create");                // by frontend 0, and it must succeed
 *     struct call *call = call_commands(&rig, 1, "s1", "agent.register agent=ada", NULL);
 *     call_wait(call_send(call));
 *     rig_close(&rig);                                        // must stop cleanly
 *
 * Commands are lines as in core_fixture.h. Waiting is for events only, and ends the process after
 * RIG_PATIENCE_S: what should have come has not.
 *
 * A call and a follower belong to the test; their fields change on the reactor's thread, under the
 * rig's mutex (RIG_UNTIL takes it). Nothing here may fail a cmocka assertion on another thread
 * than the test's: asserts guard those.
 */
#ifndef ATOLL_TESTS_UNIT_SHARDS_FIXTURE_H
#define ATOLL_TESTS_UNIT_SHARDS_FIXTURE_H

#include "shards/cluster.h"
#include "shards/mailbox.h"
#include "tests/unit/scratch.h"

#include <pthread.h>

enum { RIG_FACES_MAX = 4, RIG_PATIENCE_S = 60 };

struct rig;
struct face;

/* ---- requests, also for tests without a cluster */

struct request *request_for(enum request_kind kind, const char *session);
/* Adds one command to a REQUEST_COMMANDS. */
struct request_command *request_add(struct request *request, const char *line);
struct str request_text(struct request *request, const char *text); /* a copy in its arena */

/* ---- the cluster */

/* Something to be done on a reactor's thread. */
struct errand {
    struct errand *next;
    void (*run)(struct face *face, struct errand *errand);
    bool done;
};

struct call;
struct follower;

struct face {
    struct rig *rig;
    unsigned number;
    struct reactor *reactor;
    struct mailbox *mailbox;
    int wake_fd, io_fd, bell_fd;
    /* Under the rig's mutex. */
    struct errand *errands, **errands_tail;
    struct buf relayed; /* "FROM:BYTES\n" of each relay */
    /* The reactor's thread. */
    bool deaf;          /* does not drain its mailbox */
    bool lingers;       /* never says that it has drained */
    struct call *waits; /* inbox waits that are out */
    bool waits_cancelled;
    uint64_t replies;
    struct follower *followers; /* not told to end yet */
};

struct rig {
    struct scratch scratch;
    struct cluster *cluster;
    struct cluster_options options;
    struct reactor_frontend_ops ops;
    struct face *faces[RIG_FACES_MAX];
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

void rig_open(struct rig *rig, unsigned shards, enum io_kind io);
void rig_close(struct rig *rig);
/* For other limits or segments: rig_prepare, change rig->options, rig_start. */
void rig_prepare(struct rig *rig, unsigned shards, enum io_kind io);
void rig_start(struct rig *rig); /* until its shards have recovered */
void rig_begin(struct rig *rig); /* until its faces run */
void rig_stop(struct rig *rig);  /* it must stop cleanly; what is out is answered or abandoned */
/* Stops it and starts it on what the directory holds. */
void rig_restart(struct rig *rig, unsigned shards);

/* Runs it on the reactor's thread and waits until it has. */
void rig_run(struct rig *rig, unsigned frontend, struct errand *errand);
void rig_post(struct rig *rig, unsigned frontend, struct errand *errand);
void rig_deafen(struct rig *rig, unsigned frontend, bool deaf);
/* From now on it never says that it has drained: it has to be stopped by the grace's end. */
void rig_linger(struct rig *rig, unsigned frontend);

void rig_lock(struct rig *rig);
void rig_unlock(struct rig *rig);
void rig_wait(struct rig *rig, const char *what); /* locked; until something has changed */
void rig_changed(struct rig *rig);                /* locked */

#define RIG_UNTIL(rig, condition)                                                                  \
    do {                                                                                           \
        rig_lock(rig);                                                                             \
        while (!(condition))                                                                       \
            rig_wait((rig), #condition);                                                           \
        rig_unlock(rig);                                                                           \
    } while (0)

/* ---- calls: one request each */

struct call {
    struct errand errand;
    struct rig *rig;
    struct face *face;
    struct request *request;         /* back here when it is done */
    int shard;                       /* REQUEST_LIST, REQUEST_STATUS; -1: the session's */
    void (*then)(struct call *call); /* if set: on the reactor's thread, instead of `done` */
    void *owner;
    int sent; /* 0, or -EAGAIN: the mailbox has refused it */
    bool done;
    uint64_t order;         /* its reply was the face's n-th, from 1 */
    struct call *wait_next; /* in face->waits */
};

struct call *call_new(struct rig *rig, unsigned frontend, struct request *request);
/* Lines up to a NULL; one line is a single command, more are a batch. */
struct call *call_commands(struct rig *rig, unsigned frontend, const char *session, ...)
    __attribute__((sentinel));
struct call *call_key(struct call *call, const char *key); /* of the whole request */
struct call *call_send(struct call *call);
/* All by one errand: they leave in this order, in one turn. */
void calls_send(struct call **calls, unsigned n);
struct call *call_wait(struct call *call);
void call_free(struct call *call);
/* On the reactor's thread. */
void call_send_here(struct call *call);
const char *call_body(struct call *call); /* with a NUL behind it */

/* Sends and waits; the caller frees. */
struct call *rig_ask(struct rig *rig, unsigned frontend, struct request *request);
/* One command that must succeed; the seq it was answered with. */
uint64_t rig_do(struct rig *rig, unsigned frontend, const char *session, const char *line);
/* One command that must be refused; its code. */
unsigned rig_refused(struct rig *rig, unsigned frontend, const char *session, const char *line);
/* The body of a REQUEST_VIEW; the caller frees. NULL: 404. */
char *rig_view(struct rig *rig, unsigned frontend, const char *session);
/* The session's shard, as a request's reply says. */
unsigned rig_shard_of(struct rig *rig, const char *session);

/* ---- followers: what a stream does with a feed */

struct follower {
    struct errand errand;
    struct rig *rig;
    struct face *face;
    struct follower *next;
    char session[CORE_ID_BYTES + 1];
    unsigned wants;
    bool again;     /* follows again by itself after NOTICE_LOST */
    bool has_after; /* begins there */
    uint64_t after;
    char after_epoch[CORE_EPOCH_BYTES + 1]; /* "": not said */
    const char *stale;
    bool compact;                   /* its snapshots */
    const struct core_parts *parts; /* NULL: all */

    bool asking;
    bool unsent; /* the mailbox refused the request: the face tries it again */
    uint64_t until;
    char epoch[CORE_EPOCH_BYTES + 1];
    uint64_t told; /* up to here, without a gap */
    uint64_t target;
    bool live;
    bool detached;        /* lost while it was asking */
    struct frame **early; /* came while it was asking */
    unsigned early_n, early_cap;

    unsigned replies, snapshots, pieces, frames, lost, ended;
    unsigned gaps, repeats;
    unsigned error;      /* of a FOLLOW that was refused */
    bool left;           /* REQUEST_UNFOLLOW was answered */
    struct buf snapshot; /* the newest */
    struct buf items;    /* one line each: the patch or the event */
    uint64_t items_n;
};

struct follower *follower_new(struct rig *rig, unsigned frontend, const char *session);
void follower_start(struct follower *follower);
void follower_wait_live(struct follower *follower);
void follower_wait_told(struct follower *follower, uint64_t seq);
void follower_leave(struct follower *follower); /* REQUEST_UNFOLLOW, and waits for its reply */
/* Goes on from where it stands. */
void follower_resume(struct follower *follower);
/* The cluster must have stopped, or the feed have ended or been left. */
void follower_free(struct follower *follower);

#endif
