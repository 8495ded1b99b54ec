/*
 * mode: what atoll-load can do, one file each, and the options that modes share.
 *
 *   atoll-load MODE [--url URL] [--pid PID] [OPTION]... [ARGUMENT]...
 *
 * main.c reads the options (--name VALUE or --name=VALUE, in any order), gives the mode those that
 * are its own, and runs it. Every option has a default, is checked for its range (a clear sentence,
 * exit 2), and is told in the report.
 */
#ifndef ATOLL_LOAD_MODE_H
#define ATOLL_LOAD_MODE_H

#include "report.h"

#include <netinet/in.h>
#include <signal.h>

enum { LOAD_PREFIX_BYTES = 40, LOAD_CONNECTIONS_MAX = 65536 };

struct load_options {
    const char *url; /* http://ADDRESS:PORT */
    struct sockaddr_in address;
    uint64_t pid; /* of the server, for its CPU and memory; 0: not told */
    double seconds, warmup_s;
    unsigned connections, sessions;
    unsigned payload_bytes; /* of a message's content */
    double rate;            /* operations a second, open loop; 0: closed loop */
    unsigned batch;         /* commands a request */
    const char *target;     /* one of the mode's targets */
    const char *prefix;     /* of session ids */
    uint64_t seed;
    bool quiet;
    const char *json, *html;
    char **arguments; /* what is no option, and all that follows "--"; ends with NULL */
    unsigned arguments_n;
};

/* A mode. Pointers that it has no use for are NULL. */
struct mode {
    const char *name;
    const char *summary; /* one line for --help */
    const char *help;    /* its own options, lines of "  --watchers N   what it is (default 8)\n" */
    const char *targets; /* that it knows, separated by spaces, the default first; NULL: atoll */
    const char *flags;   /* those of its own options that take no value: " --hold --get " */
    unsigned arguments_max;
    bool serverless; /* starts the server itself: --url is not asked for, and not to be used */
    /* Its own defaults of the common options, before they are read. */
    void (*defaults)(struct load_options *options);
    /* One of its own options ("--watchers") and its value (of a flag: NULL); false: it has none of
     * that name. A bad value: a sentence on standard error and exit(2), as of options.h. */
    bool (*option)(const char *name, const char *value);
    /* Returns 0, or 2 with a sentence on standard error where it could not run at all. What it
     * finds goes into the report, its own options too; main has put the common ones there. */
    int (*run)(const struct load_options *options, struct report *report);
};

/* Set by SIGINT and SIGTERM: whoever loops ends soon, and tells what it has. */
extern volatile sig_atomic_t load_stopped;

extern const struct mode mode_post, mode_batch, mode_ws, mode_watch, mode_idle, mode_wait,
    mode_mixed, mode_recover, mode_fill, mode_request, mode_mcp, mode_mcp_wait, mode_crowd;

#endif
