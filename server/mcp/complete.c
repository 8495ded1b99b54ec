/*
 * complete: completion/complete: what an argument of a prompt or of a resource template may be.
 *
 * Normal path: the session's agents, or its threads without messages, are asked for; those whose id
 * begins with what was typed are told first, then threads whose name does. Case is not looked at.
 * Failure: a prompt, template or argument that there is not is an error. Of a session that is not
 * known, or not there, there is nothing to tell: an empty answer.
 */
#include "server/mcp/feature.h"
#include "server/mcp/resources.h"
#include "server/mcp/rpc.h"
#include "server/scan.h"

enum { COMPLETE_MAX = 100 /* values in an answer: the protocol's bound */ };

enum subject { SUBJECT_NONE, SUBJECT_SESSION, SUBJECT_AGENT, SUBJECT_THREAD, SUBJECT_NUMBER };

struct completion {
    enum subject subject;
    struct str typed; /* as core writes it in JSON, without the quotes; in the arena */
};

struct found {
    struct buf values; /* comma separated */
    uint32_t n, total;
};

static void give(struct mcp_call *call, const struct found *found)
{
    struct buf out = {0};
    buf_add_literal(&out, "{\"completion\":{\"values\":[");
    buf_add_str(&out, buf_str(&found->values));
    buf_add_literal(&out, "],\"total\":");
    buf_add_u64(&out, found->total);
    buf_add_literal(&out, ",\"hasMore\":");
    if (found->total > found->n)
        buf_add_literal(&out, "true}}");
    else
        buf_add_literal(&out, "false}}");
    mcp_result(call, buf_str(&out));
    buf_free(&out);
}

static void add(struct found *found, struct str id)
{
    found->total++;
    if (found->n == COMPLETE_MAX)
        return;
    if (found->n++ != 0)
        buf_add_byte(&found->values, ',');
    json_add_string(&found->values, id);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool begins(struct str text, struct str typed)
{
    size_t n = 0;
    while (n < typed.n && n < text.n && lower(text.p[n]) == lower(typed.p[n]))
        n++;
    return n == typed.n;
}

/* ---- agents and threads */

static void add_by_id(struct found *found, struct str members, struct str typed)
{
    struct str id, member;
    while (scan_next(&members, &id, &member)) {
        if (begins(id, typed))
            add(found, id);
    }
}

/* Those not told by their id. */
static void add_by_name(struct found *found, struct str threads, struct str typed)
{
    struct str id, thread;
    while (scan_next(&threads, &id, &thread)) {
        if (!begins(id, typed) && begins(scan_id(scan_member(thread, "name")), typed))
            add(found, id);
    }
}

static void on_state(struct mcp_call *call, struct request *request)
{
    const struct completion *completion = call->state;
    struct found found = {.n = 0};
    if (request->error != 0 && request->error != CORE_E_UNKNOWN_SESSION) {
        mcp_refuse_reply(call, request);
        return;
    }
    struct str state = scan_member(buf_str(&request->body), "state");
    if (completion->subject == SUBJECT_AGENT) {
        add_by_id(&found, scan_member(state, "agents"), completion->typed);
    } else {
        struct str threads = scan_member(state, "threads");
        add_by_id(&found, threads, completion->typed);
        add_by_name(&found, threads, completion->typed);
    }
    request_free(request);
    give(call, &found);
    buf_free(&found.values);
}

static void ask(struct mcp_call *call, const struct completion *completion)
{
    static const struct str agents = {"/agents", 7}, threads = {"/threads", 8};
    const struct str *part = completion->subject == SUBJECT_AGENT ? &agents : &threads;
    mcp_send(call, resource_view(call, part, 1, true), on_state);
}

/* ---- what is asked for */

/* A prompt, or a template, and the subjects of its arguments. */
struct place {
    const char *name;
    struct {
        const char *name;
        enum subject subject;
    } arguments[3];
};

static const struct place bound_prompt = {"atoll_briefing", {{"thread", SUBJECT_THREAD}}};
static const struct place unbound_prompt = {
    "atoll_briefing",
    {{"thread", SUBJECT_THREAD}, {"session", SUBJECT_SESSION}, {"agent", SUBJECT_AGENT}}};
static const struct place templates[] = {
    {"atoll://sessions/{sid}/state", {{"sid", SUBJECT_SESSION}}},
    {"atoll://sessions/{sid}/threads/{tid}", {{"sid", SUBJECT_SESSION}, {"tid", SUBJECT_THREAD}}},
    {"atoll://sessions/{sid}/events{?after}",
     {{"sid", SUBJECT_SESSION}, {"after", SUBJECT_NUMBER}}},
};

static bool is(struct str text, const char *name)
{
    return name != NULL && str_equal(text, (struct str){name, strlen(name)});
}

static const struct place *find_template(struct str uri)
{
    for (size_t i = 0; i < sizeof(templates) / sizeof(templates[0]); i++) {
        if (is(uri, templates[i].name))
            return &templates[i];
    }
    return NULL;
}

/* NULL, and refused: there is none. */
static const struct place *find_place(struct mcp_call *call, const struct json_value *ref)
{
    const struct place *place = call->bound ? &bound_prompt : &unbound_prompt;
    struct str type = rpc_string(ref, STR("type"));
    struct str name = rpc_string(ref, STR("name")), uri = rpc_string(ref, STR("uri"));
    if (str_equal(type, STR("ref/prompt"))) {
        if (is(name, place->name))
            return place;
        params_refuse(call, "There is no prompt \"%.*s\"; prompts/list tells which there are.",
                      PARAMS_SHOWN(name));
        return NULL;
    }
    if (str_equal(type, STR("ref/resource"))) {
        place = find_template(uri);
        if (place == NULL)
            params_refuse(call,
                          "There is no resource template \"%.*s\"; resources/templates/list tells "
                          "which there are.",
                          PARAMS_SHOWN(uri));
        return place;
    }
    params_refuse(call, "The \"type\" of \"ref\" is \"ref/prompt\", beside \"name\", or "
                        "\"ref/resource\", beside \"uri\".");
    return NULL;
}

static enum subject find_subject(const struct place *place, struct str argument)
{
    for (size_t i = 0; i < sizeof(place->arguments) / sizeof(place->arguments[0]); i++) {
        if (is(argument, place->arguments[i].name))
            return place->arguments[i].subject;
    }
    return SUBJECT_NONE;
}

/* At /mcp: the session that the client has chosen already, if it says so. */
static void take_session(struct mcp_call *call)
{
    const struct json_value *context = rpc_member(call->params, STR("context"));
    const struct json_value *arguments = rpc_member(context, STR("arguments"));
    struct str session = rpc_string(arguments, STR("session"));
    if (session.p == NULL)
        session = rpc_string(arguments, STR("sid"));
    if (session.p != NULL && core_id_valid(session))
        call->session = mcp_copy(call, session);
}

/* As core writes it, without the quotes. */
static struct str typed_text(struct mcp_call *call, struct str value)
{
    struct buf out = {0};
    json_add_string(&out, value);
    struct str typed = arena_copy(&call->arena, scan_id(buf_str(&out)));
    buf_free(&out);
    return typed;
}

static void give_session(struct mcp_call *call, struct str typed)
{
    struct found found = {.n = 0};
    if (call->bound && begins(call->session, typed))
        add(&found, call->session);
    give(call, &found);
    buf_free(&found.values);
}

static void complete(struct mcp_call *call, const struct completion *completion)
{
    bool asks = completion->subject == SUBJECT_AGENT || completion->subject == SUBJECT_THREAD;
    if (!call->bound)
        take_session(call);
    if (completion->subject == SUBJECT_SESSION)
        give_session(call, completion->typed);
    else if (asks && call->session.p != NULL)
        ask(call, completion);
    else
        give(call, &(struct found){.n = 0});
}

void mcp_complete(struct mcp_call *call)
{
    const struct json_value *ref = rpc_member(call->params, STR("ref"));
    const struct json_value *argument = rpc_member(call->params, STR("argument"));
    struct str name = rpc_string(argument, STR("name"));
    struct str value = rpc_string(argument, STR("value"));
    struct completion *completion = arena_alloc(&call->arena, sizeof(*completion));
    if (ref == NULL || name.p == NULL || value.p == NULL) {
        params_refuse(call, "completion/complete needs \"ref\", and \"argument\" with \"name\" and "
                            "\"value\", strings.");
        return;
    }
    if (mcp_extension != NULL && mcp_extension->complete != NULL &&
        mcp_extension->complete(call, ref, argument))
        return;
    const struct place *place = find_place(call, ref);
    if (place == NULL)
        return;
    *completion = (struct completion){find_subject(place, name), typed_text(call, value)};
    call->state = completion;
    if (completion->subject == SUBJECT_NONE)
        params_refuse(call, "There is no argument \"%.*s\" of %s.", PARAMS_SHOWN(name),
                      place->name);
    else
        complete(call, completion);
}
