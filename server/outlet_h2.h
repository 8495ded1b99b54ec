/*
 * outlet_h2: an outlet that is one stream of an HTTP/2 connection: it stays with h2o, as the
 * generator of its answer, which asks for more when the last of it is on its way.
 *
 * What h2o was given is referred to until it asks for more or gives the request up; so the pieces
 * of an outlet that is closed meanwhile are kept until then. Such a stream ends with RST_STREAM.
 * Who takes nothing has its connection closed: h2o cannot take a stream back.
 *
 * For outlet.c alone, whose functions at the end are for outlet_h2.c.
 */
#ifndef ATOLL_SERVER_OUTLET_H2_H
#define ATOLL_SERVER_OUTLET_H2_H

#include "server/outlet.h"

struct outlet_h2;

/* Begins the answer. */
void outlet_h2_begin(struct outlet *outlet, struct exchange *exchange);
/* Nothing is being written. */
void outlet_h2_write(struct outlet *outlet, h2o_iovec_t *parts, size_t n);
void outlet_h2_end(struct outlet *outlet);
uint64_t outlet_h2_taken(const struct outlet *outlet);
/* The outlet goes; its pieces are taken over where they are still needed. */
void outlet_h2_leave(struct outlet *outlet);

/* The head is out. */
void outlet_begun(struct outlet *outlet);
/* h2o has taken what it was given. */
void outlet_written(struct outlet *outlet, const char *error);
/* The stream or its connection is no more. */
void outlet_lost(struct outlet *outlet);

#endif
