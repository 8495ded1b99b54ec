/*
 * shares: where what a client asks for meets the rates of its token and of its address (rates.h).
 *
 * shares_enter_address comes before a token is looked at, so that verifying bad ones costs no more
 * than the address may ask for; shares_enter when the caller is known. What the body holds beyond
 * one command is charged when it has been read. Probes, the dashboard's files and the OpenAPI
 * document cost nothing. A Unix socket has no address, and an open server no tokens.
 *
 * Failure: 429 with Retry-After; where there are rates, answers also have RateLimit and
 * RateLimit-Policy.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_SHARES_H
#define ATOLL_SERVER_SHARES_H

#include "server/exchange.h"

/* Both: false: the exchange has been answered. */
bool shares_enter_address(struct exchange *exchange);
bool shares_enter(struct exchange *exchange);
/* `more` than the one command, or message, that the request itself counted for. */
void shares_charge(struct exchange *exchange, uint32_t more);

/* For a message on a connection that has left HTTP: `address` is what shares_address gave for it.
 * 0, or an error with *why and the seconds to wait. */
int shares_take(struct frontend *frontend, const struct grant *grant, uint64_t address,
                struct core_refusal *why, int *retry_after_s);
uint64_t shares_address(const struct exchange *exchange);

/* A reply has come: whether it says when to come back, for the headers of the answer. */
void shares_on_reply(struct exchange *exchange, const struct request *reply);
/* Adds RateLimit and RateLimit-Policy, at most SHARES_HEADERS, where there is something to tell. */
enum { SHARES_HEADERS = 2 };
void shares_add_headers(const struct exchange *exchange, h2o_headers_t *headers);

#endif
