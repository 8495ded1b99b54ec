/*
 * slots: numbers that stand for objects of one thread, to send over a ring in place of a pointer.
 *
 * A token holds a place in the table and how often that place has been used: so the token of an
 * object that is gone finds nothing, even where its place has a new tenant. The two highest bits of
 * a token are 0: for whoever has several tables.
 */
#ifndef ATOLL_SERVER_SLOTS_H
#define ATOLL_SERVER_SLOTS_H

#include <stdint.h>

struct slot;

/* Zero-initialise to make one. */
struct slots {
    struct slot *items;
    uint32_t n, cap;
    uint32_t vacant; /* place from 1 of the first free one, 0: none */
    uint32_t used;
};

void slots_free(struct slots *slots);
/* Gives `object` (not NULL) a token; never 0. */
uint64_t slots_add(struct slots *slots, void *object);
/* NULL: the token's object is gone. */
void *slots_find(const struct slots *slots, uint64_t token);
void slots_remove(struct slots *slots, uint64_t token);
/* The object at place `i` (0 to slots->n - 1), NULL where it is free. */
void *slots_at(const struct slots *slots, uint32_t i);

#endif
