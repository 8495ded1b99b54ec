/* names: looks for the factor by which each name has a slot of its own. */
#include "server/names.h"

enum { FACTORS_MAX = 100000 }; /* one in about seven does for a full set */

void names_add(struct names *names, struct str name)
{
    assert(names->n < NAMES_MAX && name.n != 0 && name.n <= NAMES_BYTES);
    names->items[names->n++] = (struct names_item){name, names_key(name)};
}

static bool fits(struct names *names)
{
    memset(names->slots, 0, sizeof(names->slots));
    for (uint32_t i = 0; i < names->n; i++) {
        const struct names_item *item = &names->items[i];
        uint8_t *slot = &names->slots[names_slot(names->factor, item->key, item->name.n)];
        if (*slot != 0)
            return false;
        *slot = (uint8_t)(i + 1);
    }
    return true;
}

void names_make(struct names *names)
{
    uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
    for (uint32_t i = 0; i < FACTORS_MAX; i++) {
        names->factor = factor | 1;
        if (fits(names))
            return;
        factor = factor * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    }
    assert(!"a name stands twice in the set");
}
