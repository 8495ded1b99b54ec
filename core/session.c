/*
 * The session itself: its id and where it was forked from, its labels, summary, status, life span
 * and the size of its windows.
 *
 * Snapshot part: text id, nullable parent and where it is not null text parent_epoch and varint
 * parent_seq, varint seq, varint ts_ms, varint created_ms, varint ttl_s, varint creation,
 * varint window_messages, varint window_bytes, bool closed, nullable summary, labels.
 */
#include "core/internal.h"

/* ---- id and parent */

static size_t origin_size(const struct origin *o)
{
    return sizeof(*o) + o->id.n + o->parent.session.n + o->parent.epoch.n;
}

static void set_origin(struct core_session *s, struct str id, const struct core_parent *parent)
{
    struct origin head = {.id = id, .parent = *parent};
    struct origin *o = state_alloc(s, origin_size(&head));
    char *at = (char *)(o + 1);
    head.id = text_pack(&at, id);
    head.parent.session = text_pack(&at, parent->session);
    head.parent.epoch = text_pack(&at, parent->epoch);
    *o = head;
    if (s->origin != NULL)
        state_free(s, s->origin, origin_size(s->origin));
    state_set(s, s->origin, o);
    state_set(s, s->id, o->id);
}

struct core_parent core_session_parent(const struct core_session *s)
{
    return s->origin != NULL ? s->origin->parent : (struct core_parent){0};
}

/* ---- decide */

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

/* A companion's labels are its face's own, which knows how many it needs: what is allowed to
 * clients does not count for them. */
static uint32_t labels_max(const struct core_session *s)
{
    return core_companion_id(s->id) ? core_limits_default.max[CORE_LIMIT_LABELS]
                                    : limit_of(s, CORE_LIMIT_LABELS);
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
    if (plan.count > labels_max(s))
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
    if (plan.count > labels_max(d->s))
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

static bool epoch_valid(struct str epoch)
{
    return epoch.p != NULL && epoch.n != 0 && epoch.n <= CORE_EPOCH_BYTES;
}

static enum core_decision decide_fork(const struct deciding *d)
{
    const struct core_session *s = d->s;
    const struct core_fields *wish = &d->command->f;
    if (!core_id_valid(wish->session))
        return refuse(d, CORE_E_MALFORMED, "session",
                      "A session's id must match " CORE_ID_RULE ".");
    if (!core_id_valid(wish->parent))
        return refuse(d, CORE_E_MALFORMED, "parent", "A session's id must match " CORE_ID_RULE ".");
    if (!epoch_valid(wish->parent_epoch))
        return refuse(d, CORE_E_MALFORMED, "parent_epoch", "An epoch has 1 to %d bytes.",
                      CORE_EPOCH_BYTES);
    if (wish->parent_seq != s->now.seq)
        return refuse(d, CORE_E_MALFORMED, "parent_seq",
                      "The state to fork stands at seq %llu, not %llu.",
                      (unsigned long long)s->now.seq, (unsigned long long)wish->parent_seq);
    event_from_command(d);
    return CORE_EVENT;
}

static enum core_decision decide(const struct deciding *d)
{
    switch (d->command->type) {
    case CORE_SESSION_FORK:
        return decide_fork(d);
    case CORE_SESSION_CREATE:
        return decide_create(d);
    case CORE_SESSION_UPDATE:
        return decide_update(d);
    default:
        assert(d->command->type == CORE_SESSION_CLOSE);
        return decide_close(d);
    }
}

/* ---- apply */

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

static int apply_forked(struct core_session *s, const struct core_event *event,
                        struct core_refusal *why)
{
    const struct core_fields *f = &event->f;
    if (!core_id_valid(f->session) || !epoch_valid(f->parent_epoch))
        return broken(why, "the fork's id or the epoch of its parent cannot be");
    if (!core_id_valid(f->parent) || f->parent_seq != event->seq - 1)
        return broken(why, "the session is forked from elsewhere than where it stands");
    struct core_parent parent = {f->parent, f->parent_epoch, f->parent_seq};
    set_origin(s, f->session, &parent);
    return 0;
}

static int apply(struct core_session *s, const struct core_event *event, struct core_refusal *why)
{
    switch (event->type) {
    case CORE_SESSION_FORK:
        return apply_forked(s, event, why);
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
    if (event->type == CORE_SESSION_FORK) {
        if (s->origin == NULL || !str_equal(s->id, event->f.session) ||
            s->origin->parent.seq + 1 != s->now.seq)
            return broken(why, "the fork does not stand where it began");
        return 0;
    }
    if (s->closed != (event->type == CORE_SESSION_CLOSE))
        return broken(why, "the session's status does not follow from its event");
    return 0;
}

/* ---- patch, diff and view */

static void json_parent(struct buf *out, const struct core_parent *parent)
{
    if (parent->session.p == NULL) {
        buf_add_literal(out, "null");
        return;
    }
    buf_add_literal(out, "{\"session\":");
    json_add_id(out, parent->session);
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, parent->epoch);
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, parent->seq);
    buf_add_byte(out, '}');
}

static void json_created(struct buf *out, const struct core_session *s)
{
    if (s->now.seq == 0)
        buf_add_literal(out, "null");
    else
        json_add_time(out, s->created_ms);
}

static struct str status_of(const struct core_session *s)
{
    return s->closed ? STR("closed") : STR("open");
}

static void patch_replace(struct buf *out, struct str path)
{
    patch_begin(out, "replace");
    buf_add_str(out, path);
    patch_value(out);
}

static void patch_forked(struct buf *out, struct str id, const struct core_parent *parent)
{
    patch_replace(out, STR("/id"));
    json_add_id(out, id);
    patch_end(out);
    patch_replace(out, STR("/parent"));
    json_parent(out, parent);
    patch_end(out);
}

static void patch(const struct core_event *event, struct buf *out)
{
    if (event->type == CORE_SESSION_CREATE) {
        patch_replace(out, STR("/created_at"));
        json_add_time(out, event->ts_ms);
        patch_end(out);
    }
    if (event->type == CORE_SESSION_CLOSE) {
        patch_begin(out, "replace");
        buf_add_literal(out, "/status\",\"value\":\"closed\"}");
        patch_replace(out, STR("/summary"));
        json_add_string(out, event->f.summary);
        patch_end(out);
    }
    if (event->type == CORE_SESSION_FORK) {
        const struct core_fields *f = &event->f;
        patch_forked(out, f->session,
                     &(struct core_parent){f->parent, f->parent_epoch, f->parent_seq});
    }
    patch_labels(out, STR(""), STR(""), &event->f.labels);
}

static bool same_parent(const struct core_parent *a, const struct core_parent *b)
{
    return str_equal(a->session, b->session) && str_equal(a->epoch, b->epoch) && a->seq == b->seq;
}

static void diff(const struct diffing *d)
{
    const struct core_session *from = d->from;
    const struct core_session *to = d->to;
    struct core_parent from_parent = core_session_parent(from);
    struct core_parent to_parent = core_session_parent(to);
    patch_changed_text(d->out, STR(""), STR(""), STR("/id"), from->id, to->id);
    if (!same_parent(&from_parent, &to_parent)) {
        patch_replace(d->out, STR("/parent"));
        json_parent(d->out, &to_parent);
        patch_end(d->out);
    }
    patch_changed_text(d->out, STR(""), STR(""), STR("/status"), status_of(from), status_of(to));
    patch_changed_text(d->out, STR(""), STR(""), STR("/summary"), from->summary, to->summary);
    if ((from->now.seq == 0) != (to->now.seq == 0) || from->created_ms != to->created_ms) {
        patch_replace(d->out, STR("/created_at"));
        json_created(d->out, to);
        patch_end(d->out);
    }
    struct core_labels labels = labels_diff(&from->labels, &to->labels, d->scratch);
    patch_labels(d->out, STR(""), STR(""), &labels);
}

static void view_labels(const struct viewing *v)
{
    const struct core_labels *labels = &v->s->labels;
    bool first = true;
    buf_add_byte(v->out, '{');
    for (uint32_t i = 0; i < labels->n; i++) {
        const struct core_label *label = &labels->items[i];
        if (!parts_show(v->parts, STR("labels"), label->key))
            continue;
        if (!first)
            buf_add_byte(v->out, ',');
        first = false;
        json_add_string(v->out, label->key);
        buf_add_byte(v->out, ':');
        json_add_string(v->out, label->value);
    }
    buf_add_byte(v->out, '}');
}

static void view(const struct viewing *v)
{
    const struct core_session *s = v->s;
    struct buf *out = v->out;
    struct core_parent parent = core_session_parent(s);
    buf_add_literal(out, "\"id\":");
    json_add_id(out, s->id);
    buf_add_literal(out, ",\"parent\":");
    json_parent(out, &parent);
    buf_add_literal(out, ",\"status\":");
    json_add_id(out, status_of(s));
    buf_add_literal(out, ",\"summary\":");
    json_add_string(out, s->summary);
    buf_add_literal(out, ",\"labels\":");
    view_labels(v);
    buf_add_literal(out, ",\"created_at\":");
    json_created(out, s);
}

/* ---- bytes */

static void encode(const struct core_session *s, struct buf *out)
{
    struct core_parent parent = core_session_parent(s);
    put_text(out, s->id);
    put_nullable_text(out, parent.session);
    if (parent.session.p != NULL) {
        put_text(out, parent.epoch);
        put_varint(out, parent.seq);
    }
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

/* The parent's seq is held against the session's own once that is read. */
static void decode_origin(struct core_session *s, struct reader *in)
{
    struct str id = get_session_id(in);
    struct core_parent parent = {.session = get_nullable_text(in)};
    if (parent.session.p != NULL) {
        parent.epoch = get_text(in);
        parent.seq = get_seq(in);
        if (!core_id_valid(parent.session) || !epoch_valid(parent.epoch) || parent.seq == 0)
            in->failed = true;
    }
    if (!in->failed && (parent.session.p != NULL || !str_equal(id, s->id)))
        set_origin(s, id, &parent);
}

static void decode(struct core_session *s, struct reader *in, struct arena *scratch)
{
    decode_origin(s, in);
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
    if (s->labels.n != labels.n || (s->now.seq != 0 && s->window_messages == 0) ||
        core_session_parent(s).seq >= s->now.seq)
        in->failed = true;
}

static void release(struct core_session *s)
{
    if (s->origin != NULL)
        state_free(s, s->origin, origin_size(s->origin));
    state_free_text(s, s->summary);
    labels_free(s, &s->labels);
}

const struct slice session_slice = {
    .name = "session",
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
