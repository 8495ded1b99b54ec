/*
 * An exported session that comes back: its lines, and the events in them. The first byte: 0, the
 * page with the header; else the page behind as many events.
 */
#include "server/decode.h"
#include "server/import_line.h"
#include "tests/fuzz/fuzz.h"

static void check_base64(struct str text)
{
    char *bytes = malloc(text.n / 4 * 3 + 1);
    size_t n = 0;
    if (import_base64(text, bytes, &n))
        assert(n <= text.n / 4 * 3);
    free(bytes);
}

static void check_imports(const struct request *request)
{
    assert(request->imports_n == 0 || request->imports != NULL);
    for (uint32_t i = 0; i < request->imports_n; i++) {
        const struct request_import *line = &request->imports[i];
        struct arena scratch = exact_arena();
        struct str in = line->bytes;
        struct core_event event;
        assert(line->json.n != 0);
        if (core_event_decode(&in, &scratch, &event) == 0) {
            struct buf json = {0};
            event.seq = request->after + i + 1;
            core_event_json(&event, &json);
            buf_free(&json);
        }
        arena_free(&scratch);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size), line;
    struct request *request = request_new_small();
    struct core_refusal why;

    request->arena = exact_arena();
    request->session = STR("demo");
    request->after = take_byte(&in);
    if (decode_import(in, request, &why) != 0)
        check_refusal(&why);
    else
        check_imports(request);
    while (import_take_line(&in, &line))
        check_base64(line);
    request_free(request);
    return 0;
}
