/*
 * Agents: who takes part in the session, and how they are.
 *
 * Snapshot part: varint count, then for each agent in the order of registration: text id, nullable
 * description, nullable note, varint status, signed priority, labels.
 */
#include "core/internal.h"

#include <stdlib.h>

enum { PART_OF_FIRST_CAP = 4 };

struct agent *agent_find(const struct core_session *s, struct str id)
{
    return table_find_id(s, &s->agents, id);
}

/* ---- participations of an agent, kept by threads.c through these two */

void agent_joins(struct core_session *s, struct participant *p)
{
    struct agent *a = p->agent;
    if (a->part_of_n == a->part_of_cap) {
        uint32_t cap = a->part_of_cap == 0 ? PART_OF_FIRST_CAP : a->part_of_cap * 2;
        struct participant **grown = state_alloc(s, cap * sizeof(struct participant *));
        if (a->part_of_n != 0)
            memcpy(grown, a->part_of, a->part_of_n * sizeof(struct participant *));
        state_free(s, a->part_of, a->part_of_cap * sizeof(struct participant *));
        state_set(s, a->part_of, grown);
        state_set(s, a->part_of_cap, cap);
    }
    state_set(s, p->at, a->part_of_n);
    state_set(s, a->part_of[a->part_of_n], p);
    state_set(s, a->part_of_n, a->part_of_n + 1);
}

void agent_parts(struct core_session *s, struct participant *p)
{
    struct agent *a = p->agent;
    assert(p->at < a->part_of_n && a->part_of[p->at] == p);
    struct participant *last = a->part_of[a->part_of_n - 1];
    state_set(s, a->part_of[p->at], last);
    state_set(s, last->at, p->at);
    state_set(s, a->part_of_n, a->part_of_n - 1);
}

static int thread_order(const void *a, const void *b)
{
    const struct participant *const *left = a;
    const struct participant *const *right = b;
    uint64_t left_seq = (*left)->thread->created_seq;
    uint64_t right_seq = (*right)->thread->created_seq;
    return left_seq < right_seq ? -1 : left_seq > right_seq;
}

/* The agent's participations, the oldest thread first. */
static struct participant **participations_sorted(const struct agent *a, struct arena *scratch)
{
    size_t size = a->part_of_n * sizeof(struct participant *);
    struct participant **sorted = arena_alloc(scratch, size);
    if (a->part_of_n != 0) {
        memcpy(sorted, a->part_of, size);
        qsort(sorted, a->part_of_n, sizeof(struct participant *), thread_order);
    }
    return sorted;
}

/* ---- decide */

static enum core_decision decide_register(const struct deciding *d)
{
    const struct core_session *s = d->s;
    const struct core_fields *wish = &d->command->f;
    const struct agent *a = agent_find(s, wish->agent);
    if (!core_id_valid(wish->agent))
        return refuse(d, CORE_E_MALFORMED, "agent", "An agent's id must match " CORE_ID_RULE ".");
    if (a == NULL && s->agents.live >= limit_of(s, CORE_LIMIT_AGENTS))
        return refuse(d, CORE_E_REFUSED, "agent", "The session has its %u agents already.",
                      s->agents.live);
    const struct core_labels none = {0};
    struct label_merge plan;
    labels_plan(a != NULL ? &a->labels : &none, &wish->labels, d->scratch, &plan);
    bool changed =
        a == NULL || plan.changed ||
        (given(wish, CORE_FIELD_DESCRIPTION) && !str_equal(a->description, wish->description));
    if (!changed)
        return CORE_NOTHING;
    if (plan.count > limit_of(s, CORE_LIMIT_LABELS))
        return refuse_too_many_labels(d, plan.count);
    struct core_fields *f = event_from_command(d);
    f->labels = plan.effect;
    if (a == NULL) {
        f->fresh = true;
        f->given |= GIVEN(FRESH);
    }
    return CORE_EVENT;
}

static bool update_changes(const struct agent *a, const struct core_fields *wish)
{
    return (given(wish, CORE_FIELD_STATUS) && a->status != wish->status) ||
           (given(wish, CORE_FIELD_NOTE) && !str_equal(a->note, wish->note)) ||
           (given(wish, CORE_FIELD_DESCRIPTION) && !str_equal(a->description, wish->description)) ||
           (given(wish, CORE_FIELD_PRIORITY) && a->priority != wish->priority);
}

static enum core_decision decide_update(const struct deciding *d)
{
    const struct core_fields *wish = &d->command->f;
    const struct agent *a = agent_find(d->s, wish->agent);
    if (a == NULL)
        return refuse_unknown_agent(d, "agent", wish->agent);
    struct label_merge plan;
    labels_plan(&a->labels, &wish->labels, d->scratch, &plan);
    if (!plan.changed && !update_changes(a, wish))
        return CORE_NOTHING;
    if (plan.count > limit_of(d->s, CORE_LIMIT_LABELS))
        return refuse_too_many_labels(d, plan.count);
    event_from_command(d)->labels = plan.effect;
    return CORE_EVENT;
}

static enum core_decision decide_leave(const struct deciding *d)
{
    const struct agent *a = agent_find(d->s, d->command->f.agent);
    if (a == NULL)
        return refuse_unknown_agent(d, "agent", d->command->f.agent);
    struct participant **sorted = participations_sorted(a, d->scratch);
    struct core_fields *f = event_from_command(d);
    f->given |= GIVEN(THREADS);
    f->threads.n = a->part_of_n;
    f->threads.items = arena_alloc(d->scratch, a->part_of_n * sizeof(struct str));
    for (uint32_t i = 0; i < a->part_of_n; i++)
        f->threads.items[i] = sorted[i]->thread->id;
    return CORE_EVENT;
}

static enum core_decision decide(const struct deciding *d)
{
    switch (d->command->type) {
    case CORE_AGENT_REGISTER:
        return decide_register(d);
    case CORE_AGENT_UPDATE:
        return decide_update(d);
    default:
        assert(d->command->type == CORE_AGENT_LEAVE);
        return decide_leave(d);
    }
}

/* ---- apply */

static struct agent *agent_new(struct core_session *s, struct str id)
{
    struct agent *a = state_alloc(s, sizeof(*a) + id.n);
    *a = (struct agent){.hash = table_hash(s, id), .id = {(char *)(a + 1), id.n}};
    memcpy(a + 1, id.p, id.n);
    table_add(s, &s->agents, a->hash, a);
    return a;
}

static void agent_free(struct core_session *s, struct agent *a)
{
    state_free_text(s, a->description);
    state_free_text(s, a->note);
    labels_free(s, &a->labels);
    state_free(s, a->part_of, a->part_of_cap * sizeof(struct participant *));
    state_free(s, a, sizeof(*a) + a->id.n);
}

static void assign(struct core_session *s, struct agent *a, const struct core_fields *f)
{
    if (given(f, CORE_FIELD_STATUS))
        state_set(s, a->status, f->status);
    if (given(f, CORE_FIELD_NOTE))
        state_set_text(s, &a->note, f->note);
    if (given(f, CORE_FIELD_DESCRIPTION))
        state_set_text(s, &a->description, f->description);
    if (given(f, CORE_FIELD_PRIORITY))
        state_set(s, a->priority, f->priority);
    labels_apply(s, &a->labels, &f->labels);
}

static int apply_left(struct core_session *s, struct agent *a, const struct core_fields *f,
                      struct core_refusal *why)
{
    for (uint32_t i = 0; i < f->threads.n; i++) {
        const struct thread *t = thread_find(s, f->threads.items[i]);
        struct participant *p = participant_find(t, a);
        if (p == NULL)
            return broken(why, "the agent leaves a thread that it takes no part in");
        thread_part(s, p);
    }
    if (a->part_of_n != 0)
        return broken(why, "the agent leaves but takes part in a thread not named");
    table_remove(s, &s->agents, table_slot(&s->agents, a->hash, a->id));
    agent_free(s, a);
    return 0;
}

static int apply(struct core_session *s, const struct core_event *event, struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    struct agent *a = agent_find(s, f->agent);
    bool fresh = event->type == CORE_AGENT_REGISTER && f->fresh;
    if (fresh != (a == NULL))
        return broken(why, fresh ? "the agent is there already" : "there is no such agent");
    if (fresh && !core_id_valid(f->agent))
        return broken(why, "the agent's id is not an id");
    if (event->type == CORE_AGENT_LEAVE)
        return apply_left(s, a, f, why);
    if (fresh)
        a = agent_new(s, f->agent);
    assign(s, a, f);
    return 0;
}

static int check(const struct core_session *s, const struct core_event *event,
                 struct core_refusal *why)
{
    const struct agent *a = agent_find(s, event->f.agent);
    if ((a == NULL) != (event->type == CORE_AGENT_LEAVE))
        return broken(why, "the agent is not where its event leaves it");
    if (s->agents.live > s->agents.used || s->agents.used > s->agents.cap)
        return broken(why, "the count of agents is wrong");
    return 0;
}

/* ---- patch, diff and view */

static void patch_path(struct buf *out, const char *op, struct str agent)
{
    patch_begin(out, op);
    buf_add_literal(out, "/agents/");
    buf_add_str(out, agent);
}

/* As far as the value that replaces a member of the agent. */
static void patch_member(struct buf *out, struct str agent, struct str member)
{
    patch_path(out, "replace", agent);
    buf_add_byte(out, '/');
    buf_add_str(out, member);
    patch_value(out);
}

static void json_status(struct buf *out, enum core_agent_status status)
{
    const char *name = core_status_name(status);
    json_add_id(out, (struct str){name, strlen(name)});
}

static void agent_json(struct buf *out, const struct agent *a)
{
    buf_add_literal(out, "{\"description\":");
    json_add_string(out, a->description);
    buf_add_literal(out, ",\"status\":");
    json_status(out, a->status);
    buf_add_literal(out, ",\"note\":");
    json_add_string(out, a->note);
    buf_add_literal(out, ",\"priority\":");
    buf_add_i64(out, a->priority);
    buf_add_literal(out, ",\"labels\":");
    json_add_labels(out, &a->labels);
    buf_add_byte(out, '}');
}

static void patch_leave(const struct core_event *event, struct buf *out)
{
    const struct core_fields *f = &event->f;
    for (uint32_t i = 0; i < f->threads.n; i++) {
        patch_begin(out, "remove");
        buf_add_literal(out, "/threads/");
        buf_add_str(out, f->threads.items[i]);
        buf_add_literal(out, "/participants/");
        buf_add_str(out, f->agent);
        patch_end_path(out);
    }
    patch_path(out, "remove", f->agent);
    patch_end_path(out);
}

static void patch_fields(const struct core_fields *f, struct buf *out)
{
    if (given(f, CORE_FIELD_STATUS)) {
        patch_member(out, f->agent, STR("status"));
        json_status(out, f->status);
        patch_end(out);
    }
    if (given(f, CORE_FIELD_NOTE)) {
        patch_member(out, f->agent, STR("note"));
        json_add_string(out, f->note);
        patch_end(out);
    }
    if (given(f, CORE_FIELD_DESCRIPTION)) {
        patch_member(out, f->agent, STR("description"));
        json_add_string(out, f->description);
        patch_end(out);
    }
    if (given(f, CORE_FIELD_PRIORITY)) {
        patch_member(out, f->agent, STR("priority"));
        buf_add_i64(out, f->priority);
        patch_end(out);
    }
    patch_labels(out, STR("/agents/"), f->agent, &f->labels);
}

static void patch(const struct core_event *event, struct buf *out)
{
    const struct core_fields *f = &event->f;
    if (event->type == CORE_AGENT_LEAVE) {
        patch_leave(event, out);
    } else if (event->type == CORE_AGENT_REGISTER && f->fresh) {
        patch_path(out, "add", f->agent);
        patch_value(out);
        agent_json(out, &(struct agent){.description = f->description, .labels = f->labels});
        patch_end(out);
    } else {
        patch_fields(f, out);
    }
}

/* The same operations as of the agent.update that would do it. */
static void diff_agent(const struct diffing *d, const struct agent *from, const struct agent *to)
{
    struct core_fields f = {.agent = to->id,
                            .description = to->description,
                            .note = to->note,
                            .status = to->status,
                            .priority = to->priority,
                            .labels = labels_diff(&from->labels, &to->labels, d->scratch)};
    if (from->status != to->status)
        f.given |= GIVEN(STATUS);
    if (!str_equal(from->note, to->note))
        f.given |= GIVEN(NOTE);
    if (!str_equal(from->description, to->description))
        f.given |= GIVEN(DESCRIPTION);
    if (from->priority != to->priority)
        f.given |= GIVEN(PRIORITY);
    patch_fields(&f, d->out);
}

static void diff(const struct diffing *d)
{
    const struct agent *a;
    for (uint32_t at = 0; (a = table_next(&d->from->agents, &at)) != NULL;) {
        if (agent_find(d->to, a->id) == NULL) {
            patch_path(d->out, "remove", a->id);
            patch_end_path(d->out);
        }
    }
    for (uint32_t at = 0; (a = table_next(&d->to->agents, &at)) != NULL;) {
        const struct agent *old = agent_find(d->from, a->id);
        if (old != NULL) {
            diff_agent(d, old, a);
            continue;
        }
        patch_path(d->out, "add", a->id);
        patch_value(d->out);
        agent_json(d->out, a);
        patch_end(d->out);
    }
}

static void view(const struct viewing *v)
{
    struct buf *out = v->out;
    buf_add_literal(out, ",\"agents\":{");
    const struct agent *a;
    for (uint32_t at = 0; (a = table_next(&v->s->agents, &at)) != NULL;) {
        if (!parts_show(v->parts, STR("agents"), a->id))
            continue;
        json_add_member_id(out, a->id);
        agent_json(out, a);
    }
    buf_add_byte(out, '}');
}

/* ---- bytes */

static void encode(const struct core_session *s, struct buf *out)
{
    put_varint(out, s->agents.live);
    const struct agent *a;
    for (uint32_t at = 0; (a = table_next(&s->agents, &at)) != NULL;) {
        put_text(out, a->id);
        put_nullable_text(out, a->description);
        put_nullable_text(out, a->note);
        put_varint(out, a->status);
        put_signed(out, a->priority);
        put_labels(out, &a->labels);
    }
}

static void decode(struct core_session *s, struct reader *in, struct arena *scratch)
{
    for (uint32_t left = get_count(in); left != 0 && !in->failed; left--) {
        struct str id = get_id(in);
        if (in->failed || agent_find(s, id) != NULL) {
            in->failed = true;
            return;
        }
        struct agent *a = agent_new(s, id);
        state_set_text(s, &a->description, get_nullable_text(in));
        state_set_text(s, &a->note, get_nullable_text(in));
        a->status = get_status(in);
        a->priority = get_signed(in);
        struct core_labels labels = get_labels(in, scratch);
        labels_apply(s, &a->labels, &labels);
        in->failed |= a->labels.n != labels.n;
    }
}

static void release(struct core_session *s)
{
    struct agent *a;
    for (uint32_t at = 0; (a = table_next(&s->agents, &at)) != NULL;)
        agent_free(s, a);
    table_free(s, &s->agents);
}

const struct slice agents_slice = {
    .name = "agents",
    .decide = decide,
    .apply = apply,
    .check = check,
    .patch = patch,
    .diff = diff,
    .view = view,
    .encode = encode,
    .decode = decode,
    .release = release,
};
