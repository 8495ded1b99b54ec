#include "server/h2.h"

enum frame {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION
};

enum { END_HEADERS = 4, ACK = 1, END_STREAM = 1 };

static bool costs(enum frame type, uint8_t flags, uint32_t size)
{
    switch (type) {
    case RST_STREAM:
    case PRIORITY:
        return true;
    case PING:
    case SETTINGS:
        return (flags & ACK) == 0;
    case DATA:
        return size == 0 && (flags & END_STREAM) == 0;
    case CONTINUATION:
        return size == 0;
    default:
        return false;
    }
}

/* A frame begins. */
static bool take_frame(struct h2_guard *guard, size_t head_max, int64_t now_ms)
{
    const uint8_t *head = guard->head;
    enum frame type = head[3];
    uint8_t flags = head[4];

    guard->payload = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
    if (type == HEADERS || type == CONTINUATION) {
        guard->headers += guard->payload;
        if (guard->headers > head_max)
            return false;
        if ((flags & END_HEADERS) != 0)
            guard->headers = 0;
    }
    if (!costs(type, flags, guard->payload))
        return true;
    if (now_ms - guard->window_ms >= H2_WINDOW_MS) {
        guard->window_ms = now_ms;
        guard->frames = guard->answered = 0;
    }
    return ++guard->frames <= H2_FRAMES + guard->answered / H2_REQUESTS_PER_FRAME;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

bool h2_guard_take(struct h2_guard *guard, const char *bytes, size_t n, size_t head_max,
                   int64_t now_ms)
{
    size_t skipped = least(n, H2_PREFACE_BYTES - guard->preface);
    size_t at = skipped;

    guard->preface += (uint32_t)skipped;
    while (at < n) {
        skipped = least(n - at, guard->payload);
        at += skipped;
        guard->payload -= (uint32_t)skipped;
        while (guard->payload == 0 && at < n && guard->head_n < H2_FRAME_HEAD_BYTES)
            guard->head[guard->head_n++] = (uint8_t)bytes[at++];
        if (guard->head_n < H2_FRAME_HEAD_BYTES)
            break;
        guard->head_n = 0;
        if (!take_frame(guard, head_max, now_ms))
            return false;
    }
    return true;
}

void h2_guard_answered(struct h2_guard *guard)
{
    guard->answered++;
}
