/*
 * names: a small fixed set of names, in which one is found by one look: the members that an object
 * may have, the types of commands. The hash is made for the set, so that no two of its names meet.
 *
 * Failure: none; a set that is too large, or a name that is too long, is a bug of ours.
 * Thread: after names_make a set is only read.
 */
#ifndef ATOLL_SERVER_NAMES_H
#define ATOLL_SERVER_NAMES_H

#include "core/base.h"

enum {
    NAMES_MAX = 16,   /* of a set */
    NAMES_BYTES = 16, /* of a name, which has at least one */
    NAMES_SLOT_BITS = 6
};

/* With its length this is all of a name. */
struct names_key {
    uint64_t head, tail;
};

struct names_item {
    struct str name;
    struct names_key key;
};

/* Zero-initialise, add the names, make it. */
struct names {
    uint32_t n;
    struct names_item items[NAMES_MAX];
    uint64_t factor;
    uint8_t slots[1 << NAMES_SLOT_BITS]; /* a place, from 1; 0: free */
};

/* Adds one at place n that is not there yet, and lives as long as the set. */
void names_add(struct names *names, struct str name);
/* Once, behind the last one. */
void names_make(struct names *names);

/* Two loads that overlap: nothing beyond the name is read. */
static inline struct names_key names_key(struct str name)
{
    struct names_key key = {0};
    if (name.n >= sizeof(uint64_t)) {
        memcpy(&key.head, name.p, sizeof(uint64_t));
        memcpy(&key.tail, name.p + name.n - sizeof(uint64_t), sizeof(uint64_t));
    } else if (name.n >= sizeof(uint32_t)) {
        uint32_t head, tail;
        memcpy(&head, name.p, sizeof(head));
        memcpy(&tail, name.p + name.n - sizeof(tail), sizeof(tail));
        key = (struct names_key){head, tail};
    } else if (name.n != 0) {
        key.head = (unsigned char)name.p[0];
        key.tail = (uint64_t)(unsigned char)name.p[name.n / 2] << 8;
        key.tail |= (unsigned char)name.p[name.n - 1];
    }
    return key;
}

static inline uint32_t names_slot(uint64_t factor, struct names_key key, size_t n)
{
    uint64_t mixed =
        key.head + (key.tail << 23 | key.tail >> 41) + n * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mixed * factor >> (64 - NAMES_SLOT_BITS));
}

/* The place of the name, or -1. */
static inline int names_find(const struct names *names, struct str name)
{
    struct names_key key = names_key(name);
    int place = names->slots[names_slot(names->factor, key, name.n)] - 1;
    if (place < 0)
        return -1;
    const struct names_item *item = &names->items[place];
    bool same = item->name.n == name.n && item->key.head == key.head && item->key.tail == key.tail;
    return same ? place : -1;
}

#endif
