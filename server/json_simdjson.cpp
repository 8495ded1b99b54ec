/*
 * json on simdjson: the one file in C++, with nothing in it that throws but for want of memory.
 *
 * Of simdjson this is the first stage, which finds the tokens of a text and checks its UTF-8 many
 * bytes at a time. What the tokens mean is the business of server/json.c.
 */
#include "server/json.h"

#include "server/json_internal.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <simdjson.h>

static_assert(JSON_PADDING >= simdjson::SIMDJSON_PADDING);
static_assert(JSON_BYTES < simdjson::SIMDJSON_MAXSIZE_BYTES);

struct json_index {
    simdjson::dom::parser parser;
};

json_index *json_index_new(size_t cap)
{
    auto *index = new json_index;
    if (index->parser.allocate(cap, 1) != simdjson::SUCCESS) {
        fprintf(stderr, "atoll: out of memory (a JSON text of %zu bytes)\n", cap);
        abort();
    }
    return index;
}

void json_index_free(json_index *index)
{
    delete index;
}

const uint32_t *json_index_tokens(json_index *index, str text, size_t *tokens_n)
{
    auto &stages = *index->parser.implementation;
    auto *bytes = reinterpret_cast<const uint8_t *>(text.p);
    auto status = stages.stage1(bytes, text.n, simdjson::stage1_mode::regular);
    *tokens_n = status == simdjson::SUCCESS ? stages.n_structural_indexes : 0;
    bool found = status == simdjson::SUCCESS || status == simdjson::EMPTY;
    return found ? stages.structural_indexes.get() : nullptr;
}

double json_double(const char *p, const char *end)
{
    double value = 0;
    return std::from_chars(p, end, value).ec == std::errc() ? value : NAN;
}

void json_digits(double value, char digits[JSON_DIGITS_BYTES])
{
    char *end = digits + JSON_DIGITS_BYTES - 1;
    *std::to_chars(digits, end, value, std::chars_format::scientific).ptr = '\0';
}

bool json_utf8_valid(str s)
{
    return s.n == 0 || simdjson::validate_utf8(s.p, s.n);
}
