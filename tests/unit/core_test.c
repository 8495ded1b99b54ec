/* What each command does to a session, and when it is refused. */
#include "tests/unit/core_fixture.h"

/* ---- session.* */

static void every_command_but_create_needs_a_session(void **state)
{
    struct world *w = *state;
    expect_refusal(w, "session.close", CORE_E_UNKNOWN_SESSION, NULL);
    expect_refusal(w, "session.update labels=a:b", CORE_E_UNKNOWN_SESSION, NULL);
    expect_refusal(w, "agent.register agent=ada", CORE_E_UNKNOWN_SESSION, NULL);
    expect_refusal(w, "message.send thread=x sender=ada content=c", CORE_E_UNKNOWN_SESSION, NULL);
    expect_refusal(w, "inbox.ack agent=ada cursor=x", CORE_E_UNKNOWN_SESSION, NULL);
}

static void a_session_is_created_with_labels_and_windows(void **state)
{
    struct world *w = *state;
    expect_event(w, "session.create session=s1 labels=env:test,gone:null ttl_s=60");
    assert_int_equal(w->event.f.window_messages, 100);
    assert_int_equal(w->event.f.window_bytes, 1024 * 1024);
    assert_int_equal(core_session_ttl_s(w->s), 60);
    assert_int_equal(core_session_seq(w->s), 1);
    assert_int_equal(core_session_created_ms(w->s), w->now_ms);
    expect_view(w, "",
                "{\"id\":\"s1\",\"parent\":null,\"status\":\"open\",\"summary\":null,\"labels\":{"
                "\"env\":\"test\"},"
                "\"created_at\":\"2026-01-02T03:04:05.678Z\",\"agents\":{},\"threads\":{}}");
}

static void a_session_is_created_once(void **state)
{
    struct world *w = *state;
    expect_refusal(w, "session.create session=s2", CORE_E_MALFORMED, "session");
    expect_event(w, "session.create labels=a:1 ttl_s=5");
    expect_nothing(w, "session.create labels=a:1 ttl_s=5");
    expect_nothing(w, "session.create session=s1 labels=a:1,b:null ttl_s=5");
    expect_refusal(w, "session.create labels=a:1", CORE_E_REFUSED, "session");
    expect_refusal(w, "session.create labels=a:2 ttl_s=5", CORE_E_REFUSED, "session");
    expect_refusal(w, "session.create", CORE_E_REFUSED, "session");
    /* It is what was given then that counts, not what became of it. */
    expect_event(w, "session.update labels=a:2");
    expect_nothing(w, "session.create labels=a:1 ttl_s=5");
}

static void session_update_merges_labels(void **state)
{
    struct world *w = *state;
    expect_event(w, "session.create labels=a:1,b:2");
    expect_event(w, "session.update labels=b:null,c:3,d:null");
    expect_patch(w, "[{\"op\":\"remove\",\"path\":\"/labels/b\"},"
                    "{\"op\":\"add\",\"path\":\"/labels/c\",\"value\":\"3\"}]");
    expect_view(w, "/labels", "{\"a\":\"1\",\"c\":\"3\"}");
    expect_nothing(w, "session.update labels=a:1,x:null");
}

static void a_closed_session_refuses_all_but_reading(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=hello");
    expect_event(w, "session.close summary=done");
    expect_nothing(w, "session.close summary=done");
    expect_refusal(w, "session.close summary=over", CORE_E_REFUSED, NULL);
    expect_refusal(w, "session.close", CORE_E_REFUSED, NULL);
    expect_refusal(w, "session.create", CORE_E_REFUSED, NULL);
    expect_refusal(w, "session.update labels=a:b", CORE_E_REFUSED, NULL);
    expect_refusal(w, "agent.register agent=ada", CORE_E_REFUSED, NULL);
    expect_refusal(w, "agent.update agent=nobody", CORE_E_REFUSED, NULL);
    expect_refusal(w, "agent.leave agent=ada", CORE_E_REFUSED, NULL);
    expect_refusal(w, "thread.create creator=ada name=n participants=", CORE_E_REFUSED, NULL);
    expect_refusal(w, "thread.add thread=general agent=cy by=ada", CORE_E_REFUSED, NULL);
    expect_refusal(w, "thread.remove thread=general agent=bob by=ada", CORE_E_REFUSED, NULL);
    expect_refusal(w, "thread.close thread=general by=ada", CORE_E_REFUSED, NULL);
    expect_refusal(w, "message.send thread=general sender=ada content=x", CORE_E_REFUSED, NULL);
    expect_event(w, "thread.read thread=general agent=bob upto=6");
    assert_true(core_session_closed(w->s));
    expect_view(w, "/status", "\"closed\"");
    expect_view(w, "/summary", "\"done\"");
}

static void required_fields_are_asked_for_by_name(void **state)
{
    struct world *w = *state;
    expect_refusal(w, "message.send thread=general sender=ada", CORE_E_MALFORMED, "content");
    expect_refusal(w, "thread.create creator=ada participants=bob", CORE_E_MALFORMED, "name");
    expect_refusal(w, "session.update", CORE_E_MALFORMED, "labels");
}

/* ---- agent.* */

static void a_new_agent_is_idle_and_blank(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.register agent=dan labels=role:coder");
    expect_view(w, "/agents/dan",
                "{\"description\":null,\"status\":\"idle\",\"note\":null,\"priority\":0,"
                "\"labels\":{\"role\":\"coder\"},\"lease_s\":null,\"wake\":null}");
    expect_patch(w, "[{\"op\":\"add\",\"path\":\"/agents/dan\",\"value\":{\"description\":null,"
                    "\"status\":\"idle\",\"note\":null,\"priority\":0,"
                    "\"labels\":{\"role\":\"coder\"},\"lease_s\":null,\"wake\":null}}]");
}

static void registering_again_updates_what_is_given(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.register agent=dan description=first labels=a:1,b:2");
    expect_event(w, "agent.update agent=dan status=working note=busy");
    expect_event(w, "agent.register agent=dan labels=a:null,c:3");
    expect_view(w, "/agents/dan",
                "{\"description\":\"first\",\"status\":\"working\",\"note\":\"busy\","
                "\"priority\":0,\"labels\":{\"b\":\"2\",\"c\":\"3\"},"
                "\"lease_s\":null,\"wake\":null}");
    expect_nothing(w, "agent.register agent=dan");
    expect_nothing(w, "agent.register agent=dan description=first labels=b:2,z:null");
    expect_event(w, "agent.register agent=dan description=null");
    expect_view(w, "/agents/dan/description", "null");
}

static void agent_update_changes_what_is_given(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.update agent=ada status=question note=why priority=7 description=d");
    expect_view(w, "/agents/ada",
                "{\"description\":\"d\",\"status\":\"question\",\"note\":\"why\",\"priority\":7,"
                "\"labels\":{},\"lease_s\":null,\"wake\":null}");
    expect_event(w, "agent.update agent=ada note=null");
    expect_patch(w, "[{\"op\":\"replace\",\"path\":\"/agents/ada/note\",\"value\":null}]");
    expect_view(w, "/agents/ada/note", "null");
    expect_view(w, "/agents/ada/status", "\"question\"");
    expect_nothing(w, "agent.update agent=ada");
    expect_nothing(w, "agent.update agent=ada status=question note=null priority=7");
    expect_refusal(w, "agent.update agent=dan status=idle", CORE_E_UNKNOWN_AGENT, "agent");
}

static void label_keys_are_escaped_in_pointers(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.update agent=ada labels=a/b~\"c:1");
    expect_patch(w, "[{\"op\":\"add\",\"path\":\"/agents/ada/labels/a~1b~0\\\"c\","
                    "\"value\":\"1\"}]");
}

static void an_agent_that_leaves_leaves_every_thread(void **state)
{
    struct world *w = *state;
    expect_event(w, "thread.create creator=bob name=n participants=ada,cy thread=other");
    expect_event(w, "message.send thread=other sender=ada content=bye");
    expect_event(w, "thread.close thread=other by=bob");
    expect_event(w, "agent.leave agent=ada");
    expect_patch(w, "[{\"op\":\"remove\",\"path\":\"/threads/general/participants/ada\"},"
                    "{\"op\":\"remove\",\"path\":\"/threads/other/participants/ada\"},"
                    "{\"op\":\"remove\",\"path\":\"/agents/ada\"}]");
    expect_view(w, "/agents/ada", NULL);
    expect_view(w, "/threads/general/participants/ada", NULL);
    expect_view(w, "/threads/other/participants/ada", NULL);
    expect_view(w, "/threads/general/creator", "\"ada\"");
    expect_refusal(w, "agent.leave agent=ada", CORE_E_UNKNOWN_AGENT, "agent");
    expect_event(w, "agent.register agent=ada");
    assert_true(w->event.f.fresh);
}

static void agents_and_labels_have_maxima(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.register agent=dan labels=a:1,b:2");
    expect_refusal(w, "agent.register agent=eve", CORE_E_REFUSED, "agent");
    expect_refusal(w, "agent.register agent=dan labels=c:3", CORE_E_REFUSED, "labels");
    expect_refusal(w, "agent.update agent=dan labels=c:3", CORE_E_REFUSED, "labels");
    expect_event(w, "agent.update agent=dan labels=a:null,c:3");
    expect_refusal(w, "session.update labels=a:1,b:2,c:3", CORE_E_REFUSED, "labels");
    expect_refusal(w, "agent.register agent=-dan", CORE_E_MALFORMED, "agent");
}

/* ---- thread.* */

static void a_thread_has_its_creator_and_each_participant_once(void **state)
{
    struct world *w = *state;
    expect_event(w, "thread.create creator=cy name=n participants=ada,cy,ada,bob");
    assert_int_equal(w->event.seq, 6);
    assert_true(str_equal(w->event.f.thread, STR("t6")));
    expect_view(w, "/threads/t6",
                "{\"name\":\"n\",\"creator\":\"cy\",\"status\":\"open\",\"summary\":null,"
                "\"participants\":{\"cy\":{\"read\":6,\"taken\":[]},\"ada\":{\"read\":6,\"taken\":"
                "[]},\"bob\":{\"read\":6,\"taken\":[]}},\"older\":0,\"messages\":[]}");
}

static void thread_create_is_refused(void **state)
{
    struct world *w = *state;
    expect_refusal(w, "thread.create creator=ada name=n participants= thread=t12", CORE_E_MALFORMED,
                   "thread");
    expect_refusal(w, "thread.create creator=ada name=n participants= thread=a/b", CORE_E_MALFORMED,
                   "thread");
    expect_refusal(w, "thread.create creator=dan name=n participants=", CORE_E_UNKNOWN_AGENT,
                   "creator");
    expect_refusal(w, "thread.create creator=ada name=n participants=bob,dan thread=general",
                   CORE_E_UNKNOWN_AGENT, "participants");
    assert_non_null(strstr(w->why.detail, "\"dan\""));
    expect_refusal(w, "thread.create creator=ada name=n participants= thread=general",
                   CORE_E_REFUSED, "thread");
    expect_event(w, "agent.register agent=dan");
    expect_refusal(w, "thread.create creator=ada name=n participants=bob,cy,dan", CORE_E_REFUSED,
                   "participants");
    expect_event(w, "thread.create creator=ada name=n participants= thread=t");
    expect_refusal(w, "thread.create creator=ada name=n participants=", CORE_E_REFUSED, NULL);
}

static void one_who_is_added_has_read_what_was_before(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=x");
    expect_event(w, "thread.add thread=general agent=cy by=bob");
    expect_patch(w, "[{\"op\":\"add\",\"path\":\"/threads/general/participants/cy\",\"value\":"
                    "{\"read\":7,\"taken\":[]}}]");
    expect_nothing(w, "thread.add thread=general agent=cy by=ada");
}

static void one_who_is_added_with_history_has_read_nothing(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=x");
    expect_event(w, "thread.add thread=general agent=cy by=bob history=true");
    expect_view(w, "/threads/general/participants/cy", "{\"read\":5,\"taken\":[]}");
}

static void thread_add_and_remove_are_refused(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.register agent=dan");
    expect_refusal(w, "thread.add thread=x agent=nobody by=ada", CORE_E_UNKNOWN_THREAD, "thread");
    expect_refusal(w, "thread.add thread=general agent=eve by=ada", CORE_E_UNKNOWN_AGENT, "agent");
    expect_refusal(w, "thread.add thread=general agent=cy by=eve", CORE_E_UNKNOWN_AGENT, "by");
    expect_refusal(w, "thread.add thread=general agent=cy by=dan", CORE_E_REFUSED, "by");
    expect_refusal(w, "thread.remove thread=x agent=bob by=ada", CORE_E_UNKNOWN_THREAD, "thread");
    expect_refusal(w, "thread.remove thread=general agent=eve by=ada", CORE_E_UNKNOWN_AGENT,
                   "agent");
    expect_refusal(w, "thread.remove thread=general agent=bob by=eve", CORE_E_UNKNOWN_AGENT, "by");
    expect_refusal(w, "thread.remove thread=general agent=bob by=dan", CORE_E_REFUSED, "by");
    expect_event(w, "thread.add thread=general agent=cy by=ada");
    expect_refusal(w, "thread.add thread=general agent=dan by=ada", CORE_E_REFUSED, "agent");
    expect_event(w, "thread.close thread=general by=ada");
    expect_refusal(w, "thread.add thread=general agent=dan by=dan", CORE_E_REFUSED, "thread");
    expect_refusal(w, "thread.remove thread=general agent=bob by=ada", CORE_E_REFUSED, "thread");
}

static void one_who_is_removed_is_gone(void **state)
{
    struct world *w = *state;
    expect_event(w, "thread.remove thread=general agent=bob by=ada");
    expect_patch(w, "[{\"op\":\"remove\",\"path\":\"/threads/general/participants/bob\"}]");
    expect_nothing(w, "thread.remove thread=general agent=bob by=ada");
    expect_refusal(w, "message.send thread=general sender=bob content=x", CORE_E_REFUSED, "sender");
    expect_event(w, "thread.remove thread=general agent=ada by=ada");
    expect_view(w, "/threads/general/participants", "{}");
}

static void a_closed_thread_keeps_no_messages_but_can_be_read(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=one");
    expect_event(w, "message.send thread=general sender=ada content=two");
    expect_event(w, "thread.close thread=general by=bob summary=done");
    expect_patch(w,
                 "[{\"op\":\"replace\",\"path\":\"/threads/general/status\",\"value\":\"closed\"},"
                 "{\"op\":\"replace\",\"path\":\"/threads/general/summary\",\"value\":\"done\"},"
                 "{\"op\":\"replace\",\"path\":\"/threads/general/older\",\"value\":2},"
                 "{\"op\":\"replace\",\"path\":\"/threads/general/messages\",\"value\":[]}]");
    expect_view(w, "/threads/general/older", "2");
    expect_view(w, "/threads/general/messages", "[]");
    expect_nothing(w, "thread.close thread=general by=ada summary=done");
    expect_refusal(w, "thread.close thread=general by=ada", CORE_E_REFUSED, "thread");
    expect_refusal(w, "message.send thread=general sender=ada content=x", CORE_E_REFUSED, "thread");
    expect_event(w, "thread.read thread=general agent=bob upto=7");
}

static void thread_close_is_refused(void **state)
{
    struct world *w = *state;
    expect_refusal(w, "thread.close thread=x by=ada", CORE_E_UNKNOWN_THREAD, "thread");
    expect_refusal(w, "thread.close thread=general by=dan", CORE_E_UNKNOWN_AGENT, "by");
    expect_refusal(w, "thread.close thread=general by=cy", CORE_E_REFUSED, "by");
}

/* ---- message.send */

static void a_message_is_one_small_operation(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=hi mentions=bob,ada,bob "
                    "data={\"a\":[1]} trace=tr cause=ca");
    expect_patch(w, "[{\"op\":\"add\",\"path\":\"/threads/general/messages/-\",\"value\":"
                    "{\"id\":\"m6\",\"seq\":6,\"ts\":\"2026-01-02T03:04:05.678Z\",\"sender\":"
                    "\"ada\",\"content\":\"hi\",\"mentions\":[\"bob\",\"ada\"],\"reply_to\":null,"
                    "\"data\":{\"a\":[1]}}}]");
    struct buf json = {0};
    core_event_json(&w->event, &json);
    expect_text(&json, "{\"seq\":6,\"ts\":\"2026-01-02T03:04:05.678Z\",\"type\":\"message.sent\","
                       "\"actor\":\"ada\",\"trace\":\"tr\",\"cause\":\"ca\",\"id\":\"m6\","
                       "\"thread\":\"general\",\"sender\":\"ada\",\"content\":\"hi\","
                       "\"mentions\":[\"bob\",\"ada\"],\"reply_to\":null,\"data\":{\"a\":[1]}}");
}

static void message_send_is_refused(void **state)
{
    struct world *w = *state;
    expect_refusal(w, "message.send thread=x sender=nobody content=c", CORE_E_UNKNOWN_THREAD,
                   "thread");
    expect_refusal(w, "message.send thread=general sender=dan content=c", CORE_E_UNKNOWN_AGENT,
                   "sender");
    expect_refusal(w, "message.send thread=general sender=cy content=c mentions=dan",
                   CORE_E_UNKNOWN_AGENT, "mentions");
    expect_refusal(w, "message.send thread=general sender=cy content=c mentions=ada",
                   CORE_E_REFUSED, "sender");
    expect_refusal(w, "message.send thread=general sender=ada content=c mentions=bob,cy",
                   CORE_E_REFUSED, "mentions");
    expect_refusal(w, "message.send thread=general sender=ada content=c reply_to=x6",
                   CORE_E_MALFORMED, "reply_to");
}

static void a_reply_goes_to_a_message_of_its_thread(void **state)
{
    struct world *w = *state; /* windows of three */
    expect_event(w, "thread.create creator=ada name=n participants=bob thread=other"); /* 6 */
    expect_event(w, "message.send thread=general sender=ada content=a");               /* 7 */
    expect_event(w, "message.send thread=other sender=ada content=b");                 /* 8 */
    expect_event(w, "message.send thread=general sender=bob content=c reply_to=m7");   /* 9 */
    expect_refusal(w, "message.send thread=general sender=bob content=c reply_to=m8",
                   CORE_E_UNKNOWN_MESSAGE, "reply_to");
    expect_refusal(w, "message.send thread=general sender=bob content=c reply_to=m10",
                   CORE_E_UNKNOWN_MESSAGE, "reply_to");
    expect_refusal(w, "message.send thread=general sender=bob content=c reply_to=m5",
                   CORE_E_UNKNOWN_MESSAGE, "reply_to");
    expect_event(w, "message.send thread=general sender=bob content=d");
    expect_event(w, "message.send thread=general sender=bob content=e"); /* m7 leaves */
    expect_event(w, "message.send thread=general sender=bob content=f reply_to=m7");
    expect_view(w, "/threads/general/messages/2/reply_to", "\"m7\"");
    expect_refusal(w, "message.send thread=general sender=bob content=c reply_to=m4",
                   CORE_E_UNKNOWN_MESSAGE, "reply_to");
}

static void the_oldest_messages_leave_a_full_window(void **state)
{
    struct world *w = *state; /* windows of three */
    expect_event(w, "message.send thread=general sender=ada content=1");
    expect_event(w, "message.send thread=general sender=ada content=2");
    expect_event(w, "message.send thread=general sender=ada content=3");
    expect_event(w, "message.send thread=general sender=ada content=4");
    assert_int_equal(w->event.f.evicted, 1);
    expect_view(w, "/threads/general/older", "1");
    expect_view(w, "/threads/general/messages/0/id", "\"m7\"");
    expect_view(w, "/threads/general/messages/2/id", "\"m9\"");
    struct buf patch = {0};
    core_event_patch(&w->event, &patch);
    json_t *operations = parse(&patch);
    assert_int_equal(json_array_size(operations), 3);
    json_decref(operations);
}

static void the_newest_message_stays_however_large(void **state)
{
    struct world *w = *state; /* windows of 100 bytes */
    char line[300] = "message.send thread=general sender=ada content=";
    size_t n = strlen(line);
    expect_event(w, "message.send thread=general sender=ada content=small data=[1]");
    memset(line + n, 'x', 200);
    expect_event(w, line);
    expect_view(w, "/threads/general/older", "1");
    expect_view(w, "/threads/general/messages/1", NULL);
    expect_event(w, "message.send thread=general sender=ada content=small");
    expect_view(w, "/threads/general/older", "2");
    expect_view(w, "/threads/general/messages/0/content", "\"small\"");
}

/* ---- thread.read */

static void reading_moves_on_and_never_back(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=1");
    expect_event(w, "message.send thread=general sender=ada content=2");
    expect_event(w, "thread.read thread=general agent=bob upto=6");
    expect_patch(w, "[{\"op\":\"replace\",\"path\":\"/threads/general/participants/bob\","
                    "\"value\":{\"read\":6,\"taken\":[]}}]");
    expect_nothing(w, "thread.read thread=general agent=bob upto=6");
    expect_nothing(w, "thread.read thread=general agent=bob upto=2");
    expect_event(w, "thread.read thread=general agent=bob upto=7");
    expect_view(w, "/threads/general/participants/bob", "{\"read\":7,\"taken\":[]}");
}

static void reading_skips_own_messages(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=1");
    expect_event(w, "message.send thread=general sender=bob content=2");
    expect_event(w, "message.send thread=general sender=bob content=3");
    expect_event(w, "message.send thread=general sender=ada content=4");
    expect_event(w, "thread.read thread=general agent=bob upto=6");
    expect_view(w, "/threads/general/participants/bob", "{\"read\":8,\"taken\":[]}");
}

static void thread_read_is_refused(void **state)
{
    struct world *w = *state;
    expect_refusal(w, "thread.read thread=x agent=ada upto=1", CORE_E_UNKNOWN_THREAD, "thread");
    expect_refusal(w, "thread.read thread=general agent=dan upto=1", CORE_E_UNKNOWN_AGENT, "agent");
    expect_refusal(w, "thread.read thread=general agent=cy upto=1", CORE_E_REFUSED, "agent");
    expect_refusal(w, "thread.read thread=general agent=ada upto=6", CORE_E_REFUSED, "upto");
}

/* ---- time, undo, broken invariants */

/* Also right after one was found that differs in a single byte. */
static void ids_are_told_apart_by_every_byte(void **state)
{
    struct world *w = *state;
    char id[65], line[96];
    for (size_t n = 1; n <= 64; n++) {
        memset(id, 'a', n);
        id[n] = '\0';
        snprintf(line, sizeof(line), "agent.register agent=%s", id);
        expect_event(w, line);
        for (size_t i = 0; i < n; i++) {
            assert_true(core_session_has_agent(w->s, (struct str){id, n}));
            id[i] = 'b';
            assert_false(core_session_has_agent(w->s, (struct str){id, n}));
            id[i] = 'a';
        }
        assert_true(core_session_has_agent(w->s, (struct str){id, n}));
        core_begin(w->s);
        snprintf(line, sizeof(line), "agent.leave agent=%s", id);
        expect_event(w, line);
        assert_false(core_session_has_agent(w->s, (struct str){id, n}));
        core_undo(w->s);
        assert_true(core_session_has_agent(w->s, (struct str){id, n}));
    }
}

static void event_time_never_runs_backwards(void **state)
{
    struct world *w = *state;
    int64_t last = core_session_ts_ms(w->s);
    w->now_ms -= 5000;
    expect_event(w, "agent.update agent=ada status=working");
    assert_int_equal(w->event.ts_ms, last);
    assert_int_equal(core_session_ts_ms(w->s), last);
}

static void undo_brings_everything_back(void **state)
{
    struct world *w = *state; /* windows of three */
    expect_event(w, "message.send thread=general sender=ada content=before");
    struct core_hash before = core_state_hash(w->s);
    size_t heap_before = w->heap_bytes;
    core_begin(w->s);
    expect_event(w, "message.send thread=general sender=ada content=2");
    expect_event(w, "message.send thread=general sender=ada content=3");
    expect_event(w, "message.send thread=general sender=ada content=4");
    expect_event(w, "thread.read thread=general agent=bob upto=6");
    expect_event(w, "agent.update agent=bob note=n labels=a:1");
    expect_event(w, "agent.leave agent=ada");
    expect_event(w, "agent.register agent=dan");
    expect_event(w, "thread.create creator=dan name=n participants=cy");
    expect_event(w, "session.update labels=x:1");
    expect_event(w, "thread.close thread=general by=bob");
    expect_event(w, "session.close summary=s");
    core_undo(w->s);
    assert_true(hash_equal(core_state_hash(w->s), before));
    assert_int_equal(w->heap_bytes, heap_before);
    expect_view(w, "/threads/general/messages/0/content", "\"before\"");
    expect_event(w, "message.send thread=general sender=ada content=after");
}

static void what_is_kept_stays(void **state)
{
    struct world *w = *state;
    core_begin(w->s);
    expect_event(w, "agent.leave agent=ada");
    core_keep(w->s);
    assert_false(core_session_has_agent(w->s, STR("ada")));
    expect_event(w, "agent.update agent=bob status=offline");
}

static void a_broken_invariant_in_a_batch_takes_back_one_event_only(void **state)
{
    struct world *w = *state;
    core_begin(w->s);
    expect_event(w, "message.send thread=general sender=ada content=1");
    struct core_hash before = core_state_hash(w->s);
    core_break_invariant_for_test(w->s, CORE_MESSAGE_SEND);
    assert_int_equal(decide_line(w, "message.send thread=general sender=ada content=2"),
                     CORE_EVENT);
    assert_int_equal(apply_decoded(w), -1);
    assert_int_equal(w->why.code, CORE_E_INVARIANT);
    assert_true(hash_equal(core_state_hash(w->s), before));
    core_keep(w->s);
    expect_event(w, "message.send thread=general sender=ada content=2");
    expect_view(w, "/threads/general/messages/1/content", "\"2\"");
}

static void an_event_that_does_not_belong_is_refused(void **state)
{
    struct world *w = *state;
    struct core_hash before = core_state_hash(w->s);
    decide_line(w, "message.send thread=general sender=ada content=1");
    struct core_event event = w->event;
    event.seq += 1;
    assert_int_equal(core_apply(w->s, &event, &w->why), -1);
    event = w->event;
    event.ts_ms -= 1;
    assert_int_equal(core_apply(w->s, &event, &w->why), -1);
    event = w->event;
    event.f.thread = STR("nowhere");
    assert_int_equal(core_apply(w->s, &event, &w->why), -1);
    event = w->event;
    event.f.sender = STR("nobody");
    assert_int_equal(core_apply(w->s, &event, &w->why), -1);
    event = w->event;
    event.f.evicted = 5;
    assert_int_equal(core_apply(w->s, &event, &w->why), -1);
    event.type = CORE_SESSION_CREATE;
    assert_int_equal(core_apply(w->s, &event, &w->why), -1);
    assert_int_equal(w->why.code, CORE_E_INVARIANT);
    assert_int_equal(w->why.seq, core_session_seq(w->s));
    assert_true(hash_equal(core_state_hash(w->s), before));
    assert_int_equal(core_apply(w->s, &w->event, &w->why), 0);
}

static void what_was_made_has_an_id(void **state)
{
    struct world *w = *state;
    char scratch[24];
    expect_event(w, "message.send thread=general sender=ada content=1");
    assert_true(str_equal(core_event_made(&w->event, scratch), STR("m6")));
    expect_event(w, "agent.register agent=dan");
    assert_true(str_equal(core_event_made(&w->event, scratch), STR("dan")));
    expect_event(w, "agent.register agent=dan description=d");
    assert_null(core_event_made(&w->event, scratch).p);
    expect_event(w, "thread.create creator=dan name=n participants=");
    assert_true(str_equal(core_event_made(&w->event, scratch), STR("t9")));
    assert_true(str_equal(core_event_actor(&w->event), STR("dan")));
    expect_event(w, "session.close");
    assert_null(core_event_made(&w->event, scratch).p);
    assert_null(core_event_actor(&w->event).p);
}

#define EMPTY(test) cmocka_unit_test_setup_teardown(test, setup_empty, teardown)
#define GENERAL(test) cmocka_unit_test_setup_teardown(test, setup_general, teardown)
#define SMALL(test) cmocka_unit_test_setup_teardown(test, setup_small, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EMPTY(every_command_but_create_needs_a_session),
        EMPTY(a_session_is_created_with_labels_and_windows),
        EMPTY(a_session_is_created_once),
        EMPTY(session_update_merges_labels),
        GENERAL(a_closed_session_refuses_all_but_reading),
        GENERAL(required_fields_are_asked_for_by_name),
        GENERAL(a_new_agent_is_idle_and_blank),
        GENERAL(registering_again_updates_what_is_given),
        GENERAL(agent_update_changes_what_is_given),
        GENERAL(label_keys_are_escaped_in_pointers),
        GENERAL(an_agent_that_leaves_leaves_every_thread),
        SMALL(agents_and_labels_have_maxima),
        GENERAL(a_thread_has_its_creator_and_each_participant_once),
        SMALL(thread_create_is_refused),
        GENERAL(one_who_is_added_has_read_what_was_before),
        GENERAL(one_who_is_added_with_history_has_read_nothing),
        SMALL(thread_add_and_remove_are_refused),
        GENERAL(one_who_is_removed_is_gone),
        GENERAL(a_closed_thread_keeps_no_messages_but_can_be_read),
        GENERAL(thread_close_is_refused),
        GENERAL(a_message_is_one_small_operation),
        GENERAL(message_send_is_refused),
        SMALL(a_reply_goes_to_a_message_of_its_thread),
        SMALL(the_oldest_messages_leave_a_full_window),
        SMALL(the_newest_message_stays_however_large),
        GENERAL(reading_moves_on_and_never_back),
        GENERAL(reading_skips_own_messages),
        GENERAL(thread_read_is_refused),
        GENERAL(ids_are_told_apart_by_every_byte),
        GENERAL(event_time_never_runs_backwards),
        SMALL(undo_brings_everything_back),
        GENERAL(what_is_kept_stays),
        GENERAL(a_broken_invariant_in_a_batch_takes_back_one_event_only),
        GENERAL(an_event_that_does_not_belong_is_refused),
        GENERAL(what_was_made_has_an_id),
    };
    return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
