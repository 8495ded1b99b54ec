/*
 * decode_history: the bodies that are no commands: where to fork, and a session to import.
 *
 * Failure: one sentence that names the member, or the line of the file. Lines are counted as in the
 * file: 1 is the header, event n stands in line n + 1.
 */
#include "server/decode.h"

#include "server/import_line.h"
#include "server/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { LINE_MIN_BYTES = 100 /* no event's line is shorter: its chain alone has 64 */ };

__attribute__((format(printf, 3, 4))) static int refuse(struct core_refusal *why, const char *field,
                                                        const char *format, ...)
{
    va_list arguments;

    *why = (struct core_refusal){.code = CORE_E_MALFORMED, .field = field};
    va_start(arguments, format);
    vsnprintf(why->detail, sizeof(why->detail), format, arguments);
    va_end(arguments);
    return -1;
}

/* ---- a fork */

static int take_fork_member(const struct json_value *key, struct request *request,
                            struct core_refusal *why)
{
    const struct json_value *v = key + 1;

    if (str_equal(json_str(key), STR("at"))) {
        if (v->type != JSON_NUMBER || v->as.number < 1 || trunc(v->as.number) != v->as.number ||
            v->as.number > (double)CORE_SAFE_INTEGER)
            return refuse(why, "at", "\"at\" must be a seq: an integer from 1 to %.0f",
                          (double)CORE_SAFE_INTEGER);
        request->at = (struct request_at){.given = true, .seq = (uint64_t)v->as.number};
        return 0;
    }
    if (!str_equal(json_str(key), STR("session")))
        return refuse(why, NULL, "unknown field: a fork takes at, session");
    if (v->type != JSON_STRING || !core_id_valid(json_str(v)))
        return refuse(why, "session", "\"session\" must be an id: " CORE_ID_RULE);
    request->session = json_str(v);
    return 0;
}

static int read_fork(struct json_parser *parser, struct str body, struct request *request,
                     struct core_refusal *why)
{
    const struct json_value *root;
    struct json_error error;

    if (json_parse(parser, &request->arena, body, &root, &error) != 0)
        return refuse(why, NULL, "%s", error.text);
    if (root->type != JSON_OBJECT)
        return refuse(why, NULL, "the body must be an object");
    const struct json_value *key = json_first(root);
    for (uint32_t i = 0; i < root->size; i++, key = json_next(key + 1))
        if (take_fork_member(key, request, why) != 0)
            return -1;
    return 0;
}

int decode_fork(struct decoder *d, struct str body, struct request *request,
                struct core_refusal *why)
{
    int status = body.n != 0 ? read_fork(decoder_parser(d), body, request, why) : 0;

    json_parser_trim(decoder_parser(d));
    return status;
}

/* ---- an import */

static int take_header(struct str *body, struct request *request, struct import_header *header,
                       struct core_refusal *why)
{
    char text[IMPORT_WHY_BYTES];
    struct str line = {"", 0};

    import_take_line(body, &line);
    if (import_header_read(line, header, text) != 0)
        return refuse(why, "body", "line 1: %s", text);
    if (!str_equal(header->session, request->session))
        return refuse(why, "session", "line 1: the export is of the session \"%.*s\"",
                      (int)header->session.n, header->session.p);
    request->at = (struct request_at){.given = true, .seq = header->seq};
    request->at.epoch = arena_copy(&request->arena, header->epoch);
    return 0;
}

static int take_event(struct str line, struct request *request, struct core_refusal *why)
{
    uint64_t seq = request->after + request->imports_n + 1;
    struct request_import *import = &request->imports[request->imports_n];
    unsigned long long number = seq + 1;
    struct import_event event;
    char text[IMPORT_WHY_BYTES];

    if (import_event_read(line, &event, text) != 0)
        return refuse(why, "body", "line %llu: %s", number, text);
    if (event.seq != seq)
        return refuse(why, "body", "line %llu: \"seq\" must be %llu", number, number - 1);
    char *bytes = arena_alloc(&request->arena, event.bytes.n / 4 * 3);
    size_t n;
    if (!import_base64(event.bytes, bytes, &n))
        return refuse(why, "body", "line %llu: \"bytes\" must be base64", number);
    import->line = number;
    import->bytes = (struct str){bytes, n};
    import->json = arena_copy(&request->arena, event.json);
    import->chain = event.chain;
    request->imports_n++;
    return 0;
}

/* A file that comes in one request has its end in it. */
static int check_end(const struct import_header *header, const struct request *request,
                     struct core_refusal *why)
{
    const struct request_import *last = &request->imports[request->imports_n - 1];

    if (request->imports_n != header->seq)
        return refuse(why, "body", "line 1 tells of %llu events; %u have come",
                      (unsigned long long)header->seq, request->imports_n);
    if (memcmp(&last->chain, &header->chain, sizeof(header->chain)) != 0)
        return refuse(why, "body", "line %llu: its \"chain\" is not the one of line 1",
                      (unsigned long long)last->line);
    return 0;
}

int decode_import(struct str body, struct request *request, struct core_refusal *why)
{
    struct import_header header = {0};
    struct str line;
    bool first = request->after == 0;

    if (first && take_header(&body, request, &header, why) != 0)
        return -1;
    if (body.n == 0)
        return refuse(why, "body", "the page holds no event");
    request->imports =
        arena_alloc(&request->arena, (body.n / LINE_MIN_BYTES + 1) * sizeof(*request->imports));
    request->imports_n = 0;
    while (import_take_line(&body, &line))
        if (take_event(line, request, why) != 0)
            return -1;
    return first && !request->import_more ? check_end(&header, request, why) : 0;
}
