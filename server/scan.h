/*
 * scan: reading JSON that core has written (the bodies of replies), in place.
 *
 * core's text has no white space between tokens, is whole, and escapes what has to be: so nothing
 * is checked here, nothing copied, and no depth bounds it. What a client sends is for
 * server/json.h.
 *
 * A value is its text: {"a":1} with its braces, "x" with its quotes. p == NULL: there is none.
 * Pure.
 */
#ifndef ATOLL_SERVER_SCAN_H
#define ATOLL_SERVER_SCAN_H

#include "core/base.h"

/* The first value of a text that begins with one. */
struct str scan_value(struct str text);

/*
 * Walks through a container: begin with its text as *rest; each call gives one element, or one
 * member and its key (an id or another name without escapes; `key` may be NULL for an array).
 * False: there is none left, or it is no container.
 */
bool scan_next(struct str *rest, struct str *key, struct str *value);

/* A member of an object; p == NULL: it is not there. */
struct str scan_member(struct str object, const char *name);
struct str scan_find(struct str object, struct str name);
/* How many elements or members there are. */
size_t scan_count(struct str container);
/* Whether an array of ids holds `id`. */
bool scan_has(struct str ids, struct str id);

/* What may be hidden from whoever reads (redact.h), as an element of arrays is: null instead. */
static inline struct str scan_or_null(struct str value)
{
    return value.p != NULL ? value : STR("null");
}

/* An id, or another string without escapes: its text. p == NULL for null or no value. */
struct str scan_id(struct str value);
/* An unsigned number. */
uint64_t scan_u64(struct str value);
static inline bool scan_is_null(struct str value)
{
    return value.n == 0 || value.p[0] == 'n';
}

/* What stands in a string from byte `from` of its text on, or the next one where a character or
 * escape begins: `max` bytes or less, as no character and no escape is cut. */
struct str scan_piece(struct str string, size_t from, size_t max);
/* Adds the first `max` bytes of a string's text or less, as no character and no escape is cut;
 * with its quotes; "" for null or no value. False: that is not all of it. */
bool scan_add_cut(struct buf *out, struct str string, size_t max);

#endif
