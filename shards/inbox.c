/*
 * inbox: an agent's unread messages, and waiting for them.
 *
 * Where all that is unread lies in the windows, the answer comes from the state; else the events
 * are read from the log. A wait is held in its session's list and tried again when an event that
 * may end it is committed; a try that finds nothing goes on waiting. REQUEST_CANCEL ends a wait
 * with what there is: the face's deadline, or a client that has gone. With `hand`, an answer hands
 * out what it holds (hands.c).
 */
#include "shards/shard.h"

#include <errno.h>
#include <stdlib.h>

enum wait_state {
    WAIT_WAITING,      /* nothing to do before there is news */
    WAIT_MARKED,       /* there is news, not yet in the log */
    WAIT_TRYING,       /* queued, held for a commit, being read, or answered: leave it alone */
    WAIT_TRYING_AGAIN, /* as WAIT_TRYING, and there is news that this try may not see */
    WAIT_OVER          /* as WAIT_TRYING, and not to wait again */
};

static void waiters_add(struct shard *shard, struct session *session, struct request *request)
{
    request->work = session;
    request->wait_state = WAIT_TRYING;
    request->wait_next = session->waiters;
    session->waiters = request;
    session->pins++;
    shard->waiting++;
    attended_waits(shard, session, request->inbox.agent, 1);
}

void inbox_release(struct shard *shard, struct request *request)
{
    struct session *session = request->work;
    if (session == NULL)
        return;
    struct request **at = &session->waiters;
    while (*at != request)
        at = &(*at)->wait_next;
    *at = request->wait_next;
    request->work = NULL;
    shard->waiting--;
    attended_waits(shard, session, request->inbox.agent, -1);
    session->pins--;
    session_drop_if_vacant(shard, session);
}

void inbox_mark(struct session *session, const struct core_event *event)
{
    for (struct request *at = session->waiters; at != NULL; at = at->wait_next) {
        bool news = false;
        if (event->type == CORE_MESSAGE_SEND)
            news = core_inbox_wakes(session->core, &at->inbox, event);
        else if (event->type == CORE_THREAD_ADD) /* with history, old messages are news */
            news = str_equal(event->f.agent, at->inbox.agent);
        else if (event->type == CORE_AGENT_LEAVE) /* the wait ends: unknown agent */
            news = str_equal(event->f.agent, at->inbox.agent);
        if (news && at->wait_state == WAIT_WAITING)
            at->wait_state = WAIT_MARKED;
        else if (news && at->wait_state == WAIT_TRYING)
            at->wait_state = WAIT_TRYING_AGAIN; /* the log may have been read already */
    }
}

void inbox_unmark(struct session *session)
{
    for (struct request *at = session->waiters; at != NULL; at = at->wait_next) {
        if (at->wait_state == WAIT_MARKED)
            at->wait_state = WAIT_WAITING;
    }
}

void inbox_mark_handed(struct session *session, struct str agent)
{
    for (struct request *at = session->waiters; at != NULL; at = at->wait_next) {
        if (!at->hand || !str_equal(at->inbox.agent, agent))
            continue;
        if (at->wait_state == WAIT_WAITING)
            at->wait_state = WAIT_MARKED;
        else if (at->wait_state == WAIT_TRYING)
            at->wait_state = WAIT_TRYING_AGAIN;
    }
}

void inbox_given_back(struct shard *shard, struct session *session, struct str agent)
{
    struct request *next;
    session->pins++;
    for (struct request *at = session->waiters; at != NULL; at = next) {
        next = at->wait_next; /* a try that finds something takes its wait out of the list */
        if (!at->hand || !str_equal(at->inbox.agent, agent))
            continue;
        if (at->wait_state == WAIT_TRYING)
            at->wait_state = WAIT_TRYING_AGAIN;
        if (at->wait_state != WAIT_WAITING)
            continue;
        at->wait_state = WAIT_TRYING;
        shard_retry_committed(shard, session, at);
    }
    attended_unread(shard, session, agent);
    session->pins--;
    session_drop_if_vacant(shard, session);
}

void inbox_try_all(struct shard *shard, struct session *session)
{
    struct request *next;
    session->pins++;
    for (struct request *at = session->waiters; at != NULL; at = next) {
        next = at->wait_next;
        if (at->wait_state != WAIT_WAITING)
            continue;
        at->wait_state = WAIT_TRYING;
        shard_dispatch(shard, at);
    }
    session->pins--;
    session_drop_if_vacant(shard, session);
}

static void inbox_try_when_committed(struct shard *shard, struct session *session, bool all)
{
    for (struct request *at = session->waiters; at != NULL; at = at->wait_next) {
        if (at->wait_state != WAIT_MARKED && !(all && at->wait_state == WAIT_WAITING))
            continue;
        at->wait_state = WAIT_TRYING;
        struct effect *effect = shard_effect(shard, session->dirty, EFFECT_RETRY);
        effect->request = at;
        effect->session = session;
        session->pins++;
    }
}

void inbox_wake_marked(struct shard *shard, struct session *session)
{
    inbox_try_when_committed(shard, session, false);
}

void inbox_wake_all(struct shard *shard, struct session *session)
{
    inbox_try_when_committed(shard, session, true);
}

/* ---- the answer */

static void inbox_free(struct core_inbox *inbox)
{
    free((void *)(uintptr_t)inbox->query.skip);
    core_inbox_free(inbox);
}

static void inbox_answer(struct shard *shard, struct session *session, struct request *request,
                         struct core_inbox *inbox)
{
    if (inbox->count == 0 && request->wait && request->wait_state != WAIT_OVER) {
        bool again = request->wait_state == WAIT_TRYING_AGAIN;
        inbox_free(inbox);
        request->wait_state = again ? WAIT_TRYING : WAIT_WAITING;
        request->held = true;
        if (again)
            shard_retry_committed(shard, session, request);
        return;
    }
    commands_stand(session, request);
    core_inbox_finish(session->core, inbox, &request->body);
    request->newest = inbox->newest_seq;
    request->unread = inbox->count + inbox->remaining;
    request->mentioned = inbox->mentioned;
    if (request->hand && inbox->count != 0)
        request->handed = hands_give(shard, session, inbox);
    inbox_free(inbox);
    shard_reply_committed(shard, session, request);
}

static bool inbox_visit(struct history *history, const struct core_event *event, struct str bytes)
{
    (void)bytes;
    if (history->session->busy) { /* half of a batch is applied: begin again behind it */
        history->last_seq = 0;
        return false;
    }
    if (event->type != CORE_MESSAGE_SEND)
        return true;
    return core_inbox_offer(history->session->core, &history->u.inbox, event);
}

static void inbox_read_done(struct history *history, int error)
{
    struct shard *shard = history->shard;
    struct session *session = history->session;
    struct request *request = history->request;
    struct core_inbox inbox = history->u.inbox;
    /* Who takes part in what has changed while we read: threads joined with history may have been
     * passed over already. Begin again. */
    bool changed =
        session->core != NULL && (session->busy || session->membership_seq > history->last_seq);
    if (error == -ENOENT && history->oldest > request->oldest) {
        request->oldest = history->oldest; /* what is gone cannot be shown: begin behind it */
        error = 0;
        changed = true;
    }
    session->pins++;
    history_free(history);
    /* So it is where another query has handed out the same meanwhile. */
    changed = changed || (request->hand && hands_hold_any(session, &inbox));
    if (error == 0 && !changed) {
        inbox_answer(shard, session, request, &inbox);
    } else {
        inbox_free(&inbox);
        if (error == 0 || error == -ESTALE) {
            shard_dispatch(shard, request);
        } else {
            commands_stand(session, request);
            query_gone(shard, session, request, NULL, error, 0);
        }
    }
    session->pins--;
    session_drop_if_vacant(shard, session);
}

static void inbox_read(struct shard *shard, struct session *session, struct request *request,
                       struct core_inbox *inbox, uint64_t from)
{
    struct history *history = history_new(shard, session, request);
    history->after = from - 1 > request->oldest ? from - 1 : request->oldest;
    history->until = UINT64_MAX; /* all that is committed */
    history->visit = inbox_visit;
    history->done = inbox_read_done;
    history->u.inbox = *inbox;
    history->last_seq = core_session_seq(session->core);
    history_start(history);
}

/* As HANDED_MAX allows. inbox_free frees what it makes. */
static void inbox_skip_handed(struct session *session, struct core_inbox_query *query)
{
    query->skip = hands_seqs(session, query->agent, &query->skip_n);
    uint32_t left = query->skip_n < HANDED_MAX ? HANDED_MAX - query->skip_n : 0;
    if (query->limit > left)
        query->limit = left;
}

void inbox_query(struct shard *shard, struct session *session, struct request *request)
{
    if (request->wait && request->work == NULL)
        waiters_add(shard, session, request);
    if (session->core == NULL) {
        shard_refuse_unknown(shard, session, request);
        return;
    }
    if (!RB_EMPTY(&session->attended) && !request->wait)
        attended_hear(shard, session, request);
    if (!core_session_has_agent(session->core, request->inbox.agent)) {
        shard_refuse(shard, session, request, CORE_E_UNKNOWN_AGENT, "agent",
                     "there is no agent \"%.*s\" in this session", (int)request->inbox.agent.n,
                     request->inbox.agent.p);
        return;
    }
    struct core_inbox inbox;
    core_inbox_begin(&inbox, &request->inbox);
    if (request->hand || request->inbox.bare)
        inbox_skip_handed(session, &inbox.query);
    uint64_t from = core_inbox_from_state(session->core, &inbox);
    if (from == 0) {
        inbox_answer(shard, session, request, &inbox);
    } else {
        /* What is not committed is for the next try. */
        bool behind = session->committed_seq < core_session_seq(session->core);
        if (behind && request->wait && request->wait_state == WAIT_TRYING)
            request->wait_state = WAIT_TRYING_AGAIN;
        inbox_read(shard, session, request, &inbox, from);
    }
}

void inbox_cancel(struct shard *shard, struct session *session, struct request *request)
{
    struct request *at = session != NULL ? session->waiters : NULL;
    while (at != NULL && (at->frontend != request->frontend || at->token != request->token))
        at = at->wait_next;
    if (at != NULL && at->wait_state == WAIT_WAITING) {
        at->wait_state = WAIT_OVER;
        inbox_query(shard, session, at);
    } else if (at != NULL) {
        at->wait_state = WAIT_OVER;
    }
    shard_reply(shard, request);
}
