#include "server/stream_queue.h"

#include <stdlib.h>

enum { QUEUE_MIN = 8 };

static void grow(struct stream_queue *queue)
{
    uint32_t cap = queue->cap == 0 ? QUEUE_MIN : queue->cap * 2;
    struct stream_entry *entries = mem_alloc(cap * sizeof(*entries));
    for (uint32_t i = 0; i < queue->n; i++)
        entries[i] = *stream_queue_at(queue, i);
    free(queue->entries);
    queue->entries = entries;
    queue->cap = cap;
    queue->head = 0;
}

struct stream_entry *stream_queue_at(const struct stream_queue *queue, uint32_t i)
{
    assert(i < queue->n);
    return &queue->entries[(queue->head + i) & (queue->cap - 1)];
}

void stream_queue_push(struct stream_queue *queue, struct sse_chunk *chunk, struct str text,
                       bool live)
{
    if (queue->n == queue->cap)
        grow(queue);
    queue->n++;
    queue->bytes += text.n;
    *stream_queue_at(queue, queue->n - 1) =
        (struct stream_entry){.chunk = chunk, .text = text, .live = live};
}

void stream_queue_shift(struct stream_queue *queue)
{
    struct stream_entry *entry = stream_queue_at(queue, 0);
    queue->bytes -= entry->text.n;
    sse_release(entry->chunk);
    queue->head = (queue->head + 1) & (queue->cap - 1);
    queue->n--;
}

void stream_queue_pop(struct stream_queue *queue)
{
    struct stream_entry *entry = stream_queue_at(queue, queue->n - 1);
    queue->bytes -= entry->text.n;
    sse_release(entry->chunk);
    queue->n--;
}

void stream_queue_free(struct stream_queue *queue)
{
    while (queue->n != 0)
        stream_queue_pop(queue);
    free(queue->entries);
    *queue = (struct stream_queue){0};
}
