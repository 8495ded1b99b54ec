/*
 * target: what messages are sent to, and in what form.
 *
 *   atoll   message.send commands; sessions are made if need be, with the agent "a1" and the
 *           thread "work", and read back
 *   http    the same POSTs, to any server that answers 2xx, such as rivals/baseline-h2o, or to
 *           --path; nothing but the answers is looked at
 *   redis   XADD of the content to a stream for each session, and streams read back
 *
 * Thread: one.
 */
#ifndef ATOLL_LOAD_TARGET_H
#define ATOLL_LOAD_TARGET_H

#include "drive.h"
#include "verify.h"

#define TARGET_NAMES "atoll http redis"

/* Makes requests of `batch` messages each: prepared once for each connection, so that for each
 * request only the session's name and the markers are written. */
struct target {
    const struct load_options *options;
    struct verify *verify;
    bool redis, atoll;
    unsigned batch;
    /* The parts of a HTTP request around the session's number. */
    char *before, *behind;
    size_t before_n, behind_n;
    bool numbered; /* there is a number */
    char *padding; /* what follows the marker in a content, and the sign behind the content */
    size_t message_bytes; /* from one marker to the next */
    size_t marker_at;     /* of the first, in `behind` or in a request of Redis */
    size_t key_at, key_n; /* of the first, in a request of Redis */
    size_t room;          /* of a request */
};

/* `path` of target http, `{}` in it is the session's number; NULL: as of Atoll. Refuses (exit 2)
 * what cannot be. Sets what verify has to know of contents. */
void target_open(struct target *target, const struct load_options *options, struct verify *verify,
                 const char *path);
void target_close(struct target *target);

/* Makes the sessions, where the target has such, and notes where each stands (verify->base). False:
 * told in the report, or on standard error. */
bool target_prepare(struct target *target, struct report *report);

/* The constant parts of the connection's requests, into `room` bytes. */
void target_fill(const struct target *target, char *buffer, unsigned writer);
/* The request for the session with counters `counter` and up, in a buffer that was filled. */
struct drive_request target_request(const struct target *target, char *buffer, struct http *http,
                                    unsigned session, uint64_t counter);
/* Reads an answer. */
enum http_result (*target_go_on(const struct target *target))(struct http *http);
/* Whether the answer acknowledges all of the request; of a batch of Atoll each command. */
bool target_is_good(const struct target *target, const struct http *http);

#endif
