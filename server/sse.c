#include "server/sse.h"

#include "server/router.h"

#include <stdlib.h>

enum {
    ITEM_OVERHEAD_BYTES = 128, /* event, id and data lines of one item, without epoch and JSON */
    TYPE_SEARCH_BYTES = 96,    /* where in an event's JSON its type stands */
};

static struct sse_chunk *chunk_new(uint32_t items_n, size_t room, char **bytes)
{
    size_t head = sizeof(struct sse_chunk) + (items_n + 1) * sizeof(size_t);
    struct sse_chunk *chunk = mem_alloc(head + room);
    *chunk = (struct sse_chunk){.references = 1, .items_n = items_n};
    *bytes = (char *)chunk + head;
    chunk->bytes = *bytes;
    return chunk;
}

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

static char *add_item(char *p, struct str event, struct str epoch, uint64_t seq, struct str json)
{
    p = add(p, STR("event: "));
    p = add(p, event);
    p = add(p, STR("\nid: "));
    p = add(p, epoch);
    *p++ = '-';
    p = add_number(p, seq);
    *p++ = '-';
    p = add_number(p, SSE_VIEW_VERSION);
    p = add(p, STR("\ndata: "));
    p = add(p, json);
    return add(p, STR("\n\n"));
}

/* The type in an event's JSON, which begins {"seq":…,"ts":"…","type":"…". */
static bool has_type(struct str json, uint32_t types)
{
    static const char key[] = "\"type\":\"";
    size_t n = json.n < TYPE_SEARCH_BYTES ? json.n : TYPE_SEARCH_BYTES;
    const char *p = memmem(json.p, n, key, sizeof(key) - 1);

    if (p == NULL)
        return false;
    p += sizeof(key) - 1;
    const char *end = memchr(p, '"', (size_t)(json.p + json.n - p));
    if (end == NULL)
        return false;
    return (types >> core_type_of_event((struct str){p, (size_t)(end - p)}) & 1) != 0;
}

static struct str item_json(const struct frame *frame, uint32_t i, unsigned form)
{
    const struct frame_item *item = &frame->items[i];
    return form == WANTS_PATCHES
               ? (struct str){frame->bytes + item->patch_offset, item->patch_size}
               : (struct str){frame->bytes + item->event_offset, item->event_size};
}

struct sse_chunk *sse_frame(const struct frame *frame, struct str epoch, unsigned form,
                            uint32_t types)
{
    size_t room = frame->items_n * (ITEM_OVERHEAD_BYTES + epoch.n);
    char *bytes;

    for (uint32_t i = 0; i < frame->items_n; i++) {
        size_t n = item_json(frame, i, form).n;
        if (n == 0)
            return NULL;
        room += n;
    }
    struct sse_chunk *chunk = chunk_new(frame->items_n, room, &bytes);
    char *p = bytes;
    for (uint32_t i = 0; i < frame->items_n; i++) {
        struct str json = item_json(frame, i, form);
        chunk->starts[i] = (size_t)(p - bytes);
        assert(frame->items[i].seq == frame->first_seq + i);
        if (types == 0 || has_type(json, types))
            p = add_item(p, form == WANTS_PATCHES ? STR("patch") : STR("event"), epoch,
                         frame->items[i].seq, json);
    }
    chunk->size = (size_t)(p - bytes);
    chunk->starts[frame->items_n] = chunk->size;
    chunk->first_seq = frame->first_seq;
    chunk->last_seq = frame->last_seq;
    return chunk;
}

struct sse_chunk *sse_snapshot(struct str epoch, uint64_t seq, struct str json)
{
    char *bytes;
    struct sse_chunk *chunk = chunk_new(0, ITEM_OVERHEAD_BYTES + epoch.n + json.n, &bytes);
    chunk->size = (size_t)(add_item(bytes, STR("snapshot"), epoch, seq, json) - bytes);
    chunk->first_seq = chunk->last_seq = seq;
    return chunk;
}

struct sse_chunk *sse_end(struct str epoch, uint64_t seq)
{
    char *bytes;
    struct sse_chunk *chunk = chunk_new(0, ITEM_OVERHEAD_BYTES + epoch.n, &bytes);
    char *p = add(bytes, STR("event: end\ndata: {\"epoch\":\""));
    p = add(p, epoch);
    p = add(p, STR("\",\"seq\":"));
    p = add_number(p, seq);
    p = add(p, STR(",\"reason\":\"deleted\"}\n\n"));
    chunk->size = (size_t)(p - bytes);
    return chunk;
}

struct sse_chunk *sse_text(struct str text)
{
    char *bytes;
    struct sse_chunk *chunk = chunk_new(0, text.n, &bytes);
    add(bytes, text);
    chunk->size = text.n;
    return chunk;
}

void sse_hold(struct sse_chunk *chunk)
{
    chunk->references++;
}

void sse_release(struct sse_chunk *chunk)
{
    assert(chunk->references != 0);
    if (--chunk->references == 0)
        free(chunk);
}

struct str sse_after(const struct sse_chunk *chunk, uint64_t seq)
{
    size_t from = 0;
    if (chunk->items_n != 0 && seq >= chunk->first_seq) {
        uint64_t i = seq - chunk->first_seq + 1;
        from = chunk->starts[i < chunk->items_n ? i : chunk->items_n];
    }
    return (struct str){chunk->bytes + from, chunk->size - from};
}

bool sse_parse_id(struct str id, struct sse_position *position)
{
    uint64_t version;
    const char *last = id.n != 0 ? memrchr(id.p, '-', id.n) : NULL;
    if (last == NULL)
        return false;
    struct str version_text = {last + 1, (size_t)(id.p + id.n - last) - 1};
    const char *middle = memrchr(id.p, '-', (size_t)(last - id.p));
    if (middle == NULL || middle == id.p || middle - id.p > CORE_EPOCH_BYTES)
        return false;
    struct str seq_text = {middle + 1, (size_t)(last - middle) - 1};
    position->epoch = (struct str){id.p, (size_t)(middle - id.p)};
    if (memchr(position->epoch.p, '-', position->epoch.n) != NULL)
        return false;
    for (size_t i = 0; i < position->epoch.n; i++)
        if ((unsigned char)position->epoch.p[i] <= ' ' || position->epoch.p[i] >= 0x7f)
            return false;
    if (!query_number(seq_text, &position->seq) || !query_number(version_text, &version))
        return false;
    position->version_differs = version != SSE_VIEW_VERSION;
    return true;
}
