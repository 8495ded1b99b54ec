/*
 * patch: RFC 6902 on jansson values, as far as Atoll's patches go (add, remove, replace), written
 * apart from the code under test.
 */
#ifndef ATOLL_TESTS_SIM_PATCH_H
#define ATOLL_TESTS_SIM_PATCH_H

#include "tests/sim/sim.h"

#include <jansson.h>

/* NULL where it is no JSON. */
json_t *patch_parse(struct str text);
/* Applies an array of operations. False: one of them cannot be applied. */
bool patch_apply(json_t *tree, const json_t *operations);

#endif
