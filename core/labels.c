/*
 * Labels: sorted lists of key and value. In the state they are one allocation: the items, and
 * behind them the bytes of all keys and values.
 */
#include "core/internal.h"

#include <stdlib.h>

static size_t labels_size(const struct core_labels *labels)
{
    size_t size = labels->n * sizeof(*labels->items);
    for (uint32_t i = 0; i < labels->n; i++)
        size += labels->items[i].key.n + labels->items[i].value.n;
    return size;
}

void labels_free(struct core_session *s, const struct core_labels *labels)
{
    if (labels->n != 0)
        state_free(s, labels->items, labels_size(labels));
}

/*
 * Merges two sorted lists: what `change` has wins over what `base` has. Items point into both.
 * `out` has room for both; removals are left out.
 */
static uint32_t labels_merge(const struct core_labels *base, const struct core_labels *change,
                             struct core_label *out)
{
    uint32_t n = 0;
    uint32_t i = 0;
    uint32_t k = 0;
    while (i < base->n || k < change->n) {
        int order = i == base->n     ? 1
                    : k == change->n ? -1
                                     : str_compare(base->items[i].key, change->items[k].key);
        if (order < 0) {
            out[n++] = base->items[i++];
            continue;
        }
        if (change->items[k].value.p != NULL)
            out[n++] = change->items[k];
        k++;
        i += order == 0;
    }
    return n;
}

struct core_labels labels_diff(const struct core_labels *from, const struct core_labels *to,
                               struct arena *scratch)
{
    struct core_labels diff = {0};
    diff.items = arena_alloc(scratch, ((size_t)from->n + to->n) * sizeof(*diff.items));
    uint32_t i = 0;
    uint32_t k = 0;
    while (i < from->n || k < to->n) {
        int order = i == from->n ? 1
                    : k == to->n ? -1
                                 : str_compare(from->items[i].key, to->items[k].key);
        if (order < 0)
            diff.items[diff.n++] = (struct core_label){.key = from->items[i].key};
        else if (order > 0 || !str_equal(from->items[i].value, to->items[k].value))
            diff.items[diff.n++] = to->items[k];
        i += order <= 0;
        k += order >= 0;
    }
    return diff;
}

static const struct core_label *labels_find(const struct core_labels *labels, struct str key)
{
    uint32_t low = 0;
    uint32_t high = labels->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = str_compare(labels->items[middle].key, key);
        if (order == 0)
            return &labels->items[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void labels_plan(const struct core_labels *present, const struct core_labels *given,
                 struct arena *scratch, struct label_merge *plan)
{
    *plan = (struct label_merge){.count = present->n};
    plan->effect.items = arena_alloc(scratch, given->n * sizeof(*given->items));
    for (uint32_t i = 0; i < given->n; i++) {
        const struct core_label *label = &given->items[i];
        const struct core_label *old = labels_find(present, label->key);
        bool removes = label->value.p == NULL;
        if (removes && old == NULL)
            continue;
        plan->effect.items[plan->effect.n++] = *label;
        if (removes)
            plan->count--;
        else if (old == NULL)
            plan->count++;
        plan->changed |= removes || old == NULL || !str_equal(old->value, label->value);
    }
}

void labels_apply(struct core_session *s, struct core_labels *place,
                  const struct core_labels *given)
{
    size_t room = ((size_t)place->n + given->n) * sizeof(struct core_label);
    if (room == 0)
        return;
    struct core_labels merged = {.items = mem_alloc(room)};
    merged.n = labels_merge(place, given, merged.items);
    struct core_labels stored = {0};
    if (merged.n != 0) {
        stored = (struct core_labels){state_alloc(s, labels_size(&merged)), merged.n};
        char *at = (char *)(stored.items + stored.n);
        for (uint32_t i = 0; i < merged.n; i++) {
            stored.items[i].key = text_pack(&at, merged.items[i].key);
            stored.items[i].value = text_pack(&at, merged.items[i].value);
        }
    }
    labels_free(s, place);
    state_set(s, *place, stored);
    free(merged.items);
}
