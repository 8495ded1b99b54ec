/*
 * logger: what comes out is JSON, in order, and bounded; what is kept back is counted; nobody waits
 * for who reads.
 */
#include "scratch.h"
#include "server/logger.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { THREADS = 4, LINES = 500 };

/* ---- standard error, taken away for a while */

static int kept_stderr = -1;

static void stderr_to(int fd)
{
    kept_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    close(fd);
}

static void stderr_back(void)
{
    dup2(kept_stderr, STDERR_FILENO);
    close(kept_stderr);
}

static int make_file(void)
{
    char path[] = "/tmp/atoll-logger-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

/* Each line of the file as JSON; fails on one that is none. */
static json_t *read_lines(int fd)
{
    FILE *file = fdopen(fd, "r");
    json_t *all = json_array();
    char *line = NULL;
    size_t size = 0;

    rewind(file);
    while (getline(&line, &size, file) > 0) {
        json_error_t error;
        json_t *value = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        if (value == NULL)
            fail_msg("%s in: %s", error.text, line);
        json_array_append_new(all, value);
    }
    free(line);
    fclose(file);
    return all;
}

static const char *text_of(const json_t *line, const char *key)
{
    return json_string_value(json_object_get(line, key));
}

static int64_t number_of(const json_t *line, const char *key)
{
    return json_integer_value(json_object_get(line, key));
}

/* What `say` has said, with the logger running. */
static json_t *said_by(void (*say)(void))
{
    char error[256];
    int fd = make_file();
    stderr_to(dup(fd));
    int started = logger_start(NULL, error, sizeof(error));
    if (started == 0) {
        say();
        logger_stop();
    }
    stderr_back();
    assert_int_equal(started, 0);
    return read_lines(fd);
}

/* ---- one line */

static void say_one(void)
{
    struct logger_line line;
    logger_begin(&line, LOGGER_WARN, "something");
    logger_add_text(&line, "text", "a \"b\" \\ c\n\x01\x7f\xc3\xa9");
    logger_add_str(&line, "broken",
                   (struct str){"a\xff\xc3z\xed\xa0\x80\xf0\x9f\x98\x80\xe2\x82", 13});
    logger_add_str(&line, "none", (struct str){0});
    logger_add_i64(&line, "number", -42);
    logger_add_bool(&line, "yes", true);
    logger_end(&line);
}

static void a_line_is_json_whatever_it_says(void **state)
{
    (void)state;
    json_t *lines = said_by(say_one);
    json_t *line = json_array_get(lines, 0);

    assert_int_equal(json_array_size(lines), 1);
    assert_string_equal(text_of(line, "level"), "warn");
    assert_string_equal(text_of(line, "event"), "something");
    assert_int_equal(strlen(text_of(line, "ts")), strlen("2025-03-01T09:30:00.123Z"));
    assert_string_equal(text_of(line, "text"), "a \"b\" \\ c\n\x01\x7f\xc3\xa9");
    /* U+FFFD for each byte that belongs to no character */
    assert_string_equal(text_of(line, "broken"),
                        "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                        "\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd");
    assert_true(json_is_null(json_object_get(line, "none")));
    assert_int_equal(number_of(line, "number"), -42);
    assert_true(json_is_true(json_object_get(line, "yes")));
    json_decref(lines);
}

/* Texts of every length around the bound, of characters that take one to six bytes. */
static void say_long(void)
{
    static const struct str pieces[] = {
        {"x", 1}, {"\n", 1}, {"\"", 1}, {"\xc3\xa9", 2}, {"\xf0\x9f\x98\x80", 4}, {"\xff", 1}};
    logger_set_level(LOGGER_DEBUG);
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        for (size_t lead = 0; lead < 8; lead++) {
            struct logger_line line;
            struct buf text = {0};
            for (size_t n = 0; n < lead; n++)
                buf_add_byte(&text, '-');
            while (text.n < 3000)
                buf_add_str(&text, pieces[i]);
            logger_begin(&line, LOGGER_DEBUG, "long");
            logger_add_str(&line, "text", buf_str(&text));
            logger_add_i64(&line, "late", 1);
            logger_end(&line);
            buf_free(&text);
        }
    }
    logger_set_level(LOGGER_INFO);
}

static void a_line_that_is_too_long_is_cut_and_stays_json(void **state)
{
    (void)state;
    size_t i;
    json_t *line, *lines = said_by(say_long);

    assert_int_equal(json_array_size(lines), 48);
    json_array_foreach (lines, i, line) {
        assert_true(json_is_true(json_object_get(line, "cut")));
        assert_null(json_object_get(line, "late"));
        assert_true(strlen(text_of(line, "text")) > 300);
    }
    json_decref(lines);
}

static void say_at_each_level(void)
{
    struct logger_line line;
    for (int set = LOGGER_ERROR; set <= LOGGER_DEBUG; set++) {
        logger_set_level((enum logger_level)set);
        for (int level = LOGGER_ERROR; level <= LOGGER_DEBUG; level++) {
            logger_begin(&line, (enum logger_level)level, "said");
            logger_add_i64(&line, "set", set);
            logger_end(&line);
        }
    }
    logger_set_level(LOGGER_INFO);
}

static void a_level_lets_through_its_own_lines_and_graver_ones(void **state)
{
    (void)state;
    int seen[4] = {0};
    size_t i;
    json_t *line, *lines = said_by(say_at_each_level);
    json_array_foreach (lines, i, line) {
        enum logger_level level;
        const char *name = text_of(line, "level");
        assert_true(logger_level_of((struct str){name, strlen(name)}, &level));
        assert_true((int64_t)level <= number_of(line, "set"));
        seen[number_of(line, "set")]++;
    }
    for (int set = LOGGER_ERROR; set <= LOGGER_DEBUG; set++)
        assert_int_equal(seen[set], set + 1);
    enum logger_level level;
    assert_false(logger_level_of(STR("loud"), &level));
    assert_false(logger_level_of(STR(""), &level));
    json_decref(lines);
}

/* ---- many */

static void *count_up(void *p)
{
    for (int i = 0; i < LINES; i++) {
        struct logger_line line;
        logger_begin(&line, LOGGER_DEBUG, "counted");
        logger_add_i64(&line, "thread", *(int *)p);
        logger_add_i64(&line, "n", i);
        logger_end(&line);
    }
    return NULL;
}

static void say_from_threads(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    logger_set_level(LOGGER_DEBUG);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    logger_set_level(LOGGER_INFO);
}

static void lines_of_a_thread_come_in_order_and_none_is_lost(void **state)
{
    (void)state;
    int64_t next[THREADS] = {0};
    size_t i;
    json_t *line, *lines = said_by(say_from_threads);
    json_array_foreach (lines, i, line)
        assert_int_equal(number_of(line, "n"), next[number_of(line, "thread")]++);
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(next[t], LINES); /* fewer than the ring holds */
    json_decref(lines);
}

static void *say_one_line(void *unused)
{
    say_one();
    return unused;
}

/* What each thread has is given back (which the sanitizer sees to). */
static void say_from_many_short_threads(void)
{
    pthread_t thread;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(pthread_create(&thread, NULL, say_one_line, NULL), 0);
        pthread_join(thread, NULL);
    }
}

static void what_a_thread_said_before_its_end_is_written(void **state)
{
    (void)state;
    json_t *lines = said_by(say_from_many_short_threads);
    assert_int_equal(json_array_size(lines), 100);
    json_decref(lines);
}

/* ---- what is kept back */

struct reader {
    int fd;
    int file;
};

static void *read_all(void *p)
{
    struct reader *reader = p;
    char bytes[65536];
    ssize_t n;
    while ((n = read(reader->fd, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(reader->file, bytes, (size_t)n), n);
    return NULL;
}

static void a_reader_that_stands_still_stops_nobody_and_what_is_lost_is_told(void **state)
{
    enum { TOLD = 20000 };
    (void)state;
    char error[256];
    int ends[2];
    pthread_t thread;
    assert_int_equal(pipe(ends), 0);
    stderr_to(ends[1]);
    uint64_t before = logger_dropped();
    int started = logger_start(NULL, error, sizeof(error));
    logger_set_level(LOGGER_DEBUG);
    for (int i = 0; i < TOLD; i++) { /* would never come to an end if it waited */
        struct logger_line line;
        logger_begin(&line, LOGGER_DEBUG, "flood");
        logger_add_i64(&line, "n", i);
        logger_end(&line);
    }
    logger_set_level(LOGGER_INFO);
    uint64_t dropped = logger_dropped() - before;
    struct reader reader = {.fd = ends[0], .file = make_file()};
    pthread_create(&thread, NULL, read_all, &reader);
    logger_stop();
    stderr_back(); /* the pipe's last writing end */
    pthread_join(thread, NULL);
    close(ends[0]);

    assert_int_equal(started, 0);
    json_t *line, *lines = read_lines(reader.file);
    int64_t come = 0, told = 0, last = -1;
    size_t i;
    json_array_foreach (lines, i, line) {
        if (strcmp(text_of(line, "event"), "log_lines_dropped") == 0) {
            told += number_of(line, "lines");
            continue;
        }
        assert_true(number_of(line, "n") > last);
        last = number_of(line, "n");
        come++;
    }
    assert_true(dropped > 0);
    assert_int_equal(told, dropped);
    assert_int_equal(come + told, TOLD);
    json_decref(lines);
}

static void say_again_and_again(void)
{
    for (int i = 0; i < 5000; i++)
        say_one();
}

static void a_line_that_comes_again_and_again_is_counted_instead(void **state)
{
    (void)state;
    int64_t come = 0, told = 0;
    size_t i;
    json_t *line, *lines = said_by(say_again_and_again);
    json_array_foreach (lines, i, line) {
        if (strcmp(text_of(line, "event"), "log_lines_suppressed") == 0) {
            assert_string_equal(text_of(line, "of"), "something");
            told += number_of(line, "lines");
        } else {
            come++;
        }
    }
    assert_int_equal(come + told, 5000);
    assert_true(come >= LOGGER_REPEATS_PER_S);
    assert_true(told > 0);
    json_decref(lines);
}

/* ---- the audit */

static void audit_once(int n)
{
    struct logger_line line;
    logger_begin_audit(&line, "refused");
    logger_add_i64(&line, "n", n);
    logger_end(&line);
}

static json_t *read_path(const char *path)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    return read_lines(fd);
}

/* The writer opens it by itself: until it is there. */
static void await_file(const char *path)
{
    while (access(path, F_OK) != 0)
        usleep(1000);
}

static void audit_lines_go_to_their_file_whatever_the_level_and_however_many(void **state)
{
    (void)state;
    char error[256], path[128], moved[128];
    struct scratch scratch;
    struct stat status;
    scratch_make(&scratch, false);
    snprintf(path, sizeof(path), "%s", scratch_file(&scratch, "audit"));
    snprintf(moved, sizeof(moved), "%s", scratch_file(&scratch, "audit.1"));
    assert_int_equal(logger_start(path, error, sizeof(error)), 0);
    logger_set_level(LOGGER_ERROR);
    for (int i = 0; i < 500; i++)
        audit_once(i);
    logger_set_level(LOGGER_INFO);
    logger_stop();
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    json_t *lines = read_path(path);
    assert_int_equal(json_array_size(lines), 500);
    json_decref(lines);

    assert_int_equal(logger_start(path, error, sizeof(error)), 0);
    assert_int_equal(rename(path, moved), 0);
    logger_reopen_audit();
    await_file(path);
    audit_once(500);
    logger_stop();
    lines = read_path(moved);
    assert_int_equal(json_array_size(lines), 500);
    json_decref(lines);
    lines = read_path(path);
    assert_int_equal(json_array_size(lines), 1);
    assert_int_equal(number_of(json_array_get(lines, 0), "n"), 500);
    json_decref(lines);
    scratch_remove(&scratch);
}

static void an_audit_file_that_cannot_be_written_is_named(void **state)
{
    (void)state;
    char error[256];
    assert_true(logger_start("/nowhere/at/all", error, sizeof(error)) < 0);
    assert_string_equal(error,
                        "cannot write the audit log /nowhere/at/all: No such file or directory");
}

static void without_a_writer_a_line_is_written_at_once(void **state)
{
    (void)state;
    int fd = make_file();
    stderr_to(dup(fd));
    say_one();
    audit_once(1);
    stderr_back();
    json_t *lines = read_lines(fd);
    assert_int_equal(json_array_size(lines), 2);
    json_decref(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_json_whatever_it_says),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_and_stays_json),
        cmocka_unit_test(a_level_lets_through_its_own_lines_and_graver_ones),
        cmocka_unit_test(lines_of_a_thread_come_in_order_and_none_is_lost),
        cmocka_unit_test(what_a_thread_said_before_its_end_is_written),
        cmocka_unit_test(a_reader_that_stands_still_stops_nobody_and_what_is_lost_is_told),
        cmocka_unit_test(a_line_that_comes_again_and_again_is_counted_instead),
        cmocka_unit_test(audit_lines_go_to_their_file_whatever_the_level_and_however_many),
        cmocka_unit_test(an_audit_file_that_cannot_be_written_is_named),
        cmocka_unit_test(without_a_writer_a_line_is_written_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
