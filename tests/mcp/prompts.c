/* prompts: those of the fixtures, and completion for one of them. */
#include "core/core.h"
#include "fixtures.h"
#include <stdio.h>

#define MESSAGES(messages) STR("{\"messages\":[" messages "]}")
#define USER(content) "{\"role\":\"user\",\"content\":" content "}"
#define TEXT(text) USER("{\"type\":\"text\",\"text\":\"" text "\"}")

/* A string argument; where it is not one the call ends, and p == NULL. */
static struct str required(struct mcp_call *call, const struct json_value *arguments,
                           const char *name)
{
    struct str value = fixture_string(arguments, name);
    if (value.p == NULL) {
        char text[100];
        snprintf(text, sizeof(text), "the argument `%s` is missing, or is no string", name);
        mcp_error(call, MCP_E_INVALID_PARAMS, text, (struct str){NULL, 0});
    }
    return value;
}

static void simple(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    mcp_result(call, MESSAGES(TEXT("This is a simple prompt for testing.")));
}

static void with_arguments(struct mcp_call *call, const struct json_value *arguments)
{
    struct str first = required(call, arguments, "arg1");
    struct str second = first.p != NULL ? required(call, arguments, "arg2") : first;
    if (second.p == NULL)
        return;
    struct buf text = {0}, result = {0};
    buf_add_literal(&text, "Prompt with arguments: arg1='");
    buf_add_str(&text, first);
    buf_add_literal(&text, "', arg2='");
    buf_add_str(&text, second);
    buf_add_byte(&text, '\'');
    buf_add_literal(&result, "{\"messages\":[{\"role\":\"user\",\"content\":");
    mcp_add_text(&result, buf_str(&text));
    buf_add_literal(&result, "}]}");
    mcp_result(call, buf_str(&result));
    buf_free(&text);
    buf_free(&result);
}

static void with_resource(struct mcp_call *call, const struct json_value *arguments)
{
    struct str uri = required(call, arguments, "resourceUri");
    if (uri.p == NULL)
        return;
    struct buf result = {0};
    buf_add_literal(&result, "{\"messages\":[{\"role\":\"user\",\"content\":{\"type\":\"resource\","
                             "\"resource\":{\"uri\":");
    json_add_string(&result, uri);
    buf_add_literal(&result, ",\"mimeType\":\"text/plain\",\"text\":"
                             "\"Embedded resource content for testing.\"}}},");
    buf_add_literal(&result, TEXT("Please process the embedded resource above.") "]}");
    mcp_result(call, buf_str(&result));
    buf_free(&result);
}

static void with_image(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    mcp_result(call,
               MESSAGES(USER(
                   "{\"type\":\"image\",\"data\":\"" PNG_BASE64
                   "\",\"mimeType\":\"image/png\"}") "," TEXT("Please analyze the image above.")));
}

#define DESCRIPTION(text) "\"description\":\"" text "\""
#define ARGUMENTS(list) ",\"arguments\":[" list "]"
#define ARGUMENT(name, text)                                                                       \
    "{\"name\":\"" name "\",\"description\":\"" text "\",\"required\":true}"

const struct mcp_prompt fixture_prompts[] = {
    {"test_simple_prompt", DESCRIPTION("A prompt without arguments"), simple},
    {"test_prompt_with_arguments",
     DESCRIPTION("A prompt with two arguments") ARGUMENTS(
         ARGUMENT("arg1", "First test argument") "," ARGUMENT("arg2", "Second test argument")),
     with_arguments},
    {"test_prompt_with_embedded_resource",
     DESCRIPTION("A prompt with a resource in it")
         ARGUMENTS(ARGUMENT("resourceUri", "URI of the resource to embed")),
     with_resource},
    {"test_prompt_with_image", DESCRIPTION("A prompt with an image"), with_image},
    {"test_input_required_result_prompt", DESCRIPTION("A prompt that asks the user first"),
     fixture_ask_context},
};
const size_t fixture_prompts_n = sizeof(fixture_prompts) / sizeof(fixture_prompts[0]);

/* ---- completion */

bool fixture_complete(struct mcp_call *call, const struct json_value *ref,
                      const struct json_value *argument)
{
    static const char *const values[] = {"paris", "park", "party", "test"};
    if (!str_equal(fixture_string(ref, "name"), STR("test_prompt_with_arguments")))
        return false;
    struct str typed = fixture_string(argument, "value");
    struct buf result = {0};
    uint64_t n = 0;
    buf_add_literal(&result, "{\"completion\":{\"values\":[");
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct str value = {values[i], strlen(values[i])};
        if (typed.n > value.n || (typed.n != 0 && memcmp(value.p, typed.p, typed.n) != 0))
            continue;
        if (n++ != 0)
            buf_add_byte(&result, ',');
        json_add_string(&result, value);
    }
    buf_add_literal(&result, "],\"total\":");
    buf_add_u64(&result, n);
    buf_add_literal(&result, ",\"hasMore\":false}}");
    mcp_result(call, buf_str(&result));
    buf_free(&result);
    return true;
}
