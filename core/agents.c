/*
 * Agents: who takes part in the session, and how they are; for how long they are taken for present
 * (a lease), and whom to call when there is something for them (a target). Time and calls are the
 * shard's; here is what was agreed, and what came of it: an agent that was put offline by its lease
 * (it has lapsed), a target that is being spared (its breaker is open).
 *
 * Snapshot part: varint count, then for each agent in the order of registration: text id, nullable
 * description, nullable note, varint status, signed priority, labels; from version 3 on also varint
 * lease_s, bool lapsed, nullable url of its target, and where that is not null: nullable sealed,
 * nullable why, varint set_seq, varint realm, bool only_mentions, bool open.
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

/* ---- leases and targets */

static bool is_attended(const struct agent *a)
{
    return a->lease_s != 0 || a->lapsed || a->target != NULL;
}

/* Keeps the count: `before` is what is_attended said before the agent was changed. */
static void count_attended(struct core_session *s, const struct agent *a, bool before)
{
    bool now = is_attended(a);
    if (now != before)
        state_set(s, s->attended, now ? s->attended + 1 : s->attended - 1);
}

static size_t target_size(const struct target *t)
{
    return sizeof(*t) + t->url.n + t->sealed.n + t->why.n;
}

/* A copy takes the place of what was there; NULL: nothing does. */
static void set_target(struct core_session *s, struct agent *a, const struct target *given)
{
    struct target *old = a->target, *t = NULL;
    if (given != NULL) {
        t = state_alloc(s, target_size(given));
        *t = *given;
        char *at = (char *)(t + 1);
        t->url = text_pack(&at, given->url);
        t->sealed = text_pack(&at, given->sealed);
        t->why = text_pack(&at, given->why);
    }
    if (old != NULL)
        state_free(s, old, target_size(old));
    state_set(s, a->target, t);
}

uint32_t core_session_attended(const struct core_session *s)
{
    return s->attended;
}

/* Names this life, here: the seed is the data directory's own. Forks and imports of a session hold
 * its targets, too, but those who are called have agreed to that with the life that set them. */
static uint64_t realm_of(const struct core_session *s)
{
    struct core_chain chain = {{0}};
    uint64_t realm = 0;
    core_chain_add(&chain, s->limits->hash_seed, s->id); /* epochs differ in the lives of one id */
    core_chain_add(&chain, 0, s->epoch);
    memcpy(&realm, chain.bytes, 6);
    return realm;
}

static bool is_inherited(const struct core_session *s, const struct target *t)
{
    return t->realm != realm_of(s);
}

static void tell_attended(const struct core_session *s, const struct agent *a,
                          struct core_attended *out)
{
    *out = (struct core_attended){.agent = a->id,
                                  .lease_s = a->lease_s,
                                  .offline = a->status == AGENT_OFFLINE,
                                  .lapsed = a->lapsed};
    const struct target *t = a->target;
    if (t == NULL)
        return;
    out->url = t->url;
    out->sealed = t->sealed;
    out->only_mentions = t->only_mentions;
    out->open = t->open;
    out->set_seq = t->set_seq;
    out->inherited = is_inherited(s, t);
}

bool core_agent_attended(const struct core_session *s, struct str agent, struct core_attended *out)
{
    const struct agent *a = agent_find(s, agent);
    if (a != NULL)
        tell_attended(s, a, out);
    return a != NULL;
}

bool core_attended_next(const struct core_session *s, uint32_t *at, struct core_attended *out)
{
    const struct agent *a;
    while (s->attended != 0 && (a = table_next(&s->agents, at)) != NULL) {
        if (is_attended(a)) {
            tell_attended(s, a, out);
            return true;
        }
    }
    return false;
}

/* ---- decide */

/* False: refused. */
static bool lease_allowed(const struct deciding *d)
{
    uint64_t lease_s = d->command->f.lease_s;
    if (lease_s <= limit_of(d->s, CORE_LIMIT_LEASE_S))
        return true;
    refuse(d, CORE_E_MALFORMED, "lease_s", "A lease is of 1 to %u seconds, not of %llu.",
           limit_of(d->s, CORE_LIMIT_LEASE_S), (unsigned long long)lease_s);
    return false;
}

/* Most commands and events have none of these. */
#define LEASE_FIELDS (GIVEN(LEASE_S) | GIVEN(LAPSED))

static bool lease_changes(const struct agent *a, const struct core_fields *wish)
{
    return given(wish, CORE_FIELD_LEASE_S) && a->lease_s != wish->lease_s;
}

static enum core_decision decide_register(const struct deciding *d)
{
    const struct core_session *s = d->s;
    const struct core_fields *wish = &d->command->f;
    const struct agent *a = agent_find(s, wish->agent);
    if (!core_id_valid(wish->agent))
        return refuse(d, CORE_E_MALFORMED, "agent", "An agent's id must match " CORE_ID_RULE ".");
    if (!lease_allowed(d))
        return CORE_REFUSED;
    if (a == NULL && s->agents.live >= limit_of(s, CORE_LIMIT_AGENTS))
        return refuse(d, CORE_E_REFUSED, "agent", "The session has its %u agents already.",
                      s->agents.live);
    const struct core_labels none = {0};
    struct label_merge plan;
    labels_plan(a != NULL ? &a->labels : &none, &wish->labels, d->scratch, &plan);
    bool changed =
        a == NULL || plan.changed || lease_changes(a, wish) ||
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

/* An agent that says how it is does not lapse any more, even where it says that it is offline. */
static bool update_changes(const struct agent *a, const struct core_fields *wish)
{
    return (given(wish, CORE_FIELD_STATUS) && (a->status != wish->status || a->lapsed)) ||
           lease_changes(a, wish) ||
           (given(wish, CORE_FIELD_NOTE) && !str_equal(a->note, wish->note)) ||
           (given(wish, CORE_FIELD_DESCRIPTION) && !str_equal(a->description, wish->description)) ||
           (given(wish, CORE_FIELD_PRIORITY) && a->priority != wish->priority);
}

/* The lease has run out, or the agent is heard of again: the shard's own command, which gives
 * `lapsed` and nothing else. */
static enum core_decision decide_lapse(const struct deciding *d, const struct agent *a)
{
    bool lapses = d->command->f.lapsed;
    if (lapses ? a->lease_s == 0 || a->status == AGENT_OFFLINE : !a->lapsed)
        return CORE_NOTHING;
    struct core_fields *f = event_from_command(d);
    f->status = lapses ? AGENT_OFFLINE : AGENT_IDLE;
    f->given |= GIVEN(STATUS);
    return CORE_EVENT;
}

static enum core_decision decide_update(const struct deciding *d)
{
    const struct core_fields *wish = &d->command->f;
    const struct agent *a = agent_find(d->s, wish->agent);
    if (a == NULL)
        return refuse_unknown_agent(d, "agent", wish->agent);
    if ((wish->given & LEASE_FIELDS) != 0) {
        if (given(wish, CORE_FIELD_LAPSED))
            return decide_lapse(d, a);
        if (!lease_allowed(d))
            return CORE_REFUSED;
    }
    struct label_merge plan;
    labels_plan(&a->labels, &wish->labels, d->scratch, &plan);
    if (!plan.changed && !update_changes(a, wish))
        return CORE_NOTHING;
    if (plan.count > limit_of(d->s, CORE_LIMIT_LABELS))
        return refuse_too_many_labels(d, plan.count);
    struct core_fields *f = event_from_command(d);
    f->labels = plan.effect;
    if (a->lapsed && given(wish, CORE_FIELD_STATUS))
        f->given |= GIVEN(LAPSED); /* not any more */
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

static bool is_port(const char *p, const char *end)
{
    uint32_t port = 0;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9' || port > UINT16_MAX)
            return false;
        port = port * 10 + (uint32_t)(*p - '0');
    }
    return port <= UINT16_MAX;
}

/* Whether the text is "host" or "host:port", where a host with colons stands in brackets. */
static bool is_authority(const char *p, const char *end)
{
    const char *host_end = end;
    if (p < end && *p == '[') {
        const char *bracket = memchr(p, ']', (size_t)(end - p));
        if (bracket == NULL || bracket == p + 1)
            return false;
        host_end = bracket + 1;
    } else {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        host_end = colon != NULL ? colon : end;
    }
    if (host_end == p)
        return false;
    return host_end == end || (*host_end == ':' && is_port(host_end + 1, end));
}

/* What is wrong with a target's URL; NULL: nothing. What its host may be is for whoever calls it.
 */
static const char *url_fault(struct str url)
{
    const char *end = url.p + url.n, *p = url.p;
    if (url.n >= 7 && memcmp(p, "http://", 7) == 0)
        p += 7;
    else if (url.n >= 8 && memcmp(p, "https://", 8) == 0)
        p += 8;
    else
        return "it must begin with http:// or https://";
    for (const char *at = p; at < end; at++) {
        if (*at <= ' ' || *at >= 0x7f || *at == '\\')
            return "it must be of printable ASCII without blanks and backslashes (percent-encode "
                   "others)";
        if (*at == '#')
            return "it may have no fragment";
    }
    const char *authority_end = p;
    while (authority_end < end && *authority_end != '/' && *authority_end != '?')
        authority_end++;
    if (memchr(p, '@', (size_t)(authority_end - p)) != NULL)
        return "it may hold no user and password";
    return is_authority(p, authority_end) ? NULL : "its host or port is not one";
}

/* The same again changes nothing, but where the breaker is to be closed. */
static bool target_is(const struct core_session *s, const struct target *t,
                      const struct core_fields *wish)
{
    return str_equal(t->url, wish->url) && t->only_mentions == wish->only_mentions &&
           t->sealed.n == wish->sealed.n && str_compare(t->sealed, wish->sealed) == 0 && !t->open &&
           !is_inherited(s, t);
}

static enum core_decision decide_wake(const struct deciding *d)
{
    const struct core_fields *wish = &d->command->f;
    const struct agent *a = agent_find(d->s, wish->agent);
    if (wish->url.n > limit_of(d->s, CORE_LIMIT_URL_BYTES))
        return refuse(d, CORE_E_TOO_LARGE, "url", "A wake target's URL has at most %u bytes.",
                      limit_of(d->s, CORE_LIMIT_URL_BYTES));
    const char *fault = wish->url.p != NULL ? url_fault(wish->url) : NULL;
    if (fault != NULL)
        return refuse(d, CORE_E_MALFORMED, "url", "The URL is no wake target: %s.", fault);
    if (a == NULL)
        return refuse_unknown_agent(d, "agent", wish->agent);
    if (wish->url.p == NULL) {
        if (a->target == NULL)
            return CORE_NOTHING;
        struct core_fields *f = event_from_command(d);
        f->only_mentions = false;
        f->sealed = (struct str){0};
        f->given &= ~(GIVEN(ONLY_MENTIONS) | GIVEN(SEALED));
        return CORE_EVENT;
    }
    if (a->target != NULL && target_is(d->s, a->target, wish))
        return CORE_NOTHING;
    struct core_fields *f = event_from_command(d);
    f->realm = realm_of(d->s);
    f->given |= GIVEN(REALM);
    return CORE_EVENT;
}

static bool breaker_is(const struct core_fields *f, bool *open)
{
    *open = str_equal(f->breaker, STR("open"));
    return *open || str_equal(f->breaker, STR("closed"));
}

static enum core_decision decide_wake_report(const struct deciding *d)
{
    const struct core_fields *wish = &d->command->f;
    const struct agent *a = agent_find(d->s, wish->agent);
    bool open;
    if (!breaker_is(wish, &open))
        return refuse(d, CORE_E_MALFORMED, "breaker", "A breaker is \"open\" or \"closed\".");
    if (a == NULL || a->target == NULL || a->target->open == open)
        return CORE_NOTHING;
    const struct target *t = a->target; /* goes when the event is applied */
    struct core_fields *f = event_from_command(d);
    f->url = arena_copy(d->scratch, t->url); /* the rest of what its patch replaces */
    f->only_mentions = t->only_mentions;
    f->sealed = t->sealed.n != 0 ? arena_copy(d->scratch, t->sealed) : (struct str){0};
    f->given |= GIVEN(URL) | GIVEN(ONLY_MENTIONS) | GIVEN(SEALED);
    return CORE_EVENT;
}

static enum core_decision decide(const struct deciding *d)
{
    switch (d->command->type) {
    case CORE_AGENT_REGISTER:
        return decide_register(d);
    case CORE_AGENT_UPDATE:
        return decide_update(d);
    case CORE_AGENT_WAKE:
        return decide_wake(d);
    case CORE_AGENT_WAKE_REPORT:
        return decide_wake_report(d);
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
    if (a->target != NULL)
        state_free(s, a->target, target_size(a->target));
    state_free(s, a->part_of, a->part_of_cap * sizeof(struct participant *));
    state_free(s, a, sizeof(*a) + a->id.n);
}

static void assign_lease(struct core_session *s, struct agent *a, const struct core_fields *f)
{
    bool attended = is_attended(a);
    if (given(f, CORE_FIELD_LAPSED))
        state_set(s, a->lapsed, f->lapsed);
    if (given(f, CORE_FIELD_LEASE_S))
        state_set(s, a->lease_s, (uint32_t)f->lease_s);
    count_attended(s, a, attended);
}

static void assign(struct core_session *s, struct agent *a, const struct core_fields *f)
{
    if ((f->given & LEASE_FIELDS) != 0)
        assign_lease(s, a, f);
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
    if (is_attended(a))
        state_set(s, s->attended, s->attended - 1);
    agent_free(s, a);
    return 0;
}

static int apply_wake(struct core_session *s, struct agent *a, const struct core_event *event)
{
    const struct core_fields *f = &event->f;
    struct target target = {.url = f->url,
                            .sealed = f->sealed,
                            .set_seq = event->seq,
                            .realm = f->realm,
                            .only_mentions = f->only_mentions};
    bool attended = is_attended(a);
    set_target(s, a, f->url.p != NULL ? &target : NULL);
    count_attended(s, a, attended);
    return 0;
}

static int apply_wake_report(struct core_session *s, struct agent *a, const struct core_fields *f,
                             struct core_refusal *why)
{
    bool open;
    if (a->target == NULL || !breaker_is(f, &open) || !str_equal(a->target->url, f->url))
        return broken(why, "a breaker that is none");
    struct target target = *a->target;
    target.open = open;
    target.why = f->why;
    set_target(s, a, &target);
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
    if (event->type == CORE_AGENT_WAKE)
        return apply_wake(s, a, event);
    if (event->type == CORE_AGENT_WAKE_REPORT)
        return apply_wake_report(s, a, f, why);
    if (f->lease_s > UINT32_MAX)
        return broken(why, "the lease is too long");
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
    if (s->attended > s->agents.live)
        return broken(why, "the count of attended agents is wrong");
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

static void json_wake(struct buf *out, const struct target *t)
{
    if (t == NULL) {
        buf_add_literal(out, "null");
        return;
    }
    buf_add_literal(out, "{\"url\":");
    json_add_string(out, t->url);
    buf_add_literal(out, ",\"mentions\":");
    buf_add_str(out, t->only_mentions ? STR("true") : STR("false"));
    buf_add_literal(out, ",\"signed\":");
    buf_add_str(out, t->sealed.n != 0 ? STR("true") : STR("false"));
    buf_add_literal(out, ",\"breaker\":");
    buf_add_str(out, t->open ? STR("\"open\"") : STR("\"closed\""));
    buf_add_literal(out, ",\"why\":");
    json_add_string(out, t->why);
    buf_add_byte(out, '}');
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
    buf_add_literal(out, ",\"lease_s\":");
    json_add_number(out, a->lease_s, true);
    buf_add_literal(out, ",\"wake\":");
    json_wake(out, a->target);
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
    if (given(f, CORE_FIELD_LEASE_S)) {
        patch_member(out, f->agent, STR("lease_s"));
        json_add_number(out, f->lease_s, true);
        patch_end(out);
    }
}

/* As a whole: a value that is replaced has no inside to others (server/compose.c). */
static void patch_wake(struct buf *out, struct str agent, const struct target *t)
{
    patch_member(out, agent, STR("wake"));
    json_wake(out, t);
    patch_end(out);
}

static void patch(const struct core_event *event, struct buf *out)
{
    const struct core_fields *f = &event->f;
    if (event->type == CORE_AGENT_LEAVE) {
        patch_leave(event, out);
    } else if (event->type == CORE_AGENT_REGISTER && f->fresh) {
        patch_path(out, "add", f->agent);
        patch_value(out);
        agent_json(out, &(struct agent){.description = f->description,
                                        .labels = f->labels,
                                        .lease_s = (uint32_t)f->lease_s});
        patch_end(out);
    } else if (event->type == CORE_AGENT_WAKE || event->type == CORE_AGENT_WAKE_REPORT) {
        struct target target = {
            .url = f->url, .sealed = f->sealed, .why = f->why, .only_mentions = f->only_mentions};
        breaker_is(f, &target.open);
        patch_wake(out, f->agent, f->url.p != NULL ? &target : NULL);
    } else {
        patch_fields(f, out);
    }
}

/* Whether two targets are the same in a view. */
static bool target_looks(const struct target *a, const struct target *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return str_equal(a->url, b->url) && a->only_mentions == b->only_mentions &&
           (a->sealed.n != 0) == (b->sealed.n != 0) && a->open == b->open &&
           str_equal(a->why, b->why);
}

/* The same operations as of the agent.update that would do it. */
static void diff_agent(const struct diffing *d, const struct agent *from, const struct agent *to)
{
    struct core_fields f = {.agent = to->id,
                            .description = to->description,
                            .note = to->note,
                            .status = to->status,
                            .priority = to->priority,
                            .lease_s = to->lease_s,
                            .labels = labels_diff(&from->labels, &to->labels, d->scratch)};
    if (from->status != to->status)
        f.given |= GIVEN(STATUS);
    if (!str_equal(from->note, to->note))
        f.given |= GIVEN(NOTE);
    if (!str_equal(from->description, to->description))
        f.given |= GIVEN(DESCRIPTION);
    if (from->priority != to->priority)
        f.given |= GIVEN(PRIORITY);
    if (from->lease_s != to->lease_s)
        f.given |= GIVEN(LEASE_S);
    patch_fields(&f, d->out);
    if (!target_looks(from->target, to->target))
        patch_wake(d->out, to->id, to->target);
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

static void encode_attended(const struct agent *a, struct buf *out)
{
    const struct target *t = a->target;
    put_varint(out, a->lease_s);
    put_varint(out, a->lapsed);
    put_nullable_text(out, t != NULL ? t->url : (struct str){0});
    if (t == NULL)
        return;
    put_nullable_text(out, t->sealed);
    put_nullable_text(out, t->why);
    put_varint(out, t->set_seq);
    put_varint(out, t->realm);
    put_varint(out, t->only_mentions);
    put_varint(out, t->open);
}

static void decode_attended(struct core_session *s, struct agent *a, struct reader *in)
{
    a->lease_s = get_u32(in);
    a->lapsed = get_bool(in);
    struct target target = {.url = get_nullable_text(in)};
    if (target.url.p != NULL) {
        target.sealed = get_nullable_text(in);
        target.why = get_nullable_text(in);
        target.set_seq = get_seq(in);
        target.realm = get_seq(in);
        target.only_mentions = get_bool(in);
        target.open = get_bool(in);
        if (!in->failed)
            set_target(s, a, &target);
    }
    s->attended += is_attended(a);
}

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
        if (s->attended != 0)
            encode_attended(a, out);
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
        if (in->version > 2)
            decode_attended(s, a, in);
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
