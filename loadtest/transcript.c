/*
 * Reads transcripts: NDJSON, a line being
 *   {"session", "ts", "thread", "sender", "to", "content"}
 * in order within a session, `to` null or missing where nobody is addressed, `ts` RFC 3339.
 *
 * Normal path: the whole file is read (gzip is recognised by its content), all lines are parsed,
 * names that are valid ids keep themselves, then the other names get ids, in order of appearance,
 * that none of them has taken, then the lines are sorted into sessions. The first line that is
 * not as it should be ends the reading, with its number and the reason on stderr.
 */
#include "transcript.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <zlib.h>

enum { ID_MAX_BYTES = 64, READ_BYTES = 256 * 1024 };

/* One kind of names: name -> id, and the ids in use. Both are JSON objects. */
struct ids {
    json_t *by_name;
    json_t *taken;
    bool (*is_reserved)(const char *id); /* what this kind may not be called; NULL: nothing */
};

static bool is_id_byte(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

/* `t` and digits alone are the thread ids that the server makes itself. */
static bool is_made_thread(const char *id)
{
    return id[0] == 't' && id[1] != '\0' && id[1 + strspn(id + 1, "0123456789")] == '\0';
}

static bool is_id(const struct ids *ids, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < n; i++) {
        if (!is_id_byte(name[i]))
            return false;
    }
    return n >= 1 && n <= ID_MAX_BYTES && isalnum((unsigned char)name[0]) &&
           (ids->is_reserved == NULL || !ids->is_reserved(name));
}

static void ids_add(struct ids *ids, const char *name, const char *id)
{
    json_object_set_new(ids->by_name, name, json_string(id));
    json_object_set_new(ids->taken, id, json_true());
}

static const char *ids_find(const struct ids *ids, const char *name)
{
    return json_string_value(json_object_get(ids->by_name, name));
}

/* Gives `name` an id made of what is usable in it, with a number behind it if that is taken. */
static void ids_make(struct ids *ids, const char *name)
{
    char base[ID_MAX_BYTES + 1], id[2 * ID_MAX_BYTES];
    size_t n = 0;

    if (!isalnum((unsigned char)name[0]))
        base[n++] = 'x';
    for (const char *p = name; *p != '\0' && n < ID_MAX_BYTES; p++) {
        if (is_id_byte(*p))
            base[n++] = *p;
        else if (n == 0 || base[n - 1] != '-')
            base[n++] = '-';
    }
    base[n] = '\0';
    if (ids->is_reserved != NULL && ids->is_reserved(base))
        base[0] = 'x';
    snprintf(id, sizeof(id), "%s", base);
    for (unsigned again = 2; json_object_get(ids->taken, id) != NULL; again++) {
        int digits = snprintf(NULL, 0, "-%u", again);
        snprintf(id, sizeof(id), "%.*s-%u", ID_MAX_BYTES - digits, base, again);
    }
    ids_add(ids, name, id);
}

/* Milliseconds since 1970 of an RFC 3339 time, or -1. */
static int64_t parse_ts(const char *text)
{
    struct tm tm = {0};
    double fraction = 0;
    int hours = 0, minutes = 0;
    char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    if (p == NULL)
        return -1;
    if (*p == '.')
        fraction = strtod(p, &p);
    if (*p == '+' || *p == '-') {
        if (sscanf(p + 1, "%2d:%2d", &hours, &minutes) != 2)
            return -1;
        int offset_s = (hours * 60 + minutes) * 60;
        tm.tm_sec += *p == '+' ? -offset_s : offset_s;
    } else if (strcmp(p, "Z") != 0) {
        return -1;
    }
    return (int64_t)timegm(&tm) * 1000 + (int64_t)(fraction * 1000);
}

/* What is wrong with a parsed line; NULL if nothing is. */
static const char *line_fault(const json_t *line)
{
    static const char *const names[] = {"session", "thread", "sender", "ts", "content", "to"};
    const json_t *to = json_object_get(line, "to");

    for (size_t i = 0; i < 6; i++) {
        const json_t *value = json_object_get(line, names[i]);
        if (i == 5 && (to == NULL || json_is_null(to)))
            break;
        if (!json_is_string(value))
            return "session, ts, thread, sender and content must be strings, to a string or null";
        if (i != 4 && strlen(json_string_value(value)) != json_string_length(value))
            return "a name holds a zero byte";
    }
    if (parse_ts(json_string_value(json_object_get(line, "ts"))) < 0)
        return "ts is not an RFC 3339 time";
    return NULL;
}

/* The whole file, unpacked, with a zero byte behind it; the caller frees it. NULL: told on stderr.
 */
static char *read_file(const char *path)
{
    gzFile file = gzopen(path, "rb");
    char *text = NULL;
    size_t size = 0;
    int got = 0;

    if (file == NULL) {
        perror(path);
        return NULL;
    }
    do {
        char *more = realloc(text, size + READ_BYTES + 1);
        if (more == NULL)
            break;
        text = more;
        got = gzread(file, text + size, READ_BYTES);
        size += got > 0 ? (size_t)got : 0;
    } while (got > 0);
    int closed = gzclose_r(file);
    if (text == NULL || got != 0 || closed != Z_OK) {
        fprintf(stderr, "%s: cannot be read to its end\n", path);
        free(text);
        return NULL;
    }
    text[size] = '\0';
    return text;
}

/* All lines as an array of objects; NULL: told on stderr. */
static json_t *parse_lines(const char *path, char *text)
{
    json_t *lines = json_array();
    size_t number = 1;

    for (char *p = text; *p != '\0'; number++) {
        size_t n = strcspn(p, "\n");
        if (n > strspn(p, " \t\r")) {
            json_error_t error;
            json_t *line = json_loadb(p, n, JSON_ALLOW_NUL, &error);
            const char *fault = line == NULL ? error.text : line_fault(line);
            json_array_append_new(lines, line);
            if (fault != NULL) {
                fprintf(stderr, "%s:%zu: %s\n", path, number, fault);
                json_decref(lines);
                return NULL;
            }
        }
        p += n + (p[n] == '\n');
    }
    return lines;
}

/* The id of the name in `line`'s field `key`; NULL where the field is null or missing. */
static const char *line_id(const json_t *line, const char *key, const struct ids *ids)
{
    const char *name = json_string_value(json_object_get(line, key));
    return name == NULL ? NULL : ids_find(ids, name);
}

/* The object in `list` whose `key` is `id`, or NULL. */
static json_t *find_by(json_t *list, const char *key, const char *id)
{
    size_t i;
    json_t *entry;

    json_array_foreach (list, i, entry) {
        if (strcmp(json_string_value(json_object_get(entry, key)), id) == 0)
            return entry;
    }
    return NULL;
}

static void add_participant(json_t *session, json_t *thread, const char *agent, const char *name)
{
    json_t *agents = json_object_get(session, "agents");
    json_t *participants = json_object_get(thread, "participants");
    size_t i;
    json_t *entry;

    if (find_by(agents, "agent", agent) == NULL)
        json_array_append_new(agents, json_pack("{ss ss}", "agent", agent, "description", name));
    json_array_foreach (participants, i, entry) {
        if (strcmp(json_string_value(entry), agent) == 0)
            return;
    }
    json_array_append_new(participants, json_string(agent));
}

/* Puts one line where it belongs in its session. */
static void add_line(json_t *session, const json_t *line, const struct ids *agents,
                     const struct ids *thread_ids)
{
    json_t *threads = json_object_get(session, "threads");
    const char *sender = line_id(line, "sender", agents), *to = line_id(line, "to", agents);
    const char *tid = line_id(line, "thread", thread_ids);
    int64_t ts_ms = parse_ts(json_string_value(json_object_get(line, "ts")));
    int64_t first_ms = json_integer_value(json_object_get(session, "first_ms"));

    if (json_array_size(threads) == 0) {
        first_ms = ts_ms;
        json_object_set_new(session, "first_ms", json_integer(first_ms));
    }
    json_t *thread = find_by(threads, "thread", tid);
    if (thread == NULL) {
        thread = json_pack("{ss sO ss s[]}", "thread", tid, "name", json_object_get(line, "thread"),
                           "creator", sender, "participants");
        json_array_append_new(threads, thread);
    }
    add_participant(session, thread, sender, json_string_value(json_object_get(line, "sender")));
    json_t *mentions = json_array();
    if (to != NULL) {
        add_participant(session, thread, to, json_string_value(json_object_get(line, "to")));
        json_array_append_new(mentions, json_string(to));
    }
    json_array_append_new(json_object_get(session, "messages"),
                          json_pack("{ss sI s{ss sO so}}", "thread", tid, "at_ms",
                                    (json_int_t)(ts_ms - first_ms), "body", "sender", sender,
                                    "content", json_object_get(line, "content"), "mentions",
                                    mentions));
}

/*
 * Names what the fields `key` and `other` (or NULL) of all lines hold: first the names that can
 * stay as they are, then the others, so that none loses its own name.
 */
static void name_lines(const json_t *lines, const char *key, const char *other, struct ids *ids)
{
    size_t i;
    json_t *line;

    for (int pass = 0; pass < 4; pass++) {
        const char *field = pass % 2 == 0 ? key : other;
        if (field == NULL)
            continue;
        json_array_foreach (lines, i, line) {
            const char *name = json_string_value(json_object_get(line, field));
            if (name == NULL || ids_find(ids, name) != NULL)
                continue;
            if (pass >= 2)
                ids_make(ids, name);
            else if (is_id(ids, name))
                ids_add(ids, name, name);
        }
    }
}

/* Puts `prefix` before the session names, which then are names like any other. */
static void prefix_lines(const json_t *lines, const char *prefix)
{
    size_t i;
    json_t *line;

    json_array_foreach (lines, i, line) {
        const char *name = json_string_value(json_object_get(line, "session"));
        json_object_set_new(line, "session", json_sprintf("%s%s", prefix, name));
    }
}

static json_t *sort_lines(const json_t *lines)
{
    struct ids kinds[3]; /* sessions, agents, threads */
    json_t *sessions = json_array(), *by_id = json_object();
    size_t i;
    json_t *line;

    for (i = 0; i < 3; i++)
        kinds[i] = (struct ids){json_object(), json_object(), i == 2 ? is_made_thread : NULL};
    name_lines(lines, "session", NULL, &kinds[0]);
    name_lines(lines, "sender", "to", &kinds[1]);
    name_lines(lines, "thread", NULL, &kinds[2]);
    json_array_foreach (lines, i, line) {
        const char *id = line_id(line, "session", &kinds[0]);
        json_t *session = json_object_get(by_id, id);
        if (session == NULL) {
            session = json_pack("{ss s[] s[] s[]}", "id", id, "agents", "threads", "messages");
            json_object_set_new(by_id, id, session);
            json_array_append(sessions, session);
        }
        add_line(session, line, &kinds[1], &kinds[2]);
    }
    for (i = 0; i < 3; i++) {
        json_decref(kinds[i].by_name);
        json_decref(kinds[i].taken);
    }
    json_decref(by_id);
    return sessions;
}

json_t *transcript_load(const char *path, const char *prefix)
{
    char *text = read_file(path);
    json_t *lines = text == NULL ? NULL : parse_lines(path, text);

    free(text);
    if (lines == NULL)
        return NULL;
    prefix_lines(lines, prefix);
    json_t *sessions = sort_lines(lines);
    json_decref(lines);
    return sessions;
}
