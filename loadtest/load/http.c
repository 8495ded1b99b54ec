#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

char http_host[HTTP_HOST_BYTES] = "Host: localhost\r\n";

bool http_set_token(const char *token)
{
    size_t n = strlen(token);

    if (n == 0 || n > HTTP_TOKEN_BYTES || strpbrk(token, " \t\r\n") != NULL)
        return false;
    snprintf(http_host, sizeof(http_host), "Host: localhost\r\nAuthorization: Bearer %s\r\n",
             token);
    return true;
}

bool http_parse_url(const char *url, struct sockaddr_in *address)
{
    static const char scheme[] = "http://";
    char host[INET_ADDRSTRLEN];

    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0)
        return false;
    url += sizeof(scheme) - 1;
    size_t n = strcspn(url, ":");
    char *end;
    if (n >= sizeof(host) || url[n] != ':')
        return false;
    memcpy(host, url, n);
    host[n] = '\0';
    unsigned long port = strtoul(url + n + 1, &end, 10);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return port >= 1 && port <= UINT16_MAX && end[strspn(end, "/")] == '\0' &&
           inet_pton(AF_INET, host, &address->sin_addr) == 1;
}

bool http_connect(struct http *http, const struct sockaddr_in *address)
{
    int one = 1;

    *http = (struct http){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    return http->fd >= 0 &&
           connect(http->fd, (const struct sockaddr *)address, sizeof(*address)) == 0 &&
           setsockopt(http->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
           fcntl(http->fd, F_SETFL, O_NONBLOCK) == 0;
}

bool http_watch(struct http *http, int epoll_fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = http};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, http->fd, &event) == 0;
}

void http_close(struct http *http)
{
    if (http->fd >= 0)
        close(http->fd);
    http->fd = -1;
    free(http->body);
    http->body = NULL;
    http->body_size = http->body_room = 0;
}

static enum http_result fail(struct http *http, const char *error)
{
    http->error = error;
    return HTTP_FAILED;
}

/* ---- the answer */

bool http_keep(struct http *http, const char *p, size_t n)
{
    size_t size = http->body_size + n + 1;

    if (size > http->body_room) {
        size_t room = 2 * size > 16384 ? 2 * size : 16384;
        char *body = realloc(http->body, room);
        if (body == NULL)
            return false;
        http->body = body;
        http->body_room = room;
    }
    memcpy(http->body + http->body_size, p, n);
    http->body_size += n;
    http->body[http->body_size] = '\0';
    return true;
}

static void keep_tail(struct http *http, const char *p, size_t n)
{
    http->body_bytes += n;
    if (n > HTTP_TAIL_BYTES) {
        p += n - HTTP_TAIL_BYTES;
        n = HTTP_TAIL_BYTES;
    }
    size_t stay = HTTP_TAIL_BYTES - n;
    if (stay > http->tail_size)
        stay = http->tail_size;
    memmove(http->tail, http->tail + http->tail_size - stay, stay);
    memcpy(http->tail + stay, p, n);
    http->tail_size = stay + n;
}

/* What an answer's head says of its body. */
struct framing {
    bool chunked, has_length;
    uint64_t length;
};

/* Whether `line` is of header `name`; `value` is then what follows, without spaces before it. */
static bool is_header(const char *line, const char *name, size_t n, const char **value)
{
    /* Most lines are told apart by their first letter alone. */
    if ((*line | 0x20) != (*name | 0x20) || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    *value = line + n + 1 + strspn(line + n + 1, " ");
    return true;
}

/* The head ends with a zero byte. */
static struct framing read_framing(const char *head)
{
    static const char length[] = "Content-Length", encoding[] = "Transfer-Encoding";
    struct framing framing = {0};
    const char *value;

    for (const char *line = strchr(head, '\n'); line != NULL; line = strchr(line, '\n')) {
        line++;
        if (is_header(line, length, sizeof(length) - 1, &value)) {
            framing.has_length = true;
            framing.length = strtoull(value, NULL, 10);
        } else if (is_header(line, encoding, sizeof(encoding) - 1, &value)) {
            framing.chunked |= strncasecmp(value, "chunked", 7) == 0;
        }
    }
    return framing;
}

static enum http_result answer_ends(struct http *http)
{
    http->tail[http->tail_size] = '\0';
    http->state = HTTP_IDLE;
    return HTTP_DONE;
}

static enum http_result head_ends(struct http *http)
{
    http->head[http->head_size] = '\0';
    if (strncmp(http->head, "HTTP/1.1 ", 9) != 0)
        return fail(http, "the answer is not HTTP/1.1");
    http->status = atoi(http->head + 9);
    struct framing framing = read_framing(http->head);
    http->head_size = 0;
    if (framing.chunked) {
        http->state = HTTP_IN_CHUNK_SIZE;
        return HTTP_MORE;
    }
    http->to_close = !framing.has_length && http->may_close;
    if (http->to_close) {
        http->left = UINT64_MAX;
        http->state = HTTP_IN_BODY;
        return HTTP_MORE;
    }
    http->left = framing.length;
    if (!framing.has_length && http->status != 204 && http->status != 304)
        return fail(http, "the answer has neither a length nor chunks");
    http->state = HTTP_IN_BODY;
    return http->left == 0 ? answer_ends(http) : HTTP_MORE;
}

/* A whole line is in the head's buffer. */
static enum http_result line_ends(struct http *http)
{
    bool empty = http->head_size == 2;

    http->head[http->head_size] = '\0';
    http->head_size = 0;
    switch (http->state) {
    case HTTP_IN_CHUNK_SIZE:
        http->left = strtoull(http->head, NULL, 16);
        http->state = http->left != 0 ? HTTP_IN_CHUNK : HTTP_IN_TRAILER;
        return HTTP_MORE;
    case HTTP_IN_CHUNK_END:
        http->state = HTTP_IN_CHUNK_SIZE;
        return empty ? HTTP_MORE : fail(http, "a chunk is longer than it said");
    default:
        return empty ? answer_ends(http) : HTTP_MORE;
    }
}

/* The bytes up to the empty line, with it; 0: it is not among them. */
static size_t head_size_of(const char *p, size_t n)
{
    const char *end = p + n;

    for (const char *line = p; (line = memchr(line, '\n', (size_t)(end - line))) != NULL; line++) {
        if (end - line >= 3 && line[1] == '\r' && line[2] == '\n')
            return (size_t)(line - p) + 3;
    }
    return 0;
}

/* Takes the head in one piece, where all of it is there: it nearly always is. */
static bool take_head(struct http *http, const char *p, size_t n, size_t *taken)
{
    *taken = head_size_of(p, n < HTTP_HEAD_BYTES - 1 ? n : HTTP_HEAD_BYTES - 1);
    memcpy(http->head, p, *taken);
    http->head_size = *taken;
    return *taken != 0;
}

/* Takes some of the `n` bytes; `*taken` says how many. */
static enum http_result take_some(struct http *http, const char *p, size_t n, size_t *taken)
{
    if (http->state == HTTP_IN_BODY || http->state == HTTP_IN_CHUNK) {
        *taken = n < http->left ? n : (size_t)http->left;
        keep_tail(http, p, *taken);
        if (http->keep_body && !http_keep(http, p, *taken))
            return fail(http, "no memory for the answer");
        http->left -= *taken;
        if (http->left != 0)
            return HTTP_MORE;
        if (http->state == HTTP_IN_BODY)
            return answer_ends(http);
        http->state = HTTP_IN_CHUNK_END;
        return HTTP_MORE;
    }
    if (http->state == HTTP_IN_HEAD && http->head_size == 0 && take_head(http, p, n, taken))
        return head_ends(http);
    *taken = 1;
    if (http->head_size == HTTP_HEAD_BYTES - 1)
        return fail(http, "a head or a line of the answer is too long");
    http->head[http->head_size++] = *p;
    if (*p != '\n')
        return HTTP_MORE;
    if (http->state != HTTP_IN_HEAD)
        return line_ends(http);
    bool ends =
        http->head_size >= 4 && memcmp(http->head + http->head_size - 4, "\r\n\r\n", 4) == 0;
    return ends ? head_ends(http) : HTTP_MORE;
}

static enum http_result take(struct http *http, const char *p, size_t n)
{
    enum http_result result = HTTP_MORE;

    while (n != 0 && result == HTTP_MORE) {
        size_t taken;
        result = take_some(http, p, n, &taken);
        p += taken;
        n -= taken;
    }
    return result == HTTP_DONE && n != 0 ? fail(http, "there is more behind the answer") : result;
}

/* ---- sending and receiving */

static enum http_result send_out(struct http *http)
{
    while (http->out_sent < http->out_size) {
        ssize_t n = send(http->fd, http->out + http->out_sent, http->out_size - http->out_sent,
                         MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return HTTP_MORE;
        if (n < 0 && errno != EINTR)
            return fail(http, strerror(errno));
        http->out_sent += n > 0 ? (size_t)n : 0;
    }
    return HTTP_MORE;
}

enum http_result http_send(struct http *http, const char *bytes, size_t size)
{
    http->state = HTTP_IN_HEAD;
    http->out = bytes;
    http->out_size = size;
    http->out_sent = http->head_size = http->tail_size = 0;
    http->body_bytes = 0;
    http->status = 0;
    http->to_close = http->closed = false;
    if (http->keep_body) {
        http->body_size = 0;
        if (!http_keep(http, "", 0))
            return fail(http, "no memory for the answer");
    }
    return send_out(http);
}

enum http_result http_receive(struct http *http,
                              enum http_result (*taker)(struct http *, const char *, size_t))
{
    static _Thread_local char bytes[256 * 1024];
    enum http_result result = send_out(http);

    while (result == HTTP_MORE) {
        ssize_t n = recv(http->fd, bytes, sizeof(bytes), 0);
        if (n == 0 && http->state == HTTP_IN_BODY && http->to_close) {
            http->closed = true;
            return answer_ends(http);
        }
        if (n == 0)
            return fail(http, "the server has closed the connection");
        if (n < 0 && errno == EAGAIN)
            return HTTP_MORE;
        if (n < 0 && errno != EINTR)
            return fail(http, strerror(errno));
        if (n > 0 && http->state == HTTP_IDLE)
            return fail(http, "an answer that nobody has asked for");
        result = n > 0 ? taker(http, bytes, (size_t)n) : HTTP_MORE;
    }
    return result;
}

enum http_result http_go_on(struct http *http)
{
    return http_receive(http, take);
}
