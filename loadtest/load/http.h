/*
 * http: the client's end of one keep-alive connection, with one request at a time under way, for
 * programs that measure: of an answer only its end is kept, and nothing is allocated, but where
 * `keep_body` asks for the whole.
 *
 * Normal path: http_connect, then again and again http_send and, whenever the socket is ready (see
 * http_watch), http_go_on until it says HTTP_DONE.
 * Failure: HTTP_FAILED, with a sentence in `error`; the connection is of no more use.
 *
 * Thread: anyone's; a connection belongs to one.
 */
#ifndef ATOLL_LOAD_HTTP_H
#define ATOLL_LOAD_HTTP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_HEAD_BYTES = 4096,  /* of an answer, at most: more is a failure */
    HTTP_TAIL_BYTES = 512,   /* of a body that are kept, its last */
    HTTP_TOKEN_BYTES = 1024, /* of a token, at most */
    HTTP_HOST_BYTES = HTTP_TOKEN_BYTES + 64,
};

enum http_result { HTTP_MORE, HTTP_DONE, HTTP_FAILED };

enum http_state {
    HTTP_IDLE, /* no request is under way */
    HTTP_IN_HEAD,
    HTTP_IN_BODY,       /* `left` bytes are to come */
    HTTP_IN_CHUNK_SIZE, /* the line before a chunk */
    HTTP_IN_CHUNK,      /* `left` bytes of it are to come */
    HTTP_IN_CHUNK_END,  /* the empty line behind it */
    HTTP_IN_TRAILER,    /* lines behind the last chunk, up to an empty one */
};

struct http {
    int fd;
    enum http_state state;
    const char *out; /* the request, borrowed until the answer is there */
    size_t out_size, out_sent;
    char head[HTTP_HEAD_BYTES]; /* also the line that is being read between chunks */
    size_t head_size;
    uint64_t left;
    const char *error;
    /* The owner's to set, after http_connect and before http_send: */
    bool keep_body;
    bool may_close; /* an answer that tells no length ends with the connection; else it fails */
    bool to_close;  /* this one is such, */
    bool closed;    /* and has: the next request needs another connection */
    /* The answer: */
    int status;
    uint64_t body_bytes;
    char tail[HTTP_TAIL_BYTES + 1]; /* ends with a zero byte */
    size_t tail_size;
    /* With keep_body the whole, until the next http_send, with a zero byte behind it; freed by
     * http_close. */
    char *body;
    size_t body_size, body_room;
};

/* What follows the first line of every request: Host, and the token if there is one. */
extern char http_host[HTTP_HOST_BYTES];
/* From now on requests have this bearer token. False: it is none, or too long. Before others run.
 */
bool http_set_token(const char *token);
/* Takes "http://ADDRESS:PORT" (IPv4) apart. False: it is something else. */
bool http_parse_url(const char *url, struct sockaddr_in *address);
/* Connects; the socket does not block from then on. False: errno says why. */
bool http_connect(struct http *http, const struct sockaddr_in *address);
/* Adds it to an epoll set once and for all, edge-triggered, with `http` as its data. */
bool http_watch(struct http *http, int epoll_fd);
/* Begins a request; the bytes have to stay until its answer is there. */
enum http_result http_send(struct http *http, const char *bytes, size_t size);
/* Sends and takes what can be sent and is there. */
enum http_result http_go_on(struct http *http);
void http_close(struct http *http);

/* For another protocol over the same connection: sends what can be sent, and gives `taker` all that
 * comes until it says that the answer is there, or wrong. Adds to the kept body; false: no memory.
 */
enum http_result http_receive(struct http *http,
                              enum http_result (*taker)(struct http *, const char *, size_t));
bool http_keep(struct http *http, const char *p, size_t n);

#endif
