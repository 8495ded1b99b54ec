#include "server/slots.h"

#include "core/base.h"

#include <stdlib.h>

enum { SLOTS_MIN = 64, USES_MASK = (1 << 30) - 1 };

struct slot {
    void *object; /* NULL: free */
    uint32_t uses;
    uint32_t vacant; /* next free one, place from 1 */
};

void slots_free(struct slots *slots)
{
    free(slots->items);
    *slots = (struct slots){0};
}

uint64_t slots_add(struct slots *slots, void *object)
{
    assert(object != NULL);
    uint32_t place = slots->vacant;
    if (place == 0) {
        if (slots->n == slots->cap) {
            slots->cap = slots->cap == 0 ? SLOTS_MIN : slots->cap * 2;
            slots->items = mem_realloc(slots->items, slots->cap * sizeof(struct slot));
        }
        place = ++slots->n;
        slots->items[place - 1] = (struct slot){0};
    } else {
        slots->vacant = slots->items[place - 1].vacant;
    }
    struct slot *slot = &slots->items[place - 1];
    slot->object = object;
    slot->uses = slot->uses < USES_MASK ? slot->uses + 1 : 1;
    slots->used++;
    return (uint64_t)slot->uses << 32 | place;
}

static struct slot *slot_of(const struct slots *slots, uint64_t token)
{
    uint32_t place = (uint32_t)token;
    if (place == 0 || place > slots->n)
        return NULL;
    struct slot *slot = &slots->items[place - 1];
    return slot->object != NULL && slot->uses == (uint32_t)(token >> 32) ? slot : NULL;
}

void *slots_find(const struct slots *slots, uint64_t token)
{
    struct slot *slot = slot_of(slots, token);
    return slot != NULL ? slot->object : NULL;
}

void slots_remove(struct slots *slots, uint64_t token)
{
    struct slot *slot = slot_of(slots, token);
    assert(slot != NULL);
    slot->object = NULL;
    slot->vacant = slots->vacant;
    slots->vacant = (uint32_t)token;
    slots->used--;
}

void *slots_at(const struct slots *slots, uint32_t i)
{
    assert(i < slots->n);
    return slots->items[i].object;
}
