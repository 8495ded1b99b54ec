/*
 * etag: "<epoch>-<seq>", quoted: where a session stands, as ETag, If-Match and If-None-Match. Pure.
 */
#ifndef ATOLL_SERVER_ETAG_H
#define ATOLL_SERVER_ETAG_H

#include "core/core.h"

enum { ETAG_BYTES = CORE_EPOCH_BYTES + 24 };

struct str etag_write(char out[ETAG_BYTES], struct str epoch, uint64_t seq);
/* False: not one of ours. `epoch` lies in `text`. The tag of a view, "<epoch>-<seq>-<view>", says
 * where the session stands as well. */
bool etag_read(struct str text, struct str *epoch, uint64_t *seq);
/* Whether a list of tags, as in If-None-Match, holds `etag`, weak or not; "*" holds all. */
bool etag_listed(struct str list, struct str etag);

#endif
