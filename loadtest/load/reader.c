#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 * 1024,
    SMALL_BUFFER_BYTES = 2048, /* for a socket that is to fill up at once, at both its ends: */
    SMALL_SEGMENT_BYTES = 536,
};

bool reader_connect(struct reader *reader, const struct sockaddr_in *address, const char *request,
                    size_t size)
{
    int buffer = SMALL_BUFFER_BYTES, segment = SMALL_SEGMENT_BYTES, one = 1;

    reader->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (reader->fd < 0)
        return false;
    /* The sender's buffer grows with the size of the segments that we are ready to take. */
    if (reader->small &&
        (setsockopt(reader->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)) != 0 ||
         setsockopt(reader->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)) != 0))
        return false;
    return connect(reader->fd, (const struct sockaddr *)address, sizeof(*address)) == 0 &&
           setsockopt(reader->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
           send(reader->fd, request, size, MSG_NOSIGNAL) == (ssize_t)size &&
           fcntl(reader->fd, F_SETFL, O_NONBLOCK) == 0;
}

bool reader_told_each(const struct reader *reader, uint64_t n)
{
    uint64_t sum = n % 2 == 0 ? n / 2 * (n + 1) : (n + 1) / 2 * n;
    /* The sum times (2n + 1) / 3, one of which 3 divides: before the product, which is modulo 2^64.
     */
    uint64_t squares = sum % 3 == 0 ? sum / 3 * (2 * n + 1) : sum * ((2 * n + 1) / 3);

    return reader->told == n && reader->sum == sum && reader->sum_of_squares == squares;
}

void reader_close(struct reader *reader)
{
    if (reader->fd >= 0)
        close(reader->fd);
    reader->fd = -1;
}

/* ---- messages */

struct cursor {
    const char *p, *end;
    bool over; /* the bytes ended before the answer was clear */
};

/* Whether `text` follows; it is skipped. */
static inline bool skip(struct cursor *cursor, const char *text)
{
    size_t n = strlen(text), there = (size_t)(cursor->end - cursor->p);

    if (there < n && memcmp(cursor->p, text, there) == 0)
        cursor->over = true;
    if (there < n || memcmp(cursor->p, text, n) != 0)
        return false;
    cursor->p += n;
    return true;
}

static uint64_t take_number(struct cursor *cursor)
{
    uint64_t value = 0;

    while (cursor->p != cursor->end && *cursor->p >= '0' && *cursor->p <= '9')
        value = 10 * value + (uint64_t)(*cursor->p++ - '0');
    cursor->over |= cursor->p == cursor->end;
    return value;
}

static void take_unordered(struct reader *reader, uint64_t seq, reader_told *told, void *context)
{
    reader->told++;
    reader->sum += seq;
    reader->sum_of_squares += seq * seq;
    reader->seq = seq > reader->seq ? seq : reader->seq;
    if (told != NULL)
        told(context, reader, seq, seq);
}

static void take_patch(struct reader *reader, struct reader_counts *counts, uint64_t from,
                       uint64_t seq, reader_told *told, void *context)
{
    counts->messages++;
    counts->merged += seq != from;
    counts->patches += seq - from + 1;
    if (!reader->placed && reader->joins) {
        reader->placed = true;
        reader->seq = from - 1;
    }
    if (reader->unordered) {
        reader->has_patch = true;
        take_unordered(reader, seq, told, context);
        return;
    }
    uint64_t expected = reader->seq + 1;
    counts->gaps += !reader->placed || from > expected;
    counts->repeats += reader->placed && from < expected;
    reader->has_patch = true;
    reader->placed = true;
    if (seq < reader->seq)
        return;
    reader->seq = seq;
    if (told != NULL)
        told(context, reader, expected, seq);
}

static void take_snapshot(struct reader *reader, struct reader_counts *counts, uint64_t seq,
                          reader_told *told, void *context)
{
    uint64_t expected = reader->seq + 1;

    counts->snapshots += !reader->placed;
    counts->resets += reader->placed;
    counts->gaps += reader->placed && seq < reader->seq;
    if (reader->placed && seq > reader->seq && told != NULL) {
        reader->seq = seq;
        told(context, reader, expected, seq);
    }
    reader->placed = true;
    reader->seq = seq;
}

/* A message, from behind `data:`. False: more of it has to come first. */
static bool take_message(struct reader *reader, struct reader_counts *counts, struct cursor cursor,
                         reader_told *told, void *context)
{
    if (cursor.p != cursor.end && *cursor.p == ' ')
        cursor.p++;
    if (!skip(&cursor, "{\""))
        return !cursor.over;
    if (skip(&cursor, "seq\":")) {
        uint64_t seq = take_number(&cursor), from = seq;
        if (skip(&cursor, ",\"from\":"))
            from = take_number(&cursor);
        if (!cursor.over)
            take_patch(reader, counts, from, seq, told, context);
    } else if (skip(&cursor, "epoch\":\"")) {
        while (cursor.p != cursor.end && *cursor.p != '"')
            cursor.p++;
        if (skip(&cursor, "\",\"seq\":")) {
            uint64_t seq = take_number(&cursor);
            bool ends = skip(&cursor, ",\"reason\":");
            if (!cursor.over && ends)
                counts->ends++;
            else if (!cursor.over)
                take_snapshot(reader, counts, seq, told, context);
        }
    }
    return !cursor.over;
}

/* Takes the messages of `n` bytes; returns how many bytes at the end have to be seen again. */
static size_t take(struct reader *reader, struct reader_counts *counts, const char *p, size_t n,
                   reader_told *told, void *context)
{
    static const char line[] = "\ndata:";
    enum { LINE_BYTES = sizeof(line) - 1 };
    const char *end = p + n;

    while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        size_t left = (size_t)(end - p);
        if (left < LINE_BYTES && memcmp(p, line, left) == 0)
            return left;
        if (left < LINE_BYTES || memcmp(p, line, LINE_BYTES) != 0) {
            p++;
            continue;
        }
        struct cursor cursor = {.p = p + LINE_BYTES, .end = end};
        if (!take_message(reader, counts, cursor, told, context))
            return left;
        p += LINE_BYTES;
    }
    return 0;
}

/* ---- reading */

static const char *take_head(struct reader *reader, const char *p, size_t n)
{
    static const char head[] = "HTTP/1.1 200 ";
    static char why[128];

    if (reader->headed)
        return NULL;
    if (n < sizeof(head) - 1 || memcmp(p, head, sizeof(head) - 1) != 0) {
        snprintf(why, sizeof(why), "the answer is \"%.*s\", not 200",
                 (int)strcspn(p, "\r\n") < 100 ? (int)strcspn(p, "\r\n") : 100, p);
        return why;
    }
    reader->headed = true;
    return NULL;
}

const char *reader_read(struct reader *reader, struct reader_counts *counts, reader_told *told,
                        void *context)
{
    static _Thread_local char bytes[READER_KEEP_BYTES + READ_BYTES + 1];
    char *fresh = bytes + READER_KEEP_BYTES;

    for (;;) {
        ssize_t n = recv(reader->fd, fresh, READ_BYTES, 0);
        if (n == 0)
            return "the server has closed the connection";
        if (n < 0 && errno == EAGAIN)
            return NULL;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return strerror(errno);
        fresh[n] = '\0';
        const char *error = take_head(reader, fresh, (size_t)n);
        if (error != NULL)
            return error;
        counts->reads++;
        counts->bytes += (uint64_t)n;
        char *begin = fresh - reader->kept;
        memcpy(begin, reader->keep, reader->kept);
        size_t kept = take(reader, counts, begin, (size_t)n + reader->kept, told, context);
        if (kept > READER_KEEP_BYTES)
            return "a message begins with more than a reader looks at";
        memcpy(reader->keep, fresh + n - kept, kept);
        reader->kept = (uint32_t)kept;
        if (n < READ_BYTES)
            return NULL;
    }
}
