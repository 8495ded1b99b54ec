#include "server/timers.h"

#include "core/base.h"

#include <limits.h>
#include <stdlib.h>

enum { HEAP_MIN = 64 };

static void place(struct timers *timers, struct timer *timer, uint32_t at)
{
    timers->heap[at] = timer;
    timer->place = at;
}

static void sift_up(struct timers *timers, struct timer *timer, uint32_t at)
{
    while (at > 1 && timers->heap[at / 2]->due_ms > timer->due_ms) {
        place(timers, timers->heap[at / 2], at);
        at /= 2;
    }
    place(timers, timer, at);
}

static void sift_down(struct timers *timers, struct timer *timer, uint32_t at)
{
    for (;;) {
        uint32_t child = at * 2;
        if (child > timers->n)
            break;
        if (child < timers->n && timers->heap[child + 1]->due_ms < timers->heap[child]->due_ms)
            child++;
        if (timers->heap[child]->due_ms >= timer->due_ms)
            break;
        place(timers, timers->heap[child], at);
        at = child;
    }
    place(timers, timer, at);
}

/* Puts `timer` where it belongs, `at` being free. */
static void settle(struct timers *timers, struct timer *timer, uint32_t at)
{
    if (at > 1 && timers->heap[at / 2]->due_ms > timer->due_ms)
        sift_up(timers, timer, at);
    else
        sift_down(timers, timer, at);
}

void timers_free(struct timers *timers)
{
    free(timers->heap);
    *timers = (struct timers){0};
}

void timers_set(struct timers *timers, struct timer *timer, int64_t due_ms)
{
    assert(timer->fire != NULL);
    timer->due_ms = due_ms > timers->running_ms ? due_ms : timers->running_ms + 1;
    if (timer->place != 0) {
        settle(timers, timer, timer->place);
        return;
    }
    if (timers->n + 1 >= timers->cap) {
        timers->cap = timers->cap == 0 ? HEAP_MIN : timers->cap * 2;
        timers->heap = mem_realloc(timers->heap, timers->cap * sizeof(struct timer *));
    }
    timers->n++;
    sift_up(timers, timer, timers->n);
}

void timers_clear(struct timers *timers, struct timer *timer)
{
    uint32_t at = timer->place;
    if (at == 0)
        return;
    struct timer *last = timers->heap[timers->n--];
    timer->place = 0;
    if (last != timer)
        settle(timers, last, at);
}

void timers_run(struct timers *timers, int64_t now_ms)
{
    timers->running_ms = now_ms;
    while (timers->n != 0 && timers->heap[1]->due_ms <= now_ms) {
        struct timer *timer = timers->heap[1];
        timers_clear(timers, timer);
        timer->fire(timer);
    }
    timers->running_ms = 0;
}

int timers_wait_ms(const struct timers *timers, int64_t now_ms)
{
    if (timers->n == 0)
        return -1;
    int64_t wait_ms = timers->heap[1]->due_ms - now_ms;
    return wait_ms <= 0 ? 0 : wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
}
