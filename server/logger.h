/*
 * logger: what happens in the server, as lines of JSON on standard error; what an audit asks for,
 * where wished, in a file of its own.
 *
 *     {"ts":"2025-03-01T09:30:00.123Z","level":"warn","event":"connection_refused","address":"…"}
 *
 * What shards have to report (shards/report.h) comes here, too, once logger_start has been called.
 *
 * Normal path: a line is put together in the caller's frame and handed to a ring of its thread; one
 * writer thread drains all rings. Nobody waits for the disk or a terminal. Before logger_start and
 * after logger_stop a line is written by whoever makes it.
 * Failure: a ring that is full drops the line and counts it; so does a write that fails. Of one
 * event a thread gets LOGGER_REPEATS_PER_S lines through in a second, but for those of
 * LOGGER_DEBUG and of the audit; the rest is counted. The writer tells how many there were of
 * either, by "log_lines_dropped" and "log_lines_suppressed".
 *
 * Thread: any. Lines of one thread stay in order.
 */
#ifndef ATOLL_SERVER_LOGGER_H
#define ATOLL_SERVER_LOGGER_H

#include "core/base.h"

enum logger_level { LOGGER_ERROR, LOGGER_WARN, LOGGER_INFO, LOGGER_DEBUG };

/* As options and lines have them, in their order. */
#define LOGGER_LEVELS "error|warn|info|debug"

enum {
    LOGGER_LINE_BYTES = 2048, /* a longer one is cut, says "cut":true, and stays JSON */
    LOGGER_RING_LINES = 1024, /* of one thread, not yet written; beyond them lines are dropped */
    LOGGER_REPEATS_PER_S = 20,
};

struct logger_line {
    enum logger_level level;
    bool audit;
    bool cut;
    const char *event;
    int64_t second; /* Unix time */
    size_t n;       /* 0: not wanted */
    char text[LOGGER_LINE_BYTES];
};

/*
 * Begins to write by a thread of its own. `audit_file` ("" or NULL: none) is appended to, and made
 * for its owner alone where it is not there. 0, or -errno with a sentence in `error`.
 */
int logger_start(const char *audit_file, char *error, size_t error_size);
/* Writes what was handed over (for at most 5 s, where nobody takes it), and ends the thread. No
 * thread may be making lines meanwhile. */
void logger_stop(void);
/* The audit file was moved away: opens it anew. Where that fails the old one stays, and a line says
 * so. */
void logger_reopen_audit(void);

/* LOGGER_INFO at first. */
void logger_set_level(enum logger_level level);
enum logger_level logger_level(void);
const char *logger_level_name(enum logger_level level);
/* False: there is no level of this name. */
bool logger_level_of(struct str name, enum logger_level *level);
bool logger_wants(enum logger_level level);

/* `event` and keys are literals of [a-z0-9_]. Nothing is written where the level is not wanted. */
void logger_begin(struct logger_line *line, enum logger_level level, const char *event);
/* A line that no level and no bound on repetition keeps back, and that goes to the audit file where
 * there is one. Whoever writes it sees to it that nobody can make too many. */
void logger_begin_audit(struct logger_line *line, const char *event);
/* Bytes that are no UTF-8 are told as U+FFFD; p == NULL as null. */
void logger_add_str(struct logger_line *line, const char *key, struct str value);
void logger_add_text(struct logger_line *line, const char *key, const char *value);
void logger_add_i64(struct logger_line *line, const char *key, int64_t value);
void logger_add_bool(struct logger_line *line, const char *key, bool value);
void logger_end(struct logger_line *line);

/* Since the start of the process. */
uint64_t logger_lines(void);      /* written */
uint64_t logger_dropped(void);    /* lost: a ring was full, or the write failed */
uint64_t logger_suppressed(void); /* repeated too often */

#endif
