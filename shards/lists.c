/*
 * lists: pages of sessions in the order of their ids, those in memory and those that are not.
 *
 * A session in memory is shown as it stands. A passive one has its labels on disk: where its
 * signature says that it cannot have the labels asked for it is passed over, else it is read
 * (past.c), shown if it matches, and forgotten again. One is read at a time, and a turn looks at
 * LIST_STEPS entries at most, so that however many there are nobody else waits.
 *
 * REQUEST_CHANGES with `pages` is a list of summaries instead (changes.c).
 *
 * Where the request has patterns, what lies between the sessions that they mean is leapt over, so
 * that who may see few of very many sessions is answered as soon as if there were no others.
 *
 * One that cannot be read is said on stderr, counted, and left out. So is one in quarantine.
 *
 * A list may show any of the shard's sessions: it is answered when all that is not committed yet
 * is.
 */
#include "shards/shard.h"

bool list_matches(const struct core_session *core, const struct request *request)
{
    const struct core_labels *labels = core_session_labels(core);
    for (uint32_t i = 0; i < request->labels_n; i++) {
        const struct request_label_filter *filter = &request->labels[i];
        uint32_t at = 0;
        while (at < labels->n && !str_equal(labels->items[at].key, filter->key))
            at++;
        if (at == labels->n)
            return false;
        if (filter->value.p != NULL && !str_equal(labels->items[at].value, filter->value))
            return false;
    }
    return true;
}

uint64_t list_signature(const struct request *request)
{
    uint64_t signature = 0;
    for (uint32_t i = 0; i < request->labels_n; i++)
        signature |= signature_of_filter(&request->labels[i]);
    return signature;
}

static void list_add(const struct core_session *core, struct request *request)
{
    struct buf *out = &request->body;
    if (request->kind == REQUEST_CHANGES) {
        changes_add_summary(request, core);
        return;
    }
    if (request->count++ != 0)
        buf_add_byte(out, ',');
    buf_add_literal(out, "{\"id\":");
    json_add_string(out, core_session_id(core));
    buf_add_literal(out, ",\"epoch\":");
    json_add_string(out, core_session_epoch(core));
    buf_add_literal(out, ",\"seq\":");
    buf_add_u64(out, core_session_seq(core));
    buf_add_literal(out, ",\"status\":");
    json_add_string(out, core_session_closed(core) ? STR("closed") : STR("open"));
    buf_add_literal(out, ",\"labels\":");
    json_add_labels(out, core_session_labels(core));
    buf_add_literal(out, ",\"created_at\":");
    json_add_time(out, core_session_created_ms(core));
    buf_add_literal(out, ",\"ts\":");
    json_add_time(out, core_session_ts_ms(core));
    buf_add_byte(out, '}');
}

void list_reply(struct shard *shard, struct request *request)
{
    if (*shard->failed != NULL)
        shard_refuse(shard, NULL, request, REQUEST_E_UNAVAILABLE, NULL, "%s", *shard->failed);
    else if (shard->dirty <= log_committed(shard->log))
        shard_reply(shard, request);
    else
        shard_effect(shard, shard->dirty, EFFECT_REPLY)->request = request;
}

static bool list_is_full(const struct request *request)
{
    if (request->kind == REQUEST_CHANGES)
        return request->body.n >= CHANGES_BYTES;
    return request->count == request->limit;
}

/* False: the page is full, and this one is for the next. */
static bool list_show(const struct core_session *core, struct request *request)
{
    if (!list_matches(core, request))
        return true;
    if (list_is_full(request)) {
        request->more = true;
        return false;
    }
    list_add(core, request);
    return true;
}

/* What has been looked at up to here need not be looked at again. */
static void list_passed(struct request *request, const struct entry *entry)
{
    if (entry != NULL)
        request->last_id = arena_copy(&request->arena, entry_id(entry));
}

/* It may have been deleted, or have come into memory and gone on, meanwhile. */
bool list_read_same(struct past *past, int error)
{
    struct shard *shard = past->shard;
    const struct entry *entry = entry_find(shard, past->request->made);
    struct entry_life life;
    bool same = entry != NULL && entry_life(entry, &life) && life.epoch == past->epoch &&
                life.head == past->trail.head;
    if (same && error != 0)
        session_unreadable(shard, entry, error);
    return same;
}

static void list_read_done(struct past *past, int error)
{
    struct shard *shard = past->shard;
    struct request *request = past->request;
    bool same = list_read_same(past, error);
    bool going_on = !same || error != 0 || list_show(past->core, request);
    if (same && going_on)
        request->last_id = request->made;
    past_free(past);
    if (going_on)
        shard_go_on(shard, request); /* what was not the same is looked at again */
    else
        list_reply(shard, request);
}

void list_read(struct shard *shard, const struct entry *entry, struct request *request,
               void (*done)(struct past *past, int error))
{
    struct past *past = past_new(shard);
    past->request = request;
    past->epoch = entry->epoch;
    past->trail.head = entry->head;
    past->trail.newest = true;
    past->done = done;
    request->made = arena_copy(&request->arena, entry_id(entry)); /* the one that is being read */
    past_start(past);
}

enum list_step { LIST_NEXT, LIST_WAIT, LIST_READ, LIST_FULL };

static enum list_step list_look(const struct entry *entry, struct request *request,
                                uint64_t signature)
{
    struct entry_life life;
    if (entry->flags & ENTRY_QUARANTINED) /* it is in the status */
        return LIST_NEXT;
    if (entry->flags & ENTRY_ACTIVE) {
        const struct session *session = entry->u.session;
        if (session->busy)
            return LIST_WAIT; /* half of a batch is nothing to show */
        if (session->core == NULL || session->importing || core_session_seq(session->core) == 0)
            return LIST_NEXT;
        return list_show(session->core, request) ? LIST_NEXT : LIST_FULL;
    }
    if (!entry_life(entry, &life) || (entry->u.labels & signature) != signature)
        return LIST_NEXT;
    if (list_is_full(request) && request->labels_n == 0) {
        request->more = true;
        return LIST_FULL;
    }
    return LIST_READ;
}

bool list_may_see(const struct request *request, struct str session)
{
    for (uint32_t i = 0; i < request->patterns_n; i++) {
        if (request_pattern_means(request->patterns[i], session))
            return true;
    }
    return request->patterns_n == 0;
}

/*
 * The first from `entry` on that a pattern means. If none means `entry`, the next id that some
 * pattern means is not before the least pattern above `entry`: an id between a prefix and an id
 * that begins with it begins with it too, and `entry` does not.
 */
static struct entry *list_leap(struct shard *shard, const struct request *request,
                               struct entry *entry)
{
    while (entry != NULL && !list_may_see(request, entry_id(entry))) {
        struct str least = {0};
        for (uint32_t i = 0; i < request->patterns_n; i++) {
            struct str text = request->patterns[i];
            text.n -= text.n != 0 && text.p[text.n - 1] == '*';
            if (str_compare(text, entry_id(entry)) > 0 &&
                (least.p == NULL || str_compare(text, least) < 0))
                least = text;
        }
        entry = least.p == NULL ? NULL : entry_at_or_after(shard, least);
    }
    return entry;
}

/* The first one that may be shown, with an id above `from`. */
static struct entry *list_from(struct shard *shard, const struct request *request, struct str from)
{
    struct entry *entry = NULL;
    if (request->ids_n == 0)
        return list_leap(shard, request, entry_after(shard, from));
    for (uint32_t i = 0; i < request->ids_n && entry == NULL; i++) {
        if ((from.p == NULL || str_compare(request->ids[i], from) > 0) &&
            list_may_see(request, request->ids[i]))
            entry = entry_find(shard, request->ids[i]);
    }
    return entry;
}

static struct entry *list_next(struct shard *shard, const struct request *request,
                               struct entry *entry)
{
    return request->ids_n == 0 ? list_leap(shard, request, entry_next(entry))
                               : list_from(shard, request, entry_id(entry));
}

void query_list(struct shard *shard, struct request *request)
{
    struct str from = request->last_id.p != NULL ? request->last_id : request->cursor;
    uint64_t signature = list_signature(request);
    struct entry *passed = NULL, *at = list_from(shard, request, from);
    enum list_step step = LIST_NEXT;
    /* Behind the first companion there are only more of them. */
    for (unsigned steps = 0; at != NULL && !entry_is_companion(at);
         at = list_next(shard, request, at)) {
        step = ++steps > LIST_STEPS ? LIST_WAIT : list_look(at, request, signature);
        if (step != LIST_NEXT)
            break;
        passed = at;
    }
    list_passed(request, passed);
    request->made = (struct str){0};
    if (step == LIST_READ)
        list_read(shard, at, request, list_read_done);
    else if (step == LIST_WAIT)
        shard_go_on(shard, request);
    else
        list_reply(shard, request);
}
