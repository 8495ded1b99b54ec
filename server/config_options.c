/*
 * config_options: the table of options, and values of each kind: from text, checked by the option's
 * row, into struct config, and back into words.
 */
#include "server/config_options.h"

#include "server/courier_rules.h"
#include "server/logger.h"
#include "server/newid.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

bool config_listen_is_tls(const char *text)
{
    return strncmp(text, "tls:", 4) == 0;
}

static bool check_listen(const char *text);
static bool check_host(const char *text);
static bool check_origin(const char *text);
static bool check_wake_target(const char *text);
static bool check_node_tag(const char *text);

#define SECOND UINT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

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
#define FLAG(flag, member, about)                                                                  \
    .name = (flag), .kind = CONFIG_FLAG, .offset = offsetof(struct config, member),                \
    .allowed = "no|yes", .initial = "no", .help = (about)
#define RATE(flag, member, about)                                                                  \
    .name = (flag), .kind = CONFIG_RATE, .offset = offsetof(struct config, member),                \
    .initial = "none", .help = (about)
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
          "ADDR:PORT (an IPv4 address, an IPv6 address in brackets, or localhost), tls:ADDR:PORT, "
          "unix:PATH or fd:NAME",
          check_listen, "127.0.0.1:8080", "address to listen on; port 0 takes a free one")},
    {TEXT("data", data, "a path", "./atoll-data",
          "directory of the log, made if it is not there")},
    {TEXT("node-tag", node_tag, NEWID_TAG_RULE, "",
          "beginning of the session ids made here, by which a load balancer finds this node"),
     .check = check_node_tag},
    {COUNT("shards", shards, 0, CONFIG_SHARDS_MAX, "0",
           "reactor threads and shards; 0: one per core the server may run on")},
    {ENUM("durability", durability, "commit|relaxed", "commit",
          "answer when a command is on disk, or when written and synced within 100 ms")},
    {ENUM("io", io, "auto|uring|posix", "auto",
          "what writes the log: io_uring, a helper thread, or the first that works")},
    {DURATION("drain-delay", drain_delay_ms, 0, HOUR, "0ms",
              "time after SIGTERM to serve on, not ready, so that load balancers see it first")},
    {DURATION("grace", grace_ms, 0, HOUR, "10s",
              "time to finish what is open after SIGTERM")},
    {LIST("allowed-host", allowed_hosts, 0, "a host name or address, with or without port",
          check_host, "", "Host header to accept besides loopback and the addresses listened on"),
     .live = true},
    {LIST("allowed-origin", allowed_origins, 0, "an origin such as https://example.org",
          check_origin, "", "Origin header to accept besides the server's own"),
     .live = true},
    {LIST("allow-wake-to", allow_wake_to, 0,
          "a host name, an address or a range such as 10.0.0.0/8, with or without :PORT",
          check_wake_target, "", "where agents may be woken besides public addresses")},
    {LIST("auth-key", auth_keys, 0,
          "a path, then, where wished, #alg=HS256 (HS384, HS512, RS256, ES256, EdDSA) and "
          "#kid=NAME",
          NULL, "",
          "file with a key that verifies tokens; with one, nobody gets in without a token"),
     .live = true},
    {TEXT("auth-issuer", auth_issuer, "a text", "", "`iss` that tokens must have"),
     .live = true},
    {TEXT("auth-audience", auth_audience, "a text", "", "`aud` that tokens must have"),
     .live = true},
    {FLAG("insecure-no-auth", insecure_no_auth,
          "listen on other addresses than loopback although there is no --auth-key")},
    {LIST("tls-cert", tls_certs, 0, "a path", NULL, "",
          "PEM file with a certificate and its chain, for tls: addresses; several go by their "
          "names"),
     .live = true},
    {LIST("tls-key", tls_keys, 0, "a path", NULL, "",
          "PEM file with the private key; one for each tls-cert, in the same order"),
     .live = true},
    {ENUM("tls-min", tls_min, "1.2|1.3", "1.2",
          "oldest version of TLS to speak"),
     .live = true},
    {ENUM("http2", http2, "off|on", "off",
          "HTTP/2 for clients that ask for it over TLS")},
    {ENUM("log-level", log_level, LOGGER_LEVELS, "info",
          "what is told on standard error: lines of this level and of those before it"),
     .live = true},
    {TEXT("audit-log", audit_log, "a path", "",
          "file for lines on refusals and administration; without one they are among the others")},
    {RATE("rate-token", rate_token,
          "commands and requests of one token; more are answered 429"),
     .live = true},
    {RATE("rate-address", rate_address,
          "commands and requests from one address (IPv6: /64); more are answered 429"),
     .live = true},
    {RATE("rate-session", rate_session,
          "commands of one session, whoever sends them; more are answered 429")},
    {DURATION("heartbeat", heartbeat_ms, 100, HOUR, "15s",
              "pause after which an idle stream gets a comment")},
    {DURATION("write-timeout", write_timeout_ms, SECOND, HOUR, "60s",
              "time a client may take nothing before its connection is closed")},
    {DURATION("header-timeout", header_timeout_ms, 100, HOUR, "10s",
              "time for the head of a request, from its first byte, and for a TLS handshake")},
    {DURATION("body-timeout", body_timeout_ms, 100, HOUR, "20s",
              "time for the body of a request, and a second more for each 500 bytes that came")},
    {DURATION("idle-timeout", idle_timeout_ms, 100, DAY, "75s",
              "time after which a connection without a request is closed")},
    {SIZE("max-header-bytes", max_header_bytes, KIB, 256 * KIB, "16KiB",
          "request line and headers of a request")},
    {COUNT("max-connections", max_connections, 1, 1000000, "50000",
           "connections of the whole server; more are closed at once")},
    {COUNT("max-connections-per-address", max_connections_per_address, 0, 1000000, "0",
           "connections from one address (IPv6: one /64); more are closed at once; 0: no bound")},
    {SIZE("segment-size", segment_size_bytes, MIB, GIB, "64MiB",
          "size of one log file; at least 2 x max-batch-bytes + 1MiB")},
    {SIZE("checkpoint-bytes", checkpoint_bytes, MIB, 64 * GIB, "128MiB",
          "bytes of a shard's log from one checkpoint to the next; a start reads at most so much")},
    {DURATION("idle-passivate", idle_passivate_ms, 0, 365 * DAY, "10min",
              "time after which a session that nobody uses leaves memory; 0ms: never")},
    {SIZE("memory", memory_bytes, 0, 65536 * GIB, "0",
          "for the sessions in memory, beyond which the least used leave it; 0: half of "
          "memory-limit")},
    {SIZE("memory-limit", memory_limit_bytes, 0, 65536 * GIB, "0",
          "of the process: from 80% of it no session is made, from 95% nothing is written; 0: what "
          "there is")},
    {DURATION("retain-age", retain_age_ms, 0, 36500 * DAY, "0ms",
              "age from which history may be dropped, but for what sessions need; 0ms: never")},
    {SIZE("retain-bytes", retain_bytes, 0, 65536 * GIB, "0",
          "size of all logs above which the oldest history is dropped; 0: no bound")},
    {DURATION("compact-after", compact_after_ms, 0, 365 * DAY, "10min",
              "time that deleted data may lie on disk before its log files are rewritten")},
    {SIZE("compact-rate", compact_rate_bytes, 0, 64 * GIB, "128MiB",
          "bytes per second that rewriting reads and writes, in each shard; 0: no bound")},
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
    {COUNT("max-session-events", max_session_events, 0, 1000000000000, "0",
           "events of a session, beyond which commands are answered 409; 0: no bound")},
    {COUNT("max-session-watchers", max_session_watchers, 0, 1000000, "0",
           "streams and watches of one session on one reactor; more are answered 429; 0: no "
           "bound")},
    {SIZE("max-session-bytes", max_session_bytes, 0, 65536 * GIB, "0",
          "of a session in the log, beyond which commands are answered 409; 0: no bound")},
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

const size_t config_option_count = sizeof(config_options) / sizeof(config_options[0]);
_Static_assert(sizeof(config_options) / sizeof(config_options[0]) <= CONFIG_OPTIONS_MAX, "room");

_Static_assert(sizeof(enum config_durability) == sizeof(unsigned), "written as unsigned");
_Static_assert(sizeof(enum config_tls) == sizeof(unsigned), "written as unsigned");
_Static_assert(sizeof(enum config_io) == sizeof(unsigned), "written as unsigned");

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
    {"d", DAY}, {"h", HOUR}, {"min", 60 * SECOND}, {"s", SECOND}, {"ms", 1}, {NULL, 0},
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

static const struct unit rate_units[] = {
    {"/h", HOUR},
    {"/min", 60 * SECOND},
    {"/s", SECOND},
    {NULL, 0},
};

static bool parse_rate_number(const char *text, char **end, uint32_t *number)
{
    uintmax_t value = isdigit((unsigned char)text[0]) ? strtoumax(text, end, 10) : 0;
    *number = (uint32_t)value;
    return value != 0 && value <= CONFIG_RATE_MAX;
}

/* none, 100/s or 100/s,burst=500. */
static int parse_rate(const char *text, struct config_rate *rate)
{
    static const char burst[] = ",burst=";
    struct config_rate parsed = {0};
    char *rest;

    if (strcmp(text, "none") == 0) {
        *rate = parsed;
        return 0;
    }
    if (!parse_rate_number(text, &rest, &parsed.n))
        return -EINVAL;
    parsed.burst = parsed.n;
    size_t length = strcspn(rest, ",");
    for (const struct unit *unit = rate_units; unit->suffix != NULL; unit++)
        if (strlen(unit->suffix) == length && memcmp(unit->suffix, rest, length) == 0)
            parsed.per_ms = (uint32_t)unit->factor;
    if (parsed.per_ms == 0)
        return -EINVAL;
    rest += length;
    if (rest[0] != '\0' &&
        (strncmp(rest, burst, sizeof(burst) - 1) != 0 ||
         !parse_rate_number(rest + sizeof(burst) - 1, &rest, &parsed.burst) || rest[0] != '\0'))
        return -EINVAL;
    *rate = parsed;
    return 0;
}

static void write_rate(const struct config_rate *rate, char *out, size_t size)
{
    const struct unit *unit = rate_units;
    char burst[CONFIG_NAME_SIZE] = "";

    if (rate->n == 0) {
        snprintf(out, size, "none");
        return;
    }
    while (unit->factor != rate->per_ms)
        unit++;
    if (rate->burst != rate->n)
        snprintf(burst, sizeof(burst), ",burst=%" PRIu32, rate->burst);
    snprintf(out, size, "%" PRIu32 "%s%s", rate->n, unit->suffix, burst);
}

int config_parse_duration(const char *text, uint64_t *value_ms)
{
    return parse_number(text, duration_units, value_ms);
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

char *config_copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(mem_alloc(size), text, size);
}

void config_clear_list(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct config_list){0};
}

void *config_place_of(struct config *config, const struct config_option *option)
{
    return (char *)config + option->offset;
}

static int store_text(void *place, const struct config_option *option, const char *text)
{
    size_t length = strlen(text);
    bool none = length == 0 && option->kind == CONFIG_STRING && option->initial[0] == '\0';

    if (!none && (length == 0 || length > CONFIG_STRING_MAX ||
                  (option->check != NULL && !option->check(text))))
        return -EINVAL;
    if (option->kind == CONFIG_STRING) {
        free(*(char **)place);
        *(char **)place = config_copy_text(text);
        return 0;
    }
    struct config_list *list = place;
    if (list->count == option->max)
        return -E2BIG;
    list->items = mem_realloc(list->items, (list->count + 1) * sizeof(char *));
    list->items[list->count++] = config_copy_text(text);
    return 0;
}

/* Checks one value and sets it, or adds it to the list. -EINVAL: not allowed; -E2BIG: list full. */
int config_store_value(struct config *config, const struct config_option *option, const char *text)
{
    void *place = config_place_of(config, option);
    uint64_t number;
    int chosen;

    switch (option->kind) {
    case CONFIG_STRING:
    case CONFIG_LIST:
        return store_text(place, option, text);
    case CONFIG_RATE:
        return parse_rate(text, place);
    case CONFIG_ENUM:
    case CONFIG_FLAG:
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

const char *config_listen_passed(const char *text)
{
    if (config_listen_is_tls(text))
        text += strlen("tls:");
    return strncmp(text, "fd:", 3) == 0 ? text + 3 : NULL;
}

/* A name that a service manager can give a socket. */
static int check_passed(const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < length; i++)
        if (!isgraph((unsigned char)name[i]) || name[i] == ':')
            return -EINVAL;
    return length != 0 && length <= UINT8_MAX ? 0 : -EINVAL;
}

int config_parse_listen(const char *text, struct sockaddr_storage *address, socklen_t *size_bytes)
{
    struct sockaddr_un *local = (struct sockaddr_un *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    char host[INET6_ADDRSTRLEN + 2];
    const char *passed;
    uint64_t port;

    *size_bytes = 0;
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
    if ((passed = config_listen_passed(text)) != NULL)
        return check_passed(passed);
    if (config_listen_is_tls(text))
        text += strlen("tls:");
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

static bool check_wake_target(const char *text)
{
    struct courier_rule rule;
    return courier_rule_parse(text, &rule);
}

static bool check_node_tag(const char *text)
{
    return newid_tag_valid((struct str){text, strlen(text)});
}

void config_write_number(uint64_t value, enum config_kind kind, char *out, size_t size)
{
    write_number(value, units_of(kind), out, size);
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
    char low[CONFIG_NAME_SIZE];
    char high[CONFIG_NAME_SIZE];

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
        write_range(option, "duration", " (with ms, s, min, h, d)", out, size);
        break;
    case CONFIG_ENUM:
    case CONFIG_FLAG:
        write_choices(option->allowed, out, size);
        break;
    case CONFIG_RATE:
        snprintf(out, size,
                 "none, or N/s, N/min or N/h, where wished with ,burst=M for how many may come at "
                 "once (else N); N and M are whole numbers from 1 to %d",
                 CONFIG_RATE_MAX);
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
    case CONFIG_RATE:
        write_rate(place, out, size);
        break;
    case CONFIG_ENUM:
    case CONFIG_FLAG:
        for (unsigned i = *(const unsigned *)place; i > 0; i--)
            choice = strchr(choice, '|') + 1;
        snprintf(out, size, "%.*s", (int)strcspn(choice, "|"), choice);
        break;
    default:
        write_number(*(const uint64_t *)place, units_of(option->kind), out, size);
    }
}
