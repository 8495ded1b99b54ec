/*
 * The tools of the MCP face: what is said of them is what strict validators take, and names no tool
 * that is not there; their arguments are taken, or refused in words that a model can act on.
 */
#include "server/mcp/hints.h"
#include "server/mcp/rpc.h"
#include "server/mcp/tools.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct core_limits limits;
static struct decoder *decoder;
static struct arena arena;

static int make_decoder(void **state)
{
    (void)state;
    limits = core_limits_default;
    limits.max[CORE_LIMIT_MENTIONS] = 2;
    decoder = decoder_new(&limits, 10, 64 * 1024);
    return 0;
}

static int free_decoder(void **state)
{
    (void)state;
    arena_free(&arena);
    decoder_free(decoder);
    return 0;
}

static struct str text_of(const char *text)
{
    return (struct str){text, strlen(text)};
}

static const struct json_value *parse(struct str text)
{
    const struct json_value *root;
    struct json_error error;
    if (json_parse(decoder_parser(decoder), &arena, text, &root, &error) != 0)
        fail_msg("%s: %.*s", error.text, (int)text.n, text.p);
    return root;
}

static const struct json_value *member(const struct json_value *object, const char *name)
{
    return rpc_member(object, text_of(name));
}

static bool is_text(const struct json_value *v, const char *text)
{
    return v != NULL && v->type == JSON_STRING && str_equal(json_str(v), text_of(text));
}

/* ---- definitions */

static const struct mcp_tools *const toolsets[] = {&mcp_tools_atoll, &mcp_tools_coral};

/* A definition as tools/list shows it, but for the name. */
static const struct json_value *definition(const char *text)
{
    struct buf out = {0};
    buf_add_byte(&out, '{');
    buf_add_str(&out, text_of(text));
    buf_add_byte(&out, '}');
    const struct json_value *root = parse(buf_str(&out));
    buf_free(&out);
    return root;
}

static bool is_among(const struct json_value *names, struct str name)
{
    const struct json_value *item = json_first(names);
    for (uint32_t i = 0; i < names->size; i++, item = json_next(item)) {
        if (str_equal(json_str(item), name))
            return true;
    }
    return false;
}

/* No keyword that one validator or another refuses, and no name required that is not there. */
static void assert_plain(const char *tool, const struct json_value *schema)
{
    static const char *const allowed[] = {
        "type",  "properties", "required", "description",
        "items", "enum",       "title",    "additionalProperties"};
    const struct json_value *key = json_first(schema);
    const struct json_value *properties = member(schema, "properties");
    for (uint32_t i = 0; i < schema->size; i++, key = json_next(key + 1)) {
        bool known = false;
        for (size_t k = 0; k < sizeof(allowed) / sizeof(allowed[0]); k++)
            known = known || is_text(key, allowed[k]);
        if (!known)
            fail_msg("%s: keyword %.*s", tool, (int)json_str(key).n, json_str(key).p);
    }
    assert_true(member(schema, "type") == NULL || member(schema, "type")->type == JSON_STRING);
    if (member(schema, "items") != NULL)
        assert_plain(tool, member(schema, "items"));
    if (properties == NULL)
        return;
    key = json_first(properties);
    for (uint32_t i = 0; i < properties->size; i++, key = json_next(key + 1))
        assert_plain(tool, key + 1);
    const struct json_value *required = member(schema, "required");
    const struct json_value *name = required != NULL ? json_first(required) : NULL;
    for (uint32_t i = 0; name != NULL && i < required->size; i++, name = json_next(name))
        assert_non_null(rpc_member(properties, json_str(name)));
}

static void assert_strict_input(const char *tool, const struct json_value *schema)
{
    const struct json_value *properties = member(schema, "properties");
    const struct json_value *required = member(schema, "required"), *key = json_first(properties);
    assert_plain(tool, schema);
    assert_true(is_text(member(schema, "type"), "object"));
    assert_int_equal(member(schema, "additionalProperties")->type, JSON_FALSE);
    assert_int_equal(properties->size, required->size);
    for (uint32_t i = 0; i < properties->size; i++, key = json_next(key + 1)) {
        assert_true(is_among(required, json_str(key)));
        assert_non_null(member(key + 1, "type"));
        assert_true(member(key + 1, "description")->size > 10);
        if (is_text(member(key + 1, "type"), "array"))
            assert_non_null(member(key + 1, "items"));
    }
}

static void assert_definition(const struct mcp_tool *tool, const char *text)
{
    const struct json_value *root = definition(text), *hints = member(root, "annotations");
    const struct json_value *key = json_first(hints);
    assert_true(member(root, "title")->size > 3);
    assert_true(member(root, "description")->size > 40);
    assert_strict_input(tool->name, member(root, "inputSchema"));
    assert_plain(tool->name, member(root, "outputSchema"));
    assert_int_equal(hints->size, 4);
    for (uint32_t i = 0; i < hints->size; i++, key = json_next(key + 1))
        assert_true(key[1].type == JSON_TRUE || key[1].type == JSON_FALSE);
}

static void every_definition_is_one_that_strict_validators_take(void **state)
{
    (void)state;
    for (size_t set = 0; set < 2; set++) {
        for (size_t i = 0; i < toolsets[set]->n; i++) {
            const struct mcp_tool *tool = &toolsets[set]->items[i];
            assert_true(strlen(tool->name) <= 64);
            assert_int_equal(strspn(tool->name, "abcdefghijklmnopqrstuvwxyz_"), strlen(tool->name));
            assert_definition(tool, tool->definition);
            assert_definition(tool, tool->unbound);
        }
    }
}

static void without_an_address_of_its_own_a_tool_takes_session_and_agent_as_well(void **state)
{
    (void)state;
    for (size_t set = 0; set < 2; set++) {
        for (size_t i = 0; i < toolsets[set]->n; i++) {
            const struct mcp_tool *tool = &toolsets[set]->items[i];
            uint32_t bound =
                member(member(definition(tool->definition), "inputSchema"), "properties")->size;
            const struct json_value *both = member(definition(tool->unbound), "inputSchema");
            const struct json_value *properties = member(both, "properties");
            assert_int_equal(properties->size, bound + 2);
            assert_non_null(member(properties, "session"));
            assert_non_null(member(properties, "agent"));
        }
    }
}

/* All tools that a text speaks of. */
static void assert_speaks_of_tools(enum mcp_toolset toolset, const char *text)
{
    static const char *const prefixes[] = {"atoll_", "coral_"};
    for (size_t k = 0; k < 2; k++) {
        const char *at = text;
        while ((at = strstr(at, prefixes[k])) != NULL) {
            struct str name = {at, strspn(at, "abcdefghijklmnopqrstuvwxyz_")};
            if (mcp_tool_find(toolset, name) == NULL)
                fail_msg("no tool %.*s: %s", (int)name.n, name.p, text);
            at += name.n;
        }
    }
}

static void descriptions_speak_of_tools_that_are_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < mcp_tools_atoll.n; i++)
        assert_speaks_of_tools(MCP_TOOLS_ATOLL, mcp_tools_atoll.items[i].definition);
    for (size_t i = 0; i < mcp_tools_coral.n; i++)
        assert_speaks_of_tools(MCP_TOOLS_CORAL, mcp_tools_coral.items[i].definition);
}

static void a_status_can_be_just_what_core_knows(void **state)
{
    (void)state;
    const struct mcp_tool *tool = mcp_tool_find(MCP_TOOLS_ATOLL, STR("atoll_set_status"));
    const struct json_value *input = member(definition(tool->definition), "inputSchema");
    const struct json_value *names = member(member(member(input, "properties"), "status"), "enum");
    assert_int_equal(names->size, AGENT_STATUS_COUNT);
    for (int i = 0; i < AGENT_STATUS_COUNT; i++)
        assert_true(is_among(names, text_of(core_status_name((enum core_agent_status)i))));
}

static void a_tool_is_found_in_its_own_set_alone(void **state)
{
    (void)state;
    assert_non_null(mcp_tool_find(MCP_TOOLS_ATOLL, STR("atoll_wait")));
    assert_null(mcp_tool_find(MCP_TOOLS_CORAL, STR("atoll_wait")));
    assert_non_null(mcp_tool_find(MCP_TOOLS_CORAL, STR("coral_wait_for_agent")));
    assert_null(mcp_tool_find(MCP_TOOLS_ATOLL, STR("coral_wait_for_agent")));
    assert_null(mcp_tool_find(MCP_TOOLS_ATOLL, STR("atoll_wai")));
    assert_null(mcp_tool_find(MCP_TOOLS_ATOLL, STR("")));
}

static void a_refusal_is_followed_by_what_can_be_done_with_tools_that_are_there(void **state)
{
    (void)state;
    static const unsigned errors[] = {
        CORE_E_UNKNOWN_SESSION, CORE_E_UNKNOWN_AGENT,  CORE_E_UNKNOWN_THREAD,
        CORE_E_REFUSED,         CORE_E_TOO_LARGE,      REQUEST_E_GONE,
        REQUEST_E_OVERLOADED,   REQUEST_E_UNAVAILABLE, REQUEST_E_NO_SPACE};
    static const char *const fields[] = {NULL,       "thread", "sender",       "by",
                                         "mentions", "cursor", "participants", "no such field"};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        assert_true(strlen(mcp_hint(errors[i], NULL, MCP_TOOLS_ATOLL)) > 10);
        assert_true(strlen(mcp_hint(errors[i], NULL, MCP_TOOLS_CORAL)) > 10);
        for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {
            assert_speaks_of_tools(MCP_TOOLS_ATOLL,
                                   mcp_hint(errors[i], fields[k], MCP_TOOLS_ATOLL));
            assert_speaks_of_tools(MCP_TOOLS_CORAL,
                                   mcp_hint(errors[i], fields[k], MCP_TOOLS_CORAL));
        }
    }
    assert_non_null(strstr(mcp_hint(CORE_E_REFUSED, "sender", MCP_TOOLS_ATOLL), "add you"));
    assert_non_null(
        strstr(mcp_hint(CORE_E_REFUSED, "mentions", MCP_TOOLS_CORAL), "coral_add_participant"));
    assert_string_equal(mcp_hint(CORE_E_MALFORMED, "thread", MCP_TOOLS_ATOLL), "");
}

/* ---- arguments */

static const struct core_field_spec specs[] = {
    {.name = "thread",
     .field = 1,
     .kind = KIND_ID,
     .flags = FIELD_REQUIRED,
     .offset = offsetof(struct core_fields, thread)},
    {.name = "mentions",
     .field = 2,
     .kind = KIND_IDS,
     .limit = CORE_LIMIT_MENTIONS,
     .offset = offsetof(struct core_fields, mentions)},
    {.name = "note",
     .field = 3,
     .kind = KIND_TEXT,
     .flags = FIELD_NULLABLE,
     .limit = CORE_LIMIT_TEXT_BYTES,
     .offset = offsetof(struct core_fields, note)},
    {.name = "from", .field = 4, .kind = KIND_ID, .offset = offsetof(struct core_fields, agent)},
};
static const char *const others[] = {"session", "agent", NULL};
static struct core_fields fields;
static uint64_t given;
static struct core_refusal why;

static int read_arguments(const char *text)
{
    const struct decode_arguments rows = {"a_tool", specs, sizeof(specs) / sizeof(specs[0]),
                                          others};
    fields = (struct core_fields){0};
    given = 0;
    why = (struct core_refusal){0};
    return decode_arguments(decoder, &rows, parse(text_of(text)), &arena, &fields, &given, &why);
}

static void arguments_are_read_by_their_rows(void **state)
{
    (void)state;
    assert_int_equal(read_arguments("{\"thread\":\"t3\",\"mentions\":[\"a\",\"a\",\"b\"],"
                                    "\"note\":\"x\",\"from\":\"ann\",\"session\":5}"),
                     0);
    assert_int_equal(given, 2 | 4 | 8 | 16);
    assert_true(str_equal(fields.thread, STR("t3")));
    assert_int_equal(fields.mentions.n, 2);
    assert_true(str_equal(fields.note, STR("x")));
    assert_true(str_equal(fields.agent, STR("ann")));
}

static void what_may_be_missing_may_also_be_null_or_empty(void **state)
{
    (void)state;
    assert_int_equal(read_arguments("{\"thread\":\"t3\"}"), 0);
    assert_int_equal(given, 2);
    assert_int_equal(read_arguments("{\"thread\":\"t3\",\"mentions\":null,\"from\":\"\"}"), 0);
    assert_int_equal(given, 2);
    assert_null(fields.agent.p);
    /* What can be null is then given as that. */
    assert_int_equal(read_arguments("{\"thread\":\"t3\",\"note\":\"\"}"), 0);
    assert_int_equal(given, 2 | 8);
    assert_null(fields.note.p);
}

static void wrong_arguments_are_refused_by_name_with_what_is_allowed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *field, *detail;
    } bad[] = {
        {"{}", "thread", "\"thread\" is missing: a_tool needs it"},
        {"{\"thread\":null}", "thread", "\"thread\" must be an id: " CORE_ID_RULE},
        {"{\"thread\":\"\"}", "thread", "\"thread\" must be an id: " CORE_ID_RULE},
        {"{\"thread\":\"t3\",\"from\":\"a b\"}", "from", "\"from\" must be an id: " CORE_ID_RULE},
        {"{\"thread\":\"t3\",\"mentions\":\"ann\"}", "mentions",
         "\"mentions\" must be an array of ids: " CORE_ID_RULE},
        {"{\"thread\":\"t3\",\"mentions\":[\"a\",\"b\",\"c\"]}", "mentions",
         "\"mentions\" has more than 2 ids, which is the most allowed"},
        {"{\"thread\":\"t3\",\"text\":\"x\"}", NULL,
         "unknown argument \"text\": a_tool takes thread, mentions, note, from"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(read_arguments(bad[i].text), -1);
        assert_string_equal(why.detail, bad[i].detail);
        if (bad[i].field == NULL)
            assert_null(why.field);
        else
            assert_string_equal(why.field, bad[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_definition_is_one_that_strict_validators_take),
        cmocka_unit_test(without_an_address_of_its_own_a_tool_takes_session_and_agent_as_well),
        cmocka_unit_test(descriptions_speak_of_tools_that_are_there),
        cmocka_unit_test(a_status_can_be_just_what_core_knows),
        cmocka_unit_test(a_tool_is_found_in_its_own_set_alone),
        cmocka_unit_test(a_refusal_is_followed_by_what_can_be_done_with_tools_that_are_there),
        cmocka_unit_test(arguments_are_read_by_their_rows),
        cmocka_unit_test(what_may_be_missing_may_also_be_null_or_empty),
        cmocka_unit_test(wrong_arguments_are_refused_by_name_with_what_is_allowed),
    };
    return cmocka_run_group_tests(tests, make_decoder, free_decoder);
}
