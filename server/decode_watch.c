/*
 * decode_watch: what a WebSocket of many sessions is to show, and no longer. The members of `watch`
 * are the parameters of the streams' queries, and are taken by the same rules.
 */
#include "server/decode.h"

#include "server/json.h"
#include "server/router.h"

#include <math.h>
#include <stdio.h>

/* Which members mean something where. */
enum scope { OF_SESSION = 1, OF_SUMMARY = 2, OF_UNWATCH = 4 };

struct member {
    struct str name;
    enum query_parameter parameter;
    unsigned scope;
    bool list; /* an array of strings, else one string */
};

static const struct member members[] = {
    {{"session", 7}, QUERY_SESSION, OF_SESSION | OF_UNWATCH, false},
    {{"view", 4}, QUERY_VIEW, OF_SESSION | OF_SUMMARY | OF_UNWATCH, false},
    {{"path", 4}, QUERY_PATH, OF_SESSION, true},
    {{"label", 5}, QUERY_LABEL, OF_SUMMARY, true},
    {{"sessions", 8}, QUERY_SESSION, OF_SUMMARY, true},
    {{"last_event_id", 13}, QUERY_LAST_EVENT_ID, OF_SESSION | OF_SUMMARY, false},
    {{"after", 5}, QUERY_AFTER, OF_SESSION, false},
};

static int refuse(struct core_refusal *why, const char *field, const char *detail)
{
    *why = (struct core_refusal){.code = CORE_E_MALFORMED, .field = field};
    snprintf(why->detail, sizeof(why->detail), "%s", detail);
    return -1;
}

static const struct member *find_member(struct str name, unsigned scope)
{
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        if (str_equal(members[i].name, name) && (members[i].scope & scope) != 0)
            return &members[i];
    return NULL;
}

static int refuse_unknown(unsigned scope, struct core_refusal *why)
{
    if ((scope & OF_UNWATCH) != 0)
        return refuse(why, NULL, "unknown member: unwatch takes session, or view: \"summary\"");
    if ((scope & OF_SUMMARY) != 0)
        return refuse(why, NULL,
                      "unknown member: a summary is watched with view, label or "
                      "sessions, last_event_id");
    return refuse(why, NULL,
                  "unknown member: a session is watched with session, view, path, "
                  "last_event_id, after");
}

static int take_after(const struct json_value *v, struct query *query, struct core_refusal *why)
{
    if (v->type != JSON_NUMBER || v->as.number < 0 || trunc(v->as.number) != v->as.number ||
        v->as.number > (double)CORE_SAFE_INTEGER)
        return refuse(why, "after", "\"after\" must be a seq: an integer from 0 to 2^53-1");
    query->after = (uint64_t)v->as.number;
    query->given |= UINT32_C(1) << QUERY_AFTER;
    return 0;
}

static int take_string(const struct member *member, const struct json_value *v,
                       struct arena *scratch, struct query *query, struct core_refusal *why)
{
    if (v->type != JSON_STRING)
        return refuse(why, member->name.p,
                      member->list ? "it must be an array of strings" : "it must be a string");
    struct str text = v->size != 0 ? arena_copy(scratch, json_str(v)) : STR("");
    return query_take(query, member->parameter, text, scratch, why) == 0 ? 0 : -1;
}

static int take_member(const struct member *member, const struct json_value *v,
                       struct arena *scratch, struct query *query, struct core_refusal *why)
{
    if (member->parameter == QUERY_AFTER)
        return take_after(v, query, why);
    if (!member->list)
        return take_string(member, v, scratch, query, why);
    if (v->type != JSON_ARRAY || v->size == 0)
        return refuse(why, member->name.p, "it must be an array of strings, and not empty");
    const struct json_value *item = json_first(v);
    for (uint32_t i = 0; i < v->size; i++, item = json_next(item))
        if (take_string(member, item, scratch, query, why) != 0)
            return -1;
    return 0;
}

static bool has_member(const struct json_value *object, struct str name)
{
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1))
        if (str_equal(json_str(key), name))
            return true;
    return false;
}

/* Either about one session or about the summary. */
static int check_whole(struct query *query, bool of_session, struct core_refusal *why)
{
    bool summary = query_has(query, QUERY_VIEW) && query->view == VIEW_SUMMARY;
    if (of_session && summary)
        return refuse(why, "view",
                      "a session is watched as full or compact; the summary is of "
                      "\"sessions\"");
    if (!of_session && !summary)
        return refuse(why, "session", "it must have \"session\", or \"view\": \"summary\"");
    if (query_has(query, QUERY_LABEL) && query_has(query, QUERY_SESSION))
        return refuse(why, "label", "\"sessions\" and \"label\" exclude each other");
    return 0;
}

int decode_watch(const struct decode_message *message, struct arena *scratch, struct query *query,
                 struct str *session, struct core_refusal *why)
{
    const struct json_value *object = message->watch != NULL ? message->watch : message->unwatch;
    const char *name = message->watch != NULL ? "watch" : "unwatch";

    *query = (struct query){0};
    *session = (struct str){0};
    if (object->type != JSON_OBJECT)
        return refuse(why, name, "it must be an object");
    bool of_session = has_member(object, STR("session"));
    unsigned scope = message->unwatch != NULL ? OF_UNWATCH : of_session ? OF_SESSION : OF_SUMMARY;
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1)) {
        const struct member *member = find_member(json_str(key), scope);
        if (member == NULL)
            return refuse_unknown(scope, why);
        if (take_member(member, key + 1, scratch, query, why) != 0)
            return -1;
    }
    if (check_whole(query, of_session, why) != 0)
        return -1;
    query_sort(query);
    if (of_session)
        *session = query->sessions[0];
    return 0;
}
