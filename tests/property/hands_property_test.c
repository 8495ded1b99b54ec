/*
 * For any interleaving of messages, waits, answers that are acknowledged, given back or forgotten,
 * cancellations and time: no message is handed out while it is in another hand of that agent, none
 * is lost, and nobody waits beside a message that is there for it.
 *
 * The model is a list of messages, and for each agent who holds which of them and since when. It
 * knows only what a face does: what it has sent, what came back, and what time it is.
 */
#include "tests/property/core_generator.h"
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

#include "shards/limits.h"

enum { SEQUENCES = 60, STEPS = 300, AGENTS = 3, THREADS = 2, ASKS = 8, HANDS = 24, WINDOW = 6 };

static const char *const agent_ids[AGENTS] = {"ada", "bo", "bob"}; /* one begins another */
static const char *const thread_ids[THREADS] = {"general", "other"};

struct message {
    uint64_t seq;
    int sender;
    bool mentions[AGENTS];
    bool read[AGENTS];
};

/* An answer that came, and was not done with yet. */
struct held {
    int agent; /* -1: none */
    uint64_t handed;
    int64_t until_ms; /* it surely lasts until then, from when it was asked for */
    int64_t gone_ms;  /* it surely is gone then: from when it came */
    uint32_t n;
    uint64_t seqs[8];
    char *cursor;
};

struct question {
    struct ask *ask; /* NULL: none */
    int agent;
    bool mentions;
    int64_t asked_ms;
};

struct run {
    struct stage stage;
    struct generator g;
    struct arena scratch;
    struct message messages[STEPS];
    uint32_t messages_n;
    struct question questions[ASKS];
    struct held held[HANDS];
    unsigned handed, again; /* messages; of them such as had been handed out before */
};

/* ---- the model */

static struct message *message_of(struct run *run, uint64_t seq)
{
    for (uint32_t i = 0; i < run->messages_n; i++) {
        if (run->messages[i].seq == seq)
            return &run->messages[i];
    }
    fail_msg("seq %llu is no message", (unsigned long long)seq);
    return NULL;
}

static bool is_for(const struct message *m, int agent, bool mentions)
{
    return m->sender != agent && !m->read[agent] && (!mentions || m->mentions[agent]);
}

static bool holds(const struct held *held, int agent, uint64_t seq)
{
    for (uint32_t i = 0; held->agent == agent && i < held->n; i++) {
        if (held->seqs[i] == seq)
            return true;
    }
    return false;
}

static bool is_held(const struct run *run, int agent, uint64_t seq, bool surely)
{
    for (int i = 0; i < HANDS; i++) {
        const struct held *held = &run->held[i];
        int64_t end_ms = surely ? held->until_ms : held->gone_ms;
        if (holds(held, agent, seq) && run->stage.now_ms < end_ms)
            return true;
    }
    return false;
}

static void held_end(struct held *held)
{
    free(held->cursor);
    *held = (struct held){.agent = -1};
}

/* ---- what comes */

static struct held *held_free(struct run *run)
{
    for (int i = 0; i < HANDS; i++) {
        struct held *held = &run->held[i];
        if (held->agent >= 0 && run->stage.now_ms >= held->gone_ms)
            held_end(held);
        if (held->agent < 0)
            return held;
    }
    return NULL;
}

static void take_answer(struct run *run, struct question *question)
{
    struct request *answer = stage_await(&run->stage, question->ask);
    struct held *held = held_free(run);
    json_t *tree = json_of(stage_text(answer));
    json_t *messages = json_object_get(tree, "messages");
    size_t n = json_array_size(messages);
    question->ask = NULL;
    assert_int_equal(answer->error, 0);
    assert_non_null(held);
    assert_int_equal(n != 0, answer->handed != 0);
    for (size_t i = 0; i < n; i++) {
        json_t *seq = json_object_get(json_array_get(messages, i), "seq");
        struct message *m = message_of(run, (uint64_t)json_integer_value(seq));
        assert_true(m->sender != question->agent);
        assert_true(!question->mentions || m->mentions[question->agent]);
        if (is_held(run, question->agent, m->seq, true))
            fail_msg("seq %llu was handed to %s twice", (unsigned long long)m->seq,
                     agent_ids[question->agent]);
        held->seqs[i] = m->seq;
    }
    run->handed += (unsigned)n;
    if (n != 0) {
        held->agent = question->agent;
        held->handed = answer->handed;
        held->n = (uint32_t)n;
        held->until_ms = question->asked_ms + HANDED_MS;
        held->gone_ms = run->stage.now_ms + HANDED_MS;
        held->cursor = strdup(json_string_value(json_object_get(tree, "cursor")));
    }
    json_decref(tree);
    request_free(answer);
}

static void take_answers(struct run *run)
{
    for (int i = 0; i < ASKS; i++) {
        struct question *question = &run->questions[i];
        if (question->ask != NULL && question->ask->done)
            take_answer(run, question);
    }
}

/* All that was sent has been done: who still waits has nothing to wait beside. */
static void settle(struct run *run)
{
    stage_settle(&run->stage);
    take_answers(run);
    for (int i = 0; i < ASKS; i++) {
        const struct question *question = &run->questions[i];
        for (uint32_t k = 0; question->ask != NULL && k < run->messages_n; k++) {
            const struct message *m = &run->messages[k];
            if (is_for(m, question->agent, question->mentions) &&
                !is_held(run, question->agent, m->seq, false))
                fail_msg("%s waits beside seq %llu", agent_ids[question->agent],
                         (unsigned long long)m->seq);
        }
    }
}

/* ---- what is done */

static void say(struct run *run)
{
    struct message *m = &run->messages[run->messages_n++];
    int mentioned = (int)below(&run->g, AGENTS);
    char line[128];
    *m = (struct message){.sender = (int)below(&run->g, AGENTS)};
    bool mentions = mentioned != m->sender && percent(&run->g, 50);
    snprintf(line, sizeof(line), "message.send thread=%s sender=%s content=x%s%s",
             thread_ids[below(&run->g, THREADS)], agent_ids[m->sender],
             mentions ? " mentions=" : "", mentions ? agent_ids[mentioned] : "");
    m->mentions[mentioned] = mentions;
    m->seq = stage_do(&run->stage, "s1", line);
    take_answers(run);
}

static void ask(struct run *run)
{
    struct question *question = &run->questions[below(&run->g, ASKS)];
    if (question->ask != NULL || held_free(run) == NULL)
        return;
    struct request *request = request_for(REQUEST_INBOX, "s1");
    question->agent = (int)below(&run->g, AGENTS);
    question->mentions = percent(&run->g, 30);
    question->asked_ms = run->stage.now_ms;
    request->inbox = (struct core_inbox_query){.agent = str_of(agent_ids[question->agent]),
                                               .mentions = question->mentions,
                                               .limit = 1 + (uint32_t)below(&run->g, 4)};
    request->hand = true;
    request->wait = percent(&run->g, 70);
    question->ask = stage_send(&run->stage, request);
}

/* The rooms for answers are kept free: there are as many as there may be answers. */
static bool has_room(struct run *run)
{
    unsigned room = 0, asked = 0;
    for (int i = 0; i < HANDS; i++)
        room += run->held[i].agent < 0 || run->stage.now_ms >= run->held[i].gone_ms;
    for (int i = 0; i < ASKS; i++)
        asked += run->questions[i].ask != NULL;
    return room > asked;
}

static void cancel(struct run *run)
{
    struct question *question = &run->questions[below(&run->g, ASKS)];
    if (question->ask == NULL)
        return;
    struct request *request = request_for(REQUEST_CANCEL, "s1");
    request->token = question->ask->request->token;
    assert_int_equal(mailbox_send(&run->stage.mailboxes[0], request), 0);
    while (!question->ask->done)
        stage_turn(&run->stage);
    take_answers(run);
}

static void give_back(struct run *run, struct held *held)
{
    struct request *request = request_for(REQUEST_UNHAND, "s1");
    request->agent = str_of(agent_ids[held->agent]);
    request->handed = held->handed;
    struct ask *ask = stage_send(&run->stage, request);
    held_end(held); /* from now on it may be handed out again */
    request_free(stage_await(&run->stage, ask));
    take_answers(run);
}

static void acknowledge(struct run *run, struct held *held)
{
    struct buf line = {0};
    for (uint32_t i = 0; i < held->n; i++) {
        struct message *m = message_of(run, held->seqs[i]);
        run->again += m->read[held->agent];
        m->read[held->agent] = true;
    }
    buf_add_literal(&line, "inbox.ack agent=");
    buf_add(&line, agent_ids[held->agent], strlen(agent_ids[held->agent]));
    buf_add_literal(&line, " cursor=");
    buf_add(&line, held->cursor, strlen(held->cursor) + 1);
    held_end(held);
    stage_do(&run->stage, "s1", line.p);
    buf_free(&line);
    take_answers(run);
}

static void step(struct run *run)
{
    struct held *held = &run->held[below(&run->g, HANDS)];
    uint64_t die = below(&run->g, 100);
    if (die < 30)
        say(run);
    else if (die < 60 && has_room(run))
        ask(run);
    else if (die < 65)
        cancel(run);
    else if (die < 75 && held->agent >= 0)
        give_back(run, held);
    else if (die < 90 && held->agent >= 0)
        acknowledge(run, held);
    else if (die < 95)
        stage_pass(&run->stage, (int64_t)below(&run->g, HANDED_MS / 2));
    else
        settle(run);
    take_answers(run);
}

/* ---- a run */

static void open_run(struct run *run, uint64_t seed)
{
    memset(run, 0, sizeof(*run));
    generator_start(&run->g, seed, &run->scratch);
    stage_prepare(&run->stage, 1);
    run->stage.limits.max[CORE_LIMIT_WINDOW_MESSAGES] = percent(&run->g, 50) ? WINDOW : STEPS;
    run->stage.settings.idle_passivate_ms = 1000;
    stage_start(&run->stage);
    for (int i = 0; i < HANDS; i++)
        run->held[i].agent = -1;
    stage_do(&run->stage, "s1", "session.create");
    for (int i = 0; i < AGENTS; i++) {
        char line[64];
        snprintf(line, sizeof(line), "agent.register agent=%s", agent_ids[i]);
        stage_do(&run->stage, "s1", line);
    }
    for (int i = 0; i < THREADS; i++) {
        char line[128];
        snprintf(line, sizeof(line),
                 "thread.create creator=ada name=x participants=bo,bob thread=%s", thread_ids[i]);
        stage_do(&run->stage, "s1", line);
    }
}

/* What is left is handed out, each once: so nothing was lost, and nothing is in a hand for ever. */
static void empty(struct run *run, int agent)
{
    for (;;) {
        struct question *question = &run->questions[0];
        struct request *request = request_for(REQUEST_INBOX, "s1");
        request->inbox = (struct core_inbox_query){.agent = str_of(agent_ids[agent]), .limit = 8};
        request->hand = true;
        *question = (struct question){.agent = agent, .asked_ms = run->stage.now_ms};
        question->ask = stage_send(&run->stage, request);
        stage_settle(&run->stage);
        take_answer(run, question);
        struct held *held = NULL;
        for (int i = 0; i < HANDS; i++)
            held = run->held[i].agent >= 0 ? &run->held[i] : held;
        if (held == NULL)
            break;
        acknowledge(run, held);
    }
    for (uint32_t i = 0; i < run->messages_n; i++) {
        if (is_for(&run->messages[i], agent, false))
            fail_msg("seq %llu never came to %s", (unsigned long long)run->messages[i].seq,
                     agent_ids[agent]);
    }
}

static void run_sequence(struct run *run, uint64_t seed)
{
    open_run(run, seed);
    for (int i = 0; i < STEPS; i++)
        step(run);
    settle(run);
    for (int i = 0; i < ASKS; i++) {
        if (run->questions[i].ask != NULL)
            request_free(stage_cancel(&run->stage, run->questions[i].ask));
        run->questions[i].ask = NULL;
    }
    for (int i = 0; i < HANDS; i++) {
        if (run->held[i].agent >= 0)
            give_back(run, &run->held[i]);
    }
    stage_pass(&run->stage, HANDED_MS); /* what was forgotten */
    for (int i = 0; i < AGENTS; i++)
        empty(run, i);
    assert_int_equal(run->stage.shards[0]->handed, 0);
    assert_true(run->handed > 0);
    stage_close(&run->stage);
    arena_free(&run->scratch);
}

static void each_message_is_in_one_hand_at_a_time_and_none_is_lost(void **state)
{
    (void)state;
    static struct run run;
    uint64_t seed = first_seed();
    for (int i = 0; i < SEQUENCES; i++)
        run_sequence(&run, seed + (uint64_t)i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(each_message_is_in_one_hand_at_a_time_and_none_is_lost,
                                  print_seed),
    };
    return cmocka_run_group_tests_name("hands_property", tests, NULL, NULL);
}
