#include "shards/request.h"

#include <stdlib.h>

struct request_error_row {
    int status;
    const char *name;
    const char *title;
};

static const struct request_error_row *request_error_row(unsigned code)
{
    static const struct request_error_row rows[] = {
#define X(code, status, name, title) {status, name, title},
        REQUEST_ERRORS(X)
#undef X
    };
    assert(code > REQUEST_E_FIRST && code < REQUEST_ERROR_COUNT);
    return &rows[code - REQUEST_E_FIRST - 1];
}

int request_error_status(unsigned code)
{
    if (code < CORE_ERROR_COUNT)
        return core_error_status((enum core_error)code);
    return request_error_row(code)->status;
}

const char *request_error_name(unsigned code)
{
    if (code < CORE_ERROR_COUNT)
        return core_error_name((enum core_error)code);
    return request_error_row(code)->name;
}

const char *request_error_title(unsigned code)
{
    if (code < CORE_ERROR_COUNT)
        return core_error_title((enum core_error)code);
    return request_error_row(code)->title;
}

bool request_pattern_means(struct str pattern, struct str session)
{
    if (pattern.n == 0 || pattern.p[pattern.n - 1] != '*')
        return str_equal(pattern, session);
    size_t n = pattern.n - 1;
    return session.n >= n && memcmp(session.p, pattern.p, n) == 0;
}

void frame_hold(struct frame *frame)
{
    atomic_fetch_add_explicit(&frame->references, 1, memory_order_relaxed);
}

void frame_release(struct frame *frame)
{
    /* Release: what this holder read is behind it. Acquire: the last one sees all of that before
     * it frees. */
    if (atomic_fetch_sub_explicit(&frame->references, 1, memory_order_acq_rel) == 1)
        free(frame);
}

/*
 * Spares are kept for each thread, so that a request costs no allocation once a reactor is warm.
 * A thread only ever touches its own list.
 */
enum {
    REQUEST_SPARES_MAX = 256,             /* requests kept by a thread; more are freed */
    REQUEST_SPARE_BODY_BYTES = 16 * 1024, /* larger reply buffers are given back */
    REQUEST_SMALL_BYTES = 512,            /* of the memory of a small one */
};

static _Thread_local struct request *spares;
static _Thread_local unsigned spares_n;

struct request *request_new(void)
{
    struct request *request = spares;
    if (request == NULL) {
        request = mem_alloc(sizeof(*request));
        *request = (struct request){0};
        return request;
    }
    spares = request->next;
    spares_n--;
    request->next = NULL;
    return request;
}

struct request *request_new_small(void)
{
    struct request *request = mem_alloc(sizeof(*request));
    *request = (struct request){.arena.block_bytes = REQUEST_SMALL_BYTES};
    return request;
}

void request_again(struct request *request)
{
    request->error = 0;
    request->refusal = (struct core_refusal){0};
    request->replayed = false;
    request->seq = 0;
    request->body.n = 0;
    request->made = (struct str){0};
    request->handed = 0;
    request->held = false;
    request->oldest = 0;
    request->retry_ms = 0;
    request->waited = false;
}

void request_free(struct request *request)
{
    if (request->frame != NULL)
        frame_release(request->frame);
    arena_reset(&request->arena);
    if (request->body.cap > REQUEST_SPARE_BODY_BYTES)
        buf_free(&request->body);
    if (spares_n == REQUEST_SPARES_MAX || request->arena.block_bytes != 0) {
        arena_free(&request->arena);
        buf_free(&request->body);
        free(request);
        return;
    }
    struct arena arena = request->arena;
    struct buf body = request->body;
    memset(request, 0, offsetof(struct request, refusal.detail) + 1);
    request->arena = arena;
    request->body = (struct buf){.p = body.p, .cap = body.cap};
    request->next = spares;
    spares = request;
    spares_n++;
}

void request_free_spares(void)
{
    while (spares != NULL) {
        struct request *request = spares;
        spares = request->next;
        arena_free(&request->arena);
        buf_free(&request->body);
        free(request);
    }
    spares_n = 0;
}
