/*
 * ws: a frame is a head of 2, 4 or 10 bytes, the client's mask of 4, and its payload, each byte of
 * it xor the mask's byte of its place. Heads are gathered in `head`, payloads of control frames in
 * `control`, those of text in `message`, which goes on over the frames of a fragmented one.
 */
#include "server/ws.h"

#include "server/framing.h"
#include "server/json.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

enum {
    FIN = 0x80,
    RESERVED = 0x70,
    OPCODE = 0x0f,
    CONTROL = 0x08,
    MASKED = 0x80,
    SIZE = 0x7f,
    SIZE_16 = 126,
    SIZE_64 = 127,
    MASK_BYTES = 4,
    CODE_BYTES = 2,
};

/* ---- the handshake */

bool ws_key_valid(struct str key)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (key.n != WS_KEY_BYTES || key.p[WS_KEY_BYTES - 1] != '=' || key.p[WS_KEY_BYTES - 2] != '=')
        return false;
    for (size_t i = 0; i < WS_KEY_BYTES - 2; i++)
        if (memchr(digits, key.p[i], sizeof(digits) - 1) == NULL)
            return false;
    return true;
}

void ws_accept(struct str key, char accept[WS_ACCEPT_BYTES])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char text[WS_KEY_BYTES + sizeof(guid) - 1];
    unsigned char digest[SHA_DIGEST_LENGTH];
    unsigned char base64[WS_ACCEPT_BYTES + 1];

    assert(key.n == WS_KEY_BYTES);
    memcpy(text, key.p, WS_KEY_BYTES);
    memcpy(text + WS_KEY_BYTES, guid, sizeof(guid) - 1);
    SHA1(text, sizeof(text), digest);
    EVP_EncodeBlock(base64, digest, sizeof(digest));
    memcpy(accept, base64, WS_ACCEPT_BYTES);
}

/* ---- frames that come */

static enum ws_got broken(struct ws_reader *reader, enum ws_code code, const char *reason)
{
    reader->code = (uint16_t)code;
    reader->reason = reason;
    return WS_BROKEN;
}

static bool is_control(const struct ws_reader *reader)
{
    return (reader->opcode & CONTROL) != 0;
}

/* What the first two bytes alone show to be wrong. */
static enum ws_got check_start(struct ws_reader *reader)
{
    unsigned char first = reader->head[0], second = reader->head[1];

    reader->final = (first & FIN) != 0;
    reader->opcode = first & OPCODE;
    if ((first & RESERVED) != 0)
        return broken(reader, WS_PROTOCOL_ERROR, "a reserved bit is set: no extension is in use");
    if ((second & MASKED) == 0)
        return broken(reader, WS_PROTOCOL_ERROR, "the frame is not masked");
    if (is_control(reader) && (!reader->final || (second & SIZE) > WS_CONTROL_BYTES))
        return broken(reader, WS_PROTOCOL_ERROR,
                      "a control frame is never fragmented and has at most 125 bytes");
    switch (reader->opcode) {
    case WS_CONTINUATION:
        return reader->fragmented ? WS_GOT_NOTHING
                                  : broken(reader, WS_PROTOCOL_ERROR, "nothing is to be continued");
    case WS_TEXT:
        return !reader->fragmented ? WS_GOT_NOTHING
                                   : broken(reader, WS_PROTOCOL_ERROR,
                                            "a message begins before the last has ended");
    case WS_BINARY:
        return broken(reader, WS_UNSUPPORTED, "messages are text: JSON, not binary");
    case WS_CLOSE:
    case WS_PING:
    case WS_PONG:
        return WS_GOT_NOTHING;
    default:
        return broken(reader, WS_PROTOCOL_ERROR, "the opcode is none of RFC 6455");
    }
}

static unsigned size_bytes(const struct ws_reader *reader)
{
    unsigned size = reader->head[1] & SIZE;
    return size == SIZE_16 ? 2 : size == SIZE_64 ? 8 : 0;
}

/* The head is complete: what it says of the payload. */
static enum ws_got read_size(struct ws_reader *reader)
{
    unsigned more = size_bytes(reader);
    uint64_t size = more == 0 ? reader->head[1] & SIZE : 0;

    for (unsigned i = 0; i < more; i++)
        size = size << 8 | reader->head[2 + i];
    if ((more == 2 && size < SIZE_16) || (more == 8 && (size <= UINT16_MAX || size >> 63 != 0)))
        return broken(reader, WS_PROTOCOL_ERROR,
                      "the payload's length is not in its shortest form");
    if (!is_control(reader) && size > reader->max_bytes - reader->message.n)
        return broken(reader, WS_TOO_BIG, "the message is bigger than --max-body allows");
    reader->left = size;
    reader->in_payload = true;
    return WS_GOT_NOTHING;
}

static void take_to_head(struct ws_reader *reader, struct str *bytes, size_t until)
{
    size_t n = until > reader->head_n ? until - reader->head_n : 0;
    n = n < bytes->n ? n : bytes->n;
    if (n == 0)
        return;
    memcpy(reader->head + reader->head_n, bytes->p, n);
    reader->head_n = (uint8_t)(reader->head_n + n);
    *bytes = (struct str){bytes->p + n, bytes->n - n};
}

/* in_payload is set once it is complete. */
static enum ws_got read_head(struct ws_reader *reader, struct str *bytes)
{
    if (reader->head_n < 2) {
        take_to_head(reader, bytes, 2);
        if (reader->head_n < 2)
            return WS_GOT_NOTHING;
        enum ws_got got = check_start(reader);
        if (got != WS_GOT_NOTHING)
            return got;
    }
    size_t whole = 2 + size_bytes(reader) + MASK_BYTES;
    take_to_head(reader, bytes, whole);
    return reader->head_n == whole ? read_size(reader) : WS_GOT_NOTHING;
}

static void unmask(char *to, const char *from, size_t n, const unsigned char mask[MASK_BYTES])
{
    uint64_t word, twice;
    size_t i = 0;
    memcpy(&twice, mask, MASK_BYTES);
    memcpy((char *)&twice + MASK_BYTES, mask, MASK_BYTES);
    for (; i + sizeof(word) <= n; i += sizeof(word)) {
        memcpy(&word, from + i, sizeof(word));
        word ^= twice;
        memcpy(to + i, &word, sizeof(word));
    }
    for (; i < n; i++)
        to[i] = (char)(from[i] ^ mask[i % MASK_BYTES]);
}

/* Takes n bytes of payload; the mask is turned to where the next ones begin. */
static void take_payload(struct ws_reader *reader, struct str *bytes, size_t n)
{
    unsigned char *mask = reader->head + reader->head_n - MASK_BYTES;
    unsigned char turned[MASK_BYTES];

    if (is_control(reader)) {
        unmask(reader->control + reader->control_n, bytes->p, n, mask);
        reader->control_n = (uint8_t)(reader->control_n + n);
    } else {
        unmask(buf_reserve(&reader->message, n), bytes->p, n, mask);
        reader->message.n += n;
    }
    for (unsigned i = 0; i < MASK_BYTES; i++)
        turned[i] = mask[(i + n) % MASK_BYTES];
    memcpy(mask, turned, MASK_BYTES);
    reader->left -= n;
    *bytes = (struct str){bytes->p + n, bytes->n - n};
}

static bool code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != WS_NO_CODE && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static enum ws_got end_close(struct ws_reader *reader)
{
    struct str payload = {reader->control, reader->control_n};

    reader->code = WS_NO_CODE;
    reader->reason = "";
    if (payload.n == 0)
        return WS_GOT_CLOSE;
    unsigned code = payload.n < CODE_BYTES
                        ? 0
                        : (unsigned)(unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1];
    if (!code_valid(code))
        return broken(reader, WS_PROTOCOL_ERROR, "the close frame has no good code");
    if (!json_utf8_valid((struct str){payload.p + CODE_BYTES, payload.n - CODE_BYTES}))
        return broken(reader, WS_INVALID_TEXT, "the close frame's reason is not UTF-8");
    reader->code = (uint16_t)code;
    return WS_GOT_CLOSE;
}

/* The frame's payload is complete. */
static enum ws_got end_frame(struct ws_reader *reader, struct str *payload)
{
    reader->in_payload = false;
    reader->head_n = 0;
    if (is_control(reader)) {
        *payload = (struct str){reader->control, reader->control_n};
        enum ws_got got = reader->opcode == WS_PING   ? WS_GOT_PING
                          : reader->opcode == WS_PONG ? WS_GOT_PONG
                                                      : end_close(reader);
        reader->control_n = 0;
        return got;
    }
    reader->fragmented = !reader->final;
    if (reader->fragmented)
        return WS_GOT_NOTHING;
    *payload = reader->message.n != 0 ? buf_str(&reader->message) : STR("");
    if (!json_utf8_valid(*payload))
        return broken(reader, WS_INVALID_TEXT, "the message is not UTF-8");
    reader->given = true;
    return WS_GOT_TEXT;
}

enum ws_got ws_read(struct ws_reader *reader, struct str *bytes, struct str *payload)
{
    enum ws_got got = WS_GOT_NOTHING;

    if (reader->given)
        reader->message.n = 0;
    reader->given = false;
    while (got == WS_GOT_NOTHING && bytes->n != 0) {
        if (!reader->in_payload)
            got = read_head(reader, bytes);
        if (got != WS_GOT_NOTHING || !reader->in_payload)
            continue;
        size_t n = reader->left < bytes->n ? (size_t)reader->left : bytes->n;
        if (n != 0)
            take_payload(reader, bytes, n);
        if (reader->left == 0)
            got = end_frame(reader, payload);
    }
    return got;
}

void ws_reader_rest(struct ws_reader *reader)
{
    if (reader->given)
        reader->message.n = 0;
    reader->given = false;
    if (reader->message.n == 0)
        buf_free(&reader->message);
}

void ws_reader_free(struct ws_reader *reader)
{
    buf_free(&reader->message);
}

/* ---- frames that go */

struct chunk *ws_frame(enum ws_opcode opcode, struct str payload)
{
    struct chunk *chunk = chunk_new(WS_HEAD_BYTES + payload.n);
    char *p = framing_ws_head(chunk->p, opcode, payload.n);
    if (payload.n != 0)
        memcpy(p, payload.p, payload.n);
    chunk->n = (size_t)(p - chunk->p) + payload.n;
    return chunk;
}

struct chunk *ws_close_frame(enum ws_code code, const char *reason)
{
    char payload[WS_CONTROL_BYTES];
    if (code == WS_NO_CODE)
        return ws_frame(WS_CLOSE, (struct str){0});
    struct str text = {reason, strlen(reason)};
    text.n = json_cut(text, sizeof(payload) - CODE_BYTES);
    payload[0] = (char)(code >> 8);
    payload[1] = (char)(code & 0xff);
    memcpy(payload + CODE_BYTES, text.p, text.n);
    return ws_frame(WS_CLOSE, (struct str){payload, CODE_BYTES + text.n});
}
