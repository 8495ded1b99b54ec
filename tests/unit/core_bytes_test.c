/* JSON, bytes, names and memory of core/. */
#include "tests/unit/core_fixture.h"

static void expect_json(struct str s, const char *expected)
{
    struct buf out = {0};
    json_add_string(&out, s);
    expect_text(&out, expected);
}

static void strings_are_escaped_as_json(void **state)
{
    (void)state;
    expect_json((struct str){0}, "null");
    expect_json(STR(""), "\"\"");
    expect_json(STR("plain"), "\"plain\"");
    expect_json(STR("say \"hi\" \\ bye"), "\"say \\\"hi\\\" \\\\ bye\"");
    expect_json(STR("\b\f\n\r\t\x01\x1f\x7f"), "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
    expect_json(STR("\xf0\x9f\x8f\x9d \xc3\xa9 /"), "\"\xf0\x9f\x8f\x9d \xc3\xa9 /\"");
}

static void a_special_character_is_found_wherever_it_stands(void **state)
{
    (void)state;
    static const char special[] = {'"', '\\', '\n', 1, 31};
    for (size_t n = 1; n < 150; n++) {
        for (size_t at = 0; at < n; at++) {
            char text[150];
            struct buf out = {0};
            memset(text, (int)(0x20 + (at * 7 + n) % 2), n);
            text[at] = special[(n + at) % sizeof(special)];
            json_add_string(&out, (struct str){text, n});
            json_t *back = parse(&out);
            assert_int_equal(json_string_length(back), n);
            assert_memory_equal(json_string_value(back), text, n);
            json_decref(back);
        }
    }
}

/* However many of them there are, and wherever one block of a text ends and the next begins. */
static void many_special_characters_are_all_escaped(void **state)
{
    (void)state;
    uint32_t x = 1;
    for (size_t n = 0; n < 400; n++) {
        for (uint32_t among = 1; among <= 64; among *= 4) {
            char *text = mem_alloc(n); /* of this size, so that a look behind it is found */
            struct buf out = {0};
            for (size_t i = 0; i < n; i++) {
                x = x * 1664525 + 1013904223;
                static const char special[] = "\"\\\n\x01\x1f\t";
                text[i] = (x >> 16) % among == 0 ? special[(x >> 8) % 6] : (char)(' ' + n % 2);
            }
            json_add_string(&out, (struct str){text, n});
            json_t *back = parse(&out);
            assert_int_equal(json_string_length(back), n);
            assert_memory_equal(json_string_value(back), text, n);
            json_decref(back);
            free(text);
        }
    }
}

static void expect_time(int64_t ts_ms, const char *expected)
{
    struct buf out = {0};
    json_add_time(&out, ts_ms);
    expect_text(&out, expected);
}

static void times_are_rfc_3339(void **state)
{
    (void)state;
    expect_time(0, "\"1970-01-01T00:00:00.000Z\"");
    expect_time(951782399999, "\"2000-02-28T23:59:59.999Z\"");
    expect_time(951782400000, "\"2000-02-29T00:00:00.000Z\"");
    expect_time(951868800000, "\"2000-03-01T00:00:00.000Z\"");
    expect_time(1709164800001, "\"2024-02-29T00:00:00.001Z\"");
    expect_time(1735689599999, "\"2024-12-31T23:59:59.999Z\"");
    expect_time(4107542400000, "\"2100-03-01T00:00:00.000Z\"");
    expect_time(253402300799999, "\"9999-12-31T23:59:59.999Z\"");
    expect_time(INT64_MAX, "\"9999-12-31T23:59:59.999Z\"");
    expect_time(-1, "\"1970-01-01T00:00:00.000Z\"");
}

/* A second is kept from one time to the next. */
static void times_do_not_depend_on_the_one_before(void **state)
{
    (void)state;
    expect_time(1709164800001, "\"2024-02-29T00:00:00.001Z\"");
    expect_time(1709164800999, "\"2024-02-29T00:00:00.999Z\"");
    expect_time(1709164801000, "\"2024-02-29T00:00:01.000Z\"");
    expect_time(1709164800010, "\"2024-02-29T00:00:00.010Z\"");
    expect_time(1709164860010, "\"2024-02-29T00:01:00.010Z\"");
    expect_time(1709251200010, "\"2024-03-01T00:00:00.010Z\"");
    expect_time(0, "\"1970-01-01T00:00:00.000Z\"");
}

static void expect_number(uint64_t value)
{
    struct buf out = {0};
    char expected[24];
    snprintf(expected, sizeof(expected), "%llu", (unsigned long long)value);
    buf_add_u64(&out, value);
    expect_text(&out, expected);
}

static void numbers_are_decimal(void **state)
{
    (void)state;
    uint64_t power = 1;
    for (int digits = 1; digits <= 20; digits++) {
        for (uint64_t first = 1; first < 10 && first <= UINT64_MAX / power; first++) {
            expect_number(first * power - 1);
            expect_number(first * power);
            expect_number(first * power + power / 9);
        }
        power = digits < 20 ? power * 10 : power;
    }
    for (uint64_t value = 0; value < 20000; value++)
        expect_number(value * 10007);
    expect_number(UINT64_MAX);
    struct buf out = {0};
    buf_add_i64(&out, INT64_MIN);
    expect_text(&out, "-9223372036854775808");
}

static void ids_follow_their_rule(void **state)
{
    (void)state;
    char longest[66];
    memset(longest, 'a', sizeof(longest));
    assert_true(core_id_valid(STR("a")));
    assert_true(core_id_valid(STR("0-_Z")));
    assert_true(core_id_valid((struct str){longest, 64}));
    assert_false(core_id_valid((struct str){longest, 65}));
    assert_false(core_id_valid(STR("")));
    assert_false(core_id_valid((struct str){0}));
    assert_false(core_id_valid(STR("-a")));
    assert_false(core_id_valid(STR("_a")));
    assert_false(core_id_valid(STR("a.b")));
    assert_false(core_id_valid(STR("\xc3\xa9")));
    assert_true(core_thread_id_reserved(STR("t1")));
    assert_true(core_thread_id_reserved(STR("t007")));
    assert_false(core_thread_id_reserved(STR("t")));
    assert_false(core_thread_id_reserved(STR("t1a")));
    assert_false(core_thread_id_reserved(STR("T1")));
    assert_int_equal(core_message_seq(STR("m42")), 42);
    assert_int_equal(core_message_seq(STR("m9007199254740991")), 9007199254740991);
    assert_int_equal(core_message_seq(STR("m9007199254740992")), 0);
    assert_int_equal(core_message_seq(STR("m0")), 0);
    assert_int_equal(core_message_seq(STR("m042")), 0);
    assert_int_equal(core_message_seq(STR("m")), 0);
    assert_int_equal(core_message_seq(STR("m1x")), 0);
    assert_int_equal(core_message_seq((struct str){0}), 0);
}

static void names_are_found_in_the_tables(void **state)
{
    (void)state;
    for (int type = 1; type < CORE_TYPE_COUNT; type++) {
        const struct core_type_spec *spec = core_type_spec((enum core_type)type);
        bool ours = type == CORE_SESSION_FORK || type == CORE_AGENT_WAKE_REPORT;
        int command = ours ? CORE_TYPE_NONE : type;
        assert_int_equal(core_type_of_command(str_of(spec->command_name)), command);
        assert_int_equal(core_type_of_event(str_of(spec->event_name)), type);
    }
    assert_int_equal(core_type_of_command(STR("message.sent")), CORE_TYPE_NONE);
    assert_int_equal(core_type_of_event(STR("message.sen")), CORE_TYPE_NONE);
    assert_int_equal(core_type_of_event((struct str){0}), CORE_TYPE_NONE);
    for (int status = 0; status < AGENT_STATUS_COUNT; status++) {
        const char *name = core_status_name((enum core_agent_status)status);
        assert_int_equal(core_status_parse(str_of(name)), status);
    }
    assert_int_equal(core_status_parse(STR("asleep")), -1);
    assert_int_equal(core_error_status(CORE_E_UNKNOWN_AGENT), 404);
    assert_string_equal(core_error_name(CORE_E_UNKNOWN_AGENT), "unknown-agent");
    assert_string_equal(core_error_title(CORE_E_INVARIANT), "Internal error");
    assert_int_equal(core_limits_default.max[CORE_LIMIT_WINDOW_MESSAGES], 100);
}

static void every_event_field_may_be_left_out_unless_required(void **state)
{
    struct world *w = *state;
    static const char bytes[] = {CORE_MESSAGE_SEND, 1, 0};
    struct str in = {bytes, sizeof(bytes)};
    struct core_event event;
    assert_int_equal(core_event_decode(&in, &w->scratch, &event), -1);
    in = (struct str){NULL, 0};
    assert_int_equal(core_event_decode(&in, &w->scratch, &event), -1);
}

static void several_events_can_stand_in_a_row(void **state)
{
    struct world *w = *state;
    struct buf bytes = {0};
    expect_event(w, "message.send thread=general sender=ada content=one");
    core_event_encode(&w->event, &bytes);
    expect_event(w, "agent.update agent=ada priority=5 note=null");
    core_event_encode(&w->event, &bytes);
    struct str in = buf_str(&bytes);
    struct core_event event;
    assert_int_equal(core_event_decode(&in, &w->scratch, &event), 0);
    assert_int_equal(event.type, CORE_MESSAGE_SEND);
    assert_true(str_equal(event.f.content, STR("one")));
    assert_int_equal(core_event_decode(&in, &w->scratch, &event), 0);
    assert_int_equal(event.type, CORE_AGENT_UPDATE);
    assert_int_equal(event.f.priority, 5);
    assert_null(event.f.note.p);
    assert_true(event.f.given >> CORE_FIELD_NOTE & 1);
    assert_int_equal(event.ts_ms, w->now_ms);
    assert_int_equal(in.n, 0);
    buf_free(&bytes);
}

static void a_snapshot_brings_its_id(void **state)
{
    struct world *w = *state;
    struct buf bytes = {0};
    core_snapshot_encode(w->s, &bytes);
    struct core_session *other =
        core_session_new(&core_heap_malloc, &core_limits_default, STR("another"), STR("e"));
    assert_int_equal(core_snapshot_decode(other, buf_str(&bytes)), 0);
    assert_true(str_equal(core_session_id(other), STR("s1")));
    assert_true(str_equal(core_session_epoch(other), STR("e")));
    assert_null(core_session_parent(other).session.p);
    assert_true(hash_equal(core_state_hash(other), core_state_hash(w->s)));
    core_session_free(other);
    buf_free(&bytes);
}

static void a_snapshot_of_another_version_is_refused(void **state)
{
    struct world *w = *state;
    struct buf bytes = {0};
    core_snapshot_encode(w->s, &bytes);
    bytes.p[0]--;
    struct core_session *other =
        core_session_new(&core_heap_malloc, &core_limits_default, STR("s1"), STR("e"));
    assert_int_equal(core_snapshot_decode(other, buf_str(&bytes)), -1);
    core_session_free(other);
    buf_free(&bytes);
}

static void one_thread_is_shown_with_its_id(void **state)
{
    struct world *w = *state;
    struct buf out = {0};
    assert_false(core_view_thread(w->s, STR("x"), &out));
    assert_true(core_view_thread(w->s, STR("general"), &out));
    expect_text(&out, "{\"id\":\"general\",\"name\":\"General\",\"creator\":\"ada\",\"status\":"
                      "\"open\",\"summary\":null,\"participants\":{\"ada\":{\"read\":5,\"taken\":"
                      "[]},\"bob\":{\"read\":5,\"taken\":[]}},\"older\":0,\"messages\":[]}");
}

static void a_small_session_stays_small(void **state)
{
    struct world *w = *state;
    assert_true(w->heap_bytes < 1024);
    populate(w);
    for (int i = 0; i < 10; i++)
        expect_event(w, "message.send thread=general sender=ada content=A-short-message-of-words");
    print_message("three agents, a thread and ten messages: %zu bytes\n", w->heap_bytes);
    assert_true(w->heap_bytes < 8 * 1024);
}

static void names_beyond_the_first_few_are_found(void **state)
{
    struct world *w = *state;
    char line[100];
    expect_event(w, "session.create");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 1000; i++) {
            snprintf(line, sizeof(line), "agent.register agent=a%d", i);
            if (i % 3 == round % 3 || round == 0)
                expect_event(w, line);
            else
                expect_nothing(w, line);
        }
        for (int i = 0; i < 1000; i++) {
            snprintf(line, sizeof(line), "agent.leave agent=a%d", i);
            if (i % 3 == (round + 1) % 3)
                expect_event(w, line);
        }
        arena_reset(&w->scratch);
    }
    assert_true(core_session_has_agent(w->s, STR("a1")));
    assert_true(core_session_has_agent(w->s, STR("a2")));
    assert_false(core_session_has_agent(w->s, STR("a3")));
}

/* The id of a message follows from its seq. Bytes that bring one were written by somebody else. */
static void bytes_that_bring_a_derived_field_are_refused(void **state)
{
    (void)state;
    const struct core_type_spec *spec = core_type_spec(CORE_MESSAGE_SEND);
    unsigned derived = 0;
    while (spec->event_bits[derived] != spec->event_derived)
        derived++;
    struct core_event event = {.type = CORE_MESSAGE_SEND, .ts_ms = 1, .seq = 5};
    event.f.given = spec->event_required;
    event.f.thread = STR("work");
    event.f.sender = STR("a1");
    event.f.content = STR("hello");
    struct buf good = {0}, bad = {0};
    core_event_encode(&event, &good);
    const size_t mask_at = 2; /* behind the type and a time of one byte */
    buf_add(&bad, good.p, mask_at);
    buf_add_byte(&bad, (char)(good.p[mask_at] | 1 << derived));
    buf_add_literal(&bad, "\x02m5");
    buf_add(&bad, good.p + mask_at + 1, good.n - mask_at - 1);
    struct arena scratch = {0};
    struct str in = buf_str(&good);
    assert_int_equal(core_event_decode(&in, &scratch, &event), 0);
    in = buf_str(&bad);
    assert_int_equal(core_event_decode(&in, &scratch, &event), -1);
    arena_free(&scratch);
    buf_free(&good);
    buf_free(&bad);
}

#define EMPTY(test) cmocka_unit_test_setup_teardown(test, setup_empty, teardown)
#define GENERAL(test) cmocka_unit_test_setup_teardown(test, setup_general, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_escaped_as_json),
        cmocka_unit_test(a_special_character_is_found_wherever_it_stands),
        cmocka_unit_test(many_special_characters_are_all_escaped),
        cmocka_unit_test(times_are_rfc_3339),
        cmocka_unit_test(times_do_not_depend_on_the_one_before),
        cmocka_unit_test(numbers_are_decimal),
        cmocka_unit_test(ids_follow_their_rule),
        cmocka_unit_test(names_are_found_in_the_tables),
        EMPTY(every_event_field_may_be_left_out_unless_required),
        cmocka_unit_test(bytes_that_bring_a_derived_field_are_refused),
        GENERAL(several_events_can_stand_in_a_row),
        GENERAL(a_snapshot_brings_its_id),
        GENERAL(a_snapshot_of_another_version_is_refused),
        GENERAL(one_thread_is_shown_with_its_id),
        EMPTY(a_small_session_stays_small),
        EMPTY(names_beyond_the_first_few_are_found),
    };
    return cmocka_run_group_tests_name("core_bytes", tests, NULL, NULL);
}
