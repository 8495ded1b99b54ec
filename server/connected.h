/*
 * connected: which agents have a connection to this reactor, and by which face: a list for
 * /v1/status. Presence that is part of the state (an agent's status, leases) is not told by this.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_CONNECTED_H
#define ATOLL_SERVER_CONNECTED_H

#include "core/core.h"

enum {
    CONNECTED_MAX = 1000 /* told of one reactor; the rest is only counted (its `waiting`, …) */
};

struct connected {
    struct buf *out; /* elements of a JSON array */
    unsigned n;
};

/* `face` is static. `waiting`: for a message. */
static inline void connected_add(struct connected *connected, struct str session, struct str agent,
                                 const char *face, bool waiting)
{
    struct buf *out = connected->out;

    if (connected->n++ >= CONNECTED_MAX)
        return;
    buf_add_str(out, connected->n == 1 ? STR("{\"session\":") : STR(",{\"session\":"));
    json_add_string(out, session);
    buf_add_literal(out, ",\"agent\":");
    json_add_string(out, agent);
    buf_add_literal(out, ",\"face\":\"");
    buf_add(out, face, strlen(face));
    buf_add_str(out, waiting ? STR("\",\"waiting\":true}") : STR("\",\"waiting\":false}"));
}

#endif
