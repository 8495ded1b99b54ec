/*
 * For any interleaving of messages, reading, joining and leaving: each agent's inbox holds exactly
 * what a naive model says is unread, also where that has left the windows, and acknowledging a
 * cursor, however late, takes away exactly what its answer held.
 *
 * The model is a list of all messages and, for each agent, the set of those it has not read. It
 * learns from the events who joined what, and of nothing that core/ worked out.
 */
#include "tests/property/core_generator.h"

enum { SEQUENCES = 1200, COMMANDS = 240, AGENTS = 5, ANSWERS = 6, THREADS = 8 };

static const char *const agent_ids[AGENTS] = {"ada", "bob", "c", "D-4_e", "eve"};

struct model_message {
    uint64_t seq;
    int thread;
    int sender;
    bool mentions[AGENTS];
    bool unread[AGENTS];
};

struct answer {
    int agent; /* -1: none yet */
    uint64_t at;
    uint32_t n;
    uint64_t seqs[COMMANDS];
    char *cursor;
};

struct run {
    struct world w;
    struct generator g;
    struct buf log;
    size_t starts[COMMANDS + 1]; /* of each event in the log */
    struct model_message messages[COMMANDS];
    uint32_t messages_n;
    char threads[THREADS][CORE_ID_BYTES + 1];
    uint64_t joined[THREADS][AGENTS]; /* 0: does not take part */
    struct answer answers[ANSWERS];
    uint64_t skip[COMMANDS]; /* of the query that is being made */
};

static int agent_number(struct str id)
{
    for (int i = 0; i < AGENTS; i++) {
        if (str_equal(id, str_of(agent_ids[i])))
            return i;
    }
    return -1;
}

static int thread_number(struct run *run, struct str id)
{
    for (int i = 0; i < THREADS; i++) {
        if (run->threads[i][0] == '\0')
            memcpy(run->threads[i], id.p, id.n);
        if (str_equal(id, str_of(run->threads[i])))
            return i;
    }
    fail_msg("too many threads");
    return -1;
}

/* ---- the model */

static void model_joins(struct run *run, int thread, int agent, uint64_t seq, bool history)
{
    run->joined[thread][agent] = seq;
    for (uint32_t i = 0; i < run->messages_n; i++) {
        struct model_message *m = &run->messages[i];
        if (history && m->thread == thread && m->sender != agent)
            m->unread[agent] = true;
    }
}

static void model_parts(struct run *run, int thread, int agent)
{
    run->joined[thread][agent] = 0;
    for (uint32_t i = 0; i < run->messages_n; i++) {
        if (run->messages[i].thread == thread)
            run->messages[i].unread[agent] = false;
    }
}

static void model_sends(struct run *run, const struct core_event *event)
{
    struct model_message *m = &run->messages[run->messages_n++];
    memset(m, 0, sizeof(*m));
    m->seq = event->seq;
    m->thread = thread_number(run, event->f.thread);
    m->sender = agent_number(event->f.sender);
    for (uint32_t i = 0; i < event->f.mentions.n; i++)
        m->mentions[agent_number(event->f.mentions.items[i])] = true;
    for (int i = 0; i < AGENTS; i++)
        m->unread[i] = run->joined[m->thread][i] != 0 && i != m->sender;
}

static void model_reads(struct run *run, int thread, int agent, uint64_t upto)
{
    for (uint32_t i = 0; i < run->messages_n; i++) {
        if (run->messages[i].thread == thread && run->messages[i].seq <= upto)
            run->messages[i].unread[agent] = false;
    }
}

static void model_acks(struct run *run, const struct answer *answer)
{
    for (uint32_t i = 0; i < run->messages_n; i++) {
        struct model_message *m = &run->messages[i];
        uint64_t joined = run->joined[m->thread][answer->agent];
        for (uint32_t k = 0; k < answer->n; k++) {
            if (answer->seqs[k] == m->seq && joined != 0 && joined <= answer->at)
                m->unread[answer->agent] = false;
        }
    }
}

static void model_applies(struct run *run, const struct core_event *event)
{
    const struct core_fields *f = &event->f;
    int agent = agent_number(f->agent);
    switch (event->type) {
    case CORE_AGENT_LEAVE:
        for (int i = 0; i < THREADS; i++)
            model_parts(run, i, agent);
        break;
    case CORE_THREAD_CREATE:
        for (uint32_t i = 0; i < f->participants.n; i++)
            model_joins(run, thread_number(run, f->thread), agent_number(f->participants.items[i]),
                        event->seq, false);
        break;
    case CORE_THREAD_ADD:
        model_joins(run, thread_number(run, f->thread), agent, event->seq, f->history);
        break;
    case CORE_THREAD_REMOVE:
        model_parts(run, thread_number(run, f->thread), agent);
        break;
    case CORE_MESSAGE_SEND:
        model_sends(run, event);
        break;
    case CORE_THREAD_READ:
        model_reads(run, thread_number(run, f->thread), agent, f->upto);
        break;
    default:
        break;
    }
}

static bool model_holds(const struct model_message *m, const struct core_inbox_query *query)
{
    int agent = agent_number(query->agent);
    for (uint32_t i = 0; i < query->skip_n; i++) {
        if (query->skip[i] == m->seq)
            return false;
    }
    return m->unread[agent] && (!query->mentions || m->mentions[agent]) &&
           (query->from.p == NULL || m->sender == agent_number(query->from));
}

/* ---- core's answers */

static void offer_log(struct run *run, struct core_inbox *inbox, uint64_t from)
{
    for (uint64_t seq = from; seq <= core_session_seq(run->w.s); seq++) {
        struct core_event event;
        size_t start = run->starts[seq - 1];
        struct str in = {run->log.p + start, run->starts[seq] - start};
        assert_int_equal(core_event_decode(&in, &run->w.scratch, &event), 0);
        event.seq = seq;
        if (!core_inbox_offer(run->w.s, inbox, &event))
            return;
    }
}

static json_t *ask(struct run *run, const struct core_inbox_query *query)
{
    struct core_inbox inbox;
    struct buf out = {0};
    core_inbox_begin(&inbox, query);
    uint64_t from = core_inbox_from_state(run->w.s, &inbox);
    if (from != 0)
        offer_log(run, &inbox, from);
    core_inbox_finish(run->w.s, &inbox, &out);
    core_inbox_free(&inbox);
    return parse(&out);
}

/* Compares an answer with the model, and keeps it for an acknowledgement. */
static void expect_answer(struct run *run, const struct core_inbox_query *query,
                          struct answer *answer)
{
    json_t *tree = ask(run, query);
    json_t *messages = json_object_get(tree, "messages");
    uint32_t all = 0;
    answer->agent = agent_number(query->agent);
    answer->at = core_session_seq(run->w.s);
    answer->n = 0;
    for (uint32_t i = 0; i < run->messages_n; i++) {
        const struct model_message *m = &run->messages[i];
        if (!model_holds(m, query) || all++ >= query->limit)
            continue;
        json_t *found = json_array_get(messages, answer->n);
        assert_int_equal(json_integer_value(json_object_get(found, "seq")), m->seq);
        assert_string_equal(json_string_value(json_object_get(found, "thread")),
                            run->threads[m->thread]);
        answer->seqs[answer->n++] = m->seq;
    }
    assert_int_equal(json_array_size(messages), answer->n);
    assert_int_equal(json_integer_value(json_object_get(tree, "remaining")), all - answer->n);
    free(answer->cursor);
    answer->cursor = strdup(json_string_value(json_object_get(tree, "cursor")));
    json_decref(tree);
}

static struct core_inbox_query a_query(struct run *run)
{
    struct core_inbox_query query = {.agent = an_agent(&run->g), .limit = below(&run->g, 8)};
    if (percent(&run->g, 40))
        query.limit = 1000;
    query.mentions = percent(&run->g, 30);
    if (percent(&run->g, 30))
        query.from = an_agent(&run->g);
    if (percent(&run->g, 70))
        return query;
    query.skip = run->skip;
    for (uint32_t i = 0; i < run->messages_n; i++) {
        if (percent(&run->g, 30))
            run->skip[query.skip_n++] = run->messages[i].seq;
    }
    return query;
}

/* ---- a run */

static void append(struct run *run)
{
    core_event_encode(&run->w.event, &run->log);
    run->starts[run->w.event.seq] = run->log.n;
}

static enum core_decision act(struct run *run, const struct core_command *command)
{
    struct world *w = &run->w;
    enum core_decision decision =
        core_decide(w->s, command, w->now_ms, &w->scratch, &w->event, &w->why);
    if (decision != CORE_EVENT)
        return decision;
    append(run);
    model_applies(run, &w->event);
    assert_int_equal(core_apply(w->s, &w->event, &w->why), 0);
    return decision;
}

static void acknowledge(struct run *run)
{
    const struct answer *answer = &run->answers[below(&run->g, ANSWERS)];
    if (answer->agent < 0)
        return;
    struct core_command command = {.type = CORE_INBOX_ACK};
    command.f.agent = str_of(agent_ids[answer->agent]);
    command.f.cursor = str_of(answer->cursor);
    command.f.given = UINT64_C(1) << CORE_FIELD_AGENT | UINT64_C(1) << CORE_FIELD_CURSOR;
    enum core_decision decision = act(run, &command);
    if (decision == CORE_REFUSED) {
        bool there = core_session_has_agent(run->w.s, command.f.agent);
        assert_int_equal(run->w.why.code, there ? CORE_E_REFUSED : CORE_E_UNKNOWN_AGENT);
        return;
    }
    model_acks(run, answer);
    assert_int_equal(act(run, &command), CORE_NOTHING);
}

static void step(struct run *run, int k)
{
    struct core_command *command = arena_alloc(&run->w.scratch, sizeof(*command));
    if (percent(&run->g, 20))
        acknowledge(run);
    if (k < PRELUDE)
        read_command(&run->w.scratch, prelude[k], command);
    else
        do
            a_command(&run->g, run->w.s, command);
        while (command->type == CORE_INBOX_ACK);
    act(run, command);
    struct core_inbox_query query = a_query(run);
    expect_answer(run, &query, &run->answers[below(&run->g, ANSWERS)]);
}

static void run_sequence(struct run *run, uint64_t seed)
{
    struct core_limits limits = small_limits();
    memset(run, 0, sizeof(*run));
    world_open(&run->w, &limits);
    generator_start(&run->g, seed, &run->w.scratch);
    for (int i = 0; i < ANSWERS; i++)
        run->answers[i].agent = -1;
    /* A step takes two events at most. */
    for (int k = 0; k < COMMANDS / 2; k++)
        step(run, k);
    for (int i = 0; i < ANSWERS; i++)
        free(run->answers[i].cursor);
    buf_free(&run->log);
    world_close(&run->w);
}

static void inboxes_equal_the_model(void **state)
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
        cmocka_unit_test_teardown(inboxes_equal_the_model, print_seed),
    };
    return cmocka_run_group_tests_name("core_inbox_property", tests, NULL, NULL);
}
