/*
 * socket_watches: the watches of a connection of many sessions. Those that have something to say
 * wait in a list and are asked in turn, so that a busy session holds up no quiet one.
 *
 * A watch says nothing before its answer is out. It is gone when its session is deleted, when it is
 * replaced or no longer wanted; an answer that is still due is then given all the same.
 */
#include "server/auth/guard.h"
#include "server/socket_internal.h"

#include "server/overview.h"
#include "server/problem.h"
#include "server/socket.h"

#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { BUCKETS_MIN = 16 };

struct socket_watch {
    struct watcher watcher;
    struct socket *socket;
    struct socket_watch *next; /* in its bucket */
    struct socket_watch *next_ready;
    uint64_t hash;
    struct socket_answer *answer; /* NULL: is out */
    bool listed;                  /* among those that are asked */
    bool loading;                 /* counted as such */
    uint16_t ref_n;
    char ref[]; /* of the message, for its answer */
};

/* ---- the table */

static uint64_t hash_of(const struct socket *socket, struct str session)
{
    return XXH3_64bits_withSeed(session.p, session.n, socket->frontend->shared->limits->hash_seed);
}

static void grow(struct socket_watches *watches)
{
    uint32_t n = watches->buckets_n == 0 ? BUCKETS_MIN : watches->buckets_n * 2;
    struct socket_watch **buckets = mem_zeroed(n, sizeof(*buckets));

    for (uint32_t i = 0; i < watches->buckets_n; i++) {
        for (struct socket_watch *watch = watches->buckets[i], *next; watch != NULL; watch = next) {
            next = watch->next;
            watch->next = buckets[watch->hash & (n - 1)];
            buckets[watch->hash & (n - 1)] = watch;
        }
    }
    free(watches->buckets);
    watches->buckets = buckets;
    watches->buckets_n = n;
}

static struct socket_watch *find(const struct socket *socket, struct str session)
{
    const struct socket_watches *watches = &socket->watches;
    if (watches->n == 0)
        return NULL;
    uint64_t hash = hash_of(socket, session);
    struct socket_watch *watch = watches->buckets[hash & (watches->buckets_n - 1)];
    while (watch != NULL &&
           (watch->hash != hash || !str_equal(watcher_session(&watch->watcher), session)))
        watch = watch->next;
    return watch;
}

static void link_watch(struct socket_watches *watches, struct socket_watch *watch)
{
    if (watches->n >= watches->buckets_n)
        grow(watches);
    struct socket_watch **bucket = &watches->buckets[watch->hash & (watches->buckets_n - 1)];
    watch->next = *bucket;
    *bucket = watch;
    watches->n++;
}

static void unlink_watch(struct socket_watches *watches, struct socket_watch *watch)
{
    struct socket_watch **at = &watches->buckets[watch->hash & (watches->buckets_n - 1)];
    while (*at != watch)
        at = &(*at)->next;
    *at = watch->next;
    watches->n--;
}

/* ---- those that have something to say */

static void list_ready(struct socket_watch *watch)
{
    struct socket_watches *watches = &watch->socket->watches;
    if (watch->listed || watch->answer != NULL)
        return;
    watch->listed = true;
    watch->next_ready = NULL;
    if (watches->ready == NULL)
        watches->ready = watch;
    else
        watches->ready_last->next_ready = watch;
    watches->ready_last = watch;
    socket_wake(watch->socket);
}

static struct socket_watch *take_ready(struct socket_watches *watches)
{
    struct socket_watch *watch = watches->ready;
    watches->ready = watch->next_ready;
    watch->listed = false;
    return watch;
}

static void unlist(struct socket_watches *watches, struct socket_watch *watch)
{
    struct socket_watch *previous = NULL, *at = watches->ready;
    while (at != watch) {
        previous = at;
        at = at->next_ready;
    }
    if (previous == NULL)
        watches->ready = watch->next_ready;
    else
        previous->next_ready = watch->next_ready;
    if (watches->ready_last == watch)
        watches->ready_last = previous;
}

/* ---- how many snapshots there are at a time, so that a slow reader holds no more of them */

static void set_loading(struct socket_watch *watch, bool loading)
{
    if (watch->loading == loading)
        return;
    watch->loading = loading;
    watch->socket->watches.loading_n += loading ? 1 : -1u;
}

static void look_whether_loading(struct socket_watch *watch)
{
    const struct watcher *watcher = &watch->watcher;
    set_loading(watch, watcher->state == WATCHER_ASKING || watcher->state == WATCHER_BEHIND ||
                           watcher->pending != NULL);
}

/* ---- one watch */

static struct str ref_of(const struct socket_watch *watch)
{
    return (struct str){watch->ref_n != 0 ? watch->ref : NULL, watch->ref_n};
}

static void answer_watch(struct socket_watch *watch, unsigned error, const struct core_refusal *why)
{
    if (watch->answer == NULL || watch->answer->chunk != NULL)
        return;
    watch->answer->chunk = socket_result(ref_of(watch), error, why);
    socket_wake(watch->socket);
}

static void count_watch(const struct socket_watch *watch, int n)
{
    struct frontend_figures *figures = watch->socket->frontend->figures;
    if (watch->watcher.begun)
        figure_add(&figures->watching[watch->watcher.shard], n);
}

static void watch_free(struct socket_watch *watch)
{
    struct socket_watches *watches = &watch->socket->watches;

    answer_watch(watch, 0, NULL);
    if (watch->answer != NULL)
        watch->answer->watch = NULL;
    if (watch->listed)
        unlist(watches, watch);
    set_loading(watch, false);
    count_watch(watch, -1);
    unlink_watch(watches, watch);
    watcher_close(&watch->watcher);
    free(watch);
}

static void on_ready(struct watcher *watcher)
{
    list_ready(watcher->owner);
}

static void on_begun(struct watcher *watcher)
{
    struct socket_watch *watch = watcher->owner;
    count_watch(watch, 1);
    answer_watch(watch, 0, NULL);
}

static void on_refused(struct watcher *watcher, unsigned error, const struct core_refusal *why)
{
    struct socket_watch *watch = watcher->owner;
    answer_watch(watch, error, why);
    watch_free(watch);
}

static const struct watcher_ops watcher_ops = {
    .ready = on_ready,
    .begun = on_begun,
    .refused = on_refused,
};

void socket_watch_answered(struct socket_watch *watch)
{
    watch->answer = NULL;
    list_ready(watch);
}

/* ---- messages */

static void refuse(struct socket *socket, struct str ref, size_t bytes, unsigned error,
                   const struct core_refusal *why)
{
    socket_answer_later(socket, bytes)->chunk = socket_result(ref, error, why);
    socket_wake(socket);
}

static bool watch_session(struct socket *socket, const struct decode_message *message, size_t bytes,
                          struct str session, const struct query *query)
{
    struct socket_watch *old = find(socket, session);
    if (old == NULL && socket->watches.n == SOCKET_WATCHES_MAX) {
        socket_close(socket, WS_POLICY, "a connection watches at most 10000 sessions");
        return false;
    }
    if (socket->watches.loading_n >= SOCKET_LOADING_MAX)
        return false;
    struct watcher_wish wish = {
        .session = session,
        .form = query->view == VIEW_COMPACT ? WANTS_COMPACT : WANTS_PATCHES,
        .framing = FRAMING_WS_MANY,
        .parts = query->parts,
        .redaction = guard_redaction(socket->outlet->grant),
        .last_event_id = query->last_event_id,
        .after = query->after,
        .has_after = query_has(query, QUERY_AFTER),
    };
    struct str ref = message->ref;
    struct socket_watch *watch = mem_alloc(sizeof(*watch) + ref.n);
    *watch = (struct socket_watch){.socket = socket, .hash = hash_of(socket, session)};
    if (!watcher_open(&watch->watcher, socket->frontend, &wish, &watcher_ops, watch)) {
        free(watch);
        return false;
    }
    watch->ref_n = (uint16_t)ref.n;
    memcpy(watch->ref, ref.p != NULL ? ref.p : "", ref.n);
    if (old != NULL)
        watch_free(old);
    watch->answer = socket_answer_later(socket, bytes);
    watch->answer->watch = watch;
    link_watch(&socket->watches, watch);
    set_loading(watch, true);
    return true;
}

static void unwatch_session(struct socket *socket, struct str ref, size_t bytes, struct str session)
{
    struct socket_watch *watch = find(socket, session);
    struct core_refusal why = {.code = CORE_E_UNKNOWN_SESSION, .field = "session"};
    if (watch != NULL) {
        watch_free(watch);
        refuse(socket, ref, bytes, 0, NULL);
        return;
    }
    snprintf(why.detail, sizeof(why.detail), "this connection does not watch \"%.*s\"",
             (int)session.n, session.p);
    refuse(socket, ref, bytes, why.code, &why);
}

/* ---- the summary */

static void on_overview(struct overview *overview)
{
    socket_wake(overview_owner(overview));
}

static const struct overview_ops overview_ops = {.ready = on_overview};

static void drop_overview(struct socket *socket)
{
    struct socket_watches *watches = &socket->watches;
    if (watches->overview != NULL)
        overview_close(watches->overview);
    if (watches->overview_answer != NULL)
        watches->overview_answer->overview = false;
    watches->overview = NULL;
    watches->overview_answer = NULL;
}

static void watch_summary(struct socket *socket, struct str ref, size_t bytes,
                          const struct query *query)
{
    struct overview_wish wish = {
        .labels = query->labels,
        .labels_n = query->labels_n,
        .sessions = query->sessions,
        .sessions_n = query->sessions_n,
        .grant = socket->outlet->grant,
        .last_id = query->last_event_id,
        .framing = FRAMING_WS_MANY,
    };
    struct socket_watches *watches = &socket->watches;
    struct core_refusal why;
    int rc = overview_check(&wish, &why);

    if (rc != 0) {
        refuse(socket, ref, bytes, (unsigned)rc, &why);
        return;
    }
    drop_overview(socket);
    watches->overview = overview_open(socket->frontend, &wish, &overview_ops, socket);
    watches->overview_answer = socket_answer_later(socket, bytes);
    watches->overview_answer->overview = true;
    watches->overview_answer->chunk = socket_result(ref, 0, NULL);
    socket_wake(socket);
}

void socket_overview_answered(struct socket *socket)
{
    socket->watches.overview_answer = NULL;
}

static void unwatch_summary(struct socket *socket, struct str ref, size_t bytes)
{
    struct core_refusal why = {.code = CORE_E_MALFORMED, .field = "view"};
    bool watched = socket->watches.overview != NULL;
    drop_overview(socket);
    snprintf(why.detail, sizeof(why.detail), "this connection does not watch a summary");
    refuse(socket, ref, bytes, watched ? 0 : (unsigned)why.code, &why);
}

/* ---- for the other files */

bool socket_watch_take(struct socket *socket, const struct decode_message *message, size_t bytes)
{
    struct str ref = message->ref, session;
    struct query query;
    struct core_refusal why;

    if (decode_watch(message, &socket->frontend->scratch, &query, &session, &why) != 0) {
        refuse(socket, ref, bytes, why.code, &why);
        return true;
    }
    int rc = session.p != NULL ? guard_session(socket->outlet->grant, AUTH_READ, session, &why) : 0;
    if (rc != 0)
        refuse(socket, ref, bytes, (unsigned)rc, &why);
    else if (session.p != NULL && message->watch != NULL)
        return watch_session(socket, message, bytes, session, &query);
    else if (session.p != NULL)
        unwatch_session(socket, ref, bytes, session);
    else if (message->watch != NULL)
        watch_summary(socket, ref, bytes, &query);
    else
        unwatch_summary(socket, ref, bytes);
    return true;
}

static void fill_overview(struct socket *socket)
{
    struct socket_watches *watches = &socket->watches;
    if (watches->overview != NULL && watches->overview_answer == NULL &&
        !outlet_full(socket->outlet))
        overview_fill(watches->overview, socket->outlet);
}

static void fill_sessions(struct socket *socket)
{
    struct socket_watches *watches = &socket->watches;
    struct socket_watch *end = NULL; /* the first that has had its turn, and has more to say */

    while (watches->ready != NULL && watches->ready != end && !outlet_full(socket->outlet)) {
        struct socket_watch *watch = take_ready(watches);
        bool full = watches->loading_n >= SOCKET_LOADING_MAX && !watch->loading;
        /* Where they are many a further one has to wait: it might have to ask too. */
        bool more = full || watcher_fill(&watch->watcher, socket->outlet);
        look_whether_loading(watch);
        if (watcher_ended(&watch->watcher)) {
            watch_free(watch);
        } else if (more) {
            list_ready(watch);
            if (end == NULL)
                end = watch;
        }
    }
}

/* Now the one first, now the others. */
void socket_watches_fill(struct socket *socket)
{
    bool overview_first = socket->watches.overview_first;
    if (overview_first)
        fill_overview(socket);
    fill_sessions(socket);
    if (!overview_first)
        fill_overview(socket);
    socket->watches.overview_first = !overview_first;
}

void socket_watches_free(struct socket *socket)
{
    struct socket_watches *watches = &socket->watches;
    while (watches->ready != NULL)
        (void)take_ready(watches);
    for (uint32_t i = 0; i < watches->buckets_n; i++)
        while (watches->buckets[i] != NULL)
            watch_free(watches->buckets[i]);
    free(watches->buckets);
    drop_overview(socket);
}
