/*
 * patch_text: reading patches as core writes them, in place.
 *
 *     {"seq":…,"ts":…,"type":…,"actor":…,"ops":[{"op":…,"path":…[,"value":…]},…]}
 *
 * always in just this order and without white space. Values are skipped, never read.
 * Pure.
 */
#ifndef ATOLL_SERVER_PATCH_TEXT_H
#define ATOLL_SERVER_PATCH_TEXT_H

#include "core/base.h"

/* One operation: its text, and where in it path and value lie. */
struct op_text {
    struct str text, path, value; /* the path as it stands in the string; value.p NULL: none */
    char op;                      /* 'a'dd, 'r'emove, re'p'lace */
};

/* Reads the operation that `ops` (what stands between the brackets) begins with and moves behind
 * it; false: there is none left. */
bool patch_next_op(struct str *ops, struct op_text *op);

/* A patch object, cut up. */
struct patch_text {
    struct str head; /* ,"ts":…,"type":…,"actor":… */
    struct str ts;   /* with its quotes */
    struct str ops;  /* what stands between the brackets */
};

struct patch_text patch_cut(struct str patch);

#endif
