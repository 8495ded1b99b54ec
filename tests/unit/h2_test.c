/* HTTP/2's frames are counted as they come, in pieces of any size: who makes the server work for
 * nothing is told apart from who changes its mind now and then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/h2.h"

enum {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
    UNKNOWN = 77
};
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, HEAD_MAX = 1024 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct wire {
    struct h2_guard guard;
    int64_t now_ms;
    size_t step;
    bool good;
};

static void put(struct wire *wire, const char *bytes, size_t n)
{
    for (size_t at = 0; at < n && wire->good; at += wire->step) {
        size_t size = n - at < wire->step ? n - at : wire->step;
        char *copy = malloc(size);
        memcpy(copy, bytes + at, size);
        wire->good = h2_guard_take(&wire->guard, copy, size, HEAD_MAX, wire->now_ms);
        free(copy);
    }
}

/* Begins, with settings of its own. */
static void open_wire(struct wire *wire, size_t step)
{
    *wire = (struct wire){.step = step, .now_ms = 1000000, .good = true};
    put(wire, preface, sizeof(preface) - 1);
}

static void frame(struct wire *wire, uint8_t type, uint8_t flags, uint32_t size)
{
    char bytes[9 + 70000] = {(char)(size >> 16), (char)(size >> 8), (char)size, (char)type,
                             (char)flags};
    memset(bytes + 9, 3, size); /* as payload it could pass for the head of RST_STREAM */
    put(wire, bytes, 9 + size);
}

static bool takes(uint8_t type, uint8_t flags, uint32_t size, unsigned times)
{
    struct wire wire;
    open_wire(&wire, 7);
    for (unsigned i = 0; i < times; i++)
        frame(&wire, type, flags, size);
    return wire.good;
}

static void test_bounds_frames_that_bring_nothing(void **state)
{
    static const struct {
        uint8_t type, flags;
        uint32_t size;
    } empty[] = {{RST_STREAM, 0, 4}, {PRIORITY, 0, 5}, {PING, 0, 8},        {SETTINGS, 0, 0},
                 {SETTINGS, 0, 36},  {DATA, 0, 0},     {CONTINUATION, 0, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
        assert_true(takes(empty[i].type, empty[i].flags, empty[i].size, H2_FRAMES));
        assert_false(takes(empty[i].type, empty[i].flags, empty[i].size, H2_FRAMES + 1));
    }
}

static void test_takes_as_much_as_there_is_of_what_is_needed(void **state)
{
    (void)state;
    assert_true(takes(HEADERS, END_HEADERS | END_STREAM, 100, 5000));
    assert_true(takes(DATA, 0, 1, 5000));
    assert_true(takes(DATA, END_STREAM, 0, 5000));
    assert_true(takes(DATA, 0, 16384, 100));
    assert_true(takes(WINDOW_UPDATE, 0, 4, 5000));
    assert_true(takes(PING, ACK, 8, 5000));
    assert_true(takes(SETTINGS, ACK, 0, 5000));
    assert_true(takes(UNKNOWN, 255, 30, 5000));
}

static void test_finds_its_frames_however_the_bytes_are_cut(void **state)
{
    (void)state;
    for (size_t step = 1; step < 200; step++) {
        struct wire wire;
        open_wire(&wire, step);
        for (unsigned i = 0; i < H2_FRAMES; i++) {
            frame(&wire, HEADERS, END_HEADERS, 30);
            frame(&wire, RST_STREAM, 0, 4);
        }
        assert_true(wire.good);
        assert_int_equal(wire.guard.frames, H2_FRAMES);
        frame(&wire, RST_STREAM, 0, 4);
        assert_false(wire.good);
    }
}

static void test_allows_more_to_who_is_answered_and_forgets_with_time(void **state)
{
    struct wire wire;
    (void)state;
    open_wire(&wire, 64);
    for (unsigned i = 0; i < H2_FRAMES; i++)
        frame(&wire, RST_STREAM, 0, 4);
    for (unsigned i = 0; i < 5 * H2_REQUESTS_PER_FRAME; i++)
        h2_guard_answered(&wire.guard);
    for (unsigned i = 0; i < 5; i++)
        frame(&wire, RST_STREAM, 0, 4);
    assert_true(wire.good);
    wire.now_ms += H2_WINDOW_MS;
    for (unsigned i = 0; i < H2_FRAMES; i++)
        frame(&wire, RST_STREAM, 0, 4);
    assert_true(wire.good);
    frame(&wire, RST_STREAM, 0, 4);
    assert_false(wire.good);
}

static void test_bounds_a_block_of_headers_in_all_its_frames(void **state)
{
    struct wire wire;
    (void)state;
    assert_true(takes(HEADERS, END_HEADERS, HEAD_MAX, 3));
    assert_false(takes(HEADERS, END_HEADERS, HEAD_MAX + 1, 1));
    open_wire(&wire, 64);
    for (unsigned i = 0; i < 3; i++) {
        frame(&wire, HEADERS, 0, HEAD_MAX / 2);
        frame(&wire, CONTINUATION, END_HEADERS, HEAD_MAX / 2);
    }
    assert_true(wire.good);
    frame(&wire, HEADERS, 0, HEAD_MAX / 2);
    frame(&wire, CONTINUATION, 0, HEAD_MAX / 2);
    assert_true(wire.good);
    frame(&wire, CONTINUATION, END_HEADERS, 1);
    assert_false(wire.good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_frames_that_bring_nothing),
        cmocka_unit_test(test_takes_as_much_as_there_is_of_what_is_needed),
        cmocka_unit_test(test_finds_its_frames_however_the_bytes_are_cut),
        cmocka_unit_test(test_allows_more_to_who_is_answered_and_forgets_with_time),
        cmocka_unit_test(test_bounds_a_block_of_headers_in_all_its_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
