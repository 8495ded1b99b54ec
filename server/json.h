/*
 * json: reading JSON, by the tokens that simdjson finds, and with the rules that Atoll adds to the
 * grammar: no key twice in one object, no \u0000 in a string, at most 32 levels, at most 16384
 * members in an object, and only numbers that a double holds without loss, since that is what every
 * other reader makes of them.
 *
 * Normal path: json_parse turns a text into a row of values in reading order. A container is
 * followed by its members, an object's as key, value, key, value; json_next steps over a whole
 * value. All numbers are doubles. Strings are unescaped, may be empty, and never hold NUL.
 * Failure: json_parse says what is wrong and at which byte. Where the text is an array, an element
 * that only breaks one of the added rules (but for the bounds) does not spoil its neighbours: it
 * becomes a JSON_FAULT.
 *
 * Thread: a parser belongs to one thread.
 */
#ifndef ATOLL_SERVER_JSON_H
#define ATOLL_SERVER_JSON_H

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    JSON_DEPTH = 32,              /* levels of arrays and objects; more is an error */
    JSON_MEMBERS = 16384,         /* members of an object; more is an error */
    JSON_BYTES = (1 << 28) - 1,   /* length of a text; callers see to it */
    JSON_KEEP_BYTES = 1024 * 1024 /* memory that json_parser_trim leaves to a parser */
};

enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
    JSON_FAULT /* only as an element of the outermost array: see json_fault */
};

/* One value; good until the parser's next json_parse or json_parser_trim. Strings lie in the arena
 * of the parse, and are good as long as that. */
struct json_value {
    union {
        const char *text; /* JSON_STRING; never NULL */
        double number;    /* JSON_NUMBER */
        uint32_t values;  /* containers and JSON_FAULT: how many to step over, itself included */
    } as;
    uint32_t size; /* bytes of a string, elements of an array, members of an object */
    uint32_t type : 4;
    uint32_t at : 28; /* offset in the text */
};

struct json_error {
    size_t at;         /* byte offset in the text */
    struct str member; /* key in the outermost object (or in the object that is the faulty element)
                          under which it lies; p == NULL: not known. Good as long as the values */
    char text[160];    /* a sentence without full stop, the offset included */
};

struct json_parser;

/*
 * Where the text is an array of more than max_elements, it is read no further than that, with no
 * word on what comes then, and its size is one more. `hash_seed` is one that no client knows.
 */
struct json_parser *json_parser_new(uint32_t max_elements, uint64_t hash_seed);
void json_parser_free(struct json_parser *p);
/* Gives back the memory of a parser that holds more than JSON_KEEP_BYTES, and its values. */
void json_parser_trim(struct json_parser *p);

/* From now on numbers that a double does not hold are rounded to the nearest that it does, as most
 * readers do, or again refused (as they are at first). */
void json_parser_round(struct json_parser *p, bool rounds);

/* Reads one JSON text, which is copied to the arena and may go. 0 with *root set, or -1 with *error
 * filled. */
int json_parse(struct json_parser *p, struct arena *arena, struct str text,
               const struct json_value **root, struct json_error *error);
/* What is wrong with a JSON_FAULT of the last parse. */
void json_fault(const struct json_parser *p, const struct json_value *fault,
                struct json_error *error);

/* Adds the canonical text of a value (RFC 8785). The value holds no JSON_FAULT. */
void json_canonical(const struct json_value *value, struct buf *out);

bool json_utf8_valid(struct str s);

/* The first value inside a container; where it is empty, the one behind it. */
static inline const struct json_value *json_first(const struct json_value *container)
{
    return container + 1;
}

static inline const struct json_value *json_next(const struct json_value *value)
{
    bool nested = value->type >= JSON_ARRAY;
    return value + (nested ? value->as.values : 1);
}

static inline struct str json_str(const struct json_value *string)
{
    assert(string->type == JSON_STRING);
    struct str s = {string->as.text, string->size};
    return s;
}

/* How many of the first `max` bytes can be shown without cutting a character. */
static inline size_t json_cut(struct str s, size_t max)
{
    if (s.n <= max)
        return s.n;
    while (max != 0 && ((unsigned char)s.p[max] & 0xc0) == 0x80)
        max--;
    return max;
}

#ifdef __cplusplus
}
#endif

#endif
