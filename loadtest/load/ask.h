/*
 * ask: requests put together, asked one at a time and waited for (to set something up, to read
 * something back), and members found in answers.
 *
 * Thread: anyone's; an asker belongs to one.
 */
#ifndef ATOLL_LOAD_ASK_H
#define ATOLL_LOAD_ASK_H

#include "http.h"
#include "mode.h"

enum { ASK_HEAD_BYTES = 512 }; /* of a request, at most */

/* Bytes that grow. Zero-initialise to make one, free `p` in the end. */
struct text {
    char *p;
    size_t n, room;
};

/* Room for `n` more bytes and a zero byte; ends the program where there is no memory. */
char *text_room(struct text *text, size_t n);
void text_add(struct text *text, const char *bytes, size_t n);
void text_format(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A request in the place of what `text` held; `path` as of printf. */
void ask_get(struct text *text, const char *path, ...) __attribute__((format(printf, 2, 3)));
void ask_post(struct text *text, const char *body, size_t body_size, const char *path, ...)
    __attribute__((format(printf, 4, 5)));

struct asker {
    struct http http; /* the answer: status, body */
    struct text request;
};

/* False: told on standard error. */
bool asker_open(struct asker *asker, const struct load_options *options);
/* Sends what `request` holds and waits for the answer, a minute at most, read by `go_on` (as
 * http_go_on does). NULL: it is there; else what is wrong. */
const char *asker_exchange(struct asker *asker, enum http_result (*go_on)(struct http *http));
/* The same for HTTP. NULL: the answer is 2xx; else what is wrong, valid until the next question. */
const char *asker_ask(struct asker *asker);
void asker_close(struct asker *asker);

/* A message among the events of a session. */
struct told {
    uint64_t seq;
    /* JSON strings, behind their quotes; they lie in the page, whose end is `end`. */
    const char *thread, *sender, *content, *end;
};

/* Reads all messages of a session back, page by page, oldest first, and tells each. NULL: that is
 * all of them; else what is wrong, valid until the next question. */
const char *asker_messages(struct asker *asker, const char *session,
                           void (*each)(void *context, const struct told *message), void *context);

/*
 * The value of the next member `"name":` in n bytes of JSON from `p` on, at any depth: where it
 * begins, behind the quote of a string. NULL: there is none. A quote within a string is escaped, so
 * nothing that a string says can be taken for a member.
 */
const char *find_member(const char *p, const char *end, const char *name);

/* Whether the JSON string at `p` (behind its quote) says the same as `text`, another's inside of n
 * bytes: byte for byte, or else as they are meant. */
bool json_says(const char *p, const char *end, const char *text, size_t n);

#endif
