#include "server/overview.h"

#include "server/auth/guard.h"
#include "server/framing.h"
#include "server/frontend.h"
#include "server/outlet.h"
#include "server/redact.h"

#include <stdlib.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* What is asked of one shard, and what of its answer is still to be told. */
struct source {
    struct request *reply; /* NULL: nothing is to be told */
    uint32_t told;         /* of its changes */
    uint64_t position;     /* all up to here was told */
    uint64_t known;        /* what last_id says of it */
    bool asked;            /* a question is at the shard */
    bool discard;          /* its answer is of no use */
    bool paging;           /* all sessions are told first */
    bool placed;           /* `position` is what the pages began at, or a later one */
    bool settled;          /* what was there at the beginning was told */
    bool idle;             /* none of the sessions wanted are there: nothing is asked */
    struct str cursor;     /* in cursor_text; p == NULL: the first page */
    char cursor_text[CORE_ID_BYTES];
};

struct overview {
    struct frontend *frontend;
    const struct overview_ops *ops;
    void *owner;
    uint64_t token;
    struct arena arena; /* of the wish */
    struct request_label_filter *labels;
    uint32_t labels_n;
    struct str *sessions; /* ascending, each once */
    uint32_t sessions_n;
    struct grant *grant;
    bool whole;
    enum watcher_framing framing;
    uint64_t hash; /* of what is wanted */
    bool resumed;  /* it goes on from an id: no reset was told */
    bool reset_due;
    const char *reset; /* its reason, NULL: none */
    bool ready_told;
    uint64_t told_n;     /* summaries since the last reset */
    struct buf object;   /* of the item told last */
    struct source *done; /* its reply was told whole with the last item */
    struct timer retry, position_due;
    uint64_t said_sum; /* of the positions in the id that was said last */
    int64_t said_ms;
    unsigned at; /* the source that is being told */
    unsigned sources_n;
    struct source sources[];
};

void *overview_owner(const struct overview *overview)
{
    return overview->owner;
}

/* ---- ids */

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's base 32 */

static char *add_digits(char *p, uint64_t value, unsigned n)
{
    for (unsigned i = n; i-- > 0;)
        *p++ = digits[value >> (5 * i) & 31];
    return p;
}

void overview_make_start(char start[OVERVIEW_START_BYTES + 1])
{
    uint64_t random = 0;
    ssize_t n = getrandom(&random, sizeof(random), 0);
    assert(n == sizeof(random));
    *add_digits(start, random, OVERVIEW_START_BYTES) = '\0';
}

struct str overview_id(const struct overview *overview, char scratch[OVERVIEW_ID_BYTES])
{
    char *p = scratch;
    memcpy(p, overview->frontend->shared->start, OVERVIEW_START_BYTES);
    p += OVERVIEW_START_BYTES;
    *p++ = '-';
    p = add_digits(p, overview->hash, OVERVIEW_VIEW_BYTES);
    for (unsigned i = 0; i < overview->sources_n; i++) {
        char reversed[20];
        unsigned n = 0;
        uint64_t value = overview->sources[i].position;
        do {
            reversed[n++] = (char)('0' + value % 10);
            value /= 10;
        } while (value != 0);
        *p++ = '.';
        while (n != 0)
            *p++ = reversed[--n];
    }
    return (struct str){scratch, (size_t)(p - scratch)};
}

/* Takes what stands before `mark`, or all. */
static struct str take_until(struct str *text, char mark)
{
    const char *end = text->n != 0 ? memchr(text->p, mark, text->n) : NULL;
    struct str taken = {text->p, end != NULL ? (size_t)(end - text->p) : text->n};
    size_t n = taken.n + (end != NULL);
    *text = (struct str){text->p + n, text->n - n};
    return taken;
}

/* NULL, and the sources know where to go on; or why they cannot. */
static const char *take_id(struct overview *overview, struct str id)
{
    const char *start = overview->frontend->shared->start;
    char view_text[OVERVIEW_VIEW_BYTES];
    unsigned n = 0;

    add_digits(view_text, overview->hash, OVERVIEW_VIEW_BYTES);
    struct str first = take_until(&id, '.');
    struct str named = take_until(&first, '-');
    if (named.n != OVERVIEW_START_BYTES || first.n != OVERVIEW_VIEW_BYTES)
        return "not an id of this stream";
    if (memcmp(named.p, start, OVERVIEW_START_BYTES) != 0)
        return "the server was started again since";
    if (memcmp(first.p, view_text, OVERVIEW_VIEW_BYTES) != 0)
        return "an id of other sessions or another view";
    for (; id.n != 0 && n < overview->sources_n; n++)
        if (!query_number(take_until(&id, '.'), &overview->sources[n].known))
            return "not an id of this stream";
    if (id.n != 0 || n != overview->sources_n)
        return "another number of shards";
    return NULL;
}

/* ---- asking */

/* Those of the wanted sessions that belong to the shard. */
static uint32_t sessions_of(const struct overview *overview, unsigned shard, struct arena *arena,
                            const struct str **found)
{
    struct str *ids = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < overview->sessions_n; i++) {
        if (mailbox_shard_of(overview->frontend->mailbox, overview->sessions[i]) != shard)
            continue;
        if (arena != NULL && ids == NULL)
            ids = arena_alloc(arena, (overview->sessions_n - i) * sizeof(*ids));
        if (arena != NULL)
            ids[n] = arena_copy(arena, overview->sessions[i]);
        n++;
    }
    if (arena != NULL)
        *found = ids;
    return n;
}

static struct request_label_filter *
copy_labels(struct arena *arena, const struct request_label_filter *labels, uint32_t n)
{
    struct request_label_filter *copy = arena_alloc(arena, n * sizeof(*copy));
    for (uint32_t i = 0; i < n; i++) {
        copy[i].key = arena_copy(arena, labels[i].key);
        copy[i].value =
            labels[i].value.p != NULL ? arena_copy(arena, labels[i].value) : (struct str){0};
    }
    return copy;
}

static struct request *question_for(const struct overview *overview, unsigned shard)
{
    const struct source *source = &overview->sources[shard];
    struct request *request = request_new();
    request->kind = REQUEST_CHANGES;
    request->token = overview->token;
    request->labels_n = overview->labels_n;
    if (overview->labels_n != 0)
        request->labels = copy_labels(&request->arena, overview->labels, overview->labels_n);
    if (overview->sessions_n != 0)
        request->ids_n = sessions_of(overview, shard, &request->arena, &request->ids);
    request->pages = source->paging;
    if (source->cursor.p != NULL)
        request->cursor = arena_copy(&request->arena, source->cursor);
    request->has_after = source->placed;
    request->after = source->position;
    request->wait = source->settled && !source->paging;
    return request;
}

static void ask_later(struct overview *overview)
{
    struct frontend *frontend = overview->frontend;
    if (overview->retry.place == 0)
        timers_set(&frontend->timers, &overview->retry,
                   frontend_now_ms(frontend) + OVERVIEW_RETRY_MS);
}

static void ask(struct overview *overview, unsigned shard)
{
    struct source *source = &overview->sources[shard];
    if (source->asked || source->idle || source->reply != NULL)
        return;
    struct request *request = question_for(overview, shard);
    struct core_refusal why;
    if (guard_request(overview->grant, request, &why) != 0) {
        request_free(request); /* the grant has ended, and so does whoever looks on */
        return;
    }
    if (mailbox_send_to(overview->frontend->mailbox, request, shard) == 0) {
        source->asked = true;
    } else {
        request_free(request);
        ask_later(overview);
    }
}

static void ask_all(struct overview *overview)
{
    for (unsigned i = 0; i < overview->sources_n; i++)
        ask(overview, i);
}

static void on_retry(struct timer *timer)
{
    struct overview *overview =
        (struct overview *)((char *)timer - offsetof(struct overview, retry));
    ask_all(overview);
    overview->ops->ready(overview);
}

static void on_position_due(struct timer *timer)
{
    struct overview *overview =
        (struct overview *)((char *)timer - offsetof(struct overview, position_due));
    overview->ops->ready(overview);
}

/* Ends the wait of a question; its answer comes all the same. */
static void cancel(struct overview *overview, unsigned shard)
{
    struct request *request = request_new();
    request->kind = REQUEST_CANCEL;
    request->token = overview->token;
    request->shard = (uint16_t)shard;
    outbox_send(&overview->frontend->outbox, overview->frontend->mailbox, request);
}

/* ---- from the beginning */

static void drop_reply(struct source *source)
{
    if (source->reply != NULL)
        request_free(source->reply);
    source->reply = NULL;
    source->told = 0;
}

/* Tells a reset, and then everything. */
static void begin_anew(struct overview *overview, const char *why)
{
    overview->resumed = false;
    overview->reset_due = true;
    overview->reset = why;
    overview->ready_told = false;
    overview->told_n = 0;
    overview->done = NULL;
    for (unsigned i = 0; i < overview->sources_n; i++) {
        struct source *source = &overview->sources[i];
        drop_reply(source);
        if (source->asked && !source->discard)
            cancel(overview, i);
        source->discard = source->asked;
        source->paging = true;
        source->placed = source->settled = false;
        source->cursor = (struct str){0};
        if (source->idle)
            source->settled = true;
    }
}

/* Goes on from what `known` says. */
static void go_on(struct overview *overview)
{
    overview->resumed = true;
    for (unsigned i = 0; i < overview->sources_n; i++) {
        struct source *source = &overview->sources[i];
        source->position = source->known;
        source->placed = true;
        source->paging = overview->whole && !source->idle;
        source->settled = source->idle;
    }
}

static uint64_t hash_more(uint64_t hash, struct str text)
{
    return XXH3_64bits_withSeed(text.p, text.n, hash + (text.p != NULL ? 1 : 2));
}

/* Of what may be seen: a place among these sessions, and with this hidden, is none among others. */
static uint64_t hash_grant(uint64_t hash, const struct grant *grant)
{
    const struct redaction *redaction = guard_redaction(grant);
    for (unsigned i = 0; grant != NULL && !grant->all_sessions && i < grant->claims.sessions_n; i++)
        hash = hash_more(hash, grant->claims.sessions[i]);
    return redaction != NULL ? hash + redaction_hash(redaction) : hash;
}

static void take_wish(struct overview *overview, const struct overview_wish *wish)
{
    uint64_t hash = wish->form;
    overview->labels = copy_labels(&overview->arena, wish->labels, wish->labels_n);
    overview->labels_n = wish->labels_n;
    for (uint32_t i = 0; i < wish->labels_n; i++)
        hash = hash_more(hash_more(hash, wish->labels[i].key), wish->labels[i].value);
    struct str *ids = arena_alloc(&overview->arena, wish->sessions_n * sizeof(*ids));
    for (uint32_t i = 0; i < wish->sessions_n; i++) {
        ids[i] = arena_copy(&overview->arena, wish->sessions[i]);
        hash = hash_more(hash, ids[i]);
    }
    overview->sessions = ids;
    overview->sessions_n = wish->sessions_n;
    overview->grant = grant_hold(wish->grant);
    overview->hash = hash_grant(hash, wish->grant);
}

int overview_check(const struct overview_wish *wish, struct core_refusal *why)
{
    struct request *request = request_new();
    request->kind = REQUEST_CHANGES;
    request->labels_n = wish->labels_n;
    if (wish->labels_n != 0)
        request->labels = copy_labels(&request->arena, wish->labels, wish->labels_n);
    int rc = guard_request(wish->grant, request, why);
    request_free(request);
    return rc;
}

struct overview *overview_open(struct frontend *frontend, const struct overview_wish *wish,
                               const struct overview_ops *ops, void *owner)
{
    unsigned n = mailbox_shards(frontend->mailbox);
    size_t size = sizeof(struct overview) + n * sizeof(struct source);
    struct overview *overview = mem_zeroed(1, size);
    overview->frontend = frontend;
    overview->ops = ops;
    overview->owner = owner;
    overview->whole = wish->whole;
    overview->framing = wish->framing;
    overview->sources_n = n;
    overview->retry.fire = on_retry;
    overview->position_due.fire = on_position_due;
    overview->token = slots_add(&frontend->overviews.tokens, overview);
    take_wish(overview, wish);
    for (unsigned i = 0; i < n; i++)
        overview->sources[i].idle =
            overview->sessions_n != 0 && sessions_of(overview, i, NULL, NULL) == 0;
    const char *why = wish->last_id.n != 0 ? take_id(overview, wish->last_id) : NULL;
    if (wish->last_id.n != 0 && why == NULL)
        go_on(overview);
    else
        begin_anew(overview, why);
    ask_all(overview);
    timers_set(&frontend->timers, &overview->retry, frontend_now_ms(frontend));
    return overview;
}

void overview_close(struct overview *overview)
{
    struct frontend *frontend = overview->frontend;
    timers_clear(&frontend->timers, &overview->retry);
    timers_clear(&frontend->timers, &overview->position_due);
    slots_remove(&frontend->overviews.tokens, overview->token);
    for (unsigned i = 0; i < overview->sources_n; i++) {
        drop_reply(&overview->sources[i]);
        if (overview->sources[i].asked && !overview->sources[i].discard)
            cancel(overview, i);
    }
    grant_release(overview->grant);
    arena_free(&overview->arena);
    buf_free(&overview->object);
    free(overview);
}

void overviews_free(struct overviews *overviews)
{
    slots_free(&overviews->tokens);
}

/* ---- answers */

/* All that an answer holds is told. */
static void pass(struct overview *overview, struct source *source)
{
    const struct request *reply = source->reply;
    if (reply->pages) {
        if (!source->placed)
            source->position = reply->position;
        source->placed = true;
        source->paging = reply->more;
        source->settled = !reply->more && !overview->resumed;
        source->cursor = (struct str){source->cursor_text, reply->last_id.n};
        if (reply->last_id.n != 0)
            memcpy(source->cursor_text, reply->last_id.p, reply->last_id.n);
    } else {
        source->position = reply->position;
        source->settled = source->settled || !reply->more;
    }
    drop_reply(source);
    ask(overview, (unsigned)(source - overview->sources));
}

/* Takes the answer over. */
static void take_reply(struct overview *overview, struct request *request)
{
    unsigned shard = request->shard;
    struct source *source = &overview->sources[shard];
    bool discard = source->discard;
    source->asked = source->discard = false;
    source->reply = request;
    if (discard || request->error != 0) {
        drop_reply(source);
        if (discard)
            ask(overview, shard);
        else
            ask_later(overview);
    } else if (request->stale != NULL) {
        begin_anew(overview, request->stale);
        ask_all(overview);
    } else if (request->changes_n == 0) {
        pass(overview, source);
    }
}

void overviews_on_reply(struct frontend *frontend, struct request *request)
{
    struct overview *overview = slots_find(&frontend->overviews.tokens, request->token);
    if (overview == NULL) {
        request_free(request);
        return;
    }
    take_reply(overview, request);
    overview->ops->ready(overview);
}

/* ---- telling */

static bool is_all_told(const struct overview *overview)
{
    for (unsigned i = 0; i < overview->sources_n; i++) {
        const struct source *source = &overview->sources[i];
        if (!source->settled || source->reply != NULL)
            return false;
    }
    return !overview->reset_due;
}

static enum overview_event next_reset(struct overview *overview, struct overview_item *item)
{
    struct buf *object = &overview->object;
    object->n = 0;
    buf_add_literal(object, "{\"reset\":");
    if (overview->reset != NULL)
        json_add_string(object, (struct str){overview->reset, strlen(overview->reset)});
    else
        buf_add_literal(object, "null");
    buf_add_byte(object, '}');
    item->object = buf_str(object);
    overview->reset_due = false;
    return OVERVIEW_RESET;
}

static struct str redacted(struct overview *overview, struct str object)
{
    overview->object.n = 0;
    redact_summary(guard_redaction(overview->grant), object, &overview->object);
    return buf_str(&overview->object);
}

static enum overview_event next_change(struct overview *overview, struct source *source,
                                       struct overview_item *item)
{
    const struct request *reply = source->reply;
    const struct request_change *change = &reply->changes[source->told++];
    item->object = (struct str){reply->body.p + change->offset, change->size};
    if (guard_redaction(overview->grant) != NULL)
        item->object = redacted(overview, item->object);
    item->session = change->session;
    item->epoch = change->epoch;
    item->shard = (uint16_t)(source - overview->sources);
    item->deleted = change->kind == CHANGE_DELETED;
    if (source->told == reply->changes_n)
        overview->done = source;
    overview->told_n += change->kind == CHANGE_SUMMARY;
    return change->kind == CHANGE_SUMMARY ? OVERVIEW_SUMMARY : OVERVIEW_END;
}

static enum overview_event next_ready(struct overview *overview, struct overview_item *item)
{
    struct buf *object = &overview->object;
    object->n = 0;
    buf_add_literal(object, "{\"sessions\":");
    buf_add_u64(object, overview->told_n);
    buf_add_byte(object, '}');
    item->object = buf_str(object);
    overview->ready_told = true;
    return OVERVIEW_READY;
}

enum overview_event overview_next(struct overview *overview, struct overview_item *item)
{
    *item = (struct overview_item){0};
    if (overview->done != NULL)
        pass(overview, overview->done);
    overview->done = NULL;
    if (overview->reset_due)
        return next_reset(overview, item);
    for (unsigned i = 0; i < overview->sources_n; i++) {
        struct source *source = &overview->sources[overview->at];
        if (source->reply != NULL)
            return next_change(overview, source, item);
        overview->at = (overview->at + 1) % overview->sources_n;
    }
    if (!overview->ready_told && is_all_told(overview))
        return next_ready(overview, item);
    return OVERVIEW_NOTHING;
}

bool overview_since(const struct overview *overview, unsigned shard, uint64_t *position)
{
    *position = overview->sources[shard].known;
    return overview->resumed;
}

bool overview_level(const struct overview *overview)
{
    return overview->ready_told && is_all_told(overview);
}

static uint64_t sum_of(const struct overview *overview)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < overview->sources_n; i++)
        sum += overview->sources[i].position;
    return sum;
}

bool overview_moved(struct overview *overview)
{
    struct frontend *frontend = overview->frontend;
    int64_t due_ms = overview->said_ms + OVERVIEW_POSITION_MS;
    if (sum_of(overview) == overview->said_sum)
        return false;
    if (frontend_now_ms(frontend) >= due_ms)
        return true;
    timers_set(&frontend->timers, &overview->position_due, due_ms);
    return false;
}

void overview_said(struct overview *overview)
{
    overview->said_ms = frontend_now_ms(overview->frontend);
    overview->said_sum = sum_of(overview);
}

/* ---- messages */

static void add_sse(struct buf *out, struct str event, struct str id, struct str object)
{
    buf_add_literal(out, "event: ");
    buf_add_str(out, event);
    if (id.n != 0) {
        buf_add_literal(out, "\nid: ");
        buf_add_str(out, id);
    }
    buf_add_literal(out, "\ndata: ");
    buf_add_str(out, object);
    buf_add_literal(out, "\n\n");
}

static void add_ws(struct buf *out, struct str event, struct str id, struct str object)
{
    enum { OPCODE_TEXT = 1, HEAD_BYTES = 10 };
    static const char before_id[] = ",\"id\":\"";
    char head[HEAD_BYTES];
    bool empty = object.n == 2;
    size_t n = sizeof("{\"event\":\"\"") - 1 + event.n + !empty + object.n - 1;
    if (id.n != 0)
        n += sizeof(before_id) - 1 + id.n + 1;
    buf_add(out, head, (size_t)(framing_ws_head(head, OPCODE_TEXT, n) - head));
    buf_add_literal(out, "{\"event\":\"");
    buf_add_str(out, event);
    buf_add_byte(out, '"');
    if (id.n != 0) {
        buf_add(out, before_id, sizeof(before_id) - 1);
        buf_add_str(out, id);
        buf_add_byte(out, '"');
    }
    if (!empty)
        buf_add_byte(out, ',');
    buf_add(out, object.p + 1, object.n - 1);
}

static void add_message(struct buf *out, enum watcher_framing framing, struct str event,
                        struct str id, struct str object)
{
    if (framing == FRAMING_WS_MANY)
        add_ws(out, event, id, object);
    else
        add_sse(out, event, id, object);
}

struct chunk *overview_message(enum watcher_framing framing, struct str event, struct str id,
                               struct str object)
{
    struct buf text = {0};
    add_message(&text, framing, event, id, object);
    struct chunk *chunk = chunk_of(buf_str(&text));
    buf_free(&text);
    return chunk;
}

static struct str event_name(enum overview_event event)
{
    switch (event) {
    case OVERVIEW_RESET:
        return STR("reset");
    case OVERVIEW_SUMMARY:
        return STR("summary");
    case OVERVIEW_END:
        return STR("end");
    case OVERVIEW_READY:
        return STR("ready");
    case OVERVIEW_NOTHING:
        break;
    }
    return STR("position");
}

/* Adds the next message; false: there is none. */
static bool add_next(struct overview *overview, struct buf *text)
{
    char scratch[OVERVIEW_ID_BYTES];
    struct overview_item item;
    struct str id = {0};
    enum overview_event event = overview_next(overview, &item);
    if (event == OVERVIEW_NOTHING) {
        if (!overview_level(overview) || !overview_moved(overview))
            return false;
        item.object = STR("{}");
    }
    if (event == OVERVIEW_READY || event == OVERVIEW_NOTHING) {
        id = overview_id(overview, scratch);
        overview_said(overview);
    }
    add_message(text, overview->framing, event_name(event), id, item.object);
    return true;
}

bool overview_fill(struct overview *overview, struct outlet *outlet)
{
    struct buf text = {0};
    bool more = true;
    while (more && !outlet_full(outlet)) {
        text.n = 0;
        while (text.n < OVERVIEW_CHUNK_BYTES && (more = add_next(overview, &text)))
            ;
        if (text.n == 0)
            break;
        struct chunk *chunk = chunk_of(buf_str(&text));
        outlet_push(outlet, chunk, chunk_text(chunk));
    }
    buf_free(&text);
    return more;
}
