/* Frames of a client that is not ours (wslay) come out as the messages it sent, however the bytes
 * are cut; what RFC 6455 forbids is refused with the code that it names. */
#include "server/ws.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <wslay/wslay.h>

enum { MAX_BYTES = 200 * 1000 };

static struct str text(const char *p)
{
    return (struct str){p, strlen(p)};
}

/* ---- a client */

struct client {
    wslay_event_context_ptr context;
    struct buf sent;
    struct str coming;
    struct buf fragments; /* a message that is sent in small pieces */
    size_t at;
};

static ssize_t on_send(wslay_event_context_ptr context, const uint8_t *p, size_t n, int flags,
                       void *user)
{
    struct client *client = user;
    (void)context, (void)flags;
    buf_add(&client->sent, p, n);
    return (ssize_t)n;
}

static ssize_t on_recv(wslay_event_context_ptr context, uint8_t *p, size_t n, int flags, void *user)
{
    struct client *client = user;
    (void)flags;
    if (client->coming.n == 0) {
        wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    n = n < client->coming.n ? n : client->coming.n;
    memcpy(p, client->coming.p, n);
    client->coming = (struct str){client->coming.p + n, client->coming.n - n};
    return (ssize_t)n;
}

static int on_mask(wslay_event_context_ptr context, uint8_t *p, size_t n, void *user)
{
    (void)context, (void)user;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rand();
    return 0;
}

static void on_message(wslay_event_context_ptr context,
                       const struct wslay_event_on_msg_recv_arg *message, void *user)
{
    struct client *client = user;
    (void)context;
    buf_add_byte(&client->fragments, (char)message->opcode);
    buf_add(&client->fragments, message->msg, message->msg_length);
}

static void client_begin(struct client *client)
{
    static const struct wslay_event_callbacks callbacks = {.send_callback = on_send,
                                                           .recv_callback = on_recv,
                                                           .genmask_callback = on_mask,
                                                           .on_msg_recv_callback = on_message};
    *client = (struct client){0};
    assert_int_equal(wslay_event_context_client_init(&client->context, &callbacks, client), 0);
}

static void client_end(struct client *client)
{
    wslay_event_context_free(client->context);
    buf_free(&client->sent);
    buf_free(&client->fragments);
}

static void client_send(struct client *client, uint8_t opcode, struct str payload)
{
    struct wslay_event_msg message = {opcode, (const uint8_t *)payload.p, payload.n};
    assert_int_equal(wslay_event_queue_msg(client->context, &message), 0);
    assert_int_equal(wslay_event_send(client->context), 0);
}

static ssize_t read_fragment(wslay_event_context_ptr context, uint8_t *p, size_t n,
                             const union wslay_event_msg_source *source, int *eof, void *user)
{
    struct client *client = source->data;
    size_t left = client->fragments.n - client->at;
    (void)context, (void)user;
    n = n < 5 ? n : 5;
    n = n < left ? n : left;
    memcpy(p, client->fragments.p + client->at, n);
    client->at += n;
    *eof = client->at == client->fragments.n;
    return (ssize_t)n;
}

static void client_send_fragmented(struct client *client, struct str payload)
{
    struct wslay_event_fragmented_msg message = {
        .opcode = WSLAY_TEXT_FRAME, .source.data = client, .read_callback = read_fragment};
    buf_add_str(&client->fragments, payload);
    assert_int_equal(wslay_event_queue_fragmented_msg(client->context, &message), 0);
    assert_int_equal(wslay_event_send(client->context), 0);
}

/* ---- reading */

/* Bytes as they are, never beyond: so that the address sanitizer sees who reads too far. */
static enum ws_got read_piece(struct ws_reader *reader, struct str *bytes, size_t at_once,
                              struct str *payload)
{
    enum ws_got got = WS_GOT_NOTHING;
    while (got == WS_GOT_NOTHING && bytes->n != 0) {
        size_t n = at_once < bytes->n ? at_once : bytes->n;
        char *copy = malloc(n);
        memcpy(copy, bytes->p, n);
        struct str piece = {copy, n};
        got = ws_read(reader, &piece, payload);
        assert_true(got != WS_GOT_NOTHING || piece.n == 0);
        n -= piece.n;
        *bytes = (struct str){bytes->p + n, bytes->n - n};
        free(copy);
    }
    return got;
}

static void expect_text(struct ws_reader *reader, struct str *bytes, size_t at_once,
                        struct str expected)
{
    struct str payload;
    assert_int_equal(read_piece(reader, bytes, at_once, &payload), WS_GOT_TEXT);
    assert_int_equal(payload.n, expected.n);
    assert_memory_equal(payload.p, expected.p, expected.n);
}

static void messages_come_whole_however_the_bytes_are_cut(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 8, 125, 126, 127, 1000, 65535, 65536, MAX_BYTES};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
    char *content = malloc(MAX_BYTES);
    struct client client;

    (void)state;
    for (size_t i = 0; i < MAX_BYTES; i++)
        content[i] = (char)('a' + i % 26);
    client_begin(&client);
    for (int i = 0; i < SIZES; i++)
        client_send(&client, WSLAY_TEXT_FRAME, (struct str){content, sizes[i]});
    client_send(&client, WSLAY_PING, text("are you there"));
    client_send(&client, WSLAY_TEXT_FRAME, text("\"\xc3\xa9\""));
    static const size_t cuts[] = {1, 2, 3, 5, 13, 4096, SIZE_MAX};
    for (size_t c = 0; c < sizeof(cuts) / sizeof(cuts[0]); c++) {
        struct ws_reader reader = {.max_bytes = MAX_BYTES};
        struct str bytes = buf_str(&client.sent), payload;
        for (int i = 0; i < SIZES; i++)
            expect_text(&reader, &bytes, cuts[c], (struct str){content, sizes[i]});
        assert_int_equal(read_piece(&reader, &bytes, cuts[c], &payload), WS_GOT_PING);
        assert_true(str_equal(payload, text("are you there")));
        expect_text(&reader, &bytes, cuts[c], text("\"\xc3\xa9\""));
        assert_int_equal(bytes.n, 0);
        ws_reader_rest(&reader);
        assert_null(reader.message.p);
        ws_reader_free(&reader);
    }
    free(content);
    client_end(&client);
}

static void fragments_are_put_together_around_control_frames(void **state)
{
    struct client client;
    struct ws_reader reader = {.max_bytes = MAX_BYTES};
    struct str payload;

    (void)state;
    client_begin(&client);
    client_send_fragmented(&client, text("{\"content\":\"in \xf0\x9f\x90\xa0 pieces\"}"));
    struct str bytes = buf_str(&client.sent);
    expect_text(&reader, &bytes, 4, text("{\"content\":\"in \xf0\x9f\x90\xa0 pieces\"}"));
    /* A pong between two fragments, and an empty one at the end. */
    bytes = (struct str){"\x01\x81\0\0\0\0a\x8a\x80\0\0\0\0\0\x81\0\0\0\0b\x80\x80\0\0\0\0", 27};
    assert_int_equal(read_piece(&reader, &bytes, 3, &payload), WS_GOT_PONG);
    expect_text(&reader, &bytes, 3, text("ab"));
    ws_reader_free(&reader);
    client_end(&client);
}

struct row {
    const char *bytes;
    size_t n;
    enum ws_code code;
};

#define ROW(literal, expected)                                                                     \
    {                                                                                              \
        literal, sizeof(literal) - 1, expected                                                     \
    }
#define MASK "\0\0\0\0"

static void what_is_forbidden_is_refused_with_its_code(void **state)
{
    static const struct row rows[] = {
        ROW("\x81\x01x", WS_PROTOCOL_ERROR),                         /* not masked */
        ROW("\xc1\x81" MASK "x", WS_PROTOCOL_ERROR),                 /* RSV1 */
        ROW("\x91\x81" MASK "x", WS_PROTOCOL_ERROR),                 /* RSV3 */
        ROW("\x83\x80" MASK, WS_PROTOCOL_ERROR),                     /* opcode 3 */
        ROW("\x8b\x80" MASK, WS_PROTOCOL_ERROR),                     /* opcode 11 */
        ROW("\x80\x81" MASK "x", WS_PROTOCOL_ERROR),                 /* nothing to continue */
        ROW("\x01\x80" MASK "\x81\x80" MASK, WS_PROTOCOL_ERROR),     /* a second beginning */
        ROW("\x09\x80" MASK, WS_PROTOCOL_ERROR),                     /* a ping in fragments */
        ROW("\x89\xfe\0\x7e" MASK, WS_PROTOCOL_ERROR),               /* a ping too long */
        ROW("\x81\xfe\0\x7d" MASK, WS_PROTOCOL_ERROR),               /* 125 in two bytes */
        ROW("\x81\xff\0\0\0\0\0\0\xff\xff" MASK, WS_PROTOCOL_ERROR), /* 65535 in eight */
        ROW("\x81\xff\x80\0\0\0\0\0\0\0" MASK, WS_PROTOCOL_ERROR),   /* more than 2^63 */
        ROW("\x88\x81" MASK "x", WS_PROTOCOL_ERROR),                 /* half a close code */
        ROW("\x88\x82" MASK "\x03\xe7", WS_PROTOCOL_ERROR),          /* 999 */
        ROW("\x88\x82" MASK "\x03\xed", WS_PROTOCOL_ERROR),          /* 1005 */
        ROW("\x88\x83" MASK "\x03\xe8\xff", WS_INVALID_TEXT),        /* its reason */
        ROW("\x82\x81" MASK "x", WS_UNSUPPORTED),
        ROW("\x81\x81" MASK "\xff", WS_INVALID_TEXT),
        ROW("\x81\x82" MASK "\xc3(", WS_INVALID_TEXT),
        ROW("\x01\x81" MASK "\xc3\x80\x81" MASK "(", WS_INVALID_TEXT),
        ROW("\x81\xff\0\0\0\0\0\x03\x0d\x41" MASK, WS_TOO_BIG), /* MAX_BYTES + 1: by its head */
        ROW("\x01\x81" MASK "x\x80\xff\0\0\0\0\0\x03\x0d\x40" MASK, WS_TOO_BIG),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t at_once = 1; at_once <= rows[i].n; at_once++) {
            struct ws_reader reader = {.max_bytes = MAX_BYTES};
            struct str bytes = {rows[i].bytes, rows[i].n}, payload;
            if (read_piece(&reader, &bytes, at_once, &payload) != WS_BROKEN)
                fail_msg("row %zu, %zu bytes at once: not refused", i, at_once);
            assert_int_equal(reader.code, rows[i].code);
            assert_true(strlen(reader.reason) > 10 && strlen(reader.reason) <= 123);
            ws_reader_free(&reader);
        }
    }
}

static void a_character_may_lie_across_two_fragments(void **state)
{
    struct ws_reader reader = {.max_bytes = MAX_BYTES};
    struct str bytes = {"\x01\x81" MASK "\xc3\x80\x81" MASK "\xa9", 14};
    (void)state;
    expect_text(&reader, &bytes, SIZE_MAX, text("\xc3\xa9"));
    ws_reader_free(&reader);
}

static void a_close_frame_has_its_code(void **state)
{
    struct client client;
    struct ws_reader reader = {0};
    struct str payload;

    (void)state;
    client_begin(&client);
    assert_int_equal(wslay_event_queue_close(client.context, 4321, (const uint8_t *)"bye", 3), 0);
    assert_int_equal(wslay_event_send(client.context), 0);
    struct str bytes = buf_str(&client.sent);
    assert_int_equal(read_piece(&reader, &bytes, 2, &payload), WS_GOT_CLOSE);
    assert_int_equal(reader.code, 4321);
    bytes = (struct str){"\x88\x80" MASK, 6};
    assert_int_equal(read_piece(&reader, &bytes, 2, &payload), WS_GOT_CLOSE);
    assert_int_equal(reader.code, WS_NO_CODE);
    client_end(&client);
}

/* Whatever comes: messages within the bound, or an end with a code. */
static void random_bytes_do_no_harm(void **state)
{
    enum { ROUNDS = 20000, BYTES = 64, MAX_SMALL = 40 };
    (void)state;
    srand(1);
    for (int round = 0; round < ROUNDS; round++) {
        struct ws_reader reader = {.max_bytes = MAX_SMALL};
        char random[BYTES];
        struct str bytes = {random, BYTES}, payload;
        enum ws_got got = WS_GOT_NOTHING;
        for (int i = 0; i < BYTES; i++)
            random[i] = (char)(rand() % 3 == 0 ? rand() : "\x81\x84\x01\x80\x89\x00"[rand() % 6]);
        while (bytes.n != 0 && got != WS_BROKEN) {
            got = read_piece(&reader, &bytes, 1 + (size_t)rand() % BYTES, &payload);
            if (got == WS_GOT_TEXT)
                assert_in_range(payload.n, 0, MAX_SMALL);
        }
        if (got == WS_BROKEN)
            assert_in_range(reader.code, WS_PROTOCOL_ERROR, WS_TOO_BIG);
        ws_reader_free(&reader);
    }
}

/* Gives the chunk to the client: its opcode, then its payload. */
static void client_hear(struct client *client, struct chunk *chunk)
{
    client->coming = chunk_text(chunk);
    client->fragments.n = 0;
    assert_int_equal(wslay_event_recv(client->context), 0);
    assert_int_equal(client->coming.n, 0);
    chunk_release(chunk);
}

static void our_frames_are_understood(void **state)
{
    static const size_t sizes[] = {0, 125, 126, 65535, 65536, MAX_BYTES};
    char *content = malloc(MAX_BYTES);
    struct client client;

    (void)state;
    memset(content, 'x', MAX_BYTES);
    client_begin(&client);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        client_hear(&client, ws_frame(WS_TEXT, (struct str){content, sizes[i]}));
        assert_int_equal(client.fragments.n, sizes[i] + 1);
        assert_int_equal(client.fragments.p[0], WS_TEXT);
        assert_memory_equal(client.fragments.p + 1, content, sizes[i]);
    }
    memset(content, 'y', 500);
    content[500] = '\0';
    client_hear(&client, ws_close_frame(WS_TOO_BIG, content));
    assert_int_equal(wslay_event_get_status_code_received(client.context), WS_TOO_BIG);
    assert_int_equal(client.fragments.n, 1 + WS_CONTROL_BYTES);
    free(content);
    client_end(&client);
}

static void the_handshake_is_that_of_the_rfc(void **state)
{
    char accept[WS_ACCEPT_BYTES];
    (void)state;
    ws_accept(STR("dGhlIHNhbXBsZSBub25jZQ=="), accept);
    assert_memory_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", WS_ACCEPT_BYTES);
    assert_true(ws_key_valid(STR("dGhlIHNhbXBsZSBub25jZQ==")));
    assert_false(ws_key_valid(STR("dGhlIHNhbXBsZSBub25jZQ=")));
    assert_false(ws_key_valid(STR("dGhlIHNhbXBsZSBub25jZQQ=")));
    assert_false(ws_key_valid(STR("dGhlIHNhbXBsZSBub25jZ-==")));
    assert_false(ws_key_valid((struct str){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_whole_however_the_bytes_are_cut),
        cmocka_unit_test(fragments_are_put_together_around_control_frames),
        cmocka_unit_test(what_is_forbidden_is_refused_with_its_code),
        cmocka_unit_test(a_character_may_lie_across_two_fragments),
        cmocka_unit_test(a_close_frame_has_its_code),
        cmocka_unit_test(random_bytes_do_no_harm),
        cmocka_unit_test(our_frames_are_understood),
        cmocka_unit_test(the_handshake_is_that_of_the_rfc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
