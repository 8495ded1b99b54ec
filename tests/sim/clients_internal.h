/*
 * clients_internal: between clients.c (sending), replies.c and feeds.c.
 */
#ifndef ATOLL_TESTS_SIM_CLIENTS_INTERNAL_H
#define ATOLL_TESTS_SIM_CLIENTS_INTERNAL_H

#include "tests/sim/clients.h"

/* ---- replies.c */

/* 500 and 503 are answers: the disk has failed, or may. */
bool clients_disk_is_bad(const struct clients *clients);
void reply_take(struct clients *clients, struct op *op, struct request *request);

/* ---- feeds.c */

void feeds_act(struct clients *clients);
void feeds_forget(struct clients *clients);
/* NULL: it is not one any more. */
struct feed_state *feed_find(struct clients *clients, uint64_t token);
void feed_on_reply(struct clients *clients, struct request *request);
void feed_on_frame(struct clients *clients, struct feed_state *feed, struct frame *frame);
void feed_on_notice(struct clients *clients, struct feed_state *feed, enum mailbox_notice notice);

#endif
