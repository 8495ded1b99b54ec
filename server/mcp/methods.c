#include "server/mcp/internal.h"
#include "server/mcp/notify.h"
#include "server/scan.h"

#include <stdio.h>

/* ---- versions */

static const char *const version_names[MCP_VERSION_COUNT] = {
#define X(name, text) text,
    MCP_VERSIONS(X)
#undef X
};

enum mcp_version mcp_version_of(struct str name)
{
    unsigned i = 0;
    while (i < MCP_VERSION_COUNT &&
           !str_equal(name, (struct str){version_names[i], strlen(version_names[i])}))
        i++;
    return (enum mcp_version)i;
}

/* Newest first, as a client would try them. */
void mcp_write_versions(struct buf *out)
{
    buf_add_byte(out, '[');
    for (unsigned i = MCP_VERSION_COUNT; i-- != 0;) {
        buf_add_byte(out, '"');
        buf_add(out, version_names[i], strlen(version_names[i]));
        buf_add_str(out, i != 0 ? STR("\",") : STR("\"]"));
    }
}

/* ---- who we are */

#define CAPABILITIES(more)                                                                         \
    "{\"tools\":{},\"prompts\":{},\"completions\":{},"                                             \
    "\"resources\":{\"subscribe\":true,\"listChanged\":true}" more "}"

static struct str instructions_of(enum mcp_toolset toolset, bool bound)
{
    if (toolset == MCP_TOOLS_CORAL)
        return STR("You share a session with other agents. Open a thread with "
                   "coral_create_thread, write with coral_send_message and mention whom you need, "
                   "then wait with coral_wait_for_mention. No message is lost between two waits.");
    if (bound)
        return STR("You share a session with other agents. See who is here with "
                   "atoll_list_agents and what is open with atoll_get_state. Open a thread with "
                   "atoll_create_thread, write with atoll_send_message, then call atoll_wait; hand "
                   "its cursor to the next atoll_wait as ack. Nothing is lost between two waits.");
    return STR("Agents share sessions here. Every tool takes the session and the agent that you "
               "speak as. Then as in a session: atoll_get_state, atoll_send_message, atoll_wait; "
               "hand its cursor to the next atoll_wait as ack.");
}

void mcp_write_initialized(struct buf *out, enum mcp_version version, enum mcp_toolset toolset,
                           bool bound)
{
    buf_add_literal(out, "{\"protocolVersion\":\"");
    buf_add(out, version_names[version], strlen(version_names[version]));
    buf_add_literal(out,
                    "\",\"capabilities\":" CAPABILITIES(
                        ",\"logging\":{}") ",\"serverInfo\":" MCP_SERVER_INFO ",\"instructions\":");
    json_add_string(out, instructions_of(toolset, bound));
    buf_add_byte(out, '}');
}

static void discover(struct mcp_call *call)
{
    struct buf out = {0};

    buf_add_literal(&out, "{\"supportedVersions\":");
    mcp_write_versions(&out);
    buf_add_literal(&out,
                    ",\"capabilities\":" CAPABILITIES(",\"logging\":{}") ",\"instructions\":");
    json_add_string(&out, instructions_of(call->toolset, call->bound));
    buf_add_byte(&out, '}');
    mcp_result(call, buf_str(&out));
    buf_free(&out);
}

/* ---- what only the revisions with sessions have */

static void on_pinged(struct mcp_call *call, struct request *request)
{
    request_free(request); /* whether the agent is known or not, we are there */
    mcp_result(call, STR("{}"));
}

/* Also says that the agent lives. */
static void ping(struct mcp_call *call)
{
    if (call->agent.p == NULL) {
        mcp_result(call, STR("{}"));
        return;
    }
    struct request *request = mcp_request(call, REQUEST_TOUCH);
    request->agent = arena_copy(&request->arena, call->agent);
    mcp_send(call, request, on_pinged);
}

static void refuse_more(struct mcp_call *call)
{
    mcp_error(call, MCP_E_INVALID_PARAMS,
              "That many resources cannot be subscribed to at once: unsubscribe from some first.",
              (struct str){0});
}

static void on_kept(struct mcp_call *call, struct request *request)
{
    if (request->error == CORE_E_REFUSED) { /* it has all the labels that it can have */
        request_free(request);
        refuse_more(call);
        return;
    }
    if (request->error != 0) {
        mcp_refuse_reply(call, request);
        return;
    }
    request_free(request);
    mcp_result(call, STR("{}"));
}

/* Keeps a label of the MCP session. Without one (the older transport) there is nothing to keep. */
static void keep(struct mcp_call *call, struct str key, struct str value)
{
    struct request *request = request_new();
    mcp_companion_label(request, call->owner, key, value);
    mcp_send(call, request, on_kept);
}

static void set_level(struct mcp_call *call)
{
    struct str name = rpc_string(call->params, STR("level"));

    if (mcp_level_of(name) == MCP_LEVEL_NONE) {
        mcp_error(call, MCP_E_INVALID_PARAMS,
                  "The level must be debug, info, notice, warning, error, critical, alert or "
                  "emergency.",
                  (struct str){0});
        return;
    }
    if (call->owner.p != NULL) {
        keep(call, STR("level"), name);
        return;
    }
    call->sink->level = mcp_level_of(name);
    mcp_result(call, STR("{}"));
}

static void refuse_resource(struct mcp_call *call, struct str uri)
{
    struct buf data = {0};
    buf_add_literal(&data, "{\"uri\":");
    json_add_string(&data, uri);
    buf_add_byte(&data, '}');
    mcp_error(call, MCP_E_UNKNOWN_RESOURCE,
              "There is no such resource that could be subscribed to; see resources/list and "
              "resources/templates/list.",
              buf_str(&data));
    buf_free(&data);
}

/* Keeps it with where its session stands now: what happens from here on is told, on whichever
 * stream there will be. */
static void on_standing(struct mcp_call *call, struct request *request)
{
    struct str uri = *(const struct str *)call->state;
    struct mcp_resource_name name = mcp_resource_parse(uri, (struct str){0});
    struct buf key = {0}, position = {0};
    struct str threads = scan_member(scan_member(buf_str(&request->body), "state"), "threads");

    bool there = request->error == 0 &&
                 (name.kind != MCP_RESOURCE_THREAD || scan_find(threads, name.thread).p != NULL);
    if (!there && (request->error == 0 || request->error == CORE_E_UNKNOWN_SESSION)) {
        request_free(request);
        refuse_resource(call, uri);
        return;
    }
    if (!there) {
        mcp_refuse_reply(call, request);
        return;
    }
    buf_add_byte(&key, '+');
    buf_add_str(&key, uri);
    buf_add(&position, request->epoch, strlen(request->epoch));
    buf_add_byte(&position, '-');
    buf_add_u64(&position, request->seq);
    request_free(request);
    keep(call, buf_str(&key), buf_str(&position));
    buf_free(&position);
    buf_free(&key);
}

/* Where the session of the resource stands, and whether it is there. */
static void find_standing(struct mcp_call *call, struct str uri)
{
    struct mcp_resource_name name = mcp_resource_parse(uri, call->session);
    struct str session = name.session.p != NULL ? name.session : call->session;
    struct str *kept = arena_alloc(&call->arena, sizeof(*kept));
    struct buf key = {0};

    *kept = arena_copy(&call->arena, uri);
    call->state = kept;
    if (name.kind == MCP_RESOURCE_NONE) { /* the extension's: nobody knows where that stands */
        buf_add_byte(&key, '+');
        buf_add_str(&key, uri);
        keep(call, buf_str(&key), STR("1"));
        buf_free(&key);
        return;
    }
    struct request *request = request_new();
    struct core_parts *parts = arena_alloc(&request->arena, sizeof(*parts) + sizeof(struct str));
    parts->n = 1;
    parts->items[0] = name.kind == MCP_RESOURCE_THREAD ? STR("/threads") : STR("/labels");
    request->kind = REQUEST_VIEW;
    request->outline = true;
    request->session = arena_copy(&request->arena, session);
    request->parts = parts;
    mcp_send(call, request, on_standing);
}

static void subscribe_or_not(struct mcp_call *call, bool subscribe)
{
    struct str uri = rpc_string(call->params, STR("uri"));
    struct buf key = {0};

    if (uri.n == 0 || uri.n > MCP_URI_BYTES) {
        mcp_error(call, MCP_E_INVALID_PARAMS, "The uri must be a string of 1 to 200 bytes.",
                  (struct str){0});
        return;
    }
    if (!mcp_notes_can(uri, call->session)) {
        refuse_resource(call, uri);
        return;
    }
    if (call->owner.p == NULL) {
        if (mcp_notes_change(call->sink, uri, subscribe))
            mcp_result(call, STR("{}"));
        else
            refuse_more(call);
        return;
    }
    if (subscribe) {
        find_standing(call, uri);
        return;
    }
    buf_add_byte(&key, '+');
    buf_add_str(&key, uri);
    keep(call, buf_str(&key), (struct str){0});
    buf_free(&key);
}

static void subscribe(struct mcp_call *call)
{
    subscribe_or_not(call, true);
}

static void unsubscribe(struct mcp_call *call)
{
    subscribe_or_not(call, false);
}

/* ---- all methods */

enum era { WITH_SESSIONS = 1, MODERN = 2, BOTH = 3 };

struct method {
    struct str name;
    enum era era;
    const char *subject; /* member of params that says what it is about; NULL: nothing does */
    void (*begin)(struct mcp_call *call);
    bool cacheable;
    uint32_t ttl_ms;
};

#define METHOD(text)                                                                               \
    {                                                                                              \
        (text), sizeof(text) - 1                                                                   \
    }

static const struct method methods[] = {
    {METHOD("tools/call"), BOTH, "name", mcp_tools_call, false, 0},
    {METHOD("tools/list"), BOTH, NULL, mcp_tools_list, true, MCP_TTL_MS},
    {METHOD("resources/list"), BOTH, NULL, mcp_resources_list, true, 0},
    {METHOD("resources/templates/list"), BOTH, NULL, mcp_resources_templates, true, MCP_TTL_MS},
    {METHOD("resources/read"), BOTH, "uri", mcp_resources_read, true, 0},
    {METHOD("prompts/list"), BOTH, NULL, mcp_prompts_list, true, MCP_TTL_MS},
    {METHOD("prompts/get"), BOTH, "name", mcp_prompts_get, false, 0},
    {METHOD("completion/complete"), BOTH, NULL, mcp_complete, false, 0},
    {METHOD("ping"), WITH_SESSIONS, NULL, ping, false, 0},
    {METHOD("logging/setLevel"), WITH_SESSIONS, NULL, set_level, false, 0},
    {METHOD("resources/subscribe"), WITH_SESSIONS, NULL, subscribe, false, 0},
    {METHOD("resources/unsubscribe"), WITH_SESSIONS, NULL, unsubscribe, false, 0},
    {METHOD("server/discover"), MODERN, NULL, discover, true, MCP_TTL_MS},
    {METHOD("subscriptions/listen"), MODERN, NULL, mcp_listen, false, 0},
};

static const struct method *method_of(enum mcp_version version, struct str name)
{
    enum era era = mcp_is_modern(version) ? MODERN : WITH_SESSIONS;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if ((methods[i].era & era) != 0 && str_equal(methods[i].name, name))
            return &methods[i];
    return NULL;
}

const char *mcp_method_subject(struct str name)
{
    const struct method *method = method_of(MCP_2026_07_28, name);
    return method != NULL ? method->subject : NULL;
}

static void refuse_method(struct mcp_call *call)
{
    char text[160];
    snprintf(text, sizeof(text), "There is no method \"%.*s\" in revision %s.",
             (int)json_cut(call->method, 64), call->method.p, version_names[call->version]);
    mcp_error(call, MCP_E_UNKNOWN_METHOD, text, (struct str){0});
}

static bool take_progress_token(struct mcp_call *call)
{
    const struct json_value *token =
        rpc_member(rpc_member(call->params, STR("_meta")), STR("progressToken"));
    if (token == NULL)
        return true;
    call->progress_token = rpc_scalar(token, &call->arena);
    return call->progress_token.p != NULL;
}

/* What came with a further try. False: it was refused. */
static bool take_answers(struct mcp_call *call)
{
    const struct json_value *state = rpc_member(call->params, STR("requestState"));
    const struct json_value *answers = rpc_member(call->params, STR("inputResponses"));

    if (!mcp_is_modern(call->version))
        return true;
    if (answers != NULL && answers->type != JSON_OBJECT) {
        mcp_error(call, MCP_E_INVALID_PARAMS, "The inputResponses must be an object.",
                  (struct str){0});
        return false;
    }
    call->input_responses = answers;
    if (state == NULL)
        return true;
    if (state->type == JSON_STRING && mcp_take_state(call, json_str(state)))
        return true;
    mcp_error(call, MCP_E_INVALID_PARAMS,
              "The requestState is not one that was given for this request, or is too old. Begin "
              "again without it.",
              (struct str){0});
    return false;
}

void mcp_begin(struct mcp_call *call)
{
    const struct method *method = method_of(call->version, call->method);

    if (method == NULL) {
        refuse_method(call);
        return;
    }
    call->cacheable = method->cacheable;
    call->ttl_ms = method->ttl_ms;
    if (method->subject != NULL) {
        struct str name = {method->subject, strlen(method->subject)};
        call->subject = arena_copy(&call->arena, rpc_string(call->params, name));
    }
    if (!take_progress_token(call)) {
        mcp_error(call, MCP_E_INVALID_PARAMS,
                  "The progressToken must be a string of at most 256 bytes or an integer.",
                  (struct str){0});
        return;
    }
    if (!take_answers(call))
        return;
    method->begin(call);
}
