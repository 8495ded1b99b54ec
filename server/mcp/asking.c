/*
 * asking: what is asked of the client: by requests on its stream, until 2025-11-25, or by a result
 * that it answers with a further try (2026-07-28).
 */
#include "server/mcp/internal.h"

#include <time.h>

/* A request of the client that has not been answered. In the call's arena. */
struct mcp_asking {
    struct timer timer;
    struct mcp_call *call;
};

/* ---- tokens in texts: 16 hexadecimal digits, as JSON's numbers would not hold them */

enum { TOKEN_DIGITS = 16 };

static const char hex_digits[] = "0123456789abcdef";

void mcp_token_write(uint64_t token, struct buf *out)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        buf_add_byte(out, hex_digits[token >> shift & 15]);
}

bool mcp_token_read(struct str text, uint64_t *token)
{
    *token = 0;
    for (size_t i = 0; i < text.n; i++) {
        const char *digit = memchr(hex_digits, text.p[i], 16);
        if (digit == NULL)
            return false;
        *token = *token << 4 | (uint64_t)(digit - hex_digits);
    }
    return text.n == TOKEN_DIGITS;
}

/* ---- requests on its stream */

void mcp_asking_forget(struct mcp_call *call)
{
    timers_clear(&call->frontend->timers, &call->asking->timer);
    call->asking = NULL;
    call->on_answer = NULL;
}

static bool client_can(const struct mcp_call *call, struct str method)
{
    if (str_equal(method, STR("sampling/createMessage")))
        return (call->client_can & MCP_CAN_SAMPLE) != 0;
    if (str_equal(method, STR("elicitation/create")))
        return (call->client_can & MCP_CAN_ELICIT) != 0;
    return str_equal(method, STR("roots/list")) && (call->client_can & MCP_CAN_LIST_ROOTS) != 0;
}

static void end_asking(struct mcp_call *call, const struct json_value *result, struct str why)
{
    mcp_on_answer *on_answer = call->on_answer;
    mcp_asking_forget(call);
    on_answer(call, result, why);
}

static void on_patience_over(struct timer *timer)
{
    struct mcp_call *call = ((struct mcp_asking *)timer)->call;
    bool stopping = call->frontend->draining_ms != 0;
    end_asking(call, NULL,
               stopping ? STR("The server is about to stop.")
                        : STR("The client did not answer in time."));
}

void mcp_asking_hurry(struct mcp_call *call)
{
    timers_set(&call->frontend->timers, &call->asking->timer, frontend_now_ms(call->frontend));
}

/* "<reactor>.<start>.<n>.<token>" */
static void write_asking_id(const struct mcp_call *call, struct buf *out)
{
    buf_add_u64(out, reactor_number(call->frontend->reactor));
    buf_add_byte(out, '.');
    buf_add(out, call->frontend->shared->start, strlen(call->frontend->shared->start));
    buf_add_byte(out, '.');
    buf_add_u64(out, call->asked);
    buf_add_byte(out, '.');
    mcp_token_write(call->token, out);
}

void mcp_ask(struct mcp_call *call, const char *method, struct str params, int64_t patience_ms,
             mcp_on_answer *on_answer)
{
    struct mcp_sink *sink = call->sink;
    struct str name = {method, strlen(method)};
    struct buf id = {0}, json = {0}, text = {0};

    assert(call->asking == NULL && !mcp_is_modern(call->version));
    call->params = NULL;
    if (sink->gone || !sink->takes_events || !client_can(call, name)) {
        on_answer(call, NULL, STR("The client cannot be asked for this."));
        return;
    }
    call->asked++;
    write_asking_id(call, &id);
    json_add_string(&json, buf_str(&id));
    rpc_write_request(&text, buf_str(&json), name, params);
    call->asking = arena_alloc(&call->arena, sizeof(*call->asking));
    *call->asking = (struct mcp_asking){.timer.fire = on_patience_over, .call = call};
    call->on_answer = on_answer;
    timers_set(&call->frontend->timers, &call->asking->timer,
               frontend_now_ms(call->frontend) + patience_ms);
    sink_say(sink, buf_str(&text));
    buf_free(&text);
    buf_free(&json);
    buf_free(&id);
}

/* Reads "<number>" up to a dot or the end. */
static bool take_number(struct str *text, uint64_t *value)
{
    const char *dot = text->n != 0 ? memchr(text->p, '.', text->n) : NULL;
    struct str digits = {text->p, dot != NULL ? (size_t)(dot - text->p) : text->n};
    if (!query_number(digits, value))
        return false;
    size_t taken = digits.n + (dot != NULL);
    *text = (struct str){text->p + taken, text->n - taken};
    return true;
}

bool mcp_read_asking(const struct frontend *frontend, struct str id, struct mcp_asking_id *out)
{
    const char *start = frontend->shared->start;
    size_t start_n = strlen(start);
    /* JSON text of a string without escapes, as we wrote it. */
    if (id.n < 2 || id.p[0] != '"')
        return false;
    struct str text = {id.p + 1, id.n - 2};
    if (!take_number(&text, &out->reactor) || text.n <= start_n ||
        memcmp(text.p, start, start_n) != 0 || text.p[start_n] != '.')
        return false;
    text = (struct str){text.p + start_n + 1, text.n - start_n - 1};
    return take_number(&text, &out->n) && mcp_token_read(text, &out->token) &&
           out->reactor < frontend->shared->frontends;
}

bool mcp_answered(struct frontend *frontend, const struct mcp_sink *sink, struct str owner,
                  const struct mcp_asking_id *id, const struct rpc_message *message)
{
    struct mcp_call *call = slots_find(&frontend->mcp.calls, id->token);

    if (call == NULL || call->asking == NULL || call->asked != id->n ||
        !str_equal(call->owner, owner) || (sink != NULL && call->sink != sink))
        return false;
    if (message->result != NULL) {
        end_asking(call, message->result, (struct str){0});
        return true;
    }
    struct str why = rpc_string(message->error, STR("message"));
    end_asking(call, NULL, why.n != 0 ? why : STR("The client refused."));
    return true;
}

/* ---- asking by result: 2026-07-28 */

/* Whom and what a state is for. Of a call at /mcp the arguments say whom, and are not read yet when
 * the state is. */
static void write_state_scope(const struct mcp_call *call, struct buf *out)
{
    if (call->bound) {
        buf_add_str(out, call->session);
        buf_add_byte(out, '\n');
        buf_add_str(out, call->agent);
    }
    buf_add_byte(out, '\n');
    buf_add_str(out, call->method);
    buf_add_byte(out, '\n');
    buf_add_str(out, call->subject);
    buf_add_byte(out, '\n');
}

static uint64_t wall_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec;
}

/* The first of the requests that the client cannot answer: as a client capability; p == NULL: it
 * can answer all. */
static struct str missing_capability(struct mcp_call *call, struct str requests)
{
    static const struct {
        struct str method, capability;
    } needs[] = {
        {{"sampling/createMessage", 22}, {"sampling", 8}},
        {{"elicitation/create", 18}, {"elicitation", 11}},
        {{"roots/list", 10}, {"roots", 5}},
    };
    const struct json_value *root;
    struct json_error error;

    int rc =
        json_parse(decoder_parser(call->frontend->decoder), &call->arena, requests, &root, &error);
    assert(rc == 0 && root->type == JSON_OBJECT); /* it is ours */
    const struct json_value *key = json_first(root);
    for (uint32_t i = 0; i < root->size; i++, key = json_next(key + 1)) {
        struct str method = rpc_string(key + 1, STR("method"));
        for (size_t j = 0; j < sizeof(needs) / sizeof(needs[0]); j++)
            if (str_equal(method, needs[j].method) && !client_can(call, method))
                return needs[j].capability;
    }
    return (struct str){0};
}

static void refuse_capability(struct mcp_call *call, struct str capability)
{
    struct buf data = {0};
    buf_add_literal(&data, "{\"requiredCapabilities\":{");
    json_add_string(&data, capability);
    buf_add_literal(&data, ":{}}}");
    mcp_error(call, MCP_E_MISSING_CAPABILITY,
              "The client did not say that it can be asked for this.", buf_str(&data));
    buf_free(&data);
}

static void add_state(struct mcp_call *call, struct str state, struct buf *out)
{
    struct buf payload = {0}, text = {0};

    write_state_scope(call, &payload);
    buf_add_u64(&payload, wall_s() + MCP_STATE_TTL_S);
    buf_add_byte(&payload, '\n');
    buf_add_str(&payload, state);
    sign_text(call->frontend->mcp.states, buf_str(&payload), &text);
    json_add_string(out, buf_str(&text));
    buf_free(&text);
    buf_free(&payload);
}

void mcp_ask_by_result(struct mcp_call *call, struct str requests, struct str state)
{
    struct buf members = {0};

    call->params = NULL;
    struct str missing = requests.n != 0 ? missing_capability(call, requests) : (struct str){0};
    if (missing.p != NULL) {
        refuse_capability(call, missing);
        return;
    }
    if (requests.n != 0) {
        buf_add_literal(&members, "\"inputRequests\":");
        buf_add_str(&members, requests);
    }
    if (state.n != 0) {
        buf_add_str(&members,
                    members.n != 0 ? STR(",\"requestState\":") : STR("\"requestState\":"));
        add_state(call, state, &members);
    }
    mcp_end(call, STR("input_required"), buf_str(&members));
    buf_free(&members);
}

bool mcp_take_state(struct mcp_call *call, struct str text)
{
    struct str payload = sign_check(call->frontend->mcp.states, text, &call->arena);
    struct buf scope = {0};
    uint64_t until_s = 0;

    write_state_scope(call, &scope);
    bool ours =
        payload.p != NULL && payload.n > scope.n && memcmp(payload.p, scope.p, scope.n) == 0;
    if (ours)
        payload = (struct str){payload.p + scope.n, payload.n - scope.n};
    buf_free(&scope);
    const char *end = ours ? memchr(payload.p, '\n', payload.n) : NULL;
    if (end == NULL ||
        !query_number((struct str){payload.p, (size_t)(end - payload.p)}, &until_s) ||
        until_s < wall_s())
        return false;
    call->request_state = (struct str){end + 1, payload.n - (size_t)(end + 1 - payload.p)};
    return true;
}
