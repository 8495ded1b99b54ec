/*
 * Bodies of commands, from HTTP's bytes to the state: one, many, lines of them, and the REST forms.
 *
 * The first line: `json`, `ndjson`, `fork`, or a command's name for its REST form.
 */
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

static void try_commands(struct request *request)
{
    struct world w;
    session_open(&w);
    for (uint32_t i = 0; i < request->commands_n; i++) {
        if (request->commands[i].bad != NULL)
            check_refusal(request->commands[i].bad);
        else
            try_command(&w, &request->commands[i].command);
    }
    world_close(&w);
}

static int decode(struct str what, struct str body, struct request *request,
                  struct core_refusal *why)
{
    enum core_type type = core_type_of_command(what);
    if (str_equal(what, STR("fork")))
        return decode_fork(decoder, body, request, why);
    if (type != CORE_TYPE_NONE)
        return decode_rest(decoder, type, NULL, body, request, why);
    return decode_commands(decoder, body, str_equal(what, STR("ndjson")), request, why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str body = input_of(data, size), what = take_line(&body);
    struct request *request = request_new_small();
    struct core_refusal why;

    if (decoder == NULL)
        prepare();
    request->arena = exact_arena();
    request->session = STR("s1");
    if (decode(what, body, request, &why) != 0) {
        check_refusal(&why);
        assert(request->commands_n == 0);
    } else {
        assert(request->commands_n <= 20);
        try_commands(request);
    }
    request_free(request);
    return 0;
}
