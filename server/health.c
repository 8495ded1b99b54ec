#include "server/health.h"

#include <stdio.h>

enum { NAME_BYTES = 160 };

static void tell_shard(struct cluster *cluster, unsigned number, health_told *told, void *ctx)
{
    struct shard_health *cells = cluster_health(cluster, number);
    const struct {
        const char *name;
        struct health_cell *cell;
    } parts[] = {{"shard", &cells->shard}, {"log", &cells->log}, {"wakes", &cells->wakes}};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct health health = health_get(parts[i].cell);
        char name[NAME_BYTES];
        snprintf(name, sizeof(name), "%s %u", parts[i].name, number);
        told(ctx, name, &health);
    }
}

/* Every frontend accepts on every listener, and has no file descriptors for all of them at once: a
 * listener is as its worst frontend is. */
static struct health worst_accepting(struct frontend_shared *shared)
{
    struct health worst = {0};
    for (unsigned i = 0; i < shared->frontends; i++) {
        struct health health = health_get(&shared->accepting[i]);
        if (health.state > worst.state ||
            (health.state == worst.state && health.error_ms > worst.error_ms))
            worst = health;
    }
    return worst;
}

void health_each(struct frontend *frontend, health_told *told, void *ctx)
{
    struct frontend_shared *shared = frontend->shared;
    struct cluster *cluster = reactor_cluster(frontend->reactor);
    struct health accepting = worst_accepting(shared);

    for (unsigned i = 0; i < cluster_size(cluster); i++)
        tell_shard(cluster, i, told, ctx);
    for (unsigned i = 0; i < shared->listeners_n; i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof(name), "listener %s", shared->config->listen.items[i]);
        told(ctx, name, &accepting);
    }
}

/* ---- as JSON */

struct list {
    struct buf *out;
    enum health_state least;
    int64_t started_ms; /* wall clock: since when what has not changed yet is as it is */
    unsigned n;
};

static void add_member(struct buf *out, const char *name, const char *value)
{
    buf_add_literal(out, ",\"");
    buf_add(out, name, strlen(name));
    buf_add_literal(out, "\":");
    json_add_string(out, (struct str){value, strlen(value)});
}

static void add_component(void *ctx, const char *component, const struct health *health)
{
    struct list *list = ctx;
    struct buf *out = list->out;

    if (health->state < list->least)
        return;
    buf_add_str(out, list->n++ != 0 ? STR(",{\"component\":") : STR("{\"component\":"));
    json_add_string(out, (struct str){component, strlen(component)});
    add_member(out, "state", health_name(health->state));
    buf_add_literal(out, ",\"since\":");
    json_add_time(out, health->since_ms != 0 ? health->since_ms : list->started_ms);
    if (health->error_ms != 0) {
        add_member(out, "error", health->error);
        buf_add_literal(out, ",\"error_at\":");
        json_add_time(out, health->error_ms);
    } else {
        buf_add_literal(out, ",\"error\":null,\"error_at\":null");
    }
    buf_add_byte(out, '}');
}

unsigned health_add_json(struct frontend *frontend, enum health_state least, struct buf *out)
{
    struct list list = {
        .out = out, .least = least, .started_ms = frontend->shared->started_wall_ms};

    buf_add_byte(out, '[');
    health_each(frontend, add_component, &list);
    buf_add_byte(out, ']');
    return list.n;
}

void health_set_accepting(struct frontend *frontend, const char *why)
{
    struct health_cell *cell = &frontend->shared->accepting[reactor_number(frontend->reactor)];
    char text[HEALTH_WHY_BYTES];

    if (why != NULL)
        snprintf(text, sizeof(text), "connections wait or are closed: %s", why);
    health_set(cell, why != NULL ? HEALTH_DEGRADED : HEALTH_HEALTHY,
               reactor_wall_ms(frontend->reactor), why != NULL ? text : NULL);
}
