/*
 * config: the three sources that fill struct config, by the table in config_options.c.
 *
 * Normal path: every source hands each value as text to put(), which parses and checks it by the
 * option's row. libcyaml reads the file with a schema made from the table in which every value is
 * a string or a list of strings, so a value's limits are checked in one place only.
 * Failure: refuse() and its like write the one sentence. For a file, libcyaml says what it met and
 * where through its log callback; its place for a key is that of the thing before, so find_line
 * asks it again with a schema that only this key can break.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include "server/config_options.h"
#include "server/memory.h"

#include <ctype.h>
#include <cyaml/cyaml.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { VALUE_SHOWN_MAX = 80 };

enum source { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_FLAG };

struct loader {
    struct config *config;
    char *error;
    size_t error_size;
    const char *path;                          /* of the file being read */
    unsigned char sources[CONFIG_OPTIONS_MAX]; /* which source set a list last: enum source */
};

/* ---- finding options and saying what is wrong ---- */

static int fail(struct loader *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(struct loader *l, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(l->error, l->error_size, format, arguments);
    va_end(arguments);
    for (char *c = l->error; *c != '\0'; c++)
        if (iscntrl((unsigned char)*c))
            *c = '?';
    return -EINVAL;
}

static const struct config_option *find_option(const char *name, size_t length)
{
    for (size_t i = 0; i < config_option_count; i++)
        if (strncmp(config_options[i].name, name, length) == 0 &&
            config_options[i].name[length] == '\0')
            return &config_options[i];
    return NULL;
}

static const struct config_option *find_key(const char *key)
{
    char known[CONFIG_NAME_SIZE];

    for (size_t i = 0; i < config_option_count; i++) {
        config_write_key(&config_options[i], known, sizeof(known));
        if (strcmp(known, key) == 0)
            return &config_options[i];
    }
    return NULL;
}

/* Levenshtein distance, with '-' and '_' alike; large where a name is longer than any option's. */
static size_t name_distance(const char *a, size_t a_length, const char *b)
{
    size_t b_length = strlen(b);
    size_t row[CONFIG_NAME_SIZE];

    if (a_length >= CONFIG_NAME_SIZE || b_length >= CONFIG_NAME_SIZE)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        char c = a[i - 1];
        if (c == '_')
            c = '-';
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = diagonal + (c != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[b_length];
}

/* The option whose name is at most a few letters away, or NULL. */
static const struct config_option *find_nearest(const char *name, size_t length, bool in_file)
{
    const struct config_option *nearest = NULL;
    size_t least = 1 + length / 5;

    for (size_t i = 0; i < config_option_count; i++) {
        size_t distance = name_distance(name, length, config_options[i].name);
        if (distance <= least && !(in_file && config_options[i].not_in_file)) {
            least = distance == 0 ? 0 : distance - 1;
            nearest = &config_options[i];
            if (distance == 0)
                break;
        }
    }
    return nearest;
}

static size_t find_line(const char *path, const char *key);

/* Writes where the option was set: "--max-body", "ATOLL_MAX_BODY" or "FILE:LINE: max_body". */
static void write_origin(struct loader *l, enum source source, const struct config_option *option,
                         char *out, size_t size)
{
    char key[CONFIG_NAME_SIZE];

    if (source == FROM_FLAG) {
        snprintf(out, size, "--%s", option->name);
    } else if (source == FROM_ENV) {
        config_write_env_name(option, out, size);
    } else {
        config_write_key(option, key, sizeof(key));
        size_t line = find_line(l->path, key);
        if (line != 0)
            snprintf(out, size, "%s:%zu: %s", l->path, line, key);
        else
            snprintf(out, size, "%s: %s", l->path, key);
    }
}

static int refuse_shape(struct loader *l, enum source source, const struct config_option *option)
{
    char origin[CONFIG_ERROR_SIZE];

    write_origin(l, source, option, origin, sizeof(origin));
    if (option->kind != CONFIG_LIST)
        return fail(l, "%s: must be one value", origin);
    return fail(l, "%s: must be a list of %" PRIu64 " to %" PRIu64 " values", origin, option->min,
                option->max);
}

static int refuse(struct loader *l, enum source source, const struct config_option *option,
                  const char *text)
{
    char origin[CONFIG_ERROR_SIZE];
    char allowed[256];
    bool cut = strlen(text) > VALUE_SHOWN_MAX;

    write_origin(l, source, option, origin, sizeof(origin));
    config_write_allowed(option, allowed, sizeof(allowed));
    return fail(l, "%s: \"%.*s%s\" is not allowed; must be %s", origin, VALUE_SHOWN_MAX, text,
                cut ? "..." : "", allowed);
}

/* The first value of a list from a source drops those from the sources before it. */
static void start_list(struct loader *l, enum source source, const struct config_option *option)
{
    unsigned char *last = &l->sources[option - config_options];
    if (option->kind == CONFIG_LIST && *last != source)
        config_clear_list(config_place_of(l->config, option));
    *last = (unsigned char)source;
}

static int put(struct loader *l, enum source source, const struct config_option *option,
               const char *text)
{
    start_list(l, source, option);
    int rc = config_store_value(l->config, option, text);
    return rc == 0        ? 0
           : rc == -E2BIG ? refuse_shape(l, source, option)
                          : refuse(l, source, option, text);
}

/* ---- flags and environment ---- */

static int refuse_flag(struct loader *l, const char *name, size_t length)
{
    const struct config_option *nearest = find_nearest(name, length, false);
    int shown = length > VALUE_SHOWN_MAX ? VALUE_SHOWN_MAX : (int)length;

    if (nearest != NULL)
        return fail(l, "unknown option --%.*s; did you mean --%s?", shown, name, nearest->name);
    return fail(l, "unknown option --%.*s; atoll help serve lists them", shown, name);
}

static int load_flags(struct loader *l, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0)
            return fail(l, "unexpected argument \"%.*s\"", VALUE_SHOWN_MAX, argv[i]);
        const char *name = argv[i] + 2;
        size_t length = strcspn(name, "=");
        const char *value = name[length] == '=' ? name + length + 1 : NULL;
        const struct config_option *option = find_option(name, length);
        if (option == NULL)
            return refuse_flag(l, name, length);
        if (value == NULL && option->kind == CONFIG_FLAG)
            value = "yes";
        if (value == NULL && i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0)
            value = argv[++i];
        if (value == NULL)
            return fail(l, "--%s: needs a value", option->name);
        int rc = put(l, FROM_FLAG, option, value);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int load_env_list(struct loader *l, const struct config_option *option, const char *text)
{
    char *copy = config_copy_text(text);
    char *rest = copy;
    char *item;
    int rc = 0;

    while (rc == 0 && (item = strsep(&rest, ",")) != NULL)
        rc = put(l, FROM_ENV, option, item);
    free(copy);
    return rc;
}

/* Other variables named ATOLL_… are let be: container platforms set such for a service's name. */
static int load_env(struct loader *l)
{
    char name[CONFIG_NAME_SIZE];

    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        config_write_env_name(option, name, sizeof(name));
        const char *text = getenv(name);
        if (text == NULL || text[0] == '\0')
            continue;
        int rc = option->kind == CONFIG_LIST ? load_env_list(l, option, text)
                                             : put(l, FROM_ENV, option, text);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- the file ---- */

/* One key's value as libcyaml leaves it; all zero where the key is not given. */
struct file_value {
    char *text;
    char **items;
    uint32_t count;
};

/* The schema made from the table. */
struct file_schema {
    cyaml_schema_value_t item;
    cyaml_schema_value_t root;
    cyaml_schema_field_t fields[CONFIG_OPTIONS_MAX + 1];
    char keys[CONFIG_OPTIONS_MAX][CONFIG_NAME_SIZE];
};

/* What libcyaml said: the message, then the frames of its backtrace from the inside out. */
struct file_report {
    char message[256];
    char key[CONFIG_NAME_SIZE]; /* of the outermost frame, "" if there is none */
    size_t line;                /* of the innermost frame, 0 if there is none */
};

/* The rest of `text` if it begins with `prefix`, else NULL. */
static const char *behind(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

static void capture_report(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
    struct file_report *report = context;
    char text[256];

    (void)level;
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    if (strncmp(text, "  in ", 5) == 0) {
        const char *place = strrchr(text, '(');
        if (report->line == 0 && place != NULL)
            (void)sscanf(place, "(line: %zu", &report->line);
        (void)sscanf(text, "  in mapping field '%31[^']'", report->key);
    } else if (report->message[0] == '\0') {
        const char *rest = behind(text, "Load: ");
        snprintf(report->message, sizeof(report->message), "%s", rest != NULL ? rest : text);
    }
}

static cyaml_config_t reader(struct file_report *report, cyaml_cfg_flags_t flags)
{
    return (cyaml_config_t){
        .log_fn = capture_report,
        .log_ctx = report,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_WARNING,
        .flags = flags,
    };
}

/* The line of `key` in the file: no value is allowed for it here, so libcyaml says where it met
 * one. 0 where it cannot say. */
static size_t find_line(const char *path, const char *key)
{
    struct file_report report = {0};
    cyaml_config_t config = reader(&report, CYAML_CFG_IGNORE_UNKNOWN_KEYS);
    const cyaml_schema_field_t fields[] = {
        {.key = key,
         .value = {.type = CYAML_ENUM,
                   .flags = (enum cyaml_flag)(CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT),
                   .data_size = sizeof(unsigned)}},
        CYAML_FIELD_END,
    };
    const cyaml_schema_value_t root = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, unsigned, fields)};
    cyaml_data_t *data = NULL;

    if (cyaml_load_file(path, &config, &root, &data, NULL) == CYAML_OK) {
        cyaml_free(&config, &root, data, 0);
        return 0;
    }
    return report.line;
}

static void make_schema(struct file_schema *schema)
{
    const enum cyaml_flag flags = (enum cyaml_flag)(CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL);
    cyaml_schema_field_t *field = schema->fields;

    memset(schema, 0, sizeof(*schema));
    schema->item =
        (cyaml_schema_value_t){CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, UINT32_MAX)};
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        size_t offset = i * sizeof(struct file_value);
        if (option->not_in_file)
            continue;
        config_write_key(option, schema->keys[i], CONFIG_NAME_SIZE);
        field->key = schema->keys[i];
        field->value = schema->item;
        field->value.flags = flags;
        field->data_offset = (uint32_t)(offset + offsetof(struct file_value, text));
        if (option->kind == CONFIG_LIST) {
            field->value.type = CYAML_SEQUENCE;
            field->value.data_size = sizeof(char *);
            field->value.sequence.entry = &schema->item;
            field->value.sequence.min = (uint32_t)option->min;
            field->value.sequence.max = (uint32_t)option->max;
            field->data_offset = (uint32_t)(offset + offsetof(struct file_value, items));
            field->count_offset = (uint32_t)(offset + offsetof(struct file_value, count));
            field->count_size = sizeof(uint32_t);
        }
        field++;
    }
    schema->root = (cyaml_schema_value_t){CYAML_VALUE_MAPPING(
        CYAML_FLAG_POINTER, struct file_value[CONFIG_OPTIONS_MAX], schema->fields)};
}

static int refuse_key(struct loader *l, const char *key)
{
    const struct config_option *nearest = find_nearest(key, strlen(key), true);
    size_t line = find_line(l->path, key);
    char known[CONFIG_NAME_SIZE];
    char number[CONFIG_NAME_SIZE] = "";

    if (line != 0)
        snprintf(number, sizeof(number), ":%zu", line);
    if (nearest == NULL)
        return fail(l, "%s%s: unknown key \"%s\"; atoll help serve lists the known ones", l->path,
                    number, key);
    config_write_key(nearest, known, sizeof(known));
    return fail(l, "%s%s: unknown key \"%s\"; did you mean \"%s\"?", l->path, number, key, known);
}

static int refuse_syntax(struct loader *l, const char *problem, size_t line)
{
    if (line == 0)
        return fail(l, "%s: %s", l->path, problem);
    return fail(l, "%s: near line %zu: %s", l->path, line, problem);
}

/* Turns what libcyaml said into the one sentence. */
static int refuse_file(struct loader *l, cyaml_err_t code, const struct file_report *report)
{
    const struct config_option *option = find_key(report->key);
    const char *rest;

    if (code == CYAML_OK)
        return fail(l, "%s: must be a single YAML document", l->path);
    if (code == CYAML_ERR_FILE_OPEN)
        return fail(l, "%s: cannot be opened: %s", l->path, strerror(errno));
    if ((rest = behind(report->message, "Unexpected key: ")) != NULL)
        return refuse_key(l, rest);
    if ((rest = behind(report->message, "Mapping field already seen: ")) != NULL)
        return fail(l, "%s: %s: given more than once", l->path, rest);
    if ((rest = behind(report->message, "libyaml: ")) != NULL)
        return refuse_syntax(l, rest, report->line);
    if (option != NULL &&
        (code == CYAML_ERR_INVALID_VALUE || code == CYAML_ERR_SEQUENCE_ENTRIES_MIN ||
         code == CYAML_ERR_SEQUENCE_ENTRIES_MAX))
        return refuse_shape(l, FROM_FILE, option);
    if (code == CYAML_ERR_INVALID_VALUE || code == CYAML_ERR_INTERNAL_ERROR)
        return fail(l, "%s: must be a mapping of options to values", l->path);
    return fail(l, "%s: %s", l->path,
                report->message[0] != '\0' ? report->message : cyaml_strerror(code));
}

static int put_file_value(struct loader *l, const struct config_option *option,
                          const struct file_value *value)
{
    int rc = 0;

    if (value->text != NULL)
        return put(l, FROM_FILE, option, value->text);
    if (value->items == NULL)
        return 0;
    start_list(l, FROM_FILE, option);
    for (uint32_t i = 0; i < value->count && rc == 0; i++)
        rc = put(l, FROM_FILE, option, value->items[i]);
    return rc;
}

static int load_file(struct loader *l, const char *path)
{
    struct file_report report = {0};
    cyaml_config_t config = reader(&report, CYAML_CFG_DEFAULT);
    struct file_schema schema;
    struct file_value *values = NULL;
    int rc = 0;

    l->path = path;
    make_schema(&schema);
    cyaml_err_t code = cyaml_load_file(path, &config, &schema.root, (cyaml_data_t **)&values, NULL);
    if (code != CYAML_OK || report.message[0] != '\0')
        rc = refuse_file(l, code, &report);
    for (size_t i = 0; values != NULL && i < config_option_count && rc == 0; i++)
        rc = put_file_value(l, &config_options[i], &values[i]);
    cyaml_free(&config, &schema.root, values, 0);
    return rc;
}

/* ---- all together ---- */

/* How many cores this process may run on, at most CONFIG_SHARDS_MAX. */
static uint64_t count_cores(void)
{
    cpu_set_t set;
    long cores = sysconf(_SC_NPROCESSORS_ONLN); /* where the mask is larger than a cpu_set_t */

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        cores = CPU_COUNT(&set);
    return cores < 1 ? 1 : cores > CONFIG_SHARDS_MAX ? CONFIG_SHARDS_MAX : (uint64_t)cores;
}

static int refuse_pair(struct loader *l, const char *small, const char *rule, const char *large,
                       uint64_t value, uint64_t limit, enum config_kind kind)
{
    char value_text[CONFIG_NAME_SIZE];
    char limit_text[CONFIG_NAME_SIZE];

    config_write_number(value, kind, value_text, sizeof(value_text));
    config_write_number(limit, kind, limit_text, sizeof(limit_text));
    return fail(l, "%s: %s is not allowed; must be %s %s, here %s", small, value_text, rule, large,
                limit_text);
}

/* Works out what "one per core" and "half of what there is" mean and checks the options against
 * each other. */
static int settle(struct loader *l)
{
    struct config *c = l->config;
    uint64_t segment_min_bytes = 2 * c->max_batch_bytes + MIB;

    if (c->shards == 0)
        c->shards = count_cores();
    if (c->memory_limit_bytes == 0)
        c->memory_limit_bytes = memory_available_bytes();
    if (c->memory_bytes == 0)
        c->memory_bytes = c->memory_limit_bytes / 2;
    if (c->segment_size_bytes < segment_min_bytes)
        return refuse_pair(l, "segment_size", "at least", "2 x max_batch_bytes + 1MiB",
                           c->segment_size_bytes, segment_min_bytes, CONFIG_SIZE);
    if (c->max_body_bytes > c->max_batch_bytes)
        return refuse_pair(l, "max_body", "at most", "max_batch_bytes", c->max_body_bytes,
                           c->max_batch_bytes, CONFIG_SIZE);
    if (c->page_limit > c->page_limit_max)
        return refuse_pair(l, "page_limit", "at most", "page_limit_max", c->page_limit,
                           c->page_limit_max, CONFIG_COUNT);
    return 0;
}

static void set_defaults(struct config *config)
{
    *config = (struct config){0};
    for (size_t i = 0; i < config_option_count; i++) {
        const struct config_option *option = &config_options[i];
        int rc = 0;
        if (option->initial[0] != '\0')
            rc = config_store_value(config, option, option->initial);
        else if (option->kind == CONFIG_STRING)
            *(char **)config_place_of(config, option) = config_copy_text("");
        assert(rc == 0);
    }
}

void config_defaults(struct config *config)
{
    char error[CONFIG_ERROR_SIZE];
    struct loader l = {.config = config, .error = error, .error_size = sizeof(error)};

    set_defaults(config);
    int rc = settle(&l);
    assert(rc == 0);
}

static int finish(struct loader *l, int rc)
{
    if (rc == 0)
        rc = settle(l);
    if (rc != 0)
        config_free(l->config);
    return rc;
}

int config_load(struct config *config, int argc, char **argv, char *error, size_t error_size)
{
    struct loader l = {.config = config, .error = error, .error_size = error_size};

    set_defaults(config);
    int rc = load_env(&l);
    if (rc == 0)
        rc = load_flags(&l, argc, argv);
    if (rc != 0 || config->config[0] == '\0')
        return finish(&l, rc);
    /* Now that the file is known: it first, and what goes before it once more. */
    memset(l.sources, FROM_DEFAULT, sizeof(l.sources));
    rc = load_file(&l, config->config);
    if (rc == 0)
        rc = load_env(&l);
    if (rc == 0)
        rc = load_flags(&l, argc, argv);
    return finish(&l, rc);
}

int config_load_file(struct config *config, const char *path, char *error, size_t error_size)
{
    struct loader l = {.config = config, .error = error, .error_size = error_size};

    set_defaults(config);
    free(config->config);
    config->config = config_copy_text(path);
    return finish(&l, load_file(&l, path));
}

static size_t size_of(const struct config_option *option)
{
    switch (option->kind) {
    case CONFIG_ENUM:
    case CONFIG_FLAG:
        return sizeof(unsigned);
    case CONFIG_RATE:
        return sizeof(struct config_rate);
    default:
        return sizeof(uint64_t);
    }
}

/* `copy` has no value of it yet. */
static void copy_value(struct config *copy, const struct config *config,
                       const struct config_option *option)
{
    const void *from = (const char *)config + option->offset;
    void *to = config_place_of(copy, option);

    if (option->kind == CONFIG_STRING) {
        *(char **)to = config_copy_text(*(char *const *)from);
    } else if (option->kind == CONFIG_LIST) {
        const struct config_list *list = from;
        struct config_list made = {.count = list->count};
        if (list->count != 0)
            made.items = mem_alloc(list->count * sizeof(char *));
        for (size_t i = 0; i < list->count; i++)
            made.items[i] = config_copy_text(list->items[i]);
        *(struct config_list *)to = made;
    } else {
        memcpy(to, from, size_of(option));
    }
}

static void free_value(struct config *config, const struct config_option *option)
{
    if (option->kind == CONFIG_STRING)
        free(*(char **)config_place_of(config, option));
    else if (option->kind == CONFIG_LIST)
        config_clear_list(config_place_of(config, option));
}

void config_copy(struct config *copy, const struct config *config)
{
    *copy = (struct config){0};
    for (size_t i = 0; i < config_option_count; i++)
        copy_value(copy, config, &config_options[i]);
}

static bool lists_equal(const struct config_list *a, const struct config_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

bool config_equal(const struct config *a, const struct config *b,
                  const struct config_option *option)
{
    const void *left = (const char *)a + option->offset;
    const void *right = (const char *)b + option->offset;

    if (option->kind == CONFIG_STRING)
        return strcmp(*(char *const *)left, *(char *const *)right) == 0;
    if (option->kind == CONFIG_LIST)
        return lists_equal(left, right);
    return memcmp(left, right, size_of(option)) == 0;
}

bool config_keep(struct config *next, const struct config *running,
                 const struct config_option *option)
{
    if (option->live || config_equal(next, running, option))
        return false;
    free_value(next, option);
    copy_value(next, running, option);
    return true;
}

void config_free(struct config *config)
{
    for (size_t i = 0; i < config_option_count; i++)
        free_value(config, &config_options[i]);
    *config = (struct config){0};
}
