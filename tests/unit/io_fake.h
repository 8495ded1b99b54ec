/*
 * io_fake: an io in which nothing happens until it is told to: deterministic, in one thread, with
 * a clock of its own. Reads and writes go to the real files they name, unless told otherwise.
 *
 * Normal path: what has been submitted lies there, numbered from 0 in the order of submission; the
 * test completes any of it (the numbers behind it then move up), well or badly; io's reap runs the
 * callbacks in the order of completion. Slow jobs are jobs like the others.
 *
 * A crash is to free it: what has not been completed has not happened.
 */
#ifndef ATOLL_TESTS_UNIT_IO_FAKE_H
#define ATOLL_TESTS_UNIT_IO_FAKE_H

#include "shards/io.h"

#include <stdbool.h>

struct io_fake;

enum io_fake_kind { IO_FAKE_APPEND, IO_FAKE_READ, IO_FAKE_JOB };

struct io_fake *io_fake_new(void);
/* Belongs to the fake, which its ops->free frees. */
struct io *io_fake_io(struct io_fake *fake);

/* Automatic: submit completes everything, in order and well. Off at first. */
void io_fake_set_automatic(struct io_fake *fake, bool automatic);
void io_fake_advance_ms(struct io_fake *fake, uint64_t ms);

/* What has been submitted and not been completed. */
size_t io_fake_count(const struct io_fake *fake);
enum io_fake_kind io_fake_kind(const struct io_fake *fake, size_t index);
const struct io_append *io_fake_append(const struct io_fake *fake, size_t index);
const struct io_read *io_fake_read(const struct io_fake *fake, size_t index);
/* The first of a kind; io_fake_count where there is none. */
size_t io_fake_find(const struct io_fake *fake, enum io_fake_kind kind);
/* Syncs completed well so far. */
unsigned io_fake_syncs(const struct io_fake *fake);
/* Reads completed so far. */
unsigned io_fake_reads(const struct io_fake *fake);

/* Does it, and completes it with what came of it. */
void io_fake_complete(struct io_fake *fake, size_t index);
/* Does nothing of it, and completes it with `error`, a negative errno. */
void io_fake_fail(struct io_fake *fake, size_t index, int error);
/*
 * An append of which only some 4 KiB pages of the file get what belongs there: bit n of `pages` is
 * the n-th page that it touches. Completes it with `error`, a negative errno.
 */
void io_fake_tear(struct io_fake *fake, size_t index, uint64_t pages, int error);

#endif
