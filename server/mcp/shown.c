#include "server/mcp/shown.h"

#include "core/core.h"
#include "server/mcp/text.h"
#include "server/scan.h"

#include <stdio.h>

#define ID_ARGS(id) (int)(id).n, (id).p

void shown_free(struct shown *shown)
{
    buf_free(&shown->json);
    buf_free(&shown->text);
}

/* Where both stood before an item. */
struct mark {
    size_t json, text;
};

static struct mark begin(struct shown *shown)
{
    struct mark mark = {shown->json.n, shown->text.n};
    if (shown->n != 0)
        buf_add_byte(&shown->json, ',');
    return mark;
}

static bool settle(struct shown *shown, struct mark mark)
{
    size_t room = SHOWN_BYTES - shown->used;
    bool fits = shown->json.n <= room && shown->text.n <= room;
    if (!fits && shown->n != 0) {
        shown->json.n = mark.json;
        shown->text.n = mark.text;
        return false;
    }
    shown->n++;
    return true;
}

/* ---- members */

static void json_member(struct buf *out, const char *name, struct str value)
{
    text_add(out, ",\"%s\":", name);
    buf_add_str(out, value);
}

/* A text that may be null; then it is "". */
static void json_text(struct buf *out, const char *name, struct str value)
{
    json_member(out, name, scan_is_null(value) ? STR("\"\"") : value);
}

static void text_quoted(struct buf *out, const char *name, struct str value)
{
    if (scan_is_null(value) || value.n == 2)
        return;
    text_add(out, "%s", name);
    buf_add_str(out, value);
}

/* Of an array, or of an object's names. */
static bool ids_next(struct str *rest, bool named, struct str *id)
{
    struct str value;
    if (!scan_next(rest, named ? id : NULL, &value))
        return false;
    if (!named)
        *id = scan_id(value);
    return true;
}

/* ,"name":[…] of the ids in `list`, `first` being the first where it is there at all (then true is
 * returned); and, where there are more than SHOWN_IDS, ,"name_left_out":N */
static bool json_ids(struct buf *out, const char *name, struct str list, struct str first)
{
    bool named = list.n != 0 && list.p[0] == '{', has_first = false;
    struct str id = {0}, rest = list;
    uint32_t n = 0, shown = 0;

    for (; ids_next(&rest, named, &id); n++)
        has_first = has_first || str_equal(id, first);
    text_add(out, ",\"%s\":[", name);
    if (has_first)
        text_add(out, "\"%.*s\"%s", ID_ARGS(first), ++shown < n ? "," : "");
    for (rest = list; shown < SHOWN_IDS && ids_next(&rest, named, &id);) {
        if (!has_first || !str_equal(id, first))
            text_add(out, "%s\"%.*s\"", shown++ > has_first ? "," : "", ID_ARGS(id));
    }
    buf_add_byte(out, ']');
    if (n > shown)
        text_add(out, ",\"%s_left_out\":%u", name, n - shown);
    return has_first;
}

static void text_ids(struct buf *out, struct str list, bool yours)
{
    if (yours)
        buf_add_literal(out, "you");
    if (yours && scan_count(list) > 1)
        buf_add_literal(out, " among ");
    if (!yours || scan_count(list) > 1)
        text_add_ids(out, list, SHOWN_IDS);
}

/* ---- messages */

/* How one goes on that was cut, as a member and for a reader. */
static void add_more(struct shown *shown, const char *name, struct str id, const char *of_data,
                     size_t from, size_t whole)
{
    char cursor[48];
    snprintf(cursor, sizeof(cursor), "%.*s%s", ID_ARGS(id), of_data);
    if (from != 0)
        snprintf(cursor + strlen(cursor), sizeof(cursor) - strlen(cursor), "+%zu", from);
    text_add(&shown->json, ",\"%s\":\"%s\"", name, cursor);
    text_add(&shown->text, " [%zu bytes in all; more with atoll_read_thread, cursor \"%s\"]", whole,
             cursor);
}

static void add_head(struct shown *shown, struct str message, struct str thread)
{
    struct str id = scan_id(scan_member(message, "id"));
    struct str sender = scan_id(scan_member(message, "sender"));
    struct str ts = scan_id(scan_member(message, "ts"));
    struct str mentions = scan_member(message, "mentions");
    struct str reply_to = scan_id(scan_member(message, "reply_to"));
    struct str own = scan_id(scan_member(message, "thread"));
    struct str of = own.p != NULL ? own : thread;

    text_add(&shown->json,
             "{\"id\":\"%.*s\",\"thread\":\"%.*s\",\"ts\":\"%.*s\",\"sender\":\"%.*s\"",
             ID_ARGS(id), ID_ARGS(of), ID_ARGS(ts), ID_ARGS(sender));
    bool me = json_ids(&shown->json, "mentions", mentions, shown->reader);
    text_add(&shown->text, "%.*s in %.*s from %.*s at %.*s", ID_ARGS(id), ID_ARGS(of),
             ID_ARGS(sender), ID_ARGS(ts));
    if (mentions.n > 2) {
        buf_add_literal(&shown->text, ", mentions ");
        text_ids(&shown->text, mentions, me);
    }
    if (reply_to.p != NULL) {
        text_add(&shown->json, ",\"reply_to\":\"%.*s\"", ID_ARGS(reply_to));
        text_add(&shown->text, ", in reply to %.*s", ID_ARGS(reply_to));
    }
    buf_add_literal(&shown->text, ":\n");
}

static void add_content(struct shown *shown, struct str id, struct str content)
{
    struct str piece = scan_piece(content, 0, SHOWN_CONTENT_BYTES);
    buf_add_literal(&shown->json, ",\"content\":\"");
    buf_add_str(&shown->json, piece);
    buf_add_byte(&shown->json, '"');
    if (scan_is_null(content)) {
        buf_add_literal(&shown->text, "[its content is hidden from you]");
        return;
    }
    buf_add_byte(&shown->text, '"');
    buf_add_str(&shown->text, piece);
    buf_add_byte(&shown->text, '"');
    if (piece.n + 2 < content.n)
        add_more(shown, "more", id, "", piece.n, content.n - 2);
}

static void add_data(struct shown *shown, struct str id, struct str data)
{
    if (scan_is_null(data))
        return;
    buf_add_literal(&shown->text, "\ndata: ");
    if (data.n > SHOWN_DATA_BYTES) {
        add_more(shown, "more_data", id, ".data", 0, data.n);
        return;
    }
    json_member(&shown->json, "data", data);
    buf_add_str(&shown->text, data);
}

bool shown_add_message(struct shown *shown, struct str message, struct str thread)
{
    struct mark mark = begin(shown);
    struct str id = scan_id(scan_member(message, "id"));
    add_head(shown, message, thread);
    add_content(shown, id, scan_member(message, "content"));
    add_data(shown, id, scan_member(message, "data"));
    buf_add_byte(&shown->json, '}');
    buf_add_literal(&shown->text, "\n\n");
    return settle(shown, mark);
}

size_t shown_add_piece(struct shown *shown, struct str message, struct str thread, bool of_data,
                       size_t from)
{
    struct str source = scan_member(message, of_data ? "data" : "content");
    struct buf quoted = {0};
    struct mark mark = begin(shown);

    if (!of_data && scan_is_null(source))
        source = STR("\"\"");
    if (of_data) { /* as a text, which can be cut anywhere */
        json_add_string(&quoted, source.p != NULL ? source : STR("null"));
        source = buf_str(&quoted);
    }
    struct str piece = scan_piece(source, from, SHOWN_PIECE_BYTES);
    size_t next = (size_t)(piece.p - source.p) - 1 + piece.n;
    add_head(shown, message, thread);
    text_add(&shown->json, ",\"%s\":\"", of_data ? "data_text" : "content");
    buf_add_str(&shown->json, piece);
    buf_add_literal(&shown->json, "\"}");
    text_add(&shown->text, "%s\"", of_data ? "its data as JSON: " : "");
    buf_add_str(&shown->text, piece);
    buf_add_literal(&shown->text, "\"\n\n");
    settle(shown, mark);
    size_t whole = source.n - 2;
    buf_free(&quoted);
    return next < whole ? next : 0;
}

/* ---- agents and threads */

bool shown_add_agent(struct shown *shown, struct str id, struct str agent)
{
    struct mark mark = begin(shown);
    struct str status = scan_id(scan_member(agent, "status"));
    struct str note = scan_member(agent, "note");
    struct str description = scan_member(agent, "description");
    bool you = str_equal(id, shown->reader);

    text_add(&shown->json, "{\"agent\":\"%.*s\",\"you\":%s,\"status\":\"%.*s\"", ID_ARGS(id),
             you ? "true" : "false", ID_ARGS(status));
    json_text(&shown->json, "note", note);
    json_text(&shown->json, "description", description);
    buf_add_byte(&shown->json, '}');
    text_add(&shown->text, "- %.*s%s, %.*s", ID_ARGS(id), you ? " (you)" : "", ID_ARGS(status));
    text_quoted(&shown->text, ", note ", note);
    text_quoted(&shown->text, ", described as ", description);
    buf_add_byte(&shown->text, '\n');
    return settle(shown, mark);
}

bool shown_add_thread(struct shown *shown, struct str id, struct str thread)
{
    struct mark mark = begin(shown);
    struct str status = scan_id(scan_member(thread, "status"));
    struct str name = scan_member(thread, "name");
    struct str summary = scan_member(thread, "summary");
    struct str creator = scan_id(scan_member(thread, "creator"));
    struct str participants = scan_member(thread, "participants");
    struct str messages = scan_member(thread, "older"); /* an outline's: all of them */

    text_add(&shown->json, "{\"thread\":\"%.*s\"", ID_ARGS(id));
    json_text(&shown->json, "name", name);
    text_add(&shown->json, ",\"status\":\"%.*s\"", ID_ARGS(status));
    json_text(&shown->json, "summary", summary);
    text_add(&shown->json, ",\"creator\":\"%.*s\"", ID_ARGS(creator));
    bool yours = json_ids(&shown->json, "participants", participants, shown->reader);
    text_add(&shown->json, ",\"yours\":%s", yours ? "true" : "false");
    json_member(&shown->json, "messages", messages.p != NULL ? messages : STR("0"));
    buf_add_byte(&shown->json, '}');

    text_add(&shown->text, "- %.*s ", ID_ARGS(id));
    buf_add_str(&shown->text, name);
    text_add(&shown->text, ", %.*s, by %.*s, %.*s messages, with ", ID_ARGS(status),
             ID_ARGS(creator), ID_ARGS(messages.p != NULL ? messages : STR("hidden")));
    text_ids(&shown->text, participants, yours);
    text_quoted(&shown->text, ", summary ", summary);
    buf_add_byte(&shown->text, '\n');
    return settle(shown, mark);
}

/* ---- cursors */

static bool skip(struct str *text, struct str prefix)
{
    if (text->n < prefix.n || memcmp(text->p, prefix.p, prefix.n) != 0)
        return false;
    *text = (struct str){text->p + prefix.n, text->n - prefix.n};
    return true;
}

/* All of the text as a number up to 2^53 - 1. */
static bool is_number(struct str text, uint64_t *value)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
    }
    *value = text.n != 0 && text.n <= 16 ? scan_u64(text) : UINT64_MAX;
    return *value <= CORE_SAFE_INTEGER;
}

struct shown_cursor shown_cursor_parse(struct str text)
{
    static const struct str data = {".data", 5};
    struct shown_cursor cursor = {SHOWN_NEWEST, 0, 0, false};
    const char *plus = text.n != 0 ? memchr(text.p, '+', text.n) : NULL;

    if (text.n == 0)
        return cursor;
    cursor.place = SHOWN_BEFORE;
    if (skip(&text, STR("before-")))
        return is_number(text, &cursor.seq) ? cursor : (struct shown_cursor){.place = SHOWN_BAD};
    cursor.place = SHOWN_AFTER;
    if (skip(&text, STR("after-")))
        return is_number(text, &cursor.seq) ? cursor : (struct shown_cursor){.place = SHOWN_BAD};
    cursor.place = SHOWN_MESSAGE;
    if (plus != NULL) {
        size_t n = (size_t)(plus - text.p);
        if (!is_number((struct str){plus + 1, text.n - n - 1}, &cursor.from))
            return (struct shown_cursor){.place = SHOWN_BAD};
        text.n = n;
    }
    cursor.of_data = text.n > data.n && memcmp(text.p + text.n - data.n, data.p, data.n) == 0;
    if (cursor.of_data)
        text.n -= data.n;
    cursor.seq = core_message_seq(text);
    return cursor.seq != 0 ? cursor : (struct shown_cursor){.place = SHOWN_BAD};
}
