/* json_theirs: a file of its own, as jansson's names are those of server/json.h. */
#include "tests/fuzz/json_theirs.h"

#include <jansson.h>

static json_t *read_text(struct str text)
{
    return json_loadb(text.p, text.n,
                      JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, NULL);
}

bool theirs_equal(struct str a, struct str b)
{
    json_t *first = read_text(a), *second = read_text(b);
    bool equal = first != NULL && second != NULL && json_equal(first, second);
    json_decref(first);
    json_decref(second);
    return equal;
}
