/*
 * socket_answers: a queue of answers in the order of what they answer. Requests are sent in that
 * order too; replies come as their shards like.
 */
#include "server/auth/guard.h"
#include "server/socket.h"

#include "server/framing.h"
#include "server/problem.h"
#include "server/socket_internal.h"

#include <stdlib.h>

enum { RETRY_AFTER_S = 1 };

bool socket_may_answer(const struct socket *socket)
{
    return socket->unanswered < SOCKET_COMMANDS_MAX && socket->unanswered_bytes < SOCKET_BYTES_MAX;
}

struct socket_answer *socket_answer_later(struct socket *socket, size_t bytes)
{
    struct socket_answer *answer = mem_alloc(sizeof(*answer));
    *answer = (struct socket_answer){.socket = socket, .messages = 1, .bytes = bytes};
    if (socket->first == NULL)
        socket->first = answer;
    else
        socket->last->next = answer;
    socket->last = answer;
    return answer;
}

void socket_answer_commands(struct socket *socket, struct request *request, size_t bytes)
{
    struct socket_answer *answer = socket_answer_later(socket, bytes);
    struct core_refusal why;
    int rc = guard_request(socket->outlet->grant, request, &why);
    assert(rc == 0); /* commands that may not be given are marked */
    answer->messages = request->commands_n;
    answer->request = request;
    if (socket->unsent == NULL)
        socket->unsent = answer;
    socket_send_unsent(socket);
}

void socket_send_unsent(struct socket *socket)
{
    struct frontend *frontend = socket->frontend;
    while (socket->unsent != NULL) {
        struct socket_answer *answer = socket->unsent;
        answer->token = answer->request->token = slots_add(&frontend->sockets.tokens, answer);
        if (mailbox_send(frontend->mailbox, answer->request) != 0) {
            slots_remove(&frontend->sockets.tokens, answer->token);
            answer->token = 0;
            socket_again(socket, SOCKET_RETRY_MS);
            return;
        }
        answer->request = NULL;
        do
            answer = answer->next;
        while (answer != NULL && answer->request == NULL);
        socket->unsent = answer;
    }
}

/* ---- texts */

static void add_result(struct buf *out, struct str ref, unsigned error,
                       const struct core_refusal *why, int retry_after_s)
{
    buf_add_byte(out, '{');
    if (ref.p != NULL) {
        buf_add_literal(out, "\"ref\":");
        buf_add_str(out, ref);
        buf_add_byte(out, ',');
    }
    buf_add_literal(out, "\"status\":");
    if (error == 0) {
        buf_add_literal(out, "200}");
        return;
    }
    int status = problem_status(error);
    buf_add_u64(out, (uint64_t)status);
    buf_add_literal(out, ",\"error\":");
    if (retry_after_s == 0 && status == 503)
        retry_after_s = RETRY_AFTER_S;
    problem_write(out, error, why, retry_after_s);
    buf_add_byte(out, '}');
}

struct chunk *socket_result_later(struct str ref, unsigned error, const struct core_refusal *why,
                                  int retry_after_s)
{
    struct buf text = {0};
    add_result(&text, ref, error, why, retry_after_s);
    struct chunk *chunk = ws_frame(WS_TEXT, buf_str(&text));
    buf_free(&text);
    return chunk;
}

struct chunk *socket_result(struct str ref, unsigned error, const struct core_refusal *why)
{
    return socket_result_later(ref, error, why, 0);
}

/* Lines as messages. */
static struct chunk *frame_lines(struct str lines, uint32_t n)
{
    struct chunk *chunk = chunk_new(lines.n + (size_t)n * WS_HEAD_BYTES);
    char *to = chunk->p;
    while (lines.n != 0) {
        const char *end = memchr(lines.p, '\n', lines.n);
        size_t size = end != NULL ? (size_t)(end - lines.p) : lines.n;
        to = framing_ws_head(to, WS_TEXT, size);
        memcpy(to, lines.p, size);
        to += size;
        size += end != NULL;
        lines = (struct str){lines.p + size, lines.n - size};
    }
    chunk->n = (size_t)(to - chunk->p);
    return chunk;
}

static struct chunk *frame_reply(struct request *request)
{
    if (request->error == 0)
        return frame_lines(buf_str(&request->body), request->commands_n);
    /* All of it was refused: each command is told. */
    struct buf lines = {0};
    for (uint32_t i = 0; i < request->commands_n; i++) {
        if (i != 0)
            buf_add_byte(&lines, '\n');
        add_result(&lines, request->commands[i].ref, request->error, &request->refusal,
                   (int)((request->retry_ms + 999) / 1000));
    }
    struct chunk *chunk = frame_lines(buf_str(&lines), request->commands_n);
    buf_free(&lines);
    return chunk;
}

void sockets_on_reply(struct frontend *frontend, struct request *request)
{
    struct socket_answer *answer = slots_find(&frontend->sockets.tokens, request->token);
    if (answer != NULL) { /* else its connection has gone */
        guard_reply(answer->socket->outlet->grant, request);
        slots_remove(&frontend->sockets.tokens, answer->token);
        answer->token = 0;
        answer->chunk = frame_reply(request);
        socket_wake(answer->socket);
    }
    request_free(request);
}

/* ---- out */

static void shift(struct socket *socket)
{
    struct socket_answer *answer = socket->first;
    socket->first = answer->next;
    socket->unanswered -= answer->messages;
    socket->unanswered_bytes -= answer->bytes;
    if (answer->watch != NULL)
        socket_watch_answered(answer->watch);
    if (answer->overview)
        socket_overview_answered(socket);
    free(answer);
}

void socket_answers_fill(struct socket *socket)
{
    while (socket->first != NULL && socket->first->chunk != NULL && !outlet_full(socket->outlet)) {
        struct chunk *chunk = socket->first->chunk;
        outlet_push(socket->outlet, chunk, chunk_text(chunk));
        shift(socket);
    }
    if (socket->stopped && socket->unanswered <= SOCKET_COMMANDS_MAX / 2 &&
        socket->unanswered_bytes <= SOCKET_BYTES_MAX / 2)
        socket_again(socket, 0);
}

void socket_answers_free(struct socket *socket)
{
    while (socket->first != NULL) {
        struct socket_answer *answer = socket->first;
        socket->first = answer->next;
        if (answer->token != 0)
            slots_remove(&socket->frontend->sockets.tokens, answer->token);
        if (answer->request != NULL)
            request_free(answer->request);
        if (answer->chunk != NULL)
            chunk_release(answer->chunk);
        free(answer);
    }
}

void sockets_free(struct sockets *sockets)
{
    slots_free(&sockets->tokens);
}
