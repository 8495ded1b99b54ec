/*
 * The session itself: its labels, summary, status, life span and the size of its windows.
 *
 * Snapshot part: varint seq, varint ts_ms, varint created_ms, varint ttl_s, varint creation,
 * varint window_messages, varint window_bytes, bool closed, nullable summary, labels.
 */
#include "core/internal.h"

/* What session.create gave, so that the same again can be told from something else. */
static uint64_t creation_hash(const struct core_labels *labels, uint64_t ttl_s)
{
    struct buf bytes = {0};
    put_varint(&bytes, ttl_s);
    put_labels(&bytes, labels);
    uint64_t hash = hash_stable(buf_str(&bytes));
    buf_free(&bytes);
    return hash;
}

static enum core_decision decide_create(const struct deciding *d)
{
    const struct core_session *s = d->s;
    const struct core_fields *wish = &d->command->f;
    if (given(wish, CORE_FIELD_SESSION) && !str_equal(wish->session, s->id))
        return refuse(d, CORE_E_MALFORMED, "session",
                      "The session's id is \"%.*s\": another one cannot be given.",
                      ID_PRINTF(s->id));
    struct label_merge plan;
    labels_plan(&(struct core_labels){0}, &wish->labels, d->scratch, &plan);
    if (plan.count > limit_of(s, CORE_LIMIT_LABELS))
        return refuse_too_many_labels(d, plan.count);
    if (s->now.seq != 0) {
        if (creation_hash(&plan.effect, wish->ttl_s) == s->creation)
            return CORE_NOTHING;
        return refuse(d, CORE_E_REFUSED, "session",
                      "The session \"%.*s\" exists and was created with other fields.",
                      ID_PRINTF(s->id));
    }
    struct core_fields *f = event_from_command(d);
    f->given |= GIVEN(SESSION) | GIVEN(WINDOW_MESSAGES) | GIVEN(WINDOW_BYTES);
    f->session = s->id;
    f->labels = plan.effect;
    f->window_messages = limit_of(s, CORE_LIMIT_WINDOW_MESSAGES);
    if (f->window_messages == 0)
        f->window_messages = 1; /* the newest message always stays */
    f->window_bytes = limit_of(s, CORE_LIMIT_WINDOW_BYTES);
    return CORE_EVENT;
}

static enum core_decision decide_update(const struct deciding *d)
{
    struct label_merge plan;
    labels_plan(&d->s->labels, &d->command->f.labels, d->scratch, &plan);
    if (!plan.changed)
        return CORE_NOTHING;
    if (plan.count > limit_of(d->s, CORE_LIMIT_LABELS))
        return refuse_too_many_labels(d, plan.count);
    event_from_command(d)->labels = plan.effect;
    return CORE_EVENT;
}

static enum core_decision decide_close(const struct deciding *d)
{
    if (!d->s->closed) {
        event_from_command(d);
        return CORE_EVENT;
    }
    if (str_equal(d->command->f.summary, d->s->summary))
        return CORE_NOTHING;
    return refuse(d, CORE_E_REFUSED, NULL,
                  "The session \"%.*s\" is already closed, with another summary.",
                  ID_PRINTF(d->s->id));
}

static enum core_decision decide(const struct deciding *d)
{
    switch (d->command->type) {
    case CORE_SESSION_CREATE:
        return decide_create(d);
    case CORE_SESSION_UPDATE:
        return decide_update(d);
    default:
        assert(d->command->type == CORE_SESSION_CLOSE);
        return decide_close(d);
    }
}

static int apply_created(struct core_session *s, const struct core_event *event,
                         struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    if (!str_equal(f->session, s->id))
        return broken(why, "the event creates another session");
    if (f->window_messages == 0)
        return broken(why, "a window holds one message at least");
    state_set(s, s->created_ms, event->ts_ms);
    state_set(s, s->ttl_s, f->ttl_s);
    state_set(s, s->creation, creation_hash(&f->labels, f->ttl_s));
    state_set(s, s->window_messages, f->window_messages);
    state_set(s, s->window_bytes, f->window_bytes);
    labels_apply(s, &s->labels, &f->labels);
    return 0;
}

static int apply(struct core_session *s, const struct core_event *event, struct core_refusal *why)
{
    switch (event->type) {
    case CORE_SESSION_CREATE:
        return apply_created(s, event, why);
    case CORE_SESSION_UPDATE:
        labels_apply(s, &s->labels, &event->f.labels);
        return 0;
    default:
        assert(event->type == CORE_SESSION_CLOSE);
        if (s->closed)
            return broken(why, "the session is closed already");
        state_set(s, s->closed, true);
        state_set_text(s, &s->summary, event->f.summary);
        return 0;
    }
}

static int check(const struct core_session *s, const struct core_event *event,
                 struct core_refusal *why)
{
    if (s->closed != (event->type == CORE_SESSION_CLOSE))
        return broken(why, "the session's status does not follow from its event");
    return 0;
}

static void patch(const struct core_event *event, struct buf *out)
{
    if (event->type == CORE_SESSION_CREATE) {
        patch_begin(out, "replace");
        buf_add_literal(out, "/created_at");
        patch_value(out);
        json_add_time(out, event->ts_ms);
        patch_end(out);
    }
    if (event->type == CORE_SESSION_CLOSE) {
        patch_begin(out, "replace");
        buf_add_literal(out, "/status\",\"value\":\"closed\"}");
        patch_begin(out, "replace");
        buf_add_literal(out, "/summary");
        patch_value(out);
        json_add_string(out, event->f.summary);
        patch_end(out);
    }
    patch_labels(out, STR(""), STR(""), &event->f.labels);
}

static void view(const struct core_session *s, struct buf *out)
{
    buf_add_literal(out, "\"id\":");
    json_add_id(out, s->id);
    buf_add_literal(out, ",\"status\":");
    buf_add_str(out, s->closed ? STR("\"closed\"") : STR("\"open\""));
    buf_add_literal(out, ",\"summary\":");
    json_add_string(out, s->summary);
    buf_add_literal(out, ",\"labels\":");
    json_add_labels(out, &s->labels);
    buf_add_literal(out, ",\"created_at\":");
    if (s->now.seq == 0)
        buf_add_literal(out, "null");
    else
        json_add_time(out, s->created_ms);
}

static void encode(const struct core_session *s, struct buf *out)
{
    put_varint(out, s->now.seq);
    put_varint(out, (uint64_t)s->now.ts_ms);
    put_varint(out, (uint64_t)s->created_ms);
    put_varint(out, s->ttl_s);
    put_varint(out, s->creation);
    put_varint(out, s->window_messages);
    put_varint(out, s->window_bytes);
    put_varint(out, s->closed);
    put_nullable_text(out, s->summary);
    put_labels(out, &s->labels);
}

static void decode(struct core_session *s, struct reader *in, struct arena *scratch)
{
    s->now.seq = get_seq(in);
    s->now.ts_ms = get_time(in);
    s->created_ms = get_time(in);
    s->ttl_s = get_seq(in);
    s->creation = get_varint(in);
    s->window_messages = get_u32(in);
    s->window_bytes = get_u32(in);
    s->closed = get_bool(in);
    state_set_text(s, &s->summary, get_nullable_text(in));
    struct core_labels labels = get_labels(in, scratch);
    labels_apply(s, &s->labels, &labels);
    if (s->labels.n != labels.n || (s->now.seq != 0 && s->window_messages == 0))
        in->failed = true;
}

static void release(struct core_session *s)
{
    state_free_text(s, s->summary);
    labels_free(s, &s->labels);
}

const struct slice session_slice = {
    .name = "session",
    .types = SLICE_TYPE(SESSION_CREATE) | SLICE_TYPE(SESSION_UPDATE) | SLICE_TYPE(SESSION_CLOSE),
    .decide = decide,
    .apply = apply,
    .check = check,
    .patch = patch,
    .view = view,
    .encode = encode,
    .decode = decode,
    .release = release,
};
