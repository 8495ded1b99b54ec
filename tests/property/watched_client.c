#define ATOLL_WATCHED_TEST
#include "tests/property/watched.h"

#include "tests/property/watched_client.h"

#include "server/feed.h"

struct client_counts client_counts;

/* ---- frontends */

struct watched_frontend {
    struct frontend frontend;
    struct frontend_shared shared;
    struct frontend_figures figures;
};

struct frontend *watched_frontend_new(struct reactor *reactor, struct mailbox *mailbox,
                                      const struct core_limits *limits)
{
    struct watched_frontend *made = aligned_alloc(_Alignof(struct watched_frontend), sizeof(*made));
    memset(made, 0, sizeof(*made));
    feeds_init(&made->frontend.feeds);
    made->shared.limits = limits;
    made->frontend.shared = &made->shared;
    made->frontend.figures = &made->figures;
    made->frontend.reactor = reactor;
    made->frontend.mailbox = mailbox;
    return &made->frontend;
}

void watched_frontend_work(struct frontend *frontend)
{
    timers_run(&frontend->timers, frontend_now_ms(frontend));
    feeds_work(frontend);
    outbox_flush(&frontend->outbox, frontend->mailbox);
}

bool watched_frontend_rests(const struct frontend *frontend)
{
    return mailbox_outstanding(frontend->mailbox) == 0 && !mailbox_pending(frontend->mailbox) &&
           frontend->outbox.first == NULL && frontend->timers.n == 0 &&
           TAILQ_EMPTY(&frontend->feeds.beginning);
}

void watched_frontend_free(struct frontend *frontend)
{
    assert_int_equal(frontend->feeds.feeds_n, 0);
    assert_int_equal(frontend->feeds.tokens.used, 0);
    assert_int_equal(frontend->feeds.asks.used, 0);
    feeds_free(&frontend->feeds);
    timers_free(&frontend->timers);
    composed_free(&frontend->composed);
    free((struct watched_frontend *)frontend);
}

int64_t watched_clock_ns(void)
{
    static int64_t now_ns;
    return now_ns += OUTLET_SLICE_NS / 3;
}

/* ---- clients */

static const char too_slow[] = "the connection takes less than the session gives";

static void wrong(const struct client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

static void wrong(const struct client *client, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    const struct watcher *watcher = &client->watcher;
    if (client->state == CLIENT_BEGUN)
        print_error(
            "its watcher is in state %d and has told %llu; its feed is of %.*s-%llu%s%s; "
            "it stands at %lld%s, of %llu\n",
            watcher->state, (unsigned long long)watcher->told, (int)watcher_epoch(watcher).n,
            watcher_epoch(watcher).p, (unsigned long long)watcher->feed->last_seq,
            watcher->feed->attached ? "" : ", detached", watcher->feed->ended ? ", ended" : "",
            watcher->at != NULL ? (long long)watcher->at->last_seq : -1,
            watcher->at != NULL && watcher->at->gone ? ", gone" : "",
            (unsigned long long)watcher->feed->newest->last_seq);
    print_error("client %u of %s (form %u, view %u, framing %d, types %x, %s), which came with %d "
                "(%s-%llu) and has %s-%llu: %s\n",
                client->number, client->session, client->form, client->view, (int)client->framing,
                client->types, client->refill ? "stream" : "socket", (int)client->position,
                client->base_epoch, (unsigned long long)client->base_seq, client->epoch,
                (unsigned long long)client->told, text);
    fail();
    abort();
}

/* ---- reading text */

struct message {
    char event[16];
    char id[FRAMING_ID_BYTES + 1]; /* "": none */
    json_t *data;
};

/* Takes what stands before `end` off *rest. */
static struct str take_until(const struct client *client, struct str *rest, const char *end)
{
    const char *at = rest->n != 0 ? memmem(rest->p, rest->n, end, strlen(end)) : NULL;
    if (at == NULL)
        wrong(client, "the text ends too early: %.*s", (int)rest->n, rest->p);
    struct str piece = {rest->p, (size_t)(at - rest->p)};
    rest->p += piece.n + strlen(end);
    rest->n -= piece.n + strlen(end);
    return piece;
}

static bool take_word(struct str *rest, const char *word)
{
    size_t n = strlen(word);
    if (rest->n < n || memcmp(rest->p, word, n) != 0)
        return false;
    rest->p += n;
    rest->n -= n;
    return true;
}

static void set_text_of(const struct client *client, char *to, size_t size, struct str text)
{
    if (text.n >= size)
        wrong(client, "too long: %.*s", (int)text.n, text.p);
    memcpy(to, text.p, text.n);
    to[text.n] = '\0';
}

static json_t *object_of(const struct client *client, struct str text)
{
    json_error_t error;
    json_t *tree = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(tree))
        wrong(client, "%s in %.*s", error.text, (int)text.n, text.p);
    return tree;
}

static void read_sse(const struct client *client, struct str *rest, struct message *message)
{
    if (!take_word(rest, "event: "))
        wrong(client, "no event: %.*s", (int)rest->n, rest->p);
    set_text_of(client, message->event, sizeof(message->event), take_until(client, rest, "\n"));
    if (take_word(rest, "id: "))
        set_text_of(client, message->id, sizeof(message->id), take_until(client, rest, "\n"));
    if (!take_word(rest, "data: "))
        wrong(client, "no data: %.*s", (int)rest->n, rest->p);
    struct str data = take_until(client, rest, "\n\n");
    if (memchr(data.p, '\n', data.n) != NULL)
        wrong(client, "data of more than one line: %.*s", (int)data.n, data.p);
    message->data = object_of(client, data);
}

static size_t ws_length(const struct client *client, struct str *rest)
{
    const unsigned char *p = (const unsigned char *)rest->p;
    if (rest->n < 2 || p[0] != 0x81 || p[1] > 127)
        wrong(client, "no unmasked text frame: %.*s", (int)rest->n, rest->p);
    size_t more = p[1] < 126 ? 0 : p[1] == 126 ? 2 : 8, n = more == 0 ? p[1] : 0;
    if (rest->n < 2 + more)
        wrong(client, "a cut head");
    for (size_t i = 0; i < more; i++)
        n = n << 8 | p[2 + i];
    if ((more == 2 && n < 126) || (more == 8 && n <= UINT16_MAX))
        wrong(client, "a length of %zu in %zu bytes", n, more);
    rest->p += 2 + more;
    rest->n -= 2 + more;
    return n;
}

/* Takes a member that framing has added. */
static bool take_member(const struct client *client, json_t *data, const char *name, char *to,
                        size_t size)
{
    const char *text = json_string_value(json_object_get(data, name));
    if (text == NULL)
        return false;
    set_text_of(client, to, size, str_of(text));
    json_object_del(data, name);
    return true;
}

static void read_ws(const struct client *client, struct str *rest, struct message *message)
{
    size_t n = ws_length(client, rest);
    if (rest->n < n)
        wrong(client, "a cut frame");
    message->data = object_of(client, (struct str){rest->p, n});
    rest->p += n;
    rest->n -= n;
    if (!take_member(client, message->data, "event", message->event, sizeof(message->event)))
        wrong(client, "no event");
    take_member(client, message->data, "id", message->id, sizeof(message->id));
}

static void read_message(const struct client *client, struct str *rest, struct message *message)
{
    char session[CORE_ID_BYTES + 1] = "";
    bool many = client->framing == FRAMING_SSE_MANY || client->framing == FRAMING_WS_MANY;
    *message = (struct message){0};
    if (client->framing == FRAMING_WS || client->framing == FRAMING_WS_MANY)
        read_ws(client, rest, message);
    else
        read_sse(client, rest, message);
    if (many && (!take_member(client, message->data, "session", session, sizeof(session)) ||
                 strcmp(session, client->session) != 0))
        wrong(client, "of session \"%s\"", session);
}

static uint64_t number_in(const struct client *client, const json_t *data, const char *name)
{
    json_t *value = json_object_get(data, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        wrong(client, "no %s in %s", name, json_dumps(data, 0));
    return (uint64_t)json_integer_value(value);
}

static const char *text_in(const struct client *client, const json_t *data, const char *name)
{
    const char *text = json_string_value(json_object_get(data, name));
    if (text == NULL)
        wrong(client, "no %s in %s", name, json_dumps(data, 0));
    return text;
}

/* ---- what it may be told */

static void set_epoch(struct client *client, struct str epoch)
{
    set_text_of(client, client->epoch, sizeof(client->epoch), epoch);
}

static const struct life *life_of(const struct client *client)
{
    const struct life *life = truth_life(client->session, str_of(client->epoch));
    if (life == NULL)
        wrong(client, "there was no such life");
    return life;
}

static void fold_from(struct client *client, json_t *tree)
{
    if (client->folded != NULL)
        json_decref(client->folded);
    client->folded = tree;
}

static void expect_true_fold(const struct client *client, const char *what)
{
    const struct life *life = life_of(client);
    if (client->told > life->seq)
        wrong(client, "%s of the future", what);
    json_t *expected = truth_view(life, client->told, client->view);
    if (!json_equal(expected, client->folded))
        wrong(client, "%s: it has\n%s\nand should have\n%s", what,
              json_dumps(client->folded, JSON_SORT_KEYS), json_dumps(expected, JSON_SORT_KEYS));
    json_decref(expected);
}

static void expect_id(struct client *client, const struct message *message, uint64_t seq)
{
    char expected[FRAMING_ID_BYTES + 1], scratch[FRAMING_VIEW_BYTES];
    struct str view = framing_view(client->form, truth_parts[client->view / 2], NULL, scratch);
    bool has_id = client->framing != FRAMING_SSE_MANY;
    snprintf(expected, sizeof(expected), "%s-%llu-%.*s", client->epoch, (unsigned long long)seq,
             (int)view.n, view.p);
    if (strcmp(message->id, has_id ? expected : "") != 0)
        wrong(client, "its id is \"%s\", not \"%s\"", message->id, has_id ? expected : "");
    snprintf(client->id, sizeof(client->id), "%s", expected);
}

/* Why a snapshot has come, and whether that can be. */
static void expect_reset(struct client *client, const char *reset, const char *epoch, uint64_t seq)
{
    bool first = client->messages == 0;
    bool allowed = false;
    if (reset == NULL)
        allowed =
            first && (client->position == POSITION_NONE || client->position == POSITION_KNOWN);
    else if (strcmp(reset, too_slow) == 0)
        allowed = true;
    else if (strcmp(reset, "not an id of this stream") == 0)
        allowed = first && client->position == POSITION_GARBAGE;
    else if (strcmp(reset, "an id of another view") == 0)
        allowed = first && client->asks_anew;
    else if (strncmp(reset, "another epoch", 13) == 0)
        allowed = strcmp(first ? client->base_epoch : client->epoch, epoch) != 0;
    else if (strcmp(reset, "a seq that the session has not reached") == 0)
        allowed = first && client->base_seq > seq;
    if (!allowed)
        wrong(client, "a snapshot of %s-%llu with reset %s", epoch, (unsigned long long)seq,
              reset != NULL ? reset : "missing");
    client_counts.snapshots++;
    client_counts.resets += reset != NULL;
    client_counts.slow += reset != NULL && strcmp(reset, too_slow) == 0;
}

static void take_snapshot(struct client *client, const struct message *message)
{
    const char *epoch = text_in(client, message->data, "epoch");
    uint64_t seq = number_in(client, message->data, "seq");
    json_t *state = json_object_get(message->data, "state");

    if (client->form == WANTS_EVENTS)
        wrong(client, "a snapshot among events");
    expect_reset(client, json_string_value(json_object_get(message->data, "reset")), epoch, seq);
    if (client->messages != 0 && strcmp(client->epoch, epoch) == 0 && seq < client->told)
        wrong(client, "back to %llu", (unsigned long long)seq);
    set_epoch(client, str_of(epoch));
    client->told = seq;
    fold_from(client, json_incref(state));
    expect_id(client, message, seq);
    expect_true_fold(client, "a snapshot");
}

/* Before the first patch: what it says it has. */
static void take_base(struct client *client)
{
    if (!client->base_good)
        wrong(client, "a patch without anything to patch");
    if (client->base_epoch[0] != '\0' && strcmp(client->base_epoch, client->epoch) != 0)
        wrong(client, "a patch on the state of another life");
    client->told = client->base_seq;
    if (client->position != POSITION_OWN || client->folded == NULL)
        fold_from(client, truth_view(life_of(client), client->told, client->view));
    client_counts.resumed++;
}

static void take_patch(struct client *client, const struct message *message)
{
    uint64_t seq = number_in(client, message->data, "seq");
    json_t *from = json_object_get(message->data, "from");
    json_t *ops = json_object_get(message->data, "ops"), *op;
    bool merged = strcmp(text_in(client, message->data, "type"), "merged") == 0;
    size_t i;

    if (client->messages == 0)
        take_base(client);
    if ((client->view >= 2 || merged) != (from != NULL))
        wrong(client, "%s `from`", from != NULL ? "with" : "without");
    if (from != NULL
            ? number_in(client, message->data, "from") != client->told + 1 || seq <= client->told
            : seq != client->told + 1)
        wrong(client, "a patch from %lld to %llu", (long long)json_integer_value(from),
              (unsigned long long)seq);
    json_array_foreach (ops, i, op)
        apply_operation(client->folded, op);
    if (client->view >= 2 && json_array_size(ops) == 0)
        wrong(client, "nothing was to be told");
    client->told = seq;
    client_counts.patches++;
    client_counts.merged += merged;
    client_counts.narrowed += client->view >= 2;
    expect_id(client, message, seq);
    expect_true_fold(client, "a patch");
}

/* Whether there is none that it wants in (after, upto]. */
static bool none_between(const struct client *client, const struct life *life, uint64_t after,
                         uint64_t upto)
{
    for (uint64_t seq = after + 1; seq <= upto; seq++)
        if (truth_has_type(life, seq, client->types))
            return false;
    return true;
}

static void take_event(struct client *client, const struct message *message)
{
    struct framing_position position;
    uint64_t seq = number_in(client, message->data, "seq");

    if (client->form != WANTS_EVENTS || !framing_parse_id(str_of(message->id), &position))
        wrong(client, "an event with the id \"%s\"", message->id);
    if (!str_equal(position.epoch, str_of(client->epoch))) {
        const struct life *before = life_of(client);
        if (!before->deleted)
            wrong(client, "an event of another life, and this one goes on");
        set_epoch(client, position.epoch);
        client->told = 0;
    }
    const struct life *life = life_of(client);
    if (seq <= client->told || seq > life->seq || !truth_has_type(life, seq, client->types) ||
        !none_between(client, life, client->told, seq - 1))
        wrong(client, "event %llu is not the next", (unsigned long long)seq);
    json_t *expected = object_of(client, str_of(life->truths[seq].event));
    if (!json_equal(expected, message->data))
        wrong(client, "event %llu is %s and should be %s", (unsigned long long)seq,
              json_dumps(message->data, 0), life->truths[seq].event);
    json_decref(expected);
    client->told = seq;
    client_counts.events++;
    expect_id(client, message, seq);
}

static void take_end(struct client *client, const struct message *message)
{
    const char *epoch = text_in(client, message->data, "epoch");
    const struct life *life = truth_life(client->session, str_of(epoch));
    uint64_t seq = number_in(client, message->data, "seq");

    if (life == NULL || !life->deleted)
        wrong(client, "the end of %s, which goes on", epoch);
    bool same = strcmp(client->epoch, epoch) == 0;
    if (!same && !life_of(client)->deleted)
        wrong(client, "the end of %s", epoch);
    if (seq > life->seq || (same && client->messages != 0 && seq < client->told) ||
        strcmp(text_in(client, message->data, "reason"), "deleted") != 0 || message->id[0] != '\0')
        wrong(client, "the end of %s-%llu at %llu with the id \"%s\"", epoch,
              (unsigned long long)life->seq, (unsigned long long)seq, message->id);
    client->ended = true;
    client_counts.ends++;
}

static void take_message(struct client *client, const struct message *message)
{
    if (client->ended)
        wrong(client, "%s after the end", message->event);
    if (strcmp(message->event, "snapshot") == 0)
        take_snapshot(client, message);
    else if (strcmp(message->event, "patch") == 0)
        take_patch(client, message);
    else if (strcmp(message->event, "event") == 0)
        take_event(client, message);
    else if (strcmp(message->event, "end") == 0)
        take_end(client, message);
    else
        wrong(client, "an event \"%s\"", message->event);
    client->messages++;
}

static void take_text(struct client *client)
{
    struct str rest = buf_str(&client->text);
    struct message message;
    while (rest.n != 0) {
        read_message(client, &rest, &message);
        take_message(client, &message);
        json_decref(message.data);
    }
    client->text.n = 0;
}

/* ---- its outlet */

static struct client *client_at(struct outlet *outlet)
{
    return outlet->owner;
}

void watched_push(struct outlet *outlet, struct chunk *chunk, struct str text)
{
    struct client *client = client_at(outlet);
    assert_true(client->filling);
    assert_true(text.p >= chunk->p && text.p + text.n <= chunk->p + chunk->n);
    buf_add_str(&client->text, text);
    outlet->pieces_n++;
    outlet->bytes += text.n;
    chunk_release(chunk);
}

void client_fill(struct client *client, uint32_t pieces, size_t bytes)
{
    struct outlet *outlet = &client->outlet;
    uint32_t before = OUTLET_WRITE_CHUNKS - pieces;

    outlet->pieces_n = before;
    outlet->bytes = OUTLET_WRITE_BYTES - bytes;
    client->filling = true;
    bool more = watcher_fill(&client->watcher, outlet);
    client->filling = false;
    client->woken = client->refill ? outlet->pieces_n != before : more;
    take_text(client);
    if (watcher_ended(&client->watcher) != client->ended)
        wrong(client, "its watcher has%s ended", client->ended ? " not" : "");
    if (client->ended && client->number % 2 == 0)
        client_close(client);
}

/* ---- its watcher */

static void on_ready(struct watcher *watcher)
{
    struct client *client = watcher->owner;
    if (client->state != CLIENT_BEGUN)
        wrong(client, "ready before it has begun");
    client->woken = true;
}

/* Events have no snapshot: whoever names no position begins where the session stands, and whoever
 * names one of another life at its beginning. */
static void begin_events(struct client *client)
{
    if (client->position == POSITION_NONE)
        client->told = client->watcher.told;
    else if (client->base_epoch[0] != '\0' && strcmp(client->base_epoch, client->epoch) != 0)
        client->told = 0;
    else
        client->told = client->base_seq;
}

static void on_begun(struct watcher *watcher)
{
    struct client *client = watcher->owner;
    client->state = CLIENT_BEGUN;
    client->woken = true; /* the head is out: outlets are filled then */
    set_epoch(client, watcher_epoch(watcher));
    if (client->form == WANTS_EVENTS)
        begin_events(client);
    if (client->closes_begun)
        client_close(client);
}

static void on_refused(struct watcher *watcher, unsigned error, const struct core_refusal *why)
{
    struct client *client = watcher->owner;
    if (client->state != CLIENT_OPEN || error != CORE_E_UNKNOWN_SESSION)
        wrong(client, "refused: %s", why->detail);
    client->state = CLIENT_REFUSED;
    client_counts.refused++;
    if (client->number % 2 == 0)
        client_close(client);
}

static const struct watcher_ops watcher_ops = {
    .ready = on_ready, .begun = on_begun, .refused = on_refused};

/* ---- coming and going */

static enum position a_position(struct generator *g, const struct client *client,
                                const struct client *other, const struct known *known)
{
    enum position position = below(g, POSITION_COUNT);
    bool has = client->epoch[0] != '\0';
    if (position == POSITION_OWN && client->id[0] != '\0' && percent(g, 50))
        return position;
    if (position == POSITION_FOREIGN && other->id[0] == '\0')
        position = POSITION_GARBAGE;
    if (position == POSITION_KNOWN && (!known->good || client->form == WANTS_EVENTS))
        position = POSITION_NONE;
    if (position == POSITION_OWN && client->id[0] == '\0')
        position = POSITION_NONE;
    if (position == POSITION_OWN_AFTER && !has)
        position = POSITION_AFTER;
    return position;
}

static void set_base(struct client *client, struct str epoch, uint64_t seq)
{
    set_text_of(client, client->base_epoch, sizeof(client->base_epoch), epoch);
    client->base_seq = seq;
    client->base_good = true;
}

static struct str some_garbage(struct generator *g)
{
    static const char *const ids[] = {
        "-",    "x",       "1-2",      "--2",   "k-99999999999999999999-2",
        "k-5-", "a-b-5-2", "\x01-5-2", "k-x-2", "5"};
    return str_of(ids[below(g, sizeof(ids) / sizeof(ids[0]))]);
}

/* With the id of somebody who may watch another session, in another view, in another life. */
static void come_as(struct client *client, const struct client *other, struct watcher_wish *wish)
{
    struct framing_position position;
    char scratch[FRAMING_VIEW_BYTES];
    wish->last_event_id = str_of(other->id);
    if (!framing_parse_id(wish->last_event_id, &position))
        wrong(other, "its id \"%s\" cannot be read", other->id);
    struct str view = framing_view(client->form, truth_parts[client->view / 2], NULL, scratch);
    set_base(client, position.epoch, position.seq);
    client->asks_anew = client->form != WANTS_EVENTS && !str_equal(position.view, view);
    client->base_good = !client->asks_anew;
}

static void take_up_position(struct client *client, struct generator *g, const struct client *other,
                             const struct known *known, struct watcher_wish *wish)
{
    const struct life *life = truth_newest(client->session);
    client->base_epoch[0] = '\0';
    client->base_seq = 0;
    client->base_good = client->asks_anew = false;
    switch (client->position) {
    case POSITION_OWN:
        come_as(client, client, wish);
        break;
    case POSITION_FOREIGN:
        come_as(client, other, wish);
        break;
    case POSITION_OWN_AFTER:
    case POSITION_AFTER:
        wish->has_after = true;
        wish->after = client->position == POSITION_OWN_AFTER
                          ? client->told
                          : below(g, (life != NULL ? (uint32_t)life->seq : 0) + 4);
        set_base(client, STR(""), wish->after);
        break;
    case POSITION_GARBAGE:
        wish->last_event_id = some_garbage(g);
        break;
    case POSITION_KNOWN:
        wish->has_known = true;
        wish->known = known->position;
        set_base(client, str_of(known->epoch), known->seq);
        break;
    default:
        break;
    }
}

static void become_another(struct client *client, struct generator *g)
{
    client->form = 1u << below(g, 3);
    client->view = 0;
    client->framing = FRAMING_SSE;
    client->types = 0;
    client->epoch[0] = client->id[0] = '\0';
    if (client->form == WANTS_EVENTS) {
        for (uint32_t n = below(g, 4); n != 0; n--)
            client->types |= 1u << below(g, CORE_TYPE_COUNT);
    } else {
        client->framing = (enum watcher_framing)below(g, FRAMING_COUNT);
        client->view =
            (percent(g, 50) ? 0 : 2 * below(g, PARTS_SETS)) + (client->form == WANTS_COMPACT);
    }
    fold_from(client, NULL);
}

bool client_open(struct client *client, struct frontend *frontend, struct generator *g,
                 const struct client *other, const struct known *known)
{
    if (client->form == 0 || percent(g, 40))
        become_another(client, g);
    struct watcher_wish wish = {
        .session = str_of(client->session),
        .form = client->form,
        .framing = client->framing,
        .types = client->types,
        .parts = truth_parts[client->view / 2],
    };
    client->position = a_position(g, client, other, known);
    take_up_position(client, g, other, known, &wish);
    client->state = CLIENT_OPEN;
    client->woken = client->ended = false;
    client->messages = 0;
    client->refill = percent(g, 50);
    client->closes_begun = percent(g, 3);
    client->outlet = (struct outlet){.frontend = frontend, .owner = client};
    if (watcher_open(&client->watcher, frontend, &wish, &watcher_ops, client))
        return true;
    client->state = CLIENT_CLOSED;
    return false;
}

void client_close(struct client *client)
{
    watcher_close(&client->watcher);
    memset(&client->watcher, 0xa5, sizeof(client->watcher));
    client->state = CLIENT_CLOSED;
    client->woken = false;
}

void client_expect_level(struct client *client)
{
    const struct life *newest = truth_newest(client->session);
    if (client->state == CLIENT_CLOSED || client->state == CLIENT_REFUSED)
        return;
    if (client->state == CLIENT_OPEN)
        wrong(client, "it has never begun");
    if (client->ended)
        return;
    if (newest == NULL || newest->deleted || !watcher_level(&client->watcher))
        wrong(client, "not level: state %d, seq %llu%s", client->watcher.state,
              (unsigned long long)(newest != NULL ? newest->seq : 0),
              newest == NULL || newest->deleted ? ", deleted" : "");
    if (client->messages == 0 && client->form != WANTS_EVENTS)
        take_base(client);
    if (client->form == WANTS_EVENTS) {
        if (client->told <= newest->seq && !none_between(client, newest, client->told, newest->seq))
            wrong(client, "there is more, up to %llu", (unsigned long long)newest->seq);
        return;
    }
    if (strcmp(client->epoch, newest->epoch) != 0 ||
        (client->view < 2 && client->told != newest->seq))
        wrong(client, "it should have %s-%llu", newest->epoch, (unsigned long long)newest->seq);
    uint64_t told = client->told;
    client->told = newest->seq; /* what was left out changed nothing that it sees */
    expect_true_fold(client, "at rest");
    client->told = told;
}

void client_free(struct client *client)
{
    if (client->state != CLIENT_CLOSED)
        client_close(client);
    fold_from(client, NULL);
    buf_free(&client->text);
}
