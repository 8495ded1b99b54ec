/*
 * Sessions whose state or records cannot be relied on: made anew from the log, or shut away, while
 * everything else goes on.
 */
#include "tests/unit/shards_fixture.h"
#include "tests/unit/stage.h"

#include <dirent.h>

enum { IDLE_MS = 1000 };

static int open_two(void **state)
{
    struct stage *stage = malloc(sizeof(*stage));
    stage_prepare(stage, 2);
    stage->settings.idle_passivate_ms = IDLE_MS;
    stage_start(stage);
    stage_populate(stage, "s1");
    stage_populate(stage, "s2");
    *state = stage;
    return 0;
}

static int close_stage(void **state)
{
    stage_close(*state);
    free(*state);
    return 0;
}

/* ---- short ways to say it */

static const char say[] = "message.send thread=general sender=ada content=x";

static struct session *session_of(struct stage *stage, const char *id)
{
    return session_find(stage_shard_of(stage, id), str_of(id));
}

/* The next message breaks an invariant. */
static void plant(struct stage *stage, const char *id)
{
    core_break_invariant_for_test(session_of(stage, id)->core, CORE_MESSAGE_SEND);
}

static void break_once(struct stage *stage, const char *id)
{
    plant(stage, id);
    stage_expect_refused(stage, stage_command(id, say), CORE_E_INVARIANT);
    stage_settle(stage);
}

static void break_for_good(struct stage *stage, const char *id)
{
    for (int i = 0; i < QUARANTINE_AFTER; i++)
        break_once(stage, id);
    assert_int_equal(stage_figure(stage, "quarantined"), 1);
}

static void expect_quarantined(struct stage *stage, struct request *request)
{
    stage_expect_refused(stage, request, REQUEST_E_QUARANTINED);
}

static void rebuild(struct stage *stage, const char *id, uint64_t seq)
{
    struct request *answer = stage_ask_well(stage, request_for(REQUEST_REBUILD, id));
    assert_int_equal(answer->seq, seq);
    expect_json(stage_text(answer), "/rebuilt", "true");
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)seq);
    expect_json(stage_text(answer), "/seq", text);
    request_free(answer);
}

static struct request *list_request(void)
{
    struct request *request = request_for(REQUEST_LIST, NULL);
    request->limit = 10;
    return request;
}

/* Whether a list shows it. */
static bool is_listed(struct stage *stage, const char *id)
{
    struct request *request = list_request();
    request->session = request_text(request, id); /* so it goes to the right shard */
    stage_ask_well(stage, request);
    bool listed = strstr(stage_text(request), id) != NULL;
    request_free(request);
    return listed;
}

/* In the file that holds it, the first of these bytes is another one from now on. */
static void rot(struct stage *stage, const char *bytes)
{
    DIR *dir = opendir(stage_path(stage));
    unsigned spoiled = 0;
    assert_non_null(dir);
    for (struct dirent *at; (at = readdir(dir)) != NULL;) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", stage_path(stage), at->d_name);
        struct buf file = at->d_name[0] != '.' ? file_read(path) : (struct buf){0};
        char *found = file.n != 0 ? memmem(file.p, file.n, bytes, strlen(bytes)) : NULL;
        if (found != NULL) {
            FILE *f = fopen(path, "r+b");
            assert_int_equal(fseek(f, found - file.p, SEEK_SET), 0);
            assert_int_equal(fputc(bytes[0] ^ 1, f), bytes[0] ^ 1);
            assert_int_equal(fclose(f), 0);
            spoiled++;
        }
        buf_free(&file);
    }
    closedir(dir);
    assert_int_equal(spoiled, 1);
}

/* A record that is read when the session is, in a block that is not written again. 305 events. */
static void write_precious(struct stage *stage)
{
    stage_shard_of(stage, "s1")->settings.snapshot_bytes = UINT64_MAX;
    stage_do(stage, "s1", "message.send thread=general sender=ada content=precious");
    stage_talk(stage, "s1", 300, 40);
}

/* ---- made anew */

static void a_command_that_breaks_an_invariant_is_refused_and_leaves_nothing(void **state)
{
    struct stage *stage = *state;
    char *view = stage_view(stage, "s1"), *proof = stage_proof(stage, "s1", 0);
    break_once(stage, "s1");
    assert_int_equal(stage_figure(stage, "broken"), 1);
    assert_int_equal(stage_figure(stage, "rebuilds"), 1);
    assert_int_equal(stage_figure(stage, "quarantined"), 0);
    stage_expect_view(stage, "s1", view);
    char *proof_again = stage_proof(stage, "s1", 0);
    assert_string_equal(proof, proof_again);
    assert_int_equal(stage_do(stage, "s1", say), 5);
    stage_restart(stage, 2, STAGE_KILL);
    stage_expect_whole(stage, "s1", 5);
    free(view);
    free(proof);
    free(proof_again);
}

static void a_batch_that_breaks_one_is_refused_whole(void **state)
{
    struct stage *stage = *state;
    for (int atomic = 0; atomic < 2; atomic++) {
        struct request *batch = request_for(REQUEST_COMMANDS, "s1");
        request_add(batch, "agent.register agent=cy");
        request_add(batch, say);
        request_add(batch, "agent.register agent=dan");
        batch->batch = true;
        batch->atomic = atomic;
        plant(stage, "s1");
        stage_expect_refused(stage, batch, CORE_E_INVARIANT);
        stage_settle(stage);
        char *view = stage_view(stage, "s1");
        expect_json(view, "/seq", "4");
        expect_json(view, "/state/agents/cy", NULL);
        free(view);
    }
    assert_int_equal(stage_do(stage, "s1", "agent.register agent=cy"), 5);
}

static void a_session_that_was_only_being_made_leaves_nothing(void **state)
{
    struct stage *stage = *state;
    /* It breaks in a later slice of the batch that creates it: nothing is in the log that it could
     * be made anew from, and what has queued behind it is answered. */
    enum { MANY = 40000 };
    struct request *batch = request_for(REQUEST_COMMANDS, "s3");
    request_add(batch, "session.create");
    request_add(batch, "agent.register agent=ada");
    for (int i = 0; i < MANY; i++)
        request_add(batch, "agent.update agent=ada status=working");
    request_add(batch, "agent.register agent=bob");
    batch->batch = true;
    struct ask *broken = stage_send(stage, batch);
    while (session_of(stage, "s3") == NULL)
        stage_turn(stage);
    assert_true(session_of(stage, "s3")->busy);
    core_break_invariant_for_test(session_of(stage, "s3")->core, CORE_AGENT_REGISTER);
    struct ask *behind = stage_send(stage, stage_command("s3", say));
    struct request *answer = stage_await(stage, broken);
    assert_int_equal(answer->error, CORE_E_INVARIANT);
    request_free(answer);
    answer = stage_await(stage, behind);
    assert_int_equal(answer->error, CORE_E_UNKNOWN_SESSION);
    request_free(answer);
    assert_null(session_of(stage, "s3"));
    assert_int_equal(stage_do(stage, "s3", "session.create"), 1);
    assert_int_equal(stage_figure(stage, "quarantined"), 0);
}

static void requests_meanwhile_wait_and_keep_their_order(void **state)
{
    struct stage *stage = *state;
    enum { MANY = 20 };
    struct ask *asks[MANY];
    stage_talk(stage, "s1", 50, 40); /* 5 … 54 */
    plant(stage, "s1");
    struct ask *broken = stage_send(stage, stage_command("s1", say));
    for (int i = 0; i < MANY; i++)
        asks[i] = stage_send(stage, stage_command("s1", say));
    struct request *answer = stage_await(stage, broken);
    assert_int_equal(answer->error, CORE_E_INVARIANT);
    request_free(answer);
    for (int i = 0; i < MANY; i++) {
        answer = stage_await(stage, asks[i]);
        assert_int_equal(answer->error, 0);
        assert_int_equal(answer->seq, 55 + i);
        request_free(answer);
    }
    stage_expect_whole(stage, "s1", 5);
}

static void what_was_logged_just_before_is_in_what_is_made_anew(void **state)
{
    struct stage *stage = *state;
    struct session *session = session_of(stage, "s1");
    struct ask *before = stage_send(stage, stage_command("s1", "agent.register agent=cy"));
    plant(stage, "s1");
    struct ask *broken = stage_send(stage, stage_command("s1", say));
    struct request *answer = stage_await(stage, broken);
    assert_int_equal(answer->error, CORE_E_INVARIANT);
    request_free(answer);
    answer = stage_await(stage, before);
    assert_int_equal(answer->seq, 5);
    request_free(answer);
    stage_settle(stage);
    assert_ptr_equal(session, session_of(stage, "s1"));
    char *view = stage_view(stage, "s1");
    expect_json(view, "/seq", "5");
    free(view);
}

static void watchers_and_waits_stay(void **state)
{
    struct stage *stage = *state;
    struct watch watch = {0};
    stage_follow(stage, &watch, "s1", UINT64_MAX);
    struct request *wait = request_for(REQUEST_INBOX, "s1");
    wait->inbox = (struct core_inbox_query){.agent = STR("bob"), .limit = 10};
    wait->wait = true;
    struct ask *ask = stage_send(stage, wait);
    stage_settle(stage);
    break_once(stage, "s1");
    assert_false(ask->done);
    assert_int_equal(watch.lost, 0);
    assert_int_equal(stage_do(stage, "s1", say), 5);
    stage_settle(stage);
    struct request *answer = stage_await(stage, ask);
    expect_json(stage_text(answer), "/messages/0/seq", "5");
    request_free(answer);
    assert_int_equal(stage_shard_of(stage, "s1")->waiting, 0);
    stage_unfollow(stage, &watch, "s1");
    watch_free(&watch);
}

static void keys_survive_it(void **state)
{
    struct stage *stage = *state;
    struct request *first = stage_command("s1", say), *again = stage_command("s1", say);
    first->key = request_text(first, "k1");
    again->key = request_text(again, "k1");
    request_free(stage_ask_well(stage, first));
    break_once(stage, "s1");
    stage_ask_well(stage, again);
    assert_true(again->replayed);
    assert_int_equal(again->seq, 5);
    request_free(again);
}

/* Memory that has gone bad: an event that is not in the log. */
static void spoil(struct session *session)
{
    struct core_refusal why;
    struct core_event event;
    struct arena scratch = {0};
    struct core_command command = {0};
    struct request *request = stage_command("s1", "agent.register agent=ghost");
    command = request->commands[0].command;
    assert_int_equal(core_decide(session->core, &command, 0, &scratch, &event, &why), CORE_EVENT);
    assert_int_equal(core_apply(session->core, &event, &why), 0);
    arena_free(&scratch);
    request_free(request);
}

static void watchers_of_what_was_wrong_begin_anew(void **state)
{
    struct stage *stage = *state;
    struct watch watch = {0}, again = {0};
    stage_follow(stage, &watch, "s1", UINT64_MAX);
    spoil(session_of(stage, "s1"));
    break_once(stage, "s1");
    stage_settle(stage);
    assert_int_equal(watch.lost, 1);
    stage_follow(stage, &again, "s1", 4);
    assert_string_equal(again.reset, "the session was made anew from its log");
    char *view = stage_view(stage, "s1");
    expect_json(view, "/state/agents/ghost", NULL);
    expect_json(view, "/seq", "4");
    free(view);
    assert_int_equal(stage_do(stage, "s1", say), 5);
    stage_expect_whole(stage, "s1", 5);
    stage_unfollow(stage, &again, "s1");
    watch_free(&watch);
    watch_free(&again);
}

/* ---- shut away */

static void the_third_break_in_a_minute_puts_it_into_quarantine(void **state)
{
    struct stage *stage = *state;
    break_once(stage, "s1");
    break_once(stage, "s1");
    assert_int_equal(stage_figure(stage, "quarantined"), 0);
    break_once(stage, "s1");
    assert_int_equal(stage_figure(stage, "quarantined"), 1);
    expect_quarantined(stage, stage_command("s1", say));
    expect_quarantined(stage, request_for(REQUEST_VIEW, "s1"));
    expect_quarantined(stage, request_for(REQUEST_DELETE, "s1"));
    expect_quarantined(stage, stage_fork_request("s1", 0, "child"));
    assert_false(is_listed(stage, "s1"));
    /* The other one knows nothing of it. */
    assert_true(is_listed(stage, "s2"));
    assert_int_equal(stage_do(stage, "s2", say), 5);
}

static void breaks_that_are_far_apart_do_not(void **state)
{
    struct stage *stage = *state;
    stage->shards[0]->settings.idle_passivate_ms = 0;
    stage->shards[1]->settings.idle_passivate_ms = 0;
    for (int i = 0; i < 2 * QUARANTINE_AFTER; i++) {
        break_once(stage, "s1");
        stage_pass(stage, QUARANTINE_WITHIN_MS / 2);
    }
    assert_int_equal(stage_figure(stage, "quarantined"), 0);
    assert_int_equal(stage_figure(stage, "rebuilds"), 2 * QUARANTINE_AFTER);
    assert_int_equal(stage_do(stage, "s1", say), 5);
}

static void the_status_says_which_and_why(void **state)
{
    struct stage *stage = *state;
    break_for_good(stage, "s1");
    struct request *status = request_for(REQUEST_STATUS, NULL);
    status->session = request_text(status, "s1");
    stage_ask_well(stage, status);
    expect_json(stage_text(status), "/quarantine/0/session", "\"s1\"");
    assert_non_null(strstr(stage_text(status), "An invariant of the session would break"));
    request_free(status);
}

static void a_rebuild_lifts_it(void **state)
{
    struct stage *stage = *state;
    char *view = stage_view(stage, "s1");
    break_for_good(stage, "s1");
    rebuild(stage, "s1", 4);
    assert_int_equal(stage_figure(stage, "quarantined"), 0);
    stage_expect_view(stage, "s1", view);
    assert_true(is_listed(stage, "s1"));
    assert_int_equal(stage_do(stage, "s1", say), 5);
    /* And it is forgiven: it takes as many breaks as before. */
    break_once(stage, "s1");
    assert_int_equal(stage_figure(stage, "quarantined"), 0);
    free(view);
}

static void a_rebuild_of_a_good_session_changes_nothing(void **state)
{
    struct stage *stage = *state;
    stage_talk(stage, "s1", 100, 40);
    char *proof = stage_proof(stage, "s1", 0);
    rebuild(stage, "s1", 104);
    char *again = stage_proof(stage, "s1", 0);
    assert_string_equal(proof, again);
    stage_passivate(stage);
    rebuild(stage, "s1", 104);
    stage_expect_whole(stage, "s1", 5);
    stage_expect_refused(stage, request_for(REQUEST_REBUILD, "none"), CORE_E_UNKNOWN_SESSION);
    free(proof);
    free(again);
}

static void a_restart_tries_it_again(void **state)
{
    struct stage *stage = *state;
    for (int i = 0; i < 2; i++) {
        break_for_good(stage, "s1");
        stage_restart(stage, 2, i == 0 ? STAGE_KILL : STAGE_CLEAN);
        assert_int_equal(stage_figure(stage, "sessions"), 2);
        assert_int_equal(stage_do(stage, "s1", say), 5 + i);
    }
    stage_expect_whole(stage, "s1", 5);
}

static void waits_and_watchers_are_told_of_it(void **state)
{
    struct stage *stage = *state;
    struct watch watch = {0};
    stage_follow(stage, &watch, "s1", UINT64_MAX);
    struct request *wait = request_for(REQUEST_INBOX, "s1");
    wait->inbox = (struct core_inbox_query){.agent = STR("bob"), .limit = 10};
    wait->wait = true;
    struct ask *ask = stage_send(stage, wait);
    stage_settle(stage);
    break_for_good(stage, "s1");
    struct request *answer = stage_await(stage, ask);
    assert_int_equal(answer->error, REQUEST_E_QUARANTINED);
    request_free(answer);
    assert_int_equal(watch.lost, 1);
    assert_int_equal(stage_shard_of(stage, "s1")->waiting, 0);
    assert_false(stage_is_active(stage, "s1"));
    watch_free(&watch);
}

static void leases_go_on_after_it(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, "s1", "agent.register agent=cy lease_s=5");
    break_once(stage, "s1");
    stage_pass(stage, 4000);
    char *view = stage_view(stage, "s1");
    expect_json(view, "/state/agents/cy/status", "\"idle\"");
    free(view);
    stage_pass(stage, 2000);
    stage_settle(stage);
    view = stage_view(stage, "s1");
    expect_json(view, "/state/agents/cy/status", "\"offline\"");
    free(view);
}

/* Its log is being read for an inbox, in pieces, when its state goes: by the end of its life, or by
 * a quarantine. At every turn that this may come in. */
static void it_may_go_while_its_inbox_is_read(void **state)
{
    struct stage *stage = *state;
    enum { BATCHES = 20, BATCH = 400 };
    bool ended = false, read = false;
    for (unsigned i = 0; i < BATCHES; i++) {
        struct request *batch = request_for(REQUEST_COMMANDS, "s1");
        for (unsigned n = 0; n < BATCH; n++)
            request_add(batch, say);
        batch->batch = true;
        request_free(stage_ask_well(stage, batch));
    }
    for (unsigned turns = 0; turns < 24; turns++) {
        char id[8];
        snprintf(id, sizeof(id), "r%u", turns);
        stage_fork(stage, "s1", BATCHES * BATCH, id);
        struct request *inbox = request_for(REQUEST_INBOX, id);
        inbox->inbox = (struct core_inbox_query){.agent = STR("bob"), .limit = 1000};
        struct ask *asked = stage_send(stage, inbox);
        for (unsigned i = 0; i < turns; i++)
            stage_turn(stage);
        bool broken = turns % 2 != 0;
        for (int i = 0; broken && i < QUARANTINE_AFTER; i++)
            break_once(stage, id);
        if (!broken)
            stage_delete(stage, id);
        struct request *answer = stage_await(stage, asked);
        unsigned gone = broken ? (unsigned)REQUEST_E_QUARANTINED : (unsigned)CORE_E_UNKNOWN_SESSION;
        assert_true(answer->error == 0 || answer->error == gone);
        read = read || answer->error == 0;
        ended = ended || answer->error != 0;
        request_free(answer);
    }
    assert_true(read && ended);
}

/* ---- records that cannot be read */

static void a_record_that_has_rotted_shuts_its_session_away_alone(void **state)
{
    struct stage *stage = *state;
    write_precious(stage);
    stage_do(stage, "s2", "message.send thread=general sender=ada content=other");
    stage_passivate(stage);
    rot(stage, "precious");
    expect_quarantined(stage, request_for(REQUEST_VIEW, "s1"));
    expect_quarantined(stage, stage_command("s1", say));
    assert_int_equal(stage_figure(stage, "load_failures"), 1); /* and not once for each request */
    assert_int_equal(stage_do(stage, "s2", say), 6);
    expect_quarantined(stage, request_for(REQUEST_REBUILD, "s1"));
    assert_int_equal(stage_figure(stage, "quarantined"), 1);
    rot(stage, "qrecious"); /* back again, from a copy, say */
    rebuild(stage, "s1", 305);
    assert_int_equal(stage_figure(stage, "quarantined"), 0);
    stage_expect_whole(stage, "s1", 5);
}

static void one_that_breaks_and_cannot_be_read_is_shut_away_at_once(void **state)
{
    struct stage *stage = *state;
    write_precious(stage);
    rot(stage, "precious");
    break_once(stage, "s1");
    assert_int_equal(stage_figure(stage, "quarantined"), 1);
    expect_quarantined(stage, request_for(REQUEST_VIEW, "s1"));
    stage_restart(stage, 2, STAGE_CLEAN);
    assert_int_equal(stage_figure(stage, "sessions"), 2);
    expect_quarantined(stage, request_for(REQUEST_VIEW, "s1"));
}

static void one_with_a_ttl_ends_in_its_time_once_it_is_rebuilt(void **state)
{
    struct stage *stage = *state;
    stage_do(stage, "s3", "session.create ttl_s=10");
    stage_do(stage, "s3", "agent.register agent=ada");
    stage_do(stage, "s3", "thread.create thread=general creator=ada name=G participants=ada");
    break_for_good(stage, "s3");
    stage_pass(stage, 20 * 1000);
    assert_int_equal(stage_figure(stage, "expired"), 0);
    rebuild(stage, "s3", 3);
    stage_pass(stage, 1000);
    assert_int_equal(stage_figure(stage, "expired"), 1);
    stage_expect_refused(stage, request_for(REQUEST_VIEW, "s3"), CORE_E_UNKNOWN_SESSION);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_two, close_stage)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_command_that_breaks_an_invariant_is_refused_and_leaves_nothing),
        TEST(a_batch_that_breaks_one_is_refused_whole),
        TEST(a_session_that_was_only_being_made_leaves_nothing),
        TEST(requests_meanwhile_wait_and_keep_their_order),
        TEST(what_was_logged_just_before_is_in_what_is_made_anew),
        TEST(watchers_and_waits_stay),
        TEST(keys_survive_it),
        TEST(watchers_of_what_was_wrong_begin_anew),
        TEST(the_third_break_in_a_minute_puts_it_into_quarantine),
        TEST(breaks_that_are_far_apart_do_not),
        TEST(the_status_says_which_and_why),
        TEST(a_rebuild_lifts_it),
        TEST(a_rebuild_of_a_good_session_changes_nothing),
        TEST(a_restart_tries_it_again),
        TEST(waits_and_watchers_are_told_of_it),
        TEST(leases_go_on_after_it),
        TEST(it_may_go_while_its_inbox_is_read),
        TEST(a_record_that_has_rotted_shuts_its_session_away_alone),
        TEST(one_that_breaks_and_cannot_be_read_is_shut_away_at_once),
        TEST(one_with_a_ttl_ends_in_its_time_once_it_is_rebuilt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
