/* The program that the protocol's conformance suite is run against: Atoll with the fixtures. */
#include "fixtures.h"
#include "server/cli.h"

int main(int argc, char **argv)
{
    const struct mcp_extension fixtures = {
        .tools = fixture_tools,
        .tools_n = fixture_tools_n,
        .prompts = fixture_prompts,
        .prompts_n = fixture_prompts_n,
        .resources = fixture_resources,
        .templates = fixture_templates,
        .read = fixture_read,
        .knows = fixture_knows,
        .complete = fixture_complete,
    };
    mcp_extend(&fixtures);
    return cli_run(argc, argv);
}

static const struct json_value *member(const struct json_value *value, const char *name)
{
    return value != NULL && value->type == JSON_OBJECT ? mcp_member(value, name) : NULL;
}

const struct json_value *fixture_object(const struct json_value *object, const char *name)
{
    const struct json_value *value = member(object, name);
    return value != NULL && value->type == JSON_OBJECT ? value : NULL;
}

struct str fixture_string(const struct json_value *object, const char *name)
{
    const struct json_value *value = member(object, name);
    return value != NULL && value->type == JSON_STRING ? json_str(value) : (struct str){NULL, 0};
}
