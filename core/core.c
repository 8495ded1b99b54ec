/*
 * The entry points, and the tables of the slices. A new slice is a new file and lines here; in the
 * first its line must stay where it is, as the parts of a snapshot come in this order.
 *
 * A command goes through here to the slice that knows its type:
 *
 *     core_decide   what holds for every command, then the slice's decide
 *     core_apply    what holds for every event, then the slice's apply and check; if one of them
 *                   says no, the journal takes back what was done
 */
#include "core/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const struct slice *const slices[] = {
    &session_slice, &agents_slice, &threads_slice, &messages_slice, &reading_slice,
};

enum { SLICES = sizeof(slices) / sizeof(slices[0]), SNAPSHOT_PLAIN = 2, SNAPSHOT_VERSION = 3 };

_Static_assert(CORE_TYPE_COUNT <= 32, "struct slice holds its types in 32 bits");
_Static_assert(CORE_FIELD_COUNT <= 64, "core_fields.given has 64 bits");

/* The same by type. */
static const struct slice *const slices_by_type[CORE_TYPE_COUNT] = {
    [CORE_SESSION_CREATE] = &session_slice, [CORE_SESSION_UPDATE] = &session_slice,
    [CORE_SESSION_CLOSE] = &session_slice,  [CORE_SESSION_FORK] = &session_slice,
    [CORE_AGENT_REGISTER] = &agents_slice,  [CORE_AGENT_UPDATE] = &agents_slice,
    [CORE_AGENT_LEAVE] = &agents_slice,     [CORE_THREAD_CREATE] = &threads_slice,
    [CORE_THREAD_ADD] = &threads_slice,     [CORE_THREAD_REMOVE] = &threads_slice,
    [CORE_THREAD_CLOSE] = &threads_slice,   [CORE_MESSAGE_SEND] = &messages_slice,
    [CORE_THREAD_READ] = &reading_slice,    [CORE_INBOX_ACK] = &reading_slice,
    [CORE_AGENT_WAKE] = &agents_slice,      [CORE_AGENT_WAKE_REPORT] = &agents_slice,
};

static const struct slice *slice_of(enum core_type type)
{
    assert(type < CORE_TYPE_COUNT && slices_by_type[type] != NULL);
    return slices_by_type[type];
}

/* ---- a session's life */

static void *malloc_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return mem_alloc(size);
}

static void malloc_free(void *ctx, void *p, size_t size)
{
    (void)ctx;
    (void)size;
    free(p);
}

const struct core_heap core_heap_malloc = {.alloc = malloc_alloc, .free = malloc_free};

struct core_session *core_session_new(const struct core_heap *heap,
                                      const struct core_limits *limits, struct str id,
                                      struct str epoch)
{
    assert(core_session_id_valid(id) && epoch.n <= CORE_EPOCH_BYTES);
    struct core_session *s = heap->alloc(heap->ctx, sizeof(*s) + id.n + epoch.n);
    char *at = (char *)(s + 1);
    *s = (struct core_session){.heap = heap, .limits = limits, .made_id_n = (uint8_t)id.n};
    s->id = (struct str){memcpy(at, id.p, id.n), id.n};
    s->epoch = (struct str){at + id.n, epoch.n};
    if (epoch.n != 0)
        memcpy(at + id.n, epoch.p, epoch.n);
    return s;
}

void core_session_free(struct core_session *s)
{
    if (s->journal.active)
        journal_end(s);
    for (int i = 0; i < SLICES; i++) {
        if (slices[i]->release != NULL)
            slices[i]->release(s);
    }
    s->heap->free(s->heap->ctx, s, sizeof(*s) + s->made_id_n + s->epoch.n);
}

uint64_t core_session_seq(const struct core_session *s)
{
    return s->now.seq;
}

int64_t core_session_ts_ms(const struct core_session *s)
{
    return s->now.ts_ms;
}

struct str core_session_id(const struct core_session *s)
{
    return s->id;
}

struct str core_session_epoch(const struct core_session *s)
{
    return s->epoch;
}

bool core_session_closed(const struct core_session *s)
{
    return s->closed;
}

int64_t core_session_created_ms(const struct core_session *s)
{
    return s->created_ms;
}

uint64_t core_session_ttl_s(const struct core_session *s)
{
    return s->ttl_s;
}

const struct core_labels *core_session_labels(const struct core_session *s)
{
    return &s->labels;
}

bool core_session_has_agent(const struct core_session *s, struct str agent)
{
    return agent_find(s, agent) != NULL;
}

bool core_session_has_thread(const struct core_session *s, struct str thread)
{
    return thread_find(s, thread) != NULL;
}

/* ---- refusals */

enum core_decision refuse(const struct deciding *d, enum core_error code, const char *field,
                          const char *format, ...)
{
    va_list args;
    *d->why = (struct core_refusal){.code = code, .field = field, .seq = d->s->now.seq};
    va_start(args, format);
    vsnprintf(d->why->detail, sizeof(d->why->detail), format, args);
    va_end(args);
    return CORE_REFUSED;
}

enum core_decision refuse_unknown_thread(const struct deciding *d)
{
    return refuse(d, CORE_E_UNKNOWN_THREAD, "thread", "There is no thread \"%.*s\" in the session.",
                  ID_PRINTF(d->command->f.thread));
}

enum core_decision refuse_unknown_agent(const struct deciding *d, const char *field, struct str id)
{
    return refuse(d, CORE_E_UNKNOWN_AGENT, field, "There is no agent \"%.*s\" in the session.",
                  ID_PRINTF(id));
}

enum core_decision refuse_closed_thread(const struct deciding *d)
{
    return refuse(d, CORE_E_REFUSED, "thread", "The thread \"%.*s\" is closed.",
                  ID_PRINTF(d->command->f.thread));
}

enum core_decision refuse_outsider(const struct deciding *d, const char *field, struct str id)
{
    return refuse(d, CORE_E_REFUSED, field,
                  "The agent \"%.*s\" is not a participant of the thread \"%.*s\".", ID_PRINTF(id),
                  ID_PRINTF(d->command->f.thread));
}

enum core_decision refuse_too_many_labels(const struct deciding *d, uint32_t count)
{
    return refuse(d, CORE_E_REFUSED, "labels", "There may be %u labels, not %u.",
                  limit_of(d->s, CORE_LIMIT_LABELS), count);
}

int broken(struct core_refusal *why, const char *what)
{
    snprintf(why->detail, sizeof(why->detail), "An invariant of the session would break: %s.",
             what);
    return -1;
}

/* ---- decide */

struct str made_id(struct arena *scratch, char letter, uint64_t seq)
{
    return core_made_id(letter, seq, arena_alloc(scratch, CORE_MADE_ID_BYTES));
}

struct str core_made_id(char letter, uint64_t seq, char scratch[CORE_MADE_ID_BYTES])
{
    char *end = scratch + CORE_MADE_ID_BYTES;
    char *p = end;
    do {
        *--p = (char)('0' + seq % 10);
        seq /= 10;
    } while (seq != 0);
    *--p = letter;
    return (struct str){p, (size_t)(end - p)};
}

struct core_fields *event_from_command(const struct deciding *d)
{
    memcpy(&d->event->f, &d->command->f, large_size(sizeof(d->event->f)));
    return &d->event->f;
}

/* Names the first required field that the command lacks. */
static enum core_decision refuse_incomplete(const struct deciding *d)
{
    const struct core_type_spec *spec = core_type_spec(d->command->type);
    const struct core_field_spec *field = spec->command_fields;
    while (!(field->flags & FIELD_REQUIRED) || given(&d->command->f, field->field))
        field++;
    return refuse(d, CORE_E_MALFORMED, field->name, "The field \"%s\" is required by %s.",
                  field->name, spec->command_name);
}

static bool works_when_closed(enum core_type type)
{
    return type == CORE_SESSION_CLOSE || type == CORE_THREAD_READ || type == CORE_INBOX_ACK ||
           type == CORE_SESSION_FORK;
}

enum core_decision core_decide(const struct core_session *s, const struct core_command *command,
                               int64_t now_ms, struct arena *scratch, struct core_event *event,
                               struct core_refusal *why)
{
    struct deciding d = {
        .s = s, .command = command, .scratch = scratch, .event = event, .why = why};
    if ((core_type_spec(command->type)->command_required & ~command->f.given) != 0)
        return refuse_incomplete(&d);
    if (s->now.seq == 0 && command->type != CORE_SESSION_CREATE)
        return refuse(&d, CORE_E_UNKNOWN_SESSION, NULL, "There is no session \"%.*s\".",
                      ID_PRINTF(s->id));
    if (s->closed && !works_when_closed(command->type))
        return refuse(&d, CORE_E_REFUSED, NULL, "The session \"%.*s\" is closed.",
                      ID_PRINTF(s->id));
    event->type = command->type;
    event->seq = s->now.seq + 1;
    event->ts_ms = now_ms > s->now.ts_ms ? now_ms : s->now.ts_ms;
    return slice_of(command->type)->decide(&d);
}

/* ---- apply */

void core_break_invariant_for_test(struct core_session *s, enum core_type type)
{
    s->break_next = type;
}

/* What must hold before any event may be applied. */
static int check_event(const struct core_session *s, const struct core_event *event,
                       struct core_refusal *why)
{
    if (event->type <= CORE_TYPE_NONE || event->type >= CORE_TYPE_COUNT)
        return broken(why, "the event has no known type");
    if (event->seq != s->now.seq + 1)
        return broken(why, "the event's seq does not follow");
    if (event->ts_ms < s->now.ts_ms || event->ts_ms > TIME_MAX_MS)
        return broken(why, "the event's time runs backwards or too far ahead");
    if ((event->type == CORE_SESSION_CREATE) != (s->now.seq == 0))
        return broken(why, "a session is created once, and first");
    if (s->closed && (!works_when_closed(event->type) || event->type == CORE_SESSION_CLOSE))
        return broken(why, "the session is closed");
    return 0;
}

static int apply_and_check(struct core_session *s, const struct core_event *event,
                           struct core_refusal *why)
{
    const struct slice *slice = slice_of(event->type);
    journal_save(s, &s->now, sizeof(s->now));
    s->now.seq = event->seq;
    s->now.ts_ms = event->ts_ms;
    if (slice->apply(s, event, why) != 0)
        return -1;
    if (s->break_next == event->type) {
        s->break_next = CORE_TYPE_NONE;
        state_set(s, s->now.seq, s->now.seq + 1);
    }
    if (s->now.seq != event->seq || s->now.ts_ms != event->ts_ms)
        return broken(why, "the session does not stand at the event");
    return slice->check(s, event, why);
}

int core_apply(struct core_session *s, const struct core_event *event, struct core_refusal *why)
{
    bool alone = !s->journal.active;
    if (alone)
        journal_begin(s);
    uint64_t seq = s->now.seq;
    size_t mark = s->journal.n;
    int result = check_event(s, event, why);
    if (result == 0)
        result = apply_and_check(s, event, why);
    if (result != 0) {
        journal_rewind(s, mark);
        why->code = CORE_E_INVARIANT;
        why->field = NULL;
        why->seq = seq;
    }
    if (alone)
        journal_end(s);
    return result;
}

/* ---- JSON */

static void view(const struct core_session *s, const struct core_parts *parts,
                 enum message_form form, struct buf *out)
{
    struct viewing v = {.s = s, .parts = parts, .form = form, .out = out};
    buf_add_byte(out, '{');
    for (int i = 0; i < SLICES; i++) {
        if (slices[i]->view != NULL)
            slices[i]->view(&v);
    }
    buf_add_byte(out, '}');
}

void core_view_parts(const struct core_session *s, const struct core_parts *parts, bool compact,
                     struct buf *out)
{
    view(s, parts, compact ? MESSAGE_COMPACT : MESSAGE_FULL, out);
}

void core_view_outline(const struct core_session *s, const struct core_parts *parts,
                       struct buf *out)
{
    view(s, parts, MESSAGE_COUNTED, out);
}

void core_view(const struct core_session *s, struct buf *out)
{
    core_view_parts(s, NULL, false, out);
}

void core_event_patch(const struct core_event *event, struct buf *out)
{
    buf_add_byte(out, '[');
    slice_of(event->type)->patch(event, out);
    buf_add_byte(out, ']');
}

void core_event_patch_compact(const struct core_event *event, struct buf *out)
{
    if (event->type != CORE_MESSAGE_SEND) { /* no other shows messages */
        core_event_patch(event, out);
        return;
    }
    buf_add_byte(out, '[');
    messages_patch(event, MESSAGE_COMPACT, out);
    buf_add_byte(out, ']');
}

void core_diff(const struct core_session *from, const struct core_session *to, struct buf *out)
{
    struct arena scratch = {0};
    struct diffing d = {.from = from, .to = to, .scratch = &scratch, .out = out};
    buf_add_byte(out, '[');
    for (int i = 0; i < SLICES; i++) {
        if (slices[i]->diff != NULL)
            slices[i]->diff(&d);
    }
    buf_add_byte(out, ']');
    arena_free(&scratch);
}

struct str core_event_made(const struct core_event *event, char scratch[CORE_MADE_ID_BYTES])
{
    switch (event->type) {
    case CORE_SESSION_CREATE:
    case CORE_SESSION_FORK:
        return event->f.session;
    case CORE_AGENT_REGISTER:
        return event->f.fresh ? event->f.agent : (struct str){0};
    case CORE_THREAD_CREATE:
        return event->f.thread;
    case CORE_MESSAGE_SEND:
        return core_made_id('m', event->seq, scratch);
    default:
        return (struct str){0};
    }
}

/* ---- what an event is about */

static bool ids_have(const struct core_ids *ids, struct str id)
{
    for (uint32_t i = 0; i < ids->n; i++) {
        if (str_equal(ids->items[i], id))
            return true;
    }
    return false;
}

bool core_event_of_agent(const struct core_event *event, struct str agent)
{
    const struct core_fields *f = &event->f;
    return str_equal(f->agent, agent) || str_equal(f->creator, agent) || str_equal(f->by, agent) ||
           str_equal(f->sender, agent) || ids_have(&f->participants, agent) ||
           ids_have(&f->mentions, agent);
}

bool core_event_of_thread(const struct core_event *event, struct str thread)
{
    const struct core_fields *f = &event->f;
    for (uint32_t i = 0; i < f->readings_n; i++) {
        if (str_equal(f->readings[i].thread, thread))
            return true;
    }
    return str_equal(f->thread, thread) || ids_have(&f->threads, thread);
}

/* ---- snapshots */

void core_snapshot_encode(const struct core_session *s, struct buf *out)
{
    buf_add_byte(out, s->attended != 0 ? SNAPSHOT_VERSION : SNAPSHOT_PLAIN);
    for (int i = 0; i < SLICES; i++)
        slices[i]->encode(s, out);
}

int core_snapshot_decode(struct core_session *s, struct str in)
{
    assert(s->now.seq == 0 && !s->journal.active);
    if (in.n == 0)
        return -1;
    struct arena scratch = {0};
    struct reader reader = {.p = in.p, .end = in.p + in.n};
    reader.version = (uint8_t)*reader.p++;
    if (reader.version != SNAPSHOT_VERSION && reader.version != SNAPSHOT_PLAIN)
        return -1;
    for (int i = 0; i < SLICES && !reader.failed; i++) {
        slices[i]->decode(s, &reader, &scratch);
        arena_reset(&scratch);
    }
    arena_free(&scratch);
    return reader.failed || reader.p != reader.end || s->now.seq == 0 ? -1 : 0;
}

struct core_hash core_state_hash(const struct core_session *s)
{
    struct buf bytes = {0};
    core_snapshot_encode(s, &bytes);
    XXH128_hash_t hash = XXH3_128bits(bytes.p, bytes.n);
    buf_free(&bytes);
    return (struct core_hash){.low = hash.low64, .high = hash.high64};
}
