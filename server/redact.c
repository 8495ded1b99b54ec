/*
 * One pass over the text, and no tree of it: where one stands in the state is a bit for each
 * pointer whose segments have all matched up to here. With no bit left, nothing below can be
 * hidden, and the rest of the value is copied as it is; a pointer that has matched to its end
 * hides.
 *
 * Keys are compared as they are written, so a pointer's segments are kept in both forms that core
 * writes: as a member's name, and as a segment of an operation's path. Core escapes what it has to
 * and nothing else (core/json.c), also in `data`, which it keeps as canonical JSON: so one text is
 * one key.
 *
 * Why the fold of redacted operations is the redacted view: an operation changes the value at its
 * path. Below a hidden place, or at one, that value is in no redacted view: it is left out. Above,
 * the value put there is redacted as it is in the view. Elements of arrays are never left out, so
 * that positions stay what they are. And whether a place is hidden depends on its path alone.
 */
#include "server/redact_internal.h"

#include "server/scan.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct segment {
    struct str text[KEY_FORMS]; /* without quotes */
    bool any;                   /* `*` */
};

struct pointer {
    const struct segment *segments;
    unsigned n;
};

struct redaction {
    struct arena arena;
    uint64_t hash;
    unsigned n;
    struct pointer pointers[REDACTION_POINTERS_MAX];
};

_Static_assert(REDACTION_POINTERS_MAX <= 64, "a bit of struct place for each");

/* ---- pointers */

static bool has_good_escapes(struct str pointer)
{
    for (size_t i = 0; i < pointer.n; i++) {
        bool escapes = pointer.p[i] == '~';
        if (escapes && (i + 1 == pointer.n || (pointer.p[i + 1] != '0' && pointer.p[i + 1] != '1')))
            return false;
    }
    return true;
}

/* The text as core writes it into a string of JSON. */
static struct str escaped(struct arena *arena, struct str text)
{
    struct buf quoted = {0};
    json_add_string(&quoted, text);
    struct str copy = arena_copy(arena, (struct str){quoted.p + 1, quoted.n - 2});
    buf_free(&quoted);
    return copy;
}

static struct str plain(struct arena *arena, struct str segment)
{
    char *to = arena_alloc(arena, segment.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < segment.n; i++) {
        if (segment.p[i] != '~')
            to[n++] = segment.p[i];
        else
            to[n++] = segment.p[++i] == '0' ? '~' : '/';
    }
    return (struct str){to, n};
}

static struct segment segment_of(struct arena *arena, struct str text)
{
    struct segment segment = {.any = str_equal(text, STR("*"))};
    segment.text[KEY_MEMBER] = escaped(arena, plain(arena, text));
    segment.text[KEY_PATH] = escaped(arena, text);
    return segment;
}

/* `text` begins with a slash. */
static struct pointer pointer_of(struct arena *arena, struct str text)
{
    struct pointer pointer = {0};
    for (size_t i = 0; i < text.n; i++)
        pointer.n += text.p[i] == '/';
    struct segment *segments = arena_alloc(arena, pointer.n * sizeof(*segments));
    const char *at = text.p, *end = text.p + text.n;
    for (unsigned i = 0; i < pointer.n; i++) {
        const char *begin = ++at;
        while (at != end && *at != '/')
            at++;
        segments[i] = segment_of(arena, (struct str){begin, (size_t)(at - begin)});
    }
    pointer.segments = segments;
    return pointer;
}

static int text_order(const void *a, const void *b)
{
    return str_compare(*(const struct str *)a, *(const struct str *)b);
}

struct redaction *redaction_new(const struct str *pointers, unsigned n)
{
    struct str sorted[REDACTION_POINTERS_MAX];
    if (n == 0 || n > REDACTION_POINTERS_MAX)
        return NULL;
    for (unsigned i = 0; i < n; i++) {
        sorted[i] = pointers[i].n == 0 ? STR("/*") : pointers[i];
        if (sorted[i].p[0] != '/' || !has_good_escapes(sorted[i]))
            return NULL;
    }
    qsort(sorted, n, sizeof(*sorted), text_order);
    struct redaction *redaction = mem_zeroed(1, sizeof(*redaction));
    for (unsigned i = 0; i < n; i++) {
        if (i != 0 && str_equal(sorted[i - 1], sorted[i]))
            continue;
        redaction->hash = XXH3_64bits_withSeed(sorted[i].p, sorted[i].n, redaction->hash);
        redaction->pointers[redaction->n++] = pointer_of(&redaction->arena, sorted[i]);
    }
    return redaction;
}

void redaction_free(struct redaction *redaction)
{
    if (redaction != NULL)
        arena_free(&redaction->arena);
    free(redaction);
}

uint64_t redaction_hash(const struct redaction *redaction)
{
    return redaction->hash;
}

/* ---- places */

struct place redact_root(const struct redaction *redaction)
{
    return (struct place){.live = UINT64_MAX >> (64 - redaction->n)};
}

struct place redact_enter(const struct redaction *redaction, struct place at, struct str key,
                          enum key_form form)
{
    struct place inner = {.depth = at.depth + 1, .hidden = at.hidden};
    for (uint64_t live = at.live; live != 0; live &= live - 1) {
        unsigned i = (unsigned)__builtin_ctzll(live);
        const struct pointer *pointer = &redaction->pointers[i];
        const struct segment *segment = &pointer->segments[at.depth];
        if (key.p != NULL && !segment->any && !str_equal(segment->text[form], key))
            continue;
        if (pointer->n == inner.depth)
            inner.hidden = true;
        else
            inner.live |= UINT64_C(1) << i;
    }
    return inner;
}

static struct str name_of(struct str segment, const struct names *names)
{
    if (segment.n != 1)
        return segment;
    switch (segment.p[0]) {
    case 'A':
        return names->agent;
    case 'B':
        return names->by;
    case 'T':
        return names->thread;
    case 'E':
        return names->element;
    case 'L':
        return names->label;
    case '-':
        return REDACT_ANY; /* a position in an array */
    default:
        return segment;
    }
}

struct place redact_place(const struct redaction *redaction, const char *template,
                          const struct names *names)
{
    struct place place = redact_root(redaction);
    while (*template != '\0') {
        size_t n = strcspn(template, "/");
        place =
            redact_enter(redaction, place, name_of((struct str){template, n}, names), KEY_MEMBER);
        template += n + (template[n] == '/');
    }
    return place;
}

bool redact_hides(const struct redaction *redaction, const char *template,
                  const struct names *names)
{
    return redact_place(redaction, template, names).hidden;
}

/* ---- values */

void redact_skip(struct str *in, size_t n)
{
    assert(in->n >= n);
    *in = (struct str){in->p + n, in->n - n};
}

struct str redact_take(struct str *in)
{
    struct str value = scan_value(*in);
    assert(value.n != 0);
    redact_skip(in, value.n);
    return value;
}

struct str redact_take_key(struct str *in)
{
    struct str key = {0};
    assert(in->n != 0);
    if (in->p[0] != '}') {
        redact_skip(in, 1); /* the brace, or the comma behind the last one */
        if (in->p[0] != '}') {
            key = scan_id(redact_take(in));
            redact_skip(in, 1);
            return key;
        }
    }
    redact_skip(in, 1);
    return key;
}

void redact_add_key(struct buf *out, size_t begin, struct str key)
{
    if (out->n != begin)
        buf_add_byte(out, ',');
    buf_add_byte(out, '"');
    buf_add_str(out, key);
    buf_add_literal(out, "\":");
}

static void add_object(const struct redaction *redaction, struct place at, struct str *in,
                       struct buf *out)
{
    struct str key;
    buf_add_byte(out, '{');
    size_t begin = out->n;
    while ((key = redact_take_key(in)).p != NULL) {
        struct place inner = redact_enter(redaction, at, key, KEY_MEMBER);
        if (inner.hidden) {
            redact_take(in);
            continue;
        }
        redact_add_key(out, begin, key);
        redact_add_value(redaction, inner, in, out);
    }
    buf_add_byte(out, '}');
}

void redact_add_element(const struct redaction *redaction, struct place at, struct str *in,
                        struct buf *out)
{
    if (!at.hidden) {
        redact_add_value(redaction, at, in, out);
        return;
    }
    redact_take(in);
    buf_add_literal(out, "null");
}

static void add_array(const struct redaction *redaction, struct place at, struct str *in,
                      struct buf *out)
{
    struct place inner = redact_enter(redaction, at, REDACT_ANY, KEY_MEMBER);
    while (in->n > 1 && in->p[0] != ']') {
        buf_add_byte(out, in->p[0]); /* the bracket, or the comma behind the last one */
        redact_skip(in, 1);
        if (in->p[0] != ']')
            redact_add_element(redaction, inner, in, out);
    }
    redact_skip(in, 1);
    buf_add_byte(out, ']');
}

void redact_add_value(const struct redaction *redaction, struct place at, struct str *in,
                      struct buf *out)
{
    assert(in->n != 0 && !at.hidden);
    if (at.live != 0 && in->p[0] == '{')
        add_object(redaction, at, in, out);
    else if (at.live != 0 && in->p[0] == '[')
        add_array(redaction, at, in, out);
    else
        buf_add_str(out, redact_take(in));
}

/* ---- patches */

struct str redact_take_segment(struct str *path)
{
    assert(path->n != 0 && path->p[0] == '/');
    redact_skip(path, 1);
    const char *slash = path->n != 0 ? memchr(path->p, '/', path->n) : NULL;
    struct str segment = {path->p, slash != NULL ? (size_t)(slash - path->p) : path->n};
    redact_skip(path, segment.n);
    return segment;
}

enum { PATH_SEGMENTS_MAX = 4 };

/* Whether what stands behind the first `n` segments of a path is a position in an array: of those
 * in a state operations reach into messages alone. */
static bool is_position(const struct str *segments, unsigned n)
{
    return n == 3 && str_equal(segments[0], STR("threads")) &&
           str_equal(segments[2], STR("messages"));
}

bool redact_find_op(const struct redaction *redaction, struct str path, struct place *at,
                    bool *element)
{
    struct str segments[PATH_SEGMENTS_MAX];
    *element = false;
    *at = redact_root(redaction);
    for (unsigned n = 0; path.n != 0; n++) {
        if (at->hidden || n == PATH_SEGMENTS_MAX)
            return false;
        segments[n] = redact_take_segment(&path);
        *element = is_position(segments, n);
        *at = redact_enter(redaction, *at, *element ? REDACT_ANY : segments[n], KEY_PATH);
    }
    return !at->hidden || *element;
}

bool redact_op(const struct redaction *redaction, const struct op_text *op, struct buf *out)
{
    struct place at;
    bool element;
    if (!redact_find_op(redaction, op->path, &at, &element))
        return false;
    if (op->value.p == NULL) {
        buf_add_str(out, op->text);
        return true;
    }
    struct str value = op->value;
    buf_add(out, op->text.p, (size_t)(op->value.p - op->text.p));
    redact_add_element(redaction, at, &value, out);
    buf_add_byte(out, '}');
    return true;
}

/* ---- objects around the state */

void redact_envelope(const struct redaction *redaction, struct str envelope, struct buf *out)
{
    struct str key;
    buf_add_byte(out, '{');
    size_t begin = out->n;
    while ((key = redact_take_key(&envelope)).p != NULL) {
        redact_add_key(out, begin, key);
        if (str_equal(key, STR("state")))
            redact_add_value(redaction, redact_root(redaction), &envelope, out);
        else
            buf_add_str(out, redact_take(&envelope));
    }
    buf_add_byte(out, '}');
}
