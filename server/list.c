#include "server/list.h"

#include "server/gather.h"
#include "server/scan.h"

/* ---- cursors */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void list_cursor_write(struct buf *out, struct str id)
{
    uint32_t bits = 0;
    unsigned n = 0;

    for (size_t i = 0; i < id.n; i++) {
        bits = bits << 8 | (unsigned char)id.p[i];
        for (n += 8; n >= 6; n -= 6)
            buf_add_byte(out, base64_digits[bits >> (n - 6) & 63]);
    }
    if (n != 0)
        buf_add_byte(out, base64_digits[bits << (6 - n) & 63]);
}

bool list_cursor_read(struct str cursor, struct arena *arena, struct str *id)
{
    char *out = arena_alloc(arena, cursor.n);
    size_t out_n = 0;
    uint32_t bits = 0;
    unsigned n = 0;

    for (size_t i = 0; i < cursor.n; i++) {
        const char *digit = cursor.p[i] != '\0' ? strchr(base64_digits, cursor.p[i]) : NULL;
        if (digit == NULL)
            return false;
        bits = bits << 6 | (uint32_t)(digit - base64_digits);
        n += 6;
        if (n >= 8) {
            n -= 8;
            out[out_n++] = (char)(bits >> n);
        }
    }
    *id = (struct str){out, out_n};
    return core_id_valid(*id);
}

/* ---- asking */

struct question {
    const struct query *query;
    struct str cursor;
};

static struct request *ask(void *ctx)
{
    const struct question *question = ctx;
    const struct query *query = question->query;
    struct request *request = request_new();

    request->kind = REQUEST_LIST;
    request->limit = query->limit;
    request->cursor = arena_copy(&request->arena, question->cursor);
    request->labels_n = query->labels_n;
    request->labels = arena_alloc(&request->arena, query->labels_n * sizeof(*request->labels));
    for (uint32_t i = 0; i < query->labels_n; i++) {
        request->labels[i].key = arena_copy(&request->arena, query->labels[i].key);
        request->labels[i].value = arena_copy(&request->arena, query->labels[i].value);
    }
    return request;
}

void list_serve(struct exchange *exchange, const struct call *call)
{
    struct question question = {.query = &call->query};

    if (query_has(&call->query, QUERY_CURSOR) && call->query.cursor.n != 0 &&
        !list_cursor_read(call->query.cursor, &exchange->frontend->scratch, &question.cursor)) {
        exchange_refuse_text(exchange, CORE_E_MALFORMED, "cursor",
                             "cursor must be that of an earlier page.");
        return;
    }
    gather_begin(exchange, ask, &question);
}

/* ---- merging */

/* One shard's objects that are still to be placed. */
struct page {
    struct str left;
    struct str object, id; /* the first of them; p == NULL: none */
};

/* Goes on to the page's next object, which begins {"id":"…". */
static void page_next(struct page *page)
{
    static const char head[] = "{\"id\":\"";

    page->object = (struct str){NULL, 0};
    if (page->left.n != 0 && page->left.p[0] == ',')
        page->left = (struct str){page->left.p + 1, page->left.n - 1};
    if (page->left.n == 0)
        return;
    page->object = scan_value(page->left);
    page->left.p += page->object.n;
    page->left.n -= page->object.n;
    assert(page->object.n > sizeof(head) && memcmp(page->object.p, head, sizeof(head) - 1) == 0);
    const char *id = page->object.p + sizeof(head) - 1;
    const char *end = memchr(id, '"', page->object.n - sizeof(head) + 1);
    page->id = (struct str){id, (size_t)(end - id)};
}

/* The page whose next object has the least id; NULL: all are done. */
static struct page *least(struct page *pages, unsigned n)
{
    struct page *found = NULL;
    for (unsigned i = 0; i < n; i++)
        if (pages[i].object.p != NULL && (found == NULL || str_compare(pages[i].id, found->id) < 0))
            found = &pages[i];
    return found;
}

/* The least of the ids at which a shard stopped; p == NULL: all came to their end. */
static struct str horizon_of(const struct gather *gather)
{
    struct str horizon = {NULL, 0};
    for (unsigned i = 0; i < gather->expected; i++) {
        const struct request *reply = gather->replies[i];
        if (reply->more && (horizon.p == NULL || str_compare(reply->last_id, horizon) < 0))
            horizon = reply->last_id;
    }
    return horizon;
}

/* Writes the page; returns where the next one begins, p == NULL: it was the last. */
static struct str merge(const struct gather *gather, uint32_t limit, struct buf *out)
{
    struct page pages[DATADIR_SHARDS_MAX];
    struct str horizon = horizon_of(gather);
    struct str last = {NULL, 0};
    struct page *page;

    for (unsigned i = 0; i < gather->expected; i++) {
        pages[i] = (struct page){.left = buf_str(&gather->replies[i]->body)};
        page_next(&pages[i]);
    }
    for (uint32_t n = 0; (page = least(pages, gather->expected)) != NULL; n++) {
        if (n == limit)
            return last;
        if (horizon.p != NULL && str_compare(page->id, horizon) > 0)
            break;
        if (n != 0)
            buf_add_byte(out, ',');
        buf_add_str(out, page->object);
        last = page->id;
        page_next(page);
    }
    return horizon;
}

void list_on_reply(struct exchange *exchange, struct request *request)
{
    struct buf *out = &exchange->text;
    uint32_t limit = request->limit;

    if (!gather_take(exchange, request))
        return;
    buf_add_literal(out, "{\"sessions\":[");
    struct str next = merge(exchange->gather, limit, out);
    buf_add_literal(out, "],\"cursor\":");
    if (next.p != NULL) {
        buf_add_byte(out, '"');
        list_cursor_write(out, next);
        buf_add_byte(out, '"');
    } else {
        buf_add_literal(out, "null");
    }
    buf_add_byte(out, '}');
    exchange_answer(exchange,
                    &(struct answer){.status = 200, .kind = ANSWER_JSON, .body = buf_str(out)});
}
