/* json_theirs: what another library (jansson) says of JSON. */
#ifndef ATOLL_TESTS_FUZZ_JSON_THEIRS_H
#define ATOLL_TESTS_FUZZ_JSON_THEIRS_H

#include "core/base.h"

/* Whether both are JSON, and mean the same. */
bool theirs_equal(struct str a, struct str b);

#endif
