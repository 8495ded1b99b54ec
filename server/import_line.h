/*
 * import_line: one line of an exported session, as it stands in the file:
 *
 *     {"atoll":"session","version":1,"session":"demo","epoch":"k3x9","seq":42,"chain":"<64 hex>",
 *      "state_hash":"<32 hex>"}
 *     {"seq":1,"event":{…},"bytes":"<base64>","chain":"<64 hex>"}
 *
 * The first is the header, then one line for each event. Values are taken as they are written and
 * none is unescaped: what an export writes needs no escapes but inside `event`, and that is
 * compared with what the bytes say, byte for byte, by the shard. So an event may be nested deeper
 * than a command's JSON. Pure.
 */
#ifndef ATOLL_SERVER_IMPORT_LINE_H
#define ATOLL_SERVER_IMPORT_LINE_H

#include "core/core.h"

enum { IMPORT_VERSION = 1 };

struct import_header {
    struct str session, epoch; /* in the line */
    uint64_t seq;
    struct core_chain chain;
};

struct import_event {
    uint64_t seq;
    struct str json, bytes; /* in the line; `bytes` as base64 */
    struct core_chain chain;
};

enum { IMPORT_WHY_BYTES = 160 };

/* 0, or -1 with what is wrong in `why`, a sentence without full stop. */
int import_header_read(struct str line, struct import_header *header, char why[IMPORT_WHY_BYTES]);
int import_event_read(struct str line, struct import_event *event, char why[IMPORT_WHY_BYTES]);

/* Decodes base64 with padding; `out` has room for 3 bytes for each 4. False: it is none. */
bool import_base64(struct str text, char *out, size_t *n);

/* Takes the next line off *text, without its end. False: there is none. */
bool import_take_line(struct str *text, struct str *line);

#endif
