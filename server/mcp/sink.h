/*
 * sink: where the messages of calls go: the answer of a POST, as JSON or as an event stream, or a
 * stream that outlasts calls (GET, subscriptions/listen, the older transport).
 *
 * Normal path: a sink is made for an exchange; calls are added; each says its one answer
 * (sink_answer). Alone and without anything said before, that is the exchange's JSON; with
 * sink_stream the connection leaves HTTP (outlet.h), and all goes out as events. When its last call
 * has ended, a sink that does not last ends.
 * Failure: the client goes. Calls that are only worth something to it go too; others run on, and
 * what they say is dropped. A client that lets more than SINK_QUEUE_BYTES lie is cut off: by a
 * timer, as whoever said the last word still works on its call.
 *
 * Thread: the frontend's.
 */
#ifndef ATOLL_SERVER_MCP_SINK_H
#define ATOLL_SERVER_MCP_SINK_H

#include "server/exchange.h"
#include "server/mcp/call.h"
#include "server/outlet.h"

enum { SINK_QUEUE_BYTES = 4 * 1024 * 1024 };

struct mcp_notes;

/* What a sink is for. */
enum sink_kind {
    SINK_POST,   /* the answer to one or more requests of a POST; a resumed one of a GET, too */
    SINK_NOTES,  /* a GET: notifications */
    SINK_LISTEN, /* the answer of subscriptions/listen: notifications, at its end a result */
    SINK_OLDER,  /* the older transport: all that the server has to say */
};

/* Of the older transport's stream (older.h): whom it speaks for. */
struct mcp_older;

/* Set to be told when an answer was written; `next` for several in one batch. */
struct sink_hook {
    struct sink_hook *next;
    void (*on_written)(struct frontend *frontend, void *data, bool written);
    void *data;
};

struct mcp_sink {
    struct frontend *frontend;
    struct mcp_sink *previous, *next; /* all of a frontend's */
    struct grant *grant;              /* of the request; NULL: there are no keys */
    struct exchange *exchange;        /* its answer is due, or being written */
    struct outlet *outlet;            /* it is an event stream */
    struct mcp_call *calls;
    struct timer cut;           /* set: the client has let too much lie */
    struct chunk *first, *last; /* texts that the outlet has not got yet */
    size_t queued;              /* bytes of them */
    struct buf results;         /* of a batch: its answers so far, comma separated */
    struct sink_hook *hooks;    /* of answers that are on their way */
    struct mcp_notes *notes;    /* notify.h; NULL: none */
    char *id_prefix;            /* of its events' ids, mem_alloc'ed; NULL: they have none */
    uint64_t events;            /* so far */
    struct mcp_older *older;    /* SINK_OLDER: its own */
    uint32_t retry_ms;          /* to be said at the end; 0: not */
    uint32_t expected;          /* calls of a batch that have not been added yet */
    enum sink_kind kind;
    enum mcp_version version;
    enum mcp_level level; /* NOTES, OLDER: log messages from this level up are wanted */
    bool batch;
    bool takes_events; /* the client accepts text/event-stream */
    bool streaming;    /* it has left HTTP, or is about to */
    bool at_once;      /* also an answer alone is to be an event (a GET's) */
    bool ending, gone, quiet;
};

/* Makes the sink of an exchange, to which it now belongs. */
struct mcp_sink *sink_new(struct exchange *exchange, enum sink_kind kind, enum mcp_version version);
/* Begins the event stream. Nothing happens where it has begun, the client does not take one, or it
 * is gone. `status` and session id as for sink_answer. */
void sink_stream(struct mcp_sink *sink);
/* Says a notification or a request of ours, as an event. */
void sink_say(struct mcp_sink *sink, struct str message);
/* Says the answer of `call`, which ends, and takes its text over. `status`: HTTP's, where this is
 * the exchange's answer. */
void sink_answer(struct mcp_sink *sink, struct mcp_call *call, int status, struct buf *message);
/* Adds an answer to a batch that is no call's. */
void sink_add(struct mcp_sink *sink, struct str message);
/* Text as it is, e.g. an event of the older transport. */
void sink_push(struct mcp_sink *sink, struct chunk *chunk);
/* Closes when all is said; the client is to come back in retry_ms (0: no word on that). */
void sink_end(struct mcp_sink *sink, uint32_t retry_ms);
/* A call has gone, with or without an answer. */
void sink_left(struct mcp_sink *sink);

/* The server is about to stop. */
void sinks_drain(struct frontend *frontend);
/* It stops: all connections are closed. */
void sinks_free(struct frontend *frontend);

#endif
