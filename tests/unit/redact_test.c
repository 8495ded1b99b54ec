/*
 * What is hidden from a viewer, to the letter: pointers, values, operations, events and answers.
 * That it holds for all of them together is shown in tests/property/redact_property_test.c.
 */
#include "tests/unit/core_fixture.h"

#include "server/redact.h"

enum { POINTERS_MAX = 8 };

static struct redaction *hiding(const char *const *pointers)
{
    struct str list[POINTERS_MAX];
    unsigned n = 0;
    for (; pointers[n] != NULL; n++)
        list[n] = str_of(pointers[n]);
    struct redaction *redaction = redaction_new(list, n);
    assert_non_null(redaction);
    return redaction;
}

#define HIDING(...) hiding((const char *const[]){__VA_ARGS__, NULL})

/* ---- pointers */

static void what_is_no_pointer_makes_no_redaction(void **state)
{
    static const char *const bad[] = {"a", "~", "/~", "/~2", "/a~", "*", " /a", NULL};
    struct str many[REDACTION_POINTERS_MAX + 1];
    (void)state;
    for (int i = 0; bad[i] != NULL; i++) {
        const struct str pointers[] = {STR("/labels"), str_of(bad[i])};
        assert_null(redaction_new(pointers, 2));
    }
    assert_null(redaction_new(NULL, 0));
    for (int i = 0; i <= REDACTION_POINTERS_MAX; i++)
        many[i] = STR("/labels");
    assert_null(redaction_new(many, REDACTION_POINTERS_MAX + 1));
    struct redaction *most = redaction_new(many, REDACTION_POINTERS_MAX);
    assert_non_null(most);
    redaction_free(most);
    redaction_free(NULL);
}

static uint64_t hash_once(struct redaction *redaction)
{
    uint64_t hash = redaction_hash(redaction);
    redaction_free(redaction);
    return hash;
}

static void the_hash_is_of_the_set(void **state)
{
    (void)state;
    uint64_t hash = hash_once(HIDING("/a", "/b/*"));
    assert_int_equal(hash, hash_once(HIDING("/b/*", "/a", "/b/*")));
    assert_int_not_equal(hash, hash_once(HIDING("/a")));
    assert_int_not_equal(hash, hash_once(HIDING("/a/b", "/*")));
    assert_int_equal(hash_once(HIDING("")), hash_once(HIDING("/*")));
}

/* ---- values */

static void expect_state(struct redaction *redaction, const char *state, const char *expected)
{
    struct buf in = {0}, out = {0};
    buf_add_literal(&in, "{\"seq\":1,\"state\":");
    buf_add(&in, state, strlen(state));
    buf_add_byte(&in, '}');
    redact_envelope(redaction, buf_str(&in), &out);
    buf_free(&in);
    assert_true(out.n > strlen("{\"seq\":1,\"state\":") + 1);
    assert_memory_equal(out.p, "{\"seq\":1,\"state\":", strlen("{\"seq\":1,\"state\":"));
    out.p[out.n - 1] = '\0';
    assert_string_equal(out.p + strlen("{\"seq\":1,\"state\":"), expected);
    buf_free(&out);
    redaction_free(redaction);
}

static void hidden_members_are_left_out_and_elements_are_null(void **state)
{
    static const char text[] = "{\"id\":\"s\",\"labels\":{\"a\":\"1\",\"b\":\"2\"},\"agents\":{},"
                               "\"list\":[{\"x\":[1,2],\"y\":2},\"}\",null]}";
    (void)state;
    expect_state(HIDING("/labels/a"), text,
                 "{\"id\":\"s\",\"labels\":{\"b\":\"2\"},\"agents\":{},"
                 "\"list\":[{\"x\":[1,2],\"y\":2},\"}\",null]}");
    expect_state(HIDING("/id", "/labels/*", "/list/*/x"), text,
                 "{\"labels\":{},\"agents\":{},\"list\":[{\"y\":2},\"}\",null]}");
    expect_state(HIDING("/list/*/x/*", "/agents", "/labels"), text,
                 "{\"id\":\"s\",\"list\":[{\"x\":[null,null],\"y\":2},\"}\",null]}");
    expect_state(HIDING("/list/*", "/*/a"), text,
                 "{\"id\":\"s\",\"labels\":{\"b\":\"2\"},\"agents\":{},"
                 "\"list\":[null,null,null]}");
    expect_state(HIDING(""), text, "{}");
    expect_state(HIDING("/"), text, text);
    expect_state(HIDING("/"), "{\"\":1,\"a\":{\"\":2}}", "{\"a\":{\"\":2}}");
    expect_state(HIDING("/id/deeper", "/labels/a/b/c/d/e/f", "/none"), text, text);
}

static void a_pointer_may_begin_with_another(void **state)
{
    static const char text[] = "{\"a\":{\"b\":1,\"c\":{\"d\":2}},\"ab\":3}";
    (void)state;
    expect_state(HIDING("/a/c/d", "/a/c"), text, "{\"a\":{\"b\":1},\"ab\":3}");
    expect_state(HIDING("/a", "/a/b"), text, "{\"ab\":3}");
    expect_state(HIDING("/*/c", "/a/b"), text, "{\"a\":{},\"ab\":3}");
}

/* Windows of messages move: what is at a place now is at another one soon. */
static void a_place_in_an_array_is_any(void **state)
{
    (void)state;
    expect_state(HIDING("/m/1/x", "/m/-/y"), "{\"m\":[{\"x\":1,\"y\":2,\"z\":3},{\"x\":1}]}",
                 "{\"m\":[{\"z\":3},{}]}");
    expect_state(HIDING("/m/1"), "{\"m\":{\"1\":1,\"2\":2}}", "{\"m\":{\"2\":2}}");
}

static void keys_are_compared_as_what_they_are(void **state)
{
    static const char text[] =
        "{\"labels\":{\"a/b\":\"1\",\"c~d\":\"2\",\"q\\\"\":\"3\",\"n\\n\":\"4\",\"\xc3\xa9\":5,"
        "\"\\u0001\":6,\"*\":7}}";
    (void)state;
    expect_state(HIDING("/labels/a~1b", "/labels/c~0d", "/labels/q\""), text,
                 "{\"labels\":{\"n\\n\":\"4\",\"\xc3\xa9\":5,\"\\u0001\":6,\"*\":7}}");
    expect_state(HIDING("/labels/n\n", "/labels/\xc3\xa9", "/labels/\x01"), text,
                 "{\"labels\":{\"a/b\":\"1\",\"c~d\":\"2\",\"q\\\"\":\"3\",\"*\":7}}");
    expect_state(HIDING("/labels/a", "/labels/a~01b"), text, text);
}

/* ---- operations */

static void expect_op(struct redaction *redaction, const char *op, const char *expected)
{
    struct str ops = str_of(op);
    struct op_text text;
    struct buf out = {0};
    assert_true(patch_next_op(&ops, &text));
    assert_int_equal(ops.n, 0);
    assert_int_equal(redact_op(redaction, &text, &out), expected != NULL);
    buf_add_byte(&out, '\0');
    assert_string_equal(out.p, expected != NULL ? expected : "");
    buf_free(&out);
    redaction_free(redaction);
}

#define REMOVE_FIRST "{\"op\":\"remove\",\"path\":\"/threads/t/messages/0\"}"
#define ADD_MESSAGE "{\"op\":\"add\",\"path\":\"/threads/t/messages/-\",\"value\":"

static void operations_keep_their_shape(void **state)
{
    static const char note[] = "{\"op\":\"replace\",\"path\":\"/agents/ada/note\",\"value\":\"x\"}";
    static const char label[] = "{\"op\":\"add\",\"path\":\"/labels/a~1\\\"\",\"value\":\"x\"}";
    (void)state;
    expect_op(HIDING("/agents/*/note"), note, NULL);
    expect_op(HIDING("/agents/ada"), note, NULL);
    expect_op(HIDING("/agents"), note, NULL);
    expect_op(HIDING("/agents/ada/note/deeper", "/agents/bob"), note, note);
    expect_op(HIDING("/labels/a~1\""), label, NULL);
    expect_op(HIDING("/labels/a"), label, label);
    expect_op(HIDING("/threads/t/messages/*"), REMOVE_FIRST, REMOVE_FIRST);
    expect_op(HIDING("/threads/t/messages"), REMOVE_FIRST, NULL);
    expect_op(HIDING("/threads/t/messages/*"), ADD_MESSAGE "{\"x\":1}}", ADD_MESSAGE "null}");
    expect_op(HIDING("/threads/*/messages/7/x"), ADD_MESSAGE "{\"x\":1,\"y\":[]}}",
              ADD_MESSAGE "{\"y\":[]}}");
    expect_op(HIDING("/threads/*/messages/*/x"),
              "{\"op\":\"replace\",\"path\":\"/threads/t/messages\",\"value\":[{\"x\":1},{}]}",
              "{\"op\":\"replace\",\"path\":\"/threads/t/messages\",\"value\":[{},{}]}");
}

/* ---- events */

static void expect_told(struct world *w, struct redaction *redaction, const char *expected)
{
    struct buf event = {0}, told = {0};
    struct str ts = STR("\"ts\":\"2026-01-02T03:04:05.678Z\",");
    core_event_json(&w->event, &event);
    redact_event(redaction, buf_str(&event), &told);
    char *at = memmem(told.p, told.n, ts.p, ts.n);
    assert_non_null(at);
    memmove(at, at + ts.n, told.n - ts.n - (size_t)(at - told.p));
    told.n -= ts.n;
    expect_text(&told, expected);
    buf_free(&event);
    redaction_free(redaction);
}

static void an_event_tells_what_the_state_shows(void **state)
{
    struct world *w = *state;
    expect_event(w, "message.send thread=general sender=ada content=hi mentions=bob trace=tr");
    expect_told(w, HIDING("/labels"),
                "{\"seq\":6,\"type\":\"message.sent\",\"actor\":\"ada\",\"trace\":\"tr\","
                "\"id\":\"m6\",\"thread\":\"general\",\"sender\":\"ada\",\"content\":\"hi\","
                "\"mentions\":[\"bob\"],\"reply_to\":null,\"data\":null}");
    expect_told(w, HIDING("/threads/*/messages/*/content", "/threads/*/messages/*/mentions/*"),
                "{\"seq\":6,\"type\":\"message.sent\",\"actor\":\"ada\",\"trace\":\"tr\","
                "\"id\":\"m6\",\"thread\":\"general\",\"sender\":\"ada\","
                "\"mentions\":[null],\"reply_to\":null,\"data\":null}");
    expect_told(w, HIDING("/threads/general/messages/0/sender"),
                "{\"seq\":6,\"type\":\"message.sent\",\"actor\":null,\"trace\":\"tr\","
                "\"id\":\"m6\",\"thread\":\"general\",\"content\":\"hi\","
                "\"mentions\":[\"bob\"],\"reply_to\":null,\"data\":null}");
    static const char bare[] = "{\"seq\":6,\"type\":\"message.sent\",\"actor\":null}";
    expect_told(w, HIDING("/threads/general"), bare);
    expect_told(w, HIDING("/threads/*/messages"), bare);
    expect_told(w, HIDING("/*/*/messages/*"), bare);
    expect_told(w, HIDING(""), bare);
}

static void who_acts_in_a_thread_is_hidden_with_its_participants(void **state)
{
    struct world *w = *state;
    expect_event(w, "thread.add thread=general agent=cy by=ada");
    expect_told(w, HIDING("/threads/*/participants/ada"),
                "{\"seq\":6,\"type\":\"thread.participant_added\",\"actor\":null,"
                "\"thread\":\"general\",\"agent\":\"cy\",\"read\":6}");
    expect_told(w, HIDING("/threads/*/participants/cy"),
                "{\"seq\":6,\"type\":\"thread.participant_added\",\"actor\":null}");
    expect_told(w, HIDING("/threads/*/participants/*/read"),
                "{\"seq\":6,\"type\":\"thread.participant_added\",\"actor\":\"ada\","
                "\"thread\":\"general\",\"agent\":\"cy\",\"by\":\"ada\"}");
    expect_event(w, "thread.close thread=general by=ada summary=done");
    expect_told(w, HIDING("/threads/*/participants", "/threads/*/summary"),
                "{\"seq\":7,\"type\":\"thread.closed\",\"actor\":null,\"thread\":\"general\"}");
}

static void what_an_agent_leaves_or_acknowledges_is_told_by_thread(void **state)
{
    struct world *w = *state;
    expect_event(w, "thread.create creator=bob name=N participants=ada thread=other");
    expect_told(w, HIDING("/threads/*/participants/bob", "/threads/*/name"),
                "{\"seq\":6,\"type\":\"thread.created\",\"actor\":\"bob\",\"thread\":\"other\","
                "\"creator\":\"bob\",\"participants\":[null,\"ada\"]}");
    expect_told(w, HIDING("/threads/other/creator"),
                "{\"seq\":6,\"type\":\"thread.created\",\"actor\":null,\"thread\":\"other\","
                "\"name\":\"N\",\"participants\":[\"bob\",\"ada\"]}");
    expect_event(w, "agent.leave agent=ada");
    expect_told(w, HIDING("/threads/other"),
                "{\"seq\":7,\"type\":\"agent.left\",\"actor\":\"ada\",\"agent\":\"ada\","
                "\"threads\":[\"general\",null]}");
    expect_told(w, HIDING("/agents/ada"), "{\"seq\":7,\"type\":\"agent.left\",\"actor\":null}");
}

static struct str cursor_of(struct world *w, const char *agent)
{
    struct core_inbox inbox;
    struct core_inbox_query query = {.agent = str_of(agent), .limit = 10};
    struct buf out = {0};
    core_inbox_begin(&inbox, &query);
    assert_int_equal(core_inbox_from_state(w->s, &inbox), 0);
    core_inbox_finish(w->s, &inbox, &out);
    core_inbox_free(&inbox);
    json_t *answer = parse(&out);
    const char *cursor = json_string_value(json_object_get(answer, "cursor"));
    struct str copy = arena_copy(&w->scratch, str_of(cursor));
    json_decref(answer);
    return copy;
}

static void an_acknowledgement_is_about_its_threads(void **state)
{
    struct world *w = *state;
    char line[256];
    expect_event(w, "thread.create creator=ada name=N participants=bob thread=other");
    expect_event(w, "message.send thread=general sender=ada content=hi");
    expect_event(w, "message.send thread=other sender=ada content=hi");
    struct str cursor = cursor_of(w, "bob");
    snprintf(line, sizeof(line), "inbox.ack agent=bob cursor=%.*s", (int)cursor.n, cursor.p);
    expect_event(w, line);
    expect_told(w, HIDING("/threads/other", "/threads/*/participants/*/taken"),
                "{\"seq\":9,\"type\":\"inbox.acked\",\"actor\":\"bob\",\"agent\":\"bob\","
                "\"threads\":[{\"thread\":\"general\",\"read\":8},null]}");
    expect_told(w, HIDING("/threads/*/participants/bob"),
                "{\"seq\":9,\"type\":\"inbox.acked\",\"actor\":null}");
}

static void what_is_told_of_an_agent_is_told_by_member(void **state)
{
    struct world *w = *state;
    expect_event(w, "agent.update agent=ada status=working note=n labels=a:1,b:2 priority=3");
    expect_told(w, HIDING("/agents/*/note", "/agents/ada/labels/a", "/agents/bob"),
                "{\"seq\":6,\"type\":\"agent.updated\",\"actor\":\"ada\",\"agent\":\"ada\","
                "\"status\":\"working\",\"priority\":3,\"labels\":{\"b\":\"2\"}}");
    expect_event(w, "agent.wake agent=ada url=http://a.example/ mentions=true");
    expect_told(w, HIDING("/agents/*/wake/url"),
                "{\"seq\":7,\"type\":\"agent.wake_set\",\"actor\":\"ada\",\"agent\":\"ada\","
                "\"mentions\":true}");
    expect_event(w, "agent.wake_report agent=ada breaker=open why=down");
    expect_told(w, HIDING("/agents/*/wake/why"),
                "{\"seq\":8,\"type\":\"agent.wake_reported\",\"actor\":null,\"agent\":\"ada\","
                "\"breaker\":\"open\"}");
    expect_event(w, "session.update labels=a:1,c:2");
    expect_told(w, HIDING("/labels/a"),
                "{\"seq\":9,\"type\":\"session.updated\",\"actor\":null,"
                "\"labels\":{\"c\":\"2\"}}");
    expect_event(w, "session.close summary=s");
    expect_told(w, HIDING("/summary"), "{\"seq\":10,\"type\":\"session.closed\",\"actor\":null}");
}

/* A field that somebody adds to an event is not told to those from whom anything is hidden before
 * somebody says where it belongs; this says that somebody has to. */
static void every_field_of_every_event_has_a_place(void **state)
{
    struct redaction *redaction = HIDING("/none");
    (void)state;
    for (int type = CORE_TYPE_NONE + 1; type < CORE_TYPE_COUNT; type++) {
        const struct core_type_spec *spec = core_type_spec((enum core_type)type);
        struct buf event = {0}, told = {0};
        buf_add_literal(&event, "{\"seq\":1,\"ts\":\"t\",\"type\":");
        json_add_string(&event, str_of(spec->event_name));
        buf_add_literal(&event, ",\"actor\":null");
        for (int i = 0; i < spec->event_fields_n; i++) {
            const struct core_field_spec *field = &spec->event_fields[i];
            if (field->flags & FIELD_INTERNAL)
                continue;
            buf_add_literal(&event, ",\"");
            buf_add(&event, field->name, field->name_n);
            buf_add(&event,
                    field->kind == KIND_IDS || field->kind == KIND_READINGS ? "\":[]" : "\":\"x\"",
                    field->kind == KIND_IDS || field->kind == KIND_READINGS ? 4 : 5);
        }
        buf_add_byte(&event, '}');
        bool acked = type == CORE_INBOX_ACK; /* of no thread: of nothing that is shown */
        redact_event(redaction, buf_str(&event), &told);
        if (!acked && !str_equal(buf_str(&told), buf_str(&event)))
            fail_msg("%.*s is told as %.*s", (int)event.n, event.p, (int)told.n, told.p);
        buf_free(&event);
        buf_free(&told);
    }
    redaction_free(redaction);
}

/* ---- answers */

static void expect_body(struct redaction *redaction, struct request *request, const char *body,
                        const char *expected)
{
    request->body.n = 0;
    buf_add(&request->body, body, strlen(body));
    redact_reply(redaction, request);
    expect_text(&request->body, expected);
    redaction_free(redaction);
}

#define EVENT_OF(content)                                                                          \
    "{\"seq\":6,\"ts\":\"t\",\"type\":\"message.sent\",\"actor\":\"ada\",\"id\":\"m6\","           \
    "\"thread\":\"t\",\"sender\":\"ada\"" content ",\"mentions\":[],\"reply_to\":null,"            \
    "\"data\":null}"

static void answers_are_rewritten_by_kind(void **state)
{
    struct request request = {.kind = REQUEST_COMMANDS};
    (void)state;
    request.made = STR("m6");
    expect_body(HIDING("/threads/*/messages/*/content"), &request,
                "{\"seq\":6,\"id\":\"m6\",\"events\":[" EVENT_OF(",\"content\":\"x\"") "]}",
                "{\"seq\":6,\"id\":\"m6\",\"events\":[" EVENT_OF("") "]}");
    assert_true(str_equal(request.made, STR("m6")));
    request.batch = true;
    expect_body(HIDING(""), &request, "{\"results\":[{\"status\":200,\"seq\":6}],\"seq\":6}",
                "{\"results\":[{\"status\":200,\"seq\":6}],\"seq\":6}");
    arena_free(&request.arena);

    request = (struct request){.kind = REQUEST_EVENTS};
    expect_body(HIDING("/threads/t"), &request,
                "{\"events\":[" EVENT_OF("") "," EVENT_OF("") "],\"next\":6}",
                "{\"events\":[{\"seq\":6,\"ts\":\"t\",\"type\":\"message.sent\",\"actor\":null},"
                "{\"seq\":6,\"ts\":\"t\",\"type\":\"message.sent\",\"actor\":null}],\"next\":6}");

    request = (struct request){.kind = REQUEST_MESSAGES, .thread = STR("t")};
    expect_body(HIDING("/threads/t/messages/*/data/0"), &request,
                "{\"messages\":[{\"id\":\"m6\",\"data\":[1,{\"0\":2}]},{\"data\":{\"0\":1}}],"
                "\"next\":null}",
                "{\"messages\":[{\"id\":\"m6\",\"data\":[null,null]},{\"data\":{}}],"
                "\"next\":null}");

    request = (struct request){.kind = REQUEST_INBOX};
    expect_body(HIDING("/threads/x/messages"), &request,
                "{\"messages\":[{\"id\":\"m1\",\"thread\":\"x\"},{\"id\":\"m2\",\"thread\":\"y\"}],"
                "\"cursor\":\"c\",\"remaining\":0}",
                "{\"messages\":[null,{\"id\":\"m2\",\"thread\":\"y\"}],"
                "\"cursor\":\"c\",\"remaining\":0}");

    request = (struct request){.kind = REQUEST_DIFF};
    expect_body(HIDING("/labels/a", "/id"), &request,
                "{\"from\":1,\"ops\":[{\"op\":\"replace\",\"path\":\"/id\",\"value\":\"x\"},"
                "{\"op\":\"remove\",\"path\":\"/labels/a\"},"
                "{\"op\":\"remove\",\"path\":\"/labels/b\"}]}",
                "{\"from\":1,\"ops\":[{\"op\":\"remove\",\"path\":\"/labels/b\"}]}");
}

static void a_hidden_thread_is_not_there(void **state)
{
    static const char body[] =
        "{\"seq\":7,\"thread\":{\"id\":\"t\",\"name\":\"n\",\"messages\":[]}}";
    struct request request = {.kind = REQUEST_THREAD, .thread = STR("t"), .seq = 7};
    (void)state;
    expect_body(HIDING("/threads/t/name", "/threads/t/id"), &request, body,
                "{\"seq\":7,\"thread\":{\"id\":\"t\",\"messages\":[]}}");
    assert_int_equal(request.error, 0);
    expect_body(HIDING("/threads/t"), &request, body, "");
    assert_int_equal(request.error, CORE_E_UNKNOWN_THREAD);
    assert_string_equal(request.refusal.detail, "there is no thread \"t\" in this session");
}

#define SUMMARY(counts)                                                                            \
    "{\"session\":\"s\",\"epoch\":\"e\",\"status\":\"open\",\"labels\":{\"a\":\"1\"},\"seq\":3,"   \
    "\"ts\":\"t\",\"created_at\":\"t\"" counts "}"

/* A number tells of what it counts. */
static void summaries_count_only_what_is_shown(void **state)
{
    static const char all[] = SUMMARY(",\"agents\":2,\"threads\":1,\"messages\":9");
    struct request request = {.kind = REQUEST_LIST};
    struct request_change changes[2] = {{.size = sizeof(all) - 1},
                                        {.offset = sizeof(all) - 1, .size = sizeof(all) - 1}};
    (void)state;
    expect_body(HIDING("/agents/*/note"), &request, all, all);
    expect_body(HIDING("/agents/bob"), &request, all, SUMMARY(",\"threads\":1,\"messages\":9"));
    expect_body(HIDING("/threads/t9"), &request, all, SUMMARY(",\"agents\":2"));
    expect_body(HIDING("/threads/*/messages"), &request, all,
                SUMMARY(",\"agents\":2,\"threads\":1"));
    expect_body(HIDING("/*"), &request, all,
                "{\"session\":\"s\",\"epoch\":\"e\",\"seq\":3,\"ts\":\"t\"}");
    request = (struct request){.kind = REQUEST_CHANGES, .changes = changes, .changes_n = 2};
    buf_add(&request.body, all, sizeof(all) - 1);
    buf_add(&request.body, all, sizeof(all) - 1);
    struct redaction *redaction = HIDING("/agents", "/threads");
    redact_reply(redaction, &request);
    for (int i = 0; i < 2; i++) {
        struct str told = {request.body.p + changes[i].offset, changes[i].size};
        assert_true(str_equal(told, STR(SUMMARY(""))));
    }
    buf_free(&request.body);
    redaction_free(redaction);
}

/* So that a gate that was forgotten stays shut. */
static void an_answer_of_a_kind_that_is_not_known_is_none(void **state)
{
    struct request request = {.kind = REQUEST_EXPORT};
    (void)state;
    expect_body(HIDING("/labels"), &request, "{\"secret\":1}", "");
    assert_int_equal(request.error, CORE_E_INVARIANT);
}

static void expect_barred(struct redaction *redaction, const struct request *request,
                          const char *expected)
{
    const char *barred = redaction_bars(redaction, request);
    assert_string_equal(barred != NULL ? barred : "nothing", expected);
    redaction_free(redaction);
}

static void what_is_hidden_cannot_be_asked_by(void **state)
{
    struct request_label_filter labels[] = {{STR("a"), STR("1")}, {STR("q\"/"), {0}}};
    struct request list = {.kind = REQUEST_LIST, .labels = labels, .labels_n = 2};
    struct request events = {.kind = REQUEST_EVENTS, .agent = STR("ada")};
    struct request inbox = {.kind = REQUEST_INBOX, .inbox.from = STR("ada")};
    (void)state;
    expect_barred(HIDING("/labels/b", "/agents"), &list, "nothing");
    expect_barred(HIDING("/labels/q\"~1"), &list, "label");
    expect_barred(HIDING("/labels"), &list, "label");
    expect_barred(HIDING("/agents/bob", "/threads/*/messages/*/content"), &events, "nothing");
    expect_barred(HIDING("/agents/ada"), &events, "agent");
    expect_barred(HIDING("/threads/t9"), &events, "agent");
    expect_barred(HIDING("/threads/*/messages/*/sender"), &events, "agent");
    events = (struct request){.kind = REQUEST_EVENTS, .thread = STR("t1")};
    expect_barred(HIDING("/threads/t9", "/agents"), &events, "nothing");
    expect_barred(HIDING("/threads/t1"), &events, "thread");
    expect_barred(HIDING("/threads/*/participants/bob"), &events, "thread");
    expect_barred(HIDING("/threads/*/messages/*/content"), &inbox, "nothing");
    expect_barred(HIDING("/threads/*/messages/*/sender"), &inbox, "from");
    inbox = (struct request){.kind = REQUEST_INBOX, .inbox.mentions = true};
    expect_barred(HIDING("/threads/*/messages/*/mentions"), &inbox, "mentions");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_pointer_makes_no_redaction),
        cmocka_unit_test(the_hash_is_of_the_set),
        cmocka_unit_test(hidden_members_are_left_out_and_elements_are_null),
        cmocka_unit_test(a_pointer_may_begin_with_another),
        cmocka_unit_test(a_place_in_an_array_is_any),
        cmocka_unit_test(keys_are_compared_as_what_they_are),
        cmocka_unit_test(operations_keep_their_shape),
        cmocka_unit_test_setup_teardown(an_event_tells_what_the_state_shows, setup_general,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_acts_in_a_thread_is_hidden_with_its_participants,
                                        setup_general, teardown),
        cmocka_unit_test_setup_teardown(what_an_agent_leaves_or_acknowledges_is_told_by_thread,
                                        setup_general, teardown),
        cmocka_unit_test_setup_teardown(an_acknowledgement_is_about_its_threads, setup_general,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_told_of_an_agent_is_told_by_member, setup_general,
                                        teardown),
        cmocka_unit_test(every_field_of_every_event_has_a_place),
        cmocka_unit_test(answers_are_rewritten_by_kind),
        cmocka_unit_test(a_hidden_thread_is_not_there),
        cmocka_unit_test(summaries_count_only_what_is_shown),
        cmocka_unit_test(an_answer_of_a_kind_that_is_not_known_is_none),
        cmocka_unit_test(what_is_hidden_cannot_be_asked_by),
    };
    return cmocka_run_group_tests_name("redact", tests, NULL, NULL);
}
