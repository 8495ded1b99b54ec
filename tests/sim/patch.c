/*
 * patch: see patch.h. The tree's root is never replaced: a view is an object, and stays one.
 */
#include "tests/sim/patch.h"

#include <stdlib.h>

json_t *patch_parse(struct str text)
{
    return json_loadb(text.p, text.n, JSON_DECODE_ANY, NULL);
}

/* The next part of a JSON Pointer, unescaped into `part`; what is left of it, NULL: malformed. */
static const char *next_part(const char *pointer, char *part, size_t size)
{
    size_t n = 0;
    if (*pointer++ != '/')
        return NULL;
    for (; *pointer != '\0' && *pointer != '/'; pointer++) {
        char c = *pointer;
        if (c == '~') {
            pointer++;
            if (*pointer != '0' && *pointer != '1')
                return NULL;
            c = *pointer == '0' ? '~' : '/';
        }
        if (n + 1 == size)
            return NULL;
        part[n++] = c;
    }
    part[n] = '\0';
    return pointer;
}

static json_t *child(json_t *value, const char *part)
{
    if (json_is_array(value))
        return json_array_get(value, strtoul(part, NULL, 10));
    return json_object_get(value, part);
}

static bool change_array(json_t *array, const char *op, const char *part, json_t *value)
{
    size_t n = json_array_size(array);
    size_t at = strcmp(part, "-") == 0 ? n : strtoul(part, NULL, 10);
    if (strcmp(op, "add") == 0)
        return at <= n && json_array_insert(array, at, value) == 0;
    if (at >= n)
        return false;
    if (strcmp(op, "remove") == 0)
        return json_array_remove(array, at) == 0;
    return strcmp(op, "replace") == 0 && json_array_set(array, at, value) == 0;
}

static bool change_object(json_t *object, const char *op, const char *part, json_t *value)
{
    bool there = json_object_get(object, part) != NULL;
    if (strcmp(op, "remove") == 0)
        return there && json_object_del(object, part) == 0;
    if (strcmp(op, "replace") == 0 && !there)
        return false;
    return json_object_set(object, part, value) == 0;
}

static bool apply_one(json_t *tree, const json_t *operation)
{
    const char *op = json_string_value(json_object_get(operation, "op"));
    const char *pointer = json_string_value(json_object_get(operation, "path"));
    json_t *copy = json_deep_copy(json_object_get(operation, "value"));
    char part[512];
    bool done = false;
    json_t *at = tree;
    while (op != NULL && pointer != NULL && at != NULL) {
        pointer = next_part(pointer, part, sizeof(part));
        if (pointer == NULL)
            break;
        if (*pointer != '\0') {
            at = child(at, part);
            continue;
        }
        done = json_is_array(at) ? change_array(at, op, part, copy)
                                 : json_is_object(at) && change_object(at, op, part, copy);
        break;
    }
    json_decref(copy);
    return done;
}

bool patch_apply(json_t *tree, const json_t *operations)
{
    for (size_t i = 0; i < json_array_size(operations); i++) {
        if (!apply_one(tree, json_array_get(operations, i)))
            return false;
    }
    return json_is_array(operations);
}
