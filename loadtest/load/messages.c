/*
 * messages: `mixed --only messages`: the messages of a transcript, sent over --connections
 * connections and nothing else, to compare with what else can store them.
 *
 * Normal path: --sessions sessions are made, with agents and threads, each for one of the
 * transcript's; each belongs to one connection, which sends all messages of one, in order, then
 * those of its next session, and so on, and from the first again. At the end all is read back and
 * compared. With --target redis the same contents go to a stream for each session, and are read
 * back from it. Failure: an answer other than an acknowledgement is a problem of the report.
 *
 * Thread: one.
 */
#include "mixed.h"

#include "drive.h"
#include "options.h"
#include "redis.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* What a connection sends. */
struct lane {
    uint32_t session;
    struct play *sent_to; /* whose message is under way */
    struct text request;
};

struct messages {
    const struct load_options *options;
    struct report *report;
    uint32_t run;
    bool redis;
    char prefix[64]; /* of Redis' streams, of this run alone */
    struct play *plays;
    struct lane *lanes;
};

static void name_of(const struct messages *messages, const struct play *play, char name[64])
{
    play_name(play, messages->options->prefix, messages->run, name);
}

static bool make_sessions(struct messages *messages, struct asker *asker)
{
    for (uint32_t i = 0; i < messages->options->sessions; i++) {
        const struct script *script = messages->plays[i].script;
        char name[64];
        name_of(messages, &messages->plays[i], name);
        ask_post(&asker->request, script->setup, script->setup_size,
                 "/v1/sessions/%s/commands?atomic=true", name);
        const char *wrong = asker_ask(asker);
        if (wrong != NULL) {
            fprintf(stderr, "atoll-load: session %s could not be made: %s\n", name, wrong);
            return false;
        }
    }
    return true;
}

static struct drive_request next(void *context, struct drive_lane *drive_lane)
{
    struct messages *messages = context;
    struct lane *lane = &messages->lanes[drive_lane->number];
    struct play *play = &messages->plays[lane->session];
    const struct script_message *message =
        &play->script->messages[play->acked % play->script->messages_n];
    char name[64];

    lane->request.n = 0;
    if (messages->redis) {
        size_t n = redis_put_key(name, messages->prefix, play->number);
        char *out = text_room(&lane->request, redis_add_room(n, message->content_size));
        lane->request.n =
            redis_put_add(out, name, n, message->content, message->content_size, NULL);
        redis_expect(&drive_lane->http, 1);
    } else {
        name_of(messages, play, name);
        ask_post(&lane->request, message->body, message->body_size,
                 "/v1/sessions/%s/threads/%s/messages", name, message->thread);
        drive_lane->http.keep_body = true;
    }
    lane->sent_to = play;
    return (struct drive_request){lane->request.p, lane->request.n};
}

/* The session's messages were all sent: on to the connection's next session. */
static void next_session(struct messages *messages, struct lane *lane)
{
    lane->session += messages->options->connections;
    if (lane->session >= messages->options->sessions)
        lane->session %= messages->options->connections;
}

static unsigned judge(void *context, struct drive_lane *drive_lane)
{
    struct messages *messages = context;
    struct lane *lane = &messages->lanes[drive_lane->number];
    const struct http *http = &drive_lane->http;
    struct play *play = lane->sent_to;
    const char *seq =
        http->status == 201 ? find_member(http->body, http->body + http->body_size, "seq") : NULL;

    if (messages->redis ? http->status != 200 : seq == NULL) {
        report_problem(messages->report, "a message was answered with %d: %.200s", http->status,
                       http->tail);
        return 0;
    }
    play_acked(play, seq != NULL ? strtoull(seq, NULL, 10) : 0);
    if (play->acked % play->script->messages_n == 0)
        next_session(messages, lane);
    return 1;
}

/* A page of a stream, whose entries go on with message `*at` of the play. Returns how many of them
 * are as they were sent. */
static uint64_t check_page(const struct play *play, const char *p, const char *end, uint32_t *at)
{
    static const char field[] = "\r\n$7\r\ncontent\r\n$";
    uint64_t right = 0;

    while ((p = memmem(p, (size_t)(end - p), field, sizeof(field) - 1)) != NULL) {
        const struct script_message *message =
            &play->script->messages[*at % play->script->messages_n];
        char *content;
        size_t n = strtoull(p + sizeof(field) - 1, &content, 10);
        content += 2;
        if (n + 2 > (size_t)(end - content))
            break;
        right += n == message->content_size && memcmp(content, message->content, n) == 0;
        p = content + n;
        ++*at;
    }
    return right;
}

static uint64_t check_stream(struct messages *messages, const struct play *play,
                             struct asker *asker)
{
    struct load_options options = *messages->options;
    struct verify verify = {.options = &options};
    char next[64] = "-";
    uint64_t right = 0;
    uint32_t at = 0;

    options.prefix = messages->prefix;
    while (next[0] != '\0') {
        const char *wrong = redis_source.page(&verify, asker, play->number, next, sizeof(next));
        if (wrong != NULL) {
            report_problem(messages->report, "stream %u cannot be read back: %s", play->number,
                           wrong);
            return right;
        }
        right += check_page(play, asker->http.body, asker->http.body + asker->http.body_size, &at);
    }
    if (at != play->acked || right != at)
        report_problem(messages->report,
                       "stream %u holds %u messages, %llu as they were sent, and %u were "
                       "acknowledged",
                       play->number, at, (unsigned long long)right, play->acked);
    return right;
}

static void check(struct messages *messages, struct asker *asker)
{
    uint64_t right = 0;

    for (uint32_t i = 0; i < messages->options->sessions; i++) {
        const struct play *play = &messages->plays[i];
        char name[64];
        name_of(messages, play, name);
        right += messages->redis ? check_stream(messages, play, asker)
                                 : play_check(play, name, asker, messages->report);
    }
    report_checked(messages->report, "acknowledged messages read back as they were sent, in order",
                   right);
}

static void free_all(struct messages *messages)
{
    for (uint32_t i = 0; i < messages->options->sessions; i++)
        free(messages->plays[i].seqs);
    for (uint32_t i = 0; i < messages->options->connections; i++)
        free(messages->lanes[i].request.p);
    free(messages->plays);
    free(messages->lanes);
}

int messages_run(const struct load_options *options, struct report *report,
                 const struct scripts *scripts)
{
    struct messages messages = {
        .options = options, .report = report, .redis = strcmp(options->target, "redis") == 0};
    struct drive_work work = {.context = &messages,
                              .next = next,
                              .judge = judge,
                              .go_on = messages.redis ? redis_go_on : http_go_on,
                              .operations = 1,
                              .what = "acknowledged messages"};
    struct asker asker;

    if (options->sessions < options->connections)
        option_refuse("--sessions is %u, and has to be at least --connections, %u",
                      options->sessions, options->connections);
    messages.plays = calloc(options->sessions, sizeof(*messages.plays));
    messages.lanes = calloc(options->connections, sizeof(*messages.lanes));
    if (messages.plays == NULL || messages.lanes == NULL ||
        getrandom(&messages.run, sizeof(messages.run), 0) != sizeof(messages.run)) {
        fprintf(stderr, "atoll-load: %s\n", strerror(errno));
        return 2;
    }
    for (uint32_t i = 0; i < options->sessions; i++)
        messages.plays[i] = (struct play){.script = &scripts->all[i % scripts->n], .number = i};
    for (uint32_t i = 0; i < options->connections; i++)
        messages.lanes[i].session = i;
    snprintf(messages.prefix, sizeof(messages.prefix), "%s-%08x-", options->prefix, messages.run);
    if (!asker_open(&asker, options) || (!messages.redis && !make_sessions(&messages, &asker)) ||
        !drive_run(options, report, &work))
        return 2;
    check(&messages, &asker);
    asker_close(&asker);
    free_all(&messages);
    report_figure(report, "content_mean_bytes", (double)scripts->bytes / (double)scripts->messages,
                  "of a message's content");
    return 0;
}
