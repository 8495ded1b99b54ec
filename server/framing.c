#include "server/framing.h"

#include "server/redact.h"
#include "server/router.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    SSE_OVERHEAD_BYTES = 96, /* names of lines and members, numbers and quotes, without texts */
    WS_HEAD_BYTES = 10,
    OPCODE_TEXT = 1,
    EVENT_BYTES = 16, /* longest name of an event */
};

static char *add(char *p, struct str s)
{
    memcpy(p, s.p, s.n);
    return p + s.n;
}

static char *add_number(char *p, uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (n != 0)
        *p++ = digits[--n];
    return p;
}

/* ---- ids */

static char *add_hash(char *p, char mark, uint64_t hash)
{
    static const char hex[] = "0123456789abcdef";
    *p++ = mark;
    for (unsigned i = 0; i < 8; i++)
        *p++ = hex[hash >> (4 * i) & 15];
    return p;
}

struct str framing_view(unsigned form, const struct core_parts *parts,
                        const struct redaction *redaction, char scratch[FRAMING_VIEW_BYTES])
{
    char *p = add(scratch, STR(FRAMING_VIEW_VERSION));
    if (form != WANTS_PATCHES)
        *p++ = form == WANTS_COMPACT ? 'c' : 'e';
    if (parts != NULL) {
        uint64_t hash = 0;
        for (uint32_t i = 0; i < parts->n; i++)
            hash = XXH3_64bits_withSeed(parts->items[i].p, parts->items[i].n, hash + 1);
        p = add_hash(p, '.', hash);
    }
    if (redaction != NULL)
        p = add_hash(p, '~', redaction_hash(redaction));
    assert(p - scratch <= FRAMING_VIEW_BYTES);
    return (struct str){scratch, (size_t)(p - scratch)};
}

static char *add_id(char *p, const struct framing *framing, uint64_t seq)
{
    p = add(p, framing->epoch);
    *p++ = '-';
    p = add_number(p, seq);
    *p++ = '-';
    return add(p, framing->view);
}

bool framing_parse_id(struct str id, struct framing_position *position)
{
    const char *last = id.n != 0 ? memrchr(id.p, '-', id.n) : NULL;
    if (last == NULL)
        return false;
    position->view = (struct str){last + 1, (size_t)(id.p + id.n - last) - 1};
    const char *middle = memrchr(id.p, '-', (size_t)(last - id.p));
    if (middle == NULL || middle == id.p || middle - id.p > CORE_EPOCH_BYTES)
        return false;
    position->epoch = (struct str){id.p, (size_t)(middle - id.p)};
    if (memchr(position->epoch.p, '-', position->epoch.n) != NULL || position->view.n == 0)
        return false;
    for (size_t i = 0; i < id.n; i++)
        if ((unsigned char)id.p[i] <= ' ' || (unsigned char)id.p[i] >= 0x7f)
            return false;
    return query_number((struct str){middle + 1, (size_t)(last - middle) - 1}, &position->seq);
}

/* ---- messages */

static bool is_ws(const struct framing *framing)
{
    return framing->kind == FRAMING_WS || framing->kind == FRAMING_WS_MANY;
}

static bool is_many(const struct framing *framing)
{
    return framing->kind == FRAMING_SSE_MANY || framing->kind == FRAMING_WS_MANY;
}

size_t framing_overhead(const struct framing *framing)
{
    return SSE_OVERHEAD_BYTES + WS_HEAD_BYTES + EVENT_BYTES + framing->session.n +
           framing->epoch.n + framing->view.n;
}

static char *add_sse(char *p, const struct framing *framing, struct str event, uint64_t seq,
                     struct str object)
{
    p = add(p, STR("event: "));
    p = add(p, event);
    if (framing->kind == FRAMING_SSE && seq != 0) {
        p = add(p, STR("\nid: "));
        p = add_id(p, framing, seq);
    }
    p = add(p, STR("\ndata: "));
    if (is_many(framing)) {
        p = add(p, STR("{\"session\":\""));
        p = add(p, framing->session);
        p = add(p, STR("\","));
        object = (struct str){object.p + 1, object.n - 1};
    }
    p = add(p, object);
    return add(p, STR("\n\n"));
}

char *framing_ws_head(char *p, unsigned opcode, size_t n)
{
    enum { FIN = 0x80, N16 = 126, N64 = 127 };
    *p++ = (char)(FIN | opcode);
    if (n < N16) {
        *p++ = (char)n;
        return p;
    }
    int bytes = n <= UINT16_MAX ? 2 : 8;
    *p++ = bytes == 2 ? N16 : N64;
    for (int i = bytes - 1; i >= 0; i--)
        *p++ = (char)(n >> (8 * i));
    return p;
}

static char *add_ws(char *p, const struct framing *framing, struct str event, uint64_t seq,
                    struct str object)
{
    char begin[SSE_OVERHEAD_BYTES + EVENT_BYTES + CORE_ID_BYTES + FRAMING_ID_BYTES];
    char *q = add(begin, STR("{\"event\":\""));
    q = add(q, event);
    if (is_many(framing)) {
        q = add(q, STR("\",\"session\":\""));
        q = add(q, framing->session);
    }
    if (seq != 0) {
        q = add(q, STR("\",\"id\":\""));
        q = add_id(q, framing, seq);
    }
    q = add(q, STR("\","));
    struct str head = {begin, (size_t)(q - begin)};
    p = framing_ws_head(p, OPCODE_TEXT, head.n + object.n - 1);
    p = add(p, head);
    return add(p, (struct str){object.p + 1, object.n - 1});
}

char *framing_add(char *p, const struct framing *framing, struct str event, uint64_t seq,
                  struct str object)
{
    assert(event.n <= EVENT_BYTES && object.n > 2);
    return is_ws(framing) ? add_ws(p, framing, event, seq, object)
                          : add_sse(p, framing, event, seq, object);
}

struct chunk *framing_chunk(const struct framing *framing, struct str event, uint64_t seq,
                            struct str object)
{
    struct chunk *chunk = chunk_new(framing_overhead(framing) + object.n);
    chunk->n = (size_t)(framing_add(chunk->p, framing, event, seq, object) - chunk->p);
    return chunk;
}
