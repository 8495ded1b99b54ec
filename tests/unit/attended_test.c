/*
 * Leases that run out and are renewed, and agents that are called, in time that the test lets go
 * by; over passivation, kills and clean stops. The courier is the test's own.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

enum { ORDERS_MAX = 1024 };

/* Takes orders and keeps them until the test says how they went. */
struct fake_courier {
    struct wake_courier ops;
    struct wake_order *posted[ORDERS_MAX]; /* the oldest first */
    unsigned posted_n;
    struct wake_order *ready[ORDERS_MAX];
    unsigned ready_n;
    unsigned room; /* of `posted` */
    unsigned most; /* that were posted at once */
};

struct house {
    struct stage stage;
    struct fake_courier courier;
};

static bool courier_post(void *ctx, struct wake_order *order)
{
    struct fake_courier *courier = ctx;
    if (courier->posted_n == courier->room)
        return false;
    courier->posted[courier->posted_n++] = order;
    courier->most = courier->posted_n > courier->most ? courier->posted_n : courier->most;
    return true;
}

static struct wake_order *courier_done(void *ctx, unsigned shard)
{
    struct fake_courier *courier = ctx;
    for (unsigned i = 0; i < courier->ready_n; i++) {
        struct wake_order *order = courier->ready[i];
        if (order->shard != shard)
            continue;
        courier->ready[i] = courier->ready[--courier->ready_n];
        return order;
    }
    return NULL;
}

/* The oldest order comes back. */
static void come_back(struct house *house, enum wake_outcome outcome)
{
    struct fake_courier *courier = &house->courier;
    assert_int_not_equal(courier->posted_n, 0);
    struct wake_order *order = courier->posted[0];
    memmove(courier->posted, courier->posted + 1, --courier->posted_n * sizeof(order));
    order->outcome = outcome;
    snprintf(order->why, sizeof(order->why), "it answered 500");
    courier->ready[courier->ready_n++] = order;
    stage_settle(&house->stage);
}

static void courier_forget(struct fake_courier *courier)
{
    for (unsigned i = 0; i < courier->posted_n; i++)
        wake_order_free(courier->posted[i]);
    for (unsigned i = 0; i < courier->ready_n; i++)
        wake_order_free(courier->ready[i]);
    courier->posted_n = courier->ready_n = 0;
}

static const struct wake_order *only_order(const struct house *house)
{
    assert_int_equal(house->courier.posted_n, 1);
    return house->courier.posted[0];
}

static int open_house(void **state)
{
    struct house *house = malloc(sizeof(*house));
    memset(house, 0, sizeof(*house));
    house->courier.room = ORDERS_MAX;
    house->courier.ops =
        (struct wake_courier){.ctx = &house->courier, .post = courier_post, .done = courier_done};
    stage_prepare(&house->stage, 2);
    house->stage.courier = &house->courier.ops;
    stage_start(&house->stage);
    stage_populate(&house->stage, "s1");
    *state = house;
    return 0;
}

static int close_house(void **state)
{
    struct house *house = *state;
    stage_close(&house->stage);
    courier_forget(&house->courier);
    free(house);
    return 0;
}

static void restart(struct house *house, enum stage_end how)
{
    stage_stop(&house->stage, how);
    courier_forget(&house->courier); /* it ends with the process */
    stage_start(&house->stage);
    stage_settle(&house->stage);
}

/* A piece of the view; the caller frees. */
static char *view_piece(struct stage *stage, const char *session, const char *pointer)
{
    char *text = stage_view(stage, session);
    assert_non_null(text);
    json_t *view = json_loads(text, 0, NULL);
    char path[128];
    snprintf(path, sizeof(path), "/state%s", pointer);
    char *piece = json_dumps(pointer_get(view, path), JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(view);
    free(text);
    return piece;
}

static void expect_piece(struct house *house, const char *pointer, const char *expected)
{
    char *piece = view_piece(&house->stage, "s1", pointer);
    assert_string_equal(piece, expected);
    free(piece);
}

static uint64_t seq_of(struct house *house)
{
    struct request *request = stage_ask_well(&house->stage, request_for(REQUEST_VIEW, "s1"));
    uint64_t seq = request->seq;
    request_free(request);
    return seq;
}

static void expect_ada(struct house *house, const char *status)
{
    char quoted[32];
    snprintf(quoted, sizeof(quoted), "\"%s\"", status);
    expect_piece(house, "/agents/ada/status", quoted);
}

static struct request *touch_of(const char *session, const char *agent)
{
    struct request *request = request_for(REQUEST_TOUCH, session);
    request->agent = request_text(request, agent);
    return request;
}

static struct request *inbox_of(const char *agent, bool wait)
{
    struct request *request = request_for(REQUEST_INBOX, "s1");
    request->inbox = (struct core_inbox_query){.agent = request_text(request, agent), .limit = 100};
    request->wait = wait;
    return request;
}

static void say(struct house *house, const char *what)
{
    stage_do(&house->stage, "s1", what);
}

/* ---- leases */

static void a_lease_that_nobody_renews_makes_its_agent_offline_once(void **state)
{
    struct house *house = *state;
    say(house, "agent.update agent=ada lease_s=5 status=working");
    uint64_t seq = seq_of(house);
    stage_pass(&house->stage, 4999);
    expect_ada(house, "working");
    stage_pass(&house->stage, 1);
    expect_ada(house, "offline");
    stage_pass(&house->stage, 3600 * 1000);
    assert_int_equal(seq_of(house), seq + 1);
}

static void whatever_an_agent_does_renews_its_lease_without_an_event(void **state)
{
    struct house *house = *state;
    say(house, "agent.register agent=ada lease_s=5");
    say(house, "message.send thread=general sender=bob content=x");
    stage_pass(&house->stage, 4000);
    say(house, "message.send thread=general sender=ada content=x");
    stage_pass(&house->stage, 4000);
    uint64_t seq = seq_of(house);
    request_free(stage_ask_well(&house->stage, touch_of("s1", "ada")));
    stage_pass(&house->stage, 4000);
    request_free(stage_ask_well(&house->stage, inbox_of("ada", false)));
    stage_pass(&house->stage, 4000);
    stage_expect_refused(&house->stage, stage_command("s1", "thread.close thread=no by=ada"),
                         CORE_E_UNKNOWN_THREAD);
    stage_pass(&house->stage, 4999);
    expect_ada(house, "idle");
    assert_int_equal(seq_of(house), seq);
    say(house, "message.send thread=general sender=bob content=of-another");
    stage_pass(&house->stage, 1);
    expect_ada(house, "offline");
}

static void a_wait_holds_the_lease_and_its_end_begins_it_anew(void **state)
{
    struct house *house = *state;
    say(house, "agent.update agent=ada lease_s=5");
    struct ask *ask = stage_send(&house->stage, inbox_of("ada", true));
    stage_settle(&house->stage);
    for (int i = 0; i < 10; i++)
        stage_pass(&house->stage, 4000);
    expect_ada(house, "idle");
    stage_pass(&house->stage, 2500);
    request_free(stage_cancel(&house->stage, ask));
    stage_pass(&house->stage, 4999);
    expect_ada(house, "idle");
    stage_pass(&house->stage, 1);
    expect_ada(house, "offline");
}

static void a_lapsed_agent_that_is_heard_of_is_idle_again(void **state)
{
    struct house *house = *state;
    say(house, "agent.update agent=ada lease_s=5 status=working");
    for (int way = 0; way < 3; way++) {
        stage_pass(&house->stage, 5000);
        expect_ada(house, "offline");
        if (way == 0)
            request_free(stage_ask_well(&house->stage, touch_of("s1", "ada")));
        else if (way == 1)
            say(house, "message.send thread=general sender=ada content=x");
        else
            request_free(stage_ask_well(&house->stage, inbox_of("ada", false)));
        stage_settle(&house->stage);
        expect_ada(house, "idle");
    }
    stage_pass(&house->stage, 5000);
    expect_ada(house, "offline");
    say(house, "agent.update agent=ada status=attention");
    stage_settle(&house->stage);
    expect_ada(house, "attention");
    stage_pass(&house->stage, 5000);
    expect_ada(house, "offline");
}

static void a_wait_brings_a_lapsed_agent_back(void **state)
{
    struct house *house = *state;
    say(house, "agent.update agent=ada lease_s=5");
    stage_pass(&house->stage, 5000);
    expect_ada(house, "offline");
    struct ask *ask = stage_send(&house->stage, inbox_of("ada", true));
    stage_settle(&house->stage);
    expect_ada(house, "idle");
    stage_pass(&house->stage, 60000);
    expect_ada(house, "idle");
    request_free(stage_cancel(&house->stage, ask));
}

static void an_agent_that_has_gone_offline_by_itself_stays_so(void **state)
{
    struct house *house = *state;
    say(house, "agent.update agent=ada lease_s=5 status=offline");
    stage_pass(&house->stage, 20000);
    uint64_t seq = seq_of(house);
    request_free(stage_ask_well(&house->stage, touch_of("s1", "ada")));
    stage_settle(&house->stage);
    expect_ada(house, "offline");
    assert_int_equal(seq_of(house), seq);
    say(house, "agent.update agent=ada status=idle");
    stage_pass(&house->stage, 5000);
    expect_ada(house, "offline"); /* now by its lease */
    request_free(stage_ask_well(&house->stage, touch_of("s1", "ada")));
    stage_settle(&house->stage);
    expect_ada(house, "idle");
}

static void a_lease_can_be_changed_removed_and_left_behind(void **state)
{
    struct house *house = *state;
    say(house, "agent.update agent=ada lease_s=5");
    say(house, "agent.update agent=ada lease_s=50");
    stage_pass(&house->stage, 20000);
    expect_ada(house, "idle");
    say(house, "agent.update agent=ada lease_s=2");
    stage_pass(&house->stage, 2000);
    expect_ada(house, "offline");
    say(house, "agent.update agent=ada lease_s=null");
    stage_pass(&house->stage, 100000);
    expect_ada(house, "idle"); /* it was heard of */
    say(house, "agent.update agent=bob lease_s=5");
    say(house, "agent.leave agent=bob");
    say(house, "agent.register agent=bob");
    uint64_t seq = seq_of(house);
    stage_pass(&house->stage, 100000);
    assert_int_equal(seq_of(house), seq);
}

static void touching_names_what_is_not_there(void **state)
{
    struct house *house = *state;
    request_free(stage_ask_well(&house->stage, touch_of("s1", "bob")));
    stage_expect_refused(&house->stage, touch_of("s1", "nobody"), CORE_E_UNKNOWN_AGENT);
    stage_expect_refused(&house->stage, touch_of("nowhere", "ada"), CORE_E_UNKNOWN_SESSION);
}

static void a_closed_or_deleted_session_has_no_leases(void **state)
{
    struct house *house = *state;
    stage_populate(&house->stage, "s2");
    stage_do(&house->stage, "s2", "agent.update agent=ada lease_s=5");
    stage_delete(&house->stage, "s2");
    stage_populate(&house->stage, "s2");
    say(house, "agent.update agent=ada lease_s=5");
    say(house, "session.close");
    uint64_t seq = seq_of(house);
    stage_pass(&house->stage, 100000);
    assert_int_equal(seq_of(house), seq);
    char *status = view_piece(&house->stage, "s2", "/agents/ada/status");
    assert_string_equal(status, "\"idle\"");
    free(status);
}

static void a_session_stays_in_memory_while_a_lease_runs(void **state)
{
    struct house *house = *state;
    struct stage *stage = &house->stage;
    stage_stop(stage, STAGE_CLEAN);
    stage->settings.idle_passivate_ms = 1000;
    stage_start(stage);
    say(house, "agent.update agent=ada lease_s=30");
    for (int i = 0; i < 29; i++)
        stage_pass(stage, 1000);
    assert_true(stage_is_active(stage, "s1"));
    stage_pass(stage, 1000);
    stage_pass(stage, 1000);
    stage_pass(stage, 1000);
    assert_false(stage_is_active(stage, "s1"));
    expect_ada(house, "offline");
}

static void leases_begin_anew_with_the_process_and_run_though_nobody_asks(void **state)
{
    static const enum stage_end ends[] = {STAGE_CLEAN, STAGE_KILL, STAGE_CRASH};
    struct house *house = *state;
    for (unsigned i = 0; i < 3; i++) {
        say(house, "agent.update agent=ada lease_s=10 status=working");
        stage_pass(&house->stage, 9000);
        restart(house, ends[i]);
        assert_true(stage_is_active(&house->stage, "s1"));
        stage_pass(&house->stage, 9999);
        char *view = stage_view_at(&house->stage, "s1", 0);
        free(view);
        expect_ada(house, "working");
        stage_pass(&house->stage, 1);
        expect_ada(house, "offline");
        restart(house, ends[i]);
        stage_pass(&house->stage, 100000);
        expect_ada(house, "offline");
        request_free(stage_ask_well(&house->stage, touch_of("s1", "ada")));
        stage_settle(&house->stage);
        expect_ada(house, "idle");
    }
}

/* More than ATTENDED_ERRANDS commands of the shards' own are due in the same moment. */
static void very_many_leases_may_run_out_at_once(void **state)
{
    enum { SESSIONS = 8, AGENTS = 300 };
    struct house *house = *state;
    struct stage *stage = &house->stage;
    char id[16], line[64];
    for (int i = 0; i < SESSIONS; i++) {
        snprintf(id, sizeof(id), "m%d", i);
        stage_do(stage, id, "session.create");
        for (int a = 0; a < AGENTS; a++) {
            snprintf(line, sizeof(line), "agent.register agent=a%d lease_s=10", a);
            stage_do(stage, id, line);
        }
    }
    stage_pass(stage, 10000);
    for (int i = 0; i < SESSIONS; i++) {
        snprintf(id, sizeof(id), "m%d", i);
        struct request *request = stage_ask_well(stage, request_for(REQUEST_VIEW, id));
        assert_int_equal(request->seq, 1 + 2 * AGENTS); /* each is offline, once */
        request_free(request);
    }
}

static void a_fork_has_its_leases_after_a_start_though_the_clock_was_set_back(void **state)
{
    struct house *house = *state;
    say(house, "agent.update agent=ada lease_s=10 status=working");
    stage_fork(&house->stage, "s1", 5, "copy");
    house->stage.wall_ms -= 3600 * 1000;
    restart(house, STAGE_KILL);
    stage_pass(&house->stage, 10000);
    char *status = view_piece(&house->stage, "copy", "/agents/ada/status");
    assert_string_equal(status, "\"offline\"");
    free(status);
}

static void many_sessions_with_leases_are_all_found_after_a_start(void **state)
{
    enum { MANY = 60 };
    struct house *house = *state;
    struct stage *stage = &house->stage;
    char id[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(id, sizeof(id), "m%d", i);
        stage_populate(stage, id);
        if (i % 2 == 0)
            stage_do(stage, id, "agent.update agent=ada lease_s=10");
    }
    restart(house, STAGE_KILL);
    assert_int_equal(stage_figure(stage, "active"), MANY / 2);
    stage_pass(stage, 10000);
    for (int i = 0; i < MANY; i++) {
        snprintf(id, sizeof(id), "m%d", i);
        char *status = view_piece(stage, id, "/agents/ada/status");
        assert_string_equal(status, i % 2 == 0 ? "\"offline\"" : "\"idle\"");
        free(status);
    }
    restart(house, STAGE_CLEAN); /* by the checkpoint: none runs, but they may be heard of */
    assert_int_equal(stage_figure(stage, "active"), MANY / 2);
}

/* ---- calls */

static void an_agent_with_unread_messages_is_called_with_what_it_needs(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=https://a.example/x secret=SEALED");
    say(house, "message.send thread=general sender=bob content=one");
    say(house, "message.send thread=general sender=bob content=two mentions=ada");
    uint64_t seq = seq_of(house);
    stage_pass(&house->stage, 249);
    assert_int_equal(house->courier.posted_n, 0);
    stage_pass(&house->stage, 1);
    const struct wake_order *order = only_order(house);
    assert_true(str_equal(order->session, STR("s1")) && str_equal(order->agent, STR("ada")));
    assert_true(str_equal(order->url, STR("https://a.example/x")));
    assert_true(str_equal(order->sealed, STR("SEALED")));
    assert_int_equal(order->seq, seq);
    assert_int_equal(order->unread, 2);
    assert_true(order->mentioned && order->epoch.n != 0);
    char line[256];
    snprintf(line, sizeof(line), "inbox.ack agent=ada cursor=%.*s", (int)order->cursor.n,
             order->cursor.p);
    come_back(house, WAKE_DELIVERED);
    say(house, line);
    struct request *left = stage_ask_well(&house->stage, inbox_of("ada", false));
    assert_int_equal(left->unread, 0);
    request_free(left);
    stage_pass(&house->stage, 3600 * 1000);
    assert_int_equal(house->courier.posted_n, 0);
}

static void who_waits_or_comes_to_wait_is_not_called(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h");
    struct ask *ask = stage_send(&house->stage, inbox_of("ada", true));
    stage_settle(&house->stage);
    say(house, "message.send thread=general sender=bob content=one");
    struct request *answer = stage_await(&house->stage, ask);
    assert_int_equal(answer->unread, 1);
    request_free(answer);
    stage_pass(&house->stage, 249);
    struct request *mentions = inbox_of("ada", true); /* it waits for something else now */
    mentions->inbox.mentions = true;
    ask = stage_send(&house->stage, mentions);
    stage_pass(&house->stage, 10000);
    assert_int_equal(house->courier.posted_n, 0);
    request_free(stage_cancel(&house->stage, ask));
    stage_pass(&house->stage, 250);
    assert_int_equal(only_order(house)->unread, 1);
}

static void what_was_read_in_time_is_no_call(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(&house->stage, 100);
    say(house, "thread.read thread=general agent=ada upto=6");
    say(house, "message.send thread=general sender=ada content=own");
    stage_pass(&house->stage, 10000);
    assert_int_equal(house->courier.posted_n, 0);
}

static void only_mentions_are_a_call_where_that_was_asked_for(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h mentions=true");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(&house->stage, 10000);
    assert_int_equal(house->courier.posted_n, 0);
    say(house, "message.send thread=general sender=bob content=two mentions=ada");
    stage_pass(&house->stage, 250);
    assert_int_equal(only_order(house)->unread, 1);
    assert_true(only_order(house)->mentioned);
}

static void a_target_set_with_messages_unread_is_called_at_once(void **state)
{
    struct house *house = *state;
    say(house, "message.send thread=general sender=bob content=one");
    say(house, "agent.wake agent=ada url=http://h");
    stage_pass(&house->stage, 250);
    assert_int_equal(only_order(house)->unread, 1);
    assert_false(only_order(house)->mentioned);
}

static void there_is_one_order_at_a_time_and_the_next_is_for_newer_messages(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(&house->stage, 250);
    uint64_t first = only_order(house)->seq;
    say(house, "message.send thread=general sender=bob content=two");
    stage_pass(&house->stage, 10000);
    only_order(house);
    come_back(house, WAKE_DELIVERED);
    stage_pass(&house->stage, 250);
    assert_true(only_order(house)->seq > first);
    assert_int_equal(only_order(house)->unread, 2);
    come_back(house, WAKE_DELIVERED);
    stage_pass(&house->stage, 3600 * 1000);
    assert_int_equal(house->courier.posted_n, 0);
}

/* How long until the next order; it must come. */
static int64_t time_to_order(struct house *house)
{
    int64_t ms = 0;
    for (; house->courier.posted_n == 0; ms += 50) {
        assert_true(ms < 3600 * 1000);
        stage_pass(&house->stage, 50);
    }
    return ms;
}

static void a_call_that_fails_is_tried_again_and_spared_when_it_goes_on_failing(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(&house->stage, 250);
    uint64_t seq = only_order(house)->seq;
    int64_t pause = 1000;
    for (int failures = 1; failures < 5; failures++, pause *= 2) {
        come_back(house, WAKE_FAILED);
        expect_piece(house, "/agents/ada/wake/breaker", "\"closed\"");
        assert_in_range(time_to_order(house), pause, pause + pause / 4 + 50);
        assert_int_equal(only_order(house)->seq, seq);
    }
    static const int64_t probes[] = {60, 120, 240, 480, 600, 600};
    for (int i = 0; i < 6; i++) {
        come_back(house, WAKE_FAILED);
        expect_piece(house, "/agents/ada/wake/breaker", "\"open\"");
        expect_piece(house, "/agents/ada/wake/why", "\"it answered 500\"");
        int64_t ms = time_to_order(house);
        assert_in_range(ms, probes[i] * 1000, probes[i] * 1250 + 50);
    }
    uint64_t stands = seq_of(house);
    come_back(house, WAKE_DELIVERED);
    expect_piece(house, "/agents/ada/wake/breaker", "\"closed\"");
    expect_piece(house, "/agents/ada/wake/why", "null");
    assert_int_equal(seq_of(house), stands + 1);
    say(house, "message.send thread=general sender=bob content=two");
    stage_pass(&house->stage, 250);
    assert_true(only_order(house)->seq > seq);
}

static void a_target_that_may_not_be_called_is_spared_at_once(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(&house->stage, 250);
    come_back(house, WAKE_REFUSED);
    expect_piece(house, "/agents/ada/wake/breaker", "\"open\"");
    say(house, "message.send thread=general sender=bob content=two");
    stage_pass(&house->stage, 59000);
    assert_int_equal(house->courier.posted_n, 0);
    say(house, "agent.wake agent=ada url=http://h"); /* the same: tried at once */
    expect_piece(house, "/agents/ada/wake/breaker", "\"closed\"");
    stage_pass(&house->stage, 250);
    only_order(house);
}

static void an_order_of_a_target_that_is_gone_changes_nothing(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://old");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(&house->stage, 250);
    say(house, "agent.wake agent=ada url=http://new");
    stage_pass(&house->stage, 250);
    assert_int_equal(house->courier.posted_n, 2);
    uint64_t seq = seq_of(house);
    come_back(house, WAKE_REFUSED); /* the old one's */
    stage_pass(&house->stage, 10000);
    assert_int_equal(seq_of(house), seq);
    assert_true(str_equal(only_order(house)->url, STR("http://new")));
    say(house, "agent.leave agent=ada");
    come_back(house, WAKE_FAILED);
    stage_pass(&house->stage, 100000);
    assert_int_equal(house->courier.posted_n, 0);
    assert_int_equal(seq_of(house), seq + 1);
}

/* Its inbox has been asked for, and the answer comes while the batch is being worked on. */
static void what_half_a_batch_has_done_to_an_agent_is_no_call_and_no_harm(void **state)
{
    static const char *const first[] = {"agent.leave agent=ada", "agent.wake agent=ada url=null",
                                        "agent.wake agent=ada url=http://not-yet"};
    struct house *house = *state;
    struct stage *stage = &house->stage;
    stage_restart(stage, 1, STAGE_CLEAN); /* so that requests are taken as they are sent */
    for (int i = 0; i < 3; i++) {
        char session[8];
        snprintf(session, sizeof(session), "b%d", i);
        stage_populate(stage, session);
        stage_do(stage, session, "agent.wake agent=ada url=http://h");
        stage_do(stage, session, "message.send thread=general sender=bob content=one");
        struct request *batch = stage_command(session, first[i]);
        batch->batch = batch->atomic = true;
        for (int n = 0; n < 40000; n++)
            request_add(batch, "agent.update agent=bob note=x");
        request_add(batch, "message.send thread=nowhere sender=bob content=x");
        io_fake_advance_ms(stage->fakes[0], WAKE_DELAY_MS);
        stage->now_ms += WAKE_DELAY_MS;
        stage_turn(stage); /* asks for the inbox */
        struct ask *ask = stage_send(stage, batch);
        stage_turn(stage);
        assert_non_null(stage->shards[0]->running);
        assert_int_equal(house->courier.posted_n, 0);
        batch = stage_await(stage, ask);
        assert_int_equal(batch->error, CORE_E_REFUSED);
        request_free(batch);
        for (int s = 0; s < 10 && house->courier.posted_n == 0; s++)
            stage_pass(stage, 1000);
        assert_true(str_equal(only_order(house)->url, STR("http://h")));
        come_back(house, WAKE_DELIVERED);
    }
}

static void a_closed_session_calls_nobody(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    say(house, "session.close");
    stage_pass(&house->stage, 100000);
    assert_int_equal(house->courier.posted_n, 0);
    restart(house, STAGE_KILL);
    stage_pass(&house->stage, 100000);
    assert_int_equal(house->courier.posted_n, 0);
}

static void after_a_start_what_is_unread_is_told_again(void **state)
{
    static const enum stage_end ends[] = {STAGE_CLEAN, STAGE_KILL, STAGE_CRASH};
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h secret=S");
    say(house, "message.send thread=general sender=bob content=one mentions=ada");
    for (unsigned i = 0; i < 3; i++) {
        stage_pass(&house->stage, 250);
        assert_int_equal(only_order(house)->unread, 1);
        assert_true(str_equal(only_order(house)->sealed, STR("S")));
        if (i == 1)
            come_back(house, WAKE_DELIVERED);
        restart(house, ends[i]);
        assert_true(stage_is_active(&house->stage, "s1"));
    }
}

static void a_dead_target_is_tried_once_at_a_start(void **state)
{
    struct house *house = *state;
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(&house->stage, 250);
    come_back(house, WAKE_REFUSED);
    restart(house, STAGE_CLEAN);
    stage_pass(&house->stage, 250);
    come_back(house, WAKE_FAILED);
    stage_pass(&house->stage, 59000);
    assert_int_equal(house->courier.posted_n, 0);
    expect_piece(house, "/agents/ada/wake/breaker", "\"open\"");
}

static void a_fork_does_not_call_whom_its_parent_calls(void **state)
{
    struct house *house = *state;
    struct stage *stage = &house->stage;
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    stage_fork(stage, "s1", 6, "copy");
    stage_settle(stage);
    char *breaker = view_piece(stage, "copy", "/agents/ada/wake/breaker");
    assert_string_equal(breaker, "\"open\"");
    free(breaker);
    stage_pass(stage, 250);
    assert_true(str_equal(only_order(house)->session, STR("s1")));
    come_back(house, WAKE_DELIVERED);
    stage_do(stage, "copy", "message.send thread=general sender=bob content=two");
    stage_pass(stage, 3600 * 1000);
    restart(house, STAGE_KILL);
    stage_pass(stage, 250);
    assert_true(str_equal(only_order(house)->session, STR("s1")));
    come_back(house, WAKE_DELIVERED);
    stage_do(stage, "copy", "agent.wake agent=ada url=http://h");
    stage_pass(stage, 250);
    assert_true(str_equal(only_order(house)->session, STR("copy")));
}

static void only_so_many_orders_are_out_and_the_rest_follows(void **state)
{
    enum { MANY = 200 };
    struct house *house = *state;
    struct stage *stage = &house->stage;
    char line[64];
    stage_do(stage, "s1", "agent.register agent=speaker");
    for (int i = 0; i < MANY; i++) {
        snprintf(line, sizeof(line), "agent.register agent=a%d", i);
        say(house, line);
        snprintf(line, sizeof(line), "agent.wake agent=a%d url=http://h%d", i, i);
        say(house, line);
        snprintf(line, sizeof(line), "thread.add thread=general agent=a%d by=ada", i);
        say(house, line);
    }
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(stage, 250);
    assert_int_equal(house->courier.posted_n, WAKES_MAX);
    for (int i = 0; i < MANY; i++)
        come_back(house, WAKE_DELIVERED);
    assert_int_equal(house->courier.most, WAKES_MAX);
    stage_pass(stage, 10000);
    assert_int_equal(house->courier.posted_n, 0);
}

static void a_session_with_many_agents_does_not_hold_up_another(void **state)
{
    enum { MANY = 200 };
    struct house *house = *state;
    struct stage *stage = &house->stage;
    char line[64];
    stage_restart(stage, 1, STAGE_CLEAN); /* so that they share a queue */
    for (int i = 0; i < MANY; i++) {
        snprintf(line, sizeof(line), "agent.register agent=a%d", i);
        say(house, line);
        snprintf(line, sizeof(line), "agent.wake agent=a%d url=http://many", i);
        say(house, line);
        snprintf(line, sizeof(line), "thread.add thread=general agent=a%d by=ada", i);
        say(house, line);
    }
    stage_populate(stage, "s2");
    stage_do(stage, "s2", "agent.wake agent=ada url=http://one");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(stage, 250);
    stage_do(stage, "s2", "message.send thread=general sender=bob content=one");
    stage_pass(stage, 250);
    assert_int_equal(house->courier.posted_n, WAKES_MAX);
    come_back(house, WAKE_FAILED);
    come_back(house, WAKE_FAILED);
    assert_true(str_equal(house->courier.posted[WAKES_MAX - 2]->url, STR("http://one")) ||
                str_equal(house->courier.posted[WAKES_MAX - 1]->url, STR("http://one")));
}

static void an_order_that_the_courier_does_not_take_is_offered_again(void **state)
{
    struct house *house = *state;
    house->courier.room = 0;
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(&house->stage, 5000);
    house->courier.room = ORDERS_MAX;
    stage_pass(&house->stage, 1000);
    assert_int_equal(only_order(house)->unread, 1);
}

static void messages_that_left_the_windows_are_counted_from_the_log(void **state)
{
    struct house *house = *state;
    struct stage *stage = &house->stage;
    stage_talk(stage, "s1", 1300, 5);
    say(house, "agent.register agent=cy");
    say(house, "thread.add thread=general agent=cy by=ada history=true");
    say(house, "agent.wake agent=cy url=http://h");
    stage_pass(stage, 250);
    assert_int_equal(only_order(house)->unread, 1000);
    uint64_t first = only_order(house)->seq;
    come_back(house, WAKE_DELIVERED);
    stage_pass(stage, 100000);
    assert_int_equal(house->courier.posted_n, 0);
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(stage, 250);
    assert_true(only_order(house)->seq > first);
}

static void a_session_with_a_target_leaves_memory_when_all_is_told(void **state)
{
    struct house *house = *state;
    struct stage *stage = &house->stage;
    stage_stop(stage, STAGE_CLEAN);
    stage->settings.idle_passivate_ms = 1000;
    stage_start(stage);
    say(house, "agent.wake agent=ada url=http://h");
    say(house, "message.send thread=general sender=bob content=one");
    stage_pass(stage, 250);
    for (int i = 0; i < 10; i++)
        stage_pass(stage, 1000);
    assert_true(stage_is_active(stage, "s1"));
    come_back(house, WAKE_DELIVERED);
    stage_pass(stage, 1000);
    stage_pass(stage, 1000);
    assert_false(stage_is_active(stage, "s1"));
    say(house, "message.send thread=general sender=bob content=two");
    stage_pass(stage, 250);
    assert_int_equal(only_order(house)->unread, 2);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_house, close_house)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lease_that_nobody_renews_makes_its_agent_offline_once),
        TEST(whatever_an_agent_does_renews_its_lease_without_an_event),
        TEST(a_wait_holds_the_lease_and_its_end_begins_it_anew),
        TEST(a_lapsed_agent_that_is_heard_of_is_idle_again),
        TEST(a_wait_brings_a_lapsed_agent_back),
        TEST(an_agent_that_has_gone_offline_by_itself_stays_so),
        TEST(a_lease_can_be_changed_removed_and_left_behind),
        TEST(touching_names_what_is_not_there),
        TEST(a_closed_or_deleted_session_has_no_leases),
        TEST(a_session_stays_in_memory_while_a_lease_runs),
        TEST(leases_begin_anew_with_the_process_and_run_though_nobody_asks),
        TEST(very_many_leases_may_run_out_at_once),
        TEST(a_fork_has_its_leases_after_a_start_though_the_clock_was_set_back),
        TEST(many_sessions_with_leases_are_all_found_after_a_start),
        TEST(an_agent_with_unread_messages_is_called_with_what_it_needs),
        TEST(who_waits_or_comes_to_wait_is_not_called),
        TEST(what_was_read_in_time_is_no_call),
        TEST(only_mentions_are_a_call_where_that_was_asked_for),
        TEST(a_target_set_with_messages_unread_is_called_at_once),
        TEST(there_is_one_order_at_a_time_and_the_next_is_for_newer_messages),
        TEST(a_call_that_fails_is_tried_again_and_spared_when_it_goes_on_failing),
        TEST(a_target_that_may_not_be_called_is_spared_at_once),
        TEST(an_order_of_a_target_that_is_gone_changes_nothing),
        TEST(what_half_a_batch_has_done_to_an_agent_is_no_call_and_no_harm),
        TEST(a_closed_session_calls_nobody),
        TEST(after_a_start_what_is_unread_is_told_again),
        TEST(a_dead_target_is_tried_once_at_a_start),
        TEST(a_fork_does_not_call_whom_its_parent_calls),
        TEST(only_so_many_orders_are_out_and_the_rest_follows),
        TEST(a_session_with_many_agents_does_not_hold_up_another),
        TEST(an_order_that_the_courier_does_not_take_is_offered_again),
        TEST(messages_that_left_the_windows_are_counted_from_the_log),
        TEST(a_session_with_a_target_leaves_memory_when_all_is_told),
    };
    return cmocka_run_group_tests_name("attended", tests, NULL, NULL);
}
