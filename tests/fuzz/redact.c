/*
 * What a viewer is not to see. The first line: JSON Pointers with spaces between them; then lines
 * of commands. After each event the redacted patch leads from redacted view to redacted view, and
 * what is told is JSON and has none of the words that stand in hidden places alone.
 */
#include "server/redact.h"
#include "server/decode.h"
#include "server/seal.h"
#include "tests/fuzz/session.h"

static struct decoder *decoder;
static struct seal_key seal;

static void prepare(void)
{
    fuzz_limits_make();
    decoder = decoder_new(&fuzz_limits, 20, 64 * 1024);
    seal_key_init(&seal, (const uint8_t[SEAL_KEY_BYTES]){1});
    decoder_seal_with(decoder, &seal);
}

static struct redaction *read_pointers(struct str line)
{
    struct str pointers[REDACTION_POINTERS_MAX + 1];
    unsigned n = 0;
    while (n <= REDACTION_POINTERS_MAX && cut(&line, ' ', &pointers[n]))
        n++;
    struct redaction *redaction = redaction_new(pointers, n);
    assert(redaction == NULL || n <= REDACTION_POINTERS_MAX);
    return redaction;
}

static json_t *redacted_view(const struct redaction *redaction, const struct core_session *s)
{
    struct buf text = {0}, out = {0};
    buf_add_literal(&text, "{\"epoch\":\"k3x9\",\"seq\":1,\"ts\":null,\"state\":");
    core_view(s, &text);
    buf_add_byte(&text, '}');
    redact_envelope(redaction, buf_str(&text), &out);
    buf_free(&text);
    json_t *envelope = parse_ours(&out), *state = json_object_get(envelope, "state");
    assert(state != NULL);
    json_incref(state);
    json_decref(envelope);
    return state;
}

static void fold(const struct redaction *redaction, const struct core_event *event, json_t *state)
{
    struct buf text = {0}, out = {0};
    struct op_text op;
    core_event_patch(event, &text);
    struct str ops = {text.p + 1, text.n - 2};
    buf_add_byte(&out, '[');
    while (patch_next_op(&ops, &op)) {
        size_t before = out.n;
        if (out.n != 1)
            buf_add_byte(&out, ',');
        if (!redact_op(redaction, &op, &out))
            out.n = before;
    }
    buf_add_byte(&out, ']');
    json_t *patch = parse_ours(&out);
    for (size_t i = 0; i < json_array_size(patch); i++)
        apply_operation(state, json_array_get(patch, i));
    json_decref(patch);
    buf_free(&text);
}

static void tell(const struct redaction *redaction, const struct core_event *event)
{
    struct buf text = {0}, out = {0};
    core_event_json(event, &text);
    redact_event(redaction, buf_str(&text), &out);
    json_t *told = parse_ours(&out);
    assert(json_object_get(told, "seq") != NULL && json_object_get(told, "type") != NULL);
    json_decref(told);
    buf_free(&text);
}

static void apply(struct world *w, const struct redaction *redaction,
                  const struct core_command *command)
{
    struct core_event event, decoded;
    struct core_refusal why;
    struct buf bytes = {0};

    if (core_decide(w->s, command, w->now_ms, &w->scratch, &event, &why) == CORE_EVENT) {
        encode_again(w, &event, &bytes, &decoded);
        json_t *state = redacted_view(redaction, w->s);
        tell(redaction, &decoded);
        fold(redaction, &decoded, state);
        assert(core_apply(w->s, &decoded, &why) == 0);
        json_t *view = redacted_view(redaction, w->s);
        assert(json_equal(state, view));
        json_decref(state);
        json_decref(view);
    }
    buf_free(&bytes);
}

static void apply_all(struct world *w, const struct redaction *redaction, struct str lines)
{
    struct request *request = request_new_small();
    struct core_refusal why;
    request->session = STR("s1");
    if (decode_commands(decoder, lines, true, request, &why) == 0) {
        for (uint32_t i = 0; i < request->commands_n; i++) {
            if (request->commands[i].bad == NULL)
                apply(w, redaction, &request->commands[i].command);
        }
    }
    request_free(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size), pointers = take_line(&in);
    struct redaction *redaction = read_pointers(pointers);
    struct world w;

    if (decoder == NULL)
        prepare();
    session_open(&w);
    if (redaction != NULL)
        apply_all(&w, redaction, in);
    world_close(&w);
    redaction_free(redaction);
    return 0;
}
