/*
 * log_read: reading single records while the shard goes on. The format is told in log_format.h,
 * what a log_position means in datadir.h.
 *
 * Normal path: the segment's file is held, the record's place in it looked up, and the first 4 KiB
 * from there are read; most records are smaller. A longer one costs a second read, as long as its
 * header says. The file is let go before `done`, so a compaction may replace it at any time: who
 * reads keeps the one it has begun with.
 *
 * The window: with `window_bytes`, the read begins so much further in front, and what it brought
 * stays in the buffer, with the file's number and version and the place it begins at. A record that
 * is asked for next is looked for there first. What does not check there proves nothing: in the
 * segment being written, the record may be younger than the window. Then it is read as always.
 *
 * Failure: what is nowhere any more is -ENOENT. A read that fails or comes up short, and a record
 * that does not check, are -EIO.
 */
#include "shards/log_format.h"

#include <errno.h>

enum { READ_FIRST_BYTES = 4096 };

static uint32_t number_of(log_position position)
{
    return (uint32_t)(position >> 32);
}

static void finish(struct log_read *read, int result)
{
    datadir_release(log_datadir(read->log), read->file);
    read->file = NULL;
    read->done(read, result);
}

/* Bytes of the record that are in the buffer. */
static size_t bytes_there(const struct log_read *read)
{
    return (size_t)(read->window_from + read->bytes.n - read->at);
}

static bool decode(struct log_read *read)
{
    const char *p = read->bytes.p + (read->at - read->window_from);
    size_t there = bytes_there(read), bytes;
    uint64_t seed =
        log_segment_seed(datadir_hash_key(log_datadir(read->log)), number_of(read->position)) +
        (uint32_t)read->position;
    return log_record_decode(p, there < read->room ? there : (size_t)read->room, seed,
                             &read->record, &bytes);
}

static void read_on(struct log_read *read, size_t size);

/* Enough has been read when the whole record is there; what its header says is checked then. */
static void read_done(struct io_read *io, int64_t result)
{
    struct log_read *read = io->owner;
    struct log_record_header header;
    if (result > 0)
        read->bytes.n += (size_t)result;
    if (result < 0 || read->window_from + read->bytes.n < read->at + sizeof(header)) {
        finish(read, -EIO);
        return;
    }
    memcpy(&header, read->bytes.p + (read->at - read->window_from), sizeof(header));
    size_t bytes = log_align(header.bytes);
    if (bytes > bytes_there(read) && (size_t)result == io->size &&
        log_record_header_check(&header, read->room)) {
        read_on(read, bytes - bytes_there(read));
        return;
    }
    finish(read, decode(read) ? 0 : -EIO);
}

/* Reads what follows in the file behind what is in the buffer. */
static void read_on(struct log_read *read, size_t size)
{
    struct io *io = log_io(read->log);
    read->io = (struct io_read){
        .done = read_done,
        .owner = read,
        .buf = buf_reserve(&read->bytes, size),
        .size = size,
        .offset = read->window_from + read->bytes.n,
        .fd = read->file->fd,
    };
    io->ops->read(io, &read->io);
}

static bool is_in_window(const struct log_read *read)
{
    return read->window_bytes != 0 && read->window_number == read->file->number &&
           read->window_version == read->file->version && read->at >= read->window_from &&
           read->at < read->window_from + read->bytes.n;
}

static void read_window(struct log_read *read)
{
    uint64_t to = read->at + READ_FIRST_BYTES;
    uint64_t from = to > read->window_bytes ? to - read->window_bytes : 0;
    if (from < LOG_SEGMENT_HEADER_BYTES)
        from = LOG_SEGMENT_HEADER_BYTES;
    read->bytes.n = 0;
    read->window_from = from < read->at ? from : read->at;
    read->window_number = read->file->number;
    read->window_version = read->file->version;
    read_on(read, (size_t)(to - read->window_from));
}

void log_read(struct log *log, struct log_read *read, log_position position)
{
    struct datadir *dir = log_datadir(log);
    read->log = log;
    read->position = position;
    read->file = datadir_hold(dir, number_of(position));
    if (read->file == NULL) {
        read->done(read, -ENOENT);
        return;
    }
    if (!datadir_locate(read->file, (uint32_t)position, &read->at, &read->room))
        finish(read, -ENOENT);
    else if (is_in_window(read) && decode(read))
        finish(read, 0);
    else
        read_window(read);
}

void log_read_release(struct log_read *read)
{
    buf_free(&read->bytes);
}
