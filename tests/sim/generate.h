/*
 * generate: random commands for a session, few ids so that they meet, of which most but not all
 * can be carried out.
 */
#ifndef ATOLL_TESTS_SIM_GENERATE_H
#define ATOLL_TESTS_SIM_GENERATE_H

#include "tests/sim/model.h"
#include "tests/sim/random.h"

struct generator {
    struct rng *rng;
    struct arena *arena;    /* where strings go */
    uint32_t content_bytes; /* the longest message */
    uint32_t ttl_percent;   /* of new sessions */
    bool attended;          /* agents get leases and wake targets */
};

/* `step` counts the commands of this session so far: the first ones set the scene. */
void generate_command(struct generator *g, const struct id *id, uint64_t step,
                      struct core_command *command);
void generate_create(struct generator *g, const struct id *id, struct core_command *command);

#endif
