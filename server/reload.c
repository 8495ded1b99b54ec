#include "server/reload.h"

#include "server/auth/keys.h"
#include "server/logger.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { FILE_READ_BYTES = 4096 };

static void say(enum logger_level level, const char *event, const char *key, const char *text)
{
    struct logger_line line;

    logger_begin(&line, level, event);
    logger_add_text(&line, key, text);
    logger_end(&line);
}

/* ---- the files that settings are made of */

static void each_file(const struct config *config, void (*visit)(void *ctx, const char *path),
                      void *ctx)
{
    const struct config_list *keys = &config->auth_keys;
    const struct config_list *const others[] = {&config->tls_certs, &config->tls_keys};
    char path[CONFIG_STRING_MAX + 1];

    for (size_t i = 0; i < keys->count; i++) {
        snprintf(path, sizeof(path), "%.*s", (int)auth_key_path_bytes(keys->items[i]),
                 keys->items[i]);
        visit(ctx, path);
    }
    for (unsigned list = 0; list < 2; list++)
        for (size_t i = 0; i < others[list]->count; i++)
            visit(ctx, others[list]->items[i]);
}

static void add_to_print(void *ctx, const char *path)
{
    XXH3_state_t *state = ctx;
    char bytes[FILE_READ_BYTES];
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int missing = fd < 0 ? errno : 0;
    bool has_end =
        fd >= 0 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode); /* /dev/zero has none */
    ssize_t n;

    XXH3_64bits_update(state, &missing, sizeof(missing));
    while (has_end && (n = read(fd, bytes, sizeof(bytes))) > 0)
        XXH3_64bits_update(state, bytes, (size_t)n);
    if (fd >= 0)
        close(fd);
    explicit_bzero(bytes, sizeof(bytes));
}

/* A number that is another one when a file has other bytes, has gone, or has come. */
static uint64_t take_print(const struct config *config)
{
    XXH3_state_t state;

    XXH3_64bits_reset(&state);
    each_file(config, add_to_print, &state);
    uint64_t print = XXH3_64bits_digest(&state);
    explicit_bzero(&state, sizeof(state));
    return print;
}

/* ---- watching their directories */

static void watch_directory(struct reload *reload, const char *file)
{
    const uint32_t changes = IN_CLOSE_WRITE | IN_MOVE | IN_CREATE | IN_DELETE | IN_ATTRIB |
                             IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s", file) >= (int)sizeof(path))
        return;
    int watch = inotify_add_watch(reload->fd, dirname(path), changes);
    if (watch < 0) {
        say(LOGGER_WARN, "reload_unwatched", "file", file);
        return;
    }
    for (unsigned i = 0; i < reload->watches_n; i++)
        if (reload->watches[i] == watch)
            return;
    if (reload->watches_n < RELOAD_WATCHES_MAX)
        reload->watches[reload->watches_n++] = watch;
}

/* Where the file seems to be, and where it is. */
static void watch_file(void *ctx, const char *path)
{
    char target[PATH_MAX];

    watch_directory(ctx, path);
    if (realpath(path, target) != NULL)
        watch_directory(ctx, target);
}

static bool watches(const struct reload *reload, int watch)
{
    for (unsigned i = 0; i < reload->watches_n; i++)
        if (reload->watches[i] == watch)
            return true;
    return false;
}

static void watch_too(struct reload *reload, const struct config *config)
{
    if (reload->fd >= 0)
        each_file(config, watch_file, reload);
}

/* The directories of these options' files, and no others. One that was watched before keeps its
 * watch: no change goes unseen. */
static void watch_only(struct reload *reload, const struct config *config)
{
    int old[RELOAD_WATCHES_MAX];
    unsigned old_n = reload->watches_n;

    memcpy(old, reload->watches, old_n * sizeof(old[0]));
    reload->watches_n = 0;
    watch_too(reload, config);
    for (unsigned i = 0; i < old_n; i++)
        if (!watches(reload, old[i]))
            (void)inotify_rm_watch(reload->fd, old[i]); /* it may have gone with its directory */
}

void reload_open(struct reload *reload, const struct config *config)
{
    reload->watches_n = 0;
    reload->since_ms = 0;
    reload->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (reload->fd < 0)
        say(LOGGER_WARN, "reload_unwatched", "reason", strerror(errno));
    watch_too(reload, config);
    reload->print = take_print(config);
}

void reload_close(struct reload *reload)
{
    if (reload->fd >= 0)
        close(reload->fd);
    reload->fd = -1;
}

void reload_on_change(struct reload *reload, int64_t now_ms)
{
    _Alignas(struct inotify_event) char events[4096];
    bool any = false;

    while (read(reload->fd, events, sizeof(events)) > 0)
        any = true;
    if (!any)
        return;
    reload->last_ms = now_ms;
    if (reload->since_ms == 0)
        reload->since_ms = now_ms;
}

int reload_wait_ms(const struct reload *reload, int64_t now_ms)
{
    if (reload->since_ms == 0)
        return -1;
    int64_t quiet_ms = reload->last_ms + RELOAD_QUIET_MS;
    int64_t latest_ms = reload->since_ms + RELOAD_LATEST_MS;
    int64_t due_ms = quiet_ms < latest_ms ? quiet_ms : latest_ms;
    return due_ms > now_ms ? (int)(due_ms - now_ms) : 0;
}

/* ---- new settings */

/* Takes `config` over. */
static bool publish(struct reload *reload, const struct live *running, struct config *config,
                    const char *asked_by)
{
    char error[CONFIG_ERROR_SIZE];
    struct live *live;
    struct logger_line line;

    if (live_make(config, reload->passed, reload->passed_n, &live, error, sizeof(error)) != 0) {
        say(LOGGER_ERROR, "reload_failed", "reason", error);
        return false;
    }
    if ((live->keys == NULL) != (running->keys == NULL)) {
        say(LOGGER_ERROR, "reload_failed", "reason",
            "auth_key: that there are keys, or none, can only change by a restart");
        live_release(live);
        return false;
    }
    watch_only(reload, live->config);
    live_publish(reload->cell, live);
    logger_begin(&line, LOGGER_INFO, "reloaded");
    logger_add_text(&line, "asked_by", asked_by);
    logger_add_i64(&line, "generation", (int64_t)live->generation);
    logger_end(&line);
    return true;
}

bool reload_files(struct reload *reload, int64_t now_ms)
{
    if (reload_wait_ms(reload, now_ms) != 0)
        return false;
    struct live *running = live_take(reload->cell);
    uint64_t print = take_print(running->config);
    bool published = false;
    reload->since_ms = 0;
    if (print != reload->print) {
        struct config config;
        reload->print = print; /* what is wrong with these bytes is told once */
        config_copy(&config, running->config);
        published = publish(reload, running, &config, "files");
    }
    live_release(running);
    return published;
}

static void keep_unchangeable(struct config *next, const struct config *running)
{
    char key[64];

    for (size_t i = 0; i < config_option_count; i++) {
        if (!config_keep(next, running, &config_options[i]))
            continue;
        config_write_key(&config_options[i], key, sizeof(key));
        say(LOGGER_WARN, "needs_restart", "option", key);
    }
}

bool reload_all(struct reload *reload)
{
    char error[CONFIG_ERROR_SIZE];
    struct config next;

    if (config_load(&next, reload->argc, reload->argv, error, sizeof(error)) != 0) {
        say(LOGGER_ERROR, "reload_failed", "reason", error);
        return false;
    }
    struct live *running = live_take(reload->cell);
    keep_unchangeable(&next, running->config);
    watch_too(reload, &next);
    uint64_t print = take_print(&next);
    enum logger_level level = (enum logger_level)next.log_level;
    bool published = publish(reload, running, &next, "signal");
    if (published) {
        reload->print = print;
        logger_set_level(level);
    } else {
        watch_only(reload, running->config);
    }
    live_release(running);
    return published;
}
