/*
 * json_internal: what server/json.c has of simdjson: the places of the tokens of a text, and
 * numbers between text and double. Its face in C; no other file needs it.
 */
#ifndef ATOLL_SERVER_JSON_INTERNAL_H
#define ATOLL_SERVER_JSON_INTERNAL_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    JSON_PADDING = 64,     /* bytes behind a text that must be there, of any content */
    JSON_DIGITS_BYTES = 32 /* room for json_digits */
};

struct json_index;

/* For texts of up to `cap` bytes. */
struct json_index *json_index_new(size_t cap);
void json_index_free(struct json_index *index);

/*
 * The offsets of all tokens, in order, and behind the last one the length of the text. A token is a
 * bracket, a comma, a colon, the quote that opens a string, or the first byte of anything else that
 * stands between those and white space. NULL where the text is not UTF-8, or a string is not closed
 * or has a control character. Good until the next call.
 */
const uint32_t *json_index_tokens(struct json_index *index, struct str text, size_t *tokens_n);

/* The double of a JSON number from `p` to `end`; where it is too large or too small, 0 or NAN. */
double json_double(const char *p, const char *end);

/* The fewest digits that stand for this double and no other, as d.ddde±xx, terminated. */
void json_digits(double value, char digits[JSON_DIGITS_BYTES]);

#ifdef __cplusplus
}
#endif

#endif
