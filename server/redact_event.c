/*
 * Events and their patches: which field of an event is told, and who acted.
 */
#include "server/redact_internal.h"

#include "server/scan.h"

/*
 * What the letters of a place stand for: A and T the fields `agent` and `thread`, B who acts, E an
 * element of the field, where each lies at a place of its own, - any position, * what only `*`
 * hides: nothing that there is, but hidden where all is. Who acts in a thread and sets nothing of
 * his own is told where the thread's participants tell of him.
 */

struct field_rule {
    const char *name, *place;
};

enum { RULE_FIELDS_MAX = 8 };

struct event_rule {
    const char *thing; /* what the event is about */
    const char *actor; /* hidden with the thing, and with this place; NULL: with the thing alone */
    struct field_rule fields[RULE_FIELDS_MAX];
};

/* `trace` and `cause` are hidden with the thing, and so is what sets nothing. */
static const struct event_rule rules[CORE_TYPE_COUNT] = {
    [CORE_SESSION_CREATE] = {"*", NULL, {{"session", "id"}, {"labels", "labels"}, {"ttl_s", "*"}}},
    [CORE_SESSION_UPDATE] = {"*", NULL, {{"labels", "labels"}}},
    [CORE_SESSION_CLOSE] = {"*", NULL, {{"summary", "summary"}}},
    [CORE_SESSION_FORK] = {"*",
                           NULL,
                           {{"session", "id"},
                            {"parent", "parent/session"},
                            {"parent_epoch", "parent/epoch"},
                            {"parent_seq", "parent/seq"}}},
    [CORE_AGENT_REGISTER] = {AGENT,
                             NULL,
                             {{"agent", AGENT},
                              {"description", AGENT "/description"},
                              {"labels", AGENT "/labels"},
                              {"lease_s", AGENT "/lease_s"}}},
    [CORE_AGENT_UPDATE] = {AGENT,
                           NULL,
                           {{"agent", AGENT},
                            {"status", AGENT "/status"},
                            {"note", AGENT "/note"},
                            {"description", AGENT "/description"},
                            {"priority", AGENT "/priority"},
                            {"labels", AGENT "/labels"},
                            {"lease_s", AGENT "/lease_s"}}},
    [CORE_AGENT_LEAVE] = {AGENT, NULL, {{"agent", AGENT}, {"threads", "threads/E/participants/A"}}},
    [CORE_THREAD_CREATE] = {THREAD,
                            THREAD "/creator",
                            {{"thread", THREAD},
                             {"creator", THREAD "/creator"},
                             {"name", THREAD "/name"},
                             {"participants", "threads/T/participants/E"}}},
    [CORE_THREAD_ADD] = {PARTICIPANT,
                         DOER,
                         {{"thread", PARTICIPANT},
                          {"agent", PARTICIPANT},
                          {"by", DOER},
                          {"history", PARTICIPANT "/read"},
                          {"read", PARTICIPANT "/read"}}},
    [CORE_THREAD_REMOVE] = {PARTICIPANT,
                            DOER,
                            {{"thread", PARTICIPANT}, {"agent", PARTICIPANT}, {"by", DOER}}},
    [CORE_THREAD_CLOSE] = {THREAD,
                           DOER,
                           {{"thread", THREAD}, {"by", DOER}, {"summary", THREAD "/summary"}}},
    [CORE_MESSAGE_SEND] = {MESSAGE,
                           MESSAGE "/sender",
                           {{"id", MESSAGE "/id"},
                            {"thread", MESSAGE},
                            {"sender", MESSAGE "/sender"},
                            {"content", MESSAGE "/content"},
                            {"mentions", MESSAGE "/mentions"},
                            {"reply_to", MESSAGE "/reply_to"},
                            {"data", MESSAGE "/data"}}},
    [CORE_THREAD_READ] = {PARTICIPANT,
                          NULL,
                          {{"thread", PARTICIPANT},
                           {"agent", PARTICIPANT},
                           {"upto", PARTICIPANT "/read"},
                           {"read", PARTICIPANT "/read"},
                           {"taken", PARTICIPANT "/taken"}}},
    [CORE_INBOX_ACK] = {AGENT, NULL, {{"agent", AGENT}, {"threads", "threads/E/participants/A"}}},
    [CORE_AGENT_WAKE] = {AGENT,
                         NULL,
                         {{"agent", AGENT},
                          {"url", AGENT "/wake/url"},
                          {"mentions", AGENT "/wake/mentions"}}},
    [CORE_AGENT_WAKE_REPORT] = {AGENT,
                                NULL,
                                {{"agent", AGENT},
                                 {"breaker", AGENT "/wake/breaker"},
                                 {"why", AGENT "/wake/why"}}},
};

static const struct event_rule *rule_of(enum core_type type)
{
    assert(type != CORE_TYPE_NONE && rules[type].thing != NULL);
    return &rules[type];
}

/* NULL: a field that nothing is known of. */
static const char *place_of_field(const struct event_rule *rule, struct str name)
{
    if (str_equal(name, STR("trace")) || str_equal(name, STR("cause")))
        return rule->thing;
    for (int i = 0; i < RULE_FIELDS_MAX && rule->fields[i].name != NULL; i++)
        if (str_equal(name, (struct str){rule->fields[i].name, strlen(rule->fields[i].name)}))
            return rule->fields[i].place;
    return NULL;
}

static bool is_each(const char *place)
{
    return strchr(place, 'E') != NULL;
}

/* An id, or an object that names one. */
static struct str element_name(struct str element)
{
    return scan_id(element.p[0] == '{' ? scan_member(element, "thread") : element);
}

static bool all_hidden(const struct redaction *redaction, const char *place, struct names names,
                       struct str elements)
{
    struct str element;
    while (scan_next(&elements, NULL, &element)) {
        names.element = element_name(element);
        if (!redact_hides(redaction, place, &names))
            return false;
    }
    return true;
}

static void add_each(const struct redaction *redaction, const char *place, struct names names,
                     struct str elements, struct buf *out)
{
    struct str element;
    buf_add_byte(out, '[');
    size_t begin = out->n;
    while (scan_next(&elements, NULL, &element)) {
        if (out->n != begin)
            buf_add_byte(out, ',');
        names.element = element_name(element);
        redact_add_element(redaction, redact_place(redaction, place, &names), &element, out);
    }
    buf_add_byte(out, ']');
}

/* An acknowledgement is about the threads in which something was acknowledged. */
static bool thing_hidden(const struct redaction *redaction, enum core_type type,
                         const struct names *names, struct str event)
{
    const struct event_rule *rule = rule_of(type);
    if (redact_hides(redaction, rule->thing, names))
        return true;
    return type == CORE_INBOX_ACK && all_hidden(redaction, place_of_field(rule, STR("threads")),
                                                *names, scan_member(event, "threads"));
}

static void add_actor(const struct redaction *redaction, const struct event_rule *rule,
                      const struct names *names, struct str actor, struct buf *out)
{
    bool hidden = redact_hides(redaction, rule->actor != NULL ? rule->actor : rule->thing, names);
    buf_add_str(out, hidden ? STR("null") : actor);
}

/* One of the members that every event begins with; false: it is another one. */
static bool is_head(struct str name)
{
    return str_equal(name, STR("seq")) || str_equal(name, STR("ts")) ||
           str_equal(name, STR("type"));
}

static void add_field(const struct redaction *redaction, const char *place,
                      const struct names *names, struct str key, struct str value, size_t begin,
                      struct buf *out)
{
    bool each = is_each(place);
    struct place at = redact_place(redaction, place, names);
    if (at.hidden && !each)
        return;
    redact_add_key(out, begin, key);
    if (each)
        add_each(redaction, place, *names, value, out);
    else
        redact_add_value(redaction, at, &value, out);
}

void redact_event(const struct redaction *redaction, struct str event, struct buf *out)
{
    enum core_type type = core_type_of_event(scan_id(scan_member(event, "type")));
    const struct event_rule *rule = rule_of(type);
    struct names names = {.agent = scan_id(scan_member(event, "agent")),
                          .by = scan_id(scan_member(event, "actor")),
                          .thread = scan_id(scan_member(event, "thread"))};
    bool hidden = thing_hidden(redaction, type, &names, event);
    struct str key, value;
    buf_add_byte(out, '{');
    size_t begin = out->n;
    while (scan_next(&event, &key, &value)) {
        const char *place = place_of_field(rule, key);
        if (is_head(key)) {
            redact_add_key(out, begin, key);
            buf_add_str(out, value);
        } else if (str_equal(key, STR("actor"))) {
            redact_add_key(out, begin, key);
            if (hidden)
                buf_add_literal(out, "null");
            else
                add_actor(redaction, rule, &names, value, out);
        } else if (!hidden && place != NULL) {
            add_field(redaction, place, &names, key, value, begin, out);
        }
    }
    buf_add_byte(out, '}');
}

/* ---- patches */

static bool any_shown(const struct redaction *redaction, struct str ops)
{
    struct op_text op;
    struct place at;
    bool element;
    while (patch_next_op(&ops, &op))
        if (redact_find_op(redaction, op.path, &at, &element))
            return true;
    return false;
}

/* Whom and what the event is about, as its patch says: core's events name both by their paths. */
static struct names names_of_patch(enum core_type type, struct str actor, struct str ops)
{
    struct names names = {.agent = actor, .by = actor};
    struct op_text op;
    if (!patch_next_op(&ops, &op) || !str_equal(redact_take_segment(&op.path), STR("threads")))
        return names;
    names.thread = redact_take_segment(&op.path);
    bool of_another = type == CORE_THREAD_ADD || type == CORE_THREAD_REMOVE;
    if (of_another && str_equal(redact_take_segment(&op.path), STR("participants")))
        names.agent = redact_take_segment(&op.path);
    return names;
}

void redact_patch_head(const struct redaction *redaction, const struct patch_text *patch,
                       struct buf *out)
{
    struct str head = patch->head, key, value, type_name = {0}, actor = {0};
    while (scan_next(&head, &key, &value)) {
        if (str_equal(key, STR("type")))
            type_name = scan_id(value);
        else if (str_equal(key, STR("actor")))
            actor = value;
    }
    enum core_type type = core_type_of_event(type_name);
    const struct event_rule *rule = rule_of(type);
    struct names names = names_of_patch(type, scan_id(actor), patch->ops);
    buf_add(out, patch->head.p, (size_t)(actor.p - patch->head.p));
    bool hidden = redact_hides(redaction, rule->thing, &names) ||
                  (type == CORE_INBOX_ACK && !any_shown(redaction, patch->ops));
    if (hidden)
        buf_add_literal(out, "null");
    else
        add_actor(redaction, rule, &names, actor, out);
}
