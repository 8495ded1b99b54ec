/*
 * shown: what a tool shows of messages, agents and threads, cut to what a model's context can hold.
 *
 * Normal path: what core has written (server/scan.h) is added item by item, twice: as JSON, the
 * elements of an array, and as text. Whoever adds stops at the first item that does not fit, and
 * says how to go on. What is long in one item is cut, with the cursor for the rest.
 *
 * In the text, what agents wrote stands in quotes, escaped: so it cannot be taken for the words
 * around it. Pure.
 */
#ifndef ATOLL_SERVER_MCP_SHOWN_H
#define ATOLL_SERVER_MCP_SHOWN_H

#include "core/base.h"

enum {
    SHOWN_BYTES = 32 * 1024,        /* of one result, as JSON and as text: the rest is left out */
    SHOWN_MESSAGES = 20,            /* the same */
    SHOWN_CONTENT_BYTES = 8 * 1024, /* of one message's content: cut */
    SHOWN_DATA_BYTES = 4 * 1024,    /* of its data: left out, to be read by itself */
    SHOWN_IDS = 20,                 /* of a list of agents: the rest is counted */
    SHOWN_PIECE_BYTES = 24 * 1024,  /* of a message that is read by itself */
};

/* Zero-initialise, then set what is wanted. */
struct shown {
    struct str reader; /* the agent that is shown it */
    size_t used;       /* bytes of the result that other things take */
    struct buf json;   /* elements, commas between them */
    struct buf text;
    uint32_t n;
};

void shown_free(struct shown *shown);

/*
 * Add one item. False: it does not fit any more, and nothing was added; the first one always fits.
 * `message` may tell its thread (an inbox's) or not (a page's): then it is of `thread`.
 */
bool shown_add_message(struct shown *shown, struct str message, struct str thread);
bool shown_add_agent(struct shown *shown, struct str id, struct str agent);
bool shown_add_thread(struct shown *shown, struct str id, struct str thread);

/*
 * One message by itself: SHOWN_PIECE_BYTES of its content (of_data: of its data, as text) from byte
 * `from` on. Returns where the next piece begins; 0: there is none.
 */
size_t shown_add_piece(struct shown *shown, struct str message, struct str thread, bool of_data,
                       size_t from);

/* Where a page of a thread begins, as atoll_read_thread's cursor says it. */
enum shown_place { SHOWN_NEWEST, SHOWN_BEFORE, SHOWN_AFTER, SHOWN_MESSAGE, SHOWN_BAD };
struct shown_cursor {
    enum shown_place place;
    uint64_t seq;  /* BEFORE, AFTER, MESSAGE */
    uint64_t from; /* MESSAGE: a byte */
    bool of_data;  /* MESSAGE */
};
#define SHOWN_CURSOR_RULE                                                                          \
    "\"cursor\" must be empty (the newest messages), \"before-42\", \"after-42\" (a message's "    \
    "number), a message's id like \"m42\", or a cursor from an earlier answer"
struct shown_cursor shown_cursor_parse(struct str text);

#endif
