/*
 * newid: session ids made by the server: "s" and base-32 digits that sort like numbers.
 */
#ifndef ATOLL_SERVER_NEWID_H
#define ATOLL_SERVER_NEWID_H

#include "core/base.h"

enum { NEWID_BYTES = 27 };

/* 48 bits of time, 16 of `counter`, 64 at random: ids made later sort later. */
struct str newid_by_time(char out[NEWID_BYTES], int64_t wall_ms, uint64_t counter);
/* Always the same for the same caller and key. */
struct str newid_by_key(char out[NEWID_BYTES], struct str caller, struct str key);

#endif
