/*
 * Big batches, stopping under load, and everything at once, through a whole cluster.
 */
#include "tests/unit/cluster_fixture.h"

/* ---- big batches */

enum { BIG = 40000 /* commands: many slices, however quick the machine */ };

static struct call *big_batch(struct rig *rig, unsigned frontend, const char *session, unsigned n)
{
    struct call *call = call_commands(rig, frontend, session, NULL);
    call->request->batch = true;
    for (unsigned i = 0; i < n; i++)
        request_add(call->request, "message.send thread=general sender=ada content=x");
    return call;
}

/* What is sent behind a big batch to another session is answered before it: the batch runs in
 * slices. Replies of one shard come in the order in which they left it. */
static void a_big_batch_does_not_hold_up_other_sessions(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    populate_session(rig, "s2");
    struct call *calls[] = {
        big_batch(rig, 0, "s1", BIG),
        call_commands(rig, 0, "s2", "message.send thread=general sender=ada content=x", NULL),
        call_new(rig, 0, request_for(REQUEST_VIEW, "s2"))};
    calls_send(calls, 3);
    for (int i = 0; i < 3; i++)
        expect_error(call_wait(calls[i]), 0);
    assert_true(calls[1]->order < calls[0]->order);
    assert_true(calls[2]->order < calls[0]->order);
    assert_int_equal(calls[0]->request->seq, BIG + 5);
    for (int i = 0; i < 3; i++)
        call_free(calls[i]);
    assert_int_equal(count_events(rig, "s1"), BIG + 5);
}

static void what_comes_for_a_busy_session_keeps_its_order(void **state)
{
    struct rig *rig = *state;
    enum { BEHIND = 60 };
    populate_session(rig, "s1");
    struct call *calls[1 + BEHIND];
    calls[0] = big_batch(rig, 0, "s1", BIG);
    for (int i = 1; i <= BEHIND; i++) {
        if (i % 5 == 0)
            calls[i] = call_new(rig, 0, request_for(REQUEST_VIEW, "s1"));
        else if (i == 31)
            calls[i] = big_batch(rig, 0, "s1", 5000);
        else
            calls[i] = call_commands(rig, 0, "s1",
                                     "message.send thread=general sender=bob content=y", NULL);
    }
    calls_send(calls, 1 + BEHIND);
    /* Views have a lane of their own: each shows one of the states, and they show them in order. */
    uint64_t seq = BIG + 5, seen = 0, order = 0, view_order = 0;
    for (int i = 0; i <= BEHIND; i++) {
        bool view = i != 0 && i % 5 == 0;
        expect_error(call_wait(calls[i]), 0);
        if (i != 0 && !view)
            seq += calls[i]->request->commands_n;
        if (view)
            assert_in_range(calls[i]->request->seq, seen, BIG + 5 + BEHIND + 5000);
        else
            assert_int_equal(calls[i]->request->seq, seq);
        assert_true(calls[i]->order > (view ? view_order : order));
        *(view ? &view_order : &order) = calls[i]->order;
        seen = view ? calls[i]->request->seq : seen;
    }
    for (int i = 0; i <= BEHIND; i++)
        call_free(calls[i]);
}

static void a_queue_behind_a_busy_session_is_bounded(void **state)
{
    struct rig *rig = *state;
    enum { BEHIND = SESSION_QUEUE_MAX + 10 };
    populate_session(rig, "s1");
    struct call **calls = mem_alloc((1 + BEHIND) * sizeof(*calls));
    calls[0] = big_batch(rig, 0, "s1", BIG);
    for (int i = 1; i <= BEHIND; i++)
        calls[i] = call_new(rig, 0, request_for(REQUEST_VIEW, "s1"));
    calls_send(calls, 1 + BEHIND);
    unsigned refused = 0;
    for (int i = 0; i <= BEHIND; i++) {
        call_wait(calls[i]);
        if (calls[i]->request->error != 0) {
            expect_error(calls[i], REQUEST_E_OVERLOADED);
            assert_true(calls[i]->order < calls[0]->order);
            refused++;
        }
        if (i != 0)
            call_free(calls[i]);
    }
    call_free(calls[0]);
    free(calls);
    assert_true(refused > 0 && refused <= BEHIND - SESSION_QUEUE_MAX);
}

/* Half of a batch is nobody's business: not a list's, not that of a wait that is cancelled. */
static void nothing_is_shown_of_a_batch_that_is_being_worked_on(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct call *wait = held(inbox_call(rig, 0, "bob", false, true));
    struct call *batch = big_batch(rig, 0, "s1", BIG);
    request_add(batch->request, "message.send thread=none sender=ada content=x");
    batch->request->atomic = true; /* and so nothing of it will be applied */
    struct call *list = call_new(rig, 0, list_request((struct str){0}, 10));
    list->shard = 0;
    struct call *late = inbox_call(rig, 0, "bob", false, true);
    struct call *calls[] = {batch, list, cancel_of(wait), late, cancel_of(late)};
    calls_send(calls, 5);
    expect_error(call_wait(batch), CORE_E_REFUSED);
    call_wait(list);
    buf_add_byte(&list->request->body, '\0');
    assert_non_null(strstr(list->request->body.p, "\"seq\":5,"));
    call_wait(wait);
    expect_at(wait, "/messages", "[]");
    call_wait(late);
    expect_at(late, "/messages", "[]");
    call_free(wait);
    for (int i = 0; i < 5; i++)
        call_free(call_wait(calls[i]));
}

/* ---- stopping */

static void it_stops_cleanly_with_waits_held_and_feeds_open(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    struct follower *follower = follower_new(rig, 1, "s1");
    follower_start(follower);
    follower_wait_live(follower);
    struct call *waits[8];
    for (unsigned i = 0; i < 8; i++)
        waits[i] = held(inbox_call(rig, i % 3, "bob", false, true));
    char *view = rig_view(rig, 0, "s1");
    rig_stop(rig);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(waits[i]->done);
        expect_at(waits[i], "/messages", "[]");
        call_free(waits[i]);
    }
    expect_no_gap(follower);
    follower_free(follower);
    rig_start(rig);
    expect_same_view(rig, 2, "s1", view);
    free(view);
}

static void it_stops_when_the_grace_has_run_out(void **state)
{
    struct rig *rig = *state;
    rig_stop(rig);
    rig->options.grace_ms = 20;
    rig_start(rig);
    populate_session(rig, "s1");
    struct call *wait = held(inbox_call(rig, 1, "bob", false, true));
    rig_linger(rig, 1);
    rig_stop(rig);
    assert_false(wait->done);
    call_free(wait); /* it went down with its shard */
}

/* Then there is an fdatasync to wait for. */
static void it_stops_cleanly_when_commits_are_relaxed(void **state)
{
    struct rig *rig = *state;
    rig_stop(rig);
    rig->options.durability = LOG_RELAXED;
    rig_start(rig);
    populate_session(rig, "s1");
    char *view = rig_view(rig, 0, "s1");
    for (int i = 0; i < 5; i++) {
        rig_restart(rig, 3);
        expect_same_view(rig, 1, "s1", view);
        rig_do(rig, 2, "s1", "session.update labels=a:b");
        uint64_t seq = rig_do(rig, 2, "s1", "session.update labels=a:null");
        assert_int_equal(seq, 7 + 2 * i);
        free(view);
        view = rig_view(rig, 0, "s1");
    }
    free(view);
}

static void it_stops_again_and_again_while_commands_are_under_way(void **state)
{
    struct rig *rig = *state;
    populate_session(rig, "s1");
    uint64_t acknowledged = 5;
    for (int round = 0; round < 20; round++) {
        enum { CALLS = 30 };
        struct call *calls[CALLS];
        for (unsigned i = 0; i < CALLS; i++) {
            calls[i] = call_commands(rig, i % 3, "s1",
                                     "message.send thread=general sender=ada content=x", NULL);
            call_send(calls[i]);
        }
        if (round % 2 == 0)
            call_wait(calls[CALLS - 1]);
        RIG_UNTIL(rig, rig->faces[0]->errands == NULL && rig->faces[1]->errands == NULL &&
                           rig->faces[2]->errands == NULL);
        rig_restart(rig, 3);
        for (unsigned i = 0; i < CALLS; i++) {
            assert_true(calls[i]->done);
            expect_error(calls[i], 0);
            acknowledged++;
            call_free(calls[i]);
        }
        assert_int_equal(count_events(rig, "s1"), acknowledged);
    }
}

/* ---- everything at once */

enum { STORM_SESSIONS = 9, STORM_CALLS = 24, STORM_SENDS = 4000 };

struct storm {
    struct rig *rig;
    unsigned sends[RIG_FACES_MAX]; /* the face's own */
    unsigned busy;                 /* calls that go on; the rest under the rig's mutex */
    uint64_t acknowledged[STORM_SESSIONS];
    uint64_t replayed, mismatched, failed;
    struct buf seqs[STORM_SESSIONS]; /* uint64_t each */
};

struct storm_call {
    struct call call;
    struct storm *storm;
    unsigned session;
    unsigned number;  /* of the send: its key and its content */
    unsigned repeats; /* left, of the same key */
    uint64_t seq;     /* as first answered */
};

static void storm_send(struct storm_call *sending)
{
    struct call *call = &sending->call;
    char text[128];
    snprintf(text, sizeof(text), "s%u", sending->session);
    struct request *request = request_for(REQUEST_COMMANDS, text);
    snprintf(text, sizeof(text), "message.send thread=general sender=ada content=f%u-%u",
             call->face->number, sending->number);
    request_add(request, text);
    snprintf(text, sizeof(text), "f%u-%u", call->face->number, sending->number);
    request->key = request_text(request, text);
    call->request = request;
    call_send_here(call);
}

static void storm_answered(struct call *call)
{
    struct storm_call *sending = (struct storm_call *)call;
    struct storm *storm = sending->storm;
    struct request *request = call->request;
    rig_lock(storm->rig);
    if (call->sent != 0 || request->error != 0) {
        storm->failed++;
    } else if (sending->seq == 0) {
        storm->failed += request->replayed;
        storm->acknowledged[sending->session]++;
        buf_add(&storm->seqs[sending->session], &request->seq, sizeof(request->seq));
        sending->seq = request->seq;
    } else {
        storm->replayed++;
        storm->mismatched += !request->replayed || request->seq != sending->seq;
    }
    rig_unlock(storm->rig);
    request_free(request);
    if (sending->repeats != 0) {
        sending->repeats--;
    } else if (storm->sends[call->face->number] != 0) {
        unsigned n = storm->sends[call->face->number]--;
        sending->number = n;
        sending->session = (n * 7 + call->face->number) % STORM_SESSIONS;
        sending->repeats = n % 4 == 0;
        sending->seq = 0;
    } else {
        call->request = NULL;
        rig_lock(storm->rig);
        storm->busy--;
        rig_changed(storm->rig);
        rig_unlock(storm->rig);
        return;
    }
    storm_send(sending);
}

static void run_storm_send(struct face *face, struct errand *errand)
{
    struct storm_call *sending = (struct storm_call *)errand;
    unsigned n = sending->storm->sends[face->number]--;
    sending->number = n;
    sending->session = n % STORM_SESSIONS;
    sending->repeats = n % 4 == 0;
    storm_send(sending);
}

static int seq_order(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Each acknowledged seq is of another command, and between the first and the last there is none
 * that nobody was told of. */
static void expect_storm_session(struct storm *storm, unsigned number)
{
    char session[16];
    snprintf(session, sizeof(session), "s%u", number);
    uint64_t *seqs = (uint64_t *)(void *)storm->seqs[number].p;
    uint64_t n = storm->acknowledged[number];
    qsort(seqs, n, sizeof(*seqs), seq_order);
    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(seqs[i], 6 + i);
    assert_int_equal(count_events(storm->rig, session), 5 + n);
}

static void everything_at_once(void **state)
{
    struct rig *rig = *state;
    unsigned faces = rig->options.shards;
    struct storm storm = {.rig = rig, .busy = faces * STORM_CALLS};
    char session[16];
    for (unsigned i = 0; i < STORM_SESSIONS; i++) {
        snprintf(session, sizeof(session), "s%u", i);
        populate_session(rig, session);
    }
    struct follower *followers[RIG_FACES_MAX][STORM_SESSIONS];
    for (unsigned f = 0; f < faces; f++) {
        for (unsigned i = 0; i < STORM_SESSIONS; i++) {
            snprintf(session, sizeof(session), "s%u", i);
            followers[f][i] = follower_new(rig, f, session);
            if ((f + i) % 2 == 0)
                follower_start(followers[f][i]);
        }
    }
    struct storm_call *calls = mem_alloc(faces * STORM_CALLS * sizeof(*calls));
    for (unsigned f = 0; f < faces; f++) {
        storm.sends[f] = STORM_SENDS;
        for (unsigned i = 0; i < STORM_CALLS; i++) {
            struct storm_call *sending = &calls[f * STORM_CALLS + i];
            *sending = (struct storm_call){.storm = &storm};
            sending->call = (struct call){
                .rig = rig, .face = rig->faces[f], .shard = -1, .then = storm_answered};
            sending->call.errand.run = run_storm_send;
            rig_post(rig, f, &sending->call.errand);
        }
    }
    /* The other half begins in the middle: half of them at a snapshot, half in the log. */
    RIG_UNTIL(rig, storm.acknowledged[0] > STORM_SENDS / STORM_SESSIONS / 3);
    for (unsigned f = 0; f < faces; f++) {
        for (unsigned i = 0; i < STORM_SESSIONS; i++) {
            followers[f][i]->has_after = i % 2 == 0;
            followers[f][i]->after = 5;
            if ((f + i) % 2 != 0)
                follower_start(followers[f][i]);
        }
    }
    RIG_UNTIL(rig, storm.busy == 0);
    free(calls);
    assert_int_equal(storm.failed, 0);
    assert_int_equal(storm.mismatched, 0);
    assert_int_equal(storm.replayed, faces * STORM_SENDS / 4);
    uint64_t all = 0;
    for (unsigned i = 0; i < STORM_SESSIONS; i++) {
        expect_storm_session(&storm, i);
        all += storm.acknowledged[i];
        for (unsigned f = 0; f < faces; f++) {
            follower_wait_told(followers[f][i], 5 + storm.acknowledged[i]);
            assert_int_equal(followers[f][i]->told, 5 + storm.acknowledged[i]);
            expect_no_gap(followers[f][i]);
            if (followers[f][i]->snapshots != 0 && f == 0)
                expect_folds_to_view(followers[f][i]);
        }
    }
    assert_int_equal(all, faces * STORM_SENDS);
    for (unsigned i = 0; i < faces * STORM_SESSIONS; i++)
        follower_free(followers[i % faces][i / faces]);
    rig_restart(rig, faces);
    for (unsigned i = 0; i < STORM_SESSIONS; i++) {
        expect_storm_session(&storm, i);
        buf_free(&storm.seqs[i]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_big_batch_does_not_hold_up_other_sessions, open_large_segments),
        TEST(what_comes_for_a_busy_session_keeps_its_order, open_large_segments),
        TEST(a_queue_behind_a_busy_session_is_bounded, open_large_segments),
        TEST(nothing_is_shown_of_a_batch_that_is_being_worked_on, open_large_segments),
        TEST(it_stops_cleanly_with_waits_held_and_feeds_open, open_three),
        TEST(it_stops_when_the_grace_has_run_out, open_three),
        TEST(it_stops_cleanly_when_commits_are_relaxed, open_three),
        TEST(it_stops_again_and_again_while_commands_are_under_way, open_three),
        TEST(everything_at_once, open_four),
    };
    return cluster_run(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
