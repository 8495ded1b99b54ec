/*
 * house: one shard with its mailbox, in one thread and without chance: what it reads of the world
 * (time, random bytes, when a write is done) is the same in every run. A commit is done as soon as
 * it is submitted. Whoever in the process asks the operating system for the time, h2o too, gets the
 * house's: the linker puts what is here in the place of libc's.
 *
 * Normal path: house_open makes a data directory and sessions in it, each with three agents and a
 * thread; house_request decodes a body into a request; house_turn sends requests and turns the
 * shard until they are answered.
 * Failure: whatever goes wrong ends the program with a sentence: then there is nothing to count.
 */
#ifndef ATOLL_TESTS_INSTRUCTIONS_HOUSE_H
#define ATOLL_TESTS_INSTRUCTIONS_HOUSE_H

#include "server/decode.h"
#include "shards/mailbox_internal.h"
#include "tests/unit/io_fake.h"
#include "tests/unit/scratch.h"

struct house {
    struct scratch scratch;
    struct datadir *dir;
    struct io_fake *fake;
    struct rings *rings;
    struct mailbox mailbox;
    struct shard *shard;
    struct reactor *reactor; /* what a frontend asks for the time, and whether it may serve */
    _Atomic(const char *) failed;
    _Atomic uint64_t full;
    struct core_limits limits;
    struct decoder *decoder;
    int64_t now_ms;
    uint32_t answers, frames;
};

/* Says why and exits with 1. */
_Noreturn void house_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

void house_open(struct house *house, unsigned sessions, bool followed);
void house_close(struct house *house);
/* Commands for session `number`, not sent. */
struct request *house_request(struct house *house, unsigned number, struct str body);
/* The part of it that a frontend does: from the body on. */
struct request *house_decode(struct decoder *decoder, struct str id, struct str body);
/* A millisecond later: one turn of the shard. What was sent is done, committed, and answered into
 * the ring. True: it has more to do. */
bool house_turn_shard(struct house *house);
/* Sends them, turns once, and frees the answers. */
void house_turn(struct house *house, struct request **requests, unsigned n);

/* The commands that a session begins with, as a body. */
#define HOUSE_BEGINNING                                                                            \
    "[{\"type\":\"session.create\"},"                                                              \
    "{\"type\":\"agent.register\",\"agent\":\"a1\"},"                                              \
    "{\"type\":\"agent.register\",\"agent\":\"a2\"},"                                              \
    "{\"type\":\"agent.register\",\"agent\":\"a3\"},"                                              \
    "{\"type\":\"thread.create\",\"thread\":\"work\",\"creator\":\"a1\",\"name\":\"Work\","        \
    "\"participants\":[\"a2\",\"a3\"]}]"

#endif
