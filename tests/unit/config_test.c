/*
 * config: the four sources and their order, each kind's limits, and the exact sentences for what
 * is wrong, since operators read those and nothing else.
 *
 * The build defines ATOLL_SOURCE_DIR (the top of the source tree) for deploy/atoll.yaml.
 */
#include "server/cli.h"
#include "server/config.h"
#include "server/memory.h"
#include "server/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE_WORDS " (bytes, or with KiB, MiB, GiB, kB, MB, GB)"
#define LISTEN_WORDS                                                                               \
    "ADDR:PORT (an IPv4 address, an IPv6 address in brackets, or localhost), tls:ADDR:PORT, "      \
    "unix:PATH or fd:NAME"

static char directory[64];
static char file[128];
static struct config loaded;
static char error[CONFIG_ERROR_SIZE];
static uint64_t served_shards;

/* Stands in for the server; the shards tell that the configuration arrived. */
int serve_run(const struct config *config, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    served_shards = config->shards;
    return 7;
}

static int make_directory(void **state)
{
    char name[64];

    (void)state;
    for (size_t i = 0; i < config_option_count; i++) {
        config_write_env_name(&config_options[i], name, sizeof(name));
        unsetenv(name);
    }
    snprintf(directory, sizeof(directory), "/tmp/atoll-config-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(file, sizeof(file), "%s/a.yaml", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    config_free(&loaded);
    unlink(file);
    return rmdir(directory);
}

static void write_file(const char *text)
{
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* Loads from the given flags, NULL behind the last. */
static int load(const char *first, ...)
{
    char *argv[80];
    int argc = 0;
    va_list rest;

    config_free(&loaded);
    error[0] = '\0';
    va_start(rest, first);
    for (const char *flag = first; flag != NULL; flag = va_arg(rest, const char *))
        argv[argc++] = (char *)(uintptr_t)flag;
    va_end(rest);
    return config_load(&loaded, argc, argv, error, sizeof(error));
}

static int load_text(const char *text)
{
    config_free(&loaded);
    error[0] = '\0';
    write_file(text);
    return config_load_file(&loaded, file, error, sizeof(error));
}

#define assert_loads(...)                                                                          \
    do {                                                                                           \
        if (load(__VA_ARGS__) != 0)                                                                \
            fail_msg("%s", error);                                                                 \
    } while (0)

#define assert_refused(expected, ...)                                                              \
    do {                                                                                           \
        assert_true(load(__VA_ARGS__) < 0);                                                        \
        assert_string_equal(error, expected);                                                      \
    } while (0)

/* `expected` is what stands behind the file's path. */
static void assert_text_refused(const char *text, const char *expected)
{
    assert_true(load_text(text) < 0);
    assert_memory_equal(error, file, strlen(file));
    assert_string_equal(error + strlen(file), expected);
}

static void assert_list(const struct config_list *list, const char *joined)
{
    char text[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < list->count; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i == 0 ? "" : " ",
                                 list->items[i]);
    assert_string_equal(text, joined);
}

static void defaults_are_the_documented_ones(void **state)
{
    (void)state;
    config_defaults(&loaded);
    assert_string_equal(loaded.config, "");
    assert_list(&loaded.listen, "127.0.0.1:8080");
    assert_string_equal(loaded.data, "./atoll-data");
    assert_in_range(loaded.shards, 1, CONFIG_SHARDS_MAX);
    assert_int_equal(loaded.durability, CONFIG_DURABILITY_COMMIT);
    assert_int_equal(loaded.io, CONFIG_IO_AUTO);
    assert_int_equal(loaded.grace_ms, 10000);
    assert_list(&loaded.allowed_hosts, "");
    assert_list(&loaded.allowed_origins, "");
    assert_int_equal(loaded.heartbeat_ms, 15000);
    assert_int_equal(loaded.write_timeout_ms, 60000);
    assert_int_equal(loaded.segment_size_bytes, 64 << 20);
    assert_int_equal(loaded.checkpoint_bytes, 128 << 20);
    assert_int_equal(loaded.idle_passivate_ms, 600000);
    assert_int_equal(loaded.memory_bytes, memory_available_bytes() / 2);
    assert_int_equal(loaded.memory_limit_bytes, memory_available_bytes());
    assert_int_equal(loaded.rate_session.n, 0);
    assert_int_equal(loaded.max_session_events, 0);
    assert_int_equal(loaded.max_session_bytes, 0);
    assert_int_equal(loaded.max_session_watchers, 0);
    assert_int_equal(loaded.retain_age_ms, 0);
    assert_int_equal(loaded.retain_bytes, 0);
    assert_int_equal(loaded.compact_after_ms, 600000);
    assert_int_equal(loaded.compact_rate_bytes, 128 << 20);
    assert_int_equal(loaded.max_body_bytes, 1 << 20);
    assert_int_equal(loaded.max_batch_commands, 10000);
    assert_int_equal(loaded.max_batch_bytes, 16 << 20);
    assert_int_equal(loaded.max_content_bytes, 256 << 10);
    assert_int_equal(loaded.max_data_bytes, 64 << 10);
    assert_int_equal(loaded.max_text_bytes, 1 << 10);
    assert_int_equal(loaded.max_labels, 64);
    assert_int_equal(loaded.max_label_bytes, 256);
    assert_int_equal(loaded.max_agents, 1000);
    assert_int_equal(loaded.max_threads, 10000);
    assert_int_equal(loaded.max_participants, 1000);
    assert_int_equal(loaded.page_limit, 100);
    assert_int_equal(loaded.page_limit_max, 1000);
    assert_int_equal(loaded.window_messages, 100);
    assert_int_equal(loaded.window_bytes, 1 << 20);
    assert_int_equal(loaded.max_connections, 50000);
}

static void flag_goes_before_environment_before_file_before_default(void **state)
{
    (void)state;
    write_file("max_agents: 2\nmax_threads: 2\nmax_labels: 2\n");
    setenv("ATOLL_MAX_THREADS", "3", 1);
    setenv("ATOLL_MAX_LABELS", "3", 1);
    assert_loads("--config", file, "--max-labels", "4", NULL);
    assert_int_equal(loaded.max_agents, 2);
    assert_int_equal(loaded.max_threads, 3);
    assert_int_equal(loaded.max_labels, 4);
    assert_int_equal(loaded.max_participants, 1000);
    assert_string_equal(loaded.config, file);
}

static void environment_may_name_the_file(void **state)
{
    (void)state;
    write_file("max_agents: 2\n");
    setenv("ATOLL_CONFIG", file, 1);
    assert_loads(NULL);
    assert_int_equal(loaded.max_agents, 2);
    setenv("ATOLL_CONFIG", "/nonexistent/a.yaml", 1);
    assert_loads("--config", file, NULL);
    assert_refused("/nonexistent/a.yaml: cannot be opened: No such file or directory", NULL);
}

static void list_of_a_source_replaces_that_of_the_next(void **state)
{
    (void)state;
    write_file("listen:\n  - 127.0.0.1:1\n  - unix:/run/a\nallowed_host: [a.example, b.example]\n");
    assert_loads("--config", file, NULL);
    assert_list(&loaded.listen, "127.0.0.1:1 unix:/run/a");
    assert_list(&loaded.allowed_hosts, "a.example b.example");
    assert_loads("--allow-wake-to", "localhost:9000", "--allow-wake-to", "[fd00::/8]:80", NULL);
    assert_list(&loaded.allow_wake_to, "localhost:9000 [fd00::/8]:80");
    setenv("ATOLL_LISTEN", "[::1]:2,localhost:3", 1);
    assert_loads("--config", file, NULL);
    assert_list(&loaded.listen, "[::1]:2 localhost:3");
    assert_loads("--config", file, "--listen", "0.0.0.0:0", "--listen=[::]:65535", NULL);
    assert_list(&loaded.listen, "0.0.0.0:0 [::]:65535");
    unsetenv("ATOLL_LISTEN");
    write_file("shards: 1\n");
    assert_loads("--config", file, "--listen", "0.0.0.0:0", NULL);
    assert_list(&loaded.listen, "0.0.0.0:0");
}

static void last_flag_wins_and_both_forms_work(void **state)
{
    (void)state;
    assert_loads("--shards=2", "--shards", "3", "--data=a=b", NULL);
    assert_int_equal(loaded.shards, 3);
    assert_string_equal(loaded.data, "a=b");
}

static void empty_environment_variable_counts_as_not_set(void **state)
{
    (void)state;
    setenv("ATOLL_LISTEN", "", 1);
    setenv("ATOLL_SHARDS", "", 1);
    setenv("ATOLL_PORT_8080_TCP", "tcp://10.0.0.1:8080", 1);
    assert_loads(NULL);
    assert_list(&loaded.listen, "127.0.0.1:8080");
    unsetenv("ATOLL_PORT_8080_TCP");
}

static void units_multiply(void **state)
{
    (void)state;
    assert_loads("--max-body=1048576", "--max-content=2kB", "--max-data=3KiB",
                 "--max-batch-bytes=4MB", "--segment-size=1GiB", "--window-bytes=5MiB", NULL);
    assert_int_equal(loaded.max_body_bytes, 1048576);
    assert_int_equal(loaded.max_content_bytes, 2000);
    assert_int_equal(loaded.max_data_bytes, 3072);
    assert_int_equal(loaded.max_batch_bytes, 4000000);
    assert_int_equal(loaded.segment_size_bytes, 1 << 30);
    assert_int_equal(loaded.window_bytes, 5 << 20);
    assert_loads("--segment-size=1GB", "--grace=1h", "--heartbeat=100ms", "--write-timeout=2min",
                 NULL);
    assert_int_equal(loaded.segment_size_bytes, 1000000000);
    assert_int_equal(loaded.grace_ms, 3600000);
    assert_int_equal(loaded.heartbeat_ms, 100);
    assert_int_equal(loaded.write_timeout_ms, 120000);
    assert_loads("--retain-age=30d", "--memory=3GiB", "--retain-bytes=2GB", NULL);
    assert_int_equal(loaded.retain_age_ms, INT64_C(30) * 24 * 3600 * 1000);
    assert_int_equal(loaded.memory_bytes, INT64_C(3) << 30);
    assert_int_equal(loaded.retain_bytes, 2000000000);
}

static void history_options_come_from_every_source(void **state)
{
    (void)state;
    write_file("idle_passivate: 1min\nmemory: 1GiB\ncompact_after: 0ms\n");
    setenv("ATOLL_COMPACT_RATE", "1MiB", 1);
    setenv("ATOLL_RETAIN_AGE", "7d", 1);
    assert_loads("--config", file, "--checkpoint-bytes", "2MiB", "--memory", "2GiB", NULL);
    unsetenv("ATOLL_COMPACT_RATE");
    unsetenv("ATOLL_RETAIN_AGE");
    assert_int_equal(loaded.idle_passivate_ms, 60000);
    assert_int_equal(loaded.memory_bytes, INT64_C(2) << 30);
    assert_int_equal(loaded.compact_after_ms, 0);
    assert_int_equal(loaded.compact_rate_bytes, 1 << 20);
    assert_int_equal(loaded.retain_age_ms, 7 * 24 * 3600 * 1000);
    assert_int_equal(loaded.checkpoint_bytes, 2 << 20);
}

static void budgets_come_from_every_source(void **state)
{
    (void)state;
    write_file("rate_session: 100/s,burst=500\nmax_session_events: 7\nmax_session_watchers: 3\n");
    setenv("ATOLL_MEMORY_LIMIT", "3GiB", 1);
    assert_loads("--config", file, "--max-session-bytes", "2MiB", NULL);
    unsetenv("ATOLL_MEMORY_LIMIT");
    assert_int_equal(loaded.rate_session.n, 100);
    assert_int_equal(loaded.rate_session.per_ms, 1000);
    assert_int_equal(loaded.rate_session.burst, 500);
    assert_int_equal(loaded.max_session_events, 7);
    assert_int_equal(loaded.max_session_watchers, 3);
    assert_int_equal(loaded.max_session_bytes, 2 << 20);
    assert_int_equal(loaded.memory_limit_bytes, INT64_C(3) << 30);
    assert_int_equal(loaded.memory_bytes, INT64_C(3) << 29); /* half of it */
}

static void write_limit(const char *group, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s%s", directory, group);
    assert_true(group[0] == '\0' || mkdir(path, 0700) == 0);
    snprintf(path, sizeof(path), "%s%s/memory.max", directory, group);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static void remove_limit(const char *group)
{
    char path[128];
    snprintf(path, sizeof(path), "%s%s/memory.max", directory, group);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof(path), "%s%s", directory, group);
    assert_true(group[0] == '\0' || rmdir(path) == 0);
}

static void memory_is_what_the_tightest_group_allows(void **state)
{
    (void)state;
    assert_true(memory_group_bytes(directory, "/", "memory.max") == UINT64_MAX);
    write_limit("", "9000\n");
    write_limit("/a", "4000\n");
    write_limit("/a/b", "max\n");
    assert_int_equal(memory_group_bytes(directory, "/", "memory.max"), 9000);
    assert_int_equal(memory_group_bytes(directory, "/a", "memory.max"), 4000);
    assert_int_equal(memory_group_bytes(directory, "/a/b", "memory.max"), 4000);
    assert_int_equal(memory_group_bytes(directory, "/elsewhere", "memory.max"), 9000);
    remove_limit("/a/b");
    remove_limit("/a");
    remove_limit("");
}

static void enums_take_each_of_their_values(void **state)
{
    (void)state;
    assert_loads("--durability=relaxed", "--io=uring", NULL);
    assert_int_equal(loaded.durability, CONFIG_DURABILITY_RELAXED);
    assert_int_equal(loaded.io, CONFIG_IO_URING);
    assert_loads("--durability=commit", "--io=posix", NULL);
    assert_int_equal(loaded.durability, CONFIG_DURABILITY_COMMIT);
    assert_int_equal(loaded.io, CONFIG_IO_POSIX);
}

static void bad_values_are_named_with_what_is_allowed(void **state)
{
    static const char *const counts[] = {
        "", "65", "-1", "+1", " 1", "1.5", "2x", "0x2", "18446744073709551617"};
    char flag[64];
    char expected[256];

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        snprintf(flag, sizeof(flag), "--shards=%s", counts[i]);
        snprintf(expected, sizeof(expected),
                 "--shards: \"%s\" is not allowed; must be a whole number from 0 to 64", counts[i]);
        assert_refused(expected, flag, NULL);
    }
    assert_refused(
        "--max-body: \"1M\" is not allowed; must be a size from 1KiB to 64MiB" SIZE_WORDS,
        "--max-body", "1M", NULL);
    assert_refused("--max-body: \"99999999999GiB\" is not allowed; must be a size from 1KiB to "
                   "64MiB" SIZE_WORDS,
                   "--max-body", "99999999999GiB", NULL);
    assert_refused("--heartbeat: \"99ms\" is not allowed; must be a duration from 100ms to 1h "
                   "(with ms, s, min, h, d)",
                   "--heartbeat", "99ms", NULL);
    assert_refused("--grace: \"10\" is not allowed; must be a duration from 0ms to 1h "
                   "(with ms, s, min, h, d)",
                   "--grace", "10", NULL);
    assert_refused("--retain-age: \"10m\" is not allowed; must be a duration from 0ms to 36500d "
                   "(with ms, s, min, h, d)",
                   "--retain-age", "10m", NULL);
    assert_refused("--checkpoint-bytes: \"1023KiB\" is not allowed; must be a size from 1MiB to "
                   "64GiB" SIZE_WORDS,
                   "--checkpoint-bytes", "1023KiB", NULL);
    assert_refused(
        "--memory: \"half\" is not allowed; must be a size from 0 to 65536GiB" SIZE_WORDS,
        "--memory", "half", NULL);
    assert_refused("--durability: \"commi\" is not allowed; must be commit or relaxed",
                   "--durability", "commi", NULL);
    assert_refused("--io: \"auto|uring\" is not allowed; must be auto or uring or posix",
                   "--io=auto|uring", NULL);
    assert_refused("--data: \"\" is not allowed; must be a path", "--data=", NULL);
    assert_refused("--allowed-host: \"http://a\" is not allowed; must be a host name or address, "
                   "with or without port",
                   "--allowed-host", "http://a", NULL);
    assert_refused("--allow-wake-to: \"10.0.0.0/33\" is not allowed; must be a host name, an "
                   "address or a range such as 10.0.0.0/8, with or without :PORT",
                   "--allow-wake-to", "10.0.0.0/33", NULL);
    assert_refused("--allowed-origin: \"https://a/\" is not allowed; must be an origin such as "
                   "https://example.org",
                   "--allowed-origin", "https://a/", NULL);
}

static void bad_addresses_are_refused(void **state)
{
    static const char *const addresses[] = {
        "8080",          ":8080",   "127.0.0.1", "127.0.0.1:",  "127.0.0.1:65536", "127.0.0.1:-1",
        "example.org:1", "::1:80",  "[::1]",     "[::1:80",     "[127.0.0.1]:80",  "[]:80",
        "unix:",         "1.2.3:4", "[:1]:1",    "http://a:80",
    };
    char expected[256];

    (void)state;
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        snprintf(expected, sizeof(expected),
                 "--listen: \"%s\" is not allowed; must be " LISTEN_WORDS, addresses[i]);
        assert_refused(expected, "--listen", addresses[i], NULL);
    }
}

static void addresses_become_what_bind_takes(void **state)
{
    struct sockaddr_storage address;
    socklen_t size_bytes;
    char path[128] = "unix:/";

    (void)state;
    assert_int_equal(config_parse_listen("localhost:80", &address, &size_bytes), 0);
    assert_int_equal(size_bytes, sizeof(struct sockaddr_in));
    assert_int_equal(((struct sockaddr_in *)&address)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(((struct sockaddr_in *)&address)->sin_port, htons(80));
    assert_int_equal(config_parse_listen("[::1]:0", &address, &size_bytes), 0);
    assert_int_equal(size_bytes, sizeof(struct sockaddr_in6));
    assert_int_equal(address.ss_family, AF_INET6);
    memset(path + 6, 'a', 106); /* with its '/' the 107 bytes that fit */
    assert_int_equal(config_parse_listen(path, &address, &size_bytes), 0);
    assert_string_equal(((struct sockaddr_un *)&address)->sun_path, path + 5);
    path[112] = 'a';
    assert_true(config_parse_listen(path, &address, &size_bytes) < 0);
}

static void passed_sockets_are_named(void **state)
{
    struct sockaddr_storage address;
    socklen_t size = 1;

    (void)state;
    assert_int_equal(config_parse_listen("fd:atoll.socket", &address, &size), 0);
    assert_int_equal(address.ss_family, AF_UNSPEC);
    assert_int_equal(size, 0);
    assert_string_equal(config_listen_passed("fd:atoll.socket"), "atoll.socket");
    assert_string_equal(config_listen_passed("tls:fd:https"), "https");
    assert_true(config_listen_is_tls("tls:fd:https"));
    assert_null(config_listen_passed("127.0.0.1:80"));
    assert_int_equal(config_parse_listen("fd:", &address, &size), -EINVAL);
    assert_int_equal(config_parse_listen("fd:a b", &address, &size), -EINVAL);
    assert_int_equal(config_parse_listen("fd:a:b", &address, &size), -EINVAL);
}

static void rates_are_so_many_in_a_time_and_at_once(void **state)
{
    static const struct {
        const char *text;
        struct config_rate rate;
        const char *written;
    } rows[] = {
        {"none", {0}, "none"},
        {"100/s", {100, 1000, 100}, "100/s"},
        {"600/min", {600, 60000, 600}, "600/min"},
        {"1/h", {1, 3600000, 1}, "1/h"},
        {"100/s,burst=500", {100, 1000, 500}, "100/s,burst=500"},
        {"1000000/s,burst=1", {1000000, 1000, 1}, "1000000/s,burst=1"},
        {"5/min,burst=5", {5, 60000, 5}, "5/min"},
    };
    static const char *const bad[] = {
        "",       "0/s",           "100",           "100/d",        "-1/s",
        "1.5/s",  "1000001/s",     "100/s,burst=0", "100/s,burst=", "100/s,burst=x",
        "100/s,", "100/s;burst=2", " 100/s",        "100/s ",       "none/s",
        "/s",     "100/sburst=2",
    };
    const struct config_option *option = config_options;
    char written[64];

    (void)state;
    while (strcmp(option->name, "rate-token") != 0)
        option++;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_loads("--rate-token", rows[i].text, NULL);
        assert_memory_equal(&loaded.rate_token, &rows[i].rate, sizeof(rows[i].rate));
        config_write_value(&loaded, option, written, sizeof(written));
        assert_string_equal(written, rows[i].written);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_true(load("--rate-token", bad[i], NULL) < 0);
    assert_refused(
        "--rate-token: \"fast\" is not allowed; must be none, or N/s, N/min or N/h, where "
        "wished with ,burst=M for how many may come at once (else N); N and M are whole "
        "numbers from 1 to 1000000",
        "--rate-token", "fast", NULL);
    setenv("ATOLL_RATE_TOKEN", "7/s,burst=9", 1);
    assert_loads(NULL);
    assert_int_equal(loaded.rate_token.burst, 9);
    unsetenv("ATOLL_RATE_TOKEN");
}

/* What a reload does: options that may change do, others keep what they had. */
static void copies_are_equal_and_what_cannot_change_is_kept(void **state)
{
    struct config next;
    unsigned kept = 0;

    (void)state;
    assert_loads("--listen", "127.0.0.1:1", "--allowed-host", "a.example", "--shards", "3",
                 "--data", "here", "--rate-address", "5/s", "--insecure-no-auth", NULL);
    config_copy(&next, &loaded);
    for (size_t i = 0; i < config_option_count; i++)
        assert_true(config_equal(&next, &loaded, &config_options[i]));
    config_free(&next);
    config_defaults(&next);
    for (size_t i = 0; i < config_option_count; i++)
        kept += config_keep(&next, &loaded, &config_options[i]);
    assert_int_equal(kept, 4);
    assert_list(&next.listen, "127.0.0.1:1");
    assert_string_equal(next.data, "here");
    assert_int_equal(next.shards, 3);
    assert_int_equal(next.insecure_no_auth, 1);
    assert_list(&next.allowed_hosts, "");
    assert_int_equal(next.rate_address.n, 0);
    config_free(&next);
}

static void long_values_are_shown_cut_and_without_control_characters(void **state)
{
    char flag[128] = "--io=\033\n";
    char expected[256];

    (void)state;
    memset(flag + 7, 'x', 100);
    snprintf(expected, sizeof(expected),
             "--io: \"??%.78s...\" is not allowed; must be auto or uring or posix", flag + 7);
    assert_refused(expected, flag, NULL);
}

static void list_has_an_end(void **state)
{
    char text[2 * CONFIG_LIST_MAX + 2];

    (void)state;
    for (size_t i = 0; i <= CONFIG_LIST_MAX; i++)
        memcpy(text + 2 * i, "a,", 2);
    text[2 * CONFIG_LIST_MAX - 1] = '\0';
    setenv("ATOLL_ALLOWED_HOST", text, 1);
    assert_loads(NULL);
    assert_int_equal(loaded.allowed_hosts.count, CONFIG_LIST_MAX);
    text[2 * CONFIG_LIST_MAX - 1] = ',';
    text[2 * CONFIG_LIST_MAX + 1] = '\0';
    setenv("ATOLL_ALLOWED_HOST", text, 1);
    assert_refused("ATOLL_ALLOWED_HOST: must be a list of 0 to 64 values", NULL);
    assert_text_refused("listen: []\n", ":1: listen: must be a list of 1 to 64 values");
}

static void bad_environment_is_named(void **state)
{
    (void)state;
    setenv("ATOLL_MAX_AGENTS", "0", 1);
    assert_refused(
        "ATOLL_MAX_AGENTS: \"0\" is not allowed; must be a whole number from 1 to 100000",
        "--max-agents", "5", NULL);
    unsetenv("ATOLL_MAX_AGENTS");
    setenv("ATOLL_LISTEN", "127.0.0.1:1,x", 1);
    assert_refused("ATOLL_LISTEN: \"x\" is not allowed; must be " LISTEN_WORDS, NULL);
}

static void unknown_flags_and_missing_values_are_errors(void **state)
{
    (void)state;
    assert_refused("unknown option --shard; did you mean --shards?", "--shard", "2", NULL);
    assert_refused("unknown option --max_body; did you mean --max-body?", "--max_body=1", NULL);
    assert_refused("unknown option --port; atoll help serve lists them", "--port", "80", NULL);
    assert_refused("unexpected argument \"8080\"", "8080", NULL);
    assert_refused("unexpected argument \"-s\"", "-s", NULL);
    assert_refused("--data: needs a value", "--data", NULL);
    assert_refused("--data: needs a value", "--data", "--shards", "2", NULL);
}

static void file_errors_name_line_key_and_value(void **state)
{
    (void)state;
    assert_text_refused("data: x\n\n# a comment\nmax-body: 2MiB\n",
                        ":4: unknown key \"max-body\"; did you mean \"max_body\"?");
    assert_text_refused("data: x\nhart_beat: 2s\n",
                        ":2: unknown key \"hart_beat\"; did you mean \"heartbeat\"?");
    assert_text_refused("it's: [1]\n",
                        ":1: unknown key \"it's\"; atoll help serve lists the known ones");
    assert_text_refused("config: other.yaml\n",
                        ":1: unknown key \"config\"; atoll help serve lists the known ones");
    assert_text_refused("data: x\n\nio: fast\nshards: 1\n",
                        ":3: io: \"fast\" is not allowed; must be auto or uring or posix");
    assert_text_refused("{io: auto,\n  shards: 65}\n",
                        ":2: shards: \"65\" is not allowed; must be a whole number from 0 to 64");
    assert_text_refused("data: x\nallowed_host: [a, 'b c']\n",
                        ":2: allowed_host: \"b c\" is not allowed; must be a host name or address, "
                        "with or without port");
    assert_text_refused("data:\n", ":1: data: \"\" is not allowed; must be a path");
}

static void file_of_another_shape_is_an_error(void **state)
{
    (void)state;
    assert_text_refused("\nlisten: 127.0.0.1:1\n", ":2: listen: must be a list of 1 to 64 values");
    assert_text_refused("listen: [[a]]\n", ":1: listen: must be a list of 1 to 64 values");
    assert_text_refused("io: {a: b}\n", ":1: io: must be one value");
    assert_text_refused("io: auto\nio: auto\n", ": io: given more than once");
    assert_text_refused("- io\n", ": must be a mapping of options to values");
    assert_text_refused("? [a]\n: b\n", ": must be a mapping of options to values");
    assert_text_refused("io: auto\n---\nio: auto\n", ": must be a single YAML document");
    assert_text_refused("io: auto\n\tx: 1\n",
                        ": near line 1: found a tab character that violates indentation");
    assert_int_equal(load_text(""), 0);
    assert_int_equal(load_text("# nothing set\n"), 0);
}

static void options_are_checked_against_each_other(void **state)
{
    (void)state;
    assert_loads("--segment-size=33MiB", NULL);
    assert_refused("segment_size: 32MiB is not allowed; must be at least 2 x max_batch_bytes + "
                   "1MiB, here 33MiB",
                   "--segment-size=32MiB", NULL);
    assert_refused("max_body: 2MiB is not allowed; must be at most max_batch_bytes, here 1MiB",
                   "--max-body=2MiB", "--max-batch-bytes=1MiB", NULL);
    assert_refused("page_limit: 20 is not allowed; must be at most page_limit_max, here 10",
                   "--page-limit=20", "--page-limit-max=10", NULL);
}

static void errors_are_cut_to_the_buffer(void **state)
{
    char small[8];
    char *argv[] = {"--shards=65"};

    (void)state;
    assert_true(config_load(&loaded, 1, argv, small, sizeof(small)) < 0);
    assert_string_equal(small, "--shard");
}

static void values_are_written_as_they_are_read(void **state)
{
    char text[256];

    (void)state;
    for (size_t i = 1; i < config_option_count; i++) {
        struct config again;
        char flag[512];
        char *argv[] = {flag};
        config_free(&loaded);
        config_defaults(&loaded);
        config_write_value(&loaded, &config_options[i], text, sizeof(text));
        if (text[0] == '\0')
            continue;
        snprintf(flag, sizeof(flag), "--%s=%s", config_options[i].name, text);
        assert_int_equal(config_load(&again, 1, argv, error, sizeof(error)), 0);
        config_write_value(&again, &config_options[i], flag, sizeof(flag));
        assert_string_equal(flag, text);
        config_free(&again);
    }
}

static void shipped_file_has_every_option_at_its_default(void **state)
{
    static const char path[] = ATOLL_SOURCE_DIR "/deploy/atoll.yaml";
    struct config shipped;
    char text[16384] = "\n";
    char key[64];
    char line[80];
    char value[256];
    char initial[256];

    (void)state;
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    assert_in_range(fread(text + 1, 1, sizeof(text) - 2, in), 1, sizeof(text) - 3);
    fclose(in);
    if (config_load_file(&shipped, path, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    config_defaults(&loaded);
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].not_in_file)
            continue;
        config_write_key(&config_options[i], key, sizeof(key));
        snprintf(line, sizeof(line), "\n%s:", key);
        if (strstr(text, line) == NULL)
            fail_msg("deploy/atoll.yaml has no %s", key);
        config_write_value(&shipped, &config_options[i], value, sizeof(value));
        config_write_value(&loaded, &config_options[i], initial, sizeof(initial));
        assert_string_equal(value, initial);
    }
    config_free(&shipped);
}

/* Runs the command line, with what it prints on stdout and stderr in `output`. */
static int run(char *output, size_t size, char *first, char *second)
{
    char *argv[] = {"atoll", first, second, NULL};
    int saved[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    char path[sizeof(directory) + 8];

    snprintf(path, sizeof(path), "%s/out", directory);
    int out = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(out >= 0);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    int status = cli_run(1 + (first != NULL) + (second != NULL), argv);
    fflush(stdout);
    dup2(saved[0], STDOUT_FILENO);
    dup2(saved[1], STDERR_FILENO);
    ssize_t n = pread(out, output, size - 1, 0);
    output[n > 0 ? n : 0] = '\0';
    close(saved[0]);
    close(saved[1]);
    close(out);
    unlink(path);
    return status;
}

static void check_config_prints_what_is_in_force_or_the_error(void **state)
{
    static char output[8192];
    char expected[512];

    (void)state;
    write_file("shards: 2\n");
    assert_int_equal(run(output, sizeof(output), "check-config", file), 0);
    snprintf(expected, sizeof(expected), "\n%s: ok\n", file);
    assert_non_null(strstr(output, expected));
    assert_non_null(strstr(output, "\nshards: 2\n"));
    assert_non_null(strstr(output, "\nrate_token: none\n"));
    write_file("shards: two\n");
    assert_int_equal(run(output, sizeof(output), "check-config", file), 2);
    snprintf(expected, sizeof(expected),
             "atoll: %s:1: shards: \"two\" is not allowed; must be a whole number from 0 to 64\n",
             file);
    assert_string_equal(output, expected);
    write_file("listen: [\"0.0.0.0:8080\"]\n");
    assert_int_equal(run(output, sizeof(output), "check-config", file), 2);
    assert_non_null(strstr(output, "there is no --auth-key"));
    write_file("listen: [\"0.0.0.0:8080\"]\ninsecure_no_auth: yes\n");
    assert_int_equal(run(output, sizeof(output), "check-config", file), 0);
    write_file("auth_key: [/nowhere/atoll.key]\n");
    assert_int_equal(run(output, sizeof(output), "check-config", file), 2);
    assert_non_null(strstr(output, "/nowhere/atoll.key"));
    assert_int_equal(run(output, sizeof(output), "check-config", NULL), 2);
    assert_string_equal(output, "atoll: usage: atoll check-config FILE\n");
}

static void serve_gets_the_configuration_or_is_not_called(void **state)
{
    char output[512];

    (void)state;
    served_shards = 0;
    assert_int_equal(run(output, sizeof(output), "serve", "--shards=0x"), 2);
    assert_int_equal(served_shards, 0);
    assert_int_equal(run(output, sizeof(output), "serve", "--shards=5"), 7);
    assert_int_equal(served_shards, 5);
}

static void help_explains_every_option(void **state)
{
    static char output[32768];
    char text[300];

    (void)state;
    assert_int_equal(run(output, sizeof(output), "help", "serve"), 0);
    for (size_t i = 0; i < config_option_count; i++) {
        snprintf(text, sizeof(text), "\n  --%s ", config_options[i].name);
        assert_non_null(strstr(output, text));
        config_write_env_name(&config_options[i], text, sizeof(text));
        assert_non_null(strstr(output, text));
        config_write_allowed(&config_options[i], text, sizeof(text));
        assert_non_null(strstr(output, text));
        assert_non_null(strstr(output, config_options[i].initial));
    }
    assert_int_equal(run(output, sizeof(output), "serve", "-h"), 0);
    assert_non_null(strstr(output, "ATOLL_SHARDS"));
}

static void other_commands_answer(void **state)
{
    char output[2048];

    (void)state;
    assert_int_equal(run(output, sizeof(output), "version", NULL), 0);
    assert_memory_equal(output, "atoll " ATOLL_VERSION "\n", strlen("atoll " ATOLL_VERSION "\n"));
    assert_int_equal(run(output, sizeof(output), "--version", NULL), 0);
    assert_int_equal(run(output, sizeof(output), "--help", NULL), 0);
    assert_non_null(strstr(output, "check-config"));
    assert_int_equal(run(output, sizeof(output), "help", "nothing"), 2);
    assert_int_equal(run(output, sizeof(output), NULL, NULL), 2);
    assert_int_equal(run(output, sizeof(output), "sever", NULL), 2);
    assert_memory_equal(output, "atoll: unknown command \"sever\"\n", 31);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_the_documented_ones),
        TEST(flag_goes_before_environment_before_file_before_default),
        TEST(environment_may_name_the_file),
        TEST(list_of_a_source_replaces_that_of_the_next),
        TEST(last_flag_wins_and_both_forms_work),
        TEST(empty_environment_variable_counts_as_not_set),
        TEST(units_multiply),
        TEST(history_options_come_from_every_source),
        TEST(budgets_come_from_every_source),
        TEST(memory_is_what_the_tightest_group_allows),
        TEST(enums_take_each_of_their_values),
        TEST(bad_values_are_named_with_what_is_allowed),
        TEST(bad_addresses_are_refused),
        TEST(addresses_become_what_bind_takes),
        TEST(passed_sockets_are_named),
        TEST(rates_are_so_many_in_a_time_and_at_once),
        TEST(copies_are_equal_and_what_cannot_change_is_kept),
        TEST(long_values_are_shown_cut_and_without_control_characters),
        TEST(list_has_an_end),
        TEST(bad_environment_is_named),
        TEST(unknown_flags_and_missing_values_are_errors),
        TEST(file_errors_name_line_key_and_value),
        TEST(file_of_another_shape_is_an_error),
        TEST(options_are_checked_against_each_other),
        TEST(errors_are_cut_to_the_buffer),
        TEST(values_are_written_as_they_are_read),
        TEST(shipped_file_has_every_option_at_its_default),
        TEST(check_config_prints_what_is_in_force_or_the_error),
        TEST(serve_gets_the_configuration_or_is_not_called),
        TEST(help_explains_every_option),
        TEST(other_commands_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
