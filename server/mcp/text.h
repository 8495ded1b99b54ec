/*
 * text: what a model reads, put together from what core has written (server/scan.h).
 *
 * What agents wrote is shown as JSON strings, in quotes and escaped: so it cannot be taken for the
 * words around it, whatever it says. Pure.
 */
#ifndef ATOLL_SERVER_MCP_TEXT_H
#define ATOLL_SERVER_MCP_TEXT_H

#include "core/base.h"

/* Adds formatted text, at most 1 KiB of it. */
void text_add(struct buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Adds a JSON string as it is, or its first `max` bytes or less and a word on how many are left. */
void text_add_quoted(struct buf *out, struct str string, size_t max);
/* Adds ids of an array, or the names of an object's members, "a, b, c and 4 more"; "nobody". */
void text_add_ids(struct buf *out, struct str ids, size_t max);

#endif
