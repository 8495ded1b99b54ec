#include "server/level.h"

#include "server/json.h"
#include "server/logger.h"

static void answer_level(struct exchange *exchange)
{
    struct buf *out = &exchange->text;
    const char *name = logger_level_name(logger_level());

    buf_add_literal(out, "{\"level\":\"");
    buf_add(out, name, strlen(name));
    buf_add_literal(out, "\"}");
    exchange_answer(exchange,
                    &(struct answer){.status = 200, .kind = ANSWER_JSON, .body = buf_str(out)});
}

/* {"level": "…"}; false: it is not. */
static bool read_level(struct frontend *frontend, struct str body, enum logger_level *level)
{
    const struct json_value *root;
    struct json_error error;

    return json_parse(decoder_parser(frontend->decoder), &frontend->scratch, body, &root, &error) ==
               0 &&
           root->type == JSON_OBJECT && root->size == 1 &&
           str_equal(json_str(root + 1), STR("level")) && root[2].type == JSON_STRING &&
           logger_level_of(json_str(root + 2), level);
}

static void put_level(struct exchange *exchange, const struct call *call)
{
    struct frontend *frontend = exchange->frontend;
    enum logger_level level;

    if (access_media(call->headers.content_type) != ACCESS_MEDIA_JSON) {
        exchange_refuse_text(exchange, PROBLEM_E_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                             "The body must be application/json.");
        return;
    }
    if (call->body.n > frontend->shared->config->max_body_bytes ||
        !read_level(frontend, call->body, &level)) {
        exchange_refuse_text(exchange, CORE_E_MALFORMED, "level",
                             "The body must be {\"level\": \"error\"}, or warn, info or debug.");
        return;
    }
    struct logger_line line;
    logger_set_level(level);
    logger_begin(&line, LOGGER_WARN, "log_level_changed");
    logger_add_text(&line, "to", logger_level_name(level));
    logger_end(&line);
    answer_level(exchange);
}

void level_serve(struct exchange *exchange, const struct call *call)
{
    if (exchange->match.route == ROUTE_LOG_LEVEL_GET)
        answer_level(exchange);
    else
        put_level(exchange, call);
}
