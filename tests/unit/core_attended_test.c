/*
 * Leases and wake targets as the state has them: what is agreed, refused and shown; what comes of a
 * lease that runs out and of a breaker; what snapshots hold of it. Time and calls are the shard's.
 */
#include "tests/unit/core_fixture.h"

static int setup(void **state)
{
    setup_empty(state);
    expect_event(*state, "session.create");
    expect_event(*state, "agent.register agent=ada");
    expect_event(*state, "agent.register agent=bob lease_s=30");
    return 0;
}

/* The shard's command: the lease has run out, or the agent was heard of. */
static enum core_decision lapse(struct world *w, const char *agent, bool lapsed)
{
    struct core_command command = {
        .type = CORE_AGENT_UPDATE,
        .f = {.given = UINT64_C(1) << CORE_FIELD_AGENT | UINT64_C(1) << CORE_FIELD_LAPSED,
              .agent = str_of(agent),
              .lapsed = lapsed}};
    enum core_decision decision =
        core_decide(w->s, &command, w->now_ms, &w->scratch, &w->event, &w->why);
    if (decision == CORE_EVENT)
        assert_int_equal(apply_decoded(w), 0);
    return decision;
}

static struct core_attended attended(const struct world *w, const char *agent)
{
    struct core_attended a;
    assert_true(core_agent_attended(w->s, str_of(agent), &a));
    return a;
}

static void expect_event_json(const struct world *w, const char *part, bool there)
{
    struct buf text = {0};
    core_event_json(&w->event, &text);
    buf_add_byte(&text, '\0');
    assert_true((strstr(text.p, part) != NULL) == there);
    buf_free(&text);
}

static void a_lease_is_shown_changed_and_removed(void **state)
{
    struct world *w = *state;
    expect_view(w, "/agents/ada/lease_s", "null");
    expect_view(w, "/agents/bob/lease_s", "30");
    expect_event(w, "agent.update agent=ada lease_s=5");
    expect_patch(w, "[{\"op\":\"replace\",\"path\":\"/agents/ada/lease_s\",\"value\":5}]");
    expect_event_json(w, "\"lease_s\":5", true);
    expect_nothing(w, "agent.update agent=ada lease_s=5");
    expect_nothing(w, "agent.register agent=ada lease_s=5");
    assert_int_equal(core_session_attended(w->s), 2);
    expect_event(w, "agent.register agent=ada lease_s=null");
    expect_event_json(w, "\"lease_s\":null", true);
    expect_view(w, "/agents/ada/lease_s", "null");
    expect_event(w, "agent.leave agent=bob");
    assert_int_equal(core_session_attended(w->s), 0);
}

static void a_lease_has_a_range(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.update agent=ada lease_s=86400");
    expect_refusal(w, "agent.update agent=ada lease_s=86401", CORE_E_MALFORMED, "lease_s");
    expect_refusal(w, "agent.register agent=new lease_s=86401", CORE_E_MALFORMED, "lease_s");
}

static void an_agent_whose_lease_ran_out_is_offline_until_it_is_heard_of(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.update agent=bob status=working");
    assert_int_equal(lapse(w, "bob", true), CORE_EVENT);
    expect_view(w, "/agents/bob/status", "\"offline\"");
    expect_event_json(w, "lapsed", false);
    expect_event_json(w, "\"status\":\"offline\"", true);
    assert_true(attended(w, "bob").lapsed && attended(w, "bob").offline);
    assert_int_equal(lapse(w, "bob", true), CORE_NOTHING);
    assert_int_equal(lapse(w, "bob", false), CORE_EVENT);
    expect_view(w, "/agents/bob/status", "\"idle\"");
    assert_false(attended(w, "bob").lapsed);
    assert_int_equal(lapse(w, "bob", false), CORE_NOTHING);
}

static void an_agent_that_says_how_it_is_does_not_lapse_any_more(void **state)
{
    struct world *w = *state;
    assert_int_equal(lapse(w, "bob", true), CORE_EVENT);
    expect_event(w, "agent.update agent=bob status=offline");
    assert_int_equal(lapse(w, "bob", false), CORE_NOTHING);
    expect_nothing(w, "agent.update agent=bob status=offline");
    assert_int_equal(lapse(w, "bob", true), CORE_NOTHING);
    expect_view(w, "/agents/bob/status", "\"offline\"");
}

static void without_a_lease_nothing_runs_out(void **state)
{
    struct world *w = *state;
    assert_int_equal(lapse(w, "ada", true), CORE_NOTHING);
    assert_int_equal(lapse(w, "nobody", true), CORE_REFUSED);
}

static void a_target_is_shown_without_its_secret(void **state)
{
    struct world *w = *state;
    expect_view(w, "/agents/ada/wake", "null");
    expect_event(w, "agent.wake agent=ada url=https://a.example/hook?x=1 secret=SEALED "
                    "mentions=true");
    expect_view(w, "/agents/ada/wake",
                "{\"url\":\"https://a.example/hook?x=1\",\"mentions\":true,\"signed\":true,"
                "\"breaker\":\"closed\",\"why\":null}");
    expect_event_json(w, "SEALED", false);
    expect_event_json(w, "secret", false);
    expect_event_json(w, "\"mentions\":true", true);
    assert_true(str_equal(attended(w, "ada").sealed, STR("SEALED")));
    expect_nothing(w, "agent.wake agent=ada url=https://a.example/hook?x=1 secret=SEALED "
                      "mentions=true");
    expect_event(w, "agent.wake agent=ada url=https://a.example/hook?x=1");
    expect_view(w, "/agents/ada/wake/signed", "false");
    expect_view(w, "/agents/ada/wake/mentions", "false");
    expect_event(w, "agent.wake agent=ada url=null secret=SEALED mentions=true");
    expect_event_json(w, "\"mentions\":false", true);
    expect_patch(w, "[{\"op\":\"replace\",\"path\":\"/agents/ada/wake\",\"value\":null}]");
    expect_nothing(w, "agent.wake agent=ada url=null");
    assert_int_equal(core_session_attended(w->s), 1);
}

static void a_url_that_can_not_be_called_is_refused(void **state)
{
    static const char *const good[] = {
        "http://h",     "https://h/",   "http://1.2.3.4:80/p", "http://[::1]:8080/?q",
        "http://h?x@y", "http://h/a@b", "https://h:65535",     "http://h:",
    };
    static const char *const bad[] = {
        "ftp://h/",
        "h",
        "http://",
        "http:///p",
        "https://u:p@h/",
        "http://u@h",
        "http://h#f",
        "http://h/p#",
        "http://h:65536/",
        "http://h:8x/",
        "http://[]/",
        "http://[::1",
        "http://[::1]x",
        "http://h\\p",
        "http://h/\x7f",
        "http://h/\xc3\xa9",
        "http://h/\tx",
        "javascript:alert(1)",
        "HTTP:/h",
        "http://:80/",
        "http://h:99999999999999999999/",
    };
    struct world *w = *state;
    char line[4096];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        snprintf(line, sizeof(line), "agent.wake agent=ada url=%s", good[i]);
        expect_event(w, line);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(line, sizeof(line), "agent.wake agent=ada url=%s", bad[i]);
        expect_refusal(w, line, CORE_E_MALFORMED, "url");
    }
    int n = snprintf(line, sizeof(line), "agent.wake agent=ada url=http://h/");
    memset(line + n, 'x', 2048);
    line[n + 2048 - 9] = '\0';
    expect_event(w, line);
    line[n + 2048 - 9] = 'x';
    line[n + 2048 - 8] = '\0';
    expect_refusal(w, line, CORE_E_TOO_LARGE, "url");
    expect_refusal(w, "agent.wake agent=nobody url=http://h", CORE_E_UNKNOWN_AGENT, "agent");
    expect_refusal(w, "agent.wake agent=ada", CORE_E_MALFORMED, "url");
}

static void a_breaker_opens_and_closes_and_setting_the_target_closes_it(void **state)
{
    struct world *w = *state;
    expect_nothing(w, "agent.wake_report agent=ada breaker=open why=x");
    expect_event(w, "agent.wake agent=ada url=http://h secret=S");
    expect_nothing(w, "agent.wake_report agent=ada breaker=closed");
    expect_event(w, "agent.wake_report agent=ada breaker=open why=it-answers-500");
    assert_null(core_event_actor(&w->event).p);
    expect_view(w, "/agents/ada/wake/breaker", "\"open\"");
    expect_view(w, "/agents/ada/wake/why", "\"it-answers-500\"");
    expect_view(w, "/agents/ada/wake/signed", "true");
    expect_nothing(w, "agent.wake_report agent=ada breaker=open why=other");
    expect_event(w, "agent.wake_report agent=ada breaker=closed");
    expect_view(w, "/agents/ada/wake/why", "null");
    expect_event(w, "agent.wake_report agent=ada breaker=open why=x");
    expect_event(w, "agent.wake agent=ada url=http://h secret=S"); /* the same: it is to be tried */
    expect_view(w, "/agents/ada/wake/breaker", "\"closed\"");
    expect_refusal(w, "agent.wake_report agent=ada breaker=ajar", CORE_E_MALFORMED, "breaker");
}

static void no_client_may_report(void **state)
{
    (void)state;
    assert_int_equal(core_type_of_command(STR("agent.wake_report")), CORE_TYPE_NONE);
    assert_int_equal(core_type_of_command(STR("agent.wake")), CORE_AGENT_WAKE);
    assert_int_equal(core_type_of_event(STR("agent.wake_reported")), CORE_AGENT_WAKE_REPORT);
}

static void only_what_is_attended_is_walked(void **state)
{
    struct world *w = *state;
    struct core_attended a;
    uint32_t at = 0;
    expect_event(w, "agent.register agent=cy");
    expect_event(w, "agent.wake agent=cy url=http://h");
    assert_true(core_attended_next(w->s, &at, &a));
    assert_true(str_equal(a.agent, STR("bob")) && a.lease_s == 30 && a.url.p == NULL);
    assert_true(core_attended_next(w->s, &at, &a));
    assert_true(str_equal(a.agent, STR("cy")) && str_equal(a.url, STR("http://h")));
    assert_false(core_attended_next(w->s, &at, &a));
    assert_false(core_agent_attended(w->s, STR("nobody"), &a));
}

static struct buf snapshot_of(const struct world *w)
{
    struct buf bytes = {0};
    core_snapshot_encode(w->s, &bytes);
    return bytes;
}

static struct core_session *session_from(struct world *w, struct buf *bytes)
{
    struct core_session *s = core_session_new(&w->heap, &w->limits, STR("s1"), STR("k3x9"));
    assert_int_equal(core_snapshot_decode(s, buf_str(bytes)), 0);
    buf_free(bytes);
    return s;
}

/* In a fork, or in an import, the same state belongs to another life, and so under another seed. */
static void another_life_inherits_targets_until_they_are_set_anew(void **state)
{
    struct world *w = *state;
    struct core_attended a;
    expect_event(w, "agent.wake agent=ada url=http://h");
    assert_false(attended(w, "ada").inherited);
    struct buf bytes = snapshot_of(w);
    struct core_session *s = core_session_new(&w->heap, &w->limits, STR("s1"), STR("other"));
    assert_int_equal(core_snapshot_decode(s, buf_str(&bytes)), 0);
    assert_true(core_agent_attended(s, STR("ada"), &a) && a.inherited);
    struct core_session *own = w->s;
    w->s = s;
    expect_event(w, "agent.wake agent=ada url=http://h");
    assert_false(attended(w, "ada").inherited);
    w->s = own;
    core_session_free(s);
    /* Epochs are those of an id: a fork may well have its parent's. */
    char fork[100];
    snprintf(fork, sizeof(fork),
             "session.fork session=s2 parent=s1 parent_epoch=k3x9 parent_seq=%llu",
             (unsigned long long)core_session_seq(own));
    s = core_session_new(&w->heap, &w->limits, STR("s2"), STR("k3x9"));
    assert_int_equal(core_snapshot_decode(s, buf_str(&bytes)), 0);
    w->s = s;
    expect_event(w, fork);
    assert_true(attended(w, "ada").inherited);
    w->s = own;
    core_session_free(s);
    struct core_limits limits = w->limits;
    limits.hash_seed++;
    s = core_session_new(&w->heap, &limits, STR("s1"), STR("k3x9"));
    assert_int_equal(core_snapshot_decode(s, buf_str(&bytes)), 0);
    assert_true(core_agent_attended(s, STR("ada"), &a) && a.inherited);
    core_session_free(s);
    buf_free(&bytes);
}

static void a_snapshot_holds_leases_and_targets(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.wake agent=ada url=http://h secret=S mentions=true");
    expect_event(w, "agent.wake_report agent=ada breaker=open why=x");
    assert_int_equal(lapse(w, "bob", true), CORE_EVENT);
    struct buf bytes = snapshot_of(w);
    assert_int_equal(bytes.p[0], 3);
    struct core_session *s = session_from(w, &bytes);
    struct core_hash hash = core_state_hash(w->s), again = core_state_hash(s);
    assert_memory_equal(&hash, &again, sizeof(hash));
    assert_int_equal(core_session_attended(s), 2);
    struct core_attended a;
    assert_true(core_agent_attended(s, STR("ada"), &a));
    assert_true(a.open && a.only_mentions && str_equal(a.sealed, STR("S")));
    assert_true(core_agent_attended(s, STR("bob"), &a) && a.lapsed && a.lease_s == 30);
    core_session_free(s);
}

/* So what was written before there were leases is read, and its hash is still what it was. */
static void a_state_without_them_has_the_bytes_that_it_always_had(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.update agent=bob lease_s=null");
    struct buf bytes = snapshot_of(w);
    assert_int_equal(bytes.p[0], 2);
    struct core_session *s = session_from(w, &bytes);
    assert_int_equal(core_session_attended(s), 0);
    core_session_free(s);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lease_is_shown_changed_and_removed),
        TEST(a_lease_has_a_range),
        TEST(an_agent_whose_lease_ran_out_is_offline_until_it_is_heard_of),
        TEST(an_agent_that_says_how_it_is_does_not_lapse_any_more),
        TEST(without_a_lease_nothing_runs_out),
        TEST(a_target_is_shown_without_its_secret),
        TEST(a_url_that_can_not_be_called_is_refused),
        TEST(a_breaker_opens_and_closes_and_setting_the_target_closes_it),
        TEST(no_client_may_report),
        TEST(another_life_inherits_targets_until_they_are_set_anew),
        TEST(only_what_is_attended_is_walked),
        TEST(a_snapshot_holds_leases_and_targets),
        TEST(a_state_without_them_has_the_bytes_that_it_always_had),
    };
    return cmocka_run_group_tests_name("core_attended", tests, NULL, NULL);
}
