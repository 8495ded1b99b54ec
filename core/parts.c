/*
 * Parts: which members of a view's `labels`, `agents` and `threads` are shown.
 *
 * Patches are filtered by the path of each operation alone, and their fold is the filtered view at
 * every seq, because no event operates above a part of two segments: labels come and go as
 * /labels/<key>, agents as /agents/<id>, threads as /threads/<id>, and everything else lies below
 * one of them or is a plain member of the root.
 */
#include "core/internal.h"

enum { PART_SEGMENTS_MAX = 2 };

bool core_part_valid(struct str pointer)
{
    uint32_t segments = 0;
    if (pointer.n == 0 || pointer.p[0] != '/')
        return false;
    for (size_t i = 0; i < pointer.n; i++) {
        if (pointer.p[i] == '/' && ++segments > PART_SEGMENTS_MAX)
            return false;
        bool escapes = pointer.p[i] == '~';
        if (escapes && (i + 1 == pointer.n || (pointer.p[i + 1] != '0' && pointer.p[i + 1] != '1')))
            return false;
    }
    return true;
}

/* Whether it lies in one of the objects of which not all may be shown. */
static bool is_partial(struct str path)
{
    static const struct str objects[] = {{"/labels", 7}, {"/agents", 7}, {"/threads", 8}};
    for (int i = 0; i < 3; i++) {
        size_t n = objects[i].n;
        if (path.n >= n && memcmp(path.p, objects[i].p, n) == 0 &&
            (path.n == n || path.p[n] == '/'))
            return true;
    }
    return false;
}

size_t core_parts_bytes(const struct core_parts *parts)
{
    size_t n = sizeof(*parts) + parts->n * sizeof(parts->items[0]);
    for (uint32_t i = 0; i < parts->n; i++)
        n += parts->items[i].n;
    return n;
}

struct core_parts *core_parts_copy(const struct core_parts *parts, void *room)
{
    struct core_parts *copy = room;
    char *text = (char *)&copy->items[parts->n];
    copy->n = parts->n;
    for (uint32_t i = 0; i < parts->n; i++) {
        copy->items[i] = (struct str){text, parts->items[i].n};
        memcpy(text, parts->items[i].p, parts->items[i].n);
        text += parts->items[i].n;
    }
    return copy;
}

bool core_parts_have(const struct core_parts *parts, struct str path)
{
    if (parts == NULL || !is_partial(path))
        return true;
    for (uint32_t i = 0; i < parts->n; i++) {
        struct str part = parts->items[i];
        if (path.n >= part.n && (path.n == part.n || path.p[part.n] == '/') &&
            memcmp(path.p, part.p, part.n) == 0)
            return true;
    }
    return false;
}

/* Whether a pointer's segment is this key: there ~ is ~0 and / is ~1. */
static bool segment_is(struct str segment, struct str key)
{
    size_t at = 0;
    for (size_t i = 0; i < key.n; i++) {
        char c = key.p[i];
        bool escaped = c == '~' || c == '/';
        if (at + escaped >= segment.n || segment.p[at] != (escaped ? '~' : c) ||
            (escaped && segment.p[at + 1] != (c == '~' ? '0' : '1')))
            return false;
        at += 1 + (size_t)escaped;
    }
    return at == segment.n;
}

bool parts_show(const struct core_parts *parts, struct str name, struct str key)
{
    if (parts == NULL)
        return true;
    for (uint32_t i = 0; i < parts->n; i++) {
        struct str part = parts->items[i];
        size_t above = 1 + name.n;
        if (part.n < above || memcmp(part.p + 1, name.p, name.n) != 0)
            continue;
        if (part.n == above ||
            (part.p[above] == '/' &&
             segment_is((struct str){part.p + above + 1, part.n - above - 1}, key)))
            return true;
    }
    return false;
}
