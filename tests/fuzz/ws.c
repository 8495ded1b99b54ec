/*
 * A client's WebSocket bytes. However they are cut, the same messages come out; what is refused is
 * closed with a code that RFC 6455 knows, and a reason.
 *
 * The first byte: how large a message may be (times 16), the second: how the bytes are cut.
 */
#include "server/ws.h"
#include "tests/fuzz/fuzz.h"

static void note(struct buf *told, enum ws_got got, const struct ws_reader *reader,
                 struct str payload)
{
    buf_add_byte(told, (char)got);
    if (got == WS_GOT_CLOSE || got == WS_BROKEN)
        buf_add_u64(told, reader->code);
    buf_add_str(told, payload);
    if (got == WS_GOT_TEXT)
        assert(payload.n <= reader->max_bytes && json_utf8_valid(payload));
    if (got == WS_GOT_PING || got == WS_GOT_PONG)
        assert(payload.n <= WS_CONTROL_BYTES);
    if (got == WS_BROKEN) {
        check_sentence(reader->reason, WS_CONTROL_BYTES);
        assert(reader->code >= 1000 && reader->code <= 1011 && reader->code != WS_NO_CODE);
    }
}

/* What is told of the bytes, which come in pieces of `step`. */
static void read_all(struct str bytes, size_t step, size_t max_bytes, struct buf *told)
{
    struct ws_reader reader = {.max_bytes = max_bytes};
    bool open = true;
    while (open && bytes.n != 0) {
        struct str piece = take_bytes(&bytes, step);
        char *exact = exact_copy(piece);
        piece.p = exact;
        enum ws_got got;
        do {
            struct str payload = {0};
            size_t before = piece.n;
            got = ws_read(&reader, &piece, &payload);
            assert(piece.n <= before);
            if (got != WS_GOT_NOTHING)
                note(told, got, &reader, payload);
            else
                assert(piece.n == 0);
            open = got != WS_BROKEN && got != WS_GOT_CLOSE;
        } while (open && got != WS_GOT_NOTHING);
        if (step % 2 == 0)
            ws_reader_rest(&reader);
        free(exact);
    }
    ws_reader_free(&reader);
}

static void check_handshake(struct str key)
{
    char accept[WS_ACCEPT_BYTES];
    if (ws_key_valid(key))
        ws_accept(key, accept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size);
    struct buf whole = {0}, cut = {0};
    size_t max_bytes = 16 + 16 * (size_t)take_byte(&in), step = 1 + take_byte(&in) % 32;

    read_all(in, in.n + 1, max_bytes, &whole);
    read_all(in, step, max_bytes, &cut);
    assert(buf_equal(&whole, &cut));
    check_handshake(in);
    buf_free(&whole);
    buf_free(&cut);
    return 0;
}
