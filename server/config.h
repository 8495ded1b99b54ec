/*
 * config: every option of the server, from flags, environment, YAML file and defaults.
 *
 * One table, config_options, says all there is about an option: its name, kind, limits, default,
 * help and place in struct config. A new option is one member and one row; flag (--max-body),
 * environment name (ATOLL_MAX_BODY), file key (max_body), checks and help follow from the row.
 *
 * Normal path: config_load sets the defaults, reads the file named by --config or ATOLL_CONFIG,
 * then the environment, then the flags; each source replaces what the one before it set, lists
 * as a whole. At last it checks the options against each other.
 * Failure: the first thing wrong ends the load with one sentence that names where it stands, the
 * value and what is allowed; the struct is then empty and needs no config_free.
 *
 * Thread: loaded before the reactors start and only read after that, by any of them.
 */
#ifndef ATOLL_SERVER_CONFIG_H
#define ATOLL_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    CONFIG_LIST_MAX = 64,     /* values of one repeatable option; more is an error */
    CONFIG_STRING_MAX = 4095, /* bytes of one value; more is an error */
    CONFIG_SHARDS_MAX = 64,   /* shards; more cores than that leave the rest unused */
    CONFIG_ERROR_SIZE = 1024, /* a buffer of this size holds every error but for long paths */
};

/* When a command is answered; the order is that of the option's `allowed`. */
enum config_durability { CONFIG_DURABILITY_COMMIT, CONFIG_DURABILITY_RELAXED };

/* What stands behind the shards' `io`; `auto` is io_uring where the kernel lets us have it. */
enum config_io { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_POSIX };

/* The values of a repeatable option, in the order given; owned by the struct config. */
struct config_list {
    char **items;
    size_t count;
};

/* All options, checked. Strings and lists belong to the struct; strings are never NULL. */
struct config {
    char *config; /* path of the YAML file, "" if none was read */
    struct config_list listen;
    char *data;
    uint64_t shards; /* 1 to CONFIG_SHARDS_MAX: "one per core" is already worked out */
    enum config_durability durability;
    enum config_io io;
    uint64_t grace_ms;
    struct config_list allowed_hosts;
    struct config_list allowed_origins;
    struct config_list allow_wake_to;
    uint64_t heartbeat_ms;
    uint64_t write_timeout_ms;
    uint64_t segment_size_bytes;
    uint64_t checkpoint_bytes;
    uint64_t idle_passivate_ms;
    uint64_t memory_bytes; /* not 0: "half of what there is" is already worked out */
    uint64_t retain_age_ms;
    uint64_t retain_bytes;
    uint64_t compact_after_ms;
    uint64_t compact_rate_bytes; /* per second */
    uint64_t max_body_bytes;
    uint64_t max_batch_commands;
    uint64_t max_batch_bytes;
    uint64_t max_content_bytes;
    uint64_t max_data_bytes;
    uint64_t max_text_bytes;
    uint64_t max_labels;
    uint64_t max_label_bytes;
    uint64_t max_agents;
    uint64_t max_threads;
    uint64_t max_participants;
    uint64_t page_limit;
    uint64_t page_limit_max;
    uint64_t window_messages;
    uint64_t window_bytes;
    uint64_t max_connections;
};

enum config_kind {
    CONFIG_STRING,   /* char * */
    CONFIG_LIST,     /* struct config_list; flag repeatable, environment comma-separated */
    CONFIG_COUNT,    /* uint64_t */
    CONFIG_SIZE,     /* uint64_t, bytes; written 1048576, 1024KiB or 1MiB */
    CONFIG_DURATION, /* uint64_t, milliseconds; written 500ms, 10s, 2min, 1h or 30d */
    CONFIG_ENUM,     /* an enum: the value's place in `allowed` */
};

/* One row of the table. */
struct config_option {
    const char *name; /* as in --name; '-' between words */
    enum config_kind kind;
    bool not_in_file;    /* cannot stand in the YAML file */
    size_t offset;       /* in struct config */
    uint64_t min, max;   /* of the number; of a list, how many values */
    const char *allowed; /* string, list: in words; enum: the values, '|' between them */
    bool (*check)(const char *text); /* string, list: whether one value is allowed; else NULL */
    const char *initial;             /* the default as one would write it in the environment */
    const char *help;                /* one line, no full stop */
};

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* Fills `config` with the defaults; config_free releases it. Cannot fail. */
void config_defaults(struct config *config);

/*
 * Fills `config` from flags, environment, file and defaults. `argv` holds the `argc` options alone,
 * without program and command (`--flag value` and `--flag=value`). Empty environment variables
 * count as not set. Returns 0, and config_free releases `config`; or -EINVAL, with one sentence
 * without newline in `error` (cut to `error_size` bytes) and nothing to free.
 */
int config_load(struct config *config, int argc, char **argv, char *error, size_t error_size);

/* The same from the file at `path` and the defaults alone. */
int config_load_file(struct config *config, const char *path, char *error, size_t error_size);

/* Releases what `config` holds and empties it; an empty (zeroed) one is fine. */
void config_free(struct config *config);

/* Writes the option's environment name (ATOLL_MAX_BODY) or its file key (max_body) to `out`. */
void config_write_env_name(const struct config_option *option, char *out, size_t size);
void config_write_key(const struct config_option *option, char *out, size_t size);

/* Writes what the option allows in words: "a size from 1KiB to 64MiB (…)". */
void config_write_allowed(const struct config_option *option, char *out, size_t size);

/* Writes the option's value in `config` as text that the option would accept in the environment. */
void config_write_value(const struct config *config, const struct config_option *option, char *out,
                        size_t size);

/*
 * Turns a value of `listen` into the address to bind: "127.0.0.1:8080", "[::1]:8080",
 * "localhost:8080" (127.0.0.1) or "unix:/path". Returns 0 or -EINVAL. Any thread.
 */
int config_parse_listen(const char *text, struct sockaddr_storage *address, socklen_t *size_bytes);

#endif
