#include "server/outlet_h2.h"

#include "server/exchange.h"

#include <stdlib.h>
#include <sys/socket.h>

/* In the request's pool. */
struct outlet_h2 {
    h2o_generator_t generator;
    struct outlet *outlet; /* NULL: it is closed */
    struct exchange *exchange;
    h2o_req_t *req;
    bool begun;                  /* the head is out */
    bool busy;                   /* h2o has something */
    bool over;                   /* and nothing may follow it */
    struct outlet_piece *pieces; /* of an outlet that is closed */
    uint32_t pieces_n;
};

static void dispose(void *p)
{
    struct outlet_h2 *h2 = p;
    struct outlet *outlet = h2->outlet;

    for (uint32_t i = 0; i < h2->pieces_n; i++)
        chunk_release(h2->pieces[i].chunk);
    free(h2->pieces);
    if (outlet == NULL)
        return;
    h2->over = true;
    h2->busy = false;
    outlet_lost(outlet);
}

static void say(struct outlet_h2 *h2, h2o_iovec_t *parts, size_t n, h2o_send_state_t state)
{
    h2->busy = true;
    h2->over = state != H2O_SEND_STATE_IN_PROGRESS;
    if (!h2->exchange->frontend->in_loop)
        h2->exchange->frontend->touched = true;
    h2o_send(h2->req, parts, n, state);
    connection_settle_later(h2->exchange->connection);
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct outlet_h2 *h2 = (struct outlet_h2 *)generator;
    struct exchange *exchange = h2->exchange;

    (void)req;
    h2->busy = false;
    if (h2->outlet == NULL) {
        say(h2, NULL, 0, H2O_SEND_STATE_ERROR);
    } else if (h2->begun) {
        outlet_written(h2->outlet, NULL);
    } else {
        h2->begun = true;
        timers_clear(&exchange->frontend->timers, &exchange->timer); /* it was for the head */
        outlet_begun(h2->outlet);
    }
}

void outlet_h2_begin(struct outlet *outlet, struct exchange *exchange)
{
    struct outlet_h2 *h2 = h2o_mem_alloc_shared(&exchange->req->pool, sizeof(*h2), dispose);

    *h2 = (struct outlet_h2){.generator.proceed = on_proceed,
                             .outlet = outlet,
                             .exchange = exchange,
                             .req = exchange->req};
    outlet->h2 = h2;
    h2o_start_response(h2->req, &h2->generator);
    say(h2, NULL, 0, H2O_SEND_STATE_IN_PROGRESS);
}

void outlet_h2_write(struct outlet *outlet, h2o_iovec_t *parts, size_t n)
{
    say(outlet->h2, parts, n, H2O_SEND_STATE_IN_PROGRESS);
}

void outlet_h2_end(struct outlet *outlet)
{
    say(outlet->h2, NULL, 0, H2O_SEND_STATE_FINAL);
}

uint64_t outlet_h2_taken(const struct outlet *outlet)
{
    return outlet->h2->req->bytes_sent;
}

void outlet_h2_leave(struct outlet *outlet)
{
    struct outlet_h2 *h2 = outlet->h2;

    h2->outlet = NULL;
    if (outlet->why == OUTLET_GONE)
        return;
    if (h2->busy) {
        h2->pieces = outlet->pieces;
        h2->pieces_n = outlet->pieces_n;
        outlet->pieces = NULL;
        outlet->pieces_n = 0;
    }
    if (outlet->why == OUTLET_UNREAD)
        (void)shutdown(h2o_socket_get_fd(outlet->connection->sock), SHUT_RDWR);
    else if (!h2->busy && !h2->over)
        say(h2, NULL, 0, H2O_SEND_STATE_ERROR);
}
