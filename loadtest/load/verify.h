/*
 * verify: whether what a server has acknowledged is there: each once, none lost, each connection's
 * in the order in which it was sent, in the session that it was sent to, with the content that it
 * was sent with.
 *
 * What is sent carries a marker: the run, the writer (a connection), and a counter that starts at 0
 * for each writer. Where a counter goes is a rule (struct verify), so that nothing has to be kept
 * of each message and millions can be checked.
 *
 * Normal path: verify_open; marker_put into all that is sent, counters in order; verify_read at the
 * end, which pages through the events of every session by /v1/sessions/ID/events and tells the
 * report. Where there are more events than `read_max`, it reads pages spread evenly over each
 * session and says so; then the count alone (seq) shows that none between is lost.
 * Failure: a problem in the report for each kind of fault, with the first that it was seen at.
 *
 * Thread: one.
 */
#ifndef ATOLL_LOAD_VERIFY_H
#define ATOLL_LOAD_VERIFY_H

#include "mode.h"

#include <stddef.h>

enum {
    MARKER_BYTES = 26,    /* "@rrrrrr-wwwww-cccccccccccc": hexadecimal, so it needs no quoting */
    MARKER_RUN_BYTES = 8, /* "@rrrrrr-": by this a run's are found */
};

struct asker;
struct verify;

/* Where events are read from, a page at a time. */
struct verify_source {
    /* Puts into `next` where a session's first page after the beginning of the run is. */
    void (*first)(const struct verify *verify, unsigned session, char *next, size_t size);
    /* Reads the page at `next` into the asker's body, and moves `next` on; "": it was the last.
     * NULL, or what went wrong. */
    const char *(*page)(const struct verify *verify, struct asker *asker, unsigned session,
                        char *next, size_t size);
    bool whole; /* nothing can be left out */
};

struct verify_writer {
    uint64_t sent;         /* its counters are below this */
    uint64_t acknowledged; /* so many of the first were, but for the doubtful */
};

struct verify {
    const struct load_options *options;
    struct report *report;
    char run[MARKER_RUN_BYTES + 1];
    const struct verify_source *source; /* Atoll, unless told */
    unsigned sessions;
    /* The rule: counter n of writer w is for session (w * distance + n / batch * step) % sessions,
     * or, where `fixed`, for session w % sessions. So the writers begin far from each other and
     * each goes through all sessions, in leaps: no session is met while the caches still hold it
     * because its neighbour, or another writer, has just been there. */
    unsigned batch;
    uint64_t distance, step, step_inverse; /* step * step_inverse is 1 modulo sessions */
    bool fixed;
    /* What follows a marker in every event, such as the padding of a content and its quote; n 0:
     * not looked at. Borrowed. */
    const char *behind;
    size_t behind_n;
    /* The seq of each session before the run, or what else the source begins at; verify's own,
     * who has it fills it in. */
    uint64_t *base;
    unsigned writers_n;
    struct verify_writer *writers; /* the caller fills it in; verify's own */
    uint64_t read_max;             /* events that are read at the end, about */
    /* Sent and not acknowledged, before others that were: by verify_doubt. */
    struct verify_doubt *doubts;
    size_t doubts_n, doubts_room;
};

/* Makes a new run's name. Ends the program where there is no memory. */
void verify_open(struct verify *verify, const struct load_options *options, struct report *report,
                 unsigned writers, unsigned sessions, unsigned batch);
void verify_close(struct verify *verify);

/* Writes MARKER_BYTES, no zero byte behind them. */
void marker_put(char *out, const struct verify *verify, unsigned writer, uint64_t counter);
/* The counter alone, where the rest stands there already. */
void marker_count(char *out, uint64_t counter);

/* The session that a counter is for. */
unsigned verify_session(const struct verify *verify, unsigned writer, uint64_t counter);
/* Counters from..to-1 of a writer may be there, or not: refused, or their answer never came. */
void verify_doubt(struct verify *verify, unsigned writer, uint64_t from, uint64_t to);

/* Reads all back. Returns false where it could not; then that is a problem of the report. */
bool verify_read(struct verify *verify);

#endif
