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

/* The oldest version of TLS that is spoken. */
enum config_tls { CONFIG_TLS_1_2, CONFIG_TLS_1_3 };

/* What stands behind the shards' `io`; `auto` is io_uring where the kernel lets us have it. */
enum config_io { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_POSIX };

/* The values of a repeatable option, in the order given; owned by the struct config. */
struct config_list {
    char **items;
    size_t count;
};

/* So many in so much time, and so many at once; n == 0: no limit. */
struct config_rate {
    uint32_t n;
    uint32_t per_ms; /* a second, a minute or an hour */
    uint32_t burst;
};

enum { CONFIG_RATE_MAX = 1000000 /* of n, and of burst */ };

/* All options, checked. Strings and lists belong to the struct; strings are never NULL. */
struct config {
    char *config; /* path of the YAML file, "" if none was read */
    struct config_list listen;
    char *data;
    char *node_tag;  /* "": alone */
    uint64_t shards; /* 1 to CONFIG_SHARDS_MAX: "one per core" is already worked out */
    enum config_durability durability;
    enum config_io io;
    uint64_t drain_delay_ms;
    uint64_t grace_ms;
    struct config_list allowed_hosts;
    struct config_list allowed_origins;
    struct config_list allow_wake_to;
    struct config_list auth_keys; /* PATH[#alg=NAME][#kid=NAME]; none: the server is open */
    char *auth_issuer;            /* "": any, or none */
    char *auth_audience;          /* the same */
    unsigned insecure_no_auth;
    struct config_rate rate_token;
    struct config_rate rate_address;
    struct config_rate rate_session;
    unsigned log_level;           /* enum logger_level */
    char *audit_log;              /* path, "": among the other lines */
    struct config_list tls_certs; /* PEM files: a certificate with those that it hangs on */
    struct config_list tls_keys;  /* its key, in the same order */
    enum config_tls tls_min;
    unsigned http2;
    uint64_t heartbeat_ms;
    uint64_t write_timeout_ms;
    uint64_t header_timeout_ms;
    uint64_t body_timeout_ms;
    uint64_t idle_timeout_ms;
    uint64_t max_header_bytes;
    uint64_t max_connections_per_address; /* 0: no bound */
    uint64_t segment_size_bytes;
    uint64_t checkpoint_bytes;
    uint64_t idle_passivate_ms;
    uint64_t memory_bytes;       /* not 0: "half of what there is" is already worked out */
    uint64_t memory_limit_bytes; /* not 0: the same of "what there is" */
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
    uint64_t max_session_events; /* 0: no bound; so the next */
    uint64_t max_session_bytes;
    uint64_t max_session_watchers; /* on one reactor */
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
    CONFIG_RATE,     /* struct config_rate; none, 100/s, 600/min or 100/s,burst=500 */
    CONFIG_FLAG,     /* unsigned, 0 or 1; the flag alone means yes, else written yes or no */
};

/* One row of the table. */
struct config_option {
    const char *name; /* as in --name; '-' between words */
    enum config_kind kind;
    bool not_in_file;    /* cannot stand in the YAML file */
    bool live;           /* may change while the server runs: live.h */
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

/* Fills `copy` with the same options; config_free releases it, too. */
void config_copy(struct config *copy, const struct config *config);
/* Whether the option has the same value in both. */
bool config_equal(const struct config *a, const struct config *b,
                  const struct config_option *option);
/* Where `next` has another value than `running` for an option that cannot change while the server
 * runs, `next` gets that of `running`. True: it had another. */
bool config_keep(struct config *next, const struct config *running,
                 const struct config_option *option);

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
 * "localhost:8080" (127.0.0.1), each also behind "tls:", "unix:/path" or "fd:NAME". Returns 0 or
 * -EINVAL. Any thread.
 */
int config_parse_listen(const char *text, struct sockaddr_storage *address, socklen_t *size_bytes);

/* Whether TLS is to be spoken there. */
bool config_listen_is_tls(const char *text);
/* The name of the socket that is to be used, of those that were passed to this process; NULL: it is
 * to be made. config_parse_listen gives AF_UNSPEC for such. */
const char *config_listen_passed(const char *text);

#endif
