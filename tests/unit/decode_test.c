/*
 * decode: every kind of field, taken and refused, with the exact sentences, since those are what a
 * client's author reads; and mutated bodies, which may be refused but never do harm.
 */
#include "server/decode.h"

#include "server/json.h"
#include "server/router.h"
#include "server/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX_COMMANDS = 50, MAX_BYTES = 200 * 1024 };

static struct core_limits limits;
static struct seal_key seal;
static struct decoder *decoder;
static struct request *request;
static struct core_refusal why;

static int make_request(void **state)
{
    (void)state;
    limits = core_limits_default;
    limits.max[CORE_LIMIT_CONTENT_BYTES] = 1000;
    limits.max[CORE_LIMIT_DATA_BYTES] = 64;
    limits.max[CORE_LIMIT_TEXT_BYTES] = 16;
    limits.max[CORE_LIMIT_LABELS] = 3;
    limits.max[CORE_LIMIT_LABEL_BYTES] = 8;
    limits.max[CORE_LIMIT_PARTICIPANTS] = 20;
    limits.max[CORE_LIMIT_MENTIONS] = 2;
    decoder = decoder_new(&limits, MAX_COMMANDS, MAX_BYTES);
    seal_key_init(&seal, (const uint8_t[SEAL_KEY_BYTES]){1});
    decoder_seal_with(decoder, &seal);
    request = request_new();
    request->session = STR("s1");
    return 0;
}

static int free_request(void **state)
{
    (void)state;
    arena_free(&request->arena);
    request_free(request);
    decoder_free(decoder);
    return 0;
}

static struct str text_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

static void assert_str(struct str s, const char *expected)
{
    assert_non_null(s.p);
    assert_int_equal(s.n, strlen(expected));
    assert_memory_equal(s.p, expected, s.n);
}

static const struct core_fields *decode(const char *body)
{
    request->key = (struct str){0};
    if (decode_commands(decoder, text_of(body), false, request, &why) != 0)
        fail_msg("%s: %s", body, why.detail);
    assert_int_equal(request->commands_n, 1);
    assert_false(request->batch);
    assert_null(request->commands[0].bad);
    return &request->commands[0].command.f;
}

static void assert_why(enum core_error code, const char *field, const char *detail)
{
    assert_string_equal(why.detail, detail);
    assert_int_equal(why.code, code);
    if (field == NULL)
        assert_null(why.field);
    else
        assert_string_equal(why.field, field);
}

static void assert_refused(const char *body, enum core_error code, const char *field,
                           const char *detail)
{
    memset(&why, 0xff, sizeof(why));
    if (decode_commands(decoder, text_of(body), false, request, &why) == 0)
        fail_msg("taken: %s", body);
    assert_int_equal(request->commands_n, 0);
    assert_why(code, field, detail);
}

static bool given(const struct core_fields *f, enum core_field field)
{
    return (f->given >> field & 1) != 0;
}

/* ---- what is taken */

static void a_message_has_all_its_fields(void **state)
{
    (void)state;
    const struct core_fields *f = decode(
        "{\"content\":\"hi "
        "\\u00e9\\n\",\"sender\":\"a\",\"type\":\"message.send\",\"thread\":\"t1\","
        "\"mentions\":[\"b\",\"c\",\"b\"],\"reply_to\":\"m7\",\"data\":{\"b\":1.50,\"a\":[null]},"
        "\"trace\":\"x\",\"cause\":\"\"}");
    assert_int_equal(request->commands[0].command.type, CORE_MESSAGE_SEND);
    assert_str(f->content, "hi \xc3\xa9\n");
    assert_str(f->sender, "a");
    assert_str(f->thread, "t1");
    assert_int_equal(f->mentions.n, 2);
    assert_str(f->mentions.items[0], "b");
    assert_str(f->mentions.items[1], "c");
    assert_str(f->reply_to, "m7");
    assert_str(f->data, "{\"a\":[null],\"b\":1.5}");
    assert_str(f->trace, "x");
    assert_str(f->cause, "");
    assert_true(f->given ==
                (UINT64_C(1) << CORE_FIELD_THREAD | UINT64_C(1) << CORE_FIELD_SENDER |
                 UINT64_C(1) << CORE_FIELD_CONTENT | UINT64_C(1) << CORE_FIELD_MENTIONS |
                 UINT64_C(1) << CORE_FIELD_REPLY_TO | UINT64_C(1) << CORE_FIELD_DATA |
                 UINT64_C(1) << CORE_FIELD_TRACE | UINT64_C(1) << CORE_FIELD_CAUSE));
}

static void null_is_given_and_has_no_text(void **state)
{
    (void)state;
    const struct core_fields *f =
        decode("{\"type\":\"message.send\",\"thread\":\"t\",\"sender\":\"a\",\"content\":\"\","
               "\"data\":null,\"reply_to\":null}");
    assert_true(given(f, CORE_FIELD_DATA) && f->data.p == NULL);
    assert_true(given(f, CORE_FIELD_REPLY_TO) && f->reply_to.p == NULL);
    assert_str(f->content, "");
    assert_false(given(f, CORE_FIELD_MENTIONS));
}

static void an_agent_update_has_status_priority_and_labels(void **state)
{
    (void)state;
    const struct core_fields *f =
        decode("{\"type\":\"agent.update\",\"agent\":\"a\",\"status\":\"question\",\"note\":null,"
               "\"priority\":-9007199254740991,\"labels\":{\"z\":\"1\",\"a\":null,\"m\":\"\"}}");
    assert_int_equal(f->status, AGENT_QUESTION);
    assert_true(f->priority == -9007199254740991);
    assert_true(given(f, CORE_FIELD_NOTE) && f->note.p == NULL);
    assert_int_equal(f->labels.n, 3);
    assert_str(f->labels.items[0].key, "a");
    assert_null(f->labels.items[0].value.p);
    assert_str(f->labels.items[1].key, "m");
    assert_str(f->labels.items[1].value, "");
    assert_str(f->labels.items[2].key, "z");
}

static void numbers_and_booleans_are_taken(void **state)
{
    (void)state;
    assert_true(decode("{\"type\":\"session.create\",\"ttl_s\":9007199254740991}")->ttl_s ==
                CORE_SAFE_INTEGER);
    assert_true(decode("{\"type\":\"session.create\",\"ttl_s\":1e3}")->ttl_s == 1000);
    assert_true(
        decode("{\"type\":\"thread.read\",\"thread\":\"t\",\"agent\":\"a\",\"upto\":0}")->upto ==
        0);
    assert_true(decode("{\"type\":\"thread.add\",\"thread\":\"t\",\"agent\":\"a\",\"by\":\"b\","
                       "\"history\":true}")
                    ->history);
    assert_false(decode("{\"type\":\"thread.add\",\"thread\":\"t\",\"agent\":\"a\",\"by\":\"b\","
                        "\"history\":false}")
                     ->history);
}

static void long_lists_fold_doubles_in_the_order_given(void **state)
{
    struct buf body = {0};
    (void)state;
    buf_add_literal(
        &body, "{\"type\":\"thread.create\",\"creator\":\"c\",\"name\":\"n\",\"participants\":[");
    for (uint64_t i = 0; i < 200; i++) {
        buf_add_str(&body, i == 0 ? STR("\"a") : STR(",\"a"));
        buf_add_u64(&body, 19 - i % 20);
        buf_add_byte(&body, '"');
    }
    size_t n = body.n;
    buf_add_literal(&body, "]}");
    assert_int_equal(decode_commands(decoder, buf_str(&body), false, request, &why), 0);
    const struct core_ids *ids = &request->commands[0].command.f.participants;
    assert_int_equal(ids->n, 20);
    assert_str(ids->items[0], "a19");
    assert_str(ids->items[19], "a0");
    body.n = n;
    buf_add_literal(&body, ",\"one_more\"]}");
    assert_int_equal(decode_commands(decoder, buf_str(&body), false, request, &why), -1);
    assert_why(CORE_E_TOO_LARGE, "participants",
               "\"participants\" has more than 20 ids, which is the most allowed");
    buf_free(&body);
}

static void key_and_expected_seq_go_with_the_command(void **state)
{
    (void)state;
    decode("{\"type\":\"session.close\",\"key\":\"k 1\",\"expected_seq\":0}");
    assert_str(request->key, "k 1");
    assert_null(request->commands[0].key.p);
    assert_true(request->commands[0].has_expected);
    assert_true(request->commands[0].expected_seq == 0);
    decode("{\"type\":\"session.close\"}");
    assert_null(request->key.p);
    assert_false(request->commands[0].has_expected);
}

static void a_key_must_be_that_of_the_header(void **state)
{
    struct str body = STR("{\"type\":\"session.close\",\"key\":\"k\"}");
    (void)state;
    request->key = STR("k");
    assert_int_equal(decode_commands(decoder, body, false, request, &why), 0);
    request->key = STR("other");
    assert_int_equal(decode_commands(decoder, body, false, request, &why), -1);
    assert_why(CORE_E_MALFORMED, "key",
               "\"key\" is not the same as the Idempotency-Key of the header");
    request->key = (struct str){0};
}

static void what_is_decoded_outlives_the_next_body(void **state)
{
    struct request *other = request_new();
    struct str body = STR("{\"type\":\"session.close\",\"summary\":\"xxxxxxx\"}");
    (void)state;
    const struct core_fields *f =
        decode("{\"type\":\"session.close\",\"summary\":\"\\u0061bcdefg\"}");
    assert_int_equal(decode_commands(decoder, body, false, other, &why), 0);
    assert_str(f->summary, "abcdefg");
    arena_free(&other->arena);
    request_free(other);
}

/* ---- what is refused */

#define TYPES                                                                                      \
    "session.create, session.update, session.close, agent.register, agent.update, agent.leave, "   \
    "thread.create, thread.add, thread.remove, thread.close, message.send, thread.read, "          \
    "inbox.ack, agent.wake"
#define SEND "{\"type\":\"message.send\",\"thread\":\"t\",\"sender\":\"a\",\"content\":\"c\""
#define UPDATE "{\"type\":\"agent.update\",\"agent\":\"a\""
#define ID_RULE "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
#define ID_64 "a123456789012345678901234567890123456789012345678901234567890123"

static void a_malformed_command_is_refused_by_name(void **state)
{
    static const struct {
        const char *body, *field, *detail;
    } cases[] = {
        {"{}", "type", "\"type\" is missing: " TYPES},
        {"{\"type\":7}", "type", "\"type\" must be one of " TYPES},
        {"{\"type\":\"session.fork\"}", "type", "no type \"session.fork\": " TYPES},
        {"{\"type\":\"message.snd\"}", "type", "no type \"message.snd\": " TYPES},
        {"{\"type\":\"\\n456789012345678901234567\"}", "type",
         "no type \"?45678901234567890123456...\": " TYPES},
        {SEND ",\"contents\":1}", "contents",
         "unknown field \"contents\": message.send takes thread, sender, content, mentions, "
         "reply_to, data, trace, cause, expected_seq, key"},
        {SEND ",\"\":1}", "",
         "unknown field \"\": message.send takes thread, sender, content, mentions, "
         "reply_to, data, trace, cause, expected_seq, key"},
        {"{\"type\":\"message.send\",\"thread\":\"t\",\"content\":\"c\"}", "sender",
         "\"sender\" is missing: message.send needs it"},
        {"{\"type\":\"agent.leave\",\"agent\":5}", "agent", "\"agent\" must be an id: " ID_RULE},
        {"{\"type\":\"agent.leave\",\"agent\":null}", "agent", "\"agent\" must be an id: " ID_RULE},
        {"{\"type\":\"agent.leave\",\"agent\":\"\"}", "agent", "\"agent\" must be an id: " ID_RULE},
        {"{\"type\":\"agent.leave\",\"agent\":\"-a\"}", "agent",
         "\"agent\" must be an id: " ID_RULE},
        {"{\"type\":\"agent.leave\",\"agent\":\"" ID_64 "4\"}", "agent",
         "\"agent\" must be an id: " ID_RULE},
        {"{\"type\":\"session.close\",\"summary\":5}", "summary",
         "\"summary\" must be a string or null"},
        {"{\"type\":\"session.close\",\"trace\":null}", "trace", "\"trace\" must be a string"},
        {SEND ",\"reply_to\":\"7\"}", "reply_to",
         "\"reply_to\" must be a message id: m<seq> or null"},
        {SEND ",\"mentions\":\"b\"}", "mentions", "\"mentions\" must be an array of ids: " ID_RULE},
        {SEND ",\"mentions\":[\"b\",null]}", "mentions",
         "\"mentions\" must be an array of ids: " ID_RULE},
        {UPDATE ",\"status\":\"busy\"}", "status",
         "\"status\" must be one of idle, working, waiting, attention, question, offline"},
        {UPDATE ",\"status\":null}", "status",
         "\"status\" must be one of idle, working, waiting, attention, question, offline"},
        {UPDATE ",\"priority\":1.5}", "priority",
         "\"priority\" must be an integer from -9007199254740991 to 9007199254740991"},
        {UPDATE ",\"priority\":9007199254740992}", "priority",
         "\"priority\" must be an integer from -9007199254740991 to 9007199254740991"},
        {UPDATE ",\"priority\":\"1\"}", "priority",
         "\"priority\" must be an integer from -9007199254740991 to 9007199254740991"},
        {"{\"type\":\"session.create\",\"ttl_s\":-1}", "ttl_s",
         "\"ttl_s\" must be an integer from 0 to 9007199254740991"},
        {"{\"type\":\"thread.add\",\"thread\":\"t\",\"agent\":\"a\",\"by\":\"b\",\"history\":1}",
         "history", "\"history\" must be true or false"},
        {UPDATE ",\"labels\":[]}", "labels", "\"labels\" must be an object of strings"},
        {UPDATE ",\"labels\":{\"\":\"x\"}}", "labels", "\"labels\" has an empty key"},
        {UPDATE ",\"labels\":{\"k\":1}}", "labels", "\"labels\": \"k\" must be a string or null"},
        {"{\"type\":\"session.create\",\"labels\":{\"k\":null}}", "labels",
         "\"labels\": \"k\" must be a string"},
        {"{\"type\":\"session.close\",\"key\":\"\"}", "key",
         "\"key\" must be a string of 1 to 128 bytes without control characters"},
        {"{\"type\":\"session.close\",\"key\":\"a\\n\"}", "key",
         "\"key\" must be a string of 1 to 128 bytes without control characters"},
        {"{\"type\":\"session.close\",\"key\":null}", "key",
         "\"key\" must be a string of 1 to 128 bytes without control characters"},
        {"{\"type\":\"session.close\",\"expected_seq\":-1}", "expected_seq",
         "\"expected_seq\" must be an integer from 0 to 9007199254740991"},
        {"{\"type\":\"session.close\",\"expected_seq\":null}", "expected_seq",
         "\"expected_seq\" must be an integer from 0 to 9007199254740991"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(cases[i].body, CORE_E_MALFORMED, cases[i].field, cases[i].detail);
}

static void what_is_too_large_is_refused_by_name_and_limit(void **state)
{
    static const struct {
        const char *body, *field, *detail;
    } cases[] = {
        {"{\"type\":\"session.close\",\"summary\":\"12345678901234567\"}", "summary",
         "\"summary\" has 17 bytes; at most 16 are allowed"},
        {SEND ",\"data\":\"123456789 123456789 123456789 123456789 123456789 123456789 123\"}",
         "data", "\"data\" has 65 bytes as canonical JSON; at most 64 are allowed"},
        {SEND ",\"mentions\":[\"a\",\"b\",\"b\",\"c\"]}", "mentions",
         "\"mentions\" has more than 2 ids, which is the most allowed"},
        {UPDATE ",\"labels\":{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":null}}", "labels",
         "\"labels\" has 4 labels; at most 3 are allowed"},
        {UPDATE ",\"labels\":{\"123456789\":\"\"}}", "labels",
         "\"labels\" has 9 bytes in a key; at most 8 are allowed"},
        {UPDATE ",\"labels\":{\"a\":\"123456789\"}}", "labels",
         "\"labels\" has 9 bytes in a value; at most 8 are allowed"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(cases[i].body, CORE_E_TOO_LARGE, cases[i].field, cases[i].detail);
    decode("{\"type\":\"session.close\",\"summary\":\"1234567890123456\"}");
    decode(SEND ",\"data\":  \"123456789 123456789 123456789 123456789 123456789 123456789 12\" }");
    decode(UPDATE ",\"labels\":{\"12345678\":\"12345678\"}}");
    decode("{\"type\":\"agent.leave\",\"agent\":\"" ID_64 "\"}");
}

static void json_rules_are_told_with_the_field(void **state)
{
    (void)state;
    assert_refused(SEND ",\"content\":\"d\"}", CORE_E_MALFORMED, "content",
                   "key \"content\" stands twice in one object at byte 63");
    assert_refused(SEND ",\"data\":{\"x\":{\"y\":1,\"y\":2}}}", CORE_E_MALFORMED, "data",
                   "key \"y\" stands twice in one object at byte 82");
    assert_refused("{\"type\":\"session.close\",\"summary\":\"\\u0000\"}", CORE_E_MALFORMED,
                   "summary", "a string holds \\u0000 at byte 34");
    assert_refused(SEND ",\"data\":[9007199254740993]}", CORE_E_MALFORMED, "data",
                   "number 9007199254740993 cannot be held without loss at byte 71");
    assert_refused(SEND ",\"x\":1e400}", CORE_E_MALFORMED, NULL,
                   "number 1e400 cannot be held without loss at byte 67");
    assert_refused(SEND, CORE_E_MALFORMED, NULL, "not JSON: a comma or } is missing at byte 62");
}

static void a_body_is_an_object_or_an_array(void **state)
{
    (void)state;
    assert_refused("", CORE_E_MALFORMED, NULL, "not JSON: a value is missing at byte 0");
    assert_refused("\"x\"", CORE_E_MALFORMED, NULL,
                   "the body must be one command as an object, or an array of commands");
    assert_refused("null", CORE_E_MALFORMED, NULL,
                   "the body must be one command as an object, or an array of commands");
}

/* ---- batches */

static void assert_bad(uint32_t index, enum core_error code, const char *field, const char *detail)
{
    assert_non_null(request->commands[index].bad);
    why = *request->commands[index].bad;
    assert_why(code, field, detail);
}

static void a_bad_command_of_an_array_leaves_the_others_alone(void **state)
{
    struct str body =
        STR("[{\"type\":\"session.close\",\"key\":\"k\"},5,{\"type\":\"agent.leave\"},"
            "{\"type\":\"session.close\",\"summary\":\"\\u0000\"},"
            "{\"type\":\"session.close\",\"summary\":\"12345678901234567\"},"
            "{\"type\":\"agent.leave\",\"agent\":\"b\",\"expected_seq\":3}]");
    (void)state;
    assert_int_equal(decode_commands(decoder, body, false, request, &why), 0);
    assert_true(request->batch);
    assert_int_equal(request->commands_n, 6);
    assert_null(request->key.p);
    assert_null(request->commands[0].bad);
    assert_str(request->commands[0].key, "k");
    assert_bad(1, CORE_E_MALFORMED, NULL, "command 1: a command must be an object");
    assert_bad(2, CORE_E_MALFORMED, "agent",
               "command 2: \"agent\" is missing: agent.leave needs it");
    assert_bad(3, CORE_E_MALFORMED, "summary", "command 3: a string holds \\u0000 at byte 95");
    assert_bad(4, CORE_E_TOO_LARGE, "summary",
               "command 4: \"summary\" has 17 bytes; at most 16 are allowed");
    assert_null(request->commands[5].bad);
    assert_str(request->commands[5].command.f.agent, "b");
    assert_true(request->commands[5].expected_seq == 3);
}

static void an_array_of_one_is_a_batch(void **state)
{
    (void)state;
    assert_int_equal(
        decode_commands(decoder, STR("[{\"type\":\"session.close\"}]"), false, request, &why), 0);
    assert_true(request->batch);
    assert_int_equal(request->commands_n, 1);
}

static void a_broken_line_leaves_the_others_alone(void **state)
{
    struct str body = STR("\n{\"type\":\"session.close\"}\r\n  \t\r\n{\"type\":\n"
                          "{\"type\":\"session.close\",\"summary\":1,\"summary\":2}\n[]\n"
                          "{\"type\":\"agent.leave\",\"agent\":\"b\"}");
    (void)state;
    assert_int_equal(decode_commands(decoder, body, true, request, &why), 0);
    assert_true(request->batch);
    assert_int_equal(request->commands_n, 5);
    assert_null(request->commands[0].bad);
    assert_bad(1, CORE_E_MALFORMED, NULL, "command 1: not JSON: a value is missing at byte 8");
    assert_bad(2, CORE_E_MALFORMED, "summary",
               "command 2: key \"summary\" stands twice in one object at byte 36");
    assert_bad(3, CORE_E_MALFORMED, NULL, "command 3: a command must be an object");
    assert_null(request->commands[4].bad);
    assert_str(request->commands[4].command.f.agent, "b");
}

static void a_batch_has_its_bounds(void **state)
{
    struct buf body = {0};
    (void)state;
    for (int i = 0; i < MAX_COMMANDS; i++)
        buf_add_literal(&body, "{\"type\":\"session.close\"}\n");
    assert_int_equal(decode_commands(decoder, buf_str(&body), true, request, &why), 0);
    buf_add_literal(&body, "1");
    assert_int_equal(decode_commands(decoder, buf_str(&body), true, request, &why), -1);
    assert_why(CORE_E_TOO_LARGE, NULL,
               "the batch has more than 50 commands, which is the most allowed");
    body.n = 0;
    buf_add_byte(&body, '[');
    for (int i = 0; i < MAX_COMMANDS; i++)
        buf_add_literal(&body, "1,");
    buf_add_literal(&body, "1]");
    assert_int_equal(decode_commands(decoder, buf_str(&body), false, request, &why), -1);
    assert_why(CORE_E_TOO_LARGE, NULL,
               "the batch has more than 50 commands, which is the most allowed");
    while (body.n <= MAX_BYTES)
        buf_add_literal(&body, "                ");
    assert_int_equal(decode_commands(decoder, buf_str(&body), false, request, &why), -1);
    assert_why(CORE_E_TOO_LARGE, NULL, "the body has 204807 bytes; at most 204800 are allowed");
    buf_free(&body);
}

static void a_batch_may_hold_no_command(void **state)
{
    (void)state;
    assert_int_equal(decode_commands(decoder, STR("[]"), false, request, &why), 0);
    assert_true(request->batch);
    assert_int_equal(request->commands_n, 0);
    assert_int_equal(decode_commands(decoder, STR(" \n\n"), true, request, &why), 0);
    assert_int_equal(request->commands_n, 0);
}

/* ---- REST forms */

static int rest(enum core_type type, const struct core_fields *preset, const char *body)
{
    return decode_rest(decoder, type, preset, text_of(body), request, &why);
}

static void a_rest_form_joins_path_and_body(void **state)
{
    struct core_fields preset = {.given = UINT64_C(1) << CORE_FIELD_THREAD, .thread = STR("t1")};
    (void)state;
    assert_int_equal(rest(CORE_MESSAGE_SEND, &preset,
                          "{\"sender\":\"a\",\"content\":\"c\",\"key\":\"k\",\"expected_seq\":9}"),
                     0);
    const struct request_command *command = &request->commands[0];
    assert_int_equal(command->command.type, CORE_MESSAGE_SEND);
    assert_str(command->command.f.thread, "t1");
    assert_str(command->command.f.content, "c");
    assert_str(request->key, "k");
    assert_true(command->has_expected && command->expected_seq == 9);
    assert_false(request->batch);
    request->key = (struct str){0};
}

static void a_rest_form_may_be_empty_where_nothing_is_required(void **state)
{
    (void)state;
    assert_int_equal(rest(CORE_SESSION_CLOSE, NULL, ""), 0);
    assert_true(request->commands[0].command.f.given == 0);
    assert_int_equal(rest(CORE_SESSION_CREATE, NULL, "{}"), 0);
    assert_int_equal(rest(CORE_AGENT_REGISTER, NULL, ""), -1);
    assert_why(CORE_E_MALFORMED, "agent", "\"agent\" is missing: agent.register needs it");
}

static void a_rest_form_refuses_what_the_path_says(void **state)
{
    struct core_fields preset = {.given = UINT64_C(1) << CORE_FIELD_AGENT, .agent = STR("a")};
    (void)state;
    assert_int_equal(rest(CORE_AGENT_UPDATE, &preset, "{\"agent\":\"a\"}"), -1);
    assert_why(CORE_E_MALFORMED, "agent", "unknown field \"agent\": it belongs to the path");
    assert_int_equal(rest(CORE_AGENT_UPDATE, &preset, "{\"type\":\"agent.update\"}"), -1);
    assert_why(CORE_E_MALFORMED, "type",
               "unknown field \"type\": agent.update takes status, note, description, priority, "
               "labels, lease_s, trace, cause, expected_seq, key");
    assert_int_equal(rest(CORE_AGENT_UPDATE, &preset, "[]"), -1);
    assert_why(CORE_E_MALFORMED, NULL, "the body must be an object");
    preset.agent = STR("no/id");
    assert_int_equal(rest(CORE_AGENT_UPDATE, &preset, ""), -1);
    assert_why(CORE_E_MALFORMED, "agent", "\"agent\" must be an id: " ID_RULE);
    assert_int_equal(request->commands_n, 0);
}

static void an_idempotency_key_is_short_printable_text(void **state)
{
    char text[DECODE_KEY_BYTES + 1];
    (void)state;
    memset(text, 'k', sizeof(text));
    assert_true(decode_key_valid((struct str){text, DECODE_KEY_BYTES}));
    assert_false(decode_key_valid((struct str){text, DECODE_KEY_BYTES + 1}));
    assert_true(decode_key_valid(STR("a \xc3\xb6\"")));
    assert_false(decode_key_valid(STR("")));
    assert_false(decode_key_valid((struct str){0}));
    assert_false(decode_key_valid(STR("a\0b")));
    assert_false(decode_key_valid(STR("a\tb")));
    assert_false(decode_key_valid(STR("a\x7f")));
    assert_false(decode_key_valid(STR("a\xff")));
}

/* ---- anything */

static uint64_t next_random(uint64_t *seed)
{
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *seed;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static const char *const valid_bodies[] = {
    "{\"type\":\"session.create\",\"session\":\"s1\",\"labels\":{\"a\":\"b\"},\"ttl_s\":60}",
    SEND
    ",\"mentions\":[\"b\"],\"reply_to\":\"m1\",\"data\":{\"x\":[1,-2.5e3,true]},\"key\":\"k\"}",
    UPDATE
    ",\"status\":\"idle\",\"note\":\"n\",\"priority\":-3,\"labels\":{\"a\":null,\"b\":\"c\"}}",
    "{\"type\":\"thread.create\",\"creator\":\"c\",\"name\":\"n\",\"participants\":[\"a\",\"b\","
    "\"a\"]}",
    "[{\"type\":\"thread.add\",\"thread\":\"t\",\"agent\":\"a\",\"by\":\"b\",\"history\":true},\n"
    "{\"type\":\"thread.read\",\"thread\":\"t\",\"agent\":\"a\",\"upto\":9,\"expected_seq\":4}]",
    "{\"type\":\"inbox.ack\",\"agent\":\"a\",\"cursor\":\"x\"}\n{\"type\":\"session.close\"}\n",
};

/* Overwrites, removes, or doubles a few bytes. */
static struct str mutated(struct str body, struct buf *out, uint64_t *seed)
{
    static const char bytes[] = "{}[]\",:\\u0019eE+-.tfn \n\xc3\xb6\x80\xff\0";
    out->n = 0;
    buf_add_str(out, body);
    for (uint64_t changes = next_random(seed) % 4; changes != 0 && out->n != 0; changes--) {
        size_t at = next_random(seed) % out->n;
        size_t n = 1 + next_random(seed) % 8;
        n = n < out->n - at ? n : out->n - at;
        switch (next_random(seed) % 3) {
        case 0:
            out->p[at] = bytes[next_random(seed) % (sizeof(bytes) - 1)];
            break;
        case 1:
            memmove(out->p + at, out->p + at + n, out->n - at - n);
            out->n -= n;
            break;
        default:
            buf_reserve(out, n);
            memmove(out->p + at + n, out->p + at, out->n - at);
            out->n += n;
        }
    }
    return buf_str(out);
}

static void check_outcome(int status)
{
    if (status != 0) {
        assert_true(why.code == CORE_E_MALFORMED || why.code == CORE_E_TOO_LARGE);
        assert_true(why.detail[0] != '\0' && json_utf8_valid(text_of(why.detail)));
        return;
    }
    assert_true(request->commands_n != 0);
    for (uint32_t i = 0; i < request->commands_n; i++) {
        const struct request_command *command = &request->commands[i];
        if (command->bad != NULL) {
            assert_true(json_utf8_valid(text_of(command->bad->detail)));
            continue;
        }
        const struct core_type_spec *spec = core_type_spec(command->command.type);
        for (int k = 0; k < spec->command_fields_n; k++) {
            const struct core_field_spec *field = &spec->command_fields[k];
            assert_true((field->flags & FIELD_REQUIRED) == 0 ||
                        given(&command->command.f, (enum core_field)field->field));
        }
    }
}

static void mutated_bodies_do_no_harm(void **state)
{
    enum { BODIES = sizeof(valid_bodies) / sizeof(valid_bodies[0]) };
    uint64_t seed = 20;
    struct buf out = {0};
    (void)state;
    for (int i = 0; i < 60000; i++) {
        struct str body = mutated(text_of(valid_bodies[i % BODIES]), &out, &seed);
        char *exact = malloc(body.n + (body.n == 0)); /* so that reading beyond it shows */
        if (body.n != 0)
            memcpy(exact, body.p, body.n);
        body.p = exact;
        request->key = (struct str){0};
        check_outcome(decode_commands(decoder, body, next_random(&seed) % 2, request, &why));
        enum core_type type = (enum core_type)(1 + next_random(&seed) % (CORE_TYPE_COUNT - 1));
        if (core_type_of_command(text_of(core_type_spec(type)->command_name)) == CORE_TYPE_NONE)
            type = CORE_INBOX_ACK;
        request->key = (struct str){0};
        check_outcome(decode_rest(decoder, type, NULL, body, request, &why));
        free(exact);
        arena_reset(&request->arena);
    }
    request->key = (struct str){0};
    buf_free(&out);
}

/* ---- messages of a WebSocket */

static struct arena scratch;
static struct decode_message message;

static int take(const char *text, bool many)
{
    arena_reset(&scratch);
    memset(&why, 0xff, sizeof(why));
    return decode_message(decoder, text_of(text), many, &scratch, &message, &why);
}

static void assert_message_refused(const char *text, bool many, const char *field,
                                   const char *detail)
{
    if (take(text, many) == 0)
        fail_msg("taken: %s", text);
    assert_why(CORE_E_MALFORMED, field, detail);
    decode_message_end(decoder);
}

static void messages_add_their_commands_to_one_request(void **state)
{
    enum { MESSAGES = 100 };
    char text[160], ref[8];

    (void)state;
    request->commands_n = 0;
    for (int i = 0; i < MESSAGES; i++) {
        snprintf(text, sizeof(text),
                 "{\"type\":\"agent.register\",\"agent\":\"a%d\",\"session\":\"s%d\",\"ref\":%d,"
                 "\"key\":\"k%d\"}",
                 i, i, i, i);
        assert_int_equal(take(text, true), 0);
        snprintf(ref, sizeof(ref), "s%d", i);
        assert_str(message.session, ref);
        assert_int_equal(decode_message_command(decoder, &message, request, &why), 0);
        /* One that is refused leaves the others alone. */
        assert_int_equal(take("{\"type\":\"agent.register\",\"session\":\"s\"}", true), 0);
        assert_int_equal(decode_message_command(decoder, &message, request, &why), -1);
        assert_why(CORE_E_MALFORMED, "agent", "\"agent\" is missing: agent.register needs it");
        decode_message_end(decoder);
    }
    assert_int_equal(request->commands_n, MESSAGES);
    assert_null(request->key.p);
    for (int i = 0; i < MESSAGES; i++) {
        const struct request_command *item = &request->commands[i];
        snprintf(ref, sizeof(ref), "%d", i);
        assert_str(item->ref, ref);
        snprintf(ref, sizeof(ref), "k%d", i);
        assert_str(item->key, ref);
        snprintf(ref, sizeof(ref), "a%d", i);
        assert_str(item->command.f.agent, ref);
        assert_null(item->bad);
    }
}

static void a_ref_is_kept_as_json(void **state)
{
    static const struct {
        const char *ref, *kept;
    } rows[] = {{"1", "1"},
                {"-9007199254740991", "-9007199254740991"},
                {"1e3", "1000"},
                {"\"\"", "\"\""},
                {"\"a\\u000a\\\"\\u00e9\"", "\"a\\n\\\"\xc3\xa9\""}};
    char text[128];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(text, sizeof(text), "{\"type\":\"x\",\"ref\":%s}", rows[i].ref);
        assert_int_equal(take(text, false), 0);
        assert_str(message.ref, rows[i].kept);
    }
    decode_message_end(decoder);
}

static void a_message_is_refused_by_name(void **state)
{
    const char *bad_ref = "\"ref\" must be a string of at most 128 bytes, or an integer within "
                          "+-9007199254740991";
    const char *one_of = "a message must have just one of \"type\", \"watch\" and \"unwatch\"";
    (void)state;
    assert_message_refused("{\"ref\":1.5,\"type\":\"x\"}", false, "ref", bad_ref);
    assert_message_refused("{\"ref\":9007199254740992,\"type\":\"x\"}", false, "ref", bad_ref);
    assert_message_refused("{\"ref\":null,\"type\":\"x\"}", false, "ref", bad_ref);
    assert_message_refused("[]", false, NULL, "a message must be an object");
    assert_message_refused("{\"ref\":1}", true, NULL, one_of);
    assert_str(message.ref, "1");
    assert_message_refused("{\"watch\":{},\"unwatch\":{}}", true, NULL, one_of);
    assert_message_refused("{\"watch\":{},\"type\":\"x\"}", true, NULL, one_of);
    assert_message_refused("{\"watch\":{},\"session\":\"s\"}", true, NULL,
                           "beside \"watch\" only \"ref\" may stand");
    assert_message_refused("{\"type\":\"x\"}", true, "session",
                           "\"session\" must name the session, by an id: " CORE_ID_RULE);
    assert_message_refused("{\"type\":\"x\",\"session\":\"a/b\"}", true, "session",
                           "\"session\" must name the session, by an id: " CORE_ID_RULE);
}

static void only_messages_of_many_name_their_session(void **state)
{
    const char *text = "{\"type\":\"session.close\",\"session\":\"s1\",\"ref\":1}";
    (void)state;
    request->commands_n = 0;
    assert_int_equal(take(text, true), 0);
    assert_int_equal(decode_message_command(decoder, &message, request, &why), 0);
    assert_int_equal(take(text, false), 0);
    assert_int_equal(decode_message_command(decoder, &message, request, &why), -1);
    assert_string_equal(why.field, "session");
    decode_message_end(decoder);
    /* Over HTTP there is neither. */
    assert_refused(
        "{\"type\":\"session.close\",\"ref\":1}", CORE_E_MALFORMED, "ref",
        "unknown field \"ref\": session.close takes summary, trace, cause, expected_seq, "
        "key");
}

/* ---- secrets */

static void assert_holds(struct str s, const char *text, bool holds)
{
    bool found = memmem(s.p, s.n, text, strlen(text)) != NULL;
    if (found != holds)
        fail_msg("\"%s\" %s there", text, holds ? "is not" : "is");
}

static void assert_opens_to(const struct core_fields *f, const char *session, const char *agent,
                            struct str secret)
{
    assert_true(given(f, CORE_FIELD_SEALED));
    struct str opened =
        seal_open(&seal, text_of(session), text_of(agent), f->sealed, &request->arena);
    assert_true(str_equal(opened, secret));
}

static void a_secret_is_sealed_before_it_goes_on(void **state)
{
    static const char body[] =
        "{\"secret\":\"plain-sixteen-of-them\",\"type\":\"agent.wake\",\"agent\":\"coder\","
        "\"url\":\"http://x/\"}";
    (void)state;

    const struct core_fields *f = decode(body);
    assert_opens_to(f, "s1", "coder", STR("plain-sixteen-of-them"));
    assert_holds(f->sealed, "plain", false);
    struct str first = f->sealed;
    assert_true(str_equal(decode(body)->sealed, first)); /* so that a repeated key compares equal */

    f = decode("{\"type\":\"agent.wake\",\"agent\":\"coder\",\"url\":\"http://x/\","
               "\"secret\":\"whsec_AAECAwQFBgcICQoLDA0ODw==\"}");
    assert_opens_to(f, "s1", "coder", (struct str){"\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17", 16});

    /* Without one, or with null, there is none. */
    f = decode("{\"type\":\"agent.wake\",\"agent\":\"coder\",\"url\":\"http://x/\","
               "\"secret\":null}");
    assert_null(f->sealed.p);
    f = decode("{\"type\":\"agent.wake\",\"agent\":\"coder\",\"url\":\"http://x/\"}");
    assert_false(given(f, CORE_FIELD_SEALED));
}

static void a_secret_of_a_path_or_a_message_is_sealed_for_it(void **state)
{
    struct core_fields preset = {.agent = STR("tester"), .given = UINT64_C(1) << CORE_FIELD_AGENT};
    struct str body = STR("{\"url\":\"http://x/\",\"secret\":\"plain-sixteen-of-them\"}");
    (void)state;

    assert_int_equal(decode_rest(decoder, CORE_AGENT_WAKE, &preset, body, request, &why), 0);
    assert_opens_to(&request->commands[0].command.f, "s1", "tester", STR("plain-sixteen-of-them"));
    request->commands_n = 0;
    assert_int_equal(take("{\"type\":\"agent.wake\",\"session\":\"s1\",\"agent\":\"b\","
                          "\"url\":\"http://x/\",\"secret\":\"plain-sixteen-of-them\"}",
                          true),
                     0);
    assert_int_equal(decode_message_command(decoder, &message, request, &why), 0);
    decode_message_end(decoder);
    assert_opens_to(&request->commands[0].command.f, "s1", "b", STR("plain-sixteen-of-them"));
}

static void a_bad_secret_is_refused_without_being_told(void **state)
{
    static const char *const bad[] = {"15-bytes-are-bad", "whsec_", "whsec_AAECAwQFBgcICQoLDA0O",
                                      "whsec_AAECAwQFBgcICQoLDA0ODw", "whsec_not*base64*at*all="};
    char body[1024], longest[DECODE_SECRET_MAX_BYTES + 2];
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]) + 1; i++) {
        const char *secret = i < sizeof(bad) / sizeof(bad[0]) ? bad[i] : longest;
        memset(longest, 'x', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        snprintf(body, sizeof(body),
                 "{\"type\":\"agent.wake\",\"agent\":\"a\",\"url\":null,\"secret\":\"%s\"}",
                 i == 0 ? "15-bytes-are-ba" : secret);
        if (decode_commands(decoder, text_of(body), false, request, &why) == 0)
            fail_msg("taken: %s", body);
        assert_string_equal(why.field, "secret");
        assert_int_equal(why.code, CORE_E_MALFORMED);
        assert_holds(text_of(why.detail), "bytes-are", false);
    }
    assert_refused("{\"type\":\"agent.wake\",\"secret\":7}", CORE_E_MALFORMED, "secret",
                   "\"secret\" must be a string or null");
    assert_refused("{\"type\":\"agent.register\",\"agent\":\"a\",\"secret\":\"x\"}",
                   CORE_E_MALFORMED, "secret",
                   "unknown field \"secret\": agent.register takes agent, description, labels, "
                   "lease_s, trace, cause, expected_seq, key");
}

/* A refused command of a batch goes on as a refusal: without the secret that it had. */
static void a_refused_command_takes_no_secret_along(void **state)
{
    (void)state;
    struct str body = STR("[{\"type\":\"agent.wake\",\"secret\":\"plain-sixteen-of-them\"}]");
    assert_int_equal(decode_commands(decoder, body, false, request, &why), 0);
    assert_non_null(request->commands[0].bad);
    assert_null(request->commands[0].command.f.sealed.p);
}

static int watch(const char *text, struct query *query, struct str *session)
{
    assert_int_equal(take(text, true), 0);
    int status = decode_watch(&message, &scratch, query, session, &why);
    decode_message_end(decoder);
    return status;
}

static void a_watch_is_read_like_a_query(void **state)
{
    struct query query;
    struct str session;
    (void)state;
    assert_int_equal(watch("{\"watch\":{\"session\":\"s1\",\"view\":\"compact\",\"path\":"
                           "[\"/threads/t\",\"/agents\",\"/agents\"],\"after\":7,"
                           "\"last_event_id\":\"x\"}}",
                           &query, &session),
                     0);
    assert_str(session, "s1");
    assert_int_equal(query.view, VIEW_COMPACT);
    assert_int_equal(query.parts->n, 2);
    assert_str(query.parts->items[0], "/agents");
    assert_str(query.parts->items[1], "/threads/t");
    assert_true(query_has(&query, QUERY_AFTER) && query.after == 7);
    assert_str(query.last_event_id, "x");
    assert_int_equal(
        watch("{\"watch\":{\"view\":\"summary\",\"label\":[\"a:b\",\"c\"]}}", &query, &session), 0);
    assert_null(session.p);
    assert_int_equal(query.labels_n, 2);
    assert_str(query.labels[0].value, "b");
    assert_int_equal(watch("{\"unwatch\":{\"session\":\"s1\"}}", &query, &session), 0);
    assert_str(session, "s1");
    assert_int_equal(watch("{\"watch\":{\"session\":\"s1\",\"label\":[\"a\"]}}", &query, &session),
                     -1);
    assert_why(CORE_E_MALFORMED, NULL,
               "unknown member: a session is watched with session, view, path, last_event_id, "
               "after");
}

static int free_scratch(void **state)
{
    arena_free(&scratch);
    return free_request(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_has_all_its_fields),
        cmocka_unit_test(null_is_given_and_has_no_text),
        cmocka_unit_test(an_agent_update_has_status_priority_and_labels),
        cmocka_unit_test(numbers_and_booleans_are_taken),
        cmocka_unit_test(long_lists_fold_doubles_in_the_order_given),
        cmocka_unit_test(key_and_expected_seq_go_with_the_command),
        cmocka_unit_test(a_key_must_be_that_of_the_header),
        cmocka_unit_test(what_is_decoded_outlives_the_next_body),
        cmocka_unit_test(a_malformed_command_is_refused_by_name),
        cmocka_unit_test(what_is_too_large_is_refused_by_name_and_limit),
        cmocka_unit_test(json_rules_are_told_with_the_field),
        cmocka_unit_test(a_body_is_an_object_or_an_array),
        cmocka_unit_test(a_batch_may_hold_no_command),
        cmocka_unit_test(a_bad_command_of_an_array_leaves_the_others_alone),
        cmocka_unit_test(an_array_of_one_is_a_batch),
        cmocka_unit_test(a_broken_line_leaves_the_others_alone),
        cmocka_unit_test(a_batch_has_its_bounds),
        cmocka_unit_test(a_rest_form_joins_path_and_body),
        cmocka_unit_test(a_rest_form_may_be_empty_where_nothing_is_required),
        cmocka_unit_test(a_rest_form_refuses_what_the_path_says),
        cmocka_unit_test(an_idempotency_key_is_short_printable_text),
        cmocka_unit_test(mutated_bodies_do_no_harm),
        cmocka_unit_test(messages_add_their_commands_to_one_request),
        cmocka_unit_test(a_ref_is_kept_as_json),
        cmocka_unit_test(a_message_is_refused_by_name),
        cmocka_unit_test(only_messages_of_many_name_their_session),
        cmocka_unit_test(a_watch_is_read_like_a_query),
        cmocka_unit_test(a_secret_is_sealed_before_it_goes_on),
        cmocka_unit_test(a_secret_of_a_path_or_a_message_is_sealed_for_it),
        cmocka_unit_test(a_bad_secret_is_refused_without_being_told),
        cmocka_unit_test(a_refused_command_takes_no_secret_along),
    };
    return cmocka_run_group_tests(tests, make_request, free_scratch);
}
