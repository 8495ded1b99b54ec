/*
 * inputs: the fixtures that answer by "input_required" (2026-07-28): the client calls again with
 * what it was asked for, and gets the result. An answer that is not there, or not what was asked
 * for, is asked for again.
 */
#include "core/core.h"
#include "fixtures.h"

#define ELICIT(key, message, field, type)                                                          \
    "\"" key "\":{\"method\":\"elicitation/create\",\"params\":{\"message\":\"" message "\","      \
    "\"requestedSchema\":{\"type\":\"object\",\"properties\":{\"" field "\":{\"type\":\"" type     \
    "\"}},\"required\":[\"" field "\"]}}}"
#define SAMPLE(key, prompt)                                                                        \
    "\"" key "\":{\"method\":\"sampling/createMessage\",\"params\":{\"messages\":[{"               \
    "\"role\":\"user\",\"content\":{\"type\":\"text\",\"text\":\"" prompt "\"}}],"                 \
    "\"maxTokens\":100}}"
#define ROOTS(key) "\"" key "\":{\"method\":\"roots/list\",\"params\":{}}"
#define REQUESTS(members) STR("{" members "}")

#define ASK_NAME ELICIT("user_name", "What is your name?", "name", "string")
#define ASK_COLOR ELICIT("step2", "Step 2: What is your favorite color?", "color", "string")

static const struct str none = {NULL, 0};

/* ---- what came back */

static struct str elicited(const struct mcp_call *call, const char *key, const char *field)
{
    const struct json_value *answer = fixture_object(call->input_responses, key);
    return fixture_string(fixture_object(answer, "content"), field);
}

static struct str sampled(const struct mcp_call *call, const char *key)
{
    const struct json_value *answer = fixture_object(call->input_responses, key);
    return fixture_string(fixture_object(answer, "content"), "text");
}

/* The array; NULL: it is not there. */
static const struct json_value *roots(const struct mcp_call *call, const char *key)
{
    const struct json_value *answer = fixture_object(call->input_responses, key);
    const struct json_value *array = answer != NULL ? mcp_member(answer, "roots") : NULL;
    return array != NULL && array->type == JSON_ARRAY ? array : NULL;
}

static bool in_state(const struct mcp_call *call, struct str state)
{
    return str_equal(call->request_state, state);
}

/* ---- what is told then: "<before><text><after>" */

static void tell(struct mcp_call *call, const char *before, struct str text, const char *after)
{
    struct buf whole = {0};
    buf_add(&whole, before, strlen(before));
    buf_add_str(&whole, text);
    buf_add(&whole, after, strlen(after));
    mcp_tool_result(call, none, buf_str(&whole));
    buf_free(&whole);
}

/* ---- tools */

void fixture_ask_name(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    struct str name = elicited(call, "user_name", "name");
    if (name.p != NULL)
        tell(call, "Hello, ", name, "!");
    else
        mcp_ask_by_result(call, REQUESTS(ASK_NAME), none);
}

/* What is asked is all that the stream carries. */
void fixture_ask_on_stream(struct mcp_call *call, const struct json_value *arguments)
{
    mcp_stream(call);
    fixture_ask_name(call, arguments);
}

void fixture_ask_sampling(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    struct str sample = sampled(call, "capital_question");
    if (sample.p != NULL)
        tell(call, "Sampled: ", sample, "");
    else
        mcp_ask_by_result(
            call, REQUESTS(SAMPLE("capital_question", "What is the capital of France?")), none);
}

void fixture_ask_roots(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    const struct json_value *all = roots(call, "client_roots");
    if (all == NULL)
        mcp_ask_by_result(call, REQUESTS(ROOTS("client_roots")), none);
    else if (all->size == 0)
        tell(call, "The client has no roots", none, "");
    else
        tell(call, "The first root is ", fixture_string(json_first(all), "uri"), "");
}

void fixture_ask_confirmation(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    const struct json_value *answer = fixture_object(call->input_responses, "confirm");
    const struct json_value *content = fixture_object(answer, "content");
    const struct json_value *ok = content != NULL ? mcp_member(content, "ok") : NULL;
    struct str state = STR("to be confirmed");
    if (in_state(call, state) && ok != NULL && ok->type == JSON_TRUE)
        tell(call, "state-ok: ", call->request_state, "");
    else
        mcp_ask_by_result(call, REQUESTS(ELICIT("confirm", "Please confirm", "ok", "boolean")),
                          state);
}

void fixture_ask_all(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    struct str name = elicited(call, "user_name", "name"), greeting = sampled(call, "greeting");
    struct str state = STR("three questions");
    if (in_state(call, state) && name.p != NULL && greeting.p != NULL &&
        roots(call, "client_roots") != NULL)
        tell(call, "All is there for ", name, "");
    else
        mcp_ask_by_result(call,
                          REQUESTS(ASK_NAME "," SAMPLE("greeting", "Generate a greeting") "," ROOTS(
                              "client_roots")),
                          state);
}

/* The state is the name, once it is known; before that, that it was asked for. */
void fixture_ask_twice(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    static const char known[] = "name: ";
    enum { KNOWN_BYTES = sizeof(known) - 1 };
    struct str state = call->request_state;
    struct str name = elicited(call, "step1", "name"), color = elicited(call, "step2", "color");
    if (state.n > KNOWN_BYTES && memcmp(state.p, known, KNOWN_BYTES) == 0) {
        if (color.p != NULL)
            tell(call, "The favorite color is ", color, "");
        else
            mcp_ask_by_result(call, REQUESTS(ASK_COLOR), state);
        return;
    }
    if (in_state(call, STR("step1")) && name.n != 0) {
        struct buf next = {0};
        buf_add_literal(&next, known);
        buf_add_str(&next, name);
        mcp_ask_by_result(call, REQUESTS(ASK_COLOR), buf_str(&next));
        buf_free(&next);
        return;
    }
    mcp_ask_by_result(call,
                      REQUESTS(ELICIT("step1", "Step 1: What is your name?", "name", "string")),
                      STR("step1"));
}

void fixture_ask_what_is_declared(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    struct str name = elicited(call, "user_name", "name"), greeting = sampled(call, "greeting");
    bool ask_name = call->client_can & MCP_CAN_ELICIT && name.p == NULL;
    bool ask_sample = call->client_can & MCP_CAN_SAMPLE && greeting.p == NULL;
    if (ask_name && ask_sample)
        mcp_ask_by_result(call, REQUESTS(ASK_NAME "," SAMPLE("greeting", "Generate a greeting")),
                          none);
    else if (ask_name)
        mcp_ask_by_result(call, REQUESTS(ASK_NAME), none);
    else if (ask_sample)
        mcp_ask_by_result(call, REQUESTS(SAMPLE("greeting", "Generate a greeting")), none);
    else
        tell(call, "There is nothing to ask for", none, "");
}

/* ---- a prompt */

void fixture_ask_context(struct mcp_call *call, const struct json_value *arguments)
{
    (void)arguments;
    struct str context = elicited(call, "user_context", "context");
    if (context.p == NULL) {
        mcp_ask_by_result(call,
                          REQUESTS(ELICIT("user_context", "What context should the prompt use?",
                                          "context", "string")),
                          none);
        return;
    }
    struct buf result = {0};
    buf_add_literal(&result, "{\"messages\":[{\"role\":\"user\",\"content\":{\"type\":\"text\","
                             "\"text\":");
    json_add_string(&result, context);
    buf_add_literal(&result, "}}]}");
    mcp_result(call, buf_str(&result));
    buf_free(&result);
}
