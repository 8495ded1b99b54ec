/*
 * A client that watches a session, and believes nothing: it reads the text that its watcher is
 * given as a client would, folds it, and holds each state against the one that the session really
 * had at that seq. What the session really had is noted where the shard applies events (truth_*),
 * and owes nothing to feeds, frames, texts or merging.
 *
 * A client outlives its watchers: it comes back with what it has, or as somebody else.
 */
#ifndef ATOLL_TESTS_WATCHED_CLIENT_H
#define ATOLL_TESTS_WATCHED_CLIENT_H

#include "tests/property/core_generator.h"

#include "server/framing.h"
#include "server/outlet.h"

/* ---- what sessions really were */

enum { PARTS_SETS = 4, VIEWS = 2 * PARTS_SETS }; /* a view: 2 * set of parts + compact */

struct truth {
    char *views[VIEWS]; /* good where it is of the life's seq */
    char *event;
};

struct life {
    struct life *next; /* an older one */
    char session[CORE_ID_BYTES + 1], epoch[CORE_EPOCH_BYTES + 1];
    uint64_t seq;
    struct truth *truths; /* [0..seq] */
    bool deleted;         /* it was asked for, and not refused */
};

extern const struct core_parts *truth_parts[PARTS_SETS]; /* [0] is NULL: all */

/* The newest one of the session; NULL: none. */
struct life *truth_newest(const char *session);
struct life *truth_life(const char *session, struct str epoch);
json_t *truth_view(const struct life *life, uint64_t seq, unsigned view);
bool truth_has_type(const struct life *life, uint64_t seq, uint32_t types);
void truth_forget(void);

/* ---- what the server has around watchers, without connections */

struct reactor;

struct frontend *watched_frontend_new(struct reactor *reactor, struct mailbox *mailbox,
                                      const struct core_limits *limits);
/* What is due. */
void watched_frontend_work(struct frontend *frontend);
bool watched_frontend_rests(const struct frontend *frontend);
/* Nothing may be left in it. */
void watched_frontend_free(struct frontend *frontend);

/* ---- clients */

enum position {
    POSITION_NONE,
    POSITION_OWN,       /* the id of the last message it got */
    POSITION_OWN_AFTER, /* the same as a seq */
    POSITION_AFTER,     /* some seq */
    POSITION_FOREIGN,   /* the id of somebody else */
    POSITION_GARBAGE,
    POSITION_KNOWN, /* of the shard */
    POSITION_COUNT
};

enum client_state { CLIENT_CLOSED, CLIENT_OPEN, CLIENT_BEGUN, CLIENT_REFUSED };

/* Where a session stood at a position of its shard. */
struct known {
    bool good;
    char epoch[CORE_EPOCH_BYTES + 1];
    uint64_t seq, position;
};

struct client {
    struct watcher watcher;
    struct outlet outlet; /* what outlet_full looks at, and no more */
    unsigned number;
    enum client_state state;
    /* What it watches. */
    char session[CORE_ID_BYTES + 1];
    unsigned form, view; /* view: its form and parts; of events: 0 */
    enum watcher_framing framing;
    uint32_t types;
    /* How it came. */
    enum position position;
    char base_epoch[CORE_EPOCH_BYTES + 1]; /* "": of whichever life there is */
    uint64_t base_seq;
    bool base_good;    /* what follows it may come alone */
    bool asks_anew;    /* its id is of another view */
    bool closes_begun; /* it goes as soon as it has begun */
    bool refill;       /* its owner fills again while anything was said (stream.c), else while
                          watcher_fill says so (socket.c) */
    /* What it has. */
    bool woken, filling, ended;
    uint64_t messages; /* of this watcher */
    char epoch[CORE_EPOCH_BYTES + 1];
    uint64_t told;
    json_t *folded; /* NULL: nothing yet */
    char id[FRAMING_ID_BYTES + 1];
    struct buf text; /* that was not read yet */
};

/* What all of them got, to see that a run meets what it is for. */
struct client_counts {
    uint64_t snapshots, resets, slow, patches, narrowed, merged, events, ends, resumed, refused;
};
extern struct client_counts client_counts;

/* False: it could not be asked for. */
bool client_open(struct client *client, struct frontend *frontend, struct generator *g,
                 const struct client *other, const struct known *known);
void client_close(struct client *client);
/* As an outlet does where it takes so many pieces and bytes at least. */
void client_fill(struct client *client, uint32_t pieces, size_t bytes);
/* All has come to rest: it must have all there is. */
void client_expect_level(struct client *client);
void client_free(struct client *client);

#endif
