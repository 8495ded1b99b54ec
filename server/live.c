#include "server/live.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- making */

/* Whoever reaches an open server may do everything: nobody but this machine may reach it. */
static int check_reach(const struct live *live, char *error, size_t error_size)
{
    const struct access *access = &live->access;
    char text[INET6_ADDRSTRLEN];

    if (live->keys != NULL || live->config->insecure_no_auth)
        return 0;
    for (unsigned i = 0; i < access->addresses_n; i++) {
        const struct access_address *address = &access->addresses[i];
        if (access_is_loopback(address))
            continue;
        inet_ntop(address->family, address->bytes, text, sizeof(text));
        snprintf(error, error_size,
                 "listen: %s can be reached from elsewhere, and there is no --auth-key: anybody "
                 "could do anything here. Make a key (head -c 48 /dev/urandom > atoll.key), serve "
                 "with --auth-key atoll.key, and make tokens with: atoll token --key atoll.key "
                 "--sub NAME --sid '*' --scope read,write --ttl 1h. Or listen on 127.0.0.1, ::1 or "
                 "unix:PATH alone; --insecure-no-auth allows it as it is",
                 text);
        return -EINVAL;
    }
    return 0;
}

int live_make(struct config *config, const struct live_address *passed, unsigned passed_n,
              struct live **made, char *error, size_t error_size)
{
    struct live *live = mem_zeroed(1, sizeof(*live));

    live->config = mem_alloc(sizeof(*live->config));
    *live->config = *config;
    *config = (struct config){0};
    atomic_init(&live->references, 1);
    live->rates[RATES_TOKEN] = rates_limit_of(&live->config->rate_token);
    live->rates[RATES_ADDRESS] = rates_limit_of(&live->config->rate_address);
    access_init(&live->access, live->config);
    for (unsigned i = 0; i < passed_n; i++)
        access_add(&live->access, (const struct sockaddr *)&passed[i].storage);
    int rc = auth_keys_load(live->config, &live->keys, error, error_size);
    if (rc == 0)
        rc = tls_load(live->config, &live->tls, error, error_size);
    if (rc == 0)
        rc = check_reach(live, error, error_size);
    if (rc != 0) {
        live_release(live);
        return rc;
    }
    *made = live;
    return 0;
}

/* ---- holding */

struct live *live_take(struct live_cell *cell)
{
    pthread_mutex_lock(&cell->lock);
    struct live *live = cell->newest;
    atomic_fetch_add_explicit(&live->references, 1, memory_order_relaxed);
    pthread_mutex_unlock(&cell->lock);
    return live;
}

void live_release(struct live *live)
{
    if (live == NULL || atomic_fetch_sub(&live->references, 1) != 1)
        return;
    auth_keys_release(live->keys);
    tls_release(live->tls);
    config_free(live->config);
    free(live->config);
    free(live);
}

/* ---- publishing */

void live_open(struct live_cell *cell)
{
    pthread_mutex_init(&cell->lock, NULL);
    cell->newest = NULL;
    atomic_init(&cell->generation, 0);
}

/* The cell's reference is passed on under the lock: live_take finds none that is gone. */
void live_publish(struct live_cell *cell, struct live *live)
{
    pthread_mutex_lock(&cell->lock);
    struct live *old = cell->newest;
    live->generation = old != NULL ? old->generation + 1 : 1;
    cell->newest = live;
    atomic_store_explicit(&cell->generation, live->generation, memory_order_release);
    pthread_mutex_unlock(&cell->lock);
    live_release(old);
}

void live_close(struct live_cell *cell)
{
    live_release(cell->newest);
    pthread_mutex_destroy(&cell->lock);
}
