/*
 * import_line: a scanner for flat JSON objects. `table` names the members that a line may have and
 * what each must be; where the values go is told by offset.
 *
 * Failure: the first thing that is wrong, with the name of the member where there is one.
 */
#include "server/import_line.h"

#include <stdio.h>

enum kind {
    WORD,  /* a string without escapes */
    SEQ,   /* a whole number below 2^53 */
    CHAIN, /* 64 hex digits */
    OBJECT /* an object, as it is written */
};

struct member {
    const char *name;
    enum kind kind;
    bool required;
    size_t offset;
};

struct raw_header {
    struct str atoll, state_hash, exported_at;
    uint64_t version;
    struct import_header header;
};

#define IN_HEADER(member) offsetof(struct raw_header, member)
#define IN_EVENT(member) offsetof(struct import_event, member)

static const struct member header_members[] = {
    {"atoll", WORD, true, IN_HEADER(atoll)},
    {"version", SEQ, true, IN_HEADER(version)},
    {"session", WORD, true, IN_HEADER(header.session)},
    {"epoch", WORD, true, IN_HEADER(header.epoch)},
    {"seq", SEQ, true, IN_HEADER(header.seq)},
    {"chain", CHAIN, true, IN_HEADER(header.chain)},
    {"state_hash", WORD, true, IN_HEADER(state_hash)},
    {"exported_at", WORD, false, IN_HEADER(exported_at)},
};

static const struct member event_members[] = {
    {"seq", SEQ, true, IN_EVENT(seq)},
    {"event", OBJECT, true, IN_EVENT(json)},
    {"bytes", WORD, true, IN_EVENT(bytes)},
    {"chain", CHAIN, true, IN_EVENT(chain)},
};

enum {
    HEADER_MEMBERS = sizeof(header_members) / sizeof(header_members[0]),
    EVENT_MEMBERS = sizeof(event_members) / sizeof(event_members[0]),
    NAME_SHOWN_BYTES = 32,
};

struct scan {
    const char *p, *end;
    char *why;
};

static int wrong(const struct scan *scan, const char *format, const char *name)
{
    snprintf(scan->why, IMPORT_WHY_BYTES, format, name);
    return -1;
}

/* Passes over white space and then `c`, if it stands there. */
static bool take(struct scan *scan, char c)
{
    while (scan->p != scan->end && (*scan->p == ' ' || *scan->p == '\t' || *scan->p == '\r'))
        scan->p++;
    if (scan->p == scan->end || *scan->p != c)
        return false;
    scan->p++;
    return true;
}

static bool take_word(struct scan *scan, struct str *out)
{
    if (!take(scan, '"'))
        return false;
    const char *start = scan->p;
    while (scan->p != scan->end && *scan->p != '"' && *scan->p != '\\' &&
           (unsigned char)*scan->p >= ' ')
        scan->p++;
    *out = (struct str){start, (size_t)(scan->p - start)};
    return take(scan, '"');
}

static bool take_seq(struct scan *scan, uint64_t *out)
{
    uint64_t number = 0;
    unsigned n = 0;

    while (scan->p != scan->end && *scan->p == ' ')
        scan->p++;
    for (; scan->p != scan->end && *scan->p >= '0' && *scan->p <= '9'; scan->p++, n++) {
        if (n == 16)
            return false;
        number = number * 10 + (uint64_t)(*scan->p - '0');
    }
    *out = number;
    return n != 0 && number <= CORE_SAFE_INTEGER;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_chain(struct scan *scan, struct core_chain *out)
{
    struct str word;

    if (!take_word(scan, &word) || word.n != 2 * sizeof(out->bytes))
        return false;
    for (size_t i = 0; i < sizeof(out->bytes); i++) {
        int high = hex_digit(word.p[2 * i]), low = hex_digit(word.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool take_object(struct scan *scan, struct str *out)
{
    unsigned depth = 1;
    bool in_string = false;

    if (!take(scan, '{'))
        return false;
    const char *start = scan->p - 1;
    for (; scan->p != scan->end && depth != 0; scan->p++) {
        char c = *scan->p;
        if (in_string) {
            if (c == '\\' && scan->p + 1 != scan->end)
                scan->p++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{') {
            depth++;
        } else if (c == '}') {
            depth--;
        }
    }
    *out = (struct str){start, (size_t)(scan->p - start)};
    return depth == 0;
}

static int take_value(struct scan *scan, const struct member *member, char *place)
{
    void *out = place + member->offset;

    switch (member->kind) {
    case WORD:
        return take_word(scan, out) ? 0 : wrong(scan, "\"%s\" must be a string", member->name);
    case SEQ:
        return take_seq(scan, out) ? 0 : wrong(scan, "\"%s\" must be a number", member->name);
    case CHAIN:
        return take_chain(scan, out) ? 0
                                     : wrong(scan, "\"%s\" must be 64 hex digits", member->name);
    case OBJECT:
        break;
    }
    return take_object(scan, out) ? 0 : wrong(scan, "\"%s\" must be an object", member->name);
}

static int find_member(const struct member *members, unsigned n, struct str name)
{
    for (unsigned i = 0; i < n; i++)
        if (strlen(members[i].name) == name.n && memcmp(members[i].name, name.p, name.n) == 0)
            return (int)i;
    return -1;
}

/* The client's own name for a member, fit to be shown: printable ASCII, cut. */
static void show(struct str name, char out[NAME_SHOWN_BYTES])
{
    size_t n = name.n < NAME_SHOWN_BYTES - 1 ? name.n : NAME_SHOWN_BYTES - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = name.p[i] >= ' ' && name.p[i] < 0x7f ? name.p[i] : '?';
    out[n] = '\0';
}

static int take_member(struct scan *scan, const struct member *members, unsigned n, void *place,
                       uint32_t *given)
{
    struct str name;
    char shown[NAME_SHOWN_BYTES];

    if (!take_word(scan, &name) || !take(scan, ':'))
        return wrong(scan, "it is not a JSON object%s", "");
    int at = find_member(members, n, name);
    show(name, shown);
    if (at < 0)
        return wrong(scan, "unknown member \"%s\"", shown);
    if ((*given >> at & 1) != 0)
        return wrong(scan, "\"%s\" stands there twice", shown);
    *given |= UINT32_C(1) << at;
    return take_value(scan, &members[at], place);
}

static int read_line(struct str line, const struct member *members, unsigned n, void *place,
                     char why[IMPORT_WHY_BYTES])
{
    struct scan scan = {line.p, line.p + line.n, why};
    uint32_t given = 0;

    if (!take(&scan, '{'))
        return wrong(&scan, "it is not a JSON object%s", "");
    do {
        if (take_member(&scan, members, n, place, &given) != 0)
            return -1;
    } while (take(&scan, ','));
    if (!take(&scan, '}') || (take(&scan, '\n'), scan.p != scan.end))
        return wrong(&scan, "it is not a JSON object%s", "");
    for (unsigned i = 0; i < n; i++)
        if (members[i].required && (given >> i & 1) == 0)
            return wrong(&scan, "\"%s\" is missing", members[i].name);
    return 0;
}

int import_header_read(struct str line, struct import_header *header, char why[IMPORT_WHY_BYTES])
{
    struct raw_header raw = {0};
    int status = read_line(line, header_members, HEADER_MEMBERS, &raw, why);

    if (status == 0 && !str_equal(raw.atoll, STR("session"))) {
        snprintf(why, IMPORT_WHY_BYTES, "\"atoll\" must be \"session\"");
        status = -1;
    } else if (status == 0 && raw.version != IMPORT_VERSION) {
        snprintf(why, IMPORT_WHY_BYTES, "the export is of version %llu; only version %d is known",
                 (unsigned long long)raw.version, IMPORT_VERSION);
        status = -1;
    } else if (status == 0 && (!core_id_valid(raw.header.session) || raw.header.seq == 0 ||
                               raw.header.epoch.n == 0 || raw.header.epoch.n > CORE_EPOCH_BYTES)) {
        snprintf(why, IMPORT_WHY_BYTES, "it names no session, epoch or seq that can be");
        status = -1;
    }
    *header = raw.header;
    return status;
}

int import_event_read(struct str line, struct import_event *event, char why[IMPORT_WHY_BYTES])
{
    *event = (struct import_event){0};
    return read_line(line, event_members, EVENT_MEMBERS, event, why);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool import_base64(struct str text, char *out, size_t *n)
{
    uint32_t bits = 0;
    size_t padding = 0;

    *n = 0;
    if (text.n % 4 != 0)
        return false;
    while (padding < 2 && padding < text.n && text.p[text.n - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text.n; i++) {
        int digit = i < text.n - padding ? base64_digit(text.p[i]) : 0;
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4 != 3)
            continue;
        for (int shift = 16; shift >= 0; shift -= 8)
            out[(*n)++] = (char)(bits >> shift);
        bits = 0;
    }
    *n -= padding;
    return true;
}

bool import_take_line(struct str *text, struct str *line)
{
    if (text->n == 0)
        return false;
    const char *end = memchr(text->p, '\n', text->n);
    size_t n = end != NULL ? (size_t)(end - text->p) : text->n;
    size_t used = end != NULL ? n + 1 : n;
    *line = (struct str){text->p, n};
    *text = (struct str){text->p + used, text->n - used};
    return true;
}
