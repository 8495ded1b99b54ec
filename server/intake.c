#include "server/intake.h"

#include <string.h>
#include <strings.h>

enum state {
    HEAD,
    SIZED, /* `left` bytes */
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER,
    TRAILER_LF,
    LAST_LF,
    DONE
};

/* What a byte may be part of. */
enum { TOKEN = 1, TARGET = 2, VALUE = 4 };

#define T (TOKEN | TARGET | VALUE)
#define V (TARGET | VALUE)
#define B VALUE
/* clang-format off */
/* Ranges are GNU's. */
__extension__ static const uint8_t kinds[256] = {
    ['\t'] = B, [' '] = B,
    ['!'] = T, ['"'] = V, ['#'] = T, ['$'] = T, ['%'] = T, ['&'] = T, ['\''] = T, ['('] = V,
    [')'] = V, ['*'] = T, ['+'] = T, [','] = V, ['-'] = T, ['.'] = T, ['/'] = V,
    ['0' ... '9'] = T, [':'] = V, [';'] = V, ['<'] = V, ['='] = V, ['>'] = V, ['?'] = V, ['@'] = V,
    ['A' ... 'Z'] = T, ['['] = V, ['\\'] = V, [']'] = V, ['^'] = T, ['_'] = T, ['`'] = T,
    ['a' ... 'z'] = T, ['{'] = V, ['|'] = T, ['}'] = V, ['~'] = T,
    [0x80 ... 0xff] = V,
};
/* clang-format on */

static bool is_kind(char c, unsigned kind)
{
    return (kinds[(unsigned char)c] & kind) != 0;
}

/* Whether one of eight bytes is below `low` (at most 0x80), or DEL. May also say so of bytes behind
 * such a one; never of eight good ones (Mycroft; the high bit of a byte is borrowed into by a lower
 * one alone). */
static bool has_control(uint64_t eight, uint64_t low)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    uint64_t deletes = eight ^ ones * 0x7f;
    return ((((eight - ones * low) & ~eight) | ((deletes - ones) & ~deletes)) & tops) != 0;
}

/* How many bytes at `p` are of the kind, or fewer: all but controls, which are what nearly all text
 * has none of, are taken eight at a time. */
static size_t span_quickly(const char *p, size_t n, uint64_t low)
{
    size_t i = 0;
    for (uint64_t eight; i + sizeof(eight) <= n; i += sizeof(eight)) {
        memcpy(&eight, p + i, sizeof(eight));
        if (has_control(eight, low))
            break;
    }
    return i;
}

static size_t span(const char *p, size_t n, unsigned kind)
{
    size_t i = kind == VALUE    ? span_quickly(p, n, ' ')
               : kind == TARGET ? span_quickly(p, n, '!')
                                : 0;
    while (i < n && is_kind(p[i], kind))
        i++;
    return i;
}

static enum intake_got bad(struct intake *intake, const char *why)
{
    intake->why = why;
    return INTAKE_BAD;
}

static enum intake_got too_large(struct intake *intake, const char *why)
{
    intake->why = why;
    return INTAKE_TOO_LARGE;
}

/* ---- the head */

/* method SP target SP HTTP/1.x */
static bool take_request_line(struct intake *intake, const char *line, size_t n)
{
    static const char version[] = "HTTP/1.";
    size_t method = span(line, n, TOKEN);
    if (method == 0 || method == n || line[method] != ' ')
        return false;
    size_t at = method + 1;
    size_t target = span(line + at, n - at, TARGET);
    at += target;
    if (target == 0 || n - at != sizeof(version) + 1 || line[at] != ' ' ||
        memcmp(line + at + 1, version, sizeof(version) - 1) != 0)
        return false;
    char minor = line[n - 1];
    intake->request_line = true;
    intake->old = minor == '0';
    return minor == '0' || minor == '1';
}

static bool is_name(const char *name, size_t n, const char *lower)
{
    return strncasecmp(name, lower, n) == 0;
}

static enum intake_got take_length(struct intake *intake, const char *value, size_t n)
{
    uint64_t length = 0;
    if (intake->sized)
        return bad(intake, "Content-Length may be given only once.");
    intake->sized = true;
    if (n == 0 || n > 18)
        return bad(intake, "Content-Length has to be a number of at most 18 digits.");
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9')
            return bad(intake, "Content-Length has to be a number of at most 18 digits.");
        length = length * 10 + (uint64_t)(value[i] - '0');
    }
    intake->left = length;
    return INTAKE_HEAD;
}

static enum intake_got take_coding(struct intake *intake, const char *value, size_t n)
{
    if (intake->chunked)
        return bad(intake, "Transfer-Encoding may be given only once.");
    intake->chunked = true;
    if (n != strlen("chunked") || strncasecmp(value, "chunked", n) != 0)
        return bad(intake, "The only Transfer-Encoding known here is chunked.");
    return INTAKE_HEAD;
}

/* The names that say where the request ends or whom it is for; told apart by length first. */
static enum intake_got take_field(struct intake *intake, const char *name, size_t name_n,
                                  const char *value, size_t n)
{
    switch (name_n) {
    case sizeof("host") - 1:
        if (!is_name(name, name_n, "host"))
            break;
        if (intake->host)
            return bad(intake, "Host may be given only once.");
        intake->host = true;
        break;
    case sizeof("content-length") - 1:
        if (is_name(name, name_n, "content-length"))
            return take_length(intake, value, n);
        break;
    case sizeof("transfer-encoding") - 1:
        if (is_name(name, name_n, "transfer-encoding"))
            return take_coding(intake, value, n);
        break;
    default:
        break;
    }
    return INTAKE_HEAD;
}

static enum intake_got take_header(struct intake *intake, const char *line, size_t n)
{
    size_t name_n = span(line, n, TOKEN);

    if (line[0] == ' ' || line[0] == '\t')
        return bad(intake, "A header may not go on in the next line.");
    if (name_n == 0 || name_n == n || line[name_n] != ':')
        return bad(intake, "A header has to be a name, a colon right behind it, and a value.");
    if (++intake->headers > INTAKE_HEADERS_MAX)
        return too_large(intake, "The request has more than the 100 headers allowed.");
    const char *value = line + name_n + 1;
    size_t value_n = n - name_n - 1;
    if (span(value, value_n, VALUE) != value_n)
        return bad(intake, "A header's value may not hold control characters.");
    while (value_n != 0 && (value[0] == ' ' || value[0] == '\t'))
        value++, value_n--;
    while (value_n != 0 && (value[value_n - 1] == ' ' || value[value_n - 1] == '\t'))
        value_n--;
    return take_field(intake, line, name_n, value, value_n);
}

static enum intake_got end_head(struct intake *intake)
{
    if (intake->chunked && intake->sized)
        return bad(intake, "Content-Length and Transfer-Encoding may not be given together.");
    if (intake->chunked && intake->old)
        return bad(intake, "HTTP/1.0 knows no Transfer-Encoding.");
    intake->state = intake->chunked ? CHUNK_SIZE : intake->left != 0 ? SIZED : DONE;
    return intake->state == DONE ? INTAKE_DONE : INTAKE_BODY;
}

/* One line without its CR LF. An empty one ends the head; a first one is forgiven (RFC 9112, 2.2).
 */
static enum intake_got take_line(struct intake *intake, const char *line, size_t n)
{
    if (intake->request_line)
        return n == 0 ? end_head(intake) : take_header(intake, line, n);
    if (n == 0 && !intake->empty_line) {
        intake->empty_line = true;
        return INTAKE_HEAD;
    }
    if (!take_request_line(intake, line, n))
        return bad(intake, "The request line has to be a method, a target and HTTP/1.1 or "
                           "HTTP/1.0, with one space between them.");
    return INTAKE_HEAD;
}

/* What has come of a line that has not ended: no method begins so. */
static bool is_hopeless(const struct intake *intake, const char *line, size_t n)
{
    if (intake->request_line || n == 0 || (n == 1 && line[0] == '\r' && !intake->empty_line))
        return false;
    size_t method = span(line, n, TOKEN);
    return method != n && (method == 0 || line[method] != ' ');
}

static enum intake_got take_head(struct intake *intake, const char *bytes, size_t n,
                                 size_t head_max, size_t *used)
{
    size_t looked_at = n < head_max ? n : head_max;
    enum intake_got got = INTAKE_HEAD;

    *used = n;
    while (got == INTAKE_HEAD) {
        const char *end = memchr(bytes + intake->searched, '\n', looked_at - intake->searched);
        if (end == NULL)
            break;
        const char *line = bytes + intake->line_at;
        size_t line_n = (size_t)(end - line);
        if (line_n == 0 || line[line_n - 1] != '\r')
            return bad(intake, "Lines have to end with CR LF.");
        intake->line_at = intake->searched = (size_t)(end - bytes) + 1;
        got = take_line(intake, line, line_n - 1);
    }
    if (got != INTAKE_HEAD) {
        *used = intake->line_at;
        return got;
    }
    intake->searched = looked_at;
    if (is_hopeless(intake, bytes + intake->line_at, looked_at - intake->line_at))
        return bad(intake, "This is not HTTP.");
    if (n >= head_max)
        return too_large(intake, "The request line and the headers are too large; see "
                                 "--max-header-bytes.");
    return INTAKE_HEAD;
}

/* ---- chunked bodies */

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_size(struct intake *intake, char c)
{
    int digit = hex_of(c);
    if (digit >= 0) {
        intake->left = intake->left * 16 + (unsigned)digit;
        return ++intake->digits <= 15;
    }
    if (intake->digits == 0)
        return false;
    intake->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXTENSION;
    return c == '\r' || c == ';' || c == ' ' || c == '\t';
}

static bool end_size(struct intake *intake, char c)
{
    intake->state = intake->left != 0 ? CHUNK_DATA : TRAILER_START;
    intake->digits = 0;
    intake->line = 0;
    return c == '\n';
}

/* Text up to a CR. */
static bool take_text(struct intake *intake, char c, enum state then)
{
    if (c == '\r')
        intake->state = then;
    return c == '\r' || (is_kind(c, VALUE) && ++intake->extensions <= INTAKE_EXTENSION_BYTES);
}

/* One byte that is not data. False: it may not stand here. */
static bool take_byte(struct intake *intake, char c)
{
    switch (intake->state) {
    case CHUNK_SIZE:
        return take_size(intake, c);
    case CHUNK_EXTENSION:
        return ++intake->line <= INTAKE_CHUNK_LINE_BYTES && take_text(intake, c, CHUNK_SIZE_LF);
    case CHUNK_SIZE_LF:
        return end_size(intake, c);
    case CHUNK_DATA_CR:
        intake->state = CHUNK_DATA_LF;
        return c == '\r';
    case CHUNK_DATA_LF:
        intake->state = CHUNK_SIZE;
        return c == '\n';
    case TRAILER_START:
        intake->state = c == '\r' ? LAST_LF : TRAILER;
        return c == '\r' || (is_kind(c, TOKEN) && ++intake->extensions <= INTAKE_EXTENSION_BYTES);
    case TRAILER:
        return take_text(intake, c, TRAILER_LF);
    case TRAILER_LF:
        intake->state = TRAILER_START;
        return c == '\n';
    default: /* LAST_LF */
        intake->state = DONE;
        return c == '\n';
    }
}

static enum intake_got take_body(struct intake *intake, const char *bytes, size_t n, size_t *used)
{
    size_t at = 0;
    while (at < n && intake->state != DONE) {
        if (intake->state != SIZED && intake->state != CHUNK_DATA) {
            *used = at + 1;
            if (!take_byte(intake, bytes[at++]))
                return bad(intake, "The chunks of the body are not well-formed.");
            continue;
        }
        size_t data = n - at < intake->left ? n - at : (size_t)intake->left;
        at += data;
        intake->left -= data;
        if (intake->left == 0)
            intake->state = intake->state == SIZED ? DONE : CHUNK_DATA_CR;
    }
    *used = at;
    return intake->state == DONE ? INTAKE_DONE : INTAKE_BODY;
}

enum intake_got intake_take(struct intake *intake, const char *bytes, size_t n, size_t head_max,
                            size_t *used)
{
    if (intake->state != HEAD)
        return take_body(intake, bytes, n, used);
    enum intake_got got = take_head(intake, bytes, n, head_max, used);
    if (got != INTAKE_BODY)
        return got;
    size_t head = *used, body = 0;
    got = take_body(intake, bytes + head, n - head, &body);
    *used = head + body;
    return got;
}
