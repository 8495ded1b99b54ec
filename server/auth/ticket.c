#include "server/auth/ticket.h"

#include "core/core.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/random.h>

enum { BUCKETS = 1024, TICKET_BYTES = 16 };

struct ticket {
    TAILQ_ENTRY(ticket) by_age;
    LIST_ENTRY(ticket) in_bucket;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    uint8_t owner[SHA256_DIGEST_LENGTH]; /* of the token */
    int64_t until_ms;
    uint8_t session_n; /* 0: for all */
    char session[CORE_ID_BYTES];
    struct str token;
};

struct tickets {
    pthread_mutex_t lock;
    TAILQ_HEAD(, ticket) by_age; /* the oldest first: they all last as long */
    LIST_HEAD(, ticket) buckets[BUCKETS];
    unsigned n;
};

struct tickets *tickets_new(void)
{
    struct tickets *tickets = mem_zeroed(1, sizeof(*tickets));
    pthread_mutex_init(&tickets->lock, NULL);
    TAILQ_INIT(&tickets->by_age);
    return tickets;
}

void ticket_token_free(struct str token)
{
    char *bytes = (char *)(uintptr_t)token.p;
    explicit_bzero(bytes, token.n);
    free(bytes);
}

/* Its token becomes the caller's. */
static struct str remove_ticket(struct tickets *tickets, struct ticket *ticket)
{
    struct str token = ticket->token;
    TAILQ_REMOVE(&tickets->by_age, ticket, by_age);
    LIST_REMOVE(ticket, in_bucket);
    tickets->n--;
    free(ticket);
    return token;
}

void tickets_free(struct tickets *tickets)
{
    struct ticket *ticket;
    if (tickets == NULL)
        return;
    while ((ticket = TAILQ_FIRST(&tickets->by_age)) != NULL)
        ticket_token_free(remove_ticket(tickets, ticket));
    pthread_mutex_destroy(&tickets->lock);
    free(tickets);
}

static void forget_old(struct tickets *tickets, int64_t now_ms)
{
    struct ticket *ticket;
    while ((ticket = TAILQ_FIRST(&tickets->by_age)) != NULL && ticket->until_ms <= now_ms)
        ticket_token_free(remove_ticket(tickets, ticket));
}

static void digest_of(struct str text, uint8_t out[SHA256_DIGEST_LENGTH])
{
    SHA256((const uint8_t *)text.p, text.n, out);
}

static unsigned bucket_of(const uint8_t digest[SHA256_DIGEST_LENGTH])
{
    return (digest[0] | (unsigned)digest[1] << 8) % BUCKETS;
}

static struct ticket *find(struct tickets *tickets, struct str text)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    struct ticket *ticket;

    digest_of(text, digest);
    LIST_FOREACH(ticket, &tickets->buckets[bucket_of(digest)], in_bucket)
    if (memcmp(ticket->digest, digest, sizeof(digest)) == 0)
        return ticket;
    return NULL;
}

/* ---- making */

static void make_text(char text[TICKET_TEXT_BYTES])
{
    uint8_t random[TICKET_BYTES];
    struct buf out = {0};
    ssize_t n = getrandom(random, sizeof(random), 0);

    assert(n == sizeof(random)); /* so few bytes are never cut short */
    buf_add_base64url(&out, (struct str){(char *)random, sizeof(random)});
    assert(out.n == TICKET_TEXT_BYTES);
    memcpy(text, out.p, TICKET_TEXT_BYTES);
    explicit_bzero(out.p, out.n);
    buf_free(&out);
}

static struct ticket *make_ticket(struct str token, struct str session,
                                  char text[TICKET_TEXT_BYTES])
{
    struct ticket *ticket = mem_zeroed(1, sizeof(*ticket));
    char *copy = mem_alloc(token.n);

    assert(session.n <= sizeof(ticket->session));
    make_text(text);
    digest_of((struct str){text, TICKET_TEXT_BYTES}, ticket->digest);
    digest_of(token, ticket->owner);
    memcpy(copy, token.p, token.n);
    ticket->token = (struct str){copy, token.n};
    ticket->session_n = (uint8_t)session.n;
    if (session.n != 0)
        memcpy(ticket->session, session.p, session.n);
    return ticket;
}

/* Until there is room for one more of this token: the oldest in the way has to go. 0: there is. */
static int64_t wait_ms(const struct tickets *tickets, const struct ticket *wanted, int64_t now_ms)
{
    const struct ticket *ticket, *oldest = NULL;
    unsigned own = 0;

    TAILQ_FOREACH(ticket, &tickets->by_age, by_age)
    if (memcmp(ticket->owner, wanted->owner, sizeof(wanted->owner)) == 0 && own++ == 0)
        oldest = ticket;
    if (own < TICKETS_OF_ONE_MAX)
        oldest = tickets->n < TICKETS_MAX ? NULL : TAILQ_FIRST(&tickets->by_age);
    return oldest != NULL ? oldest->until_ms - now_ms : 0;
}

int64_t tickets_issue(struct tickets *tickets, struct str token, struct str session, int64_t now_ms,
                      char text[TICKET_TEXT_BYTES])
{
    struct ticket *ticket = make_ticket(token, session, text);

    pthread_mutex_lock(&tickets->lock);
    forget_old(tickets, now_ms);
    int64_t after_ms = wait_ms(tickets, ticket, now_ms);
    if (after_ms == 0) {
        ticket->until_ms = now_ms + TICKET_LIFE_S * INT64_C(1000);
        TAILQ_INSERT_TAIL(&tickets->by_age, ticket, by_age);
        LIST_INSERT_HEAD(&tickets->buckets[bucket_of(ticket->digest)], ticket, in_bucket);
        tickets->n++;
    }
    pthread_mutex_unlock(&tickets->lock);
    if (after_ms != 0) {
        ticket_token_free(ticket->token);
        free(ticket);
    }
    return after_ms;
}

/* ---- using */

static bool is_for(const struct ticket *ticket, struct str session)
{
    return ticket->session_n == 0 ||
           (session.n == ticket->session_n && memcmp(session.p, ticket->session, session.n) == 0);
}

struct str tickets_redeem(struct tickets *tickets, struct str text, struct str session,
                          int64_t now_ms)
{
    struct str token = {0};

    pthread_mutex_lock(&tickets->lock);
    forget_old(tickets, now_ms);
    struct ticket *ticket = find(tickets, text);
    bool fits = ticket != NULL && is_for(ticket, session);
    if (ticket != NULL)
        token = remove_ticket(tickets, ticket);
    pthread_mutex_unlock(&tickets->lock);
    if (fits || ticket == NULL)
        return token;
    ticket_token_free(token);
    return (struct str){0};
}
