/* Forks, the way from one state to another, the chain, and what an event is about. */
#include "tests/unit/core_fixture.h"

#include <openssl/sha.h>

#define FORK_OF_GENERAL "session.fork session=s2 parent=s1 parent_epoch=k3x9 parent_seq=5"

/* ---- session.forked */

static void a_fork_has_its_own_id_and_names_its_parent(void **state)
{
    struct world *w = *state;
    char scratch[CORE_MADE_ID_BYTES];
    expect_view(w, "/parent", "null");
    assert_null(core_session_parent(w->s).session.p);
    expect_event(w, FORK_OF_GENERAL);
    expect_patch(w, "[{\"op\":\"replace\",\"path\":\"/id\",\"value\":\"s2\"},"
                    "{\"op\":\"replace\",\"path\":\"/parent\",\"value\":{\"session\":\"s1\","
                    "\"epoch\":\"k3x9\",\"seq\":5}}]");
    expect_view(w, "/id", "\"s2\"");
    expect_view(w, "/parent", "{\"session\":\"s1\",\"epoch\":\"k3x9\",\"seq\":5}");
    expect_view(w, "/threads/general/name", "\"General\"");
    assert_true(str_equal(core_session_id(w->s), STR("s2")));
    assert_true(str_equal(core_session_parent(w->s).session, STR("s1")));
    assert_true(str_equal(core_session_parent(w->s).epoch, STR("k3x9")));
    assert_int_equal(core_session_parent(w->s).seq, 5);
    assert_true(str_equal(core_event_made(&w->event, scratch), STR("s2")));
    assert_null(core_event_actor(&w->event).p);
}

static void the_parent_stands_behind_the_id(void **state)
{
    struct world *w = *state;
    struct buf out = {0};
    core_view(w->s, &out);
    static const char begins[] = "{\"id\":\"s1\",\"parent\":null,\"status\":\"open\"";
    assert_true(out.n > sizeof(begins));
    assert_memory_equal(out.p, begins, sizeof(begins) - 1);
    buf_free(&out);
}

static void a_forked_event_says_where_from(void **state)
{
    struct world *w = *state;
    struct buf out = {0};
    expect_event(w, FORK_OF_GENERAL " trace=t cause=c");
    core_event_json(&w->event, &out);
    expect_text(
        &out, "{\"seq\":6,\"ts\":\"2026-01-02T03:04:05.678Z\",\"type\":\"session.forked\","
              "\"actor\":null,\"trace\":\"t\",\"cause\":\"c\",\"session\":\"s2\",\"parent\":\"s1\","
              "\"parent_epoch\":\"k3x9\",\"parent_seq\":5}");
}

static void forking_has_no_name_for_clients(void **state)
{
    (void)state;
    assert_int_equal(core_type_of_command(STR("session.fork")), CORE_TYPE_NONE);
    assert_int_equal(core_type_of_event(STR("session.forked")), CORE_SESSION_FORK);
}

static void a_fork_is_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *line, *field;
    } wrong[] = {
        {"session.fork session=-s parent=s1 parent_epoch=k parent_seq=5", "session"},
        {"session.fork session=s2 parent=-s parent_epoch=k parent_seq=5", "parent"},
        {"session.fork session=s2 parent=s1 parent_epoch= parent_seq=5", "parent_epoch"},
        {"session.fork session=s2 parent=s1 parent_epoch=k parent_seq=4", "parent_seq"},
        {"session.fork parent=s1 parent_epoch=k parent_seq=5", "session"},
        {"session.fork session=s2 parent_epoch=k parent_seq=5", "parent"},
        {"session.fork session=s2 parent=s1 parent_seq=5", "parent_epoch"},
        {"session.fork session=s2 parent=s1 parent_epoch=k", "parent_seq"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        expect_refusal(w, wrong[i].line, CORE_E_MALFORMED, wrong[i].field);
    char line[200];
    snprintf(line, sizeof(line),
             "session.fork session=s2 parent=s1 parent_epoch=%041d parent_seq=5", 0);
    expect_refusal(w, line, CORE_E_MALFORMED, "parent_epoch");
}

static void nothing_cannot_be_forked(void **state)
{
    struct world *w = *state;
    expect_refusal(w, "session.fork session=s2 parent=s1 parent_epoch=k parent_seq=0",
                   CORE_E_UNKNOWN_SESSION, NULL);
}

static void expect_broken(struct world *w, const struct core_event *event)
{
    struct core_hash before = core_state_hash(w->s);
    assert_int_equal(core_apply(w->s, event, &w->why), -1);
    assert_int_equal(w->why.code, CORE_E_INVARIANT);
    assert_true(hash_equal(core_state_hash(w->s), before));
}

static void a_forked_event_that_does_not_belong_here_is_not_applied(void **state)
{
    struct world *w = *state;
    assert_int_equal(decide_line(w, FORK_OF_GENERAL), CORE_EVENT);
    struct core_event event = w->event;
    event.f.session = STR("no id");
    expect_broken(w, &event);
    event = w->event;
    event.f.parent = STR("no id");
    expect_broken(w, &event);
    event = w->event;
    event.f.parent_seq = 4;
    expect_broken(w, &event);
    event = w->event;
    event.f.parent_epoch = (struct str){0};
    expect_broken(w, &event);
    assert_int_equal(core_apply(w->s, &w->event, &w->why), 0);
}

static void a_closed_session_can_be_forked_and_stays_closed(void **state)
{
    struct world *w = *state;
    expect_event(w, "session.close summary=done");
    expect_event(w, "session.fork session=s2 parent=s1 parent_epoch=k3x9 parent_seq=6");
    assert_true(core_session_closed(w->s));
    expect_view(w, "/status", "\"closed\"");
    expect_view(w, "/summary", "\"done\"");
}

static void a_fork_can_be_forked(void **state)
{
    struct world *w = *state;
    expect_event(w, FORK_OF_GENERAL);
    expect_event(w, "message.send thread=general sender=ada content=hello");
    expect_event(w,
                 "session.fork session=a-much-longer-id parent=s2 parent_epoch=x.1 parent_seq=7");
    assert_true(str_equal(core_session_id(w->s), STR("a-much-longer-id")));
    expect_view(w, "/parent", "{\"session\":\"s2\",\"epoch\":\"x.1\",\"seq\":7}");
    expect_event(w, "message.send thread=general sender=bob content=hello");
    expect_view(w, "/threads/general/messages/1/id", "\"m9\"");
}

static void a_fork_is_undone(void **state)
{
    struct world *w = *state;
    for (int forks = 0; forks < 2; forks++) {
        struct core_hash before = core_state_hash(w->s);
        size_t heap_bytes = w->heap_bytes;
        json_t *view = view_of(w->s);
        char line[100];
        core_begin(w->s);
        for (int i = 0; i < 3; i++) {
            struct str id = core_session_id(w->s);
            snprintf(line, sizeof(line),
                     "session.fork session=f%d parent=%.*s parent_epoch=e parent_seq=%d", forks + i,
                     (int)id.n, id.p, (int)core_session_seq(w->s));
            expect_event(w, line);
        }
        core_undo(w->s);
        json_t *again = view_of(w->s);
        assert_true(json_equal(view, again));
        assert_true(hash_equal(core_state_hash(w->s), before));
        assert_int_equal(w->heap_bytes, heap_bytes);
        json_decref(view);
        json_decref(again);
        if (forks == 0)
            expect_event(w, FORK_OF_GENERAL);
    }
    assert_true(str_equal(core_session_id(w->s), STR("s2")));
}

/* A session of its own in the same state. */
static struct core_session *copy_of(struct world *w, const struct core_session *s,
                                    const char *made_as)
{
    struct buf bytes = {0};
    struct core_session *copy =
        core_session_new(&w->heap, &w->limits, str_of(made_as), STR("other"));
    core_snapshot_encode(s, &bytes);
    assert_int_equal(core_snapshot_decode(copy, buf_str(&bytes)), 0);
    buf_free(&bytes);
    return copy;
}

static void a_snapshot_keeps_the_parent(void **state)
{
    struct world *w = *state;
    struct core_hash parents = core_state_hash(w->s);
    expect_event(w, FORK_OF_GENERAL);
    assert_false(hash_equal(core_state_hash(w->s), parents));
    static const char *const made_as[] = {"s1", "s2", "s3"};
    for (int i = 0; i < 3; i++) {
        struct core_session *copy = copy_of(w, w->s, made_as[i]);
        assert_true(hash_equal(core_state_hash(copy), core_state_hash(w->s)));
        assert_true(str_equal(core_session_id(copy), STR("s2")));
        assert_true(str_equal(core_session_parent(copy).session, STR("s1")));
        assert_int_equal(core_session_parent(copy).seq, 5);
        core_session_free(copy);
    }
}

static void parents_tell_states_apart(void **state)
{
    struct world *w = *state;
    static const char *const epochs[] = {"k3x9", "k3y0"};
    struct core_hash hashes[2];
    for (int i = 0; i < 2; i++) {
        char line[100];
        snprintf(line, sizeof(line),
                 "session.fork session=s2 parent=s1 parent_epoch=%s parent_seq=5", epochs[i]);
        core_begin(w->s);
        expect_event(w, line);
        hashes[i] = core_state_hash(w->s);
        core_undo(w->s);
    }
    assert_false(hash_equal(hashes[0], hashes[1]));
}

/* ---- diff */

static void expect_diff(const struct core_session *from, const struct core_session *to,
                        const char *expected)
{
    struct buf out = {0};
    core_diff(from, to, &out);
    expect_text(&out, expected);
}

/* Makes of w->s what the lines say, and gives the state before. */
static struct core_session *after(struct world *w, const char *const lines[])
{
    struct core_session *before = copy_of(w, w->s, "s1");
    for (; *lines != NULL; lines++)
        expect_event(w, *lines);
    return before;
}

#define AFTER(w, ...) after((w), (const char *const[]){__VA_ARGS__, NULL})

static void equal_states_differ_in_nothing(void **state)
{
    struct world *w = *state;
    expect_event(w, "session.update labels=a:1");
    expect_event(w, "message.send thread=general sender=ada content=c mentions=bob data=[1]");
    expect_event(w, "agent.leave agent=cy");
    expect_event(w, "agent.register agent=cy");
    struct core_session *copy = copy_of(w, w->s, "s1");
    expect_diff(w->s, w->s, "[]");
    expect_diff(w->s, copy, "[]");
    core_session_free(copy);
}

static void members_of_the_session_are_replaced(void **state)
{
    struct world *w = *state;
    expect_event(w, "session.update labels=a/b:1,keep:x,other:2");
    struct core_session *before =
        AFTER(w, "session.update labels=a/b:null,other:3,z~:4", "session.close summary=done",
              "session.fork session=s2 parent=s1 parent_epoch=k3x9 parent_seq=8");
    expect_diff(before, w->s,
                "[{\"op\":\"replace\",\"path\":\"/id\",\"value\":\"s2\"},"
                "{\"op\":\"replace\",\"path\":\"/parent\",\"value\":{\"session\":\"s1\","
                "\"epoch\":\"k3x9\",\"seq\":8}},"
                "{\"op\":\"replace\",\"path\":\"/status\",\"value\":\"closed\"},"
                "{\"op\":\"replace\",\"path\":\"/summary\",\"value\":\"done\"},"
                "{\"op\":\"remove\",\"path\":\"/labels/a~1b\"},"
                "{\"op\":\"add\",\"path\":\"/labels/other\",\"value\":\"3\"},"
                "{\"op\":\"add\",\"path\":\"/labels/z~0\",\"value\":\"4\"}]");
    expect_diff(w->s, before,
                "[{\"op\":\"replace\",\"path\":\"/id\",\"value\":\"s1\"},"
                "{\"op\":\"replace\",\"path\":\"/parent\",\"value\":null},"
                "{\"op\":\"replace\",\"path\":\"/status\",\"value\":\"open\"},"
                "{\"op\":\"replace\",\"path\":\"/summary\",\"value\":null},"
                "{\"op\":\"add\",\"path\":\"/labels/a~1b\",\"value\":\"1\"},"
                "{\"op\":\"add\",\"path\":\"/labels/other\",\"value\":\"2\"},"
                "{\"op\":\"remove\",\"path\":\"/labels/z~0\"}]");
    core_session_free(before);
}

static void an_unmade_session_is_where_all_began(void **state)
{
    struct world *w = *state;
    struct core_session *before =
        core_session_new(&core_heap_malloc, &core_limits_default, STR("s1"), STR("e"));
    expect_event(w, "session.create labels=a:1");
    expect_diff(before, w->s,
                "[{\"op\":\"replace\",\"path\":\"/created_at\",\"value\":"
                "\"2026-01-02T03:04:05.678Z\"},"
                "{\"op\":\"add\",\"path\":\"/labels/a\",\"value\":\"1\"}]");
    expect_diff(w->s, before,
                "[{\"op\":\"replace\",\"path\":\"/created_at\",\"value\":null},"
                "{\"op\":\"remove\",\"path\":\"/labels/a\"}]");
    core_session_free(before);
}

static void agents_come_change_and_go(void **state)
{
    struct world *w = *state;
    struct core_session *before = AFTER(
        w, "agent.update agent=ada status=working note=busy priority=2 labels=a:1",
        "agent.update agent=ada description=d", "agent.leave agent=cy", "agent.register agent=dan");
    expect_diff(before, w->s,
                "[{\"op\":\"remove\",\"path\":\"/agents/cy\"},"
                "{\"op\":\"replace\",\"path\":\"/agents/ada/status\",\"value\":\"working\"},"
                "{\"op\":\"replace\",\"path\":\"/agents/ada/note\",\"value\":\"busy\"},"
                "{\"op\":\"replace\",\"path\":\"/agents/ada/description\",\"value\":\"d\"},"
                "{\"op\":\"replace\",\"path\":\"/agents/ada/priority\",\"value\":2},"
                "{\"op\":\"add\",\"path\":\"/agents/ada/labels/a\",\"value\":\"1\"},"
                "{\"op\":\"add\",\"path\":\"/agents/dan\",\"value\":{\"description\":null,"
                "\"status\":\"idle\",\"note\":null,\"priority\":0,\"labels\":{},"
                "\"lease_s\":null,\"wake\":null}}]");
    core_session_free(before);
}

static void threads_and_participants_come_change_and_go(void **state)
{
    struct world *w = *state;
    struct core_session *before =
        AFTER(w, "thread.add thread=general agent=cy by=ada",
              "thread.remove thread=general agent=bob by=ada",
              "thread.create creator=bob name=n participants= thread=x",
              "message.send thread=general sender=ada content=c",
              "thread.read thread=general agent=cy upto=9", "thread.close thread=general by=ada");
    expect_diff(before, w->s,
                "[{\"op\":\"replace\",\"path\":\"/threads/general/status\",\"value\":\"closed\"},"
                "{\"op\":\"remove\",\"path\":\"/threads/general/participants/bob\"},"
                "{\"op\":\"add\",\"path\":\"/threads/general/participants/cy\",\"value\":"
                "{\"read\":9,\"taken\":[]}},"
                "{\"op\":\"replace\",\"path\":\"/threads/general/older\",\"value\":1},"
                "{\"op\":\"add\",\"path\":\"/threads/x\",\"value\":{\"name\":\"n\",\"creator\":"
                "\"bob\",\"status\":\"open\",\"summary\":null,\"participants\":{\"bob\":{\"read\":"
                "8,\"taken\":[]}},\"older\":0,\"messages\":[]}}]");
    expect_diff(w->s, before,
                "[{\"op\":\"remove\",\"path\":\"/threads/x\"},"
                "{\"op\":\"replace\",\"path\":\"/threads/general/status\",\"value\":\"open\"},"
                "{\"op\":\"remove\",\"path\":\"/threads/general/participants/cy\"},"
                "{\"op\":\"add\",\"path\":\"/threads/general/participants/bob\",\"value\":"
                "{\"read\":5,\"taken\":[]}},"
                "{\"op\":\"replace\",\"path\":\"/threads/general/older\",\"value\":0}]");
    core_session_free(before);
}

#define MESSAGE(n, content)                                                                        \
    "{\"id\":\"m" n "\",\"seq\":" n ",\"ts\":\"2026-01-02T03:04:05.678Z\",\"sender\":\"ada\","     \
    "\"content\":\"" content "\",\"mentions\":[],\"reply_to\":null,\"data\":null}"
#define MESSAGES "/threads/general/messages"
#define SEND(content) "message.send thread=general sender=ada content=" content

/* Windows of three messages: 6 7 8, then 8 9 10. */
static void windows_move_over_what_they_share(void **state)
{
    struct world *w = *state;
    core_session_free(AFTER(w, SEND("a"), SEND("b"), SEND("c")));
    struct core_session *before = AFTER(w, SEND("d"), SEND("e"));
    expect_diff(before, w->s,
                "[{\"op\":\"replace\",\"path\":\"/threads/general/older\",\"value\":2},"
                "{\"op\":\"remove\",\"path\":\"" MESSAGES "/0\"},"
                "{\"op\":\"remove\",\"path\":\"" MESSAGES "/0\"},"
                "{\"op\":\"add\",\"path\":\"" MESSAGES
                "/-\",\"value\":" MESSAGE("9", "d") "},"
                                                    "{\"op\":\"add\",\"path\":\"" MESSAGES
                                                    "/-\",\"value\":" MESSAGE("10", "e") "}]");
    expect_diff(w->s, before,
                "[{\"op\":\"replace\",\"path\":\"/threads/general/older\",\"value\":0},"
                "{\"op\":\"remove\",\"path\":\"" MESSAGES "/1\"},"
                "{\"op\":\"remove\",\"path\":\"" MESSAGES "/1\"},"
                "{\"op\":\"add\",\"path\":\"" MESSAGES
                "/0\",\"value\":" MESSAGE("6", "a") "},"
                                                    "{\"op\":\"add\",\"path\":\"" MESSAGES
                                                    "/1\",\"value\":" MESSAGE("7", "b") "}]");
    core_session_free(before);
}

static void windows_that_share_nothing_are_replaced(void **state)
{
    struct world *w = *state;
    struct core_session *empty = AFTER(w, SEND("a"), SEND("b"), SEND("c"));
    struct core_session *before = AFTER(w, SEND("d"), SEND("e"), SEND("f"));
    expect_diff(before, w->s,
                "[{\"op\":\"replace\",\"path\":\"/threads/general/older\",\"value\":3},"
                "{\"op\":\"replace\",\"path\":\"" MESSAGES "\",\"value\":[" MESSAGE(
                    "9", "d") "," MESSAGE("10", "e") "," MESSAGE("11", "f") "]}]");
    expect_diff(before, empty, "[{\"op\":\"replace\",\"path\":\"" MESSAGES "\",\"value\":[]}]");
    core_session_free(empty);
    core_session_free(before);
}

/* Two ways on from the message 6: what they say under 7 is not the same. */
static void a_seq_does_not_make_messages_the_same(void **state)
{
    struct world *w = *state;
    expect_event(w, SEND("a"));
    struct core_session *trunk = AFTER(w, SEND("left"));
    struct core_session *left = w->s;
    w->s = trunk;
    expect_event(w, SEND("right"));
    expect_diff(left, w->s,
                "[{\"op\":\"remove\",\"path\":\"" MESSAGES "/1\"},"
                "{\"op\":\"add\",\"path\":\"" MESSAGES
                "/-\",\"value\":" MESSAGE("7", "right") "}]");
    core_session_free(left);
}

static void whatever_a_message_holds_tells_it_from_another(void **state)
{
    struct world *w = *state;
    static const char base[] = SEND("a") " data=[1] reply_to=m6 mentions=bob,ada";
    static const char *const others[] = {
        SEND("b") " data=[1] reply_to=m6 mentions=bob,ada",
        SEND("a") " data=[2] reply_to=m6 mentions=bob,ada",
        SEND("a") " reply_to=m6 mentions=bob,ada",
        SEND("a") " data=[1] mentions=bob,ada",
        SEND("a") " data=[1] reply_to=m6 mentions=bob",
        SEND("a") " data=[1] reply_to=m6 mentions=ada,bob",
        "message.send thread=general sender=bob content=a data=[1] reply_to=m6 mentions=bob,ada",
        base, /* at another time */
    };
    expect_event(w, SEND("first"));
    struct core_session *trunk = AFTER(w, base);
    struct core_session *left = w->s;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        w->s = copy_of(w, trunk, "s1");
        w->now_ms += others[i] == base ? 1 : 0;
        expect_event(w, others[i]);
        struct buf out = {0};
        core_diff(left, w->s, &out);
        json_t *patch = parse(&out);
        assert_int_equal(json_array_size(patch), 2); /* one goes, one comes */
        json_decref(patch);
        core_session_free(w->s);
    }
    w->s = left;
    core_session_free(trunk);
}

/* ---- chain */

static void expect_chain(const struct core_chain *chain, const char *hex)
{
    char text[2 * sizeof(chain->bytes) + 1];
    for (size_t i = 0; i < sizeof(chain->bytes); i++)
        snprintf(text + 2 * i, 3, "%02x", chain->bytes[i]);
    assert_string_equal(text, hex);
}

/* (head -c 32 /dev/zero; printf '\1\0\0\0\0\0\0\0\3\5\0') | openssl dgst -sha256
 * and the same again with that instead of the zeros, for seq 258 and no bytes. */
static void the_chain_is_sha_256_of_what_core_h_says(void **state)
{
    (void)state;
    struct core_chain chain = {0};
    struct buf bytes = {0};
    core_event_encode(&(struct core_event){.type = CORE_SESSION_CLOSE, .ts_ms = 5}, &bytes);
    assert_int_equal(bytes.n, 3);
    assert_memory_equal(bytes.p, "\3\5\0", 3);
    core_chain_add(&chain, 1, buf_str(&bytes));
    expect_chain(&chain, "c712bd2dbd5f9cb8cfaf599912582541e5895db8deec4d19542afa255f1a8556");
    core_chain_add(&chain, 258, (struct str){0});
    expect_chain(&chain, "b3f9de4d1053225a0181420452f6539e87c935134b2a0998e4a5c2d7ce1873fe");
    buf_free(&bytes);
}

/* Around every block's end, and where events are too long to be put together first. */
static void the_chain_is_the_same_for_every_length(void **state)
{
    (void)state;
    struct {
        uint8_t before[32];
        uint64_t seq;
        char event[1200];
    } text = {.before = {1, 2, 3}, .seq = UINT64_C(0x0102030405060708)};
    for (size_t i = 0; i < sizeof(text.event); i++)
        text.event[i] = (char)(i * 7);
    for (size_t n = 0; n <= sizeof(text.event); n++) {
        struct core_chain chain;
        uint8_t expected[32];
        memcpy(chain.bytes, text.before, sizeof(chain.bytes));
        core_chain_add(&chain, text.seq, (struct str){text.event, n});
        SHA256((const uint8_t *)&text, offsetof(__typeof__(text), event) + n, expected);
        assert_memory_equal(chain.bytes, expected, sizeof(expected));
    }
}

static void every_byte_counts_in_the_chain(void **state)
{
    struct world *w = *state;
    struct buf bytes = {0};
    expect_event(w, "message.send thread=general sender=ada content=hello mentions=bob");
    core_event_encode(&w->event, &bytes);
    struct core_chain before = {{7}};
    struct core_chain right = before;
    core_chain_add(&right, 6, buf_str(&bytes));
    for (size_t i = 0; i < bytes.n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct core_chain wrong = before;
            bytes.p[i] ^= (char)(1 << bit);
            core_chain_add(&wrong, 6, buf_str(&bytes));
            bytes.p[i] ^= (char)(1 << bit);
            assert_memory_not_equal(&wrong, &right, sizeof(right));
        }
    }
    struct core_chain other = before;
    core_chain_add(&other, 7, buf_str(&bytes));
    assert_memory_not_equal(&other, &right, sizeof(right));
    other = (struct core_chain){{8}};
    core_chain_add(&other, 6, buf_str(&bytes));
    assert_memory_not_equal(&other, &right, sizeof(right));
    other = before;
    core_chain_add(&other, 6, buf_str(&bytes));
    assert_memory_equal(&other, &right, sizeof(right));
    buf_free(&bytes);
}

/* ---- what an event is about */

struct about {
    const char *line;
    const char *agents;  /* of ada, bob, cy and dan */
    const char *threads; /* of general and x */
};

static bool names(const char *list, const char *name)
{
    return strstr(list, name) != NULL;
}

static void events_are_by_or_about_agents_and_threads(void **state)
{
    struct world *w = *state;
    static const struct about all[] = {
        {"session.update labels=ada:general", "", ""},
        {"agent.register agent=dan", "dan", ""},
        {"agent.update agent=dan note=bob", "dan", ""},
        {"thread.create creator=bob name=general participants=cy,dan thread=x", "bob cy dan", "x"},
        {"thread.add thread=general agent=cy by=ada", "ada cy", "general"},
        {"message.send thread=general sender=ada content=dan mentions=bob", "ada bob", "general"},
        {"thread.read thread=general agent=cy upto=11", "cy", "general"},
        {"thread.remove thread=general agent=cy by=bob", "bob cy", "general"},
        {"agent.leave agent=bob", "bob", "general x"},
        {"thread.close thread=x by=cy", "cy", "x"},
        {"session.close summary=ada", "", ""},
    };
    static const char *const agents[] = {"ada", "bob", "cy", "dan"};
    static const char *const threads[] = {"general", "x"};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        expect_event(w, all[i].line);
        for (int k = 0; k < 4; k++) {
            if (core_event_of_agent(&w->event, str_of(agents[k])) !=
                names(all[i].agents, agents[k]))
                fail_msg("%s: %s", all[i].line, agents[k]);
        }
        for (int k = 0; k < 2; k++) {
            if (core_event_of_thread(&w->event, str_of(threads[k])) !=
                names(all[i].threads, threads[k]))
                fail_msg("%s: %s", all[i].line, threads[k]);
        }
    }
}

static void an_acknowledgement_is_about_its_threads(void **state)
{
    (void)state;
    struct core_reading readings[] = {{.thread = STR("a")}, {.thread = STR("b")}};
    struct core_event event = {.type = CORE_INBOX_ACK,
                               .f = {.agent = STR("bob"), .readings = readings, .readings_n = 2}};
    assert_true(core_event_of_thread(&event, STR("a")));
    assert_true(core_event_of_thread(&event, STR("b")));
    assert_false(core_event_of_thread(&event, STR("c")));
    assert_true(core_event_of_agent(&event, STR("bob")));
    assert_false(core_event_of_agent(&event, STR("a")));
}

#define EMPTY(test) cmocka_unit_test_setup_teardown(test, setup_empty, teardown)
#define GENERAL(test) cmocka_unit_test_setup_teardown(test, setup_general, teardown)
#define SMALL(test) cmocka_unit_test_setup_teardown(test, setup_small, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GENERAL(a_fork_has_its_own_id_and_names_its_parent),
        GENERAL(the_parent_stands_behind_the_id),
        GENERAL(a_forked_event_says_where_from),
        cmocka_unit_test(forking_has_no_name_for_clients),
        GENERAL(a_fork_is_refused),
        EMPTY(nothing_cannot_be_forked),
        GENERAL(a_forked_event_that_does_not_belong_here_is_not_applied),
        GENERAL(a_closed_session_can_be_forked_and_stays_closed),
        GENERAL(a_fork_can_be_forked),
        GENERAL(a_fork_is_undone),
        GENERAL(a_snapshot_keeps_the_parent),
        GENERAL(parents_tell_states_apart),
        GENERAL(equal_states_differ_in_nothing),
        GENERAL(members_of_the_session_are_replaced),
        EMPTY(an_unmade_session_is_where_all_began),
        GENERAL(agents_come_change_and_go),
        GENERAL(threads_and_participants_come_change_and_go),
        SMALL(windows_move_over_what_they_share),
        SMALL(windows_that_share_nothing_are_replaced),
        SMALL(a_seq_does_not_make_messages_the_same),
        GENERAL(whatever_a_message_holds_tells_it_from_another),
        cmocka_unit_test(the_chain_is_sha_256_of_what_core_h_says),
        cmocka_unit_test(the_chain_is_the_same_for_every_length),
        GENERAL(every_byte_counts_in_the_chain),
        GENERAL(events_are_by_or_about_agents_and_threads),
        cmocka_unit_test(an_acknowledgement_is_about_its_threads),
    };
    return cmocka_run_group_tests_name("core_history", tests, NULL, NULL);
}
