/*
 * sim: what the parts of the simulator share: how a violation is told, and the trace.
 *
 * A violation ends the process (each seed has one of its own), after one line that says what was
 * violated; sim.c adds the command that repeats it.
 */
#ifndef ATOLL_TESTS_SIM_SIM_H
#define ATOLL_TESTS_SIM_SIM_H

#include "core/core.h"

enum { SIM_EXIT_VIOLATION = 3 };

/* `check` is a short fixed name: what was violated. */
_Noreturn void sim_violation(const char *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

extern bool sim_verbose;
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For %.*s */
#define SIM_STR(s) (int)(s).n, (s).p

static inline struct str sim_str(const char *text)
{
    return (struct str){text, strlen(text)};
}

/* Whether `text` holds `part`. */
static inline bool sim_holds(struct str text, struct str part)
{
    return part.n == 0 || memmem(text.p, text.n, part.p, part.n) != NULL;
}

#endif
