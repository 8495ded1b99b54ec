/*
 * attended: agents with a lease or a wake target, and the time that goes by for them.
 *
 * A lease is renewed by whatever is heard of its agent: a command that it gives, a look at its
 * inbox, REQUEST_TOUCH, and a wait for as long as it is held. That is a note in memory and nothing
 * else. The tree of those that are due is looked at when the time of the first one has come; who
 * was heard of meanwhile is put back, so that renewing costs no step in the tree.
 *
 * What comes of it is a command like any other (agent.update with `lapsed`, which no client can
 * give), sent to this same shard as an errand: it is decided against the state as it is then. So a
 * client that says something else at the same time is not overruled, and nothing here has to be
 * undone. Where the command cannot be logged it is tried again.
 *
 * Sessions in which a lease runs stay in memory. After a start leases begin anew: the directory
 * knows which sessions have something to look after (ENTRY_ATTENDED), and those are loaded in the
 * background, a few at a time.
 *
 * Calls to targets: wakes.c.
 */
#include "shards/attended.h"
#include "shards/mailbox_internal.h"
#include "shards/sim_bug.h"

#include <stdlib.h>

static int agent_order(const struct attended *a, const struct attended *b)
{
    return str_compare(attended_agent(a), attended_agent(b));
}

static int due_order(const struct attended *a, const struct attended *b)
{
    if (a->due_ms != b->due_ms)
        return a->due_ms < b->due_ms ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

RB_GENERATE(attended_tree, attended, by_agent, agent_order)
RB_GENERATE(attended_due_tree, attended, by_due, due_order)

/* ---- who there is */

static struct attended *find(const struct session *session, struct str agent)
{
    struct attended key = {.agent_size = (uint8_t)agent.n};
    if (agent.n > CORE_ID_BYTES)
        return NULL;
    memcpy(key.agent, agent.p, agent.n);
    return RB_FIND(attended_tree, (struct attended_tree *)(uintptr_t)&session->attended, &key);
}

struct attended *attended_of(struct shard *shard, struct str session_id, uint64_t epoch,
                             struct str agent)
{
    struct session *session = session_find(shard, session_id);
    bool same = session != NULL && session->core != NULL && session->epoch == epoch;
    return same ? find(session, agent) : NULL;
}

void attended_arm(struct shard *shard, struct attended *a, int64_t due_ms)
{
    if (a->due_ms != 0 && a->due_ms <= due_ms)
        return;
    if (a->due_ms != 0)
        RB_REMOVE(attended_due_tree, &shard->attended, a);
    a->due_ms = due_ms > 0 ? due_ms : 1;
    RB_INSERT(attended_due_tree, &shard->attended, a);
}

static bool lease_runs(const struct attended *a)
{
    return a->lease_ms != 0 && !a->lapsed && !a->over;
}

/* While a command of ours is on its way, its answer is what comes next. */
static void lease_arm(struct shard *shard, struct attended *a)
{
    if (lease_runs(a) && !a->telling)
        attended_arm(shard, a, a->heard_ms + a->lease_ms);
}

static struct attended *add(struct shard *shard, struct session *session, struct str agent)
{
    struct attended *a = shard->heap.core.alloc(&shard->heap, sizeof(*a));
    *a = (struct attended){.session = session,
                           .number = ++shard->attended_made,
                           .heard_ms = shard->now_ms,
                           .agent_size = (uint8_t)agent.n};
    memcpy(a->agent, agent.p, agent.n);
    for (const struct request *at = session->waiters; at != NULL; at = at->wait_next)
        a->waiting += str_equal(at->inbox.agent, agent);
    RB_INSERT(attended_tree, &session->attended, a);
    return a;
}

static void drop(struct shard *shard, struct attended *a)
{
    wakes_end(shard, a);
    wakes_forget(shard, a);
    a->session->targets -= a->has_target;
    if (a->due_ms != 0)
        RB_REMOVE(attended_due_tree, &shard->attended, a);
    RB_REMOVE(attended_tree, &a->session->attended, a);
    shard->heap.core.free(&shard->heap, a, sizeof(*a));
}

void attended_free(struct shard *shard, struct session *session)
{
    struct attended *a;
    while ((a = RB_ROOT(&session->attended)) != NULL)
        drop(shard, a);
}

/* ---- commands of our own */

struct request *attended_request(struct shard *shard, const struct attended *a,
                                 enum request_kind kind,
                                 void (*done)(void *shard, struct request *request))
{
    struct request *request = request_new();
    request->kind = kind;
    request->session = arena_copy(&request->arena, session_id(a->session));
    request->agent = arena_copy(&request->arena, attended_agent(a));
    request->pin_epoch = a->session->epoch;
    request->errand = done;
    request->errand_owner = shard;
    return request;
}

struct core_command *attended_command(struct request *request, enum core_type type)
{
    request->commands = arena_alloc(&request->arena, sizeof(*request->commands));
    memset(request->commands, 0, sizeof(*request->commands));
    request->commands_n = 1;
    struct core_command *command = &request->commands[0].command;
    command->type = type;
    command->f.agent = request->agent;
    command->f.given = UINT64_C(1) << CORE_FIELD_AGENT;
    return command;
}

static void tell_if_heard(struct shard *shard, struct attended *a);

static void told(void *owner, struct request *request)
{
    struct shard *shard = owner;
    struct attended *a = attended_of(shard, request->session, request->pin_epoch, request->agent);
    if (a != NULL) {
        a->telling = false;
        if (request->error != 0) {
            a->over = false;
            attended_arm(shard, a, shard->now_ms + ATTENDED_AGAIN_MS);
        } else {
            tell_if_heard(shard, a);
            lease_arm(shard, a);
        }
    }
    request_free(request);
}

static void tell(struct shard *shard, struct attended *a, bool lapsed)
{
    struct request *request = attended_request(shard, a, REQUEST_COMMANDS, told);
    struct core_fields *f = &attended_command(request, CORE_AGENT_UPDATE)->f;
    f->lapsed = lapsed;
    f->cause = STR("lease");
    f->given |= UINT64_C(1) << CORE_FIELD_LAPSED | UINT64_C(1) << CORE_FIELD_CAUSE;
    a->telling = true;
    if (lapsed) {
        a->over = true;
        a->lapsed_ms = shard->now_ms;
    }
    mailbox_errand(shard->mailbox, request);
}

/* It has lapsed, and has been heard of since. */
static void tell_if_heard(struct shard *shard, struct attended *a)
{
    if (a->lapsed && a->heard_ms >= a->lapsed_ms && !a->telling)
        tell(shard, a, false);
}

/* ---- hearing of an agent */

static void heard(struct shard *shard, struct attended *a)
{
    a->heard_ms = shard->now_ms;
    a->over = false;
    tell_if_heard(shard, a);
    lease_arm(shard, a);
}

static void heard_of(struct shard *shard, struct session *session, struct str agent)
{
    struct attended *a = agent.p != NULL ? find(session, agent) : NULL;
    if (a != NULL && (a->lease_ms != 0 || a->lapsed))
        heard(shard, a);
}

void attended_hear(struct shard *shard, struct session *session, const struct request *request)
{
    if (request->errand != NULL) /* our own: nobody has said anything */
        return;
    if (request->kind == REQUEST_INBOX) {
        heard_of(shard, session, request->inbox.agent);
        return;
    }
    for (uint32_t i = 0; i < request->commands_n; i++) {
        const struct request_command *item = &request->commands[i];
        int offset = item->bad == NULL ? core_type_spec(item->command.type)->actor_offset : -1;
        if (offset >= 0)
            heard_of(shard, session,
                     *(const struct str *)((const char *)&item->command.f + offset));
    }
}

void attended_touch(struct shard *shard, struct session *session, struct request *request)
{
    if (session->core == NULL) {
        shard_refuse_unknown(shard, session, request);
        return;
    }
    if (!core_session_has_agent(session->core, request->agent)) {
        shard_refuse(shard, session, request, CORE_E_UNKNOWN_AGENT, "agent",
                     "there is no agent \"%.*s\" in this session", (int)request->agent.n,
                     request->agent.p);
        return;
    }
    heard_of(shard, session, request->agent);
    shard_reply_committed(shard, session, request);
}

void attended_waits(struct shard *shard, struct session *session, struct str agent, int by)
{
    struct attended *a = find(session, agent);
    if (a == NULL)
        return;
    a->waiting += (uint32_t)by;
    heard(shard, a);
    if (a->waiting == 0)
        wakes_soon(shard, a);
}

/* ---- news */

void attended_news(struct shard *shard, struct session *session, const struct core_event *event)
{
    struct attended *a;
    if (session->targets == 0 ||
        (event->type != CORE_MESSAGE_SEND && event->type != CORE_THREAD_ADD))
        return;
    RB_FOREACH(a, attended_tree, &session->attended)
    {
        struct core_inbox_query query = {.agent = attended_agent(a), .mentions = a->only_mentions};
        if (a->has_target && core_inbox_wakes(session->core, &query, event))
            wakes_soon(shard, a);
    }
}

void attended_unread(struct shard *shard, struct session *session, struct str agent)
{
    struct attended *a = find(session, agent);
    if (a != NULL)
        wakes_soon(shard, a);
}

/* ---- what the state says */

/* Follows the state as to one agent. `now` NULL: it is not there. */
static void follow(struct shard *shard, struct session *session, struct str agent,
                   const struct core_attended *now)
{
    struct attended *a = find(session, agent);
    bool wanted = now != NULL && (now->lease_s != 0 || now->lapsed || now->url.p != NULL);
    if (!wanted) {
        if (a != NULL)
            drop(shard, a);
        return;
    }
    if (a == NULL) {
        a = add(shard, session, agent);
        if (now->lapsed) /* it has not been heard of since */
            a->heard_ms = -1;
    }
    a->lapsed = now->lapsed;
    a->lease_ms = (int64_t)now->lease_s * 1000;
    lease_arm(shard, a);
    wakes_target(shard, a, now);
}

static bool has_attended(const struct session *session)
{
    return core_session_attended(session->core) != 0 && !core_session_closed(session->core);
}

static void entry_flag(const struct session *session)
{
    if (has_attended(session))
        session->entry->flags |= ENTRY_ATTENDED;
    else
        session->entry->flags &= (uint8_t)~ENTRY_ATTENDED;
}

void attended_load(struct shard *shard, struct session *session)
{
    struct core_attended now;
    entry_flag(session);
    if (!has_attended(session))
        return;
    for (uint32_t at = 0; core_attended_next(session->core, &at, &now);)
        follow(shard, session, now.agent, &now);
}

void attended_note(struct buf *agents, const struct core_event *event)
{
    buf_add_byte(agents, (char)event->f.agent.n);
    buf_add_str(agents, event->f.agent);
}

void attended_follow(struct shard *shard, struct session *session, struct str agents)
{
    entry_flag(session);
    if (core_session_closed(session->core)) {
        attended_free(shard, session);
        return;
    }
    while (agents.n != 0) {
        struct str agent = {agents.p + 1, (uint8_t)agents.p[0]};
        struct core_attended now;
        bool there = core_agent_attended(session->core, agent, &now);
        follow(shard, session, agent, there ? &now : NULL);
        agents.p += 1 + agent.n;
        agents.n -= 1 + agent.n;
    }
}

bool attended_may_leave(struct session *session)
{
    struct attended *a;
    RB_FOREACH(a, attended_tree, &session->attended)
    {
        if (lease_runs(a) || a->telling || a->reporting || a->wake != WAKE_QUIET)
            return false;
    }
    return true;
}

/* ---- time */

static void due(struct shard *shard, struct attended *a)
{
    tell_if_heard(shard, a);
    if (a->waiting != 0)
        a->heard_ms = shard->now_ms;
    if (lease_runs(a) && a->heard_ms + a->lease_ms <= shard->now_ms && !a->telling)
        tell(shard, a, true);
    lease_arm(shard, a);
    int64_t wake_ms = wakes_due(shard, a);
    if (wake_ms != 0)
        attended_arm(shard, a, wake_ms);
}

static bool is_off(const struct shard *shard)
{
    return *shard->failed != NULL || shard->stopping != STOP_NOT;
}

static bool is_busy(const struct shard *shard)
{
    return mailbox_errands(shard->mailbox) >= ATTENDED_ERRANDS;
}

void attended_turn(struct shard *shard)
{
    struct attended *first;
    if (is_off(shard))
        return;
    for (unsigned steps = 0; steps < ATTENDED_STEPS; steps++) {
        first = RB_MIN(attended_due_tree, &shard->attended);
        if (first == NULL || first->due_ms > shard->now_ms || is_busy(shard))
            break;
        RB_REMOVE(attended_due_tree, &shard->attended, first);
        first->due_ms = 0;
        due(shard, first);
    }
    wakes_turn(shard);
}

int attended_tick(struct shard *shard)
{
    const struct attended *first = RB_MIN(attended_due_tree, &shard->attended);
    if (first == NULL || is_off(shard) || is_busy(shard)) /* then an answer wakes us */
        return -1;
    int64_t wait_ms = first->due_ms - shard->now_ms;
    return wait_ms <= 0 ? 0 : wait_ms > 60 * 1000 ? 60 * 1000 : (int)wait_ms;
}

/* ---- after a start: those that nobody has asked for yet */

static enum chore_result walk_run(struct chore *chore, int64_t until_ns)
{
    enum { ENTRIES_A_LOOK = 64 };
    struct shard *shard = chore->owner;
    struct attended_walk *walk = &shard->attended_walk;
    for (unsigned n = 1; !is_off(shard); n++) {
        struct str after = {walk->id_size != 0 ? walk->id : NULL, walk->id_size};
        struct entry *entry = entry_after(shard, after);
        if (entry == NULL)
            break;
        bool passive = (entry->flags & (ENTRY_ALIVE | ENTRY_ACTIVE)) == ENTRY_ALIVE;
        if (passive && entry->flags & ENTRY_ATTENDED) {
            if (shard->loading >= ATTENDED_LOADS) {
                walk->parked = true; /* until one is loaded */
                return CHORE_DONE;
            }
            session_load(shard, entry);
        }
        walk->id_size = entry->id_size;
        memcpy(walk->id, entry->id, entry->id_size);
        if (n % ENTRIES_A_LOOK == 0 && shard_clock_ns(shard) > until_ns)
            return CHORE_MORE;
    }
    return CHORE_DONE;
}

void attended_begin(struct shard *shard)
{
    if (!shard->attended_walk.wanted || sim_bug(SIM_BUG_UNATTENDED))
        return;
    shard->attended_walk.chore = (struct chore){.run = walk_run, .owner = shard};
    shard_chore(shard, &shard->attended_walk.chore);
}

void attended_loaded(struct shard *shard)
{
    if (!shard->attended_walk.parked)
        return;
    shard->attended_walk.parked = false;
    shard_chore(shard, &shard->attended_walk.chore);
}
