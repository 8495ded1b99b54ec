#include "server/many.h"

#include "server/auth/guard.h"
#include "server/call.h"
#include "server/outlet.h"
#include "server/overview.h"
#include "server/problem.h"
#include "server/stream.h"

#include <bsd/sys/queue.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Where a member is queued. */
enum member_queue {
    QUEUE_NONE,
    QUEUE_READY,   /* it may have something to say */
    QUEUE_JOINING, /* its watcher is to be opened */
};

/* A session that is told. */
struct member {
    struct member *next; /* in its bucket */
    TAILQ_ENTRY(member) queued;
    struct many *many;
    struct watcher watcher;
    uint64_t hash;
    uint64_t epoch_hash; /* of the epoch in its newest summary; 0: there was none */
    bool open;           /* the watcher is */
    bool refused;        /* it cannot be watched, and that was told */
    bool wished;         /* named in the query */
    bool asking;         /* counted: it is to be told what was or is asked for */
    bool owing;          /* counted: it is to say what there was when the next id was taken */
    uint8_t queue;       /* enum member_queue */
    uint8_t id_n;
    char id[];
};

TAILQ_HEAD(member_queue_head, member);

struct many {
    struct frontend *frontend;
    struct outlet *outlet;
    struct overview *overview;
    struct arena arena; /* of the wish */
    struct overview_wish wish;
    unsigned form; /* of the members (enum request_wants); 0: there are none, only summaries */
    bool quiet;    /* a comment is to be said */
    bool draining;
    bool ready_due; /* `ready` is to be said with the next id */
    bool id_taken;  /* the next id is in `id`; it is said when nobody owes anything any more */
    uint32_t owing_n;
    struct buf id;
    struct member **buckets;
    uint32_t buckets_n, members_n;
    uint32_t refused_n; /* of them */
    uint32_t asking_n;  /* … and of those that are watched */
    struct member_queue_head ready, joining;
    struct chunk *notes, *notes_last; /* `refused`, to be said; linked by `next` */
    struct timer retry;
};

static struct str member_id(const struct member *member)
{
    return (struct str){member->id, member->id_n};
}

static uint64_t hash_of(const struct many *many, struct str text)
{
    return XXH3_64bits_withSeed(text.p, text.n, many->frontend->shared->limits->hash_seed);
}

static void push(struct many *many, struct chunk *chunk)
{
    outlet_push(many->outlet, chunk, chunk_text(chunk));
}

/* ---- members, by id */

static void members_grow(struct many *many)
{
    uint32_t n = many->buckets_n == 0 ? MANY_BUCKETS_MIN : many->buckets_n * 2;
    struct member **buckets = mem_alloc(n * sizeof(struct member *));

    memset(buckets, 0, n * sizeof(struct member *));
    for (uint32_t i = 0; i < many->buckets_n; i++) {
        for (struct member *member = many->buckets[i], *next; member != NULL; member = next) {
            next = member->next;
            member->next = buckets[member->hash & (n - 1)];
            buckets[member->hash & (n - 1)] = member;
        }
    }
    free(many->buckets);
    many->buckets = buckets;
    many->buckets_n = n;
}

static struct member *member_find(const struct many *many, struct str id)
{
    uint64_t hash = hash_of(many, id);
    struct member *member =
        many->buckets_n != 0 ? many->buckets[hash & (many->buckets_n - 1)] : NULL;
    while (member != NULL && (member->hash != hash || !str_equal(member_id(member), id)))
        member = member->next;
    return member;
}

static struct member *member_make(struct many *many, struct str id)
{
    if (many->members_n >= many->buckets_n)
        members_grow(many);
    struct member *member = mem_alloc(sizeof(*member) + id.n);
    *member = (struct member){.many = many, .hash = hash_of(many, id), .id_n = (uint8_t)id.n};
    memcpy(member->id, id.p, id.n);
    struct member **bucket = &many->buckets[member->hash & (many->buckets_n - 1)];
    member->next = *bucket;
    *bucket = member;
    many->members_n++;
    return member;
}

static void member_unqueue(struct member *member)
{
    struct many *many = member->many;
    if (member->queue == QUEUE_READY)
        TAILQ_REMOVE(&many->ready, member, queued);
    else if (member->queue == QUEUE_JOINING)
        TAILQ_REMOVE(&many->joining, member, queued);
    member->queue = QUEUE_NONE;
}

/* A snapshot or a part of the log is waited for, or is held until it can be said. */
static void member_count(struct member *member)
{
    const struct watcher *watcher = &member->watcher;
    bool settled = !member->open || watcher_ended(watcher) ||
                   (watcher->begun && watcher->state == WATCHER_LIVE && watcher->pending == NULL);
    if (settled == !member->asking)
        return;
    member->asking = !settled;
    if (settled)
        member->many->asking_n--;
    else
        member->many->asking_n++;
}

static void member_owes(struct member *member, bool owing)
{
    struct many *many = member->many;
    if (member->owing == owing)
        return;
    member->owing = owing;
    if (owing)
        many->owing_n++;
    else
        many->owing_n--;
}

static void member_count_watched(const struct member *member, int n)
{
    if (member->watcher.begun)
        figure_add(&member->many->frontend->figures->watching[member->watcher.shard], n);
}

static void member_close(struct member *member)
{
    if (member->open) {
        member_count_watched(member, -1);
        watcher_close(&member->watcher);
    }
    member->open = false;
    member_count(member);
    member_unqueue(member);
}

static void member_free(struct member *member)
{
    struct many *many = member->many;
    struct member **at = &many->buckets[member->hash & (many->buckets_n - 1)];
    member_close(member);
    member_owes(member, false);
    while (*at != member)
        at = &(*at)->next;
    *at = member->next;
    many->members_n--;
    many->refused_n -= member->refused;
    free(member);
}

static void members_free(struct many *many)
{
    for (uint32_t i = 0; i < many->buckets_n; i++)
        while (many->buckets[i] != NULL)
            member_free(many->buckets[i]);
}

/* ---- what cannot be watched */

static void note_refused(struct many *many, struct str id, unsigned error,
                         const struct core_refusal *why)
{
    struct buf object = {0};
    buf_add_literal(&object, "{\"session\":");
    json_add_string(&object, id);
    buf_add_literal(&object, ",\"error\":");
    problem_write(&object, error, why, 0);
    buf_add_byte(&object, '}');
    struct chunk *chunk =
        overview_message(FRAMING_SSE_MANY, STR("refused"), (struct str){0}, buf_str(&object));
    buf_free(&object);
    *(many->notes == NULL ? &many->notes : &many->notes_last->next) = chunk;
    many->notes_last = chunk;
}

static void member_refuse(struct member *member, unsigned error, const struct core_refusal *why)
{
    struct many *many = member->many;
    note_refused(many, member_id(member), error, why);
    member_owes(member, false);
    many->refused_n += !member->refused;
    member->refused = true;
}

static void refuse_above_limit(struct many *many, struct member *member)
{
    struct core_refusal why = {.field = "session"};
    snprintf(why.detail, sizeof(why.detail),
             "One stream watches at most %d sessions; narrow it by label, or open another.",
             MANY_WATCHES_MAX);
    if (many->refused_n < MANY_REFUSED_MAX)
        member_refuse(member, CORE_E_TOO_LARGE, &why);
    else
        member_free(member);
}

/* ---- joining */

static void member_ready(struct member *member)
{
    struct many *many = member->many;
    member_count(member);
    if (member->asking || member->queue == QUEUE_NONE) {
        /* What was asked for goes first: it frees the place for the next question. */
        member_unqueue(member);
        if (member->asking)
            TAILQ_INSERT_HEAD(&many->ready, member, queued);
        else
            TAILQ_INSERT_TAIL(&many->ready, member, queued);
        member->queue = QUEUE_READY;
    }
    outlet_wake(many->outlet);
}

static void on_watcher_ready(struct watcher *watcher)
{
    member_ready(watcher->owner);
}

static void on_watcher_begun(struct watcher *watcher)
{
    member_count_watched(watcher->owner, 1);
    member_ready(watcher->owner);
}

static void join_later(struct member *member)
{
    struct many *many = member->many;
    TAILQ_INSERT_TAIL(&many->joining, member, queued);
    member->queue = QUEUE_JOINING;
}

static void retry_later(struct many *many)
{
    struct frontend *frontend = many->frontend;
    if (many->retry.place == 0)
        timers_set(&frontend->timers, &many->retry, frontend_now_ms(frontend) + WATCHER_RETRY_MS);
}

static void on_retry(struct timer *timer)
{
    outlet_wake(((struct many *)((char *)timer - offsetof(struct many, retry)))->outlet);
}

static void on_watcher_refused(struct watcher *watcher, unsigned error,
                               const struct core_refusal *why)
{
    struct member *member = watcher->owner;
    struct many *many = member->many;
    member_close(member);
    if (problem_status(error) == 503) {
        join_later(member);
        retry_later(many);
        return;
    }
    if (error == CORE_E_UNKNOWN_SESSION && !member->wished)
        member_free(member); /* it was deleted since it was told of */
    else
        member_refuse(member, error, why);
    outlet_wake(many->outlet);
}

static const struct watcher_ops watcher_ops = {
    .ready = on_watcher_ready,
    .begun = on_watcher_begun,
    .refused = on_watcher_refused,
};

/* False: it cannot be asked for now. */
static bool member_open(struct member *member)
{
    struct many *many = member->many;
    unsigned shard = mailbox_shard_of(many->frontend->mailbox, member_id(member));
    struct watcher_wish wish = {.session = member_id(member),
                                .form = many->form,
                                .framing = FRAMING_SSE_MANY,
                                .redaction = guard_redaction(many->wish.grant)};
    wish.has_known = overview_since(many->overview, shard, &wish.known);
    if (!watcher_open(&member->watcher, many->frontend, &wish, &watcher_ops, member))
        return false;
    member->open = true;
    many->refused_n -= member->refused;
    member->refused = false;
    member_count(member);
    return true;
}

static void join_some(struct many *many)
{
    struct member *member;
    while (many->asking_n < MANY_JOINING_MAX && (member = TAILQ_FIRST(&many->joining)) != NULL) {
        if (!member_open(member)) {
            retry_later(many);
            return;
        }
        TAILQ_REMOVE(&many->joining, member, queued);
        member->queue = QUEUE_NONE;
    }
}

/* A session that is to be told, as an overview or the query says. */
static struct member *join(struct many *many, struct str id)
{
    struct member *member = member_find(many, id);
    bool known = member != NULL;
    if (member == NULL)
        member = member_make(many, id);
    if (member->open || member->queue == QUEUE_JOINING)
        return member;
    if (many->members_n - many->refused_n - !member->refused < MANY_WATCHES_MAX) {
        join_later(member);
        return member;
    }
    if (!known)
        refuse_above_limit(many, member);
    return NULL;
}

/* One that the caller may not see, whether it is there or not. */
static void refuse_unseen(struct many *many, struct str id, unsigned error,
                          const struct core_refusal *why)
{
    struct member *member = member_find(many, id);
    member_refuse(member != NULL ? member : member_make(many, id), error, why);
}

static void join_wished(struct many *many)
{
    for (uint32_t i = 0; i < many->wish.sessions_n; i++) {
        struct str id = many->wish.sessions[i];
        struct core_refusal why;
        int rc = guard_session(many->wish.grant, AUTH_READ, id, &why);
        struct member *member = NULL;
        if (rc != 0)
            refuse_unseen(many, id, (unsigned)rc, &why);
        else
            member = join(many, id);
        if (member != NULL)
            member->wished = true;
    }
}

/* ---- what the overview says */

static void take_reset(struct many *many, const struct overview_item *item)
{
    members_free(many);
    while (many->notes != NULL) {
        struct chunk *chunk = many->notes;
        many->notes = chunk->next;
        chunk_release(chunk);
    }
    many->ready_due = many->id_taken = false;
    push(many, overview_message(FRAMING_SSE_MANY, STR("reset"), (struct str){0}, item->object));
    join_wished(many);
}

/* A member that is watched tells of its deletion itself. */
static void take_end(struct many *many, const struct overview_item *item)
{
    struct member *member = member_find(many, item->session);
    uint64_t position;
    bool watched = member != NULL && member->open;
    bool resumed = overview_since(many->overview, item->shard, &position);
    if (watched && item->deleted)
        return;
    if (member != NULL)
        member_free(member);
    if (watched || resumed) /* from before the id, where nobody here knows of it */
        push(many, overview_message(FRAMING_SSE_MANY, STR("end"), (struct str){0}, item->object));
}

static void take_overview(struct many *many)
{
    struct overview_item item;
    struct member *member;
    while (!outlet_full(many->outlet)) {
        switch (overview_next(many->overview, &item)) {
        case OVERVIEW_RESET:
            take_reset(many, &item);
            break;
        case OVERVIEW_SUMMARY:
            member = join(many, item.session);
            if (member != NULL)
                member->epoch_hash = hash_of(many, item.epoch);
            break;
        case OVERVIEW_END:
            take_end(many, &item);
            break;
        case OVERVIEW_READY:
            many->ready_due = true;
            break;
        case OVERVIEW_NOTHING:
            return;
        }
    }
}

/* ---- saying it */

static void push_notes(struct many *many)
{
    while (many->notes != NULL && !outlet_full(many->outlet)) {
        struct chunk *chunk = many->notes;
        many->notes = chunk->next;
        push(many, chunk);
    }
}

/* Its session was deleted, and it has said so. There may be another one of that id by now. */
static void member_ended(struct member *member)
{
    uint64_t ended = hash_of(member->many, watcher_epoch(&member->watcher));
    if (member->epoch_hash == 0 || member->epoch_hash == ended) {
        member_free(member);
        return;
    }
    member_close(member);
    join_later(member);
}

static void push_members(struct many *many)
{
    struct member *member;
    while (!outlet_full(many->outlet) && (member = TAILQ_FIRST(&many->ready)) != NULL) {
        if (many->asking_n >= MANY_ASKING_MAX && !member->asking)
            return; /* it might have to ask too */
        member_unqueue(member);
        bool more = watcher_fill(&member->watcher, many->outlet);
        member_count(member);
        if (watcher_level(&member->watcher))
            member_owes(member, false);
        if (watcher_ended(&member->watcher)) {
            member_ended(member);
        } else if (more || outlet_full(many->outlet)) {
            TAILQ_INSERT_TAIL(&many->ready, member, queued);
            member->queue = QUEUE_READY;
        }
    }
}

/* Takes an id where it is time for one: what of it is not said yet is owed. All of it has come, for
 * what a shard says of changes comes behind their frames. */
static void take_id(struct many *many)
{
    char scratch[OVERVIEW_ID_BYTES];
    if (many->id_taken || many->notes != NULL || !overview_level(many->overview) ||
        !(many->ready_due || overview_moved(many->overview)))
        return;
    for (uint32_t i = 0; i < many->buckets_n; i++)
        for (struct member *member = many->buckets[i]; member != NULL; member = member->next)
            member_owes(member, member->queue != QUEUE_NONE || member->asking);
    many->id_taken = true;
    many->id.n = 0;
    buf_add_str(&many->id, overview_id(many->overview, scratch));
    overview_said(many->overview);
}

static void push_id(struct many *many)
{
    struct buf object = {0};
    struct str event = many->ready_due ? STR("ready") : STR("position");
    if (!many->id_taken || many->owing_n != 0 || many->notes != NULL || outlet_full(many->outlet))
        return;
    buf_add_byte(&object, '{');
    if (many->ready_due) {
        buf_add_literal(&object, "\"sessions\":");
        buf_add_u64(&object, many->members_n - many->refused_n);
    }
    buf_add_byte(&object, '}');
    push(many, overview_message(FRAMING_SSE_MANY, event, buf_str(&many->id), buf_str(&object)));
    buf_free(&object);
    many->ready_due = many->id_taken = false;
}

static void fill_members(struct many *many)
{
    push_notes(many);
    take_overview(many);
    take_id(many);
    push_members(many);
    join_some(many);
    push_id(many);
}

/* ---- the overview's side */

static void on_overview_ready(struct overview *overview)
{
    outlet_wake(((struct many *)overview_owner(overview))->outlet);
}

static const struct overview_ops overview_ops = {.ready = on_overview_ready};

/* ---- the outlet's side */

static void many_free(struct many *many)
{
    members_free(many);
    while (many->notes != NULL) {
        struct chunk *chunk = many->notes;
        many->notes = chunk->next;
        chunk_release(chunk);
    }
    if (many->overview != NULL)
        overview_close(many->overview);
    timers_clear(&many->frontend->timers, &many->retry);
    free(many->buckets);
    buf_free(&many->id);
    arena_free(&many->arena);
    free(many);
}

static void on_opened(void *owner, struct outlet *outlet)
{
    struct many *many = owner;
    uint64_t position;
    if (outlet == NULL) {
        many_free(many);
        return;
    }
    many->outlet = outlet;
    many->overview = overview_open(many->frontend, &many->wish, &overview_ops, many);
    if (many->form != 0 && overview_since(many->overview, 0, &position))
        join_wished(many);
    figure_add(&many->frontend->figures->streams, 1);
}

static void on_fill(void *owner)
{
    struct many *many = owner;
    struct outlet *outlet = many->outlet;

    if (many->draining) {
        push(many, stream_retry());
        outlet_end(outlet);
        return;
    }
    if (many->form == 0)
        overview_fill(many->overview, outlet);
    else
        fill_members(many);
    if (many->quiet && outlet->pieces_n == 0)
        push(many, stream_comment());
    many->quiet = false;
}

static void on_quiet(void *owner)
{
    struct many *many = owner;
    many->quiet = true;
    outlet_wake(many->outlet);
}

static void on_drain(void *owner)
{
    struct many *many = owner;
    many->draining = true;
    outlet_wake(many->outlet);
}

static void on_closed(void *owner, enum outlet_end why)
{
    struct many *many = owner;
    (void)why;
    figure_add(&many->frontend->figures->streams, -1);
    many_free(many);
}

static const struct outlet_ops outlet_ops = {
    .opened = on_opened,
    .fill = on_fill,
    .quiet = on_quiet,
    .drain = on_drain,
    .closed = on_closed,
};

/* ---- opening */

static struct str copy(struct many *many, struct str text)
{
    return text.p != NULL ? arena_copy(&many->arena, text) : text;
}

/* The wish outlives the call. */
static void take_wish(struct many *many, struct grant *grant, const struct call *call)
{
    const struct query *query = &call->query;
    struct request_label_filter *labels =
        arena_alloc(&many->arena, query->labels_n * sizeof(*labels));
    struct str *sessions = arena_alloc(&many->arena, query->sessions_n * sizeof(*sessions));

    for (uint32_t i = 0; i < query->labels_n; i++)
        labels[i] = (struct request_label_filter){copy(many, query->labels[i].key),
                                                  copy(many, query->labels[i].value)};
    for (uint32_t i = 0; i < query->sessions_n; i++)
        sessions[i] = copy(many, query->sessions[i]);
    many->form = query->view == VIEW_FULL      ? WANTS_PATCHES
                 : query->view == VIEW_COMPACT ? WANTS_COMPACT
                                               : 0;
    many->wish = (struct overview_wish){
        .labels = labels,
        .labels_n = query->labels_n,
        .sessions = sessions,
        .sessions_n = query->sessions_n,
        .grant = grant,
        .form = many->form,
        .last_id = copy(many, call->headers.last_event_id.n != 0 ? call->headers.last_event_id
                                                                 : query->last_event_id),
        .whole = many->form != 0 && query->sessions_n == 0,
        .framing = FRAMING_SSE_MANY,
    };
}

void many_open(struct exchange *exchange, const struct call *call)
{
    struct many *many = mem_alloc(sizeof(*many));
    struct core_refusal why;
    *many = (struct many){.frontend = exchange->frontend, .retry.fire = on_retry};
    TAILQ_INIT(&many->ready);
    TAILQ_INIT(&many->joining);
    take_wish(many, exchange->grant, call);
    int rc = overview_check(&many->wish, &why);
    if (rc != 0) {
        many_free(many);
        exchange_refuse(exchange, (unsigned)rc, &why);
        return;
    }
    stream_set_head(exchange, false);
    outlet_take(exchange, &outlet_ops, many);
}
