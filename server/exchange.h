/*
 * exchange: one HTTP request from its arrival to the last byte of its answer, and how answers are
 * written.
 *
 * An exchange lives in its h2o request's pool: h2o frees it when the answer is out or the client
 * is gone, whichever comes first, and exchange.c then gives back all it holds. So nothing keeps a
 * pointer to an exchange over a turn; requests carry its token.
 *
 * Normal path: exchange_answer or exchange_refuse, exactly once, unless its connection leaves HTTP
 * (outlet.h). A body goes out by reference in pieces; the client has --write-timeout for each.
 * Failure: a client that takes nothing for that long is cut off; one that hangs up while watched
 * (exchange_watch) is noticed at once, else when its answer is written.
 */
#ifndef ATOLL_SERVER_EXCHANGE_H
#define ATOLL_SERVER_EXCHANGE_H

#include "server/frontend.h"

enum { EXCHANGE_PIECE_BYTES = 256 * 1024 };

struct exchange {
    struct frontend *frontend;
    h2o_req_t *req;
    struct connection *connection;
    uint64_t token;
    uint64_t begun_ns;   /* frontend_clock_ns when it came */
    struct grant *grant; /* what the caller may do; NULL: there are no keys, or nothing is asked */
    struct route_match match;
    struct str request_id;       /* trace.h; p == NULL: not known yet */
    struct str trace;            /* of its traceparent; p == NULL: it has none */
    bool id_given;               /* by an X-Request-Id */
    struct str none_match;       /* If-None-Match */
    struct str origin;           /* of a page that is not the server's own: cors.h; in the pool */
    struct str session;          /* of a wait, to cancel it by; in the pool */
    struct str agent;            /* the same: who waits */
    int retry_after_s;           /* of a refusal; 0: what its status has */
    struct rates_verdict *rates; /* by enum rates_kind; NULL: nothing is limited. In the pool */
    bool token_refused;          /* a token was given, and is not good */
    bool answered;               /* or being streamed */
    bool watched;                /* in the hang-up set */
    bool unread;                 /* the socket is polled, but not to be read */
    bool waiting;                /* a REQUEST_INBOX that may wait is at the shard */
    bool paged;                  /* the body has pages behind what `rest` holds */
    bool asking;                 /* the next of them is at the shard */
    struct timer timer;          /* end of the wait; then the write deadline */
    h2o_generator_t generator;
    struct str rest;                /* of the body, not yet handed to h2o */
    struct request *reply;          /* owns the body */
    struct buf text;                /* or this does */
    void (*ask)(struct exchange *); /* for the page behind `reply` */
    struct gather *gather;          /* list.c, status.c: replies of all shards */
    /* Of a face that takes its replies itself; NULL: they are rest.c's. With its own state. */
    void (*on_reply)(struct exchange *, struct request *);
    void *state;
    void *face; /* of a connection that is to leave HTTP, with what frees it if the exchange goes */
    void (*on_gone)(void *face);
};

/* The headers that kinds of answers share. */
enum answer_kind {
    ANSWER_JSON,
    ANSWER_LINES,
    ANSWER_STATE,
    ANSWER_PROBLEM,
    ANSWER_YAML,
    ANSWER_TEXT,
    ANSWER_METRICS,
    ANSWER_OPENMETRICS,
    ANSWER_FILE /* its type comes with `more` */
};

struct answer {
    int status;
    enum answer_kind kind;
    struct str body; /* static, or held by the exchange's reply or text */
    struct str etag; /* with its quotes; like all below p == NULL: none. In the pool */
    struct str location;
    struct str allow;
    int retry_after_s;
    bool replayed;
    const h2o_header_t *more; /* copied; what they point to is static or in the pool */
    size_t more_n;
};

/* Makes the exchange of a request; the connection is found by its socket. */
struct exchange *exchange_new(struct frontend *frontend, h2o_req_t *req);
static inline bool exchange_is_http2(const struct exchange *exchange)
{
    return exchange->req->version >= 0x200;
}
/* HEAD: answered like GET, without the body. */
bool exchange_is_head(const struct exchange *exchange);
void exchange_answer(struct exchange *exchange, const struct answer *answer);
/* A problem; `why` as in problem_write. */
void exchange_refuse(struct exchange *exchange, unsigned error, const struct core_refusal *why);
/* The same with a sentence. */
void exchange_refuse_text(struct exchange *exchange, unsigned error, const char *field,
                          const char *detail);
/* A problem whose object has further members: `members` is a JSON object. */
void exchange_refuse_with(struct exchange *exchange, unsigned error, const struct core_refusal *why,
                          struct str members);

/*
 * A body that comes from the shard page by page: the first begins the answer. Where it is not the
 * last, `ask` is called once the client has taken it, and has to send for the next one with
 * exchange_send_next; that comes here again, or the exchange is ended by exchange_gone. Takes
 * `page` over.
 */
typedef void exchange_ask(struct exchange *exchange);
void exchange_page(struct exchange *exchange, struct request *page, bool last, exchange_ask *ask);
/* Sends for the next page; never refused. */
void exchange_send_next(struct exchange *exchange, struct request *request);

/* Sends a request of this exchange to the shard of its session; where the ring is full it is freed
 * and the exchange answered with 503; where the caller may not ask this (guard_request), with 403.
 */
bool exchange_send(struct exchange *exchange, struct request *request);
/* The same for a shard by its number. */
bool exchange_send_to(struct exchange *exchange, struct request *request, unsigned shard);

/* A request of this exchange was sent in another way, and its answer comes in a later turn: spares
 * the loop two system calls. Not once the answer has begun. */
void exchange_stay_polled(struct exchange *exchange);

/* Notices from now on if the client hangs up. */
void exchange_watch(struct exchange *exchange);
/* The client has hung up, or is to be cut off from an answer that cannot go on. */
void exchange_gone(struct exchange *exchange);
/* A REQUEST_INBOX that waits was sent: it is cancelled after `wait_ms`, or if the client goes. */
void exchange_begin_wait(struct exchange *exchange, struct str session, struct str agent,
                         int64_t wait_ms);
/* Ends a wait early: the shard answers with what there is. */
void exchange_end_wait(struct exchange *exchange);
/* The reply has come. */
void exchange_waited(struct exchange *exchange);
/* Cuts the connection: h2o notices and disposes of the exchange. */
void exchange_cut(struct exchange *exchange);
/* The head of an answer that is no more HTTP behind it; for outlet_take, which begins it. */
void exchange_set_head(struct exchange *exchange, int status, const char *reason,
                       const h2o_header_t *headers, size_t headers_n);
/* The face lives on without the exchange. For outlet_take. */
void exchange_give_away(struct exchange *exchange);
/* Memory of the request's pool. */
void *exchange_alloc(struct exchange *exchange, size_t size);
struct str exchange_copy(struct exchange *exchange, struct buf *text);

#endif
