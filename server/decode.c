/*
 * decode: JSON bodies to commands.
 *
 * A form is what an object of one command type may hold: the fields of its row in the schema, and
 * behind them the members that every command has (`type`, `key`, `expected_seq`). Forms are made
 * once, when the decoder is; decoding an object is one pass over its members, each looked up in
 * its form and decoded by its kind straight into struct core_fields.
 *
 * Failure: refuse() writes the answer, naming the field and what is allowed, and returns -1 for all
 * callers up to the one that knows whether the whole body or one command of a batch is refused.
 */
#include "server/decode.h"

#include "server/import_line.h"
#include "server/json.h"
#include "server/names.h"
#include "server/seal.h"

#include <math.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    SCRATCH_KEEP_BYTES = 64 * 1024, /* canonical text kept between requests */
    NAME_SHOWN_BYTES = 24,          /* of a name that we do not know */
    FEW_IDS = 16                    /* up to here comparing all pairs is faster than hashing */
};

/* Members of every command; they stand in a form behind its fields, in this order. */
enum common { COMMON_EXPECTED_SEQ, COMMON_KEY, COMMON_TYPE, COMMON_COUNT };

struct form {
    struct names names;
    const struct core_field_spec *fields;
    uint32_t fields_n;
    struct str type_name;
    uint64_t fields_known, fields_required; /* bits 1 << enum core_field */
};

struct decoder {
    const struct core_limits *limits;
    uint32_t max_batch_commands;
    size_t max_batch_bytes;
    const struct seal_key *seal;
    struct str speaker, trace;
    struct json_parser *parser;
    struct buf scratch;
    struct form forms[CORE_TYPE_COUNT];
    struct names types;              /* of commands … */
    enum core_type codes[NAMES_MAX]; /* … and what they are, by place there */
    uint32_t *id_slots;              /* place + 1 in the list being folded; 0: free */
    uint32_t id_slots_mask;
};

/* One command being decoded. */
struct job {
    struct decoder *d;
    struct arena *arena;
    struct str session;      /* whose commands they are */
    const struct form *form; /* of its type, once that is known */
    struct request_command *out;
    uint64_t preset;                       /* fields that may not stand in the body */
    const struct decode_message *envelope; /* of a WebSocket; its own members are passed over */
    bool copies;                           /* values do not live as long as what is made of them */
    bool batch;
    uint32_t index; /* in the batch */
    struct core_refusal *why;
};

/* ---- refusals */

__attribute__((format(printf, 4, 5))) static int refuse(const struct job *job, enum core_error code,
                                                        const char *field, const char *format, ...)
{
    struct core_refusal *why = job->why;
    size_t n = 0;
    why->code = code;
    why->field = field;
    why->seq = 0;
    if (job->batch)
        n = (size_t)snprintf(why->detail, sizeof(why->detail), "command %u: ", job->index);
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(why->detail + n, sizeof(why->detail) - n, format, arguments);
    va_end(arguments);
    struct str whole = {why->detail, n + (size_t)more};
    why->detail[json_cut(whole, sizeof(why->detail) - 1)] = '\0';
    return -1;
}

struct shown {
    char text[NAME_SHOWN_BYTES + 4];
};

/* A client's name as it can be shown: short, and on one line. */
static struct shown show(struct str name)
{
    struct shown shown;
    size_t n = json_cut(name, NAME_SHOWN_BYTES);
    for (size_t i = 0; i < n; i++)
        shown.text[i] = (char)((unsigned char)name.p[i] < 0x20 ? '?' : name.p[i]);
    snprintf(shown.text + n, sizeof(shown.text) - n, "%s", n < name.n ? "..." : "");
    return shown;
}

/* Comma separated, cut where the room ends. */
static void list_add(char *list, size_t size, const char *name)
{
    size_t n = strlen(list);
    snprintf(list + n, size - n, "%s%s", n == 0 ? "" : ", ", name);
}

static int refuse_type(const struct job *job, const struct json_value *type)
{
    char list[208] = "";
    for (int t = CORE_TYPE_NONE + 1; t < CORE_TYPE_COUNT; t++) {
        if (job->d->forms[t].type_name.p != NULL)
            list_add(list, sizeof(list), job->d->forms[t].type_name.p);
    }
    if (type == NULL)
        return refuse(job, CORE_E_MALFORMED, "type", "\"type\" is missing: %s", list);
    if (type->type != JSON_STRING)
        return refuse(job, CORE_E_MALFORMED, "type", "\"type\" must be one of %s", list);
    return refuse(job, CORE_E_MALFORMED, "type", "no type \"%s\": %s", show(json_str(type)).text,
                  list);
}

static int refuse_unknown(const struct job *job, struct str name)
{
    const struct form *form = job->form;
    char list[160] = "";
    for (uint32_t i = 0; i < form->fields_n + COMMON_TYPE; i++) {
        if (i >= form->fields_n || (job->preset >> form->fields[i].field & 1) == 0)
            list_add(list, sizeof(list), form->names.items[i].name.p);
    }
    /* The request's arena holds the name until the refusal is out. */
    struct shown shown = show(name);
    struct str kept = arena_copy(job->arena, (struct str){shown.text, strlen(shown.text) + 1});
    return refuse(job, CORE_E_MALFORMED, kept.p, "unknown field \"%s\": %s takes %s", shown.text,
                  form->type_name.p, list);
}

static int refuse_kind(const struct job *job, const struct core_field_spec *spec, const char *what)
{
    return refuse(job, CORE_E_MALFORMED, spec->name, "\"%s\" must be %s%s", spec->name, what,
                  spec->flags & FIELD_NULLABLE ? " or null" : "");
}

static int refuse_size(const struct job *job, const char *field, size_t n, const char *of_what,
                       uint32_t limit)
{
    return refuse(job, CORE_E_TOO_LARGE, field, "\"%s\" has %zu %s; at most %u are allowed", field,
                  n, of_what, limit);
}

/* The schema's own name of a field, of whichever type: refusals keep a pointer to it. */
static const char *field_named(const struct decoder *d, struct str name)
{
    for (int type = CORE_TYPE_NONE + 1; type < CORE_TYPE_COUNT; type++) {
        const struct form *form = &d->forms[type];
        uint32_t names_n = form->type_name.p != NULL ? form->fields_n + COMMON_COUNT : 0;
        for (uint32_t i = 0; i < names_n; i++) {
            if (str_equal(form->names.items[i].name, name))
                return form->names.items[i].name.p;
        }
    }
    return NULL;
}

static int refuse_json(const struct job *job, const struct json_error *error)
{
    return refuse(job, CORE_E_MALFORMED, field_named(job->d, error->member), "%s", error->text);
}

/* ---- kinds of values */

/* A string that lives as long as the request. */
static inline struct str take_text(const struct job *job, const struct json_value *v)
{
    return job->copies ? arena_copy(job->arena, json_str(v)) : json_str(v);
}

static int decode_id(const struct job *job, const struct core_field_spec *spec,
                     const struct json_value *v, struct str *out)
{
    if (v->type != JSON_STRING || !core_id_valid(json_str(v)))
        return refuse_kind(job, spec, "an id: " CORE_ID_RULE);
    *out = take_text(job, v);
    return 0;
}

static int decode_text(const struct job *job, const struct core_field_spec *spec,
                       const struct json_value *v, struct str *out)
{
    if (v->type != JSON_STRING)
        return refuse_kind(job, spec, "a string");
    uint32_t limit = job->d->limits->max[spec->limit];
    if (spec->limit != CORE_LIMIT_NONE && v->size > limit)
        return refuse_size(job, spec->name, v->size, "bytes", limit);
    *out = take_text(job, v);
    return 0;
}

static int decode_message_id(const struct job *job, const struct core_field_spec *spec,
                             const struct json_value *v, struct str *out)
{
    if (v->type != JSON_STRING || core_message_seq(json_str(v)) == 0)
        return refuse_kind(job, spec, "a message id: m<seq>");
    *out = take_text(job, v);
    return 0;
}

static int decode_json(const struct job *job, const struct core_field_spec *spec,
                       const struct json_value *v, struct str *out)
{
    struct buf *scratch = &job->d->scratch;
    uint32_t limit = job->d->limits->max[spec->limit];
    scratch->n = 0;
    json_canonical(v, scratch);
    if (scratch->n > limit)
        return refuse_size(job, spec->name, scratch->n, "bytes as canonical JSON", limit);
    *out = arena_copy(job->arena, buf_str(scratch));
    return 0;
}

static int decode_label(const struct job *job, const struct core_field_spec *spec,
                        const struct json_value *key, struct core_label *out)
{
    const struct json_value *v = key + 1;
    bool removes = job->form != &job->d->forms[CORE_SESSION_CREATE];
    uint32_t limit = job->d->limits->max[CORE_LIMIT_LABEL_BYTES];
    if (key->size == 0)
        return refuse(job, CORE_E_MALFORMED, spec->name, "\"%s\" has an empty key", spec->name);
    if (key->size > limit)
        return refuse_size(job, spec->name, key->size, "bytes in a key", limit);
    if (v->type != JSON_STRING && !(v->type == JSON_NULL && removes))
        return refuse(job, CORE_E_MALFORMED, spec->name, "\"%s\": \"%s\" must be a string%s",
                      spec->name, show(json_str(key)).text, removes ? " or null" : "");
    if (v->type == JSON_STRING && v->size > limit)
        return refuse_size(job, spec->name, v->size, "bytes in a value", limit);
    out->key = take_text(job, key);
    out->value = v->type == JSON_NULL ? (struct str){0} : take_text(job, v);
    return 0;
}

static int label_order(const void *a, const void *b)
{
    return str_compare(((const struct core_label *)a)->key, ((const struct core_label *)b)->key);
}

static int decode_labels(const struct job *job, const struct core_field_spec *spec,
                         const struct json_value *v, struct core_labels *out)
{
    uint32_t limit = job->d->limits->max[spec->limit];
    if (v->type != JSON_OBJECT)
        return refuse_kind(job, spec, "an object of strings");
    if (v->size > limit)
        return refuse_size(job, spec->name, v->size, "labels", limit);
    out->items = arena_alloc(job->arena, v->size * sizeof(*out->items));
    const struct json_value *key = json_first(v);
    for (out->n = 0; out->n < v->size; out->n++, key = json_next(key + 1)) {
        if (decode_label(job, spec, key, &out->items[out->n]) != 0)
            return -1;
    }
    if (out->n > 1)
        qsort(out->items, out->n, sizeof(*out->items), label_order);
    return 0;
}

static bool among(const struct core_ids *ids, struct str id)
{
    for (uint32_t i = 0; i < ids->n; i++) {
        if (str_equal(ids->items[i], id))
            return true;
    }
    return false;
}

/* Like among, for long lists; an id that is not there gets a slot as the next of the list. */
static bool among_many(const struct decoder *d, const struct core_ids *ids, struct str id)
{
    uint64_t slot = XXH3_64bits_withSeed(id.p, id.n, d->limits->hash_seed);
    for (;; slot++) {
        uint32_t *place = &d->id_slots[slot & d->id_slots_mask];
        if (*place == 0) {
            *place = ids->n + 1;
            return false;
        }
        if (str_equal(ids->items[*place - 1], id))
            return true;
    }
}

/* Doubles fold before they count. */
static int decode_ids(const struct job *job, const struct core_field_spec *spec,
                      const struct json_value *v, struct core_ids *out)
{
    uint32_t limit = job->d->limits->max[spec->limit];
    bool many = v->size > FEW_IDS;
    if (v->type != JSON_ARRAY)
        return refuse_kind(job, spec, "an array of ids: " CORE_ID_RULE);
    if (many)
        memset(job->d->id_slots, 0, (job->d->id_slots_mask + 1) * sizeof(*job->d->id_slots));
    out->items = arena_alloc(job->arena, (v->size < limit ? v->size : limit) * sizeof(struct str));
    const struct json_value *item = json_first(v);
    for (uint32_t i = 0; i < v->size; i++, item = json_next(item)) {
        if (item->type != JSON_STRING || !core_id_valid(json_str(item)))
            return refuse_kind(job, spec, "an array of ids: " CORE_ID_RULE);
        struct str id = json_str(item);
        if (many ? among_many(job->d, out, id) : among(out, id))
            continue;
        if (out->n == limit)
            return refuse(job, CORE_E_TOO_LARGE, spec->name,
                          "\"%s\" has more than %u ids, which is the most allowed", spec->name,
                          limit);
        out->items[out->n++] = take_text(job, item);
    }
    return 0;
}

static int decode_status(const struct job *job, const struct core_field_spec *spec,
                         const struct json_value *v, enum core_agent_status *out)
{
    int status = v->type == JSON_STRING ? core_status_parse(json_str(v)) : -1;
    if (status < 0) {
        char list[128] = "";
        for (int s = 0; s < AGENT_STATUS_COUNT; s++)
            list_add(list, sizeof(list), core_status_name((enum core_agent_status)s));
        return refuse(job, CORE_E_MALFORMED, spec->name, "\"%s\" must be one of %s", spec->name,
                      list);
    }
    *out = (enum core_agent_status)status;
    return 0;
}

static bool is_integer(const struct json_value *v, double min, double max)
{
    return v->type == JSON_NUMBER && v->as.number >= min && v->as.number <= max &&
           trunc(v->as.number) == v->as.number;
}

static int decode_number(const struct job *job, const struct core_field_spec *spec,
                         const struct json_value *v, void *out)
{
    double max = spec->kind == KIND_U32 ? UINT32_MAX : (double)CORE_SAFE_INTEGER;
    if (spec->limit != CORE_LIMIT_NONE)
        max = job->d->limits->max[spec->limit];
    double min = spec->kind == KIND_I64 ? -max : (spec->flags & FIELD_NULLABLE) != 0;
    if (!is_integer(v, min, max)) {
        char what[80];
        snprintf(what, sizeof(what), "an integer from %.0f to %.0f", min, max);
        return refuse_kind(job, spec, what);
    }
    if (spec->kind == KIND_I64)
        *(int64_t *)out = (int64_t)v->as.number;
    else if (spec->kind == KIND_U64)
        *(uint64_t *)out = (uint64_t)v->as.number;
    else
        *(uint32_t *)out = (uint32_t)v->as.number;
    return 0;
}

static int decode_bool(const struct job *job, const struct core_field_spec *spec,
                       const struct json_value *v, bool *out)
{
    if (v->type != JSON_TRUE && v->type != JSON_FALSE)
        return refuse_kind(job, spec, "true or false");
    *out = v->type == JSON_TRUE;
    return 0;
}

/* ---- secrets

 A secret stands as plain bytes in its field only until its command has been read, and with it all
 that it is sealed for; then it is sealed or dropped, and wiped. */

static bool takes_base64(struct str text)
{
    return text.n >= 6 && memcmp(text.p, "whsec_", 6) == 0;
}

static int decode_secret(const struct job *job, const struct core_field_spec *spec,
                         const struct json_value *v, struct str *out)
{
    if (v->type != JSON_STRING)
        return refuse_kind(job, spec, "a string");
    struct str text = json_str(v);
    *out = text;
    if (takes_base64(text)) {
        char *bytes = arena_alloc(job->arena, text.n);
        bool good = import_base64((struct str){text.p + 6, text.n - 6}, bytes, &out->n);
        out->p = bytes;
        OPENSSL_cleanse((char *)(uintptr_t)text.p, text.n);
        if (!good)
            return refuse(job, CORE_E_MALFORMED, spec->name,
                          "\"%s\" must be base64 with padding behind \"whsec_\"", spec->name);
    }
    if (out->n < DECODE_SECRET_MIN_BYTES || out->n > DECODE_SECRET_MAX_BYTES)
        return refuse(job, CORE_E_MALFORMED, spec->name,
                      "\"%s\" must be %d to %d bytes, or \"whsec_\" and their base64; here are %zu",
                      spec->name, DECODE_SECRET_MIN_BYTES, DECODE_SECRET_MAX_BYTES, out->n);
    return 0;
}

/* good: the command may go out. */
static void settle_secret(const struct job *job, bool good)
{
    struct core_fields *f = &job->out->command.f;
    struct str plain = f->sealed;
    struct buf sealed = {0};

    f->sealed = (struct str){0};
    if (plain.p == NULL)
        return;
    if (good) {
        assert(job->d->seal != NULL && job->session.p != NULL);
        seal_secret(job->d->seal, job->session, f->agent, plain, &sealed);
        f->sealed = arena_copy(job->arena, buf_str(&sealed));
        buf_free(&sealed);
    }
    OPENSSL_cleanse((char *)(uintptr_t)plain.p, plain.n);
}

/* ---- one command */

/* The value of what a row names, at its offset from `fields`. */
static int decode_value(const struct job *job, const struct core_field_spec *spec,
                        const struct json_value *v, void *fields)
{
    void *out = (char *)fields + spec->offset;
    if (v->type == JSON_NULL && (spec->flags & FIELD_NULLABLE) != 0)
        return 0;
    switch ((enum core_kind)spec->kind) {
    case KIND_ID:
        return decode_id(job, spec, v, out);
    case KIND_TEXT:
        return decode_text(job, spec, v, out);
    case KIND_MESSAGE:
        return decode_message_id(job, spec, v, out);
    case KIND_JSON:
        return decode_json(job, spec, v, out);
    case KIND_LABELS:
        return decode_labels(job, spec, v, out);
    case KIND_IDS:
        return decode_ids(job, spec, v, out);
    case KIND_STATUS:
        return decode_status(job, spec, v, out);
    case KIND_I64:
    case KIND_U64:
    case KIND_U32:
        return decode_number(job, spec, v, out);
    case KIND_BOOL:
        return decode_bool(job, spec, v, out);
    case KIND_SECRET:
        return decode_secret(job, spec, v, out);
    case KIND_SEQS:
    case KIND_READINGS:
        break;
    }
    assert(!"a command has no such kind");
    return -1;
}

static int decode_field(const struct job *job, const struct core_field_spec *spec,
                        const struct json_value *v)
{
    struct core_fields *f = &job->out->command.f;
    f->given |= UINT64_C(1) << spec->field;
    return decode_value(job, spec, v, f);
}

static int decode_common(const struct job *job, enum common common, const struct json_value *v)
{
    struct request_command *out = job->out;
    if (common == COMMON_KEY) {
        if (v->type == JSON_STRING && json_str(v).n > DECODE_KEY_BYTES)
            return refuse(job, CORE_E_TOO_LARGE, "key",
                          "\"key\" is %zu bytes; at most %d are allowed", json_str(v).n,
                          DECODE_KEY_BYTES);
        if (v->type != JSON_STRING || !decode_key_valid(json_str(v)))
            return refuse(job, CORE_E_MALFORMED, "key",
                          "\"key\" must be a string of 1 to %d bytes without control characters",
                          DECODE_KEY_BYTES);
        out->key = take_text(job, v);
    } else if (common == COMMON_EXPECTED_SEQ) {
        if (!is_integer(v, 0, (double)CORE_SAFE_INTEGER))
            return refuse(job, CORE_E_MALFORMED, "expected_seq",
                          "\"expected_seq\" must be an integer from 0 to %.0f",
                          (double)CORE_SAFE_INTEGER);
        out->expected_seq = (uint64_t)v->as.number;
        out->has_expected = true;
    }
    return 0;
}

/* The agent that acts, where the command does not say and the caller is known. */
static void fill_speaker(const struct job *job)
{
    struct core_fields *fields = &job->out->command.f;
    int offset = core_type_spec(job->out->command.type)->actor_offset;
    struct str *place = (struct str *)((char *)fields + offset);

    if (offset < 0 || job->d->speaker.p == NULL || place->p != NULL)
        return;
    for (uint32_t i = 0; i < job->form->fields_n; i++)
        if (job->form->fields[i].offset == (uint16_t)offset)
            fields->given |= UINT64_C(1) << job->form->fields[i].field;
    *place = arena_copy(job->arena, job->d->speaker);
}

static void fill_trace(const struct job *job)
{
    struct core_fields *fields = &job->out->command.f;
    if (job->d->trace.p == NULL || fields->trace.p != NULL)
        return;
    fields->given |= UINT64_C(1) << CORE_FIELD_TRACE;
    fields->trace = arena_copy(job->arena, job->d->trace);
}

static int check_required(const struct job *job)
{
    const struct form *form = job->form;
    fill_speaker(job);
    fill_trace(job);
    uint64_t missing = form->fields_required & ~job->out->command.f.given;
    for (uint32_t i = 0; missing != 0 && i < form->fields_n; i++) {
        const char *name = form->fields[i].name;
        if ((missing >> form->fields[i].field & 1) != 0)
            return refuse(job, CORE_E_MALFORMED, name, "\"%s\" is missing: %s needs it", name,
                          form->type_name.p);
    }
    return 0;
}

/* Whether it is a member of the message around a command. */
static bool in_envelope(const struct job *job, struct str name)
{
    return job->envelope != NULL && (str_equal(name, STR("ref")) ||
                                     (job->envelope->many && str_equal(name, STR("session"))));
}

static int decode_each(const struct job *job, const struct json_value *object, bool with_type)
{
    const struct form *form = job->form;
    int members_n = (int)form->fields_n + (with_type ? COMMON_COUNT : COMMON_TYPE);
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1)) {
        int at = names_find(&form->names, json_str(key));
        int status = 0;
        bool known = at >= 0 && at < members_n;
        if (!known && in_envelope(job, json_str(key)))
            continue;
        if (!known)
            return refuse_unknown(job, json_str(key));
        if ((uint32_t)at >= form->fields_n)
            status = decode_common(job, (enum common)((uint32_t)at - form->fields_n), key + 1);
        else if ((job->preset >> form->fields[at].field & 1) != 0)
            return refuse(job, CORE_E_MALFORMED, form->fields[at].name,
                          "unknown field \"%s\": it belongs to the path", form->fields[at].name);
        else
            status = decode_field(job, &form->fields[at], key + 1);
        if (status != 0)
            return -1;
    }
    return 0;
}

/* The members of an object whose type is known; `type` itself may be one of them or not. */
static int decode_members(const struct job *job, const struct json_value *object, bool with_type)
{
    int status = decode_each(job, object, with_type);
    if (status == 0)
        status = check_required(job);
    if ((job->out->command.f.given >> CORE_FIELD_SEALED & 1) != 0)
        settle_secret(job, status == 0);
    return status;
}

static const struct json_value *find_type(const struct json_value *object)
{
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1)) {
        if (key->size == 4 && memcmp(key->as.text, "type", 4) == 0)
            return key + 1;
    }
    return NULL;
}

/* Any value as a command in the form that names its type. */
static int decode_typed(struct job *job, const struct json_value *v)
{
    if (v->type == JSON_FAULT) {
        struct json_error error;
        json_fault(job->d->parser, v, &error);
        return refuse_json(job, &error);
    }
    if (v->type != JSON_OBJECT)
        return refuse(job, CORE_E_MALFORMED, NULL, "a command must be an object");
    const struct json_value *type = find_type(v);
    int place = -1;
    if (type != NULL && type->type == JSON_STRING)
        place = names_find(&job->d->types, json_str(type));
    if (place < 0)
        return refuse_type(job, type);
    enum core_type code = job->d->codes[place];
    job->out->command.type = code;
    job->form = &job->d->forms[code];
    return decode_members(job, v, true);
}

/* ---- whole bodies */

/* Makes room for n commands, zeroed. */
static struct request_command *add_commands(struct request *request, uint32_t n)
{
    request->commands = arena_alloc(&request->arena, n * sizeof(*request->commands));
    request->commands_n = n;
    memset(request->commands, 0, n * sizeof(*request->commands));
    return request->commands;
}

/* The key of a single command is that of its request. */
static int move_key(const struct job *job, struct request *request)
{
    struct str *key = &job->out->key;
    if (key->p == NULL)
        return 0;
    if (request->key.p != NULL && !str_equal(request->key, *key))
        return refuse(job, CORE_E_MALFORMED, "key",
                      "\"key\" is not the same as the Idempotency-Key of the header");
    request->key = *key;
    *key = (struct str){0};
    return 0;
}

static int decode_single(struct job *job, const struct json_value *object, struct request *request)
{
    job->out = add_commands(request, 1);
    request->batch = false;
    return decode_typed(job, object) != 0 ? -1 : move_key(job, request);
}

static int check_count(const struct job *job, size_t n)
{
    if (n > job->d->max_batch_commands)
        return refuse(job, CORE_E_TOO_LARGE, NULL,
                      "the batch has more than %u commands, which is the most allowed",
                      job->d->max_batch_commands);
    return 0;
}

/* `failed`: the command of the job's index was refused; its answer goes with it. */
static void batch_settle(const struct job *job, bool failed)
{
    if (failed) {
        job->out->bad = arena_alloc(job->arena, sizeof(*job->out->bad));
        *job->out->bad = *job->why;
    }
}

static int decode_array(const struct job *whole, const struct json_value *array,
                        struct request *request)
{
    struct core_refusal why;
    struct job job = {.d = whole->d,
                      .arena = whole->arena,
                      .session = whole->session,
                      .why = &why,
                      .batch = true};
    if (check_count(whole, array->size) != 0)
        return -1;
    job.out = add_commands(request, array->size);
    request->batch = true;
    const struct json_value *v = json_first(array);
    for (; job.index < array->size; job.index++, job.out++, v = json_next(v))
        batch_settle(&job, decode_typed(&job, v) != 0);
    return 0;
}

/* Takes the next line that is not blank off *text; false at the end. */
static bool take_line(struct str *text, struct str *line)
{
    while (text->n != 0) {
        const char *end = memchr(text->p, '\n', text->n);
        size_t n = end != NULL ? (size_t)(end - text->p) : text->n;
        size_t rest = end != NULL ? n + 1 : n;
        *line = (struct str){text->p, n};
        *text = (struct str){text->p + rest, text->n - rest};
        for (size_t i = 0; i < n; i++) {
            if (line->p[i] != ' ' && line->p[i] != '\t' && line->p[i] != '\r')
                return true;
        }
    }
    return false;
}

static int decode_line(struct job *job, struct str line)
{
    const struct json_value *v;
    struct json_error error;
    if (json_parse(job->d->parser, job->arena, line, &v, &error) != 0)
        return refuse_json(job, &error);
    return decode_typed(job, v);
}

static int decode_lines(const struct job *whole, struct str body, struct request *request)
{
    struct core_refusal why;
    struct job job = {.d = whole->d,
                      .arena = whole->arena,
                      .session = whole->session,
                      .why = &why,
                      .batch = true};
    struct str line;
    size_t n = 0;
    for (struct str rest = body; n <= whole->d->max_batch_commands && take_line(&rest, &line);)
        n++;
    if (check_count(whole, n) != 0)
        return -1;
    job.out = add_commands(request, (uint32_t)n);
    request->batch = true;
    for (; take_line(&body, &line); job.index++, job.out++)
        batch_settle(&job, decode_line(&job, line) != 0);
    return 0;
}

static int decode_body(struct job *job, struct str body, struct request *request)
{
    const struct json_value *root;
    struct json_error error;
    if (json_parse(job->d->parser, job->arena, body, &root, &error) != 0)
        return refuse_json(job, &error);
    if (root->type == JSON_OBJECT)
        return decode_single(job, root, request);
    if (root->type == JSON_ARRAY)
        return decode_array(job, root, request);
    return refuse(job, CORE_E_MALFORMED, NULL,
                  "the body must be one command as an object, or an array of commands");
}

static int check_body(const struct job *job, struct str body)
{
    if (body.n > job->d->max_batch_bytes)
        return refuse(job, CORE_E_TOO_LARGE, NULL,
                      "the body has %zu bytes; at most %zu are allowed", body.n,
                      job->d->max_batch_bytes);
    return 0;
}

/* The end of every decoding; passes on its outcome. */
static int finish(struct decoder *d, struct request *request, int status)
{
    json_parser_trim(d->parser);
    if (d->scratch.cap > SCRATCH_KEEP_BYTES)
        buf_free(&d->scratch);
    if (status != 0)
        request->commands_n = 0;
    return status;
}

int decode_commands(struct decoder *d, struct str body, bool ndjson, struct request *request,
                    struct core_refusal *why)
{
    struct job job = {.d = d, .arena = &request->arena, .session = request->session, .why = why};
    int status = check_body(&job, body);
    if (status == 0)
        status = ndjson ? decode_lines(&job, body, request) : decode_body(&job, body, request);
    return finish(d, request, status);
}

/* Ids of a path or query are a client's, too. */
static int check_preset(const struct job *job, const struct core_fields *preset)
{
    const struct form *form = job->form;
    assert((preset->given & ~form->fields_known) == 0);
    for (uint32_t i = 0; i < form->fields_n; i++) {
        const struct core_field_spec *spec = &form->fields[i];
        const struct str *id = (const void *)((const char *)preset + spec->offset);
        if ((preset->given >> spec->field & 1) != 0 && spec->kind == KIND_ID && !core_id_valid(*id))
            return refuse_kind(job, spec, "an id: " CORE_ID_RULE);
    }
    return 0;
}

static int decode_rest_body(struct job *job, struct str body, struct request *request)
{
    static const struct json_value nothing = {.type = JSON_OBJECT};
    const struct json_value *root = &nothing;
    struct json_error error;
    if (body.n != 0 && json_parse(job->d->parser, job->arena, body, &root, &error) != 0)
        return refuse_json(job, &error);
    if (root->type != JSON_OBJECT)
        return refuse(job, CORE_E_MALFORMED, NULL, "the body must be an object");
    return decode_members(job, root, false) != 0 ? -1 : move_key(job, request);
}

int decode_rest(struct decoder *d, enum core_type type, const struct core_fields *preset,
                struct str body, struct request *request, struct core_refusal *why)
{
    assert(type > CORE_TYPE_NONE && type < CORE_TYPE_COUNT && d->forms[type].type_name.p != NULL);
    struct job job = {.d = d,
                      .arena = &request->arena,
                      .session = request->session,
                      .form = &d->forms[type],
                      .why = why};
    job.out = add_commands(request, 1);
    request->batch = false;
    job.out->command.type = type;
    int status = check_body(&job, body);
    if (status == 0 && preset != NULL) {
        job.out->command.f = *preset;
        job.preset = preset->given;
        status = check_preset(&job, preset);
    }
    if (status == 0)
        status = decode_rest_body(&job, body, request);
    return finish(d, request, status);
}

/* ---- messages of a WebSocket */

static int read_ref(const struct job *job, const struct json_value *v, struct decode_message *out)
{
    struct buf *scratch = &job->d->scratch;
    bool text = v->type == JSON_STRING && v->size <= DECODE_REF_BYTES;
    if (!text && !is_integer(v, -(double)CORE_SAFE_INTEGER, (double)CORE_SAFE_INTEGER))
        return refuse(job, CORE_E_MALFORMED, "ref",
                      "\"ref\" must be a string of at most %d bytes, or an integer within +-%.0f",
                      DECODE_REF_BYTES, (double)CORE_SAFE_INTEGER);
    scratch->n = 0;
    json_canonical(v, scratch);
    out->ref = arena_copy(job->arena, buf_str(scratch));
    return 0;
}

static int read_envelope(const struct job *job, struct decode_message *out)
{
    const struct json_value *key = json_first(out->root);
    const struct json_value *session = NULL;
    for (uint32_t i = 0; i < out->root->size; i++, key = json_next(key + 1)) {
        struct str name = json_str(key);
        if (str_equal(name, STR("ref")) && read_ref(job, key + 1, out) != 0)
            return -1;
        if (str_equal(name, STR("watch")))
            out->watch = key + 1;
        else if (str_equal(name, STR("unwatch")))
            out->unwatch = key + 1;
        else if (str_equal(name, STR("type")))
            out->is_command = true;
        else if (str_equal(name, STR("session")))
            session = key + 1;
    }
    if (out->is_command + (out->watch != NULL) + (out->unwatch != NULL) != 1)
        return refuse(job, CORE_E_MALFORMED, NULL,
                      "a message must have just one of \"type\", \"watch\" and \"unwatch\"");
    if (!out->is_command && out->root->size > (out->ref.p != NULL) + 1u)
        return refuse(job, CORE_E_MALFORMED, NULL, "beside \"%s\" only \"ref\" may stand",
                      out->watch != NULL ? "watch" : "unwatch");
    if (!out->is_command || !out->many)
        return 0;
    if (session == NULL || session->type != JSON_STRING || !core_id_valid(json_str(session)))
        return refuse(job, CORE_E_MALFORMED, "session",
                      "\"session\" must name the session, by an id: " CORE_ID_RULE);
    out->session = json_str(session);
    return 0;
}

int decode_message(struct decoder *d, struct str text, bool many, struct arena *scratch,
                   struct decode_message *out, struct core_refusal *why)
{
    struct job job = {.d = d, .arena = scratch, .why = why};
    struct json_error error;
    *out = (struct decode_message){.many = many};
    if (json_parse(d->parser, scratch, text, &out->root, &error) != 0)
        return refuse_json(&job, &error);
    if (out->root->type != JSON_OBJECT)
        return refuse(&job, CORE_E_MALFORMED, NULL, "a message must be an object");
    return read_envelope(&job, out);
}

/* The place behind the last command; it is not counted yet. */
static struct request_command *next_command(struct request *request)
{
    enum { COMMANDS_MIN = 8 };
    uint32_t n = request->commands_n;
    if (n == 0 || (n >= COMMANDS_MIN && (n & (n - 1)) == 0)) {
        struct request_command *old = request->commands;
        size_t size = sizeof(*old);
        request->commands = arena_alloc(&request->arena, (n != 0 ? n * 2 : COMMANDS_MIN) * size);
        if (n != 0)
            memcpy(request->commands, old, n * size);
    }
    return &request->commands[n];
}

int decode_message_command(struct decoder *d, const struct decode_message *message,
                           struct request *request, struct core_refusal *why)
{
    struct job job = {.d = d,
                      .arena = &request->arena,
                      .session = request->session,
                      .envelope = message,
                      .copies = true,
                      .why = why};
    job.out = next_command(request);
    memset(job.out, 0, sizeof(*job.out));
    if (decode_typed(&job, message->root) != 0)
        return -1;
    job.out->ref = message->ref.p != NULL ? arena_copy(job.arena, message->ref) : (struct str){0};
    request->commands_n++;
    return 0;
}

void decode_message_end(struct decoder *d)
{
    (void)finish(d, NULL, 0);
}

/* ---- arguments */

static const struct core_field_spec *find_argument(const struct decode_arguments *rows,
                                                   struct str name)
{
    for (uint32_t i = 0; i < rows->n; i++) {
        const struct core_field_spec *spec = &rows->specs[i];
        if (str_equal((struct str){spec->name, strlen(spec->name)}, name))
            return spec;
    }
    return NULL;
}

static int refuse_argument(const struct job *job, const struct decode_arguments *rows,
                           struct str name)
{
    char list[160] = "";
    for (uint32_t i = 0; i < rows->n; i++)
        list_add(list, sizeof(list), rows->specs[i].name);
    return refuse(job, CORE_E_MALFORMED, NULL, "unknown argument \"%s\": %s takes %s",
                  show(name).text, rows->what, list);
}

static bool is_passed_over(const struct decode_arguments *rows, struct str name)
{
    for (const char *const *other = rows->others; other != NULL && *other != NULL; other++) {
        if (str_equal((struct str){*other, strlen(*other)}, name))
            return true;
    }
    return false;
}

static int decode_argument(const struct job *job, const struct decode_arguments *rows,
                           const struct json_value *key, void *out, uint64_t *given)
{
    const struct json_value *v = key + 1;
    const struct core_field_spec *spec = find_argument(rows, json_str(key));
    if (spec == NULL)
        return is_passed_over(rows, json_str(key)) ? 0 : refuse_argument(job, rows, json_str(key));
    bool nothing = v->type == JSON_NULL || (v->type == JSON_STRING && v->size == 0);
    bool left_out = nothing && (spec->flags & FIELD_REQUIRED) == 0;
    if (left_out && (spec->flags & FIELD_NULLABLE) == 0)
        return 0;
    *given |= UINT64_C(1) << spec->field;
    return left_out ? 0 : decode_value(job, spec, v, out);
}

int decode_arguments(struct decoder *d, const struct decode_arguments *rows,
                     const struct json_value *object, struct arena *arena, void *out,
                     uint64_t *given, struct core_refusal *why)
{
    struct job job = {.d = d, .arena = arena, .copies = true, .why = why};
    const struct json_value *key = json_first(object);
    for (uint32_t i = 0; i < object->size; i++, key = json_next(key + 1)) {
        if (decode_argument(&job, rows, key, out, given) != 0)
            return -1;
    }
    for (uint32_t i = 0; i < rows->n; i++) {
        const struct core_field_spec *spec = &rows->specs[i];
        if ((spec->flags & FIELD_REQUIRED) != 0 && (*given >> spec->field & 1) == 0)
            return refuse(&job, CORE_E_MALFORMED, spec->name, "\"%s\" is missing: %s needs it",
                          spec->name, rows->what);
    }
    return 0;
}

bool decode_key_valid(struct str key)
{
    if (key.n == 0 || key.n > DECODE_KEY_BYTES)
        return false;
    for (size_t i = 0; i < key.n; i++) {
        if ((unsigned char)key.p[i] < 0x20 || key.p[i] == 0x7f)
            return false;
    }
    return json_utf8_valid(key);
}

/* ---- the decoder */

static void form_make(struct form *form, const struct core_type_spec *spec)
{
    static const char *const common[COMMON_COUNT] = {
        [COMMON_EXPECTED_SEQ] = "expected_seq", [COMMON_KEY] = "key", [COMMON_TYPE] = "type"};
    form->type_name = (struct str){spec->command_name, strlen(spec->command_name)};
    form->fields = spec->command_fields;
    form->fields_n = spec->command_fields_n;
    for (uint32_t i = 0; i < form->fields_n; i++) {
        const struct core_field_spec *field = &form->fields[i];
        uint64_t bit = UINT64_C(1) << field->field;
        names_add(&form->names, (struct str){field->name, strlen(field->name)});
        form->fields_known |= bit;
        form->fields_required |= (field->flags & FIELD_REQUIRED) != 0 ? bit : 0;
    }
    for (uint32_t i = 0; i < COMMON_COUNT; i++)
        names_add(&form->names, (struct str){common[i], strlen(common[i])});
    names_make(&form->names);
}

/* Twice as many as the longest list has ids. */
static uint32_t id_slots_for(const struct core_limits *limits)
{
    uint32_t most = limits->max[CORE_LIMIT_MENTIONS];
    if (most < limits->max[CORE_LIMIT_PARTICIPANTS])
        most = limits->max[CORE_LIMIT_PARTICIPANTS];
    uint32_t slots = 64;
    while (slots / 2 <= most)
        slots *= 2;
    return slots;
}

struct decoder *decoder_new(const struct core_limits *limits, uint32_t max_batch_commands,
                            size_t max_batch_bytes)
{
    assert(max_batch_bytes <= JSON_BYTES);
    struct decoder *d = mem_alloc(sizeof(*d));
    memset(d, 0, sizeof(*d));
    d->limits = limits;
    d->max_batch_commands = max_batch_commands;
    d->max_batch_bytes = max_batch_bytes;
    d->parser = json_parser_new(max_batch_commands, limits->hash_seed);
    d->id_slots_mask = id_slots_for(limits) - 1;
    d->id_slots = mem_alloc((d->id_slots_mask + 1) * sizeof(*d->id_slots));
    for (int type = CORE_TYPE_NONE + 1; type < CORE_TYPE_COUNT; type++) {
        const struct core_type_spec *spec = core_type_spec((enum core_type)type);
        struct str name = {spec->command_name, strlen(spec->command_name)};
        if (core_type_of_command(name) == CORE_TYPE_NONE) /* no client may give it */
            continue;
        form_make(&d->forms[type], spec);
        d->codes[d->types.n] = (enum core_type)type;
        names_add(&d->types, name);
    }
    names_make(&d->types);
    return d;
}

void decoder_seal_with(struct decoder *d, const struct seal_key *key)
{
    d->seal = key;
}

void decoder_speak_as(struct decoder *d, struct str agent, struct str trace)
{
    d->speaker = agent;
    d->trace = trace;
}

struct json_parser *decoder_parser(struct decoder *d)
{
    return d->parser;
}

void decoder_free(struct decoder *d)
{
    json_parser_free(d->parser);
    buf_free(&d->scratch);
    free(d->id_slots);
    free(d);
}
