/*
 * socket_message: what a client's message says. Commands for one session that come together are
 * gathered; whatever else is answered has its place behind them, so they are sent first.
 */
#include "server/auth/guard.h"
#include "server/problem.h"
#include "server/rest.h"
#include "server/shares.h"
#include "server/socket.h"
#include "server/socket_internal.h"

#include <stdio.h>

void socket_flush(struct socket *socket)
{
    struct request *request = socket->gathered;
    if (request == NULL)
        return;
    socket->gathered = NULL;
    if (request->commands_n == 0)
        request_free(request);
    else
        socket_answer_commands(socket, request, socket->gathered_bytes);
}

static void refuse_for(struct socket *socket, const struct decode_message *message, size_t bytes,
                       const struct core_refusal *why, int retry_after_s)
{
    /* The text first: what `why` shows may lie in the request that is being gathered. */
    struct chunk *text = socket_result_later(message->ref, why->code, why, retry_after_s);
    socket_flush(socket);
    socket_answer_later(socket, bytes)->chunk = text;
    socket_wake(socket);
}

static void refuse(struct socket *socket, const struct decode_message *message, size_t bytes,
                   const struct core_refusal *why)
{
    refuse_for(socket, message, bytes, why, 0);
}

static bool fits_gathered(const struct socket *socket, struct str session)
{
    const struct request *request = socket->gathered;
    uint64_t max = socket->frontend->shared->config->max_batch_commands;
    if (max > SOCKET_GATHER_COMMANDS)
        max = SOCKET_GATHER_COMMANDS;
    return request->commands_n < max && socket->gathered_bytes < SOCKET_GATHER_BYTES &&
           str_equal(request->session, session);
}

static struct request *gather_for(struct socket *socket, struct str session)
{
    if (socket->gathered != NULL && !fits_gathered(socket, session))
        socket_flush(socket);
    if (socket->gathered == NULL) {
        struct request *request = request_new();
        request->kind = REQUEST_COMMANDS;
        request->session = arena_copy(&request->arena, session);
        request->caller = arena_copy(&request->arena, guard_caller(socket->outlet->grant));
        request->batch = request->refs = true;
        socket->gathered = request;
        socket->gathered_bytes = 0;
    }
    return socket->gathered;
}

static void take_command(struct socket *socket, const struct decode_message *message, size_t bytes)
{
    struct str session = socket->many ? message->session : watcher_session(&socket->watcher);
    struct core_refusal why;
    int rc = guard_session(socket->outlet->grant, AUTH_WRITE, session, &why);

    if (rc != 0) {
        why.code = (enum core_error)rc;
        refuse(socket, message, bytes, &why);
        return;
    }
    struct request *request = gather_for(socket, session);
    rc = decode_message_command(socket->frontend->decoder, message, request, &why);

    if (rc == 0) {
        rc = rest_check_create(request, &request->commands[request->commands_n - 1], &why);
        request->commands_n -= rc != 0;
    }
    if (rc != 0)
        refuse(socket, message, bytes, &why);
    else
        socket->gathered_bytes += bytes;
}

/* A connection of one session watches that, and no other. */
static void refuse_watch(struct socket *socket, const struct decode_message *message, size_t bytes)
{
    struct core_refusal why = {.code = CORE_E_MALFORMED,
                               .field = message->watch != NULL ? "watch" : "unwatch"};
    snprintf(why.detail, sizeof(why.detail),
             "this connection watches the one session of its path; /v1/ws watches many");
    refuse(socket, message, bytes, &why);
}

/* Counts the message. False: there are too many; it has been answered. */
static bool pay(struct socket *socket, const struct decode_message *message, size_t bytes)
{
    struct core_refusal why;
    int retry_after_s;

    if (socket->paid || shares_take(socket->frontend, socket->outlet->grant, socket->address, &why,
                                    &retry_after_s) == 0)
        return true;
    refuse_for(socket, message, bytes, &why, retry_after_s);
    return false;
}

/* Decoded as far as what all messages have. */
static bool take(struct socket *socket, const struct decode_message *message, size_t bytes)
{
    if (!pay(socket, message, bytes))
        return true;
    if (!message->is_command && socket->many) {
        socket_flush(socket);
        return socket_watch_take(socket, message, bytes);
    }
    if (message->is_command)
        take_command(socket, message, bytes);
    else
        refuse_watch(socket, message, bytes);
    return true;
}

bool socket_take(struct socket *socket, struct str text)
{
    struct frontend *frontend = socket->frontend;
    struct decode_message message;
    struct core_refusal why;
    bool taken = true;

    arena_reset(&frontend->scratch);
    decoder_speak_as(frontend->decoder, guard_speaker(socket->outlet->grant), (struct str){0});
    socket->unanswered++;
    socket->unanswered_bytes += text.n;
    if (decode_message(frontend->decoder, text, socket->many, &frontend->scratch, &message, &why) !=
        0)
        refuse(socket, &message, text.n, &why);
    else
        taken = take(socket, &message, text.n);
    socket->paid = !taken;
    decode_message_end(frontend->decoder);
    if (!taken) {
        socket->unanswered--;
        socket->unanswered_bytes -= text.n;
    }
    return taken;
}
