/*
 * wakes: calls to agents that have unread messages and are not waiting for them.
 *
 * There may be news: in WAKE_DELAY_MS, for it may come back and wait by itself, the agent's inbox
 * is asked for, by a request to this same shard. So only what is committed counts, and the log is
 * read where the windows do not reach. Is there something that it was not told of, an order goes to
 * the courier, and comes back. Each agent has one order at a time, and in the end all of them were
 * told of the newest message: at least once, for what was told is forgotten with the process.
 *
 * Failure: tried again, later each time. After WAKE_FAILURES in a row, or where the target may not
 * be called at all, its breaker opens, which is an event, and it is only tried now and then until
 * it is reached. After a start a dead target is tried once at once: it may have been the reason.
 *
 * Whoever set a target in another life (this session is a fork or a copy of that) is not called:
 * its breaker opens, and stays so until it is set anew.
 */
#define XXH_INLINE_ALL
#include "shards/attended.h"
#include "shards/sim_bug.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

/* ---- the breaker */

static void settle_breaker(struct shard *shard, struct attended *a);

static void reported(void *owner, struct request *request)
{
    struct shard *shard = owner;
    struct attended *a = attended_of(shard, request->session, request->pin_epoch, request->agent);
    if (a != NULL) {
        a->reporting = false;
        if (request->error != 0)
            attended_arm(shard, a, shard->now_ms + ATTENDED_AGAIN_MS);
        else
            settle_breaker(shard, a);
    }
    request_free(request);
}

static bool is_to_be_open(const struct attended *a)
{
    return a->inherited || a->failures >= WAKE_FAILURES;
}

/* Says what the breaker has become, where the state does not know it yet. */
static void settle_breaker(struct shard *shard, struct attended *a)
{
    static const char inherited[] = "it was set in another session, of which this is a fork or a "
                                    "copy: set it anew";
    bool open = is_to_be_open(a);
    if (!a->has_target || open == a->open || a->reporting)
        return;
    struct request *request = attended_request(shard, a, REQUEST_COMMANDS, reported);
    struct core_fields *f = &attended_command(request, CORE_AGENT_WAKE_REPORT)->f;
    const char *why = a->inherited ? inherited : a->why;
    f->breaker = open ? STR("open") : STR("closed");
    f->given |= UINT64_C(1) << CORE_FIELD_BREAKER;
    if (open && why != NULL) {
        f->why = arena_copy(&request->arena, (struct str){why, strlen(why)});
        f->given |= UINT64_C(1) << CORE_FIELD_WHY;
    }
    a->reporting = true;
    mailbox_errand(shard->mailbox, request);
}

static void set_why(struct attended *a, const char *why)
{
    free(a->why);
    a->why = why != NULL ? strdup(why) : NULL;
}

/* Agents whose target does not answer, for who looks after the server. */
static void count_unreachable(struct shard *shard, struct attended *a, bool unreachable)
{
    char why[HEALTH_WHY_BYTES];
    if (a->unreachable == unreachable)
        return;
    a->unreachable = unreachable;
    shard->wakes.unreachable += unreachable ? 1 : -1U;
    if (shard->wakes.unreachable == 0) {
        health_set(&shard->health->wakes, HEALTH_HEALTHY, shard->wall_ms, NULL);
        return;
    }
    snprintf(why, sizeof(why), "%u agent%s cannot be called%s%s", shard->wakes.unreachable,
             shard->wakes.unreachable == 1 ? "" : "s", a->why != NULL ? ": " : "",
             a->why != NULL ? a->why : "");
    health_set(&shard->health->wakes, HEALTH_DEGRADED, shard->wall_ms, why);
}

void wakes_forget(struct shard *shard, struct attended *a)
{
    count_unreachable(shard, a, false);
}

/* ---- the queue: sessions take turns, so that none with many agents holds up the others */

static void enqueue(struct shard *shard, struct attended *a)
{
    struct session *session = a->session;
    if (TAILQ_EMPTY(&session->wakes)) {
        TAILQ_INIT(&session->wakes);
        TAILQ_INSERT_TAIL(&shard->wakes.queue, session, by_wakes);
    }
    TAILQ_INSERT_TAIL(&session->wakes, a, by_queue);
    a->wake = WAKE_QUEUED;
}

static void dequeue(struct shard *shard, struct attended *a)
{
    struct session *session = a->session;
    TAILQ_REMOVE(&session->wakes, a, by_queue);
    if (TAILQ_EMPTY(&session->wakes))
        TAILQ_REMOVE(&shard->wakes.queue, session, by_wakes);
}

/* Whose turn it is; NULL: nobody's. */
static struct attended *take_next(struct shard *shard)
{
    struct session *session = TAILQ_FIRST(&shard->wakes.queue);
    if (session == NULL)
        return NULL;
    struct attended *a = TAILQ_FIRST(&session->wakes);
    TAILQ_REMOVE(&shard->wakes.queue, session, by_wakes);
    TAILQ_INSERT_TAIL(&shard->wakes.queue, session, by_wakes);
    dequeue(shard, a);
    return a;
}

/* ---- when */

static void pend(struct shard *shard, struct attended *a, int64_t wake_ms)
{
    a->wake = WAKE_PENDING;
    a->wake_ms = wake_ms;
    attended_arm(shard, a, wake_ms);
}

void wakes_soon(struct shard *shard, struct attended *a)
{
    if (shard->courier == NULL || !a->has_target || a->inherited)
        return;
    if (a->wake == WAKE_LOOKING || a->wake == WAKE_CALLING) {
        a->again = true;
    } else if (a->wake == WAKE_QUIET) {
        int64_t soon_ms = shard->now_ms + WAKE_DELAY_MS;
        pend(shard, a, soon_ms > a->not_before_ms ? soon_ms : a->not_before_ms);
    }
}

/* Nothing more is to be done about it, but for what has come meanwhile. */
static void rest(struct shard *shard, struct attended *a)
{
    bool again = a->again;
    a->wake = WAKE_QUIET;
    a->again = false;
    if (again)
        wakes_soon(shard, a);
}

/* The longer the more often it has failed; and not all at the same time. */
static int64_t pause_ms(const struct shard *shard, const struct attended *a)
{
    uint32_t failures = a->failures;
    int64_t ms;
    if (failures < WAKE_FAILURES) {
        ms = (int64_t)WAKE_RETRY_MS << (failures - 1);
    } else {
        uint32_t doublings = failures - WAKE_FAILURES;
        ms = doublings < 8 ? (int64_t)WAKE_PROBE_MS << doublings : WAKE_PROBE_MAX_MS;
    }
    if (ms > WAKE_PROBE_MAX_MS)
        ms = WAKE_PROBE_MAX_MS;
    uint64_t random = XXH3_64bits_withSeed(&a->call, sizeof(a->call), shard->limits.hash_seed);
    return ms + (int64_t)(random % (uint64_t)(ms / 4));
}

int64_t wakes_due(struct shard *shard, struct attended *a)
{
    settle_breaker(shard, a);
    if (a->wake != WAKE_PENDING)
        return 0;
    if (a->wake_ms > shard->now_ms)
        return a->wake_ms;
    if (a->waiting != 0) { /* the end of its wait is the next occasion */
        a->wake = WAKE_QUIET;
    } else {
        enqueue(shard, a);
    }
    return 0;
}

void wakes_end(struct shard *shard, struct attended *a)
{
    if (a->wake == WAKE_QUEUED)
        dequeue(shard, a);
    a->wake = WAKE_QUIET;
    a->again = false;
    a->call = 0;
    set_why(a, NULL);
}

void wakes_target(struct shard *shard, struct attended *a, const struct core_attended *now)
{
    a->session->targets += (uint32_t)(now->url.p != NULL) - a->has_target;
    a->has_target = now->url.p != NULL;
    a->open = now->open;
    a->inherited = a->has_target && now->inherited;
    count_unreachable(shard, a, a->has_target && a->open && !a->inherited);
    a->only_mentions = now->only_mentions;
    if (now->set_seq != a->set_seq) { /* another one: what was known of the old one is void */
        wakes_end(shard, a);
        a->set_seq = now->set_seq;
        a->told_seq = 0;
        a->not_before_ms = 0;
        a->failures = now->open ? WAKE_FAILURES : 0;
        wakes_soon(shard, a);
    }
    settle_breaker(shard, a);
}

/* ---- a call */

/* What stands between the quotes in {"messages":[],"cursor":"…", as a bare answer begins. */
static struct str cursor_of(const struct buf *body)
{
    struct str head = STR("{\"messages\":[],\"cursor\":\"");
    assert(body->n > head.n && memcmp(body->p, head.p, head.n) == 0);
    const char *begin = body->p + head.n;
    const char *end = memchr(begin, '"', body->n - head.n);
    assert(end != NULL);
    return (struct str){begin, (size_t)(end - begin)};
}

static struct wake_order *order_of(struct shard *shard, const struct attended *a,
                                   const struct request *request, uint64_t seq)
{
    struct core_attended now;
    bool there = core_agent_attended(a->session->core, attended_agent(a), &now);
    assert(there && now.url.p != NULL);
    struct wake_order *order = wake_order_new();
    struct arena *arena = &order->arena;
    const char *epoch = a->session->epoch_text;
    order->shard = (uint16_t)shard->number;
    order->session = arena_copy(arena, session_id(a->session));
    order->epoch = arena_copy(arena, (struct str){epoch, strlen(epoch)});
    order->agent = arena_copy(arena, attended_agent(a));
    order->url = arena_copy(arena, now.url);
    order->sealed = now.sealed.n != 0 ? arena_copy(arena, now.sealed) : (struct str){0};
    order->seq = seq;
    order->unread = request->unread < CORE_REMAINING_MAX ? request->unread : CORE_REMAINING_MAX;
    order->mentioned = request->mentioned;
    order->cursor = arena_copy(arena, cursor_of(&request->body));
    order->work = (void *)(uintptr_t)a->call;
    return order;
}

static void call(struct shard *shard, struct attended *a, const struct request *request)
{
    if (a->session->busy) { /* half of a batch is applied: nobody is to hear of that */
        pend(shard, a, shard->now_ms + WAKE_DELAY_MS);
        return;
    }
    /* Where not all of them were counted, any up to here may be among them. */
    bool all = request->unread < WAKE_CURSOR_MAX + CORE_REMAINING_MAX;
    uint64_t seq = all ? request->newest : request->seq;
    if (request->unread == 0 || seq <= a->told_seq || a->waiting != 0) {
        rest(shard, a);
        return;
    }
    struct wake_order *order = order_of(shard, a, request, seq);
    if (shard->courier->post(shard->courier->ctx, order)) {
        a->wake = WAKE_CALLING;
        shard->wakes.under_way++;
    } else {
        wake_order_free(order);
        pend(shard, a, shard->now_ms + ATTENDED_AGAIN_MS);
    }
}

static void looked(void *owner, struct request *request)
{
    struct shard *shard = owner;
    struct attended *a = attended_of(shard, request->session, request->pin_epoch, request->agent);
    shard->wakes.under_way--;
    if (a != NULL && a->wake == WAKE_LOOKING && a->call == request->token) {
        if (request->error != 0)
            pend(shard, a, shard->now_ms + WAKE_UNREADABLE_MS);
        else
            call(shard, a, request);
    }
    request_free(request);
}

static void look(struct shard *shard, struct attended *a)
{
    struct request *request = attended_request(shard, a, REQUEST_INBOX, looked);
    request->inbox = (struct core_inbox_query){.agent = request->agent,
                                               .mentions = a->only_mentions,
                                               .limit = WAKE_CURSOR_MAX,
                                               .bare = true};
    a->wake = WAKE_LOOKING;
    a->again = false;
    a->call = request->token = ++shard->wakes.calls;
    shard->wakes.under_way++;
    mailbox_errand(shard->mailbox, request);
}

static void failed(struct shard *shard, struct attended *a, const struct wake_order *order)
{
    a->failures += a->failures < UINT32_MAX;
    if (order->outcome == WAKE_REFUSED && a->failures < WAKE_FAILURES)
        a->failures = WAKE_FAILURES;
    set_why(a, order->why);
    a->again = false;
    a->not_before_ms = shard->now_ms + pause_ms(shard, a);
    pend(shard, a, a->not_before_ms);
}

static void done(struct shard *shard, struct wake_order *order)
{
    uint64_t epoch = session_epoch_number(order->epoch);
    struct attended *a = attended_of(shard, order->session, epoch, order->agent);
    shard->wakes.under_way--;
    shard->stats.wakes++;
    shard->stats.wake_failures += order->outcome != WAKE_DELIVERED;
    if (a != NULL && a->wake == WAKE_CALLING && a->call == (uintptr_t)order->work) {
        if (order->outcome == WAKE_DELIVERED || sim_bug(SIM_BUG_TOLD_ENOUGH)) {
            a->failures = 0;
            a->not_before_ms = 0;
            a->told_seq = order->seq;
            rest(shard, a);
        } else {
            failed(shard, a, order);
        }
        settle_breaker(shard, a);
    }
    wake_order_free(order);
}

void wakes_turn(struct shard *shard)
{
    struct wake_order *order;
    struct attended *a;
    if (shard->courier == NULL)
        return;
    while ((order = shard->courier->done(shard->courier->ctx, shard->number)) != NULL)
        done(shard, order);
    while (shard->wakes.under_way < WAKES_MAX && (a = take_next(shard)) != NULL)
        look(shard, a);
}
