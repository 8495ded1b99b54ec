/*
 * History with real threads: sessions go and come, are forked over shards, deleted and compacted
 * while others write; restarts with other numbers of shards.
 */
#include "tests/unit/cluster_fixture.h"

#include "shards/datadir.h"

static int open_busy(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    rig_prepare(rig, 3, io_kind);
    rig->options.segment_bytes = 128 * 1024;
    rig->options.settings.idle_passivate_ms = 1; /* whenever nobody looks */
    rig->options.grace_ms = 10 * 1000;           /* far more than a stop needs */
    rig->options.settings.checkpoint_bytes = 64 * 1024;
    rig->options.settings.compact_after_ms = 1;
    rig->options.limits.max[CORE_LIMIT_WINDOW_MESSAGES] = 4;
    rig_start(rig);
    *state = rig;
    return 0;
}

static char *body_at(struct rig *rig, unsigned frontend, enum request_kind kind,
                     const char *session, uint64_t seq)
{
    struct request *request = request_for(kind, session);
    request->at = (struct request_at){.given = true, .seq = seq};
    struct call *call = rig_ask(rig, frontend, request);
    expect_error(call, 0);
    char *body = strdup(call_body(call));
    call_free(call);
    return body;
}

/* Contents long enough that a session gets a snapshot every few messages. */
static void talk(struct rig *rig, unsigned frontend, const char *session, unsigned n)
{
    char *line = NULL;
    for (unsigned i = 0; i < n; i++) {
        assert_true(asprintf(&line, "message.send thread=general sender=ada content=%0*u",
                             3000 + (int)i, i) > 0);
        rig_do(rig, frontend, session, line);
        free(line);
    }
}

static void fork_of(struct rig *rig, unsigned frontend, const char *parent, uint64_t at,
                    const char *child)
{
    struct request *request = request_for(REQUEST_FORK, child);
    request->parent = request_text(request, parent);
    request->at = (struct request_at){.given = true, .seq = at};
    struct call *call = rig_ask(rig, frontend, request);
    expect_error(call, 0);
    call_free(call);
}

static uint64_t figure(struct rig *rig, const char *name)
{
    uint64_t sum = 0;
    for (unsigned shard = 0; shard < rig->options.shards; shard++) {
        struct call *call = call_new(rig, 0, request_for(REQUEST_STATUS, NULL));
        call->shard = (int)shard;
        answered_well(call);
        json_t *tree = json_of(call_body(call));
        json_t *found = json_object_get(tree, name);
        assert_non_null(found);
        sum += (uint64_t)json_integer_value(found);
        json_decref(tree);
        call_free(call);
    }
    return sum;
}

/* Not by the end of the grace: all has been written down, whatever compaction was at. */
static void expect_clean_stop(struct rig *rig)
{
    char error[512] = "";
    struct datadir_options options = {.read_only = true};
    struct datadir *dir = NULL;
    rig_stop(rig);
    int result = fs_posix_open(rig->options.data, false, &options.fs, error, sizeof(error));
    if (result == 0)
        result = datadir_open(&options, &dir, error, sizeof(error));
    if (result != 0)
        fail_msg("%s", error);
    bool clean = datadir_was_clean(dir);
    datadir_close(dir, clean);
    assert_true(clean);
}

enum { FAMILIES = 6 };

struct known {
    char *view, *proof, *past;
};

/* A parent and a fork of it, mostly on another shard. */
static void names(unsigned i, char parent[16], char child[16])
{
    snprintf(parent, 16, "parent-%u", i);
    snprintf(child, 16, "child-%u", i);
}

static void make_families(struct rig *rig, struct known *known)
{
    char parent[16], child[16];
    for (unsigned i = 0; i < FAMILIES; i++) {
        names(i, parent, child);
        populate_session(rig, parent);
        talk(rig, i % 3, parent, 30);
        fork_of(rig, (i + 1) % 3, parent, 20, child);
        talk(rig, i % 3, child, 10);
        if (i % 2 == 0)
            call_free(answered_well(call_new(rig, 0, request_for(REQUEST_DELETE, parent))));
        known[i].view = rig_view(rig, 0, child);
        known[i].proof = body_at(rig, 1, REQUEST_PROOF, child, 31);
        known[i].past = body_at(rig, 2, REQUEST_VIEW, child, 15);
    }
}

static void expect_families(struct rig *rig, const struct known *known)
{
    char parent[16], child[16];
    unsigned frontends = rig->options.shards;
    for (unsigned i = 0; i < FAMILIES; i++) {
        names(i, parent, child);
        expect_same_view(rig, i % frontends, child, known[i].view);
        char *proof = body_at(rig, (i + 1) % frontends, REQUEST_PROOF, child, 31);
        char *past = body_at(rig, (i + 2) % frontends, REQUEST_VIEW, child, 15);
        assert_string_equal(proof, known[i].proof);
        assert_string_equal(past, known[i].past);
        char *of_parent = rig_view(rig, 0, parent);
        assert_int_equal(of_parent == NULL, i % 2 == 0);
        free(of_parent);
        free(proof);
        free(past);
    }
    assert_int_equal(figure(rig, "forks"), FAMILIES);
    assert_int_equal(figure(rig, "pins"), FAMILIES);
}

static void forks_over_shards_outlive_their_parents_and_restarts(void **state)
{
    struct rig *rig = *state;
    struct known known[FAMILIES];
    static const unsigned counts[] = {3, 2, 4, 1, 3};
    make_families(rig, known);
    expect_families(rig, known);
    for (int i = 0; i < 5; i++) {
        rig_restart(rig, counts[i]);
        expect_families(rig, known);
    }
    for (unsigned i = 0; i < FAMILIES; i++) {
        free(known[i].view);
        free(known[i].proof);
        free(known[i].past);
    }
}

/* Each of many callers does its own next thing when it is answered: writes, looks into the past,
 * lists; and sessions leave memory whenever they can. */
struct crowd {
    struct rig *rig;
    unsigned out, refused;
    unsigned left; /* under the rig's lock */
};

struct caller {
    struct crowd *crowd;
    unsigned number, at;
    char session[16];
};

static struct request *next_request(struct caller *caller)
{
    struct request *request;
    switch (caller->at++ % 6) {
    case 1:
        request = request_for(REQUEST_VIEW, caller->session);
        request->at = (struct request_at){.given = true, .seq = 1 + caller->at % 5};
        return request;
    case 2:
        request = request_for(REQUEST_EVENTS, caller->session);
        request->descending = caller->number % 2 == 0;
        request->limit = 20;
        return request;
    case 3:
        request = request_for(REQUEST_PROOF, caller->session);
        return request;
    case 4:
        return request_for(REQUEST_VIEW, caller->session);
    default:
        request = request_for(REQUEST_COMMANDS, caller->session);
        request_add(request, "message.send thread=general sender=ada content=in-the-crowd");
        return request;
    }
}

static void caller_answered(struct call *call)
{
    struct caller *caller = call->owner;
    struct crowd *crowd = caller->crowd;
    unsigned error = call->request->error;
    request_free(call->request);
    rig_lock(crowd->rig);
    crowd->refused += error != 0;
    bool over = crowd->left == 0;
    crowd->left -= !over;
    crowd->out -= over;
    rig_changed(crowd->rig);
    rig_unlock(crowd->rig);
    if (over) {
        free(call);
        return;
    }
    call->request = next_request(caller);
    call_send_here(call);
}

static void sessions_go_and_come_under_load_and_nothing_is_lost(void **state)
{
    struct rig *rig = *state;
    enum { CALLERS = 24, CALLS = 4000, SESSIONS = 8 };
    struct caller callers[CALLERS];
    struct crowd crowd = {.rig = rig, .out = CALLERS, .left = CALLS};
    for (unsigned i = 0; i < SESSIONS; i++) {
        char id[16];
        snprintf(id, sizeof(id), "crowd-%u", i);
        populate_session(rig, id);
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.crowd = &crowd, .number = i, .at = i};
        snprintf(callers[i].session, sizeof(callers[i].session), "crowd-%u", i % SESSIONS);
        struct call *call = call_new(rig, i % 3, next_request(&callers[i]));
        call->then = caller_answered;
        call->owner = &callers[i];
        call_send(call);
    }
    /* Beside them sessions are made, forked and deleted, so that there is something to compact. */
    for (unsigned i = 0; i < 12; i++) {
        char id[16], fork[16];
        snprintf(id, sizeof(id), "short-%u", i);
        snprintf(fork, sizeof(fork), "fork-%u", i);
        populate_session(rig, id);
        talk(rig, i % 3, id, 12);
        fork_of(rig, (i + 1) % 3, id, 10, fork);
        call_free(answered_well(call_new(rig, 0, request_for(REQUEST_DELETE, id))));
        if (i % 2 == 0)
            call_free(answered_well(call_new(rig, 0, request_for(REQUEST_DELETE, fork))));
    }
    RIG_UNTIL(rig, crowd.out == 0);
    assert_int_equal(crowd.refused, 0);
    uint64_t events = 0;
    for (unsigned i = 0; i < SESSIONS; i++) {
        char id[16];
        snprintf(id, sizeof(id), "crowd-%u", i);
        events += count_events(rig, id) - 5;
    }
    assert_true(events >= CALLS / 3);
    char *view = rig_view(rig, 0, "crowd-0"), *fork = rig_view(rig, 0, "fork-1");
    rig_restart(rig, 2);
    expect_same_view(rig, 1, "crowd-0", view);
    expect_same_view(rig, 1, "fork-1", fork);
    expect_clean_stop(rig);
    free(view);
    free(fork);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(forks_over_shards_outlive_their_parents_and_restarts, open_busy),
        TEST(sessions_go_and_come_under_load_and_nothing_is_lost, open_busy),
    };
    return cluster_run(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
