/*
 * tools: those of the fixtures that answer in content, log, tell of progress, come back, and ask
 * the client for something on the stream of the answer.
 */
#include "core/core.h"
#include "fixtures.h"

enum { PATIENCE_MS = 30 * 1000 /* with a client that is asked for something */ };

#define IMAGE "{\"type\":\"image\",\"data\":\"" PNG_BASE64 "\",\"mimeType\":\"image/png\"}"
#define AUDIO "{\"type\":\"audio\",\"data\":\"" WAV_BASE64 "\",\"mimeType\":\"audio/wav\"}"
#define TEXT_RESOURCE                                                                              \
    "{\"type\":\"resource\",\"resource\":{\"uri\":\"test://embedded-resource\","                   \
    "\"mimeType\":\"text/plain\",\"text\":\"This is an embedded resource content.\"}}"
#define JSON_RESOURCE                                                                              \
    "{\"type\":\"resource\",\"resource\":{\"uri\":\"test://mixed-content-resource\","              \
    "\"mimeType\":\"application/"                                                                  \
    "json\",\"text\":\"{\\\"test\\\":\\\"data\\\",\\\"value\\\":123}\"}}"

static const struct str none = {NULL, 0};

static void say(struct mcp_call *call, const char *text)
{
    mcp_tool_result(call, none, (struct str){text, strlen(text)});
}

/* ---- content */

static void simple_text(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    say(call, "This is a simple text response for testing.");
}

static void image(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    mcp_tool_content(call, STR("[" IMAGE "]"), none, false);
}

static void audio(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    mcp_tool_content(call, STR("[" AUDIO "]"), none, false);
}

static void embedded(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    mcp_tool_content(call, STR("[" TEXT_RESOURCE "]"), none, false);
}

static void mixed(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    struct str content = STR("[{\"type\":\"text\",\"text\":\"Multiple content types test:\"}," IMAGE
                             "," JSON_RESOURCE "]");
    mcp_tool_content(call, content, none, false);
}

static void failing(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    mcp_tool_refuse(call, "This tool intentionally returns an error for testing");
}

static void with_schema(struct mcp_call *call, const struct json_value *arguments)
{
    struct buf text = {0};
    buf_add_literal(&text, "Called with: ");
    json_canonical(arguments, &text);
    mcp_tool_result(call, none, buf_str(&text));
    buf_free(&text);
}

/* ---- on the way */

static void logging(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    mcp_log(call, MCP_INFO, STR("fixtures"), STR("\"Tool execution started\""));
    mcp_log(call, MCP_INFO, STR("fixtures"), STR("\"Tool processing data\""));
    mcp_log(call, MCP_INFO, STR("fixtures"), STR("\"Tool execution completed\""));
    say(call, "Tool with logging executed successfully");
}

static void progress(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    for (int percent = 0; percent <= 100; percent += 50)
        mcp_progress(call, percent, 100, STR("One step further"));
    say(call, "Tool with progress executed successfully");
}

/* The connection goes before the answer; the client comes back for it. */
static void reconnection(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    mcp_resumable(call);
    if (!call->resumed && mcp_come_back(call, 100))
        return;
    say(call, "Reconnection test completed successfully.");
}

static void missing_capability(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    if (call->client_can & MCP_CAN_SAMPLE)
        say(call, "The client can be asked for a sample.");
    else
        mcp_error(call, MCP_E_MISSING_CAPABILITY, "this tool needs the client's sampling",
                  STR("{\"requiredCapabilities\":{\"sampling\":{}}}"));
}

/* ---- asking the client, before 2026-07-28 */

/* False: the client did not say that it can, and the call is refused. */
static bool can(struct mcp_call *call, enum mcp_client_can what, const char *name)
{
    if (!mcp_is_modern(call->version) && call->client_can & what)
        return true;
    mcp_tool_refuse(call, "The client cannot be asked for %s", name);
    return false;
}

static bool answered(struct mcp_call *call, const struct json_value *result, struct str why)
{
    if (result == NULL)
        mcp_tool_refuse(call, "The client gave no answer: %.*s", (int)why.n, why.p);
    return result != NULL;
}

static void on_sampled(struct mcp_call *call, const struct json_value *result, struct str why)
{
    if (!answered(call, result, why))
        return;
    struct buf text = {0};
    buf_add_literal(&text, "LLM response: ");
    buf_add_str(&text, fixture_string(fixture_object(result, "content"), "text"));
    mcp_tool_result(call, none, buf_str(&text));
    buf_free(&text);
}

static void sampling(struct mcp_call *call, const struct json_value *arguments)
{
    struct str prompt = fixture_string(arguments, "prompt");
    if (prompt.p == NULL) {
        mcp_tool_refuse(call, "`prompt` has to be a string");
        return;
    }
    if (!can(call, MCP_CAN_SAMPLE, "a sample"))
        return;
    struct buf params = {0};
    buf_add_literal(&params, "{\"messages\":[{\"role\":\"user\",\"content\":"
                             "{\"type\":\"text\",\"text\":");
    json_add_string(&params, prompt);
    buf_add_literal(&params, "}}],\"maxTokens\":100}");
    mcp_ask(call, "sampling/createMessage", buf_str(&params), PATIENCE_MS, on_sampled);
    buf_free(&params);
}

static void on_elicited(struct mcp_call *call, const struct json_value *result, struct str why)
{
    if (!answered(call, result, why))
        return;
    const struct json_value *content = fixture_object(result, "content");
    struct buf text = {0};
    buf_add_literal(&text, "Elicitation completed: action=");
    buf_add_str(&text, fixture_string(result, "action"));
    buf_add_literal(&text, ", content=");
    if (content != NULL)
        json_canonical(content, &text);
    else
        buf_add_literal(&text, "{}");
    mcp_tool_result(call, none, buf_str(&text));
    buf_free(&text);
}

static void elicit(struct mcp_call *call, struct str message, struct str schema)
{
    if (!can(call, MCP_CAN_ELICIT, "the user's input"))
        return;
    struct buf params = {0};
    buf_add_literal(&params, "{\"message\":");
    json_add_string(&params, message);
    buf_add_literal(&params, ",\"requestedSchema\":{\"type\":\"object\",\"properties\":{");
    buf_add_str(&params, schema);
    buf_add_literal(&params, "}}");
    mcp_ask(call, "elicitation/create", buf_str(&params), PATIENCE_MS, on_elicited);
    buf_free(&params);
}

static void elicitation(struct mcp_call *call, const struct json_value *arguments)
{
    struct str message = fixture_string(arguments, "message");
    if (message.p == NULL)
        mcp_tool_refuse(call, "`message` has to be a string");
    else
        elicit(call, message,
               STR("\"username\":{\"type\":\"string\",\"description\":\"User's response\"},"
                   "\"email\":{\"type\":\"string\",\"description\":\"User's email address\"}},"
                   "\"required\":[\"username\",\"email\"]"));
}

static void elicitation_defaults(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    elicit(call, STR("Please review the form's defaults"),
           STR("\"name\":{\"type\":\"string\",\"default\":\"John Doe\"},"
               "\"age\":{\"type\":\"integer\",\"default\":30},"
               "\"score\":{\"type\":\"number\",\"default\":95.5},"
               "\"status\":{\"type\":\"string\",\"enum\":[\"active\",\"inactive\",\"pending\"],"
               "\"default\":\"active\"},"
               "\"verified\":{\"type\":\"boolean\",\"default\":true}},\"required\":[]"));
}

static void elicitation_enums(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
#define OPTIONS "[\"option1\",\"option2\",\"option3\"]"
#define TITLED                                                                                     \
    "[{\"const\":\"value1\",\"title\":\"First\"},{\"const\":\"value2\",\"title\":\"Second\"},"     \
    "{\"const\":\"value3\",\"title\":\"Third\"}]"
    elicit(call, STR("Please choose"),
           STR("\"untitledSingle\":{\"type\":\"string\",\"enum\":" OPTIONS "},"
               "\"titledSingle\":{\"type\":\"string\",\"oneOf\":" TITLED "},"
               "\"legacyEnum\":{\"type\":\"string\",\"enum\":[\"opt1\",\"opt2\",\"opt3\"],"
               "\"enumNames\":[\"Option One\",\"Option Two\",\"Option Three\"]},"
               "\"untitledMulti\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":3,"
               "\"items\":{\"type\":\"string\",\"enum\":" OPTIONS "}},"
               "\"titledMulti\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":3,"
               "\"items\":{\"anyOf\":" TITLED "}}},\"required\":[]"));
#undef OPTIONS
#undef TITLED
}

/* ---- the table */

#define DESCRIPTION(text) "\"description\":\"" text "\","
#define ONE_STRING(name)                                                                           \
    "\"inputSchema\":{\"type\":\"object\",\"properties\":{\"" name "\":{\"type\":\"string\"}},"    \
    "\"required\":[\"" name "\"]}"
#define SCHEMA_2020_12                                                                             \
    "\"inputSchema\":{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","               \
    "\"type\":\"object\",\"$defs\":{\"address\":{\"$anchor\":\"addressDef\",\"type\":\"object\","  \
    "\"properties\":{\"street\":{\"type\":\"string\"},\"city\":{\"type\":\"string\"}}}},"          \
    "\"properties\":{\"name\":{\"type\":\"string\"},\"address\":{\"$ref\":\"#/$defs/address\"},"   \
    "\"contactMethod\":{\"type\":\"string\",\"enum\":[\"phone\",\"email\"]},"                      \
    "\"phone\":{\"type\":\"string\"},\"email\":{\"type\":\"string\"}},"                            \
    "\"allOf\":[{\"anyOf\":[{\"required\":[\"phone\"]},{\"required\":[\"email\"]}]}],"             \
    "\"if\":{\"properties\":{\"contactMethod\":{\"const\":\"phone\"}},"                            \
    "\"required\":[\"contactMethod\"]},\"then\":{\"required\":[\"phone\"]},"                       \
    "\"else\":{\"required\":[\"email\"]},\"additionalProperties\":false}"
#define TOOL(tool, text, input, handler)                                                           \
    {                                                                                              \
        .name = (tool), .definition = DESCRIPTION(text) input, .call = (handler),                  \
        .needs_no_session = true                                                                   \
    }
#define LOGGING(tool, text)                                                                        \
    {                                                                                              \
        .name = (tool), .definition = DESCRIPTION(text) NO_ARGUMENTS, .call = logging,             \
        .needs_no_session = true, .logs = true                                                     \
    }
#define PLAIN(name, text, handler) TOOL(name, text, NO_ARGUMENTS, handler)
#define ASKING(name, text, handler)                                                                \
    PLAIN("test_input_required_result_" name, "Asks the client for " text, handler)

const struct mcp_tool fixture_tools[] = {
    PLAIN("test_simple_text", "Answers with text", simple_text),
    PLAIN("test_image_content", "Answers with an image", image),
    PLAIN("test_audio_content", "Answers with audio", audio),
    PLAIN("test_embedded_resource", "Answers with a resource", embedded),
    PLAIN("test_multiple_content_types", "Answers with text, an image and a resource", mixed),
    PLAIN("test_error_handling", "Always fails", failing),
    LOGGING("test_tool_with_logging", "Logs three times"),
    LOGGING("test_logging_tool", "Logs three times, too"),
    PLAIN("test_tool_with_progress", "Tells of its progress three times", progress),
    PLAIN("test_reconnection", "Closes the connection before it answers", reconnection),
    PLAIN("test_missing_capability", "Needs a client that can sample", missing_capability),
    TOOL("test_sampling", "Asks the client for a sample", ONE_STRING("prompt"), sampling),
    TOOL("test_elicitation", "Asks the user", ONE_STRING("message"), elicitation),
    PLAIN("test_elicitation_sep1034_defaults", "Asks the user, with defaults",
          elicitation_defaults),
    PLAIN("test_elicitation_sep1330_enums", "Lets the user choose", elicitation_enums),
    TOOL("json_schema_2020_12_tool", "Has a schema with much in it", SCHEMA_2020_12, with_schema),
    PLAIN("test_streaming_elicitation", "Asks the user, on a stream", fixture_ask_on_stream),
    ASKING("elicitation", "a name", fixture_ask_name),
    ASKING("sampling", "a sample", fixture_ask_sampling),
    ASKING("list_roots", "its roots", fixture_ask_roots),
    ASKING("request_state", "a confirmation", fixture_ask_confirmation),
    ASKING("tampered_state", "a confirmation", fixture_ask_confirmation),
    ASKING("multiple_inputs", "a name, a sample and its roots", fixture_ask_all),
    ASKING("multi_round", "a name and then a color", fixture_ask_twice),
    ASKING("capabilities", "what it has declared", fixture_ask_what_is_declared),
};
const size_t fixture_tools_n = sizeof(fixture_tools) / sizeof(fixture_tools[0]);
