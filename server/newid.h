/*
 * newid: session ids made by the server: "s" and base-32 digits that sort like numbers. A node with
 * a tag (--node-tag) puts it in front, "TAG-s…": so whatever stands before several nodes sends a
 * request to the one that made its session, by the path alone. A node keeps its tag for life, as it
 * keeps its data.
 *
 * Any thread. Nothing here fails.
 */
#ifndef ATOLL_SERVER_NEWID_H
#define ATOLL_SERVER_NEWID_H

#include "core/base.h"

enum {
    NEWID_TAG_BYTES = 8,    /* at most */
    NEWID_PLAIN_BYTES = 27, /* "s" and 26 digits */
    NEWID_BYTES = NEWID_TAG_BYTES + 1 + NEWID_PLAIN_BYTES
};

#define NEWID_TAG_RULE "1 to 8 of a-z and 0-9"

/* What --node-tag may be. */
bool newid_tag_valid(struct str tag);

/* Tags are good ones, or empty: a server that is alone. */

/* 48 bits of time, 16 of `counter`, 64 at random: ids made later sort later. */
struct str newid_by_time(char out[NEWID_BYTES], struct str tag, int64_t wall_ms, uint64_t counter);
/* Always the same for the same tag, caller and key. */
struct str newid_by_key(char out[NEWID_BYTES], struct str tag, struct str caller, struct str key);

/* Whether requests for `id` are sent to the node with this tag for sure: it begins with "TAG-", or
 * there is no tag, and so one node. */
bool newid_is_here(struct str id, struct str tag);
/* The tag of the node that made `id`, where that is another one than `tag`. Empty: nothing says so,
 * or there is no tag. */
struct str newid_other_tag(struct str id, struct str tag);

#endif
