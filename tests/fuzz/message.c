/*
 * Messages of a WebSocket, `one` or `many` by the first line; each line behind it is a message.
 * Commands that come together are gathered in one request.
 */
#include "server/decode.h"
#include "server/router.h"
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

static void watch(const struct decode_message *message)
{
    struct arena scratch = exact_arena();
    struct query query = {0};
    struct str session;
    struct core_refusal why;

    if (decode_watch(message, &scratch, &query, &session, &why) != 0)
        check_refusal(&why);
    else
        assert(session.p == NULL || core_id_valid(session));
    arena_free(&scratch);
}

static void command(const struct decode_message *message, struct request *request)
{
    uint32_t before = request->commands_n;
    struct core_refusal why;

    if (decode_message_command(decoder, message, request, &why) != 0) {
        check_refusal(&why);
        assert(request->commands_n == before);
    } else {
        assert(request->commands_n == before + 1 && request->commands[before].bad == NULL);
    }
}

static void take_message(struct str text, bool many, struct request *request)
{
    struct arena scratch = exact_arena();
    struct decode_message message;
    struct core_refusal why;

    if (decode_message(decoder, text, many, &scratch, &message, &why) != 0)
        check_refusal(&why);
    else if (message.is_command)
        command(&message, request);
    else
        watch(&message);
    decode_message_end(decoder);
    arena_free(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size), what = take_line(&in);
    struct request *request = request_new_small();
    struct world w;

    if (decoder == NULL)
        prepare();
    request->arena = exact_arena();
    request->session = STR("s1");
    while (in.n != 0 && request->commands_n < 16) {
        char *text = NULL;
        struct str line = take_line(&in);
        text = exact_copy(line);
        take_message((struct str){text, line.n}, str_equal(what, STR("many")), request);
        free(text);
    }
    session_open(&w);
    for (uint32_t i = 0; i < request->commands_n; i++)
        try_command(&w, &request->commands[i].command);
    world_close(&w);
    request_free(request);
    return 0;
}
