/*
 * JSON. What ours takes, another library takes as well, and reads as the same; the canonical text
 * of a value is that of itself. What ours refuses and the other takes breaks one of our own rules,
 * and is told where.
 */
#include "server/json.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/json_theirs.h"

/* A new one for each input: one that was used keeps room, in which a mistake would not show. */
static struct json_parser *parser;

enum { ELEMENTS_MAX = 1000 };

/* A JSON_FAULT is an element of the outermost array, and has its own sentence. */
static bool has_fault(const struct json_value *root)
{
    bool found = false;
    if (root->type != JSON_ARRAY)
        return false;
    const struct json_value *v = json_first(root);
    for (uint32_t i = 0; i < root->size && i < ELEMENTS_MAX; i++, v = json_next(v)) {
        struct json_error error;
        if (v->type != JSON_FAULT)
            continue;
        found = true;
        json_fault(parser, v, &error);
        check_sentence(error.text, sizeof(error.text));
    }
    return found;
}

static void check_canonical(const struct json_value *root, struct str text)
{
    struct arena arena = exact_arena();
    struct json_error error;
    struct buf once = {0}, twice = {0};

    json_canonical(root, &once);
    assert(json_utf8_valid(buf_str(&once)));
    assert(json_parse(parser, &arena, buf_str(&once), &root, &error) == 0);
    json_canonical(root, &twice);
    assert(buf_equal(&once, &twice));
    assert(theirs_equal(text, buf_str(&once)));
    buf_free(&once);
    buf_free(&twice);
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = input_of(data, size);
    struct arena arena = exact_arena();
    const struct json_value *root;
    struct json_error error;

    parser = json_parser_new(ELEMENTS_MAX, 7);
    if (json_parse(parser, &arena, text, &root, &error) != 0) {
        check_sentence(error.text, sizeof(error.text));
        assert(error.at <= text.n);
    } else if (!has_fault(root) && !(root->type == JSON_ARRAY && root->size > ELEMENTS_MAX)) {
        check_canonical(root, text);
    }
    json_parser_free(parser);
    arena_free(&arena);
    return 0;
}
