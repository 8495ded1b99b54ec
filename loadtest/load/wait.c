/*
 * wait: agents that wait for messages to them, and are woken.
 *
 * --agents agents, spread over --sessions sessions, each hold a request to their inbox
 * (`?mentions=true&wait=…`) on a connection of their own. Over --connections others, messages come
 * that mention one agent of a session, each in turn, or all of it. A woken agent acknowledges what
 * it got, by the answer's cursor, and waits again.
 *
 * Normal path: closed loop by default: a session gets its next message when all agents whom the
 * last one mentioned wait again, so what is measured are agents that wait. With --rate messages go
 * out at planned times, and latency counts from these; an agent that is just acknowledging then
 * finds the message with its next request, and what was planned and could not be sent before the
 * end is sent, and measured, after it. An operation is an agent that has got a message.
 *
 * Mode `mcp-wait` is the same with agents that wait by MCP's tool atoll_wait, which acknowledges
 * the messages of the last answer by its `ack`. Before the first message it waits until the server
 * holds all of them, and tells what memory each takes (--pid).
 *
 * Checked: each agent gets exactly the messages that mention it, once, in order; none is answered
 * with nothing before its time is over; and in the end, read back, each session's events hold
 * each message once, in order, and no inbox holds one that was acknowledged.
 * Failure: any other answer than these, or a connection that ends, is a problem and ends the run.
 *
 * An agent's cursor names the messages that it acknowledges one by one, and the server keeps up to
 * 1 000 of such for each agent; so every READ_EVERY-th time an agent says instead that it has read
 * all up to the last one, as a real one would that has read the thread.
 *
 * Thread: one.
 */
#include "ask.h"
#include "mcp_wire.h"
#include "meter.h"
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

enum {
    AGENTS_PER_SESSION = 999, /* the server's limit is 1 000, and the writer is one */
    AHEAD_PLANNED = 64,       /* messages of a session on the way, at most, with --rate */
    READ_EVERY = 500,
    EVENTS_AT_ONCE = 256,
    HELD_S = 60,   /* until the server must hold all waits of MCP */
    LATE_S = 10,   /* until all that was planned must have been sent, after the run */
    DRAIN_S = 10,  /* and then until all must have what is theirs */
    EARLY_MS = 20, /* by which a wait may end before its time: the clock's grain */
    SECOND_NS = 1000000000,
};

enum kind { WRITER, AGENT };

/* The other end of one connection. */
struct peer {
    struct http http; /* first: epoll gives this pointer back */
    enum kind kind;
    uint32_t number;  /* of its kind */
    uint32_t session; /* WRITER: of the message under way */
    struct text request;
    uint64_t asked_ns;
    bool busy; /* WRITER: a message is under way. AGENT: it acknowledges, else it waits */
    /* AGENT: */
    char *token;      /* of MCP_OLDER */
    uint64_t calls;   /* of MCP */
    uint64_t next;    /* the number of the message that has to come next */
    uint32_t unacked; /* messages before that one which it is acknowledging */
    uint32_t acks;
};

struct message {
    uint64_t from_ns, answered_ns; /* 0: not yet */
    uint32_t left;                 /* agents that have not come back for more */
};

struct session {
    uint64_t sent, done; /* messages; done: and all before it, by all */
    uint32_t agents;
    struct message *ring; /* `ahead` of them */
};

struct wait {
    const struct load_options *options;
    struct report *report;
    struct meter meter;
    uint32_t run; /* drawn anew, so that no two runs share a session */
    int epoll_fd;
    uint32_t sessions_n, writers_n, agents_n, ahead;
    struct session *sessions;
    struct peer *writers, *agents;
    uint32_t next_writer;
    uint64_t first_ns, planned; /* --rate: when the first message was due, and how many were */
    uint64_t stop_ns;           /* nothing is planned, or begun, from then on */
    bool broken;
    uint64_t messages, delivered, expired;
    struct text body, mentions;
    size_t *mentions_end; /* of the list of the first N agents */
    struct histogram woken, after, answer, ack;
};

static unsigned agents_n = 1000;
static unsigned wait_s = 50;
static bool mention_all;
static bool by_mcp; /* mode mcp-wait */
static enum mcp_revision revision;
static const char *const revisions[] = {"modern", "older"};

/* ---- names */

static void session_name(const struct wait *wait, uint32_t session, char name[64])
{
    snprintf(name, 64, "%s-%08x-%u", wait->options->prefix, wait->run, session);
}

static bool is_for(const struct session *session, uint32_t agent, uint64_t message)
{
    return mention_all || message % session->agents == agent;
}

/* From one message of an agent to its next. */
static uint64_t stride(const struct session *session)
{
    return mention_all ? 1 : session->agents;
}

/* ---- sending */

static void broken(struct wait *wait, const struct peer *peer, const char *what)
{
    const struct http *http = &peer->http;

    report_problem(wait->report, "%s %u: %s%s%.200s", peer->kind == WRITER ? "writer" : "agent",
                   peer->number, what, http->error != NULL || http->body_size == 0 ? "" : ": ",
                   http->error != NULL || http->body_size == 0 ? "" : http->body);
    wait->broken = true;
}

static bool open_peer(struct wait *wait, struct peer *peer)
{
    bool open = http_connect(&peer->http, &wait->options->address) &&
                http_watch(&peer->http, wait->epoll_fd);

    peer->http.keep_body = true;
    peer->http.may_close = by_mcp;
    return open;
}

/* The server closes what has been idle for a while, as a writer can be, and behind each answer of
 * MCP that was a stream of events. */
static void reopen(struct wait *wait, struct peer *peer)
{
    http_close(&peer->http);
    if (!open_peer(wait, peer)) {
        peer->http.error = strerror(errno);
        broken(wait, peer, peer->http.error);
    }
}

static void send_request(struct wait *wait, struct peer *peer)
{
    if (peer->http.closed)
        reopen(wait, peer);
    if (wait->broken)
        return;
    peer->asked_ns = process_now_ns();
    if (http_send(&peer->http, peer->request.p, peer->request.n) == HTTP_FAILED)
        broken(wait, peer, peer->http.error);
}

/* `ack`: a cursor up to its quote, of which all is acknowledged; NULL: none. */
static void put_mcp_wait(struct wait *wait, struct peer *agent, const char *session,
                         const char *ack)
{
    struct text *arguments = &wait->body;
    char name[16];

    snprintf(name, sizeof(name), "a%u", agent->number / wait->sessions_n);
    arguments->n = 0;
    text_format(arguments, "{\"mentions_only\":true,\"wait_s\":%u,\"ack\":\"%.*s\"}", wait_s,
                ack != NULL ? (int)strcspn(ack, "\"") : 0, ack != NULL ? ack : "");
    mcp_put_call(&agent->request, revision, agent->token, session, name, "atoll_wait",
                 ++agent->calls, arguments->p);
}

static void send_poll(struct wait *wait, struct peer *agent, const char *ack)
{
    char name[64];

    session_name(wait, agent->session, name);
    agent->busy = false;
    if (by_mcp) {
        put_mcp_wait(wait, agent, name, ack);
        send_request(wait, agent);
        return;
    }
    ask_get(&agent->request, "/v1/sessions/%s/agents/a%u/inbox?mentions=true&wait=%u", name,
            agent->number / wait->sessions_n, wait_s);
    send_request(wait, agent);
}

static void send_message(struct wait *wait, struct peer *writer, uint32_t number, uint64_t from_ns)
{
    struct session *session = &wait->sessions[number];
    struct text *body = &wait->body;
    char name[64];

    body->n = 0;
    text_format(body, "{\"sender\":\"w\",\"content\":\"%08x.%u.%llu ", wait->run, number,
                (unsigned long long)session->sent);
    size_t have = body->n - strlen("{\"sender\":\"w\",\"content\":\"");
    size_t pad = wait->options->payload_bytes > have ? wait->options->payload_bytes - have : 0;
    memset(text_room(body, pad), 'x', pad);
    body->n += pad;
    text_format(body, "\",\"mentions\":[");
    if (mention_all)
        text_add(body, wait->mentions.p, wait->mentions_end[session->agents]);
    else
        text_format(body, "\"a%u\"", (unsigned)(session->sent % session->agents));
    text_add(body, "]}", 2);
    session_name(wait, number, name);
    ask_post(&writer->request, body->p, body->n, "/v1/sessions/%s/threads/work/messages", name);
    session->ring[session->sent % wait->ahead] =
        (struct message){.from_ns = from_ns, .left = mention_all ? session->agents : 1};
    session->sent++;
    writer->session = number;
    writer->busy = true;
    send_request(wait, writer);
}

/* Sends a message to the next of the writer's sessions that may have one; false: none may. */
static bool writer_send(struct wait *wait, struct peer *writer, uint64_t from_ns)
{
    uint32_t own = (wait->sessions_n - writer->number - 1) / wait->writers_n + 1;
    uint32_t at = writer->session / wait->writers_n;

    for (uint32_t i = 1; i <= own; i++) {
        uint32_t number = (at + i) % own * wait->writers_n + writer->number;
        const struct session *session = &wait->sessions[number];
        if (session->sent - session->done < wait->ahead) {
            send_message(wait, writer, number, from_ns);
            return true;
        }
    }
    return false;
}

static uint64_t planned_ns(const struct wait *wait)
{
    return wait->first_ns + (uint64_t)((double)wait->planned * SECOND_NS / wait->options->rate);
}

/* Whether a message is planned and not sent. */
static bool is_planned(const struct wait *wait)
{
    return wait->options->rate != 0 && planned_ns(wait) < wait->stop_ns;
}

/* Sends what is due by now, as far as connections are free. */
static void send_planned(struct wait *wait, uint64_t now_ns)
{
    for (uint32_t tried = 0;
         tried < wait->writers_n && is_planned(wait) && planned_ns(wait) <= now_ns;) {
        struct peer *writer = &wait->writers[wait->next_writer];
        wait->next_writer = (wait->next_writer + 1) % wait->writers_n;
        if (!writer->busy && writer_send(wait, writer, planned_ns(wait))) {
            wait->planned++;
            tried = 0;
        } else {
            tried++;
        }
    }
}

/* In a closed loop: the writer may have something to send. */
static void kick(struct wait *wait, struct peer *writer)
{
    if (wait->options->rate == 0 && wait->stop_ns == UINT64_MAX && !writer->busy)
        writer_send(wait, writer, process_now_ns());
}

/* ---- answers */

static void writer_answered(struct wait *wait, struct peer *writer, uint64_t now_ns)
{
    struct session *session = &wait->sessions[writer->session];
    struct message *message = &session->ring[(session->sent - 1) % wait->ahead];

    if (writer->http.status != 201) {
        broken(wait, writer, "a message was refused");
        return;
    }
    message->answered_ns = now_ns;
    writer->busy = false;
    wait->messages += wait->meter.on;
    if (meter_takes(&wait->meter, message->from_ns))
        histogram_add(&wait->answer, now_ns - message->from_ns);
    kick(wait, writer);
}

/* One message has come. */
static void take_message(struct wait *wait, struct peer *agent, const char *content,
                         uint64_t now_ns)
{
    struct session *session = &wait->sessions[agent->session];
    unsigned run, number;
    unsigned long long counter;

    if (sscanf(content, "%8x.%u.%llu ", &run, &number, &counter) != 3 || run != wait->run ||
        number != agent->session || counter >= session->sent ||
        !is_for(session, agent->number / wait->sessions_n, counter)) {
        report_problem(wait->report, "agent %u got a message that is not for it: %.40s",
                       agent->number, content);
        return;
    }
    if (counter < agent->next) {
        report_problem(wait->report, "agent %u got message %llu of session %u a second time",
                       agent->number, counter, agent->session);
        return;
    }
    for (; agent->next < counter; agent->next += stride(session)) {
        report_problem(wait->report, "agent %u never got message %llu of session %u", agent->number,
                       (unsigned long long)agent->next, agent->session);
        session->ring[agent->next % wait->ahead].left--;
    }
    agent->next += stride(session);
    agent->unacked++;
    wait->delivered++;
    const struct message *message = &session->ring[counter % wait->ahead];
    meter_count(&wait->meter, 1, now_ns - message->from_ns);
    if (meter_takes(&wait->meter, message->from_ns)) {
        histogram_add(&wait->woken, now_ns - message->from_ns);
        histogram_add(&wait->after, message->answered_ns != 0 ? now_ns - message->answered_ns : 0);
    }
}

/* The agent is about to wait again: what it acknowledged is done with, as far as it goes. */
static void done_with_acked(struct wait *wait, struct peer *agent)
{
    struct session *session = &wait->sessions[agent->session];

    for (uint64_t number = agent->next; agent->unacked != 0; agent->unacked--) {
        number -= stride(session);
        session->ring[number % wait->ahead].left--;
    }
    while (session->done < session->sent && session->ring[session->done % wait->ahead].left == 0)
        session->done++;
    kick(wait, &wait->writers[agent->session % wait->writers_n]);
}

static void send_ack(struct wait *wait, struct peer *agent, const char *from, const char *last_seq)
{
    const char *end = agent->http.body + agent->http.body_size;
    const char *cursor = find_member(from, end, "cursor");
    char name[64];

    if (cursor == NULL) {
        broken(wait, agent, "an inbox without a cursor");
        return;
    }
    if (by_mcp && (agent->acks + 1) % READ_EVERY != 0) {
        agent->acks++;
        send_poll(wait, agent, cursor);
        done_with_acked(wait, agent);
        return;
    }
    session_name(wait, agent->session, name);
    wait->body.n = 0;
    if (++agent->acks % READ_EVERY == 0) {
        text_format(&wait->body, "{\"agent\":\"a%u\",\"upto\":%llu}",
                    agent->number / wait->sessions_n, strtoull(last_seq, NULL, 10));
        ask_post(&agent->request, wait->body.p, wait->body.n, "/v1/sessions/%s/threads/work/read",
                 name);
    } else {
        text_format(&wait->body, "{\"cursor\":\"%.*s\"}", (int)strcspn(cursor, "\""), cursor);
        ask_post(&agent->request, wait->body.p, wait->body.n,
                 "/v1/sessions/%s/agents/a%u/inbox/ack", name, agent->number / wait->sessions_n);
    }
    agent->busy = true;
    send_request(wait, agent);
}

static void agent_woken(struct wait *wait, struct peer *agent, uint64_t now_ns)
{
    const char *end = agent->http.body + agent->http.body_size, *last_seq = NULL;
    const char *from = by_mcp ? mcp_result(&agent->http) : agent->http.body, *p = from;
    uint64_t before = wait->delivered;

    if (from == NULL) {
        broken(wait, agent, "a wait was refused");
        return;
    }
    while ((p = find_member(p, end, "content")) != NULL)
        take_message(wait, agent, p, now_ns);
    /* REST names a message's seq; MCP its id, which is an m and its seq. */
    for (p = from; (p = find_member(p, end, by_mcp ? "id" : "seq")) != NULL;)
        last_seq = by_mcp ? p + 1 : p;
    if (wait->delivered != before) {
        send_ack(wait, agent, from, last_seq);
        return;
    }
    if (now_ns - agent->asked_ns + (uint64_t)EARLY_MS * 1000000 < (uint64_t)wait_s * SECOND_NS)
        report_problem(wait->report, "agent %u was woken by nothing after %.3f of %u s",
                       agent->number, (double)(now_ns - agent->asked_ns) / SECOND_NS, wait_s);
    wait->expired++;
    send_poll(wait, agent, NULL);
}

static void agent_acked(struct wait *wait, struct peer *agent, uint64_t now_ns)
{
    if (wait->meter.on)
        histogram_add(&wait->ack, now_ns - agent->asked_ns);
    send_poll(wait, agent, NULL);
    done_with_acked(wait, agent);
}

static void peer_go_on(struct wait *wait, struct peer *peer)
{
    enum http_result result = http_go_on(&peer->http);

    if (result == HTTP_MORE)
        return;
    uint64_t now_ns = process_now_ns();
    if (result == HTTP_FAILED && peer->http.state == HTTP_IDLE)
        reopen(wait, peer);
    else if (result == HTTP_FAILED)
        broken(wait, peer, peer->http.error);
    else if (peer->kind == WRITER)
        writer_answered(wait, peer, now_ns);
    else if (peer->http.status != 200)
        broken(wait, peer, peer->busy ? "an acknowledgement was refused" : "a wait was refused");
    else if (peer->busy)
        agent_acked(wait, peer, now_ns);
    else
        agent_woken(wait, peer, now_ns);
}

/* ---- the run */

/* One batch makes a session with its agents and their thread. NULL: it is there. */
static const char *make_session(struct wait *wait, struct asker *asker, uint32_t number)
{
    struct session *session = &wait->sessions[number];
    struct text *body = &wait->body;
    char name[64];

    session->agents = (wait->agents_n - number - 1) / wait->sessions_n + 1;
    session->ring = calloc(wait->ahead, sizeof(*session->ring));
    if (session->ring == NULL)
        return "out of memory";
    body->n = 0;
    text_format(body,
                "[{\"type\":\"session.create\"},{\"type\":\"agent.register\",\"agent\":\"w\"}");
    for (uint32_t i = 0; i < session->agents; i++)
        text_format(body, ",{\"type\":\"agent.register\",\"agent\":\"a%u\"}", i);
    text_format(body,
                ",{\"type\":\"thread.create\",\"thread\":\"work\",\"creator\":\"w\","
                "\"name\":\"work\",\"participants\":[%.*s]}]",
                (int)wait->mentions_end[session->agents], wait->mentions.p);
    session_name(wait, number, name);
    ask_post(&asker->request, body->p, body->n, "/v1/sessions/%s/commands?atomic=true", name);
    return asker_ask(asker);
}

static bool make_sessions(struct wait *wait, struct asker *asker)
{
    uint32_t most = (wait->agents_n - 1) / wait->sessions_n + 1;

    wait->mentions_end = calloc(most + 1, sizeof(*wait->mentions_end));
    for (uint32_t i = 0; i < most; i++) {
        text_format(&wait->mentions, "%s\"a%u\"", i != 0 ? "," : "", i);
        wait->mentions_end[i + 1] = wait->mentions.n;
    }
    for (uint32_t i = 0; i < wait->sessions_n; i++) {
        const char *wrong = make_session(wait, asker, i);
        if (wrong != NULL) {
            fprintf(stderr, "atoll-load: a session could not be made: %s\n", wrong);
            return false;
        }
    }
    return true;
}

static bool open_peers(struct wait *wait, enum kind kind, struct peer *peers, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct peer *peer = &peers[i];
        peer->kind = kind;
        peer->number = i;
        peer->session = i % (kind == AGENT ? wait->sessions_n : wait->writers_n);
        if (!open_peer(wait, peer)) {
            fprintf(stderr, "atoll-load: connection %u of %u: %s\n", i + 1, n, strerror(errno));
            return false;
        }
        if (kind == AGENT) {
            peer->next = mention_all ? 0 : i / wait->sessions_n;
            send_poll(wait, peer, NULL);
        }
    }
    return true;
}

/* How long to wait for the network, so that the next planned message is not late. */
static struct timespec pause_until_next(const struct wait *wait, uint64_t now_ns)
{
    uint64_t pause_ns = SECOND_NS / 20;

    if (is_planned(wait)) {
        uint64_t due_ns = planned_ns(wait);
        if (due_ns > now_ns && due_ns - now_ns < pause_ns)
            pause_ns = due_ns - now_ns;
        /* Else it is late already, for want of a free connection, whose answer ends the pause. */
    }
    return (struct timespec){.tv_nsec = (long)pause_ns};
}

static void turn(struct wait *wait)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    struct timespec pause = pause_until_next(wait, process_now_ns());
    int n = epoll_pwait2(wait->epoll_fd, events, EVENTS_AT_ONCE, &pause, NULL);

    for (int i = 0; i < n && !wait->broken; i++)
        peer_go_on(wait, events[i].data.ptr);
    send_planned(wait, process_now_ns());
}

/* ---- before the run, by MCP */

static bool make_tokens(struct wait *wait, struct asker *asker)
{
    for (uint32_t i = 0; i < wait->agents_n; i++) {
        struct peer *agent = &wait->agents[i];
        char session[64], name[16];
        agent->token = malloc(MCP_TOKEN_BYTES);
        if (agent->token == NULL)
            option_refuse("out of memory");
        session_name(wait, i % wait->sessions_n, session);
        snprintf(name, sizeof(name), "a%u", i / wait->sessions_n);
        const char *wrong = mcp_initialize(asker, session, name, agent->token);
        if (wrong != NULL) {
            fprintf(stderr, "atoll-load: MCP cannot be begun with: %s\n", wrong);
            return false;
        }
    }
    return true;
}

/* Of all shards together. NULL, or what is wrong. */
static const char *count_held(struct asker *asker, uint64_t *held)
{
    ask_get(&asker->request, "/v1/status");
    const char *wrong = asker_ask(asker);
    if (wrong != NULL)
        return wrong;
    const char *end = asker->http.body + asker->http.body_size;
    const char *p = find_member(asker->http.body, end, "shards");
    *held = 0;
    while (p != NULL && (p = find_member(p, end, "waiting")) != NULL)
        *held += strtoull(p, NULL, 10);
    return NULL;
}

static void await_held(struct wait *wait, struct asker *asker)
{
    uint64_t end_ns = process_now_ns() + (uint64_t)HELD_S * SECOND_NS, held = 0;
    const char *wrong = NULL;

    while (wrong == NULL && held < wait->agents_n && !wait->broken && process_now_ns() < end_ns) {
        turn(wait);
        wrong = count_held(asker, &held);
    }
    if (wrong != NULL)
        report_problem(wait->report, "how many wait cannot be asked: %s", wrong);
    else if (held < wait->agents_n && !wait->broken)
        report_problem(wait->report, "the server holds %llu waits of %u after %d s",
                       (unsigned long long)held, wait->agents_n, HELD_S);
}

static double server_bytes(const struct wait *wait)
{
    struct process_usage usage = process_usage(wait->options->pid);
    return (usage.rss_mb + usage.page_tables_mb) * 1e6;
}

static bool open_agents(struct wait *wait, struct asker *asker)
{
    bool measured = by_mcp && wait->options->pid != 0;

    if (by_mcp && revision == MCP_OLDER && !make_tokens(wait, asker))
        return false;
    double before = measured ? server_bytes(wait) : 0;
    if (!open_peers(wait, AGENT, wait->agents, wait->agents_n))
        return false;
    if (by_mcp)
        await_held(wait, asker);
    if (measured)
        report_figure(wait->report, "agent_bytes",
                      (server_bytes(wait) - before) / (double)wait->agents_n,
                      "memory of the server for each agent that waits, with its connection");
    return true;
}

/* What was planned before the end and had to wait: it counts like what did not. */
static void send_late(struct wait *wait)
{
    uint64_t end_ns = process_now_ns() + (uint64_t)LATE_S * SECOND_NS;

    while (is_planned(wait) && !wait->broken && process_now_ns() < end_ns)
        turn(wait);
    if (is_planned(wait) && !wait->broken)
        report_problem(wait->report,
                       "the messages planned for the last %.3f s could not be sent within %d s "
                       "more: the rate is too high",
                       (double)(wait->stop_ns - planned_ns(wait)) / SECOND_NS, LATE_S);
    wait->stop_ns = 0;
}

static void run(struct wait *wait)
{
    meter_begin(&wait->meter, wait->options, wait->report, false);
    wait->stop_ns = UINT64_MAX;
    wait->first_ns = process_now_ns();
    for (uint32_t i = 0; i < wait->writers_n; i++)
        kick(wait, &wait->writers[i]);
    while (!load_stopped && !wait->broken && meter_turn(&wait->meter, process_now_ns()))
        turn(wait);
    wait->stop_ns = process_now_ns();
    meter_end(&wait->meter, wait->stop_ns, "messages that an agent was woken with");
    send_late(wait);
}

static bool all_done(const struct wait *wait)
{
    for (uint32_t i = 0; i < wait->writers_n; i++) {
        if (wait->writers[i].busy)
            return false;
    }
    for (uint32_t i = 0; i < wait->sessions_n; i++) {
        if (wait->sessions[i].done != wait->sessions[i].sent)
            return false;
    }
    return true;
}

static void drain(struct wait *wait)
{
    uint64_t end_ns = process_now_ns() + (uint64_t)DRAIN_S * SECOND_NS;

    while (!wait->broken && !all_done(wait)) {
        turn(wait);
        if (process_now_ns() < end_ns)
            continue;
        for (uint32_t i = 0; i < wait->sessions_n; i++) {
            const struct session *session = &wait->sessions[i];
            if (session->done != session->sent)
                report_problem(wait->report,
                               "session %u: message %llu has not come to all within %d s", i,
                               (unsigned long long)session->done, DRAIN_S);
        }
        return;
    }
}

/* ---- reading back */

/* What the events of a session hold. */
struct reading {
    struct wait *wait;
    uint32_t session;
    uint64_t next, found;
};

static void check_message(void *context, const struct told *told)
{
    struct reading *reading = context;
    unsigned run, session;
    unsigned long long counter;

    if (sscanf(told->content, "%8x.%u.%llu ", &run, &session, &counter) != 3 ||
        run != reading->wait->run || session != reading->session || counter != reading->next)
        report_problem(reading->wait->report,
                       "session %u: where message %llu has to stand is \"%.40s\"", reading->session,
                       (unsigned long long)reading->next, told->content);
    else
        reading->found++;
    reading->next++;
}

/* All messages are among the events, once, in order. */
static void check_events(struct wait *wait, struct asker *asker, uint32_t number, uint64_t *found)
{
    struct reading reading = {.wait = wait, .session = number};
    const struct session *session = &wait->sessions[number];
    char name[64];

    session_name(wait, number, name);
    const char *wrong = asker_messages(asker, name, check_message, &reading);
    if (wrong != NULL)
        report_problem(wait->report, "session %u cannot be read back: %s", number, wrong);
    else if (reading.next != session->sent)
        report_problem(wait->report, "session %u holds %llu messages, and %llu were acknowledged",
                       number, (unsigned long long)reading.next, (unsigned long long)session->sent);
    *found += reading.found;
}

static void check_inbox(struct wait *wait, struct asker *asker, uint32_t agent, uint64_t *empty)
{
    static const char nothing[] = "{\"messages\":[],";
    char name[64];

    session_name(wait, agent % wait->sessions_n, name);
    ask_get(&asker->request, "/v1/sessions/%s/agents/a%u/inbox?mentions=true", name,
            agent / wait->sessions_n);
    const char *wrong = asker_ask(asker);
    if (wrong != NULL)
        report_problem(wait->report, "the inbox of agent %u cannot be read: %s", agent, wrong);
    else if (strncmp(asker->http.body, nothing, sizeof(nothing) - 1) != 0)
        report_problem(wait->report, "agent %u has acknowledged all, and still finds: %.100s",
                       agent, asker->http.body);
    else
        ++*empty;
}

static void check(struct wait *wait, struct asker *asker)
{
    uint64_t found = 0, empty = 0;

    for (uint32_t i = 0; i < wait->sessions_n; i++)
        check_events(wait, asker, i, &found);
    for (uint32_t i = 0; i < wait->agents_n; i++)
        check_inbox(wait, asker, i, &empty);
    report_checked(wait->report, "messages that each agent they mention got once, in order",
                   wait->delivered);
    report_checked(wait->report, "acknowledged messages found once among the events, in order",
                   found);
    report_checked(wait->report, "inboxes empty when all was acknowledged", empty);
}

static void tell(struct wait *wait)
{
    report_option(wait->report, "sessions", "%u", wait->sessions_n);
    report_option(wait->report, "connections", "%u", wait->writers_n);
    report_option(wait->report, "agents", "%u", agents_n);
    report_option(wait->report, "mention", "%s", mention_all ? "all" : "one");
    report_option(wait->report, "wait", "%u", wait_s);
    report_figure(wait->report, "messages", (double)wait->messages, "acknowledged to a writer");
    report_figure(wait->report, "expired", (double)wait->expired,
                  "waits that ended without a message, warm-up included");
    report_latency(wait->report, "woken", &wait->woken,
                   wait->options->rate != 0
                       ? "from the time planned for a message until its agent has it"
                       : "from sending a message until its agent has it");
    report_latency(wait->report, "after_answer", &wait->after,
                   "from the writer's answer until the agent has the message; 0: it had it before");
    report_latency(wait->report, "answer", &wait->answer, "from sending a message to its answer");
    if (by_mcp)
        report_option(wait->report, "revision", "%s", revisions[revision]);
    else
        report_latency(wait->report, "ack", &wait->ack, "from an acknowledgement to its answer");
}

static void close_peers(struct peer *peers, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        http_close(&peers[i].http);
        free(peers[i].request.p);
        free(peers[i].token);
    }
}

static int wait_run(const struct load_options *options, struct report *report)
{
    /* Static for its histograms, which the report borrows. */
    static struct wait wait;
    struct asker asker;

    wait.options = options;
    wait.report = report;
    wait.agents_n = agents_n;
    wait.sessions_n = options->sessions < agents_n ? options->sessions : agents_n;
    wait.writers_n =
        options->connections < wait.sessions_n ? options->connections : wait.sessions_n;
    wait.ahead = options->rate != 0 ? AHEAD_PLANNED : 1;
    if ((agents_n - 1) / wait.sessions_n >= AGENTS_PER_SESSION)
        option_refuse("--agents is %u in %u sessions, and a session has at most %d", agents_n,
                      wait.sessions_n, AGENTS_PER_SESSION);
    wait.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    wait.sessions = calloc(wait.sessions_n, sizeof(*wait.sessions));
    wait.writers = calloc(wait.writers_n, sizeof(*wait.writers));
    wait.agents = calloc(wait.agents_n, sizeof(*wait.agents));
    if (getrandom(&wait.run, sizeof(wait.run), 0) != sizeof(wait.run) || wait.epoll_fd < 0 ||
        wait.sessions == NULL || wait.writers == NULL || wait.agents == NULL) {
        fprintf(stderr, "atoll-load: %s\n", strerror(errno));
        return 2;
    }
    if (!asker_open(&asker, options) || !make_sessions(&wait, &asker) ||
        !open_peers(&wait, WRITER, wait.writers, wait.writers_n) || !open_agents(&wait, &asker))
        return 2;
    run(&wait);
    drain(&wait);
    close_peers(wait.writers, wait.writers_n);
    close_peers(wait.agents, wait.agents_n);
    check(&wait, &asker);
    asker_close(&asker);
    tell(&wait);
    return 0;
}

static bool wait_option(const char *name, const char *value)
{
    if (strcmp(name, "--agents") == 0)
        agents_n = (unsigned)option_integer(name, value, 1, LOAD_CONNECTIONS_MAX);
    else if (strcmp(name, "--mention") == 0)
        mention_all = strcmp(option_word(name, value, "one all"), "all") == 0;
    else if (strcmp(name, "--wait") == 0)
        wait_s = (unsigned)option_integer(name, value, 1, 55);
    else
        return false;
    return true;
}

/* One message at a time: what is measured is how soon its agent has it. */
static void mcp_wait_defaults(struct load_options *options)
{
    by_mcp = true;
    options->connections = 1;
}

static bool mcp_wait_option(const char *name, const char *value)
{
    if (strcmp(name, "--revision") != 0)
        return wait_option(name, value);
    revision =
        strcmp(option_word(name, value, "modern older"), "older") == 0 ? MCP_OLDER : MCP_MODERN;
    return true;
}

const struct mode mode_wait = {
    .name = "wait",
    .summary = "agents that wait in their inbox, and are woken by messages",
    .help = "  --agents N         that wait, each on a connection (default 1000)\n"
            "  --mention one|all  whom a message mentions: the session's agents in turn, or all\n"
            "                     (default one)\n"
            "  --wait S           for how long an agent asks to wait (default 50)\n",
    .option = wait_option,
    .run = wait_run,
};

const struct mode mode_mcp_wait = {
    .name = "mcp-wait",
    .summary = "the same by MCP's atoll_wait, and what memory each of them takes",
    .help = "  --revision modern|older   of MCP: 2026-07-28, or 2025-11-25 (default modern)\n"
            "  --agents N         that wait, each on a connection (default 1000)\n"
            "  --mention one|all  whom a message mentions: the session's agents in turn, or all\n"
            "                     (default one)\n"
            "  --wait S           for how long an agent asks to wait (default 50)\n",
    .defaults = mcp_wait_defaults,
    .option = mcp_wait_option,
    .run = wait_run,
};
