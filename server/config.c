/*
 * config: one table of options, and the three sources that fill struct config from it.
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

#include "server/config.h"

#include "core/base.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <cyaml/cyaml.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static bool check_listen(const char *text);
static bool check_host(const char *text);
static bool check_origin(const char *text);

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define SECOND UINT64_C(1000)
#define HOUR (3600 * SECOND)

#define TEXT(flag, member, words, value, about)                                                    \
    .name = (flag), .kind = CONFIG_STRING, .offset = offsetof(struct config, member),              \
    .allowed = (words), .initial = (value), .help = (about)
#define LIST(flag, member, low, words, test, value, about)                                         \
    .name = (flag), .kind = CONFIG_LIST, .offset = offsetof(struct config, member), .min = (low),  \
    .max = CONFIG_LIST_MAX, .allowed = (words), .check = (test), .initial = (value),               \
    .help = (about)
#define ENUM(flag, member, values, value, about)                                                   \
    .name = (flag), .kind = CONFIG_ENUM, .offset = offsetof(struct config, member),                \
    .allowed = (values), .initial = (value), .help = (about)
#define NUMBER(what, flag, member, low, high, value, about)                                        \
    .name = (flag), .kind = (what), .offset = offsetof(struct config, member), .min = (low),       \
    .max = (high), .initial = (value), .help = (about)
#define COUNT(...) NUMBER(CONFIG_COUNT, __VA_ARGS__)
#define SIZE(...) NUMBER(CONFIG_SIZE, __VA_ARGS__)
#define DURATION(...) NUMBER(CONFIG_DURATION, __VA_ARGS__)

/* clang-format off */
const struct config_option config_options[] = {
    {TEXT("config", config, "a path", "",
          "YAML file to read options from"), .not_in_file = true},
    {LIST("listen", listen, 1,
          "ADDR:PORT (an IPv4 address, an IPv6 address in brackets, or localhost) or unix:PATH",
          check_listen, "127.0.0.1:8080", "address to listen on; port 0 takes a free one")},
    {TEXT("data", data, "a path", "./atoll-data",
          "directory of the log, made if it is not there")},
    {COUNT("shards", shards, 0, CONFIG_SHARDS_MAX, "0",
           "reactor threads and shards; 0: one per core the server may run on")},
    {ENUM("durability", durability, "commit|relaxed", "commit",
          "answer when a command is on disk, or when written and synced within 100 ms")},
    {ENUM("io", io, "auto|uring|posix", "auto",
          "what writes the log: io_uring, a helper thread, or the first that works")},
    {DURATION("grace", grace_ms, 0, HOUR, "10s",
              "time to finish what is open after SIGTERM")},
    {LIST("allowed-host", allowed_hosts, 0, "a host name or address, with or without port",
          check_host, "", "Host header to accept besides loopback and the addresses listened on")},
    {LIST("allowed-origin", allowed_origins, 0, "an origin such as https://example.org",
          check_origin, "", "Origin header to accept besides the server's own")},
    {DURATION("heartbeat", heartbeat_ms, 100, HOUR, "15s",
              "pause after which an idle stream gets a comment")},
    {DURATION("write-timeout", write_timeout_ms, SECOND, HOUR, "60s",
              "time a client may take nothing before its connection is closed")},
    {COUNT("max-connections", max_connections, 1, 1000000, "10000",
           "connections of the whole server; more are closed at once")},
    {SIZE("segment-size", segment_size_bytes, MIB, GIB, "64MiB",
          "size of one log file; at least 2 x max-batch-bytes + 1MiB")},
    {SIZE("max-body", max_body_bytes, KIB, 64 * MIB, "1MiB",
          "request body that is not a batch; at most max-batch-bytes")},
    {COUNT("max-batch-commands", max_batch_commands, 1, 100000, "10000",
           "commands in one batch")},
    {SIZE("max-batch-bytes", max_batch_bytes, KIB, 64 * MIB, "16MiB",
          "request body of a batch")},
    {SIZE("max-content", max_content_bytes, 1, 16 * MIB, "256KiB",
          "content of a message")},
    {SIZE("max-data", max_data_bytes, 1, 16 * MIB, "64KiB",
          "data of a message")},
    {SIZE("max-text", max_text_bytes, 1, 64 * KIB, "1KiB",
          "a name, note, description or summary")},
    {COUNT("max-labels", max_labels, 0, 1024, "64",
           "labels of a session or an agent")},
    {SIZE("max-label-bytes", max_label_bytes, 1, 4 * KIB, "256",
          "one label's key, and its value")},
    {COUNT("max-agents", max_agents, 1, 100000, "1000",
           "agents of a session")},
    {COUNT("max-threads", max_threads, 1, 1000000, "10000",
           "threads of a session")},
    {COUNT("max-participants", max_participants, 1, 100000, "1000",
           "participants of a thread")},
    {COUNT("page-limit", page_limit, 1, 10000, "100",
           "entries of a page where the request names no limit; at most page-limit-max")},
    {COUNT("page-limit-max", page_limit_max, 1, 10000, "1000",
           "entries of a page at most; a request for more gets these")},
    {COUNT("window-messages", window_messages, 1, 10000, "100",
           "newest messages of a thread kept in the state; for sessions made from now on")},
    {SIZE("window-bytes", window_bytes, KIB, 64 * MIB, "1MiB",
          "size of these messages; for sessions made from now on")},
};
/* clang-format on */

#define OPTION_COUNT (sizeof(config_options) / sizeof(config_options[0]))
const size_t config_option_count = OPTION_COUNT;

enum { NAME_SIZE = 32, VALUE_SHOWN_MAX = 80 };

_Static_assert(sizeof(enum config_durability) == sizeof(unsigned), "written as unsigned");
_Static_assert(sizeof(enum config_io) == sizeof(unsigned), "written as unsigned");

enum source { FROM_DEFAULT, FROM_FILE, FROM_ENV, FROM_FLAG };

struct loader {
    struct config *config;
    char *error;
    size_t error_size;
    const char *path;                    /* of the file being read */
    unsigned char sources[OPTION_COUNT]; /* which source set a list last: enum source */
};

/* ---- values ---- */

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Largest first: a value is shown in the first that divides it. */
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit size_units[] = {
    {"GiB", GIB},    {"MiB", MIB}, {"KiB", KIB}, {"GB", 1000000000},
    {"MB", 1000000}, {"kB", 1000}, {"", 1},      {NULL, 0},
};
static const struct unit duration_units[] = {
    {"h", HOUR}, {"min", 60 * SECOND}, {"s", SECOND}, {"ms", 1}, {NULL, 0},
};

static const struct unit *units_of(enum config_kind kind)
{
    return kind == CONFIG_SIZE ? size_units : kind == CONFIG_DURATION ? duration_units : no_units;
}

static int parse_number(const char *text, const struct unit *units, uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    errno = 0;
    uintmax_t number = strtoumax(text, &end, 10);
    if (errno != 0)
        return -EINVAL;
    while (units->suffix != NULL && strcmp(units->suffix, end) != 0)
        units++;
    if (units->suffix == NULL || __builtin_mul_overflow(number, units->factor, value))
        return -EINVAL;
    return 0;
}

static void write_number(uint64_t value, const struct unit *units, char *out, size_t size)
{
    while (units->factor != 1 && (value == 0 || value % units->factor != 0))
        units++;
    snprintf(out, size, "%" PRIu64 "%s", value / units->factor, units->suffix);
}

/* The place of `text` among the values between '|' in `allowed`, or -EINVAL. */
static int parse_enum(const char *text, const char *allowed)
{
    size_t length = strlen(text);

    for (int place = 0;; place++) {
        size_t n = strcspn(allowed, "|");
        if (n == length && memcmp(allowed, text, n) == 0)
            return place;
        if (allowed[n] == '\0')
            return -EINVAL;
        allowed += n + 1;
    }
}

static char *copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(mem_alloc(size), text, size);
}

static void clear_list(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct config_list){0};
}

static void *place_of(struct config *config, const struct config_option *option)
{
    return (char *)config + option->offset;
}

static int store_text(void *place, const struct config_option *option, const char *text)
{
    size_t length = strlen(text);

    if (length == 0 || length > CONFIG_STRING_MAX || (option->check && !option->check(text)))
        return -EINVAL;
    if (option->kind == CONFIG_STRING) {
        free(*(char **)place);
        *(char **)place = copy_text(text);
        return 0;
    }
    struct config_list *list = place;
    if (list->count == option->max)
        return -E2BIG;
    list->items = mem_realloc(list->items, (list->count + 1) * sizeof(char *));
    list->items[list->count++] = copy_text(text);
    return 0;
}

/* Checks one value and sets it, or adds it to the list. -EINVAL: not allowed; -E2BIG: list full. */
static int store_value(struct config *config, const struct config_option *option, const char *text)
{
    void *place = place_of(config, option);
    uint64_t number;
    int chosen;

    switch (option->kind) {
    case CONFIG_STRING:
    case CONFIG_LIST:
        return store_text(place, option, text);
    case CONFIG_ENUM:
        chosen = parse_enum(text, option->allowed);
        if (chosen < 0)
            return chosen;
        *(unsigned *)place = (unsigned)chosen;
        return 0;
    default:
        if (parse_number(text, units_of(option->kind), &number) != 0 || number < option->min ||
            number > option->max)
            return -EINVAL;
        *(uint64_t *)place = number;
        return 0;
    }
}

int config_parse_listen(const char *text, struct sockaddr_storage *address, socklen_t *size_bytes)
{
    struct sockaddr_un *local = (struct sockaddr_un *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    char host[INET6_ADDRSTRLEN + 2];
    uint64_t port;

    memset(address, 0, sizeof(*address));
    if (strncmp(text, "unix:", 5) == 0) {
        size_t length = strlen(text + 5);
        if (length == 0 || length >= sizeof(local->sun_path))
            return -EINVAL;
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path, text + 5, length);
        *size_bytes = sizeof(*local);
        return 0;
    }
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || (size_t)(colon - text) >= sizeof(host) ||
        parse_number(colon + 1, no_units, &port) != 0 || port > UINT16_MAX)
        return -EINVAL;
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
    if (host[0] == '[' && colon[-1] == ']') {
        host[strlen(host) - 1] = '\0';
        *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        *size_bytes = sizeof(*v6);
        return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1 ? 0 : -EINVAL;
    }
    const char *literal = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    *size_bytes = sizeof(*v4);
    return inet_pton(AF_INET, literal, &v4->sin_addr) == 1 ? 0 : -EINVAL;
}

static bool check_listen(const char *text)
{
    struct sockaddr_storage address;
    socklen_t size_bytes;
    return config_parse_listen(text, &address, &size_bytes) == 0;
}

static bool check_host(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]";
    size_t length = strlen(text);

    return (isalnum((unsigned char)text[0]) || text[0] == '[') && length <= 255 &&
           strspn(text, allowed) == length;
}

static bool check_origin(const char *text)
{
    const char *host = strstr(text, "://");
    return host != NULL && host > text && islower((unsigned char)text[0]) &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == (size_t)(host - text) &&
           check_host(host + 3);
}

/* ---- the table in words ---- */

static void write_name(const struct config_option *option, const char *prefix, bool upper,
                       char *out, size_t size)
{
    snprintf(out, size, "%s%s", prefix, option->name);
    for (char *c = out; *c != '\0'; c++) {
        if (*c == '-')
            *c = '_';
        else if (upper)
            *c = (char)toupper((unsigned char)*c);
    }
}

void config_write_env_name(const struct config_option *option, char *out, size_t size)
{
    write_name(option, "ATOLL_", true, out, size);
}

void config_write_key(const struct config_option *option, char *out, size_t size)
{
    write_name(option, "", false, out, size);
}

static void write_range(const struct config_option *option, const char *what, const char *how,
                        char *out, size_t size)
{
    char low[NAME_SIZE];
    char high[NAME_SIZE];

    write_number(option->min, units_of(option->kind), low, sizeof(low));
    write_number(option->max, units_of(option->kind), high, sizeof(high));
    snprintf(out, size, "a %s from %s to %s%s", what, low, high, how);
}

static void write_choices(const char *allowed, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    while (used < size && *allowed != '\0') {
        size_t n = strcspn(allowed, "|");
        used += (size_t)snprintf(out + used, size - used, "%s%.*s", used == 0 ? "" : " or ", (int)n,
                                 allowed);
        allowed += n + (allowed[n] == '|');
    }
}

void config_write_allowed(const struct config_option *option, char *out, size_t size)
{
    switch (option->kind) {
    case CONFIG_COUNT:
        write_range(option, "whole number", "", out, size);
        break;
    case CONFIG_SIZE:
        write_range(option, "size", " (bytes, or with KiB, MiB, GiB, kB, MB, GB)", out, size);
        break;
    case CONFIG_DURATION:
        write_range(option, "duration", " (with ms, s, min, h)", out, size);
        break;
    case CONFIG_ENUM:
        write_choices(option->allowed, out, size);
        break;
    default:
        snprintf(out, size, "%s", option->allowed);
    }
}

void config_write_value(const struct config *config, const struct config_option *option, char *out,
                        size_t size)
{
    const void *place = (const char *)config + option->offset;
    const struct config_list *list = place;
    const char *choice = option->allowed;
    size_t used = 0;

    switch (option->kind) {
    case CONFIG_STRING:
        snprintf(out, size, "%s", *(char *const *)place);
        break;
    case CONFIG_LIST:
        out[0] = '\0';
        for (size_t i = 0; i < list->count && used < size; i++)
            used += (size_t)snprintf(out + used, size - used, "%s%s", i == 0 ? "" : ",",
                                     list->items[i]);
        break;
    case CONFIG_ENUM:
        for (unsigned i = *(const unsigned *)place; i > 0; i--)
            choice = strchr(choice, '|') + 1;
        snprintf(out, size, "%.*s", (int)strcspn(choice, "|"), choice);
        break;
    default:
        write_number(*(const uint64_t *)place, units_of(option->kind), out, size);
    }
}

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
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (strncmp(config_options[i].name, name, length) == 0 &&
            config_options[i].name[length] == '\0')
            return &config_options[i];
    return NULL;
}

static const struct config_option *find_key(const char *key)
{
    char known[NAME_SIZE];

    for (size_t i = 0; i < OPTION_COUNT; i++) {
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
    size_t row[NAME_SIZE];

    if (a_length >= NAME_SIZE || b_length >= NAME_SIZE)
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

    for (size_t i = 0; i < OPTION_COUNT; i++) {
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
    char key[NAME_SIZE];

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
        clear_list(place_of(l->config, option));
    *last = (unsigned char)source;
}

static int put(struct loader *l, enum source source, const struct config_option *option,
               const char *text)
{
    start_list(l, source, option);
    int rc = store_value(l->config, option, text);
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
    char *copy = copy_text(text);
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
    char name[NAME_SIZE];

    for (size_t i = 0; i < OPTION_COUNT; i++) {
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
    cyaml_schema_field_t fields[OPTION_COUNT + 1];
    char keys[OPTION_COUNT][NAME_SIZE];
};

/* What libcyaml said: the message, then the frames of its backtrace from the inside out. */
struct file_report {
    char message[256];
    char key[NAME_SIZE]; /* of the outermost frame, "" if there is none */
    size_t line;         /* of the innermost frame, 0 if there is none */
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
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct config_option *option = &config_options[i];
        size_t offset = i * sizeof(struct file_value);
        if (option->not_in_file)
            continue;
        config_write_key(option, schema->keys[i], NAME_SIZE);
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
    schema->root = (cyaml_schema_value_t){
        CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct file_value[OPTION_COUNT], schema->fields)};
}

static int refuse_key(struct loader *l, const char *key)
{
    const struct config_option *nearest = find_nearest(key, strlen(key), true);
    size_t line = find_line(l->path, key);
    char known[NAME_SIZE];
    char number[NAME_SIZE] = "";

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
    for (size_t i = 0; values != NULL && i < OPTION_COUNT && rc == 0; i++)
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
    char value_text[NAME_SIZE];
    char limit_text[NAME_SIZE];

    write_number(value, units_of(kind), value_text, sizeof(value_text));
    write_number(limit, units_of(kind), limit_text, sizeof(limit_text));
    return fail(l, "%s: %s is not allowed; must be %s %s, here %s", small, value_text, rule, large,
                limit_text);
}

/* Works out what "one per core" means and checks the options against each other. */
static int settle(struct loader *l)
{
    struct config *c = l->config;
    uint64_t segment_min_bytes = 2 * c->max_batch_bytes + MIB;

    if (c->shards == 0)
        c->shards = count_cores();
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
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct config_option *option = &config_options[i];
        int rc = 0;
        if (option->initial[0] != '\0')
            rc = store_value(config, option, option->initial);
        else if (option->kind == CONFIG_STRING)
            *(char **)place_of(config, option) = copy_text("");
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
    config->config = copy_text(path);
    return finish(&l, load_file(&l, path));
}

void config_free(struct config *config)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (config_options[i].kind == CONFIG_STRING)
            free(*(char **)place_of(config, &config_options[i]));
        else if (config_options[i].kind == CONFIG_LIST)
            clear_list(place_of(config, &config_options[i]));
    }
    *config = (struct config){0};
}
