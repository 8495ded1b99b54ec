#include "server/mcp/text.h"

#include "server/scan.h"

#include <stdarg.h>
#include <stdio.h>

enum { TEXT_ADD_BYTES = 1024 };

void text_add(struct buf *out, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(buf_reserve(out, TEXT_ADD_BYTES), TEXT_ADD_BYTES, format, args);
    va_end(args);
    assert(n >= 0);
    out->n += n < TEXT_ADD_BYTES ? (size_t)n : TEXT_ADD_BYTES - 1;
}

void text_add_quoted(struct buf *out, struct str string, size_t max)
{
    size_t before = out->n;
    if (!scan_add_cut(out, string, max))
        text_add(out, " (cut: %zu bytes more)", string.n - (out->n - before));
}

void text_add_ids(struct buf *out, struct str ids, size_t max)
{
    size_t n = scan_count(ids), i = 0;
    bool named = ids.n != 0 && ids.p[0] == '{';
    struct str key = {0}, value;
    if (n == 0)
        buf_add_literal(out, "nobody");
    while (i < max && scan_next(&ids, named ? &key : NULL, &value)) {
        struct str id = named ? key : scan_id(value);
        text_add(out, "%s%.*s", i++ != 0 ? ", " : "", (int)id.n, id.p);
    }
    if (n > i)
        text_add(out, " and %zu more", n - i);
}
