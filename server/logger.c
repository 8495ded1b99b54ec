#include "server/logger.h"

#include "core/core.h"
#include "shards/report.h"
#include "shards/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    END_BYTES = sizeof("\",\"cut\":true}\n"), /* what the end of a line may take */
    ROOM_BYTES = LOGGER_LINE_BYTES - END_BYTES,
    EVENTS_MAX = 128,     /* that a thread's bound on repetition knows apart */
    WRITE_LINES_MAX = 64, /* by one call */
    TELL_MS = 1000,       /* between two lines on what was kept back */
    STOP_MS = 5000,
    UNWRITABLE_LOOK_MS = 100,
};

enum sink { SINK_ERRORS, SINK_AUDIT, SINKS };

/* How often an event was told of in a second. All but `untold` is its thread's alone; `event` is
 * written before `untold` first is. */
struct repeats {
    const char *event;
    int64_t second;
    uint32_t n;
    _Atomic uint32_t untold;
};

/* What one thread hands over. Made with its first line, freed by the writer behind its last. */
struct channel {
    struct ring ring; /* lines: malloc'ed text, with their length and sink as the tag */
    struct channel *next;
    atomic_bool ended; /* its thread is */
    struct repeats repeats[EVENTS_MAX];
};

static struct {
    atomic_bool running;
    atomic_bool stopping;
    /* All channels, newest first. Threads push; the writer alone takes out, so that what it looks
     * at stays. */
    _Atomic(struct channel *) channels;
    /* As in reactor_sleep: set, fence, look, poll by the writer; push, fence, look by the others.
     */
    atomic_uint sleeping;
    atomic_bool nudged; /* there is something else than a line */
    atomic_bool reopen;
    int wake_fd;
    pthread_t writer;
    pthread_key_t key; /* for the end of threads */
    atomic_uint life;  /* of `running`: a channel of an earlier one is gone */
    char audit_file[PATH_MAX];
    int fds[SINKS];
    /* Writer's. */
    uint64_t dropped_told;
    int64_t tell_ms; /* monotonic; 0: nothing to tell */
} logger;

static _Atomic int wanted = LOGGER_INFO;
static _Atomic uint64_t lines, lost, suppressed;
static _Thread_local struct channel *mine;
static _Thread_local unsigned mine_life;

/* ---- levels */

static const char *const names[] = {"error", "warn", "info", "debug"};

void logger_set_level(enum logger_level level)
{
    atomic_store_explicit(&wanted, (int)level, memory_order_relaxed);
}

enum logger_level logger_level(void)
{
    return (enum logger_level)atomic_load_explicit(&wanted, memory_order_relaxed);
}

const char *logger_level_name(enum logger_level level)
{
    return names[level];
}

bool logger_level_of(struct str name, enum logger_level *level)
{
    for (int i = LOGGER_ERROR; i <= LOGGER_DEBUG; i++) {
        if (str_equal(name, (struct str){names[i], strlen(names[i])})) {
            *level = (enum logger_level)i;
            return true;
        }
    }
    return false;
}

bool logger_wants(enum logger_level level)
{
    return (int)level <= atomic_load_explicit(&wanted, memory_order_relaxed);
}

/* ---- the text of a line */

static void add(struct logger_line *line, const void *p, size_t n)
{
    memcpy(line->text + line->n, p, n);
    line->n += n;
}

static void begin(struct logger_line *line, enum logger_level level, const char *event)
{
    struct timespec now;
    struct buf time = {.p = line->text, .cap = sizeof(line->text)}; /* there is room */

    clock_gettime(CLOCK_REALTIME, &now);
    line->level = level;
    line->event = event;
    line->second = now.tv_sec;
    line->cut = false;
    buf_add_literal(&time, "{\"ts\":");
    json_add_time(&time, now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000);
    buf_add_literal(&time, ",\"level\":\"");
    buf_add(&time, names[level], strlen(names[level]));
    buf_add_literal(&time, "\",\"event\":\"");
    buf_add(&time, event, strlen(event));
    buf_add_byte(&time, '"');
    assert(time.p == line->text);
    line->n = time.n;
}

void logger_begin(struct logger_line *line, enum logger_level level, const char *event)
{
    line->n = 0;
    line->audit = false;
    if (logger_wants(level))
        begin(line, level, event);
}

void logger_begin_audit(struct logger_line *line, const char *event)
{
    line->audit = true;
    begin(line, LOGGER_INFO, event);
}

/* `,"key":`, and room for `more` behind it; false: nothing is added. */
static bool add_key(struct logger_line *line, const char *key, size_t more)
{
    size_t n = strlen(key);
    if (line->n == 0 || line->cut)
        return false;
    if (line->n + n + 4 + more > ROOM_BYTES) {
        line->cut = true;
        return false;
    }
    add(line, ",\"", 2);
    add(line, key, n);
    add(line, "\":", 2);
    return true;
}

/* Bytes of the character at `p`, of which `n` are left; 0: that is no UTF-8 (RFC 3629, 4). */
static size_t character(const unsigned char *p, size_t n)
{
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (size == 0 || size > n || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return size;
}

/* The character at value[*at], as it is written between quotes; *at moves behind it. */
static struct str escaped(struct str value, size_t *at, char text[8])
{
    const unsigned char *p = (const unsigned char *)value.p + *at;
    size_t size = character(p, value.n - *at);

    *at += size != 0 ? size : 1;
    if (size == 0)
        return STR("\\ufffd");
    if (p[0] == '"' || p[0] == '\\')
        return (struct str){text, (size_t)snprintf(text, 8, "\\%c", p[0])};
    if (p[0] < 0x20 || p[0] == 0x7f)
        return (struct str){text, (size_t)snprintf(text, 8, "\\u%04x", p[0])};
    return (struct str){(const char *)p, size};
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void logger_add_str(struct logger_line *line, const char *key, struct str value)
{
    char text[8];

    if (!add_key(line, key, sizeof("null")))
        return;
    if (value.p == NULL) {
        add(line, "null", 4);
        return;
    }
    line->text[line->n++] = '"';
    for (size_t at = 0; at < value.n && !line->cut;) {
        struct str shown = {value.p + at, 1};
        if (is_plain((unsigned char)value.p[at]))
            at++;
        else
            shown = escaped(value, &at, text);
        if (line->n + shown.n <= ROOM_BYTES)
            add(line, shown.p, shown.n);
        else
            line->cut = true;
    }
    line->text[line->n++] = '"';
}

void logger_add_text(struct logger_line *line, const char *key, const char *value)
{
    logger_add_str(line, key, (struct str){value, strlen(value)});
}

void logger_add_i64(struct logger_line *line, const char *key, int64_t value)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%lld", (long long)value);
    if (add_key(line, key, (size_t)n))
        add(line, text, (size_t)n);
}

void logger_add_bool(struct logger_line *line, const char *key, bool value)
{
    struct str text = value ? STR("true") : STR("false");
    if (add_key(line, key, text.n))
        add(line, text.p, text.n);
}

static void finish(struct logger_line *line)
{
    if (line->cut)
        add(line, ",\"cut\":true", 11);
    add(line, "}\n", 2);
    assert(line->n <= sizeof(line->text));
}

/* ---- what happens in shards */

static void on_report(const struct report *report)
{
    static const enum logger_level levels[] = {
        [REPORT_ERROR] = LOGGER_ERROR, [REPORT_WARN] = LOGGER_WARN, [REPORT_INFO] = LOGGER_INFO};
    struct logger_line line;

    logger_begin(&line, levels[report->level], report->event);
    if (report->shard != REPORT_NO_SHARD)
        logger_add_i64(&line, "shard", report->shard);
    if (report->session.p != NULL)
        logger_add_str(&line, "session", report->session);
    logger_add_text(&line, "detail", report->detail);
    logger_end(&line);
}

/* ---- waking the writer */

static void wake(void)
{
    uint64_t one = 1;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&logger.sleeping, memory_order_relaxed) == 1 &&
        atomic_exchange(&logger.sleeping, 0) == 1) {
        ssize_t written = write(logger.wake_fd, &one, sizeof(one));
        assert(written == sizeof(one)); /* one write for each sleep: it cannot overflow */
    }
}

static void nudge(void)
{
    atomic_store(&logger.nudged, true);
    wake();
}

/* ---- handing over */

static void on_thread_end(void *p)
{
    struct channel *channel = p;
    atomic_store_explicit(&channel->ended, true, memory_order_release);
    nudge();
}

static struct channel *own_channel(void)
{
    unsigned life = atomic_load_explicit(&logger.life, memory_order_relaxed);
    if (mine != NULL && mine_life == life)
        return mine;
    struct channel *channel = mem_alloc_aligned(_Alignof(struct channel), sizeof(*channel));
    memset((void *)channel, 0, sizeof(*channel));
    ring_init(&channel->ring, LOGGER_RING_LINES);
    channel->next = atomic_load(&logger.channels);
    while (!atomic_compare_exchange_weak(&logger.channels, &channel->next, channel))
        ;
    mine = channel;
    mine_life = life;
    pthread_setspecific(logger.key, channel);
    return channel;
}

static struct repeats *repeats_of(struct channel *channel, const char *event)
{
    for (unsigned i = 0; i < EVENTS_MAX; i++) {
        struct repeats *repeats = &channel->repeats[i];
        if (repeats->event == NULL)
            repeats->event = event;
        if (repeats->event == event)
            return repeats;
    }
    return NULL; /* more events than there are names for: it is not bounded */
}

static bool is_too_often(struct channel *channel, const struct logger_line *line)
{
    struct repeats *repeats;

    if (line->audit || line->level == LOGGER_DEBUG)
        return false;
    repeats = repeats_of(channel, line->event);
    if (repeats == NULL)
        return false;
    if (repeats->second != line->second) {
        repeats->second = line->second;
        repeats->n = 0;
    }
    if (repeats->n++ < LOGGER_REPEATS_PER_S)
        return false;
    atomic_fetch_add_explicit(&suppressed, 1, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&repeats->untold, 1, memory_order_release) == 0)
        nudge();
    return true;
}

static void hand_over(struct channel *channel, const struct logger_line *line)
{
    char *text = mem_alloc(line->n);
    struct ring_item item = {text, line->n << 1 | (line->audit ? SINK_AUDIT : SINK_ERRORS)};

    memcpy(text, line->text, line->n);
    if (ring_push(&channel->ring, item)) {
        wake();
        return;
    }
    free(text);
    atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
}

/* Where there is no writer. */
static void write_now(const struct logger_line *line)
{
    ssize_t n = write(STDERR_FILENO, line->text, line->n);
    atomic_fetch_add_explicit(n == (ssize_t)line->n ? &lines : &lost, 1, memory_order_relaxed);
}

void logger_end(struct logger_line *line)
{
    if (line->n == 0)
        return;
    finish(line);
    if (!atomic_load_explicit(&logger.running, memory_order_acquire)) {
        write_now(line);
        return;
    }
    struct channel *channel = own_channel();
    if (!is_too_often(channel, line))
        hand_over(channel, line);
}

/* ---- the writer: writing */

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* False: nobody takes it, or it cannot be written at all. */
static bool write_whole(int fd, struct iovec *parts, int n)
{
    while (n != 0) {
        ssize_t written = writev(fd, parts, n);
        if (written < 0 && errno == EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            (void)poll(&writable, 1, UNWRITABLE_LOOK_MS);
        } else if (written < 0 && errno != EINTR) {
            return false;
        }
        for (; n != 0 && written >= (ssize_t)parts->iov_len; parts++, n--)
            written -= (ssize_t)parts->iov_len;
        if (written > 0) {
            parts->iov_base = (char *)parts->iov_base + written;
            parts->iov_len -= (size_t)written;
        }
    }
    return true;
}

struct pile {
    struct iovec parts[WRITE_LINES_MAX];
    char *texts[WRITE_LINES_MAX];
    int n;
};

static void pile_write(struct pile *pile, enum sink sink)
{
    int n = pile->n;
    bool good = n == 0 || write_whole(logger.fds[sink], pile->parts, n);
    atomic_fetch_add_explicit(good ? &lines : &lost, (uint64_t)n, memory_order_relaxed);
    for (int i = 0; i < n; i++)
        free(pile->texts[i]);
    pile->n = 0;
}

static void pile_add(struct pile piles[SINKS], struct ring_item item)
{
    enum sink sink = (enum sink)(item.tag & 1);
    struct pile *pile = &piles[sink];

    pile->texts[pile->n] = item.p;
    pile->parts[pile->n] = (struct iovec){item.p, item.tag >> 1};
    if (++pile->n == WRITE_LINES_MAX)
        pile_write(pile, sink);
}

/* A line of the writer's own. */
static void tell(const char *event, const char *of, uint64_t n)
{
    struct logger_line line;
    struct iovec part;

    line.audit = false;
    begin(&line, LOGGER_WARN, event);
    if (of != NULL)
        logger_add_text(&line, "of", of);
    logger_add_i64(&line, "lines", (int64_t)n);
    finish(&line);
    part = (struct iovec){line.text, line.n};
    if (write_whole(logger.fds[SINK_ERRORS], &part, 1))
        atomic_fetch_add_explicit(&lines, 1, memory_order_relaxed);
}

/* ---- the writer: what was kept back */

static bool has_untold(void)
{
    if (logger_dropped() != logger.dropped_told)
        return true;
    for (struct channel *c = atomic_load(&logger.channels); c != NULL; c = c->next)
        for (unsigned i = 0; i < EVENTS_MAX; i++)
            if (atomic_load_explicit(&c->repeats[i].untold, memory_order_relaxed) != 0)
                return true;
    return false;
}

static void tell_suppressed(struct channel *channel)
{
    for (unsigned i = 0; i < EVENTS_MAX; i++) {
        struct repeats *repeats = &channel->repeats[i];
        uint32_t n = atomic_exchange_explicit(&repeats->untold, 0, memory_order_acquire);
        if (n != 0)
            tell("log_lines_suppressed", repeats->event, n);
    }
}

static void tell_all(void)
{
    uint64_t dropped = logger_dropped();
    if (dropped != logger.dropped_told)
        tell("log_lines_dropped", NULL, dropped - logger.dropped_told);
    logger.dropped_told = dropped;
    for (struct channel *c = atomic_load(&logger.channels); c != NULL; c = c->next)
        tell_suppressed(c);
    logger.tell_ms = 0;
}

/* Milliseconds until it wants to tell; -1: there is nothing. */
static int tell_in_time(void)
{
    int64_t now_ms = monotonic_ms();
    if (logger.tell_ms == 0) {
        if (!has_untold())
            return -1;
        logger.tell_ms = now_ms + TELL_MS;
    }
    if (now_ms < logger.tell_ms)
        return (int)(logger.tell_ms - now_ms);
    tell_all();
    return -1;
}

/* ---- the writer: channels */

static void channel_free(struct channel *channel)
{
    struct ring_item item;
    while (ring_pop(&channel->ring, &item))
        free(item.p);
    ring_free(&channel->ring);
    free(channel);
}

static void channel_unlink(struct channel *channel)
{
    struct channel *first = channel;
    if (atomic_compare_exchange_strong(&logger.channels, &first, channel->next))
        return;
    while (first->next != channel) /* a newer one stands before it */
        first = first->next;
    first->next = channel->next;
}

/* Its thread has ended before its ring was found empty. */
static void channel_retire(struct channel *channel)
{
    tell_suppressed(channel);
    channel_unlink(channel);
    channel_free(channel);
}

/* Returns how many lines there were. */
static size_t drain(void)
{
    struct pile piles[SINKS];
    struct ring_item item;
    size_t n = 0;

    piles[SINK_ERRORS].n = piles[SINK_AUDIT].n = 0;
    for (struct channel *c = atomic_load(&logger.channels), *next; c != NULL; c = next) {
        bool ended = atomic_load_explicit(&c->ended, memory_order_acquire);
        next = c->next;
        /* As many as it can hold: no thread keeps the writer from the others. */
        for (unsigned i = 0; i < LOGGER_RING_LINES && ring_pop(&c->ring, &item); i++, n++)
            pile_add(piles, item);
        if (ended && !ring_ready(&c->ring))
            channel_retire(c);
    }
    pile_write(&piles[SINK_ERRORS], SINK_ERRORS);
    pile_write(&piles[SINK_AUDIT], SINK_AUDIT);
    return n;
}

/* ---- the writer: its life */

static int open_audit(void)
{
    return open(logger.audit_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
}

static void reopen_audit(void)
{
    struct logger_line line;
    struct iovec part;
    int fd;

    if (logger.fds[SINK_AUDIT] == STDERR_FILENO)
        return;
    fd = open_audit();
    if (fd >= 0) {
        close(logger.fds[SINK_AUDIT]);
        logger.fds[SINK_AUDIT] = fd;
        return;
    }
    line.audit = false;
    begin(&line, LOGGER_ERROR, "audit_log_unopened");
    logger_add_text(&line, "path", logger.audit_file);
    logger_add_text(&line, "detail", strerror(errno));
    finish(&line);
    part = (struct iovec){line.text, line.n};
    (void)write_whole(STDERR_FILENO, &part, 1);
}

static bool is_pending(void)
{
    if (atomic_load(&logger.nudged))
        return true;
    for (struct channel *c = atomic_load(&logger.channels); c != NULL; c = c->next)
        if (ring_ready(&c->ring))
            return true;
    return false;
}

static void sleep_until_woken(int wait_ms)
{
    struct pollfd woken = {.fd = logger.wake_fd, .events = POLLIN};
    uint64_t count;

    atomic_store(&logger.sleeping, 1);
    atomic_thread_fence(memory_order_seq_cst);
    if (!is_pending())
        (void)poll(&woken, 1, wait_ms);
    if (atomic_exchange(&logger.sleeping, 0) == 0) {
        ssize_t n = read(logger.wake_fd, &count, sizeof(count)); /* its write is under way */
        assert(n == sizeof(count));
    }
}

static void *writer_run(void *unused)
{
    (void)unused;
    for (;;) {
        bool stopping = atomic_load(&logger.stopping);
        atomic_exchange(&logger.nudged, false);
        if (atomic_exchange(&logger.reopen, false))
            reopen_audit();
        size_t n = drain();
        int wait_ms = tell_in_time();
        if (stopping)
            break;
        if (n == 0)
            sleep_until_woken(wait_ms);
    }
    tell_all();
    return NULL;
}

int logger_start(const char *audit_file, char *error, size_t error_size)
{
    assert(!atomic_load(&logger.running));
    logger.fds[SINK_ERRORS] = logger.fds[SINK_AUDIT] = STDERR_FILENO;
    if (audit_file != NULL && audit_file[0] != '\0') {
        snprintf(logger.audit_file, sizeof(logger.audit_file), "%s", audit_file);
        int fd = open_audit();
        if (fd < 0) {
            snprintf(error, error_size, "cannot write the audit log %s: %s", audit_file,
                     strerror(errno));
            return -EIO;
        }
        logger.fds[SINK_AUDIT] = fd;
    }
    logger.wake_fd = eventfd(0, EFD_CLOEXEC);
    assert(logger.wake_fd >= 0);
    logger.tell_ms = 0;
    atomic_store(&logger.stopping, false);
    atomic_fetch_add(&logger.life, 1);
    int failed = pthread_key_create(&logger.key, on_thread_end);
    assert(failed == 0);
    failed = pthread_create(&logger.writer, NULL, writer_run, NULL);
    assert(failed == 0);
    report_to(on_report);
    atomic_store_explicit(&logger.running, true, memory_order_release);
    return 0;
}

void logger_stop(void)
{
    struct timespec end;

    if (!atomic_load(&logger.running))
        return;
    atomic_store(&logger.running, false);
    atomic_store(&logger.stopping, true);
    nudge();
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += STOP_MS / 1000;
    if (pthread_timedjoin_np(logger.writer, NULL, &end) != 0)
        return;                     /* nobody takes what it writes; the process is about to end */
    pthread_key_delete(logger.key); /* threads that live on have no channel any more */
    for (struct channel *c = atomic_load(&logger.channels), *next; c != NULL; c = next) {
        next = c->next;
        channel_free(c);
    }
    atomic_store(&logger.channels, NULL);
    if (logger.fds[SINK_AUDIT] != STDERR_FILENO)
        close(logger.fds[SINK_AUDIT]);
    close(logger.wake_fd);
}

void logger_reopen_audit(void)
{
    if (!atomic_load(&logger.running))
        return;
    atomic_store(&logger.reopen, true);
    nudge();
}

/* ---- figures */

uint64_t logger_lines(void)
{
    return atomic_load_explicit(&lines, memory_order_relaxed);
}

uint64_t logger_suppressed(void)
{
    return atomic_load_explicit(&suppressed, memory_order_relaxed);
}

uint64_t logger_dropped(void)
{
    return atomic_load_explicit(&lost, memory_order_relaxed);
}
