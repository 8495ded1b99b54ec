/*
 * mixed: sessions as they are when agents work together, many at a time: somebody speaks, somebody
 * is woken by it, reads up, acknowledges; others look on.
 *
 * What is said is a transcript (--file; ../transcript.h): its sessions with their agents, threads,
 * senders, addressees and contents. Each of --connections players plays one session of it after
 * another, each in a session of its own: makes it with its agents and threads in one batch, sends
 * the messages in order, each when the one before is acknowledged, and leaves. Around it:
 *
 *   --watchers 1   follow the session's stream: an operator's page, or a program that directs it
 *   --waits 1      is the share of its agents that wait in their inbox, each on a connection of its
 *                  own, for messages to them: how an agent is told that it is its turn
 *   --reads 0.5    is the share of wakings after which an agent reads the last 20 messages of the
 *                  thread before it acknowledges: one that was away does, one in the midst does not
 *   --views 0.1    is the share of messages before which the whole session is read: a page that is
 *                  opened, an agent that joins; rare, but the largest answer there is
 *
 * Normal path: closed loop, or with --rate messages at planned times, from which their latency then
 * counts; a player whose turn it is begins, reads or leaves at that cost, and what was planned and
 * could not be sent before the end is sent, and measured, after it. An operation is an
 * acknowledged message. --copies N plays the transcript N times, however long it takes; else it is
 * played again and again for --seconds, and sessions under way are left where they are.
 * --only messages sends the messages and nothing else: see messages.c.
 *
 * Checked: a view shows what was acknowledged before; watchers miss nothing and see nothing twice;
 * each agent gets just what mentions it, once, in order, with the content that was sent, and is
 * never woken by nothing; and at the end each session is read back and compared with what was sent.
 * Failure: any other answer, or a connection that ends, is a problem and ends the run.
 *
 * Thread: one.
 */
#include "mixed.h"

#include "loop.h"
#include "meter.h"
#include "options.h"
#include "reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

enum {
    SECOND_NS = 1000000000,
    AHEAD = 64,    /* messages that a watcher may be behind before its player waits for it */
    EARLY = 32,    /* events that a watcher was told while a message is unanswered */
    WAIT_S = 50,   /* that agents ask to wait */
    EARLY_MS = 20, /* by which a wait may end before its time: the clock's grain */
    PAGE = 20,     /* messages that an agent reads of a thread */
    TURN_MS = 50,
    LATE_S = 10, /* until all that was planned must have been sent, after the run */
};

static const char *file = "loadtest/data/team.ndjson";
static unsigned watchers_n = 1, copies;
static double waits = 1, reads = 0.5, views = 0.1;
static bool only_messages;

struct mixed;
struct player;

enum agent_state { WAITING, READING, ACKNOWLEDGING };

struct agent {
    struct loop_source source;
    struct http http;
    struct player *player;
    uint32_t number;
    enum agent_state state;
    uint32_t next;   /* of the play's messages: those before it that are for the agent have come */
    uint32_t unread; /* a message that it got and has not acknowledged */
    double reads_due;
    uint64_t asked_ns;
    struct text request, cursor;
};

struct watcher {
    struct reader reader; /* first: the callbacks of reader and loop give this pointer back */
    uint32_t seen;        /* messages of the play */
    uint32_t early_n;
    struct {
        uint64_t seq, at_ns;
    } early[EARLY];
};

enum player_state {
    MAKING,  /* its session */
    JOINING, /* until the watchers have their snapshots */
    READY,   /* to send what is next */
    VIEWING,
    SENDING,
    LEAVING, /* until all have what is theirs */
    FINISHED,
};

struct player {
    struct loop_source source;
    struct http http;
    struct mixed *mixed;
    uint32_t number;
    enum player_state state;
    struct play *play;
    char name[64];
    double views_due;
    uint64_t from_ns;  /* of the request under way */
    uint64_t *sent_ns; /* of each message of the play: when it was sent, or planned */
    struct agent *agents;
    struct watcher *watchers;
    struct text request;
};

struct mixed {
    const struct load_options *options;
    struct report *report;
    struct meter meter;
    struct loop loop;
    struct scripts scripts;
    uint32_t run;
    struct play **plays;
    uint32_t plays_n, plays_room, plays_max;
    struct player *players;
    uint32_t next_player;
    uint64_t first_ns, planned; /* --rate: when the first message was due, and how many were */
    uint64_t stop_ns;           /* nothing is planned from then on */
    bool over;                  /* nothing is begun any more */
    uint64_t woken_n, expired, viewed, made_n;
    struct reader_counts told;
    struct histogram message, watched, woken, acknowledged, read, view, made;
};

static void advance(struct player *player);

/* ---- small things */

static void *must_calloc(size_t n, size_t size)
{
    void *p = calloc(n != 0 ? n : 1, size);

    if (p == NULL)
        option_refuse("out of memory");
    return p;
}

static void count(const struct mixed *mixed, struct histogram *histogram, uint64_t from_ns,
                  uint64_t now_ns)
{
    if (meter_takes(&mixed->meter, from_ns))
        histogram_add(histogram, now_ns - from_ns);
}

static const char *body_end(const struct http *http)
{
    return http->body + http->body_size;
}

/* An answer that is not as it should be ends the run. */
static void fail(const struct player *player, const struct http *http, const char *doing)
{
    if (http->error != NULL)
        loop_fail(&player->mixed->loop, "session %s, %s: %s", player->name, doing, http->error);
    else
        loop_fail(&player->mixed->loop, "session %s, %s: %d %.200s", player->name, doing,
                  http->status, http->body_size != 0 ? http->body : "");
}

static bool is_level(const struct agent *agent)
{
    const struct script *script = agent->player->play->script;

    for (uint32_t i = agent->next; i < agent->player->play->acked; i++) {
        if (script->messages[i].to == agent->number)
            return false;
    }
    return agent->state == WAITING;
}

/* Whether this one of a session's agents waits. */
static bool does_wait(uint32_t number)
{
    return (uint32_t)((number + 1) * waits) > (uint32_t)(number * waits);
}

/* Closed with a reset: a run opens more connections than may linger in TIME_WAIT. */
static void drop_connection(int fd)
{
    struct linger linger = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static bool connect_http(struct mixed *mixed, struct http *http, struct loop_source *source)
{
    if (!http_connect(http, &mixed->options->address)) {
        loop_fail(&mixed->loop, "%s: %s", mixed->options->url, strerror(errno));
        return false;
    }
    http->keep_body = true;
    loop_add(&mixed->loop, http->fd, EPOLLIN | EPOLLOUT, source);
    return mixed->loop.error == NULL;
}

/* ---- agents */

static void agent_send(struct agent *agent, enum agent_state state)
{
    agent->state = state;
    agent->asked_ns = process_now_ns();
    if (http_send(&agent->http, agent->request.p, agent->request.n) == HTTP_FAILED)
        fail(agent->player, &agent->http, "an agent");
}

static const char *agent_name(const struct agent *agent)
{
    return agent->player->play->script->agents[agent->number];
}

static void agent_wait(struct agent *agent)
{
    ask_get(&agent->request, "/v1/sessions/%s/agents/%s/inbox?mentions=true&wait=%d",
            agent->player->name, agent_name(agent), WAIT_S);
    agent_send(agent, WAITING);
}

static void agent_acknowledge(struct agent *agent)
{
    ask_post(&agent->request, agent->cursor.p, agent->cursor.n,
             "/v1/sessions/%s/agents/%s/inbox/ack", agent->player->name, agent_name(agent));
    agent_send(agent, ACKNOWLEDGING);
}

static void agent_read(struct agent *agent)
{
    const struct script_message *message = &agent->player->play->script->messages[agent->unread];

    agent->reads_due -= 1;
    ask_get(&agent->request, "/v1/sessions/%s/threads/%s/messages?limit=%d", agent->player->name,
            message->thread, PAGE);
    agent_send(agent, READING);
}

/* A message has come: it has to be the next one for this agent, as it was sent. */
static void agent_takes(struct agent *agent, const char *content, uint64_t now_ns)
{
    struct player *player = agent->player;
    struct mixed *mixed = player->mixed;
    const struct script *script = player->play->script;
    uint32_t sent = player->play->acked + (player->state == SENDING), i = agent->next;

    while (i < sent && script->messages[i].to != agent->number)
        i++;
    if (i == sent || !json_says(content, body_end(&agent->http), script->messages[i].json,
                                script->messages[i].json_size))
        report_problem(mixed->report,
                       "session %s: agent %s got what is not the next message for it: %.60s",
                       player->name, agent_name(agent), content);
    if (i == sent)
        return;
    agent->next = i + 1;
    agent->unread = i;
    agent->reads_due += reads;
    mixed->woken_n++;
    count(mixed, &mixed->woken, player->sent_ns[i], now_ns);
}

static void agent_woken(struct agent *agent, uint64_t now_ns)
{
    struct mixed *mixed = agent->player->mixed;
    const char *p = agent->http.body, *end = body_end(&agent->http);
    bool nothing = true;

    for (; (p = find_member(p, end, "content")) != NULL; nothing = false)
        agent_takes(agent, p, now_ns);
    if (nothing) {
        if (now_ns - agent->asked_ns + EARLY_MS * 1000000 < (uint64_t)WAIT_S * SECOND_NS)
            report_problem(mixed->report, "session %s: agent %s was woken by nothing",
                           agent->player->name, agent_name(agent));
        mixed->expired++;
        agent_wait(agent);
        return;
    }
    const char *cursor = find_member(agent->http.body, end, "cursor");
    agent->cursor.n = 0;
    if (cursor == NULL)
        loop_fail(&mixed->loop, "session %s: an inbox without a cursor", agent->player->name);
    else
        text_format(&agent->cursor, "{\"cursor\":\"%.*s\"}", (int)strcspn(cursor, "\""), cursor);
    if (cursor != NULL && agent->reads_due >= 1)
        agent_read(agent);
    else if (cursor != NULL)
        agent_acknowledge(agent);
}

/* The thread that it has read holds the message for which it was woken. */
static void agent_has_read(struct agent *agent, uint64_t now_ns)
{
    struct player *player = agent->player;
    const struct script_message *message = &player->play->script->messages[agent->unread];
    const char *p = agent->http.body, *end = body_end(&agent->http);
    bool found = false;

    while (!found && (p = find_member(p, end, "content")) != NULL)
        found = json_says(p, end, message->json, message->json_size);
    /* Others may have spoken since. */
    if (!found && player->play->acked - agent->unread < PAGE)
        report_problem(player->mixed->report,
                       "session %s: thread %s lacks a message that %s has in its inbox",
                       player->name, message->thread, agent_name(agent));
    count(player->mixed, &player->mixed->read, agent->asked_ns, now_ns);
    agent_acknowledge(agent);
}

static void agent_ready(struct loop_source *source, uint32_t events)
{
    struct agent *agent = (struct agent *)source;
    struct player *player = agent->player;
    static const char *const doing[] = {"an agent that waits", "an agent that reads",
                                        "an agent that acknowledges"};

    (void)events;
    if (agent->http.fd < 0)
        return; /* closed within this turn */
    enum http_result result = http_go_on(&agent->http);
    uint64_t now_ns = process_now_ns();
    if (result == HTTP_MORE)
        return;
    if (result == HTTP_FAILED || agent->http.status != 200) {
        fail(player, &agent->http, doing[agent->state]);
        return;
    }
    if (agent->state == WAITING) {
        agent_woken(agent, now_ns);
    } else if (agent->state == READING) {
        agent_has_read(agent, now_ns);
    } else {
        count(player->mixed, &player->mixed->acknowledged, agent->asked_ns, now_ns);
        agent_wait(agent);
        advance(player);
    }
}

static void open_agent(struct player *player, uint32_t number)
{
    struct agent *agent = &player->agents[number];

    agent->source.ready = agent_ready;
    agent->player = player;
    agent->number = number;
    agent->next = 0;
    if (connect_http(player->mixed, &agent->http, &agent->source))
        agent_wait(agent);
}

/* ---- watchers */

/* All that was acknowledged and is told by now was seen. */
static void see(struct watcher *watcher, uint64_t now_ns)
{
    struct player *player = watcher->reader.owner;
    const struct play *play = player->play;

    while (watcher->seen < play->acked && play->seqs[watcher->seen] <= watcher->reader.seq) {
        count(player->mixed, &player->mixed->watched, player->sent_ns[watcher->seen], now_ns);
        watcher->seen++;
    }
}

static void watcher_told(void *context, struct reader *reader, uint64_t from, uint64_t seq)
{
    struct watcher *watcher = (struct watcher *)reader;
    struct player *player = context;
    uint64_t now_ns = process_now_ns();

    (void)from;
    see(watcher, now_ns);
    if (player->state != SENDING)
        return;
    /* It may be the message that is not answered yet, whose seq is not known. */
    uint32_t i = watcher->early_n < EARLY ? watcher->early_n++ : EARLY - 1;
    watcher->early[i].seq = seq;
    watcher->early[i].at_ns = now_ns;
}

/* The answer has come: the watcher may have been told before. */
static void watcher_answered(struct watcher *watcher, uint64_t seq)
{
    struct player *player = watcher->reader.owner;

    for (uint32_t i = 0; i < watcher->early_n; i++) {
        if (watcher->early[i].seq >= seq && watcher->seen + 1 == player->play->acked) {
            see(watcher, watcher->early[i].at_ns);
            break;
        }
    }
    watcher->early_n = 0;
}

static void watcher_ready(struct loop_source *source, uint32_t events)
{
    struct watcher *watcher = (struct watcher *)source;
    struct player *player = watcher->reader.owner;
    struct mixed *mixed = player->mixed;
    const char *wrong = NULL;

    if (watcher->reader.fd < 0)
        return; /* closed within this turn */
    do
        wrong = reader_read(&watcher->reader, &mixed->told, watcher_told, player);
    while (wrong == NULL && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    if (wrong != NULL)
        loop_fail(&mixed->loop, "session %s, a watcher: %s", player->name, wrong);
    else
        advance(player);
}

static void open_watcher(struct player *player, struct watcher *watcher)
{
    struct mixed *mixed = player->mixed;

    *watcher = (struct watcher){.reader.source.ready = watcher_ready, .reader.owner = player};
    ask_get(&player->request, "/v1/sessions/%s/stream", player->name);
    if (reader_connect(&watcher->reader, &mixed->options->address, player->request.p,
                       player->request.n))
        loop_add(&mixed->loop, watcher->reader.fd, EPOLLIN | EPOLLRDHUP, &watcher->reader.source);
    else
        loop_fail(&mixed->loop, "%s: %s", mixed->options->url, strerror(errno));
}

/* ---- players */

static void player_send(struct player *player, enum player_state state, uint64_t from_ns)
{
    player->state = state;
    player->from_ns = from_ns;
    if (http_send(&player->http, player->request.p, player->request.n) == HTTP_FAILED)
        fail(player, &player->http, "a player");
}

/* The next play of all, in a session of its own; false: there is none. */
static bool begin_play(struct player *player)
{
    struct mixed *mixed = player->mixed;

    if (mixed->over || mixed->plays_n == mixed->plays_max)
        return false;
    if (mixed->plays_n == mixed->plays_room) {
        mixed->plays_room = 2 * mixed->plays_room + 1024;
        mixed->plays = realloc(mixed->plays, mixed->plays_room * sizeof(struct play *));
        if (mixed->plays == NULL)
            option_refuse("out of memory");
    }
    struct play *play = must_calloc(1, sizeof(*play));
    play->number = mixed->plays_n;
    play->script = &mixed->scripts.all[mixed->plays_n % mixed->scripts.n];
    mixed->plays[mixed->plays_n++] = player->play = play;
    play_name(play, mixed->options->prefix, mixed->run, player->name);
    ask_post(&player->request, play->script->setup, play->script->setup_size,
             "/v1/sessions/%s/commands?atomic=true", player->name);
    player_send(player, MAKING, process_now_ns());
    return true;
}

static void end_play(struct player *player)
{
    for (uint32_t i = 0; i < player->play->script->agents_n; i++) {
        struct http *http = &player->agents[i].http;
        if (http->fd >= 0)
            drop_connection(http->fd);
        http_close(http);
    }
    for (uint32_t i = 0; i < watchers_n; i++) {
        struct reader *reader = &player->watchers[i].reader;
        drop_connection(reader->fd);
        reader_close(reader);
        reader->fd = -1;
    }
    if (!begin_play(player))
        player->state = FINISHED;
}

static bool have_all(const struct player *player)
{
    const struct play *play = player->play;

    for (uint32_t i = 0; i < watchers_n; i++) {
        if (player->watchers[i].seen < play->acked)
            return false;
    }
    for (uint32_t i = 0; i < play->script->agents_n; i++) {
        if (player->agents[i].http.fd >= 0 && !is_level(&player->agents[i]))
            return false;
    }
    return true;
}

static bool have_joined(const struct player *player)
{
    for (uint32_t i = 0; i < watchers_n; i++) {
        if (!player->watchers[i].reader.placed)
            return false;
    }
    return true;
}

static bool keep_up(const struct player *player)
{
    for (uint32_t i = 0; i < watchers_n; i++) {
        if (player->play->acked - player->watchers[i].seen >= AHEAD)
            return false;
    }
    return true;
}

static void send_view(struct player *player)
{
    player->views_due -= 1;
    ask_get(&player->request, "/v1/sessions/%s", player->name);
    player_send(player, VIEWING, process_now_ns());
}

static void send_message(struct player *player, uint64_t from_ns)
{
    const struct script_message *message = &player->play->script->messages[player->play->acked];

    ask_post(&player->request, message->body, message->body_size,
             "/v1/sessions/%s/threads/%s/messages", player->name, message->thread);
    player->sent_ns[player->play->acked] = from_ns;
    player->views_due += views;
    player_send(player, SENDING, from_ns);
}

static bool has_rate(const struct mixed *mixed)
{
    return mixed->options->rate != 0;
}

/* Goes on as far as it can without an answer. */
static void advance(struct player *player)
{
    const struct play *play = player->play;
    struct mixed *mixed = player->mixed;

    if (mixed->loop.error != NULL)
        return;
    if (player->state == JOINING && have_joined(player))
        player->state = READY;
    if (player->state == READY && (mixed->over || play->acked == play->script->messages_n))
        player->state = LEAVING;
    if (player->state == READY && player->views_due >= 1)
        send_view(player);
    if (player->state == READY && !has_rate(mixed) && keep_up(player))
        send_message(player, process_now_ns());
    if (player->state == LEAVING && have_all(player))
        end_play(player);
}

static void has_made(struct player *player, uint64_t now_ns)
{
    struct mixed *mixed = player->mixed;

    count(mixed, &mixed->made, player->from_ns, now_ns);
    mixed->made_n++;
    player->state = JOINING;
    for (uint32_t i = 0; i < watchers_n; i++)
        open_watcher(player, &player->watchers[i]);
    for (uint32_t i = 0; i < player->play->script->agents_n && mixed->loop.error == NULL; i++) {
        if (does_wait(i))
            open_agent(player, i);
    }
}

static void has_viewed(struct player *player, uint64_t now_ns)
{
    const struct play *play = player->play;
    const char *seq = find_member(player->http.body, body_end(&player->http), "seq");
    uint64_t least = play->acked != 0 ? play->seqs[play->acked - 1] : 0;

    if (seq == NULL || strtoull(seq, NULL, 10) < least)
        report_problem(player->mixed->report,
                       "session %s: a view shows less than seq %llu, which was acknowledged",
                       player->name, (unsigned long long)least);
    count(player->mixed, &player->mixed->view, player->from_ns, now_ns);
    player->mixed->viewed++;
    player->state = READY;
}

static void has_sent(struct player *player, uint64_t now_ns)
{
    struct mixed *mixed = player->mixed;
    const char *seq = find_member(player->http.body, body_end(&player->http), "seq");

    if (seq == NULL) {
        loop_fail(&mixed->loop, "session %s: an answer without a seq", player->name);
        return;
    }
    play_acked(player->play, strtoull(seq, NULL, 10));
    player->state = READY;
    meter_count(&mixed->meter, 1, now_ns - player->from_ns);
    count(mixed, &mixed->message, player->from_ns, now_ns);
    for (uint32_t i = 0; i < watchers_n; i++)
        watcher_answered(&player->watchers[i], player->play->seqs[player->play->acked - 1]);
}

static void player_ready(struct loop_source *source, uint32_t events)
{
    struct player *player = (struct player *)source;
    static const char *const doing[] = {
        [MAKING] = "making it", [VIEWING] = "a view", [SENDING] = "a message"};

    (void)events;
    enum http_result result = http_go_on(&player->http);
    if (result == HTTP_MORE)
        return;
    uint64_t now_ns = process_now_ns();
    if (result == HTTP_FAILED && player->http.state == HTTP_IDLE) {
        /* The server closes what has been idle for a while. */
        http_close(&player->http);
        connect_http(player->mixed, &player->http, &player->source);
        return;
    }
    if (result == HTTP_FAILED || player->http.status != (player->state == SENDING ? 201 : 200)) {
        fail(player, &player->http, doing[player->state]);
        return;
    }
    if (player->state == MAKING)
        has_made(player, now_ns);
    else if (player->state == VIEWING)
        has_viewed(player, now_ns);
    else
        has_sent(player, now_ns);
    advance(player);
}

/* ---- the run */

static uint64_t planned_ns(const struct mixed *mixed)
{
    return mixed->first_ns + (uint64_t)((double)mixed->planned * SECOND_NS / mixed->options->rate);
}

/* Whether a message is planned and not sent. */
static bool is_planned(const struct mixed *mixed)
{
    return has_rate(mixed) && planned_ns(mixed) < mixed->stop_ns;
}

/* Sends what is due by now, as far as players are ready; returns when the next is due. */
static uint64_t send_planned(void *context, uint64_t now_ns)
{
    struct mixed *mixed = context;
    uint32_t tried = 0;

    while (tried < mixed->options->connections && is_planned(mixed) &&
           planned_ns(mixed) <= now_ns) {
        struct player *player = &mixed->players[mixed->next_player];
        mixed->next_player = (mixed->next_player + 1) % mixed->options->connections;
        if (player->state == READY && keep_up(player)) {
            send_message(player, planned_ns(mixed));
            mixed->planned++;
            tried = 0;
        } else {
            tried++;
        }
    }
    /* One that is late waits for a player, and that for an answer, which ends the pause. */
    return is_planned(mixed) && planned_ns(mixed) > now_ns ? planned_ns(mixed) : UINT64_MAX;
}

static bool all_finished(const void *context)
{
    const struct mixed *mixed = context;

    for (uint32_t i = 0; i < mixed->options->connections; i++) {
        if (mixed->players[i].state != FINISHED)
            return false;
    }
    return true;
}

static void open_players(struct mixed *mixed)
{
    for (uint32_t i = 0; i < mixed->options->connections && mixed->loop.error == NULL; i++) {
        struct player *player = &mixed->players[i];
        player->source.ready = player_ready;
        player->mixed = mixed;
        player->number = i;
        player->sent_ns = must_calloc(mixed->scripts.messages_max, sizeof(uint64_t));
        player->agents = must_calloc(mixed->scripts.agents_max, sizeof(struct agent));
        player->watchers = must_calloc(watchers_n, sizeof(struct watcher));
        for (uint32_t k = 0; k < mixed->scripts.agents_max; k++)
            player->agents[k].http.fd = -1;
        if (connect_http(mixed, &player->http, &player->source) && !begin_play(player))
            player->state = FINISHED;
    }
}

/* What was planned before the end and had to wait: it counts like what did not. */
static void send_late(struct mixed *mixed)
{
    uint64_t end_ns = process_now_ns() + (uint64_t)LATE_S * SECOND_NS;

    while (is_planned(mixed) && mixed->loop.error == NULL && process_now_ns() < end_ns)
        loop_turn(&mixed->loop, end_ns);
    if (is_planned(mixed) && mixed->loop.error == NULL)
        report_problem(mixed->report,
                       "the messages planned for the last %.3f s could not be sent within %d s "
                       "more: the rate is too high",
                       (double)(mixed->stop_ns - planned_ns(mixed)) / SECOND_NS, LATE_S);
    mixed->stop_ns = 0;
}

static void run(struct mixed *mixed)
{
    bool goes_on = true;

    meter_begin(&mixed->meter, mixed->options, mixed->report, copies != 0);
    mixed->stop_ns = UINT64_MAX;
    mixed->first_ns = process_now_ns();
    open_players(mixed);
    while (goes_on && !load_stopped && mixed->loop.error == NULL) {
        uint64_t now_ns = process_now_ns();
        goes_on = meter_turn(&mixed->meter, now_ns) && !(copies != 0 && all_finished(mixed));
        loop_turn(&mixed->loop, now_ns + TURN_MS * 1000000);
    }
    /* What a number of copies is played with ends when all is sent, not at a time. */
    mixed->stop_ns = copies != 0 ? 0 : process_now_ns();
    meter_end(&mixed->meter, process_now_ns(), "acknowledged messages");
    send_late(mixed);
    mixed->over = true;
    for (uint32_t i = 0; i < mixed->options->connections; i++)
        advance(&mixed->players[i]);
    loop_until(&mixed->loop, all_finished, mixed, "all watchers and agents had what is theirs");
    if (mixed->loop.error != NULL)
        report_problem(mixed->report, "%s", mixed->loop.error);
}

static void check(struct mixed *mixed)
{
    struct asker asker;
    uint64_t right = 0;

    if (mixed->told.gaps != 0 || mixed->told.repeats != 0)
        report_problem(mixed->report, "watchers: %llu gaps, %llu repeats",
                       (unsigned long long)mixed->told.gaps,
                       (unsigned long long)mixed->told.repeats);
    if (!asker_open(&asker, mixed->options)) {
        report_problem(mixed->report, "nothing could be read back");
        return;
    }
    for (uint32_t i = 0; i < mixed->plays_n; i++) {
        char name[64];
        play_name(mixed->plays[i], mixed->options->prefix, mixed->run, name);
        right += play_check(mixed->plays[i], name, &asker, mixed->report);
    }
    asker_close(&asker);
    report_checked(mixed->report, "acknowledged messages read back as they were sent, in order",
                   right);
    report_checked(mixed->report, "messages that woke the agent they mention, once, in order",
                   mixed->woken_n);
    report_checked(mixed->report, "events that watchers were told, with no gap and no repeat",
                   mixed->told.patches);
    report_checked(mixed->report, "views that show what was acknowledged", mixed->viewed);
}

static void tell(struct mixed *mixed)
{
    struct report *report = mixed->report;
    const char *from = has_rate(mixed) ? "from the planned time of a message to its answer"
                                       : "from sending a message to its answer";

    report_option(report, "sessions", "%u", mixed->plays_n);
    report_option(report, "watchers", "%u", watchers_n);
    report_option(report, "waits", "%g", waits);
    report_option(report, "reads", "%g", reads);
    report_option(report, "views", "%g", views);
    report_option(report, "copies", "%u", copies);
    report_figure(report, "made", (double)mixed->made_n, "sessions, warm-up included");
    report_figure(report, "content_mean_bytes",
                  (double)mixed->scripts.bytes / (double)mixed->scripts.messages,
                  "of a message's content");
    report_figure(report, "expired", (double)mixed->expired, "waits that ended without a message");
    report_figure(report, "merged", (double)mixed->told.merged, "patches told to slow watchers");
    report_figure(report, "resets", (double)mixed->told.resets, "watchers that began anew");
    report_latency(report, "message", &mixed->message, from);
    report_latency(report, "watched", &mixed->watched, "from the same until a watcher has it");
    report_latency(report, "woken", &mixed->woken,
                   "from the same until the agent that it mentions has it");
    report_latency(report, "ack", &mixed->acknowledged, "an agent's acknowledgement");
    report_latency(report, "read", &mixed->read, "reading the last 20 messages of a thread");
    report_latency(report, "view", &mixed->view, "reading the whole session");
    report_latency(report, "made", &mixed->made, "making a session, its agents and threads");
}

static int mixed_run(const struct load_options *options, struct report *report)
{
    /* Static for its histograms, which the report borrows. */
    static struct mixed mixed;

    if (!scripts_load(&mixed.scripts, file))
        return 2;
    report_option(report, "file", "%s", file);
    report_option(report, "only", "%s", only_messages ? "messages" : "all");
    report_option(report, "payload", "of the file");
    if (only_messages)
        return messages_run(options, report, &mixed.scripts);
    if (strcmp(options->target, "atoll") != 0)
        option_refuse("--target %s takes --only messages, and nothing else", options->target);
    mixed.options = options;
    mixed.report = report;
    mixed.plays_max = copies != 0 ? copies * mixed.scripts.n : UINT32_MAX;
    mixed.players = must_calloc(options->connections, sizeof(struct player));
    if (!loop_open(&mixed.loop) ||
        getrandom(&mixed.run, sizeof(mixed.run), 0) != sizeof(mixed.run)) {
        fprintf(stderr, "atoll-load: %s\n", strerror(errno));
        return 2;
    }
    if (has_rate(&mixed)) {
        mixed.loop.before = send_planned;
        mixed.loop.context = &mixed;
    }
    run(&mixed);
    check(&mixed);
    tell(&mixed);
    return 0;
}

static bool mixed_option(const char *name, const char *value)
{
    if (strcmp(name, "--file") == 0)
        file = value;
    else if (strcmp(name, "--copies") == 0)
        copies = (unsigned)option_integer(name, value, 1, 100000);
    else if (strcmp(name, "--only") == 0)
        only_messages = option_word(name, value, "messages") != NULL;
    else if (strcmp(name, "--watchers") == 0)
        watchers_n = (unsigned)option_integer(name, value, 0, 1000);
    else if (strcmp(name, "--waits") == 0)
        waits = option_number(name, value, 0, 1);
    else if (strcmp(name, "--reads") == 0)
        reads = option_number(name, value, 0, 1);
    else if (strcmp(name, "--views") == 0)
        views = option_number(name, value, 0, 100);
    else
        return false;
    return true;
}

const struct mode mode_mixed = {
    .name = "mixed",
    .summary = "sessions of a transcript, with agents that wait and read and others that watch",
    .help =
        "  --file F           the transcript, NDJSON, plain or gzip\n"
        "                     (default loadtest/data/team.ndjson)\n"
        "  --copies N         plays it N times, however long that takes (default: again and\n"
        "                     again for --seconds)\n"
        "  --watchers N       of each session (default 1)\n"
        "  --waits SHARE      of the agents that wait in their inbox (default 1)\n"
        "  --reads SHARE      of wakings after which the agent reads the thread (default 0.5)\n"
        "  --views SHARE      views for each message (default 0.1)\n"
        "  --only messages    sends its messages and nothing else, to --sessions sessions made\n"
        "                     before; the only form for --target redis\n",
    .targets = "atoll redis",
    .option = mixed_option,
    .run = mixed_run,
};
