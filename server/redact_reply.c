/*
 * Answers, and questions that would be answered by what is hidden.
 */
#include "server/redact_internal.h"

#include "server/scan.h"

#include <stdio.h>

/* ---- summaries */

/* What a number counts: places of which none may be hidden, for else it would tell of them. */
static bool count_shown(const struct redaction *redaction, struct str name)
{
    const struct names all = {0};
    if (str_equal(name, STR("agents")))
        return !redact_hides(redaction, AGENT, &all);
    if (str_equal(name, STR("threads")))
        return !redact_hides(redaction, THREAD, &all);
    return !redact_hides(redaction, THREAD "/messages", &all) &&
           !redact_hides(redaction, THREAD "/older", &all);
}

static bool is_one_of(struct str name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (str_equal(name, (struct str){*names, strlen(*names)}))
            return true;
    return false;
}

void redact_summary(const struct redaction *redaction, struct str summary, struct buf *out)
{
    static const char *const envelope[] = {"id", "session", "epoch", "seq", "ts", "reason", NULL};
    static const char *const counts[] = {"agents", "threads", "messages", NULL};
    struct str key;
    buf_add_byte(out, '{');
    size_t begin = out->n;
    while ((key = redact_take_key(&summary)).p != NULL) {
        struct place at = {0};
        if (is_one_of(key, counts))
            at.hidden = !count_shown(redaction, key);
        else if (!is_one_of(key, envelope))
            at = redact_enter(redaction, redact_root(redaction), key, KEY_MEMBER);
        if (at.hidden) {
            redact_take(&summary);
            continue;
        }
        redact_add_key(out, begin, key);
        redact_add_value(redaction, at, &summary, out);
    }
    buf_add_byte(out, '}');
}

/* ---- replies */

/* What is to become of one member of a reply's object. */
typedef void add_member(const struct redaction *redaction, const struct request *request,
                        struct str value, struct buf *out);

/* Rewrites the object `in`, whose member `name` has what is hidden. */
static void add_with(const struct redaction *redaction, const struct request *request,
                     struct str in, struct str name, add_member *add, struct buf *out)
{
    struct str key;
    buf_add_byte(out, '{');
    size_t begin = out->n;
    while ((key = redact_take_key(&in)).p != NULL) {
        struct str value = redact_take(&in);
        redact_add_key(out, begin, key);
        if (str_equal(key, name))
            add(redaction, request, value, out);
        else
            buf_add_str(out, value);
    }
    buf_add_byte(out, '}');
}

static void add_events(const struct redaction *redaction, const struct request *request,
                       struct str events, struct buf *out)
{
    struct str event;
    (void)request;
    buf_add_byte(out, '[');
    size_t begin = out->n;
    while (scan_next(&events, NULL, &event)) {
        if (out->n != begin)
            buf_add_byte(out, ',');
        redact_event(redaction, event, out);
    }
    buf_add_byte(out, ']');
}

/* Messages of a page, or of an inbox: there each names its thread. */
static void add_messages(const struct redaction *redaction, const struct request *request,
                         struct str messages, struct buf *out)
{
    struct names names = {.thread = request->thread};
    struct str message;
    buf_add_byte(out, '[');
    size_t begin = out->n;
    while (scan_next(&messages, NULL, &message)) {
        if (out->n != begin)
            buf_add_byte(out, ',');
        if (request->kind == REQUEST_INBOX)
            names.thread = scan_id(scan_member(message, "thread"));
        redact_add_element(redaction, redact_place(redaction, MESSAGE, &names), &message, out);
    }
    buf_add_byte(out, ']');
}

/* One that is not hidden. */
static void add_thread(const struct redaction *redaction, const struct request *request,
                       struct str thread, struct buf *out)
{
    const struct names names = {.thread = request->thread};
    struct place at = redact_place(redaction, THREAD, &names);
    struct str key;
    buf_add_byte(out, '{');
    size_t begin = out->n;
    while ((key = redact_take_key(&thread)).p != NULL) {
        /* Its id is no member of the state: it is what was asked for. */
        bool is_id = str_equal(key, STR("id"));
        struct place inner =
            is_id ? (struct place){0} : redact_enter(redaction, at, key, KEY_MEMBER);
        if (inner.hidden) {
            redact_take(&thread);
            continue;
        }
        redact_add_key(out, begin, key);
        redact_add_value(redaction, inner, &thread, out);
    }
    buf_add_byte(out, '}');
}

static void add_ops(const struct redaction *redaction, struct str ops, struct buf *out)
{
    struct op_text op;
    size_t begin = out->n;
    while (patch_next_op(&ops, &op)) {
        size_t before = out->n;
        if (before != begin)
            buf_add_byte(out, ',');
        if (!redact_op(redaction, &op, out))
            out->n = before;
    }
}

static void add_patch_ops(const struct redaction *redaction, const struct request *request,
                          struct str ops, struct buf *out)
{
    (void)request;
    buf_add_byte(out, '[');
    add_ops(redaction, (struct str){ops.p + 1, ops.n - 2}, out);
    buf_add_byte(out, ']');
}

static void add_list(const struct redaction *redaction, struct str list, struct buf *out)
{
    while (list.n != 0) {
        redact_summary(redaction, redact_take(&list), out);
        if (list.n != 0) {
            redact_skip(&list, 1);
            buf_add_byte(out, ',');
        }
    }
}

static void add_changes(const struct redaction *redaction, struct request *request, struct buf *out)
{
    for (uint32_t i = 0; i < request->changes_n; i++) {
        struct request_change *change = &request->changes[i];
        struct str object = {request->body.p + change->offset, change->size};
        change->offset = out->n;
        redact_summary(redaction, object, out);
        change->size = out->n - change->offset;
    }
}

static void add_commands(const struct redaction *redaction, const struct request *request,
                         struct buf *out)
{
    struct str body = buf_str(&request->body);
    if (request->batch)
        buf_add_str(out, body); /* it has no events */
    else
        add_with(redaction, request, body, STR("events"), add_events, out);
}

/* False: how to show such a reply is not known. */
static bool add_reply(const struct redaction *redaction, struct request *request, struct buf *out)
{
    struct str body = buf_str(&request->body);
    switch (request->kind) {
    case REQUEST_COMMANDS:
        add_commands(redaction, request, out);
        return true;
    case REQUEST_VIEW:
    case REQUEST_FOLLOW:
        redact_envelope(redaction, body, out);
        return true;
    case REQUEST_THREAD:
        add_with(redaction, request, body, STR("thread"), add_thread, out);
        return true;
    case REQUEST_MESSAGES:
    case REQUEST_INBOX:
        add_with(redaction, request, body, STR("messages"), add_messages, out);
        return true;
    case REQUEST_EVENTS:
        add_with(redaction, request, body, STR("events"), add_events, out);
        return true;
    case REQUEST_DIFF:
        add_with(redaction, request, body, STR("ops"), add_patch_ops, out);
        return true;
    case REQUEST_LIST:
        add_list(redaction, body, out);
        return true;
    case REQUEST_CHANGES:
        add_changes(redaction, request, out);
        return true;
    case REQUEST_IMPORT: /* of what the viewer has sent itself */
    case REQUEST_STATUS: /* nothing of a state */
    case REQUEST_REBUILD:
        buf_add_str(out, body);
        return true;
    default:
        return false;
    }
}

/* A thread that is hidden as a whole is asked for. */
static bool asks_for_hidden(const struct redaction *redaction, const struct request *request)
{
    const struct names names = {.thread = request->thread};
    return (request->kind == REQUEST_THREAD || request->kind == REQUEST_MESSAGES) &&
           redact_hides(redaction, THREAD, &names);
}

/* As the shard says it of one that is not there. */
static void refuse_unknown_thread(struct request *request)
{
    request->body.n = 0;
    request->error = CORE_E_UNKNOWN_THREAD;
    request->refusal = (struct core_refusal){
        .code = CORE_E_UNKNOWN_THREAD, .field = "thread", .seq = request->seq};
    snprintf(request->refusal.detail, sizeof(request->refusal.detail),
             "there is no thread \"%.*s\" in this session", (int)request->thread.n,
             request->thread.p);
}

/* Our own fault: it should have been refused before it was sent. Better nothing than too much. */
static void refuse_unknown_kind(struct request *request)
{
    request->made = (struct str){0};
    request->error = CORE_E_INVARIANT;
    request->refusal = (struct core_refusal){
        .code = CORE_E_INVARIANT,
        .detail = "This answer cannot be shown to somebody from whom a part of it is hidden."};
}

void redact_reply(const struct redaction *redaction, struct request *request)
{
    struct buf out = {0};
    if (request->error == 0 && asks_for_hidden(redaction, request))
        refuse_unknown_thread(request);
    /* Beside an error there are at most the results of a batch, and those have no events. */
    if (request->error != 0 || request->body.n == 0)
        return;
    if (request->made.p != NULL) /* it may lie in the body */
        request->made = arena_copy(&request->arena, request->made);
    if (!add_reply(redaction, request, &out))
        refuse_unknown_kind(request);
    buf_free(&request->body);
    request->body = out;
}

/* ---- requests */

static const char *bars_labels(const struct redaction *redaction, const struct request *request)
{
    const char *barred = NULL;
    struct buf quoted = {0};
    for (uint32_t i = 0; i < request->labels_n && barred == NULL; i++) {
        quoted.n = 0;
        json_add_string(&quoted, request->labels[i].key);
        const struct names names = {.label = {quoted.p + 1, quoted.n - 2}};
        if (redact_hides(redaction, "labels/L", &names))
            barred = "label";
    }
    buf_free(&quoted);
    return barred;
}

static bool any_hidden(const struct redaction *redaction, const char *const *places,
                       const struct names *names)
{
    for (; *places != NULL; places++)
        if (redact_hides(redaction, *places, names))
            return true;
    return false;
}

static const char *bars_events(const struct redaction *redaction, const struct request *request)
{
    static const char *const of_agent[] = {
        AGENT, THREAD "/creator", PARTICIPANT, MESSAGE "/sender", MESSAGE "/mentions/-", NULL};
    static const char *const of_thread[] = {PARTICIPANT, MESSAGE, NULL};
    const struct names agent = {.agent = request->agent}, thread = {.thread = request->thread};
    if (request->agent.p != NULL && any_hidden(redaction, of_agent, &agent))
        return "agent";
    if (request->thread.p != NULL && any_hidden(redaction, of_thread, &thread))
        return "thread";
    return NULL;
}

static const char *bars_inbox(const struct redaction *redaction, const struct request *request)
{
    const struct names all = {0};
    if (request->inbox.from.p != NULL && redact_hides(redaction, MESSAGE "/sender", &all))
        return "from";
    if (request->inbox.mentions && redact_hides(redaction, MESSAGE "/mentions/-", &all))
        return "mentions";
    return NULL;
}

const char *redaction_bars(const struct redaction *redaction, const struct request *request)
{
    switch (request->kind) {
    case REQUEST_LIST:
    case REQUEST_CHANGES:
        return bars_labels(redaction, request);
    case REQUEST_EVENTS:
        return bars_events(redaction, request);
    case REQUEST_INBOX:
        return bars_inbox(redaction, request);
    default:
        return NULL;
    }
}
