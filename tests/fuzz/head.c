/*
 * The bytes of an HTTP/1 connection. However they are cut, the same requests are found; and where
 * one ends, h2o's own parsers, which get to see it next, find the end as well: so nothing can be
 * hidden between the two (request smuggling).
 *
 * The first byte: how the bytes are cut.
 */
#include "server/intake.h"
#include "tests/fuzz/fuzz.h"

#include <strings.h>

enum { HEAD_MAX = 1024, REQUESTS_MAX = 8 };

/* ---- of picohttpparser, which is in libh2o; Debian's package has no header of it */

struct phr_header {
    const char *name;
    size_t name_len;
    const char *value;
    size_t value_len;
};

struct phr_chunked_decoder {
    size_t bytes_left_in_chunk;
    char consume_trailer;
    char _hex_count;
    char _state;
};

int phr_parse_request(const char *buf, size_t len, const char **method, size_t *method_len,
                      const char **path, size_t *path_len, int *minor_version,
                      struct phr_header *headers, size_t *num_headers, size_t last_len);
ssize_t phr_decode_chunked(struct phr_chunked_decoder *decoder, char *buf, size_t *bufsz);

/* ---- where it ends by them */

static bool is_named(const struct phr_header *header, const char *name)
{
    return header->name_len == strlen(name) &&
           strncasecmp(header->name, name, header->name_len) == 0;
}

static bool read_number(const struct phr_header *header, size_t *number)
{
    for (size_t i = 0; i < header->value_len; i++) {
        if (header->value[i] < '0' || header->value[i] > '9')
            return false;
        *number = *number * 10 + (size_t)(header->value[i] - '0');
    }
    return true;
}

static size_t body_of(const struct phr_header *headers, size_t n, struct str rest)
{
    size_t length = 0;
    bool chunked = false;
    for (size_t i = 0; i < n; i++) {
        if (is_named(&headers[i], "transfer-encoding"))
            chunked = true;
        if (is_named(&headers[i], "content-length") && !read_number(&headers[i], &length))
            return rest.n; /* blanks behind it: h2o refuses the request */
    }
    if (!chunked)
        return length;
    struct phr_chunked_decoder decoder = {.consume_trailer = 1};
    char *copy = exact_copy(rest);
    size_t size = rest.n;
    ssize_t left = phr_decode_chunked(&decoder, copy, &size);
    free(copy);
    assert(left >= 0); /* bytes behind the body */
    return rest.n - (size_t)left;
}

static void check_agrees(struct str request)
{
    struct phr_header headers[INTAKE_HEADERS_MAX];
    size_t headers_n = INTAKE_HEADERS_MAX, method_n, path_n;
    const char *method, *path;
    int minor;
    int head = phr_parse_request(request.p, request.n, &method, &method_n, &path, &path_n, &minor,
                                 headers, &headers_n, 0);
    assert(head > 0 && (size_t)head <= request.n && (minor == 0 || minor == 1));
    struct str rest = {request.p + head, request.n - (size_t)head};
    assert(body_of(headers, headers_n, rest) == rest.n);
}

/* ---- by ours */

static void note(struct buf *told, enum intake_got got, size_t size)
{
    buf_add_u64(told, got);
    buf_add_byte(told, ' ');
    buf_add_u64(told, size);
    buf_add_byte(told, '\n');
}

/*
 * One request off the front of `bytes`, which come `step` at a time. While the head is not whole
 * all bytes so far are shown again, at the same place or, as a buffer that has grown, another.
 */
static enum intake_got take_request(struct str bytes, size_t step, size_t *size)
{
    struct intake intake = {0};
    enum intake_got got = INTAKE_HEAD;
    size_t from = 0, end = 0;
    while (end < bytes.n && (got == INTAKE_HEAD || got == INTAKE_BODY)) {
        end = bytes.n - end < step ? bytes.n : end + step;
        size_t used = 0;
        struct str shown = {bytes.p + from, end - from};
        char *exact = exact_copy(shown);
        got = intake_take(&intake, exact, shown.n, HEAD_MAX, &used);
        free(exact);
        if (got == INTAKE_BAD || got == INTAKE_TOO_LARGE)
            check_sentence(intake.why, 200);
        assert(used <= shown.n);
        if (got == INTAKE_BODY)
            assert(used == shown.n);
        if (got == INTAKE_BODY || got == INTAKE_DONE)
            from += used;
    }
    *size = from;
    return got;
}

static void read_all(struct str bytes, size_t step, bool checked, struct buf *told)
{
    enum intake_got got = INTAKE_DONE;
    for (int i = 0; i < REQUESTS_MAX && got == INTAKE_DONE && bytes.n != 0; i++) {
        size_t size = 0;
        got = take_request(bytes, step, &size);
        assert(got != INTAKE_DONE || size != 0);
        note(told, got, got == INTAKE_DONE ? size : 0);
        if (got == INTAKE_DONE && checked)
            check_agrees((struct str){bytes.p, size});
        take_bytes(&bytes, size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = input_of(data, size);
    size_t step = 1 + take_byte(&in) % 64;
    struct buf whole = {0}, cut = {0};

    read_all(in, in.n + 1, true, &whole);
    read_all(in, step, false, &cut);
    assert(buf_equal(&whole, &cut));
    buf_free(&whole);
    buf_free(&cut);
    return 0;
}
