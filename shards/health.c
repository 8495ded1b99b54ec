#include "shards/health.h"

#include <stdio.h>

void health_init(struct health_cell *cell)
{
    *cell = (struct health_cell){0};
    pthread_mutex_init(&cell->lock, NULL);
}

void health_end(struct health_cell *cell)
{
    pthread_mutex_destroy(&cell->lock);
}

/* Whether there is nothing to change. By the component's own thread, which alone writes. */
static bool is_known(const struct health *now, enum health_state state, const char *why)
{
    return now->state == state &&
           (why == NULL || strncmp(now->error, why, sizeof(now->error) - 1) == 0);
}

void health_set(struct health_cell *cell, enum health_state state, int64_t wall_ms, const char *why)
{
    assert((why == NULL) == (state == HEALTH_HEALTHY));
    if (cell == NULL || is_known(&cell->now, state, why))
        return;
    pthread_mutex_lock(&cell->lock);
    if (cell->now.state != state)
        cell->now.since_ms = wall_ms;
    cell->now.state = state;
    if (why != NULL) {
        snprintf(cell->now.error, sizeof(cell->now.error), "%s", why);
        cell->now.error_ms = wall_ms;
    }
    pthread_mutex_unlock(&cell->lock);
}

struct health health_get(struct health_cell *cell)
{
    pthread_mutex_lock(&cell->lock);
    struct health now = cell->now;
    pthread_mutex_unlock(&cell->lock);
    return now;
}

const char *health_name(enum health_state state)
{
    static const char *const names[] = {"healthy", "degraded", "failing", "failed"};
    return names[state];
}
