#include "deliveries.h"

#include <stdlib.h>

enum {
    PLACES = 1 << 20, /* of all sessions together, about */
    WINDOW_LEAST = 16,
};

struct delivery_place {
    uint64_t began_ns;    /* when it was sent or planned; 0: not known yet */
    uint64_t answered_ns; /* 0: not yet */
    uint64_t last_ns;     /* when the last watcher's bytes were read; 0: not yet */
    uint32_t told;        /* to so many watchers */
    bool known;           /* its seq was, when it was sent */
};

struct delivery_session {
    uint64_t done, watchers;
};

bool deliveries_open(struct deliveries *deliveries, struct loop *loop, struct meter *meter,
                     uint64_t sessions)
{
    *deliveries = (struct deliveries){.loop = loop, .meter = meter, .window = DELIVERIES_MAX};
    while (deliveries->window > WINDOW_LEAST && deliveries->window * sessions > PLACES)
        deliveries->window /= 2;
    deliveries->places = calloc(deliveries->window * sessions, sizeof(*deliveries->places));
    deliveries->sessions = calloc(sessions, sizeof(*deliveries->sessions));
    return deliveries->places != NULL && deliveries->sessions != NULL;
}

void deliveries_close(struct deliveries *deliveries)
{
    free(deliveries->places);
    free(deliveries->sessions);
    deliveries->places = NULL;
    deliveries->sessions = NULL;
}

void deliveries_begin(struct deliveries *deliveries, uint64_t session, uint64_t seq,
                      uint64_t watchers)
{
    deliveries->sessions[session] = (struct delivery_session){.done = seq, .watchers = watchers};
}

uint64_t deliveries_done(const struct deliveries *deliveries, uint64_t session)
{
    return deliveries->sessions[session].done;
}

static struct delivery_place *place_of(const struct deliveries *deliveries, uint64_t session,
                                       uint64_t seq)
{
    return &deliveries->places[session * deliveries->window + seq % deliveries->window];
}

/* Whether the event can be one of those under way. */
static bool has_place(struct deliveries *deliveries, uint64_t session, uint64_t seq)
{
    uint64_t done = deliveries->sessions[session].done;

    if (seq > done && seq <= done + deliveries->window)
        return true;
    loop_fail(deliveries->loop,
              "session %llu: event %llu is none of those under way, %llu to %llu: somebody else "
              "writes, or it was told twice",
              (unsigned long long)session, (unsigned long long)seq, (unsigned long long)done + 1,
              (unsigned long long)(done + deliveries->window));
    return false;
}

/* Frees the places of the session's oldest events that are answered and were told to all. */
static void move_on(struct deliveries *deliveries, uint64_t session)
{
    struct delivery_session *of = &deliveries->sessions[session];

    for (;;) {
        struct delivery_place *place = place_of(deliveries, session, of->done + 1);
        if (place->last_ns == 0 || place->answered_ns == 0)
            return;
        *place = (struct delivery_place){0};
        of->done++;
    }
}

static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

void deliveries_sent(struct deliveries *deliveries, uint64_t session, uint64_t first, uint64_t n,
                     uint64_t sent_ns)
{
    for (uint64_t seq = first; seq < first + n && has_place(deliveries, session, seq); seq++) {
        place_of(deliveries, session, seq)->began_ns = sent_ns;
        place_of(deliveries, session, seq)->known = true;
    }
}

/* Those who were told before the answer was read, were told at once. */
static void count_early(struct deliveries *deliveries, const struct delivery_place *place)
{
    for (uint32_t i = 0; i < place->told; i++)
        histogram_add(&deliveries->commit, 0);
    deliveries->before_answer += place->told;
    if (place->last_ns != 0)
        histogram_add(&deliveries->last_commit, 0);
}

void deliveries_answered(struct deliveries *deliveries, uint64_t session, uint64_t first,
                         uint64_t n, uint64_t began_ns, uint64_t now_ns)
{
    for (uint64_t seq = first; seq < first + n && has_place(deliveries, session, seq); seq++) {
        struct delivery_place *place = place_of(deliveries, session, seq);
        place->began_ns = began_ns;
        place->answered_ns = now_ns;
        if (meter_takes(deliveries->meter, began_ns))
            count_early(deliveries, place);
    }
    move_on(deliveries, session);
}

static void told_last(struct deliveries *deliveries, struct delivery_place *place, uint64_t now_ns,
                      bool counts)
{
    place->last_ns = now_ns;
    if (counts && place->answered_ns != 0)
        histogram_add(&deliveries->last_commit, since(place->answered_ns, now_ns));
    if (counts && place->known)
        histogram_add(&deliveries->last_send, since(place->began_ns, now_ns));
}

void deliveries_told(struct deliveries *deliveries, uint64_t session, uint64_t from, uint64_t seq,
                     uint64_t now_ns)
{
    for (uint64_t at = from; at <= seq && has_place(deliveries, session, at); at++) {
        struct delivery_place *place = place_of(deliveries, session, at);
        uint64_t took_ns = place->answered_ns != 0 ? since(place->answered_ns, now_ns) : 0;
        bool counts = meter_takes(deliveries->meter, place->began_ns);
        meter_count(deliveries->meter, 1, took_ns);
        if (counts && place->answered_ns != 0)
            histogram_add(&deliveries->commit, took_ns);
        if (counts && place->known)
            histogram_add(&deliveries->send, since(place->began_ns, now_ns));
        if (++place->told == deliveries->sessions[session].watchers)
            told_last(deliveries, place, now_ns, counts);
    }
    move_on(deliveries, session);
}
