/*
 * Messages of MCP: JSON-RPC, the arguments of tools, names of resources. The first line is the URI
 * of a resource, the rest a message.
 */
#include "server/decode.h"
#include "server/json.h"
#include "server/mcp/feature.h"
#include "server/mcp/rpc.h"
#include "tests/fuzz/fuzz.h"

static struct core_limits limits;
static struct decoder *decoder;

static void prepare(void)
{
    limits = core_limits_default;
    limits.max[CORE_LIMIT_MENTIONS] = 2;
    decoder = decoder_new(&limits, 10, 64 * 1024);
}

/* By the rows of a command that a tool would make of them. */
static void read_arguments(const struct json_value *arguments, enum core_type type)
{
    static const char *const others[] = {"session", "agent", NULL};
    const struct core_type_spec *spec = core_type_spec(type);
    const struct decode_arguments rows = {.what = "a_tool",
                                          .specs = spec->command_fields,
                                          .n = spec->command_fields_n,
                                          .others = others};
    struct arena arena = exact_arena();
    struct core_fields fields = {0};
    struct core_refusal why;
    uint64_t given = 0;

    if (decode_arguments(decoder, &rows, arguments, &arena, &fields, &given, &why) != 0)
        check_refusal(&why);
    arena_free(&arena);
}

static void write_back(const struct rpc_message *message)
{
    struct arena arena = exact_arena();
    const struct json_value *root;
    struct json_error error;
    struct buf out = {0};

    if (message->kind == RPC_REQUEST)
        rpc_write_request(&out, message->id, message->method, STR("{}"));
    else if (message->kind == RPC_BAD)
        rpc_write_error(&out, message->id, MCP_E_INVALID_REQUEST, text_of(message->why), STR(""));
    else
        rpc_write_notification(&out, STR("n"), STR("{}"));
    assert(json_parse(decoder_parser(decoder), &arena, buf_str(&out), &root, &error) == 0);
    struct rpc_message again;
    rpc_read(root, &arena, &again);
    if (message->kind == RPC_REQUEST)
        assert(again.kind == RPC_REQUEST && str_equal(again.id, message->id) &&
               str_equal(again.method, message->method));
    buf_free(&out);
    arena_free(&arena);
}

static void read_message(struct str text)
{
    struct arena arena = exact_arena();
    const struct json_value *root;
    struct json_error error;
    struct rpc_message message;

    if (json_parse(decoder_parser(decoder), &arena, text, &root, &error) == 0) {
        rpc_read(root, &arena, &message);
        assert(message.kind != RPC_BAD || message.why != NULL);
        const struct json_value *arguments = rpc_member(message.params, STR("arguments"));
        if (arguments != NULL && arguments->type == JSON_OBJECT) {
            for (int type = CORE_TYPE_NONE + 1; type < CORE_TYPE_COUNT; type++)
                read_arguments(arguments, (enum core_type)type);
        }
        mcp_tool_find(MCP_TOOLS_ATOLL, rpc_string(message.params, STR("name")));
        const struct json_value *meta = rpc_member(message.params, STR("_meta"));
        const struct json_value *token = rpc_member(meta, STR("progressToken"));
        if (token != NULL)
            rpc_scalar(token, &arena);
        write_back(&message);
    } else {
        check_sentence(error.text, sizeof(error.text));
    }
    arena_free(&arena);
}

static void read_name(struct str uri)
{
    char *exact = exact_copy(uri);
    struct mcp_resource_name name = mcp_resource_parse((struct str){exact, uri.n}, STR("demo"));
    if (name.kind == MCP_RESOURCE_THREAD)
        assert(core_id_valid(name.thread));
    name = mcp_resource_parse((struct str){exact, uri.n}, (struct str){0});
    if (name.kind != MCP_RESOURCE_NONE)
        assert(name.session.p == NULL || core_id_valid(name.session));
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size);

    if (decoder == NULL)
        prepare();
    read_name(take_line(&in));
    read_message(in);
    json_parser_trim(decoder_parser(decoder));
    return 0;
}
